//! The receiver dies after every possible number of bytes of a frame: plain syslog with octet counting, and RELP.
//! Whatever the offset, the next connection starts at a message, and every record arrives whole.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::relay::Relay;
use support::relp_sink::{Frame, Peer};
use support::sink::{Framing, Message, accept, read_bytes, read_to_end, reset};
use support::{line, serial};

/// Records fed in each run: the one whose frame is cut, and some behind it.
const RECORDS: usize = 5;

/// A first frame is shorter than this.
const LONGEST: usize = 260;

/// Runs `test` for every offset, a few at a time.
fn at_every_offset(test: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let offset = next.fetch_add(1, Ordering::Relaxed);
                    if offset > LONGEST {
                        return;
                    }
                    test(offset);
                }
            });
        }
    });
}

fn all() -> BTreeSet<usize> {
    (0..RECORDS).collect()
}

fn records() -> Vec<u8> {
    (0..RECORDS).flat_map(|number| line(number, 30)).collect()
}

#[test]
fn a_tcp_receiver_that_dies_at_any_byte_of_a_frame_tears_nothing() {
    at_every_offset(|offset| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        // With a margin, what the dead receiver's kernel had acknowledged comes again too.
        let options = ["--replay", "64KiB", "--drain-timeout", "20s"];
        let (relay, mut feed) = Relay::to(&url).options(&options).by_hand();
        feed.write(&records());
        let mut first = accept(&listener);
        let early = read_bytes(&mut first, offset);
        reset(first);
        let mut second = accept(&listener);
        feed.close();
        let late = read_to_end(&mut second);
        assert_eq!(relay.exit().number("/destinations/0/sent"), RECORDS as u64, "offset {offset}");
        // `cut` panics where a connection does not start at a message.
        let (messages, torn) = Framing::Octet.cut(&late);
        assert!(torn.is_empty(), "offset {offset}");
        let whole = Framing::Octet.cut(&early).0;
        let seen: BTreeSet<_> = whole.iter().chain(&messages).map(|message| serial(&message.text)).collect();
        assert_eq!(seen, all(), "offset {offset}");
    });
}

#[test]
fn a_relp_receiver_that_dies_at_any_byte_of_a_frame_misses_nothing() {
    at_every_offset(|offset| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("relp://{}", listener.local_addr().unwrap());
        let (relay, mut feed) = Relay::to(&url).options(&["--drain-timeout", "20s"]).by_hand();
        feed.write(&records());
        let mut first = accept(&listener);
        let mut bytes = Vec::new();
        let open = loop {
            if let Some((open, _)) = Frame::parse(&bytes) {
                break open;
            }
            bytes.extend(read_bytes(&mut first, 1));
        };
        let offers = b"200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog";
        first.write_all(&Frame::bytes(open.number, "rsp", offers)).unwrap();
        read_bytes(&mut first, offset);
        reset(first);
        let mut second = Peer::open(accept(&listener));
        let mut seen = BTreeSet::new();
        for _ in 0..RECORDS {
            let frame = second.message();
            second.accept(frame.number);
            seen.insert(serial(&Message::read(&frame.data).text));
        }
        feed.close();
        let close = second.frame().expect("the relay closes the session");
        second.send(&Frame::bytes(close.number, "rsp", b""));
        second.say_close();
        assert_eq!(relay.exit().number("/destinations/0/sent"), RECORDS as u64, "offset {offset}");
        assert_eq!(seen, all(), "offset {offset}");
    });
}
