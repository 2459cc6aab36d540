//! What the relay says about itself.
//!
//! Promise: a sentence reaches standard error, or /dev/log where auditd has started us and standard error
//! is /dev/null. Law: never waits, never panics on a closed descriptor, and says no more than
//! [`BURST`] sentences in [`WINDOW`] and [`SHARE`] of each source that complains, so that nothing an attacker can trigger
//! fills a log, and noise about some destinations hides no other's trouble. Nothing is said per record.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::LogTarget;
use crate::printable::is_obeyed;
use crate::sys;
use crate::syslog::Rfc3164;

/// Sentences in one window.
pub const BURST: u32 = 40;

/// Sentences of one source that complains in one window, whatever the others have said: that a connection has ended, that
/// no other comes about, and that one has.
pub const SHARE: u8 = 4;

/// Sources that have such a share in one window. What they are called is ours and the configuration's, nobody else's.
const SOURCES: usize = 256;

/// Length of a window.
pub const WINDOW: Duration = Duration::from_secs(60);

/// `PIPE_BUF` of Linux.
const LINE_MAX: usize = 4096;

struct Diagnostics {
    stderr: bool,
    syslog: bool,
    state: Mutex<State>,
}

struct State {
    window: Window,
    date: Rfc3164,
}

/// Counts sentences; pure, the moment is an argument.
struct Window {
    start: Option<Instant>,
    said: u32,
    swallowed: u32,
    /// Those that have complained, and how much they have said since. At most [`SOURCES`].
    sources: Vec<(u64, u8)>,
}

enum Verdict {
    /// Say it, after saying that so many were swallowed.
    Say {
        swallowed: u32,
    },
    Swallow,
}

impl Window {
    const fn new() -> Self {
        Self { start: None, said: 0, swallowed: 0, sources: Vec::new() }
    }

    fn ask(&mut self, now: Instant, level: Level, source: u64) -> Verdict {
        let mut swallowed = 0;
        if self.start.is_none_or(|start| now.duration_since(start) >= WINDOW) {
            swallowed = std::mem::take(&mut self.swallowed);
            (self.start, self.said) = (Some(now), 0);
            self.sources.clear();
        }
        let has_a_share = self.has_a_share(level, source);
        if self.said < BURST || has_a_share {
            self.said = self.said.saturating_add(1);
            return Verdict::Say { swallowed };
        }
        self.swallowed += 1;
        Verdict::Swallow
    }

    /// Takes note of the source, and says whether it may go on. One that only tells has no share of its own: what it is
    /// called may hold a stranger's number.
    fn has_a_share(&mut self, level: Level, source: u64) -> bool {
        if let Some((_, said)) = self.sources.iter_mut().find(|(known, _)| *known == source) {
            *said = said.saturating_add(1);
            return *said <= SHARE;
        }
        let is_new = level <= Level::Warn && self.sources.len() < SOURCES;
        if is_new {
            self.sources.push((source, 1));
        }
        is_new
    }
}

/// Whom a sentence is about: what stands before the first colon, such as the URL of a destination, or a key.
fn source(sentence: &str) -> u64 {
    let name = sentence.split_once(": ").map_or(sentence, |(name, _)| name);
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

static SINK: OnceLock<Diagnostics> = OnceLock::new();

/// Takes up the work. `under_auditd`: auditd has started this process. Only the first call counts.
pub fn start(target: LogTarget, under_auditd: bool) {
    let sink = SINK.get_or_init(|| Diagnostics {
        stderr: matches!(target, LogTarget::Auto | LogTarget::Stderr),
        syslog: target == LogTarget::Syslog || (target == LogTarget::Auto && under_auditd),
        state: Mutex::new(State { window: Window::new(), date: Rfc3164::new(sys::local_offset) }),
    });
    if log::set_logger(sink).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// True if what is said goes to /dev/log, so that it has to be reached.
pub fn uses_syslog() -> bool {
    SINK.get().is_some_and(|sink| sink.syslog)
}

/// Says something on standard error, and on /dev/log if `to_syslog`, without having been started: for errors in the
/// configuration itself. Each line is a sentence of its own: a receiver would show what separates them as `#012`.
pub fn say_at_once(sentence: &str, to_syslog: bool) {
    let sink = Diagnostics {
        stderr: true,
        syslog: to_syslog,
        state: Mutex::new(State { window: Window::new(), date: Rfc3164::new(sys::local_offset) }),
    };
    for line in sentence.lines().filter(|line| !line.trim().is_empty()) {
        sink.say(Level::Error, line);
    }
}

/// Says `sentence` whatever was said before: the accounting at the end.
pub fn last_words(sentence: &str) {
    if let Some(sink) = SINK.get() {
        let mut state = sink.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sink.put(&mut state, Level::Info, sentence);
    }
}

impl Diagnostics {
    fn say(&self, level: Level, sentence: &str) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let swallowed = match state.window.ask(Instant::now(), level, source(sentence)) {
            Verdict::Swallow => return,
            Verdict::Say { swallowed } => swallowed,
        };
        if swallowed > 0 {
            self.put(
                &mut state,
                Level::Warn,
                &format!("{swallowed} more sentences were not said, to spare the log"),
            );
        }
        self.put(&mut state, level, sentence);
    }

    fn put(&self, state: &mut State, level: Level, sentence: &str) {
        if self.stderr {
            put_on_stderr(sentence);
        }
        if self.syslog {
            // Facility daemon (3), as auditd's own; a connection would outlive a restart of the receiver.
            let pri = 3 * 8
                + match level {
                    Level::Error => 3,
                    Level::Warn => 4,
                    _ => 6,
                };
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let date = state.date.format(u64::try_from(now.as_millis()).unwrap_or(0));
            let date = std::str::from_utf8(date).unwrap_or_default();
            let message = format!("<{pri}>{date} audit-relay[{}]: {sentence}", std::process::id());
            if let Ok(socket) = UnixDatagram::unbound() {
                let _ = socket.set_nonblocking(true);
                let _ = socket.send_to(message.as_bytes(), "/dev/log");
            }
        }
    }
}

/// Writes one line if standard error takes it at once: nobody may read the pipe behind it. A pipe that can be
/// written takes [`LINE_MAX`] bytes whole.
fn put_on_stderr(sentence: &str) {
    let mut line = format!("audit-relay: {sentence}\n").into_bytes();
    if line.len() > LINE_MAX {
        line.truncate(LINE_MAX - 1);
        line.push(b'\n');
    }
    let stderr = std::io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let writable = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count == 1)
        && ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT));
    if writable {
        // A closed standard error is no reason to stop relaying.
        let _ = nix::unistd::write(&stderr, &line);
    }
}

/// The sentence with nothing in it that a log or a terminal would obey: names in certificates and answers of
/// receivers come from strangers.
fn on_one_line(sentence: &str) -> String {
    sentence.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

impl Log for Diagnostics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.say(record.level(), &on_one_line(&record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_words_stay_on_their_line() {
        assert_eq!(on_one_line("CN=a\nforged: \u{1b}[31mred\u{9b}é"), "CN=a forged:  [31mred é");
    }

    #[test]
    fn a_burst_is_said_and_the_rest_is_counted() {
        let mut window = Window::new();
        let start = Instant::now();
        let mut ask = |now| window.ask(now, Level::Info, 0);
        for _ in 0..BURST {
            assert!(matches!(ask(start), Verdict::Say { swallowed: 0 }));
        }
        for _ in 0..7 {
            assert!(matches!(ask(start + WINDOW / 2), Verdict::Swallow));
        }
        assert!(matches!(ask(start + WINDOW), Verdict::Say { swallowed: 7 }));
        assert!(matches!(ask(start + WINDOW), Verdict::Say { swallowed: 0 }));
    }

    #[test]
    fn noise_hides_nobodys_trouble() {
        let mut window = Window::new();
        let start = Instant::now();
        let mut says = |now, level, sentence: &str| {
            matches!(window.ask(now, level, source(sentence)), Verdict::Say { .. })
        };
        for round in 0..3 {
            let now = start + round * WINDOW;
            for _ in 0..10 * BURST {
                says(now, Level::Warn, "tcp://noisy: Connection reset by peer; connecting again");
            }
            assert!(says(now, Level::Warn, "tcp://other: Connection reset by peer; connecting again"));
            assert!(says(now, Level::Warn, "tcp://other: cannot connect: refused; trying again"));
            assert!(says(now, Level::Info, "tcp://other: connected"));
            assert!(says(now, Level::Error, "handover: cannot lock the folder"));
            assert!(says(now, Level::Warn, "tcp://other: cannot connect: timed out; trying again"));
            assert!(!says(now, Level::Warn, "tcp://other: cannot connect: refused; trying again"), "enough");
            // Who only tells has no share, by whatever name.
            assert!(!says(
                now,
                Level::Info,
                "SIGTERM from process 4242 ignored: only auditd stops its plugin"
            ));
        }
    }

    #[test]
    fn what_is_remembered_of_sources_is_bounded() {
        let mut window = Window::new();
        let now = Instant::now();
        let said =
            (0..10_000).filter(|source| matches!(window.ask(now, Level::Warn, *source), Verdict::Say { .. }));
        assert_eq!(said.count(), SOURCES);
        assert_eq!(window.sources.len(), SOURCES);
    }
}
