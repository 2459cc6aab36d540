//! An open connection to one receiver, whatever it goes over, and how it comes about.
//!
//! Law: transports differ in how they connect, how they write and what they know of what has arrived; nothing
//! else of the output room asks which one it is.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::datagram::Datagram;
use super::hand::Hand;
use super::relp::Relp;
use super::service::{Member, Replay, Service, Target, TlsSettings};
use super::stdout::Stdout;
use super::stream::Stream;
use super::tls::{Material, Tls};
use super::wire::{Wire, connect_tcp};
use crate::errand::{self, Answer};
use crate::queue::Consumer;
use crate::telemetry::DestinationCounters;

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
                let socket = connect_any(look_up.ask(host, *port, limit).await?, service, limit).await?;
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
            Self::Datagram(_) | Self::Stdout(_) => None,
        }
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

async fn connect_any(
    addresses: Vec<SocketAddr>,
    service: &Service,
    limit: Duration,
) -> io::Result<TcpStream> {
    let mut last = no_address();
    for address in addresses {
        match within(limit, "connecting", connect_tcp(address, service)).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks the system what may take long: a receiver's address, and its certificates' files. A question that hangs (a
/// resolver may take minutes, a file system for ever) goes on being the one question of its receiver, so that
/// hanging ones cannot use up the threads.
#[derive(Debug, Default)]
pub(super) struct LookUp {
    asked: Option<Answer<io::Result<Vec<SocketAddr>>>>,
    loading: Option<Answer<Result<Material, String>>>,
}

impl LookUp {
    /// Reads certificates and keys.
    pub(super) async fn load(
        &mut self,
        settings: &Arc<TlsSettings>,
        limit: Duration,
    ) -> io::Result<Arc<Material>> {
        let loading = match &mut self.loading {
            Some(loading) => loading,
            none => {
                let settings = Arc::clone(settings);
                none.insert(errand::begin("certificates", move || Material::load(&settings))?)
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
        let work = async { asked.await.map_err(io::Error::other)? };
        let answer = within(limit, "looking the name up", work).await;
        if answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return answer;
        }
        self.asked = None;
        answer
    }
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what} took more than {} s (connect-timeout)", limit.as_secs_f32()),
        )),
    }
}
