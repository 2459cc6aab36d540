//! A plugin's configuration as auditd reads it, and auditd's conditions for its file and its program.
//!
//! Promise: for a text, a name, owners and modes, and a version of auditd, what auditd makes of them: the plugin, or why it
//! passes it over. Law: pure; nothing here opens a file.
//!
//! auditd says such things once, in the system's log, when it starts; a scanner that looks for `active = yes` sees nothing
//! of it (ComplianceAsCode's issue 14561: active, no `path`, skipped). Each rule was tried on auditd 3.0.9 and 4.2.1, and
//! the versions between them read for when it changed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Fault;
use super::version::Version;

/// The form in which a plugin gets records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// A line each.
    String,
    /// A frame each: header and text.
    Binary,
}

/// What a plugin's configuration says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PluginConf {
    /// auditd shall start it.
    pub active: bool,
    /// Its program; `builtin_...` in old files.
    pub path: Option<PathBuf>,
    /// The words after the program's name that it is given, those that auditd drops left out.
    pub arguments: Vec<String>,
    /// How it gets records. auditd's default is binary.
    pub form: Form,
    /// What auditd refuses or drops.
    pub faults: Vec<Fault>,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, pipe or device.
    Other,
}

/// Whose a file is, and what may be done with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, with those for set-id and sticky.
    pub mode: u32,
}

impl PluginConf {
    /// Reads a file as auditd of this version does.
    pub fn parse(text: &str, version: Version) -> Self {
        let mut conf =
            Self { active: false, path: None, arguments: Vec::new(), form: Form::Binary, faults: Vec::new() };
        for (at, line) in text.split('\n').enumerate() {
            if let Err((sentence, rejects)) = conf.line(line, version) {
                conf.faults.push(Fault { line: Some(at + 1), sentence, rejects });
            }
        }
        if conf.active && conf.path.is_none() {
            conf.faults.push(Fault {
                line: None,
                sentence: "says `active = yes` and names no `path`".to_owned(),
                rejects: true,
            });
        }
        conf
    }

    fn line(&mut self, text: &str, version: Version) -> Result<(), (String, bool)> {
        let refused = |sentence: String| Err((sentence, true));
        let limit = version.line_limit();
        // With the line feed and the closing NUL it has to fit.
        if text.len() + 2 > limit {
            let sentence = format!(
                "has {} bytes; auditd {version} takes {} at most and passes the line over",
                text.len(),
                limit - 2
            );
            return Err((sentence, false));
        }
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let (key, values) = match words.as_slice() {
            [] => return Ok(()),
            [first, ..] if first.starts_with('#') => return Ok(()),
            [key, "=", values @ ..] if !values.is_empty() => (key.to_ascii_lowercase(), values),
            _ => {
                return refused(not_key_value(text));
            }
        };
        if key == "args" && !text.ends_with('\r') {
            let most = version.most_arguments().unwrap_or(values.len());
            let kept = values.len().min(most);
            self.arguments = values[..kept].iter().map(|word| (*word).to_owned()).collect();
            if kept < values.len() {
                let dropped = values[kept..].join(" ");
                let sentence = format!("args: auditd {version} hands on two words and drops `{dropped}`");
                return Err((sentence, false));
            }
            return Ok(());
        }
        if text.ends_with('\r') {
            return refused("ends in a carriage return, as editors on Windows write it".to_owned());
        }
        let [value] = values else {
            return refused(format!("{key}: one value is allowed, not `{}`", values.join(" ")));
        };
        let lower = value.to_ascii_lowercase();
        match (key.as_str(), lower.as_str()) {
            ("active", "yes") => self.active = true,
            ("active", "no") => self.active = false,
            ("format", "string") => self.form = Form::String,
            ("format", "binary") => self.form = Form::Binary,
            ("type", "always" | "builtin") | ("direction", "in" | "out") => {}
            ("path", _) => return self.path(value),
            ("active" | "format" | "type" | "direction", _) => {
                return refused(format!("{key}: `{value}` is not known"));
            }
            _ => return refused(format!("`{key}` is no key")),
        }
        Ok(())
    }

    fn path(&mut self, value: &str) -> Result<(), (String, bool)> {
        let folder = value.rfind('/').map_or(0, |at| at);
        if !value.starts_with("builtin_") && (!value.starts_with('/') || folder < 4) {
            let sentence = format!("path: `{value}` is not in a folder with a name of 4 bytes, as /bin has");
            return Err((sentence, true));
        }
        self.path = Some(PathBuf::from(value));
        Ok(())
    }

    /// True if `program` (a file's name) is what auditd starts, or what is started by what auditd starts (audisp-filter
    /// has it among its arguments).
    pub fn leads_to(&self, program: &str) -> bool {
        let ends = |path: &Path| path.file_name() == Some(OsStr::new(program));
        self.path.as_deref().is_some_and(ends) || self.arguments.iter().any(|word| ends(Path::new(word)))
    }

    /// True if auditd starts it, its file and its program aside.
    pub fn is_started(&self) -> bool {
        self.active && !self.faults.iter().any(|fault| fault.rejects)
    }
}

/// Why auditd does not look at a file of this name at all.
pub fn name_fault(name: &str, version: Version) -> Option<Fault> {
    let sentence = if name.starts_with('.') {
        "its name begins with a dot"
    } else if name.bytes().filter(|byte| *byte == b'.').count() > 1 {
        "its name has more than one dot"
    } else if version.wants_conf_suffix() && name.contains('.') && !name.ends_with(".conf") {
        "its name does not end in .conf"
    } else {
        return None;
    };
    Some(Fault { line: None, sentence: sentence.to_owned(), rejects: true })
}

/// What auditd has against a plugin's configuration. `facts` are those of the entry itself, a link included.
pub fn conf_faults(facts: &Facts, version: Version) -> Vec<Fault> {
    let mut faults: Vec<String> = Vec::new();
    match facts.kind {
        Kind::File => {}
        Kind::Link if version.follows_links() => return Vec::new(),
        Kind::Link => faults.push(format!("is a symbolic link, which auditd {version} does not follow")),
        Kind::Folder | Kind::Other => faults.push("is not a regular file".to_owned()),
    }
    if facts.uid != 0 {
        faults.push(format!("belongs to user {}, not to root", facts.uid));
    }
    if facts.mode & 0o002 != 0 {
        faults.push(format!("may be written by everybody (mode {:04o})", facts.mode));
    } else if facts.mode & 0o020 != 0 && version.refuses_group_writable() {
        faults.push(format!("may be written by its group (mode {:04o})", facts.mode));
    }
    faults.into_iter().map(rejecting).collect()
}

/// What auditd has against a plugin's program. `facts` are those of what links lead to.
pub fn program_faults(facts: &Facts, version: Version) -> Vec<Fault> {
    let mut faults: Vec<String> = Vec::new();
    if facts.kind != Kind::File {
        faults.push("is not a regular file".to_owned());
    }
    if facts.uid != 0 {
        faults.push(format!("belongs to user {}, not to root", facts.uid));
    }
    let needed = version.program_mode();
    if facts.mode & needed != needed {
        faults.push(format!("has mode {:04o}; auditd {version} wants {needed:04o} in it", facts.mode));
    }
    if facts.mode & 0o022 != 0 && version.refuses_group_writable() {
        faults.push(format!("may be written by its group or everybody (mode {:04o})", facts.mode));
    }
    faults.into_iter().map(rejecting).collect()
}

/// What auditd says of a line that is none of its own.
pub(super) fn not_key_value(text: &str) -> String {
    format!("`{}` is not KEY = VALUE, with spaces (no tabs) around the =", text.trim())
}

fn rejecting(sentence: String) -> Fault {
    Fault { line: None, sentence, rejects: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: Version = Version::new(3, 0, 9);
    const V42: Version = Version::new(4, 2, 1);

    #[test]
    fn our_own_is_taken_everywhere() {
        let text = include_str!("../../packaging/plugins.d/audit-relay.conf");
        assert!(!PluginConf::parse(text, V42).active, "it comes inactive");
        let text = &text.replace("active = no", "active = yes");
        for version in [Version::new(2, 8, 5), V3, Version::new(4, 0, 5), V42] {
            let conf = PluginConf::parse(text, version);
            assert_eq!(conf.faults, [], "{version}");
            assert_eq!(conf.arguments, ["--config", "/etc/audit-relay.toml"]);
            assert!(conf.is_started() && conf.form == Form::String && conf.leads_to("audit-relay"));
        }
    }

    #[test]
    fn lines() {
        let conf = |text: &str, version| PluginConf::parse(text, version);
        let said = |text: &str, version| {
            conf(text, version)
                .faults
                .into_iter()
                .map(|fault| (fault.line, fault.sentence))
                .collect::<Vec<_>>()
        };
        assert_eq!(said("# a=b\n\nACTIVE = Yes\nPath = /sbin/x\n", V3), []);
        for (text, part) in [
            ("active=yes", "is not KEY = VALUE"),
            ("active\t=\tyes", "is not KEY = VALUE"),
            ("active =", "is not KEY = VALUE"),
            ("active = maybe", "active: `maybe` is not known"),
            ("active = yes # why", "one value is allowed"),
            ("active = yes\r", "carriage return"),
            ("verbose = yes", "`verbose` is no key"),
            ("path = sbin/x", "path: `sbin/x`"),
            ("path = /x/y", "path: `/x/y`"),
            ("format = text", "format: `text`"),
        ] {
            let found = said(text, V3);
            assert!(
                found.len() == 1 && found[0].0 == Some(1) && found[0].1.contains(part),
                "{text}: {found:?}"
            );
        }
        // Compliant to a scanner, nothing to auditd.
        let nothing = conf("active = yes\n", V3);
        assert!(!nothing.is_started() && nothing.faults[0].sentence.contains("no `path`"));
        assert!(conf("path = builtin_af_unix\n", V3).faults.is_empty());
    }

    #[test]
    fn arguments_and_lengths() {
        let text = "active = yes\npath = /sbin/x\nargs = one two three\n";
        let old = PluginConf::parse(text, V3);
        assert_eq!(old.arguments, ["one", "two"]);
        assert!(
            old.is_started() && old.faults.len() == 1 && old.faults[0].sentence.contains("drops `three`")
        );
        assert_eq!(PluginConf::parse(text, V42).arguments, ["one", "two", "three"]);
        let long = |bytes: usize| format!("# {}", "x".repeat(bytes - 2));
        for (version, most) in [(V3, 158), (V42, 510)] {
            assert_eq!(PluginConf::parse(&long(most), version).faults, [], "{version}");
            let over = PluginConf::parse(&long(most + 1), version).faults;
            assert!(over.len() == 1 && !over[0].rejects, "{version}: {over:?}");
        }
    }

    #[test]
    fn behind_a_filter() {
        let text = "active = yes\npath = /sbin/audisp-filter\n\
                    args = allowlist /etc/audit/audisp-filter.conf /usr/sbin/audit-relay\n";
        assert!(PluginConf::parse(text, V42).leads_to("audit-relay"));
        assert!(!PluginConf::parse(text, V42).leads_to("audisp-syslog"));
    }

    #[test]
    fn names() {
        for (name, v3, v42) in [
            ("audit-relay.conf", true, true),
            ("relay", true, true),
            (".relay.conf", false, false),
            ("relay.conf.dpkg-old", false, false),
            ("relay.conf~", true, false),
            ("relay.rpmsave", true, false),
        ] {
            assert_eq!(name_fault(name, V3).is_none(), v3, "{name}");
            assert_eq!(name_fault(name, V42).is_none(), v42, "{name}");
        }
    }

    #[test]
    fn owners_and_modes() {
        let file = |uid, mode| Facts { kind: Kind::File, uid, gid: 0, mode };
        for (facts, v3, v42) in [
            (file(0, 0o640), true, true),
            (file(0, 0o660), true, false),
            (file(0, 0o646), false, false),
            (file(1, 0o640), false, false),
            (Facts { kind: Kind::Link, ..file(0, 0o777) }, true, true),
            (Facts { kind: Kind::Folder, ..file(0, 0o755) }, false, false),
        ] {
            assert_eq!(conf_faults(&facts, V3).is_empty(), v3, "{facts:?}");
            assert_eq!(conf_faults(&facts, V42).is_empty(), v42, "{facts:?}");
        }
        let link = Facts { kind: Kind::Link, ..file(0, 0o777) };
        assert!(!conf_faults(&link, Version::new(4, 0, 5)).is_empty());
        for (facts, v3, v42) in [
            (file(0, 0o755), true, true),
            (file(0, 0o750), true, true),
            (file(0, 0o777), true, false),
            (file(0, 0o555), false, true),
            (file(0, 0o700), false, false),
            (file(1, 0o755), false, false),
        ] {
            assert_eq!(program_faults(&facts, V3).is_empty(), v3, "{facts:?}");
            assert_eq!(program_faults(&facts, V42).is_empty(), v42, "{facts:?}");
        }
    }
}
