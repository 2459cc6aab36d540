//! auditd's side of a plugin's standard input, with everything that makes it unlike a shell's pipe.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use nix::unistd::dup;

use super::PATIENCE;

/// Which auditd starts the relay, and when. What differs is what the child inherits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Auditd {
    /// 3.x, first start: every signal but CHLD is ignored, the environment is empty.
    FirstStart,
    /// 3.0, automatic restart: HUP USR1 USR2 TERM CHLD CONT are blocked, the environment is empty.
    Restart,
    /// 2.x, `dispatcher =`: both ends do not block, and the child holds a copy of auditd's own end.
    Dispatcher2x,
    /// As `FirstStart`, with standard output and standard error closed.
    WithoutOutputs,
}

/// auditd's end of the socket pair.
#[derive(Debug)]
pub(crate) struct FakeAuditd {
    end: UnixStream,
}

impl Auditd {
    /// Starts `program` as auditd does: through env(1), which execs it, so that this process is its parent and
    /// the maker of its standard input.
    pub(crate) fn start(self, program: &Path, arguments: &[String], said: File) -> (Child, FakeAuditd) {
        let (end, theirs) = UnixStream::pair().unwrap();
        // A relay that takes nothing must fail a test, not hang it.
        end.set_write_timeout(Some(PATIENCE)).unwrap();
        let env: &[&str] = match self {
            Self::Dispatcher2x => &["env", "--ignore-signal", "--default-signal=CHLD"],
            Self::FirstStart | Self::WithoutOutputs => {
                &["env", "-i", "--ignore-signal", "--default-signal=CHLD"]
            }
            Self::Restart => &[
                "env",
                "-i",
                "--ignore-signal",
                "--default-signal=TERM,HUP,USR1,USR2,CONT,CHLD",
                "--block-signal=HUP,USR1,USR2,TERM,CHLD,CONT",
            ],
        };
        let mut command = match self {
            Self::WithoutOutputs => {
                let mut command = Command::new("sh");
                command.args(["-c", "exec \"$@\" >&- 2>&-", "sh"]).args(env);
                command
            }
            _ => {
                let mut command = Command::new(env[0]);
                command.args(&env[1..]);
                command
            }
        };
        // Without FD_CLOEXEC, as `dup` makes it: the child gets it too.
        let leak = matches!(self, Self::Dispatcher2x).then(|| {
            theirs.set_nonblocking(true).unwrap();
            (dup(&end).unwrap(), dup(&theirs).unwrap())
        });
        let child = command
            .arg(program)
            .args(arguments)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        drop(leak);
        (child, FakeAuditd { end })
    }
}

impl FakeAuditd {
    /// Writes one record: one call, one write(2).
    #[track_caller]
    pub(crate) fn write(&mut self, record: &[u8]) {
        let written = self.end.write(record).expect("the relay takes the record");
        assert_eq!(written, record.len(), "a record is written whole or not at all");
    }

    /// Writes `bytes` in whatever pieces the socket takes.
    #[track_caller]
    pub(crate) fn write_long(&mut self, bytes: &[u8]) {
        self.end.write_all(bytes).expect("the relay takes the bytes");
    }

    /// Writes everything on a thread, for relays that hold auditd up.
    pub(crate) fn write_on_a_thread(mut self, bytes: Vec<u8>) -> JoinHandle<()> {
        thread::spawn(move || {
            // Fails where the relay ends before it has taken everything.
            let _ = self.end.write_all(&bytes);
        })
    }

    /// Ends the relay's input.
    pub(crate) fn close(self) {
        drop(self.end);
    }
}
