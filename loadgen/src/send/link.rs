//! One socket towards the receiver: datagrams, a bare stream, or TLS on one.
//!
//! *Promise:* says how much the kernel has taken, and never waits once it is connected.
//! *Law:* nothing is kept back here but what TLS has already encrypted; what fails is named with what to do about it.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg};
use rustls::ClientConnection;
use socket2::{Domain, SockAddr, Socket, Type};

use super::trust::Trust;
use crate::address::{Address, At};
use crate::sink::Transport;

/// Most datagrams of one system call.
pub(super) const BATCH: usize = 128;
/// Send buffer asked for Unix stream sockets, whose default takes a few hundred small writes only.
const UNIX_SEND_BUFFER: usize = 1 << 20;

/// A connected socket.
pub(super) struct Link {
    socket: Socket,
    layer: Layer,
    udp: bool,
}

enum Layer {
    Datagrams,
    Stream,
    Tls(Box<ClientConnection>),
}

impl Link {
    /// Connects, and shakes hands if the address asks for TLS.
    ///
    /// # Errors
    /// If nobody is there, or nobody who is trusted.
    pub(super) fn connect(address: &Address, trust: Option<&Trust>, timeout: Duration) -> io::Result<Self> {
        let datagrams = matches!(address.transport, Transport::Unix | Transport::Udp);
        let kind = if datagrams { Type::DGRAM } else { Type::STREAM };
        let socket = match &address.place {
            At::Path(path) => {
                let path = path.as_deref().unwrap_or_else(|| "".as_ref());
                let socket = Socket::new(Domain::UNIX, kind, None)?;
                socket.connect(&SockAddr::unix(path)?)?;
                // A smaller buffer is slower, not wrong.
                let _ = socket.set_send_buffer_size(UNIX_SEND_BUFFER);
                socket
            }
            At::Host(host, port) => reach(host, *port, kind, timeout)?,
        };
        let layer = match trust {
            Some(trust) => {
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))?;
                let mut connection = trust.connection()?;
                connection.complete_io(&mut &socket)?;
                // Blocks are handed over whole; the next one waits until this one has gone out.
                connection.set_buffer_limit(None);
                Layer::Tls(Box::new(connection))
            }
            None if datagrams => Layer::Datagrams,
            None => Layer::Stream,
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket, layer, udp: address.transport == Transport::Udp })
    }

    /// Whether messages are datagrams of their own.
    pub(super) fn is_datagrams(&self) -> bool {
        matches!(self.layer, Layer::Datagrams)
    }

    /// Whether `error` only says that an earlier datagram came back, as UDP does.
    pub(super) fn came_back(&self, error: &io::Error) -> bool {
        self.udp && error.kind() == io::ErrorKind::ConnectionRefused
    }

    /// Whether the peer may say something that must be heard in time.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// Sends messages that lie one behind the other in `bytes` and end at `ends`; returns how many bytes were taken.
    /// With datagrams at most [`BATCH`] messages, and only whole ones.
    ///
    /// # Errors
    /// `WouldBlock` if nothing was taken; anything else is the end of a connection, or a refused datagram.
    pub(super) fn push(&mut self, bytes: &[u8], ends: &[usize], slots: &mut Slots) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Datagrams => push_datagrams(&self.socket, &mut slots.0, bytes, ends),
            Layer::Stream => (&self.socket).write(bytes),
            Layer::Tls(connection) => {
                let taken = connection.writer().write(bytes)?;
                write_tls(connection, &self.socket)?;
                Ok(taken)
            }
        }
    }

    /// Whether everything that was taken has reached the kernel; tries to bring it there.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match &mut self.layer {
            Layer::Tls(connection) => write_tls(connection, &self.socket),
            _ => Ok(true),
        }
    }

    /// Whether something encrypted waits for the kernel to take it.
    pub(super) fn wants_write(&self) -> bool {
        matches!(&self.layer, Layer::Tls(connection) if connection.wants_write())
    }

    /// Reads what the peer says into `room` (not empty); 0 is its end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; else the connection is broken.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let Layer::Tls(connection) = &mut self.layer else {
            return (&self.socket).read(room);
        };
        loop {
            match connection.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if connection.read_tls(&mut &self.socket)? == 0 {
                return Ok(0);
            }
            connection.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Waits until the peer has said something, at most `timeout`.
    ///
    /// # Errors
    /// If the operating system refuses to wait.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Datagrams => return Ok(()),
            Layer::Stream => {}
            Layer::Tls(connection) => {
                connection.send_close_notify();
                if !write_tls(connection, &self.socket)? {
                    // It goes out with the next flush, and says the same.
                    return Ok(());
                }
            }
        }
        self.socket.shutdown(Shutdown::Write)
    }
}

/// What the kernel reads a batch of datagrams from; one for each thread.
pub(super) struct Slots(MultiHeaders<()>);

impl Slots {
    /// Room for [`BATCH`] datagrams.
    pub(super) fn new() -> Self {
        Self(MultiHeaders::preallocate(BATCH, None))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to the first address of `host` that answers.
fn reach(host: &str, port: u16, kind: Type, timeout: Duration) -> io::Result<Socket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, kind, None)?;
        match connect(&socket, address, kind, timeout) {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect(socket: &Socket, address: SocketAddr, kind: Type, timeout: Duration) -> io::Result<()> {
    if kind == Type::DGRAM {
        return socket.connect(&address.into());
    }
    socket.connect_timeout(&address.into(), timeout)?;
    socket.set_tcp_nodelay(true)
}

/// Writes what rustls has to say, as far as `socket` takes it; returns whether that was all.
fn write_tls(connection: &mut ClientConnection, mut socket: &Socket) -> io::Result<bool> {
    while connection.wants_write() {
        match connection.write_tls(&mut socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn push_datagrams(
    socket: &Socket,
    headers: &mut MultiHeaders<()>,
    bytes: &[u8],
    ends: &[usize],
) -> io::Result<usize> {
    let ends = &ends[..ends.len().min(BATCH)];
    let mut start = 0;
    let slots: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|index| {
        let end = ends.get(index).copied().unwrap_or(start);
        let message = &bytes[start..end];
        start = end;
        [IoSlice::new(message)]
    });
    let nobody = [None::<()>; BATCH];
    let none: [ControlMessage<'_>; 0] = [];
    let slots = slots[..ends.len()].iter();
    match sendmmsg(socket.as_raw_fd(), headers, slots, nobody, none, MsgFlags::MSG_NOSIGNAL) {
        Ok(results) => Ok(results.count().checked_sub(1).map_or(0, |last| ends[last])),
        // A full queue of a Unix datagram socket, or of the device.
        Err(Errno::EAGAIN | Errno::ENOBUFS) => Err(io::ErrorKind::WouldBlock.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// What `error` means for the connection to `address`, and what to do about it.
pub(super) fn explain(error: &io::Error, address: &Address) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let what = match (tls, error.kind()) {
        (Some(rustls::Error::InvalidCertificate(_)), _) => {
            "name the certificate of its authority with --ca FILE, or skip the check with --insecure"
        }
        (Some(rustls::Error::AlertReceived(_)), _) => {
            "the receiver refused us: look into its log (it may ask for a client certificate, or allow other versions)"
        }
        (Some(_), _) => "does it speak TLS at this port?",
        (None, io::ErrorKind::ConnectionRefused) => {
            "nobody listens there: start the receiver, or mend the address"
        }
        (None, io::ErrorKind::NotFound) => "the name or the path does not exist",
        (None, io::ErrorKind::PermissionDenied) => "the socket's or its directory's permissions forbid it",
        (None, io::ErrorKind::TimedOut) => "nothing answers: a firewall, or a receiver that hangs",
        (None, io::ErrorKind::WouldBlock) => {
            "it does not answer in time: does it speak this protocol at this port?"
        }
        (None, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "the receiver ended the connection: look into its log"
        }
        (None, io::ErrorKind::UnexpectedEof) => "the receiver went away without a word",
        (None, _) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
            "the message does not fit a datagram: lower --size"
        }
        (None, _) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => {
            "the socket is of the other type: try unix: or unix-stream:"
        }
        _ => return format!("{address}: {error}"),
    };
    format!("{address}: {error}: {what}")
}
