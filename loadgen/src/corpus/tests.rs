//! Tests of both sides together.

use super::marked::is_padding;
use super::replayed::text_start;
use super::*;
use proptest::prelude::*;

const TEXT: Shape =
    Shape { seed: 1, form: Form::Text, frames: Frames::Exact, eoe: false, mix: Mix::Host, size: None };

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

fn lines(shape: Shape, count: u64) -> Vec<Vec<u8>> {
    let mut wire = Corpus::generate(shape).wire;
    (0..count)
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

/// Median, upper quantiles, maximum and mean of line lengths.
fn lengths(mut lengths: Vec<usize>) -> [usize; 7] {
    lengths.sort_unstable();
    let at = |per_mille: usize| lengths[lengths.len() * per_mille / 1000];
    let max = lengths[lengths.len() - 1];
    [at(500), at(750), at(900), at(950), at(990), max, lengths.iter().sum::<usize>() / lengths.len()]
}

#[test]
fn lines_are_as_long_as_recorded_ones() {
    let recorded = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/string.log")).unwrap();
    for eoe in [false, true] {
        let real = recorded.split(|&b| b == b'\n').filter(|line| is_record(line) && (eoe || !is_eoe(line)));
        let real = lengths(real.map(<[u8]>::len).collect());
        for seed in [1, 2, 77] {
            let shape = Shape { eoe, seed, ..TEXT };
            let ours = lines(shape, Corpus::generate(shape).wire.lines());
            let ours = lengths(ours.iter().map(|line| line.len() - 1).collect());
            for (ours_at, real_at) in ours.iter().zip(real) {
                assert!(
                    ours_at.abs_diff(real_at) * 10 <= real_at,
                    "seed {seed}, eoe {eoe}: p50 p75 p90 p95 p99 max mean\n{ours:?}\n{real:?}"
                );
            }
        }
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
            assert_eq!(frame.len(), 16 + if frames == Frames::Fixed { wire::FRAME_PAYLOAD } else { size });
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
            let shape = Shape { mix: Mix::Single, size: Some(size), form, ..TEXT };
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
fn nasty_records_are_whole_in_every_rendering_and_torn_when_cut() {
    let shape = Shape { mix: Mix::Nasty, ..TEXT };
    let head: &[u8] = b"<182>1 2026-11-23T09:02:31.650Z h auditd - X [meta sequenceId=\"7\"] ";
    let escaped = |text: &[u8]| {
        let mut out = Vec::new();
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\x1d' => out.push(b' '),
                    c if c.is_control() && c != '\t' => {
                        out.extend(c.to_string().bytes().flat_map(|b| format!("#{b:03o}").into_bytes()));
                    }
                    c => out.extend(c.to_string().bytes()),
                }
            }
            out.extend(chunk.invalid().iter().flat_map(|b| format!("#{b:03o}").into_bytes()));
        }
        out
    };
    let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned().into_bytes();
    for rendering in 0..3 {
        let Corpus { mut wire, mut expected } = Corpus::generate(shape);
        for sequence in 0..2 * wire.lines() {
            let range = wire.prepare(5, 6);
            let text = wire.bytes(range).strip_suffix(b"\n").unwrap();
            assert!(!text.contains(&b'\n') && !text.contains(&0) && text.len() <= wire::FRAME_PAYLOAD);
            let rendered = [text.to_vec(), escaped(text), lossy(text)][rendering].clone();
            let message = [head, &rendered].concat();
            let verdict = expected.judge(&message, u64::MAX, &plan());
            assert!(
                matches!(verdict, Verdict::Whole { number, .. } if number.sequence == sequence),
                "rendering {rendering} of record {sequence}: {verdict:?}"
            );
            // Cut behind the mark (the number is legible then), and with two bytes swapped before it.
            let mark_at = memchr::memmem::find(&message, mark::NAME).unwrap();
            let cut = &message[..message.len() - 1];
            if cut.len() > mark_at + mark::LEN {
                assert_eq!(expected.judge(cut, u64::MAX, &plan()), Verdict::Torn(Some(number(sequence))));
            }
            let mut swapped = message.clone();
            swapped.swap(head.len() + 2, head.len() + 3);
            assert_eq!(expected.judge(&swapped, u64::MAX, &plan()), Verdict::Torn(Some(number(sequence))));
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
    use crate::plan::Pace;
    use nix::time::{ClockId, clock_gettime};
    use std::num::NonZeroU64;
    use std::time::Duration;
    // CPU time of this thread: others may be busy.
    let cpu = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    const ROUNDS: u64 = 5_000_000;
    for (name, pace) in [
        ("constant", Pace::Constant(NonZeroU64::new(1_000_000).unwrap())),
        ("ramp", Pace::ramp("1000..3000000".parse().unwrap(), Duration::from_secs(60)).unwrap()),
    ] {
        let plan = Plan::paced(1 << 60, Some(pace));
        let start = cpu();
        for n in 0..ROUNDS {
            std::hint::black_box(plan.intended(std::hint::black_box(n)));
        }
        println!("{name}: due time {:.1} ns", (cpu() - start).as_nanos() as f64 / ROUNDS as f64);
    }
    for size in [None, Some(205), Some(256)] {
        let Corpus { mut wire, mut expected } =
            Corpus::generate(Shape { mix: size.map_or(Mix::Host, |_| Mix::Single), size, ..TEXT });
        let start = cpu();
        let mut bytes = 0;
        for n in 0..ROUNDS {
            bytes += std::hint::black_box(wire.prepare((1 << 60) + n, (1 << 60) + n + 100)).len();
        }
        let prepare = cpu() - start;
        wire.resume(Cursor::new(0));
        let messages: Vec<Vec<u8>> = (0..LAP)
            .map(|_| {
                let range = wire.prepare(1 << 60, 1 << 60);
                relayed(wire.bytes(range))
            })
            .collect();
        let start = cpu();
        let mut whole = 0u64;
        for _ in 0..ROUNDS / LAP as u64 {
            for message in &messages {
                whole +=
                    u64::from(matches!(expected.judge(message, u64::MAX, &plan()), Verdict::Whole { .. }));
            }
        }
        assert_eq!(whole, ROUNDS / LAP as u64 * LAP as u64);
        println!(
            "{size:?}: prepare {:.1} ns, judge {:.1} ns, mean {} B",
            prepare.as_nanos() as f64 / ROUNDS as f64,
            (cpu() - start).as_nanos() as f64 / whole as f64,
            bytes as u64 / ROUNDS
        );
    }
}
