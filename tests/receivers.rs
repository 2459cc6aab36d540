//! The receivers in the tests' own hands, proved against clients that are not the relay: a test that says the
//! relay refuses a bad server, or survives one, is worth what its server is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
mod support;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use live::Need;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, NamedGroup, ProtocolVersion,
    RootCertStore, StreamOwned,
};
use support::network::Network;
use support::pki::{Crl, Identity, Kind, Pki};
use support::relp_sink::{Frame, Peer, RelpSink, Reply};
use support::temp_dir;
use support::tls_sink::{Demands, TlsSink, Versions, tls_error};

/// What a client is given.
#[derive(Clone, Copy, Default)]
struct Client<'a> {
    crl: Option<&'a Path>,
    identity: Option<&'a Identity>,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Client<'_> {
    /// Connects by this name and completes the handshake.
    fn connect(self, pki: &Pki, port: u16, name: &str) -> io::Result<Stream> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca()).unwrap();
        let crls = self.crl.map(|file| CertificateRevocationListDer::from_pem_file(file).unwrap());
        let mut verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        if let Some(crl) = crls {
            verifier = verifier.with_crls([crl]).enforce_revocation_expiration();
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_webpki_verifier(verifier.build().unwrap());
        let config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key()).unwrap(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(support::PATIENCE)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(StreamOwned::new(tls, tcp))
    }
}

/// The client's handshake with `server`, and what the server saw of it.
fn shake_hands(pki: &Pki, server: &Identity, client: Client<'_>) -> (io::Result<Stream>, io::Result<()>) {
    let sink = TlsSink::new(server);
    thread::scope(|scope| {
        let accepting = scope.spawn(|| sink.try_accept().map(drop));
        let connected = client.connect(pki, sink.port(), "localhost");
        (connected, accepting.join().unwrap())
    })
}

#[test]
fn a_good_server_shows_what_was_agreed() {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let server = pki.server("server", Kind::Good);
    let versions = [
        (Versions::Both, ProtocolVersion::TLSv1_3),
        (Versions::Only12, ProtocolVersion::TLSv1_2),
        (Versions::Only13, ProtocolVersion::TLSv1_3),
    ];
    for (versions, agreed) in versions {
        let sink = TlsSink::with(&server, Demands { versions, ..Demands::default() });
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = Client::default().connect(&pki, sink.port(), "localhost").unwrap();
                client.write_all(b"5 first").unwrap();
                client.conn.send_close_notify();
                client.flush().unwrap();
                // The receiver's own close_notify.
                assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
            });
            let mut connection = sink.accept();
            assert_eq!(connection.version(), agreed);
            assert_eq!(connection.sni(), Some("localhost"));
            assert!(connection.client_certificate().is_none());
            let group = if agreed == ProtocolVersion::TLSv1_3 {
                NamedGroup::X25519MLKEM768
            } else {
                NamedGroup::X25519
            };
            assert_eq!(connection.group(), group);
            assert!(format!("{:?}", connection.suite()).contains("AES_256_GCM"), "{:?}", connection.suite());
            assert_eq!(connection.read_bytes(2), b"5 ");
            assert!(!connection.ended_in_order());
            assert_eq!(connection.read_to_close(), b"first");
            connection.close();
        });
    }
}

#[test]
fn each_bad_certificate_is_bad_in_its_own_way() {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForNameContext, NotValidYetContext, UnknownIssuer,
    };
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    for kind in [Kind::OtherName, Kind::Expired, Kind::NotYetValid, Kind::SelfSigned, Kind::OtherCa] {
        let server = pki.server("server", kind);
        let (connected, accepted) = shake_hands(&pki, &server, Client::default());
        let error = connected.map(drop).unwrap_err();
        let Some(rustls::Error::InvalidCertificate(reason)) = tls_error(&error) else {
            panic!("{kind:?}: {error}");
        };
        let right = match kind {
            Kind::OtherName => matches!(reason, NotValidForNameContext { .. }),
            Kind::Expired => matches!(reason, Expired | ExpiredContext { .. }),
            Kind::NotYetValid => matches!(reason, NotValidYetContext { .. }),
            _ => matches!(reason, UnknownIssuer),
        };
        assert!(right, "{kind:?}: {reason:?}");
        // The receiver learns why.
        let error = accepted.unwrap_err();
        let alert = match kind {
            Kind::OtherName => AlertDescription::BadCertificate,
            Kind::Expired | Kind::NotYetValid => AlertDescription::CertificateExpired,
            _ => AlertDescription::UnknownCA,
        };
        let told = tls_error(&error);
        assert!(
            matches!(told, Some(rustls::Error::AlertReceived(told)) if *told == alert),
            "{kind:?}: {told:?}"
        );
    }
}

#[test]
fn revocation_lists_revoke_and_expire() {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let server = pki.server("server", Kind::Good);
    let other = pki.server("other", Kind::Good);
    let reason = |crl: &Path| {
        let (connected, _) = shake_hands(&pki, &server, Client { crl: Some(crl), ..Client::default() });
        connected.map(drop).map_err(|error| format!("{:?}", tls_error(&error).unwrap()))
    };
    assert_eq!(reason(&pki.crl("empty", Crl::Empty)), Ok(()));
    assert_eq!(reason(&pki.crl("other-revoked", Crl::Revoking(&other))), Ok(()));
    let revoked = reason(&pki.crl("revoked", Crl::Revoking(&server))).unwrap_err();
    assert!(revoked.contains("Revoked"), "{revoked}");
    let expired = reason(&pki.crl("expired", Crl::Expired)).unwrap_err();
    assert!(expired.contains("ExpiredRevocationList"), "{expired}");
}

#[test]
fn a_demanded_client_certificate_has_to_be_there_and_good() {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let server = pki.server("server", Kind::Good);
    let ca = pki.ca_file();
    let sink = TlsSink::with(&server, Demands { client_ca: Some(&ca), ..Demands::default() });
    let seen = |identity: Option<&Identity>| {
        thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                let connection = sink.try_accept()?;
                Ok::<_, io::Error>(connection.client_certificate().cloned())
            });
            // In TLS 1.3 the client's part ends before it learns what the server makes of it.
            let _client = Client { identity, ..Client::default() }.connect(&pki, sink.port(), "localhost");
            accepting.join().unwrap()
        })
    };
    let good = pki.client("client", Kind::Good);
    assert_eq!(seen(Some(&good)).unwrap().as_ref(), good.chain().first());
    assert!(matches!(tls_error(&seen(None).unwrap_err()), Some(rustls::Error::NoCertificatesPresented)));
    for kind in [Kind::OtherCa, Kind::Expired] {
        let bad = pki.client("bad", kind);
        assert!(seen(Some(&bad)).is_err(), "{kind:?}");
    }
}

#[test]
fn rotation_replaces_the_files_and_the_pin() {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let mut server = pki.server("server", Kind::Good);
    let (pin, file) = (server.pin(), server.certificate.clone());
    assert!(pin.len() == 7 + 64 && pin.starts_with("sha256:"), "{pin}");
    let in_file = |file: &Path| CertificateDer::from_pem_file(file).unwrap();
    assert_eq!(vec![in_file(&file)], server.chain());
    let mut sink = TlsSink::new(&server);
    pki.rotate(&mut server, Kind::Good);
    assert_ne!(server.pin(), pin);
    assert_eq!((&server.certificate, vec![in_file(&file)]), (&file, server.chain()));
    sink.present(&server);
    thread::scope(|scope| {
        scope.spawn(|| drop(sink.accept()));
        let client = Client::default().connect(&pki, sink.port(), "127.0.0.1").unwrap();
        assert_eq!(client.conn.peer_certificates().unwrap(), server.chain());
    });
}

#[test]
fn pins_are_what_openssl_calls_fingerprints() {
    if !live::have(&[Need::Program("openssl")]) {
        return;
    }
    let dir = temp_dir();
    let server = Pki::new(dir.path()).server("server", Kind::Good);
    let output = live::command("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&server.certificate)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let hex = text.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    assert_eq!(server.pin(), format!("sha256:{hex}"));
}

#[test]
fn keys_are_for_their_owner_only() {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let client = pki.client("client", Kind::Good);
    let meta = fs::metadata(&client.key).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o600);
    let owner = if nix::unistd::geteuid().is_root() { 65534 } else { nix::unistd::geteuid().as_raw() };
    assert_eq!(meta.uid(), owner);
    assert_eq!(fs::metadata(pki.ca_file()).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_stream_can_end_in_every_way() {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let sink = TlsSink::new(&pki.server("server", Kind::Good));
    let end = |how: fn(support::tls_sink::TlsConnection)| {
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut client = Client::default().connect(&pki, sink.port(), "localhost").unwrap();
                let result = client.read(&mut [0; 16]);
                result.map_err(|error| error.kind())
            });
            how(sink.accept());
            client.join().unwrap()
        })
    };
    assert_eq!(end(|mut connection| connection.close()), Ok(0));
    assert_eq!(end(|connection| connection.cut()), Err(io::ErrorKind::UnexpectedEof));
    assert_eq!(end(|connection| connection.reset()), Err(io::ErrorKind::ConnectionReset));
    let garbage = end(|mut connection| {
        connection.send_garbage();
        thread::sleep(Duration::from_millis(100));
    });
    assert_eq!(garbage, Err(io::ErrorKind::InvalidData));
}

// ---------------------------------------------------------------------------------------------------------
// RELP

const OFFERS: &[u8] = b"relp_version=0\nrelp_software=test\ncommands=syslog";

/// Reads exactly these bytes.
#[track_caller]
fn expect(stream: &mut impl io::Read, expected: &str) {
    let bytes = support::sink::read_bytes(stream, expected.len());
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

/// Opens a session, to which librelp answers this.
#[track_caller]
fn open(stream: &mut (impl io::Read + io::Write)) {
    stream.write_all(&Frame::bytes(1, "open", OFFERS)).unwrap();
    let answer = "1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,\
                  http://librelp.adiscon.com\ncommands=syslog\n";
    expect(stream, answer);
}

#[test]
fn a_relp_server_does_as_it_is_told() {
    let mut sink = RelpSink::tcp(|message| match message.data.as_slice() {
        b"hold" => Reply::Hold,
        b"release" => Reply::Release,
        b"backwards" => Reply::ReleaseBackwards,
        b"refuse" => Reply::Refuse("no room"),
        b"garbage" => Reply::Garbage(b"x y\n"),
        b"close" => Reply::ServerClose,
        b"reset" => Reply::Reset,
        _ => Reply::Accept,
    });
    let connect = || {
        let mut stream = TcpStream::connect(sink.url.strip_prefix("relp://").unwrap()).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        open(&mut stream);
        stream
    };
    let mut stream = connect();
    let mut number = 1;
    let mut send = |data: &[u8]| {
        number += 1;
        stream.write_all(&Frame::bytes(number, "syslog", data)).unwrap();
    };
    for data in ["a", "hold", "hold", "b", "release", "hold", "hold", "backwards", "refuse", "garbage"] {
        send(data.as_bytes());
    }
    let ok = |number: u32| format!("{number} rsp 6 200 OK\n");
    let expected = [2, 5, 3, 4, 6, 9, 8, 7].map(ok).concat() + "10 rsp 11 500 no room\nx y\n";
    expect(&mut stream, &expected);
    stream.write_all(&Frame::bytes(12, "close", b"")).unwrap();
    expect(&mut stream, "12 rsp 0\n0 serverclose 0\n");
    drop(stream);

    let mut stream = connect();
    // Two frames in pieces.
    for piece in [&b"2 sys"[..], b"log 4 to", b"rn\n3 syslog 5 close", b"\n"] {
        stream.write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    expect(&mut stream, "2 rsp 6 200 OK\n0 serverclose 0\n");
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    drop(stream);

    let mut stream = connect();
    stream.write_all(&Frame::bytes(2, "syslog", b"reset")).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    sink.wait_for(13);
    let seen = sink.so_far();
    assert_eq!(
        seen.iter().map(|r| r.connection).collect::<Vec<_>>(),
        [[0; 10].as_slice(), &[1, 1, 2]].concat()
    );
    assert_eq!((seen[10].number, seen[10].data.as_slice()), (2, &b"torn"[..]));
    assert_eq!(sink.closed_in_order(), [0]);
    // None of the messages above is one of the relay's.
    sink = RelpSink::tcp(|_| Reply::Accept);
    assert!(sink.messages_after_exit().is_empty());
}

#[test]
fn relp_goes_through_tls() {
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    let tls = TlsSink::new(&pki.server("server", Kind::Good));
    let port = tls.port();
    let mut sink = RelpSink::tls(tls, |_| Reply::Accept);
    let mut stream = Client::default().connect(&pki, port, "localhost").unwrap();
    open(&mut stream);
    let message =
        b"<182>1 2026-11-24T00:00:00.000Z host auditd 7 SYSCALL [meta sequenceId=\"1\"] type=SYSCALL";
    stream.write_all(&Frame::bytes(2, "syslog", message)).unwrap();
    expect(&mut stream, "2 rsp 6 200 OK\n");
    stream.write_all(&Frame::bytes(3, "close", b"")).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "3 rsp 0\n0 serverclose 0\n");
    drop(stream);
    let messages = sink.messages_after_exit();
    assert_eq!((messages.len(), messages[0].text.as_str()), (1, "type=SYSCALL"));
    assert_eq!(sink.closed_in_order(), [0]);
}

/// What a strict server says about these bytes.
fn complaint(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(&Frame::bytes(1, "open", OFFERS)).unwrap();
    client.write_all(bytes).unwrap();
    drop(client);
    let server = thread::Builder::new().name("strict".to_owned()).spawn(move || {
        let mut peer = Peer::open(support::sink::accept(&listener));
        while peer.frame().is_some() {}
    });
    match server.unwrap().join() {
        Ok(()) => String::new(),
        Err(panic) => panic.downcast_ref::<String>().unwrap().clone(),
    }
}

#[test]
fn what_is_not_relp_is_not_overlooked() {
    assert_eq!(complaint(b"2 syslog 3 abc\n3 close 0\n"), "");
    for (bytes, word) in [
        (&b"3 syslog 3 abc\n"[..], "number"),
        (b"02 syslog 3 abc\n", "no frame starts here"),
        (b"2 syslog 2 abc\n", "not as long"),
        (b"2 syslog 03 abc\n", "leading zero"),
        (b"2 syslog 0 \n", "does not end"),
        (b"2 open 3 abc\n", "not the time"),
        (b"2 syslog 3 ab", "inside a frame"),
        (b"2 syslog 3 abc\n2 syslog 3 abc\n", "number"),
    ] {
        let complaint = complaint(bytes);
        assert!(complaint.contains(word), "{}: {complaint}", bytes.escape_ascii());
    }
}

// ---------------------------------------------------------------------------------------------------------
// A network that loses packets

#[test]
fn a_lossy_network_tells_nobody() {
    if !live::have(&[Need::Root, Need::Program("ip"), Need::Program("nft")]) {
        return;
    }
    Network::own(|network| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let mut server = support::sink::accept(&listener);
        network.lose(address.port());
        client.write_all(b"lost at first").unwrap();
        server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert_eq!(server.read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_err());
        network.heal();
        server.set_read_timeout(Some(support::PATIENCE)).unwrap();
        expect(&mut server, "lost at first");
    });
}
