//! The numbers of a relay, for commands that look at one: `install` and `doctor`.
//!
//! Promise: what the running relay says over its socket, or where it offers none, what its report's file holds. Law: reads only;
//! whose numbers they are is in them (`pid`), and the caller judges that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client;
use crate::config::{Config, DEFAULT_STATUS, Status};
use crate::site::{Root, read_file};
use crate::telemetry::Report;

/// Far more than a relay with hundreds of receivers writes.
const LARGEST: u64 = 16 << 20;

/// Where a relay's numbers are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    socket: Option<PathBuf>,
    file: Option<PathBuf>,
}

impl Sources {
    /// Where a relay with this configuration, started by auditd, offers them.
    pub fn of(config: &Config) -> Self {
        let socket = match &config.status {
            Status::Auto => Some(DEFAULT_STATUS.into()),
            Status::Socket(path) => Some(path.clone()),
            Status::Off => None,
        };
        Self { socket, file: config.report.clone() }
    }

    /// The same of a relay on the machine below `root`; what does not run here answers nothing.
    #[must_use]
    pub fn below(self, root: &Root) -> Self {
        Self { socket: self.socket.filter(|_| root.is_host()), file: self.file.map(|file| root.find(&file)) }
    }

    /// True if there is neither socket nor file.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The report's file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What is said at the socket within `limit`. `None`: nobody answers there, or not us.
    pub fn ask(&self, limit: Duration) -> Option<Report> {
        client::report(self.socket.as_ref()?, limit).ok()
    }

    /// What the file holds, which is what a relay last wrote. `None`: none, or no report.
    pub fn read(&self) -> Option<Report> {
        serde_json::from_slice(&read_file(self.file()?, LARGEST).ok()?).ok()
    }
}

impl std::fmt::Display for Sources {
    /// As the object of a sentence: `its socket A or its report B`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let socket = self.socket.as_ref().map(|path| format!("its socket {}", path.display()));
        let file = self.file.as_ref().map(|path| format!("its report {}", path.display()));
        let parts: Vec<_> = socket.into_iter().chain(file).collect();
        f.write_str(&parts.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn of(text: &str) -> Sources {
        let settings: Settings = toml::from_str(&format!("to = [\"unix:/dev/log\"]\n{text}")).unwrap();
        Sources::of(&settings.validate().unwrap())
    }

    #[test]
    fn a_configuration_names_them() {
        for (text, shown) in [
            ("", "its socket /run/audit-relay/status.sock"),
            ("status = \"/s\"\nreport = \"/r\"\n", "its socket /s or its report /r"),
            ("status = \"off\"\nreport = \"/r\"\n", "its report /r"),
            ("status = \"off\"\n", ""),
        ] {
            assert_eq!(of(text).to_string(), shown);
            assert_eq!(of(text).is_empty(), shown.is_empty());
        }
    }

    #[test]
    fn a_report_is_read_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let sources = of("report = \"/r\"\n").below(&Root::at(dir.path()));
        assert_eq!((sources.read(), sources.ask(Duration::from_secs(1))), (None, None));
        let file = dir.path().join("r");
        std::fs::write(&file, r#"{"pid": 7, "read": 3, "destinations": [{"url": "tcp://x", "sent": 2}]}"#)
            .unwrap();
        let report = sources.read().unwrap();
        assert_eq!((report.pid, report.read, report.destinations[0].sent), (7, 3, 2));
        std::fs::write(&file, "{").unwrap();
        assert_eq!(sources.read(), None);
    }
}
