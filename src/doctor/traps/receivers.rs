//! Receivers: whether they are found, reached, trusted, and what becomes of a long message.

use super::{Found, RELOAD, Trap, note, problem, warning};
use crate::config::Destination;
use crate::doctor::machine::{Arrival, Machine, Outcome, Sent};
use crate::output::service::{Target, Verify};

/// A look-up that takes longer holds up every new connection.
const SLOW_LOOK_UP_MS: u64 = 1000;

/// A certificate's end is announced this many seconds before it.
const SOON: u64 = 30 * 86_400;

pub(super) const TRAPS: &[Trap] = &[
    Trap {
        id: "dns",
        why: "a receiver whose name has no address gets nothing; what waits for it fills the queue",
        find: |m| {
            let failed = m.receivers.iter().filter_map(|r| {
                let error = r.trial.look_up.as_ref()?.error.as_ref()?;
                let remedy = "write the address, or name the host in /etc/hosts or in DNS";
                Some(problem(format!("{}: {error}", r.url), remedy))
            });
            failed.collect()
        },
    },
    Trap {
        id: "dns-slow",
        why: "every new connection waits for it, and where auditd starts before the network the first one does",
        find: |m| {
            let slow = m.receivers.iter().filter_map(|r| match &r.trial.look_up {
                Some(look_up) if look_up.millis > SLOW_LOOK_UP_MS => Some(warning(
                    format!("{}: looking the name up took {} ms", r.url, look_up.millis),
                    "name the host in /etc/hosts, or mend /etc/resolv.conf",
                )),
                _ => None,
            });
            slow.collect()
        },
    },
    Trap {
        id: "unreachable",
        why: "nothing is delivered there; records wait in memory, then are lost",
        find: |m| {
            let failed = m.receivers.iter().filter_map(|r| match &r.trial.reached {
                Some(Err(error)) => Some(problem(
                    format!("{}: {error}", r.url),
                    "start the receiver, or open the way to it (ss -ltn there; firewall between)",
                )),
                _ => None,
            });
            failed.collect()
        },
    },
    Trap {
        id: "handshake",
        why: "the receiver is there, and TLS or RELP with it does not come about; nothing is delivered",
        find: |m| {
            let failed = m.receivers.iter().filter_map(|r| match &r.trial.opened {
                Some(Err(error)) => Some(problem(
                    format!("{}: {error}", r.url),
                    "audit-relay cert show on both ends' files; docs/configuration.md, TLS",
                )),
                _ => None,
            });
            failed.collect()
        },
    },
    Trap {
        id: "certificate-dates",
        why: "from the moment that a certificate or a revocation list ends, no new session comes about",
        find: certificate_dates,
    },
    Trap {
        id: "tls-verify-none",
        why: "whoever sits on the way can read and take the records",
        find: |m| {
            let open = m
                .destinations()
                .filter(|d| d.route.any(Target::is_over_tls) && d.service.tls.verify == Verify::None);
            open.map(|d| {
                warning(
                    format!("{}: tls-verify = \"none\"", d.url),
                    format!("tls-ca or tls-pin instead; then {RELOAD}"),
                )
            })
            .collect()
        },
    },
    Trap {
        id: "plain-network",
        why: "records name users, commands and files; everybody on the way can read and change them",
        find: |m| {
            let plain =
                |target: &Target| matches!(target, Target::Udp(..) | Target::Tcp(..) | Target::Relp(..));
            let open = m.receivers.iter().filter(|r| plain(&r.target) && !r.trial.is_local);
            open.map(|r| {
                note(format!("{} is not encrypted", r.url), "tls:// or relps:// (docs/configuration.md)")
            })
            .collect()
        },
    },
    Trap {
        id: "udp-network",
        why: "UDP loses without a word, on the way and at a receiver that is busy",
        find: |m| {
            let udp = m.receivers.iter().filter(|r| matches!(r.target, Target::Udp(..)) && !r.trial.is_local);
            udp.map(|r| {
                note(
                    format!("{} is UDP over a network", r.url),
                    "relps://, tls:// or tcp:// where the receiver can (docs/delivery.md)",
                )
            })
            .collect()
        },
    },
    Trap {
        id: "rsyslog-size",
        why: "records reach 9,225 bytes; rsyslog as it is installed takes 8,096, and makes a second message of the rest or drops it",
        find: |m| {
            let long = |d: &&Destination| {
                d.max_message_size.is_none_or(|max| max > 8096)
                    && d.route.members().iter().any(|member| {
                        m.receivers.iter().any(|r| {
                            r.url == member.url
                                && !r.trial.is_local
                                && !matches!(
                                    r.target,
                                    Target::Unix(_) | Target::UnixStream(_) | Target::Stdout
                                )
                        })
                    })
            };
            m.destinations().filter(long).map(|d| note(
                format!("{}: messages of more than 8,096 bytes are sent", d.url),
                "if the receiver is rsyslog: global(maxMessageSize=\"64k\") there, or max-message-size = \"8000B\" here",
            )).collect()
        },
    },
    Trap {
        id: "message-undelivered",
        why: "a test message over the configured way was not taken",
        find: |m| {
            sent(m, |sent| match &sent.outcome {
                Outcome::Undelivered(why) => {
                    Some(problem(format!("{}: {why}", sent.url), "see the other findings; audit-relay check"))
                }
                _ => None,
            })
        },
    },
    Trap {
        id: "message-not-found",
        why: "a test message was taken, and did not appear where this machine's syslog service writes",
        find: |m| {
            sent(m, |sent| match &sent.outcome {
                Outcome::NotFound(files) => {
                    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                    Some(warning(
                        format!("{}: not in {} within the time", sent.url, files.join(", ")),
                        "name the receiver's file with --look-in; look at its rules for facility and severity",
                    ))
                }
                _ => None,
            })
        },
    },
    Trap {
        id: "message-cut",
        why: "the ends of long records (arguments, paths) do not arrive",
        find: |m| {
            arrived(m, |sent, arrival| {
                (!arrival.has_end && !arrival.is_cut_by_relay).then(|| {
                    problem(format!("{}: of {} bytes {} arrived", sent.url, sent.bytes, arrival.bytes), SIZE)
                })
            })
        },
    },
    Trap {
        id: "message-split",
        why: "the receiver makes a second message of what is beyond its limit; a record can be made so that this second one looks like \
              another host's",
        find: |m| {
            arrived(m, |sent, arrival| {
                (arrival.has_end && !arrival.is_one_line).then(|| {
                    problem(
                        format!(
                            "{}: of {} bytes {} stand in one line and the rest in another",
                            sent.url, sent.bytes, arrival.bytes
                        ),
                        SIZE,
                    )
                })
            })
        },
    },
    Trap {
        id: "message-framing",
        why: "the receiver takes the count of octet counting for text, or the line for a count",
        find: |m| {
            arrived(m, |sent, arrival| {
                arrival.shows_count.then(|| problem(
            format!("{}: the message arrived with its count in front (\"123 <182>1 ...\")", sent.url),
            format!("framing = \"lf\" here, then {RELOAD}; or syslog() instead of network() at syslog-ng, octet counting on at rsyslog"),
        ))
            })
        },
    },
    Trap {
        id: "message-header",
        why: "the receiver takes the header for text: time, host, type and program are lost to it",
        find: |m| {
            arrived(m, |sent, arrival| {
                (arrival.shows_header && !arrival.shows_count).then(|| problem(
            format!("{}: the message arrived with the header of RFC 5424 in its text", sent.url),
            format!("format = \"rfc3164\" here, then {RELOAD}; or a parser for RFC 5424 there (docs/receivers.md)"),
        ))
            })
        },
    },
];

const SIZE: &str = "rsyslog: global(maxMessageSize=\"64k\") above all module() lines; imrelp: MaxDataSize=\"64k\"; syslog-ng: \
                    log-msg-size(65536); or max-message-size here";

fn sent(m: &Machine, find: impl Fn(&Sent) -> Option<Found>) -> Vec<Found> {
    m.arrivals.iter().filter_map(find).collect()
}

fn arrived(m: &Machine, find: impl Fn(&Sent, &Arrival) -> Option<Found>) -> Vec<Found> {
    sent(m, |sent| match &sent.outcome {
        Outcome::Found(_, arrival) => find(sent, arrival),
        _ => None,
    })
}

fn certificate_dates(m: &Machine) -> Vec<Found> {
    let files = m.certificates.iter().map(|dated| (dated.what.clone(), dated.valid.clone()));
    let receivers = m.receivers.iter().filter_map(|r| match &r.trial.opened {
        Some(Ok(Some(valid))) => Some((format!("the certificate of {}", r.url), Ok(*valid))),
        _ => None,
    });
    let judge = |(what, valid): (String, Result<(u64, u64), String>)| {
        let remedy = "make a new one (audit-relay cert new, or your authority), put it in place; the relay reads it at the next connection";
        match valid {
            Err(error) => Some(problem(format!("{what}: {error}"), remedy)),
            Ok((from, _)) if from > m.now => {
                Some(problem(format!("{what} is not valid yet"), "set the clock, or wait"))
            }
            Ok((_, until)) if until < m.now => {
                Some(problem(format!("{what} ended {} ago", days(m.now - until)), remedy))
            }
            Ok((_, until)) if until - m.now < SOON => {
                Some(warning(format!("{what} ends in {}", days(until - m.now)), remedy))
            }
            Ok(_) => None,
        }
    };
    files.chain(receivers).filter_map(judge).collect()
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => format!("{} h", seconds / 3600),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}
