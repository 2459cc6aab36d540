//! Where a server listens: the URLs of `send` and `sink`. Pure; names are resolved by whoever connects.
//!
//! *Promise:* the notation of the destinations of a relay: `udp://HOST[:514]`, `tcp://HOST[:601]`, `tls://HOST[:6514]`,
//! `relp://HOST[:2514]`, `relps://HOST[:2514]`, `unix:PATH`, `unix-stream:PATH`. A host is a name, an IPv4 address or an
//! IPv6 address in brackets.
//! *Law:* what is not understood to the last character is refused.

use std::fmt;
use std::path::PathBuf;

use crate::sink::Transport;

/// An address of a server and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// What is spoken.
    pub(crate) transport: Transport,
    /// Where.
    pub(crate) place: At,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// A socket in the file system; `None` is one of our own choice.
    Path(Option<PathBuf>),
    /// A name or an IP address (no brackets), and a port.
    Host(String, u16),
}

/// The schemes, what they mean, and their ports.
const SCHEMES: [(&str, Transport, Option<u16>); 7] = [
    ("unix", Transport::Unix, None),
    ("unix-stream", Transport::UnixStream, None),
    ("udp", Transport::Udp, Some(514)),
    ("tcp", Transport::Tcp, Some(601)),
    ("tls", Transport::Tls, Some(6514)),
    ("relp", Transport::Relp, Some(2514)),
    ("relps", Transport::Relps, Some(2514)),
];

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// A sentence that says what is possible.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "{text:?} is no address: expected udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, relp://HOST:PORT, \
                 relps://HOST:PORT, unix:PATH or unix-stream:PATH"
            )
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
        let &(_, transport, port) = SCHEMES.iter().find(|(name, ..)| *name == scheme).ok_or_else(unknown)?;
        let place = match port {
            None if rest.is_empty() => return Err(unknown()),
            None => At::Path(Some(rest.into())),
            Some(port) => {
                let rest = rest.strip_prefix("//").ok_or_else(unknown)?;
                let (host, port) = split_port(rest, port).ok_or_else(unknown)?;
                At::Host(host.to_owned(), port)
            }
        };
        Ok(Self { transport, place })
    }

    /// Reads the address of a server to be: a URL, or only the name of a scheme for a free port of 127.0.0.1 or a socket
    /// in a directory of its own. A URL without a host means 127.0.0.1.
    ///
    /// # Errors
    /// A sentence that says what is possible.
    pub(crate) fn parse_listener(text: &str) -> Result<Self, String> {
        if let Some(&(_, transport, port)) = SCHEMES.iter().find(|(name, ..)| *name == text) {
            return Ok(Self { transport, ..Self::own(transport, port.is_some()) });
        }
        let text = text.replacen("://:", "://127.0.0.1:", 1);
        Self::parse(&text)
    }

    fn own(transport: Transport, has_port: bool) -> Self {
        let place = if has_port { At::Host("127.0.0.1".into(), 0) } else { At::Path(None) };
        Self { transport, place }
    }

    /// The scheme's name.
    pub(crate) fn scheme(&self) -> &'static str {
        SCHEMES
            .iter()
            .find(|(_, transport, _)| *transport == self.transport)
            .map_or("none", |(name, ..)| name)
    }
}

/// Splits `HOST[:PORT]`; nothing if it is neither.
fn split_port(rest: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|_| digits(port))?,
    };
    (!host.is_empty() && plain).then_some((host, port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            At::Path(path) => {
                let path = path.as_deref().unwrap_or_else(|| "(own)".as_ref());
                write!(f, "{}:{}", self.scheme(), path.display())
            }
            At::Host(host, port) if host.contains(':') => write!(f, "{}://[{host}]:{port}", self.scheme()),
            At::Host(host, port) => write!(f, "{}://{host}:{port}", self.scheme()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, transport, place) in [
            ("unix:/dev/log", Transport::Unix, At::Path(Some("/dev/log".into()))),
            ("unix-stream:/run/x", Transport::UnixStream, At::Path(Some("/run/x".into()))),
            ("udp://a.example:1", Transport::Udp, At::Host("a.example".into(), 1)),
            ("tls://[::1]:6514", Transport::Tls, At::Host("::1".into(), 6514)),
            ("relps://10.0.0.1:20514", Transport::Relps, At::Host("10.0.0.1".into(), 20514)),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.transport, &address.place), (transport, &place));
            assert_eq!(address.to_string(), text);
        }
        for (text, port) in [("udp://h", 514), ("tcp://h", 601), ("tls://[::1]", 6514), ("relp://h", 2514)] {
            let At::Host(_, got) = Address::parse(text).unwrap().place else { panic!() };
            assert_eq!(got, port);
        }
    }

    #[test]
    fn whatever_else_is_refused() {
        for text in [
            "",
            "tcp",
            "tcp:",
            "tcp:h",
            "tcp://",
            "tcp://h:",
            "tcp://h:x",
            "tcp://h:+1",
            "tcp://h:65536",
            "tcp://h:1/",
            "tcp://::1:601",
            "tcp://[::1]601",
            "tcp://[h]:1",
            "unix:",
            "http://h:1",
            "tcp://a b:1",
            "self:tcp",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_needs_no_host() {
        for (text, expected) in [
            ("tcp", "tcp://127.0.0.1:0"),
            ("udp://:514", "udp://127.0.0.1:514"),
            ("tls://[::]:6514", "tls://[::]:6514"),
            ("unix-stream:/x", "unix-stream:/x"),
            ("unix", "unix:(own)"),
        ] {
            assert_eq!(Address::parse_listener(text).unwrap().to_string(), expected);
        }
        assert!(Address::parse_listener("none").is_err());
    }
}
