//! The configurations that are shipped for Vector. No registry has the program, so no machine of CI has it: what needs
//! it is `#[ignore]`d and run by hand, against a Vector that you have built or installed (docs/receivers.md says against
//! which one it was run):
//!
//!     AUDIT_RELAY_VECTOR=/usr/bin/vector cargo test --test receivers_vector -- --ignored --test-threads=1
//!
//! It fails where the variable is missing; it never passes without having run the program. What can be said of the files
//! without it is said always: that each is there, tried and documented, and that each key is one that Vector knows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
#[path = "support/pki.rs"]
mod pki;
#[path = "support/shipped.rs"]
mod shipped;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use live::{Relay, expected_text, free_tcp_ports, record_type, temp_dir, wait_until};
use pki::{Kind, Pki};
use shipped::ByHand;

const HOST: &str = "relay-test.example";

/// Says where records go.
const BASE: &str = "10-audit.yaml";

/// How a relay sends to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Tls,
    Stream,
}

/// Sources that a relay sends to.
const SOURCES: &[(&str, Way)] = &[
    ("20-audit-udp.yaml", Way::Udp),
    ("20-audit-tcp.yaml", Way::Tcp),
    ("20-audit-tls.yaml", Way::Tls),
    ("20-audit-stream.yaml", Way::Stream),
];

/// The keys that Vector 0.58.0 has, as far as they are in the files: those that name something of ours aside.
const KEYS: &[&str] = &[
    "sinks",
    "sources",
    "type",
    "inputs",
    "path",
    "encoding",
    "codec",
    "buffer",
    "max_events",
    "when_full",
    "mode",
    "address",
    "max_length",
    "receive_buffer_bytes",
    "socket_file_mode",
    "tls",
    "enabled",
    "verify_certificate",
    "crt_file",
    "key_file",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/receivers/vector")
}

#[test]
fn every_file_is_tried_below_and_documented_and_every_key_is_one_that_vector_has() {
    let names =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = names.collect();
    files.sort_unstable();
    let mut tried: Vec<&str> = SOURCES.iter().map(|(file, _)| *file).chain([BASE]).collect();
    tried.sort_unstable();
    assert_eq!(files, tried);
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receivers.md")).unwrap();
    for file in &files {
        assert!(page.contains(file.as_str()), "docs/receivers.md does not say what {file} is for");
        let text = fs::read_to_string(folder().join(file)).unwrap();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key = line.split_once(':').expect(line).0;
            assert!(KEYS.contains(&key) || key.starts_with("audit"), "{file}: {key:?} is not known");
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// With the program

/// A Vector with these files, and what they were made to name.
#[derive(Debug)]
struct Vector {
    program: ByHand,
    dir: PathBuf,
    port: u16,
}

impl Vector {
    fn start(dir: &Path, source: &str, way: Way, change: impl Fn(String) -> String) -> Self {
        let (here, port) = (dir.display(), free_tcp_ports(1)[0]);
        let replace = [
            ("/etc/ssl/audit/".to_owned(), format!("{here}/pki/")),
            ("/var/log/".to_owned(), format!("{here}/")),
            ("/run/".to_owned(), format!("{here}/")),
            ("0.0.0.0:514".to_owned(), format!("127.0.0.1:{port}")),
            ("0.0.0.0:601".to_owned(), format!("127.0.0.1:{port}")),
            ("0.0.0.0:6514".to_owned(), format!("127.0.0.1:{port}")),
        ];
        let replace: Vec<(&str, &str)> = replace.iter().map(|(from, to)| (&**from, &**to)).collect();
        let mut arguments = Vec::new();
        for file in [BASE, source] {
            let text = change(shipped::substituted(&format!("vector/{file}"), &replace));
            fs::write(dir.join(file), text).unwrap();
            arguments.extend(["-c".into(), dir.join(file).into_os_string()]);
        }
        let mut program = ByHand::start(dir, "AUDIT_RELAY_VECTOR", &arguments);
        program.listens(|| match way {
            Way::Stream => dir.join("audit-vector.sock").exists(),
            _ => shipped::is_open(port, way == Way::Udp),
        });
        Self { program, dir: dir.to_owned(), port }
    }

    fn url(&self, way: Way) -> String {
        match way {
            Way::Udp => format!("udp://127.0.0.1:{}", self.port),
            Way::Tcp => format!("tcp://127.0.0.1:{}", self.port),
            Way::Tls => format!("tls://localhost:{}", self.port),
            Way::Stream => format!("unix-stream:{}/audit-vector.sock", self.dir.display()),
        }
    }

    /// Each record once, whole, in order, with its fields.
    fn check(&self, case: &str, records: &[Vec<u8>], has_fields: bool) {
        let expected =
            records.iter().map(|line| expected_text(line)).filter(|text| record_type(text) != "EOE");
        let expected: Vec<String> = expected.collect();
        let read = || fs::read_to_string(self.dir.join("audit-relay.json")).unwrap_or_default();
        wait_until(Duration::from_secs(20), || read().lines().count() >= expected.len());
        std::thread::sleep(Duration::from_millis(500));
        let text = read();
        for (n, (line, expected)) in text.lines().zip(&expected).enumerate() {
            let got: serde_json::Value = serde_json::from_str(line).unwrap();
            let word =
                |pointer: &str| got.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
            // Blanks at the end are taken off.
            assert_eq!(word("/message"), expected.trim_end(), "{case}: record {n}");
            assert_eq!(
                (word("/facility"), word("/severity"), word("/appname")),
                ("local6", "info", "auditd")
            );
            if has_fields {
                let sequence = (n + 1).to_string();
                let fields = (word("/hostname"), word("/msgid"), word("/meta/sequenceId"));
                assert_eq!(fields, (HOST, record_type(expected), &*sequence), "{case}: record {n}");
                assert!(word("/timestamp").starts_with("20") && word("/timestamp").ends_with('Z'), "{line}");
            }
        }
        assert_eq!(text.lines().count(), expected.len(), "{case}: {}", self.program.said());
    }
}

#[test]
#[ignore = "needs Vector, which no registry has: see the head of this file"]
fn vector_takes_every_record_whole_by_each_way() {
    for (file, way) in SOURCES {
        for framing in ["octet", "lf"] {
            if framing == "lf" && *way != Way::Tcp {
                continue;
            }
            let dir = temp_dir();
            let pki = Pki::new(&dir.path().join("pki"));
            let _ = pki.server("logs", Kind::Good);
            let vector = Vector::start(dir.path(), file, *way, |text| text);
            let ca = pki.ca_file().display().to_string();
            let options: &[&str] = match way {
                Way::Tls => &["--tls-ca", &ca],
                Way::Tcp => &["--framing", framing],
                Way::Stream => &["--format", "rfc5424"],
                Way::Udp => &[],
            };
            let records = shipped::records();
            vector.program.send(&vector.url(*way), options, &records);
            vector.check(file, &records, true);
            println!("{file} {options:?}: as it should be");
        }
    }
}

#[test]
#[ignore = "needs Vector, which no registry has: see the head of this file"]
fn vector_admits_only_relays_with_a_certificate_where_it_is_told_to() {
    let dir = temp_dir();
    let pki = Pki::new(&dir.path().join("pki"));
    let _ = pki.server("logs", Kind::Good);
    let (good, other) = (pki.client("relay", Kind::Good), pki.client("other", Kind::OtherCa));
    // As the file's head says.
    let told = |text: String| {
        text.replace("verify_certificate: false", "verify_certificate: true")
            .replace("# ca_file:", "ca_file:")
    };
    let vector = Vector::start(dir.path(), "20-audit-tls.yaml", Way::Tls, told);
    let ca = pki.ca_file().display().to_string();
    let records = shipped::records();
    for client in [None, Some(&other)] {
        let mut options = vec!["--hostname", HOST, "--tls-ca", &ca, "--drain-timeout", "2s"];
        let (cert, key);
        if let Some(client) = client {
            (cert, key) = (client.certificate.display().to_string(), client.key.display().to_string());
            options.extend(["--tls-cert", &cert, "--tls-key", &key]);
        }
        let mut relay = Relay::start(dir.path(), &vector.url(Way::Tls), &options);
        relay.feed(&records[..10]);
        let (status, report) = relay.finish();
        assert_eq!(status.code(), Some(75), "{client:?} was admitted: {report:?}");
        assert_eq!(
            fs::read_to_string(dir.path().join("audit-relay.json")).unwrap_or_default(),
            "",
            "{client:?}"
        );
    }
    let (cert, key) = (good.certificate.display().to_string(), good.key.display().to_string());
    let options = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    vector.program.send(&vector.url(Way::Tls), &options, &records);
    vector.check("with a certificate", &records, true);
}

/// A local stream gets the old form by default.
#[test]
#[ignore = "needs Vector, which no registry has: see the head of this file"]
fn vector_reads_the_old_form_too() {
    let dir = temp_dir();
    let vector = Vector::start(dir.path(), "20-audit-stream.yaml", Way::Stream, |text| text);
    let records = shipped::records();
    vector.program.send(&vector.url(Way::Stream), &[], &records);
    vector.check("RFC 3164", &records, false);
}
