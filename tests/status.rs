//! What can be seen of a running relay: over its socket, over HTTP, in a file, in the stream, in the terminal; and what a
//! client that means harm can do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::fake_auditd::Auditd;
use support::relay::{Relay, binary, run, watch_on};
use support::sink::{ClosedPort, Framing, Place, Sink, accept_unix, bind_stream, read_to_end};
use support::{PATIENCE, line, temp_dir, wait_until};

/// Opens with deadlines, and sends `question`.
#[track_caller]
fn connect(socket: &Path, question: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(question).unwrap();
    stream
}

#[track_caller]
fn ask(socket: &Path, question: &str) -> String {
    let mut answer = String::new();
    connect(socket, question.as_bytes()).read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn json(socket: &Path) -> Value {
    serde_json::from_str(&ask(socket, "json\n")).unwrap()
}

fn status(socket: &Path, options: &[&str]) -> Output {
    run(&[&["status", "--socket", socket.to_str().unwrap()], options].concat())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A relay that is seen, and its socket.
fn seen(to: &str, options: &[&str], dir: &Path) -> (support::relay::Setup, PathBuf) {
    let socket = dir.join("status.sock");
    let arguments = [&["--to", to, "--status", socket.to_str().unwrap()], options].concat();
    (Relay::with(&arguments), socket)
}

#[test]
fn the_socket_answers_in_each_form_and_the_command_shows_it() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, mut feed) = setup.by_hand();
    for number in 0..3 {
        feed.write(&line(number, 0));
    }
    sink.wait_for(3);
    wait_until("the records are acknowledged", || json(&socket)["destinations"][0]["sent"] == 3);
    let report = json(&socket);
    assert_eq!((&report["read"], &report["pid"]), (&3.into(), &relay.id().into()));
    assert_eq!((&report["input_state"], &report["input"]), (&"reading".into(), &"text".into()));
    let age = report["time"].as_f64().unwrap() - report["last_read"].as_f64().unwrap();
    assert!((0.0..30.0).contains(&age), "{report}");
    let destination = &report["destinations"][0];
    assert_eq!((&destination["active"], &destination["queue"]["bytes"]), (&true.into(), &0.into()));
    assert!(destination["queue"]["oldest_seconds"].is_null(), "{destination}");
    assert_eq!(destination["receivers"][0]["state"], "connected");
    let metrics = ask(&socket, "prometheus\n");
    assert!(metrics.contains("\naudit_relay_records_read_total 3\n"), "{metrics}");
    let http = ask(&socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(http.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{http}");
    assert!(http.contains("\naudit_relay_records_read_total 3\n"), "{http}");
    assert!(ask(&socket, "GET /status HTTP/1.0\r\n\r\n").contains("\"read\":3"));
    assert!(ask(&socket, "DELETE /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(ask(&socket, "what?\n").starts_with("error: ask for"));

    let shown = status(&socket, &[]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let table = text(&shown.stdout);
    for expected in
        ["audit-relay 0.", "input text, reading", &sink.url, "connected for", "queue [....", "sent"]
    {
        assert!(table.contains(expected), "{expected}\n{table}");
    }
    assert!(!table.contains('!'), "{table}");
    assert_eq!(serde_json::from_slice::<Value>(&status(&socket, &["--json"]).stdout).unwrap()["read"], 3);
    assert!(text(&status(&socket, &["--prometheus"]).stdout).starts_with("# HELP audit_relay_"));
    feed.close();
    assert_eq!(relay.exit().status, Some(0));
}

#[test]
fn where_no_relay_runs_the_command_says_why_and_what_to_do() {
    let dir = temp_dir();
    let missing = status(&dir.path().join("none.sock"), &[]);
    assert_eq!(missing.status.code(), Some(69));
    assert!(text(&missing.stderr).contains("no relay offers") && text(&missing.stderr).contains("--status"));
    // Which of them is the case here, tests/live_status.rs knows.
    let auditd =
        ["auditd does not run", "auditd runs (pid "].iter().any(|of| text(&missing.stderr).contains(of));
    assert!(auditd, "{missing:?}");
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, _feed) = setup.by_hand();
    assert_eq!(json(&socket)["read"], 0);
    relay.signal(Signal::SIGKILL);
    relay.wait();
    for options in [&[][..], &["--json"], &["--prometheus"], &["--watch"]] {
        let left = status(&socket, options);
        assert_eq!(left.status.code(), Some(69), "{options:?}");
        assert!(text(&left.stderr).contains("was left by one that has ended"), "{left:?}");
    }
}

#[test]
fn the_command_ends_in_time_and_obeys_nobody_whatever_answers() {
    let dir = temp_dir();
    let bind = |name: &str| {
        let path = dir.path().join(name);
        (std::os::unix::net::UnixListener::bind(&path).unwrap(), path)
    };
    // Nobody takes clients, and the kernel lets no more wait: a relay that is stopped, in the hands of others.
    let (_deaf, crowded) = bind("crowded.sock");
    let mut waiting = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&socket2::SockAddr::unix(&crowded).unwrap()).is_err() {
            break;
        }
        waiting.push(socket);
    }
    // One that never comes to an end.
    let (endless, dribbling) = bind("dribbling.sock");
    thread::spawn(move || {
        let (mut client, _) = endless.accept().unwrap();
        while client.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(200));
        }
    });
    let start = Instant::now();
    // Waited for no longer than that: what never ends fails here, too.
    let (tell, told) = std::sync::mpsc::channel();
    for socket in [crowded, dribbling] {
        let tell = tell.clone();
        thread::spawn(move || tell.send(status(&socket, &[])));
    }
    for _ in 0..2 {
        let output = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(output.status.code(), Some(69));
        assert!(text(&output.stderr).contains("does not answer within"), "{output:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // An error that quotes what was answered.
    let (forger, forged) = bind("forged.sock");
    thread::spawn(move || {
        let (mut client, _) = forger.accept().unwrap();
        assert!(client.read(&mut [0; 64]).unwrap() > 0);
        let answer = r#"{"read":"\u001b]0;owned\u0007"}"#;
        client.write_all(answer.as_bytes()).unwrap();
    });
    let output = status(&forged, &[]);
    assert_eq!(output.status.code(), Some(69));
    let said = text(&output.stderr);
    assert!(said.contains("owned") && !said.trim_end().contains(char::is_control), "{said:?}");
}

#[test]
fn the_socket_is_for_root_and_the_account_and_for_a_group_if_one_is_named() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let root = nix::unistd::geteuid().is_root();
    let own_group = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap().unwrap().name;
    let group = if root { "adm" } else { &own_group };
    let gid = nix::unistd::Group::from_name(group).unwrap().unwrap().gid.as_raw();
    for (options, mode, gid) in [(&[][..], 0o600, None), (&["--status-group", group], 0o660, Some(gid))] {
        let (setup, socket) = seen(&sink.url, options, dir.path());
        let (relay, feed) = setup.by_hand();
        let facts = fs::metadata(&socket).unwrap();
        assert!(facts.file_type().is_socket());
        assert_eq!(facts.permissions().mode() & 0o777, mode);
        assert_eq!(facts.uid().to_string(), relay.status_field("Uid").split_whitespace().next().unwrap());
        gid.inspect(|gid| assert_eq!(facts.gid(), *gid));
        if root {
            // A stranger may not ask, and is told so.
            let stranger = Command::new("setpriv")
                .args(["--reuid", "12345", "--regid", "12345", "--clear-groups"])
                .arg(binary())
                .args(["status", "--socket", socket.to_str().unwrap()])
                .output()
                .unwrap();
            assert_eq!(stranger.status.code(), Some(77), "{stranger:?}");
            assert!(text(&stranger.stderr).contains("only root and the relay's account"), "{stranger:?}");
        }
        feed.close();
        relay.exit();
    }
}

#[test]
fn a_newer_instance_takes_the_name_and_the_older_one_does_not_take_it_away() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let port = free_port();
    let metrics = format!("127.0.0.1:{port}");
    let folder = dir.path().join("handover");
    let options = ["--metrics", &metrics, "--handover", folder.to_str().unwrap()];
    let (setup, socket) = seen(&sink.url, &options, dir.path());
    let (old, old_feed) = setup.by_hand();
    assert_eq!(json(&socket)["pid"], old.id());
    let (new, new_feed) = seen(&sink.url, &options, dir.path()).0.by_hand();
    assert_eq!(json(&socket)["pid"], new.id());
    old_feed.close();
    old.exit();
    assert_eq!(json(&socket)["pid"], new.id());
    // The port, too: both have listened there, as in a reload of auditd up to 4.1.
    for _ in 0..10 {
        assert!(http(port, "/metrics").contains("audit_relay_records_read_total 0\n"));
    }
    new_feed.close();
    let exit = new.exit();
    assert!(!exit.said.contains("metrics:"), "{}", exit.said);
}

/// The older one may deliver its rest for longer than the next one waits for the handover: it has left the port all the same.
#[test]
fn a_port_that_the_older_one_has_left_is_the_newer_ones() {
    let dir = temp_dir();
    let (closed, port) = (ClosedPort::new(), free_port());
    let (url, metrics) = (format!("tcp://{}", closed.address()), format!("127.0.0.1:{port}"));
    let folder = dir.path().join("handover");
    let options = ["--to", &url, "--metrics", &metrics, "--handover", folder.to_str().unwrap()];
    let (old, mut old_feed) = Relay::with(&options).options(&["--drain-timeout", "1min"]).by_hand();
    old_feed.write(&line(0, 0));
    old.wait_for("/read", 1);
    let (new, new_feed) = Relay::with(&options).options(&["--drain-timeout", "0ms"]).by_hand();
    old_feed.close();
    wait_until("the newer one waits no longer", || new.said().contains("the lock is held"));
    for _ in 0..10 {
        assert!(http(port, "/metrics").contains("audit_relay_records_read_total 0\n"));
    }
    assert!(!new.said().contains("metrics:"), "{}", new.said());
    old.signal(Signal::SIGKILL);
    old.wait();
    new_feed.close();
    new.exit();
}

/// Two that are no instances of one another do not share a port: a collector would be told now the numbers of one, now those
/// of the other. A second that has taken its place beside the first because of the handover leaves it when the first stays.
#[test]
fn two_relays_that_both_stay_do_not_share_a_port() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let folder = dir.path().join("handover");
    for (handover, complaint) in [
        ("off", "metrics: cannot listen on "),
        (folder.to_str().unwrap(), "metrics: another relay goes on listening on "),
    ] {
        let port = free_port();
        let metrics = format!("127.0.0.1:{port}");
        let options =
            ["--to", &sink.url, "--metrics", &metrics, "--handover", handover, "--drain-timeout", "0ms"];
        let start = || Relay::with(&options).by_hand();
        let (first, mut first_feed) = start();
        first_feed.write(&line(0, 0));
        let (second, second_feed) = start();
        wait_until("it is said", || second.said().contains(&format!("{complaint}{metrics}")));
        // A client that it has not taken yet is sent away as it goes.
        thread::sleep(Duration::from_millis(100));
        for _ in 0..20 {
            assert!(http(port, "/metrics").contains("audit_relay_records_read_total 1\n"), "{handover}");
        }
        second_feed.close();
        second.exit();
        assert!(!first.said().contains("metrics:"), "{}", first.said());
        first_feed.close();
        first.exit();
    }
}

#[test]
fn clients_that_say_nothing_read_nothing_or_never_end_hold_up_no_record_and_are_sent_away() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, mut feed) = setup.by_hand();
    let start = Instant::now();
    let mut hostile: Vec<UnixStream> = (0..4).map(|_| connect(&socket, b"")).collect();
    hostile.extend((0..4).map(|_| connect(&socket, b"GET /metrics HTTP/1.1\r\nA: ")));
    // More than the relay takes at a time.
    hostile.extend((0..4).map(|_| connect(&socket, b"json\n")));
    for number in 0..1000 {
        feed.write(&line(number, 100));
    }
    sink.wait_for(1000);
    let endless = vec![b'x'; 1 << 20];
    let mut stream = connect(&socket, b"");
    let _ = stream.write_all(&endless);
    // Each has its time, and then somebody else has his turn.
    assert_eq!(json(&socket)["read"], 1000);
    assert!(start.elapsed() < PATIENCE);
    for mut silent in hostile.drain(..8) {
        let mut rest = Vec::new();
        assert!(
            silent.read_to_end(&mut rest).is_err() || rest.is_empty(),
            "{}",
            String::from_utf8_lossy(&rest)
        );
        assert!(start.elapsed() < PATIENCE, "they are sent away, and not waited for");
    }
    feed.close();
    assert_eq!(relay.exit().number("/read"), 1000);
}

#[test]
fn no_more_than_eight_are_listened_to_at_a_time() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, feed) = setup.by_hand();
    let mut silent: Vec<_> = (0..8).map(|_| connect(&socket, b"")).collect();
    // They were taken in turn, one each 20 ms: the first has been silent longest, and makes room for a ninth.
    thread::sleep(Duration::from_millis(500));
    let (start, mut ninth) = (Instant::now(), connect(&socket, b"json\n"));
    let mut answer = [0; 1];
    assert_eq!(ninth.read(&mut answer).unwrap(), 1, "it is answered");
    silent[0].set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(silent[0].read(&mut answer).unwrap(), 0, "the first is sent away");
    silent[1].set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(silent[1].read(&mut answer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "no other");
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    feed.close();
    relay.exit();
}

#[test]
fn asking_without_end_is_answered_at_a_measured_pace() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, feed) = setup.by_hand();
    let start = Instant::now();
    let mut answers = 0;
    while start.elapsed() < Duration::from_secs(1) {
        json(&socket);
        answers += 1;
    }
    assert!((2..=55).contains(&answers), "{answers} answers in a second");
    feed.close();
    relay.exit();
}

#[test]
fn an_overload_shows_in_every_number_while_it_lasts_and_is_over_when_it_is_over() {
    let dir = temp_dir();
    let place = Place::new();
    let listener = bind_stream(&place.path());
    let url = format!("unix-stream:{}", place.path().display());
    let (setup, socket) = seen(&url, &["--queue-size", "256KiB"], dir.path());
    let (relay, mut auditd) = setup.under(Auditd::FirstStart);
    auditd.write(&line(0, 900));
    let mut connection = accept_unix(&listener);
    for number in 1..4000 {
        auditd.write(&line(number, 900));
    }
    wait_until("everything is read", || json(&socket)["read"] == 4000);
    thread::sleep(Duration::from_millis(300));
    let report = json(&socket);
    let d = &report["destinations"][0];
    let number = |pointer: &str| d.pointer(pointer).and_then(Value::as_f64).unwrap();
    assert!(number("/queue/bytes") > 0.5 * number("/queue/limit"), "{d}");
    assert!(number("/queue/oldest_seconds") >= 0.2 && number("/queue/oldest_seconds") < 60.0, "{d}");
    assert!(number("/lost/overflow") > 1000.0 && number("/in_flight") > 100.0, "{d}");
    assert!(report["time"].as_f64().unwrap() - number("/last_loss") < 30.0, "{d}");
    let metrics = ask(&socket, "prometheus\n");
    let lost = format!(
        "audit_relay_destination_records_lost_total{{destination=\"{url}\",reason=\"overflow\"}} {}\n",
        d["lost"]["overflow"]
    );
    assert!(metrics.contains(&lost), "{lost}{metrics}");
    let shown = status(&socket, &[]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    assert!(text(&shown.stdout).contains(&format!("! {url}: ")), "{shown:?}");
    let reading = thread::spawn(move || read_to_end(&mut connection));
    wait_until("the backlog is delivered", || json(&socket)["destinations"][0]["in_flight"] == 0);
    let d = json(&socket)["destinations"][0].clone();
    assert_eq!((&d["queue"]["bytes"], &d["queue"]["oldest_seconds"]), (&0.into(), &Value::Null), "{d}");
    auditd.close();
    relay.exit();
    reading.join().unwrap();
}

#[test]
fn a_receiver_that_is_away_is_named_with_the_reason() {
    let dir = temp_dir();
    let closed = ClosedPort::new();
    let (setup, socket) = seen(&format!("tcp://{}", closed.address()), &[], dir.path());
    let (relay, mut feed) = setup.by_hand();
    feed.write(&line(0, 0));
    wait_until("an attempt has failed", || json(&socket)["destinations"][0]["failures"].as_u64() > Some(0));
    let receiver = json(&socket)["destinations"][0]["receivers"][0].clone();
    assert_eq!(receiver["state"], "away");
    assert!(receiver["last_error"]["error"].as_str().unwrap().contains("refused"), "{receiver}");
    let shown = status(&socket, &[]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(
        text(&shown.stdout).contains("no connection for") && text(&shown.stdout).contains("refused"),
        "{shown:?}"
    );
    let listener = closed.listen();
    let (mut connection, _) = listener.accept().unwrap();
    wait_until("it is connected", || {
        json(&socket)["destinations"][0]["receivers"][0]["state"] == "connected"
    });
    thread::spawn(move || read_to_end(&mut connection));
    let receiver = json(&socket)["destinations"][0]["receivers"][0].clone();
    assert!(receiver["last_error"]["time"].as_f64().unwrap() > 1.7e9, "it stays on record: {receiver}");
    feed.close();
    relay.exit();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[track_caller]
fn http(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_port_gives_metrics_and_nothing_else() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let port = free_port();
    let (setup, _) = seen(&sink.url, &["--metrics", &format!("127.0.0.1:{port}")], dir.path());
    let (relay, feed) = setup.by_hand();
    assert!(http(port, "/metrics").contains("\naudit_relay_records_read_total 0\n"));
    assert!(http(port, "/status").starts_with("HTTP/1.1 404"));
    assert!(http(port, "/").starts_with("HTTP/1.1 404"));
    let mut page = TcpStream::connect(("127.0.0.1", port)).unwrap();
    page.set_read_timeout(Some(PATIENCE)).unwrap();
    page.write_all(format!("GET /metrics HTTP/1.1\r\nHost: page.example.org:{port}\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    page.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("audit_relay_"), "{answer}");
    feed.close();
    relay.exit();
    // A port that somebody else has taken first keeps no relay from its work.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (setup, socket) =
        seen(&sink.url, &["--metrics", &taken.local_addr().unwrap().to_string()], dir.path());
    let (relay, feed) = setup.by_hand();
    assert_eq!(json(&socket)["read"], 0);
    assert!(relay.said().contains("metrics: cannot listen on 127.0.0.1:"), "{}", relay.said());
    feed.close();
    relay.exit();
}

/// A folder that the relay's account may write.
fn metrics_folder(dir: &Path) -> PathBuf {
    let folder = dir.join("metrics");
    fs::create_dir(&folder).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    }
    folder
}

#[test]
fn the_file_is_whole_at_every_moment_and_follows_the_numbers() {
    let dir = temp_dir();
    let folder = metrics_folder(dir.path());
    let file = folder.join("audit-relay.prom");
    let sink = Sink::tcp(Framing::Octet);
    let options = ["--metrics-file", file.to_str().unwrap(), "--metrics-interval", "1s"];
    let (setup, _) = seen(&sink.url, &options, dir.path());
    let (relay, mut feed) = setup.by_hand();
    wait_until("the file is there", || file.exists());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    feed.write(&line(0, 0));
    let read = || fs::read_to_string(&file).unwrap();
    let mut inodes = std::collections::BTreeSet::new();
    wait_until("the file has the record", || {
        inodes.insert(fs::metadata(&file).unwrap().ino());
        let page = read();
        assert!(page.starts_with("# HELP ") && page.ends_with('\n'), "whole: {page}");
        page.contains("\naudit_relay_records_read_total 1\n")
    });
    assert!(inodes.len() > 1, "written aside and renamed");
    // A folder that can be written no more is said once, and again when it is well.
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    if nix::unistd::geteuid().is_root() {
        mode(0o555);
        wait_until("it is said", || relay.said().contains("cannot be written"));
        mode(0o755);
        wait_until("it is well again", || relay.said().contains("is written again"));
        assert_eq!(relay.said().matches("cannot be written").count(), 1);
    }
    feed.close();
    relay.exit();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left aside");
}

/// What is lost at the end nobody else can tell: there is no relay any more that could be asked.
#[test]
fn the_file_follows_the_drain_and_has_the_last_numbers() {
    let dir = temp_dir();
    let folder = metrics_folder(dir.path());
    let file = folder.join("audit-relay.prom");
    let closed = ClosedPort::new();
    let url = format!("tcp://{}", closed.address());
    let options =
        ["--metrics-file", file.to_str().unwrap(), "--metrics-interval", "1s", "--drain-timeout", "3s"];
    let (relay, mut feed) = Relay::to(&url).options(&options).by_hand();
    (0..10).for_each(|number| feed.write(&line(number, 0)));
    feed.close();
    let has = |expected: &str| fs::read_to_string(&file).is_ok_and(|page| page.contains(expected));
    wait_until("the file follows the drain", || has("\naudit_relay_input_reading 0\n"));
    let in_flight = format!("\naudit_relay_destination_records_in_flight{{destination=\"{url}\"}} 10\n");
    assert!(has(&in_flight), "{}", fs::read_to_string(&file).unwrap());
    let exit = relay.exit();
    assert_eq!(exit.number("/destinations/0/lost/drain_deadline"), 10, "{exit:?}");
    let lost = format!(
        "\naudit_relay_destination_records_lost_total{{destination=\"{url}\",reason=\"drain_deadline\"}} 10\n"
    );
    assert!(has(&lost), "{}", fs::read_to_string(&file).unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left aside");
}

#[test]
fn statistics_come_in_the_stream_and_are_no_records() {
    let sink = Sink::tcp(Framing::Octet);
    let (relay, mut feed) = Relay::to(&sink.url).options(&["--statistics-interval", "1s"]).by_hand();
    feed.write(&line(0, 0));
    let messages = sink.wait_for(3);
    feed.write(&line(1, 0));
    feed.close();
    let exit = relay.exit();
    let statistics: Vec<_> = messages.iter().filter(|message| message.is_notice()).collect();
    assert_eq!(statistics.len(), 2, "{messages:?}");
    for message in &statistics {
        let header = message.rfc5424.as_ref().unwrap();
        assert_eq!(
            (message.pri, header.msgid.as_str(), header.sequence),
            (182, "STATS", None),
            "{message:?}"
        );
        assert_eq!((message.field("read"), message.field("lost")), (Some("1"), Some("0")), "{message:?}");
    }
    assert_eq!((exit.number("/read"), exit.number("/destinations/0/sent")), (2, 2));
    assert_eq!(exit.number("/destinations/0/due"), 2);
    let last = sink.messages_after_exit();
    let records: Vec<_> = last.iter().filter(|message| !message.is_notice()).collect();
    assert_eq!(records[1].sequence(), 2, "statistics use up no number");
}

#[test]
fn statistics_that_find_no_room_are_left_out() {
    let place = Place::new();
    let listener = bind_stream(&place.path());
    let url = format!("unix-stream:{}", place.path().display());
    let options = [
        "--queue-size",
        "256KiB",
        "--statistics-interval",
        "1s",
        "--format",
        "rfc5424",
        "--framing",
        "octet",
    ];
    let (relay, mut auditd) = Relay::to(&url).options(&options).under(Auditd::FirstStart);
    auditd.write(&line(0, 900));
    let mut connection = accept_unix(&listener);
    for number in 1..2000 {
        auditd.write(&line(number, 900));
    }
    thread::sleep(Duration::from_millis(3300));
    let reading = thread::spawn(move || read_to_end(&mut connection));
    relay.wait_for("/destinations/0/sent", 100);
    auditd.close();
    relay.exit();
    let bytes = reading.join().unwrap();
    let (messages, rest) = Framing::Octet.cut(&bytes);
    assert!(rest.is_empty());
    let statistics = messages.iter().filter(|m| m.rfc5424.as_ref().unwrap().msgid == "STATS").count();
    assert!(statistics <= 2, "{statistics} while nothing was taken for three seconds");
}

#[test]
fn watching_without_a_terminal_is_a_line_each_time() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, mut feed) = setup.by_hand();
    let mut watch = Command::new(binary())
        .args(["status", "--watch", "1", "--socket", socket.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = watch.stdout.take().unwrap();
    let mut said = String::new();
    let mut block = [0; 4096];
    while said.lines().count() < 3 {
        feed.write(&line(0, 0));
        let count = out.read(&mut block).unwrap();
        assert!(count > 0, "{said}");
        said += text(&block[..count]);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(watch.id().try_into().unwrap()), Signal::SIGINT)
        .unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    assert!(said.lines().all(|line| line.contains(" read ") && line.contains("connected, sent")), "{said}");
    assert!(said.contains("(-/s)") && !said.contains('\u{1b}'), "{said}");
    feed.close();
    relay.exit();
}

#[test]
fn watching_in_a_terminal_redraws_in_place_and_leaves_it_as_it_was() {
    let dir = temp_dir();
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, feed) = setup.by_hand();
    // The keys of a terminal: Ctrl-C is a signal from its driver, `q` a byte.
    for key in [&b"\x03"[..], b"q"] {
        let window = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(Some(&window), None).unwrap();
        let modes = || format!("{:?}", nix::sys::termios::tcgetattr(&terminal.slave).unwrap());
        let found = modes();
        let mut watch = watch_on(&terminal.slave, &socket);
        let mut master = File::from(terminal.master.try_clone().unwrap());
        let mut shown = String::new();
        let mut block = [0; 65536];
        // Two frames: the second over the first.
        while shown.matches("q: end").count() < 2 {
            let count = master.read(&mut block).unwrap();
            shown += text(&block[..count]);
        }
        assert_ne!(modes(), found, "keys are not shown");
        master.write_all(key).unwrap();
        wait_until("it ends", || {
            set_nonblocking(&master);
            if let Ok(count) = master.read(&mut block) {
                shown += text(&block[..count]);
            }
            watch.try_wait().unwrap().is_some()
        });
        while let Ok(count) = master.read(&mut block) {
            shown += text(&block[..count]);
        }
        assert_eq!(watch.wait().unwrap().code(), Some(0), "{shown}");
        assert_eq!(modes(), found, "the terminal's modes are put back");
        let (entered, rest) = shown.split_once("\u{1b}[?1049h").unwrap();
        let (frames, after) = rest.split_once("\u{1b}[?1049l").unwrap();
        assert!(entered.is_empty() || !entered.contains("audit-relay"), "{shown}");
        assert!(frames.contains("\u{1b}[H") && frames.contains("queue [...."), "{frames}");
        assert!(frames.ends_with("\u{1b}[?25h"), "the cursor is back: {frames:?}");
        assert!(
            after.contains("queue [....") && !after.contains('\u{1b}'),
            "the last table stays: {after:?}"
        );
        for line in frames.split("\r\n") {
            let plain: String = line.replace("\u{1b}[H", "").replace("\u{1b}[K", "");
            assert!(plain.starts_with('\u{1b}') || plain.chars().count() <= 80 + 40, "{plain:?}");
        }
    }
    feed.close();
    relay.exit();
}

fn set_nonblocking(file: &File) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    assert!(file.as_raw_fd() >= 0);
}

#[test]
fn under_auditd_the_socket_is_in_the_usual_place_if_nobody_says_otherwise() {
    let root = nix::unistd::geteuid().is_root();
    let sink = Sink::tcp(Framing::Octet);
    let checked = run(&["check", "--config", "none", "--to", &sink.url]);
    assert!(text(&checked.stdout).contains("status = \"auto\""), "{checked:?}");
    if !root {
        assert!(std::env::var_os("CI").is_none(), "root is missing, and CI skips nothing");
        eprintln!("SKIPPED: root is missing");
        return;
    }
    // In a mount namespace of its own, so that the machine's own relay is not disturbed.
    let dir = temp_dir();
    let script =
        format!("mount -t tmpfs -o mode=755 tmpfs /run && cd {} && exec \"$@\"", dir.path().display());
    let wrapper = ["unshare", "-m", "sh", "-c", &script, "sh"];
    fs::write("/proc/self/comm", "auditd").unwrap();
    let (relay, auditd) =
        Relay::with(&["--to", &sink.url, "--status", "auto"]).through(&wrapper).under(Auditd::FirstStart);
    let path = PathBuf::from(format!("/proc/{}/root/run/audit-relay/status.sock", relay.id()));
    wait_until("the socket is there", || path.exists());
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let asked = Command::new("nsenter")
        .args(["-m", "-t", &relay.id().to_string()])
        .arg(binary())
        .args(["status", "--json", "--config", "/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    assert_eq!(serde_json::from_slice::<Value>(&asked.stdout).unwrap()["pid"], relay.id());
    auditd.close();
    relay.exit();
}

#[test]
fn a_relay_that_takes_clients_is_as_confined_as_any_other() {
    let dir = temp_dir();
    let folder = dir.path().to_str().unwrap();
    let socket = format!("{folder}/s.sock");
    let file = format!("{folder}/a.prom");
    let options = ["--status", &socket, "--metrics", "127.0.0.1:9101", "--metrics-file", &file];
    let tried =
        run(&[&["check", "--confinement", "--config", "none", "--to", "tcp://127.0.0.1:7"][..], &options]
            .concat());
    if text(&tried.stdout).contains("ALLOWED") {
        // Only on a kernel that cannot confine at all; tests/confinement.rs is about these.
        assert!(!Path::new("/sys/kernel/security/landlock").exists(), "{tried:?}");
    }
    assert!(text(&tried.stdout).contains("refused  take TCP connections"), "{tried:?}");
    let sink = Sink::tcp(Framing::Octet);
    let (setup, socket) = seen(&sink.url, &[], dir.path());
    let (relay, feed) = setup.by_hand();
    assert_eq!(relay.status_field("Seccomp"), "2");
    assert_eq!(json(&socket)["confined"]["seccomp"], "enforced");
    feed.close();
    relay.exit();
}
