//! 5 QUEUE: batches from ingest to one destination, empty ones back.
//!
//! Promise: batches come out in the order they went in; the queue never holds more bytes than it may.
//! Law: neither side waits here for a lock but the one of batches given back, held for a moment (a snapshot of the
//! queue's age takes one, which ingest only tries). What passes is batches, so the cost of the hand-over (a ring
//! slot, and a wake-up if the other side sleeps) is paid once for hundreds of records when it matters.
//!
//! ```text
//! ingest: Producer --- full (bounded by slots and bytes) ---> Consumer: output
//!                  <-- empties -----------------------------
//! ```
//!
//! Several outputs may share one consumer's end (`balance`): each batch goes to one of them, and what one gives
//! back ([`Consumer::put_back`]) goes to whoever asks next, before anything newer. So it is the oldest.
//!
//! Waking: an output that waits for a batch is a task and is notified. Ingest waits for records, not
//! for us; only when it holds a batch back (the queue is long enough already) or is blocked
//! on a full queue does it ask for `wake`.

mod age;

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use tokio::sync::Notify;

use crate::batch::{BATCH_BYTES, Batch};
use age::Marks;

/// Batches that may wait before half-filled ones are held back for more records.
const ENOUGH_WAITING: usize = 2;

/// Empty batches kept for reuse. More are in circulation only while a backlog drains.
const KEPT_EMPTY: usize = 8;

/// Wakes ingest out of its wait.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

struct Shared {
    limit: usize,
    /// Bytes in batches that were pushed and not yet settled.
    bytes: AtomicUsize,
    /// The producer wants to be woken once the queue is empty.
    holding: AtomicBool,
    /// The producer wants to be woken as soon as something was settled.
    blocked: AtomicBool,
    /// An output has found nothing more to send, and nothing has come since.
    caught_up: AtomicBool,
    /// The producer is gone: what is in the ring is all that will come.
    closed: AtomicBool,
    filled: Notify,
    /// The producer is gone and everything is settled.
    over: Notify,
    /// Batches that an output has given back, and their number: the lock is taken only where there are some.
    returned: Mutex<VecDeque<Batch>>,
    returned_count: AtomicUsize,
    /// Bytes of all batches that ever came in.
    pushed: AtomicU64,
    /// When they came; the producer writes here some ten times a second at most, and waits for nobody.
    marks: Mutex<Marks>,
    wake: Wake,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.closed.load(SeqCst) && self.bytes.load(SeqCst) == 0
    }

    /// Bytes of those that came in and are settled, about: the two numbers are not read at once.
    fn settled(&self) -> u64 {
        let held = self.bytes.load(SeqCst) as u64;
        self.pushed.load(SeqCst).saturating_sub(held)
    }

    /// The oldest of the batches that were given back.
    fn take_returned(&self) -> Option<Batch> {
        if self.returned_count.load(SeqCst) == 0 {
            return None;
        }
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = returned.pop_front()?;
        self.returned_count.fetch_sub(1, SeqCst);
        Some(batch)
    }

    /// Takes `bytes` off the account.
    fn release(&self, bytes: usize) {
        if self.bytes.fetch_sub(bytes, SeqCst) == bytes && self.closed.load(SeqCst) {
            self.over.notify_waiters();
        }
        if self.blocked.load(SeqCst) && self.blocked.swap(false, SeqCst) {
            (self.wake)();
        }
    }
}

/// Makes a queue for at most `limit` bytes of messages (and at least one batch).
pub fn queue(limit: usize, wake: Wake) -> (Producer, Consumer) {
    let slots = (limit / BATCH_BYTES).max(2) + ENOUGH_WAITING;
    let (full_in, full_out) = bounded(slots);
    let (empty_in, empty_out) = bounded(KEPT_EMPTY);
    let shared = Arc::new(Shared {
        limit,
        bytes: AtomicUsize::new(0),
        holding: AtomicBool::new(false),
        blocked: AtomicBool::new(false),
        caught_up: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        filled: Notify::new(),
        over: Notify::new(),
        returned: Mutex::default(),
        returned_count: AtomicUsize::new(0),
        pushed: AtomicU64::new(0),
        marks: Mutex::new(Marks::new()),
        wake,
    });
    let producer = Producer {
        full: Some(full_in),
        oldest: full_out.clone(),
        empties: empty_out,
        shared: Arc::clone(&shared),
        mark_due: Instant::now(),
    };
    (producer, Consumer { full: full_out, empties: empty_in, shared })
}

/// Ingest's end.
pub struct Producer {
    /// `None` only while dropping.
    full: Option<Sender<Batch>>,
    oldest: Receiver<Batch>,
    empties: Receiver<Batch>,
    shared: Arc<Shared>,
    /// When to note next how far the queue has come.
    mark_due: Instant,
}

impl Producer {
    /// Says what time it is: what is pushed from now on came at `now`.
    pub fn set_moment(&mut self, now: Instant) {
        if now >= self.mark_due {
            self.mark(now);
        }
    }

    #[cold]
    fn mark(&mut self, now: Instant) {
        // While a snapshot is taken: the next time does as well.
        if let Ok(mut marks) = self.shared.marks.try_lock() {
            let settled = self.shared.settled();
            self.mark_due = marks.add(self.shared.pushed.load(SeqCst), settled, now);
        }
    }

    /// Hands `batch` over and puts an empty one in its place, or leaves it where it is and returns false
    /// because the queue is full. Gives the queue its only producer, so room that was seen stays.
    pub fn push(&self, batch: &mut Batch) -> bool {
        self.push_within(self.shared.limit, batch)
    }

    /// As [`Producer::push`], counting only what waits: what the output has in hand may exceed the limit by
    /// one batch. For a producer that has already taken all that waited out again.
    pub fn push_beyond_the_hand(&self, batch: &mut Batch) -> bool {
        self.oldest.is_empty() && self.push_within(usize::MAX, batch)
    }

    fn push_within(&self, limit: usize, batch: &mut Batch) -> bool {
        let Some(full) = &self.full else { return false };
        let held = self.shared.bytes.load(SeqCst);
        // One batch always fits, whatever its size: a giant record must not stop the stream.
        if full.is_full() || (held > 0 && held.saturating_add(batch.bytes.len()) > limit) {
            return false;
        }
        self.shared.bytes.fetch_add(batch.bytes.len(), SeqCst);
        self.shared.pushed.fetch_add(batch.bytes.len() as u64, Relaxed);
        let empty = self.empties.try_recv().unwrap_or_else(|_| Batch::new());
        let filled = std::mem::replace(batch, empty);
        self.shared.caught_up.store(false, SeqCst);
        match full.try_send(filled) {
            Ok(()) => {
                self.shared.filled.notify_one();
                true
            }
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                self.shared.bytes.fetch_sub(back.bytes.len(), SeqCst);
                self.shared.pushed.fetch_sub(back.bytes.len() as u64, Relaxed);
                *batch = back;
                false
            }
        }
    }

    /// True if everything that was pushed has been written, and the output waits for more.
    pub fn is_caught_up(&self) -> bool {
        self.shared.caught_up.load(SeqCst)
    }

    /// True if a half-filled batch should wait for more records: the output has enough to do. The
    /// producer is then woken when the output has caught up.
    pub fn hold_back(&self) -> bool {
        if self.oldest.len() < ENOUGH_WAITING {
            return false;
        }
        self.shared.holding.store(true, SeqCst);
        // The output may have emptied the queue just before it could see the wish.
        !(self.oldest.is_empty() && self.shared.holding.swap(false, SeqCst))
    }

    /// Asks to be woken as soon as the output has settled something. Call [`Producer::push`] once more
    /// after this, before waiting.
    pub fn wake_on_room(&self) {
        self.shared.blocked.store(true, SeqCst);
    }

    /// Takes the oldest batch back out of the queue: one that was given back or inherited, if there is any.
    pub fn take_oldest(&self) -> Option<Batch> {
        let batch = self.shared.take_returned().or_else(|| self.oldest.try_recv().ok())?;
        self.shared.bytes.fetch_sub(batch.bytes.len(), SeqCst);
        Some(batch)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.full = None;
        self.shared.closed.store(true, SeqCst);
        // Everyone who waits now, and whoever has looked already and waits next.
        self.shared.filled.notify_waiters();
        self.shared.filled.notify_one();
        self.shared.over.notify_waiters();
    }
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level {
    /// Bytes of messages that are not settled.
    pub bytes: usize,
    /// Bytes that it may hold.
    pub limit: usize,
    /// When the oldest of them came, to some 100 ms, or to a hundredth where it has been long; `None`: there are none,
    /// or none has come through [`Producer::push`].
    pub since: Option<Instant>,
}

/// The output's end, or one of several.
#[derive(Clone)]
pub struct Consumer {
    full: Receiver<Batch>,
    empties: Sender<Batch>,
    shared: Arc<Shared>,
}

impl Consumer {
    /// Waits for the next batch; `None` once the producer is gone and everything was taken. Dropping the
    /// future loses nothing.
    pub async fn next(&self) -> Option<Batch> {
        loop {
            if let Some(batch) = self.shared.take_returned() {
                return Some(batch);
            }
            match self.full.try_recv() {
                Ok(batch) => return Some(batch),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {
                    if self.shared.holding.swap(false, SeqCst) {
                        (self.shared.wake)();
                    }
                    // A notification sent since try_recv is kept for this call, so none is missed.
                    self.shared.filled.notified().await;
                }
            }
        }
    }

    /// Says that there is nothing in hand to be written and nothing in the queue, or that this holds no longer.
    pub fn set_caught_up(&self, caught_up: bool) {
        self.shared.caught_up.store(caught_up && self.full.is_empty(), SeqCst);
    }

    /// Waits until the producer is gone and everything is settled, by whichever output. Dropping the future
    /// loses nothing.
    pub async fn over(&self) {
        loop {
            // Made before the question, so that no answer in between is missed.
            let mut over = pin!(self.shared.over.notified());
            over.as_mut().enable();
            if self.shared.is_over() {
                return;
            }
            over.await;
        }
    }

    /// True if the producer will soon have to wait for something to be settled, or does.
    pub fn is_tight(&self) -> bool {
        self.shared.bytes.load(SeqCst) > self.shared.limit / 2 || self.shared.blocked.load(SeqCst)
    }

    /// True once the producer is gone and everything is settled.
    pub fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    /// What waits, or is written and not settled.
    pub fn level(&self) -> Level {
        let bytes = self.shared.bytes.load(SeqCst);
        let settled = self.shared.settled();
        let since = self.shared.marks.lock().unwrap_or_else(PoisonError::into_inner).since(settled);
        Level { bytes, limit: self.shared.limit, since: since.filter(|_| bytes > 0) }
    }

    /// As [`Consumer::next`] after that has returned `None`: waits for a batch that another output gives back;
    /// `None` once everything is settled.
    pub async fn next_returned(&self) -> Option<Batch> {
        loop {
            let mut over = pin!(self.shared.over.notified());
            over.as_mut().enable();
            let mut filled = pin!(self.shared.filled.notified());
            filled.as_mut().enable();
            if let Some(batch) = self.shared.take_returned() {
                return Some(batch);
            }
            if self.shared.is_over() {
                return None;
            }
            tokio::select! {
                () = over => {}
                () = filled => {}
            }
        }
    }

    /// Takes the next batch if there is one.
    pub fn try_next(&self) -> Option<Batch> {
        self.shared.take_returned().or_else(|| self.full.try_recv().ok())
    }

    /// Gives back a batch that was taken and is not settled: the next one who asks gets it.
    pub fn put_back(&self, batch: Batch) {
        self.set_caught_up(false);
        let mut returned = self.shared.returned.lock().unwrap_or_else(PoisonError::into_inner);
        returned.push_back(batch);
        self.shared.returned_count.fetch_add(1, SeqCst);
        drop(returned);
        self.shared.filled.notify_one();
    }

    /// Takes up a batch that never went through this queue, before all that waits.
    pub fn adopt(&self, batch: Batch) {
        self.shared.bytes.fetch_add(batch.bytes.len(), SeqCst);
        self.shared.pushed.fetch_add(batch.bytes.len() as u64, Relaxed);
        self.put_back(batch);
    }

    /// Takes a batch off the account that is neither sent nor lost but goes elsewhere.
    pub fn surrender(&self, batch: Batch) -> Batch {
        self.shared.release(batch.bytes.len());
        batch
    }

    /// Takes `bytes` of a batch off the account whose messages are settled while the rest is not.
    pub fn release(&self, bytes: usize) {
        self.shared.release(bytes);
    }

    /// Gives back an empty batch whose messages have gone into another one and are settled with that.
    pub fn give_back(&self, batch: Batch) {
        debug_assert!(batch.is_empty());
        let _ = self.empties.try_send(batch);
    }

    /// Gives back a batch whose messages are all sent or lost.
    pub fn settle(&self, mut batch: Batch) {
        let bytes = batch.bytes.len();
        batch.clear();
        // Full means that enough empties wait already; then the memory goes back.
        let _ = self.empties.try_send(batch);
        self.shared.release(bytes);
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("waiting", &self.oldest.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("waiting", &self.full.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &[u8]) -> Batch {
        let mut batch = Batch::new();
        batch.bytes.extend_from_slice(text);
        batch.end_message(None, true);
        batch
    }

    fn counting() -> (Wake, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let inner = Arc::clone(&count);
        let wake = move || {
            inner.fetch_add(1, SeqCst);
        };
        (Arc::new(wake), count)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn order_and_end() {
        let (producer, consumer) = queue(1 << 20, counting().0);
        for text in [b"a", b"b"] {
            let mut batch = filled(text);
            assert!(producer.push(&mut batch) && batch.is_empty());
        }
        drop(producer);
        run(async {
            assert_eq!(consumer.next().await.unwrap().bytes, "a");
            assert_eq!(consumer.next().await.unwrap().bytes, "b");
            assert!(consumer.next().await.is_none());
        });
    }

    #[test]
    fn the_level_says_how_much_waits_and_since_when() {
        use std::time::Duration;
        let (mut producer, consumer) = queue(1 << 20, counting().0);
        let start = Instant::now() + Duration::from_secs(1);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(consumer.level(), Level { bytes: 0, limit: 1 << 20, since: None });
        for second in 0..3 {
            producer.set_moment(at(second));
            assert!(producer.push(&mut filled(b"abcd")));
        }
        assert_eq!(consumer.level(), Level { bytes: 12, limit: 1 << 20, since: Some(at(0)) });
        consumer.settle(consumer.try_next().unwrap());
        assert_eq!(consumer.level().since, Some(at(1)));
        // Given back is not settled.
        consumer.put_back(consumer.try_next().unwrap());
        assert_eq!((consumer.level().bytes, consumer.level().since), (8, Some(at(1))));
        consumer.settle(consumer.try_next().unwrap());
        assert_eq!(consumer.level().since, Some(at(2)));
        consumer.settle(consumer.try_next().unwrap());
        assert_eq!(consumer.level().since, None);
        // What the instance before has left came when it was taken up at the latest.
        producer.set_moment(at(9));
        assert!(producer.push(&mut filled(b"new")));
        consumer.adopt(filled(b"older"));
        assert_eq!((consumer.level().bytes, consumer.level().since), (8, Some(at(9))));
    }

    #[test]
    fn bytes_bound_the_queue_until_they_are_settled() {
        let (wake, woken) = counting();
        let (producer, consumer) = queue(100, wake);
        let mut batch = filled(&[b'x'; 500]);
        assert!(producer.push(&mut batch), "one batch always fits");
        let mut batch = filled(b"y");
        assert!(!producer.push(&mut batch) && batch.bytes == "y");
        producer.wake_on_room();
        let taken = consumer.try_next().unwrap();
        assert!(!producer.push(&mut batch), "taken is not settled");
        assert_eq!(woken.load(SeqCst), 0);
        consumer.settle(taken);
        assert_eq!(woken.load(SeqCst), 1);
        assert!(producer.push(&mut batch));
    }

    #[test]
    fn the_oldest_can_make_room() {
        let (producer, consumer) = queue(100, counting().0);
        assert!(producer.push(&mut filled(&[b'a'; 60])));
        let mut batch = filled(&[b'b'; 60]);
        assert!(!producer.push(&mut batch));
        assert_eq!(producer.take_oldest().unwrap().bytes[0], b'a');
        assert!(producer.push(&mut batch));
        assert_eq!(consumer.try_next().unwrap().bytes[0], b'b');
    }

    #[test]
    fn what_was_given_back_or_inherited_is_older_than_what_waits() {
        let (producer, consumer) = queue(100, counting().0);
        assert!(producer.push(&mut filled(&[b'a'; 60])));
        consumer.put_back(consumer.try_next().unwrap());
        consumer.adopt(filled(&[b'b'; 60]));
        let mut batch = filled(&[b'c'; 60]);
        for oldest in [b'a', b'b'] {
            assert!(!producer.push(&mut batch));
            assert_eq!(producer.take_oldest().unwrap().bytes[0], oldest);
        }
        assert!(producer.push(&mut batch));
        assert_eq!((consumer.level().bytes, consumer.try_next().unwrap().bytes[0]), (60, b'c'));
        assert!(consumer.try_next().is_none() && producer.take_oldest().is_none());
    }

    #[test]
    fn batches_are_held_back_only_while_the_output_has_work() {
        let (wake, woken) = counting();
        let (producer, consumer) = queue(1 << 20, wake);
        assert!(!producer.hold_back());
        for _ in 0..ENOUGH_WAITING {
            assert!(producer.push(&mut filled(b"x")));
        }
        assert!(producer.hold_back());
        run(async {
            for _ in 0..ENOUGH_WAITING {
                consumer.settle(consumer.next().await.unwrap());
            }
            assert_eq!(woken.load(SeqCst), 0);
            tokio::select! {
                biased;
                _ = consumer.next() => panic!("nothing to take"),
                () = std::future::ready(()) => {}
            }
        });
        assert_eq!(woken.load(SeqCst), 1);
    }

    #[test]
    fn what_one_output_gives_back_another_takes_first() {
        let (producer, consumer) = queue(1 << 20, counting().0);
        let other = consumer.clone();
        for text in [b"a", b"b"] {
            assert!(producer.push(&mut filled(text)));
        }
        run(async {
            let first = consumer.next().await.unwrap();
            consumer.put_back(first);
            assert_eq!(other.next().await.unwrap().bytes, "a");
            assert_eq!(other.next().await.unwrap().bytes, "b");
        });
    }

    #[test]
    fn nobody_is_through_before_everything_is_settled() {
        let (producer, consumer) = queue(1 << 20, counting().0);
        let other = consumer.clone();
        assert!(producer.push(&mut filled(b"a")));
        drop(producer);
        run(async {
            let batch = consumer.next().await.unwrap();
            assert!(other.next().await.is_none(), "nothing more to take");
            let waits = async {
                let batch = other.next_returned().await.expect("the other one fails");
                other.settle(batch);
                assert!(other.next_returned().await.is_none());
            };
            let fails = async {
                tokio::task::yield_now().await;
                consumer.put_back(batch);
                consumer.over().await;
            };
            tokio::join!(waits, fails);
        });
    }

    #[test]
    fn steady_state_reuses_batches() {
        let (producer, consumer) = queue(1 << 20, counting().0);
        let mut batch = filled(b"x");
        assert!(producer.push(&mut batch));
        let taken = consumer.try_next().unwrap();
        let memory = taken.bytes.as_ptr();
        consumer.settle(taken);
        batch.bytes.extend_from_slice(b"y");
        batch.end_message(None, true);
        assert!(producer.push(&mut batch));
        assert_eq!(batch.bytes.as_ptr(), memory);
    }
}
