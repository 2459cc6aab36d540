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

mod mark;
mod marked;
mod replayed;
mod shapes;
mod stamp;
mod wire;

use memchr::memchr;

pub(crate) use self::mark::Number;
#[allow(unused_imports, reason = "for loads of many streams")]
pub(crate) use self::mark::STREAMS;
pub(crate) use self::marked::Marked;
pub(crate) use self::replayed::Replayed;
#[allow(unused_imports, reason = "for loads of many streams")]
pub(crate) use self::wire::Cursor;
pub(crate) use self::wire::Wire;

use self::shapes::{Random, Text};
use crate::plan::Plan;

/// auditd's separator between what the kernel said and what auditd added.
const ENRICHED: u8 = 0x1D;

/// Records in a lap. Fixed binary frames are 40 times as long, so their lap is shorter.
const LAP: usize = 4096;
const LAP_FIXED: usize = 512;
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
    /// Bytes of each record line (without LF) in [`SIZES`]; `None` is the mix of a real host.
    pub(crate) size: Option<usize>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { seed: 1, form: Form::Text, frames: Frames::Exact, eoe: false, size: None }
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
            _ => LAP,
        };
        let mut random = Random(shape.seed);
        let enriched = shape.form != Form::Binary0;
        let mut wire = Wire::new(false);
        let mut expected = Marked::new();
        let mut event = 0;
        while expected.records() < lap {
            let records = match shape.size {
                None => shapes::random_event(&mut random, shape.eoe),
                Some(size) => vec![shapes::sized(&mut random, size, enriched)],
            };
            for record in records {
                let text = Text::of(&record, enriched);
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
    /// A record, byte for byte (0x1D may be a space).
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
}

impl Expected {
    /// Judges one syslog message, given that the records `0..announced` of each stream were written (`u64::MAX` if
    /// that is not known). No allocation.
    pub(crate) fn judge(&mut self, message: &[u8], announced: u64, plan: &Plan) -> Verdict {
        match self {
            Self::Marked(marked) => marked.judge(message, announced),
            Self::Replayed(replayed) => replayed.judge(message, announced, plan),
        }
    }

    /// Expects the streams `0..streams` (at most [`STREAMS`]); without this only stream 0.
    #[allow(dead_code, reason = "for loads of many streams")]
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
mod tests {
    use super::marked::is_padding;
    use super::replayed::text_start;
    use super::*;
    use proptest::prelude::*;

    const TEXT: Shape = Shape { seed: 1, form: Form::Text, frames: Frames::Exact, eoe: false, size: None };

    fn plan() -> Plan {
        Plan::new(0, None)
    }

    fn number(sequence: u64) -> Number {
        Number { stream: 0, sequence }
    }

    /// What a faithful relay makes of a text line.
    fn relayed(line: &[u8]) -> Vec<u8> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text: Vec<u8> = text.iter().map(|&b| if b == ENRICHED { b' ' } else { b }).collect();
        [b"<182>1 2026-11-23T09:02:31.650Z h auditd - X - ", text.as_slice()].concat()
    }

    fn lines(shape: Shape, count: usize) -> Vec<Vec<u8>> {
        let mut wire = Corpus::generate(shape).wire;
        (0..count as u64)
            .map(|n| {
                let range = wire.prepare(n * 10, n * 10 + 3);
                wire.bytes(range).to_vec()
            })
            .collect()
    }

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(lines(TEXT, 10_000), lines(TEXT, 10_000));
        assert_ne!(lines(TEXT, 100), lines(Shape { seed: 2, ..TEXT }, 100));
    }

    #[test]
    fn records_are_about_as_long_as_real_ones() {
        for (shape, range) in [(TEXT, 190..260), (Shape { eoe: true, ..TEXT }, 180..230)] {
            let mean = Corpus::generate(shape).wire.mean_bytes();
            assert!(range.contains(&mean), "{mean}");
        }
    }

    #[test]
    fn generated_text_is_printable_and_has_one_mark() {
        for line in lines(TEXT, 5000) {
            let text = line.strip_suffix(b"\n").unwrap();
            assert!(text.iter().all(|&b| b == ENRICHED || (0x20..0x7F).contains(&b)));
            assert!(text.iter().filter(|&&b| b == ENRICHED).count() <= 1);
            assert_eq!(text.windows(mark::NAME.len()).filter(|w| *w == mark::NAME).count(), 1);
            assert!(text.starts_with(b"type="));
        }
    }

    #[test]
    fn every_record_of_many_laps_is_recognised() {
        for shape in [TEXT, Shape { eoe: true, ..TEXT }] {
            let Corpus { mut wire, mut expected } = Corpus::generate(shape);
            let mut sequence = 0;
            for n in 0..3 * LAP as u64 {
                let range = wire.prepare(n * 100, n * 100 + 7);
                let message = relayed(wire.bytes(range));
                let verdict = expected.judge(&message, wire.sequence(), &plan());
                if message.windows(9).any(|w| w == b"type=EOE ") {
                    assert_eq!(verdict, Verdict::Unmarked);
                    continue;
                }
                let whole = Verdict::Whole {
                    number: number(sequence),
                    due_ns: Some(n * 100),
                    written_ns: Some(n * 100 + 7),
                };
                assert_eq!(verdict, whole, "{}", message.escape_ascii());
                sequence += 1;
            }
            assert_eq!(sequence, wire.sequence());
        }
    }

    proptest! {
        #[test]
        fn any_single_damage_is_torn_or_unmarked(n in 0usize..500, at in 0usize..2000, flip in 1u8..=255, cut in any::<bool>()) {
            let Corpus { mut wire, mut expected } = Corpus::generate(TEXT);
            let mut range = 0..0;
            for _ in 0..=n {
                range = wire.prepare(1 << 40, 1 << 40);
            }
            let whole = relayed(wire.bytes(range));
            let text_at = text_start(&whole).unwrap();
            let at = text_at + at % (whole.len() - text_at);
            let mut message = whole.clone();
            if cut {
                message.truncate(at);
            } else {
                message[at] ^= flip;
            }
            // The mark itself and its times are not covered by the comparison, and padding may be anything.
            let mark_at = memchr::memmem::find(&whole, mark::NAME).unwrap();
            prop_assume!(!(mark_at..mark_at + mark::LEN).contains(&at) || cut);
            prop_assume!(cut || !(at == whole.len() - 1 && is_padding(&message[at..])));
            let same = matches!(message.get(mark_at + mark::LEN), Some(&b) if b == ENRICHED) && at == mark_at + mark::LEN;
            prop_assume!(!same);
            let verdict = expected.judge(&message, wire.sequence(), &plan());
            prop_assert!(!matches!(verdict, Verdict::Whole { .. }), "{verdict:?}");
        }
    }

    #[test]
    fn a_message_without_its_head_or_from_the_future_is_torn() {
        let Corpus { mut wire, mut expected } = Corpus::generate(TEXT);
        let range = wire.prepare(0, 0);
        let message = relayed(wire.bytes(range));
        assert_eq!(expected.judge(&message[1..], 1, &plan()), Verdict::Torn(Some(number(0))));
        assert_eq!(expected.judge(&message[60..], 1, &plan()), Verdict::Torn(Some(number(0))));
        assert_eq!(expected.judge(&message, 0, &plan()), Verdict::Torn(None));
        assert_eq!(expected.judge(b"<13>Nov 23 09:15:57 cron[1]: hello", 1, &plan()), Verdict::Unmarked);
    }

    #[test]
    fn binary_frames_carry_the_record() {
        for (form, frames) in [
            (Form::Binary0, Frames::Exact),
            (Form::Binary1, Frames::Exact),
            (Form::Binary0, Frames::Fixed),
            (Form::Binary1, Frames::Fixed),
        ] {
            let shape = Shape { form, frames, ..TEXT };
            let Corpus { mut wire, mut expected } = Corpus::generate(shape);
            for n in 0..2000 {
                let range = wire.prepare(5, 5);
                let frame = wire.bytes(range);
                let word = |at: usize| u32::from_ne_bytes(frame[at..at + 4].try_into().unwrap());
                let size = word(12) as usize;
                assert_eq!((word(0), word(4)), (u32::from(form == Form::Binary1), 16));
                assert_eq!(
                    frame.len(),
                    16 + if frames == Frames::Fixed { wire::FRAME_PAYLOAD } else { size }
                );
                let payload = &frame[16..16 + size];
                let text = if form == Form::Binary0 {
                    assert!(payload.starts_with(b"audit("));
                    // A receiver takes the name from the number; here it comes from the expectation.
                    let Expected::Marked(marked) = &expected else { unreachable!() };
                    let name = marked.name_of(n);
                    [&name[..name.len() - 6], payload].concat()
                } else {
                    payload.to_vec()
                };
                let verdict = expected.judge(&relayed(&text), wire.sequence(), &plan());
                assert!(
                    matches!(verdict, Verdict::Whole { number, .. } if number.sequence == n as u64),
                    "{verdict:?}"
                );
            }
        }
    }

    #[test]
    fn replayed_lines_are_told_by_their_text() {
        let trace = b"type=A msg=audit(1.000:1): x\x1dUID=\"root\"\ntype=EOE msg=audit(1.000:1):\n\n\
                      type=A msg=audit(1.000:1): x\x1dUID=\"root\"\ntype=B msg=audit(1.000:2): \x01y\xff\ngarbage\n";
        let Corpus { mut wire, mut expected } = Corpus::replay(trace);
        while wire.peek().is_some() {
            wire.prepare(0, 0);
        }
        assert_eq!(wire.sequence(), 3);
        let whole = |sequence| Verdict::Whole { number: number(sequence), due_ns: None, written_ns: None };
        let a: &[u8] = b"<182>1 - h auditd - A - type=A msg=audit(1.000:1): x UID=\"root\"";
        let b: &[u8] = b"<182>Nov 23 09:15:57 auditd: type=B msg=audit(1.000:2): #001y#377\n";
        for (message, verdict) in [
            (b, whole(2)),
            (a, whole(0)),
            (b"<182>x: type=A msg=audit(1.000:1): x#035UID=\"root\"", whole(1)),
            (a, whole(1)),
            (&b[..b.len() - 3], Verdict::Torn(None)),
            (b"<182>x: garbage", Verdict::Unmarked),
        ] {
            assert_eq!(expected.judge(message, 3, &plan()), verdict, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn records_can_be_asked_for_in_any_size() {
        for form in [Form::Text, Form::Binary0] {
            for size in [120, 121, 150, 199, 200, 201, 256, 1024, 8970] {
                let shape = Shape { size: Some(size), form, ..TEXT };
                let Corpus { mut wire, mut expected } = Corpus::generate(shape);
                for _ in 0..wire.lines() {
                    let range = wire.prepare(0, 0);
                    let line = wire.bytes(range);
                    if form == Form::Text {
                        assert_eq!(line.len(), size + 1);
                        let verdict = expected.judge(&relayed(line), wire.sequence(), &plan());
                        assert!(matches!(verdict, Verdict::Whole { .. }), "{}", line.escape_ascii());
                    } else {
                        // The frame's header is two bytes shorter than `type=USER msg=` here.
                        assert!(line.len() <= size + 16, "{} for {size}", line.len());
                    }
                }
            }
        }
    }

    #[test]
    fn streams_take_turns_on_one_lap() {
        let Corpus { mut wire, mut expected } = Corpus::generate(TEXT);
        expected.expect_streams(2);
        let mut other = Cursor::new(1);
        for turn in 0..3 * LAP as u64 {
            // The streams swap after every record; the second falls behind by a third.
            let (stream, sequence) =
                if turn % 2 == 0 || turn % 3 == 0 { (0, wire.sequence()) } else { (1, other.sequence()) };
            if stream == 1 {
                other = wire.resume(other);
            }
            let range = wire.prepare(7, 8);
            let message = relayed(wire.bytes(range));
            if stream == 1 {
                other = wire.resume(other);
            }
            let whole =
                Verdict::Whole { number: Number { stream, sequence }, due_ns: Some(7), written_ns: Some(8) };
            assert_eq!(expected.judge(&message, u64::MAX, &plan()), whole, "{}", message.escape_ascii());
        }
        assert_eq!((wire.sequence(), other.sequence()), (2 * LAP as u64, LAP as u64));
        // A stream nobody started is a broken mark.
        wire.resume(Cursor::new(2));
        let range = wire.prepare(7, 8);
        assert_eq!(expected.judge(&relayed(wire.bytes(range)), u64::MAX, &plan()), Verdict::Torn(None));
    }

    #[test]
    fn two_records_in_one_message_are_torn() {
        let Corpus { mut wire, mut expected } = Corpus::generate(TEXT);
        let first = wire.prepare(0, 0);
        let first = relayed(wire.bytes(first));
        let second = wire.prepare(0, 0);
        let second = relayed(wire.bytes(second));
        let glued = [first.as_slice(), b" ", &second].concat();
        assert_eq!(expected.judge(&glued, 9, &plan()), Verdict::Torn(Some(number(0))));
        // Also where the second is the one that is expected next.
        assert_eq!(expected.judge(&glued, 9, &plan()), Verdict::Torn(Some(number(0))));
    }

    /// How long preparing and judging take; run with `--release -- --ignored --nocapture speed`.
    #[test]
    #[ignore = "prints times, proves nothing"]
    fn speed() {
        use std::time::Instant;
        const ROUNDS: u64 = 5_000_000;
        for size in [None, Some(205), Some(256)] {
            let Corpus { mut wire, mut expected } = Corpus::generate(Shape { size, ..TEXT });
            let start = Instant::now();
            let mut bytes = 0;
            for n in 0..ROUNDS {
                bytes += std::hint::black_box(wire.prepare((1 << 60) + n, (1 << 60) + n + 100)).len();
            }
            let prepare = start.elapsed();
            wire.resume(Cursor::new(0));
            let messages: Vec<Vec<u8>> = (0..LAP)
                .map(|_| {
                    let range = wire.prepare(1 << 60, 1 << 60);
                    relayed(wire.bytes(range))
                })
                .collect();
            let start = Instant::now();
            let mut whole = 0u64;
            for _ in 0..ROUNDS / LAP as u64 {
                for message in &messages {
                    whole += u64::from(matches!(
                        expected.judge(message, u64::MAX, &plan()),
                        Verdict::Whole { .. }
                    ));
                }
            }
            assert_eq!(whole, ROUNDS / LAP as u64 * LAP as u64);
            println!(
                "{size:?}: prepare {:.1} ns, judge {:.1} ns, mean {} B",
                prepare.as_nanos() as f64 / ROUNDS as f64,
                start.elapsed().as_nanos() as f64 / whole as f64,
                bytes as u64 / ROUNDS
            );
        }
    }
}
