//! What auditd's versions, and hostile peers behind them, really send.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use support::fake_auditd::Auditd;
use support::relay::{Exit, Relay};
use support::sink::{Framing, Message, Sink};
use support::{Capture, Expected, FIXED_FRAME, assert_arrived, frame, line, overstated_frame, visible};

/// Feeds `writes` through a relay to a TCP receiver.
#[track_caller]
fn through(options: &[&str], writes: &[Vec<u8>]) -> (Vec<Message>, Exit) {
    let sink = Sink::tcp(Framing::Octet);
    let (relay, mut auditd) = Relay::to(&sink.url).options(options).under(Auditd::FirstStart);
    for write in writes {
        auditd.write_long(write);
    }
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    (sink.messages_after_exit(), exit)
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

/// Cuts `bytes` into pieces of 1 to `longest` bytes, the same ones in every run.
fn cut_at_random(bytes: &[u8], longest: usize) -> Vec<Vec<u8>> {
    let (mut pieces, mut at, mut state) = (Vec::new(), 0, 0x2545_f491_4f6c_dd1d_u64);
    while at < bytes.len() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let length = 1 + usize::try_from(state >> 33).unwrap() % longest;
        let end = bytes.len().min(at + length);
        pieces.push(bytes[at..end].to_vec());
        at = end;
    }
    pieces
}

// ---------------------------------------------------------------------------------------------------------
// Reads cut the stream anywhere

#[test]
fn cuts_at_any_byte_change_nothing() {
    for capture in [Capture::String, Capture::BinaryExact, Capture::BinaryFixed] {
        let (messages, exit) = through(&[], &cut_at_random(&capture.writes().concat(), 3000));
        let expected: Vec<_> = capture.records().into_iter().filter(Expected::is_sent).collect();
        assert_arrived(&messages, &expected, u32::try_from(exit.number("/pid")).unwrap());
    }
}

#[test]
fn one_byte_at_a_time_changes_nothing() {
    for (capture, count) in [(Capture::String, 30), (Capture::BinaryExact, 30), (Capture::BinaryFixed, 2)] {
        let bytes = capture.writes()[..count].concat();
        let (messages, exit) = through(&[], &bytes.iter().map(|byte| vec![*byte]).collect::<Vec<_>>());
        let expected: Vec<_> =
            capture.records()[..count].iter().filter(|record| record.is_sent()).cloned().collect();
        assert_arrived(&messages, &expected, u32::try_from(exit.number("/pid")).unwrap());
    }
}

/// auditd 4.2 and later write header and payload with two calls.
#[test]
fn a_header_that_comes_alone_waits_for_its_payload() {
    let records = &Capture::BinaryExact.writes()[..200];
    let halves: Vec<_> =
        records.iter().flat_map(|record| [record[..16].to_vec(), record[16..].to_vec()]).collect();
    let (messages, exit) = through(&[], &halves);
    let expected: Vec<_> =
        Capture::BinaryExact.records()[..200].iter().filter(|r| r.is_sent()).cloned().collect();
    assert_arrived(&messages, &expected, u32::try_from(exit.number("/pid")).unwrap());
}

/// Natural batching: nothing waits for a second record, a timer, or the end of the input.
#[test]
fn a_lone_record_leaves_at_once_in_every_form() {
    for capture in [Capture::String, Capture::BinaryExact, Capture::BinaryFixed] {
        let sink = Sink::tcp(Framing::Octet);
        let (relay, mut auditd) = Relay::to(&sink.url).under(Auditd::FirstStart);
        let mut due = 0;
        for (write, record) in capture.writes()[..20].iter().zip(capture.records()) {
            auditd.write(write);
            due += usize::from(record.is_sent());
            assert_eq!(sink.wait_for(due).len(), due, "{capture:?}");
        }
        auditd.close();
        relay.exit();
    }
}

// ---------------------------------------------------------------------------------------------------------
// Lines

#[test]
fn lines_far_over_auditds_limit_stay_whole() {
    let lines: Vec<_> = [9_000, 16 << 10, 64 << 10, 127 << 10].map(|length| line(length, length)).to_vec();
    let (messages, _) = through(&[], &lines);
    let expected: Vec<_> = lines.iter().map(|line| visible(line.strip_suffix(b"\n").unwrap())).collect();
    assert_eq!(texts(&messages), expected);
}

/// Nobody's record is that long; its bytes are data all the same.
#[test]
fn a_line_without_end_arrives_in_parts_and_nothing_vanishes() {
    let long: String = (0..60_000).map(|number| format!("{number} ")).collect();
    let head = "type=USER msg=audit(1795424551.650:1): ";
    let (messages, exit) = through(&[], &[format!("{head}{long}\n").into_bytes(), line(2, 0)]);
    let (last, parts) = messages.split_last().unwrap();
    assert_eq!(texts(parts).concat(), format!("{head}{long}"));
    assert_eq!(last.text, visible(line(2, 0).strip_suffix(b"\n").unwrap()));
    assert_eq!(exit.number("/read"), messages.len() as u64);
    assert_eq!(exit.number("/undecodable"), parts.len() as u64 - 1, "the first part has type and stamp");
}

#[test]
fn empty_lines_are_counted_as_filtered() {
    let (messages, exit) = through(&[], &[b"\n\n".to_vec(), line(1, 0), b"\n\0\n".to_vec(), line(2, 0)]);
    assert_eq!(messages.len(), 2);
    assert_eq!((exit.number("/read"), exit.number("/filtered_by/empty")), (6, 4));
}

/// auditd 4.0.5 and later leave the NUL of a record that they had to cut before the line end.
#[test]
fn a_nul_before_the_line_end_is_not_part_of_the_record() {
    let (messages, _) = through(&[], &[b"type=USER msg=audit(1795424551.650:1): cut\0\n".to_vec()]);
    assert_eq!(texts(&messages), ["type=USER msg=audit(1795424551.650:1): cut"]);
}

#[test]
fn a_last_line_without_an_end_is_a_record() {
    let (messages, _) = through(&[], &[line(1, 0), b"type=USER msg=audit(1795424551.650:2): last".to_vec()]);
    assert_eq!(messages[1].text, "type=USER msg=audit(1795424551.650:2): last");
}

#[test]
fn user_text_with_every_byte_arrives_visibly_and_on_one_line() {
    // Without LF, which ends the line, and NUL, which the kernel does not let into a record's middle.
    let every: Vec<u8> = (1..=255).filter(|byte| *byte != b'\n').collect();
    let record = [
        b"type=USER_CMD msg=audit(1795424551.650:1): msg='",
        &every[..],
        "\u{fc}\u{9b}\u{1f980}' \x1dUID=\"root\"".as_bytes(),
    ]
    .concat();
    let (messages, exit) = through(&[], &[[&record[..], b"\n"].concat()]);
    assert_eq!(texts(&messages), [visible(&record)]);
    assert!(
        messages[0].text.contains("#001#002")
            && messages[0].text.ends_with("\u{fc}#302#233\u{1f980}'  UID=\"root\"")
    );
    assert_eq!(exit.number("/undecodable"), 0);
}

#[test]
fn what_cannot_be_decoded_is_forwarded_marked_and_counted() {
    let odd = [
        &b"type=SYSCALL msg=audit(179542"[..], // cut by auditd 4.2.0 and 4.2.1
        b"no audit record at all",
        b"type=X msg=lost",
        b"msg=audit(1795424551.650:1): no type",
        b"type=SYSCALL msg=audit(1795424551.1000:1): bad milliseconds",
    ];
    let (messages, exit) = through(&[], &odd.map(|line| [line, b"\n"].concat()));
    assert_eq!(texts(&messages), odd.map(visible));
    assert!(
        messages.iter().all(|message| message.rfc5424.as_ref().unwrap().msgid == "UNDECODED"),
        "{messages:?}"
    );
    assert_eq!((exit.number("/undecodable"), exit.number("/destinations/0/sent")), (5, 5));
}

#[test]
fn end_of_event_records_are_filtered_in_every_spelling() {
    let eoe = [
        &b"type=EOE msg=audit(1795424551.650:1):\n"[..],
        b"type=EOE msg=audit(1795424551.650:1): \n",
        b"node=web-1 type=EOE msg=audit(1795424551.650:1): \n",
        b"type=EOE msg=audit(179542\n", // cut by auditd 4.2.0 and 4.2.1
    ];
    let (messages, exit) = through(&[], &eoe.map(<[u8]>::to_vec));
    assert_eq!((messages.len(), exit.number("/filtered_by/eoe")), (0, 4));
    let (messages, exit) = through(&["--eoe", "keep"], &eoe.map(<[u8]>::to_vec));
    assert_eq!((messages.len(), exit.number("/filtered")), (4, 0));
}

/// An aggregator's stream: HOSTNAME is the machine that wrote the record.
#[test]
fn the_node_becomes_the_hostname() {
    let record =
        |node: &str| format!("node={node} type=CWD msg=audit(1795424551.650:1): cwd=\"/\"\n").into_bytes();
    let writes = [record("web-1"), record("db.example.org"), record("10.0.0.7"), line(1, 0), record("web-1")];
    let (messages, _) = through(&["--hostname", "aggregator.example.org"], &writes);
    let hosts: Vec<_> =
        messages.iter().map(|message| message.rfc5424.as_ref().unwrap().host.as_str()).collect();
    assert_eq!(hosts, ["web-1", "db.example.org", "10.0.0.7", "aggregator.example.org", "web-1"]);
    assert!(
        messages[0].text.starts_with("node=web-1 type=CWD "),
        "the text stays as it is: {}",
        messages[0].text
    );
}

// ---------------------------------------------------------------------------------------------------------
// Frames

const V0: &[u8] = b"audit(1795424674.445:4827): op=start";
const V1: &[u8] = b"node=web-1 type=CWD msg=audit(1795424674.446:4828): cwd=\"/\"";

/// A frame of auditd 3.0 to 4.1.0: what follows the payload is a piece of another record.
fn fixed_frame(version: u32, number: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(version, number, payload);
    bytes.extend(b"type=SECRET msg=audit(1.001:9): password ".iter().cycle().take(FIXED_FRAME - bytes.len()));
    bytes
}

#[test]
fn versions_0_and_1_alternate_in_one_stream() {
    for make in [frame, fixed_frame] {
        let writes = [make(0, 1200, V0), make(1, 1307, V1), make(1, u32::MAX, V1), make(0, 1200, V0)];
        let (messages, exit) = through(&[], &writes);
        let (v0, v1) = (format!("type=DAEMON_START msg={}", visible(V0)), visible(V1));
        assert_eq!(texts(&messages), [&v0, &v1, &v1, &v0]);
        assert_eq!((exit.number("/skipped_bytes"), exit.number("/undecodable")), (0, 0));
    }
}

#[test]
fn the_junk_behind_a_fixed_frame_is_never_forwarded() {
    for count in 1..4 {
        let (messages, exit) = through(&[], &vec![fixed_frame(0, 1200, V0); count]);
        assert_eq!(messages.len(), count, "{messages:?}");
        assert!(messages.iter().all(|message| !message.text.contains("SECRET")), "{messages:?}");
        assert_eq!(exit.number("/skipped_bytes"), 0);
    }
}

#[test]
fn a_line_end_inside_a_frame_becomes_a_space() {
    let (messages, _) = through(&[], &[frame(0, 1123, b"audit(1795424674.445:4827): msg='two\nlines\n'")]);
    assert_eq!(texts(&messages), ["type=USER_CMD msg=audit(1795424674.445:4827): msg='two lines '"]);
}

#[test]
fn garbage_between_frames_is_skipped_counted_said_once_and_never_forwarded() {
    let junk = b"type=SECRET msg=audit(1.001:9): heap \xff\xfe\0\0\0\x01\x10 remnant ".to_vec();
    let good = |serial: usize| frame(1, 1123, line(serial, 0).strip_suffix(b"\n").unwrap());
    let writes = [good(1), good(2), junk.clone(), good(3), good(4), junk.clone(), good(5), good(6)];
    let (messages, exit) = through(&[], &writes);
    let serials: Vec<_> =
        messages.iter().filter(|m| !m.is_notice()).map(|m| support::serial(&m.text)).collect();
    assert_eq!(serials, [1, 2, 3, 4, 5, 6]);
    assert_eq!(exit.number("/skipped_bytes"), 2 * junk.len() as u64);
    assert!(messages.iter().all(|message| !message.text.contains("SECRET")), "{messages:?}");
    let notices: Vec<_> = messages.iter().filter(|message| message.is_notice()).collect();
    let said: usize =
        notices.iter().map(|notice| notice.field("bytes").unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(said, 2 * junk.len(), "{notices:?}");
    assert!(
        notices.iter().all(|n| n.rfc5424.as_ref().unwrap().msgid == "SKIPPED" && n.pri == 180),
        "{notices:?}"
    );
    // Behind the record before the junk.
    assert!(messages[2].is_notice() && messages[5].is_notice(), "{messages:?}");
    assert_eq!(exit.said.matches("no audit record").count(), 1, "{}", exit.said);
}

#[test]
fn garbage_at_the_start_of_a_fixed_stream_costs_no_frame() {
    let writes = [
        vec![0, 0, 0, 7, 7, 7, 7, 7],
        fixed_frame(0, 1200, V0),
        fixed_frame(0, 1200, V0),
        fixed_frame(1, 1307, V1),
    ];
    let (messages, exit) = through(&[], &writes);
    let records: Vec<_> = messages.iter().filter(|message| !message.is_notice()).collect();
    assert_eq!(records.len(), 3, "{messages:?}");
    assert_eq!(exit.number("/skipped_bytes"), 8);
}

/// auditd 2.6.4 with log_format = RAW: the size also counts `type=NAME msg=`, which is not sent.
#[test]
fn the_overstated_sizes_of_auditd_2_6_4_are_seen_through() {
    let record = |number: u32, name: &str, serial: usize| {
        let text = format!("audit(1795424551.650:{serial}): body of {serial}");
        let stated = format!("type={name} msg={text}");
        (overstated_frame(0, number, text.as_bytes(), stated.len()), stated)
    };
    let records = [
        record(1300, "SYSCALL", 1),
        record(1302, "PATH", 2),
        record(1327, "PROCTITLE", 3),
        record(1123, "USER_CMD", 4),
        record(1300, "SYSCALL", 5),
    ];
    let (messages, exit) = through(&[], &records.clone().map(|(frame, _)| frame));
    assert_eq!(texts(&messages), records.map(|(_, text)| text));
    assert_eq!((exit.number("/skipped_bytes"), exit.number("/undecodable")), (0, 0));
}

/// A stream that a real auditd sent, or the log that it wrote meanwhile.
fn recorded(name: &str, ending: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/{name}.{ending}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What auditd 2.6.3 really sent by audispd, with `format = string` and `log_format = RAW`: the front of each record twice. What
/// arrives is what it wrote to its log meanwhile.
#[test]
fn the_lines_of_a_real_auditd_2_6_3() {
    for name in ["auditd-2.6.3-raw", "auditd-2.6.3-raw-node"] {
        let log = recorded(name, "log");
        let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let expected: Vec<Expected> = lines.map(Expected::from_line).collect();
        assert_eq!(expected.len(), 65);
        let stream = recorded(name, "txt");
        for writes in [vec![stream.clone()], cut_at_random(&stream, 300)] {
            let (messages, exit) = through(&[], &writes);
            assert_arrived(&messages, &expected, u32::try_from(exit.number("/pid")).unwrap());
            assert_eq!((exit.number("/filtered"), exit.number("/undecodable")), (5, 0), "{name}");
        }
    }
}

/// What auditd 2.6.4 really sent to the relay as its dispatcher, with `log_format = RAW`, without a name and with one, and
/// what it wrote to its log meanwhile. Of the kernel's records it does not send as many bytes at the end as it has put in
/// front; every byte that it sent has to arrive, each record alone, however the reads cut them.
#[test]
fn the_frames_of_a_real_auditd_2_6_4() {
    for name in ["auditd-2.6.4-raw", "auditd-2.6.4-raw-node"] {
        // auditd's own come as version 0 promises, whole and without anything in front.
        let node: &[u8] = if name.ends_with("node") { b"node=h1 " } else { b"" };
        let sent: Vec<String> = recorded(name, "log")
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let bare = line.strip_prefix(node).unwrap();
                let front = line.windows(4).position(|word| word == b"msg=").unwrap() + 4;
                visible(if bare.starts_with(b"type=DAEMON_") { bare } else { &line[..line.len() - front] })
            })
            .collect();
        let stream = recorded(name, "bin");
        let starts: Vec<usize> =
            (0..stream.len()).filter(|at| stream[*at..].starts_with(&frame(0, 0, b"")[..8])).collect();
        let ends = starts[1..].iter().copied().chain([stream.len()]);
        let frames: Vec<Vec<u8>> =
            starts.iter().zip(ends).map(|(start, end)| stream[*start..end].to_vec()).collect();
        for writes in [frames, vec![stream.clone()], cut_at_random(&stream, 3000)] {
            let (messages, exit) = through(&[], &writes);
            assert_eq!(texts(&messages), sent, "{name}, {} writes", writes.len());
            assert_eq!((exit.number("/skipped_bytes"), exit.number("/filtered")), (0, 6), "{name}");
        }
    }
}

/// Such an auditd writes `type=UNKNOWN[n] msg=` for a number without a name, so the overstatement is longer.
#[test]
fn overstated_sizes_of_unknown_record_types_are_seen_through() {
    let record = |number: u32, name: &str, serial: usize| {
        let text = format!("audit(1795424551.650:{serial}): body of {serial}");
        let stated = format!("type={name} msg={text}");
        (overstated_frame(0, number, text.as_bytes(), stated.len()), stated)
    };
    let records = [record(1300, "SYSCALL", 1), record(1199, "UNKNOWN[1199]", 2), record(1300, "SYSCALL", 3)];
    let (messages, _) = through(&[], &records.clone().map(|(frame, _)| frame));
    assert_eq!(texts(&messages), records.map(|(_, text)| text));
}

#[test]
fn a_frame_that_the_end_cuts_off_is_still_forwarded() {
    let (messages, exit) = through(&[], &[frame(0, 1200, V0), frame(0, 1200, V0)[..40].to_vec()]);
    let whole = "type=DAEMON_START msg=audit(1795424674.445:4827): op=start";
    assert_eq!(texts(&messages), [whole, &whole[..whole.len() - "7): op=start".len()]]);
    assert_eq!((exit.number("/read"), exit.number("/undecodable")), (2, 1));
}

#[test]
fn record_types_without_a_name_are_printed_as_auditd_prints_them() {
    let (messages, _) = through(&[], &[frame(0, 1199, V0)]);
    assert_eq!(messages[0].text, format!("type=UNKNOWN[1199] msg={}", visible(V0)));
    assert_eq!(messages[0].rfc5424.as_ref().unwrap().msgid, "UNKNOWN[1199]");
}

#[test]
fn the_input_option_overrides_what_the_first_bytes_look_like() {
    // A text stream whose first line starts as a header does.
    let (messages, exit) = through(&["--input", "text"], &[[b"\x01odd\n", &line(1, 0)[..]].concat()]);
    assert_eq!((messages.len(), exit.report["input"].as_str()), (2, Some("text")));
    assert_eq!(messages[0].text, "#001odd");
    for (form, make) in
        [("binary-exact", frame as fn(u32, u32, &[u8]) -> Vec<u8>), ("binary-fixed", fixed_frame)]
    {
        let (messages, exit) = through(&["--input", form], &[make(0, 1200, V0), make(0, 1200, V0)]);
        assert_eq!((messages.len(), exit.number("/skipped_bytes")), (2, 0), "{form}");
    }
}

/// No input crashes the relay or vanishes: what goes in is read, or counted as skipped.
#[test]
fn noise_ends_in_numbers_and_not_in_a_crash() {
    let noise: Vec<u8> =
        cut_at_random(&[0; 300_000], 256).iter().map(|piece| piece.len().to_le_bytes()[0]).collect();
    for start in [&b"\0"[..], b"\x01\0\0\0\x10\0\0\0", b"t"] {
        let (messages, exit) = through(&[], &[[start, &noise].concat()]);
        assert!(!messages.is_empty(), "noise is at least announced");
        let total = exit.number("/read") + exit.number("/skipped_bytes");
        assert!(total > 0 && exit.number("/destinations/0/sent") <= exit.number("/read"));
    }
}
