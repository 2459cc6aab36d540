//! `audit-relay doctor` on files that are planted in a folder, and on receivers that the test plays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failure here is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::pki::{Crl, Kind, Pki};
use support::sink::ClosedPort;
use support::tls_sink::TlsSink;
use support::{root_or_skip, temp_dir};

fn doctor(arguments: &[&str]) -> Output {
    // The program is found by its own path: the doctor starts it again, with an empty environment.
    Command::new(env!("CARGO_BIN_EXE_audit-relay"))
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

/// What it found: ids and severities, and what was seen.
fn findings(output: &Output) -> BTreeMap<String, (String, String)> {
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = value["findings"].as_array().unwrap();
    all.iter().map(|f| (text(f, "id"), (text(f, "severity"), text(f, "seen")))).collect()
}

fn put(root: &Path, path: &str, text: &str, mode: u32) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

const OURS: &str = "active = yes\npath = /usr/sbin/audit-relay\ntype = always\nargs = --config /etc/audit-relay.toml\nformat = string\n";
const CONF: &str =
    "log_format = RAW\nname_format = HOSTNAME\nwrite_logs = no\nq_depth = 8192\noverflow_action = SYSLOG\n";
const RELAY: &str =
    "to = [\"tls://192.0.2.1\"]\ntls-ca = \"/etc/audit-relay/ca.pem\"\nmax-message-size = \"8000B\"\n";

/// The files of a healthy machine with auditd 4.0.2.
fn healthy(root: &Path) {
    put(root, "/usr/sbin/auditd", "\x7fELF\0nothing\x004.0.2\0audit version = %s\n\0", 0o755);
    put(root, "/usr/sbin/audit-relay", "", 0o755);
    put(root, "/etc/audit/auditd.conf", CONF, 0o640);
    put(root, "/etc/audit/plugins.d/audit-relay.conf", OURS, 0o640);
    put(
        root,
        "/etc/audit/plugins.d/syslog.conf",
        "active = no\npath = /sbin/audisp-syslog\nargs = LOG_INFO\n",
        0o640,
    );
    put(root, "/etc/audit-relay.toml", RELAY, 0o644);
    put(root, "/etc/hostname", "web-1.example.org\n", 0o644);
    put(root, "/etc/rsyslog.conf", "global(maxMessageSize=\"64k\")\n*.* /var/log/syslog\n", 0o644);
    put(root, "/etc/systemd/journald.conf", "[Journal]\n", 0o644);
    let made = Command::new(env!("CARGO_BIN_EXE_audit-relay"))
        .args(["cert", "new", "--name", "h", "--days", "400"])
        .arg(root.join("etc/audit-relay-ca"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::create_dir_all(root.join("etc/audit-relay")).unwrap();
    fs::rename(root.join("etc/audit-relay-ca.pem"), root.join("etc/audit-relay/ca.pem")).unwrap();
    fs::remove_file(root.join("etc/audit-relay-ca.key")).unwrap();
}

/// Trap, severity, what plants it, a part of what is said.
type Row = (&'static str, &'static str, fn(&Path), &'static str);

const ON_DISK: &[Row] = &[
    (
        "auditd-missing",
        "problem",
        |r| fs::remove_file(r.join("usr/sbin/auditd")).unwrap(),
        "no program auditd",
    ),
    (
        "auditd-conf",
        "problem",
        |r| put(r, "/etc/audit/auditd.conf", &format!("{CONF}freq=50\n"), 0o640),
        "line 6: `freq=50`",
    ),
    (
        "auditd-conf",
        "problem",
        |r| put(r, "/etc/audit/auditd.conf", CONF, 0o666),
        "may be written by everybody",
    ),
    (
        "auditd-cuts-records",
        "problem",
        |r| {
            put(r, "/usr/sbin/auditd", "\x7fELF\x004.2.1\0", 0o755);
            put(r, "/etc/audit/auditd.conf", &CONF.replace("HOSTNAME", "NONE"), 0o640);
        },
        "auditd 4.2.1 with log_format = RAW",
    ),
    (
        "queue-depth",
        "warning",
        |r| put(r, "/etc/audit/auditd.conf", &CONF.replace("8192", "250"), 0o640),
        "q_depth is 250",
    ),
    (
        "overflow-action",
        "warning",
        |r| put(r, "/etc/audit/auditd.conf", &CONF.replace("SYSLOG", "suspend"), 0o640),
        "suspend",
    ),
    (
        "plugin-missing",
        "problem",
        |r| fs::remove_file(r.join("etc/audit/plugins.d/audit-relay.conf")).unwrap(),
        "no file in",
    ),
    (
        "plugin-missing",
        "problem",
        |r| put(r, "/etc/audit/plugins.d/audit-relay.conf", &OURS.replace("yes", "no"), 0o640),
        "active = no",
    ),
    (
        "plugin-skipped",
        "problem",
        |r| put(r, "/etc/audit/plugins.d/audit-relay.conf", OURS, 0o646),
        "may be written by everybody",
    ),
    ("plugin-skipped", "problem", |r| put(r, "/usr/sbin/audit-relay", "", 0o700), "has mode 0700"),
    (
        "plugin-skipped",
        "problem",
        |r| fs::remove_file(r.join("usr/sbin/audit-relay")).unwrap(),
        "No such file",
    ),
    (
        "plugin-skipped",
        "problem",
        |r| std::os::unix::fs::chown(r.join("usr/sbin/audit-relay"), Some(33), None).unwrap(),
        "belongs to user 33",
    ),
    (
        "plugin-skipped",
        "problem",
        |r| {
            let folder = r.join("etc/audit/plugins.d");
            fs::rename(folder.join("audit-relay.conf"), folder.join("audit.relay.conf")).unwrap();
        },
        "more than one dot",
    ),
    (
        "active-without-path",
        "problem",
        |r| put(r, "/etc/audit/plugins.d/syslog.conf", "active = yes\nargs = LOG_INFO\n", 0o640),
        "names no `path`",
    ),
    (
        "plugin-line-ignored",
        "problem",
        |r| {
            put(r, "/usr/sbin/auditd", "\x7fELF\x003.0.9\0", 0o755);
            put(
                r,
                "/etc/audit/plugins.d/audit-relay.conf",
                &OURS.replace("audit-relay.toml", "audit-relay.toml --eoe=keep"),
                0o640,
            );
        },
        "drops `--eoe=keep`",
    ),
    (
        "other-plugin",
        "warning",
        |r| put(r, "/etc/audit/plugins.d/laurel.conf", "active = yes\npath = /usr/sbin/laurel\n", 0o640),
        "No such file",
    ),
    ("two-plugins", "problem", |r| put(r, "/etc/audit/plugins.d/syslog.conf", OURS, 0o640), "is active in"),
    (
        "syslog-plugin",
        "warning",
        |r| {
            put(r, "/sbin/audisp-syslog", "", 0o755);
            put(
                r,
                "/etc/audit/plugins.d/syslog.conf",
                "active = yes\npath = /sbin/audisp-syslog\nformat = string\n",
                0o640,
            );
        },
        "is active beside",
    ),
    (
        "config",
        "problem",
        |r| put(r, "/etc/audit-relay.toml", "to = [\"tls:h\"]\n", 0o644),
        "is none that I know",
    ),
    ("config", "problem", |r| put(r, "/etc/audit-relay.toml", RELAY, 0o666), "may be written by others"),
    (
        "config",
        "problem",
        |r| put(r, "/etc/audit/plugins.d/audit-relay.conf", &OURS.replace("--config", "--confug"), 0o640),
        "--confug",
    ),
    (
        "denials",
        "warning",
        |r| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let line = format!(
                "Nov 28 x kernel: audit: type=1400 audit({now}.445:8): apparmor=\"DENIED\" operation=\"open\" comm=\"audit-relay\"\n"
            );
            put(r, "/var/log/kern.log", &line, 0o640);
        },
        "apparmor=\"DENIED\"",
    ),
    (
        "journald-rate-limit",
        "warning",
        |r| {
            put(r, "/etc/audit-relay.toml", "to = [\"unix:/dev/log\"]\n", 0o644);
            fs::create_dir_all(r.join("dev")).unwrap();
            symlink("/run/systemd/journal/dev-log", r.join("dev/log")).unwrap();
        },
        "10000 messages in 30 s",
    ),
    (
        "imuxsock-rate-limit",
        "warning",
        |r| {
            put(r, "/etc/audit-relay.toml", "to = [\"unix:/dev/log\"]\n", 0o644);
            put(
                r,
                "/etc/rsyslog.conf",
                "global(maxMessageSize=\"64k\")\n$IncludeConfig /etc/rsyslog.d/*.conf\n",
                0o644,
            );
            put(
                r,
                "/etc/rsyslog.d/1.conf",
                "module(load=\"imuxsock\" SysSock.RateLimit.Interval=\"5\")\n",
                0o644,
            );
        },
        "5 s",
    ),
    (
        "receiver-size",
        "warning",
        |r| {
            put(r, "/etc/audit-relay.toml", "to = [\"unix:/run/audit.sock\"]\n", 0o644);
            put(r, "/etc/rsyslog.conf", "*.* /var/log/syslog\n", 0o644);
        },
        "8096 bytes",
    ),
    (
        "certificate-dates",
        "warning",
        |r| {
            let made = Command::new(env!("CARGO_BIN_EXE_audit-relay"))
                .args(["cert", "new", "--name", "h", "--days", "20"])
                .arg(r.join("soon"))
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
            fs::rename(r.join("soon.pem"), r.join("etc/audit-relay/ca.pem")).unwrap();
            fs::remove_file(r.join("soon.key")).unwrap();
        },
        "ends in",
    ),
    ("hostname", "warning", |r| put(r, "/etc/hostname", "web-1\n", 0o644), "`web-1`"),
];

/// There is nobody to send to: said, and nothing is sent to /dev/log instead.
#[test]
fn a_test_message_without_a_destination_is_not_sent() {
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    for text in ["to = []\n", "to = [\"nowhere:/x\"]\n"] {
        fs::write(&file, text).unwrap();
        let only = "config,unreachable,message-undelivered,message-not-found";
        let options = ["--send", "--only", only, "--config", file.to_str().unwrap()];
        let output = doctor(&[&["--json"], &options[..]].concat());
        let found = findings(&output);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["config"], "{text}: {found:?}");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let words = String::from_utf8_lossy(&doctor(&options).stdout).into_owned();
        assert!(words.contains("none was sent, since no destination is known"), "{text}: {words}");
    }
}

#[test]
fn a_healthy_folder_is_silent_and_each_planted_trap_is_named() {
    if !root_or_skip() {
        return;
    }
    let dir = temp_dir();
    healthy(dir.path());
    let at = |root: &Path| doctor(&["--json", "--root", root.to_str().unwrap()]);
    let output = at(dir.path());
    assert_eq!((findings(&output), output.status.code()), (BTreeMap::new(), Some(0)));
    let plain = doctor(&["--root", dir.path().to_str().unwrap()]);
    let said = String::from_utf8(plain.stdout).unwrap();
    assert!(said.starts_with("nothing found; ") && said.lines().count() == 1, "{said}");
    for (id, severity, plant, part) in ON_DISK {
        let dir = temp_dir();
        healthy(dir.path());
        plant(dir.path());
        let before = listing(dir.path());
        let output = at(dir.path());
        let found = findings(&output);
        let Some((how, seen)) = found.get(*id) else { panic!("{id} ({part}) is not among {found:?}") };
        assert!(how == severity && seen.contains(part), "{id}: {how} {seen}, not {severity} {part}");
        let status = if found.values().any(|(how, _)| how == "problem") { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(status), "{id}");
        assert_eq!(listing(dir.path()), before, "{id}: the doctor has changed something");
    }
}

/// In a system that somebody else has written, anything may be a pipe that nobody writes to.
#[test]
fn pipes_in_the_place_of_files_hold_nothing_up_and_strange_words_rule_no_terminal() {
    let dir = temp_dir();
    healthy(dir.path());
    fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
    fs::create_dir_all(dir.path().join("var/log/audit")).unwrap();
    // Without a program the version is looked for in the list of packages.
    for pipe in
        ["usr/sbin/auditd", "var/lib/dpkg/status", "etc/audit-relay/ca.pem", "var/log/audit/audit.log"]
    {
        let _ = fs::remove_file(dir.path().join(pipe));
        nix::unistd::mkfifo(&dir.path().join(pipe), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let line = format!("audit({now}.1:1): avc:  denied  {{ x }} comm=\"audit-relay\" \u{1b}]0;owned\u{7}\n");
    put(dir.path(), "/var/log/syslog", &line, 0o644);
    let mut child = Command::new(env!("CARGO_BIN_EXE_audit-relay"))
        .args(["doctor", "--root", dir.path().to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("the doctor waits for a pipe");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains("ca.pem") && said.contains("not a regular file"), "{said}");
    assert!(said.contains("owned") && !said.contains('\u{1b}') && !said.contains('\u{7}'), "{said:?}");
}

/// Every file below, with its mode, owner, time of change and length.
fn listing(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let facts = fs::symlink_metadata(&path).unwrap();
        let (ctime, mode) = ((facts.ctime(), facts.ctime_nsec()), facts.mode());
        all.push(format!("{} {mode:o} {} {ctime:?} {}", path.display(), facts.uid(), facts.len()));
        if facts.is_dir() {
            all.extend(listing(&path));
        }
    }
    all.sort();
    all
}

#[test]
fn the_list_is_whole_and_ids_are_checked() {
    let list = String::from_utf8(doctor(&["--list"]).stdout).unwrap();
    let ids: Vec<_> = list.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(ids.len() > 60 && ids.contains(&"auditd-cuts-records"), "{list}");
    let wrong = doctor(&["--only", "clock,no-such-trap"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`no-such-trap` is no trap"));
    // Only what was asked for.
    let one =
        doctor(&["--only", "unreachable", "--json", "--config", "none", "--to", "unix:/no/such/socket"]);
    let found = findings(&one);
    assert_eq!((found.len(), one.status.code()), (1, Some(2)), "{found:?}");
    assert!(found["unreachable"].1.contains("unix:/no/such/socket: No such file"), "{found:?}");
}

#[test]
fn without_root_it_says_what_it_could_not_see() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_audit-relay"));
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::process::CommandExt as _;
        command.uid(65534).gid(65534);
    }
    let output =
        command.args(["doctor", "--config", "none", "--to", "stdout:"]).env_clear().output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("not seen: what only root may see"),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("traps looked for in "), "{said}");
}

#[test]
fn a_receiver_that_hangs_is_named_in_time() {
    // Takes the connection and never speaks TLS.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tls://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let start = Instant::now();
    let output = doctor(&[
        "--json",
        "--within",
        "2",
        "--only",
        "unreachable,handshake",
        "--config",
        "none",
        "--to",
        &url,
        "--tls-verify",
        "none",
    ]);
    let took = start.elapsed();
    let found = findings(&output);
    assert!(found["unreachable"].1.contains("no answer in time"), "{found:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn receivers_are_tried_as_they_will_be() {
    let dir = temp_dir();
    let pki = Pki::new(&dir.path().join("pki"));
    let ca = pki.ca_file();
    let examine = |url: &str, more: &[&str]| {
        let only =
            ["--json", "--only", "unreachable,handshake,tls-files,certificate-dates,message-undelivered"];
        let base = ["--config", "none", "--user", "nobody", "--to", url];
        findings(&doctor(&[&only[..], &base, more].concat()))
    };
    let closed = ClosedPort::new();
    let found = examine(&format!("tcp://{}", closed.address()), &[]);
    assert!(found["unreachable"].1.contains("refused") && found.len() == 1, "{found:?}");

    for (kind, problem) in
        [(Kind::Good, None), (Kind::Expired, Some("expired")), (Kind::OtherName, Some("name"))]
    {
        let sink = TlsSink::new(&pki.server("logs", kind));
        let url = sink.url("tls");
        let serving = thread::spawn(move || {
            if let Ok(mut session) = sink.try_accept() {
                assert_eq!(session.read_to_close(), b"", "the doctor sends nothing unless asked to");
                assert!(session.ended_in_order(), "with close_notify, so that no receiver complains");
                session.close();
            } else {
                // Only then it asks whether anybody is there at all.
                drop(sink.accept_tcp());
            }
            sink
        });
        let found = examine(&url, &["--tls-ca", ca.to_str().unwrap()]);
        let sink = serving.join().unwrap();
        sink.listener().set_nonblocking(true).unwrap();
        let more = sink.listener().accept().map(drop).unwrap_err();
        assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock, "no connection that says nothing");
        match problem {
            None => {
                assert!(!found.contains_key("handshake") && !found.contains_key("unreachable"), "{found:?}")
            }
            Some(word) => assert!(found["handshake"].1.contains(word), "{kind:?}: {found:?}"),
        }
    }
    // A revocation list that should have been replaced by now.
    let list = pki.crl("old", Crl::Expired);
    let found = examine(
        &format!("tls://{}", closed.address()),
        &["--tls-ca", ca.to_str().unwrap(), "--tls-crl", list.to_str().unwrap()],
    );
    assert!(found["certificate-dates"].1.contains("the revocation list"), "{found:?}");
    // A key that the relay's account may not read. Root may.
    if root_or_skip() {
        let client = pki.client("client", Kind::Good);
        std::os::unix::fs::chown(&client.key, Some(0), Some(0)).unwrap();
        fs::set_permissions(&client.key, fs::Permissions::from_mode(0o600)).unwrap();
        let (cert, key) = (client.certificate.to_str().unwrap(), client.key.to_str().unwrap());
        let found = examine(
            &format!("tls://{}", closed.address()),
            &["--tls-ca", ca.to_str().unwrap(), "--tls-cert", cert, "--tls-key", key],
        );
        assert!(found["tls-files"].1.contains(key), "{found:?}");
    }
}

#[test]
fn a_socket_is_tried_as_the_relays_account() {
    if !root_or_skip() {
        return;
    }
    let dir = temp_dir();
    let path = dir.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let tried = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let url = format!("unix-stream:{}", path.display());
        findings(&doctor(&[
            "--json",
            "--only",
            "unreachable",
            "--config",
            "none",
            "--user",
            "nobody",
            "--to",
            &url,
        ]))
    };
    assert_eq!(tried(0o666), BTreeMap::new());
    let refused = tried(0o600);
    assert!(refused["unreachable"].1.contains("Permission denied"), "{refused:?}");
}
