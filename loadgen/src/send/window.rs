//! The client's side of RELP: what was sent and not yet answered. Pure; no I/O.
//!
//! *Promise:* every message is answered, refused, or still open; so what is lost is known.
//! *Law:* the same bytes give the same account however the reads cut them; an answer to nothing is a breach.
//!
//! ```text
//!  answer:  TXNR SP rsp SP DATALEN SP CODE ... LF      DATALEN 0 only to `close`; also: 0 SP serverclose SP 0 LF
//! ```

use std::collections::VecDeque;

/// What opens a session; its transaction number is 1.
pub(super) const OPEN: &[u8] = b"1 open 58 relp_version=0\nrelp_software=audit-loadgen\ncommands=syslog\n";
/// Transaction numbers are `1..=LAST`, and go round.
const LAST: u64 = 999_999_999;
/// The longest answer understood.
const LONGEST: usize = 64 << 10;

/// What the receiver owes.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    /// Whether each message from the oldest open one on is answered.
    answered: VecDeque<bool>,
    /// The transaction number of the first of those.
    first: u64,
    heard: Vec<u8>,
    taken: u64,
    refused: u64,
    /// `serverclose` or the answer to `close` has come.
    ended: bool,
}

/// An answer that breaks the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Breach(pub(super) String);

impl Window {
    /// A window of `size` messages, before the first of them.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            answered: VecDeque::with_capacity(size),
            first: 2,
            heard: Vec::new(),
            taken: 0,
            refused: 0,
            ended: false,
        }
    }

    /// How many messages may be sent now.
    pub(super) fn free(&self) -> usize {
        self.size - self.answered.len().min(self.size)
    }

    /// One message more is sent.
    pub(super) fn sent(&mut self) {
        self.answered.push_back(false);
    }

    /// Messages without an answer.
    pub(super) fn open(&self) -> u64 {
        self.answered.iter().filter(|answered| !**answered).count() as u64
    }

    /// Messages the receiver has said it has.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Messages the receiver has said it will not have.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether the receiver has ended the session.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The frame that closes the session.
    pub(super) fn close_frame(&self) -> Vec<u8> {
        format!("{} close 0\n", self.number(self.answered.len())).into_bytes()
    }

    /// Takes in what was read.
    ///
    /// # Errors
    /// If it is no answer, or one to nothing that was sent.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<(), Breach> {
        self.heard.extend_from_slice(bytes);
        let mut heard = std::mem::take(&mut self.heard);
        let mut used = 0;
        let result = loop {
            match parse(&heard[used..]) {
                Ok(None) if heard.len() - used > LONGEST => {
                    break Err(Breach("an answer without an end".into()));
                }
                Ok(None) => break Ok(()),
                Ok(Some((answer, len))) => {
                    if let Err(breach) = self.enter(&answer) {
                        break Err(breach);
                    }
                    used += len;
                }
                Err(breach) => break Err(breach),
            }
        };
        heard.drain(..used);
        self.heard = heard;
        result
    }

    fn enter(&mut self, answer: &Answer) -> Result<(), Breach> {
        let code = match *answer {
            Answer::ServerClose => {
                self.ended = true;
                return Ok(());
            }
            Answer::Reply { txnr, code } => {
                let after = (txnr + LAST - self.first) % LAST;
                let index = usize::try_from(after).unwrap_or(usize::MAX);
                let messages = self.answered.len();
                match self.answered.get_mut(index) {
                    Some(answered) if !*answered => *answered = true,
                    // The one behind the last message is `close`.
                    None if index == messages => {
                        self.ended = true;
                        return Ok(());
                    }
                    _ => return Err(Breach(format!("an answer to {txnr}, which is not open"))),
                }
                code
            }
        };
        if code == Some(200) {
            self.taken += 1;
        } else {
            self.refused += 1;
        }
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.first = self.number(1);
        }
        Ok(())
    }

    /// The transaction number `n` behind the first one.
    fn number(&self, n: usize) -> u64 {
        (self.first - 1 + n as u64) % LAST + 1
    }
}

/// Whether `bytes` are a receiver's whole answer to [`OPEN`] that lets us go on; `None` if more must come.
///
/// # Errors
/// If it is something else.
pub(super) fn is_opened(bytes: &[u8]) -> Result<Option<()>, Breach> {
    match parse(bytes)? {
        None if bytes.len() > LONGEST => Err(Breach("an answer without an end".into())),
        None => Ok(None),
        Some((Answer::Reply { txnr: 1, code: Some(200) }, _)) => Ok(Some(())),
        Some(_) => Err(Breach("the receiver does not open a session".into())),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Reply { txnr: u64, code: Option<u16> },
    ServerClose,
}

/// The answer at the start of `bytes` and its length; `None` if its end is not there.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Breach> {
    let breach = || {
        let head = &bytes[..bytes.len().min(40)];
        Breach(format!("\"{}\" is no answer of RELP", head.escape_ascii()))
    };
    let Some((txnr, at)) = number(bytes, 0, 9).map_err(|()| breach())? else { return Ok(None) };
    let rest = bytes.get(at..).unwrap_or_default();
    let names = [&b" rsp "[..], b" serverclose "];
    let Some(name) = names.into_iter().find(|name| rest.starts_with(name)) else {
        return if names.iter().any(|name| name.starts_with(rest)) { Ok(None) } else { Err(breach()) };
    };
    let Some((len, at)) = number(bytes, at + name.len(), 9).map_err(|()| breach())? else { return Ok(None) };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    // No data: neither the space nor the data.
    let data = if len == 0 { at..at } else { at + 1..at + 1 + len };
    if len > LONGEST || (len > 0 && bytes.get(at).is_some_and(|&b| b != b' ')) {
        return Err(breach());
    }
    match bytes.get(data.end) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(breach()),
    }
    let answer = if name.starts_with(b" rsp") {
        let code = number(&bytes[data.clone()], 0, 3).ok().flatten();
        Answer::Reply { txnr, code: code.and_then(|(code, _)| u16::try_from(code).ok()) }
    } else {
        Answer::ServerClose
    };
    Ok(Some((answer, data.end + 1)))
}

/// The decimal number of at most `longest` digits at `at` and where it ends; `None` if it may go on behind `bytes`.
fn number(bytes: &[u8], at: usize, longest: usize) -> Result<Option<(u64, usize)>, ()> {
    let rest = bytes.get(at..).unwrap_or_default();
    let digits = rest.iter().take(longest + 1).take_while(|b| b.is_ascii_digit()).count();
    if digits == rest.len() && digits <= longest {
        return Ok(None);
    }
    if digits == 0 || digits > longest {
        return Err(());
    }
    let value = rest[..digits].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Ok(Some((value, at + digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_frame_has_its_length() {
        let data = OPEN.strip_prefix(b"1 open 58 ").unwrap().strip_suffix(b"\n").unwrap();
        assert_eq!(data.len(), 58);
    }

    #[test]
    fn an_opened_session_is_recognised_only_when_whole() {
        let answer = b"1 rsp 65 200 OK\nrelp_version=0\nrelp_software=audit-loadgen\ncommands=syslog\n";
        for len in 0..answer.len() {
            assert_eq!(is_opened(&answer[..len]), Ok(None), "{len}");
        }
        assert_eq!(is_opened(answer), Ok(Some(())));
        assert!(is_opened(b"1 rsp 9 500 sorry\n").is_err());
        assert!(is_opened(b"2 rsp 6 200 OK\n").is_err());
        assert!(is_opened(b"220 mail.example ESMTP\r\n").is_err());
    }

    #[test]
    fn answers_are_counted_however_they_are_cut_and_ordered() {
        let said = b"2 rsp 6 200 OK\n000000004 rsp 6 200 OK\n3 rsp 9 500 sorry\n6 rsp 0\n0 serverclose 0\n";
        for chunk in [1, 2, 5, 100] {
            let mut window = Window::new(5);
            for _ in 0..4 {
                window.sent();
            }
            assert_eq!((window.free(), window.open()), (1, 4));
            for bytes in said.chunks(chunk) {
                window.hear(bytes).unwrap();
            }
            assert_eq!((window.taken(), window.refused(), window.open()), (2, 1, 1));
            assert_eq!((window.free(), window.ended()), (4, true));
            assert_eq!(window.close_frame(), b"6 close 0\n");
        }
    }

    #[test]
    fn answers_to_nothing_and_noise_are_breaches() {
        for said in [
            &b"2 rsp 6 200 OK\n2 rsp 6 200 OK\n"[..],
            b"9 rsp 6 200 OK\n",
            b"hello\n",
            b"2 rsp 6 200 OKx",
            b"2 x",
        ] {
            let mut window = Window::new(2);
            window.sent();
            assert!(window.hear(said).is_err(), "{}", said.escape_ascii());
        }
    }

    #[test]
    fn numbers_go_round() {
        let mut window = Window { first: LAST, ..Window::new(3) };
        for _ in 0..2 {
            window.sent();
        }
        assert_eq!(window.close_frame(), b"2 close 0\n");
        window.hear(b"999999999 rsp 6 200 OK\n1 rsp 6 200 OK\n").unwrap();
        assert_eq!((window.taken(), window.open(), window.first), (2, 0, 2));
    }
}
