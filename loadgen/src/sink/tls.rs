//! The server's side of TLS, on a socket that never blocks.
//!
//! *Promise:* TLS 1.3 and 1.2, post-quantum key exchange if the peer can; the peer may trust the certificate, made
//! for this run, as its own authority.
//! *Law:* ciphertext is read in large blocks into one buffer, plaintext goes straight to where it is cut into
//! messages. rustls keeps each record on its way in a vector of its own; nothing here adds to that.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};
use socket2::Socket;

use super::place::Place;

/// Ciphertext taken by one read.
const ROOM: usize = 256 << 10;

/// A server with a new certificate for `localhost` and `127.0.0.1`, and that certificate in a PEM file.
///
/// # Errors
/// If the certificate cannot be made or written.
pub(super) fn identity() -> io::Result<(Arc<ServerConfig>, Place)> {
    let mut params =
        CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, "audit-loadgen");
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;

    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .map_err(io::Error::other)?;

    let place = Place::temporary("ca.pem")?;
    fs::write(place.file(), certificate.pem())?;
    // The program under test may have dropped its privileges before it reads it.
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o644))?;
    Ok((Arc::new(config), place))
}

/// One connection.
pub(super) struct Tls {
    connection: ServerConnection,
    /// `fed..filled` is read from the socket but not yet given to rustls.
    cipher: Vec<u8>,
    fed: usize,
    filled: usize,
}

impl Tls {
    /// A connection that waits for the peer's first words.
    ///
    /// # Errors
    /// If rustls refuses its configuration.
    pub(super) fn new(config: &Arc<ServerConfig>) -> io::Result<Self> {
        let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        // Replies wait here if the peer does not take them, not in a second buffer.
        connection.set_buffer_limit(None);
        Ok(Self { connection, cipher: vec![0; ROOM], fed: 0, filled: 0 })
    }

    /// Where the next read goes. [`Tls::decrypt`] must have said `WouldBlock` before.
    pub(super) fn room(&mut self) -> &mut [u8] {
        (self.fed, self.filled) = (0, 0);
        &mut self.cipher
    }

    /// Takes in the first `n` bytes of [`Tls::room`].
    pub(super) fn filled(&mut self, n: usize) {
        self.filled = n;
    }

    /// Puts the next plaintext into `room` (not empty) and returns its length; 0 is the peer's close_notify.
    ///
    /// # Errors
    /// `WouldBlock` if more must be read first; anything else is a breach of TLS, and an alert is to be sent.
    pub(super) fn decrypt(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match io::Read::read(&mut self.connection.reader(), room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let mut unfed = &self.cipher[self.fed..self.filled];
            if unfed.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.fed += self.connection.read_tls(&mut unfed)?;
            self.connection.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Whether something waits for the socket to take it.
    pub(super) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Encrypts and empties `replies`, says close_notify behind them if they are the last, and sends as much as
    /// `socket` takes. Returns whether everything has gone out.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn send(
        &mut self,
        replies: Option<&mut Vec<u8>>,
        last: bool,
        mut socket: &Socket,
    ) -> io::Result<bool> {
        if let Some(replies) = replies.filter(|replies| !replies.is_empty()) {
            self.connection.writer().write_all(replies)?;
            replies.clear();
        }
        if last {
            self.connection.send_close_notify();
        }
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    /// A client that trusts the certificate in the file, and talks `version` only.
    fn client(ca: &Place, version: &'static SupportedProtocolVersion, name: &str) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca.file()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
    }

    /// Reads until the other side closes, and answers with `goodbye`.
    fn serve(listener: &TcpListener, config: &Arc<ServerConfig>, goodbye: &[u8]) -> io::Result<Vec<u8>> {
        let socket = Socket::from(listener.accept()?.0);
        let mut tls = Tls::new(config)?;
        let mut plain = Vec::new();
        let mut room = [0; 1000];
        loop {
            let n = (&socket).read(tls.room())?;
            tls.filled(n);
            loop {
                match tls.decrypt(&mut room) {
                    Ok(0) => {
                        tls.send(Some(&mut goodbye.to_vec()), true, &socket)?;
                        return Ok(plain);
                    }
                    Ok(n) => plain.extend_from_slice(&room[..n]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tls.send(None, true, &socket)?;
                        return Err(error);
                    }
                }
            }
            assert!(n > 0, "the peer says close_notify before it closes");
            tls.send(None, false, &socket)?;
        }
    }

    #[test]
    fn both_versions_and_both_names_are_served_and_the_file_is_readable_by_all() {
        let (config, ca) = identity().unwrap();
        assert_eq!(fs::metadata(ca.file()).unwrap().permissions().mode() & 0o777, 0o644);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let said = vec![b'x'; 100_000];
        for version in [&version::TLS13, &version::TLS12] {
            for name in ["localhost", "127.0.0.1"] {
                let heard = std::thread::scope(|scope| {
                    let server = scope.spawn(|| serve(&listener, &config, b"goodbye"));
                    let mut tls = client(&ca, version, name);
                    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
                    stream.write_all(&said).unwrap();
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                    let mut goodbye = Vec::new();
                    stream.read_to_end(&mut goodbye).unwrap();
                    assert_eq!(goodbye, b"goodbye");
                    server.join().unwrap().unwrap()
                });
                assert_eq!(heard, said);
            }
        }
    }

    #[test]
    fn a_peer_that_refuses_the_certificate_is_an_error_not_a_hang() {
        let (config, _ca) = identity().unwrap();
        let (_, other_ca) = identity().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        std::thread::scope(|scope| {
            let server = scope.spawn(|| serve(&listener, &config, b""));
            let mut tls = client(&other_ca, &version::TLS13, "localhost");
            let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(tls.complete_io(&mut socket).is_err());
            assert!(server.join().unwrap().is_err());
        });
    }
}
