//! Where the warm-up of several connections ends.
//!
//! *Promise:* at the same message of each connection, known before the first is sent. *Law:* pure.

use crate::drive::nanoseconds;
use crate::plan::Plan;
use crate::warm_up::WarmUp;

/// What had left when measuring began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Warmed {
    /// Messages.
    pub(crate) messages: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// When the first measured message was due, or without a schedule, about to be written.
    pub(crate) at_ns: u64,
}

/// Messages of each of `lanes` connections before measuring begins: of the plan's first ones, rounded up so that all
/// connections have the same.
pub(super) fn warm_messages(warm_up: Option<WarmUp>, plan: &Plan, start_ns: u64, lanes: u64) -> u64 {
    let of_all = match warm_up {
        None => 0,
        Some(WarmUp::Count(count)) => count,
        Some(WarmUp::Time(time)) => {
            let end_ns = start_ns.saturating_add(nanoseconds(time));
            end_ns.checked_sub(1).map_or(0, |last| plan.due(last))
        }
    };
    of_all.div_ceil(lanes)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_connections_warm_up_with_as_many_messages() {
        let plan = |rate| Plan::new(1_000_000_000, NonZeroU64::new(rate));
        let ms = |ms| Some(WarmUp::Time(Duration::from_millis(ms)));
        for (warm_up, rate, lanes, expected) in [
            (None, 1000, 3, 0),
            (Some(WarmUp::Count(0)), 0, 3, 0),
            (Some(WarmUp::Count(9)), 0, 3, 3),
            (Some(WarmUp::Count(10)), 0, 3, 4),
            (ms(0), 1000, 1, 0),
            (ms(1), 1000, 1, 1),
            (ms(100), 1000, 1, 100),
            (ms(100), 1000, 8, 13),
        ] {
            assert_eq!(
                warm_messages(warm_up, &plan(rate), 1_000_000_000, lanes),
                expected,
                "{warm_up:?} {rate} {lanes}"
            );
        }
    }
}
