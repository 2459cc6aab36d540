//! Whether the server is the one we mean.
//!
//! Promise: a handshake succeeds only with a server whose certificate passes [`Verify`]'s rule and who holds its
//! key: the signature over the handshake is checked in every mode, also where the certificate itself is not.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use crate::certificate::{Facts, Fingerprint};

/// The rule of one destination.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The path to a trusted authority, the name, the dates and the revocation lists; `None`: not asked.
    pub(super) authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The certificate is one of these; `None`: not asked.
    pub(super) pins: Option<Vec<Fingerprint>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// The server's certificate is none of the pinned ones.
#[derive(Debug)]
pub(super) struct NotPinned(pub(super) Fingerprint);

impl std::fmt::Display for NotPinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the certificate {} is none of tls-pin", self.0)
    }
}

impl std::error::Error for NotPinned {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(pins) = &self.pins {
            // Public on both sides, so the time that the comparison takes tells nobody anything.
            let print = Fingerprint::of(end_entity);
            if !pins.contains(&print) {
                return Err(CertificateError::Other(OtherError(Arc::new(NotPinned(print)))).into());
            }
        }
        match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            // Nobody else looks at the dates of a pinned certificate.
            None if self.pins.is_some() => in_time(end_entity, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
    let facts = Facts::of(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let (from, until) = facts.valid;
    if now.as_secs() < from {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > until {
        return Err(CertificateError::Expired.into());
    }
    Ok(ServerCertVerified::assertion())
}
