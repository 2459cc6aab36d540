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

/// What the process `root` and its descendants have used so far. What is gone or may not be looked at counts nothing.
pub(crate) fn cpu_of_tree(root: Pid) -> Cpu {
    let mut sum = Cpu::default();
    let mut pids = vec![root];
    while let Some(pid) = pids.pop() {
        if let Some(cpu) = cpu_of(pid) {
            sum.user_s += cpu.user_s;
            sum.system_s += cpu.system_s;
        }
        pids.extend(children(pid));
    }
    sum
}

fn children(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .map(Pid::from_raw)
        .collect()
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
    fn work_of_this_process_and_its_children_is_seen() {
        let own = Pid::this();
        let before = cpu_of_tree(own);
        let mut child =
            std::process::Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(children(own).contains(&pid));
        // Until the child has used 20 ms, however long that takes.
        while cpu_of(pid).is_none_or(|cpu| cpu.user_s + cpu.system_s < 0.02) {
            std::thread::yield_now();
        }
        let after = cpu_of_tree(own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(after.user_s + after.system_s >= before.user_s + before.system_s + 0.02);
        assert_eq!(cpu_of(pid), None);
    }
}
