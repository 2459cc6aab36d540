//! The receiving side for generated records: told by their marks, compared to the byte.
//!
//! *Promise:* a message is whole if it begins with `<PRI>` and ends in the very record its mark names; anything else
//! with a mark is torn. Odd bytes in the record may arrive in other forms, see [`rendering`].
//! *Law:* no allocation, and first of all byte for byte. Records mostly come in order, so the place of the mark is first looked for where the next
//! record would have it, counted from the message's end: there is no search over the whole message then, and what
//! stands before the record may have any length.

use std::ops::Range;

use memchr::memchr_iter;
use memchr::memmem::{self, Finder};

use super::mark;
use super::stamp::{self, Stamps};
use super::{ENRICHED, Verdict, has_priority, rendering};

#[derive(Clone, Debug)]
struct Want {
    text: Range<usize>,
    stamp: usize,
    mark: usize,
    event: u64,
}

/// The texts of a lap, for byte-for-byte comparison.
#[derive(Debug)]
pub(crate) struct Marked {
    bytes: Vec<u8>,
    records: Vec<Want>,
    events: u64,
    streams: u16,
    in_file: bool,
    finder: Finder<'static>,
    stamps: Stamps,
    next: Place,
}

/// A sequence number and where in the laps it lies.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    sequence: u64,
    lap: u64,
    index: usize,
}

impl Marked {
    /// An empty lap.
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            records: Vec::new(),
            events: 0,
            streams: 1,
            in_file: false,
            finder: Finder::new(mark::NAME),
            stamps: Stamps::default(),
            next: Place::default(),
        }
    }

    /// Adds a record of `event` with its stamp and mark at these places.
    pub(super) fn add(&mut self, text: &[u8], stamp: usize, mark: usize, event: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.records.push(Want { text: start..self.bytes.len(), stamp, mark, event });
    }

    /// How many events the lap has, once all are added.
    pub(super) fn close(&mut self, events: u64) {
        self.events = events;
    }

    /// Streams below `streams` are ours.
    pub(super) fn expect_streams(&mut self, streams: u16) {
        self.streams = streams;
    }

    /// Expects lines of a file instead of messages, see [`super::Expected::expect_lines`].
    pub(super) fn expect_lines(&mut self) {
        self.in_file = true;
    }

    /// Records in a lap.
    pub(super) fn records(&self) -> usize {
        self.records.len()
    }

    /// Judges a message; sequence numbers from `announced` on are impossible.
    pub(super) fn judge(&mut self, message: &[u8], announced: u64) -> Verdict {
        let Some(mark_at) = self.likely_mark(message).or_else(|| self.finder.find(message)) else {
            return Verdict::Unmarked;
        };
        let mark = &message[mark_at..];
        let Some(number) =
            mark::read_number(mark).filter(|n| n.sequence < announced && n.stream < self.streams)
        else {
            return Verdict::Torn(None);
        };
        let place = self.place(number.sequence);
        self.next = self.after(place);
        let Some((due_ns, late_ns)) = mark::read_times(mark) else {
            return Verdict::Torn(Some(number));
        };
        if (self.in_file || has_priority(message)) && self.is_whole(message, mark_at, place) {
            Verdict::Whole { number, due_ns: Some(due_ns), written_ns: Some(due_ns.saturating_add(late_ns)) }
        } else {
            Verdict::Torn(Some(number))
        }
    }

    /// Where the mark is if the next record in order ends the message. The record must be the only one in it: what
    /// stands before it carries no mark.
    fn likely_mark(&self, message: &[u8]) -> Option<usize> {
        let want = self.records.get(self.next.index)?;
        let start = message.len().checked_sub(want.text.len())?;
        let at = start + want.mark;
        (message[at..].starts_with(mark::NAME) && !has_mark(&message[..start])).then_some(at)
    }

    fn place(&self, sequence: u64) -> Place {
        if sequence == self.next.sequence {
            return self.next;
        }
        let records = self.records.len() as u64;
        let index = usize::try_from(sequence % records).unwrap_or(0);
        Place { sequence, lap: sequence / records, index }
    }

    fn after(&self, place: Place) -> Place {
        let (sequence, index) = (place.sequence + 1, place.index + 1);
        if index == self.records.len() {
            Place { sequence, lap: place.lap + 1, index: 0 }
        } else {
            Place { sequence, index, ..place }
        }
    }

    /// Whether the message with a mark at `mark_at` ends in the record at `place`.
    fn is_whole(&mut self, message: &[u8], mark_at: usize, place: Place) -> bool {
        let want = &self.records[place.index];
        let text = &mut self.bytes[want.text.clone()];
        let stamp = self.stamps.of(place.lap * self.events + want.event);
        text[want.stamp..want.stamp + stamp::LEN].copy_from_slice(stamp);
        let (before, after) = (&message[..mark_at], &message[mark_at + mark::LEN..]);
        let (start, end) = (&text[..want.mark], &text[want.mark + mark::LEN..]);
        let ends = |rest: &[u8]| is_padding(rest) || self.in_file && is_trailer(rest);
        (before.ends_with(start) && strip_alike(after, end).is_some_and(ends))
            // With odd bytes rendered, the lengths say nothing: the record begins where its first bytes are.
            || memmem::find(before, &start[..want.stamp + stamp::LEN])
                .and_then(|at| rendering::strip(&before[at..], start))
                .is_some_and(<[u8]>::is_empty)
                && rendering::strip(after, end).is_some_and(ends)
    }

    /// The text of record `index` of the lap up to its stamp.
    #[cfg(test)]
    pub(super) fn name_of(&self, index: usize) -> &[u8] {
        let want = &self.records[index % self.records.len()];
        &self.bytes[want.text.clone()][..want.stamp]
    }
}

/// Whether `bytes` hold a mark. Short texts only: it looks at every `=`.
fn has_mark(bytes: &[u8]) -> bool {
    memchr_iter(b'=', bytes).any(|at| bytes[..=at].ends_with(mark::NAME))
}

/// Takes off what follows the mark, where auditd's 0x1D may be a space.
fn strip_alike<'a>(got: &'a [u8], want: &[u8]) -> Option<&'a [u8]> {
    match (got, want) {
        ([b' ', got @ ..], [ENRICHED, want @ ..]) => got.strip_prefix(want),
        _ => got.strip_prefix(want),
    }
}

/// Whether a template may have put `bytes` behind a record: something that does not go on with its last word, and no
/// other record.
fn is_trailer(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| !first.is_ascii_alphanumeric()) && !has_mark(bytes)
}

/// What local transports add to a message: a line feed or a NUL.
pub(super) fn is_padding(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, b'\n' | b'\r' | b'\0' | b' '))
}
