//! From auditd to a local socket: the stand-in for /dev/log, and a stream socket.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use support::fake_auditd::Auditd;
use support::relay::Relay;
use support::sink::{Framing, Message, Place, Sink, bind_datagram};
use support::{Capture, line, relay_capture, serial, wait_until};

#[test]
fn every_text_record_reaches_the_datagram_socket() {
    relay_capture(Capture::String, Auditd::FirstStart, &Sink::unix(), &[]);
}

#[test]
fn every_exact_frame_reaches_the_datagram_socket() {
    relay_capture(Capture::BinaryExact, Auditd::Dispatcher2x, &Sink::unix(), &[]);
}

#[test]
fn every_fixed_frame_reaches_the_datagram_socket() {
    relay_capture(Capture::BinaryFixed, Auditd::Restart, &Sink::unix(), &[]);
}

#[test]
fn every_text_record_reaches_the_stream_socket() {
    relay_capture(Capture::String, Auditd::Restart, &Sink::unix_stream(Framing::Lf), &[]);
}

#[test]
fn every_exact_frame_reaches_the_stream_socket() {
    relay_capture(
        Capture::BinaryExact,
        Auditd::FirstStart,
        &Sink::unix_stream(Framing::Octet),
        &["--framing", "octet"],
    );
}

#[test]
fn every_fixed_frame_reaches_the_stream_socket() {
    relay_capture(Capture::BinaryFixed, Auditd::Dispatcher2x, &Sink::unix_stream(Framing::Lf), &[]);
}

#[test]
fn rfc5424_can_be_had_on_the_datagram_socket() {
    relay_capture(Capture::BinaryFixed, Auditd::FirstStart, &Sink::unix(), &["--format", "rfc5424"]);
}

#[test]
fn a_local_socket_gets_the_old_date_that_every_syslogd_parses() {
    let sink = Sink::unix();
    let (relay, mut feed) = Relay::to(&sink.url).by_hand();
    let pid = relay.id();
    feed.write(b"type=USER_CMD msg=audit(1795424551.650:6839): pid=1 msg='x'\x1dUID=\"root\"\n");
    feed.close();
    relay.exit();
    let expected = format!(
        "<182>Nov 23 09:02:31 auditd[{pid}]: type=USER_CMD msg=audit(1795424551.650:6839): pid=1 msg='x' UID=\"root\""
    );
    sink.messages_after_exit();
    assert_eq!(String::from_utf8(sink.raw().concat()).unwrap(), expected);
}

/// A message longer than the sender's buffer gets EMSGSIZE: it is cut until it fits, and the next ones come.
#[test]
fn emsgsize_cuts_the_message_and_wedges_nothing() {
    let sink = Sink::unix();
    let (relay, mut feed) = Relay::to(&sink.url).by_hand();
    feed.write(&line(1, 0));
    // Each byte becomes four, so the message is longer than any default send buffer (208 KiB).
    feed.write(
        &[b"type=USER msg=audit(1795424551.650:2): ".to_vec(), vec![0xff; 120_000], b"\n".to_vec()].concat(),
    );
    feed.write(&line(3, 0));
    let messages = sink.wait_for(3);
    feed.write(&line(4, 0));
    feed.close();
    let exit = relay.exit();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    let sent_length = sink.raw()[1].len();
    let header = sink.raw()[1].len() - messages[1].text.len();
    let full = header + "type=USER msg=audit(1795424551.650:2): ".len() + 4 * 120_000;
    assert!(sent_length > 100_000, "not cut more than need be: {sent_length}");
    assert!(
        messages[1].text.ends_with(&format!("#377[cut from {full} bytes]")),
        "{}",
        &messages[1].text[sent_length - 100..]
    );
    assert_eq!((serial(&messages[0].text), serial(&messages[2].text)), (1, 3));
    assert_eq!(serial(&sink.messages_after_exit()[3].text), 4);
    assert_eq!((exit.number("/destinations/0/cut"), exit.number("/destinations/0/sent")), (1, 4));
}

/// Once a destination's limit is known, later messages are cut to it at once; the count stays right.
#[test]
fn many_messages_over_the_limit_are_all_cut_and_counted() {
    let sink = Sink::unix();
    let (relay, mut feed) = Relay::to(&sink.url).by_hand();
    for number in 0..5 {
        let head = format!("type=USER msg=audit(1795424551.650:{number}): ");
        feed.write(&[head.into_bytes(), vec![0xff; 120_000], b"\n".to_vec()].concat());
        feed.write(&line(100 + number, 0));
        sink.wait_for(2 * number + 2);
    }
    feed.close();
    let exit = relay.exit();
    let messages = sink.messages_after_exit();
    let serials: Vec<_> = messages.iter().map(|message| serial(&message.text)).collect();
    assert_eq!(serials, [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]);
    for message in messages.iter().step_by(2) {
        let mark = message.text.rsplit_once("[cut from ").unwrap().1.strip_suffix(" bytes]").unwrap();
        assert!(mark.parse::<usize>().unwrap() > 480_000, "the mark states the original length: {mark}");
    }
    assert_eq!(exit.number("/destinations/0/cut"), 5);
}

/// Each datagram is one message, whatever the record holds.
#[test]
fn a_record_cannot_pass_itself_off_as_two_messages() {
    let sink = Sink::unix();
    let (relay, mut auditd) = Relay::to(&sink.url).under(Auditd::FirstStart);
    let record = b"type=USER_LOGIN msg=audit(1795424551.650:7): msg='<0>Jan  1 00:00:00 kernel: \r<13>1 - - - - - - ]\"'";
    auditd.write(&[&record[..], b"\n"].concat());
    auditd.close();
    relay.exit();
    let messages = sink.messages_after_exit();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].pri, messages[0].app.as_str()), (182, "auditd"));
    assert!(messages[0].text.contains("kernel: #015<13>1 - - - - - - ]\""), "{messages:?}");
}

/// The kernel queues only a few datagrams for a slow reader; the relay waits and loses none.
#[test]
fn a_receiver_that_reads_one_datagram_at_a_time_gets_them_all() {
    let place = Place::new();
    let receiver = bind_datagram(&place.path());
    receiver.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let (relay, mut feed) = Relay::to(&format!("unix:{}", place.path().display())).by_hand();
    for number in 0..2000 {
        feed.write(&line(number, 20));
    }
    let mut buffer = [0; 2000];
    for number in 0..2000 {
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(serial(&Message::read(&buffer[..length]).text), number);
        if number == 1000 {
            wait_until("the relay has read everything", || relay.report()["read"] == 2000);
        }
    }
    feed.close();
    assert_eq!(relay.exit().status, Some(0));
}
