//! What a run through the kernel says: a table, JSON, an exit code.
//!
//! *Promise:* what was measured stands beside every figure; what was not is absent (`-`, `null`).
//! *Law:* the law of [`crate::report`]: no averaging, no smoothing.
//!
//! `sent`, `received`, `lost`, `duplicated` and `reordered` count events: user messages, programs started, files
//! opened. A storm's event is received if all of its records are; `incomplete` are those of which only some are, so
//! `sent = received + incomplete + lost`. `records` counts what these became.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::corpus::{Audited, Whole};
use crate::report::{
    Judgement, Line, latency_head, latency_json, latency_line, line, per, plan_kept, round, us,
};
use crate::sink::Received;

use super::args::Load;
use super::load::Done;
use super::observe::{Process, Role, Seen};

/// Everything known at the end.
#[derive(Debug)]
pub(super) struct Report {
    /// The conditions: name and value, in the order of the table.
    pub(super) conditions: Vec<(&'static str, Value)>,
    /// What made the records.
    pub(super) load: Load,
    /// Whether there was a schedule.
    pub(super) scheduled: bool,
    /// The load.
    pub(super) done: Done,
    /// The sink's side and its judge; `None` without a sink.
    pub(super) received: Option<(Received, Audited)>,
    /// What was watched.
    pub(super) seen: Seen,
    /// From the first look to the last, ns.
    pub(super) watched_ns: u64,
    /// auditd's q_depth as it was set; `None` if it runs from a configuration of its own.
    pub(super) q_depth: Option<u32>,
    /// The signal that ended the load.
    pub(super) interrupted: Option<i32>,
    /// What the guard says.
    pub(super) restored: String,
}

/// The account of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) received: u64,
    /// Storms only: events that lack records.
    pub(super) incomplete: Option<u64>,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    /// Not known of storms: their records carry no mark that says what they should be.
    pub(super) torn: Option<u64>,
}

impl Report {
    pub(super) fn account(&self) -> Option<Account> {
        let (received, judge) = self.received.as_ref()?;
        Some(if let Some(whole) = judge.whole() {
            Account {
                received: whole.complete,
                incomplete: Some(whole.incomplete),
                lost: self.done.count.saturating_sub(whole.complete + whole.incomplete),
                duplicated: whole.duplicated,
                reordered: judge.reordered,
                torn: None,
            }
        } else {
            let tally = received.ledger.tally(&[self.done.count]);
            Account {
                received: tally.received,
                incomplete: None,
                lost: tally.lost,
                duplicated: tally.duplicated,
                reordered: tally.reordered,
                torn: Some(tally.torn),
            }
        })
    }

    /// What became of a storm's events and their records.
    fn whole(&self) -> Option<Whole> {
        self.received.as_ref().and_then(|(_, judge)| judge.whole())
    }

    /// Records of the load: that arrived, or for user messages that were sent. `None` if nobody counted.
    pub(super) fn records(&self) -> Option<u64> {
        match (self.load, &self.received) {
            (Load::User, _) => Some(self.done.count),
            (_, Some(_)) => self.whole().map(|whole| whole.records),
            (_, None) => None,
        }
    }

    /// Seconds from the first deed to the last arrival, without a sink to the last look.
    pub(super) fn seconds(&self) -> f64 {
        let last = self.received.as_ref().and_then(|(received, _)| received.last_ns);
        last.map_or(self.watched_ns, |last| last.saturating_sub(self.done.first_ns)) as f64 / 1e9
    }

    pub(super) fn lost_by_kernel(&self) -> u32 {
        self.seen.after.lost.wrapping_sub(self.seen.before.lost)
    }

    pub(super) fn cpu_ns(&self, role: Role) -> u64 {
        self.seen.processes.iter().filter(|process| process.role == role).map(Process::cpu_ns).sum()
    }

    /// CPU time of the plugin and its children as a share of auditd's own.
    pub(super) fn relay_share(&self) -> Option<f64> {
        let auditd = self.cpu_ns(Role::Auditd);
        (auditd > 0).then(|| self.cpu_ns(Role::Plugin) as f64 / auditd as f64)
    }

    /// Microseconds per record, if they were counted.
    pub(super) fn us_per_record(&self, cpu_ns: u64) -> Option<f64> {
        let records = self.records().filter(|records| *records > 0)?;
        Some(us(cpu_ns) / records as f64)
    }

    /// Of a core, over the time from the first deed to the last arrival.
    pub(super) fn percent(&self, cpu_ns: u64) -> f64 {
        per(cpu_ns as f64 / 1e7, self.seconds())
    }

    /// What the run says. Events of a storm may be reordered by the kernel, which numbers them when they begin and hands
    /// them over when they end.
    pub(super) fn judge(&self, allow_loss: bool) -> Judgement {
        let clean = self.account().is_none_or(|a| {
            let reordered = if self.load == Load::User { a.reordered } else { 0 };
            a.incomplete.unwrap_or(0) + a.lost + a.duplicated + a.torn.unwrap_or(0) + reordered == 0
        });
        // A run of nothing proves nothing.
        if !(allow_loss || clean && self.done.count > 0) {
            Judgement::Faulty
        } else if self.scheduled && !self.done.keeper.kept() {
            Judgement::PlanNotKept
        } else {
            Judgement::Well
        }
    }

    /// The conditions, as lines of the table.
    pub(super) fn condition_lines(&self) -> Vec<Line> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut lines: Vec<Line> = self.conditions.iter().map(|(name, value)| (*name, text(value))).collect();
        if let Some(version) = self.received.as_ref().and_then(|(_, judge)| judge.version.clone()) {
            lines.push(("auditd", version));
        }
        lines
    }

    /// Everything else.
    pub(super) fn results_table(&self, out: &mut String) {
        for (name, text) in self.account_lines() {
            line(out, name, &text);
        }
        if let Some((received, _)) = &self.received {
            latency_head(out);
            if self.load == Load::User {
                latency_line(out, "from the schedule", &received.corrected);
            }
            latency_line(out, "from the stamp", &received.uncorrected);
            out.push_str(
                "  (stamps: whole ms of the kernel's tick clock, so up to 1 ms + a tick too long)\n",
            );
        }
        self.process_lines(out);
        out.push('\n');
        for (name, text) in self.queue_lines() {
            line(out, name, &text);
        }
    }

    /// What became of the load.
    pub(super) fn account_lines(&self) -> Vec<Line> {
        let mut out = Vec::new();
        let mut line = |name: &'static str, text: String| out.push((name, text));
        line("sent", format!("{} {}", self.done.count, noun(self.load)));
        if let Some(account) = self.account() {
            let rows = [
                ("received", Some(account.received)),
                ("incomplete", account.incomplete),
                ("lost", Some(account.lost)),
                ("duplicated", Some(account.duplicated)),
                ("reordered", Some(account.reordered)),
                ("torn", account.torn),
            ];
            for (name, count) in rows.iter().filter_map(|(name, count)| Some((name, (*count)?))) {
                line(name, count.to_string());
            }
            let missing = self.whole().map(|whole| missing_of(&whole)).unwrap_or_default();
            if !missing.is_empty() {
                line("missing", missing);
            }
            if let Some(text) = self.received.as_ref().and_then(|(_, judge)| judge.first_torn.as_ref()) {
                line("first torn", format!("{text:?}"));
            }
            let seconds = self.seconds();
            line("seconds", format!("{seconds:.3}"));
            let records = self.records().unwrap_or(0);
            let rate = format!(
                "{:.0} events/s, {:.0} records/s ({:.2} records an event)",
                per(account.received as f64, seconds),
                per(records as f64, seconds),
                per(records as f64, account.received as f64)
            );
            line("rate", rate);
        }
        out
    }

    fn process_lines(&self, out: &mut String) {
        out.push_str(
            "\nprocess               pid  us/record  % of a core    peak RSS  switches: voluntary involuntary\n",
        );
        for process in &self.seen.processes {
            let cpu = process.cpu_ns();
            let each = self.us_per_record(cpu).map_or_else(|| "-".to_owned(), |us| format!("{us:.3}"));
            let rss = process.max_rss_kib.map_or_else(|| "-".to_owned(), |kib| format!("{kib} KiB"));
            let (voluntary, involuntary) = process.switches();
            // A String takes everything.
            let _ = writeln!(
                out,
                "{:<16} {:>8} {each:>10} {:>12.2} {rss:>11} {voluntary:>20} {involuntary:>11}",
                process.name,
                process.pid,
                self.percent(cpu),
            );
        }
        if let Some(share) = self.relay_share() {
            line(out, "plugin", &format!("{:.1} % of auditd's CPU time", share * 100.0));
        }
        for process in self.seen.processes.iter().filter(|process| process.cpu_at_least) {
            let text = format!(
                "{} {} ignores SIGCHLD: what its children used unseen is in no account",
                process.name, process.pid
            );
            line(out, "AT LEAST", &text);
        }
    }

    /// Queues, generator and how it was left.
    pub(super) fn queue_lines(&self) -> Vec<Line> {
        let mut out = Vec::new();
        let mut line = |name: &'static str, text: String| out.push((name, text));
        let queue = &self.seen.queue;
        let show = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let text = format!(
            "plugin queue at most {} of {}, {} at the end{}",
            show(queue.max),
            show(queue.size.or(self.q_depth.map(u64::from))),
            show(queue.current),
            match queue.overflowed {
                Some(true) => "; IT RAN OVER",
                Some(false) => ", no overflow",
                None => "",
            }
        );
        line("auditd", text);
        let (before, after) = (&self.seen.before, &self.seen.after);
        let text = format!(
            "{} records lost, backlog at most {} of {} (looked at every 100 ms)",
            self.lost_by_kernel(),
            self.seen.backlog_max,
            before.backlog_limit.max(after.backlog_limit)
        );
        line("kernel", text);
        let keeper = &self.done.keeper;
        let plan = match (self.scheduled, keeper.kept()) {
            (false, _) => "no schedule: as fast as it goes".to_owned(),
            (true, true) => plan_kept(keeper),
            (true, false) => format!(
                "PLAN NOT KEPT: {} of {} late, worst own lag {:.0} us",
                keeper.late(),
                self.done.count,
                us(keeper.worst_ns())
            ),
        };
        line("generator", plan);
        if let Some(held) = self.done.held.filter(|held| held.times > 0) {
            let text = format!("held by the kernel {} times, {:.3} s", held.times, held.ns as f64 / 1e9);
            line("", text);
        }
        if let Some(signal) = self.interrupted {
            line("INTERRUPTED", format!("by signal {signal}"));
        }
        line("restored", self.restored.clone());
        out
    }

    /// The same as JSON.
    pub(super) fn json(&self) -> Value {
        let conditions: Map<String, Value> =
            self.conditions.iter().map(|(name, value)| (name.replace(' ', "_"), value.clone())).collect();
        let account = self.account();
        let count = |of: fn(&Account) -> u64| account.as_ref().map(of);
        let seconds = self.seconds();
        let from_schedule = self.received.as_ref().map(|(received, _)| latency_json(&received.corrected));
        let from_stamp = self.received.as_ref().map(|(received, _)| latency_json(&received.uncorrected));
        json!({
            "measured": conditions,
            "load": format!("{:?}", self.load).to_lowercase(),
            "sent": self.done.count,
            "received": count(|a| a.received),
            "incomplete": account.and_then(|a| a.incomplete),
            "missing_records": self.whole().map(|whole| {
                whole.missing_by_type().map(|(name, count)| (name.to_owned(), json!(count))).collect::<Map<_, _>>()
            }),
            "lost": count(|a| a.lost),
            "duplicated": count(|a| a.duplicated),
            "reordered": count(|a| a.reordered),
            "torn": account.and_then(|a| a.torn),
            "first_torn": self.received.as_ref().and_then(|(_, judge)| judge.first_torn.clone()),
            "records": self.records(),
            "seconds": round(seconds, 6),
            "rate": count(|a| a.received).map(|received| round(per(received as f64, seconds), 1)),
            "records_per_s": self.records().map(|records| round(per(records as f64, seconds), 1)),
            "latency_us": if self.load == Load::User { &from_schedule } else { &from_stamp },
            "latency_from_stamp_us": from_stamp,
            "processes": self.seen.processes.iter().map(|process| {
                let cpu = process.cpu_ns();
                let (voluntary, involuntary) = process.switches();
                json!({
                    "role": format!("{:?}", process.role).to_lowercase(),
                    "name": process.name,
                    "pid": process.pid,
                    "cpu_s": round(cpu as f64 / 1e9, 6),
                    "cpu_at_least": process.cpu_at_least,
                    "cpu_us_per_record": self.us_per_record(cpu).map(|us| round(us, 4)),
                    "cpu_percent": round(self.percent(cpu), 3),
                    "max_rss_kib": process.max_rss_kib,
                    "voluntary_switches": voluntary,
                    "involuntary_switches": involuntary,
                })
            }).collect::<Vec<_>>(),
            "relay_share_of_auditd": self.relay_share().map(|share| round(share, 4)),
            "plugin": {
                "cpu_us_per_record": self.us_per_record(self.cpu_ns(Role::Plugin)).map(|us| round(us, 4)),
            },
            "auditd": {
                "cpu_us_per_record": self.us_per_record(self.cpu_ns(Role::Auditd)).map(|us| round(us, 4)),
                "version": self.received.as_ref().and_then(|(_, judge)| judge.version.clone()),
                "q_depth": self.seen.queue.size.or(self.q_depth.map(u64::from)),
                "queue_max": self.seen.queue.max,
                "queue_at_end": self.seen.queue.current,
                "queue_overflowed": self.seen.queue.overflowed,
            },
            "kernel": {
                "lost": self.lost_by_kernel(),
                "backlog_max": self.seen.backlog_max,
                "backlog_limit": self.seen.before.backlog_limit,
                "backlog_wait_time": self.seen.before.backlog_wait_time,
            },
            "generator": {
                "scheduled": self.scheduled,
                "kept_plan": self.done.keeper.kept(),
                "worst_lag_us": round(us(self.done.keeper.worst_ns()), 1),
                "late": self.done.keeper.late(),
                "held": self.done.held.map(|held| held.times),
                "held_s": self.done.held.map(|held| round(held.ns as f64 / 1e9, 6)),
                "interrupted_by_signal": self.interrupted,
            },
            "restored": self.restored,
        })
    }
}

/// The records that incomplete events lack; empty if there are none.
fn missing_of(whole: &Whole) -> String {
    whole.missing_by_type().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn noun(load: Load) -> &'static str {
    match load {
        Load::User => "user messages",
        Load::Exec => "programs started",
        Load::Open => "files opened",
    }
}
