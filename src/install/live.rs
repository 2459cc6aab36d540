//! The auditd that runs: finding it, telling it to read its configuration again, and seeing what the relay below it does.
//!
//! Promise: [`Daemon::find`] names the auditd that the kernel gives its records to, whatever any file says; [`watch`]
//! returns when a record that was made for the purpose has gone through the relay, or says how far it came. Law: sends
//! signals to auditd and to a relay that is its child, and to nobody else; changes no file.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

use crate::site::Version;

/// Message types of the kernel's audit interface: asking for its state, and a message by a user.
const GET: u16 = 1000;
const USER: u16 = 1005;

/// How often something is looked at while it is waited for.
const STEP: Duration = Duration::from_millis(50);

/// When auditd is told once more. auditd 3 asks the kernel who has sent the signal before it acts on it, and under load the answer
/// can get lost; a second signal does no harm.
const AGAIN: Duration = Duration::from_secs(4);

/// How long a relay must live to be taken for one that runs: ten starts that fail take auditd less.
const STEADY: Duration = Duration::from_secs(1);

/// A running auditd.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub pid: u32,
    /// The folder of its configuration.
    pub folder: PathBuf,
    /// Its version, from the program that runs.
    pub version: Option<Version>,
}

impl Daemon {
    /// The auditd to which the kernel gives its records. `None`: there is none.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn find() -> io::Result<Option<Self>> {
        let pid = registered()?;
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if pid == 0 || comm.trim() != "auditd" {
            return Ok(None);
        }
        let line = fs::read(format!("/proc/{pid}/cmdline"))?;
        let version = fs::read(format!("/proc/{pid}/exe")).ok().and_then(|bytes| Version::in_program(&bytes));
        Ok(Some(Self { pid, folder: folder_in(&line), version }))
    }

    /// Makes it read its configuration again. A signal, not its service manager: units refuse to be reloaded by hand in
    /// some distributions, and containers have no manager.
    ///
    /// # Errors
    /// It has gone.
    pub fn reload(&self) -> io::Result<()> {
        kill(as_pid(self.pid), Signal::SIGHUP).map_err(io::Error::from)
    }

    /// The running relays that it, or its audispd, has started.
    pub fn relays(&self, program: &Path) -> Vec<u32> {
        let Ok(wanted) = fs::metadata(program) else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let is_relay = |pid: &u32| {
            fs::metadata(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| (exe.dev(), exe.ino()) == (wanted.dev(), wanted.ino()))
                && (parent(*pid) == Some(self.pid) || parent(*pid).and_then(parent) == Some(self.pid))
        };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_relay).collect()
    }

    /// Waits until it has ended every relay, and says whether it has.
    pub fn lets_go(&self, program: &Path, limit: Duration) -> bool {
        let mut told = Instant::now();
        wait(limit, || {
            self.repeat(&mut told);
            self.relays(program).is_empty().then_some(())
        })
        .is_some()
    }

    /// Makes it read its configuration once more, if it was `told` some time ago.
    fn repeat(&self, told: &mut Instant) {
        if told.elapsed() >= AGAIN {
            let _ = self.reload();
            *told = Instant::now();
        }
    }
}

/// The folder in auditd's command line (`-c FOLDER`), or the usual one.
fn folder_in(line: &[u8]) -> PathBuf {
    let mut words = line.split(|byte| *byte == 0);
    let named = words.find(|word| *word == b"-c").and_then(|_| words.next()).filter(|word| !word.is_empty());
    named.map_or_else(
        || "/etc/audit".into(),
        |word| Path::new(std::ffi::OsStr::from_bytes(word)).to_path_buf(),
    )
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn wait<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = done() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(STEP);
    }
}

/// What has been seen of a record's way.
#[derive(Debug)]
pub enum Seen {
    /// It was read, and each destination has sent something: their URLs.
    Sent(Vec<String>),
    /// The relay runs. What it reads cannot be seen without a report.
    Running,
}

/// What to watch.
#[derive(Debug)]
pub struct Watch<'a> {
    /// The relay's program.
    pub program: &'a Path,
    /// The relay's report, if it writes one.
    pub report: Option<&'a Path>,
    /// Relays that ran before auditd was told, and that it ends.
    pub old: &'a [u32],
    /// In all.
    pub limit: Duration,
}

/// Watches until a record that is made for the purpose has gone through the relay.
///
/// # Errors
/// A sentence: how far it came.
pub fn watch(daemon: &Daemon, what: &Watch<'_>) -> Result<Seen, String> {
    let end = Instant::now() + what.limit;
    let left = || end.saturating_duration_since(Instant::now());
    let mut relay = steady(daemon, what, end)?;
    let Some(report) = what.report else { return Ok(Seen::Running) };
    let mut first = progress(relay, report).map_or(0, |(read, _)| read);
    say(&format!("op=audit-relay-install pid={} res=success and sixteen bytes to lose", std::process::id()))
        .map_err(|error| format!("the kernel takes no message by a user ({error})"))?;
    let mut last = None;
    let sent = wait(left(), || {
        // auditd 4.2.1 reloads a second time when the first record comes, if it had no plugin before.
        if let Some(other) = running(daemon, what).filter(|other| *other != relay) {
            (relay, first, last) = (other, 0, None);
        }
        last = progress(relay, report).or(last.take());
        let (read, destinations) = last.as_ref()?;
        let all = !destinations.is_empty() && destinations.iter().all(|(_, sent)| *sent > 0);
        (*read > first && all).then(|| names(destinations, true))
    });
    match (sent, last) {
        (Some(sent), _) => Ok(Seen::Sent(sent)),
        (None, _) if running(daemon, what) != Some(relay) => Err(ENDS.to_owned()),
        (None, Some((read, destinations))) if read > 0 => Err(format!(
            "the relay reads records, and nothing is sent to {}: is the receiver there, and does it take what is sent? \
             Its name, port and certificate: audit-relay check, and the system's log",
            names(&destinations, false).join(", ")
        )),
        (None, Some(_)) => Err(not_read(daemon)),
        (None, None) => {
            Err(format!("the relay (pid {relay}) does not write its report {}", report.display()))
        }
    }
}

/// The relay that auditd has started since it was told.
fn running(daemon: &Daemon, what: &Watch<'_>) -> Option<u32> {
    daemon.relays(what.program).into_iter().find(|pid| !what.old.contains(pid))
}

const ENDS: &str = "the relay ends as soon as auditd starts it; run audit-relay check, and see the system's log for what it said";

/// Waits for a relay that is not one of a row that auditd starts and that end.
fn steady(daemon: &Daemon, what: &Watch<'_>, end: Instant) -> Result<u32, String> {
    let mut seen: Option<(u32, Instant)> = None;
    let (mut starts, mut told) = (0, Instant::now());
    loop {
        if starts == 0 {
            daemon.repeat(&mut told);
        }
        match (running(daemon, what), seen) {
            (Some(relay), Some((same, since))) if relay == same => {
                if since.elapsed() >= STEADY {
                    return Ok(relay);
                }
            }
            (Some(relay), _) => {
                starts += 1;
                seen = Some((relay, Instant::now()));
            }
            (None, Some(_)) => seen = None,
            (None, None) => {}
        }
        if Instant::now() >= end || starts > 3 {
            return Err(match starts {
                0 => format!(
                    "auditd (pid {}) has not started the relay; the system's log says why (facility daemon, auditd)",
                    daemon.pid
                ),
                _ => ENDS.to_owned(),
            });
        }
        thread::sleep(STEP);
    }
}

fn not_read(daemon: &Daemon) -> String {
    if daemon.version.is_some_and(Version::starves_later_plugins) {
        return format!(
            "auditd {} feeds no plugin any more once a reload has ended its last one, until it is restarted; if it had one \
             that was taken out (this relay, too), run: service auditd restart, and then this again",
            daemon.version.map(|version| version.to_string()).unwrap_or_default()
        );
    }
    format!(
        "a record was made and the relay has not read it; is auditing on (auditctl -s: enabled 1), is a rule `never` or \
         `exclude` in the way (auditctl -l), or is auditd (pid {}) held up?",
        daemon.pid
    )
}

fn names(destinations: &[(String, u64)], which: bool) -> Vec<String> {
    destinations.iter().filter(|(_, sent)| (*sent > 0) == which).map(|(url, _)| url.clone()).collect()
}

/// Records read and what each destination has sent, from the report.
fn progress(relay: u32, report: &Path) -> Option<(u64, Vec<(String, u64)>)> {
    if !handles(relay, Signal::SIGUSR1) {
        return None;
    }
    let before = fs::metadata(report).ok().map(|facts| (facts.mtime(), facts.mtime_nsec()));
    kill(as_pid(relay), Signal::SIGUSR1).ok()?;
    let text = wait(Duration::from_secs(2), || {
        let facts = fs::metadata(report).ok()?;
        (Some((facts.mtime(), facts.mtime_nsec())) != before).then(|| fs::read(report).ok())?
    })?;
    understood(&text, relay)
}

/// The report of this relay, not one that another has left.
fn understood(text: &[u8], relay: u32) -> Option<(u64, Vec<(String, u64)>)> {
    let report: serde_json::Value = serde_json::from_slice(text).ok()?;
    if report["pid"].as_u64() != Some(u64::from(relay)) {
        return None;
    }
    let destination =
        |value: &serde_json::Value| Some((value["url"].as_str()?.to_owned(), value["sent"].as_u64()?));
    Some((
        report["read"].as_u64()?,
        report["destinations"].as_array()?.iter().filter_map(destination).collect(),
    ))
}

/// Whether the process does something else with the signal than die of it.
fn handles(pid: u32, signal: Signal) -> bool {
    let bit = 1_u64 << (signal as u64 - 1);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| {
        ["SigBlk:", "SigIgn:", "SigCgt:"]
            .iter()
            .filter_map(|name| u64::from_str_radix(line.strip_prefix(name)?.trim(), 16).ok())
            .any(|set| set & bit != 0)
    })
}

/// The process that has registered itself with the kernel for audit records; 0 if none has.
fn registered() -> io::Result<u32> {
    let kernel = open()?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::new(2, 0))?;
    ask(&kernel, GET, 1, &[])?;
    let mut answer = [0; 9000];
    // The acknowledgement may come before the answer, and other messages in between.
    for _ in 0..16 {
        let count = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        if let Some(pid) = pid_in(&answer[..count])? {
            return Ok(pid);
        }
    }
    Err(io::Error::other("the kernel does not answer"))
}

/// The pid in the kernel's answer, whose fields after the header are mask, enabled, failure, pid.
fn pid_in(message: &[u8]) -> io::Result<Option<u32>> {
    let word =
        |at: usize| message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = message.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        Some(GET) => Ok(word(16 + 12)),
        // NLMSG_ERROR: a negative errno, or 0 for "well".
        Some(2) => match word(16).map(u32::cast_signed) {
            Some(0) | None => Ok(None),
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
        },
        _ => Ok(None),
    }
}

/// Has the kernel make a record of a user's text, as `auditctl -m` does.
fn say(text: &str) -> io::Result<()> {
    let mut bytes = text.as_bytes().to_vec();
    // The kernel takes the last byte off what does not end with NUL.
    bytes.push(0);
    ask(&open()?, USER, 1, &bytes)
}

fn open() -> io::Result<std::os::fd::OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkAudit)?)
}

fn ask(kernel: &std::os::fd::OwnedFd, kind: u16, number: u32, text: &[u8]) -> io::Result<()> {
    let length = u32::try_from(16 + text.len()).map_err(io::Error::other)?;
    let request = 1_u16;
    let mut message = Vec::with_capacity(16 + text.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(request.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(text);
    sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auditds_command_line_names_its_folder() {
        for (line, folder) in [
            (&b"/sbin/auditd\0"[..], "/etc/audit"),
            (b"/sbin/auditd\0-n\0-c\0/srv/a b\0", "/srv/a b"),
            (b"/sbin/auditd\0-c\0", "/etc/audit"),
            (b"", "/etc/audit"),
        ] {
            assert_eq!(folder_in(line), Path::new(folder));
        }
    }

    #[test]
    fn the_kernels_answer_is_read() {
        let message = |kind: u16, words: &[u32]| {
            let mut bytes = vec![0; 16];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
            bytes
        };
        assert_eq!(pid_in(&message(GET, &[0, 1, 1, 4242, 0])).unwrap(), Some(4242));
        assert_eq!(pid_in(&message(GET, &[0, 1])).unwrap(), None);
        assert_eq!(pid_in(&message(2, &[0])).unwrap(), None);
        let refused = pid_in(&message(2, &[(-1_i32).cast_unsigned()])).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(1));
        assert_eq!(pid_in(&[]).unwrap(), None);
    }

    #[test]
    fn a_report_is_this_relays() {
        let text = br#"{"pid": 7, "read": 3, "destinations": [{"url": "tcp://x", "sent": 2}]}"#;
        assert_eq!(understood(text, 7), Some((3, vec![("tcp://x".to_owned(), 2)])));
        assert_eq!(understood(text, 8), None);
        assert_eq!(understood(b"{", 7), None);
    }

    #[test]
    fn a_process_says_what_it_does_with_signals() {
        assert_eq!(parent(std::process::id()), Some(nix::unistd::getppid().as_raw().cast_unsigned()));
        // The test harness does nothing with this one.
        assert!(!handles(std::process::id(), Signal::SIGUSR2));
    }
}
