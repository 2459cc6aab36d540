//! auditd's version, and what depends on it.
//!
//! Promise: every difference between auditd 2.6 and 4.2 that matters to a plugin is a question to [`Version`] here, and
//! nowhere else a comparison of numbers. Law: pure.
//!
//! auditd has no option that prints its version, and auditctl answers root alone; so it is read from the text that
//! auditd's own program holds, which for a running auditd is the program that runs, replaced on disk or not.

use std::fmt;

/// A version of the audit suite, in its own order. Letters and a distribution's additions are left out: what a
/// distribution has repaired on its own cannot be told by number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

impl fmt::Display for Version {
    /// As the releases are named: `4.2`, `4.2.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.patch {
            0 => write!(f, "{}.{}", self.major, self.minor),
            patch => write!(f, "{}.{}.{patch}", self.major, self.minor),
        }
    }
}

/// What SIGHUP to auditd does to a plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reload {
    /// A running plugin gets SIGHUP; if its program has been replaced, it is ended and started anew.
    Signal,
    /// Every plugin is ended (end of input, 50 ms, SIGTERM, unlimited wait) and started anew.
    Restart,
}

impl Version {
    /// This version.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `3.0.9`, and what packages make of it: `1:3.0.9-1`, `4.0.3+ds-2`, `3.1.5-4.el9_6`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.split_once(':').map_or(text, |(_epoch, rest)| rest);
        let mut numbers = [0; 3];
        let mut count = 0;
        for part in text.split('.') {
            let end = part.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(part.len());
            if count == 3 || end == 0 {
                break;
            }
            numbers[count] = part[..end].parse().ok()?;
            count += 1;
            if end < part.len() {
                break;
            }
        }
        (count >= 2).then_some(Self::new(numbers[0], numbers[1], numbers[2]))
    }

    /// Finds the version in auditd's program: the only text in it that is a version and nothing else.
    pub fn in_program(bytes: &[u8]) -> Option<Self> {
        let mut found = None;
        for text in bytes.split(|byte| *byte == 0) {
            let is_version = (3..=12).contains(&text.len())
                && text[0].is_ascii_digit()
                && text.contains(&b'.')
                && text.split(|byte| *byte == b'.').count() <= 3
                && text
                    .iter()
                    .all(|byte| byte.is_ascii_digit() || *byte == b'.' || byte.is_ascii_lowercase());
            let version = std::str::from_utf8(text).ok().filter(|_| is_version).and_then(Self::parse);
            match (version, found) {
                (Some(version), Some(other)) if version != other => return None,
                (Some(version), _) => found = Some(version),
                (None, _) => {}
            }
        }
        found
    }

    /// Finds the version of an installed package in dpkg's `status`.
    pub fn in_dpkg_status(status: &str, package: &str) -> Option<Self> {
        status.split("\n\n").find_map(|entry| {
            let field = |name: &str| {
                entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
            };
            let installed = field("Package") == Some(package)
                && field("Status").is_some_and(|status| status.ends_with(" installed"));
            installed.then(|| field("Version").and_then(Self::parse)).flatten()
        })
    }

    /// Plugins run below audispd, a program of its own, with settings of its own (`audispd.conf`).
    pub fn has_audispd(self) -> bool {
        self < Self::new(3, 0, 0)
    }

    /// Folder of the plugin configurations where auditd.conf names none.
    pub fn plugin_folder(self) -> &'static str {
        if self.has_audispd() { "/etc/audisp/plugins.d" } else { "/etc/audit/plugins.d" }
    }

    /// The file that holds `q_depth`, `overflow_action`, `priority_boost`, `max_restarts` and `plugin_dir`.
    pub fn dispatcher_conf(self) -> &'static str {
        if self.has_audispd() { "/etc/audisp/audispd.conf" } else { "/etc/audit/auditd.conf" }
    }

    /// Folder of `auditd.pid` and `auditd.state`.
    pub fn state_folder(self) -> &'static str {
        if self < Self::new(4, 1, 2) { "/var/run" } else { "/run/audit" }
    }

    /// Bytes that a line of a configuration and two more must not exceed; longer lines are passed over.
    pub fn line_limit(self) -> usize {
        if self < Self::new(4, 1, 3) { 160 } else { 512 }
    }

    /// Words of `args` that a plugin is given; the others are dropped. `None`: all.
    pub fn most_arguments(self) -> Option<usize> {
        let all = self >= Self::new(4, 0, 1) || (self >= Self::new(3, 1, 5) && self < Self::new(4, 0, 0));
        (!all).then_some(2)
    }

    /// Mode bits that a plugin's program must have.
    pub fn program_mode(self) -> u32 {
        if self < Self::new(4, 0, 4) { 0o750 } else { 0o550 }
    }

    /// Programs that group or others may write, and plugin configurations that the group may write, are refused.
    pub fn refuses_group_writable(self) -> bool {
        self >= Self::new(4, 2, 0)
    }

    /// A plugin configuration may be a symbolic link. Only three versions pass such a one over.
    pub fn follows_links(self) -> bool {
        !(Self::new(4, 0, 3)..=Self::new(4, 0, 5)).contains(&self)
    }

    /// Names of plugin configurations with a dot must end in `.conf`.
    pub fn wants_conf_suffix(self) -> bool {
        self >= Self::new(4, 0, 3)
    }

    /// What a reload does to a plugin.
    pub fn reload(self) -> Reload {
        if self < Self::new(4, 2, 0) { Reload::Signal } else { Reload::Restart }
    }

    /// audispd acts on a reload when the next record comes, not before (upstream 72ec9a27; seen on 2.6.4, not on 2.8.5).
    pub fn reloads_with_next_record(self) -> bool {
        self < Self::new(2, 7, 1)
    }

    /// One plugin configuration with a fault makes a reload change nothing, whosever it is.
    pub fn reload_is_all_or_nothing(self) -> bool {
        self >= Self::new(4, 2, 0)
    }

    /// Records of the kernel's reach plugins without their last 16 bytes where `log_format = RAW` and no name is put
    /// in front (upstream ba8ba4f2, repaired by 2c6409d8 after 4.2.1).
    pub fn cuts_raw(self) -> bool {
        (Self::new(4, 2, 0)..=Self::new(4, 2, 1)).contains(&self)
    }

    /// After a reload records carry `node=(null)`, in its own log too, where `name_format` has auditd find the name out itself
    /// (upstream 5a89852a; seen on 4.2.1 and on what is to be 4.2.2, not on 4.1.4).
    pub fn forgets_name(self) -> bool {
        self >= Self::new(4, 2, 0)
    }

    /// Binary frames are longer in their header than on the wire where `log_format = RAW` (upstream 20201675), and the kernel's
    /// records in them have lost their ends.
    pub fn overstates_size(self) -> bool {
        self == Self::new(2, 6, 4)
    }

    /// Binary frames are filled up to 8986 bytes, with what was in memory.
    pub fn fills_frames(self) -> bool {
        self < Self::new(4, 1, 1)
    }

    /// A reload that ends the last plugin ends the dispatcher too, and a plugin that a later reload starts is given nothing
    /// until auditd is restarted (seen on 3.0.9, 3.1.5, 4.0.5, 4.1.0 and 4.1.4; not on 2.6.4, 2.8.5, 4.2.1).
    pub fn starves_later_plugins(self) -> bool {
        !self.has_audispd() && self < Self::new(4, 2, 0)
    }

    /// Over `max_restarts` it says that it was restarted, and that the plugin is active.
    pub fn hides_dead_plugins(self) -> bool {
        self < Self::new(4, 1, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, expected) in [
            ("3.0.9", Some((3, 0, 9))),
            ("4.2", Some((4, 2, 0))),
            ("1:3.0.9-1", Some((3, 0, 9))),
            ("1:4.2.1-1+b1", Some((4, 2, 1))),
            ("4.0.3+ds-2", Some((4, 0, 3))),
            ("3.1.5-4.el9_6", Some((3, 1, 5))),
            ("2.8.5", Some((2, 8, 5))),
            ("4.0.4b", Some((4, 0, 4))),
            ("4.1~rc1", Some((4, 1, 0))),
            ("4", None),
            ("", None),
            ("unknown", None),
            (".1.2", None),
            ("99999999.1", None),
        ] {
            let expected = expected.map(|(major, minor, patch)| Version::new(major, minor, patch));
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert!(
            Version::new(2, 8, 5) < Version::new(3, 0, 0) && Version::new(4, 1, 4) < Version::new(4, 2, 0)
        );
        assert_eq!(Version::new(4, 2, 0).to_string() + " " + &Version::new(4, 2, 1).to_string(), "4.2 4.2.1");
    }

    #[test]
    fn versions_are_found_in_programs() {
        let program = b"\x7fELF\0\0nice\x003.0.9\0audit version = %s\n\0 3.1\x002.x\0";
        assert_eq!(Version::in_program(program), Some(Version::new(3, 0, 9)));
        // Said twice is said once; two different ones are none.
        assert_eq!(Version::in_program(b"\x004.2.1\0x\x004.2.1\0"), Some(Version::new(4, 2, 1)));
        assert_eq!(Version::in_program(b"\x004.2.1\0x\x001.2.13\0"), None);
        // An address is no version.
        assert_eq!(Version::in_program(b"\x00127.0.0.1\0\x003.0.9\0"), Some(Version::new(3, 0, 9)));
        assert_eq!(Version::in_program(b""), None);
    }

    #[test]
    fn versions_are_found_in_dpkgs_status() {
        let status = "Package: audispd-plugins\nStatus: install ok installed\nVersion: 1:9.9.9-1\n\n\
                      Package: auditd\nStatus: install ok installed\nPriority: optional\nVersion: 1:3.0.9-1\n\n";
        assert_eq!(Version::in_dpkg_status(status, "auditd"), Some(Version::new(3, 0, 9)));
        let removed = "Package: auditd\nStatus: deinstall ok config-files\nVersion: 1:3.0.9-1\n";
        assert_eq!(Version::in_dpkg_status(removed, "auditd"), None);
    }

    #[test]
    fn what_depends_on_it() {
        let facts = |text: &str| {
            let v = Version::parse(text).unwrap();
            (v.plugin_folder(), v.line_limit(), v.most_arguments(), v.program_mode(), v.state_folder())
        };
        let (old, new) = ("/etc/audisp/plugins.d", "/etc/audit/plugins.d");
        assert_eq!(facts("2.8.5"), (old, 160, Some(2), 0o750, "/var/run"));
        assert_eq!(facts("3.0.9"), (new, 160, Some(2), 0o750, "/var/run"));
        assert_eq!(facts("3.1.5"), (new, 160, None, 0o750, "/var/run"));
        assert_eq!(facts("4.0"), (new, 160, Some(2), 0o750, "/var/run"));
        assert_eq!(facts("4.0.4"), (new, 160, None, 0o550, "/var/run"));
        assert_eq!(facts("4.1.2"), (new, 160, None, 0o550, "/run/audit"));
        assert_eq!(facts("4.2.1"), (new, 512, None, 0o550, "/run/audit"));
        let waits: Vec<_> = ["2.6.4", "2.7", "2.7.1", "2.8.5", "4.2.1"]
            .iter()
            .map(|text| Version::parse(text).unwrap().reloads_with_next_record())
            .collect();
        assert_eq!(waits, [true, true, false, false, false]);
        let cut: Vec<_> = ["4.1.4", "4.2", "4.2.1", "4.2.2"]
            .iter()
            .map(|text| Version::parse(text).unwrap().cuts_raw())
            .collect();
        assert_eq!(cut, [false, true, true, false]);
        assert!(!Version::new(4, 1, 4).forgets_name() && Version::new(4, 2, 0).forgets_name());
    }
}
