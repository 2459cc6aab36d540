//! Where no relay answers: what auditd does about it.
//!
//! Promise: whoever asks is told whether auditd runs, whether it starts the relay, and what to do next. Law: looks once, as
//! `site` does, and only after an answer has failed to come; a case that is not known is said to be so.

use std::path::PathBuf;
use std::time::Duration;

use crate::printable::printable;
use crate::site::{Root, Site, kernel};

/// Our program's name in a plugin's configuration.
const PROGRAM: &str = "audit-relay";

/// For the kernel's answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How it stands with auditd.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Case {
    /// It does not run.
    NotRunning,
    /// It runs, and this user may not see whom it starts.
    Unseen,
    /// Nothing in the folder leads to the relay.
    NoPlugin(PathBuf),
    /// The file has `active = no`.
    Inactive(PathBuf),
    /// auditd passes the file over: a sentence says why.
    PassedOver(PathBuf, String),
    /// auditd starts the relay, or has tried to.
    Started(PathBuf),
}

/// What there is to say, as a sentence without an end.
pub(super) fn now() -> String {
    let kernels = kernel::status(PATIENCE).ok().map(|status| status.pid);
    let site = Site::look_with(&Root::host(), kernels);
    sentence(site.pid.unwrap_or_default(), &case(&site))
}

fn case(site: &Site) -> Case {
    if site.pid.is_none() {
        return Case::NotRunning;
    }
    let mut ours: Vec<_> = site
        .plugins
        .iter()
        .filter_map(|plugin| Some((plugin, plugin.conf.as_ref()?)))
        .filter(|(_, conf)| conf.leads_to(PROGRAM))
        .collect();
    // The one that says most comes last.
    ours.sort_by_key(|(plugin, conf)| (conf.active, plugin.is_started()));
    match ours.last() {
        Some((plugin, _)) if plugin.is_started() => Case::Started(plugin.file.clone()),
        Some((plugin, conf)) if conf.active => {
            let fault = plugin.faults.iter().find(|fault| fault.rejects);
            let sentence = fault.map(|fault| fault.sentence.clone()).unwrap_or_default();
            Case::PassedOver(plugin.file.clone(), sentence)
        }
        Some((plugin, _)) => Case::Inactive(plugin.file.clone()),
        None if site.plugins.iter().any(|plugin| plugin.conf.is_none()) || !site.unseen.is_empty() => {
            Case::Unseen
        }
        None => Case::NoPlugin(site.plugin_folder.clone()),
    }
}

fn sentence(pid: u32, case: &Case) -> String {
    let text = match case {
        Case::NotRunning => return "auditd does not run; start it: service auditd start".to_owned(),
        Case::Unseen => "whether it starts the relay, only root may see; use sudo".to_owned(),
        Case::NoPlugin(folder) => {
            format!("no plugin in {} is the relay; make it one: audit-relay install", folder.display())
        }
        Case::Inactive(file) => {
            format!("{} has active = no; make it active: audit-relay install", file.display())
        }
        Case::PassedOver(file, fault) => format!("it passes over {}: {fault}", file.display()),
        Case::Started(file) => format!(
            "{} has it start the relay, which has ended, or has another path or \"off\" as `status`; its last words are in the \
             system's log, and audit-relay doctor looks for the reason",
            file.display()
        ),
    };
    printable(&format!("auditd runs (pid {pid}); {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{PluginConf, Settings, Source, Version};

    const OURS: &str = "path = /usr/sbin/audit-relay\ntype = always\nformat = string\n";

    fn site(pid: Option<u32>, plugins: &[(&str, &str)]) -> Site {
        let version = Version::new(4, 0, 2);
        let plugin = |(file, text): &(&str, &str)| {
            let conf = PluginConf::parse(text, version);
            crate::site::Plugin {
                file: PathBuf::from("/p").join(file),
                faults: conf.faults.clone(),
                conf: Some(conf),
                facts: None,
                program: None,
            }
        };
        let settings: Result<Settings, String> = Ok(Settings::parse("", version));
        Site {
            version: Some((version, Source::Running)),
            installed: None,
            pid,
            conf_file: "/etc/audit/auditd.conf".into(),
            settings: settings.clone(),
            dispatcher: settings,
            plugin_folder: "/p".into(),
            plugins: plugins.iter().map(plugin).collect(),
            kill_mode: None,
            unseen: Vec::new(),
        }
    }

    #[test]
    fn each_case_has_its_remedy() {
        let (yes, no) = (format!("active = yes\n{OURS}"), format!("active = no\n{OURS}"));
        let broken = format!("{yes}format = nonsense\n");
        let other = "active = yes\npath = /sbin/audisp-syslog\ntype = always\nformat = string\n";
        for (pid, plugins, part) in [
            (None, vec![("a.conf", &*yes)], "does not run; start it: service auditd start"),
            (Some(7), vec![("a.conf", &*yes)], "runs (pid 7); /p/a.conf has it start the relay"),
            (Some(7), vec![("a.conf", &*yes), ("z.conf", &*no)], "/p/a.conf has it start"),
            (Some(7), vec![("a.conf", &*no)], "/p/a.conf has active = no"),
            (Some(7), vec![("a.conf", &*broken)], "passes over /p/a.conf: "),
            (Some(7), vec![("s.conf", other)], "no plugin in /p is the relay"),
            (Some(7), vec![], "audit-relay install"),
        ] {
            let site = site(pid, &plugins);
            let said = sentence(site.pid.unwrap_or_default(), &case(&site));
            assert!(said.contains(part), "{plugins:?}: {said}");
        }
        let mut hidden = site(Some(7), &[]);
        hidden.unseen.push("/p: Permission denied".to_owned());
        assert_eq!(case(&hidden), Case::Unseen);
    }
}
