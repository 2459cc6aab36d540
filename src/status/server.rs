//! Answers clients, as a task beside the outputs.
//!
//! Promise: a question is answered with the numbers of that moment, whoever else has come and says nothing. Law: each
//! listener has [`MOST`] clients at a time, each for [`PATIENCE`] at most, and takes a new one every [`SPACING`] at most, so
//! that whoever asks without end costs a bounded share of the thread; a client that does not read costs its own time only.
//! Where there is no place left, the one that has been silent for longest makes room.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::{error, warn};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::door::{Doors, Shared};
use super::exchange::{LONGEST, Question};
use crate::telemetry::Report;

/// Clients of one listener at a time.
const MOST: usize = 8;

/// How long a client may take from its connection to its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shortest time between two clients of one listener.
const SPACING: Duration = Duration::from_millis(20);

/// Pause when the system gives no descriptor.
const SHORTAGE: Duration = Duration::from_secs(1);

/// Somebody wants the numbers.
#[derive(Debug)]
pub struct Ask(oneshot::Sender<Report>);

impl Ask {
    /// Gives them.
    pub fn answer(self, report: Report) {
        let _ = self.0.send(report);
    }
}

/// The running tasks.
#[derive(Debug)]
pub struct Server {
    asks: mpsc::Receiver<Ask>,
    /// Kept, so that `asks` does not end.
    _asker: mpsc::Sender<Ask>,
    port: Option<JoinHandle<()>>,
    /// Where the instance before listened, too, when this one began.
    shared: Option<Shared>,
}

impl Server {
    /// Takes up the listeners of `doors`. Call on the runtime.
    ///
    /// # Errors
    /// The system has no room left in its epoll.
    pub fn start(doors: &mut Doors) -> io::Result<Self> {
        let (asker, asks) = mpsc::channel(1);
        if let Some(socket) = doors.socket.take() {
            let (listener, asker) = (UnixListener::from_std(socket)?, asker.clone());
            tokio::spawn(async move {
                let accept = || async { listener.accept().await.map(|(client, _)| client) };
                serve(accept, asker, false).await;
            });
        }
        let mut shared = None;
        let port = match doors.port.take() {
            None => None,
            Some(port) => {
                shared = port.shared;
                let (listener, asker) = (TcpListener::from_std(port.listener)?, asker.clone());
                Some(tokio::spawn(async move {
                    let accept = || async { listener.accept().await.map(|(client, _)| client) };
                    serve(accept, asker, true).await;
                }))
            }
        };
        Ok(Self { asks, _asker: asker, port, shared })
    }

    /// Waits for the next who asks. Dropping the future loses nothing.
    pub async fn asked(&mut self) -> Ask {
        match self.asks.recv().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }

    /// Leaves the port to the next instance, which may be there already. The socket's name is its own anyway.
    pub fn leave_port(&mut self) {
        if let Some(port) = self.port.take() {
            port.abort();
        }
    }

    /// The instance before has ended: the port is ours alone.
    pub fn keep_port(&mut self) {
        self.shared = None;
    }

    /// Leaves a port at which the instance before goes on listening, if it does, and says so: a client would be told now the
    /// numbers of one, now those of the other.
    pub fn leave_shared_port(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        let address = shared.address;
        if shared.is_still() {
            self.leave_port();
            error!(
                "metrics: another relay goes on listening on {address}; going on without. If both are meant to run, give \
                 each a port of its own (`metrics`)"
            );
        }
    }
}

async fn serve<S, A>(accept: impl Fn() -> A, asker: mpsc::Sender<Ask>, metrics_only: bool)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Future<Output = io::Result<S>>,
{
    let mut clients = Clients::default();
    let mut complained = false;
    loop {
        match accept().await {
            Ok(client) => {
                clients.make_room();
                let (asker, has_asked) = (asker.clone(), Arc::new(AtomicBool::new(false)));
                let tell = Arc::clone(&has_asked);
                let task = tokio::spawn(async move {
                    // Whoever is too slow, or goes away, has only missed his answer.
                    let talk = converse(client, asker, metrics_only, &tell);
                    let _ = tokio::time::timeout(PATIENCE, talk).await;
                });
                clients.0.push_back(Client { task, has_asked });
                tokio::time::sleep(SPACING).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    warn!("status: a client could not be taken: {error}; trying again");
                }
                tokio::time::sleep(SHORTAGE).await;
            }
        }
    }
}

#[derive(Debug)]
struct Client {
    task: JoinHandle<()>,
    /// Its question is whole.
    has_asked: Arc<AtomicBool>,
}

/// Those of one listener, in the order in which they came.
#[derive(Debug, Default)]
struct Clients(VecDeque<Client>);

impl Clients {
    /// Sends one away if there are [`MOST`]: the first that has not asked yet, else the first, which does not read.
    fn make_room(&mut self) {
        self.0.retain(|client| !client.task.is_finished());
        if self.0.len() < MOST {
            return;
        }
        let silent = self.0.iter().position(|client| !client.has_asked.load(Ordering::Relaxed));
        if let Some(client) = self.0.remove(silent.unwrap_or(0)) {
            client.task.abort();
        }
    }
}

async fn converse<S>(
    mut client: S,
    asker: mpsc::Sender<Ask>,
    metrics_only: bool,
    has_asked: &AtomicBool,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut said = [0; LONGEST];
    let mut length = 0;
    let question = loop {
        let count = client.read(&mut said[length..]).await?;
        if count == 0 {
            return Ok(());
        }
        length += count;
        if let Some(question) = Question::read(&said[..length]) {
            break if metrics_only { question.metrics_only() } else { question };
        }
    };
    has_asked.store(true, Ordering::Relaxed);
    let report = if question.needs_report() {
        let (ask, told) = oneshot::channel();
        asker.send(Ask(ask)).await.map_err(io::Error::other)?;
        told.await.map_err(io::Error::other)?
    } else {
        Report::default()
    };
    client.write_all(&question.answer(&report)).await?;
    client.shutdown().await
}
