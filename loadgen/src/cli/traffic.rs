//! The options of `send` and `sink`; types only.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{CorpusArgs, FileArgs, ScheduleArgs, duration, size, warm_up};
use crate::address::Address;
use crate::corpus::{Form, Frames, Mix, STREAMS};
use crate::deframe::Framing;
use crate::sink::{Manner, Stall};
use crate::warm_up::WarmUp;

/// Which records, as text lines.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Seed of the records; sender and receiver need the same
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Which records [default: host, or single with --size]
    #[arg(long, value_enum)]
    pub(crate) mix: Option<Mix>,
    /// Bytes of every record of the mix `single`; the message is 56 bytes longer [default: 240]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) size: Option<usize>,
    /// The lines of a recorded text stream, once, instead of generated records
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "mix", "size"])]
    pub(crate) trace: Option<PathBuf>,
}

impl RecordArgs {
    /// The same as a run's options.
    pub(crate) fn corpus(&self) -> CorpusArgs {
        let Self { seed, mix, size, ref trace } = *self;
        CorpusArgs {
            form: Form::Text,
            frames: Frames::Exact,
            seed,
            eoe: false,
            mix,
            size,
            trace: trace.clone(),
        }
    }
}

/// Faults of the built-in receiver.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults of the built-in receiver")]
pub(crate) struct MannerArgs {
    /// At AFTER from the first byte on it does nothing for TIME, e.g. 2s:1s; several are possible, in order
    #[arg(long = "sink-stall", visible_alias = "stall", value_name = "AFTER:TIME", value_parser = stall)]
    pub(crate) stalls: Vec<Stall>,
    /// It reads at most so many bytes a second
    #[arg(long = "sink-read-rate", visible_alias = "read-rate", value_name = "BYTES")]
    pub(crate) read_rate: Option<NonZeroU64>,
    /// It resets a connection that has brought so many bytes
    #[arg(long = "sink-reset-after", visible_alias = "reset-after", value_name = "BYTES")]
    pub(crate) reset_after: Option<NonZeroU64>,
    /// It lets each connection wait so long
    #[arg(long = "sink-accept-delay", visible_alias = "accept-delay", value_name = "TIME", value_parser = duration,
          default_value = "0")]
    pub(crate) accept_delay: Duration,
    /// Its receive buffer; a small one shows its faults to the sender sooner; 0 leaves it to the kernel's settings
    /// [default: 64 MiB, if that is allowed]
    #[arg(long = "sink-buffer", visible_alias = "buffer", value_name = "BYTES")]
    pub(crate) buffer: Option<u32>,
}

impl MannerArgs {
    /// Whether any was asked for.
    pub(crate) fn is_set(&self) -> bool {
        !self.stalls.is_empty()
            || self.read_rate.is_some()
            || self.reset_after.is_some()
            || !self.accept_delay.is_zero()
            || self.buffer.is_some()
    }

    /// The same for the receiver.
    pub(crate) fn manner(&self) -> Manner {
        Manner {
            stalls: self.stalls.clone(),
            read_rate: self.read_rate,
            reset_after: self.reset_after,
            accept_delay: self.accept_delay,
            receive_buffer: self.buffer.and_then(|bytes| usize::try_from(bytes).ok()),
            discard: false,
            write: None,
        }
    }
}

/// Where to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To a server.
    Server(Address),
    /// To a receiver in this process.
    Own(Address),
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, relp://HOST:PORT, relps://HOST:PORT, unix:PATH,
    /// unix-stream:PATH; or self:tcp and the like: a receiver of its own, so that loss and latency are known
    #[arg(long, value_name = "URL", value_parser = goal, default_value = "self:tcp")]
    pub(crate) to: Goal,
    /// Connections, each with a stream of its own
    #[arg(long, default_value = "1", value_name = "N", value_parser = connections)]
    pub(crate) connections: NonZeroU16,
    /// Threads that share the connections [default: one for each core that has nothing else to do]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroU16>,
    /// Messages to send [default: 1000000, or no limit with --duration, or the whole --trace]
    #[arg(long)]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// Send that many messages, or with a schedule for that time, before measuring: what is lost counts, but no latency,
    /// rate or CPU (2000 is messages, of all connections; 2s or 500ms is a time)
    #[arg(long, value_name = "COUNT|TIME", value_parser = warm_up)]
    pub(crate) warm_up: Option<WarmUp>,
    /// Framing on streams [default: lf on unix-stream, else octet]
    #[arg(long, value_enum)]
    pub(crate) framing: Option<Framing>,
    #[command(flatten)]
    pub(crate) corpus: RecordArgs,
    /// RELP: messages that may be unanswered
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(crate) window: NonZeroU32,
    /// PEM file with the certificates to trust
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    pub(crate) insecure: bool,
    /// How long the receiver may take nothing, or not answer, before it is given up
    #[arg(long, value_parser = duration, default_value = "30s")]
    pub(crate) timeout: Duration,
    /// How long to wait at the end for the receiver to close, and for missing messages at a receiver of its own
    #[arg(long, value_parser = duration, default_value = "1s")]
    pub(crate) linger: Duration,
    /// Lateness of the sender that counts as on time; the plan is kept if 99 % of the messages are
    #[arg(long, value_parser = duration, default_value = "10ms")]
    pub(crate) max_lag: Duration,
    /// For comparison: the same bytes by bare system calls, nothing patched but the first lap; loss is not known then
    #[arg(long, conflicts_with_all = ["rate", "ramp", "burst", "trace"])]
    pub(crate) bare: bool,
    /// Exit 0 although messages were lost, duplicated, reordered or torn
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// Repeat it this many times; the details told are those of the run whose rate is the median
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) runs: NonZeroU32,
    #[command(flatten)]
    pub(crate) manner: MannerArgs,
    #[command(flatten)]
    pub(crate) files: FileArgs,
}

impl SendArgs {
    /// Messages of all connections; without a limit `u64::MAX`.
    pub(crate) fn count(&self) -> u64 {
        let limited = self.schedule.duration.is_some() || self.corpus.trace.is_some();
        self.count.unwrap_or(if limited { u64::MAX } else { 1_000_000 })
    }
}

#[derive(Debug, Args)]
pub(crate) struct SinkArgs {
    /// tcp://HOST:PORT and the like; without HOST 127.0.0.1; only `tcp` is a free port, only `unix` a path of its own
    #[arg(long, value_name = "URL", value_parser = Address::parse_listener, default_value = "tcp")]
    pub(crate) listen: Address,
    #[command(flatten)]
    pub(crate) corpus: RecordArgs,
    /// Write what comes to this file, one message a line
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Count messages, do not judge them: the fastest drain
    #[arg(long)]
    pub(crate) discard: bool,
    /// End after this time [default: at SIGINT or SIGTERM]
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// End once so many different records have arrived and the senders have closed
    #[arg(long, value_name = "N", conflicts_with = "discard")]
    pub(crate) expect: Option<u64>,
    /// How long to wait for the senders to close once what was expected has come
    #[arg(long, value_parser = duration, default_value = "1s")]
    pub(crate) linger: Duration,
    /// Exit 0 although records were lost, duplicated, reordered or torn
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) manner: MannerArgs,
}

fn goal(text: &str) -> Result<Goal, String> {
    match text.strip_prefix("self:") {
        Some(scheme) if scheme.contains(':') => Err("expected e.g. self:tcp".into()),
        Some(scheme) => Address::parse_listener(scheme).map(Goal::Own),
        None => Address::parse(text).map(Goal::Server),
    }
}

fn connections(text: &str) -> Result<NonZeroU16, String> {
    let number = text.parse().ok().filter(|number: &NonZeroU16| number.get() <= STREAMS);
    number.ok_or_else(|| format!("expected a number from 1 to {STREAMS}"))
}

fn stall(text: &str) -> Result<Stall, String> {
    let (after, time) = text.split_once(':').ok_or("expected AFTER:TIME, e.g. 2s:1s")?;
    Ok(Stall { after: duration(after)?, time: duration(time)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::At;
    use crate::sink::Transport;

    #[test]
    fn goals_are_servers_or_ourselves() {
        let own = Address { transport: Transport::Udp, place: At::Host("127.0.0.1".into(), 0) };
        assert_eq!(goal("self:udp"), Ok(Goal::Own(own)));
        assert!(matches!(goal("udp://h:1"), Ok(Goal::Server(_))));
        for text in ["self", "self:", "self:http", "self:tcp://h:1", "udp"] {
            assert!(goal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stalls_and_connections_have_limits() {
        let ms = Duration::from_millis;
        assert_eq!(stall("2s:500ms"), Ok(Stall { after: ms(2000), time: ms(500) }));
        assert!(stall("2s").is_err() && stall(":1s").is_err());
        assert!(connections("4096").is_ok() && connections("4097").is_err() && connections("0").is_err());
    }
}
