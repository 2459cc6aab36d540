//! The file that the accounting goes to (`report`).
//!
//! Law: root is not led to a file that is not meant: it is one that root or the relay's account has made, has no other
//! name, and lies where nobody else can put one.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::Uid;

use crate::guarded::{self, Fault};

/// Opens the report before root is given up; the file stays open, so that a later rename or link in its folder cannot
/// lead the writing elsewhere.
///
/// # Errors
/// A sentence: it cannot be made, or is not what `owner`, the relay's account, or root has made.
pub fn open_report(path: &Path, owner: Uid) -> Result<File, String> {
    open(path, owner, OFlag::O_CREAT).map_err(|(_, sentence)| sentence)
}

/// Why the report will not be opened, as far as can be told without making it.
pub(super) fn fault(path: &Path, owner: Uid) -> Option<String> {
    // A folder that is missing has no number here: only the file itself is made.
    open(path, owner, OFlag::empty())
        .err()
        .filter(|(errno, _)| *errno != Some(Errno::ENOENT))
        .map(|(_, why)| why)
}

fn open(path: &Path, owner: Uid, create: OFlag) -> Result<File, (Option<Errno>, String)> {
    let name = path.display();
    let refused = |why: &str| (None, format!("report: {name} {why}; remove it, or name another file"));
    let failed = |error: io::Error| {
        let why = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EISDIR) => "it is a folder; remove it, or name another file".to_owned(),
            Some(Errno::ELOOP) => {
                "it is a symbolic link, which is never followed; name the file itself".to_owned()
            }
            Some(Errno::ENXIO) => "nobody reads at its other end; remove it, or name another file".to_owned(),
            Some(Errno::ENOENT) => "its folder is not there; make it, or name another file".to_owned(),
            _ => error.to_string(),
        };
        (error.raw_os_error().map(Errno::from_raw), format!("report: cannot open {name}: {why}"))
    };
    let place = guarded::place(path, owner).map_err(|fault| match fault {
        Fault::Io(error) => (None, failed(error).1),
        Fault::Refused(sentence) => (None, format!("report: {sentence}")),
    })?;
    let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP;
    let opened = openat(&place.folder, place.name.as_os_str(), flags | create, mode);
    let file = opened.map(File::from).map_err(|errno| failed(errno.into()))?;
    let facts = file.metadata().map_err(failed)?;
    if facts.uid() != 0 && facts.uid() != owner.as_raw() {
        return Err(refused(&format!("belongs to user {}", facts.uid())));
    }
    if facts.is_file() && facts.nlink() > 1 {
        return Err(refused("has a second name (a hard link)"));
    }
    Ok(file)
}
