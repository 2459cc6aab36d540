//! The traps: one small function each, from facts to findings.
//!
//! Promise: every trap has an id that stays, a reason, and a function that finds it in a [`Machine`]; a fact that is not
//! known finds nothing. Law: pure. tests/doctor.rs holds that each id is planted in a test and explained in
//! docs/doctor.md.

mod auditd;
mod host;
mod kernel;
mod local;
mod plugins;
mod receivers;
mod relay;

use std::path::Path;

use super::PROGRAM;
use super::machine::Machine;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Severity {
    /// Worth knowing; may well be meant.
    Note,
    /// Records may be lost, doubled, late or unusable.
    Warning,
    /// Records are lost or do not come, now or at the next start.
    Problem,
}

impl Severity {
    /// In lower case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a trap's function says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Found {
    /// How bad.
    pub(crate) severity: Severity,
    /// What was seen: a sentence without an end.
    pub(crate) seen: String,
    /// What to do: a command where there is one.
    pub(crate) remedy: String,
}

/// A trap.
#[derive(Clone, Copy)]
pub(crate) struct Trap {
    /// Its name, for good.
    pub(crate) id: &'static str,
    /// Why it matters: a sentence without an end.
    pub(crate) why: &'static str,
    /// Finds it.
    pub(crate) find: fn(&Machine) -> Vec<Found>,
}

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// A trap that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// The trap's id.
    pub(crate) id: &'static str,
    /// Why it matters.
    pub(crate) why: &'static str,
    /// What, and what to do.
    pub(crate) found: Found,
}

/// All of them, in the order of a record's way: auditd, the kernel, the relay, the receivers, the machine.
pub(crate) fn all() -> impl Iterator<Item = &'static Trap> {
    [auditd::TRAPS, plugins::TRAPS, kernel::TRAPS, relay::TRAPS, local::TRAPS, receivers::TRAPS, host::TRAPS]
        .into_iter()
        .flatten()
}

/// What is found on this machine, the worst first.
pub(crate) fn judge(machine: &Machine, wanted: impl Fn(&Trap) -> bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> = all()
        .filter(|trap| wanted(trap))
        .flat_map(|trap| {
            (trap.find)(machine).into_iter().map(|found| Finding { id: trap.id, why: trap.why, found })
        })
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.found.severity));
    findings
}

fn problem(seen: impl Into<String>, remedy: impl Into<String>) -> Found {
    Found { severity: Severity::Problem, seen: seen.into(), remedy: remedy.into() }
}

fn warning(seen: impl Into<String>, remedy: impl Into<String>) -> Found {
    Found { severity: Severity::Warning, seen: seen.into(), remedy: remedy.into() }
}

fn note(seen: impl Into<String>, remedy: impl Into<String>) -> Found {
    Found { severity: Severity::Note, seen: seen.into(), remedy: remedy.into() }
}

/// One finding if `holds`.
fn when(holds: bool, found: impl FnOnce() -> Found) -> Vec<Found> {
    if holds { vec![found()] } else { Vec::new() }
}

/// auditd 2.x gives its records to the relay itself, without audispd.
fn is_dispatcher(m: &Machine) -> bool {
    let settings = m.site.settings.as_ref().ok().filter(|_| m.site.version_or_newest().has_audispd());
    let program = settings.and_then(|settings| settings.dispatcher()).map(Path::new);
    program.is_some_and(|program| program.file_name() == Some(PROGRAM.as_ref()))
}

/// auditd 2.x has nobody who would start a plugin.
fn starts_no_plugins(m: &Machine) -> bool {
    let settings = m.site.settings.as_ref().ok();
    settings.is_some_and(|settings| settings.starts_no_plugins(m.site.version_or_newest()).is_some())
}

/// The command that makes auditd read its configuration again. systemctl is refused by auditd's unit on purpose.
const RELOAD: &str = "service auditd reload, or: kill -HUP $(pidof auditd)";
const RESTART: &str = "service auditd restart";
