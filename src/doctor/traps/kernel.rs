//! The kernel's side: what it hands to auditd, what it drops, who else listens.

use super::{Found, Trap, note, problem, warning, when};
use crate::doctor::machine::Machine;
use crate::doctor::rules;
use crate::site::status::Status;

/// What the audit suite's own rules set, and enough for a burst of a second.
const USUAL_BACKLOG: u32 = 8192;

pub(super) const TRAPS: &[Trap] = &[
    Trap {
        id: "audit-disabled",
        why: "the kernel makes no records",
        find: |m| {
            kernel(
                m,
                |k| k.enabled == 0,
                |_| {
                    problem(
                        "auditing is switched off (enabled 0)",
                        "auditctl -e 1; if the kernel's command line says audit=0, take that out",
                    )
                },
            )
        },
    },
    Trap {
        id: "audit-locked",
        why: "no rule can be changed until the next start of the machine, so neither can one that leaves out the relay's own records",
        find: |m| {
            kernel(
                m,
                |k| k.enabled == 2,
                |_| {
                    note(
                        "the rules are locked (enabled 2)",
                        "put rules in order in /etc/audit/rules.d, and start the machine again",
                    )
                },
            )
        },
    },
    Trap {
        id: "audit-taken",
        why: "the kernel gives its records to one process only, and that is not auditd",
        find: |m| {
            let Some(auditd) = m.site.pid else { return Vec::new() };
            kernel(
                m,
                |k| k.pid != 0 && k.pid != auditd,
                |k| {
                    problem(
                        format!("the kernel's records go to pid {}, auditd is pid {auditd}", k.pid),
                        format!(
                            "ps -p {} (go-audit, auditbeat and osquery do that): end it; then service auditd restart",
                            k.pid
                        ),
                    )
                },
            )
        },
    },
    Trap {
        id: "journald-audit",
        why: "journald takes a copy of every record from the kernel; what forwards the journal then sends each record a second time",
        find: |m| {
            let found = |pid: u32| {
                warning(
                    format!("systemd-journald (pid {pid}) listens to the kernel's audit records"),
                    "systemctl mask --now systemd-journald-audit.socket; systemctl restart systemd-journald",
                )
            };
            journald(m).map(found).collect()
        },
    },
    Trap {
        id: "multicast-reader",
        why: "another process gets a copy of every record; if it forwards them, they come twice",
        find: |m| {
            let others = m
                .readers
                .iter()
                .filter(|reader| !is_journald(&reader.name) && Some(reader.pid) != m.site.pid);
            let found = |reader: &crate::doctor::machine::Reader| {
                note(
                    format!("{} (pid {}) listens to the kernel's audit records", reader.name, reader.pid),
                    "nothing, if that is meant",
                )
            };
            others.map(found).collect()
        },
    },
    Trap {
        id: "backlog-limit",
        why: "records that auditd has not taken yet wait in the kernel; when they are more than this, processes wait or records are lost",
        find: |m| {
            kernel(
                m,
                |k| k.enabled != 0 && k.backlog_limit < USUAL_BACKLOG && k.backlog_limit != 0,
                |k| {
                    warning(
                        format!("backlog_limit is {}", k.backlog_limit),
                        format!(
                            "auditctl -b {USUAL_BACKLOG}, and `-b {USUAL_BACKLOG}` in /etc/audit/rules.d; for the time before auditd: audit_backlog_limit={USUAL_BACKLOG} on the kernel's command line"
                        ),
                    )
                },
            )
        },
    },
    Trap {
        id: "kernel-lost",
        why: "the kernel has dropped records before auditd saw them: the backlog was full, a rate limit was hit, or there was no memory",
        find: |m| {
            kernel(
                m,
                |k| k.lost > 0,
                |k| {
                    warning(
                        format!("lost {} since the machine's start or the last reset", k.lost),
                        format!(
                            "auditctl -b {} (or more); then auditctl --reset-lost, and look again",
                            USUAL_BACKLOG.max(k.backlog_limit.saturating_mul(2))
                        ),
                    )
                },
            )
        },
    },
    Trap {
        id: "backlog-wait-time",
        why: "with a full backlog the kernel drops records at once instead of holding up whoever makes them",
        find: |m| {
            kernel(
                m,
                |k| k.enabled != 0 && k.backlog_wait_time == Some(0),
                |_| {
                    warning(
                        "backlog_wait_time is 0",
                        "auditctl --backlog_wait_time 60000, and the same in /etc/audit/rules.d; or leave it, if losing is better than waiting",
                    )
                },
            )
        },
    },
    Trap {
        id: "backlog-waited",
        why: "processes have been held up because auditd was behind",
        find: |m| {
            kernel(
                m,
                |k| k.waited.is_some_and(|ticks| ticks > 0),
                |k| {
                    note(
                        format!("backlog_wait_time_actual is {} ticks", k.waited.unwrap_or(0)),
                        "auditctl -b with a larger number, fewer rules, write_logs = no or another flush; then auditctl --reset_backlog_wait_time_actual",
                    )
                },
            )
        },
    },
    Trap {
        id: "kernel-rate-limit",
        why: "records over the limit are lost before auditd sees them",
        find: |m| {
            kernel(
                m,
                |k| k.rate_limit > 0,
                |k| {
                    warning(
                        format!("rate_limit is {} records a second", k.rate_limit),
                        "auditctl -r 0, and `-r 0` in /etc/audit/rules.d",
                    )
                },
            )
        },
    },
    Trap {
        id: "failure-mode",
        why: "it is what the kernel does when it loses a record: 0 nothing, 1 a line in its log, 2 it stops the machine",
        find: |m| {
            kernel(
                m,
                |k| k.failure != 1,
                |k| {
                    let what =
                        if k.failure == 0 { "losses are silent" } else { "a lost record stops the machine" };
                    warning(
                        format!("failure is {}: {what}", k.failure),
                        "unless a policy asks for it: auditctl -f 1, and `-f 1` in /etc/audit/rules.d",
                    )
                },
            )
        },
    },
    Trap {
        id: "no-rules",
        why: "without rules the kernel reports little more than logins and refusals by SELinux or AppArmor",
        find: |m| {
            let Some(rules) = &m.rules else { return Vec::new() };
            when(rules.is_empty(), || {
                warning("no rules are loaded", "put rules into /etc/audit/rules.d; then augenrules --load")
            })
        },
    },
    Trap {
        id: "rules-never-task",
        why: "new processes are not audited at all, and no rule on system calls or files can fire for them",
        find: |m| {
            let Some(rules) = &m.rules else { return Vec::new() };
            let never = rules.iter().find(|rule| rules::switches_off_tasks(rule));
            never.map_or_else(Vec::new, |rule| {
                vec![warning(
                    format!("a rule says: {rule}"),
                    "take it out of /etc/audit/rules.d (Fedora has it in audit.rules as it is installed); then augenrules --load, and log in again",
                )]
            })
        },
    },
    Trap {
        id: "own-records",
        why: "a rule on calls that the relay sends records with makes a record of each sending, which is sent: records without end",
        find: own_records,
    },
];

fn kernel(m: &Machine, holds: impl Fn(&Status) -> bool, found: impl Fn(&Status) -> Found) -> Vec<Found> {
    m.kernel.as_ref().filter(|kernel| holds(kernel)).map(found).into_iter().collect()
}

fn is_journald(name: &str) -> bool {
    name.starts_with("systemd-journal")
}

fn journald(m: &Machine) -> impl Iterator<Item = u32> {
    m.readers.iter().filter(|reader| is_journald(&reader.name)).map(|reader| reader.pid)
}

fn own_records(m: &Machine) -> Vec<Found> {
    let exclusion = m.relay.account.as_ref().zip(m.program()).map(|(account, program)| {
        format!("-A never,exit -F exe={} -F uid={}", program.display(), account.uid)
    });
    let remedy = exclusion.map_or_else(
        || "see packaging/rules.d/10-audit-relay.rules".to_owned(),
        |rule| format!("in /etc/audit/rules.d/10-audit-relay.rules: {rule}; then augenrules --load"),
    );
    let seen = m.relay.report.as_ref().map_or(0, |report| report.own);
    let has_seen = format!("the relay has seen {seen} records of its own system calls");
    let (Some(rules), Some(account), Some(program)) = (&m.rules, &m.relay.account, m.program()) else {
        return when(seen > 0, || warning(has_seen, remedy));
    };
    // What a relay has counted does not go away when the rule does.
    match rules::that_audits(rules, program, account.uid.as_raw()) {
        Some(rule) => vec![warning(format!("this rule holds for the relay too: {rule}"), remedy)],
        None => when(seen > 0, || {
            note(
                format!("{has_seen}; the rules that are loaded make no more of them"),
                "none; the number begins anew with the relay",
            )
        }),
    }
}
