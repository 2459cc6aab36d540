//! Reloads, upgrades and restarts of a real auditd under 10,000 records/s: whatever auditd hands over arrives.
//!
//! Numbered messages go into the kernel all the time. Three places are compared at the end: auditd's own log, what rsyslogd received, and
//! the relay's sequence numbers. A message that is in auditd's log and not at rsyslogd got lost behind auditd. One that is in neither got
//! lost in front of it, while no auditd was there; that is the kernel's to lose, and only counted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
#[path = "support/machine.rs"]
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use live::{Inlet, KernelAudit, Need, Rsyslogd, System, relay_binary, user_messages, wait_until};
use machine::{Machine, packaged};

/// Records a second, and how many go at once.
const RATE: u64 = 10_000;
const BURST: u64 = 50;

/// Sends numbered messages at [`RATE`] until it is told to stop.
struct Sender {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Sender {
    fn start() -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let start = Instant::now();
            let pause = Duration::from_micros(BURST * 1_000_000 / RATE);
            let mut due = start;
            while !end.load(Ordering::Relaxed) {
                let first = count.load(Ordering::Relaxed);
                user_messages((first..first + BURST).map(|n| (1107, message(n))));
                count.store(first + BURST, Ordering::Relaxed);
                due += pause;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            start.elapsed()
        });
        Self { sent, stop, thread }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many were sent, and how many a second.
    fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.thread.join().unwrap();
        let sent = self.sent.load(Ordering::Relaxed);
        (sent, sent * 1000 / u64::try_from(took.as_millis()).unwrap())
    }
}

fn message(n: u64) -> Vec<u8> {
    format!("op=numbered n={n} grantors=pam_unix acct=\"somebody\" exe=\"/usr/sbin/sshd\" hostname=? addr=? res=success").into()
}

/// The number of a record that carries one.
fn number(text: &str) -> Option<u64> {
    text.split_once("op=numbered n=")?.1.split(' ').next()?.parse().ok()
}

/// What is done to auditd meanwhile, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Reload,
    /// The relay's program is another file, as after an upgrade, and auditd reloads.
    Upgrade,
    Restart,
}

fn times(step: Step) -> u32 {
    let usual = match step {
        Step::Reload => 8,
        Step::Upgrade => 5,
        Step::Restart => 4,
    };
    let factor = env::var("AUDIT_RELAY_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual * factor
}

/// Messages that are missing, by the step under way when they were sent.
fn by_step(missing: &[u64], steps: &[(Step, Range<u64>)]) -> String {
    let mut counts = BTreeMap::new();
    for n in missing {
        let step = steps.iter().find(|(_, range)| range.contains(n)).map(|(step, _)| *step);
        *counts.entry(step).or_insert(0_u64) += 1;
    }
    format!("{counts:?}")
}

fn nothing_lost(system: System) {
    if !live::have(&machine::NEEDS) || (system == System::Sid && !live::have(&[Need::Sid])) {
        return;
    }
    let Some(kernel) = KernelAudit::take() else {
        return;
    };
    let dir = live::temp_dir();
    let rsyslogd = Rsyslogd::start(System::Host, dir.path());
    let machine = Machine::start(system, dir.path());
    // One log file for all of it, to compare with.
    let conf =
        packaged("auditd/auditd-relay-and-disk.conf").replace("max_log_file = 50\n", "max_log_file = 2000\n");
    machine.install_relay(&conf, &rsyslogd.url(Inlet::TcpOctet));
    let mut auditd = machine.start_auditd();
    live::auditctl(&["-e", "1"]);

    let sender = Sender::start();
    let mut steps = Vec::new();
    for step in [Step::Reload, Step::Upgrade, Step::Restart] {
        let first = sender.sent();
        for _ in 0..times(step) {
            thread::sleep(Duration::from_millis(300));
            match step {
                Step::Reload => auditd.reload(),
                Step::Upgrade => {
                    // As a package manager does it: beside it, then over it.
                    machine.copy(&relay_binary(), "/usr/sbin/audit-relay.new", 0o755);
                    fs::rename(
                        machine.path("/usr/sbin/audit-relay.new"),
                        machine.path("/usr/sbin/audit-relay"),
                    )
                    .unwrap();
                    let before = auditd.relay();
                    auditd.reload();
                    let changed = || auditd.relay().is_some() && auditd.relay() != before;
                    assert!(wait_until(Duration::from_secs(10), changed), "the new relay is not started");
                }
                Step::Restart => {
                    auditd.stop();
                    auditd = machine.start_auditd();
                }
            }
            thread::sleep(Duration::from_millis(400));
        }
        steps.push((step, first..sender.sent()));
    }
    let (sent, rate) = sender.finish();
    assert!(rate > RATE * 9 / 10, "only {rate} records/s");

    let mark = format!("op=numbered n={} ", sent);
    user_messages([(1107, message(sent))]);
    let received = dir.path().join("received.jsonl");
    let there = wait_until(Duration::from_secs(60), || {
        let text = fs::read(&received).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(1 << 20)..];
        tail.windows(mark.len()).any(|window| window == mark.as_bytes())
    });
    assert!(there, "the last message did not arrive");
    auditd.stop();
    let lost_in_kernel = live::Status::read().unwrap().lost - kernel.found_lost();

    let messages = rsyslogd.messages();
    let arrived: BTreeSet<u64> = messages.iter().filter_map(|m| number(&m.msg)).collect();
    let log =
        String::from_utf8_lossy(&fs::read(machine.path("/var/log/audit/audit.log")).unwrap()).into_owned();
    let logged: BTreeSet<u64> = log.lines().filter_map(number).collect();
    let behind: Vec<u64> = logged.difference(&arrived).copied().collect();
    let before: Vec<u64> = (0..sent).filter(|n| !logged.contains(n) && !arrived.contains(n)).collect();
    let twice = messages.iter().filter(|m| number(&m.msg).is_some()).count() - arrived.len();
    eprintln!(
        "{system:?}: {sent} sent at {rate}/s, {} logged, {} arrived ({twice} twice); missing behind auditd: {} {}; in \
         front of it: {} {}; kernel's counter {lost_in_kernel}; auditd said: {:?}",
        logged.len(),
        arrived.len(),
        behind.len(),
        by_step(&behind, &steps),
        before.len(),
        by_step(&before, &steps),
        auditd.complaints().lines().take(5).collect::<Vec<_>>(),
    );

    // What the relays say: no loss, and no gap in any instance's numbers.
    let own: Vec<&str> = messages.iter().filter(|m| m.msgid == "LOST").map(|m| m.text()).collect();
    let mut numbers: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for message in &messages {
        let id: Option<u64> =
            message.sd.split_once("sequenceId=\"").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
        numbers.entry(&message.pid).or_default().extend(id);
    }
    let gaps: Vec<(&str, u64, usize)> = numbers
        .iter()
        .filter_map(|(pid, ids)| {
            let last = *ids.last()?;
            (last != u64::try_from(ids.len()).unwrap()).then_some((*pid, last, ids.len()))
        })
        .collect();
    eprintln!("{system:?}: {} instances of the relay, gaps {gaps:?}, LOST {own:?}", numbers.len());
    assert!(own.is_empty() && gaps.is_empty(), "the relay has lost records");
    assert!(
        behind.is_empty(),
        "{} in auditd's log and not at rsyslogd: {:?}",
        behind.len(),
        &behind[..behind.len().min(20)]
    );
    let outside: Vec<u64> = before
        .iter()
        .copied()
        .filter(|n| !steps.iter().any(|(step, range)| *step == Step::Restart && range.contains(n)))
        .collect();
    assert!(
        outside.is_empty(),
        "lost in front of an auditd that was there: {:?}",
        &outside[..outside.len().min(20)]
    );
}

#[test]
fn auditd_3_reloads_upgrades_restarts() {
    nothing_lost(System::Host);
}

#[test]
fn auditd_4_reloads_upgrades_restarts() {
    nothing_lost(System::Sid);
}
