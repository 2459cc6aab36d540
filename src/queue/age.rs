//! How old what waits in a queue is, without a stamp for each batch. Pure.
//!
//! Promise: [`Marks::since`] names a moment at which the oldest byte that is not settled was surely in the queue's
//! hands already or just came, too early by one spacing at most. Law: no clock; a bounded number of marks, taken at
//! most once a spacing while batches come, so that it costs nothing per record.
//!
//! ```text
//! bytes pushed   0 ......... 4000 ............ 9000 ....... 12000
//! marks          ^ 10:00:00  ^ 10:00:01        ^ 10:00:02
//! settled: 5000             -> the oldest came at 10:00:01 or later, before 10:00:02
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Between two marks, as long as few are needed.
const SPACING: Duration = Duration::from_millis(100);

/// Most marks. When they are all in use, every other one goes and the spacing doubles: the age of what has waited for
/// hours need not be known to a tenth of a second.
const MOST: usize = 256;

/// When which byte came.
#[derive(Debug)]
pub(super) struct Marks {
    /// Bytes pushed before, and when.
    marks: VecDeque<(u64, Instant)>,
    spacing: Duration,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self { marks: VecDeque::with_capacity(MOST), spacing: SPACING }
    }

    /// A batch comes behind `pushed` bytes, `settled` of which are done with. Returns when the next mark is due.
    pub(super) fn add(&mut self, pushed: u64, settled: u64, now: Instant) -> Instant {
        self.forget(settled);
        if self.marks.len() < MOST / 4 {
            self.spacing = SPACING;
        }
        if self.marks.len() == MOST {
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.spacing *= 2;
        }
        self.marks.push_back((pushed, now));
        now + self.spacing
    }

    /// When the oldest byte that is not among the `settled` ones came; `None`: no batch has come yet.
    pub(super) fn since(&mut self, settled: u64) -> Option<Instant> {
        self.forget(settled);
        self.marks.front().map(|(_, moment)| *moment)
    }

    /// Drops the marks before the last one that is not behind `settled`.
    fn forget(&mut self, settled: u64) {
        while self.marks.get(1).is_some_and(|(pushed, _)| *pushed <= settled) {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_is_found_by_its_place_in_the_line() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut marks = Marks::new();
        assert_eq!(marks.since(0), None);
        assert_eq!(marks.add(0, 0, at(0)), at(0) + SPACING);
        marks.add(4000, 0, at(1));
        marks.add(9000, 0, at(2));
        for (settled, expected) in [(0, 0), (3999, 0), (4000, 1), (8999, 1), (9000, 2), (12_000, 2)] {
            assert_eq!(marks.since(settled), Some(at(expected)), "{settled}");
        }
    }

    proptest! {
        /// However long nothing is settled, the marks are bounded and the age is right to a share of itself.
        #[test]
        fn a_long_outage_costs_precision_and_no_memory(batches in 1u32..20_000, step_ms in 1u64..5_000) {
            let start = Instant::now();
            let mut marks = Marks::new();
            let mut due = start;
            for at in 0..batches {
                let now = start + Duration::from_millis(u64::from(at) * step_ms);
                if now >= due {
                    due = marks.add(u64::from(at), 0, now);
                }
                prop_assert!(marks.marks.len() <= MOST);
            }
            prop_assert_eq!(marks.since(0), Some(start));
            let (last, half) = (u64::from(batches - 1), u64::from(batches / 2));
            let came = start + Duration::from_millis(half * step_ms);
            let said = marks.since(half).unwrap();
            prop_assert!(said <= came);
            let slack = SPACING + Duration::from_millis(step_ms + last * step_ms / 32);
            prop_assert!(came - said <= slack, "{:?} {:?}", came - said, slack);
        }
    }
}
