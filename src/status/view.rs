//! The report for people: a table, a line, and what needs somebody. Pure.
//!
//! Promise: no line of the table is wider than it may be, and no character in it is one that a terminal obeys. Law: the
//! numbers are the report's; rates come from two reports of one instance.

use std::fmt::Write as _;

use super::attention::attention;
use crate::printable::printable;
use crate::syslog::civil_date;
use crate::telemetry::{DestinationReport, Receiver, Report, State};

/// Characters of a queue's bar.
const BAR: usize = 24;

/// Where the numbers end, and their rates.
const COLUMNS: (usize, usize) = (22, 16);

/// The whole table, at most `width` characters wide; `before`: an earlier report, for rates.
pub(super) fn table(now: &Report, before: Option<&Report>, width: usize) -> String {
    let window = Window::new(now, before);
    let mut lines = vec![
        format!(
            "audit-relay {}, pid {}, as {}, up {}",
            now.version,
            now.pid,
            now.user,
            duration(now.uptime_seconds)
        ),
        format!("{}   {}", input(now), date(now.time)),
        confined(now),
        String::new(),
    ];
    let wrong = attention(now);
    lines.extend(wrong.iter().map(|sentence| format!("! {sentence}")));
    if !wrong.is_empty() {
        lines.push(String::new());
    }
    lines.push(format!("{:<12}{:>w$}{:>r$}", "INPUT", "records", "/s", w = COLUMNS.0, r = COLUMNS.1));
    let mut row = |name: &str, count: u64, earlier: fn(&Report) -> u64, always: bool| {
        if always || count > 0 {
            lines.push(numbers(name, count, window.rate(count, window.before.map(earlier))));
        }
    };
    row("read", now.read, |r| r.read, true);
    row("filtered", now.filtered, |r| r.filtered, true);
    row("undecodable", now.undecodable, |r| r.undecodable, false);
    row("own", now.own, |r| r.own, false);
    row("skipped B", now.skipped_bytes, |r| r.skipped_bytes, false);
    for (at, d) in now.destinations.iter().enumerate() {
        // What a reload has taken out is of interest as long as something of it is left.
        if d.active || d.in_flight > 0 || d.lost_in_all() > 0 {
            lines.push(String::new());
            destination(&mut lines, now, d, &window, at);
        }
    }
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{}", cut(&line, width));
    }
    text
}

/// One line, for a log.
pub(super) fn line(now: &Report, before: Option<&Report>) -> String {
    let window = Window::new(now, before);
    let rate =
        |count, before: Option<u64>| window.rate(count, before).map_or_else(|| "-".to_owned(), per_second);
    let mut text =
        format!("{} read {} ({}/s)", date(now.time), now.read, rate(now.read, window.before.map(|r| r.read)));
    for (at, d) in now.destinations.iter().enumerate().filter(|(_, d)| d.active) {
        let before = window.destination(d, at);
        let _ = write!(
            text,
            "; {}: {}, sent {} ({}/s), lost {}, in flight {}, queue {:.0} %, oldest {}",
            printable(&d.url),
            if d.is_connected() { "connected" } else { "AWAY" },
            d.sent,
            rate(d.sent, before.map(|d| d.sent)),
            d.lost_in_all(),
            d.in_flight,
            fill(d) * 100.0,
            d.queue.oldest_seconds.map_or_else(|| "-".to_owned(), duration),
        );
    }
    text
}

/// In the place of numbers: `what` is the case since a moment, in seconds since 1970.
pub(super) fn gone(what: &str, since: f64, why: &str) -> String {
    format!("{what} since {}: {}", date(since), printable(why))
}

/// What two reports have in common.
struct Window<'a> {
    before: Option<&'a Report>,
    seconds: f64,
}

impl<'a> Window<'a> {
    fn new(now: &Report, before: Option<&'a Report>) -> Self {
        let before =
            before.filter(|before| before.pid == now.pid && before.uptime_seconds < now.uptime_seconds);
        Self { before, seconds: before.map_or(0.0, |before| now.uptime_seconds - before.uptime_seconds) }
    }

    /// Destinations are only ever added behind the others.
    fn destination(&self, d: &DestinationReport, at: usize) -> Option<&'a DestinationReport> {
        self.before?.destinations.get(at).filter(|before| before.url == d.url)
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate is shown with two or three digits")]
    fn rate(&self, now: u64, before: Option<u64>) -> Option<f64> {
        before.map(|before| now.saturating_sub(before) as f64 / self.seconds)
    }
}

fn input(now: &Report) -> String {
    let last = match now.last_read {
        Some(last) => format!("last read {} ago", duration(now.time - last)),
        None => "nothing read yet".to_owned(),
    };
    format!("input {}, {}, {last}", now.input, now.input_state)
}

fn confined(now: &Report) -> String {
    let c = &now.confined;
    let parts: Vec<_> = [
        (c.seccomp == "enforced", "system calls"),
        (c.landlock > 0, "files"),
        (c.tcp_ports, "TCP ports"),
        (c.scopes, "signals"),
        (c.memory, "memory"),
        (c.no_dumps, "dumps"),
        (c.apparmor.ends_with("(enforce)"), "AppArmor"),
    ]
    .into_iter()
    .filter_map(|(enforced, name)| enforced.then_some(name))
    .collect();
    format!("confined: {}", if parts.is_empty() { "NOTHING".to_owned() } else { parts.join(", ") })
}

fn destination(lines: &mut Vec<String>, now: &Report, d: &DestinationReport, window: &Window<'_>, at: usize) {
    let removed = if d.active { "" } else { "  (no longer in the configuration)" };
    lines.push(format!("{}{removed}", printable(&d.url)));
    let alone = d.receivers.len() == 1;
    for receiver in d.receivers.iter().filter(|_| d.active) {
        of_receiver(lines, now, receiver, alone);
    }
    let before = window.destination(d, at);
    let mut row = |name: &str, count: u64, earlier: fn(&DestinationReport) -> u64, always: bool| {
        if always || count > 0 {
            lines.push(numbers(&format!("  {name}"), count, window.rate(count, before.map(earlier))));
        }
    };
    row("sent", d.sent, |d| d.sent, true);
    row("lost", d.lost_in_all(), DestinationReport::lost_in_all, true);
    row("inherited", d.inherited, |d| d.inherited, false);
    row("handed over", d.handed_over, |d| d.handed_over, false);
    row("sent again", d.replayed, |d| d.replayed, false);
    row("cut", d.cut, |d| d.cut, false);
    lines.push(numbers("  in flight", d.in_flight, None));
    if d.lost_in_all() > 0 {
        let reasons: Vec<_> =
            d.lost.iter().map(|(reason, count)| format!("{reason} {}", grouped(*count))).collect();
        let last = d.last_loss.map(|time| format!(", last at {}", date(time))).unwrap_or_default();
        lines.push(format!("  lost by reason: {}{last}", reasons.join(", ")));
    }
    if d.active {
        lines.push(format!(
            "  queue [{}] {:>5.1} %  {} of {}{}",
            bar(fill(d)),
            fill(d) * 100.0,
            bytes(d.queue.bytes),
            bytes(d.queue.limit),
            d.queue.oldest_seconds.map(|age| format!(", oldest {}", duration(age))).unwrap_or_default()
        ));
    }
}

fn of_receiver(lines: &mut Vec<String>, now: &Report, receiver: &Receiver, alone: bool) {
    let word = match &receiver.state {
        State::Connected => "connected",
        State::Away => "AWAY",
        State::Idle => "not connected yet",
        State::Left => "left",
        // As it is; the whole line is made printable.
        State::Other(word) => word,
    };
    let name = if alone { String::new() } else { format!("{}: ", printable(&receiver.url)) };
    let since = duration(now.time - receiver.since);
    let mut text = format!("  {name}{word} for {since}");
    if let Some(tls) = &receiver.tls {
        let _ = write!(text, ", TLS {} {} {}", tls.version, tls.suite, tls.group);
        lines.push(printable(&text));
        lines.push(format!("    {}", printable(&tls.fingerprint)));
        let own = tls.own_not_after.map(|end| format!("; ours {}", ends(end, now.time))).unwrap_or_default();
        text = format!("    certificate of {}, {}{own}", tls.peer, ends(tls.not_after, now.time));
    }
    lines.push(printable(&text));
    if let Some(error) = &receiver.last_error {
        let ago = duration(now.time - error.time);
        lines.push(format!("    last error {ago} ago: {}", printable(&error.error)));
    }
}

#[allow(clippy::cast_precision_loss, reason = "a date within some thousand years")]
fn ends(end: u64, now: f64) -> String {
    let left = (end as f64 - now) / 86_400.0;
    if left < 0.0 { "ENDED".to_owned() } else { format!("ends in {left:.0} d") }
}

fn numbers(name: &str, count: u64, rate: Option<f64>) -> String {
    let rate = rate.map_or_else(String::new, per_second);
    format!("{name:<14}{:>w$}{rate:>r$}", grouped(count), w = COLUMNS.0 - 2, r = COLUMNS.1)
        .trim_end()
        .to_owned()
}

#[allow(clippy::cast_precision_loss, reason = "a percentage")]
fn fill(d: &DestinationReport) -> f64 {
    if d.queue.limit == 0 { 0.0 } else { d.queue.bytes as f64 / d.queue.limit as f64 }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "between 0 and the length of the bar"
)]
fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).ceil() as usize;
    "#".repeat(full) + &".".repeat(BAR - full)
}

fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 {
        return format!("{rate:.1}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are not negative")]
    grouped(rate.round() as u64)
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", count as f64 / 1_073_741_824.0),
    }
}

/// The two largest units.
pub(super) fn duration(seconds: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and cut on purpose"
    )]
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match whole {
        0..60 => format!("{:.1} s", seconds.max(0.0)),
        60..3600 => format!("{minutes} min {} s", whole % 60),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `2026-11-28 20:13:26Z`.
pub(super) fn date(time: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time after 1970")]
    let second = time.clamp(0.0, 253_402_300_799.0) as u64;
    let (year, month, day) = civil_date(second / 86_400);
    let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}Z", second % 60)
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return printable(line);
    }
    let kept: String = line.chars().take(width.saturating_sub(3)).collect();
    printable(&kept) + "..."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{LastError, QueueReport, Session};

    fn report(sent: u64, uptime: f64) -> Report {
        Report {
            version: "0.1.0".into(),
            pid: 7,
            user: "nobody".to_owned(),
            time: 1_795_424_551.65,
            uptime_seconds: uptime,
            input: "text".into(),
            input_state: "reading".into(),
            last_read: Some(1_795_424_550.15),
            read: 2 * sent,
            destinations: vec![DestinationReport {
                url: "tls://logs.example.org".to_owned(),
                active: true,
                sent,
                queue: QueueReport { bytes: 16 << 20, limit: 64 << 20, oldest_seconds: Some(12.34) },
                receivers: vec![Receiver {
                    url: "tls://logs.example.org".to_owned(),
                    state: State::Connected,
                    since: 1_795_424_000.0,
                    last_error: Some(LastError {
                        time: 1_795_423_999.0,
                        error: format!("a\u{1b}b{}", "c".repeat(200)),
                    }),
                    tls: Some(Session {
                        version: "1.3".to_owned(),
                        not_after: 1_800_000_000,
                        ..Session::default()
                    }),
                }],
                ..DestinationReport::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn the_table_fits_and_has_rates() {
        let (before, now) = (report(1_000, 10.0), report(3_500, 12.0));
        let text = table(&now, Some(&before), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80 && !line.contains('\u{1b}')), "{text}");
        let row = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("read"), ["read", "7,000", "2,500"]);
        assert_eq!(row("sent"), ["sent", "3,500", "1,250"]);
        assert!(
            text.contains("queue [######..................]  25.0 %  16.0 MiB of 64.0 MiB, oldest 12.3 s"),
            "{text}"
        );
        assert!(text.contains("2026-11-23 09:02:31Z") && text.contains("connected for 9 min 11 s"), "{text}");
        // Another instance has counters of its own.
        let other = Report { pid: 8, ..before.clone() };
        assert!(!table(&now, Some(&other), 80).contains("2,500"));
        assert!(
            line(&now, Some(&before))
                .contains("read 7000 (2,500/s); tls://logs.example.org: connected, sent 3500")
        );
    }

    #[test]
    fn values_for_people() {
        for (seconds, expected) in [
            (0.04, "0.0 s"),
            (59.94, "59.9 s"),
            (61.0, "1 min 1 s"),
            (7200.0, "2 h 0 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!(
            (bar(0.0).as_str(), bar(2.0).as_str()),
            ("........................", "########################")
        );
        assert!(bar(0.001).starts_with("#."), "what is not empty does not look empty");
        assert_eq!(
            (bytes(1023), bytes(1536), bytes(3 << 30)),
            ("1023 B".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
    }
}
