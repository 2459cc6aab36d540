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

/// Room left for the length before a message whose length is not known yet.
#[derive(Debug)]
pub struct Open {
    start: usize,
    digits: usize,
}

impl Framing {
    /// Begins a message of about `expected` bytes. The room for its length is right at once if
    /// `expected` has as many digits as the true length.
    pub fn open(self, out: &mut BytesMut, expected: usize) -> Open {
        let (start, mut digits) = (out.len(), 0);
        if self == Self::Octet {
            digits = decimal_digits(expected);
            out.extend_from_slice(&b"00000000000000000000"[..digits]);
            out.extend_from_slice(b" ");
        }
        Open { start, digits }
    }

    /// Ends the message that `open` began.
    pub fn close(self, out: &mut BytesMut, open: &Open) {
        match self {
            Self::Datagram => {}
            Self::Lf => out.extend_from_slice(b"\n"),
            Self::Octet => {
                let message = open.message(self);
                let length = out.len() - message;
                let digits = decimal_digits(length);
                if digits != open.digits {
                    let end = out.len();
                    out.resize(end + digits.saturating_sub(open.digits), 0);
                    out.copy_within(message..end, open.start + digits + 1);
                    out.truncate(open.start + digits + 1 + length);
                    out[open.start + digits] = b' ';
                }
                out[open.start..open.start + digits]
                    .copy_from_slice(itoa::Buffer::new().format(length).as_bytes());
            }
        }
    }
}

impl Open {
    /// Offset of the message itself.
    pub(super) fn message(&self, framing: Framing) -> usize {
        self.start + if framing == Framing::Octet { self.digits + 1 } else { 0 }
    }
}

fn decimal_digits(value: usize) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
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
