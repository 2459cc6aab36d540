//! 6 SEND: one destination, from its queue to its receivers.
//!
//! Promise: batches go out in order; a message is either handed to the transport whole or kept and sent
//! again whole; a destination that is away is tried again for as long as the relay lives. Law: an output
//! waits for nobody but its own peer, and counts a record as sent only when that is as certain as the transport
//! lets it be: the receiver has answered (RELP), its kernel has acknowledged (TCP, TLS), or our own kernel has
//! taken it.
//!
//! Each output is a task on the one runtime thread: it waits for a batch, its peer's word and its timers
//! at once. Transports differ in how they connect and how they write; all else is here.
//!
//! ```text
//! failover:  one output, several receivers one after the other     queue -> hand -> link -> first that is well
//! balance:   one output for each receiver, one queue for all       queue -> hand -> link -> receiver A
//!            what a failed one had in hand goes back to the queue      `--> hand -> link -> receiver B
//! ```

mod datagram;
mod hand;
mod link;
mod margin;
mod probe;
mod relp;
mod retry;
pub mod service;
mod stdout;
mod stream;
pub(crate) mod tls;
mod wire;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::handover::Bequest;
use crate::queue::Consumer;
use crate::telemetry::{DestinationCounters, Reason};
use hand::Hand;
use link::{Link, LookUp};
pub use probe::probe;
use retry::{Candidates, Failure, Next};
use service::{Member, Replay, Route, Service, Target, TlsSettings};
use tls::Tls;

/// How often the kernel is asked what has been acknowledged of little that is kept; a receiver's kernel may wait 40 ms
/// with its word.
const LAZY_PERIOD: Duration = Duration::from_millis(100);

/// The same where much is kept, or the queue waits for it.
const ACKNOWLEDGE_PERIOD: Duration = Duration::from_millis(20);

/// Up to here little is kept.
const LITTLE: i64 = 64 * 1024;

/// The same while only this keeps the relay from its end.
const LAST_ACKNOWLEDGE_PERIOD: Duration = Duration::from_millis(1);

/// A connection that lasted this long counts as a success: the next failure is the first one again.
const STABLE: Duration = Duration::from_secs(5);

/// So does one over which a kernel has acknowledged this much: more than it holds for a process that does not
/// read. A receiver that dies at its start must not be given record after record.
const WELL_READ: u64 = 1 << 20;

/// Limit for one step of connecting where other receivers are there to turn to: for the first attempt, and for
/// later ones, which must also do for those that are far away.
const GROUP_LIMITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// How long to wait for the receiver's word on what it was sent before leaving it for another.
const PARTING: Duration = Duration::from_secs(1);

/// How often a living session's certificates are looked at.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a destination's delivery has ended.
enum End {
    /// Everything is sent.
    Delivered,
    /// The transport is gone for good.
    Broken,
}

/// Why a connection is of no more use.
enum Served {
    /// Everything is sent.
    Delivered,
    /// It has failed.
    Failed(io::Error),
    /// It is well, but there is a better one, or one with other certificates has to be made.
    Leave(Option<(usize, Link)>),
}

/// An attempt to reach a better receiver, by its number, while another one serves.
type Probe = (usize, JoinHandle<(LookUp, io::Result<Link>)>);

/// What the outputs of one destination share.
#[derive(Clone, Debug)]
pub struct Common {
    /// The queue's end.
    pub consumer: Consumer,
    /// The destination's counters.
    pub counters: Arc<DestinationCounters>,
    /// How to serve it from now on; also told when only certificates are to be read again.
    pub service: watch::Receiver<Service>,
    /// True once the records that the instance before has left are in the queue, or are waited for no longer.
    pub gate: watch::Receiver<bool>,
    /// Where undelivered records go at the end; `None`: they are lost.
    pub bequest: Option<Bequest>,
}

/// The task that serves one destination, or one receiver of a balanced one.
#[derive(Debug)]
pub struct Output {
    members: Vec<Member>,
    service: Service,
    common: Common,
    /// Other outputs take from the same queue.
    balanced: bool,
    hand: Hand,
    candidates: Candidates,
    look_ups: Vec<LookUp>,
    /// What was last logged of these members' failures since they were connected.
    told: Vec<Option<String>>,
    /// The member that is connected.
    current: Option<usize>,
    probe: Option<Probe>,
}

impl Output {
    /// The outputs of `route`, which have not connected yet.
    pub fn new(route: &Route, common: &Common) -> Vec<Self> {
        match route {
            Route::Failover(members) => vec![Self::of(members.clone(), common.clone(), false)],
            Route::Balance(members) => {
                let one = |member: &Member| Self::of(vec![member.clone()], common.clone(), members.len() > 1);
                members.iter().map(one).collect()
            }
        }
    }

    fn of(members: Vec<Member>, mut common: Common, balanced: bool) -> Self {
        let over_tcp = members.iter().any(|member| member.target.is_over_tcp());
        if members.iter().any(|member| member.target == Target::Stdout) {
            // The next instance's standard output is another one, and does not go on where this one ended.
            common.bequest = None;
        }
        let service = common.service.borrow_and_update().clone();
        // A local receiver is back within moments and costs nothing to ask. A UDP peer that refuses is
        // asked by sending, so waiting long would only fill the queue.
        let (min, max) = match over_tcp {
            true => (Duration::from_millis(200), Duration::from_secs(10)),
            false => (Duration::from_millis(50), Duration::from_secs(1)),
        };
        Self {
            hand: Hand::new(margin(&members, &service)),
            candidates: Candidates::new(members.len(), min, max),
            look_ups: members.iter().map(|_| LookUp::default()).collect(),
            told: vec![None; members.len()],
            members,
            service,
            common,
            balanced,
            current: None,
            probe: None,
        }
    }

    /// Takes up how the destination is to be served from now on. True if that differs from before.
    fn take_up_service(&mut self) -> bool {
        let service = self.common.service.borrow_and_update().clone();
        if service == self.service {
            return false;
        }
        self.service = service;
        self.hand.set_margin(margin(&self.members, &self.service));
        // One that was begun under the old settings is of no use.
        self.probe = None;
        true
    }

    /// Sends until the queue has ended and everything is sent. `expired` ends it early; what was not sent
    /// by then is handed over or counted as lost.
    pub async fn run(mut self, expired: impl Future<Output = Reason>) {
        // Out here, so that the connection outlives a delivery that is cut short: it still knows what has arrived.
        let mut open = None;
        let reason = tokio::select! {
            biased;
            end = self.deliver(&mut open) => match end {
                End::Delivered => {
                    self.leave_current();
                    return;
                }
                End::Broken => Reason::Closed,
            },
            reason = expired => reason,
        };
        self.abandon(open, reason).await;
    }

    async fn deliver(&mut self, open: &mut Option<Link>) -> End {
        let consumer = self.common.consumer.clone();
        let mut gate = self.common.gate.clone();
        tokio::select! {
            _ = gate.wait_for(|open| *open) => {}
            () = consumer.over() => return End::Delivered,
        }
        let mut next = None;
        loop {
            let connection = match next.take() {
                Some(better) => Some(better),
                None => self.connect().await,
            };
            let Some((at, link)) = connection else {
                return End::Delivered;
            };
            self.arrive(at, &link);
            let link = open.insert(link);
            let connected = Instant::now();
            let error = match self.serve(at, link).await {
                Served::Delivered => {
                    // Everything is settled; whether the peer has read to the end is its affair.
                    let _ = link.finish().await;
                    return End::Delivered;
                }
                Served::Leave(better) => {
                    self.part_from(link).await;
                    *open = None;
                    next = better;
                    continue;
                }
                Served::Failed(error) => error,
            };
            // The socket still knows what was acknowledged, also after a reset.
            let acknowledged = self.start_over(link, true);
            let (tells, is_stdout) = (link.tells(), link.goes_on());
            // Before the next attempt, for which a receiver may have to see that this one is over.
            *open = None;
            let url = self.members[at].url.clone();
            self.common.counters.failed(&url, &explain(&error));
            if is_stdout && error.kind() == io::ErrorKind::BrokenPipe {
                warn!("{url}: {error}; what comes from now on is counted as lost");
                return End::Broken;
            }
            // A peer that accepts and closes at once must not be asked in a tight loop.
            let enough = if tells { 1 } else { WELL_READ };
            if connected.elapsed() >= STABLE || acknowledged.is_some_and(|bytes| bytes >= enough) {
                self.candidates.succeeded(at);
            }
            if self.candidates.failures(at) == 0 {
                let next = if is_stdout {
                    "going on where it stopped, as soon as it can be"
                } else {
                    "connecting again"
                };
                warn!("{url}: {}; {next}", explain(&error));
            }
            self.failed(at, &error);
        }
    }

    /// Takes what is not certain to have arrived over the connection `link` back in hand, or gives it to the
    /// others. Returns up to which position it has arrived, if that is known.
    fn start_over(&mut self, link: &mut Link, failed: bool) -> Option<u64> {
        let Common { consumer, counters, .. } = &self.common;
        consumer.set_caught_up(false);
        let acknowledged = link.settle(&mut self.hand, consumer, counters);
        if failed && acknowledged.is_some_and(|acknowledged| self.hand.connection_failed(acknowledged)) {
            warn!(
                "{}: one connection after the other has ended before it got past what is sent again (`replay`); \
                 sending less of it again, until one takes more than that. What the receiver leaves unread meanwhile \
                 may be missing",
                self.current.map_or("", |at| self.members[at].url.as_str())
            );
        }
        // Alone, it goes on at its byte; anybody else gets whole messages.
        if !link.goes_on() || self.members.len() > 1 || self.balanced {
            let again = self.hand.start_over(acknowledged, consumer, counters);
            counters.replayed(again);
        }
        if self.balanced {
            for batch in self.hand.let_go(consumer, counters) {
                consumer.put_back(batch);
            }
        }
        self.leave_current();
        acknowledged
    }

    fn arrive(&mut self, at: usize, link: &Link) {
        let url = &self.members[at].url;
        if self.told[at].take().is_some() || self.members.len() > 1 {
            info!("{url}: connected");
        }
        self.common.counters.connected(url, link.tls().map(Tls::session));
        // Another receiver may take longer messages.
        self.common.counters.learn_size_limit(None);
        self.current = Some(at);
    }

    fn leave_current(&mut self) {
        if let Some(at) = self.current.take() {
            self.common.counters.disconnected(&self.members[at].url);
        }
    }

    fn failed(&mut self, at: usize, error: &io::Error) {
        let random = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_micros() ^ std::process::id());
        let how = if error.kind() == io::ErrorKind::TimedOut { Failure::Silent } else { Failure::Told };
        self.candidates.failed(at, how, Instant::now(), random);
    }

    /// Connects to the first receiver that lets us, however long that takes; `None` if meanwhile nothing is left
    /// to send.
    async fn connect(&mut self) -> Option<(usize, Link)> {
        let consumer = self.common.consumer.clone();
        loop {
            let (at, connected) = tokio::select! {
                biased;
                () = consumer.over() => return None,
                attempt = self.attempt() => attempt,
            };
            match connected {
                Ok(link) => return Some((at, link)),
                Err(error) => self.cannot_connect(at, &error),
            }
        }
    }

    fn cannot_connect(&mut self, at: usize, error: &io::Error) {
        // Again where the reason is another one: who was away is back, and has the wrong certificate.
        let sentence = explain(error);
        self.common.counters.failed(&self.members[at].url, &sentence);
        if self.told[at].as_ref() != Some(&sentence) {
            warn!("{}: cannot connect: {sentence}; trying again until it works", self.members[at].url);
            self.told[at] = Some(sentence);
        }
        self.failed(at, error);
    }

    /// One attempt at the receiver whose turn it is.
    async fn attempt(&mut self) -> (usize, io::Result<Link>) {
        let at = loop {
            match self.candidates.next(self.members.len(), Instant::now()) {
                Next::Try(at) => break at,
                Next::Wait(until) => tokio::time::sleep_until(until.into()).await,
            }
        };
        self.take_up_service();
        // An attempt at the same receiver may be under way already.
        if let Some((_, probe)) = self.probe.as_mut().filter(|(probed, _)| *probed == at) {
            let probed = probe.await;
            self.probe = None;
            if let Ok((look_up, connected)) = probed {
                self.look_ups[at] = look_up;
                return (at, connected);
            }
        }
        let limit = self.limit(at);
        let link = Link::connect(&self.members[at], &self.service, limit, &mut self.look_ups[at]).await;
        (at, link)
    }

    fn limit(&self, at: usize) -> Duration {
        let (first, later) = GROUP_LIMITS;
        match (self.members.len(), self.candidates.failures(at)) {
            (1, _) => self.service.connect_timeout,
            (_, 0 | 1) => self.service.connect_timeout.min(first),
            _ => self.service.connect_timeout.min(later),
        }
    }

    /// Looks after the attempt to reach a better receiver than `at`: begins one when it is time, and says what
    /// has come of the last.
    async fn better(&mut self, at: usize) -> Option<(usize, Link)> {
        if at == 0 {
            return None;
        }
        if self.probe.as_ref().is_some_and(|(_, probe)| probe.is_finished())
            && let Some((better, probe)) = self.probe.take()
            && let Ok((look_up, connected)) = probe.await
        {
            self.look_ups[better] = look_up;
            match connected {
                Ok(link) if better < at => return Some((better, link)),
                Ok(_) => {}
                Err(error) => self.cannot_connect(better, &error),
            }
        }
        if self.probe.is_none()
            && let Next::Try(better) = self.candidates.next(at, Instant::now())
        {
            let (member, service) = (self.members[better].clone(), self.service.clone());
            let (limit, mut look_up) = (self.limit(better), std::mem::take(&mut self.look_ups[better]));
            let probe = tokio::spawn(async move {
                let connected = Link::connect(&member, &service, limit, &mut look_up).await;
                (look_up, connected)
            });
            self.probe = Some((better, probe));
        }
        None
    }

    /// When [`Output::better`] has something to do next.
    async fn better_is_due(&self, at: usize) {
        match &self.probe {
            // Its result is asked for by `better`, so it is only waited for here.
            Some((_, probe)) => {
                while !probe.is_finished() {
                    tokio::time::sleep(ACKNOWLEDGE_PERIOD).await;
                }
            }
            None => match self.candidates.next(at, Instant::now()) {
                Next::Try(_) => {}
                Next::Wait(until) => tokio::time::sleep_until(until.into()).await,
            },
        }
    }

    /// Sends over one connection until nothing is left, it fails, or another one is to take its place.
    async fn serve(&mut self, at: usize, link: &mut Link) -> Served {
        let consumer = self.common.consumer.clone();
        let counters = Arc::clone(&self.common.counters);
        // Not marked as seen: what has been said since the attempt began is still to be heeded.
        let mut news = self.common.service.clone();
        let mut day = pin!(tokio::time::sleep(DAY));
        // When the kernel is to be asked next, if there is something to ask for. Kept from turn to turn, since each
        // new timer that is the first to end costs the runtime a system call.
        let mut ask_at: Option<Instant> = None;
        let mut ask = pin!(tokio::time::sleep(DAY));
        let (mut ended, mut listens) = (false, true);
        loop {
            // Here no message is under way.
            if let Some(better) = self.better(at).await {
                return Served::Leave(Some(better));
            }
            match news.has_changed() {
                Ok(true) => {
                    news.mark_unchanged();
                    if self.take_up_service() || self.has_new_certificates(at, link).await {
                        return Served::Leave(None);
                    }
                }
                Ok(false) => {}
                // Out of the configuration. What was said before and not heeded yet is of no more use, but would be
                // heard again and again.
                Err(_) => listens = false,
            }
            self.hand.gather(&consumer);
            if !self.hand.is_empty() {
                if let Err(error) = link.send(&mut self.hand, &consumer, &counters).await {
                    return Served::Failed(error);
                }
                continue;
            }
            let asks =
                ended || link.tells() || consumer.is_tight() || ask_at.is_some_and(|at| at <= Instant::now());
            let arrived = if asks { link.settle(&mut self.hand, &consumer, &counters) } else { None };
            let all_arrived = arrived.is_some_and(|position| self.hand.all_written_is(position));
            if ended && all_arrived {
                // A margin is kept only for the case that the connection fails.
                self.hand.settle_all_kept(&consumer, &counters);
            } else if ended && self.hand.keeps() && !self.balanced && link.only_waits_for_judgement() {
                // A peer that reads to the end and closes in order has taken us.
                if let Err(error) = link.finish().await {
                    return Served::Failed(error);
                }
                self.hand.settle_all_kept(&consumer, &counters);
            }
            if ended && !self.hand.keeps() && consumer.is_over() {
                return Served::Delivered;
            }
            // A margin stays behind for good; there is nothing to ask for once all is acknowledged.
            ask_at = match ask_at {
                _ if all_arrived || !self.hand.keeps() || link.tells() => None,
                before => {
                    let period = if ended {
                        LAST_ACKNOWLEDGE_PERIOD
                    } else if self.hand.kept_bytes() > LITTLE || consumer.is_tight() {
                        ACKNOWLEDGE_PERIOD
                    } else {
                        LAZY_PERIOD
                    };
                    let next = Instant::now() + period;
                    let at = before.filter(|_| !asks).map_or(next, |at| at.min(next));
                    if before != Some(at) {
                        ask.as_mut().reset(at.into());
                    }
                    Some(at)
                }
            };
            // Of several outputs at one queue, one cannot speak for the others.
            consumer.set_caught_up(!self.balanced);
            tokio::select! {
                biased;
                batch = consumer.next(), if !ended => match batch {
                    Some(batch) => self.hand.take(batch),
                    None => ended = true,
                },
                batch = consumer.next_returned(), if ended => if let Some(batch) = batch {
                    self.hand.take(batch);
                },
                heard = link.heard() => if let Err(error) = heard {
                    return Served::Failed(error);
                },
                () = &mut ask, if ask_at.is_some() => {}
                told = changed(&news), if listens => listens = told,
                () = &mut day => {
                    if let Some(tls) = link.tls() {
                        tls.look_at_dates(&self.members[at].url);
                    }
                    day.set(tokio::time::sleep(DAY));
                }
                () = self.better_is_due(at), if at > 0 => {}
            }
        }
    }

    /// Reads the certificates again: true if the session should be made anew with them.
    async fn has_new_certificates(&mut self, at: usize, link: &Link) -> bool {
        let Some(tls) = link.tls() else { return false };
        let url = &self.members[at].url;
        // One that was begun with the old files is of no use.
        self.probe = None;
        let loaded = self.look_ups[at].load(&self.service.tls, self.service.connect_timeout).await;
        match loaded {
            Ok(material) if material.is_same(tls.material()) => false,
            Ok(_) => {
                info!("{url}: the certificates have changed; connecting again with the new ones");
                true
            }
            Err(error) => {
                error!("{url}: {error}; the session goes on with what it has");
                false
            }
        }
    }

    /// Leaves a connection that is well: waits a moment for word of what it was sent, and ends it in order.
    async fn part_from(&mut self, link: &mut Link) {
        let Common { consumer, counters, .. } = self.common.clone();
        let waits = async {
            while let Some(position) = link.settle(&mut self.hand, &consumer, &counters) {
                if self.hand.all_written_is(position) {
                    // A margin is kept only for the case that the connection fails.
                    self.hand.settle_all_kept(&consumer, &counters);
                    break;
                }
                tokio::select! {
                    heard = link.heard() => if heard.is_err() { break },
                    () = tokio::time::sleep(ACKNOWLEDGE_PERIOD) => {}
                }
            }
        };
        let _ = tokio::time::timeout(PARTING, waits).await;
        let _ = link.finish().await;
        self.start_over(link, false);
    }

    /// Disposes of everything that is left, until the queue has ended. It is handed over to the next instance;
    /// without one it is lost, also what is on its way over `open` and not acknowledged. That may arrive all the same,
    /// and is counted beside.
    async fn abandon(&mut self, open: Option<Link>, reason: Reason) {
        let Common { consumer, counters, bequest, .. } = self.common.clone();
        let bequest = bequest.filter(|_| reason == Reason::DrainDeadline);
        if let Some(mut link) = open {
            if bequest.is_none() {
                // A margin is for the next connection, and there is none.
                self.hand.set_margin(0);
            }
            let acknowledged = link.settle(&mut self.hand, &consumer, &counters);
            let on_its_way = self.hand.start_over(acknowledged, &consumer, &counters);
            // Handed over, it goes out again by the next instance, and may come twice.
            match bequest {
                Some(_) => counters.replayed(on_its_way),
                None => counters.unacknowledged(on_its_way),
            }
        }
        self.leave_current();
        let Some(bequest) = bequest else {
            self.hand.abandon(reason, &consumer, &counters);
            while let Some(batch) = consumer.next().await {
                counters.lost_at_output(reason, batch.records());
                consumer.settle(batch);
            }
            return;
        };
        for batch in self.hand.let_go(&consumer, &counters) {
            bequest.leave(consumer.surrender(batch));
        }
        while let Some(batch) = consumer.next().await {
            bequest.leave(consumer.surrender(batch));
        }
    }
}

/// Acknowledged bytes that are kept all the same.
fn margin(members: &[Member], service: &Service) -> usize {
    match service.replay {
        // RELP knows what has arrived; a margin would only repeat it.
        Replay::Unacknowledged { margin } if !members.iter().any(|m| m.target.is_relp()) => margin,
        _ => 0,
    }
}

/// Waits until there is news; false if there will be none, the destination being out of the configuration.
async fn changed(news: &watch::Receiver<Service>) -> bool {
    news.clone().changed().await.is_ok()
}

/// Reads the files that `settings` names, as each connection will, and says what will surprise soon. Blocks.
///
/// # Errors
/// A sentence with file and remedy.
pub fn check_tls(settings: &TlsSettings) -> Result<Vec<String>, String> {
    tls::Material::load(settings).map(|material| material.warnings(tls::seconds_now()))
}

/// The error in words, with the remedy where one is known.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{error} (is the receiver running?)"),
        io::ErrorKind::PermissionDenied => format!(
            "{error} (the relay has given up root; let its user reach the socket, or see `user` in the configuration)"
        ),
        _ => error.to_string(),
    }
}
