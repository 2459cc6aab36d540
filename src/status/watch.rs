//! `audit-relay status --watch`: the table, again and again, in the terminal.
//!
//! Promise: the terminal is left as it was found, whatever ends or suspends the watching, with the last table on it. Law:
//! where standard output is no terminal, one line each time. A relay that goes away, as in a reload of auditd, is waited
//! for, as `watch` and `top` wait; since when is shown above the numbers, which are then old, and the exit status tells.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::client::{self, Failure, PATIENCE};
use super::{command, view};
use crate::sys;
use crate::telemetry::Report;

/// Where the terminal does not say.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Another screen, no cursor; and back.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// Columns and rows of the terminal at standard output.
pub(super) fn size() -> (usize, usize) {
    sys::terminal_size(io::stdout().as_fd()).unwrap_or(USUAL_SIZE)
}

/// No answer since a moment.
struct Gone {
    /// Seconds since 1970, of the first look that failed.
    since: f64,
    why: Failure,
}

impl Gone {
    fn now(why: Failure) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { since: since.as_secs_f64(), why }
    }

    fn sentence(&self) -> String {
        let what = match self.why {
            Failure::NoRelay(_) => "no relay",
            Failure::Unavailable(_) | Failure::NotAllowed(_) => "no answer",
        };
        view::gone(what, self.since, self.why.sentence())
    }
}

/// Watches until somebody ends it; the exit status is that of what was seen last.
pub(super) fn run(socket: &Path, period: Duration) -> Result<u8, Failure> {
    // Where none runs, say so at once.
    let mut now = client::report(socket, PATIENCE)?;
    let failed = |error: io::Error| Failure::Unavailable(format!("the terminal: {error}"));
    let signals = Signals::new().map_err(failed)?;
    let mut screen = io::stdout().is_terminal().then(Screen::enter);
    let (mut before, mut gone): (Option<Report>, Option<Gone>) = (None, None);
    loop {
        let shown = match &mut screen {
            Some(screen) => screen.show(&now, before.as_ref(), gone.as_ref()),
            None => say(&now, before.as_ref(), gone.as_ref()),
        };
        // Nobody reads on.
        if shown.is_err() {
            break;
        }
        match signals.wait(period, screen.is_some()) {
            Wish::End => break,
            Wish::Suspend => {
                drop(screen.take());
                let _ = raise(Signal::SIGSTOP);
                screen = Some(Screen::enter());
            }
            Wish::Redraw => {}
            Wish::Next => match client::report(socket, PATIENCE) {
                Ok(next) => {
                    before = Some(std::mem::replace(&mut now, next));
                    gone = None;
                }
                Err(failure) => {
                    let first = gone.map(|gone| gone.since);
                    let latest = Gone::now(failure);
                    gone = Some(Gone { since: first.unwrap_or(latest.since), ..latest });
                }
            },
        }
    }
    if let Some(screen) = screen.take() {
        drop(screen);
        let last = gone.as_ref().map(|gone| format!("! {}\n\n", gone.sentence())).unwrap_or_default();
        let last = last + &view::table(&now, before.as_ref(), size().0);
        let _ = io::stdout().write_all(last.as_bytes());
    }
    Ok(gone.map_or_else(|| command::status(&now), |gone| command::status_of(&gone.why)))
}

fn say(now: &Report, before: Option<&Report>, gone: Option<&Gone>) -> io::Result<()> {
    let mut out = io::stdout();
    match gone {
        None => writeln!(out, "{}", view::line(now, before))?,
        Some(gone) => writeln!(out, "{}", gone.sentence())?,
    }
    out.flush()
}

/// The terminal while it is ours.
struct Screen {
    /// How standard input was.
    keys: Option<Termios>,
}

impl Screen {
    fn enter() -> Self {
        let stdin = io::stdin();
        let keys = tcgetattr(&stdin).ok();
        if let Some(found) = &keys {
            // Keys come one by one and are not shown; Ctrl-C and Ctrl-Z stay signals.
            let mut quiet = found.clone();
            quiet.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, &quiet);
        }
        let mut out = io::stdout();
        let _ = out.write_all(ENTER).and_then(|()| out.flush());
        Self { keys }
    }

    fn show(&mut self, now: &Report, before: Option<&Report>, gone: Option<&Gone>) -> io::Result<()> {
        let (columns, rows) = size();
        let gone =
            gone.map(|gone| format!("! {}", gone.sentence()).chars().take(columns).collect::<String>());
        let text = view::table(now, before, columns);
        let last =
            if gone.is_some() { "trying again; the numbers are old. q: end" } else { "q: end" }.to_owned();
        let mut lines: Vec<&str> = gone.iter().flat_map(|gone| [&**gone, ""]).chain(text.lines()).collect();
        let room = rows.saturating_sub(2).max(1);
        let hidden = lines.len().saturating_sub(room);
        lines.truncate(room);
        let more = if hidden > 0 {
            format!("  ({hidden} more lines; make the window higher)")
        } else {
            String::new()
        };
        let last: String = (last + &more).chars().take(columns).collect();
        // Over what is there, line by line, so that nothing flickers.
        let mut frame = String::from("\x1b[H");
        for line in lines {
            frame += line;
            frame += "\x1b[K\r\n";
        }
        frame += "\x1b[K\r\n";
        frame += &last;
        frame += "\x1b[J";
        let mut out = io::stdout();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = out.write_all(LEAVE).and_then(|()| out.flush());
        if let Some(found) = &self.keys {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, found);
        }
    }
}

enum Wish {
    Next,
    Redraw,
    Suspend,
    End,
}

/// Signals as data, so that the terminal is put back before they take effect.
struct Signals(SignalFd);

impl Signals {
    fn new() -> io::Result<Self> {
        let mut ours = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
            Signal::SIGWINCH,
        ] {
            ours.add(signal);
        }
        ours.thread_block()?;
        Ok(Self(SignalFd::with_flags(&ours, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Waits for `period`, or until somebody wants something.
    fn wait(&self, period: Duration, keys: bool) -> Wish {
        let end = Instant::now() + period;
        let stdin = io::stdin();
        let mut keys = keys && stdin.is_terminal();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut ready = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if keys {
                ready.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut ready, timeout) {
                Ok(0) => return Wish::Next,
                Ok(_) => {}
                Err(_) => continue,
            }
            if let Ok(Some(signal)) = self.0.read_signal() {
                match i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                    Some(Signal::SIGWINCH) => return Wish::Redraw,
                    Some(Signal::SIGTSTP) => return Wish::Suspend,
                    _ => return Wish::End,
                }
            }
            let pressed = ready.get(1).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
            if pressed {
                match key(stdin.as_fd()) {
                    Some(b'q' | b'Q' | 3) => return Wish::End,
                    Some(_) => {}
                    None => keys = false,
                }
            }
        }
    }
}

/// One key; `None`: there are no more.
fn key(stdin: BorrowedFd<'_>) -> Option<u8> {
    let mut byte = [0];
    nix::unistd::read(stdin, &mut byte).ok().filter(|count| *count == 1).map(|_| byte[0])
}
