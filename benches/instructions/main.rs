//! Instructions that the hot path takes for a record, counted by Valgrind and held against `counts.toml`.
//!
//! Promise: fails when a case takes over [`TOLERANCE`] more, or less, than is recorded, and names the case and both
//! counts. Law: counts only, no time, so that a busy machine changes nothing.
//!
//! ```text
//! cargo run --release --example instructions                  compares
//! cargo run --release --example instructions -- --record      writes counts.toml anew, for the commit that changes a count
//! ```
//!
//! This program runs itself under callgrind, each case twice: for a few rounds, and for a few more. What the second
//! run takes beyond the first is the work alone, whatever start and set-up take. What was counted last stays beside the
//! program (`target/release/examples/instructions.counts/CASE.out`), for `callgrind_annotate`. Why not gungraun, and
//! what else shifts counts: docs/decisions/010-instruction-counts.md.

mod cases;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io};

use cases::{CASES, Case};
use serde::Deserialize;

/// Everything goes through the allocator that the relay has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How far a count may be from its record, as a fraction.
const TOLERANCE: f64 = 0.05;

/// Rounds of the two runs.
const ROUNDS: [usize; 2] = [2, 6];

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/counts.toml");

/// The command that writes it.
const ACCEPT: &str = "cargo run --release --locked --example instructions -- --record";

/// What `counts.toml` says.
#[derive(Deserialize)]
struct Record {
    /// What it was counted with, and which version of it.
    with: BTreeMap<String, String>,
    /// Instructions a record, by case.
    instructions: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    let result = match env::args().nth(1).as_deref() {
        Some("--case") => work(),
        _ => count(env::args().any(|argument| argument == "--record")),
    };
    match result {
        Ok(code) => code,
        Err(why) => {
            let _ = writeln!(io::stderr(), "instructions: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The inner run: `--case NAME ROUNDS`.
fn work() -> Result<ExitCode, String> {
    let (name, rounds) = (env::args().nth(2), env::args().nth(3).and_then(|rounds| rounds.parse().ok()));
    let case = CASES.iter().find(|case| Some(case.name) == name.as_deref());
    let (Some(case), Some(rounds)) = (case, rounds) else {
        return Err("expected --case NAME ROUNDS".to_owned());
    };
    (case.work)(rounds);
    Ok(ExitCode::SUCCESS)
}

/// The outer run.
fn count(record: bool) -> Result<ExitCode, String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return skip("counts are recorded for x86_64 Linux only");
    }
    let Some(valgrind) = find_program("valgrind") else {
        return skip("no valgrind (.ci/install installs it)");
    };
    if cfg!(debug_assertions) {
        return Err("counts are those of the release profile: add --release".to_owned());
    }
    let program = env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let folder = program.with_extension("counts");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let with = surroundings(&valgrind);
    let mut counted = BTreeMap::new();
    for case in CASES {
        let [few, many] = ROUNDS.map(|rounds| run(&valgrind, &program, &folder, case, rounds));
        let work = many?.checked_sub(few?).ok_or_else(|| format!("{}: more rounds took less", case.name))?;
        counted.insert(case.name, per_record(work, (ROUNDS[1] - ROUNDS[0]) * case.records));
    }
    if record {
        return write(&with, &counted).map(|()| ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(RECORD).map_err(|error| format!("{RECORD}: {error}; {ACCEPT} makes it"))?;
    let recorded = toml::from_str(&text).map_err(|error| format!("{RECORD}: {error}"))?;
    let (table, complaints) = compare(&counted, &recorded);
    let _ = io::stdout().write_all(table.as_bytes());
    if complaints.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut why = complaints.join("\n  ");
    for (what, now) in &with {
        let then = recorded.with.get(*what).map_or("unknown", String::as_str);
        if then != now {
            let _ = write!(why, "\n  Recorded with another {what}: {then}; here: {now}.");
        }
    }
    Err(format!(
        "{why}\n  If it has to be so, this writes the record anew, to go into the same commit:\n    {ACCEPT}"
    ))
}

/// Nothing was counted: a line that says so, or a failure where nothing may be skipped.
fn skip(why: &str) -> Result<ExitCode, String> {
    if env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err(format!("required here, and cannot be counted: {why}"));
    }
    let _ = writeln!(io::stderr(), "SKIPPED instructions: {why}");
    Ok(ExitCode::SUCCESS)
}

fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What may shift a count although the relay has not changed, and which version of it is here.
fn surroundings(valgrind: &Path) -> BTreeMap<&'static str, String> {
    let target_cpu = if cfg!(target_feature = "avx2") {
        "x86-64-v3 or later"
    } else if cfg!(target_feature = "sse4.2") {
        "x86-64-v2"
    } else {
        "x86-64"
    };
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    BTreeMap::from([
        ("libc", said_by(Command::new("getconf").arg("GNU_LIBC_VERSION"))),
        ("rustc", said_by(Command::new(rustc).arg("--version"))),
        ("target-cpu", target_cpu.to_owned()),
        ("valgrind", said_by(Command::new(valgrind).arg("--version"))),
    ])
}

/// What a program prints, or nothing if it cannot be run: these versions explain, and decide nothing.
fn said_by(command: &mut Command) -> String {
    let said = command.stderr(Stdio::null()).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// Instructions of a whole run of `case` by `program`, start and set-up included. Details go to a file in `folder`.
fn run(valgrind: &Path, program: &Path, folder: &Path, case: &Case, rounds: usize) -> Result<u64, String> {
    let out = folder.join(format!("{}.out", case.name.replace('/', "-")));
    let failed =
        |why: &dyn std::fmt::Display| format!("{}, counted by {}: {why}", case.name, valgrind.display());
    let mut to = OsString::from("--callgrind-out-file=");
    to.push(&out);
    let output = Command::new(valgrind)
        .args(["--tool=callgrind", "--quiet"])
        .arg(to)
        .arg(program)
        .args(["--case", case.name, &rounds.to_string()])
        // What lies on the stack at the start shifts what follows.
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))));
    }
    let text = fs::read_to_string(&out).map_err(|error| failed(&error))?;
    let summary = text.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok());
    summary.ok_or_else(|| failed(&format!("no summary in {}", out.display())))
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn per_record(instructions: u64, records: usize) -> f64 {
    instructions as f64 / records as f64
}

/// A line for each case, and what is wrong.
fn compare(counted: &BTreeMap<&str, f64>, recorded: &Record) -> (String, Vec<String>) {
    let mut table = format!("{:<28}{:>10}{:>10}\n", "instructions a record", "recorded", "now");
    let mut complaints = Vec::new();
    for case in CASES {
        let now = counted[case.name];
        let Some(then) = recorded.instructions.get(case.name) else {
            complaints.push(format!("{}: {now:.1} instructions a record, and no record of it", case.name));
            continue;
        };
        let change = now / then - 1.0;
        let _ = writeln!(table, "{:<28}{then:>10.1}{now:>10.1}  {:>+6.2} %", case.name, 100.0 * change);
        let advice = match change {
            change if change > TOLERANCE => "has grown",
            change if change < -TOLERANCE => "has shrunk, and could grow back unseen,",
            // Also if it is no number.
            change if change.abs() <= TOLERANCE => continue,
            _ => "cannot be compared",
        };
        complaints.push(format!(
            "{} {advice} from {then:.1} to {now:.1} instructions a record ({:+.1} %; {:.0} % are allowed)",
            case.name,
            100.0 * change,
            100.0 * TOLERANCE
        ));
    }
    for name in recorded.instructions.keys().filter(|name| !counted.contains_key(name.as_str())) {
        complaints.push(format!("{name} is recorded, and there is no such case"));
    }
    (table, complaints)
}

fn write(with: &BTreeMap<&str, String>, counted: &BTreeMap<&str, f64>) -> Result<(), String> {
    let mut text = format!(
        "# Instructions a record. Written by: {ACCEPT}\n\
         # What may change a count, and when to write this anew: docs/decisions/010-instruction-counts.md\n\n[with]\n"
    );
    for (what, version) in with {
        let _ = writeln!(text, "{what} = {version:?}");
    }
    text += "\n[instructions]\n";
    for case in CASES {
        let _ = writeln!(text, "\"{}\" = {:.1}", case.name, counted[case.name]);
    }
    fs::write(RECORD, &text).map_err(|error| format!("{RECORD}: {error}"))?;
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What there is to complain about if every case was recorded with 100 and `change` is made to what is counted.
    fn complaints(change: impl FnOnce(&mut BTreeMap<&str, f64>, &mut Record)) -> Vec<String> {
        let mut counted: BTreeMap<_, _> = CASES.iter().map(|case| (case.name, 100.0)).collect();
        let instructions = counted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let mut recorded = Record { with: BTreeMap::new(), instructions };
        change(&mut counted, &mut recorded);
        compare(&counted, &recorded).1
    }

    #[test]
    fn what_is_near_the_record_passes() {
        assert!(complaints(|_, _| ()).is_empty());
        for near in [95.1, 104.9] {
            assert!(complaints(|counted, _| _ = counted.insert(CASES[0].name, near)).is_empty(), "{near}");
        }
    }

    #[test]
    fn what_is_far_from_the_record_is_named_with_both_counts() {
        for (far, how) in [(105.1, "has grown"), (94.9, "has shrunk"), (f64::NAN, "cannot be compared")] {
            let complaints = complaints(|counted, _| _ = counted.insert(CASES[0].name, far));
            assert_eq!(complaints.len(), 1, "{far}");
            let begin = format!("{} {how}", CASES[0].name);
            let counts = format!("from 100.0 to {far:.1}");
            assert!(complaints[0].starts_with(&begin) && complaints[0].contains(&counts), "{complaints:?}");
        }
    }

    #[test]
    fn a_record_of_other_cases_does_not_pass() {
        let missing = complaints(|_, recorded| _ = recorded.instructions.remove(CASES[0].name));
        assert!(missing.len() == 1 && missing[0].starts_with(CASES[0].name), "{missing:?}");
        let foreign = complaints(|_, recorded| _ = recorded.instructions.insert("old/case".to_owned(), 1.0));
        assert!(foreign.len() == 1 && foreign[0].starts_with("old/case"), "{foreign:?}");
    }

    #[test]
    fn the_record_names_every_case() {
        let recorded: Record = toml::from_str(&fs::read_to_string(RECORD).unwrap()).unwrap();
        let names: Vec<_> = recorded.instructions.keys().map(String::as_str).collect();
        let mut cases: Vec<_> = CASES.iter().map(|case| case.name).collect();
        cases.sort_unstable();
        assert_eq!(names, cases);
        assert!(recorded.with.contains_key("rustc"));
    }

    #[test]
    fn every_case_does_its_work() {
        for case in CASES {
            (case.work)(1);
        }
    }
}
