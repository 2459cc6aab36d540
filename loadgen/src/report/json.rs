//! The report for programs. The README's section "JSON" is its contract: every key there is here, and the reverse.
//!
//! *Promise:* keys keep their names, units and meaning while [`SCHEMA`] stays the same; new ones may come.
//! *Law:* what was not measured is `null`.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{Report, per, quantile, round, stop_text, us};
use crate::ledger::Tally;
use crate::target::Sample;
use crate::timeline::{MOST, Point};

/// Raised when a key changes its meaning or goes.
const SCHEMA: u32 = 1;

impl Report {
    /// The run as a JSON object.
    pub(super) fn json(&self) -> Value {
        let per_million = |seconds: f64| self.per_million(seconds).map(|cost| round(cost, 6));
        let begun = self.begun();
        let outcome = &self.outcome;
        let conditions: Map<String, Value> =
            self.conditions.iter().map(|(name, value)| (name.replace(' ', "_"), value.clone())).collect();
        let tally = self.tally();
        let count = |of: fn(&Tally) -> u64| tally.as_ref().map(of);
        json!({
            "schema": SCHEMA,
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
            "latency_us": self.received.as_ref().map(|received| latency(&received.corrected)),
            "latency_uncorrected_us": self.received.as_ref().map(|received| latency(&received.uncorrected)),
            "target": {
                "name": self.name,
                "cpu_s_per_million": per_million(outcome.user_s + outcome.system_s),
                "user_s_per_million": per_million(outcome.user_s),
                "sys_s_per_million": per_million(outcome.system_s),
                "cpu_s": round(outcome.user_s + outcome.system_s, 6),
                "cpu_at_least": outcome.cpu_at_least,
                "max_rss_kib": outcome.peak_rss_kib,
                "processes": (outcome.processes > 0).then_some(outcome.processes),
                "left_behind": outcome.left_behind,
                "voluntary_switches": outcome.voluntary_switches,
                "involuntary_switches": outcome.involuntary_switches,
                "exit_code": outcome.exit_code,
                "killed": outcome.killed,
            },
            "generator": {
                "scheduled": self.scheduled,
                "planned_rate": self.planned_rate,
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
            "timeline": self.timeline(),
        })
    }

    /// Columns of equal length, one value for each interval.
    fn timeline(&self) -> Value {
        let (origin_ns, width_ns, points) = match &self.received {
            Some(received) => {
                let timeline = &received.timeline;
                (timeline.origin_ns(), timeline.width_ns(), timeline.points().collect::<Vec<Point>>())
            }
            None => {
                let run_ns = self.exited_ns.saturating_sub(self.driven.first_ns);
                let width_ns = run_ns.div_ceil(MOST as u64).max(100_000_000);
                let count = usize::try_from(run_ns.div_ceil(width_ns)).unwrap_or(MOST);
                (self.driven.first_ns, width_ns, vec![Point::default(); count])
            }
        };
        let arrived = |of: fn(&Point) -> Value| {
            self.received.is_some().then(|| points.iter().map(of).collect::<Vec<Value>>())
        };
        let bounds =
            (0..points.len() as u64).map(|n| origin_ns + n * width_ns..origin_ns + (n + 1) * width_ns);
        let samples = &self.outcome.samples;
        json!({
            "interval_s": round(width_ns as f64 / 1e9, 9),
            "start_s": round(origin_ns as f64 / 1e9, 6),
            "arrived": arrived(|point| json!(point.arrived)),
            "bytes": arrived(|point| json!(point.bytes)),
            "p50_us": arrived(|point| json!(point.latency.map(|l| round(us(l.p50_ns), 1)))),
            "p99_us": arrived(|point| json!(point.latency.map(|l| round(us(l.p99_ns), 1)))),
            "max_us": arrived(|point| json!(point.latency.map(|l| round(us(l.max_ns), 1)))),
            "cpu_percent": bounds.clone().map(|within| cpu_percent(samples, within).map(|p| round(p, 1))).collect::<Vec<_>>(),
            "rss_kib": bounds.map(|within| rss_kib(samples, within)).collect::<Vec<_>>(),
        })
    }
}

/// CPU time of the target within an interval, in per cent of one core: what the samples around its bounds tell, taken as
/// even between two samples. `None` if they cover less than half of it.
fn cpu_percent(samples: &[Sample], within: std::ops::Range<u64>) -> Option<f64> {
    let from_ns = within.start.max(samples.first()?.at_ns);
    let to_ns = within.end.min(samples.last()?.at_ns);
    let covered_ns = to_ns.checked_sub(from_ns)?;
    (covered_ns * 2 >= within.end - within.start)
        .then(|| per((cpu_at(samples, to_ns) - cpu_at(samples, from_ns)) * 100.0, covered_ns as f64))
}

/// CPU time in ns up to `at_ns`, which lies between the first and the last sample.
fn cpu_at(samples: &[Sample], at_ns: u64) -> f64 {
    let next = samples.partition_point(|sample| sample.at_ns < at_ns);
    let Some(right) = samples.get(next) else { return 0.0 };
    let left = &samples[next.saturating_sub(1)];
    let share = per(at_ns.saturating_sub(left.at_ns) as f64, (right.at_ns - left.at_ns) as f64);
    left.cpu_ns as f64 + share * (right.cpu_ns.saturating_sub(left.cpu_ns)) as f64
}

/// The highest resident size sampled within an interval, or the last one before it.
fn rss_kib(samples: &[Sample], within: std::ops::Range<u64>) -> Option<u64> {
    let from = samples.partition_point(|sample| sample.at_ns < within.start);
    let to = samples.partition_point(|sample| sample.at_ns < within.end);
    let inside = samples[from..to].iter().map(|sample| sample.rss_kib).max();
    inside.or_else(|| samples.get(..from)?.last().map(|sample| sample.rss_kib))
}

pub(crate) fn latency(histogram: &Histogram<u64>) -> Value {
    let at = |q| quantile(histogram, q).map(|ns| round(us(ns), 1));
    json!({
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "p9999": at(0.9999), "p99999": at(0.99999),
        "max": at(1.0),
        "mean": (!histogram.is_empty()).then(|| round(histogram.mean() / 1e3, 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn figures_follow_from_the_account() {
        let json = report(1000, 1000).json();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["seconds"], 1.0);
        assert_eq!(json["rate"], 1000.0);
        assert_eq!(json["target"]["cpu_s_per_million"], 500.0);
        assert_eq!(json["target"]["max_rss_kib"], Value::Null);
        // What was not measured is absent.
        assert_eq!(json["latency_uncorrected_us"]["p50"], Value::Null);
        assert!((json["latency_us"]["p50"].as_f64().unwrap() - 499.0).abs() < 1.0);
        assert!((json["latency_us"]["max"].as_f64().unwrap() - 999.0).abs() < 1.0);
    }

    #[test]
    fn the_timeline_has_columns_of_equal_length() {
        let json = report(1000, 1000).json();
        let timeline = json["timeline"].as_object().unwrap();
        assert_eq!(timeline["arrived"], json!(vec![100; 10]));
        assert_eq!(timeline["bytes"], json!(vec![20_000; 10]));
        assert_eq!(timeline["max_us"][9], 999.0);
        assert!(timeline.values().filter_map(Value::as_array).all(|column| column.len() == 10));

        let mut without_sink = report(0, 1000);
        without_sink.received = None;
        let json = without_sink.json();
        assert_eq!(json["timeline"]["arrived"], Value::Null);
        assert_eq!(json["timeline"]["rss_kib"].as_array().unwrap().len(), 20);
    }

    #[test]
    fn samples_are_spread_over_the_intervals() {
        let sample = |at_ns, cpu_ns, rss_kib| Sample { at_ns, cpu_ns, rss_kib };
        let samples = [sample(100, 0, 5), sample(200, 100, 9), sample(400, 100, 7)];
        assert_eq!(cpu_percent(&samples, 100..200), Some(100.0));
        assert_eq!(cpu_percent(&samples, 150..250), Some(50.0));
        assert_eq!(cpu_percent(&samples, 200..300), Some(0.0));
        assert_eq!(cpu_percent(&samples, 40..160), Some(100.0), "half of it is covered");
        assert_eq!(cpu_percent(&samples, 350..500), None);
        assert_eq!(rss_kib(&samples, 100..300), Some(9));
        assert_eq!(rss_kib(&samples, 300..350), Some(9));
        assert_eq!(rss_kib(&samples, 0..50), None);
    }

    #[test]
    fn every_key_is_in_the_readme() {
        let readme = include_str!("../../README.md");
        let section = readme.split("\n## JSON\n").nth(1).unwrap().split("\n## ").next().unwrap();
        fn keys(value: &Value, found: &mut Vec<String>) {
            if let Value::Object(map) = value {
                for (key, value) in map {
                    found.push(key.clone());
                    if key != "measured" {
                        keys(value, found);
                    }
                }
            }
        }
        let mut found = Vec::new();
        keys(&report(9, 10).json(), &mut found);
        assert!(found.len() > 50);
        for key in found {
            assert!(section.contains(&format!("`{key}`")), "{key} is not documented");
        }
    }
}
