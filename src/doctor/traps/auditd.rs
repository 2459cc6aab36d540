//! auditd itself: its version, its settings, whether it runs.

use std::ffi::OsStr;

use super::{Found, RELOAD, RESTART, Trap, is_dispatcher, note, problem, warning, when};
use crate::doctor::machine::Machine;
use crate::site::settings::{Flush, LogFormat, NameFormat, Overflow};
use crate::site::{AUDITD_CONF, KillMode, Settings, Source, Version, unit};

/// auditd's own default for `q_depth` from 3.0 on.
const USUAL_Q_DEPTH: u32 = 2000;

pub(super) const TRAPS: &[Trap] = &[
    Trap {
        id: "auditd-missing",
        why: "the relay is fed by auditd",
        find: |m| {
            when(m.site.version.is_none() && m.site.pid.is_none(), || {
                problem(
                    "no program auditd in /usr/sbin and /sbin",
                    "apt-get install auditd, or: dnf install audit",
                )
            })
        },
    },
    Trap {
        id: "auditd-not-running",
        why: "without it nobody takes the kernel's records, and the relay is not started",
        find: |m| {
            let missing = m.is_host && m.site.version.is_some() && m.site.pid.is_none();
            when(missing, || problem("auditd is installed and does not run", "service auditd start"))
        },
    },
    Trap {
        id: "auditd-conf",
        why: "auditd does not start with a line or a file that it refuses, and a reload changes nothing",
        find: auditd_conf,
    },
    Trap {
        id: "auditd-cuts-records",
        why: "auditd 4.2 and 4.2.1 give plugins the kernel's records without their last 16 bytes where log_format = RAW and no \
              name is put in front; the disk log is whole",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            let raw =
                settings.log_format() != LogFormat::Enriched && settings.name_format() == NameFormat::None;
            when(raw && version(m).is_some_and(Version::cuts_raw), || {
                problem(
                    format!(
                        "auditd {} with log_format = {} and name_format = NONE",
                        m.site.version_or_newest(),
                        settings.log_format()
                    ),
                    format!(
                        "in {AUDITD_CONF}: log_format = ENRICHED, or {}; then {RELOAD}. Or upgrade auditd",
                        named(m)
                    ),
                )
            })
        },
    },
    Trap {
        id: "auditd-old-frames",
        why: "auditd 2.6.4 gives the kernel's records away without their ends where log_format = RAW, with a wrong length, at \
              which audispd gives up: plugins get nothing",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            let spoils = version(m).is_some_and(Version::overstates_size);
            when(settings.log_format() == LogFormat::Raw && spoils, || {
                problem(
                    format!("auditd {} with log_format = RAW", m.site.version_or_newest()),
                    format!("upgrade auditd, or in {AUDITD_CONF}: log_format = ENRICHED; then {RESTART}"),
                )
            })
        },
    },
    Trap {
        id: "auditd-outdated",
        why: "an auditd that was upgraded goes on with its old program, and its old faults, until it is started again",
        find: |m| match (m.site.version, m.site.installed) {
            (Some((running, Source::Running)), Some(installed)) => when(running != installed, || {
                warning(format!("auditd {running} runs, {installed} is installed"), RESTART)
            }),
            _ => Vec::new(),
        },
    },
    Trap {
        id: "unit-kills-relay",
        why: "systemd sends SIGKILL to everything that auditd has started as soon as auditd itself has ended; what the relay \
              has not delivered by then is neither delivered nor handed over, and nobody counts it",
        find: |m| {
            let Some((KillMode::Mixed, by)) = &m.site.kill_mode else { return Vec::new() };
            let remedy = match by.file_name() == Some(OsStr::new(unit::NAME)) {
                true => format!(
                    "audit-relay install, again, or in {}: [Service] KillMode=control-group; then systemctl daemon-reload",
                    unit::OURS
                ),
                false => format!("in {}: KillMode=control-group; then systemctl daemon-reload", by.display()),
            };
            vec![problem(format!("{} has KillMode=mixed, from {}", unit::NAME, by.display()), remedy)]
        },
    },
    Trap {
        id: "name-format-fqd",
        why: "auditd 4 ends at its start when it cannot resolve its own name, and at boot there may be no resolver yet",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            let asks = matches!(settings.name_format(), NameFormat::Fqd | NameFormat::Numeric);
            when(asks && m.fqd_resolves == Some(false), || {
                problem(
                    "name_format asks the resolver for this host's own name, which has no answer",
                    format!("in {AUDITD_CONF}: {}, or name this host in /etc/hosts", named(m)),
                )
            })
        },
    },
    Trap {
        id: "name-forgotten",
        why: "from 4.2 on, after a reload auditd no longer knows a name that it has found out itself: records carry node=(null), \
              also in its own log; the relay's messages carry this host's name all the same",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            let asked = !matches!(settings.name_format(), NameFormat::None | NameFormat::User);
            when(asked && version(m).is_some_and(Version::forgets_name), || {
                warning(
                    format!(
                        "auditd {} with name_format = {}",
                        m.site.version_or_newest(),
                        settings.text("name_format").unwrap_or_default()
                    ),
                    format!("in {AUDITD_CONF}: {}; then {RESTART}", named(m)),
                )
            })
        },
    },
    Trap {
        id: "name-format-none",
        why: "records in auditd's own log do not say whose they are (STIG asks for a name); the relay's messages do",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            when(settings.name_format() == NameFormat::None, || {
                // Not by a reload: auditd of every version finds its name out when it starts.
                note("name_format is NONE", format!("in {AUDITD_CONF}: {}; then {RESTART}", named(m)))
            })
        },
    },
    Trap {
        id: "log-format-cost",
        why: "ENRICHED costs auditd about as much again as everything else it does; it puts names of users, groups and calls \
              behind each record, which a receiver cannot look up",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            when(settings.log_format() == LogFormat::Enriched, || {
                note(
                    "log_format is ENRICHED",
                    "nothing, if the names are wanted; else log_format = RAW, but not under auditd 4.2 and 4.2.1 without a name",
                )
            })
        },
    },
    Trap {
        id: "queue-depth",
        why: "records that plugins have not taken yet wait in auditd's queue; what does not fit is lost to all of them",
        find: |m| {
            let Some(settings) = dispatchers(m) else { return Vec::new() };
            let depth = settings.q_depth(m.site.version_or_newest());
            when((1..USUAL_Q_DEPTH).contains(&depth), || {
                warning(
                    format!("q_depth is {depth}"),
                    format!(
                        "in {}: q_depth = 8192; then {RESTART}",
                        m.site.version_or_newest().dispatcher_conf()
                    ),
                )
            })
        },
    },
    Trap {
        id: "overflow-action",
        why: "it decides what becomes of records when auditd's queue is full, and may decide over the machine",
        find: |m| {
            let Some(settings) = dispatchers(m) else { return Vec::new() };
            let what = match settings.overflow_action() {
                Overflow::Syslog => return Vec::new(),
                Overflow::Ignore => "records are dropped without a word",
                Overflow::Suspend => "after one overflow plugins get nothing more until SIGUSR2 or a reload",
                Overflow::Single => "the machine goes to single user mode",
                Overflow::Halt => "the machine is halted",
            };
            let file = m.site.version_or_newest().dispatcher_conf();
            vec![warning(
                format!("overflow_action is {}: {what}", settings.overflow_action()),
                format!("unless a policy asks for it, in {file}: overflow_action = SYSLOG; then {RELOAD}"),
            )]
        },
    },
    Trap {
        id: "queue-overflowed",
        why: "records for plugins have been lost in auditd, which says so five times in the system's log and then no more",
        find: |m| match &m.state {
            Some(state) if state.suspended => vec![problem(
                "auditd feeds plugins no more (plugin queueing suspended = yes)",
                format!("kill -USR2 $(pidof auditd); then q_depth = 8192 in {AUDITD_CONF} and {RESTART}"),
            )],
            Some(state) if state.overflowed => vec![warning(
                "auditd's queue for plugins was full (plugin queue overflow detected = yes)",
                format!("in {AUDITD_CONF}: q_depth = 8192; then {RESTART}, which also clears this"),
            )],
            _ => Vec::new(),
        },
    },
    Trap {
        id: "lossy-dispatcher",
        why: "auditd 2.x drops records for its dispatcher (audispd, or the relay itself) rather than wait for it",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            let old = version(m).is_some_and(Version::has_audispd);
            when(old && !settings.is_lossless(), || {
                warning("disp_qos is lossy", format!("in {AUDITD_CONF}: disp_qos = lossless; then {RESTART}"))
            })
        },
    },
    Trap {
        id: "no-dispatcher",
        why: "auditd 2.x leaves plugins to audispd, and starts it only if auditd.conf names it; it says nothing of it",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            let off = version(m).and_then(|version| settings.starts_no_plugins(version));
            let off = off.filter(|_| !is_dispatcher(m));
            let remedy = format!("in {AUDITD_CONF}: dispatcher = /sbin/audispd; then {RESTART}");
            off.map(|why| problem(format!("{AUDITD_CONF} {why}"), remedy)).into_iter().collect()
        },
    },
    Trap {
        id: "few-restarts",
        why: "auditd starts a plugin that has ended at most so often in its own life, then never again, with one line in the log",
        find: |m| {
            let Some(settings) = dispatchers(m) else { return Vec::new() };
            when(settings.max_restarts() < 3, || {
                warning(
                    format!("max_restarts is {}", settings.max_restarts()),
                    format!(
                        "in {}: max_restarts = 10; then {RELOAD}",
                        m.site.version_or_newest().dispatcher_conf()
                    ),
                )
            })
        },
    },
    Trap {
        id: "local-events-off",
        why: "auditd then takes no records of this machine's kernel at all",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            when(!settings.local_events(), || {
                problem(
                    "local_events is no",
                    format!(
                        "unless it only collects from other machines, in {AUDITD_CONF}: local_events = yes; then {RESTART}"
                    ),
                )
            })
        },
    },
    Trap {
        id: "network-records",
        why: "records that auditd takes from other machines go to its log and, without distribute_network = yes, to no plugin",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            when(settings.tcp_listen_port().is_some() && !settings.distribute_network(), || {
                warning(
                    "auditd listens for other machines' records, and distribute_network is no",
                    format!("in {AUDITD_CONF}: distribute_network = yes; then {RESTART}"),
                )
            })
        },
    },
    Trap {
        id: "disk-flush",
        why: "auditd waits for the disk before the next record; with data and sync that is some 50 to 100 events a second",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            let waits = settings.write_logs() && matches!(settings.flush(), Flush::Data | Flush::Sync);
            when(waits, || {
                warning(
                    "flush is DATA or SYNC",
                    format!(
                        "in {AUDITD_CONF}: flush = INCREMENTAL_ASYNC and freq = 50, or write_logs = no; then {RELOAD}"
                    ),
                )
            })
        },
    },
    Trap {
        id: "disk-log-both",
        why: "every record is written to the disk too, which costs more than sending it; it is also the copy that a network cannot lose",
        find: |m| {
            let Ok(settings) = &m.site.settings else { return Vec::new() };
            when(settings.write_logs(), || {
                note(
                    format!("auditd also writes {}", settings.log_file()),
                    format!(
                        "nothing, if the copy is wanted; else in {AUDITD_CONF}: write_logs = no; then {RELOAD}"
                    ),
                )
            })
        },
    },
];

fn version(m: &Machine) -> Option<Version> {
    m.site.version.map(|(version, _)| version)
}

/// What the program that feeds plugins is told: auditd itself, or 2.x's audispd. `None`: unknown, or the relay stands in audispd's
/// place, which then neither queues nor starts anything.
fn dispatchers(m: &Machine) -> Option<&Settings> {
    m.site.dispatcher.as_ref().ok().filter(|_| !is_dispatcher(m))
}

/// What puts a name in front of records, and keeps it there.
fn named(m: &Machine) -> String {
    if !m.site.version_or_newest().forgets_name() {
        return "name_format = HOSTNAME".to_owned();
    }
    let name = m.names.as_ref().map_or("NAME", |names| names.full.as_str());
    format!("name_format = USER and name = {name}")
}

fn auditd_conf(m: &Machine) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(facts) = &m.auditd_conf {
        if facts.uid != 0 {
            found.push(problem(
                format!("{AUDITD_CONF} belongs to user {}", facts.uid),
                format!("chown root:root {AUDITD_CONF}"),
            ));
        }
        if facts.mode & 0o002 != 0 {
            found.push(problem(
                format!("{AUDITD_CONF} may be written by everybody (mode {:04o})", facts.mode),
                format!("chmod 0640 {AUDITD_CONF}"),
            ));
        }
    }
    let own = m.site.settings.iter().map(|settings| (AUDITD_CONF, settings));
    let audispd = m.site.version_or_newest().dispatcher_conf();
    let other = dispatchers(m).filter(|_| audispd != AUDITD_CONF).map(|settings| (audispd, settings));
    for (file, settings) in own.chain(other) {
        for fault in &settings.faults {
            let line = fault.line.map_or_else(String::new, |line| format!(" line {line}"));
            let seen = format!("{file}{line}: {}", fault.sentence);
            let remedy = format!("correct the line in {file}; then {RELOAD}");
            found.push(if fault.rejects { problem(seen, remedy) } else { warning(seen, remedy) });
        }
    }
    found
}
