//! Who started whom: the children of a process, and theirs.
//!
//! *Promise:* all processes that descend from one, found from outside, whichever of its threads started them.
//! *Law:* reads /proc only; a process that is gone has no children. Where the kernel does not list children
//! (`CONFIG_PROC_CHILDREN`), every process is asked for its parent instead.

use std::fs;

use nix::unistd::Pid;

/// The children of all threads of `pid`.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    listed(pid).unwrap_or_else(|| with_parent(pid))
}

/// All processes that `ancestor` started, and those that they did; parents before their children.
pub(crate) fn descendants(ancestor: Pid) -> Vec<Pid> {
    grown(children(ancestor))
}

/// `roots` and their descendants, parents before their children.
pub(crate) fn grown(roots: Vec<Pid>) -> Vec<Pid> {
    let mut found = roots;
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children(*pid));
        next += 1;
    }
    found
}

/// What the kernel lists; `None` if it does not list children at all.
fn listed(pid: Pid) -> Option<Vec<Pid>> {
    let mut found = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Some(found) };
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(pids) => {
                found.extend(pids.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
            }
            // A thread that has just ended is no reason to forget the others.
            Err(_) if task.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(found)
}

/// The processes that call `parent` their parent.
fn with_parent(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; the last parenthesis ends it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn descendants_are_found_across_generations_and_both_ways() {
        let script = "sh -c 'read x; :'; :";
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        // A minute at most.
        let found = (0..12_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            descendants(pid).len() == 1 && descendants(Pid::this()).contains(&pid)
        });
        let (grandchildren, the_other_way) = (children(pid), with_parent(pid));
        let tree = grown(vec![pid]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(found);
        assert_eq!(the_other_way, grandchildren);
        assert_eq!(tree, [pid, grandchildren[0]]);
        assert!(descendants(pid).is_empty(), "it is gone");
    }
}
