//! From auditd to UDP (RFC 5426).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::net::UdpSocket;

use support::fake_auditd::Auditd;
use support::relay::Relay;
use support::sink::Sink;
use support::{Capture, line, relay_capture, serial};

#[test]
fn every_text_record_reaches_udp() {
    relay_capture(Capture::String, Auditd::FirstStart, &Sink::udp("127.0.0.1"), &[]);
}

#[test]
fn every_exact_frame_reaches_udp() {
    relay_capture(Capture::BinaryExact, Auditd::Restart, &Sink::udp("127.0.0.1"), &[]);
}

#[test]
fn every_fixed_frame_reaches_udp() {
    relay_capture(Capture::BinaryFixed, Auditd::Dispatcher2x, &Sink::udp("127.0.0.1"), &[]);
}

#[test]
fn ipv6_literals_and_names_work() {
    if UdpSocket::bind("[::1]:0").is_ok() {
        relay_capture(Capture::BinaryFixed, Auditd::FirstStart, &Sink::udp("::1"), &[]);
    }
    let mut sink = Sink::udp("127.0.0.1");
    sink.url = sink.url.replace("127.0.0.1", "localhost");
    relay_capture(Capture::BinaryFixed, Auditd::FirstStart, &sink, &[]);
}

/// 65,507 bytes are the most that a datagram can carry over IPv4.
#[test]
fn a_message_too_long_for_udp_is_cut_with_a_mark_and_the_next_ones_come() {
    let sink = Sink::udp("127.0.0.1");
    let (relay, mut auditd) = Relay::to(&sink.url).under(Auditd::FirstStart);
    auditd.write(&line(1, 0));
    auditd.write(&line(2, 70_000));
    auditd.write(&line(3, 0));
    auditd.close();
    let exit = relay.exit();
    let messages = sink.messages_after_exit();
    let (raw, long) = (sink.raw(), &messages[1].text);
    let full = raw[1].len() - long.len() + line(2, 70_000).len() - 1;
    assert!(long.ends_with(&format!("x[cut from {full} bytes]")), "{}", &long[long.len() - 80..]);
    assert!((65_000..=65_507).contains(&raw[1].len()), "{}", raw[1].len());
    assert_eq!(messages.iter().map(|message| serial(&message.text)).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((exit.number("/destinations/0/cut"), exit.number("/destinations/0/sent")), (1, 3));
}

#[test]
fn max_message_size_cuts_at_a_character_border() {
    let sink = Sink::udp("127.0.0.1");
    let (relay, mut auditd) =
        Relay::to(&sink.url).options(&["--max-message-size", "1KiB"]).under(Auditd::FirstStart);
    for shift in 0..4 {
        let text = format!(
            "type=USER msg=audit(1795424551.650:1): {}{}\n",
            "x".repeat(shift),
            "\u{1f980}".repeat(500)
        );
        auditd.write(text.as_bytes());
    }
    auditd.close();
    let exit = relay.exit();
    // Message::read insists on UTF-8.
    let messages = sink.messages_after_exit();
    assert!(messages.iter().all(|message| message.text.contains("\u{1f980}[cut from 2")), "{messages:?}");
    assert!(sink.raw().iter().all(|datagram| datagram.len() <= 1024));
    assert_eq!(exit.number("/destinations/0/cut"), 4);
}

#[test]
fn a_record_cannot_pass_itself_off_as_two_messages() {
    let sink = Sink::udp("127.0.0.1");
    let (relay, mut auditd) = Relay::to(&sink.url).under(Auditd::FirstStart);
    auditd.write(b"type=USER_LOGIN msg=audit(1795424551.650:7): msg='\"] <0>1 - evil - - - - \r<13>Jan 1 x: [a b=\"c\"]'\n");
    auditd.close();
    relay.exit();
    let messages = sink.messages_after_exit();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].pri, messages[0].app.as_str()), (182, "auditd"));
    assert!(
        messages[0].text.contains("\"] <0>1 - evil - - - - #015<13>Jan 1 x: [a b=\"c\"]"),
        "{messages:?}"
    );
}
