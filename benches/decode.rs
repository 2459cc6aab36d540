//! Cost of step 2, decode: bytes as auditd sends them in, records out. Throughput is in bytes of input.

use std::hint::black_box;

use audit_relay::audit::{Decoder, InputForm, Step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TEXT: &[u8] = include_bytes!("../tests/data/string.log");
const EXACT: &[u8] = include_bytes!("../tests/data/binary-v0-exact.bin");
const FIXED: &[u8] = include_bytes!("../tests/data/binary-v0-fixed.bin");

fn decode(stream: &[u8]) -> usize {
    let mut decoder = Decoder::new(InputForm::Auto);
    let (mut at, mut records) = (0, 0);
    loop {
        at += match decoder.step(&stream[at..], true) {
            Step::Record { record, consumed } => {
                black_box(record.stamp);
                records += 1;
                consumed
            }
            Step::Empty { consumed } | Step::Skipped { consumed } | Step::Tail { consumed } => consumed,
            Step::More => return records,
        };
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, stream, records) in
        [("text", TEXT, 7358), ("binary-exact", EXACT, 6651), ("binary-fixed", FIXED, 300)]
    {
        assert_eq!(decode(stream), records);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(stream))));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
