//! Whether a text is a faithful rendering of a record with odd bytes.
//!
//! *Promise:* plain bytes must be there as they are, each odd one in some form that syslog programs are known to give it:
//! left alone, a space, `#ooo` (audit-relay, rsyslog), `\xHH` (syslog-ng), `?`, or U+FFFD for it or for the broken
//! sequence it belongs to.
//! *Law:* one pass, no allocation. What is cut, missing, added or swapped is told as far as plain bytes are; that one odd
//! byte became another form of an odd byte is not.

/// U+FFFD.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// What one sign in place of an odd thing stands for. A program keeps to one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A whole character or broken sequence.
    Sequence,
    /// A byte.
    Byte,
}

/// If `got` begins with a rendering of `want`: what follows it.
pub(super) fn strip<'a>(got: &'a [u8], want: &[u8]) -> Option<&'a [u8]> {
    strip_by(got, want, Unit::Sequence).or_else(|| strip_by(got, want, Unit::Byte))
}

fn strip_by<'a>(mut got: &'a [u8], want: &[u8], unit: Unit) -> Option<&'a [u8]> {
    for chunk in want.utf8_chunks() {
        let mut valid = chunk.valid().as_bytes();
        while let Some((&byte, mut rest)) = valid.split_first() {
            if byte == 0xC2 && rest.first().is_some_and(|next| *next < 0xA0) {
                // A C1 control character.
                let (both, behind) = valid.split_at(2);
                got = strip_odd(got, both, unit)?;
                rest = behind;
            } else if is_plain(byte) {
                got = got.strip_prefix(&[byte])?;
            } else {
                got = strip_odd(got, &[byte], unit)?;
            }
            valid = rest;
        }
        got = strip_odd(got, chunk.invalid(), unit)?;
    }
    Some(got)
}

/// Takes off a rendering of `odd`, one control character or broken sequence (or nothing).
fn strip_odd<'a>(mut got: &'a [u8], odd: &[u8], unit: Unit) -> Option<&'a [u8]> {
    if unit == Unit::Sequence
        && !odd.is_empty()
        && let Some(rest) = strip_sign(got)
    {
        return Some(rest);
    }
    for &byte in odd {
        got = strip_form(got, byte).or_else(|| strip_sign(got))?;
    }
    Some(got)
}

/// Takes off a sign that says nothing about what it replaced.
fn strip_sign(got: &[u8]) -> Option<&[u8]> {
    match got {
        [b' ' | b'?', rest @ ..] => Some(rest),
        _ => got.strip_prefix(REPLACEMENT),
    }
}

/// Takes off one of the forms in which a single byte is told.
fn strip_form(got: &[u8], byte: u8) -> Option<&[u8]> {
    match got {
        [first, rest @ ..] if *first == byte => Some(rest),
        [b'#', a, b, c, rest @ ..] => {
            let octal = [b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)];
            ([*a, *b, *c] == octal).then_some(rest)
        }
        [b'\\', b'x', high, low, rest @ ..] => {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let value = digit(*high)? << 4 | digit(*low)?;
            (value == u32::from(byte)).then_some(rest)
        }
        _ => None,
    }
}

/// Bytes that every program leaves alone: printable ASCII, and all of UTF-8 but C1 controls. rsyslog escapes TAB.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7E | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(got: &[u8], want: &[u8]) -> bool {
        strip(got, want) == Some(b"")
    }

    #[test]
    fn known_renderings_are_faithful() {
        let want = b"a\x1db\x01c\xffd\xe2\x82e\xc2\x85f\xc3\xa9\t";
        for got in [
            &want[..],
            b"a b#001c#377d#342#202e#302#205f\xc3\xa9\t",
            b"a\\x1db\\x01c\\xffd\\xe2\\x82e\\xc2\\x85f\xc3\xa9\t",
            b"a?b?c\xef\xbf\xbdd\xef\xbf\xbde\xef\xbf\xbdf\xc3\xa9\t",
            b"a b c\xef\xbf\xbdd\xef\xbf\xbd\xef\xbf\xbde\xc2\x85f\xc3\xa9\t",
            b"a#035b#001c?d??e??f\xc3\xa9#011",
        ] {
            assert!(same(got, want), "{}", got.escape_ascii());
        }
    }

    #[test]
    fn other_bytes_are_not() {
        let want = b"a\x1db\x01c\xffd\xc3\xa9";
        for got in [
            &b"a b#001c#377d\xc3"[..],
            b"a b#002c#377d\xc3\xa9",
            b"ab#001c#377d\xc3\xa9",
            b"a  b#001c#377d\xc3\xa9",
            b"a b#001c#37",
            b"a b#001c#377D\xc3\xa9",
            b"a b#001c#377d\xc3\xa8",
            b"a b#001c#377d?",
            b"a b\\x02c#377d\xc3\xa9",
            b"",
        ] {
            assert!(!same(got, want), "{}", got.escape_ascii());
        }
        assert_eq!(strip(b"abc def", b"abc"), Some(&b" def"[..]));
    }

    proptest! {
        #[test]
        fn anything_is_a_rendering_of_itself(want in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(same(&want, &want));
        }

        #[test]
        fn lossy_and_octal_forms_are_renderings(want in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(same(String::from_utf8_lossy(&want).as_bytes(), &want));
            let mut octal = Vec::new();
            for chunk in want.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if c.is_control() && c != '\t' {
                        octal.extend(c.to_string().bytes().flat_map(|b| format!("#{b:03o}").into_bytes()));
                    } else {
                        octal.extend(c.to_string().bytes());
                    }
                }
                octal.extend(chunk.invalid().iter().flat_map(|b| format!("#{b:03o}").into_bytes()));
            }
            prop_assert!(same(&octal, &want));
        }

        #[test]
        fn a_cut_is_never_a_rendering(want in prop::collection::vec(any::<u8>(), 1..60), at in any::<prop::sample::Index>()) {
            let cut = &want[..at.index(want.len())];
            prop_assert!(!same(cut, &want));
        }
    }
}
