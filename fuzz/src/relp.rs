//! RELP: what a hostile receiver may say, and what the relay may make of it.

use std::collections::VecDeque;

use audit_relay::syslog::relp::{Reader, RelpError, Said, Settled, Window, takes_syslog};

use super::choices::{Choices, Cuts};

/// The longest frame that is taken, about, in bytes.
const LONGEST_FRAME: usize = 16 * 1024;

/// What one read of the socket brings at most, in bytes.
const READ: usize = 4096;

/// What was said: transaction, code and rest of an answer, or `None` for the wish to close.
type Heard = Option<(u32, u16, Vec<u8>)>;

/// Everything that `stream` says up to the first thing that is not RELP, and the bytes of those frames. Written from
/// librelp's doc/relp.md, on the whole stream at once.
fn listen(mut stream: &[u8]) -> (Vec<Heard>, usize) {
    let (mut heard, whole) = (Vec::new(), stream.len());
    while let Some((said, length)) = frame(stream) {
        heard.push(said);
        stream = &stream[length..];
    }
    (heard, whole - stream.len())
}

fn frame(stream: &[u8]) -> Option<(Heard, usize)> {
    let head: Vec<_> = stream.splitn(3, |byte| *byte == b' ').collect();
    let [txnr, command, rest] = head[..] else { return None };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (txnr, length) = (number(txnr)?, usize::try_from(number(&rest[..digits])?).ok()?);
    let before = stream.len() - rest.len() + digits;
    let (data, end) = match rest.get(digits)? {
        b'\n' if length == 0 => (&rest[..0], before + 1),
        b' ' => (rest.get(digits + 1..digits + 1 + length)?, before + 1 + length + 1),
        _ => return None,
    };
    if length > LONGEST_FRAME || stream.get(end - 1) != Some(&b'\n') {
        return None;
    }
    match command {
        b"serverclose" => Some((None, end)),
        b"rsp" if data.is_empty() => Some((Some((txnr, 200, Vec::new())), end)),
        b"rsp" => {
            let (code, rest) = data.split_at_checked(3)?;
            let code = number(code)?;
            Some((Some((txnr, u16::try_from(code).ok()?, rest.to_vec())), end))
        }
        _ => None,
    }
}

/// One to nine digits.
fn number(text: &[u8]) -> Option<u32> {
    let good = (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    good.then(|| text.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

/// The reader. Any bytes in any pieces: it hears what is said up to the first error and nothing else, and never holds
/// more than a frame and a read.
pub fn relp_reader(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut cuts = Cuts::new(choices.byte());
    let mut stream = Vec::new();
    let mut rest = choices.rest();
    // 0x02 and a number make long data: 64 times the number, for two frames that are too long at most.
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after.split_first()) {
            (2, Some((&count, after))) if stream.len() < 2 * LONGEST_FRAME => {
                stream.resize(stream.len() + usize::from(count) * 64, b'x');
                rest = after;
            }
            _ => stream.push(first),
        }
    }
    let (expected, bytes) = listen(&stream);
    let _ = takes_syslog(&stream);
    let (mut reader, mut heard) = (Reader::default(), Vec::new());
    let mut end = 0;
    let mut failed = false;
    while end < stream.len() && !failed {
        let next = end + cuts.next().min(READ).min(stream.len() - end);
        reader.push(&stream[end..next]);
        end = next;
        loop {
            let said = reader.hear(|said| match said {
                Said::Answer { txnr, code, rest } => Some((txnr, code, rest.to_vec())),
                Said::Closing => None,
            });
            match said {
                Ok(Some(said)) => heard.push(said),
                Ok(None) => break,
                Err(RelpError::UnknownTransaction) => panic!("the reader knows no transactions"),
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        assert!(heard.len() <= expected.len() && heard[..] == expected[..heard.len()], "heard {heard:?}");
        if heard.len() == expected.len() && !failed {
            // All that is whole has been heard; what waits is one frame at most.
            assert!(end.saturating_sub(bytes) <= LONGEST_FRAME, "{} bytes wait", end - bytes);
        }
    }
    assert_eq!(heard, expected);
}

/// What a session's other side has in mind, simply.
struct Model {
    /// Transaction, position, and the answer's code, of those not settled.
    sent: VecDeque<(u32, i64, Option<u16>)>,
    next: u32,
    position: i64,
}

impl Model {
    fn answer(&mut self, txnr: u32, code: u16) -> bool {
        match self.sent.iter_mut().find(|(sent, _, answer)| *sent == txnr && answer.is_none()) {
            Some((_, _, answer)) => {
                *answer = Some(code);
                true
            }
            None => false,
        }
    }

    fn settle(&mut self) -> Option<Settled> {
        let taken = self.sent.iter().any(|(.., answer)| *answer == Some(200));
        let &(_, position, answer) = self.sent.front()?;
        let settled = match answer? {
            200 => Settled::Accepted(position),
            // Refused for good only if some other was taken.
            _ if taken => Settled::Refused(position),
            _ => return None,
        };
        self.sent.pop_front();
        Some(settled)
    }
}

/// A session: sends, answers of any kind, settling. Nothing is settled that was not sent and answered, everything
/// once and in order; a message counts as delivered only if the receiver said 200 for its very transaction.
pub fn relp_session(input: &[u8]) {
    let mut choices = Choices::new(input);
    let size = usize::from(choices.byte() % 9);
    let first = match choices.byte() {
        0..=127 => 2,
        byte => 999_999_999 - u32::from(byte - 128) % 8,
    };
    let mut cuts = Cuts::new(choices.byte());
    let (mut window, mut reader) = (Window::new(size, first), Reader::default());
    let mut model = Model { sent: VecDeque::new(), next: first, position: 0 };
    let mut stream: Vec<u8> = Vec::new();
    while !choices.is_empty() {
        let step = choices.byte();
        match step % 8 {
            0 | 1 if window.room() > 0 => {
                assert_eq!(window.next_txnr(), model.next);
                model.position += i64::from(step) + 1;
                window.send(model.position);
                model.sent.push_back((model.next, model.position, None));
                model.next = if model.next == 999_999_999 { 1 } else { model.next + 1 };
            }
            // An answer near the window, in order or not.
            2..=4 => {
                let code = [200, 200, 500, 0][usize::from(step / 64)];
                let around = i64::from(choices.byte() % 16) - 4;
                let front = model.sent.front().map_or(model.next, |sent| sent.0);
                let txnr = (i64::from(front) - 1 + around).rem_euclid(999_999_999) + 1;
                let data = format!("{code:03} x");
                stream.extend(format!("{txnr} rsp {} {data}\n", data.len()).into_bytes());
            }
            5 => stream.extend_from_slice(choices.take(usize::from(choices_len(step)))),
            6 => stream.extend_from_slice(b"0 serverclose 0\n"),
            _ => {}
        }
        let count = cuts.next().min(READ).min(stream.len());
        let piece: Vec<u8> = stream.drain(..count).collect();
        reader.push(&piece);
        loop {
            let said = reader.hear(|said| match said {
                Said::Answer { txnr, code, .. } => {
                    let known = model.answer(txnr, code);
                    let taken = window.answer(txnr, code == 200);
                    assert_eq!(taken, if known { Ok(()) } else { Err(RelpError::UnknownTransaction) });
                    taken
                }
                Said::Closing => Ok(()),
            });
            match said {
                Ok(Some(Ok(()))) => {}
                Ok(None) => break,
                // The connection ends here.
                Ok(Some(Err(_))) | Err(_) => return,
            }
        }
        if step & 128 != 0 {
            loop {
                let settled = window.settle();
                assert_eq!(settled, model.settle());
                if settled.is_none() {
                    break;
                }
            }
        }
        let unanswered = model.sent.iter().filter(|(.., answer)| answer.is_none()).count();
        assert_eq!((window.unanswered(), window.room()), (unanswered, window.size() - model.sent.len()));
        assert_eq!(window.is_empty(), model.sent.is_empty());
        let all_refused = !model.sent.is_empty()
            && model.sent.iter().all(|(.., answer)| answer.is_some_and(|code| code != 200));
        assert_eq!(window.is_all_refused(true), all_refused);
    }
}

/// Up to 31 bytes of the input are said as they are.
fn choices_len(step: u8) -> u8 {
    step / 8
}
