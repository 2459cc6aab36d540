//! Counters: what was read, and what became of it.
//!
//! Promise: for every destination and at every moment
//! `read + inherited = sent + filtered + handed over + lost(reason, ...) + in flight`, counted in records.
//! (`inherited` came from the instance before, `handed over` waits for the one after: both are 0 but for a
//! handover.)
//! Law: each counter has one writer, which only adds; a snapshot reads the later stages first, so that
//! what is under way shows up as in flight and never as negative.

mod receivers;
mod report;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::audit::Stamp;
use crate::batch::Gap;
use receivers::Receivers;
pub(crate) use receivers::now;
pub use receivers::{LastError, Receiver, Session, State};
pub use report::{DestinationReport, Enforced, FilteredBy, Process, QueueReport, Report};

/// Why records were lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The destination's queue was full.
    Overflow,
    /// The message was too long for the destination even after cutting.
    Oversize,
    /// Not delivered when the drain time after the end of the input was over.
    DrainDeadline,
    /// The destination was taken out of the configuration before it had taken everything.
    Removed,
    /// Standard output was closed at its other end, which is for good.
    Closed,
    /// The receiver has refused it and taken what came after it (RELP).
    Refused,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Overflow, Self::Oversize, Self::DrainDeadline, Self::Removed, Self::Closed, Self::Refused];

    /// Reasons for which an output loses single messages while it goes on with the others.
    pub const ONE_BY_ONE: [Self; 2] = [Self::Oversize, Self::Refused];

    /// The name in report and notices.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Oversize => "oversize",
            Self::DrainDeadline => "drain_deadline",
            Self::Removed => "removed",
            Self::Closed => "closed",
            Self::Refused => "refused",
        }
    }
}

/// What ingest counts; it alone writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct InputCounters {
    /// Records taken off the input, empty ones included.
    pub read: AtomicU64,
    /// Records without a readable type or stamp; forwarded all the same.
    pub undecodable: AtomicU64,
    /// End-of-event records, not forwarded.
    pub filtered_eoe: AtomicU64,
    /// Empty lines and frames, not forwarded.
    pub filtered_empty: AtomicU64,
    /// Bytes between binary frames that were no frame.
    pub skipped_bytes: AtomicU64,
    /// SYSCALL records of the relay's own calls; forwarded all the same.
    pub own: AtomicU64,
    /// When something was last read, in milliseconds since 1970; 0: never.
    pub last_read: AtomicU64,
}

/// What is counted for one destination.
#[derive(Debug)]
pub struct DestinationCounters {
    /// The destination as configured.
    pub url: String,
    ingest: IngestSide,
    output: OutputSide,
    /// Records that the output lost one by one and that no notice has named yet, by reason. Rare, so a lock does.
    unannounced: Mutex<[Gap; Reason::ALL.len()]>,
    receivers: Receivers,
}

#[derive(Debug)]
#[repr(align(128))]
struct IngestSide {
    /// The destination gets the records numbered `from..until` of those that are forwarded; both ends
    /// are far away until ingest has taken the destination up, or has let it go.
    from: AtomicU64,
    until: AtomicU64,
    lost: [AtomicU64; Reason::ALL.len()],
    cut: AtomicU64,
    /// When records were last lost here, in milliseconds since 1970; 0: never.
    last_loss: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct OutputSide {
    lost: [AtomicU64; Reason::ALL.len()],
    sent: AtomicU64,
    bytes: AtomicU64,
    connects: AtomicU64,
    failures: AtomicU64,
    cut: AtomicU64,
    replayed: AtomicU64,
    unacknowledged: AtomicU64,
    inherited: AtomicU64,
    handed_over: AtomicU64,
    last_loss: AtomicU64,
    /// Longest message the destination takes, as learned from EMSGSIZE; 0: not known.
    size_limit: AtomicUsize,
}

fn add(counter: &AtomicU64, more: u64) {
    // One writer: a plain addition is enough and costs no locked instruction.
    counter.store(counter.load(Relaxed) + more, Ordering::Release);
}

impl InputCounters {
    /// Adds `more` to one of the counters.
    pub fn add(&self, which: fn(&Self) -> &AtomicU64, more: u64) {
        if more > 0 {
            add(which(self), more);
        }
    }

    /// What was filtered and what was read, of one moment but for the record that ingest is at.
    ///
    /// If this thread is held up between the two, what is filtered meanwhile would count as meant for the destinations,
    /// and the next snapshot would have less of these than this one.
    fn sums(&self) -> (FilteredBy, u64) {
        let filtered = || FilteredBy {
            eoe: self.filtered_eoe.load(Ordering::Acquire),
            empty: self.filtered_empty.load(Ordering::Acquire),
        };
        let mut before = filtered();
        // Once does nearly always; ingest cannot hold us up.
        for _ in 0..100 {
            let read = self.read.load(Ordering::Acquire);
            let after = filtered();
            if after == before {
                return (after, read);
            }
            before = after;
        }
        (before, self.read.load(Ordering::Acquire))
    }

    /// Records that were read and are meant for the destinations.
    pub fn forwarded(&self) -> u64 {
        let filtered =
            self.filtered_eoe.load(Ordering::Acquire) + self.filtered_empty.load(Ordering::Acquire);
        self.read.load(Ordering::Acquire).saturating_sub(filtered)
    }
}

impl DestinationCounters {
    /// Starts at zero, for a destination that gets no records yet.
    pub fn new(url: String) -> Arc<Self> {
        let far = || AtomicU64::new(u64::MAX);
        let ingest = IngestSide {
            from: far(),
            until: far(),
            lost: Default::default(),
            cut: AtomicU64::new(0),
            last_loss: AtomicU64::new(0),
        };
        Arc::new(Self {
            url,
            ingest,
            output: OutputSide::default(),
            unannounced: Mutex::default(),
            receivers: Receivers::default(),
        })
    }

    /// Ingest: the destination gets every record from now on, `forwarded` having gone before.
    pub fn begin(&self, forwarded: u64) {
        self.ingest.from.store(forwarded, Ordering::Release);
    }

    /// Ingest: the destination gets no more records, `forwarded` having gone before.
    pub fn end(&self, forwarded: u64) {
        self.ingest.until.store(forwarded, Ordering::Release);
    }

    /// Ingest: records lost before they reached the queue's other end.
    pub fn lost_at_ingest(&self, reason: Reason, records: u64) {
        add(&self.ingest.lost[reason as usize], records);
    }

    /// Ingest: records are being lost at `now`, in milliseconds since 1970.
    pub fn losing(&self, now: u64) {
        self.ingest.last_loss.store(now, Relaxed);
    }

    /// Ingest: messages cut so far.
    pub fn set_cut(&self, total: u64) {
        self.ingest.cut.store(total, Relaxed);
    }

    /// Output: records that the transport has taken.
    pub fn sent(&self, records: u64) {
        add(&self.output.sent, records);
    }

    /// Output: bytes that the transport has taken.
    pub fn sent_bytes(&self, bytes: usize) {
        add(&self.output.bytes, bytes as u64);
    }

    /// Output: records lost on its side of the queue.
    pub fn lost_at_output(&self, reason: Reason, records: u64) {
        if records > 0 {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.output.last_loss.store(u64::try_from(since.as_millis()).unwrap_or(0), Relaxed);
        }
        add(&self.output.lost[reason as usize], records);
    }

    /// `url` is one of its receivers.
    pub fn expect(&self, url: &str) {
        self.receivers.expect(url);
    }

    /// Output: a connection to `url` came up, over `tls` if it is protected.
    pub fn connected(&self, url: &str, tls: Option<Session>) {
        add(&self.output.connects, 1);
        self.receivers.connected(url, tls);
    }

    /// Output: the connection to `url` is gone.
    pub fn disconnected(&self, url: &str) {
        self.receivers.disconnected(url);
    }

    /// Records that the instance before this one has left for this destination.
    pub fn inherited(&self, records: u64) {
        add(&self.output.inherited, records);
    }

    /// Records that are left for the next instance.
    pub fn handed_over(&self, records: u64) {
        add(&self.output.handed_over, records);
    }

    /// Output: the connection to `url` failed or could not be made, for the reason `error`.
    pub fn failed(&self, url: &str, error: &str) {
        add(&self.output.failures, 1);
        self.receivers.failed(url, error);
    }

    /// Output: records that go out again after a connection has ended.
    pub fn replayed(&self, records: u64) {
        add(&self.output.replayed, records);
    }

    /// Output: records of those lost that a living connection had taken at the end without acknowledging them.
    pub fn unacknowledged(&self, records: u64) {
        add(&self.output.unacknowledged, records);
    }

    /// Output: one message was cut because the transport refused its length.
    pub fn cut_at_output(&self) {
        add(&self.output.cut, 1);
    }

    /// Output: the destination takes no message longer than `bytes`; `None`: nothing is known of a limit.
    pub fn learn_size_limit(&self, bytes: Option<usize>) {
        self.output.size_limit.store(bytes.unwrap_or(0), Relaxed);
    }

    /// What [`Self::learn_size_limit`] was told last.
    pub fn size_limit(&self) -> Option<usize> {
        Some(self.output.size_limit.load(Relaxed)).filter(|limit| *limit > 0)
    }

    /// Output: one record was lost, for one of the reasons in [`Reason::ONE_BY_ONE`], and wants to be announced.
    pub fn lost_message(&self, reason: Reason, stamp: Option<Stamp>) {
        // Counted only when it is to be found: ingest, perhaps on another thread, looks here once for each new count,
        // which it reads with Acquire.
        self.unannounced.lock().unwrap_or_else(PoisonError::into_inner)[reason as usize].add(stamp);
        self.lost_at_output(reason, 1);
    }

    /// Ingest: what [`Self::lost_message`] was told of `reason` since the last time.
    pub fn take_unannounced(&self, reason: Reason) -> Option<Gap> {
        self.unannounced.lock().unwrap_or_else(PoisonError::into_inner)[reason as usize].take()
    }

    /// Records that the output has lost one by one.
    pub fn lost_one_by_one(&self) -> u64 {
        let lost = |reason: Reason| self.output.lost[reason as usize].load(Ordering::Acquire);
        Reason::ONE_BY_ONE.into_iter().map(lost).sum()
    }

    fn lost(&self, reason: Reason) -> u64 {
        self.ingest.lost[reason as usize].load(Ordering::Acquire)
            + self.output.lost[reason as usize].load(Ordering::Acquire)
    }

    /// Records lost for any reason.
    pub fn lost_in_all(&self) -> u64 {
        Reason::ALL.into_iter().map(|reason| self.lost(reason)).sum()
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Telemetry {
    /// Ingest's counters.
    pub input: Arc<InputCounters>,
    /// The destinations, also those that a reload has removed.
    pub destinations: Vec<Arc<DestinationCounters>>,
}

impl DestinationCounters {
    /// Reads the counters of the later stages; `in_flight` holds what is settled until the input was read.
    fn settled(&self) -> DestinationReport {
        let sent = self.output.sent.load(Ordering::Acquire);
        let lost: std::collections::BTreeMap<_, u64> = Reason::ALL
            .into_iter()
            .map(|reason| (reason.name().into(), self.lost(reason)))
            .filter(|(_, n)| *n > 0)
            .collect();
        let handed_over = self.output.handed_over.load(Ordering::Acquire);
        let settled = sent + handed_over + lost.values().sum::<u64>();
        let receivers = self.receivers.list();
        let connected = receivers.iter().filter(|receiver| receiver.state == State::Connected);
        let last_loss = self.ingest.last_loss.load(Relaxed).max(self.output.last_loss.load(Relaxed));
        DestinationReport {
            url: self.url.clone(),
            connected: connected.map(|receiver| receiver.url.clone()).collect(),
            due: 0,
            inherited: self.output.inherited.load(Ordering::Acquire),
            sent,
            handed_over,
            in_flight: settled,
            lost,
            bytes: self.output.bytes.load(Relaxed),
            reconnects: self.output.connects.load(Relaxed).saturating_sub(1),
            failures: self.output.failures.load(Relaxed),
            cut: self.ingest.cut.load(Relaxed) + self.output.cut.load(Relaxed),
            replayed: self.output.replayed.load(Relaxed),
            unacknowledged: self.output.unacknowledged.load(Relaxed),
            // Said by those who know the queue.
            active: false,
            queue: QueueReport::default(),
            last_loss: moment(last_loss),
            receivers,
        }
    }
}

impl Telemetry {
    /// Takes a snapshot.
    pub fn report(&self, process: Process) -> Report {
        let mut destinations: Vec<_> = self.destinations.iter().map(|counters| counters.settled()).collect();
        let (filtered_by, read) = self.input.sums();
        let forwarded = read.saturating_sub(filtered_by.eoe + filtered_by.empty);
        for (destination, counters) in destinations.iter_mut().zip(&self.destinations) {
            let until = counters.ingest.until.load(Ordering::Acquire).min(forwarded);
            let due =
                until.saturating_sub(counters.ingest.from.load(Ordering::Acquire)) + destination.inherited;
            destination.due = due;
            destination.in_flight = due.saturating_sub(destination.in_flight);
        }
        Report {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: process.pid,
            uptime_seconds: process.uptime_seconds,
            start_time: process.start_time,
            time: now(),
            input: process.input.into(),
            input_state: process.input_state.into(),
            last_read: moment(self.input.last_read.load(Relaxed)),
            user: process.user,
            confined: process.confined,
            filtered: filtered_by.eoe + filtered_by.empty,
            filtered_by,
            read,
            undecodable: self.input.undecodable.load(Relaxed),
            skipped_bytes: self.input.skipped_bytes.load(Relaxed),
            own: self.input.own.load(Relaxed),
            destinations,
        }
    }
}

/// Milliseconds since 1970 as a moment; 0: there was none.
fn moment(ms: u64) -> Option<f64> {
    (ms > 0).then(|| receivers::seconds(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filtered_while_a_snapshot_is_taken_is_not_due() {
        use std::sync::atomic::AtomicBool;
        let (input, over) = (Arc::new(InputCounters::default()), Arc::new(AtomicBool::new(false)));
        let ingest = {
            let (input, over) = (Arc::clone(&input), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Relaxed) {
                    input.add(|c| &c.read, 1);
                    input.add(|c| &c.filtered_eoe, 1);
                    // As long as a record takes.
                    (0..100).for_each(|_| std::hint::spin_loop());
                }
            })
        };
        while input.read.load(Relaxed) < 1000 {
            std::thread::yield_now();
        }
        let worst = (0..2_000_000)
            .map(|_| {
                let (filtered, read) = input.sums();
                read.saturating_sub(filtered.eoe)
            })
            .max();
        over.store(true, Relaxed);
        ingest.join().unwrap();
        // The one that ingest is at.
        assert!(worst <= Some(1), "{worst:?} records that nobody gets");
    }

    /// Who has seen the count of a loss finds what is to be said of it; there may be no other loss to find it with.
    #[test]
    fn a_loss_that_is_counted_can_be_announced() {
        const LOSSES: u64 = 200_000;
        let counters = DestinationCounters::new("relp://a".to_owned());
        let output = {
            let counters = Arc::clone(&counters);
            std::thread::spawn(move || (0..LOSSES).for_each(|_| counters.lost_message(Reason::Refused, None)))
        };
        let (mut lost, mut announced) = (0, 0);
        while lost < LOSSES {
            lost = counters.lost_one_by_one();
            announced += counters.take_unannounced(Reason::Refused).map_or(0, |gap| gap.records);
            assert!(announced >= lost, "{lost} are counted, {announced} announced");
        }
        output.join().unwrap();
        assert_eq!(announced, LOSSES);
    }

    #[test]
    fn the_sum_holds_and_reads_well() {
        let input = Arc::new(InputCounters::default());
        let first = DestinationCounters::new("tcp://a".to_owned());
        let late = DestinationCounters::new("udp://b".to_owned());
        first.begin(0);
        input.add(|c| &c.read, 5);
        late.begin(input.forwarded());
        input.add(|c| &c.read, 10);
        input.add(|c| &c.filtered_eoe, 2);
        first.sent(9);
        first.lost_at_ingest(Reason::Overflow, 1);
        first.lost_at_output(Reason::DrainDeadline, 1);
        let telemetry = Telemetry { input, destinations: vec![first, late] };
        let process = Process {
            pid: 1,
            uptime_seconds: 0.0,
            start_time: 0.0,
            input: "text",
            input_state: "reading",
            user: "nobody".to_owned(),
            confined: Enforced::default(),
        };
        let report = telemetry.report(process);
        for (d, base) in report.destinations.iter().zip([0, 5]) {
            assert_eq!(
                report.read - base,
                report.filtered + d.sent + d.lost.values().sum::<u64>() + d.in_flight
            );
        }
        assert!(report.has_undelivered());
        assert_eq!(
            report.summary(),
            "read 15, filtered 2; tcp://a: sent 9, lost 1 (drain_deadline), lost 1 (overflow), in flight 2; \
             udp://b: sent 0, in flight 8"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["destinations"][0]["lost"]["overflow"], 1);

        telemetry.destinations[1].sent(8);
        telemetry.destinations[1].end(telemetry.input.forwarded());
        telemetry.input.add(|c| &c.read, 100);
        let process = Process {
            pid: 1,
            uptime_seconds: 0.0,
            start_time: 0.0,
            input: "text",
            input_state: "reading",
            user: "nobody".to_owned(),
            confined: Enforced::default(),
        };
        assert_eq!(telemetry.report(process).destinations[1].in_flight, 0);
    }
}
