//! What others leave in the way of being seen, and what strangers say: the relay goes on with its work, and whoever asks is
//! told what is the case.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::fake_auditd::Auditd;
use support::relay::{Relay, binary, run, watch_on};
use support::sink::{Framing, Sink};
use support::{PATIENCE, line, root_or_skip, temp_dir, wait_until};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn status(socket: &Path, options: &[&str]) -> Output {
    run(&[&["status", "--socket", socket.to_str().unwrap()], options].concat())
}

/// The same for the report, the folder of the metrics and the handover.
#[track_caller]
fn let_what_cannot_be_written_keep_no_relay(ours: &Path, open: &Path) {
    let missing = ours.join("missing/x.prom");
    for (option, path, why) in [
        ("--report", ours.join("folder"), "it is a folder"),
        ("--report", ours.join("link"), "symbolic link"),
        ("--report", open.join("report.json"), "others may write"),
        ("--report", missing.clone(), "cannot open"),
        ("--metrics-file", missing, "cannot open the folder"),
        ("--handover", ours.join("file"), "handover: "),
        ("--handover", open.to_owned(), "is open to others"),
        ("--handover", open.join("handover"), "others may write"),
    ] {
        let sink = Sink::tcp(Framing::Octet);
        let options =
            ["--config", "none", "--to", &sink.url, "--user", "nobody", option, path.to_str().unwrap()];
        let mut relay = Command::new(binary())
            .args(options)
            .args(["--log", "stderr"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        relay.stdin.take().unwrap().write_all(&line(0, 0)).unwrap();
        let done = relay.wait_with_output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{option} {path:?}: {said}");
        assert!(said.contains(why) && said.contains("going on without"), "{option} {path:?}: {said}");
        sink.wait_for(1);
        let checked = run(&[&["check"], &options[..]].concat());
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{said}");
        assert!(
            said.contains("warning: ") && said.contains("will go on without it"),
            "{option} {path:?}: {said}"
        );
        assert!(path.parent() != Some(open) || !path.exists(), "nothing is made by a check");
    }
}

#[test]
fn a_status_path_that_cannot_be_used_is_named_and_keeps_no_relay_from_its_work() {
    let dir = temp_dir();
    let ours = dir.path().join("ours");
    fs::create_dir(&ours).unwrap();
    // What the relay's account, whose folder this is, may leave there.
    fs::create_dir(ours.join("folder")).unwrap();
    fs::write(ours.join("file"), "").unwrap();
    std::os::unix::fs::symlink("/", ours.join("link")).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(&ours, Some(65534), Some(65534)).unwrap();
    }
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let missing = dir.path().join("missing/socket");
    for (path, why) in [
        (ours.join("folder"), "is there and is no socket"),
        (ours.join("file"), "is there and is no socket"),
        (ours.join("link"), "is there and is no socket"),
        (missing, "cannot open the folder of"),
        (open.join("socket"), "others may write"),
    ] {
        let path = path.to_str().unwrap();
        let sink = Sink::tcp(Framing::Octet);
        let (relay, mut feed) =
            Relay::with(&["--to", &sink.url, "--user", "nobody", "--status", path]).by_hand();
        feed.write(&line(0, 0));
        feed.close();
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 1), "{path}: {}", exit.said);
        assert!(exit.said.contains(why) && exit.said.contains("going on without"), "{path}: {}", exit.said);
        let arguments =
            ["check", "--config", "none", "--to", &sink.url, "--user", "nobody", "--status", path];
        let checked = run(&arguments);
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{said}");
        assert!(said.contains("warning: status: ") && said.contains(why), "{path}: {said}");
    }
    let_what_cannot_be_written_keep_no_relay(&ours, &open);
    let good = ours.join("socket");
    let checked = run(&[
        "check",
        "--config",
        "none",
        "--to",
        "tcp://h",
        "--user",
        "nobody",
        "--status",
        good.to_str().unwrap(),
    ]);
    assert!(checked.status.success() && !text(&checked.stderr).contains("status: "), "{checked:?}");
}

/// The socket is the group's, and the folder lets nobody to it.
#[test]
fn a_folder_that_the_group_may_not_enter_is_warned_of() {
    let dir = temp_dir();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let group = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap().unwrap().name;
    let sink = Sink::tcp(Framing::Octet);
    let socket = folder.join("s.sock");
    let arguments = ["--to", &sink.url, "--status", socket.to_str().unwrap(), "--status-group", &group];
    for (mode, shut) in [(0o700, true), (0o705, true), (0o710, false)] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        let checked = run(&[&["check", "--config", "none"], &arguments[..]].concat());
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        let (relay, feed) = Relay::with(&arguments).by_hand();
        feed.close();
        for said in [text(&checked.stderr), &relay.exit().said] {
            let warned = said.contains("status-group: the group may not enter ");
            assert_eq!(warned, shut, "{mode:o}: {said}");
        }
    }
}

/// The relay's own folder is nobody else's, whatever its mode is at the moment; with the handover elsewhere it is any folder.
#[test]
fn a_group_that_is_to_ask_in_the_folder_of_the_handover_is_warned() {
    let dir = temp_dir();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    for folder in [&own, &other] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let group = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap().unwrap().name;
    for (handover, warned) in
        [(own.to_str().unwrap(), true), (other.to_str().unwrap(), false), ("off", false)]
    {
        let socket = own.join("s.sock");
        let check = [
            "check",
            "--config",
            "none",
            "--to",
            "tcp://h",
            "--handover",
            handover,
            "--status-group",
            &group,
        ];
        let checked = run(&[&check[..], &["--status", socket.to_str().unwrap()]].concat());
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("own is the relay's alone (`handover`)"), warned, "{handover}: {said}");
    }
}

#[test]
fn a_path_that_no_socket_can_have_is_an_error_of_the_configuration() {
    let path = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    let check = |path: &str| run(&["check", "--config", "none", "--to", "tcp://h", "--status", path]);
    for wrong in [path(108), path(4000)] {
        let checked = check(&wrong);
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78));
        assert!(said.contains("at most 107 bytes") && said.contains(&wrong.len().to_string()), "{said}");
    }
    assert_eq!(check(&path(107)).status.code(), Some(0));
    let to = format!("unix:{}", path(108));
    let checked = run(&["check", "--config", "none", "--to", &to]);
    assert_eq!(checked.status.code(), Some(78));
    assert!(text(&checked.stderr).contains("at most 107 bytes (it has 108)"), "{checked:?}");
}

#[test]
fn clients_of_the_port_that_say_nothing_keep_no_scraper_out() {
    let sink = Sink::tcp(Framing::Octet);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (relay, feed) =
        Relay::with(&["--to", &sink.url, "--metrics", &format!("127.0.0.1:{port}")]).by_hand();
    // As many as the relay takes and the kernel lets wait; half of them have begun a question.
    let silent: Vec<TcpStream> = (0..20)
        .map(|number| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let begun: &[u8] = if number % 2 == 0 { b"" } else { b"GET /metrics HTTP/1.1\r\nA: " };
            client.write_all(begun).unwrap();
            client
        })
        .collect();
    for _ in 0..5 {
        let start = Instant::now();
        let mut scraper = TcpStream::connect(("127.0.0.1", port)).unwrap();
        scraper.set_read_timeout(Some(PATIENCE)).unwrap();
        scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut page = String::new();
        scraper.read_to_string(&mut page).unwrap();
        assert!(page.contains("\naudit_relay_records_read_total 0\n"), "{page}");
        // 5 s is what a silent one has.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    drop(silent);
    feed.close();
    relay.exit();
}

#[test]
fn what_stands_where_the_metrics_file_is_written_aside_is_gone_round() {
    let dir = temp_dir();
    let folder = dir.path().join("metrics");
    fs::create_dir_all(folder.join(".relay.prom.new/full")).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(&folder, Some(65534), Some(65534)).unwrap();
    }
    let file = folder.join("relay.prom");
    let sink = Sink::tcp(Framing::Octet);
    let options = ["--metrics-file", file.to_str().unwrap(), "--metrics-interval", "1s", "--user", "nobody"];
    let (relay, mut feed) = Relay::with(&[&["--to", &sink.url], &options[..]].concat()).by_hand();
    feed.write(&line(0, 0));
    wait_until("the file has the record", || {
        fs::read_to_string(&file).is_ok_and(|page| page.contains("\naudit_relay_records_read_total 1\n"))
    });
    feed.close();
    assert!(!relay.exit().said.contains("cannot be written"));
    // The folder is as it was, and nothing is left beside it.
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}

/// Answers each question with the same words.
fn forge(path: &Path, answer: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            assert!(client.read(&mut [0; 64]).unwrap() > 0);
            let _ = client.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn a_state_that_only_a_newer_relay_has_is_shown_as_it_is() {
    let dir = temp_dir();
    let newer = dir.path().join("newer.sock");
    forge(
        &newer,
        r#"{"version":"9.9","destinations":[{"url":"tcp://a","active":true,"connected":["tcp://a"],"new":1,
            "receivers":[{"url":"tcp://a","state":"resuming","since":0}]}]}"#,
    );
    let shown = status(&newer, &[]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(text(&shown.stdout).contains("  resuming for "), "{shown:?}");
    let forged = dir.path().join("forged.sock");
    forge(&forged, r#"{"destinations":[{"active":true,"receivers":[{"state":"\u001b]0;owned\u0007"}]}]}"#);
    let shown = status(&forged, &[]);
    let said = text(&shown.stdout);
    assert!(said.contains("owned") && !said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
}

/// `status --watch` where standard output is a pipe.
struct Watch {
    child: Child,
    out: ChildStdout,
    said: String,
}

impl Watch {
    fn start(socket: &Path) -> Self {
        let mut child = Command::new(binary())
            .args(["status", "--watch", "1", "--socket", socket.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        Self { child, out, said: String::new() }
    }

    /// Reads on until a line has `part`.
    #[track_caller]
    fn until(&mut self, part: &str) {
        let mut block = [0; 4096];
        while !self.said.contains(part) {
            let count = self.out.read(&mut block).unwrap();
            assert!(count > 0, "no {part} in {}", self.said);
            self.said += text(&block[..count]);
        }
        self.said.clear();
    }

    fn interrupt(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn watching_says_since_when_there_is_no_relay_and_waits_for_the_next() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let socket = dir.path().join("status.sock");
    let start = || Relay::with(&["--to", &sink.url, "--status", socket.to_str().unwrap()]).by_hand();
    let (relay, feed) = start();
    let mut watch = Watch::start(&socket);
    watch.until("connected, sent");
    relay.signal(Signal::SIGKILL);
    relay.wait();
    drop(feed);
    watch.until("no relay since 20");
    watch.until("Z: no relay runs: ");
    let (next, feed) = start();
    watch.until("connected, sent");
    assert_eq!(watch.interrupt(), Some(0));
    // Who ends it while there is none is told so by the exit status.
    let mut watch = Watch::start(&socket);
    watch.until("connected, sent");
    next.signal(Signal::SIGKILL);
    next.wait();
    drop(feed);
    watch.until("no relay since 20");
    assert_eq!(watch.interrupt(), Some(69));
}

#[test]
fn watching_in_a_terminal_shows_that_the_numbers_are_old() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let socket = dir.path().join("status.sock");
    let (relay, feed) = Relay::with(&["--to", &sink.url, "--status", socket.to_str().unwrap()]).by_hand();
    let window = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&window), None).unwrap();
    let mut watch = watch_on(&terminal.slave, &socket);
    let mut master = File::from(terminal.master.try_clone().unwrap());
    let mut shown = String::new();
    let mut block = [0; 65536];
    let mut until = |part: &str| {
        while !shown.contains(part) {
            let count = master.read(&mut block).unwrap();
            shown += text(&block[..count]);
        }
        std::mem::take(&mut shown)
    };
    until("q: end");
    relay.signal(Signal::SIGKILL);
    relay.wait();
    drop(feed);
    let frame = until("the numbers are old. q: end");
    let (_, frame) = frame.rsplit_once("\u{1b}[H").unwrap();
    assert!(frame.starts_with("! no relay since 20"), "{frame:?}");
    assert!(frame.contains("read  "), "the last numbers stay: {frame:?}");
    let plain = frame.replace("\u{1b}[K", "").replace("\u{1b}[J", "").replace('\r', "");
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain:?}");
    File::from(terminal.master.try_clone().unwrap()).write_all(b"q").unwrap();
    let after = until("tcp://");
    drop(terminal.slave);
    assert!(after.contains("! no relay since 20"), "{after:?}");
    assert_eq!(watch.wait().unwrap().code(), Some(69));
}

#[test]
fn what_is_wrong_with_the_configuration_is_a_syslog_message_for_each_line() {
    if !root_or_skip() {
        return;
    }
    let dir = temp_dir();
    let log = dir.path().join("log");
    let syslogd = UnixDatagram::bind(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    syslogd.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = dir.path().join("relay.toml");
    fs::write(&config, "to = [\"tcp://h\"]\nno-such-key = 1\n").unwrap();
    // A /dev of its own with this socket in it.
    let script = format!(
        "mount -t tmpfs -o mode=755 tmpfs /dev && mknod -m 666 /dev/null c 1 3 && ln -s {} /dev/log && exec \"$@\"",
        log.display()
    );
    let wrapper = ["unshare", "-m", "sh", "-c", &script, "sh"];
    let (relay, auditd) = Relay::with(&["--config", config.to_str().unwrap()])
        .through(&wrapper)
        .quickly_under(Auditd::FirstStart);
    let said = relay.end();
    drop(auditd);
    let mut messages = Vec::new();
    let mut block = [0; 8192];
    while !messages.iter().any(|message: &String| message.contains("try: audit-relay check")) {
        let count = syslogd.recv(&mut block).unwrap();
        messages.push(text(&block[..count]).to_owned());
    }
    assert!(
        messages.iter().all(|message| !message.contains('\n') && message.contains("audit-relay[")),
        "{messages:?}"
    );
    assert!(
        messages.len() > 1 && messages[0].contains("no-such-key") || said.contains("no-such-key"),
        "{messages:?}"
    );
    assert!(said.lines().all(|line| line.starts_with("audit-relay: ")), "{said}");
}
