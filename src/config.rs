//! Configuration: what the user wrote in, what the relay runs with out.
//!
//! Promise: a [`Config`] cannot be wrong; every error names the key, the value and the remedy. Law: raw
//! values never leave this room. The file and the command line fill the same [`Settings`], so each key
//! has an option of the same name, and the command line wins.

pub(crate) mod complaint;
mod destination;
mod next_start;
mod one_or_more;
mod seen;
mod settings;
mod units;
mod url;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::audit::InputForm;
use crate::ingest::OnFull;
use crate::output::service::{Route, Service, Target, Verify};
use crate::syslog::{Facility, Format, Framing, Severity, StructuredData};
pub use seen::{DEFAULT_STATUS, Status};
pub use settings::{DestinationSettings, Settings};

/// Read where `--config` is not given and this file exists.
pub const DEFAULT_FILE: &str = "/etc/audit-relay.toml";

/// Undelivered records are left here for the next instance, where auditd has started us.
pub const DEFAULT_HANDOVER: &str = "/run/audit-relay";

/// Longest gathering time. auditd's socket is full after 278 records; what comes faster than that waits in auditd's
/// own queue (`q_depth`) for the rest of the time.
pub const LONGEST_GATHER: Duration = Duration::from_millis(20);

/// The account that the relay runs as if it exists and no other is named.
pub const OWN_USER: &str = "audit-relay";

/// The account otherwise.
pub const FALLBACK_USER: &str = "nobody";

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
    /// How long records may gather before they are read, while they come in quick succession. Default 5 ms, at
    /// most [`LONGEST_GATHER`].
    pub gather: Duration,
    /// How many threads do the work.
    pub threads: Threads,
    /// Time from the end of the input until what is not delivered is given up. Default 2 s.
    pub drain_timeout: Duration,
    /// Folder where undelivered records are left for the next instance.
    pub handover: Handover,
    /// What is left to a relay that has been taken over.
    pub confine: Confine,
    /// Account to run as; `None`: `audit-relay` if it exists, else `nobody`.
    pub user: Option<String>,
    /// Where to write the accounting at the end and on SIGUSR1.
    pub report: Option<PathBuf>,
    /// The socket that `audit-relay status` asks.
    pub status: Status,
    /// Group that may connect to it, beside root and the relay's account.
    pub status_group: Option<String>,
    /// Address and port on the loopback interface where metrics can be had over HTTP; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// File that metrics are written to; `None`: none.
    pub metrics_file: Option<PathBuf>,
    /// How often `metrics_file` is written. Default 15 s.
    pub metrics_interval: Duration,
    /// How often a message `STATS` goes to each destination; `None`: never.
    pub statistics_interval: Option<Duration>,
    /// Where diagnostics go.
    pub log: LogTarget,
}

/// One destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// As written; of a group, its kind and its receivers.
    pub url: String,
    /// Its receivers.
    pub route: Route,
    /// Form of the messages. Default: RFC 3164 on local sockets, whose usual owners spoil RFC 5424;
    /// RFC 5424 elsewhere.
    pub format: Format,
    /// Default: octet counting on TCP, LF on stream sockets and standard output.
    pub framing: Framing,
    /// What a full queue means. `None`: block if the input is a file or a pipe, drop the newest if it is
    /// auditd's socket.
    pub on_full: Option<OnFull>,
    /// Bytes that may wait, at least 256 KiB. `None`: see [`Destination::queue_bytes`].
    pub queue_size: Option<usize>,
    /// Longest message in bytes, without framing; longer ones are cut. Default: what the transport takes.
    pub max_message_size: Option<usize>,
    /// How connections are watched, and what is sent again after one has ended.
    pub service: Service,
}

/// How far the relay gives up what it does not need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Confine {
    /// As far as the kernel can.
    Auto,
    /// Wholly, or not start.
    Require,
    /// Calls that are not foreseen are made, and logged by the kernel: to find out what they are.
    Log,
    /// Not at all.
    Off,
}

/// How many threads do the work, look-ups aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Threads {
    /// Two where the input is a file, whose reads block; else one.
    Auto,
    /// One reads and sends: the least that a record can cost.
    One,
    /// One reads, one sends: more throughput where there is a flood.
    Two,
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

impl LogTarget {
    /// True if it leads to /dev/log where auditd has started us.
    pub fn may_be_syslog(self) -> bool {
        matches!(self, Self::Auto | Self::Syslog)
    }
}

/// Where undelivered records are left for the next instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Handover {
    /// In [`DEFAULT_HANDOVER`] where auditd has started us; otherwise nowhere.
    Auto,
    /// In this folder.
    Folder(PathBuf),
    /// Nowhere: they are lost, and counted as lost.
    Off,
}

impl Settings {
    fn names_no_destination(&self) -> bool {
        self.destination.is_empty() && self.failover.is_none() && self.balance.is_none()
    }

    /// Understands everything.
    ///
    /// # Errors
    /// A sentence that names the key, the value and what may stand there.
    pub fn validate(&self) -> Result<Config, String> {
        let mut destinations = Vec::new();
        let to = match &self.to {
            Some(urls) => urls.clone(),
            None if self.names_no_destination() => vec!["unix:/dev/log".to_owned()],
            None => Vec::new(),
        };
        let plain = to
            .into_iter()
            .map(|url| DestinationSettings { url: Some(url), ..DestinationSettings::default() });
        let failover = self
            .failover
            .clone()
            .map(|urls| DestinationSettings { failover: Some(urls), ..DestinationSettings::default() });
        let balance = self
            .balance
            .clone()
            .map(|urls| DestinationSettings { balance: Some(urls), ..DestinationSettings::default() });
        for own in plain.chain(failover).chain(balance) {
            destinations.push(destination::destination(&own.filled_from(self))?);
        }
        for own in &self.destination {
            let understood = destination::destination(&own.filled_from(self))?;
            if understood.framing == Framing::Datagram && own.framing.is_some() {
                return Err(format!(
                    "destination `{}`: a datagram needs no framing, and RELP has its own; take it out",
                    understood.url
                ));
            }
            if let Some(key) = own.tls_key_in_use()
                && !understood.route.any(Target::is_over_tls)
            {
                return Err(format!("destination `{}`: {key} is for tls and relps only", understood.url));
            }
            destinations.push(understood);
        }
        // Somebody who names a certificate takes the records for encrypted.
        let all = DestinationSettings::default().filled_from(self);
        if let Some(key) = all.tls_key_in_use()
            && !destinations.iter().any(|d| d.route.any(Target::is_over_tls))
        {
            return Err(format!("{key}: no destination uses TLS; write tls://HOST or relps://HOST"));
        }
        if destinations.is_empty() {
            return Err("`to` is empty: name at least one destination, for example unix:/dev/log".to_owned());
        }
        for (at, destination) in destinations.iter().enumerate() {
            for member in destination.route.members() {
                let twice = |other: &Destination| {
                    other.route.members().iter().any(|other| other.target == member.target)
                };
                if destinations[..at].iter().any(twice) {
                    return Err(format!(
                        "destination `{}` is named twice; it would get every record twice",
                        member.url
                    ));
                }
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
            gather: match self.gather.as_deref().map(units::duration) {
                None => Duration::from_millis(5),
                Some(Ok(time)) if time <= LONGEST_GATHER => time,
                Some(Ok(_)) => {
                    return Err(format!(
                        "gather: at most {}; auditd would have to wait",
                        units::show_duration(LONGEST_GATHER)
                    ));
                }
                Some(Err(error)) => return Err(format!("gather: {error}")),
            },
            confine: one_of("confine", self.confine.as_deref(), &CONFINE)?.unwrap_or(Confine::Auto),
            threads: one_of("threads", self.threads.as_deref(), &THREADS)?.unwrap_or(Threads::Auto),
            drain_timeout: match self.drain_timeout.as_deref() {
                Some(text) => units::duration(text).map_err(|error| format!("drain-timeout: {error}"))?,
                None => Duration::from_secs(2),
            },
            handover: match &self.handover {
                None => Handover::Auto,
                Some(word) if word.as_os_str() == "auto" => Handover::Auto,
                Some(word) if word.as_os_str() == "off" => Handover::Off,
                Some(path) if path.is_absolute() => Handover::Folder(path.clone()),
                Some(other) => {
                    return Err(format!(
                        "handover: `{}` is unknown; choose among auto, off, or a folder from / on",
                        other.display()
                    ));
                }
            },
            user: self.user.clone(),
            report: self.report.clone(),
            status: seen::status(self)?,
            status_group: self.status_group.clone(),
            metrics: self.metrics.as_deref().map(seen::metrics).transpose()?,
            metrics_file: self.metrics_file.as_deref().map(seen::metrics_file).transpose()?,
            metrics_interval: match self.metrics_interval.as_deref() {
                Some(text) => seen::interval("metrics-interval", text)?,
                None => seen::METRICS_INTERVAL,
            },
            statistics_interval: match self.statistics_interval.as_deref() {
                None | Some("off") => None,
                Some(text) => Some(seen::interval("statistics-interval", text)?),
            },
            log: one_of("log", self.log.as_deref(), &LOGS)?.unwrap_or(LogTarget::Auto),
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
const CONFINE: [(&str, Confine); 4] =
    [("auto", Confine::Auto), ("require", Confine::Require), ("log", Confine::Log), ("off", Confine::Off)];

const THREADS: [(&str, Threads); 3] = [("auto", Threads::Auto), ("1", Threads::One), ("2", Threads::Two)];
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
            gather: Some(units::show_duration(self.gather)),
            confine: Some(name_of(&self.confine, &CONFINE)),
            threads: Some(name_of(&self.threads, &THREADS)),
            drain_timeout: Some(units::show_duration(self.drain_timeout)),
            handover: Some(match &self.handover {
                Handover::Auto => "auto".into(),
                Handover::Off => "off".into(),
                Handover::Folder(path) => path.clone(),
            }),
            user: self.user.clone(),
            report: self.report.clone(),
            status: Some(seen::show(&self.status)),
            status_group: self.status_group.clone(),
            metrics: self.metrics.map(|address| address.to_string()),
            metrics_file: self.metrics_file.clone(),
            metrics_interval: Some(units::show_duration(self.metrics_interval)),
            statistics_interval: Some(
                self.statistics_interval.map_or_else(|| "off".to_owned(), units::show_duration),
            ),
            log: Some(name_of(&self.log, &LOGS)),
            destination: self.destinations.iter().map(destination::show).collect(),
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
            let dev_log = |target: &Target| *target == Target::Unix("/dev/log".into());
            if d.route.any(dev_log) && d.format == Format::Rfc5424 {
                warnings.push(format!(
                    "{}: rsyslog reads RFC 5424 here only with SysSock.UseSpecialParser=\"off\" and \
                     SysSock.IgnoreTimestamp=\"off\"; journald never does",
                    d.url
                ));
            }
            let remote = |target: &Target| matches!(target, Target::Udp(..)) || target.is_over_tcp();
            if d.route.any(remote) && d.max_message_size.is_none_or(|max| max > 8096) {
                warnings.push(format!(
                    "{}: rsyslog's default limit is 8096 bytes a message; set its maxMessageSize to 64k or \
                     max-message-size here, or it makes two messages of a long record",
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
        for d in self.destinations.iter().filter(|d| d.route.any(Target::is_over_tls)) {
            if d.service.tls.verify == Verify::None {
                warnings.push(format!(
                    "{}: tls-verify = \"none\": nobody checks who the receiver is; whoever sits on the way can read \
                     and take the records",
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
        assert_eq!((d.queue_size, d.on_full, config.drain_timeout), (None, None, Duration::from_secs(2)));
        assert!(config.structured_data.meta && config.drop_eoe && config.warnings().is_empty());
    }

    #[test]
    fn a_queue_is_shallow_where_the_input_waits_and_nobody_has_said_how_deep() {
        for (text, deep, shallow) in [
            ("", 64 << 20, 8 << 20),
            ("queue-size = \"auto\"\n", 64 << 20, 8 << 20),
            ("replay = \"20MiB\"\n", 64 << 20, 40 << 20),
            ("replay = \"off\"\n", 64 << 20, 8 << 20),
            ("queue-size = \"128MiB\"\n", 128 << 20, 128 << 20),
            ("queue-size = \"1MiB\"\n", 1 << 20, 1 << 20),
        ] {
            let config = settings(&format!("to = [\"tcp://h\"]\n{text}")).validate().unwrap();
            let d = &config.destinations[0];
            assert_eq!((d.queue_bytes(false), d.queue_bytes(true)), (deep, shallow), "{text}");
        }
    }

    #[test]
    fn defaults_fit_the_transport() {
        for (url, format, framing) in [
            ("unix-stream:/s", Format::Rfc3164, Framing::Lf),
            ("udp://h", Format::Rfc5424, Framing::Datagram),
            ("tcp://h", Format::Rfc5424, Framing::Octet),
            ("tls://h", Format::Rfc5424, Framing::Octet),
            ("relp://h", Format::Rfc5424, Framing::Datagram),
            ("relps://h", Format::Rfc5424, Framing::Datagram),
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
        assert_eq!(sizes, [(Some(2 << 20), Framing::Lf), (Some(1 << 20), Framing::Datagram)]);
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
            ("gather = \"1\"", "gather: `1` is not a duration"),
            ("gather = \"21ms\"", "gather: at most 20ms"),
            ("confine = \"no\"", "confine: `no` is unknown; choose among auto, require, log, off"),
            ("threads = \"3\"", "threads: `3` is unknown"),
            ("drain-timeout = \"2\"", "drain-timeout: `2` is not a duration"),
            ("status = \"here\"", "status: `here` is unknown; choose among auto, off, or a path from / on"),
            (
                "status-group = \"adm\"",
                "status-group: the usual socket's folder is the relay's alone; name another path",
            ),
            ("metrics = \"9101\"", "metrics: `9101` is no address with a port; for example 127.0.0.1:9101"),
            ("metrics = \"0.0.0.0:9101\"", "metrics: 0.0.0.0:9101 is not on the loopback interface"),
            ("metrics = \"127.0.0.1:0\"", "metrics: port 0 is none"),
            (
                "metrics-file = \"a.prom\"",
                "metrics-file: `a.prom` has to be a path from / on, and end in .prom",
            ),
            (
                "metrics-file = \"/m/a.txt\"",
                "metrics-file: `/m/a.txt` has to be a path from / on, and end in .prom",
            ),
            ("metrics-interval = \"10ms\"", "metrics-interval: `10ms` is out of range; from 1s to 1440min"),
            ("statistics-interval = \"2\"", "statistics-interval: `2` is not a duration"),
            ("hostname = \"two words\"", "hostname: `two words` cannot stand in a syslog header"),
            ("to = []", "`to` is empty"),
            ("to = [\"udp://h\", \"udp://h:514\"]", "destination `udp://h:514` is named twice"),
            ("structured-data = [\"audit\"]", "structured-data: `audit` needs `enterprise-number`"),
            ("structured-data = [\"meta\", \"none\"]", "structured-data: `none` is unknown"),
            (
                "[[destination]]\nurl = \"udp://h\"\nframing = \"lf\"",
                "destination `udp://h`: a datagram needs no framing",
            ),
            ("to = [\"tls:h\"]", "destination `tls:h` is none that I know"),
            ("to = [\"tcp://h\"]\ntls-ca = \"/ca\"", "tls-ca: no destination uses TLS"),
            (
                "to = [\"tls://h\"]\ntls-verify = \"maybe\"",
                "tls-verify: `maybe` is unknown; choose among ca, pin,",
            ),
            (
                "to = [\"tls://h\"]\ntls-verify = \"pin\"",
                "tls-verify: `pin` needs the receiver's fingerprint",
            ),
            ("to = [\"tls://h\"]\ntls-pin = [\"sha256:00\"]", "tls-pin: `sha256:00` is no fingerprint"),
            (
                "to = [\"tls://h\"]\ntls-name = \"a b\"",
                "tls-name: `a b` is neither a DNS name nor an IP address",
            ),
            ("to = [\"tls://h\"]\ntls-name = \"[::1]\"", "tls-name: `[::1]` is neither"),
            ("to = [\"tls://h\"]\ntls-name = \"\"", "tls-name: `` is neither"),
            ("to = [\"relps://h-\"]", "destination `relps://h-`: no certificate can hold `h-`; set tls-name"),
            (
                "failover = [\"tls://a\", \"tls://1.2.3\"]",
                "destination `tls://1.2.3`: no certificate can hold",
            ),
            ("to = [\"tls://h\"]\ntls-key = \"/k\"", "tls-key: needs its certificate in tls-cert"),
            ("to = [\"tls://h\"]\ntls-cert = \"/c\"", "tls-cert: needs its private key in tls-key"),
            (
                "to = [\"tls://h\"]\nverify = \"none\"\ntls-crl = [\"/l\"]",
                "tls-verify: tls-ca and tls-crl are not looked at in this mode",
            ),
            ("to = [\"relp://h\"]\nrelp-window = 1", "relp-window: 1 is out of range"),
            ("failover = [\"tcp://a\"]", "failover: name at least two receivers"),
            (
                "balance = [\"tcp://a\", \"udp://b\"]",
                "balance: `udp://b` cannot tell when its receiver is gone",
            ),
            (
                "failover = [\"tcp://a\", \"relp://b\"]",
                "failover: `tcp://a` and `relp://b` differ in their framing",
            ),
            ("failover = [\"tcp://a\", \"tcp://a:601\"]", "failover: `tcp://a:601` is named twice"),
            (
                "to = [\"tcp://a\"]\nfailover = [\"tcp://a\", \"tcp://b\"]",
                "destination `tcp://a` is named twice; it would get every record twice",
            ),
            ("[[destination]]\nformat = \"rfc3164\"", "destination: name its receivers by one of"),
            (
                "[[destination]]\nurl = \"tcp://a\"\ntls-ca = \"/ca\"",
                "destination `tcp://a`: tls-ca is for tls and relps only",
            ),
            ("handover = \"on\"", "handover: `on` is unknown; choose among auto, off, or a folder"),
            ("connect-timeout = \"1ms\"", "connect-timeout: `1ms` is out of range"),
            (
                "to = [\"tcp://h\"]\ntcp-keepalive = \"541min\"",
                "tcp-keepalive: `541min` is out of range; from 1s to 540min",
            ),
            (
                "to = [\"relp://h\"]\ntcp-keepalive = \"32401s\"",
                "tcp-keepalive: `32401s` is out of range; from 1s to 540min",
            ),
            ("to = [\"tcp://h\"]\ntcp-keepalive = \"999ms\"", "tcp-keepalive: `999ms` is out of range"),
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
    fn a_name_that_a_certificate_can_hold_is_taken() {
        for text in [
            "to = \"tls://logs.example.org\"",
            "to = \"tls://[::1]\"",
            "to = \"tls://10.0.0.1\"",
            "to = \"tcp://h-\"",
            "to = \"tls://h-\"\ntls-name = \"logs.example.org.\"",
            "to = \"tls://h\"\ntls-name = \"under_score\"",
            "to = \"tls://h\"\ntls-name = \"2001:db8::1\"",
            "status = \"/run/audit-relay.sock\"\nstatus-group = \"adm\"",
            "status = \"/run/audit-relay/s.sock\"",
        ] {
            let config = settings(text).validate();
            assert!(config.is_ok(), "{text}: {config:?}");
        }
    }

    #[test]
    fn a_pin_is_heeded_alone_or_beside_an_authority() {
        let pin = "tls-pin = [\"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"]\n";
        for (said, expected) in [
            (String::new(), Verify::Ca),
            ("tls-ca = \"/ca\"".to_owned(), Verify::Ca),
            (pin.to_owned(), Verify::Pin),
            (format!("{pin}tls-ca = \"system\""), Verify::PinAndCa),
            (format!("{pin}tls-verify = \"pin-and-ca\""), Verify::PinAndCa),
            ("verify = \"none\"".to_owned(), Verify::None),
        ] {
            let config = settings(&format!("to = [\"tls://h\"]\n{said}")).validate().unwrap();
            assert_eq!(config.destinations[0].service.tls.verify, expected, "{said}");
            let warned = config.warnings().iter().any(|warning| warning.contains("nobody checks"));
            assert_eq!(warned, expected == Verify::None, "{said}");
        }
    }

    #[test]
    fn the_effective_configuration_reads_back_as_itself() {
        for text in [
            "",
            "to = [\"tcp://a\", \"udp://[::1]:5514\", \"unix:/x\", \"unix-stream:/y\", \"stdout:\"]\nhostname = \"h\"\n\
             structured-data = [\"meta\", \"audit\"]\nenterprise-number = 32473\neoe = \"keep\"\non-full = \"drop-oldest\"\n\
             max-message-size = \"8KiB\"\ngather = \"0ms\"\nthreads = \"2\"\nconfine = \"require\"\nstatus = \"/run/s\"\nstatus-group = \"adm\"\nmetrics = \"[::1]:9101\"\nmetrics-file = \"/m/a.prom\"\nmetrics-interval = \"1min\"\nstatistics-interval = \"5s\"\ndrain-timeout = \"250ms\"\nuser = \"syslog\"\nreport = \"/run/r\"\nlog = \"syslog\"\n",
            "structured-data = [\"none\"]",
            "failover = [\"tls://a\", \"tcp://b\"]\nbalance = [\"relps://c\", \"relp://d\"]\nhandover = \"/run/x\"\nrelp-window = 7\n\
             tls-ca = \"/ca\"\ntls-crl = [\"/l\"]\ntls-cert = \"/c\"\ntls-key = \"/k\"\ntls-name = \"n\"\nconnect-timeout = \"3s\"\n\
             tls-pin = [\"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"]\n\
             [[destination]]\nurl = \"tls://e\"\ntls-ca = \"system\"\nreplay = \"8MiB\"\n",
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
            let result = Settings::from_file(&path, nix::unistd::Uid::effective());
            assert_eq!(result.is_ok(), good, "{mode:o}: {result:?}");
        }
        assert!(
            Settings::from_file(dir.path(), nix::unistd::Uid::effective())
                .unwrap_err()
                .contains("not a regular file")
        );
        assert!(
            Settings::from_file(&dir.path().join("absent"), nix::unistd::Uid::effective())
                .unwrap_err()
                .contains("cannot read")
        );
    }
}
