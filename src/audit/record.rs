//! One record: node, type and stamp found in its text, nothing copied.
//!
//! Promise: any bytes give a [`Record`]; what could not be read in it is `None`. The text itself is
//! never judged, only borrowed.
//!
//! The grammar, as auditd 2.6 to 4.2 prints it (type and stamp are the kernel's and auditd's own words
//! and can be trusted; everything after `): ` may be an attacker's):
//!
//! ```text
//! [node=NAME SP] type=TYPE SP msg=audit(SEC.MSEC:SERIAL): BODY [0x1D ENRICHMENT]      text, binary version 1
//! audit(SEC.MSEC:SERIAL): BODY                                                        binary version 0
//! ```

use core::fmt;

use super::stamp::{self, Reader};
use super::types;

/// The moment and number that all records of one event share.
///
/// The serial restarts at boot and `DAEMON_*` records draw from a sequence of their own, so only the
/// pair names an event.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01T00:00:00Z. 0 <= ms <= [`Stamp::MAX_MS`].
    pub ms: u64,
    /// The event's serial number.
    pub serial: u32,
}

impl Stamp {
    /// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write.
    pub const MAX_MS: u64 = 253_402_300_799_999;
}

impl fmt::Display for Stamp {
    /// Writes `SEC.MSEC:SERIAL`, the form that `ausearch` and the record itself use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}:{}", self.ms / 1000, self.ms % 1000, self.serial)
    }
}

/// A record's type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind<'a> {
    /// The name as printed, e.g. `SYSCALL` or `UNKNOWN[1399]`: 1 to 32 printable ASCII characters.
    Named(&'a [u8]),
    /// The number out of a binary header, where libaudit has no name for it.
    Numbered(u32),
}

/// The value of a `key=` field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key<'a> {
    /// It stood in quotes.
    Plain(&'a [u8]),
    /// It stood bare, which the kernel does with values in hex: those with odd characters, and several keys
    /// joined by 0x01.
    Encoded(&'a [u8]),
}

/// One audit record, borrowed from the input block.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The record's text without its line end. In a record that came as a version 0 frame it starts
    /// at `audit(`; see [`Record::needs_prefix`].
    pub text: &'a [u8],
    /// True where `text` lacks the words `type=TYPE msg=` that the string form has.
    pub needs_prefix: bool,
    /// Value of the leading `node=`, as written by the machine that the record comes from. `None` where there is none, or
    /// `(null)`: what auditd writes when a reload has turned `name_format` on (seen from 2.8.5 to 4.2.1), and from 4.2 on
    /// after every reload.
    pub node: Option<&'a [u8]>,
    /// `None` where the text names no type.
    pub kind: Option<Kind<'a>>,
    /// `None` where the stamp is absent or cut (auditd 4.2.0 and 4.2.1 cut it in RAW `EOE` records).
    pub stamp: Option<Stamp>,
}

impl<'a> Record<'a> {
    /// Reads a line, or the payload of a version 1 frame.
    pub fn from_text(text: &'a [u8]) -> Self {
        Self::read_text(text, &mut Reader::default())
    }

    /// As [`Record::from_text`], for one record of a stream: `stamps` keeps what they share.
    #[inline(always)]
    pub(super) fn read_text(text: &'a [u8], stamps: &mut Reader) -> Self {
        let text = trim_nul(text);
        let Some((name, rest)) = usual_front(text) else {
            return Self::read_any(text, stamps);
        };
        Self {
            text,
            needs_prefix: false,
            node: None,
            kind: Some(Kind::Named(name)),
            stamp: stamps.read(rest),
        }
    }

    /// Reads a front of any shape; [`usual_front`] is a shorter way to the same.
    #[inline(never)]
    fn read_any(text: &'a [u8], stamps: &mut Reader) -> Self {
        let mut rest = text;
        let mut node = None;
        if let Some(after) = rest.strip_prefix(b"node=") {
            let end = word_end(after);
            node = Some(&after[..end]).filter(|name| !matches!(*name, b"" | b"(null)"));
            rest = skip_space(&after[end..]);
        }
        let mut kind = None;
        if let Some(after) = rest.strip_prefix(b"type=") {
            let mut end = stamp::graphic_prefix(after);
            if after.get(end).is_some_and(|&byte| byte != b' ') {
                // Not a name; what follows it may be read all the same.
                end += word_end(&after[end..]);
            } else if matches!(end, 1..=32) {
                kind = Some(Kind::Named(&after[..end]));
            }
            rest = skip_space(&after[end..]);
        }
        let stamp = rest.strip_prefix(b"msg=").and_then(|text| stamps.read(text));
        Self { text, needs_prefix: false, node, kind, stamp }
    }

    /// Reads the payload of a version 0 frame whose header names record number `number`.
    pub fn from_raw(number: u32, payload: &'a [u8]) -> Self {
        Self::read_raw(number, payload, &mut Reader::default())
    }

    /// As [`Record::from_raw`], for one record of a stream.
    #[inline]
    pub(super) fn read_raw(number: u32, payload: &'a [u8], stamps: &mut Reader) -> Self {
        let kind = match types::name(number) {
            Some(name) => Kind::Named(name.as_bytes()),
            None => Kind::Numbered(number),
        };
        let text = trim_nul(payload);
        Self { text, needs_prefix: true, node: None, kind: Some(kind), stamp: stamps.read(text) }
    }

    /// True if type and stamp were both found.
    pub fn is_decoded(&self) -> bool {
        self.kind.is_some() && self.stamp.is_some()
    }

    /// The record without the front that auditd 2.6.0 to 2.6.3 put twice before it (`type=CWD msg=type=CWD msg=audit(...`,
    /// where `format = string` and `log_format = RAW`); any other one as it is.
    #[cold]
    pub fn undoubled(self) -> Self {
        let front = memchr::memmem::find(self.text, b"msg=").map_or(0, |at| at + 4);
        let (front, rest) = self.text.split_at(front);
        let once = Self::from_text(rest);
        if !self.needs_prefix && !front.is_empty() && rest.starts_with(front) && once.is_decoded() {
            once
        } else {
            self
        }
    }

    /// True for the end-of-event record. Its stamp may be cut, its type never is.
    pub fn is_end_of_event(&self) -> bool {
        self.kind == Some(Kind::Named(b"EOE"))
    }

    /// Iterates over the values of every `key=` field; `(null)` is left out.
    pub fn keys(&self) -> impl Iterator<Item = Key<'a>> + use<'a> {
        // The kernel writes key= last in SYSCALL and CONFIG_CHANGE records; text that a user wrote stands
        // in msg='...' of other types, so it can name a key too, and the receiver must know the type.
        let body = match memchr::memrchr(0x1d, self.text) {
            Some(at) => &self.text[..at],
            None => self.text,
        };
        memchr::memmem::find_iter(body, b" key=").filter_map(|at| {
            let value = &body[at + 5..];
            if let Some(quoted) = value.strip_prefix(b"\"") {
                return memchr::memchr(b'"', quoted).map(|end| Key::Plain(&quoted[..end]));
            }
            let value = &value[..word_end(value)];
            (!value.is_empty() && value != b"(null)").then_some(Key::Encoded(value))
        })
    }
}

/// auditd 4.0.5 and later leave the NUL of a record that they had to cut right before the line end.
fn trim_nul(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_suffix(b"\0") {
        text = rest;
    }
    text
}

/// The name and what follows `msg=`, if `text` starts as nearly all do: without a node, and with a name of 1 to
/// 15 characters.
#[inline]
fn usual_front(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (start, after) = text.split_first_chunk::<5>()?;
    let length = stamp::graphic_prefix_of(after.first_chunk()?);
    let (name, rest) = after.split_at_checked(length)?;
    let (middle, rest) = rest.split_first_chunk::<5>()?;
    (start == b"type=" && middle == b" msg=" && matches!(length, 1..16)).then_some((name, rest))
}

fn word_end(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte == b' ').unwrap_or(text.len())
}

fn skip_space(text: &[u8]) -> &[u8] {
    text.strip_prefix(b" ").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str) -> Option<Kind<'_>> {
        Some(Kind::Named(name.as_bytes()))
    }

    #[test]
    fn text_forms() {
        let stamp = Some(Stamp { ms: 1_795_424_551_650, serial: 6839 });
        for (line, node, kind, expected) in [
            ("type=SYSCALL msg=audit(1795424551.650:6839): a=1", None, named("SYSCALL"), stamp),
            (
                "node=web-1 type=CWD msg=audit(1795424551.650:6839): cwd=\"/\"",
                Some("web-1"),
                named("CWD"),
                stamp,
            ),
            ("node=(null) type=CWD msg=audit(1795424551.650:6839): c", None, named("CWD"), stamp),
            ("node=(nul) type=CWD msg=audit(1795424551.650:6839): c", Some("(nul)"), named("CWD"), stamp),
            // Continuation EXECVE records have two spaces; EOE comes with and without a trailing one.
            ("type=EXECVE msg=audit(1795424551.650:6839):  a269=\"x\"", None, named("EXECVE"), stamp),
            ("type=EOE msg=audit(1795424551.650:6839): ", None, named("EOE"), stamp),
            ("type=EOE msg=audit(1795424551.650:6839):", None, named("EOE"), stamp),
            ("type=UNKNOWN[1199] msg=audit(1795424551.650:6839): ", None, named("UNKNOWN[1199]"), stamp),
            // A sender on the network may print fewer digits of the millisecond.
            (
                "type=USER msg=audit(1795424551.5:1): x",
                None,
                named("USER"),
                Some(Stamp { ms: 1_795_424_551_005, serial: 1 }),
            ),
            // auditd 4.2.0 and 4.2.1 lose the last 16 bytes of RAW records.
            ("type=EOE msg=audit(179542", None, named("EOE"), None),
            ("type=X msg=lost", None, named("X"), None),
            ("type=X msg=audit(99999999999999999999.1:1):", None, named("X"), None),
            ("type=X msg=audit(253402300800.000:1):", None, named("X"), None),
            ("type=X msg=audit(1.1000:1):", None, named("X"), None),
            ("type=X msg=audit(1.1:4294967296):", None, named("X"), None),
            ("type= msg=audit(1.001:1):", None, None, Some(Stamp { ms: 1_001, serial: 1 })),
            ("garbage", None, None, None),
            ("", None, None, None),
            ("node=", None, None, None),
        ] {
            let record = Record::from_text(line.as_bytes());
            assert_eq!(record.node, node.map(str::as_bytes), "{line}");
            assert_eq!(record.kind, kind, "{line}");
            assert_eq!(record.stamp, expected, "{line}");
            assert_eq!(record.text, line.as_bytes(), "{line}");
        }
    }

    #[test]
    fn a_nul_before_the_line_end_is_not_part_of_the_text() {
        assert_eq!(
            Record::from_text(b"type=X msg=audit(1.001:1): cut\0").text,
            b"type=X msg=audit(1.001:1): cut"
        );
    }

    #[test]
    fn the_short_way_leads_to_the_same() {
        for good in [
            "type=SYSCALL msg=audit(1795424551.650:6839): a=1",
            "type=USER_CHAUTHTOK msg=audit(1795424551.650:6839): a=1",
            "type=FIFTEEN_LETTERS msg=audit(1795424551.650:6839): a=1",
            "type=SIXTEEN_LETTERS_ msg=audit(1795424551.650:6839): a=1",
            "type= msg=audit(1795424551.650:6839): a=1",
            "type=CWD  msg=audit(1795424551.650:6839): a=1",
            "type=CWD msg=",
        ] {
            let good = good.as_bytes();
            for at in 0..good.len().min(40) {
                for byte in 0..=u8::MAX {
                    let mut text = good.to_vec();
                    text[at] = byte;
                    for text in [trim_nul(&text), trim_nul(&text[..at])] {
                        let (short, any) =
                            (Record::from_text(text), Record::read_any(text, &mut Reader::default()));
                        assert_eq!(format!("{short:?}"), format!("{any:?}"), "{}", text.escape_ascii());
                    }
                }
            }
        }
    }

    #[test]
    fn raw_forms() {
        let record = Record::from_raw(1300, b"audit(1795424674.445:4827): op=start");
        assert_eq!(record.kind, named("SYSCALL"));
        assert_eq!(record.stamp, Some(Stamp { ms: 1_795_424_674_445, serial: 4827 }));
        assert!(record.needs_prefix && record.is_decoded());

        let cut = Record::from_raw(1320, b"audit(179542");
        assert!(cut.is_end_of_event() && !cut.is_decoded());
        assert_eq!(Record::from_raw(1199, b"").kind, Some(Kind::Numbered(1199)));
    }

    #[test]
    fn a_doubled_front() {
        let whole = "type=CWD msg=audit(1.001:1): x";
        for (text, expected) in [
            ("type=CWD msg=type=CWD msg=audit(1.001:1): x", Some(whole)),
            (
                "node=a type=CWD msg=node=a type=CWD msg=audit(1.001:1): x",
                Some("node=a type=CWD msg=audit(1.001:1): x"),
            ),
            ("type=EOE msg=type=EOE msg=audit(1.001:1): ", Some("type=EOE msg=audit(1.001:1): ")),
            // Not twice, not the same twice, or no record behind it: nothing is taken off.
            (whole, None),
            ("type=CWD msg=type=PATH msg=audit(1.001:1): x", None),
            ("node=a type=CWD msg=type=CWD msg=audit(1.001:1): x", None),
            ("type=CWD msg=type=CWD msg=lost", None),
            ("msg=msg=audit(1.001:1): x", None),
            ("garbage", None),
            ("", None),
        ] {
            let record = Record::from_text(text.as_bytes()).undoubled();
            assert_eq!(record.text, expected.unwrap_or(text).as_bytes(), "{text}");
            assert_eq!(record.is_decoded(), expected.is_some() || text == whole, "{text}");
        }
        let raw = Record::from_raw(1300, b"type=CWD msg=type=CWD msg=audit(1.001:1): x");
        assert_eq!(raw.undoubled().text, raw.text);
    }

    #[test]
    fn keys_of_a_record() {
        let keys = |text: &'static str| Record::from_text(text.as_bytes()).keys().collect::<Vec<_>>();
        assert_eq!(
            keys("type=SYSCALL msg=audit(1.001:1): a=1 key=\"exec\"\x1dARCH=x86_64 key=\"no\""),
            [Key::Plain(b"exec")]
        );
        assert_eq!(keys("type=SYSCALL msg=audit(1.001:1): key=6E6F01"), [Key::Encoded(b"6E6F01")]);
        assert!(keys("type=SYSCALL msg=audit(1.001:1): key=(null)").is_empty());
        assert!(keys("type=SYSCALL msg=audit(1.001:1): key=\"open").is_empty());
    }

    #[test]
    fn a_stamp_prints_as_ausearch_takes_it() {
        assert_eq!(Stamp { ms: 1_795_424_551_005, serial: 21 }.to_string(), "1795424551.005:21");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_record(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let record = Record::from_text(&text);
            let _ = record.keys().count();
            prop_assert!(text.starts_with(record.text));
        }

        #[test]
        fn a_printed_stamp_reads_back(ms in 0..=Stamp::MAX_MS, serial in any::<u32>()) {
            let stamp = Stamp { ms, serial };
            let line = format!("type=SYSCALL msg=audit({stamp}): x");
            prop_assert_eq!(Record::from_text(line.as_bytes()).stamp, Some(stamp));
        }
    }
}
