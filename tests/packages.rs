//! The packages: what is in them, and what they do to a machine. deb: installed, upgraded under load, removed and purged in a
//! Debian 12 (this host's system under an overlay, so that nothing of it changes) and in the newest Debian, each with its own
//! auditd on the running kernel and its own rsyslogd behind TLS. rpm: with Debian's rpm, its scriptlets included, since no
//! Fedora is at hand. The policies for SELinux and AppArmor are compiled; no kernel here can load them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use live::{KernelAudit, Need, wait_until};
use nix::sys::signal::Signal;

const NEEDS: [Need; 8] = [
    Need::Root,
    Need::Program("auditd"),
    Need::Program("auditctl"),
    Need::Program("rsyslogd"),
    Need::Program("dpkg-deb"),
    Need::Program("nsenter"),
    Need::Program("strip"),
    Need::Program("rpm"),
];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn succeed(command: &mut Command) -> String {
    let (well, said) = run(command);
    assert!(well, "{command:?}:\n{said}");
    said
}

/// The folder with the packages, made once of the programs that this test run has built.
fn packages() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let dir = live::temp_dir();
            let programs = dir.path().join("programs");
            fs::create_dir(&programs).unwrap();
            let relay = live::relay_binary();
            let loadgen = relay.parent().unwrap().join("audit-loadgen");
            if !loadgen.exists() {
                let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
                succeed(
                    Command::new(cargo)
                        .args(["build", "--locked", "--package", "audit-loadgen"])
                        .current_dir(source(".")),
                );
            }
            for program in [&relay, &loadgen] {
                fs::copy(program, programs.join(program.file_name().unwrap())).unwrap();
            }
            let out = dir.path().join("out");
            succeed(Command::new(source("packaging/package")).arg(&out).arg(&programs).env("FAST", "1"));
            dir
        })
        .path()
}

fn package(end: &str) -> PathBuf {
    let found =
        fs::read_dir(packages().join("out")).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("audit-relay") && name.ends_with(end)
        });
    found.unwrap_or_else(|| panic!("no package {end}"))
}

/// What has to be in the package, with its mode; every other file is documentation.
const CONTENT: [(&str, &str); 9] = [
    ("/usr/sbin/audit-relay", "-rwxr-xr-x"),
    ("/etc/audit/plugins.d/audit-relay.conf", "-rw-r-----"),
    ("/usr/share/man/man8/audit-relay.8", "-rw-r--r--"),
    ("/usr/share/man/man5/audit-relay.toml.5", "-rw-r--r--"),
    ("/usr/share/bash-completion/completions/audit-relay", "-rw-r--r--"),
    ("/usr/share/fish/vendor_completions.d/audit-relay.fish", "-rw-r--r--"),
    ("/usr/lib/sysusers.d/audit-relay.conf", "-rw-r--r--"),
    ("/usr/lib/tmpfiles.d/audit-relay.conf", "-rw-r--r--"),
    ("/usr/share/doc/audit-relay/examples/install-audit-rules", "-rwxr-xr-x"),
];
const EXAMPLES: [&str; 16] = [
    "audit-relay.toml",
    "audit-relay-full.toml",
    "receivers/rsyslog/20-audit-tcp.conf",
    "receivers/syslog-ng/20-audit-tcp.conf",
    "auditd/auditd-relay-only.conf",
    "plugins.d/audit-relay-filter.conf",
    "prometheus/audit-relay.rules.yml",
    "grafana/audit-relay.json",
    "rules.d/51-ar-root.rules",
    "rules.d/10-audit-relay.rules",
    "selinux/audit-relay.te",
    "selinux/audit-relay.fc",
    "selinux/audit-relay.if",
    "selinux/audit-receiver.te",
    "apparmor/audit-relay",
    "apparmor/auditd.service.d/apparmor.conf",
];

#[test]
fn what_is_in_the_packages() {
    if !live::have(&NEEDS) {
        return;
    }
    let deb = succeed(Command::new("dpkg-deb").arg("-c").arg(package(".deb")));
    let rpm = succeed(Command::new("rpm").args(["-qplv", package(".rpm").to_str().unwrap()]));
    for (kind, listing) in [("deb", &deb), ("rpm", &rpm)] {
        // Mode, owner, and the path without what deb puts before it and behind it.
        let lines: Vec<(&str, bool, String)> = listing
            .lines()
            .filter(|line| line.starts_with('-'))
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let path = words.last().unwrap().trim_start_matches('.').trim_end_matches(".gz");
                (words[0], line.contains(" 0/0 ") || line.contains(" root     root "), path.to_owned())
            })
            .collect();
        let mode = |path: &str| lines.iter().find(|(_, _, found)| found == path).map(|(mode, ..)| *mode);
        for (path, expected) in CONTENT {
            assert_eq!(mode(path), Some(expected), "{kind}: {path}\n{listing}");
        }
        for example in EXAMPLES {
            let path = format!("/usr/share/doc/audit-relay/examples/{example}");
            assert_eq!(mode(&path), Some("-rw-r--r--"), "{kind}: {path}\n{listing}");
        }
        for (mode, of_root, path) in &lines {
            assert!(of_root, "{kind}: {path} is not root's");
            let known = CONTENT.iter().any(|(known, _)| known == path) || path.contains("/zsh/");
            let documents = ["/usr/share/doc/audit-relay/", "/usr/share/licenses/audit-relay/"];
            assert!(
                known || documents.iter().any(|folder| path.starts_with(folder)),
                "{kind}: {mode} {path} is not expected"
            );
        }
    }
    let fields =
        succeed(Command::new("dpkg-deb").arg("-f").arg(package(".deb")).args(["Depends", "Package"]));
    assert!(fields.contains("auditd") && fields.contains("libc6 (>= 2.3"), "{fields}");
}

#[test]
fn the_packages_are_as_lintian_and_rpmlint_want_them() {
    let programs = [Need::Program("lintian"), Need::Program("rpmlint"), Need::Program("shellcheck")];
    if !live::have(&NEEDS) || !live::have(&programs) {
        return;
    }
    // Each with its reason in packaging/README.md.
    let justified = fs::read_to_string(source("packaging/README.md")).unwrap();
    let (_, lintian) = run(Command::new("lintian").arg("--tag-display-limit").arg("0").arg(package(".deb")));
    let (_, rpmlint) = run(Command::new("rpmlint").arg(package(".rpm")));
    let mut tags = BTreeSet::new();
    for line in lintian.lines().chain(rpmlint.lines()) {
        let mut words = line.split_whitespace();
        if let Some(at) = words.position(|word| word == "E:" || word == "W:")
            && at <= 1
        {
            let tag = if at == 0 { words.nth(1) } else { words.next() };
            tags.insert(tag.unwrap().to_owned());
        }
    }
    for tag in &tags {
        assert!(justified.contains(&format!("`{tag}`")), "{tag} is not justified:\n{lintian}\n{rpmlint}");
    }
    for folder in ["packaging/deb", "packaging/rpm"] {
        let scripts =
            fs::read_dir(source(folder)).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with("post") || name.starts_with("pre")
            });
        succeed(Command::new("shellcheck").args(["--shell", "sh"]).args(scripts));
    }
    succeed(Command::new("shellcheck").arg(source("packaging/package")));
}

#[test]
fn the_policies_compile() {
    let programs =
        [Need::Program("checkmodule"), Need::Program("semodule_package"), Need::Program("apparmor_parser")];
    if !live::have(&programs) {
        return;
    }
    let dir = live::temp_dir();
    let module = dir.path().join("audit-relay.mod");
    let policy = source("packaging/selinux/audit-relay.te");
    succeed(Command::new("checkmodule").args(["-M", "-m", "-o"]).arg(&module).arg(&policy));
    let packaged = dir.path().join("audit-relay.pp");
    succeed(
        Command::new("semodule_package")
            .arg("-o")
            .arg(&packaged)
            .arg("-m")
            .arg(&module)
            .arg("-f")
            .arg(source("packaging/selinux/audit-relay.fc")),
    );
    assert!(fs::metadata(&packaged).unwrap().len() > 1000);
    let receiver = source("packaging/selinux/audit-receiver.te");
    succeed(
        Command::new("checkmodule")
            .args(["-M", "-m", "-o"])
            .arg(dir.path().join("audit-receiver.mod"))
            .arg(receiver),
    );
    // Seen in enforcing mode: without it auditd's SIGHUP does not reach the relay's account.
    assert!(fs::read_to_string(&policy).unwrap().contains("allow auditd_t self:capability kill;"));
    // Whoever reads it, standard input has auditd's type: without this line the relay dies ten times and is given up.
    let text = fs::read_to_string(&policy).unwrap();
    assert!(
        text.contains("allow audit_relay_t auditd_t:unix_stream_socket {") && text.contains(" read "),
        "{text}"
    );
    let profile = source("packaging/apparmor/audit-relay");
    succeed(Command::new("apparmor_parser").args(["-Q", "-K"]).arg(profile));
}

// ---------------------------------------------------------------------------------------------------------
// A machine: a whole system, under an overlay, in a mount namespace of its own

struct Machine {
    holder: Child,
    dir: tempfile::TempDir,
}

impl Machine {
    /// The system in the folder `lower`. What is changed there lives in memory and goes with the machine.
    fn of(lower: &str) -> Self {
        let dir = live::temp_dir();
        let script = r#"
            set -e
            dir=$1 root=$1/root
            mount -t tmpfs -o mode=755,size=2g tmpfs "$dir"
            mkdir "$dir/upper" "$dir/work" "$root"
            mount -t overlay -o "lowerdir=$2,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"
            mount --rbind /proc "$root/proc"
            mount --rbind /dev "$root/dev"
            mount -t tmpfs -o mode=755 tmpfs "$root/run"
            mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
            rm -rf "$root/var/lib/audit-relay"
            echo ready
            exec sleep 3600"#;
        let mut holder = live::command("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", script, "sh"])
            .arg(dir.path())
            .arg(lower)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "no overlay of {lower}");
        Self { holder, dir }
    }

    /// A command within.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = live::command("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.arg("chroot").arg(self.dir.path().join("root")).args(words);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn succeed(&self, words: &[&str]) -> String {
        succeed(&mut self.command(words))
    }

    fn shell(&self, script: &str) -> String {
        self.succeed(&["sh", "-ec", script])
    }

    fn put(&self, path: &str, file: &Path) {
        let to = format!("/proc/{}/root{}/root{path}", self.holder.id(), self.dir.path().display());
        fs::copy(file, to).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/root{}/root{path}", self.holder.id(), self.dir.path().display()))
            .ok()
    }

    fn mode(&self, path: &str) -> Option<u32> {
        let path = format!("/proc/{}/root{}/root{path}", self.holder.id(), self.dir.path().display());
        fs::symlink_metadata(path).ok().map(|facts| facts.permissions().mode() & 0o7777)
    }

    fn has_account(&self) -> bool {
        self.read("/etc/passwd").unwrap().contains("\naudit-relay:")
    }

    fn auditd(&self) -> Child {
        let auditd = self.command(&["/usr/sbin/auditd", "-n"]).stdout(Stdio::null()).spawn().unwrap();
        let ready = wait_until(Duration::from_secs(20), || {
            live::Status::read().is_some_and(|status| status.pid == u64::from(auditd.id()))
        });
        assert!(ready, "auditd is not ready");
        auditd
    }

    fn relays(&self, auditd: &Child) -> Vec<String> {
        let (_, pids) =
            run(live::command("ps").args(["-o", "pid=,stat=,comm=", "--ppid", &auditd.id().to_string()]));
        pids.lines()
            .filter(|line| line.contains("audit-relay") && !line.contains(" Z"))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        live::end(&mut self.0, Duration::from_secs(20));
    }
}

const DROP_IN: &str = "/etc/systemd/system/auditd.service.d/audit-relay.conf";
const CONF: &str = "/etc/audit/plugins.d/audit-relay.conf";

/// Without auditd running, as in a container that is built: everything succeeds, and nothing is left.
fn nothing_runs(machine: &Machine, name: &str) {
    let deb = &format!("/tmp/{name}");
    for words in
        [&["dpkg", "-i", deb][..], &["dpkg", "-i", deb], &["dpkg", "-r", "audit-relay"], &["dpkg", "-i", deb]]
    {
        machine.succeed(words);
    }
    assert!(machine.has_account());
    assert_eq!((machine.mode(CONF), machine.mode("/etc/audit")), (Some(0o640), Some(0o750)));
    assert_eq!(machine.read(CONF).as_deref(), Some(include_str!("../packaging/plugins.d/audit-relay.conf")));
    // As an image is prepared: files only.
    machine.succeed(&["audit-relay", "install", "--files-only", "--to", "udp://192.0.2.1:514"]);
    assert!(machine.read(CONF).unwrap().contains("active = yes"));
    machine.succeed(&["dpkg", "-i", deb]);
    assert!(machine.read(CONF).unwrap().contains("active = yes"), "an upgrade has switched the relay off");
    machine.succeed(&["dpkg", "-r", "audit-relay"]);
    assert_eq!(machine.read(CONF).as_deref(), Some(include_str!("../packaging/plugins.d/audit-relay.conf")));
    assert!(machine.read("/etc/audit-relay.toml").is_some(), "the configuration goes with purge, not before");
    machine.succeed(&["dpkg", "-P", "audit-relay"]);
    for path in [CONF, "/etc/audit-relay.toml", "/var/lib/audit-relay/install.json", "/usr/sbin/audit-relay"]
    {
        assert!(machine.read(path).is_none(), "{path} is left");
    }
    assert!(!machine.has_account());
}

/// Sends numbered user messages, 10,000 a second, until told to stop; how many.
fn flood(stop: &AtomicBool) -> usize {
    let begun = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        live::user_messages(
            (sent..sent + 100)
                .map(|n| (1107, format!("op=flood n={n} and sixteen bytes to lose").into_bytes())),
        );
        sent += 100;
        let due = begun + Duration::from_millis(10) * u32::try_from(sent / 100).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    eprintln!("{sent} records in {:?}", begun.elapsed());
    sent
}

fn a_life(lower: &str, sid: bool) {
    if !live::have(&NEEDS) || (sid && !live::have(&[Need::Sid])) {
        return;
    }
    let deb = package(".deb");
    let Some(kernel) = KernelAudit::take() else { return };
    let machine = Machine::of(lower);
    let name = deb.file_name().unwrap().to_str().unwrap().to_owned();
    machine.put(&format!("/tmp/{name}"), &deb);
    nothing_runs(&machine, &name);

    // As a machine that has auditd, and a receiver that speaks TLS.
    machine.shell("sed -i 's/^q_depth.*/q_depth = 90000/; s/^flush.*/flush = NONE/; s/^log_format.*/log_format = ENRICHED/' /etc/audit/auditd.conf");
    let auditd = Ended(machine.auditd());
    let port = live::free_tcp_ports(1)[0];
    let begun = Instant::now();
    machine.succeed(&["dpkg", "-i", &format!("/tmp/{name}")]);
    machine.shell("mkdir -p /etc/ssl; grep -qs localhost /etc/hosts || echo 127.0.0.1 localhost >>/etc/hosts; audit-relay cert new --name localhost /etc/ssl/logs");
    machine.shell(&format!(
        "cat >/tmp/rsyslog.conf <<'E'\n\
         global(maxMessageSize=\"64k\" workDirectory=\"/tmp\")\n\
         main_queue(queue.type=\"LinkedList\" queue.size=\"2000000\" queue.timeoutShutdown=\"20000\")\n\
         module(load=\"imtcp\" StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" StreamDriver.CertFile=\"/etc/ssl/logs.pem\" \
         StreamDriver.KeyFile=\"/etc/ssl/logs.key\" StreamDriver.CAFile=\"/etc/ssl/logs.pem\")\n\
         template(name=\"t\" type=\"string\" string=\"%syslogfacility-text% %msgid% %msg%\\n\")\n\
         action(type=\"omfile\" file=\"/tmp/received\" template=\"t\")\nE"
    ));
    let receiver = || {
        let rsyslogd = machine
            .command(&["/usr/sbin/rsyslogd", "-n", "-i", "NONE", "-f", "/tmp/rsyslog.conf"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(wait_until(Duration::from_secs(20), || live::listens(port)), "rsyslogd does not listen");
        Ended(rsyslogd)
    };
    let rsyslogd = receiver();
    let to = format!("tls://localhost:{port}");
    let said = machine.succeed(&["audit-relay", "install", "--to", &to, "--tls-ca", "/etc/ssl/logs.pem"]);
    assert!(said.contains("- active = no") && said.contains(&format!("go out to {to}")), "{said}");
    // Where auditd's own unit has the relay killed with auditd, a drop-in leaves it time.
    let unit = machine.read("/usr/lib/systemd/system/auditd.service").unwrap_or_default();
    let drop_in = machine.read(DROP_IN);
    let kills = unit.lines().any(|line| line == "KillMode=mixed");
    assert!(kills || !sid, "sid's unit has changed, and nothing is tried here: {unit}");
    assert_eq!(
        drop_in.is_some_and(|text| text.ends_with("[Service]\nKillMode=control-group\n")),
        kills,
        "{said}"
    );
    let received = || machine.read("/tmp/received").unwrap_or_default();
    assert!(
        wait_until(Duration::from_secs(10), || received().contains("op=audit-relay-install")),
        "{}",
        received()
    );
    assert!(received().starts_with("local6 "), "{}", received());
    eprintln!("{lower}: from the package to records at a TLS receiver in {:?}", begun.elapsed());
    let status = machine.shell("for p in /proc/[0-9]*; do if [ \"$(cat $p/comm)\" = audit-relay ]; then grep Uid $p/status; fi; done");
    let uid = machine.shell("id -u audit-relay").trim().to_owned();
    assert!(status.split_whitespace().filter(|word| *word == uid).count() >= 4, "{status} {uid}");

    // An upgrade under load.
    let before = machine.relays(&auditd.0);
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&stop));
        thread::sleep(Duration::from_secs(2));
        let said = machine.succeed(&["dpkg", "-i", &format!("/tmp/{name}")]);
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        assert!(said.contains("starts the new program") && said.contains("records arrive"), "{said}");
        flood.join().unwrap()
    });
    assert_ne!(machine.relays(&auditd.0), before);
    let numbers = |what: &str| -> Vec<usize> {
        let text = received();
        let of = |line: &str| line.split_once(what)?.1.split(' ').next()?.parse().ok();
        text.lines().filter_map(of).collect()
    };
    let flooded = || BTreeSet::from_iter(numbers("op=flood n="));
    let all = wait_until(Duration::from_secs(30), || flooded().len() == sent);
    let there = flooded();
    let missing: Vec<_> = (0..sent).filter(|n| !there.contains(n)).collect();
    assert!(all, "{} of {sent} lost, from {:?} on", missing.len(), missing.first());

    // An upgrade while the receiver is away: what the old program could not deliver the new one sends, before what came
    // after.
    drop(rsyslogd);
    let away = |from: usize| {
        let text = |n| (1107, format!("op=away n={n} and sixteen bytes to lose").into_bytes());
        live::user_messages((from..from + 200).map(text));
    };
    let before = machine.relays(&auditd.0);
    away(0);
    let said = machine.succeed(&["dpkg", "-i", &format!("/tmp/{name}")]);
    assert!(said.contains("starts the new program"), "{said}");
    let after = machine.relays(&auditd.0);
    assert!(!after.is_empty() && after != before, "{after:?}, before {before:?}: {said}");
    away(200);
    assert_eq!(numbers("op=away n="), [0; 0], "there is no receiver");
    let _rsyslogd = receiver();
    let all = wait_until(Duration::from_secs(30), || numbers("op=away n=").len() >= 400);
    assert_eq!((all, numbers("op=away n=")), (true, (0..400).collect::<Vec<_>>()), "{said}");

    // Removed: auditd goes on, and starts again.
    let said = machine.succeed(&["dpkg", "-r", "audit-relay"]);
    assert!(said.contains("auditd has ended the relay"), "{said}");
    assert_eq!(machine.read(DROP_IN), None, "{said}");
    assert_eq!(machine.relays(&auditd.0), Vec::<String>::new());
    assert_eq!(machine.read(CONF).as_deref(), Some(include_str!("../packaging/plugins.d/audit-relay.conf")));
    assert!(
        machine.read("/usr/sbin/audit-relay").is_none() && machine.mode("/usr/sbin/audit-relay").is_none()
    );
    let logs = |part: &str| {
        live::user_message(part);
        assert!(
            wait_until(Duration::from_secs(10), || {
                machine.read("/var/log/audit/audit.log").unwrap_or_default().contains(part)
            }),
            "auditd does not write {part}"
        );
    };
    logs("op=after-removal");
    live::send_signal(auditd.0.id(), Signal::SIGHUP);
    logs("op=after-reload");
    drop(auditd);
    let auditd = Ended(machine.auditd());
    logs("op=after-restart");
    machine.succeed(&["dpkg", "-P", "audit-relay"]);
    assert!(
        machine.mode(CONF).is_none()
            && machine.mode("/etc/audit-relay.toml").is_none()
            && !machine.has_account()
    );
    drop(auditd);
    drop(machine);
    drop(kernel);
}

#[test]
fn a_life_on_debian_12() {
    a_life("/", false);
}

#[test]
fn a_life_on_sid() {
    let root = std::env::var("AUDIT_RELAY_SID_ROOT").unwrap_or("/var/cache/audit-relay-test/sid".to_owned());
    a_life(&root, true);
}

/// The rpm in this host's system, where rpm knows of no package: without what it depends on, with its scriptlets.
#[test]
fn the_rpm_comes_and_goes() {
    if !live::have(&NEEDS) {
        return;
    }
    let rpm = package(".rpm");
    let machine = Machine::of("/");
    machine.put("/tmp/audit-relay.rpm", &rpm);
    let with = |words: &[&str]| machine.succeed(&[&["rpm", "--dbpath", "/tmp/rpm"], words].concat());
    with(&["--initdb"]);
    with(&["-i", "--nodeps", "/tmp/audit-relay.rpm"]);
    assert!(machine.has_account());
    assert_eq!(machine.mode(CONF), Some(0o640));
    machine.succeed(&["audit-relay", "install", "--files-only", "--to", "udp://192.0.2.1:514"]);
    assert!(machine.read(CONF).unwrap().contains("active = yes"));
    with(&["-U", "--nodeps", "--replacepkgs", "/tmp/audit-relay.rpm"]);
    assert!(machine.read(CONF).unwrap().contains("active = yes"), "an upgrade has switched the relay off");
    // By the scriptlet: rpm would only move a changed file aside.
    with(&["-e", "audit-relay"]);
    assert!(machine.mode(CONF).is_none(), "{:?}", machine.read(CONF));
    // rpm keeps what was changed when it began, under a name that auditd passes over; by then it is switched off.
    let saved = machine.read(&format!("{CONF}.rpmsave"));
    let shipped = include_str!("../packaging/plugins.d/audit-relay.conf");
    assert!(saved.is_none_or(|text| text == shipped), "it was not put back as it was shipped");
    assert!(machine.mode("/usr/sbin/audit-relay").is_none());
    assert!(machine.mode("/etc/audit-relay.toml").is_some(), "the configuration stays");
}
