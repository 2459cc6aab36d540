//! The relay against a real rsyslogd by RELP: what rsyslogd has answered it has, so that nothing is missing
//! however and whenever it ends; what comes twice says so by its sequenceId.
//!
//! imrelp is librelp, the protocol's reference; each of its two TLS libraries and both Debian's and the newest
//! version take part.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/capture.rs"]
mod capture;
#[path = "support/live.rs"]
mod live;
#[path = "support/pki.rs"]
mod pki;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use capture::{
    Arrival, HOST, assert_same, capture, check_headers, count, rounds, sequence_ids, texts, texts_of,
};
use live::{Inlet, Need, Queue, Relay, RelpLibrary, Rsyslogd, System, TlsFiles};
use pki::{Kind, Pki};

/// A receiver's certificate, and what the relay needs for it.
struct Secrets {
    files: TlsFiles,
    pki: Pki,
}

impl Secrets {
    fn new(dir: &Path) -> Self {
        let pki = Pki::new(&dir.join("pki"));
        let server = pki.server("server", Kind::Good);
        let files = TlsFiles { ca: pki.ca_file(), certificate: server.certificate, key: server.key };
        Self { files, pki }
    }

    /// The relay's options for an inlet.
    fn options(&self, inlet: Inlet) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut options = vec!["--hostname".to_owned(), HOST.to_owned()];
        if inlet != Inlet::Relp {
            options.extend(["--tls-ca".to_owned(), path(&self.files.ca)]);
        }
        if inlet.demands_certificate() {
            let client = self.pki.client("client", Kind::Good);
            options.extend(["--tls-cert".to_owned(), path(&client.certificate)]);
            options.extend(["--tls-key".to_owned(), path(&client.key)]);
        }
        options
    }
}

fn can_run(system: System) -> bool {
    let sid = [Need::Root, Need::Sid, Need::Program("unshare")];
    live::have(&[Need::Program("rsyslogd"), Need::Program("setpriv")])
        && (system == System::Host || live::have(&sid))
}

/// The whole capture through one inlet.
fn delivers_all(system: System, inlet: Inlet, library: RelpLibrary, more: &[&str]) {
    if !can_run(system) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path());
    let rsyslogd = Rsyslogd::start_secure(system, dir.path(), &secrets.files, library, Queue::Memory);
    let lines = capture();
    let expected = texts(&lines);
    let options = secrets.options(inlet);
    let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();

    let mut relay = Relay::start(dir.path(), &rsyslogd.url(inlet), &options);
    let pid = relay.pid();
    relay.feed(&lines);
    let (status, report) = relay.finish();
    let messages = rsyslogd.wait_for(expected.len(), Duration::from_secs(20));

    assert!(status.success(), "{status}: {report:?}");
    assert_same(&texts_of(&messages), &expected);
    check_headers(&messages, pid);
    assert_eq!(sequence_ids(&messages), (1..=count(expected.len())).collect::<Vec<_>>());
    report.check_sum();
    assert_eq!((report.read, report.undecodable), (count(lines.len()), 0));
    assert_eq!(report.destinations[0].sent, count(expected.len()), "{report:?}");
    assert_eq!(report.destinations[0].replayed, 0, "{report:?}");
}

macro_rules! delivers_all {
    ($($host:ident $sid:ident: $inlet:ident $library:ident $options:expr;)*) => {$(
        #[test]
        fn $host() {
            delivers_all(System::Host, Inlet::$inlet, RelpLibrary::$library, &$options);
        }

        #[test]
        fn $sid() {
            delivers_all(System::Sid, Inlet::$inlet, RelpLibrary::$library, &$options);
        }
    )*};
}

delivers_all! {
    plain plain_newest: Relp OpenSsl [];
    two_at_a_time two_at_a_time_newest: Relp OpenSsl ["--relp-window", "2"];
    tls_openssl tls_openssl_newest: RelpTls OpenSsl [];
    tls_openssl_client_certificate tls_openssl_client_certificate_newest: RelpTlsClient OpenSsl [];
    tls_gnutls_client_certificate tls_gnutls_client_certificate_newest: RelpTlsClient GnuTls [];
}

/// How the receiver ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// SIGTERM: it writes what it has in memory.
    Stop,
    /// SIGKILL: it does not, so it must not have answered before it wrote.
    Kill,
}

/// rsyslogd ends three times while records pour in, and comes back each time.
fn misses_nothing(inlet: Inlet, end: End) {
    if !can_run(System::Host) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path());
    let queue = if end == End::Stop { Queue::Memory } else { Queue::Direct };
    let mut rsyslogd =
        Rsyslogd::start_secure(System::Host, dir.path(), &secrets.files, RelpLibrary::OpenSsl, queue);
    let rounds = rounds(12);
    let fed: Vec<String> = rounds.iter().flat_map(|round| texts(round)).collect();
    let options = secrets.options(inlet);
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    // What the receiver has not taken when the feed ends takes it longer than the usual 2 s.
    options.extend(["--drain-timeout", "30s"]);
    let mut relay = Relay::start(dir.path(), &rsyslogd.url(inlet), &options);
    let pid = relay.pid();

    for part in rounds.chunks(3) {
        part.iter().for_each(|round| relay.feed(round));
        if part.last() == rounds.last() {
            break;
        }
        // In the middle of it: some of this part is there, and more is to come.
        let before = rsyslogd.messages().len();
        let fed = part.iter().map(|round| texts(round).len()).sum::<usize>();
        let there = live::wait_until(Duration::from_secs(30), || rsyslogd.messages().len() > before + 100);
        assert!(there, "nothing arrives of a part of {fed}");
        match end {
            End::Stop => rsyslogd.stop(),
            End::Kill => rsyslogd.kill(),
        }
        assert!(relay.is_running(), "the relay ended with its receiver");
        rsyslogd.start_again();
    }
    let (status, report) = relay.finish();
    let messages = rsyslogd.wait_for(fed.len(), Duration::from_secs(30));
    assert!(status.success(), "{status}: {report:?}");

    let arrival = Arrival::judge(&fed, &texts_of(&messages));
    println!("{inlet:?} {end:?}: {} records, {} twice; {report:?}", fed.len(), arrival.doubled);
    assert_eq!(arrival.missing(), 0, "{report:?}");
    check_headers(&messages, pid);
    // A record that comes again has the number that it had.
    let place: HashMap<&str, u64> = fed.iter().map(String::as_str).zip(1..).collect();
    for (message, id) in messages.iter().zip(sequence_ids(&messages)) {
        assert_eq!(id, place[message.text()], "{message:?}");
    }
    report.check_sum();
    let destination = &report.destinations[0];
    assert_eq!((destination.sent, destination.lost()), (count(fed.len()), 0), "{report:?}");
    assert!(destination.reconnects >= 3, "{report:?}");
    assert!(arrival.doubled <= destination.replayed, "{} twice: {report:?}", arrival.doubled);
}

#[test]
fn plain_receiver_stops_under_load() {
    misses_nothing(Inlet::Relp, End::Stop);
}

#[test]
fn plain_receiver_is_killed_under_load() {
    misses_nothing(Inlet::Relp, End::Kill);
}

#[test]
fn tls_receiver_stops_under_load() {
    misses_nothing(Inlet::RelpTls, End::Stop);
}

#[test]
fn tls_receiver_is_killed_under_load() {
    misses_nothing(Inlet::RelpTls, End::Kill);
}
