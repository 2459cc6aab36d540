//! The string form: one record a line.
//!
//! Promise: whatever the reads cut, the same lines come out, each once, none changed.
//! Law: nothing is an error here. A line without end is handed on in parts of [`MAX_LINE`] bytes; what
//! stands behind the last line end when the input ends is a line too.
//!
//! auditd writes one line at a time, but its end of the socket is a stream: a read returns many lines
//! and may end inside one.

use super::stamp::Reader;
use super::{Record, Step};

/// The longest line that stays whole, in bytes without the line end. auditd's own limit is 9225
/// (8970 of record and 255 of node name); what reaches an aggregator over the network may be longer.
pub const MAX_LINE: usize = 128 * 1024;

/// Splits bytes at line ends.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Bytes at the start of the input that are known to hold no line end: `0 <= scanned <= input.len()`.
    /// Kept between calls, so that a line that arrives in many reads is searched once.
    scanned: usize,
    stamps: Reader,
}

impl Lines {
    /// Takes the next line off the front of `input`. `ended` says that nothing will follow.
    #[inline(always)]
    pub(super) fn step<'a>(&mut self, input: &'a [u8], ended: bool) -> Step<'a> {
        let found = memchr::memchr(b'\n', &input[self.scanned..]).map(|at| self.scanned + at);
        let (line, consumed) = match found {
            Some(end) if end <= MAX_LINE => (&input[..end], end + 1),
            None if input.len() <= MAX_LINE && !ended => {
                self.scanned = input.len();
                return Step::More;
            }
            None if input.len() <= MAX_LINE => (input, input.len()),
            _ => (&input[..MAX_LINE], MAX_LINE),
        };
        self.scanned = 0;
        if consumed == 0 {
            return Step::More;
        }
        let record = Record::read_text(line, &mut self.stamps);
        if record.text.is_empty() { Step::Empty { consumed } } else { Step::Record { record, consumed } }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::decode_in_chunks;
    use super::*;
    use crate::audit::{Decoder, InputForm};
    use proptest::prelude::*;

    fn lines(input: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        decode_in_chunks(Decoder::new(InputForm::Text), input, cuts).texts
    }

    #[test]
    fn lines_and_what_they_are() {
        let long = vec![b'x'; 16 * 1024];
        let endless = vec![b'y'; MAX_LINE * 2 + 5];
        for (input, expected) in [
            (&b""[..], vec![]),
            (b"a\nb\n", vec![&b"a"[..], b"b"]),
            (b"a\nlast line without end", vec![b"a", b"last line without end"]),
            (b"\n\na\n\n", vec![b"a"]),
            (b"a\0\n\0\nb\0c\n", vec![b"a", b"b\0c"]),
            (&long, vec![&long[..]]),
            (&endless, vec![&endless[..MAX_LINE], &endless[..MAX_LINE], &endless[..5]]),
        ] {
            assert_eq!(lines(input, &[]), expected);
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_lines(
            parts in proptest::collection::vec(prop_oneof!["[a-z =]{0,40}\n", "\n", "[a-z]{1,3}\0\n"], 0..40),
            cuts in proptest::collection::vec(1usize..50, 0..60),
        ) {
            let input = parts.concat().into_bytes();
            prop_assert_eq!(lines(&input, &cuts), lines(&input, &[]));
        }
    }
}
