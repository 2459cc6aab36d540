//! The kernel's audit system, by netlink.
//!
//! Promise: [`status()`] answers or fails within its limit. Law: only root is told; what is asked and what the answer means is in
//! [`super::status`].

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::status::{self, Answer, Status};

/// A message by a user (linux/audit.h).
const USER: u16 = 1005;

/// Longer than what is answered, whatever fields are added to it.
const LONGEST: usize = 1024;

/// The status now.
///
/// # Errors
/// This user is not told, there is no audit system, or no answer within `limit`.
pub fn status(limit: Duration) -> io::Result<Status> {
    let end = Instant::now() + limit;
    let kernel = send(status::GET, &[])?;
    let mut answer = [0; LONGEST];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer"));
        }
        // 0 would mean without a limit.
        let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1);
        setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::microseconds(left))?;
        match recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty()) {
            Ok(length) => match status::answer(&answer[..length]) {
                Answer::Status(status) => return Ok(status),
                Answer::Refused(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Answer::Other => {}
            },
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Has the kernel make a record of a user's text, as `auditctl -m` does.
///
/// # Errors
/// There is no audit system. That this user may not say anything is not told: no answer is waited for.
pub fn say(text: &str) -> io::Result<()> {
    let mut bytes = text.as_bytes().to_vec();
    // The kernel takes the last byte off what does not end with NUL.
    bytes.push(0);
    send(USER, &bytes).map(drop)
}

fn send(kind: u16, payload: &[u8]) -> io::Result<OwnedFd> {
    let kernel =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkAudit)?;
    let message = status::question(kind, payload).ok_or(io::ErrorKind::InvalidInput)?;
    sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(kernel)
}
