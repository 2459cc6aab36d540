//! What compliance scanners say of a machine with the relay: OpenSCAP, with the content that Debian ships (SCAP Security Guide).
//! They look at files, so a folder with an auditd's files is a machine to them, and `audit-relay install --root` changes it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed helper is a failed test; what is skipped is said"
)]

#[path = "support/live.rs"]
mod live;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Output;

use live::{Need, command, have, temp_dir};

const CONTENT: &str = "/usr/share/xml/scap/ssg/content/ssg-debian11-oval.xml";

/// Which auditd the machine has.
const DPKG: &str = "Package: auditd\nStatus: install ok installed\nVersion: 1:3.0.9-1\n";

/// What audisp-syslog's package has, and what compliance checks look at.
const SYSLOG: &str = "active = no\ndirection = out\npath = /sbin/audisp-syslog\ntype = always\nargs = LOG_INFO\nformat = string\n";

/// What the scanner says of `definition`: `true` is compliant.
fn verdict(root: &Path, definition: &str) -> String {
    let id = format!("oval:ssg-{definition}:def:1");
    let output = command("oscap")
        .args(["oval", "eval", "--skip-validation", "--id", &id, CONTENT])
        .env("OSCAP_PROBE_ROOT", root)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (_, verdict) = said.split_once(&format!("{id}: ")).unwrap_or_else(|| panic!("{said}"));
    verdict.lines().next().unwrap_or_default().to_owned()
}

fn put(root: &Path, path: &str, text: &[u8], mode: u32) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    chown(&file, Some(0), Some(0)).unwrap();
}

fn relay(root: &Path, arguments: &[&str]) -> Output {
    let output = command(root.join("usr/sbin/audit-relay").to_str().unwrap())
        .args(arguments)
        .arg("--root")
        .arg(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

#[test]
fn a_scanner_that_looks_for_the_syslog_plugin_is_content_with_the_relay_in_its_place() {
    if !have(&[Need::Root, Need::Program("oscap")]) {
        return;
    }
    const PLUGIN: &str = "auditd_audispd_syslog_plugin_activated";
    let dir = temp_dir();
    let root = dir.path();
    let auditd =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/auditd/auditd-relay-and-disk.conf"))
            .unwrap();
    put(root, "etc/audit/auditd.conf", &auditd, 0o640);
    put(root, "etc/passwd", b"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", 0o644);
    put(root, "var/lib/dpkg/status", DPKG.as_bytes(), 0o644);
    put(root, "etc/audit/plugins.d/syslog.conf", SYSLOG.as_bytes(), 0o640);
    put(root, "usr/sbin/audit-relay", &fs::read(live::relay_binary()).unwrap(), 0o755);
    assert_eq!(verdict(root, PLUGIN), "false", "audisp-syslog is there and inactive");

    relay(root, &["install", "--replace-syslog", "--to", "tcp://127.0.0.1:601"]);
    let conf = fs::read_to_string(root.join("etc/audit/plugins.d/syslog.conf")).unwrap();
    // As auditd there sees the program, not as we do.
    assert!(conf.contains("path = /usr/sbin/audit-relay\n"), "{conf}");
    assert_eq!(verdict(root, PLUGIN), "true", "{conf}");

    relay(root, &["uninstall"]);
    assert_eq!(fs::read_to_string(root.join("etc/audit/plugins.d/syslog.conf")).unwrap(), SYSLOG);
    assert_eq!(verdict(root, PLUGIN), "false");
}
