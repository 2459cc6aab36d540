//! 2 DECODE: bytes to records, in whatever pieces they arrive.

use audit_relay::audit::{Decoder, FIXED_FRAME, InputForm, Kind, MAX_LINE, Record, Step, StreamForm};
use audit_relay::batch::Batch;
use audit_relay::syslog::{Encoder, Format, Framing};

use super::choices::{Choices, Cuts};
use super::encode::plain_shape;
use super::{receiver, reference};

/// The longest payload of a frame, in bytes (`MAX_AUDIT_MESSAGE_LENGTH`).
const MAX_PAYLOAD: usize = 8970;

/// No input makes a stream longer than this, in bytes: a line of [`MAX_LINE`] and what follows it.
const LONGEST_STREAM: usize = MAX_LINE + 16 * 1024;

/// What came out of a decoder.
#[derive(Debug, Default, Eq, PartialEq)]
struct Decoded<'a> {
    /// Text, and whether it lacks `type=TYPE msg=`.
    records: Vec<(&'a [u8], bool)>,
    empty: usize,
    skipped: usize,
    tail: usize,
}

/// Feeds `stream` in pieces and checks what must hold of every step.
fn decode<'a>(
    decoder: &mut Decoder,
    stream: &'a [u8],
    cuts: &mut Cuts,
    mut each: impl FnMut(&Record<'a>),
) -> Decoded<'a> {
    let mut got = Decoded::default();
    let (mut start, mut end) = (0, 0);
    loop {
        end = cuts.next().saturating_add(end).min(stream.len());
        let ended = end == stream.len();
        loop {
            let pending = &stream[start..end];
            let consumed = match decoder.step(pending, ended) {
                Step::Record { record, consumed } => {
                    let taken = pending[..consumed].as_ptr_range();
                    let text = record.text.as_ptr_range();
                    assert!(taken.start <= text.start && text.end <= taken.end, "text from elsewhere");
                    assert!(!record.text.is_empty(), "an empty record");
                    let longest = if decoder.form() == StreamForm::Binary { MAX_PAYLOAD } else { MAX_LINE };
                    assert!(record.text.len() <= longest, "a record of {} bytes", record.text.len());
                    got.records.push((record.text, record.needs_prefix));
                    each(&record);
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
                Step::Tail { consumed } => {
                    got.tail += consumed;
                    consumed
                }
                Step::More => break,
            };
            assert!((1..=pending.len()).contains(&consumed), "consumed {consumed} of {}", pending.len());
            start += consumed;
        }
        if ended {
            assert_eq!(start, stream.len(), "bytes left over");
            return got;
        }
        assert!(end - start <= Decoder::MAX_PENDING, "{} bytes pending", end - start);
    }
}

/// No stream for the whole way is longer, in bytes: more than is needed to tell its form. Each byte that a header is
/// looked for behind costs as much as a hundred others.
const LONGEST_WAY: usize = 17 * 1024;

/// Makes streams of up to `longest` bytes of short inputs: where `cut` is 0xf0 or more, 0x02 and a number repeat the next byte 1024 times
/// the number.
fn expanded(cut: u8, input: &[u8], longest: usize) -> Vec<u8> {
    if cut < 0xf0 {
        return input.to_vec();
    }
    let mut stream = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if let (2, [count, what, after @ ..]) = (first, after) {
            let count = usize::from(*count) * 1024;
            if stream.len() + count + after.len() <= longest {
                stream.resize(stream.len() + count, *what);
                rest = after;
                continue;
            }
        }
        stream.push(first);
    }
    stream
}

/// Frames. Any bytes: every step is sane (see `decode`) and no record is longer than a payload. Where the user has
/// named the layout, the cut changes nothing. Where the stream is one of frames, whatever stands in payloads and
/// tails, each payload comes out once, whole, and nothing else does.
pub fn frames(input: &[u8]) {
    let mut choices = Choices::new(input);
    let form = choices.of(&[InputForm::Binary, InputForm::BinaryExact, InputForm::BinaryFixed]);
    let is_stream = choices.byte().is_multiple_of(2);
    let cut = choices.byte();
    if is_stream {
        return stream_of_frames(form, cut, choices);
    }
    let stream = expanded(cut, choices.rest(), LONGEST_STREAM);
    let cut = decode(&mut Decoder::new(form), &stream, &mut Cuts::new(cut), |_| ());
    if form != InputForm::Binary {
        let whole = decode(&mut Decoder::new(form), &stream, &mut Cuts::new(10), |_| ());
        assert_eq!(cut, whole, "the cut changes what is read");
    }
}

fn stream_of_frames(form: InputForm, cut: u8, mut choices: Choices<'_>) {
    let fixed = match form {
        InputForm::BinaryFixed => true,
        InputForm::BinaryExact => false,
        _ => choices.byte().is_multiple_of(2),
    };
    let (mut stream, mut expected, mut empty) = (Vec::new(), Vec::new(), 0);
    while !choices.is_empty() && stream.len() < 4 * FIXED_FRAME {
        let version = choices.byte() % 2;
        let number = choices.word();
        let kind = choices.byte();
        let size = match kind % 8 {
            0 => usize::from(choices.word()) % (MAX_PAYLOAD + 1),
            1 => MAX_PAYLOAD,
            2 => 0,
            _ => usize::from(choices.byte()),
        };
        let start: &[u8] = if version == 0 { b"audit(1.001:1): " } else { b"type=X msg=audit(1.001:1): " };
        let pattern = choices.take(usize::from(kind) / 8);
        // The kernel's text holds no NUL (it is a C string there); where the layout is to be found out, that is what
        // tells it from a header.
        let keep = |byte: &u8| if form == InputForm::Binary && *byte == 0 { b'0' } else { *byte };
        let cycle: Vec<u8> = pattern.iter().chain([&b'a']).map(keep).collect();
        let begin = if form == InputForm::Binary || kind.is_multiple_of(2) { start } else { b"" };
        let mut payload = begin.to_vec();
        fill(&mut payload, &cycle, size);
        let before = stream.len();
        for word in [u32::from(version), 16, u32::from(number), size.try_into().unwrap_or(0)] {
            stream.extend_from_slice(&word.to_ne_bytes());
        }
        stream.extend_from_slice(&payload);
        if fixed {
            fill(&mut stream, &cycle, before + FIXED_FRAME);
        }
        match reference::without_nuls(&payload) {
            b"" => empty += 1,
            text => expected.push(text.to_vec()),
        }
    }
    let got = decode(&mut Decoder::new(form), &stream, &mut Cuts::new(cut), |_| ());
    let texts: Vec<_> = got.records.iter().map(|(text, _)| text).collect();
    assert_eq!(texts, expected.iter().collect::<Vec<_>>(), "other payloads than were framed");
    assert_eq!((got.empty, got.skipped), (empty, 0));
}

/// Makes `out` as long as `length`, with `cycle` again and again or by cutting it.
fn fill(out: &mut Vec<u8>, cycle: &[u8], length: usize) {
    let start = out.len();
    while out.len() < length {
        let piece = (out.len() - start).min(length).max(cycle.len());
        match start + piece <= out.len() {
            true => out.extend_from_within(start..start + piece),
            false => out.extend_from_slice(cycle),
        }
    }
    out.truncate(length);
}

/// Lines. The same come out however the stream is cut, as splitting it at every line end gives them.
pub fn lines(input: &[u8]) {
    let mut choices = Choices::new(input);
    let cut = choices.byte();
    let mut cuts = Cuts::new(cut);
    let stream = expanded(cut, choices.rest(), LONGEST_STREAM);
    let got = decode(&mut Decoder::new(InputForm::Text), &stream, &mut cuts, |record| check(record));
    let expected = split(&stream);
    let texts: Vec<_> = got.records.iter().map(|(text, _)| *text).collect();
    let full: Vec<_> = expected.iter().copied().filter(|line| !line.is_empty()).collect();
    assert_eq!(texts, full);
    assert_eq!((got.empty, got.skipped, got.tail), (expected.len() - full.len(), 0, 0));
}

/// Lines without their ends and the NULs before them, in parts of [`MAX_LINE`].
fn split(stream: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut lines = stream.split(|byte| *byte == b'\n').peekable();
    while let Some(mut line) = lines.next() {
        while line.len() > MAX_LINE {
            found.push(reference::without_nuls(&line[..MAX_LINE]));
            line = &line[MAX_LINE..];
        }
        // Behind the last line end stands a line only if it holds something.
        if lines.peek().is_some() || !line.is_empty() {
            found.push(reference::without_nuls(line));
        }
    }
    found
}

/// One record: text, node, type, stamp and keys are those that the grammar names, read byte by byte.
pub fn record(input: &[u8]) {
    let mut choices = Choices::new(input);
    if !choices.byte().is_multiple_of(4) {
        return check(&Record::from_text(choices.rest()));
    }
    let number = choices.long();
    let payload = choices.rest();
    let record = Record::from_raw(number, payload);
    let text = reference::without_nuls(payload);
    assert_eq!((record.text, record.node, record.needs_prefix), (text, None, true));
    assert_eq!(record.stamp.map(|stamp| (stamp.ms, stamp.serial)), reference::stamp(text));
    match record.kind {
        Some(Kind::Named(name)) => {
            assert!(name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')), "{name:?}");
        }
        Some(Kind::Numbered(shown)) => assert_eq!(shown, number),
        None => panic!("a number is a kind"),
    }
}

/// Holds a record that came as text against the reference.
fn check(record: &Record<'_>) {
    let expected = reference::line(record.text);
    let kind = match record.kind {
        Some(Kind::Named(name)) => Some(name),
        None => None,
        Some(Kind::Numbered(number)) => panic!("text names no number {number}"),
    };
    let got = reference::Expected {
        text: record.text,
        node: record.node,
        kind,
        stamp: record.stamp.map(|stamp| (stamp.ms, stamp.serial)),
    };
    assert_eq!(got, expected);
    assert!(!record.needs_prefix);
    let keys: Vec<_> = record
        .keys()
        .map(|key| match key {
            audit_relay::audit::Key::Plain(key) => Ok(key),
            audit_relay::audit::Key::Encoded(key) => Err(key),
        })
        .collect();
    assert_eq!(keys, reference::keys(record.text));
}

/// The whole way from bytes to messages. A stream that starts as text does is one of lines, whatever follows. Each
/// record is one message for both kinds of stream receivers.
pub fn decoder(input: &[u8]) {
    let mut choices = Choices::new(input);
    let cut = choices.byte();
    let mut cuts = Cuts::new(cut);
    let stream = expanded(cut, choices.rest(), LONGEST_WAY);
    let mut encoders = [
        (Encoder::new(plain_shape(Format::Rfc5424, Framing::Octet)), Batch::new()),
        (Encoder::new(plain_shape(Format::Rfc3164, Framing::Lf)), Batch::new()),
    ];
    let mut decoder = Decoder::new(InputForm::Auto);
    let got = decode(&mut decoder, &stream, &mut cuts, |record| {
        for (encoder, batch) in &mut encoders {
            encoder.append(record, 0, batch);
        }
    });
    if stream.first().is_some_and(|first| *first > 8) {
        assert_eq!((decoder.form(), got.skipped), (StreamForm::Text, 0));
        let expected: Vec<_> = split(&stream).into_iter().filter(|line| !line.is_empty()).collect();
        let texts: Vec<_> = got.records.iter().map(|(text, _)| *text).collect();
        assert_eq!(texts, expected);
    }
    for (count, starts_right) in [
        (receiver::octet_counted(&encoders[0].1.bytes), &b"<182>1 "[..]),
        (receiver::lines(&encoders[1].1.bytes), b"<182>"),
    ] {
        let messages = count.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(messages.len(), got.records.len(), "one record is one message");
        assert!(messages.iter().all(|message| message.starts_with(starts_right)));
    }
}
