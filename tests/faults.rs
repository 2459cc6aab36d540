//! The system refuses: calls of the real relay that fail, one kind at a time, by strace's fault injection and by
//! limits.
//!
//! Promise of the relay that is held here: whatever a call says that may say it, no record is lost without being
//! counted, nothing panics, nothing spins, and it goes on as soon as the fault has passed.
//!
//! Which calls: those that `strace -f -c` shows on each transport after the start. Not injected: EAGAIN for a socket
//! that is not full (nobody would ever say that there is room; full sockets are in tests/overload.rs), short reads
//! and writes (tests/every_offset.rs, narrow receivers in tests/reconnect.rs), and what only a broken kernel says: futex(2)
//! fails for those who wait, not for those who wake, and strace cannot tell the two apart; glibc ends the process then.
//! Memory that the system refuses (mmap) ends every Rust program that needs it, and this one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use live::Need;
use nix::sys::signal::Signal;
use support::fake_auditd::Auditd;
use support::pki::{Kind, Pki};
use support::relay::{Exit, Relay, Setup};
use support::relp_sink::{RelpSink, Reply};
use support::sink::{ClosedPort, Framing, Sink, accept};
use support::tls_sink::TlsSink;
use support::{line, serial, temp_dir, wait_until};

/// Records that go through each fault.
const RECORDS: usize = 60;

/// Calls of the failing kind that are more than any sane relay makes.
const MOST_CALLS: usize = 4000;

fn can_inject() -> bool {
    live::have(&[Need::Root, Need::Program("strace")])
}

// ---------------------------------------------------------------------------------------------------------
// strace around the relay

/// Watches the relay and makes its calls fail.
struct Strace {
    dir: tempfile::TempDir,
}

impl Strace {
    fn new() -> Self {
        Self { dir: temp_dir() }
    }

    /// `inject` as strace's `-e inject=`, for calls about `path` only if there is one.
    fn around(&self, setup: Setup, inject: &str, path: Option<&str>) -> Setup {
        let (log, call) = (self.log(), inject.split(':').next().unwrap());
        let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
        // -D: the relay is our child and strace a stranger, so that it knows auditd in us.
        let mut words = vec!["strace", "-D", "-f", "-o", &log, "-e", &trace, "-e", &inject];
        if let Some(path) = path {
            words.extend(["-P", path]);
        }
        setup.through(&words)
    }

    fn log(&self) -> String {
        self.dir.path().join("strace").to_str().unwrap().to_owned()
    }

    /// After the relay's end: the fault has happened, and not without end.
    #[track_caller]
    fn assert_hit(&self, what: &str) {
        let mut log = String::new();
        wait_until("strace has written its log", || {
            log = fs::read_to_string(self.log()).unwrap_or_default();
            log.lines().last().is_some_and(|line| line.contains("+++"))
        });
        assert!(log.contains("(INJECTED)"), "{what}: the relay made no such call:\n{log}");
        let calls = log.lines().count();
        assert!(calls < MOST_CALLS, "{what}: {calls} calls: it spins");
    }
}

// ---------------------------------------------------------------------------------------------------------
// Receivers that put up with torn and repeated messages

enum Receiver {
    Plain(Sink),
    Relp(RelpSink),
    Tls(TlsReceiver),
}

/// Takes whatever comes over whichever connection.
struct TlsReceiver {
    url: String,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsReceiver {
    fn start(sink: TlsSink) -> Self {
        let (connections, stop) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
        let (theirs, heard) = (Arc::clone(&connections), Arc::clone(&stop));
        let url = sink.url("tls");
        let thread = thread::spawn(move || {
            sink.listener().set_nonblocking(true).unwrap();
            while !heard.load(Ordering::Acquire) {
                let Ok((tcp, _)) = sink.listener().accept() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                tcp.set_nonblocking(false).unwrap();
                tcp.set_read_timeout(Some(support::PATIENCE)).unwrap();
                let Ok(mut connection) = sink.handshake(tcp) else { continue };
                theirs.lock().unwrap().push(Vec::new());
                let mut space = [0; 1 << 14];
                while let Ok(count @ 1..) = connection.read(&mut space) {
                    theirs.lock().unwrap().last_mut().unwrap().extend_from_slice(&space[..count]);
                }
            }
        });
        Self { url, connections, stop, thread: Some(thread) }
    }
}

impl Drop for TlsReceiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.thread.take().unwrap().join();
    }
}

impl Receiver {
    /// The receiver, and the options that it needs.
    fn new(transport: &str, dir: &Path) -> (Self, Vec<String>) {
        let none = Vec::new();
        match transport {
            "unix" => (Self::Plain(Sink::unix()), none),
            "unix-stream" => (Self::Plain(Sink::unix_stream(Framing::Lf)), none),
            "udp" => (Self::Plain(Sink::udp("127.0.0.1")), none),
            "tcp" => (Self::Plain(Sink::tcp(Framing::Octet)), none),
            "relp" => (Self::Relp(RelpSink::tcp(|_| Reply::Accept)), none),
            "tls" | "relps" => {
                let pki = Pki::new(dir);
                let sink = TlsSink::new(&pki.server("server", Kind::Good));
                let ca = vec!["--tls-ca".to_owned(), pki.ca_file().to_str().unwrap().to_owned()];
                match transport {
                    "tls" => (Self::Tls(TlsReceiver::start(sink)), ca),
                    _ => (Self::Relp(RelpSink::tls(sink, |_| Reply::Accept)), ca),
                }
            }
            other => panic!("{other} is no transport"),
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Plain(sink) => &sink.url,
            Self::Relp(sink) => &sink.url,
            Self::Tls(receiver) => &receiver.url,
        }
    }

    /// Serials of the records that have come.
    fn serials(&self) -> BTreeSet<usize> {
        let of = |bytes: &[u8], framing: Framing| -> Vec<usize> {
            let messages = framing.cut(bytes).0;
            messages
                .iter()
                .filter(|message| !message.is_notice())
                .map(|message| serial(&message.text))
                .collect()
        };
        match self {
            Self::Plain(sink) if sink.url.starts_with("tcp:") => {
                sink.raw().iter().flat_map(|bytes| of(bytes, Framing::Octet)).collect()
            }
            Self::Plain(sink) if sink.url.starts_with("unix-stream:") => {
                // The end of a connection that failed may be a piece of a message.
                sink.raw().iter().flat_map(|bytes| of(bytes, Framing::Lf)).collect()
            }
            Self::Plain(sink) => {
                let all = sink.so_far();
                all.iter()
                    .filter(|message| !message.is_notice())
                    .map(|message| serial(&message.text))
                    .collect()
            }
            Self::Relp(sink) => sink
                .so_far()
                .iter()
                .map(|received| serial(std::str::from_utf8(&received.data).unwrap()))
                .collect(),
            Self::Tls(receiver) => {
                let connections = receiver.connections.lock().unwrap();
                connections.iter().flat_map(|bytes| of(bytes, Framing::Octet)).collect()
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// One fault

/// What has to become of the records.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The fault passes, and all arrive.
    Arrive,
    /// It does not pass, and what cannot be delivered is counted as lost.
    Counted,
}

use Then::{Arrive, Counted};

/// Sends records one by one through a relay whose calls fail.
#[track_caller]
fn suffer(transport: &str, inject: &str, then: Then) {
    let (strace, dir) = (Strace::new(), temp_dir());
    let (receiver, options) = Receiver::new(transport, dir.path());
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let drain = if then == Arrive { "20s" } else { "300ms" };
    let setup =
        Relay::to(receiver.url()).options(&options).options(&["--drain-timeout", drain, "--gather", "0s"]);
    let (mut relay, mut auditd) = strace.around(setup, inject, None).under(Auditd::FirstStart);
    let what = format!("{transport}, {inject}");
    for number in 0..RECORDS {
        assert!(relay.is_running(), "{what}: {}", relay.said());
        auditd.write(&line(number, 0));
        thread::sleep(Duration::from_micros(500));
    }
    auditd.close();
    let exit = relay.exit();
    judge(&what, &exit, then);
    if then == Arrive {
        wait_until(&format!("all records have come ({what})"), || {
            receiver.serials() == (0..RECORDS).collect::<BTreeSet<_>>()
        });
    }
    strace.assert_hit(&what);
}

/// The account at the end: `Relay::exit` has checked the sum.
#[track_caller]
fn judge(what: &str, exit: &Exit, then: Then) {
    assert!(!exit.said.contains("panicked"), "{what}: {}", exit.said);
    assert_eq!(exit.number("/read"), RECORDS as u64, "{what}: {exit:?}");
    let (status, lost) = (exit.status, exit.number("/destinations/0/lost/drain_deadline"));
    match then {
        Arrive => assert_eq!((status, lost), (Some(0), 0), "{what}: {exit:?}"),
        Counted => assert!(status == Some(75) && lost > 0, "{what}: {exit:?}"),
    }
}

#[track_caller]
fn suffer_all(cases: &[(&str, &str, Then)]) {
    if can_inject() {
        cases.iter().for_each(|(transport, inject, then)| suffer(transport, inject, *then));
    }
}

#[test]
fn reading() {
    suffer_all(&[
        ("unix", "recvfrom:error=EINTR:when=1+2", Arrive),
        ("unix", "recvfrom:error=ENOMEM:when=2+3", Arrive),
        ("unix", "recvfrom:error=ENOBUFS:when=3+4", Arrive),
        ("unix", "epoll_wait:error=EINTR:when=2+2", Arrive),
    ]);
}

#[test]
fn local_datagrams() {
    suffer_all(&[
        ("unix", "sendmmsg:error=EINTR:when=2+9", Arrive),
        ("unix", "sendmmsg:error=ENOBUFS:when=1+2", Arrive),
        ("unix", "sendmmsg:error=ENOMEM:when=2+3", Arrive),
        ("unix", "sendmmsg:error=ECONNREFUSED:when=2..3", Arrive),
        ("unix", "sendmmsg:error=ENOBUFS:when=4+", Counted),
        ("unix", "sendmmsg:error=EPERM:when=4+", Counted),
        ("unix", "socket:error=EMFILE:when=1..4", Arrive),
        ("unix", "socket:error=ENOBUFS:when=1+", Counted),
        ("unix", "connect:error=EAGAIN:when=1..3", Arrive),
        ("unix", "epoll_ctl:error=ENOMEM:when=4..5", Arrive),
    ]);
}

#[test]
fn udp() {
    suffer_all(&[
        ("udp", "sendmmsg:error=EPERM:when=2..3", Arrive),
        ("udp", "sendmmsg:error=ENOBUFS:when=1+2", Arrive),
        ("udp", "sendmmsg:error=ENETUNREACH:when=2..3", Arrive),
        ("udp", "bind:error=ENOBUFS:when=1..2", Arrive),
        ("udp", "setsockopt:error=ENOBUFS:when=1..2", Arrive),
        ("udp", "socket:error=ENFILE:when=1..4", Arrive),
        ("udp", "sendmmsg:error=ENOMEM:when=5+", Counted),
    ]);
}

#[test]
fn streams() {
    suffer_all(&[
        ("unix-stream", "writev:error=ENOBUFS:when=3..4", Arrive),
        ("unix-stream", "connect:error=EAGAIN:when=1..3", Arrive),
        ("unix-stream", "recvfrom:error=ENOMEM:when=9+20", Arrive),
        ("tcp", "writev:error=ENOBUFS:when=3..4", Arrive),
        ("tcp", "writev:error=ENOMEM:when=1..2", Arrive),
        ("tcp", "writev:error=EINTR:when=5", Arrive),
        ("tcp", "writev:error=EPIPE:when=4+", Counted),
        ("tcp", "recvfrom:error=ENOMEM:when=9+20", Arrive),
        ("tcp", "getsockopt:error=ENOBUFS:when=4+2", Arrive),
        ("tcp", "setsockopt:error=ENOMEM:when=1..3", Arrive),
        ("tcp", "socket:error=EMFILE:when=1..4", Arrive),
        ("tcp", "connect:error=ENETUNREACH:when=1..4", Arrive),
        ("tcp", "shutdown:error=ENOTCONN:when=1+", Arrive),
    ]);
}

#[test]
fn tls() {
    suffer_all(&[
        ("tls", "writev:error=ENOBUFS:when=3..4", Arrive),
        ("tls", "recvfrom:error=EINTR:when=5+30", Arrive),
        ("tls", "getrandom:error=EINTR:when=5+2", Arrive),
        ("tls", "clone3:error=EAGAIN:when=1..3", Arrive),
        ("tls", "clone3:error=EAGAIN:when=1+", Counted),
        ("tls", "getsockopt:error=ENOBUFS:when=4+2", Arrive),
    ]);
}

#[test]
fn relp() {
    suffer_all(&[
        ("relp", "timerfd_create:error=EMFILE:when=1..2", Arrive),
        ("relp", "timerfd_create:error=ENOMEM:when=1+", Counted),
        ("relp", "writev:error=ENOBUFS:when=3..4", Arrive),
        ("relp", "recvfrom:error=ENOMEM:when=9+20", Arrive),
        ("relp", "epoll_ctl:error=ENOSPC:when=4..6", Arrive),
        ("relps", "writev:error=ENOBUFS:when=3..4", Arrive),
        ("relps", "clone3:error=ENOMEM:when=1..3", Arrive),
    ]);
}

/// A name has to be looked up, and there is no thread for it.
#[test]
fn names_without_threads() {
    if !can_inject() {
        return;
    }
    let (strace, sink) = (Strace::new(), Sink::tcp(Framing::Octet));
    let setup = Relay::to(&sink.url.replace("127.0.0.1", "localhost")).options(&["--drain-timeout", "20s"]);
    let (relay, mut auditd) =
        strace.around(setup, "clone3:error=EAGAIN:when=1..3", None).under(Auditd::FirstStart);
    (0..RECORDS).for_each(|number| auditd.write(&line(number, 0)));
    auditd.close();
    let exit = relay.exit();
    assert!(exit.said.contains("the system gives no thread"), "{}", exit.said);
    judge("localhost", &exit, Arrive);
    assert_eq!(sink.messages_after_exit().len(), RECORDS);
    strace.assert_hit("localhost");
}

// ---------------------------------------------------------------------------------------------------------
// Pipes and files

#[test]
fn pipes() {
    if !can_inject() {
        return;
    }
    for inject in ["poll:error=EINTR:when=2+2", "poll:error=ENOMEM:when=2+3", "read:error=EINTR:when=30+4"] {
        let (strace, sink) = (Strace::new(), Sink::tcp(Framing::Octet));
        let setup = Relay::to(&sink.url).options(&["--gather", "0s"]);
        let (relay, mut feed) = strace.around(setup, inject, None).by_hand();
        for number in 0..RECORDS {
            feed.write(&line(number, 0));
            thread::sleep(Duration::from_micros(500));
        }
        feed.close();
        judge(inject, &relay.exit(), Arrive);
        assert_eq!(sink.messages_after_exit().len(), RECORDS, "{inject}");
        strace.assert_hit(inject);
    }
}

#[test]
fn files() {
    if !can_inject() {
        return;
    }
    for inject in ["read:error=EINTR:when=1+2", "read:error=ENOMEM:when=1..2"] {
        let (strace, sink, dir) = (Strace::new(), Sink::tcp(Framing::Octet), temp_dir());
        let path = dir.path().join("records");
        let mut file = fs::File::create_new(&path).unwrap();
        (0..RECORDS).for_each(|number| file.write_all(&line(number, 0)).unwrap());
        drop(file);
        let mut file = fs::File::open(&path).unwrap();
        file.rewind().unwrap();
        let relay = strace.around(Relay::to(&sink.url), inject, path.to_str()).by_hand_from(file);
        judge(inject, &relay.exit(), Arrive);
        assert_eq!(sink.messages_after_exit().len(), RECORDS, "{inject}");
        strace.assert_hit(inject);
    }
}

/// Standard output refuses for a while.
#[test]
fn standard_output() {
    if !can_inject() {
        return;
    }
    let strace = Strace::new();
    let inject = "write:error=ENOSPC:when=1..3";
    let setup = Relay::with(&["--to", "stdout:", "--drain-timeout", "20s"]);
    let (relay, mut feed, mut stdout) =
        strace.around(setup, inject, Some("/dev/stdout")).by_hand_with_stdout();
    (0..RECORDS).for_each(|number| feed.write(&line(number, 0)));
    feed.close();
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes).unwrap();
    judge(inject, &relay.exit(), Arrive);
    let seen: Vec<_> = Framing::Lf.cut(&bytes).0.iter().map(|message| serial(&message.text)).collect();
    assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>());
}

// ---------------------------------------------------------------------------------------------------------
// Signals, reload, report

/// A signal that cannot be read at once is read later.
#[test]
fn signals() {
    if !can_inject() {
        return;
    }
    for inject in ["read:error=EINTR:when=1+2", "read:error=ENOMEM:when=1..3"] {
        let (strace, sink) = (Strace::new(), Sink::tcp(Framing::Octet));
        let setup = strace.around(Relay::to(&sink.url), inject, Some("anon_inode:[signalfd]"));
        let (relay, mut auditd) = setup.under(Auditd::FirstStart);
        (0..RECORDS).for_each(|number| auditd.write(&line(number, 0)));
        relay.wait_for("/read", RECORDS as u64);
        auditd.close();
        judge(inject, &relay.exit(), Arrive);
        strace.assert_hit(inject);
    }
}

/// A reload that gets no thread or no descriptor changes nothing; the next one does.
#[test]
fn reload() {
    if !can_inject() {
        return;
    }
    let sink = Sink::tcp(Framing::Octet);
    // The thread that looks this host's name up may come first.
    for (inject, descriptors, fails) in [
        ("clone3:error=EAGAIN:when=1..2", 64, true),
        ("read:error=EINTR:when=1+2", NONE_LEFT, true),
        ("read:error=EINTR:when=1+2", 64, false),
    ] {
        let (strace, dir) = (Strace::new(), temp_dir());
        let file = dir.path().join("config.toml");
        fs::write(&file, format!("[[destination]]\nurl = \"{}\"\n", sink.url)).unwrap();
        let path = if inject.starts_with("clone3") { None } else { file.to_str() };
        let setup = Relay::with(&["--config", file.to_str().unwrap()]);
        let (relay, auditd) = strace.around(setup, inject, path).under(Auditd::FirstStart);
        limit_descriptors(&relay, descriptors);
        relay.signal(Signal::SIGHUP);
        let taken_up = |relay: &Relay| relay.said().contains("reload: the configuration was read again");
        wait_until("the relay has heard", || relay.said().contains("going on") || taken_up(&relay));
        assert_eq!(taken_up(&relay), !fails, "{inject}: {}", relay.said());
        limit_descriptors(&relay, 64);
        let before = relay.said();
        wait_until(&format!("a later reload is taken up: {before}"), || {
            relay.signal(Signal::SIGHUP);
            thread::sleep(Duration::from_millis(20));
            taken_up(&relay)
        });
        auditd.close();
        let exit = relay.exit_after_reload();
        assert_eq!(exit.status, Some(0), "{inject}: {exit:?}");
        strace.assert_hit(inject);
    }
}

/// Fewer than the relay has open, and enough for poll(2), which takes no more than this.
const NONE_LEFT: u32 = 4;

/// How many descriptors the relay may have from now on (the soft limit). What it has, it keeps.
fn limit_descriptors(relay: &Relay, most: u32) {
    // Its own account may do that; root only with CAP_SYS_RESOURCE, which containers lack.
    let first = |field: &str| relay.status_field(field).split(' ').next().unwrap().to_owned();
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={}", first("Uid")), format!("--regid={}", first("Gid"))])
        .arg("--clear-groups");
    command.args(["prlimit".to_owned(), format!("--pid={}", relay.id()), format!("--nofile={most}:")]);
    assert!(command.status().unwrap().success());
}

/// While the receiver is away the relay has no descriptor left for a new connection; later it has.
#[test]
fn no_descriptors() {
    if !live::have(&[Need::Root, Need::Program("prlimit"), Need::Program("setpriv")]) {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let (relay, mut auditd) = Relay::to(&url).options(&["--drain-timeout", "20s"]).under(Auditd::FirstStart);
    let connection = accept(&listener);
    limit_descriptors(&relay, NONE_LEFT);
    support::sink::reset(connection);
    (0..RECORDS).for_each(|number| auditd.write(&line(number, 0)));
    wait_until("the relay has no descriptor", || relay.said().contains("Too many open files"));
    relay.wait_for("/read", RECORDS as u64);
    limit_descriptors(&relay, 64);
    let mut connection = accept(&listener);
    auditd.close();
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    judge("no descriptors", &relay.exit(), Arrive);
    let seen: Vec<_> = Framing::Octet.cut(&bytes).0.iter().map(|message| serial(&message.text)).collect();
    assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>());
}

// ---------------------------------------------------------------------------------------------------------
// The handover

/// A relay whose receiver is away, with a folder for what it leaves.
fn leaving(url: &str, folder: &Path, drain: &str) -> Setup {
    Relay::with(&["--to", url, "--handover", folder.to_str().unwrap(), "--drain-timeout", drain])
}

/// Feeds the relay the records `from..to` and lets it end.
fn feed(setup: Setup, from: usize, to: usize) -> Exit {
    let (relay, mut auditd) = setup.under(Auditd::FirstStart);
    (from..to).for_each(|number| auditd.write(&line(number, 0)));
    auditd.close();
    relay.exit()
}

#[test]
fn what_cannot_be_left_is_counted() {
    if !can_inject() {
        return;
    }
    let port = ClosedPort::new();
    let url = format!("tcp://{}", port.address());
    for (inject, file, left) in [
        ("flock:error=ENOLCK:when=1", None, true),
        ("flock:error=EINTR:when=1..3", None, true),
        ("write:error=EINTR:when=1+2", Some("records.new"), true),
        ("write:error=ENOSPC:when=1", Some("records.new"), false),
        ("renameat:error=ENOMEM:when=1", None, false),
        ("openat:error=EMFILE:when=1+", Some("records.new"), false),
    ] {
        let (strace, dir) = (Strace::new(), temp_dir());
        let folder = dir.path().join("handover");
        let file = file.map(|name| match inject.starts_with("openat") {
            // As the call names it, relative to the folder.
            true => name.to_owned(),
            false => folder.join(name).to_str().unwrap().to_owned(),
        });
        let exit = feed(strace.around(leaving(&url, &folder, "1s"), inject, file.as_deref()), 0, RECORDS);
        let (handed, lost) =
            (exit.number("/destinations/0/handed_over"), exit.number("/destinations/0/lost/drain_deadline"));
        let all = RECORDS as u64;
        assert_eq!((handed, lost), if left { (all, 0) } else { (0, all) }, "{inject}: {exit:?}");
        assert_eq!(folder.join("records").exists(), left, "{inject}");
        assert!(!folder.join("records.new").exists(), "{inject}: a piece is left behind");
        strace.assert_hit(inject);
    }
}

/// What the instance before has left cannot be read for a while, or not at all: it is never written over.
#[test]
fn what_was_left_is_taken_when_it_can_be_read() {
    if !can_inject() {
        return;
    }
    let port = ClosedPort::new();
    let url = format!("tcp://{}", port.address());
    let dir = temp_dir();
    let folder = dir.path().join("handover");
    feed(leaving(&url, &folder, "100ms"), 0, 50);

    let strace = Strace::new();
    let for_ever =
        strace.around(leaving(&url, &folder, "100ms"), "openat:error=EMFILE:when=1+", Some("records"));
    let exit = feed(for_ever, 50, 60);
    assert_eq!(exit.number("/destinations/0/lost/drain_deadline"), 10, "ours, counted: {exit:?}");
    assert!(exit.said.contains("cannot be opened") && exit.said.contains("cannot be read"), "{}", exit.said);
    strace.assert_hit("for ever");

    let strace = Strace::new();
    let full = folder.join("records");
    let setup = strace.around(leaving(&url, &folder, "100ms"), "read:error=ENOMEM:when=1..2", full.to_str());
    let exit = feed(setup, 60, 70);
    assert_eq!(exit.number("/destinations/0/inherited"), 50, "{exit:?}");
    assert_eq!(exit.number("/destinations/0/handed_over"), 60, "{exit:?}");
    strace.assert_hit("read");

    let strace = Strace::new();
    let for_a_while =
        strace.around(leaving(&url, &folder, "20s"), "openat:error=ENFILE:when=1..3", Some("records"));
    let (relay, auditd) = for_a_while.under(Auditd::FirstStart);
    let mut connection = accept(&port.listen());
    auditd.close();
    assert_eq!(relay.exit().number("/destinations/0/inherited"), 60);
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    let seen: Vec<_> = Framing::Octet.cut(&bytes).0.iter().map(|message| serial(&message.text)).collect();
    assert_eq!(seen, (0..50).chain(60..70).collect::<Vec<_>>());
    strace.assert_hit("for a while");
}
