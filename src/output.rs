//! 6 SEND: one destination, from its queue to its transport.
//!
//! Promise: batches go out in order; a message is either handed to the transport whole or kept and sent
//! again whole; a destination that is away is tried again for as long as the relay lives. Law: an output
//! waits for nobody but its own peer, and counts a record as sent only when the kernel has taken it.
//!
//! Each output is a task on the one runtime thread: it waits for a batch, its peer's close and its timers
//! at once. Transports differ in how they connect and how they write; all else is here.

mod datagram;
mod retry;
mod stdout;
mod stream;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::time::timeout;

use crate::batch::Batch;
use crate::queue::Consumer;
use crate::telemetry::{DestinationCounters, Reason};
use datagram::Datagram;
use retry::Retry;
use stdout::Stdout;
use stream::Stream;

/// Where to, after the configuration has been understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A datagram socket in the file system.
    Unix(std::path::PathBuf),
    /// A stream socket in the file system.
    UnixStream(std::path::PathBuf),
    /// UDP to a name or address.
    Udp(String, u16),
    /// TCP to a name or address.
    Tcp(String, u16),
    /// Standard output.
    Stdout,
}

/// Limit for looking up a name, and for each attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that lasted this long counts as a success: the next failure is the first one again.
const STABLE: Duration = Duration::from_secs(5);

/// Most batches, and about the most bytes, that one write takes.
const GATHER_BATCHES: usize = 16;

/// Batches that the output has taken and not yet settled, and how far it has come with the first.
#[derive(Debug, Default)]
struct Hand {
    batches: VecDeque<Batch>,
    /// Messages of the first batch that are sent (or lost, and counted as such).
    done: usize,
    /// Bytes of the first batch that are sent: at or behind the start of message `done`, before its end.
    offset: usize,
    /// Records among the `done` messages that were lost.
    lost: u64,
}

impl Hand {
    /// Counts `bytes` more as taken by the transport and settles the batches that are through.
    fn advance(&mut self, mut bytes: usize, consumer: &Consumer, counters: &DestinationCounters) {
        counters.sent_bytes(bytes);
        while let Some(front) = self.batches.front() {
            let left = front.bytes.len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                let entries = &front.entries()[self.done..];
                self.done += entries
                    .iter()
                    .take_while(|entry| entry.end() <= self.offset)
                    .count();
                return;
            }
            bytes -= left;
            self.settle_front(consumer, counters);
        }
    }

    /// Settles the first batch, all of whose messages are done.
    fn settle_front(&mut self, consumer: &Consumer, counters: &DestinationCounters) {
        if let Some(batch) = self.batches.pop_front() {
            counters.sent(batch.records() - self.lost);
            consumer.settle(batch);
        }
        (self.done, self.offset, self.lost) = (0, 0, 0);
    }

    /// Passes over the message that is next without its having been sent.
    fn lose_message(&mut self, reason: Reason, consumer: &Consumer, counters: &DestinationCounters) {
        let Some(front) = self.batches.front() else { return };
        if front.entries()[self.done].is_record() {
            self.lost += 1;
            counters.lost_at_output(reason, 1);
        }
        self.skip_message(consumer, counters);
    }

    /// Moves behind the message that is next.
    fn skip_message(&mut self, consumer: &Consumer, counters: &DestinationCounters) {
        let Some(front) = self.batches.front() else { return };
        self.offset = front.entries()[self.done].end();
        self.done += 1;
        if self.done == front.entries().len() {
            self.settle_front(consumer, counters);
        }
    }

    /// Goes back to the start of the message that was under way: a new connection gets it whole.
    fn rewind(&mut self) {
        if let Some(front) = self.batches.front() {
            self.offset = front.start(self.done);
        }
    }

    /// Takes from the queue without waiting, up to what one write should hold.
    fn gather(&mut self, consumer: &Consumer) {
        while self.batches.len() < GATHER_BATCHES {
            match consumer.try_next() {
                Some(batch) => self.batches.push_back(batch),
                None => return,
            }
        }
    }
}

/// An open transport.
enum Link {
    Datagram(Datagram),
    Tcp(Stream<TcpStream>),
    Unix(Stream<UnixStream>),
    Stdout(Stdout),
}

impl Link {
    async fn connect(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Unix(path) => Self::Datagram(Datagram::unix(path)?),
            Target::UnixStream(path) => Self::Unix(Stream::new(UnixStream::connect(path).await?)),
            Target::Udp(host, port) => {
                let mut last = no_address();
                for address in resolve(host, *port).await? {
                    match udp(address).await {
                        Ok(socket) => return Ok(Self::Datagram(Datagram::udp(socket))),
                        Err(error) => last = error,
                    }
                }
                return Err(last);
            }
            Target::Tcp(host, port) => {
                let mut last = no_address();
                for address in resolve(host, *port).await? {
                    match within(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                        Ok(socket) => return Ok(Self::Tcp(stream::tcp(socket)?)),
                        Err(error) => last = error,
                    }
                }
                return Err(last);
            }
            Target::Stdout => Self::Stdout(Stdout),
        })
    }

    async fn send(
        &mut self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        match self {
            Self::Datagram(link) => link.send(hand, consumer, counters).await,
            Self::Tcp(link) => link.send(hand, consumer, counters).await,
            Self::Unix(link) => link.send(hand, consumer, counters).await,
            Self::Stdout(link) => link.send(hand, consumer, counters).await,
        }
    }

    /// Waits until the peer has closed. Pends for ever on transports that cannot tell.
    async fn closed(&mut self) -> io::Error {
        match self {
            Self::Tcp(link) => link.closed().await,
            Self::Unix(link) => link.closed().await,
            Self::Datagram(_) | Self::Stdout(_) => std::future::pending().await,
        }
    }

    /// Ends the connection in order.
    async fn finish(&mut self) {
        match self {
            Self::Tcp(link) => link.finish().await,
            Self::Unix(link) => link.finish().await,
            Self::Datagram(_) | Self::Stdout(_) => {}
        }
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<std::net::SocketAddr>> {
    let found = within(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))).await?;
    Ok(found.collect())
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")),
    }
}

async fn udp(address: std::net::SocketAddr) -> io::Result<UdpSocket> {
    let any: std::net::IpAddr = if address.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Why a destination's delivery has ended.
enum End {
    /// Everything is sent.
    Delivered,
    /// The transport is gone for good.
    Broken,
}

/// The task of one destination.
#[derive(Debug)]
pub struct Output {
    target: Target,
    consumer: Consumer,
    counters: Arc<DestinationCounters>,
    hand: Hand,
    retry: Retry,
}

impl Output {
    /// An output that has not connected yet.
    pub fn new(target: Target, consumer: Consumer, counters: Arc<DestinationCounters>) -> Self {
        // A local receiver is back within moments and costs nothing to ask. A UDP peer that refuses is
        // asked by sending, so waiting long would only fill the queue.
        let (min, max) = match target {
            Target::Tcp(..) => (Duration::from_millis(200), Duration::from_secs(10)),
            _ => (Duration::from_millis(50), Duration::from_secs(1)),
        };
        Self {
            target,
            consumer,
            counters,
            hand: Hand::default(),
            retry: Retry::new(min, max),
        }
    }

    /// Sends until the queue has ended and everything is sent. `expired` ends it early; what was not sent
    /// by then is counted as lost.
    pub async fn run(mut self, expired: impl Future<Output = Reason>) {
        let reason = tokio::select! {
            biased;
            end = self.deliver() => match end {
                End::Delivered => return,
                End::Broken => Reason::Closed,
            },
            reason = expired => reason,
        };
        self.abandon(reason).await;
    }

    async fn deliver(&mut self) -> End {
        loop {
            let mut link = self.connect().await;
            let connected = Instant::now();
            let error = match self.serve(&mut link).await {
                Ok(()) => {
                    link.finish().await;
                    return End::Delivered;
                }
                Err(error) => error,
            };
            self.hand.rewind();
            self.counters.failed();
            if matches!(link, Link::Stdout(_)) {
                warn!(
                    "{}: {error}; what comes from now on is counted as lost",
                    self.counters.url
                );
                return End::Broken;
            }
            // A peer that accepts and closes at once must not be asked in a tight loop.
            if connected.elapsed() >= STABLE {
                self.retry.succeeded();
            }
            if self.retry.failures() == 0 {
                warn!("{}: {}; connecting again", self.counters.url, explain(&error));
            }
            self.pause().await;
        }
    }

    /// Connects, however long that takes.
    async fn connect(&mut self) -> Link {
        let mut told = false;
        loop {
            match Link::connect(&self.target).await {
                Ok(link) => {
                    if told {
                        info!("{}: connected", self.counters.url);
                    }
                    self.counters.connected();
                    return link;
                }
                Err(error) => {
                    self.counters.failed();
                    if !told {
                        warn!(
                            "{}: cannot connect: {}; trying again until it works",
                            self.counters.url,
                            explain(&error)
                        );
                        told = true;
                    }
                    self.pause().await;
                }
            }
        }
    }

    async fn pause(&mut self) {
        let random = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_micros() ^ std::process::id());
        tokio::time::sleep(self.retry.failed(random)).await;
    }

    /// Sends over one connection until the queue has ended (`Ok`) or the connection fails.
    async fn serve(&mut self, link: &mut Link) -> io::Result<()> {
        loop {
            self.hand.gather(&self.consumer);
            if self.hand.batches.is_empty() {
                let batch = tokio::select! {
                    biased;
                    batch = self.consumer.next() => batch,
                    error = link.closed() => return Err(error),
                };
                match batch {
                    Some(batch) => self.hand.batches.push_back(batch),
                    None => return Ok(()),
                }
                continue;
            }
            link.send(&mut self.hand, &self.consumer, &self.counters).await?;
        }
    }

    /// Counts everything that is left as lost, until the queue has ended.
    async fn abandon(&mut self, reason: Reason) {
        if let Some(front) = self.hand.batches.pop_front() {
            let done = front.entries()[..self.hand.done]
                .iter()
                .filter(|entry| entry.is_record())
                .count() as u64;
            self.counters.sent(done - self.hand.lost);
            self.counters.lost_at_output(reason, front.records() - done);
            self.consumer.settle(front);
        }
        for batch in std::mem::take(&mut self.hand.batches) {
            self.lose(batch, reason);
        }
        while let Some(batch) = self.consumer.next().await {
            self.lose(batch, reason);
        }
    }

    fn lose(&self, batch: Batch, reason: Reason) {
        self.counters.lost_at_output(reason, batch.records());
        self.consumer.settle(batch);
    }
}

/// The error in words, with the remedy where one is known.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{error} (is the receiver running?)"),
        io::ErrorKind::PermissionDenied => format!(
            "{error} (the relay has given up root; let its user reach the socket, or see `user` in the configuration)"
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::queue;

    fn hand(messages: &[&[&str]]) -> (Hand, Consumer, Arc<DestinationCounters>) {
        let (_, consumer) = queue(1 << 20, Arc::new(|| ()));
        let mut hand = Hand::default();
        for texts in messages {
            let mut batch = Batch::new();
            for text in *texts {
                batch.bytes.extend_from_slice(text.as_bytes());
                batch.end_message(None, true);
            }
            hand.batches.push_back(batch);
        }
        let counters = DestinationCounters::new("test:".to_owned());
        counters.begin(0);
        (hand, consumer, counters)
    }

    #[test]
    fn a_torn_message_is_sent_again_whole() {
        let (mut hand, consumer, counters) = hand(&[&["aaaa", "bbbb", "cccc"], &["dddd"]]);
        hand.advance(6, &consumer, &counters);
        assert_eq!((hand.done, hand.offset), (1, 6));
        hand.rewind();
        assert_eq!((hand.done, hand.offset), (1, 4));
        hand.advance(8, &consumer, &counters);
        assert_eq!((hand.batches.len(), hand.done, hand.offset), (1, 0, 0));
        hand.advance(4, &consumer, &counters);
        assert!(hand.batches.is_empty());
    }

    #[test]
    fn messages_that_were_lost_are_not_counted_as_sent() {
        let (mut hand, consumer, counters) = hand(&[&["aaaa", "bbbb", "cccc"]]);
        hand.advance(4, &consumer, &counters);
        hand.lose_message(Reason::Oversize, &consumer, &counters);
        hand.skip_message(&consumer, &counters);
        assert!(hand.batches.is_empty());
        assert_eq!(counters.lost_in_all(), 1);
    }
}
