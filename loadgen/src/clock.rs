//! One clock for both ends of a run.
//!
//! *Promise:* nanoseconds since 1970, so that a time written into a record means something to another process, and to
//! another machine as far as their clocks agree. Within a process the difference of two readings is a latency with no
//! clock to synchronise.
//! *Law:* read once from the wall clock, when the clock starts; from there on counted by `CLOCK_MONOTONIC`. Never goes
//! back, never follows a step of the wall clock (clocks of two processes differ by what it was stepped between their
//! starts).

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// How long before a deadline the sleep ends and the busy wait begins.
///
/// Long enough to hide the usual wake-up (without it every record leaves some 15 us late), short enough to add
/// only a tenth to the CPU time the generator takes for sleeping and writing.
const SPIN_NS: u64 = 20_000;

/// How often both clocks are read at the start.
const PAIRS: usize = 16;

/// A clock that tells nanoseconds since 1970 and does not step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// When `CLOCK_MONOTONIC` was zero.
    zero_ns: u64,
}

impl Clock {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        // What comes between the two readings would be in every time told to another process: the closest pair of many.
        let pair = || {
            let before = read(ClockId::CLOCK_MONOTONIC);
            let wall = read(ClockId::CLOCK_REALTIME);
            let apart = read(ClockId::CLOCK_MONOTONIC).saturating_sub(before);
            (apart, wall.saturating_sub(before + apart / 2))
        };
        let closest = (0..PAIRS).map(|_| pair()).min();
        Self { zero_ns: closest.map_or(0, |(_, zero_ns)| zero_ns) }
    }

    /// Nanoseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.zero_ns + read(ClockId::CLOCK_MONOTONIC)
    }

    /// Returns at `deadline_ns` or as soon after it as the scheduler allows; never before.
    pub(crate) fn sleep_until(&self, deadline_ns: u64) {
        if deadline_ns > self.now().saturating_add(SPIN_NS) {
            let until = deadline_ns.saturating_sub(self.zero_ns).saturating_sub(SPIN_NS);
            let until = TimeSpec::from(Duration::from_nanos(until));
            // An early return (EINTR) is made up for by the busy wait; there is nothing else to do about it.
            let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until);
        }
        while self.now() < deadline_ns {
            std::hint::spin_loop();
        }
    }
}

/// CPU seconds of the calling thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID) as f64 / 1e9
}

/// A clock's time in nanoseconds.
fn read(clock: ClockId) -> u64 {
    // The call fails only for an unknown clock or a bad pointer, and neither is possible here; no time is negative.
    clock_gettime(clock)
        .map_or(0, |time| time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
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

    #[test]
    fn two_clocks_agree_with_the_wall_clock() {
        let (one, two) = (Clock::start(), Clock::start());
        // The wall clock may be adjusted between the two starts, but not by a minute while a test runs.
        let minute = 60_000_000_000;
        assert!(one.now().abs_diff(two.now()) < minute);
        assert!(one.now().abs_diff(read(ClockId::CLOCK_REALTIME)) < minute);
    }
}
