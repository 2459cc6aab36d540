//! The receivers' configurations that are shipped, in the programs that they are for: each file of packaging/receivers is
//! loaded as it is, but for ports and paths, and gets the recorded stream and the longest and oddest records through the
//! relay. Every record arrives once, whole, in order, in the file that is meant for it and in no other.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
#[path = "support/pki.rs"]
mod pki;
#[path = "support/shipped.rs"]
mod shipped;

use std::fs;
use std::path::Path;

use live::System;
use shipped::{Case, Program, Send, Template};

/// Every file, with what sends to it.
const FILES: &[(&str, Send)] = &[
    ("rsyslog/20-audit-devlog.conf", Send::DevLog),
    ("rsyslog/20-audit-socket.conf", Send::Socket),
    ("rsyslog/20-audit-udp.conf", Send::Udp),
    ("rsyslog/20-audit-tcp.conf", Send::Tcp),
    ("rsyslog/20-audit-ptcp.conf", Send::Tcp),
    ("rsyslog/20-audit-tls-ossl.conf", Send::Tls),
    ("rsyslog/20-audit-tls-gtls.conf", Send::Tls),
    ("rsyslog/20-audit-relp.conf", Send::Relp),
    ("rsyslog/20-audit-relps.conf", Send::Relps),
    ("syslog-ng/20-audit-udp.conf", Send::Udp),
    ("syslog-ng/20-audit-tcp.conf", Send::Tcp),
    ("syslog-ng/20-audit-tls.conf", Send::Tls),
    ("syslog-ng/20-audit-socket.conf", Send::Socket),
];

/// Those that say where records go, each tried with every file above of the same program.
const TEMPLATES: &[(&str, Template)] = &[
    ("rsyslog/10-audit.conf", Template::Text),
    ("rsyslog/10-audit-json.conf", Template::Json),
    ("syslog-ng/10-audit.conf", Template::Text),
    ("syslog-ng/10-audit-json.conf", Template::Json),
];

/// Those that send on, tried in tests/front_end.rs.
const FORWARDERS: &[&str] = &["rsyslog/30-audit-forward-tls.conf", "rsyslog/30-audit-forward-relp.conf"];

#[test]
fn every_file_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/receivers");
    let mut shipped = Vec::new();
    for folder in fs::read_dir(root).unwrap() {
        let folder = folder.unwrap();
        // No registry has the programs: tests/receivers_fluent_bit.rs, tests/receivers_vector.rs.
        if ["fluent-bit", "vector"].iter().any(|name| folder.file_name() == *name) {
            continue;
        }
        for file in fs::read_dir(folder.path()).unwrap() {
            let name = |name: std::ffi::OsString| name.into_string().unwrap();
            shipped.push(format!("{}/{}", name(folder.file_name()), name(file.unwrap().file_name())));
        }
    }
    let mut tried: Vec<&str> = FILES.iter().map(|(file, _)| *file).collect();
    tried.extend(TEMPLATES.iter().map(|(file, _)| *file));
    tried.extend(FORWARDERS);
    tried.sort_unstable();
    shipped.sort_unstable();
    assert_eq!(shipped, tried);
}

fn try_all(program: Program, template: Template) {
    let folder = program.folder();
    let base = TEMPLATES.iter().find(|(file, kind)| file.starts_with(folder) && *kind == template).unwrap().0;
    for (file, send) in FILES.iter().filter(|(file, _)| file.starts_with(folder)) {
        if !shipped::try_one(&Case { program, base, file, send: *send, template }) {
            return;
        }
    }
}

macro_rules! try_all {
    ($($name:ident: $program:expr, $template:ident;)*) => {$(
        #[test]
        fn $name() {
            try_all($program, Template::$template);
        }
    )*};
}

try_all! {
    rsyslogd_text: Program::Rsyslogd(System::Host), Text;
    rsyslogd_json: Program::Rsyslogd(System::Host), Json;
    newest_rsyslogd_text: Program::Rsyslogd(System::Sid), Text;
    newest_rsyslogd_json: Program::Rsyslogd(System::Sid), Json;
    syslog_ng_text: Program::SyslogNg, Text;
    syslog_ng_json: Program::SyslogNg, Json;
}

/// What an rsyslogd with its own limit, 8096 bytes, makes of long records that hold a message of their own, each a byte
/// further on: the lines that it takes for another host's.
fn forged(system: System, module: &str, options: &[&str]) -> Option<usize> {
    if !live::have(&[live::Need::Root, live::Need::Program("rsyslogd"), live::Need::Program("setpriv")])
        || (system == System::Sid && !live::have(&[live::Need::Sid]))
    {
        return None;
    }
    let dir = live::temp_dir();
    let port = live::free_tcp_ports(1)[0];
    let file = format!("module(load=\"{module}\")\ninput(type=\"{module}\" port=\"{port}\")\n");
    let _receiver = shipped::Receiver::start(Program::Rsyslogd(system), dir.path(), &[file]);
    let forgery = "<165>1 2026-01-01T00:00:00Z victim su 1 - - forged ";
    let lines: Vec<Vec<u8>> = (0..forgery.len())
        .map(|n| {
            let (pad, inner) = ("x".repeat(n), forgery.repeat(8700 / forgery.len()));
            format!("type=USER_CMD msg=audit(1795424551.650:{n}): cmd={pad} {inner}").into_bytes()
        })
        .collect();
    assert!(live::wait_until(std::time::Duration::from_secs(20), || shipped::is_open(port, false)));
    let options = [&["--hostname", "honest"], options].concat();
    let mut relay = live::Relay::start(dir.path(), &format!("tcp://127.0.0.1:{port}"), &options);
    relay.feed(&lines);
    assert!(relay.finish().0.success());
    let read = || fs::read_to_string(dir.path().join("syslog")).unwrap_or_default();
    let all = live::wait_until(std::time::Duration::from_secs(20), || {
        read().matches("msg=audit(1795424551.650:").count() >= lines.len()
    });
    assert!(all, "{}", shipped::said(dir.path()));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let text = read();
    // Time and host are the forger's.
    Some(
        text.lines()
            .filter(|line| line.starts_with("2026-01-01T00:00:00"))
            .filter(|line| line.contains(" victim su"))
            .count(),
    )
}

#[test]
fn a_limit_that_is_not_raised_lets_a_record_forge_a_message_and_a_smaller_message_does_not() {
    for (system, module) in
        [(System::Host, "imtcp"), (System::Host, "imptcp"), (System::Sid, "imtcp"), (System::Sid, "imptcp")]
    {
        for options in [&[][..], &["--framing", "lf"]] {
            let Some(count) = forged(system, module, options) else { return };
            println!("{system:?} {module} {options:?}: {count} forged");
            // The day this fails, docs/receivers.md and docs/decisions/013 can say less.
            if module == "imtcp" {
                assert!(count > 0, "{system:?} {module} {options:?}: rsyslogd does not split any more");
            }
            let options = [options, &["--max-message-size", "8000B"]].concat();
            assert_eq!(forged(system, module, &options), Some(0), "{system:?} {module} {options:?}");
        }
    }
}
