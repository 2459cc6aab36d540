//! Receives what the program under test sends, and keeps the account.
//!
//! *Promise:* every message is judged against what was sent and stamped with the time the read that brought it
//! returned.
//! *Law:* never pushes back unless it is asked to (`manner`): one thread does nothing but read and judge, with no
//! allocation per record and large receive buffers; what the kernel still dropped at this socket is told as well
//! (`socket_drops`): it is among what is lost, but not by the target.
//!
//! A Unix datagram socket is the exception nobody can avoid: its queue holds `net.unix.max_dgram_qlen` messages.

mod datagram;
mod manner;
mod place;
mod stream;
mod tls;

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use self::manner::{Copy, Pace};
pub(crate) use self::manner::{Manner, Stall};
use self::place::Place;
use self::stream::Protocol;
use crate::address::{Address, At};
use crate::clock::Clock;
use crate::corpus::{Expected, Verdict};
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::timeline::Timeline;

/// Receive buffer asked for each socket: half a second of the fastest sender.
const RECEIVE_BUFFER: usize = 64 << 20;
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
    /// TLS 1.3 or 1.2 on the loopback interface
    Tls,
    /// RELP on the loopback interface
    Relp,
    /// RELP over TLS
    Relps,
    /// No receiver: only the cost of the target is measured
    None,
}

impl Transport {
    /// Whether the receiver speaks TLS.
    pub(crate) fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Relps)
    }

    /// Whether the receiver speaks RELP.
    pub(crate) fn is_relp(self) -> bool {
        matches!(self, Self::Relp | Self::Relps)
    }
}

/// What the threads of a run tell each other.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Records that may have arrived: raised by the generator before each write.
    pub(crate) announced: AtomicU64,
    /// Distinct records that have arrived: raised by the sink.
    pub(crate) arrived: AtomicU64,
    /// Records overtaken by later ones and not arrived so far: raised and lowered by the sink.
    pub(crate) overtaken: AtomicU64,
    /// The sequence number from which on latencies are recorded: 0, or with a warm-up `u64::MAX` until that has ended.
    pub(crate) measured_from: AtomicU64,
    /// Records sent in all; `u64::MAX` until the target is gone.
    pub(crate) sent: AtomicU64,
    /// The sink ends with what is there to be read.
    pub(crate) stop: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            announced: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
            measured_from: AtomicU64::new(0),
            sent: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
        }
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
    /// What arrived when, and how late (from the time due, or without a schedule from the write).
    pub(crate) timeline: Timeline,
    /// Time of the first arrival of any message.
    pub(crate) first_ns: Option<u64>,
    /// Time of the last arrival of a marked message.
    pub(crate) last_ns: Option<u64>,
    /// Time of the last arrival of any message.
    pub(crate) last_any_ns: Option<u64>,
    /// Whole records that came before their mark says they were written: the clocks disagree by more than they took.
    pub(crate) ahead: u64,
    /// Distinct whole records from [`Shared::measured_from`] on, and their bytes.
    pub(crate) measured: u64,
    /// See `measured`.
    pub(crate) measured_bytes: u64,
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
    /// TLS connections the peer ended otherwise than by close_notify.
    pub(crate) tls_errors: u64,
    /// Datagrams the kernel dropped at this socket because it was full.
    pub(crate) socket_drops: Option<u64>,
}

enum Listener {
    Datagrams(Socket),
    Streams(Socket, Protocol),
}

/// A bound receiver.
pub(crate) struct Sink {
    listener: Listener,
    url: String,
    path: Option<Place>,
    ca: Option<Place>,
    port: Option<u16>,
    bare: bool,
    foreign: bool,
    manner: Manner,
}

impl Sink {
    /// Binds a receiver: on loopback at a free port, or at `path` (default: in a directory of its own).
    ///
    /// # Errors
    /// If the address is taken or may not be used.
    pub(crate) fn bind(
        transport: Transport,
        path: Option<&Path>,
        manner: Manner,
    ) -> io::Result<Option<Self>> {
        let place = match transport {
            Transport::None => return Ok(None),
            Transport::Unix | Transport::UnixStream => At::Path(path.map(Path::to_path_buf)),
            _ => At::Host("127.0.0.1".into(), 0),
        };
        Self::listen(Address { transport, place }, manner).map(Some)
    }

    /// Binds a receiver at `address`, which behaves in such a manner.
    ///
    /// # Errors
    /// If the address is taken or may not be used, or the manner is not possible there.
    pub(crate) fn listen(mut address: Address, manner: Manner) -> io::Result<Self> {
        let transport = address.transport;
        let kind = match transport {
            Transport::Unix | Transport::Udp => Type::DGRAM,
            _ => Type::STREAM,
        };
        if kind == Type::DGRAM && (manner.reset_after.is_some() || !manner.accept_delay.is_zero()) {
            let message = "datagrams have no connection that could be reset or accepted";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (socket, path, port) = match &mut address.place {
            At::Path(at) => {
                let socket = Socket::new(Domain::UNIX, kind, None)?;
                enlarge(&socket, manner.receive_buffer);
                let path = match at {
                    Some(path) => Place::at(path)?,
                    None => Place::temporary("log")?,
                };
                socket.bind(&SockAddr::unix(path.file())?)?;
                // The program under test may have dropped its privileges before it connects.
                fs::set_permissions(path.file(), fs::Permissions::from_mode(0o777))?;
                *at = Some(path.file().into());
                (socket, Some(path), None)
            }
            At::Host(host, port) => {
                let resolved = (host.as_str(), *port).to_socket_addrs()?.next();
                let resolved: SocketAddr = resolved.ok_or(io::ErrorKind::AddrNotAvailable)?;
                let domain = if resolved.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
                let socket = Socket::new(domain, kind, None)?;
                enlarge(&socket, manner.receive_buffer);
                if kind == Type::STREAM {
                    socket.set_reuse_address(true)?;
                }
                socket.bind(&resolved.into())?;
                *port = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?.port();
                let port = *port;
                (socket, None, Some(port))
            }
        };
        let url = address.to_string();
        let (tls, ca) = if transport.is_encrypted() {
            tls::identity().map(|(tls, ca)| (Some(tls), Some(ca)))?
        } else {
            (None, None)
        };
        let listener = if kind == Type::STREAM {
            socket.listen(1024)?;
            socket.set_nonblocking(true)?;
            Listener::Streams(socket, Protocol { tls, relp: transport.is_relp() })
        } else {
            socket.set_read_timeout(Some(Duration::from_millis(TICK_MS.into())))?;
            Listener::Datagrams(socket)
        };
        Ok(Self { listener, url, path, ca, port, manner, bare: false, foreign: false })
    }

    /// Takes messages without `<PRI>` for whole, as of a program that passes the lines on as they are.
    pub(crate) fn take_bare(&mut self) {
        self.bare = true;
    }

    /// Takes messages whose marks were written by other processes, whose clocks may differ.
    pub(crate) fn take_foreign(&mut self) {
        self.foreign = true;
    }

    /// Where to send, in the relay's own notation.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The socket's path, if it has one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(Place::file)
    }

    /// The PEM file with the certificate to trust, if it speaks TLS.
    pub(crate) fn ca(&self) -> Option<&Path> {
        self.ca.as_ref().map(Place::file)
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
            bare: self.bare.then(Vec::new),
            discard: self.manner.discard,
            own_clock: !self.foreign,
            copy: self.manner.write.as_deref().map(Copy::create).transpose()?,
            received: Received {
                ledger: Ledger::default(),
                corrected: histogram()?,
                uncorrected: histogram()?,
                timeline: Timeline::new(plan.start_ns()),
                first_ns: None,
                last_ns: None,
                last_any_ns: None,
                ahead: 0,
                measured: 0,
                measured_bytes: 0,
                messages: 0,
                bytes: 0,
                connections: 0,
                unfinished_bytes: 0,
                framing_errors: 0,
                tls_errors: 0,
                socket_drops: None,
            },
        };
        let linger_ns = crate::drive::nanoseconds(linger);
        let mut quiet = Quiet { since_ns: clock.now(), linger_ns, ending: false, stopped_ns: None };
        match &self.listener {
            Listener::Datagrams(socket) => {
                datagram::receive(socket, clock, &mut account, &mut quiet, Pace::new(&self.manner))?;
                if let Some(port) = self.port {
                    account.received.socket_drops = datagram::udp_drops(port);
                }
            }
            Listener::Streams(listener, protocol) => {
                let pace = Pace::new(&self.manner);
                stream::receive(listener, protocol, clock, &mut account, &mut quiet, pace)?;
            }
        }
        account.copy.map_or(Ok(()), Copy::finish)?;
        Ok(account.received)
    }
}

/// Asks for a receive buffer: beyond the system's limit if we may, up to it otherwise. Not for one of 0 bytes: then it is
/// what the system gives, and TCP's may grow.
fn enlarge(socket: &Socket, size: Option<usize>) {
    let size = size.unwrap_or(RECEIVE_BUFFER);
    if size == 0 {
        return;
    }
    if setsockopt(socket, sockopt::RcvBufForce, &size).is_err() {
        // A smaller buffer is no error; what it drops is reported.
        let _ = setsockopt(socket, sockopt::RcvBuf, &size);
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
    /// When it was first seen that the sink is to stop.
    stopped_ns: Option<u64>,
}

impl Quiet {
    /// The sink was told to stop, and what still came has had its time. Until then it takes what is there: that has arrived.
    fn is_stopped(&mut self, now_ns: u64) -> bool {
        now_ns.saturating_sub(*self.stopped_ns.get_or_insert(now_ns)) > self.linger_ns
    }

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
    /// Where a message without `<PRI>` is given one; `None` if it should have its own.
    bare: Option<Vec<u8>>,
    discard: bool,
    /// The marks' times are of this process's clock.
    own_clock: bool,
    copy: Option<Copy>,
    received: Received,
}

impl Account<'_> {
    /// Enters one message that arrived at `now_ns`.
    fn enter(&mut self, message: &[u8], now_ns: u64, announced: u64) {
        let received = &mut self.received;
        received.first_ns.get_or_insert(now_ns);
        received.last_any_ns = Some(now_ns);
        received.messages += 1;
        received.bytes += message.len() as u64;
        let message = match &mut self.bare {
            None => message,
            Some(room) => {
                room.clear();
                room.extend_from_slice(b"<0> ");
                room.extend_from_slice(message);
                room
            }
        };
        if let Some(copy) = &mut self.copy {
            copy.add(message);
        }
        if self.discard {
            received.last_ns = Some(now_ns);
            return;
        }
        match self.expected.judge(message, announced, self.plan) {
            Verdict::Whole { number, due_ns, written_ns } => {
                received.last_ns = Some(now_ns);
                let ahead = written_ns.is_some_and(|written_ns| written_ns > now_ns);
                if ahead && self.own_clock {
                    // Written by this process in its future: the time in the mark is not what stood there.
                    received.ledger.torn(Some(number));
                    return;
                }
                // A duplicate's latency is that of a retry, not of the record.
                let first = received.ledger.whole(number);
                received.ahead += u64::from(first && ahead);
                if first && number.sequence >= self.shared.measured_from.load(Ordering::Relaxed) {
                    received.measured += 1;
                    received.measured_bytes += message.len() as u64;
                    for (histogram, from) in
                        [(&mut received.corrected, due_ns), (&mut received.uncorrected, written_ns)]
                    {
                        if let Some(from) = from {
                            histogram.saturating_record(now_ns.saturating_sub(from));
                        }
                    }
                    let latency_ns = due_ns.or(written_ns).map(|from| now_ns.saturating_sub(from));
                    received.timeline.enter(now_ns, message.len() as u64, latency_ns);
                }
            }
            Verdict::Torn(number) => {
                received.last_ns = Some(now_ns);
                received.ledger.torn(number);
            }
            Verdict::Unmarked => received.ledger.unmarked(),
        }
    }

    fn publish(&self) {
        self.shared.arrived.store(self.received.ledger.arrived(), Ordering::Relaxed);
        self.shared.overtaken.store(self.received.ledger.overtaken(), Ordering::Relaxed);
    }
}
