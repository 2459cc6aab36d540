//! Every trap, planted in the facts of a healthy machine; and the healthy machine, in which none is found.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Gid, Uid};

use super::machine::*;
use super::rsyslog::Rsyslog;
use super::traps::{self, Severity};
use crate::config::{self, Config};
use crate::host::Names;
use crate::privilege::Account;
use crate::site::status::Status;
use crate::site::{Facts, KillMode, Kind, Plugin, PluginConf, Settings, Site, Source, Version};
use crate::telemetry::{DestinationReport, Report};
use Severity::{Note, Problem, Warning};

const NOW: u64 = 1_795_424_551;
const DAY: u64 = 86_400;
const PROGRAM: &str = "/usr/sbin/audit-relay";
const TLS: &str = "to = [\"tls://logs.example.org\"]\ntls-ca = \"/etc/audit-relay/ca.pem\"\n";

fn config(text: &str) -> Config {
    let settings: config::Settings = toml::from_str(text).unwrap();
    settings.validate().unwrap()
}

fn settings(text: &str, version: Version) -> Settings {
    Settings::parse(text, version)
}

/// As auditd of `version` takes a file with this text, whose owner and mode are as they should be.
fn plugin(file: &str, text: &str, version: Version) -> Plugin {
    let conf = PluginConf::parse(text, version);
    let good = |mode| Some(Facts { kind: Kind::File, uid: 0, gid: 0, mode });
    Plugin {
        file: PathBuf::from("/etc/audit/plugins.d").join(file),
        faults: conf.faults.clone(),
        conf: Some(conf),
        facts: good(0o640),
        program: good(0o755),
    }
}

const CONF: &str =
    "log_format = RAW\nname_format = HOSTNAME\nwrite_logs = no\nq_depth = 8192\noverflow_action = SYSLOG\n";
const OURS: &str = "active = yes\npath = /usr/sbin/audit-relay\ntype = always\nformat = string\n";

/// auditd 4.0.2, relay-only, to a receiver over TLS.
fn healthy() -> Machine {
    let version = Version::new(4, 0, 2);
    let conf = settings(CONF, version);
    let syslog = plugin("syslog.conf", "active = no\npath = /sbin/audisp-syslog\nformat = string\n", version);
    Machine {
        is_host: true,
        now: NOW,
        site: Site {
            version: Some((version, Source::Running)),
            installed: Some(version),
            pid: Some(500),
            conf_file: PathBuf::from("/etc/audit/auditd.conf"),
            dispatcher: Ok(conf.clone()),
            settings: Ok(conf),
            plugin_folder: PathBuf::from("/etc/audit/plugins.d"),
            plugins: vec![plugin("audit-relay.conf", OURS, version), syslog],
            kill_mode: Some((KillMode::ControlGroup, "/usr/lib/systemd/system/auditd.service".into())),
            unseen: Vec::new(),
        },
        auditd_conf: Some(Facts { kind: Kind::File, uid: 0, gid: 0, mode: 0o640 }),
        state: Some(State::default()),
        fqd_resolves: None,
        relay: Relay {
            config: Ok(config(TLS)),
            account: Some(Account {
                name: "audit-relay".to_owned(),
                uid: Uid::from_raw(990),
                gid: Gid::from_raw(990),
            }),
            refused: Vec::new(),
            report: Some(Report { read: 1000, ..Report::default() }),
        },
        processes: Some(vec![Process {
            pid: 600,
            is_auditds: true,
            is_installed: Some(true),
            uid: Some(990),
            limits: Some((1024, u64::MAX)),
        }]),
        kernel: Some(Status {
            enabled: 1,
            failure: 1,
            pid: 500,
            rate_limit: 0,
            backlog_limit: 8192,
            lost: 0,
            backlog: 0,
            backlog_wait_time: Some(60_000),
            waited: Some(0),
        }),
        rules: Some(vec![
            "-a never,exit -S all -F exe=/usr/sbin/audit-relay -F uid=990".to_owned(),
            "-a always,exit -F arch=b64 -S sendto,connect -F key=net".to_owned(),
        ]),
        readers: Vec::new(),
        local: LocalSyslog {
            journald_owns_dev_log: true,
            journald: Some(Journald { interval: Duration::from_secs(30), burst: 10_000 }),
            rsyslog: Some(Rsyslog { max_message_size: Some(65_536), ..Rsyslog::default() }),
        },
        receivers: vec![remote("tls://logs.example.org")],
        arrivals: Vec::new(),
        certificates: vec![Dated {
            what: "the authority in /etc/audit-relay/ca.pem".to_owned(),
            valid: Ok((0, NOW + 900 * DAY)),
        }],
        clock_is_synchronised: Some(true),
        names: Some(Names { full: "web-1.example.org".to_owned(), all: Vec::new() }),
        handover: Some(Handover { path: "/run/audit-relay".into(), is_tmpfs: Some(true), fault: None }),
        denials: Vec::new(),
        unseen: Vec::new(),
    }
}

fn remote(url: &str) -> Receiver {
    let target = config(&format!("to = [\"{url}\"]")).destinations[0].route.members()[0].target.clone();
    let look_up = LookUp { addresses: vec!["192.0.2.1".parse().unwrap()], millis: 3, error: None };
    Receiver {
        url: url.to_owned(),
        trial: Trial {
            look_up: Some(look_up),
            reached: target.is_over_tcp().then_some(Ok(())),
            opened: target.is_over_tls().then_some(Ok(Some((0, NOW + 300 * DAY)))),
            is_local: false,
        },
        target,
    }
}

/// Another version of auditd, with everything read by its rules.
fn version(m: &mut Machine, major: u16, minor: u16, patch: u16) {
    let version = Version::new(major, minor, patch);
    m.site.version = Some((version, Source::Running));
    m.site.installed = Some(version);
    conf(m, "");
    m.site.plugins = vec![plugin("audit-relay.conf", OURS, version)];
}

/// More lines for auditd.conf; the last one of a key counts.
fn conf(m: &mut Machine, more: &str) {
    let version = m.site.version_or_newest();
    let dispatcher = if version.has_audispd() { "dispatcher = /sbin/audispd\n" } else { "" };
    let name = if version.forgets_name() { "name_format = USER\nname = web-1\n" } else { "" };
    m.site.settings = Ok(settings(&format!("{CONF}{dispatcher}{name}{more}"), version));
    m.site.dispatcher = m.site.settings.clone();
}

/// auditd 2.x with this program behind it, or none.
fn dispatched_by(m: &mut Machine, line: &str) {
    version(m, 2, 8, 5);
    let text = format!("{CONF}disp_qos = lossless\n{line}");
    m.site.settings = Ok(settings(&text, m.site.version_or_newest()));
}

/// Another text for our own plugin's configuration.
fn ours(m: &mut Machine, text: &str) {
    m.site.plugins[0] = plugin("audit-relay.conf", text, m.site.version_or_newest());
}

/// One more plugin.
fn beside(m: &mut Machine, file: &str, text: &str) {
    m.site.plugins.push(plugin(file, text, m.site.version_or_newest()));
}

/// Another configuration of the relay, with its receivers somewhere else, or here.
fn relay(m: &mut Machine, text: &str, is_local: bool) {
    let config = config(text);
    m.receivers = config
        .destinations
        .iter()
        .flat_map(|d| d.route.members())
        .map(|member| {
            let mut receiver = match member.url.contains("://") {
                true => remote(&member.url),
                false => Receiver {
                    url: member.url.clone(),
                    target: member.target.clone(),
                    trial: Trial::default(),
                },
            };
            receiver.trial.is_local = is_local;
            receiver
        })
        .collect();
    m.relay.config = Ok(config);
}

fn kernel(m: &mut Machine) -> &mut Status {
    m.kernel.as_mut().unwrap()
}

fn process(m: &mut Machine) -> &mut Process {
    &mut m.processes.as_mut().unwrap()[0]
}

fn trial(m: &mut Machine) -> &mut Trial {
    &mut m.receivers[0].trial
}

fn dev_log(m: &mut Machine, journald: bool) {
    relay(m, "to = [\"unix:/dev/log\"]", true);
    m.local.journald_owns_dev_log = journald;
}

fn rsyslog(m: &mut Machine) -> &mut Rsyslog {
    m.local.rsyslog.as_mut().unwrap()
}

fn arrived(m: &mut Machine, change: fn(&mut Arrival)) {
    let mut arrival = Arrival {
        has_end: true,
        is_one_line: true,
        is_cut_by_relay: false,
        bytes: 9200,
        shows_count: false,
        shows_header: false,
    };
    change(&mut arrival);
    outcome(m, Outcome::Found("/var/log/audit-relay.log".into(), arrival));
}

fn outcome(m: &mut Machine, outcome: Outcome) {
    m.arrivals = vec![Sent { url: "tls://logs.example.org".to_owned(), bytes: 9200, outcome }];
}

/// A trap's id, how bad it is, what plants it, and a part of what is then said.
type Row = (&'static str, Severity, fn(&mut Machine), &'static str);

const PLANTED: &[Row] = &[
    // auditd
    (
        "auditd-missing",
        Problem,
        |m| (m.site.version, m.site.pid, m.site.installed) = (None, None, None),
        "no program auditd",
    ),
    ("auditd-not-running", Problem, |m| m.site.pid = None, "does not run"),
    ("auditd-conf", Problem, |m| conf(m, "freq=50\n"), "line 6: `freq=50` is not KEY = VALUE"),
    ("auditd-conf", Problem, |m| conf(m, "q_depth = 0\n"), "q_depth: `0` is not 1 to 99999"),
    ("auditd-conf", Warning, |m| conf(m, &format!("name = {}\n", "x".repeat(160))), "passes the line over"),
    ("auditd-conf", Problem, |m| m.auditd_conf.as_mut().unwrap().mode = 0o646, "may be written by everybody"),
    ("auditd-conf", Problem, |m| m.auditd_conf.as_mut().unwrap().uid = 33, "belongs to user 33"),
    (
        "auditd-cuts-records",
        Problem,
        |m| {
            version(m, 4, 2, 1);
            conf(m, "name_format = NONE\n")
        },
        "auditd 4.2.1 with log_format = RAW",
    ),
    (
        "auditd-cuts-records",
        Problem,
        |m| {
            version(m, 4, 2, 0);
            conf(m, "name_format = NONE\n")
        },
        "auditd 4.2 with",
    ),
    ("auditd-old-frames", Problem, |m| version(m, 2, 6, 4), "auditd 2.6.4 with log_format = RAW"),
    (
        "auditd-outdated",
        Warning,
        |m| m.site.installed = Some(Version::new(4, 2, 2)),
        "auditd 4.0.2 runs, 4.2.2 is installed",
    ),
    (
        "unit-kills-relay",
        Problem,
        |m| m.site.kill_mode = Some((KillMode::Mixed, "/usr/lib/systemd/system/auditd.service".into())),
        "auditd.service has KillMode=mixed, from /usr/lib/systemd/system/auditd.service",
    ),
    (
        "name-format-fqd",
        Problem,
        |m| {
            conf(m, "name_format = FQD\n");
            m.fqd_resolves = Some(false)
        },
        "has no answer",
    ),
    (
        "name-forgotten",
        Warning,
        |m| {
            version(m, 4, 2, 1);
            conf(m, "name_format = hostname\n")
        },
        "auditd 4.2.1 with name_format = hostname",
    ),
    ("name-format-none", Note, |m| conf(m, "name_format = NONE\n"), "NONE"),
    ("log-format-cost", Note, |m| conf(m, "log_format = ENRICHED\n"), "ENRICHED"),
    ("queue-depth", Warning, |m| conf(m, "q_depth = 400\n"), "q_depth is 400"),
    ("overflow-action", Warning, |m| conf(m, "overflow_action = IGNORE\n"), "without a word"),
    ("overflow-action", Warning, |m| conf(m, "overflow_action = HALT\n"), "halted"),
    (
        "queue-overflowed",
        Warning,
        |m| m.state = Some(State { overflowed: true, ..State::default() }),
        "overflow detected",
    ),
    (
        "queue-overflowed",
        Problem,
        |m| m.state = Some(State { overflowed: true, suspended: true, deepest: None }),
        "feeds plugins no more",
    ),
    ("lossy-dispatcher", Warning, |m| version(m, 2, 8, 5), "lossy"),
    ("no-dispatcher", Problem, |m| dispatched_by(m, ""), "names no `dispatcher`"),
    (
        "no-dispatcher",
        Problem,
        |m| dispatched_by(m, "dispatcher = /usr/sbin/another\n"),
        "names /usr/sbin/another as its `dispatcher`",
    ),
    ("few-restarts", Warning, |m| conf(m, "max_restarts = 0\n"), "max_restarts is 0"),
    ("local-events-off", Problem, |m| conf(m, "local_events = no\n"), "local_events is no"),
    ("network-records", Warning, |m| conf(m, "tcp_listen_port = 60\n"), "distribute_network is no"),
    ("disk-flush", Warning, |m| conf(m, "write_logs = yes\nflush = SYNC\n"), "flush is DATA or SYNC"),
    ("disk-log-both", Note, |m| conf(m, "write_logs = yes\n"), "/var/log/audit/audit.log"),
    // plugins
    ("plugin-missing", Problem, |m| m.site.plugins.clear(), "no file in /etc/audit/plugins.d"),
    (
        "plugin-missing",
        Problem,
        |m| ours(m, "active = no\npath = /usr/sbin/audit-relay\n"),
        "says `active = no`",
    ),
    (
        "plugin-missing",
        Problem,
        |m| ours(m, "active=yes\ndirection = out\npath = /usr/sbin/audit-relay\n"),
        "line 1: ",
    ),
    (
        "plugin-skipped",
        Problem,
        |m| ours(m, &format!("{OURS}verbose = yes\n")),
        "line 5: `verbose` is no key",
    ),
    (
        "plugin-skipped",
        Problem,
        |m| {
            m.site.plugins[0].faults = crate::site::plugin::program_faults(
                &Facts { kind: Kind::File, uid: 0, gid: 0, mode: 0o700 },
                Version::new(4, 0, 2),
            );
        },
        "has mode 0700; auditd 4.0.2 wants 0750",
    ),
    (
        "active-without-path",
        Problem,
        |m| beside(m, "syslog.conf", "active = yes\nargs = LOG_INFO\n"),
        "syslog.conf says `active = yes` and names no `path`",
    ),
    (
        "plugin-line-ignored",
        Problem,
        |m| {
            version(m, 3, 0, 9);
            ours(m, &format!("{OURS}args = --config none --to udp://h\n"))
        },
        "drops `--to udp://h`",
    ),
    (
        "plugin-line-ignored",
        Problem,
        |m| ours(m, &format!("{OURS}args = --to {}\n", "x".repeat(160))),
        "passes the line over",
    ),
    (
        "other-plugin",
        Warning,
        |m| beside(m, "laurel.conf", "active = yes\npath = /usr/sbin/laurel\nformat = json\n"),
        "laurel.conf line 3: format: `json`",
    ),
    (
        "other-plugin",
        Problem,
        |m| {
            version(m, 4, 2, 1);
            beside(m, "laurel.conf", "active = no\npath = /usr/sbin/laurel\nformat = json\n")
        },
        "laurel.conf line 3",
    ),
    (
        "plugin-binary",
        Warning,
        |m| ours(m, "active = yes\npath = /usr/sbin/audit-relay\n"),
        "has no `format = string`",
    ),
    (
        "plugin-binary",
        Note,
        |m| {
            version(m, 4, 1, 2);
            ours(m, "active = yes\npath = /usr/sbin/audit-relay\n")
        },
        "has no `format = string`",
    ),
    (
        "two-plugins",
        Problem,
        |m| beside(m, "syslog.conf", OURS),
        "audit-relay.conf and /etc/audit/plugins.d/syslog.conf",
    ),
    (
        "syslog-plugin",
        Warning,
        |m| beside(m, "syslog.conf", "active = yes\npath = /sbin/audisp-syslog\nformat = string\n"),
        "is active beside the relay",
    ),
    (
        "slow-neighbour",
        Note,
        |m| beside(m, "laurel.conf", "active = yes\npath = /usr/sbin/laurel\nformat = string\n"),
        "laurel.conf",
    ),
    ("relay-not-running", Problem, |m| m.processes = Some(Vec::new()), "none of its children is it"),
    (
        "two-relays",
        Warning,
        |m| {
            let again = Process { pid: 601, ..process(m).clone() };
            m.processes.as_mut().unwrap().push(again)
        },
        "pids 600, 601",
    ),
    (
        "relay-not-auditds-child",
        Warning,
        |m| {
            let stray = Process { pid: 601, is_auditds: false, ..process(m).clone() };
            m.processes.as_mut().unwrap().push(stray)
        },
        "pid 601",
    ),
    ("relay-outdated", Warning, |m| process(m).is_installed = Some(false), "no longer the installed one"),
    // the kernel
    ("audit-disabled", Problem, |m| kernel(m).enabled = 0, "enabled 0"),
    ("audit-locked", Note, |m| kernel(m).enabled = 2, "enabled 2"),
    ("audit-taken", Problem, |m| kernel(m).pid = 777, "go to pid 777, auditd is pid 500"),
    (
        "journald-audit",
        Warning,
        |m| m.readers = vec![Reader { pid: 300, name: "systemd-journal".to_owned() }],
        "pid 300",
    ),
    (
        "multicast-reader",
        Note,
        |m| m.readers = vec![Reader { pid: 301, name: "auditbeat".to_owned() }],
        "auditbeat (pid 301)",
    ),
    ("backlog-limit", Warning, |m| kernel(m).backlog_limit = 64, "backlog_limit is 64"),
    ("kernel-lost", Warning, |m| kernel(m).lost = 12, "lost 12"),
    ("backlog-wait-time", Warning, |m| kernel(m).backlog_wait_time = Some(0), "backlog_wait_time is 0"),
    ("backlog-waited", Note, |m| kernel(m).waited = Some(9), "9 ticks"),
    ("kernel-rate-limit", Warning, |m| kernel(m).rate_limit = 100, "100 records a second"),
    ("failure-mode", Warning, |m| kernel(m).failure = 2, "stops the machine"),
    ("failure-mode", Warning, |m| kernel(m).failure = 0, "silent"),
    ("no-rules", Warning, |m| m.rules = Some(Vec::new()), "no rules"),
    (
        "rules-never-task",
        Warning,
        |m| m.rules.as_mut().unwrap().push("-a never,task".to_owned()),
        "-a never,task",
    ),
    (
        "own-records",
        Warning,
        |m| drop(m.rules.as_mut().unwrap().remove(0)),
        "holds for the relay too: -a always,exit -F arch=b64 -S sendto",
    ),
    (
        "own-records",
        Warning,
        |m| (m.relay.report.as_mut().unwrap().own, m.rules) = (7, None),
        "7 records of its own",
    ),
    // The rule was mended; the relay still counts what it had seen.
    ("own-records", Note, |m| m.relay.report.as_mut().unwrap().own = 7, "make no more of them"),
    // the relay
    (
        "config",
        Problem,
        |m| m.relay.config = Err("configuration /etc/audit-relay.toml may be written by others".to_owned()),
        "written by others",
    ),
    (
        "tls-files",
        Problem,
        |m| m.relay.refused = vec!["tls://h: tls-key: k holds a private key".to_owned()],
        "private key",
    ),
    ("blocking", Warning, |m| relay(m, &format!("{TLS}on-full = \"block\"\n"), false), "on-full = \"block\""),
    (
        "account-nobody",
        Note,
        |m| m.relay.account.as_mut().unwrap().name = "nobody".to_owned(),
        "runs as nobody",
    ),
    (
        "account-nobody",
        Warning,
        |m| {
            m.relay.account.as_mut().unwrap().name = "nobody".to_owned();
            relay(m, &format!("{TLS}tls-cert = \"/c\"\ntls-key = \"/k\"\n"), false);
        },
        "has a private key",
    ),
    ("relay-as-root", Warning, |m| process(m).uid = Some(0), "runs as root"),
    ("limits", Warning, |m| process(m).limits = Some((64, u64::MAX)), "64 files"),
    ("limits", Warning, |m| process(m).limits = Some((1024, 100 << 20)), "bytes of addresses"),
    (
        "records-lost",
        Warning,
        |m| {
            let lost = [("overflow".into(), 9)].into();
            let d = DestinationReport { url: "tls://h".to_owned(), lost, ..DestinationReport::default() };
            m.relay.report.as_mut().unwrap().destinations.push(d);
        },
        "tls://h: 9 records lost (overflow)",
    ),
    (
        "handover-refused",
        Problem,
        |m| m.handover.as_mut().unwrap().fault = Some("/run/audit-relay belongs to user 65534".to_owned()),
        "belongs to user 65534",
    ),
    ("handover-disk", Warning, |m| m.handover.as_mut().unwrap().is_tmpfs = Some(false), "not in memory"),
    (
        "denials",
        Warning,
        |m| m.denials = vec!["audit(1.2:3): avc:  denied  { read } comm=\"audit-relay\"".to_owned()],
        "avc:  denied",
    ),
    // this machine's syslog service
    ("journald-rate-limit", Warning, |m| dev_log(m, true), "10000 messages in 30 s"),
    (
        "imuxsock-rate-limit",
        Warning,
        |m| {
            dev_log(m, false);
            rsyslog(m).socket_interval = Some(5)
        },
        "Interval 5 s",
    ),
    (
        "imjournal-rate-limit",
        Warning,
        |m| {
            dev_log(m, true);
            rsyslog(m).reads_journal = true
        },
        "600 s",
    ),
    (
        "dev-log-format",
        Problem,
        |m| {
            relay(m, "to = [\"unix:/dev/log\"]\nformat = \"rfc5424\"", true);
            m.local.journald_owns_dev_log = false
        },
        "format = \"rfc5424\"",
    ),
    (
        "receiver-size",
        Warning,
        |m| {
            relay(m, "to = [\"tcp://127.0.0.1\"]", true);
            rsyslog(m).max_message_size = None
        },
        "messages of 8096 bytes",
    ),
    (
        "framing",
        Problem,
        |m| {
            relay(m, "to = [\"tcp://127.0.0.1:601\"]", true);
            rsyslog(m).lines_only = vec![601]
        },
        "SupportOctetCountedFraming",
    ),
    // receivers
    (
        "dns",
        Problem,
        |m| {
            let look_up = trial(m).look_up.as_mut().unwrap();
            look_up.addresses.clear();
            look_up.error = Some("Name or service not known".to_owned())
        },
        "not known",
    ),
    ("dns-slow", Warning, |m| trial(m).look_up.as_mut().unwrap().millis = 5100, "took 5100 ms"),
    (
        "unreachable",
        Problem,
        |m| {
            (trial(m).reached, trial(m).opened) =
                (Some(Err("192.0.2.1:6514: Connection refused".to_owned())), None)
        },
        "refused",
    ),
    (
        "handshake",
        Problem,
        |m| trial(m).opened = Some(Err("the certificate is for another name".to_owned())),
        "another name",
    ),
    (
        "certificate-dates",
        Warning,
        |m| trial(m).opened = Some(Ok(Some((0, NOW + 29 * DAY)))),
        "the certificate of tls://logs.example.org ends in 29 days",
    ),
    ("certificate-dates", Problem, |m| m.certificates[0].valid = Ok((0, NOW - 3 * DAY)), "ended 3 days ago"),
    (
        "certificate-dates",
        Problem,
        |m| m.certificates[0].valid = Ok((NOW + 60, NOW + 90 * DAY)),
        "not valid yet",
    ),
    ("certificate-dates", Problem, |m| m.certificates[0].valid = Err("is damaged".to_owned()), "is damaged"),
    (
        "tls-verify-none",
        Warning,
        |m| relay(m, "to = [\"tls://h\"]\ntls-verify = \"none\"\n", false),
        "tls-verify",
    ),
    ("plain-network", Note, |m| relay(m, "to = [\"tcp://logs.example.org\"]\n", false), "not encrypted"),
    ("udp-network", Note, |m| relay(m, "to = [\"udp://logs.example.org\"]\n", false), "UDP"),
    ("rsyslog-size", Note, |m| relay(m, TLS, false), "more than 8,096 bytes"),
    (
        "message-undelivered",
        Problem,
        |m| outcome(m, Outcome::Undelivered("connection refused".to_owned())),
        "refused",
    ),
    (
        "message-not-found",
        Warning,
        |m| outcome(m, Outcome::NotFound(vec!["/var/log/syslog".into()])),
        "not in /var/log/syslog",
    ),
    (
        "message-cut",
        Problem,
        |m| arrived(m, |a| (a.has_end, a.is_one_line, a.bytes) = (false, false, 8000)),
        "of 9200 bytes 8000 arrived",
    ),
    (
        "message-split",
        Problem,
        |m| arrived(m, |a| (a.is_one_line, a.bytes) = (false, 8000)),
        "the rest in another",
    ),
    (
        "message-framing",
        Problem,
        |m| arrived(m, |a| (a.shows_count, a.shows_header) = (true, true)),
        "count in front",
    ),
    ("message-header", Problem, |m| arrived(m, |a| a.shows_header = true), "in its text"),
    // the machine
    ("clock", Warning, |m| m.clock_is_synchronised = Some(false), "not synchronised"),
    ("hostname", Warning, |m| m.names.as_mut().unwrap().full = "web-1".to_owned(), "`web-1`"),
    (
        "hostname",
        Warning,
        |m| m.names.as_mut().unwrap().full = "localhost.localdomain".to_owned(),
        "localhost",
    ),
];

#[test]
fn a_healthy_machine_has_none() {
    let mut m = healthy();
    // The one note that no sender can be without.
    relay(&mut m, &format!("{TLS}max-message-size = \"8000B\"\n"), false);
    assert_eq!(traps::judge(&m, |_| true), []);
}

#[test]
fn each_is_found_where_it_is_planted() {
    for (id, severity, plant, part) in PLANTED {
        let mut m = healthy();
        plant(&mut m);
        let findings = traps::judge(&m, |trap| trap.id == *id);
        let [finding] = &findings[..] else { panic!("{id} ({part}): {findings:?}") };
        assert_eq!((finding.id, finding.found.severity), (*id, *severity), "{finding:?}");
        assert!(finding.found.seen.contains(part), "{id}: {:?} lacks {part:?}", finding.found.seen);
        assert!(!finding.found.remedy.is_empty() && !finding.why.is_empty(), "{id}");
    }
}

/// The relay in audispd's place needs no plugin's configuration, and audispd none where nobody starts it.
#[test]
fn dispatchers_of_2_x() {
    let ids = |line: &str, plugins: bool| {
        let mut m = healthy();
        dispatched_by(&mut m, line);
        if !plugins {
            m.site.plugins.clear();
        }
        m.processes = Some(Vec::new());
        let ids: Vec<_> = traps::judge(&m, |_| true).iter().map(|finding| finding.id).collect();
        ids.into_iter().filter(|id| *id != "rsyslog-size").collect::<Vec<_>>()
    };
    assert_eq!(ids("dispatcher = /usr/sbin/audit-relay\n", false), Vec::<&str>::new());
    assert_eq!(ids("dispatcher = /sbin/audispd\n", false), ["plugin-missing"]);
    assert_eq!(ids("dispatcher = /sbin/audispd\n", true), ["relay-not-running"]);
    assert_eq!(ids("", true), ["no-dispatcher"]);
    // Its own file, and those of plugins, are nobody's where the relay stands in its place.
    let audispds = |line: &str| {
        let mut m = healthy();
        dispatched_by(&mut m, line);
        let text = "q_depth = 80\nmax_restarts = 0\noverflow_action = ignore\nmistake\n";
        m.site.dispatcher = Ok(settings(text, m.site.version_or_newest()));
        beside(&mut m, "more.conf", OURS);
        let ids: BTreeSet<_> = traps::judge(&m, |_| true).iter().map(|finding| finding.id).collect();
        ids.into_iter().filter(|id| *id != "rsyslog-size").collect::<Vec<_>>()
    };
    assert_eq!(audispds("dispatcher = /usr/sbin/audit-relay\n"), Vec::<&str>::new());
    let found = ["auditd-conf", "few-restarts", "overflow-action", "queue-depth", "two-plugins"];
    assert_eq!(audispds("dispatcher = /sbin/audispd\n"), found);
}

/// Copies that editors, packages and an interrupted install leave beside the relay's own file.
#[test]
fn copies_that_auditd_passes_over_are_no_second_relay() {
    for name in [".audit-relay.conf.new", ".audit-relay.conf.swp", "audit-relay.conf.bak"] {
        let mut m = healthy();
        let version = m.site.version_or_newest();
        beside(&mut m, name, OURS);
        let copy = m.site.plugins.last_mut().unwrap();
        copy.faults.extend(crate::site::plugin::name_fault(name, version));
        let found = |m: &Machine| {
            let ids = traps::judge(m, |_| true).iter().map(|finding| finding.id).collect::<BTreeSet<_>>();
            ids.into_iter().filter(|id| *id != "rsyslog-size").collect::<Vec<_>>()
        };
        assert_eq!(found(&m), Vec::<&str>::new(), "{name}");
        // Where there is no other, it was meant.
        m.site.plugins.remove(0);
        assert_eq!(found(&m), ["plugin-skipped"], "{name}");
    }
}

#[test]
fn each_is_planted() {
    let planted: BTreeSet<_> = PLANTED.iter().map(|(id, ..)| *id).collect();
    let known: BTreeSet<_> = traps::all().map(|trap| trap.id).collect();
    assert_eq!(known.len(), traps::all().count(), "an id stands twice");
    assert_eq!(planted, known, "traps without a test, or tests without a trap");
}

/// One cause, one finding: a second one would send people looking for a second cause.
#[test]
fn one_cause_is_told_once() {
    // These are seen by two traps for a reason.
    let also: &[(&str, &str)] = &[
        ("auditd-cuts-records", "name-format-none"),
        ("auditd-old-frames", "lossy-dispatcher"),
        ("plugin-missing", "relay-not-auditds-child"),
        ("imjournal-rate-limit", "journald-rate-limit"),
        ("syslog-plugin", "slow-neighbour"),
        ("udp-network", "plain-network"),
        ("disk-flush", "disk-log-both"),
    ];
    let mut doubled = Vec::new();
    for (id, _, plant, part) in PLANTED {
        let mut m = healthy();
        plant(&mut m);
        let ids: Vec<_> = traps::judge(&m, |_| true).iter().map(|finding| finding.id).collect();
        let others: Vec<_> = ids
            .iter()
            .filter(|other| *other != id && **other != "rsyslog-size" && !also.contains(&(*id, **other)))
            .collect();
        if !others.is_empty() {
            doubled.push(format!("{id} ({part}): also {others:?}"));
        }
    }
    assert!(doubled.is_empty(), "{doubled:#?}");
}

#[test]
fn ids_are_kebab_case_and_documented() {
    let docs = include_str!("../../docs/doctor.md");
    for trap in traps::all() {
        assert!(
            trap.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{}",
            trap.id
        );
        assert!(docs.contains(&format!("| `{}` |", trap.id)), "docs/doctor.md has no row for {}", trap.id);
    }
    // And none that is gone.
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for id in rows.filter(|id| !id.starts_with("--")) {
        assert!(traps::all().any(|trap| trap.id == id), "docs/doctor.md tells of {id}, which is no trap");
    }
}

/// What is not known is no finding.
#[test]
fn a_machine_of_which_nothing_is_known() {
    let m = Machine {
        is_host: false,
        site: Site {
            version: Some((Version::new(4, 0, 2), Source::Package)),
            installed: None,
            pid: None,
            settings: Err("not root".to_owned()),
            dispatcher: Err("not root".to_owned()),
            plugins: Vec::new(),
            unseen: vec!["/etc/audit/plugins.d: Permission denied (os error 13)".to_owned()],
            ..healthy().site
        },
        auditd_conf: None,
        state: None,
        relay: Relay { account: None, report: None, ..healthy().relay },
        processes: None,
        kernel: None,
        rules: None,
        local: LocalSyslog::default(),
        receivers: Vec::new(),
        certificates: Vec::new(),
        clock_is_synchronised: None,
        names: None,
        handover: None,
        ..healthy()
    };
    assert_eq!(traps::judge(&m, |_| true), []);
    assert_eq!(healthy().program(), Some(std::path::Path::new(PROGRAM)));
}
