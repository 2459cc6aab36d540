//! Receivers that take nothing: who is held up, what is lost, and whether the receiver can tell.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;

use support::fake_auditd::Auditd;
use support::relay::{Exit, Relay, Setup};
use support::sink::{Framing, Message, Place, Sink, accept_unix, bind_datagram, bind_stream, read_to_end};
use support::{PATIENCE, line, serial, wait_until};

/// Enough records of about 1 KiB to fill socket and queue many times over.
const RECORDS: usize = 4000;
const PADDING: usize = 900;

/// A relay with the smallest queue, sending RFC 5424 to a stream socket.
fn small(place: &Place, on_full: &str) -> Setup {
    let url = format!("unix-stream:{}", place.path().display());
    let options =
        ["--queue-size", "256KiB", "--on-full", on_full, "--format", "rfc5424", "--framing", "octet"];
    Relay::to(&url).options(&options)
}

/// Reads on to the end, on a thread.
fn read_on(mut connection: UnixStream) -> std::thread::JoinHandle<Vec<Message>> {
    std::thread::spawn(move || {
        let bytes = read_to_end(&mut connection);
        let (messages, rest) = Framing::Octet.cut(&bytes);
        assert!(rest.is_empty(), "the stream ends between messages");
        messages
    })
}

/// Asserts that what is missing among the records `0..total`, what the notices say, the gaps in sequenceId and
/// the report are all the same number, and returns the missing serials.
#[track_caller]
fn losses_agree(messages: &[Message], total: usize, exit: &Exit) -> BTreeSet<usize> {
    let records: Vec<_> =
        messages.iter().filter(|message| !message.is_notice()).map(|m| serial(&m.text)).collect();
    assert!(records.is_sorted_by(|a, b| a < b), "each record once, in order");
    let mut missing: BTreeSet<_> = (0..total).collect();
    records.iter().for_each(|record| assert!(missing.remove(record)));
    let lost = exit.number("/destinations/0/lost/overflow");
    assert_eq!(missing.len() as u64, lost, "records missing at the receiver, and the report");
    let said: u64 = messages
        .iter()
        .filter(|m| m.is_notice())
        .map(|m| m.field("records").unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(said, lost, "what the notices say, and the report");
    // Records are numbered from 1, lost ones too, so a gap in sequenceId is as wide as the loss.
    for message in messages.iter().filter(|m| !m.is_notice()) {
        assert_eq!(message.sequence(), serial(&message.text) as u64 + 1, "{message:?}");
    }
    missing
}

fn stamp_serial(notice: &Message, field: &str) -> usize {
    notice.field(field).unwrap().strip_prefix("1795424551.650:").unwrap().parse().unwrap()
}

/// Runs the overload: the receiver stalls while auditd writes everything, then reads on.
fn overload(on_full: &str) -> (Vec<Message>, Exit) {
    let place = Place::new();
    let listener = bind_stream(&place.path());
    let (relay, mut auditd) = small(&place, on_full).under(Auditd::FirstStart);
    auditd.write(&line(0, PADDING));
    let connection = accept_unix(&listener);
    for number in 1..RECORDS {
        // Has a deadline; nobody reads at the other end.
        auditd.write(&line(number, PADDING));
    }
    relay.wait_for("/read", RECORDS as u64);
    let reading = read_on(connection);
    wait_until("the backlog is delivered", || relay.report()["destinations"][0]["in_flight"] == 0);
    auditd.write(&line(RECORDS, PADDING));
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    (reading.join().unwrap(), exit)
}

#[test]
fn drop_newest_never_holds_auditd_up_and_every_gap_is_announced_where_it_is() {
    // auto means drop-newest, because the input is auditd's socket.
    for policy in ["auto", "drop-newest"] {
        let (messages, exit) = overload(policy);
        let missing = losses_agree(&messages, RECORDS + 1, &exit);
        assert!(missing.len() > RECORDS / 2, "the queue is small: {}", missing.len());
        let mut next = 0;
        let mut announced = 0..0;
        for message in &messages {
            if message.is_notice() {
                assert_eq!(message.rfc5424.as_ref().unwrap().msgid, "LOST");
                assert_eq!((message.field("reason"), message.pri), (Some("overflow"), 180));
                announced = stamp_serial(message, "first")..stamp_serial(message, "last") + 1;
                assert_eq!(announced.len().to_string(), message.field("records").unwrap());
            } else {
                let record = serial(&message.text);
                assert_eq!(
                    next..record,
                    if next == record { next..next } else { announced.clone() },
                    "{message:?}"
                );
                next = record + 1;
            }
        }
        assert_eq!(next, RECORDS + 1, "the record after the recovery arrives");
    }
}

#[test]
fn drop_oldest_never_holds_auditd_up_and_keeps_the_newest() {
    let (messages, exit) = overload("drop-oldest");
    let last = messages
        .iter()
        .rev()
        .filter(|m| !m.is_notice())
        .map(|m| serial(&m.text))
        .take(50)
        .collect::<Vec<_>>();
    assert_eq!(last, (RECORDS - 49..=RECORDS).rev().collect::<Vec<_>>(), "the newest records survive");
    let missing = losses_agree(&messages, RECORDS + 1, &exit);
    assert!(missing.len() > RECORDS / 2, "the queue is small: {}", missing.len());
    let notices: Vec<_> = messages.iter().filter(|message| message.is_notice()).collect();
    assert_eq!(notices.iter().map(|n| stamp_serial(n, "first")).min(), missing.first().copied());
    assert_eq!(notices.iter().map(|n| stamp_serial(n, "last")).max(), missing.last().copied());
}

/// The notices are records' only trace: pushing them out of the queue must not unsay them.
#[test]
fn drop_oldest_says_every_loss_even_when_nobody_is_there_for_long() {
    let place = Place::new();
    let (relay, mut auditd) = small(&place, "drop-oldest").under(Auditd::FirstStart);
    for number in 0..RECORDS {
        auditd.write(&line(number, PADDING));
    }
    relay.wait_for("/read", RECORDS as u64);
    let listener = bind_stream(&place.path());
    let reading = read_on(accept_unix(&listener));
    wait_until("the backlog is delivered", || relay.report()["destinations"][0]["in_flight"] == 0);
    auditd.close();
    let exit = relay.exit();
    losses_agree(&reading.join().unwrap(), RECORDS, &exit);
}

#[test]
fn block_holds_the_writer_up_and_loses_nothing() {
    // auto means block, because the input is a pipe. With two threads the one that reads waits for the one that sends.
    for (policy, threads) in [("auto", "auto"), ("block", "1"), ("auto", "2"), ("block", "2")] {
        let place = Place::new();
        let listener = bind_stream(&place.path());
        let (relay, feed) = small(&place, policy).options(&["--threads", threads]).by_hand();
        let writing = feed.write_on_a_thread((0..RECORDS).flat_map(|number| line(number, PADDING)).collect());
        let connection = accept_unix(&listener);
        relay.wait_for("/read", 300);
        let started = std::fs::read_dir(format!("/proc/{}/task", relay.id())).unwrap().count();
        assert_eq!(started, if threads == "2" { 2 } else { 1 }, "--threads {threads}");
        assert!(!writing.is_finished(), "4 MB are more than queue, pipe and socket hold");
        // It answers while it waits.
        let mut before = None;
        wait_until("the queue is full", || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let read = relay.report()["read"].as_u64();
            std::mem::replace(&mut before, read) == read
        });
        assert!(!writing.is_finished(), "it is held up: {before:?}");
        let reading = read_on(connection);
        writing.join().unwrap().close();
        let exit = relay.exit();
        assert_eq!(exit.status, Some(0), "{exit:?}");
        let messages = reading.join().unwrap();
        assert_eq!(losses_agree(&messages, RECORDS, &exit).len(), 0);
    }
}

/// Under `block` a dead destination holds up the input, as asked; what was read before goes to the others.
#[test]
fn a_destination_that_waits_keeps_no_record_from_another() {
    let (alive, closed) = (Sink::tcp(Framing::Octet), support::sink::ClosedPort::new());
    let urls = [format!("tcp://{}", closed.address()), alive.url.clone()];
    let options = ["--on-full", "block", "--queue-size", "256KiB", "--drain-timeout", "300ms"];
    let arguments: Vec<_> = urls.iter().flat_map(|url| ["--to", url.as_str()]).chain(options).collect();
    let (relay, feed) = Relay::with(&arguments).by_hand();
    let writing = feed.write_on_a_thread((0..RECORDS).flat_map(|number| line(number, PADDING)).collect());
    wait_until("one is full, and the other has what was read", || {
        let report = relay.report();
        let in_flight = |at: usize| report["destinations"][at]["in_flight"].as_u64();
        in_flight(0) > Some(200) && in_flight(1) == Some(0)
    });
    relay.signal(nix::sys::signal::Signal::SIGTERM);
    let exit = relay.exit();
    drop(writing);
    let read = exit.number("/read");
    assert_eq!(exit.number("/destinations/0/lost/drain_deadline"), read, "{exit:?}");
    assert_eq!(exit.number("/destinations/1/sent"), read, "{exit:?}");
    // A notice may say that the stop has cut a line.
    let messages = alive.messages_after_exit();
    assert_eq!(messages.iter().filter(|message| message.text.starts_with("type=")).count() as u64, read);
}

#[test]
fn dead_destinations_hold_neither_auditd_nor_a_living_one() {
    let (alive, nowhere, stalled) = (Sink::tcp(Framing::Octet), Place::new(), Place::new());
    let _nobody_reads = bind_datagram(&stalled.path());
    let closed = support::sink::ClosedPort::new();
    let urls = [
        format!("unix:{}", nowhere.path().display()),
        format!("unix:{}", stalled.path().display()),
        format!("tcp://{}", closed.address()),
        alive.url.clone(),
    ];
    let arguments: Vec<_> = urls.iter().flat_map(|url| ["--to", url]).collect();
    let options = ["--queue-size", "256KiB", "--drain-timeout", "200ms"];
    let (relay, mut auditd) = Relay::with(&arguments).options(&options).under(Auditd::FirstStart);
    for number in 0..2000 {
        auditd.write(&line(number, PADDING));
        if number % 100 == 99 {
            // The living one is served at once, however full the others are.
            alive.wait_for(number + 1);
        }
    }
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.status, Some(75), "{exit:?}");
    let serials: Vec<_> = alive.messages_after_exit().iter().map(|message| serial(&message.text)).collect();
    assert_eq!(serials, (0..2000).collect::<Vec<_>>());
    for dead in 0..3 {
        assert!(exit.number(&format!("/destinations/{dead}/lost/overflow")) > 500, "{exit:?}");
        assert!(exit.number(&format!("/destinations/{dead}/lost/drain_deadline")) > 100, "{exit:?}");
    }
}

/// A terminal that is stopped, or a reader that hangs: the other destinations go on, and the relay can end.
#[test]
fn a_standard_output_that_hangs_holds_nothing_else() {
    let alive = Sink::tcp(Framing::Octet);
    let options = ["--queue-size", "256KiB", "--on-full", "drop-newest", "--drain-timeout", "200ms"];
    let (relay, mut feed, stdout) =
        Relay::with(&["--to", "stdout:", "--to", &alive.url]).options(&options).by_hand_with_stdout();
    for number in 0..2000 {
        feed.write(&line(number, PADDING));
        if number % 100 == 99 {
            alive.wait_for(number + 1);
        }
    }
    feed.close();
    let exit = relay.exit();
    drop(stdout);
    assert_eq!(exit.status, Some(75), "{exit:?}");
    assert_eq!(exit.number("/destinations/1/sent"), 2000);
    assert_eq!(alive.messages_after_exit().len(), 2000);
}

/// A reader that goes away (`| head`) is for good: what comes is counted, and the others go on.
#[test]
fn a_standard_output_that_is_closed_holds_nothing_else() {
    let alive = Sink::tcp(Framing::Octet);
    let (relay, mut feed, stdout) =
        Relay::with(&["--to", "stdout:", "--to", &alive.url]).by_hand_with_stdout();
    drop(stdout);
    for number in 0..500 {
        feed.write(&line(number, 0));
    }
    feed.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/lost/closed")), (Some(75), 500), "{exit:?}");
    assert_eq!(alive.messages_after_exit().len(), 500);
}

/// The law holds at every moment, not only at the end.
#[test]
fn the_sum_law_holds_while_records_are_in_flight() {
    let place = Place::new();
    let listener = bind_stream(&place.path());
    let (relay, mut auditd) = small(&place, "drop-newest").under(Auditd::FirstStart);
    let connection = accept_unix(&listener);
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    for number in 0..RECORDS {
        auditd.write(&line(number, PADDING));
        if number % 400 == 0 {
            let report = relay.report();
            let destination = &report["destinations"][0];
            let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
            let settled = number(&destination["sent"]) + number(&destination["lost"]["overflow"]);
            let sum = settled + number(&report["filtered"]) + number(&destination["in_flight"]);
            assert_eq!(number(&report["read"]), sum, "{report}");
        }
    }
    let reading = read_on(connection);
    auditd.close();
    let exit = relay.exit();
    losses_agree(&reading.join().unwrap(), RECORDS, &exit);
}
