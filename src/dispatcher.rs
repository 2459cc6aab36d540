//! Who feeds this process: auditd, auditd's filter, or nobody of the two.
//!
//! Promise: what auditd feeds, directly or through `audisp-filter`, is told from a file, a pipe or a socket of somebody
//! else's, so that it is never made to wait and its feeder alone may end us. Law: looked at once, before root is given
//! up; decides nothing else.
//!
//! | | standard input | its other end | ended by |
//! |---|---|---|---|
//! | auditd | a socket | our parent | the end of the input, TERM from auditd |
//! | audisp-filter (audit-userspace 4.0.1 and later) | a pipe | our parent, named so, itself reading a socket | the end of the input |
//!
//! The filter passes TERM on to us and only then writes what it still holds (events wait up to 2 s in it for their last
//! record), so its TERM is no reason to stop reading: its end is.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, getppid};

/// auditd's names, the second before 3.0.
const AUDITD: [&str; 2] = ["auditd", "audispd"];

/// The filter's program.
const FILTER: &str = "audisp-filter";

/// What feeds us, if auditd is behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dispatcher {
    /// auditd itself.
    Auditd(Pid),
    /// `audisp-filter`, a plugin of auditd's.
    Filter(Pid),
}

impl Dispatcher {
    /// Finds out. `None`: started by hand, whatever standard input is.
    pub fn find() -> Option<Self> {
        let (input, parent) = (io::stdin(), getppid());
        if let Ok(peer) = getsockopt(&input.as_fd(), sockopt::PeerCredentials) {
            return (parent.as_raw() == peer.pid()).then_some(Self::Auditd(parent));
        }
        let is_pipe = fstat(input.as_fd())
            .is_ok_and(|facts| SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO);
        let link = |name: &str| fs::read_link(format!("/proc/{parent}/{name}")).unwrap_or_default();
        (is_pipe && is_filter(&link("exe"), &link("fd/0"))).then_some(Self::Filter(parent))
    }

    /// Our parent's process id, as long as it lives.
    pub fn pid(self) -> Pid {
        match self {
            Self::Auditd(pid) | Self::Filter(pid) => pid,
        }
    }

    /// True if it is called as the machine's auditd, its dispatcher or its filter are. Whatever else starts us with a socket
    /// on standard input (sshd does so for a command, a load generator plays auditd) must not wait either, but has no
    /// part in what the machine's own relay leaves in its usual folder. Where nobody can tell, it is.
    pub fn is_the_machines(self) -> bool {
        match self {
            Self::Filter(_) => true,
            Self::Auditd(pid) => fs::read_to_string(format!("/proc/{pid}/comm"))
                .map_or(true, |name| AUDITD.contains(&name.trim_end())),
        }
    }

    /// It has ended: we have another parent now.
    pub fn is_gone(self) -> bool {
        getppid() != self.pid()
    }

    /// Whether TERM from this process means that there is nothing more to read than what is there already.
    pub fn ends_by_term(self, sender: i32) -> bool {
        self == Self::Auditd(Pid::from_raw(sender))
    }
}

/// Whether a program that reads from `input`, both as /proc names them, is auditd's filter at work. A filter that somebody
/// runs on a file can wait like every file.
fn is_filter(program: &Path, input: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // What the kernel says of a program that has been replaced since.
    name.strip_suffix(" (deleted)").unwrap_or(name) == FILTER
        && input.to_str().is_some_and(|input| input.starts_with("socket:["))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_known_by_its_name_and_its_input() {
        let table = [
            ("/usr/sbin/audisp-filter", "socket:[4242]", true),
            ("/usr/sbin/audisp-filter (deleted)", "socket:[4242]", true),
            ("/usr/sbin/audisp-filter", "/var/log/audit/audit.log", false),
            ("/usr/sbin/audisp-filter", "pipe:[7]", false),
            ("/usr/bin/bash", "socket:[4242]", false),
            ("/home/x/audisp-filter/sh", "socket:[4242]", false),
            ("", "", false),
        ];
        for (program, input, is) in table {
            assert_eq!(is_filter(Path::new(program), Path::new(input)), is, "{program} {input}");
        }
    }

    #[test]
    fn only_auditd_ends_us_by_term() {
        let pid = Pid::from_raw(7);
        assert!(Dispatcher::Auditd(pid).ends_by_term(7));
        assert!(!Dispatcher::Auditd(pid).ends_by_term(8));
        // It still has something to write.
        assert!(!Dispatcher::Filter(pid).ends_by_term(7));
    }

    #[test]
    fn a_test_is_not_fed_by_auditd() {
        assert_eq!(Dispatcher::find(), None);
    }
}
