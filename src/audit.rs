//! 2 DECODE: bytes from auditd in, records out.
//!
//! Promise: [`Decoder`] turns the stream into the same records however the reads cut it. Law: no input is
//! an error; what cannot be decoded comes out as a record with `kind` or `stamp` missing, or, between
//! binary frames only, as a number of skipped bytes.
//!
//! The form is told by the first eight bytes: a binary header has a small version and its own length there,
//! which no line has (a first line of stray control characters is still a line). auditd cannot be asked, and
//! its configuration is not ours to read.

#![forbid(unsafe_code)]

mod frames;
mod lines;
mod own;
mod record;
mod stamp;
mod types;

pub use frames::FIXED_FRAME;
pub use lines::MAX_LINE;
pub use own::Own;
pub use record::{Key, Kind, Record, Stamp};

use frames::Frames;
use lines::Lines;

/// What the user says about the input.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InputForm {
    /// Tell by the first bytes.
    #[default]
    Auto,
    /// Lines (`format = string` in the plugin's configuration).
    Text,
    /// Frames; their layout is found out.
    Binary,
    /// Frames as auditd 4.1.1 and later write them.
    BinaryExact,
    /// Frames of 8986 bytes each, as auditd 3.0 to 4.1.0 write them.
    BinaryFixed,
}

/// One step of the decoder. Every `consumed` is at least 1.
#[derive(Debug)]
pub enum Step<'a> {
    /// One record, in the first `consumed` bytes of the input.
    Record {
        /// The record, borrowed from the input.
        record: Record<'a>,
        /// Bytes to take off the input.
        consumed: usize,
    },
    /// An empty line or frame: read, but nothing to forward.
    Empty {
        /// Bytes to take off the input.
        consumed: usize,
    },
    /// Bytes between frames that are no frame. They may be heap of auditd, so they are never forwarded.
    Skipped {
        /// Bytes to take off the input, and to report as skipped.
        consumed: usize,
    },
    /// The unused rest of a fixed frame: takes part in nothing.
    Tail {
        /// Bytes to take off the input.
        consumed: usize,
    },
    /// Nothing more can be told from this input.
    More,
}

/// Decodes one stream.
#[derive(Debug)]
pub struct Decoder {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Undecided,
    Text(Lines),
    Binary(Frames),
}

impl Decoder {
    /// The most input that can be left over when [`Decoder::step`] asks for more, in bytes.
    pub const MAX_PENDING: usize = MAX_LINE;

    /// Starts at the beginning of a stream.
    pub fn new(form: InputForm) -> Self {
        let form = match form {
            InputForm::Auto => Form::Undecided,
            InputForm::Text => Form::Text(Lines::default()),
            InputForm::Binary => Form::Binary(Frames::detect()),
            InputForm::BinaryExact => Form::Binary(Frames::exact()),
            InputForm::BinaryFixed => Form::Binary(Frames::fixed()),
        };
        Self { form }
    }

    /// Decodes the front of `input`: all bytes read so far and not yet consumed. `ended` says that the
    /// stream has ended; then [`Step::More`] means that everything was consumed.
    //
    // The ways through it are told to the compiler: where it chose by itself, text cost 9 % more or less according to
    // what stood elsewhere in the program.
    #[inline(always)]
    pub fn step<'a>(&mut self, input: &'a [u8], ended: bool) -> Step<'a> {
        if matches!(self.form, Form::Undecided) && !self.decide(input, ended) {
            return Step::More;
        }
        match &mut self.form {
            Form::Text(lines) => lines.step(input, ended),
            Form::Binary(frames) => frames.step(input, ended),
            Form::Undecided => Step::More,
        }
    }

    /// Finds out the form. False while too little has arrived to tell.
    #[cold]
    fn decide(&mut self, input: &[u8], ended: bool) -> bool {
        self.form = match frames::starts_stream(input) {
            _ if input.is_empty() => return false,
            None if !ended => return false,
            Some(true) => Form::Binary(Frames::detect()),
            Some(false) | None => Form::Text(Lines::default()),
        };
        true
    }

    /// The form in use.
    pub fn form(&self) -> StreamForm {
        match self.form {
            Form::Undecided => StreamForm::Undecided,
            Form::Text(_) => StreamForm::Text,
            Form::Binary(_) => StreamForm::Binary,
        }
    }
}

/// The form that the stream was found to have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamForm {
    /// Nothing has arrived.
    Undecided,
    /// Lines.
    Text,
    /// Frames.
    Binary,
}

impl StreamForm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Undecided, Self::Text, Self::Binary];

    /// The word in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Text => "text",
            Self::Binary => "binary",
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    #[derive(Debug, Default)]
    pub(crate) struct Decoded {
        pub(crate) texts: Vec<Vec<u8>>,
        pub(crate) prefixed: usize,
        pub(crate) skipped: usize,
        pub(crate) empty: usize,
    }

    /// Feeds `input` in pieces of the lengths `cuts` (repeated; none: all at once), as reads would.
    pub(crate) fn decode_in_chunks(mut decoder: Decoder, input: &[u8], cuts: &[usize]) -> Decoded {
        let mut got = Decoded::default();
        let mut pending: Vec<u8> = Vec::new();
        let mut rest = input;
        let mut cuts = cuts.iter().cycle();
        loop {
            let take = cuts.next().copied().unwrap_or(rest.len()).min(rest.len());
            pending.extend_from_slice(&rest[..take]);
            rest = &rest[take..];
            let ended = rest.is_empty();
            let mut at = 0;
            loop {
                at += match decoder.step(&pending[at..], ended) {
                    Step::Record { record, consumed } => {
                        got.prefixed += usize::from(record.needs_prefix);
                        got.texts.push(record.text.to_vec());
                        consumed
                    }
                    Step::Empty { consumed } => {
                        got.empty += 1;
                        consumed
                    }
                    Step::Skipped { consumed } => {
                        got.skipped += consumed;
                        consumed
                    }
                    Step::Tail { consumed } => consumed,
                    Step::More => break,
                };
            }
            pending.drain(..at);
            assert!(ended || pending.len() <= Decoder::MAX_PENDING);
            if ended {
                assert!(pending.is_empty(), "{} bytes left over", pending.len());
                return got;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::decode_in_chunks;
    use super::*;

    const STRING_LOG: &[u8] = include_bytes!("../tests/data/string.log");
    const EXACT: &[u8] = include_bytes!("../tests/data/binary-v0-exact.bin");
    const FIXED: &[u8] = include_bytes!("../tests/data/binary-v0-fixed.bin");

    #[test]
    fn the_first_bytes_tell_the_form() {
        for (input, expected) in [
            (&b"t"[..], "text"),
            (b"node=", "text"),
            (b"\n", "text"),
            // A record of a network peer may start with anything; such a stream is still one of lines.
            (b"\0\ntype=X", "text"),
            (b"\x01abc\ntype=X", "text"),
            (b"\0\0\0", "undecided"),
            (b"\0\0\0\x07\x07\x07\x07\x07garbage", "undecided"),
            (&[b"\0\0\0\x07\x07\x07\x07\x07", &EXACT[..64]].concat(), "binary"),
            (&EXACT[..8], "binary"),
            (&EXACT[..7], "undecided"),
        ] {
            let mut decoder = Decoder::new(InputForm::Auto);
            decoder.step(input, false);
            assert_eq!(decoder.form().name(), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_stream_that_ends_undecided_is_text() {
        let got = decode_in_chunks(Decoder::new(InputForm::Auto), b"\x01ab", &[]);
        assert_eq!(got.texts, [b"\x01ab"]);
    }

    #[test]
    fn every_record_of_the_real_streams() {
        let text = decode_in_chunks(Decoder::new(InputForm::Auto), STRING_LOG, &[4096]);
        assert_eq!((text.texts.len(), text.skipped, text.empty), (7358, 0, 0));
        let exact = decode_in_chunks(Decoder::new(InputForm::Auto), EXACT, &[61_000]);
        assert_eq!((exact.texts.len(), exact.prefixed, exact.skipped), (6651, 6651, 0));
        let fixed = decode_in_chunks(Decoder::new(InputForm::Auto), FIXED, &[61_000]);
        assert_eq!((fixed.texts.len(), fixed.prefixed, fixed.skipped), (300, 300, 0));
        // The fixed file holds the first frames of the same run.
        assert_eq!(fixed.texts[..], exact.texts[..300]);
    }

    #[test]
    fn every_record_of_the_real_streams_has_type_and_stamp() {
        for stream in [STRING_LOG, EXACT, FIXED] {
            let mut decoder = Decoder::new(InputForm::Auto);
            let mut at = 0;
            loop {
                at += match decoder.step(&stream[at..], true) {
                    Step::Record { record, consumed } => {
                        assert!(record.is_decoded(), "{}", record.text.escape_ascii());
                        consumed
                    }
                    Step::Tail { consumed } => consumed,
                    Step::More => break,
                    other => panic!("{other:?}"),
                };
            }
            assert_eq!(at, stream.len());
        }
    }
}
