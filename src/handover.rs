//! Undelivered records, from one instance of the relay to the next.
//!
//! auditd 4.2 stops its plugins on every reload, and auditd of any version at its own end. What could not be
//! delivered within `drain-timeout` is left in a folder on tmpfs; the next instance sends it first. Nothing is
//! written while the relay runs: this is a handover, not a disk queue, and does not survive a reboot.
//!
//! Promise: whoever holds the folder's lock is the only one that leaves or takes records; a file is either there as
//! a whole or not at all. Law: folder 0700 and files 0600 of our own user, opened without following links; what is
//! read is bounded and checked, since whoever has taken over our account may have written it.
//!
//! ```text
//! file    = MAGIC section* END
//! section = 'S' u32 length, destination's key, then (message* gap?)*
//! message = 'R' (record) or 'N' (notice), stamp, u32 length, bytes
//! gap     = 'A', what notices among the messages before it announce: u64 records, first and last stamp, u64 skipped bytes
//! stamp   = u64 ms (all ones: no stamp), u32 serial
//! ```
//!
//! Numbers are in the machine's byte order: the file never leaves it.

mod former;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use self::former::Refusal;
use crate::audit::{MAX_LINE, Stamp};
use crate::batch::{BATCH_BYTES, Batch, Gap};
use crate::guarded::{self, Fault};
use crate::telemetry::{DestinationCounters, Reason};

const MAGIC: &[u8] = b"audit-relay handover 1\n";
const END: u8 = b'E';

/// Most bytes that are handed over: a full default queue. Beyond it the newest records are lost.
const LARGEST: u64 = 64 << 20;

/// Of what is free in the folder's file system, this part is left alone: other programs need /run too.
const LEFT_FREE: u64 = 2;

/// The longest message that is read: one of the longest line, each byte of which is escaped, some bytes as four, and stands in
/// the structured data, too.
const LONGEST_MESSAGE: u32 = 2 << 20;
const _: () = assert!(LONGEST_MESSAGE as usize > 8 * MAX_LINE + (64 << 10));

/// The longest key that is written and read: the URLs of all receivers of a destination.
const LONGEST_KEY: usize = 64 << 10;

/// So many destinations leave something; each takes the memory of a batch at the next start. What others would leave is
/// lost, and counted.
const MOST_KEYS: usize = 256;

/// More than any notice announces, and far from what the numbers can hold.
const MOST_ANNOUNCED: u64 = 1 << 40;

/// The longest that a start waits for a relay of the former account. auditd's socket and its queue (`q_depth`) hold what comes
/// meanwhile.
const MOST_PATIENCE: Duration = Duration::from_secs(5);

/// How often that one's lock is asked for.
const LOCK_PERIOD: Duration = Duration::from_millis(20);

/// How the folder is opened: itself, and nothing that a link leads to.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Names in the folder.
const LOCK: &str = "lock";
const RECORDS: &str = "records";
const UNFINISHED: &str = "records.new";

/// The folder, opened before root is given up.
#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
    name: String,
}

/// The right to leave and take records.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Records of one destination.
#[derive(Debug, Default)]
pub struct Legacy {
    /// See [`Bequest::new`].
    pub key: String,
    /// The records, and notices between them.
    pub batches: Vec<Batch>,
}

impl Legacy {
    /// How many records.
    pub fn records(&self) -> u64 {
        self.batches.iter().map(Batch::records).sum()
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Why nothing could be taken.
#[derive(Debug)]
pub struct NotTaken {
    /// A sentence.
    pub why: String,
    /// It is still there, and may be taken later.
    pub later: bool,
}

/// Something else than a file stands where a relay has one: nothing could be left, and nobody would hear of it before the end.
fn in_the_way(dir: &OwnedFd, name: &str) -> Option<String> {
    [LOCK, RECORDS, UNFINISHED].into_iter().find_map(|file| {
        let facts = fstatat(dir, file, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let is_file = SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        (!is_file).then(|| {
            format!("handover: {name}/{file} is no file; run: rm -r {name}/{file}; and restart auditd")
        })
    })
}

fn closed_to_others(name: &str, mode: u32) -> Result<(), String> {
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(format!("handover: {name} is open to others; run: chmod 0700 {name}")),
    }
}

/// Why a folder of user `whose` is not used. The remedy is for all that is in it: the records would be of no use, and the lock
/// in the way, if only the folder changed its owner.
fn anothers(name: &str, whose: u32, owner: Uid, why: &Refusal) -> String {
    match why {
        Refusal::Unsure(why) => format!(
            "handover: {name} belongs to user {whose}{why}; remove it, with what is undelivered there, or run: \
             chown -R --from={whose} {owner} {name}; and restart auditd"
        ),
        Refusal::Locked => format!(
            "handover: {name} belongs to user {whose}, and a relay that runs as that user has its lock; end that relay, and \
             restart auditd"
        ),
    }
}

/// Why a folder was not opened.
struct Closed {
    /// A sentence.
    why: String,
    /// A relay of the former account has the lock, and may be on its way out.
    held: bool,
}

impl Closed {
    fn anothers(name: &str, whose: u32, owner: Uid, refusal: &Refusal) -> Self {
        Self { why: anothers(name, whose, owner, refusal), held: *refusal == Refusal::Locked }
    }
}

impl From<String> for Closed {
    fn from(why: String) -> Self {
        Self { why, held: false }
    }
}

fn not_root() -> Refusal {
    Refusal::Unsure(String::new())
}

/// Has root give away what is the former account's.
fn give(parent: &OwnedFd, dir: &OwnedFd, former: u32, owner: (Uid, Gid)) -> Result<(), Refusal> {
    if Uid::effective().is_root() { former::give(parent, dir, former, owner) } else { Err(not_root()) }
}

/// True if the error says nothing about the folder: the system is short of something at the moment.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EINTR | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOLCK)
    )
}

impl Folder {
    /// Makes the folder if need be, for `owner` alone, and opens it. Call before root is given up.
    ///
    /// # Errors
    /// A sentence: it cannot be made, or is somebody else's.
    pub fn open(path: &Path, owner: (Uid, Gid)) -> Result<Self, String> {
        Self::try_open(path, owner).map_err(|closed| closed.why)
    }

    fn try_open(path: &Path, owner: (Uid, Gid)) -> Result<Self, Closed> {
        let name = path.display().to_string();
        let failed = |what: &str, error: io::Error| format!("handover: cannot {what} {name}: {error}");
        let place = guarded::place(path, owner.0).map_err(|fault| match fault {
            Fault::Io(error) => failed("open the folder above", error),
            Fault::Refused(sentence) => format!("handover: {sentence}"),
        })?;
        let made = match mkdirat(&place.folder, place.name.as_os_str(), Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed("make", errno.into()).into()),
        };
        let dir = openat(&place.folder, place.name.as_os_str(), FOLDER, Mode::empty())
            .map_err(|errno| failed("open the folder", errno.into()))?;
        let facts = File::from(dir.try_clone().map_err(|error| failed("open", error))?)
            .metadata()
            .map_err(|error| failed("look at", error))?;
        closed_to_others(&name, facts.mode())?;
        let (uid, gid) = owner;
        if facts.uid() != uid.as_raw() {
            // Made just now as root. One that was there before is given away only if a relay has left it.
            let ours = made && facts.uid() == 0 && Uid::effective().is_root();
            if ours {
                fchown(&dir, Some(uid), Some(gid)).map_err(|errno| failed("give away", errno.into()))?;
            } else {
                give(&place.folder, &dir, facts.uid(), owner)
                    .map_err(|why| Closed::anothers(&name, facts.uid(), uid, &why))?;
                log::info!("handover: {name} belonged to user {}; it is given to {uid}", facts.uid());
            }
        }
        Ok(Self { dir, name })
    }

    /// As [`Self::open`], to leave and take records there. Waits `drain` (the drain time of an instance on its way out), a
    /// second, and no longer than 5 s for a relay of the former account: the folder cannot be given away later.
    ///
    /// # Errors
    /// As [`Self::open`], or there is something in it that would be in the way.
    pub fn for_records(path: &Path, owner: (Uid, Gid), drain: Duration) -> Result<Self, String> {
        let until = Instant::now() + drain.saturating_add(Duration::from_secs(1)).min(MOST_PATIENCE);
        loop {
            match Self::try_for_records(path, owner) {
                Err(Closed { held: true, .. }) if Instant::now() < until => thread::sleep(LOCK_PERIOD),
                done => return done.map_err(|closed| closed.why),
            }
        }
    }

    fn try_for_records(path: &Path, owner: (Uid, Gid)) -> Result<Self, Closed> {
        let folder = Self::try_open(path, owner)?;
        if let Some(fault) = in_the_way(&folder.dir, &folder.name) {
            return Err(fault.into());
        }
        if Uid::effective().is_root() {
            former::remove_formers_lock(&folder.dir, owner.0).map_err(|(whose, why)| {
                Closed::anothers(&format!("{}/{LOCK}", folder.name), whose, owner.0, &why)
            })?;
        }
        Ok(folder)
    }

    /// Why [`Self::for_records`] will fail for `owner`, as far as can be told without making the folder.
    pub fn fault(path: &Path, owner: Uid) -> Option<String> {
        let name = path.display().to_string();
        let place = match guarded::place(path, owner) {
            Ok(place) => place,
            Err(Fault::Io(error)) => {
                return Some(format!("handover: cannot open the folder above {name}: {error}"));
            }
            Err(Fault::Refused(sentence)) => return Some(format!("handover: {sentence}")),
        };
        let facts = fstatat(&place.folder, place.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        if SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
            return Some(format!("handover: {name} is no folder; remove it, or name another"));
        }
        if let Err(fault) = closed_to_others(&name, facts.st_mode) {
            return Some(fault);
        }
        let whose = facts.st_uid;
        let open = || openat(&place.folder, place.name.as_os_str(), FOLDER, Mode::empty());
        if whose == owner.as_raw() {
            return in_the_way(&open().ok()?, &name);
        }
        let look = || {
            let dir = open().map_err(|errno| Refusal::Unsure(format!(" and cannot be opened ({errno})")))?;
            former::look(&place.folder, &dir, whose, owner).map(drop)
        };
        let why = if Uid::effective().is_root() { look().err()? } else { not_root() };
        Some(anothers(&name, whose, owner, &why))
    }

    fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        Ok(File::from(openat(self.dir.as_fd(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// Takes the lock; `None` while another instance has it, or the system is short of what it takes. It is given
    /// back when the process ends.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn lock(&self) -> io::Result<Option<Lock>> {
        let locked = self.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT).and_then(|file| {
            let mut file = file;
            loop {
                match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    Ok(lock) => break Ok(lock),
                    Err((again, Errno::EINTR)) => file = again,
                    Err((_, errno)) => break Err(errno.into()),
                }
            }
        });
        match locked {
            Ok(file) => Ok(Some(Lock { _file: file })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || passes(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// True if another instance has the lock. Makes no file, but holds the lock for a moment if nobody has it.
    pub fn is_held(&self) -> bool {
        let Ok(file) = self.open_file(LOCK, OFlag::O_RDONLY) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }

    /// Takes what the instance before has left, and removes it.
    ///
    /// # Errors
    /// What is there is none of ours; it is removed all the same, so that it does not come up again. Or it cannot be
    /// read now, and stays.
    pub fn take(&self, _lock: &Lock) -> Result<Vec<Legacy>, NotTaken> {
        let not_taken = |what: &str, error: &io::Error| NotTaken {
            why: format!("handover: {}/{RECORDS} {what}: {error}", self.name),
            later: passes(error),
        };
        let file = match self.open_file(RECORDS, OFlag::O_RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(not_taken("cannot be opened", &error)),
        };
        let taken = file.metadata().and_then(|facts| {
            if !facts.is_file()
                || facts.uid() != Uid::effective().as_raw()
                || facts.mode() & 0o077 != 0
                || facts.nlink() != 1
            {
                return Err(io::Error::other("it is not a file of this user alone"));
            }
            if facts.len() > LARGEST * 2 {
                return Err(io::Error::other("it is larger than any that this relay leaves"));
            }
            // Whoever has our account may go on writing meanwhile.
            read(&mut BufReader::with_capacity(1 << 16, file.take(LARGEST * 2)))
        });
        match taken {
            Err(error) if passes(&error) => Err(not_taken("cannot be read", &error)),
            taken => {
                let _ = unlinkat(self.dir.as_fd(), RECORDS, UnlinkatFlags::NoRemoveDir);
                taken.map_err(|error| not_taken("is of no use and was removed", &error))
            }
        }
    }

    /// Bytes that may be left now.
    fn room(&self) -> u64 {
        let free = fstatvfs(&self.dir).map_or(LARGEST, |facts| {
            #[allow(clippy::useless_conversion, reason = "the types differ between architectures")]
            u64::from(facts.blocks_available()).saturating_mul(u64::from(facts.fragment_size()))
        });
        LARGEST.min(free / LEFT_FREE)
    }

    fn write(&self, estate: &mut Vec<Left>, room: u64) -> io::Result<()> {
        let _ = unlinkat(self.dir.as_fd(), UNFINISHED, UnlinkatFlags::NoRemoveDir);
        let file = self.open_file(UNFINISHED, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        let written = write(&mut out, estate, room).and_then(|()| out.flush());
        let moved =
            written.and_then(|()| Ok(renameat(self.dir.as_fd(), UNFINISHED, self.dir.as_fd(), RECORDS)?));
        if moved.is_err() {
            let _ = unlinkat(self.dir.as_fd(), UNFINISHED, UnlinkatFlags::NoRemoveDir);
        }
        moved
    }
}

/// What outputs leave at the end, gathered until all have.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    left: Arc<Mutex<Vec<Left>>>,
}

struct Left {
    key: String,
    counters: Arc<DestinationCounters>,
    batches: Vec<Batch>,
    /// How many of the batches have been written.
    written: usize,
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} batches for {}", self.batches.len(), self.key)
    }
}

/// One destination's way to leave records.
#[derive(Clone, Debug)]
pub struct Bequest {
    estate: Estate,
    key: String,
    counters: Arc<DestinationCounters>,
}

impl Bequest {
    /// `key` names the destination and the form of its messages: only a destination with the same one takes
    /// them up.
    pub fn new(estate: &Estate, key: String, counters: &Arc<DestinationCounters>) -> Self {
        Self { estate: estate.clone(), key, counters: Arc::clone(counters) }
    }

    /// Leaves a batch. Its records are in flight until [`Estate::settle`].
    pub fn leave(&self, batch: Batch) {
        if !batch.is_empty() {
            self.with_left(|left| left.batches.push(batch));
        }
    }

    /// Leaves what the instance before has left, before anything of our own.
    pub fn pass_on(&self, batches: Vec<Batch>) {
        self.with_left(|left| drop(left.batches.splice(..0, batches)));
    }

    fn with_left(&self, change: impl FnOnce(&mut Left)) {
        let mut left = self.estate.left();
        if let Some(found) = left.iter_mut().find(|left| left.key == self.key) {
            return change(found);
        }
        let mut new = Left {
            key: self.key.clone(),
            counters: Arc::clone(&self.counters),
            batches: Vec::new(),
            written: 0,
        };
        change(&mut new);
        left.push(new);
    }
}

impl Estate {
    fn left(&self) -> MutexGuard<'_, Vec<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if nobody has left anything.
    pub fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    /// The file that [`Estate::settle`] would write, with room for all.
    pub(crate) fn image(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        write(&mut out, &mut self.left(), u64::MAX)?;
        Ok(out)
    }

    /// Writes everything that was left into `folder` and counts it as handed over; what finds no room there, or
    /// all of it if that fails or there is no folder, is counted as lost.
    ///
    /// # Errors
    /// A sentence about why something was lost.
    pub fn settle(&self, folder: Option<(&Folder, &Lock)>) -> Result<(), String> {
        let mut estate = self.left();
        if estate.is_empty() {
            return Ok(());
        }
        let result = match folder {
            None => Err("handover: another relay has the folder's lock, or what it has left cannot be read"
                .to_owned()),
            Some((folder, _)) => folder
                .write(&mut estate, folder.room())
                .map_err(|error| format!("handover: cannot write into {}: {error}", folder.name)),
        };
        let mut lost = 0;
        for left in &mut *estate {
            let written = if result.is_ok() { left.written } else { 0 };
            let count = |batches: &[Batch]| batches.iter().map(Batch::records).sum();
            left.counters.handed_over(count(&left.batches[..written]));
            let rest = count(&left.batches[written..]);
            left.counters.lost_at_output(Reason::DrainDeadline, rest);
            lost += rest;
        }
        estate.clear();
        match result {
            Ok(()) if lost > 0 => Err(format!(
                "handover: no room for {lost} records, or they are more than the next instance reads; they are lost"
            )),
            other => other,
        }
    }
}

fn write(out: &mut impl Write, estate: &mut Vec<Left>, mut room: u64) -> io::Result<()> {
    out.write_all(MAGIC)?;
    let mut keys = 0;
    for left in estate {
        let key = left.key.as_bytes();
        if key.len() > LONGEST_KEY || keys == MOST_KEYS {
            continue;
        }
        keys += 1;
        out.write_all(b"S")?;
        out.write_all(&length(key.len())?.to_ne_bytes())?;
        out.write_all(key)?;
        for batch in &left.batches {
            if (0..batch.entries().len()).any(|at| batch.message(at).len() > LONGEST_MESSAGE as usize) {
                break;
            }
            // 17 bytes stand before each message; what is announced has 41.
            let bytes = (batch.bytes.len() + 17 * batch.entries().len() + 41) as u64;
            if bytes > room {
                break;
            }
            room -= bytes;
            for (at, entry) in batch.entries().iter().enumerate() {
                let message = batch.message(at);
                out.write_all(if entry.is_record() { b"R" } else { b"N" })?;
                write_stamp(out, entry.stamp())?;
                out.write_all(&length(message.len())?.to_ne_bytes())?;
                out.write_all(message)?;
            }
            let (announced, skipped) = (batch.announced, batch.announced_skipped);
            if announced.records > 0 || skipped > 0 {
                out.write_all(b"A")?;
                out.write_all(&announced.records.to_ne_bytes())?;
                write_stamp(out, announced.first)?;
                write_stamp(out, announced.last)?;
                out.write_all(&skipped.to_ne_bytes())?;
            }
            left.written += 1;
        }
    }
    out.write_all(&[END])
}

fn write_stamp(out: &mut impl Write, stamp: Option<Stamp>) -> io::Result<()> {
    out.write_all(&stamp.map_or(u64::MAX, |stamp| stamp.ms).to_ne_bytes())?;
    out.write_all(&stamp.map_or(0, |stamp| stamp.serial).to_ne_bytes())
}

fn read_stamp(from: &mut impl Read) -> io::Result<Option<Stamp>> {
    let (ms, serial) = (u64::from_ne_bytes(bytes(from)?), u32::from_ne_bytes(bytes(from)?));
    Ok((ms != u64::MAX).then_some(Stamp { ms, serial }))
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Reads a whole file. Whatever it holds, it takes no more memory than the file is long, about, and [`MOST_KEYS`] batches.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Vec<Legacy>> {
    let broken = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(broken("another version has left it"));
    }
    let mut found: Vec<Legacy> = Vec::new();
    loop {
        let [kind] = bytes(from)?;
        match kind {
            END => return Ok(found),
            b'S' => {
                let length = u32::from_ne_bytes(bytes(from)?);
                if length as usize > LONGEST_KEY {
                    return Err(broken("a key is too long"));
                }
                let mut key = vec![0; length as usize];
                from.read_exact(&mut key)?;
                let key = String::from_utf8(key).map_err(|_| broken("a key is no text"))?;
                if found.len() == MOST_KEYS {
                    return Err(broken("it names too many destinations"));
                }
                found.push(Legacy { key, batches: Vec::new() });
            }
            b'R' | b'N' => {
                let stamp = read_stamp(from)?;
                let length = u32::from_ne_bytes(bytes(from)?);
                if length == 0 || length > LONGEST_MESSAGE {
                    return Err(broken("a message has an impossible length"));
                }
                let section = found.last_mut().ok_or_else(|| broken("a message belongs to nobody"))?;
                let length = length as usize;
                let full =
                    section.batches.last().is_none_or(|batch| batch.bytes.len() + length > BATCH_BYTES);
                if full {
                    section.batches.push(Batch::new());
                }
                if let Some(batch) = section.batches.last_mut() {
                    let start = batch.bytes.len();
                    batch.bytes.resize(start + length, 0);
                    from.read_exact(&mut batch.bytes[start..])?;
                    batch.end_message(stamp, kind == b'R');
                }
            }
            b'A' => {
                let batch = found.last_mut().and_then(|section| section.batches.last_mut());
                let batch = batch.ok_or_else(|| broken("a gap belongs to nobody"))?;
                let records = u64::from_ne_bytes(bytes(from)?);
                let (first, last) = (read_stamp(from)?, read_stamp(from)?);
                let skipped = u64::from_ne_bytes(bytes(from)?);
                if records > MOST_ANNOUNCED || skipped > MOST_ANNOUNCED {
                    return Err(broken("a gap is impossibly wide"));
                }
                batch.announced.merge(Gap { records, first, last });
                batch.announced_skipped += skipped;
            }
            _ => return Err(broken("it is damaged")),
        }
    }
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn batch(texts: &[&str]) -> Batch {
        let mut batch = Batch::new();
        for (at, text) in texts.iter().enumerate() {
            batch.bytes.extend_from_slice(text.as_bytes());
            let serial = u32::try_from(at).unwrap();
            batch.end_message((at % 3 != 1).then_some(Stamp { ms: 7, serial }), at % 3 != 2);
        }
        batch
    }

    fn here() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let owner = (Uid::effective(), Gid::effective());
        let folder = Folder::open(&dir.path().join("relay"), owner).unwrap();
        (dir, folder)
    }

    fn leave(estate: &Estate, key: &str, texts: &[&str]) -> Arc<DestinationCounters> {
        let counters = DestinationCounters::new(key.to_owned());
        Bequest::new(estate, key.to_owned(), &counters).leave(batch(texts));
        counters
    }

    #[test]
    fn what_one_leaves_the_next_one_takes_once() {
        let (_dir, folder) = here();
        let lock = folder.lock().unwrap().unwrap();
        assert!(folder.take(&lock).unwrap().is_empty(), "nothing to inherit");
        let estate = Estate::default();
        leave(&estate, "tcp://a octet", &["one", "two", "a notice", "four"]);
        leave(&estate, "relp://b", &["five"]);
        leave(&estate, "tcp://a octet", &["six"]);
        estate.settle(Some((&folder, &lock))).unwrap();
        assert!(folder.lock().unwrap().is_none(), "one at a time");
        drop(lock);
        let lock = folder.lock().unwrap().unwrap();
        let taken = folder.take(&lock).unwrap();
        let keys: Vec<_> = taken.iter().map(|legacy| (legacy.key.as_str(), legacy.records())).collect();
        assert_eq!(keys, [("tcp://a octet", 4), ("relp://b", 1)]);
        let first = &taken[0].batches[0];
        assert_eq!((first.message(3), first.message(4)), (&b"four"[..], &b"six"[..]));
        assert_eq!(first.entries()[0].stamp(), Some(Stamp { ms: 7, serial: 0 }));
        assert_eq!((first.entries()[1].stamp(), first.entries()[2].is_record()), (None, false));
        assert!(folder.take(&lock).unwrap().is_empty(), "taken once");
    }

    /// Whoever drops an inherited batch has to announce anew what its notices say.
    #[test]
    fn what_notices_announce_is_known_to_the_next_one() {
        let stamp = |serial| Some(Stamp { ms: 7, serial });
        let mut estate = vec![];
        for (records, skipped) in [(3, 0), (0, 0), (2, 9)] {
            let mut batch = batch(&["a", "b", "notice"]);
            batch.announced = Gap { records, first: stamp(1).filter(|_| records == 3), last: stamp(5) };
            batch.announced_skipped = skipped;
            estate.push(batch);
        }
        let counters = DestinationCounters::new("k".to_owned());
        let mut left = vec![Left { key: "k".to_owned(), counters, batches: estate, written: 0 }];
        let mut out = Vec::new();
        write(&mut out, &mut left, u64::MAX).unwrap();
        let back = &read(&mut &out[..]).unwrap()[0].batches[0];
        assert_eq!(back.announced, Gap { records: 5, first: stamp(1), last: stamp(5) });
        assert_eq!((back.announced_skipped, back.records()), (9, 6));
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        let estate = Estate::default();
        let counters = leave(&estate, "tcp://a", &["one"]);
        assert!(estate.settle(None).unwrap_err().contains("lock"));
        assert_eq!(counters.lost_in_all(), 1);
        leave(&estate, "tcp://a", &["one"]);
        let mut left = estate.left();
        left[0].batches.push(batch(&["two"]));
        let mut out = Vec::new();
        write(&mut out, &mut left, 61).unwrap();
        assert_eq!((left[0].written, read(&mut &out[..]).unwrap()[0].records()), (1, 1));
    }

    /// What the next instance would not read must not be left for it, or it throws away everything.
    #[test]
    fn what_the_next_would_refuse_is_lost_and_counted_by_this_one() {
        let (_dir, folder) = here();
        let lock = folder.lock().unwrap().unwrap();
        let estate = Estate::default();
        let longest = "x".repeat(LONGEST_MESSAGE as usize);
        let fits = leave(&estate, "fits", &[&longest]);
        let too_long = leave(&estate, "too long", &[&format!("{longest}x")]);
        let key_too_long = leave(&estate, &"k".repeat(LONGEST_KEY + 1), &["one"]);
        let many: Vec<_> = (0..MOST_KEYS).map(|at| leave(&estate, &format!("{at}"), &["one"])).collect();
        let said = estate.settle(Some((&folder, &lock))).unwrap_err();
        assert!(said.contains("4 records"), "{said}");
        let taken = folder.take(&lock).unwrap();
        assert_eq!(taken.iter().map(Legacy::records).sum::<u64>(), 1 + MOST_KEYS as u64 - 2);
        let lost = |counters: &DestinationCounters| counters.lost_in_all();
        assert_eq!((lost(&fits), lost(&too_long), lost(&key_too_long)), (0, 1, 1));
        assert_eq!(many.iter().map(|counters| lost(counters)).sum::<u64>(), 2);
    }

    #[test]
    fn folders_and_files_of_others_are_refused() {
        let (dir, folder) = here();
        let lock = folder.lock().unwrap().unwrap();
        let file = dir.path().join("relay/records");
        std::fs::write(&file, MAGIC).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(folder.take(&lock).unwrap_err().why.contains("not a file of this user alone"));
        assert!(!file.exists(), "it does not come up again");
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(folder.take(&lock).is_err());
        let open_to_all = dir.path().join("open");
        std::fs::create_dir(&open_to_all).unwrap();
        std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o755)).unwrap();
        let owner = (Uid::effective(), Gid::effective());
        assert!(Folder::open(&open_to_all, owner).unwrap_err().contains("chmod 0700"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("relay"), &link).unwrap();
        assert!(Folder::open(&link, owner).unwrap_err().contains("cannot open the folder"));
    }

    /// It would be heard of at the end only, when what is left is lost.
    #[test]
    fn what_is_in_the_way_of_the_relays_files_is_told_at_the_start() {
        let owner = (Uid::effective(), Gid::effective());
        for file in [LOCK, RECORDS, UNFINISHED] {
            let (dir, folder) = here();
            let path = dir.path().join("relay");
            assert_eq!(Folder::fault(&path, owner.0), None);
            std::fs::create_dir(path.join(file)).unwrap();
            let told = Folder::for_records(&path, owner, Duration::ZERO).unwrap_err();
            assert!(told.contains(&format!("rm -r {}/{file};", folder.name)), "{told}");
            assert_eq!(Folder::fault(&path, owner.0), Some(told));
            Folder::open(&path, owner).unwrap();
        }
    }

    /// Each fault by itself, of a file that would do otherwise.
    #[test]
    fn what_is_not_of_this_user_alone_is_not_taken() {
        let (dir, folder) = here();
        let lock = folder.lock().unwrap().unwrap();
        let (file, aside) = (dir.path().join("relay/records"), dir.path().join("relay/aside"));
        let make = || {
            let estate = Estate::default();
            leave(&estate, "k", &["one"]);
            estate.settle(Some((&folder, &lock))).unwrap();
        };
        let refused = |what: &str| {
            let why = folder.take(&lock).unwrap_err().why;
            assert!(why.contains(what), "{why}");
            make();
        };
        make();
        assert_eq!(folder.take(&lock).unwrap()[0].records(), 1);
        make();
        std::fs::rename(&file, &aside).unwrap();
        std::os::unix::fs::symlink("aside", &file).unwrap();
        assert!(folder.take(&lock).is_err(), "a link");
        let _ = std::fs::remove_file(&file);
        make();
        std::fs::remove_file(&aside).unwrap();
        std::fs::hard_link(&file, &aside).unwrap();
        refused("not a file of this user alone");
        std::fs::remove_file(&aside).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        refused("not a file of this user alone");
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
            refused("not a file of this user alone");
        }
        File::options().write(true).open(&file).unwrap().set_len(LARGEST * 2 + 1).unwrap();
        refused("it is larger than any");
    }

    #[test]
    fn what_is_read_is_bounded() {
        let section = |length: u32| [b"S", &length.to_ne_bytes()[..]].concat();
        let message = |length: u32| [b"R", &[0; 12][..], &length.to_ne_bytes()].concat();
        for (bytes, expected) in [
            (section(u32::try_from(LONGEST_KEY + 1).unwrap()), "a key is too long"),
            (section(0).repeat(MOST_KEYS + 1), "too many destinations"),
            ([section(0), message(LONGEST_MESSAGE + 1)].concat(), "impossible length"),
            ([section(0), message(0)].concat(), "impossible length"),
            (message(1), "belongs to nobody"),
            ([&section(0)[..], b"A"].concat(), "belongs to nobody"),
            (
                [&section(0)[..], &message(1), b"x", b"A", &(MOST_ANNOUNCED + 1).to_ne_bytes(), &[0; 32]]
                    .concat(),
                "impossibly wide",
            ),
            (b"X".to_vec(), "it is damaged"),
        ] {
            let error = read(&mut &[MAGIC, &bytes[..]].concat()[..]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(
            read(&mut &b"audit-relay handover 2\nE"[..]).unwrap_err().to_string().contains("another version")
        );
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_were(texts in proptest::collection::vec("[ -~]{1,200}", 1..50)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let estate = Estate::default();
            leave(&estate, "k", &texts);
            let mut out = Vec::new();
            write(&mut out, &mut estate.left(), u64::MAX).unwrap();
            let back = read(&mut &out[..]).unwrap();
            let all: Vec<_> = back[0].batches.iter().flat_map(|batch| {
                (0..batch.entries().len()).map(|at| batch.message(at).to_vec())
            }).collect();
            prop_assert_eq!(all, texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
            // Cut anywhere, it is an error and not half of the records.
            let cut = out.len() / 2;
            prop_assert!(read(&mut &out[..cut]).is_err());
        }

        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&mut &[MAGIC, &bytes[..]].concat()[..]);
        }
    }
}
