//! The mark that a record carries: which stream, which record, when it was due, how much later it was written.
//!
//! *Promise:* ` lg=CCC.SSSSSSSSSS.DDDDDDDDDDDDDDDD.LLLLLLLLLL`, hexadecimal digits of fixed width: number of the stream
//! (connection), sequence number in it, nanoseconds since 1970, nanoseconds. An ordinary `name=value` field, so that no
//! parser of audit records stumbles over it.
//! *Law:* exact or not at all. What is read here would be written here again to the byte.
//!
//! Digits are made and read eight at a time in one 64-bit word: both ends do it for every record, and a loop over
//! digits would be a good part of all they do.

/// What a mark begins with.
pub(crate) const NAME: &[u8] = b" lg=";
/// Length of a mark.
pub(crate) const LEN: usize = LATE + LATE_DIGITS;
/// A mark as it stands in a lap before it is sent.
pub(crate) const BLANK: &[u8; LEN] = b" lg=000.0000000000.0000000000000000.0000000000";

/// Streams that a mark can tell apart.
pub(crate) const STREAMS: u16 = 1 << (4 * STREAM_DIGITS);

const STREAM_DIGITS: usize = 3;
const SEQUENCE_DIGITS: usize = 10;
const DUE_DIGITS: usize = 16;
const LATE_DIGITS: usize = 10;
const STREAM: usize = NAME.len();
const SEQUENCE: usize = STREAM + STREAM_DIGITS + 1;
const DUE: usize = SEQUENCE + SEQUENCE_DIGITS + 1;
const LATE: usize = DUE + DUE_DIGITS + 1;

/// Which record: the number of its stream and its sequence number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    /// The stream, below [`STREAMS`].
    pub(crate) stream: u16,
    /// Records of the stream that came before it and must arrive.
    pub(crate) sequence: u64,
}

/// The digits of a stream's number, as [`write()`] wants them.
pub(crate) fn stream_digits(stream: u16) -> [u8; STREAM_DIGITS] {
    let [.., a, b, c] = hex8(u32::from(stream.min(STREAMS - 1)));
    [a, b, c]
}

/// Writes a mark's numbers; the rest of `mark` stands there already. What does not fit is written as the largest
/// number that does.
pub(crate) fn write(
    mark: &mut [u8; LEN],
    stream: [u8; STREAM_DIGITS],
    sequence: u64,
    due_ns: u64,
    late_ns: u64,
) {
    mark[STREAM..STREAM + STREAM_DIGITS].copy_from_slice(&stream);
    mark[SEQUENCE..DUE - 1].copy_from_slice(&hex10(sequence));
    let (high, low) = halves(due_ns);
    mark[DUE..DUE + 8].copy_from_slice(&hex8(high));
    mark[DUE + 8..LATE - 1].copy_from_slice(&hex8(low));
    mark[LATE..].copy_from_slice(&hex10(late_ns));
}

/// The number in the mark at the start of `bytes`, if it is legible.
pub(crate) fn read_number(bytes: &[u8]) -> Option<Number> {
    let digits = bytes.get(STREAM..DUE)?;
    let dots = digits[STREAM_DIGITS] == b'.' && digits[DUE - 1 - STREAM] == b'.';
    // Eight digits that end where the stream's three do; the name's letters before them do not count.
    let stream = read_hex8(&[b'0', b'0', b'0', b'0', b'0', digits[0], digits[1], digits[2]])?;
    let sequence = read_hex10(&digits[SEQUENCE - STREAM..])?;
    dots.then_some(Number { stream: u16::try_from(stream).ok()?, sequence })
}

/// Due time and lateness in the mark at the start of `bytes`, if they are legible.
pub(crate) fn read_times(bytes: &[u8]) -> Option<(u64, u64)> {
    let digits = bytes.get(DUE..LEN)?;
    let (high, rest) = digits.split_first_chunk()?;
    let (low, rest) = rest.split_first_chunk()?;
    let due = u64::from(read_hex8(high)?) << 32 | u64::from(read_hex8(low)?);
    Some((due, read_hex10(rest.strip_prefix(b".")?)?))
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// One bit or nibble in each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight digits.
fn hex8(value: u32) -> [u8; 8] {
    let spread = u64::from(value);
    let spread = (spread << 16 | spread) & 0x0000_FFFF_0000_FFFF;
    let spread = (spread << 8 | spread) & 0x00FF_00FF_00FF_00FF;
    let spread = (spread << 4 | spread) & (0x0F * ONES);
    // Nibbles from ten on carry into bit 4 when six is added: those become letters.
    let letters = ((spread + 6 * ONES) >> 4) & ONES;
    let letter_gap = u64::from(b'a' - b'0' - 10);
    (spread + u64::from(b'0') * ONES + letters * letter_gap).to_be_bytes()
}

/// Ten digits; a value that does not fit is written as the largest that does.
fn hex10(value: u64) -> [u8; SEQUENCE_DIGITS] {
    let (high, low) = halves(value.min((1 << 40) - 1));
    let mut digits = [0; SEQUENCE_DIGITS];
    let [.., a, b] = hex8(high);
    digits[..2].copy_from_slice(&[a, b]);
    digits[2..].copy_from_slice(&hex8(low));
    digits
}

/// The value of eight digits; `None` if [`hex8`] would not have written them so.
fn read_hex8(digits: &[u8; 8]) -> Option<u32> {
    let word = u64::from_be_bytes(*digits);
    // Letters have bit 6 and count from one; what is neither letter nor digit gives nonsense here and fails below.
    let nibbles = ((word & (0x0F * ONES)) + 9 * (word >> 6 & ONES)) & (0x0F * ONES);
    let packed = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    let packed = (packed | packed >> 8) & 0x0000_FFFF_0000_FFFF;
    let (_, value) = halves(packed | packed >> 16);
    (hex8(value) == *digits).then_some(value)
}

/// The value of exactly ten digits, at the start of `bytes`.
fn read_hex10(bytes: &[u8]) -> Option<u64> {
    let digits: &[u8; SEQUENCE_DIGITS] = bytes.first_chunk()?;
    let (first, _) = digits.split_first_chunk()?;
    let (_, last) = digits.split_last_chunk()?;
    Some(u64::from(read_hex8(first)? >> 24) << 32 | u64::from(read_hex8(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(stream: u16, sequence: u64, due_ns: u64, late_ns: u64) -> [u8; LEN] {
        let mut mark = *BLANK;
        write(&mut mark, stream_digits(stream), sequence, due_ns, late_ns);
        mark
    }

    #[test]
    fn numbers_are_written_to_their_width() {
        let text = b" lg=a07.000000beef.18a7fd5c0d9c6e00.ffffffffff";
        assert_eq!(&mark(0xA07, 0xBEEF, 0x18A7_FD5C_0D9C_6E00, u64::MAX), text);
        assert_eq!(&mark(0, 0, 0, 0), BLANK);
        assert!(mark(u16::MAX, 0, 0, 0).starts_with(b" lg=fff."));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            stream in 0..STREAMS, sequence in 0u64..1 << 40, due in any::<u64>(), late in 0u64..1 << 40,
        ) {
            let mark = mark(stream, sequence, due, late);
            let plain = format!(" lg={stream:03x}.{sequence:010x}.{due:016x}.{late:010x}");
            prop_assert_eq!(mark.as_slice(), plain.as_bytes());
            prop_assert_eq!(read_number(&mark), Some(Number { stream, sequence }));
            prop_assert_eq!(read_times(&mark), Some((due, late)));
        }

        #[test]
        fn no_other_byte_is_taken_for_a_digit(at in NAME.len()..LEN, byte in any::<u8>()) {
            let mut mark = mark(0x123, 0x45_6789_ABCD, 0xEF01_2345_6789_ABCD, 0x12_3456_789A);
            let dot = mark[at] == b'.';
            mark[at] = byte;
            let fits = if dot { byte == b'.' } else { matches!(byte, b'0'..=b'9' | b'a'..=b'f') };
            let read = read_number(&mark).is_some() && read_times(&mark).is_some();
            prop_assert_eq!(read, fits);
        }
    }

    #[test]
    fn a_cut_mark_is_not_read() {
        let mark = mark(1, 2, 3, 4);
        for len in 0..LEN {
            assert_eq!(read_times(&mark[..len]), None);
            assert_eq!(read_number(&mark[..len]).is_some(), len >= DUE);
        }
    }
}
