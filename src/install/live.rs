//! The auditd that runs: finding it, telling it to read its configuration again, and seeing what the relay below it does.
//!
//! Promise: [`Daemon::find`] names the auditd that the kernel gives its records to, whatever any file says; [`watch`]
//! returns when a record that was made for the purpose has gone through the relay, or says how far it came. Law: sends
//! signals to auditd and to a relay that is its child, and to nobody else; changes no file.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::printable::printable;
use crate::site::{self, Version, kernel};
use crate::status::Sources;
use crate::telemetry::{DestinationReport, Report};

/// How long the kernel, and the relay, may take for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How often something is looked at while it is waited for.
const STEP: Duration = Duration::from_millis(50);

/// When auditd is told once more. auditd 3 asks the kernel who has sent the signal before it acts on it, and under load the answer
/// can get lost; a second signal does no harm.
const AGAIN: Duration = Duration::from_secs(4);

/// How often a record is made where a reload waits for one.
const NUDGE: Duration = Duration::from_millis(500);

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
    /// The auditd to which the kernel gives its records, if it reads the files that we see. `None`: there is none, or it is that
    /// of the machine on which this root is a guest (a chroot, an image that is built), whose relay is none of ours.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn find() -> io::Result<Option<Self>> {
        let pid = kernel::status(ANSWER)?.pid;
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if pid == 0 || comm.trim() != "auditd" {
            return Ok(None);
        }
        let folder = site::conf_folder(pid).unwrap_or_else(|| "/etc/audit".into());
        let found = Self { pid, folder, version: site::running_version(pid) };
        Ok(Some(found).filter(Self::reads_our_files))
    }

    /// True also where nobody can tell.
    fn reads_our_files(&self) -> bool {
        let facts = |path: &Path| fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
        let inside = self.folder.strip_prefix("/").unwrap_or(&self.folder);
        let its = facts(&Path::new(&format!("/proc/{}/root", self.pid)).join(inside));
        match (its, facts(&self.folder)) {
            (Ok(its), Ok(ours)) => its == ours,
            (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => true,
            (its, ours) => its.is_err() && ours.is_err(),
        }
    }

    /// Makes it read its configuration again. A signal, not its service manager: units refuse to be reloaded by hand in
    /// some distributions, and containers have no manager.
    ///
    /// # Errors
    /// It has gone.
    pub fn reload(&self) -> io::Result<()> {
        kill(as_pid(self.pid), Signal::SIGHUP).map_err(io::Error::from)
    }

    /// The processes below it that run this very file: not one that was in its place before.
    pub fn relays(&self, program: &Path) -> Vec<u32> {
        let Ok(wanted) = fs::metadata(program) else { return Vec::new() };
        self.below(|pid| {
            fs::metadata(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| (exe.dev(), exe.ino()) == (wanted.dev(), wanted.ino()))
        })
    }

    /// The processes below it whose program has one of these names, wherever it lies and whatever has become of the file
    /// since: an upgrade puts another in its place.
    pub fn relays_called(&self, names: &[String]) -> Vec<u32> {
        self.below(|pid| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_called(&exe, &words, names)
        })
    }

    /// What it, its audispd or its filter has started, and that is wanted.
    fn below(&self, is_wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let is_below = |pid: u32| {
            let parent = site::parent(pid);
            parent == Some(self.pid) || parent.and_then(site::parent) == Some(self.pid)
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| is_below(*pid) && is_wanted(*pid))
            .collect()
    }

    /// Waits until it has ended every relay of these names, and says whether it has.
    pub fn lets_go(&self, names: &[String], limit: Duration) -> bool {
        let mut told = Told::now();
        wait(limit, || {
            self.repeat(&mut told);
            self.relays_called(names).is_empty().then_some(())
        })
        .is_some()
    }

    /// Makes it read its configuration once more, if it was `told` some time ago, and has a record made if it waits for one.
    fn repeat(&self, told: &mut Told) {
        if told.signal.elapsed() >= AGAIN {
            let _ = self.reload();
            told.signal = Instant::now();
        }
        if self.version.is_some_and(Version::reloads_with_next_record) && told.record.elapsed() >= NUDGE {
            let _ = kernel::say("op=audit-relay-reload res=success and sixteen bytes to lose");
            told.record = Instant::now();
        }
    }
}

/// When auditd was last told, by a signal and by a record.
#[derive(Debug)]
struct Told {
    signal: Instant,
    record: Instant,
}

impl Told {
    fn now() -> Self {
        Self { signal: Instant::now(), record: Instant::now() }
    }
}

/// Whether a process runs a program of one of these names: by its file, whose name the kernel marks where it is gone, or by the
/// word that it was started with, which is the path in the plugin's configuration, a link perhaps. A process that has ended and
/// waits for its parent has neither.
fn is_called(exe: &Path, words: &[u8], names: &[String]) -> bool {
    let first = words.split(|byte| *byte == 0).next().unwrap_or_default();
    [exe.as_os_str().as_bytes(), first].into_iter().any(|path| {
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let name = Path::new(OsStr::from_bytes(path)).file_name();
        names.iter().any(|wanted| name == Some(wanted.as_ref()))
    })
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
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
    /// The relay runs and reads. To these nothing has been sent in time: their URLs, each with its last error.
    Unsent(Vec<String>),
    /// The relay runs. What it reads cannot be seen without a socket or a report.
    Running,
    /// auditd goes on with a relay that it had started with other words.
    OtherWords,
}

/// What to watch.
#[derive(Debug)]
pub struct Watch<'a> {
    /// The relay's program.
    pub program: &'a Path,
    /// Where the relay's numbers are.
    pub sources: &'a Sources,
    /// The words behind the program's name that it is to be started with, where they are known.
    pub words: Option<&'a [String]>,
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
    // Before 4.2 a reload changes nothing about a plugin that runs but by its program (seen on 3.0.9).
    if what.words.is_some_and(|words| has_other_words(relay, words)) {
        return Ok(Seen::OtherWords);
    }
    if what.sources.is_empty() {
        return Ok(Seen::Running);
    }
    let mut first = progress(relay, what.sources).map_or(0, |report| report.read);
    kernel::say(&format!(
        "op=audit-relay-install pid={} res=success and sixteen bytes to lose",
        std::process::id()
    ))
    .map_err(|error| format!("the kernel takes no message by a user ({error})"))?;
    let mut last = None;
    let sent = wait(left(), || {
        // auditd 4.2.1 reloads a second time when the first record comes, if it had no plugin before.
        if let Some(other) = running(daemon, what).filter(|other| *other != relay) {
            (relay, first, last) = (other, 0, None);
        }
        last = progress(relay, what.sources).or(last.take());
        let report = last.as_ref()?;
        let all = !report.destinations.is_empty() && report.destinations.iter().all(|d| d.sent > 0);
        (report.read > first && all).then(|| report.destinations.iter().map(|d| printable(&d.url)).collect())
    });
    match (sent, last) {
        (Some(sent), _) => Ok(Seen::Sent(sent)),
        (None, _) if running(daemon, what) != Some(relay) => Err(ENDS.to_owned()),
        (None, Some(report)) if report.read > 0 => {
            Ok(Seen::Unsent(report.destinations.iter().filter(|d| d.sent == 0).map(unsent).collect()))
        }
        (None, Some(_)) => Err(not_read(daemon)),
        // A relay whose socket could not be made goes on without it, and says so in the system's log.
        (None, None) if what.sources.file().is_none() => Ok(Seen::Running),
        (None, None) => Err(format!("the relay (pid {relay}) says nothing by {}", what.sources)),
    }
}

/// Whether the process was started with other words behind its name. False where nobody can tell.
fn has_other_words(pid: u32, words: &[String]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut its = line.split(|byte| *byte == 0);
    // What the last NUL ends is no word.
    its.next_back().is_some() && its.next().is_some() && !its.eq(words.iter().map(String::as_bytes))
}

/// The relay that auditd has started since it was told.
fn running(daemon: &Daemon, what: &Watch<'_>) -> Option<u32> {
    daemon.relays(what.program).into_iter().find(|pid| !what.old.contains(pid))
}

const ENDS: &str = "the relay ends as soon as auditd starts it; run audit-relay check, and see the system's log for what it said";

/// Waits for a relay that is not one of a row that auditd starts and that end.
fn steady(daemon: &Daemon, what: &Watch<'_>, end: Instant) -> Result<u32, String> {
    let mut seen: Option<(u32, Instant)> = None;
    let (mut starts, mut told) = (0, Told::now());
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
                0 if daemon.version.is_some_and(Version::starves_later_plugins) => not_fed(daemon),
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

/// What an auditd does that a reload has left without any plugin: it starts none any more (seen on 3.0.9), or starts one and
/// gives it nothing (3.0.9, 4.0.5, 4.1.0, 4.1.4).
fn not_fed(daemon: &Daemon) -> String {
    format!(
        "auditd {} feeds no plugin any more once a reload has ended its last one, until it is restarted; if it had one \
         that was taken out (this relay, too), run: service auditd restart, and then this again; if not, the system's log \
         says more (facility daemon, auditd)",
        daemon.version.map(|version| version.to_string()).unwrap_or_default()
    )
}

fn not_read(daemon: &Daemon) -> String {
    if daemon.version.is_some_and(Version::starves_later_plugins) {
        return not_fed(daemon);
    }
    format!(
        "a record was made and the relay has not read it; is auditing on (auditctl -s: enabled 1), is a rule `never` or \
         `exclude` in the way (auditctl -l), or is auditd (pid {}) held up?",
        daemon.pid
    )
}

/// A destination to which nothing is sent, and what its receivers' last error was.
fn unsent(d: &DestinationReport) -> String {
    let url = printable(&d.url);
    match d.receivers.iter().find_map(|receiver| receiver.last_error.as_ref()) {
        Some(last) => format!("{url} ({})", printable(&last.error)),
        None => url,
    }
}

/// The relay's numbers: over its socket, else by the report that it writes when it is told to. `None`: neither is this relay's;
/// an older one may still have the socket, or have left the file.
fn progress(relay: u32, sources: &Sources) -> Option<Report> {
    let ours = |report: &Report| report.pid == relay;
    sources.ask(ANSWER).filter(ours).or_else(|| {
        let file = sources.file().filter(|_| handles(relay, Signal::SIGUSR1))?;
        let written = || fs::metadata(file).ok().map(|facts| (facts.mtime(), facts.mtime_nsec()));
        let before = written();
        kill(as_pid(relay), Signal::SIGUSR1).ok()?;
        wait(ANSWER, || (written() != before).then(|| sources.read().filter(ours)).flatten())
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_known_by_its_programs_name() {
        let names = ["audit-relay".to_owned(), "audit-relay-2".to_owned()];
        for (exe, words, is) in [
            ("/usr/sbin/audit-relay", "/usr/sbin/audit-relay\0--config\0x", true),
            ("/usr/sbin/audit-relay (deleted)", "", true),
            ("/srv/sid/opt/audit-relay-2", "", true),
            ("/opt/relay-0.2", "/usr/sbin/audit-relay\0", true),
            // Where nobody may look at the file.
            ("", "/usr/sbin/audit-relay\0", true),
            ("/usr/sbin/audisp-filter", "/usr/sbin/audisp-filter\0/usr/sbin/audit-relay\0", false),
            ("/usr/sbin/audit-relay/other", "", false),
            ("/usr/sbin/audit-relay-3", "", false),
            ("", "", false),
        ] {
            assert_eq!(is_called(Path::new(exe), words.as_bytes(), &names), is, "{exe} {words}");
        }
    }

    #[test]
    fn a_process_has_the_words_that_it_was_started_with() {
        let mut child = std::process::Command::new("/bin/sleep").args(["60", "0"]).spawn().unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let pid = child.id();
        // Until it has become the other program it has no words, or ours.
        let is_up = || has_other_words(pid, &words(&["x"])) && !has_other_words(pid, &words(&["60", "0"]));
        assert!(wait(ANSWER, || is_up().then_some(())).is_some());
        for other in [&["60"][..], &[], &["60", "1"], &["60", "0", ""]] {
            assert!(has_other_words(pid, &words(other)), "{other:?}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!has_other_words(pid, &words(&["60"])), "it has gone");
    }

    /// A process that sees another folder under the same name, as the auditd outside of a chroot does.
    #[test]
    fn an_auditd_that_reads_other_files_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = |pid, folder: &Path| Daemon { pid, folder: folder.into(), version: None };
        assert!(daemon(std::process::id(), dir.path()).reads_our_files());
        assert!(daemon(std::process::id(), Path::new("/no/such/folder")).reads_our_files(), "who knows");
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let script = "mount -t tmpfs tmpfs \"$0\" && exec sleep 60";
        let mut child = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(dir.path())
            .spawn()
            .unwrap();
        let other = daemon(child.id(), dir.path());
        assert!(wait(ANSWER, || (!other.reads_our_files()).then_some(())).is_some());
        let only_there = dir.path().join("only there");
        fs::create_dir(
            Path::new(&format!("/proc/{}/root", child.id())).join(only_there.strip_prefix("/").unwrap()),
        )
        .unwrap();
        assert!(!daemon(child.id(), &only_there).reads_our_files(), "we have none");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// This process in auditd's place, and a program that is replaced while it runs.
    #[test]
    fn a_relay_whose_program_was_replaced_still_runs() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("audit-relay-of-a-test");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let daemon = Daemon { pid: std::process::id(), folder: "/".into(), version: None };
        let names = ["audit-relay-of-a-test".to_owned()];
        assert!(wait(ANSWER, || (daemon.relays(&program) == [child.id()]).then_some(())).is_some());
        fs::copy("/bin/true", dir.path().join("new")).unwrap();
        fs::rename(dir.path().join("new"), &program).unwrap();
        let short = Duration::from_millis(200);
        assert_eq!((daemon.relays(&program), daemon.lets_go(&names, short)), (vec![], false));
        fs::remove_file(&program).unwrap();
        assert_eq!(daemon.relays_called(&names), [child.id()]);
        child.kill().unwrap();
        assert!(daemon.lets_go(&names, ANSWER), "one that has ended is none, taken back or not");
        child.wait().unwrap();
    }

    #[test]
    fn a_process_says_what_it_does_with_signals() {
        let own = std::process::id();
        // Rust's programs ignore this one, and the test harness does nothing with the other: but a thread that starts another
        // holds back all of them for a moment.
        assert!(handles(own, Signal::SIGPIPE));
        let leaves_alone = || !handles(own, Signal::SIGUSR2);
        assert!((0..200).any(|_| leaves_alone() || {
            thread::sleep(Duration::from_millis(5));
            false
        }));
    }
}
