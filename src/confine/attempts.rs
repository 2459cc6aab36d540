//! What a relay that has been taken over would try. `audit-relay check --confinement` tries it.
//!
//! Law: each attempt is made by a process of its own, confined as the running relay is, since some end it; none
//! changes anything if it succeeds.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::ptrace;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::{Uid, execv, getppid, setuid};
use socket2::{Domain, Socket, Type};

use super::calls::Sockets;
use super::needs::Needs;
use crate::config::Config;
use crate::sys;

/// One attempt.
#[derive(Debug)]
pub struct Attempt {
    /// On the command line.
    pub name: &'static str,
    /// To people.
    pub what: &'static str,
    make: fn(&Before) -> io::Result<()>,
    /// Some configurations have a use for it.
    useful: fn(&Sockets) -> bool,
    /// The answers that are refusals; with any other it could not be tried. None: the process has to be ended.
    refusals: &'static [i32],
}

/// What has to be found out before.
#[derive(Debug)]
pub struct Before {
    program: PathBuf,
    outside: PathBuf,
    /// Somebody who listens under a name that is in no folder.
    abstract_name: Option<(UnixListener, UnixAddr)>,
}

impl Before {
    /// Call before confinement.
    pub fn now() -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        Self {
            program,
            outside: std::env::temp_dir().join(format!("audit-relay-attempt-{}", std::process::id())),
            abstract_name: UnixAddr::from_abstract_name(format!(
                "audit-relay-attempt-{}",
                std::process::id()
            ))
            .and_then(|name| Ok((UnixListener::bind_addr(&name)?, name)))
            .ok(),
        }
    }
}

impl Attempt {
    /// The one called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        ATTEMPTS.iter().find(|attempt| attempt.name == name)
    }

    /// True if a relay with `config` does the same in its daily work; see [`super::Around`] for the others.
    pub fn is_needed(&self, config: &Config, resolver: bool, log: bool) -> bool {
        (self.useful)(&Needs::of(config, None, resolver, log).sockets)
    }

    /// Tries it.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn make(&self, before: &Before) -> io::Result<()> {
        (self.make)(before)
    }

    /// True if `error` means that it is refused.
    pub fn is_refusal(&self, error: &io::Error) -> bool {
        error.raw_os_error().is_none_or(|errno| self.refusals.contains(&errno))
    }
}

/// All attempts.
pub const ATTEMPTS: &[Attempt] = &[
    attempt("exec", "become another program", |_| Ok(execv(c"/bin/true", &[c"true"]).map(drop)?), &[]),
    attempt("process", "start a process", |_| Command::new("/bin/true").status().map(drop), &[libc::ENOSYS]),
    attempt("read", "read another file", |before| File::open(&before.program).map(drop), &[libc::EACCES]),
    attempt("write", "write another file", write, &[libc::EACCES]),
    attempt("connect", "connect to another TCP port", connect, &[libc::EACCES, libc::ENOSYS]),
    attempt("listen", "take TCP connections", listen, &[libc::EACCES, libc::ENOSYS]),
    attempt("fastopen", "connect by sending (TCP Fast Open)", fastopen, &[libc::ENOSYS]),
    attempt("mptcp", "connect by Multipath TCP", |_| sys::mptcp_socket(), &[libc::ENOSYS]),
    Attempt {
        useful: |sockets| sockets.udp,
        ..attempt(
            "udp",
            "send over UDP",
            |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
            &[libc::ENOSYS],
        )
    },
    Attempt {
        useful: |sockets| sockets.local,
        ..attempt("local", "send to a local socket", |_| UnixDatagram::unbound().map(drop), &[libc::ENOSYS])
    },
    Attempt {
        useful: |sockets| sockets.local_stream,
        ..attempt("service", "connect to a local service", service, &[libc::ENOSYS])
    },
    attempt("abstract", "connect to a service without a file", nameless, &[libc::EPERM, libc::ENOSYS]),
    attempt("raw", "open a raw or packet socket", |_| sys::packet_socket(), &[libc::ENOSYS, libc::EPERM]),
    attempt("audit", "speak with the kernel's audit", |_| sys::audit_socket(), &[libc::ENOSYS]),
    attempt("signal", "signal another process", |_| Ok(kill(getppid(), None)?), &[libc::EPERM]),
    attempt("thread", "signal a thread of another process", signal_thread, &[libc::ENOSYS]),
    attempt("owner", "have the kernel signal another process", owner, &[libc::ENOSYS]),
    attempt("trace", "watch another process", |_| Ok(ptrace::attach(getppid())?), &[libc::EPERM]),
    attempt("limit", "change its limits", limit, &[libc::ENOSYS]),
    attempt("root", "become root again", |_| Ok(setuid(Uid::from_raw(0))?), &[libc::EPERM]),
    attempt(
        "code",
        "run memory that it has written",
        |_| sys::writable_code(),
        &[libc::ENOSYS, libc::EACCES],
    ),
    attempt("dump", "leave its memory in a core file, or to its account", dump, &[]),
];

const fn attempt(
    name: &'static str,
    what: &'static str,
    make: fn(&Before) -> io::Result<()>,
    refusals: &'static [i32],
) -> Attempt {
    Attempt { name, what, make, useful: |_| false, refusals }
}

fn listen(_before: &Before) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)
}

fn write(before: &Before) -> io::Result<()> {
    File::options().write(true).create_new(true).open(&before.outside)?;
    std::fs::remove_file(&before.outside)
}

/// Nobody listens at port 1; that answer is as good as a connection.
fn connect(_before: &Before) -> io::Result<()> {
    reached(TcpStream::connect((Ipv4Addr::LOCALHOST, 1)).map(drop))
}

/// No rule of Landlock's looks at it in the kernels that this was tried on.
fn fastopen(_before: &Before) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into();
    reached(socket.send_to_with_flags(b"x", &port, libc::MSG_FASTOPEN).map(drop))
}

fn reached(tried: io::Result<()>) -> io::Result<()> {
    let nobody = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
    };
    tried.or_else(|error| if nobody(&error) { Ok(()) } else { Err(error) })
}

/// Only whether it may: signal 0.
fn signal_thread(_before: &Before) -> io::Result<()> {
    sys::signal_thread(getppid(), 0)
}

/// Nobody listens there; that answer is as good as a connection.
fn service(_before: &Before) -> io::Result<()> {
    reached(UnixStream::connect("/nobody/listens/here").map(drop))
}

/// It was bound before confinement, and so by somebody outside.
fn nameless(before: &Before) -> io::Result<()> {
    match &before.abstract_name {
        Some((_, name)) => UnixStream::connect_addr(name).map(drop),
        // Not made, so nothing was refused.
        None => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
}

/// The signal would come with the first input, of which there is none: it is /dev/null.
fn owner(_before: &Before) -> io::Result<()> {
    sys::signal_on_input(io::stdin().as_fd(), getppid())
}

/// To what it is.
fn limit(_before: &Before) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?)
}

fn dump(_before: &Before) -> io::Result<()> {
    match (prctl::get_dumpable()?, getrlimit(Resource::RLIMIT_CORE)?) {
        (false, (0, 0)) => Err(io::Error::other("not dumpable, limit 0")),
        _ => Ok(()),
    }
}
