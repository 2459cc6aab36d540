//! Numbers and names at the front of a record, read eight bytes at a time.
//!
//! Promise: [`Reader::read`] and [`graphic_prefix`] give for any bytes what reading them one by one gives; the tests
//! hold them against that. Law: what does not have the usual shape is read one by one, never guessed.
//!
//! auditd prints ten digits of seconds from 2001 to 2286 and three of milliseconds, so nearly every stamp has
//! everything but the serial's end in a fixed place:
//!
//! ```text
//! offset  0     6          16 17  20 21
//!         audit(1795424551 .  650 :  6839): BODY
//! words   0-------8-------16------24
//!                                 21------29   up to eight digits of the serial
//!                                         29-31  the ninth and tenth, on machines that have been up for long
//! ```

use super::Stamp;

/// How much is looked at in one go: seconds, milliseconds, ten digits of the serial and its end.
const FRONT: usize = 32;

/// A word of one byte eight times.
const fn all(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Reads stamps, one after the other. The records of an event share theirs, so the last one is kept.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Text of the last stamp of the usual shape, with zeros behind it.
    last: [u64; 4],
    /// The bits of the last word that are its text's; nothing is kept as long as they are none.
    mask: u64,
    stamp: Stamp,
}

impl Reader {
    /// Reads `audit(SEC.MSEC:SERIAL)`. MSEC is a count of milliseconds, not a decimal fraction: auditd
    /// prints three digits, senders on the network may print fewer.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8]) -> Option<Stamp> {
        match text.first_chunk::<FRONT>() {
            Some(front) if self.repeats(front) => Some(self.stamp),
            Some(front) => self.read_anew(front, text),
            None => self.read_short(text),
        }
    }

    /// An end-of-event record has nothing behind its stamp.
    #[inline(never)]
    fn read_short(&mut self, text: &[u8]) -> Option<Stamp> {
        let mut front = [0; FRONT];
        front[..text.len()].copy_from_slice(text);
        if self.repeats(&front) { Some(self.stamp) } else { self.read_anew(&front, text) }
    }

    #[inline]
    fn repeats(&self, front: &[u8; FRONT]) -> bool {
        let differs = |at: usize| word(front, 8 * at) ^ self.last[at];
        // Milliseconds and serial differ first.
        self.mask != 0
            && (differs(2) | differs(1) | differs(0)) == 0
            && (word(front, 24) & self.mask) == self.last[3]
    }

    #[inline(never)]
    fn read_anew(&mut self, front: &[u8; FRONT], text: &[u8]) -> Option<Stamp> {
        let Some((stamp, end)) = parse_front(front) else {
            return parse_any(text);
        };
        self.stamp = stamp;
        // It ends at offset 23 to 32. One that ends before the last word is not kept: only the first serials are so short.
        self.mask = u64::MAX.checked_shr(8 * (32 - end)).unwrap_or(0);
        self.last = [word(front, 0), word(front, 8), word(front, 16), word(front, 24) & self.mask];
        Some(stamp)
    }
}

/// Reads the usual shape, and gives the offset behind it; `None` says only that `front` does not have it.
#[inline]
fn parse_front(front: &[u8; FRONT]) -> Option<(Stamp, u32)> {
    let open = word(front, 0);
    let seconds = word(front, 8);
    let middle = word(front, 16);
    if open << 16 != word(b"\0\0audit(", 0) || middle & 0xff_0000_00ff != 0x3a_0000_002e {
        return None;
    }
    // Two digits of seconds, `000` and three of milliseconds: `SS000mmm`.
    let outer = digits((open >> 48) | 0x30_3030_0000 | (middle & 0xffff_ff00) << 32);
    let seconds = digits(seconds);
    if (not_digits(outer) | not_digits(seconds)) != 0 {
        return None;
    }
    let outer = fours(outer);
    let ms = (outer & 0xffff) * 1_000_000_000 + value(seconds) * 1000 + (outer >> 32);
    let serial = digits(word(front, 21));
    // Zero to eight. What lies above the first byte that is no digit says nothing.
    let count = not_digits(serial).trailing_zeros() / 8;
    if count == 0 {
        return None;
    }
    let (serial, count) = match (value(serial << (64 - 8 * count)), front[21 + count as usize]) {
        (serial, b')') => (serial, count),
        (serial, _) if count == 8 => longer(serial, [front[29], front[30], front[31]])?,
        _ => return None,
    };
    Some((Stamp { ms, serial: u32::try_from(serial).ok()? }, 22 + count))
}

/// `serial` are the first eight digits; with the one or two in `rest`, and how many that makes.
#[inline]
fn longer(serial: u64, rest: [u8; 3]) -> Option<(u64, u32)> {
    let [ninth, tenth] = [rest[0], rest[1]].map(|byte| u64::from(byte.wrapping_sub(b'0')));
    match rest {
        [_, b')', _] if ninth <= 9 => Some((serial * 10 + ninth, 9)),
        [_, _, b')'] if ninth <= 9 && tenth <= 9 => Some((serial * 100 + ninth * 10 + tenth, 10)),
        _ => None,
    }
}

#[inline]
fn word<const N: usize>(text: &[u8; N], at: usize) -> u64 {
    text[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Turns ASCII digits into their values, and every other byte into ten or more.
#[inline]
fn digits(ascii: u64) -> u64 {
    ascii ^ all(b'0')
}

/// The top bit of each byte above nine, up to the first of them; bits above that one may be wrong.
#[inline]
fn not_digits(digits: u64) -> u64 {
    (digits.wrapping_add(all(0x76)) | digits) & all(0x80)
}

/// The values of the first four and the last four of eight digits, in the two halves of the word.
#[inline]
fn fours(digits: u64) -> u64 {
    let twos = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff
}

/// The value of eight digits, the first of them in the lowest byte.
#[inline]
fn value(digits: u64) -> u64 {
    let fours = fours(digits);
    (fours & 0xffff) * 10_000 + (fours >> 32)
}

/// Reads a stamp of any shape, byte by byte.
#[inline(never)]
fn parse_any(text: &[u8]) -> Option<Stamp> {
    let rest = text.strip_prefix(b"audit(")?;
    let (sec, rest) = parse_number(rest, b'.')?;
    let (msec, rest) = parse_number(rest, b':')?;
    let (serial, _) = parse_number(rest, b')')?;
    if msec > 999 {
        return None;
    }
    let ms = sec.checked_mul(1000)?.checked_add(msec)?;
    if ms > Stamp::MAX_MS {
        return None;
    }
    Some(Stamp { ms, serial: u32::try_from(serial).ok()? })
}

/// Reads decimal digits up to `end` and returns the value and what follows `end`. At most 18 digits, so
/// that the value cannot overflow.
fn parse_number(text: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in text.iter().enumerate().take(19) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == end && at > 0 {
            return Some((value, &text[at + 1..]));
        } else {
            return None;
        }
    }
    None
}

/// Length of the prefix of `text` that is printable ASCII other than the space.
#[inline]
pub(super) fn graphic_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(bytes) = text[at..].first_chunk() {
        let odd = not_graphic(u64::from_le_bytes(*bytes));
        if odd != 0 {
            return at + (odd.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &text[at..];
    at + rest.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(rest.len())
}

/// As [`graphic_prefix`], for 16 bytes and without a loop.
#[inline]
pub(super) fn graphic_prefix_of(text: &[u8; 16]) -> usize {
    let first = not_graphic(word(text, 0));
    let count = if first != 0 {
        first.trailing_zeros() / 8
    } else {
        8 + not_graphic(word(text, 8)).trailing_zeros() / 8
    };
    count as usize
}

/// The top bit of each byte below 0x21, of 0x7f, and of those from 0x80 on. Nothing is carried.
#[inline]
fn not_graphic(word: u64) -> u64 {
    let low = word & all(0x7f);
    (!(low + all(0x5f)) | (low + all(1)) | word) & all(0x80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8]) -> Option<Stamp> {
        Reader::default().read(text)
    }

    /// As [`parse`], byte by byte alone.
    fn reference(text: &str) -> Option<Stamp> {
        parse_any(text.as_bytes())
    }

    #[test]
    fn the_usual_shape_and_its_neighbours() {
        for (text, expected) in [
            ("audit(1795424551.650:6839): a0=1 a1=2 a2=3", Some((1_795_424_551_650, 6839))),
            ("audit(1795424551.650:6839)", Some((1_795_424_551_650, 6839))),
            ("audit(0000000000.000:0): x x x x x x x x", Some((0, 0))),
            ("audit(9999999999.999:99999999): x x x x x", Some((9_999_999_999_999, 99_999_999))),
            ("audit(1795424551.650:100000007): x x x x", Some((1_795_424_551_650, 100_000_007))),
            ("audit(1795424551.650:10000000:): x x x x", None),
            ("audit(1795424551.650:100000000/): x x x x", None),
            ("audit(1795424551.650:10000000/0): x x x x", None),
            ("audit(9999999999.999:4294967295): x x x x", Some((9_999_999_999_999, u32::MAX))),
            ("audit(9999999999.999:4294967296): x x x x", None),
            ("audit(1795424551.650:): x x x x x x x x x", None),
            ("audit(1795424551.650:6839; x x x x x x x x", None),
            ("audit(1795424551.650;6839): x x x x x x x", None),
            ("audit(1795424551,650:6839): x x x x x x x", None),
            ("audit(179542455a.650:6839): x x x x x x x", None),
            ("audit(1795424551.6/0:6839): x x x x x x x", None),
            ("audit(1795424551.6:0:6839): x x x x x x x", None),
            ("audit(1795424551.650:68\u{fc}39): x x x x x", None),
            ("Audit(1795424551.650:6839): x x x x x x x", None),
            ("audit(12345678901.650:6839): x x x x x x x", Some((12_345_678_901_650, 6839))),
            ("audit(179542455.650:6839): x x x x x x x x", Some((179_542_455_650, 6839))),
        ] {
            let expected = expected.map(|(ms, serial)| Stamp { ms, serial });
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
            assert_eq!(reference(text), expected, "{text}");
        }
        // The usual shape is not left to the slow way.
        assert!(parse_front(b"audit(1795424551.650:12345678): ").is_some());
        assert!(parse_front(b"audit(1795424551.650:123456789):").is_some());
        assert!(parse_front(b"audit(1795424551.650:4294967295)").is_some());
        assert!(parse_front(b"audit(1795424551.650:1): cwd=\"/\"").is_some());
    }

    #[test]
    fn every_byte_in_every_place() {
        let good = b"audit(1795424551.650:6839): a0=1 a1=2";
        for at in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut text = *good;
                text[at] = byte;
                assert_eq!(parse(&text), parse_any(&text), "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn a_stamp_that_nearly_repeats_the_last_one() {
        for last in [
            "audit(1795424551.650:6839): a0=1 a1=2",
            "audit(1795424551.650:68390123): x",
            "audit(1795424551.650:683901234): x",
            "audit(1795424551.650:4294967290): x",
            "audit(1795424551.650:6): a0=1 a1=2",
        ] {
            for at in 0..last.len() {
                for byte in 0..=u8::MAX {
                    let mut reader = Reader::default();
                    assert!(reader.read(last.as_bytes()).is_some());
                    let mut text = last.as_bytes().to_vec();
                    text[at] = byte;
                    assert_eq!(reader.read(&text), parse_any(&text), "{}", text.escape_ascii());
                    assert_eq!(reader.read(&text[..at]), parse_any(&text[..at]), "{}", text.escape_ascii());
                    assert_eq!(reader.read(last.as_bytes()), reference(last));
                }
            }
        }
    }

    #[test]
    fn every_byte_ends_a_name_or_does_not() {
        for at in 0..20 {
            for byte in 0..=u8::MAX {
                let mut text = *b"SERVICE_START_SYSCALL";
                text[at] = byte;
                let expected = text.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(text.len());
                assert_eq!(graphic_prefix(&text), expected, "{}", text.escape_ascii());
                let front = text.first_chunk().unwrap();
                assert_eq!(graphic_prefix_of(front), expected.min(16), "{}", text.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn one_after_the_other(texts in proptest::collection::vec(
            "audit\\(179542455[01]\\.65[01]:[1-3]{0,3}(0000|0000000)?\\)?(: x{0,8})?", 1..40,
        )) {
            let mut reader = Reader::default();
            for text in texts {
                prop_assert_eq!(reader.read(text.as_bytes()), reference(&text), "{}", text);
            }
        }

        #[test]
        fn as_byte_by_byte(text in prop_oneof![
            "audit\\([0-9]{9,11}\\.[0-9]{2,4}:[0-9]{0,11}\\)[ -~]{0,20}",
            "audit\\([0-9.:)/;]{0,40}",
            "[ -~]{0,40}",
        ]) {
            prop_assert_eq!(parse(text.as_bytes()), reference(&text));
        }

        #[test]
        fn as_byte_by_byte_with_any_bytes(tail in proptest::collection::vec(any::<u8>(), 0..40), keep in 0usize..30) {
            let text = [&b"audit(1795424551.650:6839): x"[..keep.min(29)], &tail].concat();
            prop_assert_eq!(parse(&text), parse_any(&text));
            let expected = tail.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(tail.len());
            prop_assert_eq!(graphic_prefix(&tail), expected);
        }
    }
}
