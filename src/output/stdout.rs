//! Standard output: for pipes, tests and looking.
//!
//! Promise: it is one stream of bytes from the start to the end. A write that fails is taken up again at its byte, so
//! that no line is torn or comes twice, and what counts as sent is what write(2) has taken. Law: whoever reads our
//! standard output may be slow, and a file cannot be waited for, so the writes run on a thread of their own and hold
//! up no other destination. Others share what it is (a terminal, a pipe of our parent's), so its flags are left as they
//! are: each write is so small that it does not wait once poll(2) has called the other end ready.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use bytes::BytesMut;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

use super::hand::Hand;
use crate::queue::Consumer;
use crate::sys;
use crate::telemetry::DestinationCounters;

/// Most bytes of one write: PIPE_BUF, what a pipe takes without waiting when poll(2) says that it takes anything.
const PIECE: usize = 4096;

/// How long to rest where poll(2) says ready and write(2) does not: terminals may.
const REST: Duration = Duration::from_millis(10);

/// Bytes to be written from an offset on.
#[derive(Debug)]
struct Job {
    bytes: BytesMut,
    offset: usize,
    progress: Mutex<Progress>,
}

/// How far a job has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Progress {
    /// Bytes that write(2) has taken.
    written: usize,
    /// Bytes with which a write(2) is under way.
    under_way: usize,
    /// No other write is to begin.
    is_called_off: bool,
}

/// A job, and where to say how it ended.
type Order = (Arc<Job>, oneshot::Sender<io::Result<()>>);

/// Standard output as a destination. The thread ends with it.
#[derive(Debug)]
pub(super) struct Stdout {
    orders: mpsc::Sender<Order>,
    /// What the thread is at. It stays here when a wait for it is given up.
    job: Option<Arc<Job>>,
}

impl Stdout {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has none left.
    pub(super) fn open() -> io::Result<Self> {
        let (orders, todo) = mpsc::channel::<Order>();
        crate::errand::begin("stdout", move || {
            for (job, done) in todo {
                let result = job.write(&io::stdout());
                // Whoever gets the answer gets the bytes.
                drop(job);
                let _ = done.send(result);
            }
        })?;
        Ok(Self { orders, job: None })
    }

    /// Sends everything in `hand`.
    pub(super) async fn send(
        &mut self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        while let Some((bytes, offset)) = hand.lend_bytes() {
            let job = self.job.insert(Arc::new(Job::new(bytes, offset)));
            let (done, wait) = oneshot::channel();
            // The thread lives as long as we do.
            let _ = self.orders.send((Arc::clone(job), done));
            let result = wait.await.map_err(io::Error::other);
            self.settle(hand, consumer, counters);
            result??;
        }
        Ok(())
    }

    /// Ends what is under way, and counts what of it is written. A write that has begun cannot be taken back, and
    /// may wait for ever: its records are counted as such that may arrive.
    pub(super) fn settle(&mut self, hand: &mut Hand, consumer: &Consumer, counters: &DestinationCounters) {
        let Some(job) = self.job.take() else { return };
        let Progress { written, under_way, .. } = job.call_off();
        hand.restore_bytes(Arc::try_unwrap(job).map_or_else(|job| job.bytes.clone(), |job| job.bytes));
        hand.advance(written, false, consumer, counters);
        counters.unacknowledged(hand.records_within(under_way));
    }
}

impl Job {
    fn new(bytes: BytesMut, offset: usize) -> Self {
        Self { bytes, offset, progress: Mutex::default() }
    }

    /// Writes everything, unless it is called off.
    fn write(&self, out: &impl AsFd) -> io::Result<()> {
        loop {
            // Without a limit: if it is called off meanwhile, nobody waits for this thread.
            let ready = poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            if ready == Err(Errno::EINTR) {
                continue;
            }
            let Some(piece) = self.begin() else { return Ok(()) };
            let taken = nix::unistd::write(out, piece);
            self.end(taken.unwrap_or(0));
            match taken {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => sys::sleep(REST),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next; `None`: nothing.
    fn begin(&self) -> Option<&[u8]> {
        let mut progress = self.progress();
        let rest = &self.bytes[self.offset + progress.written..];
        if rest.is_empty() || progress.is_called_off {
            return None;
        }
        progress.under_way = rest.len().min(PIECE);
        Some(&rest[..progress.under_way])
    }

    fn end(&self, taken: usize) {
        let mut progress = self.progress();
        progress.written += taken;
        progress.under_way = 0;
    }

    fn call_off(&self) -> Progress {
        let mut progress = self.progress();
        progress.is_called_off = true;
        *progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use std::io::Read as _;
    use std::sync::mpsc::channel;
    use std::thread;

    fn text(length: usize) -> BytesMut {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    /// The reader takes it in small portions; a pipe that does not wait and one that does come to the same.
    #[test]
    fn every_byte_is_written_once_whatever_the_pipe_takes_at_a_time() {
        for flags in [OFlag::empty(), OFlag::O_NONBLOCK] {
            let (reader, writer) = nix::unistd::pipe2(flags).unwrap();
            let job = Job::new(text(300_000), 1000);
            let reading = thread::spawn(move || {
                let (mut reader, mut all, mut portion) = (std::fs::File::from(reader), Vec::new(), [0; 1777]);
                loop {
                    match reader.read(&mut portion) {
                        Ok(0) => return all,
                        Ok(count) => all.extend_from_slice(&portion[..count]),
                        Err(_) => thread::yield_now(),
                    }
                }
            });
            job.write(&writer).unwrap();
            drop(writer);
            assert!(reading.join().unwrap() == text(300_000)[1000..], "{flags:?}");
            assert_eq!(job.call_off().written, 299_000);
        }
    }

    #[test]
    fn what_is_called_off_is_written_no_further_and_known_to_the_byte() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let job = Arc::new(Job::new(text(300_000), 0));
        let (ended, end) = channel();
        let at_work = Arc::clone(&job);
        thread::spawn(move || ended.send((at_work.write(&writer), writer)).unwrap());
        // The pipe is full, as soon as nothing more is taken.
        let mut before = 0;
        loop {
            thread::sleep(Duration::from_millis(50));
            let written = job.progress().written;
            if written > 0 && written == before {
                break;
            }
            before = written;
        }
        let progress = job.call_off();
        assert_eq!(progress, Progress { written: before, under_way: 0, is_called_off: true });
        let mut first = vec![0; before];
        let mut reader = std::fs::File::from(reader);
        reader.read_exact(&mut first).unwrap();
        // It is awake by now, and writes no more.
        let (result, writer) = end.recv().unwrap();
        result.unwrap();
        drop(writer);
        assert!(first == text(300_000)[..before]);
        assert_eq!(reader.read(&mut first).unwrap(), 0);
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        let job = Job::new(text(10), 0);
        assert_eq!(job.write(&writer).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(job.call_off().written, 0);
    }
}
