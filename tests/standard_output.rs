//! Standard output that takes little, late or nothing: it is one stream of bytes, which is taken up again where it stopped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use support::relay::{Exit, Relay};
use support::sink::Framing;
use support::{line, root_or_skip, serial, temp_dir};

const RECORDS: usize = 1000;

/// Longer than any buffer on the way is made for.
const PADDING: usize = 3000;

fn all_records(padding: usize) -> Vec<u8> {
    (0..RECORDS).flat_map(|number| line(number, padding)).collect()
}

/// The serial numbers of what has come, every line of which is one whole message.
#[track_caller]
fn serials(bytes: &[u8], padding: usize) -> Vec<usize> {
    let (messages, rest) = Framing::Lf.cut(bytes);
    assert!(rest.is_empty(), "a torn line at the end: {} bytes", rest.len());
    for message in &messages {
        let text = &message.text;
        assert!(text.matches("type=").count() == 1 && text.len() > padding, "a mangled line: {text}");
    }
    messages.iter().map(|message| serial(&message.text)).collect()
}

#[track_caller]
fn has_sent_everything(exit: &Exit) {
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), RECORDS as u64), "{exit:?}");
    assert_eq!(exit.number("/destinations/0/replayed"), 0, "{exit:?}");
}

/// Where a parent has made it not to wait, a full pipe answers EAGAIN. That is no failure.
#[test]
fn a_pipe_that_does_not_wait_gets_every_message_once_and_whole() {
    let (mut reader, writer) = {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        (File::from(reader), writer)
    };
    let (relay, feed) = Relay::to("stdout:").options(&["--drain-timeout", "1min"]).by_hand_into(writer);
    let feeding = feed.write_on_a_thread(all_records(PADDING));
    thread::sleep(Duration::from_millis(300));
    let (mut bytes, mut portion) = (Vec::new(), [0; 20_000]);
    let mut feeding = Some(feeding);
    loop {
        match reader.read(&mut portion).unwrap() {
            0 => break,
            count => bytes.extend_from_slice(&portion[..count]),
        }
        if let Some(done) = feeding.take_if(|feeding| feeding.is_finished()) {
            done.join().unwrap().close();
        }
        thread::sleep(Duration::from_millis(2));
    }
    let exit = relay.exit();
    has_sent_everything(&exit);
    assert_eq!(exit.number("/destinations/0/failures"), 0, "{exit:?}");
    assert_eq!(serials(&bytes, PADDING), (0..RECORDS).collect::<Vec<_>>());
}

/// At a limit of file size the write that reaches it is cut, at any byte, and the next ones fail.
#[test]
fn a_file_that_is_full_for_a_while_goes_on_at_its_byte() {
    for padding in [0, 300, 1500] {
        let dir = temp_dir();
        let path = dir.path().join("out");
        // In units of 512 bytes; no multiple of any message.
        let limited = "ulimit -S -f 77; exec \"$@\"";
        let mut setup = Relay::to("stdout:").options(&["--drain-timeout", "1min"]);
        if nix::unistd::geteuid().is_root() {
            // Only who is the same user may lift the limit of a process.
            setup = setup.options(&["--user", "root"]);
        }
        let (relay, mut feed) =
            setup.through(&["sh", "-c", limited, "sh"]).by_hand_into(File::create(&path).unwrap());
        feed.write(&all_records(padding));
        relay.wait_for("/destinations/0/failures", 2);
        assert_eq!(fs::metadata(&path).unwrap().len(), 77 * 512, "it is full");
        let id = relay.id().to_string();
        assert!(
            Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited:"]).status().unwrap().success()
        );
        feed.close();
        let exit = relay.exit();
        has_sent_everything(&exit);
        assert!(exit.said.contains("going on where it stopped"), "{}", exit.said);
        assert_eq!(serials(&fs::read(&path).unwrap(), padding), (0..RECORDS).collect::<Vec<_>>());
    }
}

/// A disk that is full (ENOSPC): what is left of its room is written, the rest waits until there is more.
#[test]
fn a_disk_that_is_full_for_a_while_goes_on_at_its_byte() {
    if !root_or_skip() {
        return;
    }
    let dir = temp_dir();
    // Seen by the relay alone; most of it is taken by another file.
    let script = "mount -t tmpfs -o size=1m,mode=755 tmpfs \"$1\" && cd \"$1\" && shift \
                  && head -c 900k /dev/zero > other && exec \"$@\" > out";
    let (relay, mut feed) = Relay::to("stdout:")
        .options(&["--drain-timeout", "1min"])
        .through(&["unshare", "-m", "sh", "-c", script, "sh", dir.path().to_str().unwrap()])
        .by_hand();
    let there =
        PathBuf::from(format!("/proc/{}/root", relay.id())).join(dir.path().strip_prefix("/").unwrap());
    // Open, the file outlasts the relay and its mounts.
    let mut out = File::open(there.join("out")).unwrap();
    feed.write(&all_records(300));
    relay.wait_for("/destinations/0/failures", 2);
    let room = nix::sys::statvfs::statvfs(&there).unwrap();
    assert_eq!(room.blocks_available(), 0, "it is full");
    assert!(relay.said().contains("No space left on device"), "{}", relay.said());
    let before = out.metadata().unwrap().len();
    assert!(before > 0 && before < 300 * RECORDS as u64, "{before}");
    fs::remove_file(there.join("other")).unwrap();
    feed.close();
    let exit = relay.exit();
    has_sent_everything(&exit);
    assert!(exit.said.contains("going on where it stopped"), "{}", exit.said);
    let mut bytes = Vec::new();
    out.read_to_end(&mut bytes).unwrap();
    assert_eq!(serials(&bytes, 300), (0..RECORDS).collect::<Vec<_>>());
}

/// A file that stays full: the last line may be torn, and what is called sent is there.
#[test]
fn what_a_full_file_does_not_hold_is_not_called_sent() {
    let dir = temp_dir();
    let path = dir.path().join("out");
    let setup = Relay::to("stdout:").options(&["--drain-timeout", "300ms"]);
    let limited = "ulimit -S -f 77; exec \"$@\"";
    let (relay, mut feed) =
        setup.through(&["sh", "-c", limited, "sh"]).by_hand_into(File::create(&path).unwrap());
    feed.write(&all_records(100));
    feed.close();
    let exit = relay.exit();
    let whole = fs::read(&path).unwrap().iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!(whole > 50, "{whole}");
    let sent = exit.number("/destinations/0/sent");
    let lost = exit.number("/destinations/0/lost/drain_deadline");
    assert_eq!((exit.status, sent, lost), (Some(75), whole, RECORDS as u64 - whole), "{exit:?}");
}

/// What a reader has not taken when the drain time is over is lost, to the message, and nothing is written afterwards.
#[test]
fn a_reader_that_comes_too_late_finds_what_is_called_sent() {
    for is_socket in [false, true] {
        let setup = Relay::to("stdout:").options(&["--drain-timeout", "300ms"]);
        let (mut reader, relay, feed): (Box<dyn std::io::Read>, _, _) = if is_socket {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (relay, feed) = setup.by_hand_into(std::os::fd::OwnedFd::from(theirs));
            (Box::new(ours), relay, feed)
        } else {
            let (ours, theirs) = nix::unistd::pipe().unwrap();
            let (relay, feed) = setup.by_hand_into(theirs);
            (Box::new(File::from(ours)), relay, feed)
        };
        let feeding = feed.write_on_a_thread(all_records(1000));
        feeding.join().unwrap().close();
        let exit = relay.exit();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let whole = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!(whole > 30, "{whole}");
        let sent = exit.number("/destinations/0/sent");
        let lost = exit.number("/destinations/0/lost/drain_deadline");
        assert_eq!((exit.status, sent, lost), (Some(75), whole, RECORDS as u64 - whole), "{exit:?}");
        assert_eq!(exit.number("/destinations/0/unacknowledged"), 0, "{exit:?}");
    }
}
