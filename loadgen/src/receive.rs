//! The receiver alone, for any client.
//!
//! *Promise:* says where it listens (on stderr, before the first connection), takes what comes until it is told to end,
//! and judges it if it carries marks: losses within what was seen, duplicates, order, damage, latency by the clock in
//! the mark.
//! *Law:* what it cannot know, such as what was lost behind the last arrival, is not in its account.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::cli::SinkArgs;
use crate::clock::{Clock, thread_cpu_seconds};
use crate::corpus::STREAMS;
use crate::drive::nanoseconds;
use crate::outputs;
use crate::plan::Plan;
use crate::send::{WATCH, host};
use crate::session::{Failure, build_corpus, exit_code};
use crate::signals::Signals;
use crate::sink::{Manner, Shared, Sink};
use crate::traffic::{Arrived, Traffic};

/// The subcommand.
///
/// # Errors
/// If the receiver could not be made, or a file not be written.
pub(crate) fn main(args: &SinkArgs) -> Result<ExitCode, Failure> {
    let signals = Signals::catch().map_err(Failure::when("catching signals"))?;
    outputs::check([args.json.as_deref(), args.write.as_deref()])?;
    let mut expected = build_corpus(&args.corpus.corpus())?.expected;
    expected.expect_streams(STREAMS);
    let manner = Manner { discard: args.discard, write: args.write.clone(), ..args.manner.manner() };
    let sink = Sink::listen(args.listen.clone(), manner);
    let mut sink = sink.map_err(Failure::when(format!("binding {}", args.listen)))?;
    sink.take_foreign();
    // Whoever started this waits for the line; without a stderr nobody does.
    let ca = sink.ca().map(|ca| format!(", trust {}", ca.display())).unwrap_or_default();
    let _ = writeln!(io::stderr(), "audit-loadgen: listening on {}{ca}", sink.url());

    let clock = Clock::start();
    let start_ns = clock.now();
    let shared = Shared::default();
    shared.announced.store(u64::MAX, Ordering::Release);
    let end_ns = args.duration.map(|duration| start_ns.saturating_add(nanoseconds(duration)));
    let (received, cpu_s) = std::thread::scope(|scope| {
        let receiving = {
            let (sink, expected, shared, clock) = (&sink, &mut expected, &shared, &clock);
            scope.spawn(move || {
                let plan = Plan::new(start_ns, None);
                (sink.run(expected, &plan, clock, shared, args.linger), thread_cpu_seconds())
            })
        };
        while !receiving.is_finished() {
            if signals.wait(WATCH) || end_ns.is_some_and(|end| clock.now() >= end) {
                shared.stop.store(true, Ordering::Relaxed);
                break;
            }
            if args.expect.is_some_and(|expect| shared.arrived.load(Ordering::Relaxed) >= expect) {
                shared.sent.store(args.expect.unwrap_or(0), Ordering::Release);
            }
        }
        let (received, cpu_s) =
            receiving.join().map_err(|_| Failure::usage("the receiving thread panicked"))?;
        Ok((received.map_err(Failure::when("receiving"))?, cpu_s))
    })?;
    let conditions =
        vec![("version", json!(env!("CARGO_PKG_VERSION"))), ("host", host()), ("sink", json!(sink.url()))];
    let received = Some(Arrived { received, judged: !args.discard, expected: args.expect, cpu_s, start_ns });
    let traffic = Traffic { conditions, sent: None, received };
    let json = args.json.as_deref().map(|path| (path, format!("{:#}\n", traffic.json())));
    outputs::write_account(&traffic.table(), json)?;
    Ok(exit_code(traffic.judge(args.allow_loss)))
}
