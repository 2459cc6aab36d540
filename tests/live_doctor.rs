//! The doctor on live systems: auditd 3.0.9 and 4.2.1 with the relay below them, and rsyslogd as receiver. Traps are planted for
//! real; and what `site` says of plugin configurations is compared with what auditd does with them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failure here is a failed test"
)]

#[path = "support/live.rs"]
mod live;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use audit_relay::site::{self, Root, Site, Version};
use live::{
    Auditd, Inlet, KernelAudit, LogFormat, Need, Rsyslogd, Setup, System, Wire, auditctl, command, end,
    free_tcp_ports, listens, relay_binary, send_signal, user_message, wait_until,
};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use serde_json::Value;

const NEEDS: [Need; 7] = [
    Need::Root,
    Need::Program("auditd"),
    Need::Program("auditctl"),
    Need::Program("rsyslogd"),
    Need::Program("setpriv"),
    Need::Program("nsenter"),
    Need::Program("prlimit"),
];

/// A rule that nothing here sets off: a record would make auditd look after its plugins.
const QUIET_RULE: &str = "-a always,exit -F arch=b64 -S swapon -F key=swap";

fn have(system: System) -> bool {
    live::have(&NEEDS) && (system == System::Host || live::have(&[Need::Sid, Need::Program("unshare")]))
}

/// What was found: ids, with severity and what was seen. Notes are left out.
type Findings = BTreeMap<String, String>;

fn findings(output: &Output) -> Findings {
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let all = value["findings"].as_array().unwrap();
    let word = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
    let told = all.iter().filter(|f| f["severity"] != "note");
    told.map(|f| (word(f, "id"), format!("{} {}", word(f, "severity"), word(f, "seen")))).collect()
}

/// auditd with the relay and a receiver.
struct Rig {
    auditd: Auditd,
    rsyslogd: Rsyslogd,
    kernel: KernelAudit,
    dir: tempfile::TempDir,
}

impl Rig {
    fn start(system: System, log: LogFormat) -> Option<Self> {
        if !have(system) {
            return None;
        }
        let kernel = KernelAudit::take()?;
        let dir = live::temp_dir();
        let rsyslogd = Rsyslogd::start(System::Host, dir.path());
        let setup = Setup { system, log, wire: Wire::Text, node: None };
        let config = format!(
            "to = [\"{}\"]\nuser = \"nobody\"\nhostname = \"web-1.example.org\"\nhandover = \"off\"\nmax-message-size = \"8000B\"\n",
            rsyslogd.url(Inlet::TcpOctet)
        );
        let auditd = Auditd::start(&setup, dir.path(), &config);
        Some(Self { auditd, rsyslogd, kernel, dir })
    }

    /// The doctor as root on this machine would run it, seeing what auditd sees.
    fn doctor(&self) -> Findings {
        let doctor = self.dir.path().join("doctor");
        if !doctor.exists() {
            fs::copy(relay_binary(), &doctor).unwrap();
            fs::set_permissions(&doctor, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let pid = self.auditd.pid().to_string();
        let output = command("nsenter")
            .args(["--target", &pid, "--mount", "--root", "--wd=/"])
            .arg(&doctor)
            .args(["doctor", "--json"])
            .output()
            .unwrap();
        findings(&output)
    }

    /// As it is here and now, less what this machine itself may have.
    fn clean(&self) -> Findings {
        let mut found = self.doctor();
        // The test's machine need not have a clock source, and what it has lost or been refused before is not ours.
        for id in ["clock", "denials"] {
            found.remove(id);
        }
        found
    }

    /// What was planted is named, and nothing else.
    #[track_caller]
    fn names(&self, id: &str, part: &str) {
        let found = self.clean();
        let only: Vec<_> = found.keys().collect();
        assert_eq!(only, [id], "{found:#?}");
        assert!(found[id].contains(part), "{id}: {} has no {part}", found[id]);
    }

    #[track_caller]
    fn is_silent(&self) {
        let found = self.clean();
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Sets a limit of another process, as systemd's `LimitNOFILE=` does before it begins.
fn prlimit(pid: u32, limit: &str) {
    let set = command("prlimit").args(["--pid", &pid.to_string(), limit]).output().unwrap();
    assert!(set.status.success(), "{set:?}");
}

/// A healthy host, then one trap after the other, each taken away again.
fn live_traps(system: System) {
    let Some(rig) = Rig::start(system, LogFormat::Enriched) else { return };
    let here = rig.dir.path().to_owned();
    let relay = here.join("audit-relay");
    rig.kernel.load(&[QUIET_RULE.to_owned()]);
    auditctl(&["--reset-lost"]);
    rig.is_silent();

    auditctl(&["-b", "64"]);
    rig.names("backlog-limit", "64");
    auditctl(&["-b", "65536"]);
    auditctl(&["-r", "100000"]);
    rig.names("kernel-rate-limit", "100000");
    auditctl(&["-r", "0"]);
    auditctl(&["-f", "0"]);
    rig.names("failure-mode", "silent");
    auditctl(&["-f", "1"]);
    let wait = auditctl(&["-s"]);
    let wait =
        wait.lines().find_map(|line| line.strip_prefix("backlog_wait_time ")).unwrap().trim().to_owned();
    auditctl(&["--backlog_wait_time", "0"]);
    rig.names("backlog-wait-time", "0");
    // With a short backlog, no waiting and an auditd that stands still, the kernel loses.
    auditctl(&["-b", "8192"]);
    rig.auditd.signal(Signal::SIGSTOP);
    live::user_messages((0..20_000).map(|number| (1107, format!("flood {number}").into_bytes())));
    rig.auditd.signal(Signal::SIGCONT);
    let found = rig.clean();
    assert!(found.contains_key("kernel-lost"), "{found:#?}");
    auditctl(&["--backlog_wait_time", &wait]);
    auditctl(&["-b", "65536"]);
    auditctl(&["--reset-lost"]);

    // A rule that holds for the relay's sendings, and the exclusion that mends it.
    rig.kernel.load(&["-a always,exit -F arch=b64 -S sendto,write -F key=net".to_owned()]);
    rig.names("own-records", "-S write,sendto");
    rig.kernel.load(&[format!("-A never,exit -F exe={} -F uid=65534", relay.display())]);
    rig.is_silent();
    auditctl(&["-D"]);
    rig.names("no-rules", "no rules");
    rig.kernel.load(&[QUIET_RULE.to_owned()]);

    // A second reader of the kernel's records: this test. What it is, is a note.
    {
        let reader =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkAudit)
                .unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&reader), &NetlinkAddr::new(0, 1)).unwrap();
        let output = command("nsenter")
            .args(["--target", &rig.auditd.pid().to_string(), "--mount", "--root", "--wd=/"])
            .arg(here.join("doctor"))
            .args(["doctor", "--json", "--only", "multicast-reader"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
    }

    // Files: the program's mode, a second plugin of ours, another's fault.
    fs::set_permissions(&relay, fs::Permissions::from_mode(0o700)).unwrap();
    rig.names("plugin-skipped", "has mode 0700");
    fs::set_permissions(&relay, fs::Permissions::from_mode(0o755)).unwrap();
    let plugins = here.join("etc/plugins.d");
    let put = |name: &str, text: &str| {
        fs::write(plugins.join(name), text).unwrap();
        fs::set_permissions(plugins.join(name), fs::Permissions::from_mode(0o640)).unwrap();
    };
    fs::copy(plugins.join("relay.conf"), plugins.join("syslog.conf")).unwrap();
    rig.names("two-plugins", "syslog.conf");
    put("syslog.conf", "active = yes\nargs = LOG_INFO\n");
    rig.names("active-without-path", "syslog.conf");
    put("syslog.conf", "active = yes\npath = /no/such/program\n");
    rig.names("other-plugin", if system == System::Sid { "problem" } else { "warning" });
    fs::remove_file(plugins.join("syslog.conf")).unwrap();
    rig.is_silent();

    // The program is replaced while it runs.
    let old = rig.auditd.relay();
    let new = here.join("new");
    fs::copy(&relay, &new).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, &relay).unwrap();
    let found = rig.clean();
    assert!(found.contains_key("relay-outdated"), "{found:#?}");

    // A limit that is inherited from auditd, for the relay that auditd starts next.
    prlimit(rig.auditd.pid(), "--nofile=64:1024");
    // The relay is gone and auditd has not noticed.
    let kill = |relay: u32| {
        send_signal(relay, Signal::SIGKILL);
        assert!(wait_until(Duration::from_secs(5), || !live::is_running(relay)));
    };
    // A record makes it notice, and start the relay again.
    let comes_back = || {
        user_message("is anybody there");
        user_message("is anybody there");
        let is_there = || !rig.auditd.relays().is_empty();
        assert!(wait_until(Duration::from_secs(10), is_there), "auditd starts it again");
    };
    kill(old);
    rig.names("relay-not-running", "none of its children");
    comes_back();
    let inherited = || rig.clean().get("limits").is_some_and(|seen| seen.contains("may open 64 files"));
    assert!(wait_until(Duration::from_secs(10), inherited), "{:#?}", rig.clean());
    // Auditd's own may be raised again without more than its user's rights, that of the relay's account may not.
    prlimit(rig.auditd.pid(), "--nofile=1024:1024");
    kill(rig.auditd.relay());
    comes_back();
    assert!(wait_until(Duration::from_secs(10), || rig.clean().is_empty()), "{:#?}", rig.clean());

    // The receiver goes away.
    let Rig { auditd, mut rsyslogd, kernel, dir } = rig;
    rsyslogd.stop();
    let rig = Rig { auditd, rsyslogd, kernel, dir };
    rig.names("unreachable", "refused");
    auditctl(&["-e", "0"]);
    let found = rig.clean();
    assert!(found.contains_key("audit-disabled"), "{found:#?}");
}

#[test]
fn auditd_3_with_each_trap() {
    live_traps(System::Host);
}

#[test]
fn auditd_4_with_each_trap() {
    live_traps(System::Sid);
}

/// RAW without a name: the fault of 4.2.1, and of no 3.0.9.
#[test]
fn raw_is_a_trap_under_4_2_1_only() {
    for system in [System::Host, System::Sid] {
        let Some(rig) = Rig::start(system, LogFormat::Raw) else { return };
        rig.kernel.load(&[QUIET_RULE.to_owned()]);
        auditctl(&["--reset-lost"]);
        let version = rig.auditd.version();
        match system {
            System::Host => rig.is_silent(),
            System::Sid => {
                rig.names("auditd-cuts-records", &format!("auditd {version} with log_format = RAW"))
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// The rules of `site`, against auditd's own

/// Plugin configurations on every side of every rule: a name, a mode, a text. `@` is the test's folder, and the word
/// behind `args =` names the case.
fn cases(here: &Path) -> Vec<(String, u32, String)> {
    let mut all: Vec<(String, u32, String)> = Vec::new();
    let mut case = |name: &str, mode: u32, text: &str| all.push((name.to_owned(), mode, text.to_owned()));
    let plain = |word: &str| format!("active = yes\npath = @/plug\nargs = {word}\n");
    for (name, mode) in
        [("plain.conf", 0o640), ("group.conf", 0o660), ("world.conf", 0o646), ("mine.conf", 0o600)]
    {
        case(name, mode, &plain(name));
    }
    for name in ["no-extension", "tilde.conf~", "two.conf.bak", ".hidden.conf", "other.txt"] {
        case(name, 0o640, &plain(name));
    }
    for bytes in [157, 158, 159, 160, 509, 510, 511, 512] {
        let name = format!("comment-{bytes}.conf");
        case(&name, 0o640, &format!("# {}\n{}", "x".repeat(bytes - 2), plain(&name)));
        // The line that is passed over is the one with the path.
        let name = format!("path-{bytes}.conf");
        let line = format!("path = {}/plug", here.display());
        case(&name, 0o640, &format!("active = yes\nargs = {name}\n{line:<bytes$}\n"));
    }
    for (name, text) in [
        ("tab.conf", "active\t=\tyes\npath = @/plug\nargs = tab.conf\n"),
        ("glued.conf", "active=yes\npath = @/plug\nargs = glued.conf\n"),
        ("word.conf", "active = yes really\npath = @/plug\nargs = word.conf\n"),
        ("unknown.conf", "active = yes\npath = @/plug\nverbose = 1\nargs = unknown.conf\n"),
        ("upper.conf", "ACTIVE = YES\nPATH = @/plug\nargs = upper.conf\n"),
        ("no-path.conf", "active = yes\nargs = no-path.conf\n"),
        ("empty.conf", "active = yes\npath =\nargs = empty.conf\n"),
        ("missing.conf", "active = yes\npath = @/missing\nargs = missing.conf\n"),
        ("inactive.conf", "active = no\npath = @/missing\nargs = inactive.conf\n"),
        ("short.conf", "active = yes\npath = /x/y\nargs = short.conf\n"),
        ("relative.conf", "active = yes\npath = plug\nargs = relative.conf\n"),
        ("format.conf", "active = yes\npath = @/plug\nformat = text\nargs = format.conf\n"),
        ("type.conf", "active = yes\npath = @/plug\ntype = sometimes\nargs = type.conf\n"),
        ("twice.conf", "active = no\nactive = yes\npath = @/missing\npath = @/plug\nargs = twice.conf\n"),
        ("crlf.conf", "active = yes\r\npath = @/plug\r\nargs = crlf.conf\r\n"),
        ("comment.conf", "  # = x\n#x\nactive = yes\npath = @/plug\nargs = comment.conf\n"),
        ("m0555.conf", "active = yes\npath = @/m0555\nargs = m0555.conf\n"),
        ("m0777.conf", "active = yes\npath = @/m0777\nargs = m0777.conf\n"),
        ("m0700.conf", "active = yes\npath = @/m0700\nargs = m0700.conf\n"),
        ("m0775.conf", "active = yes\npath = @/m0775\nargs = m0775.conf\n"),
        ("m0750.conf", "active = yes\npath = @/m0750\nargs = m0750.conf\n"),
        ("nobodys-program.conf", "active = yes\npath = @/nobodys\nargs = nobodys-program.conf\n"),
        ("nobodys.conf", "active = yes\npath = @/plug\nargs = nobodys.conf\n"),
    ] {
        case(name, 0o640, text);
    }
    all
}

fn site_agrees_with(system: System) {
    if !have(system) {
        return;
    }
    let Some(_kernel) = KernelAudit::take() else { return };
    let dir = live::temp_dir();
    let here = dir.path();
    let plugins = here.join("etc/plugins.d");
    fs::create_dir_all(&plugins).unwrap();
    fs::create_dir(here.join("log")).unwrap();
    let script = format!("#!/bin/sh\necho \"$1\" >>{}/started\nexec cat >/dev/null\n", here.display());
    for (name, mode) in [
        ("plug", 0o755),
        ("m0555", 0o555),
        ("m0777", 0o777),
        ("m0700", 0o700),
        ("m0775", 0o775),
        ("m0750", 0o750),
        ("nobodys", 0o755),
    ] {
        fs::write(here.join(name), &script).unwrap();
        fs::set_permissions(here.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::chown(here.join("nobodys"), Some(65534), None).unwrap();
    for (name, mode, text) in cases(here) {
        fs::write(plugins.join(&name), text.replace('@', &here.display().to_string())).unwrap();
        fs::set_permissions(plugins.join(&name), fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::chown(plugins.join("nobodys.conf"), Some(65534), None).unwrap();
    fs::write(
        here.join("target"),
        format!("active = yes\npath = {}/plug\nargs = link.conf\n", here.display()),
    )
    .unwrap();
    fs::set_permissions(here.join("target"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink(here.join("target"), plugins.join("link.conf")).unwrap();
    fs::create_dir(plugins.join("folder.conf")).unwrap();
    fs::write(
        here.join("etc/auditd.conf"),
        format!(
            "local_events = no\nwrite_logs = no\nlog_file = {0}/log/audit.log\nlog_format = RAW\nspace_left = 2\n\
             space_left_action = IGNORE\nadmin_space_left = 1\nadmin_space_left_action = IGNORE\n\
             disk_full_action = IGNORE\ndisk_error_action = IGNORE\nplugin_dir = {0}/etc/plugins.d\n",
            here.display()
        ),
    )
    .unwrap();
    fs::set_permissions(here.join("etc/auditd.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    let version = match system {
        System::Host => Site::look(&Root::host()),
        System::Sid => Site::look(&Root::at("/var/cache/audit-relay-test/sid")),
    };
    let version: Version = version.version.expect("there is an auditd").0;
    let expected: BTreeSet<String> = site::plugins(&Root::host(), &plugins, version)
        .unwrap()
        .iter()
        .filter(|plugin| plugin.is_started())
        .map(|plugin| plugin.conf.as_ref().unwrap().arguments[0].clone())
        .collect();
    assert!(expected.contains("plain.conf") && expected.len() > 10, "{expected:?}");
    let mut auditd = start_auditd(system, here);
    let started = || -> BTreeSet<String> {
        fs::read_to_string(here.join("started")).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    wait_until(Duration::from_secs(10), || started().len() >= expected.len());
    // What should not start must have had its chance.
    std::thread::sleep(Duration::from_millis(500));
    let really = started();
    end(&mut auditd, Duration::from_secs(20));
    let said = fs::read_to_string(here.join("auditd.stderr")).unwrap_or_default();
    assert_eq!(expected, really, "auditd {version} said: {said}");
}

fn start_auditd(system: System, here: &Path) -> Child {
    let etc = here.join("etc");
    let log = File::create(here.join("auditd.stderr")).unwrap();
    system
        .command("auditd", here)
        .args(["-f", "-s", "nochange", "-c"])
        .arg(etc)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

#[test]
fn plugin_rules_are_those_of_auditd_3() {
    site_agrees_with(System::Host);
}

#[test]
fn plugin_rules_are_those_of_auditd_4() {
    site_agrees_with(System::Sid);
}

// ---------------------------------------------------------------------------------------------------------
// A long message at a live rsyslogd

/// rsyslogd as a test's own configuration has it.
struct Receiver {
    child: Child,
    file: PathBuf,
    octet: u16,
    lines: u16,
    udp: u16,
    socket: PathBuf,
}

impl Receiver {
    fn start(dir: &Path, globals: &str) -> Self {
        let (file, socket) = (dir.join("all.log"), dir.join("log"));
        let ports = free_tcp_ports(3);
        let (octet, lines, udp) = (ports[0], ports[1], ports[2]);
        let conf = format!(
            "global(workDirectory=\"{0}\" net.enableDNS=\"off\" {globals})\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             module(load=\"imtcp\")\nmodule(load=\"imudp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{octet}\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{lines}\" SupportOctetCountedFraming=\"off\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\")\ninput(type=\"imuxsock\" Socket=\"{1}\")\n\
             action(type=\"omfile\" file=\"{2}\" template=\"RSYSLOG_TraditionalFileFormat\")\n",
            dir.display(),
            socket.display(),
            file.display()
        );
        fs::write(dir.join("rsyslog.conf"), conf).unwrap();
        let child = System::Host
            .command("rsyslogd", dir)
            .env("LD_PRELOAD", "libgcc_s.so.1")
            .arg("-n")
            .arg("-f")
            .arg(dir.join("rsyslog.conf"))
            .arg("-i")
            .arg(dir.join("rsyslogd.pid"))
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("rsyslogd.stderr")).unwrap())
            .spawn()
            .unwrap();
        let this = Self { child, file, octet, lines, udp, socket };
        let udp_line = format!("0100007F:{:04X}", this.udp);
        let ready = wait_until(Duration::from_secs(20), || {
            this.socket.exists()
                && listens(this.octet)
                && listens(this.lines)
                && fs::read_to_string("/proc/thread-self/net/udp").unwrap().contains(&udp_line)
        });
        assert!(ready, "{}", fs::read_to_string(dir.join("rsyslogd.stderr")).unwrap_or_default());
        this
    }

    /// What `doctor --send` says of a long message to it.
    fn send(&self, url: &str, more: &[&str]) -> Findings {
        let only =
            "message-undelivered,message-not-found,message-cut,message-split,message-framing,message-header";
        let output = Command::new(relay_binary())
            .args(["doctor", "--json", "--send", "--only", only, "--look-in"])
            .arg(&self.file)
            .args(["--config", "none", "--to", url, "--hostname", "web-1.example.org"])
            .args(more)
            .env_clear()
            .output()
            .unwrap();
        findings(&output)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        end(&mut self.child, Duration::from_secs(10));
    }
}

#[track_caller]
fn only(found: &Findings, id: &str, part: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), [id], "{found:#?}");
    assert!(found[id].contains(part), "{found:#?}");
}

#[test]
fn a_long_message_at_rsyslogd_as_it_is_installed() {
    if !live::have(&[Need::Program("rsyslogd"), Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let receiver = Receiver::start(dir.path(), "");
    let tcp = |port| format!("tcp://127.0.0.1:{port}");
    only(&receiver.send(&tcp(receiver.octet), &[]), "message-split", "problem");
    only(&receiver.send(&tcp(receiver.octet), &["--framing", "lf"]), "message-split", "problem");
    only(&receiver.send(&format!("udp://127.0.0.1:{}", receiver.udp), &[]), "message-cut", "of 9200 bytes");
    // The relay cuts it itself, and says so: as it is meant to be.
    assert_eq!(receiver.send(&tcp(receiver.octet), &["--max-message-size", "8000B"]), Findings::new());
}

#[test]
fn a_long_message_at_rsyslogd_with_room() {
    if !live::have(&[Need::Program("rsyslogd"), Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let receiver = Receiver::start(dir.path(), "maxMessageSize=\"64k\"");
    let tcp = |port| format!("tcp://127.0.0.1:{port}");
    let unix = format!("unix:{}", receiver.socket.display());
    for url in [tcp(receiver.octet), format!("udp://127.0.0.1:{}", receiver.udp), unix.clone()] {
        assert_eq!(receiver.send(&url, &[]), Findings::new(), "{url}");
    }
    // Octet counting to a port without it; RFC 5424 to a socket with the usual parser.
    let framing = receiver.send(&tcp(receiver.lines), &[]);
    only(&framing, "message-framing", "count in front");
    only(&receiver.send(&unix, &["--format", "rfc5424"]), "message-header", "in its text");
    assert_eq!(receiver.send(&tcp(receiver.lines), &["--framing", "lf"]), Findings::new());
    // Nobody there.
    let closed = free_tcp_ports(1)[0];
    let found = receiver.send(&tcp(closed), &[]);
    only(&found, "message-undelivered", "refused");
}
