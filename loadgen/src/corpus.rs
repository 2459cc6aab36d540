//! What is sent, and what must arrive: audit records built before the clock starts.
//!
//! *Promise:* the same seed gives the same records, shaped like those of execve, openat and PAM on a host with
//! `log_format = ENRICHED`; every record carries its stream, sequence number and send times in its own text, so any
//! receiver that keeps the text can be measured.
//! *Law:* sending allocates nothing and copies nothing: stamp and mark are patched in place in one block that
//! already has the form of the wire. The block holds one *lap*; laps repeat with new stamps and marks.
//!
//! ```text
//! type=SYSCALL msg=audit(1795424551.649:100000021): arch=... key="exec" lg=000.000000002a.18a7... \x1dARCH=...
//!                        '------- stamp -------'                        '-------- mark --------'
//! ```
//! `EOE` lines carry no mark: receivers drop them, so nothing about them is expected.

mod audited;
mod envelope;
pub(crate) mod mark;
mod marked;
mod rendering;
mod replayed;
mod shapes;
mod stamp;
mod wire;

use memchr::memchr;

pub(crate) use self::audited::{Audited, Storm, Whole};
pub(crate) use self::envelope::Envelope;
pub(crate) use self::mark::Number;
pub(crate) use self::mark::STREAMS;
pub(crate) use self::marked::Marked;
pub(crate) use self::replayed::Replayed;
pub(crate) use self::wire::Cursor;
pub(crate) use self::wire::Wire;

use self::shapes::{Dealer, Text};
use crate::plan::Plan;

/// auditd's separator between what the kernel said and what auditd added.
const ENRICHED: u8 = 0x1D;

/// Records in a lap. Fixed binary frames are 40 times as long, so their lap is shorter.
const LAP: usize = 4096;
const LAP_FIXED: usize = 512;
const LAP_NASTY: usize = 1024;
/// About how many bytes a lap of long records has at most.
const LAP_BYTES: usize = 1 << 20;

/// What auditd writes: text lines or one of its two binary payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// `format = string`: one line per record
    Text,
    /// `format = binary`, log_format RAW: the kernel's payload, version 0
    Binary0,
    /// `format = binary`, log_format ENRICHED: the formatted line, version 1
    Binary1,
}

/// Which records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mix {
    /// As on a real host: types, proportions and lengths of a recorded stream
    #[default]
    Host,
    /// What is hard to relay: 8970 bytes, control characters, no UTF-8, look-alikes of frames and headers
    Nasty,
    /// User records, one an event, all of one length
    Single,
}

/// How binary frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Frames {
    /// As long as the header says (auditd 4.1.1 and later)
    Exact,
    /// Always 8970 bytes of payload area, stale bytes after the payload (auditd before 4.1.1)
    Fixed,
}

/// Bytes that a record line can be asked to have: what the shortest needs, to what auditd's payload area holds.
pub(crate) const SIZES: std::ops::RangeInclusive<usize> = 120..=wire::FRAME_PAYLOAD;

/// What to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Seed of the record mix.
    pub(crate) seed: u64,
    /// Form on the wire.
    pub(crate) form: Form,
    /// Frames of the binary forms.
    pub(crate) frames: Frames,
    /// Whether events end with an `EOE` line.
    pub(crate) eoe: bool,
    /// Which records.
    pub(crate) mix: Mix,
    /// Bytes of each record line (without LF) of [`Mix::Single`], in [`SIZES`].
    pub(crate) size: Option<usize>,
}

impl Shape {
    /// Whether auditd added names for numbers.
    fn is_enriched(&self) -> bool {
        self.form != Form::Binary0
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self { seed: 1, form: Form::Text, frames: Frames::Exact, eoe: false, mix: Mix::Host, size: None }
    }
}

/// A lap to send and the knowledge to judge what arrives.
#[derive(Debug)]
pub(crate) struct Corpus {
    /// The sending side.
    pub(crate) wire: Wire,
    /// The receiving side.
    pub(crate) expected: Expected,
}

impl Corpus {
    /// Builds a lap of generated records.
    pub(crate) fn generate(shape: Shape) -> Self {
        let lap = match (shape.form, shape.frames, shape.size) {
            (Form::Binary0 | Form::Binary1, Frames::Fixed, _) => LAP_FIXED,
            (_, _, Some(size)) => LAP.min(LAP_BYTES / size.max(1)),
            _ if shape.mix == Mix::Nasty => LAP_NASTY,
            _ => LAP,
        };
        let mut dealer = Dealer::new(shape);
        let mut wire = Wire::new(false);
        let mut expected = Marked::new();
        let mut event = 0;
        while expected.records() < lap {
            for record in dealer.event() {
                let text = Text::of(&record, shape.is_enriched());
                if let Some(mark) = text.mark {
                    expected.add(&text.bytes, text.stamp, mark, event);
                }
                wire.add(&text, &record, event, shape);
            }
            event += 1;
        }
        wire.close(event);
        expected.close(event);
        Self { wire, expected: Expected::Marked(Box::new(expected)) }
    }

    /// Takes the lines of a recorded text stream as they are, once, without marks.
    ///
    /// Lines that are no records (not starting with `type=` or `node=`) and `EOE` are written but not expected.
    pub(crate) fn replay(recorded: &[u8]) -> Self {
        let mut wire = Wire::new(true);
        let mut expected = Replayed::default();
        for line in recorded.split_inclusive(|&byte| byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let sequenced = is_record(text) && !is_eoe(text);
            if sequenced {
                expected.add(text, wire.lines());
            }
            wire.add_recorded(line, sequenced);
        }
        Self { wire, expected: Expected::Replayed(expected) }
    }
}

/// Splits off an optional `node=NAME `.
fn without_node(text: &[u8]) -> &[u8] {
    if text.starts_with(b"node=") {
        memchr(b' ', text).map_or(text, |space| &text[space + 1..])
    } else {
        text
    }
}

fn is_record(text: &[u8]) -> bool {
    without_node(text).starts_with(b"type=")
}

fn is_eoe(text: &[u8]) -> bool {
    without_node(text).starts_with(b"type=EOE ")
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A record, byte for byte, odd bytes in one of their known forms.
    Whole {
        /// Which one.
        number: Number,
        /// When it was due, nanoseconds since 1970, if it was.
        due_ns: Option<u64>,
        /// When it was written, nanoseconds since 1970, if that is known.
        written_ns: Option<u64>,
    },
    /// A record that lost or changed bytes; its number if that is still legible.
    Torn(Option<Number>),
    /// No record of ours.
    Unmarked,
}

/// Judges messages.
#[derive(Debug)]
pub(crate) enum Expected {
    /// Generated records, told by their marks.
    Marked(Box<Marked>),
    /// Replayed lines, told by their text.
    Replayed(Replayed),
    /// Records that the kernel made, told by mark or key.
    Audited(Box<Audited>),
}

impl Expected {
    /// Judges one syslog message, given that the records `0..announced` of each stream were written (`u64::MAX` if
    /// that is not known). No allocation.
    pub(crate) fn judge(&mut self, message: &[u8], announced: u64, plan: &Plan) -> Verdict {
        match self {
            Self::Marked(marked) => marked.judge(message, announced),
            Self::Replayed(replayed) => replayed.judge(message, announced, plan),
            Self::Audited(audited) => audited.judge(message, announced),
        }
    }

    /// Expects the lines of a receiver's file instead of syslog messages: without `<PRI>`, and for generated records
    /// with something behind them that a template put there.
    pub(crate) fn expect_lines(&mut self) {
        match self {
            Self::Marked(marked) => marked.expect_lines(),
            Self::Replayed(replayed) => replayed.expect_lines(),
            // Only ever judged as they arrive.
            Self::Audited(_) => {}
        }
    }

    /// How many records there are in all, if they do not repeat.
    pub(crate) fn total(&self) -> Option<u64> {
        match self {
            Self::Marked(_) | Self::Audited(_) => None,
            Self::Replayed(replayed) => Some(replayed.total()),
        }
    }

    /// Expects the streams `0..streams` (at most [`STREAMS`]); without this only stream 0.
    pub(crate) fn expect_streams(&mut self, streams: u16) {
        if let Self::Marked(marked) = self {
            marked.expect_streams(streams);
        }
    }
}

/// A syslog message begins `<PRI>`; without it, its head is missing.
fn has_priority(message: &[u8]) -> bool {
    message.strip_prefix(b"<").is_some_and(|rest| {
        let digits = rest.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
        digits > 0 && rest.get(digits) == Some(&b'>')
    })
}

#[cfg(test)]
mod tests;
