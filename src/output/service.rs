//! What an output is told: where to, over what, how carefully.
//!
//! Law: plain values, understood by the configuration room already; nothing here touches a file or a socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::certificate::Fingerprint;

/// One receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A datagram socket in the file system.
    Unix(PathBuf),
    /// A stream socket in the file system.
    UnixStream(PathBuf),
    /// UDP to a name or address.
    Udp(String, u16),
    /// TCP to a name or address.
    Tcp(String, u16),
    /// TLS over TCP to a name or address (RFC 5425).
    Tls(String, u16),
    /// RELP over TCP to a name or address.
    Relp(String, u16),
    /// RELP over TLS to a name or address.
    Relps(String, u16),
    /// Standard output.
    Stdout,
}

impl Target {
    /// True if the transport is TCP or stands on it.
    pub fn is_over_tcp(&self) -> bool {
        matches!(self, Self::Tcp(..) | Self::Tls(..) | Self::Relp(..) | Self::Relps(..))
    }

    /// True if the connection is encrypted.
    pub fn is_over_tls(&self) -> bool {
        matches!(self, Self::Tls(..) | Self::Relps(..))
    }

    /// True if the receiver itself acknowledges every message.
    pub fn is_relp(&self) -> bool {
        matches!(self, Self::Relp(..) | Self::Relps(..))
    }
}

/// One receiver under the name that the user gave it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// As written.
    pub url: String,
    /// As understood.
    pub target: Target,
}

/// The receivers of one destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// One at a time: the first in the list that is well. A single receiver is a list of one.
    Failover(Vec<Member>),
    /// All at once: each batch goes to one of those that are well.
    Balance(Vec<Member>),
}

impl Route {
    /// All receivers, in the order of the list; at least one.
    pub fn members(&self) -> &[Member] {
        match self {
            Self::Failover(members) | Self::Balance(members) => members,
        }
    }

    /// True if `what` holds for some receiver.
    pub fn any(&self, what: fn(&Target) -> bool) -> bool {
        self.members().iter().any(|member| what(&member.target))
    }
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
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// On TCP and TLS only: RELP has the receiver's own word, other transports cannot tell what arrived.
    pub replay: Replay,
    /// Limit for looking a name up, for connecting, for the TLS handshake and for RELP's opening, each.
    /// Default 10 s.
    pub connect_timeout: Duration,
    /// A connection on which nothing goes forward for this long is given up: the peer acknowledges nothing (on
    /// RELP: answers nothing), or lives and takes nothing (its window stays shut). What it has not acknowledged
    /// goes over the next connection. Default 30 s; the kernel's own limit is about 15 minutes.
    pub tcp_user_timeout: Duration,
    /// Idle time after which the kernel asks whether a TCP peer is still there. Default 30 s.
    pub tcp_keepalive: Duration,
    /// RELP messages that may wait for their answer, 2 to 65,536. Default 128, as librelp's.
    pub relp_window: usize,
    /// On TLS.
    pub tls: Arc<TlsSettings>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            replay: Replay::Unacknowledged { margin: 0 },
            connect_timeout: Duration::from_secs(10),
            tcp_user_timeout: Duration::from_secs(30),
            tcp_keepalive: Duration::from_secs(30),
            relp_window: 128,
            tls: Arc::default(),
        }
    }
}

/// How a TLS server proves who it is, and we who we are. Files are named, not read: they are read before each
/// connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsSettings {
    /// What the server's certificate has to be.
    pub verify: Verify,
    /// Whose word counts for the server's certificate.
    pub ca: Authorities,
    /// SHA-256 fingerprints of which the server's own certificate must have one.
    pub pins: Vec<Fingerprint>,
    /// Name that the server must prove, and that it is asked for (SNI). `None`: the URL's host.
    pub name: Option<String>,
    /// Our own certificate chain and its private key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Certificate revocation lists, PEM or DER.
    pub crls: Vec<PathBuf>,
}

/// What the server's certificate has to be (RFC 5425 section 5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verify {
    /// Issued by a trusted authority, for the server's name, valid now, not revoked (section 5.2).
    #[default]
    Ca,
    /// One of the pinned ones, and valid now, whoever issued it for whatever name (section 5.1).
    Pin,
    /// Both.
    PinAndCa,
    /// Anything: whoever sits on the way may read and take the records (section 5.4, not recommended).
    None,
}

/// Where trusted authorities are listed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Authorities {
    /// The system's store.
    #[default]
    System,
    /// A PEM file.
    File(PathBuf),
}
