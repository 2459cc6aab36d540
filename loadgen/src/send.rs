//! The same records as a syslog client sends them, to any server or to a receiver of its own.
//!
//! *Promise:* RFC 5424 over datagrams, streams, TLS or RELP, on as many connections as wanted, on time; says what left,
//! what held it up, and what broke with what to do about it.
//! *Law:* connected, opened and shaken hands before the clock of the schedule starts; what a sender cannot know it does
//! not claim.
//!
//! ```text
//!  corpus ──> lap (envelopes) ──> lanes, one for each connection ──> links ──> receiver
//!                                   ^ crew: a few threads       RELP: window <── answers
//! ```

mod crew;
mod lane;
mod link;
mod trust;
mod warm;
mod window;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) use self::lane::Answers;
use self::lane::{Desk, Done, Job, Lane};
use self::link::{Link, Slots, explain};
use self::trust::Trust;
pub(crate) use self::warm::Warmed;
use self::warm::warm_messages;
use self::window::{OPEN, Window, is_opened};
use crate::address::{Address, At};
use crate::calendar::utc;
use crate::cli::{Goal, SendArgs};
use crate::clock::{Clock, thread_cpu_seconds};
use crate::corpus::{Corpus, Envelope, Wire};
use crate::deframe::Framing;
use crate::drive::nanoseconds;
use crate::outputs;
use crate::plan::{Keeper, Plan};
use crate::progress::{self, Progress, State};
use crate::report::Runs;
use crate::session::{
    Failure, NOTHING_TO_SEND, build_corpus, command_line, exit_code, kernel_release, prefix, series,
};
use crate::signals::Signals;
use crate::sink::{Shared, Sink, Transport};
use crate::traffic::{Arrived, Traffic};
use crate::warm_up::WarmUp;

/// How far ahead a schedule starts, so that all threads are there when its first record is due.
const LEAD_NS: u64 = 5_000_000;
/// How often a signal is looked for.
pub(crate) const WATCH: Duration = Duration::from_millis(20);

/// What left.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Messages that the kernel has taken.
    pub(crate) messages: u64,
    /// The same for each connection.
    pub(crate) streams: Vec<u64>,
    /// Bytes, framing included, TLS not.
    pub(crate) bytes: u64,
    /// Start of the schedule; without one, of the first write.
    pub(crate) first_ns: u64,
    /// The last write.
    pub(crate) last_ns: u64,
    /// Times that a receiver made a connection wait.
    pub(crate) blocked: u64,
    /// For how long, over all connections.
    pub(crate) blocked_ns: u64,
    /// How the plan was kept.
    pub(crate) keeper: Keeper,
    /// Whether there was one.
    pub(crate) scheduled: bool,
    /// Datagrams that came back.
    pub(crate) refused: u64,
    /// RELP: what the receiver has said.
    pub(crate) answers: Option<Answers>,
    /// A signal ended it.
    pub(crate) interrupted: bool,
    /// Connections that broke, and why.
    pub(crate) troubles: Vec<(usize, String)>,
    /// Threads that did it.
    pub(crate) threads: usize,
    /// CPU seconds of those, behind the warm-up.
    pub(crate) cpu_s: f64,
    /// The warm-up, if there was one and it ended.
    pub(crate) warmed: Option<Warmed>,
}

impl Sent {
    /// Messages behind the warm-up.
    pub(crate) fn measured(&self) -> u64 {
        self.messages - self.warmed.map_or(0, |warmed| warmed.messages)
    }
}

/// The subcommand.
///
/// # Errors
/// If the run could not be made; what became of the messages is an exit code.
pub(crate) fn main(args: &SendArgs) -> Result<ExitCode, Failure> {
    let signals = Signals::catch().map_err(Failure::when("catching signals"))?;
    check(args)?;
    args.files.check()?;
    let (first, more, failed) = series(args.runs, &signals, |number| run(args, &signals, number))?;
    let runs = Runs::new(first, more, command_line());
    outputs::write(&args.files, &runs)?;
    failed.map_or(Ok(()), Err)?;
    Ok(signals.exit_code().unwrap_or_else(|| exit_code(runs.judge(args.allow_loss))))
}

/// Refuses what contradicts itself.
fn check(args: &SendArgs) -> Result<(), Failure> {
    let connections = args.connections.get();
    if args.corpus.trace.is_some() && connections > 1 {
        return Err(Failure::usage("a --trace is sent once, on one connection"));
    }
    if matches!(args.to, Goal::Server(_)) && args.manner.is_set() {
        return Err(Failure::usage("--sink-stall and the like are for a receiver of its own: --to self:tcp"));
    }
    if (args.files.hgrm.is_some() || args.files.hlog.is_some())
        && (args.bare || matches!(args.to, Goal::Server(_)))
    {
        return Err(Failure::usage(
            "--hgrm and --hlog need a receiver of its own that judges: --to self:tcp",
        ));
    }
    if args.schedule.is_empty(args.count()) {
        return Err(Failure::usage(NOTHING_TO_SEND));
    }
    let pace = args.schedule.pace().map_err(Failure::usage)?;
    if pace.is_none() && matches!(args.warm_up, Some(WarmUp::Time(_))) {
        return Err(Failure::usage(
            "without a schedule the connections have no time in common: give --warm-up as a number of messages, or a --rate",
        ));
    }
    Ok(())
}

/// Makes run `number`, counted from 1.
fn run(args: &SendArgs, signals: &Signals, number: u32) -> Result<Traffic, Failure> {
    let Corpus { wire, mut expected } = build_corpus(&args.corpus.corpus())?;
    expected.expect_streams(args.connections.get());
    let (sink, address) = match &args.to {
        Goal::Server(address) => (None, address.clone()),
        Goal::Own(address) => {
            let sink = Sink::listen(address.clone(), args.manner.manner());
            let sink = sink.map_err(Failure::when(format!("binding {address}")))?;
            let address = Address::parse(sink.url()).map_err(Failure::when("its own address"))?;
            (Some(sink), address)
        }
    };
    let wire = wire.enveloped(envelope(&address, args.framing));
    if wire.peek().is_none() {
        return Err(Failure::usage("the trace holds no records"));
    }

    let shared = Shared::default();
    // Connections are made while the receiver already runs: with TLS and RELP it has to answer.
    let clock = Clock::start();
    let start_ns = clock.now();
    let (sent, received) = std::thread::scope(|scope| {
        let receiving = sink.as_ref().map(|sink| {
            let (expected, shared, clock) = (&mut expected, &shared, &clock);
            scope.spawn(move || {
                // All streams are ours, and none is known to be ahead of its sender.
                shared.announced.store(u64::MAX, Ordering::Release);
                let plan = Plan::new(start_ns, None);
                let received = sink.run(expected, &plan, clock, shared, args.linger);
                (received, thread_cpu_seconds())
            })
        });
        let own_sink = sink.as_ref().map(|_| &shared);
        let stage = Stage { clock: &clock, signals, own_sink, number };
        let ca = sink.as_ref().and_then(Sink::ca);
        let sent = connect(args, &address, ca.or(args.ca.as_deref()))
            .and_then(|lanes| send(args, &address, lanes, &wire, &stage));
        // Only now, also after a failure: the receiver ends when it knows how many there are.
        match &sent {
            Ok(sent) => shared.sent.store(sent.messages, Ordering::Release),
            Err(_) => shared.stop.store(true, Ordering::Relaxed),
        }
        let received = receiving.map(|thread| {
            let (received, cpu_s) =
                thread.join().map_err(|_| Failure::usage("the receiving thread panicked"))?;
            let received = received.map_err(Failure::when("receiving"))?;
            Ok(Arrived { received, judged: !args.bare, expected: None, cpu_s, start_ns })
        });
        Ok((sent?, received.transpose()?))
    })?;
    let url = sink.as_ref().map_or_else(|| address.to_string(), |sink| format!("{} (its own)", sink.url()));
    Ok(Traffic { conditions: conditions(args, &url, &wire, start_ns), sent: Some(sent), received })
}

/// What messages travel in there.
fn envelope(address: &Address, framing: Option<Framing>) -> Envelope {
    match (address.transport, framing) {
        (Transport::Unix | Transport::Udp | Transport::None, _) => Envelope::Bare,
        (Transport::Relp | Transport::Relps, _) => Envelope::Relp,
        (_, Some(Framing::Lf)) | (Transport::UnixStream, None) => Envelope::Lf,
        (_, Some(Framing::Octet)) | (Transport::Tcp | Transport::Tls, None) => Envelope::Octet,
    }
}

/// Makes all connections.
fn connect(args: &SendArgs, address: &Address, ca: Option<&std::path::Path>) -> Result<Vec<Lane>, Failure> {
    let trust = match &address.place {
        At::Host(host, _) if address.transport.is_encrypted() => {
            if ca.is_none() && !args.insecure {
                return Err(Failure::usage(
                    "TLS needs --ca FILE with the authority of the receiver's certificate, or --insecure",
                ));
            }
            let what = ca.map_or_else(|| "TLS".into(), |ca| format!("reading {}", ca.display()));
            Some(Trust::new(host, ca).map_err(Failure::when(what))?)
        }
        _ => None,
    };
    let mut lanes = Vec::new();
    for index in 0..args.connections.get() {
        let lane = Link::connect(address, trust.as_ref(), args.timeout).and_then(|mut link| {
            let size = usize::try_from(args.window.get()).unwrap_or(usize::MAX);
            let window = address.transport.is_relp().then(|| Window::new(size));
            if window.is_some() {
                open(&mut link, args.timeout)?;
            }
            Ok(Lane::new(link, window, index, nanoseconds(args.max_lag)))
        });
        let failed = |error: io::Error| Failure::when("connecting")(explain(&error, address));
        lanes.push(lane.map_err(failed)?);
    }
    Ok(lanes)
}

/// Opens a RELP session.
fn open(link: &mut Link, timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    let mut slots = Slots::new();
    let mut said = link.push(OPEN, &[], &mut slots)?;
    let mut heard = Vec::new();
    let mut room = [0; 4096];
    loop {
        if said < OPEN.len() {
            said += link.push(&OPEN[said..], &[], &mut slots)?;
        }
        link.flush()?;
        match link.read(&mut room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => heard.extend_from_slice(&room[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                link.wait(Duration::from_millis(20))?;
            }
            Err(error) => return Err(error),
        }
        if !heard.is_empty() && is_opened(&heard).map_err(|breach| io::Error::other(breach.0))?.is_some() {
            return Ok(());
        }
    }
}

/// What a run is made on.
struct Stage<'a> {
    clock: &'a Clock,
    signals: &'a Signals,
    /// What a receiver of its own has seen so far, if there is one.
    own_sink: Option<&'a Shared>,
    /// Which run, counted from 1.
    number: u32,
}

/// Sends everything, by a few threads.
fn send(
    args: &SendArgs,
    address: &Address,
    lanes: Vec<Lane>,
    wire: &Wire,
    stage: &Stage<'_>,
) -> Result<Sent, Failure> {
    let Stage { clock, signals, own_sink, number } = *stage;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spare = if own_sink.is_some() { cores - 1 } else { cores };
    let threads = args.threads.map_or(spare, |threads| threads.get().into()).clamp(1, lanes.len());
    let pace = args.schedule.pace().map_err(Failure::usage)?;
    let plan = Plan::paced(clock.now() + LEAD_NS, pace);
    let start_ns = plan.intended(0).unwrap_or_else(|| clock.now());
    let warm = warm_messages(args.warm_up, &plan, start_ns, lanes.len() as u64);
    if let Some(shared) = own_sink {
        shared.measured_from.store(warm, Ordering::Release);
    }
    let job = Job {
        address: address.clone(),
        plan,
        warm,
        lanes: lanes.len() as u64,
        count: args.count(),
        end_ns: args.schedule.duration.map(|duration| start_ns.saturating_add(nanoseconds(duration))),
        patience_ns: nanoseconds(args.timeout),
        linger_ns: nanoseconds(args.linger),
        bare: args.bare,
    };
    let mut crews: Vec<Vec<(usize, Lane)>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, lane) in lanes.into_iter().enumerate() {
        crews[index % threads].push((index, lane));
    }
    let records = Some(args.count()).filter(|count| *count != u64::MAX);
    let goal = progress::Goal { records, duration: args.schedule.length(records) };
    let mut progress = Progress::new(goal, &prefix(args.runs, number));
    let written = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let busy = AtomicUsize::new(threads);
    let done = std::thread::scope(|scope| {
        let working: Vec<_> = crews
            .into_iter()
            .map(|crew| {
                let (job, stop, busy, written) = (&job, &stop, &busy, &written);
                scope.spawn(move || {
                    let (indices, mut lanes): (Vec<usize>, Vec<Lane>) = crew.into_iter().unzip();
                    let result =
                        crew::drive(&mut lanes, &mut Desk::new(wire.clone()), job, clock, stop, written);
                    busy.fetch_sub(1, Ordering::Release);
                    let done: Vec<_> =
                        indices.into_iter().zip(lanes.into_iter().map(Lane::into_done)).collect();
                    result.map(|warm_cpu_s| (done, thread_cpu_seconds() - warm_cpu_s.unwrap_or_default()))
                })
            })
            .collect();
        while busy.load(Ordering::Acquire) > 0 {
            if signals.wait(WATCH) {
                stop.store(true, Ordering::Relaxed);
                break;
            }
            if progress.is_visible() {
                progress.show(State {
                    elapsed_ns: clock.now().saturating_sub(start_ns),
                    sent: written.load(Ordering::Relaxed),
                    arrived: own_sink.map(|shared| shared.arrived.load(Ordering::Relaxed)),
                    overtaken: own_sink.map_or(0, |shared| shared.overtaken.load(Ordering::Relaxed)),
                });
            }
        }
        progress.clear();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            let result: nix::Result<_> =
                thread.join().map_err(|_| Failure::usage("a sending thread panicked"))?;
            result.map_err(Failure::when("waiting for the receiver"))
        };
        working.into_iter().map(join).collect::<Result<Vec<_>, Failure>>()
    })?;
    let cpu_s = done.iter().map(|(_, cpu_s)| cpu_s).sum();
    let lanes = done.into_iter().flat_map(|(done, _)| done).collect();
    let mut sent = account(lanes, &job, nanoseconds(args.max_lag), start_ns);
    (sent.threads, sent.cpu_s, sent.scheduled) = (threads, cpu_s, pace.is_some());
    sent.interrupted = stop.load(Ordering::Relaxed);
    let cut_short = !sent.troubles.is_empty() || sent.interrupted;
    if warm > 0 && sent.warmed.is_none() && !cut_short {
        return Err(Failure::usage(
            "everything was sent before the warm-up was over, so nothing was measured; send more",
        ));
    }
    Ok(sent)
}

/// Sums up what the lanes have done.
fn account(mut lanes: Vec<(usize, Done)>, job: &Job, tolerance_ns: u64, start_ns: u64) -> Sent {
    lanes.sort_by_key(|(index, _)| *index);
    let first = lanes.iter().filter_map(|(_, done)| done.first_ns).min().unwrap_or(start_ns);
    let mut sent = Sent {
        messages: 0,
        streams: Vec::new(),
        bytes: 0,
        first_ns: job.plan.intended(0).unwrap_or(first),
        last_ns: first,
        blocked: 0,
        blocked_ns: 0,
        keeper: Keeper::new(tolerance_ns),
        scheduled: false,
        refused: 0,
        answers: None,
        interrupted: false,
        troubles: Vec::new(),
        threads: 0,
        cpu_s: 0.0,
        warmed: None,
    };
    // A connection that did not come so far has sent nothing but its warm-up.
    let begun = lanes.iter().filter_map(|(_, done)| done.warmed).map(|(at_ns, _)| at_ns).min();
    sent.warmed = begun.map(|at_ns| Warmed { at_ns, ..Warmed::default() });
    for (index, done) in lanes {
        if let Some(warmed) = &mut sent.warmed {
            warmed.messages += done.sent.min(job.warm);
            warmed.bytes += done.warmed.map_or(done.bytes, |(_, bytes)| bytes);
        }
        sent.messages += done.sent;
        sent.streams.push(done.sent);
        sent.bytes += done.bytes;
        sent.last_ns = sent.last_ns.max(done.last_ns);
        sent.blocked += done.blocked;
        sent.blocked_ns += done.blocked_ns;
        sent.keeper.add(&done.keeper);
        sent.refused += done.refused;
        if let Some(answers) = done.answers {
            let all = sent.answers.get_or_insert_default();
            all.taken += answers.taken;
            all.refused += answers.refused;
            all.open += answers.open;
        }
        sent.troubles.extend(done.trouble.map(|trouble| (index, trouble)));
    }
    sent
}

/// What was measured, for whoever reads the figures later.
fn conditions(args: &SendArgs, url: &str, wire: &Wire, start_ns: u64) -> Vec<(&'static str, Value)> {
    let mean = wire.mean_bytes();
    let corpus = match (&args.corpus.trace, args.corpus.size) {
        (Some(path), _) => format!("trace {}, mean {mean} B a message", path.display()),
        (None, Some(size)) => {
            format!("generated, seed {}, {size} B a record, {mean} B a message", args.corpus.seed)
        }
        (None, None) => {
            let mix = args.corpus.mix.unwrap_or_default();
            let (mix, seed) = (format!("{mix:?}").to_lowercase(), args.corpus.seed);
            format!("generated, mix {mix}, seed {seed}, mean {mean} B a message")
        }
    };
    let rate = if args.bare {
        "as fast as possible, nothing patched (--bare)".to_owned()
    } else {
        let pace = args.schedule.pace().ok().flatten();
        pace.map_or_else(|| "as fast as possible".to_owned(), |pace| pace.to_string())
    };
    let mut conditions = vec![
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("started", json!(utc(start_ns / 1_000_000_000))),
        ("host", host()),
        ("to", json!(url)),
        ("corpus", json!(corpus)),
        ("plan", json!(rate)),
    ];
    if let Some(warm_up) = args.warm_up {
        let text = match warm_up {
            WarmUp::Count(count) => format!("{count} messages"),
            WarmUp::Time(time) => format!("{} s", time.as_secs_f64()),
        };
        conditions.push(("warm-up", json!(text)));
    }
    if let Some(framing) = args.framing {
        conditions.push(("framing", json!(format!("{framing:?}").to_lowercase())));
    }
    conditions
}

/// Kernel and size of the machine.
pub(crate) fn host() -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!(format!("{}, {cores} CPUs", kernel_release()))
}
