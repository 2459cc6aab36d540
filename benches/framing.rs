//! Cost of telling messages apart on the wire: finished messages in, framed messages out. Throughput is in messages.
//!
//! `copied` only copies them: what is above that is the framing.

use std::hint::black_box;

use audit_relay::batch::Batch;
use audit_relay::syslog::relp::put_frame;
use audit_relay::syslog::{Format, Framing};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "support/mod.rs"]
mod support;

/// As many as fill a batch, about.
const MESSAGES: usize = 400;

/// Frames all of `source` into `out`.
fn frame(source: &Batch, framing: Framing, out: &mut BytesMut) {
    out.clear();
    for at in 0..source.entries().len() {
        let message = source.message(at);
        let open = framing.open(out, message.len());
        out.extend_from_slice(message);
        framing.close(out, &open);
    }
}

fn frame_for_relp(source: &Batch, out: &mut BytesMut) {
    out.clear();
    for (at, txnr) in (0..source.entries().len()).zip(2..) {
        put_frame(out, txnr, "syslog", source.message(at));
    }
}

/// Bytes that a receiver has to find around the messages of `source`.
fn overhead(source: &Batch, around: impl Fn(usize, usize) -> String) -> usize {
    (0..source.entries().len()).map(|at| around(at, source.message(at).len()).len()).sum()
}

fn bench(criterion: &mut Criterion) {
    let source = support::messages(MESSAGES, Format::Rfc5424, Framing::Datagram);
    let mut out = BytesMut::with_capacity(2 * source.bytes.len());
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for (name, framing, around) in [
        ("copied", Framing::Datagram, 0),
        ("lf", Framing::Lf, overhead(&source, |_, _| "\n".to_owned())),
        ("octet", Framing::Octet, overhead(&source, |_, length| format!("{length} "))),
    ] {
        frame(&source, framing, &mut out);
        assert_eq!(out.len(), source.bytes.len() + around, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                frame(black_box(&source), framing, &mut out);
                black_box(&out);
            });
        });
    }
    frame_for_relp(&source, &mut out);
    let around = overhead(&source, |at, length| format!("{} syslog {length} \n", at + 2));
    assert_eq!(out.len(), source.bytes.len() + around);
    group.bench_function("relp", |bencher| {
        bencher.iter(|| {
            frame_for_relp(black_box(&source), &mut out);
            black_box(&out);
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
