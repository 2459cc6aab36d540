//! Receivers that come late, go, come back, and die in the middle of a message.
//!
//! What plain syslog cannot promise is not asserted: what the kernel had taken for a connection that then died is
//! gone. Asserted is that nothing else is: no record twice, none out of order, no message torn other than the dead
//! connection's tail, and no gap other than one between two connections.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::fs;
use std::io::Read as _;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::thread;

use support::fake_auditd::Auditd;
use support::relay::Relay;
use support::sink::{
    ClosedPort, Framing, Message, Place, accept, accept_unix, bind_datagram, bind_stream, narrow_listener,
    read_bytes, read_to_end, reset,
};
use support::{PATIENCE, line, serial, wait_until};

/// The serials of the whole messages in one connection's bytes.
fn serials(framing: Framing, bytes: &[u8]) -> Vec<usize> {
    framing.cut(bytes).0.iter().map(|message| serial(&message.text)).collect()
}

/// Reads one datagram, waiting for it.
fn next_serial(receiver: &UnixDatagram) -> usize {
    let mut buffer = [0; 70_000];
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = receiver.recv(&mut buffer).expect("a datagram comes");
    serial(&Message::read(&buffer[..length]).text)
}

/// Closes a receiver and waits until it is dead: a process that another test is just starting may hold a copy of
/// the socket for a moment, and what is sent to it then is gone.
fn take_away(receiver: UnixDatagram, place: &Place) {
    let probe = UnixDatagram::unbound().unwrap();
    probe.connect(place.path()).unwrap();
    probe.set_nonblocking(true).unwrap();
    drop(receiver);
    fs::remove_file(place.path()).unwrap();
    wait_until("the receiver is dead", || {
        probe.send(b"").is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
}

fn read_one_message(connection: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(read_bytes(connection, 1));
        if let [serial] = serials(Framing::Octet, &bytes)[..] {
            return serial;
        }
    }
}

#[test]
fn a_datagram_receiver_that_is_not_there_yet_gets_everything_once_it_is() {
    let place = Place::new();
    let (relay, mut auditd) =
        Relay::to(&format!("unix:{}", place.path().display())).under(Auditd::FirstStart);
    (0..100).for_each(|number| auditd.write(&line(number, 0)));
    wait_until("the relay has tried in vain", || {
        relay.report()["destinations"][0]["failures"].as_u64() > Some(1)
    });
    let receiver = bind_datagram(&place.path());
    for number in 0..100 {
        assert_eq!(next_serial(&receiver), number);
    }
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
}

#[test]
fn a_tcp_receiver_that_is_not_there_yet_gets_everything_once_it_is() {
    let port = ClosedPort::new();
    let (relay, mut auditd) = Relay::to(&format!("tcp://{}", port.address())).under(Auditd::FirstStart);
    (0..100).for_each(|number| auditd.write(&line(number, 0)));
    wait_until("the relay has tried in vain", || {
        relay.report()["destinations"][0]["failures"].as_u64() > Some(1)
    });
    let mut connection = accept(&port.listen());
    (0..100).for_each(|number| assert_eq!(read_one_message(&mut connection), number));
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
}

/// What a restart of syslogd looks like on /dev/log.
#[test]
fn a_datagram_receiver_that_restarts_misses_nothing_that_it_had_not_queued() {
    let place = Place::new();
    let (relay, mut auditd) =
        Relay::to(&format!("unix:{}", place.path().display())).under(Auditd::FirstStart);
    for round in 0..4 {
        let receiver = bind_datagram(&place.path());
        for number in 0..20 {
            auditd.write(&line(round * 100 + number, 0));
            assert_eq!(next_serial(&receiver), round * 100 + number);
        }
        take_away(receiver, &place);
        // While it is away, the relay finds the old socket dead and no new one.
        auditd.write(&line(round * 100 + 20, 0));
        auditd.write(&line(round * 100 + 21, 0));
        let receiver = bind_datagram(&place.path());
        assert_eq!((next_serial(&receiver), next_serial(&receiver)), (round * 100 + 20, round * 100 + 21));
        take_away(receiver, &place);
    }
    auditd.close();
    assert_eq!(relay.exit().number("/destinations/0/sent"), 4 * 22);
}

/// The relay waits for room at a socket that is then closed: nothing may wait for it for ever.
#[test]
fn a_stalled_datagram_receiver_that_is_replaced_does_not_wedge() {
    let place = Place::new();
    let stalled = bind_datagram(&place.path());
    let (relay, mut auditd) =
        Relay::to(&format!("unix:{}", place.path().display())).under(Auditd::FirstStart);
    (0..2000).for_each(|number| auditd.write(&line(number, 0)));
    relay.wait_for("/read", 2000);
    let (mut bytes, mut before) = (0, 0);
    wait_until("the socket is full", || {
        before = std::mem::replace(&mut bytes, relay.report()["destinations"][0]["bytes"].as_u64().unwrap());
        bytes > 0 && bytes == before
    });
    // What the socket holds dies with it: that many records, the header being always of the same length.
    let header = format!("<182>Nov 23 09:02:31 auditd[{}]: ", relay.id()).len() - "\n".len();
    let mut room = usize::try_from(bytes).unwrap();
    let in_the_socket = (0..2000)
        .take_while(|number| {
            room.checked_sub(header + line(*number, 0).len()).map(|rest| room = rest).is_some()
        })
        .count();
    fs::remove_file(place.path()).unwrap();
    let receiver = bind_datagram(&place.path());
    drop(stalled);
    (in_the_socket..2000).for_each(|number| assert_eq!(next_serial(&receiver), number));
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
}

/// The kernel takes a write after the peer's FIN and throws it away; the relay must look first.
#[test]
fn a_tcp_receiver_that_closes_between_records_misses_nothing() {
    let port = ClosedPort::new();
    let address = port.address();
    let listener = port.listen();
    let (relay, mut auditd) = Relay::to(&format!("tcp://{address}")).under(Auditd::FirstStart);
    for round in 0..4 {
        auditd.write(&line(2 * round, 0));
        auditd.write(&line(2 * round + 1, 0));
        let mut connection = accept(&listener);
        assert_eq!(
            (read_one_message(&mut connection), read_one_message(&mut connection)),
            (2 * round, 2 * round + 1)
        );
        drop(connection);
        // Until the FIN is there, no sender can know.
        let failures = || relay.report()["destinations"][0]["failures"].as_u64();
        wait_until("the relay has seen the close", || failures() > Some(round as u64));
    }
    auditd.write(&line(8, 0));
    auditd.close();
    let mut connection = accept(&listener);
    let exit = relay.exit();
    assert_eq!(serials(Framing::Octet, &read_to_end(&mut connection)), [8]);
    assert_eq!((exit.number("/destinations/0/sent"), exit.number("/destinations/0/reconnects")), (9, 4));
}

#[test]
fn a_stream_socket_that_closes_between_records_misses_nothing() {
    let place = Place::new();
    let listener = bind_stream(&place.path());
    let (relay, mut auditd) =
        Relay::to(&format!("unix-stream:{}", place.path().display())).under(Auditd::FirstStart);
    for round in 0..5 {
        auditd.write(&line(round, 0));
        let mut connection = accept_unix(&listener);
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n") {
            bytes.extend(read_bytes(&mut connection, 1));
        }
        assert_eq!(serials(Framing::Lf, &bytes), [round]);
        drop(connection);
    }
    auditd.close();
    assert_eq!(relay.exit().number("/destinations/0/sent"), 5);
}

/// Asserts what must hold between the bytes of consecutive connections, the last of which ended in order.
/// With `replay`, records may come twice: a receiver's kernel may have had them without having said so.
#[track_caller]
fn no_message_is_torn(framing: Framing, connections: &[Vec<u8>], total: usize, replay: bool) {
    let (last, dead) = connections.split_last().unwrap();
    assert!(framing.cut(last).1.is_empty(), "the last connection ends between messages");
    let mut next = 0;
    for (at, bytes) in dead.iter().chain([last]).enumerate() {
        // `cut` panics if a connection does not start at a message, or goes wrong in its middle.
        for (position, serial) in serials(framing, bytes).into_iter().enumerate() {
            if position == 0 && at > 0 {
                assert!(replay || serial >= next, "record {serial} twice");
            } else {
                assert_eq!(serial, next, "a gap inside connection {at}");
            }
            next = serial + 1;
        }
    }
    assert_eq!(next, total, "the last record arrives");
}

/// Reads `offset` bytes of each of three connections and resets it; reads the fourth to its end.
fn reset_three_times_at(offset: usize, replay: &str) {
    const ROUND: usize = 1000;
    let listener = narrow_listener();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let (relay, mut feed) = Relay::to(&url).options(&["--replay", replay]).by_hand();
    let mut connections = Vec::new();
    for round in 0..3 {
        // On loopback the kernel takes all of a round at once, so each connection needs its own.
        (round * ROUND..(round + 1) * ROUND).for_each(|number| feed.write(&line(number, number % 250)));
        let mut connection = accept(&listener);
        connections.push(read_bytes(&mut connection, offset));
        reset(connection);
    }
    (3 * ROUND..4 * ROUND).for_each(|number| feed.write(&line(number, number % 250)));
    feed.close();
    let mut connection = accept(&listener);
    let reading = thread::spawn(move || read_to_end(&mut connection));
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 4 * ROUND as u64), "{exit:?}");
    connections.push(reading.join().unwrap());
    no_message_is_torn(Framing::Octet, &connections, 4 * ROUND, replay == "unacked");
    let last = serials(Framing::Octet, &connections[3]);
    assert!(last.contains(&(3 * ROUND)), "what was read after the last reset arrives: {:?}", last.first());
}

#[test]
fn resets_at_many_byte_offsets_tear_no_message() {
    for replay in ["off", "unacked"] {
        thread::scope(|scope| {
            let offsets = [0, 1, 3, 4, 90, 233, 234, 1000, 4096, 10_007, 65_536, 100_003];
            let runs = offsets.map(|offset| scope.spawn(move || reset_three_times_at(offset, replay)));
            for (run, offset) in runs.into_iter().zip(offsets) {
                assert!(run.join().is_ok(), "reset after {offset} bytes with replay = {replay}");
            }
        });
    }
}

#[test]
fn a_stream_socket_that_dies_at_many_byte_offsets_tears_no_message() {
    let place = Place::new();
    let listener = bind_stream(&place.path());
    let total = 12_000;
    let (relay, feed) = Relay::to(&format!("unix-stream:{}", place.path().display())).by_hand();
    let writing = feed.write_on_a_thread((0..total).flat_map(|number| line(number, number % 250)).collect());
    let mut connections = Vec::new();
    for offset in [0, 1, 2, 100, 255, 10_007, 70_001] {
        let mut connection = accept_unix(&listener);
        connections.push(read_bytes(&mut connection, offset));
    }
    let mut connection = accept_unix(&listener);
    let reading = thread::spawn(move || read_to_end(&mut connection));
    writing.join().unwrap().close();
    assert_eq!(relay.exit().number("/destinations/0/sent"), total as u64);
    connections.push(reading.join().unwrap());
    no_message_is_torn(Framing::Lf, &connections, total, false);
}

/// A receiver may finish what it has been sent after it has said that it will send nothing itself.
#[test]
fn a_receiver_that_shuts_down_its_sending_side_loses_nothing_that_was_sent() {
    let port = ClosedPort::new();
    let address = port.address();
    let listener = port.listen();
    let (relay, mut auditd) = Relay::to(&format!("tcp://{address}")).under(Auditd::FirstStart);
    (0..50).for_each(|number| auditd.write(&line(number, 0)));
    let mut half = accept(&listener);
    half.shutdown(std::net::Shutdown::Write).unwrap();
    // Else the last record may go out before the FIN is seen, and no second connection is needed.
    wait_until("the relay has seen the close", || {
        relay.report()["destinations"][0]["failures"].as_u64() > Some(0)
    });
    auditd.write(&line(50, 0));
    auditd.close();
    let mut whole = accept(&listener);
    assert_eq!(relay.exit().number("/destinations/0/sent"), 51);
    no_message_is_torn(Framing::Octet, &[read_to_end(&mut half), read_to_end(&mut whole)], 51, false);
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
}

/// A datagram to a closed port is gone before anybody can know; each attempt costs at most one.
#[test]
fn a_udp_receiver_that_is_not_there_yet_misses_no_more_than_one_record_an_attempt() {
    // An address of its own, so that nobody else takes the port in between.
    let address = UdpSocket::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
    let (relay, mut auditd) = Relay::to(&format!("udp://{address}")).under(Auditd::FirstStart);
    (0..200).for_each(|number| auditd.write(&line(number, 0)));
    wait_until("the relay has noticed", || relay.report()["destinations"][0]["failures"].as_u64() >= Some(2));
    let receiver = UdpSocket::bind(address).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 2000];
    let mut arrived = Vec::new();
    while arrived.last() != Some(&199) {
        let length = receiver.recv(&mut buffer).expect("a datagram comes");
        arrived.push(serial(&Message::read(&buffer[..length]).text));
    }
    auditd.close();
    let exit = relay.exit();
    let missing = 200 - arrived.len() as u64;
    assert!(arrived.is_sorted_by(|a, b| a + 1 == *b), "missing only at the start: {arrived:?}");
    assert!(
        missing >= 1 && missing <= exit.number("/destinations/0/failures"),
        "{missing} missing: {exit:?}"
    );
}

#[test]
fn a_udp_receiver_that_goes_and_comes_back_gets_the_records_after_that() {
    let address = UdpSocket::bind("127.0.0.4:0").unwrap().local_addr().unwrap();
    let (relay, mut auditd) = Relay::to(&format!("udp://{address}")).under(Auditd::FirstStart);
    let mut buffer = [0; 2000];
    for round in 0..3 {
        let receiver = UdpSocket::bind(address).unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        // The first ones may meet the news that the port was closed.
        let mut number = round * 1000;
        wait_until("records arrive again", || {
            number += 1;
            auditd.write(&line(number, 0));
            receiver.recv(&mut buffer).is_ok()
        });
        drop(receiver);
        auditd.write(&line(number + 1, 0));
    }
    auditd.close();
    let _ = relay.exit();
}

/// The log is spared, but no receiver's trouble is kept from it by the others'.
#[test]
fn each_of_many_receivers_that_are_away_is_named() {
    let closed = ClosedPort::new();
    let port = closed.address().port();
    let urls: Vec<_> = (1..=60).map(|number| format!("tcp://127.0.1.{number}:{port}")).collect();
    let options: Vec<_> = urls.iter().flat_map(|url| ["--to", url.as_str()]).collect();
    let (relay, mut feed) = Relay::with(&options).options(&["--drain-timeout", "0ms"]).by_hand();
    feed.write(&line(0, 0));
    wait_until("each is named", || {
        let said = relay.said();
        urls.iter().all(|url| said.contains(&format!("audit-relay: {url}: cannot connect")))
    });
    feed.close();
    relay.exit();
}
