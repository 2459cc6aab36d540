//! `audit-relay install` and `uninstall`: from a program on the disk to records on their way, and back.
//!
//! Promise: install shows what it changes, changes it, has auditd read its configuration again, watches a record go through
//! the relay, and puts everything back as it was if any of that fails. uninstall takes the relay out of auditd first and
//! removes files only when it has ended, because an auditd whose plugin has no program loses more than the plugin. Law:
//! what is to be changed is decided in [`plan`], which is pure; what exists already is never overwritten with something
//! else than it says, the relay's configuration not at all.

pub mod apply;
pub mod live;
pub mod lock;
pub mod plan;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::Uid;

use self::live::{Daemon, Seen, Watch};
use self::lock::Lock;
use self::plan::{Change, Found, State, Wish};
use crate::config::{Config, DEFAULT_FILE, Settings};
use crate::site::{self, PluginConf, Reload, Root, Site, Version, unit};
use crate::status::Sources;

/// How long auditd may take to end a relay, which may need its whole drain time for it.
const LETTING_GO: Duration = Duration::from_secs(15);

/// Where a configuration that is written here has the relay leave its accounting.
const REPORT: &str = "/run/audit-relay.json";

/// What to do, as the command line has it.
#[derive(Debug)]
pub struct Request {
    /// Show what would change, and change nothing.
    pub dry_run: bool,
    /// The machine's `/`.
    pub root: PathBuf,
    /// auditd's configuration folder; `None`: the running auditd's, or the usual one.
    pub audit_folder: Option<PathBuf>,
    /// Change files, and leave auditd alone.
    pub files_only: bool,
}

/// What to install.
#[derive(Debug)]
pub struct Installation {
    /// Stand in for audisp-syslog, in its file.
    pub replace_syslog: bool,
    /// The relay's configuration; `None`: where the relay looks by itself.
    pub config: Option<PathBuf>,
    /// Settings that were named.
    pub settings: Settings,
    /// How long to watch, in all.
    pub patience: Duration,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Failure {
    /// Only root can do it.
    NotRoot,
    /// The configuration is wrong: a sentence.
    Config(String),
    /// Anything else: a sentence with the remedy.
    Refused(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRoot => {
                f.write_str("this changes what auditd starts, which only root can; run it as root")
            }
            Self::Config(sentence) | Self::Refused(sentence) => f.write_str(sentence),
        }
    }
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::Refused(sentence)
    }
}

/// A machine, its auditd and what concerns the relay there.
struct Ground {
    root: Root,
    daemon: Option<Daemon>,
    found: Found,
    /// As auditd sees it.
    program: PathBuf,
    /// As it runs here; another path if auditd lives in another root.
    here: PathBuf,
}

impl Ground {
    fn look(request: &Request, settings: &Path) -> Result<Self, Failure> {
        let root = Root::at(&request.root);
        if !request.dry_run {
            may_change(&root)?;
        }
        let daemon = match root.is_host() && !request.files_only {
            true => Daemon::find().unwrap_or_default(),
            false => None,
        };
        let site = Site::look(&root);
        let running = daemon.as_ref().and_then(|daemon| daemon.version);
        let version = running
            .or(site.version.map(|(version, _)| version))
            .or_else(|| daemon.as_ref().map(|_| site.version_or_newest()));
        let assumed = version.unwrap_or(site.version_or_newest());
        let audit_folder =
            request.audit_folder.clone().or_else(|| daemon.as_ref().map(|daemon| daemon.folder.clone()));
        let audit_folder = audit_folder.unwrap_or_else(|| "/etc/audit".into());
        let (settings_faults, named) = auditd_settings(&root, &audit_folder, assumed);
        let folder = named.unwrap_or_else(|| assumed.plugin_folder().into());
        let plugins = site::plugins(&root, &folder, assumed);
        let here = std::env::current_exe()
            .map_err(|error| format!("cannot find out where this program is: {error}"))?;
        let program = program_in(&root, &here);
        let facts = apply::program(&root, &program)?;
        let found = Found {
            version,
            settings_faults,
            plugins_off: plugins_off(&root, &audit_folder, assumed),
            folder_exists: plugins.is_ok(),
            plugins: plugins.unwrap_or_default(),
            own: apply::look(&root, &folder.join(plan::OWN)),
            syslog: apply::look(&root, &folder.join(plan::SYSLOG)),
            settings: apply::look(&root, settings),
            kill_mode: site::kill_mode(&root),
            drop_in: apply::look(&root, Path::new(unit::OURS)),
            folder,
            program: facts,
        };
        Ok(Self { root, daemon, found, program, here })
    }

    /// Has auditd start the relay as it now stands on the disk, and watches it.
    fn restart(
        &self,
        daemon: &Daemon,
        sources: &Sources,
        words: Option<&[String]>,
        limit: Duration,
    ) -> Result<Seen, String> {
        let restarts = self.found.version.is_none_or(|version| version.reload() == Reload::Restart);
        let old = if restarts { daemon.relays(&self.program) } else { Vec::new() };
        daemon.reload().map_err(|error| format!("auditd (pid {}): {error}", daemon.pid))?;
        live::watch(daemon, &Watch { program: &self.program, sources, words, old: &old, limit })
    }

    /// Removes what an install or uninstall that was killed has left beside the files that they write.
    fn sweep(&self, more: &[&Path]) {
        let plugins = [plan::OWN, plan::SYSLOG].map(|name| self.found.folder.join(name));
        let usual = [apply::RECORD, unit::OURS, DEFAULT_FILE].map(Path::new);
        apply::sweep(
            &self.root,
            plugins.iter().map(PathBuf::as_path).chain(usual).chain(more.iter().copied()),
        );
    }

    /// True if it is in the folder of the plugin configurations.
    fn is_plugins(&self, path: &Path) -> bool {
        path.parent() == Some(&*self.found.folder)
    }

    /// The program's name, by which a plugin's configuration is known for the relay's.
    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Where an auditd in `root` finds the program that runs as `here`: below the root, at the same path in it, or where a
/// package puts it.
fn program_in(root: &Root, here: &Path) -> PathBuf {
    const USUAL: &str = "/usr/sbin/audit-relay";
    let folder = fs::canonicalize(root.folder()).unwrap_or_else(|_| root.folder().to_path_buf());
    match here.strip_prefix(&folder) {
        Ok(inside) => Path::new("/").join(inside),
        Err(_) if !root.find(here).exists() && root.find(USUAL).exists() => USUAL.into(),
        Err(_) => here.to_path_buf(),
    }
}

/// What auditd refuses in its own configuration, and the folder of plugins that it names.
fn auditd_settings(root: &Root, folder: &Path, version: Version) -> (Vec<String>, Option<PathBuf>) {
    let file = match version.has_audispd() {
        true => PathBuf::from(version.dispatcher_conf()),
        false => folder.join("auditd.conf"),
    };
    let Ok(text) = site::read_text(&root.find(&file)) else { return (Vec::new(), None) };
    let settings = site::Settings::parse(&text, version);
    let faults = settings.faults.iter().filter(|fault| fault.rejects);
    let faults = faults.map(|fault| match fault.line {
        Some(line) => format!("{}, line {line}: {}", file.display(), fault.sentence),
        None => format!("{}: {}", file.display(), fault.sentence),
    });
    (faults.collect(), settings.plugin_dir().map(PathBuf::from))
}

/// Why auditd starts no plugin, whatever their configurations say.
fn plugins_off(root: &Root, folder: &Path, version: Version) -> Option<String> {
    let file = folder.join("auditd.conf");
    let text = site::read_text(&root.find(&file)).ok()?;
    let why = site::Settings::parse(&text, version).starts_no_plugins(version)?;
    Some(format!("{} {why}", file.display()))
}

/// `audit-relay install`.
///
/// # Errors
/// [`Failure`]; then everything is as it was before.
pub fn install(request: &Request, what: Installation) -> Result<(), Failure> {
    let settings = absolute(what.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE)))?;
    let _lock = alone(request)?;
    let ground = Ground::look(request, &settings)?;
    let named = what.settings != Settings::default();
    let settings_text = match named {
        true => Some(text_of(what.settings)?),
        false => None,
    };
    let wish = Wish {
        program: ground.program.clone(),
        settings: (settings.clone(), settings == Path::new(DEFAULT_FILE)),
        settings_text,
        usual_text: text_of(Settings { to: Some(vec!["unix:/dev/log".to_owned()]), ..Settings::default() })?,
        replace_syslog: what.replace_syslog,
    };
    let changes = plan::install(&ground.found, &wish)?;
    show(&changes, "auditd starts the relay already; no file changes");
    if let Some(why) = plan::overruled(&ground.found) {
        say(&format!("warning: {why}"));
    }
    if request.dry_run {
        return Ok(());
    }
    if ground.root.is_host() && !request.files_only && ground.daemon.is_none() {
        return Err(Failure::Refused(
            "auditd does not run, so nothing has been changed; start it (service auditd start) and run this again, or \
             only have the files written with --files-only"
                .to_owned(),
        ));
    }
    ground.sweep(&[&settings]);
    let record = apply::remember(&ground.root, &changes)?;
    let mut done = Vec::new();
    match carry_out(&ground, &wish, &changes, &mut done, what.patience) {
        Ok(()) => Ok(()),
        Err(failure) => Err(take_back(&ground, &done, record, failure)),
    }
}

/// `audit-relay install --upgraded`, for packages: the program has been replaced on the disk. Nothing to do where auditd does
/// not start the relay, or does not run.
///
/// # Errors
/// [`Failure`]: auditd does not start the new program.
pub fn upgraded(request: &Request, patience: Duration) -> Result<(), Failure> {
    let ground = Ground::look(request, Path::new(DEFAULT_FILE))?;
    let name = ground.name();
    let names = [name.clone()];
    let Some(plugin) = ground.found.relays(&names).next() else { return Ok(()) };
    let Some(daemon) = &ground.daemon else { return Ok(()) };
    if request.dry_run {
        return Ok(());
    }
    say(&format!("{}: auditd (pid {}) starts the new program: SIGHUP", plugin.file.display(), daemon.pid));
    let arguments = plugin.conf.as_ref().map(|conf| conf.arguments.clone()).unwrap_or_default();
    let words = plugin.conf.as_ref().and_then(|conf| own_words(conf, &name));
    // A receiver that is away is no fault of the upgrade.
    tell(&ground.restart(daemon, &sources_named(&arguments), words.as_deref(), patience)?);
    Ok(())
}

/// Until it is dropped nobody else installs or uninstalls. `None`: nothing is changed, so nobody need be alone.
fn alone(request: &Request) -> Result<Option<Lock>, Failure> {
    if request.dry_run {
        return Ok(None);
    }
    let root = Root::at(&request.root);
    may_change(&root)?;
    Ok(Some(Lock::take(&root)?))
}

fn may_change(root: &Root) -> Result<(), Failure> {
    match root.is_host() && !Uid::effective().is_root() {
        true => Err(Failure::NotRoot),
        false => Ok(()),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))
}

/// The settings as a file, once they are known to be right.
fn text_of(settings: Settings) -> Result<String, Failure> {
    // So that install can watch, and everybody else afterwards.
    let report = settings.report.clone().or_else(|| Some(REPORT.into()));
    let settings = Settings { report, ..settings };
    settings.clone().validate().map_err(Failure::Config)?;
    let text = toml::to_string(&settings).map_err(|error| Failure::Config(error.to_string()))?;
    Ok(format!(
        "# Written by audit-relay install. Every key: audit-relay.toml(5). Check with: audit-relay check\n\n{text}"
    ))
}

fn show(changes: &[Change], nothing: &str) {
    let shown = if changes.is_empty() { format!("{nothing}\n") } else { plan::show(changes) };
    say(shown.trim_end());
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn carry_out(
    ground: &Ground,
    wish: &Wish,
    changes: &[Change],
    done: &mut Vec<Change>,
    patience: Duration,
) -> Result<(), Failure> {
    let settings = &wish.settings.0;
    for change in changes {
        apply::make(&ground.root, change)?;
        done.push(change.clone());
        if change.path == *settings {
            check(ground, settings)?;
        }
    }
    if !changes.iter().any(|change| change.path == *settings) {
        check(ground, settings)?;
    }
    reload_units(&ground.root, changes);
    let Some(daemon) = &ground.daemon else {
        say("auditd was not told; it starts the relay when it starts, or reloads, itself");
        return Ok(());
    };
    say(&format!("auditd (pid {}): SIGHUP", daemon.pid));
    let words = words_after(ground, changes);
    match ground.restart(daemon, &sources_of(settings), words.as_deref(), patience)? {
        Seen::Unsent(to) => Err(format!(
            "the relay reads records, and nothing is sent to {}: is the receiver there, and does it take what is sent? \
             Its name, port and certificate: audit-relay check, and the system's log",
            to.join(", ")
        )
        .into()),
        seen => {
            tell(&seen);
            Ok(())
        }
    }
}

/// Has systemd read auditd's unit again if a drop-in has come or gone.
fn reload_units(root: &Root, changes: &[Change]) {
    if !root.is_host()
        || !site::under_systemd()
        || changes.iter().all(|change| change.path != Path::new(unit::OURS))
    {
        return;
    }
    let reload = Command::new("systemctl").arg("daemon-reload").stdin(Stdio::null()).output();
    let fault = match reload {
        Ok(output) if output.status.success() => return say("systemd: daemon-reload"),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    say(&format!("systemd has not read {} yet ({fault}); run: systemctl daemon-reload", unit::OURS));
}

fn tell(seen: &Seen) {
    match seen {
        Seen::Sent(to) => say(&format!("records arrive and go out to {}", to.join(", "))),
        Seen::Unsent(to) => say(&format!(
            "the relay runs and reads records; nothing has been sent to {} yet: audit-relay status",
            to.join(", ")
        )),
        Seen::OtherWords => say(
            "auditd goes on with the relay that it had, and with the words (args) that it had started it with; what has been \
             changed counts once auditd is restarted: service auditd restart",
        ),
        Seen::Running => say(
            "the relay runs; whether records arrive cannot be seen from here without `status` or `report` in its configuration",
        ),
    }
}

/// Has the relay check its configuration, in a process of its own, since it gives up root for it. Below a folder that process
/// goes there first, so that every path is that system's, and so is the account.
fn check(ground: &Ground, settings: &Path) -> Result<(), Failure> {
    let mut command = Command::new(&ground.here);
    command.arg("check");
    if !ground.root.is_host() {
        command.arg("--below").arg(ground.root.folder());
    }
    let output = command
        .arg("--config")
        .arg(settings)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", ground.here.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        if !said.is_empty() {
            say(&said);
        }
        return Ok(());
    }
    Err(Failure::Config(said.trim_start_matches("audit-relay: ").to_owned()))
}

/// The words that auditd gives the relay once these changes are made.
fn words_after(ground: &Ground, changes: &[Change]) -> Option<Vec<String>> {
    let name = ground.name();
    let changed = changes.iter().find(|change| ground.is_plugins(&change.path));
    match changed.and_then(|change| change.after.as_ref()) {
        Some(text) => own_words(&PluginConf::parse(text, ground.found.version?), &name),
        None => own_words(ground.found.relays(std::slice::from_ref(&name)).next()?.conf.as_ref()?, &name),
    }
}

/// The words in a plugin's configuration that are the relay's: not those of a filter before it.
fn own_words(conf: &PluginConf, name: &str) -> Option<Vec<String>> {
    let is_direct = conf.path.as_ref()?.file_name() == Some(name.as_ref());
    is_direct.then(|| conf.arguments.clone())
}

/// Where a relay with this configuration offers its numbers.
fn sources_of(settings: &Path) -> Sources {
    let config = Settings::from_file(settings, Uid::effective()).and_then(|settings| settings.validate());
    config.map_or_else(|_| Sources::default(), |config| Sources::of(&config))
}

/// Where a relay that auditd starts with these words does.
fn sources_named(words: &[String]) -> Sources {
    let config = || -> Option<Config> {
        let words = std::iter::once("audit-relay").chain(words.iter().map(String::as_str));
        let options = crate::cli::parse(words.map(Into::into)).ok()?.options;
        let file = options.config.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let settings = Settings::from_file(&file, Uid::effective()).unwrap_or_default();
        settings.overridden_by(options.settings().ok()?).validate().ok()
    };
    config().map_or_else(Sources::default, |config| Sources::of(&config))
}

/// Undoes what was done, latest first, and has auditd see it.
fn take_back(ground: &Ground, done: &[Change], record: Vec<Change>, why: Failure) -> Failure {
    let mut left = Vec::new();
    for change in done.iter().rev() {
        if let Err(error) = apply::undo(&ground.root, change) {
            left.push(error);
        }
    }
    if let Err(error) = apply::replace_record(&ground.root, record) {
        left.push(error);
    }
    reload_units(&ground.root, done);
    let was_told = done.iter().any(|change| ground.is_plugins(&change.path));
    if let Some(daemon) = ground.daemon.as_ref().filter(|_| was_told) {
        let names = [ground.name()];
        // One that it has started before, it goes on with.
        let had_one = ground.found.relays(&names).next().is_some();
        let told = daemon.reload().is_ok();
        if !(told && (had_one || daemon.lets_go(&names, LETTING_GO))) {
            left.push(format!("auditd (pid {}) has not ended the relay", daemon.pid));
        }
    }
    let mut sentence = why.to_string();
    match (done.is_empty(), left.is_empty()) {
        (true, true) => sentence.push_str("\naudit-relay: nothing has been changed"),
        (false, true) => sentence.push_str("\naudit-relay: everything is back as it was"),
        (_, false) => {
            let _ = write!(sentence, "\naudit-relay: NOT everything is back as it was: {}", left.join("; "));
        }
    }
    match why {
        Failure::Config(_) => Failure::Config(sentence),
        Failure::NotRoot | Failure::Refused(_) => Failure::Refused(sentence),
    }
}

/// `audit-relay uninstall`.
///
/// # Errors
/// [`Failure`]. What was deactivated stays so.
pub fn uninstall(request: &Request, keep_config: bool) -> Result<(), Failure> {
    let _lock = alone(request)?;
    let ground = Ground::look(request, Path::new(DEFAULT_FILE))?;
    let name = ground.name();
    let recorded = apply::recorded(&ground.root)?;
    let written: Vec<(Change, State)> = recorded
        .into_iter()
        .map(|change| {
            let now = apply::look(&ground.root, &change.path);
            (change, now)
        })
        .collect();
    let mut removal = plan::uninstall(&ground.found, &name, &written)?;
    // auditd's unit is none of the relay's configuration.
    let stays = |path: &Path| keep_config && !ground.is_plugins(path) && path != Path::new(unit::OURS);
    removal.left.extend(
        removal
            .then
            .extract_if(.., |change| stays(&change.path))
            .map(|change| change.path.display().to_string()),
    );
    let all: Vec<Change> = removal.first.iter().chain(&removal.then).cloned().collect();
    show(&all, "auditd does not start the relay; no file changes");
    if !request.dry_run {
        let paths: Vec<&Path> = written.iter().map(|(change, _)| change.path.as_path()).collect();
        ground.sweep(&paths);
        for change in &removal.first {
            apply::make(&ground.root, change)?;
        }
        match &ground.daemon {
            Some(daemon)
                if !removal.first.is_empty() || !daemon.relays_called(&removal.programs).is_empty() =>
            {
                say(&format!("auditd (pid {}): SIGHUP", daemon.pid));
                daemon.reload().map_err(|error| format!("auditd (pid {}): {error}", daemon.pid))?;
                if !daemon.lets_go(&removal.programs, LETTING_GO) {
                    return Err(Failure::Refused(format!(
                        "auditd (pid {}) has not ended the relay, so nothing more is removed; does the system's log say why \
                         it does not reload?",
                        daemon.pid
                    )));
                }
                say("auditd has ended the relay");
                let last = !ground
                    .found
                    .plugins
                    .iter()
                    .any(|other| other.is_started() && !other.is_active_and_leads_to(&name));
                if last && daemon.version.is_some_and(Version::starves_later_plugins) {
                    say("it was the last plugin: auditd will feed a new one only once it has been restarted");
                }
            }
            Some(_) => {}
            None => say("auditd was not told; where it runs, it ends the relay when it is reloaded"),
        }
        for change in &removal.then {
            apply::make(&ground.root, change)?;
        }
        // Of an install that was killed between the folder and the file.
        if written.iter().any(|(change, now)| change.path == Path::new(unit::OURS) && *now == State::Absent) {
            apply::remove_drop_ins_if_empty(&ground.root);
        }
        reload_units(&ground.root, &removal.then);
        // What stays because it was asked for may still be removed later.
        let paths: Vec<_> =
            written.iter().map(|(change, _)| change.path.clone()).filter(|path| !stays(path)).collect();
        apply::forget(&ground.root, &paths)?;
    }
    for left in &removal.left {
        say(&format!("left: {left}"));
    }
    if ground.found.settings != State::Absent
        && !removal.left.iter().any(|left| left.starts_with(DEFAULT_FILE))
        && !removal.then.iter().any(|change| change.path == Path::new(DEFAULT_FILE))
    {
        say(&format!("left: {DEFAULT_FILE}"));
    }
    Ok(())
}
