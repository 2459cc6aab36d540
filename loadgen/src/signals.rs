//! SIGINT, SIGTERM and SIGHUP as a question that can be asked.
//!
//! *Promise:* from [`Signals::catch`] on they end nothing by themselves; whoever asks learns that one came, and the exit
//! code tells which.
//! *Law:* no handler, so nothing runs at a wrong moment. To be called before the first thread is started.

use std::fs;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that end a run early and in order. Not SIGHUP where this program was started to outlive its terminal
/// (nohup): what is held back is not ignored any more.
pub(crate) fn ending() -> SigSet {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut set: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    if !ignores(&status, Signal::SIGHUP) {
        set.add(Signal::SIGHUP);
    }
    set
}

/// Whether the process of this `/proc/PID/status` ignores `signal`.
pub(crate) fn ignores(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

/// The signals, held back.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    /// The first that came; 0 for none.
    first: AtomicI32,
}

impl Signals {
    /// Holds the signals back from now on, in this thread and those it starts.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(crate) fn catch() -> nix::Result<Self> {
        let set = ending();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, first: AtomicI32::new(0) })
    }

    /// Waits for a signal that nobody has been told of, at most `timeout`; returns whether one came.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        if !matches!(poll(&mut fds, timeout), Ok(n) if n > 0) {
            return false;
        }
        let Ok(Some(info)) = self.fd.read_signal() else { return false };
        let number = info.ssi_signo.cast_signed();
        let _ = self.first.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        true
    }

    /// Whether one has come so far, whoever was told of it.
    pub(crate) fn came(&self) -> bool {
        self.wait(Duration::ZERO) || self.first.load(Ordering::Relaxed) != 0
    }

    /// The exit code of what a signal has cut short: 128 and its number. `None` if none was told of.
    pub(crate) fn exit_code(&self) -> Option<ExitCode> {
        let first = self.first.load(Ordering::Relaxed);
        (first != 0).then(|| ExitCode::from(u8::try_from(128 + first).unwrap_or(u8::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_found() {
        let status = "Name:\tSigIgn: 1\nSigIgn:\t0000000000010001\nSigCgt:\t0000000000000002\n";
        assert!(ignores(status, Signal::SIGHUP) && ignores(status, Signal::SIGCHLD));
        assert!(!ignores(status, Signal::SIGINT) && !ignores("", Signal::SIGHUP));
    }
}
