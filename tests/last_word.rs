//! The end: what is written and not acknowledged when the drain time is over is not called sent, and the exit status
//! says so, on every transport that can tell.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::thread;

use support::pki::{Identity, Kind, Pki};
use support::relay::{Exit, Relay};
use support::relp_sink::Peer;
use support::sink::{accept, narrow_listener};
use support::tls_sink::{Demands, TlsSink, Versions};
use support::{line, temp_dir};

struct Stage {
    server: Identity,
    ca: String,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = temp_dir();
        let pki = Pki::new(dir.path());
        let (server, ca) = (pki.server("server", Kind::Good), pki.ca_file());
        Self { server, ca: ca.to_str().unwrap().to_owned(), _dir: dir }
    }
}

/// All `records` are in the books, none of those that nobody has acknowledged as sent.
#[track_caller]
fn is_not_called_success(exit: &Exit, records: u64) -> u64 {
    let number = |name: &str| exit.number(&format!("/destinations/0/{name}"));
    assert_eq!(exit.status, Some(75), "{exit:?}");
    assert_eq!(number("sent") + number("lost/drain_deadline"), records, "{exit:?}");
    assert!(number("unacknowledged") <= number("lost/drain_deadline"), "{exit:?}");
    number("lost/drain_deadline")
}

/// The server's refusal comes after a handshake that is over for the relay. Whether the time is over before it gives up
/// waiting for it or after, nothing has arrived.
#[test]
fn a_server_that_wants_a_certificate_that_the_relay_has_not_got_nothing_however_long_the_drain() {
    let stage = Stage::new();
    for scheme in ["tls", "relps"] {
        for drain in ["300ms", "1s", "3s"] {
            let demands = Demands {
                versions: Versions::Only13,
                client_ca: Some(stage.ca.as_ref()),
                ..Demands::default()
            };
            let strict = TlsSink::with(&stage.server, demands);
            let url = strict.url(scheme);
            let options = ["--tls-ca", &stage.ca, "--drain-timeout", drain];
            let (relay, mut feed) = Relay::to(&url).options(&options).by_hand();
            // Each client is told, as rustls does; those still to come when the relay has ended are not waited for.
            thread::spawn(move || {
                while let Ok((tcp, _)) = strict.listener().accept() {
                    assert!(strict.handshake(tcp).is_err());
                }
            });
            (0..10).for_each(|number| feed.write(&line(number, 0)));
            feed.close();
            let exit = relay.exit();
            assert_eq!(is_not_called_success(&exit, 10), 10, "{scheme}, {drain}: {exit:?}");
        }
    }
}

/// The same where the refusal never comes: the server is at work on what the relay has said, or hangs.
#[test]
fn a_server_that_has_not_judged_the_relay_yet_has_got_nothing() {
    let stage = Stage::new();
    let demands =
        Demands { versions: Versions::Only13, client_ca: Some(stage.ca.as_ref()), ..Demands::default() };
    let slow = TlsSink::with(&stage.server, demands);
    let options = ["--tls-ca", &stage.ca, "--drain-timeout", "500ms"];
    let (relay, mut feed) = Relay::to(&slow.url("tls")).options(&options).by_hand();
    let _judging = slow.answer_hello();
    (0..10).for_each(|number| feed.write(&line(number, 0)));
    relay.wait_for("/destinations/0/bytes", 10 * 100);
    feed.close();
    let exit = relay.exit();
    assert_eq!(is_not_called_success(&exit, 10), 10);
    assert_eq!(exit.number("/destinations/0/unacknowledged"), 10, "they may arrive all the same: {exit:?}");
    assert!(exit.said.contains("10 of the lost on their way and not acknowledged"), "{}", exit.said);
}

/// More than the two kernels hold, less than the relay's queue, and a receiver that reads nothing.
const MUCH: usize = 6000;

/// What the receiver's kernel has acknowledged is sent, as everywhere; the rest is not, though all of it is written. A
/// margin is for a next connection, and changes nothing.
#[test]
fn a_tcp_receiver_that_reads_nothing_is_not_said_to_have_it() {
    for replay in ["unacked", "1MiB"] {
        let listener = narrow_listener();
        let options = ["--replay", replay, "--drain-timeout", "500ms"];
        let (relay, feed) =
            Relay::to(&format!("tcp://{}", listener.local_addr().unwrap())).options(&options).by_hand();
        let silent = accept(&listener);
        let input = (0..MUCH).flat_map(|number| line(number, 200)).collect();
        feed.write_on_a_thread(input).join().unwrap().close();
        let exit = relay.exit();
        let lost = is_not_called_success(&exit, MUCH as u64);
        assert!(lost < MUCH as u64, "its kernel has acknowledged some: {exit:?}");
        assert!(exit.number("/destinations/0/unacknowledged") > 0, "{exit:?}");
        drop(silent);
    }
}

#[test]
fn a_relp_receiver_that_answers_nothing_is_not_said_to_have_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("relp://{}", listener.local_addr().unwrap());
    let (relay, mut feed) = Relay::to(&url).options(&["--drain-timeout", "500ms"]).by_hand();
    let silent = Peer::open(accept(&listener));
    (0..10).for_each(|number| feed.write(&line(number, 0)));
    feed.close();
    let exit = relay.exit();
    assert_eq!(is_not_called_success(&exit, 10), 10);
    assert_eq!(exit.number("/destinations/0/unacknowledged"), 10, "{exit:?}");
    drop(silent);
}

/// Who has said `replay = "off"` has asked for no more than our own kernel's word.
#[test]
fn where_nobody_is_to_tell_our_own_kernel_s_word_is_enough() {
    let listener = narrow_listener();
    let options = ["--replay", "off", "--drain-timeout", "500ms"];
    let (relay, mut feed) =
        Relay::to(&format!("tcp://{}", listener.local_addr().unwrap())).options(&options).by_hand();
    let silent = accept(&listener);
    (0..10).for_each(|number| feed.write(&line(number, 0)));
    feed.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 10), "{exit:?}");
    drop(silent);
}
