//! The warm-up: what is written before measuring begins, and what the target has spent on it by then.
//!
//! *Promise:* records of the warm-up are accounted for like all others; latencies, rate and CPU are those of the records
//! behind it. The border is a record, not a moment: with a schedule it follows from that alone.
//! *Law:* the target is not touched; its CPU clocks are read from outside at the moment the first measured record is about
//! to be written.
//!
//! Taken off the target's CPU time is what the target and its living descendants had used by then, all threads, also
//! those that have exited, to the nanosecond, and what children they had waited for had used, to the clock tick. What
//! the target still does then for records of the warm-up that are queued in it is counted; context switches and memory
//! are those of the whole run.

use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::family;

/// How long the warm-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmUp {
    /// Lines.
    Count(u64),
    /// Time from the start of the schedule, or from the first write.
    Time(Duration),
}

/// What a run was at the end of its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Warmed {
    /// Lines written.
    pub(crate) written: u64,
    /// Of those, records that must arrive.
    pub(crate) sent: u64,
    /// When the first measured record was due, or without a schedule, about to be written.
    pub(crate) at_ns: u64,
}

/// CPU time, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// In user mode.
    pub(crate) user_s: f64,
    /// In the kernel.
    pub(crate) system_s: f64,
}

impl Cpu {
    /// What is left of this without `part`. The sum is exact; the split follows `part`'s, which is rough.
    pub(crate) fn without(self, part: Self) -> Self {
        let sum = (self.user_s + self.system_s - part.user_s - part.system_s).max(0.0);
        let user_s = (self.user_s - part.user_s).clamp(0.0, sum);
        Self { user_s, system_s: sum - user_s }
    }
}

/// What the process `root` and its descendants have used so far. What is gone or may not be looked at counts nothing.
pub(crate) fn cpu_of_tree(root: Pid) -> Cpu {
    let mut sum = Cpu::default();
    for cpu in family::grown(vec![root]).into_iter().filter_map(cpu_of) {
        sum.user_s += cpu.user_s;
        sum.system_s += cpu.system_s;
    }
    sum
}

fn cpu_of(pid: Pid) -> Option<Cpu> {
    let spent = clock_getcpuclockid(pid).and_then(clock_gettime).map(Duration::from).ok()?;
    let tick = 1.0 / sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
    let [user, system, waited_user, waited_system] =
        ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    // The clock does not tell the kernel's part; the ticks do, roughly.
    let share = if user + system > 0 { user as f64 / (user + system) as f64 } else { 0.5 };
    let spent = spent.as_secs_f64();
    Some(Cpu {
        user_s: spent * share + waited_user as f64 * tick,
        system_s: spent * (1.0 - share) + waited_system as f64 * tick,
    })
}

/// CPU time of the children that a process has waited for, and of those that these had, to the clock tick; in ns.
pub(crate) fn waited_ns(pid: u32) -> Option<u64> {
    let [_, _, user, system] = ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    Some((user + system) * (1_000_000_000 / per_second))
}

/// `utime stime cutime cstime` in the text of `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<[u64; 4]> {
    // The name in parentheses may hold anything; the numbers behind it are fields 3 and on.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut numbers = fields.split_whitespace().skip(11).map_while(|field| field.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_times_are_found_behind_any_name() {
        let stat = "7 (a) b 1 2) S 1 7 7 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 999";
        assert_eq!(ticks(stat), Some([11, 22, 33, 44]));
        assert_eq!(ticks("7 (a) S 1 7"), None);
    }

    #[test]
    fn a_rough_split_leaves_the_sum_exact() {
        let cpu = |user_s, system_s| Cpu { user_s, system_s };
        assert_eq!(cpu(3.0, 5.0).without(cpu(1.0, 2.0)), cpu(2.0, 3.0));
        assert_eq!(cpu(3.0, 5.0).without(cpu(4.0, 2.0)), cpu(0.0, 2.0));
        assert_eq!(cpu(3.0, 5.0).without(cpu(1.0, 6.0)), cpu(1.0, 0.0));
        assert_eq!(cpu(1.0, 1.0).without(cpu(2.0, 2.0)), cpu(0.0, 0.0));
    }

    #[test]
    fn work_of_a_process_and_of_its_children_is_seen() {
        // The shell waits; its child works for as long as the shell is there.
        let script = "(while kill -0 $$ 2>/dev/null; do :; done) & wait";
        let mut shell = std::process::Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(shell.id().cast_signed());
        assert!(family::children(Pid::this()).contains(&pid));
        let worked = |cpu: Cpu| cpu.user_s + cpu.system_s >= 0.02;
        // A minute at most; it takes 20 ms of CPU.
        let seen = (0..6000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            worked(cpu_of_tree(pid))
        });
        let own = cpu_of(pid).unwrap();
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert!(seen && !worked(own), "{own:?}");
        assert_eq!(cpu_of(pid), None);
    }
}
