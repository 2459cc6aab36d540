//! auditd on this machine, or in a folder that holds another: what it is, what it is told, whom it feeds.
//!
//! Promise: [`Site::look`] tells the version, the settings and the plugins as auditd itself would take them, and says what
//! it could not look at. Law: reads, never writes a file, runs nothing; the rules are in the pure rooms below,
//! this file and `kernel` only open what they ask for.

pub mod kernel;
pub mod plugin;
pub mod root;
pub mod settings;
pub mod status;
pub mod unit;
pub mod version;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub use plugin::{Facts, Form, Kind, PluginConf};
pub use root::Root;
pub use settings::Settings;
pub use unit::KillMode;
pub use version::{Reload, Version};

/// auditd's own configuration.
pub const AUDITD_CONF: &str = "/etc/audit/auditd.conf";

/// Where auditd's program is.
const PROGRAMS: [&str; 4] = ["/usr/sbin/auditd", "/sbin/auditd", "/usr/bin/auditd", "/usr/local/sbin/auditd"];

/// Where auditd leaves its process id.
const PID_FILES: [&str; 3] = ["/run/audit/auditd.pid", "/var/run/auditd.pid", "/run/auditd.pid"];

/// Packages that auditd comes in: Debian's, everybody else's.
const PACKAGES: [&str; 2] = ["auditd", "audit"];

/// Most bytes that are read of a configuration, and of a program.
const LARGEST_CONF: u64 = 1 << 20;
const LARGEST_PROGRAM: u64 = 32 << 20;

/// What auditd has against a line or a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// From 1 on; `None`: the file as a whole.
    pub line: Option<usize>,
    /// What is wrong, to stand behind the file's name.
    pub sentence: String,
    /// auditd passes the file over (from 4.2 on, it then also changes nothing at a reload). Otherwise it goes on without
    /// the part that the sentence names.
    pub rejects: bool,
}

/// How the version is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// From the program that runs.
    Running,
    /// From the program on the disk.
    Program,
    /// From the package manager, which says what was installed.
    Package,
}

/// A file in auditd's plugin folder.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Its path on the machine that is looked at.
    pub file: PathBuf,
    /// What it says; `None`: it could not be read.
    pub conf: Option<PluginConf>,
    /// What auditd has against it: name, owner, mode, lines, program.
    pub faults: Vec<Fault>,
    /// The file's owner and mode; `None`: unknown.
    pub facts: Option<Facts>,
    /// The program's owner and mode; `None`: unknown, not there, or built into auditd.
    pub program: Option<Facts>,
}

impl Plugin {
    /// auditd starts it.
    pub fn is_started(&self) -> bool {
        self.conf.as_ref().is_some_and(|conf| conf.active) && !self.faults.iter().any(|fault| fault.rejects)
    }

    /// auditd was told to start it and does not.
    pub fn is_skipped(&self) -> bool {
        self.conf.as_ref().is_some_and(|conf| conf.active) && !self.is_started()
    }

    /// auditd of this version does not look at a file of this name: whatever it says starts nothing, and hinders no reload.
    pub fn is_passed_over(&self, version: Version) -> bool {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        plugin::name_fault(&name, version).is_some()
    }

    /// It is said to be started, well or not, whatever its name, and runs `program`.
    pub fn is_active_and_leads_to(&self, program: &str) -> bool {
        self.conf.as_ref().is_some_and(|conf| conf.active && conf.leads_to(program))
    }
}

/// auditd on a machine.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its version, and how it is known. `None`: there is no auditd.
    pub version: Option<(Version, Source)>,
    /// Version of the program on the disk, which may be newer than the one that runs.
    pub installed: Option<Version>,
    /// Process id of the running auditd; `None`: it does not run, or the files belong to another machine.
    pub pid: Option<u32>,
    /// auditd's own configuration: [`AUDITD_CONF`], or where the running one was told to look (`-c`).
    pub conf_file: PathBuf,
    /// `auditd.conf`; an error if it could not be read.
    pub settings: Result<Settings, String>,
    /// Where `q_depth`, `overflow_action`, `max_restarts` and `plugin_dir` are set: the same, or 2.x's audispd.conf.
    pub dispatcher: Result<Settings, String>,
    /// Folder of the plugin configurations, on the machine that is looked at.
    pub plugin_folder: PathBuf,
    /// What is in it, sorted by name.
    pub plugins: Vec<Plugin>,
    /// How systemd ends what auditd has started, and the file that decides it; `None`: there is no unit, or the machine runs
    /// without systemd.
    pub kill_mode: Option<(KillMode, PathBuf)>,
    /// What could not be looked at: sentences.
    pub unseen: Vec<String>,
}

impl Site {
    /// Looks at the machine below `root`.
    pub fn look(root: &Root) -> Self {
        Self::look_with(root, None)
    }

    /// As [`Site::look`], with the process id that the kernel gives its records to, where it is known.
    pub fn look_with(root: &Root, kernels: Option<u32>) -> Self {
        let mut unseen = Vec::new();
        let pid = match root.is_host() {
            true => kernels.filter(|pid| is_auditd(*pid)).or_else(|| running(root)),
            false => None,
        };
        let conf_file = pid
            .and_then(conf_folder)
            .map_or_else(|| PathBuf::from(AUDITD_CONF), |folder| folder.join("auditd.conf"));
        let installed = PROGRAMS.iter().find_map(|program| version_of(&root.find(program)));
        let version = pid
            .and_then(running_version)
            .map(|version| (version, Source::Running))
            .or_else(|| installed.map(|version| (version, Source::Program)))
            .or_else(|| version_of_package(root).map(|version| (version, Source::Package)));
        // What is not known is taken for the newest: its rules are the strictest.
        let assumed = version.map_or(Version::new(4, 2, 0), |(version, _)| version);
        let settings = read_settings(root, &conf_file, assumed);
        let dispatcher = match assumed.has_audispd() {
            true => read_settings(root, Path::new(assumed.dispatcher_conf()), assumed),
            false => settings.clone(),
        };
        for error in [&settings, &dispatcher].into_iter().filter_map(|read| read.as_ref().err()) {
            if !unseen.contains(error) {
                unseen.push(error.clone());
            }
        }
        let named = dispatcher.as_ref().ok().and_then(Settings::plugin_dir);
        let plugin_folder = PathBuf::from(named.unwrap_or(assumed.plugin_folder()));
        let plugins = plugins(root, &plugin_folder, assumed).unwrap_or_else(|error| {
            unseen.push(format!("{}: {error}", plugin_folder.display()));
            Vec::new()
        });
        let kill_mode = match root.is_host() && !under_systemd() {
            true => None,
            false => kill_mode(root),
        };
        Self {
            version,
            installed,
            pid,
            conf_file,
            settings,
            dispatcher,
            plugin_folder,
            plugins,
            kill_mode,
            unseen,
        }
    }

    /// auditd's own configuration.
    pub fn conf_file(&self) -> &Path {
        &self.conf_file
    }

    /// The version, or if it is not known the newest, whose rules are the strictest.
    pub fn version_or_newest(&self) -> Version {
        self.version.map_or(Version::new(4, 2, 0), |(version, _)| version)
    }
}

/// The pid of an auditd that lives. Its own file, and whether that process is one: a file may be left over.
pub fn running(root: &Root) -> Option<u32> {
    PID_FILES.iter().find_map(|file| {
        let text = read_text(&root.find(file)).ok()?;
        let pid: u32 = text.trim().parse().ok()?;
        is_auditd(pid).then_some(pid)
    })
}

/// Anybody may have a process of that name, under a number that a file has kept; its words would then lead us. So it is
/// root's, and was started by root: a set-user-ID program has its words from somebody else.
fn is_auditd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "auditd")
        && fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| is_roots(&status))
}

/// Whether all four user ids in /proc/PID/status are root's.
pub(crate) fn is_roots(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.is_some_and(|ids| ids.split_whitespace().all(|id| id == "0"))
}

/// The process that has started the process `pid`, or has taken it over since.
pub fn parent(pid: u32) -> Option<u32> {
    parent_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent in /proc/PID/stat. The name before it may hold anything, also a parenthesis.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The folder that a running auditd was told to read its configuration from; `None`: the usual one.
pub fn conf_folder(pid: u32) -> Option<PathBuf> {
    folder_in(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)
}

/// The folder in auditd's command line (`-c FOLDER`).
fn folder_in(line: &[u8]) -> Option<PathBuf> {
    let mut words = line.split(|byte| *byte == 0);
    words.find(|word| *word == b"-c")?;
    words.next().filter(|word| !word.is_empty()).map(|word| PathBuf::from(OsStr::from_bytes(word)))
}

/// The version of the auditd that runs.
pub fn running_version(pid: u32) -> Option<Version> {
    version_of(Path::new(&format!("/proc/{pid}/exe")))
}

/// The version of the auditd in a program file.
fn version_of(program: &Path) -> Option<Version> {
    Version::in_program(&read_file(program, LARGEST_PROGRAM).ok()?)
}

fn version_of_package(root: &Root) -> Option<Version> {
    let status = read_file(&root.find("/var/lib/dpkg/status"), LARGEST_PROGRAM).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    PACKAGES.iter().find_map(|package| Version::in_dpkg_status(&status, package))
}

fn read_settings(root: &Root, path: &Path, version: Version) -> Result<Settings, String> {
    let text = read_text(&root.find(path)).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Settings::parse(&text, version))
}

/// Opens a regular file, and waits for no pipe, not even for one that is put there at this moment.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let other = || io::Error::other("is not a regular file");
    // Before it is opened: a device does something when it is.
    if !fs::metadata(path)?.is_file() {
        return Err(other());
    }
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// Reads a file whole, unless it is longer than `most` bytes, and waits for no pipe.
///
/// # Errors
/// It cannot be read, is no regular file, or is longer.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_file(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if read as u64 > most {
        return Err(io::Error::other(format!("is longer than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// Reads a configuration, of at most 1 MiB; bytes that are no UTF-8 are replaced.
///
/// # Errors
/// It cannot be read, is no regular file, or is longer.
pub fn read_text(path: &Path) -> io::Result<String> {
    read_file(path, LARGEST_CONF).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// True if this machine's services are systemd's (sd_booted(3)).
pub fn under_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// How systemd would end what auditd has started on this machine, and the file that decides it; `None`: it has no unit of
/// auditd's.
pub fn kill_mode(root: &Root) -> Option<(KillMode, PathBuf)> {
    let read = |path: PathBuf| read_text(&root.find(&path)).ok().map(|text| (path, text));
    let unit = unit::FOLDERS.iter().find_map(|folder| read(Path::new(folder).join(unit::NAME)))?;
    // By name, whatever the folder; of one name the first that is found counts.
    let mut drop_ins = BTreeMap::new();
    for kind in unit::DROP_INS {
        for folder in unit::FOLDERS.map(|folder| Path::new(folder).join(kind)) {
            let entries = fs::read_dir(root.find(&folder)).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name());
            for name in names.filter(|name| name.as_bytes().ends_with(b".conf")) {
                drop_ins.entry(name.clone()).or_insert_with(|| folder.join(name));
            }
        }
    }
    let own = unit.0.clone();
    let (mode, by) = unit::kill_mode(std::iter::once(unit).chain(drop_ins.into_values().filter_map(read)));
    Some((mode, by.unwrap_or(own)))
}

/// Every configuration in auditd's plugin folder, sorted by name.
///
/// # Errors
/// The folder cannot be read.
pub fn plugins(root: &Root, folder: &Path, version: Version) -> io::Result<Vec<Plugin>> {
    let mut names = fs::read_dir(root.find(folder))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names.into_iter().map(|name| plugin(root, &folder.join(name), version)).collect())
}

/// One plugin's configuration as auditd of this version takes it.
pub fn plugin(root: &Root, file: &Path, version: Version) -> Plugin {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut faults: Vec<Fault> = plugin::name_fault(&name, version).into_iter().collect();
    let entry = fs::symlink_metadata(root.find_link(file)).map(|facts| Facts::of(&facts)).ok();
    let behind = fs::metadata(root.find(file)).map(|facts| Facts::of(&facts)).ok();
    if let Some(entry) = &entry {
        faults.extend(plugin::conf_faults(entry, version));
        if let Some(behind) = behind.filter(|_| entry.kind == Kind::Link && version.follows_links()) {
            faults.extend(plugin::conf_faults(&behind, version));
        }
    }
    let conf = read_text(&root.find(file)).ok().map(|text| PluginConf::parse(&text, version));
    let mut program = None;
    if let Some(conf) = &conf {
        faults.extend(conf.faults.iter().cloned());
        if let Some(path) = conf.path.as_ref().filter(|path| path.is_absolute() && conf.active) {
            match fs::metadata(root.find(path)) {
                Ok(facts) => {
                    let facts = Facts::of(&facts);
                    let of = |fault: Fault| Fault {
                        sentence: format!("its program {} {}", path.display(), fault.sentence),
                        ..fault
                    };
                    faults.extend(plugin::program_faults(&facts, version).into_iter().map(of));
                    program = Some(facts);
                }
                Err(error) => faults.push(Fault {
                    line: None,
                    sentence: format!("its program {}: {error}", path.display()),
                    rejects: error.kind() != io::ErrorKind::PermissionDenied,
                }),
            }
        }
    }
    Plugin { file: file.to_path_buf(), conf, faults, facts: behind.or(entry), program }
}

impl Facts {
    /// Of what the system says.
    pub fn of(facts: &Metadata) -> Self {
        let kind = match facts.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Self { kind, uid: facts.uid(), gid: facts.gid(), mode: facts.permissions().mode() & 0o7777 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn drop_ins_are_read_as_systemd_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let put = |path: &str, mode: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Service]\nKillMode={mode}\n")).unwrap();
        };
        let mode = || kill_mode(&root).map(|(mode, _)| mode);
        assert_eq!(mode(), None);
        put("etc/systemd/system/auditd.service.d/a.conf", "none");
        assert_eq!(mode(), None, "no unit");
        put("usr/lib/systemd/system/auditd.service", "mixed");
        assert_eq!(mode(), Some(KillMode::None));
        // By name, not by folder; a name that does not end in .conf is none.
        put("usr/lib/systemd/system/service.d/b.conf", "process");
        put("run/systemd/system/auditd.service.d/z.conf.old", "mixed");
        assert_eq!(mode(), Some(KillMode::Process));
        put("usr/lib/systemd/system/auditd.service.d/c.conf", "mixed");
        assert_eq!(mode(), Some(KillMode::Mixed));
        put("etc/systemd/system/auditd.service.d/c.conf", "control-group");
        let by = PathBuf::from("/etc/systemd/system/auditd.service.d/c.conf");
        assert_eq!(kill_mode(&root), Some((KillMode::ControlGroup, by)));
        // The administrator's unit hides the distribution's.
        fs::remove_dir_all(dir.path().join("etc/systemd/system/auditd.service.d")).unwrap();
        fs::remove_dir_all(dir.path().join("usr/lib/systemd/system/auditd.service.d")).unwrap();
        fs::remove_dir_all(dir.path().join("usr/lib/systemd/system/service.d")).unwrap();
        put("etc/systemd/system/auditd.service", "none");
        assert_eq!(mode(), Some(KillMode::None));
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent(std::process::id()), Some(nix::unistd::getppid().as_raw().cast_unsigned()));
        for (stat, found) in [
            ("7 (auditd) S 1 7 7 0 -1", Some(1)),
            ("7 (:-) S 5) S 42 7 7 0", Some(42)),
            ("7 (auditd", None),
            ("", None),
        ] {
            assert_eq!(parent_in(stat), found, "{stat}");
        }
    }

    #[test]
    fn only_roots_own_process_is_auditd() {
        let status = |ids: &str| format!("Name:\tauditd\nUid:\t{ids}\nGid:\t0\t0\t0\t0\n");
        assert!(is_roots(&status("0\t0\t0\t0")));
        for ids in ["1000\t1000\t1000\t1000", "1000\t0\t0\t0", "0\t1000\t0\t1000"] {
            assert!(!is_roots(&status(ids)), "{ids}");
        }
        assert!(!is_roots(""));
    }

    #[test]
    fn auditds_command_line_names_its_folder() {
        for (line, folder) in [
            (&b"/sbin/auditd\0"[..], None),
            (b"/sbin/auditd\0-n\0-c\0/srv/a b\0", Some("/srv/a b")),
            (b"/sbin/auditd\0-c\0", None),
            (b"/sbin/auditd\0-c", None),
            (b"", None),
        ] {
            assert_eq!(folder_in(line), folder.map(PathBuf::from));
        }
    }

    /// A folder with a system in it: files, their texts and modes.
    fn planted(files: &[(&str, &[u8], u32)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text, mode) in files {
            let path = dir.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
        }
        let root = Root::at(dir.path());
        (dir, root)
    }

    #[test]
    fn a_whole_machine() {
        let (_dir, root) = planted(&[
            ("/usr/sbin/auditd", b"\x7fELF\x003.0.9\0", 0o755),
            ("/etc/audit/auditd.conf", b"log_format = ENRICHED\nq_depth = 400\n", 0o640),
            ("/etc/audit/plugins.d/b.conf", b"active = yes\n", 0o640),
            (
                "/etc/audit/plugins.d/a.conf",
                b"active = yes\npath = /usr/sbin/audit-relay\nformat = string\n",
                0o640,
            ),
            ("/usr/sbin/audit-relay", b"", 0o755),
        ]);
        let site = Site::look(&root);
        assert_eq!(site.version, Some((Version::new(3, 0, 9), Source::Program)));
        assert_eq!((site.pid, site.unseen.len()), (None, 0));
        assert_eq!(site.dispatcher.as_ref().unwrap().q_depth(Version::new(3, 0, 9)), 400);
        assert_eq!(site.plugin_folder, Path::new("/etc/audit/plugins.d"));
        let files: Vec<_> = site.plugins.iter().map(|plugin| plugin.file.display().to_string()).collect();
        assert_eq!(files, ["/etc/audit/plugins.d/a.conf", "/etc/audit/plugins.d/b.conf"]);
        assert!(site.plugins[1].is_skipped());
        if nix::unistd::geteuid().is_root() {
            assert!(site.plugins[0].is_started(), "{:?}", site.plugins[0].faults);
        }
        assert!(site.plugins[0].is_active_and_leads_to("audit-relay"));
    }

    #[test]
    fn an_old_machine() {
        let (_dir, root) = planted(&[
            ("/sbin/auditd", b"\x7fELF\x002.8.5\0", 0o755),
            ("/etc/audit/auditd.conf", b"dispatcher = /sbin/audispd\nq_depth = 7\n", 0o640),
            ("/etc/audisp/audispd.conf", b"q_depth = 250\nmax_restarts = 3\n", 0o640),
            ("/etc/audisp/plugins.d/syslog.conf", b"active = no\npath = builtin_syslog\n", 0o640),
        ]);
        let site = Site::look(&root);
        assert_eq!(site.version_or_newest(), Version::new(2, 8, 5));
        let dispatcher = site.dispatcher.unwrap();
        assert_eq!((dispatcher.q_depth(Version::new(2, 8, 5)), dispatcher.max_restarts()), (250, 3));
        assert_eq!(site.plugin_folder, Path::new("/etc/audisp/plugins.d"));
        assert!(!site.plugins[0].is_skipped());
    }

    #[test]
    fn what_is_missing_is_said() {
        let (_dir, root) = planted(&[("/var/lib/dpkg/status", b"Package: x\n", 0o644)]);
        let site = Site::look(&root);
        assert_eq!(site.version, None);
        assert_eq!(site.unseen.len(), 2, "{:?}", site.unseen);
        assert!(site.unseen[0].starts_with("/etc/audit/auditd.conf: No such file"));
    }

    #[test]
    fn the_package_managers_word() {
        let status =
            b"Package: auditd\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:4.0.2-2\n";
        let (_dir, root) = planted(&[("/var/lib/dpkg/status", status, 0o644)]);
        assert_eq!(Site::look(&root).version, Some((Version::new(4, 0, 2), Source::Package)));
    }

    #[test]
    fn a_program_that_is_missing() {
        let text = b"active = yes\npath = /usr/sbin/gone\n";
        let (_dir, root) = planted(&[("/etc/audit/plugins.d/x.conf", text, 0o640)]);
        let found = plugin(&root, Path::new("/etc/audit/plugins.d/x.conf"), Version::new(3, 0, 9));
        assert!(found.is_skipped());
        assert!(found.faults.iter().any(|fault| fault.sentence.contains("/usr/sbin/gone: No such file")));
    }
}
