//! The harness: a fake auditd before the relay, hostile receivers behind it, and what ought to arrive.
//!
//! Law: no fixed port, no fixed path, no time that is asserted other than by generous deadlines; whatever a
//! test starts is ended when its handle is dropped, also when the test panics.

#![allow(
    dead_code,
    clippy::mod_module_files,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "every test program uses its part; a failed helper is a failed test; a skipped one says so; Cargo takes tests/support.rs for a test"
)]

pub(crate) mod fake_auditd;
pub(crate) mod network;
pub(crate) mod pki;
pub(crate) mod relay;
pub(crate) mod relp_sink;
pub(crate) mod sink;
pub(crate) mod tls_sink;

use std::time::{Duration, Instant};
use std::{fs, thread};

use fake_auditd::Auditd;
use relay::Relay;
use sink::{Message, Sink};

/// How long anything may take. Far above what it does take: a test that comes near it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done` holds; panics with `what` when patience is at its end.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether this is root, for tests that make a difference between the two.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this is root. If not the test, or what is left of it, has to end, and says so; CI skips nothing.
pub(crate) fn root_or_skip() -> bool {
    let root = is_root();
    assert!(root || std::env::var_os("CI").is_none(), "root is missing, and CI skips nothing");
    if !root {
        eprintln!("SKIPPED: root is missing");
    }
    root
}

/// Whether there is strace. If not the test has to end, and says so; CI skips nothing.
pub(crate) fn strace_or_skip() -> bool {
    let there = std::process::Command::new("strace").arg("-V").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "strace is missing, and CI skips nothing");
    if !there {
        eprintln!("SKIPPED: strace is missing");
    }
    there
}

/// A folder that the relay can walk into after it has given up root.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let open = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("audit-relay-test-").permissions(open).tempdir().unwrap()
}

// ---------------------------------------------------------------------------------------------------------
// What ought to arrive, worked out here and not with the relay's own code

/// A record as the receiver should see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    /// MSGID.
    pub(crate) kind: String,
    /// Milliseconds since 1970.
    pub(crate) moment: i64,
    pub(crate) text: String,
}

impl Expected {
    /// From a record in auditd's string form.
    pub(crate) fn from_line(line: &[u8]) -> Self {
        let text = visible(line);
        let word = |from: &str, to: char| {
            let rest =
                &text[text.find(from).unwrap_or_else(|| panic!("no `{from}` in {text}")) + from.len()..];
            rest[..rest.find(to).unwrap()].to_owned()
        };
        let (seconds, rest) = (word("msg=audit(", '.'), word("msg=audit(", ':'));
        let ms = &rest[seconds.len() + 1..];
        let moment = seconds.parse::<i64>().unwrap() * 1000 + ms.parse::<i64>().unwrap();
        Self { kind: word("type=", ' '), moment, text }
    }

    /// End-of-event records are counted and not sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.kind != "EOE"
    }
}

/// The policy for bytes: 0x1D and LF become a space; control characters other than TAB, and what is not
/// UTF-8, become `#ooo`; everything else stays.
pub(crate) fn visible(mut bytes: &[u8]) -> String {
    let octal = |bytes: &[u8]| bytes.iter().map(|byte| format!("#{byte:03o}")).collect::<String>();
    let mut out = String::new();
    while !bytes.is_empty() {
        let good = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        for c in std::str::from_utf8(&bytes[..good]).unwrap().chars() {
            match c {
                '\x1d' | '\n' => out.push(' '),
                c if c.is_control() && c != '\t' => out += &octal(c.to_string().as_bytes()),
                c => out.push(c),
            }
        }
        let bad = usize::from(good < bytes.len());
        out += &octal(&bytes[good..good + bad]);
        bytes = &bytes[good + bad..];
    }
    out
}

/// One of the recorded streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capture {
    String,
    BinaryExact,
    BinaryFixed,
}

/// Length of a frame of auditd 3.0 to 4.1.0.
pub(crate) const FIXED_FRAME: usize = 8986;

impl Capture {
    /// The stream, cut as auditd wrote it: one item a write.
    pub(crate) fn writes(self) -> Vec<Vec<u8>> {
        let data =
            |name: &str| fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        match self {
            Self::String => {
                data("string.log").split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
            }
            Self::BinaryFixed => {
                data("binary-v0-fixed.bin").chunks(FIXED_FRAME).map(<[u8]>::to_vec).collect()
            }
            Self::BinaryExact => {
                let data = data("binary-v0-exact.bin");
                let mut frames = Vec::new();
                let mut at = 0;
                while at < data.len() {
                    let end = at + 16 + word(&data[at..], 3) as usize;
                    frames.push(data[at..end].to_vec());
                    at = end;
                }
                frames
            }
        }
    }

    /// The records of `writes`, end-of-event records included.
    pub(crate) fn records(self) -> Vec<Expected> {
        let line = |write: Vec<u8>| match self {
            Self::String => write.strip_suffix(b"\n").unwrap().to_vec(),
            Self::BinaryExact | Self::BinaryFixed => {
                let text = &write[16..16 + word(&write, 3) as usize];
                [format!("type={} msg=", type_name(word(&write, 2))).as_bytes(), text].concat()
            }
        };
        self.writes().into_iter().map(|write| Expected::from_line(&line(write))).collect()
    }
}

fn word(header: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(header[at * 4..at * 4 + 4].try_into().unwrap())
}

/// Names of the record numbers in the binary captures (reference: linux/audit.h, libaudit.h).
fn type_name(number: u32) -> String {
    #[rustfmt::skip]
    const NAMES: &[(u32, &str)] = &[
        (1005, "USER"), (1006, "LOGIN"), (1100, "USER_AUTH"), (1101, "USER_ACCT"), (1103, "CRED_ACQ"),
        (1104, "CRED_DISP"), (1105, "USER_START"), (1106, "USER_END"), (1107, "USER_AVC"),
        (1108, "USER_CHAUTHTOK"), (1111, "USYS_CONFIG"), (1112, "USER_LOGIN"), (1113, "USER_LOGOUT"),
        (1114, "ADD_USER"), (1115, "DEL_USER"), (1116, "ADD_GROUP"), (1117, "DEL_GROUP"), (1121, "TRUSTED_APP"),
        (1122, "USER_SELINUX_ERR"), (1123, "USER_CMD"), (1127, "SYSTEM_BOOT"), (1130, "SERVICE_START"),
        (1131, "SERVICE_STOP"), (1137, "USER_DEVICE"), (1138, "SOFTWARE_UPDATE"), (1200, "DAEMON_START"),
        (1201, "DAEMON_END"), (1205, "DAEMON_ROTATE"), (1300, "SYSCALL"), (1302, "PATH"), (1303, "IPC"),
        (1305, "CONFIG_CHANGE"), (1306, "SOCKADDR"), (1307, "CWD"), (1309, "EXECVE"), (1311, "IPC_SET_PERM"),
        (1312, "MQ_OPEN"), (1317, "FD_PAIR"), (1318, "OBJ_PID"), (1320, "EOE"), (1321, "BPRM_FCAPS"),
        (1322, "CAPSET"), (1326, "SECCOMP"), (1327, "PROCTITLE"), (1332, "TIME_INJOFFSET"),
        (1700, "ANOM_PROMISCUOUS"), (1701, "ANOM_ABEND"), (2100, "ANOM_LOGIN_FAILURES"),
        (2104, "ANOM_LOGIN_LOCATION"), (2200, "RESP_ANOMALY"), (2300, "USER_ROLE_CHANGE"),
        (2404, "CRYPTO_KEY_USER"), (2500, "VIRT_CONTROL"),
    ];
    // 1199 and 2999 have no name, which the capture holds on purpose.
    let name = NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("UNKNOWN[{number}]"))
}

/// One binary frame with an exact payload.
pub(crate) fn frame(version: u32, number: u32, payload: &[u8]) -> Vec<u8> {
    overstated_frame(version, number, payload, payload.len())
}

/// One binary frame whose header says `size`, whatever the payload's length is.
pub(crate) fn overstated_frame(version: u32, number: u32, payload: &[u8], size: usize) -> Vec<u8> {
    let header = [version, 16, number, u32::try_from(size).unwrap()];
    let header: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    [&header, payload].concat()
}

/// A record of usual shape and of a number of its own, `padding` bytes longer than it need be.
pub(crate) fn line(serial: usize, padding: usize) -> Vec<u8> {
    let pad = "x".repeat(padding);
    format!(
        "type=USER_CMD msg=audit(1795424551.650:{serial}): pid=1 uid=0 msg='op=test pad={pad} res=success'\n"
    )
    .into_bytes()
}

/// The serial that `line` has put into a text.
pub(crate) fn serial(text: &str) -> usize {
    let from =
        text.find("msg=audit(1795424551.650:").unwrap_or_else(|| panic!("not made by `line`: {text}")) + 25;
    let rest = &text[from..];
    rest[..rest.find(')').unwrap()].parse().unwrap()
}

// ---------------------------------------------------------------------------------------------------------
// The main promise

/// Asserts that exactly the records `expected` have arrived: each once, in order, whole, behind a valid
/// header, numbered without a gap.
#[track_caller]
pub(crate) fn assert_arrived(messages: &[Message], expected: &[Expected], relay: u32) {
    for (at, (message, expected)) in messages.iter().zip(expected).enumerate() {
        assert_eq!(message.text, expected.text, "text of message {at}");
        assert_eq!(
            (message.pri, message.app.as_str(), message.pid),
            (182, "auditd", relay),
            "header of message {at}"
        );
        if let Some(header) = &message.rfc5424 {
            assert_eq!(header.msgid, expected.kind, "MSGID of message {at}");
            assert_eq!(header.moment, expected.moment, "TIMESTAMP of message {at}");
            assert_eq!(header.sequence, Some(at as u64 + 1), "sequenceId of message {at}");
            assert!(
                !header.host.is_empty() && header.host.bytes().all(|b| b.is_ascii_graphic()),
                "{message:?}"
            );
        } else {
            let second =
                jiff::Timestamp::from_millisecond(expected.moment).unwrap().strftime(":%S").to_string();
            assert!(message.date.ends_with(&second), "date of message {at}: {message:?}");
        }
    }
    assert_eq!(messages.len(), expected.len(), "number of messages");
}

/// A fake auditd writes `capture`, one write a record, through the relay to `sink`; every record must arrive.
/// Where `lossy`, the receiver's transport drops what it cannot take, so that each write waits for the one before.
#[track_caller]
pub(crate) fn relay_capture(capture: Capture, auditd: Auditd, sink: &Sink, options: &[&str]) {
    let records = capture.records();
    let sent: Vec<_> = records.iter().filter(|record| record.is_sent()).cloned().collect();
    let (relay, mut auditd) = Relay::to(&sink.url).options(options).under(auditd);
    let pid = relay.id();
    let mut due = 0;
    for (at, (write, record)) in capture.writes().iter().zip(&records).enumerate() {
        auditd.write(write);
        due += usize::from(record.is_sent());
        if sink.drops_what_it_cannot_take() && at % 16 == 0 {
            sink.wait_for_datagrams(due);
        }
    }
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    assert_arrived(&sink.messages_after_exit(), &sent, pid);
    assert_eq!(exit.number("/read"), records.len() as u64);
    assert_eq!(exit.number("/filtered"), (records.len() - sent.len()) as u64);
    assert_eq!(exit.number("/destinations/0/sent"), sent.len() as u64);
    assert_eq!((exit.number("/undecodable"), exit.number("/skipped_bytes")), (0, 0));
}
