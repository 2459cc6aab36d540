//! `audit-relay status`: the edge between a person, or a monitoring system, and the socket.
//!
//! | exit status | |
//! |---|---|
//! | 0 | all is well |
//! | 1 | something needs attention: a line that begins with `!` says what |
//! | 69 | no relay runs, or none that answers; with `--watch`: at its start or at its end |
//! | 77 | this user may not ask |

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;

use super::attention::attention;
use super::client::{self, Failure, PATIENCE};
use super::{JSON, PROMETHEUS, view, watch, why};
use crate::cli::StatusOptions;
use crate::config::{DEFAULT_FILE, DEFAULT_STATUS, Settings};
use crate::printable::printable;

const ATTENTION: u8 = 1;
const UNAVAILABLE: u8 = 69;
const NO_PERMISSION: u8 = 77;

/// Between the two looks that rates need.
const GLANCE: Duration = Duration::from_millis(500);

/// Runs it, and returns the exit status.
pub fn run(options: &StatusOptions) -> u8 {
    let socket = socket(options);
    let done = if let Some(seconds) = options.watch {
        watch::run(&socket, Duration::from_secs(seconds.into()))
    } else if options.json || options.prometheus {
        raw(&socket, if options.json { JSON } else { PROMETHEUS })
    } else {
        table(&socket)
    };
    match done {
        Ok(status) => status,
        Err(failure) => {
            let why = match failure {
                Failure::NoRelay(_) => format!("; {}", why::now()),
                Failure::Unavailable(_) | Failure::NotAllowed(_) => String::new(),
            };
            let _ = writeln!(io::stderr(), "audit-relay: {}{why}", failure.sentence());
            status_of(&failure)
        }
    }
}

/// The exit status without an answer.
pub(super) fn status_of(failure: &Failure) -> u8 {
    match failure {
        Failure::NoRelay(_) | Failure::Unavailable(_) => UNAVAILABLE,
        Failure::NotAllowed(_) => NO_PERMISSION,
    }
}

/// Where to ask: as said, else as the configuration says if this user may read it, else the usual place.
fn socket(options: &StatusOptions) -> PathBuf {
    if let Some(path) = &options.socket {
        return path.clone();
    }
    let file = options.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let said = Settings::from_file(file, Uid::effective()).ok().and_then(|settings| settings.status);
    said.filter(|path| path.is_absolute()).unwrap_or_else(|| DEFAULT_STATUS.into())
}

/// What the relay says, as it is.
fn raw(socket: &Path, question: &str) -> Result<u8, Failure> {
    let report = client::report(socket, PATIENCE)?;
    let text = client::ask(socket, question, PATIENCE)?;
    // A relay that was taken over must not reach a terminal.
    let lines: Vec<_> = String::from_utf8_lossy(&text).lines().map(printable).collect();
    let _ = writeln!(io::stdout(), "{}", lines.join("\n"));
    Ok(status(&report))
}

fn table(socket: &Path) -> Result<u8, Failure> {
    let before = client::report(socket, PATIENCE)?;
    // There is nobody else whose turn it could be.
    crate::sys::sleep(GLANCE);
    let now = client::report(socket, PATIENCE)?;
    let width = if io::stdout().is_terminal() { watch::size().0 } else { usize::MAX };
    let _ = io::stdout().write_all(view::table(&now, Some(&before), width).as_bytes());
    Ok(status(&now))
}

/// The exit status that a report stands for.
pub(super) fn status(report: &crate::telemetry::Report) -> u8 {
    if attention(report).is_empty() { 0 } else { ATTENTION }
}
