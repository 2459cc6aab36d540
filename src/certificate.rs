//! X.509 certificates: what one says, and how to make one.
//!
//! Promise: fingerprints in the form of RFC 5425 section 4.2.2 (`sha-256:AB:CD:...`), and self-signed
//! certificates for both ends (section 4.2.1 asks for a means to make them). Law: no network, no file; the bytes
//! are arguments. rcgen and x509-parser are named here only.

use std::fmt;

use aws_lc_rs::digest;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::ServerName;
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// Days that a new certificate is valid where the user names no number.
pub const USUAL_DAYS: u32 = 825;

/// True if a certificate can hold `name`, and a server be asked for it: a DNS name, or an IP address without brackets.
pub fn is_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

/// SHA-256 over a certificate's DER form.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }

    /// Reads `sha256:` or `sha-256:` (RFC 4572's name) and 64 hexadecimal digits, colons between them or not.
    ///
    /// # Errors
    /// A sentence about what is wrong with `text`.
    pub fn read(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.strip_prefix("sha256:").or_else(|| lower.strip_prefix("sha-256:"));
        let Some(digits) = digits else {
            let why = if lower.starts_with("sha1:") || lower.starts_with("sha-1:") {
                "SHA-1 can be forged and is not taken"
            } else {
                "it does not begin with sha256:"
            };
            return Err(format!(
                "`{text}` is no fingerprint: {why}; `audit-relay cert show FILE` prints one as it should be"
            ));
        };
        let digits: Vec<u8> = digits.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        let whole = digits.len() == 64
            && bytes.iter_mut().zip(digits.chunks_exact(2)).all(|(byte, pair)| {
                let value = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
                *byte = value.unwrap_or(0);
                value.is_some() && pair.iter().all(u8::is_ascii_hexdigit)
            });
        if whole {
            Ok(Self(bytes))
        } else {
            Err(format!("`{text}` is no fingerprint: after sha256: come 64 hexadecimal digits"))
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha-256:{}", Hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-1 over a certificate, for receivers that are told which sender to take by it. We trust none ourselves.
pub fn sha1_fingerprint(der: &[u8]) -> String {
    format!("sha-1:{}", Hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()))
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Subject, for people.
    pub subject: String,
    /// Issuer, for people.
    pub issuer: String,
    /// Subject alternative names, for people.
    pub names: Vec<String>,
    /// First and last second of validity, since 1970; before 1970 counts as 0.
    pub valid: (u64, u64),
    /// The last second, for people.
    pub until: String,
    /// The first second, for people.
    pub from: String,
}

impl Facts {
    /// Of a certificate in DER.
    ///
    /// # Errors
    /// A sentence: it is none.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("no X.509 certificate: {error}"))?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map_or_else(Vec::new, |names| {
            names.value.general_names.iter().map(|name| shortened(&show_name(name))).collect()
        });
        let validity = certificate.validity();
        let second = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let show = |time: x509_parser::time::ASN1Time| {
            time.to_rfc2822().unwrap_or_else(|_| "a time out of range".to_owned())
        };
        Ok(Self {
            subject: shortened(&certificate.subject().to_string()),
            issuer: shortened(&certificate.issuer().to_string()),
            names,
            valid: (second(validity.not_before), second(validity.not_after)),
            until: show(validity.not_after),
            from: show(validity.not_before),
        })
    }

    /// Whole days from `now` (seconds since 1970) to the end; negative behind it.
    pub fn days_left(&self, now: u64) -> i64 {
        let seconds = i128::from(self.valid.1) - i128::from(now);
        i64::try_from(seconds.div_euclid(24 * 3600)).unwrap_or(i64::MAX)
    }
}

/// Whoever makes a certificate chooses its names, and they are printed.
fn shortened(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

fn show_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
            ref bytes => <[u8; 16]>::try_from(bytes)
                .map_or_else(|_| "?".to_owned(), |bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        other => other.to_string(),
    }
}

/// First and last second, since 1970, for which a revocation list in DER speaks; without an end it speaks for ever.
///
/// # Errors
/// A sentence: it is none.
pub fn revocation_dates(der: &[u8]) -> Result<(u64, u64), String> {
    let (_, list) =
        CertificateRevocationList::from_der(der).map_err(|error| format!("no revocation list: {error}"))?;
    let second = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Ok((second(list.last_update()), list.next_update().map_or(u64::MAX, second)))
}

/// A new certificate and its key, both PEM, and the certificate's DER.
pub struct Made {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8). Nothing prints it.
    pub key: Zeroizing<String>,
    /// The certificate in DER.
    pub der: Vec<u8>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").finish_non_exhaustive()
    }
}

/// Makes an ECDSA P-256 key and a self-signed certificate for `names` (host names or addresses), good for server
/// and client, valid from yesterday (clocks differ) to `days` after `today` (year, month, day).
///
/// # Errors
/// A sentence: a name cannot stand in a certificate.
pub fn make(names: &[String], today: (i32, u8, u8), days: u32) -> Result<Made, String> {
    let failed = |error: rcgen::Error| format!("cannot make the certificate: {error}");
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let common = names.first().map_or("audit-relay", String::as_str);
    params.distinguished_name.push(DnType::CommonName, common);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let day = std::time::Duration::from_secs(24 * 3600);
    let midnight = date_time_ymd(today.0, today.1, today.2);
    params.not_before = midnight - day;
    params.not_after = midnight + day * days;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Made {
        certificate: certificate.pem(),
        key: Zeroizing::new(key.serialize_pem()),
        der: certificate.der().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_read_back_in_every_spelling() {
        let print = Fingerprint::of(b"abc");
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Fingerprint::read(&format!("sha256:{known}")), Ok(print));
        assert_eq!(Fingerprint::read(&print.to_string()), Ok(print));
        assert!(print.to_string().starts_with("sha-256:BA:78:16:BF:"));
        assert_eq!(Fingerprint::read(&print.to_string().to_lowercase()), Ok(print));
        assert!(sha1_fingerprint(b"abc").starts_with("sha-1:A9:99:3E:36:"));
        for (wrong, why) in [
            ("", "does not begin with sha256:"),
            (known, "does not begin with sha256:"),
            ("sha-1:00", "SHA-1 can be forged"),
            ("sha256:00", "64 hexadecimal digits"),
            (&format!("sha256:{}", "+1".repeat(32)), "64 hexadecimal digits"),
            (&format!("sha256:{known}00"), "64 hexadecimal digits"),
        ] {
            let error = Fingerprint::read(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_new_certificate_says_what_was_asked_for() {
        let names = ["logs.example.org".to_owned(), "192.0.2.7".to_owned(), "::1".to_owned()];
        let made = make(&names, (2026, 11, 24), 30).unwrap();
        let facts = Facts::of(&made.der).unwrap();
        assert_eq!(facts.names, names);
        assert_eq!((facts.subject.as_str(), &facts.subject), ("CN=logs.example.org", &facts.issuer));
        // 2026-11-24T00:00:00Z
        let today = 1_795_478_400;
        assert_eq!(facts.valid, (today - 86_400, today + 30 * 86_400));
        assert_eq!((facts.days_left(today + 1), facts.days_left(today + 31 * 86_400)), (29, -1));
        assert!(made.key.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(!format!("{made:?}").contains("PRIVATE"));
        assert!(Facts::of(b"nonsense").unwrap_err().starts_with("no X.509 certificate"));
        assert!(make(&["ümlaut".to_owned()], (2026, 11, 24), 30).is_err());
    }
}
