//! `audit-relay install` and `uninstall` below a folder that holds another system: files, owners and modes there and back, the
//! system's own certificates and accounts, and two at once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use support::relay::{binary, run};
use support::{root_or_skip, temp_dir};

const SYSLOG: &str = "active = no\ndirection = out\npath = /sbin/audisp-syslog\ntype = always\nargs = LOG_INFO\nformat = string\n";

const RECORD: &str = "var/lib/audit-relay/install.json";

/// The account of the relay there, and nobody's on this machine.
const ACCOUNT: u32 = 4242;

struct System {
    dir: tempfile::TempDir,
}

impl System {
    /// auditd 3.0.9, and the relay where a package puts it. Where `closed`, in a folder that only root may enter, as an image
    /// in root's home is.
    fn new(closed: bool) -> Self {
        let system = Self { dir: temp_dir() };
        if closed {
            fs::set_permissions(system.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        }
        for folder in ["etc/audit/plugins.d", "etc/audit-relay", "usr/sbin", "var/lib"] {
            fs::create_dir_all(system.path(folder)).unwrap();
        }
        fs::copy(binary(), system.path("usr/sbin/audit-relay")).unwrap();
        system.put("usr/sbin/auditd", "\x7fELF\x003.0.9\0", 0o755);
        system.put("etc/audit/auditd.conf", "log_format = RAW\n", 0o640);
        system.put(
            "etc/passwd",
            &format!("root:x:0:0::/:/bin/sh\naudit-relay:x:{ACCOUNT}:{ACCOUNT}::/:/bin/false\n"),
            0o644,
        );
        system.put("etc/group", "root:x:0:\nthere-only:x:4243:\n", 0o644);
        system
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("system")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Its status, and all it has said.
    fn run(&self, what: &str, more: &[&str]) -> (i32, String) {
        let root = self.root();
        let output = run(&[&[what, "--root", root.to_str().unwrap()], more].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }
}

fn rights(file: &Path) -> (u32, u32, u32) {
    let facts = fs::metadata(file).unwrap();
    (facts.uid(), facts.gid(), facts.mode() & 0o7777)
}

/// A key and its certificate for `localhost`, as OUT.key and OUT.pem.
fn certificate(out: &Path) {
    let made = run(&["cert", "new", "--name", "localhost", out.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn text_owner_group_and_mode_come_back() {
    if !root_or_skip() {
        return;
    }
    let system = System::new(false);
    let conf = system.path("etc/audit/plugins.d/syslog.conf");
    system.put("etc/audit/plugins.d/syslog.conf", SYSLOG, 0o664);
    // A user's, as auditd would not take it.
    chown(&conf, Some(33), Some(4)).unwrap();
    let (status, said) = system.run("install", &["--replace-syslog", "--to", "udp://192.0.2.1"]);
    assert!(status == 0 && said.contains("33:4 0664 becomes 0:4 0644"), "{said}");
    assert_eq!(rights(&conf), (0, 4, 0o644), "auditd takes it, and its group may still read it");
    let (status, said) = system.run("uninstall", &[]);
    assert_eq!((status, fs::read_to_string(&conf).unwrap().as_str()), (0, SYSLOG), "{said}");
    assert_eq!(rights(&conf), (33, 4, 0o664), "{said}");
    assert!(!system.path(RECORD).parent().unwrap().exists(), "nothing is left");

    // The same by a failure: the relay's own configuration, which was there, is wrong.
    system.put("etc/audit-relay.toml", "to = [\"tpc://192.0.2.1\"]\n", 0o644);
    let (status, said) = system.run("install", &["--replace-syslog"]);
    assert!(status == 78 && said.contains("everything is back as it was"), "{status} {said}");
    assert_eq!(rights(&conf), (33, 4, 0o664), "{said}");
    assert_eq!(fs::read_to_string(&conf).unwrap(), SYSLOG);
    assert!(!system.path(RECORD).parent().unwrap().exists(), "nothing is left");
}

#[test]
fn a_plugin_file_that_led_to_the_relay_before_starts_it_no_longer() {
    if !root_or_skip() {
        return;
    }
    const OURS: &str = "active = yes\ndirection = out\npath = /usr/sbin/audit-relay\ntype = always\nargs = --to udp://192.0.2.7\nformat = string\n";
    for (text, mode) in [
        (OURS, 0o664),
        (OURS, 0o646),
        (&*OURS.replace("/usr/sbin", "/usr/local/sbin"), 0o640),
        (&*OURS.replace("--to udp://192.0.2.7", "--config /etc/audit-relay.toml"), 0o664),
    ] {
        let system = System::new(false);
        let name = "etc/audit/plugins.d/audit-relay.conf";
        system.put(name, text, mode);
        let (status, said) = system.run("install", &["--to", "udp://192.0.2.1"]);
        assert_eq!(status, 0, "{said}");
        let (status, said) = system.run("uninstall", &[]);
        let off = text.replace("active = yes", "active = no");
        assert_eq!((status, fs::read_to_string(system.path(name)).unwrap()), (0, off), "{said}");
        let (status, said) = system.run("uninstall", &[]);
        assert!(status == 0 && said.contains("no file changes"), "{said}");
    }
}

#[test]
fn what_somebody_has_put_back_by_hand_comes_back() {
    if !root_or_skip() {
        return;
    }
    let system = System::new(false);
    let name = "etc/audit/plugins.d/syslog.conf";
    system.put(name, SYSLOG, 0o640);
    let install = || system.run("install", &["--replace-syslog", "--to", "udp://192.0.2.1"]);
    let (status, said) = install();
    assert_eq!(status, 0, "{said}");
    let theirs = SYSLOG.replace("LOG_INFO", "LOG_INFO LOG_LOCAL3").replace("active = no", "active = yes");
    system.put(name, &theirs, 0o600);
    let (status, said) = install();
    assert_eq!(status, 0, "{said}");
    let (status, said) = system.run("uninstall", &[]);
    assert_eq!((status, fs::read_to_string(system.path(name)).unwrap()), (0, theirs), "{said}");
    assert_eq!(rights(&system.path(name)).2, 0o600, "{said}");
}

#[test]
fn an_edited_plugin_file_keeps_the_configuration_that_it_names() {
    if !root_or_skip() {
        return;
    }
    let system = System::new(false);
    let name = "etc/audit/plugins.d/audit-relay.conf";
    let (status, said) = system.run("install", &["--to", "udp://192.0.2.1"]);
    assert_eq!(status, 0, "{said}");
    let edited = format!("# mine\n{}", fs::read_to_string(system.path(name)).unwrap());
    system.put(name, &edited, 0o640);
    let (status, said) = system.run("uninstall", &[]);
    assert_eq!(status, 0, "{said}");
    let off = edited.replace("active = yes", "active = no");
    assert_eq!(fs::read_to_string(system.path(name)).unwrap(), off, "{said}");
    assert!(system.path("etc/audit-relay.toml").exists(), "{said}");
    assert_eq!(said.matches("left: /etc/audit-relay.toml").count(), 1, "{said}");
    assert!(said.contains("which /etc/audit/plugins.d/audit-relay.conf names"), "{said}");
}

/// Killed after the next text was written and before it was in its place.
#[test]
fn what_was_left_aside_hinders_nobody_and_goes() {
    if !root_or_skip() {
        return;
    }
    let aside = [
        "etc/audit/plugins.d/.audit-relay.conf.new",
        "etc/audit/plugins.d/.syslog.conf.new",
        "etc/.audit-relay.toml.new",
        "var/lib/audit-relay/.install.json.new",
        "etc/systemd/system/auditd.service.d/.audit-relay.conf.new",
    ];
    let text = "active = yes\ndirection = out\npath = /usr/sbin/audit-relay\ntype = always\nargs = --config /etc/audit-relay.toml\nformat = string\n";
    for (what, more) in [("install", &["--to", "udp://192.0.2.1"][..]), ("uninstall", &[])] {
        let system = System::new(false);
        for name in aside {
            fs::create_dir_all(system.path(name).parent().unwrap()).unwrap();
            system.put(name, text, 0o640);
        }
        system.put("etc/audit/plugins.d/audit-relay.conf.bak", text, 0o640);
        let (status, said) = system.run(what, more);
        assert_eq!(status, 0, "{said}");
        let left: Vec<_> = aside.iter().filter(|name| system.path(name).exists()).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        assert!(system.path("etc/audit/plugins.d/audit-relay.conf.bak").exists(), "that is not ours");
        let (status, said) = system.run("uninstall", &[]);
        assert_eq!(status, 0, "{said}");
        assert!(!system.path(RECORD).parent().unwrap().exists(), "nothing is left: {said}");
    }
}

#[test]
fn files_of_tls_are_looked_for_in_that_system_and_read_by_its_account() {
    if !root_or_skip() {
        return;
    }
    for closed in [false, true] {
        let system = System::new(closed);
        let here = temp_dir();
        certificate(&here.path().join("here"));
        let only_here = here.path().join("here.pem");
        let to = ["--to", "tls://localhost:6514"];
        let install = |more: &[&str]| system.run("install", &[&to[..], more].concat());
        let refused = |more: &[&str], status: i32, part: &str| {
            let (ended, said) = install(more);
            assert!(ended == status && said.contains(part), "{more:?} {ended}: {said}");
            assert!(!system.path("etc/audit-relay.toml").exists(), "{said}");
        };
        refused(&["--tls-ca", only_here.to_str().unwrap()], 78, "here.pem");
        certificate(&system.path("etc/audit-relay/ours"));
        let (pem, key) = ("/etc/audit-relay/ours.pem", "/etc/audit-relay/ours.key");
        assert!(!Path::new(pem).exists(), "{pem} is on this machine, too");
        // Root's alone, so not the relay's there.
        let identity = ["--tls-ca", pem, "--tls-cert", pem, "--tls-key", key];
        chown(system.path(&key[1..]), Some(0), Some(0)).unwrap();
        fs::set_permissions(system.path(&key[1..]), fs::Permissions::from_mode(0o600)).unwrap();
        refused(&identity, 78, "ours.key");
        chown(system.path(&key[1..]), Some(ACCOUNT), None).unwrap();
        // A group of this machine is none there.
        let group = |name| ["--status", "/run/audit-relay.sock", "--status-group", name];
        refused(&[&["--tls-ca", pem][..], &group("daemon")].concat(), 78, "there is no group `daemon`");
        // A link leads where it will lead when that system runs.
        symlink("/etc/audit-relay/ours.pem", system.path("etc/link.pem")).unwrap();
        let all = ["--tls-ca", "/etc/link.pem", "--tls-cert", pem, "--tls-key", key];
        let (status, said) = install(&[&all[..], &group("there-only")].concat());
        assert_eq!(status, 0, "{said}");
        assert!(!said.contains("will go on without"), "{said}");
        let (status, said) = system.run("uninstall", &[]);
        assert_eq!((status, system.path("etc/audit-relay.toml").exists()), (0, false), "{said}");
    }
}

/// A pipe has no end while nobody writes to it.
#[test]
fn only_regular_files_of_that_system_are_read() {
    if !root_or_skip() {
        return;
    }
    for (name, status, part) in [
        ("etc/passwd", 78, "/etc/passwd: is not a regular file"),
        ("etc/audit/auditd.conf", 0, "audit-relay.conf: new"),
        ("etc/audit-relay.toml", 69, "is not a regular file"),
        ("etc/audit/plugins.d/audit-relay.conf", 69, "is not a regular file"),
    ] {
        let system = System::new(false);
        let _ = fs::remove_file(system.path(name));
        nix::unistd::mkfifo(&system.path(name), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        let (ended, said) = system.run("install", &["--to", "udp://192.0.2.1"]);
        assert!(ended == status && said.contains(part), "{name} {ended}: {said}");
    }
}

#[test]
fn a_second_one_is_told_who_is_at_it_and_changes_nothing() {
    if !root_or_skip() {
        return;
    }
    let system = System::new(false);
    let (folder, conf) =
        (system.path("var/lib/audit-relay"), system.path("etc/audit/plugins.d/audit-relay.conf"));
    fs::create_dir(&folder).unwrap();
    let mut file = File::create(folder.join("install.lock")).unwrap();
    writeln!(file, "{}", std::process::id()).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    for (what, more) in [("install", &["--to", "udp://192.0.2.1"][..]), ("uninstall", &[])] {
        let (status, said) = system.run(what, more);
        assert_eq!(status, 69, "{what}: {said}");
        let who = format!("another audit-relay install or uninstall runs (pid {})", std::process::id());
        assert!(said.contains(&who) && said.contains("run this again"), "{what}: {said}");
        assert!(!conf.exists() && !system.path(RECORD).exists());
        // Who only looks disturbs nobody.
        let (status, said) = system.run(what, &[more, &["--dry-run"]].concat());
        assert_eq!(status, 0, "{what}: {said}");
    }
    drop(lock);
    let (status, said) = system.run("install", &["--to", "udp://192.0.2.1"]);
    assert_eq!((status, conf.exists()), (0, true), "{said}");
    // Many at once: what install has changed is on record, whoever came first.
    std::thread::scope(|scope| {
        for at in 0..8 {
            let system = &system;
            scope.spawn(move || system.run(if at % 2 == 0 { "install" } else { "uninstall" }, &[]));
        }
    });
    let (status, said) = system.run("uninstall", &[]);
    assert_eq!((status, conf.exists()), (0, false), "{said}");
    assert!(!folder.exists(), "nothing is left: {said}");
    // A folder that is not there is not made.
    let nowhere = system.path("nowhere");
    let output = run(&["uninstall", "--root", nowhere.to_str().unwrap()]);
    assert_eq!((output.status.code(), nowhere.exists()), (Some(69), false), "{output:?}");
}
