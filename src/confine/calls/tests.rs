//! The filters, run here as the kernel runs them: each rule of the list with what it must let pass and what not.

use std::collections::BTreeSet;

use super::*;

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const KILL: u32 = 0x8000_0000;
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS.unsigned_abs();

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

const NONE: Sockets = Sockets { tcp: false, udp: false, local: false, local_stream: false, route: false };
const ALL: Sockets = Sockets { tcp: true, udp: true, local: true, local_stream: true, route: true };

/// What one program answers: the few instructions of classic BPF that seccompiler writes.
fn answer(program: &BpfProgram, arch: u32, call: c_long, args: &[u64]) -> u32 {
    // struct seccomp_data: number, architecture, instruction pointer, six arguments.
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&i32::try_from(call).unwrap().to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (place, argument) in data[16..].chunks_mut(8).zip(args) {
        place.copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut at, mut value) = (0usize, 0u32);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            0x20 => value = u32::from_ne_bytes(data[step.k as usize..][..4].try_into().unwrap()),
            0x54 => value &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += jump(value == step.k),
            0x25 => at += jump(value > step.k),
            0x35 => at += jump(value >= step.k),
            0x06 => return step.k,
            code => panic!("instruction {code:#x} is none that was expected"),
        }
    }
}

/// What the kernel makes of the answers of all filters: the hardest counts.
fn verdict(filters: &[Filter], call: c_long, args: &[u64]) -> u32 {
    let answers = filters.iter().map(|filter| answer(&filter.program, ARCH, call, args));
    answers.min_by_key(|answer| (*answer).cast_signed()).unwrap()
}

/// A test for each: what the filters of a relay without look-ups and clients, with all kinds of sockets, say to a call.
macro_rules! calls {
    ($($name:ident: $call:ident [$($argument:expr),*] $expected:ident;)*) => {$(
        #[test]
        fn $name() {
            let filters = filters(Mode::Enforce, false, false, ALL).unwrap();
            let got = verdict(&filters, libc::$call, &[$(u64::from($argument)),*]);
            assert_eq!(got, $expected, "{got:#x}, not {:#x}", $expected);
        }
    )*};
}

calls! {
    a_datagram: SYS_sendto [3u32, 0u32, 9u32, 0x4000u32] ALLOW;
    connecting_by_sendto: SYS_sendto [3u32, 0u32, 9u32, MSG_FASTOPEN] ENOSYS;
    several_buffers: SYS_sendmsg [3u32, 0u32, 0x4000u32] ALLOW;
    connecting_by_sendmsg: SYS_sendmsg [3u32, 0u32, MSG_FASTOPEN | 0x4000] ENOSYS;
    many_datagrams: SYS_sendmmsg [3u32, 0u32, 9u32, 0x4040u32] ALLOW;
    connecting_by_sendmmsg: SYS_sendmmsg [3u32, 0u32, 9u32, MSG_FASTOPEN] ENOSYS;
    not_to_wait: SYS_fcntl [3u32, F_SETFL, 0x800u32] ALLOW;
    f_setown: SYS_fcntl [3u32, 8u32, 1u32] ENOSYS;
    f_setsig: SYS_fcntl [3u32, 10u32, 9u32] ENOSYS;
    f_setown_ex: SYS_fcntl [3u32, 15u32] ENOSYS;
    how_much_waits: SYS_ioctl [0u32, FIONREAD] ALLOW;
    typing_into_a_terminal: SYS_ioctl [0u32, 0x5412u32] ENOSYS;
    fiosetown: SYS_ioctl [3u32, 0x8901u32] ENOSYS;
    memory: SYS_mmap [0u32, 4096u32, PROT_WRITE] ALLOW;
    code: SYS_mmap [0u32, 4096u32, PROT_EXEC] ENOSYS;
    memory_of_a_thread: SYS_mprotect [0u32, 4096u32, PROT_WRITE] ALLOW;
    memory_into_code: SYS_mprotect [0u32, 4096u32, PROT_EXEC | 1] ENOSYS;
    a_thread: SYS_clone [THREAD] ALLOW;
    a_process: SYS_clone [17u32] ENOSYS;
    a_process_by_half_a_thread: SYS_clone [THREAD & !0x100] ENOSYS;
    a_thread_in_a_namespace: SYS_clone [THREAD | 0x1000_0000] ENOSYS;
    what_hides_its_flags: SYS_clone3 [0u32, 88u32] ENOSYS;
    reading_its_limits: SYS_prlimit64 [0u32, 3u32, 0u32, 1u32] ALLOW;
    setting_its_limits: SYS_prlimit64 [0u32, 3u32, 0x1000u32] ENOSYS;
    setting_its_limits_by_a_pointer_with_a_low_half_of_0: SYS_prlimit64 [0u32, 3u32, 0x1_0000_0000u64] ENOSYS;
    limits_of_another: SYS_prlimit64 [1u32, 3u32, 0u32, 1u32] ENOSYS;
    the_name_of_a_thread: SYS_prctl [PR_SET_NAME] ALLOW;
    becoming_dumpable: SYS_prctl [4u32, 1u32] ENOSYS;
    aborting: SYS_tgkill [std::process::id(), std::process::id(), 6u32] ALLOW;
    a_signal_to_a_thread_of_another: SYS_tgkill [1u32, 1u32, 9u32] ENOSYS;
    clients_that_nobody_has_asked_for: SYS_accept4 [3u32] ENOSYS;
    listening: SYS_listen [3u32, 1u32] ENOSYS;
    another_filter: SYS_seccomp [1u32] ENOSYS;
    a_pair_of_sockets: SYS_socketpair [1u32, 2u32] ENOSYS;
    a_file_of_memory: SYS_memfd_create [0u32] ENOSYS;
    links: SYS_symlinkat [0u32] ENOSYS;
    second_names: SYS_linkat [3u32] ENOSYS;
    another_program: SYS_execve [0u32] KILL;
    a_signal: SYS_kill [std::process::id(), 0u32] KILL;
    watching_another: SYS_ptrace [16u32] KILL;
    another_user: SYS_setresuid [0u32, 0u32, 0u32] KILL;
    calls_past_the_filter: SYS_io_uring_setup [1u32] KILL;
    programs_in_the_kernel: SYS_bpf [0u32] KILL;
    namespaces: SYS_unshare [0x1000_0000u32] KILL;
}

/// A test for each: whether a relay that has sockets of one kind gets this one.
macro_rules! sockets {
    ($($name:ident: $kind:ident ($family:literal, $type:literal, $protocol:literal) $expected:ident;)*) => {$(
        #[test]
        fn $name() {
            let sockets = Sockets { $kind: true, ..NONE };
            let filters = filters(Mode::Enforce, false, false, sockets).unwrap();
            // With SOCK_CLOEXEC and SOCK_NONBLOCK, as they are always made.
            let got = verdict(&filters, libc::SYS_socket, &[$family, $type | 0x8_0800, $protocol]);
            assert_eq!(got, $expected, "{got:#x}, not {:#x}", $expected);
        }
    )*};
}

sockets! {
    tcp_over_ipv4: tcp (2, 1, 6) ALLOW;
    tcp_over_ipv6: tcp (10, 1, 0) ALLOW;
    multipath_tcp_over_ipv4: tcp (2, 1, 262) ENOSYS;
    multipath_tcp_over_ipv6: tcp (10, 1, 262) ENOSYS;
    sctp: tcp (2, 1, 132) ENOSYS;
    udp_where_tcp_is_used: tcp (2, 2, 0) ENOSYS;
    udp_over_ipv6_where_tcp_is_used: tcp (10, 2, 17) ENOSYS;
    a_service_where_tcp_is_used: tcp (1, 1, 0) ENOSYS;
    a_local_socket_where_tcp_is_used: tcp (1, 2, 0) ENOSYS;
    routes_where_tcp_is_used: tcp (16, 3, 0) ENOSYS;
    udp_over_ipv4: udp (2, 2, 17) ALLOW;
    udp_over_ipv6: udp (10, 2, 0) ALLOW;
    icmp: udp (2, 2, 1) ENOSYS;
    udp_lite: udp (10, 2, 136) ENOSYS;
    tcp_where_udp_is_used: udp (2, 1, 6) ENOSYS;
    raw: udp (2, 3, 17) ENOSYS;
    a_local_socket: local (1, 2, 0) ALLOW;
    a_service_where_datagrams_are_used: local (1, 1, 0) ENOSYS;
    packets_in_order: local (1, 5, 0) ENOSYS;
    a_service: local_stream (1, 1, 0) ALLOW;
    datagrams_where_a_service_is_used: local_stream (1, 2, 0) ENOSYS;
    routes: route (16, 3, 0) ALLOW;
    the_kernels_audit: route (16, 3, 9) ENOSYS;
    netfilter: route (16, 2, 12) ENOSYS;
    packets: tcp (17, 3, 3) ENOSYS;
    algorithms: tcp (38, 5, 0) ENOSYS;
    virtual_machines: tcp (40, 1, 0) ENOSYS;
}

#[test]
fn without_any_kind_there_is_no_socket() {
    let filters = filters(Mode::Enforce, false, false, NONE).unwrap();
    for (family, kind) in [(1, 1), (1, 2), (2, 1), (2, 2), (10, 1), (10, 2), (16, 3)] {
        assert_eq!(verdict(&filters, libc::SYS_socket, &[family, kind, 0]), ENOSYS, "{family} {kind}");
    }
}

#[test]
fn names_bring_libraries_and_clients_bring_their_acceptance() {
    let libraries = filters(Mode::Enforce, true, false, ALL).unwrap();
    assert_eq!(verdict(&libraries, libc::SYS_mmap, &[0, 4096, 5]), ALLOW, "a library");
    assert_eq!(verdict(&libraries, libc::SYS_mmap, &[0, 4096, 7]), ENOSYS, "what can be written, too");
    let clients = filters(Mode::Enforce, false, true, ALL).unwrap();
    assert_eq!(verdict(&clients, libc::SYS_accept4, &[3]), ALLOW);
    assert_eq!(verdict(&clients, libc::SYS_listen, &[3, 1]), ENOSYS);
}

#[test]
fn calls_by_another_numbering_end_the_process() {
    for filter in filters(Mode::Enforce, false, false, ALL).unwrap() {
        assert_eq!(answer(&filter.program, 0x4000_0003, libc::SYS_read, &[0]), KILL, "i386's numbers");
    }
}

#[test]
fn where_it_is_only_logged_nothing_is_refused_but_what_fills_the_log() {
    let filters = filters(Mode::Log, false, false, NONE).unwrap();
    for (call, args, expected) in [
        (libc::SYS_execve, &[0][..], LOG),
        (libc::SYS_socket, &[2, 1, 6], LOG),
        (libc::SYS_read, &[0], ALLOW),
        (libc::SYS_clone3, &[0], ENOSYS),
    ] {
        assert_eq!(verdict(&filters, call, args), expected);
    }
}

#[test]
fn every_call_stands_once_with_its_reason() {
    let numbers: BTreeSet<_> = ALLOWED.iter().map(|call| call.number).collect();
    assert_eq!(numbers.len(), ALLOWED.len());
    for call in ALLOWED.iter().chain(CLIENTS) {
        assert!(!call.who.is_empty() && !FATAL.contains(&call.number), "{}", call.name);
    }
    assert_eq!(FATAL.iter().collect::<BTreeSet<_>>().len(), FATAL.len());
}

#[test]
fn no_kind_of_socket_is_no_rule_and_each_is_lacked_where_it_is_not() {
    assert!(NONE.rules().unwrap().is_none(), "a rule of nothing would let everything pass");
    for (kind, rules, word) in [
        (Sockets { tcp: true, ..NONE }, 4, "TCP"),
        (Sockets { udp: true, ..NONE }, 4, "UDP"),
        (Sockets { local: true, ..NONE }, 1, "local datagram sockets"),
        (Sockets { local_stream: true, ..NONE }, 1, "local stream sockets"),
        (Sockets { route: true, ..NONE }, 1, "name look-ups"),
    ] {
        assert_eq!(kind.rules().unwrap().unwrap().len(), rules, "{word}");
        assert_eq!((NONE.lacking(kind), kind.lacking(kind), kind.lacking(NONE)), (Some(word), None, None));
    }
}
