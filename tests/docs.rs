//! What the documents say is still so: their links lead somewhere, their command lines are understood, files that they name exist.
//! Their TOML is tried by `tests/config.rs`, their keys and options by `tests/manuals.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

#[path = "support/markdown.rs"]
mod markdown;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use audit_relay::cli::{self, Command};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_link_leads_to_something() {
    let mut broken = Vec::new();
    let links = markdown::links(root());
    assert!(links.len() >= 30, "only {} links were found", links.len());
    for (place, file, target) in links {
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let to = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
        if !to.exists() {
            broken.push(format!("{place}: {target}: no such file"));
        } else if !anchor.is_empty()
            && !markdown::anchors(&fs::read_to_string(&to).unwrap()).iter().any(|found| found == anchor)
        {
            broken.push(format!("{place}: {target}: no such heading"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_command_line_is_understood() {
    let found = markdown::command_lines(root(), "audit-relay");
    assert!(found.len() >= 25, "only {} command lines were found", found.len());
    for (place, words) in found {
        let line = words.join(" ");
        // What the program says of itself, in a sample.
        if words.get(1).is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            continue;
        }
        match cli::parse(words.iter().map(OsString::from)) {
            Ok(cli) => {
                let options = match cli.command {
                    None => cli.options,
                    Some(Command::Check { options, .. }) => *options,
                    Some(_) => continue,
                };
                if let Err(error) = options.settings() {
                    panic!("{place}: {line}\n{error}");
                }
            }
            Err(error) => assert!(!error.use_stderr(), "{place}: {line}\n{error}"),
        }
    }
}

#[test]
fn every_file_of_ours_that_a_page_names_is_there() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for file in markdown::files(root()) {
        let text = fs::read_to_string(&file).unwrap();
        if file.ends_with("CHANGELOG.md") {
            continue;
        }
        let is_of_path = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        for word in text.split(|c| !is_of_path(c)) {
            let word = word.trim_end_matches(['.', '/']);
            let is_ours = ["docs/", "packaging/", "tests/", "src/", "loadgen/src/", "benches/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            if !is_ours || word.contains("..") {
                continue;
            }
            seen += 1;
            if !root().join(word).exists() {
                missing.push(format!("{}: {word}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(seen >= 100, "only {seen} names were found");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
