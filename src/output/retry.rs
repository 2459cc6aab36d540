//! When to try again, and which receiver: pure, the moment and the randomness are arguments.
//!
//! Promise: the first failure is tried again at once (a receiver that restarts is back soon, and a peer's
//! close may be a day old), then after `min`, twice that, and so on up to `max`, each wait shortened by up
//! to a quarter at random so that a fleet does not come back in step. Of several receivers, the first in the list
//! whose wait is over is the one to try.

use core::time::Duration;
use std::time::Instant;

/// Backoff between attempts.
#[derive(Clone, Debug)]
struct Retry {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Retry {
    /// Counts a failure and returns how long to wait. `random` may be any number.
    fn failed(&mut self, random: u32) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let wait = self.min.saturating_mul(1 << doublings.min(20)).min(self.max);
        wait - wait.mul_f64(f64::from(random % 256) / 1024.0)
    }
}

/// How a receiver has failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// It has said so, or its host has: asking again at once costs nothing.
    Told,
    /// It was silent: asking again at once takes as long again.
    Silent,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Try the receiver with this number.
    Try(usize),
    /// All have failed of late: wait until then.
    Wait(Instant),
}

/// The receivers of a destination, in the order of preference.
#[derive(Debug)]
pub(super) struct Candidates {
    candidates: Vec<(Retry, Option<Instant>)>,
}

impl Candidates {
    /// `count` receivers with waits between `min` and `max`, both above zero.
    pub(super) fn new(count: usize, min: Duration, max: Duration) -> Self {
        Self { candidates: vec![(Retry { min, max, failures: 0 }, None); count.max(1)] }
    }

    /// Which of the first `among` receivers to try at `now`.
    pub(super) fn next(&self, among: usize, now: Instant) -> Next {
        let among = &self.candidates[..among.clamp(1, self.candidates.len())];
        let waits = among.iter().map(|(_, until)| until.filter(|until| *until > now));
        if let Some(at) = waits.clone().position(|until| until.is_none()) {
            return Next::Try(at);
        }
        waits.flatten().min().map_or(Next::Try(0), Next::Wait)
    }

    /// Receiver `at` has failed. `random` may be any number.
    pub(super) fn failed(&mut self, at: usize, how: Failure, now: Instant, random: u32) {
        let several = self.candidates.len() > 1;
        let (retry, until) = &mut self.candidates[at];
        if how == Failure::Silent && several && retry.failures == 0 {
            retry.failures = 1;
        }
        let wait = retry.failed(random);
        *until = Some(now + wait);
    }

    /// Forgets the failures of receiver `at`.
    pub(super) fn succeeded(&mut self, at: usize) {
        let (retry, until) = &mut self.candidates[at];
        (retry.failures, *until) = (0, None);
    }

    /// Failures of receiver `at` since its last success.
    pub(super) fn failures(&self, at: usize) -> u32 {
        self.candidates[at].0.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut retry = Retry { min: 100 * MS, max: 1000 * MS, failures: 0 };
        let waits: Vec<_> = (0..7).map(|_| retry.failed(0).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn the_first_that_need_not_wait_is_next() {
        let now = Instant::now();
        let mut group = Candidates::new(3, 100 * MS, 1000 * MS);
        assert_eq!(group.next(3, now), Next::Try(0));
        group.failed(0, Failure::Told, now, 0);
        assert_eq!(group.next(3, now), Next::Try(0), "once more at once");
        group.failed(0, Failure::Told, now, 0);
        assert_eq!(group.next(3, now), Next::Try(1));
        group.failed(1, Failure::Silent, now, 0);
        assert_eq!(group.next(3, now), Next::Try(2), "who was silent is not asked again at once");
        assert_eq!(group.next(1, now), Next::Wait(now + 100 * MS), "is the first well again?");
        group.failed(2, Failure::Told, now, 0);
        group.failed(2, Failure::Told, now + 50 * MS, 0);
        assert_eq!(group.next(3, now + 50 * MS), Next::Wait(now + 100 * MS));
        assert_eq!(group.next(3, now + 100 * MS), Next::Try(0));
        group.succeeded(0);
        assert_eq!((group.failures(0), group.failures(2)), (0, 2));
        assert_eq!(group.next(3, now), Next::Try(0));
    }

    #[test]
    fn a_lone_receiver_is_asked_again_at_once_even_if_it_was_silent() {
        let now = Instant::now();
        let mut lone = Candidates::new(1, 100 * MS, 1000 * MS);
        lone.failed(0, Failure::Silent, now, 0);
        assert_eq!(lone.next(1, now), Next::Try(0));
    }

    proptest! {
        #[test]
        fn never_longer_than_the_cap_nor_much_shorter(failures in 2u32..5000, random in any::<u32>()) {
            let mut retry = Retry { min: 50 * MS, max: 700 * MS, failures };
            let wait = retry.failed(random);
            prop_assert!(wait <= 700 * MS && wait >= 37 * MS);
        }
    }
}
