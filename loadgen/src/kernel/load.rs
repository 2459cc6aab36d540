//! User messages at a constant rate, straight into the kernel.
//!
//! *Promise:* message n leaves when it is due, whatever happened to those before; each says in its text which one it is
//! and when it was due.
//! *Law:* one message, one system call, as every program that writes audit messages does; nothing is allocated or
//! formatted per message.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::Clock;
use crate::corpus::mark;
use crate::plan::{Keeper, Plan};

use super::netlink::Audit;

/// TRUSTED_APP: what any program may write, and auditd passes on.
pub(super) const RECORD_TYPE: u16 = 1121;
/// What a message ends with. With log_format RAW the last sixteen bytes may be missing at the other end: auditd 4.2 and
/// 4.2.1 lose them where they pass the kernel's own text on.
const END: &[u8] = b" exe=\"/usr/bin/audit-loadgen\" res=success end=the-last-bytes";
pub(super) const MAY_BE_LOST: usize = 16;
const START: &[u8] = b"op=load";
/// A send that takes longer than this was held by the kernel, because its backlog was full.
const HELD_NS: u64 = 1_000_000;

/// When a load does what, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// When each message, program or file is due.
    pub(super) plan: Plan,
    /// How many there are at most.
    pub(super) count: u64,
    /// From when on nothing is due any more, ns of the clock.
    pub(super) until_ns: u64,
    /// Lateness that counts as on time.
    pub(super) tolerance_ns: u64,
    /// The clock.
    pub(super) clock: Clock,
}

/// What a load was.
#[derive(Debug)]
pub(super) struct Done {
    /// Messages sent, programs started or files opened.
    pub(super) count: u64,
    /// When the first was due.
    pub(super) first_ns: u64,
    /// How well the schedule was kept.
    pub(super) keeper: Keeper,
    /// How the kernel held the sender; of storms not known.
    pub(super) held: Option<Held>,
}

/// Waits that the kernel imposed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// How many.
    pub(super) times: u64,
    /// For how long in all, ns.
    pub(super) ns: u64,
}

/// A message's text and where its mark is.
#[derive(Debug)]
pub(super) struct Text {
    bytes: Vec<u8>,
}

impl Text {
    /// A text of `size` bytes (at least 120).
    pub(super) fn new(size: usize) -> Self {
        let mut bytes = [START, mark::BLANK, b" pad="].concat();
        bytes.resize(size.saturating_sub(END.len()).max(bytes.len()), b'x');
        bytes.extend_from_slice(END);
        // The kernel takes the last byte off a message that does not end with NUL.
        bytes.push(0);
        Self { bytes }
    }

    /// What must follow the mark where the message arrives: everything, or `may_be_cut` all but the end.
    pub(super) fn tail(&self, may_be_cut: bool) -> &[u8] {
        let lost = if may_be_cut { MAY_BE_LOST } else { 0 };
        &self.bytes[START.len() + mark::LEN..self.bytes.len() - 1 - lost]
    }

    fn number(&mut self, sequence: u64, due_ns: u64, late_ns: u64) -> &[u8] {
        if let Some(field) = self.bytes[START.len()..].first_chunk_mut() {
            mark::write(field, mark::stream_digits(0), sequence, due_ns, late_ns);
        }
        &self.bytes
    }
}

/// Sends messages until a limit is reached or `stop` is set. `announced` is raised before each.
///
/// # Errors
/// If the kernel refuses them.
pub(super) fn send(
    audit: &Audit,
    text: &mut Text,
    schedule: &Schedule,
    announced: &AtomicU64,
    stop: &AtomicBool,
) -> io::Result<Done> {
    let Schedule { plan, count, until_ns, tolerance_ns, clock } = *schedule;
    // Without this a sleep of some microseconds takes some 50 more. If it is refused the plan shows it.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut done = Done {
        count: 0,
        first_ns: plan.intended(0).unwrap_or_else(|| clock.now()),
        keeper: Keeper::new(tolerance_ns),
        held: None,
    };
    let mut held = Held::default();
    let mut frame = Vec::new();
    let mut now = clock.now();
    while done.count < count && !stop.load(Ordering::Relaxed) {
        let due = plan.intended(done.count).unwrap_or(now);
        if due >= until_ns {
            break;
        }
        if now < due {
            clock.sleep_until(due);
            done.keeper.caught_up();
            now = clock.now();
        }
        done.keeper.leaving(due, now);
        announced.store(done.count + 1, Ordering::Release);
        audit.send_user_message(
            RECORD_TYPE,
            &mut frame,
            text.number(done.count, due, now.saturating_sub(due)),
        )?;
        done.count += 1;
        let after = clock.now();
        if after - now > HELD_NS {
            held.times += 1;
            held.ns += after - now;
            done.keeper.blocked(after - now);
        }
        now = after;
    }
    Ok(Done { held: Some(held), ..done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_size_and_its_mark() {
        for size in [120, 140, 8000] {
            let mut text = Text::new(size);
            let tail = text.tail(true).to_vec();
            assert!(text.tail(false).ends_with(b"end=the-last-bytes"));
            assert_eq!(text.tail(false).len(), tail.len() + MAY_BE_LOST);
            let bytes = text.number(7, 1_795_424_551_000_000_001, 3).to_vec();
            assert_eq!(bytes.len(), size + 1);
            assert_eq!(bytes.last(), Some(&0));
            assert!(bytes.starts_with(b"op=load lg=000.0000000007."));
            assert!(bytes[START.len() + mark::LEN..].starts_with(&tail));
            assert_eq!(bytes.len() - 1 - START.len() - mark::LEN - tail.len(), MAY_BE_LOST);
        }
    }
}
