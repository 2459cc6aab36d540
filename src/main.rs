//! audit-relay: command line to configuration to relay to exit status.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use audit_relay::cli::{self, Command, Options};
use audit_relay::config::{Config, DEFAULT_FILE, Settings};
use audit_relay::control::{self, OS_ERROR, Start};
use audit_relay::{diagnostics, host, privilege, sys};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, getppid};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit statuses of sysexits.h.
const USAGE: u8 = 64;
const CANNOT_CREATE: u8 = 73;
const NO_PERMISSION: u8 = 77;
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    // First of all: auditd 2.x leaks the other end of our standard input into us.
    sys::close_all_from_3();
    ExitCode::from(run(std::env::args_os()))
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let auditd = auditd();
    let complain = |sentence: &str| diagnostics::say_at_once(sentence, auditd.is_some());
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { USAGE } else { 0 };
            if auditd.is_some() {
                complain(&error.to_string());
            } else {
                let _ = error.print();
            }
            return status;
        }
    };
    if let Some(Command::Check { options }) = cli.command {
        return check(*options);
    }
    let given = match cli.options.clone().settings() {
        Ok(_) => cli.options,
        Err(error) => {
            complain(&error);
            return USAGE;
        }
    };
    let config = match read(&given) {
        Ok(config) => config,
        Err(error) => {
            complain(&format!("{error}\naudit-relay: try: audit-relay check"));
            return CONFIG;
        }
    };
    relay(config, given, auditd)
}

fn relay(config: Config, given: Options, auditd: Option<Pid>) -> u8 {
    let signals = match control::take_signals() {
        Ok(signals) => signals,
        Err(error) => {
            diagnostics::say_at_once(&format!("cannot take over the signals: {error}"), auditd.is_some());
            return OS_ERROR;
        }
    };
    diagnostics::start(config.log, auditd.is_some());
    let report = match config.report.as_deref().map(open_report).transpose() {
        Ok(report) => report,
        Err(error) => {
            log::error!("{error}");
            return CANNOT_CREATE;
        }
    };
    let confined =
        privilege::account(config.user.as_deref()).and_then(|account| privilege::confine(&account));
    let confined = match confined {
        Ok(confined) => confined,
        Err(error) => {
            log::error!("{error}");
            return NO_PERMISSION;
        }
    };
    if confined.is_root() {
        log::warn!("running as root because `user` says so; any other account is safer");
    }
    if auditd.is_some() {
        // A second line behind the end of the input: another plugin may hold a copy of auditd's end.
        let _ = prctl::set_pdeathsig(Signal::SIGUSR2);
    }
    control::relay(Start {
        read_again: || read(&given),
        names: host::names(),
        input_is_socket: getsockopt(&io::stdin().as_fd(), sockopt::SockType).is_ok(),
        config,
        auditd,
        report,
        signals,
        confined,
    })
}

/// Reads file and command line together.
fn read(options: &Options) -> Result<Config, String> {
    let file = match options.config.as_deref() {
        Some(path) if path == Path::new("none") => None,
        Some(path) => Some(path),
        None => Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    let settings = match file {
        Some(path) => Settings::from_file(path)?,
        None => Settings::default(),
    };
    settings.overridden_by(options.clone().settings()?).validate()
}

/// `audit-relay check`.
fn check(options: Options) -> u8 {
    let mut out = io::stdout();
    match read(&options)
        .and_then(|config| privilege::account(config.user.as_deref()).map(|account| (config, account)))
    {
        Ok((config, account)) => {
            let _ = write!(out, "{}", config.effective());
            let _ = writeln!(out, "# runs as {} (uid {}) when started as root", account.name, account.uid);
            for warning in config.warnings() {
                let _ = writeln!(io::stderr(), "audit-relay: warning: {warning}");
            }
            0
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "audit-relay: {error}");
            CONFIG
        }
    }
}

/// auditd's process id, if it has started us: standard input is a socket whose other end our parent made.
fn auditd() -> Option<Pid> {
    let peer = getsockopt(&io::stdin().as_fd(), sockopt::PeerCredentials).ok()?;
    Some(getppid()).filter(|parent| parent.as_raw() == peer.pid())
}

/// Opens the report before root is given up; the file stays open, so that a later rename or link in its
/// directory cannot lead the writing elsewhere.
fn open_report(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| {
            format!("report: cannot open {}: {error} (a symbolic link is never followed)", path.display())
        })
}
