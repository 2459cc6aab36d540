//! What is sent, and what must arrive: audit records built before the clock starts.
//!
//! *Promise:* the same seed gives the same records, shaped like those of execve, openat and PAM on a host with
//! `log_format = ENRICHED`; every record carries its sequence number and send times in its own text, so any
//! receiver that keeps the text can be measured.
//! *Law:* sending allocates nothing and copies nothing: stamp and mark are patched in place in one block that
//! already has the form of the wire. The block holds one *lap*; laps repeat with new stamps and marks.
//!
//! ```text
//! type=SYSCALL msg=audit(1795424551.649:100000021): arch=... key="exec" lg=000000002a.00003b9aca00.00000001f4 \x1dARCH=...
//!                        '------- stamp -------'                        '-------------- mark --------------'
//! ```
//! The mark is an ordinary `name=value` field (no parser of audit records stumbles over it): sequence number, time
//! the record was due, and how much later it was written; hexadecimal, nanoseconds of the run's clock.
//!
//! `EOE` lines carry no mark: receivers drop them, so nothing about them is expected.

use std::collections::HashMap;
use std::ops::Range;

use memchr::memchr;
use memchr::memmem::Finder;

use crate::plan::Plan;

/// auditd's separator between what the kernel said and what auditd added.
const ENRICHED: u8 = 0x1D;
/// `SEC.MSC:SERIAL` with a serial of nine digits, so that every stamp has the same length.
const STAMP_LEN: usize = 10 + 1 + 3 + 1 + 9;
const MARK_NAME: &[u8] = b" lg=";
const SEQ_DIGITS: usize = 10;
const DUE_DIGITS: usize = 12;
const LATE_DIGITS: usize = 10;
const MARK_LEN: usize = MARK_NAME.len() + SEQ_DIGITS + 1 + DUE_DIGITS + 1 + LATE_DIGITS;

/// Time of the first event. Fixed, so that a run can be repeated to the byte (the marks excepted).
const FIRST_EVENT_MS: u64 = 1_795_424_551_000;
const EVENTS_PER_MS: u64 = 10;
const FIRST_SERIAL: u64 = 100_000_000;
const SERIALS: u64 = 900_000_000;

/// Header and payload area of auditd's binary format.
const FRAME_HEADER: usize = 16;
const FRAME_PAYLOAD: usize = 8970;

/// Records in a lap. Fixed binary frames are 40 times as long, so their lap is shorter.
const LAP: usize = 4096;
const LAP_FIXED: usize = 512;

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
        let lap = if shape.form != Form::Text && shape.frames == Frames::Fixed { LAP_FIXED } else { LAP };
        let mut random = Random(shape.seed);
        let enriched = shape.form != Form::Binary0;
        let mut wire = Wire::default();
        let mut expected = Marked::new();
        let mut event = 0;
        while expected.records.len() < lap {
            for record in random_event(&mut random, shape.eoe) {
                let text = Text::of(&record, enriched);
                if let Some(mark) = text.mark {
                    expected.add(&text.bytes, text.stamp, mark, event);
                }
                wire.add(&text, &record, event, shape);
            }
            event += 1;
        }
        wire.events = event;
        expected.events = event;
        Self { wire, expected: Expected::Marked(Box::new(expected)) }
    }

    /// Takes the lines of a recorded text stream as they are, once, without marks.
    ///
    /// Lines that are no records (not starting with `type=` or `node=`) and `EOE` are written but not expected.
    pub(crate) fn replay(recorded: &[u8]) -> Self {
        let mut wire = Wire { once: true, ..Wire::default() };
        let mut expected = Replayed::default();
        for line in recorded.split_inclusive(|&byte| byte == b'\n') {
            let start = wire.bytes.len();
            wire.bytes.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                wire.bytes.push(b'\n');
            }
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let sequenced = is_record(text) && !is_eoe(text);
            if sequenced {
                expected.add(text, wire.lines.len() as u64);
            }
            let end = wire.bytes.len();
            wire.lines.push(Line { start, end, stamp: None, mark: None, sequenced, event: 0 });
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

// ---------------------------------------------------------------------------------------------- the sending side

#[derive(Clone, Copy, Debug)]
struct Line {
    start: usize,
    end: usize,
    stamp: Option<usize>,
    mark: Option<usize>,
    sequenced: bool,
    event: u64,
}

/// One lap in the form of the wire, and the place in it.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    events: u64,
    once: bool,
    next: usize,
    lap: u64,
    sequence: u64,
    stamps: Stamps,
}

impl Wire {
    /// Length of the next line and whether it follows the previous one in memory; `None` if nothing is left.
    pub(crate) fn peek(&self) -> Option<(usize, bool)> {
        match self.lines.get(self.next) {
            Some(line) => Some((line.end - line.start, self.next > 0)),
            None if self.once => None,
            None => self.lines.first().map(|line| (line.end - line.start, false)),
        }
    }

    /// Makes the next line ready to be written: due at `due_ns`, written at `now_ns`. Returns where it is.
    pub(crate) fn prepare(&mut self, due_ns: u64, now_ns: u64) -> Range<usize> {
        if self.next == self.lines.len() {
            self.next = 0;
            self.lap += 1;
        }
        let line = self.lines[self.next];
        if let Some(at) = line.stamp {
            let stamp = self.stamps.of(self.lap * self.events + line.event);
            self.bytes[at..at + STAMP_LEN].copy_from_slice(stamp);
        }
        if let Some(at) = line.mark {
            let digits = &mut self.bytes[at + MARK_NAME.len()..at + MARK_LEN];
            write_hex(&mut digits[..SEQ_DIGITS], self.sequence);
            write_hex(&mut digits[SEQ_DIGITS + 1..][..DUE_DIGITS], due_ns);
            write_hex(&mut digits[MARK_LEN - MARK_NAME.len() - LATE_DIGITS..], now_ns.saturating_sub(due_ns));
        }
        self.sequence += u64::from(line.sequenced);
        self.next += 1;
        line.start..line.end
    }

    /// The bytes at `range`, as they were prepared.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Mean bytes of a line on the wire.
    pub(crate) fn mean_bytes(&self) -> usize {
        self.bytes.len() / self.lines.len().max(1)
    }

    /// Records prepared so far that must arrive.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn add(&mut self, text: &Text, record: &Record, event: u64, shape: Shape) {
        let start = self.bytes.len();
        let version = match shape.form {
            Form::Text => None,
            Form::Binary0 => Some(0u32),
            Form::Binary1 => Some(1),
        };
        // Version 0 is the kernel's own payload: no `type=NAME msg=` in front.
        let cut = if version == Some(0) { text.stamp - b"audit(".len() } else { 0 };
        let payload = &text.bytes[cut..];
        let mut body = start;
        if let Some(version) = version {
            // Payloads are a few hundred bytes long; see `Text::of`.
            let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            for word in [version, 16, record.number, size] {
                self.bytes.extend_from_slice(&word.to_ne_bytes());
            }
            body += FRAME_HEADER;
        }
        self.bytes.extend_from_slice(payload);
        match version {
            None => self.bytes.push(b'\n'),
            Some(_) if shape.frames == Frames::Fixed => {
                // Real frames end in what the heap held before: pieces of earlier records. A receiver that
                // forwards them is caught by the marks in them.
                let stale: Vec<u8> =
                    payload.iter().copied().cycle().take(FRAME_PAYLOAD - payload.len()).collect();
                self.bytes.extend_from_slice(&stale);
            }
            Some(_) => {}
        }
        self.lines.push(Line {
            start,
            end: self.bytes.len(),
            stamp: Some(body + text.stamp - cut),
            mark: text.mark.map(|mark| body + mark - cut),
            sequenced: text.mark.is_some(),
            event,
        });
    }
}

/// The stamp of an event, formatted once for all its records.
#[derive(Debug)]
struct Stamps {
    event: u64,
    bytes: [u8; STAMP_LEN],
}

impl Default for Stamps {
    fn default() -> Self {
        Self { event: 0, bytes: format_stamp(0) }
    }
}

impl Stamps {
    fn of(&mut self, event: u64) -> &[u8; STAMP_LEN] {
        if event != self.event {
            self.event = event;
            self.bytes = format_stamp(event);
        }
        &self.bytes
    }
}

/// `SEC.MSC:SERIAL` of an event: ten events a millisecond, serials going up by one.
fn format_stamp(event: u64) -> [u8; STAMP_LEN] {
    let ms = FIRST_EVENT_MS + event / EVENTS_PER_MS;
    let mut stamp = [0; STAMP_LEN];
    write_decimal(&mut stamp[..10], ms / 1000);
    stamp[10] = b'.';
    write_decimal(&mut stamp[11..14], ms % 1000);
    stamp[14] = b':';
    write_decimal(&mut stamp[15..], FIRST_SERIAL + event % SERIALS);
    stamp
}

fn write_decimal(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

/// Fills `out` with hexadecimal digits; a value that does not fit is written as the largest that does.
fn write_hex(out: &mut [u8], value: u64) {
    let largest = u64::MAX >> (64 - 4 * out.len().min(16));
    let mut value = value.min(largest);
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::from(value.to_le_bytes()[0] & 15)];
        value >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

// -------------------------------------------------------------------------------------------- the receiving side

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A record, byte for byte (0x1D may be a space).
    Whole {
        /// Its number.
        sequence: u64,
        /// When it was due, if it was.
        due_ns: Option<u64>,
        /// When it was written, if that is known.
        written_ns: Option<u64>,
    },
    /// A record that lost or changed bytes; its number if that is still legible.
    Torn(Option<u64>),
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
    /// Judges one syslog message, given that the records `0..announced` were written. No allocation.
    pub(crate) fn judge(&mut self, message: &[u8], announced: u64, plan: &Plan) -> Verdict {
        match self {
            Self::Marked(marked) => marked.judge(message, announced),
            Self::Replayed(replayed) => replayed.judge(message, announced, plan),
        }
    }
}

#[derive(Clone, Debug)]
struct Want {
    text: Range<usize>,
    stamp: usize,
    mark: usize,
    event: u64,
}

/// The texts of a lap, for byte-for-byte comparison.
#[derive(Debug)]
pub(crate) struct Marked {
    bytes: Vec<u8>,
    records: Vec<Want>,
    events: u64,
    finder: Finder<'static>,
    stamps: Stamps,
}

impl Marked {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            records: Vec::new(),
            events: 0,
            finder: Finder::new(MARK_NAME),
            stamps: Stamps::default(),
        }
    }

    fn add(&mut self, text: &[u8], stamp: usize, mark: usize, event: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.records.push(Want { text: start..self.bytes.len(), stamp, mark, event });
    }

    fn judge(&mut self, message: &[u8], announced: u64) -> Verdict {
        let Some(mark_at) = self.finder.find(message) else {
            return Verdict::Unmarked;
        };
        let mark = &message[mark_at + MARK_NAME.len()..];
        let Some(sequence) = mark.get(..SEQ_DIGITS).and_then(read_hex).filter(|&n| n < announced) else {
            return Verdict::Torn(None);
        };
        let Some((due_ns, late_ns)) = read_times(&mark[SEQ_DIGITS..]) else {
            return Verdict::Torn(Some(sequence));
        };
        let lap_len = self.records.len() as u64;
        let lap = sequence / lap_len;
        let index = usize::try_from(sequence % lap_len).unwrap_or(0);
        let want = &self.records[index];
        let text = &self.bytes[want.text.clone()];
        let stamp = self.stamps.of(lap * self.events + want.event);
        let whole = has_priority(message)
            && mark_at.checked_sub(want.mark).is_some_and(|start| {
                let got = &message[start..];
                let after_stamp = want.stamp + STAMP_LEN;
                got[..want.stamp] == text[..want.stamp]
                    && got[want.stamp..after_stamp] == *stamp
                    && got[after_stamp..want.mark] == text[after_stamp..want.mark]
                    && same_end(&got[want.mark + MARK_LEN..], &text[want.mark + MARK_LEN..])
            });
        if whole {
            Verdict::Whole { sequence, due_ns: Some(due_ns), written_ns: Some(due_ns + late_ns) }
        } else {
            Verdict::Torn(Some(sequence))
        }
    }
}

/// Due time and lateness out of `.DUE.LATE`, the part of a mark behind the sequence number.
fn read_times(bytes: &[u8]) -> Option<(u64, u64)> {
    let times = bytes.get(..MARK_LEN - MARK_NAME.len() - SEQ_DIGITS)?;
    let (due, late) = times.strip_prefix(b".")?.split_at(DUE_DIGITS);
    Some((read_hex(due)?, read_hex(late.strip_prefix(b".")?)?))
}

/// A syslog message begins `<PRI>`; without it, its head is missing.
fn has_priority(message: &[u8]) -> bool {
    message.strip_prefix(b"<").is_some_and(|rest| {
        let digits = rest.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
        digits > 0 && rest.get(digits) == Some(&b'>')
    })
}

/// Whether what follows the mark is right. auditd's 0x1D may arrive as it is, as a space, or as rsyslog's `#035`.
fn same_end(got: &[u8], want: &[u8]) -> bool {
    let Some(want) = want.strip_prefix(&[ENRICHED]) else {
        return is_padding(got);
    };
    let rest = match got {
        [ENRICHED | b' ', rest @ ..] => rest,
        [b'#', b'0', b'3', b'5', rest @ ..] => rest,
        _ => return false,
    };
    rest.strip_prefix(want).is_some_and(is_padding)
}

/// What local transports add to a message: a line feed or a NUL.
fn is_padding(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, b'\n' | b'\r' | b'\0' | b' '))
}

/// Recorded lines that must arrive in order, once each, told by their normalised text.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    texts: Vec<(Vec<u8>, u64)>,
    by_text: HashMap<Vec<u8>, Vec<u64>>,
    arrived: Vec<bool>,
    next: usize,
    scratch: Vec<u8>,
}

impl Replayed {
    fn add(&mut self, text: &[u8], line: u64) {
        let mut normal = Vec::with_capacity(text.len());
        normalise(text, &mut normal);
        self.by_text.entry(normal.clone()).or_default().push(self.texts.len() as u64);
        self.texts.push((normal, line));
        self.arrived.push(false);
    }

    fn judge(&mut self, message: &[u8], announced: u64, plan: &Plan) -> Verdict {
        let mut scratch = std::mem::take(&mut self.scratch);
        normalise(message, &mut scratch);
        let verdict = self.judge_normal(&scratch, announced, plan);
        self.scratch = scratch;
        verdict
    }

    fn judge_normal(&mut self, message: &[u8], announced: u64, plan: &Plan) -> Verdict {
        let Some(start) = text_start(message) else {
            return Verdict::Unmarked;
        };
        let text = &message[start..];
        if is_eoe(text) {
            return Verdict::Unmarked;
        }
        let sequence = if self.texts.get(self.next).is_some_and(|(next, _)| text == next) {
            self.next as u64
        } else {
            let Some(same) = self.by_text.get(text) else {
                return Verdict::Torn(None);
            };
            // Equal lines cannot be told apart: take the first that has not arrived, else call it a duplicate.
            let open = same.iter().find(|&&n| usize::try_from(n).is_ok_and(|n| !self.arrived[n]));
            *open.or(same.last()).unwrap_or(&0)
        };
        if sequence >= announced || !has_priority(message) {
            return Verdict::Torn(None);
        }
        let index = usize::try_from(sequence).unwrap_or(0);
        self.arrived[index] = true;
        self.next = self.next.max(index + 1);
        while self.arrived.get(self.next) == Some(&true) {
            self.next += 1;
        }
        Verdict::Whole { sequence, due_ns: plan.intended(self.texts[index].1), written_ns: None }
    }
}

/// Where the record begins: at the first ` type=` or ` node=` (header fields contain neither).
fn text_start(message: &[u8]) -> Option<usize> {
    message.windows(6).position(|w| w == b" type=" || w == b" node=").map(|space| space + 1)
}

/// Writes `text` so that all faithful renderings of a record become equal: control characters and bytes that are
/// not UTF-8 as `#ooo`, 0x1D (in either rendering) as a space, no white space or NUL at the end.
fn normalise(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let end =
        text.iter().rposition(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\0')).map_or(0, |last| last + 1);
    for chunk in text[..end].utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                ENRICHED => out.push(b' '),
                b'\t' | 0x20..=0x7E | 0x80.. => out.push(byte),
                control => escape(control, out),
            }
        }
        for &byte in chunk.invalid() {
            escape(byte, out);
        }
    }
    while let Some(at) = memchr::memmem::find(out, b"#035") {
        out.splice(at..at + 4, [b' ']);
    }
    out.truncate(out.trim_ascii_end().len());
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'#', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
}

// ---------------------------------------------------------------------------------------------------- the records

/// A record before it is laid out.
struct Record {
    name: &'static str,
    number: u32,
    body: String,
    suffix: String,
}

/// A record's text line (no LF) and the places in it that change from lap to lap.
struct Text {
    bytes: Vec<u8>,
    stamp: usize,
    mark: Option<usize>,
}

impl Text {
    fn of(record: &Record, enriched: bool) -> Self {
        let mut bytes = format!("type={} msg=audit(", record.name).into_bytes();
        let stamp = bytes.len();
        bytes.extend_from_slice(&format_stamp(0));
        bytes.extend_from_slice(b"):");
        if record.name == "EOE" {
            // The enriched form has no space here, the kernel's own has one.
            if !enriched {
                bytes.push(b' ');
            }
            return Self { bytes, stamp, mark: None };
        }
        bytes.push(b' ');
        bytes.extend_from_slice(record.body.as_bytes());
        let mark = bytes.len();
        bytes.extend_from_slice(MARK_NAME);
        bytes.extend_from_slice(b"0000000000.000000000000.0000000000");
        if enriched && !record.suffix.is_empty() {
            bytes.push(ENRICHED);
            bytes.extend_from_slice(record.suffix.as_bytes());
        }
        Self { bytes, stamp, mark: Some(mark) }
    }
}

/// SplitMix64: enough for a mix of records, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from[index]
    }
}

/// A login user: uid, name.
const USERS: [(u32, &str); 4] = [(0, "root"), (1000, "anna"), (1001, "deploy"), (33, "www-data")];
/// A program: comm, path, arguments (one with a space: the kernel writes those in hexadecimal).
const PROGRAMS: [(&str, &str, &[&str]); 6] = [
    ("ls", "/usr/bin/ls", &["ls", "-l"]),
    ("id", "/usr/bin/id", &["id"]),
    ("cat", "/usr/bin/cat", &["cat", "/etc/hosts"]),
    ("sh", "/usr/bin/dash", &["sh", "-c", "uname -r"]),
    ("git", "/usr/bin/git", &["git", "status"]),
    ("grep", "/usr/bin/grep", &["grep", "-q", "two words", "a.txt"]),
];
const DIRECTORIES: [&str; 4] = ["/", "/root", "/srv/www", "/var/lib/app"];
const FILES: [&str; 5] = ["/etc/passwd", "/etc/ld.so.cache", "/var/log/app.log", "/tmp/x", "/usr/lib/locale"];

/// The records of one event: execve (a quarter), openat (two thirds), a PAM session (the rest).
fn random_event(random: &mut Random, eoe: bool) -> Vec<Record> {
    let mut records = match random.below(24) {
        0..6 => execve(random),
        6..22 => openat(random),
        _ => return vec![pam(random)],
    };
    if eoe {
        records.push(Record { name: "EOE", number: 1320, body: String::new(), suffix: String::new() });
    }
    records
}

fn execve(random: &mut Random) -> Vec<Record> {
    let (comm, exe, args) = random.pick(&PROGRAMS);
    let a0 = format!("{:x}", 0x55d0_c000_0000 + random.below(1 << 28));
    let mut body = format!("argc={}", args.len());
    for (n, arg) in args.iter().enumerate() {
        body.push_str(&format!(" a{n}={}", quoted(arg)));
    }
    vec![
        syscall(random, 59, "execve", &a0, 2, comm, exe, "exec"),
        Record { name: "EXECVE", number: 1309, body, suffix: String::new() },
        cwd(random),
        path(random, 0, exe, "NORMAL", "0100755"),
        path(random, 1, "/lib64/ld-linux-x86-64.so.2", "NORMAL", "0100755"),
        proctitle(args),
    ]
}

fn openat(random: &mut Random) -> Vec<Record> {
    let (comm, exe, args) = random.pick(&PROGRAMS);
    let file = random.pick(&FILES);
    let mut records = vec![syscall(random, 257, "openat", "ffffff9c", 2, comm, exe, "access"), cwd(random)];
    if random.below(2) == 0 {
        // A file that is not there: the kernel knows only its name.
        let body = format!(
            "item=0 name=\"{file}.tmp\" nametype=UNKNOWN cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
        );
        records.push(Record { name: "PATH", number: 1302, body, suffix: String::new() });
    } else {
        let parent = random.pick(&DIRECTORIES);
        records.push(path(random, 0, parent, "PARENT", "040755"));
        records.push(path(random, 1, file, "NORMAL", "0100644"));
    }
    records.push(proctitle(args));
    records
}

#[expect(clippy::too_many_arguments, reason = "one record has that many fields")]
fn syscall(
    random: &mut Random,
    number: u32,
    name: &str,
    a0: &str,
    items: u32,
    comm: &str,
    exe: &str,
    key: &str,
) -> Record {
    let (uid, user) = random.pick(&USERS);
    let pid = 1000 + random.below(30_000);
    let (a1, a2) = (0x7ffd_0000_0000 + random.below(1 << 28), random.below(1 << 20));
    let session = 1 + random.below(9);
    Record {
        name: "SYSCALL",
        number: 1300,
        body: format!(
            "arch=c000003e syscall={number} success=yes exit=0 a0={a0} a1={a1:x} a2={a2:x} a3=0 items={items} \
             ppid={} pid={pid} auid={uid} uid={uid} gid={uid} euid={uid} suid={uid} fsuid={uid} egid={uid} \
             sgid={uid} fsgid={uid} tty=(none) ses={session} comm=\"{comm}\" exe=\"{exe}\" key=\"{key}\"",
            pid - 1
        ),
        suffix: format!(
            "ARCH=x86_64 SYSCALL={name} AUID=\"{user}\" UID=\"{user}\" GID=\"{user}\" EUID=\"{user}\" \
             SUID=\"{user}\" FSUID=\"{user}\" EGID=\"{user}\" SGID=\"{user}\" FSGID=\"{user}\""
        ),
    }
}

fn cwd(random: &mut Random) -> Record {
    let body = format!("cwd=\"{}\"", random.pick(&DIRECTORIES));
    Record { name: "CWD", number: 1307, body, suffix: String::new() }
}

fn path(random: &mut Random, item: u32, name: &str, nametype: &str, mode: &str) -> Record {
    Record {
        name: "PATH",
        number: 1302,
        body: format!(
            "item={item} name=\"{name}\" inode={} dev=fe:00 mode={mode} ouid=0 ogid=0 rdev=00:00 \
             nametype={nametype} cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0",
            1 + random.below(1_000_000)
        ),
        suffix: "OUID=\"root\" OGID=\"root\"".into(),
    }
}

fn proctitle(args: &[&str]) -> Record {
    // One argument is written as it is; the NUL between two makes the kernel write hexadecimal.
    let title = args.join("\0");
    Record {
        name: "PROCTITLE",
        number: 1327,
        body: format!("proctitle={}", quoted(&title)),
        suffix: String::new(),
    }
}

fn pam(random: &mut Random) -> Record {
    const STEPS: [(&str, u32, &str, &str); 6] = [
        ("USER_AUTH", 1100, "PAM:authentication", "pam_unix"),
        ("USER_ACCT", 1101, "PAM:accounting", "pam_permit"),
        ("CRED_ACQ", 1103, "PAM:setcred", "pam_unix"),
        ("USER_START", 1105, "PAM:session_open", "pam_loginuid,pam_env,pam_limits,pam_unix"),
        ("USER_END", 1106, "PAM:session_close", "pam_loginuid,pam_env,pam_limits,pam_unix"),
        ("CRED_DISP", 1104, "PAM:setcred", "pam_unix"),
    ];
    let (name, number, op, grantors) = random.pick(&STEPS);
    let (uid, user) = random.pick(&USERS);
    let pid = 1000 + random.below(30_000);
    let session = 1 + random.below(9);
    Record {
        name,
        number,
        body: format!(
            "pid={pid} uid=0 auid={uid} ses={session} msg='op={op} grantors={grantors} acct=\"{user}\" \
             exe=\"/usr/sbin/cron\" hostname=? addr=? terminal=cron res=success'"
        ),
        suffix: format!("UID=\"root\" AUID=\"{user}\""),
    }
}

/// The kernel's rule for strings it does not trust: quoted if plain, else hexadecimal.
fn quoted(value: &str) -> String {
    if value.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        format!("\"{value}\"")
    } else {
        value.bytes().map(|b| format!("{b:02X}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: Shape = Shape { seed: 1, form: Form::Text, frames: Frames::Exact, eoe: false };

    fn plan() -> Plan {
        Plan::new(0, None)
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
            assert_eq!(text.windows(MARK_NAME.len()).filter(|w| *w == MARK_NAME).count(), 1);
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
                let whole = Verdict::Whole { sequence, due_ns: Some(n * 100), written_ns: Some(n * 100 + 7) };
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
            let mark_at = memchr::memmem::find(&whole, MARK_NAME).unwrap();
            prop_assume!(!(mark_at..mark_at + MARK_LEN).contains(&at) || cut);
            prop_assume!(cut || !(at == whole.len() - 1 && is_padding(&message[at..])));
            let same = matches!(message.get(mark_at + MARK_LEN), Some(&b) if b == ENRICHED) && at == mark_at + MARK_LEN;
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
        assert_eq!(expected.judge(&message[1..], 1, &plan()), Verdict::Torn(Some(0)));
        assert_eq!(expected.judge(&message[60..], 1, &plan()), Verdict::Torn(Some(0)));
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
                assert_eq!(frame.len(), 16 + if frames == Frames::Fixed { FRAME_PAYLOAD } else { size });
                let payload = &frame[16..16 + size];
                let text = if form == Form::Binary0 {
                    assert!(payload.starts_with(b"audit("));
                    // A receiver takes the name from the number; here it comes from the expectation.
                    let Expected::Marked(marked) = &expected else { unreachable!() };
                    let want = &marked.records[n % marked.records.len()];
                    let text = &marked.bytes[want.text.clone()];
                    [&text[..want.stamp - 6], payload].concat()
                } else {
                    payload.to_vec()
                };
                let verdict = expected.judge(&relayed(&text), wire.sequence(), &plan());
                assert!(
                    matches!(verdict, Verdict::Whole { sequence, .. } if sequence == n as u64),
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
        let whole = |sequence| Verdict::Whole { sequence, due_ns: None, written_ns: None };
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
    fn numbers_are_written_to_their_width() {
        let mut out = [0; 4];
        for (value, text) in [(0, b"0000"), (0xbeef, b"beef"), (0x1_0000, b"ffff")] {
            write_hex(&mut out, value);
            assert_eq!(&out, text);
        }
        assert_eq!(read_hex(b"beef"), Some(0xbeef));
        assert_eq!(read_hex(b"bxef"), None);
        assert_eq!(&format_stamp(12_345), b"1795424552.234:100012345");
    }
}
