//! Sends a long, marked record to each destination, by a relay of its own, and looks for it where rsyslog writes.
//!
//! The relay that is tried is this very program with the configuration in effect, one destination at a time: what arrives
//! is what its records look like there. It leaves no report, hands nothing over, is not seen where the running relay is
//! (socket, port and file of `status` and `metrics`), and touches no running relay.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::audit::InputForm;
use crate::config::{Config, Confine, Destination, Handover, LogTarget, Status, Threads};
use crate::doctor::arrival;
use crate::doctor::machine::{Arrival, Machine, Outcome, Sent};
use crate::ingest::OnFull;
use crate::site::open_file;

/// For delivering.
const DRAIN: Duration = Duration::from_secs(4);

/// For the receiver to write it.
const PATIENCE: Duration = Duration::from_secs(3);

/// When what is there will not become more.
const QUIET: Duration = Duration::from_millis(700);

/// The most that is read of what a receiver has written meanwhile.
const MOST: u64 = 16 << 20;

/// A file that only we can read, for as long as it is needed.
#[derive(Debug)]
pub(super) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    pub(super) fn new(text: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("audit-relay-doctor-{}.toml", mark()?));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let this = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(this)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Sixteen digits that nobody else has.
fn mark() -> io::Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// To every destination, one after the other.
pub(super) fn all(machine: &Machine, look_in: &[PathBuf]) -> Vec<Sent> {
    let Ok(config) = &machine.relay.config else { return Vec::new() };
    let known = machine.local.rsyslog.iter().flat_map(|conf| conf.files.iter().cloned());
    let sent = |destination: &Destination| {
        let receivers = destination.route.members().iter().map(|member| &member.url);
        let is_local = |url: &String| machine.receivers.iter().any(|r| r.url == *url && r.trial.is_local);
        let mut files = look_in.to_vec();
        if receivers.clone().any(is_local) {
            files.extend(known.clone().filter(|file| !look_in.contains(file)));
        }
        let outcome = one(config, destination, &files)
            .unwrap_or_else(|error| Outcome::Undelivered(format!("could not be tried: {error}")));
        Sent { url: destination.url.clone(), bytes: arrival::BYTES, outcome }
    };
    config.destinations.iter().map(sent).collect()
}

fn one(config: &Config, destination: &Destination, files: &[PathBuf]) -> io::Result<Outcome> {
    let config = on_trial(config, destination);
    let mark = mark()?;
    let before: Vec<u64> =
        files.iter().map(|file| fs::metadata(file).map_or(0, |facts| facts.len())).collect();
    if let Some(why) = deliver(&config, &arrival::record(&mark, now_ms()))? {
        return Ok(Outcome::Undelivered(why));
    }
    if files.is_empty() {
        return Ok(Outcome::Unwatched);
    }
    Ok(watch(files, &before, &mark).unwrap_or_else(|| Outcome::NotFound(files.to_vec())))
}

/// The configuration of a relay that sends to `destination` alone and leaves nothing behind.
fn on_trial(config: &Config, destination: &Destination) -> Config {
    Config {
        input: InputForm::Text,
        destinations: vec![Destination { on_full: Some(OnFull::Block), ..destination.clone() }],
        drain_timeout: DRAIN,
        handover: Handover::Off,
        report: None,
        // The running relay has these: a second one would take the socket's name from it, for good.
        status: Status::Off,
        status_group: None,
        metrics: None,
        metrics_file: None,
        statistics_interval: None,
        log: LogTarget::Stderr,
        threads: Threads::Auto,
        confine: Confine::Auto,
        ..config.clone()
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// `None`: it is delivered.
fn deliver(config: &Config, record: &str) -> io::Result<Option<String>> {
    let file = TemporaryFile::new(&config.effective())?;
    let errors = TemporaryFile::new("")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args([OsStr::new("--config"), file.path().as_os_str()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(OpenOptions::new().write(true).open(errors.path())?)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // It fits a pipe; a relay that does not start closes it.
        let _ = input.write_all(format!("{record}\n").as_bytes());
    }
    let end = Instant::now() + DRAIN + Duration::from_secs(4);
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.is_some_and(|status| status.success()) {
        return Ok(None);
    }
    let said = fs::read_to_string(errors.path()).unwrap_or_default();
    let mut lines = said.lines().filter(|line| line.contains("error") || line.contains("warn"));
    let last = lines.next_back().or_else(|| said.lines().next_back()).unwrap_or("no answer").to_owned();
    Ok(Some(last))
}

/// Looks until its end is there, or nothing more comes.
fn watch(files: &[PathBuf], before: &[u64], mark: &str) -> Option<Outcome> {
    let end = Instant::now() + PATIENCE;
    let mut last: Option<(PathBuf, Arrival)> = None;
    let mut since = Instant::now();
    while Instant::now() < end {
        let seen = files.iter().zip(before).find_map(|(file, from)| {
            let text = read_from(file, *from).ok()?;
            arrival::find(&text, mark).map(|arrival| (file.clone(), arrival))
        });
        match seen {
            Some((file, arrival)) if arrival.is_one_line => return Some(Outcome::Found(file, arrival)),
            seen if seen != last => (last, since) = (seen, Instant::now()),
            Some(_) if since.elapsed() > QUIET => break,
            _ => {}
        }
        thread::sleep(Duration::from_millis(50));
    }
    last.map(|(file, arrival)| Outcome::Found(file, arrival))
}

fn read_from(path: &Path, from: u64) -> io::Result<String> {
    let mut file = open_file(path)?;
    // A file that has become shorter was rotated.
    let from = if file.metadata()?.len() < from { 0 } else { from };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn the_relay_on_trial_takes_nothing_from_the_running_one() {
        let settings: Settings = toml::from_str(
            "to = [\"tcp://127.0.0.1:601\", \"tcp://127.0.0.1:602\"]\nstatus = \"/run/s\"\nstatus-group = \"root\"\n\
             metrics = \"127.0.0.1:9101\"\nmetrics-file = \"/m/a.prom\"\nstatistics-interval = \"5s\"\n\
             report = \"/run/r\"\nhandover = \"/run/h\"\nlog = \"syslog\"\n",
        )
        .unwrap();
        let config = settings.validate().unwrap();
        let trial = on_trial(&config, &config.destinations[1]).effective();
        let of_others = ["/run/", "9101", "/m/", "status-group"];
        assert!(trial.contains("602") && !trial.contains("601"), "{trial}");
        assert!(of_others.iter().all(|word| !trial.contains(word)), "{trial}");
        assert!(
            trial.contains("statistics-interval = \"off\"") && trial.contains("log = \"stderr\""),
            "{trial}"
        );
    }
}
