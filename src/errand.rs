//! Work that may take long, on a thread of its own: name look-ups, the reading of configuration and certificates.
//!
//! Promise: a thread that the system refuses (EAGAIN at a limit of processes or memory) is an error, which the caller
//! answers as it answers any other failure: by trying again. The runtime's own pool would panic, and with it end the
//! relay and all that it holds. Law: knows nothing of the work; nobody waits for a thread at the end.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// The answer of work that has begun. An error only if the work has panicked.
pub type Answer<T> = oneshot::Receiver<T>;

/// Begins `work` on a thread. Costs some 20 microseconds, so it is not for what happens often.
///
/// # Errors
/// The system has no thread left.
pub fn begin<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Answer<T>> {
    let (answer, receiver) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || drop(answer.send(work())))
        .map_err(|error| io::Error::new(error.kind(), format!("the system gives no thread: {error}")))?;
    Ok(receiver)
}
