//! Standard output: for pipes, tests and looking.
//!
//! Law: whoever reads our standard output may be slow, and a file cannot be waited for, so the writes run
//! on a thread of the runtime's pool and hold up no other destination.

use std::io::{self, Write};

use super::hand::Hand;
use crate::queue::Consumer;
use crate::telemetry::DestinationCounters;

/// Standard output as a destination.
#[derive(Debug)]
pub(super) struct Stdout;

impl Stdout {
    /// Sends everything in `hand`.
    pub(super) async fn send(
        &self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        while let Some((bytes, offset)) = hand.lend_bytes() {
            let write = move || {
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
            };
            let (bytes, written, result) =
                tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?;
            hand.restore_bytes(bytes);
            hand.advance(written, false, consumer, counters);
            result?;
        }
        Ok(())
    }
}
