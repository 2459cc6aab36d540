//! How often the relay wakes up under auditd while records come in quick succession.
//!
//! Counts of wake-ups with bounds that a busy machine only makes easier to keep: whoever is late finds more at once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::thread::sleep;
use std::time::Duration;

use support::fake_auditd::Auditd;
use support::relay::Relay;
use support::sink::{Framing, Sink};
use support::{line, serial};

const RECORDS: usize = 4000;
/// Between two records: ten to twenty of them make a gathering time of 5 ms.
const APART: Duration = Duration::from_micros(250);

#[test]
fn quick_records_are_read_many_at_a_time_and_none_is_lost() {
    for to_a_datagram_socket in [false, true] {
        let sink = if to_a_datagram_socket { Sink::unix() } else { Sink::tcp(Framing::Octet) };
        let (relay, mut auditd) =
            Relay::to(&sink.url).options(&["--gather", "5ms"]).under(Auditd::FirstStart);
        for number in 0..RECORDS {
            auditd.write(&line(number, 50));
            sleep(APART);
        }
        relay.wait_for("/destinations/0/sent", RECORDS as u64);
        let waits: usize = relay.status_field("voluntary_ctxt_switches").parse().unwrap();
        auditd.close();
        assert_eq!(relay.exit().status, Some(0));
        let arrived: Vec<_> =
            sink.messages_after_exit().iter().map(|message| serial(&message.text)).collect();
        assert_eq!(arrived, (0..RECORDS).collect::<Vec<_>>());
        // One by one it would be as many as there are records, or twice that.
        assert!(waits < RECORDS / 3, "{waits} waits for {RECORDS} records");
    }
}
