//! What is left to a relay whose records, peers or libraries have turned against it.
//!
//! Promise: after [`apply`] this process can open for reading only what lies in the folders that reload, reconnect and
//! look-ups need, write none but its handover's, connect over TCP to the configured ports only, make sockets only of
//! kinds that its configuration has a use for, start no program and no process, have no memory that is writable and
//! executable at once, signal nobody, and leaves no image of its memory; as far as the kernel is new enough, which it
//! says. What stays open: docs/security.md. Law: called once, after root is given up, before the first thread starts and
//! the first byte is read, since Landlock and seccomp hold for the calling thread and those that it starts.

pub mod attempts;
mod calls;
mod needs;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use log::{info, warn};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::calls::{Mode, Sockets};
use self::needs::Needs;
use crate::apparmor;
use crate::config::{Config, Confine};
use crate::privilege::Confined;
use crate::sys;
use crate::telemetry::Enforced;

/// The newest version of Landlock that was tried: Linux 6.15. Newer ones could refuse what was not foreseen.
const TRIED: ABI = ABI::V7;

/// Read by getaddrinfo(3), its modules and the loader. /run, because /etc/resolv.conf often leads there, and what is
/// below comes later than auditd.
const NAME_SERVICE: &[&str] =
    &["/etc", "/run", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/var/lib/sss/mc"];

/// Where distributions keep their authorities.
const AUTHORITIES: &[&str] = &[
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/lib/ssl",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
];

/// What everybody may read, and somebody may ask for late.
const ALWAYS: &[&str] = &["/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom"];

/// Descriptors: look-ups on up to 64 threads, and the relay's own.
const DESCRIPTORS: u64 = 256;

/// Receivers, and bytes of queues, that a reload may add: the limits have room for them.
const MORE_RECEIVERS: usize = 16;
const MORE_QUEUE: usize = 512 << 20;

/// Memory beyond the queues: the allocator's first block (1 GiB of addresses), stacks of threads, libraries.
const MEMORY: u64 = 3 << 30;

/// In the report, of seccomp.
const ENFORCED: &str = "enforced";

/// What was enforced, and what can no longer be had.
#[derive(Debug)]
pub struct Confinement {
    enforced: Enforced,
    needs: Needs,
    open: Vec<PathBuf>,
    file: Option<PathBuf>,
    resolver: bool,
    log: bool,
    /// `None`: there are none.
    bounds: Option<Bounds>,
}

/// What the limits are made for.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    receivers: usize,
    /// Bytes.
    queues: usize,
}

impl Bounds {
    fn of(config: &Config) -> Self {
        Self {
            receivers: config.destinations.iter().map(|d| d.route.members().len()).sum(),
            queues: config.destinations.iter().map(|d| d.queue_bytes(false)).sum(),
        }
    }
}

/// What is needed beside what the configuration says.
#[derive(Debug)]
pub struct Around<'a> {
    /// The configuration's file.
    pub file: Option<PathBuf>,
    /// This machine's own name has to be looked up.
    pub resolver: bool,
    /// What the relay says of itself goes to /dev/log.
    pub log: bool,
    /// Folders in which files are made: for undelivered records, for metrics.
    pub writable: Vec<BorrowedFd<'a>>,
    /// Clients are taken (`status`, `metrics`). Their sockets are there already: no other can be made to listen.
    pub clients: bool,
}

impl Confinement {
    /// What the kernel enforces.
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// Whether `config` can be run within what is left.
    ///
    /// # Errors
    /// A sentence that names what it lacks.
    pub fn admits(&self, config: &Config) -> Result<(), String> {
        if let Some(old) = self.bounds {
            let new = Bounds::of(config);
            let what = if new.receivers > old.receivers + MORE_RECEIVERS {
                "descriptors for so many more receivers"
            } else if new.queues > old.queues + MORE_QUEUE {
                "memory for so much larger queues"
            } else {
                ""
            };
            if !what.is_empty() {
                return Err(format!(
                    "it needs {what}, which are bounded at the start; start the relay again for this change"
                ));
            }
        }
        let open = |file: &Path| {
            folders(file).iter().all(|folder| {
                folder.canonicalize().is_ok_and(|real| self.open.iter().any(|dir| real.starts_with(dir)))
            })
        };
        // Only what is shut can be lacking.
        let (files, calls) = (self.enforced.landlock > 0, self.enforced.seccomp == ENFORCED);
        let mut new = Needs::of(config, self.file.as_deref(), self.resolver, self.log);
        new.names &= files || calls;
        if !self.enforced.tcp_ports {
            new.ports.clear();
        }
        if !files {
            new.files.clear();
            new.authorities = false;
        }
        if !calls {
            new.sockets = Sockets::default();
        }
        match self.needs.lacking(&new, open) {
            None => Ok(()),
            Some(what) => Err(format!(
                "it needs {what}, which confinement has shut at the start; start the relay again for this change"
            )),
        }
    }
}

/// Confines this process to what `config` and what is `around` it needs.
///
/// # Errors
/// A sentence: `confine = "require"`, and the kernel cannot do it.
pub fn apply(_proof: &Confined, config: &Config, around: Around<'_>) -> Result<Confinement, String> {
    let Around { file, resolver, log, writable, clients } = around;
    let needs = Needs::of(config, file.as_deref(), resolver, log);
    // Entered at the start, whatever `confine` says: it is the administrator's.
    let enforced = Enforced { apparmor: apparmor::current().unwrap_or_default(), ..Enforced::default() };
    let mut confinement =
        Confinement { enforced, needs, open: Vec::new(), file, resolver, log, bounds: None };
    if config.confine == Confine::Off {
        warn!("confine = \"off\": a relay that is taken over can do what its account can");
        return Ok(confinement);
    }
    confinement.enforced.no_dumps = no_dumps();
    confinement.enforced.memory = sys::refuse_new_code().is_ok();
    bound(*confinement.bounds.insert(Bounds::of(config)));
    let mut missing = Vec::new();
    if config.confine != Confine::Log {
        match shut_files_and_ports(&confinement.needs, writable) {
            Ok((status, open)) => {
                confinement.open = open;
                confinement.enforced.landlock = abi(&status);
                confinement.enforced.tcp_ports = confinement.enforced.landlock >= 4;
                confinement.enforced.scopes = confinement.enforced.landlock >= 6;
            }
            Err(error) => missing.push(format!("Landlock: {error}")),
        }
        match confinement.enforced.landlock {
            0 if missing.is_empty() => {
                missing.push(
                    "Landlock (files): it has none, or it is off (boot with lsm=landlock,...)".to_owned(),
                );
            }
            1..4 => info!("confine: this kernel's Landlock knows no TCP ports (Linux 6.7)"),
            _ => {}
        }
    }
    let mode = if config.confine == Confine::Log { Mode::Log } else { Mode::Enforce };
    match shut_calls(mode, &confinement.needs, clients) {
        Ok(()) => confinement.enforced.seccomp = if mode == Mode::Log { "log" } else { ENFORCED }.into(),
        Err(error) => missing.push(format!("seccomp (system calls): {error}")),
    }
    if missing.is_empty() {
        info!("confine: {}", confinement.enforced);
        return Ok(confinement);
    }
    let missing = missing.join("; ");
    match config.confine {
        Confine::Require => Err(format!(
            "confine = \"require\", but this kernel lacks {missing}; mend that, or confine = \"auto\""
        )),
        _ => {
            warn!("confine: {}; not enforced: {missing}", confinement.enforced);
            Ok(confinement)
        }
    }
}

/// No core file, and no reading of our memory by processes of the same account (ptrace(2)).
fn no_dumps() -> bool {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).is_ok()
        && prctl::set_dumpable(false).is_ok()
        && prctl::get_dumpable().is_ok_and(|dumpable| !dumpable)
}

/// Bounds descriptors and memory: a fault of ours must not become one of the host.
fn bound(bounds: Bounds) {
    // Batches are up to a third larger than what is counted of them; the handover is read into as much again.
    let memory = MEMORY + 2 * bounds.queues as u64;
    for (resource, limit) in [
        (Resource::RLIMIT_NOFILE, DESCRIPTORS + 8 * bounds.receivers as u64),
        (Resource::RLIMIT_DATA, memory),
    ] {
        // A lower one that is set already stays.
        let set = getrlimit(resource)
            .and_then(|(soft, hard)| setrlimit(resource, limit.min(soft), limit.min(hard)));
        if let Err(error) = set {
            warn!("confine: cannot bound {resource:?}: {error}");
        }
    }
}

fn shut_calls(mode: Mode, needs: &Needs, clients: bool) -> Result<(), String> {
    for filter in calls::filters(mode, needs.names, clients, needs.sockets)? {
        sys::install_seccomp(&filter.program, filter.logs).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn shut_files_and_ports(
    needs: &Needs,
    writable: Vec<BorrowedFd<'_>>,
) -> Result<(RestrictionStatus, Vec<PathBuf>), RulesetError> {
    let mut wanted: Vec<PathBuf> = ALWAYS.iter().map(PathBuf::from).collect();
    if needs.names {
        wanted.extend(NAME_SERVICE.iter().map(PathBuf::from));
    }
    if needs.authorities {
        wanted.extend(AUTHORITIES.iter().map(PathBuf::from));
        // rustls-native-certs looks there first.
        let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
        for path in named.flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>()) {
            wanted.extend(folders(&path));
            wanted.push(path);
        }
    }
    wanted.extend(needs.files.iter().flat_map(|file| folders(file)));
    wanted.sort();
    wanted.dedup();
    let mut open = Vec::new();
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let keep = AccessFs::ReadFile
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?;
    for path in wanted {
        if let Ok(fd) = PathFd::new(&path) {
            let access: BitFlags<AccessFs> = if path.is_dir() { read } else { AccessFs::ReadFile.into() };
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
            open.extend(path.canonicalize());
        }
    }
    for folder in writable {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, keep))?;
    }
    for port in &needs.ports {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok((ruleset.restrict_self()?, open))
}

/// The folder of `file` as it is named and as it is, or what is nearest to it of what exists, since it may be made
/// later; and the folders of all links on the way, which may be turned to another place below. The root folder is
/// never opened for that.
fn folders(file: &Path) -> Vec<PathBuf> {
    let named = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let nearest = |path: &Path| {
        let ancestors = path.ancestors().skip(1).take_while(|dir| *dir != Path::new("/"));
        ancestors.filter(|dir| dir.is_dir()).map(Path::to_path_buf).next()
    };
    let links = named.ancestors().skip(1).filter(|path| path.is_symlink());
    let mut paths: Vec<PathBuf> = [named.clone()].into_iter().chain(named.canonicalize()).collect();
    paths.extend(links.filter(|link| nearest(link).is_some()).map(Path::to_path_buf));
    // A file in the root folder stands for itself, and cannot be replaced.
    let mut found: Vec<_> = paths.iter().map(|path| nearest(path).unwrap_or_else(|| path.clone())).collect();
    found.dedup();
    found
}

/// The version that is enforced; 0: none.
fn abi(status: &RestrictionStatus) -> u8 {
    match (&status.ruleset, &status.landlock) {
        (RulesetStatus::NotEnforced, _) => 0,
        (_, LandlockStatus::Available { effective_abi, .. }) => (*effective_abi).min(TRIED) as u8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    /// Each is asked for by itself: a kernel may have any without the others.
    #[test]
    fn a_reload_is_held_against_what_is_enforced_and_nothing_else() {
        let config = |to: &str, queue: &str| {
            let text = format!("hostname = \"h\"\nto = [\"{to}\"]\nqueue-size = \"{queue}\"\n");
            toml::from_str::<Settings>(&text).unwrap().validate().unwrap()
        };
        let old = config("tcp://127.0.0.1:7000", "1MiB");
        let none = Enforced::default();
        let calls = Enforced { seccomp: ENFORCED.into(), ..none.clone() };
        let logged = Enforced { seccomp: "log".into(), ..none.clone() };
        let files = Enforced { landlock: 3, ..none.clone() };
        let ports = Enforced { landlock: 4, tcp_ports: true, ..none.clone() };
        for (enforced, bounded, to, queue, expected) in [
            (&none, true, "tcp://127.0.0.1:7000", "2GiB", Some("memory")),
            (&calls, true, "tcp://127.0.0.1:7000", "2GiB", Some("memory")),
            (&none, false, "tcp://127.0.0.1:7000", "2GiB", None),
            (&none, true, "udp://logs", "1MiB", None),
            (&logged, true, "udp://logs", "1MiB", None),
            (&calls, true, "udp://127.0.0.1", "1MiB", Some("UDP")),
            (&calls, true, "tcp://127.0.0.1:7001", "1MiB", None),
            (&calls, true, "tcp://logs:7000", "1MiB", Some("name look-ups")),
            (&calls, true, "tls://127.0.0.1:7000", "1MiB", None),
            (&files, true, "udp://127.0.0.1", "1MiB", None),
            (&files, true, "udp://logs", "1MiB", Some("name look-ups")),
            (&files, true, "tls://127.0.0.1:7000", "1MiB", Some("authorities")),
            (&files, true, "tcp://127.0.0.1:7001", "1MiB", None),
            (&ports, true, "tcp://127.0.0.1:7001", "1MiB", Some("TCP port 7001")),
        ] {
            let confinement = Confinement {
                enforced: enforced.clone(),
                needs: Needs::of(&old, None, false, false),
                open: Vec::new(),
                file: None,
                resolver: false,
                log: false,
                bounds: bounded.then(|| Bounds::of(&old)),
            };
            let said = confinement.admits(&config(to, queue)).err();
            let fits = match (&said, expected) {
                (Some(said), Some(word)) => said.contains(word) && said.contains("start the relay again"),
                (said, word) => said.is_none() && word.is_none(),
            };
            assert!(fits, "{enforced:?}: {to}, {queue}: {said:?}");
        }
    }

    #[test]
    fn the_folder_of_a_file_is_opened_also_before_it_is_there_and_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::fs::write(dir.join("real/ca.pem"), "").unwrap();
        std::fs::create_dir_all(dir.join("named")).unwrap();
        std::os::unix::fs::symlink(dir.join("real/ca.pem"), dir.join("named/ca.pem")).unwrap();
        assert_eq!(folders(&dir.join("named/ca.pem")), [dir.join("named"), dir.join("real")]);
        assert_eq!(folders(&dir.join("later/deep/ca.pem")), std::slice::from_ref(&dir));
        std::os::unix::fs::symlink("real", dir.join("current")).unwrap();
        // `current` may be turned to another folder beside it.
        assert_eq!(
            folders(&dir.join("current/ca.pem")),
            [dir.join("current"), dir.join("real"), dir.clone()]
        );
        assert_eq!(folders(Path::new("/ca.pem")), [Path::new("/ca.pem")], "never the root folder");
    }
}
