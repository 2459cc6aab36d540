//! The kernel's audit status, by netlink, and its rules, by auditctl.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::doctor::ask;
use crate::doctor::machine::Kernel;

/// Netlink's header, and the kind of the question and its answer (linux/audit.h).
const HEADER: usize = 16;
/// The question is a header alone.
const QUESTION: u32 = 16;
const AUDIT_GET: u16 = 1000;
const NLM_F_REQUEST: u16 = 1;

/// The status, and a sentence if it cannot be had by root either.
pub(super) fn status() -> (Option<Kernel>, Vec<String>) {
    match ask_kernel() {
        Ok(kernel) => (Some(kernel), Vec::new()),
        // Without root that is said elsewhere.
        Err(_) if !nix::unistd::Uid::effective().is_root() => (None, Vec::new()),
        Err(error) => (None, vec![format!("the kernel's audit status: {error}")]),
    }
}

fn ask_kernel() -> io::Result<Kernel> {
    let kernel =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkAudit)?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
    let mut question = Vec::with_capacity(HEADER);
    question.extend(QUESTION.to_ne_bytes());
    question.extend(AUDIT_GET.to_ne_bytes());
    question.extend(NLM_F_REQUEST.to_ne_bytes());
    question.extend(1_u32.to_ne_bytes());
    question.extend(0_u32.to_ne_bytes());
    sendto(kernel.as_raw_fd(), &question, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    read(&answer[..length]).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
}

/// `struct audit_status` behind netlink's header; `None`: an error instead.
fn read(answer: &[u8]) -> Option<Kernel> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let word = |at: usize| {
        let at = HEADER + 4 * at;
        answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
    };
    (kind == AUDIT_GET).then_some(())?;
    Some(Kernel {
        enabled: word(1)?,
        failure: word(2)?,
        pid: word(3)?,
        rate_limit: word(4)?,
        backlog_limit: word(5)?,
        lost: word(6)?,
        backlog: word(7)?,
        backlog_wait_time: word(9),
        waited: word(10),
    })
}

/// The rules that are loaded, one a line.
pub(super) fn rules(limit: Duration) -> Result<Vec<String>, String> {
    let auditctl = ask::find("auditctl").ok_or("there is no auditctl")?;
    let answer = ask::run(&auditctl, ["-l"], limit).map_err(|error| format!("auditctl -l: {error}"))?;
    if answer.status != Some(0) {
        return Err(format!("auditctl -l: {}", answer.err.trim()));
    }
    let rules = answer.out.lines().filter(|line| line.starts_with('-'));
    Ok(rules.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let mut answer = words(&[60, 0, 1, 0]);
        answer[4..6].copy_from_slice(&AUDIT_GET.to_ne_bytes());
        answer.extend(words(&[0, 1, 2, 4242, 0, 8192, 7, 3, 0x7f, 15000, 12]));
        let kernel = read(&answer).unwrap();
        assert_eq!((kernel.enabled, kernel.failure, kernel.pid, kernel.backlog_limit), (1, 2, 4242, 8192));
        assert_eq!(
            (kernel.lost, kernel.backlog, kernel.backlog_wait_time, kernel.waited),
            (7, 3, Some(15000), Some(12))
        );
        // Kernels before 3.14 say less.
        let old = read(&answer[..16 + 32]).unwrap();
        assert_eq!((old.backlog_wait_time, old.waited), (None, None));
        // An error, such as EPERM.
        let mut refused = words(&[36, 0, 1, 0, u32::MAX]);
        refused[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!((read(&refused), read(&[])), (None, None));
    }
}
