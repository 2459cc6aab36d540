//! A relay that a real auditd runs, seen from outside: while its receiver stalls, when that is over, and after auditd has
//! reloaded.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use live::{
    Auditd, KernelAudit, LogFormat, Need, Setup, System, Wire, command, relay_binary, user_messages,
    wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const NEEDS: [Need; 4] =
    [Need::Root, Need::Program("auditd"), Need::Program("auditctl"), Need::Program("setpriv")];

const LIMIT: Duration = Duration::from_secs(30);

fn status(socket: &Path, form: &[&str]) -> Output {
    command(relay_binary().to_str().unwrap())
        .arg("status")
        .arg("--socket")
        .arg(socket)
        .args(form)
        .output()
        .unwrap()
}

fn report(socket: &Path) -> Value {
    serde_json::from_slice(&status(socket, &["--json"]).stdout).unwrap_or_default()
}

/// Messages of some 900 bytes.
fn storm(count: usize) {
    let pad = "x".repeat(800);
    user_messages((0..count).map(|n| (1107, format!("op=storm n={n} pad={pad}").into_bytes())));
}

fn seen(system: System) {
    if !live::have(&NEEDS) || (system == System::Sid && !live::have(&[Need::Sid, Need::Program("unshare")])) {
        return;
    }
    let Some(kernel) = KernelAudit::take() else { return };
    let dir = live::temp_dir();
    let socket = dir.path().join("status.sock");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "to = [\"tcp://{}\"]\nuser = \"nobody\"\nqueue-size = \"256KiB\"\nlog = \"none\"\nhandover = \"off\"\nstatus = \"{}\"\n",
        listener.local_addr().unwrap(),
        socket.display()
    );
    // Takes nothing until it is told to, then everything, connection after connection.
    let (go, told) = mpsc::channel::<()>();
    thread::spawn(move || {
        let mut told = Some(told);
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            if let Some(told) = told.take() {
                told.recv().unwrap();
            }
            thread::spawn(move || std::io::copy(&mut connection.by_ref(), &mut std::io::sink()));
        }
    });
    let setup = Setup { system, log: LogFormat::Enriched, wire: Wire::Text, node: None };
    let mut auditd = Auditd::start(&setup, dir.path(), &config);
    assert!(wait_until(LIMIT, || report(&socket)["pid"] == auditd.relay()));

    // Where nobody answers, it is said what auditd does about it.
    let elsewhere = status(&dir.path().join("none.sock"), &[]);
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert_eq!(elsewhere.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("auditd runs (pid {})", auditd.pid())), "{said}");
    if system == System::Host {
        assert!(said.contains("has it start the relay"), "{said}");
    }

    // A loopback connection holds some megabytes in its kernels.
    assert!(wait_until(LIMIT, || {
        storm(2000);
        report(&socket)["destinations"][0]["lost"]["overflow"].as_u64() > Some(0)
    }));
    let d = report(&socket)["destinations"][0].clone();
    assert!(d["queue"]["bytes"].as_f64().unwrap() > 0.5 * d["queue"]["limit"].as_f64().unwrap(), "{d}");
    let age = || report(&socket)["destinations"][0]["queue"]["oldest_seconds"].as_f64();
    let before = age().unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(age().unwrap() > before + 0.3, "it grows older: {before} {:?}", age());
    let shown = status(&socket, &[]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("records lost"), "{shown:?}");

    go.send(()).unwrap();
    assert!(
        wait_until(LIMIT, || report(&socket)["destinations"][0]["in_flight"] == 0),
        "{}",
        report(&socket)
    );
    let (now, d) = (report(&socket), report(&socket)["destinations"][0].clone());
    let sum = d["sent"].as_u64().unwrap() + d["lost"]["overflow"].as_u64().unwrap();
    assert!(sum <= d["due"].as_u64().unwrap() && now["read"].as_u64() > Some(2000), "{now}");

    // auditd up to 4.1 tells the relay to read its configuration again; 4.2 starts another.
    let pid = auditd.relay();
    auditd.signal(Signal::SIGHUP);
    if system == System::Sid {
        assert!(wait_until(LIMIT, || !auditd.relays().contains(&pid) && !auditd.relays().is_empty()));
    }
    assert!(
        wait_until(LIMIT, || report(&socket)["pid"] == auditd.relay()),
        "{:?} {}",
        auditd.relays(),
        report(&socket)["pid"]
    );
    kernel.check_undisturbed(&auditd);
    auditd.stop();
    assert!(wait_until(LIMIT, || status(&socket, &[]).status.code() == Some(69)));
}

#[test]
fn a_relay_under_auditd_is_seen() {
    seen(System::Host);
}

#[test]
fn a_relay_under_the_newest_auditd_is_seen_after_a_reload_too() {
    seen(System::Sid);
}
