//! Where a machine's files are: at `/`, or below a folder that holds another system.
//!
//! Promise: a path of the other system leads to that system's file, symbolic links with absolute targets included
//! (`/var/run` is one on most machines). Law: reads links, nothing else.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links that are followed in one path, as the kernel has it (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// The folder that is a machine's `/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self::host()
    }
}

impl Root {
    /// This machine.
    pub fn host() -> Self {
        Self(PathBuf::from("/"))
    }

    /// The system below `folder`: a chroot, a container's files, what a test has planted.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// True if it is this machine itself, so that its processes and its kernel can be asked as well.
    pub fn is_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Where `path`, absolute in the other system, is in ours. Links on the way are followed within the root, so is
    /// the last one; what does not exist is left as it is.
    pub fn find(&self, path: impl AsRef<Path>) -> PathBuf {
        self.walk(path.as_ref(), true)
    }

    /// As [`Root::find`], but if the last part is a link, it is the link that is meant.
    pub fn find_link(&self, path: impl AsRef<Path>) -> PathBuf {
        self.walk(path.as_ref(), false)
    }

    fn walk(&self, path: &Path, last: bool) -> PathBuf {
        if self.is_host() {
            return path.to_path_buf();
        }
        let mut ahead = steps(path);
        let mut inside = PathBuf::new();
        let mut links = 0;
        while let Some(step) = ahead.pop_front() {
            if step == ".." {
                inside.pop();
                continue;
            }
            let here = self.0.join(&inside).join(&step);
            let target = match !ahead.is_empty() || last {
                true => fs::read_link(&here).ok(),
                false => None,
            };
            match target {
                Some(target) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        inside = PathBuf::new();
                    }
                    for step in steps(&target).into_iter().rev() {
                        ahead.push_front(step);
                    }
                }
                _ => inside.push(step),
            }
        }
        self.0.join(inside)
    }
}

/// The parts of a path that lead somewhere.
fn steps(path: &Path) -> VecDeque<OsString> {
    let leads = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(leads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_within_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        fs::create_dir_all(dir.path().join("run/audit")).unwrap();
        fs::create_dir_all(dir.path().join("var/log")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("run/up")).unwrap();
        symlink("audit", dir.path().join("run/relative")).unwrap();
        symlink("/run/round", dir.path().join("run/round")).unwrap();
        let at = |path: &str| dir.path().join(path);
        assert_eq!(root.find("/var/run/auditd.pid"), at("run/auditd.pid"));
        assert_eq!(root.find("/var/run/relative/x"), at("run/audit/x"));
        assert_eq!(root.find("/run/up"), at("etc/passwd"));
        assert_eq!(root.find("/../../etc/passwd"), at("etc/passwd"));
        assert_eq!(root.find_link("/var/run/up"), at("run/up"));
        assert_eq!(root.find_link("/var/run"), at("var/run"));
        assert!(root.find("/run/round").starts_with(dir.path()));
        assert_eq!(root.find("/not/there"), at("not/there"));
    }

    #[test]
    fn the_host_is_left_to_the_kernel() {
        assert_eq!(Root::host().find("/var/run/auditd.pid"), Path::new("/var/run/auditd.pid"));
        assert!(Root::default().is_host() && !Root::at("/srv/sid").is_host());
    }
}
