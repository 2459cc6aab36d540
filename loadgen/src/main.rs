//! `audit-loadgen`: plays auditd to a program under test, receives what it sends, and says what happened.
//!
//! *Promise:* records go in on the program's stdin as auditd would write them; the report says how many of them
//! arrived, how often, in which order, how late, and what the program spent on it.
//! *Law:* nothing is shared with the relay, so no fault of it can be hidden by the same fault here.
//!
//! ```text
//!  corpus ──> drive ──(stdin)──> program under test ──(syslog)──> sink ──> ledger ──> report
//!               ^ plan: when each record is due                              ^ corpus: what each record must be
//! ```

mod address;
mod calendar;
mod cli;
mod clock;
mod command;
mod compare;
mod corpus;
mod deframe;
mod drive;
mod family;
mod floor;
mod html;
mod kernel;
mod ledger;
#[cfg(test)]
mod manual;
mod outputs;
mod plan;
mod progress;
mod receive;
mod relp;
mod report;
mod send;
mod session;
mod signals;
mod sink;
mod spread;
mod target;
mod timeline;
mod traffic;
mod verify;
mod warm_up;

use std::io::Write as _;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match session::main() {
        Ok(code) => code,
        Err(failure) => {
            // Without a stderr there is nobody left to tell; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "audit-loadgen: {failure}");
            ExitCode::from(session::EXIT_CANNOT_RUN)
        }
    }
}
