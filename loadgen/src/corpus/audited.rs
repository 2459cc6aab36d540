//! Judges records that the kernel made: user messages by their mark, events by the key of the rule they match.
//!
//! *Promise:* every message of the load is counted, and dated by its own stamp; an event is received if all of its
//! records are ([`events`]).
//! *Law:* no allocation per record but what grows with the number of events.
//!
//! The stamp is that of the kernel's coarse clock, cut to a millisecond: the true time is up to a millisecond and a
//! tick of the kernel (4 ms at 250 Hz) later, so a latency from it is up to that much too long, never too short.

mod events;

use memchr::memchr;
use memchr::memmem::Finder;

use self::events::{Events, Place};
pub(crate) use self::events::{Storm, Whole};

use super::{Number, Verdict, has_priority, mark};

/// How much of a torn message is shown.
const SHOWN: usize = 400;

/// What tells a record of the load.
#[derive(Debug)]
enum Sign {
    /// A mark, followed by this.
    Mark(Vec<u8>),
    /// The key of a rule, and the events that it has brought.
    Key(Box<(Finder<'static>, Events)>),
}

/// The judge, and what it has counted.
#[derive(Debug)]
pub(crate) struct Audited {
    sign: Sign,
    mark: Finder<'static>,
    stamp: Finder<'static>,
    start: Finder<'static>,
    highest: u64,
    /// Records that were told to be of the load when they came.
    records: u64,
    /// Events that came after one with a higher serial number.
    pub(crate) reordered: u64,
    /// auditd's version, from its own first record.
    pub(crate) version: Option<String>,
    /// The first message with a mark that was not whole, its beginning.
    pub(crate) first_torn: Option<String>,
}

impl Audited {
    /// Judges user messages whose mark is followed by `tail`.
    pub(crate) fn marked(tail: &[u8]) -> Self {
        Self::new(Sign::Mark(tail.to_vec()))
    }

    /// Judges events of such a storm, which match the rule with this key. Of a record's end `cut` bytes may be missing:
    /// then less of the key must do, and rules of others must not begin like it.
    pub(crate) fn keyed(key: &str, storm: Storm, cut: usize) -> Self {
        let key = format!("key=\"{key}\"");
        let key =
            Finder::new(&key.as_bytes()[..key.len() - cut.min(key.len() - b"key=\"".len())]).into_owned();
        Self::new(Sign::Key(Box::new((key, Events::new(storm)))))
    }

    fn new(sign: Sign) -> Self {
        Self {
            sign,
            mark: Finder::new(mark::NAME),
            stamp: Finder::new(b"msg=audit("),
            start: Finder::new(b"type=DAEMON_START "),
            highest: 0,
            records: 0,
            reordered: 0,
            version: None,
            first_torn: None,
        }
    }

    /// What became of a storm's events; `None` of user messages, whose account is the ledger's.
    pub(crate) fn whole(&self) -> Option<Whole> {
        match &self.sign {
            Sign::Mark(_) => None,
            Sign::Key(of_key) => Some(of_key.1.tally()),
        }
    }

    /// Judges a message, given that `announced` are made.
    pub(super) fn judge(&mut self, message: &[u8], announced: u64) -> Verdict {
        if let Sign::Mark(tail) = &self.sign
            && let Some(at) = self.mark.find(message)
        {
            let bytes = &message[at..];
            let number = mark::read_number(bytes).filter(|number| number.sequence < announced);
            let whole = has_priority(message) && bytes.get(mark::LEN..).is_some_and(|b| b.starts_with(tail));
            return match (number, mark::read_times(bytes)) {
                (Some(number), Some((due_ns, _))) if whole => {
                    self.records += 1;
                    let written_ns = self.stamp_of(message).map(|(_, ns)| ns);
                    Verdict::Whole { number, due_ns: Some(due_ns), written_ns }
                }
                (number, _) => {
                    self.first_torn.get_or_insert_with(|| {
                        String::from_utf8_lossy(&message[..message.len().min(SHOWN)]).into_owned()
                    });
                    Verdict::Torn(number)
                }
            };
        }
        if let Some((serial, ns)) = self.stamp_of(message)
            && let Sign::Key(of_key) = &mut self.sign
        {
            let (key, events) = &mut **of_key;
            let (kind, text) = parts(message);
            // The change of the rules itself is recorded with the key as well.
            match events.enter(serial, kind, text, kind == b"SYSCALL" && key.find(text).is_some()) {
                Place::First { opens } => {
                    if opens {
                        self.reordered += u64::from(serial < self.highest);
                        self.highest = self.highest.max(serial);
                    }
                    self.records += 1;
                    let number = Number { stream: 0, sequence: self.records - 1 };
                    return Verdict::Whole { number, due_ns: None, written_ns: Some(ns) };
                }
                Place::Again => return Verdict::Unmarked,
                Place::Elsewhere => {}
            }
        }
        if self.version.is_none() && self.start.find(message).is_some() {
            self.version = version_of(message);
        }
        Verdict::Unmarked
    }

    /// Serial number and time (ns since 1970) of the record in a message.
    fn stamp_of(&self, message: &[u8]) -> Option<(u64, u64)> {
        let start = self.stamp.find(message)? + self.stamp.needle().len();
        let (seconds, rest) = number(&message[start..])?;
        let (millis, rest) = number(rest.strip_prefix(b".")?)?;
        let (serial, rest) = number(rest.strip_prefix(b":")?)?;
        rest.starts_with(b")").then_some((serial, seconds * 1_000_000_000 + millis * 1_000_000))
    }
}

/// The decimal number at the start of `bytes` (at most eleven digits), and the rest.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take(12).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits == 12 {
        return None;
    }
    let value = bytes[..digits].iter().fold(0, |value, byte| value * 10 + u64::from(byte - b'0'));
    Some((value, &bytes[digits..]))
}

/// Type of the record in a message, and its text behind the stamp; both empty if there is none.
fn parts(message: &[u8]) -> (&[u8], &[u8]) {
    const STAMP: &[u8] = b" msg=audit(";
    // The first stamp, so that no text of a user can claim a type.
    let Some(at) = memchr::memmem::find(message, STAMP) else { return (b"", b"") };
    let (head, rest) = (&message[..at], &message[at + STAMP.len()..]);
    let kind = head.rsplit(|&byte| byte == b' ').next().and_then(|word| word.strip_prefix(b"type="));
    let text = memchr::memmem::find(rest, b"): ").map_or(&b""[..], |end| &rest[end + 3..]);
    (kind.unwrap_or_default(), text)
}

/// The version in auditd's first record.
fn version_of(message: &[u8]) -> Option<String> {
    let start = memchr::memmem::find(message, b" ver=")? + 5;
    let rest = &message[start..];
    let end = memchr(b' ', rest).unwrap_or(rest.len());
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: u64 = 1_795_424_551_649_000_000;

    fn message(kind: &str, serial: u64, text: &str) -> Vec<u8> {
        format!("<182>1 - h auditd - - - type={kind} msg=audit(1795424551.649:{serial}): {text}").into_bytes()
    }

    #[test]
    fn user_messages_are_told_by_mark_and_tail() {
        let mut judge = Audited::marked(b" res=success");
        let text = "pid=1 msg='op=load lg=000.0000000002.18eaab0000000001.0000000000 res=success end'";
        let whole = Verdict::Whole {
            number: Number { stream: 0, sequence: 2 },
            due_ns: Some(0x18ea_ab00_0000_0001),
            written_ns: Some(NS),
        };
        assert_eq!(judge.judge(&message("TRUSTED_APP", 9, text), 3), whole);
        assert_eq!(judge.judge(&message("TRUSTED_APP", 9, text), 2), Verdict::Torn(None), "not sent yet");
        let cut = message("TRUSTED_APP", 9, &text[..text.len() - 8]);
        assert_eq!(judge.judge(&cut, 3), Verdict::Torn(Some(Number { stream: 0, sequence: 2 })));
        assert_eq!(judge.judge(&message("USER_LOGIN", 9, "acct=root"), 3), Verdict::Unmarked);
        assert_eq!(judge.records, 1);
        assert!(judge.first_torn.is_some_and(|text| text.ends_with("res=success end'")));
    }

    #[test]
    fn events_are_told_by_the_key_and_their_records_by_the_serial() {
        let mut judge = Audited::keyed("storm-1", Storm::Open, 0);
        let mut feed = |kind: &str, serial, text: &str| judge.judge(&message(kind, serial, text), u64::MAX);
        let whole = |sequence| Verdict::Whole {
            number: Number { stream: 0, sequence },
            due_ns: None,
            written_ns: Some(NS),
        };
        assert_eq!(feed("SYSCALL", 5, "syscall=59 key=\"storm-1\""), whole(0));
        assert_eq!(feed("SYSCALL", 6, "syscall=59 key=\"storm-12\""), Verdict::Unmarked);
        assert_eq!(feed("PATH", 6, "item=0"), Verdict::Unmarked);
        assert_eq!(feed("SYSCALL", 8, "syscall=59 key=\"storm-1\""), whole(1));
        assert_eq!(feed("PATH", 5, "item=0"), whole(2));
        assert_eq!(feed("EOE", 5, ""), Verdict::Unmarked);
        assert_eq!(feed("CONFIG_CHANGE", 4, "op=add_rule key=\"storm-1\" list=4 res=1"), Verdict::Unmarked);
        assert_eq!(feed("SYSCALL", 8, "syscall=59 key=\"storm-1\""), Verdict::Unmarked);
        assert_eq!(feed("SYSCALL", 7, "syscall=59 key=\"storm-1\""), whole(3));
        let whole = judge.whole().unwrap();
        assert_eq!((whole.incomplete, whole.records, whole.duplicated, judge.reordered), (3, 4, 1, 1));
    }

    #[test]
    fn an_event_whose_key_is_cut_is_told_if_that_may_be() {
        for (cut, known) in [(0, 0), (16, 1)] {
            let mut judge = Audited::keyed("audit-loadgen-4711", Storm::Open, cut);
            judge.judge(&message("SYSCALL", 5, "syscall=257 items=0 key=\"aud"), 0);
            judge.judge(&message("SYSCALL", 6, "syscall=257 items=0 key=(null"), 0);
            assert_eq!(judge.whole().map(|whole| whole.incomplete), Some(known), "{cut}");
        }
    }

    #[test]
    fn the_version_is_auditds_own_word() {
        let mut judge = Audited::keyed("k", Storm::Exec, 0);
        judge.judge(&message("DAEMON_START", 1, "op=start ver=4.2.1 format=enriched"), 0);
        assert_eq!(judge.version.as_deref(), Some("4.2.1"));
    }

    #[test]
    fn broken_stamps_are_no_stamps() {
        let judge = Audited::keyed("k", Storm::Exec, 0);
        for text in [
            "msg=audit(",
            "msg=audit(1.2",
            "msg=audit(1.2:",
            "msg=audit(1.2:3",
            "msg=audit(999999999999.0:1)",
        ] {
            assert_eq!(judge.stamp_of(text.as_bytes()), None, "{text}");
        }
        assert_eq!(judge.stamp_of(b"msg=audit(1.002:3)"), Some((3, 1_002_000_000)));
    }
}
