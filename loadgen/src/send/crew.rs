//! The threads that drive the lanes.
//!
//! *Promise:* one thread asks a lane when its next record is due or its receiver is ready, and not otherwise, so that a
//! thousand lanes that wait cost nothing; it sleeps exactly until the next record is due if nothing else is to be done.
//! *Law:* no thread per connection, no lock between threads: each has its own lanes and its own lap.
//!
//! ```text
//!  ready ──(turn)──> ready again | due: a heap, earliest first | held: armed in epoll, once | over
//! ```
//! Every [`TICK`] all lanes are asked, whatever they wait for: patience ends, and a receiver's answers are heard.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

use super::lane::{Desk, Job, Lane, Turn};
use crate::clock::{Clock, thread_cpu_seconds};

/// How often all lanes are asked.
const TICK: u64 = 100_000_000;
/// Most receivers that are told ready at a time.
const EVENTS: usize = 256;

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its turn.
    Ready,
    /// A time.
    Due(u64),
    /// Its receiver.
    Held,
    /// Nothing any more.
    Over,
}

/// Drives `lanes` to their ends; from `stop` on they send nothing new. `written` is raised, about every [`TICK`], by what
/// has left. Returns the CPU seconds that the thread had used when the first of its lanes was past its warm-up.
///
/// # Errors
/// If the operating system refuses to wait.
pub(super) fn drive(
    lanes: &mut [Lane],
    desk: &mut Desk,
    job: &Job,
    clock: &Clock,
    stop: &AtomicBool,
    written: &AtomicU64,
) -> nix::Result<Option<f64>> {
    // The default slack of 50 us would make every sleep that much too long.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut watch = Watch::new(lanes.len())?;
    let mut places = vec![Place::Ready; lanes.len()];
    let mut ready: Vec<usize> = (0..lanes.len()).collect();
    let mut again = Vec::with_capacity(lanes.len());
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::with_capacity(lanes.len());
    let (mut held, mut over, mut stopped, mut told) = (0, 0, false, 0);
    let mut warm_cpu_s = None;
    let mut tick_ns = clock.now().saturating_add(TICK);
    loop {
        for index in ready.drain(..) {
            let before = places[index];
            held -= usize::from(before == Place::Held);
            places[index] = match lanes[index].turn(desk, job, clock.now()) {
                Turn::Moved => {
                    again.push(index);
                    Place::Ready
                }
                Turn::Peer => {
                    watch.arm(index, &lanes[index])?;
                    held += 1;
                    Place::Held
                }
                Turn::Until(at) => {
                    // Asked before its time, it is in the heap already.
                    if before != Place::Due(at) {
                        due.push(Reverse((at, index)));
                    }
                    Place::Due(at)
                }
                Turn::Over => {
                    over += 1;
                    Place::Over
                }
            };
            if job.warm > 0 && warm_cpu_s.is_none() && lanes[index].is_warm() {
                warm_cpu_s = Some(thread_cpu_seconds());
            }
        }
        std::mem::swap(&mut ready, &mut again);
        if over == lanes.len() {
            return Ok(warm_cpu_s);
        }
        if !stopped && stop.load(Ordering::Relaxed) {
            lanes.iter_mut().for_each(Lane::stop);
            (stopped, tick_ns) = (true, 0);
        }

        let next_ns = due.peek().map_or(u64::MAX, |Reverse((at, _))| *at).min(tick_ns);
        let now_ns = clock.now();
        if ready.is_empty() && next_ns > now_ns {
            if held > 0 {
                watch.wait(next_ns - now_ns)?;
            } else {
                clock.sleep_until(next_ns);
            }
        }
        if held > 0 {
            // One that is not held any more was asked in between; what fired then is old.
            watch.ready(|index| {
                if places[index] == Place::Held {
                    ready.push(index);
                }
            })?;
        }
        let now_ns = clock.now();
        if now_ns >= tick_ns {
            tick_ns = now_ns.saturating_add(TICK);
            let sum = lanes.iter().map(Lane::sent).sum();
            written.fetch_add(sum - told, Ordering::Relaxed);
            told = sum;
            ready.clear();
            ready.extend((0..lanes.len()).filter(|&index| places[index] != Place::Over));
        } else {
            while let Some(&Reverse((at, index))) = due.peek().filter(|Reverse((at, _))| *at <= now_ns) {
                due.pop();
                if places[index] == Place::Due(at) {
                    places[index] = Place::Ready;
                    ready.push(index);
                }
            }
        }
    }
}

/// Waits for receivers.
struct Watch {
    epoll: Epoll,
    known: Vec<bool>,
    events: [EpollEvent; EVENTS],
}

impl Watch {
    fn new(lanes: usize) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, known: vec![false; lanes], events: [EpollEvent::empty(); EVENTS] })
    }

    /// Tells once when the receiver of `lane` is ready.
    fn arm(&mut self, index: usize, lane: &Lane) -> nix::Result<()> {
        let mut event = EpollEvent::new(lane.interest() | EpollFlags::EPOLLONESHOT, index as u64);
        if std::mem::replace(&mut self.known[index], true) {
            self.epoll.modify(lane.as_fd(), &mut event)
        } else {
            self.epoll.add(lane.as_fd(), event)
        }
    }

    /// Waits until a receiver is ready, at most so long. epoll itself knows milliseconds only.
    fn wait(&self, ns: u64) -> nix::Result<()> {
        let mut waiting = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut waiting, Some(TimeSpec::from(Duration::from_nanos(ns))), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Calls `each` with the lanes whose receivers are ready now; does not wait.
    fn ready(&mut self, mut each: impl FnMut(usize)) -> nix::Result<()> {
        let count = match self.epoll.wait(&mut self.events, EpollTimeout::ZERO) {
            Err(nix::errno::Errno::EINTR) => 0,
            result => result?,
        };
        for event in &self.events[..count] {
            each(usize::try_from(event.data()).unwrap_or(usize::MAX));
        }
        Ok(())
    }
}
