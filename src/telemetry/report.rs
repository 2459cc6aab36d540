//! The accounting at one moment: what report, status socket and metrics say.
//!
//! Law: plain values. Times are seconds since 1970, to the millisecond. Reading is lenient, so that `audit-relay status`
//! and a relay of another version understand each other: what is missing is 0 or absent.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Reason;
use super::receivers::{Receiver, State};

/// The accounting at one moment, in the form of the report. All numbers count records unless said otherwise.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Report {
    /// Version of the relay.
    pub version: Cow<'static, str>,
    /// The relay's process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// When it started, by the clock as it was then.
    pub start_time: f64,
    /// When this was taken.
    pub time: f64,
    /// `text`, `binary`, or `undecided` before the first byte.
    pub input: Cow<'static, str>,
    /// `reading`; or `draining`, once the input has ended or the relay was told to stop.
    pub input_state: Cow<'static, str>,
    /// When something was last read; absent before.
    pub last_read: Option<f64>,
    /// Name of the user that the relay runs as.
    pub user: String,
    /// What else it has given up.
    pub confined: Enforced,
    /// Read from the input.
    pub read: u64,
    /// Of these without a readable type or stamp; forwarded, and part of `sent`.
    pub undecodable: u64,
    /// Not forwarded on purpose: the sum of `filtered_by`.
    pub filtered: u64,
    /// `filtered` by reason.
    pub filtered_by: FilteredBy,
    /// Bytes between binary frames that were no frame.
    pub skipped_bytes: u64,
    /// SYSCALL records of the relay's own system calls, one for each call; forwarded, and part of `sent`.
    pub own: u64,
    /// The destinations in their configured order.
    pub destinations: Vec<DestinationReport>,
}

/// Why records were not forwarded.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct FilteredBy {
    /// End-of-event records.
    pub eoe: u64,
    /// Empty lines and frames.
    pub empty: u64,
}

/// One destination's part of the report.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct DestinationReport {
    /// As configured.
    pub url: String,
    /// Where there is a connection now; of a group, the members in use.
    pub connected: Vec<String>,
    /// Records meant for it: `read - filtered` since it was configured, and `inherited`.
    /// `due = sent + lost + handed_over + in_flight`.
    pub due: u64,
    /// Records that the instance before this one has left (`handover`).
    pub inherited: u64,
    /// RELP: acknowledged by the receiver. TCP and TLS: acknowledged by the peer's kernel. Elsewhere, and with
    /// `replay = "off"`: taken by our own kernel for the destination.
    pub sent: u64,
    /// Records left for the next instance.
    pub handed_over: u64,
    /// Lost, by reason; reasons that never happened are left out.
    pub lost: BTreeMap<Cow<'static, str>, u64>,
    /// Read, and neither filtered, sent nor lost yet.
    pub in_flight: u64,
    /// Bytes handed to the transport, framing and notices included.
    pub bytes: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Connections that failed or could not be made.
    pub failures: u64,
    /// Messages cut to the size limit; they are part of `sent`.
    pub cut: u64,
    /// Records sent once more because their connection ended before they were acknowledged: the receiver may
    /// have them twice, with the same sequenceId.
    pub replayed: u64,
    /// Records among `lost` that were on their way over a living connection when the time was over: the receiver may
    /// have them all the same.
    pub unacknowledged: u64,
    /// False for one that a reload has taken out of the configuration.
    pub active: bool,
    /// What waits for it.
    pub queue: QueueReport,
    /// When records were last lost; absent: never.
    pub last_loss: Option<f64>,
    /// Its receivers, in their configured order.
    pub receivers: Vec<Receiver>,
}

/// A destination's queue: what waits, and what is written and not acknowledged.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct QueueReport {
    /// Bytes of messages in it.
    pub bytes: u64,
    /// Bytes that it may hold (`queue-size`).
    pub limit: u64,
    /// Seconds since the oldest of them was read, to some 100 ms, or to a hundredth where it is long; absent: it is
    /// empty.
    pub oldest_seconds: Option<f64>,
}

impl DestinationReport {
    /// True if there is a connection to one of its receivers at least.
    pub fn is_connected(&self) -> bool {
        // The second, where a newer relay's states are not understood.
        self.receivers.iter().any(|receiver| receiver.state == State::Connected) || !self.connected.is_empty()
    }

    /// Records lost for any reason.
    pub fn lost_in_all(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// Facts about the process that the report states beside the counters.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// When that was.
    pub start_time: f64,
    /// Form of the input.
    pub input: &'static str,
    /// See [`Report::input_state`].
    pub input_state: &'static str,
    /// Name of the user.
    pub user: String,
    /// What the kernel enforces.
    pub confined: Enforced,
}

/// What confinement the kernel enforces on the relay.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Enforced {
    /// System calls: `enforced`, `log` (only logged) or `off`.
    pub seccomp: Cow<'static, str>,
    /// Version of Landlock in force, which shuts files; 0: none.
    pub landlock: u8,
    /// TCP connections go to the configured ports only (Landlock 4).
    pub tcp_ports: bool,
    /// No signals and no abstract sockets to processes outside (Landlock 6).
    pub scopes: bool,
    /// Memory cannot become executable (PR_SET_MDWE, Linux 6.3).
    pub memory: bool,
    /// No core files, and no reading of this process's memory by its own account.
    pub no_dumps: bool,
    /// AppArmor's profile and its mode, as `audit-relay (enforce)`; empty: none.
    pub apparmor: String,
}

impl std::fmt::Display for Enforced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = |yes| if yes { "yes" } else { "no" };
        let seccomp = if self.seccomp.is_empty() { "off" } else { &*self.seccomp };
        write!(
            f,
            "system calls {seccomp}, Landlock {}, TCP ports {}, signals and abstract sockets {}, no new code {}, \
             no dumps {}",
            self.landlock,
            word(self.tcp_ports),
            word(self.scopes),
            word(self.memory),
            word(self.no_dumps)
        )?;
        if self.apparmor.is_empty() { Ok(()) } else { write!(f, ", AppArmor {}", self.apparmor) }
    }
}

impl Report {
    /// True if some destination still holds records, or has lost some at its end, which no notice tells of.
    pub fn has_undelivered(&self) -> bool {
        let at_its_end = [Reason::DrainDeadline, Reason::Closed].map(Reason::name);
        self.destinations.iter().any(|d| {
            d.in_flight > 0
                || d.handed_over > 0
                || at_its_end.iter().any(|reason| d.lost.contains_key(*reason))
        })
    }

    /// The sums of one destination as words, for its own stream.
    pub fn statistics(&self, d: &DestinationReport) -> String {
        let mut text = format!(
            "uptime={:.0} read={} filtered={} undecodable={} own={} skipped_bytes={} due={} sent={} lost={} \
             handed_over={} inherited={} in_flight={} replayed={} cut={} reconnects={} queue_bytes={} queue_limit={}",
            self.uptime_seconds,
            self.read,
            self.filtered,
            self.undecodable,
            self.own,
            self.skipped_bytes,
            d.due,
            d.sent,
            d.lost_in_all(),
            d.handed_over,
            d.inherited,
            d.in_flight,
            d.replayed,
            d.cut,
            d.reconnects,
            d.queue.bytes,
            d.queue.limit,
        );
        for (reason, records) in &d.lost {
            text += &format!(" lost_{reason}={records}");
        }
        text
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let mut line = format!("read {}, filtered {}", self.read, self.filtered);
        if self.undecodable > 0 {
            line += &format!(", undecodable {} (forwarded)", self.undecodable);
        }
        if self.skipped_bytes > 0 {
            line += &format!(", skipped {} bytes", self.skipped_bytes);
        }
        if self.own > 0 {
            line += &format!(", own {} (forwarded)", self.own);
        }
        for d in &self.destinations {
            line += &format!("; {}: sent {}", d.url, d.sent);
            if d.inherited > 0 {
                line += &format!(", inherited {}", d.inherited);
            }
            if d.handed_over > 0 {
                line += &format!(", handed over {}", d.handed_over);
            }
            for (reason, records) in &d.lost {
                line += &format!(", lost {records} ({reason})");
            }
            line += &format!(", in flight {}", d.in_flight);
            if d.cut > 0 {
                line += &format!(", cut {}", d.cut);
            }
            if d.unacknowledged > 0 {
                line += &format!(", {} of the lost on their way and not acknowledged", d.unacknowledged);
            }
            if d.replayed > 0 {
                line += &format!(", sent again {}", d.replayed);
            }
            if d.reconnects > 0 {
                line += &format!(", reconnects {}", d.reconnects);
            }
        }
        line
    }
}
