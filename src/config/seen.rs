//! What others may see of the relay: the socket of `audit-relay status`, metrics, statistics in the stream.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::url::LONGEST_SOCKET;
use super::{Settings, units};

/// The socket where auditd has started us, in the folder of the handover.
pub const DEFAULT_STATUS: &str = "/run/audit-relay/status.sock";

/// As collectors ask.
pub(super) const METRICS_INTERVAL: Duration = Duration::from_secs(15);

/// Intervals may be this long, or this short.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

/// The socket that `audit-relay status` asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Status {
    /// [`DEFAULT_STATUS`] where auditd has started us; otherwise none.
    Auto,
    /// This one.
    Socket(PathBuf),
    /// None.
    Off,
}

pub(super) fn status(said: &Settings) -> Result<Status, String> {
    let status = match &said.status {
        None => Status::Auto,
        Some(word) if word.as_os_str() == "auto" => Status::Auto,
        Some(word) if word.as_os_str() == "off" => Status::Off,
        // Nobody could ask there.
        Some(path) if path.as_os_str().len() > LONGEST_SOCKET => {
            return Err(format!(
                "status: the path of a socket has at most {LONGEST_SOCKET} bytes, and `{}` has {}",
                path.display(),
                path.as_os_str().len()
            ));
        }
        Some(path) if path.is_absolute() => Status::Socket(path.clone()),
        Some(other) => {
            return Err(format!(
                "status: `{}` is unknown; choose among auto, off, or a path from / on",
                other.display()
            ));
        }
    };
    if said.status_group.is_some() && !matches!(status, Status::Socket(_)) {
        return Err(
            "status-group: the usual socket's folder is the relay's alone; name another path, for example \
                    status = \"/run/audit-relay.sock\""
                .to_owned(),
        );
    }
    Ok(status)
}

pub(super) fn show(status: &Status) -> PathBuf {
    match status {
        Status::Auto => "auto".into(),
        Status::Off => "off".into(),
        Status::Socket(path) => path.clone(),
    }
}

pub(super) fn metrics(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("metrics: `{text}` is no address with a port; for example 127.0.0.1:9101 or [::1]:9101")
    })?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "metrics: {address} is not on the loopback interface; there is no password, so nobody outside may ask: \
             127.0.0.1:{}",
            address.port()
        ));
    }
    if address.port() == 0 {
        return Err("metrics: port 0 is none; for example 127.0.0.1:9101".to_owned());
    }
    Ok(address)
}

pub(super) fn metrics_file(path: &Path) -> Result<PathBuf, String> {
    // The collector reads nothing else.
    if !path.is_absolute() || path.extension().is_none_or(|extension| extension != "prom") {
        return Err(format!(
            "metrics-file: `{}` has to be a path from / on, and end in .prom",
            path.display()
        ));
    }
    Ok(path.to_path_buf())
}

pub(super) fn interval(key: &str, text: &str) -> Result<Duration, String> {
    let time = units::duration(text).map_err(|error| format!("{key}: {error}"))?;
    let (shortest, longest) = INTERVALS;
    if time < shortest || time > longest {
        return Err(format!("{key}: `{text}` is out of range; from 1s to 1440min"));
    }
    Ok(time)
}
