//! From auditd to TCP (RFC 6587, both framings), and to standard output.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use support::fake_auditd::Auditd;
use support::relay::Relay;
use support::sink::{Framing, Sink, accept, narrow_listener, read_to_end};
use support::{Capture, Expected, assert_arrived, line, relay_capture, serial};

const LF: &[&str] = &["--framing", "lf"];

#[test]
fn every_text_record_reaches_tcp_octet_counted() {
    relay_capture(Capture::String, Auditd::FirstStart, &Sink::tcp(Framing::Octet), &[]);
}

#[test]
fn every_exact_frame_reaches_tcp_octet_counted() {
    relay_capture(Capture::BinaryExact, Auditd::Dispatcher2x, &Sink::tcp(Framing::Octet), &[]);
}

#[test]
fn every_fixed_frame_reaches_tcp_octet_counted() {
    relay_capture(Capture::BinaryFixed, Auditd::Restart, &Sink::tcp(Framing::Octet), &[]);
}

#[test]
fn every_text_record_reaches_tcp_in_lines() {
    relay_capture(Capture::String, Auditd::Restart, &Sink::tcp(Framing::Lf), LF);
}

#[test]
fn every_exact_frame_reaches_tcp_in_lines() {
    relay_capture(Capture::BinaryExact, Auditd::FirstStart, &Sink::tcp(Framing::Lf), LF);
}

#[test]
fn every_fixed_frame_reaches_tcp_in_lines() {
    relay_capture(Capture::BinaryFixed, Auditd::Dispatcher2x, &Sink::tcp(Framing::Lf), LF);
}

#[test]
fn every_capture_reaches_standard_output_in_lines() {
    for capture in [Capture::String, Capture::BinaryExact, Capture::BinaryFixed] {
        let (relay, feed, mut stdout) = Relay::to("stdout:").by_hand_with_stdout();
        let (pid, writing) = (relay.id(), feed.write_on_a_thread(capture.writes().concat()));
        let reading = thread::spawn(move || read_to_end(&mut stdout));
        writing.join().unwrap().close();
        assert_eq!(relay.exit().status, Some(0));
        let bytes = reading.join().unwrap();
        let (messages, rest) = Framing::Lf.cut(&bytes);
        assert!(rest.is_empty());
        let expected: Vec<_> = capture.records().into_iter().filter(Expected::is_sent).collect();
        assert_arrived(&messages, &expected, pid);
    }
}

/// Whoever can write text into a record must not be able to write messages into the stream.
#[test]
fn a_record_cannot_pass_itself_off_as_two_messages() {
    let texts = [
        &b"<0>1 2026-01-01T00:00:00Z evil kernel - - - forged"[..],
        b"47 <0>1 2026-01-01T00:00:00Z evil kernel - - - bad",
        b"\r\n<0>forged",
        b"\0<0>forged\0",
        b"\"] <0>1 - - - - - [meta sequenceId=\"9\"] forged",
        b"\xff\xfe\x85\xc2\x85\xe2\x80\xa8<0>forged",
    ];
    for (framing, option) in [(Framing::Octet, "octet"), (Framing::Lf, "lf")] {
        let sink = Sink::tcp(framing);
        let (relay, mut auditd) =
            Relay::to(&sink.url).options(&["--framing", option]).under(Auditd::FirstStart);
        let pid = relay.id();
        let mut expected = Vec::new();
        for text in texts {
            // Frames, because a frame may hold a line end.
            let record = [b"type=USER_LOGIN msg=audit(1795424551.650:7): msg='", text, b"'"].concat();
            auditd.write(&support::frame(1, 1112, &record));
            expected.push(Expected::from_line(&record));
        }
        auditd.close();
        relay.exit();
        assert_arrived(&sink.messages_after_exit(), &expected, pid);
    }
}

/// Partial writes: the kernel takes a few bytes at a time, and the receiver one.
#[test]
fn a_receiver_that_reads_one_byte_at_a_time_gets_whole_messages() {
    let listener = narrow_listener();
    let (relay, mut feed) = Relay::to(&format!("tcp://{}", listener.local_addr().unwrap())).by_hand();
    let count = 600;
    let feeding = thread::spawn(move || {
        for number in 0..count {
            feed.write(&line(number, number % 300));
        }
    });
    let mut connection = accept(&listener);
    let reading = thread::spawn(move || {
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        while std::io::Read::read(&mut connection, &mut byte).unwrap() == 1 {
            bytes.push(byte[0]);
        }
        bytes
    });
    feeding.join().unwrap();
    assert_eq!(relay.exit().status, Some(0));
    let bytes = reading.join().unwrap();
    let (messages, rest) = Framing::Octet.cut(&bytes);
    assert!(rest.is_empty());
    assert_eq!(
        messages.iter().map(|message| serial(&message.text)).collect::<Vec<_>>(),
        (0..count).collect::<Vec<_>>()
    );
}

/// A syslog receiver has nothing to say; one that does must not stop the stream.
#[test]
fn a_receiver_that_talks_all_the_time_is_not_listened_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (relay, mut feed) = Relay::to(&format!("tcp://{}", listener.local_addr().unwrap())).by_hand();
    feed.write(&line(0, 0));
    let mut connection = accept(&listener);
    let mut mouth = connection.try_clone().unwrap();
    // Ends with an error once the relay has closed.
    let talking = thread::spawn(move || while mouth.write_all(&[b'!'; 4096]).is_ok() {});
    for number in 1..500 {
        feed.write(&line(number, 200));
    }
    let mut bytes = Vec::new();
    while Framing::Octet.cut(&bytes).0.len() < 500 {
        let mut buffer = [0; 65536];
        let length = std::io::Read::read(&mut connection, &mut buffer).unwrap();
        assert!(length > 0, "the relay has closed after {} bytes", bytes.len());
        bytes.extend_from_slice(&buffer[..length]);
    }
    feed.close();
    let exit = relay.exit();
    talking.join().unwrap();
    assert_eq!((exit.number("/destinations/0/sent"), exit.number("/destinations/0/reconnects")), (500, 0));
}

#[test]
fn each_of_several_destinations_gets_everything() {
    let (unix, udp, tcp) = (Sink::unix(), Sink::udp("127.0.0.1"), Sink::tcp(Framing::Octet));
    let stream = Sink::unix_stream(Framing::Lf);
    let urls = ["--to", &unix.url, "--to", &udp.url, "--to", &tcp.url, "--to", &stream.url];
    let (relay, mut auditd) = Relay::with(&urls).under(Auditd::FirstStart);
    let pid = relay.id();
    let (writes, records) = (Capture::String.writes(), Capture::String.records());
    let mut sent = Vec::new();
    for (write, record) in writes.iter().zip(records).take(1000) {
        auditd.write(write);
        if record.is_sent() {
            sent.push(record);
        }
        if sent.len() % 16 == 0 {
            udp.wait_for_datagrams(sent.len());
        }
    }
    auditd.close();
    assert_eq!(relay.exit().report["destinations"].as_array().unwrap().len(), 4);
    for sink in [unix, udp, tcp, stream] {
        assert_arrived(&sink.messages_after_exit(), &sent, pid);
    }
}
