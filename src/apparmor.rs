//! AppArmor: the profile that the relay which auditd has started puts itself into.
//!
//! Promise: where the profile [`PROFILE`] is installed and loaded, what auditd starts runs in it from before the first byte of
//! configuration or records on, and has no way out: the profile lets it change to no other. Law: called once, on the
//! first thread, before there is another, since a profile belongs to a thread. Nothing else of the program enters it:
//! the profile names no path, so that `install`, `uninstall`, `doctor` and `check`, typed by an operator or run by a
//! package, keep the rights of whoever runs them. Only the relay reads what attackers write.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;

/// The profile's name, and its file's in /etc/apparmor.d (packaging/apparmor).
pub const PROFILE: &str = "audit-relay";

/// AppArmor's own files of a process; the plain ones beside them may be another module's. Linux 5.8.
const CURRENT: &str = "/proc/self/attr/apparmor/current";

/// What apparmor.service loads: the profile's file there says that it is wanted, a link in `disable` that it is not.
const FOLDER: &str = "/etc/apparmor.d";

/// Enters the profile, if its file is installed. Who is confined already, by whatever profile, stays there.
///
/// # Errors
/// A sentence: the profile is meant to be used, and is not. The relay is better than none.
pub fn enter() -> Result<(), String> {
    enter_at(Path::new(CURRENT), Path::new(FOLDER))
}

/// What the kernel says this process is confined by, as `audit-relay (enforce)`. `None`: nothing, or no AppArmor.
pub fn current() -> Option<String> {
    confining(&fs::read_to_string(CURRENT).ok()?).map(str::to_owned)
}

fn enter_at(current: &Path, folder: &Path) -> Result<(), String> {
    // An error: no AppArmor, or it is off.
    let Ok(label) = fs::read_to_string(current) else { return Ok(()) };
    let file = folder.join(PROFILE);
    // Not tried for nothing: the kernel writes an audit record of a profile that it does not hold.
    let wanted = file.exists() && !folder.join("disable").join(PROFILE).exists();
    if confining(&label).is_some() || !wanted {
        return Ok(());
    }
    // One write is one command to the kernel.
    let entered = fs::File::options()
        .write(true)
        .open(current)
        .and_then(|mut file| file.write_all(format!("changeprofile {PROFILE}").as_bytes()));
    let file = file.display();
    entered.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "AppArmor: {file} is there, but its profile is not loaded; this relay runs without it. Load it (apparmor_parser -r \
             {file}), see that auditd starts after apparmor.service, and restart auditd"
        ),
        _ => format!("AppArmor: cannot enter the profile {PROFILE}: {error}; this relay runs without it"),
    })
}

/// The label in what `current` holds, unless it is one that confines nothing.
fn confining(label: &str) -> Option<&str> {
    let label = label.trim_end_matches(['\n', '\0']);
    (!label.is_empty() && label != "unconfined" && !label.ends_with(" (unconfined)")).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_confines() {
        let table = [
            ("unconfined\n", None),
            ("unconfined", None),
            ("", None),
            ("auditd (unconfined)\n", None),
            ("audit-relay (enforce)\n", Some("audit-relay (enforce)")),
            ("audit-relay (complain)\n", Some("audit-relay (complain)")),
            ("auditd//&audit-relay (enforce)\0", Some("auditd//&audit-relay (enforce)")),
        ];
        for (label, is) in table {
            assert_eq!(confining(label), is, "{label:?}");
        }
    }

    /// Not the kernel: a file that keeps what was written to it.
    #[test]
    fn it_enters_from_unconfined_only() {
        let dir = tempfile::tempdir().unwrap();
        let current = dir.path().join("current");
        assert_eq!(enter_at(&current, dir.path()), Ok(()), "no AppArmor");
        assert!(!current.exists());
        let after = |before: &str| {
            fs::write(&current, before).unwrap();
            assert_eq!(enter_at(&current, dir.path()), Ok(()));
            fs::read_to_string(&current).unwrap()
        };
        assert_eq!(after("unconfined\n"), "unconfined\n", "it is not installed");
        fs::write(dir.path().join(PROFILE), "").unwrap();
        assert_eq!(after("unconfined\n"), "changeprofile audit-relay");
        assert_eq!(after("x (unconfined)\n"), "changeprofile audit-relay");
        assert_eq!(after("/usr/sbin/audit-relay (enforce)\n"), "/usr/sbin/audit-relay (enforce)\n");
        fs::create_dir(dir.path().join("disable")).unwrap();
        fs::write(dir.path().join("disable").join(PROFILE), "").unwrap();
        assert_eq!(after("unconfined\n"), "unconfined\n", "disabled");
    }

    #[test]
    fn the_profile_that_is_shipped_has_this_name_and_is_attached_to_no_path() {
        let text = include_str!("../packaging/apparmor/audit-relay");
        let heads: Vec<_> =
            text.lines().filter(|line| !line.starts_with(['#', ' ']) && line.ends_with('{')).collect();
        assert_eq!(heads, [format!("profile {PROFILE} {{")]);
        // No way out of it.
        assert!(!text.lines().any(|line| line.trim_start().starts_with("change_profile")), "{text}");
    }
}
