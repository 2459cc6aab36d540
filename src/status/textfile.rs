//! Metrics in a file, for node_exporter's textfile collector and its like.
//!
//! Promise: the file is either the last page or the one before, whole. Law: it is written aside and renamed, in a folder
//! that was opened before confinement; on a thread of its own, since a disk may hang, and never twice at once. What stands in
//! the way aside is gone round: whoever may write in the folder cannot end the writing by a name that he guesses.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};

use super::metrics;
use crate::errand::{self, Answer};
use crate::guarded::{self, Fault};
use crate::telemetry::Report;

/// Everybody may read it, as any metrics, unless the umask says otherwise (auditd's is 022).
const MODE: Mode = Mode::from_bits_truncate(0o644);

/// The file's folder and name.
#[derive(Debug)]
pub struct TextFile {
    place: Arc<Place>,
    writing: Option<Answer<io::Result<()>>>,
    /// The last attempt has failed, and that was said.
    failed: bool,
}

#[derive(Debug)]
struct Place {
    folder: OwnedFd,
    name: OsString,
    aside: OsString,
    /// To people.
    path: String,
}

impl AsFd for TextFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.place.folder.as_fd()
    }
}

impl TextFile {
    /// Opens the folder of `path`. The relay's account, `owner`, must be allowed to write there; whoever else may,
    /// may forge the metrics, but not lead the relay elsewhere.
    ///
    /// # Errors
    /// A sentence: the folder cannot be opened, or somebody can put another in its place.
    pub(super) fn open(path: &Path, owner: Uid) -> Result<Self, String> {
        let shown = path.display();
        let failed = |error: io::Error| format!("metrics-file: cannot open the folder of {shown}: {error}");
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("metrics-file: {shown} is no file"));
        };
        let above = guarded::place(parent, owner).map_err(|fault| match fault {
            Fault::Io(error) => failed(error),
            Fault::Refused(sentence) => format!("metrics-file: {sentence}"),
        })?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = openat(&above.folder, above.name.as_os_str(), flags, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        // The collector reads what ends in .prom, and nothing that begins with a dot.
        let mut aside = OsString::from(".");
        aside.push(name);
        aside.push(".new");
        let place = Place { folder, name: name.to_owned(), aside, path: shown.to_string() };
        Ok(Self { place: Arc::new(place), writing: None, failed: false })
    }

    /// Begins to write `report`, unless the one before is not done yet.
    pub fn put(&mut self, report: &Report) {
        if let Some(writing) = &mut self.writing {
            match writing.try_recv() {
                Ok(written) => self.judge(&written),
                // It hangs; the file's age tells.
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => return,
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => {}
            }
            self.writing = None;
        }
        let (place, text) = (Arc::clone(&self.place), metrics::text(report));
        self.writing = errand::begin("metrics", move || place.write(&text)).ok();
    }

    /// Says what has changed.
    fn judge(&mut self, written: &io::Result<()>) {
        let path = &self.place.path;
        match written {
            Err(error) if !self.failed => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        " (the relay has given up root; let its account write in the folder)"
                    }
                    _ => "",
                };
                warn!("metrics-file: {path} cannot be written: {error}{hint}; trying again");
            }
            Ok(()) if self.failed => info!("metrics-file: {path} is written again"),
            _ => {}
        }
        self.failed = written.is_err();
    }
}

impl Place {
    fn write(&self, text: &str) -> io::Result<()> {
        let (mut file, aside) = self.open_aside()?;
        let written = file.write_all(text.as_bytes());
        let moved = written.and_then(|()| {
            Ok(renameat(&self.folder, aside.as_os_str(), &self.folder, self.name.as_os_str())?)
        });
        if moved.is_err() {
            let _ = self.remove(&aside);
        }
        moved
    }

    /// A new file under the usual name; where something stands there that cannot be removed, such as a folder, under one
    /// that nobody knows before.
    fn open_aside(&self) -> io::Result<(File, OsString)> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = |aside: OsString| {
            let file = openat(&self.folder, aside.as_os_str(), flags, MODE)?;
            Ok((File::from(file), aside))
        };
        match self.remove(&self.aside) {
            Ok(()) | Err(Errno::ENOENT) => open(self.aside.clone()),
            Err(Errno::EISDIR | Errno::EPERM) => {
                // The keys of a hasher are random.
                let number = RandomState::new().hash_one(std::process::id());
                let mut other = self.aside.clone();
                other.push(format!(".{number:016x}"));
                open(other)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn remove(&self, name: &OsString) -> nix::Result<()> {
        unlinkat(&self.folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir)
    }
}
