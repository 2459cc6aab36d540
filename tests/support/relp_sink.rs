//! A RELP server in the test's own hands: strict in what it reads, and as unhelpful as the test wishes.
//!
//! Law: a frame that is not exactly of the protocol's shape, a number out of order, or a command before the
//! offers are answered, fails the test. The shape is librelp's `TXNR SP COMMAND SP LENGTH [SP DATA] LF`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::sink::{self, Message};
use super::tls_sink::{TlsConnection, TlsSink};
use super::wait_until;

/// The highest number of a frame; after it comes 1 again.
pub(crate) const LAST_NUMBER: u32 = 999_999_999;

/// What librelp takes by default and rsyslog's tests go up to.
const LONGEST_DATA: usize = 128 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) number: u32,
    pub(crate) command: String,
    pub(crate) data: Vec<u8>,
}

impl Frame {
    /// The first frame of `bytes` and how long it is; `None` if it is not complete.
    #[track_caller]
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let shown = bytes[..bytes.len().min(80)].escape_ascii();
        let mut at = 0;
        // A word and the byte that ends it.
        let mut word = |what: &str, good: fn(&u8) -> bool, most: usize| {
            let length = bytes[at..].iter().take_while(|byte| good(byte)).count();
            assert!(length <= most, "{what} too long: {shown}");
            let end = *bytes.get(at + length)?;
            assert!(length > 0, "no {what}: {shown}");
            let word = String::from_utf8(bytes[at..at + length].to_vec()).unwrap();
            at += length + 1;
            Some((word, end))
        };
        let (number, end) = word("number", u8::is_ascii_digit, 9)?;
        assert!(end == b' ' && !number.starts_with('0'), "no frame starts here: {shown}");
        let (command, end) = word("command", u8::is_ascii_lowercase, 32)?;
        assert!(end == b' ', "no command: {shown}");
        let (length, end) = word("length", u8::is_ascii_digit, 9)?;
        assert!(length == "0" || !length.starts_with('0'), "a length with a leading zero: {shown}");
        let length: usize = length.parse().unwrap();
        assert!(length <= LONGEST_DATA, "too much data: {shown}");
        let number = number.parse().unwrap();
        if length == 0 {
            // Without data there is no blank either.
            assert!(end == b'\n', "an empty frame does not end: {shown}");
            return Some((Self { number, command, data: Vec::new() }, at));
        }
        assert!(end == b' ', "no data: {shown}");
        let data = bytes.get(at..at + length)?.to_vec();
        let end = *bytes.get(at + length)?;
        assert!(end == b'\n', "the data is not as long as its frame says: {shown}");
        Some((Self { number, command, data }, at + length + 1))
    }

    /// A frame as it is on the wire.
    pub(crate) fn bytes(number: u32, command: &str, data: &[u8]) -> Vec<u8> {
        let head = format!("{number} {command} {}", data.len());
        let blank: &[u8] = if data.is_empty() { b"" } else { b" " };
        [head.as_bytes(), blank, data, b"\n"].concat()
    }
}

// ---------------------------------------------------------------------------------------------------------
// Step by step

/// What carries RELP.
pub(crate) trait Wire: Read + Write + Send {
    fn tcp(&self) -> &TcpStream;

    /// Ends the stream in order.
    fn end(&mut self);

    fn reset(self);
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn end(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }

    fn reset(self) {
        sink::reset(self);
    }
}

impl Wire for TlsConnection {
    fn tcp(&self) -> &TcpStream {
        self.tcp()
    }

    fn end(&mut self) {
        self.close();
    }

    fn reset(self) {
        self.reset();
    }
}

/// The server's end of one connection; every answer is the test's.
#[derive(Debug)]
pub(crate) struct Peer<W> {
    wire: W,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that have been handed out.
    taken: usize,
    last: Option<u32>,
    opened: bool,
}

impl<W: Wire> Peer<W> {
    /// Nothing is read or answered yet.
    pub(crate) fn new(wire: W) -> Self {
        Self { wire, buffer: Vec::new(), taken: 0, last: None, opened: false }
    }

    /// Reads the offers and accepts them as librelp does.
    #[track_caller]
    pub(crate) fn open(wire: W) -> Self {
        let mut this = Self::new(wire);
        let frame = this.frame().expect("the relay opens the session");
        this.accept_offers(&frame);
        this
    }

    /// The next frame; `None` at the end of the stream, which has to be between two frames.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        self.try_frame().expect("the relay sends on")
    }

    /// As [`Self::frame`], with what the socket says.
    #[track_caller]
    pub(crate) fn try_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.buffered_frame() {
                return Ok(Some(frame));
            }
            let mut space = [0; 1 << 16];
            let count = self.wire.read(&mut space)?;
            if count == 0 {
                let rest = &self.buffer[self.taken..];
                assert!(rest.is_empty(), "the stream ends inside a frame: {}", rest.escape_ascii());
                return Ok(None);
            }
            self.buffer.extend_from_slice(&space[..count]);
        }
    }

    /// A frame that has been read already.
    #[track_caller]
    fn buffered_frame(&mut self) -> Option<Frame> {
        let Some((frame, length)) = Frame::parse(&self.buffer[self.taken..]) else {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            return None;
        };
        self.taken += length;
        let next = self.last.map_or(1, |last| if last == LAST_NUMBER { 1 } else { last + 1 });
        assert_eq!(frame.number, next, "the number of {frame:?}");
        self.last = Some(frame.number);
        let first = if self.opened { ["syslog", "close"] } else { ["open", "open"] };
        assert!(first.contains(&frame.command.as_str()), "not the time for {frame:?}");
        self.opened = true;
        Some(frame)
    }

    /// The next frame, which has to be a message.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Frame {
        let frame = self.frame().expect("the relay sends on");
        assert_eq!(frame.command, "syslog", "{frame:?}");
        frame
    }

    /// Checks the relay's offers and answers them.
    #[track_caller]
    pub(crate) fn accept_offers(&mut self, open: &Frame) {
        check_offers(open);
        self.send(&offers_accepted(open.number));
    }

    pub(crate) fn accept(&mut self, number: u32) {
        self.send(&Frame::bytes(number, "rsp", b"200 OK"));
    }

    pub(crate) fn refuse(&mut self, number: u32, why: &str) {
        self.send(&Frame::bytes(number, "rsp", format!("500 {why}").as_bytes()));
    }

    /// Says that it is about to close, and leaves the stream as it is.
    pub(crate) fn say_close(&mut self) {
        self.send(b"0 serverclose 0\n");
    }

    /// Whatever bytes. That the relay may be gone is the test's to notice.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.wire.write_all(bytes).and_then(|()| self.wire.flush());
    }

    pub(crate) fn wire(&mut self) -> &mut W {
        &mut self.wire
    }

    pub(crate) fn reset(self) {
        self.wire.reset();
    }
}

/// `open` has to offer version 0 or 1, a name and the command `syslog`, and nothing that is not said once.
#[track_caller]
fn check_offers(open: &Frame) {
    assert_eq!(open.command, "open");
    let text = std::str::from_utf8(&open.data).unwrap();
    let mut offers: Vec<_> = text.lines().map(|line| line.split_once('=').expect("name=value")).collect();
    offers.sort_unstable();
    let names: Vec<_> = offers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["commands", "relp_software", "relp_version"], "{text}");
    assert!(offers[0].1.split(',').any(|command| command == "syslog"), "{text}");
    // librelp's client gives up on a server that offers more than 0, so its users are at 0.
    assert_eq!(offers[2].1, "0", "{text}");
}

/// librelp's answer.
fn offers_accepted(number: u32) -> Vec<u8> {
    let offers =
        "200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog";
    Frame::bytes(number, "rsp", offers.as_bytes())
}

// ---------------------------------------------------------------------------------------------------------
// By itself

/// What a server does about a message.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Accept,
    /// 500, with a reason.
    Refuse(&'static str),
    /// Nothing, until a later reply releases it, or ever.
    Hold,
    /// What is held is accepted in order, then this one.
    Release,
    /// This one first, then what is held from the last to the first.
    ReleaseBackwards,
    /// These bytes.
    Garbage(&'static [u8]),
    /// As librelp that stops: the hint, then the end of the stream.
    ServerClose,
    Reset,
}

/// A message, and where it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Counted from 0.
    pub(crate) connection: usize,
    pub(crate) number: u32,
    pub(crate) data: Vec<u8>,
}

/// A server on a thread of its own that does with each message as it is told. One connection at a time.
#[derive(Debug)]
pub(crate) struct RelpSink {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Received>>>,
    /// Numbers of the sessions that the relay has closed in order.
    closed: Arc<Mutex<Vec<usize>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How often a waiting server looks whether it should stop.
const TICK: Duration = Duration::from_millis(10);

impl RelpSink {
    /// Plain RELP.
    pub(crate) fn tcp(policy: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("relp://{}", listener.local_addr().unwrap());
        Self::start(url, listener, Ok, policy)
    }

    /// RELP in TLS. Connections whose handshake fails count for nothing.
    pub(crate) fn tls(sink: TlsSink, policy: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        let url = sink.url("relps");
        let listener = sink.listener().try_clone().unwrap();
        Self::start(url, listener, move |tcp| sink.handshake(tcp), policy)
    }

    fn start<W: Wire>(
        url: String,
        listener: TcpListener,
        wrap: impl Fn(TcpStream) -> io::Result<W> + Send + 'static,
        policy: impl FnMut(&Received) -> Reply + Send + 'static,
    ) -> Self {
        listener.set_nonblocking(true).unwrap();
        let (seen, closed, stop) = (Arc::default(), Arc::default(), Arc::default());
        let mut server = Server {
            seen: Arc::clone(&seen),
            closed: Arc::clone(&closed),
            stop: Arc::clone(&stop),
            policy: Box::new(policy),
        };
        let thread = thread::spawn(move || server.serve(&listener, &wrap));
        Self { url, seen, closed, stop, thread: Some(thread) }
    }

    /// Everything so far, in the order of arrival, repetitions included.
    pub(crate) fn so_far(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until `count` messages have come, repetitions included.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        wait_until(&format!("{count} messages have come to {}", self.url), || {
            self.seen.lock().unwrap().len() >= count
        });
    }

    /// Every message, after the relay has ended. A failed check of the server fails here.
    #[track_caller]
    pub(crate) fn messages_after_exit(&mut self) -> Vec<Message> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().expect("the relay speaks RELP");
        self.so_far().iter().map(|received| Message::read(&received.data)).collect()
    }

    /// The connections that the relay has ended with `close`.
    pub(crate) fn closed_in_order(&self) -> Vec<usize> {
        self.closed.lock().unwrap().clone()
    }
}

impl Drop for RelpSink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

struct Server {
    seen: Arc<Mutex<Vec<Received>>>,
    closed: Arc<Mutex<Vec<usize>>>,
    stop: Arc<AtomicBool>,
    policy: Box<dyn FnMut(&Received) -> Reply + Send>,
}

impl Server {
    fn serve<W: Wire>(&mut self, listener: &TcpListener, wrap: &impl Fn(TcpStream) -> io::Result<W>) {
        let mut connection = 0;
        loop {
            // Asked first: what came before the wish to stop is still taken.
            let stopping = self.stop.load(Ordering::Acquire);
            match listener.accept() {
                Ok((tcp, _)) => {
                    tcp.set_nonblocking(false).unwrap();
                    // Not the short one yet: a handshake takes its time.
                    tcp.set_read_timeout(Some(super::PATIENCE)).unwrap();
                    if let Ok(wire) = wrap(tcp) {
                        wire.tcp().set_read_timeout(Some(TICK)).unwrap();
                        self.converse(Peer::new(wire), connection);
                        connection += 1;
                    }
                }
                Err(_) if stopping => return,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn converse<W: Wire>(&mut self, mut peer: Peer<W>, connection: usize) {
        let mut held = Vec::new();
        // Answers to what was read at once leave at once.
        let mut answers = Vec::new();
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            let frame = match peer.buffered_frame() {
                Some(frame) => Ok(Some(frame)),
                None => {
                    peer.send(&std::mem::take(&mut answers));
                    peer.try_frame()
                }
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stopping => continue,
                Ok(None) | Err(_) => return,
            };
            let mut accept = |number| answers.extend(Frame::bytes(number, "rsp", b"200 OK"));
            match frame.command.as_str() {
                "open" => {
                    check_offers(&frame);
                    answers.extend(offers_accepted(frame.number));
                    continue;
                }
                "close" => {
                    // As librelp does it.
                    answers.extend(Frame::bytes(frame.number, "rsp", b""));
                    answers.extend(b"0 serverclose 0\n");
                    peer.send(&std::mem::take(&mut answers));
                    peer.wire.end();
                    self.closed.lock().unwrap().push(connection);
                    return;
                }
                _ => {}
            }
            let received = Received { connection, number: frame.number, data: frame.data };
            let reply = (self.policy)(&received);
            self.seen.lock().unwrap().push(received);
            match reply {
                Reply::Accept => accept(frame.number),
                Reply::Refuse(why) => {
                    answers.extend(Frame::bytes(frame.number, "rsp", format!("500 {why}").as_bytes()))
                }
                Reply::Hold => held.push(frame.number),
                Reply::Release => {
                    held.drain(..).for_each(&mut accept);
                    accept(frame.number);
                }
                Reply::ReleaseBackwards => {
                    accept(frame.number);
                    held.drain(..).rev().for_each(&mut accept);
                }
                Reply::Garbage(bytes) => answers.extend(bytes),
                Reply::ServerClose => {
                    answers.extend(b"0 serverclose 0\n");
                    peer.send(&answers);
                    peer.wire.end();
                    return;
                }
                Reply::Reset => {
                    peer.send(&answers);
                    peer.reset();
                    return;
                }
            }
        }
    }
}
