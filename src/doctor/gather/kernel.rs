//! The kernel's audit status, by netlink, and its rules, by auditctl.

use std::time::Duration;

use crate::doctor::ask;
use crate::site::kernel;
use crate::site::status::Status;

/// For the status.
const PATIENCE: Duration = Duration::from_secs(1);

/// The status, and a sentence if it cannot be had by root either.
pub(super) fn status() -> (Option<Status>, Vec<String>) {
    match kernel::status(PATIENCE) {
        Ok(status) => (Some(status), Vec::new()),
        // Without root that is said elsewhere.
        Err(_) if !nix::unistd::Uid::effective().is_root() => (None, Vec::new()),
        Err(error) => (None, vec![format!("the kernel's audit status: {error}")]),
    }
}

/// The rules that are loaded, one a line.
pub(super) fn rules(limit: Duration) -> Result<Vec<String>, String> {
    let auditctl = ask::find("auditctl").ok_or("there is no auditctl")?;
    let answer = ask::run(&auditctl, ["-l"], limit).map_err(|error| format!("auditctl -l: {error}"))?;
    if answer.status != Some(0) {
        return Err(format!("auditctl -l: {}", answer.err.trim()));
    }
    let rules = answer.out.lines().filter(|line| line.starts_with('-'));
    Ok(rules.map(str::to_owned).collect())
}
