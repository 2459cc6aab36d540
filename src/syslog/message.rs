//! From a record to a message.
//!
//! Promise: one record in, exactly one message appended to the batch. Law: no clock, no allocation in
//! steady state; the same records give the same bytes.
//!
//! ```text
//! <182>1 2026-11-23T09:02:31.650Z host.example.org auditd 4242 SYSCALL [meta sequenceId="7"] type=SYSCALL msg=audit(...
//!        the event's own moment   this host, or     the relay's  the      one a message,       the record's text
//!                                 the record's node pid          type     losses leave gaps
//! <182>Nov 23 09:02:31 auditd[4242]: type=SYSCALL msg=audit(...           RFC 3164, what /dev/log's owners parse
//! ```

use core::ops::Range;

use super::data::{Elements, StructuredData, TimeQuality};
use super::framing::{Framing, LENGTH_ROOM};
use super::header::{Facility, Field, Severity, pri};
use super::text;
use super::timestamp::{LocalOffset, Rfc3164, Rfc3339};
use crate::audit::{Kind, Record};
use crate::batch::{Batch, Gap};

/// The message's form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// RFC 5424.
    Rfc5424,
    /// RFC 3164 with the old date in local time.
    Rfc3164,
}

/// Everything that shapes one destination's messages.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Form of the message.
    pub format: Format,
    /// How messages are told apart.
    pub framing: Framing,
    /// Facility of every message.
    pub facility: Facility,
    /// Severity of records.
    pub severity: Severity,
    /// HOSTNAME of records that no other machine wrote.
    pub hostname: Field,
    /// Names under which this host may appear as `node=`; such records get `hostname`.
    pub own_names: Vec<Vec<u8>>,
    /// APP-NAME of records.
    pub app_name: Field,
    /// PROCID: the relay's process id.
    pub procid: u32,
    /// RFC 3164 messages carry the hostname (over a network) or not (on a local socket).
    pub name_in_rfc3164: bool,
    /// Elements of structured data.
    pub structured_data: StructuredData,
    /// Longest message without framing, in bytes; longer ones are cut. At least [`Shape::MIN_SIZE`].
    pub max_size: usize,
    /// Local time, for RFC 3164.
    pub local_offset: LocalOffset,
}

impl Shape {
    /// What every receiver must take (RFC 5424 section 6.1), in bytes.
    pub const MIN_SIZE: usize = 480;
}

/// Something the relay itself has to say in the stream.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// Records were lost.
    Lost {
        /// How many, from which to which.
        gap: Gap,
        /// One word: the reason as the report counts it.
        reason: &'a str,
    },
    /// Bytes between binary frames were passed over.
    Skipped {
        /// How many bytes.
        bytes: u64,
    },
    /// Nothing has happened; these are the sums.
    Statistics {
        /// Words of the form `name=number`.
        sums: &'a str,
    },
}

/// Formats the messages of one destination.
#[derive(Debug)]
pub struct Encoder {
    shape: Shape,
    utc: Rfc3339,
    local: Rfc3164,
    /// Room for the message's length, and `<182>1 2026-11-23T09:02:31.650Z host auditd 4242 `; length and moment
    /// are patched in place.
    head: Vec<u8>,
    moment_at: usize,
    /// The moment that `head` shows.
    moment: Option<u64>,
    /// The node seen last and its header field, so that an aggregator's stream checks each name once.
    node: Option<(Vec<u8>, Option<Field>)>,
    sequence: u32,
    elements: Elements,
    /// Name of a type that has none.
    unknown: Vec<u8>,
    time_quality: TimeQuality,
    /// Longest message: the shape's limit, or less if the destination takes less.
    limit: usize,
    cut: u64,
}

/// RFC 5424 section 7.3.1.
const SEQUENCE_MAX: u32 = 2_147_483_647;

impl Encoder {
    /// Starts with sequenceId 1.
    pub fn new(shape: Shape) -> Self {
        let mut encoder = Self {
            utc: Rfc3339::default(),
            local: Rfc3164::new(shape.local_offset),
            head: Vec::new(),
            moment_at: 0,
            moment: None,
            node: None,
            sequence: 1,
            elements: Elements::default(),
            unknown: Vec::new(),
            time_quality: TimeQuality::default(),
            limit: shape.max_size,
            cut: 0,
            shape,
        };
        encoder.prepare();
        encoder
    }

    /// Takes another shape; the sequence goes on.
    pub fn reshape(&mut self, shape: Shape) {
        self.local = Rfc3164::new(shape.local_offset);
        self.node = None;
        self.limit = shape.max_size;
        self.shape = shape;
        self.prepare();
    }

    /// Takes what the kernel says about the clock.
    pub fn set_time_quality(&mut self, quality: TimeQuality) {
        if self.time_quality != quality {
            self.time_quality = quality;
            self.prepare();
        }
    }

    /// Takes what the destination turned out to take at most, as long as that is known.
    pub fn limit_size(&mut self, learned: Option<usize>) {
        self.limit =
            learned.map_or(self.shape.max_size, |bytes| self.shape.max_size.min(bytes)).max(Shape::MIN_SIZE);
    }

    /// Messages cut so far.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    fn prepare(&mut self) {
        let shape = &self.shape;
        let pri = pri(shape.facility, shape.severity);
        let start = match shape.format {
            Format::Rfc5424 => format!("<{pri}>1 "),
            Format::Rfc3164 => format!("<{pri}>"),
        };
        self.moment = None;
        self.head.clear();
        self.head.extend_from_slice(&[b' '; LENGTH_ROOM]);
        self.head.extend_from_slice(start.as_bytes());
        self.moment_at = self.head.len();
        match shape.format {
            Format::Rfc5424 => {
                self.head.extend_from_slice(self.utc.format(0));
                self.head.push(b' ');
                self.head.extend_from_slice(shape.hostname.as_bytes());
                self.head.push(b' ');
                self.head.extend_from_slice(shape.app_name.as_bytes());
                self.head.extend_from_slice(format!(" {} ", shape.procid).as_bytes());
            }
            Format::Rfc3164 => {
                self.head.extend_from_slice(self.local.format(0));
                self.head.push(b' ');
                if shape.name_in_rfc3164 {
                    self.head.extend_from_slice(short(shape.hostname.as_bytes()));
                    self.head.push(b' ');
                }
                self.head.extend_from_slice(shape.app_name.as_bytes());
                self.head.extend_from_slice(format!("[{}]: ", shape.procid).as_bytes());
            }
        }
        self.elements = Elements::new(shape.structured_data, self.time_quality);
    }

    /// Appends the message for `record`. `now_ms` stands in for a stamp that could not be read.
    pub fn append(&mut self, record: &Record<'_>, now_ms: u64, batch: &mut Batch) {
        let out = &mut batch.bytes;
        let (framing, limit) = (self.shape.framing, self.limit);
        self.show_moment(record.stamp.map_or(now_ms, |stamp| stamp.ms));
        if let Some(node) = record.node {
            self.remember_node(node);
        }
        let sequence = match self.shape.format {
            Format::Rfc5424 => self.next_sequence(),
            Format::Rfc3164 => 0,
        };
        let kind = match record.kind {
            Some(Kind::Named(name)) => name,
            Some(Kind::Numbered(number)) => {
                put_unknown(&mut self.unknown, number);
                &self.unknown
            }
            None => b"",
        };
        let usual = self.elements.is_usual();
        let (word, data) = match self.shape.format {
            Format::Rfc5424 => {
                (if record.is_decoded() { kind } else { UNDECODED }, self.elements.usual(sequence))
            }
            Format::Rfc3164 if record.is_decoded() => (&b""[..], &b""[..]),
            Format::Rfc3164 => (UNDECODED, &b": "[..]),
        };
        let prefix = if record.needs_prefix { TYPE.len() + kind.len() + MSG.len() } else { 0 };
        let (own, other) = match &self.node {
            Some((_, Some(host))) if record.node.is_some() => {
                own_and_other(&self.shape, self.moment_at, host)
            }
            _ => (self.head.len()..self.head.len(), &b""[..]),
        };
        let before = self.head.len() - LENGTH_ROOM - own.len() + other.len() + word.len();
        // Right at once, unless something in the text is escaped or cut, or the data are not the usual.
        let open = framing.open_at(out.len(), before + data.len() + prefix + record.text.len());
        let from = open.put_length(&mut self.head);
        out.extend_from_slice(&self.head[from..own.start]);
        if own.end < self.head.len() {
            out.extend_from_slice(other);
            out.extend_from_slice(&self.head[own.end..]);
        }
        if !word.is_empty() {
            out.extend_from_slice(word);
        }
        let roomy = usual && before + data.len() <= limit.saturating_sub(text::MARK_MAX + 1);
        match self.shape.format {
            Format::Rfc5424 if !roomy => {
                self.elements.append(out, open.message(), limit, Some(sequence), Some(record));
            }
            _ => out.extend_from_slice(data),
        }
        if record.needs_prefix {
            out.extend_from_slice(TYPE);
            out.extend_from_slice(kind);
            out.extend_from_slice(MSG);
        }
        text::append(out, record.text);
        if text::cut(out, open.message(), limit) {
            self.cut += 1;
        }
        framing.close(out, &open);
        batch.end_message(record.stamp, true);
    }

    /// Writes the moment into the head.
    #[inline]
    fn show_moment(&mut self, moment: u64) {
        if self.moment == Some(moment) {
            return;
        }
        self.moment = Some(moment);
        let place = &mut self.head[self.moment_at..];
        match self.shape.format {
            Format::Rfc5424 => place[..24].copy_from_slice(self.utc.format(moment)),
            Format::Rfc3164 => place[..15].copy_from_slice(self.local.format(moment)),
        }
    }

    /// Uses up the sequenceId of a record that is not sent, so that the receiver sees the gap.
    pub fn skip(&mut self) {
        self.next_sequence();
    }

    /// Appends a notice of the relay's own: APP-NAME `audit-relay`, severity warning, or informational where nothing has
    /// happened.
    pub fn append_notice(&mut self, notice: &Notice<'_>, now_ms: u64, batch: &mut Batch) {
        let out = &mut batch.bytes;
        let framing = self.shape.framing;
        let severity = match notice {
            Notice::Lost { .. } | Notice::Skipped { .. } => Severity::WARNING,
            Notice::Statistics { .. } => Severity::INFO,
        };
        let pri = pri(self.shape.facility, severity);
        let open = framing.open(out, self.head.len() + 180);
        let (id, sentence) = describe(notice);
        match self.shape.format {
            Format::Rfc5424 => {
                out.extend_from_slice(format!("<{pri}>1 ").as_bytes());
                out.extend_from_slice(self.utc.format(now_ms));
                out.extend_from_slice(b" ");
                out.extend_from_slice(self.shape.hostname.as_bytes());
                out.extend_from_slice(format!(" audit-relay {} {id}", self.shape.procid).as_bytes());
                // No number: the sequence counts records, so a gap is as wide as the loss.
                self.elements.append(out, open.message(), self.limit, None, None);
            }
            Format::Rfc3164 => {
                out.extend_from_slice(format!("<{pri}>").as_bytes());
                out.extend_from_slice(self.local.format(now_ms));
                if self.shape.name_in_rfc3164 {
                    out.extend_from_slice(b" ");
                    out.extend_from_slice(short(self.shape.hostname.as_bytes()));
                }
                out.extend_from_slice(format!(" audit-relay[{}]: ", self.shape.procid).as_bytes());
            }
        }
        // Only a very short limit is ever met: sums that do not fit are left out, from the end.
        let room = self.limit.saturating_sub(out.len() - open.message());
        out.extend_from_slice(&sentence.as_bytes()[..sentence.len().min(room)]);
        framing.close(out, &open);
        batch.end_message(None, false);
    }

    /// Keeps in `self.node` what to put in the place of our own hostname; nothing if `node` is this host.
    fn remember_node(&mut self, node: &[u8]) {
        if self.node.as_ref().is_none_or(|(last, _)| last != node) {
            let own = self.shape.own_names.iter().any(|name| name.eq_ignore_ascii_case(node));
            self.node = Some((node.to_vec(), (!own).then(|| Field::hostname(node))));
        }
    }

    fn next_sequence(&mut self) -> u32 {
        let sequence = self.sequence;
        self.sequence = if sequence == SEQUENCE_MAX { 1 } else { sequence + 1 };
        sequence
    }
}

/// MSGID of a record whose type or stamp could not be read, and its mark in RFC 3164.
const UNDECODED: &[u8] = b"UNDECODED";

/// What a record that came as a version 0 frame lacks, around its type.
const TYPE: &[u8] = b"type=";
const MSG: &[u8] = b" msg=";

/// Writes the name that auditd prints for a type without one.
#[cold]
fn put_unknown(out: &mut Vec<u8>, number: u32) {
    out.clear();
    out.extend_from_slice(b"UNKNOWN[");
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.push(b']');
}

/// Where in the head our own name stands, and what goes there for a record that the machine `host` wrote.
fn own_and_other<'a>(shape: &Shape, moment_at: usize, host: &'a Field) -> (Range<usize>, &'a [u8]) {
    let own = shape.hostname.as_bytes();
    let (at, own, other) = match shape.format {
        Format::Rfc5424 => (moment_at + 25, own, host.as_bytes()),
        Format::Rfc3164 if shape.name_in_rfc3164 => (moment_at + 16, short(own), short(host.as_bytes())),
        // No name, so nothing in the place of none.
        Format::Rfc3164 => (moment_at + 16, &b""[..], &b""[..]),
    };
    (at..at + own.len(), other)
}

fn describe(notice: &Notice<'_>) -> (&'static str, String) {
    match notice {
        Notice::Lost { gap, reason } => {
            let name =
                |stamp: Option<crate::audit::Stamp>| stamp.map_or_else(|| "-".to_owned(), |s| s.to_string());
            let sentence = format!(
                "records lost before this message: records={} reason={reason} first={} last={}",
                gap.records,
                name(gap.first),
                name(gap.last)
            );
            ("LOST", sentence)
        }
        Notice::Skipped { bytes } => {
            ("SKIPPED", format!("input that is no audit record was passed over: bytes={bytes}"))
        }
        Notice::Statistics { sums } => ("STATS", format!("statistics: {sums}")),
    }
}

/// The part of a host name before the first dot (RFC 3164 section 4.1.2), addresses left whole.
fn short(name: &[u8]) -> &[u8] {
    let first = name.split(|byte| *byte == b'.').next().unwrap_or(name);
    if first.is_empty() || first.iter().all(u8::is_ascii_digit) { name } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Stamp;
    use crate::syslog::data::VERSION;
    use proptest::prelude::*;

    fn shape(format: Format, framing: Framing) -> Shape {
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

    fn encode(shape: Shape, lines: &[&[u8]]) -> String {
        let (mut encoder, mut batch) = (Encoder::new(shape), Batch::new());
        for line in lines {
            encoder.append(&Record::from_text(line), 1_795_424_999_000, &mut batch);
        }
        String::from_utf8(batch.bytes.to_vec()).unwrap()
    }

    const LINE: &[u8] = b"type=USER_CMD msg=audit(1795424551.650:6839): pid=1 msg='x'\x1dUID=\"root\"";

    #[test]
    fn rfc5424_octet_counted() {
        assert_eq!(
            encode(
                shape(Format::Rfc5424, Framing::Octet),
                &[LINE, b"node=HOST type=CWD msg=audit(1795424551.650:6839): c"]
            ),
            "162 <182>1 2026-11-23T09:02:31.650Z host.example.org auditd 4242 USER_CMD [meta sequenceId=\"1\"] \
             type=USER_CMD msg=audit(1795424551.650:6839): pid=1 msg='x' UID=\"root\"\
             139 <182>1 2026-11-23T09:02:31.650Z host.example.org auditd 4242 CWD [meta sequenceId=\"2\"] \
             node=HOST type=CWD msg=audit(1795424551.650:6839): c"
        );
    }

    #[test]
    fn rfc3164_for_dev_log_and_for_the_network() {
        assert_eq!(
            encode(shape(Format::Rfc3164, Framing::Lf), &[LINE]),
            "<182>Nov 23 09:02:31 auditd[4242]: type=USER_CMD msg=audit(1795424551.650:6839): pid=1 msg='x' UID=\"root\"\n"
        );
        let named = Shape { name_in_rfc3164: true, ..shape(Format::Rfc3164, Framing::Datagram) };
        assert!(encode(named, &[LINE]).starts_with("<182>Nov 23 09:02:31 host auditd[4242]: type="));
    }

    #[test]
    fn a_record_of_another_machine_carries_its_name() {
        let text = encode(
            shape(Format::Rfc5424, Framing::Lf),
            &[
                b"node=db-7.example.org type=CWD msg=audit(1.001:1): x",
                b"node=10.0.0.9 type=CWD msg=audit(1.001:1): x",
                LINE,
                b"node=(null) type=CWD msg=audit(1.001:1): x",
            ],
        );
        let hosts: Vec<_> = text.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(hosts, ["db-7.example.org", "10.0.0.9", "host.example.org", "host.example.org"]);
    }

    #[test]
    fn what_cannot_be_decoded_is_marked_and_whole() {
        let text = encode(shape(Format::Rfc5424, Framing::Lf), &[b"type=EOE msg=audit(179542", b"noise"]);
        assert_eq!(
            text,
            "<182>1 2026-11-23T09:09:59.000Z host.example.org auditd 4242 UNDECODED [meta sequenceId=\"1\"] type=EOE msg=audit(179542\n\
             <182>1 2026-11-23T09:09:59.000Z host.example.org auditd 4242 UNDECODED [meta sequenceId=\"2\"] noise\n"
        );
        assert!(encode(shape(Format::Rfc3164, Framing::Lf), &[b"noise"]).ends_with(": UNDECODED: noise\n"));
    }

    #[test]
    fn a_raw_frame_reads_as_the_line_would() {
        let (mut encoder, mut batch) = (Encoder::new(shape(Format::Rfc5424, Framing::Lf)), Batch::new());
        for (number, payload) in [(1300, &b"audit(1.002:3): a=\n1"[..]), (1199, b"audit(1.002:3): b")] {
            encoder.append(&Record::from_raw(number, payload), 0, &mut batch);
        }
        assert_eq!(
            std::str::from_utf8(&batch.bytes).unwrap(),
            "<182>1 1970-01-01T00:00:01.002Z host.example.org auditd 4242 SYSCALL [meta sequenceId=\"1\"] type=SYSCALL msg=audit(1.002:3): a= 1\n\
             <182>1 1970-01-01T00:00:01.002Z host.example.org auditd 4242 UNKNOWN[1199] [meta sequenceId=\"2\"] type=UNKNOWN[1199] msg=audit(1.002:3): b\n"
        );
    }

    #[test]
    fn structured_data_as_chosen() {
        let with = |structured_data, line: &[u8]| {
            let text =
                encode(Shape { structured_data, ..shape(Format::Rfc5424, Framing::Datagram) }, &[line]);
            text[text.find(" auditd 4242 ").unwrap()..text.find(" type=").unwrap()].to_owned()
        };
        let none = StructuredData::default();
        assert_eq!(with(none, LINE), " auditd 4242 USER_CMD -");
        let all = StructuredData { meta: true, origin: true, time_quality: true, audit: Some(32473) };
        assert_eq!(
            with(all, LINE),
            format!(
                " auditd 4242 USER_CMD [meta sequenceId=\"1\"][origin software=\"audit-relay\" swVersion=\"{VERSION}\" \
                 enterpriseId=\"32473\"][timeQuality tzKnown=\"1\" isSynced=\"0\"][audit@32473 serial=\"6839\""
            )
        );
        let audit = StructuredData { audit: Some(32473), ..none };
        let line = b"node=a]b type=UNKNOWN[1399] msg=audit(1.001:5): x key=6E6F01742277";
        let text =
            encode(Shape { structured_data: audit, ..shape(Format::Rfc5424, Framing::Datagram) }, &[line]);
        assert!(
            text.contains(
                " UNKNOWN[1399] [audit@32473 serial=\"5\" type=\"UNKNOWN[1399\\]\" node=\"a\\]b\" key=\"no\" key=\"t\\\"w\"] node="
            ),
            "{text}"
        );
    }

    #[test]
    fn a_quoted_key_is_never_taken_for_hex() {
        let structured_data = StructuredData { audit: Some(32473), ..StructuredData::default() };
        let shape = Shape { structured_data, ..shape(Format::Rfc5424, Framing::Datagram) };
        let text = encode(shape, &[b"type=SYSCALL msg=audit(1.001:5): key=\"BEEF\""]);
        assert!(text.contains("key=\"BEEF\"] type="), "{text}");
    }

    #[test]
    fn the_name_of_another_machine_in_rfc3164() {
        let named = Shape { name_in_rfc3164: true, ..shape(Format::Rfc3164, Framing::Lf) };
        let text = encode(named, &[b"node=db-7.example.org type=CWD msg=audit(1.001:1): x", LINE]);
        assert!(text.starts_with("<182>Jan  1 00:00:01 db-7 auditd[4242]: node="), "{text}");
        assert!(text.contains("\n<182>Nov 23 09:02:31 host auditd[4242]: type="), "{text}");
    }

    #[test]
    fn the_clock_is_described_only_as_far_as_known() {
        let structured_data = StructuredData { time_quality: true, ..StructuredData::default() };
        let mut encoder =
            Encoder::new(Shape { structured_data, ..shape(Format::Rfc5424, Framing::Datagram) });
        encoder.set_time_quality(TimeQuality { synced: true, accuracy_us: 1500 });
        let mut batch = Batch::new();
        encoder.append(&Record::from_text(LINE), 0, &mut batch);
        assert!(
            String::from_utf8_lossy(&batch.bytes)
                .contains("[timeQuality tzKnown=\"1\" isSynced=\"1\" syncAccuracy=\"1500\"] ")
        );
    }

    #[test]
    fn sequence_ids_start_at_1_and_wrap_as_the_rfc_says() {
        let (mut encoder, mut batch) = (Encoder::new(shape(Format::Rfc5424, Framing::Lf)), Batch::new());
        encoder.sequence = SEQUENCE_MAX;
        encoder.append(&Record::from_text(LINE), 0, &mut batch);
        encoder.append(&Record::from_text(LINE), 0, &mut batch);
        encoder.skip();
        let gap = Gap { records: 1, first: Some(Stamp { ms: 1_001, serial: 4 }), last: None };
        encoder.append_notice(&Notice::Lost { gap, reason: "overflow" }, 2_000, &mut batch);
        let text = String::from_utf8(batch.bytes.to_vec()).unwrap();
        let ids: Vec<_> =
            text.lines().filter_map(|line| line.split("sequenceId=\"").nth(1)?.split('"').next()).collect();
        assert_eq!(ids, ["2147483647", "1"]);
        assert_eq!(encoder.sequence, 3, "a record that is not sent uses up its number, a notice has none");
        assert_eq!(batch.records(), 2);
        assert!(text.ends_with(
            "<180>1 1970-01-01T00:00:02.000Z host.example.org audit-relay 4242 LOST - \
             records lost before this message: records=1 reason=overflow first=1.001:4 last=-\n"
        ));
        // Nothing has happened, and it is no record.
        encoder.append_notice(&Notice::Statistics { sums: "read=2 sent=2" }, 2_000, &mut batch);
        assert!(String::from_utf8_lossy(&batch.bytes).ends_with(
            "<182>1 1970-01-01T00:00:02.000Z host.example.org audit-relay 4242 STATS - statistics: read=2 sent=2\n"
        ));
        assert_eq!((batch.records(), encoder.sequence), (2, 3));
    }

    #[test]
    fn long_messages_are_cut_to_the_limit() {
        let long = [LINE, &b"y".repeat(9000)].concat();
        let mut encoder = Encoder::new(Shape { max_size: 2048, ..shape(Format::Rfc5424, Framing::Octet) });
        let mut batch = Batch::new();
        encoder.append(&Record::from_text(&long), 0, &mut batch);
        let text = String::from_utf8(batch.bytes.to_vec()).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len());
        assert!(message.len() <= 2048 && message.ends_with("[cut from 9162 bytes]"), "{message}");
        assert_eq!(encoder.cut(), 1);
    }

    /// Field by field by the grammar of RFC 5424 section 6, nothing forgiven.
    fn check_strictly(message: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(message).map_err(|error| error.to_string())?;
        let rest = text.strip_prefix('<').ok_or("no PRI")?;
        let (pri, rest) = rest.split_once('>').ok_or("PRI not closed")?;
        if pri.parse::<u8>().ok().is_none_or(|value| value > 191 || value.to_string() != pri) {
            return Err(format!("PRI {pri}"));
        }
        let mut fields = rest.splitn(7, ' ');
        let mut field = |name: &str, max: usize| {
            let value = fields.next().ok_or(format!("no {name}"))?;
            let good =
                !value.is_empty() && value.len() <= max && value.bytes().all(|byte| byte.is_ascii_graphic());
            if good { Ok(value) } else { Err(format!("{name} {value:?}")) }
        };
        if field("VERSION", 1)? != "1" {
            return Err("VERSION".to_owned());
        }
        field("TIMESTAMP", 32)?.parse::<jiff::Timestamp>().map_err(|error| error.to_string())?;
        field("HOSTNAME", 255)?;
        field("APP-NAME", 48)?;
        field("PROCID", 128)?;
        field("MSGID", 32)?;
        let mut rest = fields.next().ok_or("no SD")?;
        if let Some(after) = rest.strip_prefix('-') {
            rest = after;
        } else {
            while let Some(element) = rest.strip_prefix('[') {
                let id = element.find([' ', ']']).ok_or("SD-ID")?;
                rest = &element[id..];
                while let Some(param) = rest.strip_prefix(' ') {
                    let (name, value) = param.split_once("=\"").ok_or("SD-PARAM")?;
                    if name.is_empty() || name.len() > 32 || name.contains([' ', ']', '"', '=']) {
                        return Err(format!("PARAM-NAME {name:?}"));
                    }
                    let mut escaped = false;
                    let end = value.bytes().position(|byte| {
                        let ends = !escaped && byte == b'"';
                        escaped = !escaped && byte == b'\\';
                        ends
                    });
                    rest = &value[end.ok_or("PARAM-VALUE")? + 1..];
                }
                rest = rest.strip_prefix(']').ok_or("SD-ELEMENT not closed")?;
            }
        }
        if rest.starts_with(' ') { Ok(()) } else { Err(format!("MSG {rest:?}")) }
    }

    proptest! {
        #[test]
        fn any_record_becomes_valid_rfc5424(
            lines in proptest::collection::vec(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                "(node=[ -~]{0,300} )?type=[!-~]{0,40} msg=audit\\([0-9]{1,12}\\.[0-9]{1,4}:[0-9]{1,11}\\): (.|\\n){0,80}( key=[ -~]{0,20})?"
                    .prop_map(String::into_bytes),
            ], 1..8),
            limit in 480usize..700,
        ) {
            let structured_data = StructuredData { meta: true, origin: true, time_quality: true, audit: Some(32473) };
            let shape = Shape { structured_data, max_size: limit, ..shape(Format::Rfc5424, Framing::Datagram) };
            let (mut encoder, mut batch) = (Encoder::new(shape), Batch::new());
            for line in &lines {
                encoder.append(&Record::from_text(line), 0, &mut batch);
            }
            prop_assert_eq!(batch.entries().len(), lines.len());
            for at in 0..lines.len() {
                let message = batch.message(at);
                prop_assert!(message.len() <= limit);
                prop_assert_eq!(check_strictly(message), Ok(()), "{}", message.escape_ascii());
                let text = std::str::from_utf8(message).unwrap();
                prop_assert!(text.parse::<syslog_rfc5424::SyslogMessage>().is_ok(), "{}", text);
            }
        }

        #[test]
        fn octet_counts_lead_from_message_to_message(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..20)) {
            let (mut encoder, mut batch) = (Encoder::new(shape(Format::Rfc5424, Framing::Octet)), Batch::new());
            for line in &lines {
                encoder.append(&Record::from_text(line), 0, &mut batch);
            }
            let mut rest = &batch.bytes[..];
            let mut seen = 0;
            while !rest.is_empty() {
                let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                prop_assert!(rest[space + 1..].starts_with(b"<182>1 "));
                rest = &rest[space + 1 + length..];
                seen += 1;
            }
            prop_assert_eq!(seen, lines.len());
        }
    }
}
