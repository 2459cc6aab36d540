//! Networks that fail without a word: packets vanish in both directions and nobody is told. The relay has to find
//! out by itself, within `tcp-user-timeout`, and to lose nothing that can be kept.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
mod support;

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

use live::Need;
use support::network::Network;
use support::pki::{Kind, Pki};
use support::relay::{Feed, Relay};
use support::relp_sink::{Frame, Peer};
use support::sink::{Framing, Message, accept, read_to_end};
use support::tls_sink::{Demands, TlsSink};
use support::{line, serial, temp_dir, wait_until};

const QUICK: [&str; 6] = ["--tcp-user-timeout", "1s", "--connect-timeout", "1s", "--drain-timeout", "20s"];

/// Runs `test` in a network of its own, or says aloud that it cannot.
fn in_a_network(test: impl FnOnce(&Network) + Send) {
    if live::have(&[Need::Root, Need::Program("ip"), Need::Program("nft")]) {
        Network::own(test);
    }
}

fn feed_records(feed: &mut Feed, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| feed.write(&line(number, 0)));
}

/// Reads until the message with this serial is there.
fn read_until(connection: &mut impl Read, number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut space = [0; 4096];
    while serials(&bytes).last() != Some(&number) {
        let count = connection.read(&mut space).expect("the relay sends on");
        assert!(count > 0, "the connection ends before record {number}");
        bytes.extend_from_slice(&space[..count]);
    }
    bytes
}

fn serials(bytes: &[u8]) -> Vec<usize> {
    Framing::Octet.cut(bytes).0.iter().map(|message| serial(&message.text)).collect()
}

fn noticed(relay: &Relay) {
    wait_until("the relay has noticed", || relay.report()["destinations"][0]["failures"].as_u64() >= Some(1));
}

#[track_caller]
fn assert_all(seen: impl IntoIterator<Item = usize>, total: usize) {
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), (0..total).collect());
}

#[test]
fn a_tcp_peer_that_has_vanished_is_noticed_and_misses_nothing_later() {
    in_a_network(|network| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (relay, mut feed) = Relay::to(&format!("tcp://{address}")).options(&QUICK).by_hand();
        feed_records(&mut feed, 0..10);
        let mut first = accept(&listener);
        let early = read_until(&mut first, 9);
        network.lose(address.port());
        feed_records(&mut feed, 10..20);
        noticed(&relay);
        network.heal();
        let mut second = accept(&listener);
        feed_records(&mut feed, 20..30);
        feed.close();
        let late = read_to_end(&mut second);
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 30), "{exit:?}");
        assert!(exit.number("/destinations/0/replayed") >= 10, "{exit:?}");
        assert_all([serials(&early), serials(&late)].concat(), 30);
    });
}

#[test]
fn a_tls_peer_that_has_vanished_is_noticed_and_misses_nothing_later() {
    in_a_network(|network| {
        let dir = temp_dir();
        let pki = Pki::new(dir.path());
        let sink = TlsSink::with(&pki.server("server", Kind::Good), Demands::default());
        let ca = pki.ca_file();
        let (relay, mut feed) = Relay::to(&sink.url("tls"))
            .options(&QUICK)
            .options(&["--tls-ca", ca.to_str().unwrap()])
            .by_hand();
        feed_records(&mut feed, 0..10);
        let mut first = sink.accept();
        let early = read_until(&mut first, 9);
        network.lose(sink.port());
        feed_records(&mut feed, 10..20);
        noticed(&relay);
        network.heal();
        let mut second = sink.accept();
        feed_records(&mut feed, 20..30);
        feed.close();
        let late = second.read_to_close();
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 30), "{exit:?}");
        assert_all([serials(&early), serials(&late)].concat(), 30);
    });
}

/// Answers `count` messages and returns their serials.
fn answer(peer: &mut Peer<TcpStream>, count: usize) -> Vec<usize> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let frame = peer.message();
        peer.accept(frame.number);
        seen.push(serial(&Message::read(&frame.data).text));
    }
    seen
}

#[test]
fn a_relp_peer_that_has_vanished_is_noticed_and_misses_nothing_later() {
    in_a_network(|network| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (relay, mut feed) = Relay::to(&format!("relp://{address}")).options(&QUICK).by_hand();
        feed_records(&mut feed, 0..10);
        let mut first = Peer::open(accept(&listener));
        let early = answer(&mut first, 10);
        network.lose(address.port());
        feed_records(&mut feed, 10..20);
        noticed(&relay);
        network.heal();
        let mut second = Peer::open(accept(&listener));
        feed_records(&mut feed, 20..30);
        let late = answer(&mut second, 20);
        relay.wait_for("/destinations/0/sent", 30);
        feed.close();
        let close = second.frame().expect("the relay closes the session");
        assert_eq!(close.command, "close");
        second.send(&Frame::bytes(close.number, "rsp", b""));
        second.say_close();
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 30), "{exit:?}");
        assert_all([early, late].concat(), 30);
    });
}

/// The first server of a list vanishes: the second has what was not acknowledged, and the first is returned to.
#[test]
fn a_group_turns_to_the_second_when_the_first_has_vanished() {
    in_a_network(|network| {
        let (first, second) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = first.local_addr().unwrap().port();
        let urls = format!("tcp://{},tcp://{}", first.local_addr().unwrap(), second.local_addr().unwrap());
        let (relay, mut feed) = Relay::with(&["--failover", &urls]).options(&QUICK).by_hand();
        feed_records(&mut feed, 0..10);
        let mut one = accept(&first);
        let early = read_until(&mut one, 9);
        network.lose(port);
        feed_records(&mut feed, 10..20);
        let mut two = accept(&second);
        let meanwhile = read_until(&mut two, 19);
        network.heal();
        let mut again = accept(&first);
        feed_records(&mut feed, 20..30);
        feed.close();
        let reading = thread::spawn(move || read_to_end(&mut two));
        let late = read_to_end(&mut again);
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 30), "{exit:?}");
        let rest = [meanwhile, reading.join().unwrap()].concat();
        assert_all([serials(&early), serials(&rest), serials(&late)].concat(), 30);
    });
}

/// No name service: the destination waits, says why, and holds nobody else up.
#[test]
fn a_name_that_cannot_be_looked_up_holds_up_nobody_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let options = ["--to", "tcp://no-such-host.invalid", "--to", &url, "--drain-timeout", "300ms"];
    let (relay, mut feed) = Relay::with(&options).by_hand();
    feed_records(&mut feed, 0..10);
    let mut connection = accept(&listener);
    let bytes = read_until(&mut connection, 9);
    wait_until("it has said why", || relay.said().contains("tcp://no-such-host.invalid: cannot connect: "));
    feed.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/lost/drain_deadline")), (Some(75), 10), "{exit:?}");
    assert_eq!(exit.number("/destinations/1/sent"), 10);
    assert_all(serials(&bytes), 10);
}

/// Where nobody listens at a port that the kernel may also give to a client, a socket may meet itself: everything would be
/// sent, and the receiver could not come back to its port.
#[test]
fn a_connection_never_meets_itself() {
    in_a_network(|_| {
        for (scheme, total) in [("tcp", 30), ("udp", 30)] {
            // Two ports for all clients: every other socket gets the receiver's.
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
            let (relay, mut feed) =
                Relay::to(&format!("{scheme}://127.0.0.1:40000")).options(&QUICK).by_hand();
            feed_records(&mut feed, 0..total);
            wait_until("it has tried often", || {
                let report = relay.report();
                assert!(scheme == "udp" || report["destinations"][0]["sent"] == 0, "{report}");
                report["destinations"][0]["failures"].as_u64() >= Some(4)
            });
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999").unwrap();
            if scheme == "tcp" {
                let listener = TcpListener::bind("127.0.0.1:40000").expect("the receiver's port is free");
                let mut connection = accept(&listener);
                feed.close();
                assert_all(serials(&read_to_end(&mut connection)), total);
                assert_eq!(relay.exit().number("/destinations/0/sent"), total as u64);
            } else {
                // What met a closed port is lost, as UDP is; no more than one an attempt.
                drop(UdpSocket::bind("127.0.0.1:40000").expect("the receiver's port is free"));
                drop(feed);
                drop(relay);
            }
        }
    });
}
