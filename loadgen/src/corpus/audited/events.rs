//! The events of a storm, each with the records it must have. Pure; no I/O.
//!
//! *Promise:* an event counts as received if each of its records has arrived: SYSCALL, of an exec EXECVE, CWD, a PATH
//! for each of the `items=` that SYSCALL names, PROCTITLE, and EOE if the far end passes those on at all. What an event
//! lacks is told by type.
//! *Law:* told by serial number alone, whatever order the records come in; an event whose SYSCALL has not arrived is the
//! load's if it has a record that only a rule brings, and the load's rule is the only one.

use std::collections::HashMap;

use memchr::memmem;

/// Which records an event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storm {
    /// Programs started
    Exec,
    /// Files opened
    Open,
}

/// The types that may be missing, in the order of an event.
pub(crate) const TYPES: [&str; 6] = ["SYSCALL", "EXECVE", "CWD", "PATH", "PROCTITLE", "EOE"];
const SYSCALL: u8 = 1;
const EXECVE: u8 = 1 << 1;
const CWD: u8 = 1 << 2;
const PATH: u8 = 1 << 3;
const PROCTITLE: u8 = 1 << 4;
const EOE: u8 = 1 << 5;
/// Records that a kernel makes only for a call that a rule matches.
const OF_A_RULE: u8 = EXECVE | CWD | PATH;
/// As many PATH records as an event can be held to.
const ITEMS: u8 = 64;

/// Whose an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    /// Not known before its SYSCALL comes
    #[default]
    Unknown,
    /// The load's
    Load,
    /// Another rule's, or of no rule
    Other,
}

#[derive(Clone, Copy, Debug, Default)]
struct Event {
    owner: Owner,
    seen: u8,
    /// A bit for each `item=`.
    paths: u64,
    /// What SYSCALL says.
    items: u8,
    others: u8,
    twice: bool,
}

impl Event {
    fn records(&self) -> u64 {
        let singles = (self.seen & !(PATH | EOE)).count_ones();
        u64::from(singles + self.paths.count_ones()) + u64::from(self.others)
    }
}

/// What a record is to its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One of the load's, for the first time. `opens`: it is the SYSCALL.
    First {
        /// Whether it is the SYSCALL.
        opens: bool,
    },
    /// One of the load's that has arrived before.
    Again,
    /// Not the load's, or not known to be.
    Elsewhere,
}

/// The account of the events, at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Events that arrived with all of their records.
    pub(crate) complete: u64,
    /// Events of which some records arrived.
    pub(crate) incomplete: u64,
    /// Events of which a record came more than once.
    pub(crate) duplicated: u64,
    /// Records that arrived, without EOE.
    pub(crate) records: u64,
    /// Records that incomplete events lack, by [`TYPES`].
    pub(crate) missing: [u64; TYPES.len()],
}

impl Whole {
    /// Types that are missing, and how often.
    pub(crate) fn missing_by_type(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        TYPES.into_iter().zip(self.missing).filter(|(_, count)| *count > 0)
    }
}

/// What has arrived so far.
#[derive(Debug)]
pub(super) struct Events {
    storm: Storm,
    events: HashMap<u64, Event>,
}

impl Events {
    pub(super) fn new(storm: Storm) -> Self {
        Self { storm, events: HashMap::new() }
    }

    /// Enters a record: its serial number, its type, its text behind the stamp, and whether that has the load's key.
    pub(super) fn enter(&mut self, serial: u64, kind: &[u8], text: &[u8], has_key: bool) -> Place {
        let bit = match kind {
            b"SYSCALL" => SYSCALL,
            b"EXECVE" => EXECVE,
            b"CWD" => CWD,
            b"PATH" => PATH,
            b"PROCTITLE" => PROCTITLE,
            b"EOE" => EOE,
            _ => 0,
        };
        // What begins no event of a rule need not be remembered.
        if bit & (SYSCALL | EXECVE | CWD | PATH) == 0 && !self.events.contains_key(&serial) {
            return Place::Elsewhere;
        }
        let event = self.events.entry(serial).or_default();
        let new = match bit {
            0 => {
                event.others = event.others.saturating_add(1);
                true
            }
            PATH => {
                let item = decimal(text.strip_prefix(b"item=").unwrap_or_default()).unwrap_or(ITEMS);
                let bit = 1_u64.checked_shl(item.into()).unwrap_or(0);
                let new = event.paths & bit == 0;
                event.paths |= bit;
                event.seen |= PATH;
                new
            }
            _ => {
                let new = event.seen & bit == 0;
                event.seen |= bit;
                new
            }
        };
        event.twice |= !new;
        if bit == SYSCALL && new {
            event.owner = if has_key { Owner::Load } else { Owner::Other };
            let at = memmem::find(text, b" items=").map_or(text.len(), |at| at + b" items=".len());
            event.items = decimal(&text[at..]).unwrap_or(0).min(ITEMS);
        }
        match event.owner {
            Owner::Load if bit == EOE => Place::Elsewhere,
            Owner::Load if new => Place::First { opens: bit == SYSCALL },
            Owner::Load => Place::Again,
            Owner::Unknown | Owner::Other => Place::Elsewhere,
        }
    }

    /// Closes the account.
    pub(super) fn tally(&self) -> Whole {
        let of_load = || {
            self.events.values().filter(|event| match event.owner {
                Owner::Load => true,
                Owner::Other => false,
                Owner::Unknown => event.seen & OF_A_RULE != 0,
            })
        };
        // The deeds are all alike: an event that lost its SYSCALL had as many items as the others.
        let usual = of_load().map(|event| event.items).max().unwrap_or(0);
        let mut expected = SYSCALL | CWD | PROCTITLE;
        if self.storm == Storm::Exec {
            expected |= EXECVE;
        }
        if of_load().any(|event| event.seen & EOE != 0) {
            expected |= EOE;
        }
        let mut whole = Whole::default();
        for event in of_load() {
            let items = if event.seen & SYSCALL == 0 { usual } else { event.items };
            let missing = expected & !event.seen;
            let paths = u32::from(items).saturating_sub(event.paths.count_ones());
            for (index, count) in whole.missing.iter_mut().enumerate() {
                *count += u64::from(missing >> index & 1);
            }
            whole.missing[PATH.trailing_zeros() as usize] += u64::from(paths);
            if missing == 0 && paths == 0 {
                whole.complete += 1;
            } else {
                whole.incomplete += 1;
            }
            whole.duplicated += u64::from(event.twice);
            whole.records += event.records();
        }
        whole
    }
}

/// The decimal number at the start of `bytes`, if it is below 256.
fn decimal(bytes: &[u8]) -> Option<u8> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEC: [(&str, &str); 7] = [
        ("SYSCALL", "arch=c000003e syscall=59 items=2 ppid=1"),
        ("EXECVE", "argc=1"),
        ("CWD", "cwd=\"/\""),
        ("PATH", "item=0 name=\"/bin/true\""),
        ("PATH", "item=1 name=\"ld.so\""),
        ("PROCTITLE", "proctitle=\"x\""),
        ("EOE", ""),
    ];

    /// Enters an event's records, by their place in [`EXEC`].
    fn enter(events: &mut Events, serial: u64, records: &[usize]) {
        for &record in records {
            let (kind, text) = EXEC[record];
            events.enter(serial, kind.as_bytes(), text.as_bytes(), record == 0);
        }
    }

    #[test]
    fn an_event_is_whole_or_says_what_it_lacks() {
        const SYS: usize = 0;
        let missing = |list: &[(usize, u64)]| {
            let mut missing = [0; TYPES.len()];
            list.iter().for_each(|&(index, count)| missing[index] = count);
            missing
        };
        // What arrives, in which order; whether it is whole; what is missing; records.
        type Case = (&'static [usize], bool, &'static [(usize, u64)], u64);
        let cases: [Case; 12] = [
            (&[0, 1, 2, 3, 4, 5], true, &[], 6),
            (&[5, 4, 3, 2, 1, 0], true, &[], 5),
            (&[3, 0, 1, 2, 4, 5], true, &[], 6),
            (&[0, 1, 2, 3, 5], false, &[(3, 1)], 5),
            (&[0, 1, 2, 4, 5], false, &[(3, 1)], 5),
            (&[0, 1, 2, 5], false, &[(3, 2)], 4),
            (&[0, 1, 3, 4, 5], false, &[(2, 1)], 5),
            (&[0, 2, 3, 4, 5], false, &[(1, 1)], 5),
            (&[0, 1, 2, 3, 4], false, &[(4, 1)], 5),
            (&[1, 2, 3, 4, 5], false, &[(SYS, 1)], 5),
            (&[3], false, &[(SYS, 1), (1, 1), (2, 1), (3, 1), (4, 1)], 1),
            (&[0], false, &[(1, 1), (2, 1), (3, 2), (4, 1)], 1),
        ];
        for (arrived, whole, lacks, records) in cases {
            let mut events = Events::new(Storm::Exec);
            // Another event, whole, from which the usual number of items is known.
            enter(&mut events, 1, &[0, 1, 2, 3, 4, 5]);
            enter(&mut events, 2, arrived);
            let tally = events.tally();
            // A PROCTITLE before anything else is not known to be of the load.
            if arrived[0] == 5 {
                assert_eq!(
                    (tally.complete, tally.missing[4], tally.records),
                    (1, 1, 6 + records),
                    "{arrived:?}"
                );
                continue;
            }
            let expected = Whole {
                complete: 1 + u64::from(whole),
                incomplete: u64::from(!whole),
                duplicated: 0,
                records: 6 + records,
                missing: missing(lacks),
            };
            assert_eq!(tally, expected, "{arrived:?}");
        }
    }

    #[test]
    fn an_open_has_no_execve_and_eoe_is_missed_only_where_some_arrive() {
        let mut events = Events::new(Storm::Open);
        enter(&mut events, 1, &[0, 2, 3, 4, 5]);
        assert_eq!((events.tally().complete, events.tally().missing), (1, [0; TYPES.len()]));
        enter(&mut events, 2, &[0, 2, 3, 4, 5, 6]);
        let tally = events.tally();
        assert_eq!((tally.complete, tally.incomplete, tally.records), (1, 1, 10));
        assert_eq!(tally.missing_by_type().collect::<Vec<_>>(), [("EOE", 1)]);
    }

    #[test]
    fn a_record_twice_is_told_and_counted_once() {
        for (again, (kind, text)) in EXEC.iter().take(6).enumerate() {
            let mut events = Events::new(Storm::Exec);
            enter(&mut events, 1, &[0, 1, 2, 3, 4, 5]);
            let place = events.enter(1, kind.as_bytes(), text.as_bytes(), again == 0);
            assert_eq!(place, Place::Again, "{kind}");
            let tally = events.tally();
            assert_eq!((tally.complete, tally.duplicated, tally.records), (1, 1, 6), "{kind}");
        }
    }

    #[test]
    fn events_of_others_are_nobodys_loss() {
        let mut events = Events::new(Storm::Open);
        // A change of rules, which the kernel tells with the call that made it; a daemon's message; a rule of others.
        for (serial, kind) in
            [(1, "CONFIG_CHANGE"), (1, "SYSCALL"), (1, "PROCTITLE"), (2, "DAEMON_START"), (3, "EOE")]
        {
            assert_eq!(events.enter(serial, kind.as_bytes(), b"a", false), Place::Elsewhere, "{kind}");
        }
        for (kind, text) in &EXEC[..5] {
            assert_eq!(events.enter(4, kind.as_bytes(), text.as_bytes(), false), Place::Elsewhere);
        }
        assert_eq!(events.tally(), Whole::default());
        // Of the load: also what a kernel adds to an event that nobody asked for.
        assert_eq!(events.enter(5, b"SYSCALL", b"items=0", true), Place::First { opens: true });
        assert_eq!(events.enter(5, b"BPRM_FCAPS", b"", false), Place::First { opens: false });
        assert_eq!(events.tally().records, 2);
    }
}
