//! Processes: the relays that run, and who listens to the kernel's audit records.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::doctor::machine::{Process, Reader};
use crate::doctor::rsyslog;
use crate::site;

/// The family of audit in /proc/net/netlink.
const NETLINK_AUDIT: &str = "9";

fn pids() -> Vec<u32> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The processes that run `program`. `None`: no program is known.
pub(super) fn relays(program: Option<&Path>, auditd: Option<u32>) -> Option<Vec<Process>> {
    let program = program?;
    let parents: BTreeMap<u32, u32> =
        pids().into_iter().filter_map(|pid| Some((pid, site::parent(pid)?))).collect();
    let is_below = |mut pid: u32, above: u32| {
        // A chain of parents has an end; a table that was read while it changed may not.
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some(parent) if *parent == above => return true,
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    let own = std::process::id();
    let running = parents
        .keys()
        .copied()
        .filter(|pid| *pid != own && !is_below(*pid, own) && runs(*pid, program) && !is_doctor(*pid));
    let process = |pid| Process {
        pid,
        is_auditds: auditd.is_some_and(|auditd| is_below(pid, auditd)),
        is_installed: is_installed(pid, program),
        uid: uid(pid),
        limits: fs::read_to_string(format!("/proc/{pid}/limits")).ok().and_then(|text| limits(&text)),
    };
    Some(running.map(process).collect())
}

fn words(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// By its program where we may look, else by the name that it was started with.
fn runs(pid: u32, program: &Path) -> bool {
    let started_as = || words(pid).first().is_some_and(|word| Path::new(word) == program);
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(path) => {
            let path = path.to_string_lossy();
            Path::new(path.strip_suffix(" (deleted)").unwrap_or(&path)) == program
                // Through a link, such as /sbin.
                || (started_as() && is_installed(pid, program) != Some(false))
        }
        Err(_) => started_as(),
    }
}

/// A running rsyslogd.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Rsyslogd {
    pub(super) pid: u32,
    /// The configuration that it was told to read. `None`: the usual one.
    pub(super) conf: Option<PathBuf>,
}

/// Those of root's that see the same files as we do, so none of a container. Anybody may have a process of that name, whose
/// words would then lead us.
pub(super) fn rsyslogds() -> Vec<Rsyslogd> {
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let files = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let ours = files("self");
    let is_one = |pid: &u32| {
        // rsyslogd names its threads, and the first keeps its name.
        name(*pid).trim() == "rsyslogd"
            && fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| site::is_roots(&status))
            // Only root may look.
            && files(&pid.to_string()).is_none_or(|files| Some(files) == ours)
    };
    let one = |pid: u32| {
        let words = words(pid);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        // What is relative is so to where it was started, as far as can be told.
        let conf = rsyslog::conf_named(&words)
            .map(|file| fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_else(|_| "/".into()).join(file));
        Rsyslogd { pid, conf }
    };
    pids().into_iter().filter(is_one).map(one).collect()
}

/// Another doctor, or a check.
fn is_doctor(pid: u32) -> bool {
    words(pid).get(1).is_some_and(|word| matches!(word.as_str(), "doctor" | "check" | "cert" | "status"))
}

fn is_installed(pid: u32, program: &Path) -> Option<bool> {
    let runs = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    let installed = fs::metadata(program).ok()?;
    Some((runs.dev(), runs.ino()) == (installed.dev(), installed.ino()))
}

fn uid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse().ok())
}

/// The soft limits of open files and address space.
fn limits(text: &str) -> Option<(u64, u64)> {
    let limit = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    };
    Some((limit("Max open files")?, limit("Max address space")?))
}

/// Who has joined the kernel's multicast group of audit records.
pub(super) fn audit_readers() -> Vec<Reader> {
    let table = fs::read_to_string("/proc/net/netlink").unwrap_or_default();
    let sockets = listeners(&table);
    if sockets.is_empty() {
        return Vec::new();
    }
    let holder = |socket: &Socket| {
        let link = format!("socket:[{}]", socket.inode);
        let holds = |pid: &u32| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.into_iter()
                .any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy() == link))
        };
        // The port is the process's id, unless that process has several such sockets.
        let pid = pids().into_iter().find(holds).unwrap_or(socket.port);
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(Reader { pid, name: name.trim().to_owned() })
    };
    // Process 1 listens on behalf of journald until that starts, and the two share a socket.
    sockets.iter().filter_map(holder).filter(|reader| reader.pid != 1).collect()
}

#[derive(Debug, Eq, PartialEq)]
struct Socket {
    port: u32,
    inode: u64,
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`.
fn listeners(table: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let groups = u32::from_str_radix(words.get(3)?, 16).ok()?;
        let listens = words[1] == NETLINK_AUDIT && groups != 0;
        listens.then(|| Some(Socket { port: words[2].parse().ok()?, inode: words.last()?.parse().ok()? }))?
    };
    table.lines().filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                     00000000a 0   1          00000551 0        0        0     2        0        100\n\
                     00000000b 9   412        00000001 0        0        0     2        0        200\n\
                     00000000c 9   977        00000000 0        0        0     2        0        300\n";
        assert_eq!(listeners(table), [Socket { port: 412, inode: 200 }]);
        let limits_text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                           Max open files            1024                 524288               files     \n\
                           Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(limits(limits_text), Some((1024, u64::MAX)));
        assert_eq!(limits(""), None);
    }

    #[test]
    fn this_process() {
        let own = std::process::id();
        assert!(uid(own).is_some());
        let program = std::env::current_exe().unwrap();
        assert!(runs(own, &program) && !runs(own, Path::new("/no/such/program")));
        assert_eq!(is_installed(own, &program), Some(true));
        assert_eq!(relays(None, None), None);
    }
}
