//! The house rules that a machine can check: who may import whom, where `unsafe` may stand, and that every
//! file says what it promises. The table is the one of docs/architecture.md.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are not tests themselves")]

use std::fs;
use std::path::{Path, PathBuf};

/// Room (path prefix below src) and what its code, tests aside, must not mention.
const LAW: &[(&str, &[&str])] = &[
    ("audit", PURE),
    ("audit", &["crate::syslog", "crate::batch", "crate::queue", "crate::output", "crate::telemetry"]),
    ("syslog", PURE),
    ("syslog", &["crate::queue", "crate::output", "crate::telemetry", "crate::config"]),
    ("batch.rs", PURE),
    ("batch.rs", &["crate::syslog", "crate::queue", "crate::output"]),
    ("output/retry.rs", PURE),
    ("output/hand.rs", PURE),
    ("output/margin.rs", PURE),
    ("config/one_or_more.rs", PURE),
    ("config/units.rs", PURE),
    ("config/complaint.rs", PURE),
    ("config/next_start.rs", PURE),
    (
        "queue.rs",
        &["std::net", "nix::", "socket2", "crate::syslog", "crate::output", "crate::config", "log::"],
    ),
    ("input.rs", &["crate::syslog", "crate::output", "crate::config", "crate::queue"]),
    ("ingest", &["socket2", "nix", "std::net", "crate::output", "crate::config", "crate::control"]),
    ("ingest/echo.rs", PURE),
    ("ingest/pace.rs", &["std::io", "Instant::now", "SystemTime", "tokio", "nix::", "log::", "crate::"]),
    ("output", &["crate::audit", "crate::config", "crate::ingest", "crate::control", "clap"]),
    ("output/service.rs", PURE),
    // One room each for TLS and for certificates: rustls will be rewritten once, for 0.24.
    ("output.rs", TLS),
    ("output/link.rs", TLS),
    ("output/wire.rs", TLS),
    ("output/stream.rs", TLS),
    ("output/relp.rs", TLS),
    ("certificate.rs", &["std::fs", "std::io", "tokio", "nix", "crate::output", "crate::config"]),
    ("certificate_files.rs", &["tokio", "crate::output", "crate::config", "crate::control"]),
    ("apparmor.rs", &["crate::", "std::net", "std::process", "std::thread", "tokio", "nix", "log::"]),
    ("guarded.rs", &["std::net", "tokio", "socket2", "log::"]),
    (
        "guarded.rs",
        &["crate::output", "crate::config", "crate::ingest", "crate::control", "crate::privilege"],
    ),
    ("handover", &["tokio", "socket2", "crate::output", "crate::config", "crate::queue", "crate::ingest"]),
    ("pipeline.rs", TLS),
    ("control.rs", TLS),
    ("config", TLS),
    ("config", &["std::thread", "std::net::Tcp", "std::net::Udp", "tokio", "clap"]),
    ("cli.rs", &["std::thread", "std::net", "tokio", "nix"]),
    ("telemetry", &["std::io", "std::net", "tokio", "nix", "crate::output", "crate::ingest"]),
    ("privilege.rs", &["crate::output", "crate::ingest", "crate::control", "tokio", "clap"]),
    ("printable.rs", &["std::io", "std::fs", "tokio", "nix", "crate::"]),
    (
        "confine",
        &[
            "tokio",
            "clap",
            "std::net::Tcp",
            "std::net::Udp",
            "crate::ingest",
            "crate::control",
            "crate::pipeline",
        ],
    ),
    ("confine/needs.rs", &["std::fs", "std::io", "nix::", "landlock", "seccompiler"]),
    ("confine/calls.rs", &["std::fs", "std::io", "nix", "landlock", "crate::"]),
    ("pipeline.rs", &["clap", "serde", "std::net"]),
    (
        "control.rs",
        &["crate::audit", "crate::syslog", "crate::batch", "crate::queue", "crate::output", "clap"],
    ),
    ("site", &["crate::", "std::net", "std::process", "tokio", "log::"]),
    ("site/version.rs", PURE),
    ("site/settings.rs", PURE),
    ("site/plugin.rs", PURE),
    ("site/status.rs", PURE),
    ("site/kernel.rs", &["std::fs", "super::plugin", "super::settings"]),
    // What can be seen: only read, and pure but for its edges.
    (
        "status",
        &[
            "crate::audit",
            "crate::batch",
            "crate::queue",
            "crate::ingest",
            "crate::pipeline",
            "crate::output",
        ],
    ),
    ("status/exchange.rs", PURE),
    ("status/metrics.rs", PURE),
    ("status/view.rs", &["std::io", "std::fs", "std::env", "Instant::now", "SystemTime", "tokio", "nix::"]),
    ("status/attention.rs", PURE),
    ("status/sources.rs", &["tokio", "nix::", "fs::write", "File::create", "std::thread"]),
    ("status/why.rs", &["tokio", "nix::", "std::fs", "std::thread", "crate::config"]),
    ("status/server.rs", &["nix::", "std::fs", "crate::config", "crate::handover", "clap"]),
    ("queue/age.rs", PURE),
    ("config/seen.rs", &["std::fs", "std::io", "nix"]),
    ("dispatcher.rs", &["crate::", "std::net", "std::thread", "tokio", "log::"]),
    (
        "doctor",
        &["tokio", "rustls", "x509_parser", "crate::ingest::pace", "crate::pipeline", "crate::control"],
    ),
    ("doctor/traps.rs", PURE),
    (
        "doctor/traps",
        &["std::io", "std::fs", "std::process", "std::thread", "std::env", "Instant::now", "SystemTime"],
    ),
    ("doctor/machine.rs", &["std::io", "std::fs", "std::process", "Instant::now", "nix", "clap"]),
    ("doctor/rules.rs", PURE),
    ("doctor/rsyslog.rs", PURE),
    ("doctor/arrival.rs", PURE),
    ("doctor/print.rs", PURE),
    (
        "install",
        &[
            "tokio",
            "std::net",
            "crate::ingest",
            "crate::output",
            "crate::control",
            "crate::pipeline",
            "log::",
        ],
    ),
    ("install/plan.rs", PURE),
    ("install/live.rs", &["fs::write", "File::create", "crate::config"]),
    ("errand.rs", &["crate::", "std::net", "std::fs", "nix", "log::"]),
    ("sys.rs", &["crate::"]),
    ("fuzzing.rs", &["std::fs", "std::net", "std::thread", "tokio", "nix", "rustls", "unsafe"]),
];

/// What only the rooms of TLS and certificates name.
const TLS: &[&str] = &["rustls", "rcgen", "x509_parser", "aws_lc_rs"];

/// What makes code depend on more than its arguments.
const PURE: &[&str] = &[
    "std::io",
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime",
    "tokio",
    "crossbeam",
    "nix::",
    "libc",
    "log::",
    "socket2",
];

fn sources(dir: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(!found.is_empty(), "no sources below {}", root.display());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

/// The lines of code before the tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

#[test]
fn rooms_import_only_what_the_law_allows() {
    let mut broken = Vec::new();
    for (file, text) in sources("src") {
        for (room, forbidden) in LAW {
            let inside =
                file == *room || file == format!("{room}.rs") || file.starts_with(&format!("{room}/"));
            if !inside {
                continue;
            }
            for (line, text) in code(&text) {
                for word in *forbidden {
                    if text.contains(word) {
                        broken.push(format!("src/{file}:{line}: {word}"));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "forbidden imports:\n{}", broken.join("\n"));
}

#[test]
fn the_doors_for_fuzzing_are_used_by_fuzzing_alone() {
    for (file, text) in sources("src") {
        for (line, text) in code(&text) {
            assert!(!text.contains("crate::fuzzing"), "src/{file}:{line}: {text}");
        }
    }
}

#[test]
fn unsafe_stands_in_one_room_only() {
    for (dir, exempt) in
        [("src", Some("sys.rs")), ("loadgen/src", None), ("benches", None), ("fuzz/src", None)]
    {
        for (file, text) in sources(dir) {
            if Some(file.as_str()) == exempt {
                continue;
            }
            for (line, text) in
                text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                let says_unsafe = text.contains("unsafe ") || text.contains("allow(unsafe_code)");
                assert!(!says_unsafe || text.contains('"'), "{dir}/{file}:{}: {text}", line + 1);
            }
        }
    }
}

#[test]
fn pure_rooms_forbid_unsafe_themselves() {
    for (file, text) in sources("src") {
        if ["audit.rs", "syslog.rs", "batch.rs"].contains(&file.as_str()) {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
        }
    }
}

#[test]
fn every_file_says_what_it_promises() {
    for dir in ["src", "loadgen/src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"] {
        for (file, text) in sources(dir) {
            assert!(text.starts_with("//! "), "{dir}/{file} has no module documentation");
        }
    }
}

#[test]
fn the_load_generator_shares_no_code_with_the_relay() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("loadgen/Cargo.toml")).unwrap();
    assert!(!manifest.contains("path = \"..\"") && !manifest.contains("audit-relay ="), "{manifest}");
    for (file, text) in sources("loadgen/src") {
        assert!(!text.contains("audit_relay::"), "{file}");
    }
}
