//! The machine's own syslog service: whose /dev/log is, and what journald's and rsyslog's files say.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{processes, text};
use crate::doctor::machine::{Journald, LocalSyslog};
use crate::doctor::rsyslog::{Rsyslog, USUAL};
use crate::site::Root;

/// journald.conf and the folders of its additions, the last word last.
const JOURNALD: &str = "/etc/systemd/journald.conf";
const JOURNALD_MORE: [&str; 3] =
    ["/usr/lib/systemd/journald.conf.d", "/run/systemd/journald.conf.d", "/etc/systemd/journald.conf.d"];

/// Where the machine's rsyslogd leaves its process id, unless it is told otherwise.
const RSYSLOGD_PID: &str = "/run/rsyslogd.pid";

/// Most files of rsyslog's that are read.
const MOST_FILES: usize = 200;

/// What is there, and a sentence if it cannot be told which rsyslogd is the machine's.
pub(super) fn look(root: &Root) -> (LocalSyslog, Option<String>) {
    // It is a link from /dev/log to /run/systemd/journal/dev-log.
    let journals = fs::read_link(root.find_link("/dev/log"))
        .is_ok_and(|target| target.to_string_lossy().contains("systemd/journal"));
    let running = if root.is_host() { processes::rsyslogds() } else { Vec::new() };
    let usual = text(&root.find(RSYSLOGD_PID)).and_then(|pid| pid.trim().parse().ok());
    let (conf, unsure) = match &running[..] {
        [] => (None, None),
        [only] => (only.conf.clone(), None),
        several => match several.iter().find(|one| Some(one.pid) == usual) {
            Some(one) => (one.conf.clone(), None),
            None => {
                let pids: Vec<_> = several.iter().map(|one| one.pid.to_string()).collect();
                let sentence =
                    format!("which rsyslogd is the machine's (pids {}): judged by {USUAL}", pids.join(", "));
                (None, Some(sentence))
            }
        },
    };
    let local = LocalSyslog {
        journald_owns_dev_log: journals,
        journald: journald(root),
        rsyslog: rsyslog(root, conf),
    };
    (local, unsure)
}

fn journald(root: &Root) -> Option<Journald> {
    let mut whole = text(&root.find(JOURNALD))?;
    for folder in JOURNALD_MORE {
        for file in with_suffix(root, Path::new(folder), ".conf") {
            whole += "\n";
            whole += &text(&root.find(&file)).unwrap_or_default();
        }
    }
    Some(limits(&whole))
}

/// The limits, from systemd's own defaults on.
fn limits(text: &str) -> Journald {
    let mut found = Journald { interval: Duration::from_secs(30), burst: 10_000 };
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match (key.trim(), value.trim()) {
            ("RateLimitIntervalSec" | "RateLimitInterval", value) => {
                found.interval = seconds(value).unwrap_or(found.interval);
            }
            ("RateLimitBurst", value) => found.burst = value.parse().unwrap_or(found.burst),
            _ => {}
        }
    }
    found
}

/// `30s`, `1min`, `0`.
fn seconds(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim() {
        "" | "s" | "sec" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "m" | "min" => Some(Duration::from_secs(number * 60)),
        "h" => Some(Duration::from_secs(number * 3600)),
        _ => None,
    }
}

fn rsyslog(root: &Root, named: Option<PathBuf>) -> Option<Rsyslog> {
    let first = text(&root.find(named.as_deref().unwrap_or(Path::new(USUAL))))?;
    let mut conf = Rsyslog { conf: named, ..Rsyslog::default() };
    conf.read(&first);
    let mut read = 0;
    let mut at = 0;
    // What is included may include more, at the end of the list.
    while at < conf.includes.len() && read < MOST_FILES {
        for file in matching(root, Path::new(&conf.includes[at].clone())) {
            if let Some(more) = text(&root.find(&file)) {
                conf.read(&more);
            }
            read += 1;
        }
        at += 1;
    }
    Some(conf)
}

/// The files that a pattern names: `/etc/rsyslog.d/*.conf`, a folder, or one file.
fn matching(root: &Root, pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.split_once('*') {
        Some((before, after)) => {
            let folder = pattern.parent().unwrap_or(Path::new("/"));
            let mut files = with_suffix(root, folder, after);
            files.retain(|file| {
                file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(before))
            });
            files
        }
        None if root.find(pattern).is_dir() => with_suffix(root, pattern, ""),
        None => vec![pattern.to_path_buf()],
    }
}

/// The files in a folder whose names end so, in order.
fn with_suffix(root: &Root, folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.find(folder)).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Both programs pass over what is hidden.
            !name.starts_with('.') && name.ends_with(suffix)
        })
        .map(|entry| folder.join(entry.file_name()))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_journald() {
        let of = |text: &str| {
            let found = limits(text);
            (found.interval.as_secs(), found.burst)
        };
        assert_eq!(of("[Journal]\n#RateLimitIntervalSec=30s\n#RateLimitBurst=10000\n"), (30, 10_000));
        assert_eq!(of("RateLimitIntervalSec=0\nRateLimitBurst = 5"), (0, 5));
        assert_eq!(
            of("RateLimitIntervalSec=2min\nRateLimitIntervalSec=1h\nRateLimitBurst=x"),
            (3600, 10_000)
        );
        assert_eq!(seconds("soon"), None);
    }

    #[test]
    fn planted_files() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("etc/systemd/journald.conf", "[Journal]\nRateLimitBurst=1\n");
        put("etc/systemd/journald.conf.d/x.conf", "[Journal]\nRateLimitBurst=2\n");
        put("etc/rsyslog.conf", "include(file=\"/etc/rsyslog.d/\")\n$IncludeConfig /etc/more/a*.conf\n");
        put("etc/rsyslog.d/.hidden", "global(maxMessageSize=\"1k\")\n");
        put("etc/rsyslog.d/1.conf", "global(maxMessageSize=\"16k\")\n");
        put("etc/more/a1.conf", "*.* /var/log/a\n");
        put("etc/more/b1.conf", "*.* /var/log/b\n");
        fs::create_dir_all(dir.path().join("dev")).unwrap();
        std::os::unix::fs::symlink("/run/systemd/journal/dev-log", dir.path().join("dev/log")).unwrap();
        let (found, _) = look(&Root::at(dir.path()));
        assert!(found.journald_owns_dev_log);
        assert_eq!(found.journald.unwrap().burst, 2);
        let rsyslog = found.rsyslog.unwrap();
        assert_eq!((rsyslog.longest_message(), rsyslog.files), (16384, vec![PathBuf::from("/var/log/a")]));
        assert!(look(&Root::at("/no/such/folder")).0.rsyslog.is_none());
    }
}
