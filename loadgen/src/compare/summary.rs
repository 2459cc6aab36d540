//! What the trials of all contestants add up to: medians with their spread, ratios, faults.
//!
//! *Promise:* every figure is a median over the rounds, with the lowest and the highest where it matters; faults are
//! sums over the rounds, and absent if one of them is missing. A contestant that failed is in the table, with the reason.
//! *Law:* pure; no round is left out for being far from the others.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::find::{Contestant, FLOOR, RELAY};
use super::trial::name_of;
use crate::sink::Transport;
use crate::spread::Spread;

/// The latencies shown of a contestant.
pub(super) const LATENCIES: [&str; 4] =
    ["/latency_us/p50", "/latency_us/p99", "/latency_us/p999", "/latency_us/max"];

/// A contestant and what came of its runs.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) contestant: Contestant,
    /// One per round, in order: the report, or why there is none.
    pub(super) runs: Vec<Result<Value, String>>,
}

impl Entry {
    /// The reports there are.
    fn reports(&self) -> impl Iterator<Item = &Value> {
        self.runs.iter().flatten()
    }

    /// Those of rounds in which it took all records: what one that went away or was stuck spent, and how fast it was, is
    /// that of another task.
    fn figures(&self) -> impl Iterator<Item = &Value> {
        self.reports().filter(|report| report["generator"]["stopped"].is_null())
    }

    /// A figure, by its place in the report.
    pub(super) fn spread(&self, pointer: &str) -> Option<Spread> {
        Spread::of(self.figures().filter_map(|report| report.pointer(pointer)?.as_f64()).collect())
    }

    /// Whether it took all records in every round, ended by itself, and lost or tore none that anybody has missed.
    pub(super) fn did_its_work(&self) -> bool {
        let bad = |report: &Value| {
            ["/lost", "/torn"].iter().any(|pointer| report.pointer(pointer).and_then(Value::as_u64) > Some(0))
                || report["target"]["killed"] == true
        };
        self.figures().count() == self.runs.len() && !self.reports().any(bad)
    }

    /// CPU seconds per million records.
    pub(super) fn cpu(&self) -> Option<Spread> {
        self.spread("/target/cpu_s_per_million")
    }

    /// The latencies of the round whose p99 is the median: `1 / (1 - quantile)` and microseconds.
    pub(super) fn curve(&self) -> Option<Vec<(f64, f64)>> {
        let mut reports: Vec<&Value> =
            self.figures().filter(|report| report["latency_us"]["p99"].is_number()).collect();
        let p99 = |report: &Value| report["latency_us"]["p99"].as_f64().unwrap_or(f64::INFINITY);
        reports.sort_by(|a, b| p99(a).total_cmp(&p99(b)));
        let points = reports.get(reports.len() / 2)?["curve_us"].as_array()?;
        Some(points.iter().filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?))).collect())
    }

    /// A count over all rounds; `None` if it is not counted, or a round is missing.
    pub(super) fn sum(&self, pointer: &str) -> Option<u64> {
        if self.runs.is_empty() {
            return None;
        }
        self.runs.iter().map(|run| run.as_ref().ok()?.pointer(pointer)?.as_u64()).sum()
    }

    /// What should be known before the figures are believed.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = Vec::new();
        let mut say = |text: String| {
            if !remarks.contains(&text) {
                remarks.push(text);
            }
        };
        for run in &self.runs {
            let report = match run {
                Ok(report) => report,
                Err(why) => {
                    say(format!("did not run: {why}"));
                    continue;
                }
            };
            match (&report["target"]["killed"], &report["target"]["exit_code"]) {
                (Value::Bool(true), _) => say("did not end and was killed".to_owned()),
                (_, code) if *code != 0 => say(format!("exit code {code}")),
                _ => {}
            }
            if report["target"]["cpu_at_least"] == true {
                say("its CPU time is at least that: it ignores SIGCHLD, so some children are in nobody's account".to_owned());
            }
            if let Some(stopped) = report["generator"]["stopped"].as_str() {
                say(format!("{stopped}: that round gives no figures"));
            }
            if report["generator"]["scheduled"] == true && report["generator"]["kept_plan"] == false {
                say("the generator did not keep its plan: latencies say nothing".to_owned());
            }
            if let Some(reordered) = report["reordered"].as_u64().filter(|count| *count > 0) {
                say(format!("{reordered} records out of order in a round"));
            }
            let drops = report["sink"]["socket_drops"].as_u64().unwrap_or(0);
            if drops > 0 {
                say("some of the loss is the sink's own socket's (socket_drops)".to_owned());
            }
            if let Some(said) = report["stderr"].as_str().and_then(|said| said.lines().next()) {
                say(format!("it said: {said}"));
            }
        }
        remarks
    }

    fn json(&self) -> Value {
        let spread = |pointer: &str| self.spread(pointer).map(Spread::json);
        json!({
            "name": self.contestant.label,
            "what": self.contestant.what,
            "to": name_of(self.contestant.to),
            "cpu_s_per_million": spread("/target/cpu_s_per_million"),
            "rate": spread("/rate"),
            "max_rss_kib": spread("/target/max_rss_kib"),
            "latency_us": {
                "p50": spread("/latency_us/p50"),
                "p99": spread("/latency_us/p99"),
                "p999": spread("/latency_us/p999"),
                "max": spread("/latency_us/max"),
            },
            "lost": self.sum("/lost"),
            "duplicated": self.sum("/duplicated"),
            "reordered": self.sum("/reordered"),
            "torn": self.sum("/torn"),
            "remarks": self.remarks(),
            "runs": self.runs.iter().map(|run| match run {
                Ok(report) => report.clone(),
                Err(why) => json!({ "error": why }),
            }).collect::<Vec<_>>(),
        })
    }
}

/// The entries for a receiver, the cheapest first; those without a figure last.
pub(super) fn ranking(entries: &[Entry], to: Transport) -> Vec<&Entry> {
    let mut ranked: Vec<&Entry> = entries.iter().filter(|entry| entry.contestant.to == to).collect();
    let cost = |entry: &Entry| entry.cpu().map_or(f64::INFINITY, |cpu| cpu.median);
    ranked.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    ranked
}

/// The median cost of the contestant of this name.
pub(super) fn cost_of(ranked: &[&Entry], name: &str) -> Option<f64> {
    ranked.iter().find(|entry| entry.contestant.name == name)?.cpu().map(|cpu| cpu.median)
}

/// The table of one receiver.
pub(super) fn table(entries: &[Entry], to: Transport, scheduled: bool) -> String {
    let ranked = ranking(entries, to);
    let (relay, floor) = (cost_of(&ranked, RELAY), cost_of(&ranked, FLOOR));
    let width = ranked.iter().map(|entry| entry.contestant.label.len()).max().unwrap_or(0).max(11);
    let mut out = String::new();
    // A String takes everything.
    let _ = write!(out, "{:<width$}  CPU s/M     min     max   x floor   x relay   records/s", "contestant");
    if scheduled {
        out.push_str("    p50 us    p99 us  p99.9 us    max us");
    }
    out.push_str("   RSS MiB     lost  dupl.   torn\n");
    for entry in &ranked {
        let _ = write!(out, "{:<width$} ", entry.contestant.label);
        let cpu = entry.cpu();
        cell(&mut out, 8, 3, cpu.map(|cpu| cpu.median));
        cell(&mut out, 8, 3, cpu.map(|cpu| cpu.min));
        cell(&mut out, 8, 3, cpu.map(|cpu| cpu.max));
        for unit in [floor, relay] {
            let ratio = cpu.zip(unit).map(|(cpu, unit)| cpu.median / unit);
            cell(&mut out, 10, 2, ratio.filter(|ratio| ratio.is_finite()));
        }
        let median = |pointer: &str| entry.spread(pointer).map(|spread| spread.median);
        cell(&mut out, 12, 0, median("/rate"));
        if scheduled {
            for pointer in LATENCIES {
                cell(&mut out, 10, 0, median(pointer));
            }
        }
        cell(&mut out, 10, 1, median("/target/max_rss_kib").map(|kib| kib / 1024.0));
        for (pointer, width) in [("/lost", 9), ("/duplicated", 7), ("/torn", 7)] {
            let sum = entry.sum(pointer).map_or_else(|| "-".to_owned(), |sum| sum.to_string());
            let _ = write!(out, "{sum:>width$}");
        }
        out.push('\n');
    }
    for entry in &ranked {
        for remark in entry.remarks() {
            let _ = writeln!(out, "  {}: {remark}", entry.contestant.label);
        }
    }
    out
}

fn cell(out: &mut String, width: usize, digits: usize, value: Option<f64>) {
    // A String takes everything.
    let _ = match value {
        Some(value) => write!(out, "{value:>width$.digits$}"),
        None => write!(out, "{:>width$}", "-"),
    };
}

/// All entries as JSON.
pub(super) fn json(entries: &[Entry]) -> Value {
    entries.iter().map(Entry::json).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::find::Start;
    use super::*;

    pub(in crate::compare) fn entry(name: &str, costs: &[f64], lost: u64) -> Entry {
        let report = |cost: &f64| {
            json!({
                "rate": 1000.0, "lost": lost, "duplicated": 0, "reordered": 0, "torn": 1,
                "latency_us": { "p50": 5.0, "p99": 9.0, "p999": 11.0, "max": 12.0 }, "curve_us": [[1.0, 4.0], [100.0, 9.0]],
                "target": { "cpu_s_per_million": cost, "max_rss_kib": 2048, "exit_code": 0, "killed": false },
                "generator": { "scheduled": true, "kept_plan": true, "stopped": null },
            })
        };
        Entry {
            contestant: Contestant {
                label: format!("{name} 1.0"),
                name: name.to_owned(),
                what: String::new(),
                to: Transport::Tcp,
                bare: false,
                start: Start::Command(Vec::new()),
            },
            runs: costs.iter().map(|cost| Ok(report(cost))).collect(),
        }
    }

    #[test]
    fn the_table_has_ratios_sums_and_the_cheapest_first() {
        let entries = [
            entry("peer", &[8.0, 12.0, 10.0], 2),
            entry(RELAY, &[0.5, 0.5, 0.5], 0),
            entry(FLOOR, &[0.4], 0),
        ];
        let table = table(&entries, Transport::Tcp, true);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1][..2], [FLOOR, "1.0"]);
        assert_eq!(rows[2][..2], [RELAY, "1.0"]);
        assert_eq!(
            rows[3],
            [
                "peer", "1.0", "10.000", "8.000", "12.000", "25.00", "20.00", "1000", "5", "9", "11", "12",
                "2.0", "6", "0", "3"
            ]
        );
    }

    #[test]
    fn what_failed_is_said() {
        let mut failed = entry("peer", &[1.0], 0);
        failed.runs.push(Err("no socket".to_owned()));
        if let Ok(report) = &mut failed.runs[0] {
            report["target"]["exit_code"] = 3.into();
            report["generator"]["kept_plan"] = false.into();
        }
        assert_eq!(failed.sum("/lost"), None, "two rounds are claimed, one is counted");
        let table = table(&[failed], Transport::Tcp, false);
        for words in ["did not run: no socket", "exit code 3", "did not keep its plan"] {
            assert!(table.contains(words), "{table}");
        }
    }

    #[test]
    fn a_round_that_was_not_ended_gives_no_figures() {
        let mut left = entry("peer", &[2.0, 0.01, 4.0], 0);
        if let Ok(report) = &mut left.runs[1] {
            report["generator"]["stopped"] = "the target closed its stdin".into();
            report["lost"] = 1000.into();
            report["reordered"] = 7.into();
        }
        let told = left.json();
        assert_eq!(told["cpu_s_per_million"], json!({ "median": 3.0, "min": 2.0, "max": 4.0 }));
        assert_eq!(told["lost"], 1000, "what it lost is lost all the same");
        let remarks = told["remarks"].to_string();
        for words in ["closed its stdin: that round gives no figures", "7 records out of order"] {
            assert!(remarks.contains(words), "{remarks}");
        }
        assert!(!left.did_its_work());
        assert!(!entry("peer", &[1.0], 3).did_its_work());
        let mut whole = entry("peer", &[1.0], 0);
        if let Ok(report) = &mut whole.runs[0] {
            report["torn"] = 0.into();
        }
        assert!(whole.did_its_work());
        whole.runs.push(Err("gone".to_owned()));
        assert!(!whole.did_its_work());
    }

    #[test]
    fn a_contestant_without_any_figure_is_last_and_has_none() {
        let mut nothing = entry("nothing", &[], 0);
        nothing.runs.push(Err("gone".to_owned()));
        let entries = [nothing, entry("peer", &[1.0], 0)];
        let ranked = ranking(&entries, Transport::Tcp);
        assert_eq!(ranked[1].contestant.name, "nothing");
        for figure in ["cpu_s_per_million", "lost", "duplicated", "reordered", "torn"] {
            assert_eq!(ranked[1].json()[figure], Value::Null, "{figure}");
        }
    }

    #[test]
    fn a_contestant_that_took_nothing_is_not_the_cheapest() {
        let mut idle = entry("idle", &[1.0], 0);
        if let Ok(report) = &mut idle.runs[0] {
            report["target"]["cpu_s_per_million"] = Value::Null;
        }
        let entries = [idle, entry("peer", &[1.0], 0)];
        assert_eq!(ranking(&entries, Transport::Tcp)[1].contestant.name, "idle");
    }
}
