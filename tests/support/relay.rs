//! The real binary, run under a fake auditd or by hand, and what it leaves behind.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::fake_auditd::{Auditd, FakeAuditd};
use super::{temp_dir, wait_until};

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_audit-relay"))
}

/// Runs the relay to its end with nothing on standard input.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// How to start a relay.
#[derive(Debug)]
pub(crate) struct Setup {
    arguments: Vec<String>,
    /// A program that starts it, and that program's own arguments; none: it is started as it is.
    wrapper: Vec<String>,
    dir: tempfile::TempDir,
}

/// A running relay. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    report: PathBuf,
    dir: tempfile::TempDir,
}

/// What a relay that has ended leaves behind.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: Option<i32>,
    pub(crate) report: Value,
    /// Standard error.
    pub(crate) said: String,
}

impl Relay {
    /// A relay with one destination.
    pub(crate) fn to(url: &str) -> Setup {
        Self::with(&["--to", url])
    }

    /// A relay with these arguments. It reads no configuration file unless they name one, and says what it
    /// has to say on standard error.
    pub(crate) fn with(arguments: &[&str]) -> Setup {
        let setup = Setup { arguments: Vec::new(), wrapper: Vec::new(), dir: temp_dir() };
        let no_file: &[&str] = if arguments.contains(&"--config") { &[] } else { &["--config", "none"] };
        // The default folder is one for the whole machine: what one test leaves, another would find.
        let alone: &[&str] = if arguments.contains(&"--handover") { &[] } else { &["--handover", "off"] };
        let unseen: &[&str] = if arguments.contains(&"--status") { &[] } else { &["--status", "off"] };
        let report = setup.dir.path().join("report.json");
        setup
            .options(no_file)
            .options(alone)
            .options(unseen)
            .options(&["--log", "stderr", "--report", report.to_str().unwrap()])
            .options(arguments)
    }

    /// Waits until it reads its input and its signals: those sent from now on are its own to judge.
    fn up(mut self) -> Self {
        wait_until("the relay is up", || self.watches_its_signals() || !self.is_running());
        self
    }

    /// True once the descriptor of its signals, the last thing that it sets up, is in its epoll. Only root may look:
    /// a confined relay shows its descriptors to nobody else. The filter is the last thing before it, and signals
    /// wait from then on.
    fn watches_its_signals(&self) -> bool {
        if fs::read_dir(format!("/proc/{}/fd", self.id())).is_err() {
            return self.status_field("Seccomp") == "2";
        }
        let folder =
            |name: &str| fs::read_dir(format!("/proc/{}/{name}", self.id())).into_iter().flatten().flatten();
        let is_signalfd = |entry: &fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|to| to == Path::new("anon_inode:[signalfd]"))
        };
        let Some(signals) = folder("fd").find(is_signalfd) else { return false };
        folder("fdinfo").any(|entry| {
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            let mut watched =
                info.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next());
            watched.any(|number| signals.file_name() == number)
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), signal).unwrap();
    }

    /// As [`Self::signal`], for a relay that may have ended. It is not reaped, so the number is still its own.
    pub(crate) fn signal_if_there(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.id().try_into().unwrap()), signal);
    }

    /// Waits for the end, whatever it is like.
    pub(crate) fn wait(mut self) {
        self.child.wait().unwrap();
    }

    /// Waits for the end of a relay that may leave no report; returns what it has said.
    pub(crate) fn end(mut self) -> String {
        self.child.wait().unwrap();
        self.said()
    }

    /// Sends a signal from a process that is not the relay's parent.
    pub(crate) fn signal_from_a_stranger(&self, signal: &str) {
        let script = format!("kill -{signal} {}", self.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Standard error so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    /// Asks for the accounting with SIGUSR1 and reads it.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        let file = &self.report;
        fs::write(file, "").unwrap();
        self.signal(Signal::SIGUSR1);
        let mut report = Value::Null;
        wait_until("the relay has written its report", || {
            report =
                fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
            !report.is_null()
        });
        report
    }

    /// Waits until the report's number at `pointer` has come up to `least`.
    #[track_caller]
    pub(crate) fn wait_for(&self, pointer: &str, least: u64) {
        wait_until(&format!("{pointer} is {least}"), || {
            self.report().pointer(pointer).unwrap().as_u64().unwrap() >= least
        });
    }

    /// One field of /proc/PID/status.
    pub(crate) fn status_field(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.split(':').next() == Some(name)).unwrap();
        line[name.len() + 1..].split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Processor time that it has taken, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // Behind the name: utime and stime are the 12th and 13th (proc_pid_stat(5)).
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Waits for the end and asserts what must hold at every end: the sum law, and nothing in flight.
    #[track_caller]
    pub(crate) fn exit(self) -> Exit {
        let exit = self.exit_after_reload();
        for destination in exit.report["destinations"].as_array().unwrap() {
            let number = |key: &str| destination[key].as_u64().unwrap();
            let lost: u64 =
                destination["lost"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            let sum = number("sent")
                + exit.number("/filtered")
                + lost
                + number("handed_over")
                + number("in_flight");
            assert_eq!(
                exit.number("/read") + number("inherited"),
                sum,
                "read + inherited = sent + filtered + lost + handed over + in flight: {exit:?}"
            );
        }
        exit
    }

    /// Waits for the end of a relay whose destinations have changed: none of them need have seen every record.
    #[track_caller]
    pub(crate) fn exit_after_reload(mut self) -> Exit {
        let mut status = None;
        wait_until("the relay has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let said = self.said();
        let report = fs::read_to_string(&self.report).unwrap_or_default();
        let report: Value =
            serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}\n{said}"));
        for destination in report["destinations"].as_array().unwrap() {
            assert_eq!(destination["in_flight"], 0, "nothing is in flight at the end: {report}");
        }
        Exit { status: status.unwrap().code(), report, said }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Setup {
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.arguments.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Started by `wrapper`, which must become the relay itself (exec) for its process id to be known.
    pub(crate) fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper.extend(wrapper.iter().map(|word| (*word).to_owned()));
        self
    }

    fn line(&self) -> Vec<String> {
        let binary = binary().to_str().unwrap().to_owned();
        self.wrapper.iter().cloned().chain([binary]).chain(self.arguments.iter().cloned()).collect()
    }

    fn said(&self) -> File {
        File::create(self.dir.path().join("stderr")).unwrap()
    }

    /// Starts it as auditd does.
    pub(crate) fn under(self, auditd: Auditd) -> (Relay, FakeAuditd) {
        let (relay, end) = self.quickly_under(auditd);
        (relay.up(), end)
    }

    /// As [`Self::under`], without waiting until it is up.
    pub(crate) fn quickly_under(self, auditd: Auditd) -> (Relay, FakeAuditd) {
        let line = self.line();
        let (child, end) = auditd.start(Path::new(&line[0]), &line[1..], self.said());
        (Relay { child, report: self.report(), dir: self.dir }, end)
    }

    /// Has the report written to `path` instead.
    pub(crate) fn report_to(mut self, path: &Path) -> Self {
        let at = self.arguments.iter().position(|word| word == "--report").unwrap();
        path.to_str().unwrap().clone_into(&mut self.arguments[at + 1]);
        self
    }

    fn report(&self) -> PathBuf {
        let at = self.arguments.iter().position(|word| word == "--report").unwrap();
        PathBuf::from(&self.arguments[at + 1])
    }

    /// Starts it as a person does in a pipeline; times are UTC. The pipe ends when the feed is dropped.
    pub(crate) fn by_hand(self) -> (Relay, Feed) {
        self.by_hand_into(Stdio::null())
    }

    /// Starts it with a file as standard input.
    pub(crate) fn by_hand_from(self, file: File) -> Relay {
        let child = self.command().stdin(file).stdout(Stdio::null()).spawn().unwrap();
        Relay { child, report: self.report(), dir: self.dir }
    }

    /// As `by_hand`, with standard output in the test's hands.
    pub(crate) fn by_hand_with_stdout(self) -> (Relay, Feed, ChildStdout) {
        let mut child = self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let feed = Feed { pipe: child.stdin.take().unwrap() };
        let stdout = child.stdout.take().unwrap();
        (Relay { child, report: self.report(), dir: self.dir }.up(), feed, stdout)
    }

    /// As `by_hand`, with `stdout` as standard output.
    pub(crate) fn by_hand_into(self, stdout: impl Into<Stdio>) -> (Relay, Feed) {
        let mut child = self.command().stdin(Stdio::piped()).stdout(stdout).spawn().unwrap();
        let feed = Feed { pipe: child.stdin.take().unwrap() };
        (Relay { child, report: self.report(), dir: self.dir }.up(), feed)
    }

    fn command(&self) -> Command {
        let line = self.line();
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env("TZ", "UTC0").stderr(self.said());
        command
    }

    /// A path in the relay's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The writing end of the relay's standard input.
#[derive(Debug)]
pub(crate) struct Feed {
    pipe: std::process::ChildStdin,
}

impl Feed {
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.pipe.write_all(bytes).expect("the relay takes the bytes");
    }

    /// Writes everything on a thread, for relays that hold the writer up; the input then stays open until the
    /// handle is joined and the feed in it dropped.
    pub(crate) fn write_on_a_thread(mut self, bytes: Vec<u8>) -> JoinHandle<Self> {
        thread::spawn(move || {
            // The relay may be killed meanwhile, by a test that has failed.
            let _ = self.pipe.write_all(&bytes);
            self
        })
    }

    pub(crate) fn close(self) {
        drop(self.pipe);
    }
}

impl Exit {
    /// The number at a JSON pointer; what was never counted is 0.
    #[track_caller]
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        self.report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }
}

/// `status --watch` on a terminal of its own, whose slave this is.
pub(crate) fn watch_on(terminal: &OwnedFd, socket: &Path) -> Child {
    let slave = || Stdio::from(terminal.try_clone().unwrap());
    Command::new("setsid")
        .args(["--ctty", "--wait"])
        .arg(binary())
        .args(["status", "--watch", "--socket", socket.to_str().unwrap()])
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap()
}
