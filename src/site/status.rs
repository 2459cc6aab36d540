//! The kernel's audit status: the question and its answer, as bytes. Pure.
//!
//! Promise: `answer` tells a status from a refusal, and both from what is meant for somebody else. Law: layouts are those of
//! linux/netlink.h and linux/audit.h; fields that older kernels do not have are `None`.

/// Netlink's header: length, kind, flags, number, port.
const HEADER: usize = 16;
/// This end asks.
const REQUEST: u16 = 1;
/// An errno, or 0 for "well".
const ERROR: u16 = 2;
/// Asks for the status; the answer is of the same kind.
pub(super) const GET: u16 = 1000;

/// `auditctl -s`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked.
    pub enabled: u32,
    /// 0 silent, 1 printk, 2 panic.
    pub failure: u32,
    /// Who gets the records; 0: nobody.
    pub pid: u32,
    /// Records a second; 0: no limit.
    pub rate_limit: u32,
    /// Records that may wait for auditd.
    pub backlog_limit: u32,
    /// Records lost since the start or the last reset.
    pub lost: u32,
    /// Records that wait.
    pub backlog: u32,
    /// How long a process waits for room, in ticks.
    pub backlog_wait_time: Option<u32>,
    /// How long all have waited, in ticks.
    pub waited: Option<u32>,
}

/// What a message of the kernel says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// The status.
    Status(Status),
    /// An errno.
    Refused(i32),
    /// An acknowledgement, or nothing that was asked for.
    Other,
}

/// A message to the kernel. `None`: `payload` is longer than a length can say.
pub(super) fn question(kind: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(HEADER + payload.len()).ok()?;
    let mut message = Vec::with_capacity(HEADER + payload.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(payload);
    Some(message)
}

/// What the kernel says in `message`.
pub(super) fn answer(message: &[u8]) -> Answer {
    let kind = message.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        Some(GET) => status(message).map_or(Answer::Other, Answer::Status),
        // A negative errno; what is positive is none.
        Some(ERROR) => match word(message, 0).map(u32::cast_signed) {
            Some(error @ i32::MIN..0) => Answer::Refused(error.saturating_neg()),
            _ => Answer::Other,
        },
        _ => Answer::Other,
    }
}

/// `struct audit_status`; before Linux 3.14 it ended behind the eighth word.
fn status(message: &[u8]) -> Option<Status> {
    let word = |at| word(message, at);
    Some(Status {
        enabled: word(1)?,
        failure: word(2)?,
        pid: word(3)?,
        rate_limit: word(4)?,
        backlog_limit: word(5)?,
        lost: word(6)?,
        backlog: word(7)?,
        backlog_wait_time: word(9),
        waited: word(10),
    })
}

/// A field behind the header.
fn word(message: &[u8], at: usize) -> Option<u32> {
    let at = HEADER + 4 * at;
    message.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, words: &[u32]) -> Vec<u8> {
        let mut bytes = question(kind, &[]).unwrap();
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn the_kernels_answer() {
        let full = message(GET, &[0, 1, 2, 4242, 5, 8192, 7, 3, 0x7f, 15000, 12]);
        let status = Status {
            enabled: 1,
            failure: 2,
            pid: 4242,
            rate_limit: 5,
            backlog_limit: 8192,
            lost: 7,
            backlog: 3,
            backlog_wait_time: Some(15000),
            waited: Some(12),
        };
        assert_eq!(answer(&full), Answer::Status(status));
        // Kernels before 3.14 say less.
        let old = Status { backlog_wait_time: None, waited: None, ..status };
        assert_eq!(answer(&full[..HEADER + 32]), Answer::Status(old));
        for (bytes, expected) in [
            (message(ERROR, &[(-1_i32).cast_unsigned()]), Answer::Refused(1)),
            (message(ERROR, &[i32::MIN.cast_unsigned()]), Answer::Refused(i32::MAX)),
            (message(ERROR, &[0]), Answer::Other),
            (message(ERROR, &[1]), Answer::Other),
            (message(ERROR, &[]), Answer::Other),
            (message(GET, &[0, 1]), Answer::Other),
            (message(1300, &[0, 1, 2, 4242, 0, 8192, 7, 3]), Answer::Other),
            (Vec::new(), Answer::Other),
        ] {
            assert_eq!(answer(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_question_says_how_long_it_is() {
        let asked = question(1005, b"abc").unwrap();
        assert_eq!((asked.len(), &asked[..4], &asked[16..]), (19, &19_u32.to_ne_bytes()[..], &b"abc"[..]));
    }
}
