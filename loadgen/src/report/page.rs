//! The report as a page: what stands where. How it looks is the matter of [`crate::html`].
//!
//! *Promise:* the verdict first, in words; then the figures, the curves, everything the table says, and the command line.
//! *Law:* nothing here that is not in the JSON too.

use super::runs::{Run, remark};
use super::table::{Line, QUANTILES};
use super::{Judgement, Report, Runs, quantile, stop_text, us};
use crate::html::{Chart, Figure, Page, Scale, Series, Table, Tone};
use crate::ledger::Tally;
use crate::sink::Received;
use crate::spread::Spread;

use hdrhistogram::Histogram;

impl<R: Run> Runs<R> {
    /// The page as an HTML document.
    pub(crate) fn html(&self) -> String {
        let (number, chosen) = self.chosen();
        let mut page = chosen.page();
        self.command_line().clone_into(&mut page.command);
        if self.count() > 1 {
            let faulty: Vec<String> = (1..)
                .zip(self.all())
                .filter(|(other, run)| *other != number && run.judge(false) != Judgement::Well)
                .map(|(other, run)| format!("{other} ({})", remark(run).trim()))
                .collect();
            if !faulty.is_empty() {
                page.verdicts.push((Tone::Bad, format!("Not all went well in run {}.", faulty.join(", "))));
            }
            page.subtitle = format!(
                "{} Median of {} runs by {} (run {number}); the others are in the table below.",
                page.subtitle,
                self.count(),
                R::BY
            );
            page.tables.insert(0, self.runs_table());
        }
        page.html()
    }

    fn runs_table(&self) -> Table {
        let mut rows: Vec<Vec<String>> = (1..)
            .zip(self.all())
            .map(|(number, run)| row(format!("run {number}"), R::KEYS.iter().map(|key| key.of(run))))
            .collect();
        for (name, of) in
            [("median", (|s| s.median) as fn(Spread) -> f64), ("lowest", |s| s.min), ("highest", |s| s.max)]
        {
            rows.push(row(name.to_owned(), R::KEYS.iter().map(|key| key.text(self.spread(key).map(of)))));
        }
        Table {
            title: "All runs".into(),
            head: row(String::new(), R::KEYS.iter().map(|key| key.head.replace(" us", ", µs"))),
            rows,
            numbers: true,
        }
    }
}

fn row(name: String, cells: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(name).chain(cells).collect()
}

impl Report {
    pub(super) fn page(&self) -> Page {
        let condition = |name| {
            let line = self.condition_lines().into_iter().find(|(key, _)| *key == name);
            line.map_or_else(String::new, |(_, text)| text)
        };
        let rate = match self.planned_rate {
            Some(rate) => format!("at {} records/s", thousands(rate)),
            None if self.scheduled => condition("plan"),
            None => "as fast as it reads".to_owned(),
        };
        let place = match condition("sink").split_once(':') {
            Some((scheme, _)) => format!("to {scheme}"),
            None => "without a receiver".to_owned(),
        };
        Page {
            title: format!("{} {place} {rate}", self.name),
            subtitle: format!(
                "{} records in {:.1} s, {}. {}.",
                thousands(self.driven.written),
                self.seconds(),
                condition("started"),
                condition("host")
            ),
            verdicts: self.verdicts(),
            figures: self.figures(),
            bars: Vec::new(),
            charts: self.charts(),
            tables: self.tables(),
            command: String::new(),
        }
    }

    fn verdicts(&self) -> Vec<(Tone, String)> {
        let mut out = Vec::new();
        if !self.kept_plan() {
            let late = thousands(self.driven.keeper.late());
            out.push((
                Tone::Doubt,
                format!(
                    "The generator did not keep its plan: {late} records left late, the worst by {}. This run says nothing \
                     about the program.",
                    time(self.driven.keeper.worst_ns())
                ),
            ));
        }
        match self.tally() {
            None => {
                let records = thousands(self.driven.sent);
                let tone = if self.driven.sent > 0 { Tone::Good } else { Tone::Bad };
                out.push((
                    tone,
                    format!("{records} records were read; there was no receiver to check them."),
                ));
            }
            Some(tally) => out.push(verdict(&tally)),
        }
        if let Some(stop) = self.driven.stop {
            let after = thousands(self.driven.written);
            out.push((Tone::Bad, format!("Stopped after {after} records: {}.", stop_text(stop))));
        }
        if self.outcome.killed {
            out.push((
                Tone::Bad,
                "The program did not end after the end of its input and was killed.".into(),
            ));
        } else if let Some(code) = self.outcome.exit_code.filter(|code| *code != 0) {
            out.push((Tone::Bad, format!("The program ended with exit code {code}.")));
        }
        out
    }

    fn figures(&self) -> Vec<Figure> {
        let figure =
            |name: &str, value: String, unit: &str| Figure { name: name.into(), value, unit: unit.into() };
        let mut out = vec![figure("throughput", thousands(rounded(self.rate())), "records/s")];
        if let Some(received) = &self.received {
            out.extend(latency_figures(received));
        }
        if let Some(tally) = self.tally() {
            out.push(figure("lost", thousands(tally.lost), &share(tally.lost, tally.sent)));
        }
        let least = if self.outcome.cpu_at_least { "≥ " } else { "" };
        let cpu = self.cpu_s_per_million().map_or_else(|| "-".to_owned(), |cost| format!("{least}{cost:.3}"));
        out.push(figure("CPU", cpu, "s per million"));
        let rss = self
            .outcome
            .peak_rss_kib
            .map_or_else(|| "-".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0));
        out.push(figure("peak memory", rss, "MiB"));
        out
    }

    fn charts(&self) -> Vec<Chart> {
        let sent_s = self.driven.last_ns.saturating_sub(self.driven.first_ns) as f64 / 1e9;
        let planned =
            self.planned_rate.map(|rate| (rate as f64, sent_s.min(self.driven.written as f64 / rate as f64)));
        let mut out = Vec::new();
        let end_s = self.end_s();
        if let Some(received) = &self.received {
            out = reception_charts(&self.name, "the write", received, self.scheduled, planned, end_s);
        }
        let chart = |title: &str, note: &str, x, y, series| chart(title, note, x, y, end_s, series);
        let samples = &self.outcome.samples;
        let second = |ns: u64| ns.saturating_sub(self.driven.first_ns) as f64 / 1e9;
        // What lies before the first record is the program's start, not its work.
        let from = samples.partition_point(|sample| sample.at_ns < self.driven.first_ns).saturating_sub(1);
        let samples = &samples[from..];
        let cpu = samples.windows(2).filter(|pair| pair[1].at_ns > pair[0].at_ns).map(|pair| {
            let spent = pair[1].cpu_ns.saturating_sub(pair[0].cpu_ns) as f64;
            let middle = second(pair[0].at_ns) / 2.0 + second(pair[1].at_ns) / 2.0;
            (middle, 100.0 * spent / (pair[1].at_ns - pair[0].at_ns) as f64)
        });
        let rss = samples.iter().map(|sample| (second(sample.at_ns), sample.rss_kib as f64 / 1024.0));
        let processes = if self.outcome.processes > 1 {
            format!("Summed over {} and the processes it started.", self.name)
        } else {
            String::new()
        };
        let (cpu, rss) = (Series::line(&*self.name, cpu), Series::line(&*self.name, rss));
        out.push(chart("CPU over time", &processes, Scale::Seconds, Scale::Cpu, vec![cpu]));
        out.push(chart("Memory over time", &processes, Scale::Seconds, Scale::Memory, vec![rss]));
        out
    }

    /// Where the time axes end: at the program's exit or the last arrival, whichever was later.
    fn end_s(&self) -> f64 {
        let last_ns = self.received.as_ref().and_then(|received| received.last_ns).unwrap_or(0);
        last_ns.max(self.exited_ns).saturating_sub(self.driven.first_ns) as f64 / 1e9
    }

    fn tables(&self) -> Vec<Table> {
        let mut out = Vec::new();
        if let Some(received) = &self.received {
            out.push(latency_table("the write", received, self.scheduled));
        }
        let plain = plain_table;
        out.push(plain("Account", self.account_lines()));
        out.push(plain("Cost and generator", [self.target_lines(), self.generator_lines()].concat()));
        out.push(plain("Conditions", self.condition_lines()));
        out
    }
}

/// A chart; `end_s` is where a time axis ends.
fn chart(title: &str, note: &str, x: Scale, y: Scale, end_s: f64, series: Vec<Series>) -> Chart {
    let x_end = if x == Scale::Seconds { end_s } else { 0.0 };
    Chart { title: title.into(), note: note.into(), x, y, x_end, series }
}

/// What a receiver's account shows: latency by percentile and over time, throughput. `since` is what latencies are
/// measured from without a schedule; `planned` is the rate of a constant schedule and how many seconds it lasted.
pub(crate) fn reception_charts(
    name: &str,
    since: &str,
    received: &Received,
    scheduled: bool,
    planned: Option<(f64, f64)>,
    end_s: f64,
) -> Vec<Chart> {
    let mut out = Vec::new();
    let chart = |title: &str, note: &str, x, y, series| chart(title, note, x, y, end_s, series);

    let uncorrected = curve(format!("{name}, from {since}"), &received.uncorrected);
    let (series, note) = if scheduled {
        let corrected = curve(format!("{name}, from the time due"), &received.corrected);
        let note = format!(
            "How late the records were. From the time each was due, a stall counts for every record it delayed; from \
             {since}, only for those that were under way."
        );
        (vec![corrected, uncorrected], note)
    } else {
        let note = "How long the records were under way. Without a schedule this is mostly the time they waited in \
                    buffers.";
        (vec![uncorrected], note.to_owned())
    };
    out.push(chart("Latency by percentile", &note, Scale::Quantile, Scale::Latency, series));

    let timeline = &received.timeline;
    let width_s = timeline.width_ns() as f64 / 1e9;
    // The last interval is not over when the last record arrives.
    let last_s = received.last_ns.unwrap_or(0).saturating_sub(timeline.origin_ns()) as f64 / 1e9;
    let length_s = |n: usize| (last_s - n as f64 * width_s).clamp(0.0, width_s);
    let middle = |n: usize| n as f64 * width_s + length_s(n) / 2.0;
    let of = |name: &str, ns: fn(crate::timeline::Quantiles) -> u64| Series {
        name: name.into(),
        points: timeline
            .points()
            .enumerate()
            .map(|(n, point)| (middle(n), point.latency.map(|latency| us(ns(latency)))))
            .collect(),
    };
    let series = vec![of("median", |l| l.p50_ns), of("p99", |l| l.p99_ns), of("max", |l| l.max_ns)];
    let note = format!(
        "Of the records that arrived within each {}; a gap is an interval without any.",
        time(timeline.width_ns())
    );
    out.push(chart("Latency over time", &note, Scale::Seconds, Scale::Latency, series));

    // A short rest of an interval says nothing about the rate.
    let told = |n: usize| n == 0 || length_s(n) >= width_s / 2.0;
    let arrived = timeline.points().enumerate().filter(|(n, _)| told(*n));
    let arrived = arrived.map(|(n, point)| (middle(n), point.arrived as f64 / length_s(n).max(1e-6)));
    let mut series = vec![Series::line("arrived", arrived)];
    if let Some((rate, planned_s)) = planned {
        series.push(Series::line("planned", [(0.0, rate), (planned_s, rate)]));
    }
    out.push(chart("Throughput over time", "", Scale::Seconds, Scale::Rate, series));
    out
}

/// The latencies as a table; `since` as for [`reception_charts`].
pub(crate) fn latency_table(since: &str, received: &Received, scheduled: bool) -> Table {
    let latency = |name: &str, histogram: &Histogram<u64>| {
        let cell =
            |(_, q)| quantile(histogram, q).map_or_else(|| "-".to_owned(), |ns| format!("{:.1}", us(ns)));
        row(name.to_owned(), QUANTILES.into_iter().map(cell))
    };
    let mut rows = vec![latency(&format!("from {since}"), &received.uncorrected)];
    if scheduled {
        rows.insert(0, latency("from the time due", &received.corrected));
    }
    let head = row(String::new(), QUANTILES.iter().map(|(head, _)| (*head).to_owned()));
    Table { title: "Latency, µs".into(), head, rows, numbers: true }
}

/// Lines of the table as a table of the page.
pub(crate) fn plain_table(title: &str, lines: Vec<Line>) -> Table {
    Table {
        title: title.into(),
        head: Vec::new(),
        rows: lines
            .into_iter()
            .map(|(name, text)| vec![name.to_owned(), text.parse().map_or(text, thousands)])
            .collect(),
        numbers: false,
    }
}

/// The figures of latency.
pub(crate) fn latency_figures(received: &Received) -> Vec<Figure> {
    let named =
        [("latency, median", 0.5), ("latency, p99", 0.99), ("latency, p99.9", 0.999), ("latency, max", 1.0)];
    let figure = |(name, q): (&str, f64)| {
        let text = quantile(&received.corrected, q).map_or_else(|| "-".to_owned(), time);
        let (value, unit) = text.split_once(' ').unwrap_or((&text, ""));
        Figure { name: name.into(), value: value.into(), unit: unit.into() }
    };
    named.into_iter().map(figure).collect()
}

/// The verdict on an account, in a sentence.
pub(crate) fn verdict(tally: &Tally) -> (Tone, String) {
    match faults(tally) {
        None if tally.sent == 0 => (Tone::Bad, "Nothing was sent.".to_owned()),
        None => {
            let all = thousands(tally.sent);
            (Tone::Good, format!("All {all} records arrived: none lost, torn, doubled or out of order."))
        }
        Some(text) => (Tone::Bad, text),
    }
}

/// What went wrong, as a sentence; `None` if nothing did.
fn faults(tally: &Tally) -> Option<String> {
    let counts = [
        (tally.lost, "lost"),
        (tally.torn, "torn"),
        (tally.duplicated, "doubled"),
        (tally.reordered, "out of order"),
    ];
    let named: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{} {name}", thousands(*count)))
        .collect();
    (!named.is_empty()).then(|| {
        let share = share(tally.lost, tally.sent);
        let lost = if tally.lost > 0 { format!(" ({share} lost)") } else { String::new() };
        format!("Of {} records: {}{lost}.", thousands(tally.sent), named.join(", "))
    })
}

/// The percentile curve: a point for each step of the histogram, `1 / (1 - quantile)` and the latency in us.
fn curve(name: String, histogram: &Histogram<u64>) -> Series {
    // A quantile nearer to 1 than one record in all is that of the last one.
    let end = (histogram.len() as f64).max(1.0);
    let points = histogram.iter_quantiles(10).map(|step| {
        let x = (1.0 / (1.0 - step.quantile_iterated_to()).max(f64::MIN_POSITIVE)).min(end);
        (x, us(step.value_iterated_to().min(histogram.max())))
    });
    if histogram.is_empty() { Series::line(name, []) } else { Series::line(name, points) }
}

/// `part` of `whole` in per cent.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if part == 0 {
        return "records".to_owned();
    }
    let percent = 100.0 * part as f64 / (whole as f64).max(1.0);
    if percent < 0.01 { "less than 0.01 %".to_owned() } else { format!("{percent:.2} %") }
}

/// A time with three digits and its unit.
fn time(ns: u64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1_000_000 => (ns as f64 / 1e3, "µs"),
        ns if ns < 1_000_000_000 => (ns as f64 / 1e6, "ms"),
        ns => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is neither negative nor that large"
)]
pub(crate) fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn numbers_read_well() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(value), text);
        }
        for (ns, text) in [
            (900, "0.9 µs"),
            (12_345, "12.3 µs"),
            (250_000, "250 µs"),
            (1_000_000, "1 ms"),
            (1_234_000_000, "1.23 s"),
        ] {
            assert_eq!(time(ns), text);
        }
    }

    #[test]
    fn the_verdict_tells_the_faults() {
        let texts = |report: &Report| -> Vec<String> {
            report.verdicts().into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(
            texts(&report(1000, 1000)),
            ["All 1,000 records arrived: none lost, torn, doubled or out of order."]
        );
        assert_eq!(texts(&report(900, 1000)), ["Of 1,000 records: 100 lost (10.00 % lost)."]);
        let mut late = report(10, 10);
        late.driven.keeper.leaving(0, 5);
        assert_eq!(late.verdicts()[0].0, Tone::Doubt);
        assert!(late.verdicts()[0].1.contains("says nothing"));
    }

    #[test]
    fn the_curve_ends_at_the_maximum_of_the_last_record() {
        let report = report(1000, 1000);
        let series = curve("x".into(), &report.received.as_ref().unwrap().corrected);
        let last = *series.points.last().unwrap();
        assert_eq!(last.0, 1000.0);
        assert!((last.1.unwrap() - 999.0).abs() < 1.0, "{last:?}");
        assert!(series.points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
    }

    #[test]
    fn a_page_shows_hostile_command_lines_as_text() {
        let hostile = "<script>alert('x')</script>";
        let mut run = report(9, 10);
        run.name = hostile.into();
        run.conditions.push(("command", serde_json::json!(hostile)));
        let html = Runs::new(run, vec![report(10, 10)], hostile.into()).html();
        assert!(!html.contains("<script>alert"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
        assert!(html.contains("All runs"));
    }

    #[test]
    fn a_page_without_a_sink_shows_what_there_is() {
        let mut run = report(0, 10);
        run.received = None;
        let html = Runs::new(run, Vec::new(), String::new()).html();
        assert!(html.contains("there was no receiver to check them"));
        assert!(!html.contains("Latency by percentile"));
        assert!(html.contains("CPU over time"));
    }
}
