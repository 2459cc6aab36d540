//! Files: auditd's state, certificates, the handover's folder, refusals in logs, names.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::text;
use crate::certificate_files;
use crate::config::{self, DEFAULT_HANDOVER};
use crate::doctor::machine::{Dated, Handover, Relay, State};
use crate::handover::Folder;
use crate::host::Names;
use crate::output::service::{Authorities, Target};
use crate::site::{Root, Site, open_file, read_file};

/// The end of a log that is read.
const TAIL: u64 = 512 * 1024;

/// The most that is read of a file of certificates or revocations.
const LONGEST_LIST: u64 = 64 << 20;

/// What is older is over.
const WEEK: u64 = 7 * 86_400;

/// The most refusals that are told.
const MOST: usize = 5;

/// What auditd has written of its state since it was started.
pub(super) fn state(site: &Site) -> Option<State> {
    let pid = site.pid?;
    let path = Path::new(site.version_or_newest().state_folder()).join("auditd.state");
    let started = fs::metadata(format!("/proc/{pid}")).and_then(|facts| facts.modified()).ok()?;
    let written = fs::metadata(&path).and_then(|facts| facts.modified()).ok()?;
    (written >= started).then(|| understand(&text(&path)?)).flatten()
}

fn understand(text: &str) -> Option<State> {
    let value = |name: &str| {
        text.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix('=').map(str::trim))
    };
    Some(State {
        overflowed: value("plugin queue overflow detected")? == "yes",
        suspended: value("plugin queueing suspended") == Some("yes"),
        deepest: value("max plugin queue depth used").and_then(|number| number.parse().ok()),
    })
}

/// Everything of the configured files that ends.
pub(super) fn certificates(root: &Root, relay: &Relay) -> Vec<Dated> {
    let mut found: Vec<Dated> = Vec::new();
    let mut add = |what: String, valid| {
        let dated = Dated { what, valid };
        if !found.contains(&dated) {
            found.push(dated);
        }
    };
    let bytes = |file: &Path| {
        read_file(&root.find(file), LONGEST_LIST).map_err(|error| format!("cannot be read: {error}"))
    };
    let destinations = relay.config.iter().flat_map(|config| &config.destinations);
    for settings in destinations.filter(|d| d.route.any(Target::is_over_tls)).map(|d| &d.service.tls) {
        if let Some((own, _)) = &settings.identity {
            // Its own is the first; the chain's may end later.
            match bytes(own).and_then(|bytes| certificate_files::dates(&bytes)) {
                Ok(dates) => add(
                    format!("our certificate {}", own.display()),
                    dates.first().copied().ok_or_else(|| "holds none".to_owned()),
                ),
                Err(error) => add(format!("our certificate {}", own.display()), Err(error)),
            }
        }
        if let Authorities::File(file) = &settings.ca {
            match bytes(file).and_then(|bytes| certificate_files::dates(&bytes)) {
                // One that is good is enough.
                Ok(dates) => {
                    let last = dates.into_iter().max_by_key(|(_, until)| *until);
                    add(
                        format!("the authority in {}", file.display()),
                        last.ok_or_else(|| "holds none".to_owned()),
                    );
                }
                Err(error) => add(format!("the authority in {}", file.display()), Err(error)),
            }
        }
        for file in &settings.crls {
            match bytes(file).and_then(|bytes| certificate_files::revocation_dates(&bytes)) {
                Ok(dates) => dates
                    .into_iter()
                    .for_each(|dates| add(format!("the revocation list {}", file.display()), Ok(dates))),
                Err(error) => add(format!("the revocation list {}", file.display()), Err(error)),
            }
        }
    }
    // What we may not read the relay's account may; `check` looks.
    found.retain(|dated| !dated.valid.as_ref().is_err_and(|error| error.contains("Permission denied")));
    found
}

/// The folder for undelivered records, as the relay will find it.
pub(super) fn handover(relay: &Relay) -> Option<Handover> {
    let path = match &relay.config.as_ref().ok()?.handover {
        config::Handover::Off => return None,
        config::Handover::Auto => Path::new(DEFAULT_HANDOVER),
        config::Handover::Folder(path) => path,
    };
    let nearest = path.ancestors().find(|folder| folder.exists())?;
    let is_tmpfs = statfs(nearest).ok().map(|facts| facts.filesystem_type() == TMPFS_MAGIC);
    let fault = relay.account.as_ref().and_then(|account| Folder::fault(path, account.uid));
    // What we may not look at, root's `doctor` tells.
    let fault = fault.filter(|sentence| !sentence.contains("Permission denied"));
    let fault = fault.map(|sentence| sentence.trim_start_matches("handover: ").to_owned());
    Some(Handover { path: path.to_path_buf(), is_tmpfs, fault })
}

/// Lines of the last week that name the relay and a refusal. `program`: the relay that is installed; what another of its name was
/// refused, such as a test's, is nothing to this machine.
pub(super) fn denials(root: &Root, site: &Site, program: Option<&Path>, now: u64) -> Vec<String> {
    let named = program.map(Path::to_path_buf);
    // The kernel names it without links, such as /sbin.
    let real =
        program.and_then(|program| fs::canonicalize(root.find(program)).ok()).filter(|_| root.is_host());
    let programs: Vec<PathBuf> = named.into_iter().chain(real).collect();
    let refusals = |text: &str| refusals(text, &programs, now);
    let audit_log = site.settings.as_ref().map_or("/var/log/audit/audit.log", |settings| settings.log_file());
    let mut found = Vec::new();
    for file in [audit_log, "/var/log/kern.log", "/var/log/syslog", "/var/log/messages"] {
        found.extend(refusals(&tail(&root.find(file)).unwrap_or_default()));
    }
    if root.is_host() {
        found.extend(refusals(&kernel_log().unwrap_or_default()));
    }
    // The same line stands in several logs.
    let mut told: Vec<String> = Vec::new();
    for line in found {
        if !told.contains(&line) && told.len() < MOST {
            told.push(line);
        }
    }
    told
}

/// `programs`: the installed one, under each of its names; none: it is not known.
fn refusals(text: &str, programs: &[PathBuf], now: u64) -> Vec<String> {
    // Only some records say it; an unusual path is in hexadecimal digits, and could be any.
    let exe = |line: &str| {
        let path = line.split_once(" exe=\"")?.1.split('"').next()?;
        Some(PathBuf::from(path.trim_end_matches(" (deleted)")))
    };
    let is_recent = |line: &str| {
        let stamp =
            line.split_once("audit(").and_then(|(_, rest)| rest.split_once('.')?.0.parse::<u64>().ok());
        stamp.is_some_and(|stamp| stamp + WEEK > now)
    };
    let refuses = |line: &&str| {
        let is_ours = line.contains("comm=\"audit-relay\"") || line.contains("audit_relay_t");
        let avc = line.contains("avc:  denied") || line.contains("apparmor=\"DENIED\"");
        // What `check --confinement` tries is ended by a signal.
        let seccomp =
            (line.contains("type=SECCOMP") || line.contains("type=1326")) && line.contains("sig=0 ");
        let is_installed = programs.is_empty() || exe(line).is_none_or(|exe| programs.contains(&exe));
        is_ours && is_installed && (avc || seccomp) && is_recent(line)
    };
    // From the record on, without what a log has put in front.
    let bare = |line: &str| line[line.find("audit(").unwrap_or(0)..].trim().to_owned();
    text.lines().filter(refuses).map(bare).collect()
}

fn tail(path: &Path) -> Option<String> {
    let mut file = open_file(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the kernel still has of its own log; a read gives one line.
fn kernel_log() -> Option<String> {
    let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let (mut text, mut line) = (String::new(), [0; 8192]);
    while text.len() < 4 * 1024 * 1024 {
        match file.read(&mut line) {
            Ok(0) => break,
            Ok(length) => text += &String::from_utf8_lossy(&line[..length]),
            // A line was overwritten before we came to it.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => break,
        }
    }
    Some(text)
}

/// What another system's files say that it is called.
pub(super) fn names(root: &Root) -> Option<Names> {
    let name = text(&root.find("/etc/hostname"))?.trim().to_owned();
    let hosts = text(&root.find("/etc/hosts")).unwrap_or_default();
    let full = crate::host::from_hosts(&hosts, &name)
        .filter(|_| !name.contains('.'))
        .unwrap_or_else(|| name.clone());
    Some(Names { all: vec![name, full.clone()], full })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auditds_state() {
        let text = "Number of active plugins = 1\ncurrent plugin queue depth = 0\nmax plugin queue depth used = 458\n\
                    plugin queue size = 2000\nplugin queue overflow detected = no\nplugin queueing suspended = no\n";
        assert_eq!(understand(text), Some(State { overflowed: false, suspended: false, deepest: Some(458) }));
        let full = text.replace("= no", "= yes");
        assert_eq!(understand(&full), Some(State { overflowed: true, suspended: true, deepest: Some(458) }));
        assert_eq!(understand("nothing of the kind"), None);
    }

    #[test]
    fn refusals_in_logs() {
        let avc = "type=AVC msg=audit(1795424674.445:7): avc:  denied  { read } for pid=9 comm=\"audit-relay\" name=\"socket\"";
        let kernel = "4,1,2,-;audit: type=1400 audit(1795424674.445:8): apparmor=\"DENIED\" operation=\"open\" comm=\"audit-relay\"";
        let ended =
            "type=SECCOMP msg=audit(1795424674.445:9): comm=\"audit-relay\" sig=31 arch=c000003e syscall=56";
        let logged =
            "type=SECCOMP msg=audit(1795424674.445:9): comm=\"audit-relay\" sig=0 arch=c000003e syscall=56";
        let other = avc.replace("audit-relay", "laurel");
        let text = [avc, kernel, ended, logged, &other].join("\n");
        let now = 1_795_424_700;
        let found = refusals(&text, &[], now);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].starts_with("audit(1795424674.445:8): apparmor="), "{found:?}");
        assert_eq!(refusals(&text, &[], now + 2 * WEEK), Vec::<String>::new());
        // One of the same name that is not the machine's.
        let installed = [PathBuf::from("/usr/sbin/audit-relay")];
        for (exe, count) in [
            ("/usr/sbin/audit-relay", 1),
            ("/usr/sbin/audit-relay (deleted)", 1),
            ("/srv/tests/audit-relay", 0),
        ] {
            let line = format!("{logged} exe=\"{exe}\"").replace("comm=", "pid=9 comm=");
            assert_eq!(refusals(&line, &installed, now).len(), count, "{line}");
        }
        assert_eq!(refusals(avc, &installed, now).len(), 1, "an AVC record does not say it");
    }
}
