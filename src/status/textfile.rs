//! Metrics in a file, for node_exporter's textfile collector and its like.
//!
//! Promise: the file is either the last page or the one before, whole. Law: it is written aside and renamed, in a folder
//! that was opened before confinement; on a thread of its own, since a disk may hang, and never twice at once. What stands in
//! the way aside is gone round: whoever may write in the folder cannot end the writing by a name that he guesses. An
//! instance on its way out leaves a file alone that the next one has put there.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};

use super::metrics;
use crate::errand::{self, Answer};
use crate::guarded::{self, Fault};
use crate::telemetry::Report;

/// Everybody may read it, as any metrics, unless the umask says otherwise (auditd's is 022).
const MODE: Mode = Mode::from_bits_truncate(0o644);

/// How long the last page is waited for: a disk that hangs holds up no end.
const LAST: Duration = Duration::from_millis(500);

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
    /// What was under the name when this instance had looked or put something there last.
    last: Mutex<Option<OwnedFd>>,
    /// This instance is on its way out.
    leaving: AtomicBool,
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
        let there =
            openat(&folder, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        let place = Place {
            folder,
            name: name.to_owned(),
            aside,
            path: shown.to_string(),
            last: Mutex::new(there.ok()),
            leaving: AtomicBool::new(false),
        };
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
        match errand::begin("metrics", move || place.write(&text)) {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => self.judge(&Err(error)),
        }
    }

    /// From now on a file that another instance has put there is left alone.
    pub fn leave(&self) {
        self.place.leaving.store(true, Ordering::Relaxed);
    }

    /// Writes `report`, the last one, and waits for it, half a second at most.
    pub async fn put_last(&mut self, report: &Report) {
        let written = tokio::time::timeout(LAST, async {
            self.finish().await;
            self.put(report);
            self.finish().await;
        });
        if written.await.is_err() {
            warn!("metrics-file: {} takes too long; it may lack the last numbers", self.place.path);
        }
    }

    /// Waits until nothing is being written. Dropping the future loses nothing.
    async fn finish(&mut self) {
        if let Some(writing) = &mut self.writing {
            let written = writing.await;
            self.writing = None;
            if let Ok(written) = written {
                self.judge(&written);
            }
        }
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
        let leaving = self.leaving.load(Ordering::Relaxed);
        if leaving && self.is_anothers() {
            return Ok(());
        }
        // The next instance may write aside by now.
        let (mut file, aside) = if leaving { self.open_apart()? } else { self.open_aside()? };
        let written = file.write_all(text.as_bytes());
        let moved = written.and_then(|()| {
            Ok(renameat(&self.folder, aside.as_os_str(), &self.folder, self.name.as_os_str())?)
        });
        match moved {
            Ok(()) => *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.into()),
            Err(_) => drop(self.remove(&aside)),
        }
        moved
    }

    /// Another instance has put a file there: there is one, and it is not the last that we know of, which has no name any
    /// more.
    fn is_anothers(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |last: &OwnedFd| fstat(last).is_ok_and(|facts| facts.st_nlink == 0);
        last.as_ref().is_none_or(is_gone)
            && fstatat(&self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// A new file under the usual name; where something stands there that cannot be removed, such as a folder, under one
    /// that nobody knows before.
    fn open_aside(&self) -> io::Result<(File, OsString)> {
        match self.remove(&self.aside) {
            Ok(()) | Err(Errno::ENOENT) => self.open(self.aside.clone()),
            Err(Errno::EISDIR | Errno::EPERM) => self.open_apart(),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A new file under a name that nobody knows before.
    fn open_apart(&self) -> io::Result<(File, OsString)> {
        // The keys of a hasher are random.
        let number = RandomState::new().hash_one(std::process::id());
        let mut other = self.aside.clone();
        other.push(format!(".{number:016x}"));
        self.open(other)
    }

    fn open(&self, aside: OsString) -> io::Result<(File, OsString)> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, aside.as_os_str(), flags, MODE)?;
        Ok((File::from(file), aside))
    }

    fn remove(&self, name: &OsString) -> nix::Result<()> {
        unlinkat(&self.folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn file(path: &Path) -> TextFile {
        TextFile::open(path, Uid::effective()).unwrap()
    }

    async fn put(file: &mut TextFile, read: u64) {
        file.put(&Report { read, ..Report::default() });
        file.finish().await;
    }

    fn read(path: &Path) -> u64 {
        let page = std::fs::read_to_string(path).unwrap();
        let (_, from) = page.split_once("\naudit_relay_records_read_total ").unwrap();
        from.split_once('\n').unwrap().0.parse().unwrap()
    }

    #[tokio::test]
    async fn an_instance_on_its_way_out_leaves_the_next_ones_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.prom");
        // What another has left long ago is not the next one's.
        std::fs::write(&path, "old").unwrap();
        let mut first = file(&path);
        first.leave();
        put(&mut first, 1).await;
        assert_eq!(read(&path), 1);
        put(&mut first, 2).await;
        assert_eq!(read(&path), 2, "its own it replaces");
        let mut next = file(&path);
        put(&mut next, 3).await;
        put(&mut first, 4).await;
        first.put_last(&Report { read: 5, ..Report::default() }).await;
        assert_eq!(read(&path), 3);
        put(&mut next, 6).await;
        assert_eq!(read(&path), 6);
        std::fs::remove_file(&path).unwrap();
        put(&mut first, 7).await;
        assert_eq!(read(&path), 7, "there is none");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_does_not_hold_up_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = file(&dir.path().join("a.prom"));
        let (_never, writing) = tokio::sync::oneshot::channel();
        file.writing = Some(writing);
        let start = Instant::now();
        file.put_last(&Report::default()).await;
        assert!(start.elapsed() >= LAST && start.elapsed() < 20 * LAST, "{:?}", start.elapsed());
    }
}
