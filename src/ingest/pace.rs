//! How often standard input is looked at. Pure; time is an argument.
//!
//! Promise: records that come seldom are read at once, one by one; while they come in quick succession, what comes
//! within one gathering time is read together. Law: nothing waits longer than the gathering time, and no time is
//! spent waiting after a read that shows the sender to be faster than that.
//!
//! A record that is read by itself costs a wake-up and a write, some twenty times what its bytes cost; auditd
//! pays the like on its side and has nothing to win by ours. So network cards moderate their interrupts, and so do
//! we: a look a millisecond costs next to nothing, whatever the rate.

use std::time::{Duration, Instant};

/// So many reads in less than so many gathering times are quick succession.
const READS: u8 = 8;

/// A read of this many bytes shows that a writer may soon have to wait: a quarter of what auditd's socket holds of
/// small records, and two of its fixed frames.
const BUSY: usize = 16 * 1024;

/// Decides, after each read, whether to wait for input or for time to pass.
#[derive(Debug)]
pub(super) struct Pace {
    gather: Duration,
    /// The moments of the last reads, the oldest at `next`.
    reads: [Option<Instant>; READS as usize],
    next: usize,
    /// The records come in quick succession.
    flows: bool,
    /// The last read was a large one.
    busy: bool,
}

impl Pace {
    /// Lets records gather for `gather`; zero: never.
    pub(super) fn new(gather: Duration) -> Self {
        Self { gather, reads: [None; READS as usize], next: 0, flows: false, busy: false }
    }

    /// How long to leave the input alone now; `None`: wait for what it brings.
    pub(super) fn rest(&self) -> Option<Duration> {
        (self.flows && !self.busy).then_some(self.gather)
    }

    /// `bytes` were read at `now`.
    pub(super) fn read(&mut self, bytes: usize, now: Instant) {
        let oldest = self.reads[self.next].replace(now);
        self.next = (self.next + 1) % self.reads.len();
        let span = self.gather * u32::from(READS);
        self.busy = bytes >= BUSY;
        // Once they flow, only a look in vain shows that they do not any more.
        self.flows |= oldest.is_some_and(|oldest| now.saturating_duration_since(oldest) < span);
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

    const GATHER: Duration = Duration::from_millis(1);

    /// Reads at the given distances; returns what follows each.
    fn rests(gather: Duration, distances_us: &[u64]) -> Vec<Option<Duration>> {
        let mut pace = Pace::new(gather);
        let mut now = Instant::now();
        let mut read = |distance: &u64| {
            now += Duration::from_micros(*distance);
            pace.read(200, now);
            pace.rest()
        };
        distances_us.iter().map(&mut read).collect()
    }

    #[test]
    fn seldom_records_never_wait() {
        assert!(rests(GATHER, &[1000; 100]).iter().all(Option::is_none));
        // The records of one event in one burst, a hundred events a second.
        let bursts: Vec<u64> = [10_000, 20, 20, 20, 20, 20].repeat(20);
        assert!(rests(GATHER, &bursts).iter().all(Option::is_none));
    }

    #[test]
    fn quick_ones_gather_from_the_ninth_on() {
        let rests = rests(GATHER, &[500; 20]);
        assert!(rests[..usize::from(READS)].iter().all(Option::is_none), "{rests:?}");
        assert!(rests[usize::from(READS)..].iter().all(|rest| *rest == Some(GATHER)), "{rests:?}");
    }

    #[test]
    fn a_gathering_time_of_zero_is_none() {
        assert!(rests(Duration::ZERO, &[0; 100]).iter().all(Option::is_none));
    }

    #[test]
    fn a_busy_writer_is_not_kept_waiting_and_a_look_in_vain_ends_it() {
        let mut pace = Pace::new(GATHER);
        let now = Instant::now();
        for _ in 0..=READS {
            pace.read(200, now);
        }
        assert_eq!(pace.rest(), Some(GATHER));
        pace.read(BUSY, now);
        assert_eq!(pace.rest(), None);
        pace.read(BUSY - 1, now);
        assert_eq!(pace.rest(), Some(GATHER));
        pace.found_nothing();
        assert_eq!(pace.rest(), None);
        pace.read(200, now);
        assert_eq!(pace.rest(), None);
    }
}
