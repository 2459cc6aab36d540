//! The command line of `kernel`; types only.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::{FileArgs, duration};
use crate::sink::Transport;

/// What makes the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// User messages, as PAM sends them: one record each
    User,
    /// Programs started: about six records each
    Exec,
    /// Files opened: about four records each
    Open,
}

/// `log_format` of auditd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// With auditd's names for numbers added
    Enriched,
    /// As the kernel has it
    Raw,
}

/// `format` of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PluginFormat {
    /// Lines
    String,
    /// auditd's binary frames
    Binary,
}

/// yes or no, as auditd.conf has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    /// yes
    Yes,
    /// no
    No,
}

/// A line of auditd.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The key, in lower case.
    pub(crate) key: String,
    /// The value, one word.
    pub(crate) value: String,
}

/// What has an option of its own, or would take auditd out of its directory.
const SET_ELSEWHERE: [&str; 6] =
    ["write_logs", "log_format", "q_depth", "log_file", "plugin_dir", "local_events"];

fn setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or("a key and a value: KEY=VALUE")?;
    let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
    if SET_ELSEWHERE.contains(&key.as_str()) {
        return Err(format!("{key} has an option of its own, or must stay as it is"));
    }
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain(&key) || !plain(&value) {
        return Err("key and value are one word each".into());
    }
    Ok(Setting { key, value })
}

#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    /// What makes the records
    #[arg(long, value_enum, default_value_t = Load::User)]
    pub(crate) load: Load,
    /// Messages, programs or files a second; 0 is as fast as possible
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u64,
    /// Stop after this time, e.g. 10, 1.5s, 500ms [default: 10s, or no limit with --count]
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Messages, programs or files in all
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Bytes of a user message's text
    #[arg(long, default_value_t = 140, value_parser = clap::value_parser!(u16).range(120..=8000))]
    pub(crate) size: u16,
    /// The auditd to start [default: the one in /usr/sbin or /sbin]
    #[arg(long, value_name = "PATH")]
    pub(crate) auditd: Option<PathBuf>,
    /// Folder with another system in it, whose auditd is to be started (in a mount namespace of its own)
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Use the auditd that runs: only make load and watch. The plugin is auditd's, so no command may be given; there
    /// is a sink only with --to unix or unix-stream and --sink-path
    #[arg(long, conflicts_with_all = ["auditd", "root", "write_logs", "log_format", "q_depth", "backlog", "plugin_format", "auditd_set", "command"])]
    pub(crate) attach: bool,
    /// auditd.conf: write_logs
    #[arg(long, value_enum, default_value_t = YesNo::Yes)]
    pub(crate) write_logs: YesNo,
    /// auditd.conf: log_format
    #[arg(long, value_enum, default_value_t = LogFormat::Enriched)]
    pub(crate) log_format: LogFormat,
    /// auditd.conf: q_depth
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=99_999))]
    pub(crate) q_depth: u32,
    /// Any other key of auditd.conf, e.g. flush=NONE or priority_boost=0; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) auditd_set: Vec<Setting>,
    /// The kernel's backlog limit
    #[arg(long, default_value_t = 8192)]
    pub(crate) backlog: u32,
    /// The plugin's format
    #[arg(long, value_enum, default_value_t = PluginFormat::String)]
    pub(crate) plugin_format: PluginFormat,
    /// Built-in receiver [default: tcp, with --attach none]
    #[arg(long, value_enum)]
    pub(crate) to: Option<Transport>,
    /// Path of the Unix sink, e.g. /dev/log [default: in the working directory; with --root it is that system's
    /// /dev/log as well]
    #[arg(long, value_name = "PATH", conflicts_with = "root")]
    pub(crate) sink_path: Option<PathBuf>,
    /// Where the working directory is made, with auditd's log file in it
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) work: PathBuf,
    /// Pause between the start of auditd and the load
    #[arg(long, value_parser = duration, default_value = "1s")]
    pub(crate) settle: Duration,
    /// How long to wait for missing records after the last one that arrived
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub(crate) linger: Duration,
    /// Lateness of the generator that counts as on time; the plan is kept if 99 % of the load is
    #[arg(long, value_parser = duration, default_value = "10ms")]
    pub(crate) max_lag: Duration,
    /// Exit 0 although events were lost, duplicated, reordered or torn
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// How often to make the run, each time with an auditd of its own; with --attach with the one that runs
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) runs: NonZeroU32,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// The plugin under test; {to}, {path}, {port} and {ca} as for `run`. Default: the `audit-relay` beside this
    /// executable
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

impl KernelArgs {
    /// The rate, if there is one.
    pub(crate) fn rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.rate)
    }

    /// How long the load lasts, if that is limited.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.duration.or(self.count.is_none().then_some(Duration::from_secs(10)))
    }

    /// The receiver.
    pub(crate) fn to(&self) -> Transport {
        self.to.unwrap_or(if self.attach { Transport::None } else { Transport::Tcp })
    }
}
