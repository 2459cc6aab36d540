//! What a run says: a table for people, JSON and histogram files for programs, a page for both, and an exit code for
//! scripts.
//!
//! *Promise:* says what was measured along with every figure; figures that were not measured are absent (`-`,
//! `null`), never zero.
//! *Law:* no averaging, no smoothing, no judging beyond the exit code. Of several runs the details are those of one of
//! them ([`Runs::chosen`]), never a mixture.

mod histograms;
mod json;
mod page;
mod runs;
mod table;

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::drive::{Driven, Stop};
use crate::ledger::Tally;
use crate::sink::Received;
use crate::target::Outcome;
use crate::warm_up::Warmed;

pub(crate) use self::json::latency as latency_json;
pub(crate) use self::page::{
    latency_figures, latency_table, plain_table, reception_charts, rounded, share, thousands, verdict,
};
pub(crate) use self::runs::{Key, Run, Runs, latency_of};
pub(crate) use self::table::{Line, latency_head, latency_line, line, plan_kept};

/// From this exit code on it was a signal that ended the target, or, as shells tell it, a child of its.
const SIGNALLED: i32 = 128;

/// Everything known at the end of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// The conditions: name and value, in the order of the table.
    pub(crate) conditions: Vec<(&'static str, Value)>,
    /// What the target is called: its program without the path.
    pub(crate) name: String,
    /// The rate of the schedule in records a second, if there is one and it is constant.
    pub(crate) planned_rate: Option<u64>,
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

/// Exit codes of a run, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Judgement {
    /// Everything arrived, once, in order, whole.
    Well,
    /// The generator was late; the run says nothing about the target.
    PlanNotKept,
    /// Something did not arrive, or not once, in order, whole; or the target did not end as it should.
    Faulty,
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

    /// CPU seconds per million measured lines; `None` if there were none.
    fn per_million(&self, seconds: f64) -> Option<f64> {
        per_million(seconds, self.driven.written.saturating_sub(self.begun().written))
    }

    /// The exit code's meaning. `allow_loss` forgives what became of the records, and a target that says so by its exit
    /// code, not a broken run.
    pub(crate) fn judge(&self, allow_loss: bool) -> Judgement {
        let clean = self.tally().is_none_or(|tally| {
            tally.received == tally.sent && tally.duplicated + tally.reordered + tally.torn == 0
        });
        // A run of nothing proves nothing.
        let well = clean && self.driven.sent > 0 && self.outcome.exit_code == Some(0);
        let crashed = self.outcome.exit_code.is_none_or(|code| code >= SIGNALLED);
        if (!well && !allow_loss) || self.driven.stop.is_some() || self.outcome.killed || crashed {
            Judgement::Faulty
        } else if !self.kept_plan() {
            Judgement::PlanNotKept
        } else {
            Judgement::Well
        }
    }

    /// Whether the generator kept its plan; without one, there was nothing to keep.
    fn kept_plan(&self) -> bool {
        !self.scheduled || self.driven.keeper.kept()
    }

    /// CPU seconds of the target per million lines written; `None` if none was.
    fn cpu_s_per_million(&self) -> Option<f64> {
        self.per_million(self.outcome.user_s + self.outcome.system_s)
    }
}

fn stop_text(stop: Stop) -> String {
    match stop {
        Stop::Closed => "the target closed its stdin".to_owned(),
        Stop::Stuck => "the target did not read its stdin in time".to_owned(),
        Stop::Failed(errno) => format!("writing to the target failed: {errno}"),
        Stop::Interrupted => "a signal ended the run".to_owned(),
    }
}

/// `q` of the values in ns; `None` if nothing was recorded.
pub(crate) fn quantile(histogram: &Histogram<u64>, q: f64) -> Option<u64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(q))
}

pub(crate) fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// `amount / by`, or 0 if there is nothing to divide by.
pub(crate) fn per(amount: f64, by: f64) -> f64 {
    if by > 0.0 { amount / by } else { 0.0 }
}

/// `seconds` per million of `count`; `None` of nothing, which is not cheap but no figure.
pub(crate) fn per_million(seconds: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| seconds * 1e6 / count as f64)
}

pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    use crate::plan::Keeper;
    use crate::timeline::Timeline;

    /// A report of a run in which the first `arrived` of `sent` records arrived, 1 us later each, in one second.
    pub(crate) fn report(arrived: u64, sent: u64) -> Report {
        let histogram = || Histogram::new_with_bounds(1, 1 << 40, 3).unwrap();
        let mut received = Received {
            ledger: crate::ledger::Ledger::default(),
            corrected: histogram(),
            uncorrected: histogram(),
            timeline: Timeline::new(1_000_000_000),
            first_ns: Some(1_000_000_000),
            last_ns: Some(2_000_000_000),
            last_any_ns: Some(2_000_000_000),
            ahead: 0,
            measured: arrived,
            measured_bytes: 0,
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
            let now_ns = 1_000_000_000 + sequence * 1_000_000;
            received.timeline.enter(now_ns, 200, Some(sequence * 1000));
        }
        Report {
            conditions: vec![("sink", json!("tcp://127.0.0.1:1"))],
            name: "prog".into(),
            planned_rate: Some(1000),
            scheduled: true,
            warm_up: false,
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
            (&json!(0.0), &Value::Null)
        );
    }

    #[test]
    fn the_exit_code_names_the_worst() {
        assert_eq!(report(10, 10).judge(false), Judgement::Well);
        assert_eq!(report(9, 10).judge(false), Judgement::Faulty);
        assert_eq!(report(9, 10).judge(true), Judgement::Well);
        assert_eq!(report(0, 0).judge(false), Judgement::Faulty);

        // (its exit code) -> (without, with --allow-loss)
        for (code, expected) in [
            (Some(0), (Judgement::Well, Judgement::Well)),
            (Some(75), (Judgement::Faulty, Judgement::Well)),
            (Some(139), (Judgement::Faulty, Judgement::Faulty)),
            (None, (Judgement::Faulty, Judgement::Faulty)),
        ] {
            let mut ended = report(10, 10);
            ended.outcome.exit_code = code;
            assert_eq!((ended.judge(false), ended.judge(true)), expected, "{code:?}");
        }

        let mut killed = report(10, 10);
        killed.outcome.killed = true;
        assert_eq!(killed.judge(true), Judgement::Faulty);

        let mut late = report(10, 10);
        late.driven.keeper.leaving(0, 5);
        assert_eq!(late.judge(false), Judgement::PlanNotKept);
        for _ in 0..99 {
            late.driven.keeper.leaving(0, 0);
        }
        assert_eq!(late.judge(false), Judgement::Well);
        assert!(late.table().contains("1 left too late: the longest latencies are its own"));
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
        let table = report(0, 0).table();
        assert!(
            table.contains("target       - s CPU per million records written (- user, - system)\n"),
            "{table}"
        );
    }
}
