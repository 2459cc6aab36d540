//! The machine's own syslog service, where the relay sends to it.

use super::{RELOAD, Trap, problem, warning, when};
use crate::config::Destination;
use crate::doctor::machine::{Machine, Receiver};
use crate::output::service::Target;
use crate::syslog::{Format, Framing};

/// The longest record that auditd hands over, with room for a header.
const LONGEST: u64 = 10_240;

pub(super) const TRAPS: &[Trap] = &[
    Trap {
        id: "journald-rate-limit",
        why: "journald drops what a service sends beyond its limit; it says how many, and not which",
        find: |m| {
            let Some(journald) = &m.local.journald else { return Vec::new() };
            let limited = !journald.interval.is_zero() && journald.burst > 0;
            when(sends_to_dev_log(m) && m.local.journald_owns_dev_log && limited, || {
                warning(
                    format!(
                        "/dev/log is journald's, which takes {} messages in {} s of a service",
                        journald.burst,
                        journald.interval.as_secs()
                    ),
                    "systemctl edit auditd: LogRateLimitIntervalSec=0 under [Service], then service auditd restart; or send to \
                     a socket of rsyslog's own (docs/receivers.md)",
                )
            })
        },
    },
    Trap {
        id: "imuxsock-rate-limit",
        why: "rsyslog drops what one process writes to its socket beyond the limit",
        find: |m| {
            let Some(conf) = &m.local.rsyslog else { return Vec::new() };
            let seconds = conf.socket_interval.unwrap_or(0);
            when(sends_to_dev_log(m) && !m.local.journald_owns_dev_log && seconds > 0, || {
                warning(
                    format!("imuxsock has SysSock.RateLimit.Interval {seconds} s"),
                    format!(
                        "in {}: module(load=\"imuxsock\" SysSock.RateLimit.Interval=\"0\"); then systemctl restart rsyslog",
                        conf.place()
                    ),
                )
            })
        },
    },
    Trap {
        id: "imjournal-rate-limit",
        why: "rsyslog reads what journald has taken, and drops what is beyond its limit (20,000 messages in 600 s as it is installed)",
        find: |m| {
            let Some(conf) = &m.local.rsyslog else { return Vec::new() };
            let limited = conf.reads_journal && conf.journal_interval != Some(0);
            when(sends_to_dev_log(m) && m.local.journald_owns_dev_log && limited, || {
                warning(
                    format!("imjournal has Ratelimit.Interval {} s", conf.journal_interval.unwrap_or(600)),
                    format!(
                        "in {}: module(load=\"imjournal\" Ratelimit.Interval=\"0\"); or send to a socket of rsyslog's own \
                         (docs/receivers.md)",
                        conf.place()
                    ),
                )
            })
        },
    },
    Trap {
        id: "dev-log-format",
        why: "rsyslog's and journald's local sockets take the header of RFC 5424 for text: the tag becomes `1`, the type and the time are \
              spoiled",
        find: |m| {
            let reads = m.local.rsyslog.as_ref().is_some_and(|conf| conf.reads_rfc5424)
                && !m.local.journald_owns_dev_log;
            let spoiled =
                m.destinations().filter(|d| d.route.any(is_dev_log) && d.format == Format::Rfc5424 && !reads);
            let found = |d: &Destination| {
                problem(
                    format!("{}: format = \"rfc5424\"", d.url),
                    format!(
                        "format = \"auto\", then {RELOAD}; or in rsyslog.conf SysSock.UseSpecialParser=\"off\" and SysSock.IgnoreTimestamp=\"off\""
                    ),
                )
            };
            spoiled.map(found).collect()
        },
    },
    Trap {
        id: "receiver-size",
        why: "records reach 9,225 bytes; rsyslog cuts what is beyond its limit, or makes a second message of it, with any sender and \
              any severity that stand there",
        find: |m| {
            let Some(conf) = &m.local.rsyslog else { return Vec::new() };
            let limit = conf.longest_message();
            let too_long = |d: &&Destination| {
                d.max_message_size.is_none_or(|max| max as u64 > limit) && goes_to_local_rsyslog(m, d)
            };
            m.destinations()
                .filter(|d| limit < LONGEST && too_long(d))
                .map(|d| {
                    warning(
                        format!("{}: this machine's rsyslog takes messages of {limit} bytes", d.url),
                        "global(maxMessageSize=\"64k\") above all module() lines of rsyslog.conf, then systemctl restart rsyslog; or \
                         max-message-size = \"8000B\" here",
                    )
                })
                .collect()
        },
    },
    Trap {
        id: "framing",
        why: "a receiver that knows no octet counting takes the count for text, and with it every record's start",
        find: |m| {
            let Some(conf) = &m.local.rsyslog else { return Vec::new() };
            let wrong = |d: &&Destination| {
                d.framing == Framing::Octet
                    && d.route.members().iter().any(|member| match &member.target {
                        Target::Tcp(_, port) | Target::Tls(_, port) => {
                            conf.lines_only.contains(port) && is_local(m, &member.url)
                        }
                        _ => false,
                    })
            };
            m.destinations()
                .filter(wrong)
                .map(|d| {
                    problem(
                        format!("{}: framing is octet counting, and rsyslog has SupportOctetCountedFraming=\"off\" there", d.url),
                        format!("framing = \"lf\" here, then {RELOAD}; or take that word out of rsyslog.conf"),
                    )
                })
                .collect()
        },
    },
];

fn is_dev_log(target: &Target) -> bool {
    *target == Target::Unix("/dev/log".into())
}

fn sends_to_dev_log(m: &Machine) -> bool {
    m.destinations().any(|d| d.route.any(is_dev_log))
}

fn is_local(m: &Machine, url: &str) -> bool {
    m.receivers.iter().any(|receiver: &Receiver| receiver.url == url && receiver.trial.is_local)
}

fn goes_to_local_rsyslog(m: &Machine, d: &Destination) -> bool {
    d.route.members().iter().any(|member| match &member.target {
        Target::Stdout => false,
        // journald takes 48 KiB a line and hands on what it likes.
        target if is_dev_log(target) => !m.local.journald_owns_dev_log,
        Target::Unix(_) | Target::UnixStream(_) => true,
        _ => is_local(m, &member.url),
    })
}
