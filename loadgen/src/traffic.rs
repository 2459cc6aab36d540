//! What `send` and `sink` say: about what left, about what arrived, or about both.
//!
//! *Promise:* the same names as in the report of a run; what one side alone cannot know (a sender: loss and latency; a
//! receiver: how much was sent behind the last arrival) is absent, never zero.
//! *Law:* no averaging, no smoothing, no judging beyond the exit code.

use serde_json::{Map, Value, json};

use crate::ledger::Tally;
use crate::report::{Judgement, latency_head, latency_json, latency_line, line, per, per_million, round, us};
use crate::send::Sent;
use crate::sink::Received;

/// Everything known at the end.
pub(crate) struct Traffic {
    /// The conditions: name and value, in the order of the table.
    pub(crate) conditions: Vec<(&'static str, Value)>,
    /// The sender's side, if it was ours.
    pub(crate) sent: Option<Sent>,
    /// The receiver's side, if it was ours.
    pub(crate) received: Option<Arrived>,
}

/// The receiver's side.
pub(crate) struct Arrived {
    /// What the sink knows.
    pub(crate) received: Received,
    /// Whether messages were judged.
    pub(crate) judged: bool,
    /// CPU seconds of its thread.
    pub(crate) cpu_s: f64,
    /// Time of the first look at it; the fallback for the beginning.
    pub(crate) start_ns: u64,
}

impl Traffic {
    /// The account: over what was sent, or without a sender over what was seen.
    fn tally(&self) -> Option<Tally> {
        let arrived = self.received.as_ref().filter(|arrived| arrived.judged)?;
        let ledger = &arrived.received.ledger;
        let mut sent = ledger.ends();
        if let Some(sender) = &self.sent {
            sent.resize(sent.len().max(sender.streams.len()), 0);
            // A message that broke with its connection may have arrived all the same.
            sent.iter_mut().zip(&sender.streams).for_each(|(seen, &sent)| *seen = sent.max(*seen));
        }
        Some(ledger.tally(&sent))
    }

    /// Seconds from the first message to the last one.
    fn seconds(&self) -> f64 {
        let received = self.received.as_ref();
        let first = self.sent.as_ref().map(|sent| sent.first_ns);
        let first = first.or(received.map(|arrived| arrived.received.first_ns.unwrap_or(arrived.start_ns)));
        let last = received.and_then(|arrived| arrived.received.last_ns);
        let last = last.or(self.sent.as_ref().map(|sent| sent.last_ns));
        last.zip(first).map_or(0.0, |(last, first)| last.saturating_sub(first) as f64 / 1e9)
    }

    /// Messages and bytes that arrived, or without a receiver that left.
    fn volume(&self) -> (u64, u64) {
        match (&self.received, &self.sent) {
            (Some(arrived), _) => (arrived.received.messages, arrived.received.bytes),
            (None, Some(sent)) => (sent.messages, sent.bytes),
            (None, None) => (0, 0),
        }
    }

    /// The exit code's meaning. `allow_loss` forgives what became of the messages, not a broken connection.
    pub(crate) fn judge(&self, allow_loss: bool) -> Judgement {
        let tally = self.tally();
        let clean =
            tally.is_none_or(|tally| tally.lost + tally.duplicated + tally.reordered + tally.torn == 0);
        let sent = self.sent.as_ref();
        let known =
            sent.and_then(|sent| sent.answers).is_none_or(|answers| answers.refused + answers.open == 0);
        let broken = sent.is_some_and(|sent| !sent.troubles.is_empty() || sent.refused > 0);
        if broken || !(allow_loss || clean && known) {
            Judgement::Faulty
        } else if sent.is_some_and(|sent| sent.scheduled && !sent.keeper.kept()) {
            Judgement::PlanNotKept
        } else {
            Judgement::Well
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.conditions {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line(&mut out, name, &value);
        }
        out.push('\n');
        if let Some(sent) = &self.sent {
            line(&mut out, "sent", &sent.messages.to_string());
        }
        self.arrival_lines(&mut out);
        let (messages, bytes) = self.volume();
        let seconds = self.seconds();
        line(&mut out, "seconds", &format!("{seconds:.3}"));
        let rate = per(messages as f64, seconds);
        line(
            &mut out,
            "rate",
            &format!("{rate:.0} messages/s, {:.1} MB/s", per(bytes as f64, seconds) / 1e6),
        );
        if let Some(arrived) = self.received.as_ref().filter(|arrived| arrived.judged) {
            latency_head(&mut out);
            let scheduled = self.sent.as_ref().is_none_or(|sent| sent.scheduled);
            let name = if scheduled { "from the schedule" } else { "(no schedule)" };
            latency_line(&mut out, name, &arrived.received.corrected);
            latency_line(&mut out, "from the write", &arrived.received.uncorrected);
        }
        out.push('\n');
        if let Some(sent) = &self.sent {
            sender_lines(&mut out, sent);
        }
        if let Some(arrived) = &self.received {
            line(&mut out, "receiver", &cpu(arrived.cpu_s, arrived.received.messages));
        }
        out
    }

    fn arrival_lines(&self, out: &mut String) {
        let Some(arrived) = &self.received else { return };
        let received = &arrived.received;
        match self.tally() {
            None => line(out, "messages", &received.messages.to_string()),
            Some(tally) => {
                for (name, count) in [
                    ("received", tally.received),
                    ("lost", tally.lost),
                    ("duplicated", tally.duplicated),
                    ("reordered", tally.reordered),
                    ("torn", tally.torn),
                ] {
                    line(out, name, &count.to_string());
                }
                if tally.unmarked > 0 {
                    let text = format!("{} (messages that carry none of our marks)", tally.unmarked);
                    line(out, "unmarked", &text);
                }
                if tally.torn > 0 && tally.received == 0 {
                    line(out, "", "all torn: had the sender the same --seed, --mix, --size and --trace?");
                }
                if !tally.gaps.is_empty() {
                    let gaps: Vec<String> = tally.gaps.iter().map(ToString::to_string).collect();
                    line(out, "first gaps", &gaps.join(" "));
                }
            }
        }
        if received.unfinished_bytes + received.framing_errors > 0 {
            let text = format!(
                "{} bytes at connection ends, {} broken frames",
                received.unfinished_bytes, received.framing_errors
            );
            line(out, "framing", &text);
        }
        if received.tls_errors > 0 {
            line(out, "tls", &format!("{} connections ended without close_notify", received.tls_errors));
        }
        if let Some(drops) = received.socket_drops.filter(|&drops| drops > 0) {
            line(out, "sink drops", &format!("{drops} datagrams dropped at the sink's own socket"));
        }
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Value {
        let conditions: Map<String, Value> =
            self.conditions.iter().map(|(name, value)| (name.replace(' ', "_"), value.clone())).collect();
        let tally = self.tally();
        let answers = self.sent.as_ref().and_then(|sent| sent.answers);
        let count = |of: fn(&Tally) -> u64| tally.as_ref().map(of);
        let judged = self.received.as_ref().filter(|arrived| arrived.judged).map(|arrived| &arrived.received);
        let (messages, bytes) = self.volume();
        let seconds = self.seconds();
        json!({
            "measured": conditions,
            "sent": self.sent.as_ref().map(|sent| sent.messages),
            // A RELP receiver has said so itself.
            "received": count(|t| t.received).or(answers.map(|answers| answers.taken)),
            "lost": count(|t| t.lost).or(answers.map(|answers| answers.refused + answers.open)),
            "duplicated": count(|t| t.duplicated),
            "reordered": count(|t| t.reordered),
            "torn": count(|t| t.torn),
            "unmarked": count(|t| t.unmarked),
            "gaps": tally.as_ref().map(|t| t.gaps.iter().map(|g| json!([g.stream, g.first, g.last])).collect::<Vec<_>>()),
            "seconds": round(seconds, 6),
            "rate": round(per(messages as f64, seconds), 1),
            "bytes_per_s": round(per(bytes as f64, seconds), 1),
            "latency_us": judged.map(|received| latency_json(&received.corrected)),
            "latency_uncorrected_us": judged.map(|received| latency_json(&received.uncorrected)),
            "sender": self.sent.as_ref().map(sender_json),
            "sink": self.received.as_ref().map(|Arrived { received, cpu_s, .. }| json!({
                "messages": received.messages,
                "bytes": received.bytes,
                "connections": received.connections,
                "unfinished_bytes": received.unfinished_bytes,
                "framing_errors": received.framing_errors,
                "tls_errors": received.tls_errors,
                "socket_drops": received.socket_drops,
                "cpu_s": round(*cpu_s, 6),
                "cpu_s_per_million": per_million(*cpu_s, received.messages).map(|cost| round(cost, 6)),
            })),
        })
    }
}

fn cpu(seconds: f64, messages: u64) -> String {
    let each = per_million(seconds, messages).map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
    format!("{seconds:.2} s CPU, {each} s per million messages")
}

fn sender_lines(out: &mut String, sent: &Sent) {
    let text = format!(
        "{} connections by {} threads, {}",
        sent.streams.len(),
        sent.threads,
        cpu(sent.cpu_s, sent.messages)
    );
    line(out, "sender", &text);
    let text = format!(
        "held by the receiver {} times, {:.3} s of connection time",
        sent.blocked,
        sent.blocked_ns as f64 / 1e9
    );
    line(out, "", &text);
    let plan = match (sent.scheduled, sent.keeper.kept()) {
        (false, _) => "no schedule: as fast as the receiver takes".to_owned(),
        (true, true) => format!("plan kept, worst own lag {:.0} us", us(sent.keeper.worst_ns())),
        (true, false) => format!(
            "PLAN NOT KEPT: {} of {} messages left late, worst own lag {:.0} us; this run says nothing",
            sent.keeper.late(),
            sent.messages,
            us(sent.keeper.worst_ns())
        ),
    };
    line(out, "", &plan);
    if let Some(answers) = &sent.answers {
        let text =
            format!("{} taken, {} refused, {} not answered", answers.taken, answers.refused, answers.open);
        line(out, "answers", &text);
    }
    if sent.refused > 0 {
        let text = format!(
            "{} datagrams came back: nobody listens there; start the receiver, or mend the address",
            sent.refused
        );
        line(out, "REFUSED", &text);
    }
    for (stream, trouble) in &sent.troubles {
        line(out, "BROKEN", &format!("connection {stream}: {trouble}"));
    }
}

fn sender_json(sent: &Sent) -> Value {
    json!({
        "connections": sent.streams.len(),
        "threads": sent.threads,
        "bytes": sent.bytes,
        "seconds": round(sent.last_ns.saturating_sub(sent.first_ns) as f64 / 1e9, 6),
        "cpu_s": round(sent.cpu_s, 6),
        "cpu_s_per_million": per_million(sent.cpu_s, sent.messages).map(|cost| round(cost, 6)),
        "blocked": sent.blocked,
        "blocked_s": round(sent.blocked_ns as f64 / 1e9, 6),
        "scheduled": sent.scheduled,
        "kept_plan": sent.keeper.kept(),
        "worst_lag_us": round(us(sent.keeper.worst_ns()), 1),
        "late": sent.keeper.late(),
        "refused": sent.refused,
        "answered": sent.answers.map(|answers| answers.taken),
        "answered_no": sent.answers.map(|answers| answers.refused),
        "unanswered": sent.answers.map(|answers| answers.open),
        "troubles": sent.troubles.iter().map(|(stream, text)| json!([stream, text])).collect::<Vec<_>>(),
    })
}
