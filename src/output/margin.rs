//! How much of what a receiver's kernel has acknowledged is kept to be sent again (`replay`). Pure.
//!
//! Promise: a receiver whose connections all end early gets ahead all the same, if each takes one message at least; one
//! that takes more than the whole margin over each connection has the whole margin again after each. Law: less is sent
//! again only where the whole has been tried in vain.
//!
//! ```text
//! repeated          acknowledged by an earlier connection, sent again by this one
//! |=================|--- new --->
//! |======>                          ended in here: in vain. The third in a row halves the margin, and each that follows
//! |========================>        got past it: the margin stays
//! |=====================...=====>   acknowledged more than the whole margin: the whole margin holds
//! ```

/// So many connections in a row may end in vain before less is sent again. A receiver that dies twice in a row has not
/// shown that it cannot get past it.
const PATIENCE: u32 = 3;

/// Bytes.
#[derive(Debug)]
pub(super) struct Margin {
    whole: i64,
    now: i64,
    in_vain: u32,
}

impl Margin {
    pub(super) fn new(whole: usize) -> Self {
        let whole = i64::try_from(whole).unwrap_or(i64::MAX);
        Self { whole, now: whole, in_vain: 0 }
    }

    /// From now on `whole` is wanted.
    pub(super) fn set(&mut self, whole: usize) {
        let new = Self::new(whole);
        if new.whole != self.whole {
            *self = new;
        }
    }

    /// What is kept now.
    pub(super) fn bytes(&self) -> i64 {
        self.now
    }

    /// The present connection has acknowledged `bytes`.
    pub(super) fn acknowledged(&mut self, bytes: i64) {
        if bytes > self.whole {
            self.now = self.whole;
        }
    }

    /// A connection has failed, which has acknowledged `acknowledged` bytes and began with `repeated` that an earlier
    /// one had. True if from now on less than the whole is kept.
    pub(super) fn failed(&mut self, acknowledged: i64, repeated: i64) -> bool {
        if acknowledged > repeated {
            self.in_vain = 0;
        } else if acknowledged > 0 && self.now > 0 {
            // One that has taken nothing would not have got further with less.
            self.in_vain = self.in_vain.saturating_add(1);
            if self.in_vain >= PATIENCE {
                let first = self.now == self.whole;
                self.now /= 2;
                return first;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_third_in_vain_halves_it_and_one_that_takes_more_than_the_whole_restores_it() {
        let mut margin = Margin::new(800);
        let steps = [
            // acknowledged, repeated, says so, left
            (300, 0, false, 800),
            (300, 300, false, 800),
            (300, 300, false, 800),
            (0, 300, false, 800),
            (300, 300, true, 400),
            (200, 300, false, 200),
            (301, 300, false, 200),
            (100, 100, false, 200),
            (800, 100, false, 200),
            (801, 100, false, 800),
        ];
        for (step, (acknowledged, repeated, says, left)) in steps.into_iter().enumerate() {
            margin.acknowledged(acknowledged);
            assert_eq!((margin.failed(acknowledged, repeated), margin.bytes()), (says, left), "step {step}");
        }
        margin.set(800);
        assert_eq!(margin.bytes(), 800);
        let mut none = Margin::new(0);
        assert!((0..9).all(|_| !none.failed(10, 10)), "there is nothing to keep less of");
    }

    #[test]
    fn a_reload_that_says_the_same_leaves_it_as_it_is() {
        let mut margin = Margin::new(800);
        assert_eq!((0..3).filter(|_| margin.failed(1, 1)).count(), 1);
        margin.set(800);
        assert_eq!(margin.bytes(), 400);
        margin.set(900);
        assert_eq!(margin.bytes(), 900);
    }

    proptest! {
        /// Whatever each connection acknowledges before it ends, one whole message at least: within as many connections
        /// as it takes to halve the margin away, something new is acknowledged.
        #[test]
        fn connections_that_end_early_get_ahead(
            whole in 0usize..1 << 24,
            longest in 1i64..10_000,
            more in proptest::collection::vec(0i64..1 << 22, 1..40),
            cut in 0i64..10_000,
        ) {
            let mut margin = Margin::new(whole);
            // Where the next connection begins, and what is acknowledged up to now.
            let (mut start, mut furthest) = (0, 0);
            let mut since = 0;
            for round in 0..400 {
                let acknowledged = longest + more[round % more.len()] % (1 + whole as i64 / 2);
                margin.acknowledged(acknowledged);
                let before = furthest;
                margin.failed(acknowledged, furthest - start);
                furthest = furthest.max(start + acknowledged);
                // The next one begins with a whole message, which may begin this much before.
                let certain = (acknowledged - margin.bytes()).max(0);
                start += (certain - cut % longest).max(0);
                since = if furthest > before { 0 } else { since + 1 };
                prop_assert!(since <= PATIENCE as usize + 24, "{since} connections for nothing");
            }
        }

        /// Who takes more than the whole over each connection never has less than the whole again.
        #[test]
        fn the_whole_margin_holds_where_it_can(
            whole in 0usize..1 << 24,
            more in proptest::collection::vec(1i64..1 << 24, 1..40),
        ) {
            let mut margin = Margin::new(whole);
            for more in more {
                margin.acknowledged(whole as i64 + more);
                prop_assert!(!margin.failed(whole as i64 + more, whole as i64));
                prop_assert_eq!(margin.bytes(), whole as i64);
            }
        }
    }
}
