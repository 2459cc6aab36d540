//! The account of a run: every record sent arrived, or is named as lost. Pure; no I/O.
//!
//! *Promise:* one bit per record; from it lost, duplicated and reordered follow exactly. Streams (connections) are
//! counted each for itself, for order is promised within a stream only; the [`Tally`] sums them up.
//! *Law (the sum):* `sent = received + torn + lost`, where `received` and `torn` count first arrivals only. A torn
//! record whose own number is illegible is the one exception: it is counted as torn, and its number as lost. Where nobody
//! knows how many were sent, only whole records prove that so many were: a torn one behind them all is in no sum.

use std::fmt;

use crate::corpus::Number;

/// How many gaps a [`Tally`] names.
const NAMED_GAPS: usize = 8;

/// How far ahead of all records that were whole a torn one's number may be. Beyond, it is illegible: nothing else proves
/// it, and the bitmap must not grow as far as a broken digit says.
const LEAD: u64 = 1 << 24;

/// What has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    streams: Vec<Stream>,
    /// Sum of the streams' ends.
    ends: u64,
    received: u64,
    torn: u64,
    torn_anonymous: u64,
    duplicated: u64,
    reordered: u64,
    unmarked: u64,
}

#[derive(Debug, Default)]
struct Stream {
    seen: Vec<u64>,
    /// The highest number of a whole record plus one.
    end: u64,
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
    /// Arrivals after the first of the same number.
    pub(crate) duplicated: u64,
    /// First arrivals behind a record of the same stream with a higher sequence number.
    pub(crate) reordered: u64,
    /// Messages with a mark whose text is not the record's: cut, mangled, or with an impossible number.
    pub(crate) torn: u64,
    /// Messages that carry no mark at all: not ours, or the markless half of a torn one.
    pub(crate) unmarked: u64,
    /// The first few gaps in the sequences, to look for the cause.
    pub(crate) gaps: Vec<Gap>,
}

/// Consecutive records that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Their stream.
    pub(crate) stream: u16,
    /// First sequence number.
    pub(crate) first: u64,
    /// Last sequence number.
    pub(crate) last: u64,
}

impl fmt::Display for Gap {
    /// `FIRST-LAST`, or `STREAM:FIRST-LAST` if the stream is not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stream > 0 {
            write!(f, "{}:", self.stream)?;
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Ledger {
    /// A whole record arrived. Returns whether it was the first of its number.
    pub(crate) fn whole(&mut self, number: Number) -> bool {
        let first = self.arrive(number, true);
        self.received += u64::from(first);
        first
    }

    /// A message with a mark arrived that is not whole; `None` if even its number cannot be right.
    pub(crate) fn torn(&mut self, number: Option<Number>) {
        match number {
            Some(number) if number.sequence < self.end(number.stream).saturating_add(LEAD) => {
                let first = self.arrive(number, false);
                self.torn += u64::from(first);
            }
            _ => self.torn_anonymous += 1,
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

    /// Records that later ones of their stream have overtaken and that have not arrived so far: lost, unless they come
    /// out of order.
    pub(crate) fn overtaken(&self) -> u64 {
        self.ends.saturating_sub(self.arrived())
    }

    /// Distinct records of stream 0 with a sequence number from `first` on that arrived in any state.
    pub(crate) fn arrived_from(&self, first: u64) -> u64 {
        let seen = self.streams.first().map_or(&[][..], |stream| &stream.seen);
        let word = usize::try_from(first / 64).unwrap_or(usize::MAX);
        let begun = seen.get(word).map_or(0, |bits| (bits >> (first % 64)).count_ones());
        let rest = seen.get(word.saturating_add(1)..).unwrap_or_default();
        u64::from(begun) + rest.iter().map(|bits| u64::from(bits.count_ones())).sum::<u64>()
    }

    /// The highest sequence number of each stream that arrived whole, plus one: the least that was sent.
    pub(crate) fn ends(&self) -> Vec<u64> {
        let mut ends: Vec<u64> = self.streams.iter().map(|stream| stream.end).collect();
        // A stream that only torn records tell of may be none.
        while ends.last() == Some(&0) {
            ends.pop();
        }
        ends
    }

    /// Closes the account: of stream `n` the records `0..sent[n]` were sent. One pass over the bitmaps.
    pub(crate) fn tally(&self, sent: &[u64]) -> Tally {
        let mut tally = Tally {
            sent: sent.iter().sum(),
            received: self.received,
            duplicated: self.duplicated,
            reordered: self.reordered,
            torn: self.torn + self.torn_anonymous,
            unmarked: self.unmarked,
            ..Tally::default()
        };
        let nothing = Stream::default();
        for (stream, &sent) in (0..).zip(sent) {
            let seen = self.streams.get(usize::from(stream)).unwrap_or(&nothing);
            seen.find_gaps(sent, |first, last| {
                tally.lost += last - first + 1;
                if tally.gaps.len() < NAMED_GAPS {
                    tally.gaps.push(Gap { stream, first, last });
                }
            });
        }
        tally
    }

    fn end(&self, stream: u16) -> u64 {
        self.streams.get(usize::from(stream)).map_or(0, |stream| stream.end)
    }

    /// Sets the bit of `number`; returns whether it was clear. Only one that is `proved` says how many were sent.
    fn arrive(&mut self, number: Number, proved: bool) -> bool {
        let index = usize::from(number.stream);
        if index >= self.streams.len() {
            self.streams.resize_with(index + 1, Stream::default);
        }
        let stream = &mut self.streams[index];
        let sequence = number.sequence;
        // A whole record's number is proved by its stamp, and a torn one's is bounded: so is the bitmap.
        let word = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        let bit = 1 << (sequence % 64);
        if word >= stream.seen.len() {
            stream.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if stream.seen[word] & bit != 0 {
            self.duplicated += 1;
            return false;
        }
        stream.seen[word] |= bit;
        if sequence < stream.end {
            self.reordered += 1;
        } else if proved {
            self.ends += sequence + 1 - stream.end;
            stream.end = sequence + 1;
        }
        true
    }
}

impl Stream {
    /// Calls `gap` with the first and last number of each gap in `0..sent`.
    fn find_gaps(&self, sent: u64, mut gap: impl FnMut(u64, u64)) {
        let mut open: Option<u64> = None;
        let mut sequence = 0;
        while sequence < sent {
            let word =
                usize::try_from(sequence / 64).ok().and_then(|w| self.seen.get(w)).copied().unwrap_or(0);
            let end = (sequence + 64).min(sent);
            match (word, open) {
                (u64::MAX, None) => {}
                (0, _) => {
                    open.get_or_insert(sequence);
                }
                _ => {
                    for n in sequence..end {
                        if word >> (n % 64) & 1 == 0 {
                            open.get_or_insert(n);
                        } else if let Some(first) = open.take() {
                            gap(first, n - 1);
                        }
                    }
                }
            }
            sequence = end;
        }
        if let Some(first) = open {
            gap(first, sent - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn number(stream: u16, sequence: u64) -> Number {
        Number { stream, sequence }
    }

    fn account(arrivals: &[u64], sent: u64) -> Tally {
        let mut ledger = Ledger::default();
        for &sequence in arrivals {
            ledger.whole(number(0, sequence));
        }
        ledger.tally(&[sent])
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
        let gap = |first, last| Gap { stream: 0, first, last };
        let arrivals: Vec<u64> =
            (0..300).filter(|n| !(60..=70).contains(n) && *n != 128 && *n < 290).collect();
        assert_eq!(account(&arrivals, 300).gaps, [gap(60, 70), gap(128, 128), gap(290, 299)]);
        let arrivals: Vec<u64> = (64..128).collect();
        assert_eq!(account(&arrivals, 128).gaps, [gap(0, 63)]);
    }

    #[test]
    fn torn_records_are_neither_received_nor_lost() {
        let mut ledger = Ledger::default();
        ledger.whole(number(0, 0));
        ledger.torn(Some(number(0, 1)));
        ledger.torn(None);
        ledger.unmarked();
        let tally = ledger.tally(&[3]);
        assert_eq!((tally.received, tally.torn, tally.lost, tally.unmarked), (1, 2, 1, 1));
    }

    #[test]
    fn streams_are_counted_each_for_itself() {
        let mut ledger = Ledger::default();
        for (stream, sequence) in [(0, 0), (2, 5), (0, 1), (2, 4), (2, 4), (1, 0)] {
            ledger.whole(number(stream, sequence));
        }
        assert_eq!(ledger.ends(), [2, 1, 6]);
        assert_eq!(ledger.overtaken(), 4);
        let tally = ledger.tally(&[3, 1, 6]);
        assert_eq!((tally.sent, tally.received, tally.lost), (10, 5, 5));
        assert_eq!((tally.duplicated, tally.reordered), (1, 1));
        let gaps: Vec<String> = tally.gaps.iter().map(Gap::to_string).collect();
        assert_eq!(gaps, ["2-2", "2:0-3"]);
    }

    #[test]
    fn arrivals_behind_a_number_are_counted() {
        let mut ledger = Ledger::default();
        for sequence in (0..300).filter(|n| n % 7 != 0) {
            ledger.whole(number(0, sequence));
        }
        for first in [0, 1, 63, 64, 65, 200, 299, 300, 1000, u64::MAX] {
            let expected = (first..300).filter(|n| n % 7 != 0).count() as u64;
            assert_eq!(ledger.arrived_from(first), expected, "{first}");
        }
        assert_eq!(Ledger::default().arrived_from(0), 0);
    }

    #[test]
    fn a_broken_number_does_not_fill_the_memory() {
        let mut ledger = Ledger::default();
        ledger.torn(Some(number(0, 1 << 39)));
        assert_eq!(ledger.tally(&[1]).torn, 1);
        assert!(ledger.ends().is_empty());
    }

    #[test]
    fn a_broken_number_does_not_make_millions_lost() {
        let mut ledger = Ledger::default();
        for sequence in 0..10 {
            ledger.whole(number(0, sequence));
        }
        ledger.torn(Some(number(0, LEAD)));
        ledger.torn(Some(number(3, 7)));
        assert_eq!((ledger.ends(), ledger.overtaken()), (vec![10], 0));
        let tally = ledger.tally(&ledger.ends());
        assert_eq!((tally.received, tally.torn, tally.lost), (10, 2, 0));
        // A whole one behind it proves it.
        ledger.torn(Some(number(0, 10)));
        ledger.whole(number(0, 11));
        let tally = ledger.tally(&ledger.ends());
        assert_eq!((tally.sent, tally.received, tally.torn, tally.lost), (12, 11, 3, 0));
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
