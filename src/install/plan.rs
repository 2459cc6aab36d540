//! What is to be changed so that auditd starts the relay, and so that it no longer does.
//!
//! Promise: for what was found on a machine and what is wanted, the files that change, each with its text before and
//! after, or one sentence that says why nothing may be changed. What [`install`] plans is taken by auditd of that version:
//! the texts are read back by auditd's own rules before they are proposed. Law: pure; nothing here opens a file.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::DEFAULT_FILE;
use crate::site::plugin::{self, Facts, Kind};
use crate::site::{KillMode, Plugin, PluginConf, Version, unit};

/// Name of the relay's own plugin configuration.
pub const OWN: &str = "audit-relay.conf";

/// Name of the configuration that compliance checks look for.
pub const SYSLOG: &str = "syslog.conf";

/// Mode of a plugin's configuration: taken by every auditd, and read by root alone.
const CONF_MODE: u32 = 0o640;

/// Mode of the relay's configuration, which the relay reads again without root.
const SETTINGS_MODE: u32 = 0o644;

/// Mode of a drop-in, which everybody may read as they may the unit.
const DROP_IN_MODE: u32 = 0o644;

/// auditd's own unit from 4.2 on has systemd kill the relay as soon as auditd has gone.
const DROP_IN: &str = "# Written by audit-relay install; taken out again by audit-relay uninstall.\n\
    # With KillMode=mixed systemd kills what auditd has started as soon as auditd itself has ended. The relay then has no\n\
    # time to deliver what it holds, or to hand it over to the next one.\n\
    [Service]\nKillMode=control-group\n";

/// A file that may be changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// There is none.
    Absent,
    /// A regular file with this text.
    Text(String, Rights),
    /// Something that must not be changed: a sentence, to stand behind its name.
    Untouchable(String),
}

impl State {
    /// The text, if it is one.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text, _) => Some(text),
            Self::Absent | Self::Untouchable(_) => None,
        }
    }

    fn rights(&self) -> Option<Rights> {
        match self {
            Self::Text(_, rights) => Some(*rights),
            Self::Absent | Self::Untouchable(_) => None,
        }
    }
}

/// What was found on the machine. Paths are those of the machine that is looked at.
#[derive(Clone, Debug)]
pub struct Found {
    /// auditd's version; `None`: there is no auditd.
    pub version: Option<Version>,
    /// What auditd refuses in its own configuration: sentences.
    pub settings_faults: Vec<String>,
    /// Why auditd starts no plugin at all: a sentence.
    pub plugins_off: Option<String>,
    /// Folder of the plugin configurations.
    pub folder: PathBuf,
    /// Whether it is there.
    pub folder_exists: bool,
    /// What is in it.
    pub plugins: Vec<Plugin>,
    /// `audit-relay.conf` in it.
    pub own: State,
    /// `syslog.conf` in it.
    pub syslog: State,
    /// The relay's configuration.
    pub settings: State,
    /// How systemd ends what auditd has started, and the file that decides it; `None`: auditd has no unit here.
    pub kill_mode: Option<(KillMode, PathBuf)>,
    /// [`unit::OURS`].
    pub drop_in: State,
    /// The relay's program, links followed; `None`: it is not there.
    pub program: Option<Facts>,
}

impl Found {
    /// The plugins that auditd is told to start, well or not, and that lead to one of these programs. Where auditd's version is
    /// not known, it may be one that looks at more names.
    pub fn relays(&self, programs: &[String]) -> impl Iterator<Item = &Plugin> {
        let leads = |plugin: &&Plugin| {
            let is_copy = plugin.is_passed_over(self.version.unwrap_or(Version::new(3, 0, 0)));
            !is_copy && programs.iter().any(|program| plugin.is_active_and_leads_to(program))
        };
        self.plugins.iter().filter(leads)
    }
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The program that auditd is to start.
    pub program: PathBuf,
    /// The relay's configuration, and whether it is where the relay looks by itself.
    pub settings: (PathBuf, bool),
    /// Its text, if settings were named.
    pub settings_text: Option<String>,
    /// Its text where none were named and there is no file.
    pub usual_text: String,
    /// Stand in for audisp-syslog, in its file.
    pub replace_syslog: bool,
}

/// Whose a file is, and what may be done with it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rights {
    /// Owner. What older versions have written down is root's.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Rights {
    /// Root's.
    pub const fn of_root(mode: u32) -> Self {
        Self { uid: 0, gid: 0, mode }
    }
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.uid, self.gid) {
            (0, 0) => write!(f, "root:root {:04o}", self.mode),
            (uid, gid) => write!(f, "{uid}:{gid} {:04o}", self.mode),
        }
    }
}

/// One file that changes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Its path on the machine that is looked at.
    pub path: PathBuf,
    /// Its text before; `None`: there is none.
    pub before: Option<String>,
    /// Its text after; `None`: it is removed.
    pub after: Option<String>,
    /// What it is to be after, where it is then.
    #[serde(flatten)]
    pub rights: Rights,
    /// What it was before. `None`: it was not there, or an older version has written this down.
    #[serde(default)]
    pub was: Option<Rights>,
}

impl Change {
    /// The same the other way round.
    pub fn back(&self) -> Self {
        Self {
            path: self.path.clone(),
            before: self.after.clone(),
            after: self.before.clone(),
            rights: self.was.unwrap_or(self.rights),
            was: self.after.as_ref().map(|_| self.rights),
        }
    }
}

/// Plans what makes auditd start the relay. Empty: it does already.
///
/// # Errors
/// A sentence with the remedy.
pub fn install(found: &Found, wish: &Wish) -> Result<Vec<Change>, String> {
    let Some(version) = found.version else {
        return Err(
            "there is no auditd here; install it (Debian: apt install auditd; Fedora: dnf install audit), \
                    and then again"
                .to_owned(),
        );
    };
    if let Some(fault) = found.settings_faults.first() {
        return Err(format!("auditd does not take its own configuration: {fault}; repair that first"));
    }
    if let Some(why) = &found.plugins_off {
        return Err(format!(
            "auditd {version} would start no plugin: {why}; put `dispatcher = /sbin/audispd` there, and run this again"
        ));
    }
    if !found.folder_exists {
        return Err(format!("auditd {version} has no folder {}", found.folder.display()));
    }
    let name = wish.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = found.folder.join(if wish.replace_syslog { SYSLOG } else { OWN });
    let others = found.plugins.iter().filter(|other| other.file != file);
    for other in others.filter(|other| !other.is_passed_over(version)) {
        if other.is_active_and_leads_to(&name) {
            return Err(format!(
                "auditd is told to start the relay already, by {}; with a second one every record would be sent twice. \
                 Run: audit-relay uninstall",
                other.file.display()
            ));
        }
        let active = other.conf.as_ref().is_none_or(|conf| conf.active);
        let fault = other.faults.iter().find(|fault| fault.rejects).filter(|_| active);
        if let Some(fault) = fault.filter(|_| version.reload_is_all_or_nothing()) {
            return Err(format!(
                "auditd {version} changes nothing at a reload while {} {}; repair or remove it first",
                other.file.display(),
                fault.sentence
            ));
        }
    }
    let mut changes = Vec::new();
    changes.extend(settings(found, wish)?);
    changes.extend(drop_in(found)?);
    changes.extend(conf(found, wish, version, file)?);
    Ok(changes)
}

/// The relay's own configuration.
fn settings(found: &Found, wish: &Wish) -> Result<Option<Change>, String> {
    let path = &wish.settings.0;
    let named = path.display();
    match (&found.settings, &wish.settings_text) {
        (State::Absent, text) => Ok(Some(Change {
            path: path.clone(),
            before: None,
            after: Some(text.clone().unwrap_or_else(|| wish.usual_text.clone())),
            rights: Rights::of_root(SETTINGS_MODE),
            was: None,
        })),
        (State::Text(there, _), Some(text)) if there != text => Err(format!(
            "{named} is there already and is not overwritten; edit it and leave the settings out here, or name another \
             file with --config"
        )),
        (State::Text(..), _) => Ok(None),
        (State::Untouchable(why), _) => Err(format!("{named} {why}")),
    }
}

/// What leaves the relay time to end when auditd's unit is stopped. See [`overruled`] for where it would not.
fn drop_in(found: &Found) -> Result<Option<Change>, String> {
    let Some((KillMode::Mixed, by)) = &found.kill_mode else { return Ok(None) };
    match &found.drop_in {
        State::Absent if would_decide(by) => Ok(Some(Change {
            path: unit::OURS.into(),
            before: None,
            after: Some(DROP_IN.to_owned()),
            rights: Rights::of_root(DROP_IN_MODE),
            was: None,
        })),
        State::Absent | State::Text(..) => Ok(None),
        State::Untouchable(why) => Err(format!("{} {why}", unit::OURS)),
    }
}

/// Why systemd will kill the relay with auditd although it is installed, a drop-in of somebody else's, or ours as somebody
/// has changed it, having the last word: a sentence with the remedy.
pub fn overruled(found: &Found) -> Option<String> {
    let Some((KillMode::Mixed, by)) = &found.kill_mode else { return None };
    let by = match (&found.drop_in, would_decide(by)) {
        (State::Absent, true) => return None,
        (_, true) => Path::new(unit::OURS),
        (_, false) => by,
    };
    Some(format!(
        "{} leaves auditd.service KillMode=mixed, with which systemd kills the relay before it has delivered what it \
         holds; put KillMode=control-group there, below [Service], and run: systemctl daemon-reload",
        by.display()
    ))
}

/// True if a drop-in of ours has the last word over `by`, the unit or another drop-in: systemd reads them by their names.
fn would_decide(by: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(OsStr::to_owned);
    name(by).as_deref() == Some(OsStr::new(unit::NAME)) || name(by) < name(Path::new(unit::OURS))
}

/// The plugin's configuration.
fn conf(found: &Found, wish: &Wish, version: Version, path: PathBuf) -> Result<Option<Change>, String> {
    let state = if wish.replace_syslog { &found.syslog } else { &found.own };
    let (settings, usual) = &wish.settings;
    let (Some(program), Some(settings)) = (one_word(&wish.program), one_word(settings)) else {
        return Err(
            "auditd takes no path with a space in it, for the relay or for its configuration".to_owned()
        );
    };
    let (before, rights) = match state {
        State::Absent => (None, Rights::of_root(CONF_MODE)),
        // What is not root's, every auditd refuses; what others may write, 4.2 does. Who may read it is kept.
        State::Text(text, was) => {
            (Some(text.clone()), Rights { uid: 0, gid: was.gid, mode: was.mode & !0o022 })
        }
        State::Untouchable(why) => return Err(format!("{} {why}", path.display())),
    };
    let after = match &before {
        None => {
            let args = if wish.replace_syslog && *usual {
                "LOG_INFO LOG_LOCAL6".to_owned()
            } else {
                format!("--config {settings}")
            };
            format!(
                "# Written by audit-relay install; taken out again by audit-relay uninstall.\n\
                 active = yes\ndirection = out\npath = {program}\ntype = always\nargs = {args}\nformat = string\n"
            )
        }
        Some(text) => {
            let mut text = set(&set(text, "active", "yes"), "path", program);
            if !PluginConf::parse(&text, version).arguments.iter().any(|word| word == settings) {
                // audisp-syslog's words are the relay's too, and no configuration need be named where it is looked for.
                let keeps_words = wish.replace_syslog && *usual;
                if !keeps_words {
                    text = set(&text, "args", &format!("--config {settings}"));
                }
            }
            // auditd 2.x has audisp-syslog built in.
            if is_set(&text, "type", "builtin") {
                text = set(&text, "type", "always");
            }
            text
        }
    };
    if let Some(fault) = judge(&after, version) {
        return Err(format!("{} would not be taken by auditd {version}: {fault}", path.display()));
    }
    let Some(facts) = &found.program else {
        return Err(format!(
            "{program} is not there, as auditd sees it; put it into its root first: \
             install -D -o root -g root -m 0755 PROGRAM ROOT/usr/sbin/audit-relay"
        ));
    };
    if let Some(fault) = plugin::program_faults(facts, version).first() {
        return Err(format!(
            "{program} {}; run: install -o root -g root -m 0755 {program} /usr/sbin/audit-relay, and install from there",
            fault.sentence
        ));
    }
    let was = state.rights();
    let same = before.as_ref() == Some(&after) && was == Some(rights);
    Ok((!same).then_some(Change { path, before, after: Some(after), rights, was }))
}

fn one_word(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| !text.is_empty() && !text.contains(|c: char| c.is_whitespace()))
}

/// The first thing that auditd, or the relay that it starts, has against a plugin's configuration.
fn judge(text: &str, version: Version) -> Option<String> {
    let conf = PluginConf::parse(text, version);
    if let Some(fault) = conf.faults.first() {
        return Some(match fault.line {
            Some(line) => format!("line {line} {}", fault.sentence),
            None => fault.sentence.clone(),
        });
    }
    let words = std::iter::once("audit-relay").chain(conf.arguments.iter().map(String::as_str));
    match crate::cli::parse(words.map(Into::into)) {
        Ok(cli) => cli.options.settings().err(),
        Err(_) => Some(format!("the relay does not know its args: {}", conf.arguments.join(" "))),
    }
}

fn is_set(text: &str, key: &str, value: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let mut is = |wanted: &str| words.next().is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        is(key) && is("=") && is(value)
    })
}

/// Sets a key of a plugin's configuration in each line that has it, or else in a new one at the end. Every other byte stays.
fn set(text: &str, key: &str, value: &str) -> String {
    let is_of_key = |line: &str| {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        words.next().is_some_and(|word| word.eq_ignore_ascii_case(key)) && words.next() == Some("=")
    };
    let mut out = String::with_capacity(text.len() + 64);
    let mut done = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        if is_of_key(bare) {
            done = true;
            let words: Vec<&str> = bare.split(' ').filter(|word| !word.is_empty()).skip(2).collect();
            if words.join(" ").eq_ignore_ascii_case(value) {
                out.push_str(line);
            } else {
                let _ = write!(out, "{key} = {value}{}", &line[bare.len()..]);
            }
        } else {
            out.push_str(line);
        }
    }
    if !done {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        let _ = writeln!(out, "{key} = {value}");
    }
    out
}

/// What [`uninstall`] plans.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Removal {
    /// What makes auditd start the relay no longer; before the reload.
    pub first: Vec<Change>,
    /// What may go when the relay has ended.
    pub then: Vec<Change>,
    /// What stays: sentences.
    pub left: Vec<String>,
    /// Names of the programs that auditd then no longer starts, and that are the relay: one that install has put there may
    /// be called otherwise than the one that uninstalls.
    pub programs: Vec<String>,
}

/// Plans what makes auditd start the relay (a program of that `name`) no longer. `written` is what install has changed, and
/// what each of those files is now.
///
/// # Errors
/// A sentence with the remedy.
pub fn uninstall(found: &Found, name: &str, written: &[(Change, State)]) -> Result<Removal, String> {
    let mut removal = Removal { programs: vec![name.to_owned()], ..Removal::default() };
    // Also in a folder that an auditd of another version, or with `-c`, reads.
    let of_plugins = |change: &Change| {
        let of_any = |text: &String| parsed(text, found.version).path.is_some();
        change.path.parent() == Some(&*found.folder)
            || (change.path != Path::new(unit::OURS) && change.after.as_ref().is_some_and(of_any))
    };
    for (change, _) in written.iter().filter(|(change, _)| of_plugins(change)) {
        let other = change.after.as_deref().and_then(|text| called_otherwise(text, name, found.version));
        removal.programs.extend(other.filter(|other| !removal.programs.contains(other)));
    }
    let programs = removal.programs.clone();
    // Files that stay, and that led to the relay by somebody's wish.
    let mut stay: Vec<(&Path, String)> = Vec::new();
    for (change, now) in written.iter().filter(|(change, _)| of_plugins(change)) {
        let path = change.path.display();
        match now {
            State::Absent => {}
            State::Untouchable(why) => return Err(format!("{path} {why}")),
            State::Text(text, rights) if Some(text) == change.after.as_ref() => {
                // It may have led to the relay before install as well.
                let restored = change.before.as_ref().map(|text| silenced(text, &programs, found.version));
                if restored != change.before {
                    stay.extend(restored.clone().map(|text| (&*change.path, text)));
                }
                removal.first.push(Change {
                    path: change.path.clone(),
                    before: Some(text.clone()),
                    after: restored,
                    // What somebody has set since is meant.
                    rights: change.was.filter(|_| *rights == change.rights).unwrap_or(*rights),
                    was: Some(*rights),
                });
            }
            State::Text(text, rights) => {
                // An install that was interrupted has put on record what it did not come to.
                let untouched = Some(text) == change.before.as_ref();
                let quiet = match untouched {
                    true => silenced(text, &programs, found.version),
                    false => quieted(text, &programs, change.before.as_deref(), found.version),
                };
                if !untouched || quiet != *text {
                    stay.push((&change.path, quiet.clone()));
                }
                if !untouched {
                    removal.left.push(format!("{path}, which has been changed since it was installed"));
                }
                if quiet != *text {
                    let after = Some(quiet);
                    let (path, before) = (change.path.clone(), Some(text.clone()));
                    removal.first.push(Change { path, before, after, rights: *rights, was: Some(*rights) });
                }
            }
        }
    }
    // A mode that auditd refuses may be repaired tomorrow; a name that it passes over is a copy's.
    for plugin in found.relays(&programs) {
        if written.iter().any(|(change, _)| change.path == plugin.file) {
            continue;
        }
        let state = match plugin.file.file_name().and_then(|name| name.to_str()) {
            Some(OWN) => &found.own,
            Some(SYSLOG) => &found.syslog,
            _ => {
                return Err(format!(
                    "{} starts the relay, and was not written by audit-relay install: set active = no in it, \
                     and reload auditd",
                    plugin.file.display()
                ));
            }
        };
        match state {
            State::Text(text, rights) => {
                let quiet = set(text, "active", "no");
                stay.push((&plugin.file, quiet.clone()));
                removal.first.push(Change {
                    path: plugin.file.clone(),
                    before: Some(text.clone()),
                    after: Some(quiet),
                    rights: *rights,
                    was: Some(*rights),
                });
            }
            State::Absent => {}
            State::Untouchable(why) => return Err(format!("{} {why}", plugin.file.display())),
        }
    }
    for (change, now) in written.iter().filter(|(change, _)| !of_plugins(change)) {
        let namer =
            stay.iter().find(|(_, text)| names(&parsed(text, found.version), &programs, &change.path));
        match now.text() {
            Some(_) if namer.is_some() => {
                let namer = namer.map_or(Path::new(""), |(file, _)| file).display();
                removal.left.push(format!("{}, which {namer} names", change.path.display()));
            }
            Some(text) if Some(text) == change.after.as_deref() && change.before.is_none() => {
                removal.then.push(Change { before: Some(text.to_owned()), after: None, ..change.clone() });
            }
            Some(_) => {
                removal.left.push(format!(
                    "{}, which has been changed since it was installed",
                    change.path.display()
                ));
            }
            None => {}
        }
    }
    Ok(removal)
}

/// The name of the program that a text of install's starts, if it is not `name`.
fn called_otherwise(text: &str, name: &str, version: Option<Version>) -> Option<String> {
    let conf = parsed(text, version);
    let path = conf.path.as_deref().filter(|_| !conf.leads_to(name))?;
    Some(path.file_name()?.to_str()?.to_owned())
}

/// A text that was changed since install, so that it starts the relay no longer: who was there before is put in its place,
/// as active as it was.
fn quieted(text: &str, programs: &[String], before: Option<&str>, version: Option<Version>) -> String {
    if !leads_to_any(&parsed(text, version), programs) {
        return text.to_owned();
    }
    let old = before.map(|text| parsed(text, version));
    match old.as_ref().and_then(|conf| conf.path.as_deref().and_then(Path::to_str).map(|path| (conf, path))) {
        Some((old, path)) if !leads_to_any(old, programs) => {
            let text = set(&set(text, "path", path), "active", if old.active { "yes" } else { "no" });
            // Words behind a filter that lead to the relay are there still.
            silenced(&text, programs, version)
        }
        _ => set(text, "active", "no"),
    }
}

/// A text so that it starts none of these programs; otherwise as it is.
fn silenced(text: &str, programs: &[String], version: Option<Version>) -> String {
    let conf = parsed(text, version);
    match conf.active && leads_to_any(&conf, programs) {
        true => set(text, "active", "no"),
        false => text.to_owned(),
    }
}

fn leads_to_any(conf: &PluginConf, programs: &[String]) -> bool {
    programs.iter().any(|program| conf.leads_to(program))
}

/// True if the relay that such a file leads to has its configuration in `settings`.
fn names(conf: &PluginConf, programs: &[String], settings: &Path) -> bool {
    let named = |word: &String| Path::new(word.strip_prefix("--config=").unwrap_or(word)) == settings;
    let names_none = !conf.arguments.iter().any(|word| word.starts_with("--config"));
    leads_to_any(conf, programs)
        && (conf.arguments.iter().any(named) || (names_none && settings == Path::new(DEFAULT_FILE)))
}

/// As the newest auditd reads it, which takes the longest lines and the most words, where the version is not known.
fn parsed(text: &str, version: Option<Version>) -> PluginConf {
    PluginConf::parse(text, version.unwrap_or(Version::new(4, 2, 0)))
}

/// Shows changes as `diff` would, by lines.
pub fn show(changes: &[Change]) -> String {
    let mut out = String::new();
    for change in changes {
        let what = match (&change.before, &change.after) {
            (None, Some(_)) => format!("new, {}", change.rights),
            (Some(_), None) => "removed".to_owned(),
            (before, after) => match change.was.filter(|was| *was != change.rights) {
                Some(was) if before == after => format!("{was} becomes {}", change.rights),
                Some(was) => format!("changed, {was} becomes {}", change.rights),
                None => "changed".to_owned(),
            },
        };
        let _ = writeln!(out, "{}: {what}", change.path.display());
        let lines = |text: &Option<String>| -> Vec<String> {
            text.iter().flat_map(|text| text.lines().map(str::to_owned)).collect()
        };
        let (old, new) = (lines(&change.before), lines(&change.after));
        if old.len() == new.len() {
            for (old, new) in old.iter().zip(&new).filter(|(old, new)| old != new) {
                let _ = writeln!(out, "  - {old}\n  + {new}");
            }
            continue;
        }
        let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        for (sign, lines) in [('-', &old[same..]), ('+', &new[same..])] {
            for line in lines {
                let _ = writeln!(out, "  {sign} {line}");
            }
        }
    }
    out
}

/// What a file is to somebody who wants to change it.
pub fn state_of(facts: Option<&Facts>, text: Option<String>) -> State {
    match (facts, text) {
        (None, _) => State::Absent,
        (Some(facts), _) if facts.kind == Kind::Link => State::Untouchable(
            "is a symbolic link, through which nothing is changed; put the file in its place".to_owned(),
        ),
        (Some(facts), _) if facts.kind != Kind::File => {
            State::Untouchable("is not a regular file".to_owned())
        }
        (Some(facts), Some(text)) => {
            State::Text(text, Rights { uid: facts.uid, gid: facts.gid, mode: facts.mode })
        }
        (Some(_), None) => State::Untouchable("is not text (UTF-8), or longer than 1 MiB".to_owned()),
    }
}

#[cfg(test)]
mod tests;
