//! The threads that drive the lanes.
//!
//! *Promise:* one thread takes its lanes in turn, sleeps exactly until the next record is due if nothing else is to be
//! done, and otherwise until a receiver is ready.
//! *Law:* no thread per connection, no lock between threads: each has its own lanes and its own lap.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;

use super::lane::{Desk, Job, Lane, Turn};
use crate::clock::Clock;

/// The longest wait for receivers; after it patience is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Drives `lanes` to their ends; from `stop` on they send nothing new.
///
/// # Errors
/// If the operating system refuses to wait.
pub(super) fn drive(
    lanes: &mut [Lane],
    desk: &mut Desk,
    job: &Job,
    clock: &Clock,
    stop: &AtomicBool,
) -> nix::Result<()> {
    // The default slack of 50 us would make every sleep that much too long.
    let _ = nix::sys::prctl::set_timerslack(1);
    loop {
        let (mut moved, mut peers, mut next) = (false, false, None::<u64>);
        for lane in &mut *lanes {
            match lane.turn(desk, job, clock.now()) {
                Turn::Moved => moved = true,
                Turn::Peer => peers = true,
                Turn::Until(due) => next = Some(next.map_or(due, |next| next.min(due))),
                Turn::Over => {}
            }
        }
        if stop.load(Ordering::Relaxed) {
            lanes.iter_mut().for_each(Lane::stop);
        }
        match (moved, peers, next) {
            (true, ..) => {}
            (false, true, _) => wait(lanes, next, clock)?,
            // Short sleeps, so that the end is noticed however slow the plan is.
            (false, false, Some(due)) => clock.sleep_until(due.min(clock.now() + 100_000_000)),
            (false, false, None) => return Ok(()),
        }
    }
}

/// Waits until a receiver is ready, or `next`.
fn wait(lanes: &[Lane], next: Option<u64>, clock: &Clock) -> nix::Result<()> {
    let until = next.map_or(TICK, |due| Duration::from_nanos(due.saturating_sub(clock.now())).min(TICK));
    let mut waiting: Vec<PollFd<'_>> = lanes
        .iter()
        .map(|lane| PollFd::new(lane.as_fd(), lane.interest()))
        .filter(|fd| !fd.events().is_empty())
        .collect();
    match ppoll(&mut waiting, Some(TimeSpec::from(until)), None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
