//! `send` and `sink` through the real binary: together, apart, against broken receivers and against rsyslogd.
//!
//! Counts only, never times: the machine that runs the tests may be busy.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");
const TRANSPORTS: [&str; 7] = ["tcp", "tls", "relp", "relps", "udp", "unix", "unix-stream"];

/// Runs `send` and returns its exit code, its report and what it said on stderr.
fn send(args: &[&str]) -> (Option<i32>, Value, String) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output: Output =
        Command::new(LOADGEN).arg("send").args(args).arg("--json").arg(&json).output().unwrap();
    let report = fs::read_to_string(&json).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A running `sink`.
struct Sink {
    child: Child,
    url: String,
    ca: Option<String>,
    json: PathBuf,
    /// Removed with it.
    _directory: tempfile::TempDir,
}

impl Sink {
    fn start(listen: &str, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let json = directory.path().join("report.json");
        let mut child = Command::new(LOADGEN)
            .args(["sink", "--listen", listen, "--json"])
            .arg(&json)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let said = line.trim_end().strip_prefix("audit-loadgen: listening on ").unwrap();
        let (url, ca) = match said.split_once(", trust ") {
            Some((url, ca)) => (url.to_owned(), Some(ca.to_owned())),
            None => (said.to_owned(), None),
        };
        Self { child, url, ca, json, _directory: directory }
    }

    /// Waits for its end.
    fn report(mut self) -> (Option<i32>, Value) {
        let code = self.child.wait().unwrap().code();
        (code, serde_json::from_str(&fs::read_to_string(&self.json).unwrap()).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

fn assert_counts(report: &Value, expected: &[(&str, u64)]) {
    for (key, expected) in expected {
        assert_eq!(report.pointer(key).unwrap(), *expected, "{key}: {report:#}");
    }
}

#[test]
fn every_transport_brings_every_message_to_a_receiver_of_its_own() {
    for transport in TRANSPORTS {
        let to = format!("self:{transport}");
        // UDP at a rate that no machine drops.
        let pace: &[&str] = if transport == "udp" { &["--rate", "20000", "--max-lag", "30s"] } else { &[] };
        let (code, report, said) =
            send(&[&["--to", &to, "--count", "20001", "--connections", "3"], pace].concat());
        assert_counts(
            &report,
            &[
                ("/sent", 20_001),
                ("/received", 20_001),
                ("/lost", 0),
                ("/duplicated", 0),
                ("/reordered", 0),
                ("/torn", 0),
                ("/unmarked", 0),
                ("/sink/unfinished_bytes", 0),
                ("/sink/framing_errors", 0),
                ("/sink/tls_errors", 0),
                ("/sender/connections", 3),
                ("/sender/refused", 0),
            ],
        );
        assert_eq!(code, Some(0), "{transport}: {said}");
    }
}

#[test]
fn two_processes_agree_and_only_the_receiver_knows_latency() {
    for transport in ["tcp", "tls", "relp", "relps", "unix", "unix-stream"] {
        let sink = Sink::start(transport, &["--expect", "5000", "--linger", "20s"]);
        let ca: Vec<&str> = sink.ca.iter().flat_map(|ca| ["--ca", ca.as_str()]).collect();
        let (code, sent, said) =
            send(&[&["--to", &sink.url, "--count", "5000", "--connections", "2"], &ca[..]].concat());
        assert_eq!(code, Some(0), "{transport}: {said} {sent:#}");
        assert_eq!(sent["sent"], 5000);
        for key in ["latency_us", "duplicated", "torn", "sink"] {
            assert_eq!(sent[key], Value::Null, "{key}");
        }
        let answered = transport.starts_with("relp");
        assert_eq!(sent["lost"], if answered { Value::from(0) } else { Value::Null });
        assert_eq!(sent["received"], if answered { Value::from(5000) } else { Value::Null });

        let (code, seen) = sink.report();
        assert_eq!(code, Some(0), "{seen:#}");
        assert_counts(&seen, &[("/received", 5000), ("/lost", 0), ("/reordered", 0), ("/torn", 0)]);
        assert_eq!((&seen["sent"], &seen["sender"]), (&Value::Null, &Value::Null));
        assert!(seen["latency_us"]["p50"].as_f64().is_some());
    }
}

#[test]
fn both_framings_and_all_sizes_arrive() {
    for framing in ["octet", "lf"] {
        for to in ["self:tcp", "self:tls", "self:unix-stream"] {
            let (code, report, _) = send(&["--to", to, "--framing", framing, "--count", "10000"]);
            assert_eq!((code, &report["received"]), (Some(0), &10_000.into()), "{report:#}");
        }
    }
    for to in ["self:tcp", "self:relp", "self:unix", "self:udp"] {
        let rate = if to == "self:udp" { "5000" } else { "0" };
        let args = ["--to", to, "--mix", "nasty", "--count", "3000", "--rate", rate, "--max-lag", "30s"];
        let (code, report, _) = send(&args);
        assert_eq!((code, &report["received"]), (Some(0), &3000.into()), "{report:#}");
    }
    for size in ["120", "200", "8970"] {
        for to in ["self:tcp", "self:unix", "self:relp"] {
            let (code, report, _) = send(&["--to", to, "--size", size, "--count", "2000"]);
            assert_eq!((code, &report["received"]), (Some(0), &2000.into()), "{report:#}");
            // `<182>1 2026-11-23T09:02:31.000Z loadgen auditd - USER - ` and the record.
            let bytes = (size.parse::<u64>().unwrap() + 56) * 2000;
            assert_eq!(report["sink"]["bytes"], bytes);
        }
    }
}

#[test]
fn many_connections_share_the_plan() {
    let args =
        ["--to", "self:tcp", "--connections", "300", "--threads", "2", "--rate", "30000", "--count", "20000"];
    let (code, report, said) = send(&[&args[..], &["--max-lag", "30s"]].concat());
    assert_eq!(code, Some(0), "{said} {report:#}");
    assert_counts(
        &report,
        &[("/received", 20_000), ("/lost", 0), ("/sink/connections", 300), ("/sender/threads", 2)],
    );
    // The last of 20,000 messages is due 0.6666 s behind the first, and none leaves early.
    assert!(report["sender"]["seconds"].as_f64().unwrap() >= 0.6666);
}

#[test]
fn a_duration_ends_a_schedule_exactly() {
    let (code, report, _) = send(&[
        "--to",
        "self:tcp",
        "--rate",
        "1000",
        "--duration",
        "0.3s",
        "--connections",
        "2",
        "--max-lag",
        "30s",
    ]);
    assert_eq!((code, &report["sent"], &report["received"]), (Some(0), &300.into(), &300.into()));
}

#[test]
fn a_schedule_that_cannot_be_kept_is_exit_code_3() {
    // A billion a second: every record but the first few is late by more than a nanosecond.
    let (code, report, _) =
        send(&["--to", "self:tcp", "--rate", "1000000000", "--count", "20000", "--max-lag", "0"]);
    assert_eq!((code, &report["sender"]["kept_plan"]), (Some(3), &false.into()), "{report:#}");
}

#[test]
fn a_stall_of_the_receiver_is_charged_to_every_message_it_delayed() {
    let (_, report, _) = send(&[
        "--to",
        "self:tcp",
        "--rate",
        "2000",
        "--duration",
        "2s",
        "--sink-stall",
        "500ms:1s",
        "--max-lag",
        "30s",
    ]);
    assert_counts(&report, &[("/sent", 4000), ("/received", 4000), ("/lost", 0)]);
    // Half of the messages are due within the stall, so a quarter of all arrive at least half a second late. A slow
    // machine makes it more, never fewer.
    for (quantile, least_us) in [("p90", 500_000.0), ("p99", 900_000.0)] {
        assert!(report["latency_us"][quantile].as_f64().unwrap() >= least_us, "{report:#}");
    }
}

#[test]
fn a_stall_of_the_sink_shows_in_a_run_too() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let status = Command::new(LOADGEN)
        .args(["floor", "--rate", "2000", "--duration", "2s", "--sink-stall", "500ms:1s", "--max-lag", "30s"])
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(status.code(), Some(0), "{report:#}");
    assert_eq!(report["received"], 4000);
    assert!(report["latency_us"]["p99"].as_f64().unwrap() >= 900_000.0, "{report:#}");
}

#[test]
fn a_slow_reader_reads_slowly() {
    let (code, report, _) = send(&[
        "--to",
        "self:unix-stream",
        "--size",
        "944",
        "--count",
        "2000",
        "--sink-read-rate",
        "4000000",
    ]);
    assert_eq!((code, &report["received"]), (Some(0), &2000.into()), "{report:#}");
    // 2 MB at 4 MB/s: all but the last read, of a fiftieth of a second, are paid for in time.
    assert!(report["seconds"].as_f64().unwrap() >= 0.45, "{report:#}");
}

#[test]
fn late_acceptance_loses_nothing() {
    let (code, report, _) = send(&["--to", "self:relp", "--count", "1000", "--sink-accept-delay", "100ms"]);
    assert_eq!((code, &report["received"]), (Some(0), &1000.into()), "{report:#}");
}

#[test]
fn a_reset_is_named_and_what_it_cost_is_counted() {
    for transport in ["tcp", "relp", "tls"] {
        let to = format!("self:{transport}");
        let (code, report, _) = send(&["--to", &to, "--count", "3000000", "--sink-reset-after", "1000000"]);
        assert_eq!(code, Some(1));
        let count = |key: &str| report[key].as_u64().unwrap();
        let arrived = count("received");
        // What the sink had read when it reset: a megabyte at least, of messages of some 300 bytes.
        assert!((1000..3_000_000).contains(&arrived), "{report:#}");
        assert_eq!(count("torn") + count("duplicated"), 0);
        let trouble = report["sender"]["troubles"][0][1].as_str().unwrap();
        assert!(trouble.contains("the receiver"), "{trouble}");
    }
}

#[test]
fn connections_that_cannot_be_made_are_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, word) in [
        (format!("tcp://{free}"), "nobody listens"),
        (format!("relp://{free}"), "nobody listens"),
        ("unix:/no/such/socket".to_owned(), "does not exist"),
        (format!("tls://{free}"), "--ca FILE"),
        ("http://x".to_owned(), "expected udp://"),
    ] {
        let (code, _, said) = send(&["--to", &url, "--count", "10"]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(word), "{url}: {said}");
    }
}

#[test]
fn datagrams_that_come_back_are_counted() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, report, _) = send(&["--to", &format!("udp://{free}"), "--count", "1000"]);
    assert_eq!(code, Some(1));
    assert!(report["sender"]["refused"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["lost"], Value::Null);
}

#[test]
fn only_the_right_authority_is_believed() {
    let (one, other) = (Sink::start("tls", &["--expect", "10"]), Sink::start("tls", &[]));
    let wrong = other.ca.as_deref().unwrap();
    let (code, _, said) = send(&["--to", &one.url, "--count", "10", "--ca", wrong]);
    assert_eq!(code, Some(2));
    assert!(said.contains("certificate") && said.contains("--ca FILE"), "{said}");
    let (code, report, said) = send(&["--to", &one.url, "--count", "10", "--insecure"]);
    assert_eq!((code, &report["sent"]), (Some(0), &10.into()), "{said}");
    let (code, seen) = one.report();
    assert_eq!(code, Some(0));
    assert_counts(&seen, &[("/received", 10), ("/sink/connections", 2), ("/sink/tls_errors", 1)]);
    other.signal(Signal::SIGTERM);
    assert_counts(&other.report().1, &[("/received", 0)]);
}

#[test]
fn unanswered_messages_are_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("relp://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut line = Vec::new();
        // `open` has three lines of data.
        for _ in 0..3 {
            stream.read_until(b'\n', &mut line).unwrap();
        }
        stream.get_mut().write_all(b"1 rsp 6 200 OK\n").unwrap();
        for n in 0..70 {
            line.clear();
            stream.read_until(b'\n', &mut line).unwrap();
            let reply = if n < 50 { "6 200 OK" } else { "6 500 no" };
            stream.get_mut().write_all(format!("{} rsp {reply}\n", n + 2).as_bytes()).unwrap();
        }
        // The rest is read and never answered.
        stream.read_to_end(&mut line).unwrap();
    });
    let directory = tempfile::tempdir().unwrap();
    let html = directory.path().join("html");
    let args = ["--to", &url, "--count", "150", "--window", "128", "--timeout", "1s", "--html"];
    let (code, report, _) = send(&[&args[..], &[html.to_str().unwrap()]].concat());
    server.join().unwrap();
    assert_eq!(code, Some(1));
    let page = fs::read_to_string(html).unwrap();
    assert!(
        page.contains("Of 150 sent: 20 messages were refused, 80 messages were never answered."),
        "{page}"
    );
    assert!(!page.contains("class=\"verdict good\""), "{page}");
    let expected = [
        ("/sent", 150),
        ("/received", 50),
        ("/lost", 100),
        ("/sender/answered", 50),
        ("/sender/answered_no", 20),
        ("/sender/unanswered", 80),
    ];
    assert_counts(&report, &expected);
    assert!(report["sender"]["troubles"][0][1].as_str().unwrap().contains("--timeout"), "{report:#}");
}

#[test]
fn a_receiver_that_never_reads_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let url = format!("unix-stream:{}", path.display());
    let (code, report, _) = send(&["--to", &url, "--count", "1000000", "--timeout", "300ms"]);
    assert_eq!(code, Some(1));
    assert!(report["sent"].as_u64().unwrap() < 1_000_000);
    assert!(report["sender"]["blocked"].as_u64().unwrap() >= 1);
    assert!(report["sender"]["blocked_s"].as_f64().unwrap() >= 0.3);
    assert!(report["sender"]["troubles"][0][1].as_str().unwrap().contains("took nothing"), "{report:#}");
}

#[test]
fn a_sink_ends_at_a_signal_and_writes_what_came() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let sink = Sink::start("tcp", &["--write", "/dev/null"]);
        sink.signal(signal);
        assert_eq!(sink.report().0, Some(0));
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    let sink = Sink::start("tcp", &["--write", copy.to_str().unwrap(), "--expect", "3000"]);
    let (_, sent, _) = send(&["--to", &sink.url, "--count", "3000"]);
    assert_eq!(sent["sent"], 3000);
    assert_counts(&sink.report().1, &[("/received", 3000)]);
    assert_written(&copy, 3000, "<182>1 2026-");
}

/// The file has `count` lines, of the records 0 to `count` in order, each beginning with `head`.
fn assert_written(path: &Path, count: usize, head: &str) {
    let text = fs::read_to_string(path).unwrap();
    for (n, line) in text.lines().enumerate() {
        assert!(line.starts_with(head), "{line}");
        assert!(line.contains(&format!(" lg=000.{n:010x}.")), "{n}: {line}");
    }
    assert_eq!(text.lines().count(), count);
}

#[test]
fn bare_system_calls_bring_as_many_messages_and_claim_nothing() {
    for to in ["self:tcp", "self:unix"] {
        let (code, report, _) = send(&["--to", to, "--count", "10000", "--bare"]);
        assert_eq!((code, &report["sent"], &report["received"]), (Some(0), &10_000.into(), &Value::Null));
        assert_eq!(report["sink"]["messages"], 10_000, "{report:#}");
    }
}

#[test]
fn a_sink_without_judgement_counts() {
    let sink = Sink::start("tcp", &["--discard"]);
    let (code, sent, _) = send(&["--to", &sink.url, "--count", "3000", "--linger", "20s"]);
    assert_eq!((code, &sent["sent"]), (Some(0), &3000.into()));
    sink.signal(Signal::SIGTERM);
    let (code, seen) = sink.report();
    assert_eq!((code, &seen["received"], &seen["latency_us"]), (Some(0), &Value::Null, &Value::Null));
    assert_eq!(seen["sink"]["messages"], 3000, "all was read before the sender's end was seen");
}

#[test]
fn another_corpus_is_torn_and_no_marks_are_unmarked() {
    let sink = Sink::start("tcp", &["--size", "201", "--expect", "1000", "--linger", "20s"]);
    let mut stream = TcpStream::connect(sink.url.strip_prefix("tcp://").unwrap()).unwrap();
    stream.write_all(b"<13>hello\n<13>world\n").unwrap();
    drop(stream);
    let (code, ..) = send(&["--to", &sink.url, "--size", "200", "--count", "1000", "--linger", "20s"]);
    assert_eq!(code, Some(0), "the sender knows nothing of it");
    let (code, seen) = sink.report();
    assert_eq!(code, Some(1));
    assert_counts(&seen, &[("/torn", 1000), ("/unmarked", 2), ("/received", 0), ("/sink/connections", 2)]);
}

#[test]
fn send_has_the_schedules_the_runs_and_the_files_of_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = |kind: &str| directory.path().join(kind);
    let mut command = Command::new(LOADGEN);
    command.args(["send", "--connections", "3", "--ramp", "0..4000", "--duration", "0.5s", "--runs", "3"]);
    command.args(["--max-lag", "30s"]);
    for kind in ["json", "html", "hgrm", "hlog"] {
        command.arg(format!("--{kind}")).arg(file(kind));
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: Value = serde_json::from_str(&fs::read_to_string(file("json")).unwrap()).unwrap();
    // Half of half a second at the highest rate.
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| run["sent"] == 1000 && run["received"] == 1000), "{json:#}");
    let chosen = usize::try_from(json["chosen_run"].as_u64().unwrap()).unwrap();
    assert_eq!(json["rate"], runs[chosen - 1]["rate"]);
    assert_eq!(json["rate"], json["spread"]["rate"]["median"]);
    let last = fs::read_to_string(file("hgrm")).unwrap();
    let last = last.lines().rfind(|line| !line.starts_with('#')).unwrap().to_owned();
    assert_eq!(last.split_whitespace().nth(2), Some("1000"));
    assert!(fs::read_to_string(file("hlog")).unwrap().lines().any(|line| !line.starts_with('#')));
    let html = fs::read_to_string(file("html")).unwrap();
    for text in ["All 1,000 records arrived", "All runs", "Throughput over time", "--ramp 0..4000"] {
        assert!(html.contains(text), "{text}");
    }

    // Of a burst none leaves before it, and what a receiver of another process had nobody here can plot.
    let (code, report, _) = send(&["--burst", "50/100ms", "--count", "150", "--max-lag", "30s"]);
    assert_eq!((code, &report["received"]), (Some(0), &150.into()));
    assert!(report["sender"]["seconds"].as_f64().unwrap() >= 0.2, "{report:#}");
    let (code, _, said) = send(&["--to", "tcp://127.0.0.1:1", "--hgrm", "/dev/null"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("receiver of its own"), "{said}");
}

#[test]
fn a_warm_up_is_accounted_for_and_not_measured() {
    for (to, connections, warm) in
        [("self:tcp", "3", 5001), ("self:udp", "1", 5000), ("self:relps", "2", 5000)]
    {
        let args = ["--to", to, "--connections", connections, "--count", "20000", "--warm-up", "5000"];
        let (code, report, said) = send(&args);
        assert_eq!(code, Some(0), "{to}: {said} {report:#}");
        assert_counts(
            &report,
            &[("/sent", 20000), ("/received", 20000), ("/lost", 0), ("/warm_up/sent", warm)],
        );
        let number = |key: &str| report.pointer(key).unwrap().as_f64().unwrap();
        let measured = number("/rate") * number("/seconds");
        assert!((measured - (20000 - warm) as f64).abs() < 20.0, "{to}: {measured}: {report:#}");
        assert!(number("/warm_up/seconds") > 0.0, "{report:#}");
    }
    // With a schedule the border follows from that.
    let args = [
        "--rate",
        "20000",
        "--duration",
        "500ms",
        "--warm-up",
        "200ms",
        "--connections",
        "4",
        "--max-lag",
        "10s",
    ];
    let (code, report, said) = send(&args);
    assert_eq!(code, Some(0), "{said} {report:#}");
    assert_counts(&report, &[("/sent", 10000), ("/received", 10000), ("/warm_up/sent", 4000)]);
    assert_eq!(report.pointer("/warm_up/seconds").unwrap(), 0.2, "{report:#}");
}

#[test]
fn a_warm_up_that_says_nothing_is_refused() {
    for (args, word) in [
        (&["--count", "1000", "--warm-up", "1000"][..], "send more"),
        (&["--count", "1000", "--warm-up", "1s"], "without a schedule"),
    ] {
        let (code, _, said) = send(args);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn a_sink_that_got_fewer_than_it_expects_has_lost_the_rest() {
    let sink = Sink::start("tcp", &["--expect", "100"]);
    let (code, sent, _) = send(&["--to", &sink.url, "--count", "60", "--linger", "20s"]);
    assert_eq!((code, &sent["sent"]), (Some(0), &60.into()));
    sink.signal(Signal::SIGTERM);
    let (code, seen) = sink.report();
    assert_eq!(code, Some(1), "{seen:#}");
    assert_counts(&seen, &[("/received", 60), ("/lost", 40)]);
}

#[test]
fn a_sinks_rate_is_that_of_what_its_seconds_cover() {
    let sink = Sink::start("tcp", &[]);
    let mut stream = TcpStream::connect(sink.url.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"<13>hello\n").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    stream.write_all(b"<13>world\n").unwrap();
    drop(stream);
    // Once a second client is served, so was the first.
    let (code, ..) = send(&["--to", &sink.url, "--count", "2", "--linger", "20s"]);
    assert_eq!(code, Some(0));
    sink.signal(Signal::SIGTERM);
    let (_, seen) = sink.report();
    assert_counts(&seen, &[("/received", 2), ("/unmarked", 2)]);
    let [rate, seconds] = ["rate", "seconds"].map(|key| seen[key].as_f64().unwrap());
    assert!(seconds > 0.0 && (rate * seconds - 4.0).abs() < 0.5, "{seen:#}");

    let sink = Sink::start("udp", &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(sink.url.strip_prefix("udp://").unwrap()).unwrap();
    socket.send(b"<13>hello").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    socket.send(b"<13>world").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    sink.signal(Signal::SIGTERM);
    let (_, seen) = sink.report();
    // None of ours at all: what came has a rate all the same.
    assert_counts(&seen, &[("/unmarked", 2)]);
    assert!(seen["seconds"].as_f64().unwrap() > 0.0 && seen["rate"].as_f64().unwrap() > 0.0, "{seen:#}");
}

#[test]
fn a_sender_whose_clock_is_ahead_is_told_of() {
    let sink = Sink::start("tcp", &["--expect", "200"]);
    // Due, says every mark, centuries from now.
    let script = format!("sed -E 's/( lg=.{{14}}\\.)1/\\17/' | exec {LOADGEN} floor-child --to {}", sink.url);
    let output = Command::new(LOADGEN)
        .args(["--to", "none", "--count", "200", "--settle", "0", "--", "/bin/sh", "-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (_, seen) = sink.report();
    assert_counts(&seen, &[("/received", 200), ("/sink/ahead", 200)]);
}

#[test]
fn a_sink_that_is_ended_takes_what_has_arrived() {
    // It does nothing until all is in its socket and it was told to end.
    let sink = Sink::start("tcp", &["--stall", "0s:3s", "--linger", "20s"]);
    let (code, sent, said) = send(&["--to", &sink.url, "--count", "20000", "--linger", "0"]);
    assert_eq!((code, &sent["sent"]), (Some(0), &20_000.into()), "{said}");
    sink.signal(Signal::SIGTERM);
    let (code, seen) = sink.report();
    assert_eq!((code, &seen["received"]), (Some(0), &20_000.into()), "{seen:#}");
}
