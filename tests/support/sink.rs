//! Receivers, and how a strict one reads what it gets.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::{PATIENCE, temp_dir, wait_until};

// ---------------------------------------------------------------------------------------------------------
// Messages

/// A message, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) pri: u8,
    pub(crate) app: String,
    pub(crate) pid: u32,
    pub(crate) text: String,
    /// The date of an RFC 3164 message.
    pub(crate) date: String,
    /// What only RFC 5424 has.
    pub(crate) rfc5424: Option<Rfc5424>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rfc5424 {
    /// Milliseconds since 1970.
    pub(crate) moment: i64,
    pub(crate) host: String,
    pub(crate) msgid: String,
    /// Records are numbered, notices are not.
    pub(crate) sequence: Option<u64>,
}

impl Message {
    /// Reads a message of either form; panics where it is not exactly of the shape that the relay promises.
    #[track_caller]
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text =
            std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("not UTF-8: {}", bytes.escape_ascii()));
        assert!(text.chars().all(|c| c == '\t' || !c.is_control()), "control characters: {text:?}");
        Self::take_apart(text).unwrap_or_else(|| panic!("not a message: {text}"))
    }

    fn take_apart(text: &str) -> Option<Self> {
        let (pri, rest) = text.strip_prefix('<')?.split_once('>')?;
        let pri = pri.parse().ok().filter(|pri| *pri < 192)?;
        let Some(rest) = rest.strip_prefix("1 ") else {
            return Self::take_rfc3164_apart(pri, rest);
        };
        let mut words = rest.splitn(6, ' ');
        let (moment, host, app, pid, msgid) =
            (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
        let rest = words.next()?;
        let (sequence, text) = match rest.strip_prefix("- ") {
            Some(text) => (None, text),
            None => {
                let (sequence, text) = rest.strip_prefix("[meta sequenceId=\"")?.split_once("\"] ")?;
                (Some(sequence.parse().ok()?), text)
            }
        };
        (sequence.is_none() == (app == "audit-relay")).then_some(())?;
        (moment.len() == 24 && moment.ends_with('Z') && host.len() <= 255 && msgid.len() <= 32)
            .then_some(())?;
        let moment: jiff::Timestamp = moment.parse().ok()?;
        let rfc5424 = Rfc5424 {
            moment: moment.as_millisecond(),
            host: host.to_owned(),
            msgid: msgid.to_owned(),
            sequence,
        };
        let (app, text, pid) = (app.to_owned(), text.to_owned(), pid.parse().ok()?);
        Some(Self { pri, app, pid, text, date: String::new(), rfc5424: Some(rfc5424) })
    }

    fn take_rfc3164_apart(pri: u8, rest: &str) -> Option<Self> {
        let (date, rest) = rest.split_at_checked(15)?;
        let (app, rest) = rest.strip_prefix(' ')?.split_once('[')?;
        let (pid, text) = rest.split_once("]: ")?;
        // `Nov 23 09:15:57`
        let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        (shape[3..] == *" 99 99:99:99" || shape[3..] == *"  9 99:99:99").then_some(())?;
        let (date, app, text) = (date.to_owned(), app.to_owned(), text.to_owned());
        Some(Self { pri, app, pid: pid.parse().ok()?, text, date, rfc5424: None })
    }

    /// True for what the relay says in its own name.
    pub(crate) fn is_notice(&self) -> bool {
        self.app == "audit-relay"
    }

    /// The value of `name=value` in the text.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.rfc5424.as_ref().and_then(|header| header.sequence).expect("a record in RFC 5424")
    }
}

/// How messages are told apart on a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    Octet,
    Lf,
}

impl Framing {
    /// Cuts one connection's bytes into messages and the incomplete rest. A strict reader: where no message
    /// starts, it panics.
    #[track_caller]
    pub(crate) fn cut(self, mut bytes: &[u8]) -> (Vec<Message>, &[u8]) {
        let mut messages = Vec::new();
        loop {
            let end = match self {
                Self::Lf => bytes.iter().position(|byte| *byte == b'\n').map(|end| (0, end, end + 1)),
                Self::Octet => {
                    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let number = std::str::from_utf8(&bytes[..digits]).unwrap();
                    assert!(
                        digits == bytes.len()
                            || (digits > 0 && number.as_bytes()[0] != b'0' && bytes[digits] == b' '),
                        "no octet count: {}",
                        bytes[..bytes.len().min(80)].escape_ascii()
                    );
                    let length = if digits < bytes.len() { number.parse().unwrap() } else { usize::MAX / 2 };
                    let end = digits + 1 + length;
                    (end <= bytes.len()).then_some((digits + 1, end, end))
                }
            };
            let Some((start, end, next)) = end else {
                return (messages, bytes);
            };
            messages.push(Message::read(&bytes[start..end]));
            bytes = &bytes[next..];
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// A receiver that takes everything at once

/// A willing receiver on a thread of its own.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) url: String,
    framing: Option<Framing>,
    /// Datagrams, or the bytes of connections.
    items: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

enum Source {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    UnixStream(UnixListener),
    Tcp(TcpListener),
}

impl Sink {
    pub(crate) fn unix() -> Self {
        let dir = temp_dir();
        let path = dir.path().join("log");
        Self::start(format!("unix:{}", path.display()), Source::Unix(bind_datagram(&path)), None, dir)
    }

    pub(crate) fn unix_stream(framing: Framing) -> Self {
        let dir = temp_dir();
        let path = dir.path().join("log");
        let listener = bind_stream(&path);
        Self::start(
            format!("unix-stream:{}", path.display()),
            Source::UnixStream(listener),
            Some(framing),
            dir,
        )
    }

    pub(crate) fn udp(address: &str) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        let _ = SockRef::from(&socket).set_recv_buffer_size(1 << 22);
        let url = format!("udp://{}", socket.local_addr().unwrap());
        Self::start(url, Source::Udp(socket), None, temp_dir())
    }

    pub(crate) fn tcp(framing: Framing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        Self::start(url, Source::Tcp(listener), Some(framing), temp_dir())
    }

    fn start(url: String, source: Source, framing: Option<Framing>, dir: tempfile::TempDir) -> Self {
        let (items, stop) = (Arc::default(), Arc::default());
        let (theirs, heard) = (Arc::clone(&items), Arc::clone(&stop));
        let thread = Some(thread::spawn(move || source.receive(&theirs, &heard)));
        Self { url, framing, items, stop, thread, _dir: dir }
    }

    /// True for UDP, which throws away what the receiver is too slow for.
    pub(crate) fn drops_what_it_cannot_take(&self) -> bool {
        self.url.starts_with("udp:")
    }

    #[track_caller]
    pub(crate) fn wait_for_datagrams(&self, count: usize) {
        wait_until(&format!("{count} datagrams have come"), || self.items.lock().unwrap().len() >= count);
    }

    /// Waits until `count` messages have come.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        wait_until(&format!("{count} messages have come to {}", self.url), || {
            messages = self.so_far();
            messages.len() >= count
        });
        messages
    }

    /// Whole messages so far.
    pub(crate) fn so_far(&self) -> Vec<Message> {
        let items = self.items.lock().unwrap();
        match self.framing {
            None => items.iter().map(|datagram| Message::read(datagram)).collect(),
            Some(framing) => items.iter().flat_map(|connection| framing.cut(connection).0).collect(),
        }
    }

    /// Everything that has come, after the relay has ended. No connection may end inside a message.
    #[track_caller]
    pub(crate) fn messages_after_exit(&self) -> Vec<Message> {
        self.stop.store(true, Ordering::Release);
        wait_until("the receiver has read everything", || {
            self.thread.as_ref().is_none_or(JoinHandle::is_finished)
        });
        if let Some(framing) = self.framing {
            for connection in self.items.lock().unwrap().iter() {
                let rest = framing.cut(connection).1;
                assert!(rest.is_empty(), "a torn message at the end: {}", rest.escape_ascii());
            }
        }
        self.so_far()
    }

    /// The raw datagrams, or the bytes of each connection.
    pub(crate) fn raw(&self) -> Vec<Vec<u8>> {
        self.items.lock().unwrap().clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How often a waiting receiver looks whether it should stop.
const TICK: Duration = Duration::from_millis(10);

impl Source {
    fn receive(self, items: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
        let mut buffer = vec![0; 1 << 20];
        match self {
            Self::Unix(socket) => {
                socket.set_read_timeout(Some(TICK)).unwrap();
                receive_datagrams(|buffer| socket.recv(buffer), &mut buffer, items, stop);
            }
            Self::Udp(socket) => {
                socket.set_read_timeout(Some(TICK)).unwrap();
                receive_datagrams(|buffer| socket.recv(buffer), &mut buffer, items, stop);
            }
            Self::UnixStream(listener) => {
                listener.set_nonblocking(true).unwrap();
                while let Some(connection) = until(stop, || listener.accept()) {
                    connection.0.set_nonblocking(false).unwrap();
                    connection.0.set_read_timeout(Some(TICK)).unwrap();
                    receive_stream(connection.0, &mut buffer, items, stop);
                }
            }
            Self::Tcp(listener) => {
                listener.set_nonblocking(true).unwrap();
                while let Some(connection) = until(stop, || listener.accept()) {
                    connection.0.set_nonblocking(false).unwrap();
                    connection.0.set_read_timeout(Some(TICK)).unwrap();
                    receive_stream(connection.0, &mut buffer, items, stop);
                }
            }
        }
    }
}

fn receive_datagrams(
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
    buffer: &mut [u8],
    items: &Mutex<Vec<Vec<u8>>>,
    stop: &AtomicBool,
) {
    while let Some(length) = until(stop, || receive(buffer)) {
        items.lock().unwrap().push(buffer[..length].to_vec());
    }
}

fn receive_stream(mut stream: impl Read, buffer: &mut [u8], items: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    items.lock().unwrap().push(Vec::new());
    while let Some(length @ 1..) = until(stop, || stream.read(buffer)) {
        items.lock().unwrap().last_mut().unwrap().extend_from_slice(&buffer[..length]);
    }
}

/// Tries until it works; `None` once there is nothing and the receiver is to stop, or on a dead connection.
fn until<T>(stop: &AtomicBool, mut attempt: impl FnMut() -> io::Result<T>) -> Option<T> {
    loop {
        // Asked first: what came before the wish to stop is still taken.
        let stopping = stop.load(Ordering::Acquire);
        match attempt() {
            Ok(value) => return Some(value),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stopping {
                    return None;
                }
                thread::sleep(Duration::from_millis(1));
            }
            // A wait with a time limit is not taken up again by the kernel (signal(7)); where another thread gives up root,
            // each gets a signal of glibc's.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// Receivers in the test's own hands

/// Lets the relay in, whoever it runs as.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

/// Binds a datagram socket that the relay may write to.
pub(crate) fn bind_datagram(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    open_to_all(path);
    socket
}

/// Binds a stream socket that the relay may connect to.
pub(crate) fn bind_stream(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    open_to_all(path);
    listener
}

/// A path for a receiver that is not there yet.
#[derive(Debug)]
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: temp_dir() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

/// A TCP port at which nobody listens yet. It is bound, so that nobody else gets it meanwhile.
#[derive(Debug)]
pub(crate) struct ClosedPort {
    socket: Socket,
}

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { socket }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }

    /// Opens it.
    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(16).unwrap();
        self.socket.into()
    }
}

/// A TCP receiver with a receive buffer as small as the kernel allows.
pub(crate) fn narrow_listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Inherited by accepted connections.
    SockRef::from(&listener).set_recv_buffer_size(1).unwrap();
    listener
}

/// Takes the next connection.
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut connection = None;
    wait_until("the relay has connected", || {
        connection = listener.accept().ok();
        connection.is_some()
    });
    let connection = connection.unwrap().0;
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// Takes the next connection.
#[track_caller]
pub(crate) fn accept_unix(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let mut connection = None;
    wait_until("the relay has connected", || {
        connection = listener.accept().ok();
        connection.is_some()
    });
    let connection = connection.unwrap().0;
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// Closes with RST instead of FIN.
pub(crate) fn reset(connection: TcpStream) {
    SockRef::from(&connection).set_linger(Some(Duration::ZERO)).unwrap();
    drop(connection);
}

/// Reads exactly `count` bytes.
#[track_caller]
pub(crate) fn read_bytes(connection: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    connection.read_exact(&mut bytes).expect("the relay sends on");
    bytes
}

/// Reads to the end of the connection.
#[track_caller]
pub(crate) fn read_to_end(connection: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).expect("the relay ends the connection in order");
    bytes
}
