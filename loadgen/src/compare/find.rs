//! Who takes part: the relay, the two floors, the user's own, and the peers found on this machine.
//!
//! *Promise:* every contestant known is either in, or out with the reason.
//! *Law:* looks, and asks programs for their version; starts none of them otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::peers::{PEERS, Peer, Program, SYSLOG_NG_NAME, Way};
use crate::cli::CompareArgs;
use crate::command;
/// The relay, whose cost all others are told in.
pub(super) use crate::command::RELAY;
use crate::session::quote;
use crate::sink::Transport;

/// The contestants that need not be looked for elsewhere.
pub(super) const NAMES_OF_OURS: [&str; 3] = [RELAY, FLOOR, PUMP];
/// The least a relay can do.
pub(super) const FLOOR: &str = "floor";
/// What passing the bytes on costs.
pub(super) const PUMP: &str = "pump";

/// Where programs are looked for; `enter.sh` looks there, too.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// A contestant, for one kind of receiver.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    /// Name, and version where it has one.
    pub(super) label: String,
    /// What `--only` compares with.
    pub(super) name: String,
    /// What it is, in a line.
    pub(super) what: String,
    /// The receiver.
    pub(super) to: Transport,
    /// It passes the lines on as they are.
    pub(super) bare: bool,
    /// How to start it.
    pub(super) start: Start,
}

/// How a contestant is started.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// With this command.
    Command(Vec<String>),
    /// Through `enter.sh`.
    Peer { way: &'static Way, system: System, dev_log: bool },
}

/// Where a peer lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// On this machine.
    Host,
    /// In a folder with a system of its own.
    Chroot(PathBuf),
    /// In a folder that packages were unpacked to; runs with this machine's libraries.
    Unpacked(PathBuf),
}

/// A contestant that is not there.
#[derive(Clone, Debug)]
pub(super) struct Absent {
    pub(super) label: String,
    pub(super) why: String,
}

/// All that take part in `args`, and all that do not.
pub(super) fn contestants(args: &CompareArgs, own: &Path) -> (Vec<Contestant>, Vec<Absent>) {
    let mut found = Vec::new();
    let mut absent = Vec::new();
    let wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|only| name.starts_with(only.as_str()));
    for (index, &to) in args.to.iter().enumerate() {
        if args.to[..index].contains(&to) {
            continue;
        }
        for ours in NAMES_OF_OURS.into_iter().filter(|name| wanted(name)) {
            match our(ours, to, own) {
                Ok(contestant) => found.push(contestant),
                Err(why) => absent.push(Absent { label: format!("{ours} to {to:?}").to_lowercase(), why }),
            }
        }
        found.extend(args.with.iter().map(|named| Contestant {
            label: named.name.clone(),
            name: named.name.clone(),
            what: named.command.join(" "),
            to,
            bare: false,
            start: Start::Command(named.command.clone()),
        }));
    }
    let systems = systems(&args.root);
    for peer in PEERS.iter().filter(|peer| wanted(peer.name)) {
        let ways: Vec<&Way> = peer.ways.iter().filter(|way| args.to.contains(&way.to)).collect();
        if ways.is_empty() {
            continue;
        }
        let mut labels: Vec<String> = Vec::new();
        let mut reasons: Vec<String> = Vec::new();
        for system in &systems {
            match lookup(peer, system) {
                // The same version twice says nothing more.
                Ok(label) if labels.contains(&label) => {}
                Ok(label) => {
                    found.extend(ways.iter().map(|way| contestant(peer, way, &label, system)));
                    labels.push(label);
                }
                Err(why) => reasons.push(why),
            }
        }
        if labels.is_empty() {
            absent.push(Absent { label: peer.name.to_owned(), why: reasons.join("; ") });
        }
    }
    (found, absent)
}

/// One of our own.
fn our(name: &str, to: Transport, own: &Path) -> Result<Contestant, String> {
    let program = if name == RELAY { own.with_file_name(RELAY) } else { own.to_owned() };
    if !program.is_file() {
        return Err(format!("no {} (build it, or name another with --with)", program.display()));
    }
    let encrypted = to.is_encrypted();
    let floor = |child| command::floor(own, child, encrypted, None);
    let (mut command, what) = match name {
        _ if to == Transport::None => return Err("it sends, and needs a receiver".to_owned()),
        RELAY => (command::relay(&program, encrypted, None), "the relay"),
        _ if to.is_relp() => return Err("without a window and replay there is no RELP".to_owned()),
        FLOOR => (floor(command::FLOOR_CHILD), FLOOR_IS),
        _ if matches!(to, Transport::Unix | Transport::Udp) => {
            return Err("a byte pump has no messages to send as datagrams".to_owned());
        }
        _ => (floor(command::PUMP_CHILD), PUMP_IS),
    };
    let label = if name == RELAY {
        [Some(RELAY.to_owned()), version(&mut command_of(&program, &["--version"]))]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    } else {
        name.to_owned()
    };
    if name == RELAY {
        // As fast as possible is faster than any datagram socket: the others hold the feed up then, the relay would
        // rather lose than hold up auditd. Here it is to do the same work.
        command.extend(["--on-full", "block"].map(str::to_owned));
    }
    Ok(Contestant {
        label,
        name: name.to_owned(),
        what: what.to_owned(),
        to,
        bare: name == PUMP,
        start: Start::Command(command),
    })
}

const FLOOR_IS: &str = "the least a relay can do: read, split, format, write, in one thread";
const PUMP_IS: &str = "the least anything can do: read and write, nothing parsed";

fn contestant(peer: &'static Peer, way: &'static Way, label: &str, system: &System) -> Contestant {
    Contestant {
        label: label.to_owned(),
        name: peer.name.to_owned(),
        what: peer.what.to_owned(),
        to: way.to,
        bare: peer.bare,
        start: Start::Peer { way, system: system.clone(), dev_log: peer.dev_log },
    }
}

/// This machine, and each folder for what it is.
fn systems(roots: &[PathBuf]) -> Vec<System> {
    let of = |root: &PathBuf| {
        if root.join("bin/sh").exists() {
            System::Chroot(root.clone())
        } else {
            System::Unpacked(root.clone())
        }
    };
    std::iter::once(System::Host).chain(roots.iter().map(of)).collect()
}

impl System {
    /// The folder; nothing for this machine.
    fn root(&self) -> Option<&Path> {
        match self {
            Self::Host => None,
            Self::Chroot(root) | Self::Unpacked(root) => Some(root),
        }
    }

    /// The folder to change the root to.
    pub(super) fn new_root(&self) -> &Path {
        if let Self::Chroot(root) = self { root } else { Path::new("/") }
    }

    fn name(&self) -> String {
        self.root().map_or_else(|| "this machine".to_owned(), |root| root.display().to_string())
    }

    /// Where the program of this name is, seen from outside.
    fn find(&self, name: &str) -> Option<PathBuf> {
        PATH.split(':')
            .map(|folder| {
                self.root().unwrap_or(Path::new("/")).join(folder.trim_start_matches('/')).join(name)
            })
            // A link may point to where only the chroot has something.
            .find(|file| fs::symlink_metadata(file).is_ok_and(|found| !found.is_dir()))
    }

    /// What starts syslog-ng in a shell script, quoted.
    pub(super) fn syslog_ng(&self) -> String {
        match self {
            Self::Host | Self::Chroot(_) => SYSLOG_NG_NAME.to_owned(),
            Self::Unpacked(root) => {
                unpacked_syslog_ng(root).iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// A command that tells a version.
    fn version_command(&self, argv: &[&str]) -> Command {
        match self {
            Self::Host => command_of(Path::new("/usr/bin/env"), argv),
            Self::Chroot(root) => {
                let mut words = vec!["chroot".to_owned(), root.display().to_string()];
                if !nix::unistd::geteuid().is_root() {
                    words.splice(0..0, ["unshare".to_owned(), "--map-root-user".to_owned()]);
                }
                words.extend(argv.iter().map(|&word| word.to_owned()));
                command_of(Path::new("/usr/bin/env"), &words)
            }
            Self::Unpacked(root) => {
                let mut words = unpacked_syslog_ng(root);
                words.extend(argv.iter().skip(1).map(|&word| word.to_owned()));
                command_of(Path::new("/usr/bin/env"), &words[1..])
            }
        }
    }
}

/// syslog-ng out of a folder of unpacked packages: its libraries are beside its modules, which are in a folder that is
/// named by the version.
fn unpacked_syslog_ng(root: &Path) -> Vec<String> {
    let own = root.join("usr/lib/syslog-ng");
    let modules = fs::read_dir(&own).into_iter().flatten().flatten().map(|entry| entry.path());
    let modules = modules.into_iter().find(|path| path.is_dir()).unwrap_or_else(|| own.clone());
    vec![
        "env".to_owned(),
        format!("LD_LIBRARY_PATH={}", own.display()),
        root.join("usr/sbin/syslog-ng").display().to_string(),
        format!("--module-path={}", modules.display()),
    ]
}

fn command_of<A: AsRef<std::ffi::OsStr>>(program: &Path, arguments: &[A]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The peer's label with the versions of its programs, or what is missing.
fn lookup(peer: &Peer, system: &System) -> Result<String, String> {
    if matches!(system, System::Unpacked(_)) && peer.programs[0].name != SYSLOG_NG_NAME {
        return Err(format!("{} has no shell to run it in", system.name()));
    }
    let helper = |program: &Program| program.version.is_none();
    for program in peer.programs {
        // Helpers are this machine's, unless there is another system.
        let place =
            if helper(program) && matches!(system, System::Unpacked(_)) { &System::Host } else { system };
        if place.find(program.name).is_none() {
            return Err(format!("no {} on {}", program.name, place.name()));
        }
    }
    if (peer.dev_log || matches!(system, System::Chroot(_))) && System::Host.find("unshare").is_none() {
        return Err("no unshare on this machine, to give it a /dev of its own".to_owned());
    }
    // A program that does not tell its version is told by its place.
    let place = || system.root().map_or_else(|| "?".to_owned(), |root| root.display().to_string());
    let versions: Vec<String> = peer
        .programs
        .iter()
        .filter_map(|program| program.version)
        .map(|argv| version(&mut system.version_command(argv)).unwrap_or_else(place))
        .collect();
    Ok([&[peer.name.to_owned()], &versions[..]].concat().join(" "))
}

/// The version that a command tells, if it does.
fn version(command: &mut Command) -> Option<String> {
    first_version(&String::from_utf8_lossy(&command.output().ok()?.stdout))
}

/// The first word that is a version: digits, a dot, digits.
fn first_version(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| word.trim_matches(['(', ')', ',', 'v']))
        .find(|word| {
            let (major, rest) = word.split_once('.').unwrap_or_default();
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits(major) && digits(rest.split(['.', '-', '~', '+']).next().unwrap_or_default())
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, version) in [
            ("rsyslogd  8.2302.0 (aka 2023.02) compiled with:", Some("8.2302.0")),
            ("syslog-ng 4 (4.12.0)\nConfig version: 4.2", Some("4.12.0")),
            ("logger from util-linux 2.38.1", Some("2.38.1")),
            ("socat by Gerhard Rieger and contributors\nsocat version 1.8.1.3 on", Some("1.8.1.3")),
            ("auditctl version 3.0.9", Some("3.0.9")),
            ("no version. 12 .3 4.", None),
        ] {
            assert_eq!(first_version(text).as_deref(), version);
        }
    }

    #[test]
    fn folders_are_told_for_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        assert_eq!(systems(std::slice::from_ref(&root)), [System::Host, System::Unpacked(root.clone())]);
        let spaced = System::Unpacked(PathBuf::from("/srv/two words"));
        assert!(
            spaced.syslog_ng().contains(" '/srv/two words/usr/sbin/syslog-ng' "),
            "{}",
            spaced.syslog_ng()
        );
        fs::create_dir(root.join("bin")).unwrap();
        fs::write(root.join("bin/sh"), "").unwrap();
        assert_eq!(systems(std::slice::from_ref(&root)), [System::Host, System::Chroot(root.clone())]);
        assert!(System::Chroot(root).find("no-such-program").is_none());
    }
}
