//! A small RELP client against the sinks `relp` and `relps` of the real binary: what it is answered, byte by byte,
//! and what the report says afterwards.
//!
//! The program under test only stores the records and waits; the client, in this process, reads them from there.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

const COUNT: usize = 3000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a sink is, and the records that are to get there.
struct Sink {
    relps: bool,
    port: u16,
    ca: PathBuf,
    records: Vec<Vec<u8>>,
}

/// Runs the load generator with a RELP sink and `client` as the one who talks to it. Returns exit code and report.
fn run(to: &str, client: impl FnOnce(Sink)) -> (Option<i32>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let script = format!(
        "cd {} && cat >records && echo {{port}},{{ca}} >new && mv new where && until test -e done; do sleep 0.02; done",
        directory.path().display()
    );
    let count = COUNT.to_string();
    let mut loadgen = Command::new(env!("CARGO_BIN_EXE_audit-loadgen"))
        .args([
            "--to", to, "--count", &count, "--feed", "pipe", "--settle", "0", "--linger", "200ms", "--json",
        ])
        .arg(at("report"))
        .args(["--", "/bin/sh", "-c", &script])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let place = wait_for(&at("where"));
    let (port, ca) = place.trim_end().split_once(',').unwrap();
    let records = fs::read(at("records")).unwrap();
    client(Sink {
        relps: to == "relps",
        port: port.parse().unwrap(),
        ca: ca.into(),
        records: records.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect(),
    });
    fs::write(at("done"), "").unwrap();
    let code = loadgen.wait().unwrap().code();
    (code, serde_json::from_str(&fs::read_to_string(at("report")).unwrap()).unwrap())
}

fn wait_for(path: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            return text;
        }
        assert!(Instant::now() < deadline, "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A RELP session; TLS beneath it or not.
struct Client {
    stream: Box<dyn Stream>,
    /// The same socket, to be closed without a word of TLS.
    socket: TcpStream,
    last_txnr: usize,
}

impl Client {
    /// Connects and opens a session.
    fn open(sink: &Sink) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", sink.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let below = socket.try_clone().unwrap();
        let stream: Box<dyn Stream> =
            if sink.relps { Box::new(encrypted(below, &sink.ca)) } else { Box::new(below) };
        let mut client = Self { stream, socket, last_txnr: 0 };
        client.frame("open", b"relp_version=0\nrelp_software=test\ncommands=syslog", 7);
        client.expect("1 rsp 65 200 OK\nrelp_version=0\nrelp_software=audit-loadgen\ncommands=syslog\n");
        client
    }

    /// Sends a frame in pieces of `cut` bytes.
    fn frame(&mut self, command: &str, data: &[u8], cut: usize) {
        self.last_txnr += 1;
        let mut frame = format!("{} {command} {}", self.last_txnr, data.len()).into_bytes();
        if !data.is_empty() {
            frame.push(b' ');
            frame.extend_from_slice(data);
        }
        frame.push(b'\n');
        for piece in frame.chunks(cut) {
            self.stream.write_all(piece).unwrap();
        }
        self.stream.flush().unwrap();
    }

    /// Sends records, up to `window` of them ahead of the replies.
    fn send(&mut self, records: &[Vec<u8>], window: usize) {
        for records in records.chunks(window) {
            let first = self.last_txnr + 1;
            for record in records {
                let cut = if self.last_txnr.is_multiple_of(50) { 11 } else { 100_000 };
                self.frame("syslog", &[b"<13>", &record[..]].concat(), cut);
            }
            let replies: String =
                (first..=self.last_txnr).map(|txnr| format!("{txnr} rsp 6 200 OK\n")).collect();
            self.expect(&replies);
        }
    }

    fn expect(&mut self, text: &str) {
        let mut heard = vec![0; text.len()];
        self.stream.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), text);
    }

    /// The sink has closed, with TLS by close_notify, and said nothing more.
    fn expect_end(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0);
    }

    fn close(mut self) {
        self.frame("close", b"", 100);
        self.expect(&format!("{} rsp 0\n0 serverclose 0\n", self.last_txnr));
        self.expect_end();
    }
}

/// TLS on `socket`, trusting the certificates in `ca` only.
fn encrypted(socket: TcpStream, ca: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// Asserts that all records arrived once and the sink counted so many connections and errors.
fn assert_report(report: &Value, connections: u64, framing_errors: u64, tls_errors: u64) {
    for key in ["sent", "received"] {
        assert_eq!(report[key], COUNT, "{report:#}");
    }
    for (key, expected) in
        [("connections", connections), ("framing_errors", framing_errors), ("tls_errors", tls_errors)]
    {
        assert_eq!(report["sink"][key], expected, "{key}: {report:#}");
    }
}

#[test]
fn every_record_is_answered_and_counted() {
    for to in ["relp", "relps"] {
        for window in [128, COUNT] {
            let (code, report) = run(to, |sink| {
                let mut client = Client::open(&sink);
                client.send(&sink.records, window);
                client.close();
            });
            assert_eq!(code, Some(0));
            assert_report(&report, 1, 0, 0);
            assert_eq!(report["sink"]["unfinished_bytes"], 0);
            assert_eq!(report["duplicated"], 0);
        }
    }
}

#[test]
fn a_broken_frame_ends_the_connection_after_the_replies_to_those_before() {
    for to in ["relp", "relps"] {
        let (code, report) = run(to, |sink| {
            let (first, rest) = sink.records.split_at(1000);
            let mut client = Client::open(&sink);
            client.send(first, 100);
            client.stream.write_all(b"no frame\n").unwrap();
            client.stream.flush().unwrap();
            client.expect_end();

            let mut client = Client::open(&sink);
            client.send(rest, 100);
            client.close();
        });
        assert_eq!(code, Some(0));
        assert_report(&report, 2, 1, 0);
    }
}

#[test]
fn an_end_without_close_is_noticed_where_tls_forbids_it() {
    for (to, tls_errors) in [("relp", 0), ("relps", 1)] {
        let (code, report) = run(to, |sink| {
            let mut client = Client::open(&sink);
            client.send(&sink.records, 100);
            client.socket.shutdown(Shutdown::Both).unwrap();
        });
        assert_eq!(code, Some(0));
        assert_report(&report, 1, 0, tls_errors);
    }
}
