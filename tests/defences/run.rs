//! Takes each defence of tests/defences/table.toml out, one at a time, and sees whether the tests named there fail.
//!
//! ```text
//! cargo run --example defences -- [--in FOLDER] [--groups] [WORD...]
//! ```
//!
//! Works on a copy of the tree in FOLDER (a temporary one if none is named; a named one is kept, and with it what was
//! compiled). WORD: only the defences whose names hold one of these. `--groups`: as many are taken out at once as share no
//! test, which takes a tenth of the time; what each test said shows that it was its own defence that it missed.
//! Root, and what .ci/install installs, are needed as for the tests. Ends with 1 if a defence could be taken out unseen.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for whoever works on the relay")]

mod table;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Instant;

use table::Defence;

/// What became of a defence's absence.
enum Verdict {
    /// Each of its tests has failed, and has said so.
    Seen(Vec<String>),
    /// These tests have passed.
    Unseen(Vec<String>),
    /// It does not compile.
    Broken(String),
}

fn main() -> ExitCode {
    let (mut folder, mut groups, mut words) = (None, false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--in" => folder = arguments.next().map(PathBuf::from),
            "--groups" => groups = true,
            _ => words.push(argument),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = |defence: &Defence| words.is_empty() || words.iter().any(|word| defence.name.contains(word));
    let all: Vec<_> = Defence::all(root).into_iter().filter(wanted).collect();
    let temporary = tempfile::tempdir().unwrap();
    let folder = folder.unwrap_or_else(|| temporary.path().to_path_buf());
    let tree = Tree::copy(root, &folder);
    println!("{} defences; first all tests as they are", all.len());
    match tree.failing(&all.iter().collect::<Vec<_>>()) {
        Ok(failing) if failing.is_empty() => {}
        Ok(failing) => return complain(&format!("with nothing taken out these fail: {failing:#?}")),
        Err(error) => return complain(&error),
    }
    let mut unseen = 0;
    let mut ahead = VecDeque::from(grouped(&all, groups, &tree));
    while let Some(group) = ahead.pop_front() {
        let start = Instant::now();
        group.iter().for_each(|defence| tree.take_out(defence));
        let verdicts = tree.judge(&group);
        group.iter().for_each(|defence| tree.put_back(&defence.file));
        if group.len() > 1 && verdicts.iter().any(|verdict| matches!(verdict, Verdict::Broken(_))) {
            // Which of them it is.
            let (one, other) = group.split_at(group.len() / 2);
            ahead.push_front(other.to_vec());
            ahead.push_front(one.to_vec());
            continue;
        }
        for (defence, verdict) in group.iter().zip(verdicts) {
            let (word, more) = match verdict {
                Verdict::Seen(said) => ("seen  ", said.join("; ")),
                Verdict::Unseen(tests) => ("UNSEEN", format!("passed: {}", tests.join(", "))),
                Verdict::Broken(error) => ("BROKEN", error),
            };
            unseen += usize::from(word != "seen  ");
            println!("{word}  {}: {more}", defence.name);
        }
        println!("        ({} s for {})", start.elapsed().as_secs(), group.len());
    }
    println!("{} of {} seen", all.len() - unseen, all.len());
    ExitCode::from(u8::from(unseen > 0))
}

fn complain(sentence: &str) -> ExitCode {
    println!("{sentence}");
    ExitCode::from(2)
}

/// One by one, or as many at once as share no test and no text.
fn grouped<'a>(all: &'a [Defence], groups: bool, tree: &Tree) -> Vec<Vec<&'a Defence>> {
    let mut found: Vec<Vec<&Defence>> = Vec::new();
    for defence in all {
        let fits = |group: &&mut Vec<&Defence>| {
            let shares = |other: &&Defence| other.tests.iter().any(|test| defence.tests.contains(test));
            let alone = |other: &&Defence| other.alone;
            // Each still stands there once when the others are out.
            let together: Vec<_> =
                group.iter().copied().chain([defence]).filter(|d| d.file == defence.file).collect();
            let text = fs::read_to_string(tree.original.join(&defence.file)).unwrap();
            let apart = together.iter().try_fold(text, |text, one| one.taken_out(&text)).is_ok();
            groups && !defence.alone && apart && !group.iter().any(shares) && !group.iter().any(alone)
        };
        match found.iter_mut().find(fits) {
            Some(group) => group.push(defence),
            None => found.push(vec![defence]),
        }
    }
    found
}

/// The copy.
struct Tree {
    original: PathBuf,
    copy: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Copies what git knows of, and what it would take. A file that is the same already is left alone, for Cargo's sake.
    fn copy(root: &Path, folder: &Path) -> Self {
        let (copy, target) = (folder.join("tree"), folder.join("target"));
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = Command::new("git").args(list).current_dir(root).output().unwrap();
        assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let tree = Self { original: root.to_path_buf(), copy, target };
        for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
            if root.join(name).exists() {
                tree.put_back(Path::new(name));
            }
        }
        tree
    }

    fn put_back(&self, file: &Path) {
        let (from, to) = (self.original.join(file), self.copy.join(file));
        if fs::read(&from).ok() != fs::read(&to).ok() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&from, &to).unwrap();
        }
    }

    fn take_out(&self, defence: &Defence) {
        let file = self.copy.join(&defence.file);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, defence.taken_out(&text).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    }

    /// Which tests of `defences` fail, and what they say.
    ///
    /// # Errors
    /// A sentence: one of them did not run.
    fn failing<'a>(&self, defences: &[&'a Defence]) -> Result<BTreeMap<(&'a str, &'a str), String>, String> {
        let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (target, name) in defences.iter().flat_map(|defence| defence.targets()) {
            wanted.entry(target).or_default().insert(name);
        }
        let mut failed = BTreeMap::new();
        for (target, names) in wanted {
            let output = self.cargo(target, &names);
            let said = String::from_utf8_lossy(&output.stdout);
            for name in names {
                let ended = |how: &str| said.lines().any(|line| line == format!("test {name} ... {how}"));
                if ended("FAILED") {
                    failed.insert((target, name), reason(&said, name));
                } else if !ended("ok") {
                    let error = String::from_utf8_lossy(&output.stderr);
                    let error = error.lines().find(|line| line.starts_with("error"));
                    let error = error.unwrap_or("there is no such test, or it did not end");
                    return Err(format!("{target}::{name}: {error}"));
                }
            }
        }
        Ok(failed)
    }

    /// What has become of each of `defences`, which are all taken out.
    fn judge(&self, defences: &[&Defence]) -> Vec<Verdict> {
        let failed = match self.failing(defences) {
            Ok(failed) => failed,
            Err(error) => return defences.iter().map(|_| Verdict::Broken(error.clone())).collect(),
        };
        let verdict = |defence: &&Defence| {
            let passed = |test: &(&str, &str)| !failed.contains_key(test);
            let unseen = defence.targets().filter(passed).map(|(target, name)| format!("{target}::{name}"));
            let unseen: Vec<_> = unseen.collect();
            match unseen.is_empty() {
                true => Verdict::Seen(defence.targets().map(|test| failed[&test].clone()).collect()),
                false => Verdict::Unseen(unseen),
            }
        };
        defences.iter().map(verdict).collect()
    }

    fn cargo(&self, target: &str, names: &BTreeSet<&str>) -> Output {
        // What has lost its bounds may never end.
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "600", "cargo", "test", "--locked", "--quiet"])
            .current_dir(&self.copy);
        match target {
            "lib" => command.arg("--lib"),
            _ => command.args(["--test", target]),
        };
        // libtest says by itself which test has failed only where it is not quiet.
        command.args(["--", "--exact", "--format", "pretty"]).args(names);
        // Nothing may be skipped.
        command.env("CI", "true").env("CARGO_TARGET_DIR", &self.target).env("CARGO_INCREMENTAL", "0");
        command.stdin(Stdio::null()).output().unwrap()
    }
}

/// Where and why a test has failed: its first words on one line.
fn reason(said: &str, name: &str) -> String {
    let own = said.split(&format!("---- {name} stdout ----")).nth(1).unwrap_or_default();
    let place = own.lines().find(|line| line.contains("panicked at")).unwrap_or_default();
    let place = place.split("panicked at ").nth(1).unwrap_or_default();
    let words = own.lines().skip_while(|line| !line.contains("panicked at")).nth(1).unwrap_or_default();
    format!("{place} {}", words.chars().take(100).collect::<String>())
}
