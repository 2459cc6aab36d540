//! A real systemd-journald as the owner of the local socket: what `format = "auto"` sends there arrives as
//! program, pid, facility, priority and whole text. journald runs in a mount namespace of its own, does not
//! read the kernel's log, leaves the kernel's audit as it is (`Audit=` unset), and touches nothing of this
//! machine's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Runs journald, sends it `$STREAM` through the relay, and prints what it stored.
const SCRIPT: &str = r#"
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal /run/log/journal
printf '[Journal]\nStorage=volatile\nAudit=\nReadKMsg=no\nRateLimitIntervalSec=0\nForwardToSyslog=no\n' > /run/systemd/journald.conf.d/test.conf
printf '00000000000000000000000000000001\n' > /run/machine-id
mount --bind /run/machine-id /etc/machine-id
"$JOURNALD" & journald=$!
trap 'kill $journald; wait $journald || true' EXIT
for _ in $(seq 100); do [ -S /run/systemd/journal/dev-log ] && break; sleep 0.1; done
"$RELAY" --config none --to unix:/run/systemd/journal/dev-log --log stderr < "$STREAM" >&2
for _ in $(seq 100); do
    journalctl -D /run/log/journal --all -o json --no-pager SYSLOG_IDENTIFIER=auditd > /run/out || true
    [ "$(wc -l < /run/out)" -ge "$EXPECTED" ] && break
    sleep 0.1
done
# The doctor, with a journald that reads the kernel's audit records as well.
"$RELAY" doctor --json --only journald-audit,multicast-reader --config none > "$DOCTOR" || true
echo "$journald" >> "$DOCTOR"
cat /run/out
"#;

const JOURNALD: &str = "/lib/systemd/systemd-journald";

#[test]
fn journald_reads_what_auto_sends() {
    let required = std::env::var_os("CI").is_some() || std::env::var_os("AUDIT_RELAY_REQUIRE_LIVE").is_some();
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("not root")
    } else if !Path::new(JOURNALD).exists() || !Path::new("/usr/bin/journalctl").exists() {
        Some("systemd-journald is not installed")
    } else {
        None
    };
    if let Some(why) = missing {
        assert!(!required, "cannot run: {why}");
        eprintln!("SKIPPED journald_reads_what_auto_sends: {why}");
        return;
    }

    let stream = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/string.log");
    let text = String::from_utf8_lossy(&std::fs::read(stream).unwrap()).into_owned();
    let expected: Vec<_> = text.lines().filter(|line| !line.starts_with("type=EOE")).collect();
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", SCRIPT])
        .env("JOURNALD", JOURNALD)
        .env("RELAY", env!("CARGO_BIN_EXE_audit-relay"))
        .env("STREAM", stream)
        .env("DOCTOR", dir.path().join("doctor"))
        .env("EXPECTED", expected.len().to_string())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");

    let said = std::fs::read_to_string(dir.path().join("doctor")).unwrap();
    let (found, pid) = said.trim_end().rsplit_once('\n').unwrap();
    let found: serde_json::Value =
        serde_json::from_str(found).unwrap_or_else(|error| panic!("{error}: {said}"));
    let seen: Vec<_> = found["findings"].as_array().unwrap().iter().map(|f| (&f["id"], &f["seen"])).collect();
    let is_named = |(id, seen): &(&serde_json::Value, &serde_json::Value)| {
        *id == "journald-audit" && seen.as_str().unwrap().contains(&format!("systemd-journald (pid {pid})"))
    };
    assert!(seen.iter().any(is_named), "{found:#}");
    let other = |(id, seen): &(&serde_json::Value, &serde_json::Value)| {
        *id == "multicast-reader" && seen.as_str().unwrap().contains(&format!("(pid {pid})"))
    };
    assert!(!seen.iter().any(other), "journald is named once: {found:#}");

    let entries: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entries.len(), expected.len(), "{complaints}");
    let pids: BTreeMap<_, usize> = entries.iter().fold(BTreeMap::new(), |mut pids, entry| {
        *pids.entry(entry["SYSLOG_PID"].as_str().unwrap_or_default()).or_default() += 1;
        pids
    });
    assert_eq!(pids.len(), 1, "one relay, one pid: {pids:?}");
    for (entry, line) in entries.iter().zip(expected) {
        assert_eq!(
            (entry["SYSLOG_FACILITY"].as_str(), entry["PRIORITY"].as_str()),
            (Some("22"), Some("6")),
            "{entry}"
        );
        // journald strips trailing white space; the records with bytes that the relay escapes are compared
        // in stdin_to_unix.rs.
        let message = entry["MESSAGE"].as_str().unwrap_or_default();
        if line.bytes().all(|byte| matches!(byte, 0x1d | 0x20..=0x7e)) {
            assert_eq!(message, line.replace('\x1d', " ").trim_end(), "{entry}");
        }
        assert!(message.starts_with(line.split(": ").next().unwrap().trim_end_matches(':')), "{entry}");
    }
}
