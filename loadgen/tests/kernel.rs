//! Real load through the kernel's audit system and a real auditd, and the state that is left behind.
//!
//! Needs root, auditd and a kernel whose audit system nobody uses; where one is missing the tests are skipped with a
//! line that says so, or fail if `CI=true` or `AUDIT_RELAY_REQUIRE_LIVE=1`. Counts only, never times.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// The plugin: the built-in minimal relay, so that nothing but auditd is needed.
const PLUGIN: [&str; 5] = ["--", LOADGEN, "floor-child", "--to", "{to}"];

// ------------------------------------------------------------------------------------- the kernel's audit system

/// The audit system of the running kernel, for one test at a time of all on this machine.
struct KernelAudit {
    found: String,
    _lock: File,
}

impl KernelAudit {
    /// None: the test is skipped, and has said why.
    fn take() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return skip("not root");
        }
        for program in ["auditd", "auditctl"] {
            if !PATH.split(':').any(|folder| Path::new(folder).join(program).is_file()) {
                return skip(&format!("no program {program}"));
            }
        }
        // The relay's live tests take the same one.
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open("/run/audit-relay-live.lock")
            .unwrap();
        lock.lock().unwrap();
        let found = state();
        if !found.contains("\npid 0\n") || found.contains("enabled 2") || !found.ends_with("No rules\n") {
            return skip(&format!("the audit system is in use or not there:\n{found}"));
        }
        Some(Self { found, _lock: lock })
    }

    /// Fails if anything is not as it was.
    fn check_restored(&self) {
        assert_eq!(state(), self.found, "the audit state is not the one that was found");
    }
}

fn skip<T>(why: &str) -> Option<T> {
    let required = env::var("CI").is_ok_and(|value| value == "true")
        || env::var("AUDIT_RELAY_REQUIRE_LIVE").is_ok_and(|value| value == "1");
    assert!(!required, "this live test is required here and cannot run: {why}");
    let name = thread::current().name().unwrap_or("a live test").to_owned();
    // Not eprintln!: the test harness hides what a passing test prints with it.
    let _ = writeln!(io::stderr(), "SKIPPED {name}: {why}");
    None
}

/// Everything that has to be put back: the switches without the counters, and the rules.
fn state() -> String {
    let text = |argument: &str| {
        let output = Command::new("auditctl").arg(argument).env("PATH", PATH).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let counters = ["lost ", "backlog ", "backlog_wait_time_actual "];
    let status = text("-s");
    let kept = status.lines().filter(|line| !counters.iter().any(|name| line.starts_with(name)));
    format!("{}\n{}", kept.collect::<Vec<_>>().join("\n"), text("-l"))
}

fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

// ------------------------------------------------------------------------------------------------------ the runs

/// The command with a directory for everything it makes.
fn kernel(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(LOADGEN);
    command.arg("kernel").args(["--max-lag", "60s", "--linger", "5s", "--work"]).arg(directory).args(args);
    command
}

/// Runs to the end. Returns the exit code and the report.
fn run(args: &[&str]) -> (Option<i32>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output: Output =
        kernel(directory.path(), &["--json", json.to_str().unwrap()]).args(args).output().unwrap();
    let text = fs::read_to_string(&json)
        .unwrap_or_else(|_| panic!("no report of {args:?}: {}", String::from_utf8_lossy(&output.stderr)));
    fs::remove_file(&json).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the working directory was left behind");
    (output.status.code(), serde_json::from_str(&text).unwrap())
}

fn assert_clean(args: &[&str], events: u64) -> Value {
    let (code, report) = run(args);
    for (key, expected) in [("sent", events), ("received", events), ("lost", 0), ("duplicated", 0)] {
        assert_eq!(report[key], expected, "{key} of {args:?}: {report:#}");
    }
    // Storms carry no marks, so nothing can be said about their text.
    let of_storm = report["load"] != "user";
    assert_eq!(report["torn"], if of_storm { Value::Null } else { 0.into() }, "{report:#}");
    assert_eq!(report["generator"]["held"].is_null(), of_storm, "{report:#}");
    assert_eq!(report["kernel"]["lost"], 0, "{report:#}");
    assert_eq!(code, Some(0), "{report:#}");
    report
}

#[test]
fn user_messages_arrive_once_and_every_process_is_charged() {
    let Some(audit) = KernelAudit::take() else { return };
    for more in [&["--log-format", "enriched", "--to", "tcp"][..], &["--write-logs", "no", "--to", "unix"]] {
        let args = [&["--rate", "2000", "--count", "3000"], more, &PLUGIN].concat();
        let report = assert_clean(&args, 3000);
        assert_eq!(report["reordered"], 0);
        assert_eq!(report["records"], 3000);
        for role in ["kauditd", "auditd", "plugin", "loadgen"] {
            let of_role = |process: &&Value| process["role"] == role;
            let processes = report["processes"].as_array().unwrap();
            let process = processes.iter().find(of_role).unwrap_or_else(|| panic!("no {role}: {report:#}"));
            assert!(process["cpu_us_per_record"].as_f64().unwrap() > 0.0, "{process:#}");
        }
        assert!(report["relay_share_of_auditd"].as_f64().unwrap() > 0.0);
        assert!(report["auditd"]["version"].is_string(), "{report:#}");
        assert_eq!(report["auditd"]["q_depth"], 2000);
        assert!(report["auditd"]["queue_max"].is_u64(), "{report:#}");
        audit.check_restored();
    }
}

#[test]
fn storms_become_events_and_their_rule_is_gone_afterwards() {
    let Some(audit) = KernelAudit::take() else { return };
    // At least SYSCALL, EXECVE, CWD, two PATH, PROCTITLE; and without EXECVE and the second PATH.
    for (load, records) in [("exec", 6), ("open", 4)] {
        let args = [&["--load", load, "--rate", "200", "--count", "150"][..], &PLUGIN].concat();
        let report = assert_clean(&args, 150);
        assert!(report["records"].as_u64().unwrap() >= 150 * records, "{report:#}");
        assert_eq!((&report["incomplete"], &report["missing_records"]), (&0.into(), &serde_json::json!({})));
        assert!(report["restored"].as_str().unwrap().contains("1 rule removed"), "{report:#}");
        audit.check_restored();
    }
}

#[test]
fn what_a_plugin_loses_is_found() {
    let Some(audit) = KernelAudit::take() else { return };
    let plugin = format!("sed -u '/ lg=000.00000000[0-9a-f][05]/d' | exec {LOADGEN} floor-child --to {{to}}");
    let args = ["--rate", "1000", "--count", "256", "--", "/bin/sh", "-c", &plugin];
    let (code, report) = run(&args);
    assert_eq!(code, Some(1));
    assert_eq!((&report["received"], &report["lost"]), (&224.into(), &32.into()), "{report:#}");
    audit.check_restored();
}

#[test]
fn an_event_that_lacks_a_record_is_not_received() {
    let Some(audit) = KernelAudit::take() else { return };
    // GNU sed: of all lines up to the first that matches, those that match. The change of an open storm's rule has CWD, PATH
    // and PROCTITLE of its own, which come first.
    for (load, lost) in [("exec", "PATH"), ("exec", "EXECVE"), ("exec", "CWD"), ("open", "SYSCALL")] {
        // Of the SYSCALL lines, those of the rule only.
        let line =
            if lost == "SYSCALL" { "type=SYSCALL .*key=\"audit-loadgen" } else { &format!("type={lost} ") };
        let plugin = format!("sed -u '0,/{line}/{{/{line}/d}}' | exec {LOADGEN} floor-child --to {{to}}");
        let args =
            ["--load", load, "--rate", "200", "--count", "100", "--", "/bin/sh", "-c", plugin.as_str()];
        let (code, report) = run(&args);
        for (key, count) in
            [("sent", 100), ("received", 99), ("incomplete", 1), ("lost", 0), ("duplicated", 0)]
        {
            assert_eq!(report[key], count, "{key} without a {lost}: {report:#}");
        }
        assert_eq!(report["missing_records"], serde_json::json!({ lost: 1 }), "{report:#}");
        assert_eq!(code, Some(1));
        audit.check_restored();
    }
}

/// Starts a storm that outlasts any test, but not for ever, and waits until its rule is loaded and auditd has records of it.
fn endless(directory: &Path) -> std::process::Child {
    let args = [&["--load", "open", "--rate", "500", "--duration", "300"][..], &PLUGIN].concat();
    let mut child = kernel(directory, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = || -> Option<PathBuf> {
        let made = fs::read_dir(directory).ok()?.next()?.ok()?.path();
        Some(made.join("log/audit.log"))
    };
    let in_full_swing = wait_until(|| {
        let text = log().and_then(|file| fs::read(file).ok()).unwrap_or_default();
        String::from_utf8_lossy(&text).matches("type=SYSCALL").count() > 50
    });
    let rules = state();
    if !in_full_swing || !rules.contains("audit-loadgen-") {
        // Its guard puts everything back.
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        panic!("no storm: {} {rules}", String::from_utf8_lossy(&output.stderr));
    }
    child
}

#[test]
fn an_interrupted_run_reports_and_puts_everything_back() {
    let Some(audit) = KernelAudit::take() else { return };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().unwrap();
        let child = endless(directory.path());
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(128 + signal as i32));
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(
            table.contains("INTERRUPTED") && table.contains("audit state restored: 1 rule removed"),
            "{table}"
        );
        audit.check_restored();
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            0,
            "the working directory was left behind"
        );
    }
}

#[test]
fn a_killed_run_leaves_nothing_behind() {
    let Some(audit) = KernelAudit::take() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut child = endless(directory.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(wait_until(|| state() == audit.found), "left behind: {}", state());
    assert!(wait_until(|| fs::read_dir(directory.path()).unwrap().count() == 0));
}

#[test]
fn a_second_auditd_is_refused() {
    let Some(audit) = KernelAudit::take() else { return };
    let directory = tempfile::tempdir().unwrap();
    let first = endless(directory.path());
    let output = kernel(directory.path(), &PLUGIN).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("an auditd runs already") && said.contains("--attach"), "{said}");

    // What another's auditd cannot reach would lose everything.
    let nowhere = directory.path().join("nowhere");
    for args in [&["--to", "tcp"][..], &["--to", "tcp", "--sink-path", nowhere.to_str().unwrap()]] {
        let output = kernel(directory.path(), &[&["--attach"], args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--sink-path"), "{args:?}");
    }

    // Attached, it makes load and watches; the other's sink is no business of it.
    let json = directory.path().join("attached.json");
    let args = ["--attach", "--rate", "1000", "--count", "200", "--json", json.to_str().unwrap()];
    let output = kernel(directory.path(), &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&report["sent"], &report["received"]), (&200.into(), &Value::Null));
    assert_eq!(report["restored"], "audit state restored: nothing else was changed");
    assert!(report["relay_share_of_auditd"].as_f64().is_some());
    assert!(state().contains("audit-loadgen-"), "the other run's rule is still there");

    kill(Pid::from_raw(first.id().cast_signed()), Signal::SIGTERM).unwrap();
    first.wait_with_output().unwrap();
    audit.check_restored();
}

#[test]
fn several_runs_are_told_together_and_as_a_page_and_auditd_has_what_was_set() {
    let Some(audit) = KernelAudit::take() else { return };
    let directory = tempfile::tempdir().unwrap();
    let html = directory.path().join("page.html");
    let page = ["--html", html.to_str().unwrap(), "--auditd-set", "flush=NONE"];
    let args = [&["--runs", "3", "--rate", "1000", "--count", "300"], &page[..], &PLUGIN].concat();
    let report = assert_clean(&args, 300);
    assert_eq!(report["runs"].as_array().unwrap().len(), 3);
    assert_eq!(report["spread"]["lost"]["max"], 0.0);
    assert!(report["measured"]["setup"].as_str().unwrap().contains("flush NONE"), "{report:#}");
    let page = fs::read_to_string(&html).unwrap();
    for text in ["Median of 3 runs", "All of 300 user messages arrived", "Latency by percentile", "Processes"]
    {
        assert!(page.contains(text), "{text}");
    }
    // The axis of time begins with the run, not in 1970.
    assert!(page.contains("within each 100 ms"), "{page}");
    audit.check_restored();

    // A value that auditd knows and refuses: it came from its file.
    let output =
        kernel(directory.path(), &["--auditd-set", "flush=SOMETIMES"]).args(PLUGIN).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("starting auditd: it ended with exit status"), "{said}");
    audit.check_restored();
    for (set, reason) in
        [("q_depth=9", "an option of its own"), ("flush", "KEY=VALUE"), ("a=b c", "one word")]
    {
        let output = kernel(directory.path(), &["--auditd-set", set]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(reason), "{set}: {said}");
    }
}
