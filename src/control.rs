//! The life of the relay: signals, reload, report, drain, end.
//!
//! Promise: nothing but the end of the input, or a signal from somebody entitled, ends the relay; what has
//! been read by then is delivered or, after `drain-timeout`, counted as lost. Law: touches no message.
//!
//! | signal | under auditd | run by hand |
//! |---|---|---|
//! | TERM | from auditd, or once it (or its filter, `dispatcher`) is gone: stop reading, drain; from anybody else: ignored | stop reading, drain; the second one gives up at once |
//! | INT | ignored | as TERM |
//! | HUP | read the configuration again | the same |
//! | USR1 | write the accounting | the same |
//! | USR2 | auditd is gone (the kernel sends it): as TERM from auditd | ignored |
//! | QUIT, TSTP, TTIN, TTOU | ignored | quit, suspend |
//! | KILL, STOP | cannot be helped: root and whoever runs under the relay's account can send them | the same |
//! | all others that would end or stop a process | ignored, unless the process itself is at fault | the same |
//!
//! The sender of TERM is the kernel's word, kill(2); of sigqueue(3) the sender writes it himself, so that one is
//! never taken for auditd's.
//!
//! auditd up to 4.1 sends HUP when it reloads and TERM when it stops. auditd 4.2 closes standard input, waits
//! 50 ms, sends TERM and waits without limit, also on a reload; so the end of the input is the word that
//! counts, and the drain is bounded.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::config::Config;
use crate::confine::Confinement;
use crate::dispatcher::Dispatcher;
use crate::errand::Answer;
use crate::handover::{Folder, Legacy, Lock, NotTaken};
use crate::host::Names;
use crate::pipeline::Pipeline;
use crate::privilege::Confined;
use crate::status::{Doors, Server, TextFile};
use crate::telemetry::{self, Process, Report};
use crate::{diagnostics, errand, sys};

/// How often the kernel is asked about its clock.
const CLOCK_PERIOD: Duration = Duration::from_secs(60);

/// How often the handover's lock is asked for while another instance has it: while the outputs wait for that, and
/// later.
const LOCK_PERIODS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How much longer than its drain time an instance that is on its way out is waited for.
const SUCCESSION: Duration = Duration::from_secs(1);

/// How long an instance that has something to leave asks for the lock at its end. One that starts holds it for a moment to see whether
/// it is held.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// Pause when the kernel is too short of memory to tell a signal.
const DEAFNESS: Duration = Duration::from_millis(20);

/// Exit status (sysexits.h): records were still undelivered when the drain time was over.
pub const TEMPORARY_FAILURE: u8 = 75;
/// Exit status: the system refuses what every process may have.
pub const OS_ERROR: u8 = 71;

/// The signals that [`relay`] reads, held back from the first moment on.
#[derive(Debug)]
pub struct HeldSignals {
    ours: SigSet,
    before: SigSet,
}

/// Has the kernel keep the signals that a relay reads: one that comes before it is known whether this is a relay, or how it
/// is to run, must neither end it nor be lost. The kernel keeps what is blocked even if auditd has it ignored. Call
/// before anything else.
///
/// # Errors
/// The system refuses.
pub fn hold_signals() -> io::Result<HeldSignals> {
    let mut ours = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        ours.add(signal);
    }
    let before = ours.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    Ok(HeldSignals { ours, before })
}

impl HeldSignals {
    /// Lets them have their usual effect, as on any program; this is no relay.
    pub fn release(self) {
        let _ = self.before.thread_set_mask();
    }

    /// Takes them over: resets what auditd has ignored or blocked, and leaves blocked what [`relay`] reads.
    /// Call before the first thread starts. `by_hand`: no auditd has started us.
    ///
    /// # Errors
    /// The system refuses.
    pub fn take(self, by_hand: bool) -> io::Result<SignalFd> {
        sys::reset_signals(by_hand);
        self.ours.thread_set_mask()?;
        Ok(SignalFd::with_flags(&self.ours, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
    }
}

/// Everything that [`relay`] needs.
#[derive(Debug)]
pub struct Start<F> {
    /// What to run with.
    pub config: Config,
    /// Reads the configuration again.
    pub read_again: F,
    /// This host's names.
    pub names: Names,
    /// Who feeds us, if auditd is behind it.
    pub auditd: Option<Dispatcher>,
    /// Standard input is a socket, or fed by auditd's filter.
    pub input_is_socket: bool,
    /// Where the accounting goes.
    pub report: Option<File>,
    /// Where undelivered records are left for the next instance.
    pub handover: Option<Folder>,
    /// Where others may see what happens.
    pub doors: Doors,
    /// From [`HeldSignals::take`].
    pub signals: SignalFd,
    /// Root is given up.
    pub confined: Confined,
    /// What else is given up.
    pub confinement: Confinement,
}

/// Relays until the input ends, and returns the exit status.
pub fn relay<F: Fn() -> Result<Config, String> + Send + Sync + 'static>(start: Start<F>) -> u8 {
    // This thread drives outputs and signals, and reads what is no file. Name look-ups and standard output borrow
    // short-lived ones.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start: {error}");
            return OS_ERROR;
        }
    };
    let status = runtime.block_on(async {
        match Relay::start(start) {
            Ok((relay, input_end)) => relay.run(input_end).await,
            Err(error) => {
                error!("cannot start: {error}");
                OS_ERROR
            }
        }
    });
    // A look-up or a write to standard output that hangs must not keep us.
    runtime.shutdown_background();
    status
}

struct Relay<F> {
    config: Config,
    read_again: Arc<F>,
    auditd: Option<Dispatcher>,
    report: Option<File>,
    handover: Option<Folder>,
    lock: Option<Lock>,
    /// It has been said that what was left cannot be taken now.
    complained: bool,
    user: String,
    draining: bool,
    confinement: Confinement,
    started: Instant,
    started_at: f64,
    signals: AsyncFd<SignalFd>,
    status: Server,
    metrics_file: Option<TextFile>,
    pipeline: Pipeline,
}

/// What a signal asks for.
enum Wish {
    Stop,
    Reload,
    Report,
    Nothing,
}

impl<F: Fn() -> Result<Config, String> + Send + Sync + 'static> Relay<F> {
    fn start(mut start: Start<F>) -> io::Result<(Self, tokio::sync::oneshot::Receiver<()>)> {
        let (pipeline, input_end) = Pipeline::start(
            &start.confined,
            &start.config,
            start.names,
            start.input_is_socket,
            start.handover.is_some(),
            start.auditd.is_some(),
        )?;
        let relay = Self {
            config: start.config,
            read_again: Arc::new(start.read_again),
            auditd: start.auditd,
            report: start.report,
            handover: start.handover,
            lock: None,
            complained: false,
            user: start.confined.user().to_owned(),
            draining: false,
            confinement: start.confinement,
            started: Instant::now(),
            started_at: telemetry::now(),
            metrics_file: start.doors.take_file(),
            status: Server::start(&mut start.doors)?,
            signals: sys::watch_signals(start.signals)?,
            pipeline,
        };
        Ok((relay, input_end))
    }

    /// Takes up what the instance before has left. False while that one is still there.
    fn inherit(&mut self) -> bool {
        if let Some(legacies) = self.take_over() {
            let records: u64 = legacies.iter().map(Legacy::records).sum();
            if records > 0 {
                info!("handover: the instance before has left {records} records; they go first");
            }
            self.pipeline.adopt(legacies);
        }
        self.lock.is_some() || self.handover.is_none()
    }

    /// Takes the lock, and with it what has been left; `None` if there is nobody to take over from, or that one
    /// is still there.
    fn take_over(&mut self) -> Option<Vec<Legacy>> {
        let (None, Some(folder)) = (&self.lock, &self.handover) else { return None };
        match folder.lock() {
            Ok(lock) => match folder.take(lock.as_ref()?) {
                Ok(legacies) => {
                    self.lock = lock;
                    Some(legacies)
                }
                // Without the lock, nothing of ours is written over what is there.
                Err(NotTaken { why, later: true }) => {
                    if !std::mem::replace(&mut self.complained, true) {
                        error!("{why}; trying again");
                    }
                    None
                }
                Err(NotTaken { why, later: false }) => {
                    self.lock = lock;
                    error!("{why}");
                    None
                }
            },
            Err(error) => {
                error!(
                    "handover: cannot lock the folder: {error}; what is undelivered at the end will be lost"
                );
                self.handover = None;
                None
            }
        }
    }

    async fn run(mut self, mut input_end: tokio::sync::oneshot::Receiver<()>) -> u8 {
        let mut clock = tokio::time::interval(CLOCK_PERIOD);
        let mut metrics = tokio::time::interval(self.config.metrics_interval);
        let mut statistics = Statistics::every(self.config.statistics_interval);
        let mut stopped = false;
        let mut inherited = self.inherit();
        if inherited {
            self.pipeline.open_gate();
        }
        let mut locks = tokio::time::interval(LOCK_PERIODS.0);
        let patience = self.started + self.config.drain_timeout + SUCCESSION;
        let mut waits = true;
        let (mut reading, mut again) = (None, false);
        loop {
            tokio::select! {
                _ = &mut input_end => break,
                _ = locks.tick(), if !inherited => {
                    inherited = self.inherit();
                    if inherited {
                        self.pipeline.open_gate();
                        self.status.keep_port();
                    } else if waits && Instant::now() >= patience {
                        waits = false;
                        warn!(
                            "handover: another relay is running (the lock is held); going on without what it may \
                             leave. If both are meant to run, give each a folder of its own (`handover`)"
                        );
                        self.pipeline.open_gate();
                        self.status.leave_shared_port();
                        locks = tokio::time::interval(LOCK_PERIODS.1);
                    }
                }
                wish = wish(&self.signals, self.auditd) => match wish {
                    Wish::Stop => {
                        // auditd's last records may still be in its socket; a file has no end to wait for. The
                        // drain time runs from here, since ingest may be waiting for room.
                        self.pipeline.stop_reading(self.auditd.is_some());
                        stopped = true;
                        break;
                    }
                    // A reading that is under way may have begun before the change.
                    Wish::Reload if reading.is_some() => again = true,
                    Wish::Reload => reading = self.read_again(),
                    Wish::Report => self.write_report(),
                    Wish::Nothing => {}
                },
                read = finished(&mut reading), if reading.is_some() => {
                    reading = std::mem::take(&mut again).then(|| self.read_again()).flatten();
                    self.take_up(read);
                }
                _ = clock.tick() => self.pipeline.read_clock(),
                ask = self.status.asked() => ask.answer(self.snapshot()),
                _ = metrics.tick(), if self.metrics_file.is_some() => self.write_metrics(),
                () = statistics.due(self.config.statistics_interval) => {
                    self.pipeline.say_statistics(&self.snapshot());
                }
            }
        }
        self.draining = true;
        self.status.leave_port();
        if let Some(file) = &self.metrics_file {
            file.leave();
        }
        // Whoever still holds the lock is not waited for: what has been read is to be delivered.
        self.inherit();
        self.pipeline.open_gate();
        let deadline = Instant::now() + self.config.drain_timeout;
        self.pipeline.set_deadline(deadline);
        let mut given_up = false;
        loop {
            let wait = tokio::time::sleep_until(deadline);
            tokio::select! {
                biased;
                () = self.pipeline.delivered() => break,
                wish = wish(&self.signals, self.auditd) => match wish {
                    Wish::Stop if self.auditd.is_none() && stopped => self.pipeline.give_up(),
                    Wish::Stop => stopped = true,
                    Wish::Report => self.write_report(),
                    _ => {}
                },
                ask = self.status.asked() => ask.answer(self.snapshot()),
                _ = metrics.tick(), if self.metrics_file.is_some() => self.write_metrics(),
                () = wait, if !given_up => {
                    given_up = true;
                    self.pipeline.give_up();
                }
            }
        }
        self.pipeline.join().await;
        let patience = Instant::now() + LAST_PATIENCE;
        loop {
            if let Some(legacies) = self.take_over() {
                self.pipeline.pass_on(legacies);
            }
            let settled = self.lock.is_some() || self.handover.is_none();
            let leaves = self.pipeline.estate().is_some_and(|estate| !estate.is_empty());
            if settled || !leaves || Instant::now() >= patience {
                break;
            }
            tokio::time::sleep(LOCK_PERIODS.0).await;
        }
        if let Some(estate) = self.pipeline.estate()
            && let Err(error) = estate.settle(self.handover.as_ref().zip(self.lock.as_ref()))
        {
            error!("{error}");
        }
        self.last_report().await
    }

    /// Begins to read the configuration. A disk that hangs must hold up nothing else.
    fn read_again(&self) -> Option<Answer<Result<Config, String>>> {
        let read_again = Arc::clone(&self.read_again);
        errand::begin("reload", move || read_again())
            .map_err(|error| error!("reload: {error}; going on as before; send SIGHUP again later"))
            .ok()
    }

    fn take_up(&mut self, read: Result<Config, String>) {
        match read.and_then(|config| self.confinement.admits(&config).map(|()| config)) {
            Ok(config) => {
                for key in self.config.waiting(&config) {
                    warn!("reload: a change of `{key}` takes effect when the relay is started again");
                }
                if self.pipeline.reload(&config) {
                    self.config = config;
                    info!("reload: the configuration was read again");
                } else {
                    error!(
                        "reload: the input is held up, and earlier reloads are not done yet; send SIGHUP again later"
                    );
                }
            }
            Err(error) => error!("reload: {error}; going on with the configuration that is in effect"),
        }
    }

    fn snapshot(&self) -> Report {
        self.pipeline.report(Process {
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            start_time: self.started_at,
            input: self.pipeline.shared.form(),
            input_state: if self.draining { "draining" } else { "reading" },
            user: self.user.clone(),
            confined: self.confinement.enforced().clone(),
        })
    }

    fn write_report(&mut self) {
        let report = self.snapshot();
        info!("{}", report.summary());
        self.put_report(&report);
    }

    fn write_metrics(&mut self) {
        let report = self.snapshot();
        if let Some(file) = &mut self.metrics_file {
            file.put(&report);
        }
    }

    fn put_report(&mut self, report: &Report) {
        let Some(file) = &mut self.report else { return };
        let write = |file: &mut File| -> io::Result<()> {
            let mut text = serde_json::to_string_pretty(report)?;
            text.push('\n');
            if !file.metadata()?.is_file() {
                return file.write_all(text.as_bytes());
            }
            // Over the report before: its room is there even if the file system has become full. What is not whole
            // is taken away, so that an empty file is the sign of it.
            file.seek(SeekFrom::Start(0))?;
            let written = file.write_all(text.as_bytes());
            file.set_len(if written.is_ok() { text.len() as u64 } else { 0 })?;
            written
        };
        if let Err(error) = write(file) {
            warn!("report: cannot be written: {error}");
        }
    }

    async fn last_report(&mut self) -> u8 {
        let report = self.snapshot();
        self.put_report(&report);
        if let Some(file) = &mut self.metrics_file {
            file.put_last(&report).await;
        }
        diagnostics::last_words(&report.summary());
        if report.has_undelivered() { TEMPORARY_FAILURE } else { 0 }
    }
}

/// When statistics are due, by an interval that a reload may change.
struct Statistics {
    interval: Option<Duration>,
    next: Instant,
}

impl Statistics {
    fn every(interval: Option<Duration>) -> Self {
        Self { interval, next: Instant::now() + interval.unwrap_or_default() }
    }

    /// Waits until they are; for ever without an interval. Dropping the future loses nothing.
    async fn due(&mut self, interval: Option<Duration>) {
        if self.interval != interval {
            *self = Self::every(interval);
        }
        let Some(interval) = interval else { return std::future::pending().await };
        tokio::time::sleep_until(self.next).await;
        self.next = Instant::now() + interval;
    }
}

/// Waits for a reading that has begun.
async fn finished(reading: &mut Option<Answer<Result<Config, String>>>) -> Result<Config, String> {
    match reading {
        Some(reading) => reading.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

async fn wish(signals: &AsyncFd<SignalFd>, auditd: Option<Dispatcher>) -> Wish {
    loop {
        let Ok(mut ready) = signals.readable().await else {
            return std::future::pending().await;
        };
        match ready.get_inner().read_signal() {
            Ok(Some(signal)) => return meaning(&signal, auditd),
            Ok(None) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            // Deaf for a moment, not for good.
            Err(_) => tokio::time::sleep(DEAFNESS).await,
        }
    }
}

fn meaning(signal: &siginfo, auditd: Option<Dispatcher>) -> Wish {
    let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
    match Signal::try_from(number) {
        Ok(Signal::SIGHUP) => Wish::Reload,
        Ok(Signal::SIGUSR1) => Wish::Report,
        // PR_SET_PDEATHSIG sends it when the thread that started us ends, which need not be auditd's end.
        Ok(Signal::SIGUSR2) if auditd.is_some_and(Dispatcher::is_gone) => Wish::Stop,
        Ok(Signal::SIGINT) if auditd.is_none() => Wish::Stop,
        Ok(Signal::SIGTERM) => {
            let sender = i32::try_from(signal.ssi_pid).unwrap_or(0);
            // Anything but SI_USER may come with a sender that was made up (rt_sigqueueinfo(2)).
            let known = signal.ssi_code == libc::SI_USER;
            match auditd {
                None => Wish::Stop,
                Some(feeder) if (known && feeder.ends_by_term(sender)) || feeder.is_gone() => Wish::Stop,
                // auditd's filter passes it on before it writes the last it has; its end is ours.
                Some(feeder) if known && feeder.pid().as_raw() == sender => Wish::Nothing,
                // At the end of auditd's unit all in it get one.
                Some(_) if known && sender == 1 => {
                    info!("SIGTERM from the service manager: going on until auditd has ended");
                    Wish::Nothing
                }
                Some(_) => {
                    info!("SIGTERM from process {sender} ignored: only auditd stops its plugin");
                    Wish::Nothing
                }
            }
        }
        _ => Wish::Nothing,
    }
}
