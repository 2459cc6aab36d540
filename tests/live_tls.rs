//! The relay against real TLS receivers: rsyslogd through GnuTLS and through OpenSSL, syslog-ng, and the servers
//! that come with the two libraries. What arrives is every record, once, whole, in order, and the ends of the
//! connection are in order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/capture.rs"]
mod capture;
#[path = "support/live.rs"]
mod live;
#[path = "support/syslog_ng.rs"]
mod syslog_ng;
#[path = "support/tls_programs.rs"]
mod tls_programs;

mod support;

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use capture::{
    Arrival, HOST, assert_same, capture, check_headers, count, rounds, sequence_ids, sockets_hold, texts,
    texts_of,
};
use live::{Inlet, Message, Need, Queue, Relay, RelpLibrary, Report, Rsyslogd, System, TlsFiles};
use support::network::Network;
use support::pki::{Identity, Kind, OTHER_NAME, Pki};
use support::sink::Framing;
use syslog_ng::{NgInlet, SyslogNg};
use tls_programs::{TlsProgram, Version};

/// A receiver's certificate, and what the relay needs for it.
struct Secrets {
    pki: Pki,
    server: Identity,
}

impl Secrets {
    fn new(dir: &Path, kind: Kind) -> Self {
        let pki = Pki::new(&dir.join("pki"));
        let server = pki.server("server", kind);
        Self { pki, server }
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.pki.ca_file(),
            certificate: self.server.certificate.clone(),
            key: self.server.key.clone(),
        }
    }

    /// The relay's options for a receiver that it knows by the authority.
    fn options(&self, client_certificate: bool) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut options = vec!["--tls-ca".to_owned(), path(&self.pki.ca_file())];
        if client_certificate {
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

/// A relay with the whole capture behind it.
struct Run {
    pid: u32,
    status: ExitStatus,
    report: Report,
    /// The texts that have to arrive.
    expected: Vec<String>,
}

/// Feeds the whole capture to a relay and waits for its end.
fn relay_capture(dir: &Path, url: &str, options: &[String]) -> Run {
    let lines = capture();
    let expected = texts(&lines);
    let options: Vec<&str> = options.iter().map(String::as_str).chain(["--hostname", HOST]).collect();
    let mut relay = Relay::start(dir, url, &options);
    let pid = relay.pid();
    relay.feed(&lines);
    let (status, report) = relay.finish();
    report.check_sum();
    assert_eq!((report.read, report.undecodable), (count(lines.len()), 0));
    Run { pid, status, report, expected }
}

impl Run {
    /// Every record has been sent, once.
    #[track_caller]
    fn check_all_sent(&self) {
        assert!(self.status.success(), "{}: {:?}", self.status, self.report);
        let destination = &self.report.destinations[0];
        assert_eq!(destination.sent, count(self.expected.len()), "{:?}", self.report);
        assert_eq!((destination.lost(), destination.replayed), (0, 0), "{:?}", self.report);
    }

    /// And has arrived.
    #[track_caller]
    fn check_all_arrived(&self, messages: &[Message]) {
        self.check_all_sent();
        assert_same(&texts_of(messages), &self.expected);
        check_headers(messages, self.pid);
        assert_eq!(sequence_ids(messages), (1..=count(self.expected.len())).collect::<Vec<_>>());
    }
}

// ---------------------------------------------------------------------------------------------------------
// rsyslogd

/// The whole capture through one inlet.
fn rsyslogd_gets_all(system: System, inlet: Inlet) {
    if !can_run(system) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path(), Kind::Good);
    let rsyslogd =
        Rsyslogd::start_secure(system, dir.path(), &secrets.files(), RelpLibrary::OpenSsl, Queue::Memory);
    let options = secrets.options(inlet.demands_certificate());
    let run = relay_capture(dir.path(), &rsyslogd.url(inlet), &options);
    run.check_all_arrived(&rsyslogd.wait_for(run.expected.len(), Duration::from_secs(20)));
}

macro_rules! rsyslogd_gets_all {
    ($($host:ident $sid:ident: $inlet:ident;)*) => {$(
        #[test]
        fn $host() {
            rsyslogd_gets_all(System::Host, Inlet::$inlet);
        }

        #[test]
        fn $sid() {
            rsyslogd_gets_all(System::Sid, Inlet::$inlet);
        }
    )*};
}

rsyslogd_gets_all! {
    gnutls gnutls_newest: TlsGtls;
    gnutls_normal_priority gnutls_normal_priority_newest: TlsGtlsNormal;
    gnutls_client_certificate gnutls_client_certificate_newest: TlsGtlsClient;
    openssl openssl_newest: TlsOssl;
    openssl_client_certificate openssl_client_certificate_newest: TlsOsslClient;
    openssl_client_name openssl_client_name_newest: TlsOsslName;
}

/// A receiver whose certificate is `kind`, known by other means than its name and authority.
fn rsyslogd_is_known_by(kind: Kind, options: impl FnOnce(&Secrets) -> Vec<String>) {
    if !can_run(System::Host) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path(), kind);
    let rsyslogd = Rsyslogd::start_secure(
        System::Host,
        dir.path(),
        &secrets.files(),
        RelpLibrary::OpenSsl,
        Queue::Memory,
    );
    let run = relay_capture(dir.path(), &rsyslogd.url(Inlet::TlsOssl), &options(&secrets));
    run.check_all_arrived(&rsyslogd.wait_for(run.expected.len(), Duration::from_secs(20)));
}

#[test]
fn a_self_signed_receiver_is_known_by_its_pin() {
    rsyslogd_is_known_by(Kind::SelfSigned, |secrets| vec!["--tls-pin".to_owned(), secrets.server.pin()]);
}

#[test]
fn a_receiver_is_known_by_pin_and_authority() {
    rsyslogd_is_known_by(Kind::Good, |secrets| {
        [secrets.options(false), vec!["--tls-pin".to_owned(), secrets.server.pin()]].concat()
    });
}

#[test]
fn a_receiver_is_known_by_the_name_that_is_said() {
    rsyslogd_is_known_by(Kind::OtherName, |secrets| {
        [secrets.options(false), vec!["--tls-name".to_owned(), OTHER_NAME.to_owned()]].concat()
    });
}

/// Whom the relay must not talk to gets nothing; who does not want to talk to the relay has nothing, and the
/// relay knows that it has not.
fn nothing_arrives(kind: Kind, inlet: Inlet) {
    if !can_run(System::Host) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path(), kind);
    let rsyslogd = Rsyslogd::start_secure(
        System::Host,
        dir.path(),
        &secrets.files(),
        RelpLibrary::OpenSsl,
        Queue::Memory,
    );
    let mut options = secrets.options(false);
    options.extend(["--drain-timeout".to_owned(), "2s".to_owned()]);
    let run = relay_capture(dir.path(), &rsyslogd.url(inlet), &options);
    assert_eq!(rsyslogd.messages().len(), 0);
    let destination = &run.report.destinations[0];
    // Where the receiver refuses, the handshake is over for a client of TLS 1.3 and records may be on their way.
    if !inlet.demands_certificate() {
        assert_eq!(
            (destination.sent, destination.lost()),
            (0, count(run.expected.len())),
            "{:?}",
            run.report
        );
    }
}

#[test]
fn an_expired_receiver_gets_nothing() {
    nothing_arrives(Kind::Expired, Inlet::TlsOssl);
}

#[test]
fn a_receiver_of_another_authority_gets_nothing() {
    nothing_arrives(Kind::OtherCa, Inlet::TlsGtls);
}

#[test]
fn a_receiver_of_another_name_gets_nothing() {
    nothing_arrives(Kind::OtherName, Inlet::TlsOssl);
}

#[test]
fn a_receiver_through_openssl_refuses_a_relay_without_certificate() {
    nothing_arrives(Kind::Good, Inlet::TlsOsslClient);
}

#[test]
fn a_receiver_through_gnutls_refuses_a_relay_without_certificate() {
    nothing_arrives(Kind::Good, Inlet::TlsGtlsClient);
}

/// rsyslogd is stopped and started while records pour in: `margin` is what `--replay` is told.
fn survives_a_restart_under_load(inlet: Inlet, margin: Option<&str>) {
    if !can_run(System::Host) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path(), Kind::Good);
    let mut rsyslogd = Rsyslogd::start_secure(
        System::Host,
        dir.path(),
        &secrets.files(),
        RelpLibrary::OpenSsl,
        Queue::Memory,
    );
    let rounds = rounds(20);
    let fed: Vec<String> = rounds.iter().flat_map(|round| texts(round)).collect();
    let mut options = secrets.options(false);
    options.extend(["--hostname".to_owned(), HOST.to_owned()]);
    // A margin is part of what the queue holds.
    options.extend(
        margin
            .into_iter()
            .flat_map(|margin| ["--queue-size", "256MiB", "--replay", margin].map(str::to_owned)),
    );
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut relay = Relay::start(dir.path(), &rsyslogd.url(inlet), &options);

    let (first, rest) = rounds.split_at(2);
    let (second, third) = rest.split_at(14);
    first.iter().for_each(|round| relay.feed(round));
    rsyslogd.wait_for(3000, Duration::from_secs(20));
    // Far more than can be on its way at once, and at once the stop.
    second.iter().for_each(|round| relay.feed(round));
    rsyslogd.stop();
    let stopped = rsyslogd.messages().len();
    let sent = fed.len() / rounds.len() * (first.len() + second.len());
    assert!(stopped < sent, "the receiver had all {stopped} before it stopped");
    assert!(relay.is_running(), "the relay ended with its receiver");
    rsyslogd.start_again();
    third.iter().for_each(|round| relay.feed(round));
    let (status, report) = relay.finish();
    assert!(status.success(), "{status}: {report:?}");
    // The last record of all: when it is there, so is all that is going to come.
    let last = fed.last().unwrap().clone();
    let arrived = || texts_of(&rsyslogd.messages());
    let complete = live::wait_until(Duration::from_secs(60), || arrived().contains(&last));
    assert!(complete, "the last record did not arrive: {report:?}");

    let arrival = Arrival::judge(&fed, &arrived());
    let missing = arrival.missing();
    println!(
        "{inlet:?} {margin:?}: {} records, {missing} missing, {} twice; {report:?}",
        fed.len(),
        arrival.doubled
    );
    report.check_sum();
    let back: usize = third.iter().map(|round| texts(round).len()).sum();
    assert!(
        arrival.seen[fed.len() - back..].iter().all(|&seen| seen),
        "records read after the return are missing"
    );
    let destination = &report.destinations[0];
    assert!(destination.lost() <= missing, "more reported lost than is missing: {report:?}");
    if margin.is_some() {
        assert_eq!(missing, 0, "{report:?}");
    } else {
        // What went unnoticed had left the relay and was in the sockets of a receiver that closed them.
        let (bytes, sockets) = (arrival.missing_bytes(&fed), sockets_hold());
        assert!(bytes <= sockets, "{bytes} bytes missing, sockets hold {sockets}");
    }
}

#[test]
fn gnutls_receiver_restarts_under_load() {
    survives_a_restart_under_load(Inlet::TlsGtls, None);
}

#[test]
fn openssl_receiver_restarts_under_load() {
    survives_a_restart_under_load(Inlet::TlsOssl, None);
}

/// The margin is more than the sockets of this machine can hold.
#[test]
fn with_a_margin_a_restart_under_load_costs_nothing() {
    let margin = sockets_hold() + (1 << 20);
    survives_a_restart_under_load(Inlet::TlsOssl, Some(&margin.to_string()));
}

// ---------------------------------------------------------------------------------------------------------
// syslog-ng

/// The whole capture through one inlet.
fn syslog_ng_gets_all(inlet: NgInlet) {
    if !live::have(&[Need::SyslogNg, Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path(), Kind::Good);
    let syslog_ng = SyslogNg::start(dir.path(), &secrets.files());
    let options = match inlet {
        NgInlet::Tls | NgInlet::TlsClient => secrets.options(inlet == NgInlet::TlsClient),
        NgInlet::Tcp | NgInlet::TcpLf | NgInlet::Udp | NgInlet::Unix => Vec::new(),
    };
    let run = relay_capture(dir.path(), &syslog_ng.url(inlet), &options);
    run.check_all_arrived(&syslog_ng.wait_for(run.expected.len(), Duration::from_secs(20)));
}

#[test]
fn syslog_ng_tcp() {
    syslog_ng_gets_all(NgInlet::Tcp);
}

#[test]
fn syslog_ng_tls() {
    syslog_ng_gets_all(NgInlet::Tls);
}

#[test]
fn syslog_ng_tls_client_certificate() {
    syslog_ng_gets_all(NgInlet::TlsClient);
}

/// syslog-ng stops between two records, is away while more are read, and comes back.
#[test]
fn syslog_ng_restarts_while_quiet() {
    if !live::have(&[Need::SyslogNg, Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path(), Kind::Good);
    let mut syslog_ng = SyslogNg::start(dir.path(), &secrets.files());
    let lines = capture();
    let (before, rest) = lines.split_at(2000);
    let (during, after) = rest.split_at(2000);
    let options = secrets.options(false);
    let options: Vec<&str> = options.iter().map(String::as_str).chain(["--hostname", HOST]).collect();
    let mut relay = Relay::start(dir.path(), &syslog_ng.url(NgInlet::Tls), &options);
    let pid = relay.pid();
    relay.feed(before);
    let early = texts(before).len();
    assert_eq!(syslog_ng.wait_for(early, Duration::from_secs(20)).len(), early);
    syslog_ng.stop();
    relay.feed(during);
    std::thread::sleep(Duration::from_millis(500));
    assert!(relay.is_running(), "the relay ended with its receiver");
    assert_eq!(syslog_ng.messages().len(), early);
    syslog_ng.start_again();
    relay.feed(after);
    let expected = texts(&lines);
    let messages = syslog_ng.wait_for(expected.len(), Duration::from_secs(30));
    let (status, report) = relay.finish();
    assert!(status.success(), "{status}: {report:?}");
    assert_same(&texts_of(&messages), &expected);
    check_headers(&messages, pid);
    report.check_sum();
    assert_eq!(report.destinations[0].lost(), 0, "{report:?}");
}

// ---------------------------------------------------------------------------------------------------------
// The libraries' own servers

/// The octet-counted stream, as OpenSSL prints it.
fn openssl_prints_all(version: Version, client_certificate: bool) {
    if !live::have(&[Need::Program("openssl"), Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let secrets = Secrets::new(dir.path(), Kind::Good);
    let server = TlsProgram::openssl(version, dir.path(), &secrets.files(), client_certificate);
    let run = relay_capture(dir.path(), &server.url(), &secrets.options(client_certificate));
    run.check_all_sent();
    let bytes = run.report.destinations[0].bytes;
    let complete = live::wait_until(Duration::from_secs(10), || count(server.stdout().len()) >= bytes);
    assert!(complete, "{} of {bytes} bytes: {}", server.stdout().len(), server.stderr());
    let stdout = server.stdout();
    let (messages, rest) = Framing::Octet.cut(&stdout);
    assert_eq!(rest, b"", "the stream ends inside a message");
    let expected: Vec<_> =
        support::Capture::String.records().into_iter().filter(support::Expected::is_sent).collect();
    support::assert_arrived(&messages, &expected, run.pid);
}

/// GnuTLS tells how much it has decrypted.
fn gnutls_decrypts_all(version: Version, client_certificate: bool) {
    let programs = ["gnutls-serv", "setpriv", "ip"].map(Need::Program);
    if !live::have(&programs) || !live::have(&[Need::Root]) {
        return;
    }
    Network::own(|_| {
        let dir = live::temp_dir();
        let secrets = Secrets::new(dir.path(), Kind::Good);
        let server = TlsProgram::gnutls(version, dir.path(), &secrets.files(), client_certificate);
        let run = relay_capture(dir.path(), &server.url(), &secrets.options(client_certificate));
        run.check_all_sent();
        let bytes = run.report.destinations[0].bytes;
        let complete = live::wait_until(Duration::from_secs(10), || server.decrypted() >= bytes);
        assert!(complete, "{} of {bytes} bytes", server.decrypted());
        assert_eq!(server.decrypted(), bytes);
        let stdout = String::from_utf8_lossy(&server.stdout()).into_owned();
        let spoken = if version == Version::Tls12 { "Version: TLS1.2" } else { "Version: TLS1.3" };
        assert!(stdout.contains(spoken), "{stdout}");
    });
}

#[test]
fn openssl_server_1_2() {
    openssl_prints_all(Version::Tls12, false);
}

#[test]
fn openssl_server_1_3() {
    openssl_prints_all(Version::Tls13, false);
}

#[test]
fn openssl_server_1_2_client_certificate() {
    openssl_prints_all(Version::Tls12, true);
}

#[test]
fn openssl_server_1_3_client_certificate() {
    openssl_prints_all(Version::Tls13, true);
}

#[test]
fn gnutls_server_1_2() {
    gnutls_decrypts_all(Version::Tls12, false);
}

#[test]
fn gnutls_server_1_3() {
    gnutls_decrypts_all(Version::Tls13, false);
}

#[test]
fn gnutls_server_1_2_client_certificate() {
    gnutls_decrypts_all(Version::Tls12, true);
}

#[test]
fn gnutls_server_1_3_client_certificate() {
    gnutls_decrypts_all(Version::Tls13, true);
}
