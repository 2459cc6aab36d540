//! What is read from files: configuration, certificates, the handover.

use audit_relay::batch::{BATCH_BYTES, Batch};
use audit_relay::certificate::{Facts, Fingerprint, sha1_fingerprint};
use audit_relay::config::Settings;
use audit_relay::fuzzing::{TlsFiles, load_tls, read_handover, write_handover};

use super::choices::Choices;

/// Every key of the configuration; an error must name one.
const KEYS: [&str; 35] = [
    "to",
    "failover",
    "balance",
    "input",
    "format",
    "framing",
    "facility",
    "severity",
    "hostname",
    "app-name",
    "structured-data",
    "enterprise-number",
    "eoe",
    "on-full",
    "queue-size",
    "max-message-size",
    "replay",
    "connect-timeout",
    "tcp-user-timeout",
    "tcp-keepalive",
    "relp-window",
    "tls-verify",
    "tls-ca",
    "tls-pin",
    "tls-name",
    "tls-cert",
    "tls-key",
    "tls-crl",
    "gather",
    "threads",
    "drain-timeout",
    "handover",
    "user",
    "report",
    "log",
];

/// The configuration. Any text: no panic; an error names the key or the destination it is about; what is taken reads
/// back, written out with every default, as the same.
pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let settings: Settings = match toml::from_str(&text) {
        Ok(settings) => settings,
        Err(error) => return assert!(!error.to_string().trim().is_empty(), "an error without a word"),
    };
    let config = match settings.validate() {
        Ok(config) => config,
        Err(error) => {
            let first = error.split([':', ' ']).next().unwrap_or_default().trim_matches('`');
            assert!(first == "destination" || KEYS.contains(&first), "which key? {error}");
            return;
        }
    };
    let _ = config.warnings();
    let shown = config.effective();
    let again: Settings = toml::from_str(&shown).unwrap_or_else(|error| panic!("{error} in\n{shown}"));
    let again = again.validate().unwrap_or_else(|error| panic!("{error} in\n{shown}"));
    assert_eq!(again, config, "{shown}");
}

/// Certificates, keys and revocation lists, PEM or DER, and fingerprints. Any bytes: no panic; an error says which
/// file; what is printed of a certificate holds no control character; a printed fingerprint reads back.
pub fn certificates(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = choices.byte();
    let first = usize::from(choices.word());
    let (one, two) = match kind % 6 {
        4 | 5 => (choices.take(first), choices.rest()),
        _ => (choices.rest(), &b""[..]),
    };
    let loaded = match kind % 6 {
        0 => {
            if let Ok(facts) = Facts::of(one) {
                let printed = [&facts.subject, &facts.issuer, &facts.from, &facts.until].into_iter();
                for text in printed.chain(&facts.names) {
                    assert!(!text.chars().any(char::is_control), "{text:?}");
                    assert!(text.chars().count() <= 200);
                }
                let _ = (facts.days_left(0), facts.days_left(u64::MAX));
            }
            assert!(sha1_fingerprint(one).starts_with("sha-1:"));
            let print = Fingerprint::of(one);
            assert_eq!(Fingerprint::read(&print.to_string()), Ok(print));
            return;
        }
        1 => {
            let text = String::from_utf8_lossy(one);
            if let Ok(print) = Fingerprint::read(&text) {
                assert_eq!(Fingerprint::read(&print.to_string()), Ok(print));
            }
            return;
        }
        2 | 3 => load_tls(TlsFiles { authorities: one, ..TlsFiles::default() }),
        4 => load_tls(TlsFiles { authorities: one, list: Some(two), ..TlsFiles::default() }),
        _ => load_tls(TlsFiles { authorities: AUTHORITY, identity: Some((one, two)), ..TlsFiles::default() }),
    };
    if let Err(error) = loaded {
        let key = error.split(':').next().unwrap_or_default();
        assert!(["tls-ca", "tls-crl", "tls-cert", "tls-key"].contains(&key), "which file? {error}");
        let keeps_secret = !error.contains("PRIVATE KEY") || error.contains("(-----BEGIN PRIVATE KEY-----)");
        assert!(keeps_secret, "{error}");
    }
}

/// Some authority, so that the own certificate is got to.
const AUTHORITY: &[u8] = include_bytes!("../authority.pem");

/// One message of a handover file.
type Message<'a> = (&'a [u8], Option<(u64, u32)>, bool);

const MAGIC: &[u8] = b"audit-relay handover 1\n";

/// What notices announce: records, and bytes that were skipped.
type Announced = (u64, u64);

/// What one destination is left.
type Section<'a> = (&'a str, Vec<Message<'a>>, Announced);

/// The file's form as src/handover.rs draws it: what each destination is left, `None` if it is broken.
fn sections(file: &[u8]) -> Option<Vec<Section<'_>>> {
    let mut rest = Choices::new(file.strip_prefix(MAGIC)?);
    let mut found: Vec<Section<'_>> = Vec::new();
    let number = |rest: &mut Choices<'_>| Some(u64::from_ne_bytes(rest.take(8).try_into().ok()?));
    let exact = |rest: &mut Choices<'_>, count: usize| (rest.rest().len() >= count).then_some(count);
    loop {
        exact(&mut rest, 1)?;
        match rest.byte() {
            b'E' => return Some(found),
            b'S' => {
                exact(&mut rest, 4)?;
                let length = u32::from_ne_bytes(rest.take(4).try_into().ok()?) as usize;
                if length > 64 << 10 || found.len() == 256 {
                    return None;
                }
                exact(&mut rest, length)?;
                found.push((std::str::from_utf8(rest.take(length)).ok()?, Vec::new(), (0, 0)));
            }
            kind @ (b'R' | b'N') => {
                exact(&mut rest, 16)?;
                let ms = u64::from_ne_bytes(rest.take(8).try_into().ok()?);
                let serial = u32::from_ne_bytes(rest.take(4).try_into().ok()?);
                let length = u32::from_ne_bytes(rest.take(4).try_into().ok()?) as usize;
                if !(1..=2 << 20).contains(&length) {
                    return None;
                }
                exact(&mut rest, length)?;
                let message = rest.take(length);
                found.last_mut()?.1.push((message, (ms != u64::MAX).then_some((ms, serial)), kind == b'R'));
            }
            b'A' => {
                exact(&mut rest, 40)?;
                let records = number(&mut rest)?;
                rest.take(24);
                let skipped = number(&mut rest)?;
                let (_, messages, announced) = found.last_mut()?;
                if messages.is_empty() || records.max(skipped) > 1 << 40 {
                    return None;
                }
                *announced = (announced.0 + records, announced.1 + skipped);
            }
            _ => return None,
        }
    }
}

/// The handover file. Any bytes: no panic; it is taken if and only if it has the form, and then every message comes
/// out once, with its stamp, for its destination, and the sums of records and of what is announced are right; memory stays in proportion to
/// the file; written again it reads as the same.
pub fn handover(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut file = if choices.byte().is_multiple_of(8) { Vec::new() } else { MAGIC.to_vec() };
    // 0x02 and a number repeat a letter, 512 times the number.
    let mut rest = choices.rest();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after.split_first()) {
            (2, Some((&count, after))) if file.len() < 400_000 => {
                file.resize(file.len() + usize::from(count) * 512, b'y');
                rest = after;
            }
            _ => file.push(first),
        }
    }
    let expected = sections(&file);
    let Ok(taken) = read_handover(&file) else {
        assert!(expected.is_none(), "a good file was refused");
        return;
    };
    let expected = expected.unwrap_or_else(|| panic!("a broken file was taken"));
    let keys: Vec<_> = taken.iter().map(|legacy| legacy.key.as_str()).collect();
    assert_eq!(keys, expected.iter().map(|(key, ..)| *key).collect::<Vec<_>>());
    let mut memory = 0;
    for (legacy, (_, messages, announced)) in taken.iter().zip(&expected) {
        assert_eq!(contents(&legacy.batches), *messages);
        assert_eq!(sums(&legacy.batches), *announced);
        let records = messages.iter().filter(|(.., is_record)| *is_record).count();
        assert_eq!(legacy.records(), records as u64, "the sum of records is wrong");
        memory += legacy.batches.iter().map(|batch| batch.bytes.capacity()).sum::<usize>();
    }
    assert!(memory <= 3 * file.len() + taken.len() * BATCH_BYTES, "{memory} bytes for {}", file.len());
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    // A destination that is named twice is written once; one that has nothing is written with nothing.
    if unique.len() < keys.len() {
        return;
    }
    let again = taken.into_iter().map(|legacy| (legacy.key, legacy.batches)).collect();
    let again = write_handover(again).unwrap_or_else(|error| panic!("{error}"));
    let again = read_handover(&again).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.len(), expected.len());
    for (legacy, (key, messages, announced)) in again.iter().zip(&expected) {
        assert_eq!((legacy.key.as_str(), contents(&legacy.batches)), (*key, messages.clone()));
        assert_eq!(sums(&legacy.batches), *announced);
    }
}

fn sums(batches: &[Batch]) -> Announced {
    let all = batches.iter().map(|batch| (batch.announced.records, batch.announced_skipped));
    all.fold((0, 0), |(records, skipped), more| (records + more.0, skipped + more.1))
}

fn contents(batches: &[Batch]) -> Vec<Message<'_>> {
    let mut all = Vec::new();
    for batch in batches {
        for (at, entry) in batch.entries().iter().enumerate() {
            let stamp = entry.stamp().map(|stamp| (stamp.ms, stamp.serial));
            all.push((batch.message(at), stamp, entry.is_record()));
        }
    }
    all
}
