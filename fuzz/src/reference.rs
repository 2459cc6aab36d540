//! The record's grammar and the text's rules once more, byte by byte and without regard to cost.
//!
//! Promise: what src/audit/record.rs and src/syslog/text.rs describe at their tops, written anew from there. Law:
//! nothing of the relay is called.

/// A record as it should be read.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Expected<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) node: Option<&'a [u8]>,
    pub(crate) kind: Option<&'a [u8]>,
    /// Milliseconds and serial.
    pub(crate) stamp: Option<(u64, u32)>,
}

/// Reads a line, or the payload of a version 1 frame.
pub(crate) fn line(text: &[u8]) -> Expected<'_> {
    let text = without_nuls(text);
    let (mut rest, mut node, mut kind) = (text, None, None);
    if let Some(after) = rest.strip_prefix(b"node=") {
        let (name, behind) = word(after);
        node = (!name.is_empty()).then_some(name);
        rest = behind;
    }
    if let Some(after) = rest.strip_prefix(b"type=") {
        let (name, behind) = word(after);
        let printable = name.iter().all(|byte| (0x21..=0x7e).contains(byte));
        kind = (printable && (1..=32).contains(&name.len())).then_some(name);
        rest = behind;
    }
    let stamp = rest.strip_prefix(b"msg=").and_then(stamp);
    Expected { text, node, kind, stamp }
}

pub(crate) fn without_nuls(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    &text[..end]
}

/// What stands before the first space, and what stands behind it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b' ') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

/// Reads `audit(SEC.MSEC:SERIAL)`.
pub(crate) fn stamp(text: &[u8]) -> Option<(u64, u32)> {
    let text = text.strip_prefix(b"audit(")?;
    let (seconds, text) = number(text, b'.')?;
    let (ms, text) = number(text, b':')?;
    let (serial, _) = number(text, b')')?;
    let whole = seconds.checked_mul(1000)?.checked_add(ms)?;
    // 9999-12-31T23:59:59.999Z.
    (ms <= 999 && whole <= 253_402_300_799_999).then_some((whole, u32::try_from(serial).ok()?))
}

/// 1 to 18 digits before `end`.
fn number(text: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let at = text.iter().take(19).position(|byte| *byte == end)?;
    let digits = std::str::from_utf8(&text[..at]).ok()?;
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().ok()).flatten().map(|value| (value, &text[at + 1..]))
}

/// The keys of a record: `Ok` stood in quotes, `Err` bare.
pub(crate) fn keys(text: &[u8]) -> Vec<Result<&[u8], &[u8]>> {
    let body = text.iter().rposition(|byte| *byte == 0x1d).map_or(text, |at| &text[..at]);
    let mut found = Vec::new();
    let mut at = 0;
    while at + 5 <= body.len() {
        if &body[at..at + 5] != b" key=" {
            at += 1;
            continue;
        }
        at += 5;
        let value = &body[at..];
        match value.strip_prefix(b"\"") {
            Some(quoted) => {
                found.extend(quoted.iter().position(|byte| *byte == b'"').map(|end| Ok(&quoted[..end])));
            }
            None => {
                let value = word(value).0;
                if !value.is_empty() && value != b"(null)" {
                    found.push(Err(value));
                }
            }
        }
    }
    found
}

/// The values that the element `audit` shows for `text`'s keys, before they are made printable.
pub(crate) fn shown_keys(text: &[u8]) -> Vec<Vec<u8>> {
    let mut shown = Vec::new();
    for key in keys(text) {
        match key {
            Ok(plain) => shown.push(plain.to_vec()),
            Err(bare) => {
                let decoded = hex(bare);
                shown.extend(decoded.as_deref().unwrap_or(bare).split(|byte| *byte == 1).map(<[u8]>::to_vec));
            }
        }
    }
    shown
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    if !digits || text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// What becomes of a record's text: as [`shown`], and a byte order mark in front is made visible too.
pub(crate) fn shown_text(text: &[u8]) -> String {
    match text.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => "#357#273#277".to_owned() + &shown(rest),
        None => shown(text),
    }
}

/// What becomes of a record's bytes in a message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let octal = |out: &mut String, bytes: &[u8]| {
        for byte in bytes {
            out.push('#');
            out.extend([byte >> 6, byte >> 3 & 7, byte & 7].map(|digit| char::from(b'0' + digit)));
        }
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match u32::from(character) {
                0x1d | 0x0a => out.push(' '),
                0x09 | 0x20..=0x7e | 0xa0.. => out.push(character),
                _ => octal(&mut out, character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        octal(&mut out, chunk.invalid());
    }
    out
}
