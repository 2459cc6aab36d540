//! STRUCTURED-DATA of a message, with the spaces around it.
//!
//! Promise: valid by RFC 5424 section 6.3, whatever the record holds. Law: what is the same from record to
//! record is built once; of the rest, only the digits of sequenceId change as a rule, and they are counted up in
//! place.

use core::ops::Range;

use bytes::BytesMut;

use super::text;
use crate::audit::{Key, Kind, Record};

/// Which elements of structured data an RFC 5424 message carries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StructuredData {
    /// `[meta sequenceId="..."]` (RFC 5424 section 7.3).
    pub meta: bool,
    /// `[origin software="..." swVersion="..."]` (section 7.2).
    pub origin: bool,
    /// `[timeQuality tzKnown="1" isSynced="..."]` (section 7.1).
    pub time_quality: bool,
    /// `[audit@NUMBER serial="..." type="..." node="..." key="..."]`, the number being the user's own
    /// private enterprise number (section 7.2.2).
    pub audit: Option<u32>,
}

/// What the kernel says about its clock (adjtimex(2)).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TimeQuality {
    /// The clock is disciplined by a time source.
    pub synced: bool,
    /// Maximum error in microseconds; only said where `synced`.
    pub accuracy_us: u64,
}

/// The relay's own, for `origin`.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What stands before the digits of sequenceId.
const META: &[u8] = b" [meta sequenceId=\"";

/// The chosen elements.
#[derive(Debug, Default)]
pub(super) struct Elements {
    chosen: StructuredData,
    /// Those that do not change from message to message, e.g. `[origin ...]`.
    fixed: Vec<u8>,
    /// ` [meta sequenceId="7"][origin ...] `: all but the element `audit`.
    usual: Vec<u8>,
    /// Offset in `usual` behind the last digit of sequenceId, if there is one.
    digits_end: usize,
    /// The number that `usual` shows.
    shown: u32,
}

impl Elements {
    /// Builds what does not change.
    pub(super) fn new(chosen: StructuredData, quality: TimeQuality) -> Self {
        let mut fixed = Vec::new();
        if chosen.origin {
            fixed.extend_from_slice(b"[origin software=\"audit-relay\" swVersion=\"");
            fixed.extend_from_slice(VERSION.as_bytes());
            if let Some(number) = chosen.audit {
                fixed.extend_from_slice(format!("\" enterpriseId=\"{number}").as_bytes());
            }
            fixed.extend_from_slice(b"\"]");
        }
        if chosen.time_quality {
            // syncAccuracy must not be said of a clock that is not synchronised (section 7.1.3).
            let text = if quality.synced {
                format!("[timeQuality tzKnown=\"1\" isSynced=\"1\" syncAccuracy=\"{}\"]", quality.accuracy_us)
            } else {
                "[timeQuality tzKnown=\"1\" isSynced=\"0\"]".to_owned()
            };
            fixed.extend_from_slice(text.as_bytes());
        }
        let mut elements = Self { chosen, fixed, ..Self::default() };
        elements.show(0);
        elements
    }

    /// True if every record's data is [`Self::usual`], room permitting.
    #[inline]
    pub(super) fn is_usual(&self) -> bool {
        self.chosen.audit.is_none()
    }

    /// ` SD ` without the element `audit`, for the record that is number `sequence`.
    #[inline]
    pub(super) fn usual(&mut self, sequence: u32) -> &[u8] {
        if self.chosen.meta {
            let follows = sequence == self.shown.wrapping_add(1);
            if !(follows && count_up(&mut self.usual[META.len()..self.digits_end])) {
                self.show(sequence);
            }
            self.shown = sequence;
        }
        &self.usual
    }

    #[cold]
    fn show(&mut self, sequence: u32) {
        self.usual.clear();
        if self.chosen.meta {
            self.usual.extend_from_slice(META);
            self.usual.extend_from_slice(itoa::Buffer::new().format(sequence).as_bytes());
            self.digits_end = self.usual.len();
            self.usual.extend_from_slice(b"\"]");
        } else {
            self.usual.push(b' ');
        }
        self.usual.extend_from_slice(&self.fixed);
        self.usual.extend_from_slice(if self.usual.len() == 1 { b"- " } else { b" " });
    }

    /// Appends ` SD `, a notice having neither `sequence` nor `record`. The message starts at `message` and may
    /// become `limit` bytes long. Elements other than `meta` are left out where they would leave no room for the
    /// mark of a cut: a cut may fall into the text only, or the element would stay open.
    pub(super) fn append(
        &self,
        out: &mut BytesMut,
        message: usize,
        limit: usize,
        sequence: Option<u32>,
        record: Option<&Record<'_>>,
    ) {
        let sequence = sequence.filter(|_| self.chosen.meta);
        let start = out.len();
        append_meta(out, sequence);
        out.extend_from_slice(&self.fixed);
        if let (Some(number), Some(record)) = (self.chosen.audit, record) {
            append_audit_element(out, number, record);
        }
        if out.len() - message > limit.saturating_sub(text::MARK_MAX + 1) {
            out.truncate(start);
            append_meta(out, sequence);
        }
        out.extend_from_slice(if out.len() == start + 1 { b"- " } else { b" " });
    }
}

/// Takes the elements other than `meta` out of a whole message if they would not leave room for the mark of a cut to
/// `limit` bytes. Does nothing to a message that is not RFC 5424.
pub(super) fn make_room(message: &mut BytesMut, limit: usize) {
    let Some((meta, end)) = places(message) else { return };
    if end < limit.saturating_sub(text::MARK_MAX) {
        return;
    }
    let start = if meta.is_empty() { meta.start } else { meta.end };
    let nil: &[u8] = if meta.is_empty() { b"-" } else { b"" };
    let rest = message.split_off(end);
    message.truncate(start);
    message.extend_from_slice(nil);
    message.extend_from_slice(&rest);
}

/// Where the element `meta` stands in a message (empty: where it would), and the end of all elements. `None` where
/// there are none.
fn places(message: &[u8]) -> Option<(Range<usize>, usize)> {
    let version = memchr::memchr(b'>', &message[..message.len().min(5)])? + 1;
    if !message[version..].starts_with(b"1 ") {
        return None;
    }
    // TIMESTAMP, HOSTNAME, APP-NAME, PROCID and MSGID stand between six spaces.
    let start = memchr::memchr_iter(b' ', message).nth(5)? + 1;
    let (mut at, mut first) = (start, start);
    while message.get(at) == Some(&b'[') {
        let mut quoted = false;
        loop {
            match message.get(at)? {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b']' if !quoted => break,
                _ => {}
            }
            at += 1;
        }
        at += 1;
        if first == start {
            first = at;
        }
    }
    let has_meta = message[start..].starts_with(&META[1..]);
    (at > start).then_some((start..if has_meta { first } else { start }, at))
}

/// Adds one to a number in ASCII. False if it would need one digit more.
#[inline]
fn count_up(digits: &mut [u8]) -> bool {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return true;
        }
        *digit = b'0';
    }
    false
}

/// Appends a space and, with a `sequence`, the element `meta`.
fn append_meta(out: &mut BytesMut, sequence: Option<u32>) {
    let Some(sequence) = sequence else {
        return out.extend_from_slice(b" ");
    };
    out.extend_from_slice(META);
    out.extend_from_slice(itoa::Buffer::new().format(sequence).as_bytes());
    out.extend_from_slice(b"\"]");
}

fn append_audit_element(out: &mut BytesMut, number: u32, record: &Record<'_>) {
    out.extend_from_slice(b"[audit@");
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    if let Some(stamp) = record.stamp {
        out.extend_from_slice(b" serial=\"");
        out.extend_from_slice(itoa::Buffer::new().format(stamp.serial).as_bytes());
        out.extend_from_slice(b"\"");
    }
    match record.kind {
        Some(Kind::Named(name)) => append_param(out, b"type", name),
        // The closing bracket must be escaped.
        Some(Kind::Numbered(number)) => {
            out.extend_from_slice(b" type=\"UNKNOWN[");
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            out.extend_from_slice(b"\\]\"");
        }
        None => {}
    }
    if let Some(node) = record.node {
        append_param(out, b"node", node);
    }
    for key in record.keys() {
        match key {
            Key::Plain(key) => append_param(out, b"key", key),
            Key::Encoded(hex) => {
                let decoded = from_hex(hex);
                // Several keys of one rule are joined by 0x01.
                for key in decoded.as_deref().unwrap_or(hex).split(|byte| *byte == 1) {
                    append_param(out, b"key", key);
                }
            }
        }
    }
    out.extend_from_slice(b"]");
}

fn append_param(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.extend_from_slice(b" ");
    out.extend_from_slice(name);
    out.extend_from_slice(b"=\"");
    text::append_param(out, value);
    out.extend_from_slice(b"\"");
}

/// Decodes the kernel's upper-case hex; `None` if `text` is something else.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [StructuredData; 4] = [
        StructuredData { meta: false, origin: false, time_quality: false, audit: None },
        StructuredData { meta: true, origin: false, time_quality: false, audit: None },
        StructuredData { meta: false, origin: true, time_quality: true, audit: None },
        StructuredData { meta: true, origin: true, time_quality: true, audit: None },
    ];

    fn appended(elements: &Elements, sequence: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        elements.append(&mut out, 0, usize::MAX, Some(sequence), None);
        out.to_vec()
    }

    #[test]
    fn a_number_is_counted_up() {
        for (from, to) in [("1", Some("2")), ("9", None), ("1999", Some("2000")), ("999", None)] {
            let mut digits = from.as_bytes().to_vec();
            assert_eq!(
                count_up(&mut digits).then_some(digits),
                to.map(|to| to.as_bytes().to_vec()),
                "{from}"
            );
        }
    }

    #[test]
    fn the_usual_data_for_thousands_of_records() {
        for chosen in ALL {
            let mut elements = Elements::new(chosen, TimeQuality::default());
            for sequence in 1..12_000 {
                let expected = appended(&elements, sequence);
                assert_eq!(elements.usual(sequence), expected, "{chosen:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_usual_data_with_gaps(sequences in proptest::collection::vec(prop_oneof![Just(1u32), any::<u32>()], 1..20),
                                    run in 1u32..30) {
            for chosen in ALL {
                let mut elements = Elements::new(chosen, TimeQuality::default());
                for sequence in sequences.iter().flat_map(|first| *first..first.saturating_add(run)) {
                    let expected = appended(&elements, sequence);
                    prop_assert_eq!(elements.usual(sequence), expected);
                }
            }
        }
    }
}
