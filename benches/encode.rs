//! Cost of steps 3 and 4, format and batch: records in, framed messages out. Throughput is in records.

use std::hint::black_box;

use audit_relay::batch::Batch;
use audit_relay::syslog::{Encoder, Format, Framing, StructuredData};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "support/mod.rs"]
mod support;

use support::{META, shape};

fn bench(criterion: &mut Criterion) {
    let records = support::records();
    assert_eq!(records.len(), support::RECORDS[0]);
    let all = StructuredData { meta: true, origin: true, time_quality: true, audit: Some(32473) };
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(records.len() as u64));
    for (name, shape) in [
        ("rfc5424-octet", shape(Format::Rfc5424, Framing::Octet, META)),
        ("rfc5424-octet-all-elements", shape(Format::Rfc5424, Framing::Octet, all)),
        ("rfc3164-datagram", shape(Format::Rfc3164, Framing::Datagram, META)),
    ] {
        let (mut encoder, mut batch) = (Encoder::new(shape), Batch::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for record in black_box(&records) {
                    if batch.is_full_for(record.text.len()) {
                        batch.clear();
                    }
                    encoder.append(record, 0, &mut batch);
                    assert!(!batch.is_empty());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
