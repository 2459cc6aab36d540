//! The relay against a real rsyslogd: what arrives is every record, once, whole, in order and under the right
//! header fields, over each transport and through a restart of the receiver.
//!
//! The records are a capture of auditd 3.0.9 (`tests/data/string.log`), so these tests need neither root nor a
//! kernel with audit; with root the relay drops to an unprivileged user as it does in service.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use live::{Inlet, Message, Need, Relay, Rsyslogd, System, expected_text, record_millis, record_type};

const HOST: &str = "relay-test.example";

/// The capture: its lines without line feeds.
fn capture() -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/string.log");
    let bytes = fs::read(file).unwrap();
    bytes.strip_suffix(b"\n").unwrap().split(|&b| b == b'\n').map(<[u8]>::to_vec).collect()
}

/// The texts that have to arrive for these lines: all but the EOE records.
fn texts(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().map(|line| expected_text(line)).filter(|text| record_type(text) != "EOE").collect()
}

fn count(n: usize) -> u64 {
    n.try_into().unwrap()
}

/// Fails at the first place where the two differ, which a comparison of six thousand lines would not show.
fn assert_same(arrived: &[String], expected: &[String]) {
    for (n, (a, e)) in arrived.iter().zip(expected).enumerate() {
        assert_eq!(a, e, "record {n} of {}", expected.len());
    }
    assert_eq!(arrived.len(), expected.len(), "records arrived, records expected");
}

/// Every header field of every message.
fn check_headers(messages: &[Message], inlet: Inlet, relay: u32) {
    for (n, m) in messages.iter().enumerate() {
        let at = format!("message {n}: {m:?}");
        assert_eq!(m.facility, "local6", "{at}");
        assert_eq!(m.severity, "info", "{at}");
        assert_eq!(m.app, "auditd", "{at}");
        assert_eq!(m.pid, relay.to_string(), "{at}");
        if inlet == Inlet::UnixDefault {
            // RFC 3164 has no more; host and time are rsyslogd's own.
            continue;
        }
        assert_eq!(m.host, HOST, "{at}");
        assert_eq!(m.msgid, record_type(m.text()), "{at}");
        let time: jiff::Timestamp = m.time.parse().unwrap();
        assert_eq!(time.as_microsecond(), record_millis(m.text()) * 1000, "{at}");
        assert!(m.sd.starts_with("[meta sequenceId=\"") && m.sd.ends_with("\"]"), "{at}");
    }
}

/// The relay's `meta sequenceId` counts the messages of a destination from 1.
fn sequence_ids(messages: &[Message]) -> Vec<u64> {
    let id = |m: &Message| m.sd.split('"').nth(1)?.parse().ok();
    messages.iter().map(|m| id(m).unwrap_or_else(|| panic!("no sequenceId: {m:?}"))).collect()
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
    let mut arrived: Vec<String> = messages.iter().map(|m| m.text().to_owned()).collect();
    let mut expected = expected;
    if inlet == Inlet::Udp {
        // UDP promises no order, only that what arrives is whole; on loopback with this buffer all arrives.
        arrived.sort_unstable();
        expected.sort_unstable();
    }
    assert_same(&arrived, &expected);
    check_headers(&messages, inlet, pid);
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

    let arrived: Vec<String> = messages.iter().map(|m| m.text().to_owned()).collect();
    assert_same(&arrived, &expected);
    check_headers(&messages, inlet, pid);
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
    // Each round of the capture is marked, so that every record fed is a different one.
    let rounds: Vec<Vec<Vec<u8>>> = (0..20)
        .map(|round| {
            let marked = |line: Vec<u8>| [line, format!(" round={round}").into_bytes()].concat();
            capture().into_iter().map(marked).collect()
        })
        .collect();
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
    let arrived = || rsyslogd.messages().into_iter().map(|m| m.text().to_owned()).collect::<Vec<_>>();
    let complete = live::wait_until(Duration::from_secs(60), || arrived().contains(&last));
    let arrived = arrived();
    let (status, report) = relay.finish();
    assert!(complete, "the last record did not arrive: {report:?}");
    assert!(status.success(), "{status}: {report:?}");
    assert!(stopped < arrived.len(), "nothing arrived after the restart");

    // No torn or strange message, and how often each arrived.
    let mut times: HashMap<&str, u64> = fed.iter().map(|text| (text.as_str(), 0)).collect();
    for text in &arrived {
        *times.get_mut(text.as_str()).unwrap_or_else(|| panic!("not a record of the input: {text:?}")) += 1;
    }
    // Order: without what was sent a second time, positions only grow.
    let place: HashMap<&str, usize> = fed.iter().enumerate().map(|(n, text)| (text.as_str(), n)).collect();
    let mut seen = vec![false; fed.len()];
    let mut highest = None;
    for text in &arrived {
        let n = place[text.as_str()];
        if !std::mem::replace(&mut seen[n], true) {
            assert!(highest < Some(n), "record {n} after {highest:?}");
            highest = Some(n);
        }
    }
    // The rounds that were read with the receiver back are all there.
    let back: usize = third.iter().map(|round| texts(round).len()).sum();
    assert!(seen[fed.len() - back..].iter().all(|&s| s), "records read after the return are missing");

    let missing = count(seen.iter().filter(|&&s| !s).count());
    let doubled: u64 = times.values().map(|&n| n.saturating_sub(1)).sum();
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
        let bytes: u64 = seen.iter().zip(&fed).filter(|(s, _)| !**s).map(|(_, text)| count(text.len())).sum();
        let sockets = kernel_limit("net/ipv4/tcp_wmem") + kernel_limit("net/ipv4/tcp_rmem");
        assert!(bytes <= sockets, "{bytes} bytes missing, sockets hold {sockets}");
    } else {
        let queue = kernel_limit("net/unix/max_dgram_qlen") + 1;
        assert!(unnoticed <= queue, "{unnoticed} missing, the socket holds {queue}");
    }
}

/// The last number in a file under `/proc/sys`.
fn kernel_limit(name: &str) -> u64 {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap();
    text.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn unix_receiver_restarts_under_load() {
    survives_a_restart_under_load(Inlet::UnixDefault);
}

#[test]
fn tcp_receiver_restarts_under_load() {
    survives_a_restart_under_load(Inlet::TcpOctet);
}
