//! How the relay is configured: with the arguments that auditd starts it with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;

use super::send::TemporaryFile;
use crate::cli::{self, Options};
use crate::config::{Config, DEFAULT_FILE, Settings};
use crate::doctor::PROGRAM;
use crate::doctor::ask;
use crate::doctor::machine::Relay;
use crate::output::service::Target;
use crate::privilege;
use crate::site::{Root, Site};
use crate::status::Sources;

/// Finds and understands it.
pub(super) fn look(root: &Root, site: &Site, given: &Options) -> Relay {
    let config = read(root, site, given);
    let account = match &config {
        Ok(config) if root.is_host() => privilege::account(config.user.as_deref()).ok(),
        _ => None,
    };
    Relay { config, account, refused: Vec::new(), report: None }
}

/// Where its numbers are.
pub(super) fn sources(root: &Root, relay: &Relay) -> Sources {
    relay.config.as_ref().map_or_else(|_| Sources::default(), |config| Sources::of(config).below(root))
}

/// The configuration that `given` says, or if that is nothing, what the plugin's arguments say.
pub(super) fn read(root: &Root, site: &Site, given: &Options) -> Result<Config, String> {
    let nothing_given = given.config.is_none()
        && given.clone().settings().is_ok_and(|settings| settings == Settings::default());
    let options = match nothing_given.then(|| plugins_options(site)).flatten() {
        Some(Ok(options)) => options,
        Some(Err(error)) => return Err(error),
        None => given.clone(),
    };
    let file = match options.config.as_deref() {
        Some(path) if path == Path::new("none") => None,
        Some(path) => Some(path.to_path_buf()),
        None => Some(PathBuf::from(DEFAULT_FILE)),
    };
    let named = options.config.is_some();
    let settings = match file.as_ref().map(|file| root.find(file)).filter(|path| named || path.exists()) {
        Some(path) => Settings::from_file(&path, Uid::effective()),
        None => Ok(Settings::default()),
    };
    settings.and_then(|settings| settings.overridden_by(options.settings()?).validate())
}

/// What auditd starts the relay with. `None`: it does not, or through a program whose words are not ours.
fn plugins_options(site: &Site) -> Option<Result<Options, String>> {
    let plugin = site.plugins.iter().find(|plugin| plugin.is_active_and_leads_to(PROGRAM))?;
    let conf = plugin.conf.as_ref()?;
    let words: Vec<String> =
        match conf.path.as_ref().is_some_and(|path| path.file_name() == Some(PROGRAM.as_ref())) {
            true => conf.arguments.clone(),
            // Behind a filter: what stands after our name.
            false => {
                let is_ours = |word: &String| Path::new(word).file_name() == Some(PROGRAM.as_ref());
                conf.arguments.iter().skip_while(|word| !is_ours(word)).skip(1).cloned().collect()
            }
        };
    let line = [PROGRAM.to_owned()].into_iter().chain(words).map(OsString::from);
    let parsed = cli::parse(line).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        format!("{}: args: {first}", plugin.file.display())
    });
    Some(parsed.map(|cli| cli.options))
}

pub(super) fn uses_tls(relay: &Relay) -> bool {
    let destinations = relay.config.iter().flat_map(|config| &config.destinations);
    destinations.into_iter().any(|d| d.route.any(Target::is_over_tls))
}

/// What `audit-relay check` has against the files of `tls-*`, which it reads as the relay's account.
pub(super) fn check(config: Result<Config, String>, limit: Duration) -> Result<Vec<String>, String> {
    let Ok(config) = config else { return Ok(Vec::new()) };
    let file = TemporaryFile::new(&config.effective()).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let arguments = ["check".as_ref(), "--config".as_ref(), file.path().as_os_str()];
    let answer = ask::run(&program, arguments, limit).map_err(|error| error.to_string())?;
    let said = answer.err.lines().filter_map(|line| line.strip_prefix("audit-relay: "));
    Ok(said.filter(|line| !line.starts_with("warning: ")).map(str::to_owned).collect())
}
