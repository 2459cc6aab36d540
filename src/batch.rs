//! 4 BATCH: formatted messages, one behind the other.
//!
//! Promise: the bytes of a batch are ready for the transport as they stand (a stream takes them in one
//! write), and every message in it can still be found, counted and named. Law: a batch never splits a
//! message, and it knows how many of its messages are records and which ones are the relay's own notices.

#![forbid(unsafe_code)]

use core::fmt;

use bytes::BytesMut;

use crate::audit::Stamp;

/// Memory of a batch's bytes.
///
/// Speed hardly depends on it (64 KiB to 192 KiB measured alike), memory does: with 64 MiB queued, the
/// process holds 79 MiB at 128 KiB and 121 MiB at 80 KiB, because of how mimalloc 2 packs sizes.
const CAPACITY: usize = 128 * 1024;

/// Bytes of a full batch, about.
pub const BATCH_BYTES: usize = CAPACITY;

/// What a message has beside its record's text: framing, header, structured data of usual size.
const USUAL_HEADER: usize = 512;

/// Messages that a batch has room for before its index grows.
const USUAL_MESSAGES: usize = CAPACITY / 256;

/// One message in a batch, in 16 bytes: an entry is written for every record.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Milliseconds of the stamp, or [`NO_STAMP`].
    ms: u64,
    serial: u32,
    /// Offset behind the message's last byte; the top bit marks a notice.
    end: u32,
}

const NO_STAMP: u64 = u64::MAX;
const NOTICE: u32 = 1 << 31;

impl Entry {
    /// Offset behind the message's last byte (framing included).
    pub fn end(&self) -> usize {
        (self.end & !NOTICE) as usize
    }

    /// The record's stamp, if it could be read.
    pub fn stamp(&self) -> Option<Stamp> {
        (self.ms != NO_STAMP).then_some(Stamp { ms: self.ms, serial: self.serial })
    }

    /// True for a record out of the input, false for a notice of the relay's own.
    pub fn is_record(&self) -> bool {
        self.end & NOTICE == 0
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "..{} {:?}{}", self.end(), self.stamp(), if self.is_record() { "" } else { " notice" })
    }
}

/// Formatted messages of one destination.
#[derive(Debug, Default)]
pub struct Batch {
    /// The messages, framed, without gaps.
    pub bytes: BytesMut,
    entries: Vec<Entry>,
    records: u64,
    /// The losses that notices in this batch announce: whoever drops the batch must announce them anew.
    pub announced: Gap,
    /// The skipped bytes that notices in this batch announce.
    pub announced_skipped: u64,
    /// Records of the relay's own system calls are among the messages: each further call makes another.
    pub echoes: bool,
}

impl Batch {
    /// Makes an empty batch with room for [`BATCH_BYTES`].
    pub fn new() -> Self {
        Self {
            bytes: BytesMut::with_capacity(CAPACITY),
            entries: Vec::with_capacity(USUAL_MESSAGES),
            ..Self::default()
        }
    }

    /// Marks all bytes behind the last message as one more message. A batch ends long before 2 GiB: it is
    /// full at [`BATCH_BYTES`], and a message is a few times the longest line at most.
    pub fn end_message(&mut self, stamp: Option<Stamp>, is_record: bool) {
        debug_assert!(self.entries.last().map_or(0, Entry::end) < self.bytes.len());
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX) & !NOTICE;
        self.entries.push(Entry {
            ms: stamp.map_or(NO_STAMP, |stamp| stamp.ms),
            serial: stamp.map_or(0, |stamp| stamp.serial),
            end: if is_record { end } else { end | NOTICE },
        });
        self.records += u64::from(is_record);
    }

    /// Messages in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of the message with index `at`. Panics where there is none.
    pub fn message(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.entries[at].end()]
    }

    /// Offset of the first byte of the message with index `at`, or the end of the last one.
    pub fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.entries[at - 1].end() }
    }

    /// How many of the messages are records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// True if the batch holds no message.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if a record of `text` bytes should go into the next batch, so that this one need not grow.
    pub fn is_full_for(&self, text: usize) -> bool {
        !self.is_empty() && self.bytes.len() + text + USUAL_HEADER > CAPACITY
    }

    /// True if `other` fits behind what is here without this batch growing.
    pub fn has_room_for(&self, other: &Self) -> bool {
        self.bytes.len() + other.bytes.len() <= CAPACITY
            && self.entries.len() + other.entries.len() <= USUAL_MESSAGES
    }

    /// Moves the messages of `other` behind those that are here, and empties it. What the two announce adds up.
    pub fn append(&mut self, other: &mut Self) {
        let shift = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&other.bytes);
        self.entries.extend(other.entries.iter().map(|entry| Entry { end: entry.end + shift, ..*entry }));
        self.records += other.records;
        self.announced.merge(other.announced);
        self.announced_skipped += other.announced_skipped;
        self.echoes |= other.echoes;
        other.clear();
    }

    /// Takes the first `count` messages out. Returns how many bytes they had.
    pub fn drop_front(&mut self, count: usize) -> usize {
        let bytes = self.start(count);
        let shift = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes.copy_within(bytes.., 0);
        self.bytes.truncate(self.bytes.len() - bytes);
        self.entries.drain(..count);
        for entry in &mut self.entries {
            entry.end -= shift;
        }
        self.records = self.entries.iter().filter(|entry| entry.is_record()).count() as u64;
        if self.records == self.entries.len() as u64 {
            // With the last notice its news is out. Where one is left, rather twice than never.
            (self.announced, self.announced_skipped) = (Gap::default(), 0);
        }
        bytes
    }

    /// Empties the batch and keeps its memory, unless giant messages or very many short ones have blown
    /// it up.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.records = 0;
        (self.announced, self.announced_skipped) = (Gap::default(), 0);
        self.echoes = false;
        if self.bytes.capacity() > CAPACITY + CAPACITY / 2 || self.entries.capacity() > 4 * USUAL_MESSAGES {
            *self = Self::new();
        } else {
            self.bytes.clear();
        }
    }
}

/// Records that were lost for one reason: how many, from which to which.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Gap {
    /// How many.
    pub records: u64,
    /// Stamp of the first one that had a stamp.
    pub first: Option<Stamp>,
    /// Stamp of the last one that had a stamp.
    pub last: Option<Stamp>,
}

impl Gap {
    /// Adds one record.
    pub fn add(&mut self, stamp: Option<Stamp>) {
        self.records += 1;
        self.first = self.first.or(stamp);
        self.last = stamp.or(self.last);
    }

    /// Adds the records among `entries`.
    pub fn add_entries(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.is_record()) {
            self.add(entry.stamp());
        }
    }

    /// Adds what `other` counts. The ends are those that lie farthest apart.
    pub fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }

    /// Takes the gap, leaving an empty one.
    pub fn take(&mut self) -> Option<Self> {
        (self.records > 0).then(|| core::mem::take(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(serial: u32) -> Option<Stamp> {
        Some(Stamp { ms: 1, serial })
    }

    #[test]
    fn messages_are_found_again() {
        let mut batch = Batch::new();
        for (text, is_record) in [("one", true), ("notice", false), ("three", true)] {
            batch.bytes.extend_from_slice(text.as_bytes());
            batch.end_message(stamp(7), is_record);
        }
        assert_eq!((batch.records(), batch.entries().len()), (2, 3));
        assert_eq!(
            (batch.message(0), batch.message(1), batch.message(2)),
            (&b"one"[..], &b"notice"[..], &b"three"[..])
        );
        assert_eq!((batch.start(0), batch.start(3)), (0, 14));
        batch.clear();
        assert!(batch.is_empty() && batch.records() == 0);
    }

    #[test]
    fn a_giant_message_does_not_keep_its_memory() {
        let mut batch = Batch::new();
        batch.bytes.resize(BATCH_BYTES * 4, b'x');
        batch.end_message(None, true);
        batch.clear();
        assert!(batch.bytes.capacity() == CAPACITY);
    }

    #[test]
    fn two_batches_become_one() {
        let (mut one, mut two) = (Batch::new(), Batch::new());
        for (batch, text, is_record) in [(&mut one, "aa", true), (&mut two, "b", false)] {
            batch.bytes.extend_from_slice(text.as_bytes());
            batch.end_message(stamp(7), is_record);
        }
        two.bytes.extend_from_slice(b"ccc");
        two.end_message(stamp(8), true);
        assert!(one.has_room_for(&two));
        one.append(&mut two);
        assert_eq!((one.message(0), one.message(1), one.message(2)), (&b"aa"[..], &b"b"[..], &b"ccc"[..]));
        assert_eq!(
            (one.records(), one.entries()[1].is_record(), one.entries()[2].stamp()),
            (2, false, stamp(8))
        );
        assert!(two.is_empty() && two.bytes.is_empty());
    }

    #[test]
    fn the_front_can_be_taken_off() {
        let mut batch = Batch::new();
        for (text, is_record) in [("one", true), ("notice", false), ("three", true)] {
            batch.bytes.extend_from_slice(text.as_bytes());
            batch.end_message(stamp(7), is_record);
        }
        (batch.announced.records, batch.announced_skipped) = (5, 6);
        assert_eq!(batch.drop_front(0), 0);
        assert_eq!((batch.announced.records, batch.announced_skipped), (5, 6), "its notice is still there");
        assert_eq!(batch.drop_front(2), 9);
        assert_eq!((batch.announced.records, batch.announced_skipped), (0, 0));
        assert_eq!((batch.message(0), batch.records(), batch.entries().len()), (&b"three"[..], 1, 1));
        assert_eq!(batch.drop_front(0), 0);
        assert_eq!(batch.drop_front(1), 5);
        assert!(batch.is_empty() && batch.bytes.is_empty() && batch.records() == 0);
    }

    #[test]
    fn a_gap_names_its_ends() {
        let mut gap = Gap::default();
        assert_eq!(gap.take(), None);
        gap.add(None);
        gap.add(stamp(3));
        gap.add(stamp(5));
        gap.add(None);
        let mut later = Gap::default();
        later.add(stamp(9));
        gap.merge(later);
        let mut earlier = Gap::default();
        earlier.add(stamp(2));
        gap.merge(earlier);
        assert_eq!(gap.take(), Some(Gap { records: 6, first: stamp(2), last: stamp(9) }));
        assert_eq!(gap.records, 0);
    }
}
