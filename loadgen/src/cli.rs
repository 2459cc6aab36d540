//! The command line; types only.

mod traffic;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::traffic::{Goal, MannerArgs, SendArgs, SinkArgs};

use crate::corpus::{Form, Frames, Mix, SIZES, Shape};
use crate::deframe::Framing;
use crate::drive::FeedKind;
use crate::kernel::args::KernelArgs;
use crate::plan::{Burst, Pace, Ramp};
use crate::sink::Transport;
use crate::warm_up::WarmUp;

/// Plays auditd to a program, receives what it sends, and reports loss, order, latency and cost.
///
/// Exit code: 0 all well; 1 records were lost, duplicated, reordered or torn, or the target failed, went away or had
/// to be killed; 2 the run could not be made; 3 the generator could not keep its plan, so the run says nothing; 128
/// and its number if a signal cut the run short.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// Without a subcommand: run.
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Drive a program (the default)
    Run(RunArgs),
    /// Drive the built-in minimal relay: the floor to compare with (there is none for RELP)
    Floor(BenchArgs),
    /// Check what a receiver wrote to files during a run
    Verify(VerifyArgs),
    /// Real load through the kernel's audit system and an auditd of its own, with the program as auditd's plugin
    Kernel(Box<KernelArgs>),
    /// Puts the audit system back when its input ends
    #[command(hide = true)]
    KernelGuard,
    /// Send the records as a syslog client, to any server or to a receiver of its own
    Send(SendArgs),
    /// Only receive: for any client, with faults if wanted
    Sink(SinkArgs),
    /// The minimal relay itself: stdin to a destination
    #[command(hide = true)]
    FloorChild(FloorChildArgs),
    /// The byte pump itself: stdin to a stream
    #[command(hide = true)]
    PumpChild(FloorChildArgs),
    /// Drive the relay, every peer found on this machine and two floors in turn, and compare them
    Compare(CompareArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
    /// The program under test; {to}, {path}, {port} and {ca} in its arguments become the sink's URL, path, port and
    /// certificate file
    ///
    /// Default: the `audit-relay` beside this executable, with `--config none --to {to} --hostname loadgen`, and with
    /// `--tls-ca {ca}` if the sink speaks TLS.
    #[arg(last = true, value_name = "COMMAND", help_heading = "Arguments")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Built-in receiver
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(crate) to: Transport,
    /// Framing asked of the default command and of the floor (the sink tells by itself)
    #[arg(long, value_enum)]
    pub(crate) framing: Option<Framing>,
    /// Path of the Unix sink, e.g. /dev/log [default: in a temporary directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) sink_path: Option<PathBuf>,
    /// How records reach the program
    #[arg(long, value_enum, default_value_t = FeedKind::Socketpair)]
    pub(crate) feed: FeedKind,
    /// Records to write, EOE lines included [default: 200000, or no limit with --duration, or the whole --trace]
    #[arg(long)]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// Write that many lines, or for that time, before measuring: what is lost counts, but no latency, rate or CPU
    /// (2000 is lines, 2s or 500ms is a time)
    #[arg(long, value_name = "COUNT|TIME", value_parser = warm_up)]
    pub(crate) warm_up: Option<WarmUp>,
    #[command(flatten)]
    pub(crate) corpus: CorpusArgs,
    /// Pause between the start of the program and the first record
    #[arg(long, value_parser = duration, default_value = "200ms")]
    pub(crate) settle: Duration,
    /// How long the program may leave its stdin full, or run on after its end, before it is killed
    #[arg(long, value_parser = duration, default_value = "30s")]
    pub(crate) timeout: Duration,
    /// How long to wait for missing records after the program's end
    #[arg(long, value_parser = duration, default_value = "500ms")]
    pub(crate) linger: Duration,
    /// Lateness of the generator that counts as on time; the plan is kept if 99 % of the records are
    #[arg(long, value_parser = duration, default_value = "10ms")]
    pub(crate) max_lag: Duration,
    /// Messages come without PRI: from a program that passes the lines on as they are
    #[arg(long)]
    pub(crate) bare: bool,
    /// The process that started this run, which ends with it
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent: Option<i32>,
    /// Exit 0 although records were lost, duplicated, reordered or torn, or the program's exit code is not 0
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// Repeat the run this many times; the details told are those of the run whose CPU cost is the median
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) runs: NonZeroU32,
    #[command(flatten)]
    pub(crate) manner: MannerArgs,
    #[command(flatten)]
    pub(crate) files: FileArgs,
}

/// When records are due.
#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    /// Stop after this time, e.g. 10, 1.5s, 500ms
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Records a second; 0 is as fast as possible
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// From one rate to another along a line, over --duration, e.g. 1000..50000
    #[arg(long, value_name = "FROM..TO", requires = "duration", conflicts_with = "rate")]
    pub(crate) ramp: Option<Ramp>,
    /// Many records at once, again and again, e.g. 1000/1s
    #[arg(long, value_name = "N/EVERY", value_parser = burst, conflicts_with_all = ["rate", "ramp"])]
    pub(crate) burst: Option<Burst>,
}

impl ScheduleArgs {
    /// The schedule, if there is one.
    ///
    /// # Errors
    /// If a ramp has no length.
    pub(crate) fn pace(&self) -> Result<Option<Pace>, &'static str> {
        match (self.ramp, self.burst) {
            (Some(ramp), _) => {
                let pace = self.duration.and_then(|length| Pace::ramp(ramp, length));
                pace.map(Some).ok_or("a --ramp needs a --duration of up to ten days")
            }
            (None, Some(burst)) => Ok(Some(Pace::Burst(burst))),
            (None, None) => Ok(NonZeroU64::new(self.rate).map(Pace::Constant)),
        }
    }

    /// Whether nothing is to be sent.
    pub(crate) fn is_empty(&self, count: u64) -> bool {
        count == 0 || self.duration.is_some_and(|duration| duration.is_zero())
    }

    /// Records a second, if they are to come evenly.
    pub(crate) fn constant_rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.rate).filter(|_| self.ramp.is_none() && self.burst.is_none())
    }

    /// The time of the whole, as far as it is known, if `count` records are sent at most.
    pub(crate) fn length(&self, count: Option<u64>) -> Option<Duration> {
        let planned = count.zip(self.constant_rate()).map(|(count, rate)| count as f64 / rate.get() as f64);
        let planned = planned.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match (self.duration, planned) {
            (Some(limit), Some(planned)) => Some(limit.min(planned)),
            (limit, planned) => limit.or(planned),
        }
    }
}

/// The files a report goes to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct FileArgs {
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write the report as a page with charts, to be opened in a browser
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Also write the latencies as a percentile table (us) for HdrHistogram's plotters
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Also write the latencies (ns) as an HdrHistogram interval log, V2 compressed
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
}

impl BenchArgs {
    /// The number of records to write.
    pub(crate) fn count(&self) -> u64 {
        let unlimited = self.schedule.duration.is_some() || self.corpus.trace.is_some();
        self.count.unwrap_or(if unlimited { u64::MAX } else { 200_000 })
    }
}

/// The records: the same options make the same records.
#[derive(Clone, Debug, Args)]
pub(crate) struct CorpusArgs {
    /// What auditd writes
    #[arg(long, value_enum, default_value_t = Form::Text)]
    pub(crate) form: Form,
    /// How binary frames end
    #[arg(long, value_enum, default_value_t = Frames::Exact)]
    pub(crate) frames: Frames,
    /// Seed of the generated records
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// End events with EOE lines (written, not expected to arrive)
    #[arg(long)]
    pub(crate) eoe: bool,
    /// Which records [default: host, or single with --size]
    #[arg(long, value_enum)]
    pub(crate) mix: Option<Mix>,
    /// Bytes of every record line of the mix `single`, the line feed not counted: 120 to 8970 [default: 240]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) size: Option<usize>,
    /// Replay the lines of a recorded text stream once, instead of generated records
    #[arg(long, value_name = "FILE", conflicts_with_all = ["form", "frames", "eoe", "seed", "mix", "size"])]
    pub(crate) trace: Option<PathBuf>,
}

impl CorpusArgs {
    /// What to build if there is no trace.
    ///
    /// # Errors
    /// A size for a mix that has all sizes.
    pub(crate) fn shape(&self) -> Result<Shape, &'static str> {
        let mix = match (self.mix, self.size) {
            (None | Some(Mix::Single), Some(_)) => Mix::Single,
            (Some(_), Some(_)) => return Err("--size goes with --mix single only"),
            (mix, None) => mix.unwrap_or_default(),
        };
        let Self { seed, form, frames, eoe, size, .. } = *self;
        Ok(Shape { seed, form, frames, eoe, mix, size })
    }
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Files that a receiver wrote, oldest first, one message a line in any template that holds the record's text;
    /// `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Records that must have arrived, `sent` in the run's report [default: the highest number found, plus one, or all
    /// of --trace]
    #[arg(long)]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) corpus: CorpusArgs,
    /// Exit 0 although records were lost, duplicated, reordered or torn
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// Also write the account as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FloorChildArgs {
    /// Destination
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Framing on streams
    #[arg(long, value_enum)]
    pub(crate) framing: Option<Framing>,
    /// PEM file with the certificates to trust
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// Reads `1000/1s`.
fn burst(text: &str) -> Result<Burst, String> {
    let parts = text.split_once('/').and_then(|(size, every)| size.parse().ok().zip(duration(every).ok()));
    parts
        .and_then(|(size, every)| Burst::new(size, every))
        .ok_or_else(|| "expected records/time, e.g. 1000/1s".to_owned())
}

/// Reads `2000`, `2s` or `500ms`.
fn warm_up(text: &str) -> Result<WarmUp, String> {
    match text.parse() {
        Ok(count) => Ok(WarmUp::Count(count)),
        Err(_) if text.ends_with('s') => duration(text).map(WarmUp::Time),
        Err(_) => Err("expected a number of lines or a time, e.g. 2000, 2s or 500ms".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Built-in receivers to send to, each compared by itself; none: what writes files
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp")]
    pub(crate) to: Vec<Transport>,
    /// Records each contestant gets in each round
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Records a second, and latencies in the table; 0 is as fast as possible
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// Rounds: in each, every contestant has one run, in an order of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How records reach the contestants
    #[arg(long, value_enum, default_value_t = FeedKind::Socketpair)]
    pub(crate) feed: FeedKind,
    /// Seed of the generated records and of the order in each round
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only contestants whose name begins with one of these, e.g. audit-relay,floor,syslog-ng
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) only: Vec<String>,
    /// Look for peers in this folder, too: a chroot, or a package unpacked (repeatable)
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Vec<PathBuf>,
    /// A contestant of your own; COMMAND is split at blanks and may contain {to}, {path}, {port}, {ca} (repeatable)
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named_command)]
    pub(crate) with: Vec<NamedCommand>,
    /// Also write everything as JSON: every run's report, and the summary
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write everything as a page with charts, to be opened in a browser
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Only say which contestants there are, which not, and why
    #[arg(long)]
    pub(crate) list: bool,
}

/// A contestant given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedCommand {
    /// Its name in the table.
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
}

/// Reads `NAME=COMMAND`.
fn named_command(text: &str) -> Result<NamedCommand, String> {
    let (name, command) = text.split_once('=').unwrap_or_default();
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if name.is_empty() || command.is_empty() {
        return Err("expected NAME=COMMAND".to_owned());
    }
    Ok(NamedCommand { name: name.to_owned(), command })
}

/// Reads a record size in bytes.
fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| SIZES.contains(size));
    size.ok_or_else(|| format!("expected a number of bytes from {} to {}", SIZES.start(), SIZES.end()))
}

/// Reads `2`, `1.5s` or `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds: f64 = number.parse().map_err(|_| "expected e.g. 2, 1.5s or 500ms".to_owned())?;
    Duration::try_from_secs_f64(seconds * unit).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [("2", 2000), ("1.5s", 1500), ("500ms", 500), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        for text in ["", "s", "-1", "1m", "nan"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn schedules_are_read_and_exclude_one_another() {
        let pace = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["audit-loadgen"], args].concat());
            cli.ok().map(|cli| cli.run.bench.schedule.pace().map(|pace| pace.map(|pace| pace.to_string())))
        };
        for (args, text) in [
            (&["--ramp", "0..500", "--duration", "2"][..], "0 to 500 records/s in 2 s"),
            (&["--burst", "1000/1s"], "1000 records every 1 s"),
            (&["--burst", "5/250ms"], "5 records every 0.25 s"),
            (&["--rate", "7"], "7 records/s"),
        ] {
            assert_eq!(pace(args), Some(Ok(Some(text.to_owned()))), "{args:?}");
        }
        assert_eq!(pace(&[]), Some(Ok(None)));
        for args in [
            &["--ramp", "0..500"][..],
            &["--ramp", "5..6", "--duration", "1", "--rate", "5"],
            &["--burst", "5/1s", "--rate", "5"],
            &["--burst", "0/1s"],
            &["--burst", "5/0s"],
            &["--burst", "5"],
        ] {
            assert_eq!(pace(args), None, "{args:?}");
        }
        assert!(pace(&["--ramp", "0..500", "--duration", "0"]).unwrap().is_err());
    }

    #[test]
    fn a_warm_up_is_lines_or_a_time() {
        assert_eq!(warm_up("2000"), Ok(WarmUp::Count(2000)));
        assert_eq!(warm_up("2s"), Ok(WarmUp::Time(Duration::from_secs(2))));
        assert_eq!(warm_up("500ms"), Ok(WarmUp::Time(Duration::from_millis(500))));
        assert!(warm_up("2m").is_err() && warm_up("").is_err() && warm_up("1.5").is_err());
    }

    #[test]
    fn run_is_the_default_and_takes_a_command_after_two_dashes() {
        for prefix in [&["audit-loadgen"][..], &["audit-loadgen", "run"]] {
            let args = prefix.iter().chain(&["--rate", "5", "--", "prog", "--to", "{to}"]);
            let cli = Cli::try_parse_from(args).unwrap();
            let run = if let Some(Action::Run(run)) = cli.action { run } else { cli.run };
            assert_eq!(run.bench.schedule.pace(), Ok(NonZeroU64::new(5).map(Pace::Constant)));
            assert_eq!(run.command, ["prog", "--to", "{to}"]);
        }
    }
}
