//! Real programs for the live tests: rsyslogd to receive, auditd to feed the relay, and the kernel's audit
//! system lent to one test at a time and given back as it was found.
//!
//! Whatever a test starts here is ended when its handle is dropped, also when the test panics, and always by
//! process id. Nothing leaves the machine: sockets are in a temporary folder or on the loopback interface.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, io, thread};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};
use nix::unistd::Pid;
use serde::Deserialize;

// ---------------------------------------------------------------------------------------------------------
// What a test needs, and what happens where it is missing

/// Something a live test cannot do without.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    Root,
    /// This program, in one of the system's folders.
    Program(&'static str),
    /// The folder that `.ci/auditd-sid` makes.
    Sid,
    /// The folder that `.ci/syslog-ng` makes.
    SyslogNg,
}

/// Whether everything needed is here. Where it is not, the test is skipped with a line that no test runner
/// swallows, or fails if live tests are required (`CI=true` or `AUDIT_RELAY_REQUIRE_LIVE=1`).
pub(crate) fn have(needs: &[Need]) -> bool {
    let missing = needs.iter().find_map(|need| match need {
        Need::Root if !nix::unistd::geteuid().is_root() => Some("not root".to_owned()),
        Need::Program(name) if find_program(name).is_none() => Some(format!("no program {name}")),
        Need::Sid if !System::Sid.root().join(".audit-relay-complete").exists() => {
            Some(format!("no {} (.ci/auditd-sid makes it)", System::Sid.root().display()))
        }
        Need::SyslogNg if !syslog_ng_root().exists() => {
            Some(format!("no {} (.ci/syslog-ng makes it)", syslog_ng_root().display()))
        }
        _ => None,
    });
    missing.is_none_or(|why| skip(&why))
}

/// Says why the test cannot run; panics where live tests are required. Returns false for the caller to return.
fn skip(why: &str) -> bool {
    let required = env::var("CI").is_ok_and(|v| v == "true")
        || env::var("AUDIT_RELAY_REQUIRE_LIVE").is_ok_and(|v| v == "1");
    assert!(!required, "this live test is required here and cannot run: {why}");
    let name = thread::current().name().unwrap_or("a live test").to_owned();
    // Not eprintln!: the test harness hides what a passing test prints with it.
    let _ = writeln!(io::stderr(), "SKIPPED {name}: {why}");
    false
}

/// Where programs are looked for: a caller's own `PATH` may lack the `sbin` folders.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

fn find_program(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|file| file.is_file())
}

/// A command of the system.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", PATH).stdin(Stdio::null());
    command
}

/// The folder with syslog-ng in it.
pub(crate) fn syslog_ng_root() -> PathBuf {
    env::var_os("AUDIT_RELAY_SYSLOG_NG_ROOT")
        .map_or_else(|| "/var/cache/audit-relay-test/syslog-ng".into(), PathBuf::from)
}

/// The relay under test. `AUDIT_RELAY_BIN` names another one, such as an installed package's.
pub(crate) fn relay_binary() -> PathBuf {
    env::var_os("AUDIT_RELAY_BIN").map_or_else(|| env!("CARGO_BIN_EXE_audit-relay").into(), PathBuf::from)
}

/// A folder that an unprivileged relay can walk into.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("audit-relay-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    assert!(dir.path().is_absolute());
    dir
}

/// Waits until `done` holds and says whether it did in time.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a child by its id: SIGTERM, and SIGKILL if that takes longer than `patience`.
pub(crate) fn end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    send_signal(child.id(), Signal::SIGTERM);
    let mut status = None;
    wait_until(patience, || {
        status = child.try_wait().unwrap_or(None);
        status.is_some()
    });
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    status
}

pub(crate) fn send_signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.try_into().unwrap()), signal);
}

/// Whether any thread of the process is left: its files are closed when the last one goes, which may be a
/// moment after the first has become a zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !zombie || threads > 1
}

// ---------------------------------------------------------------------------------------------------------
// Where a program comes from

/// Whose auditd or rsyslogd: the host's own, or that of the folder with the newest Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Host,
    Sid,
}

impl System {
    pub(crate) fn root(self) -> PathBuf {
        match self {
            Self::Host => "/".into(),
            Self::Sid => env::var_os("AUDIT_RELAY_SID_ROOT")
                .map_or_else(|| "/var/cache/audit-relay-test/sid".into(), PathBuf::from),
        }
    }

    /// A command that becomes `program` without a fork, so that the child's id is the program's. `dir` is seen
    /// under the same path in both systems.
    pub(crate) fn command(self, program: &str, dir: &Path) -> Command {
        // If the test process is killed there is no one left to clean up: the program goes with it.
        let mut command = command("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if nix::unistd::geteuid().is_root() {
            // As from root's login shell: groups (here root and adm) that the relay has to shed.
            command.args(["--groups", "0,4"]);
        }
        match self {
            Self::Host => {
                command.arg(find_program(program).unwrap());
            }
            Self::Sid => {
                // The mounts live in a mount namespace of this process alone.
                let script = r#"
                    root=$1 dir=$2 program=$3
                    shift 3
                    set -e
                    mount --rbind /proc "$root/proc"
                    mount --rbind /dev "$root/dev"
                    mount -t tmpfs -o mode=755 tmpfs "$root/run"
                    mount -t tmpfs -o mode=755 tmpfs "$root/tmp"
                    mkdir -p "$root$dir"
                    mount --bind "$dir" "$root$dir"
                    exec chroot "$root" "/usr/sbin/$program" "$@""#;
                command.args(["unshare", "--mount", "sh", "-c", script, "sh"]);
                command.arg(self.root()).arg(dir).arg(program);
            }
        }
        command
    }
}

// ---------------------------------------------------------------------------------------------------------
// rsyslogd

/// One way into the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inlet {
    /// imuxsock as it is without any setting: what listens on `/dev/log` of an untouched system.
    UnixDefault,
    /// imuxsock with the two settings that make it understand RFC 5424.
    UnixPlain,
    Udp,
    TcpOctet,
    TcpLf,
    /// imtcp through GnuTLS, no client certificate: "anon", which is what most guides show. It speaks TLS 1.2 only
    /// unless its priority string is set.
    TlsGtls,
    /// As it, with the priority string "NORMAL".
    TlsGtlsNormal,
    /// imtcp through GnuTLS, with a client certificate by the same authority.
    TlsGtlsClient,
    /// imtcp through OpenSSL, no client certificate.
    TlsOssl,
    /// imtcp through OpenSSL, with a client certificate by the same authority.
    TlsOsslClient,
    /// imtcp through OpenSSL, with a client certificate that has the name `localhost`.
    TlsOsslName,
    Relp,
    /// imrelp in TLS without a client certificate. Only its OpenSSL can do it.
    RelpTls,
    /// imrelp in TLS with a client certificate by the same authority.
    RelpTlsClient,
}

impl Inlet {
    /// Those that need certificates, or the modules that go with them.
    const SECURE: [Self; 9] = [
        Self::TlsGtls,
        Self::TlsGtlsNormal,
        Self::TlsGtlsClient,
        Self::TlsOssl,
        Self::TlsOsslClient,
        Self::TlsOsslName,
        Self::Relp,
        // Before the one without an authority: librelp's OpenSSL takes the files of the first listener for all.
        Self::RelpTlsClient,
        Self::RelpTls,
    ];

    /// Whether it demands a client certificate.
    pub(crate) fn demands_certificate(self) -> bool {
        matches!(self, Self::TlsGtlsClient | Self::TlsOsslClient | Self::TlsOsslName | Self::RelpTlsClient)
    }
}

/// The files of a receiver that speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    /// Of the authority that has issued the receiver's certificate and its clients'.
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The library that imrelp uses; one for all its listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelpLibrary {
    GnuTls,
    OpenSsl,
}

/// One message as rsyslogd understood it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Message {
    pub(crate) inlet: String,
    pub(crate) time: String,
    pub(crate) host: String,
    pub(crate) app: String,
    pub(crate) pid: String,
    pub(crate) msgid: String,
    pub(crate) sd: String,
    pub(crate) facility: String,
    pub(crate) severity: String,
    pub(crate) msg: String,
}

impl Message {
    /// The audit record: the message without the blank that RFC 3164 has after the tag.
    pub(crate) fn text(&self) -> &str {
        self.msg.strip_prefix(' ').unwrap_or(&self.msg)
    }
}

/// What rsyslogd does with a message before it goes on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// It takes it into memory, as it is installed. To imrelp that is enough for an answer.
    Memory,
    /// It writes it to the file. Killed, it loses nothing that imrelp has answered.
    Direct,
}

/// A running rsyslogd with one listener per [`Inlet`], writing what it understands as JSON lines.
#[derive(Debug)]
pub(crate) struct Rsyslogd {
    system: System,
    dir: PathBuf,
    child: Child,
    udp: u16,
    tcp_octet: u16,
    tcp_lf: u16,
    /// The ports of the further inlets.
    secure: Vec<(Inlet, u16)>,
}

impl Rsyslogd {
    pub(crate) fn start(system: System, dir: &Path) -> Self {
        Self::configure(system, dir, Queue::Memory, "", "", Vec::new())
    }

    /// With TLS and RELP as well.
    pub(crate) fn start_secure(
        system: System,
        dir: &Path,
        tls: &TlsFiles,
        relp: RelpLibrary,
        queue: Queue,
    ) -> Self {
        let inlets = Inlet::SECURE.into_iter().filter(|inlet| {
            // GnuTLS in imrelp demands a client certificate whatever is configured.
            *inlet != Inlet::RelpTls || relp == RelpLibrary::OpenSsl
        });
        let ports: Vec<(Inlet, u16)> = inlets.zip(free_tcp_ports(Inlet::SECURE.len())).collect();
        let (ca, certificate, key) = (tls.ca.display(), tls.certificate.display(), tls.key.display());
        let globals = format!(
            "\n       defaultNetstreamDriverCAFile=\"{ca}\"\n       \
             defaultNetstreamDriverCertFile=\"{certificate}\"\n       \
             defaultNetstreamDriverKeyFile=\"{key}\""
        );
        let library = if relp == RelpLibrary::GnuTls { "gnutls" } else { "openssl" };
        let mut inputs = format!("module(load=\"imrelp\" tls.tlslib=\"{library}\")\n");
        for (inlet, port) in &ports {
            let imtcp = |driver: &str, more: &str| {
                format!(
                    "imtcp\" streamDriver.Name=\"{driver}\" streamDriver.Mode=\"1\" streamDriver.AuthMode={more}"
                )
            };
            let relp = |more: &str| {
                format!(
                    "imrelp\" MaxDataSize=\"128k\" tls=\"on\" tls.myCert=\"{certificate}\" \
                     tls.myPrivKey=\"{key}\"{more}"
                )
            };
            let kind = match inlet {
                Inlet::TlsGtls => imtcp("gtls", r#""anon""#),
                Inlet::TlsGtlsNormal => imtcp("gtls", r#""anon" gnutlsPriorityString="NORMAL""#),
                Inlet::TlsGtlsClient => imtcp("gtls", r#""x509/certvalid""#),
                Inlet::TlsOssl => imtcp("ossl", r#""anon""#),
                Inlet::TlsOsslClient => imtcp("ossl", r#""x509/certvalid""#),
                Inlet::TlsOsslName => imtcp("ossl", r#""x509/name" permittedPeer=["localhost"]"#),
                Inlet::Relp => r#"imrelp" MaxDataSize="128k""#.to_owned(),
                // With an authority it would demand a certificate.
                Inlet::RelpTls => relp(""),
                Inlet::RelpTlsClient => relp(&format!(" tls.caCert=\"{ca}\" tls.authMode=\"certvalid\"")),
                _ => unreachable!("{inlet:?} is always there"),
            };
            writeln!(inputs, "input(type=\"{kind} address=\"127.0.0.1\" port=\"{port}\" name=\"{inlet:?}\")")
                .unwrap();
        }
        Self::configure(system, dir, queue, &globals, &inputs, ports)
    }

    fn configure(
        system: System,
        dir: &Path,
        queue: Queue,
        globals: &str,
        inputs: &str,
        secure: Vec<(Inlet, u16)>,
    ) -> Self {
        let (udp, tcp_octet, tcp_lf) = free_ports();
        let queue = match queue {
            Queue::Memory => r#"queue.type="LinkedList" queue.size="2000000" queue.timeoutShutdown="20000""#,
            Queue::Direct => r#"queue.type="Direct""#,
        };
        fs::create_dir_all(dir.join("rsyslog")).unwrap();
        let here = dir.display();
        // Escaping on receipt is off so that the file shows the bytes the relay sent and not rsyslogd's own
        // escaping of bytes the relay forgot.
        let conf = format!(
            r#"global(workDirectory="{here}/rsyslog" maxMessageSize="64k" net.enableDNS="off"
       parser.escapeControlCharactersOnReceive="off"{globals})
main_queue({queue})
module(load="imuxsock" SysSock.Use="off" SysSock.RateLimit.Interval="0")
module(load="imudp")
module(load="imtcp")
template(name="json" type="list" option.jsonf="on") {{
  property(outname="inlet" name="inputname" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="pid" name="procid" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="sd" name="structured-data" format="jsonf")
  property(outname="facility" name="syslogfacility-text" format="jsonf")
  property(outname="severity" name="syslogseverity-text" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
}}
input(type="imuxsock" Socket="{here}/log.default" RateLimit.Interval="0")
input(type="imuxsock" Socket="{here}/log.plain" RateLimit.Interval="0"
      UseSpecialParser="off" IgnoreTimestamp="off")
input(type="imudp" address="127.0.0.1" port="{udp}" rcvbufSize="64m" name="udp")
input(type="imtcp" address="127.0.0.1" port="{tcp_octet}" name="tcp-octet")
input(type="imtcp" address="127.0.0.1" port="{tcp_lf}" name="tcp-lf" SupportOctetCountedFraming="off")
{inputs}action(type="omfile" file="{here}/received.jsonl" template="json")
"#
        );
        fs::write(dir.join("rsyslog.conf"), conf).unwrap();
        let child = Self::spawn(system, dir);
        let mut this = Self { system, dir: dir.to_owned(), child, udp, tcp_octet, tcp_lf, secure };
        this.wait_ready();
        this
    }

    fn spawn(system: System, dir: &Path) -> Child {
        let log = File::create(dir.join("rsyslogd.stderr")).unwrap();
        system
            .command("rsyslogd", dir)
            // At its end a thread of rsyslogd may find that glibc cannot load this any more, and abort with
            // "libgcc_s.so.1 must be installed for pthread_exit to work": seen once with 8.2302 under load.
            .env("LD_PRELOAD", "libgcc_s.so.1")
            .arg("-n")
            .arg("-f")
            .arg(dir.join("rsyslog.conf"))
            .arg("-i")
            .arg(dir.join("rsyslogd.pid"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait_ready(&mut self) {
        let tcp = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let udp_line = format!("0100007F:{:04X}", self.udp);
        let ready = wait_until(Duration::from_secs(20), || {
            assert!(self.child.try_wait().unwrap().is_none(), "rsyslogd ended: {}", self.complaints());
            self.dir.join("log.default").exists()
                && self.dir.join("log.plain").exists()
                && fs::read_to_string("/proc/thread-self/net/udp").unwrap().contains(&udp_line)
                && tcp(self.tcp_octet)
                && tcp(self.tcp_lf)
                && self.secure.iter().all(|(_, port)| listens(*port))
        });
        assert!(ready, "rsyslogd does not listen: {}", self.complaints());
    }

    /// Ends rsyslogd as its service manager would; what it has queued it writes.
    pub(crate) fn stop(&mut self) {
        let status = end(&mut self.child, Duration::from_secs(30));
        assert!(status.is_some_and(|s| s.success()), "rsyslogd: {status:?} {}", self.complaints());
    }

    /// Kills rsyslogd; what it has not written is gone.
    pub(crate) fn kill(&mut self) {
        let pid = self.child.id();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert!(wait_until(Duration::from_secs(10), || !is_running(pid)), "rsyslogd outlives SIGKILL");
        // It cannot do that itself; a new process may have got the number in it by now.
        fs::remove_file(self.dir.join("rsyslogd.pid")).unwrap();
        // Killed within a line of its file, it has not written that one; the next instance would go on behind the piece.
        let file = self.dir.join("received.jsonl");
        let bytes = fs::read(&file).unwrap_or_default();
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            File::options().write(true).open(&file).unwrap().set_len(whole.try_into().unwrap()).unwrap();
        }
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`], on the same addresses and appending to the same file.
    pub(crate) fn start_again(&mut self) {
        self.child = Self::spawn(self.system, &self.dir);
        self.wait_ready();
    }

    /// Where the relay has to send for this inlet.
    pub(crate) fn url(&self, inlet: Inlet) -> String {
        match inlet {
            Inlet::UnixDefault => format!("unix:{}", self.dir.join("log.default").display()),
            Inlet::UnixPlain => format!("unix:{}", self.dir.join("log.plain").display()),
            Inlet::Udp => format!("udp://127.0.0.1:{}", self.udp),
            Inlet::TcpOctet => format!("tcp://127.0.0.1:{}", self.tcp_octet),
            Inlet::TcpLf => format!("tcp://127.0.0.1:{}", self.tcp_lf),
            Inlet::Relp => format!("relp://127.0.0.1:{}", self.port(inlet)),
            Inlet::RelpTls | Inlet::RelpTlsClient => format!("relps://127.0.0.1:{}", self.port(inlet)),
            _ => format!("tls://127.0.0.1:{}", self.port(inlet)),
        }
    }

    /// The port of one of the further inlets.
    pub(crate) fn port(&self, inlet: Inlet) -> u16 {
        let known = self.secure.iter().find(|(known, _)| *known == inlet);
        known.unwrap_or_else(|| panic!("no {inlet:?} in this configuration")).1
    }

    /// Everything written so far, in the order of arrival.
    pub(crate) fn messages(&self) -> Vec<Message> {
        messages_in(&self.dir.join("received.jsonl"))
    }

    /// Everything written, once that is at least `count` messages or `limit` has passed.
    pub(crate) fn wait_for(&self, count: usize, limit: Duration) -> Vec<Message> {
        wait_for_messages(&self.dir.join("received.jsonl"), count, limit)
    }

    fn complaints(&self) -> String {
        fs::read_to_string(self.dir.join("rsyslogd.stderr")).unwrap_or_default()
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        end(&mut self.child, Duration::from_secs(10));
    }
}

/// Every message in a file of JSON lines, in the order of arrival.
pub(crate) fn messages_in(file: &Path) -> Vec<Message> {
    let bytes = fs::read(file).unwrap_or_default();
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    bytes[..whole]
        .split_inclusive(|&b| b == b'\n')
        .map(|line| {
            serde_json::from_slice(line)
                .unwrap_or_else(|e| panic!("the receiver wrote {:?}: {e}", String::from_utf8_lossy(line)))
        })
        .collect()
}

/// Every message in the file, once those are at least `count` or `limit` has passed.
pub(crate) fn wait_for_messages(file: &Path, count: usize, limit: Duration) -> Vec<Message> {
    let lines = || {
        let bytes = fs::read(file).unwrap_or_default();
        bytes.iter().filter(|&&b| b == b'\n').count()
    };
    wait_until(limit, || {
        let enough = lines() >= count;
        if !enough {
            thread::sleep(Duration::from_millis(20));
        }
        enough
    });
    messages_in(file)
}

/// Whether someone listens on this loopback port. A connection without a handshake would make a TLS receiver
/// complain, and occupies some that take one at a time.
pub(crate) fn listens(port: u16) -> bool {
    // Whatever its own address is; 0A is the state.
    let line = format!(":{port:04X} 00000000:0000 0A ");
    fs::read_to_string("/proc/thread-self/net/tcp").unwrap().contains(&line)
}

/// Loopback ports that nothing listens on, below those that the kernel gives to connections: a receiver that is
/// away for a moment must find its port free when it comes back.
pub(crate) fn free_tcp_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test programs at once start at different places; the threads of one never get the same port.
    let start = u16::try_from(std::process::id() % 18_000).unwrap();
    let candidates =
        std::iter::repeat_with(|| 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed) % 18_000) % 18_000);
    candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).take(count).collect()
}

/// Three loopback ports that nothing listens on: imudp and the restart of imtcp need them to be known beforehand.
fn free_ports() -> (u16, u16, u16) {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tcp = free_tcp_ports(2);
    (udp.local_addr().unwrap().port(), tcp[0], tcp[1])
}

// ---------------------------------------------------------------------------------------------------------
// What the relay has to write, worked out without any of its code

/// The text for one record line (without its line feed): the enrichment separator becomes a blank, and so does
/// a line feed inside a record; other control characters and bytes that are not UTF-8 become `#ooo`; TAB stays.
pub(crate) fn expected_text(line: &[u8]) -> String {
    let octal = |bytes: &[u8]| bytes.iter().map(|byte| format!("#{byte:03o}")).collect::<String>();
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\x1d' | '\n' => text.push(' '),
                '\t' => text.push('\t'),
                c if c.is_control() => text.push_str(&octal(c.to_string().as_bytes())),
                c => text.push(c),
            }
        }
        text.push_str(&octal(chunk.invalid()));
    }
    text
}

/// The record's type name: the word after `type=`, which starts the line or follows `node=NAME`.
pub(crate) fn record_type(line: &str) -> &str {
    let record = if line.starts_with("node=") { line.split_once(' ').map_or("", |(_, r)| r) } else { line };
    record.strip_prefix("type=").unwrap_or("").split(' ').next().unwrap_or("")
}

/// The record's own time in milliseconds since 1970.
pub(crate) fn record_millis(line: &str) -> i64 {
    let stamp = line.split_once(" msg=audit(").unwrap().1.split_once(':').unwrap().0;
    let (seconds, millis) = stamp.split_once('.').unwrap();
    seconds.parse::<i64>().unwrap() * 1000 + millis.parse::<i64>().unwrap()
}

// ---------------------------------------------------------------------------------------------------------
// The relay by itself, fed by the test

/// The relay with its standard input in the test's hand.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    /// To the thread that writes: a relay that stops reading must not stop the test, which may be what it
    /// waits for.
    input: Option<mpsc::Sender<Vec<u8>>>,
    report: PathBuf,
    stderr: PathBuf,
}

impl Relay {
    pub(crate) fn start(dir: &Path, to: &str, options: &[&str]) -> Self {
        let report = dir.join("report.json");
        let mut child = Command::new(relay_binary())
            .args(["--config", "none", "--to", to, "--report"])
            .arg(&report)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("relay.stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (input, blocks) = mpsc::channel::<Vec<u8>>();
        // Ends when the sender is dropped, or with an error when the relay is gone.
        thread::spawn(move || blocks.iter().try_for_each(|block| stdin.write_all(&block)));
        Self { child, input: Some(input), report, stderr: dir.join("relay.stderr") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hands these lines over; the relay reads them as fast as it will.
    pub(crate) fn feed(&mut self, lines: &[Vec<u8>]) {
        let mut block = lines.join(&b'\n');
        block.push(b'\n');
        self.input.as_ref().unwrap().send(block).expect("the relay closed its input");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends the input and waits for the relay to exit; its status and its report.
    pub(crate) fn finish(mut self) -> (ExitStatus, Report) {
        drop(self.input.take());
        let mut status = None;
        wait_until(Duration::from_secs(30), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let status = status.expect("the relay did not exit within 30 s of the end of its input");
        (status, Report::read(&self.report))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.input.take());
        end(&mut self.child, Duration::from_secs(5));
        if thread::panicking() {
            eprintln!("the relay said: {}", fs::read_to_string(&self.stderr).unwrap_or_default());
        }
    }
}

/// What the relay says about itself when it exits.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) read: u64,
    pub(crate) undecodable: u64,
    pub(crate) filtered: u64,
    /// SYSCALL records of the relay's own calls.
    pub(crate) own: u64,
    pub(crate) uptime_seconds: f64,
    pub(crate) destinations: Vec<Destination>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Destination {
    pub(crate) url: String,
    pub(crate) sent: u64,
    pub(crate) lost: std::collections::BTreeMap<String, u64>,
    /// Messages handed to the network more than once.
    #[serde(default)]
    pub(crate) replayed: u64,
    /// Left by the instance before.
    #[serde(default)]
    pub(crate) inherited: u64,
    /// Left for the next one.
    #[serde(default)]
    pub(crate) handed_over: u64,
    #[serde(default)]
    pub(crate) reconnects: u64,
    /// Bytes of whole messages, framing included and TLS not.
    #[serde(default)]
    pub(crate) bytes: u64,
}

impl Destination {
    pub(crate) fn lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

impl Report {
    pub(crate) fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("no report {}: {e}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("report {text:?}: {e}"))
    }

    /// Asks the relay `pid` for its accounting with SIGUSR1 and reads it.
    pub(crate) fn ask(pid: u32, file: &Path) -> Self {
        fs::write(file, "").unwrap();
        send_signal(pid, Signal::SIGUSR1);
        let mut report = None;
        wait_until(Duration::from_secs(20), || {
            report = fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            report.is_some()
        });
        report.unwrap_or_else(|| panic!("relay {pid} did not write {}", file.display()))
    }

    /// The law: every record read or inherited is filtered, sent, lost or handed over, at every destination.
    pub(crate) fn check_sum(&self) {
        for destination in &self.destinations {
            let accounted = self.filtered + destination.sent + destination.lost() + destination.handed_over;
            assert_eq!(
                self.read + destination.inherited,
                accounted,
                "records unaccounted for at {}: {self:?}",
                destination.url
            );
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// The kernel's audit system

/// The audit system of the running kernel, which exists once: whoever holds this has it alone. Rules, switches
/// and limits are put back when it is dropped, and also when the test process is killed.
#[derive(Debug)]
pub(crate) struct KernelAudit {
    found: Status,
    /// A shell that waits for the end of its input to put everything back.
    restorer: Child,
    /// Released after the restoration has been looked at.
    _lock: File,
}

/// The settings out of `auditctl -s` that a test or auditd itself changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) enabled: u64,
    pub(crate) failure: u64,
    pub(crate) pid: u64,
    pub(crate) rate_limit: u64,
    pub(crate) backlog_limit: u64,
    pub(crate) lost: u64,
    pub(crate) backlog_wait_time: u64,
}

impl KernelAudit {
    /// Waits for the other live tests, in this process or another, then takes the audit system if it is free.
    /// An auditd that runs already, or rules that are loaded, belong to someone: then the test is skipped.
    pub(crate) fn take() -> Option<Self> {
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open("/run/audit-relay-live.lock")
            .unwrap();
        // Each caller opens the file anew, so the lock holds between threads as well as between processes.
        lock.lock().unwrap();
        let Some(found) = Status::read() else {
            skip("the kernel gives no audit status (no audit support, or a container)");
            return None;
        };
        let rules = auditctl(&["-l"]);
        if found.pid != 0 || found.enabled == 2 || rules.trim() != "No rules" {
            skip(&format!("the audit system is in use: {found:?}, {} lines of rules", rules.lines().count()));
            return None;
        }
        // Rules go first: the later changes would be audited by them. setsid, so that Ctrl-C does not reach it.
        let script = format!(
            "cat; auditctl -D && auditctl -e {} && auditctl -f {} && auditctl -r {} && \
             auditctl --backlog_wait_time {} && auditctl -b {}",
            found.enabled, found.failure, found.rate_limit, found.backlog_wait_time, found.backlog_limit
        );
        let restorer = command("setsid")
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Not for errors: the lock is held through this if the test process is killed.
            .stderr(lock.try_clone().unwrap())
            .spawn()
            .unwrap();
        let this = Self { found, restorer, _lock: lock };
        // Deep enough that no record of a test is dropped before it reaches auditd.
        auditctl(&["-b", "65536"]);
        Some(this)
    }

    /// The kernel's counter of dropped records, as it was found.
    pub(crate) fn found_lost(&self) -> u64 {
        self.found.lost
    }

    /// Loads rules, each as it stands on a line of a rules file.
    pub(crate) fn load(&self, rules: &[String]) {
        for rule in rules {
            auditctl(&rule.split(' ').collect::<Vec<_>>());
        }
    }

    /// Fails if the kernel has dropped records, or if someone else on this machine has changed its settings
    /// (journald does when it starts): then a comparison would say nothing.
    pub(crate) fn check_undisturbed(&self, auditd: &Auditd) {
        let now = Status::read().unwrap();
        assert_eq!(now.enabled, 1, "someone has switched auditing off: {now:?}");
        assert_eq!(now.pid, u64::from(auditd.pid()), "another auditd has taken over: {now:?}");
        assert_eq!(now.lost, self.found.lost, "the kernel has dropped records: {now:?}");
    }
}

impl Drop for KernelAudit {
    fn drop(&mut self) {
        drop(self.restorer.stdin.take());
        let restored = self.restorer.wait().is_ok_and(|status| status.success());
        let now = Status::read().map(|s| Status { lost: self.found.lost, ..s });
        let same = restored && now.as_ref() == Some(&self.found);
        if !same {
            let _ = writeln!(io::stderr(), "AUDIT STATE NOT RESTORED: found {:?}, left {now:?}", self.found);
        }
        // A second panic while one unwinds would abort and skip the other clean-ups.
        assert!(same || thread::panicking(), "the kernel's audit state was not restored");
    }
}

impl Status {
    pub(crate) fn read() -> Option<Self> {
        let output = command("auditctl").arg("-s").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        };
        Some(Self {
            enabled: value("enabled")?,
            failure: value("failure")?,
            pid: value("pid")?,
            rate_limit: value("rate_limit")?,
            backlog_limit: value("backlog_limit")?,
            lost: value("lost")?,
            backlog_wait_time: value("backlog_wait_time")?,
        })
    }
}

/// Runs auditctl, which has to succeed, and returns what it printed.
pub(crate) fn auditctl(args: &[&str]) -> String {
    let output = command("auditctl").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "auditctl {args:?}: {} {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends user messages of these record types to the kernel, as PAM and the like do.
pub(crate) fn user_messages(messages: impl IntoIterator<Item = (u16, Vec<u8>)>) {
    let kernel =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkAudit)
            .unwrap();
    for (number, (kind, mut text)) in (1_u32..).zip(messages) {
        // The kernel takes the last byte off a message that does not end with NUL.
        text.push(0);
        let length: u32 = (16 + text.len()).try_into().unwrap();
        let request = 1_u16;
        let mut frame = Vec::with_capacity(16 + text.len());
        frame.extend(length.to_ne_bytes());
        frame.extend(kind.to_ne_bytes());
        frame.extend(request.to_ne_bytes());
        frame.extend(number.to_ne_bytes());
        frame.extend(0_u32.to_ne_bytes());
        frame.extend(text);
        let sent = sendto(kernel.as_raw_fd(), &frame, &NetlinkAddr::new(0, 0), MsgFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    }
}

/// Sends one user message, padded for the auditd that loses the end of a record.
pub(crate) fn user_message(text: &str) {
    user_messages([(1107, format!("{text} and sixteen bytes that may get lost").into_bytes())]);
}

// ---------------------------------------------------------------------------------------------------------
// auditd

/// `log_format` in auditd.conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Raw,
    Enriched,
}

/// `format` in the plugin's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Text,
    Binary,
}

/// How auditd is to be set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) system: System,
    pub(crate) log: LogFormat,
    pub(crate) wire: Wire,
    /// `name_format = USER` with this name; none: `name_format = NONE`.
    pub(crate) node: Option<&'static str>,
}

/// A running auditd with the relay as its only plugin.
#[derive(Debug)]
pub(crate) struct Auditd {
    child: Child,
    dir: PathBuf,
}

impl Auditd {
    /// Starts auditd and waits until it holds the kernel's audit socket and the relay runs. `relay_config` is
    /// the relay's whole configuration file.
    pub(crate) fn start(setup: &Setup, dir: &Path, relay_config: &str) -> Self {
        Self::start_plugin(setup, dir, relay_config, "audit-relay")
    }

    /// As [`Self::start`] without any plugin; the relay's program is there and nobody starts it.
    pub(crate) fn start_alone(setup: &Setup, dir: &Path) -> Self {
        Self::start_with(setup, dir, "", None)
    }

    /// As [`Self::start`], with the relay's standard error in the file `relay.stderr`; auditd's is /dev/null, also with
    /// `-n`.
    pub(crate) fn start_heard(setup: &Setup, dir: &Path, relay_config: &str) -> Self {
        Self::listen(dir);
        Self::start_plugin(setup, dir, relay_config, "heard")
    }

    /// Puts a program `heard` in place that becomes the relay with its standard error in a file.
    fn listen(dir: &Path) {
        let here = dir.display();
        let script = format!("#!/bin/sh\nexec {here}/audit-relay \"$@\" 2>>{here}/relay.stderr\n");
        fs::write(dir.join("heard"), script).unwrap();
        fs::set_permissions(dir.join("heard"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// As [`Self::start_heard`], with `packaging/plugins.d/audit-relay-filter.conf` between auditd and the relay.
    pub(crate) fn start_filtered(setup: &Setup, dir: &Path, relay_config: &str, expressions: &str) -> Self {
        let here = dir.display();
        let shipped = include_str!("../../packaging/plugins.d/audit-relay-filter.conf");
        let plugin = shipped
            .replace("/etc/audit/audit-relay-filter.rules", &format!("{here}/filter.rules"))
            .replace("/usr/sbin/audit-relay", &format!("{here}/heard --config {here}/relay.toml"));
        assert_eq!(plugin.matches(&*here.to_string()).count(), 3, "{plugin}");
        fs::write(dir.join("filter.rules"), expressions).unwrap();
        Self::listen(dir);
        Self::start_with(setup, dir, relay_config, Some(&plugin))
    }

    /// Changes what the filter drops from the next reload on.
    pub(crate) fn filter_by(&self, expressions: &str) {
        fs::write(self.dir.join("filter.rules"), expressions).unwrap();
    }

    /// What the relay has said, where it is heard.
    pub(crate) fn relay_said(&self) -> String {
        fs::read_to_string(self.dir.join("relay.stderr")).unwrap_or_default()
    }

    fn start_plugin(setup: &Setup, dir: &Path, relay_config: &str, plugin: &str) -> Self {
        let here = dir.display();
        let wire = if setup.wire == Wire::Text { "string" } else { "binary" };
        let plugin = format!(
            "active = yes\ndirection = out\npath = {here}/{plugin}\ntype = always\n\
             args = --config {here}/relay.toml\nformat = {wire}\n"
        );
        Self::start_with(setup, dir, relay_config, Some(&plugin))
    }

    fn start_with(setup: &Setup, dir: &Path, relay_config: &str, plugin: Option<&str>) -> Self {
        let etc = dir.join("etc");
        let plugins = etc.join("plugins.d");
        fs::create_dir_all(&plugins).unwrap();
        // A folder of its own: auditd takes all access by others from the one its log file is in.
        fs::create_dir(dir.join("log")).unwrap();
        let private = |file: PathBuf, text: String| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        };
        let here = dir.display();
        let log_format = if setup.log == LogFormat::Raw { "RAW" } else { "ENRICHED" };
        let name =
            setup.node.map_or("name_format = NONE".to_owned(), |n| format!("name_format = USER\nname = {n}"));
        private(
            etc.join("auditd.conf"),
            format!(
                "local_events = yes\nwrite_logs = yes\nlog_file = {here}/log/audit.log\nlog_group = root\n\
                 log_format = {log_format}\nflush = NONE\nmax_log_file = 1000\nnum_logs = 0\n\
                 max_log_file_action = IGNORE\npriority_boost = 0\n{name}\nspace_left = 2\n\
                 space_left_action = IGNORE\nadmin_space_left = 1\nadmin_space_left_action = IGNORE\n\
                 disk_full_action = IGNORE\ndisk_error_action = IGNORE\ndistribute_network = no\n\
                 q_depth = 90000\noverflow_action = SYSLOG\nmax_restarts = 10\nplugin_dir = {}\n",
                plugins.display()
            ),
        );
        if let Some(plugin) = plugin {
            private(plugins.join("relay.conf"), plugin.to_owned());
            fs::write(dir.join("relay.toml"), relay_config).unwrap();
        }
        fs::copy(relay_binary(), dir.join("audit-relay")).unwrap();
        fs::set_permissions(dir.join("audit-relay"), fs::Permissions::from_mode(0o755)).unwrap();

        let log = File::create(dir.join("auditd.stderr")).unwrap();
        let child = setup
            .system
            .command("auditd", dir)
            .arg("-n")
            .arg("-c")
            .arg(&etc)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut this = Self { child, dir: dir.to_owned() };
        let ready = wait_until(Duration::from_secs(20), || {
            let ended = this.child.try_wait().unwrap();
            assert!(ended.is_none(), "auditd ended: {ended:?} {}", this.complaints());
            Status::read().is_some_and(|s| s.pid == u64::from(this.child.id()))
                && this.relays().is_empty() == plugin.is_none()
                && String::from_utf8_lossy(&this.log()).contains("type=DAEMON_START")
        });
        assert!(ready, "auditd is not ready: relays {:?}, {}", this.relays(), this.complaints());
        this
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The ids of all running relays of this test, also of one that auditd has left behind.
    pub(crate) fn relays(&self) -> Vec<u32> {
        let Ok(binary) = fs::metadata(self.dir.join("audit-relay")) else {
            return Vec::new();
        };
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                fs::metadata(format!("/proc/{pid}/exe"))
                    .is_ok_and(|exe| exe.ino() == binary.ino() && exe.dev() == binary.dev())
            })
            .collect();
        pids.sort_unstable();
        pids
    }

    /// The one relay there is.
    pub(crate) fn relay(&self) -> u32 {
        let relays = self.relays();
        assert_eq!(relays.len(), 1, "one relay expected: {relays:?}");
        relays[0]
    }

    /// auditd's own log file.
    pub(crate) fn log(&self) -> Vec<u8> {
        fs::read(self.dir.join("log/audit.log")).unwrap_or_default()
    }

    /// The version this auditd gives in its first record.
    pub(crate) fn version(&self) -> String {
        let log = String::from_utf8_lossy(&self.log()).into_owned();
        let version = log.split_once(" ver=").unwrap().1;
        version.split(' ').next().unwrap().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Stops auditd as its service manager would and waits for it and for the relay.
    pub(crate) fn stop(&mut self) {
        let status = end(&mut self.child, Duration::from_secs(20));
        assert!(status.is_some_and(|s| s.success()), "auditd: {status:?} {}", self.complaints());
        self.wait_for_relay();
    }

    /// Kills auditd and waits for the relay to go.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.wait_for_relay();
    }

    /// The relay has its drain timeout, 2 s, and what scheduling adds.
    fn wait_for_relay(&self) {
        let gone = wait_until(Duration::from_secs(4), || self.relays().is_empty());
        assert!(gone, "the relay outlives auditd: {:?}", self.relays());
    }

    fn complaints(&self) -> String {
        fs::read_to_string(self.dir.join("auditd.stderr")).unwrap_or_default()
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        end(&mut self.child, Duration::from_secs(10));
        wait_until(Duration::from_secs(5), || self.relays().is_empty());
        for pid in self.relays() {
            send_signal(pid, Signal::SIGKILL);
        }
    }
}
