//! auditd's plugins: ours, and the others beside it.

use super::{Found, RELOAD, RESTART, Trap, is_dispatcher, note, problem, starts_no_plugins, warning, when};
use crate::doctor::PROGRAM;
use crate::doctor::machine::{Machine, Process};
use crate::site::{Form, Plugin, Reload};

pub(super) const TRAPS: &[Trap] = &[
    Trap {
        id: "plugin-missing",
        why: "auditd starts the relay only if a file in its plugin folder says so",
        find: |m| {
            if m.site.version.is_none() || ours(m).next().is_some() || !folder_was_seen(m) || is_dispatcher(m)
            {
                return Vec::new();
            }
            let folder = m.site.plugin_folder.display();
            let leads = |plugin: &&Plugin| plugin.conf.as_ref().is_some_and(|conf| conf.leads_to(PROGRAM));
            let found = m.site.plugins.iter().find(leads);
            // What `active` says counts only in a file that auditd takes: `active=yes` is no key.
            if let Some(plugin) = found.filter(|plugin| plugin.faults.iter().any(|fault| fault.rejects)) {
                return faults(plugin, true, problem);
            }
            vec![match found {
                Some(plugin) => problem(
                    format!("{} says `active = no`", plugin.file.display()),
                    format!("set `active = yes` there; then {RELOAD}"),
                ),
                None => problem(
                    format!("no file in {folder} has a `path` that ends in {PROGRAM}"),
                    format!("put plugins.d/audit-relay.conf there (docs/doctor.md); then {RELOAD}"),
                ),
            }]
        },
    },
    Trap {
        id: "plugin-skipped",
        why: "auditd passes the file over and says so once, in the system's log; the relay gets nothing",
        find: |m| ours(m).flat_map(|plugin| faults(plugin, true, problem)).collect(),
    },
    Trap {
        id: "active-without-path",
        why: "compliance checks look for `active = yes` and are content; auditd wants a `path` too, and passes the file over",
        find: |m| {
            let hollow =
                m.site.plugins.iter().filter(|plugin| {
                    plugin.conf.as_ref().is_some_and(|conf| conf.active && conf.path.is_none())
                });
            let found = |plugin: &Plugin| {
                problem(
                    format!("{} says `active = yes` and names no `path`", plugin.file.display()),
                    format!("add `path = /usr/sbin/{PROGRAM}` there, or set `active = no`; then {RELOAD}"),
                )
            };
            hollow.map(found).collect()
        },
    },
    Trap {
        id: "plugin-line-ignored",
        why: "auditd goes on without a line that is too long, and without words that are too many",
        find: |m| ours(m).flat_map(|plugin| faults(plugin, false, problem)).collect(),
    },
    Trap {
        id: "other-plugin",
        why: "auditd does not start that plugin; from 4.2 on, one such file also makes every reload change nothing, ours included",
        find: |m| {
            let others = m.site.plugins.iter().filter(|plugin| !is_ours(plugin) && !is_hollow(plugin));
            let blocks = m.site.version_or_newest().reload_is_all_or_nothing();
            let make: fn(String, String) -> Found = if blocks { problem } else { warning };
            others
                .filter(|plugin| plugin.is_skipped() || (blocks && has_bad_lines(plugin)))
                .flat_map(|plugin| faults(plugin, true, make))
                .collect()
        },
    },
    Trap {
        id: "plugin-binary",
        why: "binary frames take more room in auditd's socket: up to 4.1.0 each is 8986 bytes, so that 21 records fill it instead of 167",
        find: |m| {
            let binary =
                ours(m).filter(|plugin| plugin.conf.as_ref().is_some_and(|conf| conf.form == Form::Binary));
            let fills = m.site.version_or_newest().fills_frames();
            let make: fn(String, String) -> Found = if fills { warning } else { note };
            let found = |plugin: &Plugin| {
                make(
                    format!("{} has no `format = string`", plugin.file.display()),
                    format!("set `format = string` there; then {RELOAD}"),
                )
            };
            binary.map(found).collect()
        },
    },
    Trap {
        id: "two-plugins",
        why: "every record goes out twice",
        find: |m| {
            let files: Vec<_> = ours(m).map(|plugin| plugin.file.display().to_string()).collect();
            when(files.len() > 1, || {
                problem(
                    format!("the relay is active in {}", files.join(" and ")),
                    format!("set `active = no` in all but one; then {RELOAD}"),
                )
            })
        },
    },
    Trap {
        id: "syslog-plugin",
        why: "audisp-syslog writes every record to /dev/log as well, so they come twice, and a slow syslog service holds up auditd",
        find: |m| {
            let beside = m.site.plugins.iter().filter(|plugin| {
                let conf = plugin.conf.as_ref().filter(|conf| conf.active && !conf.leads_to(PROGRAM));
                conf.is_some_and(|conf| conf.leads_to("audisp-syslog") || conf.leads_to("builtin_syslog"))
            });
            let found = |plugin: &Plugin| {
                warning(
                    format!("{} is active beside the relay", plugin.file.display()),
                    format!(
                        "set `active = no` there, or `path = /usr/sbin/{PROGRAM}` and no other file of ours; then {RELOAD}"
                    ),
                )
            };
            match ours(m).next() {
                Some(_) => beside.map(found).collect(),
                None => Vec::new(),
            }
        },
    },
    Trap {
        id: "slow-neighbour",
        why: "auditd writes to one plugin after the other and waits for each, so that a slow one delays all",
        find: |m| {
            let beside = m.site.plugins.iter().filter(|plugin| plugin.is_started() && !is_ours(plugin));
            let names: Vec<_> = beside.map(|plugin| plugin.file.display().to_string()).collect();
            when(!names.is_empty() && ours(m).next().is_some(), || {
                note(
                    format!("active beside the relay: {}", names.join(", ")),
                    format!("set `active = no` in what is not needed; then {RELOAD}"),
                )
            })
        },
    },
    Trap {
        id: "relay-not-running",
        why: "a plugin that has ended is started again `max_restarts` times in auditd's life and then no more; auditd's own state \
              still counts it",
        find: |m| {
            let Some(processes) = &m.processes else { return Vec::new() };
            let should = m.site.pid.is_some() && ours(m).any(Plugin::is_started) && !starts_no_plugins(m);
            when(should && !processes.iter().any(|process| process.is_auditds), || {
                problem(
                    format!(
                        "auditd (pid {}) shall run the relay, and none of its children is it",
                        m.site.pid.unwrap_or(0)
                    ),
                    format!("{PROGRAM} check; journalctl -t auditd -t {PROGRAM}; then {RESTART}"),
                )
            })
        },
    },
    Trap {
        id: "two-relays",
        why: "two relays under one auditd send every record twice; while one that ends hands over to the next, two are right",
        find: |m| {
            let Some(processes) = &m.processes else { return Vec::new() };
            let pids: Vec<_> = processes.iter().filter(|p| p.is_auditds).map(|p| p.pid.to_string()).collect();
            when(pids.len() > 1, || {
                warning(
                    format!("auditd has {} relays: pids {}", pids.len(), pids.join(", ")),
                    format!("look again in 5 s; if they stay, leave one file of ours active and {RESTART}"),
                )
            })
        },
    },
    Trap {
        id: "relay-not-auditds-child",
        why: "a relay that auditd has not started gets none of its records, or is left over from an auditd that is gone",
        find: |m| {
            let Some(processes) = &m.processes else { return Vec::new() };
            let stray = processes.iter().filter(|process| !process.is_auditds && m.site.pid.is_some());
            let found = |process: &Process| {
                warning(
                    format!("pid {} runs the relay and is not below auditd", process.pid),
                    format!("if nobody runs it by hand: kill {}", process.pid),
                )
            };
            stray.map(found).collect()
        },
    },
    Trap {
        id: "relay-outdated",
        why: "after an upgrade the old program goes on, and a rule that leaves out records of the relay by its program no longer fits it",
        find: |m| {
            let Some(processes) = &m.processes else { return Vec::new() };
            let old = processes.iter().filter(|process| process.is_installed == Some(false));
            let how = match m.site.version_or_newest().reload() {
                Reload::Signal => format!("{RELOAD}: auditd starts a program that was replaced anew"),
                Reload::Restart => format!("{RELOAD}, which starts every plugin anew"),
            };
            old.map(|process| {
                warning(
                    format!("pid {} runs a program that is no longer the installed one", process.pid),
                    how.clone(),
                )
            })
            .collect()
        },
    },
];

/// Active plugins that lead to the relay, whether auditd takes them or not. None where the relay stands in audispd's place: then
/// nobody looks at those files. A copy whose name auditd passes over is one only where there is no other: beside it, it is harmless.
fn ours(m: &Machine) -> impl Iterator<Item = &Plugin> {
    let version = m.site.version_or_newest();
    let all = || m.site.plugins.iter().filter(|plugin| is_ours(plugin) && !is_dispatcher(m));
    let any_is_seen = all().any(|plugin| !plugin.is_passed_over(version));
    all().filter(move |plugin| !any_is_seen || !plugin.is_passed_over(version))
}

fn is_ours(plugin: &Plugin) -> bool {
    plugin.is_active_and_leads_to(PROGRAM)
}

fn is_hollow(plugin: &Plugin) -> bool {
    plugin.conf.as_ref().is_some_and(|conf| conf.active && conf.path.is_none())
}

/// Lines that auditd refuses whether the plugin is active or not.
fn has_bad_lines(plugin: &Plugin) -> bool {
    plugin.conf.as_ref().is_some_and(|conf| conf.faults.iter().any(|fault| fault.rejects))
}

fn folder_was_seen(m: &Machine) -> bool {
    let folder = format!("{}: ", m.site.plugin_folder.display());
    !m.site.unseen.iter().any(|sentence| sentence.starts_with(&folder))
}

fn faults(plugin: &Plugin, rejects: bool, make: fn(String, String) -> Found) -> Vec<Found> {
    let found = |fault: &crate::site::Fault| {
        let file = plugin.file.display();
        let line = fault.line.map_or_else(String::new, |line| format!(" line {line}:"));
        make(format!("{file}{line} {}", fault.sentence), remedy(plugin, &fault.sentence))
    };
    plugin.faults.iter().filter(|fault| fault.rejects == rejects).map(found).collect()
}

/// The command for what auditd has against a file, its program or its name.
fn remedy(plugin: &Plugin, sentence: &str) -> String {
    let file = plugin.file.display().to_string();
    let program =
        plugin.conf.as_ref().and_then(|conf| conf.path.as_ref()).map(|path| path.display().to_string());
    let is_program = sentence.starts_with("its program");
    let (what, mode) = match program.filter(|_| is_program) {
        Some(program) => (program, "0755"),
        None => (file.clone(), "0640"),
    };
    if is_program && sentence.contains("No such file") {
        return format!("install it, or set `active = no` in {file}; then {RELOAD}");
    }
    if sentence.contains("belongs to") {
        format!("chown root:root {what}; then {RELOAD}")
    } else if sentence.contains("mode") {
        format!("chmod {mode} {what}; then {RELOAD}")
    } else if sentence.contains("its name") {
        format!("give it a name with one dot that ends in .conf; then {RELOAD}")
    } else {
        format!("correct {file}; then {RELOAD}")
    }
}
