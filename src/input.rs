//! 1 READ: standard input, in large blocks.
//!
//! Promise: whatever has arrived is read at once, in one call; the wait for it can always be interrupted.
//! Law: never blocks the thread it runs on, except for a file, whose reads end by themselves.
//!
//! auditd writes each record by itself and its socket holds only about 278 of them (21 frames of the
//! fixed form), so every moment that passes before the next read is taken from the whole host's audit.
//! Standard input may be blocking (auditd from 3.0 on) or not (auditd 2.x) and is not ours to change, so a
//! socket is read with `MSG_DONTWAIT`, anything else after poll(2) has said that there is something.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, SockType, getsockopt, recv, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::audit::Decoder;
use crate::sys;

/// Bytes asked for in one read. auditd's socket gives 61 KiB at most; a pipe and a file fill it.
const READ: usize = 128 * 1024;

/// What a pipe should hold: two whole reads, so that its writer fills one while the other is worked on. With the usual
/// 64 KiB, writer, relay and receiver wake each other twice as often, which costs more than the bytes. All of it is gone
/// with a relay that is killed, so it is no more than that.
const PIPE: i32 = 256 * 1024;

/// Pause when the kernel is short of memory.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(5);

/// How often [`Input::read_now`] tries then.
const TRIES: u32 = 20;

/// What [`Input::wait`] saw.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// So many bytes more are there.
    Data(usize),
    /// The input has ended; no more will come.
    Ended,
    /// The control side, or an output that has room, wants attention.
    Woken,
    /// Nothing is there now ([`Input::read_now`] only).
    Nothing,
}

/// What can be waited for, and what is always ready.
#[derive(Debug)]
enum Source {
    /// Sockets, pipes, terminals.
    Watched(AsyncFd<OwnedFd>),
    /// Files: epoll(7) refuses them.
    File(OwnedFd),
}

/// The input and the bytes read from it that are not yet consumed.
#[derive(Debug)]
pub struct Input {
    source: Source,
    is_socket: bool,
    /// A byte stream: what one read leaves behind is nothing, if there was room for more.
    is_stream_socket: bool,
    may_gather: bool,
    /// The last read left nothing behind.
    drained: bool,
    buffer: Box<[u8]>,
    /// `0 <= start <= end <= buffer.len()`; the bytes between the two are pending.
    start: usize,
    end: usize,
}

/// True for a file or a block device: nobody can wait for those, and a read lasts as long as the disk lets it, so it
/// wants a thread of its own.
///
/// # Errors
/// The system has no descriptor left, or `source` is closed.
pub fn blocks(source: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = File::from(source.try_clone_to_owned()?).metadata()?.file_type();
    Ok(kind.is_file() || kind.is_block_device())
}

impl Input {
    /// Reads from `source`. Must be called on the runtime that is to drive it.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn new(source: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = getsockopt(&source, sockopt::SockType);
        let flags = OFlag::from_bits_truncate(fcntl(source, FcntlArg::F_GETFL)?);
        // Only pipes have a size. Where the account's pipes hold too much already it stays as it is.
        if fcntl(source, FcntlArg::F_GETPIPE_SZ).is_ok_and(|size| size < PIPE) {
            let _ = fcntl(source, FcntlArg::F_SETPIPE_SZ(PIPE));
        }
        let source = source.try_clone_to_owned()?;
        let source = match sys::watch_input(source) {
            Ok(watched) => Source::Watched(watched),
            Err((file, error)) if error.raw_os_error() == Some(libc::EPERM) => Source::File(file),
            Err((_, error)) => return Err(error),
        };
        let buffer = vec![0; Decoder::MAX_PENDING + READ].into_boxed_slice();
        Ok(Self {
            is_socket: kind.is_ok(),
            is_stream_socket: kind == Ok(SockType::Stream),
            may_gather: matches!(source, Source::Watched(_)) && !flags.contains(OFlag::O_NONBLOCK),
            source,
            drained: true,
            buffer,
            start: 0,
            end: 0,
        })
    }

    /// False if nothing may wait in this input: a file is read as fast as it goes, and the dispatcher of auditd 2.x,
    /// which alone makes standard input non-blocking, throws away what its full socket does not take (`disp_qos`).
    pub fn may_gather(&self) -> bool {
        self.may_gather
    }

    /// Bytes read and not yet consumed.
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes `count` bytes off the front of [`Self::pending`].
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// Waits for bytes, the end, or a call of `waker`, and reads what there is.
    ///
    /// # Errors
    /// What read(2) says, other than that there is nothing now.
    pub async fn wait(&mut self, waker: &Notify) -> io::Result<Event> {
        tokio::select! {
            biased;
            () = waker.notified() => Ok(Event::Woken),
            event = self.next() => event,
        }
    }

    /// Nothing is awaited behind a read, so a wait that is given up loses nothing.
    async fn next(&mut self) -> io::Result<Event> {
        self.make_room();
        let room = &mut self.buffer[self.end..];
        if !self.drained {
            // The outputs have their turn between two reads of what never lets us wait, a file say.
            tokio::task::yield_now().await;
        }
        let count = match &self.source {
            Source::File(file) => loop {
                match nix::unistd::read(file, room) {
                    Err(Errno::EINTR) => {}
                    Err(Errno::ENOMEM | Errno::ENOBUFS) => tokio::time::sleep(NO_MEMORY_PAUSE).await,
                    read => break read?,
                }
            },
            Source::Watched(source) => loop {
                let mut ready = source.readable().await?;
                match read_if_ready(source.get_ref(), self.is_socket, room) {
                    Ok(count) => {
                        // The kernel had no more. What comes from now on is reported anew, so the next wait need
                        // not find out by a read in vain.
                        if count < room.len() && self.is_stream_socket {
                            ready.clear_ready();
                        }
                        break count;
                    }
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    Err(Errno::EINTR) => {}
                    // Says nothing about the input, which must not end for it.
                    Err(Errno::ENOMEM | Errno::ENOBUFS) => tokio::time::sleep(NO_MEMORY_PAUSE).await,
                    Err(error) => return Err(error.into()),
                }
            },
        };
        Ok(self.taken(count))
    }

    /// Reads what there is, without waiting for more.
    ///
    /// # Errors
    /// As [`Input::wait`].
    pub fn read_now(&mut self) -> io::Result<Event> {
        self.make_room();
        let room = &mut self.buffer[self.end..];
        for _ in 0..TRIES {
            let read = match &self.source {
                Source::File(file) => nix::unistd::read(file, &mut *room),
                Source::Watched(source) => read_if_ready(source.get_ref(), self.is_socket, room),
            };
            match read {
                Ok(count) => return Ok(self.taken(count)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // "Nothing" may be taken for the end, and there may be something.
                Err(Errno::ENOMEM | Errno::ENOBUFS) => sys::sleep(NO_MEMORY_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Event::Nothing)
    }

    fn taken(&mut self, count: usize) -> Event {
        let room = self.buffer.len() - self.end;
        self.drained = count < room && self.is_stream_socket;
        self.end += count;
        if count == 0 { Event::Ended } else { Event::Data(count) }
    }

    /// Moves the pending bytes to the front if there is not room for a whole read behind them.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < READ {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

/// One read that does not block, also where the descriptor does. `EAGAIN`: there is nothing now.
fn read_if_ready(source: &OwnedFd, is_socket: bool, room: &mut [u8]) -> nix::Result<usize> {
    if is_socket {
        return recv(source.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT);
    }
    let mut wait = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
    // Nobody else reads it, so what is there stays there until the read.
    if poll(&mut wait, PollTimeout::ZERO)? == 0 {
        return Err(Errno::EAGAIN);
    }
    nix::unistd::read(source, room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn data_wake_up_and_end() {
        for nonblocking in [true, false] {
            run(async {
                let (mut feed, source) = UnixStream::pair().unwrap();
                // True is how auditd 2.x hands it over.
                source.set_nonblocking(nonblocking).unwrap();
                let waker = Notify::new();
                let mut input = Input::new(source.as_fd()).unwrap();
                assert_eq!(input.read_now().unwrap(), Event::Nothing);
                feed.write_all(b"abc").unwrap();
                assert_eq!(input.wait(&waker).await.unwrap(), Event::Data(3));
                assert_eq!(input.pending(), b"abc");
                input.consume(2);
                feed.write_all(b"def").unwrap();
                assert_eq!(input.wait(&waker).await.unwrap(), Event::Data(3));
                assert_eq!(input.pending(), b"cdef");
                let nothing = tokio::time::timeout(Duration::from_millis(20), input.wait(&waker)).await;
                assert!(nothing.is_err(), "{nothing:?}");
                waker.notify_one();
                assert_eq!(input.wait(&waker).await.unwrap(), Event::Woken);
                assert_eq!(input.read_now().unwrap(), Event::Nothing);
                drop(feed);
                assert_eq!(input.wait(&waker).await.unwrap(), Event::Ended);
                assert_eq!(input.pending(), b"cdef");
            });
        }
    }

    #[test]
    fn a_pipe_holds_two_reads_and_no_larger_one_shrinks() {
        run(async {
            for (before, after) in [(4096, PIPE), (2 * PIPE, 2 * PIPE)] {
                let (source, _feed) = io::pipe().unwrap();
                fcntl(&source, FcntlArg::F_SETPIPE_SZ(before)).unwrap();
                let _input = Input::new(source.as_fd()).unwrap();
                assert_eq!(fcntl(&source, FcntlArg::F_GETPIPE_SZ).unwrap(), after);
            }
        });
    }

    #[test]
    fn only_files_block() {
        let (pipe, _feed) = io::pipe().unwrap();
        let (socket, _peer) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        for (source, expected) in [
            (pipe.as_fd(), false),
            (socket.as_fd(), false),
            (null.as_fd(), false),
            (tempfile::tempfile().unwrap().as_fd(), true),
        ] {
            assert_eq!(blocks(source).unwrap(), expected, "{source:?}");
        }
    }

    #[test]
    fn there_is_always_room_for_a_whole_read() {
        run(async {
            let (mut feed, source) = UnixStream::pair().unwrap();
            let mut input = Input::new(source.as_fd()).unwrap();
            let writer = std::thread::spawn(move || feed.write_all(&vec![b'x'; 2_000_000]).unwrap());
            let mut seen = 0;
            let waker = Notify::new();
            while let Event::Data(_) = input.wait(&waker).await.unwrap() {
                let keep = Decoder::MAX_PENDING.min(input.pending().len());
                let take = input.pending().len() - keep;
                input.consume(take);
                seen += take;
            }
            writer.join().unwrap();
            assert_eq!(seen + input.pending().len(), 2_000_000);
        });
    }

    #[test]
    fn pipes_and_files_are_read_to_their_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'x'; 500_000]).unwrap();
        file.rewind().unwrap();
        let (pipe, feed) = nix::unistd::pipe().unwrap();
        let writer = std::thread::spawn(move || {
            File::from(feed).write_all(&vec![b'x'; 500_000]).unwrap();
        });
        for source in [OwnedFd::from(file), pipe] {
            run(async {
                let mut input = Input::new(source.as_fd()).unwrap();
                let (waker, mut seen) = (Notify::new(), 0);
                while let Event::Data(count) = input.wait(&waker).await.unwrap() {
                    seen += count;
                    input.consume(count);
                }
                assert_eq!(seen, 500_000);
            });
        }
        writer.join().unwrap();
    }
}
