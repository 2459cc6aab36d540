//! Standard output: for pipes, tests and looking.
//!
//! Law: whoever reads our standard output may be slow, and a file cannot be waited for, so the writes run
//! on a thread of their own and hold up no other destination.

use std::io::{self, Write};
use std::sync::mpsc;

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::hand::Hand;
use crate::queue::Consumer;
use crate::telemetry::DestinationCounters;

/// Bytes to be written from an offset on, and where to answer.
#[derive(Debug)]
struct Job {
    bytes: BytesMut,
    offset: usize,
    done: oneshot::Sender<Done>,
}

/// The bytes again, how many of them were written, and why not the others.
type Done = (BytesMut, usize, io::Result<()>);

/// Standard output as a destination. The thread ends with it.
#[derive(Debug)]
pub(super) struct Stdout {
    jobs: mpsc::Sender<Job>,
}

impl Stdout {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has none left.
    pub(super) fn open() -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        crate::errand::begin("stdout", move || {
            for Job { bytes, offset, done } in todo {
                let _ = done.send(write(bytes, offset));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Sends everything in `hand`.
    pub(super) async fn send(
        &self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        while let Some((bytes, offset)) = hand.lend_bytes() {
            let (done, wait) = oneshot::channel();
            // The thread lives as long as we do.
            let _ = self.jobs.send(Job { bytes, offset, done });
            let (bytes, written, result) = wait.await.map_err(io::Error::other)?;
            hand.restore_bytes(bytes);
            hand.advance(written, false, consumer, counters);
            result?;
        }
        Ok(())
    }
}

fn write(bytes: BytesMut, offset: usize) -> Done {
    let mut out = io::stdout().lock();
    let mut end = offset;
    let result = loop {
        if end == bytes.len() {
            break out.flush();
        }
        match out.write(&bytes[end..]) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => end += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    (bytes, end - offset, result)
}
