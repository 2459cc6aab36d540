//! RELP receivers that are silent, refuse, answer nonsense, close, and die in the middle of whatever they are at.
//!
//! RELP promises more than plain syslog can: a record is the receiver's when it has said so. Asserted throughout:
//! nothing is missing in the end, what comes twice keeps its number, and nothing counts as sent before it is
//! answered.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::pki::{Kind, Pki};
use support::relay::{Exit, Feed, Relay};
use support::relp_sink::{Frame, Peer, Received, RelpSink, Reply, Wire};
use support::sink::{ClosedPort, Message, accept};
use support::tls_sink::TlsSink;
use support::{PATIENCE, line, serial, temp_dir, wait_until};

fn relay_to(url: &str, options: &[&str]) -> (Relay, Feed) {
    Relay::to(url).options(&["--drain-timeout", "20s"]).options(options).by_hand()
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("relp://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn write_records(feed: &mut Feed, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| feed.write(&line(number, number % 250)));
}

fn records(total: usize) -> Vec<u8> {
    (0..total).flat_map(|number| line(number, number % 250)).collect()
}

fn serial_in(frame: &Frame) -> usize {
    serial(&Message::read(&frame.data).text)
}

#[track_caller]
fn wait_for_words(relay: &Relay, words: &str) {
    wait_until(&format!("the relay says `{words}`"), || relay.said().contains(words));
}

/// Reads `numbers` and answers for none of them.
#[track_caller]
fn read_messages<W: Wire>(peer: &mut Peer<W>, numbers: std::ops::Range<usize>) -> Vec<Frame> {
    numbers
        .map(|number| {
            let frame = peer.message();
            assert_eq!(serial_in(&frame), number);
            frame
        })
        .collect()
}

/// Answers for everything up to the relay's `close`, and for that. Returns the serials.
#[track_caller]
fn take_the_rest<W: Wire>(peer: &mut Peer<W>) -> Vec<usize> {
    let mut serials = Vec::new();
    loop {
        let frame = peer.frame().expect("the relay closes the session before the connection");
        if frame.command == "close" {
            peer.send(&Frame::bytes(frame.number, "rsp", b""));
            peer.say_close();
            peer.wire().end();
            return serials;
        }
        serials.push(serial_in(&frame));
        peer.accept(frame.number);
    }
}

/// The records among what has come, each with how often it came. Asserts that what comes twice is the same to the last
/// byte, sequenceId included, and that the order is kept within a connection.
#[track_caller]
fn by_serial(received: &[Received]) -> BTreeMap<usize, usize> {
    let mut seen: BTreeMap<usize, (&[u8], usize)> = BTreeMap::new();
    let mut last = None;
    for received in received {
        let message = Message::read(&received.data);
        if message.is_notice() {
            continue;
        }
        let serial = serial(&message.text);
        assert_eq!(message.sequence(), serial as u64 + 1, "the number of {message:?}");
        let (data, times) = seen.entry(serial).or_insert((&received.data, 0));
        assert_eq!(*data, received.data, "a repetition is the same");
        *times += 1;
        if let Some((connection, before)) = last
            && connection == received.connection
        {
            assert!(serial > before, "{serial} after {before} on connection {connection}");
        }
        last = Some((received.connection, serial));
    }
    seen.into_iter().map(|(serial, (_, times))| (serial, times)).collect()
}

/// All `total` records came at least once and count as sent, none as lost.
#[track_caller]
fn nothing_is_missing(received: &[Received], total: usize, exit: &Exit) {
    let seen = by_serial(received);
    let missing: Vec<_> = (0..total).filter(|number| !seen.contains_key(number)).take(5).collect();
    assert!(missing.is_empty(), "{} of {total} have come; missing from {missing:?}", seen.len());
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), total as u64), "{exit:?}");
}

#[track_caller]
fn each_came_once(received: &[Received], total: usize) {
    let seen = by_serial(received);
    assert_eq!(seen.len(), total);
    assert!(seen.values().all(|times| *times == 1), "some came twice");
}

/// Feeds `total` records to a relay for `sink`.
#[track_caller]
fn relay_all(sink: &mut RelpSink, total: usize, options: &[&str]) -> (Vec<Received>, Exit) {
    let (relay, feed) = relay_to(&sink.url, options);
    feed.write_on_a_thread(records(total)).join().unwrap().close();
    let exit = relay.exit();
    // A check of the server that has failed fails here.
    sink.messages_after_exit();
    (sink.so_far(), exit)
}

/// TLS around RELP, with what the relay has to be told for it. The folder goes with the authority's file.
fn in_tls() -> (TlsSink, tempfile::TempDir, String) {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let sink = TlsSink::new(&pki.server("server", Kind::Good));
    let ca = pki.ca_file().to_str().unwrap().to_owned();
    (sink, dir, ca)
}

// ---------------------------------------------------------------------------------------------------------
// The usual

/// That the transaction numbers are 1, 2, 3, ... the server asserts at each frame.
#[test]
fn every_record_comes_once_and_in_order() {
    for window in ["2", "3", "128", "1000"] {
        let mut sink = RelpSink::tcp(|_| Reply::Accept);
        let (received, exit) = relay_all(&mut sink, 3000, &["--relp-window", window]);
        each_came_once(&received, 3000);
        nothing_is_missing(&received, 3000, &exit);
        let number = |name: &str| exit.number(&format!("/destinations/0/{name}"));
        assert_eq!((number("failures"), number("replayed"), number("reconnects")), (0, 0, 0));
        assert_eq!(sink.closed_in_order(), [0], "the session ends with `close`");
    }
}

#[test]
fn every_record_comes_once_and_in_order_in_tls() {
    let (tls, _dir, ca) = in_tls();
    let mut sink = RelpSink::tls(tls, |_| Reply::Accept);
    let (received, exit) = relay_all(&mut sink, 3000, &["--tls-ca", &ca]);
    each_came_once(&received, 3000);
    nothing_is_missing(&received, 3000, &exit);
    assert_eq!(sink.closed_in_order(), [0]);
}

/// While the receiver answers nothing, no more comes than the window has room for.
fn window_is_kept(window: usize) {
    let total = 6 * window;
    let (listener, url) = listen();
    let (relay, feed) = relay_to(&url, &["--relp-window", &window.to_string()]);
    let feeding = feed.write_on_a_thread(records(total));
    let mut peer = Peer::open(accept(&listener));
    let (mut next, mut fullest) = (0, 0);
    while next < total {
        // All that comes without an answer.
        let mut frames: Vec<Frame> = Vec::new();
        peer.wire().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        loop {
            match peer.try_frame() {
                Ok(frame) => frames.push(frame.expect("the relay sends on")),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    if !frames.is_empty() {
                        break;
                    }
                }
            }
            assert!(frames.len() <= window, "{} messages for a window of {window}", frames.len());
        }
        fullest = fullest.max(frames.len());
        for frame in frames {
            assert_eq!(serial_in(&frame), next);
            next += 1;
            peer.accept(frame.number);
        }
    }
    assert_eq!(fullest, window, "the window is used");
    peer.wire().set_read_timeout(Some(PATIENCE)).unwrap();
    feeding.join().unwrap().close();
    assert!(take_the_rest(&mut peer).is_empty());
    assert_eq!(relay.exit().number("/destinations/0/sent"), total as u64);
}

#[test]
fn the_window_is_never_exceeded() {
    window_is_kept(2);
    window_is_kept(128);
}

// ---------------------------------------------------------------------------------------------------------
// Silence

/// What the receiver's kernel has acknowledged is nothing to RELP.
fn never_answered<W: Wire>(url: &str, options: &[&str], mut next: impl FnMut() -> Peer<W>) {
    let options = [&["--tcp-user-timeout", "2s"], options].concat();
    let (relay, mut feed) = relay_to(url, &options);
    write_records(&mut feed, 0..50);
    let mut first = next();
    let once = read_messages(&mut first, 0..50);
    let mut second = next();
    let again = read_messages(&mut second, 0..50);
    assert_eq!(once, again, "the same with the same numbers, the connection's own included");
    let report = relay.report();
    assert_eq!(report["destinations"][0]["sent"], 0, "{report}");
    assert_eq!(report["destinations"][0]["replayed"], 50, "{report}");
    assert!(
        relay.said().contains("no answer from the receiver for 2 s (tcp-user-timeout)"),
        "{}",
        relay.said()
    );
    again.iter().for_each(|frame| second.accept(frame.number));
    relay.wait_for("/destinations/0/sent", 50);
    feed.close();
    assert!(take_the_rest(&mut second).is_empty());
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 50));
}

#[test]
fn what_is_never_answered_is_sent_again() {
    let (listener, url) = listen();
    never_answered(&url, &[], || Peer::open(accept(&listener)));
}

#[test]
fn what_is_never_answered_is_sent_again_in_tls() {
    let (tls, _dir, ca) = in_tls();
    never_answered(&tls.url("relps"), &["--tls-ca", &ca], || Peer::open(tls.accept()));
}

/// Once the window is full the relay waits in another place than with everything sent.
#[test]
fn a_full_window_that_is_never_answered_is_sent_again() {
    let (listener, url) = listen();
    let (relay, feed) = relay_to(&url, &["--tcp-user-timeout", "1s", "--relp-window", "8"]);
    let feeding = feed.write_on_a_thread(records(1000));
    let silent = Peer::open(accept(&listener));
    let mut peer = Peer::open(accept(&listener));
    feeding.join().unwrap().close();
    assert_eq!(take_the_rest(&mut peer), (0..1000).collect::<Vec<_>>());
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 1000));
    assert!(exit.number("/destinations/0/replayed") >= 1, "{exit:?}");
    drop(silent);
}

/// Records that go on coming do not put off the end of one that answers nothing.
#[test]
fn a_receiver_that_answers_nothing_is_given_up_while_records_trickle_in() {
    let (listener, url) = listen();
    let (relay, mut feed) = relay_to(&url, &["--tcp-user-timeout", "1s"]);
    let silent = Peer::open(accept(&listener));
    let mut fed = 0;
    while relay.report()["destinations"][0]["failures"].as_u64() != Some(1) {
        assert!(fed < 120, "after {fed} records it is still waited for");
        write_records(&mut feed, fed..fed + 1);
        fed += 1;
        // Well within the second.
        thread::sleep(Duration::from_millis(250));
    }
    let mut second = Peer::open(accept(&listener));
    feed.close();
    assert_eq!(take_the_rest(&mut second), (0..fed).collect::<Vec<_>>());
    assert_eq!(relay.exit().number("/destinations/0/sent"), fed as u64);
    drop(silent);
}

/// Answers to what comes later do not stand for what came before.
#[test]
fn one_message_that_is_never_answered_holds_up_the_count_and_comes_again() {
    let (listener, url) = listen();
    let (relay, mut feed) = relay_to(&url, &["--tcp-user-timeout", "2s"]);
    write_records(&mut feed, 0..50);
    let mut first = Peer::open(accept(&listener));
    let frames = read_messages(&mut first, 0..50);
    frames.iter().filter(|frame| serial_in(frame) != 7).for_each(|frame| first.accept(frame.number));
    relay.wait_for("/destinations/0/failures", 1);
    // A batch counts as sent when all of it is.
    let sent = relay.report()["destinations"][0]["sent"].as_u64().unwrap();
    assert!(sent <= 7, "{sent}");
    let mut second = Peer::open(accept(&listener));
    feed.close();
    assert_eq!(take_the_rest(&mut second), (7..50).collect::<Vec<_>>());
    assert_eq!(relay.exit().number("/destinations/0/sent"), 50);
}

/// Bytes that never make an answer are no sign of life.
#[test]
fn a_receiver_that_dribbles_is_given_up() {
    let (listener, url) = listen();
    let (relay, mut feed) = relay_to(&url, &["--tcp-user-timeout", "1s"]);
    write_records(&mut feed, 0..50);
    let mut first = Peer::open(accept(&listener));
    read_messages(&mut first, 0..50);
    first.send(b"2 rsp 16000 200 ");
    wait_until("the relay has given up", || {
        thread::sleep(Duration::from_millis(20));
        first.wire().write_all(b"x").is_err()
    });
    let mut second = Peer::open(accept(&listener));
    feed.close();
    assert_eq!(take_the_rest(&mut second), (0..50).collect::<Vec<_>>());
    assert_eq!(relay.exit().number("/destinations/0/sent"), 50);
}

/// Everything is under way and nothing answered when the time is over: none of it may vanish from the books. The
/// relay has been under load since it connected.
#[test]
fn what_is_not_answered_at_the_end_is_lost_and_counted() {
    for window in ["8", "1000"] {
        let port = ClosedPort::new();
        let url = format!("relp://{}", port.address());
        let options = ["--relp-window", window, "--drain-timeout", "2s"];
        let (relay, feed) = Relay::to(&url).options(&options).by_hand();
        let feed = feed.write_on_a_thread(records(2000)).join().unwrap();
        relay.wait_for("/read", 2000);
        let silent = Peer::open(accept(&port.listen()));
        feed.close();
        let exit = relay.exit();
        let number = |name: &str| exit.number(&format!("/destinations/0/{name}"));
        assert_eq!((number("sent"), number("lost/drain_deadline")), (0, 2000), "window {window}: {exit:?}");
        drop(silent);
    }
}

/// The same with an heir.
#[test]
fn what_is_not_answered_at_the_end_is_handed_over() {
    let heritage = temp_dir();
    for window in ["8", "1000"] {
        let folder = heritage.path().join(window);
        let port = ClosedPort::new();
        let url = format!("relp://{}", port.address());
        let options = ["--to", &url, "--relp-window", window, "--handover", folder.to_str().unwrap()];
        let (relay, feed) = Relay::with(&options).options(&["--drain-timeout", "2s"]).by_hand();
        let feed = feed.write_on_a_thread(records(2000)).join().unwrap();
        relay.wait_for("/read", 2000);
        let listener = port.listen();
        let silent = Peer::open(accept(&listener));
        feed.close();
        let exit = relay.exit();
        let number = |name: &str| exit.number(&format!("/destinations/0/{name}"));
        assert_eq!((number("sent"), number("handed_over")), (0, 2000), "window {window}: {exit:?}");
        drop(silent);
        let (relay, feed) = Relay::with(&options).options(&["--drain-timeout", "20s"]).by_hand();
        let mut heir = Peer::open(accept(&listener));
        feed.close();
        assert_eq!(take_the_rest(&mut heir), (0..2000).collect::<Vec<_>>());
        assert_eq!(relay.exit().number("/destinations/0/sent"), 2000);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Strange answers

#[test]
fn answers_out_of_order_are_taken() {
    let mut count = 0;
    let mut sink = RelpSink::tcp(move |_| {
        count += 1;
        if count % 10 == 0 { Reply::ReleaseBackwards } else { Reply::Hold }
    });
    let (received, exit) = relay_all(&mut sink, 3000, &[]);
    each_came_once(&received, 3000);
    nothing_is_missing(&received, 3000, &exit);
    assert_eq!(exit.number("/destinations/0/failures"), 0);
}

#[test]
fn answers_that_gather_are_taken() {
    let mut count = 0;
    let mut sink = RelpSink::tcp(move |_| {
        count += 1;
        if count % 50 == 0 { Reply::Release } else { Reply::Hold }
    });
    let (received, exit) = relay_all(&mut sink, 3000, &[]);
    each_came_once(&received, 3000);
    nothing_is_missing(&received, 3000, &exit);
}

/// On the first three connections the answer to transaction 32 is `answer`.
fn survives(answer: &'static [u8], words: &str) {
    let mut sink = RelpSink::tcp(move |received| {
        if received.connection < 3 && received.number == 32 { Reply::Garbage(answer) } else { Reply::Accept }
    });
    let (received, exit) = relay_all(&mut sink, 500, &["--tcp-user-timeout", "5s"]);
    let shown = answer.escape_ascii();
    nothing_is_missing(&received, 500, &exit);
    assert_eq!(received.last().unwrap().connection, 3, "`{shown}` ends the connection");
    assert_eq!(exit.number("/destinations/0/failures"), 3, "`{shown}`");
    assert!(exit.said.contains(words), "`{shown}`: {}", exit.said);
}

#[test]
fn an_answer_that_comes_twice_ends_the_connection() {
    survives(b"32 rsp 6 200 OK\n32 rsp 6 200 OK\n", "answered what it was not asked");
}

#[test]
fn an_answer_to_what_was_not_sent_ends_the_connection() {
    survives(b"999999 rsp 6 200 OK\n", "answered what it was not asked");
    survives(b"0 rsp 6 200 OK\n", "answered what it was not asked");
}

#[test]
fn answers_that_are_none_end_the_connection() {
    const NOT_RELP: &str = "is not RELP";
    survives(b"HTTP/1.1 400 Bad Request\r\n\r\n", NOT_RELP);
    survives(b"\0\xff\x80garbage", NOT_RELP);
    survives(b"\n", NOT_RELP);
    survives(b"32 rsp 6 200 OKAY\n", NOT_RELP);
    survives(b"32 rsp -6 200 OK\n", NOT_RELP);
    survives(b"32 rsp 1000000000 200 OK\n", NOT_RELP);
    survives(b"32 rsp 999999999 200 OK\n", NOT_RELP);
    survives(b"1000000000 rsp 6 200 OK\n", NOT_RELP);
    survives(b"99999999999999999999 rsp 6 200 OK\n", NOT_RELP);
    survives(b"32 rsp 2 OK\n", "has no code");
    survives(b"32 syslog 6 200 OK\n", "RELP does not know");
}

/// Without end and without ever being an answer: it must cost neither memory nor the records.
#[test]
fn a_flood_ends_the_connection() {
    let long = [b"2 rsp 16000 200 ", [b'x'; 1000].as_slice()].concat();
    let floods: [&[u8]; 6] =
        [b"x", b"1", b" ", b"2 rsp 9 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &long, b"2 aaaaaaaaaa"];
    for flood in floods {
        let (listener, url) = listen();
        let (relay, mut feed) = relay_to(&url, &[]);
        write_records(&mut feed, 0..50);
        let mut first = Peer::open(accept(&listener));
        read_messages(&mut first, 0..50);
        let flood = flood.repeat(64 * 1024 / flood.len());
        first.wire().set_write_timeout(Some(PATIENCE)).unwrap();
        let end = Instant::now() + PATIENCE;
        while first.wire().write_all(&flood).is_ok() {
            assert!(Instant::now() < end, "the relay listens to it for ever");
        }
        let mut second = Peer::open(accept(&listener));
        feed.close();
        assert_eq!(take_the_rest(&mut second), (0..50).collect::<Vec<_>>());
        let exit = relay.exit();
        assert_eq!(exit.number("/destinations/0/sent"), 50);
        assert_eq!(exit.number("/destinations/0/failures"), 1);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Refusals

#[test]
fn one_message_that_is_refused_for_good_is_lost_alone_and_the_receiver_hears_of_it() {
    let mut sink = RelpSink::tcp(|received| {
        let message = Message::read(&received.data);
        if !message.is_notice() && serial(&message.text) == 40 {
            Reply::Refuse("I never liked it")
        } else {
            Reply::Accept
        }
    });
    let (relay, mut feed) = relay_to(&sink.url, &[]);
    write_records(&mut feed, 0..100);
    wait_until("one is lost", || relay.report()["destinations"][0]["lost"]["refused"] == 1);
    // The notice goes before the next record at the latest.
    write_records(&mut feed, 100..200);
    feed.close();
    let exit = relay.exit();
    let messages = sink.messages_after_exit();
    let number = |name: &str| exit.number(&format!("/destinations/0/{name}"));
    assert_eq!((number("sent"), number("lost/refused"), number("failures")), (199, 1, 0), "{exit:?}");
    let seen = by_serial(&sink.so_far());
    assert_eq!(seen.len(), 200);
    assert!(seen.values().all(|times| *times == 1), "each came once");
    let notices: Vec<_> = messages.iter().filter(|message| message.is_notice()).collect();
    let [notice] = notices[..] else { panic!("{notices:?}") };
    assert_eq!(notice.rfc5424.as_ref().unwrap().msgid, "LOST");
    assert_eq!((notice.field("records"), notice.field("reason")), (Some("1"), Some("refused")), "{notice:?}");
    assert_eq!(notice.field("first"), notice.field("last"));
    assert!(notice.field("first").unwrap().ends_with(":40"), "{notice:?}");
}

/// A receiver that can write nothing at the moment refuses everything. The records are not to blame.
fn refused_for_a_while(sink: &mut RelpSink, options: &[&str]) {
    let (received, exit) = relay_all(sink, 1000, options);
    nothing_is_missing(&received, 1000, &exit);
    assert!(exit.report["destinations"][0]["lost"].as_object().unwrap().values().all(|n| n == 0), "{exit:?}");
    assert!(exit.said.contains("the receiver refuses every message"), "{}", exit.said);
    assert!(received.last().unwrap().connection >= 3);
}

#[test]
fn a_receiver_that_refuses_everything_for_a_while_gets_everything_later() {
    let policy = |received: &Received| {
        if received.connection < 3 { Reply::Refuse("disk full") } else { Reply::Accept }
    };
    refused_for_a_while(&mut RelpSink::tcp(policy), &[]);
    refused_for_a_while(&mut RelpSink::tcp(policy), &["--relp-window", "2"]);
    let (tls, _dir, ca) = in_tls();
    refused_for_a_while(&mut RelpSink::tls(tls, policy), &["--tls-ca", &ca]);
}

/// It had taken some before its disk was full.
#[test]
fn a_receiver_that_refuses_everything_from_some_point_on_gets_everything_later() {
    let policy = |received: &Received| {
        if received.connection < 3 && received.number > 300 {
            Reply::Refuse("disk full")
        } else {
            Reply::Accept
        }
    };
    refused_for_a_while(&mut RelpSink::tcp(policy), &[]);
}

// ---------------------------------------------------------------------------------------------------------
// Sessions that do not come about

#[track_caller]
fn not_opened(answer: &[u8], words: &str) {
    let (listener, url) = listen();
    let (mut relay, mut feed) = relay_to(&url, &[]);
    write_records(&mut feed, 0..50);
    for _ in 0..3 {
        let mut peer = Peer::new(accept(&listener));
        let open = peer.frame().unwrap();
        assert_eq!((open.number, open.command.as_str()), (1, "open"));
        peer.send(answer);
        assert!(matches!(peer.try_frame(), Ok(None) | Err(_)), "no message goes there");
    }
    wait_for_words(&relay, words);
    wait_for_words(&relay, "trying again until it works");
    assert!(relay.is_running());
    assert_eq!(relay.report()["destinations"][0]["sent"], 0);
    let mut peer = Peer::open(accept(&listener));
    feed.close();
    assert_eq!(take_the_rest(&mut peer), (0..50).collect::<Vec<_>>());
    let exit = relay.exit();
    assert_eq!((exit.number("/destinations/0/sent"), exit.number("/destinations/0/replayed")), (50, 0));
}

#[test]
fn a_session_that_is_refused_is_tried_again() {
    not_opened(&Frame::bytes(1, "rsp", b"500 not today"), "the receiver refuses the session: 500 not today");
    not_opened(b"0 serverclose 0\n", "the receiver refuses the session");
}

#[test]
fn a_receiver_that_takes_no_syslog_is_tried_again() {
    let offers = b"200 OK\nrelp_version=0\nrelp_software=other\ncommands=eventlog,syslogish";
    not_opened(&Frame::bytes(1, "rsp", offers), "does not offer to take syslog messages");
}

#[test]
fn a_port_that_does_not_speak_relp_is_told_apart() {
    not_opened(b"220 mail.example.org ESMTP\r\n", "is it a RELP port?");
}

/// A reason is text of a stranger's: it must not write lines of its own into the log.
#[test]
fn a_refusal_cannot_forge_the_log() {
    not_opened(
        &Frame::bytes(1, "rsp", b"500 x\naudit-relay: all is well\x1b[2J"),
        "500 x\\naudit-relay: all is well\\u{1b}[2J",
    );
}

#[test]
fn an_opening_that_hangs_is_given_up() {
    let (listener, url) = listen();
    let (relay, mut feed) = relay_to(&url, &["--connect-timeout", "2s"]);
    write_records(&mut feed, 0..50);
    let mut mute = Peer::new(accept(&listener));
    assert_eq!(mute.frame().unwrap().command, "open");
    let mut peer = Peer::open(accept(&listener));
    feed.close();
    assert_eq!(take_the_rest(&mut peer), (0..50).collect::<Vec<_>>());
    let exit = relay.exit();
    assert!(exit.said.contains("the opening of RELP took more than 2 s (connect-timeout)"), "{}", exit.said);
}

// ---------------------------------------------------------------------------------------------------------
// Receivers that go

/// Every 100th message meets a receiver that stops.
#[test]
fn a_receiver_that_closes_in_mid_stream_misses_nothing() {
    let mut count = 0;
    let policy = move |_: &Received| {
        count += 1;
        if count % 100 == 0 && count <= 500 { Reply::ServerClose } else { Reply::Accept }
    };
    let mut sink = RelpSink::tcp(policy);
    let (received, exit) = relay_all(&mut sink, 3000, &[]);
    nothing_is_missing(&received, 3000, &exit);
    assert!(received.last().unwrap().connection >= 5);
    let (tls, _dir, ca) = in_tls();
    let mut count = 0;
    let mut sink = RelpSink::tls(tls, move |_| {
        count += 1;
        if count % 100 == 0 && count <= 500 { Reply::ServerClose } else { Reply::Accept }
    });
    let (received, exit) = relay_all(&mut sink, 3000, &["--tls-ca", &ca]);
    nothing_is_missing(&received, 3000, &exit);
}

/// The hint alone, with the connection left open, as from a server that waits for its clients to go.
#[test]
fn a_receiver_that_says_it_closes_is_left_at_once() {
    let (listener, url) = listen();
    let (relay, mut feed) = relay_to(&url, &[]);
    write_records(&mut feed, 0..20);
    let mut first = Peer::open(accept(&listener));
    read_messages(&mut first, 0..20).iter().for_each(|frame| first.accept(frame.number));
    relay.wait_for("/destinations/0/sent", 20);
    first.say_close();
    let mut second = Peer::open(accept(&listener));
    write_records(&mut feed, 20..40);
    feed.close();
    assert_eq!(take_the_rest(&mut second), (20..40).collect::<Vec<_>>());
    assert_eq!(relay.exit().number("/destinations/0/replayed"), 0);
}

/// Four receivers, each killed five times: the waits between attempts grow with each death.
const KILLS: usize = 5;

fn killed_again_and_again(mut sink: RelpSink, options: &[&str]) {
    const TOTAL: usize = 10_000;
    let (received, exit) = relay_all(&mut sink, TOTAL, options);
    nothing_is_missing(&received, TOTAL, &exit);
    let number = |name: &str| exit.number(&format!("/destinations/0/{name}"));
    assert_eq!(number("failures"), KILLS as u64);
    // What was read but not answered for comes again, and nothing else.
    let twice = (received.len() - TOTAL) as u64;
    assert!(twice > 0 && twice <= number("replayed"), "{twice} came twice: {exit:?}");
}

/// Resets a connection at its 777th message. What was read before is answered for or not, as it happens.
fn killer(received: &Received) -> Reply {
    match received.number {
        _ if received.connection >= KILLS => Reply::Accept,
        778 => Reply::Reset,
        number if number % 10 == 0 => Reply::Release,
        _ => Reply::Hold,
    }
}

#[test]
fn receivers_that_are_killed_20_times_under_load_miss_nothing() {
    thread::scope(|scope| {
        for window in ["20", "64", "128", "1000"] {
            scope.spawn(move || killed_again_and_again(RelpSink::tcp(killer), &["--relp-window", window]));
        }
    });
}

#[test]
fn receivers_that_are_killed_20_times_under_load_miss_nothing_in_tls() {
    thread::scope(|scope| {
        for window in ["20", "64", "128", "1000"] {
            scope.spawn(move || {
                let (tls, _dir, ca) = in_tls();
                killed_again_and_again(
                    RelpSink::tls(tls, killer),
                    &["--tls-ca", &ca, "--relp-window", window],
                );
            });
        }
    });
}

/// A connection that can be read for so many bytes only.
struct Limited {
    tcp: TcpStream,
    left: usize,
}

impl Read for Limited {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let room = space.len().min(self.left);
        if room == 0 {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let count = self.tcp.read(&mut space[..room])?;
        self.left -= count;
        Ok(count)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Limited {
    fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn end(&mut self) {
        self.tcp.end();
    }

    fn reset(self) {
        self.tcp.reset();
    }
}

/// Takes a connection, answers what comes in `limit` bytes, and resets it.
#[track_caller]
fn receive(listener: &TcpListener, connection: usize, limit: usize, received: &mut Vec<Received>) {
    let mut peer = Peer::new(Limited { tcp: accept(listener), left: limit });
    while let Ok(Some(frame)) = peer.try_frame() {
        match frame.command.as_str() {
            "open" => peer.accept_offers(&frame),
            "close" => {
                peer.send(&Frame::bytes(frame.number, "rsp", b""));
                peer.say_close();
                peer.wire().end();
                return;
            }
            _ => {
                peer.accept(frame.number);
                received.push(Received { connection, number: frame.number, data: frame.data });
            }
        }
    }
    peer.reset();
}

fn reset_three_times_at(offset: usize) {
    const ROUND: usize = 1000;
    let (listener, url) = listen();
    let (relay, mut feed) = relay_to(&url, &[]);
    let mut received = Vec::new();
    for round in 0..3 {
        // A round is enough for any offset, whatever was answered before.
        write_records(&mut feed, round * ROUND..(round + 1) * ROUND);
        receive(&listener, round, offset, &mut received);
    }
    write_records(&mut feed, 3 * ROUND..4 * ROUND);
    feed.close();
    let reading = thread::spawn(move || {
        receive(&listener, 3, usize::MAX, &mut received);
        received
    });
    let exit = relay.exit();
    nothing_is_missing(&reading.join().unwrap(), 4 * ROUND, &exit);
    assert!(exit.number("/destinations/0/failures") >= 3);
}

/// The frame of `open` has some 120 bytes, messages from 200 to 450.
#[test]
fn a_receiver_that_is_reset_at_many_byte_offsets_misses_nothing() {
    thread::scope(|scope| {
        let offsets =
            [0, 1, 2, 7, 60, 110, 120, 130, 150, 200, 333, 400, 1000, 4096, 10_007, 33_333, 65_536, 100_003];
        let runs = offsets.map(|offset| scope.spawn(move || reset_three_times_at(offset)));
        for (run, offset) in runs.into_iter().zip(offsets) {
            assert!(run.join().is_ok(), "reset after {offset} bytes");
        }
    });
}

/// Two reloads while the relay waits for an answer, the second without the destination: the first, unheard until then,
/// must not be heard again and again.
#[test]
fn a_destination_that_is_removed_while_it_waits_costs_no_cpu() {
    const DONE: &str = "the configuration was read again";
    let (listener, url) = listen();
    let (_other, other_url) = listen();
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    let reload = |relay: Option<&Relay>, urls: &[&str]| {
        std::fs::write(&file, format!("relp-window = 2\ndrain-timeout = \"1min\"\nto = {urls:?}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        if let Some(relay) = relay {
            let before = relay.said().matches(DONE).count();
            relay.signal(Signal::SIGHUP);
            wait_until("the reload is done", || relay.said().matches(DONE).count() > before);
        }
    };
    reload(None, &[&other_url, &url]);
    let (relay, mut feed) = Relay::with(&["--config", file.to_str().unwrap()]).by_hand();
    let mut peer = Peer::open(accept(&listener));
    write_records(&mut feed, 0..10);
    // The window is full: the relay waits for an answer, and for nothing else.
    let mut frames = read_messages(&mut peer, 0..2);
    reload(Some(&relay), &[&other_url, &url]);
    reload(Some(&relay), &[&other_url]);
    for number in 2..10 {
        peer.accept(frames[number - 2].number);
        frames.extend(read_messages(&mut peer, number..number + 1));
    }
    peer.accept(frames[8].number);
    let begun = relay.cpu_ticks();
    thread::sleep(Duration::from_secs(2));
    let ticks = relay.cpu_ticks() - begun;
    assert!(ticks <= 3, "{ticks} of 200 hundredths of a second");
    peer.accept(frames[9].number);
    wait_until("the last one is sent", || relay.report()["destinations"][1]["sent"] == 10);
}
