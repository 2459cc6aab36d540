//! audit-relay: command line to configuration to relay to exit status.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use audit_relay::cli::{self, Cert, Command, Options};
use audit_relay::config::{Config, DEFAULT_FILE, DEFAULT_HANDOVER, Handover, Settings};
use audit_relay::confine::{Around, attempts};
use audit_relay::control::{self, HeldSignals, OS_ERROR, Start};
use audit_relay::dispatcher::Dispatcher;
use audit_relay::handover::Folder;
use audit_relay::install::{self, Failure};
use audit_relay::{
    apparmor, certificate_files, confine, diagnostics, doctor, host, output, privilege, status, sys,
};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, chdir, chroot};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit statuses of sysexits.h.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const CANNOT_CREATE: u8 = 73;
const NO_PERMISSION: u8 = 77;
const CONFIG: u8 = 78;

/// What an attempt that was refused ends with.
const REFUSED: u8 = 10;

fn main() -> ExitCode {
    // First of all: auditd may reload, and somebody stop us, before we know what we are.
    let signals = control::hold_signals();
    // auditd 2.x leaks the other end of our standard input into us.
    sys::close_all_from_3();
    ExitCode::from(run(std::env::args_os(), signals))
}

fn run(arguments: impl IntoIterator<Item = OsString>, signals: io::Result<HeldSignals>) -> u8 {
    let auditd = Dispatcher::find();
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
    let signals = match (signals, cli.command) {
        (Ok(signals), None) => signals,
        (Err(error), None) => {
            complain(&format!("cannot take over the signals: {error}"));
            return OS_ERROR;
        }
        (signals, Some(command)) => {
            let _ = signals.map(HeldSignals::release);
            return carry_out(command);
        }
    };
    let given = match cli.options.clone().settings() {
        Ok(_) => cli.options,
        Err(error) => {
            complain(&error);
            return USAGE;
        }
    };
    // What auditd starts reads nothing before it is in its profile.
    let profile = auditd.map_or(Ok(()), |_| apparmor::enter());
    // Before root is given up: whose word the configuration is does not change with that.
    let starter = Uid::effective();
    let config = match read(&given, starter, false) {
        Ok(config) => config,
        Err(error) => {
            complain(&format!("{error}\ntry: audit-relay check"));
            return CONFIG;
        }
    };
    match signals.take(auditd.is_none()) {
        Ok(signals) => relay(config, given, starter, auditd, profile, signals),
        Err(error) => {
            complain(&format!("cannot take over the signals: {error}"));
            OS_ERROR
        }
    }
}

/// Whatever else this program does.
fn carry_out(command: Command) -> u8 {
    match command {
        Command::Check { options, attempt: Some(name), .. } => attempt(&options, &name),
        Command::Check { options, confinement: true, .. } => check_confinement(&options),
        Command::Check { options, below, .. } => check(*options, below.as_deref()),
        Command::Status(options) => status::command::run(&options),
        Command::Install { upgraded: true, wait, place, .. } => {
            answer(install::upgraded(&place.request(), Duration::from_secs(wait)))
        }
        Command::Install { replace_syslog, wait, place, options, .. } => {
            answer(install_as(replace_syslog, Duration::from_secs(wait), place, *options))
        }
        Command::Uninstall { keep_config, place } => {
            answer(install::uninstall(&place.request(), keep_config))
        }
        Command::Cert(cert) => certificates(cert),
        Command::Doctor { asked, options } => doctor::run(&asked, &options),
    }
}

fn relay(
    config: Config,
    given: Options,
    starter: Uid,
    auditd: Option<Dispatcher>,
    profile: Result<(), String>,
    signals: SignalFd,
) -> u8 {
    diagnostics::start(config.log, auditd.is_some());
    if let Err(error) = profile {
        log::warn!("{error}");
    }
    let account = match privilege::reachable_account(config.user.as_deref()) {
        Ok(account) => account,
        Err(error) => {
            log::error!("{error}");
            return NO_PERMISSION;
        }
    };
    // Whoever the relay will be.
    let owner = match Uid::effective().is_root() {
        true => (account.uid, account.gid),
        false => (Uid::effective(), Gid::effective()),
    };
    // The usual folder is one for the whole machine.
    let is_the_machines = auditd.is_some_and(Dispatcher::is_the_machines);
    // Records come first: what cannot be opened is done without. Its folder may be the account's own, and what somebody
    // leaves there must not keep the next start from coming about.
    let report =
        config.report.as_deref().map(|path| status::open_report(path, owner.0)).and_then(|opened| {
            opened.map_err(|error| log::error!("{error}; going on without the report")).ok()
        });
    let handover = open_handover(&config, is_the_machines, owner);
    let doors = match status::open(&config, is_the_machines, owner, handover.as_ref()) {
        Ok(doors) => doors,
        Err(error) => {
            log::error!("{error}");
            return CANNOT_CREATE;
        }
    };
    let confined = match privilege::confine(&account) {
        Ok(confined) => confined,
        Err(error) => {
            log::error!("{error}");
            return NO_PERMISSION;
        }
    };
    if let Some(why) = confined.why_root() {
        log::warn!("{why}");
    }
    if auditd.is_some() {
        // A second line behind the end of the input: another plugin may hold a copy of auditd's end.
        let _ = prctl::set_pdeathsig(Signal::SIGUSR2);
    }
    if auditd.is_none() && io::stdin().is_terminal() {
        log::info!(
            "reads audit records from this terminal until Ctrl-D; auditd starts the relay by itself (audit-relay \
             install), and a file goes in with < FILE"
        );
    }
    let known = host::Known::find();
    let around = Around {
        file: file_of(&given),
        resolver: known.is_open(),
        log: diagnostics::uses_syslog(),
        writable: handover.as_ref().map(AsFd::as_fd).into_iter().chain(doors.folder()).collect(),
        clients: doors.listens(),
    };
    let confinement = match confine::apply(&confined, &config, around) {
        Ok(confinement) => confinement,
        Err(error) => {
            log::error!("{error}");
            return NO_PERMISSION;
        }
    };
    // From then on it has to be there: a file that is away for a moment must not make a reload one to the defaults.
    let has_file = file_of(&given).is_some_and(|path| is_there(&path));
    control::relay(Start {
        confinement,
        read_again: move || read(&given, starter, has_file),
        names: known.names(),
        // What auditd feeds must not wait, whatever stands between.
        input_is_socket: auditd.is_some() || getsockopt(&io::stdin().as_fd(), sockopt::SockType).is_ok(),
        config,
        auditd,
        report,
        handover,
        doors,
        signals,
        confined,
    })
}

/// True if there is anything of the name, a link that leads nowhere too.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

/// Reads file and command line together. `needed`: the file must be there, whoever named it.
fn read(options: &Options, starter: Uid, needed: bool) -> Result<Config, String> {
    let needed = needed || options.config.is_some();
    let settings = match file_of(options).filter(|path| needed || is_there(path)) {
        Some(path) => Settings::from_file(&path, starter)?,
        None => Settings::default(),
    };
    settings.overridden_by(options.clone().settings()?).validate()
}

/// The configuration's file, there or not; `None`: none is wanted.
fn file_of(options: &Options) -> Option<PathBuf> {
    match options.config.as_deref() {
        Some(path) if path == Path::new("none") => None,
        Some(path) => Some(path.to_path_buf()),
        None => Some(PathBuf::from(DEFAULT_FILE)),
    }
}

/// `audit-relay check`. `below`: of another system, in this folder.
fn check(options: Options, below: Option<&Path>) -> u8 {
    let mut out = io::stdout();
    if let Some(folder) = below
        && let Err(errno) = chroot(folder).and_then(|()| chdir("/"))
    {
        let _ = writeln!(io::stderr(), "audit-relay: cannot go to {}: {errno}", folder.display());
        return NO_PERMISSION;
    }
    let account = if below.is_some() { privilege::account_in_file } else { privilege::account };
    match read(&options, Uid::effective(), false)
        .and_then(|config| account(config.user.as_deref()).map(|account| (config, account)))
    {
        Ok((config, account)) => {
            let _ = write!(out, "{}", config.effective());
            let _ = writeln!(out, "# runs as {} (uid {}) when started as root", account.name, account.uid);
            let owner = if Uid::effective().is_root() { account.uid } else { Uid::effective() };
            // What is made when that system starts is not there yet.
            let faults = if below.is_some() { Vec::new() } else { status::faults(&config, owner) };
            let unseen = faults.into_iter().map(|fault| format!("{fault}; the relay will go on without it"));
            let group = if below.is_some() { status::group_in_file } else { status::group };
            if let Err(error) = group(&config) {
                let _ = writeln!(io::stderr(), "audit-relay: {error}");
                return CANNOT_CREATE;
            }
            let shut = status::shut_to_group(&config, owner);
            for warning in config.warnings().into_iter().chain(unseen).chain(shut) {
                let _ = writeln!(io::stderr(), "audit-relay: warning: {warning}");
            }
            check_certificates(&config, &account)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "audit-relay: {error}");
            CONFIG
        }
    }
}

/// `audit-relay check --confinement`: a process for each attempt, since some are ended for it.
fn check_confinement(options: &Options) -> u8 {
    let mut out = io::stdout();
    let config = match read(options, Uid::effective(), false) {
        Ok(config) => config,
        Err(error) => {
            let _ = writeln!(io::stderr(), "audit-relay: {error}");
            return CONFIG;
        }
    };
    let resolver = host::Known::find().is_open();
    let mut all_refused = true;
    for attempt in attempts::ATTEMPTS {
        if attempt.is_needed(&config, resolver, config.log.may_be_syslog()) {
            let _ = writeln!(out, "needed   {:<52} this configuration cannot do without", attempt.what);
            continue;
        }
        let tried = std::process::Command::new("/proc/self/exe")
            .args(std::env::args_os().skip(1))
            .args(["--attempt", attempt.name])
            .stdin(Stdio::null())
            .output();
        let (refused, why) = match &tried {
            Err(error) => (None, error.to_string()),
            Ok(output) => match (output.status.code(), output.status.signal()) {
                (_, Some(libc::SIGSYS)) => (Some(true), "the process is ended (SIGSYS)".to_owned()),
                (Some(code), _) if code == i32::from(REFUSED) => {
                    (Some(true), String::from_utf8_lossy(&output.stdout).trim().to_owned())
                }
                (Some(0), _) => (Some(false), "it can".to_owned()),
                _ => (None, format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
            },
        };
        all_refused &= refused == Some(true);
        let verdict = match refused {
            Some(true) => "refused",
            Some(false) => "ALLOWED",
            None => "UNKNOWN",
        };
        let _ = writeln!(out, "{verdict}  {:<52} {why}", attempt.what);
    }
    if all_refused { 0 } else { UNAVAILABLE }
}

/// Confines this process as the relay is, and makes one attempt.
fn attempt(options: &Options, name: &str) -> u8 {
    let complain = |error: &str| {
        let _ = writeln!(io::stderr(), "audit-relay: {error}");
        CONFIG
    };
    let Some(attempt) = attempts::Attempt::find(name) else { return USAGE };
    let before = attempts::Before::now();
    // As the relay does it, which goes on without it.
    let _ = apparmor::enter();
    let confined = read(options, Uid::effective(), false).and_then(|config| {
        let account = privilege::account(config.user.as_deref())?;
        let confined = privilege::confine(&account)?;
        let resolver = host::Known::find().is_open();
        confine::apply(
            &confined,
            &config,
            Around {
                file: file_of(options),
                resolver,
                log: config.log.may_be_syslog(),
                writable: Vec::new(),
                clients: false,
            },
        )
    });
    if let Err(error) = confined {
        return complain(&error);
    }
    match attempt.make(&before) {
        Ok(()) => 0,
        Err(error) if attempt.is_refusal(&error) => {
            let _ = writeln!(io::stdout(), "{error}");
            REFUSED
        }
        Err(error) => complain(&format!("could not be tried: {error}")),
    }
}

/// `audit-relay install`.
fn install_as(
    replace_syslog: bool,
    patience: Duration,
    place: cli::Place,
    options: Options,
) -> Result<(), Failure> {
    let config = options.config.clone();
    let settings = options.settings().map_err(Failure::Config)?;
    install::install(&place.request(), install::Installation { replace_syslog, config, settings, patience })
}

/// Says how it went.
fn answer(done: Result<(), Failure>) -> u8 {
    let Err(failure) = done else { return 0 };
    let _ = writeln!(io::stderr(), "audit-relay: {failure}");
    match failure {
        Failure::NotRoot => NO_PERMISSION,
        Failure::Config(_) => CONFIG,
        Failure::Refused(_) => UNAVAILABLE,
    }
}

/// Reads what TLS needs as the relay will: without root.
fn check_certificates(config: &Config, account: &privilege::Account) -> u8 {
    let over_tls = |d: &&audit_relay::config::Destination| d.route.any(output::service::Target::is_over_tls);
    let destinations: Vec<_> = config.destinations.iter().filter(over_tls).collect();
    let complain = |sentence: &str| {
        let _ = writeln!(io::stderr(), "audit-relay: {sentence}");
    };
    if destinations.is_empty() {
        return 0;
    }
    // Root may read everything, so nothing would be learned as root.
    if let Err(error) = privilege::confine(account) {
        complain(&error);
        return NO_PERMISSION;
    }
    let mut status = 0;
    for d in destinations {
        match output::check_tls(&d.service.tls) {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| complain(&format!("warning: {}: {warning}", d.url)));
            }
            Err(error) => {
                complain(&format!("{}: {error}", d.url));
                status = CONFIG;
            }
        }
    }
    status
}

/// `audit-relay cert`.
fn certificates(what: Cert) -> u8 {
    let done = match what {
        Cert::New { names, days, out } => {
            let names = if names.is_empty() { vec![host::names().full] } else { names };
            certificate_files::new(&out, &names, days)
        }
        Cert::Show { file } => certificate_files::show(&file),
    };
    match done {
        Ok(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            0
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "audit-relay: {error}");
            CANNOT_CREATE
        }
    }
}

/// Opens the folder for undelivered records while root may still make it. A relay without it is better than none.
fn open_handover(config: &Config, under_auditd: bool, owner: (Uid, Gid)) -> Option<Folder> {
    let without = "going on without, so what is undelivered at the end will be lost";
    let open = |path: &Path| Folder::for_records(path, owner, config.drain_timeout);
    match &config.handover {
        Handover::Off => None,
        Handover::Auto if !under_auditd => None,
        Handover::Auto => {
            open(Path::new(DEFAULT_HANDOVER)).map_err(|error| log::warn!("{error}; {without}")).ok()
        }
        Handover::Folder(path) => open(path).map_err(|error| log::error!("{error}; {without}")).ok(),
    }
}
