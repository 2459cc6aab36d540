//! Compares what every machine has, and, where they are, the peers of the live tests' folders.
//!
//! Counts and names only, never times: the machine that runs the tests may be busy.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");

fn compare(args: &[&str]) -> Output {
    Command::new(LOADGEN).arg("compare").args(args).output().unwrap()
}

/// Compares and returns the table and the JSON.
fn compared(args: &[&str]) -> (String, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("all.json");
    let output = compare(&[args, &["--json", json.to_str().unwrap()]].concat());
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {complaints}");
    let report = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    (String::from_utf8(output.stdout).unwrap(), report)
}

/// Asserts that each contestant delivered all of `count` records in each of `rounds`, and returns their names.
fn assert_all_well(report: &Value, count: u64, rounds: usize) -> Vec<String> {
    let contestants = report["contestants"].as_array().unwrap();
    for one in contestants {
        let runs = one["runs"].as_array().unwrap();
        assert_eq!(runs.len(), rounds);
        for run in runs {
            assert_eq!(run["sent"], count, "{one:#}");
            assert_eq!(run["target"]["exit_code"], 0, "{one:#}");
            if one["to"] != "none" {
                assert_eq!(run["received"], count, "{one:#}");
            }
        }
        let cost = one["cpu_s_per_million"]["median"].as_f64().unwrap();
        assert!(cost > 0.0, "{one:#}");
    }
    contestants.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// Whether a live test can run here; says loudly why not, and panics where nothing may be skipped.
fn have(what: &str, there: bool) -> bool {
    if there {
        return true;
    }
    let required = env::var("CI").is_ok_and(|v| v == "true")
        || env::var("AUDIT_RELAY_REQUIRE_LIVE").is_ok_and(|v| v == "1");
    assert!(!required, "this live test is required here and cannot run: no {what}");
    let name = thread::current().name().unwrap_or("a live test").to_owned();
    // Not eprintln!: the test harness hides what a passing test prints with it.
    let _ = writeln!(io::stderr(), "SKIPPED {name}: no {what}");
    false
}

fn root(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| default.into(), PathBuf::from)
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

fn program(name: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(name).exists())
}

#[test]
fn the_floors_are_judged_like_everybody_else() {
    let (table, report) =
        compared(&["--to", "tcp,tls,unix-stream", "--count", "5000", "--runs", "2", "--only", "floor,pump"]);
    let names = assert_all_well(&report, 5000, 2);
    assert_eq!(names.len(), 6);
    for one in report["contestants"].as_array().unwrap() {
        for fault in ["lost", "duplicated", "reordered", "torn"] {
            assert_eq!(one[fault], 0, "{one:#}");
        }
    }
    for heading in ["to tcp", "to tls", "to unix-stream"] {
        assert!(table.contains(heading), "{table}");
    }
}

#[test]
fn datagrams_have_a_floor_and_no_byte_pump() {
    let (_, report) =
        compared(&["--to", "unix,udp", "--count", "3000", "--runs", "1", "--only", "floor,pump"]);
    assert_eq!(assert_all_well(&report, 3000, 1), ["floor", "floor"]);
    let absent = report["absent"].as_array().unwrap();
    assert_eq!(absent.len(), 2);
    assert!(absent.iter().all(|one| one["why"].as_str().unwrap().contains("datagrams")), "{absent:?}");
}

#[test]
fn at_a_rate_there_are_latencies() {
    let (table, report) = compared(&["--rate", "5000", "--count", "1000", "--runs", "1", "--only", "floor"]);
    assert_all_well(&report, 1000, 1);
    assert!(table.contains("p99 us"), "{table}");
    for figure in ["p50", "p99", "p999", "max"] {
        assert!(report["contestants"][0]["latency_us"][figure]["median"].as_f64().unwrap() > 0.0, "{figure}");
    }
}

#[test]
fn loss_is_in_the_table_and_so_is_a_contestant_that_cannot_run() {
    let directory = tempfile::tempdir().unwrap();
    let lossy = directory.path().join("lossy");
    fs::write(&lossy, format!("sed 11,20d | {LOADGEN} floor-child --to $1\n")).unwrap();
    let with = format!("lossy=/bin/sh {} {{to}}", lossy.display());
    let (table, report) = compared(&[
        "--count",
        "2000",
        "--runs",
        "2",
        "--only",
        "floor",
        "--with",
        &with,
        "--with",
        "gone=/no/such/program",
    ]);
    let find = |name: &str| {
        report["contestants"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    };
    assert_eq!(find("lossy")["lost"], 20);
    assert_eq!(find("floor")["lost"], 0);
    assert_eq!(find("gone")["cpu_s_per_million"], Value::Null);
    assert!(table.contains("gone: did not run: "), "{table}");
    assert!(table.contains("/no/such/program"), "{table}");
}

#[test]
fn the_order_of_a_round_is_the_seeds() {
    let order = |seed: &str| {
        let args =
            ["--count", "100", "--runs", "2", "--to", "tcp,unix", "--only", "floor,pump", "--seed", seed];
        let output = compare(&args);
        let text = String::from_utf8(output.stderr).unwrap();
        // `   1 of 6: floor to tcp: 1.0 CPU s per million`
        let names = text.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned);
        names.collect::<Vec<String>>()
    };
    let first = order("1");
    assert_eq!(first.len(), 6);
    assert_eq!(first, order("1"));
    assert!((2..9).any(|seed| order(&seed.to_string()) != first));
}

#[test]
fn who_is_not_there_is_listed_with_the_reason() {
    let empty = tempfile::tempdir().unwrap();
    let output = compare(&["--list", "--to", "tcp,none", "--root", empty.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for known in ["floor", "pump", "rsyslogd-imfile", "syslog-ng", "logger", "laurel", "socat", "file"] {
        assert!(text.contains(known), "{known} in {text}");
    }
    assert!(
        text.lines().all(|line| !line.starts_with("absent") || line.split_whitespace().count() > 3),
        "{text}"
    );
}

#[test]
fn a_comparison_that_is_ended_takes_its_run_with_it_and_tells_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let (script, pid) = (directory.path().join("script"), directory.path().join("pid"));
    fs::write(&script, format!("echo $PPID >'{0}.new'; mv '{0}.new' '{0}'; exec cat\n", pid.display()))
        .unwrap();
    let with = format!("slow=/bin/sh {}", script.display());
    // At ten records a second: for hours, if nobody ends it.
    let all = Command::new(LOADGEN)
        .args(["compare", "--only", "nobody", "--rate", "10", "--with", &with])
        .env("TMPDIR", &temporary)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let wait_until = |done: &dyn Fn() -> bool| {
        while !done() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        done()
    };
    let started = wait_until(&|| pid.exists());
    kill(Pid::from_raw(all.id().cast_signed()), Signal::SIGTERM).unwrap();
    let output = all.wait_with_output().unwrap();
    assert!(started, "no run");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(143), "{text}");
    assert!(text.contains("INTERRUPTED: 0 of 3 runs were made") && text.contains("slow"), "{text}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "nothing is left in the temporary directory");
    let run = fs::read_to_string(&pid).unwrap();
    let run = Path::new("/proc").join(run.trim());
    // Its name: the number may be another's by now.
    let gone = || !fs::read_to_string(run.join("cmdline")).is_ok_and(|line| line.contains("audit-loadgen"));
    let ended = wait_until(&gone);
    if !ended {
        let pid = run.file_name().unwrap().to_str().unwrap().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    assert!(ended, "{} went on", run.display());
}

#[test]
fn what_cannot_be_compared_is_exit_code_2() {
    for args in [&["--only", "nobody"][..], &["--runs", "0"], &["--count", "0"], &["--with", "nameless"]] {
        let output = compare(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn logger_is_a_peer() {
    if !have("logger", program("logger")) {
        return;
    }
    let (_, report) =
        compared(&["--to", "tcp,unix", "--count", "3000", "--runs", "1", "--only", "logger,floor"]);
    assert_eq!(assert_all_well(&report, 3000, 1).len(), 4);
}

#[test]
fn chains_with_this_machines_rsyslogd_deliver_everything() {
    if !(have("root", is_root()) && have("rsyslogd", program("rsyslogd"))) {
        return;
    }
    if !have("audisp-syslog", program("audisp-syslog")) {
        return;
    }
    let (_, report) = compared(&[
        "--to",
        "tcp,tls,unix",
        "--count",
        "5000",
        "--runs",
        "1",
        "--only",
        "audisp-syslog,rsyslogd",
    ]);
    let names = assert_all_well(&report, 5000, 1);
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn peers_of_other_systems_run_in_their_folders() {
    let sid = root("AUDIT_RELAY_SID_ROOT", "/var/cache/audit-relay-test/sid");
    let there = sid.join(".audit-relay-complete").exists();
    if !(have("root", is_root()) && have(&format!("{}", sid.display()), there)) {
        return;
    }
    let args =
        ["--to", "tcp,tls,unix", "--count", "5000", "--runs", "1", "--only", "audisp-syslog+,rsyslogd"];
    let (_, report) = compared(&[&args[..], &["--root", sid.to_str().unwrap()]].concat());
    // audisp-syslog 4.2.1 tears some records: what arrives is counted, not that all arrive whole.
    let contestants = report["contestants"].as_array().unwrap();
    for name in ["audisp-syslog+rsyslogd 4.", "rsyslogd-imfile 8.26"] {
        let ours: Vec<&Value> =
            contestants.iter().filter(|one| one["name"].as_str().unwrap().starts_with(name)).collect();
        assert!(!ours.is_empty(), "{name}: {report:#}");
        for one in ours {
            assert_eq!(
                (&one["lost"], &one["runs"][0]["target"]["exit_code"]),
                (&0.into(), &0.into()),
                "{one:#}"
            );
        }
    }
}

#[test]
fn an_unpacked_syslog_ng_delivers_everything() {
    let folder = root("AUDIT_RELAY_SYSLOG_NG_ROOT", "/var/cache/audit-relay-test/syslog-ng");
    if !have(&format!("{}", folder.display()), folder.join("usr/sbin/syslog-ng").exists()) {
        return;
    }
    let args = ["--to", "tcp,tls", "--count", "5000", "--runs", "1", "--only", "syslog-ng"];
    let (_, report) = compared(&[&args[..], &["--root", folder.to_str().unwrap()]].concat());
    assert!(assert_all_well(&report, 5000, 1).len() >= 4);
}
