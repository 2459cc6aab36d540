//! Cost of step 6, send: batches into the queue, bytes out of a receiver's socket. Throughput is in messages.
//!
//! The relay's own output, with its default settings, on a runtime of one thread, against a receiver that throws away
//! what it reads: what is timed ends when the receiver has all of it, so kernel and receiver are part of the figure. On TCP
//! and the datagram socket full batches follow each other. UDP loses what its receiver has no room for, so there
//! [`UDP_MESSAGES`] go at a time, and the receiver has read them before the next.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be set up cannot be measured")]

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use audit_relay::batch::Batch;
use audit_relay::output::service::{Member, Route, Service, Target};
use audit_relay::output::{Common, Output};
use audit_relay::queue::{Producer, queue};
use audit_relay::syslog::{Format, Framing};
use audit_relay::telemetry::DestinationCounters;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::sync::watch;

#[path = "support/mod.rs"]
mod support;

/// As many as fill a batch, about.
const MESSAGES: usize = 400;

/// The kernel's default for a receive buffer holds about 270 short datagrams.
const UDP_MESSAGES: usize = 100;

/// No measurement takes so long; a receiver that has not got everything by then has lost something.
const PATIENCE: Duration = Duration::from_secs(60);

/// The default of `queue-size`.
const QUEUE_BYTES: usize = 64 << 20;

/// A receiver on a thread of its own: told how many bytes to expect, it reads them and says what it has read.
struct Sink {
    expect: Sender<usize>,
    done: Receiver<Vec<u8>>,
}

impl Sink {
    /// Reads with `read`. Keeps the bytes of the first expectation only.
    fn new(mut read: impl FnMut(&mut [u8]) -> io::Result<usize> + Send + 'static) -> Self {
        let (expect, expected) = channel();
        let (say, done) = channel();
        thread::spawn(move || {
            let (mut space, mut first) = (vec![0; 256 * 1024], true);
            while let Ok(bytes) = expected.recv() {
                let (mut count, mut kept) = (0, Vec::new());
                while count < bytes {
                    let more = read(&mut space).unwrap();
                    assert!(more > 0, "the relay has closed the connection");
                    if first {
                        kept.extend_from_slice(&space[..more]);
                    }
                    count += more;
                }
                assert_eq!(count, bytes, "more than was sent");
                first = false;
                say.send(kept).unwrap();
            }
        });
        Self { expect, done }
    }
}

/// One destination of the relay, and who receives from it.
struct Path {
    producer: Option<Producer>,
    runtime: Option<thread::JoinHandle<()>>,
    sink: Sink,
    batch: Batch,
    source: Batch,
}

impl Path {
    fn new(target: Target, sink: Sink, source: Batch) -> Self {
        let waiting = thread::current();
        let (producer, consumer) = queue(QUEUE_BYTES, std::sync::Arc::new(move || waiting.unpark()));
        let runtime = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let url = "bench:".to_owned();
            let common = Common {
                consumer,
                counters: DestinationCounters::new(url.clone()),
                service: watch::channel(Service::default()).1,
                gate: watch::channel(true).1,
                bequest: None,
            };
            let outputs = Output::new(&Route::Failover(vec![Member { url, target }]), &common);
            runtime.block_on(async {
                for output in outputs {
                    output.run(std::future::pending()).await;
                }
            });
        });
        let (producer, runtime) = (Some(producer), Some(runtime));
        let mut path = Self { producer, runtime, sink, batch: Batch::new(), source };
        // What is measured must be the right bytes.
        let (_, received) = path.send(1);
        assert!(received == path.source.bytes[..], "other bytes arrived than were sent");
        path
    }

    /// Sends `count` batches, one behind the other, until all is received.
    fn send(&mut self, count: usize) -> (Duration, Vec<u8>) {
        let producer = self.producer.as_ref().unwrap();
        let start = Instant::now();
        self.sink.expect.send(count * self.source.bytes.len()).unwrap();
        for _ in 0..count {
            support::copy(&self.source, &mut self.batch);
            while !producer.push(&mut self.batch) {
                producer.wake_on_room();
                if producer.push(&mut self.batch) {
                    break;
                }
                thread::park();
            }
        }
        let received = self.sink.done.recv_timeout(PATIENCE).expect("the receiver got everything");
        (start.elapsed(), received)
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.producer = None;
        if let Some(runtime) = self.runtime.take() {
            let ended = runtime.join();
            assert!(ended.is_ok() || thread::panicking(), "the output has failed");
        }
    }
}

fn tcp() -> (Target, Sink) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stream = None;
    let sink = Sink::new(move |space| match &mut stream {
        Some(stream) => std::net::TcpStream::read(stream, space),
        None => stream.insert(listener.accept()?.0).read(space),
    });
    (Target::Tcp("127.0.0.1".to_owned(), port), sink)
}

fn datagram_socket(folder: &std::path::Path) -> (Target, Sink) {
    let path = folder.join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    (Target::Unix(path), Sink::new(move |space| socket.recv(space)))
}

fn udp() -> (Target, Sink) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (Target::Udp("127.0.0.1".to_owned(), port), Sink::new(move |space| socket.recv(space)))
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("send");
    for (name, (target, sink), format, framing, messages, streams) in [
        ("tcp", tcp(), Format::Rfc5424, Framing::Octet, MESSAGES, true),
        ("unix", datagram_socket(folder.path()), Format::Rfc3164, Framing::Datagram, MESSAGES, true),
        ("udp", udp(), Format::Rfc5424, Framing::Datagram, UDP_MESSAGES, false),
    ] {
        let mut path = Path::new(target, sink, support::messages(messages, format, framing));
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(BenchmarkId::new(name, messages), |bencher| {
            bencher.iter_custom(|count| match (streams, usize::try_from(count).unwrap()) {
                (true, count) => path.send(count).0,
                (false, count) => (0..count).map(|_| path.send(1).0).sum(),
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
