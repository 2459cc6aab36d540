//! Receives datagrams, from Unix sockets or UDP.
//!
//! *Promise:* one system call takes up to 64 of them; each is one message.
//! *Law:* no allocation per datagram; what the kernel dropped at a UDP socket is read from the kernel's own count.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
use socket2::Socket;

use super::{Account, Pace, Quiet};
use crate::clock::Clock;

/// Datagrams taken by one system call, and room for each (a record is at most 9 KB).
const DATAGRAMS: usize = 64;
const DATAGRAM_ROOM: usize = 16 << 10;

/// Receives from `socket`, whose reads end after a tick without a datagram, until the run is over.
///
/// # Errors
/// If the socket fails.
pub(super) fn receive(
    socket: &Socket,
    clock: &Clock,
    account: &mut Account<'_>,
    quiet: &mut Quiet,
    mut pace: Pace<'_>,
) -> io::Result<()> {
    let mut room = vec![0u8; DATAGRAMS * DATAGRAM_ROOM];
    let mut headers = MultiHeaders::<()>::preallocate(DATAGRAMS, None);
    loop {
        let stop = account.shared.stop.load(Ordering::Relaxed);
        if stop && quiet.is_stopped(clock.now()) {
            return Ok(());
        }
        pace.hold(clock);
        // Read before the wait: a run that was over before an empty wait is over.
        let over = account.shared.sent.load(Ordering::Acquire) != u64::MAX;
        let mut chunks = room.chunks_exact_mut(DATAGRAM_ROOM);
        let mut slots: [[IoSliceMut<'_>; 1]; DATAGRAMS] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        match recvmmsg(socket.as_raw_fd(), &mut headers, slots.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
            Ok(batch) => {
                let now = clock.now();
                let announced = account.shared.announced.load(Ordering::Acquire);
                let mut bytes = 0;
                for datagram in batch {
                    let message = datagram.iovs().next().unwrap_or_default();
                    bytes += message.len();
                    account.enter(message, now, announced);
                }
                pace.read(bytes, now);
                account.publish();
                quiet.since_ns = now;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                if stop || over && quiet.is_over(account, clock.now(), false) {
                    return Ok(());
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The kernel's count of datagrams dropped at the UDP socket of `port`.
pub(super) fn udp_drops(port: u16) -> Option<u64> {
    ["/proc/net/udp", "/proc/net/udp6"]
        .into_iter()
        .find_map(|table| drops_of(&fs::read_to_string(table).ok()?, port))
}

/// The last column of the first line of local port `port` in the text of `/proc/net/udp` or `udp6`.
fn drops_of(table: &str, port: u16) -> Option<u64> {
    let wanted = format!(":{port:04X}");
    let is_wanted =
        |line: &&str| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&wanted));
    let line = table.lines().find(is_wanted)?;
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_from_the_line_of_the_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     7: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 3\n\
                     9: 0100007F:C350 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 42\n";
        assert_eq!(drops_of(table, 50_000), Some(42));
        assert_eq!(drops_of(table, 1), None);
    }
}
