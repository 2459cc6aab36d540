//! rsyslog's configuration, as far as it can spoil records.
//!
//! Promise: from the text of rsyslog.conf and what it includes, the settings that cut, split, drop or misread messages, and the
//! files that messages are written to. Law: pure. It is no parser of RainerScript: it reads objects (`module(...)`) with
//! their parameters, the old `$Directives`, and selector lines with a file; conditions are not followed.

use std::path::PathBuf;

/// Where rsyslogd looks unless it is told otherwise.
pub(crate) const USUAL: &str = "/etc/rsyslog.conf";

/// rsyslogd's options that take a word (8.2302, 8.2610).
const WITH_WORD: &str = "fiMNoSTu";

/// The configuration that rsyslogd's command line names (`-f FILE`). `None`: the usual one.
pub(crate) fn conf_named<'a>(line: &[&'a str]) -> Option<&'a str> {
    let mut words = line.iter().skip(1).copied();
    let mut named = None;
    // As getopt(3) takes them: letters together, a letter's word behind it or next.
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| *letters != "-") else { continue };
        if let Some(at) = letters.find(|letter| WITH_WORD.contains(letter)) {
            let behind = &letters[at + 1..];
            let value = if behind.is_empty() { words.next() } else { Some(behind) };
            if letters[at..].starts_with('f') {
                named = value;
            }
        }
    }
    named.filter(|file| !file.is_empty())
}

/// What matters of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rsyslog {
    /// The file that it begins with. `None`: [`USUAL`].
    pub(crate) conf: Option<PathBuf>,
    /// `maxMessageSize` in bytes. `None`: not set, so 8096.
    pub(crate) max_message_size: Option<u64>,
    /// Seconds of imuxsock's rate limit on the system's socket. `None`: not set, so off.
    pub(crate) socket_interval: Option<u64>,
    /// The system's socket is read with `UseSpecialParser="off"`.
    pub(crate) reads_rfc5424: bool,
    /// It reads journald's files rather than a socket.
    pub(crate) reads_journal: bool,
    /// Seconds of imjournal's rate limit. `None`: not set, so 600.
    pub(crate) journal_interval: Option<u64>,
    /// Ports of imtcp and imptcp on which octet counting is switched off.
    pub(crate) lines_only: Vec<u16>,
    /// Files that it writes.
    pub(crate) files: Vec<PathBuf>,
    /// Patterns of further files, in the order in which they stand.
    pub(crate) includes: Vec<String>,
}

impl Rsyslog {
    /// Reads one file on top of what others have said.
    pub(crate) fn read(&mut self, text: &str) {
        for object in objects(text) {
            self.object(&object);
        }
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix('$') {
                self.directive(rest);
            } else if let Some(file) = selector_file(line) {
                self.file(file);
            }
        }
    }

    fn file(&mut self, file: &str) {
        let path = PathBuf::from(file);
        if path.is_absolute() && !file.contains('%') && !self.files.contains(&path) {
            self.files.push(path);
        }
    }

    fn object(&mut self, object: &Object) {
        let parameter = |name: &str| {
            object.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let is = |name: &str, value: &str| parameter(name).is_some_and(|it| it.eq_ignore_ascii_case(value));
        let number = |name: &str| parameter(name).and_then(|text| text.parse().ok());
        match object.name.to_ascii_lowercase().as_str() {
            "global" => {
                if let Some(size) = parameter("maxMessageSize").and_then(|text| size(text)) {
                    self.max_message_size = Some(size);
                }
            }
            "module" if is("load", "imuxsock") => {
                self.socket_interval = number("SysSock.RateLimit.Interval").or(self.socket_interval);
                self.reads_rfc5424 |= is("SysSock.UseSpecialParser", "off");
            }
            "module" if is("load", "imjournal") => {
                self.reads_journal = true;
                self.journal_interval = number("Ratelimit.Interval").or(self.journal_interval);
            }
            "input" if is("type", "imtcp") || is("type", "imptcp") => {
                if is("SupportOctetCountedFraming", "off")
                    && let Some(port) = parameter("port").and_then(|text| text.parse().ok())
                {
                    self.lines_only.push(port);
                }
            }
            "action" if is("type", "omfile") => {
                if let Some(file) = parameter("file") {
                    self.file(file);
                }
            }
            "include" => self.includes.extend(parameter("file").cloned()),
            _ => {}
        }
    }

    fn directive(&mut self, text: &str) {
        let mut words = text.split_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else { return };
        match name.to_ascii_lowercase().as_str() {
            "maxmessagesize" => self.max_message_size = size(value).or(self.max_message_size),
            "systemlogratelimitinterval" => self.socket_interval = value.parse().ok(),
            "imjournalratelimitinterval" => self.journal_interval = value.parse().ok(),
            "includeconfig" => self.includes.push(value.to_owned()),
            "modload" if value == "imjournal" => self.reads_journal = true,
            _ => {}
        }
    }

    /// Where a setting belongs, for people.
    pub(crate) fn place(&self) -> String {
        self.conf.as_ref().map_or_else(|| "rsyslog.conf".to_owned(), |conf| conf.display().to_string())
    }

    /// The longest message that passes, in bytes.
    pub(crate) fn longest_message(&self) -> u64 {
        self.max_message_size.unwrap_or(8096)
    }
}

/// `name(key="value" ...)`.
struct Object {
    name: String,
    parameters: Vec<(String, String)>,
}

/// Everything that looks like an object, comments left out.
fn objects(text: &str) -> Vec<Object> {
    let bare: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .fold(String::new(), |all, line| all + line + "\n");
    let mut found = Vec::new();
    let mut rest = bare.as_str();
    while let Some(open) = rest.find('(') {
        let name = rest[..open].trim_end();
        let start = name.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let object = Object { name: name[start..].to_owned(), parameters: Vec::new() };
        rest = &rest[open + 1..];
        found.push(parameters(object, &mut rest));
    }
    found
}

/// Reads up to the closing parenthesis.
fn parameters(mut object: Object, rest: &mut &str) -> Object {
    loop {
        let Some(at) = rest.find(['=', ')', '(']) else {
            *rest = "";
            return object;
        };
        if rest.as_bytes()[at] != b'=' {
            *rest = &rest[at + usize::from(rest.as_bytes()[at] == b')')..];
            return object;
        }
        let key = rest[..at].trim();
        let key = key.rsplit(|c: char| c.is_whitespace()).next().unwrap_or(key).to_owned();
        let value = rest[at + 1..].trim_start();
        let Some(quoted) = value.strip_prefix('"') else {
            *rest = value;
            continue;
        };
        let Some(end) = quoted.find('"') else {
            *rest = "";
            return object;
        };
        object.parameters.push((key, quoted[..end].to_owned()));
        *rest = &quoted[end + 1..];
    }
}

/// `local6.*   -/var/log/audit.log`.
fn selector_file(line: &str) -> Option<&str> {
    let (selector, action) = line.split_once(char::is_whitespace)?;
    let is_selector = selector.contains('.')
        && selector.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".*;,!=-".contains(&byte));
    let action = action.trim().strip_prefix('-').unwrap_or(action.trim());
    (is_selector && action.starts_with('/')).then(|| action.split([';', ' ']).next()).flatten()
}

/// `64k`, `65536`: in rsyslog k is 1024.
fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Rsyslog {
        let mut conf = Rsyslog::default();
        conf.read(text);
        conf
    }

    #[test]
    fn the_command_line_names_the_configuration() {
        for (line, conf) in [
            ("/usr/sbin/rsyslogd -n -iNONE", None),
            ("rsyslogd -n -f /srv/a.conf", Some("/srv/a.conf")),
            ("rsyslogd -f/srv/a.conf -n", Some("/srv/a.conf")),
            ("rsyslogd -nf /srv/a.conf", Some("/srv/a.conf")),
            ("rsyslogd -n -i /run/f -f rel.conf", Some("rel.conf")),
            ("rsyslogd -i -f -n", None),
            ("rsyslogd -if -n", None),
            ("rsyslogd -f a -f b", Some("b")),
            ("rsyslogd -f", None),
            ("rsyslogd -- f", None),
            ("", None),
        ] {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(conf_named(&words), conf, "{line}");
        }
    }

    #[test]
    fn debians_own() {
        let conf = read(
            "module(load=\"imuxsock\") # provides support for local system logging\nmodule(load=\"imklog\")\n\
             #module(load=\"imtcp\")\n$FileOwner root\n$WorkDirectory /var/spool/rsyslog\n$IncludeConfig /etc/rsyslog.d/*.conf\n\
             *.*;auth,authpriv.none\t\t-/var/log/syslog\nauth,authpriv.*  /var/log/auth.log\n*.emerg  :omusrmsg:*\n",
        );
        assert_eq!(conf.files, ["/var/log/syslog", "/var/log/auth.log"].map(PathBuf::from));
        assert_eq!(conf.includes, ["/etc/rsyslog.d/*.conf"]);
        assert_eq!((conf.longest_message(), conf.socket_interval, conf.reads_rfc5424), (8096, None, false));
    }

    #[test]
    fn objects_are_read() {
        let conf = read(
            "global(workDirectory=\"/x\" maxMessageSize=\"64k\" net.enableDNS=\"off\")\n\
             module(load=\"imuxsock\" SysSock.UseSpecialParser=\"off\"\n  sysSock.ratelimit.interval=\"5\")\n\
             module(load=\"imjournal\" StateFile=\"s\" Ratelimit.Interval=\"0\")\n\
             input(type=\"imtcp\" port=\"601\" SupportOctetCountedFraming=\"off\")\n\
             input(type=\"imtcp\" port=\"602\")\n\
             if ($syslogfacility-text == \"local6\") then { action(type=\"omfile\" file=\"/var/log/a.log\") }\n\
             action(type=\"omfile\" dynaFile=\"t\")\naction(type=\"omfile\" file=\"/var/%x%\")\n\
             include(file=\"/etc/more/*.conf\" mode=\"optional\")\n",
        );
        assert_eq!(conf.max_message_size, Some(65536));
        assert_eq!((conf.socket_interval, conf.reads_rfc5424), (Some(5), true));
        assert_eq!((conf.reads_journal, conf.journal_interval), (true, Some(0)));
        assert_eq!(conf.lines_only, [601]);
        assert_eq!(conf.files, ["/var/log/a.log"].map(PathBuf::from));
        assert_eq!(conf.includes, ["/etc/more/*.conf"]);
    }

    #[test]
    fn old_directives_and_rubbish() {
        let conf = read(
            "$MaxMessageSize 16k\n$SystemLogRateLimitInterval 0\n$ModLoad imjournal\n(\"=)(module(load=\n=\"",
        );
        assert_eq!((conf.longest_message(), conf.socket_interval), (16384, Some(0)));
        assert!(conf.reads_journal);
        assert_eq!((size("8k"), size("8x"), size(""), size("1m")), (Some(8192), None, None, Some(1 << 20)));
    }
}
