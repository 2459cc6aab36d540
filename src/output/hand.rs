//! What an output has taken from its queue: what is to be sent, and what is sent but may have to be sent
//! again. Pure.
//!
//! Promise: every message goes to the transport whole; after a connection has ended, the next one gets,
//! from a message border on and in order, everything that is not certain to have arrived. Law: a batch is
//! settled, and its records counted as sent, once and for all of its messages at a time.
//!
//! ```text
//!            kept (written on this connection)       |  batches (to be written)
//!   | batch | batch | batch | batch |                |  front: done, offset | batch | ...
//!           ^ acknowledged - margin: what ends before it is settled
//! ```
//!
//! Positions are byte counts on the present connection. A batch whose beginning went over an earlier one has
//! its byte 0 before position 0, so they are signed.

use std::collections::VecDeque;

use super::margin::Margin;
use crate::batch::Batch;
use crate::queue::Consumer;
use crate::telemetry::{DestinationCounters, Reason};

/// Most batches that one write takes.
pub(super) const GATHER_BATCHES: usize = 16;

/// Bytes at which a write is large enough. What has been gathered is out of the queue, and out of the reach
/// of `drop-oldest`.
const GATHER_BYTES: usize = 192 * 1024;

/// A batch that is written and not yet settled.
#[derive(Debug)]
struct Kept {
    batch: Batch,
    /// Position of the batch's byte 0.
    base: i64,
    lost: u64,
}

/// Batches between queue and settlement.
#[derive(Debug)]
pub(super) struct Hand {
    /// To be written; the first one may be under way.
    batches: VecDeque<Batch>,
    /// Messages of the first batch that are behind us: sent, or lost and counted as such.
    done: usize,
    /// Bytes of the first batch that are written: at or behind the start of message `done`, before its end.
    offset: usize,
    /// Records among the `done` messages that were lost.
    lost: u64,
    /// Written batches that may have to be sent again; empty where the transport cannot tell what arrived.
    kept: VecDeque<Kept>,
    /// Bytes written on this connection.
    written: i64,
    /// Of these, at the beginning, an earlier connection's peer had acknowledged so many.
    repeated: i64,
    /// Bytes that are kept although they are acknowledged, for receivers that die with data unread.
    margin: Margin,
}

impl Hand {
    /// An empty hand that keeps `margin` acknowledged bytes.
    pub(super) fn new(margin: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            done: 0,
            offset: 0,
            lost: 0,
            kept: VecDeque::new(),
            written: 0,
            repeated: 0,
            margin: Margin::new(margin),
        }
    }

    /// From now on keeps `margin` acknowledged bytes.
    pub(super) fn set_margin(&mut self, margin: usize) {
        self.margin.set(margin);
    }

    /// The connection has failed, `acknowledged` bytes of it having arrived. Call before [`Hand::start_over`]. True if
    /// from now on less than the whole margin is sent again, since too many have ended before they got past it.
    pub(super) fn connection_failed(&mut self, acknowledged: u64) -> bool {
        let acknowledged = i64::try_from(acknowledged).unwrap_or(i64::MAX).min(self.written);
        self.margin.failed(acknowledged, self.repeated)
    }

    /// True if nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// True if something written is not settled yet.
    pub(super) fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// True if the peer has acknowledged everything that was written on this connection.
    pub(super) fn all_written_is(&self, acknowledged: u64) -> bool {
        i64::try_from(acknowledged).is_ok_and(|acknowledged| acknowledged >= self.written)
    }

    /// Bytes written that are not settled yet, about.
    pub(super) fn kept_bytes(&self) -> i64 {
        self.kept.front().map_or(0, |first| self.written - first.base)
    }

    /// Bytes written on this connection.
    pub(super) fn written(&self) -> i64 {
        self.written
    }

    /// Takes `batch` behind all others.
    pub(super) fn take(&mut self, batch: Batch) {
        self.batches.push_back(batch);
    }

    /// Takes from the queue without waiting, up to what one write should hold.
    pub(super) fn gather(&mut self, consumer: &Consumer) {
        let mut bytes: usize = self.batches.iter().map(|batch| batch.bytes.len()).sum();
        while self.batches.len() < GATHER_BATCHES && bytes < GATHER_BYTES {
            match consumer.try_next() {
                Some(batch) => {
                    bytes += batch.bytes.len();
                    self.batches.push_back(batch);
                }
                None => return,
            }
        }
    }

    /// The first batch, for its messages, and how many of them are behind us.
    pub(super) fn front(&self) -> Option<(&Batch, usize)> {
        self.batches.front().map(|front| (front, self.done))
    }

    /// The first batch's bytes, moved out, and how many of them are written. Give them back with
    /// [`Hand::restore_bytes`].
    pub(super) fn lend_bytes(&mut self) -> Option<(bytes::BytesMut, usize)> {
        self.batches.front_mut().map(|front| (std::mem::take(&mut front.bytes), self.offset))
    }

    /// See [`Hand::lend_bytes`].
    pub(super) fn restore_bytes(&mut self, bytes: bytes::BytesMut) {
        if let Some(front) = self.batches.front_mut() {
            front.bytes = bytes;
        }
    }

    /// What is to be written, in order, one slice a batch.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let offset = self.offset;
        self.batches.iter().enumerate().map(
            move |(at, batch)| {
                if at == 0 { &batch.bytes[offset..] } else { &batch.bytes[..] }
            },
        )
    }

    /// Counts `bytes` more as taken by the transport. Batches that are through are kept if `keep`, else
    /// settled.
    pub(super) fn advance(
        &mut self,
        mut bytes: usize,
        keep: bool,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) {
        counters.sent_bytes(bytes);
        while let Some(front) = self.batches.front() {
            let left = front.bytes.len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                self.written += signed(bytes);
                let entries = &front.entries()[self.done..];
                self.done += entries.iter().take_while(|entry| entry.end() <= self.offset).count();
                return;
            }
            bytes -= left;
            self.written += signed(left);
            let length = signed(front.bytes.len());
            if keep && let Some(batch) = self.batches.pop_front() {
                let kept = Kept { batch, base: self.written - length, lost: self.lost };
                (self.done, self.offset, self.lost) = (0, 0, 0);
                self.keep(kept, consumer);
            } else {
                self.settle_front(consumer, counters);
            }
        }
    }

    /// Keeps a batch, in the memory of the one before it where it fits: at low rates every record travels in a
    /// batch of its own, and thousands of those would hold thousands of times a batch's memory.
    fn keep(&mut self, mut kept: Kept, consumer: &Consumer) {
        if let Some(last) = self.kept.back_mut()
            && last.base + signed(last.batch.bytes.len()) == kept.base
            && last.batch.has_room_for(&kept.batch)
        {
            last.batch.append(&mut kept.batch);
            last.lost += kept.lost;
            consumer.give_back(kept.batch);
        } else {
            self.kept.push_back(kept);
        }
    }

    /// Records of the first batch that the next `bytes` of it would complete.
    pub(super) fn records_within(&self, bytes: usize) -> u64 {
        let Some(front) = self.batches.front() else { return 0 };
        let rest = &front.entries()[self.done..];
        let within = rest.iter().take_while(|entry| entry.end() <= self.offset + bytes);
        within.filter(|entry| entry.is_record()).count() as u64
    }

    /// Settles what the peer is certain to have: it has acknowledged `acknowledged` bytes of this connection.
    pub(super) fn acknowledge(
        &mut self,
        acknowledged: u64,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) {
        self.margin.acknowledged(i64::try_from(acknowledged).unwrap_or(i64::MAX));
        let certain = self.certain(acknowledged);
        while let Some(first) = self.kept.front() {
            if first.base + signed(first.batch.bytes.len()) > certain {
                return;
            }
            self.settle_kept(consumer, counters);
        }
    }

    /// Settles everything that is written: the peer has it, and nobody will ask again.
    pub(super) fn settle_all_kept(&mut self, consumer: &Consumer, counters: &DestinationCounters) {
        while self.keeps() {
            self.settle_kept(consumer, counters);
        }
    }

    /// The connection has ended, `acknowledged` bytes of it having arrived (`None`: nobody can tell, so what
    /// is written counts as sent). What comes next goes over a new one. Returns how many records are sent
    /// again though they were written.
    pub(super) fn start_over(
        &mut self,
        acknowledged: Option<u64>,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> u64 {
        let mut again = 0;
        let mut base = self.written - signed(self.offset);
        if let (Some(front), Some(acknowledged)) = (self.batches.front(), acknowledged) {
            let first = first_uncertain(front, base, self.certain(acknowledged));
            // Messages lost on the way (too long) stay lost: they lie before what is written here.
            if first < self.done {
                again += records(front, first, self.done);
                self.done = first;
            }
        }
        if let Some(acknowledged) = acknowledged {
            self.acknowledge(acknowledged, consumer, counters);
            let certain = self.certain(acknowledged);
            // Where something kept is uncertain, all of what follows it is, so the old front starts at 0.
            while let Some(kept) = self.kept.pop_back() {
                let first = first_uncertain(&kept.batch, kept.base, certain);
                again += records(&kept.batch, first, kept.batch.entries().len());
                (self.done, self.lost) = (first, kept.lost);
                base = kept.base;
                self.batches.push_front(kept.batch);
            }
        }
        self.offset = self.batches.front().map_or(0, |front| front.start(self.done));
        // Where others take from the same queue, one of them may get it; then this is too much, until it is past it.
        let acknowledged = i64::try_from(acknowledged.unwrap_or(0)).unwrap_or(i64::MAX).min(self.written);
        self.repeated = (acknowledged.max(self.repeated) - (base + signed(self.offset))).max(0);
        self.written = 0;
        again
    }

    /// Passes over the message that is next without its having been sent.
    pub(super) fn lose_message(
        &mut self,
        reason: Reason,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) {
        let Some(front) = self.batches.front() else { return };
        let entry = front.entries()[self.done];
        if entry.is_record() {
            self.lost += 1;
            counters.lost_message(reason, entry.stamp());
        }
        self.skip_message(consumer, counters);
    }

    /// Moves behind the message that is next.
    pub(super) fn skip_message(&mut self, consumer: &Consumer, counters: &DestinationCounters) {
        let Some(front) = self.batches.front() else { return };
        self.offset = front.entries()[self.done].end();
        self.done += 1;
        if self.done == front.entries().len() {
            self.settle_front(consumer, counters);
        }
    }

    /// The receiver has refused the message that ends at `position` of this connection, and will not be asked
    /// again. Call before [`Hand::acknowledge`] with a position at or behind it.
    pub(super) fn lose_written(&mut self, position: i64, reason: Reason, counters: &DestinationCounters) {
        let lose = |batch: &Batch, base: i64, lost: &mut u64| {
            let found = batch.entries().binary_search_by_key(&position, |entry| base + signed(entry.end()));
            if let Some(entry) = found.ok().map(|at| batch.entries()[at])
                && entry.is_record()
            {
                *lost += 1;
                counters.lost_message(reason, entry.stamp());
            }
        };
        let kept = self.kept.iter_mut().find(|kept| kept.base + signed(kept.batch.bytes.len()) >= position);
        if let Some(kept) = kept {
            lose(&kept.batch, kept.base, &mut kept.lost);
        } else if let Some(front) = self.batches.front() {
            lose(front, self.written - signed(self.offset), &mut self.lost);
        }
    }

    /// Lets go of everything that is left, whole messages, for somebody else to send. The connection has ended
    /// and [`Hand::start_over`] has been called.
    pub(super) fn let_go(&mut self, consumer: &Consumer, counters: &DestinationCounters) -> VecDeque<Batch> {
        let mut batches = std::mem::take(&mut self.batches);
        if let Some(front) = batches.front_mut()
            && self.done > 0
        {
            counters.sent(records(front, 0, self.done) - self.lost);
            consumer.release(front.drop_front(self.done));
        }
        (self.done, self.offset, self.lost) = (0, 0, 0);
        batches
    }

    /// Counts everything that is left as lost, other than what of the first batch is behind us. On a
    /// connection that has ended, [`Hand::start_over`] has been called.
    pub(super) fn abandon(&mut self, reason: Reason, consumer: &Consumer, counters: &DestinationCounters) {
        if let Some(front) = self.batches.pop_front() {
            let done = records(&front, 0, self.done);
            counters.sent(done - self.lost);
            counters.lost_at_output(reason, front.records() - done);
            consumer.settle(front);
        }
        for batch in std::mem::take(&mut self.batches) {
            counters.lost_at_output(reason, batch.records());
            consumer.settle(batch);
        }
        (self.done, self.offset, self.lost) = (0, 0, 0);
    }

    /// Position up to which nothing is sent again. What went over an earlier connection (below 0) was judged
    /// when that one ended.
    fn certain(&self, acknowledged: u64) -> i64 {
        i64::try_from(acknowledged)
            .unwrap_or(i64::MAX)
            .min(self.written)
            .saturating_sub(self.margin.bytes())
            .max(0)
    }

    fn settle_kept(&mut self, consumer: &Consumer, counters: &DestinationCounters) {
        if let Some(kept) = self.kept.pop_front() {
            counters.sent(kept.batch.records() - kept.lost);
            consumer.settle(kept.batch);
        }
    }

    /// Settles the first batch, all of whose messages are behind us.
    fn settle_front(&mut self, consumer: &Consumer, counters: &DestinationCounters) {
        if let Some(batch) = self.batches.pop_front() {
            counters.sent(batch.records() - self.lost);
            consumer.settle(batch);
        }
        (self.done, self.offset, self.lost) = (0, 0, 0);
    }
}

/// Index of the first message of `batch`, whose byte 0 is at `base`, that does not end at or before `certain`.
fn first_uncertain(batch: &Batch, base: i64, certain: i64) -> usize {
    batch.entries().partition_point(|entry| base + signed(entry.end()) <= certain)
}

fn records(batch: &Batch, from: usize, to: usize) -> u64 {
    batch.entries()[from..to].iter().filter(|entry| entry.is_record()).count() as u64
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::queue;
    use crate::telemetry::{InputCounters, Process, Telemetry};
    use proptest::prelude::*;
    use std::sync::Arc;

    struct Bench {
        hand: Hand,
        consumer: Consumer,
        counters: Arc<DestinationCounters>,
    }

    impl Bench {
        fn new(margin: usize, batches: &[&[&str]]) -> Self {
            let (_, consumer) = queue(1 << 20, Arc::new(|| ()));
            let mut hand = Hand::new(margin);
            for texts in batches {
                let mut batch = Batch::new();
                for text in *texts {
                    batch.bytes.extend_from_slice(text.as_bytes());
                    batch.end_message(None, true);
                }
                hand.take(batch);
            }
            let counters = DestinationCounters::new("test:".to_owned());
            counters.begin(0);
            Self { hand, consumer, counters }
        }

        fn write(&mut self, bytes: usize) {
            self.hand.advance(bytes, true, &self.consumer, &self.counters);
        }

        fn start_over(&mut self, acknowledged: Option<u64>) -> u64 {
            self.hand.start_over(acknowledged, &self.consumer, &self.counters)
        }

        fn rest(&self) -> String {
            self.hand.slices().map(|slice| std::str::from_utf8(slice).unwrap()).collect()
        }

        fn sent(&self) -> u64 {
            let input = Arc::new(InputCounters::default());
            let telemetry = Telemetry { input, destinations: vec![Arc::clone(&self.counters)] };
            let process = Process {
                pid: 0,
                uptime_seconds: 0.0,
                start_time: 0.0,
                input: "",
                input_state: "reading",
                user: String::new(),
                confined: crate::telemetry::Enforced::default(),
            };
            telemetry.report(process).destinations[0].sent
        }
    }

    #[test]
    fn a_torn_message_is_sent_again_whole() {
        let mut bench = Bench::new(0, &[&["aaaa", "bbbb", "cccc"], &["dddd"]]);
        bench.hand.advance(6, false, &bench.consumer, &bench.counters);
        assert_eq!(bench.start_over(None), 0);
        assert_eq!(bench.rest(), "bbbbccccdddd");
        bench.hand.advance(12, false, &bench.consumer, &bench.counters);
        assert_eq!((bench.rest().as_str(), bench.sent()), ("", 4));
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_first_and_in_order() {
        let mut bench = Bench::new(0, &[&["aaaa", "bbbb"], &["cccc", "dddd"], &["eeee", "ffff"]]);
        bench.write(22);
        assert!(bench.hand.keeps());
        // The peer has acknowledged up to the middle of bbbb.
        assert_eq!(bench.start_over(Some(6)), 4, "bbbb, cccc, dddd and eeee were written");
        assert_eq!(bench.rest(), "bbbbccccddddeeeeffff");
        bench.write(20);
        bench.hand.acknowledge(8, &bench.consumer, &bench.counters);
        assert_eq!(bench.sent(), 0, "small batches share one, which is settled as a whole");
        bench.hand.acknowledge(20, &bench.consumer, &bench.counters);
        assert_eq!((bench.sent(), bench.hand.keeps()), (6, false));
    }

    #[test]
    fn the_margin_is_sent_again_although_it_was_acknowledged() {
        let mut bench = Bench::new(8, &[&["aaaa"], &["bbbb"], &["cccc"], &["dddd"]]);
        bench.write(16);
        bench.hand.acknowledge(16, &bench.consumer, &bench.counters);
        assert_eq!(bench.sent(), 0);
        assert_eq!(bench.start_over(Some(16)), 2);
        assert_eq!(bench.rest(), "ccccdddd");
    }

    #[test]
    fn lone_records_share_the_memory_of_one_batch_while_they_are_kept() {
        let mut bench = Bench::new(1 << 20, &[]);
        for number in 0..1000 {
            let mut batch = Batch::new();
            batch.bytes.extend_from_slice(format!("record {number};").as_bytes());
            batch.end_message(None, true);
            let length = batch.bytes.len();
            bench.hand.take(batch);
            bench.write(length);
        }
        assert!(bench.hand.kept.len() <= 2, "{} batches for 1000 records", bench.hand.kept.len());
        assert_eq!(bench.start_over(Some(0)), 1000);
        assert!(bench.rest().starts_with("record 0;record 1;") && bench.rest().ends_with("record 999;"));
    }

    #[test]
    fn what_was_refused_stays_lost_and_what_goes_elsewhere_is_counted_once() {
        let mut bench = Bench::new(0, &[&["aaaa", "bbbb", "cccc"], &["dddd"]]);
        bench.write(16);
        bench.hand.lose_written(8, Reason::Refused, &bench.counters);
        bench.hand.acknowledge(8, &bench.consumer, &bench.counters);
        assert_eq!(bench.counters.lost_in_all(), 1);
        assert_eq!(bench.start_over(Some(8)), 2);
        assert_eq!(bench.rest(), "ccccdddd");
        let left = bench.hand.let_go(&bench.consumer, &bench.counters);
        assert_eq!((left.iter().map(Batch::records).sum::<u64>(), bench.sent()), (2, 1));
        assert!(bench.hand.is_empty() && !bench.hand.keeps());
    }

    /// Each connection takes two messages and ends; the margin is as large as four. Without an end to it, the same two go
    /// out for ever.
    #[test]
    fn a_receiver_that_takes_less_than_the_margin_gets_ahead() {
        let mut bench = Bench::new(16, &[&["aaaa", "bbbb"], &["cccc", "dddd"], &["eeee", "ffff"]]);
        let (mut received, mut said) = (std::collections::BTreeSet::new(), 0);
        let mut connections = 0;
        while received.len() < 6 {
            connections += 1;
            assert!(connections < 20, "{received:?} after {connections} connections");
            let wire = bench.rest();
            bench.write(wire.len());
            let taken = wire.len().min(8);
            received.extend(wire.as_bytes()[..taken].chunks(4).map(<[u8]>::to_vec));
            bench.hand.acknowledge(taken as u64, &bench.consumer, &bench.counters);
            said += u32::from(bench.hand.connection_failed(taken as u64));
            bench.start_over(Some(taken as u64));
        }
        // The fourth and the fifth halve the margin; from then on each takes one message that is new.
        assert_eq!((said, connections), (1, 9), "said once");
    }

    #[test]
    fn a_connection_that_took_nothing_changes_nothing() {
        let mut bench = Bench::new(0, &[&["aaaa", "bbbb"]]);
        bench.write(6);
        bench.start_over(Some(4));
        assert_eq!(bench.rest(), "bbbb");
        for _ in 0..3 {
            assert_eq!(bench.start_over(Some(0)), 0);
            assert_eq!(bench.rest(), "bbbb");
        }
    }

    #[test]
    fn messages_that_were_lost_are_not_counted_as_sent() {
        let mut bench = Bench::new(0, &[&["aaaa", "bbbb", "cccc"]]);
        bench.hand.advance(4, false, &bench.consumer, &bench.counters);
        bench.hand.lose_message(Reason::Oversize, &bench.consumer, &bench.counters);
        bench.hand.skip_message(&bench.consumer, &bench.counters);
        assert_eq!((bench.rest().as_str(), bench.sent(), bench.counters.lost_in_all()), ("", 2, 1));
    }

    proptest! {
        /// Connections die at any byte, having acknowledged any part of what was written: the receiver has
        /// every message, in order, once it drops repetitions, and all are counted once.
        #[test]
        fn nothing_is_missing_whatever_breaks(
            sizes in proptest::collection::vec(proptest::collection::vec(1usize..9, 1..5), 1..8),
            breaks in proptest::collection::vec((0usize..60, 0usize..60), 0..12),
            margin in 0usize..30,
        ) {
            let mut number = 0u8;
            let texts: Vec<Vec<String>> = sizes.iter().map(|batch| batch.iter().map(|size| {
                number += 1;
                format!("{}.", char::from(b'A' + number % 26)).repeat(*size) + &format!("{number};")
            }).collect()).collect();
            let batches: Vec<Vec<&str>> = texts.iter().map(|batch| batch.iter().map(String::as_str).collect()).collect();
            let mut bench = Bench::new(margin, &batches.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let all: Vec<&str> = batches.concat();

            let mut received: Vec<String> = Vec::new();
            let mut take = |wire: &str, reaches: usize| {
                let whole = wire[..reaches].rfind(';').map_or("", |end| &wire[..=end]);
                for message in whole.split_inclusive(';') {
                    received.push(message.to_owned());
                }
            };
            for (write, reach) in breaks {
                let wire = bench.rest();
                let write = write.min(wire.len());
                // The peer's kernel acknowledges what it has; the peer reads at least that but the margin.
                let acknowledged = reach.min(write);
                bench.write(write);
                take(&wire, acknowledged.saturating_sub(margin));
                bench.start_over(Some(acknowledged as u64));
            }
            let wire = bench.rest();
            bench.write(wire.len());
            take(&wire, wire.len());
            bench.hand.settle_all_kept(&bench.consumer, &bench.counters);

            let mut seen = Vec::new();
            for message in &received {
                if !seen.contains(message) {
                    seen.push(message.clone());
                }
            }
            prop_assert_eq!(seen, all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
            prop_assert_eq!(bench.sent(), all.len() as u64);
        }
    }
}
