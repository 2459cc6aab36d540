//! Cuts a byte stream into syslog messages: octet counting or one per line (RFC 6587). Pure; no I/O.
//!
//! *Promise:* the same bytes give the same messages however the reads cut them.
//! *Law:* no copy and no allocation per message; a broken frame is counted and skipped, never repaired.
//!
//! ```text
//!  buf:  [ consumed | unread ........ | free ]
//!        0          head              tail    len
//! ```
//! `head..tail` holds what is read but not yet given out. [`Deframer::spare`] moves it to the front when the free
//! part has become small, so a message never wraps, and makes the buffer larger where a read has filled it.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr};

/// How messages are delimited on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Framing {
    /// `LENGTH SP MESSAGE`
    Octet,
    /// `MESSAGE LF`
    Lf,
}

/// Most bytes that the buffer of one connection has, and so the longest message that can be understood.
pub(crate) const CAPACITY: usize = 1 << 20;
/// Bytes that it begins with. A thousand connections with little each are not to be a thousand times the most: only to
/// have that cleared took longer than all they sent.
const FIRST: usize = 16 << 10;

/// Below this much free room the unread part is moved to the front.
const MIN_SPARE: usize = 64 << 10;

/// One connection's receive buffer and framing state.
#[derive(Debug)]
pub(crate) struct Deframer {
    buf: Vec<u8>,
    head: usize,
    tail: usize,
    /// The last read took as much as there was room for: there may be more.
    filled: bool,
    framing: Option<Framing>,
    /// A frame was broken and the next header is not found yet.
    hunting: bool,
    errors: u64,
}

impl Deframer {
    /// An empty buffer; the framing is told by the first byte: a digit is octet counting, anything else is LF.
    pub(crate) fn new() -> Self {
        Self {
            buf: vec![0; FIRST],
            head: 0,
            tail: 0,
            filled: false,
            framing: None,
            hunting: false,
            errors: 0,
        }
    }

    /// Where the next read goes; never empty.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.head == self.tail {
            // The front again: memory that was used before is in the cache, and of many buffers little is touched.
            (self.head, self.tail) = (0, 0);
        }
        if self.buf.len() - self.tail < MIN_SPARE {
            self.buf.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        if self.buf.len() < CAPACITY {
            if self.filled || self.buf.len() - self.tail < FIRST / 4 {
                self.buf.resize(larger(self.buf.len()), 0);
            }
        } else if self.tail == self.buf.len() {
            // A message longer than the buffer: nothing sensible can be in it.
            self.errors += 1;
            self.tail = 0;
        }
        &mut self.buf[self.tail..]
    }

    /// Takes in the first `n` bytes of [`Deframer::spare`].
    pub(crate) fn filled(&mut self, n: usize) {
        self.tail = (self.tail + n).min(self.buf.len());
        self.filled = self.tail == self.buf.len();
    }

    /// The next whole message, or `None` until more is read. Empty lines are skipped.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let range = self.next_range()?;
        Some(&self.buf[range])
    }

    /// Bytes read that are no whole message: what an end of the stream here would cut off.
    pub(crate) fn unfinished(&self) -> usize {
        self.tail - self.head
    }

    /// Frames that broke the framing so far.
    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    fn next_range(&mut self) -> Option<Range<usize>> {
        loop {
            let unread = &self.buf[self.head..self.tail];
            let first = *unread.first()?;
            let framing = *self.framing.get_or_insert(if first.is_ascii_digit() {
                Framing::Octet
            } else {
                Framing::Lf
            });
            match framing {
                Framing::Lf => {
                    let len = memchr(b'\n', unread)?;
                    let start = self.head;
                    self.head += len + 1;
                    if len > 0 {
                        return Some(start..start + len);
                    }
                }
                Framing::Octet if self.hunting => match find_header(unread) {
                    Some(skip) => {
                        self.head += skip;
                        self.hunting = false;
                    }
                    None => {
                        // The last bytes may be the beginning of a header; the rest cannot be, and no part of
                        // what was refused as one may be taken for a shorter one later.
                        let refused = memrchr(b'<', unread).map_or(0, |lt| lt + 1);
                        self.head += refused.max(unread.len().saturating_sub(MAX_DIGITS + 1));
                        return None;
                    }
                },
                Framing::Octet => match octet_header(unread) {
                    Header::Incomplete => return None,
                    Header::Frame { digits, len } => {
                        let start = self.head + digits + 1;
                        let end = start + len;
                        if end > self.tail {
                            return None;
                        }
                        self.head = end;
                        return Some(start..end);
                    }
                    Header::Broken => {
                        self.errors += 1;
                        self.hunting = true;
                        self.head += 1;
                    }
                },
            }
        }
    }
}

/// The next size of a buffer of so many bytes.
pub(crate) fn larger(len: usize) -> usize {
    len.saturating_mul(4).clamp(FIRST, CAPACITY)
}

/// Digits of the longest length that fits the buffer.
const MAX_DIGITS: usize = 7;

enum Header {
    Incomplete,
    Frame { digits: usize, len: usize },
    Broken,
}

/// Reads `LENGTH SP` at the start of `bytes` (not empty).
fn octet_header(bytes: &[u8]) -> Header {
    let mut len = 0;
    for (digits, &byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' if digits < MAX_DIGITS && (digits > 0 || byte != b'0') => {
                len = len * 10 + usize::from(byte - b'0');
            }
            b' ' if digits > 0 && len <= CAPACITY - MIN_SPARE => return Header::Frame { digits, len },
            _ => return Header::Broken,
        }
    }
    Header::Incomplete
}

/// Offset of the first `DIGITS SP '<'` in `bytes`: a place that looks like the start of a frame.
fn find_header(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'<', bytes).find_map(|lt| {
        let before = bytes[..lt].strip_suffix(b" ")?;
        let digits = before.iter().rev().take(MAX_DIGITS).take_while(|b| b.is_ascii_digit()).count();
        let start = before.len() - digits;
        (digits > 0 && bytes[start] != b'0').then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `stream` in chunks of the given sizes (repeated) and collects what comes out.
    fn run(stream: &[u8], chunks: &[usize]) -> (Vec<Vec<u8>>, usize, u64) {
        let mut deframer = Deframer::new();
        let mut messages = Vec::new();
        let mut rest = stream;
        let mut sizes = chunks.iter().cycle();
        while !rest.is_empty() {
            let spare = deframer.spare();
            let n = (*sizes.next().unwrap()).min(rest.len()).min(spare.len());
            spare[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            deframer.filled(n);
            while let Some(message) = deframer.next() {
                messages.push(message.to_vec());
            }
        }
        (messages, deframer.unfinished(), deframer.errors())
    }

    fn frame(framing: Framing, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for message in messages {
            match framing {
                Framing::Octet => stream.extend(format!("{} ", message.len()).bytes()),
                Framing::Lf => {}
            }
            stream.extend(message);
            if framing == Framing::Lf {
                stream.push(b'\n');
            }
        }
        stream
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            chunks in prop::collection::vec(1usize..400, 1..10),
            octet in any::<bool>(),
        ) {
            let framing = if octet { Framing::Octet } else { Framing::Lf };
            let messages: Vec<Vec<u8>> = bodies
                .into_iter()
                .map(|body| b"<182>".iter().chain(&body).map(|&b| if b == b'\n' { b' ' } else { b }).collect())
                .collect();
            let (got, unfinished, errors) = run(&frame(framing, &messages), &chunks);
            prop_assert_eq!(got, messages);
            prop_assert_eq!((unfinished, errors), (0, 0));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_invent(
            stream in prop::collection::vec(prop::sample::select(b"0123 9<>\nab".to_vec()), 0..500),
            chunks in prop::collection::vec(1usize..50, 1..5),
        ) {
            let (got, _, _) = run(&stream, &chunks);
            prop_assert!(got.iter().map(Vec::len).sum::<usize>() <= stream.len());
            prop_assert_eq!(got, run(&stream, &[stream.len().max(1)]).0, "and the cuts make no difference");
        }
    }

    #[test]
    fn a_cut_tail_is_counted_not_given_out() {
        assert_eq!(run(b"5 <1>ab4 <1>", &[100]), (vec![b"<1>ab".to_vec()], 5, 0));
        assert_eq!(run(b"<1>ab\n<1>c", &[3]), (vec![b"<1>ab".to_vec()], 4, 0));
    }

    #[test]
    fn a_wrong_length_costs_one_error_and_the_next_frame_is_found() {
        // The first length is two short: its last two bytes stand where a header should.
        for chunk in [1, 2, 3, 7, 100] {
            let (messages, unfinished, errors) = run(b"5 <1>abcd7 <1>wxyz5 <1>zz", &[chunk]);
            assert_eq!(messages, [b"<1>ab".to_vec(), b"<1>wxyz".to_vec(), b"<1>zz".to_vec()], "{chunk}");
            assert_eq!((unfinished, errors), (0, 1));
        }
    }

    #[test]
    fn streams_longer_than_the_buffer_pass() {
        let messages: Vec<Vec<u8>> = (0..6000).map(|i| format!("<1>{i:0>400}").into_bytes()).collect();
        let stream = frame(Framing::Octet, &messages);
        assert!(stream.len() > 2 * CAPACITY);
        let (got, unfinished, errors) = run(&stream, &[CAPACITY]);
        assert_eq!(got.len(), messages.len());
        assert_eq!((unfinished, errors), (0, 0));
    }

    #[test]
    fn the_buffer_grows_with_what_comes_at_a_time_and_no_further() {
        for (read, messages, size) in
            [(400, 1000, FIRST), (usize::MAX, 10_000, CAPACITY), (usize::MAX, 1, FIRST)]
        {
            let stream = frame(Framing::Octet, &vec![b"<1>0123456789".repeat(30); messages]);
            let mut deframer = Deframer::new();
            let (mut rest, mut count) = (&stream[..], 0);
            while !rest.is_empty() {
                let spare = deframer.spare();
                let n = read.min(rest.len()).min(spare.len());
                assert!(n > 0);
                spare[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                deframer.filled(n);
                while deframer.next().is_some() {
                    count += 1;
                }
            }
            assert_eq!((deframer.buf.len(), count, deframer.errors()), (size, messages, 0), "{read}");
        }
        // One message longer than the first buffer, and one longer than any.
        for (len, errors) in [(FIRST * 3, 0), (CAPACITY + 1, 1)] {
            let message = [b"<1>".to_vec(), vec![b'x'; len]].concat();
            let (got, _, found) = run(&frame(Framing::Lf, std::slice::from_ref(&message)), &[len]);
            assert_eq!((got == [message], found), (errors == 0, errors), "{len}");
        }
    }
}
