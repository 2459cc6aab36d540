//! Cost of steps 3 and 4, format and batch: records in, framed messages out. Throughput is in records.

use std::hint::black_box;

use audit_relay::audit::Record;
use audit_relay::batch::Batch;
use audit_relay::syslog::{Encoder, Facility, Field, Format, Framing, Severity, Shape, StructuredData};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TEXT: &[u8] = include_bytes!("../tests/data/string.log");

fn shape(format: Format, framing: Framing, structured_data: StructuredData) -> Shape {
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

fn bench(criterion: &mut Criterion) {
    let records: Vec<_> =
        TEXT.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Record::from_text).collect();
    let meta = StructuredData { meta: true, ..StructuredData::default() };
    let all = StructuredData { meta: true, origin: true, time_quality: true, audit: Some(32473) };
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(records.len() as u64));
    for (name, shape) in [
        ("rfc5424-octet", shape(Format::Rfc5424, Framing::Octet, meta)),
        ("rfc5424-octet-all-elements", shape(Format::Rfc5424, Framing::Octet, all)),
        ("rfc3164-datagram", shape(Format::Rfc3164, Framing::Datagram, meta)),
    ] {
        let (mut encoder, mut batch) = (Encoder::new(shape), Batch::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for record in black_box(&records) {
                    encoder.append(record, 0, &mut batch);
                    if batch.is_full_for(record.text.len()) {
                        batch.clear();
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
