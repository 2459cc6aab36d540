//! The files a report goes to: tried before the run, written behind it.
//!
//! *Promise:* a file that cannot be written is named before anything is measured; where one fails all the same (a full disk),
//! the others and the table are there.
//! *Law:* trying changes no file that is there, and leaves none that was not.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::cli::FileArgs;
use crate::report::{Run, Runs};
use crate::session::Failure;

/// Tries each of `paths`.
///
/// # Errors
/// With the first that cannot be written, and why.
pub(crate) fn check<'a>(paths: impl IntoIterator<Item = Option<&'a Path>>) -> Result<(), Failure> {
    for path in paths.into_iter().flatten() {
        writable(path)
            .map_err(Failure::when(format!("writing {} (tried before the run)", path.display())))?;
    }
    Ok(())
}

impl FileArgs {
    /// Tries the files asked for.
    ///
    /// # Errors
    /// With the first that cannot be written, and why.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        check([&self.json, &self.html, &self.hgrm, &self.hlog].map(Option::as_deref))
    }
}

/// Writes the files asked for, and the table to stdout.
///
/// # Errors
/// The first failure; whatever else can be written is.
pub(crate) fn write<R: Run>(files: &FileArgs, runs: &Runs<R>) -> Result<(), Failure> {
    type Content<'a> = &'a dyn Fn() -> Result<Vec<u8>, String>;
    let write = |path: &Option<PathBuf>, content: Content<'_>| {
        path.as_deref().map_or(Ok(()), |path| file(path, content()))
    };
    let written = [
        write(&files.json, &|| Ok(format!("{:#}\n", runs.json()).into_bytes())),
        write(&files.html, &|| Ok(runs.html().into_bytes())),
        write(&files.hgrm, &|| Ok(runs.hgrm().unwrap_or_default().into_bytes())),
        write(&files.hlog, &|| runs.hlog().unwrap_or_else(|| Ok(Vec::new()))),
        table(&runs.table()),
    ];
    written.into_iter().collect()
}

/// Writes `account` to stdout and `json`, if there is to be one, to its file.
///
/// # Errors
/// The first failure; the other is written all the same.
pub(crate) fn write_account(account: &str, json: Option<(&Path, String)>) -> Result<(), Failure> {
    let written = json.map_or(Ok(()), |(path, text)| file(path, Ok(text.into_bytes())));
    table(account).and(written)
}

fn file(path: &Path, content: Result<Vec<u8>, String>) -> Result<(), Failure> {
    let doing = || format!("writing {}", path.display());
    fs::write(path, content.map_err(Failure::when(doing()))?).map_err(Failure::when(doing()))
}

fn table(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::when("writing the report"))
}

fn writable(path: &Path) -> io::Result<()> {
    match File::create_new(path) {
        Ok(_) => fs::remove_file(path),
        // Not opened: a FIFO's reader would take that for the end.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            access(path, AccessFlags::W_OK).map_err(io::Error::from)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_trial_says_what_cannot_be_written_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("there"), "kept").unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        symlink(at("nowhere/x"), at("dangling")).unwrap();
        for name in ["new", "there", "fifo"] {
            assert!(writable(&at(name)).is_ok(), "{name}");
        }
        for name in ["", "there/x", "no/such/folder", "dangling"] {
            assert!(writable(&at(name)).is_err(), "{name}");
        }
        assert!(writable(Path::new("/proc/version/x")).is_err());
        assert_eq!(fs::read(at("there")).unwrap(), b"kept");
        assert!(!at("new").exists());
    }
}
