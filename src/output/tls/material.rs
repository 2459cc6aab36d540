//! Certificates, keys and revocation lists from their files, into what a session is made with.
//!
//! Promise: files are read anew for each connection, so what has been rotated counts from then on. Law: a file
//! that is not as it should be is an error with its name and the remedy, never a weaker check. The text and the DER of
//! a key are in memory that never moves and is wiped when it is dropped; what is left is the parsed key, which AWS-LC
//! wipes when it is freed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use nix::unistd::Uid;
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use zeroize::Zeroizing;

use super::verify::Verifier;
use crate::certificate::Facts;
use crate::guarded::{self, Content, Fault};
use crate::output::service::{Authorities, TlsSettings, Verify};

/// No file of certificates is larger; a revocation list of a large authority may be some MiB.
const LARGEST_FILE: u64 = 64 << 20;

/// No file with a key is larger, even with a whole chain before it.
const LARGEST_KEY: u64 = 1 << 20;

/// Everything that sessions of one destination are made with.
#[derive(Debug)]
pub(crate) struct Material {
    pub(super) config: Arc<ClientConfig>,
    /// The server has asked for a certificate in the handshake under way.
    pub(super) asked: Arc<AtomicBool>,
    /// Our own certificate.
    pub(super) own: Option<Facts>,
    /// Over all files: what two loadings have in common.
    digest: [u8; 32],
}

impl Material {
    /// True if the files say the same as those of `other`.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// What will surprise soon: our own certificate's end. `now` in seconds since 1970.
    pub(crate) fn warnings(&self, now: u64) -> Vec<String> {
        let own = self.own.as_ref().and_then(|facts| super::end_is_near("our own certificate", facts, now));
        own.into_iter().collect()
    }

    /// Reads all files. Blocks on the file system.
    ///
    /// # Errors
    /// A sentence with file and remedy.
    pub(crate) fn load(settings: &TlsSettings) -> Result<Self, String> {
        Self::load_by(settings, &Files::from_disk)
    }

    /// As [`Material::load`], with what `open` gives for the files.
    pub(crate) fn load_by(settings: &TlsSettings, open: &Open<'_>) -> Result<Self, String> {
        let mut files = Files { digest: digest::Context::new(&digest::SHA256), open };
        let crypto = Arc::new(provider::default_provider());
        let authorities = match settings.verify {
            Verify::Ca | Verify::PinAndCa => Some(authorities(settings, &crypto, &mut files)?),
            Verify::Pin | Verify::None => None,
        };
        let pins = match settings.verify {
            Verify::Pin | Verify::PinAndCa => Some(settings.pins.clone()),
            Verify::Ca | Verify::None => None,
        };
        let algorithms = crypto.signature_verification_algorithms;
        let verifier = Verifier { authorities, pins, algorithms };
        let (key, own) = match &settings.identity {
            Some((certificate, key)) => {
                let (key, own) = identity(certificate, key, &mut files)?;
                (Some(key), Some(own))
            }
            None => (None, None),
        };
        let asked = Arc::new(AtomicBool::new(false));
        let resolver = Identity { key, asked: Arc::clone(&asked) };
        let mut config = ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| format!("TLS: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        // Every session shows its certificate anew. Early data is off by default and must stay so (RFC 9662
        // section 6).
        config.resumption = Resumption::disabled();
        let mut sum = [0; 32];
        sum.copy_from_slice(files.digest.finish().as_ref());
        Ok(Self { config: Arc::new(config), asked, own, digest: sum })
    }
}

/// Our certificate, and whether the server has asked for one: until it has judged it, what we send may come to
/// nothing although the peer's kernel has acknowledged it.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Gives what stands in a file. Arguments: the key that names it, its path, what kind of content it is.
pub(crate) type Open<'a> = dyn Fn(&str, &Path, Content) -> Result<Zeroizing<Vec<u8>>, String> + 'a;

/// Reads files and remembers what was in them.
struct Files<'a> {
    digest: digest::Context,
    open: &'a Open<'a>,
}

impl Files<'_> {
    fn read(&mut self, key: &str, path: &Path, content: Content) -> Result<Zeroizing<Vec<u8>>, String> {
        let bytes = (self.open)(key, path, content)?;
        self.digest.update(&(bytes.len() as u64).to_le_bytes());
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn from_disk(key: &str, path: &Path, content: Content) -> Result<Zeroizing<Vec<u8>>, String> {
        let largest = match content {
            Content::Word => LARGEST_FILE,
            Content::Secret => LARGEST_KEY,
        };
        // Read without root, so the relay's own account may own them.
        guarded::read(path, content, Uid::effective(), largest).map_err(|fault| match fault {
            Fault::Io(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "; the relay reads it without root: give its group the right (chgrp, chmod 0640). If it lies in \
                     another folder than at the start, confinement has shut that: start the relay again"
                    }
                    io::ErrorKind::NotFound => "; it is looked for again before each connection",
                    _ => "",
                };
                format!("{key}: cannot read {}: {error}{hint}", path.display())
            }
            Fault::Refused(sentence) => format!("{key}: {sentence}"),
        })
    }
}

fn certificates(key: &str, path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| format!("{key}: {name} is damaged: {error}"))?;
    if found.is_empty() {
        return Err(format!("{key}: {name} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(found)
}

fn authorities(
    settings: &TlsSettings,
    crypto: &Arc<CryptoProvider>,
    files: &mut Files<'_>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Authorities::System => {
            // Damaged ones among the system's are passed over, as everybody does.
            let found = rustls_native_certs::load_native_certs();
            for certificate in &found.certs {
                files.digest.update(certificate);
            }
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(
                    "tls-ca: the system has no list of trusted authorities (package ca-certificates); \
                            name your own with tls-ca"
                        .to_owned(),
                );
            }
        }
        Authorities::File(path) => {
            for certificate in certificates("tls-ca", path, &files.read("tls-ca", path, Content::Word)?)? {
                roots.add(certificate).map_err(|error| {
                    format!(
                        "tls-ca: {} holds a certificate that cannot be an authority: {error}",
                        path.display()
                    )
                })?;
            }
        }
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(crypto));
    if !settings.crls.is_empty() {
        let mut crls = Vec::new();
        for path in &settings.crls {
            crls.extend(revocation_lists(path, &files.read("tls-crl", path, Content::Word)?)?);
        }
        // The whole chain, and no list that is out of date: what cannot be told counts as revoked.
        builder = builder.with_crls(crls).enforce_revocation_expiration();
    }
    builder.build().map_err(|error| format!("tls-crl: {error}"))
}

fn revocation_lists(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let name = path.display();
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| format!("tls-crl: {name} is damaged: {error}"))?;
    if found.is_empty() {
        return Err(format!("tls-crl: {name} holds no revocation list (PEM or DER)"));
    }
    Ok(found)
}

fn identity(
    certificate: &Path,
    key: &Path,
    files: &mut Files<'_>,
) -> Result<(Arc<CertifiedKey>, Facts), String> {
    let chain = certificates("tls-cert", certificate, &files.read("tls-cert", certificate, Content::Word)?)?;
    let secret = files.read("tls-key", key, Content::Secret)?;
    let (kind, der) = pem_key(&secret).ok_or_else(|| {
        format!(
            "tls-key: {} holds no private key in PEM form without a passphrase (-----BEGIN PRIVATE KEY-----)",
            key.display()
        )
    })?;
    // Borrowed: what rustls is given to own it drops without wiping.
    let borrowed = match kind {
        Kind::Pkcs1 => PrivateKeyDer::Pkcs1(der.as_slice().into()),
        Kind::Pkcs8 => PrivateKeyDer::Pkcs8(der.as_slice().into()),
        Kind::Sec1 => PrivateKeyDer::Sec1(der.as_slice().into()),
    };
    let own =
        Facts::of(&chain[0]).map_err(|error| format!("tls-cert: {}: {error}", certificate.display()))?;
    let failed = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "tls-key: {} is not the key of the certificate in {}",
            key.display(),
            certificate.display()
        ),
        other => format!("tls-key: {}: {other}", key.display()),
    };
    let pair = CertifiedKey::new(chain, any_supported_type(&borrowed).map_err(failed)?);
    pair.keys_match().map_err(failed)?;
    Ok((Arc::new(pair), own))
}

/// How a key's DER is laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Pkcs1,
    Pkcs8,
    Sec1,
}

/// The first private key in a PEM file. Not with rustls' reader: it drops the text and, on errors, the DER without
/// wiping them.
fn pem_key(pem: &[u8]) -> Option<(Kind, Zeroizing<Vec<u8>>)> {
    for (kind, label) in
        [(Kind::Pkcs8, "PRIVATE KEY"), (Kind::Sec1, "EC PRIVATE KEY"), (Kind::Pkcs1, "RSA PRIVATE KEY")]
    {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let Some(start) = memchr::memmem::find(pem, begin.as_bytes()) else { continue };
        let body = &pem[start + begin.len()..];
        let body = &body[..memchr::memmem::find(body, end.as_bytes())?];
        let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
        text.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        let length = STANDARD.decode_slice(&*text, &mut der).ok()?;
        der.truncate(length);
        return Some((kind, der));
    }
    None
}
