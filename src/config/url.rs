//! Destinations as people write them.

use std::path::PathBuf;

use crate::output::service::Target;

/// Ports that RFC 5426 (UDP), IANA (syslog-conn) and RFC 5425 (TLS) name; RELP has none of its own, and rsyslog's
/// manual uses this one.
const UDP_PORT: u16 = 514;
const TCP_PORT: u16 = 601;
const TLS_PORT: u16 = 6514;
const RELP_PORT: u16 = 2514;

/// Bytes of a socket's path: sockaddr_un holds 108 with the closing NUL.
pub(super) const LONGEST_SOCKET: usize = 107;

/// Reads a destination: `unix:/dev/log`, `unix-stream:/path`, `udp://host[:514]`, `tcp://host[:601]`,
/// `tls://host[:6514]`, `relp://host[:2514]`, `relps://host[:2514]`, `stdout:`. Hosts are names, IPv4 addresses or IPv6 addresses in brackets.
pub(super) fn parse(url: &str) -> Result<Target, String> {
    if let Some(path) = url.strip_prefix("unix:") {
        return Ok(Target::Unix(socket_path(url, path)?));
    }
    if let Some(path) = url.strip_prefix("unix-stream:") {
        return Ok(Target::UnixStream(socket_path(url, path)?));
    }
    type Make = fn(String, u16) -> Target;
    let schemes: [(&str, u16, Make); 5] = [
        ("udp://", UDP_PORT, Target::Udp),
        ("tcp://", TCP_PORT, Target::Tcp),
        ("tls://", TLS_PORT, Target::Tls),
        ("relp://", RELP_PORT, Target::Relp),
        ("relps://", RELP_PORT, Target::Relps),
    ];
    for (scheme, port, make) in schemes {
        if let Some(rest) = url.strip_prefix(scheme) {
            return host_port(url, rest, port).map(|(host, port)| make(host, port));
        }
    }
    if url == "stdout:" {
        return Ok(Target::Stdout);
    }
    Err(format!(
        "destination `{url}` is none that I know; write unix:/dev/log, unix-stream:/path, udp://host:514, \
         tcp://host:601, tls://host:6514, relp://host:2514, relps://host:2514 or stdout:"
    ))
}

fn socket_path(url: &str, path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') || path.len() > LONGEST_SOCKET {
        return Err(format!(
            "destination `{url}`: the path must start with / and have at most {LONGEST_SOCKET} bytes (it has {})",
            path.len()
        ));
    }
    Ok(PathBuf::from(path))
}

fn host_port(url: &str, rest: &str, default: u16) -> Result<(String, u16), String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = if let Some(after) = rest.strip_prefix('[') {
        let (host, after) =
            after.split_once(']').ok_or_else(|| format!("destination `{url}`: the bracket is not closed"))?;
        host.parse::<std::net::Ipv6Addr>()
            .map_err(|_| format!("destination `{url}`: `{host}` is not an IPv6 address"))?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(format!("destination `{url}`: only a port may follow the bracket")),
        }
    } else {
        match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!(
                    "destination `{url}`: write an IPv6 address in brackets, udp://[::1]:514"
                ));
            }
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#".contains(c)) {
        return Err(format!("destination `{url}`: no usable host name"));
    }
    let port = match port {
        None => default,
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("destination `{url}`: `{text}` is not a port from 1 to 65535"))?,
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (url, expected) in [
            ("unix:/dev/log", Target::Unix("/dev/log".into())),
            ("unix-stream:/run/s", Target::UnixStream("/run/s".into())),
            ("udp://logs.example.org", Target::Udp("logs.example.org".into(), 514)),
            ("tcp://logs.example.org", Target::Tcp("logs.example.org".into(), 601)),
            ("tcp://10.0.0.1:1514/", Target::Tcp("10.0.0.1".into(), 1514)),
            ("udp://[2001:db8::1]", Target::Udp("2001:db8::1".into(), 514)),
            ("tcp://[::1]:6000", Target::Tcp("::1".into(), 6000)),
            ("tls://logs.example.org", Target::Tls("logs.example.org".into(), 6514)),
            ("relp://logs.example.org", Target::Relp("logs.example.org".into(), 2514)),
            ("relps://[::1]:20514", Target::Relps("::1".into(), 20_514)),
            ("stdout:", Target::Stdout),
        ] {
            assert_eq!(parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_is_refused() {
        let long = format!("unix:/{}", "x".repeat(108));
        for url in [
            "",
            "/dev/log",
            "unix:dev/log",
            &long,
            "udp://",
            "udp://:514",
            "tcp://h:0",
            "tcp://h:65536",
            "tcp://h:x",
            "tcp://::1:601",
            "tcp://[::1",
            "tcp://[x]:1",
            "tcp://[::1]1",
            "tcp://a b",
            "tcp://u@h",
            "http://h",
            "tls://",
            "tls:h",
            "relp://h:0",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
