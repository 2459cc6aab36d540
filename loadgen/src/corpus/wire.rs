//! The sending side: one lap in the form of the wire, and the places in it that change.
//!
//! *Promise:* [`Wire::prepare`] makes the next line ready and says where it lies; lines that follow one another can be
//! written with one call.
//! *Law:* no allocation and no copy: stamp and mark are patched in place.

use std::mem;
use std::ops::Range;

use super::envelope::{MOMENT_LEN, Moments, TXNR_DIGITS};
use super::shapes::{Record, Text};
use super::stamp::{self, Stamps};
use super::{Form, Frames, Shape, mark};

/// Header and payload area of auditd's binary format.
const FRAME_HEADER: usize = 16;
pub(super) const FRAME_PAYLOAD: usize = 8970;

/// A line of the lap and the places in it that change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) stamp: Option<usize>,
    pub(super) mark: Option<usize>,
    /// Where in the line the moment of its header is; 0 if it has no such header.
    pub(super) moment: usize,
    pub(super) sequenced: bool,
    pub(super) event: u64,
}

/// RELP's transaction numbers go round behind this one.
const LAST_TXNR: u64 = 999_999_999;

/// How far a stream of records has come. Many streams can take turns on one [`Wire`], see [`Wire::resume`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    stream: [u8; 3],
    next: usize,
    lap: u64,
    sequence: u64,
}

impl Cursor {
    /// The start of stream `stream` (below [`mark::STREAMS`]).
    pub(crate) fn new(stream: u16) -> Self {
        Self { stream: mark::stream_digits(stream), next: 0, lap: 0, sequence: 0 }
    }

    /// Records prepared so far that must arrive.
    #[allow(dead_code, reason = "for loads of many streams")]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// One lap in the form of the wire, and the place in it.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<Line>,
    events: u64,
    once: bool,
    /// Lines begin with a transaction number, the first of a stream with 2.
    numbered: bool,
    cursor: Cursor,
    stamps: Stamps,
    moments: Moments,
}

impl Wire {
    /// An empty lap; `once` if it is not to be repeated.
    pub(super) fn new(once: bool) -> Self {
        Self {
            bytes: Vec::new(),
            lines: Vec::new(),
            events: 0,
            once,
            numbered: false,
            cursor: Cursor::new(0),
            stamps: Stamps::default(),
            moments: Moments::default(),
        }
    }

    /// A lap of the same events without lines; `numbered` if each will begin with a transaction number.
    pub(super) fn emptied(&self, numbered: bool) -> Self {
        Self { events: self.events, numbered, ..Self::new(self.once) }
    }

    /// Goes on with another stream; returns where this one stands. A new wire is at the start of stream 0.
    ///
    /// Lines prepared for one stream must have been written before the next is prepared for another.
    #[allow(dead_code, reason = "for loads of many streams")]
    pub(crate) fn resume(&mut self, cursor: Cursor) -> Cursor {
        mem::replace(&mut self.cursor, cursor)
    }

    /// Length of the next line and whether it follows the previous one in memory; `None` if nothing is left.
    pub(crate) fn peek(&self) -> Option<(usize, bool)> {
        match self.lines.get(self.cursor.next) {
            Some(line) => Some((line.end - line.start, self.cursor.next > 0)),
            None if self.once => None,
            None => self.lines.first().map(|line| (line.end - line.start, false)),
        }
    }

    /// Makes the next line ready to be written: due at `due_ns`, written at `now_ns`. Returns where it is.
    pub(crate) fn prepare(&mut self, due_ns: u64, now_ns: u64) -> Range<usize> {
        let cursor = &mut self.cursor;
        if cursor.next == self.lines.len() {
            cursor.next = 0;
            cursor.lap += 1;
        }
        let line = &self.lines[cursor.next];
        let event = cursor.lap * self.events + line.event;
        if let Some(at) = line.stamp {
            self.bytes[at..at + stamp::LEN].copy_from_slice(self.stamps.of(event));
        }
        if line.moment > 0 {
            let at = line.start + line.moment;
            self.bytes[at..at + MOMENT_LEN].copy_from_slice(self.moments.of(event));
        }
        if self.numbered {
            let number = (cursor.sequence + 1) % LAST_TXNR + 1;
            stamp::write_decimal(&mut self.bytes[line.start..line.start + TXNR_DIGITS], number);
        }
        if let Some(at) = line.mark
            && let Some(mark) = self.bytes[at..].first_chunk_mut()
        {
            mark::write(mark, cursor.stream, cursor.sequence, due_ns, now_ns.saturating_sub(due_ns));
        }
        cursor.sequence += u64::from(line.sequenced);
        cursor.next += 1;
        line.start..line.end
    }

    /// The next line as it is, patched in the first lap only: what a sender does at least. To a receiver the other laps
    /// are the first one again. Returns where it is.
    pub(crate) fn pass(&mut self, now_ns: u64) -> Range<usize> {
        if self.cursor.lap == 0 && self.cursor.next < self.lines.len() {
            return self.prepare(now_ns, now_ns);
        }
        let cursor = &mut self.cursor;
        if cursor.next == self.lines.len() {
            cursor.next = 0;
            cursor.lap += 1;
        }
        let line = &self.lines[cursor.next];
        cursor.sequence += u64::from(line.sequenced);
        cursor.next += 1;
        line.start..line.end
    }

    /// The bytes at `range`, as they were prepared.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Mean bytes of a line on the wire.
    pub(crate) fn mean_bytes(&self) -> usize {
        self.bytes.len() / self.lines.len().max(1)
    }

    /// Records of the current stream prepared so far that must arrive.
    pub(crate) fn sequence(&self) -> u64 {
        self.cursor.sequence
    }

    /// How many events the lap has, once all are added.
    pub(super) fn close(&mut self, events: u64) {
        self.events = events;
    }

    /// Adds a generated record.
    pub(super) fn add(&mut self, text: &Text, record: &Record, event: u64, shape: Shape) {
        let start = self.bytes.len();
        let version = match shape.form {
            Form::Text => None,
            Form::Binary0 => Some(0u32),
            Form::Binary1 => Some(1),
        };
        // Version 0 is the kernel's own payload: no `type=NAME msg=` in front.
        let cut = if version == Some(0) { text.stamp - b"audit(".len() } else { 0 };
        let payload = &text.bytes[cut..];
        let mut body = start;
        if let Some(version) = version {
            // Payloads are at most FRAME_PAYLOAD long; see `Text::of`.
            let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            for word in [version, 16, record.number, size] {
                self.bytes.extend_from_slice(&word.to_ne_bytes());
            }
            body += FRAME_HEADER;
        }
        self.bytes.extend_from_slice(payload);
        match version {
            None => self.bytes.push(b'\n'),
            Some(_) if shape.frames == Frames::Fixed => {
                // Real frames end in what the heap held before: pieces of earlier records. A receiver that
                // forwards them is caught by the marks in them.
                let stale: Vec<u8> = payload
                    .iter()
                    .copied()
                    .cycle()
                    .take(FRAME_PAYLOAD.saturating_sub(payload.len()))
                    .collect();
                self.bytes.extend_from_slice(&stale);
            }
            Some(_) => {}
        }
        self.lines.push(Line {
            start,
            end: self.bytes.len(),
            stamp: Some(body + text.stamp - cut),
            mark: text.mark.map(|mark| body + mark - cut),
            moment: 0,
            sequenced: text.mark.is_some(),
            event,
        });
    }

    /// Adds a recorded line as it is (a missing line feed is added), `sequenced` if it must arrive.
    pub(super) fn add_recorded(&mut self, line: &[u8], sequenced: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            self.bytes.push(b'\n');
        }
        let end = self.bytes.len();
        self.lines.push(Line { start, end, stamp: None, mark: None, moment: 0, sequenced, event: 0 });
    }

    /// Lines of the lap.
    pub(super) fn lines(&self) -> u64 {
        self.lines.len() as u64
    }
}
