//! The account of a run: every record sent arrived, or is named as lost. Pure; no I/O.
//!
//! *Promise:* one bit per sequence number; from it lost, duplicated and reordered follow exactly.
//! *Law (the sum):* `sent = received + torn + lost`, where `received` and `torn` count first arrivals only. A torn
//! record whose own number is illegible is the one exception: it is counted as torn, and its number as lost.

use std::ops::RangeInclusive;

/// How many gaps a [`Tally`] names.
const NAMED_GAPS: usize = 8;

/// What has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    seen: Vec<u64>,
    highest: Option<u64>,
    received: u64,
    torn: u64,
    torn_anonymous: u64,
    duplicated: u64,
    reordered: u64,
    unmarked: u64,
}

/// The account at the end, see [`Ledger::tally`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Records written to the target that must arrive.
    pub(crate) sent: u64,
    /// Of those, first arrivals that were whole.
    pub(crate) received: u64,
    /// Of those, none arrived, whole or torn.
    pub(crate) lost: u64,
    /// Arrivals after the first of the same sequence number.
    pub(crate) duplicated: u64,
    /// First arrivals behind a record with a higher sequence number.
    pub(crate) reordered: u64,
    /// Messages with a mark whose text is not the record's: cut, mangled, or with an impossible number.
    pub(crate) torn: u64,
    /// Messages that carry no mark at all: not ours, or the markless half of a torn one.
    pub(crate) unmarked: u64,
    /// The first few gaps in the sequence, to look for the cause.
    pub(crate) gaps: Vec<RangeInclusive<u64>>,
}

impl Ledger {
    /// A whole record arrived. Returns whether it was the first of its number.
    pub(crate) fn whole(&mut self, sequence: u64) -> bool {
        let first = self.arrive(sequence);
        self.received += u64::from(first);
        first
    }

    /// A message with a mark arrived that is not whole; `None` if even its number cannot be right.
    pub(crate) fn torn(&mut self, sequence: Option<u64>) {
        match sequence {
            Some(sequence) => {
                let first = self.arrive(sequence);
                self.torn += u64::from(first);
            }
            None => self.torn_anonymous += 1,
        }
    }

    /// A message without a mark arrived.
    pub(crate) fn unmarked(&mut self) {
        self.unmarked += 1;
    }

    /// Distinct records that arrived in any state.
    pub(crate) fn arrived(&self) -> u64 {
        self.received + self.torn
    }

    /// Closes the account over the numbers `0..sent`. One pass over the bitmap.
    pub(crate) fn tally(&self, sent: u64) -> Tally {
        let mut gaps: Vec<RangeInclusive<u64>> = Vec::new();
        let mut lost = 0;
        let mut open: Option<u64> = None;
        let mut sequence = 0;
        while sequence < sent {
            let word =
                usize::try_from(sequence / 64).ok().and_then(|w| self.seen.get(w)).copied().unwrap_or(0);
            let end = (sequence + 64).min(sent);
            if word == u64::MAX {
                if let Some(from) = open.take() {
                    name(&mut gaps, from, sequence - 1);
                }
                sequence = end;
                continue;
            }
            for n in sequence..end {
                if word >> (n % 64) & 1 == 1 {
                    if let Some(from) = open.take() {
                        name(&mut gaps, from, n - 1);
                    }
                } else {
                    lost += 1;
                    open.get_or_insert(n);
                }
            }
            sequence = end;
        }
        if let Some(from) = open {
            name(&mut gaps, from, sent - 1);
        }
        Tally {
            sent,
            received: self.received,
            lost,
            duplicated: self.duplicated,
            reordered: self.reordered,
            torn: self.torn + self.torn_anonymous,
            unmarked: self.unmarked,
            gaps,
        }
    }

    /// Sets the bit of `sequence`; returns whether it was clear.
    fn arrive(&mut self, sequence: u64) -> bool {
        // The caller has checked that the number was sent, so the bitmap is bounded by the run's length.
        let word = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        let bit = 1 << (sequence % 64);
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicated += 1;
            return false;
        }
        self.seen[word] |= bit;
        match self.highest {
            Some(highest) if sequence < highest => self.reordered += 1,
            _ => self.highest = Some(sequence),
        }
        true
    }
}

fn name(gaps: &mut Vec<RangeInclusive<u64>>, from: u64, to: u64) {
    if gaps.len() < NAMED_GAPS {
        gaps.push(from..=to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn account(arrivals: &[u64], sent: u64) -> Tally {
        let mut ledger = Ledger::default();
        for &sequence in arrivals {
            ledger.whole(sequence);
        }
        ledger.tally(sent)
    }

    #[test]
    fn each_fault_is_counted_as_itself() {
        // (arrivals, sent) -> (received, lost, duplicated, reordered)
        let table = [
            (&[][..], 0, (0, 0, 0, 0)),
            (&[0, 1, 2][..], 3, (3, 0, 0, 0)),
            (&[0, 2][..], 3, (2, 1, 0, 0)),
            (&[0, 1, 1, 2][..], 3, (3, 0, 1, 0)),
            (&[0, 2, 1][..], 3, (3, 0, 0, 1)),
            (&[1, 1][..], 3, (1, 2, 1, 0)),
            (&[][..], 130, (0, 130, 0, 0)),
        ];
        for (arrivals, sent, expected) in table {
            let tally = account(arrivals, sent);
            assert_eq!(
                (tally.received, tally.lost, tally.duplicated, tally.reordered),
                expected,
                "{arrivals:?} of {sent}"
            );
        }
    }

    #[test]
    fn gaps_are_named_across_word_borders() {
        let arrivals: Vec<u64> =
            (0..300).filter(|n| !(60..=70).contains(n) && *n != 128 && *n < 290).collect();
        assert_eq!(account(&arrivals, 300).gaps, [60..=70, 128..=128, 290..=299]);
        let arrivals: Vec<u64> = (64..128).collect();
        assert_eq!(account(&arrivals, 128).gaps, [0..=63]);
    }

    #[test]
    fn torn_records_are_neither_received_nor_lost() {
        let mut ledger = Ledger::default();
        ledger.whole(0);
        ledger.torn(Some(1));
        ledger.torn(None);
        ledger.unmarked();
        let tally = ledger.tally(3);
        assert_eq!((tally.received, tally.torn, tally.lost, tally.unmarked), (1, 2, 1, 1));
    }

    proptest! {
        #[test]
        fn the_sum_holds_for_any_arrivals(arrivals in prop::collection::vec(0u64..500, 0..800)) {
            let tally = account(&arrivals, 500);
            let mut counts = BTreeMap::new();
            for sequence in &arrivals {
                *counts.entry(*sequence).or_insert(0u64) += 1;
            }
            let distinct = counts.len() as u64;
            prop_assert_eq!(tally.received, distinct);
            prop_assert_eq!(tally.lost, 500 - distinct);
            prop_assert_eq!(tally.duplicated, arrivals.len() as u64 - distinct);
            prop_assert_eq!(tally.sent, tally.received + tally.torn + tally.lost);
        }
    }
}
