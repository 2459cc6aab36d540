//! The sockets and the folder of what can be seen, made while root still can.
//!
//! Promise: a socket is under its name from one moment to the next, with its owner and mode already; an older instance's
//! is replaced, and nobody ever removes a newer one's. Law: called before root is given up and before confinement; no
//! path is walked on which others can turn the way (`guarded`).
//!
//! ```text
//! bind .status.sock.PID -> chmod, chown -> rename to status.sock       what is left behind refuses: connect says so
//! ```
//!
//! A port is of one relay, too. A confined one can bind none later, so that one is taken at the start or never: alone,
//! or, where the handover's lock shows that the instance before is still there, beside it, until it leaves.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{error, warn};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, umask};
use nix::unistd::{Gid, Group, Uid, UnlinkatFlags, fchownat, unlinkat};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::report_file;
use super::textfile::TextFile;
use crate::config::{Config, DEFAULT_HANDOVER, DEFAULT_STATUS, Handover, Status};
use crate::guarded::{self, Fault, Place};
use crate::handover::Folder;
use crate::site;

/// Clients that the kernel lets wait until they are accepted.
const BACKLOG: i32 = 16;

/// How long a port that is taken is waited for: an instance that ends leaves it at once.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often it is tried meanwhile.
const PERIOD: Duration = Duration::from_millis(20);

/// What was opened.
#[derive(Debug, Default)]
pub struct Doors {
    /// The socket in the file system.
    pub(super) socket: Option<UnixListener>,
    /// On the loopback interface.
    pub(super) port: Option<Port>,
    /// Where metrics are written.
    file: Option<TextFile>,
}

/// A port.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) listener: TcpListener,
    /// The instance before listens there, too, for now.
    pub(super) shared: Option<Shared>,
}

/// Who else listens at a port. The kernel's table is opened before confinement.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    table: Option<File>,
}

impl Shared {
    fn at(address: SocketAddr) -> Self {
        let name = if address.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
        Self { address, table: File::open(name).ok() }
    }

    /// True if somebody beside us does. False where nobody can tell.
    pub(super) fn is_still(&self) -> bool {
        self.table.as_ref().is_some_and(|table| listeners(BufReader::new(table), self.address) > 1)
    }
}

/// How many listen at `address`, by a table of sockets as /proc has it (proc_net(5)): those that listen stand first.
fn listeners(table: impl BufRead, address: SocketAddr) -> usize {
    const LISTEN: &str = "0A";
    // Words of four bytes, each in the machine's order.
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).unwrap_or_default();
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut wanted: String = octets.chunks(4).map(|bytes| format!("{:08X}", word(bytes))).collect();
    let _ = write!(wanted, ":{:04X}", address.port());
    table
        .lines()
        .map_while(Result::ok)
        .skip(1)
        .map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let is_it = fields.next() == Some(&wanted);
            (is_it, fields.nth(1) == Some(LISTEN))
        })
        .take_while(|(_, listens)| *listens)
        .filter(|(is_it, _)| *is_it)
        .count()
}

impl Doors {
    /// True if clients can come.
    pub fn listens(&self) -> bool {
        self.socket.is_some() || self.port.is_some()
    }

    /// The folder that metrics are written in.
    pub fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The file that metrics are written to.
    pub fn take_file(&mut self) -> Option<TextFile> {
        self.file.take()
    }
}

/// Opens what `config` asks for; `owner` is whom the relay will be, `handover` tells whether the instance before is still
/// there. A socket that cannot be made and a port that anybody on
/// the machine could have taken first are done without, and that is said: to be seen is not worth a relay that does not
/// start, and whoever has the relay's account could otherwise keep it from starting by what he leaves in a folder.
///
/// # Errors
/// A sentence with the remedy: there is no such group, or the folder of `metrics-file` cannot be used.
pub fn open(
    config: &Config,
    under_auditd: bool,
    owner: (Uid, Gid),
    handover: Option<&Folder>,
) -> Result<Doors, String> {
    let group = group(config)?;
    let socket = match &config.status {
        Status::Off => None,
        Status::Auto if !under_auditd => None,
        Status::Auto => usual(owner).map(Some).unwrap_or_else(|error| {
            warn!("{error}; `audit-relay status` will find no relay");
            None
        }),
        Status::Socket(path) => socket(path, owner, group)
            .inspect(|_| shut_to_group(config, owner.0).iter().for_each(|why| warn!("{why}")))
            .map_err(|error| error!("{error}; going on without, so `audit-relay status` will find no relay"))
            .ok(),
    };
    let port = config.metrics.and_then(|address| {
        listen(address, || handover.is_some_and(Folder::is_held))
            .map_err(|error| {
                let whose = match error.kind() {
                    io::ErrorKind::AddrInUse => " by another program, or another relay",
                    _ => "",
                };
                error!("metrics: cannot listen on {address}: {error}{whose}; going on without");
            })
            .ok()
    });
    let file = config.metrics_file.as_deref().and_then(|path| {
        TextFile::open(path, owner.0).map_err(|error| error!("{error}; going on without")).ok()
    });
    Ok(Doors { socket, port, file })
}

/// Why what `config` names will not be made or opened, as far as can be told without making it: socket, metrics, report,
/// handover.
pub fn faults(config: &Config, owner: Uid) -> Vec<String> {
    let socket = match &config.status {
        Status::Socket(path) => free_place(path, owner).err(),
        Status::Auto | Status::Off => None,
    };
    let metrics = config.metrics_file.as_deref().and_then(|path| TextFile::open(path, owner).err());
    let report = config.report.as_deref().and_then(|path| report_file::fault(path, owner));
    let handover = match &config.handover {
        Handover::Folder(path) => Folder::fault(path, owner),
        Handover::Auto | Handover::Off => None,
    };
    [socket, metrics, report, handover].into_iter().flatten().collect()
}

/// Why the group of `status-group` will not get at the socket, as far as its own folder says. The relay runs all the same: to
/// be seen is not worth records.
pub fn shut_to_group(config: &Config, owner: Uid) -> Option<String> {
    let (Status::Socket(path), Ok(Some(gid))) = (&config.status, group(config)) else { return None };
    let handover = match &config.handover {
        Handover::Auto => Some(Path::new(DEFAULT_HANDOVER)),
        Handover::Folder(folder) => Some(folder.as_path()),
        Handover::Off => None,
    };
    if let Some(folder) = handover.filter(|folder| path.starts_with(folder)) {
        return Some(format!(
            "status-group: {} is the relay's alone (`handover`), so no group gets at a socket in it; name another path, for \
             example status = \"/run/audit-relay.sock\"",
            folder.display()
        ));
    }
    let facts = fstat(&free_place(path, owner).ok()?.folder).ok()?;
    let may_enter = if facts.st_gid == gid.as_raw() { 0o010 } else { 0o001 };
    (facts.st_mode & may_enter == 0).then(|| {
        format!(
            "status-group: the group may not enter {}, so it cannot ask; let it (chgrp, chmod g+x), or name another path \
             in `status`",
            path.parent().unwrap_or(path).display()
        )
    })
}

/// The socket in the folder of the handover, which is made if need be.
fn usual(owner: (Uid, Gid)) -> Result<UnixListener, String> {
    let path = Path::new(DEFAULT_STATUS);
    let folder = path.parent().unwrap_or(path);
    Folder::open(folder, owner).map_err(|error| error.replacen("handover", "status", 1))?;
    socket(path, owner, None)
}

/// The group that may ask, too.
///
/// # Errors
/// A sentence: there is none of the name.
pub fn group(config: &Config) -> Result<Option<Gid>, String> {
    config.status_group.as_deref().map(|name| group_called(name, from_name_service)).transpose()
}

/// As [`group`], but never asks the name service ([`crate::privilege::account_in_file`]).
///
/// # Errors
/// A sentence: there is none of the name.
pub fn group_in_file(config: &Config) -> Result<Option<Gid>, String> {
    config.status_group.as_deref().map(|name| group_called(name, |_| None)).transpose()
}

fn from_name_service(name: &str) -> Option<Gid> {
    Group::from_name(name).ok().flatten().map(|group| group.gid)
}

fn group_called(name: &str, ask: impl Fn(&str) -> Option<Gid>) -> Result<Gid, String> {
    // The file first: when auditd starts, the name service may wait for a network.
    // That of another system may be anything, also a pipe that nobody writes to.
    let known = site::read_text(Path::new("/etc/group")).unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    known.lines().find_map(of_line).map(Gid::from_raw).or_else(|| ask(name)).ok_or_else(|| {
        format!("status-group: there is no group `{name}`; create it (groupadd) or name another")
    })
}

/// Makes the socket `path`: for root and the relay's account, and for `group` if there is one.
fn socket(path: &Path, (uid, gid): (Uid, Gid), group: Option<Gid>) -> Result<UnixListener, String> {
    let place = free_place(path, uid)?;
    let mut aside = OsString::from(".");
    aside.push(&place.name);
    aside.push(format!(".{}", std::process::id()));
    let remove = || unlinkat(&place.folder, aside.as_os_str(), UnlinkatFlags::NoRemoveDir);
    // Of an instance with our process id that was killed in between.
    let _ = remove();
    // bind(2) knows no folder by its descriptor; the path may be longer than an address holds, too.
    let bound = PathBuf::from(format!("/proc/self/fd/{}", place.folder.as_raw_fd())).join(&aside);
    let make = || -> io::Result<UnixListener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Its mode is that of the descriptor, less the umask: nobody can put another file between the two, as one who has
        // the relay's account could in its folder. This is before the first thread.
        fchmod(&socket, Mode::from_bits_truncate(if group.is_some() { 0o660 } else { 0o600 }))?;
        let before = umask(Mode::empty());
        let named = SockAddr::unix(&bound).and_then(|address| socket.bind(&address));
        umask(before);
        named?;
        give(&place.folder, &aside, uid, group.unwrap_or(gid))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        renameat(&place.folder, aside.as_os_str(), &place.folder, place.name.as_os_str())?;
        Ok(UnixListener::from(socket))
    };
    make().map_err(|error| {
        let _ = remove();
        format!("status: cannot make {}: {error}", path.display())
    })
}

/// The folder of `path`, with nothing under its name but an older socket.
fn free_place(path: &Path, uid: Uid) -> Result<Place, String> {
    let name = path.display();
    let failed = |what: &str, error: io::Error| format!("status: cannot {what} {name}: {error}");
    let place = guarded::place(path, uid).map_err(|fault| match fault {
        Fault::Io(error) => failed("open the folder of", error),
        Fault::Refused(sentence) => format!("status: {sentence}"),
    })?;
    match fstatat(&place.folder, place.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(place),
        Err(errno) => Err(failed("look at", errno.into())),
        Ok(facts) if is_socket(&facts) => Ok(place),
        Ok(_) => Err(format!("status: {name} is there and is no socket; remove it, or name another path")),
    }
}

/// Gives the socket `name` to its owner. Root must not be led to give away something else, so it is one, and has no
/// other name.
fn give(folder: &OwnedFd, name: &OsStr, uid: Uid, gid: Gid) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(folder, name, flags, Mode::empty())?;
    let facts = fstat(&made)?;
    if !is_socket(&facts) || facts.st_nlink != 1 {
        return Err(io::Error::other("somebody has put another file in its place"));
    }
    Ok(fchownat(&made, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?)
}

fn is_socket(facts: &FileStat) -> bool {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
}

/// Takes a loopback port: alone, or beside `an_older_one` of the same user that is still there.
fn listen(address: SocketAddr, an_older_one: impl Fn() -> bool) -> io::Result<Port> {
    let end = Instant::now() + PATIENCE;
    loop {
        match bind(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // It leaves as soon as it drains.
                if an_older_one()
                    && let Ok(listener) = bind(address, true)
                {
                    return Ok(Port { listener, shared: Some(Shared::at(address)) });
                }
                if Instant::now() >= end {
                    return Err(error);
                }
                std::thread::sleep(PERIOD);
            }
            listener => return Ok(Port { listener: listener?, shared: None }),
        }
    }
}

/// `shared`: others may listen there, if they let us.
fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an instance before may linger.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    // From now on the next instance may listen, too, if it asks for that. Whoever does not finds the port taken, and so
    // did we until here: two that start at once are not both let in.
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::os::unix::net::UnixStream;

    fn ours() -> (Uid, Gid) {
        (Uid::effective(), Gid::effective())
    }

    #[test]
    fn the_newer_socket_takes_the_name_and_the_older_one_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.sock");
        let old = socket(&path, ours(), None).unwrap();
        let new = socket(&path, ours(), None).unwrap();
        drop(old);
        let facts = path.metadata().unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&path).unwrap();
        assert!(new.accept().is_ok());
        drop(new);
        // What is left of a killed one.
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _again = socket(&path, ours(), Some(Gid::effective())).unwrap();
        let facts = path.metadata().unwrap();
        assert_eq!((facts.mode() & 0o777, facts.gid()), (0o660, Gid::effective().as_raw()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn no_file_is_replaced_and_no_link_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert!(socket(&path, ours(), None).unwrap_err().contains("is no socket"));
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(socket(&link, ours(), None).unwrap_err().contains("is no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x");
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(socket(&open.join("s"), ours(), None).unwrap_err().contains("others may write"));
        // Longer than an address of a socket can be.
        let deep = dir.path().join("d".repeat(150));
        std::fs::create_dir(&deep).unwrap();
        assert!(socket(&deep.join("s"), ours(), None).is_ok());
    }

    #[test]
    fn only_a_socket_without_a_second_name_is_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let folder = OwnedFd::from(File::open(dir.path()).unwrap());
        let give = |name: &str| give(&folder, OsStr::new(name), ours().0, ours().1);
        std::fs::write(dir.path().join("file"), "").unwrap();
        symlink("socket", dir.path().join("link")).unwrap();
        let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        assert!(give("file").is_err() && give("link").is_err() && give("none").is_err());
        assert!(give("socket").is_ok());
        std::fs::hard_link(dir.path().join("socket"), dir.path().join("second")).unwrap();
        assert!(give("socket").is_err());
    }

    #[test]
    fn a_port_is_taken_alone_or_beside_the_instance_before() {
        let no = || false;
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        // Whoever does not want to share it does not.
        assert_eq!(listen(address, || true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(probe);
        let old = listen(address, no).unwrap();
        assert!(old.shared.is_none());
        let start = Instant::now();
        assert_eq!(listen(address, no).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(start.elapsed() >= PATIENCE);
        let new = listen(address, || true).unwrap();
        assert!(new.shared.unwrap().is_still());
        drop(new.listener);
        let new = listen(address, || true).unwrap();
        let waiting = std::thread::spawn(move || listen(address, || false));
        drop(old);
        assert!(!new.shared.unwrap().is_still());
        drop(new.listener);
        assert!(waiting.join().unwrap().unwrap().shared.is_none(), "it was waited for");
    }

    #[test]
    fn who_listens_is_read_out_of_the_kernels_table() {
        for ip in ["127.0.0.1", "127.1.2.3", "::1"] {
            let first = bind(SocketAddr::new(ip.parse().unwrap(), 0), true).unwrap();
            let address = first.local_addr().unwrap();
            let count = || {
                let table = Shared::at(address).table.unwrap();
                listeners(BufReader::new(table), address)
            };
            assert_eq!(count(), 1, "{address}");
            let second = bind(address, true).unwrap();
            let _client = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(count(), 2, "{address}");
            drop((first, second));
            assert_eq!(count(), 0, "{address}");
        }
    }

    #[test]
    fn a_group_that_is_not_there_is_named() {
        assert!(group_called("no-such-group-here", from_name_service).unwrap_err().contains("groupadd"));
        assert_eq!(group_called("root", |_| None), Ok(Gid::from_raw(0)));
    }
}
