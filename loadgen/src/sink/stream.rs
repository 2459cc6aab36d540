//! Receives from stream connections: bare, through TLS, as a RELP server, or both.
//!
//! *Promise:* everything found in one read is judged, then answered with one write; what the peer does not take at
//! once goes out when it does.
//! *Law:* one loop waits for all connections at once and asks only those that have something to say; a connection's end, orderly or not, is that
//! connection's only.
//!
//! ```text
//!  socket ──> [tls] ──> intake ──> account
//!         <── [tls] <── replies (RELP only)
//! ```

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use rustls::ServerConfig;
use socket2::Socket;

use super::tls::Tls;
use super::{Account, Pace, Quiet, Received, TICK_MS};
use crate::clock::Clock;
use crate::deframe::Deframer;
use crate::relp::Session;

/// Most connections told ready at a time.
const EVENTS: usize = 256;
/// What the listener is called among the connections.
const DOOR: u64 = u64::MAX;

/// What is spoken on a stream.
#[derive(Debug)]
pub(super) struct Protocol {
    /// TLS below everything else.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// RELP instead of bare messages.
    pub(super) relp: bool,
}

/// Accepts at `listener` and receives until the run is over.
///
/// # Errors
/// If the listener fails or TLS cannot be set up; not for what a peer does.
pub(super) fn receive(
    listener: &Socket,
    protocol: &Protocol,
    clock: &Clock,
    account: &mut Account<'_>,
    quiet: &mut Quiet,
    mut pace: Pace<'_>,
) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut events = [EpollEvent::empty(); EVENTS];
    let mut door = EpollFlags::EPOLLIN;
    epoll.add(listener, EpollEvent::new(door, DOOR))?;
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    // When the connection at the door is let in.
    let mut admit_ns: Option<u64> = None;
    loop {
        let stop = account.shared.stop.load(Ordering::Relaxed);
        if stop && quiet.is_stopped(clock.now()) {
            break;
        }
        pace.hold(clock);
        let over = account.shared.sent.load(Ordering::Acquire) != u64::MAX;
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, admit_ns.is_none_or(|at| clock.now() >= at));
        if wanted != door {
            door = wanted;
            epoll.modify(listener, &mut EpollEvent::new(door, DOOR))?;
        }
        let count = match epoll.wait(&mut events, TICK_MS) {
            Ok(0) | Err(Errno::EINTR) => {
                if stop || over && quiet.is_over(account, clock.now(), !connections.is_empty()) {
                    break;
                }
                continue;
            }
            Ok(count) => count,
            Err(errno) => return Err(errno.into()),
        };
        let mut knocked = false;
        for event in &events[..count] {
            let id = event.data();
            knocked |= id == DOOR;
            let Some(connection) = connections.get_mut(&id) else { continue };
            if connection.serve(clock, account, quiet, &mut pace) {
                connection.watch(&epoll, id)?;
            } else if let Some(connection) = connections.remove(&id) {
                // The kernel takes a closed socket out of the set by itself.
                connection.finish(&mut account.received);
            }
        }
        account.publish();
        if knocked {
            if pace.accept_delay_ns() > 0 && admit_ns.is_none() {
                admit_ns = Some(clock.now().saturating_add(pace.accept_delay_ns()));
                continue;
            }
            admit_ns = None;
            // With a delay one at a time; otherwise all, so that no sender waits for the data of those before it.
            loop {
                match listener.accept() {
                    Ok((socket, _)) => {
                        let id = account.received.connections;
                        account.received.connections += 1;
                        let connection = Connection::new(socket, protocol)?;
                        epoll.add(&connection.socket, EpollEvent::new(connection.watched, id))?;
                        connections.insert(id, connection);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                        ) => {}
                    Err(error) => return Err(error),
                }
                if pace.accept_delay_ns() > 0 {
                    break;
                }
            }
        }
    }
    for connection in connections.values() {
        connection.finish(&mut account.received);
    }
    Ok(())
}

struct Connection {
    socket: Socket,
    tls: Option<Tls>,
    intake: Intake,
    /// Bytes it has brought.
    bytes: u64,
    /// Nothing more is read; open only until everything said has gone out.
    closing: bool,
    /// What is waited for.
    watched: EpollFlags,
}

impl Connection {
    fn new(socket: Socket, protocol: &Protocol) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // A reply must not wait for the acknowledgement of the one before. Unix sockets have no such option.
        let _ = socket.set_tcp_nodelay(true);
        let tls = protocol.tls.as_ref().map(Tls::new).transpose()?;
        let intake =
            if protocol.relp { Intake::Relp(Session::new()) } else { Intake::Messages(Deframer::new()) };
        // A new one has nothing to say: whoever connects begins.
        let watched = EpollFlags::EPOLLIN;
        Ok(Self { socket, tls, intake, bytes: 0, closing: false, watched })
    }

    /// What to wait for.
    fn interest(&self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, !self.closing);
        let speaking = self.intake.has_replies() || self.tls.as_ref().is_some_and(Tls::wants_write);
        flags.set(EpollFlags::EPOLLOUT, speaking);
        flags
    }

    /// Waits for something else if it has changed.
    fn watch(&mut self, epoll: &Epoll, id: u64) -> io::Result<()> {
        let wanted = self.interest();
        if wanted != self.watched {
            self.watched = wanted;
            epoll.modify(&self.socket, &mut EpollEvent::new(wanted, id))?;
        }
        Ok(())
    }

    /// One read, all the messages in it, and as much of the replies as the peer takes. Returns whether the
    /// connection is still open.
    fn serve(
        &mut self,
        clock: &Clock,
        account: &mut Account<'_>,
        quiet: &mut Quiet,
        pace: &mut Pace<'_>,
    ) -> bool {
        if !self.closing {
            self.closing = !self.read(clock, account, quiet, pace);
        }
        if pace.resets(self.bytes) {
            // Closed with no time to linger, a TCP connection ends in a reset.
            let _ = self.socket.set_linger(Some(Duration::ZERO));
            return false;
        }
        // A peer that is gone will not miss the rest.
        self.flush().is_ok_and(|done| !(done && self.closing))
    }

    /// Returns whether more may come.
    fn read(
        &mut self,
        clock: &Clock,
        account: &mut Account<'_>,
        quiet: &mut Quiet,
        pace: &mut Pace<'_>,
    ) -> bool {
        let room = match &mut self.tls {
            Some(tls) => tls.room(),
            None => self.intake.spare(),
        };
        let most = room.len().min(pace.most());
        let n = match nix::unistd::read(&self.socket, &mut room[..most]) {
            Err(Errno::EINTR | Errno::EAGAIN) => return true,
            // A reset ends the connection like an orderly end; what is missing shows in the account.
            Ok(0) | Err(_) => {
                account.received.tls_errors += u64::from(self.tls.is_some());
                return false;
            }
            Ok(n) => n,
        };
        let now = clock.now();
        let announced = account.shared.announced.load(Ordering::Acquire);
        quiet.since_ns = now;
        self.bytes += n as u64;
        pace.read(n, now);
        let Some(tls) = &mut self.tls else {
            self.intake.filled(n);
            self.intake.enter_all(account, now, announced);
            return !self.intake.ended();
        };
        tls.filled(n);
        while !self.intake.ended() {
            match tls.decrypt(self.intake.spare()) {
                Ok(0) => return false,
                Ok(n) => self.intake.filled(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {
                    account.received.tls_errors += 1;
                    return false;
                }
            }
            self.intake.enter_all(account, now, announced);
        }
        false
    }

    /// Sends what there is to say, as far as the peer takes it. Returns whether everything has gone out.
    fn flush(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            return tls.send(self.intake.replies(), self.closing, &self.socket);
        }
        let Some(replies) = self.intake.replies() else { return Ok(true) };
        while !replies.is_empty() {
            match (&self.socket).write(replies) {
                Ok(n) => drop(replies.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Enters what the connection left unfinished.
    fn finish(&self, received: &mut Received) {
        let (unfinished, errors) = match &self.intake {
            Intake::Messages(deframer) => (deframer.unfinished(), deframer.errors()),
            Intake::Relp(session) => (session.unfinished(), session.errors()),
        };
        received.unfinished_bytes += unfinished as u64;
        received.framing_errors += errors;
    }
}

/// What cuts a connection's bytes into messages.
enum Intake {
    Messages(Deframer),
    Relp(Session),
}

impl Intake {
    /// Where the next bytes go.
    fn spare(&mut self) -> &mut [u8] {
        match self {
            Self::Messages(deframer) => deframer.spare(),
            Self::Relp(session) => session.spare(),
        }
    }

    fn filled(&mut self, n: usize) {
        match self {
            Self::Messages(deframer) => deframer.filled(n),
            Self::Relp(session) => session.filled(n),
        }
    }

    /// Enters all whole messages; they arrived at `now_ns`.
    fn enter_all(&mut self, account: &mut Account<'_>, now_ns: u64, announced: u64) {
        match self {
            Self::Messages(deframer) => {
                while let Some(message) = deframer.next() {
                    account.enter(message, now_ns, announced);
                }
            }
            Self::Relp(session) => {
                while let Some(message) = session.next() {
                    account.enter(message, now_ns, announced);
                }
            }
        }
    }

    /// Whether the protocol itself has come to its end.
    fn ended(&self) -> bool {
        matches!(self, Self::Relp(session) if session.ended())
    }

    fn has_replies(&self) -> bool {
        matches!(self, Self::Relp(session) if session.has_replies())
    }

    /// What the protocol has to say; a receiver of bare messages never says anything.
    fn replies(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Messages(_) => None,
            Self::Relp(session) => Some(session.replies()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};
    use std::io::Read as _;

    #[test]
    fn replies_the_peer_does_not_take_wait_and_lose_nothing() {
        let (ours, mut theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        ours.set_send_buffer_size(4096).unwrap();
        let mut connection = Connection::new(ours, &Protocol { tls: None, relp: true }).unwrap();
        let said: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        connection.intake.replies().unwrap().extend(&said);

        assert!(!connection.flush().unwrap());
        assert!(connection.interest().contains(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT));
        let mut heard = Vec::new();
        let mut room = [0; 10_000];
        while heard.len() < said.len() {
            let n = theirs.read(&mut room).unwrap();
            heard.extend_from_slice(&room[..n]);
            connection.flush().unwrap();
        }
        assert_eq!(heard, said);
        assert_eq!(connection.interest(), EpollFlags::EPOLLIN);
    }
}
