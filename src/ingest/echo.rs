//! The relay's own system calls in the audit stream. Pure; time is an argument.
//!
//! Promise: every record of them is passed on and counted. Law: no record of anybody else waits because of them.
//!
//! A rule on the calls that the relay sends with makes a record of each sending, which is sent, which makes a record:
//! once begun, that goes on for ever, some hundred times a second. So while nothing but the relay's own events has
//! come, they wait for [`HOLD`] or for the next record of somebody else, and go out together: one sending a second.

use std::time::{Duration, Instant};

use crate::audit::{Own, Record, Stamp};

/// How long the relay's own events wait for company.
pub(super) const HOLD: Duration = Duration::from_secs(1);

/// Follows the relay's own events.
#[derive(Debug)]
pub(super) struct Echo {
    own: Own,
    /// The own event that came last; its further records have the same stamp.
    event: Option<Stamp>,
    /// Something of somebody else's has come since the last sending.
    company: bool,
    /// Since when own events wait.
    since: Option<Instant>,
}

impl Echo {
    pub(super) fn new(own: Own) -> Self {
        Self { own, event: None, company: false, since: None }
    }

    /// Takes note of a record. True if it is the SYSCALL record of one of the relay's own calls.
    #[inline]
    pub(super) fn note(&mut self, record: &Record<'_>, now: Instant) -> bool {
        if self.own.made(record) {
            self.event = record.stamp;
            self.since.get_or_insert(now);
            return true;
        }
        self.company |= self.event.is_none() || record.stamp != self.event;
        false
    }

    /// How long what has come may wait from `now` on; `None`: it goes out now, and is forgotten.
    pub(super) fn rest(&mut self, now: Instant) -> Option<Duration> {
        if let Some(since) = self.since
            && !self.company
        {
            let left = HOLD.saturating_sub(now.saturating_duration_since(since));
            if !left.is_zero() {
                return Some(left);
            }
        }
        self.company = false;
        self.since = None;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_events_wait_for_company_or_a_second() {
        let mut echo = Echo::new(Own::new(7, Vec::new()));
        let line = |kind: &str, serial: u32, pid: u32| {
            format!(
                "type={kind} msg=audit(1795424551.650:{serial}): arch=c000003e syscall=1 ppid=1 pid={pid} auid=0"
            )
        };
        let now = Instant::now();
        let note = |echo: &mut Echo, line: String, now| echo.note(&Record::from_text(line.as_bytes()), now);
        assert!(!note(&mut echo, line("SYSCALL", 1, 8), now));
        assert_eq!(echo.rest(now), None);
        // The event as a whole.
        assert!(note(&mut echo, line("SYSCALL", 2, 7), now));
        assert!(!note(&mut echo, line("PROCTITLE", 2, 8), now));
        assert_eq!(echo.rest(now), Some(HOLD));
        // More of the like does not prolong it.
        let later = now + HOLD / 4;
        assert!(note(&mut echo, line("SYSCALL", 3, 7), later));
        assert_eq!(echo.rest(later), Some(HOLD * 3 / 4));
        assert_eq!(echo.rest(now + HOLD), None);
        // What belongs to the event that has gone out is still no company.
        assert!(note(&mut echo, line("SYSCALL", 4, 7), later));
        assert_eq!(echo.rest(later), Some(HOLD));
        assert!(!note(&mut echo, line("SYSCALL", 5, 8), later));
        assert_eq!(echo.rest(later), None);
    }
}
