//! Drives the built-in floor, and relays that are broken on purpose, through the real binary.
//!
//! Counts only, never times: the machine that runs the tests may be busy.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");

/// Runs the load generator and returns its exit code and JSON report.
fn loadgen(args: &[&str]) -> (Option<i32>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let (before, after) = args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
    let output: Output = Command::new(LOADGEN)
        .args(before)
        .args(["--settle", "0", "--json"])
        .arg(&json)
        .args(after)
        .output()
        .unwrap();
    let report = fs::read_to_string(&json).unwrap_or_else(|_| {
        panic!("no report of {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code(), serde_json::from_str(&report).unwrap())
}

/// Asserts that all `count` records arrived once, in order, whole.
fn assert_clean(args: &[&str], count: u64) -> Value {
    let (code, report) = loadgen(args);
    for (key, expected) in
        [("sent", count), ("received", count), ("lost", 0), ("duplicated", 0), ("reordered", 0), ("torn", 0)]
    {
        assert_eq!(report[key], expected, "{key} of {args:?}: {report:#}");
    }
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["target"]["exit_code"], 0);
    report
}

/// A target that passes the records through `filter` (a shell command) before the floor relays them.
fn through(filter: &str, more: &[&str]) -> (Option<i32>, Value) {
    let script = format!("{filter} | {LOADGEN} floor-child --to {{to}}");
    let args =
        [&["run", "--count", "5000", "--linger", "200ms"], more, &["--", "/bin/sh", "-c", &script]].concat();
    loadgen(&args)
}

#[test]
fn every_transport_and_feed_delivers_every_record() {
    for to in ["tcp", "tls", "unix-stream", "unix", "udp"] {
        for feed in ["pipe", "socketpair"] {
            assert_clean(&["floor", "--to", to, "--feed", feed, "--count", "30000"], 30_000);
        }
    }
}

#[test]
fn both_framings_are_told_apart() {
    for to in ["tcp", "tls", "unix-stream"] {
        for framing in ["octet", "lf"] {
            let report =
                assert_clean(&["floor", "--to", to, "--framing", framing, "--count", "20000"], 20_000);
            assert_eq!(report["sink"]["connections"], 1);
            assert_eq!(report["sink"]["framing_errors"], 0);
            assert_eq!(report["sink"]["tls_errors"], 0);
            assert_eq!(report["sink"]["unfinished_bytes"], 0);
        }
    }
}

#[test]
fn every_mix_and_size_arrives_whole() {
    for to in ["tcp", "unix"] {
        for mix in [&["--mix", "host"][..], &["--mix", "nasty"], &["--mix", "single"], &["--size", "8970"]] {
            for framing in ["octet", "lf"] {
                let args = [&["floor", "--to", to, "--framing", framing, "--count", "4000"], mix].concat();
                assert_clean(&args, 4000);
            }
        }
    }
    let report = assert_clean(&["floor", "--size", "333", "--count", "3000"], 3000);
    assert_eq!(report["written_bytes"], 3000 * 334);
}

#[test]
fn a_schedule_is_followed_to_its_end() {
    let report = assert_clean(&["floor", "--rate", "5000", "--count", "2500", "--max-lag", "10s"], 2500);
    // 2500 records at 5000/s: the last is due 0.4998 s after the first, and none may leave early.
    assert!(report["seconds"].as_f64().unwrap() >= 0.4998);
    assert!(
        report["latency_us"]["p50"].as_f64().unwrap()
            >= report["latency_uncorrected_us"]["p50"].as_f64().unwrap()
    );
    let (_, report) = loadgen(&["floor", "--rate", "1000", "--duration", "0.3s"]);
    assert_eq!(report["written"], 300);
}

#[test]
fn ramps_and_bursts_write_what_they_ask_for() {
    // 0 to 4000/s in half a second are 1000 records; bursts of 300 at 0, 100, 200 ms.
    for (schedule, count) in [
        (["--ramp", "0..4000", "--duration", "0.5s"], 1000),
        (["--burst", "300/100ms", "--duration", "0.3s"], 900),
    ] {
        let args = [&["floor", "--max-lag", "10s"], &schedule[..]].concat();
        let report = assert_clean(&args, count);
        assert_eq!(report["generator"]["scheduled"], true);
    }
}

#[test]
fn a_warm_up_is_accounted_for_but_not_measured() {
    for args in [
        &["--warm-up", "2000", "--rate", "20000", "--max-lag", "10s"][..],
        &["--warm-up", "100ms", "--rate", "20000", "--max-lag", "10s"],
        &["--warm-up", "2000", "--feed", "pipe"],
    ] {
        let report = assert_clean(&[&["floor", "--count", "5000"], args].concat(), 5000);
        assert_eq!(report["warm_up"]["written"], 2000, "{report:#}");
    }
    // What is lost in it is lost.
    let (code, report) = through("sed 11,20d", &["--warm-up", "1000"]);
    assert_eq!((code, &report["lost"], &report["warm_up"]["sent"]), (Some(1), &10.into(), &1000.into()));
    // A run that ends within it has nothing to say.
    let output =
        Command::new(LOADGEN).args(["floor", "--count", "100", "--warm-up", "100"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn end_of_event_lines_are_written_but_not_expected() {
    let (code, report) = loadgen(&["floor", "--eoe", "--count", "10000"]);
    assert_eq!(code, Some(0));
    assert_eq!(report["written"], 10_000);
    let sent = report["sent"].as_u64().unwrap();
    assert!((7_000..9_500).contains(&sent), "{sent}");
    assert_eq!(report["received"], sent);
}

#[test]
fn a_recorded_trace_is_replayed_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.log");
    let mut text = String::new();
    for n in 0..500 {
        text.push_str(&format!("type=CWD msg=audit(1795424551.650:{n}): cwd=\"/\"\x1dUID=\"root\"\n"));
        text.push_str(&format!("type=EOE msg=audit(1795424551.650:{n}):\n"));
    }
    fs::write(&trace, text).unwrap();
    let report = assert_clean(&["floor", "--trace", trace.to_str().unwrap()], 500);
    assert_eq!(report["written"], 1000);
}

#[test]
fn each_fault_of_a_relay_is_found() {
    // (filter, received, lost, duplicated, reordered, torn)
    let table = [
        ("cat", [5000, 0, 0, 0, 0]),
        ("sed -u 11,20d", [4990, 10, 0, 0, 0]),
        ("sed 7p", [5000, 0, 1, 0, 0]),
        ("sed '1{h;d};2G'", [5000, 0, 0, 1, 0]),
        ("sed '3s/[0-9]$/x/;3s/.$//'", [4999, 0, 0, 0, 1]),
        ("sed '2,4s/ lg=.*//'", [4997, 3, 0, 0, 0]),
        ("cat >/dev/null; true", [0, 5000, 0, 0, 0]),
    ];
    for (filter, expected) in table {
        let (code, report) = through(filter, &[]);
        let got =
            ["received", "lost", "duplicated", "reordered", "torn"].map(|key| report[key].as_u64().unwrap());
        assert_eq!(got, expected, "{filter}: {report:#}");
        assert_eq!(code, Some(i32::from(filter != "cat")), "{filter}");
    }
    assert_eq!(through("sed 11,20d", &["--allow-loss"]).0, Some(0));
}

#[test]
fn gaps_are_named() {
    let (_, report) = through("sed 11,20d", &[]);
    assert_eq!(report["gaps"], serde_json::json!([[10, 19]]));
}

#[test]
fn a_target_that_goes_away_or_hangs_is_reported() {
    let (code, report) = loadgen(&["--", "/bin/sh", "-c", "exec 0</dev/null; exit 3"]);
    assert_eq!(code, Some(1));
    assert_eq!(report["target"]["exit_code"], 3);
    assert_eq!(report["generator"]["stopped"], "the target closed its stdin");

    let (code, report) =
        loadgen(&["--count", "10", "--timeout", "300ms", "--", "/bin/sh", "-c", "exec sleep 100"]);
    assert_eq!(code, Some(1));
    assert_eq!((&report["target"]["killed"], &report["target"]["exit_code"]), (&true.into(), &137.into()));
}

#[test]
fn the_target_gets_an_empty_environment_and_no_descriptors_but_three() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    // The shell exports nothing of its own but PWD, SHLVL and the like to children; its own block is in /proc.
    let script = format!(
        "tr '\\0' '\\n' </proc/$$/environ >{0}.env; ls /proc/$$/fd >{0}.fd; cat >/dev/null",
        seen.display()
    );
    let (code, report) = loadgen(&["--to", "none", "--count", "10", "--", "/bin/sh", "-c", &script]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["received"], Value::Null);
    let read = |suffix: &str| fs::read_to_string(Path::new(&format!("{}.{suffix}", seen.display()))).unwrap();
    assert_eq!(read("env"), "");
    assert_eq!(read("fd").split_whitespace().filter(|fd| matches!(*fd, "0" | "1" | "2")).count(), 3);
    assert!(
        read("fd").split_whitespace().all(|fd| fd.parse::<u32>().unwrap() < 3 || fd == "10"),
        "{}",
        read("fd")
    );
}

#[test]
fn placeholders_name_the_sink() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("log");
    let script = "test {to} = unix:{path} && test -S {path} && cat >/dev/null";
    let socket = socket.to_str().unwrap();
    let args = [
        "--to",
        "unix",
        "--sink-path",
        socket,
        "--count",
        "1",
        "--linger",
        "0",
        "--",
        "/bin/sh",
        "-c",
        script,
    ];
    let (_, report) = loadgen(&args);
    assert_eq!(report["target"]["exit_code"], 0, "{report:#}");
    assert!(!Path::new(socket).exists(), "the socket is removed at the end");
}

#[test]
fn the_certificate_is_there_while_the_program_runs_and_not_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    let script = format!(
        "grep -q CERTIFICATE {{ca}} && echo {{ca}} >{} && test {{to}} = tls://127.0.0.1:{{port}}",
        copy.display()
    );
    let (_, report) =
        loadgen(&["--to", "tls", "--count", "1", "--linger", "0", "--", "/bin/sh", "-c", &script]);
    assert_eq!(report["target"]["exit_code"], 0, "{report:#}");
    let ca = fs::read_to_string(copy).unwrap();
    assert!(!Path::new(ca.trim()).parent().unwrap().exists());
}

#[test]
fn a_peer_without_tls_is_an_error_of_tls() {
    let script = format!("{LOADGEN} floor-child --to tcp://127.0.0.1:{{port}}");
    let (code, report) =
        loadgen(&["--to", "tls", "--count", "10", "--linger", "100ms", "--", "/bin/sh", "-c", &script]);
    assert_eq!(code, Some(1));
    assert_eq!((&report["received"], &report["sink"]["tls_errors"]), (&0.into(), &1.into()), "{report:#}");
}

#[test]
fn what_cannot_be_run_is_exit_code_2() {
    for args in [
        &["--", "/no/such/program"][..],
        &["--trace", "/no/such/file"],
        &["floor", "--form", "binary0"],
        &["floor", "--to", "relp"],
        &["floor", "--to", "relps"],
        &["--rate", "many"],
        &["--mix", "nasty", "--size", "300"],
        &["--size", "100"],
        &["--size", "8971"],
    ] {
        let output = Command::new(LOADGEN).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_time_that_cannot_be_is_no_whole_record() {
    // The first digit of the time at which it was due.
    let (code, report) = through("sed -E '100s/( lg=.{14}\\.)1/\\17/'", &[]);
    assert_eq!(
        (code, &report["torn"], &report["received"]),
        (Some(1), &1.into(), &4999.into()),
        "{report:#}"
    );
    assert_eq!(report["lost"], 0);
}
