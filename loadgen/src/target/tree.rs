//! The target and everything it started, watched from outside while it lives.
//!
//! *Promise:* CPU time, resident memory and number of processes over time, for a run of any length: a sample every 100 ms
//! at first, half as many each time there are too many.
//! *Law:* reads /proc and the processes' CPU clocks only. What lives shorter than the time between two looks may go
//! unseen; the account at the end ([`super::Outcome`]) is the kernel's and misses nothing.
//!
//! The tree is what descends from this process: a target's orphans are adopted by it (see [`super::adopt_orphans`]), so
//! they stay in. Children this process had before the target are not the target's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::clock::Clock;
use crate::family;
use crate::signals::ignores;

/// Most samples kept.
const MOST: usize = 1200;
/// Time between two samples at first, less what a late wake-up may take.
const FIRST_PERIOD_NS: u64 = 90_000_000;

/// What the tree used up to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When, on the run's clock.
    pub(crate) at_ns: u64,
    /// CPU time so far, user and system, of all processes seen.
    pub(crate) cpu_ns: u64,
    /// Resident memory at the time, summed over the processes.
    pub(crate) rss_kib: u64,
}

/// Watches the tree, see the module.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// Children of this process that are not the target's.
    others: Vec<Pid>,
    samples: Vec<Sample>,
    period_ns: u64,
    /// CPU time of each process when it was last looked at.
    cpu_ns: BTreeMap<i32, u64>,
    peak_rss_kib: Option<u64>,
    processes: usize,
    /// Processes that ignore SIGCHLD, and whether one of them had children.
    deaf: BTreeSet<i32>,
    unbilled: bool,
}

impl Watcher {
    /// A watcher of what this process starts; `others` are the children it had before.
    pub(super) fn new(others: Vec<Pid>) -> Self {
        Self {
            others,
            samples: Vec::with_capacity(MOST),
            period_ns: FIRST_PERIOD_NS,
            cpu_ns: BTreeMap::new(),
            peak_rss_kib: None,
            processes: 0,
            deaf: BTreeSet::new(),
            unbilled: false,
        }
    }

    /// Takes a reading; processes that are gone leave their last one standing.
    pub(crate) fn look(&mut self, clock: &Clock) {
        let tree = self.tree();
        let at_ns = clock.now();
        let (mut rss_kib, mut highest_kib, mut alive) = (0, None, 0);
        for pid in tree {
            // A zombie has no memory any more; its time is still told.
            if let Some(ns) = cpu_ns(pid) {
                self.cpu_ns.insert(pid.as_raw(), ns);
            }
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            // Parents come first.
            self.unbilled |= parent(&status).is_some_and(|parent| self.deaf.contains(&parent));
            // Children of such a process leave without being waited for, and without a bill.
            if ignores(&status, Signal::SIGCHLD) {
                self.deaf.insert(pid.as_raw());
            }
            if let Some(memory) = Memory::of(&status) {
                alive += 1;
                rss_kib += memory.resident_kib;
                highest_kib = highest_kib.max(Some(memory.highest_kib));
            }
        }
        if alive == 0 {
            return;
        }
        self.processes = self.processes.max(alive);
        // Between two looks a single process may have been larger, and the kernel remembers it.
        self.peak_rss_kib = self.peak_rss_kib.max(highest_kib).max(Some(rss_kib));
        let due = self.samples.last().is_none_or(|last| at_ns >= last.at_ns.saturating_add(self.period_ns));
        if due {
            if self.samples.len() == MOST {
                let mut keep = false;
                self.samples.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.period_ns *= 2;
            }
            self.samples.push(Sample { at_ns, cpu_ns: self.cpu_ns.values().sum(), rss_kib });
        }
    }

    /// The processes alive: the target, what it started, and its orphans.
    pub(super) fn tree(&self) -> Vec<Pid> {
        family::grown(self.own())
    }

    /// The target, if it is not yet reaped, and its orphans.
    pub(super) fn own(&self) -> Vec<Pid> {
        let mut own = family::children(Pid::this());
        own.retain(|pid| !self.others.contains(pid));
        own
    }

    /// Highest resident memory seen in KiB, summed over the tree; `None` if it was never seen alive.
    pub(super) fn peak_rss_kib(&self) -> Option<u64> {
        self.peak_rss_kib
    }

    /// CPU seconds of all processes when they were last looked at.
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.cpu_ns.values().sum::<u64>() as f64 / 1e9
    }

    /// Whether there were processes that the kernel will have told nobody about when they ended.
    pub(super) fn has_unbilled(&self) -> bool {
        self.unbilled
    }

    /// Most processes seen alive at a time.
    pub(super) fn processes(&self) -> usize {
        self.processes
    }

    /// The samples, oldest first.
    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// CPU time of a process so far, all threads, to the nanosecond.
fn cpu_ns(pid: Pid) -> Option<u64> {
    let clock = ClockId::pid_cpu_clock_id(pid).ok()?;
    let time = clock_gettime(clock).ok()?;
    Some(time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
}

/// The value of a line of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

fn parent(status: &str) -> Option<i32> {
    field(status, "PPid:")?.parse().ok()
}

/// The memory lines of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    resident_kib: u64,
    highest_kib: u64,
}

impl Memory {
    /// Out of the text; a zombie has none.
    fn of(status: &str) -> Option<Self> {
        let kib = |name| field(status, name)?.parse().ok();
        Some(Self { resident_kib: kib("VmRSS:")?, highest_kib: kib("VmHWM:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_or_absent() {
        assert_eq!(
            Memory::of("Name:\tx\nVmHWM:\t    3456 kB\nVmRSS:\t12 kB\n"),
            Some(Memory { resident_kib: 12, highest_kib: 3456 })
        );
        assert_eq!(Memory::of("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn parents_are_found() {
        assert_eq!(parent("Name:\tPPid: 3\nPPid:\t12\n"), Some(12));
        assert_eq!(parent(""), None);
    }

    #[test]
    fn a_process_s_time_grows() {
        let before = cpu_ns(Pid::this()).unwrap();
        let mut sum = 0u64;
        while cpu_ns(Pid::this()).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        assert_eq!(cpu_ns(Pid::from_raw(gone.id().cast_signed())), None);
    }

    #[test]
    fn grandchildren_belong_to_the_tree() {
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 100 & echo up; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line)
            .unwrap();
        let root = Pid::from_raw(i32::try_from(shell.id()).unwrap());
        let mut watcher = Watcher::new(Vec::new());
        // On a busy machine one look may come before the grandchild is more than a number.
        for _ in 0..500 {
            watcher.look(&Clock::start());
            if watcher.processes() >= 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let grandchildren = family::children(root);
        assert_eq!(grandchildren.len(), 1);
        assert!(watcher.tree().contains(&grandchildren[0]), "{:?}", watcher.tree());
        assert!(watcher.processes() >= 2);
        assert!(watcher.peak_rss_kib() > Some(0));
        nix::sys::signal::kill(grandchildren[0], Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn a_long_run_keeps_its_samples_few() {
        let mut watcher = Watcher::new(Vec::new());
        watcher.samples = (0..1200).map(|n| Sample { at_ns: n, cpu_ns: n, rss_kib: 1 }).collect();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        watcher.look(&Clock::start());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(watcher.samples.len(), 601);
        assert_eq!(watcher.samples[1].at_ns, 2);
    }
}
