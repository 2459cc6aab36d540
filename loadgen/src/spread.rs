//! How far several runs lie apart in one figure. Pure.
//!
//! *Promise:* median (of an even number, the middle of the two in the middle), lowest and highest.
//! *Law:* no value is left out for being far from the others; of no values there is no spread.

use serde_json::{Value, json};

/// Median, lowest and highest of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of `values`; `None` of none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median, min, max })
    }

    /// The same with every value changed by `change`, such as rounded.
    pub(crate) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { median: change(self.median), min: change(self.min), max: change(self.max) }
    }

    /// `{median, min, max}`.
    pub(crate) fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_the_middle() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 9.0]).map(|spread| spread.median), Some(3.0));
        let rounded = Spread::of(vec![1.26, 1.26]).map(|spread| spread.map(f64::round).json());
        assert_eq!(rounded, Some(json!({ "median": 1.0, "min": 1.0, "max": 1.0 })));
    }
}
