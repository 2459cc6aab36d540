//! One install or uninstall at a time, on one machine or below one folder.
//!
//! Promise: while [`Lock`] is held nobody else plans by, or writes, what the record of changes says; who comes second is told
//! who was first, and waits for nobody. Law: the lock is a file of root's that nobody else can open and hold up; it goes with
//! its holder, and where that was killed, the file that it leaves holds up nobody.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};

use super::apply::{RECORD, new_folder, with_remedy};
use crate::guarded::{self, Fault, Place};
use crate::site::Root;

/// Its name, beside the record.
const NAME: &str = "install.lock";

/// How often to begin anew where its holder takes file and folder away between two steps.
const MOST_TRIES: usize = 100;

/// The right to change what install changes.
#[derive(Debug)]
pub struct Lock {
    place: Place,
    root: Root,
    _file: Flock<File>,
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// A sentence: somebody else has it, or it cannot be made.
    pub fn take(root: &Root) -> Result<Self, String> {
        if !root.folder().is_dir() {
            return Err(format!("{} is no folder", root.folder().display()));
        }
        for _ in 0..MOST_TRIES {
            if let Some(lock) = Self::attempt(root)? {
                return Ok(lock);
            }
        }
        Err("another audit-relay install or uninstall runs; let it end, and run this again".to_owned())
    }

    /// `None`: its holder has ended at this moment.
    fn attempt(root: &Root) -> Result<Option<Self>, String> {
        let folder = root.find(Path::new(RECORD).parent().unwrap_or(Path::new("/")));
        let failed = |error: io::Error| {
            format!("{} cannot be made: {}", folder.join(NAME).display(), with_remedy(&error))
        };
        if !folder.exists() {
            new_folder(&folder)?;
        }
        let place = match guarded::place(&folder.join(NAME), Uid::effective()) {
            Ok(place) => place,
            Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(Fault::Io(error)) => return Err(failed(error)),
            // That names the file already.
            Err(Fault::Refused(sentence)) => return Err(sentence),
        };
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&place.folder, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => return Err(taken(&mut file)),
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        // What was opened may have been taken away before it was locked.
        let there = fstatat(&place.folder, NAME, AtFlags::AT_SYMLINK_NOFOLLOW);
        let held = fstat(&*file).map_err(|errno| failed(errno.into()))?;
        if !there.is_ok_and(|there| (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)) {
            return Ok(None);
        }
        // For people only.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Some(Self { place, root: root.clone(), _file: file }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: who has opened it meanwhile sees that it is no longer there, and begins anew.
        let _ = unlinkat(&self.place.folder, NAME, UnlinkatFlags::NoRemoveDir);
        // Ours alone if nothing else is in it.
        if let Some(folder) = Path::new(RECORD).parent() {
            let _ = fs::remove_dir(self.root.find(folder));
        }
    }
}

/// Who has it, as far as he has said so.
fn taken(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    let who = text.trim().parse::<u32>().map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
    format!("another audit-relay install or uninstall runs{who}; let it end, and run this again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let lock = Lock::take(&root).unwrap();
        let refused = Lock::take(&root).unwrap_err();
        assert!(refused.contains(&format!("runs (pid {})", std::process::id())), "{refused}");
        drop(lock);
        assert!(!root.find("/var/lib/audit-relay").exists(), "nothing is left");
        // Of one that was killed.
        let file = root.find("/var/lib/audit-relay").join(NAME);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "1\n").unwrap();
        drop(Lock::take(&root).unwrap());
        assert!(!file.exists());
    }

    #[test]
    fn its_folder_is_made_only_where_nobody_else_can_lead_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let lib = root.find("/var/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::set_permissions(&lib, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Lock::take(&root).unwrap_err();
        assert!(refused.contains("chmod go-w"), "{refused}");
        assert_eq!(fs::read_dir(&lib).unwrap().count(), 0);
        // One that is there is judged, too, and named once.
        let file = root.find("/var/lib/audit-relay").join(NAME);
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::set_permissions(&lib, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Lock::take(&root).unwrap_err();
        assert!(refused.contains("chmod go-w"), "{refused}");
        assert_eq!(refused.matches(file.to_str().unwrap()).count(), 1, "{refused}");
    }

    /// Many at once: never two, however the file comes and goes between.
    #[test]
    fn never_two() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let (holders, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let Ok(_lock) = Lock::take(&root) else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                        taken.fetch_add(1, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(taken.load(Ordering::SeqCst) >= 4);
    }
}
