//! The records of a lap, in one of three mixes.
//!
//! *Promise:* the same seed gives the same records.
//! *Law:* made before the clock starts; nothing here is fast, nor need it be.

mod host;
mod nasty;

use super::stamp::Stamps;
use super::{ENRICHED, Mix, Shape, mark};

/// A record before it is laid out.
pub(super) struct Record {
    name: &'static str,
    /// The kernel's number of the type.
    pub(super) number: u32,
    body: Vec<u8>,
    suffix: Vec<u8>,
}

impl Record {
    /// A record with auditd's additions `suffix`; none if that is empty.
    fn new(name: &'static str, number: u32, body: impl Into<Vec<u8>>, suffix: impl Into<Vec<u8>>) -> Self {
        Self { name, number, body: body.into(), suffix: suffix.into() }
    }
}

/// A record's text line (no LF) and the places in it that change from lap to lap.
pub(super) struct Text {
    /// The line.
    pub(super) bytes: Vec<u8>,
    /// Where its stamp is.
    pub(super) stamp: usize,
    /// Where its mark is; `EOE` has none.
    pub(super) mark: Option<usize>,
}

impl Text {
    /// Lays out a record, with auditd's additions if `enriched`.
    pub(super) fn of(record: &Record, enriched: bool) -> Self {
        let mut bytes = format!("type={} msg=audit(", record.name).into_bytes();
        let stamp = bytes.len();
        bytes.extend_from_slice(Stamps::default().of(0));
        bytes.extend_from_slice(b"):");
        if record.name == "EOE" {
            // The enriched form has no space here, the kernel's own has one.
            if !enriched {
                bytes.push(b' ');
            }
            return Self { bytes, stamp, mark: None };
        }
        bytes.push(b' ');
        bytes.extend_from_slice(&record.body);
        let mark = bytes.len();
        bytes.extend_from_slice(mark::BLANK);
        if enriched && !record.suffix.is_empty() {
            bytes.push(ENRICHED);
            bytes.extend_from_slice(&record.suffix);
        }
        Self { bytes, stamp, mark: Some(mark) }
    }
}

/// Bytes of a record of [`Mix::Single`] if nothing else is asked for.
const SINGLE_SIZE: usize = 240;

/// SplitMix64: enough for a mix of records, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}

/// Whatever fills a record up.
const FILLING: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
/// A login user: uid, name.
const USERS: [(u32, &str); 4] = [(0, "root"), (1000, "anna"), (1001, "deploy"), (33, "www-data")];

/// Deals the events of a lap.
pub(super) struct Dealer {
    shape: Shape,
    random: Random,
    deck: host::Deck,
}

impl Dealer {
    /// Deals what `shape` asks for.
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, random: Random(shape.seed), deck: host::Deck::default() }
    }

    /// The records of the next event.
    pub(super) fn event(&mut self) -> Vec<Record> {
        let enriched = self.shape.is_enriched();
        let mut records = match self.shape.mix {
            Mix::Host => self.deck.event(&mut self.random, enriched),
            Mix::Nasty => nasty::event(&mut self.random, enriched),
            Mix::Single => {
                let size = self.shape.size.unwrap_or(SINGLE_SIZE);
                vec![sized(&mut self.random, size, enriched)]
            }
        };
        // Events of one user record end with themselves.
        if self.shape.eoe && records.len() > 1 {
            records.push(Record::new("EOE", 1320, "", ""));
        }
        records
    }
}

/// A user record whose line is exactly `size` bytes long, by what its `msg='...'` holds.
///
/// Small ones leave out fields; below about 120 bytes there is none, and the shortest is given.
fn sized(random: &mut Random, size: usize, enriched: bool) -> Record {
    let (uid, user) = random.pick(&USERS);
    let pid = 10_000 + random.below(20_000);
    let session = 1 + random.below(9);
    let suffix = format!("UID=\"root\" AUID=\"{user}\"");
    let full =
        format!("pid={pid} uid=0 auid={uid} ses={session} msg='op=load acct=\"{user}\" res=success data=");
    let short = format!("pid={pid} msg='op=");
    let record = |body, suffix| Record::new("USER", 1005, body, suffix);
    let candidates =
        [record(full.clone(), suffix), record(full, String::new()), record(short, String::new())];
    let [first, second, last] = candidates;
    let fits = |record: &Record| Text::of(record, enriched).bytes.len() < size;
    let mut record = [first, second].into_iter().find(fits).unwrap_or(last);
    // One more for the closing quote.
    let missing = size.saturating_sub(Text::of(&record, enriched).bytes.len() + 1);
    for _ in 0..missing {
        record.body.push(random.pick(FILLING));
    }
    record.body.push(b'\'');
    record
}

/// The kernel's rule for strings it does not trust: quoted if plain, else hexadecimal.
fn quoted(value: &str) -> String {
    if value.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        format!("\"{value}\"")
    } else {
        value.bytes().map(|b| format!("{b:02X}")).collect()
    }
}
