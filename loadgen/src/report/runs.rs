//! Several runs of the same: each one's figures, and how far they lie apart.
//!
//! *Promise:* the details told are those of the run whose CPU cost is the median (of an even number, the lower of the two
//! in the middle); beside them every run's key figures, their median, lowest and highest.
//! *Law:* the exit code is the worst of all runs; a run that says nothing is never left out in silence.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::histograms::{hgrm, hlog};
use super::{Judgement, Report, quantile, round, us};
use crate::html::Page;
use crate::sink::Received;
use crate::spread::Spread;

/// What can be made several times and told together.
pub(crate) trait Run: Sized + 'static {
    /// The figures told of every run.
    const KEYS: &'static [Key<Self>];

    /// What decides which run is told in detail: the median of this. Lower is better.
    fn cost(&self) -> Option<f64>;
    /// What that is called.
    const BY: &'static str;
    /// The exit code's meaning.
    fn judge(&self, allow_loss: bool) -> Judgement;
    /// The conditions, as lines of the table.
    fn conditions_table(&self, out: &mut String);
    /// Everything else.
    fn results_table(&self, out: &mut String);
    /// The JSON.
    fn json(&self) -> Value;
    /// The page, without the command line.
    fn page(&self) -> Page;
    /// What arrived, if somebody judged that.
    fn reception(&self) -> Option<&Received>;
    /// What latencies are those of.
    fn name(&self) -> &str;
}

/// At least one run.
#[derive(Debug)]
pub(crate) struct Runs<R> {
    first: R,
    more: Vec<R>,
    /// The command line that made them, for a shell.
    command_line: String,
}

/// A figure told of every run.
pub(crate) struct Key<R> {
    /// Head of the column.
    pub(crate) head: &'static str,
    /// Where it stands in the JSON.
    pub(crate) path: [&'static str; 2],
    /// Digits after the point.
    pub(crate) digits: u8,
    /// The figure.
    pub(crate) of: fn(&R) -> Option<f64>,
}

impl Run for Report {
    const KEYS: &'static [Key<Self>] = &[
        Key { head: "records/s", path: ["rate", ""], digits: 0, of: |run| Some(run.rate()) },
        Key { head: "lost", path: ["lost", ""], digits: 0, of: |run| run.tally().map(|t| t.lost as f64) },
        Key {
            head: "p50 us",
            path: ["latency_us", "p50"],
            digits: 1,
            of: |run| latency_of(run.received.as_ref(), 0.5),
        },
        Key {
            head: "p99 us",
            path: ["latency_us", "p99"],
            digits: 1,
            of: |run| latency_of(run.received.as_ref(), 0.99),
        },
        Key {
            head: "p99.9 us",
            path: ["latency_us", "p999"],
            digits: 1,
            of: |run| latency_of(run.received.as_ref(), 0.999),
        },
        Key {
            head: "max us",
            path: ["latency_us", "max"],
            digits: 1,
            of: |run| latency_of(run.received.as_ref(), 1.0),
        },
        Key {
            head: "CPU s/M",
            path: ["target", "cpu_s_per_million"],
            digits: 3,
            of: Self::cpu_s_per_million,
        },
        Key {
            head: "RSS KiB",
            path: ["target", "max_rss_kib"],
            digits: 0,
            of: |run| run.outcome.peak_rss_kib.map(|kib| kib as f64),
        },
    ];
    const BY: &'static str = "CPU";

    fn cost(&self) -> Option<f64> {
        self.cpu_s_per_million()
    }

    fn judge(&self, allow_loss: bool) -> Judgement {
        self.judge(allow_loss)
    }

    fn conditions_table(&self, out: &mut String) {
        self.conditions_table(out);
    }

    fn results_table(&self, out: &mut String) {
        self.results_table(out);
    }

    fn json(&self) -> Value {
        self.json()
    }

    fn page(&self) -> Page {
        self.page()
    }

    fn reception(&self) -> Option<&Received> {
        self.received.as_ref()
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A latency from the time due, in us.
pub(crate) fn latency_of(received: Option<&Received>, q: f64) -> Option<f64> {
    quantile(&received?.corrected, q).map(us)
}

impl<R: Run> Key<R> {
    /// The text of a value in its column.
    pub(super) fn text(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", usize::from(self.digits)))
    }

    /// The figure of one run, as text.
    pub(super) fn of(&self, run: &R) -> String {
        self.text((self.of)(run))
    }
}

impl<R: Run> Runs<R> {
    /// The runs, in the order they were made.
    pub(crate) fn new(first: R, more: Vec<R>, command_line: String) -> Self {
        Self { first, more, command_line }
    }

    /// All runs in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &R> {
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
    pub(super) fn chosen(&self) -> (usize, &R) {
        let mut by_cost: Vec<(usize, &R)> = (1..).zip(self.all()).collect();
        let cost = |run: &R| run.cost().unwrap_or(f64::INFINITY);
        by_cost.sort_by(|a, b| cost(a.1).total_cmp(&cost(b.1)));
        by_cost.get((by_cost.len() - 1) / 2).copied().unwrap_or((1, &self.first))
    }

    /// The worst of all runs.
    pub(crate) fn judge(&self, allow_loss: bool) -> Judgement {
        self.all().map(|run| run.judge(allow_loss)).max().unwrap_or(Judgement::Faulty)
    }

    pub(super) fn spread(&self, key: &Key<R>) -> Option<Spread> {
        Spread::of(self.all().filter_map(key.of).collect())
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        if self.more.is_empty() {
            let mut out = String::new();
            self.first.conditions_table(&mut out);
            out.push('\n');
            self.first.results_table(&mut out);
            return out;
        }
        let (number, chosen) = self.chosen();
        let mut out = String::new();
        chosen.conditions_table(&mut out);
        // A String takes everything.
        let _ = write!(out, "\n{:<6}", "run");
        for key in R::KEYS {
            let _ = write!(out, " {:>10}", key.head);
        }
        out.push('\n');
        let mut row = |name: &str, text: &dyn Fn(&Key<R>) -> String, remark: &str| {
            let _ = write!(out, "{name:<6}");
            for key in R::KEYS {
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
        let _ = writeln!(out, "\nIn detail: run {number}, the median by {}.\n", R::BY);
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
        for key in R::KEYS {
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
        self.chosen().1.reception().map(hgrm)
    }

    /// The interval log of the chosen run; `None` without a sink.
    ///
    /// # Errors
    /// If a histogram cannot be made or written.
    pub(crate) fn hlog(&self) -> Option<Result<Vec<u8>, String>> {
        let chosen = self.chosen().1;
        chosen.reception().map(|received| hlog(&received.timeline, chosen.name()))
    }
}

/// What must be known of a run beside its figures.
pub(super) fn remark(run: &impl Run) -> &'static str {
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

    fn runs(costs: &[f64]) -> Runs<Report> {
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
        for key in Report::KEYS {
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
