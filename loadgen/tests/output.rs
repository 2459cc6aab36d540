//! What a run leaves behind, through the real binary: the files, the account of several runs and of a target's children.
//!
//! Counts only, never times: the machine that runs the tests may be busy.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");

/// Where a run's files are.
struct Files {
    directory: tempfile::TempDir,
    output: Output,
}

impl Files {
    /// Runs the load generator with `args`, `{dir}` in them being a new directory, and all files asked for.
    fn of(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (before, after) = args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
        let mut command = Command::new(LOADGEN);
        command.args(before).args(["--settle", "0"]);
        for kind in ["json", "html"] {
            command.arg(format!("--{kind}")).arg(directory.path().join(kind));
        }
        if !before.contains(&"none") {
            for kind in ["hgrm", "hlog"] {
                command.arg(format!("--{kind}")).arg(directory.path().join(kind));
            }
        }
        let output = command.args(after).output().unwrap();
        Self { directory, output }
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.directory.path().join(kind)
    }

    fn text(&self, kind: &str) -> String {
        fs::read_to_string(self.path(kind))
            .unwrap_or_else(|_| panic!("no {kind}: {}", String::from_utf8_lossy(&self.output.stderr)))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text("json")).unwrap()
    }
}

fn sum(column: &Value) -> u64 {
    column.as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).sum()
}

#[test]
fn all_files_tell_of_the_same_records() {
    let files = Files::of(&["floor", "--count", "20000"]);
    assert_eq!(files.output.status.code(), Some(0));
    let json = files.json();
    assert_eq!(json["schema"], 1);
    assert_eq!(sum(&json["timeline"]["arrived"]), 20_000);
    assert_eq!(json["timeline"]["interval_s"], 0.1);
    assert_eq!(sum(&json["timeline"]["bytes"]), json["sink"]["bytes"].as_u64().unwrap());

    let hgrm = files.text("hgrm");
    let last = hgrm.lines().rfind(|line| !line.starts_with('#')).unwrap();
    assert_eq!(last.split_whitespace().nth(2), Some("20000"), "{hgrm}");

    let hlog = fs::read(files.path("hlog")).unwrap();
    let intervals =
        IntervalLogIterator::new(&hlog).filter(|entry| matches!(entry, Ok(LogEntry::Interval(_)))).count();
    assert_eq!(intervals, json["timeline"]["arrived"].as_array().unwrap().len());

    let html = files.text("html");
    assert!(html.contains("All 20,000 records arrived"), "{html}");
    assert!(html.contains("--count 20000"), "the command line");
    // Nobody watches: nothing of a progress bar.
    assert_eq!(String::from_utf8_lossy(&files.output.stderr), "");
}

#[test]
fn several_runs_are_told_one_by_one_and_the_worst_decides() {
    let files = Files::of(&["floor", "--count", "5000", "--runs", "3"]);
    assert_eq!(files.output.status.code(), Some(0));
    let json = files.json();
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| run["received"] == 5000));
    let chosen = usize::try_from(json["chosen_run"].as_u64().unwrap()).unwrap();
    assert_eq!(json["target"], runs[chosen - 1]["target"]);
    let mut costs: Vec<f64> =
        runs.iter().map(|run| run["target"]["cpu_s_per_million"].as_f64().unwrap()).collect();
    costs.sort_by(f64::total_cmp);
    assert_eq!(json["target"]["cpu_s_per_million"], costs[1]);
    assert!(files.text("html").contains("All runs"));

    // A target that loses records the second time only.
    let state = tempfile::tempdir().unwrap();
    let mark = state.path().join("mark");
    let script = format!(
        "if [ -e {0} ]; then rm {0}; sed -u 11,20d; else : >{0}; cat; fi | {LOADGEN} floor-child --to {{to}}",
        mark.display()
    );
    let files = Files::of(&["--count", "2000", "--runs", "3", "--", "/bin/sh", "-c", &script]);
    let json = files.json();
    let lost: Vec<&Value> = json["runs"].as_array().unwrap().iter().map(|run| &run["lost"]).collect();
    assert_eq!(lost, [0, 10, 0]);
    assert_eq!(files.output.status.code(), Some(1));
    assert_eq!(json["spread"]["lost"]["max"], 10.0);
    assert!(String::from_utf8_lossy(&files.output.stdout).contains("FAULTY"));
}

#[test]
fn a_targets_children_are_on_its_bill() {
    // tail holds 64 MiB for as long as nobody takes them from it, many looks long; the shell is small.
    let script = format!(
        "head -c 67108864 /dev/zero | tail -c 67108864 | {{ sleep 2; cat >/dev/null; exec {LOADGEN} floor-child --to {{to}}; }}"
    );
    let script = script.replace("head -c", "exec 3<&0; head -c").replace("exec /", "exec <&3 /");
    let files = Files::of(&["--count", "3000", "--", "/bin/sh", "-c", &script]);
    let json = files.json();
    assert_eq!(files.output.status.code(), Some(0), "{json:#}");
    assert!(json["target"]["processes"].as_u64().unwrap() >= 2, "{}", json["target"]);
    assert!(json["target"]["max_rss_kib"].as_u64().unwrap() >= 65_536, "{}", json["target"]);
    assert_eq!(json["target"]["left_behind"], 0);
}

#[test]
fn an_orphan_is_waited_for_and_one_that_stays_is_killed() {
    // The shell ends at once; what it leaves goes on relaying until the end of its stdin.
    let script = format!("exec 3<&0; {LOADGEN} floor-child --to {{to}} <&3 & exit 0");
    let files = Files::of(&["--count", "3000", "--linger", "20s", "--", "/bin/sh", "-c", &script]);
    let json = files.json();
    assert_eq!((&json["received"], &json["target"]["left_behind"]), (&3000.into(), &0.into()), "{json:#}");
    assert!(json["target"]["cpu_s"].as_f64().unwrap() > 0.0);

    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!("sleep 1000 & echo $! >{}; exec {LOADGEN} floor-child --to {{to}}", pid.display());
    let files = Files::of(&["--count", "1000", "--linger", "200ms", "--", "/bin/sh", "-c", &script]);
    let json = files.json();
    assert_eq!((&json["received"], &json["target"]["left_behind"]), (&1000.into(), &1.into()), "{json:#}");
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "it is gone and reaped");
}

#[test]
fn hostile_arguments_are_text_on_the_page() {
    let files = Files::of(&["--count", "10", "--", "/bin/sh", "-c", "exec cat # <script>alert(1)</script>"]);
    let html = files.text("html");
    assert!(!html.contains("<script>alert"), "{html}");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    for (args, said) in [
        (&["--to", "tcp", "--sink-path", "/tmp/x"][..], "--sink-path"),
        (&["--to", "none", "--sink-stall", "1s:1s"], "--sink-stall"),
        (&["floor", "--to", "udp", "--sink-path", "/tmp/x"], "--sink-path"),
        (&["send", "--to", "tcp://127.0.0.1:9", "--sink-read-rate", "1000"], "self:tcp"),
    ] {
        let output = Command::new(LOADGEN).args(args).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {complaint}");
        assert!(complaint.contains("usage: ") && complaint.contains(said), "{args:?}: {complaint}");
    }
}

#[test]
fn without_a_sink_there_is_no_histogram_to_write() {
    let output = Command::new(LOADGEN)
        .args(["--to", "none", "--hgrm", "/dev/null", "--", "/bin/cat"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let files = Files::of(&["--to", "none", "--count", "5000", "--", "/bin/cat"]);
    let json = files.json();
    assert_eq!(json["timeline"]["arrived"], Value::Null);
    assert!(files.text("html").contains("no receiver"));
}

#[test]
fn a_file_that_cannot_be_written_is_found_before_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let (mark, bad) = (directory.path().join("mark"), directory.path().join("no/such/folder"));
    let (bad, script) = (bad.to_str().unwrap(), format!(": >{}; exec cat", mark.display()));
    let target = ["--", "/bin/sh", "-c", &script];
    for args in [
        [&["--to", "none", "--json", bad], &target[..]].concat(),
        [&["--to", "none", "--html", bad], &target[..]].concat(),
        [&["--hgrm", bad], &target[..]].concat(),
        [&["--hlog", "/"], &target[..]].concat(),
        vec!["send", "--html", bad],
        vec!["sink", "--write", bad],
        vec!["sink", "--json", bad],
        vec!["verify", "--json", bad, "/dev/null"],
        vec!["kernel", "--json", bad],
        vec!["compare", "--only", "floor", "--count", "1", "--json", bad],
        vec!["compare", "--only", "floor", "--count", "1", "--html", bad],
    ] {
        let output = Command::new(LOADGEN).args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains("(tried before the run)") && said.lines().count() == 1, "{args:?}: {said}");
        assert!(!mark.exists(), "the run was made: {args:?}");
    }
}

#[test]
fn a_disk_that_is_full_at_the_end_takes_neither_the_table_nor_the_other_files() {
    let directory = tempfile::tempdir().unwrap();
    let html = directory.path().join("html");
    let output = Command::new(LOADGEN)
        .args(["floor", "--count", "100", "--settle", "0", "--json", "/dev/full", "--html"])
        .arg(&html)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("writing /dev/full"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("received     100\n"), "{output:?}");
    assert!(html.exists());
}

#[test]
fn a_program_that_ends_badly_is_no_success() {
    let relay = format!("{LOADGEN} floor-child --to \"$0\"");
    for (end, with_loss_allowed) in [("exit 75", 0), ("kill -SEGV $$", 1)] {
        let script = format!("{relay}; {end}");
        let target = ["--", "/bin/sh", "-c", &script, "{to}"];
        let files = Files::of(&[&["--count", "1000"], &target[..]].concat());
        let json = files.json();
        assert_eq!((&json["received"], &json["lost"]), (&1000.into(), &0.into()), "{json:#}");
        assert_eq!(files.output.status.code(), Some(1), "{end}: {json:#}");
        assert!(String::from_utf8_lossy(&files.output.stdout).contains("EXIT CODE"), "{end}");
        assert!(files.text("html").contains("ended with exit code"), "{end}");
        let files = Files::of(&[&["--count", "1000", "--allow-loss"], &target[..]].concat());
        assert_eq!(files.output.status.code(), Some(with_loss_allowed), "{end}");
    }
    // Where nobody receives, its exit code is all that there is.
    let files =
        Files::of(&["--to", "none", "--count", "1000", "--", "/bin/sh", "-c", "cat >/dev/null; exit 1"]);
    assert_eq!(files.output.status.code(), Some(1));
}

#[test]
fn a_run_of_nothing_is_no_success() {
    for args in [
        &["floor", "--count", "0"][..],
        &["floor", "--duration", "0"],
        &["floor", "--rate", "10", "--duration", "0s"],
        &["send", "--count", "0"],
        &["send", "--duration", "0"],
        &["kernel", "--count", "0"],
        &["kernel", "--duration", "0"],
    ] {
        let output = Command::new(LOADGEN).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing would be sent"), "{args:?}");
    }
    // Lines enough, but none that must arrive.
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    fs::write(&trace, "type=EOE msg=audit(1.000:1): \n").unwrap();
    let files = Files::of(&["floor", "--trace", trace.to_str().unwrap()]);
    assert_eq!(files.output.status.code(), Some(1));
    assert!(files.text("html").contains("Nothing was sent."));
}

#[test]
fn children_that_nobody_waits_for_are_on_the_bill_as_far_as_they_were_seen() {
    // The relay is the parent of what the shell has started, and ignores SIGCHLD: the kernel tells nobody what that used.
    let busy = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done";
    let script =
        format!("/bin/sh -c '{busy}' & exec /usr/bin/env --ignore-signal=CHLD {LOADGEN} floor-child --to $0");
    let files = Files::of(&["--rate", "250", "--count", "1000", "--", "/bin/sh", "-c", &script, "{to}"]);
    let json = files.json();
    assert_eq!(json["received"], 1000, "{json:#}");
    assert_eq!(json["target"]["cpu_at_least"], true, "{}", json["target"]);
    assert!(json["target"]["cpu_s"].as_f64().unwrap() > 0.1, "{}", json["target"]);
    assert!(String::from_utf8_lossy(&files.output.stdout).contains("AT LEAST"));
    let files = Files::of(&["floor", "--count", "1000"]);
    assert_eq!(files.json()["target"]["cpu_at_least"], false);
}
