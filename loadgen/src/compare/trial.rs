//! One run of one contestant: this executable's own `run`, as a child.
//!
//! *Promise:* a contestant's figures are those `run` would have given for it alone: the child's children are this
//! contestant and nobody else.
//! *Law:* nothing is measured here. What a trial leaves in the file system is gone when it is over.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::find::{Contestant, Start, System};
use super::peers::{DRAIN, ENTER};
use crate::cli::CompareArgs;
use crate::drive::FeedKind;
use crate::session::EXIT_CANNOT_RUN;
use crate::signals::Signals;
use crate::sink::Transport;

/// How often it is looked whether a run is over.
const LOOK: Duration = Duration::from_millis(50);
/// A peer has this long to send what it has queued, and to end.
const TIMEOUT: &str = "180s";

/// Runs a contestant once and returns the report, as `run --json` writes it.
///
/// # Errors
/// With the reason, if there is no report.
pub(super) fn run(
    contestant: &Contestant,
    args: &CompareArgs,
    own: &Path,
    signals: &Signals,
) -> Result<Value, String> {
    let folder = Folder::new().map_err(|error| format!("making a folder for the run: {error}"))?;
    let target =
        command(contestant, &folder.0).map_err(|error| format!("writing the configuration: {error}"))?;
    let (report, complaints) = (folder.0.join("report.json"), folder.0.join("stderr"));
    let stderr = File::create(&complaints).map_err(|error| error.to_string())?;
    let mut run = Command::new(own);
    run.arg("run").args(["--parent", &std::process::id().to_string()]);
    run.arg("--to").arg(name_of(contestant.to)).arg("--json").arg(&report);
    run.args(["--count", &args.count.to_string(), "--rate", &args.rate.to_string()]);
    run.args(["--seed", &args.seed.to_string(), "--feed", feed_name(args.feed)]);
    // A chain needs its time to start, which is no latency of its records.
    run.args(["--settle", if args.rate > 0 { "2s" } else { "200ms" }, "--timeout", TIMEOUT]);
    let curve = folder.0.join("latency.hgrm");
    if args.rate > 0 && contestant.to != Transport::None {
        run.arg("--hgrm").arg(&curve);
    }
    if contestant.bare {
        run.arg("--bare");
    }
    if matches!(contestant.to, Transport::Unix | Transport::UnixStream) {
        run.arg("--sink-path").arg(folder.0.join("log"));
    }
    run.arg("--").args(target).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut run = run.spawn().map_err(|error| format!("starting {}: {error}", own.display()))?;
    let status = loop {
        if let Some(status) = run.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if signals.wait(LOOK) {
            // It has a parent to end with, and does so at once.
            let _ = kill(Pid::from_raw(run.id().cast_signed()), Signal::SIGTERM);
        }
    };
    if status.code().is_none_or(|code| code == i32::from(EXIT_CANNOT_RUN)) {
        let said = fs::read_to_string(&complaints).unwrap_or_default();
        return Err(format!("{status}: {}", said.lines().last().unwrap_or("no reason given")));
    }
    let text = fs::read(&report).map_err(|error| format!("reading the report: {error}"))?;
    let mut report: Value =
        serde_json::from_slice(&text).map_err(|error| format!("reading the report: {error}"))?;
    if let Ok(table) = fs::read_to_string(&curve) {
        report["curve_us"] = read_curve(&table).into();
    }
    let lost = report["lost"].as_u64().unwrap_or(0);
    if report["target"]["exit_code"] != 0 || lost > 0 {
        // What the contestant says about it may explain it.
        let said = fs::read_to_string(&complaints).unwrap_or_default();
        // rsyslogd 8.2610 says in any case, of debug severity, what it takes down.
        let of_use =
            |line: &&str| !line.trim().is_empty() && !line.starts_with("rsyslog internal message (7,");
        let first: Vec<&str> = said.lines().filter(of_use).take(5).collect();
        report["stderr"] = first.join("\n").into();
    }
    Ok(report)
}

/// `[1 / (1 - quantile), us]` of each line of an `.hgrm` file, but of those beyond the last but one record.
fn read_curve(table: &str) -> Vec<Value> {
    let mut points: Vec<Value> = Vec::new();
    let mut before = 0.0;
    for line in table.lines() {
        let fields: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // The heading and the remarks at the end are no numbers; the last line has no fourth one. Where the count no
        // longer grows the quantile is finer than the records.
        if let [us, _, count, x] = fields[..]
            && count > before
        {
            points.push(json!([x, us]));
            before = count;
        }
    }
    points
}

/// The command line of the program under test, everything it needs being in `folder`.
fn command(contestant: &Contestant, folder: &Path) -> io::Result<Vec<String>> {
    let (way, system, dev_log) = match &contestant.start {
        Start::Command(command) => return Ok(command.clone()),
        Start::Peer { way, system, dev_log } => (way, system, *dev_log),
    };
    check(folder)?;
    let enter = folder.join("enter.sh");
    fs::write(&enter, ENTER)?;
    let script = format!("{DRAIN}\n{}", way.script).replace("{program}", &system.syslog_ng());
    fs::write(folder.join("peer.sh.in"), script)?;
    if let Some((name, parts)) = way.file {
        fs::write(folder.join(format!("{name}.in")), parts.concat())?;
    }
    let namespace = dev_log || matches!(system, System::Chroot(_));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Ok(vec![
        "/bin/sh".to_owned(),
        text(&enter),
        text(system.new_root()),
        text(folder),
        if namespace { "yes" } else { "no" }.to_owned(),
        "{port}".to_owned(),
        "{ca}".to_owned(),
    ])
}

/// Whether `folder` can stand in scripts and configurations as it is. Each has a quoting of its own.
fn check(folder: &Path) -> io::Result<()> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%=~ ".contains(byte);
    if folder.as_os_str().as_encoded_bytes().iter().all(plain) {
        return Ok(());
    }
    let message = format!(
        "{} has characters that configurations of peers cannot take; set TMPDIR to a folder with a plain name",
        folder.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// How `--to` names a receiver.
pub(super) fn name_of(to: Transport) -> &'static str {
    match to {
        Transport::Unix => "unix",
        Transport::UnixStream => "unix-stream",
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Relp => "relp",
        Transport::Relps => "relps",
        Transport::None => "none",
    }
}

/// How `--feed` names a feed.
pub(super) fn feed_name(feed: FeedKind) -> &'static str {
    match feed {
        FeedKind::Pipe => "pipe",
        FeedKind::Socketpair => "socketpair",
    }
}

/// A folder that any user may enter, gone with all it holds at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let base = std::env::temp_dir();
        for attempt in 0..100 {
            let path = base.join(format!("audit-loadgen-compare.{}.{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Self(path);
                    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755))?;
                    return Ok(folder);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a temporary folder"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What was mounted in it was so for the contestant only.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn names_are_those_of_the_command_line() {
        for to in Transport::value_variants() {
            assert_eq!(name_of(*to), to.to_possible_value().unwrap().get_name());
        }
        for feed in FeedKind::value_variants() {
            assert_eq!(feed_name(*feed), feed.to_possible_value().unwrap().get_name());
        }
    }

    #[test]
    fn curves_are_read_up_to_the_last_record() {
        let table = "Value Percentile TotalCount 1/(1-Percentile)\n\n\
                     4.000 0.0 1 1.00\n6.000 0.5 2 2.00\n6.000 0.75 2 4.00\n9.000 1.0 3\n#[Mean = 1, x = 2]\n";
        assert_eq!(read_curve(table), [json!([1.0, 4.0]), json!([2.0, 6.0])]);
    }

    #[test]
    fn folders_with_other_than_plain_names_are_refused() {
        assert!(check(Path::new("/var/tmp/two words/audit-loadgen-compare.7.0")).is_ok());
        for name in ["/tmp/a|b", "/tmp/a&b", "/tmp/a\"b", "/tmp/$a", "/tmp/a\\b", "/tmp/{to}", "/tmp/\u{e4}"]
        {
            assert!(check(Path::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_folder_is_gone_with_what_it_holds() {
        let folder = Folder::new().unwrap();
        let path = folder.0.clone();
        fs::create_dir(path.join("dev")).unwrap();
        fs::write(path.join("dev/null"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
