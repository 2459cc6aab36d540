//! 6 SEND: one destination, from its queue to its transport.
//!
//! Promise: batches go out in order; a message is either handed to the transport whole or kept and sent
//! again whole; a destination that is away is tried again for as long as the relay lives. Law: an output
//! waits for nobody but its own peer, and counts a record as sent only when the kernel has taken it.
//!
//! Each output is a task on the one runtime thread: it waits for a batch, its peer's close and its timers
//! at once. Transports differ in how they connect and how they write; all else is here.

mod datagram;
mod hand;
mod retry;
mod stdout;
mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::queue::Consumer;
use crate::telemetry::{DestinationCounters, Reason};
use datagram::Datagram;
use hand::Hand;
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

/// What is sent again after a connection has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    /// Only the message that was under way.
    Off,
    /// What the peer's kernel has not acknowledged, and `margin` bytes that it has.
    Unacknowledged {
        /// Bytes.
        margin: usize,
    },
}

/// How a destination is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service {
    /// On TCP only; other transports cannot tell what arrived.
    pub replay: Replay,
    /// A TCP connection on which nothing goes forward for this long is given up: the peer acknowledges
    /// nothing, or lives and takes nothing (its window stays shut). What it has not acknowledged goes over the
    /// next connection. The kernel's own limit is about 15 minutes.
    pub tcp_user_timeout: Duration,
    /// Idle time after which the kernel asks whether a TCP peer is still there.
    pub tcp_keepalive: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            replay: Replay::Unacknowledged { margin: 0 },
            tcp_user_timeout: Duration::from_secs(30),
            tcp_keepalive: Duration::from_secs(30),
        }
    }
}

/// How long to wait before asking what has been acknowledged while there is nothing to send.
const ACKNOWLEDGE_PERIOD: Duration = Duration::from_millis(20);

/// The same while only this keeps the relay from its end.
const LAST_ACKNOWLEDGE_PERIOD: Duration = Duration::from_millis(1);

/// Limit for looking up a name, and for each attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that lasted this long counts as a success: the next failure is the first one again.
const STABLE: Duration = Duration::from_secs(5);

/// An open transport.
enum Link {
    Datagram(Datagram),
    Tcp(Stream<TcpStream>),
    Unix(Stream<UnixStream>),
    Stdout(Stdout),
}

impl Link {
    async fn connect(target: &Target, service: &Service, look_up: &mut LookUp) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        match target {
            Target::Unix(path) => return Ok(Self::Datagram(Datagram::unix(path)?)),
            Target::UnixStream(path) => return Ok(Self::Unix(Stream::new(UnixStream::connect(path).await?))),
            Target::Stdout => return Ok(Self::Stdout(Stdout)),
            Target::Udp(host, port) => {
                for address in look_up.ask(host, *port).await? {
                    match Datagram::udp(address).await {
                        Ok(link) => return Ok(Self::Datagram(link)),
                        Err(error) => last = error,
                    }
                }
            }
            Target::Tcp(host, port) => {
                for address in look_up.ask(host, *port).await? {
                    match within(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                        Ok(socket) => return Ok(Self::Tcp(stream::tcp(socket, service)?)),
                        Err(error) => last = error,
                    }
                }
            }
        }
        Err(last)
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

    /// Bytes of this connection that the peer's kernel has acknowledged; `None` where nobody can tell or
    /// nobody wants to know.
    fn acknowledged(&self) -> Option<u64> {
        match self {
            Self::Tcp(link) => link.acknowledged(),
            Self::Datagram(_) | Self::Unix(_) | Self::Stdout(_) => None,
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

/// Looks up a destination's name. A question that hangs (a resolver may take minutes) goes on being the one
/// question of its destination, so that hanging names cannot use up the runtime's threads.
#[derive(Debug, Default)]
struct LookUp {
    asked: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl LookUp {
    async fn ask(&mut self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let asked = self.asked.get_or_insert_with(|| {
            let host = host.to_owned();
            tokio::task::spawn_blocking(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
        });
        let answer = within(CONNECT_TIMEOUT, async { asked.await.map_err(io::Error::other)? }).await;
        if answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return answer;
        }
        self.asked = None;
        answer
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")),
    }
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
    service: Service,
    hand: Hand,
    retry: Retry,
    connected: bool,
    look_up: LookUp,
}

impl Output {
    /// An output that has not connected yet.
    pub fn new(
        target: Target,
        service: Service,
        consumer: Consumer,
        counters: Arc<DestinationCounters>,
    ) -> Self {
        let margin = match service.replay {
            Replay::Off => 0,
            Replay::Unacknowledged { margin } => margin,
        };
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
            service,
            hand: Hand::new(margin),
            connected: false,
            look_up: LookUp::default(),
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
            let Some(mut link) = self.connect().await else {
                return End::Delivered;
            };
            let connected = Instant::now();
            let error = match self.serve(&mut link).await {
                Ok(()) => {
                    link.finish().await;
                    return End::Delivered;
                }
                Err(error) => error,
            };
            self.connected = false;
            // The socket still knows what was acknowledged, also after a reset.
            let again = self.hand.start_over(link.acknowledged(), &self.consumer, &self.counters);
            self.counters.replayed(again);
            self.counters.failed();
            if matches!(link, Link::Stdout(_)) && error.kind() == io::ErrorKind::BrokenPipe {
                warn!("{}: {error}; what comes from now on is counted as lost", self.counters.url);
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

    /// Connects, however long that takes; `None` if meanwhile the queue has ended and nothing is left to send.
    async fn connect(&mut self) -> Option<Link> {
        let mut told = false;
        loop {
            let idle = self.hand.is_empty();
            let connected = tokio::select! {
                biased;
                () = self.consumer.ended(), if idle => return None,
                connected = Link::connect(&self.target, &self.service, &mut self.look_up) => connected,
            };
            match connected {
                Ok(link) => {
                    if told {
                        info!("{}: connected", self.counters.url);
                    }
                    self.counters.connected();
                    // Another receiver may take longer messages.
                    self.counters.learn_size_limit(None);
                    self.connected = true;
                    return Some(link);
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
        let wait = tokio::time::sleep(self.retry.failed(random));
        let idle = self.hand.is_empty();
        tokio::select! {
            () = wait => {}
            () = self.consumer.ended(), if idle => {}
        }
    }

    /// Sends over one connection until the queue has ended and nothing is left (`Ok`) or it fails.
    async fn serve(&mut self, link: &mut Link) -> io::Result<()> {
        let mut period = ACKNOWLEDGE_PERIOD;
        let mut ended = false;
        let mut acknowledged = 0;
        loop {
            self.hand.gather(&self.consumer);
            if !self.hand.is_empty() {
                link.send(&mut self.hand, &self.consumer, &self.counters).await?;
                continue;
            }
            if let (true, Some(now)) = (self.hand.keeps(), link.acknowledged()) {
                acknowledged = now;
                self.hand.acknowledge(acknowledged, &self.consumer, &self.counters);
                if ended && self.hand.all_written_is(acknowledged) {
                    self.hand.settle_all_kept(&self.consumer, &self.counters);
                }
            }
            if ended && !self.hand.keeps() {
                return Ok(());
            }
            tokio::select! {
                biased;
                batch = self.consumer.next(), if !ended => match batch {
                    Some(batch) => self.hand.take(batch),
                    None => (ended, period) = (true, LAST_ACKNOWLEDGE_PERIOD),
                },
                error = link.closed() => return Err(error),
                // A margin stays behind for good; there is nothing to ask for once all is acknowledged.
                () = tokio::time::sleep(period), if self.hand.keeps() && !self.hand.all_written_is(acknowledged) => {}
            }
        }
    }

    /// Settles everything that is left, until the queue has ended. What a living connection has taken goes
    /// on its way without us; the rest is lost.
    async fn abandon(&mut self, reason: Reason) {
        if self.connected {
            let records = self.hand.settle_all_kept(&self.consumer, &self.counters);
            self.counters.unacknowledged(records);
        }
        self.hand.abandon(reason, &self.consumer, &self.counters);
        while let Some(batch) = self.consumer.next().await {
            self.counters.lost_at_output(reason, batch.records());
            self.consumer.settle(batch);
        }
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
