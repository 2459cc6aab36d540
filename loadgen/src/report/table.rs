//! The report for people, in text.
//!
//! *Promise:* conditions, account, latency, cost, and whether the generator kept its plan, in this order.
//! *Law:* nothing here that is not in the JSON too.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::{Report, SIGNALLED, quantile, stop_text, us};
use crate::drive::Stop;
use crate::plan::Keeper;

/// A line of the table: a name (empty if it goes on with the last one) and its text.
pub(crate) type Line = (&'static str, String);

/// The columns of latencies: head and quantile.
pub(super) const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("p99.999", 0.99999),
    ("max", 1.0),
];

impl Report {
    /// The table.
    #[cfg(test)]
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        self.conditions_table(&mut out);
        out.push('\n');
        self.results_table(&mut out);
        out
    }

    /// The conditions.
    pub(super) fn conditions_table(&self, out: &mut String) {
        for (name, text) in self.condition_lines() {
            line(out, name, &text);
        }
    }

    /// Everything but the conditions.
    pub(super) fn results_table(&self, out: &mut String) {
        lines(out, &self.account_lines());
        if let Some(received) = &self.received {
            latency_head(out);
            latency_line(out, self.corrected_name(), &received.corrected);
            latency_line(out, "from the write", &received.uncorrected);
        }
        out.push('\n');
        lines(out, &self.target_lines());
        lines(out, &self.generator_lines());
    }

    /// What was measured.
    pub(super) fn condition_lines(&self) -> Vec<Line> {
        let text =
            |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.conditions.iter().map(|(name, value)| (*name, text(value))).collect()
    }

    /// What became of the records.
    pub(super) fn account_lines(&self) -> Vec<Line> {
        let mut out = vec![("sent", self.driven.sent.to_string())];
        if let Some(tally) = self.tally() {
            out.extend([
                ("received", tally.received.to_string()),
                ("lost", tally.lost.to_string()),
                ("duplicated", tally.duplicated.to_string()),
                ("reordered", tally.reordered.to_string()),
                ("torn", tally.torn.to_string()),
            ]);
            if tally.unmarked > 0 {
                out.push(("unmarked", format!("{} (messages that carry none of our marks)", tally.unmarked)));
            }
            if !tally.gaps.is_empty() {
                let gaps: Vec<String> = tally.gaps.iter().map(ToString::to_string).collect();
                out.push(("first gaps", gaps.join(" ")));
            }
        }
        if self.warm_up {
            let text = format!("{} lines written before measuring began", self.begun().written);
            out.push(("warmed up", text));
        }
        out.push(("seconds", format!("{:.3}", self.seconds())));
        out.push(("rate", format!("{:.0} records/s", self.rate())));
        if let Some(received) = &self.received {
            if received.unfinished_bytes + received.framing_errors > 0 {
                let text = format!(
                    "{} bytes at connection ends, {} broken frames",
                    received.unfinished_bytes, received.framing_errors
                );
                out.push(("framing", text));
            }
            if received.tls_errors > 0 {
                out.push(("tls", format!("{} connections ended without close_notify", received.tls_errors)));
            }
            if let Some(drops) = received.socket_drops.filter(|&drops| drops > 0) {
                out.push(("sink drops", format!("{drops} datagrams dropped at the sink's own socket")));
            }
        }
        out
    }

    /// What the target spent, and how it ended.
    pub(super) fn target_lines(&self) -> Vec<Line> {
        let outcome = &self.outcome;
        let show = |cost: Option<f64>| cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
        let cost = format!(
            "{} s CPU per million records written ({} user, {} system)",
            show(self.cpu_s_per_million()),
            show(self.per_million(outcome.user_s)),
            show(self.per_million(outcome.system_s))
        );
        let rss = outcome.peak_rss_kib.map_or_else(|| "-".to_owned(), |kib| format!("{kib} KiB"));
        let processes = match outcome.processes {
            0 | 1 => String::new(),
            several => format!(" of {several} processes"),
        };
        let switches = format!(
            "peak RSS {rss}{processes}, {} voluntary and {} involuntary switches",
            outcome.voluntary_switches, outcome.involuntary_switches
        );
        let end = match (outcome.killed, outcome.exit_code) {
            (true, _) if self.driven.stop == Some(Stop::Interrupted) => {
                "KILLED: had not exited when the run was interrupted".to_owned()
            }
            (true, _) => "KILLED: did not exit in time after the end of its stdin".to_owned(),
            (false, Some(code)) if code >= SIGNALLED => {
                format!("EXIT CODE {code}: 128 and a signal's number")
            }
            (false, Some(code)) if code > 0 => format!("EXIT CODE {code}"),
            (false, Some(code)) => format!("exit code {code}"),
            (false, None) => "exit code unknown".to_owned(),
        };
        let mut out = vec![("target", cost), ("", switches)];
        if outcome.cpu_at_least {
            let text = "AT LEAST: it ignores SIGCHLD, and the kernel keeps no account of children that nobody waits for";
            out.push(("", text.to_owned()));
        }
        out.push(("", end));
        if outcome.left_behind > 0 {
            out.push(("", format!("processes it left behind, which were killed: {}", outcome.left_behind)));
        }
        out
    }

    /// Whether the figures can be trusted.
    pub(super) fn generator_lines(&self) -> Vec<Line> {
        let plan = match (self.scheduled, self.kept_plan()) {
            (false, _) => "no schedule: as fast as the target reads".to_owned(),
            (true, true) => plan_kept(&self.driven.keeper),
            (true, false) => self.plan_not_kept(),
        };
        let blocked = format!(
            "{} writes found stdin full, {:.3} s in them; generator and sink used {:.2} s CPU",
            self.driven.blocked_writes,
            self.driven.blocked_ns as f64 / 1e9,
            self.own_cpu_s
        );
        let mut out = vec![("generator", plan), ("", blocked)];
        if let Some(others) = self.others_cpu_s {
            out.push(("machine", format!("everybody else used about {others:.2} s CPU meanwhile")));
        }
        if let Some(stop) = self.driven.stop {
            out.push(("STOPPED", format!("after {} records: {}", self.driven.written, stop_text(stop))));
        }
        out
    }

    /// The sentence for a run whose generator was late.
    pub(super) fn plan_not_kept(&self) -> String {
        format!(
            "PLAN NOT KEPT: {} of {} records left late, worst own lag {:.0} us; this run says nothing",
            self.driven.keeper.late(),
            self.driven.written,
            us(self.driven.keeper.worst_ns())
        )
    }

    /// What the first latency line counts from.
    pub(super) fn corrected_name(&self) -> &'static str {
        if self.scheduled { "from the schedule" } else { "(no schedule)" }
    }
}

/// The sentence for a plan that was kept. What the generator was late all the same is in the latencies.
pub(crate) fn plan_kept(keeper: &Keeper) -> String {
    let late = match keeper.late() {
        0 => String::new(),
        late => format!(", {late} left too late: the longest latencies are its own"),
    };
    format!("plan kept, worst own lag {:.0} us{late}", us(keeper.worst_ns()))
}

fn lines(out: &mut String, lines: &[Line]) {
    for (name, text) in lines {
        line(out, name, text);
    }
}

/// One line: a name and its text.
pub(crate) fn line(out: &mut String, name: &str, value: &str) {
    // A String takes everything.
    let _ = writeln!(out, "{name:<12} {value}");
}

/// The head of the columns of latencies.
pub(crate) fn latency_head(out: &mut String) {
    let _ = write!(out, "\n{:<17}", "latency, us");
    for (head, _) in QUANTILES {
        let _ = write!(out, " {head:>9}");
    }
    out.push('\n');
}

/// The latencies of `histogram`, in us.
pub(crate) fn latency_line(out: &mut String, name: &str, histogram: &Histogram<u64>) {
    let _ = write!(out, "{name:<17}");
    for (_, q) in QUANTILES {
        let _ = match quantile(histogram, q) {
            Some(ns) => write!(out, " {:>9.1}", us(ns)),
            None => write!(out, " {:>9}", "-"),
        };
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use crate::report::tests::report;

    #[test]
    fn the_table_says_what_is_missing() {
        let table = report(9, 10).table();
        assert!(table.contains("lost         1\n"), "{table}");
        assert!(table.contains("first gaps   9-9\n"), "{table}");
    }
}
