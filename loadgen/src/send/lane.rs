//! One connection's way through the plan.
//!
//! *Promise:* the lane numbered `index` of `of` carries the records `index`, `index + of`, `index + 2 of`, ... of the
//! plan as a stream of its own, in blocks on streams and in batches of datagrams; what the receiver holds back is told
//! apart from the generator's own lateness.
//! *Law:* never waits: a turn does what can be done now and says what it waits for. Nothing is copied but the rest of a
//! block that the kernel did not take.
//!
//! ```text
//!            all sent            RELP: all answered          the peer has closed
//!  (sending) --------> (settling) -----------------> (closing) ----------------> (over)
//!                                 a failure, or patience at its end: over at once
//! ```

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::epoll::EpollFlags;

use super::link::{BATCH, Link, Slots, explain};
use super::window::Window;
use crate::address::Address;
use crate::corpus::{Cursor, Wire};
use crate::plan::{Keeper, Plan};

/// Most bytes of one write to a stream.
const BLOCK: usize = 64 << 10;

/// What all lanes of a run have in common.
#[derive(Debug)]
pub(super) struct Job {
    /// Where to.
    pub(super) address: Address,
    /// When each record is due.
    pub(super) plan: Plan,
    /// Number of lanes.
    pub(super) lanes: u64,
    /// Records of all lanes.
    pub(super) count: u64,
    /// From then on none is due.
    pub(super) end_ns: Option<u64>,
    /// How long the receiver may take nothing before it is given up.
    pub(super) patience_ns: u64,
    /// How long to wait for the receiver to close its side.
    pub(super) linger_ns: u64,
    /// Send what is there without patching anything.
    pub(super) bare: bool,
    /// Messages of each lane before measuring begins.
    pub(super) warm: u64,
}

/// What a thread's lanes use in turn.
pub(super) struct Desk {
    wire: Wire,
    slots: Slots,
    room: Vec<u8>,
}

impl Desk {
    /// A desk with a lap of its own.
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, slots: Slots::new(), room: vec![0; 16 << 10] }
    }
}

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: it has done something and may be asked again.
    Moved,
    /// The receiver.
    Peer,
    /// The time at which its next record is due.
    Until(u64),
    /// It is over.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    Settling,
    Closing,
    Over,
}

/// What a lane has done.
#[derive(Debug)]
pub(super) struct Done {
    /// Messages the kernel has taken.
    pub(super) sent: u64,
    /// Bytes of those, framing included.
    pub(super) bytes: u64,
    /// Time of the first and the last.
    pub(super) first_ns: Option<u64>,
    pub(super) last_ns: u64,
    /// Times the receiver made us wait, and for how long.
    pub(super) blocked: u64,
    pub(super) blocked_ns: u64,
    /// How the plan was kept, behind the warm-up.
    pub(super) keeper: Keeper,
    /// Where the warm-up ended, if there was one: when the next message was due, or without a schedule about to be
    /// written, and the bytes before it.
    pub(super) warmed: Option<(u64, u64)>,
    /// Datagrams that came back as refused.
    pub(super) refused: u64,
    /// RELP: messages the receiver took, refused, and did not answer.
    pub(super) answers: Option<Answers>,
    /// Why it ended early.
    pub(super) trouble: Option<String>,
}

/// What a RELP receiver has said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    /// It has them.
    pub(crate) taken: u64,
    /// It will not have them.
    pub(crate) refused: u64,
    /// Nothing about them.
    pub(crate) open: u64,
}

/// A connection and its place in the plan.
pub(super) struct Lane {
    link: Link,
    window: Option<Window>,
    index: u64,
    cursor: Cursor,
    /// Records prepared so far.
    prepared: u64,
    /// Bytes the kernel did not take, and where the messages among them end.
    rest: Vec<u8>,
    rest_ends: Vec<usize>,
    state: State,
    /// Since when the receiver makes us wait.
    held_since: Option<u64>,
    /// When the receiver last took or said something.
    moved_ns: u64,
    /// Since when the end is waited for.
    quiet_since: u64,
    done: Done,
}

impl Lane {
    /// A lane that has sent nothing. `window` is for RELP, after its session was opened.
    pub(super) fn new(link: Link, window: Option<Window>, index: u16, tolerance_ns: u64) -> Self {
        Self {
            link,
            window,
            index: index.into(),
            cursor: Cursor::new(index),
            prepared: 0,
            rest: Vec::new(),
            rest_ends: Vec::new(),
            state: State::Sending,
            held_since: None,
            moved_ns: 0,
            quiet_since: 0,
            done: Done {
                sent: 0,
                bytes: 0,
                first_ns: None,
                last_ns: 0,
                blocked: 0,
                blocked_ns: 0,
                keeper: Keeper::new(tolerance_ns),
                warmed: None,
                refused: 0,
                answers: None,
                trouble: None,
            },
        }
    }

    /// What to wait for at the socket while [`Turn::Peer`] holds.
    pub(super) fn interest(&self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, self.listens());
        flags.set(EpollFlags::EPOLLOUT, !self.rest.is_empty() || self.link.wants_write());
        flags
    }

    /// Messages that have left.
    pub(super) fn sent(&self) -> u64 {
        self.done.sent
    }

    /// Whether it is past its warm-up.
    pub(super) fn is_warm(&self) -> bool {
        self.done.warmed.is_some()
    }

    /// Sends nothing new.
    pub(super) fn stop(&mut self) {
        if self.state == State::Sending {
            self.state = State::Settling;
        }
    }

    /// Does what can be done at `now_ns` with what is on the `desk`, which no other lane uses meanwhile.
    pub(super) fn turn(&mut self, desk: &mut Desk, job: &Job, now_ns: u64) -> Turn {
        let turn = self.advance(desk, job, now_ns).unwrap_or_else(|failure| {
            self.done.trouble = Some(match failure {
                Failure::Io(error) => explain(&error, &job.address),
                Failure::Text(text) => format!("{}: {text}", job.address),
            });
            self.state = State::Over;
            Turn::Over
        });
        if turn != Turn::Peer {
            self.release(now_ns);
            return turn;
        }
        let since = *self.held_since.get_or_insert(now_ns);
        let waits = matches!(self.state, State::Sending | State::Settling);
        if waits && now_ns.saturating_sub(since.max(self.moved_ns)) > job.patience_ns {
            self.release(now_ns);
            let seconds = job.patience_ns as f64 / 1e9;
            let text =
                format!("the receiver took nothing for {seconds} s: is it stuck? (--timeout is the limit)");
            self.done.trouble = Some(format!("{}: {text}", job.address));
            self.state = State::Over;
            return Turn::Over;
        }
        turn
    }

    /// The receiver does not make us wait any more.
    fn release(&mut self, now_ns: u64) {
        if let Some(since) = self.held_since.take()
            && self.state != State::Closing
        {
            let held_ns = now_ns.saturating_sub(since);
            self.done.keeper.blocked(held_ns);
            self.done.blocked += 1;
            self.done.blocked_ns += held_ns;
        }
    }

    /// What became of it all.
    pub(super) fn into_done(self) -> Done {
        let answers = self.window.as_ref().map(|window| Answers {
            taken: window.taken(),
            refused: window.refused(),
            open: window.open(),
        });
        Done { answers, ..self.done }
    }

    fn listens(&self) -> bool {
        self.window.is_some() || self.link.is_tls() || self.state == State::Closing
    }

    fn advance(&mut self, desk: &mut Desk, job: &Job, now_ns: u64) -> Result<Turn, Failure> {
        if self.state == State::Over {
            return Ok(Turn::Over);
        }
        let ended = self.listens() && self.hear(&mut desk.room, now_ns)?;
        if ended && matches!(self.state, State::Sending | State::Settling) {
            return Err(Failure::Text("the receiver closed the connection: look into its log".into()));
        }
        if !self.push_rest(&mut desk.slots, now_ns)? {
            return Ok(Turn::Peer);
        }
        match self.state {
            State::Sending => self.send(desk, job, now_ns),
            State::Settling => self.settle(desk, now_ns),
            State::Closing | State::Over => {
                let waited = now_ns.saturating_sub(self.quiet_since) > job.linger_ns;
                if ended || waited || self.link.is_datagrams() {
                    // Behind RELP's own end TLS wants one, too. A receiver that is gone will not miss it.
                    let _ = self.link.finish();
                    self.state = State::Over;
                    return Ok(Turn::Over);
                }
                Ok(Turn::Peer)
            }
        }
    }

    /// Prepares and sends what is due, at most one block.
    fn send(&mut self, desk: &mut Desk, job: &Job, now_ns: u64) -> Result<Turn, Failure> {
        let own = desk.wire.resume(self.cursor);
        let result = self.send_block(desk, job, now_ns);
        self.cursor = desk.wire.resume(own);
        result
    }

    fn send_block(&mut self, desk: &mut Desk, job: &Job, now_ns: u64) -> Result<Turn, Failure> {
        let wire = &mut desk.wire;
        let index = self.index;
        // Records of the plan that are this lane's among the first `all`.
        let share = |all: u64| all.saturating_sub(index).div_ceil(job.lanes);
        let count = share(job.count);
        let global = |n: u64| n.saturating_mul(job.lanes).saturating_add(index);
        let due = job.plan.intended(global(self.prepared));
        let expired = job.end_ns.is_some_and(|end| due.unwrap_or(now_ns) >= end);
        if self.prepared >= count || expired || wire.peek().is_none() {
            self.state = State::Settling;
            return Ok(Turn::Moved);
        }
        if let Some(due) = due.filter(|&due| due > now_ns) {
            self.release(now_ns);
            self.done.keeper.caught_up();
            return Ok(Turn::Until(due));
        }
        let free = self.window.as_ref().map_or(usize::MAX, Window::free);
        if free == 0 {
            return Ok(Turn::Peer);
        }
        // What the receiver held up until now excuses the records that leave now.
        self.release(now_ns);
        let most = if self.link.is_datagrams() { BATCH } else { free } as u64;
        let mut ready = share(job.plan.due(now_ns)).min(count).min(self.prepared.saturating_add(most));
        if self.prepared < job.warm {
            ready = ready.min(job.warm);
        } else if job.warm > 0 && self.done.warmed.is_none() {
            // Nothing of a block before is left over by now.
            self.done.warmed = Some((due.unwrap_or(now_ns), self.done.bytes));
            self.done.keeper.restart();
        }

        let mut block: Option<Range<usize>> = None;
        self.rest_ends.clear();
        // The first line in any case; others as long as they follow in memory and fit.
        let mut fits = true;
        while fits && self.prepared < ready {
            let due = job.plan.intended(global(self.prepared)).unwrap_or(now_ns);
            // A schedule ends in the middle of a block, too.
            if job.end_ns.is_some_and(|end| due >= end) {
                break;
            }
            self.done.keeper.leaving(due, now_ns);
            let line = if job.bare { wire.pass(now_ns) } else { wire.prepare(due, now_ns) };
            let start = block.map_or(line.start, |block| block.start);
            let grown = start..line.end;
            let len = grown.len();
            block = Some(grown);
            self.rest_ends.push(len);
            self.prepared += 1;
            if let Some(window) = &mut self.window {
                window.sent();
            }
            fits = wire.peek().is_some_and(|(next, follows)| follows && len + next <= BLOCK);
        }
        self.done.first_ns.get_or_insert(now_ns);
        let bytes = wire.bytes(block.unwrap_or_default());
        let ends = std::mem::take(&mut self.rest_ends);
        let taken = self.push(bytes, &ends, &mut desk.slots)?;
        self.rest_ends = ends;
        self.rest.clear();
        if taken < bytes.len() {
            self.rest.extend_from_slice(&bytes[taken..]);
        }
        self.note(taken, bytes.len(), now_ns);
        Ok(if self.rest.is_empty() && self.link.flush()? { Turn::Moved } else { Turn::Peer })
    }

    /// Sends as much of the rest as goes; returns whether nothing of it is left, also in TLS.
    fn push_rest(&mut self, slots: &mut Slots, now_ns: u64) -> Result<bool, Failure> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let ends = std::mem::take(&mut self.rest_ends);
            let taken = self.push(&rest, &ends, slots)?;
            (self.rest, self.rest_ends) = (rest, ends);
            self.note(taken, self.rest.len(), now_ns);
            self.rest.drain(..taken);
        }
        Ok(self.link.flush()? && self.rest.is_empty())
    }

    /// Sends messages of `bytes` that end at `ends`, until all or no more are taken; returns how many bytes were.
    fn push(&mut self, bytes: &[u8], ends: &[usize], slots: &mut Slots) -> Result<usize, Failure> {
        let mut taken = 0;
        let mut passed = 0;
        let mut shifted = Vec::new();
        while taken < bytes.len() {
            let ends = if taken == 0 || !self.link.is_datagrams() {
                ends
            } else {
                passed += ends[passed..].iter().take_while(|&&end| end <= taken).count();
                shifted.clear();
                shifted.extend(ends[passed..].iter().map(|end| end - taken));
                &shifted
            };
            match self.link.push(&bytes[taken..], ends, slots) {
                Ok(n) => taken += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An earlier datagram came back; this call sent none.
                Err(error) if self.link.came_back(&error) => self.done.refused += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    /// Enters that `taken` bytes of `len` went out at `now_ns`, and keeps the ends of the messages in the others.
    fn note(&mut self, taken: usize, len: usize, now_ns: u64) {
        self.done.bytes += taken as u64;
        if taken == len {
            self.done.sent += self.rest_ends.len() as u64;
            self.rest_ends.clear();
        } else {
            let whole = self.rest_ends.iter().take_while(|&&end| end <= taken).count();
            self.done.sent += whole as u64;
            self.rest_ends.drain(..whole);
            self.rest_ends.iter_mut().for_each(|end| *end -= taken);
        }
        if taken > 0 {
            self.done.last_ns = now_ns;
            self.moved_ns = now_ns;
        }
    }

    /// Everything is sent: with RELP waits for the answers, then says so.
    fn settle(&mut self, desk: &mut Desk, now_ns: u64) -> Result<Turn, Failure> {
        if let Some(window) = &self.window {
            if window.open() > 0 {
                return Ok(Turn::Peer);
            }
            let frame = window.close_frame();
            self.rest = frame;
            self.state = State::Closing;
            self.quiet_since = now_ns;
            // A receiver that does not take so little now will not answer it either.
            self.push_rest(&mut desk.slots, now_ns)?;
            return Ok(Turn::Moved);
        }
        self.state = State::Closing;
        self.quiet_since = now_ns;
        self.link.finish()?;
        Ok(Turn::Moved)
    }

    /// Takes in what the receiver says; returns whether it has said its last word.
    fn hear(&mut self, room: &mut [u8], now_ns: u64) -> Result<bool, Failure> {
        loop {
            match self.link.read(room) {
                Ok(0) => return Ok(true),
                Ok(n) => {
                    self.moved_ns = now_ns;
                    // Receivers of bare messages say nothing; if one does, it is not kept.
                    if let Some(window) = &mut self.window {
                        window.hear(&room[..n]).map_err(|breach| Failure::Text(breach.0))?;
                        if window.ended() {
                            return Ok(true);
                        }
                    }
                    if n < room.len() {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Everything was sent and answered, or nothing can be said about it: the end may be rude.
                Err(_) if self.state == State::Closing && self.window.is_some() => return Ok(true),
                Err(error)
                    if self.state == State::Closing && error.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

enum Failure {
    Io(io::Error),
    Text(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::num::NonZeroU64;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;
    use crate::address::At;
    use crate::corpus::{Corpus, Envelope, Shape};
    use crate::sink::Transport;

    #[test]
    fn what_a_full_receiver_holds_up_is_not_the_senders_lateness() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let listener = UnixListener::bind(&path).unwrap();
        let address = Address { transport: Transport::UnixStream, place: At::Path(Some(path)) };
        let link = Link::connect(&address, None, Duration::from_secs(5)).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        receiver.set_nonblocking(true).unwrap();

        let second = 1_000_000_000;
        let job = Job {
            address,
            plan: Plan::new(second, NonZeroU64::new(100_000)),
            lanes: 1,
            count: u64::MAX,
            end_ns: None,
            patience_ns: u64::MAX,
            linger_ns: 0,
            bare: false,
            warm: 0,
        };
        let mut desk = Desk::new(Corpus::generate(Shape::default()).wire.enveloped(Envelope::Lf));
        let mut lane = Lane::new(link, None, 0, 0);
        // One record and one step of the clock at a time, until the receiver holds part of a block back.
        let step = 10_000;
        let mut now_ns = second;
        while lane.turn(&mut desk, &job, now_ns) != Turn::Peer {
            now_ns += step;
        }
        assert_eq!((lane.done.keeper.late(), lane.rest.is_empty()), (0, false));
        // It wakes up five seconds later.
        now_ns += 5 * second;
        let mut room = vec![0; 1 << 20];
        for _ in 0..20 {
            while receiver.read(&mut room).is_ok_and(|n| n > 0) {}
            assert_eq!(lane.turn(&mut desk, &job, now_ns), Turn::Moved);
        }
        assert_eq!((lane.done.keeper.late(), lane.done.blocked), (0, 1));
        // What it does by itself later is its own.
        now_ns += second;
        lane.turn(&mut desk, &job, now_ns);
        assert!(lane.done.keeper.late() > 0);
    }
}
