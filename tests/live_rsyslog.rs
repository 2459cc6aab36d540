//! The relay against a real rsyslogd: what arrives is every record, once, whole, in order and under the right
//! header fields, over each transport and through a restart of the receiver.
//!
//! The records are a capture of auditd 3.0.9 (`tests/data/string.log`), so these tests need neither root nor a
//! kernel with audit; with root the relay drops to an unprivileged user as it does in service.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/capture.rs"]
mod capture;
#[path = "support/live.rs"]
mod live;

use std::time::Duration;

use capture::{
    Arrival, HOST, assert_same, capture, check_headers, check_short_headers, count, kernel_limit, rounds,
    sequence_ids, sockets_hold, texts, texts_of,
};
use live::{Inlet, Message, Need, Relay, Rsyslogd, System};

/// Every header field of every message that this inlet's form has.
fn check_all_headers(messages: &[Message], inlet: Inlet, relay: u32) {
    match inlet {
        Inlet::UnixDefault => check_short_headers(messages, relay),
        _ => check_headers(messages, relay),
    }
}

/// The whole capture through one inlet.
fn delivers_all(system: System, inlet: Inlet, options: &[&str]) {
    let needs = [Need::Program("rsyslogd"), Need::Program("setpriv")];
    let sid = [Need::Root, Need::Sid, Need::Program("unshare")];
    if !live::have(&needs) || (system == System::Sid && !live::have(&sid)) {
        return;
    }
    let dir = live::temp_dir();
    let rsyslogd = Rsyslogd::start(system, dir.path());
    let lines = capture();
    let expected = texts(&lines);
    assert!(expected.len() > 5000, "the capture is cut: {}", expected.len());

    let mut options = options.to_vec();
    options.extend(["--hostname", HOST]);
    let mut relay = Relay::start(dir.path(), &rsyslogd.url(inlet), &options);
    let pid = relay.pid();
    relay.feed(&lines);
    let (status, report) = relay.finish();
    let messages = rsyslogd.wait_for(expected.len(), Duration::from_secs(20));

    assert!(status.success(), "{status}: {report:?}");
    let mut arrived = texts_of(&messages);
    let mut expected = expected;
    if inlet == Inlet::Udp {
        // UDP promises no order, only that what arrives is whole; on loopback with this buffer all arrives.
        arrived.sort_unstable();
        expected.sort_unstable();
    }
    assert_same(&arrived, &expected);
    check_all_headers(&messages, inlet, pid);
    if inlet != Inlet::UnixDefault {
        let mut ids = sequence_ids(&messages);
        if inlet == Inlet::Udp {
            ids.sort_unstable();
        }
        assert_eq!(ids, (1..=count(expected.len())).collect::<Vec<_>>());
    }

    report.check_sum();
    assert_eq!(report.read, count(lines.len()));
    assert_eq!(report.undecodable, 0);
    assert_eq!(report.filtered, count(lines.len() - expected.len()));
    assert_eq!(report.destinations.len(), 1);
    assert_eq!(report.destinations[0].sent, count(expected.len()));
    assert_eq!(report.destinations[0].lost(), 0);
}

macro_rules! delivers_all {
    ($($host:ident $sid:ident: $inlet:ident $options:expr;)*) => {$(
        #[test]
        fn $host() {
            delivers_all(System::Host, Inlet::$inlet, &$options);
        }

        #[test]
        fn $sid() {
            delivers_all(System::Sid, Inlet::$inlet, &$options);
        }
    )*};
}

delivers_all! {
    // Nothing but the destination is said: the automatic form must be the one an untouched rsyslogd reads.
    unix_default_parser unix_default_parser_newest: UnixDefault [];
    unix_rfc5424 unix_rfc5424_newest: UnixPlain ["--format", "rfc5424"];
    udp udp_newest: Udp [];
    tcp_octet_counting tcp_octet_counting_newest: TcpOctet [];
    tcp_line_feed tcp_line_feed_newest: TcpLf ["--framing", "lf"];
}

/// rsyslogd is stopped between two records, is away while more are read, and comes back.
///
/// Nothing is on its way when it stops, so nothing may be lost or doubled.
fn survives_a_quiet_restart(inlet: Inlet) {
    if !live::have(&[Need::Program("rsyslogd"), Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let mut rsyslogd = Rsyslogd::start(System::Host, dir.path());
    let lines = capture();
    let (before, rest) = lines.split_at(2000);
    let (during, after) = rest.split_at(2000);
    let expected = texts(&lines);

    // Unix defaults to the form without a sequence number; the others show that the numbers go on.
    let mut relay = Relay::start(dir.path(), &rsyslogd.url(inlet), &["--hostname", HOST]);
    let pid = relay.pid();
    relay.feed(before);
    let early = texts(before).len();
    assert_eq!(rsyslogd.wait_for(early, Duration::from_secs(20)).len(), early);

    rsyslogd.stop();
    relay.feed(during);
    std::thread::sleep(Duration::from_millis(500));
    assert!(relay.is_running(), "the relay ended with its receiver");
    assert_eq!(rsyslogd.messages().len(), early, "someone else writes the file");
    rsyslogd.start_again();
    relay.feed(after);
    let messages = rsyslogd.wait_for(expected.len(), Duration::from_secs(30));
    let (status, report) = relay.finish();

    let arrived = texts_of(&messages);
    assert_same(&arrived, &expected);
    check_all_headers(&messages, inlet, pid);
    assert!(status.success(), "{status}: {report:?}");
    report.check_sum();
    assert_eq!(report.read, count(lines.len()));
    assert_eq!(report.destinations[0].sent, count(expected.len()), "{report:?}");
    assert_eq!(report.destinations[0].lost(), 0, "{report:?}");
}

#[test]
fn unix_receiver_restarts_while_quiet() {
    survives_a_quiet_restart(Inlet::UnixDefault);
}

#[test]
fn tcp_receiver_restarts_while_quiet() {
    survives_a_quiet_restart(Inlet::TcpOctet);
}

/// rsyslogd is stopped and started while records pour in.
///
/// Plain syslog has no acknowledgement, so what rsyslogd had accepted and not read when it stopped may be gone
/// without anyone knowing, and what the relay sends again may arrive twice. Everything else is certain: the
/// relay lives, no message is torn, order holds, what was read after the return arrives, and the report adds up.
fn survives_a_restart_under_load(inlet: Inlet) {
    if !live::have(&[Need::Program("rsyslogd"), Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let mut rsyslogd = Rsyslogd::start(System::Host, dir.path());
    let rounds = rounds(20);
    let fed: Vec<String> = rounds.iter().flat_map(|round| texts(round)).collect();
    let mut relay = Relay::start(dir.path(), &rsyslogd.url(inlet), &["--hostname", HOST]);

    let (first, rest) = rounds.split_at(2);
    let (second, third) = rest.split_at(14);
    first.iter().for_each(|round| relay.feed(round));
    rsyslogd.wait_for(3000, Duration::from_secs(20));
    // Far more than can be on its way at once, and at once the stop.
    second.iter().for_each(|round| relay.feed(round));
    rsyslogd.stop();
    let stopped = rsyslogd.messages().len();
    let sent = fed.len() / rounds.len() * (first.len() + second.len());
    assert!(stopped < sent, "the receiver had all {stopped} before it stopped");
    std::thread::sleep(Duration::from_millis(300));
    assert!(relay.is_running(), "the relay ended with its receiver");
    rsyslogd.start_again();
    third.iter().for_each(|round| relay.feed(round));
    // The last record of all: when it is there, so is all that is going to come.
    let last = fed.last().unwrap().clone();
    let arrived = || texts_of(&rsyslogd.messages());
    let complete = live::wait_until(Duration::from_secs(60), || arrived().contains(&last));
    let arrived = arrived();
    let (status, report) = relay.finish();
    assert!(complete, "the last record did not arrive: {report:?}");
    assert!(status.success(), "{status}: {report:?}");
    assert!(stopped < arrived.len(), "nothing arrived after the restart");

    let arrival = Arrival::judge(&fed, &arrived);
    // The rounds that were read with the receiver back are all there.
    let back: usize = third.iter().map(|round| texts(round).len()).sum();
    assert!(arrival.seen[fed.len() - back..].iter().all(|&s| s), "records read after the return are missing");

    let (missing, doubled) = (arrival.missing(), arrival.doubled);
    println!("{inlet:?}: {} records, {missing} missing, {doubled} twice; {report:?}", fed.len());
    report.check_sum();
    assert_eq!(report.read, count(rounds.iter().map(Vec::len).sum()));
    let destination = &report.destinations[0];
    assert!(
        destination.lost() <= missing,
        "more reported lost than is missing: {report:?}, {missing} missing"
    );
    // What went unnoticed had left the relay and was in the sockets of a receiver that closed them.
    let unnoticed = missing - destination.lost();
    if inlet == Inlet::TcpOctet {
        let (bytes, sockets) = (arrival.missing_bytes(&fed), sockets_hold());
        assert!(bytes <= sockets, "{bytes} bytes missing, sockets hold {sockets}");
    } else {
        let queue = kernel_limit("net/unix/max_dgram_qlen") + 1;
        assert!(unnoticed <= queue, "{unnoticed} missing, the socket holds {queue}");
    }
}

#[test]
fn unix_receiver_restarts_under_load() {
    survives_a_restart_under_load(Inlet::UnixDefault);
}

#[test]
fn tcp_receiver_restarts_under_load() {
    survives_a_restart_under_load(Inlet::TcpOctet);
}
