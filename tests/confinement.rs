//! What is left to the running relay: read from the kernel, tried, and enough for all that it has to do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use support::network::{Network, answer_names};
use support::pki::{Kind, Pki};
use support::relay::{Relay, binary, run};
use support::relp_sink::{RelpSink, Reply};
use support::sink::{Framing, Sink};
use support::tls_sink::TlsSink;
use support::{is_root, line, temp_dir, wait_until};

/// The kernel that these tests were written on has all of it; an older one cannot pass them. Asked is the kernel, by
/// landlock_create_ruleset(2), which has the same number everywhere, and not what the relay makes of it.
fn landlock() -> bool {
    let version = ["-e", "exit(syscall(444, 0, 0, 1) > 0 ? 0 : 1)"];
    Command::new("perl").args(version).status().is_ok_and(|status| status.success())
}

fn skipped(what: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI skips nothing");
    eprintln!("SKIPPED: {what} is missing");
    true
}

/// One receiver of each kind, behind one face.
enum Receiver {
    Plain(Sink, Vec<String>),
    Tls(TlsSink, Vec<String>),
    Relp(RelpSink, String, Vec<String>),
}

impl Receiver {
    fn all(dir: &Path) -> Vec<(&'static str, Self)> {
        let pki = Pki::new(&dir.join("pki"));
        let server = pki.server("server", Kind::Good);
        let ca = || vec!["--tls-ca".to_owned(), pki.ca_file().to_str().unwrap().to_owned()];
        let tls = TlsSink::new(&server);
        let relps = TlsSink::new(&server);
        let relps_url = relps.url("relps");
        let relp = RelpSink::tcp(|_| Reply::Accept);
        let relp_url = relp.url.clone();
        vec![
            ("unix", Self::Plain(Sink::unix(), Vec::new())),
            ("unix-stream", Self::Plain(Sink::unix_stream(Framing::Lf), Vec::new())),
            ("udp", Self::Plain(Sink::udp("127.0.0.1"), Vec::new())),
            ("tcp", Self::Plain(Sink::tcp(Framing::Octet), Vec::new())),
            ("tls", Self::Tls(tls, ca())),
            ("relp", Self::Relp(relp, relp_url, Vec::new())),
            ("relps", Self::Relp(RelpSink::tls(relps, |_| Reply::Accept), relps_url, ca())),
        ]
    }

    fn arguments(&self) -> Vec<String> {
        let (url, options) = match self {
            Self::Plain(sink, options) => (sink.url.clone(), options),
            Self::Tls(sink, options) => (sink.url("tls"), options),
            Self::Relp(_, url, options) => (url.clone(), options),
        };
        [vec!["--to".to_owned(), url], options.clone()].concat()
    }

    /// Waits for `count` messages.
    fn wait_for(&self, count: usize) {
        match self {
            Self::Plain(sink, _) => drop(sink.wait_for(count)),
            Self::Tls(sink, _) => {
                let mut connection = sink.accept();
                for _ in 0..count {
                    let mut length = Vec::new();
                    while length.last() != Some(&b' ') {
                        length.extend(connection.read_bytes(1));
                    }
                    let length = str::from_utf8(&length).unwrap().trim_end().parse().unwrap();
                    connection.read_bytes(length);
                }
            }
            Self::Relp(sink, ..) => sink.wait_for(count),
        }
    }
}

#[test]
fn what_the_kernel_says_of_a_relay_on_each_transport() {
    if !landlock() && skipped("Landlock") {
        return;
    }
    let dir = temp_dir();
    for (name, receiver) in Receiver::all(dir.path()) {
        let arguments = receiver.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (relay, mut feed) = Relay::with(&arguments).options(&["--confine", "require"]).by_hand();
        feed.write(&line(1, 0));
        receiver.wait_for(1);
        for (field, expected) in [
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            assert_eq!(relay.status_field(field), expected, "{name}: {field}");
        }
        let process = format!("/proc/{}", relay.id());
        if is_root() {
            assert_eq!(relay.status_field("CapBnd"), "0000000000000000", "{name}");
            assert_eq!(relay.status_field("Groups"), "", "{name}");
            assert!(!relay.status_field("Uid").split(' ').any(|id| id == "0"), "{name}");
            assert!(!relay.status_field("Gid").split(' ').any(|id| id == "0"), "{name}");
        }
        // The kernel gives the files of a process that must not be dumped to root.
        assert_eq!(fs::metadata(format!("{process}/status")).unwrap().uid(), 0, "{name}");
        let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[26..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(limit("Max core file size"), ["0", "0"], "{name}");
        assert_eq!(limit("Max open files"), ["264", "264"], "{name}");
        assert_ne!(limit("Max data size")[1], "unlimited", "{name}");
        let said = relay.report()["confined"].clone();
        assert_eq!(said["seccomp"], "enforced", "{name}");
        assert!(said["landlock"].as_u64().unwrap() >= 1 && said["no_dumps"] == true, "{name}: {said}");
        feed.close();
        drop(relay);
    }
}

/// What the kernel answers where a call is not in the list.
fn refusals(trace: &str) -> Vec<&str> {
    trace
        .lines()
        .filter(|line| {
            ["= -1 ENOSYS", "= -1 EACCES", "killed by SIGSYS"].iter().any(|what| line.contains(what))
        })
        // Hides its flags from filters; glibc takes clone instead.
        .filter(|line| !line.contains("clone3"))
        .collect()
}

#[test]
fn nothing_that_the_relay_does_is_refused() {
    nothing_is_refused(true);
}

/// Fewer kinds of sockets, fewer files.
#[test]
fn nothing_that_the_relay_does_is_refused_where_no_name_is_looked_up() {
    if is_root() || !skipped("root, to give the machine a name") {
        nothing_is_refused(false);
    }
}

/// A program on a machine that knows its whole name, and so looks none up.
fn on_a_named_machine(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--uts", "sh", "-c", "hostname web-1.example.org; exec \"$@\"", "sh"]).arg(program);
    command
}

fn nothing_is_refused(by_name: bool) {
    if Command::new("strace").arg("-V").output().is_err() && skipped("strace") {
        return;
    }
    let dir = temp_dir();
    for (name, receiver) in Receiver::all(dir.path()) {
        let (trace, report) = (dir.path().join(name), dir.path().join(format!("{name}.json")));
        let folder = dir.path().join(format!("{name}.left"));
        let mut arguments = vec!["-f", "-qq", "-o", trace.to_str().unwrap(), binary().to_str().unwrap()];
        let own = receiver.arguments();
        // With a name to look up where there is one, two threads, a handover and a report.
        let named =
            |word: &String| if by_name { word.replace("//127.0.0.1:", "//localhost:") } else { word.clone() };
        let own: Vec<_> = own.iter().map(named).collect();
        arguments.extend(own.iter().map(String::as_str));
        let options =
            ["--config", "none", "--log", "stderr", "--confine", "require", "--drain-timeout", "5s"];
        arguments.extend(options);
        arguments.extend(["--report", report.to_str().unwrap(), "--handover", folder.to_str().unwrap()]);
        // And seen in all ways.
        let (socket, metrics) =
            (dir.path().join(format!("{name}.sock")), dir.path().join(format!("{name}.metrics")));
        fs::create_dir(&metrics).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&metrics, Some(65534), Some(65534)).unwrap();
        }
        let file = metrics.join("a.prom");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        arguments.extend(["--status", socket.to_str().unwrap(), "--metrics", &port]);
        arguments.extend(["--metrics-file", file.to_str().unwrap(), "--metrics-interval", "1s"]);
        arguments.extend(["--statistics-interval", "1min"]);
        let mut strace = if by_name { Command::new("strace") } else { on_a_named_machine("strace") };
        let mut child = strace
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        for number in 0..200 {
            std::io::Write::write_all(&mut input, &line(number, number)).unwrap();
        }
        receiver.wait_for(200);
        wait_until("metrics are written", || file.exists());
        let mut client = UnixStream::connect(&socket).unwrap();
        let mut answer = String::new();
        client.write_all(b"json\n").and_then(|()| client.read_to_string(&mut answer)).unwrap();
        assert!(answer.contains("\"read\":200"), "{name}: {answer}");
        let mut client = TcpStream::connect(&port).unwrap();
        client
            .write_all(b"GET /metrics HTTP/1.0\n\n")
            .and_then(|()| client.read_to_string(&mut answer))
            .unwrap();
        assert!(answer.contains("audit_relay_records_read_total 200"), "{name}: {answer}");
        drop(input);
        wait_until("strace has ended", || child.try_wait().unwrap().is_some());
        let text = fs::read_to_string(&trace).unwrap();
        assert!(text.contains("seccomp("), "{name}: it was confined");
        assert_eq!(refusals(&text), [""; 0], "{name}");
        let report = fs::read_to_string(&report).unwrap();
        assert!(report.contains("\"sent\": 200"), "{name}: {report}");
    }
}

/// All attempts as `check --confinement` makes them for a relay to `to`. As root on a machine that knows its whole name,
/// so that none has to be looked up.
fn attempts(to: &str, log: &str, how: &str) -> (Option<i32>, String) {
    let mut command = if is_root() { on_a_named_machine(binary()) } else { Command::new(binary()) };
    let output = command
        .args(["check", "--confinement", "--config", "none", "--hostname", "h"])
        .args(["--to", to, "--log", log, "--confine", how])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The kinds of sockets are told by their numbers alone, so an old kernel can shut them too.
#[test]
fn sockets_are_to_be_had_of_the_kinds_that_are_configured_and_of_no_other() {
    const KINDS: [&str; 3] = ["send over UDP", "send to a local socket", "connect to a local service"];
    if !is_root() && skipped("root, to give the machine a name") || !landlock() && skipped("Landlock") {
        return;
    }
    for (to, log, needed) in [
        ("stdout:", "stderr", &[][..]),
        ("stdout:", "syslog", &["send to a local socket"]),
        ("unix:/dev/log", "none", &["send to a local socket"]),
        ("unix-stream:/run/s", "none", &["connect to a local service"]),
        ("udp://127.0.0.1", "none", &["send over UDP"]),
        ("relp://127.0.0.1:601", "none", &[]),
        ("udp://logs.example.org", "none", &["send over UDP", "connect to a local service"]),
        ("udp://logs.example.org", "auto", &KINDS),
    ] {
        let (status, said) = attempts(to, log, "require");
        assert_eq!(status, Some(0), "{to}: {said}");
        for line in said.lines() {
            let kind = KINDS.iter().find(|kind| line.contains(*kind));
            let word = if kind.is_some_and(|kind| needed.contains(kind)) { "needed" } else { "refused" };
            assert!(line.starts_with(word), "{to}, log {log}: {line}");
        }
        assert_eq!(said.lines().count(), 22);
        let nameless = said.lines().find(|line| line.contains("without a file")).unwrap();
        // Landlock's word where seccomp has nothing against the socket.
        let stream = needed.contains(&"connect to a local service");
        assert_eq!(nameless.contains("not permitted"), stream, "{to}: {nameless}");
    }
}

#[test]
fn everything_else_is_refused_and_only_by_confinement() {
    if !landlock() && skipped("Landlock") {
        return;
    }
    let check = |how: &str| attempts("tcp://127.0.0.1:601", "stderr", how);
    let (status, said) = check("require");
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(said.lines().count(), 22, "{said}");
    let as_it_should = |line: &str| line.starts_with("refused") || !is_root() && line.starts_with("needed");
    assert!(said.lines().all(as_it_should), "{said}");
    assert!(said.contains("not dumpable, limit 0"), "the state is read, not the refusal to say: {said}");
    // What tries must be able to succeed. Capabilities and the like stand guard over the others in any case.
    let (status, said) = check("off");
    assert_eq!(status, Some(69), "{said}");
    for what in [
        "become another program",
        "start a process",
        "read another file",
        "write another file",
        "connect to another TCP port",
        "take TCP connections",
        "connect by sending",
        "connect by Multipath TCP",
        "send over UDP",
        "send to a local socket",
        "connect to a local service",
        "connect to a service without a file",
        "have the kernel signal another process",
        "change its limits",
        "speak with the kernel's audit",
        "run memory that it has written",
        "leave its memory",
    ] {
        let line = said.lines().find(|line| line.contains(what)).unwrap();
        assert!(line.starts_with("ALLOWED"), "{line}");
    }
}

/// Two stand guard over each. Where calls are only logged, one of them is alone.
#[test]
fn new_code_and_dumps_are_shut_by_the_process_itself_too() {
    if !landlock() && skipped("Landlock") {
        return;
    }
    let attempt = |name: &str, confine: &str, user: &str| {
        let mut arguments = vec!["check", "--confinement", "--config", "none", "--to", "stdout:"];
        arguments.extend(["--attempt", name, "--confine", confine]);
        if is_root() {
            arguments.extend(["--user", user]);
        }
        let output = run(&arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let (status, said) = attempt("code", "log", "nobody");
    assert!(status == Some(10) && said.starts_with("Permission denied"), "PR_SET_MDWE: {status:?} {said}");
    let (status, said) = attempt("code", "require", "nobody");
    assert!(status == Some(10) && said.starts_with("Function not implemented"), "seccomp: {status:?} {said}");
    // Who becomes another user is not dumpable by that alone; who stays root would be.
    assert_eq!(attempt("dump", "log", "root"), (Some(10), "not dumpable, limit 0".to_owned()));
    assert_eq!(attempt("dump", "off", "root"), (Some(0), String::new()));
}

#[test]
fn a_reload_that_needs_more_is_refused_and_one_that_does_not_is_not() {
    let (first, second) = (Sink::tcp(Framing::Octet), Sink::tcp(Framing::Octet));
    let (third, fourth, local) = (Sink::udp("127.0.0.1"), Sink::udp("127.0.0.1"), Sink::unix());
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    let write = |text: &str| {
        // As an editor does it: a new file under the old name.
        let new = dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    if is_root() {
        // The relay reads it again without root.
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    write(&format!("to = [\"{}\", \"{}\"]\n", first.url, third.url));
    let (relay, mut feed) = Relay::with(&["--config", file.to_str().unwrap()]).by_hand();
    feed.write(&line(1, 0));
    first.wait_for(1);
    third.wait_for(1);
    write(&format!("to = [\"{}\", \"{}\"]\n", first.url, second.url));
    relay.signal(Signal::SIGHUP);
    wait_until("the reload is refused", || {
        let said = relay.said();
        said.contains("reload: it needs TCP port") && said.contains("start the relay again")
    });
    let many: Vec<_> = (1..20).map(|port| format!("\"udp://127.0.0.1:{port}\"")).collect();
    for (more, expected) in [
        (format!("to = [{}]\n", many.join(", ")), "descriptors for so many more receivers"),
        (format!("to = [\"{}\"]\n", local.url), "it needs local datagram sockets"),
        (format!("to = [\"{}\"]\nqueue-size = \"2GiB\"\n", first.url), "memory for so much larger queues"),
    ] {
        write(&more);
        relay.signal(Signal::SIGHUP);
        wait_until("the reload is refused", || relay.said().contains(expected));
    }
    write(&format!("to = [\"{}\", \"{}\"]\n", first.url, fourth.url));
    relay.signal(Signal::SIGHUP);
    wait_until("the reload is taken", || relay.said().contains("the configuration was read again"));
    feed.write(&line(2, 0));
    assert_eq!((first.wait_for(2).len(), fourth.wait_for(1).len()), (2, 1));
    feed.close();
    relay.exit_after_reload();
}

/// Takes the first handshake that succeeds: the relay may have begun another one with what was there before.
fn accept_in_the_end(sink: &TlsSink) {
    wait_until("a handshake succeeds", || sink.try_accept().is_ok());
}

#[test]
fn certificates_are_exchanged_within_their_folder_and_read_from_no_other() {
    if !landlock() && skipped("Landlock") {
        return;
    }
    let dir = temp_dir();
    let pki = Pki::new(&dir.path().join("pki"));
    let server = pki.server("server", Kind::Good);
    // With a name in the configuration, and an address, nothing but this folder and the time zone is open.
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    for folder in [dir.path(), &inside, &outside] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let ca = inside.join("ca.pem");
    fs::copy(pki.other_ca_file(), &ca).unwrap();
    fs::copy(pki.ca_file(), outside.join("ca.pem")).unwrap();
    let sink = TlsSink::new(&server);
    let start = |how: &str| {
        fs::remove_file(&ca).unwrap();
        fs::copy(pki.other_ca_file(), &ca).unwrap();
        let options = ["--hostname", "h", "--tls-ca", ca.to_str().unwrap(), "--confine", how];
        let (relay, mut feed) = Relay::to(&sink.url("tls")).options(&options).by_hand();
        feed.write(&line(1, 0));
        // The wrong authority: the handshake fails.
        assert!(sink.try_accept().is_err());
        fs::remove_file(&ca).unwrap();
        (relay, feed)
    };
    let (relay, feed) = start("auto");
    symlink(outside.join("ca.pem"), &ca).unwrap();
    wait_until("the relay must not read it", || relay.said().contains("Permission denied"));
    fs::remove_file(&ca).unwrap();
    fs::copy(pki.ca_file(), inside.join("new")).unwrap();
    fs::rename(inside.join("new"), &ca).unwrap();
    accept_in_the_end(&sink);
    drop((relay, feed));
    // And unconfined it can be read: the refusal was Landlock's.
    let (relay, feed) = start("off");
    symlink(outside.join("ca.pem"), &ca).unwrap();
    accept_in_the_end(&sink);
    drop((relay, feed));
}

/// The kernel is made to look old.
#[test]
fn an_old_kernel_is_said_and_with_require_refused() {
    if Command::new("strace").arg("-V").output().is_err() && skipped("strace") {
        return;
    }
    for (call, words) in [("landlock_create_ruleset", "Landlock"), ("seccomp", "seccomp")] {
        for (how, status) in [("auto", 0), ("require", 77)] {
            let inject = format!("inject={call}:error=ENOSYS");
            let output = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
                .arg(binary())
                .args(["--config", "none", "--to", "stdout:", "--log", "stderr", "--confine", how])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{call} {how}: {said}");
            let sentence = if how == "auto" { "not enforced: " } else { "but this kernel lacks " };
            assert!(said.contains(sentence) && said.contains(words), "{call} {how}: {said}");
        }
    }
}

/// A resolver of our own, in a network and behind a resolv.conf of our own.
#[test]
fn names_are_looked_up_over_dns() {
    if !is_root() {
        skipped("root");
        return;
    }
    Network::own(|_| {
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        answer_names(server);
        let sink = Sink::tcp(Framing::Octet);
        let url = sink.url.replace("127.0.0.1", "logs.example.org");
        let dir = temp_dir();
        let mut child = with_name_server(dir.path(), "")
            .args(["--config", "none", "--to", &url, "--confine", "require", "--log", "stderr"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, &line(1, 0)).unwrap();
        sink.wait_for(1);
        drop(input);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
    });
}

/// A relay that asks 127.0.0.1 for names; options of the resolver as in resolv.conf(5).
fn with_name_server(dir: &Path, options: &str) -> Command {
    let (resolver, services) = (dir.join("resolv.conf"), dir.join("nsswitch.conf"));
    fs::write(&resolver, format!("nameserver 127.0.0.1\n{options}\n")).unwrap();
    fs::write(&services, "hosts: files dns\npasswd: files\n").unwrap();
    let script = "set -e; touch /etc/nsswitch.conf; mount --bind \"$1\" /etc/resolv.conf; \
                  mount --bind \"$2\" /etc/nsswitch.conf; shift 2; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args([&resolver, &services]).arg(binary());
    command
}

/// It hears everything and answers nothing, and the resolver waits for it for ten minutes, longer than any limit of ours.
#[test]
fn a_silent_name_server_holds_up_nobody_else() {
    if !is_root() {
        skipped("root");
        return;
    }
    Network::own(|_| {
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        let sink = Sink::tcp(Framing::Octet);
        let dir = temp_dir();
        let report = dir.path().join("report.json");
        let mut child = with_name_server(dir.path(), "options timeout:30 attempts:5")
            .args(["--config", "none", "--to", "tcp://logs.example.org:601", "--to", &sink.url])
            .args(["--connect-timeout", "1s", "--drain-timeout", "300ms", "--log", "stderr"])
            .args(["--user", "root", "--report"])
            .arg(&report)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        for number in 0..10 {
            std::io::Write::write_all(&mut input, &line(number, 0)).unwrap();
            sink.wait_for(number + 1);
        }
        // A look-up that hangs is waited for anew at each attempt, and not made again: main, ingest, and two that ask (for
        // this host's name, too).
        let mut question = [0; 512];
        server.recv(&mut question).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(4));
        let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().count();
        assert!(threads <= 4, "{threads} threads");
        drop(input);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(75), "{said}");
        assert!(said.contains("looking the name up took more than 1 s"), "{said}");
        let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        assert_eq!(report["destinations"][0]["lost"]["drain_deadline"], 10, "{report}");
        assert!(report["destinations"][0]["failures"].as_u64() >= Some(2), "{report}");
        assert_eq!(report["destinations"][1]["sent"], 10, "{report}");
    });
}
