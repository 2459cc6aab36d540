//! Header fields, made safe once and kept as bytes.
//!
//! Promise: whatever name goes in, what comes out may stand in an RFC 5424 header: printable ASCII, not
//! longer than its field allows, never empty (RFC 5424 section 6).

use core::fmt;

/// Longest HOSTNAME, in bytes (RFC 5424 section 6).
const HOSTNAME_MAX: usize = 255;
/// Longest APP-NAME, in bytes.
const APP_NAME_MAX: usize = 48;

/// A header field.
#[derive(Clone, Eq, PartialEq)]
pub struct Field(Box<[u8]>);

impl Field {
    /// A HOSTNAME: letters, digits and what stands in names and addresses (`-`, `.`, `_`, `:`, `%`) as they are, all
    /// else as `_`; `-` if it is empty. RFC 5424 would allow more, but a node's name comes with the record, and
    /// syslog-ng takes a message with `[` here for a broken one.
    pub fn hostname(name: &[u8]) -> Self {
        Self::new(name, HOSTNAME_MAX, |byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte))
    }

    /// An APP-NAME: printable ASCII as it is, all else as `_`; `-` if it is empty.
    pub fn app_name(name: &[u8]) -> Self {
        Self::new(name, APP_NAME_MAX, |byte| byte.is_ascii_graphic())
    }

    fn new(name: &[u8], max: usize, may_stay: impl Fn(u8) -> bool) -> Self {
        let safe = |byte: &u8| if may_stay(*byte) { *byte } else { b'_' };
        let bytes: Box<[u8]> = name.iter().take(max).map(safe).collect();
        Self(if bytes.is_empty() { Box::new(*b"-") } else { bytes })
    }

    /// The field's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A syslog facility (RFC 5424 section 6.2.1, table 1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facility(u8);

/// A syslog severity (RFC 5424 section 6.2.1, table 2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Severity(u8);

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "security", "console", "clock", "local0", "local1", "local2", "local3", "local4", "local5",
    "local6", "local7",
];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

impl Facility {
    /// 22, the one that audit-relay uses unless told otherwise.
    pub const LOCAL6: Self = Self(22);

    /// Finds a facility by its lower-case name.
    pub fn from_name(name: &str) -> Option<Self> {
        FACILITIES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok()).map(Self)
    }

    /// The lower-case name.
    pub fn name(self) -> &'static str {
        FACILITIES[usize::from(self.0)]
    }
}

impl Severity {
    /// 4, for notices about the relay's own losses.
    pub const WARNING: Self = Self(4);
    /// 6, the severity of records unless told otherwise.
    pub const INFO: Self = Self(6);

    /// Finds a severity by its lower-case name; `error` and `warn` are taken too.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name {
            "error" => "err",
            "warn" => "warning",
            "panic" => "emerg",
            name => name,
        };
        SEVERITIES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok()).map(Self)
    }

    /// The lower-case name.
    pub fn name(self) -> &'static str {
        SEVERITIES[usize::from(self.0)]
    }
}

/// PRI value: facility * 8 + severity, 0 to 191.
pub(super) fn pri(facility: Facility, severity: Severity) -> u8 {
    facility.0 * 8 + severity.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_made_safe() {
        for (name, expected) in [
            (&b"web-1.example.org"[..], &b"web-1.example.org"[..]),
            (b"", b"-"),
            (b"two words\n<1>", b"two_words__1_"),
            (b"\x1b[31m]\"\\", b"__31m___"),
            (b"fe80::1%eth0_2", b"fe80::1%eth0_2"),
            ("gr\u{fc}n".as_bytes(), b"gr__n"),
        ] {
            assert_eq!(Field::hostname(name).as_bytes(), expected);
        }
        assert_eq!(Field::hostname(&[b'h'; 300]).as_bytes().len(), 255);
        assert_eq!(Field::app_name(&[b'a'; 300]).as_bytes().len(), 48);
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(pri(Facility::LOCAL6, Severity::INFO), 182);
        assert_eq!(Facility::from_name("local6"), Some(Facility::LOCAL6));
        assert_eq!(Severity::from_name("warn"), Some(Severity::WARNING));
        assert_eq!(Severity::from_name("error").unwrap().name(), "err");
        assert_eq!(Facility::from_name("LOCAL6"), None);
        for name in FACILITIES {
            assert_eq!(Facility::from_name(name).unwrap().name(), name);
        }
    }
}
