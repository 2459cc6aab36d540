//! When to try again: pure, the randomness is an argument.
//!
//! Promise: the first failure is tried again at once (a receiver that restarts is back soon, and a peer's
//! close may be a day old), then after `min`, twice that, and so on up to `max`, each wait shortened by up
//! to a quarter at random so that a fleet does not come back in step.

use core::time::Duration;

/// Backoff between attempts.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Retry {
    /// Waits between `min` and `max`, both above zero.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// Counts a failure and returns how long to wait. `random` may be any number.
    pub(super) fn failed(&mut self, random: u32) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let wait = self.min.saturating_mul(1 << doublings.min(20)).min(self.max);
        wait - wait.mul_f64(f64::from(random % 256) / 1024.0)
    }

    /// Forgets the failures.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut retry = Retry::new(100 * MS, 1000 * MS);
        let waits: Vec<_> = (0..7).map(|_| retry.failed(0).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000]);
        retry.succeeded();
        assert_eq!(retry.failed(0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn never_longer_than_the_cap_nor_much_shorter(failures in 2u32..5000, random in any::<u32>()) {
            let mut retry = Retry::new(50 * MS, 700 * MS);
            retry.failures = failures;
            let wait = retry.failed(random);
            prop_assert!(wait <= 700 * MS && wait >= 37 * MS);
        }
    }
}
