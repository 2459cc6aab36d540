//! `failover` and `balance`: a receiver dies, another takes its place, the first comes back; nothing is missing and
//! no message is torn.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use support::relay::{Feed, Relay};
use support::sink::{Framing, accept, read_bytes, reset};
use support::{line, serial, wait_until};

/// A receiver that reads all it is sent, until it is killed.
struct Receiver {
    address: SocketAddr,
    /// The bytes of each connection.
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        // A fixed and small buffer, inherited by the connections: it bounds what dies with them.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(16).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (bytes, ends) = (Arc::clone(&connections), Arc::clone(&stop));
        let thread = Some(thread::spawn(move || receive(&listener, &bytes, &ends)));
        Self { address, connections, stop, thread }
    }

    fn new() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    fn bytes(&self) -> usize {
        self.connections.lock().unwrap().iter().map(Vec::len).sum()
    }

    /// Resets what is open, listens no more, and returns what each connection brought.
    fn kill(mut self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.connections.lock().unwrap())
    }

    /// Waits for the end of the open connections.
    fn finish(self) -> Vec<Vec<u8>> {
        self.kill()
    }
}

fn receive(listener: &TcpListener, bytes: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    use std::io::Read as _;
    listener.set_nonblocking(true).unwrap();
    let mut open: Vec<(usize, TcpStream)> = Vec::new();
    let mut space = vec![0; 64 * 1024];
    while !stop.load(Ordering::Acquire) {
        let mut idle = true;
        if let Ok((connection, _)) = listener.accept() {
            connection.set_nonblocking(true).unwrap();
            let mut bytes = bytes.lock().unwrap();
            open.push((bytes.len(), connection));
            bytes.push(Vec::new());
        }
        open.retain_mut(|(at, connection)| match connection.read(&mut space) {
            Ok(0) => false,
            Ok(count) => {
                bytes.lock().unwrap()[*at].extend_from_slice(&space[..count]);
                idle = false;
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        if idle {
            thread::sleep(Duration::from_micros(500));
        }
    }
    open.into_iter().for_each(|(_, connection)| reset(connection));
}

/// Feeds records one after the other until told to stop; gives the feed and the number of records back.
fn feed_steadily(mut feed: Feed) -> (Arc<AtomicBool>, JoinHandle<(Feed, usize)>) {
    let stop = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&stop);
    let feeding = thread::spawn(move || {
        let mut number = 0;
        while !ends.load(Ordering::Acquire) {
            (0..20).for_each(|_| {
                feed.write(&line(number, 100));
                number += 1;
            });
            thread::sleep(Duration::from_millis(2));
        }
        (feed, number)
    });
    (stop, feeding)
}

/// The serials in the whole messages of these connections; the tail of one that was reset may be torn.
fn serials<'a>(connections: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Vec<usize>> {
    let one =
        |bytes: &Vec<u8>| Framing::Octet.cut(bytes).0.iter().map(|message| serial(&message.text)).collect();
    connections.into_iter().map(one).collect()
}

#[track_caller]
fn assert_all_arrived(serials: &[Vec<usize>], total: usize) {
    let seen: BTreeSet<usize> = serials.iter().flatten().copied().collect();
    let missing: Vec<_> = (0..total).filter(|number| !seen.contains(number)).take(5).collect();
    assert!(missing.is_empty(), "{} of {total} arrived; missing from {missing:?}", seen.len());
    for connection in serials {
        assert!(connection.is_sorted(), "out of order inside a connection");
    }
}

/// The first dies: the second has records within 2 s. The first comes back: it gets them again, and the second's
/// connection ends in order.
#[test]
fn the_second_takes_over_and_the_first_is_returned_to() {
    let (first, second) = (Receiver::new(), Receiver::new());
    let address = first.address;
    let urls = [first.url(), second.url()].join(",");
    let group = format!("failover:{urls}");
    let (relay, feed) =
        Relay::with(&["--failover", &urls, "--replay", "1MiB", "--drain-timeout", "20s"]).by_hand();
    let (stop, feeding) = feed_steadily(feed);
    wait_until("the first has records", || first.bytes() > 100_000);
    assert_eq!(second.bytes(), 0, "the second gets nothing while the first is well");
    assert_eq!(relay.report()["destinations"][0]["connected"][0], first.url());

    let died = Instant::now();
    let mut connections = first.kill();
    wait_until("the second has records", || second.bytes() > 0);
    assert!(died.elapsed() < Duration::from_secs(2), "{:?}", died.elapsed());
    wait_until("the second has many", || second.bytes() > 100_000);
    assert_eq!(relay.report()["destinations"][0]["connected"][0], second.url());

    let again = Receiver::at(address);
    wait_until("the first is returned to", || again.bytes() > 100_000);
    stop.store(true, Ordering::Release);
    let (feed, total) = feeding.join().unwrap();
    feed.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.report["destinations"][0]["url"].as_str()), (Some(0), Some(&*group)));
    assert_eq!(exit.number("/destinations/0/sent"), total as u64, "{exit:?}");

    for connection in second.finish().iter().chain(&again.finish()) {
        // Ended in order, so not even the last message is torn.
        assert!(Framing::Octet.cut(connection).1.is_empty());
        connections.push(connection.clone());
    }
    assert_all_arrived(&serials(&connections), total);
}

/// The first host vanishes without a word: nobody answers its packets any more. (Its process is stopped, its window
/// is full, and nothing goes forward for `tcp-user-timeout`.)
#[test]
fn a_silent_first_is_left_after_its_time_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&silent).set_recv_buffer_size(1).unwrap();
    let second = Receiver::new();
    let urls = format!("tcp://{},{}", silent.local_addr().unwrap(), second.url());
    let options = ["--failover", &urls, "--tcp-user-timeout", "1s", "--drain-timeout", "20s"];
    let (relay, feed) = Relay::with(&options).by_hand();
    let total = 30_000;
    let feeding = feed.write_on_a_thread((0..total).flat_map(|number| line(number, 200)).collect());
    let mut first = accept(&silent);
    let early = read_bytes(&mut first, 1000);
    wait_until("the second has records", || second.bytes() > 0);
    let feed = feeding.join().unwrap();
    feed.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), total as u64), "{exit:?}");
    // What the silent one's kernel had acknowledged it can still read.
    let late = read_to_end_or_reset(&mut first);
    let first = [early, late].concat();
    assert_all_arrived(&serials(&[vec![first], second.finish()].concat()), total);
}

fn read_to_end_or_reset(connection: &mut TcpStream) -> Vec<u8> {
    use std::io::Read as _;
    let (mut bytes, mut space) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = connection.read(&mut space) {
        bytes.extend_from_slice(&space[..count]);
    }
    bytes
}

/// Nobody is there at first; then only the second; both count.
#[test]
fn a_group_waits_for_whoever_comes() {
    let (first, second) = (Receiver::new(), Receiver::new());
    let two = second.address;
    let urls = [first.url(), second.url()].join(",");
    first.kill();
    second.kill();
    let (relay, mut feed) = Relay::with(&["--failover", &urls, "--drain-timeout", "20s"]).by_hand();
    (0..100).for_each(|number| feed.write(&line(number, 0)));
    wait_until("it has tried both", || relay.report()["destinations"][0]["failures"].as_u64() > Some(3));
    let second = Receiver::at(two);
    feed.close();
    assert_eq!(relay.exit().number("/destinations/0/sent"), 100);
    assert_all_arrived(&serials(&second.finish()), 100);
}

/// All get their share; what one that dies had in hand goes to the others.
#[test]
fn balance_spreads_and_survives_a_death() {
    let receivers = [Receiver::new(), Receiver::new(), Receiver::new()];
    let urls = receivers.each_ref().map(Receiver::url).join(",");
    let (relay, feed) =
        Relay::with(&["--balance", &urls, "--replay", "1MiB", "--drain-timeout", "20s"]).by_hand();
    let (stop, feeding) = feed_steadily(feed);
    wait_until("all have records", || receivers.iter().all(|receiver| receiver.bytes() > 50_000));
    assert_eq!(relay.report()["destinations"][0]["connected"].as_array().unwrap().len(), 3);
    let [one, two, three] = receivers;
    let mut connections = one.kill();
    let before = two.bytes() + three.bytes();
    wait_until("the others go on", || two.bytes() + three.bytes() > before + 200_000);
    stop.store(true, Ordering::Release);
    let (feed, total) = feeding.join().unwrap();
    feed.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), total as u64), "{exit:?}");
    for connection in two.finish().iter().chain(&three.finish()) {
        assert!(Framing::Octet.cut(connection).1.is_empty());
        connections.push(connection.clone());
    }
    let serials = serials(&connections);
    let seen: BTreeSet<usize> = serials.iter().flatten().copied().collect();
    assert_eq!(seen.len(), total, "all arrived");
}

/// A balanced receiver that takes nothing does not hold up the others; what it has in hand goes to them in the end.
#[test]
fn balance_does_not_wait_for_one_that_takes_nothing() {
    let stalled = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&stalled).set_recv_buffer_size(1).unwrap();
    let well = Receiver::new();
    let urls = format!("tcp://{},{}", stalled.local_addr().unwrap(), well.url());
    let options = ["--balance", &urls, "--tcp-user-timeout", "1s", "--drain-timeout", "20s"];
    let (relay, feed) = Relay::with(&options).by_hand();
    let total = 30_000;
    let feeding = feed.write_on_a_thread((0..total).flat_map(|number| line(number, 200)).collect());
    let mut never_read = accept(&stalled);
    wait_until("the other has most", || well.bytes() > 5_000_000);
    feeding.join().unwrap().close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), total as u64), "{exit:?}");
    let late = read_to_end_or_reset(&mut never_read);
    let serials = serials(&[vec![late], well.finish()].concat());
    let seen: BTreeSet<usize> = serials.iter().flatten().copied().collect();
    assert_eq!(seen.len(), total, "all arrived");
}
