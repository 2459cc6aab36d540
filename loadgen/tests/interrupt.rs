//! Runs that a signal ends before their time: what was measured is told, and nothing is left behind.
//!
//! Counts only, never times: the machine that runs the tests may be busy.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");
/// How long anything may take.
const LONG: Duration = Duration::from_secs(60);

/// What was left of a run.
struct Left {
    output: Output,
    report: Value,
    /// What lies in its temporary directory.
    files: Vec<PathBuf>,
}

/// Starts the load generator with `args`, sends it `signals` one after the other, each once `ready` has appeared in the
/// directory that `{dir}` stands for, and waits for its end.
fn interrupted(args: &[&str], ready: &[(&str, Signal)]) -> Left {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let json = directory.path().join("report.json");
    let here = directory.path().to_str().unwrap();
    let (before, after) = args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
    let filled = |args: &[&str]| args.iter().map(|arg| arg.replace("{dir}", here)).collect::<Vec<_>>();
    let child = Command::new(LOADGEN)
        .args(filled(before))
        .arg("--json")
        .arg(&json)
        .args(filled(after))
        .env("TMPDIR", &temporary)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    for (file, signal) in ready {
        match *file {
            // The receiver's own socket.
            "tmp/*" => wait(&|| fs::read_dir(&temporary).unwrap().next().is_some(), file),
            file => wait(&|| directory.path().join(file).exists(), file),
        }
        kill(pid, *signal).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let report = fs::read_to_string(&json).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    let files = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    Left { output, report, files }
}

fn wait(until: &dyn Fn() -> bool, what: &str) {
    let end = Instant::now() + LONG;
    while !until() {
        assert!(Instant::now() < end, "no {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A target that relays, says so in `{dir}/up`, and does `end` at the end of its stdin.
fn target(end: &str) -> String {
    format!("head -n 20 >{{dir}}/first; : >{{dir}}/up; cat >/dev/null; {end}")
}

#[test]
fn a_run_that_is_interrupted_tells_what_it_has_and_leaves_nothing() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let relay = format!(": >{{dir}}/up; exec {LOADGEN} floor-child --to $0");
        // At a hundred records a second: for hours, if nobody ends it.
        let left = interrupted(
            &["--to", "unix", "--rate", "100", "--count", "1000000", "--", "/bin/sh", "-c", &relay, "{to}"],
            &[("up", signal)],
        );
        let said = String::from_utf8_lossy(&left.output.stdout).into_owned();
        assert_eq!(left.output.status.code(), Some(code), "{said}");
        assert!(said.contains("STOPPED "), "{said}");
        assert_eq!(left.report["generator"]["stopped"], "a signal ended the run");
        let counts = ["sent", "received"].map(|key| left.report[key].as_u64().unwrap());
        assert!(counts[0] < 1_000_000 && counts[0] == counts[1], "{counts:?}: {said}");
        assert_eq!(left.report["target"]["exit_code"], 0, "it was let to its end");
        assert!(left.files.is_empty(), "{:?}", left.files);
    }
}

#[test]
fn a_second_signal_ends_a_target_that_does_not() {
    let hangs = target(": >{dir}/hangs; exec sleep 1000");
    let left = interrupted(
        &[
            "--to",
            "tcp",
            "--rate",
            "1000",
            "--count",
            "1000000",
            "--timeout",
            "1000",
            "--",
            "/bin/sh",
            "-c",
            &hangs,
        ],
        &[("up", Signal::SIGINT), ("hangs", Signal::SIGINT)],
    );
    assert_eq!(left.output.status.code(), Some(130));
    assert_eq!((&left.report["target"]["killed"], &left.report["received"]), (&true.into(), &0.into()));

    // Nor is the pause before the first record waited for.
    let left = interrupted(
        &["--settle", "1000", "--count", "10", "--", "/bin/sh", "-c", ": >{dir}/up; exec cat"],
        &[("up", Signal::SIGINT)],
    );
    assert_eq!((left.output.status.code(), &left.report["written"]), (Some(130), &0.into()));

    // Nor does one that comes when all is written wait for the timeout.
    let hangs = "cat >/dev/null; : >{dir}/hangs; exec sleep 1000";
    let left = interrupted(
        &["--to", "none", "--count", "10", "--timeout", "1000", "--", "/bin/sh", "-c", hangs],
        &[("hangs", Signal::SIGTERM)],
    );
    assert_eq!(left.output.status.code(), Some(143));
    assert_eq!(left.report["generator"]["stopped"], "a signal ended the run", "{:#}", left.report);
}

#[test]
fn no_further_run_is_made_after_a_signal() {
    let left = interrupted(
        &[
            "--to",
            "none",
            "--rate",
            "100",
            "--count",
            "1000000",
            "--runs",
            "5",
            "--",
            "/bin/sh",
            "-c",
            &target("exit 0"),
        ],
        &[("up", Signal::SIGINT)],
    );
    assert_eq!(left.output.status.code(), Some(130));
    assert_eq!(left.report.get("runs"), None, "one run was made");
}

#[test]
fn a_client_that_is_interrupted_is_no_success() {
    let args = ["send", "--to", "self:unix-stream", "--rate", "1000", "--count", "100000000"];
    let left = interrupted(&args, &[("tmp/*", Signal::SIGINT)]);
    let said = String::from_utf8_lossy(&left.output.stdout).into_owned();
    assert_eq!(left.output.status.code(), Some(130), "{said}");
    assert!(said.contains("STOPPED "), "{said}");
    assert_eq!(left.report["sender"]["stopped"], "a signal ended the run", "{:#}", left.report);
    assert_eq!(left.report["sent"], left.report["received"]);
    assert!(left.files.is_empty(), "{:?}", left.files);
}

#[test]
fn what_was_started_to_outlive_its_terminal_does() {
    let directory = tempfile::tempdir().unwrap();
    let up = directory.path().join("up");
    let script = format!(": >{}; exec {LOADGEN} floor-child --to $0", up.display());
    let child = Command::new("/usr/bin/env")
        .args(["--ignore-signal=HUP", LOADGEN, "--rate", "100", "--count", "50", "--settle", "0", "--"])
        .args(["/bin/sh", "-c", &script, "{to}"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait(&|| up.exists(), "up");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}
