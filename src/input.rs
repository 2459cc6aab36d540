//! 1 READ: standard input, in large blocks.
//!
//! Promise: whatever has arrived is read at once, in one call. Law: the thread waits here and nowhere
//! else, and can always be woken.
//!
//! auditd writes each record by itself and its socket holds only about 278 of them (21 frames of the
//! fixed form), so every moment that this thread spends elsewhere is taken from the whole host's audit.
//! Waiting is poll(2), not a blocking read, because the thread must also hear the control side, and
//! because standard input may be non-blocking (auditd 2.x sets that) and is not ours to change.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::audit::Decoder;

/// Bytes asked for in one read. A pipe gives 64 KiB at most and auditd's socket 61 KiB; a file fills it.
const READ: usize = 128 * 1024;

/// What [`Input::wait`] saw.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// More bytes are there.
    Data,
    /// The input has ended; no more will come.
    Ended,
    /// The control side, or an output that has room, wants attention.
    Woken,
    /// Nothing is there now ([`Input::read_now`] only).
    Nothing,
}

/// The input and the bytes read from it that are not yet consumed.
#[derive(Debug)]
pub struct Input<'fd> {
    source: BorrowedFd<'fd>,
    waker: Arc<EventFd>,
    buffer: Box<[u8]>,
    /// `0 <= start <= end <= buffer.len()`; the bytes between the two are pending.
    start: usize,
    end: usize,
}

impl<'fd> Input<'fd> {
    /// Reads from `source`; a write to `waker` interrupts the wait. `waker` must be non-blocking.
    pub fn new(source: BorrowedFd<'fd>, waker: Arc<EventFd>) -> Self {
        let buffer = vec![0; Decoder::MAX_PENDING + READ].into_boxed_slice();
        Self { source, waker, buffer, start: 0, end: 0 }
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

    /// Waits for bytes, the end, or a wake-up, and reads what there is.
    ///
    /// # Errors
    /// What read(2) or poll(2) say, other than that there is nothing now.
    pub fn wait(&mut self) -> io::Result<Event> {
        self.look(PollTimeout::NONE)
    }

    /// Reads what there is, without waiting.
    ///
    /// # Errors
    /// As [`Input::wait`].
    pub fn read_now(&mut self) -> io::Result<Event> {
        self.look(PollTimeout::ZERO)
    }

    fn look(&mut self, patience: PollTimeout) -> io::Result<Event> {
        loop {
            let mut waits = [
                PollFd::new(self.source, PollFlags::POLLIN),
                PollFd::new(self.waker.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut waits, patience) {
                Ok(0) => return Ok(Event::Nothing),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if waits[1].any().unwrap_or(false) {
                // Only resets the counter; EAGAIN means that somebody did so before.
                let _ = self.waker.read();
                return Ok(Event::Woken);
            }
            if !waits[0].any().unwrap_or(false) {
                continue;
            }
            self.make_room();
            match nix::unistd::read(self.source, &mut self.buffer[self.end..]) {
                Ok(0) => return Ok(Event::Ended),
                Ok(count) => {
                    self.end += count;
                    return Ok(Event::Data);
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EfdFlags;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn waker() -> Arc<EventFd> {
        Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap())
    }

    #[test]
    fn data_wake_up_and_end() {
        let (mut feed, source) = UnixStream::pair().unwrap();
        // As auditd 2.x hands it over.
        source.set_nonblocking(true).unwrap();
        let waker = waker();
        let mut input = Input::new(source.as_fd(), Arc::clone(&waker));
        feed.write_all(b"abc").unwrap();
        assert_eq!(input.wait().unwrap(), Event::Data);
        assert_eq!(input.pending(), b"abc");
        input.consume(2);
        feed.write_all(b"def").unwrap();
        assert_eq!(input.wait().unwrap(), Event::Data);
        assert_eq!(input.pending(), b"cdef");
        waker.write(1).unwrap();
        assert_eq!(input.wait().unwrap(), Event::Woken);
        assert_eq!(input.read_now().unwrap(), Event::Nothing);
        drop(feed);
        assert_eq!(input.wait().unwrap(), Event::Ended);
        assert_eq!(input.pending(), b"cdef");
    }

    #[test]
    fn there_is_always_room_for_a_whole_read() {
        let (mut feed, source) = UnixStream::pair().unwrap();
        let mut input = Input::new(source.as_fd(), waker());
        let writer = std::thread::spawn(move || feed.write_all(&vec![b'x'; 2_000_000]).unwrap());
        let mut seen = 0;
        while input.wait().unwrap() == Event::Data {
            let keep = Decoder::MAX_PENDING.min(input.pending().len());
            let take = input.pending().len() - keep;
            input.consume(take);
            seen += take;
        }
        writer.join().unwrap();
        assert_eq!(seen + input.pending().len(), 2_000_000);
    }
}
