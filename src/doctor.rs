//! `audit-relay doctor`: what loses, doubles, delays or spoils records on this machine, and what to do about it.
//!
//! ```text
//! gather (edges, in parallel, one time limit) -> Machine (plain facts) -> traps (pure, one function each) -> print
//! ```
//!
//! Promise: every trap that can be seen is named with its remedy; what could not be looked at is said; it ends within its
//! time limit whatever hangs. Law: changes nothing; sends nothing unless asked to (`--send`); decides only in the pure
//! rooms. Programs that it runs (auditctl, this one) are found by absolute paths, get an empty environment, and are
//! limited in time and output.

mod arrival;
mod ask;
mod gather;
mod machine;
mod print;
mod rsyslog;
mod rules;
mod traps;

#[cfg(test)]
mod planted;

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::cli::{self, Examination};

/// Our program's name in a plugin's configuration, and of its process.
const PROGRAM: &str = "audit-relay";

/// Exit statuses of sysexits.h: a wrong id; nothing could be judged.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;

/// Does it, and returns the exit status: 0 nothing worse than notes, 1 warnings, 2 problems, 64 and
/// 69 as below.
pub fn run(asked: &Examination, options: &cli::Options) -> u8 {
    let mut out = io::stdout();
    let known = |id: &String| traps::all().any(|trap| trap.id == *id);
    if let Some(id) = asked.only.iter().find(|id| !known(id)) {
        let _ = writeln!(
            io::stderr(),
            "audit-relay: doctor: `{id}` is no trap; audit-relay doctor --list names them"
        );
        return USAGE;
    }
    if let Some(root) = asked.root.as_deref().filter(|root| !root.is_dir()) {
        let _ =
            writeln!(io::stderr(), "audit-relay: doctor: --root {}: there is no such folder", root.display());
        return USAGE;
    }
    if asked.list {
        for trap in traps::all() {
            let _ = writeln!(out, "{:<24} {}", trap.id, trap.why);
        }
        return 0;
    }
    let start = Instant::now();
    if asked.as_relay {
        return gather::try_as_relay(options, Duration::from_secs(asked.within));
    }
    let machine = match gather::gather(asked, options, start) {
        Ok(machine) => machine,
        Err(error) => {
            let _ = writeln!(io::stderr(), "audit-relay: doctor: {error}");
            return UNAVAILABLE;
        }
    };
    let wanted = |trap: &traps::Trap| asked.only.is_empty() || asked.only.iter().any(|id| id == trap.id);
    let findings = traps::judge(&machine, wanted);
    let judged = print::Judged {
        findings: &findings,
        unseen: &machine.unseen,
        looked_for: traps::all().filter(|trap| wanted(trap)).count(),
        took: start.elapsed(),
    };
    let text = if asked.json { judged.json() } else { judged.text(asked.notes || !asked.only.is_empty()) };
    let _ = out.write_all(text.as_bytes());
    judged.status()
}
