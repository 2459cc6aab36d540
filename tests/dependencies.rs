//! What stands in the lock file and in the binaries is what docs/dependencies.md says: every crate from crates.io and
//! with its checksum, every direct dependency explained, and no more of them than are on record. Needs no network.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are not tests themselves")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The crates that building `package` takes on Linux, build scripts and macros with them, without `package` itself.
fn crates(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--edges", "normal,build", "--prefix", "none", "--no-dedupe"])
        .args(["--format", "{p}", "--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    let mut found: BTreeSet<_> = String::from_utf8(tree.stdout).unwrap().lines().filter_map(name).collect();
    found.retain(|found| !found.starts_with(&format!("{package} ")));
    found
}

#[test]
fn every_crate_comes_from_the_registry_with_its_checksum() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let mut ours = Vec::new();
    for package in lock["package"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(source) = package.get("source") else {
            ours.push(name);
            continue;
        };
        let source = source.as_str().unwrap();
        assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
        assert!(package.get("checksum").is_some_and(|sum| sum.as_str().unwrap().len() == 64), "{name}");
    }
    assert_eq!(ours, ["audit-loadgen", "audit-relay"]);
}

#[test]
fn the_number_of_crates_is_the_one_on_record() {
    let record = read("docs/dependencies.md");
    for package in ["audit-relay", "audit-loadgen"] {
        let found = crates(package);
        let row = format!("| `{package}` | {} |", found.len());
        assert!(
            record.contains(&row),
            "docs/dependencies.md does not say {row}: change it in the same commit, and say why. Now:\n{found:#?}"
        );
    }
}

#[test]
fn every_direct_dependency_is_explained() {
    let record = read("docs/dependencies.md");
    for manifest in ["Cargo.toml", "loadgen/Cargo.toml"] {
        let manifest: toml::Table = read(manifest).parse().unwrap();
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for name in
                manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys)
            {
                assert!(
                    record.contains(&format!("| `{name}` |")),
                    "docs/dependencies.md has no row of {name}"
                );
            }
        }
    }
}
