//! Builds the path from input to outputs, and rebuilds it on a reload.
//!
//! ```text
//! fd 0 -> input -> audit -> syslog -> batch --- queue A --> output A -> unix, udp, tcp, tls, relp, ...
//!                          (per destination) -- queue B --> output B
//!                                                           control: signals, reload, report, drain
//! ```
//!
//! Law: ingest and outputs share queues, counters and one waker, nothing else, so that ingest runs on the outputs'
//! thread or on one of its own, as the configuration says.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use log::warn;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::audit::Own;
use crate::config::{Config, Destination, Threads};
use crate::handover::{Bequest, Estate, Legacy};
use crate::host::Names;
use crate::ingest::{Ingest, Lane, NextLane, OnFull, Reload, Shared};
use crate::input::{self, Input};
use crate::output::service::{Service, Target};
use crate::output::{Common, Output};
use crate::privilege::Confined;
use crate::queue::{Consumer, Wake, queue};
use crate::sys;
use crate::syslog::{Field, Shape, TimeQuality};
use crate::telemetry::{DestinationCounters, InputCounters, Process, QueueReport, Reason, Report, Telemetry};

/// The running path.
#[derive(Debug)]
pub struct Pipeline {
    names: Names,
    input_is_socket: bool,
    /// What is counted.
    pub telemetry: Telemetry,
    /// What is shared with ingest.
    pub shared: Arc<Shared>,
    waker: Arc<Notify>,
    reloads: Sender<Reload>,
    active: Vec<Active>,
    /// Destinations that a reload has removed, for as long as they deliver what is left.
    removed: Vec<Expiry>,
    /// What outputs leave at the end; `None`: nothing is handed over.
    estate: Option<Estate>,
    /// Set to true once outputs may begin.
    gate: watch::Sender<bool>,
    outputs: JoinSet<()>,
    reader: Option<Reader>,
}

/// What runs ingest.
#[derive(Debug)]
enum Reader {
    /// The thread of the outputs.
    Task(tokio::task::JoinHandle<()>),
    /// A thread of its own.
    Thread(JoinHandle<()>),
}

/// One destination in use.
#[derive(Debug)]
struct Active {
    destination: Destination,
    consumer: Consumer,
    counters: Arc<DestinationCounters>,
    /// Tells the outputs how to serve it, and to read their certificates again.
    service: watch::Sender<Service>,
    expiry: Expiry,
}

/// Tells outputs when, and as what, their undelivered records are to be given up.
#[derive(Debug)]
struct Expiry(watch::Sender<Option<(Instant, Reason)>>);

impl Expiry {
    /// Not later than `deadline`. The reason is that of the first time.
    fn bring_forward(&self, deadline: Instant, reason: Reason) {
        self.0.send_if_modified(|value| {
            let sooner = value.is_none_or(|(before, _)| deadline < before);
            if sooner {
                *value = Some((deadline, value.map_or(reason, |(_, first)| first)));
            }
            sooner
        });
    }

    /// True once the outputs have ended.
    fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

impl Pipeline {
    /// Starts everything. `input_is_socket` decides what `on-full = "auto"` means, `hands_over` whether what is
    /// undelivered at the end is kept for [`Pipeline::estate`], `under_auditd` whether our process id in a record is us. The outputs wait for [`Pipeline::open_gate`]. The
    /// receiver hears when the input has ended. Must be called on the runtime that is to drive the outputs.
    ///
    /// # Errors
    /// The system has no descriptor or thread left.
    pub fn start(
        _proof: &Confined,
        config: &Config,
        names: Names,
        input_is_socket: bool,
        hands_over: bool,
        under_auditd: bool,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let waker = Arc::new(Notify::new());
        let (reloads, reload_inbox) = crossbeam_channel::bounded(8);
        let mut pipeline = Self {
            names,
            input_is_socket,
            telemetry: Telemetry { input: Arc::new(InputCounters::default()), destinations: Vec::new() },
            shared: Arc::new(Shared::default()),
            waker,
            reloads,
            active: Vec::new(),
            removed: Vec::new(),
            estate: hands_over.then(Estate::default),
            gate: watch::Sender::new(false),
            outputs: JoinSet::new(),
            reader: None,
        };
        pipeline.read_clock();
        pipeline.shared.hands_over.store(hands_over, Ordering::Relaxed);
        let lanes = config.destinations.iter().map(|d| pipeline.open(config, d)).collect();
        let own_names = pipeline.own_names();
        let ingest = Ingest {
            form: config.input,
            lanes,
            drop_eoe: config.drop_eoe,
            counters: Arc::clone(&pipeline.telemetry.input),
            shared: Arc::clone(&pipeline.shared),
            reloads: reload_inbox,
            waker: Arc::clone(&pipeline.waker),
            gather: config.gather,
            // Elsewhere the number may be another process's: the records may be old, or another machine's.
            own: under_auditd.then(|| Own::new(std::process::id(), own_names)),
        };
        let (ended, input_end) = oneshot::channel();
        let ended = || {
            let _ = ended.send(());
        };
        let own_thread = match config.threads {
            Threads::Auto => input::blocks(io::stdin().as_fd())?,
            Threads::One => false,
            Threads::Two => true,
        };
        pipeline.reader = Some(if own_thread {
            let (ready, begun) = std::sync::mpsc::channel();
            // Made there: a runtime must not be dropped on this one, should there be no thread.
            let prepare = || -> io::Result<_> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let input = {
                    let _inside = runtime.enter();
                    Input::new(io::stdin().as_fd())?
                };
                Ok((runtime, input))
            };
            let work = move || match prepare() {
                Ok((runtime, input)) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(ingest.run(input, ended));
                }
                Err(error) => drop(ready.send(Err(error))),
            };
            let thread = std::thread::Builder::new().name("ingest".to_owned()).spawn(work)?;
            begun.recv().map_err(io::Error::other)??;
            Reader::Thread(thread)
        } else {
            let input = Input::new(io::stdin().as_fd())?;
            Reader::Task(tokio::spawn(ingest.run(input, ended)))
        });
        Ok((pipeline, input_end))
    }

    /// Makes queue, lane and output of one destination, and starts the output.
    fn open(&mut self, config: &Config, destination: &Destination) -> Lane {
        let input_waits = !self.input_is_socket && self.policy(destination) == OnFull::Block;
        let (producer, consumer) = queue(destination.queue_bytes(input_waits), self.wake());
        let counters = DestinationCounters::new(destination.url.clone());
        destination.route.members().iter().for_each(|member| counters.expect(&member.url));
        let (expiry, expired) = watch::channel(None);
        let service = watch::Sender::new(destination.service.clone());
        let common = Common {
            consumer: consumer.clone(),
            counters: Arc::clone(&counters),
            service: service.subscribe(),
            gate: self.gate.subscribe(),
            bequest: self.estate.as_ref().map(|estate| Bequest::new(estate, key(destination), &counters)),
        };
        for output in Output::new(&destination.route, &common) {
            self.outputs.spawn(output.run(expiry_of(expired.clone())));
        }
        let active = Active {
            destination: destination.clone(),
            consumer,
            counters: Arc::clone(&counters),
            service,
            expiry: Expiry(expiry),
        };
        self.active.push(active);
        self.telemetry.destinations.push(Arc::clone(&counters));
        Lane::new(self.shape(config, destination), producer, self.policy(destination), counters)
    }

    /// Takes up what the instance before has left. Destinations that are no longer there lose theirs.
    pub fn adopt(&mut self, legacies: Vec<Legacy>) {
        for legacy in legacies {
            let records = legacy.records();
            match self.active.iter().find(|active| key(&active.destination) == legacy.key) {
                // Its output has ended: nothing takes records out of its queue any more.
                Some(active) if active.consumer.is_over() => self.pass_on_one(legacy),
                Some(active) => {
                    active.counters.inherited(records);
                    legacy.batches.into_iter().for_each(|batch| active.consumer.adopt(batch));
                }
                None => {
                    warn!(
                        "handover: {records} records were left for `{}`, which is not in the configuration any \
                         more; they are lost",
                        legacy.key
                    );
                    let counters = DestinationCounters::new(legacy.key);
                    counters.inherited(records);
                    counters.lost_at_output(Reason::Removed, records);
                    self.telemetry.destinations.push(counters);
                }
            }
        }
    }

    /// Hands on what the instance before has left: this one has come to its end without having had it.
    pub fn pass_on(&mut self, legacies: Vec<Legacy>) {
        legacies.into_iter().for_each(|legacy| self.pass_on_one(legacy));
    }

    fn pass_on_one(&mut self, legacy: Legacy) {
        let Some(estate) = &self.estate else { return };
        let same = |active: &&Active| key(&active.destination) == legacy.key;
        let counters = match self.active.iter().find(same) {
            Some(active) => Arc::clone(&active.counters),
            None => {
                let counters = DestinationCounters::new(legacy.key.clone());
                self.telemetry.destinations.push(Arc::clone(&counters));
                counters
            }
        };
        counters.inherited(legacy.records());
        Bequest::new(estate, legacy.key, &counters).pass_on(legacy.batches);
    }

    /// Lets the outputs begin.
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// The accounting at this moment.
    pub fn report(&self, process: Process) -> Report {
        let mut report = self.telemetry.report(process);
        for (d, counters) in report.destinations.iter_mut().zip(&self.telemetry.destinations) {
            let active = self.active.iter().find(|active| Arc::ptr_eq(&active.counters, counters));
            let Some(active) = active else { continue };
            let level = active.consumer.level();
            d.active = true;
            d.queue = QueueReport {
                bytes: level.bytes as u64,
                limit: level.limit as u64,
                oldest_seconds: level.since.map(|since| since.elapsed().as_secs_f64()),
            };
        }
        report
    }

    /// Has each destination told its sums, as ingest comes to it.
    pub fn say_statistics(&self, report: &Report) {
        let sums = report.destinations.iter().zip(&self.telemetry.destinations);
        let said = sums
            .filter(|(d, _)| d.active)
            .map(|(d, counters)| (Arc::clone(counters), report.statistics(d)))
            .collect();
        self.shared.say_statistics(said);
        self.wake_ingest();
    }

    /// What the outputs have left.
    pub fn estate(&self) -> Option<&Estate> {
        self.estate.as_ref()
    }

    fn wake(&self) -> Wake {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || waker.notify_one())
    }

    fn policy(&self, destination: &Destination) -> OnFull {
        // A stalled plugin stalls auditd and then the host's system calls; a file or a pipe can wait.
        let auto = if self.input_is_socket { OnFull::DropNewest } else { OnFull::Block };
        destination.on_full.unwrap_or(auto)
    }

    /// The names under which records may call this machine.
    fn own_names(&self) -> Vec<Vec<u8>> {
        self.names.all.iter().map(|name| name.clone().into_bytes()).collect()
    }

    fn shape(&self, config: &Config, destination: &Destination) -> Shape {
        let full = config.hostname.as_ref().unwrap_or(&self.names.full);
        Shape {
            format: destination.format,
            framing: destination.framing,
            facility: config.facility,
            severity: config.severity,
            hostname: Field::hostname(full.as_bytes()),
            own_names: self.own_names(),
            app_name: Field::app_name(config.app_name.as_bytes()),
            procid: std::process::id(),
            name_in_rfc3164: !destination
                .route
                .any(|target| matches!(target, Target::Unix(_) | Target::UnixStream(_))),
            structured_data: config.structured_data,
            max_size: destination.max_message_size.unwrap_or(usize::MAX),
            local_offset: sys::local_offset,
        }
    }

    /// Asks the kernel how good its clock is.
    pub fn read_clock(&self) {
        let (synced, accuracy_us) = sys::clock_state().unwrap_or_default();
        self.shared.set_clock(TimeQuality { synced, accuracy_us });
    }

    /// Puts `config` in place of the running one. Destinations that stay keep their queue and connection.
    /// False, and nothing is changed, if ingest has not taken up the reloads before.
    pub fn reload(&mut self, config: &Config) -> bool {
        if self.reloads.is_full() {
            return false;
        }
        let old: Vec<_> = std::mem::take(&mut self.active).into_iter().map(Some).collect();
        let mut old = old;
        let mut lanes = Vec::new();
        for destination in &config.destinations {
            let kept = old.iter().position(|active| {
                active.as_ref().is_some_and(|active| {
                    let old = &active.destination;
                    old.route == destination.route
                        // One connection cannot change its framing.
                        && old.framing == destination.framing
                })
            });
            match kept.and_then(|index| Some((index, old[index].take()?))) {
                Some((index, active)) => {
                    active.service.send_replace(destination.service.clone());
                    self.active.push(Active { destination: destination.clone(), ..active });
                    let shape = self.shape(config, destination);
                    lanes.push(NextLane::Keep(index, Box::new(shape), self.policy(destination)));
                }
                None => lanes.push(NextLane::New(Box::new(self.open(config, destination)))),
            }
        }
        // Their outputs go on until the queue is empty or the time is over; those of earlier reloads have no more of it.
        self.removed.retain(|expiry| !expiry.is_over());
        self.removed.extend(old.into_iter().flatten().map(|active| active.expiry));
        let deadline = Instant::now() + config.drain_timeout;
        self.removed.iter().for_each(|expiry| expiry.bring_forward(deadline, Reason::Removed));
        // There is room: this is the only sender.
        let _ = self.reloads.try_send(Reload { lanes, drop_eoe: config.drop_eoe });
        self.wake_ingest();
        true
    }

    /// Ends the input, as if it had ended by itself. `read_what_is_there`: after what has arrived is read.
    pub fn stop_reading(&self, read_what_is_there: bool) {
        self.shared.read_what_is_there.store(read_what_is_there, Ordering::Release);
        self.shared.stop.store(true, Ordering::Release);
        self.wake_ingest();
    }

    /// Tells the outputs when to give up, those of removed destinations too: the end waits for them all.
    pub fn set_deadline(&self, deadline: Instant) {
        let all = self.active.iter().map(|active| &active.expiry).chain(&self.removed);
        all.for_each(|expiry| expiry.bring_forward(deadline, Reason::DrainDeadline));
    }

    /// Gives up everything that is not delivered.
    pub fn give_up(&self) {
        self.shared.give_up.store(true, Ordering::Release);
        self.set_deadline(Instant::now());
        self.wake_ingest();
    }

    /// Waits until every output has ended. Cancelling loses nothing.
    pub async fn delivered(&mut self) {
        while self.outputs.join_next().await.is_some() {}
    }

    /// Waits for ingest, which has nothing left to wait for once the outputs have ended.
    pub async fn join(&mut self) {
        // A panic aborts the process, so there is no other outcome than the end.
        match self.reader.take() {
            Some(Reader::Task(task)) => drop(task.await),
            Some(Reader::Thread(thread)) => drop(thread.join()),
            None => {}
        }
    }

    fn wake_ingest(&self) {
        self.waker.notify_one();
    }
}

/// By which a destination of one instance is known to the next: its address, and how its messages are told apart.
/// What is in a message stays as it was written.
fn key(destination: &Destination) -> String {
    let Destination { url, framing, .. } = destination;
    format!("{url} {}", format!("{framing:?}").to_lowercase())
}

/// Ready when a destination's time is over, with what its undelivered records are lost as.
async fn expiry_of(mut expiry: watch::Receiver<Option<(Instant, Reason)>>) -> Reason {
    loop {
        let value = *expiry.borrow_and_update();
        let wait = async {
            match value {
                Some((deadline, _)) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // The deadline may come nearer.
        tokio::select! {
            () = wait => return value.map_or(Reason::DrainDeadline, |(_, reason)| reason),
            changed = expiry.changed() => if changed.is_err() {
                // The destination is out of the configuration, or the pipeline is gone.
                let (deadline, reason) = value.unwrap_or((Instant::now(), Reason::DrainDeadline));
                tokio::time::sleep_until(deadline).await;
                return reason;
            }
        }
    }
}
