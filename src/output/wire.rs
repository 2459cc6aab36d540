//! Byte streams: TCP, TLS over TCP, and stream sockets in the file system, behind one face.
//!
//! Promise: [`Wire::poll_write`] says how many bytes of text are on their way, [`Wire::acknowledged`] how many of
//! those the peer's kernel has acknowledged. Law: no framing, no retry; those are above.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::service::Service;
use super::tls::Tls;
use crate::sys;

/// Between the kernel's questions to an idle peer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connected byte stream.
#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Unix(UnixStream),
}

/// Connects to `address`. The caller limits the time.
pub(super) async fn connect_tcp(address: SocketAddr, service: &Service) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    // We batch ourselves; with Nagle's algorithm the last batch would wait for an acknowledgement.
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    options.set_tcp_user_timeout(Some(service.tcp_user_timeout))?;
    options.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(service.tcp_keepalive).with_interval(KEEPALIVE_INTERVAL),
    )?;
    Ok(socket)
}

fn poll_read_plain(
    socket: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    space: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(space);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

impl Wire {
    /// Sends from `slices`; ready with the number of bytes that are on their way. Until it is ready, call it
    /// again with the same bytes at the front.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(tls) => tls.poll_write(cx, slices),
        };
        match ready!(written) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => Poll::Ready(other),
        }
    }

    /// Reads what the peer says; 0 at its end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => poll_read_plain(socket, cx, space),
            Self::Unix(socket) => poll_read_plain(socket, cx, space),
            Self::Tls(tls) => tls.poll_read(cx, space),
        }
    }

    /// Bytes of text that the peer's kernel has acknowledged; stays readable after the connection has ended.
    ///
    /// # Errors
    /// Nobody can tell.
    pub(super) fn acknowledged(&mut self) -> io::Result<u64> {
        match self {
            Self::Tcp(socket) => sys::tcp_acknowledged(socket.as_fd()),
            Self::Tls(tls) => tls.acknowledged(),
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Has our kernel acknowledge at once what it has received, instead of waiting for something to send: a
    /// receiver that writes its answers one by one may have to wait for that (Nagle's algorithm) before the next.
    /// Holds for the moment only. It is of no matter if it fails.
    pub(super) fn acknowledge_now(&self) {
        match self {
            Self::Tcp(socket) => drop(SockRef::from(socket).set_tcp_quickack(true)),
            Self::Tls(tls) => drop(SockRef::from(tls.socket()).set_tcp_quickack(true)),
            Self::Unix(_) => {}
        }
    }

    /// Says that nothing follows. The kernel goes on delivering what it holds after we are gone.
    ///
    /// # Errors
    /// On TLS, the peer has not read to the end; elsewhere nobody can tell.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown().await,
            Self::Unix(socket) => socket.shutdown().await,
            Self::Tls(tls) => tls.finish().await,
        }
    }

    /// The TLS session, where there is one.
    pub(super) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}
