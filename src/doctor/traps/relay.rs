//! The relay itself: its configuration, its account, its process, its folder.

use super::{Found, RELOAD, Trap, note, problem, warning, when};
use crate::config::FALLBACK_USER;
use crate::ingest::OnFull;

/// Open files that a relay with a few destinations needs, several times over.
const FEWEST_FILES: u64 = 256;

pub(super) const TRAPS: &[Trap] = &[
    Trap {
        id: "config",
        why: "the relay does not start with a configuration that it cannot understand or must not trust, and a reload changes nothing",
        find: |m| match &m.relay.config {
            Err(error) => {
                vec![problem(error.clone(), format!("correct it; audit-relay check; then {RELOAD}"))]
            }
            Ok(_) => Vec::new(),
        },
    },
    Trap {
        id: "tls-files",
        why: "keys and certificates are read without root, before each connection; a file that cannot be read or might be \
              somebody else's is refused",
        find: |m| {
            m.relay
                .refused
                .iter()
                .map(|line| problem(line.clone(), "as it says; then audit-relay check"))
                .collect()
        },
    },
    Trap {
        id: "blocking",
        why: "one destination that takes nothing then holds up auditd, and with it every process that is audited",
        find: |m| {
            let blocking = m.destinations().filter(|d| d.on_full == Some(OnFull::Block));
            blocking
                .map(|d| {
                    warning(
                        format!("{}: on-full = \"block\"", d.url),
                        format!("on-full = \"auto\"; then {RELOAD}"),
                    )
                })
                .collect()
        },
    },
    Trap {
        id: "account-nobody",
        why: "what the account of the relay may read, every other program of that account may read, and the same for signals",
        find: |m| {
            let nobody = m.relay.account.as_ref().is_some_and(|account| account.name == FALLBACK_USER);
            let has_key = m.destinations().any(|d| d.service.tls.identity.is_some());
            let make: fn(&str, &str) -> Found = if has_key {
                |seen, remedy| warning(seen, remedy)
            } else {
                |seen, remedy| note(seen, remedy)
            };
            let seen = if has_key { "it runs as nobody, and has a private key" } else { "it runs as nobody" };
            when(nobody, || {
                make(
                    seen,
                    "useradd --system --no-create-home --shell /usr/sbin/nologin audit-relay; then service auditd restart",
                )
            })
        },
    },
    Trap {
        id: "relay-as-root",
        why: "a relay that is taken over is then root's, without capabilities but with root's files",
        find: |m| {
            let told = m.relay.account.as_ref().is_some_and(|account| account.uid.is_root());
            let runs = m.processes.iter().flatten().any(|process| process.uid == Some(0));
            when(told || runs, || {
                warning(
                    "the relay runs as root",
                    "take `user` out of the configuration; then service auditd restart",
                )
            })
        },
    },
    Trap {
        id: "limits",
        why: "a limit that is inherited from auditd's service may leave the relay without descriptors or memory in an outage",
        find: |m| {
            let needed: usize =
                m.destinations().map(|d| d.queue_bytes(false)).sum::<usize>().saturating_mul(2);
            let tight = |files: u64, memory: u64| files < FEWEST_FILES || memory < needed as u64;
            let processes = m.processes.iter().flatten();
            let found = |process: &crate::doctor::machine::Process| {
                let (files, memory) = process.limits.filter(|(files, memory)| tight(*files, *memory))?;
                Some(warning(
                    format!(
                        "pid {} may open {files} files and have {memory} bytes of addresses",
                        process.pid
                    ),
                    "systemctl edit auditd: LimitNOFILE=1024 and LimitAS=infinity; then service auditd restart",
                ))
            };
            processes.filter_map(found).collect()
        },
    },
    Trap {
        id: "records-lost",
        why: "the relay has counted records as lost",
        find: |m| {
            let Some(report) = &m.relay.report else { return Vec::new() };
            let found = |(url, reason, count): (&str, &str, u64)| {
                let remedy = match reason {
                    "overflow" => "a larger queue-size, or a receiver that takes more",
                    "oversize" => "a transport or a max-message-size that takes 9225 bytes",
                    "drain_deadline" => "handover, or a longer drain-timeout",
                    "refused" => "ask the receiver why: its log names the message",
                    _ => "docs/delivery.md says what this reason means",
                };
                warning(format!("{url}: {count} records lost ({reason})"), remedy)
            };
            let lost = report
                .destinations
                .iter()
                .flat_map(|d| d.lost.iter().map(|(reason, count)| (d.url.as_str(), &**reason, *count)));
            lost.map(found).collect()
        },
    },
    Trap {
        id: "handover-refused",
        why: "what is undelivered when auditd reloads or stops is then lost instead of left for the next instance",
        find: |m| {
            let fault = m.handover.as_ref().and_then(|handover| handover.fault.clone());
            fault
                .map(|fault| problem(fault, "as it says, or remove the folder; the relay makes it anew"))
                .into_iter()
                .collect()
        },
    },
    Trap {
        id: "handover-disk",
        why: "audit records are then written to a disk, where they stay after they were delivered, and a slow disk holds up auditd",
        find: |m| {
            let Some(handover) = &m.handover else { return Vec::new() };
            when(handover.is_tmpfs == Some(false), || {
                warning(
                    format!("{} is not in memory (tmpfs)", handover.path.display()),
                    "findmnt -t tmpfs names folders in memory: handover = \"FOLDER\" below one; then service auditd restart",
                )
            })
        },
    },
    Trap {
        id: "denials",
        why: "SELinux, AppArmor or the relay's own confinement has refused it something in the last week",
        find: |m| {
            let found = |line: &String| {
                warning(
                    line.clone(),
                    "ausearch -m AVC,SECCOMP -c audit-relay; restorecon -v on what it names, or a policy for it; \
                     SECCOMP: report it, and confine = \"off\" until it is mended",
                )
            };
            m.denials.iter().map(found).collect()
        },
    },
];
