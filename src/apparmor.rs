//! AppArmor: the profile that the relay which auditd has started puts itself into.
//!
//! Promise: where the kernel holds a profile named [`PROFILE`], what auditd starts runs in it from before the first byte of
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

/// Where the file of a profile lies that apparmor.service loads.
const SHIPPED: &str = "/etc/apparmor.d/audit-relay";

/// Enters the profile, if the kernel holds it. Who is confined already, by whatever profile, stays there.
///
/// # Errors
/// A sentence: the profile is meant to be used, and is not. The relay is better than none.
pub fn enter() -> Result<(), String> {
    enter_at(Path::new(CURRENT), Path::new(SHIPPED))
}

/// What the kernel says this process is confined by, as `audit-relay (enforce)`. `None`: nothing, or no AppArmor.
pub fn current() -> Option<String> {
    confining(&fs::read_to_string(CURRENT).ok()?).map(str::to_owned)
}

fn enter_at(current: &Path, shipped: &Path) -> Result<(), String> {
    // An error: no AppArmor, or it is off.
    let Ok(label) = fs::read_to_string(current) else { return Ok(()) };
    if confining(&label).is_some() {
        return Ok(());
    }
    // One write is one command to the kernel.
    let entered = fs::File::options()
        .write(true)
        .open(current)
        .and_then(|mut file| file.write_all(format!("changeprofile {PROFILE}").as_bytes()));
    match entered {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !shipped.exists() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "AppArmor: {} is there, but its profile is not loaded; this relay runs without it. Load it (apparmor_parser -r \
             FILE), see that auditd starts after apparmor.service, and restart auditd",
            shipped.display()
        )),
        Err(error) => {
            Err(format!("AppArmor: cannot enter the profile {PROFILE}: {error}; this relay runs without it"))
        }
    }
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
        let (current, shipped) = (dir.path().join("current"), dir.path().join("audit-relay"));
        assert_eq!(enter_at(&current, &shipped), Ok(()), "no AppArmor");
        assert!(!current.exists());
        for (before, after) in [
            ("unconfined\n", "changeprofile audit-relay"),
            ("x (unconfined)\n", "changeprofile audit-relay"),
            ("/usr/sbin/audit-relay (enforce)\n", "/usr/sbin/audit-relay (enforce)\n"),
        ] {
            fs::write(&current, before).unwrap();
            assert_eq!(enter_at(&current, &shipped), Ok(()));
            assert!(fs::read_to_string(&current).unwrap().starts_with(after), "{before:?}");
        }
    }

    #[test]
    fn the_profile_that_is_shipped_has_this_name_and_is_attached_to_no_path() {
        let text = include_str!("../packaging/apparmor/audit-relay");
        let heads: Vec<_> =
            text.lines().filter(|line| !line.starts_with(['#', ' ']) && line.ends_with('{')).collect();
        assert_eq!(heads, [format!("profile {PROFILE} {{")]);
        // No way out of it.
        assert!(!text.lines().any(|line| line.trim_start().starts_with("change_profile")), "{text}");
        assert_eq!(Path::new(SHIPPED).file_name().unwrap(), PROFILE);
    }
}
