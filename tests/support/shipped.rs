//! One shipped configuration in its program, and the relay before it.
//!
//! Law: of a file only ports, and the paths of sockets, certificates and the records' file, are replaced, and each must be
//! there to be replaced. The rest of the program's configuration is what a distribution has: an rsyslog.conf that reads
//! rsyslog.d behind its modules and before its rules, which write everything to one file.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::live::{
    Need, Relay, System, end, expected_text, free_tcp_ports, have, record_type, syslog_ng_root, temp_dir,
    wait_until,
};
use super::pki::{Kind, Pki};

const HOST: &str = "relay-test.example";

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Rsyslogd(System),
    SyslogNg,
}

impl Program {
    pub(crate) fn folder(self) -> &'static str {
        if self == Self::SyslogNg { "syslog-ng/" } else { "rsyslog/" }
    }
}

/// How the relay sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Send {
    /// RFC 3164 to the socket that the program has anyway.
    DevLog,
    /// RFC 5424 to the socket of the file.
    Socket,
    Udp,
    Tcp,
    Tls,
    Relp,
    Relps,
}

/// What the records' file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) program: Program,
    pub(crate) base: &'a str,
    pub(crate) file: &'a str,
    pub(crate) send: Send,
    pub(crate) template: Template,
}

/// A record as the receiver has written it.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) pri: String,
    pub(crate) host: String,
    pub(crate) app: String,
    pub(crate) kind: String,
    pub(crate) sequence: String,
    pub(crate) text: String,
}

impl Written {
    pub(crate) fn read(line: &str, template: Template) -> Self {
        match template {
            Template::Text => {
                let fields: Vec<&str> = line.splitn(9, ' ').collect();
                let [_received, _from, pri, _time, host, app, _pid, kind, rest] = fields[..] else {
                    panic!("not in the template: {line:?}")
                };
                let (sequence, text) = match rest.strip_prefix("[meta sequenceId=\"") {
                    Some(rest) => rest.split_once("\"] ").unwrap(),
                    None => ("", rest.split_once(' ').unwrap().1),
                };
                let word = |word: &str| word.to_owned();
                Self {
                    pri: word(pri),
                    host: word(host),
                    app: word(app),
                    kind: word(kind),
                    sequence: word(sequence),
                    text: word(text),
                }
            }
            Template::Json => {
                let object: serde_json::Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
                let word = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
                assert!(
                    !word("received").is_empty() && !word("time").is_empty() && !word("from").is_empty(),
                    "{line}"
                );
                let pri = match (word("facility").as_str(), word("severity").as_str()) {
                    ("local6", "info") => "<182>1".to_owned(),
                    other => format!("{other:?}"),
                };
                let record = word("record");
                let text = record.strip_prefix(' ').unwrap_or(&record).to_owned();
                Self {
                    pri,
                    host: word("host"),
                    app: word("app"),
                    kind: word("type"),
                    sequence: word("sequence"),
                    text,
                }
            }
        }
    }
}

/// The start of the recorded stream, and what is hard: the shortest and the longest, separators, hexadecimal, odd bytes.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/string.log");
    let bytes = fs::read(file).unwrap();
    let mut lines: Vec<Vec<u8>> = bytes.split(|&b| b == b'\n').take(600).map(<[u8]>::to_vec).collect();
    let made = |body: &[u8]| [b"type=USER_CMD msg=audit(1795424551.650:77): ".as_slice(), body].concat();
    lines.push(made(b"pid=1 uid=0 res=1"));
    lines.push(made(b"pid=1\x1dUID=\"root\" AUID=\"unset\""));
    lines.push(made(b"tab\there, bell\x07 \x1b[31m <182>1 - forged - - - - text"));
    lines.push(made("acct=\"J\u{fc}rgen \u{1f600}\" \"quoted\" back\\slash [sd x=\"y\"]".as_bytes()));
    // Around the limits: of rsyslogd 8096, of a datagram's usual buffers, of auditd.
    for size in [1023, 1025, 2047, 2049, 4095, 4097, 7900, 7990, 8000, 8050, 8096, 8100, 8192, 8300, 8900] {
        lines.push(made(&[b"cmd=".as_slice(), b"4F".repeat(size / 2).as_slice()].concat()));
    }
    lines
}

/// The configuration with this run's ports and paths.
pub(crate) fn substituted(file: &str, replace: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/receivers").join(file);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (from, to) in replace {
        text = text.replace(from, to);
    }
    let left = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let left: Vec<_> = left
        .filter(|line| ["/etc/", "/var/", "/run/", "example.org"].iter().any(|path| line.contains(path)))
        .collect();
    assert!(left.is_empty(), "{file}: not replaced: {left:?}");
    text
}

/// A program with shipped files in it, ended with its handle.
#[derive(Debug)]
pub(crate) struct Receiver {
    child: Child,
}

impl Receiver {
    /// Starts it in `dir`, with its own log and everything that no shipped file has taken in `syslog`.
    pub(crate) fn start(program: Program, dir: &Path, files: &[String]) -> Self {
        let here = dir.display();
        let log = File::create(dir.join("receiver.stderr")).unwrap();
        let mut command = match program {
            Program::Rsyslogd(system) => {
                // As Debian's: a module before, rules behind.
                let conf = format!(
                    "module(load=\"imuxsock\" SysSock.Name=\"{here}/devlog\")\nglobal(workDirectory=\"{here}\")\n{}\n\
                     *.*;auth,authpriv.none action(type=\"omfile\" file=\"{here}/syslog\")\n",
                    files.join("\n")
                );
                fs::write(dir.join("receiver.conf"), conf).unwrap();
                let mut command = system.command("rsyslogd", dir);
                command.env("LD_PRELOAD", "libgcc_s.so.1").arg("-n").arg("-f").arg(dir.join("receiver.conf"));
                command.arg("-i").arg(dir.join("receiver.pid"));
                command
            }
            Program::SyslogNg => {
                let conf = format!(
                    "@version: 3.38\nsource s_src {{ internal(); }};\n\
                     log {{ source(s_src); destination {{ file(\"{here}/syslog\"); }}; }};\n{}\n",
                    files.join("\n")
                );
                fs::write(dir.join("receiver.conf"), conf).unwrap();
                let own = syslog_ng_root().join("usr/lib/syslog-ng");
                let modules = fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().path());
                let modules = modules.into_iter().find(|path| path.is_dir()).expect("a folder with modules");
                let mut command = super::live::command("setpriv");
                command.args(["--pdeathsig", "KILL"]).arg(syslog_ng_root().join("usr/sbin/syslog-ng"));
                command
                    .args(["--foreground", "--no-caps", "--stderr", "--cfgfile"])
                    .arg(dir.join("receiver.conf"));
                command.arg(format!("--module-path={}", modules.display())).env("LD_LIBRARY_PATH", own);
                for (option, file) in
                    [("persist-file", "ng.persist"), ("control", "ng.ctl"), ("pidfile", "ng.pid")]
                {
                    command.arg(format!("--{option}={}", dir.join(file).display()));
                }
                command
            }
        };
        let child = spawn(&mut command, log);
        Self { child }
    }

    /// Fails if it has ended, with what it said.
    pub(crate) fn check(&mut self, dir: &Path) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", said(dir));
    }
}

fn spawn(command: &mut Command, log: File) -> Child {
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

pub(crate) fn said(dir: &Path) -> String {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    format!("{} {}", read("receiver.stderr"), read("syslog"))
}

impl Drop for Receiver {
    fn drop(&mut self) {
        end(&mut self.child, Duration::from_secs(20));
    }
}

/// A program that no machine of CI has, started by hand (tests/receivers_fluent_bit.rs, tests/receivers_vector.rs); ended with
/// its handle.
#[derive(Debug)]
pub(crate) struct ByHand {
    child: Child,
    dir: PathBuf,
}

impl ByHand {
    /// The program that the environment's `variable` names. It is no reason to pass that none is named.
    pub(crate) fn start(dir: &Path, variable: &str, arguments: &[OsString]) -> Self {
        let program = std::env::var_os(variable);
        let program = program.unwrap_or_else(|| panic!("{variable}=/path names the program of this test"));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(arguments);
        let child = spawn(&mut command, File::create(dir.join(BY_HAND_SAID)).unwrap());
        Self { child, dir: dir.to_owned() }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.dir.join(BY_HAND_SAID)).unwrap_or_default()
    }

    /// Waits until `there` says that it listens.
    pub(crate) fn listens(&mut self, mut there: impl FnMut() -> bool) {
        let ready = wait_until(Duration::from_secs(30), || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.said());
            there()
        });
        assert!(ready, "does not listen: {}", self.said());
    }

    /// Has a relay send the records there, and end in order.
    pub(crate) fn send(&self, url: &str, options: &[&str], records: &[Vec<u8>]) {
        let mut relay = Relay::start(&self.dir, url, &[&["--hostname", HOST], options].concat());
        relay.feed(records);
        let (status, report) = relay.finish();
        assert!(status.success(), "{url}: {status} {report:?}; the receiver said: {}", self.said());
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        end(&mut self.child, Duration::from_secs(30));
    }
}

const BY_HAND_SAID: &str = "receiver.said";

/// Whether something waits at this port, TCP or UDP.
pub(crate) fn is_open(port: u16, udp: bool) -> bool {
    let (file, state) = if udp { ("udp", "07") } else { ("tcp", "0A") };
    let own = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let six = fs::read_to_string(format!("/proc/thread-self/net/{file}6")).unwrap_or_default();
    let port = format!(":{port:04X} ");
    own.lines().chain(six.lines()).any(|line| line.contains(&port) && line.contains(&format!(" {state} ")))
}

/// Runs one case. False: it cannot run here and has said so.
pub(crate) fn try_one(case: &Case<'_>) -> bool {
    let needs: &[Need] = match case.program {
        Program::Rsyslogd(System::Host) => &[Need::Root, Need::Program("rsyslogd"), Need::Program("setpriv")],
        Program::Rsyslogd(System::Sid) => &[Need::Root, Need::Sid, Need::Program("unshare")],
        Program::SyslogNg => &[Need::Root, Need::SyslogNg, Need::Program("setpriv")],
    };
    if !have(needs) {
        return false;
    }
    let dir = temp_dir();
    let here = dir.path().display().to_string();
    let pki = Pki::new(&dir.path().join("pki"));
    let _ = pki.server("logs", Kind::Good);
    let port = free_tcp_ports(1)[0];
    let numbers = (format!("port=\"{port}\""), format!("port({port})"));
    let (cert, log, socket) =
        (format!("{here}/pki/"), format!("{here}/audit-relay.log"), format!("{here}/audit.sock"));
    let mut replace =
        vec![("/etc/ssl/audit/", &*cert), ("/var/log/audit-relay.log", &*log), ("/run/audit.sock", &*socket)];
    for old in ["514", "601", "6514", "2514"] {
        replace.push((Box::leak(format!("port=\"{old}\"").into_boxed_str()), &numbers.0));
        replace.push((Box::leak(format!("port({old})").into_boxed_str()), &numbers.1));
    }
    let files = [substituted(case.base, &replace), substituted(case.file, &replace)];
    let mut receiver = Receiver::start(case.program, dir.path(), &files);
    let (url, socket) = match case.send {
        Send::DevLog => (format!("unix:{here}/devlog"), Some(format!("{here}/devlog"))),
        Send::Socket => (format!("unix:{socket}"), Some(socket)),
        Send::Udp => (format!("udp://127.0.0.1:{port}"), None),
        Send::Tcp => (format!("tcp://127.0.0.1:{port}"), None),
        Send::Tls => (format!("tls://127.0.0.1:{port}"), None),
        Send::Relp => (format!("relp://127.0.0.1:{port}"), None),
        Send::Relps => (format!("relps://127.0.0.1:{port}"), None),
    };
    let ready = wait_until(Duration::from_secs(20), || {
        receiver.check(dir.path());
        socket
            .as_ref()
            .map_or_else(|| is_open(port, case.send == Send::Udp), |socket| Path::new(socket).exists())
    });
    assert!(ready, "{case:?} does not listen: {}", said(dir.path()));

    let ca = pki.ca_file().display().to_string();
    let mut options = vec!["--hostname", HOST];
    if matches!(case.send, Send::Tls | Send::Relps) {
        options.extend(["--tls-ca", &ca]);
    }
    if case.send == Send::Socket {
        options.extend(["--format", "rfc5424"]);
    }
    let mut relay = Relay::start(dir.path(), &url, &options);
    let lines = records();
    relay.feed(&lines);
    let (status, report) = relay.finish();
    assert!(status.success(), "{case:?}: {status} {report:?}");
    let expected: Vec<String> =
        lines.iter().map(|line| expected_text(line)).filter(|text| record_type(text) != "EOE").collect();
    check(case, dir.path(), &expected);
    true
}

/// Everything is in the records' file, as it was, and nowhere else.
fn check(case: &Case<'_>, dir: &Path, expected: &[String]) {
    let read = || fs::read_to_string(dir.join("audit-relay.log")).unwrap_or_default();
    wait_until(Duration::from_secs(20), || read().lines().count() >= expected.len());
    // One that is split would come behind.
    std::thread::sleep(Duration::from_millis(100));
    let text = read();
    let written: Vec<Written> = text.lines().map(|line| Written::read(line, case.template)).collect();
    for (n, (written, expected)) in written.iter().zip(expected).enumerate() {
        assert_eq!(&written.text, expected, "{case:?}: record {n}");
        assert_eq!(
            (written.pri.as_str(), written.app.as_str()),
            ("<182>1", "auditd"),
            "{case:?}: {written:?}"
        );
        if case.send != Send::DevLog {
            assert_eq!(
                (written.host.as_str(), written.kind.as_str()),
                (HOST, record_type(expected)),
                "{case:?}"
            );
            assert_eq!(written.sequence, (n + 1).to_string(), "{case:?}");
        }
    }
    assert_eq!(written.len(), expected.len(), "{case:?}: {}", said(dir));
    let elsewhere = fs::read_to_string(dir.join("syslog")).unwrap_or_default();
    let stray: Vec<&str> =
        elsewhere.lines().filter(|line| line.contains("msg=audit(") || line.contains("auditd")).collect();
    assert!(stray.is_empty(), "{case:?}: also in /var/log/syslog: {:?}", stray.first());
}
