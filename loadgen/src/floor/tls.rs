//! The floor's TLS: the least a client can do.
//!
//! *Promise:* plaintext goes to rustls in blocks of up to 64 KiB, so records are as large as they may be and one
//! write takes several; the end is orderly.
//! *Law:* a blocking socket and no buffer of its own. What the peer says (tickets, key updates, alerts) is looked at
//! after each block of input, and waited for only at the beginning and the end.

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::{MsgFlags, recv};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::Socket;

/// Plaintext handed to rustls at once; as much as it takes.
const BLOCK: usize = 64 << 10;

/// A connection whose handshake is done.
pub(super) struct Tls {
    connection: ClientConnection,
}

impl Tls {
    /// Shakes hands on `socket`, connected to `address`, trusting the certificates in the file `ca` only.
    ///
    /// # Errors
    /// If the file holds no certificate, or the peer is not what it should be.
    pub(super) fn connect(mut socket: &Socket, address: SocketAddrV4, ca: &Path) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::IpAddress(IpAddr::from(*address.ip()).into());
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        connection.complete_io(&mut socket)?;
        Ok(Self { connection })
    }

    /// Sends all of `plain`.
    ///
    /// # Errors
    /// If the connection is broken or the peer has closed it.
    pub(super) fn write_all(&mut self, plain: &[u8], socket: &Socket) -> io::Result<()> {
        for mut block in plain.chunks(BLOCK) {
            // Less than a block is taken only behind an answer to the peer.
            while !block.is_empty() {
                let taken = self.connection.writer().write(block)?;
                block = &block[taken..];
                self.push(socket)?;
            }
        }
        if self.take_in(&mut Waiting(socket))? == Heard::End {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer has closed"));
        }
        self.push(socket)
    }

    /// Says close_notify, closes the sending side, and waits for the peer to close the other.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(super) fn finish(&mut self, mut socket: &Socket) -> io::Result<()> {
        self.connection.send_close_notify();
        self.push(socket)?;
        socket.shutdown(Shutdown::Write)?;
        while self.take_in(&mut socket)? != Heard::End {}
        Ok(())
    }

    /// Writes what rustls has to say.
    fn push(&mut self, mut socket: &Socket) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut socket)?;
        }
        Ok(())
    }

    /// Reads until nothing more is there; says which kind of nothing.
    fn take_in(&mut self, from: &mut dyn Read) -> io::Result<Heard> {
        let mut room = [0; 1024];
        loop {
            match self.connection.read_tls(from) {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            // Receivers of syslog say nothing; if one does, it is not kept.
            let mut unwanted = state.plaintext_bytes_to_read();
            while unwanted > 0 {
                unwanted -= self.connection.reader().read(&mut room)?;
            }
        }
    }
}

/// Why there is nothing more to read.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    End,
}

/// Reads what waits in a blocking socket, without blocking.
struct Waiting<'a>(&'a Socket);

impl Read for Waiting<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT)?)
    }
}
