//! An open connection to one receiver, whatever it goes over, and how it comes about.
//!
//! Law: transports differ in how they connect, how they write and what they know of what has arrived; nothing
//! else of the output room asks which one it is.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::datagram::Datagram;
use super::hand::Hand;
use super::relp::Relp;
use super::service::{Member, Replay, Service, Target, TlsSettings};
use super::stdout::Stdout;
use super::stream::Stream;
use super::tls::{Material, Tls};
use super::wire::{TcpOptions, Wire, connect_tcp};
use crate::errand::{self, Answer};
use crate::queue::Consumer;
use crate::telemetry::DestinationCounters;

/// How long the first address has to itself at most (RFC 8305 section 8: 250 ms).
const ALONE: Duration = Duration::from_millis(250);

/// Addresses of a name that are tried at a time. A name server may give thousands.
const ADDRESSES: usize = 16;

/// An open transport.
#[derive(Debug)]
pub(super) enum Link {
    Datagram(Datagram),
    Stream(Stream),
    Relp(Box<Relp>),
    Stdout(Stdout),
}

impl Link {
    /// Connects to `member`; each step (name, connection, TLS, RELP) has `limit` to itself.
    ///
    /// # Errors
    /// The step that failed, with the remedy where there is one.
    pub(super) async fn connect(
        member: &Member,
        service: &Service,
        limit: Duration,
        look_up: &mut LookUp,
    ) -> io::Result<Self> {
        let material = match member.target.is_over_tls() {
            true => Some(look_up.load(&service.tls, limit).await?),
            false => None,
        };
        match &member.target {
            Target::Unix(path) => Ok(Self::Datagram(Datagram::unix(path)?)),
            Target::UnixStream(path) => {
                Ok(Self::Stream(Stream::new(Wire::Unix(UnixStream::connect(path).await?), service)))
            }
            Target::Stdout => Ok(Self::Stdout(Stdout::open()?)),
            Target::Udp(host, port) => {
                let mut last = no_address();
                for address in look_up.ask(host, *port, limit).await? {
                    match Datagram::udp(address).await {
                        Ok(link) => return Ok(Self::Datagram(link)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Target::Tcp(host, port)
            | Target::Tls(host, port)
            | Target::Relp(host, port)
            | Target::Relps(host, port) => {
                let socket =
                    connect_any(look_up.ask(host, *port, limit).await?, service.into(), limit).await?;
                let wire = match material {
                    None => Wire::Tcp(socket),
                    Some(material) => {
                        let counts = service.replay != Replay::Off && !member.target.is_relp();
                        let tls = Tls::open(socket, host, &service.tls, material, counts);
                        let mut tls = within(limit, "the TLS handshake", tls).await?;
                        tls.announce(&member.url, &service.tls);
                        Wire::Tls(Box::new(tls))
                    }
                };
                if member.target.is_relp() {
                    let relp = within(limit, "the opening of RELP", Relp::open(wire, service)).await?;
                    Ok(Self::Relp(Box::new(relp)))
                } else {
                    Ok(Self::Stream(Stream::new(wire, service)))
                }
            }
        }
    }

    /// Sends everything in `hand`.
    pub(super) async fn send(
        &mut self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        match self {
            Self::Datagram(link) => link.send(hand, consumer, counters).await,
            Self::Stream(link) => link.send(hand, consumer, counters).await,
            Self::Relp(link) => link.send(hand, consumer, counters).await,
            Self::Stdout(link) => link.send(hand, consumer, counters).await,
        }
    }

    /// Settles what is known to have arrived, and says up to which position that is; `None` where nobody can
    /// tell or nobody wants to know. Still works when the connection has ended.
    pub(super) fn settle(
        &mut self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> Option<u64> {
        match self {
            Self::Stream(link) => {
                let acknowledged = link.acknowledged()?;
                hand.acknowledge(acknowledged, consumer, counters);
                Some(acknowledged)
            }
            Self::Relp(link) => {
                link.settle(hand, consumer, counters);
                Some(link.acknowledged())
            }
            Self::Stdout(link) => {
                link.settle(hand, consumer, counters);
                None
            }
            Self::Datagram(_) => None,
        }
    }

    /// True if the next connection goes on with the same bytes at the other end, in the middle of a message too.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// True if the receiver's word comes by itself, and asking again tells nothing new.
    pub(super) fn tells(&self) -> bool {
        matches!(self, Self::Relp(_))
    }

    /// Waits until the receiver has said something that [`Link::settle`] can use (`Ok`), or has ended the
    /// connection. Pends for ever on transports that cannot tell.
    pub(super) async fn heard(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(link) => Err(link.closed().await),
            Self::Relp(link) => link.answered().await,
            Self::Datagram(_) | Self::Stdout(_) => std::future::pending().await,
        }
    }

    /// True if what is sent stays in the hand until the receiver or its kernel has it.
    pub(super) fn keeps(&self) -> bool {
        match self {
            Self::Stream(link) => link.keeps(),
            Self::Relp(_) => true,
            Self::Datagram(_) | Self::Stdout(_) => false,
        }
    }

    /// True if the end of the connection will tell what nothing else can yet.
    pub(super) fn only_waits_for_judgement(&self) -> bool {
        self.keeps() && !self.tells() && self.tls().is_some_and(Tls::only_waits_for_judgement)
    }

    /// Ends the connection in order.
    ///
    /// # Errors
    /// See [`Wire::finish`].
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(link) => link.finish().await,
            Self::Relp(link) => {
                link.finish().await;
                Ok(())
            }
            Self::Datagram(_) | Self::Stdout(_) => Ok(()),
        }
    }

    /// The TLS session, where there is one.
    pub(super) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Stream(link) => link.wire().tls(),
            Self::Relp(link) => link.wire().tls(),
            Self::Datagram(_) | Self::Stdout(_) => None,
        }
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

/// Connects to the first of `addresses` that answers. Each has a moment to itself before the next is tried beside it (RFC
/// 8305 section 5), so that dead ones cannot use up the time that the living one would need; `limit` is for all.
async fn connect_any(
    addresses: Vec<SocketAddr>,
    options: TcpOptions,
    limit: Duration,
) -> io::Result<TcpStream> {
    let ahead = ALONE.min(limit / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX));
    let mut addresses = addresses.into_iter();
    let mut tried = JoinSet::new();
    let mut last = no_address();
    let first = async {
        loop {
            let next = addresses.next();
            let more = next.is_some();
            if let Some(address) = next {
                tried.spawn(connect_tcp(address, options));
            }
            tokio::select! {
                answer = tried.join_next() => match answer {
                    Some(Ok(Ok(socket))) => return Ok(socket),
                    Some(Ok(Err(error))) => last = error,
                    Some(Err(error)) => last = io::Error::other(error),
                    None => return Err(last),
                },
                () = sleep(ahead), if more => {}
            }
        }
    };
    within(limit, "connecting", first).await
}

type Loading = Answer<Result<Material, String>>;

/// Asks the system what may take long: a receiver's address, and its certificates' files. A question that hangs (a
/// resolver may take minutes, a file system for ever) goes on being the one question of its receiver, so that
/// hanging ones cannot use up the threads.
#[derive(Debug, Default)]
pub(super) struct LookUp {
    asked: Option<Answer<io::Result<Vec<SocketAddr>>>>,
    /// And by which settings.
    loading: Option<(Arc<TlsSettings>, Loading)>,
    /// Where among many addresses the next attempt begins.
    turn: usize,
}

impl LookUp {
    /// Reads certificates and keys.
    pub(super) async fn load(
        &mut self,
        settings: &Arc<TlsSettings>,
        limit: Duration,
    ) -> io::Result<Arc<Material>> {
        // What is read by the settings before a reload, however late, makes no session after it.
        let loading = match &mut self.loading {
            Some((by, loading)) if Arc::ptr_eq(by, settings) => loading,
            other => {
                let (by, settings) = (Arc::clone(settings), Arc::clone(settings));
                let begun = errand::begin("certificates", move || Material::load(&settings))?;
                &mut other.insert((by, begun)).1
            }
        };
        let work = async { loading.await.map_err(io::Error::other) };
        let loaded = within(limit, "reading the files of tls-*", work).await;
        match loaded {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            answer => {
                self.loading = None;
                answer?.map(Arc::new).map_err(io::Error::other)
            }
        }
    }

    /// The addresses of `host`: those that it says first, up to [`ADDRESSES`], and others the next time if there are
    /// more.
    async fn ask(&mut self, host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let asked = match &mut self.asked {
            Some(asked) => asked,
            none => {
                let host = host.to_owned();
                let look_up = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
                none.insert(errand::begin("resolver", look_up)?)
            }
        };
        // Not `within`: that the resolver itself says it has timed out is an answer, and there is but one to a question.
        let Ok(answer) = timeout(limit, asked).await else {
            return Err(out_of_time("looking the name up", limit));
        };
        self.asked = None;
        let addresses = answer.map_err(io::Error::other)??;
        Ok(turned(addresses, &mut self.turn))
    }
}

/// [`ADDRESSES`] of `addresses` from `turn` on, which moves on, if there are more.
fn turned(mut addresses: Vec<SocketAddr>, turn: &mut usize) -> Vec<SocketAddr> {
    if addresses.len() > ADDRESSES {
        let from = *turn % addresses.len();
        addresses.rotate_left(from);
        addresses.truncate(ADDRESSES);
        *turn = from + ADDRESSES;
    }
    addresses
}

fn out_of_time(what: &str, limit: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} took more than {} s (connect-timeout)", limit.as_secs_f32()),
    )
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(out_of_time(what, limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_addresses_are_taken_as_they_are_and_many_by_turns() {
        let of =
            |count: u8| -> Vec<SocketAddr> { (0..count).map(|last| ([10, 0, 0, last], 1).into()).collect() };
        let mut turn = 0;
        assert_eq!((turned(of(16), &mut turn), turn), (of(16), 0));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let some = turned(of(40), &mut turn);
            assert_eq!(some.len(), ADDRESSES);
            seen.extend(some);
        }
        seen.truncate(40);
        assert_eq!(seen, of(40));
        assert!(turned(Vec::new(), &mut turn).is_empty());
    }

    /// Fifteen of sixteen addresses never answer. One after the other, each with the limit to itself, they would take fifteen
    /// times as long.
    #[tokio::test]
    async fn dead_addresses_do_not_use_up_the_time_of_the_living() {
        // A listener whose queue is full: the kernel drops what comes to it.
        let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        deaf.listen(0).unwrap();
        let dead = deaf.local_addr().unwrap().as_socket().unwrap();
        let _filling = std::net::TcpStream::connect(dead).unwrap();
        let options = TcpOptions::from(&Service::default());
        let limit = Duration::from_secs(2);
        let alone = connect_any(vec![dead], options, Duration::from_millis(300)).await;
        assert_eq!(alone.unwrap_err().kind(), io::ErrorKind::TimedOut, "it is deaf");

        let living = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = living.local_addr().unwrap();
        let addresses = std::iter::repeat_n(dead, ADDRESSES - 1).chain([address]).collect();
        let found = timeout(limit * 4, connect_any(addresses, options, limit)).await;
        let found = found.expect("the limit is for all").unwrap();
        assert_eq!(found.peer_addr().unwrap(), address);

        // Taken, so that no other test gets the port, and not listening.
        let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let addresses = [closed.local_addr().unwrap().as_socket().unwrap(); 2];
        let refused = connect_any(addresses.to_vec(), options, limit).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// A reading that hangs belongs to the settings that it was begun by: a reload's hold for every session after it.
    #[tokio::test]
    async fn a_reading_by_older_settings_is_not_waited_for_nor_used() {
        let (_hangs, pending) = tokio::sync::oneshot::channel();
        let (old, new) = (Arc::new(TlsSettings::default()), Arc::new(TlsSettings::default()));
        let mut look_up = LookUp { loading: Some((Arc::clone(&old), pending)), ..LookUp::default() };
        let timed_out = |result: io::Result<Arc<Material>>| {
            result.err().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        };
        assert!(timed_out(look_up.load(&old, Duration::from_millis(50)).await), "one reading at a time");
        assert!(!timed_out(look_up.load(&new, Duration::from_secs(30)).await));
    }

    #[tokio::test]
    async fn the_resolvers_own_time_out_is_an_answer() {
        let (answer, asked) = tokio::sync::oneshot::channel();
        assert!(answer.send(Err(io::ErrorKind::TimedOut.into())).is_ok());
        let mut look_up = LookUp { asked: Some(asked), ..LookUp::default() };
        let limit = Duration::from_secs(9);
        let error = look_up.ask("receiver.invalid", 1, limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The next asks anew, and does not wait for an answer that has been given.
        assert!(look_up.asked.is_none());
    }
}
