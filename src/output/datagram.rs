//! Datagrams: /dev/log and its like, and UDP. One message each, many a system call.
//!
//! Law: a datagram that the kernel refuses as too long (EMSGSIZE) never holds up the others. It is cut
//! until it fits, and later messages are cut to that length before they get here.
//!
//! What the kernel may answer, and what it means here:
//!
//! | errno | meaning | then |
//! |---|---|---|
//! | EAGAIN | the receiver's queue is full | wait until it can take one |
//! | ENOBUFS, ENOMEM | the kernel is short of memory | wait a moment, same socket |
//! | EMSGSIZE | longer than socket or path takes | cut |
//! | ECONNREFUSED on UDP | an earlier datagram met a closed port; this one was not sent | failure, try again |
//! | ECONNREFUSED, ENOTCONN, ECONNRESET on unix | the receiver is gone | failure, connect by path again |

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixDatagram};

use super::Hand;
use crate::queue::Consumer;
use crate::sys::{SEND_MANY, send_many};
use crate::syslog::cut_message;
use crate::telemetry::{DestinationCounters, Reason};

/// Pause when the kernel is short of memory.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(5);

/// No datagram is cut below what every receiver must take (RFC 5424 section 6.1).
const SHORTEST_CUT: usize = 480;

/// A connected datagram socket.
pub(super) enum Datagram {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Datagram {
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self::Unix(socket))
    }

    pub(super) fn udp(socket: UdpSocket) -> Self {
        Self::Udp(socket)
    }

    async fn send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let send = |socket: BorrowedFd<'_>| send_many(socket, slices);
        match self {
            Self::Unix(socket) => socket.async_io(Interest::WRITABLE, || send(socket.as_fd())).await,
            Self::Udp(socket) => socket.async_io(Interest::WRITABLE, || send(socket.as_fd())).await,
        }
    }

    /// Sends everything in `hand`.
    pub(super) async fn send(
        &self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        while let Some(front) = hand.batches.front() {
            let mut slices = [IoSlice::new(&[]); SEND_MANY];
            let count = (front.entries().len() - hand.done).min(SEND_MANY);
            for (slice, at) in slices.iter_mut().zip(hand.done..).take(count) {
                *slice = IoSlice::new(front.message(at));
            }
            match self.send_slices(&slices[..count]).await {
                Ok(sent) => {
                    let end = front.entries()[hand.done + sent - 1].end();
                    hand.advance(end - hand.offset, consumer, counters);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMSGSIZE) => self.send_cut(hand, consumer, counters).await?,
                    Some(libc::ENOBUFS | libc::ENOMEM) => tokio::time::sleep(NO_MEMORY_PAUSE).await,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Sends the next message, which is too long, cut as little as the socket allows.
    async fn send_cut(
        &self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        let Some(front) = hand.batches.front() else {
            return Ok(());
        };
        let message = front.message(hand.done);
        let mut limit = message.len();
        while limit > SHORTEST_CUT {
            limit = (limit - limit / 8).max(SHORTEST_CUT);
            let cut = cut_message(message, limit);
            match self.send_slices(&[IoSlice::new(&cut)]).await {
                Ok(_) => {
                    counters.sent_bytes(cut.len());
                    counters.cut_at_output();
                    counters.learn_size_limit(limit);
                    hand.skip_message(consumer, counters);
                    return Ok(());
                }
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) => {
                    tokio::time::sleep(NO_MEMORY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        hand.lose_message(Reason::Oversize, consumer, counters);
        Ok(())
    }
}
