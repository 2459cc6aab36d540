//! The relay's own system calls in the stream it reads: told once, counted, passed on, and never sent one by one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod support;

use support::fake_auditd::Auditd;
use support::relay::Relay;
use support::sink::{Framing, Sink};

/// Events of the relay's own that the last test makes.
const EVENTS: usize = 60;

/// One event as the kernel makes it of a system call of process `pid`.
fn event(serial: usize, pid: u32, comm: &str) -> Vec<Vec<u8>> {
    let stamp = format!("msg=audit(1795424551.650:{serial}):");
    [
        format!(
            "type=SYSCALL {stamp} arch=c000003e syscall=44 success=yes exit=9 a0=9 a1=7f a2=9 a3=0 items=0 ppid=1 \
             pid={pid} auid=4294967295 uid=65534 comm=\"{comm}\" exe=\"/usr/sbin/audit-relay\" key=(null)\n"
        ),
        format!("type=PROCTITLE {stamp} proctitle=\"audit-relay\"\n"),
        format!("type=EOE {stamp} \n"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

#[test]
fn own_records_are_told_once_counted_and_passed_on() {
    let sink = Sink::tcp(Framing::Octet);
    let (relay, mut auditd) = Relay::to(&sink.url).under(Auditd::FirstStart);
    let own = relay.id();
    let forged = format!("x\" ppid=1 pid={own} \"");
    for serial in 0..20 {
        event(serial, own, "audit-relay").iter().for_each(|record| auditd.write(record));
        event(100 + serial, own + 1, &forged).iter().for_each(|record| auditd.write(record));
    }
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.number("/own"), 20, "{exit:?}");
    assert_eq!(exit.said.matches("10-audit-relay.rules").count(), 1, "{}", exit.said);
    assert_eq!(sink.messages_after_exit().len(), 80, "{exit:?}");
}

#[test]
fn nothing_is_told_of_others() {
    let sink = Sink::tcp(Framing::Octet);
    let (relay, mut auditd) = Relay::to(&sink.url).under(Auditd::FirstStart);
    event(1, relay.id() + 1, "other").iter().for_each(|record| auditd.write(record));
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.number("/own"), 0);
    assert!(!exit.said.contains("10-audit-relay.rules"), "{}", exit.said);
}

/// A kernel with a rule on the relay's sendings: each that arrives here makes an event of it. What comes of one
/// stranger's record must not be a sending for each.
#[test]
fn own_records_do_not_go_out_one_by_one() {
    let sink = Sink::udp("127.0.0.1");
    let (relay, mut auditd) = Relay::to(&sink.url).options(&["--gather", "0ms"]).under(Auditd::FirstStart);
    // Each is read before the next one comes, so they could all go out one by one. Every change of `sent` is a sending.
    let (mut sendings, mut sent, mut uptime) = (0, 0, 0.0);
    for serial in 0..EVENTS {
        event(serial, relay.id(), "audit-relay").iter().for_each(|record| auditd.write(record));
        relay.wait_for("/own", serial as u64 + 1);
        let report = relay.report();
        let now = report["destinations"][0]["sent"].as_u64().unwrap();
        sendings += u64::from(now != sent);
        (sent, uptime) = (now, report["uptime_seconds"].as_f64().unwrap());
    }
    // One a second by the relay's own clock; as many as events would be one for each, unless each took a second.
    assert!(sendings as f64 <= uptime + 1.0, "{sendings} sendings in {uptime} s");
    auditd.write(&support::line(99, 0));
    sink.wait_for(2 * EVENTS + 1);
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.number("/destinations/0/sent"), 2 * EVENTS as u64 + 1, "{exit:?}");
}
