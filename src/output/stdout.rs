//! Standard output: for pipes, tests and looking.
//!
//! Law: whoever reads our standard output may be slow, and a file cannot be waited for, so the writes run
//! on a thread of the runtime's pool and hold up no other destination.

use std::io::{self, Write};

use super::Hand;
use crate::queue::Consumer;
use crate::telemetry::DestinationCounters;

/// Standard output as a destination.
pub(super) struct Stdout;

impl Stdout {
    /// Sends everything in `hand`.
    pub(super) async fn send(
        &self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        while let Some(front) = hand.batches.front_mut() {
            let bytes = std::mem::take(&mut front.bytes);
            let offset = hand.offset;
            let write = move || {
                let mut out = io::stdout().lock();
                let result = out.write_all(&bytes[offset..]).and_then(|()| out.flush());
                (bytes, result)
            };
            let (bytes, result) = tokio::task::spawn_blocking(write)
                .await
                .map_err(io::Error::other)?;
            front.bytes = bytes;
            result?;
            let length = front.bytes.len() - offset;
            hand.advance(length, consumer, counters);
        }
        Ok(())
    }
}
