//! Several runs through the kernel told together, and each as a page.
//!
//! *Promise:* the page shows what the table shows, and how latency went over time.
//! *Law:* nothing here that is not in the JSON too.

use serde_json::Value;

use crate::html::{Figure, Page, Table, Tone};
use crate::report::{
    Judgement, Key, Run, latency_figures, latency_of, latency_table, line, per, plain_table, quantile,
    reception_charts, rounded, share, thousands, us,
};
use crate::sink::Received;

use super::args::Load;
use super::observe::Role;
use super::report::{Account, Report, noun};

impl Run for Report {
    const KEYS: &'static [Key<Self>] = &[
        Key { head: "records/s", path: ["records_per_s", ""], digits: 0, of: Self::records_per_s },
        Key { head: "lost", path: ["lost", ""], digits: 0, of: |run| run.account().map(|a| a.lost as f64) },
        Key { head: "p50 us", path: ["latency_us", "p50"], digits: 1, of: |run| run.latency(0.5) },
        Key { head: "p99 us", path: ["latency_us", "p99"], digits: 1, of: |run| run.latency(0.99) },
        Key { head: "max us", path: ["latency_us", "max"], digits: 1, of: |run| run.latency(1.0) },
        Key {
            head: "auditd us",
            path: ["auditd", "cpu_us_per_record"],
            digits: 3,
            of: |run| run.us_per_record(run.cpu_ns(Role::Auditd)),
        },
        Key {
            head: "plugin us",
            path: ["plugin", "cpu_us_per_record"],
            digits: 3,
            of: |run| run.us_per_record(run.cpu_ns(Role::Plugin)),
        },
        Key { head: "share", path: ["relay_share_of_auditd", ""], digits: 3, of: Self::relay_share },
        Key {
            head: "queue",
            path: ["auditd", "queue_max"],
            digits: 0,
            of: |run| run.seen.queue.max.map(|max| max as f64),
        },
    ];
    const BY: &'static str = "the plugin's CPU";

    fn cost(&self) -> Option<f64> {
        self.us_per_record(self.cpu_ns(Role::Plugin))
    }

    fn judge(&self, allow_loss: bool) -> Judgement {
        self.judge(allow_loss)
    }

    fn conditions_table(&self, out: &mut String) {
        for (name, text) in self.condition_lines() {
            line(out, name, &text);
        }
    }

    fn results_table(&self, out: &mut String) {
        self.results_table(out);
    }

    fn json(&self) -> Value {
        self.json()
    }

    fn page(&self) -> Page {
        let condition = |name| {
            let line = self.condition_lines().into_iter().find(|(key, _)| *key == name);
            line.map_or_else(|| "of unknown version".to_owned(), |(_, text)| text)
        };
        let seconds = self.seconds();
        let from_schedule = self.scheduled && self.load == Load::User;
        let figure =
            |name: &str, value: String, unit: &str| Figure { name: name.into(), value, unit: unit.into() };
        let mut figures = Vec::new();
        if let Some(rate) = self.records_per_s() {
            figures.push(figure("throughput", thousands(rounded(rate)), "records/s"));
        }
        let (mut charts, mut tables) = (Vec::new(), Vec::new());
        if let Some((received, _)) = &self.received {
            const SINCE: &str = "the kernel's stamp";
            if self.load == Load::User {
                figures.extend(latency_figures(received));
            }
            charts = reception_charts(self.name(), SINCE, received, from_schedule, None, seconds);
            tables.push(latency_table(SINCE, received, from_schedule));
        }
        if let Some(account) = self.account() {
            figures.push(figure("lost", thousands(account.lost), &share(account.lost, self.done.count)));
        }
        for (name, role) in [("auditd", Role::Auditd), ("plugin", Role::Plugin)] {
            if let Some(cost) = self.us_per_record(self.cpu_ns(role)) {
                figures.push(figure(name, format!("{cost:.2}"), "µs CPU a record"));
            }
        }
        tables.push(plain_table("Account", self.account_lines()));
        tables.push(self.processes_table());
        tables.push(plain_table("Queues and generator", self.queue_lines()));
        tables.push(plain_table("Conditions", self.condition_lines()));
        Page {
            title: format!("kernel, auditd, {}: {}", self.name(), condition("load")),
            subtitle: format!(
                "{} {} in {seconds:.1} s, auditd {}. {}.",
                thousands(self.done.count),
                noun(self.load),
                condition("auditd"),
                condition("host")
            ),
            verdicts: self.verdicts(),
            figures,
            bars: Vec::new(),
            charts,
            tables,
            command: String::new(),
        }
    }

    fn reception(&self) -> Option<&Received> {
        self.received.as_ref().map(|(received, _)| received)
    }

    fn name(&self) -> &str {
        let plugin = self.seen.processes.iter().find(|process| process.role == Role::Plugin);
        plugin.map_or("plugin", |process| process.name.as_str())
    }
}

impl Report {
    fn records_per_s(&self) -> Option<f64> {
        self.records().map(|records| per(records as f64, self.seconds()))
    }

    /// In us: from the schedule, of storms from the stamp.
    fn latency(&self, q: f64) -> Option<f64> {
        let (received, _) = self.received.as_ref()?;
        match self.load {
            Load::User => latency_of(Some(received), q),
            Load::Exec | Load::Open => quantile(&received.uncorrected, q).map(us),
        }
    }

    fn verdicts(&self) -> Vec<(Tone, String)> {
        let (sent, what) = (thousands(self.done.count), noun(self.load));
        let mut out = Vec::new();
        if let Some(signal) = self.interrupted {
            out.push((Tone::Bad, format!("Interrupted by signal {signal}.")));
        }
        if self.scheduled && !self.done.keeper.kept() {
            let late = thousands(self.done.keeper.late());
            let text = format!(
                "The generator did not keep its plan: {late} {what} late. This run says nothing about the chain."
            );
            out.push((Tone::Doubt, text));
        }
        let kernel = self.lost_by_kernel();
        if kernel > 0 {
            out.push((Tone::Bad, format!("The kernel itself lost {} records.", thousands(kernel.into()))));
        }
        if self.seen.queue.overflowed == Some(true) {
            out.push((Tone::Bad, "auditd's queue to its plugins ran over.".into()));
        }
        out.push(match self.account() {
            None => (Tone::Good, format!("{sent} {what}; there was no receiver to check them.")),
            Some(account) => match faults(account, self.load) {
                None => (Tone::Good, format!("All of {sent} {what} arrived, none twice.")),
                Some(text) => (Tone::Bad, format!("Of {sent} {what}: {text}.")),
            },
        });
        out
    }

    fn processes_table(&self) -> Table {
        let head = ["", "µs a record", "% of a core", "peak KiB", "voluntary switches", "involuntary"];
        let cell = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let rows = self.seen.processes.iter().map(|process| {
            let cpu = process.cpu_ns();
            let (voluntary, involuntary) = process.switches();
            vec![
                process.name.clone(),
                cell(self.us_per_record(cpu).map(|us| format!("{us:.3}"))),
                format!("{:.2}", self.percent(cpu)),
                cell(process.max_rss_kib.map(thousands)),
                thousands(voluntary),
                thousands(involuntary),
            ]
        });
        Table {
            title: "Processes".into(),
            head: head.iter().map(|text| (*text).to_owned()).collect(),
            rows: rows.collect(),
            numbers: true,
        }
    }
}

/// What went wrong; `None` if nothing did. The order of a storm's events is the kernel's.
fn faults(account: Account, load: Load) -> Option<String> {
    let reordered = if load == Load::User { account.reordered } else { 0 };
    let counts = [
        (account.lost, "lost"),
        (account.incomplete.unwrap_or(0), "incomplete"),
        (account.torn.unwrap_or(0), "torn"),
        (account.duplicated, "doubled"),
        (reordered, "out of order"),
    ];
    let named: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{} {name}", thousands(*count)))
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}
