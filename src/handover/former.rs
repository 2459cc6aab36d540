//! A folder of the account that the relay had before (`user` was changed, or the account was made since): it is given to the
//! one that it has now, with the records that are undelivered.
//!
//! Promise: what is given away is the folder itself and `records`, and only if nobody but root can have put that folder there,
//! there is nothing in it that is not the relay's, and no relay has its lock. Law: root is led nowhere, and takes nobody in. The
//! former account may be in somebody's hands, and changes mode and names while we look; so the folder is root's alone before
//! that look counts, and each file is judged on the descriptor by which it is given.
//!
//! The kernel asks for rights whenever a name is made or removed, and takes turns with a change of owner or mode: in a folder that is
//! root's, 0700, neither a descriptor nor a working directory of before is of use. What such an account writes into a file that
//! it still has open is read as all that is left is: bounded and checked.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, unlinkat};

use super::{LOCK, RECORDS, UNFINISHED};

/// More entries than any relay leaves: what instances that were killed have left of their status sockets is among them.
const MOST_ENTRIES: usize = 100;

/// Why a folder stays whose it is.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// It is for somebody to look at: words to stand behind "belongs to user N".
    Unsure(String),
    /// A relay of that account still runs.
    Locked,
}

/// Whether the folder `dir`, whose owner is `whose`, is one that [`give`] would give away, its lock aside. Returns the former
/// account.
///
/// # Errors
/// Why not.
pub(super) fn look(parent: &OwnedFd, dir: &OwnedFd, whose: u32, owner: Uid) -> Result<u32, Refusal> {
    // A start that was cut short has left it to root. The lock is the last that goes.
    let of_lock = || fstatat(dir, LOCK, AtFlags::AT_SYMLINK_NOFOLLOW).map_or(whose, |facts| facts.st_uid);
    let former = if whose == 0 { of_lock() } else { whose };
    judge(parent, dir, former, owner).map(|()| former)
}

fn judge(parent: &OwnedFd, dir: &OwnedFd, former: u32, owner: Uid) -> Result<(), Refusal> {
    let unseen = |error: io::Error| Refusal::Unsure(format!(" and cannot be looked at ({error})"));
    let above = fstat(parent).map_err(|errno| unseen(errno.into()))?;
    if above.st_uid != 0 || above.st_mode & 0o022 != 0 {
        return Err(Refusal::Unsure(", and not only root could have put it there".to_owned()));
    }
    let mut has_lock = false;
    for (at, entry) in entries(dir).map_err(unseen)?.enumerate() {
        if at == MOST_ENTRIES {
            return Err(Refusal::Unsure(format!(", and more than {MOST_ENTRIES} files are in it")));
        }
        let name = entry.map_err(unseen)?.file_name();
        let facts = match fstatat(dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(facts) => facts,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(unseen(errno.into())),
        };
        let known = match name.to_str() {
            Some(LOCK) => is_a(SFlag::S_IFREG, &facts) && facts.st_size == 0,
            Some(RECORDS | UNFINISHED) => is_a(SFlag::S_IFREG, &facts),
            // The status socket, which the next instance replaces.
            _ => is_a(SFlag::S_IFSOCK, &facts),
        };
        if !known || ![former, owner.as_raw()].contains(&facts.st_uid) {
            let name = name.to_string_lossy();
            return Err(Refusal::Unsure(format!(", and {} in it is not the relay's", name.escape_debug())));
        }
        has_lock |= name == LOCK;
    }
    if !has_lock {
        return Err(Refusal::Unsure(", and no relay has used it".to_owned()));
    }
    Ok(())
}

fn entries(dir: &OwnedFd) -> io::Result<fs::ReadDir> {
    fs::read_dir(PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())))
}

/// Gives the folder, whose owner is `whose`, and what is left in it to `owner`. For root.
///
/// # Errors
/// Why not; then it is whose it was.
pub(super) fn give(parent: &OwnedFd, dir: &OwnedFd, whose: u32, owner: (Uid, Gid)) -> Result<(), Refusal> {
    // What is surely no relay's is not touched at all.
    let former = look(parent, dir, whose, owner.0)?;
    // Until the end of this function: of starts at once, one gives.
    let lock = hold(dir)?;
    let before = fstat(dir).map_err(|errno| failed("it", errno))?;
    if before.st_uid != whose {
        return Err(Refusal::Locked);
    }
    let given = freeze(dir)
        .map_err(|errno| failed("it", errno))
        .and_then(|()| judge(parent, dir, former, owner.0))
        .and_then(|()| give_frozen(dir, former, owner));
    match given {
        Ok(()) => {
            // Else it is for `remove_formers_lock`.
            let _ = remove_lock(dir, &lock);
            Ok(())
        }
        Err(why) => {
            let _ = fchmod(dir, Mode::from_bits_truncate(before.st_mode & 0o700));
            let _ = fchown(dir, Some(Uid::from_raw(whose)), Some(Gid::from_raw(before.st_gid)));
            Err(why)
        }
    }
}

fn failed(what: &str, errno: Errno) -> Refusal {
    Refusal::Unsure(format!(", and {what} cannot be given away ({errno})"))
}

/// Makes the folder root's alone. The owner first: who has it can change the mode back.
fn freeze(dir: &OwnedFd) -> Result<(), Errno> {
    fchown(dir, Some(Uid::from_raw(0)), None)?;
    fchmod(dir, Mode::S_IRWXU)
}

/// The folder last, and the lock after it: a start that finds either undone does it again.
fn give_frozen(dir: &OwnedFd, former: u32, owner: (Uid, Gid)) -> Result<(), Refusal> {
    give_records(dir, former, owner).map_err(|errno| failed(RECORDS, errno))?;
    for entry in entries(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name != RECORDS && name != LOCK {
            let _ = unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
    fchown(dir, Some(owner.0), Some(owner.1)).map_err(|errno| failed("it", errno))
}

/// The lock that a relay of the former account would have.
fn hold(dir: &OwnedFd) -> Result<Flock<fs::File>, Refusal> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(dir, LOCK, flags, Mode::empty()).map_err(|_| Refusal::Locked)?;
    let lock =
        Flock::lock(fs::File::from(file), FlockArg::LockExclusiveNonblock).map_err(|_| Refusal::Locked)?;
    if is_named(dir, &lock) { Ok(lock) } else { Err(Refusal::Locked) }
}

/// Another start may have given the folder away meanwhile, and made a new lock.
fn is_named(dir: &OwnedFd, lock: &Flock<fs::File>) -> bool {
    let key = |facts: FileStat| (facts.st_dev, facts.st_ino);
    let named = fstatat(dir, LOCK, AtFlags::AT_SYMLINK_NOFOLLOW).map(key);
    named.is_ok_and(|named| fstat(&**lock).map(key) == Ok(named))
}

fn remove_lock(dir: &OwnedFd, lock: &Flock<fs::File>) -> Result<(), Refusal> {
    if !is_named(dir, lock) {
        return Err(Refusal::Locked);
    }
    unlinkat(dir, LOCK, UnlinkatFlags::NoRemoveDir).map_err(|errno| failed(LOCK, errno))
}

/// What cannot be given safely stays, and is refused by who would take it.
fn give_records(dir: &OwnedFd, former: u32, (uid, gid): (Uid, Gid)) -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match openat(dir, RECORDS, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let facts = fstat(&file)?;
    if !is_a(SFlag::S_IFREG, &facts) || facts.st_uid != former || facts.st_nlink != 1 {
        return Ok(());
    }
    fchownat(&file, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
}

/// Removes a lock that is not `owner`'s from `owner`'s folder, in which it could neither open nor replace it: it is left
/// over from a folder that was given away, by [`give`] or by hand. It is removed by who holds it: another start may have done
/// so already, and a relay may have made its own.
///
/// # Errors
/// Whose it is, and why it stays.
pub(super) fn remove_formers_lock(dir: &OwnedFd, owner: Uid) -> Result<(), (u32, Refusal)> {
    match fstatat(dir, LOCK, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(facts) if facts.st_uid != owner.as_raw() && is_a(SFlag::S_IFREG, &facts) => {
            hold(dir).and_then(|lock| remove_lock(dir, &lock)).map_err(|why| (facts.st_uid, why))
        }
        _ => Ok(()),
    }
}

fn is_a(kind: SFlag, facts: &FileStat) -> bool {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == kind
}

#[cfg(test)]
mod tests {
    use super::super::Folder;
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sys::stat::mkdirat;

    const FORMER: u32 = 4242;
    const NOW: (Uid, Gid) = (Uid::from_raw(4243), Gid::from_raw(4243));

    /// What a relay of the former account has left, below a folder that only root writes.
    fn left() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run/relay");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        chown(&folder, Some(FORMER), None).unwrap();
        put(&folder.join(LOCK), "", FORMER);
        put(&folder.join(RECORDS), "records", FORMER);
        (dir, folder)
    }

    fn put(file: &Path, text: &str, owner: u32) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        chown(file, Some(owner), None).unwrap();
    }

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn a_folder_that_a_relay_has_left_is_given_away_with_its_records() {
        if !Uid::effective().is_root() {
            return;
        }
        let (_dir, folder) = left();
        std::os::unix::net::UnixListener::bind(folder.join("status.sock")).unwrap();
        chown(folder.join("status.sock"), Some(FORMER), None).unwrap();
        assert_eq!(Folder::fault(&folder, NOW.0), None, "looking changes nothing");
        assert_eq!(owner(&folder), FORMER);
        Folder::open(&folder, NOW).unwrap();
        assert_eq!((owner(&folder), owner(&folder.join(RECORDS))), (4243, 4243));
        assert!(!folder.join(LOCK).exists(), "the next lock is the new account's");
    }

    /// Each by itself; nothing changes its owner.
    #[test]
    fn what_is_not_surely_a_relays_stays_whose_it_is() {
        if !Uid::effective().is_root() {
            return;
        }
        type Spoil = fn(&Path);
        let table: [(&str, Spoil); 8] = [
            ("not only root could have put it there", |folder| {
                chown(folder.parent().unwrap(), Some(NOW.0.as_raw()), None).unwrap();
            }),
            ("not only root could have put it there", |folder| {
                fs::set_permissions(folder.parent().unwrap(), Permissions::from_mode(0o1777)).unwrap();
            }),
            ("mail in it is not the relay's", |folder| put(&folder.join("mail"), "", FORMER)),
            ("records in it is not the relay's", |folder| put(&folder.join(RECORDS), "", 33)),
            ("lock in it is not the relay's", |folder| put(&folder.join(LOCK), "1234\n", FORMER)),
            ("records in it is not the relay's", |folder| {
                fs::remove_file(folder.join(RECORDS)).unwrap();
                symlink("/etc/passwd", folder.join(RECORDS)).unwrap();
            }),
            ("no relay has used it", |folder| fs::remove_file(folder.join(LOCK)).unwrap()),
            ("more than 100 files", |folder| {
                for at in 0..MOST_ENTRIES {
                    let path = folder.join(format!("{at}"));
                    std::os::unix::net::UnixListener::bind(&path).unwrap();
                    chown(&path, Some(FORMER), None).unwrap();
                }
            }),
        ];
        for (why, spoil) in table {
            let (_dir, folder) = left();
            spoil(&folder);
            let facts = fs::metadata(&folder).unwrap();
            let since = (facts.ctime(), facts.ctime_nsec());
            // Longer than the kernel's clock for files takes to go on.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let refused = Folder::open(&folder, NOW).expect_err(why);
            assert!(refused.contains(why) && refused.contains("belongs to user 4242"), "{refused}");
            assert_eq!(Folder::fault(&folder, NOW.0), Some(refused), "{why}");
            assert_eq!(owner(&folder), FORMER, "{why}");
            let touched = fs::metadata(&folder).unwrap();
            assert_eq!((touched.ctime(), touched.ctime_nsec()), since, "{why}");
        }
        assert_eq!(owner(Path::new("/etc/passwd")), 0);
        let (_dir, folder) = left();
        let lock = Flock::lock(fs::File::open(folder.join(LOCK)).unwrap(), FlockArg::LockExclusive).unwrap();
        let refused = Folder::open(&folder, NOW).unwrap_err();
        assert!(refused.contains("a relay that runs as that user has its lock"), "{refused}");
        assert_eq!((owner(&folder), owner(&folder.join(RECORDS))), (FORMER, FORMER));
        drop(lock);
        Folder::open(&folder, NOW).unwrap();
    }

    /// The former account opens the folder to all and puts one of its own into it, as fast as it can.
    #[test]
    fn the_former_account_has_no_say_once_the_folder_is_given() {
        if !Uid::effective().is_root() {
            return;
        }
        for _ in 0..40 {
            let (_dir, folder) = left();
            for at in 0..MOST_ENTRIES - 10 {
                let path = folder.join(format!("{at}"));
                std::os::unix::net::UnixListener::bind(&path).unwrap();
                chown(&path, Some(FORMER), None).unwrap();
            }
            let (stop, path) = (Arc::new(AtomicBool::new(false)), folder.clone());
            let stopped = Arc::clone(&stop);
            let former = std::thread::spawn(move || {
                let inside: OwnedFd = fs::File::open(&path).unwrap().into();
                // Of this thread alone, and with it root's capabilities over files.
                nix::unistd::setfsuid(Uid::from_raw(FORMER));
                while !stopped.load(Ordering::Relaxed) {
                    let _ = fchmod(&inside, Mode::from_bits_retain(0o777));
                    let _ = mkdirat(&inside, UNFINISHED, Mode::S_IRWXU);
                    let _ = unlinkat(&inside, UNFINISHED, UnlinkatFlags::RemoveDir);
                    let _ = fchmod(&inside, Mode::S_IRWXU);
                    // As long as a look takes, about: else it would seldom begin, and never end, in between.
                    std::thread::sleep(std::time::Duration::from_micros(100));
                }
            });
            while Folder::open(&folder, NOW).is_err() {}
            stop.store(true, Ordering::Relaxed);
            former.join().unwrap();
            let facts = fs::metadata(&folder).unwrap();
            assert_eq!((facts.uid(), facts.mode() & 0o7777), (4243, 0o700));
            assert!(!folder.join(UNFINISHED).exists(), "what the former account has put there");
            assert!(!folder.join("0").exists(), "only records are left");
        }
    }

    /// A start was cut short when the folder was root's already.
    #[test]
    fn a_giving_that_was_cut_short_is_done_again() {
        if !Uid::effective().is_root() {
            return;
        }
        for records in [FORMER, NOW.0.as_raw()] {
            let (_dir, folder) = left();
            chown(&folder, Some(0), None).unwrap();
            chown(folder.join(RECORDS), Some(records), None).unwrap();
            assert_eq!(Folder::fault(&folder, NOW.0), None);
            Folder::open(&folder, NOW).unwrap();
            assert_eq!((owner(&folder), owner(&folder.join(RECORDS))), (4243, 4243));
            assert!(!folder.join(LOCK).exists());
        }
    }

    /// Of two starts at once, the slower one finds the lock of a relay that runs.
    #[test]
    fn only_a_lock_that_nobody_has_is_removed() {
        if !Uid::effective().is_root() {
            return;
        }
        let (_dir, folder) = left();
        let (lock, opened) = (folder.join(LOCK), fs::File::open(&folder).unwrap().into());
        let held = Flock::lock(fs::File::open(&lock).unwrap(), FlockArg::LockExclusive).unwrap();
        assert_eq!(remove_formers_lock(&opened, NOW.0), Err((FORMER, Refusal::Locked)));
        drop(held);
        let slower = hold(&opened).unwrap();
        fs::remove_file(&lock).unwrap();
        put(&lock, "", NOW.0.as_raw());
        assert_eq!(remove_lock(&opened, &slower), Err(Refusal::Locked));
        assert!(lock.exists());
        drop(slower);
        remove_formers_lock(&opened, NOW.0).unwrap();
        assert!(lock.exists(), "its own");
        put(&lock, "", FORMER);
        remove_formers_lock(&opened, NOW.0).unwrap();
        assert!(!lock.exists());
    }

    /// What somebody has put in its place between the look and the giving: root gives away no file with another name, which may
    /// be one that it is led to, and nothing that a link leads to.
    #[test]
    fn root_is_led_to_no_other_file() {
        if !Uid::effective().is_root() {
            return;
        }
        let (dir, folder) = left();
        let opened = fs::File::open(&folder).unwrap().into();
        let victim = dir.path().join("victim");
        put(&victim, "precious", FORMER);
        fs::remove_file(folder.join(RECORDS)).unwrap();
        fs::hard_link(&victim, folder.join(RECORDS)).unwrap();
        let _ = give_records(&opened, FORMER, NOW);
        assert_eq!(owner(&victim), FORMER, "a second name");
        fs::remove_file(folder.join(RECORDS)).unwrap();
        symlink(&victim, folder.join(RECORDS)).unwrap();
        let _ = give_records(&opened, FORMER, NOW);
        assert_eq!(owner(&victim), FORMER, "a link");
        fs::remove_file(folder.join(RECORDS)).unwrap();
        put(&folder.join(RECORDS), "root's", 0);
        let _ = give_records(&opened, FORMER, NOW);
        assert_eq!(owner(&folder.join(RECORDS)), 0, "a third's");
    }
}
