//! What is known of a machine when the traps are looked for: plain facts, gathered by [`super::gather`].
//!
//! Law: nothing here reads a file or asks anybody; a test can plant any machine as values. `None` is what could not be
//! found out, and no trap is found in it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Destination};
use crate::host::Names;
use crate::output::service::Target;
use crate::privilege::Account;
use crate::site::status::Status;
use crate::site::{Facts, Site};
use crate::telemetry::Report;

use super::PROGRAM;
use super::rsyslog::Rsyslog;

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// It is this one: its processes, its kernel and its network were looked at. Otherwise only files were.
    pub(crate) is_host: bool,
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// auditd, its settings, its plugins.
    pub(crate) site: Site,
    /// `auditd.conf` itself.
    pub(crate) auditd_conf: Option<Facts>,
    /// What auditd last wrote of its own state (SIGCONT, or `report_interval`).
    pub(crate) state: Option<State>,
    /// The host name resolves to a fully qualified one; asked only where auditd asks that itself.
    pub(crate) fqd_resolves: Option<bool>,
    /// How the relay is configured.
    pub(crate) relay: Relay,
    /// The relays that run from the program that the plugin's configuration names. `None`: unknown.
    pub(crate) processes: Option<Vec<Process>>,
    /// The kernel's audit status. `None`: only root is told.
    pub(crate) kernel: Option<Status>,
    /// The rules that are loaded, as auditctl lists them. `None`: only root is told.
    pub(crate) rules: Option<Vec<String>>,
    /// Who reads the kernel's audit records beside auditd.
    pub(crate) readers: Vec<Reader>,
    /// Who owns /dev/log, and what limits it.
    pub(crate) local: LocalSyslog,
    /// Each receiver that is not in the file system, and each that is.
    pub(crate) receivers: Vec<Receiver>,
    /// What became of test messages.
    pub(crate) arrivals: Vec<Sent>,
    /// Certificates and revocation lists that are read from files.
    pub(crate) certificates: Vec<Dated>,
    /// The kernel's clock follows a source.
    pub(crate) clock_is_synchronised: Option<bool>,
    /// What this machine is called.
    pub(crate) names: Option<Names>,
    /// The folder for undelivered records.
    pub(crate) handover: Option<Handover>,
    /// Lines of the last week in which the system says that it has refused the relay something.
    pub(crate) denials: Vec<String>,
    /// Sentences: what could not be looked at, and why.
    pub(crate) unseen: Vec<String>,
}

impl Machine {
    /// Where the relay sends, as far as its configuration is understood.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.relay.config.iter().flat_map(|config| &config.destinations)
    }

    /// The relay's program as the plugin's configuration names it: as its path, or as a word behind a filter.
    pub(crate) fn program(&self) -> Option<&Path> {
        let conf = self.site.plugins.iter().filter(|plugin| plugin.is_active_and_leads_to(PROGRAM));
        conf.filter_map(|plugin| plugin.conf.as_ref()).find_map(|conf| {
            let words = conf.arguments.iter().map(Path::new);
            conf.path
                .as_deref()
                .into_iter()
                .chain(words)
                .find(|path| path.file_name() == Some(PROGRAM.as_ref()))
        })
    }
}

/// auditd's own account of its plugin queue.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    /// The queue was full at least once.
    pub(crate) overflowed: bool,
    /// auditd feeds plugins no more.
    pub(crate) suspended: bool,
    /// Most records that have waited.
    pub(crate) deepest: Option<u32>,
}

/// The relay's configuration, found by way of the plugin's.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    /// Understood, or why not.
    pub(crate) config: Result<Config, String>,
    /// Whom it will run as.
    pub(crate) account: Option<Account>,
    /// What `audit-relay check` says against files of `tls-*`.
    pub(crate) refused: Vec<String>,
    /// Its numbers: now, or as it last wrote them.
    pub(crate) report: Option<Report>,
}

/// A running relay.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// It descends from the auditd that runs.
    pub(crate) is_auditds: bool,
    /// Its program is the one on the disk. `None`: only root may look.
    pub(crate) is_installed: Option<bool>,
    /// Effective user.
    pub(crate) uid: Option<u32>,
    /// Most open files, and most bytes of address space; `u64::MAX` without a limit.
    pub(crate) limits: Option<(u64, u64)>,
}

/// A process that listens to the kernel's audit records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reader {
    /// Its id.
    pub(crate) pid: u32,
    /// Its name.
    pub(crate) name: String,
}

/// The machine's own syslog service.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalSyslog {
    /// /dev/log leads to journald.
    pub(crate) journald_owns_dev_log: bool,
    /// journald runs or will: its settings. `None`: there is none.
    pub(crate) journald: Option<Journald>,
    /// rsyslog's configuration. `None`: there is none.
    pub(crate) rsyslog: Option<Rsyslog>,
}

/// What matters of journald.conf.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Journald {
    /// `RateLimitIntervalSec`; zero: no limit.
    pub(crate) interval: Duration,
    /// `RateLimitBurst`; 0: no limit.
    pub(crate) burst: u64,
}

/// A receiver, and what came of trying it.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    /// As written.
    pub(crate) url: String,
    /// As understood.
    pub(crate) target: Target,
    /// What came of it.
    pub(crate) trial: Trial,
}

/// What came of trying a receiver, as the relay's own account.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Trial {
    /// Its name was looked up.
    pub(crate) look_up: Option<LookUp>,
    /// It takes connections, or why not. `None`: not tried, or its transport cannot tell.
    pub(crate) reached: Option<Result<(), String>>,
    /// TLS or RELP could be opened, or why not; the first and the last second of the receiver's certificate.
    pub(crate) opened: Option<Result<Option<(u64, u64)>, String>>,
    /// It is on this machine.
    pub(crate) is_local: bool,
}

/// A name's addresses.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct LookUp {
    /// In the resolver's order.
    pub(crate) addresses: Vec<IpAddr>,
    /// Why there are none.
    pub(crate) error: Option<String>,
    /// Milliseconds that it took.
    pub(crate) millis: u64,
}

/// What became of a long test message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    /// To whom.
    pub(crate) url: String,
    /// Bytes of the record.
    pub(crate) bytes: usize,
    /// What was seen.
    pub(crate) outcome: Outcome,
}

/// What was seen of a test message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The relay could not deliver it.
    Undelivered(String),
    /// It was delivered, and no file is known in which it could be looked for.
    Unwatched,
    /// It was delivered, and is in none of the files that were looked at.
    NotFound(Vec<PathBuf>),
    /// It was found in this file.
    Found(PathBuf, Arrival),
}

/// How a test message stands in a receiver's file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Arrival {
    /// Its end is there.
    pub(crate) has_end: bool,
    /// Its end is on the line of its start.
    pub(crate) is_one_line: bool,
    /// It ends where the relay has cut it, and says so.
    pub(crate) is_cut_by_relay: bool,
    /// Bytes of the record on the line of its start.
    pub(crate) bytes: usize,
    /// The count of octet counting stands in front: the receiver took it for text.
    pub(crate) shows_count: bool,
    /// A header of RFC 5424 stands in the text: the receiver took it for text.
    pub(crate) shows_header: bool,
}

/// Something that ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Dated {
    /// What it is, for people: "our certificate /etc/...".
    pub(crate) what: String,
    /// First and last second, since 1970; or why it could not be read.
    pub(crate) valid: Result<(u64, u64), String>,
}

/// The folder for undelivered records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Handover {
    /// Where.
    pub(crate) path: PathBuf,
    /// It, or the nearest folder above it, is in memory.
    pub(crate) is_tmpfs: Option<bool>,
    /// Why the relay will not take it.
    pub(crate) fault: Option<String>,
}
