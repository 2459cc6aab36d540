//! One clock for both ends of a run.
//!
//! *Promise:* nanoseconds of `CLOCK_MONOTONIC` since the run began; sender and receiver live in one process, so
//! the difference of two readings is a latency with no clock to synchronise.
//! *Law:* never goes back, never follows a step of the wall clock.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// How long before a deadline the sleep ends and the busy wait begins.
///
/// Long enough to hide the usual wake-up (without it every record leaves some 15 us late), short enough to add
/// only a tenth to the CPU time the generator takes for sleeping and writing.
const SPIN_NS: u64 = 20_000;

/// A monotonic clock that starts near zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch_ns: u64,
}

impl Clock {
    /// Starts the clock: [`Clock::now`] counts from here.
    pub(crate) fn start() -> Self {
        Self { epoch_ns: monotonic_ns() }
    }

    /// Nanoseconds since [`Clock::start`].
    pub(crate) fn now(&self) -> u64 {
        monotonic_ns().saturating_sub(self.epoch_ns)
    }

    /// Returns at `deadline_ns` or as soon after it as the scheduler allows; never before.
    pub(crate) fn sleep_until(&self, deadline_ns: u64) {
        if deadline_ns > self.now().saturating_add(SPIN_NS) {
            let until = self.epoch_ns.saturating_add(deadline_ns).saturating_sub(SPIN_NS);
            let until = TimeSpec::from(Duration::from_nanos(until));
            // An early return (EINTR) is made up for by the busy wait; there is nothing else to do about it.
            let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until);
        }
        while self.now() < deadline_ns {
            std::hint::spin_loop();
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn monotonic_ns() -> u64 {
    // The call fails only for an unknown clock or a bad pointer, and neither is possible here.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_never_ends_early() {
        let clock = Clock::start();
        for step in [0, 1_000, SPIN_NS, 200_000] {
            let deadline = clock.now() + step;
            clock.sleep_until(deadline);
            assert!(clock.now() >= deadline);
        }
    }
}
