//! 3 FORMAT: records to messages, and messages to a stream.

use audit_relay::audit::{Kind, Record, Stamp};
use audit_relay::batch::{Batch, Gap};
use audit_relay::syslog::{
    Encoder, Facility, Field, Format, Framing, Notice, Severity, Shape, StructuredData, TimeQuality,
    cut_message,
};
use bytes::BytesMut;

use super::choices::Choices;
use super::{receiver, reference, rfc5424};

/// The longest record that is made of an input, in bytes: longer than the largest limit of [`shape`].
const LONGEST_RECORD: usize = 1300;

/// The longest mark of a cut, in bytes.
const MARK: usize = 37;

/// Usual settings.
pub(crate) fn plain_shape(format: Format, framing: Framing) -> Shape {
    Shape {
        format,
        framing,
        facility: Facility::LOCAL6,
        severity: Severity::INFO,
        hostname: Field::hostname(b"host.example.org"),
        own_names: vec![b"host".to_vec(), b"host.example.org".to_vec()],
        app_name: Field::app_name(b"auditd"),
        procid: 4242,
        name_in_rfc3164: false,
        structured_data: StructuredData { meta: true, ..StructuredData::default() },
        max_size: usize::MAX,
        local_offset: |_| 0,
    }
}

/// What is to be encoded.
enum Item {
    Line(Vec<u8>),
    Raw(u32, Vec<u8>),
    Lost,
    Skipped,
    Unsent,
}

/// Parts of the input that two bytes 0xfe part, each as what its first byte says.
fn items(input: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = Some(input);
    while let (Some(part), true) = (rest, items.len() < 4) {
        let end = part.windows(2).position(|pair| pair == [0xfe, 0xfe]);
        rest = end.map(|end| &part[end + 2..]);
        let mut choices = Choices::new(end.map_or(part, |end| &part[..end]));
        let kind = choices.byte();
        let times = [1, 1, 1, 1, 1, 1, 2, 30][usize::from(kind >> 5)];
        let item = match kind & 31 {
            0..=23 => Item::Line(repeated(choices.rest(), times)),
            24..=28 => {
                let number = choices.long();
                Item::Raw(number, repeated(choices.rest(), times))
            }
            29 => Item::Lost,
            30 => Item::Skipped,
            _ => Item::Unsent,
        };
        items.push(item);
    }
    items
}

/// The bytes, and again and again the second half of them.
fn repeated(bytes: &[u8], times: usize) -> Vec<u8> {
    let half = &bytes[bytes.len() / 2..];
    let mut out = bytes.to_vec();
    for _ in 1..times {
        if out.len() + half.len() <= LONGEST_RECORD {
            out.extend_from_slice(half);
        }
    }
    out
}

fn shape(format: Format, choices: &mut Choices<'_>) -> (Shape, TimeQuality) {
    let framing = choices.of(&[Framing::Octet, Framing::Lf, Framing::Datagram]);
    let data = choices.byte();
    let limit = match choices.byte() {
        0..=99 => usize::MAX,
        byte @ 100..=199 => 480 + usize::from(byte - 100) * 3,
        byte => 480 + usize::from(byte - 199) * 12,
    };
    let names = choices.byte();
    let hostname: &[u8] = match names % 4 {
        0 => b"host.example.org",
        1 => b"10.0.0.9",
        2 => &[b'h'; 300],
        _ => b"",
    };
    let facility = ["kern", "user", "auth", "local6", "local7"][usize::from(names / 4 % 5)];
    let severity = ["emerg", "warning", "info", "debug"][usize::from(names / 32 % 4)];
    let structured_data = StructuredData {
        meta: data & 1 == 0,
        origin: data & 2 != 0,
        time_quality: data & 4 != 0,
        audit: (data & 8 != 0).then_some(32473),
    };
    let shape = Shape {
        facility: Facility::from_name(facility).unwrap_or(Facility::LOCAL6),
        severity: Severity::from_name(severity).unwrap_or(Severity::INFO),
        hostname: Field::hostname(hostname),
        name_in_rfc3164: data & 16 != 0,
        structured_data,
        max_size: limit,
        app_name: Field::app_name(if data & 32 == 0 { b"auditd" } else { &[b'a'; 50] }),
        ..plain_shape(format, framing)
    };
    (shape, TimeQuality { synced: data & 64 != 0, accuracy_us: u64::MAX })
}

/// Stands in for a stamp that cannot be read.
const NOW_MS: u64 = 1_795_424_999_000;

/// Runs an encoder over the input's items and hands every message with what it was made of to `check`. The receiver's
/// own reader must find the same messages in the stream, one for each item.
fn encode(format: Format, input: &[u8], check: impl Fn(&Shape, usize, &[u8], &Item, u32)) {
    let mut choices = Choices::new(input);
    let (shape, quality) = shape(format, &mut choices);
    let items = items(choices.rest());
    let (mut encoder, mut batch) = (Encoder::new(shape.clone()), Batch::new());
    encoder.set_time_quality(quality);
    let mut sequence = 1;
    let mut made = Vec::new();
    let mut records = 0;
    for item in &items {
        match item {
            Item::Line(text) => encoder.append(&Record::from_text(text), NOW_MS, &mut batch),
            Item::Raw(number, payload) => {
                encoder.append(&Record::from_raw(*number, payload), NOW_MS, &mut batch);
            }
            Item::Lost => {
                let last = Some(Stamp { ms: Stamp::MAX_MS, serial: u32::MAX });
                let gap = Gap { records: u64::MAX, first: None, last };
                encoder.append_notice(&Notice::Lost { gap, reason: "overflow" }, NOW_MS, &mut batch);
            }
            Item::Skipped => {
                encoder.append_notice(&Notice::Skipped { bytes: u64::MAX }, u64::MAX, &mut batch);
            }
            Item::Unsent => encoder.skip(),
        }
        if !matches!(item, Item::Unsent) {
            made.push((item, sequence));
        }
        if matches!(item, Item::Line(_) | Item::Raw(..)) {
            records += 1;
        }
        if !matches!(item, Item::Lost | Item::Skipped) {
            sequence += 1;
        }
    }
    assert_eq!((batch.entries().len(), batch.records()), (made.len(), records), "one item is one message");
    let messages: Vec<&[u8]> = match shape.framing {
        Framing::Octet => receiver::octet_counted(&batch.bytes).unwrap_or_else(|error| panic!("{error}")),
        Framing::Lf => receiver::lines(&batch.bytes).unwrap_or_else(|error| panic!("{error}")),
        Framing::Datagram => (0..made.len()).map(|at| batch.message(at)).collect(),
    };
    assert_eq!(messages.len(), made.len(), "the receiver sees other messages than were made");
    for (at, (message, (item, sequence))) in messages.iter().zip(made).enumerate() {
        let framed = batch.message(at);
        let inside = match shape.framing {
            Framing::Octet => framed.ends_with(message),
            Framing::Lf => framed.strip_suffix(b"\n") == Some(message),
            Framing::Datagram => framed == *message,
        };
        assert!(inside, "the receiver's message {at} is another than ours");
        check(&shape, shape.max_size, message, item, sequence);
    }
}

/// What a record's message must say, by the reference.
struct Wanted {
    kind: Vec<u8>,
    decoded: bool,
    ms: u64,
    node: Option<Vec<u8>>,
    /// The record as it should be shown, `type=TYPE msg=` included.
    text: String,
    stamp: Option<(u64, u32)>,
    keys: Vec<Vec<u8>>,
}

fn wanted(item: &Item) -> Option<Wanted> {
    let (text, node, kind, stamp, prefix) = match item {
        Item::Line(line) => {
            let read = reference::line(line);
            (read.text, read.node, read.kind.map(<[u8]>::to_vec), read.stamp, String::new())
        }
        Item::Raw(number, payload) => {
            let kind = match Record::from_raw(*number, b"").kind {
                Some(Kind::Named(name)) => String::from_utf8_lossy(name).into_owned(),
                _ => format!("UNKNOWN[{number}]"),
            };
            let text = reference::without_nuls(payload);
            let prefix = format!("type={kind} msg=");
            (text, None, Some(kind.into_bytes()), reference::stamp(text), prefix)
        }
        _ => return None,
    };
    Some(Wanted {
        decoded: kind.is_some() && stamp.is_some(),
        kind: kind.unwrap_or_default(),
        ms: stamp.map_or(NOW_MS, |stamp| stamp.0),
        node: node.map(<[u8]>::to_vec),
        text: prefix + &reference::shown_text(text),
        stamp,
        keys: reference::shown_keys(text),
    })
}

/// Holds the text of a message, which may have been cut to `limit`, against the whole text.
fn check_text(message: &[u8], text: &str, whole: &str, limit: usize) {
    let head = message.len() - text.len();
    if head + whole.len() <= limit {
        assert_eq!(text, whole, "the text is another");
        return;
    }
    assert!(message.len() <= limit, "{} bytes, {limit} allowed", message.len());
    let mark = format!("[cut from {} bytes]", head + whole.len());
    let kept = text.strip_suffix(mark.as_str());
    let kept = kept.unwrap_or_else(|| panic!("{text:?} does not say {mark}"));
    assert!(whole.starts_with(kept), "cut to another text");
    // Not more is cut than the mark, three bytes of a character and three of an escape before it need.
    assert!(head + kept.len() + MARK + 6 >= limit, "only {} bytes kept of {limit}", head + kept.len());
    let escape = |at: usize| whole.as_bytes()[at..].starts_with(b"#") && is_escape(&whole[at..]);
    let from = kept.len().saturating_sub(3);
    let halved = (from..kept.len()).find(|at| whole.is_char_boundary(*at) && escape(*at));
    assert!(halved.is_none(), "an escape is halved: {kept:?}");
}

/// True for `#ooo`.
fn is_escape(text: &str) -> bool {
    text.as_bytes().get(1..4).is_some_and(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)))
}

/// What a node's name becomes as HOSTNAME.
fn safe(name: &[u8]) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'%');
    name.iter().take(255).map(|byte| if stays(*byte) { char::from(*byte) } else { '_' }).collect()
}

fn is_own(shape: &Shape, node: &[u8]) -> bool {
    shape.own_names.iter().any(|name| name.eq_ignore_ascii_case(node))
}

/// RFC 5424. Every message passes the strict reader and a second one, keeps to the limit, and says what the record
/// says: moment, host, type, number, text. Cut once more for a path that takes less, it is still valid.
pub fn encoder(input: &[u8]) {
    encode(Format::Rfc5424, input, |shape, limit, message, item, sequence| {
        let read = rfc5424::read(message);
        let read = read.unwrap_or_else(|error| panic!("{error}: {}", message.escape_ascii()));
        // It reads character by character; what is longer holds nothing else.
        if message.len() <= 600 {
            second_opinion(message, &read);
        }
        let own_host = String::from_utf8_lossy(shape.hostname.as_bytes());
        let meta = read.elements.iter().find(|element| element.id == "meta");
        assert_eq!(read.procid, "4242");
        let Some(wanted) = wanted(item) else {
            assert_eq!((read.app_name, read.hostname, read.pri & 7), ("audit-relay", &*own_host, 4));
            assert!(matches!(read.msgid, "LOST" | "SKIPPED") && meta.is_none());
            return;
        };
        assert_eq!(read.app_name.as_bytes(), shape.app_name.as_bytes());
        assert_eq!(read.ms, wanted.ms, "another moment");
        let host = match &wanted.node {
            Some(node) if !is_own(shape, node) => safe(node),
            _ => own_host.into_owned(),
        };
        assert_eq!(read.hostname, host);
        let kind = if wanted.decoded { &wanted.kind[..] } else { b"UNDECODED" };
        assert_eq!(read.msgid.as_bytes(), kind);
        let shown = meta.map(|meta| meta.params[0].1.clone());
        assert_eq!(shown, shape.structured_data.meta.then(|| sequence.to_string()));
        check_text(message, read.msg, &wanted.text, limit);
        if let Some(audit) = read.elements.iter().find(|element| element.id == "audit@32473") {
            check_element(audit, &wanted);
        }
        // One a message: each is written and read once more.
        let less = [message.len().saturating_sub(1), 700, 480][sequence as usize % 3].max(Shape::MIN_SIZE);
        let again = cut_message(message, less);
        assert!(again.len() <= message.len().min(less));
        let again = rfc5424::read(&again).unwrap_or_else(|error| panic!("cut again to {less}: {error}"));
        assert_eq!((again.msgid, again.hostname, again.ms), (read.msgid, read.hostname, read.ms));
    });
}

/// The element `audit` says serial, type, node and keys, and nothing else.
fn check_element(audit: &rfc5424::Element<'_>, wanted: &Wanted) {
    let mut params = Vec::new();
    params.extend(wanted.stamp.map(|(_, serial)| ("serial", serial.to_string())));
    if !wanted.kind.is_empty() {
        params.push(("type", reference::shown(&wanted.kind)));
    }
    params.extend(wanted.node.as_ref().map(|node| ("node", reference::shown(node))));
    params.extend(wanted.keys.iter().map(|key| ("key", reference::shown(key))));
    assert_eq!(audit.params, params);
}

/// The crate syslog_rfc5424 reads the same.
fn second_opinion(message: &[u8], read: &rfc5424::Message<'_>) {
    let text = std::str::from_utf8(message).unwrap_or_default();
    let second: syslog_rfc5424::SyslogMessage = match text.parse() {
        Ok(second) => second,
        Err(error) => panic!("syslog_rfc5424: {error:?}: {text}"),
    };
    assert_eq!(second.facility as u8 * 8 + second.severity as u8, read.pri);
    let nanos = u64::from(second.timestamp_nanos.unwrap_or(0));
    let ms = second
        .timestamp
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(|s| s * 1000 + nanos / 1_000_000);
    assert_eq!(ms, Some(read.ms));
    let dash = |field: Option<String>| field.unwrap_or_else(|| "-".to_owned());
    assert_eq!(dash(second.hostname), read.hostname);
    assert_eq!(dash(second.appname), read.app_name);
    assert_eq!(dash(second.msgid), read.msgid);
    assert_eq!(second.msg, read.msg);
    assert_eq!(second.sd.len(), read.elements.len());
    for element in &read.elements {
        // It keeps one value of each name.
        for (name, value) in element.params.iter().filter(|(name, _)| *name != "key") {
            assert_eq!(second.sd.find_tuple(element.id, name), Some(value));
        }
    }
}

/// RFC 3164. Every message has PRI, date, tag and PID in their places, is one clean line, keeps to the limit, and
/// says the record's text.
pub fn rfc3164(input: &[u8]) {
    encode(Format::Rfc3164, input, |shape, limit, message, item, _| {
        let named = shape.name_in_rfc3164;
        let read = receiver::rfc3164(message, named);
        let (_, host, tag, pid, msg) =
            read.unwrap_or_else(|error| panic!("{error}: {}", message.escape_ascii()));
        assert_eq!(pid, "4242");
        let Some(wanted) = wanted(item) else {
            assert_eq!(tag, "audit-relay");
            return;
        };
        assert_eq!(tag.as_bytes(), shape.app_name.as_bytes());
        let name = match &wanted.node {
            Some(node) if !is_own(shape, node) => safe(node),
            _ => String::from_utf8_lossy(shape.hostname.as_bytes()).into_owned(),
        };
        let first = name.split('.').next().unwrap_or_default();
        let whole = first.is_empty() || first.bytes().all(|byte| byte.is_ascii_digit());
        assert_eq!(
            host,
            if !named {
                ""
            } else if whole {
                &name
            } else {
                first
            }
        );
        let mark = if wanted.decoded { "" } else { "UNDECODED: " };
        check_text(message, msg, &(mark.to_owned() + &wanted.text), limit);
    });
}

/// Framing. Whatever length was expected of each message, the receiver's reader gets back exactly the messages.
pub fn framing(input: &[u8]) {
    let mut choices = Choices::new(input);
    let framing = choices.of(&[Framing::Octet, Framing::Lf, Framing::Datagram]);
    let (mut out, mut messages) = (BytesMut::new(), Vec::new());
    while !choices.is_empty() && messages.len() < 32 {
        let guess = match choices.byte() {
            byte @ 0..=127 => Some(usize::from(byte) * usize::from(byte) * 8),
            byte @ 128..=199 => Some(usize::from(byte) - 128),
            _ => None,
        };
        let length = 1 + usize::from(choices.byte()) * if choices.byte().is_multiple_of(16) { 40 } else { 1 };
        let pattern = choices.take(length.min(24));
        let clean = |byte: &u8| if framing == Framing::Lf && *byte == b'\n' { b' ' } else { *byte };
        let message: Vec<u8> = pattern.iter().chain([&b' ']).cycle().take(length).map(clean).collect();
        let open = framing.open(&mut out, guess.unwrap_or(length));
        out.extend_from_slice(&message);
        framing.close(&mut out, &open);
        messages.push(message);
    }
    let got = match framing {
        Framing::Octet => receiver::octet_counted(&out),
        Framing::Lf => receiver::lines(&out),
        Framing::Datagram => {
            assert_eq!(out, messages.concat());
            return;
        }
    };
    assert_eq!(got.unwrap_or_else(|error| panic!("{error}")), messages);
}
