//! How often standard input is looked at. Pure; time is an argument.
//!
//! Promise: records that come seldom are read at once, one by one; while they come in quick succession, what comes
//! within one gathering time is read together. Law: no rest lasts longer than the gathering time, nor than it takes
//! [`ENOUGH`] bytes to come at the rate of the last ones, counted from the last read, work included; so a steady writer
//! never finds its socket full because of a rest.
//!
//! A record that is read by itself costs a wake-up and a write, some twenty times what its bytes cost; auditd
//! pays the like on its side and has nothing to win by ours. So network cards moderate their interrupts, and so do
//! we.

use std::time::{Duration, Instant};

/// So many reads in less than so many gathering times are quick succession.
const READS: u8 = 8;

/// What may come during a rest: a fifth of what auditd's socket holds of records of a usual size.
const ENOUGH: u32 = 16 * 1024;

/// A rest shorter than this saves nothing.
const SHORTEST: Duration = Duration::from_micros(100);

/// Decides, after each read, whether to wait for input or for time to pass.
#[derive(Debug)]
pub(super) struct Pace {
    gather: Duration,
    /// The moments of the last reads, the oldest at `next`.
    reads: [Option<Instant>; READS as usize],
    next: usize,
    /// The records come in quick succession.
    flows: bool,
    /// Until when the last read allows to leave the input alone.
    until: Option<Instant>,
}

impl Pace {
    /// Lets records gather for `gather`; zero: never.
    pub(super) fn new(gather: Duration) -> Self {
        Self { gather, reads: [None; READS as usize], next: 0, flows: false, until: None }
    }

    /// How long to leave the input alone from `now` on; `None`: wait for what it brings.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let left = self.until.filter(|_| self.flows)?.saturating_duration_since(now);
        (left >= SHORTEST).then_some(left)
    }

    /// `bytes` were read at `now`.
    pub(super) fn read(&mut self, bytes: usize, now: Instant) {
        let since = |before: Instant| now.saturating_duration_since(before);
        let last = (self.next + self.reads.len() - 1) % self.reads.len();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        // At the same rate, this long until there is enough. Where twice as much has come, we are the slow ones.
        let rest = |elapsed: Duration| now + (elapsed.min(self.gather) * ENOUGH / bytes).min(self.gather);
        self.until = self.reads[last].filter(|_| bytes < 2 * ENOUGH).map(since).map(rest);
        let oldest = self.reads[self.next].replace(now);
        self.next = (self.next + 1) % self.reads.len();
        // Once they flow, only a look in vain shows that they do not any more.
        self.flows |= oldest.is_some_and(|oldest| since(oldest) < self.gather * u32::from(READS));
    }

    /// A look after a rest found nothing.
    pub(super) fn found_nothing(&mut self) {
        self.flows = false;
        self.reads = [None; READS as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GATHER: Duration = Duration::from_millis(1);

    /// Reads of `bytes` at the given distances; returns what follows each.
    fn rests(gather: Duration, bytes: usize, distances_us: &[u64]) -> Vec<Option<Duration>> {
        let mut pace = Pace::new(gather);
        let mut now = Instant::now();
        let mut read = |distance: &u64| {
            now += Duration::from_micros(*distance);
            pace.read(bytes, now);
            pace.rest(now)
        };
        distances_us.iter().map(&mut read).collect()
    }

    #[test]
    fn seldom_records_never_wait() {
        assert!(rests(GATHER, 200, &[1000; 100]).iter().all(Option::is_none));
        // The records of one event in one burst, a hundred events a second.
        let bursts: Vec<u64> = [10_000, 20, 20, 20, 20, 20].repeat(20);
        assert!(rests(GATHER, 200, &bursts).iter().all(Option::is_none));
    }

    #[test]
    fn quick_ones_gather_from_the_ninth_on() {
        let rests = rests(GATHER, 200, &[500; 20]);
        let (before, after) = rests.split_at(usize::from(READS));
        assert!(before.iter().all(Option::is_none), "{rests:?}");
        assert!(after.iter().all(|rest| *rest == Some(GATHER)), "{rests:?}");
    }

    #[test]
    fn a_gathering_time_of_zero_is_none() {
        assert!(rests(Duration::ZERO, 200, &[0; 100]).iter().all(Option::is_none));
    }

    #[test]
    fn the_faster_they_come_the_shorter_the_rest() {
        let last = |bytes, distance| *rests(GATHER, bytes, &[distance; 20]).last().unwrap();
        // 8 KiB in half a millisecond: as much again in the next, and that is enough.
        assert_eq!(last(8 * 1024, 500), Some(GATHER));
        assert_eq!(last(16 * 1024, 500), Some(Duration::from_micros(500)));
        assert_eq!(last(31 * 1024, 620), Some(Duration::from_micros(320)));
        // A flood is read as fast as it comes, also where our own work makes the time between two reads long.
        assert_eq!(last(61 * 1024, 300), None);
        assert_eq!(last(61 * 1024, 5_000), None);
    }

    #[test]
    fn work_counts_as_rest() {
        let mut pace = Pace::new(GATHER);
        let start = Instant::now();
        for n in 0..20 {
            pace.read(200, start + GATHER / 2 * n);
        }
        let read = start + GATHER / 2 * 19;
        assert_eq!(pace.rest(read), Some(GATHER));
        assert_eq!(pace.rest(read + GATHER / 4), Some(GATHER * 3 / 4));
        assert_eq!(pace.rest(read + GATHER), None);
    }

    #[test]
    fn a_look_in_vain_ends_the_flow() {
        let mut pace = Pace::new(GATHER);
        let mut now = Instant::now();
        let mut read = |pace: &mut Pace| {
            now += GATHER / 2;
            pace.read(200, now);
            pace.rest(now)
        };
        let rests: Vec<_> = (0..=READS).map(|_| read(&mut pace)).collect();
        assert_eq!(rests.last(), Some(&Some(GATHER)));
        pace.found_nothing();
        let rests: Vec<_> = (0..=READS).map(|_| read(&mut pace)).collect();
        let (last, before) = rests.split_last().unwrap();
        assert!(before.iter().all(Option::is_none), "{rests:?}");
        assert_eq!(*last, Some(GATHER));
    }

    proptest! {
        #[test]
        fn no_rest_is_longer_than_it_may_be(
            reads in prop::collection::vec((0u64..20_000, 0usize..200_000), 1..100),
            gather_us in 0u64..20_000,
        ) {
            let gather = Duration::from_micros(gather_us);
            let mut pace = Pace::new(gather);
            let mut now = Instant::now();
            for (distance, bytes) in reads {
                now += Duration::from_micros(distance);
                pace.read(bytes, now);
                prop_assert!(pace.rest(now).is_none_or(|rest| (SHORTEST..=gather).contains(&rest)));
            }
        }
    }
}
