//! Looks at the machine: files, processes, kernel, network, each by a hand of its own.
//!
//! Law: what may take long, and any file may, runs beside the rest and is left alone when the time is over; what cannot be seen is
//! a sentence in [`Machine::unseen`], and an error only where nothing can be judged without it.

mod files;
mod kernel;
mod local;
mod processes;
mod receivers;
mod relay;
mod send;

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::unistd::Uid;

use super::machine::{self, LocalSyslog, Machine, Receiver};
use crate::cli::{Examination, Options};
use crate::site::settings::NameFormat;
use crate::site::status::Status;
use crate::site::{Facts, Root, Site};
use crate::telemetry::Report;
use crate::{host, sys};

pub(super) use receivers::try_as_relay;

/// For what a relay says at its socket.
const ANSWER: Duration = Duration::from_secs(2);

/// Seconds that a test message and the look for it take at most, for each destination.
const SENDING: u64 = 12;

/// Work on a thread of its own.
struct Later<T>(Option<mpsc::Receiver<T>>);

impl<T: Send + 'static> Later<T> {
    fn begin(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (answer, wait) = mpsc::channel();
        let begun = thread::Builder::new().spawn(move || drop(answer.send(work())));
        Self(begun.ok().map(|_| wait))
    }

    /// `None`: the time is over.
    fn get(self, end: Instant) -> Option<T> {
        self.0?.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
    }
}

/// What is not known in time is as if it were not there, and is said.
struct Wait {
    end: Instant,
    unseen: Vec<String>,
}

impl Wait {
    /// `what`, for people, stands in a sentence with what did not answer.
    fn take<T: Send + 'static>(&mut self, what: &str, later: Option<Later<T>>) -> Option<T> {
        let later = later?;
        let taken = later.get(self.end);
        if taken.is_none() {
            self.unseen.push(format!("{what}: no answer in time; is a file system there that hangs (NFS)?"));
        }
        taken
    }
}

/// What the rest needs first.
struct Ground {
    kernel: Option<Status>,
    site: Site,
    relay: machine::Relay,
    unseen: Vec<String>,
}

impl Ground {
    fn look(root: &Root, options: &Options) -> Self {
        // The kernel knows auditd's pid where no file does.
        let (kernel, unseen) = match root.is_host() {
            true => kernel::status(),
            false => (None, Vec::new()),
        };
        let site = Site::look_with(root, kernel.as_ref().map(|kernel| kernel.pid));
        let relay = relay::look(root, &site, options);
        Self { kernel, site, relay, unseen }
    }
}

/// Looks at everything.
///
/// # Errors
/// A sentence: not even auditd's and the relay's configuration could be read in time.
pub(super) fn gather(asked: &Examination, options: &Options, start: Instant) -> Result<Machine, String> {
    let end = start + Duration::from_secs(asked.within);
    let root = asked.root.as_ref().map_or_else(Root::host, Root::at);
    let is_host = root.is_host();
    let first = {
        let (root, options) = (root.clone(), options.clone());
        Later::begin(move || Ground::look(&root, &options))
    };
    let Some(Ground { kernel, site, relay, unseen }) = first.get(end) else {
        return Err(format!(
            "auditd's files, its plugins' programs and the relay's configuration cannot be read within {} s; is a file system \
             there that hangs (NFS)?",
            asked.within
        ));
    };
    let mut wait = Wait { end, unseen };
    let destinations =
        relay.config.as_ref().map_or_else(|_| Vec::new(), |config| config.destinations.clone());

    // All at once, and what takes long first. Each has its own thread: a file system that hangs keeps one of them, and the end of
    // the process ends it.
    let within = end.saturating_duration_since(Instant::now());
    let trials = is_host.then(|| Later::begin(move || receivers::trials(within)));
    let refused = is_host.then(|| {
        let over_tls = relay::uses_tls(&relay);
        let config = relay.config.clone();
        Later::begin(move || if over_tls { relay::check(config, within) } else { Ok(Vec::new()) })
    });
    let sources = relay::sources(&root, &relay);
    let numbers = {
        let sources = sources.clone();
        Later::begin(move || sources.ask(ANSWER.min(within)))
    };
    let file = Later::begin(move || sources.read());
    let rules = is_host.then(|| Later::begin(move || kernel::rules(within)));
    let settings = site.settings.as_ref().ok();
    let asks_resolver =
        settings.is_some_and(|s| matches!(s.name_format(), NameFormat::Fqd | NameFormat::Numeric));
    let resolves = (is_host && asks_resolver).then(|| {
        Later::begin(|| {
            nix::unistd::gethostname()
                .ok()
                .is_some_and(|name| sys::canonical_name(&name.to_string_lossy()).is_some())
        })
    });
    let names = {
        let root = root.clone();
        Later::begin(move || if is_host { Some(host::names()) } else { files::names(&root) })
    };
    let local = {
        let root = root.clone();
        Later::begin(move || local::look(&root))
    };
    let certificates = {
        let (root, relay) = (root.clone(), relay.clone());
        Later::begin(move || files::certificates(&root, &relay))
    };
    let handover = is_host.then(|| {
        let relay = relay.clone();
        Later::begin(move || files::handover(&relay))
    });
    let state = is_host.then(|| {
        let site = site.clone();
        Later::begin(move || files::state(&site))
    });

    wait.unseen.extend(site.unseen.iter().cloned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut machine = Machine {
        is_host,
        now,
        auditd_conf: None,
        state: None,
        fqd_resolves: None,
        processes: None,
        kernel,
        rules: None,
        readers: Vec::new(),
        local: LocalSyslog::default(),
        receivers: Vec::new(),
        arrivals: Vec::new(),
        certificates: Vec::new(),
        clock_is_synchronised: is_host
            .then(|| sys::clock_state().map(|(synchronised, _)| synchronised))
            .flatten(),
        names: None,
        handover: None,
        denials: Vec::new(),
        relay,
        site,
        unseen: Vec::new(),
    };
    let program = machine.program().map(Path::to_path_buf);
    let auditd_conf = {
        let conf = root.find_link(machine.site.conf_file());
        Later::begin(move || std::fs::metadata(conf).ok().map(|facts| Facts::of(&facts)))
    };
    let denials = {
        let (root, site, program) = (root.clone(), machine.site.clone(), program.clone());
        Later::begin(move || files::denials(&root, &site, program.as_deref(), now))
    };
    let processes = is_host.then(|| {
        let (auditd, program) = (machine.site.pid, program.clone());
        Later::begin(move || processes::relays(program.as_deref(), auditd))
    });
    let readers = is_host.then(|| Later::begin(processes::audit_readers));

    machine.auditd_conf = wait.take("auditd.conf", Some(auditd_conf)).flatten();
    machine.state = wait.take("auditd's state file", state).flatten();
    machine.processes = wait.take("the relay's processes", processes).flatten();
    machine.readers = wait.take("readers of the kernel's records", readers).unwrap_or_default();
    machine.names = wait.take("this host's name", Some(names)).flatten();
    machine.handover = wait.take("the folder of handover", handover).flatten();
    machine.denials = wait.take("logs with denials", Some(denials)).unwrap_or_default();
    machine.certificates = wait.take("certificates of tls-*", Some(certificates)).unwrap_or_default();
    let (local, unsure) = wait.take("rsyslog's and journald's files", Some(local)).unwrap_or_default();
    machine.local = local;
    wait.unseen.extend(unsure);
    // The socket's may be of another relay, by hand; the file's are those of the last one that wrote it.
    let is_ours = |report: &Report| match &machine.processes {
        Some(relays) => relays.iter().any(|relay| relay.pid == report.pid),
        None => true,
    };
    let numbers = numbers.get(end).flatten().filter(is_ours);
    machine.relay.report = numbers.or_else(|| wait.take("the relay's report", Some(file)).flatten());
    if !Uid::effective().is_root() {
        wait.unseen.push("what only root may see: the kernel's audit status and rules, other users' processes, files that root keeps (run it with sudo)".to_owned());
    }
    if let Some(trials) = trials {
        let trials = trials.get(end).unwrap_or_else(|| Err("took too long".to_owned()));
        let tried = trials.unwrap_or_else(|error| {
            wait.unseen.push(format!("the receivers: {error}"));
            Vec::new()
        });
        let members = destinations.iter().flat_map(|d| d.route.members());
        let receiver = |(member, trial): (&crate::output::service::Member, _)| Receiver {
            url: member.url.clone(),
            target: member.target.clone(),
            trial,
        };
        machine.receivers = members.zip(tried).map(receiver).collect();
    }
    match refused.map(|refused| refused.get(end)) {
        None => {}
        Some(Some(Ok(refused))) => machine.relay.refused = refused,
        Some(Some(Err(error))) => wait.unseen.push(format!("files of tls-*: {error}")),
        Some(None) => wait.unseen.push("files of tls-*: took too long".to_owned()),
    }
    match rules.map(|rules| rules.get(end)) {
        None => {}
        Some(Some(Ok(rules))) => machine.rules = Some(rules),
        // Without root that is said already.
        Some(_) if !Uid::effective().is_root() => {}
        Some(Some(Err(error))) => wait.unseen.push(format!("the rules: {error}")),
        Some(None) => wait.unseen.push("the rules: took too long".to_owned()),
    }
    if let Some(resolves) = resolves {
        // No answer in time is none that auditd can use at boot.
        machine.fqd_resolves = Some(resolves.get(end).unwrap_or(false));
    }
    if asked.send && machine.relay.config.is_err() {
        wait.unseen
            .push("a test message: none was sent, since no destination is known (see `config`)".to_owned());
    } else if asked.send && is_host {
        // Each has its limits; only a file system can take longer.
        wait.end = Instant::now()
            + Duration::from_secs(SENDING) * u32::try_from(destinations.len().max(1)).unwrap_or(1);
        let (machine_then, look_in) = (machine.clone(), asked.look_in.clone());
        let sent = Later::begin(move || send::all(&machine_then, &look_in));
        machine.arrivals = wait.take("what a test message came to", Some(sent)).unwrap_or_default();
    }
    machine.unseen = wait.unseen;
    Ok(machine)
}

/// Reads a file of settings, if it is there and not unreasonably long.
fn text(path: &Path) -> Option<String> {
    crate::site::read_text(path).ok()
}
