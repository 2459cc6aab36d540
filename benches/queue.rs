//! Cost of step 5, queue: batches from one thread to another, and their memory back. Throughput is in batches.
//!
//! `ping-pong`: a lone batch goes over, is settled, and the producer, which waits for that, is woken: two wake-ups, the
//! hand-over at its dearest. `stream`: batches as fast as they are taken, the producer waiting only while the queue is
//! full. What a batch holds costs nothing here: one short message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use audit_relay::batch::{BATCH_BYTES, Batch};
use audit_relay::queue::{Producer, Wake, queue};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The default of `queue-size`.
const QUEUE_BYTES: usize = 64 << 20;

/// All that a batch holds here.
const MESSAGE: &[u8] = b"<182>1 ";

/// Hands over one message in the memory that `batch` has, waiting for room.
fn push(producer: &Producer, batch: &mut Batch, woken: &AtomicBool) {
    assert!(batch.is_empty() && batch.bytes.capacity() >= BATCH_BYTES);
    batch.bytes.extend_from_slice(MESSAGE);
    batch.end_message(None, true);
    while !producer.push(batch) {
        producer.wake_on_room();
        if producer.push(batch) {
            break;
        }
        wait(woken);
    }
}

fn wait(woken: &AtomicBool) {
    while !woken.swap(false, SeqCst) {
        thread::park();
    }
}

/// Sends `count` batches through a new queue, and says how long that took. `alone`: each when the one before is settled.
#[allow(clippy::expect_used, reason = "without a runtime or a consumer there is nothing to measure")]
fn hand_over(count: u64, alone: bool) -> Duration {
    let woken = Arc::new(AtomicBool::new(false));
    let (flag, producing) = (Arc::clone(&woken), thread::current());
    let wake: Wake = Arc::new(move || {
        flag.store(true, SeqCst);
        producing.unpark();
    });
    let (producer, consumer) = queue(QUEUE_BYTES, wake);
    let consuming = thread::spawn(move || {
        // As the relay's outputs: a runtime of one thread, which sleeps in epoll.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut taken = 0;
            while let Some(batch) = consumer.next().await {
                assert_eq!(&batch.bytes[..], MESSAGE);
                taken += batch.records();
                consumer.settle(batch);
            }
            taken
        })
    });
    let mut batch = Batch::new();
    let start = Instant::now();
    for _ in 0..count {
        if alone {
            producer.wake_on_room();
        }
        push(&producer, &mut batch, &woken);
        if alone {
            wait(&woken);
        }
    }
    drop(producer);
    let taken = consuming.join().expect("a consumer that has taken everything");
    let time = start.elapsed();
    assert_eq!(taken, count);
    time
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(1));
    for (name, alone) in [("ping-pong", true), ("stream", false)] {
        group.bench_function(name, |bencher| bencher.iter_custom(|count| hand_over(count, alone)));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
