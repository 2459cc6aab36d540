//! How messages are told apart on the wire.
//!
//! Promise: the receiver finds the same messages that were written. Law: the text room has already made
//! sure that no message holds a line end, so [`Framing::Lf`] cannot be broken by what a record says.

use bytes::BytesMut;

/// A transport's way of separating messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// One message a datagram (RFC 5426 section 3.1); nothing is added.
    Datagram,
    /// A line feed behind each message (RFC 6587 section 3.4.2).
    Lf,
    /// `MSG-LEN SP` before each message (RFC 6587 section 3.4.1, RFC 5425 section 4.3.1).
    Octet,
}

/// What a length and its space take at most, in bytes.
pub(super) const LENGTH_ROOM: usize = 21;

/// A message that has begun.
#[derive(Debug)]
pub struct Open {
    /// Offset of the message's frame.
    start: usize,
    /// Bytes of length and space before the message: none, or 2 to [`LENGTH_ROOM`].
    before: usize,
    /// The length that stands there.
    expected: usize,
}

impl Framing {
    /// Begins a message of about `expected` bytes. Nothing has to be moved at its end if that is exact.
    pub fn open(self, out: &mut BytesMut, expected: usize) -> Open {
        let open = self.open_at(out.len(), expected);
        let mut room = [b' '; LENGTH_ROOM];
        let from = open.put_length(&mut room);
        out.extend_from_slice(&room[from..]);
        open
    }

    /// As [`Framing::open`], for a caller that writes what [`Open::put_length`] gives at offset `start`.
    #[inline]
    pub(super) fn open_at(self, start: usize, expected: usize) -> Open {
        let before = if self == Self::Octet { decimal_digits(expected) + 1 } else { 0 };
        Open { start, before, expected }
    }

    /// Ends the message that `open` began.
    #[inline]
    pub fn close(self, out: &mut BytesMut, open: &Open) {
        match self {
            Self::Datagram => {}
            Self::Lf => out.extend_from_slice(b"\n"),
            Self::Octet if out.len() - open.message() == open.expected => {}
            Self::Octet => correct_length(out, open),
        }
    }
}

impl Open {
    /// Offset of the message itself.
    #[inline]
    pub(super) fn message(&self) -> usize {
        self.start + self.before
    }

    /// Writes the expected length into the first [`LENGTH_ROOM`] bytes of `room`, flush right before the space that
    /// is the last of them. Returns where it starts.
    #[inline]
    pub(super) fn put_length(&self, room: &mut [u8]) -> usize {
        if self.before > 0 {
            let digits = &mut room[LENGTH_ROOM - self.before..LENGTH_ROOM - 1];
            if let ([hundreds, tens, ones], Ok(length)) = (&mut *digits, u16::try_from(self.expected)) {
                // As good as all: no loop, no wide division.
                *hundreds = digit(length / 100);
                *tens = digit(length / 10 % 10);
                *ones = digit(length % 10);
            } else {
                digits.copy_from_slice(itoa::Buffer::new().format(self.expected).as_bytes());
            }
        }
        LENGTH_ROOM - self.before
    }
}

#[inline]
fn digit(value: u16) -> u8 {
    b'0' + value.to_le_bytes()[0]
}

/// The message has become longer or shorter than was expected.
#[inline(never)]
fn correct_length(out: &mut BytesMut, open: &Open) {
    let message = open.message();
    let length = out.len() - message;
    let digits = decimal_digits(length);
    if digits + 1 != open.before {
        let end = out.len();
        out.resize(end + (digits + 1).saturating_sub(open.before), 0);
        out.copy_within(message..end, open.start + digits + 1);
        out.truncate(open.start + digits + 1 + length);
        out[open.start + digits] = b' ';
    }
    out[open.start..open.start + digits].copy_from_slice(itoa::Buffer::new().format(length).as_bytes());
}

#[inline]
fn decimal_digits(value: usize) -> usize {
    match value {
        100..1000 => 3,
        _ => value.checked_ilog10().map_or(1, |log| log as usize + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(framing: Framing, expected: usize, message: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::from(&b"earlier"[..]);
        let open = framing.open(&mut out, expected);
        out.extend_from_slice(message);
        framing.close(&mut out, &open);
        out[7..].to_vec()
    }

    #[test]
    fn the_three_kinds() {
        assert_eq!(framed(Framing::Datagram, 3, b"<1>"), b"<1>");
        assert_eq!(framed(Framing::Lf, 3, b"<1>"), b"<1>\n");
        assert_eq!(framed(Framing::Octet, 3, b"<1>"), b"3 <1>");
    }

    proptest! {
        #[test]
        fn a_wrong_guess_of_the_length_changes_nothing(expected in 0usize..20_000, length in 1usize..12_000) {
            let message = vec![b'm'; length];
            let want = [format!("{length} ").as_bytes(), &message].concat();
            prop_assert_eq!(framed(Framing::Octet, expected, &message), want);
        }
    }
}
