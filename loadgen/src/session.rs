//! One run from beginning to end: binds the sink, starts the target, plays auditd, waits, counts, reports.
//!
//! *Promise:* a run that could be made is reported, whatever the program under test did; one that could not says why
//! and what to do. Options of the receiver that would have no effect are refused.
//! *Law:* everything that costs time is prepared before the clock of the schedule starts; the order of the end is
//! fixed: last record, end of stdin, exit of the target, last arrival, account.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::fs;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::Parser as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::calendar;
use crate::cli::{Action, BenchArgs, Cli, CorpusArgs, RunArgs};
use crate::clock::Clock;
use crate::command::{self, Receiver};
use crate::compare;
use crate::corpus::{Corpus, Form};
use crate::drive::{self, Feed, Limits};
use crate::floor;
use crate::kernel;
use crate::outputs;
use crate::plan::Plan;
use crate::progress::{Goal, Progress, State};
use crate::receive;
use crate::report::{Judgement, Report, Runs};
use crate::send;
use crate::signals::Signals;
use crate::sink::{Shared, Sink, Transport};
use crate::target::{self, Target, Watcher};
use crate::verify;
use crate::warm_up::{self, Cpu, WarmUp};

/// Exit code of a run that could not be made.
pub(crate) const EXIT_CANNOT_RUN: u8 = 2;
/// Exit code of records that did not arrive once, in order, whole.
pub(crate) const EXIT_FAULTY: u8 = 1;
const EXIT_PLAN_NOT_KEPT: u8 = 3;

/// How far ahead a schedule starts, so that all threads are there when its first record is due.
pub(crate) const LEAD_NS: u64 = 5_000_000;

/// Pause between two looks at the target's memory while records flow.
const WATCH: Duration = Duration::from_millis(100);

/// Why a run could not be made.
#[derive(Debug)]
pub(crate) struct Failure {
    doing: String,
    source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// For `map_err`: says what was being done.
    pub(crate) fn when<E: Into<Box<dyn Error + Send + Sync>>>(
        doing: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self { doing, source: source.into() }
    }

    pub(crate) fn usage(message: &str) -> Self {
        Self { doing: "usage".into(), source: message.into() }
    }

    /// The same failure, and what else happened.
    pub(crate) fn and(self, more: &str) -> Self {
        Self { source: format!("{} ({more})", self.source).into(), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.source)
    }
}

/// The program.
///
/// # Errors
/// If the run could not be made; faults of the target are exit codes, not errors.
pub(crate) fn main() -> Result<ExitCode, Failure> {
    let cli = Cli::parse();
    let (bench, command) = match cli.action {
        Some(Action::FloorChild(args)) => {
            floor::relay(&args.to, args.framing, args.ca.as_deref()).map_err(Failure::when("floor"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Action::Verify(args)) => return verify::verify(&args),
        Some(Action::PumpChild(args)) => {
            floor::pump(&args.to, args.ca.as_deref()).map_err(Failure::when("pump"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Action::Compare(args)) => return compare::main(&args).map_err(Failure::when("compare")),
        Some(Action::Kernel(args)) => return kernel::main(&args),
        Some(Action::KernelGuard) => {
            kernel::stand().map_err(Failure::when("guard"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Action::Floor(bench)) => {
            if bench.corpus.form != Form::Text || bench.to == Transport::None {
                return Err(Failure::usage("the floor reads --form text and needs a sink"));
            }
            if bench.to.is_relp() {
                return Err(Failure::usage(
                    "there is no floor for RELP; compare with the relay itself over tcp or tls",
                ));
            }
            let command = floor_command(&bench)?;
            (bench, command)
        }
        Some(Action::Send(args)) => return send::main(&args),
        Some(Action::Sink(args)) => return receive::main(&args),
        Some(Action::Run(run)) => split_run(run)?,
        None => split_run(cli.run)?,
    };

    drive::close_inherited();
    if let Some(parent) = bench.parent {
        end_with(parent)?;
    }
    check_sink(&bench)?;
    if bench.schedule.is_empty(bench.count()) {
        return Err(Failure::usage(NOTHING_TO_SEND));
    }
    if bench.to == Transport::None && (bench.files.hgrm.is_some() || bench.files.hlog.is_some()) {
        return Err(Failure::usage("--hgrm and --hlog need a sink: without one there is no latency"));
    }
    bench.files.check()?;
    target::adopt_orphans().map_err(Failure::when("becoming the parent of orphans"))?;
    let signals = Signals::catch().map_err(Failure::when("catching signals"))?;
    let (first, more, failed) =
        series(bench.runs, &signals, |number| run(&bench, &command, number, &signals))?;
    let runs = Runs::new(first, more, command_line());
    outputs::write(&bench.files, &runs)?;
    failed.map_or(Ok(()), Err)?;
    Ok(signals.exit_code().unwrap_or_else(|| exit_code(runs.judge(bench.allow_loss))))
}

/// The first run, those after it, and why there are fewer of them than asked for.
pub(crate) type Series<R> = (R, Vec<R>, Option<Failure>);

/// Makes `count` runs, or as many as there are before a signal comes or one cannot be made.
///
/// # Errors
/// If not even the first can be made. Where it is a later one, those before it are not thrown away.
pub(crate) fn series<R>(
    count: NonZeroU32,
    signals: &Signals,
    mut run: impl FnMut(u32) -> Result<R, Failure>,
) -> Result<Series<R>, Failure> {
    let first = run(1)?;
    let mut more = Vec::new();
    for number in 2..=count.get() {
        if signals.came() {
            break;
        }
        match run(number) {
            Ok(report) => more.push(report),
            Err(failure) => {
                let told = format!("run {number} of {count}; the report is of those before it");
                return Ok((first, more, Some(failure.and(&told))));
            }
        }
    }
    Ok((first, more, None))
}

/// Ends this process when `parent` ends, which started it.
fn end_with(parent: i32) -> Result<(), Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(Failure::when("tying the run to its parent"))?;
    if nix::unistd::getppid().as_raw() == parent {
        Ok(())
    } else {
        Err(Failure::usage("the process that started this run is gone"))
    }
}

/// What is said of a run of nothing.
pub(crate) const NOTHING_TO_SEND: &str =
    "--count or --duration is 0: nothing would be sent, and all would seem well";

/// Refuses what the receiver asked for would not do.
fn check_sink(bench: &BenchArgs) -> Result<(), Failure> {
    if bench.sink_path.is_some() && !matches!(bench.to, Transport::Unix | Transport::UnixStream) {
        return Err(Failure::usage("only --to unix and unix-stream have a --sink-path"));
    }
    if bench.to == Transport::None && bench.manner.is_set() {
        return Err(Failure::usage("--sink-stall and the like need a sink, and --to none has none"));
    }
    Ok(())
}

/// The exit code of a run that was made.
pub(crate) fn exit_code(judgement: Judgement) -> ExitCode {
    match judgement {
        Judgement::Well => ExitCode::SUCCESS,
        Judgement::Faulty => ExitCode::from(EXIT_FAULTY),
        Judgement::PlanNotKept => ExitCode::from(EXIT_PLAN_NOT_KEPT),
    }
}

/// The command line of this process, quoted for a shell.
pub(crate) fn command_line() -> String {
    let arguments: Vec<String> = std::env::args_os().map(|arg| quote(&arg.to_string_lossy())).collect();
    arguments.join(" ")
}

/// `argument` as a shell must be given it.
pub(crate) fn quote(argument: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(harmless) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

fn split_run(run: RunArgs) -> Result<(BenchArgs, Vec<String>), Failure> {
    if !run.command.is_empty() {
        return Ok((run.bench, run.command));
    }
    let relay = command::relay_path().map_err(Failure::when("finding this executable"))?;
    let command = command::relay(&relay, run.bench.to.is_encrypted(), run.bench.framing);
    Ok((run.bench, command))
}

/// This executable as the minimal relay.
fn floor_command(bench: &BenchArgs) -> Result<Vec<String>, Failure> {
    let own = std::env::current_exe().map_err(Failure::when("finding this executable"))?;
    Ok(command::floor(&own, command::FLOOR_CHILD, bench.to.is_encrypted(), bench.framing))
}

/// Where the program finds the sink. Without one stdout is /dev/null.
fn receiver(sink: Option<&Sink>) -> Receiver {
    let text = |path: Option<&Path>| path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    Receiver {
        to: sink.map_or("stdout:", Sink::url).to_owned(),
        path: text(sink.and_then(Sink::path)),
        port: sink.and_then(Sink::port).map(|port| port.to_string()).unwrap_or_default(),
        ca: text(sink.and_then(Sink::ca)),
    }
}

/// Makes run `number`, counted from 1.
fn run(bench: &BenchArgs, command: &[String], number: u32, signals: &Signals) -> Result<Report, Failure> {
    let pace = bench.schedule.pace().map_err(Failure::usage)?;
    let Corpus { mut wire, mut expected } = build_corpus(&bench.corpus)?;
    if wire.peek().is_none() {
        return Err(Failure::usage("the trace holds no lines"));
    }
    let mean_bytes = wire.mean_bytes();
    let mut sink = Sink::bind(bench.to, bench.sink_path.as_deref(), bench.manner.manner())
        .map_err(Failure::when("binding the sink"))?;
    if bench.bare {
        sink.iter_mut().for_each(Sink::take_bare);
    }
    let argv = receiver(sink.as_ref()).fill(command);
    let (feed, stdin) = Feed::open(bench.feed).map_err(Failure::when("making the target's stdin"))?;
    let target = Target::spawn(&argv, stdin)
        .map_err(Failure::when(format!("starting {}", argv.first().map_or("nothing", String::as_str))))?;
    let mut watcher = target.watcher();
    let clock = Clock::start();
    let halt = AtomicBool::new(signals.wait(bench.settle));
    watcher.look(&clock);
    let progress = Progress::new(goal(bench), &prefix(bench.runs, number));

    let own_cpu_before = target::own_cpu_seconds();
    let machine_before = target::machine_cpu_seconds();
    let plan = Plan::paced(clock.now() + LEAD_NS, pace);
    let limits = Limits {
        count: bench.count(),
        duration: bench.schedule.duration,
        warm_up: bench.warm_up,
        patience: bench.timeout,
        tolerance: bench.max_lag,
        halt: &halt,
    };
    let shared = Shared::default();
    if bench.warm_up.is_some() {
        shared.measured_from.store(u64::MAX, Ordering::Release);
    }
    let look = || {
        if signals.wait(Duration::ZERO) {
            halt.store(true, Ordering::Relaxed);
        }
        State {
            elapsed_ns: clock.now().saturating_sub(plan.start_ns()),
            sent: shared.announced.load(Ordering::Relaxed),
            arrived: sink.is_some().then(|| shared.arrived.load(Ordering::Relaxed)),
            overtaken: shared.overtaken.load(Ordering::Relaxed),
        }
    };
    // From the end of the load on, one more signal ends the target.
    let given_up = Cell::new(false);
    let give_up = || {
        given_up.set(given_up.get() || signals.wait(Duration::ZERO));
        given_up.get()
    };
    let (target_pid, mut warm_cpu) = (target.pid(), Cpu::default());
    let mut begin = |sequence| {
        shared.measured_from.store(sequence, Ordering::Release);
        warm_cpu = warm_up::cpu_of_tree(target_pid);
    };

    let (mut driven, mut outcome, exited_ns, received) = std::thread::scope(|scope| {
        let receiving = sink
            .as_ref()
            .map(|sink| scope.spawn(|| sink.run(&mut expected, &plan, &clock, &shared, bench.linger)));
        let (stop_watching, stopped) = mpsc::channel();
        let watching = scope.spawn(|| watch(watcher, progress, &clock, stopped, look));

        let driven = drive::drive(&feed, &mut wire, &plan, &limits, &clock, &shared.announced, &mut begin);
        // End of stdin: the target drains and exits.
        drop(feed);
        drop(stop_watching);
        let watcher = watching.join().map_err(|_| Failure::usage("the watching thread panicked"));
        let outcome = watcher.and_then(|watcher| {
            let timeout = match driven.stop {
                // A target that would not read will not exit either; it has had its time.
                Some(drive::Stop::Stuck) => Duration::ZERO,
                // Nobody is left to read the report.
                Some(drive::Stop::Interrupted) if bench.parent.is_some() => Duration::ZERO,
                _ => bench.timeout,
            };
            let outcome = target.wait(watcher, timeout, bench.linger, &clock, &give_up);
            outcome.map_err(Failure::when("waiting for the target"))
        });
        let exited_ns = clock.now();
        // Only now, also after a failure: the sink ends when it knows how many there are.
        shared.sent.store(driven.sent, Ordering::Release);
        let received = receiving
            .map(|thread| {
                let received = thread.join().map_err(|_| Failure::usage("the receiving thread panicked"))?;
                received.map_err(Failure::when("receiving"))
            })
            .transpose();
        Ok((driven, outcome?, exited_ns, received?))
    })?;

    if given_up.get() {
        driven.stop.get_or_insert(drive::Stop::Interrupted);
    }
    let own_cpu_s = target::own_cpu_seconds() - own_cpu_before;
    let machine_s = target::machine_cpu_seconds().zip(machine_before).map(|(after, before)| after - before);
    // The machine's sum is sampled by the clock tick, which misses many short turns; a negative rest means nothing.
    let others_cpu_s =
        machine_s.map(|all| all - own_cpu_s - outcome.user_s - outcome.system_s).filter(|rest| *rest >= 0.0);
    if limits.warm_up.is_some() && driven.warmed.is_none() && driven.stop.is_none() {
        return Err(Failure::usage(
            "the run ended before its warm-up did, so nothing was measured; make it longer",
        ));
    }
    let measured = Cpu { user_s: outcome.user_s, system_s: outcome.system_s }.without(warm_cpu);
    (outcome.user_s, outcome.system_s) = (measured.user_s, measured.system_s);
    Ok(Report {
        conditions: conditions(bench, sink.as_ref(), &argv, mean_bytes, &plan),
        name: name(&argv),
        planned_rate: bench.schedule.constant_rate().map(NonZeroU64::get),
        driven,
        received,
        outcome,
        scheduled: pace.is_some(),
        warm_up: bench.warm_up.is_some(),
        exited_ns,
        own_cpu_s,
        others_cpu_s,
    })
}

/// Builds the records that `args` ask for.
///
/// # Errors
/// If the trace cannot be read, or options contradict each other.
pub(crate) fn build_corpus(args: &CorpusArgs) -> Result<Corpus, Failure> {
    match &args.trace {
        Some(path) => {
            let recorded = fs::read(path).map_err(Failure::when(format!("reading {}", path.display())))?;
            Ok(Corpus::replay(&recorded))
        }
        None => args.shape().map(Corpus::generate).map_err(Failure::usage),
    }
}

/// Looks at the target and asks how far the run is, and shows that if somebody watches, until told to stop.
fn watch(
    mut watcher: Watcher,
    mut progress: Progress,
    clock: &Clock,
    stopped: mpsc::Receiver<()>,
    look: impl Fn() -> State,
) -> Watcher {
    while stopped.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
        watcher.look(clock);
        let state = look();
        if progress.is_visible() {
            progress.show(state);
        }
    }
    progress.clear();
    watcher
}

/// How much there is to do. Records without an end (a trace, only a time) set no goal.
fn goal(bench: &BenchArgs) -> Goal {
    let records = Some(bench.count()).filter(|count| *count != u64::MAX);
    let duration = bench.schedule.length(records);
    Goal { records, duration }
}

/// What stands before the bar: which of several runs it is.
pub(crate) fn prefix(runs: NonZeroU32, number: u32) -> String {
    match runs.get() {
        1 => String::new(),
        all => format!("run {number} of {all} "),
    }
}

/// What the target is called: its program without the path.
fn name(argv: &[String]) -> String {
    let program = argv.first().map_or("nothing", String::as_str);
    let name = Path::new(program).file_name().map_or(program.into(), |name| name.to_string_lossy());
    if argv.get(1).is_some_and(|first| first == command::FLOOR_CHILD) {
        "floor".to_owned()
    } else {
        name.into_owned()
    }
}

/// What was measured, for whoever reads the figures later.
fn conditions(
    bench: &BenchArgs,
    sink: Option<&Sink>,
    argv: &[String],
    mean: usize,
    plan: &Plan,
) -> Vec<(&'static str, Value)> {
    let corpus = match (&bench.corpus.trace, bench.corpus.shape()) {
        (Some(path), _) => format!("trace {}, mean {mean} B a line", path.display()),
        (None, Ok(shape)) => {
            let name = format!("{:?}", shape.mix).to_lowercase();
            format!("mix {}, seed {}, mean {mean} B a line", name, shape.seed)
        }
        (None, Err(_)) => "none".to_owned(),
    };
    let form = match bench.corpus.form {
        Form::Text => "text".to_owned(),
        form => format!("{form:?}, {:?} frames", bench.corpus.frames).to_lowercase(),
    };
    let pace = bench.schedule.pace().ok().flatten();
    let rate = pace.map_or_else(|| "as fast as possible".to_owned(), |pace| pace.to_string());
    let warm_up = match bench.warm_up {
        None => "none".to_owned(),
        Some(WarmUp::Count(count)) => format!("{count} lines"),
        Some(WarmUp::Time(time)) => format!("{} s", time.as_secs_f64()),
    };
    let feed = match bench.feed {
        drive::FeedKind::Socketpair => "socket pair, one write per record",
        drive::FeedKind::Pipe => "pipe, blocks of up to 64 KiB",
    };
    let host =
        format!("{}, {} CPUs", kernel_release(), std::thread::available_parallelism().map_or(0, usize::from));
    vec![
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("started", json!(calendar::utc(plan.start_ns() / 1_000_000_000))),
        ("host", json!(host)),
        ("command", json!(argv.join(" "))),
        ("corpus", json!(corpus)),
        ("eoe", json!(if bench.corpus.eoe { "written, not expected" } else { "none" })),
        ("form", json!(form)),
        ("feed", json!(feed)),
        ("plan", json!(rate)),
        ("warm-up", json!(warm_up)),
        ("sink", json!(sink.map_or("none", Sink::url))),
    ]
}

pub(crate) fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        for (argument, quoted) in
            [("--rate", "--rate"), ("", "''"), ("{to}", "'{to}'"), ("it's", r"'it'\''s'"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(quote(argument), quoted);
        }
    }
}
