//! The receiving side for recorded lines: told by their text.
//!
//! *Promise:* every recorded line is expected once; lines that read the same cannot be told apart and are taken in
//! order.
//! *Law:* compared in a form in which all faithful renderings of odd bytes are equal; one buffer, used again.

use std::collections::HashMap;

use memchr::memmem;

use super::mark::Number;
use super::{ENRICHED, Verdict, has_priority, is_eoe, is_record};
use crate::plan::Plan;

/// Recorded lines that must arrive in order, once each, told by their normalised text.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    texts: Vec<(Vec<u8>, u64)>,
    by_text: HashMap<Vec<u8>, Vec<u64>>,
    arrived: Vec<bool>,
    next: usize,
    scratch: Vec<u8>,
    in_file: bool,
}

impl Replayed {
    /// Adds `text`, the record of line `line` of the recording.
    pub(super) fn add(&mut self, text: &[u8], line: u64) {
        let mut normal = Vec::with_capacity(text.len());
        normalise(text, &mut normal);
        self.by_text.entry(normal.clone()).or_default().push(self.texts.len() as u64);
        self.texts.push((normal, line));
        self.arrived.push(false);
    }

    /// Expects lines of a file instead of messages, see [`super::Expected::expect_lines`].
    pub(super) fn expect_lines(&mut self) {
        self.in_file = true;
    }

    /// Records in all.
    pub(super) fn total(&self) -> u64 {
        self.texts.len() as u64
    }

    /// Judges a message; sequence numbers from `announced` on are impossible.
    pub(super) fn judge(&mut self, message: &[u8], announced: u64, plan: &Plan) -> Verdict {
        let mut scratch = std::mem::take(&mut self.scratch);
        normalise(message, &mut scratch);
        let verdict = self.judge_normal(&scratch, announced, plan);
        self.scratch = scratch;
        verdict
    }

    fn judge_normal(&mut self, message: &[u8], announced: u64, plan: &Plan) -> Verdict {
        let start = if self.in_file && is_record(message) { Some(0) } else { text_start(message) };
        let Some(start) = start else {
            return Verdict::Unmarked;
        };
        let text = &message[start..];
        if is_eoe(text) {
            return Verdict::Unmarked;
        }
        let sequence = if self.texts.get(self.next).is_some_and(|(next, _)| text == next) {
            self.next as u64
        } else {
            let Some(same) = self.by_text.get(text) else {
                return Verdict::Torn(None);
            };
            // Equal lines cannot be told apart: take the first that has not arrived, else call it a duplicate of one that
            // was written.
            let mut written = same.iter().filter(|&&n| n < announced);
            let open = written.clone().find(|&&n| usize::try_from(n).is_ok_and(|n| !self.arrived[n]));
            *open.or(written.next_back()).or(same.last()).unwrap_or(&0)
        };
        if sequence >= announced || !(self.in_file || has_priority(message)) {
            return Verdict::Torn(None);
        }
        let index = usize::try_from(sequence).unwrap_or(0);
        self.arrived[index] = true;
        self.next = self.next.max(index + 1);
        while self.arrived.get(self.next) == Some(&true) {
            self.next += 1;
        }
        Verdict::Whole {
            number: Number { stream: 0, sequence },
            due_ns: plan.intended(self.texts[index].1),
            written_ns: None,
        }
    }
}

/// Where the record begins: at the first ` type=` or ` node=` (header fields contain neither).
pub(super) fn text_start(message: &[u8]) -> Option<usize> {
    message.windows(6).position(|w| w == b" type=" || w == b" node=").map(|space| space + 1)
}

/// Writes `text` so that all faithful renderings of a record become equal: control characters and bytes that are
/// not UTF-8 as `#ooo`, 0x1D (in either rendering) as a space, no white space or NUL at the end.
fn normalise(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let end =
        text.iter().rposition(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\0')).map_or(0, |last| last + 1);
    for chunk in text[..end].utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                ENRICHED => out.push(b' '),
                b'\t' | 0x20..=0x7E | 0x80.. => out.push(byte),
                control => escape(control, out),
            }
        }
        for &byte in chunk.invalid() {
            escape(byte, out);
        }
    }
    while let Some(at) = memmem::find(out, b"#035") {
        out.splice(at..at + 4, [b' ']);
    }
    out.truncate(out.trim_ascii_end().len());
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'#', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
}
