//! An auditd of the run's own, with the program under test as its only plugin.
//!
//! *Promise:* it runs from a configuration directory of its own and touches nothing of the system's; it is up, with
//! its plugin, before the load begins.
//! *Law:* the settings are those Debian ships, but for what the command line names and for what would act on a full
//! disk.
//!
//! ```text
//! DIR/etc/auditd.conf  DIR/etc/plugins.d/plugin.conf    DIR/plugin: a shell script that becomes the plugin
//! DIR/log/audit.log    DIR/auditd.stderr                DIR/bin/: the plugin, if auditd runs in another root
//! ```
//! The script is there because auditd 3 gives a plugin no more than two arguments. With a root, `DIR` is seen there as
//! `/tmp/NAME`; that root has its own /dev, /run and /tmp, in a mount namespace that ends with auditd.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::args::{KernelArgs, LogFormat, PluginFormat, Setting, YesNo};
use super::netlink::Audit;
use super::observe;

const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
/// How long auditd may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Starts auditd in another root: $1 the root, $2 the working directory, $3 where that is seen, $4 what is /dev/log
/// there or nothing, then the command. All mounts are in this process's own namespace.
const ENTER_ROOT: &str = r#"
set -e
root=$1 dir=$2 inside=$3 log=$4
shift 4
mount --rbind /proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root$inside"
mount --bind "$dir" "$root$inside"
if [ -n "$log" ]; then
  : >"$root/dev/log"
  mount --bind "$log" "$root/dev/log"
fi
exec chroot "$root" "$@"
"#;

/// The run's working directory, as this program and as auditd see it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its path here.
    pub(super) here: PathBuf,
    root: Option<PathBuf>,
}

impl Place {
    /// A new directory in `parent`, entered by anyone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn make(parent: &Path, root: Option<&Path>) -> io::Result<Self> {
        let parent = fs::canonicalize(parent)?;
        let root = root.map(fs::canonicalize).transpose()?;
        let pid = std::process::id();
        for attempt in 0..100 {
            let here = parent.join(format!("audit-loadgen-kernel.{pid}.{attempt}"));
            match fs::create_dir(&here) {
                Ok(()) => {
                    fs::set_permissions(&here, fs::Permissions::from_mode(0o755))?;
                    return Ok(Self { here, root });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a working directory"))
    }

    /// Its path for auditd and the plugin.
    pub(super) fn inside(&self) -> PathBuf {
        match &self.root {
            Some(_) => Path::new("/tmp").join(self.here.file_name().unwrap_or_default()),
            None => self.here.clone(),
        }
    }

    /// The path by which the plugin gets at a file of the working directory.
    pub(super) fn seen(&self, file: &Path) -> PathBuf {
        match file.strip_prefix(&self.here) {
            Ok(rest) => self.inside().join(rest),
            Err(_) => file.to_owned(),
        }
    }
}

/// A running auditd.
#[derive(Debug)]
pub(super) struct Auditd {
    child: Child,
    place: Place,
}

impl Auditd {
    /// Starts auditd with `command` as its plugin, and waits until the kernel has it registered and the plugin runs.
    /// `dev_log` is the socket that is /dev/log in another root.
    ///
    /// # Errors
    /// If it cannot be started, ends, or is not up in time; what it said is in the message.
    pub(super) fn start(
        args: &KernelArgs,
        place: &Place,
        command: &[String],
        dev_log: Option<&Path>,
        audit: &mut Audit,
    ) -> io::Result<Self> {
        write_files(args, place, command)?;
        let program = match &args.auditd {
            Some(path) => path.clone(),
            None => find(&["/usr/sbin/auditd", "/sbin/auditd"], place.root.as_deref())?,
        };
        let mut starting = match &place.root {
            None => Command::new(program),
            Some(root) => {
                let mut starting = Command::new("unshare");
                starting.args(["--mount", "sh", "-c", ENTER_ROOT, "sh"]);
                starting.arg(root).arg(&place.here).arg(place.inside());
                starting.arg(dev_log.unwrap_or(Path::new("")));
                starting.arg(program);
                starting
            }
        };
        let said = File::create(place.here.join("auditd.stderr"))?;
        let child = starting
            .arg("-n")
            .arg("-c")
            .arg(place.inside().join("etc"))
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            // The guard ends it; Ctrl-C must not, before what it has was received.
            .process_group(0)
            .spawn()?;
        let mut this = Self { child, place: place.clone() };
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = this.child.try_wait()? {
                let said = this.said();
                // With -n it speaks to syslog only.
                let said = if said.is_empty() { "it says why in the system log" } else { &said };
                return Err(io::Error::other(format!("it ended with {status}: {said}")));
            }
            let registered = audit.status()?.pid == this.pid();
            if registered && observe::plugins_of(this.pid()).next().is_some() {
                return Ok(this);
            }
            if Instant::now() >= end {
                let state = if registered { "started no plugin" } else { "did not register with the kernel" };
                return Err(io::Error::other(format!("it {state} within {PATIENCE:?}: {}", this.said())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as its service manager would, and waits for it.
    ///
    /// # Errors
    /// If the operating system refuses to say.
    pub(super) fn stop(&mut self) -> io::Result<ExitStatus> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let end = Instant::now() + PATIENCE;
        // It may be gone already.
        let _ = kill(pid, Signal::SIGTERM);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.child.kill()?;
        self.child.wait()
    }

    /// What auditd and the plugin wrote to stderr, its end.
    pub(super) fn said(&self) -> String {
        let bytes = fs::read(self.place.here.join("auditd.stderr")).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(2000)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        // After a failed start; else it is gone and this does nothing.
        let _ = self.stop();
    }
}

fn find(names: &[&str], root: Option<&Path>) -> io::Result<PathBuf> {
    let root = root.unwrap_or(Path::new("/"));
    let found = names.iter().find(|name| root.join(name.trim_start_matches('/')).is_file());
    found.map(PathBuf::from).ok_or_else(|| {
        let message = format!("no auditd in {}; install it or name one with --auditd", root.display());
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

fn write_files(args: &KernelArgs, place: &Place, command: &[String]) -> io::Result<()> {
    let (here, inside) = (&place.here, place.inside());
    let plugins = here.join("etc/plugins.d");
    fs::create_dir_all(&plugins)?;
    // A directory of its own: auditd takes all access by others from the one its log file is in.
    fs::create_dir(here.join("log"))?;
    put(&here.join("etc/auditd.conf"), &auditd_conf(args, &inside), 0o640)?;
    put(&plugins.join("plugin.conf"), &plugin_conf(args, &inside), 0o640)?;
    let (program, rest) = command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no plugin command"))?;
    let program = bring(Path::new(program), place)?;
    put(&here.join("plugin"), &plugin_script(&program, rest), 0o755)
}

fn put(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    fs::write(file, text)?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode))
}

/// The plugin's path where auditd runs: its own there, or a copy of the one here.
fn bring(program: &Path, place: &Place) -> io::Result<PathBuf> {
    let Some(root) = &place.root else {
        return fs::canonicalize(program)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())));
    };
    if let Ok(rest) = program.strip_prefix("/")
        && root.join(rest).is_file()
    {
        return Ok(program.to_owned());
    }
    // Under its own name, which is what process lists show.
    let name = program.file_name().unwrap_or(program.as_os_str());
    let copy = place.here.join("bin").join(name);
    fs::create_dir_all(place.here.join("bin"))?;
    fs::copy(program, &copy)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(place.seen(&copy))
}

fn auditd_conf(args: &KernelArgs, inside: &Path) -> String {
    let log_format = match args.log_format {
        LogFormat::Enriched => "ENRICHED",
        LogFormat::Raw => "RAW",
    };
    let write_logs = match args.write_logs {
        YesNo::Yes => "yes",
        YesNo::No => "no",
    };
    let inside = inside.display();
    let text = format!(
        "local_events = yes\nwrite_logs = {write_logs}\nlog_file = {inside}/log/audit.log\nlog_group = root\n\
         log_format = {log_format}\nflush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 2000\nnum_logs = 0\n\
         max_log_file_action = IGNORE\npriority_boost = 4\nname_format = NONE\nspace_left = 2\n\
         space_left_action = IGNORE\nadmin_space_left = 1\nadmin_space_left_action = IGNORE\n\
         disk_full_action = IGNORE\ndisk_error_action = IGNORE\ndistribute_network = no\n\
         q_depth = {}\noverflow_action = SYSLOG\nmax_restarts = 10\nplugin_dir = {inside}/etc/plugins.d\n",
        args.q_depth
    );
    with(text, &args.auditd_set)
}

/// `settings` in place of the lines of the same key, or behind all others: auditd takes none twice.
fn with(text: String, settings: &[Setting]) -> String {
    settings.iter().fold(text, |text, Setting { key, value }| {
        let others = text.lines().filter(|line| line.split(' ').next() != Some(key));
        others.fold(String::new(), |text, line| text + line + "\n") + &format!("{key} = {value}\n")
    })
}

fn plugin_conf(args: &KernelArgs, inside: &Path) -> String {
    let format = match args.plugin_format {
        PluginFormat::String => "string",
        PluginFormat::Binary => "binary",
    };
    format!(
        "active = yes\ndirection = out\npath = {}/plugin\ntype = always\nformat = {format}\n",
        inside.display()
    )
}

/// A script that becomes the plugin. `exec`: the process that auditd started is the plugin.
fn plugin_script(program: &Path, args: &[String]) -> String {
    let mut script = String::from("#!/bin/sh\nexec");
    for word in std::iter::once(&program.to_string_lossy().into_owned()).chain(args) {
        // A String takes everything.
        let _ = write!(script, " '{}'", word.replace('\'', r"'\''"));
    }
    script.push('\n');
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_keeps_every_word_as_it_is() {
        let words = ["two words", "it's", "$HOME", "", "a\\b", "*"].map(str::to_owned);
        let script = plugin_script(Path::new("/usr/bin/printf"), &[&["%s|".to_owned()][..], &words].concat());
        let output = Command::new("/bin/sh").arg("-c").arg(&script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "two words|it's|$HOME||a\\b|*|");
    }

    #[test]
    fn a_setting_stands_once() {
        let setting = |key: &str, value: &str| Setting { key: key.into(), value: value.into() };
        let settings =
            [setting("flush", "NONE"), setting("end_of_event_timeout", "1"), setting("flush", "DATA")];
        assert_eq!(
            with("flush = INCREMENTAL\nfreq = 50\n".into(), &settings),
            "freq = 50\nend_of_event_timeout = 1\nflush = DATA\n"
        );
    }

    #[test]
    fn files_of_the_working_directory_have_another_path_in_a_root() {
        let parent = tempfile::tempdir().unwrap();
        let place = Place::make(parent.path(), Some(Path::new("/"))).unwrap();
        let name = place.here.file_name().unwrap();
        assert_eq!(place.seen(&place.here.join("log")), Path::new("/tmp").join(name).join("log"));
        assert_eq!(place.seen(Path::new("/dev/log")), Path::new("/dev/log"));
        let place = Place::make(parent.path(), None).unwrap();
        assert_eq!(place.seen(&place.here.join("log")), place.here.join("log"));
    }
}
