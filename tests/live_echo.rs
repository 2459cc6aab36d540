//! The relay under a real auditd, with a rule on the very calls that it sends with: what it sends makes records,
//! which it sends. That must not run away, and the shipped rules must keep it from beginning.
//!
//! Counts only. The relay's own uptime says how many seconds they are of, however slow the machine is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use live::{
    Auditd, Inlet, KernelAudit, LogFormat, Need, Report, Rsyslogd, Setup, System, Wire, auditctl, command,
    record_type, user_message, user_messages, wait_until,
};

/// Whom the relay becomes.
const NOBODY: u32 = 65534;

const NEEDS: [Need; 6] = [
    Need::Root,
    Need::Program("auditd"),
    Need::Program("auditctl"),
    Need::Program("rsyslogd"),
    Need::Program("setpriv"),
    Need::Program("setsid"),
];

/// So many records of its own a second are no echo that grows. What is left of one is one sending a second, of two calls
/// (the write and the runtime's wake-up), plus two calls for each report that the test asks for: 12 in 5 s, measured on
/// both transports and both auditds. Each record of somebody else's adds a sending. Without the hold (`ingest/echo`) it was 200,
/// without the rests (`output/datagram`) and with a slow receiver 1,400.
const MODEST: f64 = 10.0;

/// User records that set the echo off.
const STIMULUS: usize = 1000;

/// How long the echo is watched.
const WATCHED: Duration = Duration::from_secs(5);

const SNIPPET: &str = include_str!("../packaging/rules.d/10-audit-relay.rules");

/// Everything a test runs. Dropped in this order, so that the kernel is given back when no one uses it.
struct Rig {
    auditd: Auditd,
    rsyslogd: Rsyslogd,
    kernel: KernelAudit,
    dir: tempfile::TempDir,
}

impl Rig {
    /// Without an inlet the relay sends to a [`slow_receiver`]. None: the test is skipped, and has said why.
    fn start(system: System, inlet: Option<Inlet>) -> Option<Self> {
        if !live::have(&NEEDS)
            || (system == System::Sid && !live::have(&[Need::Sid, Need::Program("unshare")]))
        {
            return None;
        }
        let kernel = KernelAudit::take()?;
        let dir = live::temp_dir();
        let rsyslogd = Rsyslogd::start(System::Host, dir.path());
        let setup = Setup { system, log: LogFormat::Enriched, wire: Wire::Text, node: None };
        let config = format!(
            "to = [\"{}\"]\nuser = \"nobody\"\nlog = \"stderr\"\nreport = \"{}\"\nhandover = \"off\"\n",
            inlet.map_or_else(|| slow_receiver(dir.path()), |inlet| rsyslogd.url(inlet)),
            dir.path().join("report.json").display()
        );
        let auditd = Auditd::start_heard(&setup, dir.path(), &config);
        Some(Self { auditd, rsyslogd, kernel, dir })
    }

    /// The copy of the relay that this auditd runs.
    fn binary(&self) -> PathBuf {
        self.dir.path().join("audit-relay")
    }

    /// How records name it.
    fn exe(&self) -> String {
        format!("exe=\"{}\"", self.binary().display())
    }

    /// A rule on all that the relay sends and writes with. Of this relay alone: rsyslogd's calls would make an echo too,
    /// and other tests' relays run as the same account.
    fn listen(&self, who: &str) {
        let calls = "-S sendto -S sendmsg -S sendmmsg -S write -S writev";
        let binary = self.binary();
        self.kernel
            .load(&[format!("-a always,exit -F arch=b64 {calls} -F exe={}{who} -k echo", binary.display())]);
    }

    /// Sends the stimulus, and waits until the last of it is at rsyslogd.
    fn stimulate(&self) {
        let text = |n| (1107, format!("op=stimulus n={n} and sixteen bytes that may go").into_bytes());
        user_messages((0..STIMULUS).map(text));
        self.settle("live-echo-end-of-stimulus");
    }

    fn settle(&self, mark: &str) {
        user_message(mark);
        let there = wait_until(Duration::from_secs(30), || {
            let file = fs::read(self.dir.path().join("received.jsonl")).unwrap_or_default();
            file.windows(mark.len()).any(|w| w == mark.as_bytes())
        });
        assert!(there, "{mark:?} did not reach rsyslogd; {} messages did", self.rsyslogd.messages().len());
    }

    fn ask(&self) -> Report {
        Report::ask(self.auditd.relay(), &self.dir.path().join("report.json"))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("relay.stderr")).unwrap()
    }

    /// How often the relay has warned of its own records, and named what helps.
    fn warnings(&self) -> usize {
        let said = self.said();
        let warnings = said.matches("records the relay's own system calls").count();
        assert_eq!(warnings, said.matches("packaging/rules.d/10-audit-relay.rules").count(), "{said}");
        warnings
    }
}

/// Lets the echo of the stimulus die away, then watches what is left of it.
fn converges(system: System, inlet: Option<Inlet>) {
    let Some(mut rig) = Rig::start(system, inlet) else {
        return;
    };
    rig.listen(&format!(" -F uid={NOBODY}"));
    rig.stimulate();
    let mut last = rig.ask();
    let died_away = wait_until(Duration::from_secs(60), || {
        thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, rig.ask());
        is_modest(&before, &last)
    });
    assert!(died_away, "the echo goes on: {last:?}");
    thread::sleep(WATCHED);
    let end = rig.ask();
    assert!(end.own > 0, "the rule records nothing: {end:?}");
    assert!(is_modest(&last, &end), "the echo has begun anew: {last:?}, {end:?}");
    rig.auditd.stop();
    assert_eq!(rig.warnings(), 1, "{}", rig.said());
    // Passed on like all others.
    let report = Report::read(&rig.dir.path().join("report.json"));
    report.check_sum();
    assert_eq!(report.destinations[0].lost(), 0, "{report:?}");
    if inlet.is_none() {
        return;
    }
    let own = rig.rsyslogd.wait_for(usize::try_from(report.destinations[0].sent).unwrap(), WATCHED);
    let own = own.iter().filter(|m| record_type(m.text()) == "SYSCALL" && m.msg.contains(&rig.exe())).count();
    assert!(own as u64 >= report.own, "{own} records of its own arrived: {report:?}");
}

/// True if the relay has made at most [`MODEST`] records of its own a second between the two.
fn is_modest(before: &Report, after: &Report) -> bool {
    let seconds = after.uptime_seconds - before.uptime_seconds;
    (after.own - before.own) as f64 <= MODEST * (seconds + 1.0)
}

/// A datagram socket whose reader needs a millisecond for a message: its queue is full while there is anything to send,
/// and each place that falls free could be a call. What it reads goes where rsyslogd's messages go.
fn slow_receiver(dir: &Path) -> String {
    let path = dir.join("slow");
    let socket = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut file = File::options().create(true).append(true).open(dir.join("received.jsonl")).unwrap();
    let url = format!("unix:{}", path.display());
    thread::spawn(move || {
        let mut message = [0; 8192];
        while path.exists() {
            if let Ok(length) = socket.recv(&mut message) {
                file.write_all(&message[..length]).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    url
}

#[test]
fn host_slow_unix() {
    converges(System::Host, None);
}

#[test]
fn host_tcp() {
    converges(System::Host, Some(Inlet::TcpOctet));
}

#[test]
fn host_unix() {
    converges(System::Host, Some(Inlet::UnixPlain));
}

#[test]
fn newest_tcp() {
    converges(System::Sid, Some(Inlet::TcpOctet));
}

#[test]
fn newest_unix() {
    converges(System::Sid, Some(Inlet::UnixPlain));
}

/// With the shipped rules in front none of it is recorded, and all else of this program and account still is.
#[test]
fn the_shipped_rules_keep_it_from_beginning() {
    let Some(mut rig) = Rig::start(System::Host, Some(Inlet::UnixPlain)) else {
        return;
    };
    rig.listen("");
    let rules: Vec<String> = SNIPPET
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.replace("/usr/sbin/audit-relay", rig.binary().to_str().unwrap()))
        .collect();
    assert_eq!(rules.len(), 1, "{rules:?}");
    assert!(rules[0].contains(&format!("-F uid={NOBODY}")), "{rules:?}");
    // What ran before the rules were complete has been recorded.
    rig.settle("live-echo-rules-are-loaded-next");
    rig.kernel.load(&rules);
    rig.settle("live-echo-rules-are-loaded");
    let first = rig.ask();
    rig.stimulate();
    assert!(command(rig.binary().to_str().unwrap()).arg("--version").status().unwrap().success());
    rig.settle("live-echo-root-has-run-it");
    let second = rig.ask();
    assert_eq!(second.own, first.own, "{second:?}");
    let stimulus = second.read - first.read;
    assert!(stimulus >= STIMULUS as u64, "{second:?}");
    let log = String::from_utf8_lossy(&rig.auditd.log()).into_owned();
    let of_root = |line: &&str| {
        line.starts_with("type=SYSCALL") && line.contains(&rig.exe()) && line.contains(" uid=0 ")
    };
    assert!(log.lines().filter(of_root).count() > 0, "the program run by root is not recorded");
    // Without them it is: the rule does record.
    auditctl(&rules[0].replacen("-A ", "-d ", 1).split(' ').collect::<Vec<_>>());
    rig.settle("live-echo-rules-are-gone");
    rig.settle("live-echo-once-more");
    assert!(rig.ask().own > second.own, "nothing is recorded without the shipped rules either");
    rig.auditd.stop();
}
