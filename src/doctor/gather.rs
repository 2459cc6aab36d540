//! Looks at the machine: files, processes, kernel, network, each by a hand of its own.
//!
//! Law: what may take long runs beside the rest and is left alone when the time is over; what cannot be seen is a sentence in
//! [`Machine::unseen`] and never an error.

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

use super::machine::{Machine, Receiver};
use crate::cli::{Examination, Options};
use crate::site::settings::NameFormat;
use crate::site::{Facts, Root, Site};
use crate::{host, sys};

pub(super) use receivers::try_as_relay;

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

/// Looks at everything.
pub(super) fn gather(asked: &Examination, options: &Options, start: Instant) -> Machine {
    let end = start + Duration::from_secs(asked.within);
    let root = asked.root.as_ref().map_or_else(Root::host, Root::at);
    let is_host = root.is_host();
    // The kernel knows auditd's pid where no file does.
    let (kernel, mut unseen) = match is_host {
        true => kernel::status(),
        false => (None, Vec::new()),
    };
    let site = Site::look_with(&root, kernel.as_ref().map(|kernel| kernel.pid));
    let relay = relay::look(&root, &site, options);
    let destinations =
        relay.config.as_ref().map_or_else(|_| Vec::new(), |config| config.destinations.clone());

    // What takes long begins first.
    let within = end.saturating_duration_since(Instant::now());
    let trials = is_host.then(|| Later::begin(move || receivers::trials(within)));
    let refused = is_host.then(|| {
        let over_tls = relay::uses_tls(&relay);
        let config = relay.config.clone();
        Later::begin(move || if over_tls { relay::check(config, within) } else { Ok(Vec::new()) })
    });
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

    unseen.extend(site.unseen.iter().cloned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let conf = root.find_link(site.conf_file());
    let auditd_conf = std::fs::metadata(conf).ok().map(|facts| Facts::of(&facts));
    let mut machine = Machine {
        is_host,
        now,
        auditd_conf,
        state: is_host.then(|| files::state(&site)).flatten(),
        fqd_resolves: None,
        processes: None,
        kernel,
        rules: None,
        readers: Vec::new(),
        local: local::look(&root),
        receivers: Vec::new(),
        arrivals: Vec::new(),
        certificates: files::certificates(&root, &relay),
        clock_is_synchronised: is_host
            .then(|| sys::clock_state().map(|(synchronised, _)| synchronised))
            .flatten(),
        names: None,
        handover: is_host.then(|| files::handover(&relay)).flatten(),
        denials: files::denials(&root, &site, now),
        relay,
        site,
        unseen,
    };
    if is_host {
        machine.processes = processes::relays(machine.program(), machine.site.pid);
        machine.readers = processes::audit_readers();
        machine.names = Later::begin(host::names).get(end);
    } else {
        machine.names = files::names(&root);
    }
    if !Uid::effective().is_root() {
        machine.unseen.push("what only root may see: the kernel's audit status and rules, other users' processes, files that root keeps (run it with sudo)".to_owned());
    }
    if let Some(trials) = trials {
        let trials = trials.get(end).unwrap_or_else(|| Err("took too long".to_owned()));
        let tried = trials.unwrap_or_else(|error| {
            machine.unseen.push(format!("the receivers: {error}"));
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
        Some(Some(Err(error))) => machine.unseen.push(format!("files of tls-*: {error}")),
        Some(None) => machine.unseen.push("files of tls-*: took too long".to_owned()),
    }
    match rules.map(|rules| rules.get(end)) {
        None => {}
        Some(Some(Ok(rules))) => machine.rules = Some(rules),
        // Without root that is said already.
        Some(_) if !Uid::effective().is_root() => {}
        Some(Some(Err(error))) => machine.unseen.push(format!("the rules: {error}")),
        Some(None) => machine.unseen.push("the rules: took too long".to_owned()),
    }
    if let Some(resolves) = resolves {
        // No answer in time is none that auditd can use at boot.
        machine.fqd_resolves = Some(resolves.get(end).unwrap_or(false));
    }
    if asked.send && is_host {
        machine.arrivals = send::all(&machine, &asked.look_in);
    }
    machine
}

/// Reads a file of settings, if it is there and not unreasonably long.
fn text(path: &Path) -> Option<String> {
    crate::site::read_text(path).ok()
}
