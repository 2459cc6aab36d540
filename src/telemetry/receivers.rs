//! Where a destination's connections are: state, last error, TLS session, receiver by receiver.
//!
//! Promise: a receiver is in exactly one state, and it is known since when. Law: written when a connection comes or
//! goes, never per record, so a lock does; words of strangers are kept on one line.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::printable::is_obeyed;

/// Longest sentence that is kept of an error, in characters.
const LONGEST: usize = 500;

/// State of the connection to a receiver.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No attempt has come to its end, or none was necessary (a later one in a failover list).
    #[default]
    Idle,
    /// There is a connection.
    Connected,
    /// The last attempt, or the last connection, has failed.
    Away,
    /// There was a connection, and it was left in order.
    Left,
    /// What a newer relay says, in its word. A stranger's until it is shown.
    #[serde(untagged)]
    Other(String),
}

impl State {
    /// As the report says it.
    pub fn name(&self) -> &str {
        match self {
            Self::Idle => "idle",
            Self::Connected => "connected",
            Self::Away => "away",
            Self::Left => "left",
            Self::Other(word) => word,
        }
    }
}

/// What is known of one receiver.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Receiver {
    /// As configured.
    pub url: String,
    /// State of the connection.
    pub state: State,
    /// Since when it is in this state. Seconds since 1970.
    pub since: f64,
    /// What went wrong last, though it may be well again.
    pub last_error: Option<LastError>,
    /// The TLS session, while there is one.
    pub tls: Option<Session>,
}

/// An error and its moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LastError {
    /// Seconds since 1970.
    pub time: f64,
    /// A sentence.
    pub error: String,
}

/// How a connection is protected.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Session {
    /// `1.3` or `1.2`.
    pub version: String,
    /// Cipher suite, by its name at IANA.
    pub suite: String,
    /// Group of the key exchange.
    pub group: String,
    /// Subject of the receiver's certificate.
    pub peer: String,
    /// Its fingerprint, as `tls-pin` takes it.
    pub fingerprint: String,
    /// Its last second of validity, since 1970.
    pub not_after: u64,
    /// The same of our own certificate, if we have one.
    pub own_not_after: Option<u64>,
}

/// The receivers of one destination.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    list: Mutex<Vec<Receiver>>,
}

impl Receivers {
    fn lock(&self) -> MutexGuard<'_, Vec<Receiver>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, url: &str, change: impl FnOnce(&mut Receiver)) {
        let mut list = self.lock();
        let at = list.iter().position(|known| known.url == url).unwrap_or_else(|| {
            list.push(Receiver { url: url.to_owned(), since: now(), ..Receiver::default() });
            list.len() - 1
        });
        change(&mut list[at]);
    }

    pub(super) fn expect(&self, url: &str) {
        self.change(url, |_| {});
    }

    pub(super) fn connected(&self, url: &str, tls: Option<Session>) {
        self.change(url, |receiver| {
            receiver.enter(State::Connected);
            receiver.tls = tls.map(|session| Session { peer: on_one_line(&session.peer), ..session });
        });
    }

    pub(super) fn disconnected(&self, url: &str) {
        self.change(url, |receiver| receiver.enter(State::Left));
    }

    pub(super) fn failed(&self, url: &str, error: &str) {
        self.change(url, |receiver| {
            receiver.enter(State::Away);
            receiver.last_error = Some(LastError { time: now(), error: on_one_line(error) });
        });
    }

    pub(super) fn list(&self) -> Vec<Receiver> {
        self.lock().clone()
    }
}

impl Receiver {
    fn enter(&mut self, state: State) {
        // Attempt after attempt fails: it is away since the first one.
        if self.state != state {
            (self.state, self.since) = (state, now());
        }
        self.tls = None;
    }
}

/// Seconds since 1970, to the millisecond.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    seconds(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds as seconds.
#[allow(clippy::cast_precision_loss, reason = "a f64 holds milliseconds since 1970 for 285,000 years")]
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// The sentence with nothing in it that a terminal would obey, and no more of it than anybody reads.
fn on_one_line(sentence: &str) -> String {
    let plain = |c: char| if is_obeyed(c) { ' ' } else { c };
    let mut chars: VecDeque<char> = sentence.chars().map(plain).take(LONGEST + 1).collect();
    if chars.len() > LONGEST {
        chars.truncate(LONGEST - 3);
        chars.extend("...".chars());
    }
    chars.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_away_since_its_first_failure_and_forgets_its_session() {
        let receivers = Receivers::default();
        receivers.expect("tls://a");
        receivers.expect("tls://b");
        receivers
            .connected("tls://a", Some(Session { peer: "CN=\u{1b}[31m".to_owned(), ..Session::default() }));
        let first = receivers.list();
        assert_eq!((&first[0].state, &first[1].state), (&State::Connected, &State::Idle));
        assert_eq!(first[0].tls.as_ref().unwrap().peer, "CN= [31m");
        receivers.failed("tls://a", "reset\nby peer");
        let since = receivers.list()[0].since;
        std::thread::sleep(std::time::Duration::from_millis(3));
        receivers.failed("tls://a", &"x".repeat(2000));
        let away = receivers.list().remove(0);
        assert_eq!((&away.state, away.since, &away.tls), (&State::Away, since, &None));
        let error = away.last_error.unwrap();
        assert!(error.time > since && error.error.len() == LONGEST && error.error.ends_with("x..."));
        receivers.connected("tls://a", None);
        receivers.disconnected("tls://a");
        let left = receivers.list().remove(0);
        assert_eq!((left.state, left.last_error.is_some()), (State::Left, true));
    }
}
