//! How a sink behaves that is not to be perfect: it stalls, reads slowly, accepts late, resets, writes to a file.
//!
//! *Promise:* each fault comes when it was asked for, counted from the first byte or connection, and is the same for
//! every transport that can have it.
//! *Law:* without a fault asked for, nothing here costs anything; with one, the sink's time stays the time of the read.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::drive::nanoseconds;

/// What a sink does besides receiving.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// From this time after the first byte on it does nothing for that long.
    pub(crate) stalls: Vec<Stall>,
    /// Most bytes a second that it reads, over all connections.
    pub(crate) read_rate: Option<NonZeroU64>,
    /// Bytes of a connection after which it is reset.
    pub(crate) reset_after: Option<NonZeroU64>,
    /// How long a connection waits to be accepted (to 10 ms).
    pub(crate) accept_delay: Duration,
    /// Receive buffer of its sockets; the largest that is allowed, if none is given; 0 asks for none.
    pub(crate) receive_buffer: Option<usize>,
    /// Messages are counted, not judged.
    pub(crate) discard: bool,
    /// Where messages are written, one a line.
    pub(crate) write: Option<PathBuf>,
}

/// A time of doing nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    /// When, from the first byte on.
    pub(crate) after: Duration,
    /// How long.
    pub(crate) time: Duration,
}

/// The course of a sink with such a manner.
pub(super) struct Pace<'a> {
    manner: &'a Manner,
    first_ns: Option<u64>,
    stalled: usize,
    /// When the next read is allowed.
    allowed_ns: u64,
}

impl<'a> Pace<'a> {
    /// A course before its first byte.
    pub(super) fn new(manner: &'a Manner) -> Self {
        Self { manner, first_ns: None, stalled: 0, allowed_ns: 0 }
    }

    /// Sleeps as long as nothing may be read.
    pub(super) fn hold(&mut self, clock: &Clock) {
        let stall = self.first_ns.zip(self.manner.stalls.get(self.stalled));
        if let Some((first, stall)) = stall {
            let begin = first.saturating_add(nanoseconds(stall.after));
            if clock.now() >= begin {
                self.stalled += 1;
                clock.sleep_until(begin.saturating_add(nanoseconds(stall.time)));
            }
        }
        if self.manner.read_rate.is_some() {
            clock.sleep_until(self.allowed_ns);
        }
    }

    /// Most bytes the next read should take.
    pub(super) fn most(&self) -> usize {
        // A fiftieth of a second: smooth, without a system call for every few bytes.
        self.manner
            .read_rate
            .map_or(usize::MAX, |rate| usize::try_from(rate.get() / 50).unwrap_or(usize::MAX).max(1))
    }

    /// `bytes` were read at `now_ns`.
    pub(super) fn read(&mut self, bytes: usize, now_ns: u64) {
        self.first_ns.get_or_insert(now_ns);
        if let Some(rate) = self.manner.read_rate {
            let ns = u128::from(bytes as u64) * 1_000_000_000 / u128::from(rate.get());
            let ns = u64::try_from(ns).unwrap_or(u64::MAX);
            self.allowed_ns = self.allowed_ns.max(now_ns).saturating_add(ns);
        }
    }

    /// Whether a connection that has brought `bytes` is to be reset.
    pub(super) fn resets(&self, bytes: u64) -> bool {
        self.manner.reset_after.is_some_and(|most| bytes >= most.get())
    }

    /// How long a connection waits to be accepted, in ns.
    pub(super) fn accept_delay_ns(&self) -> u64 {
        nanoseconds(self.manner.accept_delay)
    }
}

/// A file of messages, one a line.
pub(super) struct Copy {
    file: BufWriter<File>,
    failure: Option<io::Error>,
}

impl Copy {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::with_capacity(1 << 20, File::create(path)?), failure: None })
    }

    /// Writes a message. A line feed within it becomes `#012`, one at its end is not doubled.
    pub(super) fn add(&mut self, message: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.write(message).err();
        }
    }

    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        for (n, line) in message.split(|&b| b == b'\n').enumerate() {
            if n > 0 {
                self.file.write_all(b"#012")?;
            }
            self.file.write_all(line)?;
        }
        self.file.write_all(b"\n")
    }

    /// Brings everything into the file.
    ///
    /// # Errors
    /// The first failure of all.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match self.failure {
            Some(failure) => Err(failure),
            None => self.file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_keeps_its_rate_and_a_stall_its_length() {
        let clock = Clock::start();
        let manner = Manner {
            read_rate: NonZeroU64::new(1_000_000),
            stalls: vec![Stall { after: Duration::ZERO, time: Duration::from_millis(20) }],
            ..Manner::default()
        };
        let mut pace = Pace::new(&manner);
        let start = clock.now();
        pace.hold(&clock);
        assert_eq!(pace.most(), 20_000);
        pace.read(10_000, start);
        pace.hold(&clock);
        // Both count from the same moment: the stall of 20 ms covers the 10 ms of the bytes.
        assert!(clock.now() >= start + 20_000_000);
        pace.read(30_000, start + 20_000_000);
        pace.hold(&clock);
        assert!(clock.now() >= start + 50_000_000);
        assert_eq!(pace.stalled, 1);
    }

    #[test]
    fn copies_have_one_message_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy");
        let mut copy = Copy::create(&path).unwrap();
        for message in [&b"<1>a"[..], b"<1>b\n", b"<1>c\nd"] {
            copy.add(message);
        }
        copy.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "<1>a\n<1>b\n<1>c#012d\n");
        let mut full = Copy::create("/dev/full".as_ref()).unwrap();
        full.add(b"<1>a");
        assert!(full.finish().is_err());
    }
}
