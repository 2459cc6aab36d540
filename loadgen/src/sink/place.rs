//! Files the sink leaves in the file system while it lives: its socket, its certificate.
//!
//! *Promise:* whoever the program under test becomes may reach them; at the end they are gone.
//! *Law:* nothing that is in use, or is no socket, is ever replaced.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// A file that is removed at the end, with its directory if that was made for it.
#[derive(Debug)]
pub(super) struct Place {
    file: PathBuf,
    directory: Option<PathBuf>,
}

impl Place {
    /// A file of this name in a new directory that any user may enter. The file itself is not made.
    ///
    /// # Errors
    /// If no directory can be made.
    pub(super) fn temporary(name: &str) -> io::Result<Self> {
        let base = std::env::temp_dir();
        let pid = std::process::id();
        for attempt in 0..100 {
            let directory = base.join(format!("audit-loadgen.{pid}.{attempt}"));
            match fs::create_dir(&directory) {
                Ok(()) => {
                    let path = Self { file: directory.join(name), directory: Some(directory.clone()) };
                    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a temporary directory"))
    }

    /// A socket's path given by the user. A socket nobody listens on is replaced; anything else there is left alone.
    ///
    /// # Errors
    /// If something else is there.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if found.file_type().is_socket() && !is_served(path)? => fs::remove_file(path)?,
            Ok(_) => {
                let message = format!("{} exists and is in use or no socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
        }
        Ok(Self { file: path.into(), directory: None })
    }

    /// Its path.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Whether some process has the socket at `path` open, of whichever type.
fn is_served(path: &Path) -> io::Result<bool> {
    let address = SockAddr::unix(path)?;
    for kind in [Type::DGRAM, Type::STREAM] {
        let refused = Socket::new(Domain::UNIX, kind, None)?.connect(&address).map_err(|error| error.kind());
        // ECONNREFUSED: nobody there. EPROTOTYPE: somebody, of the other type.
        if refused != Err(io::ErrorKind::ConnectionRefused) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::{Manner, Sink, Transport};
    use super::*;

    #[test]
    fn temporary_paths_are_gone_afterwards() {
        let sink = Sink::bind(Transport::Unix, None, Manner::default()).unwrap().unwrap();
        let path = sink.path().unwrap().to_owned();
        assert!(path.exists());
        drop(sink);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_served_socket_and_a_file_are_left_alone_and_a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let first = Sink::bind(Transport::Unix, Some(&path), Manner::default()).unwrap();
        assert!(Sink::bind(Transport::Unix, Some(&path), Manner::default()).is_err());
        assert!(Sink::bind(Transport::UnixStream, Some(&path), Manner::default()).is_err());
        drop(first);

        let stale = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
        stale.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        drop(stale);
        assert!(Sink::bind(Transport::UnixStream, Some(&path), Manner::default()).is_ok());

        fs::write(&path, "not a socket").unwrap();
        assert!(Sink::bind(Transport::Unix, Some(&path), Manner::default()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"not a socket");
    }
}
