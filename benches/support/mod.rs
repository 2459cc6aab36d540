//! What several benches start from: real records, and how the relay is usually told to format them.
//!
//! Law: data out of `tests/data` only, read at compile time, so that every machine measures the same.

#![allow(
    dead_code,
    clippy::mod_module_files,
    reason = "every bench uses its part; Cargo takes benches/support.rs for a bench"
)]

use audit_relay::audit::{Decoder, InputForm, Record, Step};
use audit_relay::batch::Batch;
use audit_relay::syslog::{Encoder, Facility, Field, Format, Framing, Severity, Shape, StructuredData};

/// Lines, as auditd writes them with `format = string`.
pub(crate) const TEXT: &[u8] = include_bytes!("../../tests/data/string.log");
/// Frames of auditd 4.1.1 and later.
pub(crate) const EXACT: &[u8] = include_bytes!("../../tests/data/binary-v0-exact.bin");
/// Frames of auditd 3.0 to 4.1.0.
pub(crate) const FIXED: &[u8] = include_bytes!("../../tests/data/binary-v0-fixed.bin");

/// Records in [`TEXT`], [`EXACT`] and [`FIXED`].
pub(crate) const RECORDS: [usize; 3] = [7358, 6651, 300];

/// The structured data that is on by default.
pub(crate) const META: StructuredData =
    StructuredData { meta: true, origin: false, time_quality: false, audit: None };

/// Messages of this form, nothing cut.
pub(crate) fn shape(format: Format, framing: Framing, structured_data: StructuredData) -> Shape {
    Shape {
        format,
        framing,
        facility: Facility::LOCAL6,
        severity: Severity::INFO,
        hostname: Field::hostname(b"host.example.org"),
        own_names: vec![b"host".to_vec()],
        app_name: Field::app_name(b"auditd"),
        procid: 4242,
        name_in_rfc3164: false,
        structured_data,
        max_size: usize::MAX,
        local_offset: |_| 0,
    }
}

/// Decodes all of `stream`, whatever its form, and gives each record to `each`. Returns how many there were.
pub(crate) fn decode(stream: &[u8], mut each: impl FnMut(&Record<'_>)) -> usize {
    let mut decoder = Decoder::new(InputForm::Auto);
    let (mut at, mut records) = (0, 0);
    loop {
        at += match decoder.step(&stream[at..], true) {
            Step::Record { record, consumed } => {
                each(&record);
                records += 1;
                consumed
            }
            Step::Empty { consumed } | Step::Skipped { consumed } | Step::Tail { consumed } => consumed,
            Step::More => return records,
        };
    }
}

/// The records of [`TEXT`].
pub(crate) fn records() -> Vec<Record<'static>> {
    TEXT.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Record::from_text).collect()
}

/// The first `count` records of [`TEXT`] as messages, in one batch, which grows to hold them.
pub(crate) fn messages(count: usize, format: Format, framing: Framing) -> Batch {
    let (mut encoder, mut batch) = (Encoder::new(shape(format, framing, META)), Batch::new());
    for record in records().iter().take(count) {
        encoder.append(record, 0, &mut batch);
    }
    assert_eq!(batch.entries().len(), count, "tests/data/string.log is shorter than it was");
    batch
}

/// Appends all messages of `source` to `batch`.
pub(crate) fn copy(source: &Batch, batch: &mut Batch) {
    for (at, entry) in source.entries().iter().enumerate() {
        batch.bytes.extend_from_slice(source.message(at));
        batch.end_message(entry.stamp(), entry.is_record());
    }
}
