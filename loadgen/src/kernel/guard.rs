//! Puts the audit system back as it was found, whatever becomes of the run.
//!
//! *Promise:* when the run ends - by itself, by a signal, by a panic, by SIGKILL - the run's auditd is ended, its rules
//! are gone, the kernel's switches are as before, the working directory is removed, and a line says so.
//! *Law:* done by a process of its own that waits for the end of its input, and by nothing else, so that the way that
//! must not fail is the way that is always taken.
//!
//! What is told apart by name is only the run's own: auditd by its configuration directory, rules by their key.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::netlink::{Audit, Change, Status};
use super::rules;

/// How long auditd may take to end before it is killed, and the kernel to notice that it is gone.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A user message that the kernel tries to hand to an auditd that was killed, whereupon it forgets it.
const USER_MESSAGE: u16 = 1121;

/// The guard of this run.
#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
}

/// What the guard has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// What to go back to.
    pub(super) found: Status,
    /// Rules with this key are the run's.
    pub(super) key: String,
    /// The run's working directory.
    pub(super) directory: PathBuf,
    /// The auditd is another's: nothing but the rule is the run's, so nothing else is put back.
    pub(super) attached: bool,
}

impl Guard {
    /// Starts the guard; to be called before anything is changed.
    ///
    /// # Errors
    /// If this executable cannot be started again.
    pub(super) fn start(task: &Task) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("kernel-guard")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a terminal sends to this run must not reach it.
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(stdin, "{}", task.to_json())?;
        // It answers once it stands ready, so nothing is changed before.
        let stdout = child.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        if ready != "ready\n" {
            return Err(io::Error::other("it ended before it was ready"));
        }
        Ok(Self { child })
    }

    /// Has everything put back, and returns what was done.
    ///
    /// # Errors
    /// If something could not be put back; the message says what.
    pub(super) fn finish(mut self) -> io::Result<String> {
        drop(self.child.stdin.take());
        let output = self.child.stdout.take().map(io::read_to_string).transpose()?.unwrap_or_default();
        let status = self.child.wait()?;
        let text = output.trim().to_owned();
        if status.success() { Ok(text) } else { Err(io::Error::other(text)) }
    }
}

impl Task {
    fn to_json(&self) -> Value {
        let found = &self.found;
        json!({
            "enabled": found.enabled,
            "failure": found.failure,
            "pid": found.pid,
            "rate_limit": found.rate_limit,
            "backlog_limit": found.backlog_limit,
            "backlog_wait_time": found.backlog_wait_time,
            "key": self.key,
            "directory": self.directory.to_string_lossy(),
            "attached": self.attached,
        })
    }

    fn from_json(text: &str) -> Option<Self> {
        let task: Value = serde_json::from_str(text).ok()?;
        let number = |name: &str| task[name].as_u64().and_then(|number| u32::try_from(number).ok());
        Some(Self {
            found: Status {
                enabled: number("enabled")?,
                failure: number("failure")?,
                pid: number("pid")?,
                rate_limit: number("rate_limit")?,
                backlog_limit: number("backlog_limit")?,
                backlog_wait_time: number("backlog_wait_time")?,
                ..Status::default()
            },
            key: task["key"].as_str()?.to_owned(),
            directory: task["directory"].as_str()?.into(),
            attached: task["attached"].as_bool()?,
        })
    }
}

/// The guard itself: waits for the end of its input, then puts everything back and says what it did: on stdout if
/// the run still listens, else on stderr.
///
/// # Errors
/// If something could not be put back.
pub(crate) fn stand() -> io::Result<()> {
    let mut deaf = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE] {
        deaf.add(signal);
    }
    deaf.thread_block()?;
    let mut input = io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let task =
        Task::from_json(&line).ok_or_else(|| io::Error::other("kernel-guard is started by `kernel`"))?;
    say("ready")?;
    let mut rest = String::new();
    // Whatever ends the input ends the run.
    while input.read_line(&mut rest).is_ok_and(|n| n > 0) {}

    let (done, complete) = restore(&task);
    if say(&done).is_err() {
        // Nobody is left to be told but whoever reads the terminal.
        let _ = writeln!(io::stderr(), "audit-loadgen: {done}");
    }
    if complete { Ok(()) } else { Err(io::Error::other("the audit system is not as it was found")) }
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Puts everything back. Returns what was done or failed, and whether all of it succeeded.
fn restore(task: &Task) -> (String, bool) {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    let mut audit = match Audit::open() {
        Ok(audit) => audit,
        Err(error) => return (format!("NOT RESTORED: no way to the kernel's audit system: {error}"), false),
    };
    match remove_rules(&mut audit, &task.key) {
        Ok(0) => {}
        Ok(count) => done.push(format!("{count} rule removed")),
        Err(error) => failed.push(format!("removing rules with key {}: {error}", task.key)),
    }
    for pid in auditds_of(&task.directory) {
        end(pid, &task.directory);
        done.push(format!("auditd {pid} ended"));
    }
    if task.attached {
        done.push("nothing else was changed".to_owned());
    } else {
        restore_status(&mut audit, &task.found, &mut done, &mut failed);
    }
    match fs::remove_dir_all(&task.directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            failed.push(format!("removing {}: {error}", task.directory.display()));
        }
        _ => {}
    }
    if failed.is_empty() {
        (format!("audit state restored: {}", done.join("; ")), true)
    } else {
        (format!("AUDIT STATE NOT RESTORED: {}; done: {}", failed.join("; "), done.join("; ")), false)
    }
}

/// Puts the kernel's switches back, and waits until it has forgotten the run's auditd.
fn restore_status(audit: &mut Audit, found: &Status, done: &mut Vec<String>, failed: &mut Vec<String>) {
    let change = Change {
        enabled: Some(found.enabled),
        failure: Some(found.failure),
        rate_limit: Some(found.rate_limit),
        backlog_limit: Some(found.backlog_limit),
        backlog_wait_time: Some(found.backlog_wait_time),
    };
    // A system that is locked until the next boot refuses also what would change nothing.
    let is_there = audit.status().is_ok_and(|now| same(&Status { pid: found.pid, ..now }, found));
    if !is_there && let Err(error) = audit.change(&change) {
        failed.push(format!("setting the audit status: {error}"));
    }
    match wait_for(audit, found) {
        Ok(_) => done.push(format!(
            "enabled {}, failure {}, rate {}, backlog limit {}, backlog wait time {}, auditd {}, as found",
            found.enabled,
            found.failure,
            found.rate_limit,
            found.backlog_limit,
            found.backlog_wait_time,
            if found.pid == 0 { "none".to_owned() } else { found.pid.to_string() },
        )),
        Err(error) => failed.push(error.to_string()),
    }
}

/// Removes the rules with this key and returns how many there were.
fn remove_rules(audit: &mut Audit, key: &str) -> io::Result<usize> {
    let mut removed = 0;
    for rule in audit.rules()? {
        if rules::has_key(&rule, key) {
            audit.delete_rule(&rule)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Waits until the kernel's status is the one that was found.
fn wait_for(audit: &mut Audit, found: &Status) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = audit.status()?;
        if same(&now, found) {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(io::Error::other(format!("found {found:?}, left {now:?}")));
        }
        if now.pid != found.pid && !Path::new(&format!("/proc/{}", now.pid)).exists() {
            // Refusals do not matter: it is the attempt to deliver that counts.
            let mut frame = Vec::new();
            let _ = audit.send_user_message(USER_MESSAGE, &mut frame, b"op=kernel-guard\0");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether everything that this program changes is the same.
fn same(now: &Status, found: &Status) -> bool {
    // Counters are not put back.
    Status { lost: found.lost, backlog: found.backlog, ..*now } == *found
}

/// Ends an auditd: SIGTERM, and SIGKILL if it takes too long.
fn end(pid: i32, directory: &Path) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It may be gone by now.
        let _ = kill(Pid::from_raw(pid), signal);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if !auditds_of(directory).contains(&pid) {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// The processes that have the directory's `etc` as an argument: this run's auditd, or what is about to become it.
fn auditds_of(directory: &Path) -> Vec<i32> {
    let Some(name) = directory.file_name() else { return Vec::new() };
    // In a chroot it has another path but the same name.
    let suffix = format!("/{}/etc", name.to_string_lossy());
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&byte| byte == 0).any(|argument| argument.ends_with(suffix.as_bytes()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_is_told_everything_it_has_to_put_back() {
        let task = Task {
            found: Status {
                enabled: 1,
                failure: 2,
                pid: 3,
                rate_limit: 4,
                backlog_limit: 5,
                lost: 0,
                backlog: 0,
                backlog_wait_time: 6,
            },
            key: "a \"key\"".into(),
            directory: "/var/tmp/audit-loadgen".into(),
            attached: true,
        };
        assert_eq!(Task::from_json(&task.to_json().to_string()), Some(task));
        assert_eq!(Task::from_json("{}"), None);
    }

    #[test]
    fn only_counters_may_differ() {
        let found = Status { enabled: 1, backlog_limit: 64, ..Status::default() };
        assert!(same(&Status { lost: 5, backlog: 6, ..found }, &found));
        for other in [
            Status { enabled: 0, ..found },
            Status { backlog_limit: 65, ..found },
            Status { pid: 1, ..found },
            Status { failure: 1, ..found },
            Status { rate_limit: 1, ..found },
            Status { backlog_wait_time: 1, ..found },
        ] {
            assert!(!same(&other, &found), "{other:?}");
        }
    }
}
