//! The recorded stream as the live tests feed it, and what has to be true of it at a receiver that is not ours.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::live::{Message, expected_text, record_millis, record_type};

/// `--hostname` of every relay here.
pub(crate) const HOST: &str = "relay-test.example";

/// The capture: its lines without line feeds.
pub(crate) fn capture() -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/string.log");
    let bytes = fs::read(file).unwrap();
    bytes.strip_suffix(b"\n").unwrap().split(|&b| b == b'\n').map(<[u8]>::to_vec).collect()
}

/// The capture again and again, each round marked, so that every record is a different one.
pub(crate) fn rounds(count: usize) -> Vec<Vec<Vec<u8>>> {
    let lines = capture();
    let round = |round: usize| {
        let mark = format!(" round={round}");
        lines.iter().map(|line| [line.as_slice(), mark.as_bytes()].concat()).collect()
    };
    (0..count).map(round).collect()
}

/// The texts that have to arrive for these lines: all but the EOE records.
pub(crate) fn texts(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().map(|line| expected_text(line)).filter(|text| record_type(text) != "EOE").collect()
}

pub(crate) fn texts_of(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| m.text().to_owned()).collect()
}

pub(crate) fn count(n: usize) -> u64 {
    n.try_into().unwrap()
}

/// Fails at the first place where the two differ, which a comparison of six thousand lines would not show.
pub(crate) fn assert_same(arrived: &[String], expected: &[String]) {
    for (n, (a, e)) in arrived.iter().zip(expected).enumerate() {
        assert_eq!(a, e, "record {n} of {}", expected.len());
    }
    assert_eq!(arrived.len(), expected.len(), "records arrived, records expected");
}

/// Every header field that RFC 3164 has; host and time are then the receiver's own.
pub(crate) fn check_short_headers(messages: &[Message], relay: u32) {
    for (n, m) in messages.iter().enumerate() {
        let at = format!("message {n}: {m:?}");
        assert_eq!(m.facility, "local6", "{at}");
        assert_eq!(m.severity, "info", "{at}");
        assert_eq!(m.app, "auditd", "{at}");
        assert_eq!(m.pid, relay.to_string(), "{at}");
    }
}

/// Every header field of RFC 5424.
pub(crate) fn check_headers(messages: &[Message], relay: u32) {
    check_short_headers(messages, relay);
    for (n, m) in messages.iter().enumerate() {
        let at = format!("message {n}: {m:?}");
        assert_eq!(m.host, HOST, "{at}");
        assert_eq!(m.msgid, record_type(m.text()), "{at}");
        let time: jiff::Timestamp = m.time.parse().unwrap();
        assert_eq!(time.as_microsecond(), record_millis(m.text()) * 1000, "{at}");
        assert!(m.sd.starts_with("[meta sequenceId=\"") && m.sd.ends_with("\"]"), "{at}");
    }
}

/// The relay's `meta sequenceId` counts the messages of a destination from 1.
pub(crate) fn sequence_ids(messages: &[Message]) -> Vec<u64> {
    let id = |m: &Message| m.sd.split('"').nth(1)?.parse().ok();
    messages.iter().map(|m| id(m).unwrap_or_else(|| panic!("no sequenceId: {m:?}"))).collect()
}

/// How much of what was fed has arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// For each record fed.
    pub(crate) seen: Vec<bool>,
    /// Arrivals beyond the first of each record.
    pub(crate) doubled: u64,
}

impl Arrival {
    /// Fails where a message is torn or strange, or comes the first time behind one that was fed later.
    pub(crate) fn judge(fed: &[String], arrived: &[String]) -> Self {
        let place: HashMap<&str, usize> =
            fed.iter().enumerate().map(|(n, text)| (text.as_str(), n)).collect();
        assert_eq!(place.len(), fed.len(), "the records are not all different");
        let mut this = Self { seen: vec![false; fed.len()], doubled: 0 };
        let mut highest = None;
        for text in arrived {
            let n =
                *place.get(text.as_str()).unwrap_or_else(|| panic!("not a record of the input: {text:?}"));
            if std::mem::replace(&mut this.seen[n], true) {
                this.doubled += 1;
            } else {
                assert!(highest < Some(n), "record {n} after {highest:?}");
                highest = Some(n);
            }
        }
        this
    }

    pub(crate) fn missing(&self) -> u64 {
        count(self.seen.iter().filter(|&&seen| !seen).count())
    }

    /// Bytes of the texts that have not arrived.
    pub(crate) fn missing_bytes(&self, fed: &[String]) -> u64 {
        self.seen.iter().zip(fed).filter(|(seen, _)| !**seen).map(|(_, text)| count(text.len())).sum()
    }
}

/// The last number in a file under `/proc/sys`.
pub(crate) fn kernel_limit(name: &str) -> u64 {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap();
    text.split_whitespace().last().unwrap().parse().unwrap()
}

/// What the two sockets of a TCP connection can hold, and so lose with the receiver.
pub(crate) fn sockets_hold() -> u64 {
    kernel_limit("net/ipv4/tcp_wmem") + kernel_limit("net/ipv4/tcp_rmem")
}
