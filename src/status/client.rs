//! Asks a running relay.
//!
//! Promise: an answer, or a sentence that says why there is none and what to do. Law: waits no longer than it is told
//! in all, and reads no more than [`LARGEST`]; what answers may be a relay that was taken over.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::printable::printable;
use crate::telemetry::Report;

/// How long a person waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Far more than a relay with hundreds of receivers says.
const LARGEST: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// Nobody is at the socket.
    NoRelay(String),
    /// Somebody is, and does not answer.
    Unavailable(String),
    /// This user may not ask.
    NotAllowed(String),
}

impl Failure {
    pub(super) fn sentence(&self) -> &str {
        match self {
            Self::NoRelay(sentence) | Self::Unavailable(sentence) | Self::NotAllowed(sentence) => sentence,
        }
    }

    fn of(error: &io::Error, socket: &Path, limit: Duration) -> Self {
        let socket = socket.display();
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoRelay(format!(
                "no relay offers {socket} (one that is run by hand needs --status; for another path: --socket PATH)"
            )),
            io::ErrorKind::ConnectionRefused => {
                Self::NoRelay(format!("no relay runs: {socket} was left by one that has ended"))
            }
            io::ErrorKind::PermissionDenied => Self::NotAllowed(format!(
                "{socket}: only root and the relay's account may ask; use sudo, or let a group ask (status-group)"
            )),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Unavailable(format!(
                "{socket}: the relay does not answer within {} s; is it stopped (SIGSTOP), or are others asking \
                 without end?",
                limit.as_secs()
            )),
            _ => Self::Unavailable(format!("{socket}: {error}")),
        }
    }
}

/// Also this waits for its time only: where nobody takes clients and many have come, a new one blocks.
fn connect(socket: &Path, limit: Duration) -> io::Result<UnixStream> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    stream.set_write_timeout(Some(limit))?;
    stream.connect(&SockAddr::unix(socket)?)?;
    Ok(stream.into())
}

/// Sends one line and returns the whole answer, within `limit`, which is not zero.
pub(super) fn ask(socket: &Path, question: &str, limit: Duration) -> Result<Vec<u8>, Failure> {
    let work = || -> io::Result<Vec<u8>> {
        let end = Instant::now() + limit;
        let mut stream = connect(socket, limit)?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut part = [0; 16 * 1024];
        while (answer.len() as u64) < LARGEST {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if answer.is_empty() {
            return Err(io::Error::other("the relay has ended meanwhile; ask again"));
        }
        Ok(answer)
    };
    work().map_err(|error| Failure::of(&error, socket, limit))
}

/// The report, within `limit`.
pub(super) fn report(socket: &Path, limit: Duration) -> Result<Report, Failure> {
    let answer = ask(socket, super::JSON, limit)?;
    serde_json::from_slice(&answer).map_err(|error| {
        // It may quote the answer.
        let error = printable(&error.to_string());
        Failure::Unavailable(format!("{}: what answers there is no relay: {error}", socket.display()))
    })
}
