//! RELP over TCP or TLS: every message is the receiver's before it is ours no more.
//!
//! Promise: a message counts as sent when the receiver has answered for it; what is not answered when a
//! connection ends goes over the next one. Law: never more messages under way than the window; a receiver that
//! answers nothing for `tcp-user-timeout` is given up; what it says is read in small, bounded pieces.
//!
//! The batches hold bare messages; the frames around them are made here, because transaction numbers belong to the
//! connection. While there is much to send, the next messages wait until half of the window is free, and answers are
//! left to gather for a moment, so that a receiver which answers one by one costs no system call for each.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

use super::hand::Hand;
use super::service::Service;
use super::stream::closed_by_receiver;
use super::wire::Wire;
use crate::queue::Consumer;
use crate::sys::Timer;
use crate::syslog::relp::{Reader, RelpError, Said, Settled, Window, offers, put_frame, takes_syslog};
use crate::telemetry::{DestinationCounters, Reason};

/// Frames are made for one write until they have this many bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// How long to let answers gather while more is to be sent than the window has room for. rsyslogd 8.2302 answers
/// some 90 messages in a millisecond, one write each: with this pause a message costs the relay two fifths of what
/// it costs without, at the same rate (tuning.md).
const GATHERING: Duration = Duration::from_micros(300);

/// Reads of answers in one go.
const READS_AT_ONCE: usize = 8;

/// Limit for the receiver's answer to our `close`.
const FAREWELL: Duration = Duration::from_secs(1);

/// The transaction number of `open`; the first message has the next one.
const OPEN: u32 = 1;

/// An open RELP session.
#[derive(Debug)]
pub(super) struct Relp {
    wire: Wire,
    reader: Reader,
    window: Window,
    /// Frames that are not written yet.
    out: BytesMut,
    /// Position up to which the receiver has answered.
    acknowledged: u64,
    patience: Duration,
    /// Since when a message waits for an answer without any other's having come; not if none waits.
    waiting_since: Option<Instant>,
    timer: AsyncFd<Timer>,
    /// Our `close` is sent; its number.
    closing: Option<u32>,
    /// The receiver wants the connection to end.
    closed: bool,
}

/// Waits for less than the millisecond in which the runtime's timers count.
async fn pause(timer: &AsyncFd<Timer>, time: Duration) -> io::Result<()> {
    timer.get_ref().set(time)?;
    loop {
        let mut ready = timer.readable().await?;
        if ready.get_inner().has_expired()? {
            return Ok(());
        }
        ready.clear_ready();
    }
}

fn violated(error: RelpError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Relp {
    /// Opens a session. The caller limits the time.
    ///
    /// # Errors
    /// The receiver does not speak RELP, or does not take syslog messages.
    pub(super) async fn open(wire: Wire, service: &Service) -> io::Result<Self> {
        let mut relp = Self {
            wire,
            reader: Reader::default(),
            window: Window::new(service.relp_window, OPEN + 1),
            out: BytesMut::with_capacity(WRITE_BYTES + WRITE_BYTES / 4),
            acknowledged: 0,
            patience: service.tcp_user_timeout,
            waiting_since: None,
            timer: Timer::new()?,
            closing: None,
            closed: false,
        };
        put_frame(&mut relp.out, OPEN, "open", offers().as_bytes());
        poll_fn(|cx| relp.poll_open(cx)).await?;
        Ok(relp)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            let opened = self.reader.hear(|said| match said {
                Said::Answer { txnr: OPEN, code: 200, rest } if takes_syslog(rest) => Ok(()),
                Said::Answer { txnr: OPEN, code: 200, .. } => {
                    Err("the receiver does not offer to take syslog messages".to_owned())
                }
                Said::Answer { rest, code, .. } => {
                    let why: String = String::from_utf8_lossy(rest).escape_default().take(200).collect();
                    Err(format!("the receiver refuses the session: {code}{why}"))
                }
                Said::Closing => Err("the receiver refuses the session".to_owned()),
            });
            match opened.map_err(violated) {
                Ok(Some(result)) => return Poll::Ready(result.map_err(io::Error::other)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let mut space = [0; 2048];
            match self.wire.poll_read(cx, &mut space) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(closed_by_receiver())),
                Poll::Ready(Ok(count)) => self.reader.push(&space[..count]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Position of the last byte that the receiver has answered for.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Writes frames; ready with whether there was anything to write.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut any = false;
        while !self.out.is_empty() {
            match self.wire.poll_write(cx, &[IoSlice::new(&self.out)]) {
                Poll::Ready(Ok(count)) => {
                    self.out.advance(count);
                    any = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return if any { Poll::Ready(Ok(true)) } else { Poll::Pending },
            }
        }
        Poll::Ready(Ok(any))
    }

    /// Reads what the receiver says; ready once there was an answer, or with what ends the connection.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut answered = false;
        let mut space = [0; 4096];
        for _ in 0..READS_AT_ONCE {
            match self.wire.poll_read(cx, &mut space) {
                Poll::Ready(Ok(0)) => {
                    self.closed = true;
                    // Answers that came before the end still count.
                    return Poll::Ready(if answered { Ok(()) } else { Err(closed_by_receiver()) });
                }
                Poll::Ready(Ok(count)) => {
                    self.reader.push(&space[..count]);
                    if let Err(error) = self.listen(&mut answered) {
                        return Poll::Ready(Err(error));
                    }
                    if answered {
                        self.waiting_since = (self.window.unanswered() > 0).then(Instant::now);
                    }
                    // A receiver may say that it closes, and leave the connection open.
                    if self.closed && !answered {
                        return Poll::Ready(Err(closed_by_receiver()));
                    }
                    // Less than there was room for: that was all, and asking again would cost a system call.
                    if count < space.len() && answered {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return if answered { Poll::Ready(Ok(())) } else { Poll::Pending },
            }
        }
        cx.waker().wake_by_ref();
        if answered { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Takes note of everything that has been said.
    fn listen(&mut self, answered: &mut bool) -> io::Result<()> {
        let (window, closing) = (&mut self.window, self.closing);
        loop {
            let heard = self.reader.hear(|said| match said {
                Said::Answer { txnr, .. } if closing == Some(txnr) => Ok(true),
                Said::Answer { txnr, code, .. } => {
                    *answered = true;
                    window.answer(txnr, code == 200).map(|()| false)
                }
                Said::Closing => Ok(true),
            });
            match heard.and_then(Option::transpose).map_err(violated)? {
                None => return Ok(()),
                Some(ending) => self.closed |= ending,
            }
        }
    }

    /// Settles what has been answered.
    pub(super) fn settle(&mut self, hand: &mut Hand, consumer: &Consumer, counters: &DestinationCounters) {
        let mut position = None;
        while let Some(settled) = self.window.settle() {
            position = Some(match settled {
                Settled::Accepted(position) => position,
                Settled::Refused(position) => {
                    hand.lose_written(position, Reason::Refused, counters);
                    position
                }
            });
        }
        if let Some(position) = position.and_then(|position| u64::try_from(position).ok()) {
            self.acknowledged = position;
            hand.acknowledge(position, consumer, counters);
        }
    }

    /// True if the window has no room for as many messages as are worth a write.
    fn must_wait_for_room(&self) -> bool {
        self.window.room() < self.window.size().div_ceil(2)
    }

    /// Makes frames of what is in `hand`, as far as the window lets.
    fn compose(&mut self, hand: &mut Hand, consumer: &Consumer, counters: &DestinationCounters) {
        while self.out.len() < WRITE_BYTES {
            let Some((front, done)) = hand.front() else { return };
            let left = front.entries().len() - done;
            let room = self.window.room();
            if room < left && self.must_wait_for_room() {
                return;
            }
            let start = front.start(done);
            let base = hand.written() - i64::try_from(start).unwrap_or(i64::MAX);
            let mut end = start;
            for at in done..done + left.min(room) {
                put_frame(&mut self.out, self.window.next_txnr(), "syslog", front.message(at));
                end = front.entries()[at].end();
                self.window.send(base + i64::try_from(end).unwrap_or(i64::MAX));
                if self.out.len() >= WRITE_BYTES {
                    break;
                }
            }
            hand.advance(end - start, true, consumer, counters);
            self.waiting_since.get_or_insert_with(Instant::now);
        }
    }

    /// When a receiver that does not answer is given up. What goes on being written to it does not put that off.
    fn limit(&self) -> Instant {
        self.waiting_since.unwrap_or_else(Instant::now) + self.patience
    }

    /// Sends everything in `hand`; what is sent stays there until it is answered.
    pub(super) async fn send(
        &mut self,
        hand: &mut Hand,
        consumer: &Consumer,
        counters: &DestinationCounters,
    ) -> io::Result<()> {
        loop {
            // First, since answers may have been heard while there was nothing to send: what is answered makes room,
            // and nothing more may come to wait for.
            self.settle(hand, consumer, counters);
            self.check(hand.is_empty())?;
            self.compose(hand, consumer, counters);
            if self.out.is_empty() && hand.is_empty() {
                return Ok(());
            }
            if self.out.is_empty() && self.window.unanswered() == 0 {
                // Nothing could be added, and there is no answer to wait for.
                return Err(refuses_all());
            }
            let (patience, limit, waiting) = (self.patience, self.limit(), self.window.unanswered());
            let forward = poll_fn(|cx| {
                let answers = self.poll_answers(cx);
                if let Poll::Ready(Err(error)) = answers {
                    return Poll::Ready(Err(error));
                }
                match self.poll_out(cx) {
                    Poll::Ready(Ok(true)) => Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(false)) | Poll::Pending => answers,
                }
            });
            timeout_at(limit, forward).await.map_err(|_| silent(patience))??;
            self.settle(hand, consumer, counters);
            let answers = waiting.saturating_sub(self.window.unanswered());
            if answers > 0 && self.out.is_empty() && self.must_wait_for_room() {
                // Some receivers write their answers one by one. Reading them one by one would cost a wake-up each.
                if answers < self.window.size() / 8 {
                    pause(&self.timer, GATHERING).await?;
                }
                self.wire.acknowledge_now();
            }
        }
    }

    /// Whether the session is of use. `nothing_to_send`: no message waits to be sent.
    fn check(&self, nothing_to_send: bool) -> io::Result<()> {
        if self.closed && self.closing.is_none() {
            return Err(closed_by_receiver());
        }
        if self.window.is_all_refused(nothing_to_send) {
            return Err(refuses_all());
        }
        Ok(())
    }

    /// Waits for answers, with everything sent. [`Relp::settle`] follows.
    pub(super) async fn answered(&mut self) -> io::Result<()> {
        self.check(true)?;
        let patience = self.patience;
        if self.window.unanswered() == 0 {
            return poll_fn(|cx| self.poll_answers(cx)).await;
        }
        let limit = self.limit();
        timeout_at(limit, poll_fn(|cx| self.poll_answers(cx))).await.map_err(|_| silent(patience))??;
        if self.window.unanswered() > 0 {
            self.wire.acknowledge_now();
        }
        Ok(())
    }

    /// Ends the session: `close`, the receiver's answer to it, and the connection.
    pub(super) async fn finish(&mut self) {
        let txnr = self.window.next_txnr();
        self.closing = Some(txnr);
        put_frame(&mut self.out, txnr, "close", b"");
        let farewell = poll_fn(|cx| {
            if let Poll::Ready(Err(_)) = self.poll_out(cx) {
                return Poll::Ready(());
            }
            while !self.closed {
                match self.poll_answers(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        });
        let _ = timeout(FAREWELL, farewell).await;
        let _ = self.wire.finish().await;
    }
}

fn refuses_all() -> io::Error {
    io::Error::other("the receiver refuses every message")
}

fn silent(patience: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no answer from the receiver for {} s (tcp-user-timeout)", patience.as_secs_f32()),
    )
}
