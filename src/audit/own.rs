//! Which records tell of system calls of the relay itself. Pure.
//!
//! Promise: true only for a SYSCALL record of this machine whose `pid=` is the relay's. Law: only what the kernel writes
//! before the first quoted value is looked at, so no text that a user chose can make a record look like the relay's.

use memchr::memchr_iter;

use super::{Kind, Record};

/// What stands before the first quoted value ends within so many bytes: the front, architecture, call, result, four
/// arguments and the parent's id, each as long as it can be.
const FRONT_MAX: usize = 320;

/// What stands before the parent's id is at least as long as
/// `audit(0.000:0): arch=0 syscall=0 a0=0 a1=0 a2=0 a3=0 items=0 `.
const FRONT_MIN: usize = 61;

/// Knows the relay's own records.
#[derive(Debug)]
pub struct Own {
    field: Vec<u8>,
    names: Vec<Vec<u8>>,
}

impl Own {
    /// For the relay with process id `pid`, on a machine that records may call by one of `names` (`node=`).
    pub fn new(pid: u32, names: Vec<Vec<u8>>) -> Self {
        Self { field: format!(" pid={pid} ").into_bytes(), names }
    }

    /// True if `record` is the SYSCALL record of one of the relay's own calls.
    #[inline]
    pub fn made(&self, record: &Record<'_>) -> bool {
        matches!(record.kind, Some(Kind::Named(b"SYSCALL"))) && self.is_ours(record)
    }

    #[inline(never)]
    fn is_ours(&self, record: &Record<'_>) -> bool {
        let front = &record.text[..record.text.len().min(FRONT_MAX + record.node.map_or(0, <[u8]>::len))];
        let Some(parent) = front.get(FRONT_MIN..) else { return false };
        // No other field that ever stands between has the letter, but for `per=`.
        let Some(at) = memchr_iter(b'p', parent).find(|at| parent[*at..].starts_with(b"ppid=")) else {
            return false;
        };
        let number = &parent[at + 5..];
        let digits = number.iter().position(|byte| *byte == b' ').unwrap_or_default();
        number[digits..].starts_with(&self.field)
            && number[..digits].iter().all(u8::is_ascii_digit)
            && !front[..FRONT_MIN + at].contains(&b'"')
            && front[FRONT_MIN + at - 1] == b' '
            && record.node.is_none_or(|node| self.names.iter().any(|name| name.eq_ignore_ascii_case(node)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_wrote_counts() {
        let own = Own::new(4242, vec![b"web-1".to_vec()]);
        let front = "msg=audit(1795424551.650:7): arch=c000003e syscall=44 success=yes exit=9 a0=9 a1=7f a2=9 a3=0 items=0";
        for (line, expected) in [
            (format!("type=SYSCALL {front} ppid=1 pid=4242 auid=0 comm=\"a\""), true),
            (format!("node=WEB-1 type=SYSCALL {front} ppid=1 pid=4242 auid=0"), true),
            (format!("node=web-2 type=SYSCALL {front} ppid=1 pid=4242 auid=0"), false),
            (format!("type=SYSCALL {front} ppid=1 pid=42 auid=0"), false),
            (format!("type=SYSCALL {front} ppid=1 pid=42420 auid=0"), false),
            (
                format!("type=SYSCALL {front} ppid=4242 pid=1 auid=0 comm=\"x\" key=\" ppid=1 pid=4242 \""),
                false,
            ),
            (format!("type=SYSCALL {front} comm=\" ppid=1 pid=4242 \""), false),
            (format!("type=USER_CMD {front} ppid=1 pid=4242 auid=0"), false),
            ("type=SYSCALL msg=audit(1795424551.650:7): ppid=1 pid=4242".to_owned(), false),
            ("type=SYSCALL".to_owned(), false),
        ] {
            assert_eq!(own.made(&Record::from_text(line.as_bytes())), expected, "{line}");
        }
        let raw = format!("{} ppid=9 pid=4242 auid=0", &front[4..]);
        assert!(own.made(&Record::from_raw(1300, raw.as_bytes())));
        assert!(!own.made(&Record::from_raw(1112, raw.as_bytes())));
    }
}
