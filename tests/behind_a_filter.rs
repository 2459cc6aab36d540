//! The relay behind a program that is called audisp-filter, reads a socket and writes a pipe, as the real one does
//! (tests/live_filter.rs). This one does as the test says: a shell under that name.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

const RECORD: &str = "type=USER_CMD msg=audit(1795424551.650:1): pid=1 uid=0 msg='op=";

/// Runs `script` with a relay in the background, its input on descriptor 3 and its id in `$relay`, and waits for both.
fn filter(name: &str, script: &str, options: &str) -> (Output, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy("/bin/sh", dir.path().join(name)).unwrap();
    let script = format!(
        "set -eu; cd '{}'; mkfifo pipe\n\
         \"$RELAY\" --config none --to stdout: --log stderr --handover off {options} <pipe >out 2>err & relay=$!\n\
         exec 3>pipe\n{script}\n",
        dir.path().display()
    );
    let (auditd, input) = UnixStream::pair().unwrap();
    // A relay that waits for its receiver would make the shell wait for ever.
    let child = Command::new("timeout")
        .arg("30")
        .arg(dir.path().join(name))
        .args(["-c", &script])
        .env("RELAY", env!("CARGO_BIN_EXE_audit-relay"))
        .env("RECORD", RECORD)
        .stdin(Stdio::from(OwnedFd::from(input)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    drop(auditd);
    // The relay goes on for a moment after its parent; its output is whole when nobody holds the file for writing.
    let out = dir.path().join("out");
    let ended = || fs::read_to_string(dir.path().join("err")).unwrap_or_default().contains("in flight 0");
    for _ in 0..500 {
        if ended() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let said = fs::read_to_string(dir.path().join("err")).unwrap();
    let text = fs::read_to_string(out).unwrap();
    assert!(output.status.success(), "{output:?} {said}");
    (output, format!("{text}{said}"))
}

/// TERM, which the filter passes on, and then its last events.
const TERM_FIRST: &str = "
    echo \"${RECORD}first'\" >&3
    sleep 0.3
    kill -TERM $relay
    sleep 0.5
    echo \"${RECORD}last'\" >&3
    sleep 0.3
    kill -0 $relay && echo alive";

#[test]
fn the_term_of_the_filter_is_not_the_end_of_its_input() {
    let (output, text) = filter("audisp-filter", TERM_FIRST, "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "alive\n", "{text}");
    assert!(text.contains("op=first'") && text.contains("op=last'"), "{text}");
    assert!(text.contains("read 2"), "{text}");
}

#[test]
fn the_term_of_another_parent_is() {
    // Writing to a pipe without a reader would end the shell.
    let script = TERM_FIRST.replace("echo \"${RECORD}last'\" >&3", ":");
    let script = script.replace("kill -0 $relay && echo alive", "kill -0 $relay 2>&- || echo gone");
    let (output, text) = filter("another", &script, "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "gone\n", "{text}");
}

#[test]
fn a_receiver_that_takes_nothing_does_not_hold_up_the_filter() {
    // 4 MB: more than the pipe and the smallest queue.
    let flood = "
        i=0
        while [ $i -lt 4000 ]; do
            printf '%s%1000d\\047\\n' \"$RECORD\" $i >&3
            i=$((i + 1))
        done
        echo through";
    let nowhere = "--to tcp://127.0.0.1:1 --queue-size 256KiB --drain-timeout 0ms";
    let (output, text) = filter("audisp-filter", flood, nowhere);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "through\n", "{text}");
    assert!(text.contains("overflow"), "{text}");
}
