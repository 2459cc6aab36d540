//! Changes files as planned, one after the other, so that each is at every moment the old one or the new one, whole.
//!
//! Promise: a file is written under another name in the same folder, forced to the disk with owner, group and mode, and renamed;
//! what has been done is on record before it is done, so that `uninstall` can take it back even if this process dies in
//! between. Law: root is led nowhere: folders on the way belong to root and nobody else may write them, a link as a last
//! step is never followed ([`guarded`]), and a file that is no longer what the plan has seen is left alone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::plan::{self, Change, Rights, State};
use crate::guarded::{self, Fault, Place};
use crate::site::{Facts, Root, unit};

/// Where install keeps what it has changed.
pub const RECORD: &str = "/var/lib/audit-relay/install.json";

/// Most bytes of a file that is looked at.
const LARGEST: u64 = 1 << 20;

/// What install has changed, oldest first.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Record {
    changes: Vec<Change>,
    /// Texts of install's that its last change was to replace, by path: they are there still where it was killed before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    former: BTreeMap<PathBuf, String>,
}

/// The file as somebody finds it who wants to change it. `path` is on the machine that is looked at.
pub fn look(root: &Root, path: &Path) -> State {
    let place = match place(root, path) {
        Ok(place) => place,
        Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => return State::Absent,
        Err(fault) => return State::Untouchable(format!("cannot be changed: {fault}")),
    };
    match read(&place) {
        Ok(found) => plan::state_of(
            found.as_ref().map(|(facts, _)| facts),
            found.as_ref().and_then(|(_, text)| text.clone()),
        ),
        Err(error) => State::Untouchable(format!("cannot be read: {error}")),
    }
}

/// The folder of a file, on the way to which nobody but root (or who runs this) could have put anything.
fn place(root: &Root, path: &Path) -> Result<Place, Fault> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Fault::Refused(format!("{} names no file", path.display())));
    };
    guarded::place(&root.find(folder).join(name), Uid::effective())
}

/// Facts and text of what is there; no text where it is no regular file, too long or not text.
fn read(place: &Place) -> io::Result<Option<(Facts, Option<String>)>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let seen = match openat(&place.folder, place.name.as_os_str(), flags, Mode::empty()) {
        Ok(seen) => File::from(seen),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let facts = seen.metadata()?;
    if !facts.is_file() || facts.len() > LARGEST {
        return Ok(Some((Facts::of(&facts), None)));
    }
    let mut bytes = Vec::new();
    // Opened again through the descriptor that was judged: nothing can be exchanged in between.
    File::open(format!("/proc/self/fd/{}", seen.as_raw_fd()))?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(Some((Facts::of(&facts), String::from_utf8(bytes).ok())))
}

/// Makes one change.
///
/// # Errors
/// A sentence; then the file is as it was.
pub fn make(root: &Root, change: &Change) -> Result<(), String> {
    let shown = change.path.display();
    // A unit's folder of drop-ins comes with the first and goes with the last.
    let drop_ins =
        change.path.parent().filter(|_| change.path == Path::new(unit::OURS)).map(|path| root.find(path));
    if let Some(folder) = drop_ins.as_ref().filter(|folder| change.after.is_some() && !folder.exists()) {
        new_folder(folder)?;
    }
    let place = place(root, &change.path).map_err(|fault| match fault {
        Fault::Io(error) => format!("{shown}: {error}"),
        Fault::Refused(sentence) => sentence,
    })?;
    let now = read(&place).map_err(|error| format!("{shown}: {error}"))?;
    if now.and_then(|(_, text)| text) != change.before {
        return Err(format!("{shown} has been changed by somebody else meanwhile; nothing is written there"));
    }
    let done = match &change.after {
        Some(text) => write(&place, text, change.rights),
        None => unlinkat(&place.folder, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
            .map_err(io::Error::from)
            .and_then(|()| sync(&place)),
    };
    done.map_err(|error| format!("{shown}: cannot be written: {}", with_remedy(&error)))?;
    if drop_ins.is_some() && change.after.is_none() {
        remove_drop_ins_if_empty(root);
    }
    Ok(())
}

/// A folder that everybody may look into, below folders that only root (or who runs this) can change.
pub(super) fn new_folder(folder: &Path) -> Result<(), String> {
    guarded::make_folder(folder, Uid::effective()).map_err(|fault| match fault {
        Fault::Io(error) => format!("{} cannot be made: {}", folder.display(), with_remedy(&error)),
        Fault::Refused(sentence) => sentence,
    })
}

/// What the system says to a write, and what to do about it.
pub(super) fn with_remedy(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; have its file system written to (mount -o remount,rw), and run this again"
        }
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => "; make room there, and run this again",
        _ => "",
    };
    format!("{error}{remedy}")
}

/// Takes one change back.
///
/// # Errors
/// A sentence.
pub fn undo(root: &Root, change: &Change) -> Result<(), String> {
    make(root, &change.back())
}

/// Removes what a process that was killed has left beside these files: the next text, under the name that it is written under first.
/// What is no regular file of ours stays, and so does what cannot be removed: [`write`] says so where it matters.
pub fn sweep<'a>(root: &Root, paths: impl IntoIterator<Item = &'a Path>) {
    for place in paths.into_iter().filter_map(|path| place(root, path).ok()) {
        let aside = aside(&place);
        let Ok(found) = fstatat(&place.folder, aside.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            continue;
        };
        let is_file = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        if is_file && found.st_uid == Uid::effective().as_raw() {
            let _ = unlinkat(&place.folder, aside.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Removes the folder of auditd's drop-ins unless something is in it.
pub fn remove_drop_ins_if_empty(root: &Root) {
    let folder = Path::new(unit::OURS).parent().and_then(|folder| place(root, folder).ok());
    if let Some(Place { folder, name }) = folder {
        let _ = unlinkat(&folder, name.as_os_str(), UnlinkatFlags::RemoveDir);
    }
}

/// The name under which a file is written first. auditd passes over names that begin with a dot.
fn aside(place: &Place) -> OsString {
    let mut aside = OsString::from(".");
    aside.push(&place.name);
    aside.push(".new");
    aside
}

fn write(place: &Place, text: &str, rights: Rights) -> io::Result<()> {
    let aside = aside(place);
    match unlinkat(&place.folder, aside.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file =
        File::from(openat(&place.folder, aside.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let whole = (|| {
        file.write_all(text.as_bytes())?;
        if Uid::effective().is_root() {
            fchown(&file, Some(rights.uid), Some(rights.gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(rights.mode))?;
        file.sync_all()?;
        renameat(&place.folder, aside.as_os_str(), &place.folder, place.name.as_os_str())
            .map_err(io::Error::from)
    })();
    if whole.is_err() {
        let _ = unlinkat(&place.folder, aside.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
    whole?;
    sync(place)
}

/// Forces the folder's entries to the disk.
fn sync(place: &Place) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    File::from(openat(&place.folder, ".", flags, Mode::empty())?).sync_all()
}

/// Adds to the record what is about to be changed. A file on record keeps its oldest text, owner and mode while it is what install
/// has written; what somebody has written since is what uninstall is to bring back. Returns the record before.
///
/// # Errors
/// A sentence.
pub fn remember(root: &Root, changes: &[Change]) -> Result<Vec<Change>, String> {
    let Record { changes: before, mut former } = load(root)?;
    let mut record = before.clone();
    for change in changes {
        let Some(old) = record.iter_mut().find(|old| old.path == change.path) else {
            record.push(change.clone());
            continue;
        };
        let is_ours = change.before.is_some()
            && (change.before == old.after || change.before.as_ref() == former.get(&change.path));
        if !is_ours {
            (old.before, old.was) = (change.before.clone(), change.was);
        } else if change.was.is_some_and(|was| was != old.rights) {
            old.was = change.was;
        }
        match change.before.clone().filter(|_| is_ours) {
            Some(text) => former.insert(change.path.clone(), text),
            None => former.remove(&change.path),
        };
        (old.after, old.rights) = (change.after.clone(), change.rights);
    }
    store(root, Record { changes: record, former })?;
    Ok(before)
}

/// Takes files off the record; an empty one is removed.
///
/// # Errors
/// A sentence.
pub fn forget(root: &Root, paths: &[PathBuf]) -> Result<(), String> {
    let mut record = recorded(root)?;
    record.retain(|change| !paths.contains(&change.path));
    replace_record(root, record)
}

/// What install has changed, oldest first.
///
/// # Errors
/// A sentence: it is there and cannot be used.
pub fn recorded(root: &Root) -> Result<Vec<Change>, String> {
    load(root).map(|record| record.changes)
}

fn load(root: &Root) -> Result<Record, String> {
    match look(root, Path::new(RECORD)) {
        State::Absent => Ok(Record::default()),
        State::Untouchable(why) => Err(format!("{RECORD} {why}")),
        State::Text(text, _) => serde_json::from_str(&text).map_err(|error| {
            format!("{RECORD}: {error}; it was written by another version, or damaged. Move it away")
        }),
    }
}

/// Puts a record in the place of the one there is; an empty one is removed.
///
/// # Errors
/// A sentence.
pub fn replace_record(root: &Root, changes: Vec<Change>) -> Result<(), String> {
    store(root, Record { changes, former: BTreeMap::new() })
}

fn store(root: &Root, record: Record) -> Result<(), String> {
    let path = PathBuf::from(RECORD);
    let before = match look(root, &path) {
        State::Text(text, _) => Some(text),
        State::Absent => None,
        State::Untouchable(why) => return Err(format!("{RECORD} {why}")),
    };
    let after = match record.changes.is_empty() {
        true => None,
        false => {
            let text = serde_json::to_string_pretty(&record);
            Some(text.map_err(|error| format!("{RECORD}: {error}"))? + "\n")
        }
    };
    if before == after {
        return Ok(());
    }
    let folder = root.find(path.parent().unwrap_or(Path::new("/")));
    if after.is_some() && !folder.exists() {
        new_folder(&folder)?;
    }
    let emptied = after.is_none();
    make(root, &Change { path, before, after, rights: Rights::of_root(0o600), was: None })?;
    if emptied {
        // Ours alone if nothing else is in it.
        let _ = fs::remove_dir(&folder);
    }
    Ok(())
}

/// What the program that auditd is to start is, and why it is not safe there: who may replace it becomes root.
pub fn program(root: &Root, path: &Path) -> Result<Option<Facts>, String> {
    let found = root.find(path);
    let Ok(facts) = fs::metadata(&found) else { return Ok(None) };
    if facts.uid() == 0 {
        let place = fs::canonicalize(&found)
            .map_err(Fault::from)
            .and_then(|real| guarded::place(&real, Uid::from_raw(0)));
        if let Err(fault) = place {
            return Err(format!("auditd would start it as root, and others could replace it: {fault}"));
        }
    }
    Ok(Some(Facts::of(&facts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const RIGHTS: Rights = Rights::of_root(0o640);

    fn change(path: &str, before: Option<&str>, after: Option<&str>) -> Change {
        Change {
            path: path.into(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            rights: RIGHTS,
            was: before.map(|_| RIGHTS),
        }
    }

    /// Who is not root gives nothing away.
    fn rights(file: &Path) -> Rights {
        let facts = fs::metadata(file).unwrap();
        Rights { uid: facts.uid(), gid: facts.gid(), mode: facts.mode() & 0o7777 }
    }

    fn machine() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/audit/plugins.d")).unwrap();
        let root = Root::at(dir.path());
        (dir, root)
    }

    #[test]
    fn files_come_and_go_whole() {
        let (dir, root) = machine();
        let path = "/etc/audit/plugins.d/audit-relay.conf";
        let file = dir.path().join(&path[1..]);
        make(&root, &change(path, None, Some("one\n"))).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(look(&root, Path::new(path)), State::Text("one\n".to_owned(), rights(&file)));
        // Not what was planned for.
        let refused = make(&root, &change(path, None, Some("two\n"))).unwrap_err();
        assert!(refused.contains("by somebody else"), "{refused}");
        let second = change(path, Some("one\n"), Some("two\n"));
        make(&root, &second).unwrap();
        undo(&root, &second).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\n");
        make(&root, &change(path, Some("one\n"), None)).unwrap();
        assert_eq!(look(&root, Path::new(path)), State::Absent);
        let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_units_folder_comes_with_its_drop_in_and_goes_with_the_last() {
        let (dir, root) = machine();
        let units = dir.path().join("etc/systemd/system");
        fs::create_dir_all(&units).unwrap();
        let folder = units.join("auditd.service.d");
        let drop_in = change(unit::OURS, None, Some("[Service]\n"));
        for others in [false, true] {
            make(&root, &drop_in).unwrap();
            assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o755);
            if others {
                fs::write(folder.join("theirs.conf"), "").unwrap();
            }
            undo(&root, &drop_in).unwrap();
            assert_eq!((folder.exists(), folder.join("audit-relay.conf").exists()), (others, false));
        }
    }

    #[test]
    fn folders_are_made_below_judged_ones_only() {
        let (dir, root) = machine();
        let away = dir.path().join("away");
        fs::create_dir_all(&away).unwrap();
        // Who may write there leads root with a link, or has put it there himself.
        let open = dir.path().join("open");
        fs::create_dir_all(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(&away, open.join("link")).unwrap();
        for inside in ["new", "new/er", "link/new"] {
            let refused = new_folder(&open.join(inside)).unwrap_err();
            assert!(refused.contains("chmod go-w"), "{refused}");
        }
        assert_eq!((fs::read_dir(&away).unwrap().count(), fs::read_dir(&open).unwrap().count()), (0, 1));
        // A link where the folder should be is followed by nobody, and its end not made.
        symlink(away.join("not there"), dir.path().join("dangling")).unwrap();
        assert!(new_folder(&dir.path().join("dangling")).unwrap_err().contains("cannot be made"));
        assert_eq!(fs::read_dir(&away).unwrap().count(), 0);
        // The way of the record itself.
        fs::set_permissions(dir.path().join("etc"), fs::Permissions::from_mode(0o777)).unwrap();
        let drop_in = change(unit::OURS, None, Some("[Service]\n"));
        assert!(make(&root, &drop_in).unwrap_err().contains("chmod go-w"));
        assert!(!dir.path().join("etc/systemd").exists());
        fs::set_permissions(dir.path().join("etc"), fs::Permissions::from_mode(0o755)).unwrap();
        new_folder(&dir.path().join("a/b/c")).unwrap();
        new_folder(&dir.path().join("a/b/c")).unwrap();
        assert_eq!(rights(&dir.path().join("a/b")).mode, 0o755);
    }

    #[test]
    fn owner_group_and_mode_come_back() {
        let (dir, root) = machine();
        let path = "/etc/audit/plugins.d/syslog.conf";
        let file = dir.path().join(&path[1..]);
        fs::write(&file, "one\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(&file, Some(33), Some(4)).unwrap();
        }
        let before = rights(&file);
        let planned = Change { was: Some(before), ..change(path, Some("one\n"), Some("two\n")) };
        make(&root, &planned).unwrap();
        assert_eq!(rights(&file).mode, 0o640);
        undo(&root, &planned).unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), rights(&file)), ("one\n", before));
    }

    #[test]
    fn links_lead_nowhere() {
        let (dir, root) = machine();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, dir.path().join("etc/audit/plugins.d/audit-relay.conf")).unwrap();
        // The name that a change is written under first.
        symlink(&victim, dir.path().join("etc/audit/plugins.d/.syslog.conf.new")).unwrap();
        let path = "/etc/audit/plugins.d/audit-relay.conf";
        assert!(
            matches!(look(&root, Path::new(path)), State::Untouchable(why) if why.contains("symbolic link"))
        );
        make(&root, &change("/etc/audit/plugins.d/syslog.conf", None, Some("x\n"))).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn what_was_left_aside_is_swept_and_nothing_else_is() {
        let (dir, root) = machine();
        let folder = dir.path().join("etc/audit/plugins.d");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        for name in [".a.conf.new", ".other.conf.new", "a.conf.new", ".a.conf.swp"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        symlink(&victim, folder.join(".link.conf.new")).unwrap();
        fs::create_dir(folder.join(".folder.conf.new")).unwrap();
        let paths = ["a.conf", "link.conf", "folder.conf", "none.conf"]
            .map(|name| Path::new("/etc/audit/plugins.d").join(name));
        let gone = Path::new("/not/there/a.conf");
        sweep(&root, paths.iter().map(PathBuf::as_path).chain([gone]));
        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(
            left,
            [".a.conf.swp", ".folder.conf.new", ".link.conf.new", ".other.conf.new", "a.conf.new"]
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        // Where others may write, and so may have put it there, nothing is touched.
        fs::write(folder.join(".a.conf.new"), "x").unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        sweep(&root, [paths[0].as_path()]);
        assert!(folder.join(".a.conf.new").exists());
    }

    #[test]
    fn what_the_system_refuses_has_its_remedy() {
        for (errno, part) in [
            (Errno::EROFS, "Read-only file system (os error 30); have its file system written to (mount -o"),
            (Errno::ENOSPC, "; make room there"),
            (Errno::EDQUOT, "; make room there"),
        ] {
            let said = with_remedy(&errno.into());
            assert!(said.contains(part) && said.ends_with("run this again"), "{said}");
        }
        assert_eq!(with_remedy(&Errno::EIO.into()), "Input/output error (os error 5)");
    }

    #[test]
    fn folders_that_others_write_are_refused() {
        let (dir, root) = machine();
        let folder = dir.path().join("etc/audit/plugins.d");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = make(&root, &change("/etc/audit/plugins.d/x.conf", None, Some("x\n"))).unwrap_err();
        assert!(refused.contains("chmod go-w"), "{refused}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn the_record_takes_what_somebody_has_written_since() {
        let (_dir, root) = machine();
        let path = "/etc/a";
        let on_record = |changes: &[Change]| {
            remember(&root, changes).unwrap();
            recorded(&root).unwrap().remove(0)
        };
        on_record(&[change(path, Some("old\n"), Some("new\n"))]);
        let was = Some(Rights { uid: 0, gid: 4, mode: 0o600 });
        // By hand, and installed again.
        let theirs = Change { was, ..change(path, Some("theirs\n"), Some("newer\n")) };
        assert_eq!(on_record(std::slice::from_ref(&theirs)), theirs);
        // Removed by hand.
        let none = change(path, None, Some("newest\n"));
        assert_eq!(on_record(std::slice::from_ref(&none)), none);
        // Another mode by hand, the text as it was installed.
        on_record(&[theirs]);
        let again = Change { was, ..change(path, Some("newer\n"), Some("newer\n")) };
        assert_eq!(on_record(&[again]), Change { was, ..change(path, Some("theirs\n"), Some("newer\n")) });
        // Killed before it had written the next text: what is there is install's own still.
        on_record(&[change(path, Some("newer\n"), Some("never\n"))]);
        let kept = on_record(&[change(path, Some("newer\n"), Some("last\n"))]);
        assert_eq!((kept.before.as_deref(), kept.after.as_deref()), (Some("theirs\n"), Some("last\n")));
    }

    #[test]
    fn the_record_keeps_the_oldest_text() {
        let (dir, root) = machine();
        let paths = ["/etc/a", "/etc/b"];
        remember(
            &root,
            &[change(paths[0], Some("old\n"), Some("new\n")), change(paths[1], None, Some("b\n"))],
        )
        .unwrap();
        remember(&root, &[change(paths[0], Some("new\n"), Some("newer\n"))]).unwrap();
        let record = recorded(&root).unwrap();
        assert_eq!(
            record,
            [change(paths[0], Some("old\n"), Some("newer\n")), change(paths[1], None, Some("b\n"))]
        );
        // As versions have written it that kept neither owner nor group.
        let old = r#"{"changes": [{"path": "/etc/a", "before": "a", "after": "b", "mode": 416}]}"#;
        let old: Record = serde_json::from_str(old).unwrap();
        assert_eq!((old.changes[0].rights, old.changes[0].was), (RIGHTS, None));
        let file = dir.path().join(&RECORD[1..]);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        forget(&root, &[paths[0].into()]).unwrap();
        assert_eq!(recorded(&root).unwrap().len(), 1);
        forget(&root, &[paths[1].into()]).unwrap();
        assert!(!file.exists() && !file.parent().unwrap().exists());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "{").unwrap();
        assert!(recorded(&root).unwrap_err().contains("Move it away"));
    }
}
