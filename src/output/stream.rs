//! Streams: TCP and stream sockets in the file system.
//!
//! Promise: whole batches in as few writes as the peer takes. Law: the peer's close is looked for before
//! every write, because the kernel takes a write after a close and then throws it away.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::{GATHER_BATCHES, Hand};
use crate::queue::Consumer;
use crate::telemetry::DestinationCounters;

/// A peer that acknowledges nothing for this long is dead; the kernel's own limit is about 15 minutes.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle time before the kernel asks whether the peer is still there, and between its questions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Reads of unasked-for data in one go. A peer that talks without end must not keep us from writing.
const READS_AT_ONCE: usize = 8;

/// A connected stream.
pub(super) struct Stream<S> {
    socket: S,
}

/// Sets the options of a TCP connection.
pub(super) fn tcp(socket: TcpStream) -> io::Result<Stream<TcpStream>> {
    // We batch ourselves; with Nagle's algorithm the last batch would wait for an acknowledgement.
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    options.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    options.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL),
    )?;
    Ok(Stream::new(socket))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket }
    }

    /// Ready with an error once the peer has closed; what it says is thrown away (a syslog receiver has
    /// nothing to say).
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut space = [0; 512];
        for _ in 0..READS_AT_ONCE {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Poll::Ready(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "closed by the receiver",
                    ));
                }
                Poll::Ready(Ok(())) => {}
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
        while let Some(front) = hand.batches.front() {
            let mut slices = [IoSlice::new(&[]); GATHER_BATCHES];
            slices[0] = IoSlice::new(&front.bytes[hand.offset..]);
            let count = hand.batches.len().min(GATHER_BATCHES);
            for (slice, batch) in slices.iter_mut().zip(&hand.batches).skip(1) {
                *slice = IoSlice::new(&batch.bytes);
            }
            let written = poll_fn(|cx| match self.poll_closed(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]),
            })
            .await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            hand.advance(written, consumer, counters);
        }
        Ok(())
    }

    /// Says that nothing follows. The kernel goes on delivering what it holds after we are gone.
    pub(super) async fn finish(&mut self) {
        let _ = self.socket.shutdown().await;
    }
}
