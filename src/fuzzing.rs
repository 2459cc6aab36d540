//! Doors for the fuzz targets (fuzz/, tests/fuzz) to what reads files and is private otherwise.
//!
//! Promise: what stands behind a door is what the running relay calls, with bytes in the place of a file. Law:
//! nothing else in the relay uses this room, and it decides nothing itself.

use std::io;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::batch::Batch;
use crate::handover::{self, Bequest, Estate, Legacy};
use crate::output::service::{Authorities, TlsSettings, Verify};
use crate::output::tls::Material;
use crate::telemetry::DestinationCounters;

/// Reads a handover file.
///
/// # Errors
/// It is none.
pub fn read_handover(file: &[u8]) -> io::Result<Vec<Legacy>> {
    handover::read(&mut &file[..])
}

/// The handover file that leaves `batches` to the destination `key`, one after the other.
///
/// # Errors
/// Something is too long for it.
pub fn write_handover(all: Vec<(String, Vec<Batch>)>) -> io::Result<Vec<u8>> {
    let estate = Estate::default();
    for (key, batches) in all {
        let counters: Arc<DestinationCounters> = DestinationCounters::new(key.clone());
        Bequest::new(&estate, key, &counters).pass_on(batches);
    }
    estate.image()
}

/// The files that a TLS destination names, as their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsFiles<'a> {
    /// `tls-ca`.
    pub authorities: &'a [u8],
    /// `tls-crl`, if there is one.
    pub list: Option<&'a [u8]>,
    /// `tls-cert` and `tls-key`, if there are.
    pub identity: Option<(&'a [u8], &'a [u8])>,
}

/// Makes of the files what a session is made with.
///
/// # Errors
/// As for the relay's user: a sentence that names the key.
pub fn load_tls(files: TlsFiles<'_>) -> Result<(), String> {
    let settings = TlsSettings {
        verify: Verify::Ca,
        ca: Authorities::File("ca".into()),
        crls: files.list.map(|_| "crl".into()).into_iter().collect(),
        identity: files.identity.map(|_| ("cert".into(), "key".into())),
        ..TlsSettings::default()
    };
    let open = |key: &str, _: &Path, _| {
        let bytes = match (key, files.list, files.identity) {
            ("tls-ca", ..) => files.authorities,
            ("tls-crl", Some(list), _) => list,
            ("tls-cert", _, Some((certificate, _))) => certificate,
            ("tls-key", _, Some((_, key))) => key,
            _ => return Err(format!("{key}: there is no such file")),
        };
        Ok(Zeroizing::new(bytes.to_vec()))
    };
    Material::load_by(&settings, &open).map(|material| {
        let _ = material.warnings(0);
    })
}
