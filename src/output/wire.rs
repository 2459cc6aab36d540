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
///
/// # Errors
/// As connect(2), and if there was nobody but ourselves to connect to.
pub(super) async fn connect_tcp(address: SocketAddr, options: TcpOptions) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    if let Err(error) = not_ourselves(socket.local_addr()?, socket.peer_addr()?) {
        // Reset, not closed: the port would be taken for another minute (TIME_WAIT).
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        return Err(error);
    }
    // We batch ourselves; with Nagle's algorithm the last batch would wait for an acknowledgement.
    socket.set_nodelay(true)?;
    let socket_options = SockRef::from(&socket);
    socket_options.set_tcp_user_timeout(Some(options.user_timeout))?;
    socket_options.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(options.keepalive).with_interval(KEEPALIVE_INTERVAL),
    )?;
    Ok(socket)
}

/// What a TCP connection is given besides an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpOptions {
    user_timeout: Duration,
    keepalive: Duration,
}

impl From<&Service> for TcpOptions {
    fn from(service: &Service) -> Self {
        Self { user_timeout: service.tcp_user_timeout, keepalive: service.tcp_keepalive }
    }
}

/// Where nobody listens at a port from which the kernel also takes those of clients (`net.ipv4.ip_local_port_range`),
/// a socket may be given that very port and so be its own peer: RFC 9293 section 3.5 has two ends open at once, and these
/// two are one. It would take everything, acknowledge it, and keep the receiver from coming back.
///
/// # Errors
/// The socket's two ends are the same.
pub(super) fn not_ourselves(local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    if local == peer {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nobody listens there (the connection had met itself)",
        ));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    /// What the configuration lets pass the kernel takes: were it refused, no connection would come about.
    #[tokio::test]
    async fn the_longest_keepalive_is_one_that_linux_takes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = "to = \"tcp://h\"\ntcp-keepalive = \"540min\"\ntcp-user-timeout = \"1440min\"";
        let config = toml::from_str::<Settings>(text).unwrap().validate().unwrap();
        let options = TcpOptions::from(&config.destinations[0].service);
        let socket = connect_tcp(listener.local_addr().unwrap(), options).await.unwrap();
        let socket = SockRef::from(&socket);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(540 * 60));
        let longer = TcpKeepalive::new().with_time(Duration::from_secs(32_768));
        assert_eq!(socket.set_tcp_keepalive(&longer).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
