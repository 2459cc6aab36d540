//! Cost of step 2, decode: bytes as auditd sends them in, records out. Throughput is in bytes of input.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "support/mod.rs"]
mod support;

use support::{EXACT, FIXED, RECORDS, TEXT};

fn decode(stream: &[u8]) -> usize {
    support::decode(stream, |record| {
        black_box(record.stamp);
    })
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let streams = [("text", TEXT), ("binary-exact", EXACT), ("binary-fixed", FIXED)];
    for ((name, stream), records) in streams.into_iter().zip(RECORDS) {
        assert_eq!(decode(stream), records);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(stream))));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
