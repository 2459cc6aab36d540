//! Watches the processes, the kernel's audit status and auditd's queue while records flow.
//!
//! *Promise:* CPU time is the kernel's own account in nanoseconds (`schedstat` of every thread), from the first look
//! to the last; nothing is injected into what is watched. auditd is asked for its queue once, after the last look, so
//! that its answer is not in its bill.
//! What a plugin's children used that nobody has seen alive, such as commands of a shell, is told by the clock tick once
//! they were waited for.
//! *Law:* what cannot be read is absent, not zero. A thread that ends between two looks keeps what it had at the last.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::netlink::{Audit, Status};
use crate::family;
use crate::signals::ignores;
use crate::warm_up::waited_ns;

/// Pause between two looks.
pub(super) const PERIOD: Duration = Duration::from_millis(100);
/// Looks between two searches for plugins that were started again.
const LOOKS_PER_SEARCH: u32 = 10;
/// How long auditd may take to write its state report.
const STATE_PATIENCE: Duration = Duration::from_secs(5);

/// One process's account.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// What it is to this run.
    pub(super) role: Role,
    /// Its own name.
    pub(super) name: String,
    /// Its id.
    pub(super) pid: u32,
    /// Peak of its resident memory, KiB; none for a kernel thread.
    pub(super) max_rss_kib: Option<u64>,
    threads: BTreeMap<u32, Thread>,
    /// Its parent at the last look.
    parent: Option<u32>,
    /// It was not there any more at the last look.
    gone: bool,
    /// CPU time of children it has waited for, ns: at the first look and at the last.
    waited: (u64, u64),
    /// Of that, what none of the processes seen has used, ns.
    unseen_ns: u64,
    /// It ignores SIGCHLD, as auditd leaves it to its plugins, and had children: nobody waits for those, and what they used
    /// unseen is in no account.
    pub(super) cpu_at_least: bool,
}

/// What a process is to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The kernel thread that hands records to auditd.
    Kauditd,
    /// auditd itself.
    Auditd,
    /// A plugin, or a process that one has started.
    Plugin,
    /// This program: load and receiver.
    Loadgen,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    cpu_ns: u64,
    voluntary: u64,
    involuntary: u64,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    base: Counts,
    last: Counts,
}

impl Process {
    fn new(role: Role, pid: u32, from_its_start: bool) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        let waited = if from_its_start { 0 } else { waited_ns(pid).unwrap_or(0) };
        let mut this = Self {
            role,
            name,
            pid,
            max_rss_kib: None,
            threads: BTreeMap::new(),
            parent: None,
            gone: false,
            waited: (waited, waited),
            unseen_ns: 0,
            cpu_at_least: false,
        };
        this.look(from_its_start);
        this
    }

    /// Takes a reading. `counts_all`: a thread not seen before began after the first look.
    fn look(&mut self, counts_all: bool) {
        if let Ok(text) = fs::read_to_string(format!("/proc/{}/status", self.pid)) {
            self.max_rss_kib = self.max_rss_kib.max(field(&text, "VmHWM:"));
            self.parent = field(&text, "PPid:").and_then(|pid| u32::try_from(pid).ok()).or(self.parent);
            self.cpu_at_least = self.cpu_at_least
                || self.role == Role::Plugin
                    && ignores(&text, Signal::SIGCHLD)
                    && !family::children(Pid::from_raw(self.pid.cast_signed())).is_empty();
        }
        self.waited.1 = self.waited.1.max(waited_ns(self.pid).unwrap_or(0));
        let Ok(entries) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            self.gone = true;
            return;
        };
        for tid in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
            let Some(now) = counts(self.pid, tid) else { continue };
            let fresh = Thread { base: if counts_all { Counts::default() } else { now }, last: now };
            self.threads.entry(tid).or_insert(fresh).last = now;
        }
    }

    /// CPU time between the first look and the last, ns; with it that of children that were never seen.
    pub(super) fn cpu_ns(&self) -> u64 {
        let own = self.threads.values().map(|thread| thread.last.cpu_ns.saturating_sub(thread.base.cpu_ns));
        own.sum::<u64>() + self.unseen_ns
    }

    /// CPU time since its start, with that of the children it has waited for, ns.
    fn lifetime_ns(&self) -> u64 {
        self.threads.values().map(|thread| thread.last.cpu_ns).sum::<u64>() + self.waited.1
    }

    /// Times it waited, and times it was made to, between the first look and the last.
    pub(super) fn switches(&self) -> (u64, u64) {
        self.threads.values().fold((0, 0), |(voluntary, involuntary), Thread { base, last }| {
            (
                voluntary + last.voluntary.saturating_sub(base.voluntary),
                involuntary + last.involuntary.saturating_sub(base.involuntary),
            )
        })
    }
}

/// Charges plugins with what they have waited for and nobody has seen. What was seen is on its own bill.
fn charge_unseen(processes: &mut [Process]) {
    let gone: Vec<(Option<u32>, u64)> = processes
        .iter()
        .filter(|process| process.gone)
        .map(|process| (process.parent, process.lifetime_ns()))
        .collect();
    for process in processes.iter_mut().filter(|process| process.role == Role::Plugin) {
        let seen: u64 =
            gone.iter().filter(|(parent, _)| *parent == Some(process.pid)).map(|(_, ns)| ns).sum();
        let (before, after) = process.waited;
        process.unseen_ns = after.saturating_sub(before).saturating_sub(seen);
    }
}

fn counts(pid: u32, tid: u32) -> Option<Counts> {
    let directory = format!("/proc/{pid}/task/{tid}");
    let schedstat = fs::read_to_string(format!("{directory}/schedstat")).ok()?;
    let status = fs::read_to_string(format!("{directory}/status")).ok()?;
    Some(Counts {
        cpu_ns: schedstat.split_whitespace().next()?.parse().ok()?,
        voluntary: field(&status, "voluntary_ctxt_switches:")?,
        involuntary: field(&status, "nonvoluntary_ctxt_switches:")?,
    })
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What an auditd has started, and what that has.
pub(super) fn plugins_of(auditd: u32) -> impl Iterator<Item = u32> {
    let pid = Pid::from_raw(auditd.cast_signed());
    family::descendants(pid).into_iter().map(|pid| pid.as_raw().cast_unsigned())
}

/// The kernel thread that hands records to auditd.
fn kauditd() -> Option<u32> {
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let is_it = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() == "kauditd";
        is_it.then_some(pid)
    })
}

/// auditd's account of its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    /// Records in it when it was asked, at the end.
    pub(super) current: Option<u64>,
    /// The most that were ever in it, by auditd's own count.
    pub(super) max: Option<u64>,
    /// Records it has room for.
    pub(super) size: Option<u64>,
    /// Whether it has run over.
    pub(super) overflowed: Option<bool>,
}

impl Queue {
    /// Reads auditd's state report.
    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find_map(|(key, value)| {
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let number = |name| value(name).and_then(|value| value.parse().ok());
        Self {
            current: number("current plugin queue depth"),
            max: number("max plugin queue depth used"),
            size: number("plugin queue size"),
            overflowed: value("plugin queue overflow detected").map(|value| value != "no"),
        }
    }
}

/// Everything that was seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// The processes.
    pub(super) processes: Vec<Process>,
    /// The audit status at the first look.
    pub(super) before: Status,
    /// The audit status at the last look.
    pub(super) after: Status,
    /// The most records that waited for auditd at any look.
    pub(super) backlog_max: u32,
    /// auditd's queue.
    pub(super) queue: Queue,
}

/// The watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    audit: Audit,
    auditd: u32,
    seen: Seen,
    looks: u32,
}

impl Watcher {
    /// Takes the first look.
    ///
    /// # Errors
    /// If the kernel does not tell its audit status.
    pub(super) fn start(mut audit: Audit, auditd: u32) -> std::io::Result<Self> {
        let mut processes: Vec<Process> =
            kauditd().map(|pid| Process::new(Role::Kauditd, pid, false)).into_iter().collect();
        processes.push(Process::new(Role::Auditd, auditd, false));
        processes.extend(plugins_of(auditd).map(|pid| Process::new(Role::Plugin, pid, false)));
        processes.push(Process::new(Role::Loadgen, std::process::id(), false));
        let before = audit.status()?;
        let seen =
            Seen { processes, before, after: before, backlog_max: before.backlog, queue: Queue::default() };
        Ok(Self { audit, auditd, seen, looks: 0 })
    }

    /// Takes another look. To be called every [`PERIOD`].
    pub(super) fn look(&mut self) {
        for process in &mut self.seen.processes {
            process.look(true);
        }
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_PER_SEARCH) {
            self.find_plugins();
        }
        self.look_at_kernel();
    }

    /// Looks at the kernel's audit status only: what the processes spend from now on is not counted.
    pub(super) fn look_at_kernel(&mut self) {
        if let Ok(status) = self.audit.status() {
            self.seen.after = status;
            self.seen.backlog_max = self.seen.backlog_max.max(status.backlog);
        }
    }

    /// Asks auditd for its queue and returns what was seen; auditd must still run.
    pub(super) fn finish(mut self) -> Seen {
        self.look_at_kernel();
        charge_unseen(&mut self.seen.processes);
        self.seen.queue = self.ask_state().as_deref().map(Queue::parse).unwrap_or_default();
        self.seen
    }

    /// A plugin that auditd has started again has another id.
    fn find_plugins(&mut self) {
        for pid in plugins_of(self.auditd) {
            if !self.seen.processes.iter().any(|process| process.pid == pid) {
                self.seen.processes.push(Process::new(Role::Plugin, pid, true));
            }
        }
    }

    /// auditd's state report, written now; `None` if it does not write one.
    fn ask_state(&self) -> Option<String> {
        // Since 4.1.2 in /run/audit. Through its own root, as it may have another.
        let files = ["run/audit/auditd.state", "run/auditd.state"]
            .map(|name| PathBuf::from(format!("/proc/{}/root/{name}", self.auditd)));
        let before = files.each_ref().map(modified);
        // An auditd that is gone shows everywhere else.
        let _ = kill(Pid::from_raw(self.auditd.cast_signed()), Signal::SIGCONT);
        let mut last = None;
        let mut waited = Duration::ZERO;
        while waited < STATE_PATIENCE {
            std::thread::sleep(PERIOD);
            waited += PERIOD;
            let now = fresh(&files, &before);
            // One that is being written is read again.
            if now.is_some() && now == last {
                return now.map(|(_, text)| text);
            }
            last = now;
        }
        None
    }
}

fn modified(file: &PathBuf) -> Option<SystemTime> {
    fs::metadata(file).ok()?.modified().ok()
}

/// The first of `files` that is not the one of `before`, and when it was written: an earlier auditd's report, which may
/// still lie there, says nothing about this one.
fn fresh(files: &[PathBuf; 2], before: &[Option<SystemTime>; 2]) -> Option<(SystemTime, String)> {
    files.iter().zip(before).find_map(|(file, before)| {
        let now = modified(file).filter(|now| Some(*now) != *before)?;
        Some((now, fs::read_to_string(file).ok().filter(|text| !text.is_empty())?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_report_is_read_by_its_names() {
        let text = "audit version = 4.2.1\nNumber of active plugins = 1\ncurrent plugin queue depth = 3\n\
                    max plugin queue depth used = 458\nplugin queue size = 2000\n\
                    plugin queue overflow detected = no\n";
        let expected = Queue { current: Some(3), max: Some(458), size: Some(2000), overflowed: Some(false) };
        assert_eq!(Queue::parse(text), expected);
        assert_eq!(Queue::parse(""), Queue::default());
        assert_eq!(Queue::parse("plugin queue overflow detected = yes").overflowed, Some(true));
    }

    #[test]
    fn an_earlier_state_report_is_not_taken_for_this_one() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["old", "new"].map(|name| directory.path().join(name));
        fs::write(&files[0], "earlier").unwrap();
        let before = files.each_ref().map(modified);
        assert_eq!(fresh(&files, &before), None);
        fs::write(&files[1], "").unwrap();
        assert_eq!(fresh(&files, &before), None, "opened, not written");
        fs::write(&files[1], "ours").unwrap();
        assert_eq!(fresh(&files, &before).map(|(_, text)| text).as_deref(), Some("ours"));
        let later = before[0].unwrap() + Duration::from_secs(1);
        fs::File::options().write(true).open(&files[0]).unwrap().set_modified(later).unwrap();
        assert_eq!(fresh(&files, &before), Some((later, "earlier".to_owned())), "written again");
    }

    #[test]
    fn children_that_nobody_has_seen_are_charged_once() {
        let process = |pid, parent, gone, own_ns, waited| Process {
            role: Role::Plugin,
            name: String::new(),
            pid,
            max_rss_kib: None,
            threads: [(
                pid,
                Thread { base: Counts::default(), last: Counts { cpu_ns: own_ns, ..Counts::default() } },
            )]
            .into(),
            parent: Some(parent),
            gone,
            waited,
            unseen_ns: 0,
            cpu_at_least: false,
        };
        // 7 has waited for 100 since the first look: 60 of it 8's, which was seen and had waited for 20 itself.
        let mut all = [
            process(7, 1, false, 5, (30, 130)),
            process(8, 7, true, 40, (0, 20)),
            process(9, 7, false, 50, (0, 0)),
        ];
        charge_unseen(&mut all);
        assert_eq!(all.map(|process| process.cpu_ns()), [45, 60, 50]);
    }

    #[test]
    fn a_shells_commands_are_on_its_bill() {
        let script = "while :; do /bin/sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'; done";
        let mut shell = std::process::Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let mut all = [Process::new(Role::Plugin, shell.id(), true)];
        // A minute at most; it takes 200 ms of CPU.
        for _ in 0..600 {
            std::thread::sleep(PERIOD);
            all[0].look(true);
            if all[0].waited.1 >= 200_000_000 {
                break;
            }
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        charge_unseen(&mut all);
        assert!(all[0].cpu_ns() >= 200_000_000, "{all:?}");
    }

    #[test]
    fn children_of_a_plugin_that_ignores_them_are_told_to_be_missing() {
        for (ignored, expected) in [("--ignore-signal=CHLD", true), ("--default-signal=CHLD", false)] {
            // The shell has a child before it becomes env, which sets the signal, and that what stays.
            let script = format!("sleep 100 & exec /usr/bin/env {ignored} sleep 100");
            let mut plugin = std::process::Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap();
            let mut process = Process::new(Role::Plugin, plugin.id(), true);
            let pid = Pid::from_raw(plugin.id().cast_signed());
            let mut children = Vec::new();
            for _ in 0..600 {
                std::thread::sleep(Duration::from_millis(10));
                children = family::children(pid);
                process.look(true);
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
                if !children.is_empty() && name.trim() == "sleep" {
                    break;
                }
            }
            process.look(true);
            for child in children {
                kill(child, Signal::SIGKILL).unwrap();
            }
            plugin.kill().unwrap();
            plugin.wait().unwrap();
            assert_eq!(process.cpu_at_least, expected, "{process:?}");
        }
    }

    #[test]
    fn a_process_is_charged_from_the_first_look_to_the_last() {
        let mut process = Process::new(Role::Loadgen, std::process::id(), false);
        let before = process.cpu_ns();
        // Work that takes CPU time whatever else the machine does.
        let sum = (0..20_000_000u64).fold(0u64, |sum, n| std::hint::black_box(sum.wrapping_add(n)));
        process.look(true);
        assert!(process.cpu_ns() > before, "{sum}");
        assert!(process.max_rss_kib.unwrap() > 0);
    }
}
