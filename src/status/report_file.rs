//! The file that the accounting goes to (`report`).
//!
//! Law: root is not led to a file that is not meant: it is one that root or the relay's account has made, has no other
//! name, lies where nobody else can put one, and holds nothing but a report.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::Uid;

use crate::guarded::{self, Fault, Place};

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
    if facts.is_file() && facts.len() > 0 && holds_no_report(&place) {
        let why = "holds something else than a report, and would be overwritten; name another file";
        return Err((None, format!("report: {name} {why}")));
    }
    Ok(file)
}

/// True of the configuration, a key, a log, and whatever else somebody may name by mistake. A report may have been cut short.
fn holds_no_report(place: &Place) -> bool {
    const START: &str = "{\"version\":";
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // What may be written and not read is taken for what it should be.
    let Ok(file) = openat(&place.folder, place.name.as_os_str(), flags, Mode::empty()) else { return false };
    let mut start = Vec::new();
    if File::from(file).take(64).read_to_end(&mut start).is_err() {
        return false;
    }
    // A power cut may leave NULs.
    start.retain(|byte| !byte.is_ascii_whitespace() && *byte != 0);
    let known = start.len().min(START.len());
    start[..known] != START.as_bytes()[..known]
}
