//! Ingest: read, decode, format, batch, queue.
//!
//! Promise: every record is in each destination's batch before the next wait for input, and a batch is with its
//! output as soon as the output has nothing else to do: a lone record leaves at once, a flood leaves in full
//! batches. Law: under auditd ingest waits for input only, and never longer than `ingest/pace` allows while there is
//! some. What a full queue means is the destination's policy; whatever is lost is counted with its reason and said
//! in the stream before the next record.

mod echo;
mod pace;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use log::{error, warn};
use tokio::sync::Notify;

use crate::audit::{Decoder, InputForm, Own, Record, Step, StreamForm};
use crate::batch::{Batch, Gap};
use crate::input::{Event, Input};
use crate::queue::Producer;
use crate::sys;
use crate::syslog::{Encoder, Notice, Shape, TimeQuality};
use crate::telemetry::{DestinationCounters, InputCounters, Reason};
use echo::Echo;
use pace::Pace;

/// Longest wait for room before the flags are looked at again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to do with a record when its destination's queue is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFull {
    /// Wait: nothing is lost, the writer of the input is held up.
    Block,
    /// Lose the record that has just come.
    DropNewest,
    /// Lose the records that have waited longest.
    DropOldest,
}

/// A destination as ingest sees it.
#[derive(Debug)]
pub struct Lane {
    encoder: Encoder,
    batch: Batch,
    producer: Producer,
    on_full: OnFull,
    /// Records lost since the last notice.
    gap: Gap,
    skipped: u64,
    /// Records that the output lost one by one and that a notice has named.
    told_one_by_one: u64,
    /// The record that is being given out waits for room here.
    lacks_one: bool,
    counters: Arc<DestinationCounters>,
}

/// A change of the lanes, sent by the control side.
#[derive(Debug)]
pub struct Reload {
    /// The new lanes in their order. Old ones that are not named here end.
    pub lanes: Vec<NextLane>,
    /// End-of-event records are not forwarded.
    pub drop_eoe: bool,
}

/// One lane after a reload.
#[derive(Debug)]
pub enum NextLane {
    /// Lane number `0` of the old order goes on, with this shape and policy.
    Keep(usize, Box<Shape>, OnFull),
    /// A new lane.
    New(Box<Lane>),
}

/// What ingest and the control side share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Stop reading, as if the input had ended.
    pub stop: AtomicBool,
    /// With `stop`: read first what is there already. auditd's last records may be; a file never ends.
    pub read_what_is_there: AtomicBool,
    /// The drain time is over: wait for no output any more.
    pub give_up: AtomicBool,
    /// What the outputs do not deliver is handed over to the next instance, so they take everything at the end.
    pub hands_over: AtomicBool,
    /// What the kernel says of its clock: bit 63 synchronised, the rest the error in microseconds.
    pub clock: AtomicU64,
    /// [`crate::audit::StreamForm`] as a number.
    pub form: AtomicU8,
    /// There is something in `statistics`.
    has_statistics: AtomicBool,
    /// What to say of whose lane.
    statistics: Mutex<Vec<(Arc<DestinationCounters>, String)>>,
}

impl Shared {
    /// Stores what the kernel says of its clock.
    pub fn set_clock(&self, quality: TimeQuality) {
        let accuracy = quality.accuracy_us.min(u64::MAX >> 1);
        self.clock.store(u64::from(quality.synced) << 63 | accuracy, Ordering::Relaxed);
    }

    /// Has `said` put into the stream of each of these destinations. What was not said yet is out of date.
    pub fn say_statistics(&self, said: Vec<(Arc<DestinationCounters>, String)>) {
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = said;
        self.has_statistics.store(true, Ordering::Release);
    }

    /// True if nobody will take a record any more.
    fn is_hopeless(&self) -> bool {
        self.give_up.load(Ordering::Acquire) && !self.hands_over.load(Ordering::Relaxed)
    }

    fn clock(&self) -> TimeQuality {
        let word = self.clock.load(Ordering::Relaxed);
        TimeQuality { synced: word >> 63 == 1, accuracy_us: word & u64::MAX >> 1 }
    }

    /// The form of the input, in words.
    pub fn form(&self) -> &'static str {
        StreamForm::ALL
            .into_iter()
            .find(|form| *form as u8 == self.form.load(Ordering::Relaxed))
            .map_or("", StreamForm::name)
    }
}

impl Lane {
    /// A lane with nothing in it.
    pub fn new(
        shape: Shape,
        producer: Producer,
        on_full: OnFull,
        counters: Arc<DestinationCounters>,
    ) -> Self {
        Self {
            encoder: Encoder::new(shape),
            batch: Batch::new(),
            producer,
            on_full,
            gap: Gap::default(),
            skipped: 0,
            told_one_by_one: 0,
            lacks_one: false,
            counters,
        }
    }

    #[inline]
    fn append(&mut self, record: &Record<'_>, now: u64, shared: &Shared) {
        if self.batch.is_full_for(record.text.len()) && !self.make_room(now) {
            let given_up = shared.is_hopeless();
            // A stop ends the wait: what is read already, 128 KiB of input at most, goes into this batch, and
            // no other destination waits for it.
            if given_up || self.on_full != OnFull::Block {
                self.counters.losing(now);
                self.gap.add(record.stamp);
                self.encoder.skip();
                let reason = if given_up { Reason::DrainDeadline } else { Reason::Overflow };
                self.counters.lost_at_ingest(reason, 1);
                return;
            }
        }
        if self.has_news() {
            self.append_notices(now);
        }
        self.encoder.append(record, now, &mut self.batch);
    }

    /// Pushes the full batch as the policy says. False if there is no way to take a record now.
    fn make_room(&mut self, now: u64) -> bool {
        match self.on_full {
            OnFull::DropOldest => self.push_over_the_oldest(now),
            // Under `block` the wait is over: there is room, or the relay stops.
            OnFull::Block | OnFull::DropNewest => self.producer.push(&mut self.batch),
        }
    }

    /// Whether something was lost or passed over since the last time.
    #[inline]
    fn has_news(&self) -> bool {
        let lost = self.counters.lost_one_by_one();
        self.gap.records > 0 || self.skipped > 0 || lost != self.told_one_by_one
    }

    /// Says it in the stream.
    #[cold]
    fn append_notices(&mut self, now: u64) {
        if let Some(gap) = self.gap.take() {
            self.batch.announced.merge(gap);
            let notice = Notice::Lost { gap, reason: Reason::Overflow.name() };
            self.encoder.append_notice(&notice, now, &mut self.batch);
        }
        if self.skipped > 0 {
            let bytes = std::mem::take(&mut self.skipped);
            self.batch.announced_skipped += bytes;
            self.encoder.append_notice(&Notice::Skipped { bytes }, now, &mut self.batch);
        }
        let lost = self.counters.lost_one_by_one();
        if lost != self.told_one_by_one {
            self.told_one_by_one = lost;
            for reason in Reason::ONE_BY_ONE {
                if let Some(gap) = self.counters.take_unannounced(reason) {
                    let notice = Notice::Lost { gap, reason: reason.name() };
                    self.encoder.append_notice(&notice, now, &mut self.batch);
                }
            }
        }
    }

    /// Says the sums in the stream. Where there is no room they are not said: the next ones hold them too.
    fn say_statistics(&mut self, sums: &str, now: u64) {
        if self.gap.records > 0
            || (self.batch.is_full_for(sums.len()) && !self.producer.push(&mut self.batch))
        {
            return;
        }
        self.encoder.append_notice(&Notice::Statistics { sums }, now, &mut self.batch);
    }

    /// Pushes the batch, losing waiting ones for it. If all the room is in the hands of an output whose peer
    /// takes nothing, the batch waits behind it all the same: the newest records are the ones to keep.
    fn push_over_the_oldest(&mut self, now: u64) -> bool {
        while !self.producer.push(&mut self.batch) {
            let Some(oldest) = self.producer.take_oldest() else {
                return self.producer.push_beyond_the_hand(&mut self.batch);
            };
            let mut lost = Gap::default();
            lost.add_entries(oldest.entries());
            self.counters.losing(now);
            self.counters.lost_at_ingest(Reason::Overflow, lost.records);
            // Its notices are gone with it, so what they announced is announced anew, in the order of time.
            let mut gap = oldest.announced;
            gap.merge(lost);
            gap.merge(self.gap);
            self.gap = gap;
            self.skipped += oldest.announced_skipped;
        }
        true
    }

    /// Gives the output what has gathered, unless it is busy enough.
    fn flush(&mut self, now: u64) {
        self.counters.set_cut(self.encoder.cut());
        if self.gap.records > 0 {
            // The batch is the one that was full when the loss began. One notice for the whole loss follows
            // it as soon as it is gone, without waiting for a record.
            if !self.push_or_ask() {
                return;
            }
            self.append_notices(now);
        } else if self.batch.is_empty() || self.producer.hold_back() {
            return;
        }
        self.push_or_ask();
    }

    /// Pushes the batch if there is anything in it. False if it is refused; then the output wakes ingest
    /// when it has room, in case no record comes to try again with.
    fn push_or_ask(&mut self) -> bool {
        if self.batch.is_empty() || self.producer.push(&mut self.batch) {
            return true;
        }
        self.producer.wake_on_room();
        // Room may have come up just before the wish was heard.
        self.producer.push(&mut self.batch)
    }

    /// Hands over the last batch. False if there is no room yet.
    fn hand_over_the_last(&mut self, now: u64) -> bool {
        while !self.batch.is_empty() || self.gap.records > 0 || self.skipped > 0 {
            if self.batch.is_empty() {
                self.append_notices(now);
            }
            if !self.push_or_ask() {
                return false;
            }
        }
        self.counters.set_cut(self.encoder.cut());
        true
    }

    /// True if the next record would have to wait for room.
    fn would_wait(&mut self, record: &Record<'_>) -> bool {
        self.on_full == OnFull::Block
            && self.batch.is_full_for(record.text.len())
            && !self.producer.push(&mut self.batch)
    }
}

/// Waits until an output or the control side calls.
async fn pause(waker: &Notify) {
    let _ = tokio::time::timeout(PATIENCE, waker.notified()).await;
}

/// Everything that ingest owns.
#[derive(Debug)]
pub struct Ingest {
    /// How to read the input.
    pub form: InputForm,
    /// The destinations.
    pub lanes: Vec<Lane>,
    /// End-of-event records are not forwarded.
    pub drop_eoe: bool,
    /// Counters of the input.
    pub counters: Arc<InputCounters>,
    /// Flags and values shared with the control side.
    pub shared: Arc<Shared>,
    /// Changes of the lanes.
    pub reloads: Receiver<Reload>,
    /// Interrupts every wait.
    pub waker: Arc<Notify>,
    /// How long records may gather in standard input at most while they come in quick succession; zero: not at all.
    pub gather: Duration,
    /// Knows the records of the relay's own system calls, where they can be told.
    pub own: Option<Own>,
}

impl Ingest {
    /// Reads `input` to its end, calls `ended`, and then sees to it that every output has what is its.
    pub async fn run(mut self, mut input: Input, ended: impl FnOnce()) {
        for lane in &self.lanes {
            lane.counters.begin(0);
        }
        let mut decoder = Decoder::new(self.form);
        let mut pace = Pace::new(if input.may_gather() { self.gather } else { Duration::ZERO });
        let mut echo = self.own.take().map(Echo::new);
        let mut held = None;
        // Whether what stands behind the last record is all that its writer has written.
        let end = loop {
            let stop = self.shared.stop.load(Ordering::Acquire);
            if stop && !self.shared.read_what_is_there.load(Ordering::Acquire) {
                break Ok(false);
            }
            let event = if stop {
                // Its writer may go on for ever: the outputs and the clock of the drain have their turn.
                tokio::task::yield_now().await;
                input.read_now()
            } else if let Some(time) = held {
                let next = self.next(&mut input, &mut pace);
                tokio::time::timeout(time, next).await.unwrap_or(Ok(Event::Woken))
            } else {
                self.next(&mut input, &mut pace).await
            };
            match event {
                Ok(Event::Data(_)) => self.decode(&mut decoder, &mut echo, &mut input, false).await,
                Ok(Event::Nothing) if !stop => continue,
                Ok(Event::Ended) => break Ok(true),
                Ok(Event::Nothing) => break Ok(false),
                Ok(Event::Woken) => {}
                Err(error) => break Err(error),
            }
            if self.shared.give_up.load(Ordering::Acquire) {
                break Ok(false);
            }
            self.heed();
            held = echo.as_mut().and_then(|echo| echo.rest(Instant::now()));
            if held.is_none() {
                let now = now_ms();
                self.lanes.iter_mut().for_each(|lane| lane.flush(now));
            }
        };
        let whole = end.unwrap_or_else(|error| {
            error!("reading standard input: {error}; taken as its end");
            false
        });
        // Standard input has nothing more to say: from here on no wait holds up auditd.
        ended();
        // A frame says how long it is. A line that we have stopped within looks like a record, and is none.
        let half_line = !whole && decoder.form() == StreamForm::Text;
        self.decode(&mut decoder, &mut echo, &mut input, !half_line).await;
        let rest = input.pending().len();
        if half_line && rest > 0 {
            warn!("stopped within a record; the {rest} bytes of it that were read are passed over");
            self.pass_over(rest);
            input.consume(rest);
        }
        self.finish().await;
    }

    /// Does what the control side has asked for. True if the lanes may be others now.
    fn heed(&mut self) -> bool {
        let mut reloaded = false;
        while let Ok(reload) = self.reloads.try_recv() {
            self.reload(reload);
            reloaded = true;
        }
        if self.shared.has_statistics.load(Ordering::Relaxed) {
            self.say_statistics();
        }
        reloaded
    }

    /// Appends what the control side has to say in the stream.
    #[cold]
    fn say_statistics(&mut self) {
        self.shared.has_statistics.store(false, Ordering::Relaxed);
        let said =
            std::mem::take(&mut *self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner));
        let now = now_ms();
        for (counters, sums) in said {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| Arc::ptr_eq(&lane.counters, &counters)) {
                lane.say_statistics(&sums, now);
            }
        }
    }

    /// Waits for the next records: until there are some, or, while they come one close behind the other, until
    /// some have gathered.
    async fn next(&self, input: &mut Input, pace: &mut Pace) -> std::io::Result<Event> {
        let event = match pace.rest(Instant::now()) {
            Some(time) if self.has_caught_up().await => {
                // Nothing else on this thread has anything to do, so the whole of it rests: a wait on the runtime would
                // be woken by every record. What comes meanwhile waits in the kernel.
                sys::sleep(time);
                input.read_now()?
            }
            _ => input.wait(&self.waker).await?,
        };
        match event {
            Event::Data(bytes) => pace.read(bytes, Instant::now()),
            Event::Nothing => pace.found_nothing(),
            Event::Ended | Event::Woken => {}
        }
        Ok(event)
    }

    /// True if all outputs, given their turn, have written everything.
    async fn has_caught_up(&self) -> bool {
        tokio::task::yield_now().await;
        self.lanes.iter().all(|lane| lane.producer.is_caught_up())
    }

    /// Sees to it that every output gets what is its, none waiting for another.
    async fn finish(self) {
        let now = now_ms();
        let mut lanes = self.lanes;
        loop {
            // A lane that is through is dropped here, and with it its queue's end.
            lanes.retain_mut(|lane| !lane.hand_over_the_last(now));
            if lanes.is_empty() {
                return;
            }
            if self.shared.is_hopeless() {
                break;
            }
            pause(&self.waker).await;
        }
        for lane in lanes {
            lane.counters.losing(now);
            lane.counters.lost_at_ingest(Reason::DrainDeadline, lane.batch.records());
        }
    }

    /// Decodes and formats all whole records that are pending.
    async fn decode(
        &mut self,
        decoder: &mut Decoder,
        echo: &mut Option<Echo>,
        input: &mut Input,
        ended: bool,
    ) {
        let (now, moment) = (now_ms(), Instant::now());
        self.tell_lanes(moment);
        let mut at = 0;
        let pending = input.pending();
        if !pending.is_empty() {
            self.counters.last_read.store(now, Ordering::Relaxed);
        }
        loop {
            at += match decoder.step(&pending[at..], ended) {
                Step::Record { mut record, consumed } => {
                    self.counters.add(|c| &c.read, 1);
                    let own = echo.as_mut().is_some_and(|echo| echo.note(&record, moment));
                    if own {
                        self.count_own();
                    }
                    if record.is_end_of_event() && self.drop_eoe {
                        self.counters.add(|c| &c.filtered_eoe, 1);
                    } else {
                        if !record.is_decoded() {
                            record = record.undoubled();
                            if !record.is_decoded() {
                                self.counters.add(|c| &c.undecodable, 1);
                            }
                        }
                        for at in 0..self.lanes.len() {
                            if self.lanes[at].would_wait(&record) {
                                self.append_waiting(at, &record, now, own).await;
                                break;
                            }
                            self.lanes[at].append(&record, now, &self.shared);
                            if own {
                                self.lanes[at].batch.echoes = true;
                            }
                        }
                    }
                    consumed
                }
                Step::Empty { consumed } => {
                    self.counters.add(|c| &c.read, 1);
                    self.counters.add(|c| &c.filtered_empty, 1);
                    consumed
                }
                Step::Skipped { consumed } => {
                    if self.counters.skipped_bytes.load(Ordering::Relaxed) == 0 {
                        warn!(
                            "the input holds bytes that are no audit record; they are passed over and counted \
                             (see `skipped_bytes` in the report, and `input` in the configuration)"
                        );
                    }
                    self.pass_over(consumed);
                    consumed
                }
                Step::Tail { consumed } => consumed,
                Step::More => break,
            };
        }
        input.consume(at);
        self.shared.form.store(decoder.form() as u8, Ordering::Relaxed);
    }

    /// Counts bytes that are no record, and has each lane say so.
    fn pass_over(&mut self, bytes: usize) {
        self.counters.add(|c| &c.skipped_bytes, bytes as u64);
        for lane in &mut self.lanes {
            lane.skipped += bytes as u64;
        }
    }

    /// Tells the lanes what may have changed since the last records.
    fn tell_lanes(&mut self, now: Instant) {
        let clock = self.shared.clock();
        for lane in &mut self.lanes {
            lane.encoder.set_time_quality(clock);
            lane.encoder.limit_size(lane.counters.size_limit());
            lane.producer.set_moment(now);
        }
    }

    /// Gives the record to the lanes from `from` on, to each as soon as it has room; those before have it. The control
    /// side is heeded meanwhile: a reload may be what ends the wait. Lanes that it takes out do without the record, and
    /// new ones begin behind it.
    async fn append_waiting(&mut self, from: usize, record: &Record<'_>, now: u64, own: bool) {
        self.lanes[from..].iter_mut().for_each(|lane| lane.lacks_one = true);
        loop {
            let stops =
                self.shared.give_up.load(Ordering::Acquire) || self.shared.stop.load(Ordering::Acquire);
            for lane in self.lanes.iter_mut().filter(|lane| lane.lacks_one) {
                if stops || !lane.would_wait(record) {
                    lane.append(record, now, &self.shared);
                    lane.batch.echoes |= own;
                    lane.lacks_one = false;
                }
            }
            if !self.lanes.iter().any(|lane| lane.lacks_one) {
                return;
            }
            // What the others have does not wait with it.
            let mut has_room = false;
            for lane in &mut self.lanes {
                has_room |= lane.push_or_ask() && lane.lacks_one;
            }
            if self.heed() {
                self.tell_lanes(Instant::now());
            } else if !has_room {
                pause(&self.waker).await;
            }
        }
    }

    /// The records of the relay's own calls are passed on like all others: who could make a record look like one must
    /// not be able to hide it.
    #[cold]
    fn count_own(&mut self) {
        if self.counters.own.load(Ordering::Relaxed) == 0 {
            warn!(
                "an audit rule records the relay's own system calls, so that what it sends makes more to send; they are \
                 passed on and counted (`own` in the report). Load packaging/rules.d/10-audit-relay.rules, which excepts \
                 the relay"
            );
        }
        self.counters.add(|c| &c.own, 1);
    }

    fn reload(&mut self, reload: Reload) {
        let forwarded = self.counters.forwarded();
        self.drop_eoe = reload.drop_eoe;
        let mut old: Vec<_> = std::mem::take(&mut self.lanes).into_iter().map(Some).collect();
        for next in reload.lanes {
            match next {
                NextLane::Keep(index, shape, on_full) => {
                    if let Some(mut lane) = old.get_mut(index).and_then(Option::take) {
                        lane.encoder.reshape(*shape);
                        lane.on_full = on_full;
                        self.lanes.push(lane);
                    }
                }
                NextLane::New(lane) => {
                    lane.counters.begin(forwarded);
                    self.lanes.push(*lane);
                }
            }
        }
        for mut lane in old.into_iter().flatten() {
            lane.counters.end(forwarded - u64::from(lane.lacks_one));
            // Its output goes on until the queue is empty or its drain time is over. This thread does not
            // wait for it: a batch that finds no room is lost, and counted.
            if !lane.batch.is_empty() && !lane.producer.push(&mut lane.batch) {
                lane.counters.losing(now_ms());
                lane.counters.lost_at_ingest(Reason::Removed, lane.batch.records());
            }
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
