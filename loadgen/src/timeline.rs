//! What arrived when, and how late: a run cut into intervals of equal length. Pure; time is an argument.
//!
//! *Promise:* arrivals, bytes, and median, p99 and maximum of the latency in every interval, for a run of any length:
//! an interval is 100 ms long at first, and twice as long each time the run outgrows [`MOST`] of them. Two intervals are
//! joined exactly, counts with counts; quantiles are never averaged.
//! *Law:* nothing is allocated and nothing waits while records arrive; all room is set aside at the start, and the
//! pages of it that no latency falls into are never touched.
//!
//! A latency is counted in one of 128 slots per power of two, so a quantile is off by less than 1 %; the maximum is exact.

use hdrhistogram::Histogram;

/// Most intervals a run is cut into.
pub(crate) const MOST: usize = 600;
/// Length of an interval at first.
const FIRST_WIDTH_NS: u64 = 100_000_000;

/// Slots per power of two, as a power of two.
const BITS: u32 = 7;
/// Latencies of an hour and more share the last slot.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Slots of one interval: enough for [`LONGEST_NS`].
const SLOTS: usize = slot(LONGEST_NS) + 1;

/// The slot of a latency: exact below 128 ns, then 128 to each power of two.
#[expect(clippy::cast_possible_truncation, reason = "a latency of at most an hour has a slot below 5000")]
const fn slot(ns: u64) -> usize {
    let exponent = match ns.checked_ilog2() {
        Some(log) if log > BITS => log - BITS,
        _ => 0,
    };
    ((exponent as u64) << BITS) as usize + (ns >> exponent) as usize
}

/// The longest latency that falls into `slot`.
fn longest_in(slot: usize) -> u64 {
    let octave = u32::try_from(slot >> BITS).unwrap_or(u32::MAX).saturating_sub(1);
    let mantissa = slot as u64 - (u64::from(octave) << BITS);
    ((mantissa + 1) << octave) - 1
}

/// Arrivals by time.
#[derive(Debug)]
pub(crate) struct Timeline {
    origin_ns: u64,
    width_ns: u64,
    /// The interval the last record fell into: its position and bounds.
    current: usize,
    current_ns: std::ops::Range<u64>,
    intervals: Vec<Interval>,
    /// `SLOTS` counts for each interval.
    counts: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    arrived: u64,
    bytes: u64,
    /// Latencies entered; none for records that say nothing of their time.
    timed: u64,
    max_ns: u64,
    /// The slots in use are `low..high`.
    low: usize,
    high: usize,
}

impl Interval {
    const EMPTY: Self = Self { arrived: 0, bytes: 0, timed: 0, max_ns: 0, low: SLOTS, high: 0 };
}

/// One interval, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    /// Records that arrived.
    pub(crate) arrived: u64,
    /// Bytes of their messages.
    pub(crate) bytes: u64,
    /// Median, p99 and maximum of their latency in ns; `None` if none was told.
    pub(crate) latency: Option<Quantiles>,
}

/// Latencies of one interval in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantiles {
    /// The median.
    pub(crate) p50_ns: u64,
    /// 99 of 100 are no longer.
    pub(crate) p99_ns: u64,
    /// The longest.
    pub(crate) max_ns: u64,
}

impl Timeline {
    /// An empty timeline from `origin_ns` on.
    pub(crate) fn new(origin_ns: u64) -> Self {
        Self {
            origin_ns,
            width_ns: FIRST_WIDTH_NS,
            current: 0,
            current_ns: origin_ns..origin_ns,
            intervals: Vec::with_capacity(MOST),
            counts: vec![0; MOST * SLOTS],
        }
    }

    /// Enters a record of `bytes` that arrived at `now_ns`, and how late if that is known. What arrives before the
    /// origin falls into the first interval. A few ns, no allocation.
    pub(crate) fn enter(&mut self, now_ns: u64, bytes: u64, latency_ns: Option<u64>) {
        if !self.current_ns.contains(&now_ns) {
            self.turn_to(now_ns);
        }
        let interval = &mut self.intervals[self.current];
        interval.arrived += 1;
        interval.bytes += bytes;
        if let Some(ns) = latency_ns {
            let slot = slot(ns.min(LONGEST_NS));
            interval.timed += 1;
            interval.max_ns = interval.max_ns.max(ns);
            interval.low = interval.low.min(slot);
            interval.high = interval.high.max(slot + 1);
            let count = &mut self.counts[self.current * SLOTS + slot];
            *count = count.saturating_add(1);
        }
    }

    fn turn_to(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.origin_ns);
        while elapsed_ns / self.width_ns >= MOST as u64 {
            self.widen();
        }
        self.current = usize::try_from(elapsed_ns / self.width_ns).unwrap_or(MOST - 1);
        while self.intervals.len() <= self.current {
            self.intervals.push(Interval::EMPTY);
        }
        let from_ns = self.origin_ns + self.current as u64 * self.width_ns;
        self.current_ns = from_ns..from_ns + self.width_ns;
    }

    /// Joins the intervals two by two.
    fn widen(&mut self) {
        self.width_ns *= 2;
        let joined = self.intervals.len().div_ceil(2);
        for into in 0..joined {
            let (left, right) = (2 * into, 2 * into + 1);
            if into > 0 {
                self.add(left, into);
            }
            if right < self.intervals.len() {
                self.add(right, into);
            }
        }
        self.intervals.truncate(joined);
    }

    /// Adds interval `from` to `into < from`, and leaves `from` empty.
    fn add(&mut self, from: usize, into: usize) {
        let source = std::mem::replace(&mut self.intervals[from], Interval::EMPTY);
        let (head, tail) = self.counts.split_at_mut(from * SLOTS);
        if source.timed > 0 {
            let range = source.low..source.high;
            let targets = &mut head[into * SLOTS..][range.clone()];
            for (target, count) in targets.iter_mut().zip(&mut tail[range]) {
                *target = target.saturating_add(std::mem::take(count));
            }
        }
        let target = &mut self.intervals[into];
        target.arrived += source.arrived;
        target.bytes += source.bytes;
        target.timed += source.timed;
        target.max_ns = target.max_ns.max(source.max_ns);
        target.low = target.low.min(source.low);
        target.high = target.high.max(source.high);
    }

    /// When the first interval begins.
    pub(crate) fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    /// Length of an interval.
    pub(crate) fn width_ns(&self) -> u64 {
        self.width_ns
    }

    /// The intervals from the origin to the last arrival.
    pub(crate) fn points(&self) -> impl ExactSizeIterator<Item = Point> {
        (0..self.intervals.len()).map(|index| {
            let interval = &self.intervals[index];
            let latency = (interval.timed > 0).then(|| Quantiles {
                p50_ns: self.quantile(index, 50),
                p99_ns: self.quantile(index, 99),
                max_ns: interval.max_ns,
            });
            Point { arrived: interval.arrived, bytes: interval.bytes, latency }
        })
    }

    /// The latencies of each interval, to the two significant digits they are kept with.
    ///
    /// # Errors
    /// If a histogram cannot be made.
    pub(crate) fn histograms(
        &self,
    ) -> impl Iterator<Item = Result<Histogram<u64>, hdrhistogram::CreationError>> {
        (0..self.intervals.len()).map(|index| {
            let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 2)?;
            for (ns, count) in self.slots(index) {
                histogram.saturating_record_n(ns, count.into());
            }
            Ok(histogram)
        })
    }

    /// Latency in ns (the longest of its slot, but no longer than the maximum) and count, ascending.
    fn slots(&self, index: usize) -> impl Iterator<Item = (u64, u32)> {
        let Interval { low, high, max_ns, .. } = self.intervals[index];
        let counts = self.counts[index * SLOTS..(index + 1) * SLOTS].get(low..high).unwrap_or_default();
        let slots = (low..).zip(counts).filter(|(_, count)| **count > 0);
        slots.map(move |(slot, count)| (longest_in(slot).min(max_ns), *count))
    }

    fn quantile(&self, index: usize, percent: u64) -> u64 {
        let wanted = (self.intervals[index].timed * percent).div_ceil(100).max(1);
        let mut passed = 0;
        self.slots(index)
            .find(|(_, count)| {
                passed += u64::from(*count);
                passed >= wanted
            })
            .map_or(self.intervals[index].max_ns, |(ns, _)| ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn records_fall_into_the_interval_they_arrived_in() {
        let mut timeline = Timeline::new(1000 * MS);
        timeline.enter(990 * MS, 10, Some(5));
        timeline.enter(1099 * MS, 10, Some(7));
        timeline.enter(1300 * MS, 30, None);
        let points: Vec<Point> = timeline.points().collect();
        assert_eq!(points.len(), 4);
        assert_eq!(
            points[0],
            Point { arrived: 2, bytes: 20, latency: Some(Quantiles { p50_ns: 5, p99_ns: 7, max_ns: 7 }) }
        );
        assert_eq!(points[1], Point::default());
        assert_eq!(points[3], Point { arrived: 1, bytes: 30, latency: None });
    }

    #[test]
    fn a_long_run_has_longer_intervals_and_loses_nothing() {
        let mut timeline = Timeline::new(0);
        // An hour, a record each second, each as late as its number in us.
        for second in 0..3600 {
            timeline.enter(second * 1000 * MS, 1, Some(second * 1000));
        }
        assert_eq!(timeline.width_ns(), 6_400 * MS);
        let points: Vec<Point> = timeline.points().collect();
        assert!(points.len() <= MOST);
        assert_eq!(points.iter().map(|point| point.arrived).sum::<u64>(), 3600);
        for (index, point) in points.iter().enumerate() {
            // The last second of each interval is its maximum.
            let last = (((index as u64 + 1) * 6400 - 1) / 1000).min(3599);
            assert_eq!(point.latency.unwrap().max_ns, last * 1000);
        }
        let counted: u64 = timeline.histograms().map(|histogram| histogram.unwrap().len()).sum();
        assert_eq!(counted, 3600);
    }

    #[test]
    fn a_silence_of_a_day_is_no_trouble() {
        let mut timeline = Timeline::new(0);
        timeline.enter(0, 1, Some(1));
        timeline.enter(86_400_000 * MS, 1, Some(u64::MAX));
        assert!(timeline.points().len() <= MOST);
        assert_eq!(timeline.points().map(|point| point.arrived).sum::<u64>(), 2);
        assert_eq!(timeline.points().last().unwrap().latency.unwrap().max_ns, u64::MAX);
    }

    proptest! {
        #[test]
        fn a_slot_holds_what_falls_into_it_and_is_narrow(ns in 0..=LONGEST_NS) {
            let longest = longest_in(slot(ns));
            prop_assert!(slot(ns) < SLOTS);
            prop_assert!(longest >= ns, "{ns} in a slot up to {longest}");
            prop_assert!(longest - ns <= ns / 128, "{ns} in a slot up to {longest}");
            prop_assert_eq!(slot(longest), slot(ns));
            prop_assert_eq!(slot(longest + 1), slot(ns) + 1);
        }

        #[test]
        fn quantiles_are_within_one_per_cent_of_the_exact_ones(
            mut latencies in prop::collection::vec(0u64..10_000_000_000, 1..300),
            widened in any::<bool>(),
        ) {
            let mut timeline = Timeline::new(0);
            for (n, ns) in latencies.iter().enumerate() {
                timeline.enter(if widened { n as u64 % 2 * 100 * MS } else { 0 }, 1, Some(*ns));
            }
            if widened {
                timeline.turn_to(60_000 * MS);
            }
            latencies.sort_unstable();
            let quantiles = timeline.points().next().unwrap().latency.unwrap();
            for (got, percent) in [(quantiles.p50_ns, 50), (quantiles.p99_ns, 99), (quantiles.max_ns, 100)] {
                let exact = latencies[(latencies.len() * percent).div_ceil(100) - 1];
                prop_assert!(got >= exact && got - exact <= exact / 100, "p{percent}: {got} for {exact}");
            }
        }
    }
}
