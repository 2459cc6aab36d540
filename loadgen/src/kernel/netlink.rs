//! The kernel's audit interface (NETLINK_AUDIT): status, rules, user messages.
//!
//! *Promise:* one request, its answer, and an error that carries the kernel's own reason.
//! *Law:* what is not understood in an answer is skipped; numbers are in the host's byte order, as the kernel has them.
//!
//! ```text
//! netlink header (16):  length u32 | type u16 | flags u16 | sequence u32 | port u32 | payload ...
//! ```

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

/// Message types of the audit interface.
const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
const DELETE_RULE: u16 = 1012;
const LIST_RULES: u16 = 1013;
/// Message types of netlink itself.
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const HEADER: usize = 16;
/// The longest answer: a rule with its strings.
const ROOM: usize = 16 << 10;
/// How long the kernel may take to answer. It answers from within the request unless audit is being reconfigured.
const PATIENCE_S: i64 = 10;

/// What can be set, as bits of the first word of the kernel's `struct audit_status`.
const SET_ENABLED: u32 = 1;
const SET_FAILURE: u32 = 1 << 1;
const SET_RATE_LIMIT: u32 = 1 << 3;
const SET_BACKLOG_LIMIT: u32 = 1 << 4;
const SET_BACKLOG_WAIT_TIME: u32 = 1 << 5;
/// Words of the structure up to the accumulated wait time.
const STATUS_WORDS: usize = 11;

/// The kernel's audit status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// 0 off, 1 on, 2 locked until the next boot.
    pub(crate) enabled: u32,
    /// What the kernel does on loss: 0 nothing, 1 log, 2 panic.
    pub(crate) failure: u32,
    /// The auditd that is registered; 0: none.
    pub(crate) pid: u32,
    /// Records a second above which records are dropped; 0: no limit.
    pub(crate) rate_limit: u32,
    /// Records that may wait for auditd.
    pub(crate) backlog_limit: u32,
    /// Records lost since boot (or since somebody reset it).
    pub(crate) lost: u32,
    /// Records that wait for auditd.
    pub(crate) backlog: u32,
    /// Longest sleep of a process when the backlog is full, jiffies.
    pub(crate) backlog_wait_time: u32,
}

/// A change of the status; `None` leaves a value alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    /// See [`Status::enabled`].
    pub(crate) enabled: Option<u32>,
    /// See [`Status::failure`].
    pub(crate) failure: Option<u32>,
    /// See [`Status::rate_limit`].
    pub(crate) rate_limit: Option<u32>,
    /// See [`Status::backlog_limit`].
    pub(crate) backlog_limit: Option<u32>,
    /// See [`Status::backlog_wait_time`].
    pub(crate) backlog_wait_time: Option<u32>,
}

/// A socket to the kernel's audit system.
#[derive(Debug)]
pub(crate) struct Audit {
    socket: OwnedFd,
    sequence: u32,
}

impl Audit {
    /// Opens the interface.
    ///
    /// # Errors
    /// If the kernel has no audit system.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkAudit,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Reads the status.
    ///
    /// # Errors
    /// If this process may not.
    pub(crate) fn status(&mut self) -> io::Result<Status> {
        let mut found = None;
        // No acknowledgement: it would come first, and what follows it would be taken for an answer to the next.
        self.ask(GET, &[], REQUEST, |kind, payload| {
            if kind == GET {
                found = Some(parse_status(payload));
            }
            found.is_some()
        })?;
        found.ok_or_else(|| io::Error::other("the kernel did not tell its audit status"))
    }

    /// Changes the status.
    ///
    /// # Errors
    /// If this process may not, or the audit system is locked.
    pub(crate) fn change(&mut self, change: &Change) -> io::Result<()> {
        self.ask(SET, &encode_change(change), REQUEST | ACKNOWLEDGE, |_, _| false)
    }

    /// All rules that are loaded, as the kernel tells them (see [`super::rules`]).
    ///
    /// # Errors
    /// If this process may not.
    pub(crate) fn rules(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut rules = Vec::new();
        self.ask(LIST_RULES, &[], REQUEST, |kind, payload| {
            if kind == LIST_RULES {
                rules.push(payload.to_vec());
            }
            false
        })?;
        Ok(rules)
    }

    /// Loads a rule.
    ///
    /// # Errors
    /// If it is there already, is not understood, or this process may not.
    pub(crate) fn add_rule(&mut self, rule: &[u8]) -> io::Result<()> {
        self.ask(ADD_RULE, rule, REQUEST | ACKNOWLEDGE, |_, _| false)
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// If it is not there, or this process may not.
    pub(crate) fn delete_rule(&mut self, rule: &[u8]) -> io::Result<()> {
        self.ask(DELETE_RULE, rule, REQUEST | ACKNOWLEDGE, |_, _| false)
    }

    /// Sends one user message of record type `kind`, without waiting for an answer. Returns when the kernel has taken
    /// it; that takes as long as `backlog_wait_time` if its backlog is full.
    ///
    /// `text` must end with a NUL.
    ///
    /// # Errors
    /// If this process may not.
    pub(crate) fn send_user_message(&self, kind: u16, frame: &mut Vec<u8>, text: &[u8]) -> io::Result<()> {
        frame.clear();
        put_header(frame, kind, REQUEST, 1, text.len());
        frame.extend_from_slice(text);
        loop {
            match sendto(self.socket.as_raw_fd(), frame, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends a request and gives every answer to `each`, until that or the kernel says it was the last.
    fn ask(
        &mut self,
        kind: u16,
        payload: &[u8],
        flags: u16,
        mut each: impl FnMut(u16, &[u8]) -> bool,
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut request = Vec::with_capacity(HEADER + payload.len());
        put_header(&mut request, kind, flags, self.sequence, payload.len());
        request.extend_from_slice(payload);
        sendto(self.socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut room = vec![0; ROOM];
        loop {
            let n = match recv(self.socket.as_raw_fd(), &mut room, MsgFlags::empty()) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {
                    let message = "the kernel's audit system does not answer; is it held by another process?";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
                Err(errno) => return Err(errno.into()),
            };
            // Answers to requests that were given up, and refusals of user messages, have other numbers.
            let Some((answer, sequence, body)) = split(&room[..n]) else { continue };
            if sequence != self.sequence {
                continue;
            }
            match answer {
                DONE => return Ok(()),
                ERROR => match word(body, 0).cast_signed() {
                    0 => return Ok(()),
                    code => return Err(io::Error::from_raw_os_error(-code)),
                },
                kind if each(kind, body) => return Ok(()),
                _ => {}
            }
        }
    }
}

fn put_header(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: usize) {
    let length = u32::try_from(HEADER + payload).unwrap_or(u32::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
}

/// Type, sequence number and payload of a message. The audit system is known to write the payload's length instead of
/// the message's, so the length of what was received decides.
fn split(message: &[u8]) -> Option<(u16, u32, &[u8])> {
    let kind = u16::from_ne_bytes([*message.get(4)?, *message.get(5)?]);
    let payload = message.get(HEADER..)?;
    Some((kind, word(message, 2), payload))
}

/// The 32-bit word of that index; 0 where an older kernel's structure ends before it.
fn word(bytes: &[u8], index: usize) -> u32 {
    let chunk = bytes.get(index * 4..).and_then(|rest| rest.first_chunk());
    chunk.map_or(0, |chunk| u32::from_ne_bytes(*chunk))
}

fn parse_status(payload: &[u8]) -> Status {
    Status {
        enabled: word(payload, 1),
        failure: word(payload, 2),
        pid: word(payload, 3),
        rate_limit: word(payload, 4),
        backlog_limit: word(payload, 5),
        lost: word(payload, 6),
        backlog: word(payload, 7),
        backlog_wait_time: word(payload, 9),
    }
}

fn encode_change(change: &Change) -> Vec<u8> {
    let mut words = [0u32; STATUS_WORDS];
    let fields = [
        (SET_ENABLED, 1, change.enabled),
        (SET_FAILURE, 2, change.failure),
        (SET_RATE_LIMIT, 4, change.rate_limit),
        (SET_BACKLOG_LIMIT, 5, change.backlog_limit),
        (SET_BACKLOG_WAIT_TIME, 9, change.backlog_wait_time),
    ];
    for (bit, index, value) in fields {
        if let Some(value) = value {
            words[0] |= bit;
            words[index] = value;
        }
    }
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_sets_only_what_it_names() {
        let payload = encode_change(&Change {
            enabled: Some(1),
            backlog_limit: Some(8192),
            backlog_wait_time: Some(0),
            ..Change::default()
        });
        let words: Vec<u32> = (0..STATUS_WORDS).map(|index| word(&payload, index)).collect();
        assert_eq!(words, [0b11_0001, 1, 0, 0, 0, 8192, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_status_of_an_older_kernel_reads_as_zero_beyond_its_end() {
        let payload: Vec<u8> = (0u32..8).flat_map(u32::to_ne_bytes).collect();
        let expected = Status {
            enabled: 1,
            failure: 2,
            pid: 3,
            rate_limit: 4,
            backlog_limit: 5,
            lost: 6,
            backlog: 7,
            backlog_wait_time: 0,
        };
        assert_eq!(parse_status(&payload), expected);
    }

    #[test]
    fn messages_are_split_whatever_length_they_claim() {
        let mut message = Vec::new();
        put_header(&mut message, 1013, 2, 7, 3);
        message.extend(b"abc");
        assert_eq!(split(&message), Some((1013, 7, &b"abc"[..])));
        message[0] = 3;
        assert_eq!(split(&message), Some((1013, 7, &b"abc"[..])));
        assert_eq!(split(&message[..10]), None);
    }
}
