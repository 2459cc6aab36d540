//! RELP, the Reliable Event Logging Protocol, as librelp speaks it (doc/relp.md, version 0): frames, offers,
//! and the window of messages that wait for their answer. Pure.
//!
//! ```text
//! frame      = TXNR SP COMMAND SP DATALEN [SP DATA] LF      TXNR 1..=999999999, then 1 again; 0 is a hint
//! we say     = open, syslog, close                          the receiver says = rsp, serverclose
//! rsp        = "200 OK" or "500 reason", with the TXNR of what it answers
//! ```
//!
//! Promise: a message is settled exactly once, when the receiver has answered for it and for all before it. Law:
//! what the peer says is bounded in size and never trusted; anything that is not a frame ends the connection.

use core::fmt;
use std::collections::VecDeque;

use bytes::{Buf as _, BytesMut};

/// The largest transaction number.
const LAST_TXNR: u32 = 999_999_999;

/// The longest frame that a receiver may send. Answers have some 20 bytes; the offers some hundred.
const LONGEST_FRAME: usize = 16 * 1024;

/// The longest command that is read.
const LONGEST_COMMAND: usize = 32;

/// What is wrong with what the receiver says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelpError {
    /// Not a frame, or a longer one than any that a receiver has reason to send. Caused by a peer that does not
    /// speak RELP, or means harm.
    NoFrame,
    /// A command that no receiver sends.
    UnknownCommand,
    /// An answer to what was never sent, or was answered before. Caused by a faulty receiver.
    UnknownTransaction,
    /// An answer without a code.
    NoCode,
}

impl fmt::Display for RelpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFrame => "what the receiver says is not RELP (is it a RELP port?)",
            Self::UnknownCommand => "the receiver says something that RELP does not know",
            Self::UnknownTransaction => "the receiver has answered what it was not asked",
            Self::NoCode => "the receiver's answer has no code",
        })
    }
}

impl core::error::Error for RelpError {}

/// Appends one frame.
pub fn put_frame(out: &mut BytesMut, txnr: u32, command: &str, data: &[u8]) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(number.format(txnr).as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(command.as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(number.format(data.len()).as_bytes());
    if !data.is_empty() {
        out.extend_from_slice(b" ");
        out.extend_from_slice(data);
    }
    out.extend_from_slice(b"\n");
}

/// What we offer when a session opens. librelp's client gives up on a server whose version is above its own 0, so
/// 0 it is on our side too.
pub fn offers() -> String {
    format!(
        "relp_version=0\nrelp_software=audit-relay,{},{}\ncommands=syslog",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_REPOSITORY")
    )
}

/// What a receiver can say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said<'a> {
    /// It has taken (`code` 200) or refused what transaction `txnr` was.
    Answer {
        /// The transaction.
        txnr: u32,
        /// 200 or an error.
        code: u16,
        /// What follows the code: a reason, or offers.
        rest: &'a [u8],
    },
    /// It wants no more on this connection.
    Closing,
}

/// Bytes from the receiver to what they say.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: BytesMut,
}

impl Reader {
    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next thing said, if it is there as a whole, and gives it to `hear`.
    ///
    /// # Errors
    /// The receiver does not keep to the protocol; the connection is of no more use.
    pub fn hear<T>(&mut self, hear: impl FnOnce(Said<'_>) -> T) -> Result<Option<T>, RelpError> {
        let Some((said, length)) = parse(&self.bytes)? else {
            return if self.bytes.len() > LONGEST_FRAME { Err(RelpError::NoFrame) } else { Ok(None) };
        };
        let heard = hear(said);
        self.bytes.advance(length);
        Ok(Some(heard))
    }
}

/// The first frame and its length; `None` if it is not there as a whole.
fn parse(bytes: &[u8]) -> Result<Option<(Said<'_>, usize)>, RelpError> {
    let Some((txnr, mut at)) = number(bytes, 0)? else { return Ok(None) };
    if txnr > LAST_TXNR {
        return Err(RelpError::NoFrame);
    }
    let command = at;
    loop {
        match bytes.get(at) {
            None if at - command <= LONGEST_COMMAND => return Ok(None),
            Some(b' ') if at > command => break,
            Some(byte) if byte.is_ascii_alphabetic() && at - command < LONGEST_COMMAND => at += 1,
            _ => return Err(RelpError::NoFrame),
        }
    }
    let command = &bytes[command..at];
    let Some((length, end)) = length(bytes, at + 1)? else { return Ok(None) };
    // Behind the length comes a space and the data, or the end of the frame at once where there is none; some
    // write the space all the same.
    let (data, end) = match bytes.get(end) {
        None => return Ok(None),
        Some(b'\n') if length == 0 => (&bytes[end..end], end + 1),
        Some(b' ') => match bytes.get(end + 1 + length) {
            None => return Ok(None),
            Some(b'\n') => (&bytes[end + 1..end + 1 + length], end + length + 2),
            Some(_) => return Err(RelpError::NoFrame),
        },
        Some(_) => return Err(RelpError::NoFrame),
    };
    let said = match command {
        b"rsp" => {
            let digits = data.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
            let code = data[..digits].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
            // An empty answer is how a close is confirmed.
            if digits != 3 && !data.is_empty() {
                return Err(RelpError::NoCode);
            }
            let rest = &data[digits..];
            Said::Answer { txnr, code: if data.is_empty() { 200 } else { code }, rest }
        }
        b"serverclose" => Said::Closing,
        _ => return Err(RelpError::UnknownCommand),
    };
    Ok(Some((said, end)))
}

/// The decimal number that starts at `from` and ends before a space, and the place behind that space.
fn number(bytes: &[u8], from: usize) -> Result<Option<(u32, usize)>, RelpError> {
    match digits(bytes, from)? {
        Some((value, end)) => match bytes.get(end) {
            None => Ok(None),
            Some(b' ') => Ok(Some((value, end + 1))),
            Some(_) => Err(RelpError::NoFrame),
        },
        None => Ok(None),
    }
}

/// The length of the data, and the place behind it.
fn length(bytes: &[u8], from: usize) -> Result<Option<(usize, usize)>, RelpError> {
    let Some((value, end)) = digits(bytes, from)? else { return Ok(None) };
    if end == bytes.len() {
        return Ok(None);
    }
    match usize::try_from(value) {
        Ok(value) if value <= LONGEST_FRAME => Ok(Some((value, end))),
        _ => Err(RelpError::NoFrame),
    }
}

/// Up to nine digits.
fn digits(bytes: &[u8], from: usize) -> Result<Option<(u32, usize)>, RelpError> {
    let rest = bytes.get(from..).unwrap_or_default();
    let count = rest.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
    match count {
        0 if rest.is_empty() => Ok(None),
        1..=9 => {
            let value = rest[..count].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
            Ok(Some((value, from + count)))
        }
        _ => Err(RelpError::NoFrame),
    }
}

/// True if the offers in a receiver's answer to `open` let us send syslog messages. A receiver that says nothing
/// of commands is taken at its 200.
pub fn takes_syslog(offers: &[u8]) -> bool {
    offers
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"commands="))
        .all(|commands| commands.split(|byte| *byte == b',').any(|command| command == b"syslog"))
}

/// What has become of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Waiting,
    Accepted,
    Refused,
}

/// A message that is settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// The receiver has it. The position is the one that [`Window::send`] was given.
    Accepted(i64),
    /// The receiver has refused it and taken a later one, so it is the message and not the moment.
    Refused(i64),
}

/// Messages that are sent and not settled, in their order.
#[derive(Debug)]
pub struct Window {
    size: usize,
    /// Position behind each message, and its state.
    messages: VecDeque<(i64, State)>,
    /// Transaction number of the first of them.
    first: u32,
    accepted: usize,
    waiting: usize,
}

impl Window {
    /// For `size` messages at a time, at least two: with one, a refused message could never be told from a
    /// receiver that refuses all. `next` is the first transaction number.
    pub fn new(size: usize, next: u32) -> Self {
        let size = size.max(2);
        Self { size, messages: VecDeque::with_capacity(size), first: next, accepted: 0, waiting: 0 }
    }

    /// How many more messages may be sent.
    pub fn room(&self) -> usize {
        self.size - self.messages.len()
    }

    /// How many messages may be in the window.
    pub fn size(&self) -> usize {
        self.size
    }

    /// True if nothing is sent that is not settled.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages that are sent and not answered.
    pub fn unanswered(&self) -> usize {
        self.waiting
    }

    /// True if every message in the window has been refused: sending on tells nothing more if `nothing_to_send`,
    /// or if the window is full.
    pub fn is_all_refused(&self, nothing_to_send: bool) -> bool {
        !self.messages.is_empty()
            && self.waiting == 0
            && self.accepted == 0
            && (nothing_to_send || self.room() == 0)
    }

    /// The transaction number of the next message.
    pub fn next_txnr(&self) -> u32 {
        after(self.first, self.messages.len())
    }

    /// Notes that the message with [`Window::next_txnr`] is sent, which ends at `position`. Call only with room.
    pub fn send(&mut self, position: i64) {
        debug_assert!(self.room() > 0);
        self.messages.push_back((position, State::Waiting));
        self.waiting += 1;
    }

    /// Notes an answer. They should come in order; one that does not is taken all the same.
    ///
    /// # Errors
    /// It answers nothing that waits.
    pub fn answer(&mut self, txnr: u32, accepted: bool) -> Result<(), RelpError> {
        let distance = if txnr >= self.first { txnr - self.first } else { txnr + LAST_TXNR - self.first };
        let message = usize::try_from(distance).ok().and_then(|at| self.messages.get_mut(at));
        match message {
            Some((_, state @ State::Waiting)) if txnr > 0 => {
                *state = if accepted { State::Accepted } else { State::Refused };
                self.waiting -= 1;
                self.accepted += usize::from(accepted);
                Ok(())
            }
            _ => Err(RelpError::UnknownTransaction),
        }
    }

    /// Takes the first message out if it is settled.
    pub fn settle(&mut self) -> Option<Settled> {
        let &(position, state) = self.messages.front()?;
        let settled = match state {
            State::Waiting => return None,
            State::Refused if self.accepted == 0 => return None,
            State::Refused => Settled::Refused(position),
            State::Accepted => {
                self.accepted -= 1;
                Settled::Accepted(position)
            }
        };
        self.messages.pop_front();
        self.first = after(self.first, 1);
        Some(settled)
    }
}

/// The transaction number `count` behind `txnr`.
fn after(txnr: u32, count: usize) -> u32 {
    let sum = (u64::from(txnr) - 1 + count as u64) % u64::from(LAST_TXNR);
    u32::try_from(sum).unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(bytes: &[u8]) -> Result<Option<(u32, u16, Vec<u8>)>, RelpError> {
        let mut reader = Reader::default();
        reader.push(bytes);
        reader.hear(|said| match said {
            Said::Answer { txnr, code, rest } => (txnr, code, rest.to_vec()),
            Said::Closing => (0, 0, Vec::new()),
        })
    }

    #[test]
    fn what_receivers_say() {
        for (bytes, expected) in [
            (&b"1 rsp 6 200 OK\n"[..], (1, 200, &b" OK"[..])),
            (b"999999999 rsp 3 200\n", (999_999_999, 200, b"")),
            (b"7 rsp 9 500 no no\n", (7, 500, b" no no")),
            (b"3 rsp 0\n", (3, 200, b"")),
            (b"3 rsp 0 \n", (3, 200, b"")),
            (b"0 serverclose 0\n", (0, 0, b"")),
            (b"1 rsp 8 200 a\nb\n\n", (1, 200, b" a\nb\n")),
        ] {
            let expected = (expected.0, expected.1, expected.2.to_vec());
            assert_eq!(one(bytes), Ok(Some(expected)), "{}", String::from_utf8_lossy(bytes));
            for cut in 0..bytes.len() {
                assert_eq!(one(&bytes[..cut]), Ok(None), "{}", String::from_utf8_lossy(&bytes[..cut]));
            }
        }
    }

    #[test]
    fn what_is_not_relp_ends_the_connection() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b" 1 rsp 6 200 OK\n",
            b"1  rsp 6 200 OK\n",
            b"1 rsp 6 200 OK!\n",
            b"1 rsp 5 200 OK\n",
            b"1 rsp -1 \n",
            b"1 rsp 999999999 x",
            b"1 rsp 20000 x",
            b"1234567890 rsp 6 200 OK\n",
            b"1 rsp 6,200 OK\n",
            b"\n",
            b"1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert_eq!(one(bytes), Err(RelpError::NoFrame), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(one(b"1 syslog 1 x\n"), Err(RelpError::UnknownCommand));
        assert_eq!(one(b"1 rsp 2 OK\n"), Err(RelpError::NoCode));
    }

    #[test]
    fn frames_as_librelp_reads_them() {
        let mut out = BytesMut::new();
        put_frame(&mut out, 1, "open", b"a=b");
        put_frame(&mut out, 2, "syslog", b"<182>1 -");
        put_frame(&mut out, 3, "close", b"");
        assert_eq!(out, "1 open 3 a=b\n2 syslog 8 <182>1 -\n3 close 0\n");
        assert!(offers().starts_with("relp_version=0\nrelp_software=audit-relay,"));
        assert!(takes_syslog(b" OK\nrelp_version=0\ncommands=starttls,syslog"));
        assert!(takes_syslog(b" OK"));
        assert!(!takes_syslog(b" OK\ncommands=eventlog"));
    }

    #[test]
    fn messages_are_settled_in_order_whatever_the_order_of_the_answers() {
        let mut window = Window::new(4, 999_999_998);
        for position in [10, 20, 30] {
            window.send(position);
        }
        assert_eq!((window.room(), window.next_txnr()), (1, 2));
        assert_eq!(window.answer(1, true), Ok(()), "the third, behind the largest number");
        assert_eq!(window.settle(), None);
        assert_eq!(window.answer(1, true), Err(RelpError::UnknownTransaction), "twice");
        assert_eq!(window.answer(2, true), Err(RelpError::UnknownTransaction), "not sent");
        assert_eq!(window.answer(0, true), Err(RelpError::UnknownTransaction));
        assert_eq!(window.answer(999_999_997, true), Err(RelpError::UnknownTransaction), "settled long ago");
        window.answer(999_999_998, true).unwrap();
        assert_eq!((window.settle(), window.settle()), (Some(Settled::Accepted(10)), None));
        window.answer(999_999_999, true).unwrap();
        assert_eq!(window.settle(), Some(Settled::Accepted(20)));
        assert_eq!(window.settle(), Some(Settled::Accepted(30)));
        assert!(window.settle().is_none() && window.is_empty() && window.room() == 4);
        assert_eq!(window.next_txnr(), 2);
    }

    #[test]
    fn a_message_is_refused_for_good_only_if_a_later_one_is_taken() {
        let mut window = Window::new(3, 1);
        (1..=3).for_each(|position| window.send(position));
        window.answer(1, false).unwrap();
        assert_eq!(window.settle(), None);
        window.answer(2, false).unwrap();
        assert!(!window.is_all_refused(true));
        window.answer(3, true).unwrap();
        assert!(!window.is_all_refused(true));
        let settled: Vec<_> = std::iter::from_fn(|| window.settle()).collect();
        assert_eq!(settled, [Settled::Refused(1), Settled::Refused(2), Settled::Accepted(3)]);
        window.send(4);
        window.answer(4, false).unwrap();
        assert_eq!(window.settle(), None);
        assert!(window.is_all_refused(true) && !window.is_all_refused(false));
    }

    proptest! {
        /// However the stream is cut, the same is heard.
        #[test]
        fn the_cut_of_the_stream_changes_nothing(
            answers in proptest::collection::vec((1u32..=LAST_TXNR, "[ -~\\n]{0,40}"), 1..20),
            cuts in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let mut stream = BytesMut::new();
            for (txnr, rest) in &answers {
                put_frame(&mut stream, *txnr, "rsp", format!("200{rest}").as_bytes());
            }
            let mut reader = Reader::default();
            let mut heard = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !stream.is_empty() {
                let count = (*cuts.next().unwrap()).min(stream.len());
                reader.push(&stream.split_to(count));
                while let Some(answer) = reader.hear(|said| match said {
                    Said::Answer { txnr, code: 200, rest } => (txnr, String::from_utf8(rest.to_vec()).unwrap()),
                    other => panic!("{other:?}"),
                }).unwrap() {
                    heard.push(answer);
                }
            }
            prop_assert_eq!(heard, answers);
        }

        /// No bytes make the reader panic or hold more than a frame.
        #[test]
        fn any_bytes_are_safe(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut reader = Reader::default();
            for chunk in chunks {
                reader.push(&chunk);
                loop {
                    match reader.hear(|_| ()) {
                        Ok(Some(())) => {}
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(reader.bytes.len() <= LONGEST_FRAME);
            }
        }
    }
}
