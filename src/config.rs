//! Configuration: what the user wrote in, what the relay runs with out.
//!
//! Promise: a [`Config`] cannot be wrong; every error names the key, the value and the remedy. Law: raw
//! values never leave this room. The file and the command line fill the same [`Settings`], so each key
//! has an option of the same name, and the command line wins.

mod units;
mod url;

use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::InputForm;
use crate::ingest::OnFull;
use crate::output::{Replay, Service, Target};
use crate::syslog::{Facility, Format, Framing, Severity, Shape, StructuredData};

/// Read where `--config` is not given and this file exists.
pub const DEFAULT_FILE: &str = "/etc/audit-relay.toml";

/// The account that the relay runs as if it exists and no other is named.
pub const OWN_USER: &str = "audit-relay";

/// The account otherwise.
pub const FALLBACK_USER: &str = "nobody";

/// Everything that file and command line can say, as it was written. `None` is "not said".
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Destinations with the settings below.
    pub to: Option<Vec<String>>,
    /// See [`Config::input`].
    pub input: Option<String>,
    /// See [`Destination::format`].
    pub format: Option<String>,
    /// See [`Destination::framing`].
    pub framing: Option<String>,
    /// See [`Config::facility`].
    pub facility: Option<String>,
    /// See [`Config::severity`].
    pub severity: Option<String>,
    /// See [`Config::hostname`].
    pub hostname: Option<String>,
    /// See [`Config::app_name`].
    pub app_name: Option<String>,
    /// See [`Config::structured_data`].
    pub structured_data: Option<Vec<String>>,
    /// The user's private enterprise number, for `structured-data = ["audit"]`.
    pub enterprise_number: Option<u32>,
    /// See [`Config::drop_eoe`].
    pub eoe: Option<String>,
    /// See [`Destination::on_full`].
    pub on_full: Option<String>,
    /// See [`Destination::queue_size`].
    pub queue_size: Option<String>,
    /// See [`Destination::max_message_size`].
    pub max_message_size: Option<String>,
    /// See [`Service::replay`].
    pub replay: Option<String>,
    /// See [`Service::tcp_user_timeout`].
    pub tcp_user_timeout: Option<String>,
    /// See [`Service::tcp_keepalive`].
    pub tcp_keepalive: Option<String>,
    /// See [`Config::drain_timeout`].
    pub drain_timeout: Option<String>,
    /// See [`Config::user`].
    pub user: Option<String>,
    /// See [`Config::report`].
    pub report: Option<PathBuf>,
    /// See [`Config::log`].
    pub log: Option<String>,
    /// Destinations with settings of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destination: Vec<DestinationSettings>,
}

/// One `[[destination]]` of the file.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DestinationSettings {
    /// Where to.
    pub url: String,
    /// See [`Destination::format`].
    pub format: Option<String>,
    /// See [`Destination::framing`].
    pub framing: Option<String>,
    /// See [`Destination::on_full`].
    pub on_full: Option<String>,
    /// See [`Destination::queue_size`].
    pub queue_size: Option<String>,
    /// See [`Destination::max_message_size`].
    pub max_message_size: Option<String>,
    /// See [`Service::replay`].
    pub replay: Option<String>,
    /// See [`Service::tcp_user_timeout`].
    pub tcp_user_timeout: Option<String>,
    /// See [`Service::tcp_keepalive`].
    pub tcp_keepalive: Option<String>,
}

/// What the relay runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Form of the input. Default: told by its first bytes.
    pub input: InputForm,
    /// At least one.
    pub destinations: Vec<Destination>,
    /// Facility of every message. Default local6.
    pub facility: Facility,
    /// Severity of records. Default info.
    pub severity: Severity,
    /// HOSTNAME; `None`: this host's fully qualified name.
    pub hostname: Option<String>,
    /// APP-NAME of records. Default `auditd`.
    pub app_name: String,
    /// Elements of structured data. Default `meta`.
    pub structured_data: StructuredData,
    /// End-of-event records are counted and not forwarded. Default true.
    pub drop_eoe: bool,
    /// Time from the end of the input until what is not delivered is given up. Default 2 s.
    pub drain_timeout: Duration,
    /// Account to run as; `None`: `audit-relay` if it exists, else `nobody`.
    pub user: Option<String>,
    /// Where to write the accounting at the end and on SIGUSR1.
    pub report: Option<PathBuf>,
    /// Where diagnostics go.
    pub log: LogTarget,
}

/// One destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// As written.
    pub url: String,
    /// As understood.
    pub target: Target,
    /// Form of the messages. Default: RFC 3164 on local sockets, whose usual owners spoil RFC 5424;
    /// RFC 5424 elsewhere.
    pub format: Format,
    /// Default: octet counting on TCP, LF on stream sockets and standard output.
    pub framing: Framing,
    /// What a full queue means. `None`: block if the input is a file or a pipe, drop the newest if it is
    /// auditd's socket.
    pub on_full: Option<OnFull>,
    /// Bytes that may wait. Default 64 MiB, at least 256 KiB.
    pub queue_size: usize,
    /// Longest message in bytes, without framing; longer ones are cut. Default: what the transport takes.
    pub max_message_size: Option<usize>,
    /// How connections are watched, and what is sent again after one has ended.
    pub service: Service,
}

/// Where diagnostics go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// Standard error, and /dev/log too where auditd has started us (standard error is /dev/null then).
    Auto,
    /// Standard error.
    Stderr,
    /// /dev/log.
    Syslog,
    /// Nowhere.
    None,
}

const MIN_QUEUE: usize = 256 * 1024;

const MAX_QUEUE: usize = 16 << 30;

/// The most that fits an IPv4 datagram: 65,535 less 20 of IP and 8 of UDP header.
const UDP_MAX: usize = 65_507;

impl Settings {
    /// Reads a file. Refuses one that others than its owner may write, or whose owner is neither root nor
    /// this process's user: who writes it decides where the audit trail goes.
    ///
    /// # Errors
    /// A sentence with the remedy.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let open = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let mut file = open.map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::PermissionDenied {
                "; give the relay's group the right to read it (chgrp, chmod 0640)"
            } else {
                ""
            };
            format!("cannot read configuration {name}: {error}{hint}")
        })?;
        let facts = file.metadata().map_err(|error| format!("cannot read configuration {name}: {error}"))?;
        if !facts.is_file() {
            return Err(format!("configuration {name} is not a regular file"));
        }
        if facts.mode() & 0o022 != 0 {
            return Err(format!("configuration {name} may be written by others; run: chmod go-w {name}"));
        }
        if facts.uid() != 0 && facts.uid() != nix::unistd::geteuid().as_raw() {
            return Err(format!(
                "configuration {name} belongs to user {}; run: chown root {name}",
                facts.uid()
            ));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|error| format!("cannot read configuration {name}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("configuration {name}: {error}"))
    }

    /// Lays `over` on top: what it says wins. Destinations named there replace all of ours.
    #[must_use]
    pub fn overridden_by(self, over: Self) -> Self {
        let replaces = over.to.is_some() || !over.destination.is_empty();
        Self {
            to: if replaces { over.to } else { self.to },
            destination: if replaces { over.destination } else { self.destination },
            input: over.input.or(self.input),
            format: over.format.or(self.format),
            framing: over.framing.or(self.framing),
            facility: over.facility.or(self.facility),
            severity: over.severity.or(self.severity),
            hostname: over.hostname.or(self.hostname),
            app_name: over.app_name.or(self.app_name),
            structured_data: over.structured_data.or(self.structured_data),
            enterprise_number: over.enterprise_number.or(self.enterprise_number),
            eoe: over.eoe.or(self.eoe),
            on_full: over.on_full.or(self.on_full),
            queue_size: over.queue_size.or(self.queue_size),
            max_message_size: over.max_message_size.or(self.max_message_size),
            replay: over.replay.or(self.replay),
            tcp_user_timeout: over.tcp_user_timeout.or(self.tcp_user_timeout),
            tcp_keepalive: over.tcp_keepalive.or(self.tcp_keepalive),
            drain_timeout: over.drain_timeout.or(self.drain_timeout),
            user: over.user.or(self.user),
            report: over.report.or(self.report),
            log: over.log.or(self.log),
        }
    }

    /// Understands everything.
    ///
    /// # Errors
    /// A sentence that names the key, the value and what may stand there.
    pub fn validate(&self) -> Result<Config, String> {
        let mut destinations = Vec::new();
        let to = match &self.to {
            Some(urls) => urls.clone(),
            None if self.destination.is_empty() => vec!["unix:/dev/log".to_owned()],
            None => Vec::new(),
        };
        for url in to {
            destinations
                .push(self.destination(&DestinationSettings { url, ..DestinationSettings::default() })?);
        }
        for own in &self.destination {
            destinations.push(self.destination(own)?);
        }
        if destinations.is_empty() {
            return Err("`to` is empty: name at least one destination, for example unix:/dev/log".to_owned());
        }
        for (at, destination) in destinations.iter().enumerate() {
            if destinations[..at].iter().any(|other| other.target == destination.target) {
                return Err(format!(
                    "destination `{}` is named twice; it would get every record twice",
                    destination.url
                ));
            }
        }
        Ok(Config {
            input: one_of("input", self.input.as_deref(), &INPUTS)?.unwrap_or_default(),
            destinations,
            facility: named(
                "facility",
                self.facility.as_deref(),
                Facility::from_name,
                "local6, auth or daemon",
            )?
            .unwrap_or(Facility::LOCAL6),
            severity: named(
                "severity",
                self.severity.as_deref(),
                Severity::from_name,
                "info, notice or warning",
            )?
            .unwrap_or(Severity::INFO),
            hostname: header_text("hostname", self.hostname.as_deref(), 255)?,
            app_name: header_text("app-name", self.app_name.as_deref(), 48)?
                .unwrap_or_else(|| "auditd".to_owned()),
            structured_data: self.structured_data()?,
            drop_eoe: one_of("eoe", self.eoe.as_deref(), &[("drop", true), ("keep", false)])?.unwrap_or(true),
            drain_timeout: match self.drain_timeout.as_deref() {
                Some(text) => units::duration(text).map_err(|error| format!("drain-timeout: {error}"))?,
                None => Duration::from_secs(2),
            },
            user: self.user.clone(),
            report: self.report.clone(),
            log: one_of("log", self.log.as_deref(), &LOGS)?.unwrap_or(LogTarget::Auto),
        })
    }

    fn destination(&self, own: &DestinationSettings) -> Result<Destination, String> {
        let target = url::parse(&own.url)?;
        let local = matches!(target, Target::Unix(_) | Target::UnixStream(_));
        let format = own.format.as_ref().or(self.format.as_ref()).map(String::as_str);
        let formats =
            [("auto", None), ("rfc5424", Some(Format::Rfc5424)), ("rfc3164", Some(Format::Rfc3164))];
        let format = one_of("format", format, &formats)?.flatten().unwrap_or(if local {
            Format::Rfc3164
        } else {
            Format::Rfc5424
        });
        let framing = own.framing.as_ref().or(self.framing.as_ref()).map(String::as_str);
        let framing = one_of("framing", framing, &[("octet", Framing::Octet), ("lf", Framing::Lf)])?;
        let framing = match target {
            Target::Unix(_) | Target::Udp(..) => {
                if own.framing.is_some() {
                    return Err(format!(
                        "destination `{}`: a datagram needs no framing; take it out",
                        own.url
                    ));
                }
                Framing::Datagram
            }
            Target::Tcp(..) => framing.unwrap_or(Framing::Octet),
            Target::UnixStream(_) | Target::Stdout => framing.unwrap_or(Framing::Lf),
        };
        let size = |key: &str, own: Option<&String>, all: Option<&String>| match own.or(all) {
            Some(text) => units::size(text).map(Some).map_err(|error| format!("{key}: {error}")),
            None => Ok(None),
        };
        let queue_size =
            size("queue-size", own.queue_size.as_ref(), self.queue_size.as_ref())?.unwrap_or(64 << 20);
        if queue_size > MAX_QUEUE {
            return Err(format!("queue-size: at most {}", units::show_size(MAX_QUEUE)));
        }
        if queue_size < MIN_QUEUE {
            return Err(format!(
                "queue-size: {} is too small; at least {} lets one read of the input pass",
                units::show_size(queue_size),
                units::show_size(MIN_QUEUE)
            ));
        }
        let max = size("max-message-size", own.max_message_size.as_ref(), self.max_message_size.as_ref())?;
        if max.is_some_and(|max| max < Shape::MIN_SIZE) {
            return Err(format!(
                "max-message-size: at least {} bytes, which every receiver must take (RFC 5424 section 6.1)",
                Shape::MIN_SIZE
            ));
        }
        let max_message_size = match target {
            Target::Udp(..) => Some(max.unwrap_or(UDP_MAX).min(UDP_MAX)),
            _ => max,
        };
        let on_full =
            one_of("on-full", own.on_full.as_ref().or(self.on_full.as_ref()).map(String::as_str), &ON_FULL)?;
        Ok(Destination {
            url: own.url.clone(),
            target,
            format,
            framing,
            on_full: on_full.flatten(),
            queue_size,
            max_message_size,
            service: self.service(own, queue_size)?,
        })
    }

    fn service(&self, own: &DestinationSettings, queue_size: usize) -> Result<Service, String> {
        let default = Service::default();
        let replay = match own.replay.as_ref().or(self.replay.as_ref()).map(String::as_str) {
            None => default.replay,
            Some("off") => Replay::Off,
            Some("unacked") => Replay::Unacknowledged { margin: 0 },
            Some(text) => match units::size(text) {
                Ok(margin) if margin <= queue_size / 2 => Replay::Unacknowledged { margin },
                Ok(_) => {
                    return Err(format!(
                        "replay: {text} is more than half of queue-size ({}), which holds it; raise queue-size",
                        units::show_size(queue_size)
                    ));
                }
                Err(_) => {
                    return Err(format!(
                        "replay: `{text}` is unknown; choose among unacked, off, or a size such as 8MiB"
                    ));
                }
            },
        };
        let time =
            |key: &str, own: Option<&String>, all: Option<&String>, default: Duration| match own.or(all) {
                None => Ok(default),
                Some(text) => match units::duration(text) {
                    Ok(time) if time >= Duration::from_secs(1) && time <= Duration::from_secs(24 * 3600) => {
                        Ok(time)
                    }
                    Ok(_) => Err(format!("{key}: `{text}` is out of range; from 1s to 1440min")),
                    Err(error) => Err(format!("{key}: {error}")),
                },
            };
        let user_timeout = (own.tcp_user_timeout.as_ref(), self.tcp_user_timeout.as_ref());
        let keepalive = (own.tcp_keepalive.as_ref(), self.tcp_keepalive.as_ref());
        Ok(Service {
            replay,
            tcp_user_timeout: time(
                "tcp-user-timeout",
                user_timeout.0,
                user_timeout.1,
                default.tcp_user_timeout,
            )?,
            tcp_keepalive: time("tcp-keepalive", keepalive.0, keepalive.1, default.tcp_keepalive)?,
        })
    }

    fn structured_data(&self) -> Result<StructuredData, String> {
        let mut chosen = StructuredData::default();
        let Some(names) = &self.structured_data else {
            return Ok(StructuredData { meta: true, ..chosen });
        };
        for name in names {
            match name.as_str() {
                "meta" => chosen.meta = true,
                "origin" => chosen.origin = true,
                "time-quality" => chosen.time_quality = true,
                "audit" => {
                    chosen.audit = Some(self.enterprise_number.filter(|number| *number > 0).ok_or(
                        "structured-data: `audit` needs `enterprise-number`, your organisation's own number from IANA \
                         (32473 is reserved for examples)",
                    )?);
                }
                "none" if names.len() == 1 => {}
                other => {
                    return Err(format!(
                        "structured-data: `{other}` is unknown; choose among meta, origin, time-quality, audit, or none"
                    ));
                }
            }
        }
        Ok(chosen)
    }
}

const INPUTS: [(&str, InputForm); 5] = [
    ("auto", InputForm::Auto),
    ("text", InputForm::Text),
    ("binary", InputForm::Binary),
    ("binary-exact", InputForm::BinaryExact),
    ("binary-fixed", InputForm::BinaryFixed),
];
const LOGS: [(&str, LogTarget); 4] = [
    ("auto", LogTarget::Auto),
    ("stderr", LogTarget::Stderr),
    ("syslog", LogTarget::Syslog),
    ("none", LogTarget::None),
];
const ON_FULL: [(&str, Option<OnFull>); 4] = [
    ("auto", None),
    ("block", Some(OnFull::Block)),
    ("drop-newest", Some(OnFull::DropNewest)),
    ("drop-oldest", Some(OnFull::DropOldest)),
];

/// The keys of [`Service`], where the transport has use for them.
fn show_service(destination: &Destination) -> DestinationSettings {
    let mut shown = DestinationSettings::default();
    if matches!(destination.target, Target::Tcp(..)) {
        let service = &destination.service;
        shown.replay = Some(match service.replay {
            Replay::Off => "off".to_owned(),
            Replay::Unacknowledged { margin: 0 } => "unacked".to_owned(),
            Replay::Unacknowledged { margin } => units::show_size(margin),
        });
        shown.tcp_user_timeout = Some(units::show_duration(service.tcp_user_timeout));
        shown.tcp_keepalive = Some(units::show_duration(service.tcp_keepalive));
    }
    shown
}

fn one_of<T: Copy>(key: &str, value: Option<&str>, choices: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(value) = value else { return Ok(None) };
    match choices.iter().find(|(name, _)| *name == value) {
        Some((_, choice)) => Ok(Some(*choice)),
        None => {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            Err(format!("{key}: `{value}` is unknown; choose among {}", names.join(", ")))
        }
    }
}

fn name_of<T: PartialEq>(value: &T, choices: &[(&str, T)]) -> String {
    choices
        .iter()
        .find(|(_, choice)| choice == value)
        .map_or_else(String::new, |(name, _)| (*name).to_owned())
}

fn named<T>(
    key: &str,
    value: Option<&str>,
    find: fn(&str) -> Option<T>,
    examples: &str,
) -> Result<Option<T>, String> {
    let Some(value) = value else { return Ok(None) };
    find(value).map(Some).ok_or_else(|| format!("{key}: `{value}` is unknown; for example {examples}"))
}

fn header_text(key: &str, value: Option<&str>, max: usize) -> Result<Option<String>, String> {
    match value {
        Some(text)
            if text.is_empty() || text.len() > max || !text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Err(format!(
                "{key}: `{text}` cannot stand in a syslog header; use 1 to {max} printable ASCII characters without spaces"
            ))
        }
        other => Ok(other.map(str::to_owned)),
    }
}

impl Config {
    /// The configuration in effect, in the file's own form, every default written out.
    pub fn effective(&self) -> String {
        let data = &self.structured_data;
        let elements = [
            (data.meta, "meta"),
            (data.origin, "origin"),
            (data.time_quality, "time-quality"),
            (data.audit.is_some(), "audit"),
        ];
        let mut elements: Vec<_> =
            elements.iter().filter(|(chosen, _)| *chosen).map(|(_, name)| (*name).to_owned()).collect();
        if elements.is_empty() {
            elements.push("none".to_owned());
        }
        let settings = Settings {
            input: Some(name_of(&self.input, &INPUTS)),
            facility: Some(self.facility.name().to_owned()),
            severity: Some(self.severity.name().to_owned()),
            hostname: self.hostname.clone(),
            app_name: Some(self.app_name.clone()),
            structured_data: Some(elements),
            enterprise_number: data.audit,
            eoe: Some(if self.drop_eoe { "drop" } else { "keep" }.to_owned()),
            drain_timeout: Some(units::show_duration(self.drain_timeout)),
            user: self.user.clone(),
            report: self.report.clone(),
            log: Some(name_of(&self.log, &LOGS)),
            destination: self
                .destinations
                .iter()
                .map(|d| DestinationSettings {
                    url: d.url.clone(),
                    format: Some(if d.format == Format::Rfc5424 { "rfc5424" } else { "rfc3164" }.to_owned()),
                    framing: match d.framing {
                        Framing::Datagram => None,
                        Framing::Octet => Some("octet".to_owned()),
                        Framing::Lf => Some("lf".to_owned()),
                    },
                    on_full: Some(name_of(&d.on_full, &ON_FULL)),
                    queue_size: Some(units::show_size(d.queue_size)),
                    max_message_size: d.max_message_size.map(units::show_size),
                    ..show_service(d)
                })
                .collect(),
            ..Settings::default()
        };
        let mut text =
            toml::to_string(&settings).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"));
        if self.hostname.is_none() {
            let _ = writeln!(text, "\n# hostname: not set, so this host's fully qualified name is used");
        }
        if self.user.is_none() {
            let _ =
                writeln!(text, "# user: not set, so {OWN_USER} if that account exists, else {FALLBACK_USER}");
        }
        text
    }

    /// What works but will surprise.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for d in &self.destinations {
            if d.target == Target::Unix("/dev/log".into()) && d.format == Format::Rfc5424 {
                warnings.push(format!(
                    "{}: rsyslog reads RFC 5424 here only with SysSock.UseSpecialParser=\"off\" and \
                     SysSock.IgnoreTimestamp=\"off\"; journald never does",
                    d.url
                ));
            }
            if matches!(d.target, Target::Udp(..) | Target::Tcp(..))
                && d.max_message_size.is_none_or(|max| max > 8192)
            {
                warnings.push(format!(
                    "{}: rsyslog's default limit is 8 KiB a message; set its maxMessageSize to 64k or \
                     max-message-size here, or it cuts long records",
                    d.url
                ));
            }
            if d.on_full == Some(OnFull::Block) {
                warnings.push(format!(
                    "{}: on-full = \"block\" lets this destination hold up auditd, and with it the whole host's audit",
                    d.url
                ));
            }
        }
        if self.user.as_deref() == Some("root") {
            warnings.push("user = \"root\": the relay keeps uid 0 (without capabilities)".to_owned());
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn nothing_said_is_a_working_configuration() {
        let config = Settings::default().validate().unwrap();
        let [d] = &config.destinations[..] else { panic!() };
        assert_eq!(
            (d.url.as_str(), d.format, d.framing),
            ("unix:/dev/log", Format::Rfc3164, Framing::Datagram)
        );
        assert_eq!((d.queue_size, d.on_full, config.drain_timeout), (64 << 20, None, Duration::from_secs(2)));
        assert!(config.structured_data.meta && config.drop_eoe && config.warnings().is_empty());
    }

    #[test]
    fn defaults_fit_the_transport() {
        for (url, format, framing) in [
            ("unix-stream:/s", Format::Rfc3164, Framing::Lf),
            ("udp://h", Format::Rfc5424, Framing::Datagram),
            ("tcp://h", Format::Rfc5424, Framing::Octet),
            ("stdout:", Format::Rfc5424, Framing::Lf),
        ] {
            let config = settings(&format!("to = [\"{url}\"]")).validate().unwrap();
            assert_eq!(
                (config.destinations[0].format, config.destinations[0].framing),
                (format, framing),
                "{url}"
            );
        }
    }

    #[test]
    fn the_command_line_wins_and_destinations_have_their_own_settings() {
        let file = settings(
            "queue-size = \"1MiB\"\nfacility = \"auth\"\n[[destination]]\nurl = \"tcp://a\"\nframing = \"lf\"\nqueue-size = \"2MiB\"\n\
             [[destination]]\nurl = \"udp://b\"\n",
        );
        let config = file.clone().validate().unwrap();
        let sizes: Vec<_> = config.destinations.iter().map(|d| (d.queue_size, d.framing)).collect();
        assert_eq!(sizes, [(2 << 20, Framing::Lf), (1 << 20, Framing::Datagram)]);
        let over = Settings { to: Some(vec!["stdout:".to_owned()]), ..Settings::default() };
        let config = file.overridden_by(over).validate().unwrap();
        assert_eq!((config.destinations.len(), config.facility.name()), (1, "auth"));
    }

    #[test]
    fn errors_name_key_value_and_remedy() {
        for (text, expected) in [
            ("format = \"json\"", "format: `json` is unknown; choose among auto, rfc5424, rfc3164"),
            ("framing = \"nul\"", "framing: `nul` is unknown; choose among octet, lf"),
            ("facility = \"local9\"", "facility: `local9` is unknown; for example local6, auth or daemon"),
            (
                "queue-size = \"1KiB\"",
                "queue-size: 1KiB is too small; at least 256KiB lets one read of the input pass",
            ),
            ("max-message-size = \"100\"", "max-message-size: at least 480 bytes"),
            ("drain-timeout = \"2\"", "drain-timeout: `2` is not a duration"),
            ("hostname = \"two words\"", "hostname: `two words` cannot stand in a syslog header"),
            ("to = []", "`to` is empty"),
            ("to = [\"udp://h\", \"udp://h:514\"]", "destination `udp://h:514` is named twice"),
            ("structured-data = [\"audit\"]", "structured-data: `audit` needs `enterprise-number`"),
            ("structured-data = [\"meta\", \"none\"]", "structured-data: `none` is unknown"),
            (
                "[[destination]]\nurl = \"udp://h\"\nframing = \"lf\"",
                "destination `udp://h`: a datagram needs no framing",
            ),
            ("to = [\"tls://h\"]", "destination `tls://h`: this version sends to unix, udp and tcp"),
        ] {
            let error = settings(text).validate().unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(
            toml::from_str::<Settings>("queue-sise = \"1MiB\"")
                .unwrap_err()
                .to_string()
                .contains("queue-sise")
        );
    }

    #[test]
    fn the_effective_configuration_reads_back_as_itself() {
        for text in [
            "",
            "to = [\"tcp://a\", \"udp://[::1]:5514\", \"unix:/x\", \"unix-stream:/y\", \"stdout:\"]\nhostname = \"h\"\n\
             structured-data = [\"meta\", \"audit\"]\nenterprise-number = 32473\neoe = \"keep\"\non-full = \"drop-oldest\"\n\
             max-message-size = \"8KiB\"\ndrain-timeout = \"250ms\"\nuser = \"syslog\"\nreport = \"/run/r\"\nlog = \"syslog\"\n",
            "structured-data = [\"none\"]",
        ] {
            let config = settings(text).validate().unwrap();
            assert_eq!(settings(&config.effective()).validate().unwrap(), config, "{}", config.effective());
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, "facility = \"auth\"\n").unwrap();
        for (mode, good) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let result = Settings::from_file(&path);
            assert_eq!(result.is_ok(), good, "{mode:o}: {result:?}");
        }
        assert!(Settings::from_file(dir.path()).unwrap_err().contains("not a regular file"));
        assert!(Settings::from_file(&dir.path().join("absent")).unwrap_err().contains("cannot read"));
    }
}
