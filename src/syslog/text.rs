//! The text of a message: which bytes go out as they are, and what becomes of the others.
//!
//! Promise: whatever bytes a record holds, what is written is valid UTF-8 on one line without control
//! characters other than TAB. Law: nothing is left out; what may not stand there is written out visibly.
//!
//! | in | out | why |
//! |---|---|---|
//! | 0x20-0x7E, TAB, UTF-8 from U+00A0 on | the same | |
//! | 0x1D | space | auditd's separator before the enrichment; audisp-syslog shows it so |
//! | LF | space | auditd's own string form does the same with the line ends inside a record |
//! | other 0x00-0x1F, 0x7F, U+0080-U+009F | `#ooo` a byte, three octal digits | they steer terminals (CVE-2023-28486); RFC 5424 section 6.4 asks to avoid them; rsyslog shows them so |
//! | bytes that are not UTF-8 | `#ooo` a byte | nothing is lost, and no receiver drops or alters the message |
//! | a byte order mark in front | `#357#273#277` | before MSG it is none of the text (RFC 5424 section 6.4): receivers take it away |

use bytes::BytesMut;

/// Appends `text` by the rules above; grows `out` only when its room is used up. Nearly every record is printable
/// ASCII and perhaps a 0x1D, so the text is copied as a whole and looked through where it then lies.
#[inline]
pub(super) fn append(out: &mut BytesMut, text: &[u8]) {
    let start = out.len();
    out.extend_from_slice(text);
    let clean = clean(&mut out[start..]);
    if clean < text.len() {
        out.truncate(start + clean);
        append_odd(out, text, clean);
    }
}

/// U+FEFF.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Appends what follows the first `clean` bytes of `text`.
#[inline(never)]
fn append_odd(out: &mut BytesMut, text: &[u8], mut clean: usize) {
    if clean == 0 && text.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.iter().for_each(|byte| append_octal(out, *byte));
        clean = BYTE_ORDER_MARK.len();
    }
    append_with(out, &text[clean..], |_| None);
}

/// Appends `text` as PARAM-VALUE of structured data: as [`append`], and `"`, `\` and `]` behind a
/// backslash (RFC 5424 section 6.3.3).
pub(super) fn append_param(out: &mut BytesMut, text: &[u8]) {
    append_with(out, text, |plain| plain.iter().position(|byte| matches!(byte, b'"' | b'\\' | b']')));
}

#[inline]
fn append_with(out: &mut BytesMut, mut text: &[u8], quote: impl Fn(&[u8]) -> Option<usize>) {
    loop {
        let plain = plain_prefix(text);
        let mut run = &text[..plain];
        while let Some(at) = quote(run) {
            out.extend_from_slice(&run[..at]);
            out.extend_from_slice(&[b'\\', run[at]]);
            run = &run[at + 1..];
        }
        out.extend_from_slice(run);
        text = &text[plain..];
        let Some(&byte) = text.first() else { return };
        if byte < 0x80 {
            match byte {
                0x1d | b'\n' => out.extend_from_slice(b" "),
                b'\t' => out.extend_from_slice(b"\t"),
                _ => append_octal(out, byte),
            }
            text = &text[1..];
        } else {
            let end = text.iter().position(|byte| *byte < 0x80).unwrap_or(text.len());
            append_high(out, &text[..end]);
            text = &text[end..];
        }
    }
}

/// Appends a run of bytes >= 0x80.
#[cold]
fn append_high(out: &mut BytesMut, run: &[u8]) {
    for chunk in run.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut utf8 = [0; 4];
            let bytes = character.encode_utf8(&mut utf8).as_bytes();
            if character.is_control() {
                bytes.iter().for_each(|byte| append_octal(out, *byte));
            } else {
                out.extend_from_slice(bytes);
            }
        }
        chunk.invalid().iter().for_each(|byte| append_octal(out, *byte));
    }
}

fn append_octal(out: &mut BytesMut, byte: u8) {
    out.extend_from_slice(&[b'#', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
}

/// Makes spaces of 0x1D and LF, up to the first block that holds something that needs more room. Returns where that
/// block starts, or the length of `text`.
#[inline]
fn clean(text: &mut [u8]) -> usize {
    const { assert!(BLOCK.is_multiple_of(SMALL)) };
    if text.len() < BLOCK { clean_by::<SMALL>(text) } else { clean_by::<BLOCK>(text) }
}

/// Bytes looked at in one go, without an early exit, so that the compiler makes vector code of it.
const BLOCK: usize = 64;
/// The same in a short text.
const SMALL: usize = 16;

#[inline]
fn clean_by<const N: usize>(text: &mut [u8]) -> usize {
    let length = text.len();
    let blocks = text.as_chunks_mut::<N>().0;
    let whole = blocks.len() * N;
    for (at, block) in blocks.iter_mut().enumerate() {
        if !is_plain(block) && !clean_block(block) {
            return at * N;
        }
    }
    // The rest is looked at together with what stands before it and is clean already.
    let good = match text.last_chunk_mut::<N>() {
        Some(last) => is_plain(last) || clean_block(last),
        None => clean_block(text),
    };
    if good { length } else { whole }
}

/// True if `block` is printable ASCII.
#[inline]
fn is_plain<const N: usize>(block: &[u8; N]) -> bool {
    // As signed numbers: without a comparison of unsigned ones in SSE2, this takes half as much.
    !block.iter().fold(false, |odd, byte| odd | (byte.wrapping_add(0x60).cast_signed() > -34))
}

/// Makes spaces of 0x1D and LF. False if there is something else that may not stay.
#[inline(never)]
fn clean_block(block: &mut [u8]) -> bool {
    let mut odd = false;
    for byte in block {
        let space = *byte == 0x1d || *byte == b'\n';
        *byte = if space { b' ' } else { *byte };
        odd |= byte.wrapping_sub(0x20) > 0x5e && *byte != b'\t';
    }
    !odd
}

/// Length of the prefix of `text` that is printable ASCII. Written in blocks without an early exit, so
/// that the compiler makes vector code of it.
#[inline]
fn plain_prefix(text: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let mut at = 0;
    while let Some(block) = text.get(at..at + BLOCK) {
        if block.iter().fold(false, |odd, byte| odd | (byte.wrapping_sub(0x20) > 0x5e)) {
            break;
        }
        at += BLOCK;
    }
    let rest = &text[at..];
    at + rest.iter().position(|byte| byte.wrapping_sub(0x20) > 0x5e).unwrap_or(rest.len())
}

/// Bytes that [`cut`] needs for its mark at most: `[cut from 18446744073709551615 bytes]`.
pub(super) const MARK_MAX: usize = 37;

/// Cuts the message in `out[start..]` down to `limit` bytes, its end saying how long it was. Cuts between
/// characters and not inside a `#ooo`. Returns whether anything was cut.
#[inline]
pub(super) fn cut(out: &mut BytesMut, start: usize, limit: usize) -> bool {
    let full = out.len() - start;
    full > limit && cut_as(out, start, limit, full)
}

/// The length that a message had before anything was cut: what its mark says, or else the length that it has.
pub(super) fn whole(message: &[u8]) -> usize {
    // A record may end in such words too; a length that it has already outgrown is no cut message's.
    whole_length(message).filter(|whole| *whole > message.len()).unwrap_or(message.len())
}

/// As [`cut`], for a message that was `whole` bytes long at first.
pub(super) fn cut_as(out: &mut BytesMut, start: usize, limit: usize, whole: usize) -> bool {
    if out.len() - start <= limit {
        return false;
    }
    let mut end = start + limit.saturating_sub(MARK_MAX);
    while end > start && (out[end] & 0xc0) == 0x80 {
        end -= 1;
    }
    // A `#` among the last three bytes may be the start of an escape that the cut would halve.
    if let Some(at) = out[end.saturating_sub(3).max(start)..end].iter().rposition(|byte| *byte == b'#') {
        end = end.saturating_sub(3).max(start) + at;
    }
    out.truncate(end);
    out.extend_from_slice(b"[cut from ");
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    out.extend_from_slice(b" bytes]");
    true
}

/// The length that a message which is cut already says it had.
fn whole_length(message: &[u8]) -> Option<usize> {
    let tail = &message[message.len().saturating_sub(MARK_MAX)..];
    let number = tail.strip_suffix(b" bytes]")?;
    let at = memchr::memmem::rfind(number, b"[cut from ")?;
    std::str::from_utf8(&number[at + 10..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        append(&mut out, bytes);
        out.to_vec()
    }

    #[test]
    fn the_rules() {
        for (input, expected) in [
            (&b"plain ~ text"[..], &b"plain ~ text"[..]),
            (b"a\x1dAUID=\"root\"", b"a AUID=\"root\""),
            (b"two\x1d\x1dmarks", b"two  marks"),
            (b"line\nend\r", b"line end#015"),
            (b"two\nlines", b"two lines"),
            (b"tab\tnul\0esc\x1b[2J del\x7f", b"tab\tnul#000esc#033[2J del#177"),
            ("gr\u{fc}n \u{1f980}".as_bytes(), "gr\u{fc}n \u{1f980}".as_bytes()),
            // CSI as one C1 character, and as the lone byte that is not UTF-8.
            ("\u{9b}31m".as_bytes(), b"#302#23331m"),
            (b"\x9b31m", b"#23331m"),
            (b"half \xf0\x9f", b"half #360#237"),
            (b"\xff\xfe<13>1", b"#377#376<13>1"),
            ("\u{feff}<13>1 \u{feff}".as_bytes(), "#357#273#277<13>1 \u{feff}".as_bytes()),
        ] {
            assert_eq!(text(input), expected, "{}", input.escape_ascii());
        }
    }

    /// The table at the top, character by character.
    fn reference(input: &[u8]) -> Vec<u8> {
        let mut out = String::new();
        let octal = |out: &mut String, bytes: &[u8]| {
            bytes.iter().for_each(|byte| out.push_str(&format!("#{byte:03o}")));
        };
        let (mark, input) = input.split_at(if input.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 });
        octal(&mut out, mark);
        for chunk in input.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\x1d' | '\n' => out.push(' '),
                    '\t' => out.push('\t'),
                    _ if character.is_control() => octal(&mut out, character.to_string().as_bytes()),
                    _ => out.push(character),
                }
            }
            octal(&mut out, chunk.invalid());
        }
        out.into_bytes()
    }

    #[test]
    fn odd_bytes_at_every_offset_of_texts_of_every_length() {
        for length in (1..70).chain(120..140).chain([191, 192, 193, 255, 256, 257]) {
            for at in 0..length {
                for odd in [
                    &b"\x1d"[..],
                    b"\n",
                    b"\t",
                    b"\0",
                    b"\x1b",
                    b"\x7f",
                    b"\x80",
                    "\u{fc}".as_bytes(),
                    b"\xf0\x9f",
                ] {
                    let mut input = vec![b'x'; length];
                    for (place, byte) in input[at..].iter_mut().zip(odd) {
                        *place = *byte;
                    }
                    assert_eq!(text(&input), reference(&input), "{}", input.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn parameters_are_quoted() {
        let mut out = BytesMut::new();
        append_param(&mut out, b"a\"b\\c]d\x1b");
        assert_eq!(&out[..], b"a\\\"b\\\\c\\]d#033");
    }

    #[test]
    fn a_cut_message_says_so_and_stays_whole_characters() {
        let texts = ["x".repeat(600), "\u{fc}".repeat(400), "\u{1f980}".repeat(200), "#033".repeat(200)];
        // At every place of a character and of an escape.
        for (message, limit) in texts.iter().flat_map(|text| (480..488).map(move |limit| (text, limit))) {
            let mut out = BytesMut::from(&b"before"[..]);
            out.extend_from_slice(message.as_bytes());
            assert!(cut(&mut out, 6, limit));
            let cut = std::str::from_utf8(&out[6..]).unwrap();
            let kept = cut.strip_suffix(&format!("[cut from {} bytes]", message.len())).unwrap();
            assert!(cut.len() <= limit && kept.len() + 41 + 3 >= limit, "{cut}");
            assert!(message.starts_with(kept) && (!kept.contains('#') || kept.len() % 4 == 0), "{cut}");
        }
        let mut twice = BytesMut::from("x".repeat(900).as_bytes());
        assert!(cut(&mut twice, 0, 700));
        let first = whole(&twice);
        assert!(cut_as(&mut twice, 0, 500, first));
        assert!(twice.ends_with(b"xx[cut from 900 bytes]"));
        let mut forged = BytesMut::from(["x".repeat(900).as_str(), "[cut from 7 bytes]"].concat().as_bytes());
        let first = whole(&forged);
        assert!(cut_as(&mut forged, 0, 500, first));
        assert!(forged.ends_with(b"xx[cut from 918 bytes]"));
        let mut short = BytesMut::from(&b"short"[..]);
        assert!(!cut(&mut short, 0, 5));
    }

    proptest! {
        #[test]
        fn any_bytes_become_clean_utf8(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let out = String::from_utf8(text(&input)).unwrap();
            prop_assert!(out.chars().all(|c| c == '\t' || !c.is_control()));
            prop_assert!(out.len() >= input.len());
        }

        #[test]
        fn as_character_by_character(parts in proptest::collection::vec(
            prop_oneof![
                "[ -~]{0,80}".prop_map(String::into_bytes),
                "[\\x1d\n\t]".prop_map(String::into_bytes),
                "\\PC{0,4}".prop_map(String::into_bytes),
                "\u{feff}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..4),
            ],
            0..8,
        )) {
            let input = parts.concat();
            prop_assert_eq!(text(&input), reference(&input));
        }

        #[test]
        fn printable_text_is_not_touched(input in "[ -~\t\u{a0}-\u{d7ff}]{0,200}") {
            prop_assert_eq!(text(input.as_bytes()), input.as_bytes());
        }
    }
}
