//! Several runs of the same: each one's figures, and how far they lie apart.
//!
//! *Promise:* the details told are those of the run whose CPU cost is the median (of an even number, the lower of the two
//! in the middle); beside them every run's key figures, their median, lowest and highest.
//! *Law:* the exit code is the worst of all runs; a run that says nothing is never left out in silence.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Judgement, Report, quantile, round, us};
use crate::spread::Spread;

/// At least one run.
#[derive(Debug)]
pub(crate) struct Runs {
    first: Report,
    more: Vec<Report>,
    /// The command line that made them, for a shell.
    command_line: String,
}

/// A figure told of every run.
pub(super) struct Key {
    /// Head of the column.
    pub(super) head: &'static str,
    /// Where it stands in the JSON.
    path: [&'static str; 2],
    /// Digits after the point.
    digits: u8,
    of: fn(&Report) -> Option<f64>,
}

/// The columns, the median run's choice last but one.
pub(super) const KEYS: [Key; 8] = [
    Key { head: "records/s", path: ["rate", ""], digits: 0, of: |run| Some(run.rate()) },
    Key { head: "lost", path: ["lost", ""], digits: 0, of: |run| run.tally().map(|t| t.lost as f64) },
    Key { head: "p50 us", path: ["latency_us", "p50"], digits: 1, of: |run| latency(run, 0.5) },
    Key { head: "p99 us", path: ["latency_us", "p99"], digits: 1, of: |run| latency(run, 0.99) },
    Key { head: "p99.9 us", path: ["latency_us", "p999"], digits: 1, of: |run| latency(run, 0.999) },
    Key { head: "max us", path: ["latency_us", "max"], digits: 1, of: |run| latency(run, 1.0) },
    Key { head: "CPU s/M", path: ["target", "cpu_s_per_million"], digits: 3, of: Report::cpu_s_per_million },
    Key {
        head: "RSS KiB",
        path: ["target", "max_rss_kib"],
        digits: 0,
        of: |run| run.outcome.peak_rss_kib.map(|kib| kib as f64),
    },
];

fn latency(run: &Report, q: f64) -> Option<f64> {
    quantile(&run.received.as_ref()?.corrected, q).map(us)
}

impl Key {
    /// The text of a value in its column.
    pub(super) fn text(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", usize::from(self.digits)))
    }

    /// The figure of one run, as text.
    pub(super) fn of(&self, run: &Report) -> String {
        self.text((self.of)(run))
    }
}

impl Runs {
    /// The runs, in the order they were made.
    pub(crate) fn new(first: Report, more: Vec<Report>, command_line: String) -> Self {
        Self { first, more, command_line }
    }

    /// All runs in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Report> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        1 + self.more.len()
    }

    /// The command line that made them.
    pub(super) fn command_line(&self) -> &str {
        &self.command_line
    }

    /// The run whose details are told, and its number, counted from 1.
    pub(super) fn chosen(&self) -> (usize, &Report) {
        let mut by_cost: Vec<(usize, &Report)> = (1..).zip(self.all()).collect();
        let cost = |run: &Report| run.cpu_s_per_million().unwrap_or(f64::INFINITY);
        by_cost.sort_by(|a, b| cost(a.1).total_cmp(&cost(b.1)));
        by_cost.get((by_cost.len() - 1) / 2).copied().unwrap_or((1, &self.first))
    }

    /// The worst of all runs.
    pub(crate) fn judge(&self, allow_loss: bool) -> Judgement {
        self.all().map(|run| run.judge(allow_loss)).max().unwrap_or(Judgement::Faulty)
    }

    pub(super) fn spread(&self, key: &Key) -> Option<Spread> {
        Spread::of(self.all().filter_map(key.of).collect())
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        if self.more.is_empty() {
            return self.first.table();
        }
        let (number, chosen) = self.chosen();
        let mut out = String::new();
        chosen.conditions_table(&mut out);
        // A String takes everything.
        let _ = write!(out, "\n{:<6}", "run");
        for key in &KEYS {
            let _ = write!(out, " {:>10}", key.head);
        }
        out.push('\n');
        let mut row = |name: &str, text: &dyn Fn(&Key) -> String, remark: &str| {
            let _ = write!(out, "{name:<6}");
            for key in &KEYS {
                let _ = write!(out, " {:>10}", text(key));
            }
            let _ = writeln!(out, "{remark}");
        };
        for (number, run) in (1..).zip(self.all()) {
            row(&format!("{number}"), &|key| key.of(run), remark(run));
        }
        row("median", &|key| key.text(self.spread(key).map(|s| s.median)), "");
        row("min", &|key| key.text(self.spread(key).map(|s| s.min)), "");
        row("max", &|key| key.text(self.spread(key).map(|s| s.max)), "");
        let _ = writeln!(out, "\nIn detail: run {number}, the median by CPU.\n");
        chosen.results_table(&mut out);
        out
    }

    /// The JSON: the keys of the chosen run and, of several, `runs` and `spread`.
    pub(crate) fn json(&self) -> Value {
        let (number, chosen) = self.chosen();
        let mut json = chosen.json();
        if self.more.is_empty() {
            return json;
        }
        let mut spread = json!({});
        for key in &KEYS {
            let places = i32::from(key.digits.max(1));
            let value = self.spread(key).map(|s| s.map(|value| round(value, places)).json());
            match key.path {
                [name, ""] => spread[name] = json!(value),
                [outer, name] => spread[outer][name] = json!(value),
            }
        }
        let runs: Vec<Value> = self
            .all()
            .map(|run| {
                let mut json = run.json();
                if let Some(map) = json.as_object_mut() {
                    // The same for all, or only told of the chosen one.
                    for key in ["schema", "measured", "timeline"] {
                        map.remove(key);
                    }
                }
                json
            })
            .collect();
        json["chosen_run"] = json!(number);
        json["spread"] = spread;
        json["runs"] = json!(runs);
        json
    }

    /// The `.hgrm` file of the chosen run; `None` without a sink.
    pub(crate) fn hgrm(&self) -> Option<String> {
        self.chosen().1.hgrm()
    }

    /// The interval log of the chosen run; `None` without a sink.
    ///
    /// # Errors
    /// If a histogram cannot be made or written.
    pub(crate) fn hlog(&self) -> Option<Result<Vec<u8>, String>> {
        self.chosen().1.hlog()
    }
}

/// What must be known of a run beside its figures.
pub(super) fn remark(run: &Report) -> &'static str {
    match run.judge(false) {
        Judgement::Well => "",
        Judgement::PlanNotKept => "  PLAN NOT KEPT: says nothing",
        Judgement::Faulty => "  FAULTY",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn runs(costs: &[f64]) -> Runs {
        let mut all = costs.iter().map(|cost| {
            let mut run = report(1000, 1000);
            run.outcome.user_s = *cost;
            run
        });
        Runs::new(all.next().unwrap(), all.collect(), "x".into())
    }

    #[test]
    fn the_chosen_run_is_the_median_by_cpu() {
        for (costs, number) in
            [(&[1.0][..], 1), (&[3.0, 1.0, 2.0], 3), (&[4.0, 1.0, 3.0, 2.0], 4), (&[1.0, 2.0], 1)]
        {
            assert_eq!(runs(costs).chosen().0, number, "{costs:?}");
        }
    }

    #[test]
    fn the_spread_is_told_by_the_same_keys() {
        let json = runs(&[0.3, 0.1, 0.2, 0.4]).json();
        assert_eq!(json["target"]["cpu_s_per_million"], 200.0);
        assert_eq!(json["chosen_run"], 3);
        let cpu = &json["spread"]["target"]["cpu_s_per_million"];
        assert_eq!(*cpu, json!({ "median": 250.0, "min": 100.0, "max": 400.0 }));
        assert_eq!(json["spread"]["lost"]["max"], 0.0);
        assert_eq!(json["spread"]["target"]["max_rss_kib"], Value::Null);
        let each: Vec<&Value> =
            json["runs"].as_array().unwrap().iter().map(|run| &run["target"]["cpu_s_per_million"]).collect();
        assert_eq!(each, [300.0, 100.0, 200.0, 400.0]);
        for key in &KEYS {
            let [outer, inner] = key.path;
            let found = if inner.is_empty() { &json[outer] } else { &json[outer][inner] };
            assert!(!found.is_null() || inner == "max_rss_kib", "{outer}.{inner} stands in the report too");
        }
        // One run is told as before.
        assert_eq!(runs(&[1.0]).json().get("runs"), None);
    }

    #[test]
    fn the_worst_run_decides() {
        let mut late = report(10, 10);
        late.driven.keeper.leaving(0, 5);
        let runs = Runs::new(report(10, 10), vec![late, report(10, 10)], "x".into());
        assert_eq!(runs.judge(false), Judgement::PlanNotKept);
        assert!(runs.table().contains("PLAN NOT KEPT: says nothing\n"), "{}", runs.table());
        let runs = Runs::new(report(10, 10), vec![report(9, 10)], "x".into());
        assert_eq!((runs.judge(false), runs.judge(true)), (Judgement::Faulty, Judgement::Well));
        assert!(runs.table().contains("  FAULTY\n"), "{}", runs.table());
    }
}
