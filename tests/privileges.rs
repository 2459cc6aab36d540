//! What other users, the relay's own account once it is taken over, and strangers' signals can do to the relay:
//! nothing that ends it, leads root elsewhere, or shows a key.
//!
//! What needs a second user needs root; the rest runs as anybody.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed helper is a failed test; what is skipped is said"
)]

mod support;

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use support::fake_auditd::Auditd;
use support::pki::{Identity, Kind, Pki};
use support::relay::{self, Relay, run};
use support::sink::{ClosedPort, Framing, Sink};
use support::tls_sink::TlsSink;
use support::{is_root, line, root_or_skip, serial, temp_dir, wait_until};

/// The account that the relay becomes, and one that it never is.
const NOBODY: u32 = 65534;
const STRANGER: u32 = 4242;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    set_mode(path, mode);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn refuses(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "no {word} in: {said}"));
}

// ---------------------------------------------------------------------------------------------------------
// The configuration

#[test]
fn a_configuration_that_others_could_exchange_is_refused() {
    let dir = temp_dir();
    let folder = dir.path().join("etc");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("relay.toml");
    write(&file, "facility = \"auth\"\n", 0o644);
    let check = |file: &Path| run(&["check", "--config", text(file)]);
    set_mode(&folder, 0o755);
    assert_eq!(check(&file).status.code(), Some(0), "{:?}", check(&file));
    // The folder, an ancestor, the file; a sticky folder does no harm.
    set_mode(&folder, 0o777);
    refuses(&check(&file), 78, &["others may write into the folder", "chmod go-w", text(&folder)]);
    set_mode(&folder, 0o1777);
    assert_eq!(check(&file).status.code(), Some(0));
    set_mode(&folder, 0o755);
    set_mode(dir.path(), 0o775);
    refuses(&check(&file), 78, &["others may write into the folder", text(dir.path())]);
    set_mode(dir.path(), 0o755);
    // Through a link the folder that it leads to counts too.
    let (open, link) = (dir.path().join("open"), folder.join("link.toml"));
    fs::create_dir(&open).unwrap();
    set_mode(&open, 0o757);
    write(&open.join("relay.toml"), "facility = \"auth\"\n", 0o644);
    symlink("../open/relay.toml", &link).unwrap();
    refuses(&check(&link), 78, &["others may write into the folder", text(&open)]);
    set_mode(&open, 0o755);
    assert_eq!(check(&link).status.code(), Some(0));
    // Nor does it hang or fill the memory.
    let (fifo, huge) = (folder.join("fifo"), folder.join("huge"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refuses(&check(&fifo), 78, &["not a regular file"]);
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    set_mode(&huge, 0o644);
    refuses(&check(&huge), 78, &["is larger than"]);
    // The files of /proc say that they are empty.
    refuses(&check(Path::new("/proc/version")), 78, &["has grown while it was read"]);
    let ring = folder.join("ring");
    symlink("ring", &ring).unwrap();
    refuses(&check(&ring), 78, &["cannot read configuration"]);
}
/// Records come first: the relay runs, and says what it does without.
#[track_caller]
fn does_without(output: &Output, words: &[&str]) {
    refuses(output, 0, words);
    refuses(output, 0, &["going on without"]);
}

#[test]
fn a_configuration_of_the_relays_account_is_refused_at_the_start_and_on_reload() {
    if !root_or_skip() {
        return;
    }
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    let sink = Sink::unix();
    write(&file, &format!("to = [\"{}\"]\n", sink.url), 0o644);
    let (relay, mut auditd) = Relay::with(&["--config", text(&file)]).under(Auditd::FirstStart);
    for owner in [NOBODY, STRANGER] {
        chown(&file, Some(owner), None).unwrap();
        refuses(&run(&["check", "--config", text(&file)]), 78, &["belongs to user", "chown root"]);
        let refusals = || relay.said().matches(&format!("belongs to user {owner}; run: chown")).count();
        relay.signal(Signal::SIGHUP);
        wait_until("the reload is refused", || refusals() == 1);
        chown(&file, Some(0), None).unwrap();
        // The folder, and a link in a sticky one.
        let folder = dir.path().join(format!("of-{owner}"));
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(owner), None).unwrap();
        write(&folder.join("relay.toml"), "facility = \"auth\"\n", 0o644);
        let output = run(&["check", "--config", text(&folder.join("relay.toml"))]);
        refuses(&output, 78, &["the folder", "belongs to user", "chown root"]);
        let link = dir.path().join(format!("link-{owner}"));
        symlink(&file, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(owner), None).unwrap();
        refuses(&run(&["check", "--config", text(&link)]), 78, &["the link", "chown -h root"]);
    }
    auditd.write(&line(0, 0));
    sink.wait_for(1);
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
}

// ---------------------------------------------------------------------------------------------------------
// Report and handover

#[test]
fn root_is_not_led_elsewhere_by_the_report_and_goes_on_without() {
    let dir = temp_dir();
    let precious = dir.path().join("precious");
    write(&precious, "precious", 0o600);
    let report = dir.path().join("report.json");
    let start =
        || run(&["--config", "none", "--log", "stderr", "--to", "stdout:", "--report", text(&report)]);
    // What whoever has the relay's account can leave in a folder of its own.
    fs::create_dir(&report).unwrap();
    does_without(&start(), &["it is a folder", "remove it"]);
    fs::remove_dir(&report).unwrap();
    fs::hard_link(&precious, &report).unwrap();
    does_without(&start(), &["second name", "remove it"]);
    fs::remove_file(&report).unwrap();
    symlink(&precious, &report).unwrap();
    does_without(&start(), &["symbolic link, which is never followed"]);
    fs::remove_file(&report).unwrap();
    set_mode(dir.path(), 0o777);
    does_without(&start(), &["others may write into the folder"]);
    set_mode(dir.path(), 0o755);
    // What somebody has named by mistake: the configuration, for one, which would be a report from then on.
    let config = dir.path().join("relay.toml");
    let itself = format!("to = \"stdout:\"\nlog = \"stderr\"\nreport = \"{}\"\n", text(&config));
    write(&config, &itself, 0o644);
    does_without(&run(&["--config", text(&config)]), &["holds something else than a report"]);
    refuses(&run(&["check", "--config", text(&config)]), 0, &["warning: report: ", "something else"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), itself);
    // A report that is there is taken over, a cut one too.
    for before in ["", "\0\0\0", "{", "{\n  \"version\": \"0.1.0\",\n  \"pid\"", "?"] {
        write(&report, before, 0o600);
        if before == "?" {
            does_without(&start(), &["something else"]);
        } else {
            assert_eq!(start().stderr.windows(7).filter(|word| word == b"report:").count(), 0, "{before}");
            assert!(fs::read_to_string(&report).unwrap().ends_with("}\n"), "{before}");
        }
        fs::remove_file(&report).unwrap();
    }
    if root_or_skip() {
        write(&report, "", 0o666);
        chown(&report, Some(STRANGER), None).unwrap();
        does_without(&start(), &["belongs to user 4242"]);
        fs::remove_file(&report).unwrap();
        // The relay's own folder may hold it, but a link there leads nowhere.
        let own = dir.path().join("own");
        fs::create_dir(&own).unwrap();
        symlink(dir.path(), own.join("there")).unwrap();
        chown(&own, Some(NOBODY), None).unwrap();
        std::os::unix::fs::lchown(own.join("there"), Some(NOBODY), None).unwrap();
        let through = own.join("there/new.json");
        let output = run(&["--config", "none", "--user", "nobody", "--report", text(&through)]);
        does_without(&output, &["the link", "who decides where it leads"]);
        assert!(!dir.path().join("new.json").exists());
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn the_handover_folder_is_not_made_where_others_could_exchange_it() {
    let dir = temp_dir();
    let parent = dir.path().join("run");
    fs::create_dir(&parent).unwrap();
    set_mode(&parent, 0o777);
    let folder = parent.join("relay");
    let start = || run(&["--config", "none", "--to", "stdout:", "--handover", text(&folder)]);
    does_without(&start(), &["handover", "others may write into the folder"]);
    assert!(!folder.exists());
    set_mode(&parent, 0o755);
    symlink("/etc", &folder).unwrap();
    does_without(&start(), &["handover"]);
    fs::remove_file(&folder).unwrap();
    if root_or_skip() {
        fs::create_dir(&folder).unwrap();
        set_mode(&folder, 0o700);
        chown(&folder, Some(STRANGER), None).unwrap();
        does_without(&start(), &["belongs to user 4242", "remove it"]);
    }
}

/// What cannot be left is counted as lost, and said.
#[test]
fn a_handover_folder_that_is_deleted_meanwhile_costs_what_would_have_been_left() {
    let (dir, port) = (temp_dir(), ClosedPort::new());
    let folder = dir.path().join("handover");
    let url = format!("tcp://{}", port.address());
    let options = ["--to", &url, "--handover", text(&folder), "--drain-timeout", "100ms"];
    let (relay, mut auditd) = Relay::with(&options).under(Auditd::FirstStart);
    (0..10).for_each(|number| auditd.write(&line(number, 0)));
    relay.wait_for("/read", 10);
    fs::remove_dir_all(&folder).unwrap();
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.number("/destinations/0/lost/drain_deadline"), 10, "{exit:?}");
    assert!(exit.said.contains("handover: cannot write into"), "{}", exit.said);
}

// ---------------------------------------------------------------------------------------------------------
// Keys

struct Stage {
    dir: tempfile::TempDir,
    pki: Pki,
    client: Identity,
}

impl Stage {
    fn new() -> Self {
        let dir = temp_dir();
        let pki = Pki::new(dir.path());
        let client = pki.client("client", Kind::Good);
        Self { dir, pki, client }
    }

    fn options(&self) -> [String; 6] {
        let path = |path: &Path| text(path).to_owned();
        [
            "--tls-ca".to_owned(),
            path(&self.pki.ca_file()),
            "--tls-cert".to_owned(),
            path(&self.client.certificate),
            "--tls-key".to_owned(),
            path(&self.client.key),
        ]
    }

    fn check(&self) -> Output {
        let options = self.options();
        let mut arguments = vec!["check", "--config", "none", "--to", "tls://127.0.0.1:6514"];
        if nix::unistd::geteuid().is_root() {
            arguments.extend(["--user", "nobody"]);
        }
        arguments.extend(options.iter().map(String::as_str));
        run(&arguments)
    }
}

#[test]
fn keys_and_certificates_that_others_can_reach_are_refused() {
    let stage = Stage::new();
    let (key, ca) = (&stage.client.key, &stage.pki.ca_file());
    assert_eq!(stage.check().status.code(), Some(0), "{:?}", stage.check());
    for (path, mode, word) in [
        (key, 0o604, "chmod o="),
        (key, 0o601, "chmod o="),
        (key, 0o620, "chmod go-w"),
        (ca, 0o646, "chmod go-w"),
        (ca, 0o664, "chmod go-w"),
        (&stage.client.certificate, 0o664, "chmod go-w"),
    ] {
        let before = fs::metadata(path).unwrap().permissions().mode();
        set_mode(path, mode);
        refuses(&stage.check(), 78, &[word, text(path)]);
        set_mode(path, before);
    }
    set_mode(stage.dir.path(), 0o777);
    refuses(&stage.check(), 78, &["others may write into the folder"]);
    set_mode(stage.dir.path(), 0o755);
    if root_or_skip() {
        chown(key, Some(STRANGER), Some(NOBODY)).unwrap();
        set_mode(key, 0o640);
        refuses(&stage.check(), 78, &["belongs to user 4242", "chown root"]);
        chown(key, Some(NOBODY), Some(STRANGER)).unwrap();
        refuses(&stage.check(), 78, &["group 4242", "chgrp"]);
        chown(key, Some(0), Some(NOBODY)).unwrap();
        assert_eq!(stage.check().status.code(), Some(0), "{:?}", stage.check());
        chown(ca, Some(STRANGER), None).unwrap();
        refuses(&stage.check(), 78, &["belongs to user 4242"]);
    }
}

/// The mode of a file with a list shows what its group may; the list lets a stranger read all the same.
#[test]
fn an_access_control_list_that_lets_others_read_a_key_is_found() {
    let stage = Stage::new();
    let key = &stage.client.key;
    let group = if is_root() { NOBODY } else { nix::unistd::getegid().as_raw() };
    chown(key, None, Some(group)).unwrap();
    set_mode(key, 0o640);
    assert_eq!(stage.check().status.code(), Some(0), "{:?}", stage.check());
    // linux/posix_acl_xattr.h: version, then tag, permissions, id for each entry.
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, u32::MAX),
        entry(2, 4, STRANGER),
        entry(4, 4, u32::MAX),
        entry(16, 4, u32::MAX),
        entry(32, 0, u32::MAX),
    ]
    .concat();
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(key, "system.posix_acl_access", &list, flags) {
        assert!(std::env::var_os("CI").is_none(), "no access control lists here: {error}");
        eprintln!("SKIPPED: no access control lists here: {error}");
        return;
    }
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o640, "it does not show");
    refuses(&stage.check(), 78, &["access control list", "setfacl -b"]);
}

/// The lines of a key's text, and the part of its DER that is secret.
fn secrets(pem: &str) -> Vec<Vec<u8>> {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut found: Vec<Vec<u8>> =
        pem.lines().filter(|line| !line.starts_with('-')).map(|line| line.as_bytes().to_vec()).collect();
    if let Ok(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        let der = der.secret_der();
        // PKCS #8 of a P-256 key: OCTET STRING of 32 bytes (02 01 01 04 20, RFC 5915).
        let at = der.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]).unwrap() + 5;
        let scalar = der[at..at + 32].to_vec();
        found.push(scalar.iter().rev().copied().collect());
        found.push(scalar);
    }
    found
}

#[test]
fn nothing_of_a_broken_key_is_ever_said() {
    let stage = Stage::new();
    let key = &stage.client.key;
    let whole = fs::read_to_string(key).unwrap();
    let secrets: Vec<String> =
        whole.lines().filter(|line| !line.starts_with('-')).map(|line| line[..16].to_owned()).collect();
    let owner = is_root().then_some(NOBODY);
    let half = whole.len() / 2;
    for broken in [
        whole[..half].to_owned(),
        whole[half..].to_owned(),
        whole.replacen("-----\n", "\n", 1),
        whole.replacen("-----END", "----END", 1),
        whole.replace("PRIVATE", "PRIMATE"),
        whole.replacen('M', "!", 1),
        format!("{}{}", &whole[..100], &whole[130..]),
        fs::read_to_string(&stage.pki.client("other", Kind::Good).key).unwrap(),
    ] {
        fs::write(key, &broken).unwrap();
        chown(key, owner, None).unwrap();
        let output = stage.check();
        refuses(&output, 78, &["tls-key", text(key)]);
        // Also where a key stands in for a certificate, or for the configuration.
        let shown = run(&["cert", "show", text(key)]);
        chown(key, owner.map(|_| 0), None).unwrap();
        let config = run(&["check", "--config", text(key)]);
        for bytes in
            [&output.stdout, &output.stderr, &shown.stdout, &shown.stderr, &config.stdout, &config.stderr]
        {
            let said = String::from_utf8_lossy(bytes);
            for secret in &secrets {
                assert!(!said.contains(secret.as_str()), "{said}");
                let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
                assert!(!said.contains(&bytes.join(", ")), "{said}");
            }
        }
    }
}

/// How often each of `wanted` stands in what the process may read and write.
fn count_in_memory(id: u32, wanted: &[Vec<u8>]) -> Vec<usize> {
    let mut counts = vec![0; wanted.len()];
    let mut memory = fs::File::open(format!("/proc/{id}/mem")).unwrap();
    for map in fs::read_to_string(format!("/proc/{id}/maps")).unwrap().lines() {
        let mut fields = map.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        // Page by page, some more for what crosses an end: reserved parts of an arena cannot be read.
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        for (page, space) in bytes.chunks_mut(1 << 16).enumerate() {
            let start = from + (page as u64) * (1 << 16);
            if memory.seek(SeekFrom::Start(start)).is_ok() {
                let _ = memory.read_exact(space);
            }
        }
        for (count, wanted) in counts.iter_mut().zip(wanted) {
            *count += memchr::memmem::find_iter(&bytes, wanted).count();
        }
    }
    counts
}

/// Root reads the memory of a relay that has shown one key, and then, after a reload, another.
#[test]
fn a_key_is_wiped_when_it_is_dropped_and_its_text_at_once() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let server = stage.pki.server("server", Kind::Good);
    let sink = TlsSink::new(&server);
    let options = stage.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let (relay, mut feed) = Relay::to(&sink.url("tls")).options(&options).by_hand();
    let old = secrets(&fs::read_to_string(&stage.client.key).unwrap());
    let sessions = || relay.said().matches(": TLS 1.3 with").count();
    feed.write(&line(0, 0));
    let first = sink.accept();
    wait_until("the first session is up", || sessions() == 1);
    let counts = count_in_memory(relay.id(), &old);
    let lines = old.len() - 2;
    assert_eq!(counts[..lines], vec![0; lines], "the text is wiped as soon as the key is parsed");
    assert!(counts[lines..].iter().sum::<usize>() > 0, "the key in use is there to be found: {counts:?}");
    // A broken one in between, which is wiped too.
    let whole = fs::read_to_string(&stage.client.key).unwrap();
    fs::write(&stage.client.key, whole.replacen("-----END", "-----FIN", 1)).unwrap();
    relay.signal(Signal::SIGHUP);
    wait_until("the broken one is refused", || relay.said().contains("holds no private key"));
    stage.client = stage.pki.client("client", Kind::Good);
    relay.signal(Signal::SIGHUP);
    let second = sink.accept();
    wait_until("the second session is up", || sessions() == 2);
    drop(first);
    wait_until("nothing is left of the first key", || {
        count_in_memory(relay.id(), &old).iter().all(|count| *count == 0)
    });
    let exit_said = relay.said();
    for secret in old.iter().take(lines) {
        assert!(!exit_said.contains(std::str::from_utf8(secret).unwrap()), "{exit_said}");
    }
    drop((second, feed));
}

#[test]
fn no_session_secret_is_written_for_anybody() {
    let dir = temp_dir();
    set_mode(dir.path(), 0o1777);
    let log = dir.path().join("keys.log");
    let stage = Stage::new();
    let server = stage.pki.server("server", Kind::Good);
    let sink = TlsSink::new(&server);
    let mut relay = Command::new(relay::binary())
        .args(["--config", "none", "--handover", "off", "--log", "none", "--to", &sink.url("tls")])
        .args(stage.options())
        .env("SSLKEYLOGFILE", &log)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut feed = relay.stdin.take().unwrap();
    std::io::Write::write_all(&mut feed, &line(0, 0)).unwrap();
    let connection = sink.accept();
    drop(feed);
    let status = relay.wait().unwrap();
    drop(connection);
    assert!(status.code().is_some_and(|code| code == 0 || code == 75), "{status}");
    assert!(!log.exists());
}

// ---------------------------------------------------------------------------------------------------------
// Signals

#[test]
fn no_signal_of_a_stranger_stops_auditds_plugin() {
    let sink = Sink::unix();
    let (mut relay, mut auditd) = Relay::to(&sink.url).under(Auditd::FirstStart);
    auditd.write(&line(0, 0));
    sink.wait_for(1);
    // All but KILL, STOP, and the two of glibc; HUP and USR1 do what they are for.
    for number in (1..=64).filter(|number| ![9, 19, 32, 33].contains(number)) {
        relay.signal_from_a_stranger(&number.to_string());
        assert!(relay.is_running(), "signal {number}");
    }
    // A TERM that says it comes from auditd (this process): rt_sigqueueinfo(2) lets the sender say so.
    let number = if cfg!(target_arch = "x86_64") { 129 } else { 138 };
    // struct siginfo: number, error, code (SI_QUEUE), padding, sender's process and user; 128 bytes.
    let forged = format!(
        "my $info = pack('iiix4iIx104', 15, 0, -1, {}, 0); syscall({number}, {}, 15, $info) == 0 or die $!",
        std::process::id(),
        relay.id()
    );
    let sent = Command::new("perl").args(["-e", &forged]).status().unwrap();
    assert!(sent.success(), "{forged}");
    relay.report();
    auditd.write(&line(1, 0));
    sink.wait_for(2);
    assert!(relay.is_running());
    assert_eq!(relay.status_field("State").split(' ').next().unwrap_or_default().replace('R', "S"), "S");
    assert!(relay.said().contains("only auditd stops its plugin"), "{}", relay.said());
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
}

#[test]
fn a_storm_of_reloads_and_reports_starves_nothing() {
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    let sink = Sink::tcp(Framing::Octet);
    write(&file, &format!("to = [\"{}\"]\n", sink.url), 0o644);
    let (relay, mut auditd) = Relay::with(&["--config", text(&file)]).under(Auditd::FirstStart);
    let total = 20_000;
    let done = std::sync::atomic::AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut sent = 0u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                relay.signal(Signal::SIGHUP);
                relay.signal(Signal::SIGUSR1);
                sent += 1;
            }
            sent
        });
        (0..total).for_each(|number| auditd.write(&line(number, 100)));
        sink.wait_for(total);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        storm.join().unwrap()
    });
    auditd.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), total as u64), "{exit:?}");
    let arrived: Vec<_> = sink.messages_after_exit().iter().map(|message| serial(&message.text)).collect();
    assert_eq!(arrived, (0..total).collect::<Vec<_>>());
    assert!(sent > 10, "there was a storm: {sent}");
    // What is said is bounded; that reports were made shows all the same.
    assert!(exit.said.matches("in flight").count() > 1, "{}", exit.said);
}
