//! Storms of real system calls: programs started, files opened.
//!
//! *Promise:* each is one execve or openat of this process or a child of it, when it is due; the rule under which they
//! become events sees nothing else.
//! *Law:* starts as many at a time as there are CPUs, and waits for each, so nothing piles up.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::plan::Keeper;

use super::load::{Done, Schedule};

/// The program that an exec storm starts: does nothing, at once.
const PROGRAM: &str = "/bin/true";

/// What to do again and again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed<'a> {
    /// Start [`PROGRAM`].
    Exec,
    /// Open this file.
    Open(&'a Path),
}

impl Deed<'_> {
    fn perform(self, n: u64) -> io::Result<()> {
        match self {
            Self::Exec => Command::new(PROGRAM).arg(format!("lg={n}")).env_clear().status().map(drop),
            Self::Open(file) => {
                openat(AT_FDCWD, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
                Ok(())
            }
        }
    }

    /// How many at a time. One thread opens files faster than auditd can follow.
    fn workers(self) -> usize {
        match self {
            Self::Exec => std::thread::available_parallelism().map_or(1, usize::from),
            Self::Open(_) => 1,
        }
    }
}

/// Does it until a limit is reached or `stop` is set.
///
/// # Errors
/// If it cannot be done.
pub(super) fn rage(
    deed: Deed<'_>,
    schedule: &Schedule,
    announced: &AtomicU64,
    stop: &AtomicBool,
) -> io::Result<Done> {
    let Schedule { plan, count, until_ns, tolerance_ns, clock } = *schedule;
    let first_ns = plan.intended(0).unwrap_or_else(|| clock.now());
    let next = AtomicU64::new(0);
    let keeper = Mutex::new(Keeper::new(tolerance_ns));
    let worker = || -> io::Result<()> {
        let _ = nix::sys::prctl::set_timerslack(1);
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let due = plan.intended(n).unwrap_or_else(|| clock.now());
            if n >= count || due >= until_ns {
                break;
            }
            clock.sleep_until(due);
            keeper.lock().unwrap_or_else(PoisonError::into_inner).leaving(due, clock.now());
            deed.perform(n)?;
            announced.fetch_add(1, Ordering::Release);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..deed.workers()).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked"))?)
    })?;
    Ok(Done {
        count: announced.load(Ordering::Acquire),
        first_ns,
        keeper: keeper.into_inner().unwrap_or_else(PoisonError::into_inner),
        held: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::plan::Plan;
    use std::num::NonZeroU64;

    #[test]
    fn a_storm_does_what_was_asked_and_not_once_more() {
        let clock = Clock::start();
        let schedule = Schedule {
            plan: Plan::new(clock.now(), NonZeroU64::new(20_000)),
            count: 50,
            until_ns: u64::MAX,
            tolerance_ns: 1_000_000,
            clock,
        };
        let file = std::env::current_exe().unwrap();
        for deed in [Deed::Exec, Deed::Open(&file)] {
            let done = rage(deed, &schedule, &AtomicU64::new(0), &AtomicBool::new(false)).unwrap();
            assert_eq!(done.count, 50, "{deed:?}");
        }
        let stopped = rage(Deed::Exec, &schedule, &AtomicU64::new(0), &AtomicBool::new(true));
        assert_eq!(stopped.unwrap().count, 0);
        let missing = Deed::Open(Path::new("/nonexistent/file"));
        assert!(rage(missing, &schedule, &AtomicU64::new(0), &AtomicBool::new(false)).is_err());
    }
}
