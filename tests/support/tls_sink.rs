//! A TLS receiver in the test's own hands: what it presents and demands, how fast it reads and how it ends.
//!
//! Law: it accepts nothing that RFC 5425 forbids, and an end of the stream without close_notify is an error to
//! whoever reads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CipherSuite, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use socket2::SockRef;

use super::pki::Identity;
use super::sink;

/// Which versions the receiver speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Versions {
    #[default]
    Both,
    Only12,
    Only13,
}

/// What the receiver demands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demands<'a> {
    pub(crate) versions: Versions,
    /// A certificate by the authority in this file.
    pub(crate) client_ca: Option<&'a Path>,
    /// Bytes of the kernel's receive buffer; the kernel doubles it and has limits.
    pub(crate) receive_buffer: Option<usize>,
}

/// A listening receiver.
#[derive(Debug)]
pub(crate) struct TlsSink {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    versions: Versions,
    client_ca: Option<Vec<CertificateDer<'static>>>,
}

/// One connection whose handshake is not over.
#[derive(Debug)]
pub(crate) struct HalfHandshake {
    tcp: TcpStream,
    tls: ServerConnection,
}

/// One connection after its handshake. Not reading is all it takes to stall the relay.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    tcp: TcpStream,
    tls: ServerConnection,
    ended_in_order: bool,
}

impl TlsSink {
    pub(crate) fn new(server: &Identity) -> Self {
        Self::with(server, Demands::default())
    }

    pub(crate) fn with(server: &Identity, demands: Demands<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Some(size) = demands.receive_buffer {
            // Inherited by accepted connections.
            SockRef::from(&listener).set_recv_buffer_size(size).unwrap();
        }
        Self::on(listener, server, demands)
    }

    /// On a listener that the test has made, such as one at an address that was closed before.
    pub(crate) fn on(listener: TcpListener, server: &Identity, demands: Demands<'_>) -> Self {
        let client_ca = demands
            .client_ca
            .map(|file| CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect());
        let config = configure(server, demands.versions, client_ca.as_deref());
        Self { listener, config, versions: demands.versions, client_ca }
    }

    /// Presents another certificate from the next connection on.
    pub(crate) fn present(&mut self, server: &Identity) {
        self.config = configure(server, self.versions, self.client_ca.as_deref());
    }

    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// `SCHEME://127.0.0.1:PORT`, for `tls` or `relps`.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// Takes the next connection, whose handshake has to succeed.
    #[track_caller]
    pub(crate) fn accept(&self) -> TlsConnection {
        self.try_accept().expect("the handshake succeeds")
    }

    /// Takes the next connection and says how its handshake went.
    #[track_caller]
    pub(crate) fn try_accept(&self) -> io::Result<TlsConnection> {
        self.handshake(sink::accept(&self.listener))
    }

    /// The next connection before its handshake, for receivers that never answer.
    #[track_caller]
    pub(crate) fn accept_tcp(&self) -> TcpStream {
        sink::accept(&self.listener)
    }

    /// Takes the next connection and says the receiver's part of the handshake, without looking at what the relay
    /// says to it.
    #[track_caller]
    pub(crate) fn answer_hello(&self) -> HalfHandshake {
        let mut tcp = sink::accept(&self.listener);
        let mut tls = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        while !tls.wants_write() {
            assert!(tls.read_tls(&mut tcp).unwrap() > 0, "the relay says its hello");
            tls.process_new_packets().unwrap();
        }
        while tls.wants_write() {
            tls.write_tls(&mut tcp).unwrap();
        }
        HalfHandshake { tcp, tls }
    }

    /// The receiver's side of the handshake. An alert of the relay comes out as the error.
    pub(crate) fn handshake(&self, tcp: TcpStream) -> io::Result<TlsConnection> {
        HalfHandshake { tcp, tls: ServerConnection::new(Arc::clone(&self.config)).unwrap() }.finish()
    }
}

impl HalfHandshake {
    /// Hears the relay out.
    pub(crate) fn finish(self) -> io::Result<TlsConnection> {
        let Self { mut tcp, mut tls } = self;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        // Session tickets, which a client must be able to take at any time.
        while tls.wants_write() {
            tls.write_tls(&mut tcp)?;
        }
        Ok(TlsConnection { tcp, tls, ended_in_order: false })
    }
}

/// The alert or other reason for which a handshake has failed.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn configure(
    server: &Identity,
    versions: Versions,
    client_ca: Option<&[CertificateDer<'static>]>,
) -> Arc<ServerConfig> {
    let versions: &[&'static SupportedProtocolVersion] = match versions {
        Versions::Both => rustls::ALL_VERSIONS,
        Versions::Only12 => &[&rustls::version::TLS12],
        Versions::Only13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(client_ca) => {
            let mut roots = RootCertStore::empty();
            client_ca.iter().for_each(|ca| roots.add(ca.clone()).unwrap());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    // Not `with_single_cert`, which looks whether the key is the certificate's.
    let key = aws_lc_rs::sign::any_supported_type(&server.key()).unwrap();
    let shown = CertifiedKey::new(server.chain(), key);
    Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown))))
}

impl TlsConnection {
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.tls.protocol_version().unwrap()
    }

    pub(crate) fn suite(&self) -> CipherSuite {
        self.tls.negotiated_cipher_suite().unwrap().suite()
    }

    /// The group of the key exchange.
    pub(crate) fn group(&self) -> NamedGroup {
        self.tls.negotiated_key_exchange_group().unwrap().name()
    }

    /// The name that the relay asked for. Addresses are not sent.
    pub(crate) fn sni(&self) -> Option<&str> {
        self.tls.server_name()
    }

    /// The relay's own certificate, if one was demanded.
    pub(crate) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    /// Whether close_notify has come and been read.
    pub(crate) fn ended_in_order(&self) -> bool {
        self.ended_in_order
    }

    /// Reads until `count` bytes are there.
    #[track_caller]
    pub(crate) fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        sink::read_bytes(self, count)
    }

    /// Reads to the end, which has to be a close_notify.
    #[track_caller]
    pub(crate) fn read_to_close(&mut self) -> Vec<u8> {
        let bytes = sink::read_to_end(self);
        assert!(self.ended_in_order, "the connection ends without close_notify");
        bytes
    }

    /// The socket, for timeouts and buffer sizes.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Closes with RST: no close_notify, no FIN.
    pub(crate) fn reset(self) {
        sink::reset(self.tcp);
    }

    /// close_notify, then FIN. What still comes can be read; dropped with bytes unread, it sends RST.
    pub(crate) fn close(&mut self) {
        self.say_close();
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// close_notify, and nothing else.
    pub(crate) fn say_close(&mut self) {
        self.tls.send_close_notify();
        let _ = self.flush();
    }

    /// FIN without close_notify, as from a receiver that crashes or an attacker who cuts the stream short.
    pub(crate) fn cut(&self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Bytes that are no TLS record.
    pub(crate) fn send_garbage(&mut self) {
        self.tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    }
}

impl Read for TlsConnection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Ok(0) if !buffer.is_empty() => {
                    self.ended_in_order = true;
                    return Ok(0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            self.tls.read_tls(&mut self.tcp)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            // What TLS itself has to say, such as an answer to a key update.
            self.flush()?;
        }
    }
}

impl Write for TlsConnection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.tls.writer().write(bytes)?;
        self.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tcp)?;
        }
        Ok(())
    }
}
