//! Kills at any moment, restarts one upon the other, a full /run, clocks that jump: the relay as a whole, over several
//! of its lives.
//!
//! Promise that is held here: what one life leaves behind never stops the next, and nothing is missing but what a
//! killed life had in its memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use live::Need;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use support::fake_auditd::Auditd;
use support::relay::{Relay, Setup};
use support::sink::{Framing, accept, read_to_end};
use support::{line, serial, temp_dir, wait_until};

/// What has come over one connection so far.
type Bytes = Arc<Mutex<Vec<u8>>>;

/// A receiver that takes all connections at once, and remembers what came over each.
struct Receiver {
    url: String,
    connections: Arc<Mutex<Vec<Bytes>>>,
}

impl Receiver {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let connections = Arc::<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>::default();
        let list = Arc::clone(&connections);
        // Both kinds of threads go with the test program.
        thread::spawn(move || {
            while let Ok((mut connection, _)) = listener.accept() {
                let bytes = Arc::<Mutex<Vec<u8>>>::default();
                list.lock().unwrap().push(Arc::clone(&bytes));
                thread::spawn(move || {
                    let mut space = [0; 1 << 16];
                    while let Ok(count @ 1..) = connection.read(&mut space) {
                        bytes.lock().unwrap().extend_from_slice(&space[..count]);
                    }
                });
            }
        });
        Self { url, connections }
    }

    /// How often each record has come. The tail of a killed relay's connection may be a piece.
    fn seen(&self) -> BTreeMap<usize, usize> {
        let mut seen = BTreeMap::new();
        for bytes in &*self.connections.lock().unwrap() {
            for message in Framing::Octet.cut(&bytes.lock().unwrap()).0 {
                if !message.is_notice() {
                    *seen.entry(serial(&message.text)).or_default() += 1;
                }
            }
        }
        seen
    }
}

fn under_handover(url: &str, folder: &Path) -> Setup {
    Relay::with(&["--to", url, "--handover", folder.to_str().unwrap()])
}

/// A simple generator of numbers, so that a failure can be repeated.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// How many lives `kills` takes; more by hand: `KILLS=300 cargo test --test hard_times kills`.
fn lives() -> usize {
    std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// SIGKILL at any moment: while it starts, takes over, sends under load, drains, leaves and reports. What a life has
/// been given and not sent may be gone; what the one before it has left by its own will may not, unless this life has
/// taken it and was killed.
#[test]
fn kills() {
    let dir = temp_dir();
    let folder = dir.path().join("handover");
    let receiver = Receiver::new();
    let (mut state, mut from) = (0x9e37_79b9_7f4a_7c15, 0);
    let mut in_order = BTreeSet::new();
    for life in 0..lives() {
        let (relay, auditd) = under_handover(&receiver.url, &folder)
            .options(&["--drain-timeout", "2s"])
            .quickly_under(Auditd::FirstStart);
        let records = 2000;
        let bytes: Vec<u8> = (from..from + records).flat_map(|number| line(number, 100)).collect();
        let feeding = auditd.write_on_a_thread(bytes);
        thread::sleep(Duration::from_micros(next(&mut state) % 30_000));
        relay.signal(Signal::SIGKILL);
        relay.wait();
        feeding.join().unwrap();
        from += records;
        // A life that is let be has all of its records arrive, whatever the one before has left behind.
        let (relay, mut auditd) = under_handover(&receiver.url, &folder)
            .options(&["--drain-timeout", "20s"])
            .under(Auditd::FirstStart);
        for number in from..from + 20 {
            auditd.write(&line(number, 0));
            in_order.insert(number);
        }
        from += 20;
        auditd.close();
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/read")), (Some(0), 20), "life {life}: {exit:?}");
        assert!(!exit.said.contains("handover: "), "life {life}: {}", exit.said);
    }
    wait_until("all records of the lives in between have come", || {
        let seen = receiver.seen();
        in_order.iter().all(|number| seen.get(number) == Some(&1))
    });
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "nothing but the lock is left");
}

/// Killed while it leaves its records: the next life finds all of them or none, and says nothing of a broken file.
#[test]
fn kills_while_it_leaves_its_records() {
    let dir = temp_dir();
    let folder = dir.path().join("handover");
    let port = support::sink::ClosedPort::new();
    let url = format!("tcp://{}", port.address());
    let mut state = 0x1234_5678_9abc_def1;
    for life in 0..lives() {
        let (relay, mut auditd) =
            under_handover(&url, &folder).options(&["--drain-timeout", "1ms"]).under(Auditd::FirstStart);
        (0..500).for_each(|number| auditd.write(&line(number, 1000)));
        relay.wait_for("/read", 500);
        auditd.close();
        thread::sleep(Duration::from_micros(next(&mut state) % 5000));
        relay.signal_if_there(Signal::SIGKILL);
        relay.wait();
        let (relay, auditd) =
            under_handover(&url, &folder).options(&["--drain-timeout", "1ms"]).under(Auditd::FirstStart);
        auditd.close();
        let exit = relay.exit();
        assert!(!exit.said.contains("of no use"), "life {life}: {}", exit.said);
        let inherited = exit.number("/destinations/0/inherited");
        assert!(inherited == 0 || inherited % 500 == 0, "life {life}: {inherited}");
        assert_eq!(exit.number("/destinations/0/handed_over"), inherited, "life {life}: {exit:?}");
        if inherited > 0 {
            fs::remove_file(folder.join("records")).unwrap();
        }
    }
}

/// auditd reloads without end: each life is given some records, and the next one is started before the last has ended.
#[test]
fn restart_storm() {
    let dir = temp_dir();
    let folder = dir.path().join("handover");
    let receiver = Receiver::new();
    let (mut from, mut before) = (0, None::<Relay>);
    let mut left = 0;
    for life in 0..30 {
        // Every third has no time at all to deliver.
        let drain = if life % 3 == 0 { "1ms" } else { "5s" };
        let (relay, mut auditd) = under_handover(&receiver.url, &folder)
            .options(&["--drain-timeout", drain])
            .under(Auditd::FirstStart);
        (from..from + 40).for_each(|number| auditd.write(&line(number, 0)));
        from += 40;
        auditd.close();
        if let Some(before) = before.replace(relay) {
            let exit = before.exit();
            let lost = exit.report["destinations"][0]["lost"].as_object().unwrap().len();
            assert_eq!((exit.number("/read"), lost), (40, 0), "life {life}: {exit:?}");
            left += exit.number("/destinations/0/handed_over");
        }
    }
    before.unwrap().exit();
    let (relay, auditd) =
        under_handover(&receiver.url, &folder).options(&["--drain-timeout", "20s"]).under(Auditd::FirstStart);
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
    wait_until("all records have come", || receiver.seen().len() == from);
    eprintln!(
        "{left} records went through the folder, {} came twice",
        receiver.seen().values().filter(|n| **n > 1).count()
    );
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["lock"]);
}

// ---------------------------------------------------------------------------------------------------------
// A full /run

/// A file system of a few pages that only the calling thread and its children see.
fn with_tiny_file_system<T: Send>(test: impl FnOnce(&Path) -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
            let dir = temp_dir();
            let mount = |arguments: &[&str]| {
                let done =
                    Command::new("mount").args(arguments).env("PATH", "/usr/bin:/bin").status().unwrap();
                assert!(done.success(), "mount: {done}");
            };
            mount(&["--make-rprivate", "/"]);
            mount(&["-t", "tmpfs", "-o", "size=32k,mode=755", "tiny", dir.path().to_str().unwrap()]);
            let result = test(dir.path());
            Command::new("umount").arg(dir.path()).env("PATH", "/usr/bin:/bin").status().unwrap();
            result
        };
        scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Fills the file system to the last byte.
fn fill(dir: &Path) {
    let mut size = 1 << 16;
    let mut content = Vec::new();
    while size > 0 {
        match fs::write(dir.join("filler"), vec![b'x'; content.len() + size]) {
            Ok(()) => content.resize(content.len() + size, b'x'),
            Err(_) => size /= 2,
        }
    }
    fs::write(dir.join("filler"), &content).unwrap();
}

/// Nothing can be left in a full file system: it is counted as lost and said, and the report that was there before is
/// replaced by the new one, whose room it has.
#[test]
fn full_run() {
    if !live::have(&[Need::Root, Need::Program("mount")]) {
        return;
    }
    with_tiny_file_system(|dir| {
        let port = support::sink::ClosedPort::new();
        let (folder, report) = (dir.join("handover"), dir.join("report"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&folder, Some(65534), Some(65534)).unwrap();
        // The second becomes what takes three quarters of the room: half of it is left to others.
        let mut three_quarters = 0;
        for (case, (records, full)) in
            [(20, false), (0, false), (300, false), (20, true)].into_iter().enumerate()
        {
            let records = if case == 1 { three_quarters } else { records };
            let setup = under_handover(&format!("tcp://{}", port.address()), &folder)
                .options(&["--drain-timeout", "50ms"])
                .report_to(&report);
            let (relay, mut auditd) = setup.under(Auditd::FirstStart);
            (0..records).for_each(|number| auditd.write(&line(number, 0)));
            relay.signal(Signal::SIGUSR1);
            wait_until("there is a report", || fs::read(&report).is_ok_and(|text| text.ends_with(b"}\n")));
            if full {
                fill(dir);
            }
            auditd.close();
            let exit = relay.exit();
            let (handed, lost) = (
                exit.number("/destinations/0/handed_over"),
                exit.number("/destinations/0/lost/drain_deadline"),
            );
            let records = records as u64;
            assert_eq!(handed + lost, records, "{exit:?}");
            match (records, full) {
                (_, true) => assert_eq!(lost, records, "{exit:?}"),
                (20, _) => assert_eq!(handed, records, "{exit:?}"),
                _ => assert!(lost > 0 && exit.said.contains("no room for"), "{exit:?}"),
            }
            assert_eq!(exit.said.contains("cannot write into"), full, "{}", exit.said);
            assert!(!folder.join("records.new").exists());
            if case == 0 {
                let size = fs::metadata(folder.join("records")).unwrap().len() / records;
                fs::remove_file(folder.join("records")).unwrap();
                let free = nix::sys::statvfs::statvfs(dir).unwrap();
                three_quarters =
                    (free.blocks_available() * free.fragment_size() * 3 / 4 / size).try_into().unwrap();
                assert!((40..300).contains(&three_quarters), "{three_quarters}");
            }
            let _ = fs::remove_file(folder.join("records"));
        }
    });
}

/// A report that does not fit is empty, not a piece that looks like one.
#[test]
fn a_report_without_room_is_empty() {
    if !live::have(&[Need::Root, Need::Program("mount")]) {
        return;
    }
    with_tiny_file_system(|dir| {
        let report = dir.join("report");
        // More destinations than a page of the report holds, and one page for it.
        let urls: Vec<_> = (0..16).map(|number| format!("unix:{}/none-{number}", dir.display())).collect();
        let options: Vec<_> = urls.iter().flat_map(|url| ["--to", url.as_str()]).collect();
        let (relay, auditd) = Relay::with(&options).report_to(&report).under(Auditd::FirstStart);
        fill(dir);
        let filler = fs::File::options().write(true).open(dir.join("filler")).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - 4096).unwrap();
        auditd.close();
        let said = relay.end();
        assert!(said.contains("report: cannot be written"), "{said}");
        assert_eq!(fs::read(&report).unwrap(), b"");
    });
}

// ---------------------------------------------------------------------------------------------------------
// Clocks that jump

/// The clock of the day, for the relay alone, jumps by a year to and fro with every look at it. Nothing is lost,
/// delayed beyond its time or ended too early, as everything that waits goes by the other clock; and the relay's start was
/// when it was.
#[test]
fn jumping_clock() {
    if !live::have(&[Need::Program("cc")]) {
        return;
    }
    let dir = temp_dir();
    let (source, library) = (dir.path().join("jump.c"), dir.path().join("jump.so"));
    fs::write(
        &source,
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
         int clock_gettime(clockid_t c, struct timespec *t) {\n\
           static int (*real)(clockid_t, struct timespec *);\n\
           static int n;\n\
           if (!real) real = dlsym(RTLD_NEXT, \"clock_gettime\");\n\
           int r = real(c, t);\n\
           if (c == CLOCK_REALTIME) t->tv_sec += 31536000L * (__atomic_fetch_add(&n, 1, __ATOMIC_RELAXED) % 3 - 1);\n\
           return r;\n\
         }\n",
    )
    .unwrap();
    let cc =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).args(["-ldl"]).status();
    assert!(cc.unwrap().success());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let preload = format!("LD_PRELOAD={}", library.display());
    let (relay, mut auditd) = Relay::to(&url)
        .options(&["--drain-timeout", "20s"])
        .through(&["env", &preload])
        .under(Auditd::FirstStart);
    let maps = fs::read_to_string(format!("/proc/{}/maps", relay.id())).unwrap();
    assert!(maps.contains("jump.so"), "the clock is ours");
    let mut seen = BTreeSet::new();
    let (mut starts, mut times, mut up) = (BTreeSet::new(), BTreeSet::new(), 0.0);
    let mut connection = accept(&listener);
    for round in 0..4 {
        for _ in 0..3 {
            let report = relay.report();
            starts.insert(report["start_time"].to_string());
            times.insert((report["time"].as_f64().unwrap() / 31_536_000.0).floor().to_string());
            let before = std::mem::replace(&mut up, report["uptime_seconds"].as_f64().unwrap());
            assert!((0.0..30.0).contains(&(up - before)), "{before} {up}");
        }
        let records = round * 50..round * 50 + 50;
        records.clone().for_each(|number| auditd.write(&line(number, 0)));
        let (mut bytes, mut space) = (Vec::new(), [0; 4096]);
        while !seen.is_superset(&records.clone().collect()) {
            let count = connection.read(&mut space).expect("the relay sends on");
            bytes.extend_from_slice(&space[..count]);
            seen.extend(Framing::Octet.cut(&bytes).0.iter().map(|message| serial(&message.text)));
        }
        // A new connection each round: a failure, and the pauses between attempts.
        support::sink::reset(connection);
        connection = accept(&listener);
    }
    auditd.close();
    let exit = relay.exit();
    read_to_end(&mut connection);
    assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 200), "{exit:?}");
    assert_eq!(exit.number("/destinations/0/reconnects"), 4);
    assert!(times.len() > 1, "the clock has jumped: {times:?}");
    starts.insert(exit.report["start_time"].to_string());
    assert_eq!(starts.len(), 1, "the start stands still: {starts:?}");
}
