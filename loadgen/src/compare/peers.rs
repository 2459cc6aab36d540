//! The programs people use instead, and how their own experts would run them here.
//!
//! *Promise:* each peer is a shell script and the configuration it needs, both shipped in `loadgen/peers/` with a
//! reason beside each choice; what runs is what is shown there.
//! *Law:* data only. In memory, in large batches, without rate limits, without disk queues; and everything a peer has
//! taken is sent before it ends, so that no figure is bought with records left behind.

use crate::sink::Transport;

/// A program, or a chain of programs.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its name in tables and for `--only`.
    pub(super) name: &'static str,
    /// What it is, in a line.
    pub(super) what: &'static str,
    /// The programs it needs, those with a version worth telling first.
    pub(super) programs: &'static [Program],
    /// It writes to /dev/log, which must be one of its own.
    pub(super) dev_log: bool,
    /// It passes the lines on as they are.
    pub(super) bare: bool,
    /// How it is run, for each kind of receiver it can send to.
    pub(super) ways: &'static [Way],
}

/// A program to look for.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// The command that tells its version; none for programs of the shell's kind.
    pub(super) version: Option<&'static [&'static str]>,
}

/// How a peer is run for one kind of receiver.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) to: Transport,
    /// What `drain.sh` is put before.
    pub(super) script: &'static str,
    /// A file's name and the parts it is put together from.
    pub(super) file: Option<(&'static str, &'static [&'static str])>,
}

/// Takes a peer to where it runs.
pub(super) const ENTER: &str = include_str!("../../peers/enter.sh");
/// What scripts use to wait for daemons.
pub(super) const DRAIN: &str = include_str!("../../peers/drain.sh");

macro_rules! peer_file {
    ($name:literal) => {
        include_str!(concat!("../../peers/", $name))
    };
}

/// The ways of a daemon with a configuration of three parts: its own, the input's, the output's.
macro_rules! daemon {
    ($script:literal, $file:literal, $own:literal, $input:literal, $($to:ident $output:literal),+) => {
        &[$(Way {
            to: Transport::$to,
            script: peer_file!($script),
            file: Some(($file, &[peer_file!($own), peer_file!($input), peer_file!($output)])),
        }),+]
    };
}

macro_rules! rsyslogd {
    ($script:literal, $input:literal) => {
        daemon!(
            $script, "rsyslog.conf", "rsyslog.conf", $input,
            Tcp "rsyslog-tcp.conf", Tls "rsyslog-tls.conf", Udp "rsyslog-udp.conf"
        )
    };
}

macro_rules! syslog_ng {
    ($script:literal, $input:literal) => {
        daemon!(
            $script, "syslog-ng.conf", "syslog-ng.conf", $input,
            Tcp "syslog-ng-tcp.conf", Tls "syslog-ng-tls.conf", Udp "syslog-ng-udp.conf"
        )
    };
}

const AUDISP_SYSLOG: Program = Program {
    name: "audisp-syslog",
    // It does not tell its own; auditctl is of the same package's source.
    version: Some(&["auditctl", "-v"]),
};
const RSYSLOGD: Program = Program { name: "rsyslogd", version: Some(&["rsyslogd", "-v"]) };
const SYSLOG_NG: Program = Program { name: SYSLOG_NG_NAME, version: Some(&["syslog-ng", "--version"]) };
const SETPRIV: Program = Program { name: "setpriv", version: None };

/// The one program that can be run from a folder it was unpacked to.
pub(super) const SYSLOG_NG_NAME: &str = "syslog-ng";

/// All of them.
pub(super) const PEERS: &[Peer] = &[
    Peer {
        name: "audisp-syslog",
        what: "auditd's own plugin, to /dev/log",
        programs: &[AUDISP_SYSLOG],
        dev_log: true,
        bare: false,
        ways: &[Way { to: Transport::Unix, script: peer_file!("audisp-syslog.sh"), file: None }],
    },
    Peer {
        name: "audisp-syslog+rsyslogd",
        what: "auditd's own plugin to /dev/log, rsyslogd (imuxsock, omfwd) from there",
        programs: &[AUDISP_SYSLOG, RSYSLOGD, SETPRIV],
        dev_log: true,
        bare: false,
        ways: rsyslogd!("audisp-syslog-rsyslogd.sh", "rsyslog-imuxsock.conf"),
    },
    Peer {
        name: "rsyslogd-imfile",
        what: "rsyslogd (imfile, omfwd) follows the file, whose writing (`file`) is in the figure",
        programs: &[RSYSLOGD, SETPRIV],
        dev_log: false,
        bare: false,
        ways: rsyslogd!("rsyslogd-imfile.sh", "rsyslog-imfile.conf"),
    },
    Peer {
        name: "syslog-ng",
        what: "syslog-ng, stdin() to syslog()",
        programs: &[SYSLOG_NG],
        dev_log: false,
        bare: false,
        ways: syslog_ng!("syslog-ng-stdin.sh", "syslog-ng-stdin.conf"),
    },
    Peer {
        name: "syslog-ng-file",
        what: "syslog-ng, file() to syslog(), follows the file, whose writing (`file`) is in the figure",
        programs: &[SYSLOG_NG, SETPRIV],
        dev_log: false,
        bare: false,
        ways: syslog_ng!("syslog-ng-file.sh", "syslog-ng-file.conf"),
    },
    Peer {
        name: "logger",
        what: "util-linux logger",
        programs: &[Program { name: "logger", version: Some(&["logger", "--version"]) }],
        dev_log: false,
        bare: false,
        ways: &[
            Way { to: Transport::Tcp, script: peer_file!("logger-tcp.sh"), file: None },
            Way { to: Transport::Udp, script: peer_file!("logger-udp.sh"), file: None },
            Way { to: Transport::Unix, script: peer_file!("logger-unix.sh"), file: None },
        ],
    },
    Peer {
        name: "socat",
        what: "a byte pump made by others: nothing is parsed",
        programs: &[Program { name: "socat", version: Some(&["socat", "-V"]) }],
        dev_log: false,
        bare: true,
        ways: &[Way { to: Transport::Tcp, script: peer_file!("socat.sh"), file: None }],
    },
    Peer {
        name: "laurel",
        what: "laurel: one line of JSON per event, to a file; nothing is sent, nothing checked",
        programs: &[Program { name: "laurel", version: Some(&["laurel", "--version"]) }],
        dev_log: false,
        bare: false,
        ways: &[Way {
            to: Transport::None,
            script: peer_file!("laurel.sh"),
            file: Some(("laurel.toml", &[peer_file!("laurel.toml")])),
        }],
    },
    Peer {
        name: "file",
        what: "cat to a file: what auditd does when it writes its log, and no more",
        programs: &[Program { name: "cat", version: None }],
        dev_log: false,
        bare: false,
        ways: &[Way { to: Transport::None, script: peer_file!("file.sh"), file: None }],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::find::NAMES_OF_OURS;

    #[test]
    fn names_are_told_apart_and_each_way_is_there_once() {
        let mut names: Vec<&str> = PEERS.iter().map(|peer| peer.name).chain(NAMES_OF_OURS).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for peer in PEERS {
            for (index, way) in peer.ways.iter().enumerate() {
                assert!(peer.ways[..index].iter().all(|other| other.to != way.to), "{}", peer.name);
            }
        }
    }

    #[test]
    fn scripts_and_configurations_have_no_other_placeholders_than_those_filled_in() {
        let known = ["{dir}", "{port}", "{ca}", "{program}"];
        for way in PEERS.iter().flat_map(|peer| peer.ways) {
            for text in way.file.iter().flat_map(|(_, parts)| parts.iter()).chain([&way.script, &DRAIN]) {
                let rest = known.iter().fold((*text).to_owned(), |text, known| text.replace(known, ""));
                // What is left are the blocks of the shell and of syslog-ng, which have blanks inside.
                for (at, _) in rest.match_indices('{') {
                    let inside = &rest[at + 1..];
                    assert!(inside.starts_with([' ', '\n']), "{}", &rest[at..]);
                }
            }
        }
    }

    #[test]
    fn paths_are_quoted() {
        for way in PEERS.iter().flat_map(|peer| peer.ways) {
            for text in way.file.iter().flat_map(|(_, parts)| parts.iter()).chain([&way.script]) {
                for (at, _) in text.match_indices("{dir}").chain(text.match_indices("{ca}")) {
                    assert!(text[..at].ends_with('"'), "{}", &text[at..]);
                }
            }
        }
    }

    #[test]
    fn nothing_is_queued_on_disk_and_nothing_is_limited() {
        for way in PEERS.iter().flat_map(|peer| peer.ways) {
            let text: String = way.file.iter().flat_map(|(_, parts)| parts.iter().copied()).collect();
            for word in ["queue.filename", "disk-buffer", "queue.saveOnShutdown", "throttle"] {
                assert!(!text.contains(word), "{word}");
            }
            assert_eq!(text.contains("imuxsock"), text.contains("RateLimit.Interval=\"0\""));
        }
    }
}
