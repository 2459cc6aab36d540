//! The relay before a local rsyslogd that sends on: a real auditd, the relay, rsyslogd with the shipped socket, and the
//! central rsyslogd behind the shipped forwarders, over TLS and over RELP. What auditd has in its log is in the centre's
//! file, record by record, and nowhere else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
#[path = "support/pki.rs"]
mod pki;
#[path = "support/shipped.rs"]
mod shipped;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use live::{
    Auditd, KernelAudit, LogFormat, Need, Setup, System, Wire, command, expected_text, free_tcp_ports,
    record_type, user_messages, wait_until,
};
use pki::{Kind, Pki};
use shipped::{Program, Receiver, Template, Written, is_open, substituted};

const HOST: &str = "relay-test.example";

/// The centre's file and the local rsyslogd's, and the port in both.
struct Way {
    inlet: &'static str,
    forwarder: &'static str,
    port: &'static str,
}

const TLS: Way = Way {
    inlet: "rsyslog/20-audit-tls-ossl.conf",
    forwarder: "rsyslog/30-audit-forward-tls.conf",
    port: "port=\"6514\"",
};
const RELP: Way = Way {
    inlet: "rsyslog/20-audit-relps.conf",
    forwarder: "rsyslog/30-audit-forward-relp.conf",
    port: "port=\"2514\"",
};

fn records(dir: &Path) -> Vec<Written> {
    let text = fs::read_to_string(dir.join("audit-relay.log")).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    text[..whole].lines().map(|line| Written::read(line, Template::Text)).collect()
}

fn from_kernel_to_centre(auditd: System, way: &Way) {
    let needs = [
        Need::Root,
        Need::Program("auditd"),
        Need::Program("auditctl"),
        Need::Program("rsyslogd"),
        Need::Program("setsid"),
    ];
    if !live::have(&needs) || (auditd == System::Sid && !live::have(&[Need::Sid])) {
        return;
    }
    let Some(kernel) = KernelAudit::take() else { return };
    let (dir, centre_dir) = (live::temp_dir(), live::temp_dir());
    // Below auditd's folder, which both systems see.
    let local_dir = dir.path().join("local");
    fs::create_dir(&local_dir).unwrap();
    let (centre_here, here) = (centre_dir.path().display().to_string(), local_dir.display().to_string());
    let pki = Pki::new(&centre_dir.path().join("pki"));
    let _ = pki.server("logs", Kind::Good);
    let port = free_tcp_ports(1)[0];
    let (number, cert, log) =
        (format!("port=\"{port}\""), format!("{centre_here}/pki/"), format!("{centre_here}/audit-relay.log"));
    let replace = [(way.port, &*number), ("/etc/ssl/audit/", &*cert), ("/var/log/audit-relay.log", &*log)];
    let files = ["rsyslog/10-audit.conf", way.inlet].map(|file| substituted(file, &replace));
    let mut centre = Receiver::start(Program::Rsyslogd(System::Host), centre_dir.path(), &files);
    assert!(
        wait_until(Duration::from_secs(20), || is_open(port, false)),
        "{}",
        shipped::said(centre_dir.path())
    );

    let socket = format!("{here}/audit.sock");
    let replace = [
        (way.port, &*number),
        ("/etc/ssl/audit/", &*cert),
        // The certificate's name.
        ("logs.example.org", "localhost"),
        ("/run/audit.sock", &*socket),
    ];
    let files = [way.forwarder, "rsyslog/20-audit-socket.conf"].map(|file| substituted(file, &replace));
    let mut local = Receiver::start(Program::Rsyslogd(System::Host), &local_dir, &files);
    assert!(
        wait_until(Duration::from_secs(20), || Path::new(&socket).exists()),
        "{}",
        shipped::said(&local_dir)
    );

    let setup = Setup { system: auditd, log: LogFormat::Enriched, wire: Wire::Text, node: None };
    let config = format!(
        "to = [\"unix:{socket}\"]\nformat = \"rfc5424\"\nhostname = \"{HOST}\"\nuser = \"nobody\"\nhandover = \"off\"\n"
    );
    let mut auditd = Auditd::start(&setup, dir.path(), &config);
    kernel.load(&[format!("-a always,exit -F arch=b64 -S execve -F ppid={} -k exec", std::process::id())]);
    for n in 0..100 {
        command("true").arg(format!("run-{n}")).arg("a b").stdout(Stdio::null()).status().unwrap();
    }
    command("true").args(["A".repeat(9000), "a b".repeat(3000)]).stdout(Stdio::null()).status().unwrap();
    let messages = (0..500).map(|n| (1121, format!("op=said-{n} pad={}", "x".repeat(n * 17)).into_bytes()));
    user_messages(messages);
    user_messages([(1121, b"op=the-last-one of all of them ".to_vec())]);
    let arrived = |word: &str| fs::read_to_string(&log).unwrap_or_default().contains(word);
    let there = wait_until(Duration::from_secs(40), || {
        centre.check(centre_dir.path());
        local.check(&local_dir);
        arrived("the-last-one")
    });
    assert!(there, "{} {}", shipped::said(centre_dir.path()), shipped::said(&local_dir));
    auditd.stop();

    let text = auditd.log();
    let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|&b| b == b'\n').map(expected_text);
    let expected: Vec<String> =
        lines.filter(|text| !["EOE", "DAEMON_END"].contains(&record_type(text))).collect();
    assert!(expected.len() > 1000, "{}", expected.len());
    let written = records(centre_dir.path());
    let written: Vec<Written> = written.into_iter().filter(|w| w.kind != "DAEMON_END").collect();
    for (n, (w, expected)) in written.iter().zip(&expected).enumerate() {
        assert_eq!(
            (&w.text, w.kind.as_str()),
            (expected, record_type(expected)),
            "record {n} of {}",
            written.len()
        );
        assert_eq!((w.pri.as_str(), w.host.as_str(), w.app.as_str()), ("<182>1", HOST, "auditd"), "{w:?}");
        assert_eq!(w.sequence, (n + 1).to_string(), "{w:?}");
    }
    assert_eq!(written.len(), expected.len());
    for dir in [local_dir.as_path(), centre_dir.path()] {
        let elsewhere = fs::read_to_string(dir.join("syslog")).unwrap_or_default();
        assert!(!elsewhere.contains("msg=audit("), "also in /var/log/syslog: {elsewhere}");
    }
}

#[test]
fn over_tls() {
    from_kernel_to_centre(System::Host, &TLS);
}

#[test]
fn over_relp() {
    from_kernel_to_centre(System::Host, &RELP);
}

#[test]
fn newest_auditd_over_tls() {
    from_kernel_to_centre(System::Sid, &TLS);
}

#[test]
fn newest_auditd_over_relp() {
    from_kernel_to_centre(System::Sid, &RELP);
}
