//! TLS receivers that are not who they should be, that demand what the relay has not got, that hang, babble, and die
//! in the middle of whatever they are at.
//!
//! Asserted is for each of them: no text leaves for one that has not passed, the relay says what to change, and once
//! the receiver is as it should be, everything arrives.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustls::{NamedGroup, ProtocolVersion};
use support::pki::{Crl, Identity, Kind, OTHER_NAME, Pki};
use support::relay::{Exit, Feed, Relay, run};
use support::sink::{Framing, accept, narrow_listener, reset};
use support::tls_sink::{Demands, TlsConnection, TlsSink, Versions, tls_error};
use support::{PATIENCE, line, serial, temp_dir, wait_until};

/// An authority and a good server.
struct Stage {
    pki: Pki,
    good: Identity,
    ca: String,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = temp_dir();
        let pki = Pki::new(dir.path());
        let good = pki.server("server", Kind::Good);
        let ca = text(&pki.ca_file());
        Self { pki, good, ca, dir }
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn relay_to(url: &str, options: &[&str]) -> (Relay, Feed) {
    Relay::to(url).options(&["--drain-timeout", "20s"]).options(options).by_hand()
}

fn write_records(feed: &mut Feed, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| feed.write(&line(number, number % 250)));
}

/// The serials of the whole messages in one connection's bytes.
fn serials(bytes: &[u8]) -> Vec<usize> {
    Framing::Octet.cut(bytes).0.iter().map(|message| serial(&message.text)).collect()
}

fn in_order(numbers: std::ops::Range<usize>) -> Vec<usize> {
    numbers.collect()
}

#[track_caller]
fn wait_for_words(relay: &Relay, words: &str) {
    wait_until(&format!("the relay says `{words}`; it has said: {}", relay.said()), || {
        relay.said().contains(words)
    });
}

/// Takes the next connection whose handshake succeeds; those that the relay has given up meanwhile do not.
#[track_caller]
fn accept_in_the_end(sink: &TlsSink) -> TlsConnection {
    let end = Instant::now() + PATIENCE;
    loop {
        match sink.try_accept() {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < end, "no handshake succeeds: {error}"),
        }
    }
}

/// Reads until `count` messages are there.
#[track_caller]
fn read_messages(connection: &mut TlsConnection, count: usize) -> Vec<usize> {
    let mut bytes = Vec::new();
    let mut space = [0; 4096];
    while serials(&bytes).len() < count {
        let length = connection.read(&mut space).expect("the relay sends on");
        assert!(length > 0, "the relay sends on");
        bytes.extend_from_slice(&space[..length]);
    }
    serials(&bytes)
}

/// Ends the input, and reads what is left to the relay's end.
#[track_caller]
fn read_rest(mut connection: TlsConnection, relay: Relay, feed: Feed) -> (Vec<usize>, Exit) {
    feed.close();
    let bytes = connection.read_to_close();
    connection.close();
    let (messages, rest) = Framing::Octet.cut(&bytes);
    assert!(rest.is_empty(), "a torn message at the end");
    let exit = relay.exit();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    (messages.iter().map(|message| serial(&message.text)).collect(), exit)
}

// ---------------------------------------------------------------------------------------------------------
// Who the receiver is

/// In both versions of TLS the relay refuses `bad` and says `words`; after `mend` has made the receiver good,
/// everything arrives.
#[track_caller]
fn refuses(bad: &Identity, options: &[&str], words: &str, mut mend: impl FnMut(&mut TlsSink)) {
    refuses_in(Versions::Only12, bad, options, words, &mut mend);
    refuses_in(Versions::Only13, bad, options, words, mend);
}

#[track_caller]
fn refuses_in(
    versions: Versions,
    bad: &Identity,
    options: &[&str],
    words: &str,
    mut mend: impl FnMut(&mut TlsSink),
) {
    let mut sink = TlsSink::with(bad, Demands { versions, ..Demands::default() });
    let (mut relay, mut feed) = relay_to(&sink.url("tls"), options);
    write_records(&mut feed, 0..50);
    for _ in 0..3 {
        // Before its handshake is over a receiver can read no text.
        let error = sink.try_accept().expect_err("the relay must not go on with this receiver");
        let alert = matches!(tls_error(&error), Some(rustls::Error::AlertReceived(_)));
        assert!(alert, "{versions:?}: the receiver is told why: {error}");
    }
    wait_for_words(&relay, words);
    assert!(relay.is_running());
    assert_eq!(relay.report()["destinations"][0]["sent"], 0);
    mend(&mut sink);
    let (arrived, exit) = read_rest(accept_in_the_end(&sink), relay, feed);
    assert_eq!(arrived, in_order(0..50), "{versions:?}");
    assert_eq!(exit.number("/destinations/0/sent"), 50);
    assert!(exit.number("/destinations/0/failures") >= 3);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let stage = Stage::new();
    let bad = stage.pki.server("bad", Kind::OtherName);
    refuses(&bad, &["--tls-ca", &stage.ca], "set tls-name", |sink| sink.present(&stage.good));
}

#[test]
fn a_certificate_that_has_ended_is_refused() {
    let stage = Stage::new();
    let bad = stage.pki.server("bad", Kind::Expired);
    refuses(&bad, &["--tls-ca", &stage.ca], "the receiver's certificate has ended", |sink| {
        sink.present(&stage.good);
    });
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_refused() {
    let stage = Stage::new();
    let bad = stage.pki.server("bad", Kind::NotYetValid);
    refuses(&bad, &["--tls-ca", &stage.ca], "is not valid yet", |sink| sink.present(&stage.good));
}

#[test]
fn a_certificate_by_another_authority_is_refused() {
    let stage = Stage::new();
    let bad = stage.pki.server("bad", Kind::OtherCa);
    refuses(&bad, &["--tls-ca", &stage.ca], "by nobody in tls-ca", |sink| sink.present(&stage.good));
}

#[test]
fn a_self_signed_certificate_that_nobody_knows_is_refused() {
    let stage = Stage::new();
    let bad = stage.pki.server("bad", Kind::SelfSigned);
    refuses(&bad, &["--tls-ca", &stage.ca], "by nobody in tls-ca", |sink| sink.present(&stage.good));
}

#[test]
fn a_revoked_certificate_is_refused() {
    let stage = Stage::new();
    let bad = stage.pki.server("bad", Kind::Good);
    let crl = text(&stage.pki.crl("crl", Crl::Revoking(&bad)));
    refuses(&bad, &["--tls-ca", &stage.ca, "--tls-crl", &crl], "is revoked (tls-crl)", |sink| {
        sink.present(&stage.good);
    });
}

/// The list is read again before each connection.
#[test]
fn a_revocation_list_that_is_out_of_date_lets_nobody_pass_until_there_is_a_new_one() {
    let stage = Stage::new();
    for versions in [Versions::Only12, Versions::Only13] {
        let crl = text(&stage.pki.crl("crl", Crl::Expired));
        let options = ["--tls-ca", &stage.ca, "--tls-crl", &crl];
        refuses_in(versions, &stage.good, &options, "tls-crl is out of date", |_| {
            stage.pki.crl("crl", Crl::Empty);
        });
    }
}

#[test]
fn a_certificate_that_is_not_pinned_is_refused() {
    let stage = Stage::new();
    let pinned = stage.pki.server("pinned", Kind::SelfSigned);
    let pin = pinned.pin();
    // As good as it is.
    refuses(&stage.good, &["--tls-pin", &pin], "none of tls-pin", |sink| sink.present(&pinned));
}

#[test]
fn a_pinned_certificate_that_has_ended_is_refused() {
    let stage = Stage::new();
    let bad = stage.pki.server("bad", Kind::Expired);
    let pins = [bad.pin(), stage.good.pin()].join(",");
    refuses(&bad, &["--tls-pin", &pins], "has ended", |sink| sink.present(&stage.good));
}

/// A certificate is public: whoever has seen one can show it.
#[test]
fn a_server_without_the_key_of_its_certificate_is_refused() {
    let stage = Stage::new();
    let thief = stage.good.with_key_of(&stage.pki.server("thief", Kind::Good));
    let pin = stage.good.pin();
    for options in [["--tls-ca", &stage.ca], ["--tls-pin", &pin]] {
        refuses(&thief, &options, "ignature", |sink| sink.present(&stage.good));
    }
}

#[test]
fn where_both_are_asked_for_neither_pin_nor_authority_is_enough() {
    let stage = Stage::new();
    let (other, foreign) = (stage.pki.server("other", Kind::Good), stage.pki.server("bad", Kind::OtherCa));
    let pins = [stage.good.pin(), foreign.pin()].join(",");
    let options = ["--tls-pin", &pins, "--tls-ca", &stage.ca, "--tls-verify", "pin-and-ca"];
    refuses(&other, &options, "none of tls-pin", |sink| sink.present(&stage.good));
    refuses(&foreign, &options, "by nobody in tls-ca", |sink| sink.present(&stage.good));
}

/// Everything arrives at `server`, and what the handshake was like.
#[track_caller]
fn arrives(
    server: &Identity,
    demands: Demands<'_>,
    options: &[&str],
    look: impl FnOnce(&TlsConnection),
) -> Exit {
    let sink = TlsSink::with(server, demands);
    let (relay, mut feed) = relay_to(&sink.url("tls"), options);
    write_records(&mut feed, 0..50);
    let connection = sink.accept();
    look(&connection);
    let (arrived, exit) = read_rest(connection, relay, feed);
    assert_eq!(arrived, in_order(0..50));
    assert_eq!(exit.number("/destinations/0/failures"), 0);
    exit
}

#[test]
fn a_pin_alone_is_enough_for_a_self_signed_certificate_of_whatever_name() {
    let stage = Stage::new();
    let server = stage.pki.server("pinned", Kind::SelfSigned);
    let exit = arrives(&server, Demands::default(), &["--tls-pin", &server.pin()], |_| {});
    assert!(!exit.said.contains("nobody checks"), "{}", exit.said);
    let other = stage.pki.server("other", Kind::OtherName);
    arrives(&other, Demands::default(), &["--tls-pin", &other.pin()], |_| {});
}

#[test]
fn the_name_in_the_certificate_may_be_another_than_the_host_in_the_url() {
    let stage = Stage::new();
    let server = stage.pki.server("elsewhere", Kind::OtherName);
    let options = ["--tls-ca", &stage.ca, "--tls-name", OTHER_NAME];
    arrives(&server, Demands::default(), &options, |connection| {
        assert_eq!(connection.sni(), Some(OTHER_NAME));
    });
    // An address is no name that a server could be asked for.
    arrives(&stage.good, Demands::default(), &["--tls-ca", &stage.ca], |connection| {
        assert_eq!(connection.sni(), None);
    });
}

#[test]
fn whoever_asks_for_no_verification_gets_it_and_hears_of_it() {
    let stage = Stage::new();
    let server = stage.pki.server("anybody", Kind::OtherCa);
    let exit = arrives(&server, Demands::default(), &["--tls-verify", "none"], |_| {});
    assert!(exit.said.contains("tls-verify = \"none\""), "{}", exit.said);
    assert!(exit.said.contains("nobody checks who the receiver is"), "{}", exit.said);
}

#[test]
fn receivers_that_know_only_one_version_get_it() {
    let stage = Stage::new();
    let versions = [
        (Versions::Only12, ProtocolVersion::TLSv1_2, NamedGroup::X25519),
        (Versions::Only13, ProtocolVersion::TLSv1_3, NamedGroup::X25519MLKEM768),
        (Versions::Both, ProtocolVersion::TLSv1_3, NamedGroup::X25519MLKEM768),
    ];
    for (versions, agreed, group) in versions {
        let demands = Demands { versions, ..Demands::default() };
        let exit = arrives(&stage.good, demands, &["--tls-ca", &stage.ca], |connection| {
            assert_eq!((connection.version(), connection.group()), (agreed, group));
        });
        // What was agreed is said, for whoever has to prove it.
        assert!(exit.said.contains(&format!("group {group:?}")), "{}", exit.said);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Who the relay is

#[test]
fn a_demanded_certificate_is_shown() {
    let stage = Stage::new();
    let client = stage.pki.client("client", Kind::Good);
    let (certificate, key) = (text(&client.certificate), text(&client.key));
    for versions in [Versions::Only12, Versions::Only13] {
        let ca = stage.pki.ca_file();
        let demands = Demands { versions, client_ca: Some(&ca), ..Demands::default() };
        let options = ["--tls-ca", &stage.ca, "--tls-cert", &certificate, "--tls-key", &key];
        let exit = arrives(&stage.good, demands, &options, |connection| {
            assert_eq!(connection.client_certificate(), client.chain().first());
        });
        assert!(exit.said.contains("our certificate was shown"), "{}", exit.said);
    }
}

/// In TLS 1.3 the relay's handshake is over before the receiver has judged it, and the receiver's kernel acknowledges
/// what the receiver will never read. None of that may count as sent.
#[test]
fn a_receiver_that_rejects_the_relay_after_the_handshake_has_got_nothing() {
    let stage = Stage::new();
    let (ca, stranger) = (stage.pki.ca_file(), stage.pki.client("stranger", Kind::OtherCa));
    let (certificate, key) = (text(&stranger.certificate), text(&stranger.key));
    let own = ["--tls-cert", &certificate, "--tls-key", &key];
    for own in [&[][..], &own] {
        let demands = Demands { versions: Versions::Only13, client_ca: Some(&ca), ..Demands::default() };
        let strict = TlsSink::with(&stage.good, demands);
        let (mut relay, mut feed) = Relay::to(&strict.url("tls"))
            .options(&["--tls-ca", &stage.ca, "--drain-timeout", "20s"])
            .options(own)
            .by_hand();
        write_records(&mut feed, 0..100);
        for attempt in 0..3 {
            let before = relay.report()["destinations"][0]["bytes"].as_u64().unwrap();
            let handshake = strict.answer_hello();
            wait_until("the relay has sent everything", || {
                relay.report()["destinations"][0]["bytes"].as_u64().unwrap() > before + 100 * 200
            });
            // More than long enough for it to be acknowledged, and for the relay to have asked.
            thread::sleep(Duration::from_millis(200));
            assert_eq!(relay.report()["destinations"][0]["sent"], 0, "attempt {attempt}");
            let error = handshake.finish().expect_err("the relay has nothing good to show");
            assert!(tls_error(&error).is_some(), "{error}");
        }
        wait_for_words(&relay, "it wants one that it knows: tls-cert and tls-key");
        assert!(relay.is_running());
        let lenient = TlsSink::on(strict.listener().try_clone().unwrap(), &stage.good, Demands::default());
        let (arrived, exit) = read_rest(accept_in_the_end(&lenient), relay, feed);
        assert_eq!(arrived, in_order(0..100));
        assert_eq!(exit.number("/destinations/0/sent"), 100);
        assert!(exit.number("/destinations/0/replayed") >= 300, "{exit:?}");
    }
}

#[test]
fn a_receiver_that_rejects_the_relay_in_the_handshake_has_got_nothing() {
    let stage = Stage::new();
    let ca = stage.pki.ca_file();
    let demands = Demands { versions: Versions::Only12, client_ca: Some(&ca), ..Demands::default() };
    let strict = TlsSink::with(&stage.good, demands);
    let (relay, mut feed) = relay_to(&strict.url("tls"), &["--tls-ca", &stage.ca]);
    write_records(&mut feed, 0..100);
    for _ in 0..3 {
        assert!(strict.try_accept().is_err());
    }
    wait_for_words(&relay, "tls-cert and tls-key");
    assert_eq!(relay.report()["destinations"][0]["sent"], 0);
    let lenient = TlsSink::on(strict.listener().try_clone().unwrap(), &stage.good, Demands::default());
    let (arrived, exit) = read_rest(accept_in_the_end(&lenient), relay, feed);
    assert_eq!((arrived, exit.number("/destinations/0/sent")), (in_order(0..100), 100));
}

// ---------------------------------------------------------------------------------------------------------
// Files

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_that_everybody_can_read_is_not_used() {
    let stage = Stage::new();
    let client = stage.pki.client("client", Kind::Good);
    set_mode(&client.key, 0o644);
    let sink = TlsSink::new(&stage.good);
    let (certificate, key) = (text(&client.certificate), text(&client.key));
    let options = ["--tls-ca", &stage.ca, "--tls-cert", &certificate, "--tls-key", &key];
    let (mut relay, mut feed) = relay_to(&sink.url("tls"), &options);
    write_records(&mut feed, 0..50);
    wait_for_words(&relay, &format!("run: chmod o= {key}"));
    relay.wait_for("/destinations/0/failures", 3);
    assert!(relay.is_running());
    sink.listener().set_nonblocking(true).unwrap();
    assert_eq!(sink.listener().accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody is even asked");
    set_mode(&client.key, 0o600);
    let (arrived, _) = read_rest(accept_in_the_end(&sink), relay, feed);
    assert_eq!(arrived, in_order(0..50));
}

#[test]
fn authorities_that_are_not_there_yet_are_used_once_they_are() {
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let late = stage.dir.path().join("late.pem");
    let (mut relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &text(&late)]);
    write_records(&mut feed, 0..50);
    wait_for_words(&relay, &format!("tls-ca: cannot read {}", late.display()));
    wait_for_words(&relay, "it is looked for again before each connection");
    relay.wait_for("/destinations/0/failures", 3);
    assert!(relay.is_running());
    fs::copy(stage.pki.ca_file(), &late).unwrap();
    let (arrived, _) = read_rest(accept_in_the_end(&sink), relay, feed);
    assert_eq!(arrived, in_order(0..50));
}

/// Root can read everything; what counts is whether the relay will.
#[test]
fn check_finds_a_key_that_only_root_can_read() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let stage = Stage::new();
    let (mine, roots) = (stage.pki.client("mine", Kind::Good), stage.pki.client("roots", Kind::Good));
    nix::unistd::chown(&roots.key, Some(0.into()), Some(0.into())).unwrap();
    let check = |identity: &Identity| {
        let (certificate, key) = (text(&identity.certificate), text(&identity.key));
        let to = [
            "check",
            "--config",
            "none",
            "--user",
            "nobody",
            "--to",
            "tls://127.0.0.1:6514",
            "--tls-ca",
            &stage.ca,
        ];
        let output = run(&[&to[..], &["--tls-cert", &certificate, "--tls-key", &key]].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&mine).0, Some(0), "{}", check(&mine).1);
    let (status, said) = check(&roots);
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains(&text(&roots.key)) && said.contains("tls-key") && said.contains("chgrp"), "{said}");
}

// ---------------------------------------------------------------------------------------------------------
// Rotation

#[test]
fn a_receiver_may_have_a_new_certificate_at_each_connection() {
    let stage = Stage::new();
    let mut server = stage.pki.server("rotating", Kind::Good);
    let mut sink = TlsSink::new(&server);
    let (relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &stage.ca]);
    for round in 0..4 {
        let numbers = round * 20..(round + 1) * 20;
        write_records(&mut feed, numbers.clone());
        let mut connection = sink.accept();
        assert_eq!(read_messages(&mut connection, 20), in_order(numbers.clone()));
        // What it has read it also knows to be acknowledged, so nothing comes twice.
        relay.wait_for("/destinations/0/sent", numbers.end as u64);
        stage.pki.rotate(&mut server, Kind::Good);
        sink.present(&server);
        connection.close();
        relay.wait_for("/destinations/0/failures", round as u64 + 1);
    }
    write_records(&mut feed, 80..100);
    let (arrived, exit) = read_rest(sink.accept(), relay, feed);
    assert_eq!(arrived, in_order(80..100));
    assert_eq!(exit.number("/destinations/0/replayed"), 0);
}

/// The pin in the configuration is wrong, records wait, and somebody puts it right: nothing of what waited is lost.
#[test]
fn a_reload_that_corrects_the_pin_delivers_what_has_waited() {
    let stage = Stage::new();
    let server = stage.pki.server("pinned", Kind::Good);
    let other = stage.pki.server("other", Kind::Good);
    let sink = TlsSink::new(&server);
    let file = stage.pki.ca_file().with_file_name("relay.toml");
    let configure = |pin: &str| {
        let text = format!("to = [\"{}\"]\ntls-pin = [\"{pin}\"]\n", sink.url("tls"));
        fs::write(&file, text).unwrap();
    };
    configure(&other.pin());
    let (relay, mut feed) = Relay::with(&["--config", file.to_str().unwrap()]).by_hand();
    write_records(&mut feed, 0..100);
    let refused = sink.accept_tcp();
    assert!(sink.handshake(refused).is_err(), "the relay refuses the certificate");
    wait_until("it has said so", || relay.said().contains("is none of tls-pin"));
    configure(&server.pin());
    reload(&relay);
    // An attempt with the old pin may be under way.
    let mut connection = None;
    wait_until("the right pin is taken", || {
        connection = sink.handshake(sink.accept_tcp()).ok();
        connection.is_some()
    });
    let (arrived, exit) = read_rest(connection.unwrap(), relay, feed);
    assert_eq!(arrived, in_order(0..100));
    assert_eq!(exit.number("/destinations/0/sent"), 100);
}

#[track_caller]
fn reload(relay: &Relay) {
    let words = "the configuration was read again";
    let before = relay.said().matches(words).count();
    relay.signal(Signal::SIGHUP);
    wait_until("the relay has reloaded", || relay.said().matches(words).count() > before);
}

#[test]
fn a_reload_connects_again_only_if_the_files_have_changed() {
    let stage = Stage::new();
    let trusted = stage.dir.path().join("trusted.pem");
    fs::copy(stage.pki.ca_file(), &trusted).unwrap();
    let mut sink = TlsSink::new(&stage.good);
    let (relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &text(&trusted)]);
    write_records(&mut feed, 0..20);
    let mut first = sink.accept();
    assert_eq!(read_messages(&mut first, 20), in_order(0..20));

    // The same text in a new file is no change.
    fs::remove_file(&trusted).unwrap();
    fs::copy(stage.pki.ca_file(), &trusted).unwrap();
    reload(&relay);
    write_records(&mut feed, 20..40);
    assert_eq!(read_messages(&mut first, 20), in_order(20..40));
    assert_eq!(relay.report()["destinations"][0]["reconnects"], 0);

    // A file that is damaged for the moment is no reason to give up a session that is well.
    fs::write(&trusted, "-----BEGIN CERTIFICATE-----\n").unwrap();
    reload(&relay);
    wait_for_words(&relay, "the session goes on with what it has");
    write_records(&mut feed, 40..60);
    assert_eq!(read_messages(&mut first, 20), in_order(40..60));

    // Another authority, and a server of its own.
    fs::copy(stage.pki.other_ca_file(), &trusted).unwrap();
    sink.present(&stage.pki.server("other", Kind::OtherCa));
    reload(&relay);
    write_records(&mut feed, 60..80);
    let left = serials(&first.read_to_close());
    first.close();
    let (arrived, exit) = read_rest(sink.accept(), relay, feed);
    assert_eq!([left, arrived].concat(), in_order(60..80));
    let number = |name: &str| exit.number(&format!("/destinations/0/{name}"));
    assert_eq!((number("sent"), number("reconnects"), number("failures"), number("replayed")), (80, 1, 0, 0));
}

/// Under load: the change comes in the middle of messages.
#[test]
fn a_reload_in_mid_stream_loses_nothing() {
    const TOTAL: usize = 30_000;
    let stage = Stage::new();
    let trusted = stage.dir.path().join("trusted.pem");
    fs::copy(stage.pki.ca_file(), &trusted).unwrap();
    let sink = TlsSink::new(&stage.good);
    let (relay, feed) = relay_to(&sink.url("tls"), &["--tls-ca", &text(&trusted)]);
    let feeding = feed.write_on_a_thread((0..TOTAL).flat_map(|number| line(number, number % 250)).collect());
    let mut first = sink.accept();
    let early = first.read_bytes(1_000_003);
    let both =
        [fs::read(stage.pki.ca_file()).unwrap(), fs::read(stage.pki.other_ca_file()).unwrap()].concat();
    fs::write(&trusted, both).unwrap();
    reload(&relay);
    let first_bytes = [early, first.read_to_close()].concat();
    first.close();
    let mut second = sink.accept();
    let reading = thread::spawn(move || (second.read_to_close(), second.close()).0);
    feeding.join().unwrap().close();
    let exit = relay.exit();
    let second_bytes = reading.join().unwrap();
    assert!(Framing::Octet.cut(&first_bytes).1.is_empty(), "the first connection ends between messages");
    assert_eq!([serials(&first_bytes), serials(&second_bytes)].concat(), in_order(0..TOTAL));
    assert_eq!(exit.number("/destinations/0/sent"), TOTAL as u64);
}

// ---------------------------------------------------------------------------------------------------------
// Receivers that do not keep to the protocol

#[test]
fn a_handshake_that_hangs_is_given_up() {
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let options = ["--tls-ca", &stage.ca, "--connect-timeout", "1s"];
    let (relay, mut feed) = relay_to(&sink.url("tls"), &options);
    write_records(&mut feed, 0..50);
    let mute = sink.accept_tcp();
    wait_for_words(&relay, "the TLS handshake took more than 1 s (connect-timeout)");
    let (arrived, _) = read_rest(accept_in_the_end(&sink), relay, feed);
    assert_eq!(arrived, in_order(0..50));
    drop(mute);
}

/// The receiver says its part of the handshake one byte at a time; the limit is one for the whole of it.
#[test]
fn a_handshake_that_crawls_is_given_up() {
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let options = ["--tls-ca", &stage.ca, "--connect-timeout", "1s"];
    let (relay, mut feed) = relay_to(&sink.url("tls"), &options);
    write_records(&mut feed, 0..50);
    let mut slow = sink.accept_tcp();
    // The head of a handshake record that will never be there as a whole.
    slow.write_all(&[22, 3, 3, 0x3f, 0xff, 2]).unwrap();
    wait_until("the relay has given up", || {
        thread::sleep(Duration::from_millis(20));
        slow.write_all(&[0]).is_err()
    });
    let (arrived, exit) = read_rest(accept_in_the_end(&sink), relay, feed);
    assert_eq!(arrived, in_order(0..50));
    assert!(exit.said.contains("the TLS handshake took more than 1 s"), "{}", exit.said);
}

#[test]
fn a_port_that_speaks_plain_text_is_told_apart() {
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let (relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &stage.ca]);
    write_records(&mut feed, 0..50);
    for _ in 0..3 {
        let mut plain = sink.accept_tcp();
        plain.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").unwrap();
        plain.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        let _ = plain.read_to_end(&mut heard);
        assert!(!heard.windows(9).any(|bytes| bytes == b"msg=audit"), "no text goes there");
    }
    wait_for_words(&relay, "does it speak TLS on this port?");
    let (arrived, _) = read_rest(accept_in_the_end(&sink), relay, feed);
    assert_eq!(arrived, in_order(0..50));
}

#[test]
fn a_port_that_closes_at_once_is_tried_again() {
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let (relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &stage.ca]);
    write_records(&mut feed, 0..50);
    for round in 0..4 {
        let connection = sink.accept_tcp();
        if round % 2 == 0 { reset(connection) } else { drop(connection) }
    }
    wait_for_words(&relay, "trying again until it works");
    let (arrived, _) = read_rest(accept_in_the_end(&sink), relay, feed);
    assert_eq!(arrived, in_order(0..50));
}

/// A receiver has nothing to say; one that says it without end must not keep the relay from sending.
#[test]
fn a_receiver_that_talks_without_end_gets_everything() {
    const TOTAL: usize = 20_000;
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let (relay, feed) = relay_to(&sink.url("tls"), &["--tls-ca", &stage.ca]);
    let feeding = feed.write_on_a_thread((0..TOTAL).flat_map(|number| line(number, number % 250)).collect());
    let mut connection = sink.accept();
    connection.tcp().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    connection.tcp().set_write_timeout(Some(PATIENCE)).unwrap();
    let due: usize = (0..TOTAL).map(|number| line(number, number % 250).len()).sum();
    let (mut bytes, mut space, junk) = (Vec::new(), vec![0; 1 << 16], vec![b'x'; 1 << 16]);
    let end = Instant::now() + PATIENCE;
    // Each message is longer than the line in it.
    while bytes.len() < due || serials(&bytes).len() < TOTAL {
        assert!(Instant::now() < end, "{} bytes have come", bytes.len());
        connection.write_all(&junk).expect("the relay listens");
        while let Ok(count @ 1..) = connection.read(&mut space) {
            bytes.extend_from_slice(&space[..count]);
        }
    }
    assert_eq!(serials(&bytes), in_order(0..TOTAL));
    feeding.join().unwrap().close();
    connection.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(connection.read_to_close().is_empty());
    connection.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/failures")), (Some(0), 0), "{exit:?}");
}

/// Garbage in place of a TLS record, in the middle of a session.
#[test]
fn a_receiver_that_falls_out_of_tls_is_left() {
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let (relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &stage.ca]);
    write_records(&mut feed, 0..20);
    let mut first = sink.accept();
    assert_eq!(read_messages(&mut first, 20), in_order(0..20));
    relay.wait_for("/destinations/0/sent", 20);
    first.send_garbage();
    relay.wait_for("/destinations/0/failures", 1);
    write_records(&mut feed, 20..40);
    let (arrived, exit) = read_rest(sink.accept(), relay, feed);
    assert_eq!(arrived, in_order(20..40));
    assert!(exit.said.contains("connecting again"), "{}", exit.said);
}

// ---------------------------------------------------------------------------------------------------------
// Resets

/// Takes the relay's next connection and lets `limit` bytes of it through to `sink`; then the relay is reset. Returns
/// the text that came out, and whether it ended in order.
fn let_through(listener: &TcpListener, sink: &TlsSink, limit: usize) -> (Vec<u8>, bool) {
    let relay = accept(listener);
    let server = TcpStream::connect(("127.0.0.1", sink.port())).unwrap();
    let tcp = sink.accept_tcp();
    let received = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut bytes = Vec::new();
            let Ok(mut connection) = sink.handshake(tcp) else { return (bytes, false) };
            let _ = connection.read_to_end(&mut bytes);
            connection.close();
            (bytes, connection.ended_in_order())
        });
        let answering = scope.spawn(|| io::copy(&mut &server, &mut &relay));
        let (mut left, mut space) = (limit, vec![0; 1 << 16]);
        while left > 0 {
            let room = space.len().min(left);
            match (&relay).read(&mut space[..room]) {
                Ok(count @ 1..) if (&server).write_all(&space[..count]).is_ok() => left -= count,
                _ => break,
            }
        }
        assert!(left == 0 || limit == usize::MAX, "the relay sends on");
        let _ = server.shutdown(Shutdown::Write);
        let _ = answering.join();
        receiving.join().unwrap()
    });
    reset(relay);
    received
}

/// Asserts what must hold between the text of consecutive connections, the last of which ended in order. With
/// `replay`, records may come twice.
#[track_caller]
fn no_message_is_torn(connections: &[Vec<u8>], total: usize, replay: bool) {
    let (last, dead) = connections.split_last().unwrap();
    assert!(Framing::Octet.cut(last).1.is_empty(), "the last connection ends between messages");
    let mut next = 0;
    for (at, bytes) in dead.iter().chain([last]).enumerate() {
        // `cut` panics if a connection does not start at a message, or goes wrong in its middle.
        for (position, serial) in serials(bytes).into_iter().enumerate() {
            if position == 0 && at > 0 {
                assert!(replay || serial >= next, "record {serial} twice");
            } else if position > 0 {
                assert_eq!(serial, next, "a gap inside connection {at}");
            }
            next = serial + 1;
        }
    }
    assert_eq!(next, total, "the last record arrives");
}

/// Kills three connections after `offset` bytes of ciphertext each; reads the fourth to its end.
fn reset_three_times_at(offset: usize, replay: &str) {
    const ROUND: usize = 1000;
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let listener = narrow_listener();
    let url = format!("tls://{}", listener.local_addr().unwrap());
    let (relay, mut feed) = relay_to(&url, &["--tls-ca", &stage.ca, "--replay", replay]);
    let mut connections = Vec::new();
    for round in 0..3 {
        // On loopback the kernel may take all of a round at once, so each connection needs its own.
        write_records(&mut feed, round * ROUND..(round + 1) * ROUND);
        let (bytes, in_order) = let_through(&listener, &sink, offset);
        assert!(!in_order);
        connections.push(bytes);
    }
    write_records(&mut feed, 3 * ROUND..4 * ROUND);
    feed.close();
    let reading = thread::spawn(move || let_through(&listener, &sink, usize::MAX));
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 4 * ROUND as u64), "{exit:?}");
    let (bytes, ended_in_order) = reading.join().unwrap();
    assert!(ended_in_order, "close_notify at the end");
    connections.push(bytes);
    no_message_is_torn(&connections, 4 * ROUND, replay != "off");
    let last = serials(&connections[3]);
    assert!(last.contains(&(3 * ROUND)), "what was read after the last reset arrives: {:?}", last.first());
    let seen: BTreeSet<_> = connections.iter().flat_map(|bytes| serials(bytes)).collect();
    let in_the_handshake = connections[..3].iter().all(Vec::is_empty) && offset < 1500;
    if replay == "4MiB" || in_the_handshake {
        assert_eq!(seen.len(), 4 * ROUND, "everything arrives");
    }
}

/// The hello has some 1500 bytes, and TLS records up to 16 KiB.
#[track_caller]
fn reset_at_many_offsets(replay: &str) {
    thread::scope(|scope| {
        let offsets = [
            0, 1, 5, 6, 300, 1400, 1600, 1650, 1700, 1800, 2000, 4096, 10_007, 18_100, 33_333, 65_536,
            100_003,
        ];
        let runs = offsets.map(|offset| scope.spawn(move || reset_three_times_at(offset, replay)));
        for (run, offset) in runs.into_iter().zip(offsets) {
            assert!(run.join().is_ok(), "reset after {offset} bytes with replay = {replay}");
        }
    });
}

#[test]
fn resets_at_many_byte_offsets_tear_no_message() {
    reset_at_many_offsets("off");
}

#[test]
fn resets_at_many_byte_offsets_tear_no_message_where_what_is_unacknowledged_comes_again() {
    reset_at_many_offsets("unacked");
}

#[test]
fn with_a_margin_nothing_is_missing_after_resets_at_many_byte_offsets() {
    reset_at_many_offsets("4MiB");
}

// ---------------------------------------------------------------------------------------------------------
// The end

/// RFC 5425 section 4.4. Without it a receiver cannot tell the end from an attacker's cut.
#[test]
fn each_end_is_announced_to_the_receiver() {
    let stage = Stage::new();
    for signal in [None, Some(Signal::SIGTERM)] {
        for versions in [Versions::Only12, Versions::Only13] {
            let sink = TlsSink::with(&stage.good, Demands { versions, ..Demands::default() });
            let (relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &stage.ca]);
            write_records(&mut feed, 0..50);
            let mut connection = sink.accept();
            let early = read_messages(&mut connection, 50);
            match signal {
                Some(signal) => relay.signal(signal),
                None => feed.close(),
            }
            // Panics without close_notify.
            assert!(connection.read_to_close().is_empty());
            assert_eq!(early, in_order(0..50));
            // Nothing follows it, not even on the socket.
            assert_eq!(read_to_fin(&connection), 0);
            connection.close();
            assert_eq!(relay.exit().number("/destinations/0/sent"), 50);
        }
    }
}

fn read_to_fin(connection: &TlsConnection) -> usize {
    let mut tcp = connection.tcp();
    tcp.read(&mut [0; 16]).unwrap()
}

/// A receiver that never says its own end holds the relay up for a moment only.
#[test]
fn a_receiver_that_does_not_answer_the_end_is_not_waited_for() {
    let stage = Stage::new();
    let sink = TlsSink::new(&stage.good);
    let (relay, mut feed) = relay_to(&sink.url("tls"), &["--tls-ca", &stage.ca]);
    write_records(&mut feed, 0..50);
    let mut connection = sink.accept();
    assert_eq!(read_messages(&mut connection, 50), in_order(0..50));
    feed.close();
    assert_eq!(relay.exit().number("/destinations/0/sent"), 50);
    assert!(connection.read_to_close().is_empty());
}
