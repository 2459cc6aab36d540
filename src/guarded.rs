//! Opens files that nobody but those who are trusted can have written or put in their place.
//!
//! Promise: what [`read`] returns comes from a regular file whose owner, mode and access control list were looked at
//! on the descriptor that was read, below folders and through links each of which only root and the trusted may
//! change. [`place`] leads to a folder of that kind, for files that are to be made there, and [`make_folder`] makes
//! one. Law: every step of a path is opened from the one before and judged on its descriptor, so that nothing can be
//! exchanged between the look and the use; whoever reads a [`Content::Secret`] gets memory that is wiped when it is
//! dropped.
//!
//! Why folders too: who may write into one can rename what is in it and put another file there (sudo and ssh judge
//! the same way). In a sticky folder, such as /tmp, only a file's own owner can, and the owner is looked at anyway.
//! A POSIX access control list that lets others *write* shows in the group's bits of the mode, which then hold its
//! mask. One that lets others *read* hides behind the group's own right, so a secret's is looked at itself.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid};
use zeroize::Zeroizing;

use crate::sys;

/// Links that are followed in one path, as the kernel has it (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Folders that are made in one path at most.
const MOST_LEVELS: usize = 64;

/// Write permission of group and others.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// What a file holds, and so what others must not be able to do with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// Others must not write it: who does decides where records go, or whom we trust.
    Word,
    /// Others must neither write nor read it: a private key. The group may read it if it is our own.
    Secret,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum Fault {
    /// The system's refusal.
    Io(io::Error),
    /// It could be read, but somebody else may have written or may read it. A sentence that begins with the name and
    /// ends with the remedy.
    Refused(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Refused(sentence) => f.write_str(sentence),
        }
    }
}

/// A folder that only the trusted can change, or a sticky one, and a name in it.
#[derive(Debug)]
pub struct Place {
    /// The folder, for `openat` and the like; it cannot be read through this descriptor.
    pub folder: OwnedFd,
    /// The name, not yet looked at.
    pub name: OsString,
}

/// Reads a file whose owner is root or `trusted`, of at most `largest` bytes.
///
/// # Errors
/// [`Fault`].
pub fn read(path: &Path, content: Content, trusted: Uid, largest: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let Place { folder, name } = walk(path, trusted, Last::Followed)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&folder, name.as_os_str(), flags, Mode::empty())?);
    let facts = file.metadata()?;
    judge_file(path, &file, &facts, content, trusted)?;
    if facts.len() > largest {
        return refused(format!("{} is larger than {} MiB", path.display(), largest >> 20));
    }
    // Room for one byte more than there should be, and never moved: what grows leaves copies of itself behind.
    let length = usize::try_from(facts.len()).map_err(io::Error::other)?;
    let mut bytes = Zeroizing::new(vec![0; length + 1]);
    let mut filled = 0;
    while filled <= length {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    if filled > length {
        return refused(format!(
            "{} has grown while it was read; write it aside and rename it",
            path.display()
        ));
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Finds the folder of a file that is to be made or written, and that must not be a link itself. Folders on the way
/// may belong to root and `trusted`.
///
/// # Errors
/// [`Fault`].
pub fn place(path: &Path, trusted: Uid) -> Result<Place, Fault> {
    walk(path, trusted, Last::Kept)
}

/// Makes a folder, and those on the way that are not there, each below one that was judged. What is made everybody may look
/// into, whatever the umask.
///
/// # Errors
/// [`Fault`], also where something else than a folder is there. It may have been removed again when this returns.
pub fn make_folder(path: &Path, trusted: Uid) -> Result<(), Fault> {
    let mut missing = vec![path];
    while let Some(path) = missing.pop() {
        let place = match place(path, trusted) {
            Err(Fault::Io(error))
                if error.kind() == io::ErrorKind::NotFound && missing.len() < MOST_LEVELS =>
            {
                let above = path.parent().ok_or(Errno::ENOENT)?;
                missing.extend([path, above]);
                continue;
            }
            found => found?,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = || openat(&place.folder, place.name.as_os_str(), flags, Mode::empty());
        let made = match mkdirat(&place.folder, place.name.as_os_str(), Mode::S_IRWXU) {
            Ok(()) => true,
            // Somebody else was faster, or it is no folder.
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        match open() {
            Ok(folder) if made => File::from(folder).set_permissions(Permissions::from_mode(0o755))?,
            // And who has made it may have removed it again.
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What to do with the last part of a path if it is a link.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Last {
    Followed,
    Kept,
}

fn walk(path: &Path, trusted: Uid, last: Last) -> Result<Place, Fault> {
    let whole = std::path::absolute(path)?;
    let mut ahead = steps(&whole);
    let root = || -> Result<OwnedFd, Fault> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(openat(AT_FDCWD, "/", flags, Mode::empty())?)
    };
    let (mut folder, mut behind, mut links) = (root()?, PathBuf::from("/"), 0);
    loop {
        judge_folder(path, &behind, &facts(&folder)?, trusted)?;
        let Some(name) = ahead.pop_front() else {
            return refused(format!("{} is not a regular file", path.display()));
        };
        if ahead.is_empty() && last == Last::Kept {
            return Ok(Place { folder, name });
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let step = openat(&folder, name.as_os_str(), flags, Mode::empty())?;
        let what = facts(&step)?;
        if what.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            let link = behind.join(&name);
            // Not an account that root will become: it must not lead root.
            if what.uid() != 0 && (what.uid() != trusted.as_raw() || trusted != Uid::effective()) {
                return refused(format!(
                    "{}: the link {} belongs to user {}, who decides where it leads; run: chown -h root {1}",
                    path.display(),
                    link.display(),
                    what.uid()
                ));
            }
            let target = PathBuf::from(readlinkat(&step, "")?);
            if target.is_absolute() {
                (folder, behind) = (root()?, PathBuf::from("/"));
            }
            for step in steps(&target).into_iter().rev() {
                ahead.push_front(step);
            }
        } else if what.is_dir() {
            match name == ".." {
                true => drop(behind.pop()),
                false => behind.push(&name),
            }
            folder = step;
        } else if ahead.is_empty() {
            return Ok(Place { folder, name });
        } else {
            return Err(Errno::ENOTDIR.into());
        }
    }
}

/// The parts of a path that lead somewhere.
fn steps(path: &Path) -> VecDeque<OsString> {
    let leads = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    };
    path.components().filter_map(leads).collect()
}

fn facts(of: &OwnedFd) -> io::Result<Metadata> {
    File::from(of.as_fd().try_clone_to_owned()?).metadata()
}

fn is_trusted(facts: &Metadata, trusted: Uid) -> bool {
    facts.uid() == 0 || facts.uid() == trusted.as_raw()
}

fn judge_folder(path: &Path, folder: &Path, facts: &Metadata, trusted: Uid) -> Result<(), Fault> {
    let (path, folder) = (path.display(), folder.display());
    if !is_trusted(facts, trusted) {
        return refused(format!(
            "{path}: the folder {folder} belongs to user {}, who can put other files there; run: chown root {folder}",
            facts.uid()
        ));
    }
    if facts.mode() & WRITABLE != 0 && facts.mode() & STICKY == 0 {
        return refused(format!(
            "{path}: others may write into the folder {folder}, and so put other files there; run: chmod go-w {folder}"
        ));
    }
    Ok(())
}

fn judge_file(
    path: &Path,
    file: &File,
    facts: &Metadata,
    content: Content,
    trusted: Uid,
) -> Result<(), Fault> {
    let (name, mode) = (path.display(), facts.mode());
    if !facts.is_file() {
        return refused(format!("{name} is not a regular file"));
    }
    if !is_trusted(facts, trusted) {
        return refused(format!("{name} belongs to user {}; run: chown root {name}", facts.uid()));
    }
    if mode & WRITABLE != 0 {
        return refused(format!("{name} may be written by others; run: chmod go-w {name}"));
    }
    if content == Content::Secret {
        if mode & 0o007 != 0 {
            return refused(format!(
                "{name} holds a private key and may be read by everybody; run: chmod o= {name}"
            ));
        }
        let ours = Gid::effective();
        if mode & 0o070 != 0 && facts.gid() != ours.as_raw() {
            return refused(format!(
                "{name} holds a private key and may be read by group {}, which is not the relay's; run: chgrp {ours} {name}",
                facts.gid()
            ));
        }
        if mode & 0o070 != 0 && sys::has_access_list(file.as_fd())? {
            return refused(format!(
                "{name} holds a private key and has an access control list, which may let others read it; \
                 run: setfacl -b {name}"
            ));
        }
    }
    Ok(())
}

fn refused<T>(sentence: String) -> Result<T, Fault> {
    Err(Fault::Refused(sentence))
}
