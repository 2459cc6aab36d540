//! The relay as a plugin of a real auditd, on the running kernel, sending to a real rsyslogd.
//!
//! Two auditds: the host's (Debian 12: 3.0.9) and the newest Debian's from the folder that `.ci/auditd-sid`
//! makes (4.2.1 when this was written). What rsyslogd wrote is compared with auditd's own log file, record by
//! record; and the relay is followed through everything auditd does to its plugins.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use live::{
    Auditd, Inlet, KernelAudit, LogFormat, Message, Need, Report, Rsyslogd, Setup, System, Wire, auditctl,
    command, expected_text, is_running, record_millis, record_type, send_signal, user_message, user_messages,
    wait_until,
};
use nix::sys::signal::Signal;

const HOST: &str = "relay-test.example";
const NODE: &str = "node-7.example";
/// The unprivileged user and group: what the relay becomes and what is refused access.
const NOBODY: u32 = 65534;

const NEEDS: [Need; 10] = [
    Need::Root,
    Need::Program("auditd"),
    Need::Program("auditctl"),
    Need::Program("rsyslogd"),
    Need::Program("setpriv"),
    Need::Program("unshare"),
    Need::Program("ip"),
    Need::Program("mkfifo"),
    Need::Program("mount"),
    Need::Program("setsid"),
];

// ---------------------------------------------------------------------------------------------------------
// The set-up: auditd, relay, rsyslogd, and the kernel for this test alone

/// Everything a test runs. Dropped in this order, so that the kernel is given back when no one uses it.
struct Rig {
    auditd: Auditd,
    rsyslogd: Rsyslogd,
    kernel: KernelAudit,
    dir: tempfile::TempDir,
    setup: Setup,
    url: String,
}

/// The relay's configuration file.
fn config(dir: &Path, url: &str, app: &str) -> String {
    let here = dir.display();
    format!(
        "to = [\"{url}\"]\nformat = \"rfc5424\"\nhostname = \"{HOST}\"\napp-name = \"{app}\"\n\
         user = \"nobody\"\nreport = \"{here}/report.json\"\nhandover = \"{here}/handover\"\n"
    )
}

impl Rig {
    /// None: the test is skipped, and has said why.
    fn start(setup: Setup, inlet: Inlet) -> Option<Self> {
        if !live::have(&NEEDS) || (setup.system == System::Sid && !live::have(&[Need::Sid])) {
            return None;
        }
        let kernel = KernelAudit::take()?;
        let dir = live::temp_dir();
        let rsyslogd = Rsyslogd::start(System::Host, dir.path());
        let url = rsyslogd.url(inlet);
        let auditd = Auditd::start(&setup, dir.path(), &config(dir.path(), &url, "auditd"));
        Some(Self { auditd, rsyslogd, kernel, dir, setup, url })
    }

    /// Changes APP-NAME in the relay's configuration file.
    fn rename_app(&self, app: &str) {
        fs::write(self.dir.path().join("relay.toml"), config(self.dir.path(), &self.url, app)).unwrap();
    }

    fn report(&self) -> Report {
        Report::read(&self.dir.path().join("report.json"))
    }

    /// Sends one user message and waits until rsyslogd has it: then it has all records before it, and nothing
    /// outside the test has meddled with them.
    fn settle(&self, mark: &str) {
        user_message(mark);
        let there = wait_until(Duration::from_secs(30), || {
            let file = fs::read(self.dir.path().join("received.jsonl")).unwrap_or_default();
            file.windows(mark.len()).any(|w| w == mark.as_bytes())
        });
        assert!(there, "{mark:?} did not reach rsyslogd; {} messages did", self.rsyslogd.messages().len());
        self.kernel.check_undisturbed(&self.auditd);
    }

    /// The log file's records as the relay has to write them.
    fn expected(&self) -> Vec<String> {
        let log = self.auditd.log();
        let lines = log.strip_suffix(b"\n").unwrap_or(&log).split(|&b| b == b'\n');
        let version = self.auditd.version();
        lines.filter_map(|line| delivered(&self.setup, &version, line)).collect()
    }
}

/// What has to arrive for a line of auditd's log file; none for what auditd does not give to plugins.
fn delivered(setup: &Setup, version: &str, line: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(&line[..line.len().min(100)]);
    let kind = record_type(&start);
    // The answer to a SIGHUP goes to the log file only.
    if kind == "DAEMON_CONFIG" {
        return None;
    }
    // auditd 4.2 and 4.2.1 lose the last 16 bytes of each record of the kernel where they pass it on raw.
    let raw = setup.log == LogFormat::Raw && setup.node.is_none();
    let cut = raw && ["4.2", "4.2.1"].contains(&version) && !kind.starts_with("DAEMON_");
    Some(expected_text(if cut { &line[..line.len() - 16] } else { line }))
}

/// Fails at the first place where the two differ, showing a little around it.
fn assert_same(arrived: &[String], expected: &[String]) {
    for (n, (a, e)) in arrived.iter().zip(expected).enumerate() {
        assert_eq!(a, e, "record {n} of {} (arrived, in the log file)", expected.len());
    }
    let extra: Vec<_> = arrived.iter().skip(expected.len()).take(3).collect();
    let missing: Vec<_> = expected.iter().skip(arrived.len()).take(3).collect();
    assert_eq!(arrived.len(), expected.len(), "arrived beyond: {extra:?}, not arrived: {missing:?}");
}

fn count(n: usize) -> u64 {
    n.try_into().unwrap()
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| m.text().to_owned()).collect()
}

/// Every header field of every message. The host is the node where records name one.
fn check_headers(messages: &[Message], host: &str, relay: u32) {
    let relay = relay.to_string();
    for m in messages {
        assert_eq!((m.facility.as_str(), m.severity.as_str()), ("local6", "info"), "{m:?}");
        assert_eq!((m.host.as_str(), m.app.as_str()), (host, "auditd"), "{m:?}");
        assert_eq!(m.pid, relay, "{m:?}");
        assert_eq!(m.msgid, record_type(m.text()), "{m:?}");
        let time: jiff::Timestamp = m.time.parse().unwrap();
        assert_eq!(time.as_microsecond(), record_millis(m.text()) * 1000, "{m:?}");
    }
}

// ---------------------------------------------------------------------------------------------------------
// Events

/// User messages of many kinds: plain ones, and what a user can do to a reader.
fn strange_user_messages(count: usize) -> Vec<(u16, Vec<u8>)> {
    let every_byte: Vec<u8> = (1..=255).filter(|&b| b != b'\n').collect();
    (0..count)
        .map(|n| {
            let kind = [1100, 1101, 1103, 1104, 1105, 1106, 1107, 1112, 1124, 1199, 2300, 2999][n % 12];
            let mut text = format!("op=live n={n} ").into_bytes();
            match n % 17 {
                0 => text.extend(b"exe=\"/usr/sbin/sshd\" hostname=? addr=? terminal=ssh res=success"),
                1 => text.extend(b"type=EOE msg=audit(1.000:1): not an end of event"),
                2 => text.extend("acct=\"J\u{fc}rgen \u{65e5}\u{672c}\u{8a9e} \u{1f600}\"".as_bytes()),
                3 => text.extend(b"two\x1dseparators\x1d\x1dAUID=\"root\" UID=\"root\""),
                4 => text.extend(&every_byte),
                5 => {
                    text.extend(b"tab\tand\ttab, bell\x07, escape\x1b[31mred\x1b[0m, delete\x7f \xc2\x9b31m")
                }
                6 => text.extend(b"line one\nline two\n<182>1 - evil evil - - - forged"),
                7 => text.extend(b"not UTF-8: \xff\xfe \xc3( \xed\xa0\x80 cut \xe6\x97"),
                8 => text.extend(vec![b'x'; 4000]),
                9 => text.extend(b"#035 #011 back\\slash 'quote' \"double\" {brace} [sd \"x\"]"),
                10 if n < 100 => text.extend(vec![b'y'; 8000]),
                // The kernel cuts it.
                13 if n < 50 => text.extend(vec![b'z'; 9500]),
                11 => text.extend(b"  spaces  inside and after   "),
                12 => text.truncate(0),
                _ => text.extend(format!("grantors=pam_unix acct=\"user{n}\" res=success").bytes()),
            }
            (kind, text)
        })
        .collect()
}

/// The rules under which [`events`] makes records; `work` is the folder it works in.
fn rules(work: &Path) -> Vec<String> {
    let this = std::process::id();
    let work = work.display();
    // The names that only some machines have beside their *at forms.
    let old = if cfg!(target_arch = "x86_64") { "-S open -S chmod -S chown -S mknod -S unlink " } else { "" };
    vec![
        format!("-a always,exit -F arch=b64 -S execve -F ppid={this} -k exec"),
        format!("-a always,exit -F arch=b64 -S socket -S connect -F pid={this} -k net"),
        format!(
            "-a always,exit -F arch=b64 {old}-S openat -S fchmodat -S fchownat -S mknodat -S unlinkat \
             -F dir={work} -k files -k second-key"
        ),
        "-a always,exit -F arch=b64 -S openat -F exit=-EACCES -k denied".into(),
        "-a always,exit -F arch=b64 -S mount -S umount2 -k mounts".into(),
        "-a always,exit -F arch=b64 -S clock_settime -S settimeofday -k clock".into(),
    ]
}

fn run(command: &mut Command) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap();
}

/// Several thousand records of real events.
fn events(work: &Path) {
    for n in 0..120 {
        run(command("true").arg(format!("plain-{n}")).arg("with blank").arg("quo\"te").arg("é"));
    }
    // More than one EXECVE record each: quoted and, for the blank in it, in hexadecimal.
    run(command("true").args(["A".repeat(9000), "B".repeat(9000), "C".repeat(9000)]));
    run(command("true").args(["a b".repeat(3000), "é".repeat(4500), "\n".repeat(9000)]));

    for n in 0..150 {
        let file = work.join(format!("file-{n}"));
        File::create(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
        assert!(File::open(work.join("does-not-exist")).is_err());
        fs::remove_file(&file).unwrap();
    }
    let names: [&[u8]; 6] =
        [b"two words", "grün".as_bytes(), b"line\nfeed", b"\xff\xfe", b"quo\"te", b"tab\tbell\x07"];
    for name in names {
        let file = work.join(std::ffi::OsStr::from_bytes(name));
        File::create(&file).unwrap();
        File::open(&file).unwrap();
        fs::remove_file(&file).unwrap();
    }
    run(command("mkfifo").arg(work.join("a fifo")));
    run(command("mknod").arg(work.join("null")).args(["c", "1", "3"]));

    for _ in 0..60 {
        // Nothing listens on port 1 here; that a connection fails is recorded all the same.
        let _ = TcpStream::connect(("127.0.0.1", 1));
        let _ = TcpStream::connect(("::1", 1));
        let _ = UnixStream::connect(work.join("no socket"));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:9").unwrap();
    }

    for n in 0..20 {
        auditctl(&["-m", &format!("message {n} of auditctl")]);
    }
    let rule = ["-F", "arch=b64", "-S", "reboot", "-k", "added-and-deleted"];
    for _ in 0..5 {
        auditctl(&[["-a", "always,exit"].as_slice(), &rule].concat());
        auditctl(&[["-d", "always,exit"].as_slice(), &rule].concat());
    }

    let mount = format!("mount -t tmpfs none '{0}' && umount '{0}'", work.display());
    run(command("unshare").args(["--mount", "sh", "-c", &mount]));
    run(command("unshare").args(["--net", "ip", "link", "set", "lo", "promisc", "on"]));
    // Refused to this user, so the clock stays.
    run(command("date").args(["--set", "2020-02-02 02:02:02"]).uid(NOBODY).gid(NOBODY));
    for _ in 0..20 {
        run(command("cat").arg("/etc/shadow").uid(NOBODY).gid(NOBODY));
    }
    run(command("sh").args(["-c", "echo 4242 > /proc/self/loginuid; exec true"]));
    run(command("sh").args(["-c", "ulimit -c 0; kill -SEGV $$"]));

    user_messages(strange_user_messages(1500));
}

// ---------------------------------------------------------------------------------------------------------
// Every record, in each form auditd has

fn delivers_all(system: System, log: LogFormat, wire: Wire, node: Option<&'static str>) {
    let setup = Setup { system, log, wire, node };
    let Some(mut rig) = Rig::start(setup, Inlet::UnixPlain) else {
        return;
    };
    let relay = rig.auditd.relay();
    let work = rig.dir.path().join("work");
    fs::create_dir(&work).unwrap();
    rig.kernel.load(&rules(&work));
    events(&work);
    rig.settle("live-end-of-events");
    assert_eq!(rig.auditd.relay(), relay, "the relay was started again");
    rig.auditd.stop();

    let expected = rig.expected();
    let messages = rig.rsyslogd.wait_for(expected.len(), Duration::from_secs(10));
    assert!(
        expected.len() > 5000,
        "too few records: {} in the log file, {} arrived; the last in the file: {:?}",
        expected.len(),
        messages.len(),
        expected.last()
    );
    check_kinds(&expected);

    // Also raw in binary, where a line feed inside a record comes through that auditd makes a blank elsewhere.
    assert_same(&texts(&messages), &expected);
    check_headers(&messages, node.unwrap_or(HOST), relay);

    let report = rig.report();
    report.check_sum();
    assert_eq!(report.undecodable, 0, "{report:?}");
    assert_eq!(report.destinations[0].sent, count(expected.len()), "{report:?}");
    assert_eq!(report.destinations[0].lost(), 0, "{report:?}");
    // One end of event for each event with a SYSCALL record; only the kernel's own first ones may be older.
    let events = expected.iter().filter(|text| record_type(text) == "PROCTITLE").count();
    assert!(report.filtered >= count(events) && report.filtered < count(events) + 10, "{events}: {report:?}");
}

/// Whether the events made what they were meant to make.
fn check_kinds(records: &[String]) {
    let mut kinds = BTreeMap::<&str, usize>::new();
    for record in records {
        *kinds.entry(record_type(record)).or_default() += 1;
    }
    for (kind, least) in [
        ("ANOM_ABEND", 1),
        ("ANOM_PROMISCUOUS", 1),
        ("CONFIG_CHANGE", 10),
        ("CRED_DISP", 100),
        ("CWD", 500),
        ("DAEMON_END", 1),
        ("DAEMON_START", 1),
        ("EXECVE", 120 + 4 + 6),
        ("LOGIN", 1),
        ("PATH", 1000),
        ("PROCTITLE", 700),
        ("SOCKADDR", 200),
        ("SYSCALL", 700),
        ("UNKNOWN[1199]", 100),
        ("USER", 20),
        ("USER_LOGIN", 100),
    ] {
        assert!(kinds.get(kind).is_some_and(|&n| n >= least), "{kind}: {least} wanted; {kinds:?}");
    }
    let in_record = |text: &str| records.iter().any(|record| record.contains(text));
    // Two keys on one rule, hexadecimal because of the byte between them; the start, as the end may be cut off.
    assert!(in_record("key=66696C6573017365"), "no record has two keys");
    assert!(in_record("6772C3BC6E"), "no file name in hexadecimal");
    assert!(in_record(&"4141".repeat(1000)), "no long argument");
}

macro_rules! delivers_all {
    ($($name:ident: $system:ident $log:ident $wire:ident $node:expr;)*) => {$(
        #[test]
        fn $name() {
            delivers_all(System::$system, LogFormat::$log, Wire::$wire, $node);
        }
    )*};
}

delivers_all! {
    host_text_enriched: Host Enriched Text None;
    host_text_enriched_node: Host Enriched Text Some(NODE);
    host_text_raw: Host Raw Text None;
    host_text_raw_node: Host Raw Text Some(NODE);
    host_binary_enriched: Host Enriched Binary None;
    host_binary_enriched_node: Host Enriched Binary Some(NODE);
    host_binary_raw: Host Raw Binary None;
    host_binary_raw_node: Host Raw Binary Some(NODE);
    newest_text_enriched: Sid Enriched Text None;
    newest_text_enriched_node: Sid Enriched Text Some(NODE);
    newest_text_raw: Sid Raw Text None;
    newest_text_raw_node: Sid Raw Text Some(NODE);
    newest_binary_enriched: Sid Enriched Binary None;
    newest_binary_enriched_node: Sid Enriched Binary Some(NODE);
    newest_binary_raw: Sid Raw Binary None;
    newest_binary_raw_node: Sid Raw Binary Some(NODE);
}

// ---------------------------------------------------------------------------------------------------------
// What auditd, and others, do to the relay

const PLAIN: fn(System) -> Setup =
    |system| Setup { system, log: LogFormat::Enriched, wire: Wire::Text, node: None };

macro_rules! on_both {
    ($($host:ident $newest:ident: $test:ident;)*) => {$(
        #[test]
        fn $host() {
            $test(System::Host);
        }

        #[test]
        fn $newest() {
            $test(System::Sid);
        }
    )*};
}

on_both! {
    host_relay_has_no_privilege newest_relay_has_no_privilege: has_no_privilege;
    host_reload_under_load newest_reload_under_load: reload_under_load;
    host_reload_while_the_receiver_is_away newest_reload_while_the_receiver_is_away: reload_while_the_receiver_is_away;
    host_name_turned_on_by_a_reload newest_name_turned_on_by_a_reload: name_turned_on_by_a_reload;
    host_stop_under_load newest_stop_under_load: stop_under_load;
    host_stranger_cannot_stop_it newest_stranger_cannot_stop_it: stranger_cannot_stop_it;
    host_killed_relay_is_replaced newest_killed_relay_is_replaced: killed_relay_is_replaced;
    host_auditd_killed newest_auditd_killed: auditd_killed;
}

/// A user message every half millisecond or so, from another thread, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<usize>>,
}

impl Load {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let text =
                    |n| (1105, format!("op=load n={n} grantors=pam_unix res=success {}", "-".repeat(99)));
                user_messages((sent..sent + 10).map(text).map(|(kind, text)| (kind, text.into_bytes())));
                sent += 10;
                thread::sleep(Duration::from_millis(5));
            }
            sent
        });
        Self { stop, thread: Some(thread) }
    }

    /// How many messages were sent.
    fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn signal_set(pid: u32, field: &str) -> Vec<Signal> {
    let bits = u64::from_str_radix(&status(pid, field), 16).unwrap();
    Signal::iterator().filter(|&signal| bits & (1 << (signal as i32 - 1)) != 0).collect()
}

/// auditd leaves nearly every signal ignored or blocked in its children; the relay must not keep that.
fn check_signals(relay: u32) {
    let ignored = signal_set(relay, "SigIgn");
    let wanted =
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGCONT];
    assert!(!ignored.iter().any(|s| wanted.contains(s)), "ignored: {ignored:?}");
    // Blocked are at most those that it reads from a signalfd.
    let waited_for = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
    let blocked = signal_set(relay, "SigBlk");
    assert!(blocked.iter().all(|s| waited_for.contains(s)), "blocked: {blocked:?}");
}

fn has_no_privilege(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::TcpOctet) else {
        return;
    };
    rig.settle("live-relay-works");
    let relay = rig.auditd.relay();
    let nobody = format!("{NOBODY} {NOBODY} {NOBODY} {NOBODY}");
    for task in fs::read_dir(format!("/proc/{relay}/task")).unwrap() {
        // Identity is a thread's, not a process's.
        let task = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert_eq!(status(task, "Uid"), nobody);
        assert_eq!(status(task, "Gid"), nobody);
        assert_eq!(status(task, "Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(task, set), "0000000000000000", "{set}");
        }
        assert_eq!(status(task, "NoNewPrivs"), "1");
    }
    check_signals(relay);
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{relay}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .collect();
    let audit_log = rig.dir.path().join("log/audit.log");
    assert!(!open.contains(&audit_log), "the relay holds auditd's log file: {open:?}");
    rig.auditd.stop();
}

/// SIGHUP to auditd while records pour in. Up to 4.1 the relay gets it too and reads its configuration again;
/// from 4.2 on it is stopped and another one is started. Either way no record is lost, doubled or moved.
fn reload_under_load(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::UnixPlain) else {
        return;
    };
    let first = rig.auditd.relay();
    let load = Load::start();
    rig.settle("live-before-reload");
    rig.rename_app("reloaded");
    rig.auditd.signal(Signal::SIGHUP);
    let renamed = || rig.rsyslogd.messages().iter().any(|m| m.app == "reloaded");
    assert!(wait_until(Duration::from_secs(10), renamed), "no message under the new configuration");
    thread::sleep(Duration::from_millis(500));
    let sent = load.finish();
    rig.settle("live-after-reload");
    let second = rig.auditd.relay();
    let version = rig.auditd.version();
    let restarts = !(version.starts_with("3.") || version.starts_with("4.0") || version.starts_with("4.1"));
    assert_eq!(first != second, restarts, "auditd {version}: relay {first}, then {second}");
    check_signals(second);
    rig.auditd.stop();

    let expected = rig.expected();
    let messages = rig.rsyslogd.wait_for(expected.len(), Duration::from_secs(10));
    assert_same(&texts(&messages), &expected);
    // Written to the log file and not given to plugins, on both; `expected` knows.
    assert!(
        String::from_utf8_lossy(&rig.auditd.log()).contains("type=DAEMON_CONFIG "),
        "auditd did not reload"
    );
    let of_load = expected.iter().filter(|text| text.contains("op=load n=")).count();
    assert_eq!(of_load, sent, "auditd's log file is not whole");
    // Each message says who sent it and under which configuration, and there is one switch of each.
    let change = messages.iter().position(|m| m.app == "reloaded").unwrap();
    assert!(messages[..change].iter().all(|m| m.app == "auditd" && m.pid == first.to_string()));
    assert!(messages[change..].iter().all(|m| m.app == "reloaded" && m.pid == second.to_string()));
    rig.report().check_sum();
}

/// auditd reloads while the receiver is away. Up to 4.1 the relay goes on and keeps what waits; from 4.2 on it is
/// stopped, hands over what waits, and the next one sends it first.
fn reload_while_the_receiver_is_away(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::TcpOctet) else {
        return;
    };
    rig.settle("live-before-reload");
    let first = rig.auditd.relay();
    rig.rsyslogd.stop();
    user_messages(
        (0..500).map(|n| (1107, format!("op=away n={n} and sixteen bytes that may go").into_bytes())),
    );
    // The relay has them all a moment after auditd's own log.
    let logged = || String::from_utf8_lossy(&rig.auditd.log()).contains("op=away n=499 ");
    assert!(wait_until(Duration::from_secs(10), logged), "auditd did not log the messages");
    thread::sleep(Duration::from_millis(500));
    rig.auditd.signal(Signal::SIGHUP);
    let version = rig.auditd.version();
    let restarts = !(version.starts_with("3.") || version.starts_with("4.0") || version.starts_with("4.1"));
    if restarts {
        let second = || rig.auditd.relays().iter().any(|&pid| pid != first) && !is_running(first);
        assert!(wait_until(Duration::from_secs(10), second), "auditd started no other relay");
    }
    rig.rsyslogd.start_again();
    rig.settle("live-after-reload");
    let second = rig.auditd.relay();
    rig.auditd.stop();
    let expected = rig.expected();
    let mut messages = rig.rsyslogd.wait_for(expected.len(), Duration::from_secs(10));
    // auditd's word on a reload that has changed nothing does reach plugins.
    messages.retain(|m| record_type(m.text()) != "DAEMON_CONFIG");
    assert_same(&texts(&messages), &expected);
    let away: Vec<_> = messages.iter().filter(|m| m.msg.contains("op=away")).collect();
    assert_eq!(away.len(), 500);
    assert!(away.iter().all(|m| m.pid == first.to_string()), "written by the first relay");
    assert_eq!(messages.last().unwrap().pid, second.to_string());
    rig.report().check_sum();
}

/// auditd finds out its own name when it starts, and not when a reload asks for it (seen from 2.8.5 to 4.2.1): then it writes
/// `node=(null)`. Those are this machine's records all the same.
fn name_turned_on_by_a_reload(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::TcpOctet) else {
        return;
    };
    rig.settle("live-before-reload");
    let file = rig.dir.path().join("etc/auditd.conf");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("name_format = NONE", "name_format = HOSTNAME")).unwrap();
    rig.auditd.signal(Signal::SIGHUP);
    let named = || {
        user_message("op=is-there-a-name");
        String::from_utf8_lossy(&rig.auditd.log()).contains("\nnode=")
    };
    assert!(wait_until(Duration::from_secs(10), named), "auditd did not reload");
    rig.settle("live-after-reload");
    rig.auditd.stop();
    let expected = rig.expected();
    let messages = rig.rsyslogd.wait_for(expected.len(), Duration::from_secs(10));
    assert_same(&texts(&messages), &expected);
    assert!(messages.iter().any(|m| m.text().starts_with("node=")), "no record with a name");
    let others: Vec<_> = messages.iter().filter(|m| m.host != HOST).collect();
    assert_eq!(others.len(), 0, "taken for another machine's: {:?}", others.first());
}

/// auditd is stopped while records pour in. What is still in its own queue it throws away; what it has given
/// to the relay arrives.
fn stop_under_load(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::UnixPlain) else {
        return;
    };
    let load = Load::start();
    rig.settle("live-before-stop");
    rig.auditd.stop();
    load.finish();

    let report = rig.report();
    report.check_sum();
    assert_eq!(report.destinations[0].lost(), 0, "{report:?}");
    let sent = report.destinations[0].sent;
    let messages = rig.rsyslogd.wait_for(sent.try_into().unwrap(), Duration::from_secs(10));
    assert_eq!(count(messages.len()), sent, "{report:?}");
    // In the order of the log file, without gaps before the end.
    let expected = rig.expected();
    let arrived = texts(&messages);
    let until = arrived.iter().position(|text| record_type(text) == "DAEMON_END").unwrap_or(arrived.len());
    assert_same(&arrived[..until], &expected[..until]);
}

/// A signal that did not come from auditd stops nothing, whoever sends it.
fn stranger_cannot_stop_it(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::TcpOctet) else {
        return;
    };
    rig.settle("live-before-signal");
    let relay = rig.auditd.relay();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTERM] {
        send_signal(relay, signal);
        thread::sleep(Duration::from_millis(100));
    }
    rig.settle("live-after-signal");
    assert_eq!(rig.auditd.relays(), [relay]);
    rig.auditd.stop();
    let expected = rig.expected();
    assert_same(&texts(&rig.rsyslogd.wait_for(expected.len(), Duration::from_secs(10))), &expected);
    rig.report().check_sum();
}

/// The relay dies: auditd starts another with the next record, and on 3.0.9 with every signal blocked. That
/// one too has to work and to stop when auditd does.
fn killed_relay_is_replaced(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::UnixPlain) else {
        return;
    };
    rig.settle("live-before-kill");
    let first = rig.auditd.relay();
    send_signal(first, Signal::SIGKILL);
    assert!(wait_until(Duration::from_secs(5), || !is_running(first)));
    // auditd notices when it writes, so this record finds out and is sent again.
    user_message("live-finds-out");
    let second = || rig.auditd.relays().iter().copied().find(|&pid| pid != first);
    assert!(wait_until(Duration::from_secs(5), || second().is_some()), "auditd started no other relay");
    rig.settle("live-after-kill");
    let second = second().unwrap();
    check_signals(second);
    assert_eq!(status(second, "Groups"), "");
    assert_eq!(status(second, "CapEff"), "0000000000000000");
    rig.auditd.stop();
    let expected = rig.expected();
    let messages = rig.rsyslogd.wait_for(expected.len(), Duration::from_secs(10));
    assert_same(&texts(&messages), &expected);
    assert_eq!(messages.last().unwrap().pid, second.to_string());
}

/// auditd dies: the relay sees the end of its input and nothing else, delivers the rest and goes.
fn auditd_killed(system: System) {
    let Some(mut rig) = Rig::start(PLAIN(system), Inlet::TcpOctet) else {
        return;
    };
    let load = Load::start();
    rig.settle("live-before-kill");
    rig.auditd.kill();
    load.finish();
    let report = rig.report();
    report.check_sum();
    assert_eq!(report.destinations[0].lost(), 0, "{report:?}");
    let sent = report.destinations[0].sent;
    let messages = rig.rsyslogd.wait_for(sent.try_into().unwrap(), Duration::from_secs(10));
    assert_eq!(count(messages.len()), sent, "{report:?}");
    // auditd may have died between writing its file and feeding the relay, or the other way round.
    let (arrived, expected) = (texts(&messages), rig.expected());
    let both = arrived.len().min(expected.len());
    assert_same(&arrived[..both], &expected[..both]);
}
