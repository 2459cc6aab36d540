//! A whole machine for one test: a system's root with a writable layer of memory over it, in a mount namespace of its own. Programs,
//! accounts and files in it are real, nothing that happens in it reaches the root below, and all of it is gone with its process.
//!
//! The kernel is shared, so what audits by path sees this machine's files alone, and what audits by call sees everybody's.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::live::{self, Status, System, end, relay_binary, send_signal, wait_until};

/// What has to be there to make one.
pub(crate) const NEEDS: [live::Need; 10] = [
    live::Need::Root,
    live::Need::Program("auditd"),
    live::Need::Program("auditctl"),
    live::Need::Program("ausyscall"),
    live::Need::Program("rsyslogd"),
    live::Need::Program("setpriv"),
    live::Need::Program("unshare"),
    live::Need::Program("nsenter"),
    live::Need::Program("cc"),
    live::Need::Program("setsid"),
];

/// As a login has it.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// The folder of the relay's report in the machine.
const STATE: &str = "/run/relay-test";

/// The machine. Its processes end with it.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Holds the namespace open.
    holder: Child,
    /// On the host, for what the daemons print.
    dir: PathBuf,
}

impl Machine {
    /// Its root is `system`'s, as it was found.
    pub(crate) fn start(system: System, dir: &Path) -> Self {
        let script = r#"
            set -e
            dir=$1 lower=$2
            mkdir -p "$dir/machine"
            mount -t tmpfs tmpfs "$dir/machine"
            mkdir "$dir/machine/upper" "$dir/machine/work" "$dir/machine/root"
            root=$dir/machine/root
            # Numbers of inodes that are the machine's own: rules on files compare them.
            mount -t overlay overlay -o "xino=on,lowerdir=$lower,upperdir=$dir/machine/upper,workdir=$dir/machine/work" "$root"
            mount --rbind /proc "$root/proc"
            mount --rbind /dev "$root/dev"
            for tmpfs in run tmp dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$root/$tmpfs"; done
            exec chroot "$root" /bin/sh -c 'touch /run/ready; exec sleep 3600'"#;
        let mut command = live::command("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", script, "sh"]).arg(dir);
        let holder = command.arg(system.root()).spawn().unwrap();
        let mut this = Self { holder, dir: dir.to_owned() };
        let ready = wait_until(Duration::from_secs(10), || {
            assert!(this.holder.try_wait().unwrap().is_none(), "the machine's root cannot be mounted");
            this.path("/run/ready").exists()
        });
        assert!(ready, "the machine's root is not there");
        fs::create_dir(this.path(STATE)).unwrap();
        this
    }

    /// A file of the machine, as seen from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.holder.id()))
    }

    pub(crate) fn write(&self, inside: &str, text: &str, mode: u32) {
        let file = self.path(inside);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn copy(&self, from: &Path, inside: &str, mode: u32) {
        let file = self.path(inside);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        // A new inode, also where a program is running or the name is a link.
        let _ = fs::remove_file(&file);
        fs::copy(from, &file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A command in the machine; the child's id is the program's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = live::command("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", "--mount", "--root", "--wd", "--target"]);
        command.arg(self.holder.id().to_string()).arg(program).env_clear().env("PATH", PATH);
        command
    }

    /// Runs a shell script in it.
    pub(crate) fn shell(&self, script: &str) -> Output {
        self.command("/bin/sh").args(["-c", script]).output().unwrap()
    }

    /// Runs a shell script that has to succeed, and returns what it printed.
    pub(crate) fn must(&self, script: &str) -> String {
        let output = self.shell(script);
        let both = [&*output.stdout, b" / ", &*output.stderr].concat();
        assert!(output.status.success(), "{script}: {} {}", output.status, String::from_utf8_lossy(&both));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Compiles the program that makes system calls, as `/opt/call64` and `/opt/call32`.
    pub(crate) fn compile_call(&self) {
        for bits in ["64", "32"] {
            let program = self.dir.join(format!("call{bits}"));
            let mut cc = live::command("cc");
            cc.arg(format!("-m{bits}")).args(["-Os", "-ffreestanding", "-fno-stack-protector", "-fno-pie"]);
            cc.args(["-no-pie", "-nostdlib", "-static", "-o"]).arg(&program);
            cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/call.c"));
            assert!(cc.status().unwrap().success(), "cc -m{bits} cannot make a program without a library");
            self.copy(&program, &format!("/opt/call{bits}"), 0o755);
        }
    }

    /// Installs the relay, its plugin's configuration as it is packaged, and this auditd.conf.
    pub(crate) fn install_relay(&self, auditd_conf: &str, relay_to: &str) {
        self.copy(&relay_binary(), "/usr/sbin/audit-relay", 0o755);
        let _ = fs::remove_dir_all(self.path("/etc/audit/plugins.d"));
        // As `audit-relay install` leaves it.
        let plugin = packaged("plugins.d/audit-relay.conf");
        assert!(plugin.contains("active = no"), "{plugin}");
        let plugin = plugin.replace("active = no", "active = yes");
        self.write("/etc/audit/plugins.d/audit-relay.conf", &plugin, 0o640);
        self.write("/etc/audit/auditd.conf", auditd_conf, 0o640);
        self.write("/etc/libaudit.conf", &packaged("auditd/libaudit.conf"), 0o640);
        let config = format!(
            "to = [\"{relay_to}\"]\nformat = \"rfc5424\"\nhostname = \"relay-test.example\"\nuser = \"nobody\"\n\
             report = \"{STATE}/report.json\"\n"
        );
        self.write("/etc/audit-relay.toml", &config, 0o644);
        fs::create_dir_all(self.path("/var/log/audit")).unwrap();
    }

    /// The relay's report.
    pub(crate) fn report(&self) -> PathBuf {
        self.path(&format!("{STATE}/report.json"))
    }

    /// Starts auditd as it is installed and waits until it has the kernel's audit socket and the relay runs.
    pub(crate) fn start_auditd(&self) -> Daemon {
        let log = File::options().append(true).create(true).open(self.dir.join("auditd.stderr")).unwrap();
        let mut command = self.command("auditd");
        let child =
            command.arg("-n").stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn();
        let mut daemon = Daemon { child: child.unwrap(), dir: self.dir.clone() };
        let ready = wait_until(Duration::from_secs(20), || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "auditd ended: {ended:?} {}", daemon.complaints());
            Status::read().is_some_and(|s| s.pid == u64::from(daemon.pid())) && daemon.relay().is_some()
        });
        assert!(ready, "auditd is not ready: {}", daemon.complaints());
        daemon
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A file under `packaging`.
pub(crate) fn packaged(file: &str) -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// auditd in the machine.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    dir: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its children that are relays.
    pub(crate) fn relays(&self) -> Vec<u32> {
        // A thread of it starts them.
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let pids: String = threads
            .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default())
            .collect();
        let relay = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "audit-relay\n")
        };
        pids.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(relay).collect()
    }

    /// The one relay, if there is exactly one.
    pub(crate) fn relay(&self) -> Option<u32> {
        let relays = self.relays();
        (relays.len() == 1).then(|| relays[0])
    }

    pub(crate) fn reload(&self) {
        send_signal(self.pid(), Signal::SIGHUP);
    }

    /// Stops it as its service manager would, and waits for it and for its relays.
    pub(crate) fn stop(&mut self) {
        let relays = self.relays();
        let status = end(&mut self.child, Duration::from_secs(30));
        assert!(status.is_some_and(|s| s.success()), "auditd: {status:?} {}", self.complaints());
        let gone = wait_until(Duration::from_secs(5), || relays.iter().all(|pid| !live::is_running(*pid)));
        assert!(gone, "a relay outlives auditd");
    }

    pub(crate) fn complaints(&self) -> String {
        fs::read_to_string(self.dir.join("auditd.stderr")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let relays = self.relays();
        end(&mut self.child, Duration::from_secs(10));
        wait_until(Duration::from_secs(5), || relays.iter().all(|pid| !live::is_running(*pid)));
        relays
            .into_iter()
            .filter(|pid| live::is_running(*pid))
            .for_each(|pid| send_signal(pid, Signal::SIGKILL));
    }
}
