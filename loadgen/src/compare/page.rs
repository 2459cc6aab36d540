//! The comparison as a page.
//!
//! *Promise:* for each receiver: what it comes to in a sentence, the costs as bars, with a rate the latencies as curves,
//! and the table of figures.
//! *Law:* pure; shows what [`summary`](super::summary) says, and nothing that is not in the table or the JSON.

use super::find::{Absent, FLOOR, RELAY};
use super::summary::{Entry, LATENCIES, cost_of, ranking};
use super::trial::name_of;
use crate::html::{Bar, Bars, Chart, Kind, Page, Scale, Series, Table, Tone};
use crate::sink::Transport;
use crate::spread::Spread;

/// Curves that can be told apart in one chart.
const CURVES: usize = 8;

/// The document. `conditions` is a line, `command` the command line that measures it again.
pub(super) fn html(
    entries: &[Entry],
    receivers: &[Transport],
    absent: &[Absent],
    scheduled: bool,
    conditions: &str,
    command: String,
) -> String {
    let mut page = Page {
        title: "Relays compared".to_owned(),
        subtitle: conditions.to_owned(),
        verdicts: Vec::new(),
        figures: Vec::new(),
        bars: Vec::new(),
        charts: Vec::new(),
        tables: Vec::new(),
        command,
    };
    for &to in receivers {
        let ranked = ranking(entries, to);
        if ranked.is_empty() {
            continue;
        }
        page.verdicts.extend(verdict(&ranked, to));
        page.bars.push(bars(&ranked, to));
        if scheduled && to != Transport::None {
            page.charts.push(curves(&ranked, to));
        }
        page.tables.push(table(&ranked, to, scheduled));
    }
    let remarks: Vec<Vec<String>> = entries
        .iter()
        .flat_map(|entry| {
            let label = format!("{} to {}", entry.contestant.label, name_of(entry.contestant.to));
            entry.remarks().into_iter().map(move |remark| vec![label.clone(), remark])
        })
        .collect();
    let missing = absent.iter().map(|one| vec![one.label.clone(), format!("absent: {}", one.why)]);
    let rows: Vec<Vec<String>> = remarks.into_iter().chain(missing).collect();
    if !rows.is_empty() {
        page.tables.push(Table { title: "Remarks".to_owned(), head: Vec::new(), rows, numbers: false });
    }
    page.html()
}

/// What became of the relay's records, and how many times its cost the others have.
fn verdict(ranked: &[&Entry], to: Transport) -> Option<(Tone, String)> {
    let relay = ranked.iter().find(|entry| entry.contestant.name == RELAY)?;
    let cost = cost_of(ranked, RELAY)?;
    let faults: Option<u64> =
        ["/lost", "/duplicated", "/torn"].iter().map(|pointer| relay.sum(pointer)).sum();
    // What a program spends that fails or loses records is no price of the work.
    let (able, failed): (Vec<&&Entry>, Vec<&&Entry>) =
        ranked.iter().filter(|entry| kind(entry) == Kind::Other).partition(|entry| entry.did_its_work());
    let ratios: Vec<f64> = able.into_iter().filter_map(|entry| Some(entry.cpu()?.median / cost)).collect();
    let to = name_of(to);
    let others = if ratios.is_empty() {
        String::new()
    } else {
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        format!(" The others spend {low:.1} to {high:.1} times its CPU time.")
    };
    let others = match failed.len() {
        0 => others,
        failed => format!("{others} Not counted: {failed} that failed or lost records, see below."),
    };
    Some(match faults {
        Some(0) if relay.remarks().is_empty() => {
            (Tone::Good, format!("To {to}: {RELAY} lost, repeated or tore no record.{others}"))
        }
        Some(faults) => (
            Tone::Bad,
            format!("To {to}: {RELAY} lost, repeated or tore {faults} records, see below.{others}"),
        ),
        None => (Tone::Bad, format!("To {to}: {RELAY} did not run in every round, see below.{others}")),
    })
}

fn kind(entry: &Entry) -> Kind {
    match entry.contestant.name.as_str() {
        RELAY => Kind::Own,
        FLOOR => Kind::Limit,
        _ if entry.contestant.bare => Kind::Limit,
        _ => Kind::Other,
    }
}

fn bars(ranked: &[&Entry], to: Transport) -> Bars {
    let relay = cost_of(ranked, RELAY);
    let bars = ranked.iter().map(|entry| {
        let cpu = entry.cpu();
        let text = cpu.map_or_else(
            || "no figure".to_owned(),
            |Spread { median, min, max }| {
                let ratio = relay.map(|relay| format!("   × {:.1}", median / relay)).unwrap_or_default();
                format!("{median:.2} s  ({min:.2} to {max:.2}){ratio}")
            },
        );
        Bar {
            name: entry.contestant.label.clone(),
            value: cpu.map(|cpu| cpu.median),
            spread: cpu.map(|cpu| (cpu.min, cpu.max)),
            text,
            kind: kind(entry),
        }
    });
    Bars {
        title: format!("CPU time per million records to {}", name_of(to)),
        note: "Bar: the median over the rounds. Whisker: lowest to highest. ×: times the relay's.".to_owned(),
        bars: bars.collect(),
    }
}

fn curves(ranked: &[&Entry], to: Transport) -> Chart {
    // The relay is what the chart is about; then its floor, the peers by their cost, and what only passes bytes on.
    let place = |entry: &Entry| match kind(entry) {
        Kind::Own => 0,
        Kind::Limit if !entry.contestant.bare => 1,
        Kind::Other => 2,
        Kind::Limit => 3,
    };
    let mut shown: Vec<&Entry> = Vec::new();
    for entry in ranked {
        // Of several versions the cheapest.
        if shown.iter().all(|other| other.contestant.name != entry.contestant.name) {
            shown.push(entry);
        }
    }
    shown.sort_by_key(|entry| place(entry));
    let series = shown
        .into_iter()
        .filter_map(|entry| Some(Series::line(entry.contestant.label.clone(), entry.curve()?)));
    Chart {
        title: format!("Latency by percentile to {}", name_of(to)),
        note: format!(
            "From the time a record was due to its arrival; the round whose p99 is the median. Of several versions \
             the cheapest, and {CURVES} curves at most."
        ),
        x: Scale::Quantile,
        x_end: 0.0,
        y: Scale::Latency,
        series: series.take(CURVES).collect(),
    }
}

fn table(ranked: &[&Entry], to: Transport, scheduled: bool) -> Table {
    let mut head = vec!["", "CPU s/M", "× floor", "× relay", "records/s", "RSS MiB"];
    if scheduled {
        head.extend(["p50 µs", "p99 µs", "p99.9 µs", "max µs"]);
    }
    head.push("faults");
    let (relay, floor) = (cost_of(ranked, RELAY), cost_of(ranked, FLOOR));
    let row = |entry: &&Entry| {
        let cell = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let median = |pointer: &str| entry.spread(pointer).map(|spread| spread.median);
        let cpu = entry.cpu().map(|cpu| cpu.median);
        let times = |unit: Option<f64>| cpu.zip(unit).map(|(cpu, unit)| cpu / unit).filter(|x| x.is_finite());
        let mut row = vec![
            entry.contestant.label.clone(),
            cell(cpu, 3),
            cell(times(floor), 2),
            cell(times(relay), 2),
            cell(median("/rate"), 0),
            cell(median("/target/max_rss_kib").map(|kib| kib / 1024.0), 1),
        ];
        if scheduled {
            row.extend(LATENCIES.map(|pointer| cell(median(pointer), 0)));
        }
        row.push(faults(entry));
        row
    };
    Table {
        title: format!("To {}", name_of(to)),
        head: head.into_iter().map(str::to_owned).collect(),
        rows: ranked.iter().map(row).collect(),
        numbers: true,
    }
}

/// What was not as it should be, over all rounds.
fn faults(entry: &Entry) -> String {
    if entry.sum("/lost").is_none() {
        return "–".to_owned();
    }
    let counts =
        [("/lost", "lost"), ("/duplicated", "repeated"), ("/torn", "torn"), ("/reordered", "out of order")];
    let counts: Vec<String> = counts
        .into_iter()
        .filter_map(|(pointer, name)| Some((entry.sum(pointer).filter(|count| *count > 0)?, name)))
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::entry;
    use super::*;

    fn page(entries: &[Entry], scheduled: bool) -> String {
        html(entries, &[Transport::Tcp, Transport::Udp], &[], scheduled, "how", "again".to_owned())
    }

    #[test]
    fn the_verdict_is_the_relays() {
        let whole = |name: &str, cost| {
            let mut whole = entry(name, &[cost], 0);
            if let Ok(report) = &mut whole.runs[0] {
                report["torn"] = 0.into();
            }
            whole
        };
        let peers = || vec![whole("peer", 10.0), entry(FLOOR, &[0.4], 0)];
        let well = whole(RELAY, 0.5);
        let html = page(&[peers(), vec![well]].concat(), false);
        assert!(html.contains("tore no record. The others spend 20.0 to 20.0 times"), "{html}");
        let html = page(&[peers(), vec![entry(RELAY, &[0.5], 2)]].concat(), false);
        assert!(html.contains("tore 3 records, see below."), "{html}");
        // Dear or cheap, one that fails is no measure.
        let html = page(&[peers(), vec![whole(RELAY, 0.5), entry("lossy", &[900.0], 5)]].concat(), false);
        assert!(
            html.contains("20.0 to 20.0 times its CPU time. Not counted: 1 that failed or lost records"),
            "{html}"
        );
        let mut failed = entry(RELAY, &[0.5], 0);
        failed.runs.push(Err("gone".to_owned()));
        let html = page(&[peers(), vec![failed]].concat(), false);
        assert!(html.contains("did not run in every round"), "{html}");
        assert!(!page(&peers(), false).contains("verdict good"));
    }

    #[test]
    fn curves_are_there_with_a_rate_only_and_receivers_without_entries_nowhere() {
        let entries = [entry(RELAY, &[0.5], 0)];
        assert!(!page(&entries, false).contains("Latency by percentile"));
        let html = page(&entries, true);
        assert!(html.contains("Latency by percentile to tcp") && !html.contains("udp"), "{html}");
    }
}
