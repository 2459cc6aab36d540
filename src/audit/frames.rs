//! The binary form: a 16-byte header and a payload, again and again.
//!
//! Promise: every payload comes out once, exactly as long as its header says, however the reads cut the
//! stream. Law: a byte behind the payload's end never leaves this room. In the fixed layout those bytes
//! are uninitialised heap of auditd and hold pieces of other records.
//!
//! ```text
//! offset  0        4         8       12       16            16+size                    8986
//!         | ver    | hlen=16 | type  | size   | payload ... |                               four u32 in host order
//! exact:  |------------------- one frame -------------------| next frame
//! fixed:  |------------------- one frame -------------------|--- junk, never read ------| next frame
//! ```
//!
//! Which auditd sends what (`struct audit_dispatcher_header`, libaudit.h):
//!
//! | layout     | sender |
//! |---|---|
//! | exact      | a 2.x `dispatcher =` child's parent; auditd 4.1.1 and later |
//! | fixed      | audispd 2.x; auditd 3.0 to 4.1.0: always 8970 bytes of payload area |
//! | overstated | 2.6.4 with `log_format = RAW`: the size also counts `[node=NAME ]type=TYPE msg=`, and as much is not sent |
//!
//! 2.6.4 sends the kernel's records with that front and without as many bytes at their end, which are lost; its own
//! `DAEMON_*` come whole, without it.
//!
//! Versions 0 and 1 may alternate in one stream, so each payload is judged by its own first bytes.

use super::stamp::Reader;
use super::{Record, Step, types};

/// Length of the header that versions 0 and 1 have, in bytes.
pub(super) const HEADER: usize = 16;

/// The longest payload (`MAX_AUDIT_MESSAGE_LENGTH`), in bytes, and the fixed layout's payload area.
pub(super) const MAX_PAYLOAD: usize = 8970;

/// Length of a frame in the fixed layout, in bytes.
pub const FIXED_FRAME: usize = HEADER + MAX_PAYLOAD;

/// Where the next frame starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Layout {
    /// No frame seen yet, or the place was lost.
    Unknown,
    /// One payload was handed on; the next header follows at once (exact) or after `tail` bytes (fixed).
    AfterFirst {
        tail: usize,
    },
    Exact,
    Fixed,
    Overstated,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    version: u32,
    length: usize,
    number: u32,
    size: usize,
}

impl Header {
    /// Reads a header that could be one. Later versions may add fields at the end and must then say so
    /// in `hlen` (the rule that libaudit.h states).
    #[inline]
    fn read(input: &[u8]) -> Option<Self> {
        let words = input.first_chunk::<HEADER>()?.as_chunks::<4>().0;
        let [version, length, number, size] = [0, 1, 2, 3].map(|at| u32::from_ne_bytes(words[at]));
        let sane_length = match version {
            0 | 1 => length == 16,
            2..=15 => (16..=64).contains(&length),
            _ => false,
        };
        let sane = sane_length && (number <= 0xFFFF || number == u32::MAX) && size <= 8970;
        sane.then_some(Self { version, length: length as usize, number, size: size as usize })
    }

    fn frame_len(&self) -> usize {
        self.length + self.size
    }

    /// Whether `input` starts with a header whose payload starts as records do; `None` while too little of it has
    /// arrived to tell. Used where the place is not certain, so that heap junk is not taken for a record.
    fn starts_record(input: &[u8]) -> Option<bool> {
        if input.len() < HEADER {
            return None;
        }
        let Some(header) = Self::read(input) else {
            return Some(false);
        };
        let payload = &input[header.length.min(input.len())..];
        let mut known = None;
        for start in RECORD_STARTS.iter().filter(|start| start.len() <= header.size) {
            let there = payload.len().min(start.len());
            if payload[..there] == start[..there] {
                if there == start.len() {
                    return Some(true);
                }
                known = Some(());
            }
        }
        if known.is_some() { None } else { Some(false) }
    }
}

/// The most that `node=NAME ` takes, NAME being a host's, in bytes.
const LONGEST_NODE: usize = 5 + 255 + 2;

/// What the payload of a local record starts with.
const RECORD_STARTS: [&[u8]; 3] = [b"audit(", b"type=", b"node="];

/// Reads frames.
#[derive(Debug)]
pub(super) struct Frames {
    layout: Layout,
    /// The user named the layout; it is never judged anew.
    locked: bool,
    /// The place was lost: not every header will do, only one with a record behind it.
    lost: bool,
    /// Bytes of a fixed frame's tail still to be passed over.
    tail: usize,
    /// In the overstated layout: bytes that `node=NAME ` takes, as far as it has been seen.
    node: usize,
    stamps: Reader,
}

impl Frames {
    /// Finds out the layout from the first frames.
    pub(super) fn detect() -> Self {
        Self {
            layout: Layout::Unknown,
            locked: false,
            lost: false,
            tail: 0,
            node: 0,
            stamps: Reader::default(),
        }
    }

    /// Reads exact frames, whatever they look like.
    pub(super) fn exact() -> Self {
        Self { layout: Layout::Exact, locked: true, lost: false, tail: 0, node: 0, stamps: Reader::default() }
    }

    /// Reads fixed frames, whatever they look like.
    pub(super) fn fixed() -> Self {
        Self { layout: Layout::Fixed, locked: true, lost: false, tail: 0, node: 0, stamps: Reader::default() }
    }

    /// Takes the next frame off the front of `input`. `ended` says that nothing will follow.
    #[inline(never)]
    pub(super) fn step<'a>(&mut self, input: &'a [u8], ended: bool) -> Step<'a> {
        if self.tail > 0 {
            let consumed = self.tail.min(input.len());
            self.tail -= consumed;
            return if consumed == 0 { Step::More } else { Step::Tail { consumed } };
        }
        if let Layout::AfterFirst { tail } = self.layout {
            match Self::judge(input, tail) {
                Some(layout) => self.layout = layout,
                None if !ended || input.is_empty() => return Step::More,
                None if Header::read(input).is_some()
                    && (input.len() != tail || Self::frames_lead_to(tail, input)) =>
                {
                    self.layout = Layout::Exact;
                }
                // The one and only frame was a fixed one.
                None if input.len() == tail => return Step::Tail { consumed: tail },
                None => {
                    return Step::Skipped { consumed: input.len() };
                }
            }
            if self.layout == Layout::Fixed {
                return Step::Tail { consumed: tail };
            }
        }
        if self.lost {
            match Header::starts_record(input) {
                Some(true) => self.lost = false,
                None if !ended => return Step::More,
                Some(false) | None => return self.resynchronise(input, ended),
            }
        }
        if input.len() < HEADER {
            return if ended && !input.is_empty() {
                Step::Skipped { consumed: input.len() }
            } else {
                Step::More
            };
        }
        let Some(header) = Header::read(input) else {
            return self.resynchronise(input, ended);
        };
        self.frame(header, input, ended)
    }

    /// Decides what follows the first payload; `None` while too little of it has arrived.
    fn judge(input: &[u8], tail: usize) -> Option<Layout> {
        if input.len() < HEADER {
            return None;
        }
        let exact = Header::read(input);
        if input.len() < tail {
            // A fixed frame is written in one call and arrives whole, so this is not one's tail.
            let next = exact.and_then(|header| input.get(header.frame_len()..));
            let followed = next.is_some_and(|next| Header::read(next).is_some());
            return (followed || Header::starts_record(input) == Some(true)).then_some(Layout::Exact);
        }
        if input.len() < tail + HEADER {
            return None;
        }
        match (exact.is_some(), Header::read(&input[tail..]).is_some()) {
            // Both places look right: the exact layout is the true one only if its frames lead there.
            (true, true) => {
                Some(if Self::frames_lead_to(tail, input) { Layout::Exact } else { Layout::Fixed })
            }
            (true, false) => Some(Layout::Exact),
            (false, true) => Some(Layout::Fixed),
            // Neither: the place is lost, and the search for the next header begins here.
            (false, false) => Some(Layout::Unknown),
        }
    }

    /// True if frames without gaps lead from the start of `input` to `end`.
    fn frames_lead_to(end: usize, input: &[u8]) -> bool {
        let mut at = 0;
        while at < end {
            match Header::read(&input[at..]) {
                Some(header) => at += header.frame_len(),
                None => return false,
            }
        }
        at == end
    }

    fn frame<'a>(&mut self, mut header: Header, input: &'a [u8], ended: bool) -> Step<'a> {
        if header.version == 0 && matches!(self.layout, Layout::Unknown | Layout::Overstated) {
            header.size = self.size_sent(header, input);
        }
        let stated = header.frame_len();
        let whole = input.len() >= stated;
        if !whole && !ended {
            return Step::More;
        }
        let end = stated.min(input.len());
        let payload = &input[header.length.min(end)..end];
        if whole && !self.locked && self.layout == Layout::Unknown && stated < FIXED_FRAME {
            self.layout = Layout::AfterFirst { tail: FIXED_FRAME - stated };
        } else if self.layout == Layout::Fixed {
            self.tail = FIXED_FRAME.saturating_sub(stated);
        }
        // 2.6.0 to 2.6.3 wrote version 0 above formatted text, so the text decides, not the version.
        let record = if payload.starts_with(b"audit(") || (header.version == 0 && !looks_formatted(payload)) {
            Record::read_raw(header.number, payload, &mut self.stamps)
        } else {
            Record::read_text(payload, &mut self.stamps)
        };
        if record.text.is_empty() {
            return Step::Empty { consumed: end };
        }
        Step::Record { record, consumed: end }
    }

    /// The payload's length, which in a frame of 2.6.4 is less than the header says.
    #[cold]
    #[inline(never)]
    fn size_sent(&mut self, header: Header, input: &[u8]) -> usize {
        self.overstated_end(header, input).map_or(header.size, |end| end - header.length)
    }

    /// Where a frame of 2.6.4 ends, if it is one: before its stated end. No payload of version 0 holds a NUL, and the
    /// next header begins with one. Where none has arrived yet, what is usual not to be sent tells; 2.6.4 takes a
    /// trailing space (of EOE, say) off the text and off the size, and sends it all the same.
    fn overstated_end(&mut self, header: Header, input: &[u8]) -> Option<usize> {
        let stated = header.frame_len();
        let name = match types::name(header.number) {
            Some(name) => name.len(),
            None => "UNKNOWN[]".len() + header.number.checked_ilog10().map_or(1, |log| log as usize + 1),
        };
        let front = "type= msg=".len() + name;
        let there = input.get(HEADER..stated.min(input.len()))?;
        let next = memchr::memchr(0, there).map(|at| HEADER + at);
        if let Some(end) = next.filter(|&end| {
            // Four bytes of the version, and four of the length; as much of them as has arrived.
            let next = &input[end..];
            next.iter().zip(&input[..8]).all(|(next, first)| next == first)
                && Header::starts_record(next) != Some(false)
                && (next.len() >= 8 || self.layout == Layout::Overstated)
        }) {
            let not_sent = (stated - end).checked_sub(front - 1).filter(|&rest| rest <= LONGEST_NODE)?;
            self.layout = Layout::Overstated;
            self.node = self.node.max(not_sent.saturating_sub(1));
            return Some(end);
        }
        if self.layout != Layout::Overstated {
            return None;
        }
        let usual = stated.checked_sub(front + self.node).filter(|&end| end >= HEADER)?;
        Some(if input.get(usual).is_some_and(|byte| *byte != 0) { usual + 1 } else { usual })
    }

    /// Passes over bytes up to the next place where a frame may start.
    fn resynchronise<'a>(&mut self, input: &'a [u8], ended: bool) -> Step<'a> {
        if !self.locked {
            self.layout = Layout::Unknown;
        }
        self.lost = true;
        // The first place where a frame starts, or where one may once more has arrived.
        let place = (1..input.len()).find(|&at| match Header::starts_record(&input[at..]) {
            Some(starts) => starts,
            None => !ended,
        });
        let consumed = place.unwrap_or(input.len());
        if consumed == 0 { Step::More } else { Step::Skipped { consumed } }
    }
}

/// True if a binary stream starts so, `None` if too little of it is there to tell. Not every stream starts
/// with a header: garbage may come first, and a line may start with stray control characters. Then a frame
/// before the first line end decides.
pub(super) fn starts_stream(input: &[u8]) -> Option<bool> {
    if input.first()? > &8 {
        return Some(false);
    }
    let word = |at: usize| input.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    if word(0)? <= 15 && (16..=64).contains(&word(4)?) {
        return Some(true);
    }
    match (find_record(input, 1), memchr::memchr(b'\n', input)) {
        (Some(frame), Some(line_end)) => Some(frame < line_end),
        (Some(_), None) => Some(true),
        (None, Some(_)) => Some(false),
        (None, None) => (input.len() > UNDECIDED_MAX).then_some(false),
    }
}

/// Bytes without a header or a line end after which a stream counts as text.
const UNDECIDED_MAX: usize = 16 * 1024;

/// Offset, from `from` on, of the first place that is certain to look like a frame with a record in it.
fn find_record(input: &[u8], from: usize) -> Option<usize> {
    (from..input.len()).find(|&at| Header::starts_record(&input[at..]) == Some(true))
}

fn looks_formatted(payload: &[u8]) -> bool {
    payload.starts_with(b"type=") || payload.starts_with(b"node=")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Decoded, decode_in_chunks};
    use super::*;
    use crate::audit::{Decoder, InputForm};
    use proptest::prelude::*;

    fn header(version: u32, number: u32, size: usize) -> Vec<u8> {
        [version, 16, number, u32::try_from(size).unwrap()]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    fn exact(version: u32, number: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = header(version, number, payload.len());
        frame.extend_from_slice(payload);
        frame
    }

    /// A fixed frame whose tail holds a piece of an earlier record, as auditd's heap does.
    fn fixed(version: u32, number: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = exact(version, number, payload);
        while frame.len() < FIXED_FRAME {
            frame.extend_from_slice(b"type=SECRET msg=audit(1.001:9): remnant ");
        }
        frame.truncate(FIXED_FRAME);
        frame
    }

    fn run(form: InputForm, input: &[u8], cuts: &[usize]) -> Decoded {
        decode_in_chunks(Decoder::new(form), input, cuts)
    }

    const A: &[u8] = b"audit(1795424674.445:4827): op=start";
    const B: &[u8] = b"type=SYSCALL msg=audit(1795424674.446:4828): arch=c000003e";
    const EOE: &[u8] = b"audit(1795424674.446:4828): ";

    #[test]
    fn exact_and_fixed_frames_of_both_versions() {
        for make in [exact, fixed] {
            let stream =
                [make(0, 1200, A), make(1, 1300, B), make(0, 1320, EOE), make(1, u32::MAX, B)].concat();
            for form in [InputForm::Auto, InputForm::Binary] {
                let got = run(form, &stream, &[]);
                assert_eq!(got.texts, [A, B, EOE, B], "{form:?}");
                assert_eq!(got.skipped, 0);
            }
        }
    }

    #[test]
    fn the_first_record_is_not_held_back_until_the_layout_is_known() {
        let stream = exact(0, 1200, A);
        let mut frames = Frames::detect();
        assert!(
            matches!(frames.step(&stream, false), Step::Record { consumed, .. } if consumed == stream.len())
        );
        assert!(matches!(frames.step(&[], false), Step::More));
    }

    #[test]
    fn a_single_fixed_frame_has_a_tail_not_garbage() {
        let got = run(InputForm::Auto, &fixed(0, 1200, A), &[]);
        assert_eq!((got.texts, got.skipped), (vec![A.to_vec()], 0));
    }

    #[test]
    fn a_record_planted_in_a_fixed_tail_is_not_forwarded() {
        let planted = b"type=PLANTED msg=audit(1.001:1): x";
        let mut first = fixed(0, 1200, A);
        let at = HEADER + A.len();
        let fake = exact(1, 1300, planted);
        first[at..at + fake.len()].copy_from_slice(&fake);
        let stream = [first, fixed(1, 1300, B), fixed(0, 1320, EOE)].concat();
        for cuts in [&[][..], &[FIXED_FRAME], &[FIXED_FRAME + 3]] {
            assert_eq!(run(InputForm::Auto, &stream, cuts).texts, [A, B, EOE], "{cuts:?}");
        }
        assert_eq!(run(InputForm::BinaryFixed, &stream, &[]).texts, [A, B, EOE]);
    }

    #[test]
    fn a_fixed_stream_goes_on_with_records_that_look_like_nothing() {
        let stream = [
            fixed(0, 1200, A),
            fixed(1, u32::MAX, b"anything at all"),
            fixed(1, 1300, b""),
            fixed(1, 1300, B),
        ];
        let got = run(InputForm::Auto, &stream.concat(), &[FIXED_FRAME]);
        assert_eq!((got.texts, got.skipped), (vec![A.to_vec(), b"anything at all".to_vec(), B.to_vec()], 0));
    }

    #[test]
    fn full_size_payloads_fit_both_layouts() {
        let mut payload = A.to_vec();
        payload.resize(MAX_PAYLOAD, b'x');
        let stream =
            [exact(0, 1309, &payload), exact(0, 1309, &payload), exact(0, 1200, A), exact(1, 1300, B)]
                .concat();
        assert_eq!(run(InputForm::Auto, &stream, &[]).texts, [&payload[..], &payload, A, B]);
    }

    #[test]
    fn version_0_above_formatted_text_as_2_6_0_to_2_6_3_sent_it() {
        let got = run(InputForm::Auto, &[exact(0, 1300, B), exact(0, 1300, B)].concat(), &[]);
        assert_eq!(got.texts, [B, B]);
        assert_eq!(got.prefixed, 0);
    }

    #[test]
    fn sizes_overstated_by_2_6_4() {
        let overstated = |number: u32, payload: &[u8]| {
            let mut frame = header(0, number, payload.len() + 10 + types::name(number).unwrap().len());
            frame.extend_from_slice(payload);
            frame
        };
        let stream =
            [overstated(1200, A), overstated(1300, A), overstated(1320, EOE), overstated(1307, A)].concat();
        let got = run(InputForm::Auto, &stream, &[]);
        assert_eq!(got.texts, [A, A, EOE, A]);
        assert_eq!(got.skipped, 0);
    }

    #[test]
    fn garbage_is_skipped_and_counted() {
        let garbage = b"\0\0\0\0\x10\0\0\0junk that is no header at all\xff\xff";
        for make in [exact, fixed] {
            let stream =
                [make(0, 1200, A), make(1, 1300, B), garbage.to_vec(), make(0, 1200, A), make(1, 1300, B)]
                    .concat();
            let got = run(InputForm::Auto, &stream, &[]);
            assert_eq!(got.texts, [A, B, A, B]);
            assert_eq!(got.skipped, garbage.len());
        }
    }

    #[test]
    fn a_size_beyond_the_longest_payload_is_no_frame() {
        let giant = [&b"type=X msg=audit(1.001:1): "[..], &[b'a'; MAX_PAYLOAD - 26]].concat();
        assert_eq!(giant.len(), MAX_PAYLOAD + 1);
        let stream = [exact(1, 1300, B), exact(1, 1300, &giant), exact(1, 1300, B)].concat();
        let got = run(InputForm::BinaryExact, &stream, &[]);
        assert_eq!(got.texts, [B, B]);
        assert_eq!(got.skipped, HEADER + giant.len());
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_still_gives_what_arrived() {
        let stream = [exact(0, 1200, A), exact(1, 1300, B)].concat();
        let got = run(InputForm::Auto, &stream[..stream.len() - 5], &[]);
        assert_eq!(got.texts, [A, &B[..B.len() - 5]]);
    }

    #[test]
    fn a_later_version_with_a_longer_header() {
        let mut frame: Vec<u8> = [2u32, 24, 1300, u32::try_from(B.len()).unwrap(), 7, 7]
            .iter()
            .flat_map(|w| w.to_ne_bytes())
            .collect();
        frame.extend_from_slice(B);
        assert_eq!(run(InputForm::Binary, &[frame.clone(), frame].concat(), &[]).texts, [B, B]);
    }

    #[test]
    fn empty_payloads_are_counted_not_forwarded() {
        let got = run(
            InputForm::Auto,
            &[exact(1, 1300, B), exact(1, u32::MAX, b""), exact(1, 1300, B)].concat(),
            &[],
        );
        assert_eq!((got.texts.len(), got.empty), (2, 1));
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_frames(
            records in proptest::collection::vec((0u32..2, 1300u32..1330, "[ -~]{0,300}"), 1..20),
            is_fixed in any::<bool>(),
            cuts in proptest::collection::vec(1usize..12_000, 0..60),
        ) {
            let make = if is_fixed { fixed } else { exact };
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (version, number, body) in &records {
                let text = if *version == 0 {
                    format!("audit(1795424674.445:1): {body}")
                } else {
                    format!("type=SYSCALL msg=audit(1795424674.445:1): {body}")
                };
                stream.extend(make(*version, *number, text.as_bytes()));
                expected.push(text.into_bytes());
            }
            let got = run(InputForm::Auto, &stream, &cuts);
            prop_assert_eq!(got.texts, expected);
            prop_assert_eq!(got.skipped, 0);
        }

        #[test]
        fn any_bytes_end(input in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(16), any::<u8>()], 0..4000),
                         cuts in proptest::collection::vec(1usize..500, 0..20)) {
            let got = run(InputForm::Binary, &input, &cuts);
            prop_assert!(got.skipped <= input.len());
        }
    }
}
