//! What `replay` promises when a slow TCP receiver is killed again and again: with a margin, nothing is missing;
//! without one, at most what the dead receivers' own kernels had acknowledged and nobody read.
//!
//! A record that comes twice keeps its sequenceId, so a receiver can tell.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use support::relay::{Exit, Relay};
use support::sink::{Framing, accept, read_to_end, reset};
use support::{line, serial};

/// Enough that the bound below is far smaller, and that the feed outlasts receivers that lose all they can.
const RECORDS: usize = 240_000;
const KILLS: usize = 5;

/// Asked of the kernel, which doubles it and may have a lower limit (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 256 * 1024;

/// Bytes that a receiver reads before it is killed.
const LIFE: usize = 1_500_000;

/// Reads up to `limit` bytes and no faster than 64 KiB in 2 ms, so that more waits in the sockets.
fn read_slowly(connection: &mut TcpStream, limit: usize) -> Vec<u8> {
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

/// Feeds the relay, and kills its receiver [`KILLS`] times.
fn kill_a_slow_receiver(replay: &str) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A fixed size, inherited by the connections, so that what a dead receiver's kernel can have had is known.
    SockRef::from(&listener).set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let unread_at_most = KILLS * SockRef::from(&listener).recv_buffer_size().unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let (relay, feed) = Relay::to(&url).options(&["--replay", replay, "--drain-timeout", "30s"]).by_hand();
    let input = (0..RECORDS).flat_map(|number| line(number, 150)).collect();
    let feeding = feed.write_on_a_thread(input);
    let mut connections = Vec::new();
    for _ in 0..KILLS {
        let mut connection = accept(&listener);
        connections.push(read_slowly(&mut connection, LIFE));
        reset(connection);
    }
    let mut last = accept(&listener);
    let reading = thread::spawn(move || read_to_end(&mut last));
    feeding.join().unwrap().close();
    let exit = relay.exit();
    connections.push(reading.join().unwrap());

    let (mut seen, mut twice) = (BTreeSet::new(), 0);
    for (at, bytes) in connections.iter().enumerate() {
        let (messages, torn) = Framing::Octet.cut(bytes);
        assert!(at < KILLS || torn.is_empty(), "the last connection ends between messages");
        let numbers: Vec<_> = messages.iter().map(|message| serial(&message.text)).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap inside connection {at}");
        for (message, number) in messages.iter().zip(numbers) {
            assert_eq!(message.sequence(), number as u64 + 1, "a repetition keeps its number");
            twice += usize::from(!seen.insert(number));
        }
    }
    Outcome { exit, missing: RECORDS - seen.len(), twice, unread_at_most }
}

#[test]
fn with_a_margin_nothing_is_missing() {
    let outcome = kill_a_slow_receiver("8MiB");
    assert_eq!(outcome.missing, 0);
    assert_eq!(outcome.exit.number("/destinations/0/sent"), RECORDS as u64);
    let replayed = outcome.exit.number("/destinations/0/replayed");
    assert!(
        replayed > 0 && outcome.twice as u64 <= replayed,
        "{} twice, {replayed} sent again",
        outcome.twice
    );
}

#[test]
fn by_default_only_what_dead_receivers_had_not_read_is_missing() {
    let outcome = kill_a_slow_receiver("unacked");
    // A message is longer than the line that it carries.
    let missing_bytes = outcome.missing * line(0, 150).len();
    assert!(missing_bytes <= outcome.unread_at_most, "{} missing", outcome.missing);
    assert_eq!(outcome.exit.number("/destinations/0/sent"), RECORDS as u64);
    assert!(outcome.exit.number("/destinations/0/replayed") > 0);
}
