//! The program under test: started as auditd starts a plugin, watched from outside.
//!
//! *Promise:* its CPU time and context switches, and those of everything it started, are the kernel's own account of
//! reaped children (all threads, to the microsecond); what that lacks because a process ignores SIGCHLD, so that nobody
//! waits for its children, is told as a bound; its peak memory is the highest sum over all of them that was seen
//! ([`tree`]), and at least the high-water mark the kernel keeps for each.
//! *Law:* no help from the program; nothing is injected into it; neither it nor its children outlive the run.
//!
//! Why the peak is sampled: the `ru_maxrss` of a child also covers the moment between fork and exec, when it still
//! was this process. `VmHWM` belongs to the program alone but is gone once it has exited, so it is read until then.

mod tree;

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};

pub(crate) use self::tree::{Sample, Watcher};
use crate::clock::Clock;
use crate::drive::nanoseconds;
use crate::family;

/// Pause between two looks at a target that is expected to exit.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// A running target; killed if dropped before it was waited for.
#[derive(Debug)]
pub(crate) struct Target {
    pid: Pid,
    /// It has ended and was waited for: the number may be another's.
    reaped: bool,
    /// Children this process had before.
    others: Vec<Pid>,
    /// What earlier children of this process used. Not zero even for the first target: a shell that replaces
    /// itself by this program leaves the bill of its own children behind.
    before: Usage,
}

/// What the target cost, and how it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// CPU seconds in user mode.
    pub(crate) user_s: f64,
    /// CPU seconds in the kernel.
    pub(crate) system_s: f64,
    /// The kernel's account lacks processes that nobody waits for: this is what was seen of them while they lived.
    pub(crate) cpu_at_least: bool,
    /// Highest resident size seen, summed over the target and its children, KiB; `None` if it was too quick to be
    /// looked at.
    pub(crate) peak_rss_kib: Option<u64>,
    /// Most processes seen alive at a time, the target included.
    pub(crate) processes: usize,
    /// Processes the target left behind, which had to be killed.
    pub(crate) left_behind: usize,
    /// CPU and memory over time.
    pub(crate) samples: Vec<Sample>,
    /// Times it waited.
    pub(crate) voluntary_switches: i64,
    /// Times it was made to wait.
    pub(crate) involuntary_switches: i64,
    /// Exit code, or 128 + the signal that ended it.
    pub(crate) exit_code: Option<i32>,
    /// It did not end by itself in time.
    pub(crate) killed: bool,
}

impl Target {
    /// Starts `argv` with `stdin`, an empty environment, no signal held back and no other descriptors but stderr (stdout is
    /// /dev/null, as a daemon's). In a process group of its own: Ctrl-C ends the load, and the target drains as at any end
    /// of its stdin.
    ///
    /// # Errors
    /// If there is no such program or it cannot be started.
    pub(crate) fn spawn(argv: &[String], stdin: OwnedFd) -> io::Result<Self> {
        let words: Vec<CString> = argv.iter().map(|word| CString::new(&**word)).collect::<Result<_, _>>()?;
        let program =
            words.first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        let before = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let others = family::children(Pid::this());
        let mut files = PosixSpawnFileActions::init()?;
        files.add_dup2(stdin.as_raw_fd(), 0)?;
        let nothing = File::options().write(true).open("/dev/null")?;
        files.add_dup2(nothing.as_raw_fd(), 1)?;
        // Not std's Command: what this process holds back to ask for (Signals) its children would not hear either.
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
        )?;
        attributes.set_pgroup(Pid::from_raw(0))?;
        attributes.set_sigmask(&SigSet::empty())?;
        // Rust's own start has this process ignore it.
        attributes.set_sigdefault(&[Signal::SIGPIPE].into_iter().collect())?;
        let pid = posix_spawnp::<_, CString>(program, &files, &attributes, &words, &[])?;
        Ok(Self { pid, reaped: false, others, before })
    }

    /// A watcher of the target and its children for another thread to poll.
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher::new(self.others.clone())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the target exits, at most `timeout` or until `give_up` says so, then kills it. Its stdin must be closed
    /// by now. What it leaves behind has `grace` more.
    ///
    /// # Errors
    /// If the operating system refuses to say.
    pub(crate) fn wait(
        mut self,
        mut watcher: Watcher,
        timeout: Duration,
        grace: Duration,
        clock: &Clock,
        give_up: &dyn Fn() -> bool,
    ) -> io::Result<Outcome> {
        let deadline = clock.now().saturating_add(nanoseconds(timeout));
        let mut killed = false;
        let exit_code = loop {
            watcher.look(clock);
            if let Some(code) = self.try_wait(Some(WaitPidFlag::WNOHANG))? {
                break code;
            }
            if !killed && (clock.now() >= deadline || give_up()) {
                killed = true;
                kill(self.pid, Signal::SIGKILL)?;
            }
            std::thread::sleep(EXIT_POLL);
        };
        let left_behind = reap(&mut watcher, grace, clock, give_up);
        // The target and what it left to us are the only children since `before`.
        let (usage, before) = (getrusage(UsageWho::RUSAGE_CHILDREN)?, self.before);
        let user_s = user_seconds(&usage) - user_seconds(&before);
        let system_s = system_seconds(&usage) - system_seconds(&before);
        let (user_s, system_s, short) = at_least(user_s, system_s, watcher.cpu_seconds());
        Ok(Outcome {
            user_s,
            system_s,
            cpu_at_least: short || watcher.has_unbilled(),
            peak_rss_kib: watcher.peak_rss_kib(),
            processes: watcher.processes(),
            left_behind,
            samples: watcher.into_samples(),
            voluntary_switches: usage.voluntary_context_switches() - before.voluntary_context_switches(),
            involuntary_switches: usage.involuntary_context_switches()
                - before.involuntary_context_switches(),
            exit_code: Some(exit_code),
            killed,
        })
    }
}

impl Target {
    /// The exit code, or 128 + signal, once it has ended.
    fn try_wait(&mut self, flags: Option<WaitPidFlag>) -> io::Result<Option<i32>> {
        let code = match waitpid(self.pid, flags) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        self.reaped = true;
        Ok(Some(code))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.try_wait(None);
        }
    }
}

/// User and system seconds that are no less than what was `seen` of all processes, and whether the account fell short of
/// that. The two clocks are the same to the microsecond for each process.
fn at_least(user_s: f64, system_s: f64, seen: f64) -> (f64, f64, bool) {
    let sum = user_s + system_s;
    if seen <= sum + 0.01 {
        return (user_s, system_s, false);
    }
    // How the rest was spent nobody has seen: as what is known.
    let user_share = if sum > 0.0 { user_s / sum } else { 1.0 };
    (seen * user_share, seen * (1.0 - user_share), true)
}

/// Makes this process the parent of its descendants' orphans, so that they are watched, reaped and accounted for.
///
/// # Errors
/// If the kernel is older than 3.4.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// Waits for the orphans of the target, at most `grace` or until `give_up` says so, then kills them. Returns how many had to be.
fn reap(watcher: &mut Watcher, grace: Duration, clock: &Clock, give_up: &dyn Fn() -> bool) -> usize {
    let mut deadline = clock.now().saturating_add(nanoseconds(grace));
    let mut killed = 0;
    loop {
        let mut alive = false;
        for orphan in watcher.own() {
            // No such child: reaped before, so neither alive nor ours.
            alive |= waitpid(orphan, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive);
        }
        if !alive {
            return killed;
        }
        watcher.look(clock);
        if give_up() {
            deadline = 0;
        }
        if clock.now() >= deadline {
            let tree = watcher.tree();
            killed = killed.max(tree.len());
            for pid in tree {
                // One that has ended since needs no killing.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        std::thread::sleep(EXIT_POLL);
    }
}

/// CPU seconds (user + system) this process itself has used so far: generator and sink together.
pub(crate) fn own_cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| user_seconds(&usage) + system_seconds(&usage))
}

/// CPU seconds all processes of this machine have used since it started, interrupts included.
///
/// Rough: most kernels sample it at the clock tick. `None` if the kernel does not say.
pub(crate) fn machine_cpu_seconds() -> Option<f64> {
    let ticks = busy_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    Some(ticks as f64 / per_second as f64)
}

/// Sum of user, nice, system, irq and softirq in the first line of `/proc/stat`.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
    Some([0, 1, 2, 5, 6].iter().filter_map(|&index| fields.get(index)).sum())
}

fn user_seconds(usage: &Usage) -> f64 {
    Duration::from_micros(usage.user_time().num_microseconds().unsigned_abs()).as_secs_f64()
}

fn system_seconds(usage: &Usage) -> f64 {
    Duration::from_micros(usage.system_time().num_microseconds().unsigned_abs()).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_on_the_bill() {
        assert_eq!(at_least(1.0, 2.0, 2.5), (1.0, 2.0, false));
        assert_eq!(at_least(1.0, 3.0, 4.005), (1.0, 3.0, false));
        assert_eq!(at_least(1.0, 3.0, 8.0), (2.0, 6.0, true));
        assert_eq!(at_least(0.0, 0.0, 1.0), (1.0, 0.0, true));
    }

    #[test]
    fn waiting_is_not_work() {
        assert_eq!(
            busy_ticks("cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 1\n"),
            Some(7_600_321)
        );
        assert_eq!(busy_ticks("intr 1\n"), None);
        assert!(machine_cpu_seconds().unwrap() > 0.0);
    }
}
