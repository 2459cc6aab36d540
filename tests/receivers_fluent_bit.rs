//! The configurations that are shipped for Fluent Bit. No registry has the program, so no machine of CI has it: what needs
//! it is `#[ignore]`d and run by hand, against a Fluent Bit that you have built or installed (docs/receivers.md says against
//! which one it was run):
//!
//!     AUDIT_RELAY_FLUENT_BIT=/usr/bin/fluent-bit cargo test --test receivers_fluent_bit -- --ignored --test-threads=1
//!
//! It fails where the variable is missing; it never passes without having run the program. What can be said of the files
//! without it is said always: that each is there, tried and documented, and that each key is one that Fluent Bit knows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
#[path = "support/pki.rs"]
mod pki;
#[path = "support/shipped.rs"]
mod shipped;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use live::{Relay, expected_text, free_tcp_ports, record_type, temp_dir, wait_until};
use pki::{Kind, Pki};
use shipped::ByHand;

const HOST: &str = "relay-test.example";

/// How a relay sends to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Tls,
    Socket,
}

/// Inputs that a relay sends to.
const INPUTS: &[(&str, Way)] = &[
    ("20-audit-udp.yaml", Way::Udp),
    ("20-audit-tcp.yaml", Way::Tcp),
    ("20-audit-tls.yaml", Way::Tls),
    ("20-audit-socket.yaml", Way::Socket),
];

/// Those that say where records go.
const BASES: &[&str] = &["10-audit.yaml", "10-audit-json.yaml"];

/// Complete by itself: local6 in one file, all else in another.
const SHARED: &str = "40-audit-shared.yaml";

/// One Fluent Bit to another: in place of a base, and the input at the other end.
const FORWARD: [&str; 2] = ["30-audit-forward.yaml", "20-audit-forward.yaml"];

/// The keys of each section that Fluent Bit 5.1.1 has, taken from the tables of its source that the program reads
/// them with, as far as they are in the files.
const KEYS: &[(&str, &[&str])] = &[
    ("service", &["flush", "storage.path", "storage.max_chunks_up"]),
    ("parsers", &["name", "format", "regex", "time_key", "time_format", "time_keep", "types"]),
    // Where an input's records go, by what they hold.
    ("logs", &["name"]),
    ("condition", &["op", "default"]),
    ("rules", &["field", "op", "value"]),
    (
        "inputs",
        &[
            "name",
            "tag",
            "mode",
            "listen",
            "port",
            "path",
            "unix_perm",
            "format",
            "parser",
            "source_address_key",
            "buffer_chunk_size",
            "buffer_max_size",
            "receive_buffer_size",
            "storage.type",
            "tls",
            "tls.verify",
            "tls.verify_client_cert",
            "tls.ca_file",
            "tls.crt_file",
            "tls.key_file",
        ],
    ),
    (
        "outputs",
        &[
            "name",
            "alias",
            "match",
            "path",
            "file",
            "format",
            "template",
            "retry_limit",
            "host",
            "port",
            "require_ack_response",
            "tls",
            "tls.verify",
            "tls.verify_hostname",
            "tls.ca_file",
            "tls.crt_file",
            "tls.key_file",
        ],
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/receivers/fluent-bit")
}

fn files() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap();
    let mut files: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort_unstable();
    files
}

/// The keys of a file of ours, with the section that each is in. As much YAML as the files are written in: a section on a
/// line of its own, a list of one level in it, one `key: value` a line.
fn keys(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        if line.trim_start().starts_with("- ") && !line.contains(": ") {
            continue;
        }
        let (key, value) = line.trim_start().trim_start_matches("- ").split_once(':').expect(line);
        if value.is_empty() {
            key.clone_into(&mut section);
        } else {
            found.push((section.clone(), key.to_owned()));
        }
    }
    found
}

#[test]
fn every_key_is_one_that_fluent_bit_has() {
    let mut seen = 0;
    for file in files() {
        for (section, key) in keys(&fs::read_to_string(folder().join(&file)).unwrap()) {
            let known = KEYS.iter().find(|(name, _)| *name == section);
            let known =
                known.unwrap_or_else(|| panic!("{file}: no section {section:?} is known ({key:?})")).1;
            assert!(known.contains(&key.as_str()), "{file}: {key:?} is not known in {section:?}");
            seen += 1;
        }
    }
    assert!(seen > 60, "only {seen} keys were found");
}

#[test]
fn every_file_is_tried_below_and_documented() {
    let mut tried: Vec<&str> = INPUTS.iter().map(|(file, _)| *file).collect();
    tried.extend(BASES);
    tried.extend(FORWARD);
    tried.push(SHARED);
    tried.sort_unstable();
    assert_eq!(files(), tried);
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receivers.md")).unwrap();
    for file in tried {
        assert!(page.contains(file), "docs/receivers.md does not say what {file} is for");
    }
}

#[test]
fn all_have_the_same_parser() {
    let parser = |file: &str| {
        let text = fs::read_to_string(folder().join(file)).unwrap();
        text.lines().find_map(|line| line.trim().strip_prefix("regex: ").map(str::to_owned)).expect(file)
    };
    for file in [BASES[1], FORWARD[0], SHARED] {
        assert_eq!(parser(file), parser(BASES[0]), "{file}");
    }
}

// ---------------------------------------------------------------------------------------------------------
// With the program

/// A Fluent Bit with these files in `dir`, the first of which it is started with.
fn start(dir: &Path, files: &[(&str, String)]) -> ByHand {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
    ByHand::start(dir, "AUDIT_RELAY_FLUENT_BIT", &["-c".into(), dir.join(files[0].0).into_os_string()])
}

/// Ports and paths of one run: what the files have, and what stands for it.
#[derive(Debug)]
struct Places {
    dir: PathBuf,
    port: u16,
    replace: Vec<(String, String)>,
}

impl Places {
    fn new(dir: &Path) -> Self {
        let here = dir.display();
        let port = free_tcp_ports(1)[0];
        let mut replace = vec![
            ("/etc/ssl/audit/".to_owned(), format!("{here}/pki/")),
            ("/var/lib/fluent-bit/audit".to_owned(), format!("{here}/storage")),
            ("path: /var/log".to_owned(), format!("path: {here}")),
            ("/run/audit.sock".to_owned(), format!("{here}/audit.sock")),
            ("logs.example.org".to_owned(), "localhost".to_owned()),
        ];
        for old in ["514", "601", "6514", "24224"] {
            replace.push((format!("port: {old}\n"), format!("port: {port}\n")));
        }
        Self { dir: dir.to_owned(), port, replace }
    }

    fn text(&self, file: &str) -> String {
        let replace: Vec<(&str, &str)> = self.replace.iter().map(|(from, to)| (&**from, &**to)).collect();
        shipped::substituted(&format!("fluent-bit/{file}"), &replace)
    }

    fn url(&self, way: Way) -> String {
        match way {
            Way::Udp => format!("udp://127.0.0.1:{}", self.port),
            Way::Tcp => format!("tcp://127.0.0.1:{}", self.port),
            Way::Tls => format!("tls://localhost:{}", self.port),
            Way::Socket => format!("unix:{}/audit.sock", self.dir.display()),
        }
    }

    fn is_there(&self, way: Way) -> bool {
        match way {
            Way::Socket => self.dir.join("audit.sock").exists(),
            _ => shipped::is_open(self.port, way == Way::Udp),
        }
    }

    /// What the records' file holds, once it has that many lines and no more come.
    fn lines(&self, count: usize) -> Vec<String> {
        let read = || fs::read(self.dir.join("audit-relay.log")).unwrap_or_default();
        let lines = |bytes: &[u8]| bytes.iter().filter(|&&b| b == b'\n').count();
        wait_until(Duration::from_secs(20), || lines(&read()) >= count);
        // One that is split would come behind, with the next flush.
        std::thread::sleep(Duration::from_millis(1500));
        let text = String::from_utf8(read()).expect("all that the relay sends is UTF-8");
        text.lines().map(str::to_owned).collect()
    }
}

/// A line of the records' file.
fn written(base: &str, line: &str) -> shipped::Written {
    if base == "10-audit.yaml" {
        // As rsyslog's template, but for the time of receiving, which Fluent Bit does not keep.
        return shipped::Written::read(&format!("- {line}"), shipped::Template::Text);
    }
    let object: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    let word = |name: &str| object.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    assert!(!word("from").is_empty() && !word("timestamp").is_empty() && !word("pid").is_empty(), "{line}");
    shipped::Written {
        pri: format!("<{}>1", word("pri")),
        host: word("host"),
        app: word("app"),
        kind: word("type"),
        sequence: word("sequence"),
        text: word("record"),
    }
}

/// Each record once, whole, in order, with its fields.
fn check(case: &str, base: &str, lines: &[String], records: &[Vec<u8>]) {
    let expected: Vec<String> =
        records.iter().map(|line| expected_text(line)).filter(|text| record_type(text) != "EOE").collect();
    for (n, (line, expected)) in lines.iter().zip(&expected).enumerate() {
        let got = written(base, line);
        assert_eq!(&got.text, expected, "{case}: record {n}");
        assert_eq!(
            (got.pri.as_str(), got.host.as_str(), got.app.as_str(), got.kind.as_str(), got.sequence),
            ("<182>1", HOST, "auditd", record_type(expected), (n + 1).to_string()),
            "{case}: record {n}"
        );
    }
    assert_eq!(lines.len(), expected.len(), "{case}");
}

#[test]
#[ignore = "needs Fluent Bit, which no registry has: see the head of this file"]
fn fluent_bit_takes_every_record_whole_by_each_way() {
    for base in BASES {
        for (file, way) in INPUTS {
            let case = format!("{base} {file}");
            let dir = temp_dir();
            let pki = Pki::new(&dir.path().join("pki"));
            let _ = pki.server("logs", Kind::Good);
            let places = Places::new(dir.path());
            let files = [(*base, places.text(base)), (*file, places.text(file))];
            let mut receiver = start(dir.path(), &files);
            receiver.listens(|| places.is_there(*way));
            let ca = pki.ca_file().display().to_string();
            let options: &[&str] = match way {
                Way::Tls => &["--tls-ca", &ca],
                Way::Socket => &["--format", "rfc5424"],
                _ => &[],
            };
            let records = shipped::records();
            receiver.send(&places.url(*way), options, &records);
            check(&case, base, &places.lines(records.len() - 200), &records);
            println!("{case}: as it should be");
        }
    }
}

#[test]
#[ignore = "needs Fluent Bit, which no registry has: see the head of this file"]
fn fluent_bit_admits_only_relays_with_a_certificate_where_it_is_told_to() {
    let dir = temp_dir();
    let pki = Pki::new(&dir.path().join("pki"));
    let _ = pki.server("logs", Kind::Good);
    let good = pki.client("relay", Kind::Good);
    let other = pki.client("other", Kind::OtherCa);
    let places = Places::new(dir.path());
    // As the file's head says.
    let told = places
        .text("20-audit-tls.yaml")
        .replace("tls.verify: off", "tls.verify: on")
        .replace("tls.verify_client_cert: off", "tls.verify_client_cert: on")
        .replace("# tls.ca_file:", "tls.ca_file:")
        .replace("/etc/ssl/audit/", &format!("{}/pki/", dir.path().display()));
    assert_eq!(told.matches(": on\n").count(), 3, "{told}");
    let mut receiver = start(dir.path(), &[(BASES[0], places.text(BASES[0])), ("20-audit-tls.yaml", told)]);
    receiver.listens(|| places.is_there(Way::Tls));
    let ca = pki.ca_file().display().to_string();
    let records = shipped::records();
    for client in [None, Some(&other)] {
        let mut options = vec!["--hostname", HOST, "--tls-ca", &ca, "--drain-timeout", "1s"];
        let (cert, key);
        if let Some(client) = client {
            (cert, key) = (client.certificate.display().to_string(), client.key.display().to_string());
            options.extend(["--tls-cert", &cert, "--tls-key", &key]);
        }
        let mut relay = Relay::start(dir.path(), &places.url(Way::Tls), &options);
        relay.feed(&records[..10]);
        // What it says of its last moment is not the point here: with so short a time it may end in a session that has just begun.
        relay.finish();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!dir.path().join("audit-relay.log").exists(), "{client:?} was admitted");
    }
    let (cert, key) = (good.certificate.display().to_string(), good.key.display().to_string());
    let options = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    receiver.send(&places.url(Way::Tls), &options, &records);
    check("with a certificate", BASES[0], &places.lines(records.len() - 200), &records);
}

#[test]
#[ignore = "needs Fluent Bit, which no registry has: see the head of this file"]
fn fluent_bit_sends_on_to_another() {
    let (here, there) = (temp_dir(), temp_dir());
    let pki = Pki::new(&there.path().join("pki"));
    let _ = pki.server("logs", Kind::Good);
    let centre = Places::new(there.path());
    let [forward, input] = FORWARD;
    let files = [(BASES[0], centre.text(BASES[0])), (input, centre.text(input))];
    let mut receiver = start(there.path(), &files);
    receiver.listens(|| centre.is_there(Way::Tcp));

    let host = Places::new(here.path());
    let _ = pki.client("host", Kind::Good);
    fs::create_dir(here.path().join("pki")).unwrap();
    for file in ["ca.pem", "host.pem", "host.key"] {
        fs::copy(there.path().join("pki").join(file), here.path().join("pki").join(file)).unwrap();
    }
    let base =
        host.text(forward).replace(&format!("port: {}\n", host.port), &format!("port: {}\n", centre.port));
    let mut local =
        start(here.path(), &[(forward, base), ("20-audit-tcp.yaml", host.text("20-audit-tcp.yaml"))]);
    local.listens(|| host.is_there(Way::Tcp));
    let records = shipped::records();
    local.send(&host.url(Way::Tcp), &[], &records);
    check("forwarded", BASES[0], &centre.lines(records.len() - 200), &records);
}

#[test]
#[ignore = "needs Fluent Bit, which no registry has: see the head of this file"]
fn fluent_bit_keeps_local6_apart_on_a_port_that_others_use() {
    let dir = temp_dir();
    let places = Places::new(dir.path());
    let mut receiver = start(dir.path(), &[(SHARED, places.text(SHARED))]);
    receiver.listens(|| places.is_there(Way::Tcp));
    let records = shipped::records();
    let others = ["--facility", "local5"];
    receiver.send(&places.url(Way::Tcp), &others, &records[..20]);
    receiver.send(&places.url(Way::Tcp), &[], &records);
    check("shared", BASES[0], &places.lines(records.len() - 200), &records);
    let rest = fs::read_to_string(dir.path().join("others.log")).unwrap();
    assert!(rest.lines().all(|line| line.contains("\"pri\":174")), "{rest}");
    assert_eq!(
        rest.lines().count(),
        records[..20].iter().filter(|line| !line.starts_with(b"type=EOE")).count()
    );
}

/// What docs/receivers.md says of settings that are not in the files. The day one of these fails, it can say less.
#[test]
#[ignore = "needs Fluent Bit, which no registry has: see the head of this file"]
fn fluent_bit_loses_what_its_memory_does_not_take_and_does_not_say_how_much() {
    let storage = "storage.type: filesystem";
    for (name, base, input) in [
        ("mem_buf_limit", &[][..], (storage, "storage.type: memory\n      mem_buf_limit: 1M")),
        (
            "pause_on_chunks_overlimit",
            &[("max_chunks_up: 128", "max_chunks_up: 2")][..],
            (storage, "storage.type: filesystem\n      storage.pause_on_chunks_overlimit: on"),
        ),
        (
            "rewrite_tag",
            &[(
                "  outputs:\n",
                "  filters:\n    - name: rewrite_tag\n      match: syslog\n      rule: $pri ^182$ audit false\n      \
                 emitter_mem_buf_limit: 1M\n  outputs:\n",
            )][..],
            ("tag: audit", "tag: syslog"),
        ),
    ] {
        let dir = temp_dir();
        let places = Places::new(dir.path());
        let edited = |file: &str, edits: &[(&str, &str)]| {
            edits.iter().fold(places.text(file), |text, (from, to)| {
                assert!(text.contains(from), "{file}: {from}");
                text.replace(from, to)
            })
        };
        let files = [
            (BASES[0], edited(BASES[0], base)),
            ("20-audit-tcp.yaml", edited("20-audit-tcp.yaml", &[input])),
        ];
        let mut receiver = start(dir.path(), &files);
        receiver.listens(|| places.is_there(Way::Tcp));
        let records: Vec<Vec<u8>> = (0..100_000)
            .map(|n| {
                format!("type=USER_CMD msg=audit(1795424551.650:{n}): pid=1 {}", "x".repeat(250)).into_bytes()
            })
            .collect();
        receiver.send(&places.url(Way::Tcp), &[], &records);
        let arrived = places.lines(records.len()).len();
        println!("{name}: {arrived} of {} arrived, all were sent", records.len());
        assert!(arrived < records.len(), "{name} loses nothing any more");
    }
}

#[test]
#[ignore = "needs Fluent Bit, which no registry has: see the head of this file"]
fn fluent_bit_without_octet_counting_takes_everything_and_writes_nothing() {
    let dir = temp_dir();
    let places = Places::new(dir.path());
    let input = places.text("20-audit-tcp.yaml").replace("      format: octet_counting\n", "");
    let mut receiver = start(dir.path(), &[(BASES[0], places.text(BASES[0])), ("20-audit-tcp.yaml", input)]);
    receiver.listens(|| places.is_there(Way::Tcp));
    let records = shipped::records();
    receiver.send(&places.url(Way::Tcp), &[], &records[..50]);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!dir.path().join("audit-relay.log").exists());
    assert!(
        !receiver.said().contains("[error]") && !receiver.said().contains("parsing"),
        "{}",
        receiver.said()
    );
    receiver.send(&places.url(Way::Tcp), &["--framing", "lf"], &records);
    check("lf", BASES[0], &places.lines(records.len() - 200), &records);
}
