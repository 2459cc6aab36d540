//! What `replay` promises when a slow TCP or TLS receiver is killed again and again: with a margin, nothing is
//! missing; without one, at most what the dead receivers' own kernels had acknowledged and nobody read.
//!
//! A record that comes twice keeps its sequenceId, so a receiver can tell.
//!
//! `AUDIT_RELAY_KILLS=1000 cargo test --release --test replay -- --nocapture --test-threads 1` is the long run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stdout, reason = "the long run is read by people")]

mod support;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use support::pki::{Kind, Pki};
use support::relay::{Exit, Relay};
use support::relp_sink::{Frame, Peer};
use support::sink::{self, Framing, Message, read_to_end};
use support::tls_sink::{Demands, TlsConnection, TlsSink};
use support::{line, serial, temp_dir};

/// How often the receiver is killed.
fn kills() -> usize {
    std::env::var("AUDIT_RELAY_KILLS").map_or(5, |text| text.parse().expect("a number of kills"))
}

/// Enough that the bound below is far smaller, and that the feed outlasts receivers that lose all they can.
fn records() -> usize {
    210_000 + 6_000 * kills()
}

/// Asked of the kernel, which doubles it and may have a lower limit (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 256 * 1024;

/// Bytes that a receiver reads before it is killed.
fn life() -> usize {
    if kills() > 50 { 1_200_000 } else { 1_500_000 }
}

/// What a TLS receiver of this kind has taken from its kernel and not handed out: records in pieces, and content.
const IN_TLS: usize = 128 * 1024;

enum Receiver {
    Tcp(TcpListener),
    Tls(TlsSink),
}

enum Connection {
    Tcp(TcpStream),
    Tls(Box<TlsConnection>),
}

impl Receiver {
    fn accept(&self) -> Connection {
        match self {
            Self::Tcp(listener) => Connection::Tcp(sink::accept(listener)),
            Self::Tls(sink) => Connection::Tls(Box::new(sink.accept())),
        }
    }
}

impl Connection {
    fn reset(self) {
        match self {
            Self::Tcp(connection) => sink::reset(connection),
            Self::Tls(connection) => connection.reset(),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(connection) => connection.read(buffer),
            Self::Tls(connection) => connection.read(buffer),
        }
    }
}

/// Reads up to `limit` bytes and no faster than 64 KiB in 2 ms, so that more waits in the sockets.
fn read_slowly(connection: &mut Connection, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut space = vec![0; 64 * 1024];
    while bytes.len() < limit {
        let count = connection.read(&mut space).unwrap();
        bytes.extend_from_slice(&space[..count]);
        thread::sleep(Duration::from_millis(2));
    }
    bytes
}

struct Outcome {
    exit: Exit,
    missing: usize,
    twice: usize,
    /// Bytes that all dead receivers' kernels together can have acknowledged without handing them out.
    unread_at_most: usize,
}

fn kill_a_slow_tcp_receiver(replay: &str) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A fixed size, inherited by the connections, so that what a dead receiver's kernel can have had is known.
    SockRef::from(&listener).set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let unread_at_most = kills() * SockRef::from(&listener).recv_buffer_size().unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    kill_a_slow_receiver(&Receiver::Tcp(listener), &["--to", &url, "--replay", replay], unread_at_most)
}

fn kill_a_slow_tls_receiver(replay: &str) -> Outcome {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let server = pki.server("server", Kind::Good);
    let sink = TlsSink::with(&server, Demands { receive_buffer: Some(RECEIVE_BUFFER), ..Demands::default() });
    let buffer = SockRef::from(sink.listener()).recv_buffer_size().unwrap();
    let (url, ca) = (sink.url("tls"), pki.ca_file());
    let arguments = ["--to", &url, "--tls-ca", ca.to_str().unwrap(), "--replay", replay];
    kill_a_slow_receiver(&Receiver::Tls(sink), &arguments, kills() * (buffer + IN_TLS))
}

/// Feeds the relay, and kills its receiver [`kills`] times.
fn kill_a_slow_receiver(receiver: &Receiver, arguments: &[&str], unread_at_most: usize) -> Outcome {
    let (relay, feed) = Relay::with(arguments).options(&["--drain-timeout", "30s"]).by_hand();
    let input = (0..records()).flat_map(|number| line(number, 150)).collect();
    let feeding = feed.write_on_a_thread(input);
    let mut connections = Vec::new();
    for _ in 0..kills() {
        let mut connection = receiver.accept();
        connections.push(read_slowly(&mut connection, life()));
        connection.reset();
    }
    let mut last = receiver.accept();
    let reading = thread::spawn(move || read_to_end(&mut last));
    feeding.join().unwrap().close();
    let exit = relay.exit();
    connections.push(reading.join().unwrap());

    let (mut seen, mut twice) = (BTreeSet::new(), 0);
    for (at, bytes) in connections.iter().enumerate() {
        let (messages, torn) = Framing::Octet.cut(bytes);
        assert!(at < connections.len() - 1 || torn.is_empty(), "the last connection ends between messages");
        let numbers: Vec<_> = messages.iter().map(|message| serial(&message.text)).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap inside connection {at}");
        for (message, number) in messages.iter().zip(numbers) {
            assert_eq!(message.sequence(), number as u64 + 1, "a repetition keeps its number");
            twice += usize::from(!seen.insert(number));
        }
    }
    let outcome = Outcome { exit, missing: records() - seen.len(), twice, unread_at_most };
    println!(
        "{} kills, {} records: {} missing, {} twice; {arguments:?}",
        kills(),
        records(),
        outcome.missing,
        outcome.twice
    );
    outcome
}

/// Reads messages no faster than 64 KiB in 2 ms and answers them; every other receiver dies without having answered
/// its last ones.
fn answer_slowly(peer: &mut Peer<TcpStream>, limit: usize, answers_all: bool) -> Vec<Message> {
    let (mut messages, mut bytes, mut pause_at) = (Vec::new(), 0, 64 * 1024);
    while let Some(frame) = peer.frame() {
        if frame.command == "close" {
            peer.send(&Frame::bytes(frame.number, "rsp", b""));
            peer.say_close();
            break;
        }
        messages.push(Message::read(&frame.data));
        bytes += frame.data.len();
        if answers_all || bytes < limit {
            peer.accept(frame.number);
        }
        if bytes >= limit {
            break;
        }
        if bytes >= pause_at {
            pause_at += 64 * 1024;
            thread::sleep(Duration::from_millis(2));
        }
    }
    messages
}

/// RELP needs no margin: what was not answered is sent again, however the receiver dies.
#[test]
fn relp_misses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("relp://{}", listener.local_addr().unwrap());
    let options = ["--to", &url, "--drain-timeout", "30s"];
    let (relay, feed) = Relay::with(&options).by_hand();
    // All answers are single writes here, so a tenth of the plain case's records takes as long.
    let (records, life) = (20_000 + 1000 * kills(), 150_000);
    let feeding = feed.write_on_a_thread((0..records).flat_map(|number| line(number, 150)).collect());
    let (mut seen, mut twice) = (BTreeSet::new(), 0);
    let mut take = |messages: Vec<Message>| {
        for message in messages {
            let number = serial(&message.text);
            assert_eq!(message.sequence(), number as u64 + 1, "a repetition keeps its number");
            twice += usize::from(!seen.insert(number));
        }
    };
    for at in 0..kills() {
        let mut peer = Peer::open(sink::accept(&listener));
        take(answer_slowly(&mut peer, life, at % 2 == 0));
        peer.reset();
    }
    let mut last = Peer::open(sink::accept(&listener));
    let reading = thread::spawn(move || answer_slowly(&mut last, usize::MAX, true));
    feeding.join().unwrap().close();
    let exit = relay.exit();
    take(reading.join().unwrap());
    println!(
        "{} kills, {records} records: {} missing, {twice} twice; {options:?}",
        kills(),
        records - seen.len()
    );
    assert_eq!((seen.len(), exit.number("/destinations/0/sent")), (records, records as u64), "{exit:?}");
    let replayed = exit.number("/destinations/0/replayed");
    assert!(replayed > 0 && twice as u64 <= replayed, "{twice} twice, {replayed} sent again");
}

fn nothing_is_missing(outcome: &Outcome) {
    assert_eq!(outcome.missing, 0);
    assert_eq!(outcome.exit.number("/destinations/0/sent"), records() as u64);
    let replayed = outcome.exit.number("/destinations/0/replayed");
    assert!(
        replayed > 0 && outcome.twice as u64 <= replayed,
        "{} twice, {replayed} sent again",
        outcome.twice
    );
}

fn only_what_was_not_read_is_missing(outcome: &Outcome) {
    // A message is longer than the line that it carries.
    let missing_bytes = outcome.missing * line(0, 150).len();
    assert!(missing_bytes <= outcome.unread_at_most, "{} missing", outcome.missing);
    assert_eq!(outcome.exit.number("/destinations/0/sent"), records() as u64);
    assert!(outcome.exit.number("/destinations/0/replayed") > 0);
}

#[test]
fn with_a_margin_nothing_is_missing() {
    nothing_is_missing(&kill_a_slow_tcp_receiver("8MiB"));
}

#[test]
fn with_a_margin_nothing_is_missing_in_tls() {
    nothing_is_missing(&kill_a_slow_tls_receiver("8MiB"));
}

#[test]
fn by_default_only_what_dead_receivers_had_not_read_is_missing() {
    only_what_was_not_read_is_missing(&kill_a_slow_tcp_receiver("unacked"));
}

#[test]
fn by_default_only_what_dead_receivers_had_not_read_is_missing_in_tls() {
    only_what_was_not_read_is_missing(&kill_a_slow_tls_receiver("unacked"));
}

/// A receiver that is reset after less than the margin, each time: it gets new records all the same, and what it leaves
/// unread is less than what is still sent again.
#[test]
fn a_receiver_that_never_gets_past_the_margin_gets_ahead() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).set_recv_buffer_size(64 * 1024).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let options = ["--to", &url, "--replay", "4MiB", "--drain-timeout", "30s"];
    let (relay, feed) = Relay::with(&options).by_hand();
    let records = 20_000;
    let feeding = feed.write_on_a_thread((0..records).flat_map(|number| line(number, 150)).collect());
    let closing = thread::spawn(move || feeding.join().unwrap().close());
    let mut seen = BTreeSet::new();
    for connections in 1.. {
        assert!(connections < 60, "{} of {records} records in {connections} connections", seen.len());
        let mut connection = Connection::Tcp(sink::accept(&listener));
        let (mut bytes, mut space) = (Vec::new(), vec![0; 64 * 1024]);
        let ended = loop {
            match connection.read(&mut space).unwrap() {
                0 => break true,
                count => bytes.extend_from_slice(&space[..count]),
            }
            if bytes.len() >= 1_500_000 {
                break false;
            }
            thread::sleep(Duration::from_millis(1));
        };
        seen.extend(Framing::Octet.cut(&bytes).0.iter().map(|message| serial(&message.text)));
        if ended {
            break;
        }
        connection.reset();
    }
    closing.join().unwrap();
    let exit = relay.exit();
    assert_eq!((seen.len(), exit.status), (records, Some(0)), "{exit:?}");
    assert_eq!(exit.number("/destinations/0/sent"), records as u64);
    assert!(exit.said.contains("sending less of it again"), "{}", exit.said);
}
