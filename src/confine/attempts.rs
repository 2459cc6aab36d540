//! What a relay that has been taken over would try. `audit-relay check --confinement` tries it.
//!
//! Law: each attempt is made by a process of its own, confined as the running relay is, since some end it; none
//! changes anything if it succeeds.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::ptrace;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::kill;
use nix::unistd::{Uid, execv, getppid, setuid};

use crate::sys;

/// One attempt.
#[derive(Debug)]
pub struct Attempt {
    /// On the command line.
    pub name: &'static str,
    /// To people.
    pub what: &'static str,
    make: fn(&Before) -> io::Result<()>,
}

/// What has to be found out before.
#[derive(Debug)]
pub struct Before {
    program: PathBuf,
    outside: PathBuf,
}

impl Before {
    /// Call before confinement.
    pub fn now() -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        Self {
            program,
            outside: std::env::temp_dir().join(format!("audit-relay-attempt-{}", std::process::id())),
        }
    }
}

impl Attempt {
    /// The one called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        ATTEMPTS.iter().find(|attempt| attempt.name == name)
    }

    /// Tries it.
    ///
    /// # Errors
    /// It was refused, with the kernel's word.
    pub fn make(&self, before: &Before) -> io::Result<()> {
        (self.make)(before)
    }
}

/// All attempts.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "exec",
        what: "become another program",
        make: |_| Ok(execv(c"/bin/true", &[c"true"]).map(drop)?),
    },
    Attempt {
        name: "process",
        what: "start a process",
        make: |_| Command::new("/bin/true").status().map(drop),
    },
    Attempt { name: "read", what: "read another file", make: |before| File::open(&before.program).map(drop) },
    Attempt { name: "write", what: "write another file", make: write },
    Attempt { name: "connect", what: "connect to another TCP port", make: connect },
    Attempt {
        name: "listen",
        what: "take TCP connections",
        make: |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
    },
    Attempt { name: "raw", what: "open a raw or packet socket", make: |_| sys::packet_socket() },
    Attempt { name: "audit", what: "speak with the kernel's audit", make: |_| sys::audit_socket() },
    Attempt { name: "signal", what: "signal another process", make: |_| Ok(kill(getppid(), None)?) },
    Attempt { name: "trace", what: "watch another process", make: |_| Ok(ptrace::attach(getppid())?) },
    Attempt { name: "root", what: "become root again", make: |_| Ok(setuid(Uid::from_raw(0))?) },
    Attempt { name: "code", what: "run memory that it has written", make: |_| sys::writable_code() },
    Attempt { name: "dump", what: "leave its memory in a core file, or to its account", make: dump },
];

fn write(before: &Before) -> io::Result<()> {
    File::options().write(true).create_new(true).open(&before.outside)?;
    std::fs::remove_file(&before.outside)
}

/// Nobody listens at port 1; that answer is as good as a connection.
fn connect(_before: &Before) -> io::Result<()> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, 1)) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
        _ => Ok(()),
    }
}

fn dump(_before: &Before) -> io::Result<()> {
    match (prctl::get_dumpable()?, getrlimit(Resource::RLIMIT_CORE)?) {
        (false, (0, 0)) => Err(io::Error::other("not dumpable, limit 0")),
        _ => Ok(()),
    }
}
