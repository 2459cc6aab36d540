//! The relay as the program behind a real audisp-filter behind a real auditd (the newest Debian's: the filter came with
//! audit-userspace 4.0.1): events that the filter drops do not come, all others come whole, and the relay lives and ends
//! with the filter as it would with auditd.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use live::{
    Auditd, Inlet, KernelAudit, LogFormat, Message, Need, Report, Rsyslogd, Setup, System, Wire, command,
    expected_text, record_type, user_messages, wait_until,
};
use nix::sys::signal::Signal;

const HOST: &str = "relay-test.example";

const SETUP: Setup = Setup { system: System::Sid, log: LogFormat::Enriched, wire: Wire::Text, node: None };

/// The sample configuration, put in place by [`Auditd::start_filtered`].
const EXPRESSIONS: &str = include_str!("../packaging/plugins.d/audit-relay-filter.rules");

struct Rig {
    auditd: Auditd,
    rsyslogd: Rsyslogd,
    kernel: KernelAudit,
    dir: tempfile::TempDir,
}

fn config(dir: &Path, url: &str, more: &str) -> String {
    let here = dir.display();
    format!(
        "to = [\"{url}\"]\nformat = \"rfc5424\"\nhostname = \"{HOST}\"\n\
         report = \"{here}/report.json\"\nhandover = \"{here}/handover\"\n{more}"
    )
}

impl Rig {
    /// None: the test is skipped, and has said why.
    fn start(expressions: &str) -> Option<Self> {
        let needs = [
            Need::Root,
            Need::Sid,
            Need::Program("auditctl"),
            Need::Program("rsyslogd"),
            Need::Program("setpriv"),
            Need::Program("unshare"),
            Need::Program("setsid"),
        ];
        if !live::have(&needs) {
            return None;
        }
        let kernel = KernelAudit::take()?;
        let dir = live::temp_dir();
        let rsyslogd = Rsyslogd::start(System::Host, dir.path());
        let config = config(dir.path(), &rsyslogd.url(Inlet::TcpOctet), "");
        let auditd = Auditd::start_filtered(&SETUP, dir.path(), &config, expressions);
        Some(Self { auditd, rsyslogd, kernel, dir })
    }

    fn texts(&self) -> Vec<String> {
        self.rsyslogd.messages().iter().map(|m| m.text().to_owned()).collect()
    }

    /// Waits until a record with this word has arrived.
    fn wait_for(&self, word: &str) {
        let there = wait_until(Duration::from_secs(20), || {
            let file = fs::read(self.dir.path().join("received.jsonl")).unwrap_or_default();
            file.windows(word.len()).any(|w| w == word.as_bytes())
        });
        assert!(there, "{word:?} did not arrive; the relay said: {}", self.auditd.relay_said());
    }

    /// The records of auditd's log whose events the filter lets through, in the order of the log.
    fn expected(&self, dropped: impl Fn(&str) -> bool) -> Vec<String> {
        let log = self.auditd.log();
        let lines = log.strip_suffix(b"\n").unwrap_or(&log).split(|&b| b == b'\n');
        // auparse keeps what is before the separator, so the names that auditd has added do not come through.
        let bare = |line: &[u8]| line.split(|&b| b == 0x1d).next().map(expected_text).unwrap_or_default();
        let records: Vec<String> = lines.map(bare).collect();
        let out: Vec<String> =
            records.iter().filter(|text| dropped(text)).map(|text| event(text).to_owned()).collect();
        let kept = |text: &String| {
            // The answer to a SIGHUP goes to the log file only.
            !out.contains(&event(text).to_owned()) && !["EOE", "DAEMON_CONFIG"].contains(&record_type(text))
        };
        records.into_iter().filter(kept).collect()
    }
}

/// What the records of one event have in common.
fn event(text: &str) -> &str {
    text.split_once(" msg=audit(").map_or("", |(_, rest)| rest.split(')').next().unwrap_or_default())
}

/// A user message of this type, with room for what the filter or auditd might take off its end.
fn say(kind: u16, word: &str) {
    user_messages([(kind, format!("op={word} acct=\"root\" exe=\"/usr/bin/x\" res=success").into_bytes())]);
}

fn run_true(word: &str) {
    command("true").arg(word).stdout(Stdio::null()).status().unwrap();
}

/// Types of the messages in the test's own use.
const TRUSTED_APP: u16 = 1121;
const CRYPTO_SESSION: u16 = 2407;

fn check_headers(messages: &[Message]) {
    for m in messages {
        assert_eq!((m.facility.as_str(), m.severity.as_str()), ("local6", "info"), "{m:?}");
        assert_eq!((m.host.as_str(), m.app.as_str()), (HOST, "auditd"), "{m:?}");
        assert_eq!(m.msgid, record_type(m.text()), "{m:?}");
    }
}

#[test]
fn what_the_filter_lets_through_arrives_whole() {
    let Some(mut rig) = Rig::start(EXPRESSIONS) else { return };
    let relay = rig.auditd.relay();
    rig.kernel
        .load(&[format!("-a always,exit -F arch=b64 -S execve -F ppid={} -k exec", std::process::id())]);
    for n in 0..50 {
        run_true(&format!("kept-{n}"));
        // The sample drops these.
        say(CRYPTO_SESSION, &format!("dropped-{n}"));
        say(TRUSTED_APP, &format!("said-{n}"));
    }
    // Several EXECVE records in one event, the longest there are.
    command("true").args(["A".repeat(9000), "a b".repeat(3000)]).stdout(Stdio::null()).status().unwrap();
    user_messages([(TRUSTED_APP, [b"op=long ".as_slice(), &[b'y'; 8500]].concat())]);
    say(TRUSTED_APP, "the-last-one");
    rig.wait_for("the-last-one");
    // uid 0 without a capability is what the filter makes of us, and the relay says that it is.
    let status = fs::read_to_string(format!("/proc/{relay}/status")).unwrap();
    let value =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    assert_eq!((value("Uid:"), value("CapBnd:")), ("0\t0\t0\t0", "0000000000000000"), "{status}");
    assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1", "2"), "{status}");
    assert!(rig.auditd.relay_said().contains("running as root without capabilities"));
    assert_eq!(rig.auditd.relay(), relay, "the relay was started again");
    rig.auditd.stop();

    let expected = rig.expected(|text| record_type(text) == "CRYPTO_SESSION");
    let messages = rig.rsyslogd.wait_for(expected.len(), Duration::from_secs(10));
    let mut arrived: Vec<String> = messages.iter().map(|m| m.text().to_owned()).collect();
    assert!(expected.len() > 300, "{}", expected.len());
    // auparse hands an event on when it is complete, one record or many, so the order between events may change.
    let mut expected = expected;
    arrived.sort_unstable();
    expected.sort_unstable();
    let differ = arrived.iter().zip(&expected).find(|(a, e)| a != e);
    assert!(
        differ.is_none() && arrived.len() == expected.len(),
        "{} of {}: {differ:?}",
        arrived.len(),
        expected.len()
    );
    check_headers(&messages);
    let report = Report::read(&rig.dir.path().join("report.json"));
    report.check_sum();
    assert_eq!((report.undecodable, report.destinations[0].lost()), (0, 0), "{report:?}");
}

/// Of the records `word-0` to `word-199`, how many have not arrived; each came once at most, and those that did not
/// come follow one another.
fn gap(texts: &[String], word: &str) -> usize {
    let count = |n: usize| texts.iter().filter(|text| text.contains(&format!("op={word}-{n} "))).count();
    let counts: Vec<usize> = (0..200).map(count).collect();
    assert!(counts.iter().all(|&n| n <= 1), "{word}: doubled: {counts:?}");
    let missing: Vec<usize> = (0..200).filter(|&n| counts[n] == 0).collect();
    assert!(missing.windows(2).all(|w| w[0] + 1 == w[1]), "{word}: more than one gap: {missing:?}");
    missing.len()
}

#[test]
fn a_reload_changes_the_filter_and_the_relay_loses_nothing() {
    let Some(mut rig) = Rig::start(EXPRESSIONS) else { return };
    for n in 0..200 {
        say(TRUSTED_APP, &format!("before-{n}"));
    }
    let first = rig.auditd.relay();
    rig.auditd.filter_by("type r= TRUSTED_APP && op i= unwanted\n");
    rig.auditd.signal(Signal::SIGHUP);
    // auditd 4.2 starts its plugins anew.
    assert!(wait_until(Duration::from_secs(20), || rig.auditd.relays().iter().any(|pid| *pid != first)));
    say(CRYPTO_SESSION, "no-longer-dropped");
    for n in 0..200 {
        say(TRUSTED_APP, &format!("behind-{n}"));
    }
    say(TRUSTED_APP, "the-last-one");
    rig.wait_for("the-last-one");
    rig.wait_for("no-longer-dropped");
    rig.auditd.stop();
    // What waits in the filter's own queue when auditd's TERM comes, audisp-filter 4.2.1 throws away: seldom, one run of
    // records, behind which come those that auditd has for the next filter. Never anything that it has handed on: the
    // relay's own account is even.
    let texts = rig.texts();
    let thrown_away = gap(&texts, "before");
    eprintln!("the filter threw {thrown_away} of 200 away");
    assert_eq!(gap(&texts, "behind"), 0);
    let said = rig.auditd.relay_said();
    let read: usize = said
        .lines()
        .filter_map(|line| line.split_once(" read ")?.1.split(',').next()?.parse::<usize>().ok())
        .sum();
    assert_eq!(read, texts.len(), "the filter threw {thrown_away} away; {said}");
    assert_eq!(said.matches("in flight 0").count(), 2, "{said}");
}

#[test]
fn what_the_filter_hands_on_at_the_stop_arrives() {
    let Some(mut rig) = Rig::start(EXPRESSIONS) else { return };
    rig.kernel
        .load(&[format!("-a always,exit -F arch=b64 -S execve -F ppid={} -k exec", std::process::id())]);
    for n in 0..100 {
        run_true(&format!("late-{n}-"));
    }
    // At once: the filter gets TERM with events in hand.
    rig.auditd.stop();
    let report = Report::read(&rig.dir.path().join("report.json"));
    report.check_sum();
    let sent = usize::try_from(report.destinations[0].sent).unwrap();
    assert_eq!((report.read, report.filtered), (report.destinations[0].sent, 0), "{report:?}");
    assert_eq!(rig.rsyslogd.wait_for(sent, Duration::from_secs(10)).len(), sent);
    let texts = rig.texts();
    assert!(texts.iter().any(|text| text.contains("late-0-")), "{sent}");
}

#[test]
fn a_dead_receiver_does_not_hold_up_the_filter() {
    let Some(mut rig) = Rig::start(EXPRESSIONS) else { return };
    say(TRUSTED_APP, "first-of-all");
    rig.wait_for("first-of-all");
    rig.rsyslogd.stop();
    // Far more than the pipe (64 KiB), auditd's socket and the smallest queue hold together.
    let config = config(rig.dir.path(), &rig.rsyslogd.url(Inlet::TcpOctet), "queue-size = \"256KiB\"\n");
    fs::write(rig.dir.path().join("relay.toml"), config).unwrap();
    let relay = rig.auditd.relay();
    rig.auditd.signal(Signal::SIGHUP);
    assert!(wait_until(Duration::from_secs(20), || rig.auditd.relays().iter().any(|pid| *pid != relay)));
    assert!(wait_until(Duration::from_secs(20), || rig.auditd.relays().len() == 1));
    for n in 0..4000 {
        say(TRUSTED_APP, &format!("flood-{n} pad={}", "x".repeat(200)));
    }
    let relay = rig.auditd.relay();
    let file = rig.dir.path().join("report.json");
    let lost =
        wait_until(Duration::from_secs(20), || Report::ask(relay, &file).destinations[0].lost() > 1000);
    assert!(lost, "the relay waits for its receiver: {:?}", Report::ask(relay, &file));
    rig.rsyslogd.start_again();
    rig.wait_for("LOST");
    rig.auditd.stop();
}

#[test]
fn another_account_that_cannot_be_had_is_refused() {
    let needs = [Need::Root, Need::Program("setpriv")];
    if !live::have(&needs) {
        return;
    }
    // As the filter starts it: uid 0, no capability to get any from.
    let relay = |user: &[&str]| {
        command("setpriv")
            .args(["--bounding-set", "-all", "--inh-caps", "-all"])
            .arg(live::relay_binary())
            .args(["--config", "none", "--to", "stdout:"])
            .args(user)
            .output()
            .unwrap()
    };
    let output = relay(&["--user", "nobody"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(said.contains("cannot become `nobody`") && said.contains("audisp-filter"), "{said}");
    for user in [&[][..], &["--user", "root"]] {
        let output = relay(user);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("running as root without capabilities"), "{said}");
    }
}
