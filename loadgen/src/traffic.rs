//! What `send` and `sink` say: about what left, about what arrived, or about both.
//!
//! *Promise:* the same names as in the report of a run; what one side alone cannot know (a sender: loss and latency; a
//! receiver: how much was sent behind the last arrival) is absent, never zero.
//! *Law:* no averaging, no smoothing, no judging beyond the exit code.

use serde_json::{Map, Value, json};

use crate::html::{Figure, Page, Tone};
use crate::ledger::Tally;
use crate::report::{
    Judgement, Key, Line, Run, latency_figures, latency_head, latency_json, latency_line, latency_of,
    latency_table, line as table_line, per, per_million, plain_table, plan_kept, reception_charts, round,
    rounded, share, thousands, us, verdict,
};
use crate::send::Sent;
use crate::sink::Received;

/// What is said of a run that a signal ended.
const INTERRUPTED: &str = "a signal ended the run";

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
    /// How many different records should come, if that was told.
    pub(crate) expected: Option<u64>,
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
        let mut tally = ledger.tally(&sent);
        if let Some(expected) = arrived.expected {
            // Which stream they would have been of nobody knows.
            tally.lost += expected.saturating_sub(tally.sent);
            tally.sent = tally.sent.max(expected);
        }
        Some(tally)
    }

    /// Seconds from the first measured message to the last one.
    fn seconds(&self) -> f64 {
        let received = self.received.as_ref();
        let first = self.sent.as_ref().map(|sent| sent.warmed.map_or(sent.first_ns, |warmed| warmed.at_ns));
        let first = first.or(received.map(|arrived| arrived.received.first_ns.unwrap_or(arrived.start_ns)));
        let last = received.and_then(|arrived| match &self.sent {
            Some(_) => arrived.received.last_ns,
            // Alone it counts whatever comes.
            None => arrived.received.last_any_ns,
        });
        let last = last.or(self.sent.as_ref().map(|sent| sent.last_ns));
        last.zip(first).map_or(0.0, |(last, first)| last.saturating_sub(first) as f64 / 1e9)
    }

    /// Messages and bytes that arrived, or without a receiver that left; where a sender of ours was judged, different
    /// records.
    fn volume(&self) -> (u64, u64) {
        let warmed = self.sent.as_ref().and_then(|sent| Some((sent, sent.warmed?)));
        if let Some((sent, warmed)) = warmed {
            return match self.judged() {
                Some(received) => (received.measured, received.measured_bytes),
                None => (sent.measured(), sent.bytes - warmed.bytes),
            };
        }
        match (&self.received, &self.sent) {
            (Some(arrived), Some(_)) if arrived.judged => {
                (arrived.received.ledger.arrived(), arrived.received.bytes)
            }
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
        let broken =
            sent.is_some_and(|sent| !sent.troubles.is_empty() || sent.refused > 0 || sent.interrupted);
        // A run of nothing proves nothing; a receiver that nobody has sent anything has no fault.
        let nothing = sent.is_some_and(|sent| sent.messages == 0);
        if broken || nothing || !(allow_loss || clean && known) {
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
        self.conditions_table(&mut out);
        out.push('\n');
        self.results_table(&mut out);
        out
    }

    /// Whether there was a schedule; a receiver alone takes the marks' word for it.
    fn scheduled(&self) -> bool {
        self.sent.as_ref().is_none_or(|sent| sent.scheduled)
    }

    fn judged(&self) -> Option<&Received> {
        self.received.as_ref().filter(|arrived| arrived.judged).map(|arrived| &arrived.received)
    }

    fn rate(&self) -> f64 {
        per(self.volume().0 as f64, self.seconds())
    }

    fn condition_lines(&self) -> Vec<Line> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.conditions.iter().map(|(name, value)| (*name, text(value))).collect()
    }

    fn condition(&self, wanted: &str) -> String {
        let line = self.condition_lines().into_iter().find(|(name, _)| *name == wanted);
        line.map(|(_, text)| text).unwrap_or_default()
    }

    /// What became of the messages.
    fn account_lines(&self) -> Vec<Line> {
        let mut out = Vec::new();
        if let Some(sent) = &self.sent {
            line(&mut out, "sent", &sent.messages.to_string());
        }
        self.arrival_lines(&mut out);
        if let Some(warmed) = self.sent.as_ref().and_then(|sent| sent.warmed) {
            line(&mut out, "warmed up", &format!("{} messages sent before measuring began", warmed.messages));
        }
        let seconds = self.seconds();
        line(&mut out, "seconds", &format!("{seconds:.3}"));
        let megabytes = per(self.volume().1 as f64, seconds) / 1e6;
        line(&mut out, "rate", &format!("{:.0} messages/s, {megabytes:.1} MB/s", self.rate()));
        out
    }

    /// What it cost.
    fn cost_lines(&self) -> Vec<Line> {
        let mut out = Vec::new();
        if let Some(sent) = &self.sent {
            sender_lines(&mut out, sent);
        }
        if let Some(arrived) = &self.received {
            line(&mut out, "receiver", &cpu(arrived.cpu_s, arrived.received.messages));
        }
        out
    }

    fn arrival_lines(&self, out: &mut Vec<Line>) {
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
        if received.ahead > 0 {
            let text = format!(
                "{} messages came before their mark says they were written: the sender's clock is ahead of this one, \
                 and the latencies are too short",
                received.ahead
            );
            line(out, "CLOCKS", &text);
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
            "warm_up": self.sent.as_ref().map(|sent| {
                let warmed = sent.warmed.unwrap_or_default();
                let seconds = warmed.at_ns.saturating_sub(sent.first_ns) as f64 / 1e9;
                json!({ "sent": warmed.messages, "seconds": round(seconds, 6) })
            }),
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
                "ahead": received.ahead,
                "cpu_s": round(*cpu_s, 6),
                "cpu_s_per_million": per_million(*cpu_s, received.messages).map(|cost| round(cost, 6)),
            })),
        })
    }
}

fn line(out: &mut Vec<Line>, name: &'static str, text: &str) {
    out.push((name, text.to_owned()));
}

impl Run for Traffic {
    const KEYS: &'static [Key<Self>] = &[
        Key { head: "messages/s", path: ["rate", ""], digits: 0, of: |run| Some(run.rate()) },
        Key { head: "lost", path: ["lost", ""], digits: 0, of: |run| run.tally().map(|t| t.lost as f64) },
        Key {
            head: "p50 us",
            path: ["latency_us", "p50"],
            digits: 1,
            of: |run| latency_of(run.judged(), 0.5),
        },
        Key {
            head: "p99 us",
            path: ["latency_us", "p99"],
            digits: 1,
            of: |run| latency_of(run.judged(), 0.99),
        },
        Key {
            head: "p99.9 us",
            path: ["latency_us", "p999"],
            digits: 1,
            of: |run| latency_of(run.judged(), 0.999),
        },
        Key {
            head: "max us",
            path: ["latency_us", "max"],
            digits: 1,
            of: |run| latency_of(run.judged(), 1.0),
        },
        Key {
            head: "send s/M",
            path: ["sender", "cpu_s_per_million"],
            digits: 3,
            of: |run| run.sent.as_ref().and_then(|sent| per_million(sent.cpu_s, sent.measured())),
        },
        Key {
            head: "sink s/M",
            path: ["sink", "cpu_s_per_million"],
            digits: 3,
            of: |run| run.received.as_ref().and_then(|sink| per_million(sink.cpu_s, sink.received.messages)),
        },
    ];
    const BY: &'static str = "rate";

    fn cost(&self) -> Option<f64> {
        Some(self.rate())
    }

    fn judge(&self, allow_loss: bool) -> Judgement {
        self.judge(allow_loss)
    }

    fn conditions_table(&self, out: &mut String) {
        for (name, text) in self.condition_lines() {
            table_line(out, name, &text);
        }
    }

    fn results_table(&self, out: &mut String) {
        for (name, text) in self.account_lines() {
            table_line(out, name, &text);
        }
        if let Some(received) = self.judged() {
            latency_head(out);
            let name = if self.scheduled() { "from the schedule" } else { "(no schedule)" };
            latency_line(out, name, &received.corrected);
            latency_line(out, "from the write", &received.uncorrected);
        }
        out.push('\n');
        for (name, text) in self.cost_lines() {
            table_line(out, name, &text);
        }
    }

    fn json(&self) -> Value {
        self.json()
    }

    fn page(&self) -> Page {
        let mut verdicts = Vec::new();
        let broken = self.sent.iter().flat_map(|sent| &sent.troubles);
        verdicts.extend(
            broken.map(|(stream, trouble)| (Tone::Bad, format!("Connection {stream} broke: {trouble}"))),
        );
        if let Some(sent) = self.sent.as_ref().filter(|sent| sent.scheduled && !sent.keeper.kept()) {
            let late = thousands(sent.keeper.late());
            let text = format!(
                "The sender did not keep its plan: {late} messages left late. This run says nothing."
            );
            verdicts.push((Tone::Doubt, text));
        }
        if let Some(sent) = self.sent.as_ref().filter(|sent| sent.interrupted) {
            let after = thousands(sent.messages);
            verdicts.push((Tone::Bad, format!("Stopped after {after} messages: {INTERRUPTED}.")));
        }
        verdicts.extend(self.sent.iter().filter_map(said_by_the_receiver).map(|text| (Tone::Bad, text)));
        verdicts.push(match self.tally() {
            Some(tally) => verdict(&tally),
            None => {
                let text =
                    format!("{} messages; nobody here judged what arrived.", thousands(self.volume().0));
                (if self.judge(false) == Judgement::Faulty { Tone::Doubt } else { Tone::Good }, text)
            }
        });
        let figure =
            |name: &str, value: String, unit: &str| Figure { name: name.into(), value, unit: unit.into() };
        let mut figures = vec![figure("throughput", thousands(rounded(self.rate())), "messages/s")];
        let seconds = self.seconds();
        let mut charts = Vec::new();
        let mut tables = Vec::new();
        if let Some(received) = self.judged() {
            figures.extend(latency_figures(received));
            charts = reception_charts(self.name(), "the write", received, self.scheduled(), None, seconds);
            tables.push(latency_table("the write", received, self.scheduled()));
        }
        if let Some(tally) = self.tally() {
            figures.push(figure("lost", thousands(tally.lost), &share(tally.lost, tally.sent)));
        }
        let connections = self.sent.as_ref().map_or(0, |sent| sent.streams.len());
        tables.push(plain_table("Account", self.account_lines()));
        tables.push(plain_table("Cost", self.cost_lines()));
        tables.push(plain_table("Conditions", self.condition_lines()));
        Page {
            title: format!("send to {}, {}", self.condition("to"), self.condition("plan")),
            subtitle: format!(
                "{} messages on {connections} connections in {seconds:.1} s, {}. {}.",
                thousands(self.volume().0),
                self.condition("started"),
                self.condition("host")
            ),
            verdicts,
            figures,
            bars: Vec::new(),
            charts,
            tables,
            command: String::new(),
        }
    }

    fn reception(&self) -> Option<&Received> {
        self.judged()
    }

    fn name(&self) -> &'static str {
        "send"
    }
}

/// What the receiver said, or the network in its place, that is a fault.
fn said_by_the_receiver(sent: &Sent) -> Option<String> {
    let answers = sent.answers.unwrap_or_default();
    let told: Vec<String> = [
        (sent.refused, "datagrams came back: nobody listens there"),
        (answers.refused, "messages were refused"),
        (answers.open, "messages were never answered"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", thousands(count)))
    .collect();
    (!told.is_empty()).then(|| format!("Of {} sent: {}.", thousands(sent.messages), told.join(", ")))
}

fn cpu(seconds: f64, messages: u64) -> String {
    let each = per_million(seconds, messages).map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
    format!("{seconds:.2} s CPU, {each} s per million messages")
}

fn sender_lines(out: &mut Vec<Line>, sent: &Sent) {
    let text = format!(
        "{} connections by {} threads, {}",
        sent.streams.len(),
        sent.threads,
        cpu(sent.cpu_s, sent.measured())
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
        (true, true) => plan_kept(&sent.keeper),
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
    if sent.interrupted {
        line(out, "STOPPED", &format!("after {} messages: {INTERRUPTED}", sent.messages));
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
        "cpu_s_per_million": per_million(sent.cpu_s, sent.measured()).map(|cost| round(cost, 6)),
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
        "stopped": sent.interrupted.then_some(INTERRUPTED),
        "troubles": sent.troubles.iter().map(|(stream, text)| json!([stream, text])).collect::<Vec<_>>(),
    })
}
