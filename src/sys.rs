//! System calls that no safe library offers: the only room that may say `unsafe`.
//!
//! A leaf: it knows no other room. Each function is the thinnest safe cover of one call.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockNanosleepFlags, clock_nanosleep};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Messages that [`send_many`] takes in one call at most.
pub const SEND_MANY: usize = 64;

/// Sends each slice as one datagram on a connected socket, without waiting. Returns how many were taken,
/// at least one. A short count does not say why. Most reasons show up again in the next call; an error that
/// the kernel gives only once (ECONNREFUSED on UDP) does not.
///
/// # Errors
/// The kernel's error for the first datagram; then none was sent.
pub fn send_many(socket: BorrowedFd<'_>, datagrams: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; SEND_MANY];
    let count = datagrams.len().min(SEND_MANY);
    for (header, datagram) in headers.iter_mut().zip(datagrams) {
        // SAFETY: all-zero bytes are a valid mmsghdr: integers and null pointers.
        let header = unsafe { header.assume_init_mut() };
        // IoSlice has the layout of iovec on Unix (std::io::IoSlice), and sendmmsg only reads it.
        header.msg_hdr.msg_iov = std::ptr::from_ref(datagram).cast_mut().cast();
        header.msg_hdr.msg_iovlen = 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` headers are initialised, each points to one live iovec, and `count` fits.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            u32::try_from(count).unwrap_or(0),
            flags as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Bytes of the stream that the peer's kernel has acknowledged on a TCP connection that this side opened.
/// Stays readable after the connection has ended.
///
/// # Errors
/// The kernel's refusal, or one that is older than the field (4.1).
pub fn tcp_acknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    /// Offset of `tcpi_bytes_acked` in `struct tcp_info` (linux/tcp.h).
    const OFFSET: usize = 120;
    let mut info = [0u8; OFFSET + 8];
    let mut length = libc::socklen_t::try_from(info.len()).unwrap_or(0);
    // SAFETY: `info` is writable for `length` bytes, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    match info.last_chunk::<8>() {
        // The SYN counts as one byte.
        Some(bytes) if length as usize == info.len() => Ok(u64::from_ne_bytes(*bytes).saturating_sub(1)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Closes every descriptor from 3 on.
///
/// Call before anything is opened: auditd 2.x leaks the other end of our stdin, and 3.0 leaks from 24 on.
pub fn close_all_from_3() {
    // SAFETY: no descriptor of ours is open yet, so nothing in this process refers to a closed one.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    if result == 0 {
        return;
    }
    // Before Linux 5.9.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map(|dir| dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_else(|_| (3..1024).collect());
    for fd in open.into_iter().filter(|fd| *fd >= 3) {
        // SAFETY: as above; closing a number that is not open only fails.
        unsafe { libc::close(fd) };
    }
}

/// Gives every signal the disposition that the relay wants. auditd starts plugins with nearly all ignored.
///
/// What would end or stop the process, and nobody has reason to send, is ignored. A real fault ends the process all
/// the same: the kernel delivers those of its own making (SIGSEGV, SIGSYS of a filter) past SIG_IGN, and abort(3)
/// takes it away first. `by_hand`: a person at a terminal may quit (SIGQUIT) and suspend (SIGTSTP).
pub fn reset_signals(by_hand: bool) {
    const DEFAULT: [i32; 9] = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTERM,
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    const TERMINAL: [i32; 4] = [libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    // 32 and 33 belong to glibc (setresuid(2) on all threads works through one of them).
    for signal in (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        let default = DEFAULT.contains(&signal) || (by_hand && TERMINAL.contains(&signal));
        let disposition = if default { libc::SIG_DFL } else { libc::SIG_IGN };
        // SAFETY: neither value installs a handler; KILL and STOP are refused.
        unsafe { libc::signal(signal, disposition) };
    }
}

/// True if a file has a POSIX access control list, other than one that says what the mode says. False where the file
/// system knows of none.
///
/// # Errors
/// The kernel's refusal.
pub fn has_access_list(file: BorrowedFd<'_>) -> io::Result<bool> {
    let name = c"system.posix_acl_access";
    // SAFETY: the name ends in NUL; a size of 0 asks for the length, and nothing is written.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) };
    if length >= 0 {
        return Ok(true);
    }
    match Errno::last() {
        Errno::ENODATA | Errno::EOPNOTSUPP => Ok(false),
        errno => Err(errno.into()),
    }
}

/// Registers the signal descriptor with the runtime.
///
/// # Errors
/// The system has no room left in its epoll.
pub fn watch_signals(signals: SignalFd) -> io::Result<AsyncFd<SignalFd>> {
    // SAFETY: a SignalFd owns one descriptor, answers as_raw_fd with it always, and keeps it open until it
    // is dropped.
    unsafe { AsyncFd::register(signals) }.map_err(Into::into)
}

/// Registers a descriptor that will only be read with the runtime.
///
/// # Errors
/// `EPERM` where nobody can wait for it: regular files, /dev/null; the descriptor comes back with the error.
pub fn watch_input(source: OwnedFd) -> Result<AsyncFd<OwnedFd>, (OwnedFd, io::Error)> {
    // SAFETY: an OwnedFd is one descriptor, always the same, and open until it is dropped.
    unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) }.map_err(|error| error.into_parts())
}

/// Lets the calling thread rest for `time`, or shorter if a signal comes.
pub fn sleep(time: Duration) {
    let flags = ClockNanosleepFlags::empty();
    // An early end only means an early look.
    let _ = clock_nanosleep(nix::time::ClockId::CLOCK_MONOTONIC, flags, &TimeSpec::from(time));
}

/// A timer with steps of nanoseconds; the runtime's own have steps of a millisecond.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// The system has no descriptor left, or no room in its epoll.
    pub fn new() -> io::Result<AsyncFd<Self>> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Self(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the timer owns one descriptor, answers as_raw_fd with it always, and keeps it open until it is
        // dropped.
        unsafe { AsyncFd::register(timer) }.map_err(Into::into)
    }

    /// Lets it expire once, after `time`. An expiry that nobody has waited for is taken back.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&self, time: Duration) -> io::Result<()> {
        let expiration = Expiration::OneShot(TimeSpec::from_duration(time));
        Ok(self.0.set(expiration, TimerSetTimeFlags::empty())?)
    }

    /// Takes note of its expiry. False if it has not expired.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn has_expired(&self) -> io::Result<bool> {
        match self.0.wait() {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Drops every capability from the bounding set, as far as CAP_SETPCAP allows it: a precaution, since
/// no_new_privs keeps execve(2) from giving any back.
pub fn drop_bounding_set() {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes one number and touches no memory; unknown numbers are refused.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if result != 0 {
            return;
        }
    }
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 bits each.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Clears the calling thread's effective, permitted and inheritable capabilities. Threads started later
/// inherit that.
///
/// # Errors
/// The kernel's refusal.
pub fn clear_capabilities() -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let data = [CapabilityData::default(); 2];
    // SAFETY: both pointers are to live structs of the layout that capset(2) states for version 3.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// True if the calling thread has any effective, permitted or inheritable capability.
///
/// # Errors
/// The kernel's refusal.
pub fn has_capabilities() -> io::Result<bool> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: as in `clear_capabilities`; the kernel writes two data words.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(data.iter().any(|word| word.effective | word.permitted | word.inheritable != 0))
}

/// Refuses, from now on and for good, to make memory executable that was not so when it was mapped (PR_SET_MDWE,
/// Linux 6.3).
///
/// # Errors
/// The kernel is older, or a filter above refuses.
pub fn refuse_new_code() -> io::Result<()> {
    const PR_SET_MDWE: libc::c_int = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    let zero: libc::c_ulong = 0;
    // SAFETY: this prctl takes flags by value and touches no memory of ours.
    let result = unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, zero, zero, zero) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts a filter of system calls in force for this thread and those that it starts (seccomp(2)). If it `logs`, the
/// kernel logs what it refuses (SECCOMP_FILTER_FLAG_LOG, Linux 4.14). no_new_privs must be set.
///
/// # Errors
/// The kernel has no filters, or refuses this one.
pub fn install_seccomp(filter: &[seccompiler::sock_filter], logs: bool) -> io::Result<()> {
    let length =
        libc::c_ushort::try_from(filter.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    // The fields of both are those of the kernel's struct sock_filter (linux/filter.h).
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `length` live instructions, which the kernel copies and checks.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            if logs { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 },
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Maps a page that is both writable and executable, and unmaps it.
///
/// # Errors
/// It is refused.
pub fn writable_code() -> io::Result<()> {
    const PAGE: usize = 4096;
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that is there.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page was mapped just now, and nobody else knows it.
    unsafe { libc::munmap(page, PAGE) };
    Ok(())
}

/// Columns and rows of a terminal. `None`: it is none, or does not know.
pub fn terminal_size(terminal: BorrowedFd<'_>) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Opens a socket of Multipath TCP (RFC 8684), and closes it.
///
/// # Errors
/// It is refused.
pub fn mptcp_socket() -> io::Result<()> {
    open_and_close(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)
}

/// Opens a netlink socket to the kernel's audit, and closes it.
///
/// # Errors
/// It is refused.
pub fn audit_socket() -> io::Result<()> {
    open_and_close(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)
}

/// Opens a socket that sees every packet, and closes it.
///
/// # Errors
/// It is refused.
pub fn packet_socket() -> io::Result<()> {
    open_and_close(libc::AF_PACKET, libc::SOCK_DGRAM, 0)
}

/// Sends `signal` to the first thread of another process; 0 only asks whether it may be sent.
///
/// # Errors
/// It is refused.
pub fn signal_thread(process: Pid, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: tgkill(2) takes its arguments by value.
    let refused = unsafe { libc::syscall(libc::SYS_tgkill, process.as_raw(), process.as_raw(), signal) } != 0;
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Names the process that the kernel signals when `fd` has input (F_SETOWN of fcntl(2)).
///
/// # Errors
/// It is refused.
pub fn signal_on_input(fd: BorrowedFd<'_>, process: Pid) -> io::Result<()> {
    // SAFETY: this command takes its argument by value, and the descriptor is open.
    let refused = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETOWN, process.as_raw()) } != 0;
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn open_and_close(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<()> {
    // SAFETY: socket(2) takes its arguments by value.
    let socket = unsafe { libc::socket(family, kind, protocol) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was opened just now, and nobody else has it.
    drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) });
    Ok(())
}

/// Local time's offset from UTC in seconds east, at `seconds` since 1970. UTC where the zone is unknown.
pub fn local_offset(seconds: u64) -> i32 {
    let Ok(time) = libc::time_t::try_from(seconds) else {
        return 0;
    };
    let mut fields = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values; localtime_r reads the zone's file, which glibc locks itself.
    let result = unsafe { libc::localtime_r(&raw const time, fields.as_mut_ptr()) };
    if result.is_null() {
        return 0;
    }
    // SAFETY: localtime_r returned non-null, so it has filled every field.
    let fields = unsafe { fields.assume_init() };
    i32::try_from(fields.tm_gmtoff).unwrap_or(0)
}

/// What the resolver holds for `name`'s canonical form (getaddrinfo(3), AI_CANONNAME). May wait for DNS.
pub fn canonical_name(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    let mut hints = MaybeUninit::<libc::addrinfo>::zeroed();
    // SAFETY: all-zero bytes are a valid addrinfo: integers and null pointers.
    let hints = unsafe { hints.assume_init_mut() };
    hints.ai_flags = libc::AI_CANONNAME;
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list = std::ptr::null_mut();
    // SAFETY: the name ends in NUL, `hints` and `list` are live for the call.
    let result = unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), hints, &raw mut list) };
    if result != 0 || list.is_null() {
        return None;
    }
    // SAFETY: getaddrinfo succeeded, so `list` points to an addrinfo that lives until freeaddrinfo.
    let canonical = unsafe { (*list).ai_canonname };
    let found = if canonical.is_null() {
        None
    } else {
        // SAFETY: ai_canonname is a NUL-terminated string owned by the list.
        unsafe { CStr::from_ptr(canonical) }.to_str().ok().map(str::to_owned)
    };
    // SAFETY: `list` came from getaddrinfo and is not used again.
    unsafe { libc::freeaddrinfo(list) };
    found
}

/// What the kernel says of its clock: synchronised or not, and the maximum error in microseconds
/// (adjtimex(2)). `None` if it will not say.
pub fn clock_state() -> Option<(bool, u64)> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all-zero bytes are a valid timex whose `modes` of 0 asks to change nothing.
    let result = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    if result < 0 {
        return None;
    }
    // SAFETY: it was all zeros, which is valid, and adjtimex has written into it.
    let state = unsafe { state.assume_init() };
    Some((
        result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        u64::try_from(state.maxerror).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn many_datagrams_arrive_as_they_were() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let sent = send_many(sender.as_fd(), &[IoSlice::new(b"one"), IoSlice::new(b"two")]).unwrap();
        assert_eq!(sent, 2);
        for expected in [&b"one"[..], b"two"] {
            let mut buffer = [0; 16];
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
        drop(receiver);
        let error = send_many(sender.as_fd(), &[IoSlice::new(b"late")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn acknowledged_bytes_are_counted_from_the_first_and_known_after_a_reset() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(tcp_acknowledged(client.as_fd()).unwrap(), 0);
        client.write_all(&[b'x'; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        client.write_all(&[b'y'; 10]).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while tcp_acknowledged(client.as_fd()).unwrap() < 1010 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(tcp_acknowledged(client.as_fd()).unwrap(), 1010);
        // Closed with data unread, the server resets the connection.
        drop(server);
        assert!(client.read(&mut [0; 1]).is_err());
        assert_eq!(tcp_acknowledged(client.as_fd()).unwrap(), 1010);
    }

    #[test]
    fn a_full_receiver_is_an_error_not_a_wait() {
        let (sender, _receiver) = UnixDatagram::pair().unwrap();
        let error = loop {
            if let Err(error) = send_many(sender.as_fd(), &[IoSlice::new(b"x"); SEND_MANY]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn questions_to_the_system_have_sane_answers() {
        assert!(clock_state().is_some());
        assert!(local_offset(1_795_424_551).abs() < 16 * 3600);
        assert!(canonical_name("localhost").is_some_and(|name| !name.is_empty()));
        assert_eq!(canonical_name("no\0name"), None);
    }
}
