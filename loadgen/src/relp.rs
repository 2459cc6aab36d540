//! The server's side of RELP, as librelp speaks it. Pure; no I/O.
//!
//! *Promise:* the same bytes give the same messages and the same replies however the reads cut them; a message is
//! given out before anybody can send the reply to it.
//! *Law:* no copy and no allocation per message; whatever breaks the protocol is counted and ends the session.
//!
//! ```text
//!  frame:  TXNR SP COMMAND SP DATALEN [SP DATA] LF      DATALEN 0: neither SP nor DATA
//!
//!           open              close, or a broken frame
//!  (fresh) ------> (opened) ----------------------------> (ended)
//!                   syslog: a message out, "200 OK" back
//! ```

use std::ops::Range;

use crate::deframe::{CAPACITY, larger};

/// Below this much free room the unread part is moved to the front.
const MIN_SPARE: usize = 64 << 10;
/// Longest data taken: such a frame fits the buffer and leaves [`MIN_SPARE`] free.
const MAX_DATA: usize = CAPACITY - 2 * MIN_SPARE;
/// Digits of a transaction number or a length.
const MAX_DIGITS: usize = 9;
/// Letters of a command.
const MAX_COMMAND: usize = 32;

/// What follows the transaction number in the reply to `open`.
const OPENED: &[u8] = b" rsp 65 200 OK\nrelp_version=0\nrelp_software=audit-loadgen\ncommands=syslog\n";
/// The same for `syslog`.
const TAKEN: &[u8] = b" rsp 6 200 OK\n";
/// The same for `close`, and the server's own farewell.
const CLOSED: &[u8] = b" rsp 0\n0 serverclose 0\n";

/// One connection's receive buffer, its state, and the replies not yet sent.
#[derive(Debug)]
pub(crate) struct Session {
    /// `head..tail` is read but not yet given out.
    buf: Vec<u8>,
    head: usize,
    tail: usize,
    /// The last read took as much as there was room for: there may be more.
    filled: bool,
    opened: bool,
    ended: bool,
    errors: u64,
    replies: Vec<u8>,
}

impl Session {
    /// A session that waits for `open`.
    pub(crate) fn new() -> Self {
        Self {
            buf: vec![0; larger(0)],
            head: 0,
            tail: 0,
            filled: false,
            opened: false,
            ended: false,
            errors: 0,
            replies: Vec::new(),
        }
    }

    /// Where the next read goes; never empty while the session lasts and [`Session::next`] was asked to the end.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.head == self.tail {
            // The front again: memory that was used before is in the cache, and of many buffers little is touched.
            (self.head, self.tail) = (0, 0);
        }
        if self.buf.len() - self.tail < MIN_SPARE {
            self.buf.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        if self.buf.len() < CAPACITY && (self.filled || self.buf.len() - self.tail < larger(0) / 4) {
            self.buf.resize(larger(self.buf.len()), 0);
        }
        &mut self.buf[self.tail..]
    }

    /// Takes in the first `n` bytes of [`Session::spare`].
    pub(crate) fn filled(&mut self, n: usize) {
        self.tail = (self.tail + n).min(self.buf.len());
        self.filled = self.tail == self.buf.len();
    }

    /// The data of the next `syslog` frame, or `None` until more is read or for ever if the session has ended.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        while !self.ended {
            let unread = &self.buf[self.head..self.tail];
            let frame = match parse(unread) {
                Ok(frame) => frame?,
                Err(Broken) => {
                    self.give_up();
                    break;
                }
            };
            let (txnr, start) = (&unread[..frame.txnr], self.head);
            match &unread[frame.command.clone()] {
                b"syslog" if self.opened => {
                    self.replies.extend_from_slice(txnr);
                    self.replies.extend_from_slice(TAKEN);
                    self.head += frame.len;
                    return Some(&self.buf[start + frame.data.start..start + frame.data.end]);
                }
                b"open" if !self.opened => {
                    self.opened = true;
                    self.replies.extend_from_slice(txnr);
                    self.replies.extend_from_slice(OPENED);
                }
                b"close" if self.opened => {
                    self.ended = true;
                    self.replies.extend_from_slice(txnr);
                    self.replies.extend_from_slice(CLOSED);
                }
                _ => {
                    self.give_up();
                    break;
                }
            }
            self.head += frame.len;
        }
        None
    }

    /// Whether replies wait to be sent.
    pub(crate) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The replies to everything given out so far; whoever sends a part of them removes it.
    pub(crate) fn replies(&mut self) -> &mut Vec<u8> {
        &mut self.replies
    }

    /// Nothing more will be understood: the connection is to be closed once the replies are out.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Bytes read that are no whole frame, or came after the end.
    pub(crate) fn unfinished(&self) -> usize {
        self.tail - self.head
    }

    /// Frames that broke the protocol: none or one.
    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    fn give_up(&mut self) {
        self.errors += 1;
        self.ended = true;
    }
}

/// Bytes that cannot be the beginning of a frame.
#[derive(Debug, PartialEq, Eq)]
struct Broken;

/// Where the parts of a frame lie.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    /// Length of the transaction number, which stands first.
    txnr: usize,
    command: Range<usize>,
    data: Range<usize>,
    /// Length of the whole, LF included.
    len: usize,
}

/// Finds the frame at the start of `bytes`; `None` if its end is not there yet. Looks at the header only.
fn parse(bytes: &[u8]) -> Result<Option<Frame>, Broken> {
    let Some(txnr) = word(bytes, MAX_DIGITS, u8::is_ascii_digit, b" ")? else { return Ok(None) };
    let rest = &bytes[txnr + 1..];
    let Some(letters) = word(rest, MAX_COMMAND, u8::is_ascii_alphabetic, b" ")? else { return Ok(None) };
    let command = txnr + 1..txnr + 1 + letters;
    let rest = &bytes[command.end + 1..];
    let Some(digits) = word(rest, MAX_DIGITS, u8::is_ascii_digit, b" \n")? else { return Ok(None) };
    let data_len = rest[..digits].iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    let header = command.end + 1 + digits;
    if data_len > MAX_DATA || (data_len > 0) != (rest[digits] == b' ') {
        return Err(Broken);
    }
    let data = if data_len == 0 { header..header } else { header + 1..header + 1 + data_len };
    match bytes.get(data.end) {
        None => Ok(None),
        Some(b'\n') => Ok(Some(Frame { txnr, command, len: data.end + 1, data })),
        Some(_) => Err(Broken),
    }
}

/// Length of the word of `1..=longest` bytes at the start of `bytes`; `None` if its end is not there yet.
fn word(
    bytes: &[u8],
    longest: usize,
    belongs: impl Fn(&u8) -> bool,
    ends: &[u8],
) -> Result<Option<usize>, Broken> {
    let len = bytes.iter().take(longest + 1).take_while(|byte| belongs(byte)).count();
    match bytes.get(len) {
        _ if len > longest => Err(Broken),
        None => Ok(None),
        Some(end) if len > 0 && ends.contains(end) => Ok(Some(len)),
        Some(_) => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: &str = "1 open 30 relp_version=0\ncommands=syslog\n";
    const OPEN_REPLY: &str =
        "1 rsp 65 200 OK\nrelp_version=0\nrelp_software=audit-loadgen\ncommands=syslog\n";

    /// What a client sees of a session: messages taken, bytes replied, errors, and whether it has ended.
    type Seen = (Vec<Vec<u8>>, String, u64, bool);

    /// Feeds `stream` in chunks of the given sizes (repeated) until the session ends.
    fn run(stream: &[u8], chunks: &[usize]) -> Seen {
        let mut session = Session::new();
        let mut messages = Vec::new();
        let mut rest = stream;
        let mut sizes = chunks.iter().cycle();
        while !rest.is_empty() && !session.ended() {
            let spare = session.spare();
            let n = (*sizes.next().unwrap()).min(rest.len()).min(spare.len());
            assert!(n > 0, "room is never empty");
            spare[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            session.filled(n);
            while let Some(message) = session.next() {
                messages.push(message.to_vec());
            }
        }
        let replies = String::from_utf8(session.replies().clone()).unwrap();
        (messages, replies, session.errors(), session.ended())
    }

    #[test]
    fn lengths_in_the_constants_are_right() {
        let reply = std::str::from_utf8(OPENED).unwrap();
        let data = reply.strip_prefix(" rsp 65 ").unwrap().strip_suffix('\n').unwrap();
        assert_eq!(data.len(), 65);
        let data = OPEN.strip_prefix("1 open 30 ").unwrap().strip_suffix('\n').unwrap();
        assert_eq!(data.len(), 30);
    }

    #[test]
    fn a_session_from_open_to_close() {
        let stream =
            format!("{OPEN}2 syslog 5 <1>ab\n3 syslog 4 \n\n\n\n\n4 syslog 0\n5 close 0\n6 syslog 1 x\n");
        for chunk in [1, 2, 3, 7, 1000] {
            let (messages, replies, errors, ended) = run(stream.as_bytes(), &[chunk]);
            assert_eq!(messages, [b"<1>ab".to_vec(), b"\n\n\n\n".to_vec(), vec![]]);
            let rest = "2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 6 200 OK\n5 rsp 0\n0 serverclose 0\n";
            assert_eq!(replies, format!("{OPEN_REPLY}{rest}"));
            assert_eq!((errors, ended), (0, true));
        }
    }

    #[test]
    fn frames_are_whole_unfinished_or_broken() {
        let frame = |txnr, command, data, len| Ok(Some(Frame { txnr, command, data, len }));
        let table: [(&str, Result<Option<Frame>, Broken>); 24] = [
            ("1 syslog 3 abc\n", frame(1, 2..8, 11..14, 15)),
            ("999999999 close 0\n1 ", frame(9, 10..15, 17..17, 18)),
            ("007 close 000\n", frame(3, 4..9, 13..13, 14)),
            ("", Ok(None)),
            ("1", Ok(None)),
            ("1 ", Ok(None)),
            ("1 sys", Ok(None)),
            ("1 syslog ", Ok(None)),
            ("1 syslog 3", Ok(None)),
            ("1 syslog 3 ab", Ok(None)),
            ("1 syslog 3 abc", Ok(None)),
            ("1 syslog 0", Ok(None)),
            (" ", Err(Broken)),
            ("x", Err(Broken)),
            ("1\n", Err(Broken)),
            ("1 syslog\n", Err(Broken)),
            ("1  0\n", Err(Broken)),
            ("1 sys_log 0\n", Err(Broken)),
            ("1 syslog 3 abcd", Err(Broken)),
            ("1 syslog 3\nabc", Err(Broken)),
            ("1 syslog 0 \n", Err(Broken)),
            ("1 syslog 999999999 ", Err(Broken)),
            ("1234567890", Err(Broken)),
            ("1 abcdefghijklmnopqrstuvwxyzabcdefg", Err(Broken)),
        ];
        for (bytes, expected) in table {
            assert_eq!(parse(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_session_and_costs_one_error() {
        for (broken, taken) in [
            ("1 syslog 1 a\n".to_owned(), 0),
            ("1 close 0\n".to_owned(), 0),
            (format!("{OPEN}{OPEN}"), 0),
            (format!("{OPEN}2 starttls 0\n"), 0),
            (format!("{OPEN}2 rsp 0\n"), 0),
            (format!("{OPEN}2 syslog 1 a\n<1>no frame\n3 syslog 1 a\n"), 1),
            (format!("{OPEN}2 syslog 1 aa\n3 syslog 1 a\n"), 0),
        ] {
            for chunk in [1, 5, 1000] {
                let (messages, replies, errors, ended) = run(broken.as_bytes(), &[chunk]);
                assert_eq!((messages.len(), errors, ended), (taken, 1, true), "{broken}");
                assert_eq!(replies.matches(" rsp 6 200 OK\n").count(), taken);
            }
        }
    }

    #[test]
    fn streams_longer_than_the_buffer_and_the_longest_frame_pass() {
        let mut stream = OPEN.as_bytes().to_vec();
        for (txnr, len) in (2..).zip([MAX_DATA, 1, MAX_DATA, MAX_DATA]) {
            stream.extend(format!("{txnr} syslog {len} ").bytes());
            stream.resize(stream.len() + len, b'x');
            stream.push(b'\n');
        }
        let (messages, _, errors, ended) = run(&stream, &[CAPACITY]);
        assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_DATA, 1, MAX_DATA, MAX_DATA]);
        assert_eq!((errors, ended), (0, false));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages_and_replies(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            chunks in prop::collection::vec(1usize..400, 1..10),
            close in any::<bool>(),
        ) {
            let mut stream = OPEN.as_bytes().to_vec();
            let mut replies = OPEN_REPLY.to_owned();
            for (txnr, body) in (2..).zip(&bodies) {
                stream.extend(format!("{txnr} syslog {}", body.len()).bytes());
                if !body.is_empty() {
                    stream.push(b' ');
                    stream.extend(body);
                }
                stream.push(b'\n');
                replies.push_str(&format!("{txnr} rsp 6 200 OK\n"));
            }
            if close {
                stream.extend(b"999 close 0\n");
                replies.push_str("999 rsp 0\n0 serverclose 0\n");
            }
            prop_assert_eq!(run(&stream, &chunks), (bodies, replies, 0, close));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_the_cuts_make_no_difference(
            parts in prop::collection::vec(
                prop::sample::select(vec!["1", "2", " ", "\n", "syslog", "close", "open", "0", " 3 abc\n", "x", " syslog 1 x\n"]),
                0..60,
            ),
            chunks in prop::collection::vec(1usize..20, 1..5),
        ) {
            let stream = format!("{OPEN}{}", parts.concat());
            let whole = run(stream.as_bytes(), &[stream.len()]);
            prop_assert!(whole.2 <= 1);
            prop_assert_eq!(run(stream.as_bytes(), &chunks), whole);
        }
    }
}
