//! TLS over TCP: RFC 5425, with the suites and the limits of RFC 9662.
//!
//! Promise: what is handed over leaves encrypted in TLS records as large as there is text for, and
//! [`Tls::acknowledged`] tells how much of the *text* the peer's kernel has acknowledged. Law: no byte of text
//! leaves before the server's certificate has passed; no early data; no session is resumed. This folder is the
//! only place that names rustls.
//!
//! The peer's kernel acknowledges ciphertext, the hand counts text. After each flush a [`Mark`] pairs the two
//! positions; what is acknowledged is the last mark whose ciphertext has arrived.
//!
//! ```text
//! text        0 ....... 131072 ......... 200000 ...        mark = (text, ciphertext) after each flush
//! ciphertext  | handshake | ... 133200 ....... 203400
//! ```

mod material;
mod verify;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{error, info, warn};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConnection, Error, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::service::{TlsSettings, Verify};
use crate::certificate::{Facts, Fingerprint};
use crate::sys;
use crate::telemetry::Session;
pub(crate) use material::Material;
use verify::NotPinned;

/// Text that is encrypted and flushed in one go. More makes marks coarser and repetitions longer, less makes
/// more system calls.
const FLUSH_BYTES: usize = 128 * 1024;

/// A server may judge our certificate after the handshake is over for us: TLS 1.3 lets it, and an application may
/// compare names and fingerprints after its library has let us in. Until it has sent text, or for this long, nothing
/// counts as acknowledged. A session ticket is the library's and proves nothing.
const PROBATION: Duration = Duration::from_secs(2);

/// Reads of ciphertext in one go that bring no text.
const READS_AT_ONCE: usize = 64;

/// Limit for the peer's answer to our close_notify.
const FAREWELL: Duration = Duration::from_secs(1);

/// A certificate's end is announced this many days before it.
const DAYS_BEFORE: i64 = 30;

/// Where text and ciphertext were after a flush.
#[derive(Clone, Copy, Debug)]
struct Mark {
    text: u64,
    ciphertext: u64,
}

/// An open session.
#[derive(Debug)]
pub(super) struct Tls {
    socket: TcpStream,
    session: ClientConnection,
    material: Arc<Material>,
    /// Bytes given to the kernel, handshake included.
    ciphertext: u64,
    /// Bytes of text that went out with them.
    text: u64,
    /// Bytes of text that are encrypted and not flushed.
    pending: usize,
    marks: VecDeque<Mark>,
    /// Somebody will ask what is acknowledged, and so take marks away.
    counts: bool,
    /// Text that the peer's kernel has acknowledged.
    certain: u64,
    /// See [`PROBATION`].
    probation: Option<Instant>,
    peer: Option<Facts>,
}

/// Lets rustls write to and read from a socket that tells a task when it is ready.
struct Ready<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Write for Ready<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for Ready<'_, '_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(space);
        or_would_block(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Tls {
    /// Makes a session over a connected socket. `counts`: [`Tls::acknowledged`] will be asked. The caller limits the
    /// time.
    ///
    /// # Errors
    /// A sentence about what failed and what to do: the server is not the one that is meant, or does not speak
    /// TLS, or the name cannot be asked for.
    pub(super) async fn open(
        socket: TcpStream,
        host: &str,
        settings: &TlsSettings,
        material: Arc<Material>,
        counts: bool,
    ) -> io::Result<Self> {
        let name = settings.name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` is no name that a certificate can hold; set tls-name"),
            )
        })?;
        material.asked.store(false, Ordering::Relaxed);
        let mut session = ClientConnection::new(Arc::clone(&material.config), name)
            .map_err(|error| explain(&error, settings))?;
        // We flush after every FLUSH_BYTES ourselves.
        session.set_buffer_limit(None);
        let mut tls = Self {
            socket,
            session,
            material,
            ciphertext: 0,
            text: 0,
            pending: 0,
            marks: VecDeque::new(),
            counts,
            certain: 0,
            probation: None,
            peer: None,
        };
        poll_fn(|cx| tls.poll_handshake(cx, settings)).await?;
        if tls.material.asked.load(Ordering::Relaxed) {
            tls.probation = Some(Instant::now());
        }
        Ok(tls)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>, settings: &TlsSettings) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let count = ready!(self.poll_read_ciphertext(cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "closed by the receiver during the TLS handshake (does it speak TLS on this port?)",
                )));
            }
            if let Err(error) = self.session.process_new_packets() {
                // The alert that tells the server why.
                let _ = self.poll_flush(cx);
                return Poll::Ready(Err(explain(&error, settings)));
            }
        }
    }

    /// Writes what is encrypted until nothing is left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Ready { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.ciphertext += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_ciphertext(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.session.read_tls(&mut Ready { socket: &mut self.socket, cx }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            other => Poll::Ready(other),
        }
    }

    /// Encrypts and flushes from `slices`; ready with the number of bytes that are flushed. Until it is ready,
    /// call it again with the same bytes at the front.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.pending == 0 {
            // What the peer's messages have called for goes first.
            ready!(self.poll_flush(cx))?;
            let mut room = FLUSH_BYTES;
            let mut count = 0;
            let mut cut = [IoSlice::new(&[]); super::hand::GATHER_BATCHES];
            for (part, slice) in cut.iter_mut().zip(slices) {
                let bytes = &slice[..slice.len().min(room)];
                *part = IoSlice::new(bytes);
                room -= bytes.len();
                count += 1;
                if room == 0 {
                    break;
                }
            }
            self.pending = self.session.writer().write_vectored(&cut[..count])?;
        }
        ready!(self.poll_flush(cx))?;
        let flushed = std::mem::take(&mut self.pending);
        self.text += flushed as u64;
        if self.counts {
            self.marks.push_back(Mark { text: self.text, ciphertext: self.ciphertext });
        }
        Poll::Ready(Ok(flushed))
    }

    /// Reads decrypted text; 0 at the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        // A peer that sends records without text must not keep us from writing.
        for _ in 0..READS_AT_ONCE {
            match self.session.reader().read(space) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Closed without a close_notify; whoever means harm can do that, and we only send.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_read_ciphertext(cx))?;
            match self.session.process_new_packets() {
                Ok(state) => {
                    if state.plaintext_bytes_to_read() > 0 {
                        self.probation = None;
                    }
                }
                Err(error) => {
                    let _ = self.poll_flush(cx);
                    return Poll::Ready(Err(alert(&error)));
                }
            }
            // A key update wants its answer. If there is no room for it now, the next write takes it along.
            if self.pending == 0
                && let Poll::Ready(Err(error)) = self.poll_flush(cx)
            {
                return Poll::Ready(Err(error));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Text that the peer's kernel has acknowledged and that is not on [`PROBATION`].
    ///
    /// # Errors
    /// The kernel will not say.
    pub(super) fn acknowledged(&mut self) -> io::Result<u64> {
        let arrived = sys::tcp_acknowledged(self.socket.as_fd())?;
        while let Some(mark) = self.marks.front().filter(|mark| mark.ciphertext <= arrived) {
            self.certain = mark.text;
            self.marks.pop_front();
        }
        Ok(if self.is_on_probation() { 0 } else { self.certain })
    }

    fn is_on_probation(&self) -> bool {
        self.probation.is_some_and(|since| since.elapsed() < PROBATION)
    }

    /// True if all text has arrived and only [`PROBATION`] keeps it from counting: then [`Tls::finish`] can tell.
    pub(super) fn only_waits_for_judgement(&self) -> bool {
        self.is_on_probation() && self.marks.is_empty() && self.pending == 0
    }

    /// Ends the session in order: close_notify (RFC 5425 section 4.4), then the end of the stream, then the
    /// peer's own end, for which it waits a moment: a socket that is closed with data unread is reset, and what
    /// is on its way then is gone.
    ///
    /// # Errors
    /// The peer has not read to the end, or has not said so in time. On probation, that is a refusal.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        let farewell = poll_fn(|cx| {
            ready!(self.poll_flush(cx))?;
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            let mut space = [0; 512];
            while ready!(self.poll_read(cx, &mut space))? > 0 {}
            Poll::Ready(Ok(()))
        });
        tokio::time::timeout(FAREWELL, farewell).await?
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What the peer's certificate says, once [`Tls::announce`] has looked.
    pub(super) fn peer(&self) -> Option<&Facts> {
        self.peer.as_ref()
    }

    /// The server has asked for our certificate, and may refuse it yet.
    pub(super) fn is_judged_later(&self) -> bool {
        self.probation.is_some()
    }

    /// What the session was made with.
    pub(super) fn material(&self) -> &Material {
        &self.material
    }

    /// Logs the session: who is at the other end, and how it is protected.
    pub(super) fn announce(&mut self, url: &str, settings: &TlsSettings) {
        let peer = self.session.peer_certificates().and_then(<[_]>::first);
        let print = peer.map(|der| Fingerprint::of(der));
        self.peer = peer.and_then(|der| Facts::of(der).ok());
        let mut line = format!("{url}: ");
        line += match self.session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        if let Ok(address) = self.socket.peer_addr() {
            let _ = write!(line, " with {address}");
        }
        if let Some(suite) = self.session.negotiated_cipher_suite() {
            let _ = write!(line, ", suite {:?}", suite.suite());
        }
        if let Some(group) = self.session.negotiated_key_exchange_group() {
            let _ = write!(line, ", group {:?}", group.name());
        }
        if let (Some(print), Some(facts)) = (print, &self.peer) {
            let _ = write!(line, ", certificate {print} of {}, valid until {}", facts.subject, facts.until);
        }
        if self.material.own.is_some() {
            line += match self.material.asked.load(Ordering::Relaxed) {
                true => ", our certificate was shown",
                false => ", our certificate was not asked for",
            };
        }
        info!("{line}");
        if settings.verify == Verify::None {
            error!(
                "{url}: nobody checks who the receiver is (tls-verify = \"none\"): whoever sits on the way can \
                 read and take the records"
            );
        }
        self.look_at_dates(url);
    }

    /// The session, for the report.
    pub(super) fn session(&self) -> Session {
        let peer = self.session.peer_certificates().and_then(<[_]>::first);
        let name = |what: Option<String>| what.unwrap_or_default();
        Session {
            version: match self.session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3".to_owned(),
                Some(ProtocolVersion::TLSv1_2) => "1.2".to_owned(),
                _ => String::new(),
            },
            suite: name(self.session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()))),
            group: name(
                self.session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
            ),
            peer: name(self.peer.as_ref().map(|facts| facts.subject.clone())),
            fingerprint: name(peer.map(|der| Fingerprint::of(der).to_string())),
            not_after: self.peer.as_ref().map_or(0, |facts| facts.valid.1),
            own_not_after: self.material.own.as_ref().map(|facts| facts.valid.1),
        }
    }

    /// Warns when a certificate's end is near.
    pub(super) fn look_at_dates(&self, url: &str) {
        let now = seconds_now();
        let peer = self.peer.as_ref().and_then(|facts| end_is_near("the receiver's certificate", facts, now));
        for warning in peer.into_iter().chain(self.material.warnings(now)) {
            warn!("{url}: {warning}");
        }
    }
}

/// Seconds since 1970.
pub(super) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The warning, if the certificate ends within [`DAYS_BEFORE`].
fn end_is_near(whose: &str, facts: &Facts, now: u64) -> Option<String> {
    match facts.days_left(now) {
        days if days < 0 => Some(format!("{whose} has ended on {}", facts.until)),
        days if days <= DAYS_BEFORE => Some(format!("{whose} ends in {days} days, on {}", facts.until)),
        _ => None,
    }
}

/// What went wrong in a handshake, with the remedy.
fn explain(error: &Error, settings: &TlsSettings) -> io::Error {
    let Error::InvalidCertificate(problem) = error else {
        return alert(error);
    };
    let sentence = match problem {
        CertificateError::UnknownIssuer => {
            "the receiver's certificate was issued by nobody in tls-ca; name its authority there, or pin it with \
             tls-pin"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the receiver's certificate is for another name ({problem}); if that is the receiver, set tls-name"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the receiver's certificate has ended ({problem}); it needs a new one, or a clock is wrong")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the receiver's certificate is not valid yet ({problem}); is a clock wrong?")
        }
        CertificateError::Revoked => "the receiver's certificate is revoked (tls-crl)".to_owned(),
        CertificateError::UnknownRevocationStatus => {
            "no list in tls-crl tells whether the receiver's certificate is revoked; each authority of its chain \
             needs one"
                .to_owned()
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            format!("a list in tls-crl is out of date ({problem}); fetch the authority's newest")
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<NotPinned>() {
            Some(NotPinned(print)) => format!(
                "the receiver's certificate {print} is none of tls-pin; if the receiver has a new one, add it there"
            ),
            None => format!("the receiver's certificate is refused: {problem}"),
        },
        _ => format!(
            "the receiver's certificate is refused: {problem}{}",
            if settings.verify == Verify::Pin { "" } else { " (tls-pin can take it without its authority)" }
        ),
    };
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}

/// What the peer or the session has to complain about.
fn alert(error: &Error) -> io::Error {
    let sentence = match error {
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate,
        ) => format!(
            "the receiver does not take our certificate ({error}); it wants one that it knows: tls-cert and tls-key"
        ),
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion) => {
            format!("the receiver has no TLS version, suite or group in common with us ({error})")
        }
        Error::InvalidMessage(_) => {
            format!("what the receiver says is not TLS ({error}); does it speak TLS on this port?")
        }
        _ => format!("TLS: {error}"),
    };
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}
