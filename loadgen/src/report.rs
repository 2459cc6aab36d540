//! What a run says: a table for people, JSON for programs, and an exit code for scripts.
//!
//! *Promise:* says what was measured along with every figure; figures that were not measured are absent (`-`,
//! `null`), never zero.
//! *Law:* no averaging, no smoothing, no judging beyond the exit code.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::drive::{Driven, Stop};
use crate::ledger::Tally;
use crate::sink::Received;
use crate::target::Outcome;
use crate::warm_up::Warmed;

/// Everything known at the end of a run.
pub(crate) struct Report {
    /// The conditions: name and value, in the order of the table.
    pub(crate) conditions: Vec<(&'static str, Value)>,
    /// The generator's side.
    pub(crate) driven: Driven,
    /// The sink's side; `None` without a sink.
    pub(crate) received: Option<Received>,
    /// The target's side.
    pub(crate) outcome: Outcome,
    /// Whether there was a schedule.
    pub(crate) scheduled: bool,
    /// Whether there should have been a warm-up.
    pub(crate) warm_up: bool,
    /// When the target had exited.
    pub(crate) exited_ns: u64,
    /// CPU seconds of generator and sink together.
    pub(crate) own_cpu_s: f64,
    /// CPU seconds of everybody else on the machine meanwhile, roughly: what may have disturbed the run.
    pub(crate) others_cpu_s: Option<f64>,
}

/// Exit codes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Everything arrived, once, in order, whole.
    Well,
    /// It did not.
    Faulty,
    /// The generator was late; the run says nothing about the target.
    PlanNotKept,
}

impl Report {
    /// The account; `None` without a sink.
    fn tally(&self) -> Option<Tally> {
        self.received.as_ref().map(|received| received.ledger.tally(&[self.driven.sent]))
    }

    /// Where measuring began: behind the warm-up, or with the first write. If the warm-up never ended, nothing was
    /// measured.
    fn begun(&self) -> Warmed {
        let Driven { written, sent, last_ns, first_ns, .. } = self.driven;
        match (self.driven.warmed, self.warm_up) {
            (Some(warmed), _) => warmed,
            (None, false) => Warmed { written: 0, sent: 0, at_ns: first_ns },
            (None, true) => Warmed { written, sent, at_ns: last_ns },
        }
    }

    /// Seconds from the first measured write to the last arrival; without a sink, to the target's exit.
    fn seconds(&self) -> f64 {
        let end = match &self.received {
            Some(received) => received.last_ns.unwrap_or(self.driven.last_ns),
            None => self.exited_ns,
        };
        end.saturating_sub(self.begun().at_ns) as f64 / 1e9
    }

    /// Measured records a second that arrived (without a sink: that were taken).
    fn rate(&self) -> f64 {
        let warm = self.begun().sent;
        let records = match &self.received {
            Some(received) => received.ledger.arrived_from(warm),
            None => self.driven.sent.saturating_sub(warm),
        };
        per(records as f64, self.seconds())
    }

    /// CPU seconds per million measured lines.
    fn per_million(&self, seconds: f64) -> f64 {
        per(seconds * 1e6, self.driven.written.saturating_sub(self.begun().written) as f64)
    }

    /// The exit code's meaning. `allow_loss` forgives what became of the records, not a broken run.
    pub(crate) fn judge(&self, allow_loss: bool) -> Judgement {
        let clean = self.tally().is_none_or(|tally| {
            tally.received == tally.sent && tally.duplicated + tally.reordered + tally.torn == 0
        });
        if (!clean && !allow_loss) || self.driven.stop.is_some() || self.outcome.killed {
            Judgement::Faulty
        } else if !self.driven.keeper.kept() && self.scheduled {
            Judgement::PlanNotKept
        } else {
            Judgement::Well
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.conditions {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line(&mut out, name, &value);
        }
        out.push('\n');
        line(&mut out, "sent", &self.driven.sent.to_string());
        if let Some(tally) = self.tally() {
            let faults = [
                ("received", tally.received),
                ("lost", tally.lost),
                ("duplicated", tally.duplicated),
                ("reordered", tally.reordered),
                ("torn", tally.torn),
            ];
            for (name, count) in faults {
                line(&mut out, name, &count.to_string());
            }
            if tally.unmarked > 0 {
                line(
                    &mut out,
                    "unmarked",
                    &format!("{} (messages that carry none of our marks)", tally.unmarked),
                );
            }
            if !tally.gaps.is_empty() {
                let gaps: Vec<String> = tally.gaps.iter().map(ToString::to_string).collect();
                line(&mut out, "first gaps", &gaps.join(" "));
            }
        }
        if self.warm_up {
            let begun = self.begun();
            let text = format!("{} lines written before measuring began", begun.written);
            line(&mut out, "warmed up", &text);
        }
        line(&mut out, "seconds", &format!("{:.3}", self.seconds()));
        line(&mut out, "rate", &format!("{:.0} records/s", self.rate()));
        if let Some(received) = &self.received {
            if received.unfinished_bytes + received.framing_errors > 0 {
                let text = format!(
                    "{} bytes at connection ends, {} broken frames",
                    received.unfinished_bytes, received.framing_errors
                );
                line(&mut out, "framing", &text);
            }
            if received.tls_errors > 0 {
                let text = format!("{} connections ended without close_notify", received.tls_errors);
                line(&mut out, "tls", &text);
            }
            if let Some(drops) = received.socket_drops.filter(|&drops| drops > 0) {
                line(&mut out, "sink drops", &format!("{drops} datagrams dropped at the sink's own socket"));
            }
            out.push_str("\nlatency, us              p50        p90        p99      p99.9        max\n");
            latency_line(&mut out, self.corrected_name(), &received.corrected);
            latency_line(&mut out, "  from the write", &received.uncorrected);
        }
        out.push('\n');
        self.target_lines(&mut out);
        let keeper = &self.driven.keeper;
        let plan = match (self.scheduled, keeper.kept()) {
            (false, _) => "no schedule: as fast as the target reads".to_owned(),
            (true, true) => format!("plan kept, worst own lag {:.0} us", us(keeper.worst_ns())),
            (true, false) => format!(
                "PLAN NOT KEPT: {} of {} records left late, worst own lag {:.0} us; this run says nothing",
                keeper.late(),
                self.driven.written,
                us(keeper.worst_ns())
            ),
        };
        line(&mut out, "generator", &plan);
        let blocked = format!(
            "{} writes found stdin full, {:.3} s in them; generator and sink used {:.2} s CPU",
            self.driven.blocked_writes,
            self.driven.blocked_ns as f64 / 1e9,
            self.own_cpu_s
        );
        line(&mut out, "", &blocked);
        if let Some(others) = self.others_cpu_s {
            line(&mut out, "machine", &format!("everybody else used about {others:.2} s CPU meanwhile"));
        }
        if let Some(stop) = self.driven.stop {
            line(&mut out, "STOPPED", &format!("after {} records: {}", self.driven.written, stop_text(stop)));
        }
        out
    }

    fn target_lines(&self, out: &mut String) {
        let cpu = |seconds: f64| self.per_million(seconds);
        let outcome = &self.outcome;
        let cost = format!(
            "{:.3} s CPU per million records written ({:.3} user, {:.3} system)",
            cpu(outcome.user_s + outcome.system_s),
            cpu(outcome.user_s),
            cpu(outcome.system_s)
        );
        line(out, "target", &cost);
        let rss = outcome.peak_rss_kib.map_or_else(|| "-".to_owned(), |kib| format!("{kib} KiB"));
        let switches = format!(
            "peak RSS {rss}, {} voluntary and {} involuntary switches",
            outcome.voluntary_switches, outcome.involuntary_switches
        );
        line(out, "", &switches);
        let end = match (outcome.killed, outcome.exit_code) {
            (true, _) => "KILLED: did not exit in time after the end of its stdin".to_owned(),
            (false, Some(code)) => format!("exit code {code}"),
            (false, None) => "exit code unknown".to_owned(),
        };
        line(out, "", &end);
    }

    fn corrected_name(&self) -> &'static str {
        if self.scheduled { "  from the schedule" } else { "  (no schedule)" }
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Value {
        let per_million = |seconds: f64| round(self.per_million(seconds), 6);
        let begun = self.begun();
        let outcome = &self.outcome;
        let conditions: Map<String, Value> =
            self.conditions.iter().map(|(name, value)| (name.replace(' ', "_"), value.clone())).collect();
        let tally = self.tally();
        let count = |of: fn(&Tally) -> u64| tally.as_ref().map(of);
        json!({
            "measured": conditions,
            "written": self.driven.written,
            "written_bytes": self.driven.bytes,
            "sent": self.driven.sent,
            "received": count(|t| t.received),
            "lost": count(|t| t.lost),
            "duplicated": count(|t| t.duplicated),
            "reordered": count(|t| t.reordered),
            "torn": count(|t| t.torn),
            "unmarked": count(|t| t.unmarked),
            "gaps": tally.as_ref().map(|t| t.gaps.iter().map(|g| json!([g.first, g.last])).collect::<Vec<_>>()),
            "warm_up": {
                "written": begun.written,
                "sent": begun.sent,
                "seconds": round(begun.at_ns.saturating_sub(self.driven.first_ns) as f64 / 1e9, 6),
            },
            "seconds": round(self.seconds(), 6),
            "rate": round(self.rate(), 1),
            "latency_us": self.received.as_ref().map(|received| latency_json(&received.corrected)),
            "latency_uncorrected_us": self.received.as_ref().map(|received| latency_json(&received.uncorrected)),
            "target": {
                "cpu_s_per_million": per_million(outcome.user_s + outcome.system_s),
                "user_s_per_million": per_million(outcome.user_s),
                "sys_s_per_million": per_million(outcome.system_s),
                "max_rss_kib": outcome.peak_rss_kib,
                "voluntary_switches": outcome.voluntary_switches,
                "involuntary_switches": outcome.involuntary_switches,
                "exit_code": outcome.exit_code,
                "killed": outcome.killed,
            },
            "generator": {
                "scheduled": self.scheduled,
                "kept_plan": self.driven.keeper.kept(),
                "worst_lag_us": round(us(self.driven.keeper.worst_ns()), 1),
                "late": self.driven.keeper.late(),
                "blocked_writes": self.driven.blocked_writes,
                "blocked_s": round(self.driven.blocked_ns as f64 / 1e9, 6),
                "stopped": self.driven.stop.map(stop_text),
                "own_cpu_s": round(self.own_cpu_s, 6),
                "others_cpu_s": self.others_cpu_s.map(|seconds| round(seconds, 2)),
            },
            "sink": self.received.as_ref().map(|received| json!({
                "messages": received.messages,
                "bytes": received.bytes,
                "connections": received.connections,
                "unfinished_bytes": received.unfinished_bytes,
                "framing_errors": received.framing_errors,
                "tls_errors": received.tls_errors,
                "socket_drops": received.socket_drops,
            })),
        })
    }
}

fn stop_text(stop: Stop) -> String {
    match stop {
        Stop::Closed => "the target closed its stdin".to_owned(),
        Stop::Stuck => "the target did not read its stdin in time".to_owned(),
        Stop::Failed(errno) => format!("writing to the target failed: {errno}"),
    }
}

pub(crate) fn line(out: &mut String, name: &str, value: &str) {
    // A String takes everything.
    let _ = writeln!(out, "{name:<12} {value}");
}

pub(crate) fn latency_line(out: &mut String, name: &str, histogram: &Histogram<u64>) {
    let _ = write!(out, "{name:<19}");
    for value in quantiles(histogram) {
        let _ = match value {
            Some(ns) => write!(out, " {:>10.1}", us(ns)),
            None => write!(out, " {:>10}", "-"),
        };
    }
    out.push('\n');
}

pub(crate) fn latency_json(histogram: &Histogram<u64>) -> Value {
    let [p50, p90, p99, p999, max] = quantiles(histogram).map(|ns| ns.map(|ns| round(us(ns), 1)));
    json!({ "p50": p50, "p90": p90, "p99": p99, "p999": p999, "max": max })
}

/// p50, p90, p99, p99.9 and the maximum in ns; nothing if nothing was recorded.
fn quantiles(histogram: &Histogram<u64>) -> [Option<u64>; 5] {
    [0.5, 0.9, 0.99, 0.999, 1.0].map(|q| (!histogram.is_empty()).then(|| histogram.value_at_quantile(q)))
}

pub(crate) fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// `amount / by`, or 0 if there is nothing to divide by.
pub(crate) fn per(amount: f64, by: f64) -> f64 {
    if by > 0.0 { amount / by } else { 0.0 }
}

pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Keeper;

    fn report(arrived: u64, sent: u64) -> Report {
        let histogram = || Histogram::new_with_bounds(1, 1 << 40, 3).unwrap();
        let mut received = Received {
            ledger: crate::ledger::Ledger::default(),
            corrected: histogram(),
            uncorrected: histogram(),
            first_ns: Some(1_000_000_000),
            last_ns: Some(2_000_000_000),
            messages: arrived,
            bytes: 0,
            connections: 1,
            unfinished_bytes: 0,
            framing_errors: 0,
            tls_errors: 0,
            socket_drops: None,
        };
        for sequence in 0..arrived {
            received.ledger.whole(crate::corpus::Number { stream: 0, sequence });
            received.corrected.saturating_record(sequence * 1000);
        }
        Report {
            conditions: vec![("sink", json!("tcp://127.0.0.1:1"))],
            driven: Driven {
                written: sent,
                sent,
                bytes: 0,
                first_ns: 1_000_000_000,
                last_ns: 1_500_000_000,
                warmed: None,
                blocked_writes: 0,
                blocked_ns: 0,
                keeper: Keeper::new(0),
                stop: None,
            },
            received: Some(received),
            outcome: Outcome { user_s: 0.5, exit_code: Some(0), ..Outcome::default() },
            scheduled: true,
            warm_up: false,
            exited_ns: 3_000_000_000,
            own_cpu_s: 0.1,
            others_cpu_s: Some(0.0),
        }
    }

    #[test]
    fn figures_follow_from_the_account() {
        let json = report(1000, 1000).json();
        assert_eq!(json["seconds"], 1.0);
        assert_eq!(json["rate"], 1000.0);
        assert_eq!(json["target"]["cpu_s_per_million"], 500.0);
        assert_eq!(json["target"]["max_rss_kib"], Value::Null);
        // What was not measured is absent.
        assert_eq!(json["latency_uncorrected_us"]["p50"], Value::Null);
        assert!((json["latency_us"]["p50"].as_f64().unwrap() - 499.0).abs() < 1.0);
    }

    #[test]
    fn a_warm_up_counts_for_loss_but_not_for_rate_and_cost() {
        let mut warm = report(1000, 1001);
        warm.warm_up = true;
        warm.driven.warmed = Some(Warmed { written: 501, sent: 500, at_ns: 1_500_000_000 });
        let json = warm.json();
        assert_eq!((&json["sent"], &json["lost"]), (&json!(1001), &json!(1)));
        assert_eq!((&json["seconds"], &json["rate"]), (&json!(0.5), &json!(1000.0)));
        assert_eq!(json["target"]["cpu_s_per_million"], 1000.0);
        assert_eq!(json["warm_up"], json!({"written": 501, "sent": 500, "seconds": 0.5}));
        // One that never ended leaves nothing to measure.
        warm.driven.warmed = None;
        assert_eq!(
            (&warm.json()["rate"], &warm.json()["target"]["cpu_s_per_million"]),
            (&json!(0.0), &json!(0.0))
        );
    }

    #[test]
    fn the_exit_code_names_the_worst() {
        assert_eq!(report(10, 10).judge(false), Judgement::Well);
        assert_eq!(report(9, 10).judge(false), Judgement::Faulty);
        assert_eq!(report(9, 10).judge(true), Judgement::Well);

        let mut killed = report(10, 10);
        killed.outcome.killed = true;
        assert_eq!(killed.judge(true), Judgement::Faulty);

        let mut late = report(10, 10);
        late.driven.keeper.leaving(0, 5);
        assert_eq!(late.judge(false), Judgement::PlanNotKept);
        late.scheduled = false;
        assert_eq!(late.judge(false), Judgement::Well);
    }

    #[test]
    fn the_table_says_what_is_missing() {
        let table = report(9, 10).table();
        assert!(table.contains("lost         1\n"), "{table}");
        assert!(table.contains("first gaps   9-9\n"), "{table}");
    }
}
