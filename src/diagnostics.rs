//! What the relay says about itself.
//!
//! Promise: a sentence reaches standard error, or /dev/log where auditd has started us and standard error
//! is /dev/null. Law: never waits, never panics on a closed descriptor, and says no more than
//! [`BURST`] sentences in [`WINDOW`], so that nothing an attacker can trigger fills a log. Nothing is said
//! per record.

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
        Self { start: None, said: 0, swallowed: 0 }
    }

    fn ask(&mut self, now: Instant) -> Verdict {
        if self.start.is_none_or(|start| now.duration_since(start) >= WINDOW) {
            let swallowed = std::mem::take(&mut self.swallowed);
            (self.start, self.said) = (Some(now), 1);
            return Verdict::Say { swallowed };
        }
        if self.said < BURST {
            self.said += 1;
            return Verdict::Say { swallowed: 0 };
        }
        self.swallowed += 1;
        Verdict::Swallow
    }
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
        let swallowed = match state.window.ask(Instant::now()) {
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
        for _ in 0..BURST {
            assert!(matches!(window.ask(start), Verdict::Say { swallowed: 0 }));
        }
        for _ in 0..7 {
            assert!(matches!(window.ask(start + WINDOW / 2), Verdict::Swallow));
        }
        assert!(matches!(window.ask(start + WINDOW), Verdict::Say { swallowed: 7 }));
        assert!(matches!(window.ask(start + WINDOW), Verdict::Say { swallowed: 0 }));
    }
}
