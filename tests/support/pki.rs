//! Certificates, keys and revocation lists, made anew for each test.
//!
//! Promise: whatever is made here is right in every respect but the one that is asked for. Law: every file can
//! be read by whom it is for and, if it is a key, by nobody else: the relay refuses a key that is open to all.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The account that the relay falls back to once it gives up root.
const NOBODY: u32 = 65534;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By the test's authority, of today, and for [`NAMES`].
    Good,
    /// Good, for [`OTHER_NAME`] only.
    OtherName,
    Expired,
    NotYetValid,
    SelfSigned,
    /// By an authority that is not in `ca.pem`.
    OtherCa,
}

/// What a good certificate is for.
pub(crate) const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

pub(crate) const OTHER_NAME: &str = "elsewhere.example";

/// An authority, and a folder for what it issues.
#[derive(Debug)]
pub(crate) struct Pki {
    dir: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
    other_ca: CertifiedIssuer<'static, KeyPair>,
    /// The next certificate's.
    serial: AtomicU64,
}

/// A certificate and its key, in files and at hand.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    serial: u64,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

/// What a revocation list says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crl<'a> {
    Empty,
    Revoking(&'a Identity),
    /// Empty, and its successor was due yesterday.
    Expired,
}

impl Pki {
    /// Makes `ca.pem` and `other-ca.pem` in a folder that all may walk into.
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        let (ca, other_ca) = (authority("audit-relay test CA"), authority("audit-relay other test CA"));
        let this = Self { dir: dir.to_owned(), ca, other_ca, serial: AtomicU64::new(1000) };
        write(&this.ca_file(), &this.ca.pem(), Readers::All);
        write(&this.other_ca_file(), &this.other_ca.pem(), Readers::All);
        this
    }

    /// The authority's certificate: what `--tls-ca` is told.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The certificate of an authority that has issued nothing but [`Kind::OtherCa`].
    pub(crate) fn other_ca_file(&self) -> PathBuf {
        self.dir.join("other-ca.pem")
    }

    /// The authority's certificate itself.
    pub(crate) fn ca(&self) -> CertificateDer<'static> {
        self.ca.der().clone()
    }

    /// A server's certificate in `NAME.pem`, its key in `NAME.key`. An existing one is replaced.
    pub(crate) fn server(&self, name: &str, kind: Kind) -> Identity {
        self.issue(name, kind, ExtendedKeyUsagePurpose::ServerAuth, Readers::Owner)
    }

    /// A client's certificate in `NAME.pem`, and its key in `NAME.key` for the relay's unprivileged user.
    pub(crate) fn client(&self, name: &str, kind: Kind) -> Identity {
        self.issue(name, kind, ExtendedKeyUsagePurpose::ClientAuth, Readers::Relay)
    }

    /// A new certificate and a new key in the same files. Whoever reads them sees the old or the new.
    pub(crate) fn rotate(&self, identity: &mut Identity, kind: Kind) {
        let name = identity.certificate.file_stem().unwrap().to_str().unwrap().to_owned();
        *identity = self.server(&name, kind);
    }

    /// A revocation list in `NAME.pem`.
    pub(crate) fn crl(&self, name: &str, crl: Crl<'_>) -> PathBuf {
        let now = SystemTime::now();
        let (this_update, next_update) = match crl {
            Crl::Empty | Crl::Revoking(_) => (now - DAY, now + 30 * DAY),
            Crl::Expired => (now - 30 * DAY, now - DAY),
        };
        let revoked = |identity: &Identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: (now - Duration::from_secs(3600)).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: this_update.into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(self.serial.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: if let Crl::Revoking(identity) = crl { vec![revoked(identity)] } else { vec![] },
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.dir.join(name).with_extension("pem");
        write(&file, &list.signed_by(&self.ca).unwrap().pem().unwrap(), Readers::All);
        file
    }

    fn issue(&self, name: &str, kind: Kind, usage: ExtendedKeyUsagePurpose, readers: Readers) -> Identity {
        let names = if kind == Kind::OtherName { &[OTHER_NAME][..] } else { &NAMES[..] };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now();
        let (not_before, not_after) = match kind {
            Kind::Expired => (now - 30 * DAY, now - DAY),
            Kind::NotYetValid => (now + DAY, now + 30 * DAY),
            Kind::Good | Kind::OtherName | Kind::SelfSigned | Kind::OtherCa => (now - DAY, now + 30 * DAY),
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        (params.not_before, params.not_after) = (not_before.into(), not_after.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = kind != Kind::SelfSigned;
        let key = KeyPair::generate().unwrap();
        let certificate = match kind {
            Kind::SelfSigned => params.self_signed(&key),
            Kind::OtherCa => params.signed_by(&key, &self.other_ca),
            Kind::Good | Kind::OtherName | Kind::Expired | Kind::NotYetValid => {
                params.signed_by(&key, &self.ca)
            }
        };
        let certificate = certificate.unwrap();
        let identity = Identity {
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
            serial,
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        };
        write(&identity.key, &key.serialize_pem(), readers);
        write(&identity.certificate, &certificate.pem(), Readers::All);
        identity
    }
}

impl Identity {
    /// This certificate with another's key: what a thief of certificates, which are public, would have.
    pub(crate) fn with_key_of(&self, other: &Self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: other.key.clone(),
            serial: self.serial,
            der: self.der.clone(),
            key_der: other.key_der.clone(),
        }
    }

    /// SHA-256 of the certificate, as `--tls-pin` takes it.
    pub(crate) fn pin(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        digest.as_ref().iter().fold("sha256:".to_owned(), |mut pin, byte| {
            write!(pin, "{byte:02x}").unwrap();
            pin
        })
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let now = SystemTime::now();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = ((now - 365 * DAY).into(), (now + 365 * DAY).into());
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Who may read a file.
#[derive(Clone, Copy)]
enum Readers {
    All,
    Owner,
    /// The user that the relay runs as.
    Relay,
}

/// Puts a file in place as a whole, so that a reader never sees half of it.
fn write(file: &Path, text: &str, readers: Readers) {
    let partial = file.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mode = if matches!(readers, Readers::All) { 0o644 } else { 0o600 };
    let mut out = fs::File::options().write(true).create_new(true).mode(mode).open(&partial).unwrap();
    std::io::Write::write_all(&mut out, text.as_bytes()).unwrap();
    // Whatever the umask is.
    out.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
    if matches!(readers, Readers::Relay) && nix::unistd::geteuid().is_root() {
        chown(&partial, Some(NOBODY), None).unwrap();
    }
    fs::rename(&partial, file).unwrap();
}
