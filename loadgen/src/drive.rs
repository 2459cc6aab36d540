//! Plays auditd: writes records to the stdin of the program under test, on time.
//!
//! *Promise:* on a socket pair, one blocking write per record, as auditd's dispatcher does; on a pipe, large
//! blocks. The time of every write stands in the record itself.
//! *Law:* nothing is built here, only patched and written; the schedule never slows down for a late write; time
//! held by a full stdin is told apart from the generator's own lateness.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, setsockopt, socketpair, sockopt};
use nix::sys::time::TimeVal;

use crate::clock::Clock;
use crate::corpus::Wire;
use crate::plan::{Keeper, Plan};
use crate::warm_up::{WarmUp, Warmed};

/// Most bytes of one write to a pipe.
const BLOCK: usize = 64 << 10;
/// Capacity asked for a pipe, so that writer and reader need not take turns block by block.
const PIPE_SIZE: i32 = 1 << 20;
/// How often a blocked write looks whether it has waited too long.
const PATIENCE: u16 = 500;
/// Longest sleep in one: how late a signal is noticed at most.
const NAP_NS: u64 = 100_000_000;

/// How records reach the program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FeedKind {
    /// AF_UNIX stream socket pair, one write per record, as auditd does
    Socketpair,
    /// Pipe, blocks of up to 64 KiB
    Pipe,
}

/// Our end of the target's stdin.
#[derive(Debug)]
pub(crate) struct Feed {
    fd: OwnedFd,
    kind: FeedKind,
}

/// Why the feed ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The target closed its stdin.
    Closed,
    /// The target did not read for too long.
    Stuck,
    /// The write failed.
    Failed(Errno),
    /// A signal ended the run.
    Interrupted,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// Bytes that the target's stdin has taken.
    taken: usize,
    /// It was full meanwhile.
    was_full: bool,
    /// Why that was not all.
    stop: Option<Stop>,
}

impl Feed {
    /// Makes a feed; the second value is for the target.
    ///
    /// # Errors
    /// The operating system's, if it has no descriptors left.
    pub(crate) fn open(kind: FeedKind) -> nix::Result<(Self, OwnedFd)> {
        let (ours, theirs) = match kind {
            FeedKind::Socketpair => {
                let (ours, theirs) =
                    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
                // Ours alone: the target's end stays blocking, as auditd leaves it.
                setsockopt(&ours, sockopt::SendTimeout, &TimeVal::new(0, i64::from(PATIENCE) * 1000))?;
                (ours, theirs)
            }
            FeedKind::Pipe => {
                let (theirs, ours) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
                // A smaller pipe than asked for is slower, not wrong.
                let _ = fcntl(&ours, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
                fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                (ours, theirs)
            }
        };
        Ok((Self { fd: ours, kind }, theirs))
    }

    /// Writes all of `bytes`, or as much as goes until there is a reason to stop.
    fn write(&self, bytes: &[u8], clock: &Clock, patience_ns: u64, halt: &AtomicBool) -> Written {
        let mut blocked_since = None;
        let mut taken = 0;
        let stop = loop {
            let rest = &bytes[taken..];
            if rest.is_empty() {
                break None;
            }
            let attempt = match (self.kind, blocked_since) {
                (FeedKind::Socketpair, None) => {
                    send(self.fd.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)
                }
                // Full: now wait inside the write, as auditd does, at most PATIENCE at a time.
                (FeedKind::Socketpair, Some(_)) => send(self.fd.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL),
                (FeedKind::Pipe, _) => nix::unistd::write(&self.fd, rest),
            };
            match attempt {
                Ok(n) => taken += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let now = clock.now();
                    if halt.load(Ordering::Relaxed) {
                        break Some(Stop::Interrupted);
                    }
                    if now.saturating_sub(*blocked_since.get_or_insert(now)) > patience_ns {
                        break Some(Stop::Stuck);
                    }
                    if self.kind == FeedKind::Pipe {
                        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
                        // Whatever it says, the write is tried again.
                        let _ = poll(&mut fds, PollTimeout::from(PATIENCE));
                    }
                }
                Err(Errno::EPIPE | Errno::ECONNRESET) => break Some(Stop::Closed),
                Err(errno) => break Some(Stop::Failed(errno)),
            }
        };
        Written { taken, was_full: blocked_since.is_some(), stop }
    }
}

/// When to stop, and what to put up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'a> {
    /// Records to write.
    pub(crate) count: u64,
    /// Or the time from the start of the schedule from which on none is due.
    pub(crate) duration: Option<Duration>,
    /// What is written before measuring begins.
    pub(crate) warm_up: Option<WarmUp>,
    /// How long a write may be blocked before the target is given up.
    pub(crate) patience: Duration,
    /// Own lateness that counts as on time.
    pub(crate) tolerance: Duration,
    /// Set from outside: the run ends now.
    pub(crate) halt: &'a AtomicBool,
}

/// What was written, and how well the plan was kept.
#[derive(Debug)]
pub(crate) struct Driven {
    /// Lines written, `EOE` included.
    pub(crate) written: u64,
    /// Of those, records that must arrive.
    pub(crate) sent: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// Start of the schedule; without one, time of the first write.
    pub(crate) first_ns: u64,
    /// End of the last write.
    pub(crate) last_ns: u64,
    /// End of the warm-up, if there was one and it ended.
    pub(crate) warmed: Option<Warmed>,
    /// Writes that found the target's stdin full.
    pub(crate) blocked_writes: u64,
    /// Time spent in those writes.
    pub(crate) blocked_ns: u64,
    /// How the plan was kept, behind the warm-up.
    pub(crate) keeper: Keeper,
    /// Why the feed ended early, if it did.
    pub(crate) stop: Option<Stop>,
}

/// Writes `wire` to `feed` as `plan` says, until a limit is reached or the target goes away.
///
/// `announced` is raised before each write to the number of records that may have arrived from then on. When the
/// warm-up is over, `begin` is called with the sequence number of the first measured record, before that is announced.
pub(crate) fn drive(
    feed: &Feed,
    wire: &mut Wire,
    plan: &Plan,
    limits: &Limits<'_>,
    clock: &Clock,
    announced: &AtomicU64,
    begin: &mut dyn FnMut(u64),
) -> Driven {
    // The default slack of 50 us would make every sleep that much too long. The target is already running, so
    // this thread's setting is not inherited by it.
    let _ = nix::sys::prctl::set_timerslack(1);
    let patience_ns = nanoseconds(limits.patience);
    let block = match feed.kind {
        FeedKind::Socketpair => 0,
        FeedKind::Pipe => BLOCK,
    };
    let first_ns = plan.intended(0).unwrap_or_else(|| clock.now());
    let end_ns = limits.duration.map(|duration| first_ns.saturating_add(nanoseconds(duration)));
    let mut driven = Driven {
        written: 0,
        sent: 0,
        bytes: 0,
        first_ns,
        last_ns: first_ns,
        warmed: None,
        blocked_writes: 0,
        blocked_ns: 0,
        keeper: Keeper::new(nanoseconds(limits.tolerance)),
        stop: None,
    };

    // With a schedule the warm-up's end is a record's number at once, without one the clock decides.
    let (mut warm_count, warm_end_ns) = match limits.warm_up {
        None => (0, 0),
        Some(WarmUp::Count(count)) => (count, 0),
        Some(WarmUp::Time(time)) => {
            let end_ns = first_ns.saturating_add(nanoseconds(time));
            match plan.intended(0) {
                Some(_) => (end_ns.checked_sub(1).map_or(0, |last| plan.due(last)), 0),
                None => (u64::MAX, end_ns),
            }
        }
    };

    // Where the lines of a block end, and how many records there are up to there.
    let mut ends: Vec<(usize, u64)> = Vec::with_capacity(BLOCK / 64);
    while driven.written < limits.count && wire.peek().is_some() {
        let mut now = clock.now();
        let due = plan.intended(driven.written);
        if end_ns.is_some_and(|end| due.unwrap_or(now) >= end) {
            break;
        }
        if let Some(due) = due
            && due > now
        {
            driven.keeper.caught_up();
            while due > now && !limits.halt.load(Ordering::Relaxed) {
                clock.sleep_until(due.min(now.saturating_add(NAP_NS)));
                now = clock.now();
            }
        }
        if limits.halt.load(Ordering::Relaxed) {
            driven.stop = Some(Stop::Interrupted);
            break;
        }

        if limits.warm_up.is_some() && driven.warmed.is_none() {
            if warm_end_ns > 0 && now >= warm_end_ns {
                warm_count = driven.written;
            }
            if driven.written >= warm_count {
                let at_ns = due.unwrap_or(now);
                begin(wire.sequence());
                driven.keeper.restart();
                driven.warmed = Some(Warmed { written: driven.written, sent: wire.sequence(), at_ns });
                now = clock.now();
            }
        }

        let mut range = prepare_one(wire, plan, driven.written, now, &mut driven.keeper);
        let mut lines = 1;
        ends.clear();
        ends.push((range.len(), wire.sequence()));
        let mut ready = plan.due(now).min(limits.count);
        if limits.warm_up.is_some() && driven.warmed.is_none() {
            // The border is a record, not a block.
            ready = ready.min(warm_count);
        }
        while let Some((len, true)) = wire.peek()
            && range.len() + len <= block
            && driven.written + lines < ready
        {
            range.end = prepare_one(wire, plan, driven.written + lines, now, &mut driven.keeper).end;
            lines += 1;
            ends.push((range.len(), wire.sequence()));
        }

        announced.store(wire.sequence(), Ordering::Release);
        let write = feed.write(wire.bytes(range), clock, patience_ns, limits.halt);
        if write.was_full {
            let held_ns = clock.now().saturating_sub(now);
            driven.keeper.blocked(held_ns);
            driven.blocked_writes += 1;
            driven.blocked_ns += held_ns;
        }
        // Of a block that was not taken whole, the lines that were.
        let whole = ends.partition_point(|&(end, _)| end <= write.taken);
        driven.written += whole as u64;
        if let Some(&(_, sequence)) = ends[..whole].last() {
            driven.sent = sequence;
        }
        driven.bytes += write.taken as u64;
        if write.stop.is_some() {
            driven.stop = write.stop;
            break;
        }
    }
    driven.last_ns = clock.now();
    driven
}

/// Prepares line `n`; without a schedule it is due now.
fn prepare_one(
    wire: &mut Wire,
    plan: &Plan,
    n: u64,
    now: u64,
    keeper: &mut Keeper,
) -> std::ops::Range<usize> {
    let due = plan.intended(n).unwrap_or(now);
    keeper.leaving(due, now);
    wire.prepare(due, now)
}

/// A duration in nanoseconds; longer than 584 years is forever.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Closes every descriptor from 3 on that this process was started with.
///
/// auditd's plugins get none; whatever a shell or a test runner left open must not reach the target either.
/// To be called before anything else is opened.
pub(crate) fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let inherited: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in inherited {
        // One of them is the directory itself, closed by now.
        let _ = nix::unistd::close(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Corpus, Shape};
    use std::io::Read as _;
    use std::num::NonZeroU64;

    fn feed_all(kind: FeedKind, count: u64, rate: Option<u64>, eoe: bool) -> (Driven, Vec<u8>) {
        let (driven, bytes, begun) = feed_warm(kind, count, rate, eoe, None);
        assert!(begun.is_empty());
        (driven, bytes)
    }

    fn feed_warm(
        kind: FeedKind,
        count: u64,
        rate: Option<u64>,
        eoe: bool,
        warm_up: Option<WarmUp>,
    ) -> (Driven, Vec<u8>, Vec<u64>) {
        let (feed, theirs) = Feed::open(kind).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(theirs).read_to_end(&mut all).unwrap();
            all
        });
        let mut wire = Corpus::generate(Shape { seed: 3, eoe, ..Shape::default() }).wire;
        let clock = Clock::start();
        let plan = Plan::new(clock.now(), rate.and_then(NonZeroU64::new));
        let limits = Limits {
            count,
            duration: None,
            warm_up,
            patience: Duration::from_secs(10),
            tolerance: Duration::from_secs(10),
            halt: &AtomicBool::new(false),
        };
        let announced = AtomicU64::new(0);
        let mut begun = Vec::new();
        let mut begin = |sequence| {
            assert!(announced.load(Ordering::Relaxed) <= sequence);
            begun.push(sequence);
        };
        let driven = drive(&feed, &mut wire, &plan, &limits, &clock, &announced, &mut begin);
        assert_eq!(announced.load(Ordering::Relaxed), driven.sent);
        drop(feed);
        (driven, reader.join().unwrap(), begun)
    }

    #[test]
    fn both_feeds_write_exactly_what_was_asked_for() {
        for kind in [FeedKind::Socketpair, FeedKind::Pipe] {
            for rate in [None, Some(1_000_000)] {
                for eoe in [false, true] {
                    let (driven, bytes) = feed_all(kind, 20_001, rate, eoe);
                    assert_eq!(driven.written, 20_001);
                    assert_eq!(driven.bytes, bytes.len() as u64);
                    assert_eq!(bytes.iter().filter(|&&b| b == b'\n').count(), 20_001);
                    assert_eq!(driven.sent < driven.written, eoe);
                    assert_eq!(driven.stop, None);
                }
            }
        }
    }

    #[test]
    fn a_warm_up_ends_at_its_record() {
        for kind in [FeedKind::Socketpair, FeedKind::Pipe] {
            for (warm_up, expected) in [
                (WarmUp::Count(1234), Some(1234)),
                (WarmUp::Count(0), Some(0)),
                (WarmUp::Count(5000), None),
                // 1,000,000 a second: 2000 are due before 2 ms.
                (WarmUp::Time(Duration::from_millis(2)), Some(2000)),
                (WarmUp::Time(Duration::ZERO), Some(0)),
                (WarmUp::Time(Duration::from_secs(1)), None),
            ] {
                let (driven, _, begun) = feed_warm(kind, 5000, Some(1_000_000), true, Some(warm_up));
                assert_eq!(driven.written, 5000);
                assert_eq!(driven.warmed.map(|warmed| warmed.written), expected, "{warm_up:?}");
                assert_eq!(driven.warmed.map(|warmed| warmed.sent), begun.first().copied());
                if let Some(warmed) = driven.warmed {
                    assert_eq!(warmed.at_ns - driven.first_ns, warmed.written * 1000);
                    assert!(warmed.written == 0 || warmed.sent < warmed.written);
                }
            }
            // Without a schedule the clock decides; a quick writer has more to do than a millisecond's worth.
            let (driven, _, begun) =
                feed_warm(kind, 200_000, None, false, Some(WarmUp::Time(Duration::from_millis(1))));
            let warmed = driven.warmed.unwrap();
            assert_eq!(begun, [warmed.sent]);
            assert!(warmed.written < driven.written && warmed.at_ns >= driven.first_ns + 1_000_000);
        }
    }

    #[test]
    fn a_target_that_goes_away_is_noticed() {
        for kind in [FeedKind::Socketpair, FeedKind::Pipe] {
            let (feed, theirs) = Feed::open(kind).unwrap();
            drop(theirs);
            let clock = Clock::start();
            let written = feed.write(b"x", &clock, 0, &AtomicBool::new(false));
            assert_eq!((written.taken, written.stop), (0, Some(Stop::Closed)));
        }
    }

    #[test]
    fn a_target_that_never_reads_is_given_up() {
        for kind in [FeedKind::Socketpair, FeedKind::Pipe] {
            let (feed, _theirs) = Feed::open(kind).unwrap();
            let clock = Clock::start();
            let block = vec![b'x'; 4 << 20];
            let written = feed.write(&block, &clock, 1, &AtomicBool::new(false));
            assert_eq!((written.was_full, written.stop), (true, Some(Stop::Stuck)));
            // Nobody waits for the rest of a run that is over.
            let written = feed.write(&block, &clock, u64::MAX, &AtomicBool::new(true));
            assert_eq!(written.stop, Some(Stop::Interrupted));
        }
    }

    #[test]
    fn of_a_block_that_a_target_leaves_in_the_middle_the_lines_taken_are_counted() {
        for kind in [FeedKind::Socketpair, FeedKind::Pipe] {
            for eoe in [false, true] {
                let (feed, theirs) = Feed::open(kind).unwrap();
                let mut wire = Corpus::generate(Shape { eoe, ..Shape::default() }).wire;
                let clock = Clock::start();
                let halt = AtomicBool::new(false);
                let limits = Limits {
                    count: 1_000_000,
                    duration: None,
                    warm_up: None,
                    patience: Duration::ZERO,
                    tolerance: Duration::ZERO,
                    halt: &halt,
                };
                let plan = Plan::new(clock.now(), None);
                let driven = drive(&feed, &mut wire, &plan, &limits, &clock, &AtomicU64::new(0), &mut |_| ());
                drop(feed);
                let mut all = Vec::new();
                std::fs::File::from(theirs).read_to_end(&mut all).unwrap();
                let lines: Vec<&[u8]> = all.split_inclusive(|&byte| byte == b'\n').collect();
                let whole = lines.iter().filter(|line| line.ends_with(b"\n")).count() as u64;
                let marked =
                    lines.iter().filter(|line| line.ends_with(b"\n") && !line.starts_with(b"type=EOE"));
                assert_eq!(driven.stop, Some(Stop::Stuck));
                assert_eq!((driven.written, driven.bytes), (whole, all.len() as u64), "{kind:?}");
                assert_eq!(driven.sent, marked.count() as u64, "{kind:?}");
            }
        }
    }

    #[test]
    fn a_run_that_is_interrupted_ends_before_its_next_record_is_due() {
        let (feed, _theirs) = Feed::open(FeedKind::Socketpair).unwrap();
        let mut wire = Corpus::generate(Shape::default()).wire;
        let clock = Clock::start();
        let halt = AtomicBool::new(true);
        let limits = Limits {
            count: 2,
            duration: None,
            warm_up: None,
            patience: Duration::ZERO,
            tolerance: Duration::ZERO,
            halt: &halt,
        };
        // In an hour.
        let plan = Plan::new(clock.now() + 3_600_000_000_000, NonZeroU64::new(1));
        let driven = drive(&feed, &mut wire, &plan, &limits, &clock, &AtomicU64::new(0), &mut |_| ());
        assert_eq!((driven.written, driven.sent, driven.stop), (0, 0, Some(Stop::Interrupted)));
    }
}
