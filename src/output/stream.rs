//! Streams: TCP and stream sockets in the file system.
//!
//! Promise: whole batches in as few writes as the peer takes. Law: the peer's close is looked for before
//! every write, because the kernel takes a write after a close and then throws it away.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::hand::{GATHER_BATCHES, Hand};
use super::{Replay, Service};
use crate::queue::Consumer;
use crate::sys;
use crate::telemetry::DestinationCounters;

/// Between the kernel's questions to an idle peer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Written bytes that are kept before the kernel is asked, between writes, what has arrived.
const ASK_ABOVE: i64 = 512 * 1024;

/// Reads of unasked-for data in one go. A peer that talks without end must not keep us from writing.
const READS_AT_ONCE: usize = 8;

/// A connected stream.
pub(super) struct Stream<S> {
    socket: S,
    /// Tells how many bytes the peer's kernel has acknowledged; `None`: nobody can or wants to.
    acknowledged: Option<fn(&S) -> io::Result<u64>>,
}

/// Sets the options of a TCP connection.
pub(super) fn tcp(socket: TcpStream, service: &Service) -> io::Result<Stream<TcpStream>> {
    // We batch ourselves; with Nagle's algorithm the last batch would wait for an acknowledgement.
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    options.set_tcp_user_timeout(Some(service.tcp_user_timeout))?;
    options.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(service.tcp_keepalive).with_interval(KEEPALIVE_INTERVAL),
    )?;
    let asks = service.replay != Replay::Off;
    Ok(Stream {
        socket,
        acknowledged: asks.then_some(|socket: &TcpStream| sys::tcp_acknowledged(socket.as_fd())),
    })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, acknowledged: None }
    }

    /// Bytes that the peer's kernel has acknowledged. Where the socket will not say, nothing: then all of it
    /// is sent again.
    pub(super) fn acknowledged(&self) -> Option<u64> {
        self.acknowledged.map(|ask| ask(&self.socket).unwrap_or(0))
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
        let keep = self.acknowledged.is_some();
        while !hand.is_empty() {
            let mut slices = [IoSlice::new(&[]); GATHER_BATCHES];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(hand.slices()) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            let written = poll_fn(|cx| match self.poll_closed(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]),
            })
            .await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            hand.advance(written, keep, consumer, counters);
            if hand.kept_bytes() > ASK_ABOVE
                && let Some(acknowledged) = self.acknowledged()
            {
                hand.acknowledge(acknowledged, consumer, counters);
            }
        }
        Ok(())
    }

    /// Says that nothing follows. The kernel goes on delivering what it holds after we are gone.
    pub(super) async fn finish(&mut self) {
        let _ = self.socket.shutdown().await;
    }
}
