//! What is hard on a relay: records at the limit of their length, and every byte that some program on the way takes for
//! something else.
//!
//! *Promise:* all that auditd can hand over in a text line: control characters, bytes that are not UTF-8, several 0x1D,
//! look-alikes of `<PRI>`, of octet counts, of structured data, of escapes; hexadecimal values of several KiB.
//! *Law:* no LF and no NUL (a line ends at the one, a C string at the other), and no white space at a line's end, which
//! receivers take off. The mark is always plain.

use super::{FILLING, Random, Record, quoted, sized};
use crate::corpus::wire::FRAME_PAYLOAD;

/// What may stand anywhere in a value.
const PIECES: &[&[u8]] = &[
    // Control characters, DEL, C1 controls (as UTF-8), and TAB.
    b"\x01",
    b"\x07\x08",
    b"\x1b[31mred\x1b[0m",
    b"\r",
    b"\t",
    b"\x7f",
    b"\xc2\x85",
    b"\xc2\x9b31m",
    b"\x1d",
    b"\x1d\x1d",
    // Not UTF-8: a lone continuation, a lone start, a cut sequence, an overlong one, a surrogate, beyond the end.
    b"\x80",
    b"\xc3",
    b"\xe2\x82",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff\xfe",
    // UTF-8 of all lengths, a byte order mark, a replacement character, right-to-left.
    "\u{e9}".as_bytes(),
    "\u{20ac}".as_bytes(),
    "\u{1f600}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{fffd}".as_bytes(),
    "\u{202e}".as_bytes(),
    // What looks like the beginning of a message, of a frame, of structured data, of an escape, of a record.
    b"<13>",
    b"<182>1 2026-11-23T09:02:31.650Z h a - - - ",
    b" 120 <182>1 ",
    b"999999 <13>",
    b"][x@1 y=\"]\"]",
    b"\\\"\\]\\\\",
    b"#033#035",
    b"#012",
    b"%s%n%d",
    b"\xef\xbb\xbf",
    b" type=EOE msg=audit(0.000:0): ",
    b" node=x type=SYSCALL ",
    b" lg ",
    b"{\"a\":1}",
    b"' AND \"",
    b"$(reboot)`id`",
];

/// The records of one event, without `EOE`.
pub(super) fn event(random: &mut Random, enriched: bool) -> Vec<Record> {
    match random.below(16) {
        // Exactly as long as auditd's payload area, plain.
        0 => vec![sized(random, FRAME_PAYLOAD, enriched)],
        // As long, and odd all over.
        1 => vec![odd_user(random, FRAME_PAYLOAD - 300, enriched)],
        2 => vec![hexadecimal(random)],
        3..6 => vec![unknown(random)],
        6..12 => {
            let size = 100 + random.index(400);
            vec![odd_user(random, size, enriched)]
        }
        _ => {
            let odd = odd_text(random, 60);
            let path = [b"item=0 name=\"", odd.as_slice(), b"\" nametype=UNKNOWN"].concat();
            vec![
                Record::new("CWD", 1307, "cwd=\"/\"", ""),
                Record::new(
                    "PATH",
                    1302,
                    path,
                    [b"OUID=\"", odd_text(random, 20).as_slice(), b"\""].concat(),
                ),
                Record::new("PROCTITLE", 1327, format!("proctitle={}", quoted("a\n\0b")), ""),
            ]
        }
    }
}

/// A user record with about `len` bytes of odd text, and with odd names in what auditd adds.
fn odd_user(random: &mut Random, len: usize, enriched: bool) -> Record {
    let text = odd_text(random, len);
    let body = [b"pid=7 uid=0 auid=0 ses=1 msg='op=", text.as_slice(), b"'"].concat();
    let suffix = [b"UID=\"", odd_text(random, 12).as_slice(), b"\"\x1dAUID=\"root\""].concat();
    // The kernel's own records have no 0x1D, but programs may write one.
    Record::new("USER_CMD", 1123, body, if enriched { suffix } else { Vec::new() })
}

/// A record of a type that auditd has no name for.
fn unknown(random: &mut Random) -> Record {
    let text = odd_text(random, 40);
    Record::new("UNKNOWN[1399]", 1399, [b"x=", text.as_slice(), b"."].concat(), "")
}

/// One value of several KiB in hexadecimal digits.
fn hexadecimal(random: &mut Random) -> Record {
    let digits = 2 * (1_000 + random.index(2_500));
    let value: Vec<u8> = (0..digits).map(|_| random.pick(b"0123456789ABCDEF")).collect();
    Record::new("PROCTITLE", 1327, [b"proctitle=", value.as_slice()].concat(), "")
}

/// At least `len` bytes, odd pieces between plain ones. Begins and ends plain.
fn odd_text(random: &mut Random, len: usize) -> Vec<u8> {
    let mut text = vec![random.pick(FILLING)];
    while text.len() < len {
        text.extend_from_slice(random.pick(PIECES));
        for _ in 0..random.below(6) {
            text.push(random.pick(FILLING));
        }
    }
    text.push(random.pick(FILLING));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::ENRICHED;

    #[test]
    fn no_line_end_no_end_of_string_and_much_that_is_odd() {
        let mut random = Random(1);
        let mut odd = [false; 256];
        for _ in 0..2000 {
            for record in event(&mut random, true) {
                for byte in record.body.iter().chain(&record.suffix) {
                    odd[usize::from(*byte)] = true;
                }
                assert!(record.body.len() + record.suffix.len() < FRAME_PAYLOAD);
            }
        }
        assert!(!odd[0] && !odd[usize::from(b'\n')]);
        assert!(odd[usize::from(ENRICHED)] && odd[0xff] && odd[0x1b]);
    }
}
