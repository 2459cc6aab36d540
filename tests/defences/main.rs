//! The table of defences still fits the tree: each can be taken out, and each test that it names is there. That the
//! tests fail then is what `cargo run --example defences` tries (docs/security.md); it takes too long for every run.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use table::Defence;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file in which a test must stand, and the function's name.
fn place(target: &str, name: &str) -> (PathBuf, String) {
    let path: Vec<_> = name.split("::").collect();
    let (function, modules) = path.split_last().unwrap();
    let file = match target {
        // `tests` is the module in a file, or a file of its own.
        "lib" => {
            let module = modules.strip_suffix(&["tests"]).unwrap_or(modules).join("/");
            let own = root().join(format!("src/{module}/tests.rs"));
            if own.exists() { own } else { root().join(format!("src/{module}.rs")) }
        }
        _ => {
            let file = root().join(format!("tests/{target}.rs"));
            if file.exists() { file } else { root().join(format!("tests/{target}/main.rs")) }
        }
    };
    (file, (*function).to_owned())
}

#[test]
fn each_defence_can_be_taken_out() {
    for defence in Defence::all(root()) {
        let text = fs::read_to_string(root().join(&defence.file)).unwrap();
        let without = defence.taken_out(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(without, text, "{}", defence.name);
    }
}

#[test]
fn each_test_that_is_named_is_there() {
    for defence in Defence::all(root()) {
        assert!(!defence.tests.is_empty(), "{}", defence.name);
        for (target, name) in defence.targets() {
            let (file, function) = place(target, name);
            let text =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let words = || text.split(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(
                words().any(|word| word == function),
                "{}: no {function} in {}",
                defence.name,
                file.display()
            );
        }
    }
}

#[test]
fn no_two_are_called_the_same() {
    let all = Defence::all(root());
    let names: BTreeSet<_> = all.iter().map(|defence| &defence.name).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.len() >= 50, "only {}", all.len());
    assert!(all.iter().filter(|defence| defence.alone).count() < all.len() / 5, "most can be told apart");
}

/// The page says how many there are.
#[test]
fn the_page_counts_them() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let said = format!("{} defences", Defence::all(root()).len());
    assert!(page.contains(&said), "docs/security.md does not say `{said}`");
}
