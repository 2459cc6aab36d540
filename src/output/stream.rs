//! Syslog over a byte stream: TCP (RFC 6587), TLS (RFC 5425), and stream sockets in the file system.
//!
//! Promise: whole batches in as few writes as the peer takes. Law: the peer's close is looked for before
//! every write, because the kernel takes a write after a close and then throws it away.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use super::hand::{GATHER_BATCHES, Hand};
use super::service::{Replay, Service};
use super::wire::Wire;
use crate::queue::Consumer;
use crate::telemetry::DestinationCounters;

/// Written bytes that are kept before the kernel is asked, between writes, what has arrived.
const ASK_ABOVE: i64 = 512 * 1024;

/// Reads of unasked-for data in one go. A peer that talks without end must not keep us from writing.
const READS_AT_ONCE: usize = 8;

/// A connected stream.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Wire,
    /// What is written is kept until the peer's kernel has acknowledged it.
    keeps: bool,
}

impl Stream {
    pub(super) fn new(wire: Wire, service: &Service) -> Self {
        let keeps = service.replay != Replay::Off && !matches!(wire, Wire::Unix(_));
        Self { wire, keeps }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Bytes that the peer's kernel has acknowledged; `None` where nobody can tell or nobody wants to know.
    /// Where the socket will not say, nothing: then all of it is sent again.
    pub(super) fn acknowledged(&mut self) -> Option<u64> {
        self.keeps.then(|| self.wire.acknowledged().unwrap_or(0))
    }

    /// Ready with an error once the peer has closed; what it says is thrown away (a syslog receiver has
    /// nothing to say).
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut space = [0; 512];
        for _ in 0..READS_AT_ONCE {
            match self.wire.poll_read(cx, &mut space) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(0)) => return Poll::Ready(closed_by_receiver()),
                Poll::Ready(Ok(_)) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits until the peer has closed.
    pub(super) async fn closed(&mut self) -> io::Error {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    /// Sends everything in `hand`.
    pub(super) async fn send(
        &mut self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        while !hand.is_empty() {
            let mut slices = [IoSlice::new(&[]); GATHER_BATCHES];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(hand.slices()) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            let written = poll_fn(|cx| match self.poll_closed(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => self.wire.poll_write(cx, &slices[..count]),
            })
            .await?;
            hand.advance(written, self.keeps, consumer, counters);
            if hand.kept_bytes() > ASK_ABOVE
                && let Some(acknowledged) = self.acknowledged()
            {
                hand.acknowledge(acknowledged, consumer, counters);
            }
        }
        Ok(())
    }

    /// True if what is written is kept until it is acknowledged.
    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// See [`Wire::finish`].
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.wire.finish().await
    }
}

/// The peer has ended the connection.
pub(super) fn closed_by_receiver() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "closed by the receiver")
}
