//! Real load through the kernel's audit system: kernel, auditd, plugin and receiver measured as one chain.
//!
//! *Promise:* every event made is accounted for at the far end, and what each process of the chain spent on it is
//! told. The audit system is left as it was found, also when the run is interrupted or killed.
//! *Law:* the guard stands before anything is changed and is the only one who puts things back; what does not belong
//! to this run (another auditd, other rules) is never touched.
//!
//! ```text
//!  load, storm ──> kernel ──> auditd ──(stdin)──> plugin ──(syslog)──> sink ──> judge ──> report
//!                    ^ netlink, rules  ^ observe: CPU, backlog, queue    guard: puts back
//! ```

pub(crate) mod args;
mod auditd;
mod guard;
mod load;
mod netlink;
mod observe;
mod report;
mod rules;
mod runs;
mod storm;

pub(crate) use self::guard::stand;

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde_json::{Value, json};

use self::args::{KernelArgs, Load, LogFormat};
use self::auditd::{Auditd, Place};
use self::guard::{Guard, Task};
use self::load::{Done, Schedule, Text};
use self::netlink::{Audit, Change, Status};
use self::observe::{PERIOD, Seen, Watcher};
use self::report::Report;
use self::storm::Deed;
use crate::clock::Clock;
use crate::command::{self, Receiver};
use crate::corpus::{Audited, Expected, Storm};
use crate::drive::{close_inherited, nanoseconds};
use crate::outputs;
use crate::plan::Plan;
use crate::report::Runs;
use crate::session::{Failure, LEAD_NS, NOTHING_TO_SEND, command_line, exit_code, kernel_release};
use crate::signals::ending;
use crate::sink::{Manner, Received, Shared, Sink, Transport};

/// Notices that the run is to end.
struct Interrupt {
    signals: SignalFd,
    signal: AtomicI32,
    stop: AtomicBool,
}

impl Interrupt {
    /// From here on the signals are held back, in all threads to come.
    fn hold() -> io::Result<Self> {
        let mask = ending();
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, signal: AtomicI32::new(0), stop: AtomicBool::new(false) })
    }

    /// Looks whether a signal has come.
    fn look(&self) -> bool {
        if let Ok(Some(info)) = self.signals.read_signal() {
            self.signal.store(info.ssi_signo.cast_signed(), Ordering::Relaxed);
            self.stop.store(true, Ordering::Relaxed);
        }
        self.came().is_some()
    }

    fn came(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

impl Drop for Interrupt {
    /// The next run's auditd must not start with signals blocked; one that came in between ends the program then.
    fn drop(&mut self) {
        let _ = ending().thread_unblock();
    }
}

/// Makes the runs.
///
/// # Errors
/// If one cannot be made, or the audit system could not be put back.
pub(crate) fn main(args: &KernelArgs) -> Result<ExitCode, Failure> {
    close_inherited();
    if args.to() == Transport::None && (args.files.hgrm.is_some() || args.files.hlog.is_some()) {
        return Err(Failure::usage("--hgrm and --hlog need a sink: without one there is no latency"));
    }
    if args.count == Some(0) || args.duration().is_some_and(|duration| duration.is_zero()) {
        return Err(Failure::usage(NOTHING_TO_SEND));
    }
    args.files.check()?;
    let mut made = Vec::new();
    let (mut interrupted, mut restored, mut failed) = (None, true, None);
    for number in 1..=args.runs.get() {
        if args.runs.get() > 1 && io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "run {number} of {}", args.runs);
        }
        let (report, whole) = match run(args) {
            Ok(told) => told,
            Err(failure) if made.is_empty() => return Err(failure),
            // Those before it are not thrown away.
            Err(failure) => {
                let told = format!("run {number} of {}; the report is of those before it", args.runs);
                failed = Some(failure.and(&told));
                break;
            }
        };
        (interrupted, restored) = (report.interrupted, whole);
        made.push(report);
        if interrupted.is_some() || !restored {
            break;
        }
    }
    let said = made.last().map(|report| report.restored.clone()).unwrap_or_default();
    let mut made = made.into_iter();
    let first = made.next().ok_or_else(|| Failure::usage("no run was made"))?;
    let runs = Runs::new(first, made.collect(), command_line());
    let written = outputs::write(&args.files, &runs);
    if !restored {
        return Err(Failure::when("putting the audit system back")(said));
    }
    written?;
    failed.map_or(Ok(()), Err)?;
    Ok(match interrupted {
        Some(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        None => exit_code(runs.judge(args.allow_loss)),
    })
}

/// Makes one run. Returns whether the audit system is as it was.
fn run(args: &KernelArgs) -> Result<(Report, bool), Failure> {
    let mut audit = Audit::open().map_err(Failure::when("opening the kernel's audit interface"))?;
    let found = audit.status().map_err(Failure::when("reading the kernel's audit status (are you root?)"))?;
    check(args, &found)?;
    let place = Place::make(&args.work, args.root.as_deref())
        .map_err(Failure::when(format!("making a directory in {}", args.work.display())))?;
    let task = Task {
        found,
        key: format!("audit-loadgen-{}", std::process::id()),
        directory: place.here.clone(),
        attached: args.attach,
    };
    let guard = Guard::start(&task).map_err(Failure::when("starting the guard"))?;
    let measured = measure(args, audit, &place, &task);
    let (restored, whole) = match guard.finish() {
        Ok(text) => (text, true),
        Err(error) => (error.to_string(), false),
    };
    let report = measured.map_err(|failure| failure.and(&restored))?;
    Ok((Report { restored, ..report }, whole))
}

/// Whether the audit system is in a state that allows the run.
fn check(args: &KernelArgs, found: &Status) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::usage(
            "kernel needs root: it starts auditd and changes the kernel's audit status",
        ));
    }
    let to = args.to();
    let has_path = matches!(to, Transport::Unix | Transport::UnixStream);
    if args.sink_path.is_some() && !has_path {
        return Err(Failure::usage("only --to unix and unix-stream have a --sink-path"));
    }
    if args.attach && to != Transport::None && args.sink_path.is_none() {
        return Err(Failure::usage("with --attach the sink is --to unix or unix-stream at a --sink-path"));
    }
    if args.attach {
        if found.pid == 0 || found.enabled == 0 {
            return Err(Failure::usage(
                "--attach needs an auditd that runs and audit that is enabled; there is none",
            ));
        }
        if found.enabled == 2 && args.load != Load::User {
            return Err(Failure::usage(
                "the rules are locked until the next boot; only --load user is possible",
            ));
        }
        return Ok(());
    }
    if found.pid != 0 {
        return Err(Failure::usage(&format!(
            "an auditd runs already (process {}): stop it first, or use it with --attach",
            found.pid
        )));
    }
    if found.enabled == 2 {
        return Err(Failure::usage("the audit system is locked until the next boot"));
    }
    Ok(())
}

/// Everything between the start of the guard and its end.
fn measure(args: &KernelArgs, mut audit: Audit, place: &Place, task: &Task) -> Result<Report, Failure> {
    let to = args.to();
    let in_place = place.here.join("sink");
    let sink_path = args.sink_path.as_deref().unwrap_or(&in_place);
    let is_unix = matches!(to, Transport::Unix | Transport::UnixStream);
    let mut sink = Sink::bind(to, is_unix.then_some(sink_path), Manner::default())
        .map_err(Failure::when("binding the sink"))?;
    // An event's own stamp is of the wall clock, which may be set meanwhile.
    sink.iter_mut().for_each(Sink::take_foreign);
    let mut auditd = None;
    let command = if args.attach {
        Vec::new()
    } else {
        let change = Change {
            failure: Some(task.found.failure.min(1)),
            rate_limit: Some(0),
            backlog_limit: Some(args.backlog),
            ..Change::default()
        };
        audit.change(&change).map_err(Failure::when("setting the backlog limit"))?;
        let command = plugin_command(args, place, sink.as_ref())?;
        let dev_log = sink.as_ref().and_then(Sink::path).filter(|_| to == Transport::Unix);
        let started = Auditd::start(args, place, &command, dev_log, &mut audit);
        auditd = Some(started.map_err(Failure::when("starting auditd"))?);
        command
    };
    // Not before: auditd would start with these signals blocked. Until now they end this program, and then the guard
    // puts everything back.
    let interrupt = Interrupt::hold().map_err(Failure::when("holding back signals"))?;

    let file = place.here.join("opened");
    fs::write(&file, "").map_err(Failure::when(format!("writing {}", file.display())))?;
    let rule = match args.load {
        Load::User => None,
        Load::Exec => Some(rules::execs_of(std::process::id(), &task.key)),
        Load::Open => Some(rules::opens_of(&file, &task.key)),
    };
    if let Some(rule) = rule {
        let rule =
            rule.ok_or_else(|| Failure::usage("no rule for this machine's system calls; use --load user"))?;
        audit.add_rule(&rule).map_err(Failure::when("adding the rule"))?;
    }
    if !args.attach {
        let change = Change { enabled: Some(1), ..Change::default() };
        audit.change(&change).map_err(Failure::when("enabling audit"))?;
    }
    std::thread::sleep(args.settle);

    let (report, mut auditd) = drive(args, audit, task, sink, auditd, &file, &interrupt)?;
    if let Some(auditd) = &mut auditd {
        // Gone already: what it was told to do at the end was waited for.
        auditd.stop().map_err(Failure::when("stopping auditd"))?;
    }
    Ok(Report { conditions: conditions(args, task, &command), ..report })
}

/// Load, sink and watcher together.
fn drive(
    args: &KernelArgs,
    audit: Audit,
    task: &Task,
    sink: Option<Sink>,
    mut auditd: Option<Auditd>,
    file: &Path,
    interrupt: &Interrupt,
) -> Result<(Report, Option<Auditd>), Failure> {
    let mut text = Text::new(args.size.into());
    // With --attach there may be rules of others: those keys have to be read to their ends.
    let cut = if !args.attach && args.log_format == LogFormat::Raw { load::MAY_BE_LOST } else { 0 };
    let judge = match args.load {
        // What the auditd that runs was told about its format is not known.
        Load::User => Audited::marked(text.tail(args.attach || args.log_format == LogFormat::Raw)),
        Load::Exec => Audited::keyed(&task.key, Storm::Exec, cut),
        Load::Open => Audited::keyed(&task.key, Storm::Open, cut),
    };
    let mut expected = Expected::Audited(Box::new(judge));
    let pid = auditd.as_ref().map_or(task.found.pid, Auditd::pid);
    let watching = Audit::open().map_err(Failure::when("opening the kernel's audit interface"))?;

    let shared = Shared::default();
    let clock = Clock::start();
    let reception = Plan::new(clock.now(), None);
    let (done, seen, watched_ns, received) = std::thread::scope(|scope| {
        let receiving = sink
            .as_ref()
            .map(|sink| scope.spawn(|| sink.run(&mut expected, &reception, &clock, &shared, args.linger)));
        // The threads are there before the first look, so that none is charged for its start.
        let outcome = (|| {
            // auditd's first record is among what arrives in this time.
            std::thread::sleep(PERIOD);
            let mut watcher = Watcher::start(watching, pid).map_err(Failure::when("watching"))?;
            let began = clock.now();
            let schedule = Schedule {
                plan: Plan::new(began + LEAD_NS, args.rate()),
                count: args.count.unwrap_or(u64::MAX),
                until_ns: args.duration().map_or(u64::MAX, |time| began + LEAD_NS + nanoseconds(time)),
                tolerance_ns: nanoseconds(args.max_lag),
                clock,
            };
            let (announced, stop, text, audit) = (&shared.announced, &interrupt.stop, &mut text, &audit);
            let loading = scope.spawn(move || match args.load {
                Load::User => load::send(audit, text, &schedule, announced, stop),
                Load::Exec => storm::rage(Deed::Exec, &schedule, announced, stop),
                Load::Open => storm::rage(Deed::Open(file), &schedule, announced, stop),
            });
            while !loading.is_finished() {
                std::thread::sleep(PERIOD);
                watcher.look();
                interrupt.look();
            }
            let done = loading.join().map_err(|_| Failure::usage("the loading thread panicked"))?;
            let done = done.map_err(Failure::when("making load"))?;
            let arrived = || sink.is_some().then(|| shared.arrived.load(Ordering::Relaxed));
            let looked_ns = wait_for_arrivals(args, &done, &mut watcher, arrived, interrupt, &clock);
            Ok((done, watcher.finish(), looked_ns - began))
        })();
        // The plugin ends with auditd, so that the sink sees the end of its connection.
        if let Some(auditd) = &mut auditd {
            let _ = auditd.stop();
        }
        // Also after a failure, and whatever is missing: it has been waited for, so the sink ends with the connections.
        shared.sent.store(shared.arrived.load(Ordering::Relaxed), Ordering::Release);
        let received = receiving
            .map(|thread| {
                let received = thread.join().map_err(|_| Failure::usage("the receiving thread panicked"))?;
                received.map_err(Failure::when("receiving"))
            })
            .transpose();
        let (done, seen, watched_ns) = outcome?;
        Ok::<(Done, Seen, u64, Option<Received>), Failure>((done, seen, watched_ns, received?))
    })?;
    let received = received.and_then(|received| match expected {
        Expected::Audited(judge) => Some((received, *judge)),
        _ => None,
    });
    let report = Report {
        conditions: Vec::new(),
        load: args.load,
        scheduled: args.rate().is_some(),
        done,
        received,
        seen,
        watched_ns,
        q_depth: (!args.attach).then_some(args.q_depth),
        interrupted: interrupt.came(),
        restored: String::new(),
    };
    Ok((report, auditd))
}

/// Waits until everything has arrived, or nothing more does. Returns when the processes were last looked at: just after
/// the last arrival, so that waiting for what is lost is in nobody's bill; without a sink at the end.
fn wait_for_arrivals(
    args: &KernelArgs,
    done: &Done,
    watcher: &mut Watcher,
    arrived: impl Fn() -> Option<u64>,
    interrupt: &Interrupt,
    clock: &Clock,
) -> u64 {
    let mut quiet = Duration::ZERO;
    let mut last = arrived();
    watcher.look();
    let mut looked_ns = clock.now();
    loop {
        let all = args.load == Load::User && last.is_some_and(|last| last >= done.count);
        if all || quiet >= args.linger || interrupt.look() {
            return looked_ns;
        }
        std::thread::sleep(PERIOD);
        let now = arrived();
        quiet = if now == last { quiet + PERIOD } else { Duration::ZERO };
        if now != last || now.is_none() {
            watcher.look();
            looked_ns = clock.now();
        } else {
            watcher.look_at_kernel();
        }
        last = now;
    }
}

/// The plugin's command, with the sink filled in as the plugin sees it.
fn plugin_command(args: &KernelArgs, place: &Place, sink: Option<&Sink>) -> Result<Vec<String>, Failure> {
    let command = if args.command.is_empty() {
        let relay = command::relay_path().map_err(Failure::when("finding this executable"))?;
        command::relay(&relay, args.to().is_encrypted(), None)
    } else {
        args.command.clone()
    };
    let seen = |path: &Path| place.seen(path).to_string_lossy().into_owned();
    let here = place.here.to_string_lossy();
    let to = sink.map_or("stdout:", Sink::url).replace(&*here, &place.inside().to_string_lossy());
    let path = sink.and_then(Sink::path).map(seen).unwrap_or_default();
    let port = sink.and_then(Sink::port).map(|port| port.to_string()).unwrap_or_default();
    let ca = match sink.and_then(Sink::ca) {
        // The certificate is somewhere else, which another root does not see.
        Some(file) => {
            let copy = place.here.join("ca.pem");
            fs::copy(file, &copy).map_err(Failure::when("copying the certificate"))?;
            seen(&copy)
        }
        None => String::new(),
    };
    Ok(Receiver { to, path, port, ca }.fill(&command))
}

/// What was measured, for whoever reads the figures later.
fn conditions(args: &KernelArgs, task: &Task, command: &[String]) -> Vec<(&'static str, Value)> {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let plan =
        args.rate().map_or_else(|| "as fast as possible".to_owned(), |rate| format!("{rate} a second"));
    let name = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let mut conditions = vec![
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("host", json!(format!("{}, {cpus} CPUs", kernel_release()))),
        ("load", json!(format!("{}, {plan}", name(&args.load)))),
        ("sink", json!(name(&args.to()))),
    ];
    if args.attach {
        conditions.push(("setup", json!(format!("the auditd that runs, process {}", task.found.pid))));
    } else {
        let setup = format!(
            "write_logs {}, log_format {}, q_depth {}, {}plugin format {}, backlog limit {}",
            name(&args.write_logs),
            name(&args.log_format),
            args.q_depth,
            args.auditd_set.iter().fold(String::new(), |text, set| text + &set.key + " " + &set.value + ", "),
            name(&args.plugin_format),
            args.backlog
        );
        conditions.push(("command", json!(command.join(" "))));
        conditions.push(("setup", json!(setup)));
        conditions.push((
            "root",
            json!(args.root.as_ref().map_or("/".into(), |root| root.to_string_lossy().into_owned())),
        ));
    }
    conditions
}
