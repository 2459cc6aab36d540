//! How records follow one another: evenly, ever faster or slower, or in bursts.
//!
//! *Promise:* [`Pace::intended`] gives the nanosecond after the start at which record n is due; [`Pace::due`] how many are
//! due by then, and each is the other's exact inverse: record n is due at its own time and not a nanosecond before.
//! *Law:* integers only decide. The ramp's square root is guessed in floating point and then put right.
//!
//! With `N(t)` records a schedule has asked for at real time t, record n is due at the whole nanosecond in which `N`
//! reaches n: the largest whole t with `N(t) <= n`.
//!
//! ```text
//! constant: N(t) = rate * t       ramp: N(t) = from * t + (to - from) * t^2 / 2T, behind T on at `to`
//! burst:    N jumps by `size` at 0, every, 2 every, ...
//! ```

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

const NS_PER_S: i128 = 1_000_000_000;

/// How records follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Records a second.
    Constant(NonZeroU64),
    /// From one rate to another along a line.
    Ramp(Ramp, NonZeroU64),
    /// Many at once, then none.
    Burst(Burst),
}

/// Rates at both ends of a ramp, records a second, at most [`Ramp::MAX`]; not both zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ramp {
    from: u32,
    to: u32,
}

/// Records at once, and the nanoseconds from burst to burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    size: NonZeroU64,
    every_ns: NonZeroU64,
}

impl Pace {
    /// A ramp of that `length`; `None` if that is no time at all or more than ten days.
    pub(crate) fn ramp(ramp: Ramp, length: Duration) -> Option<Self> {
        let length = u64::try_from(length.as_nanos()).ok().filter(|&ns| ns <= Ramp::LONGEST_NS)?;
        Some(Self::Ramp(ramp, NonZeroU64::new(length)?))
    }

    /// Nanoseconds from the start to record `n`; `u64::MAX` if it is never due.
    pub(crate) fn intended(&self, n: u64) -> u64 {
        match self {
            Self::Constant(rate) => saturate(i128::from(n) * NS_PER_S / i128::from(rate.get())),
            Self::Ramp(ramp, length) => ramp.intended(length.get(), n),
            Self::Burst(burst) => (n / burst.size).saturating_mul(burst.every_ns.get()),
        }
    }

    /// Records due when `elapsed` nanoseconds have passed.
    pub(crate) fn due(&self, elapsed: u64) -> u64 {
        match self {
            // Record n is due iff n * 1e9 / rate < elapsed + 1.
            Self::Constant(rate) => {
                let asked = (u128::from(elapsed) + 1) * u128::from(rate.get());
                u64::try_from(asked.div_ceil(NS_PER_S.unsigned_abs())).unwrap_or(u64::MAX)
            }
            Self::Ramp(ramp, length) => ramp.due(length.get(), elapsed),
            Self::Burst(burst) => {
                (elapsed / burst.every_ns).saturating_add(1).saturating_mul(burst.size.get())
            }
        }
    }
}

impl Ramp {
    /// Highest rate.
    pub(crate) const MAX: u32 = 100_000_000;
    /// Longest ramp: with it and the highest rate the products below stay within 127 bits.
    const LONGEST_NS: u64 = 864_000_000_000_000;

    /// `N(t) * scale` for `t <= length`, where `scale` is `2 * length * 1e9`. The rise from 0 to `length` never falls.
    fn scaled(self, length: u64, t: u64) -> i128 {
        let (from, t, length) = (i128::from(self.from), i128::from(t), i128::from(length));
        2 * length * from * t + self.rise() * t * t
    }

    /// Twice the records of the whole ramp, times 1e9.
    fn doubled(self, length: u64) -> i128 {
        (i128::from(self.from) + i128::from(self.to)) * i128::from(length)
    }

    fn scale(length: u64) -> i128 {
        2 * i128::from(length) * NS_PER_S
    }

    fn rise(self) -> i128 {
        i128::from(self.to) - i128::from(self.from)
    }

    fn intended(self, length: u64, n: u64) -> u64 {
        let behind = i128::from(n) * 2 * NS_PER_S - self.doubled(length);
        if behind > 0 {
            // Behind the ramp at its last rate.
            return match i128::from(self.to) {
                0 => u64::MAX,
                to => saturate(i128::from(length) + behind / (2 * to)),
            };
        }
        let wanted = i128::from(n) * Self::scale(length);
        let reached = |t: u64| self.scaled(length, t) > wanted;
        let guess = self.guess(length, n).min(length);
        // The last t that has not gone beyond n lies in low..high; the guess nearly always is right at once.
        let (mut low, mut high) = (guess.saturating_sub(4), guess.saturating_add(4));
        if reached(low) {
            low = 0;
        }
        if high >= length || !reached(high) {
            high = length + 1;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if middle <= length && !reached(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// About the time of record `n`: the root of the ramp's parabola.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a guess, put right by the caller"
    )]
    fn guess(self, length: u64, n: u64) -> u64 {
        let slope = f64::from(self.from) / 1e9;
        let bend = (f64::from(self.to) - f64::from(self.from)) / (2e9 * length as f64);
        let n = n as f64;
        let root = (slope * slope + 4.0 * bend * n).max(0.0).sqrt();
        (2.0 * n / (slope + root)) as u64
    }

    fn due(self, length: u64, elapsed: u64) -> u64 {
        // Record n is due iff n < N(elapsed + 1).
        if elapsed < length {
            return saturate(div_ceil(self.scaled(length, elapsed + 1), Self::scale(length)));
        }
        let behind = 2 * i128::from(self.to) * (i128::from(elapsed - length) + 1);
        saturate(div_ceil(self.doubled(length) + behind, 2 * NS_PER_S))
    }
}

fn div_ceil(value: i128, by: i128) -> i128 {
    // Both are positive.
    value / by + i128::from(value % by > 0)
}

fn saturate(value: i128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

impl FromStr for Ramp {
    type Err = String;

    /// `FROM..TO`.
    fn from_str(text: &str) -> Result<Self, String> {
        let rate = |text: &str| text.parse().ok().filter(|&rate| rate <= Self::MAX);
        let rates = text.split_once("..").and_then(|(from, to)| rate(from).zip(rate(to)));
        rates
            .filter(|rates| *rates != (0, 0))
            .map(|(from, to)| Self { from, to })
            .ok_or_else(|| format!("expected two rates up to {}, e.g. 1000..50000", Self::MAX))
    }
}

impl Burst {
    /// A burst of `size` records every `every`; `None` if one of them is nothing.
    pub(crate) fn new(size: u64, every: Duration) -> Option<Self> {
        let every_ns = u64::try_from(every.as_nanos()).ok().and_then(NonZeroU64::new)?;
        Some(Self { size: NonZeroU64::new(size)?, every_ns })
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ns: NonZeroU64| Duration::from_nanos(ns.get()).as_secs_f64();
        match self {
            Self::Constant(rate) => write!(f, "{rate} records/s"),
            Self::Ramp(Ramp { from, to }, length) => {
                write!(f, "{from} to {to} records/s in {} s", seconds(*length))
            }
            Self::Burst(Burst { size, every_ns }) => {
                write!(f, "{size} records every {} s", seconds(*every_ns))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn constant(rate: u64) -> Pace {
        Pace::Constant(NonZeroU64::new(rate).unwrap())
    }

    fn ramp(from: u32, to: u32, length_ns: u64) -> Pace {
        Pace::ramp(Ramp { from, to }, Duration::from_nanos(length_ns)).unwrap()
    }

    fn burst(size: u64, every_ns: u64) -> Pace {
        Pace::Burst(Burst::new(size, Duration::from_nanos(every_ns)).unwrap())
    }

    #[test]
    fn times_are_exact() {
        // 3 records/s do not divide a second: no drift may add up.
        assert_eq!(constant(3).intended(1), 333_333_333);
        assert_eq!(constant(3).intended(3_000_000), 1_000_000 * S);
        for (n, at) in [(0, 0), (999, 0), (1000, 5 * S), (2999, 10 * S), (u64::MAX, u64::MAX)] {
            assert_eq!(burst(1000, 5 * S).intended(n), at);
        }
        // 0 to 200/s in 10 s: 10 t^2 records after t seconds, 1000 in all, then 200/s.
        let up = ramp(0, 200, 10 * S);
        for (n, at) in [(0, 0), (10, S), (40, 2 * S), (250, 5 * S), (1000, 10 * S), (1200, 11 * S)] {
            assert_eq!(up.intended(n), at);
        }
        let down = ramp(200, 0, 10 * S);
        assert_eq!((down.intended(0), down.intended(750), down.intended(1000)), (0, 5 * S, 10 * S));
        assert_eq!((down.intended(1001), down.due(u64::MAX)), (u64::MAX, 1000));
        // A flat ramp is a constant rate.
        for n in 0..1000 {
            assert_eq!(ramp(7, 7, 60 * S).intended(n), constant(7).intended(n));
        }
    }

    #[test]
    fn extremes_neither_panic_nor_wrap() {
        for pace in [
            ramp(Ramp::MAX, Ramp::MAX, Ramp::LONGEST_NS),
            ramp(0, Ramp::MAX, Ramp::LONGEST_NS),
            ramp(Ramp::MAX, 0, Ramp::LONGEST_NS),
            ramp(1, 0, 1),
            ramp(0, 1, 1),
            burst(u64::MAX, u64::MAX),
            burst(1, 1),
            constant(u64::MAX),
        ] {
            for n in [0, 1, 1 << 32, u64::MAX - 1, u64::MAX] {
                assert!(pace.intended(0) <= pace.intended(n), "{pace}");
                assert!(pace.due(0) <= pace.due(n), "{pace}");
            }
        }
    }

    #[test]
    fn text_is_read_strictly() {
        assert_eq!("10..500".parse(), Ok(Ramp { from: 10, to: 500 }));
        for text in ["", "..", "1..", "0..0", "1..2..3", "1-2", "-1..2", "0..100000001"] {
            assert!(text.parse::<Ramp>().is_err(), "{text}");
        }
    }

    fn any_pace() -> impl Strategy<Value = Pace> {
        prop_oneof![
            (1u64..5_000_000).prop_map(constant),
            (0u32..=Ramp::MAX, 0u32..=Ramp::MAX, 1u64..=Ramp::LONGEST_NS)
                .prop_filter("some rate", |(from, to, _)| from + to > 0)
                .prop_map(|(from, to, length)| ramp(from, to, length)),
            (0u32..5000, 1u32..5000, 1u64..100 * S).prop_map(|(from, to, length)| ramp(from, to, length)),
            (1u64..100_000, 1u64..100 * S).prop_map(|(size, every)| burst(size, every)),
        ]
    }

    proptest! {
        #[test]
        fn due_is_the_inverse_of_intended(pace in any_pace(), n in prop_oneof![0u64..5000, 0u64..1_000_000_000_000]) {
            let at = pace.intended(n);
            prop_assume!(at < u64::MAX);
            prop_assert!(pace.due(at) > n, "record {n} is due at its own time {at}");
            prop_assert!(at == 0 || pace.due(at - 1) <= n, "and not a nanosecond before {at}");
        }

        #[test]
        fn the_schedule_never_goes_back(pace in any_pace(), n in any::<u64>(), more in 0u64..1_000_000) {
            prop_assert!(pace.intended(n) <= pace.intended(n.saturating_add(more)));
            prop_assert!(pace.due(n) <= pace.due(n.saturating_add(more)));
        }
    }
}
