//! The list that the audit rules are to cover, each line done as somebody would do it.

use crate::live::System;
use crate::rules::{Mark, Who};

/// A line of the list.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) title: &'static str,
    pub(crate) key: &'static str,
    pub(crate) prepare: String,
    pub(crate) who: Who,
    pub(crate) act: String,
    pub(crate) mark: Mark,
}

/// All of them, as they are done on this system.
pub(crate) fn scenarios(system: System) -> Vec<Scenario> {
    let key = |title, key: &'static str, prepare: &str, who, act: &str| Scenario {
        title,
        key,
        prepare: format!(":; {prepare}"),
        who,
        act: act.to_owned(),
        mark: Mark::Key(key.to_owned(), None),
    };
    let and = |title, key_: &'static str, prepare: &str, who, act: &str, word| Scenario {
        mark: Mark::KeyAnd(key_.to_owned(), word),
        ..key(title, key_, prepare, who, act)
    };
    // Debian sid's login leaves the records of sessions to pam_wtmpdb, which the test's root does not have.
    let wtmp = if system == System::Host { "" } else { "; echo session >>/var/lib/wtmpdb/wtmp.db" };
    vec![
        and(
            "all logins: login on a terminal",
            "ar-login",
            "useradd -m -s /bin/true arperson; touch /var/log/wtmp /var/log/lastlog",
            Who::Daemon,
            &format!("script -qc \"login -f arperson\" /dev/null{wtmp}"),
            "type=USER_START ",
        ),
        key("a write to largely static files", "ar-etc", "", Who::Root, "echo a line >>/etc/bash.bashrc"),
        key("a change of attributes of static files", "ar-etc", "", Who::Root, "chmod 0640 /etc/profile"),
        key(
            "a write to a system program",
            "ar-bin",
            "cp /bin/true /usr/bin/arprog",
            Who::Root,
            "cp /bin/false /usr/bin/arprog",
        ),
        key(
            "a change of attributes of a system program",
            "ar-bin",
            "cp /bin/true /usr/bin/arown",
            Who::Root,
            "chown 5001 /usr/bin/arown || chown 0 /usr/bin/arown",
        ),
        key("a write to kernel and initramfs", "ar-kernel", "", Who::Root, "cp /bin/true /boot/initrd.img-1"),
        key(
            "a module taken out of the kernel",
            "ar-module",
            "",
            Who::Root,
            "/opt/call64 176 s:no_such_module 0",
        ),
        key("a program run with root privileges", "ar-root", "", Who::Root, "id"),
        key("an execution with the suid bit", "ar-suid", "chmod 4755 /usr/bin/su", Who::User, "su --version"),
        key(
            "a change of SELinux policy",
            "ar-mac",
            "mkdir -p /etc/selinux/targeted/policy",
            Who::Root,
            "echo policy >/etc/selinux/targeted/policy/policy.33",
        ),
        key("a change of time and date", "ar-time", "", Who::User, "date -s @0"),
        key(
            "truncation of a log file",
            "ar-truncate",
            "touch /var/log/auth.log",
            Who::Daemon,
            ": >/var/log/auth.log",
        ),
        key("use of an audit reporting tool", "ar-audit", "", Who::Root, "ausearch -m LOGIN"),
        key("access to the audit logs", "ar-auditlog", "", Who::Root, "cat /var/log/audit/audit.log"),
        key("creation of a special file", "ar-special", "", Who::Root, "mknod /opt/disk b 7 200"),
        key(
            "deletion of a special file",
            "ar-special",
            "mknod /opt/rm1 b 7 201; mknod /opt/rm2 b 7 201",
            Who::Root,
            "rm /opt/rm1 || rm /opt/rm2",
        ),
        key(
            "a mount",
            "ar-mount",
            "mkdir -p /opt/mnt",
            Who::Root,
            "unshare --mount mount -t tmpfs tmpfs /opt/mnt",
        ),
        key("an unmount", "ar-mount", "", Who::Root, "unshare --mount umount /tmp"),
        and(
            "creation of a user",
            "ar-account",
            "",
            Who::Root,
            "userdel arnew; useradd arnew",
            "type=ADD_USER ",
        ),
        and(
            "removal of a user",
            "ar-account",
            "useradd arold",
            Who::Root,
            "userdel arold; useradd arold",
            "type=DEL_USER ",
        ),
        and(
            "creation of a group",
            "ar-account",
            "",
            Who::Root,
            "groupdel arteam; groupadd arteam",
            "type=ADD_GROUP ",
        ),
        key(
            "access to a private key",
            "ar-privkey",
            "mkdir -p /etc/ssl/private; echo key >/etc/ssl/private/ar.key",
            Who::Root,
            "cat /etc/ssl/private/ar.key",
        ),
        key("a change of the host's name", "ar-host", "", Who::Root, "unshare --uts hostname other.example"),
        key("failed access to a file", "ar-denied", "", Who::User, "cat /etc/shadow"),
        key("a change of power state", "ar-power", "", Who::Root, "systemctl --help"),
        key(
            "administrative access to a user's home",
            "ar-home",
            "mkdir -p /home/alice; touch /home/alice/diary; chown -R 6002 /home/alice",
            Who::Root,
            "cat /home/alice/diary",
        ),
        key(
            "a program run out of a folder for temporary files",
            "ar-tmpexec",
            "cp /bin/true /tmp/arprog",
            Who::User,
            "/tmp/arprog",
        ),
    ]
}
