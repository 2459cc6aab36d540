//! `audit-relay cert`: certificates into files, and out of them.
//!
//! Promise: a key is written for its owner alone, and no file is ever overwritten. Law: this is a tool for people;
//! the running relay does not use it.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::certificate::{self, Facts, Fingerprint, make, sha1_fingerprint};
use crate::syslog::civil_date;

/// Makes `out`.pem and `out`.key, for `names`, good for `days`, and says what to do with them.
///
/// # Errors
/// A sentence: a file is there already or cannot be written, or a name cannot stand in a certificate.
pub fn new(out: &Path, names: &[String], days: u32) -> Result<String, String> {
    if let Some(name) = names.iter().find(|name| name.trim().is_empty() || name.contains(char::is_whitespace))
    {
        return Err(format!(
            "--name `{name}` is no name that a receiver is asked for by; for example --name logs.example.org"
        ));
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let made = make(names, civil_date(seconds / (24 * 3600)), days)?;
    let (certificate, key) = (with_extension(out, "pem"), with_extension(out, "key"));
    // The key first: a certificate without its key is of no use, and the other way round it can be repaired.
    write(&key, 0o600, made.key.as_bytes())?;
    write(&certificate, 0o644, made.certificate.as_bytes())?;
    let mut text = String::new();
    let _ = writeln!(text, "certificate  {}", certificate.display());
    let _ = writeln!(text, "private key  {} (readable by its owner only)", key.display());
    describe(&mut text, &made.der)?;
    let _ = write!(
        text,
        "\n\
         At the receiver: trust the certificate file, or permit the fingerprint.\n\
         At a sender to a receiver that uses it: tls-pin = [\"{}\"], or tls-ca = \"{}\".\n\
         For the relay's own use: tls-cert and tls-key; let its group read the key (chgrp, chmod 0640).\n",
        Fingerprint::of(&made.der),
        certificate.display()
    );
    Ok(text)
}

/// What the certificates in `file` say.
///
/// # Errors
/// A sentence: it cannot be read, or holds none.
pub fn show(file: &Path) -> Result<String, String> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let mut text = String::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(&bytes).enumerate() {
        let certificate = certificate.map_err(|error| format!("{name} is damaged: {error}"))?;
        if at > 0 {
            text.push('\n');
        }
        describe(&mut text, &certificate)?;
    }
    if text.is_empty() {
        return Err(format!("{name} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(text)
}

/// First and last second, since 1970, of each certificate in a PEM file's bytes.
///
/// # Errors
/// A sentence: it is damaged.
pub fn dates(bytes: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    let certificates = CertificateDer::pem_slice_iter(bytes);
    let dates = |certificate: Result<CertificateDer<'_>, _>| {
        let certificate = certificate.map_err(|error| format!("is damaged: {error}"))?;
        Facts::of(&certificate).map(|facts| facts.valid)
    };
    certificates.map(dates).collect()
}

/// As [`dates`], of revocation lists in PEM or DER.
///
/// # Errors
/// A sentence: it is none.
pub fn revocation_dates(bytes: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    if !bytes.starts_with(b"-----") {
        return certificate::revocation_dates(bytes).map(|dates| vec![dates]);
    }
    let dates = |list: Result<CertificateRevocationListDer<'_>, _>| {
        certificate::revocation_dates(&list.map_err(|error| format!("is damaged: {error}"))?)
    };
    CertificateRevocationListDer::pem_slice_iter(bytes).map(dates).collect()
}

fn describe(text: &mut String, der: &[u8]) -> Result<(), String> {
    let facts = Facts::of(der)?;
    let _ = writeln!(text, "subject      {}", facts.subject);
    let _ = writeln!(text, "issuer       {}", facts.issuer);
    let _ = writeln!(text, "names        {}", facts.names.join(", "));
    let _ = writeln!(text, "valid from   {}", facts.from);
    let _ = writeln!(text, "valid until  {}", facts.until);
    let _ = writeln!(text, "fingerprint  {}", Fingerprint::of(der));
    let _ = writeln!(text, "             {} (only where nothing better is taken)", sha1_fingerprint(der));
    Ok(())
}

/// `logs.example.org` and `pem` make `logs.example.org.pem`: the last part of a host name is no extension.
/// `logs`, `logs.pem` and `logs.key` are one name; `logs.example` is no extension.
fn with_extension(out: &Path, extension: &str) -> PathBuf {
    let is_ours = out.extension().is_some_and(|known| known == "pem" || known == "key");
    let mut name = if is_ours { out.with_extension("") } else { out.to_owned() }.into_os_string();
    name.push(".");
    name.push(extension);
    name.into()
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), String> {
    let name = path.display();
    let file =
        OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{name} is there already and is not overwritten; name another with `cert new NAME`")
        }
        _ => format!("cannot write {name}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_made_can_be_shown_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("logs.example.org");
        let names = ["logs.example.org".to_owned()];
        let said = new(&out, &names, 10).unwrap();
        let mode =
            |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("logs.example.org.key"), mode("logs.example.org.pem")), (0o600, 0o644));
        let shown = show(&dir.path().join("logs.example.org.pem")).unwrap();
        assert!(said.contains(&shown) && shown.contains("names        logs.example.org\n"), "{shown}");
        assert!(shown.contains("fingerprint  sha-256:"));
        assert!(new(&out, &names, 10).unwrap_err().contains("is there already"));
        // As README has it: one line, and the pin is what stands behind the word.
        let pins: Vec<_> = shown.lines().filter_map(|line| line.strip_prefix("fingerprint")).collect();
        assert!(matches!(pins[..], [pin] if Fingerprint::read(pin.trim()).is_ok()), "{shown}");
        // Either file's name is as good as the name without its ending.
        for (named, made) in [("a.pem", "a"), ("b.key", "b"), ("c.crt", "c.crt")] {
            new(&dir.path().join(named), &names, 10).unwrap();
            let there = |ending: &str| dir.path().join(format!("{made}.{ending}")).exists();
            assert!(there("pem") && there("key"), "{named}");
        }
        assert!(show(&dir.path().join("logs.example.org.key")).unwrap_err().contains("holds no certificate"));
    }
}
