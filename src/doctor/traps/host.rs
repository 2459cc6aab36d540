//! The machine: its clock and its name.

use super::{Trap, warning, when};

pub(super) const TRAPS: &[Trap] = &[
    Trap {
        id: "clock",
        why: "records of different machines cannot be put in order, and certificates are judged by a wrong time",
        find: |m| {
            when(m.clock_is_synchronised == Some(false), || {
                warning(
                    "the kernel's clock is not synchronised",
                    "systemctl enable --now chrony, or: timedatectl set-ntp true",
                )
            })
        },
    },
    Trap {
        id: "hostname",
        why: "messages carry it as HOSTNAME (RFC 5424 asks for the fully qualified name); machines with the same short name are one to a \
              receiver",
        find: |m| {
            let set = m.relay.config.as_ref().is_ok_and(|config| config.hostname.is_some());
            let Some(names) = m.names.as_ref().filter(|_| !set) else { return Vec::new() };
            let useless =
                names.full.starts_with("localhost") || names.full.is_empty() || names.full == "(none)";
            when(useless || !names.full.contains('.'), || {
                warning(
                    format!("this host is called `{}`", names.full),
                    "hostnamectl set-hostname NAME.DOMAIN, or name it so in /etc/hosts, or set `hostname`",
                )
            })
        },
    },
];
