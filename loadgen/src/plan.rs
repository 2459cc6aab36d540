//! The schedule: when each record is due, and whose fault a late one is. Pure; time is an argument.
//!
//! *Promise:* record n is due at an exact nanosecond that follows from n alone: `start + n / rate`, or where the ramp's
//! line or the bursts' steps have reached n. No rounding adds up over a run, however long.
//! *Law:* the schedule never slows down for a late sender (wrk2's rule), so a stall of the program under test is
//! counted for every record that should have left during it, not only for the one that was stuck.

mod pace;

use std::num::NonZeroU64;

pub(crate) use self::pace::{Burst, Pace, Ramp};

/// When record `n` (counted from 0, every line written is one) should be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    start_ns: u64,
    pace: Option<Pace>,
}

impl Plan {
    /// A plan of `rate` records a second from `start_ns` on; `None` is "as fast as possible".
    pub(crate) fn new(start_ns: u64, rate: Option<NonZeroU64>) -> Self {
        Self::paced(start_ns, rate.map(Pace::Constant))
    }

    /// A plan from `start_ns` on; `None` is "as fast as possible".
    pub(crate) fn paced(start_ns: u64, pace: Option<Pace>) -> Self {
        Self { start_ns, pace }
    }

    /// When the schedule starts; without one, about when the first record is written.
    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// When record `n` is due; `None` if there is no schedule.
    pub(crate) fn intended(&self, n: u64) -> Option<u64> {
        Some(self.start_ns.saturating_add(self.pace?.intended(n)))
    }

    /// How many records are due at `now_ns` at the latest; without a schedule always all of them.
    pub(crate) fn due(&self, now_ns: u64) -> u64 {
        let Some(pace) = self.pace else { return u64::MAX };
        now_ns.checked_sub(self.start_ns).map_or(0, |elapsed| pace.due(elapsed))
    }
}

/// Watches whether the generator keeps the plan, and tells its own lateness from that of the program under test.
///
/// The time that writes spent on the target's full stdin since the schedule was last met is the target's part of a
/// record's lateness, also while the backlog is worked off. The rest is the generator's own (too little CPU, too high
/// a rate) and makes the run worthless as a statement about the target.
#[derive(Debug)]
pub(crate) struct Keeper {
    tolerance_ns: u64,
    held_ns: u64,
    total: u64,
    late: u64,
    worst_ns: u64,
}

impl Keeper {
    /// Lateness up to `tolerance_ns` is taken as kept.
    pub(crate) fn new(tolerance_ns: u64) -> Self {
        Self { tolerance_ns, held_ns: 0, total: 0, late: 0, worst_ns: 0 }
    }

    /// The generator is ahead of its schedule: whatever held it before is made up for.
    pub(crate) fn caught_up(&mut self) {
        self.held_ns = 0;
    }

    /// What was late so far does not count: the warm-up is over.
    pub(crate) fn restart(&mut self) {
        *self = Self { held_ns: self.held_ns, ..Self::new(self.tolerance_ns) };
    }

    /// The target's stdin was full for `ns`: that much lateness is excused until [`Keeper::caught_up`].
    pub(crate) fn blocked(&mut self, ns: u64) {
        self.held_ns = self.held_ns.saturating_add(ns);
    }

    /// A record due at `due_ns` is about to be written at `now_ns`.
    pub(crate) fn leaving(&mut self, due_ns: u64, now_ns: u64) {
        self.total += 1;
        let lag = now_ns.saturating_sub(due_ns).saturating_sub(self.held_ns);
        self.worst_ns = self.worst_ns.max(lag);
        if lag > self.tolerance_ns {
            self.late += 1;
        }
    }

    /// Adds what another has watched.
    pub(crate) fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.late += other.late;
        self.worst_ns = self.worst_ns.max(other.worst_ns);
    }

    /// False if more than 1 % of the records left too late through the generator's own fault.
    pub(crate) fn kept(&self) -> bool {
        self.late.saturating_mul(100) <= self.total
    }

    /// Records that left later than the tolerance through the generator's own fault.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// The generator's worst own lateness.
    pub(crate) fn worst_ns(&self) -> u64 {
        self.worst_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_starts_when_it_should_or_has_no_times() {
        let plan = Plan::new(500, NonZeroU64::new(20_000));
        for (n, expected) in [(0, 500), (1, 50_500), (20_000, 1_000_000_500), (u64::MAX, u64::MAX)] {
            assert_eq!(plan.intended(n), Some(expected));
        }
        assert_eq!((plan.due(499), plan.due(500)), (0, 1));
        let free = Plan::new(7, None);
        assert_eq!((free.intended(9), free.due(0)), (None, u64::MAX));
    }

    #[test]
    fn a_restart_forgets_what_was_late_but_not_what_held_it() {
        let mut keeper = Keeper::new(10);
        keeper.leaving(0, 1000);
        keeper.blocked(500);
        keeper.restart();
        assert_eq!((keeper.late(), keeper.worst_ns(), keeper.kept()), (0, 0, true));
        keeper.leaving(0, 511);
        assert_eq!((keeper.late(), keeper.worst_ns()), (1, 11));
    }

    #[test]
    fn a_full_target_excuses_lateness_until_the_backlog_is_gone() {
        let mut keeper = Keeper::new(10);
        keeper.leaving(100, 105);
        keeper.blocked(4_900);
        keeper.leaving(110, 5_010);
        keeper.leaving(120, 5_011);
        assert_eq!((keeper.late(), keeper.worst_ns(), keeper.kept()), (0, 5, true));
        keeper.caught_up();
        keeper.leaving(6_000, 6_011);
        assert_eq!((keeper.late(), keeper.worst_ns(), keeper.kept()), (1, 11, false));
    }

    #[test]
    fn a_full_target_does_not_excuse_a_generator_that_is_too_slow() {
        let mut keeper = Keeper::new(10);
        // Due every nanosecond, blocked once for 100 ns, but otherwise able to write only every other nanosecond.
        keeper.blocked(100);
        for n in 0..1000 {
            keeper.leaving(n, 100 + 2 * n);
        }
        assert_eq!((keeper.worst_ns(), keeper.kept()), (999, false));
    }

    #[test]
    fn one_late_record_in_a_hundred_is_still_a_kept_plan() {
        let mut keeper = Keeper::new(10);
        for _ in 0..99 {
            keeper.leaving(0, 0);
        }
        keeper.leaving(0, 11);
        assert!(keeper.kept());
        keeper.leaving(0, 11);
        assert!(!keeper.kept());
    }
}
