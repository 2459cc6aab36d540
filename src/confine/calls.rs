//! The system calls of a running relay, each with who needs it.
//!
//! Law: data, and the one function that makes filters of it. What is not listed is answered with ENOSYS, which C
//! libraries take for an old kernel and work around; what no version of the relay or of its libraries can want ends
//! the process. Both are seen in the audit trail (docs/decisions/012).

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// One call that may be made.
#[allow(dead_code, reason = "name and reason are for people and for the tests")]
pub(super) struct Call {
    pub(super) number: c_long,
    pub(super) name: &'static str,
    /// Any of these has to hold; each is a list of which all have to hold. Empty: always.
    when: &'static [&'static [Argument]],
    /// Who makes it.
    pub(super) who: &'static str,
}

/// What one argument has to be.
struct Argument {
    at: u8,
    is: Value,
}

enum Value {
    /// In the lower 32 bits, of which only those in the mask count.
    Bits { mask: u32, is: u32 },
    /// All 64 bits 0: no pointer.
    Null,
    /// This process.
    OwnPid,
}

const fn is(at: u8, value: u32) -> Argument {
    Argument { at, is: Value::Bits { mask: u32::MAX, is: value } }
}

const fn lacks(at: u8, bits: u32) -> Argument {
    Argument { at, is: Value::Bits { mask: bits, is: 0 } }
}

const fn has(at: u8, bits: u32) -> Argument {
    Argument { at, is: Value::Bits { mask: bits, is: bits } }
}

/// The second argument of socket(2), without SOCK_CLOEXEC and SOCK_NONBLOCK.
const fn kind(kind: u32) -> Argument {
    Argument { at: 1, is: Value::Bits { mask: 0xf, is: kind } }
}

const fn null(at: u8) -> Argument {
    Argument { at, is: Value::Null }
}

const fn own_pid(at: u8) -> Argument {
    Argument { at, is: Value::OwnPid }
}

/// The numbers of this processor's calls. A call that only one processor has is marked so where it stands.
mod number {
    pub(super) use libc::*;

    /// Which the libc crate leaves out. glibc's rename(3) is made of it there.
    #[cfg(target_arch = "aarch64")]
    #[allow(non_upper_case_globals, reason = "as the libc crate names the others")]
    pub(super) const SYS_renameat: c_long = 38;
}

macro_rules! calls {
    ($($(#[$attribute:meta])* $name:ident $(when $when:expr)? => $who:literal,)*) => {
        &[$($(#[$attribute])* Call {
            number: number::$name,
            name: stringify!($name),
            when: calls!(@when $($when)?),
            who: $who,
        },)*]
    };
    (@when) => { &[] };
    (@when $when:expr) => { $when };
}

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const TCP: u32 = 6;
const UDP: u32 = 17;
const MSG_FASTOPEN: u32 = 0x2000_0000;
const NETLINK_ROUTE: u32 = 0;
const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;
/// What pthread_create(3) asks for, and no new process: CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD.
const THREAD: u32 = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000;
/// CLONE_NEW*: namespaces.
const NAMESPACES: u32 = 0x7e02_0080;
const PR_GET_DUMPABLE: u32 = 3;
const PR_SET_NAME: u32 = 15;
const PR_SET_VMA: u32 = 0x5356_4d41;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;

/// What may be done.
pub(super) const ALLOWED: &[Call] = calls! {
    // Bytes in and out.
    SYS_read => "input from pipes and files, configuration and certificates, eventfd, signalfd, timerfd",
    SYS_readv => "glibc reading files of the name service",
    SYS_pread64 => "the dynamic loader, for a library of the name service",
    SYS_write => "stdout, report, handover, diagnostics, eventfd",
    SYS_writev => "stream sockets",
    SYS_recvfrom => "input from auditd's socket; answers of receivers; DNS",
    SYS_recvmsg => "the error queue of UDP; DNS and netlink answers of the name service",
    SYS_recvmmsg => "glibc's resolver",
    // MSG_FASTOPEN connects without asking Landlock.
    SYS_sendto when &[&[lacks(3, MSG_FASTOPEN)]] => "one datagram; stream sockets; DNS; diagnostics to /dev/log",
    SYS_sendmsg when &[&[lacks(2, MSG_FASTOPEN)]] => "stream sockets, several buffers at once",
    SYS_sendmmsg when &[&[lacks(3, MSG_FASTOPEN)]] => "many datagrams at once; glibc's resolver",
    SYS_close => "everything",
    SYS_lseek => "the report, written in place",
    // Sockets.
    SYS_connect => "connections; DNS",
    SYS_bind => "UDP; glibc's netlink socket",
    SYS_getsockname => "glibc's netlink socket; sorting of addresses",
    SYS_getpeername => "the peer's address for messages of the relay",
    SYS_getsockopt => "SO_ERROR after connecting, TCP_INFO, kind of the input",
    SYS_setsockopt => "timeouts, keepalive, TCP_NODELAY, IP_RECVERR",
    SYS_shutdown => "the end of a connection",
    // Waiting.
    SYS_epoll_create1 => "the runtime",
    SYS_epoll_ctl => "the runtime",
    #[cfg(target_arch = "x86_64")]
    SYS_epoll_wait => "the runtime",
    SYS_epoll_pwait => "the runtime",
    SYS_epoll_pwait2 => "the runtime",
    SYS_eventfd2 => "the runtime's waker",
    SYS_timerfd_create => "short waits of ingest and outputs",
    SYS_timerfd_settime => "short waits of ingest and outputs",
    SYS_signalfd4 => "signals",
    #[cfg(target_arch = "x86_64")]
    SYS_poll => "input from pipes, stdout and standard error, before they are read or written; glibc's resolver",
    SYS_ppoll => "input from pipes, stdout and standard error where there is no poll (arm64); glibc",
    SYS_futex => "threads: look-ups, and ingest where it has its own",
    SYS_nanosleep => "ingest, while records gather",
    SYS_clock_nanosleep => "ingest, while records gather",
    SYS_restart_syscall => "the kernel, for a wait that was stopped and continued",
    SYS_sched_yield => "crossbeam's back-off",
    // Time, for machines without vDSO clocks.
    SYS_clock_gettime => "all timers",
    SYS_clock_getres => "glibc",
    SYS_gettimeofday => "glibc's resolver",
    #[cfg(target_arch = "x86_64")]
    SYS_time => "glibc",
    SYS_adjtimex => "timeQuality: is the clock synchronised",
    SYS_clock_adjtime => "timeQuality: is the clock synchronised",
    // Files: Landlock says which.
    SYS_openat => "configuration, certificates, handover; the name service",
    #[cfg(target_arch = "x86_64")]
    SYS_open => "the name service",
    SYS_newfstatat => "configuration and certificates",
    SYS_fstat => "configuration and certificates",
    #[cfg(target_arch = "x86_64")]
    SYS_stat => "the name service",
    #[cfg(target_arch = "x86_64")]
    SYS_lstat => "the name service",
    SYS_statx => "configuration and certificates",
    SYS_statfs => "the name service",
    SYS_fstatfs => "room for the handover",
    #[cfg(target_arch = "x86_64")]
    SYS_access => "the name service; the dynamic loader",
    SYS_faccessat => "the name service",
    SYS_faccessat2 => "the name service",
    #[cfg(target_arch = "x86_64")]
    SYS_readlink => "paths of certificates",
    SYS_readlinkat => "paths of certificates",
    SYS_fgetxattr => "access lists of configuration and keys",
    SYS_getcwd => "relative paths",
    SYS_getdents64 => "the system's folder of authorities",
    // Not F_SETOWN and F_SETSIG, which send signals.
    SYS_fcntl when &[
        &[is(1, F_GETFD)],
        &[is(1, F_SETFD)],
        &[is(1, F_GETFL)],
        &[is(1, F_SETFL)],
        &[is(1, F_DUPFD_CLOEXEC)],
        &[is(1, F_SETPIPE_SZ)],
        &[is(1, F_GETPIPE_SZ)],
    ] => "duplicates of descriptors, non-blocking mode; room in a pipe on standard input",
    SYS_flock => "the handover's lock",
    SYS_fsync => "the handover",
    SYS_fdatasync => "the handover",
    SYS_ftruncate => "the report, written in place",
    SYS_renameat => "the handover",
    SYS_renameat2 => "the handover",
    SYS_unlinkat => "the handover",
    SYS_ioctl when &[&[is(1, FIONREAD)], &[is(1, FIONBIO)]] => "how much input waits; glibc's resolver",
    // Memory: nothing becomes executable that can be, or could be, written.
    SYS_mmap when &[&[lacks(2, PROT_EXEC)]] => "memory; see LIBRARIES",
    SYS_mprotect when &[&[lacks(2, PROT_EXEC)]] => "memory of threads; the dynamic loader",
    SYS_munmap => "memory",
    SYS_mremap => "memory",
    SYS_madvise => "memory; aws-lc's keys, which no child may have",
    SYS_brk => "memory",
    SYS_mlock => "aws-lc",
    SYS_membarrier => "the runtime; aws-lc",
    // Threads of this process, and nothing else. clone3 hides its flags in memory: ENOSYS makes glibc use clone.
    SYS_clone when &[&[has(0, THREAD), lacks(0, NAMESPACES)]] => "look-ups, reload and certificates, on threads",
    SYS_set_robust_list => "a new thread",
    SYS_set_tid_address => "a new thread",
    SYS_rseq => "a new thread",
    SYS_sigaltstack => "a new thread, against overflow of its stack",
    SYS_sched_getaffinity => "a new thread: where its stack lies; arenas of glibc's malloc",
    SYS_prlimit64 when &[&[is(0, 0), null(2)]] => "a new thread: the size of the stack (read only)",
    SYS_prctl when &[&[is(0, PR_SET_NAME)], &[is(0, PR_SET_VMA)], &[is(0, PR_GET_DUMPABLE)]]
        => "names of threads and of memory; check --confinement",
    SYS_gettid => "threads",
    SYS_exit => "the end of a thread",
    SYS_exit_group => "the end",
    // Signals: blocked and read as data; SIGABRT to itself.
    SYS_rt_sigaction => "the end by abort(3)",
    SYS_rt_sigprocmask => "a new thread",
    SYS_rt_sigreturn => "handlers for the overflow of a stack",
    SYS_tgkill when &[&[own_pid(0)]] => "abort(3)",
    // Who am I.
    SYS_getpid => "messages; abort(3)",
    SYS_getppid => "is auditd still there",
    SYS_getuid => "the name service",
    SYS_geteuid => "who owns the configuration",
    SYS_getgid => "the name service",
    SYS_getegid => "the name service",
    SYS_uname => "the name service",
    SYS_sysinfo => "glibc",
    SYS_getrandom => "TLS; glibc; hash maps",
};

/// Kinds of sockets that can be made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sockets {
    /// Over TCP.
    pub(super) tcp: bool,
    /// Over UDP.
    pub(super) udp: bool,
    /// Local ones, for datagrams: /dev/log.
    pub(super) local: bool,
    /// Local ones, for streams: most services of a machine listen at such.
    pub(super) local_stream: bool,
    /// To the kernel, about addresses and routes.
    pub(super) route: bool,
}

impl Sockets {
    /// What `other` has and we have not, in words.
    pub(super) fn lacking(self, other: Self) -> Option<&'static str> {
        [
            (self.tcp, other.tcp, "TCP"),
            (self.udp, other.udp, "UDP"),
            (self.local, other.local, "local datagram sockets"),
            (self.local_stream, other.local_stream, "local stream sockets"),
            (self.route, other.route, "name look-ups"),
        ]
        .into_iter()
        .find_map(|(ours, theirs, what)| (theirs && !ours).then_some(what))
    }

    /// Beside [`ALLOWED`]; `None` if there is no kind at all.
    fn rules(self) -> Result<Option<Vec<SeccompRule>>, seccompiler::BackendError> {
        let rules: Result<Vec<_>, _> = SOCKETS
            .iter()
            .filter(|(kind, _)| kind(&self))
            .map(|(_, all)| {
                all.iter().map(Argument::condition).collect::<Result<_, _>>().and_then(SeccompRule::new)
            })
            .collect();
        // No rule would mean: whatever the arguments are.
        rules.map(|rules| (!rules.is_empty()).then_some(rules))
    }
}

/// Whether a relay makes sockets of a kind, and what the arguments of socket(2) are then.
type Kind = (fn(&Sockets) -> bool, &'static [Argument]);

/// socket(2), by kind: connections; DNS; glibc asking which address families there are. No protocol but TCP and UDP:
/// MPTCP connects without asking Landlock. Of netlink's, not NETLINK_AUDIT, nor any other.
const SOCKETS: &[Kind] = &[
    (|kinds| kinds.tcp, &[is(0, AF_INET), kind(SOCK_STREAM), is(2, 0)]),
    (|kinds| kinds.tcp, &[is(0, AF_INET), kind(SOCK_STREAM), is(2, TCP)]),
    (|kinds| kinds.tcp, &[is(0, AF_INET6), kind(SOCK_STREAM), is(2, 0)]),
    (|kinds| kinds.tcp, &[is(0, AF_INET6), kind(SOCK_STREAM), is(2, TCP)]),
    (|kinds| kinds.udp, &[is(0, AF_INET), kind(SOCK_DGRAM), is(2, 0)]),
    (|kinds| kinds.udp, &[is(0, AF_INET), kind(SOCK_DGRAM), is(2, UDP)]),
    (|kinds| kinds.udp, &[is(0, AF_INET6), kind(SOCK_DGRAM), is(2, 0)]),
    (|kinds| kinds.udp, &[is(0, AF_INET6), kind(SOCK_DGRAM), is(2, UDP)]),
    (|kinds| kinds.local, &[is(0, AF_UNIX), kind(SOCK_DGRAM)]),
    (|kinds| kinds.local_stream, &[is(0, AF_UNIX), kind(SOCK_STREAM)]),
    (|kinds| kinds.route, &[is(0, AF_NETLINK), is(2, NETLINK_ROUTE)]),
];

/// In place of the same call in [`ALLOWED`] where names are looked up: modules of the name service are libraries.
const LIBRARIES: &[Call] = calls! {
    SYS_mmap when &[&[lacks(2, PROT_EXEC)], &[lacks(2, PROT_WRITE)]] => "memory; libraries of the name service",
};

/// Beside [`ALLOWED`] where clients are taken, from sockets that were made before.
const CLIENTS: &[Call] = calls! {
    SYS_accept4 => "who asks for status or metrics",
};

macro_rules! numbers {
    ($($(#[$attribute:meta])* $name:ident)*) => { &[$($(#[$attribute])* number::$name,)*] };
}

/// What ends the process: no relay, and no library below it, has ever a reason to.
pub(super) const FATAL: &[c_long] = numbers! {
    SYS_execve SYS_execveat
    #[cfg(target_arch = "x86_64")] SYS_fork
    #[cfg(target_arch = "x86_64")] SYS_vfork
    SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_kill SYS_pidfd_send_signal SYS_pidfd_getfd
    SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setgroups SYS_setfsuid SYS_setfsgid SYS_capset
    SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_setns SYS_unshare SYS_move_mount SYS_fsopen SYS_open_tree
    SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_kexec_file_load SYS_bpf SYS_perf_event_open SYS_userfaultfd
    SYS_io_uring_setup SYS_open_by_handle_at SYS_keyctl SYS_add_key SYS_reboot SYS_swapon SYS_swapoff SYS_settimeofday SYS_clock_settime
    #[cfg(target_arch = "x86_64")] SYS_iopl
    #[cfg(target_arch = "x86_64")] SYS_ioperm
    #[cfg(target_arch = "x86_64")] SYS_modify_ldt
};

/// What happens to a call that is not in [`ALLOWED`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// It is refused, or ends the process.
    Enforce,
    /// It is made, and logged by the kernel.
    Log,
}

/// A filter, and whether the kernel logs what it refuses.
pub(super) struct Filter {
    pub(super) program: BpfProgram,
    pub(super) logs: bool,
}

/// The filters of `mode`, in the order in which they are to be installed. `names`: names are looked up; `clients`: some
/// are taken; `sockets`: those that can be made.
///
/// # Errors
/// This processor is none that filters can be made for.
pub(super) fn filters(
    mode: Mode,
    names: bool,
    clients: bool,
    sockets: Sockets,
) -> Result<Vec<Filter>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{error}");
    let arch =
        || std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| failed(&error));
    let filter = |rules, otherwise, matching, logs| -> Result<Filter, String> {
        let program = SeccompFilter::new(rules, otherwise, matching, arch()?).and_then(TryInto::try_into);
        Ok(Filter { program: program.map_err(|error| failed(&error))?, logs })
    };
    let plain =
        |numbers: &[c_long]| numbers.iter().map(|number| (*number, Vec::new())).collect::<BTreeMap<_, _>>();
    let mut allowed = BTreeMap::new();
    let (libraries, clients) = (if names { LIBRARIES } else { &[] }, if clients { CLIENTS } else { &[] });
    for call in ALLOWED.iter().chain(libraries).chain(clients) {
        let mut rules = Vec::new();
        for all in call.when {
            let conditions: Result<Vec<_>, _> = all.iter().map(Argument::condition).collect();
            let rule = conditions.and_then(SeccompRule::new).map_err(|error| failed(&error))?;
            rules.push(rule);
        }
        allowed.insert(call.number, rules);
    }
    if let Some(rules) = sockets.rules().map_err(|error| failed(&error))? {
        allowed.insert(libc::SYS_socket, rules);
    }
    let unknown = || SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let refused = if mode == Mode::Enforce { unknown() } else { SeccompAction::Log };
    let mut filters = Vec::new();
    if mode == Mode::Enforce {
        filters.push(filter(plain(FATAL), SeccompAction::Allow, SeccompAction::KillProcess, true)?);
    }
    // glibc tries it for every thread: a record for each would hide the others. So a filter of its own refuses it in
    // silence, and the list lets it pass. The list comes last, since it has no place for seccomp(2) itself.
    filters.push(filter(plain(&[libc::SYS_clone3]), SeccompAction::Allow, unknown(), false)?);
    allowed.insert(libc::SYS_clone3, Vec::new());
    filters.push(filter(allowed, refused, SeccompAction::Allow, true)?);
    Ok(filters)
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, seccompiler::BackendError> {
        let (length, mask, value) = match self.is {
            Value::Bits { mask, is } => (SeccompCmpArgLen::Dword, u64::from(mask), u64::from(is)),
            Value::Null => (SeccompCmpArgLen::Qword, u64::MAX, 0),
            Value::OwnPid => (SeccompCmpArgLen::Dword, u64::from(u32::MAX), u64::from(std::process::id())),
        };
        SeccompCondition::new(self.at, length, SeccompCmpOp::MaskedEq(mask), value)
    }
}

#[cfg(test)]
mod processors;
#[cfg(test)]
mod tests;
