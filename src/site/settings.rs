//! `auditd.conf`, and `audispd.conf` of auditd 2.x, as far as they matter to a plugin.
//!
//! Promise: what auditd makes of the file, key by key, with auditd's own defaults; what it would refuse is a
//! [`Fault`] with its line. Law: pure; the text is an argument. Keys that do not matter to a plugin are not judged.
//!
//! With a fault that rejects, auditd 3.0.9 and 4.2.1 do not start (tried), and a reload changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::Fault;
use super::plugin::not_key_value;
use super::version::Version;

/// The most that `q_depth` may be.
const LARGEST_Q_DEPTH: u32 = 99_999;

/// How records are formatted, for the disk and for plugins alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// As the kernel has made them.
    Raw,
    /// With the names of users, groups, calls and addresses after a separator.
    Enriched,
    /// As raw, and not written to the disk (deprecated).
    NoLog,
}

/// What stands in `node=`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameFormat {
    /// There is no `node=`.
    None,
    /// The kernel's host name.
    Hostname,
    /// The fully qualified name, from the resolver.
    Fqd,
    /// The address.
    Numeric,
    /// What `name` says.
    User,
}

/// What auditd does with a record for plugins when its queue is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overflow {
    /// Drops it without a word.
    Ignore,
    /// Drops it, and says so five times.
    Syslog,
    /// Feeds plugins no more until SIGUSR2 or SIGHUP.
    Suspend,
    /// Takes the machine to single user mode.
    Single,
    /// Halts the machine.
    Halt,
}

/// When records are forced to the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flush {
    /// When the kernel likes.
    None,
    /// After `freq` records.
    Incremental,
    /// After `freq` records, by a thread of its own.
    IncrementalAsync,
    /// Each, its data.
    Data,
    /// Each, with its metadata.
    Sync,
}

/// What the file says, keys in lower case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    values: BTreeMap<String, Value>,
    /// What auditd refuses or passes over.
    pub faults: Vec<Fault>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Value {
    line: usize,
    text: String,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "RAW",
            Self::Enriched => "ENRICHED",
            Self::NoLog => "NOLOG",
        })
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignore => "ignore",
            Self::Syslog => "syslog",
            Self::Suspend => "suspend",
            Self::Single => "single",
            Self::Halt => "halt",
        })
    }
}

const LOG_FORMATS: [(&str, LogFormat); 3] =
    [("raw", LogFormat::Raw), ("enriched", LogFormat::Enriched), ("nolog", LogFormat::NoLog)];
const NAME_FORMATS: [(&str, NameFormat); 5] = [
    ("none", NameFormat::None),
    ("hostname", NameFormat::Hostname),
    ("fqd", NameFormat::Fqd),
    ("numeric", NameFormat::Numeric),
    ("user", NameFormat::User),
];
const OVERFLOWS: [(&str, Overflow); 5] = [
    ("ignore", Overflow::Ignore),
    ("syslog", Overflow::Syslog),
    ("suspend", Overflow::Suspend),
    ("single", Overflow::Single),
    ("halt", Overflow::Halt),
];
const FLUSHES: [(&str, Flush); 5] = [
    ("none", Flush::None),
    ("incremental", Flush::Incremental),
    ("incremental_async", Flush::IncrementalAsync),
    ("data", Flush::Data),
    ("sync", Flush::Sync),
];
const YES_NO: [(&str, bool); 2] = [("yes", true), ("no", false)];

impl Settings {
    /// Reads a whole file.
    pub fn parse(text: &str, version: Version) -> Self {
        let mut settings = Self::default();
        for (at, line) in text.split('\n').enumerate() {
            settings.line(at + 1, line, version);
        }
        settings.judge();
        settings
    }

    fn line(&mut self, line: usize, text: &str, version: Version) {
        let mut fault = |sentence, rejects| self.faults.push(Fault { line: Some(line), sentence, rejects });
        let most = version.line_limit() - 2;
        if text.len() > most {
            let bytes = text.len();
            fault(format!("has {bytes} bytes; auditd takes {most} at most and passes the line over"), false);
            return;
        }
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [_, "=", _, ..] if text.ends_with('\r') => {
                fault("ends in a carriage return, as editors on Windows write it".to_owned(), true);
            }
            [key, "=", value, more @ ..] => {
                let key = key.to_ascii_lowercase();
                // Only an action may have a program behind it.
                if !more.is_empty() && !key.ends_with("_action") {
                    fault(format!("{key}: one value is allowed, not `{value} {}`", more.join(" ")), true);
                }
                self.values.insert(key, Value { line, text: (*value).to_owned() });
            }
            _ => fault(not_key_value(text), true),
        }
    }

    fn judge(&mut self) {
        let mut wrong = Vec::new();
        let mut choice = |key: &str, choices: &[&str]| {
            if let Some(value) = self.values.get(key)
                && !choices.iter().any(|choice| choice.eq_ignore_ascii_case(&value.text))
            {
                wrong
                    .push((value.line, format!("{key}: `{}` is none of {}", value.text, choices.join(", "))));
            }
        };
        choice("log_format", &LOG_FORMATS.map(|(name, _)| name));
        choice("name_format", &NAME_FORMATS.map(|(name, _)| name));
        choice("overflow_action", &OVERFLOWS.map(|(name, _)| name));
        choice("flush", &FLUSHES.map(|(name, _)| name));
        choice("disp_qos", &["lossy", "lossless"]);
        for key in ["write_logs", "local_events", "distribute_network"] {
            choice(key, &YES_NO.map(|(name, _)| name));
        }
        for (key, range) in [
            ("q_depth", 1..=LARGEST_Q_DEPTH),
            ("max_restarts", 0..=u32::MAX),
            ("priority_boost", 0..=u32::MAX),
            ("freq", 0..=u32::MAX),
            ("tcp_listen_port", 0..=65_535),
        ] {
            if let Some(value) = self.values.get(key)
                && value.text.parse::<u32>().ok().is_none_or(|number| !range.contains(&number))
            {
                let range = match *range.end() {
                    u32::MAX => "a number".to_owned(),
                    most => format!("{} to {most}", range.start()),
                };
                wrong.push((value.line, format!("{key}: `{}` is not {range}", value.text)));
            }
        }
        if self.name_format() == NameFormat::User && self.text("name").is_none() {
            wrong.push((0, "name_format: USER, and no `name`".to_owned()));
        }
        wrong.sort();
        for (line, sentence) in wrong {
            self.faults.push(Fault { line: (line > 0).then_some(line), sentence, rejects: true });
        }
    }

    /// The value of a key as it is written, if it is there.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.text.as_str())
    }

    /// The line, from 1 on, that a key stands on.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.values.get(key).map(|value| value.line)
    }

    fn one_of<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, choice)| *choice)
    }

    fn number(&self, key: &str) -> Option<u32> {
        self.text(key)?.parse().ok()
    }

    /// Default: RAW.
    pub fn log_format(&self) -> LogFormat {
        self.one_of("log_format", &LOG_FORMATS).unwrap_or(LogFormat::Raw)
    }

    /// Default: none.
    pub fn name_format(&self) -> NameFormat {
        self.one_of("name_format", &NAME_FORMATS).unwrap_or(NameFormat::None)
    }

    /// Whether records are written to auditd's own file. Default: yes.
    pub fn write_logs(&self) -> bool {
        self.one_of("write_logs", &YES_NO).unwrap_or(true) && self.log_format() != LogFormat::NoLog
    }

    /// Where. Default: `/var/log/audit/audit.log`.
    pub fn log_file(&self) -> &str {
        self.text("log_file").unwrap_or("/var/log/audit/audit.log")
    }

    /// Whether the kernel's records are wanted. Default: yes.
    pub fn local_events(&self) -> bool {
        self.one_of("local_events", &YES_NO).unwrap_or(true)
    }

    /// Records that plugins may be behind, 1 to 99,999. Default: 2000, in 2.x 80 (its audispd.conf comes with 250).
    pub fn q_depth(&self, version: Version) -> u32 {
        self.number("q_depth").unwrap_or(if version.has_audispd() { 80 } else { 2000 })
    }

    /// Default: syslog.
    pub fn overflow_action(&self) -> Overflow {
        self.one_of("overflow_action", &OVERFLOWS).unwrap_or(Overflow::Syslog)
    }

    /// How often a plugin that has ended is started again, in auditd's life. Default: 10.
    pub fn max_restarts(&self) -> u32 {
        self.number("max_restarts").unwrap_or(10)
    }

    /// How much nicer than usual auditd is to itself, 0 to 20. Default: 4.
    pub fn priority_boost(&self) -> u32 {
        self.number("priority_boost").unwrap_or(4)
    }

    /// Default: none.
    pub fn flush(&self) -> Flush {
        self.one_of("flush", &FLUSHES).unwrap_or(Flush::None)
    }

    /// Records between two flushes. Default: 0.
    pub fn freq(&self) -> u32 {
        self.number("freq").unwrap_or(0)
    }

    /// Of 2.x: auditd waits for audispd rather than drop a record. Default: no.
    pub fn is_lossless(&self) -> bool {
        self.text("disp_qos").is_some_and(|text| text.eq_ignore_ascii_case("lossless"))
    }

    /// Why an auditd of this version starts no plugin, whatever their configurations say: to stand behind the file's name.
    /// Up to 2.8 plugins are audispd's, which auditd starts only where `dispatcher` names it, and says nothing where it
    /// does not (seen on 2.8.5).
    pub fn starts_no_plugins(&self, version: Version) -> Option<String> {
        if !version.has_audispd() {
            return None;
        }
        match self.dispatcher() {
            None => Some("names no `dispatcher`".to_owned()),
            Some(path) if Path::new(path).file_name() == Some("audispd".as_ref()) => None,
            Some(path) => Some(format!("names {path} as its `dispatcher`, not audispd")),
        }
    }

    /// Of 2.x: the program that gets every record from auditd; audispd, or one in its place.
    pub fn dispatcher(&self) -> Option<&str> {
        self.text("dispatcher")
    }

    /// Folder of the plugin configurations, where it is named.
    pub fn plugin_dir(&self) -> Option<&str> {
        self.text("plugin_dir")
    }

    /// Whether records that came from other machines go to plugins, too. Default: no.
    pub fn distribute_network(&self) -> bool {
        self.one_of("distribute_network", &YES_NO).unwrap_or(false)
    }

    /// The port on which other machines' records are taken, if they are.
    pub fn tcp_listen_port(&self) -> Option<u32> {
        self.number("tcp_listen_port").filter(|port| *port > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: Version = Version::new(3, 0, 9);

    #[test]
    fn defaults() {
        let nothing = Settings::parse("", V3);
        assert_eq!(nothing.faults, []);
        assert_eq!((nothing.log_format(), nothing.name_format()), (LogFormat::Raw, NameFormat::None));
        assert_eq!((nothing.q_depth(V3), nothing.q_depth(Version::new(2, 8, 5))), (2000, 80));
        assert_eq!(
            (nothing.overflow_action(), nothing.max_restarts(), nothing.priority_boost()),
            (Overflow::Syslog, 10, 4)
        );
        assert!(nothing.write_logs() && nothing.local_events() && !nothing.distribute_network());
    }

    #[test]
    fn what_is_written() {
        let text = "# comment = x\n\nlog_format = enriched\nQ_DEPTH = 8192\noverflow_action = SINGLE\nwrite_logs = no\n\
                    name_format = FQD\nflush = INCREMENTAL_ASYNC\nfreq = 50\n  max_restarts   =   3  \n\
                    space_left_action = exec /sbin/x\nplugin_dir = /srv/plugins.d\ndisp_qos = lossless\n\
                    tcp_listen_port = 60\ndistribute_network = yes\n";
        let settings = Settings::parse(text, V3);
        assert_eq!(settings.faults, []);
        assert_eq!(settings.log_format(), LogFormat::Enriched);
        assert_eq!((settings.q_depth(V3), settings.line_of("q_depth")), (8192, Some(4)));
        assert_eq!(settings.overflow_action(), Overflow::Single);
        assert_eq!(settings.name_format(), NameFormat::Fqd);
        assert_eq!((settings.flush(), settings.freq()), (Flush::IncrementalAsync, 50));
        assert_eq!(settings.max_restarts(), 3);
        assert_eq!(settings.plugin_dir(), Some("/srv/plugins.d"));
        assert!(!settings.write_logs() && settings.is_lossless() && settings.distribute_network());
        assert_eq!(settings.tcp_listen_port(), Some(60));
        assert!(!Settings::parse("log_format = NOLOG", V3).write_logs());
    }

    #[test]
    fn who_starts_plugins() {
        let off = |text: &str, version| Settings::parse(text, version).starts_no_plugins(version);
        let old = Version::new(2, 8, 5);
        assert_eq!(off("dispatcher = /sbin/audispd\n", old), None);
        assert_eq!(off("", V3), None);
        assert_eq!(off("", old).as_deref(), Some("names no `dispatcher`"));
        assert_eq!(
            off("dispatcher = /sbin/another\n", old).as_deref(),
            Some("names /sbin/another as its `dispatcher`, not audispd")
        );
    }

    #[test]
    fn what_auditd_refuses() {
        for (text, line, part) in [
            ("\nq_depth=9", Some(2), "is not KEY = VALUE"),
            ("q_depth\t=\t9", Some(1), "is not KEY = VALUE"),
            ("q_depth = many", Some(1), "q_depth: `many`"),
            ("q_depth = 100000", Some(1), "1 to 99999"),
            // auditd 3.0.9 divides by it.
            ("q_depth = 0", Some(1), "1 to 99999"),
            ("freq = 1 2", Some(1), "one value"),
            ("freq = 1\r", Some(1), "carriage return"),
            ("overflow_action = email", Some(1), "none of ignore"),
            ("log_format = rich", Some(1), "none of raw"),
            ("write_logs = maybe", Some(1), "none of yes, no"),
            ("name_format = USER", None, "no `name`"),
        ] {
            let settings = Settings::parse(text, V3);
            assert_eq!(settings.faults.len(), 1, "{text}: {:?}", settings.faults);
            assert_eq!(settings.faults[0].line, line, "{text}");
            assert!(settings.faults[0].sentence.contains(part), "{text}: {:?}", settings.faults);
        }
        let long = format!("name = {}", "x".repeat(152));
        let over = Settings::parse(&long, V3);
        assert!(over.faults.len() == 1 && !over.faults[0].rejects && over.text("name").is_none());
        assert_eq!(Settings::parse(&long[..158], V3).faults, []);
        assert_eq!(Settings::parse(&long, Version::new(4, 2, 1)).faults, []);
    }
}
