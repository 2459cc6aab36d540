//! The latencies in the two file formats that HdrHistogram's tools read.
//!
//! *Promise:* `.hgrm`, the percentile table the plotters take, in microseconds; and the interval log (V2, compressed), one
//! histogram for each interval of the timeline, in nanoseconds, told by wall clock.
//! *Law:* both count from the time a record was due (without a schedule, from its write).

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use super::us;
use crate::sink::Received;
use crate::timeline::Timeline;

/// Lines for each halving of the distance to 100 %, as the tools write it.
const TICKS_PER_HALF: u32 = 5;

/// The text of an `.hgrm` file.
pub(super) fn hgrm(received: &Received) -> String {
    table(&received.corrected)
}

fn table(histogram: &Histogram<u64>) -> String {
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (us(step.value_iterated_to()), step.quantile_iterated_to());
        // A String takes everything.
        let _ = write!(out, "{value:>12.3} {quantile:>14.12} {total:>10}");
        // The last line has no fourth column: it would be infinite.
        let _ =
            if quantile < 1.0 { writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(out) };
    }
    let (mean, deviation) = (histogram.mean() / 1e3, histogram.stdev() / 1e3);
    let sub_buckets = (2 * 10u64.pow(histogram.sigfig().into())).next_power_of_two();
    let _ = write!(
        out,
        "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]\n\
         #[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {sub_buckets:>12}]\n",
        us(histogram.max()),
        histogram.len(),
        histogram.buckets(),
    );
    out
}

/// The text of an interval log.
///
/// # Errors
/// If a histogram cannot be made or written.
pub(super) fn hlog(timeline: &Timeline, name: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let start = Duration::from_nanos(timeline.origin_ns());
    let width = Duration::from_nanos(timeline.width_ns());
    let one_line: String = name.chars().filter(|c| !c.is_control()).collect();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("[audit-loadgen {}: latency of {one_line} in ns]", env!("CARGO_PKG_VERSION")))
        .with_start_time(UNIX_EPOCH + start)
        .with_base_time(UNIX_EPOCH + start)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(|error| error.to_string())?;
    for (n, histogram) in (0u32..).zip(timeline.histograms()) {
        let histogram = histogram.map_err(|error| error.to_string())?;
        log.write_histogram(&histogram, width * n, width, None).map_err(|error| format!("{error:?}"))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn an_hgrm_file_reads_back() {
        let report = report(1000, 1000);
        let text = hgrm(report.received.as_ref().unwrap());
        let mut lines = text.lines();
        assert_eq!(
            lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        assert_eq!(lines.next(), Some(""));
        let rows: Vec<Vec<f64>> = lines
            .clone()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
            .collect();
        let histogram = &report.received.as_ref().unwrap().corrected;
        for row in &rows {
            assert!(row.len() == 4 || row[1] == 1.0, "{row:?}");
            // As many values are no larger as the line says, and the share is that of its percentile.
            let below = histogram
                .iter_recorded()
                .filter(|step| step.value_iterated_to() as f64 <= row[0] * 1e3 + 0.5);
            let below: u64 = below.map(|step| step.count_at_value()).sum();
            assert_eq!(below as f64, row[2], "{row:?}");
            assert!(row[2] >= (row[1] * 1000.0).floor(), "{row:?}");
            assert!(row.len() == 3 || (row[3] * (1.0 - row[1]) - 1.0).abs() < 0.01, "{row:?}");
        }
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        assert_eq!(rows.last().unwrap()[1..], [1.0, 1000.0]);
        let footer: Vec<&str> = lines.filter(|line| line.starts_with("#[")).collect();
        assert_eq!(footer.len(), 3);
        assert!(footer[1].contains("Total count    =         1000]"), "{text}");
        assert!(footer[2].contains("SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn an_interval_log_reads_back() {
        let mut report = report(1000, 1000);
        report.name = "two\nlines".into();
        let log = hlog(&report.received.as_ref().unwrap().timeline, &report.name).unwrap();
        let (mut starts, mut intervals, mut total, mut max) = (0, 0, 0, 0);
        for entry in IntervalLogIterator::new(&log) {
            match entry.unwrap() {
                LogEntry::StartTime(time) | LogEntry::BaseTime(time) => {
                    starts += 1;
                    assert_eq!(time, Duration::from_secs(1));
                }
                LogEntry::Interval(interval) => {
                    assert_eq!(interval.start_timestamp(), Duration::from_millis(100 * intervals));
                    assert_eq!(interval.duration(), Duration::from_millis(100));
                    let encoded = base64(interval.encoded_histogram());
                    let histogram: Histogram<u64> =
                        Deserializer::new().deserialize(&mut &encoded[..]).unwrap();
                    assert_eq!(histogram.len(), 100);
                    (intervals, total, max) =
                        (intervals + 1, total + histogram.len(), max.max(histogram.max()));
                }
            }
        }
        assert_eq!((starts, intervals, total), (2, 10, 1000));
        assert!(max.abs_diff(999_000) < 9_990, "{max}");
    }

    #[test]
    fn without_a_latency_the_files_are_empty_not_wrong() {
        let report = report(0, 10);
        assert!(hgrm(report.received.as_ref().unwrap()).contains("Total count    =            0]"));
        let log = hlog(&report.received.as_ref().unwrap().timeline, &report.name).unwrap();
        assert!(IntervalLogIterator::new(&log).all(|entry| !matches!(entry, Ok(LogEntry::Interval(_)))));
    }

    /// Decodes standard base64: four letters are three bytes.
    fn base64(text: &str) -> Vec<u8> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = Vec::new();
        for four in text.trim_end_matches('=').as_bytes().chunks(4) {
            let bits = four.iter().fold(0u32, |bits, letter| {
                bits << 6 | (0u32..).zip(LETTERS).find(|(_, l)| *l == letter).unwrap().0
            }) << (6 * (4 - four.len()));
            out.extend(&bits.to_be_bytes()[1..four.len()]);
        }
        out
    }
}
