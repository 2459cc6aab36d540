//! The report in Prometheus's text form (exposition format 0.0.4). Pure.
//!
//! Promise: HELP and TYPE once for each metric, its samples behind it, no series twice; counters end in `_total` and
//! never go down while the relay runs; seconds and bytes; labels escaped. docs/monitoring.md names every metric. Law: a
//! counter is there with 0 before anything is counted, so that the first loss is an increase.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use crate::telemetry::{DestinationReport, Reason, Receiver, Report, State};

/// What HTTP calls it.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

/// Puts one metric after another.
struct Page(String);

impl Page {
    /// HELP and TYPE; samples follow.
    fn metric(&mut self, name: &'static str, kind: &str, help: &str) -> Metric<'_> {
        let _ = writeln!(self.0, "# HELP audit_relay_{name} {help}\n# TYPE audit_relay_{name} {kind}");
        Metric { page: &mut self.0, name }
    }
}

struct Metric<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl Metric<'_> {
    fn is(self, value: impl Display) {
        let _ = writeln!(self.page, "audit_relay_{} {value}", self.name);
    }

    fn at(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.page, "audit_relay_{}{{", self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(self.page, "{comma}{label}=\"{}\"", escaped(text));
        }
        let _ = writeln!(self.page, "}} {value}");
    }
}

/// A label's value: backslash, quotation mark and line feed have a form of their own.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Destinations of the same name are one series: a reload may have taken one out and put it back. What was counted
/// adds up; what is now is that of the one in use.
fn merged(report: &Report) -> Vec<DestinationReport> {
    let mut by_url: BTreeMap<&str, DestinationReport> = BTreeMap::new();
    for d in &report.destinations {
        let Some(known) = by_url.get_mut(d.url.as_str()) else {
            by_url.insert(&d.url, d.clone());
            continue;
        };
        let (now, before) = if known.active { (known.clone(), d) } else { (d.clone(), &*known) };
        let mut sum = now;
        for (reason, lost) in &before.lost {
            *sum.lost.entry(reason.clone()).or_default() += lost;
        }
        sum.due += before.due;
        sum.inherited += before.inherited;
        sum.sent += before.sent;
        sum.handed_over += before.handed_over;
        sum.in_flight += before.in_flight;
        sum.bytes += before.bytes;
        sum.reconnects += before.reconnects;
        sum.failures += before.failures;
        sum.cut += before.cut;
        sum.replayed += before.replayed;
        sum.unacknowledged += before.unacknowledged;
        sum.last_loss = [sum.last_loss, before.last_loss].into_iter().flatten().reduce(f64::max);
        *known = sum;
    }
    by_url.into_values().collect()
}

/// The page.
pub(super) fn text(report: &Report) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    relay(&mut page, report);
    let destinations = merged(report);
    records(&mut page, &destinations);
    transport(&mut page, &destinations);
    receivers(&mut page, &destinations);
    page.0
}

fn relay(page: &mut Page, r: &Report) {
    page.metric("build_info", GAUGE, "Version of the running relay; always 1.")
        .at(&[("version", &r.version)], 1);
    page.metric("start_time_seconds", GAUGE, "When the relay started, in seconds since 1970.")
        .is(format_args!("{:.3}", r.start_time));
    page.metric("snapshot_time_seconds", GAUGE, "When these numbers were taken, in seconds since 1970.")
        .is(format_args!("{:.3}", r.time));
    page.metric(
        "input_reading",
        GAUGE,
        "1 while the input is read, 0 while the rest is delivered before the end.",
    )
    .is(u8::from(r.input_state == "reading"));
    page.metric(
        "input_last_read_time_seconds",
        GAUGE,
        "When something was last read, in seconds since 1970; 0: not yet.",
    )
    .is(format_args!("{:.3}", r.last_read.unwrap_or(0.0)));
    page.metric("records_read_total", COUNTER, "Records taken off the input.").is(r.read);
    let mut filtered =
        page.metric("records_filtered_total", COUNTER, "Records not forwarded on purpose, by reason.");
    filtered.at(&[("reason", "eoe")], r.filtered_by.eoe);
    filtered.at(&[("reason", "empty")], r.filtered_by.empty);
    page.metric(
        "records_undecodable_total",
        COUNTER,
        "Records without a readable type or stamp; forwarded all the same.",
    )
    .is(r.undecodable);
    page.metric(
        "records_own_total",
        COUNTER,
        "Records of the relay's own system calls; forwarded all the same.",
    )
    .is(r.own);
    page.metric(
        "input_skipped_bytes_total",
        COUNTER,
        "Bytes of the input that were no record and are passed over.",
    )
    .is(r.skipped_bytes);
    let c = &r.confined;
    let mut confined = page.metric("confined", GAUGE, "1 if the kernel enforces this part of confinement.");
    for (part, enforced) in [
        ("system_calls", c.seccomp == "enforced"),
        ("files", c.landlock > 0),
        ("tcp_ports", c.tcp_ports),
        ("scopes", c.scopes),
        ("memory", c.memory),
        ("dumps", c.no_dumps),
        ("apparmor", c.apparmor.ends_with("(enforce)")),
    ] {
        confined.at(&[("part", part)], u8::from(enforced));
    }
}

/// One metric with a value for each destination.
fn each<T: Display>(
    page: &mut Page,
    destinations: &[DestinationReport],
    (name, kind, help): (&'static str, &str, &str),
    value: impl Fn(&DestinationReport) -> T,
) {
    if destinations.is_empty() {
        return;
    }
    let mut metric = page.metric(name, kind, help);
    for d in destinations {
        metric.at(&[("destination", &d.url)], value(d));
    }
}

fn records(page: &mut Page, all: &[DestinationReport]) {
    each(
        page,
        all,
        (
            "destination_records_due_total",
            COUNTER,
            "Records meant for the destination: sent, lost, handed over or in flight.",
        ),
        |d| d.due,
    );
    each(
        page,
        all,
        (
            "destination_records_sent_total",
            COUNTER,
            "Records that the destination has, as surely as its transport tells.",
        ),
        |d| d.sent,
    );
    if !all.is_empty() {
        let mut lost = page.metric("destination_records_lost_total", COUNTER, "Records lost, by reason.");
        for d in all {
            for reason in Reason::ALL {
                let count = d.lost.get(reason.name()).copied().unwrap_or(0);
                lost.at(&[("destination", &d.url), ("reason", reason.name())], count);
            }
        }
    }
    each(
        page,
        all,
        (
            "destination_last_loss_time_seconds",
            GAUGE,
            "When records were last lost, in seconds since 1970; 0: never.",
        ),
        |d| format!("{:.3}", d.last_loss.unwrap_or(0.0)),
    );
    each(
        page,
        all,
        ("destination_records_inherited_total", COUNTER, "Records that the instance before has left."),
        |d| d.inherited,
    );
    each(
        page,
        all,
        ("destination_records_handed_over_total", COUNTER, "Records left for the next instance."),
        |d| d.handed_over,
    );
    each(
        page,
        all,
        ("destination_records_in_flight", GAUGE, "Records read and neither sent nor lost yet."),
        |d| d.in_flight,
    );
    each(
        page,
        all,
        (
            "destination_records_replayed_total",
            COUNTER,
            "Records sent once more after a connection had ended.",
        ),
        |d| d.replayed,
    );
    each(
        page,
        all,
        ("destination_records_cut_total", COUNTER, "Messages cut to the size limit; sent."),
        |d| d.cut,
    );
    each(
        page,
        all,
        (
            "destination_records_unacknowledged_total",
            COUNTER,
            "Records counted as lost at the end that were on their way, without an answer.",
        ),
        |d| d.unacknowledged,
    );
}

fn transport(page: &mut Page, all: &[DestinationReport]) {
    each(page, all, ("destination_sent_bytes_total", COUNTER, "Bytes handed to the transport."), |d| d.bytes);
    each(
        page,
        all,
        ("destination_reconnects_total", COUNTER, "Connections made after the first one."),
        |d| d.reconnects,
    );
    each(
        page,
        all,
        ("destination_failures_total", COUNTER, "Connections that failed or could not be made."),
        |d| d.failures,
    );
    each(
        page,
        all,
        ("destination_active", GAUGE, "1 if it is in the configuration, 0 if a reload has taken it out."),
        |d| u8::from(d.active),
    );
    each(
        page,
        all,
        ("destination_connected", GAUGE, "1 if there is a connection to one of its receivers at least."),
        |d| u8::from(d.is_connected()),
    );
    let active: Vec<_> = all.iter().filter(|d| d.active).cloned().collect();
    each(
        page,
        &active,
        ("destination_queue_bytes", GAUGE, "Bytes that wait, or are written and not acknowledged."),
        |d| d.queue.bytes,
    );
    each(page, &active, ("destination_queue_limit_bytes", GAUGE, "Bytes that may wait (queue-size)."), |d| {
        d.queue.limit
    });
    each(
        page,
        &active,
        (
            "destination_oldest_seconds",
            GAUGE,
            "Time since the oldest record that is not delivered was read; 0: none.",
        ),
        |d| format!("{:.3}", d.queue.oldest_seconds.unwrap_or(0.0)),
    );
}

fn receivers(page: &mut Page, all: &[DestinationReport]) {
    let all: Vec<(&str, &Receiver)> = all
        .iter()
        .filter(|d| d.active)
        .flat_map(|d| d.receivers.iter().map(|receiver| (d.url.as_str(), receiver)))
        .collect();
    if all.is_empty() {
        return;
    }
    let mut metric = page.metric("receiver_connected", GAUGE, "1 if there is a connection to the receiver.");
    for (destination, r) in &all {
        metric
            .at(&[("destination", destination), ("receiver", &r.url)], u8::from(r.state == State::Connected));
    }
    let mut metric = page.metric(
        "receiver_state_since_time_seconds",
        GAUGE,
        "Since when the receiver is in its state, in seconds since 1970.",
    );
    for (destination, r) in &all {
        let labels = [("destination", *destination), ("receiver", &r.url), ("state", r.state.name())];
        metric.at(&labels, format_args!("{:.3}", r.since));
    }
    let mut metric = page.metric(
        "receiver_last_error_time_seconds",
        GAUGE,
        "When the receiver last failed, in seconds since 1970; 0: never.",
    );
    for (destination, r) in &all {
        let time = r.last_error.as_ref().map_or(0.0, |error| error.time);
        metric.at(&[("destination", destination), ("receiver", &r.url)], format_args!("{time:.3}"));
    }
    let sessions: Vec<_> = all.iter().filter_map(|(d, r)| Some((*d, r, r.tls.as_ref()?))).collect();
    if sessions.is_empty() {
        return;
    }
    let mut metric = page.metric("receiver_tls_info", GAUGE, "The TLS session; always 1.");
    for (destination, r, tls) in &sessions {
        let labels = [
            ("destination", *destination),
            ("receiver", &r.url),
            ("version", &tls.version),
            ("suite", &tls.suite),
            ("group", &tls.group),
            ("fingerprint", &tls.fingerprint),
        ];
        metric.at(&labels, 1);
    }
    let mut metric = page.metric(
        "receiver_certificate_not_after_time_seconds",
        GAUGE,
        "Last second of a certificate's validity, since 1970: the receiver's, or our own.",
    );
    for (destination, r, tls) in &sessions {
        for (whose, end) in [("receiver", Some(tls.not_after)), ("own", tls.own_not_after)] {
            if let Some(end) = end {
                metric.at(&[("destination", destination), ("receiver", &r.url), ("certificate", whose)], end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{LastError, QueueReport, Session};
    use std::collections::BTreeSet;

    fn receiver(url: &str) -> Receiver {
        Receiver {
            url: url.to_owned(),
            state: State::Connected,
            since: 5.0,
            last_error: Some(LastError { time: 4.0, error: "away".to_owned() }),
            tls: Some(Session { not_after: 9, own_not_after: Some(8), ..Session::default() }),
        }
    }

    fn full() -> Report {
        let d = |url: &str, active: bool| DestinationReport {
            url: url.to_owned(),
            active,
            due: 7,
            sent: 5,
            lost: [("overflow".into(), 2)].into(),
            queue: QueueReport { bytes: 3, limit: 64, oldest_seconds: Some(1.5) },
            receivers: vec![receiver("tls://a"), receiver("tls://b")],
            ..DestinationReport::default()
        };
        Report {
            time: 100.5,
            uptime_seconds: 0.25,
            // By a clock that has been set since.
            start_time: 77.125,
            read: 9,
            destinations: vec![d("odd\"\\\nname", true), d("x", false), d("x", true)],
            ..Report::default()
        }
    }

    #[test]
    fn every_series_stands_once_behind_its_type() {
        let text = text(&full());
        let (mut series, mut metrics, mut current) = (BTreeSet::new(), BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kind == COUNTER, name.ends_with("_total"), "{line}");
                assert!(metrics.insert(name.to_owned()), "twice: {line}");
                name.clone_into(&mut current);
            } else if !line.starts_with("# HELP ") {
                let (id, value) = line.rsplit_once(' ').unwrap();
                assert!(series.insert(id.to_owned()), "twice: {line}");
                assert_eq!(id.split('{').next().unwrap(), current, "{line}");
                assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            }
        }
        for expected in [
            "audit_relay_start_time_seconds 77.125\n",
            "audit_relay_destination_records_sent_total{destination=\"odd\\\"\\\\\\nname\"} 5\n",
            "audit_relay_destination_records_sent_total{destination=\"x\"} 10\n",
            "audit_relay_destination_records_lost_total{destination=\"x\",reason=\"overflow\"} 4\n",
            "audit_relay_destination_records_lost_total{destination=\"x\",reason=\"refused\"} 0\n",
            "audit_relay_destination_queue_bytes{destination=\"x\"} 3\n",
            "audit_relay_destination_oldest_seconds{destination=\"x\"} 1.500\n",
            "{destination=\"x\",receiver=\"tls://b\",certificate=\"own\"} 8\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn a_relay_without_tls_or_destinations_has_no_empty_metrics() {
        let text = text(&Report::default());
        for block in text.split("# HELP ").skip(1) {
            assert!(block.lines().count() >= 3, "{block}");
        }
    }
}
