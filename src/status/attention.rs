//! What of a report needs somebody: the exit status of `audit-relay status`, and its lines that begin with `!`. Pure.
//!
//! Promise: nothing to say about a relay that is well. Law: what is past is not held against it for ever.

use super::view::{date, duration};
use crate::printable::printable;
use crate::telemetry::{Report, State};

/// Losses are shown for this long, in seconds.
const LOSS: f64 = 3600.0;

/// A destination without connection is away after this long, in seconds, also if no attempt has failed yet.
const CONNECTING: f64 = 10.0;

/// A record that has waited for longer is late, in seconds.
const LATE: f64 = 60.0;

/// A queue beyond this share is filling.
const FULL: f64 = 0.8;

/// Days before a certificate's end.
const DAYS: f64 = 14.0;

/// One sentence for each thing.
#[allow(clippy::cast_precision_loss, reason = "shares and days need no more digits")]
pub(super) fn attention(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    for d in &report.destinations {
        let url = printable(&d.url);
        if let Some(last) = d.last_loss
            && report.time - last < LOSS
        {
            found.push(format!("{url}: {} records lost, last at {}", d.lost_in_all(), date(last)));
        }
        if !d.active {
            continue;
        }
        if !d.is_connected() {
            let away = d.receivers.iter().filter(|receiver| receiver.state == State::Away);
            let longest = d.receivers.iter().map(|receiver| report.time - receiver.since).fold(0.0, f64::max);
            let error = away.clone().find_map(|receiver| receiver.last_error.as_ref());
            if away.count() > 0 || longest > CONNECTING {
                let why = error.map(|error| format!(": {}", printable(&error.error))).unwrap_or_default();
                found.push(format!("{url}: no connection for {}{why}", duration(longest)));
            }
        }
        if let Some(age) = d.queue.oldest_seconds.filter(|age| *age > LATE) {
            found.push(format!("{url}: the oldest record has waited for {}", duration(age)));
        }
        if d.queue.limit > 0 && d.queue.bytes as f64 > FULL * d.queue.limit as f64 {
            let share = d.queue.bytes as f64 / d.queue.limit as f64 * 100.0;
            found.push(format!("{url}: the queue is {share:.0} % full; then records are lost (on-full)"));
        }
        for tls in d.receivers.iter().filter_map(|receiver| receiver.tls.as_ref()) {
            let ends = [("the receiver's", Some(tls.not_after)), ("our own", tls.own_not_after)];
            for (whose, end) in ends.into_iter().filter_map(|(whose, end)| Some((whose, end?))) {
                let days = (end as f64 - report.time) / 86_400.0;
                if days < DAYS {
                    found.push(format!("{url}: {whose} certificate ends in {days:.0} days"));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{DestinationReport, LastError, QueueReport, Receiver, Session};

    fn well() -> DestinationReport {
        DestinationReport {
            url: "tcp://a".to_owned(),
            active: true,
            queue: QueueReport { bytes: 10, limit: 100, oldest_seconds: Some(1.0) },
            receivers: vec![Receiver { state: State::Connected, ..Receiver::default() }],
            ..DestinationReport::default()
        }
    }

    #[test]
    fn each_thing_is_said_and_nothing_else() {
        let of = |d: DestinationReport| {
            attention(&Report { time: 10_000_000.0, destinations: vec![d], ..Report::default() })
        };
        let receiver = |state, since| Receiver {
            state,
            since,
            last_error: Some(LastError { time: 1.0, error: "refused".to_owned() }),
            ..Receiver::default()
        };
        let with = |receivers| DestinationReport { receivers, ..well() };
        assert_eq!(of(well()), Vec::<String>::new());
        // A failover list of which one serves.
        assert!(of(with(vec![receiver(State::Away, 1.0), receiver(State::Connected, 1.0)])).is_empty());
        assert!(of(with(vec![receiver(State::Idle, 9_999_995.0)])).is_empty(), "just started");
        assert!(of(DestinationReport { last_loss: Some(9_990_000.0), ..well() }).is_empty(), "long ago");
        let tls =
            Session { not_after: 10_000_000 + 86_400, own_not_after: Some(99_000_000), ..Session::default() };
        for (d, expected) in [
            (with(vec![receiver(State::Away, 9_999_995.0)]), "tcp://a: no connection for 5.0 s: refused"),
            (with(vec![receiver(State::Idle, 9_999_900.0)]), "tcp://a: no connection for 1 min 40 s"),
            (
                DestinationReport {
                    last_loss: Some(9_999_999.0),
                    lost: [("overflow".into(), 3)].into(),
                    ..well()
                },
                "tcp://a: 3 records lost",
            ),
            (
                DestinationReport {
                    queue: QueueReport { oldest_seconds: Some(61.0), ..well().queue },
                    ..well()
                },
                "has waited for 1 min 1 s",
            ),
            (DestinationReport { queue: QueueReport { bytes: 81, ..well().queue }, ..well() }, "81 % full"),
            (
                with(vec![Receiver { tls: Some(tls), ..receiver(State::Connected, 1.0) }]),
                "the receiver's certificate ends in 1 days",
            ),
        ] {
            let said = of(d);
            assert!(said.len() == 1 && said[0].contains(expected), "{expected}: {said:?}");
        }
    }
}
