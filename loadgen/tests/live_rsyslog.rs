//! `send` to a real rsyslogd over each transport that it has: its file holds every message, once, in order, to the byte.
//!
//! Skipped loudly where rsyslogd or one of its modules is not installed, unless live tests are required (`CI=true`).

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");
const COUNT: usize = 5000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether rsyslogd and its module are here; says so where they are not, past the test runner's capture.
fn have(module: &str) -> bool {
    let program =
        ["/usr/sbin/rsyslogd", "/usr/bin/rsyslogd"].into_iter().any(|path| Path::new(path).exists());
    let folders =
        ["/usr/lib/x86_64-linux-gnu/rsyslog", "/usr/lib/aarch64-linux-gnu/rsyslog", "/usr/lib64/rsyslog"];
    let found =
        program && folders.into_iter().any(|dir| Path::new(dir).join(format!("{module}.so")).exists());
    if !found {
        let why = format!("SKIPPED: no rsyslogd with {module} here\n");
        let required = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!required, "{why}");
        let _ = std::io::stderr().write_all(why.as_bytes());
    }
    found
}

struct Rsyslogd {
    child: Child,
    file: PathBuf,
}

impl Rsyslogd {
    /// One with this input, which writes every message as it came.
    fn start(dir: &Path, module: &str, input: &str, is_ready: impl Fn() -> bool) -> Self {
        let file = dir.join("messages");
        let work = dir.display();
        let conf = format!(
            "global(workDirectory=\"{work}\" maxMessageSize=\"64k\" net.enableDNS=\"off\" \
             parser.escapeControlCharactersOnReceive=\"off\")\n\
             module(load=\"{module}\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             {input}\n\
             action(type=\"omfile\" file=\"{}\" template=\"raw\")\n",
            file.display()
        );
        fs::write(dir.join("conf"), conf).unwrap();
        let child = Command::new("rsyslogd")
            .arg("-n")
            .arg("-f")
            .arg(dir.join("conf"))
            .arg("-i")
            .arg(dir.join("pid"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !is_ready() {
            let said = fs::read_to_string(dir.join("stderr")).unwrap();
            assert!(Instant::now() < deadline, "rsyslogd does not listen: {said}");
            sleep(Duration::from_millis(20));
        }
        Self { child, file }
    }

    /// What it wrote, once that are so many lines, or patience is at its end.
    fn lines(mut self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let read = || fs::read_to_string(&self.file).unwrap_or_default();
        while read().lines().count() < count && Instant::now() < deadline {
            sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
        read().lines().map(str::to_owned).collect()
    }
}

fn send(to: &str, more: &[&str]) {
    let count = COUNT.to_string();
    let output = Command::new(LOADGEN)
        .args(["send", "--to", to, "--count", &count, "--linger", "20s"])
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said} {}", String::from_utf8_lossy(&output.stderr));
}

/// Every message is there once; `ordered` says in which order.
fn assert_all(mut lines: Vec<String>, ordered: bool) {
    assert_eq!(lines.len(), COUNT);
    let number = |line: &str| line.split_once(" lg=000.").unwrap().1[..10].to_owned();
    if !ordered {
        lines.sort_by_key(|line| number(line));
    }
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(number(line), format!("{n:010x}"));
        assert!(line.starts_with("<182>1 2026-") && line.contains(" loadgen auditd - "), "{line}");
        assert!(line.contains(" msg=audit(") && line.contains(" - type="), "{line}");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether somebody listens at this TCP port, without a connection that the receiver would have to count.
fn is_taken(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_err()
}

#[test]
fn tcp_in_both_framings() {
    if !have("imtcp") {
        return;
    }
    for framing in ["octet", "lf"] {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let input = format!("input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")");
        let rsyslogd = Rsyslogd::start(dir.path(), "imtcp", &input, || is_taken(port));
        send(&format!("tcp://127.0.0.1:{port}"), &["--framing", framing]);
        assert_all(rsyslogd.lines(COUNT), true);
    }
}

#[test]
fn relp() {
    if !have("imrelp") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let input = format!("input(type=\"imrelp\" address=\"127.0.0.1\" port=\"{port}\")");
    let rsyslogd = Rsyslogd::start(dir.path(), "imrelp", &input, || is_taken(port));
    send(&format!("relp://127.0.0.1:{port}"), &[]);
    assert_all(rsyslogd.lines(COUNT), true);
}

#[test]
fn udp() {
    if !have("imudp") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // A buffer for all of them: how fast rsyslogd reads is not the question.
    let input = format!("input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" rcvbufSize=\"16m\")");
    let taken = || UdpSocket::bind(("127.0.0.1", port)).is_err();
    let rsyslogd = Rsyslogd::start(dir.path(), "imudp", &input, taken);
    send(&format!("udp://127.0.0.1:{port}"), &["--rate", "5000", "--max-lag", "30s"]);
    assert_all(rsyslogd.lines(COUNT), false);
}

#[test]
fn unix() {
    if !have("imuxsock") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let input = format!(
        "input(type=\"imuxsock\" socket=\"{}\" useSpecialParser=\"off\" ruleset=\"all\")\nruleset(name=\"all\") {{ \
         action(type=\"omfile\" file=\"{}\" template=\"raw\") stop }}",
        path.display(),
        dir.path().join("messages").display()
    );
    let rsyslogd = Rsyslogd::start(dir.path(), "imuxsock\" sysSock.use=\"off", &input, || path.exists());
    send(&format!("unix:{}", path.display()), &[]);
    assert_all(rsyslogd.lines(COUNT), true);
}
