//! The list on the processors that it is for: each name has a number there, or says of which one it is.

use super::*;

/// The calls of the list on aarch64 (arch/arm64/tools/syscall_64.tbl, include/uapi/asm-generic/unistd.h of Linux 6.18).
#[rustfmt::skip]
const AARCH64: &[(&str, c_long)] = &[
    ("fgetxattr", 10), ("getcwd", 17), ("eventfd2", 19), ("epoll_create1", 20), ("epoll_ctl", 21),
    ("epoll_pwait", 22), ("fcntl", 25), ("ioctl", 29), ("flock", 32), ("unlinkat", 35),
    ("renameat", 38), ("umount2", 39), ("mount", 40), ("pivot_root", 41), ("statfs", 43),
    ("fstatfs", 44), ("ftruncate", 46), ("faccessat", 48), ("chroot", 51), ("openat", 56),
    ("close", 57), ("getdents64", 61), ("lseek", 62), ("read", 63), ("write", 64), ("readv", 65),
    ("writev", 66), ("pread64", 67), ("ppoll", 73), ("signalfd4", 74), ("readlinkat", 78),
    ("newfstatat", 79), ("fstat", 80), ("fsync", 82), ("fdatasync", 83), ("timerfd_create", 85),
    ("timerfd_settime", 86), ("capset", 91), ("exit", 93), ("exit_group", 94), ("set_tid_address", 96),
    ("unshare", 97), ("futex", 98), ("set_robust_list", 99), ("nanosleep", 101), ("kexec_load", 104),
    ("init_module", 105), ("delete_module", 106), ("clock_settime", 112), ("clock_gettime", 113),
    ("clock_getres", 114), ("clock_nanosleep", 115), ("ptrace", 117), ("sched_getaffinity", 123),
    ("sched_yield", 124), ("restart_syscall", 128), ("kill", 129), ("tgkill", 131),
    ("sigaltstack", 132), ("rt_sigaction", 134), ("rt_sigprocmask", 135), ("rt_sigreturn", 139),
    ("reboot", 142), ("setregid", 143), ("setgid", 144), ("setreuid", 145), ("setuid", 146),
    ("setresuid", 147), ("setresgid", 149), ("setfsuid", 151), ("setfsgid", 152), ("setgroups", 159),
    ("uname", 160), ("prctl", 167), ("gettimeofday", 169), ("settimeofday", 170), ("adjtimex", 171),
    ("getpid", 172), ("getppid", 173), ("getuid", 174), ("geteuid", 175), ("getgid", 176),
    ("getegid", 177), ("gettid", 178), ("sysinfo", 179), ("socket", 198), ("bind", 200),
    ("connect", 203), ("getsockname", 204), ("getpeername", 205), ("sendto", 206), ("recvfrom", 207),
    ("setsockopt", 208), ("getsockopt", 209), ("shutdown", 210), ("sendmsg", 211), ("recvmsg", 212),
    ("brk", 214), ("munmap", 215), ("mremap", 216), ("add_key", 217), ("keyctl", 219), ("clone", 220),
    ("execve", 221), ("mmap", 222), ("swapon", 224), ("swapoff", 225), ("mprotect", 226),
    ("mlock", 228), ("madvise", 233), ("perf_event_open", 241), ("accept4", 242), ("recvmmsg", 243),
    ("prlimit64", 261), ("open_by_handle_at", 265), ("clock_adjtime", 266), ("setns", 268),
    ("sendmmsg", 269), ("process_vm_readv", 270), ("process_vm_writev", 271), ("finit_module", 273),
    ("renameat2", 276), ("getrandom", 278), ("bpf", 280), ("execveat", 281), ("userfaultfd", 282),
    ("membarrier", 283), ("statx", 291), ("rseq", 293), ("kexec_file_load", 294),
    ("pidfd_send_signal", 424), ("io_uring_setup", 425), ("open_tree", 428), ("move_mount", 429),
    ("fsopen", 430), ("clone3", 435), ("pidfd_getfd", 438), ("faccessat2", 439), ("epoll_pwait2", 441),
];

/// Every name of the list as it stands in this file, and whether it is marked as one of x86-64.
fn listed() -> Vec<(&'static str, bool)> {
    let (list, _) = include_str!("../calls.rs").split_once("#[cfg(test)]").unwrap();
    let list = &list[list.find("pub(super) const ALLOWED").unwrap()..];
    let mark = "#[cfg(target_arch = \"x86_64\")]";
    let mut names = Vec::new();
    for (at, _) in list.match_indices("SYS_") {
        let before = list[..at].trim_end();
        if before.ends_with("libc::") {
            continue;
        }
        let name = list[at + 4..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        names.push((name, before.ends_with(mark)));
    }
    names
}

#[test]
fn each_call_is_one_of_both_processors_or_marked() {
    let names = listed();
    assert!(names.len() > 140, "{}", names.len());
    for (name, marked) in names {
        let on_aarch64 = AARCH64.iter().any(|(known, _)| *known == name);
        assert_eq!(marked, !on_aarch64, "{name}: marked as one of x86-64, or in the table");
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn the_table_is_this_processors() {
    for call in ALLOWED.iter().chain(LIBRARIES).chain(CLIENTS) {
        let name = call.name.strip_prefix("SYS_").unwrap();
        assert!(AARCH64.contains(&(name, call.number)), "{name} {}", call.number);
    }
    for number in FATAL {
        assert!(AARCH64.iter().any(|(_, known)| known == number), "{number}");
    }
}
