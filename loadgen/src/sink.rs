//! Receives what the program under test sends, and keeps the account.
//!
//! *Promise:* every message is judged against what was sent and stamped with the time the read that brought it
//! returned.
//! *Law:* never pushes back: one thread does nothing but read and judge, with no allocation per record and large
//! receive buffers; what the kernel still dropped at this socket is reported as such, not as the target's loss.
//!
//! A Unix datagram socket is the exception nobody can avoid: its queue holds `net.unix.max_dgram_qlen` messages.

use std::fs;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, setsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::clock::Clock;
use crate::corpus::{Expected, Verdict};
use crate::deframe::Deframer;
use crate::ledger::Ledger;
use crate::plan::Plan;

/// Receive buffer asked for each socket: half a second of the fastest sender.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Datagrams taken by one system call, and room for each (a record is at most 9 KB).
const DATAGRAMS: usize = 64;
const DATAGRAM_ROOM: usize = 16 << 10;
/// How often an idle sink looks whether the run is over.
const TICK_MS: u16 = 10;
/// Latencies above an hour are counted as an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Built-in receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// Unix datagram socket, as /dev/log
    Unix,
    /// Unix stream socket
    UnixStream,
    /// UDP on the loopback interface
    Udp,
    /// TCP on the loopback interface
    Tcp,
    /// No receiver: only the cost of the target is measured
    None,
}

/// What the threads of a run tell each other.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Records that may have arrived: raised by the generator before each write.
    pub(crate) announced: AtomicU64,
    /// Distinct records that have arrived: raised by the sink.
    pub(crate) arrived: AtomicU64,
    /// Records sent in all; `u64::MAX` until the target is gone.
    pub(crate) sent: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { announced: AtomicU64::new(0), arrived: AtomicU64::new(0), sent: AtomicU64::new(u64::MAX) }
    }
}

/// What the sink knows at the end.
#[derive(Debug)]
pub(crate) struct Received {
    /// The account.
    pub(crate) ledger: Ledger,
    /// Latency from the time a record was due.
    pub(crate) corrected: Histogram<u64>,
    /// Latency from the time it was written.
    pub(crate) uncorrected: Histogram<u64>,
    /// Time of the last arrival of a marked message.
    pub(crate) last_ns: Option<u64>,
    /// Messages of any kind.
    pub(crate) messages: u64,
    /// Bytes of those.
    pub(crate) bytes: u64,
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Bytes at the end of connections that were no whole message.
    pub(crate) unfinished_bytes: u64,
    /// Frames that broke the framing.
    pub(crate) framing_errors: u64,
    /// Datagrams the kernel dropped at this socket because it was full.
    pub(crate) socket_drops: Option<u64>,
}

enum Listener {
    Datagrams(Socket),
    Streams(Socket),
}

/// A bound receiver.
pub(crate) struct Sink {
    listener: Listener,
    url: String,
    path: Option<OwnedPath>,
    port: Option<u16>,
}

impl Sink {
    /// Binds a receiver: on loopback at a free port, or at `path` (default: in a directory of its own).
    ///
    /// # Errors
    /// If the address is taken or may not be used.
    pub(crate) fn bind(transport: Transport, path: Option<&Path>) -> io::Result<Option<Self>> {
        let (domain, kind, scheme) = match transport {
            Transport::None => return Ok(None),
            Transport::Unix => (Domain::UNIX, Type::DGRAM, "unix:"),
            Transport::UnixStream => (Domain::UNIX, Type::STREAM, "unix-stream:"),
            Transport::Udp => (Domain::IPV4, Type::DGRAM, "udp://"),
            Transport::Tcp => (Domain::IPV4, Type::STREAM, "tcp://"),
        };
        let socket = Socket::new(domain, kind, None)?;
        enlarge(&socket);
        let (url, path, port) = if domain == Domain::UNIX {
            let path = match path {
                Some(path) => OwnedPath::at(path)?,
                None => OwnedPath::temporary()?,
            };
            socket.bind(&SockAddr::unix(&path.socket)?)?;
            // The program under test may have dropped its privileges before it connects.
            fs::set_permissions(&path.socket, fs::Permissions::from_mode(0o777))?;
            (format!("{scheme}{}", path.socket.display()), Some(path), None)
        } else {
            socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))?;
            let address = socket.local_addr()?.as_socket_ipv4().ok_or(io::ErrorKind::AddrNotAvailable)?;
            (format!("{scheme}{address}"), None, Some(address.port()))
        };
        let listener = if kind == Type::STREAM {
            socket.listen(64)?;
            socket.set_nonblocking(true)?;
            Listener::Streams(socket)
        } else {
            socket.set_read_timeout(Some(Duration::from_millis(TICK_MS.into())))?;
            Listener::Datagrams(socket)
        };
        Ok(Some(Self { listener, url, path, port }))
    }

    /// Where to send, in the relay's own notation.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The socket's path, if it has one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(|path| path.socket.as_path())
    }

    /// The port, if it has one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// Receives until the target is gone and everything has arrived, or nothing more has come for `linger`.
    ///
    /// # Errors
    /// If the socket fails or a histogram cannot be made.
    pub(crate) fn run(
        &self,
        expected: &mut Expected,
        plan: &Plan,
        clock: &Clock,
        shared: &Shared,
        linger: Duration,
    ) -> io::Result<Received> {
        let mut account = Account {
            expected,
            plan,
            shared,
            received: Received {
                ledger: Ledger::default(),
                corrected: histogram()?,
                uncorrected: histogram()?,
                last_ns: None,
                messages: 0,
                bytes: 0,
                connections: 0,
                unfinished_bytes: 0,
                framing_errors: 0,
                socket_drops: None,
            },
        };
        let mut quiet =
            Quiet { since_ns: clock.now(), linger_ns: crate::drive::nanoseconds(linger), ending: false };
        match &self.listener {
            Listener::Datagrams(socket) => {
                receive_datagrams(socket, clock, &mut account, &mut quiet)?;
                if let Some(port) = self.port {
                    account.received.socket_drops = udp_drops(port);
                }
            }
            Listener::Streams(listener) => receive_streams(listener, clock, &mut account, &mut quiet)?,
        }
        Ok(account.received)
    }
}

/// Asks for a large receive buffer: beyond the system's limit if we may, up to it otherwise.
fn enlarge(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        // A smaller buffer is no error; what it drops is reported.
        let _ = setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|error| io::Error::other(error.to_string()))
}

/// Decides when an idle sink is done.
struct Quiet {
    /// Last arrival, or the first look after the target was gone, whichever is later.
    since_ns: u64,
    linger_ns: u64,
    ending: bool,
}

impl Quiet {
    /// The target is gone and nothing is there to be read at `now_ns`. `open` says whether a peer could still send without our noticing.
    fn is_over(&mut self, account: &Account<'_>, now_ns: u64, open: bool) -> bool {
        let sent = account.shared.sent.load(Ordering::Acquire);
        if !self.ending {
            self.ending = true;
            self.since_ns = now_ns;
        }
        let complete = account.received.ledger.arrived() >= sent;
        (complete && !open) || now_ns.saturating_sub(self.since_ns) > self.linger_ns
    }
}

/// The judge's desk: every message passes here.
struct Account<'a> {
    expected: &'a mut Expected,
    plan: &'a Plan,
    shared: &'a Shared,
    received: Received,
}

impl Account<'_> {
    /// Enters one message that arrived at `now_ns`.
    fn enter(&mut self, message: &[u8], now_ns: u64, announced: u64) {
        let received = &mut self.received;
        received.messages += 1;
        received.bytes += message.len() as u64;
        match self.expected.judge(message, announced, self.plan) {
            Verdict::Whole { sequence, due_ns, written_ns } => {
                received.last_ns = Some(now_ns);
                // A duplicate's latency is that of a retry, not of the record.
                if received.ledger.whole(sequence) {
                    for (histogram, from) in
                        [(&mut received.corrected, due_ns), (&mut received.uncorrected, written_ns)]
                    {
                        if let Some(from) = from {
                            histogram.saturating_record(now_ns.saturating_sub(from));
                        }
                    }
                }
            }
            Verdict::Torn(sequence) => {
                received.last_ns = Some(now_ns);
                received.ledger.torn(sequence);
            }
            Verdict::Unmarked => received.ledger.unmarked(),
        }
    }

    fn publish(&self) {
        self.shared.arrived.store(self.received.ledger.arrived(), Ordering::Relaxed);
    }
}

fn receive_datagrams(
    socket: &Socket,
    clock: &Clock,
    account: &mut Account<'_>,
    quiet: &mut Quiet,
) -> io::Result<()> {
    let mut room = vec![0u8; DATAGRAMS * DATAGRAM_ROOM];
    let mut headers = MultiHeaders::<()>::preallocate(DATAGRAMS, None);
    loop {
        // Read before the wait: a run that was over before an empty wait is over.
        let over = account.shared.sent.load(Ordering::Acquire) != u64::MAX;
        let mut chunks = room.chunks_exact_mut(DATAGRAM_ROOM);
        let mut slots: [[IoSliceMut<'_>; 1]; DATAGRAMS] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        match recvmmsg(socket.as_raw_fd(), &mut headers, slots.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
            Ok(batch) => {
                let now = clock.now();
                let announced = account.shared.announced.load(Ordering::Acquire);
                for datagram in batch {
                    account.enter(datagram.iovs().next().unwrap_or_default(), now, announced);
                }
                account.publish();
                quiet.since_ns = now;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                if over && quiet.is_over(account, clock.now(), false) {
                    return Ok(());
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

struct Connection {
    socket: Socket,
    deframer: Deframer,
}

fn receive_streams(
    listener: &Socket,
    clock: &Clock,
    account: &mut Account<'_>,
    quiet: &mut Quiet,
) -> io::Result<()> {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let over = account.shared.sent.load(Ordering::Acquire) != u64::MAX;
        let mut waiting: Vec<PollFd<'_>> = std::iter::once(listener.as_fd())
            .chain(connections.iter().map(|connection| connection.socket.as_fd()))
            .map(wants_reading)
            .collect();
        match poll(&mut waiting, PollTimeout::from(TICK_MS)) {
            Ok(0) | Err(Errno::EINTR) => {
                if over && quiet.is_over(account, clock.now(), !connections.is_empty()) {
                    break;
                }
                continue;
            }
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: u128 = waiting
            .iter()
            .enumerate()
            .take(128)
            .filter(|(_, fd)| fd.any().unwrap_or(true))
            .fold(0, |set, (index, _)| set | 1 << index);
        drop(waiting);

        // From the back, so that removing one leaves the positions of the others.
        for index in (0..connections.len().min(127)).rev() {
            if ready >> (index + 1) & 1 == 1 && !read_once(&mut connections[index], clock, account, quiet) {
                finish(&connections.swap_remove(index), &mut account.received);
            }
        }
        account.publish();
        if ready & 1 == 1 {
            match listener.accept() {
                Ok((socket, _)) => {
                    account.received.connections += 1;
                    connections.push(Connection { socket, deframer: Deframer::new() });
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
    for connection in &connections {
        finish(connection, &mut account.received);
    }
    Ok(())
}

fn wants_reading(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// One read and all the messages in it. Returns whether the connection is still open.
fn read_once(
    connection: &mut Connection,
    clock: &Clock,
    account: &mut Account<'_>,
    quiet: &mut Quiet,
) -> bool {
    let n = match nix::unistd::read(&connection.socket, connection.deframer.spare()) {
        Ok(0) => return false,
        Ok(n) => n,
        Err(Errno::EINTR | Errno::EAGAIN) => return true,
        // A reset ends the connection like an orderly end; what is missing shows in the account.
        Err(_) => return false,
    };
    let now = clock.now();
    let announced = account.shared.announced.load(Ordering::Acquire);
    quiet.since_ns = now;
    connection.deframer.filled(n);
    while let Some(message) = connection.deframer.next() {
        account.enter(message, now, announced);
    }
    true
}

/// Enters what a connection left unfinished.
fn finish(connection: &Connection, received: &mut Received) {
    received.unfinished_bytes += connection.deframer.unfinished() as u64;
    received.framing_errors += connection.deframer.errors();
}

/// The kernel's count of datagrams dropped at the UDP socket of `port`.
fn udp_drops(port: u16) -> Option<u64> {
    drops_of(&fs::read_to_string("/proc/net/udp").ok()?, port)
}

/// The last column of the line of `port` in the text of `/proc/net/udp`.
fn drops_of(table: &str, port: u16) -> Option<u64> {
    let wanted = format!("0100007F:{port:04X}");
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(wanted.as_str()))?;
    line.split_whitespace().last()?.parse().ok()
}

/// A socket path that is removed at the end, with its directory if that was made for it.
#[derive(Debug)]
struct OwnedPath {
    socket: PathBuf,
    directory: Option<PathBuf>,
}

impl OwnedPath {
    /// A path in a new directory that any user may enter.
    fn temporary() -> io::Result<Self> {
        let base = std::env::temp_dir();
        let pid = std::process::id();
        for attempt in 0..100 {
            let directory = base.join(format!("audit-loadgen.{pid}.{attempt}"));
            match fs::create_dir(&directory) {
                Ok(()) => {
                    let path = Self { socket: directory.join("log"), directory: Some(directory.clone()) };
                    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a temporary directory"))
    }

    /// A path given by the user. A socket nobody listens on is replaced; anything else there is left alone.
    fn at(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if found.file_type().is_socket() && !is_served(path)? => fs::remove_file(path)?,
            Ok(_) => {
                let message = format!("{} exists and is in use or no socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
        }
        Ok(Self { socket: path.into(), directory: None })
    }
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Whether some process has the socket at `path` open, of whichever type.
fn is_served(path: &Path) -> io::Result<bool> {
    let address = SockAddr::unix(path)?;
    for kind in [Type::DGRAM, Type::STREAM] {
        let refused = Socket::new(Domain::UNIX, kind, None)?.connect(&address).map_err(|error| error.kind());
        // ECONNREFUSED: nobody there. EPROTOTYPE: somebody, of the other type.
        if refused != Err(io::ErrorKind::ConnectionRefused) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_from_the_line_of_the_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     7: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 3\n\
                     9: 0100007F:C350 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 42\n";
        assert_eq!(drops_of(table, 50_000), Some(42));
        assert_eq!(drops_of(table, 1), None);
    }

    #[test]
    fn temporary_paths_are_gone_afterwards() {
        let sink = Sink::bind(Transport::Unix, None).unwrap().unwrap();
        let path = sink.path().unwrap().to_owned();
        assert!(path.exists());
        drop(sink);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_served_socket_and_a_file_are_left_alone_and_a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let first = Sink::bind(Transport::Unix, Some(&path)).unwrap();
        assert!(Sink::bind(Transport::Unix, Some(&path)).is_err());
        assert!(Sink::bind(Transport::UnixStream, Some(&path)).is_err());
        drop(first);

        let stale = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
        stale.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        drop(stale);
        assert!(Sink::bind(Transport::UnixStream, Some(&path)).is_ok());

        fs::write(&path, "not a socket").unwrap();
        assert!(Sink::bind(Transport::Unix, Some(&path)).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"not a socket");
    }
}
