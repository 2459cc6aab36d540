//! The hot path in pieces, and as a whole.
//!
//! Promise: a case does the same work in every round, checks that it was done, and costs nothing between rounds. Law:
//! one thread, no wait, no clock and no random number in what is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a case that cannot be set up must not be counted"
)]

use std::hint::black_box;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use audit_relay::audit::{InputForm, Own};
use audit_relay::batch::Batch;
use audit_relay::ingest::{Ingest, Lane, OnFull, Shared};
use audit_relay::input::Input;
use audit_relay::queue::queue;
use audit_relay::syslog::relp::{Reader, Said, Settled, Window, put_frame};
use audit_relay::syslog::{Encoder, Format, Framing};
use audit_relay::telemetry::{DestinationCounters, InputCounters};
use bytes::{BufMut as _, BytesMut};
use tokio::sync::Notify;

use crate::support::{EXACT, FIXED, META, RECORDS, TEXT, decode, messages, records, shape};

/// One piece of work.
pub(crate) struct Case {
    /// What it is, as `room/what`.
    pub(crate) name: &'static str,
    /// Records (messages, answers) that one round works on.
    pub(crate) records: usize,
    /// Does the work so many times; panics if it was not done.
    pub(crate) work: fn(rounds: usize),
}

/// All of them, in the order of the path.
pub(crate) const CASES: &[Case] = &[
    Case { name: "decode/text", records: RECORDS[0], work: |rounds| decode_all(TEXT, RECORDS[0], rounds) },
    Case {
        name: "decode/binary-exact",
        records: RECORDS[1],
        work: |rounds| decode_all(EXACT, RECORDS[1], rounds),
    },
    Case {
        name: "decode/binary-fixed",
        records: RECORDS[2],
        work: |rounds| decode_all(FIXED, RECORDS[2], rounds),
    },
    Case {
        name: "encode/rfc5424-octet",
        records: RECORDS[0],
        work: |rounds| encode_all(Format::Rfc5424, Framing::Octet, rounds),
    },
    Case {
        name: "encode/rfc3164-datagram",
        records: RECORDS[0],
        work: |rounds| encode_all(Format::Rfc3164, Framing::Datagram, rounds),
    },
    Case { name: "relp/frame", records: RECORDS[0], work: frame_all },
    Case { name: "relp/answer", records: RECORDS[0], work: answer_all },
    Case { name: "path/text-to-queue", records: RECORDS[0], work: whole_path },
];

fn decode_all(stream: &[u8], records: usize, rounds: usize) {
    for _ in 0..rounds {
        let found = decode(black_box(stream), |record| {
            black_box(record);
        });
        assert_eq!(found, records);
    }
}

fn encode_all(format: Format, framing: Framing, rounds: usize) {
    let records = records();
    let (mut encoder, mut batch) = (Encoder::new(shape(format, framing, META)), Batch::new());
    let mut written = 0;
    for _ in 0..rounds {
        for record in black_box(&records) {
            if batch.is_full_for(record.text.len()) {
                written += batch.records();
                batch.clear();
            }
            encoder.append(record, 0, &mut batch);
        }
    }
    assert_eq!(written + batch.records(), (records.len() * rounds) as u64);
}

/// As the output does it: frames are gathered for one write.
fn frame_all(rounds: usize) {
    const WRITE: usize = 64 * 1024;
    let batch = messages(RECORDS[0], Format::Rfc5424, Framing::Datagram);
    let (mut out, mut txnr, mut bytes) = (BytesMut::with_capacity(2 * WRITE), 2, 0);
    for _ in 0..rounds {
        for at in 0..batch.entries().len() {
            put_frame(&mut out, txnr, "syslog", black_box(batch.message(at)));
            txnr += 1;
            if out.len() >= WRITE {
                bytes += black_box(&out).len();
                out.clear();
            }
        }
    }
    assert!(bytes + out.len() > batch.bytes.len() * rounds);
}

/// A window of the usual size, answered as a whole each time it is full.
fn answer_all(rounds: usize) {
    const WINDOW: usize = 128;
    let (mut window, mut reader) = (Window::new(WINDOW, 2), Reader::default());
    let mut said = BytesMut::with_capacity(4096);
    let mut settled = 0;
    for _ in 0..rounds {
        let mut left = RECORDS[0];
        while left > 0 {
            let count = left.min(window.room());
            left -= count;
            said.clear();
            for _ in 0..count {
                said.put_slice(itoa::Buffer::new().format(window.next_txnr()).as_bytes());
                said.put_slice(b" rsp 6 200 OK\n");
                window.send(1);
            }
            reader.push(black_box(&said));
            while let Some(answer) = reader
                .hear(|said| match said {
                    Said::Answer { txnr, code, .. } => window.answer(txnr, code == 200),
                    Said::Closing => panic!("nobody said so"),
                })
                .unwrap()
            {
                answer.unwrap();
            }
            while let Some(Settled::Accepted(_)) = window.settle() {
                settled += 1;
            }
        }
    }
    assert_eq!(settled, RECORDS[0] * rounds);
}

/// The whole of ingest, from a file to the queue's other end.
fn whole_path(rounds: usize) {
    let mut file = tempfile::tempfile().unwrap();
    for _ in 0..rounds {
        file.write_all(TEXT).unwrap();
    }
    std::io::Seek::rewind(&mut file).unwrap();
    let (producer, consumer) = queue(1 << 30, Arc::new(|| ()));
    let destination = DestinationCounters::new("tcp://none".to_owned());
    let input = Arc::new(InputCounters::default());
    let shape = shape(Format::Rfc5424, Framing::Octet, META);
    let ingest = Ingest {
        form: InputForm::Auto,
        lanes: vec![Lane::new(shape, producer, OnFull::Block, destination)],
        drop_eoe: false,
        counters: Arc::clone(&input),
        shared: Arc::new(Shared::default()),
        reloads: crossbeam_channel::never(),
        waker: Arc::new(Notify::new()),
        gather: Duration::ZERO,
        own: Some(Own::new(4242, Vec::new())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ingest.run(Input::new(file.as_fd()).unwrap(), || ()).await });
    let mut taken = 0;
    while let Some(batch) = consumer.try_next() {
        taken += batch.records();
        consumer.settle(batch);
    }
    assert!(consumer.is_over());
    let records = (RECORDS[0] * rounds) as u64;
    assert_eq!((taken, input.read.load(Relaxed)), (records, records));
}
