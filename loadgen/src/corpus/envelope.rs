//! Records as a syslog client sends them: RFC 5424 headers and framing around each, built before the clock starts.
//!
//! *Promise:* the same records as on a plugin's stdin, each behind `<182>1 MOMENT loadgen auditd - TYPE - ` with the
//! event's own time; auditd's 0x1D is a space.
//! *Law:* a message keeps its length from lap to lap, so its length is written here once; what changes (moment, stamp,
//! mark, RELP's transaction number) has a fixed width.

use std::io::Write as _;

use super::wire::{Line, Wire};
use super::{ENRICHED, stamp, without_node};
use crate::calendar::date;
use crate::floor::Header;

/// Digits of a transaction number, zeros in front.
pub(super) const TXNR_DIGITS: usize = 9;
/// Length of `2026-11-23T09:02:31.000Z`.
pub(super) const MOMENT_LEN: usize = 24;
/// Where the moment is in a header: behind `<182>1 `.
const MOMENT: usize = 7;

/// What a message travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// Nothing: a datagram each
    Bare,
    /// `MESSAGE LF`
    Lf,
    /// `LENGTH SP MESSAGE`
    Octet,
    /// `TXNR SP syslog SP LENGTH SP MESSAGE LF`
    Relp,
}

impl Wire {
    /// The same lap as syslog messages. Only what must arrive is in it.
    pub(crate) fn enveloped(&self, envelope: Envelope) -> Self {
        let mut header = Header::default();
        let mut wire = self.emptied(envelope == Envelope::Relp);
        for line in self.lines.iter().filter(|line| line.sequenced) {
            let text = &self.bytes[line.start..line.end];
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            // A recorded line without a time gets a header without one.
            let header = header.of(without_node(text)).unwrap_or(b"<182>1 - loadgen auditd - - - ");
            let start = wire.bytes.len();
            let len = header.len() + text.len();
            // A Vec takes everything.
            let _ = match envelope {
                Envelope::Bare | Envelope::Lf => Ok(()),
                Envelope::Octet => write!(wire.bytes, "{len} "),
                Envelope::Relp => write!(wire.bytes, "{:0TXNR_DIGITS$} syslog {len} ", 0),
            };
            let head = wire.bytes.len();
            wire.bytes.extend_from_slice(header);
            let body = wire.bytes.len();
            wire.bytes.extend(text.iter().map(|&b| if b == ENRICHED { b' ' } else { b }));
            if matches!(envelope, Envelope::Lf | Envelope::Relp) {
                wire.bytes.push(b'\n');
            }
            let moved = |at: usize| at - line.start + body;
            wire.lines.push(Line {
                start,
                end: wire.bytes.len(),
                moment: line.stamp.map_or(0, |_| head + MOMENT - start),
                stamp: line.stamp.map(moved),
                mark: line.mark.map(moved),
                ..*line
            });
        }
        wire
    }
}

/// The moment of an event as RFC 5424 writes it, formatted anew only where it differs from the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    ms: u64,
    bytes: [u8; MOMENT_LEN],
}

impl Moments {
    /// The moment of `event`.
    pub(super) fn of(&mut self, event: u64) -> &[u8; MOMENT_LEN] {
        let ms = stamp::milliseconds(event);
        if ms != self.ms {
            if ms / 1000 != self.ms / 1000 {
                self.bytes[..19].copy_from_slice(&date(ms / 1000).as_bytes()[..19]);
            }
            self.ms = ms;
            self.bytes[19] = b'.';
            stamp::write_decimal(&mut self.bytes[20..23], ms % 1000);
            self.bytes[23] = b'Z';
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Corpus, Cursor, Mix, Number, Shape, Verdict};
    use super::*;
    use crate::plan::Plan;

    /// Takes the envelope off again, the simple way.
    fn open(envelope: Envelope, bytes: &[u8], n: u64) -> &[u8] {
        match envelope {
            Envelope::Bare => bytes,
            Envelope::Lf => bytes.strip_suffix(b"\n").unwrap(),
            Envelope::Octet => {
                let (len, message) = bytes.split_at(bytes.iter().position(|&b| b == b' ').unwrap());
                assert_eq!(std::str::from_utf8(len).unwrap().parse(), Ok(message.len() - 1));
                &message[1..]
            }
            Envelope::Relp => {
                let text = std::str::from_utf8(bytes).unwrap();
                let mut words = text.splitn(4, ' ');
                assert_eq!(words.next().unwrap().parse(), Ok(n + 2));
                assert_eq!(words.next(), Some("syslog"));
                let len: usize = words.next().unwrap().parse().unwrap();
                let message = words.next().unwrap().strip_suffix('\n').unwrap().as_bytes();
                assert_eq!(message.len(), len);
                message
            }
        }
    }

    #[test]
    fn every_message_of_two_laps_is_judged_whole_in_every_envelope() {
        for envelope in [Envelope::Bare, Envelope::Lf, Envelope::Octet, Envelope::Relp] {
            let Corpus { wire, mut expected } = Corpus::generate(Shape { eoe: true, ..Shape::default() });
            expected.expect_streams(8);
            let mut wire = wire.enveloped(envelope);
            wire.resume(Cursor::new(7));
            for n in 0..9000 {
                let range = wire.prepare(n, n + 5);
                let message = open(envelope, wire.bytes(range), n).to_vec();
                assert!(!message.contains(&ENRICHED));
                let number = Number { stream: 7, sequence: n };
                let whole = Verdict::Whole { number, due_ns: Some(n), written_ns: Some(n + 5) };
                assert_eq!(
                    expected.judge(&message, u64::MAX, &Plan::new(0, None)),
                    whole,
                    "{envelope:?} {n}"
                );
            }
        }
    }

    #[test]
    fn header_and_stamp_agree() {
        let mut wire = Corpus::generate(Shape { mix: Mix::Single, size: Some(200), ..Shape::default() })
            .wire
            .enveloped(Envelope::Bare);
        let mut message = Vec::new();
        for n in 0..=12_345 {
            let range = wire.prepare(n, n);
            message = wire.bytes(range).to_vec();
        }
        let text = String::from_utf8(message).unwrap();
        let head = "<182>1 2026-11-23T09:02:32.234Z loadgen auditd - USER - type=USER msg=audit(1795424552.234:100012345): ";
        assert!(text.starts_with(head), "{text}");
    }

    #[test]
    fn a_bare_sender_repeats_the_first_lap() {
        let mut wire = Corpus::generate(Shape::default()).wire.enveloped(Envelope::Octet);
        let lap = wire.lines.len();
        let messages: Vec<Vec<u8>> = (0..2 * lap as u64)
            .map(|n| {
                let range = wire.pass(n);
                wire.bytes(range).to_vec()
            })
            .collect();
        assert_eq!(messages[..lap], messages[lap..]);
        assert_ne!(messages[0], messages[1]);
    }

    #[test]
    fn recorded_lines_keep_their_own_time() {
        let recorded =
            b"node=a type=CWD msg=audit(1795424551.650:7): cwd=\"/\"\x1dUID=\"root\"\nnoise\ntype=X y\n\
                         type=EOE msg=audit(1795424551.650:7):\n";
        let mut wire = Corpus::replay(recorded).wire.enveloped(Envelope::Lf);
        let mut all = Vec::new();
        while wire.peek().is_some() {
            let range = wire.prepare(1, 1);
            all.extend_from_slice(wire.bytes(range));
        }
        assert_eq!(
            String::from_utf8(all).unwrap(),
            "<182>1 2026-11-23T09:02:31.650Z loadgen auditd - CWD - node=a type=CWD msg=audit(1795424551.650:7): \
             cwd=\"/\" UID=\"root\"\n<182>1 - loadgen auditd - - - type=X y\n"
        );
    }
}
