//! One record is one message at the receiver, whatever the record holds: the relay's hostile input against a real
//! rsyslogd and a real syslog-ng, over every transport they have, in every form auditd has.
//!
//! Law: what has to arrive is worked out here, without the relay's code; a message that was not sent, a message in
//! two, two in one or a changed text fails the test.
//!
//! What the receivers do with control characters: rsyslogd would write them as `#ooo` itself, so that is off here
//! (`parser.escapeControlCharactersOnReceive`); syslog-ng has no such thing. LF ends a message on both wherever
//! messages are lines; on syslog-ng NUL does too. Both write JSON, which keeps a character that should not be there
//! apart from one that should.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
mod support;
#[path = "support/syslog_ng.rs"]
mod syslog_ng;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use live::{Inlet, Message, Need, Queue, RelpLibrary, Rsyslogd, System, TlsFiles, expected_text};
use support::pki::{Kind, Pki};
use support::relay::Relay;
use support::{FIXED_FRAME, frame};
use syslog_ng::{NgInlet, SyslogNg};

const HOST: &str = "relay-test.example";

// ---------------------------------------------------------------------------------------------------------
// Hostile records

/// What a record may end in, its front being auditd's own.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    let mut put = |body: &[u8]| bodies.push(body.to_vec());
    for byte in (0..=0x20).chain(0x7f..=0xff) {
        put(&[b"one '", &[byte][..], b"' byte"].concat());
        put(&[b"ends in ", &[byte][..]].concat());
    }
    for c1 in '\u{80}'..='\u{a0}' {
        put(format!("C1 {c1} as UTF-8").as_bytes());
    }
    put(&(0..=255).collect::<Vec<u8>>());
    let forged = "<180>1 2026-11-23T09:02:31.650Z victim sshd 1 - - forged";
    for end in
        ["\n", "\r\n", "\r", "\0", "\n\0", "\u{85}", "\u{2028}", "\u{2029}", "\x0b", "\x0c", "\x1e", "\x1d"]
    {
        put(format!("a{end}{forged}").as_bytes());
        put(format!("a{end}57 {forged}{end}57 {forged}").as_bytes());
        put(format!("a{end}<13>Nov 23 09:02:31 victim sshd[1]: forged{end}").as_bytes());
        put(format!("a{end}2 syslog 57 {forged}{end}3 close 0{end}").as_bytes());
    }
    put(format!("57 {forged}").as_bytes());
    for odd in [
        // LF, NUL and `<` in more bytes than they need, and halves of characters.
        &b"\xc0\x8a\xe0\x80\x8a\xf0\x80\x80\x8a"[..],
        b"\xc0\x80 \xc0\xbc13>1",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xf4\x90\x80\x80 \xf8\x88\x80\x80\x80",
        b"cut \xf0\x9f\x98",
        b"\xef\xbb\xbf mark inside \xef\xbb\xbf\xef\xbb\xbf",
        b"\xff\xfe<\x001\x003\x00>\x00",
        "\u{202e}overridden \u{feff}\u{fffe}\u{ffff}\u{10ffff}".as_bytes(),
    ] {
        put(odd);
    }
    for text in [
        "] [meta sequenceId=\"1\"] \"\\]",
        "key=\"]\\\" [forged@1 a=\"b\"]\"",
        " key=\"a]b\\c\" key=\"d\\\"",
        " key=225D5C015D015C22",
        "#012#000#033",
        "[cut from 99999 bytes]",
        "records lost before this message: records=12 reason=overflow first=1.000:1 last=2.000:2",
        "input that is no audit record was passed over: bytes=7",
        "type=EOE msg=audit(1.000:1): ",
        " node=victim type=LOST msg=audit(1.000:1): ",
        "   blanks before and behind   ",
        "%s%n%00 ${MSG} $!all @cee: {\"msg\":\"x\"} ",
    ] {
        put(text.as_bytes());
    }
    // A frame of auditd's in a frame of auditd's.
    put(&frame(0, 1300, b"audit(1.000:1): forged"));
    put(&[vec![b'y'; 300], frame(1, 1300, b"type=SYSCALL msg=audit(1.000:1): forged")].concat());
    for byte in [b'x', b'\n', b'\0', 0xff, b'"', 0x1b] {
        put(&vec![byte; 2000]);
    }
    bodies
}

/// Whole records in auditd's string form, so any first bytes.
fn fronts() -> Vec<Vec<u8>> {
    let stamp = "msg=audit(1795424551.650:77): pid=1";
    let mut fronts: Vec<Vec<u8>> = Vec::new();
    for text in [
        format!("<180>1 2026-11-23T09:02:31.650Z victim sshd 1 - - type=CWD {stamp}"),
        format!("57 <180>1 2026-11-23T09:02:31.650Z victim sshd 1 - - type=CWD {stamp}"),
        format!("<13>type=CWD {stamp}"),
        format!("- - - type=CWD {stamp}"),
        format!("[meta sequenceId=\"1\"] type=CWD {stamp}"),
        format!("type=LOST {stamp} records lost before this message: records=12 reason=overflow"),
        format!("type=SKIPPED {stamp} input that is no audit record was passed over: bytes=7"),
        format!("type=a]\"\\b {stamp}"),
        format!("type=\u{7}bell {stamp}"),
        format!("type=] [forged@1 {stamp}"),
        format!("node=a]\"\\b type=CWD {stamp}"),
        format!("node=<13>1 type=CWD {stamp}"),
        format!("node=\u{1b}[31m\rgr\u{fc}n type=CWD {stamp}"),
        format!("node= type=CWD {stamp}"),
        format!("node={} type=CWD {stamp}", "n".repeat(3000)),
        format!("node={HOST} type=CWD {stamp}"),
        "\\".to_owned(),
        "]".to_owned(),
        "0".to_owned(),
    ] {
        fronts.push(text.into_bytes());
    }
    // 64 KiB and more of anything: cut to `max-message-size`, and said so.
    for byte in [b'x', b']', 0x1b, 0xff, 0x1d, b'#'] {
        let long = vec![byte; 70_000];
        fronts.push([format!("type=CWD {stamp} ").as_bytes(), &long].concat());
    }
    fronts.push(
        [b"type=CWD msg=audit(1795424551.650:77): ".to_vec(), "\u{fc}".repeat(40_000).into_bytes()].concat(),
    );
    fronts
}

/// The forms that auditd has for its plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// Version 0, auditd 3.0 to 4.1.0: whatever lies behind the record in a fixed frame comes too.
    Fixed0,
    /// Version 0, auditd 4.1.1 and later.
    Exact0,
    /// Version 1, ENRICHED: a whole line in a frame.
    Exact1,
}

impl Form {
    fn input(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Fixed0 => "binary-fixed",
            Self::Exact0 | Self::Exact1 => "binary-exact",
        }
    }

    /// What auditd writes, and the lines that it means.
    fn stream(self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut stream, mut lines) = (Vec::new(), Vec::new());
        for (serial, body) in bodies().into_iter().enumerate() {
            let stamp = format!("audit(1795424551.650:{serial}): pid=1 uid=0 msg='");
            let payload = [stamp.as_bytes(), &body].concat();
            let line = [b"type=USER_CMD msg=", &payload[..]].concat();
            match self {
                // A line cannot hold a line feed: auditd has made a blank of it.
                Self::Text => {
                    stream.extend(line.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
                    stream.push(b'\n');
                }
                Self::Exact0 => stream.extend(frame(0, 1123, &payload)),
                Self::Exact1 => stream.extend(frame(1, 1123, &line)),
                Self::Fixed0 => {
                    let mut fixed = frame(0, 1123, &payload);
                    // auditd's heap: what it held before.
                    let heap = frame(0, 1300, b"audit(1.000:1): <13>heap\n57 <13>1 ");
                    let rest = FIXED_FRAME - fixed.len();
                    fixed.extend(heap.iter().cycle().take(rest));
                    stream.extend(fixed);
                }
            }
            lines.push(line);
        }
        if self == Self::Text {
            for line in fronts() {
                stream.extend(&line);
                stream.push(b'\n');
                lines.push(line);
            }
        }
        if self == Self::Exact1 {
            for line in fronts().into_iter().filter(|line| line.len() < 8000) {
                stream.extend(frame(1, 1307, &line));
                lines.push(line);
            }
        }
        (stream, lines)
    }
}

// ---------------------------------------------------------------------------------------------------------
// What has to arrive

/// docs/message.md: the text for one line.
fn text_of(mut line: &[u8]) -> String {
    while let Some(rest) = line.strip_suffix(b"\0") {
        line = rest;
    }
    expected_text(line)
}

/// Node as HOSTNAME shows it, type, and whether there is a stamp, by the grammar in docs/message.md.
fn front_of(line: &[u8]) -> (Option<String>, Option<String>, bool) {
    let word_end = |text: &[u8]| text.iter().position(|&b| b == b' ').unwrap_or(text.len());
    let (mut node, mut kind, mut rest) = (None, None, line);
    if let Some(after) = rest.strip_prefix(b"node=") {
        let end = word_end(after);
        node = Some(after[..end].to_vec()).filter(|node| !node.is_empty());
        rest = after[end..].strip_prefix(b" ").unwrap_or(&[]);
    }
    if let Some(after) = rest.strip_prefix(b"type=") {
        let name = &after[..word_end(after)];
        if (1..=32).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic) {
            kind = Some(String::from_utf8(name.to_vec()).unwrap());
        }
        rest = after[name.len()..].strip_prefix(b" ").unwrap_or(&[]);
    }
    let safe = |name: Vec<u8>| -> String {
        let keep = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
        name.iter().take(255).map(|&b| if keep(b) { char::from(b) } else { '_' }).collect()
    };
    (node.map(safe), kind, rest.starts_with(b"msg=audit(1795424551.650:"))
}

/// The element `audit` for one line, up to its keys; with them, where a body was written for it. `repeats`: the
/// receiver shows every one of several parameters of the same name, and not the last alone.
fn audit_element(line: &[u8], repeats: bool) -> String {
    let escaped = |value: &[u8]| {
        let mut out = String::new();
        for c in expected_text(value).chars() {
            if matches!(c, '"' | '\\' | ']') {
                out.push('\\');
            }
            out.push(c);
        }
        out
    };
    let (node, kind, stamped) = front_of(line);
    let mut out = String::from("[audit@32473");
    if stamped {
        let at = line.windows(25).position(|w| w == b"msg=audit(1795424551.650:").unwrap() + 25;
        let digits: String =
            line[at..].iter().map(|&b| char::from(b)).take_while(char::is_ascii_digit).collect();
        write!(out, " serial=\"{digits}\"").unwrap();
    }
    if let Some(kind) = kind {
        write!(out, " type=\"{}\"", escaped(kind.as_bytes())).unwrap();
    }
    if node.is_some() {
        let raw = &line[5..];
        let end = raw.iter().position(|&b| b == b' ').unwrap_or(raw.len());
        write!(out, " node=\"{}\"", escaped(&raw[..end])).unwrap();
    }
    let holds = |text: &str| line.windows(text.len()).any(|w| w == text.as_bytes());
    if holds(" key=\"a]b\\c\"") {
        out += if repeats { r#" key="a\]b\\c" key="d\\"]"# } else { r#" key="d\\"]"# };
    } else if holds(" key=225D5C015D015C22") {
        out += if repeats { r#" key="\"\]\\" key="\]" key="\\\""]"# } else { r#" key="\\\""]"# };
    }
    out
}

/// How a destination's messages look where they arrive.
#[derive(Clone, Copy)]
struct Look {
    /// The receiver's name for the way in.
    inlet: &'static str,
    rfc5424: bool,
    ordered: bool,
    /// The `audit` element is asked for.
    element: bool,
    /// See [`audit_element`].
    repeats: bool,
}

#[track_caller]
fn check(messages: &[Message], lines: &[Vec<u8>], look: Look, relay: u32) {
    let mut mine: Vec<&Message> = messages.iter().filter(|m| m.inlet == look.inlet).collect();
    let sequence = |m: &Message| -> usize {
        let from = m.sd.find("sequenceId").unwrap_or_else(|| panic!("{}: {m:?}", look.inlet));
        m.sd[from..].split('"').nth(1).unwrap().trim_matches(&['\\', '"'][..]).parse().unwrap()
    };
    if !look.ordered && look.rfc5424 {
        mine.sort_by_key(|m| sequence(m));
    }
    for (n, (m, line)) in mine.iter().zip(lines).enumerate() {
        let inlet = look.inlet;
        let (node, kind, stamped) = front_of(line);
        let decoded = kind.is_some() && stamped;
        let mut text = text_of(line);
        if !look.rfc5424 && !decoded {
            text.insert_str(0, "UNDECODED: ");
        }
        let got = m.text();
        if text.len() > 60_000 {
            let (kept, rest) =
                got.rsplit_once("[cut from ").unwrap_or_else(|| panic!("{inlet} {n}: {got:.200}"));
            let whole: usize = rest.strip_suffix(" bytes]").unwrap().parse().unwrap();
            assert!(text.starts_with(kept) && kept.len() > 60_000, "{inlet} {n}: {kept:.200}");
            assert!(
                (text.len()..text.len() + 400).contains(&whole),
                "{inlet} {n}: {whole} of {}",
                text.len()
            );
        } else {
            assert_eq!(got, text, "{inlet}, message {n}");
        }
        assert_eq!((m.facility.as_str(), m.severity.as_str()), ("local6", "info"), "{inlet} {n}: {m:?}");
        assert_eq!((m.app.as_str(), m.pid.clone()), ("auditd", relay.to_string()), "{inlet} {n}: {m:?}");
        if look.rfc5424 {
            let msgid = if decoded { kind.unwrap() } else { "UNDECODED".to_owned() };
            assert_eq!(m.msgid, msgid, "{inlet} {n}");
            assert_eq!(m.host, node.unwrap_or_else(|| HOST.to_owned()), "{inlet} {n}");
            assert_eq!(sequence(m), n + 1, "{inlet} {n}: {m:?}");
        }
        if look.element {
            let element = audit_element(line, look.repeats);
            assert!(m.sd.contains(&element), "{inlet} {n}: {element} in {}", m.sd);
        }
    }
    let more = mine.get(lines.len());
    assert_eq!(mine.len(), lines.len(), "{}: messages arrived, records sent; beyond: {more:?}", look.inlet);
}

// ---------------------------------------------------------------------------------------------------------
// The runs

struct Way {
    look: Look,
    url: String,
    /// Lines of the destination's table.
    more: &'static str,
}

/// One relay sends the records of this form every way at once.
fn send(dir: &Path, ways: &[Way], form: Form, ca: &Path) -> (u32, Vec<Vec<u8>>) {
    let mut config = format!(
        "hostname = \"{HOST}\"\ninput = \"{}\"\ntls-ca = \"{}\"\nenterprise-number = 32473\n",
        form.input(),
        ca.display()
    );
    if ways.iter().all(|way| way.look.element) {
        config += "structured-data = [\"meta\", \"audit\"]\n";
    }
    for way in ways {
        let format = if way.look.rfc5424 { "rfc5424" } else { "rfc3164" };
        write!(
            config,
            "[[destination]]\nurl = \"{}\"\nformat = \"{format}\"\nmax-message-size = \"64000B\"\n{}\n",
            way.url, way.more
        )
        .unwrap();
    }
    let file = dir.join("relay.toml");
    fs::write(&file, config).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let (stream, lines) = form.stream();
    let (relay, feed) =
        Relay::with(&["--config", file.to_str().unwrap(), "--drain-timeout", "20s"]).by_hand();
    let pid = relay.id();
    feed.write_on_a_thread(stream).join().unwrap().close();
    let exit = relay.exit();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    for (at, _) in ways.iter().enumerate() {
        assert_eq!(exit.number(&format!("/destinations/{at}/sent")), lines.len() as u64, "{exit:?}");
    }
    assert_eq!(exit.number("/skipped_bytes"), 0, "{exit:?}");
    (pid, lines)
}

fn secrets(dir: &Path) -> (Pki, TlsFiles) {
    let pki = Pki::new(&dir.join("pki"));
    let server = pki.server("server", Kind::Good);
    let files =
        TlsFiles { ca: pki.ca_file(), certificate: server.certificate.clone(), key: server.key.clone() };
    (pki, files)
}

fn rsyslogd_gets_one_message_a_record(form: Form, element: bool) {
    if !live::have(&[Need::Program("rsyslogd"), Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let (_pki, files) = secrets(dir.path());
    let mut rsyslogd =
        Rsyslogd::start_secure(System::Host, dir.path(), &files, RelpLibrary::OpenSsl, Queue::Memory);
    let way = |inlet: Inlet, name: &'static str, more| Way {
        look: Look {
            inlet: name,
            rfc5424: inlet != Inlet::UnixDefault,
            ordered: inlet != Inlet::Udp,
            element,
            repeats: true,
        },
        url: rsyslogd.url(inlet),
        more,
    };
    let mut ways = vec![
        way(Inlet::TcpOctet, "tcp-octet", ""),
        way(Inlet::TcpLf, "tcp-lf", "framing = \"lf\""),
        way(Inlet::Udp, "udp", ""),
        way(Inlet::TlsOssl, "TlsOssl", ""),
        // Here a line that starts with a digit would be taken for octet counting.
        way(Inlet::TlsGtlsNormal, "TlsGtlsNormal", "framing = \"lf\""),
        way(Inlet::Relp, "Relp", ""),
    ];
    if !element {
        ways.push(way(Inlet::UnixDefault, "imuxsock", ""));
    }
    let (pid, lines) = send(dir.path(), &ways, form, &files.ca);
    rsyslogd.wait_for(lines.len() * ways.len(), Duration::from_secs(20));
    // What it has queued it writes, and what nobody has sent would show.
    rsyslogd.stop();
    let messages = rsyslogd.messages();
    for way in &ways {
        check(&messages, &lines, way.look, pid);
    }
    assert_eq!(messages.len(), lines.len() * ways.len(), "messages from nowhere");
}

fn syslog_ng_gets_one_message_a_record(form: Form, element: bool) {
    if !live::have(&[Need::SyslogNg, Need::Program("setpriv")]) {
        return;
    }
    let dir = live::temp_dir();
    let (_pki, files) = secrets(dir.path());
    let mut ng = SyslogNg::start(dir.path(), &files);
    let way = |inlet: NgInlet, name: &'static str, more| Way {
        look: Look {
            inlet: name,
            rfc5424: inlet != NgInlet::Unix,
            ordered: inlet != NgInlet::Udp,
            element,
            repeats: false,
        },
        url: ng.url(inlet),
        more,
    };
    let mut ways = vec![
        way(NgInlet::Tcp, "Tcp", ""),
        way(NgInlet::TcpLf, "TcpLf", "framing = \"lf\""),
        way(NgInlet::Udp, "Udp", ""),
        way(NgInlet::Tls, "Tls", ""),
    ];
    if !element {
        ways.push(way(NgInlet::Unix, "Unix", ""));
    }
    let (pid, lines) = send(dir.path(), &ways, form, &files.ca);
    ng.wait_for(lines.len() * ways.len(), Duration::from_secs(20));
    ng.stop();
    let messages = ng.messages();
    for way in &ways {
        check(&messages, &lines, way.look, pid);
    }
    assert_eq!(messages.len(), lines.len() * ways.len(), "messages from nowhere");
}

macro_rules! one_message_a_record {
    ($($rsyslogd:ident $syslog_ng:ident: $form:ident $element:expr;)*) => {$(
        #[test]
        fn $rsyslogd() {
            rsyslogd_gets_one_message_a_record(Form::$form, $element);
        }

        #[test]
        fn $syslog_ng() {
            syslog_ng_gets_one_message_a_record(Form::$form, $element);
        }
    )*};
}

one_message_a_record! {
    rsyslogd_text syslog_ng_text: Text false;
    rsyslogd_text_with_audit_element syslog_ng_text_with_audit_element: Text true;
    rsyslogd_binary_0_fixed syslog_ng_binary_0_fixed: Fixed0 false;
    rsyslogd_binary_0 syslog_ng_binary_0: Exact0 false;
    rsyslogd_binary_1 syslog_ng_binary_1: Exact1 false;
}
