//! `audit-relay install` and `uninstall` with a real auditd: 3.0.9 of the host and the newest one's folder. auditd runs, the
//! relay is put below it, a record arrives at a real rsyslogd, and it is taken out again; every failure puts back every byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use live::{
    Auditd, Inlet, KernelAudit, LogFormat, Need, Rsyslogd, Setup, System, Wire, user_message, wait_until,
};
use nix::sys::signal::Signal;

const NEEDS: [Need; 5] = [
    Need::Root,
    Need::Program("auditd"),
    Need::Program("auditctl"),
    Need::Program("rsyslogd"),
    Need::Program("setpriv"),
];

/// What audisp-syslog comes with.
const SYSLOG: &str = "# for syslogd\n\nactive = no\ndirection = out\npath = /sbin/audisp-syslog\ntype = always\n\
                      args = LOG_INFO\nformat = string\n";

/// What install keeps, outside the test's folder: a machine has one auditd.
const RECORD: &str = "/var/lib/audit-relay/install.json";

struct Rig {
    auditd: Auditd,
    rsyslogd: Rsyslogd,
    dir: tempfile::TempDir,
    _kernel: KernelAudit,
}

impl Rig {
    fn start(system: System) -> Option<Self> {
        if !live::have(&NEEDS) || (system == System::Sid && !live::have(&[Need::Sid])) {
            return None;
        }
        let kernel = KernelAudit::take()?;
        assert!(
            !Path::new(RECORD).exists(),
            "{RECORD} is there already; the relay is installed on this machine"
        );
        let dir = live::temp_dir();
        let rsyslogd = Rsyslogd::start(System::Host, dir.path());
        let setup = Setup { system, log: LogFormat::Enriched, wire: Wire::Text, node: None };
        let auditd = Auditd::start_alone(&setup, dir.path());
        Some(Self { auditd, rsyslogd, dir, _kernel: kernel })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn conf(&self, name: &str) -> PathBuf {
        self.path("etc/plugins.d").join(name)
    }

    /// Runs the relay that auditd is to start; its status, and all it has said.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        self.run_as("audit-relay", arguments)
    }

    /// As an upgrade does it.
    fn replace_program(&self) {
        fs::copy(self.path("audit-relay"), self.path("audit-relay.new")).unwrap();
        fs::rename(self.path("audit-relay.new"), self.path("audit-relay")).unwrap();
    }

    fn run_as(&self, program: &str, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(self.path(program)).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    fn install(&self, to: &str, more: &[&str]) -> (i32, String) {
        let (toml, report) = (self.path("new.toml"), self.path("report.json"));
        let mut arguments = vec!["install", "--config", toml.to_str().unwrap(), "--to", to];
        arguments.extend(["--report", report.to_str().unwrap(), "--handover", "off"]);
        arguments.extend(more);
        self.run(&arguments)
    }

    fn url(&self) -> String {
        self.rsyslogd.url(Inlet::TcpOctet)
    }

    fn has_arrived(&self, part: &str) -> bool {
        wait_until(Duration::from_secs(10), || {
            self.rsyslogd.messages().iter().any(|message| message.msg.contains(part))
        })
    }

    /// Nothing of ours is left, and auditd lives and still reloads.
    fn assert_untouched(&mut self, files: &[(&str, &str)]) {
        assert_eq!(self.auditd.relays(), Vec::<u32>::new());
        let mut there: Vec<_> = fs::read_dir(self.path("etc/plugins.d"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(there, files.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, text) in files {
            assert_eq!(fs::read_to_string(self.conf(name)).unwrap(), *text);
        }
        assert!(!Path::new(RECORD).exists() && !self.path("new.toml").exists());
        assert!(self.auditd.is_running());
        self.auditd.signal(Signal::SIGHUP);
        user_message("op=still-there");
        let logged = wait_until(Duration::from_secs(10), || {
            String::from_utf8_lossy(&self.auditd.log()).contains("op=still-there")
        });
        assert!(logged, "auditd no longer writes records");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What a failed test has installed is nobody's.
            let _ = fs::remove_file(RECORD);
        }
    }
}

fn there_and_back(system: System) {
    let Some(mut rig) = Rig::start(system) else { return };
    // What would be done changes nothing.
    let (status, said) = rig.install(&rig.url(), &["--dry-run"]);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("audit-relay.conf: new, root:root 0640") && said.contains("+ active = yes"),
        "{said}"
    );
    rig.assert_untouched(&[]);

    let begun = Instant::now();
    let (status, said) = rig.install(&rig.url(), &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("records arrive and go out to tcp://127.0.0.1:"), "{said}");
    eprintln!("{system:?}: installed in {:?}, auditd {}", begun.elapsed(), rig.auditd.version());
    assert!(rig.has_arrived("op=audit-relay-install"));
    let relay = rig.auditd.relay();
    let facts = fs::metadata(rig.conf("audit-relay.conf")).unwrap();
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (0, 0, 0o640));
    let facts = fs::metadata(rig.path("new.toml")).unwrap();
    assert_eq!((facts.uid(), facts.mode() & 0o7777), (0, 0o644));

    // Once more: nothing to change, records are watched again.
    let toml = rig.path("new.toml");
    let (status, said) = rig.run(&["install", "--config", toml.to_str().unwrap()]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("no file changes") && said.contains("records arrive"), "{said}");
    // Without a report the running relay's socket tells. The newest auditd's relay has its own /run.
    if system == System::Host {
        let text = fs::read_to_string(&toml).unwrap();
        let silent: String =
            text.lines().filter(|line| !line.starts_with("report")).map(|line| format!("{line}\n")).collect();
        assert!(text.len() > silent.len());
        fs::write(&toml, silent).unwrap();
        let (status, said) = rig.run(&["install", "--config", toml.to_str().unwrap()]);
        fs::write(&toml, text).unwrap();
        assert!(status == 0 && said.contains("records arrive and go out"), "{status} {said}");
    }
    // Another configuration. From 4.2 on the relay is started anew with it, here to no avail: what is taken back leaves the relay
    // that ran before, and nobody waits for its end. Before, auditd goes on with the relay that it had.
    let nobody = format!("tcp://127.0.0.1:{}", live::free_tcp_ports(1)[0]);
    let other = rig.path("other.toml");
    let (begun, before) = (Instant::now(), rig.auditd.relay());
    let (status, said) =
        rig.run(&["install", "--wait", "4", "--config", other.to_str().unwrap(), "--to", &nobody]);
    if system == System::Sid {
        assert!(status == 69 && said.contains("everything is back as it was"), "{status} {said}");
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        assert!(wait_until(Duration::from_secs(10), || rig.auditd.relays().len() == 1), "{said}");
    } else {
        assert!(status == 0 && said.contains("counts once auditd is restarted"), "{status} {said}");
        assert!(!said.contains("records arrive") && rig.auditd.relay() == before, "{said}");
        // Back again.
        fs::remove_file(&other).unwrap();
        let (status, said) = rig.run(&["install", "--config", toml.to_str().unwrap()]);
        assert!(status == 0 && said.contains("records arrive and go out"), "{status} {said}");
    }
    // Settings that would have to go into a file that is there are refused.
    let (status, said) = rig.install("udp://127.0.0.1:9", &[]);
    assert!(status == 69 && said.contains("is not overwritten"), "{status} {said}");
    // A second reader of the same records, too.
    fs::write(rig.conf("syslog.conf"), SYSLOG).unwrap();
    let (status, said) = rig.run(&["install", "--replace-syslog", "--config", toml.to_str().unwrap()]);
    assert!(status == 69 && said.contains("would be sent twice"), "{status} {said}");

    // A new program in the old one's place.
    let before = rig.auditd.relay();
    rig.replace_program();
    let (status, said) = rig.run(&["install", "--upgraded"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("starts the new program") && said.contains("records arrive and go out"), "{said}");
    let new = wait_until(Duration::from_secs(10), || !live::is_running(before));
    assert!(new && rig.auditd.relay() != relay);

    // Replaced once more, and taken out by a copy that lies elsewhere: it is the relay that runs that has to have ended, and that
    // takes its time here.
    let last = rig.auditd.relay();
    rig.replace_program();
    fs::create_dir(rig.path("elsewhere")).unwrap();
    fs::copy(rig.path("audit-relay"), rig.path("elsewhere/audit-relay")).unwrap();
    live::send_signal(last, Signal::SIGSTOP);
    let (status, said) = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1500));
            live::send_signal(last, Signal::SIGCONT);
        });
        let done = rig.run_as("elsewhere/audit-relay", &["uninstall", "--keep-config"]);
        // At its very end a process has no program any more, and still is one.
        assert!(wait_until(Duration::from_millis(300), || !live::is_running(last)), "{done:?}");
        done
    });
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("auditd has ended the relay") && said.contains("left: "), "{said}");
    assert!(rig.path("new.toml").exists() && Path::new(RECORD).exists());
    let (status, said) = rig.run(&["uninstall"]);
    assert_eq!(status, 0, "{said}");
    rig.assert_untouched(&[("syslog.conf", SYSLOG)]);
    let (status, said) = rig.run(&["uninstall"]);
    assert!(status == 0 && said.contains("no file changes"), "{status} {said}");
}

#[test]
fn there_and_back_on_the_host() {
    there_and_back(System::Host);
}

#[test]
fn there_and_back_on_sid() {
    there_and_back(System::Sid);
}

fn in_syslogs_place(system: System) {
    let Some(mut rig) = Rig::start(system) else { return };
    fs::write(rig.conf("syslog.conf"), SYSLOG).unwrap();
    fs::set_permissions(rig.conf("syslog.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    let (status, said) = rig.install(&rig.url(), &["--replace-syslog"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("- path = /sbin/audisp-syslog") && said.contains("- active = no"), "{said}");
    assert!(rig.has_arrived("op=audit-relay-install"));
    let text = fs::read_to_string(rig.conf("syslog.conf")).unwrap();
    assert!(text.starts_with("# for syslogd\n\nactive = yes\n"), "{text}");
    assert!(!rig.conf("audit-relay.conf").exists());
    let (status, said) = rig.run(&["uninstall"]);
    assert_eq!(status, 0, "{said}");
    rig.assert_untouched(&[("syslog.conf", SYSLOG)]);
}

#[test]
fn in_syslogs_place_on_the_host() {
    in_syslogs_place(System::Host);
}

#[test]
fn in_syslogs_place_on_sid() {
    in_syslogs_place(System::Sid);
}

/// A fresh auditd with audisp-syslog's file; a failure; everything is back.
fn failure(system: System, fails: impl Fn(&Rig)) {
    let Some(mut rig) = Rig::start(system) else { return };
    fs::write(rig.conf("syslog.conf"), SYSLOG).unwrap();
    fs::set_permissions(rig.conf("syslog.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    fails(&rig);
    rig.assert_untouched(&[("syslog.conf", SYSLOG)]);
}

fn failures_put_everything_back(system: System) {
    // A receiver that is not there, noticed after the relay was started.
    for more in [&["--wait", "4"][..], &["--wait", "4", "--replace-syslog"]] {
        failure(system, |rig| {
            let nobody = format!("tcp://127.0.0.1:{}", live::free_tcp_ports(1)[0]);
            let (status, said) = rig.install(&nobody, more);
            assert_eq!(status, 69, "{said}");
            assert!(said.contains(&format!("nothing is sent to {nobody} (Connection refused")), "{said}");
            assert!(said.contains("everything is back as it was"), "{said}");
        });
    }
    // A configuration that is wrong in itself, and one whose files are.
    failure(system, |rig| {
        let pem = rig.path("missing.pem");
        for (to, more, part) in [
            ("tpc://127.0.0.1", &[][..], "tpc"),
            ("tls://127.0.0.1:6514", &["--tls-ca", pem.to_str().unwrap()], "missing.pem"),
        ] {
            let (status, said) = rig.install(to, more);
            assert_eq!(status, 78, "{to} {more:?}: {said}");
            assert!(said.contains(part), "{to} {more:?}: {said}");
        }
    });
    // A relay that ends at once below auditd, and that `check` has nothing against: it may have no second thread there.
    failure(system, |rig| {
        let toml = rig.path("alone.toml");
        fs::write(&toml, "to = [\"unix:/dev/log\"]\nthreads = \"2\"\n").unwrap();
        let auditd = rig.auditd.pid().to_string();
        let limited = live::command("prlimit").args(["--pid", &auditd, "--nproc=1:"]).output().unwrap();
        assert!(limited.status.success(), "{limited:?}");
        let (status, said) = rig.run(&["install", "--wait", "6", "--config", toml.to_str().unwrap()]);
        assert_eq!(status, 69, "{said}");
        // Before 4.2 it looks like the auditd that starts nothing any more.
        let words = ["has not started the relay", "ends as soon as", "the system's log says more"];
        assert!(words.iter().any(|words| said.contains(words)), "{said}");
    });
}

#[test]
fn failures_put_everything_back_on_the_host() {
    failures_put_everything_back(System::Host);
}

#[test]
fn failures_put_everything_back_on_sid() {
    failures_put_everything_back(System::Sid);
}

#[test]
fn without_auditd_nothing_is_changed() {
    if !live::have(&NEEDS) {
        return;
    }
    let Some(_kernel) = KernelAudit::take() else { return };
    let dir = live::temp_dir();
    let program = dir.path().join("audit-relay");
    fs::copy(live::relay_binary(), &program).unwrap();
    let plugins = dir.path().join("plugins.d");
    fs::create_dir(&plugins).unwrap();
    fs::write(dir.path().join("auditd.conf"), format!("plugin_dir = {}\n", plugins.display())).unwrap();
    let toml = dir.path().join("new.toml");
    let output = Command::new(&program)
        .args(["install", "--to", "udp://127.0.0.1:9", "--config", toml.to_str().unwrap()])
        .arg("--audit-dir")
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("auditd does not run") && said.contains("service auditd start"), "{said}");
    assert!(
        !toml.exists() && fs::read_dir(&plugins).unwrap().next().is_none() && !Path::new(RECORD).exists()
    );
}
