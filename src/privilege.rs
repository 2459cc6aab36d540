//! Giving up root.
//!
//! Promise: [`confine`] returns only if this process can never be root again, holds no capability and no
//! supplementary group; one that is root without any capability to begin with (behind audisp-filter) stays uid 0 and in its
//! groups, and says so. Law: called before the first thread starts and before the first byte is read,
//! because capabilities belong to threads and what is read may be hostile.
//!
//! Order: what needs root is open already; bounding set; supplementary groups; group; user; capabilities;
//! no_new_privs; then everything is read back.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::prctl;
use nix::unistd::{self, Gid, Uid, User};

use crate::config::{FALLBACK_USER, OWN_USER};
use crate::{site, sys};

/// Where accounts are looked for first.
const PASSWD: &str = "/etc/passwd";

/// Most bytes that are read of it: some hundred thousand accounts.
const LARGEST_PASSWD: u64 = 32 << 20;

/// Proof that [`confine`] has succeeded.
#[derive(Debug)]
pub struct Confined {
    user: String,
    root: bool,
    /// It was root without a capability, and so cannot become anybody else.
    bound: bool,
}

impl Confined {
    /// True if it runs with uid 0, under whatever name.
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// Why it is root, if it is: a warning.
    pub fn why_root(&self) -> Option<&'static str> {
        match (self.root, self.bound) {
            (false, _) => None,
            (true, false) => Some("running as root because `user` says so; any other account is safer"),
            (true, true) => Some(
                "running as root without capabilities: whoever started this relay (audisp-filter does) has taken away \
                 what becoming another account needs. `confine` holds all the same",
            ),
        }
    }

    /// The user that the process runs as.
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// An account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// User id.
    pub uid: Uid,
    /// Primary group id.
    pub gid: Gid,
}

/// Finds the account to run as: `wanted`, else [`OWN_USER`], else [`FALLBACK_USER`].
///
/// Looks into /etc/passwd itself first. Asking the name service may wait for a network that is not up yet
/// when auditd starts, and the usual accounts stand in the file.
///
/// # Errors
/// A sentence with the remedy.
pub fn account(wanted: Option<&str>) -> Result<Account, String> {
    account_by(wanted, from_name_service)
}

/// As [`account`], but never asks the name service: in a root that is another system's, that would run its programs.
///
/// # Errors
/// A sentence with the remedy.
pub fn account_in_file(wanted: Option<&str>) -> Result<Account, String> {
    account_by(wanted, |_| None)
}

fn account_by(wanted: Option<&str>, ask: fn(&str) -> Option<Account>) -> Result<Account, String> {
    let (passwd, fault) = match passwd() {
        Ok(text) => (text, String::new()),
        Err(error) => (String::new(), format!(" ({PASSWD}: {error})")),
    };
    match wanted {
        Some(name) => find(&passwd, name).or_else(|| ask(name)).ok_or_else(|| {
            format!(
                "user: there is no account `{name}`{fault}; create it (useradd --system {name}) or name another"
            )
        }),
        None => find(&passwd, OWN_USER).or_else(|| find(&passwd, FALLBACK_USER)).ok_or_else(|| {
            format!("user: there is neither an account `{OWN_USER}` nor `{FALLBACK_USER}`{fault}; create one, or set `user`")
        }),
    }
}

/// The accounts. That of another system may be anything, also a pipe that nobody writes to.
fn passwd() -> io::Result<String> {
    site::read_file(Path::new(PASSWD), LARGEST_PASSWD).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// As [`account`]; but root itself where this process is root without a capability and nobody has asked for another account:
/// audisp-filter gives all capabilities up, and those of its children with them, before it starts one.
///
/// # Errors
/// A sentence with the remedy, also where `wanted` cannot be reached.
pub fn reachable_account(wanted: Option<&str>) -> Result<Account, String> {
    let account = account(wanted)?;
    let powerless = Uid::effective().is_root() && !sys::has_capabilities().unwrap_or(true);
    if !powerless || account.uid.is_root() {
        return Ok(account);
    }
    match wanted {
        Some(name) => Err(format!(
            "user: cannot become `{name}`: this process was started as root without capabilities, as audisp-filter starts \
             what stands behind it. Leave `user` out, or set it to root; `confine` then holds all the same"
        )),
        None => Ok(Account { name: "root".to_owned(), uid: Uid::from_raw(0), gid: Gid::from_raw(0) }),
    }
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { name: name.to_owned(), uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    })
}

fn from_name_service(name: &str) -> Option<Account> {
    let user = User::from_name(name).ok()??;
    Some(Account { name: user.name, uid: user.uid, gid: user.gid })
}

/// Becomes `account` if this process is root, and gives up every other privilege in any case.
///
/// # Errors
/// Says what could not be given up. The process must then not go on.
pub fn confine(account: &Account) -> Result<Confined, String> {
    let failed = |what: &'static str| move |error: io::Error| format!("cannot give up root: {what}: {error}");
    let single = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if single != 1 {
        return Err(format!(
            "cannot give up root: {single} threads are running already; this is a bug, please report it"
        ));
    }
    // Any of the three: a saved uid of 0 is a way back.
    let ids = unistd::getresuid().map_err(io::Error::from).map_err(failed("getresuid"))?;
    let root = [ids.real, ids.effective, ids.saved].iter().any(|id| id.is_root());
    // Without CAP_SETGID the groups stay as they are, and lend nothing: uid 0 is the owner of what they could open.
    let bound = root && !sys::has_capabilities().map_err(failed("capget"))?;
    if root && !(bound && account.uid.is_root()) {
        sys::drop_bounding_set();
        if account.uid.is_root() {
            unistd::setgroups(&[]).map_err(io::Error::from).map_err(failed("setgroups"))?;
        } else {
            unistd::setgroups(&[]).map_err(io::Error::from).map_err(failed("setgroups"))?;
            unistd::setresgid(account.gid, account.gid, account.gid)
                .map_err(io::Error::from)
                .map_err(failed("setresgid"))?;
            unistd::setresuid(account.uid, account.uid, account.uid)
                .map_err(io::Error::from)
                .map_err(failed("setresuid"))?;
        }
    }
    sys::clear_capabilities().map_err(failed("capset"))?;
    prctl::set_no_new_privs().map_err(io::Error::from).map_err(failed("no_new_privs"))?;
    verify(account, root, bound)?;
    let user = if root { account.name.clone() } else { current_user() };
    Ok(Confined { user, root: unistd::geteuid().is_root(), bound })
}

/// Reads everything back: a call that says yes and does nothing must not pass.
fn verify(account: &Account, was_root: bool, bound: bool) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("cannot give up root: {what} afterwards; refusing to run"));
    if sys::has_capabilities().map_err(|error| format!("cannot give up root: capget: {error}"))? {
        return wrong("capabilities are left");
    }
    if !prctl::get_no_new_privs().unwrap_or(false) {
        return wrong("no_new_privs is not set");
    }
    if !was_root {
        return Ok(());
    }
    if bound && account.uid.is_root() {
        return Ok(());
    }
    if !unistd::getgroups().is_ok_and(|groups| groups.is_empty()) {
        return wrong("supplementary groups are left");
    }
    if account.uid.is_root() {
        return Ok(());
    }
    let (users, groups) = (unistd::getresuid(), unistd::getresgid());
    if !users.is_ok_and(|ids| [ids.real, ids.effective, ids.saved].iter().all(|id| *id == account.uid)) {
        return wrong("the user ids differ");
    }
    if !groups.is_ok_and(|ids| [ids.real, ids.effective, ids.saved].iter().all(|id| *id == account.gid)) {
        return wrong("the group ids differ");
    }
    if unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return wrong("there is a way back to root");
    }
    Ok(())
}

fn current_user() -> String {
    let uid = unistd::geteuid();
    let passwd = passwd().unwrap_or_default();
    let named = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    named.and_then(|line| line.split(':').next()).map_or_else(|| uid.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nbroken:x:y:z\n# comment\n";

    #[test]
    fn accounts_are_found_in_the_file() {
        let nobody = find(PASSWD, "nobody").unwrap();
        assert_eq!((nobody.uid.as_raw(), nobody.gid.as_raw()), (65534, 65534));
        assert!(find(PASSWD, "root").unwrap().uid.is_root());
        assert_eq!(find(PASSWD, "broken"), None);
        assert_eq!(find(PASSWD, "# comment"), None);
        assert!(account(Some("no such account")).unwrap_err().contains("no account `no such account`"));
    }
}
