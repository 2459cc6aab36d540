//! Datagrams: /dev/log and its like, and UDP. One message each, many a system call.
//!
//! Law: a datagram that the kernel refuses as too long (EMSGSIZE) never holds up the others. It is cut
//! until it fits, and later messages are cut to that length before they get here.
//!
//! What the kernel may answer, and what it means here:
//!
//! | errno | meaning | then |
//! |---|---|---|
//! | EAGAIN | the receiver's queue is full | wait until it can take one; a quick local receiver is tried again first |
//! | ENOBUFS, ENOMEM | the kernel is short of memory | wait a moment, same socket |
//! | EMSGSIZE | longer than socket or path takes | cut |
//! | ECONNREFUSED on UDP | an earlier datagram met a closed port; this one was not sent | failure, try again |
//! | fewer than asked for on UDP, and something in the error queue | the same: the kernel gives this error once, and sendmmsg(2) swallows it when it hits the second datagram | failure, try again |
//! | ECONNREFUSED, ENOTCONN, ECONNRESET on unix | the receiver is gone | failure, connect by path again |
//!
//! A receiver whose queue is full takes one or two of the messages that wait for each call, and a refused call before
//! them. Where calls are recorded, that makes more records than it sends. So where the relay's own records are among the
//! messages, a full queue is given time to empty (`Rest`), and what is sent goes in few calls.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixDatagram};

use super::hand::Hand;
use super::wire::not_ourselves;
use crate::queue::Consumer;
use crate::sys::{SEND_MANY, send_many};
use crate::syslog::cut_message;
use crate::telemetry::{DestinationCounters, Reason};

/// Pause when the kernel is short of memory.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(5);

/// A call that sends so many messages sends twice what it makes: two records, and two for the wake-up behind it.
const WORTH_A_CALL: usize = 8;

/// No datagram is cut below what every receiver must take (RFC 5424 section 6.1).
const SHORTEST_CUT: usize = 480;

/// How long a full receiver is left alone. It grows while the calls send little.
#[derive(Debug)]
struct Rest(Duration);

impl Default for Rest {
    fn default() -> Self {
        Self(Self::SHORTEST)
    }
}

impl Rest {
    /// Timers are no finer. A receiver that is awake empties a queue of the usual length (10) in less.
    const SHORTEST: Duration = Duration::from_millis(1);

    /// No message of somebody else's waits longer for a receiver that has room.
    const LONGEST: Duration = Duration::from_millis(64);

    /// How long to rest after a call that sent `sent` messages of more.
    fn after(&mut self, sent: usize) -> Duration {
        if sent < WORTH_A_CALL {
            self.0 = (self.0 * 2).min(Self::LONGEST);
        }
        self.0
    }
}

/// Whether to try a full receiver again at once. One that is awake on another processor empties a short queue (11
/// messages, as kernels come) in a few microseconds, and to sleep and be woken costs both sides more than those. One
/// that takes its time, or much at a time, is waited for asleep.
#[derive(Debug)]
struct Insist {
    /// Full queues to wait at before it is tried again.
    wait_out: u32,
    /// How many those were the last time.
    doubt: u32,
    /// What a message costs if the next full queue is waited for asleep.
    asleep: Duration,
}

impl Default for Insist {
    fn default() -> Self {
        Self { wait_out: 0, doubt: 0, asleep: Self::DEAREST }
    }
}

impl Insist {
    /// At most so long: the wake-up of a receiver.
    const FOR: Duration = Duration::from_micros(10);

    /// About what it costs to go to sleep, be woken, and wake the receiver.
    const SLEEP: Duration = Duration::from_micros(22);

    /// A receiver that takes one message at a time would have us busy for as long as it is.
    const DEAREST: Duration = Duration::from_micros(2);

    const LONGEST_DOUBT: u32 = 64;

    /// The queue is full: is it worth it?
    fn now(&mut self) -> bool {
        let worth = self.wait_out == 0;
        self.wait_out = self.wait_out.saturating_sub(1);
        worth
    }

    /// So many messages went between a sleep and a full queue.
    fn slept(&mut self, messages: usize) {
        let each = Self::SLEEP / u32::try_from(messages).unwrap_or(u32::MAX).max(1);
        self.asleep = each.min(Self::DEAREST);
    }

    /// The receiver took `taken` messages after `elapsed`.
    fn learn(&mut self, taken: usize, elapsed: Duration) {
        let worth = taken > 0 && elapsed <= self.asleep * u32::try_from(taken).unwrap_or(u32::MAX);
        self.doubt = if worth { 0 } else { (self.doubt * 2 + 1).min(Self::LONGEST_DOUBT) };
        self.wait_out = self.doubt;
    }
}

/// A connected datagram socket.
#[derive(Debug)]
pub(super) enum Datagram {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Datagram {
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self::Unix(socket))
    }

    pub(super) async fn udp(address: SocketAddr) -> io::Result<Self> {
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        // Errors that come back by ICMP are kept in a queue of their own, where nothing swallows them.
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
        socket.connect(address).await?;
        not_ourselves(socket.local_addr()?, socket.peer_addr()?)?;
        Ok(Self::Udp(socket))
    }

    /// Empties the error queue of a UDP socket: true if some datagram was refused on its way.
    fn was_refused(&self) -> bool {
        let Self::Udp(socket) = self else { return false };
        let mut refused = false;
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        while recv(socket.as_raw_fd(), &mut [0; 1], flags).is_ok() {
            refused = true;
        }
        refused
    }

    async fn send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let send = |socket: BorrowedFd<'_>| send_many(socket, slices);
        match self {
            Self::Unix(socket) => socket.async_io(Interest::WRITABLE, || send(socket.as_fd())).await,
            Self::Udp(socket) => socket.async_io(Interest::WRITABLE, || send(socket.as_fd())).await,
        }
    }

    /// Tries a local receiver again for a moment, if that is worth it: the messages that were taken, if any.
    fn insist(&self, insist: &mut Insist, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let Self::Unix(socket) = self else { return None };
        if !insist.now() {
            return None;
        }
        let start = Instant::now();
        loop {
            let sent = send_many(socket.as_fd(), slices);
            let elapsed = start.elapsed();
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if elapsed > Insist::FOR {
                        insist.learn(0, elapsed);
                        return None;
                    }
                    std::hint::spin_loop();
                }
                sent => {
                    insist.learn(*sent.as_ref().unwrap_or(&0), elapsed);
                    return Some(sent);
                }
            }
        }
    }

    /// Sends what the receiver takes at once; if that is nothing, waits until it takes something and returns 0.
    async fn send_slices_sparingly(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let send = |socket: BorrowedFd<'_>| send_many(socket, slices);
        let sent = match self {
            Self::Unix(socket) => socket.try_io(Interest::WRITABLE, || send(socket.as_fd())),
            Self::Udp(socket) => socket.try_io(Interest::WRITABLE, || send(socket.as_fd())),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match self {
                    Self::Unix(socket) => socket.writable().await?,
                    Self::Udp(socket) => socket.writable().await?,
                }
                Ok(0)
            }
            sent => sent,
        }
    }

    /// Sends everything in `hand`.
    pub(super) async fn send(
        &self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        let mut rest = Rest::default();
        let mut insist = Insist::default();
        // Messages since the queue was full, where that was waited for.
        let (mut full, mut run) = (false, Some(0));
        while let Some((front, done)) = hand.front() {
            let sparingly = front.echoes;
            let mut slices = [IoSlice::new(&[]); SEND_MANY];
            let count = (front.entries().len() - done).min(SEND_MANY);
            for (slice, at) in slices.iter_mut().zip(done..).take(count) {
                *slice = IoSlice::new(front.message(at));
            }
            let sent = if sparingly {
                self.send_slices_sparingly(&slices[..count]).await
            } else {
                match if full { self.insist(&mut insist, &slices[..count]) } else { None } {
                    Some(sent) => {
                        run = None;
                        sent
                    }
                    None => self.send_slices(&slices[..count]).await,
                }
            };
            match sent {
                Ok(0) => tokio::time::sleep(rest.after(0)).await,
                Ok(sent) => {
                    let short = sent < count;
                    full = short;
                    run = run.map(|run| run + sent);
                    if full {
                        run.iter().for_each(|run| insist.slept(*run));
                        run = Some(0);
                    }
                    let bytes = front.entries()[done + sent - 1].end() - front.start(done);
                    hand.advance(bytes, false, consumer, counters);
                    if short && self.was_refused() {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    if short && sparingly {
                        tokio::time::sleep(rest.after(sent)).await;
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMSGSIZE) => self.send_cut(hand, consumer, counters).await?,
                    Some(libc::ENOBUFS | libc::ENOMEM) => tokio::time::sleep(NO_MEMORY_PAUSE).await,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Sends the next message, which is too long, cut as little as the socket allows.
    async fn send_cut(
        &self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        let Some((front, done)) = hand.front() else {
            return Ok(());
        };
        let message = front.message(done);
        // Whole at first: the error may have been about an earlier, longer datagram (a path's limit that a
        // router has told), and is used up by now.
        let mut limit = message.len();
        self.was_refused();
        loop {
            let cut = cut_message(message, limit);
            match self.send_slices(&[IoSlice::new(&cut)]).await {
                Ok(_) => {
                    counters.sent_bytes(cut.len());
                    if limit < message.len() {
                        counters.cut_at_output();
                        counters.learn_size_limit(Some(limit));
                    }
                    hand.skip_message(consumer, counters);
                    return Ok(());
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMSGSIZE) if limit <= SHORTEST_CUT => break,
                    Some(libc::EMSGSIZE) => limit = (limit - limit / 8).max(SHORTEST_CUT),
                    Some(libc::ENOBUFS | libc::ENOMEM) => tokio::time::sleep(NO_MEMORY_PAUSE).await,
                    _ => return Err(error),
                },
            }
        }
        hand.lose_message(Reason::Oversize, consumer, counters);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quick_receiver_is_tried_again_at_once() {
        let mut insist = Insist::default();
        for _ in 0..3 {
            assert!(insist.now());
            insist.learn(3, Insist::DEAREST * 3);
        }
        // One message in the time of two: sleep once, then thrice, at last 64 times.
        for sleeps in [1, 3, 7, 15, 31, 63, 64, 64] {
            assert!(insist.now());
            insist.learn(1, Insist::DEAREST * 2);
            assert_eq!((0..200).take_while(|_| !insist.now()).count(), sleeps);
        }
        insist.learn(0, Insist::FOR);
        assert_eq!(insist.wait_out, Insist::LONGEST_DOUBT);
        insist.learn(1, Insist::DEAREST);
        assert!(insist.now());
    }

    #[test]
    fn a_receiver_that_takes_much_at_a_time_is_waited_for() {
        let mut insist = Insist::default();
        insist.slept(100);
        insist.learn(1, Duration::from_nanos(500));
        assert!(!insist.now());
        insist.slept(0);
        assert_eq!(insist.asleep, Insist::DEAREST);
        insist.slept(11);
        insist.learn(1, Duration::from_micros(2));
        assert!(insist.now());
    }

    #[test]
    fn calls_that_send_little_become_few() {
        let mut rest = Rest::default();
        assert_eq!(rest.after(WORTH_A_CALL), Rest::SHORTEST);
        assert_eq!(rest.after(WORTH_A_CALL - 1), 2 * Rest::SHORTEST);
        assert_eq!(rest.after(0), 4 * Rest::SHORTEST);
        assert_eq!(rest.after(WORTH_A_CALL), 4 * Rest::SHORTEST);
        (0..9).for_each(|_| _ = rest.after(0));
        assert_eq!(rest.after(1), Rest::LONGEST);
    }
}
