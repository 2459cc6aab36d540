//! auditd's service unit: how systemd ends what auditd has started.
//!
//! Promise: the `KillMode` that systemd arrives at for the unit and its drop-ins (systemd.kill(5), systemd.unit(5)). Law:
//! pure; `site` opens the files.

/// Where systemd looks for units; what an earlier folder holds hides the file of that name in a later one.
pub const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// auditd's unit.
pub const NAME: &str = "auditd.service";

/// Folders of drop-ins, below each of [`FOLDERS`]: the unit's own and that of all services.
pub const DROP_INS: [&str; 2] = ["auditd.service.d", "service.d"];

/// The drop-in that `audit-relay install` writes where it has to.
pub const OURS: &str = "/etc/systemd/system/auditd.service.d/audit-relay.conf";

/// Whom systemd ends when the unit stops (systemd.kill(5)).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KillMode {
    /// SIGTERM to all, which then have `TimeoutStopSec` before SIGKILL: systemd's default, auditd up to 4.1.
    #[default]
    ControlGroup,
    /// SIGTERM to auditd, and when that has gone SIGKILL to all others at once: auditd's own unit from 4.2 on (seen: Debian
    /// sid, 4.2.1), so that plugins do not end before auditd expects them to.
    Mixed,
    /// Signals to auditd only.
    Process,
    /// No signals.
    None,
}

/// What the unit and its drop-ins (name and text, in the order in which systemd reads them) come to, and who says so last;
/// `None`: nobody does. Words that systemd does not know it passes over, and so do we.
pub fn kill_mode<N>(files: impl IntoIterator<Item = (N, impl AsRef<str>)>) -> (KillMode, Option<N>) {
    let (mut mode, mut by) = (KillMode::default(), None);
    for (name, text) in files {
        if let Some(said) = said(text.as_ref()) {
            (mode, by) = (said, Some(name));
        }
    }
    (mode, by)
}

/// The last `KillMode` in a file.
fn said(text: &str) -> Option<KillMode> {
    let (mut mode, mut is_service) = (None, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            is_service = section.strip_suffix(']') == Some("Service");
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_service) else { continue };
        if key.trim_end() != "KillMode" {
            continue;
        }
        mode = match value.trim_start() {
            "control-group" => Some(KillMode::ControlGroup),
            "mixed" => Some(KillMode::Mixed),
            "process" => Some(KillMode::Process),
            "none" => Some(KillMode::None),
            _ => mode,
        };
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        for (texts, mode) in [
            (vec![""], KillMode::ControlGroup),
            (vec!["[Service]\nType=forking\nKillMode=mixed\n"], KillMode::Mixed),
            (vec!["[Service]\n  KillMode = mixed  \n"], KillMode::Mixed),
            (vec!["[Service]\n#KillMode=mixed\n;KillMode=mixed\n"], KillMode::ControlGroup),
            (vec!["[Unit]\nKillMode=mixed\n[Install]\nKillMode=mixed\n"], KillMode::ControlGroup),
            (
                vec!["[Service]\nKillMode=mixed\n", "[Service]\nKillMode=control-group\n"],
                KillMode::ControlGroup,
            ),
            (vec!["[Service]\nKillMode=process\n", "[Service]\nKillMode=mixd\n"], KillMode::Process),
            // A drop-in begins outside of every section.
            (vec!["[Service]\nKillMode=mixed\n", "KillMode=control-group\n"], KillMode::Mixed),
            (vec!["[Service]\nKillMode=none\nKillMode=mixed\n"], KillMode::Mixed),
        ] {
            let (found, by) = kill_mode(texts.iter().enumerate());
            assert_eq!(found, mode, "{texts:?}");
            // The last that says what counts.
            let last = texts.iter().rposition(|text| said(text).is_some());
            assert_eq!(by, last, "{texts:?}");
        }
    }
}
