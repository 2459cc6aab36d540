//! Starting, signals, reload, drain, end, and what the process may still do meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use support::fake_auditd::Auditd;
use support::relay::{self, Relay, Setup};
use support::sink::{ClosedPort, Framing, Place, Sink, accept_unix, bind_datagram, bind_stream, read_to_end};
use support::{is_root, line, root_or_skip, serial, strace_or_skip, temp_dir, wait_until};

const EVERY_AUDITD: [Auditd; 4] =
    [Auditd::FirstStart, Auditd::Restart, Auditd::Dispatcher2x, Auditd::WithoutOutputs];

/// So long that a relay which waits for it fails the test.
const LONG_DRAIN: [&str; 2] = ["--drain-timeout", "1min"];

fn serials(sink: &Sink) -> Vec<usize> {
    sink.messages_after_exit().iter().map(|message| serial(&message.text)).collect()
}

// ---------------------------------------------------------------------------------------------------------
// The end of the input

/// Also where the relay inherits a copy of auditd's end, which would keep its own input open for ever.
#[test]
fn the_end_of_the_input_ends_the_relay_at_once_when_all_is_delivered() {
    for auditd in EVERY_AUDITD {
        let sink = Sink::unix();
        let (relay, mut auditd) = Relay::to(&sink.url).options(&LONG_DRAIN).under(auditd);
        (0..10).for_each(|number| auditd.write(&line(number, 0)));
        auditd.close();
        assert_eq!(relay.exit().status, Some(0));
        assert_eq!(serials(&sink).len(), 10);
    }
}

/// auditd 4.2 lets every other plugin wait for us on a reload.
#[test]
fn an_idle_relay_ends_at_once() {
    let sink = Sink::unix();
    let (relay, mut auditd) = Relay::to(&sink.url).options(&LONG_DRAIN).under(Auditd::FirstStart);
    auditd.write(&line(0, 0));
    sink.wait_for(1);
    let end = Instant::now();
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
    assert!(end.elapsed() < Duration::from_secs(5), "{:?}", end.elapsed());
}

/// Nothing is left to deliver, so there is nobody to wait for.
#[test]
fn a_relay_without_records_ends_at_once_even_if_no_receiver_is_there() {
    let (place, port) = (Place::new(), ClosedPort::new());
    for url in [format!("unix:{}", place.path().display()), format!("tcp://{}", port.address())] {
        let (relay, auditd) = Relay::to(&url).options(&LONG_DRAIN).under(Auditd::FirstStart);
        auditd.close();
        assert_eq!(relay.exit().status, Some(0), "{url}");
    }
}

#[test]
fn a_dead_receiver_costs_the_drain_time_and_is_accounted_for() {
    let port = ClosedPort::new();
    let url = format!("tcp://{}", port.address());
    let (relay, mut auditd) =
        Relay::to(&url).options(&["--drain-timeout", "400ms"]).under(Auditd::FirstStart);
    (0..10).for_each(|number| auditd.write(&line(number, 0)));
    let end = Instant::now();
    auditd.close();
    let exit = relay.exit();
    assert!(
        end.elapsed() >= Duration::from_millis(400),
        "the receiver had no time to come back: {:?}",
        end.elapsed()
    );
    assert_eq!((exit.status, exit.number("/destinations/0/lost/drain_deadline")), (Some(75), 10), "{exit:?}");
    assert!(exit.said.contains("lost 10 (drain_deadline)"), "{}", exit.said);
}

#[test]
fn a_receiver_that_comes_back_during_the_drain_gets_everything() {
    let place = Place::new();
    let url = format!("unix-stream:{}", place.path().display());
    let (relay, mut auditd) = Relay::to(&url).options(&LONG_DRAIN).under(Auditd::FirstStart);
    (0..10).for_each(|number| auditd.write(&line(number, 0)));
    relay.wait_for("/read", 10);
    auditd.close();
    let mut connection = accept_unix(&bind_stream(&place.path()));
    assert_eq!(relay.exit().status, Some(0));
    assert_eq!(Framing::Lf.cut(&read_to_end(&mut connection)).0.len(), 10);
}

/// auditd 4.2 sends TERM 50 ms after the end of the input: that must not cut the drain short.
#[test]
fn sigterm_during_the_drain_does_not_cut_it_short() {
    let place = Place::new();
    let url = format!("unix-stream:{}", place.path().display());
    let (mut relay, mut auditd) = Relay::to(&url).options(&LONG_DRAIN).under(Auditd::FirstStart);
    (0..10).for_each(|number| auditd.write(&line(number, 0)));
    relay.wait_for("/read", 10);
    auditd.close();
    wait_until("the drain has begun", || relay.status_field("Threads") == "1");
    relay.signal(Signal::SIGTERM);
    relay.report();
    assert!(relay.is_running());
    let mut connection = accept_unix(&bind_stream(&place.path()));
    assert_eq!(relay.exit().status, Some(0));
    assert_eq!(Framing::Lf.cut(&read_to_end(&mut connection)).0.len(), 10);
}

// ---------------------------------------------------------------------------------------------------------
// Signals

#[test]
fn sigterm_and_sigint_from_a_stranger_do_not_stop_auditds_plugin() {
    for kind in EVERY_AUDITD {
        let sink = Sink::unix();
        let (mut relay, mut auditd) = Relay::to(&sink.url).under(kind);
        auditd.write(&line(0, 0));
        sink.wait_for(1);
        relay.signal_from_a_stranger("TERM");
        relay.signal_from_a_stranger("INT");
        // Signals of one process are taken in order of arrival or number; the report comes after both.
        relay.report();
        auditd.write(&line(1, 0));
        sink.wait_for(2);
        assert!(relay.is_running(), "{kind:?}");
        auditd.close();
        assert_eq!(relay.exit().status, Some(0));
    }
}

#[test]
fn sigterm_from_auditd_drains_and_stops_its_plugin() {
    for kind in EVERY_AUDITD {
        let sink = Sink::unix();
        let (relay, mut auditd) = Relay::to(&sink.url).options(&LONG_DRAIN).under(kind);
        (0..100).for_each(|number| auditd.write(&line(number, 0)));
        relay.wait_for("/read", 100);
        relay.signal(Signal::SIGTERM);
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 100), "{kind:?}");
        assert_eq!(serials(&sink).len(), 100);
    }
}

#[test]
fn by_hand_sigterm_and_sigint_drain_and_stop() {
    for signal in ["TERM", "INT"] {
        let sink = Sink::tcp(Framing::Octet);
        let (relay, mut feed) = Relay::to(&sink.url).options(&LONG_DRAIN).by_hand();
        (0..1000).for_each(|number| feed.write(&line(number, 100)));
        relay.wait_for("/read", 1000);
        relay.signal_from_a_stranger(signal);
        let exit = relay.exit();
        assert_eq!((exit.status, exit.number("/destinations/0/sent")), (Some(0), 1000), "{signal}");
        assert_eq!(serials(&sink), (0..1000).collect::<Vec<_>>());
    }
}

#[test]
fn by_hand_the_first_sigterm_after_the_end_goes_on_draining() {
    let port = ClosedPort::new();
    let (mut relay, mut feed) = Relay::to(&format!("tcp://{}", port.address()))
        .options(&LONG_DRAIN)
        .options(&["--threads", "2"])
        .by_hand();
    feed.write(&line(0, 0));
    relay.wait_for("/read", 1);
    feed.close();
    wait_until("the drain has begun", || relay.status_field("Threads") == "1");
    relay.signal(Signal::SIGTERM);
    relay.wait_for("/read", 1);
    assert!(relay.is_running());
    relay.signal(Signal::SIGTERM);
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/lost/drain_deadline")), (Some(75), 1), "{exit:?}");
}

#[test]
fn by_hand_a_second_sigterm_gives_up_at_once() {
    let port = ClosedPort::new();
    let (mut relay, mut feed) = Relay::to(&format!("tcp://{}", port.address()))
        .options(&LONG_DRAIN)
        .options(&["--threads", "2"])
        .by_hand();
    feed.write(&line(0, 0));
    relay.wait_for("/read", 1);
    relay.signal(Signal::SIGTERM);
    wait_until("the drain has begun", || relay.status_field("Threads") == "1");
    assert!(relay.is_running());
    relay.signal(Signal::SIGTERM);
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/lost/drain_deadline")), (Some(75), 1), "{exit:?}");
}

/// A read ends anywhere. What a stop leaves of a line looks like a record and is none; at the end of the input it is one.
#[test]
fn a_line_that_a_stop_has_cut_is_not_passed_off_as_a_record() {
    for stopped in [true, false] {
        let (relay, mut feed, mut stdout) = Relay::to("stdout:").by_hand_with_stdout();
        let whole = line(0, 40);
        let half = &line(1, 40)[..60];
        feed.write(&[&whole[..], half].concat());
        relay.wait_for("/read", 1);
        if stopped {
            relay.signal(Signal::SIGTERM);
        } else {
            feed.close();
        }
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        let exit = relay.exit();
        let cut = std::str::from_utf8(half).unwrap();
        assert_eq!(text.contains(cut), !stopped, "{text}");
        assert_eq!(text.contains(" SKIPPED "), stopped, "{text}");
        assert_eq!(exit.number("/read"), if stopped { 1 } else { 2 });
        assert_eq!(exit.number("/skipped_bytes"), if stopped { half.len() as u64 } else { 0 });
    }
}

/// A relay whose queue is full, because nobody listens and the policy is to wait.
fn blocked(setup: Setup) -> (Relay, std::thread::JoinHandle<relay::Feed>) {
    let (relay, feed) = setup
        .options(&["--queue-size", "256KiB", "--on-full", "block", "--drain-timeout", "200ms"])
        .by_hand();
    let writing = feed.write_on_a_thread((0..4000).flat_map(|number| line(number, 900)).collect());
    wait_until_held_up(&relay);
    assert!(!writing.is_finished());
    (relay, writing)
}

/// Waits until it reads no more, and returns what it has read.
#[track_caller]
fn wait_until_held_up(relay: &Relay) -> u64 {
    let mut before = None;
    wait_until("the queue is full", || {
        std::thread::sleep(Duration::from_millis(50));
        let read = relay.report()["read"].as_u64();
        read > Some(200) && std::mem::replace(&mut before, read) == read
    });
    before.unwrap()
}

#[test]
fn sigterm_stops_a_relay_that_waits_for_room() {
    let port = ClosedPort::new();
    let (relay, writing) = blocked(Relay::to(&format!("tcp://{}", port.address())));
    relay.signal(Signal::SIGTERM);
    let exit = relay.exit();
    writing.join().unwrap().close();
    assert_eq!(exit.status, Some(75), "{exit:?}");
}

#[test]
fn sigterm_from_auditd_stops_a_plugin_that_waits_for_room() {
    let port = ClosedPort::new();
    let options = ["--queue-size", "256KiB", "--on-full", "block", "--drain-timeout", "200ms"];
    let (relay, auditd) =
        Relay::to(&format!("tcp://{}", port.address())).options(&options).under(Auditd::FirstStart);
    let writing = auditd.write_on_a_thread((0..4000).flat_map(|number| line(number, 900)).collect());
    relay.wait_for("/read", 200);
    assert!(!writing.is_finished());
    relay.signal(Signal::SIGTERM);
    let exit = relay.exit();
    writing.join().unwrap();
    assert_eq!(exit.status, Some(75), "{exit:?}");
}

/// However often somebody reloads meanwhile, the relay goes on once the receiver is there.
#[test]
fn many_reloads_while_the_relay_waits_for_room_do_not_wedge_it() {
    let place = Place::new();
    let (relay, writing) = blocked(Relay::to(&format!("unix-stream:{}", place.path().display())));
    for _ in 0..20 {
        relay.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut connection = accept_unix(&bind_stream(&place.path()));
    let reading = std::thread::spawn(move || read_to_end(&mut connection));
    wait_until("the writer is let go on", || writing.is_finished());
    writing.join().unwrap().close();
    assert_eq!(relay.exit().status, Some(0));
    assert_eq!(Framing::Lf.cut(&reading.join().unwrap()).0.len(), 4000);
}

/// What a dead receiver holds up under `block`, a reload sets free: with another policy, or without the receiver. The
/// record that waits is given to each destination once, wherever the dead one stands.
#[test]
fn a_reload_ends_the_wait_for_room() {
    const DONE: &str = "the configuration was read again";
    for (policy, dead_is_first, threads) in [
        (Some("drop-newest"), true, "1"),
        (Some("drop-oldest"), false, "2"),
        (None, true, "2"),
        (None, false, "1"),
    ] {
        let what = format!("{policy:?}, first: {dead_is_first}, {threads} threads");
        let (alive, port) = (Sink::tcp(Framing::Octet), ClosedPort::new());
        // Of a kind that is there already, or the confined relay could not have it.
        let (spare, added) = (Sink::unix(), Sink::unix());
        let dir = temp_dir();
        let file = dir.path().join("relay.toml");
        let one = |url: &str, policy: &str, size: &str| {
            format!("[[destination]]\nurl = \"{url}\"\non-full = \"{policy}\"\nqueue-size = \"{size}\"\n")
        };
        let config = |policy: Option<&str>, more: &str| {
            let dead = policy.map(|policy| one(&format!("tcp://{}", port.address()), policy, "256KiB"));
            let (dead, alive) = (dead.unwrap_or_default(), one(&alive.url, "block", "8MiB"));
            let both = if dead_is_first { [dead, alive] } else { [alive, dead] };
            format!("threads = \"{threads}\"\ndrain-timeout = \"2s\"\n{}{more}", both.concat())
        };
        let with_spare = config(Some("block"), &one(&spare.url, "block", "8MiB"));
        write_config(&file, &with_spare);
        let (relay, feed) = Relay::with(&["--config", file.to_str().unwrap()]).by_hand();
        let writing = feed.write_on_a_thread((0..4000).flat_map(|number| line(number, 900)).collect());
        let before = wait_until_held_up(&relay);
        // A reload that changes nothing lets nothing in.
        for _ in 0..3 {
            reload(&relay, &file, &with_spare, DONE);
        }
        assert_eq!(wait_until_held_up(&relay), before, "{what}");
        alive.wait_for(usize::try_from(before).unwrap());
        reload(&relay, &file, &config(policy, &one(&added.url, "block", "8MiB")), DONE);
        wait_until("the writer is let go on", || writing.is_finished());
        writing.join().unwrap().close();
        let exit = relay.exit_after_reload();
        assert_eq!(exit.number("/read"), 4000, "{what}: {exit:?}");
        assert_eq!(serials(&alive), (0..4000).collect::<Vec<_>>(), "{what}");
        let border = usize::try_from(before).unwrap();
        assert_eq!(serials(&spare), (0..border).collect::<Vec<_>>(), "{what}");
        assert_eq!(serials(&added), (border..4000).collect::<Vec<_>>(), "{what}");
        for destination in exit.report["destinations"].as_array().unwrap() {
            let lost: u64 =
                destination["lost"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            let due = match destination["url"].as_str().unwrap() {
                url if url == alive.url => 4000,
                url if url == spare.url => before,
                url if url == added.url => 4000 - before,
                // It was not given the record that waited.
                _ if policy.is_none() => before - 1,
                _ => 4000,
            };
            let settled = destination["sent"].as_u64().unwrap() + lost;
            assert_eq!((&destination["due"], settled), (&due.into(), due), "{what}: {destination}");
        }
    }
}

/// auditd may reload while a plugin that it has just restarted, with signals blocked, is still being loaded.
#[test]
fn signals_that_came_before_the_relay_was_up_do_not_kill_it() {
    let (place, dir) = (Place::new(), temp_dir());
    let receiver = bind_datagram(&place.path());
    let (mut end, theirs) = UnixStream::pair().unwrap();
    let report = dir.path().join("report.json");
    let mut relay = Command::new("env")
        .args(["--default-signal=HUP,USR1", "--block-signal=HUP,USR1"])
        .args(["sh", "-c", "kill -HUP $$; kill -USR1 $$; exec \"$@\"", "sh"])
        .arg(relay::binary())
        .args(["--config", "none", "--log", "none", "--report", report.to_str().unwrap()])
        .args(["--to", &format!("unix:{}", place.path().display())])
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    // Fails with EPIPE where the relay is dead already.
    let _ = std::io::Write::write_all(&mut end, &line(0, 0));
    drop(end);
    assert_eq!(relay.wait().unwrap().code(), Some(0));
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv(&mut [0; 1000]).is_ok());
}

/// The program under strace, to which `signal` comes at the end of the system call `when`, such as `openat:when=7`.
fn signalled(signal: &str, when: &str, arguments: &[&str]) -> Command {
    let (call, number) = when.split_once(':').unwrap();
    let mut command = Command::new("strace");
    command
        .args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal={signal}:{number}")])
        .arg(relay::binary())
        .args(arguments);
    command
}

/// The first thing that the program does after it has its signals held: it closes what it has inherited.
const FIRST: &str = "close_range:when=1";

/// From the first moment on, and while the relay gives each signal its meaning, one after the other, none may have its old
/// one.
#[test]
fn a_signal_while_the_relay_takes_its_signals_does_not_kill_it() {
    if !strace_or_skip() {
        return;
    }
    for signal in ["SIGHUP", "SIGUSR1", "SIGTERM", "SIGINT"] {
        // All of these have their meaning by the 40th; some 60 calls are made.
        for when in [FIRST, "rt_sigaction:when=40"] {
            let status = signalled(signal, when, &["--config", "none", "--log", "none", "--to", "stdout:"])
                .stdin(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(0), "{signal}, {when}: {status}");
        }
    }
}

/// A stop that comes that early is one: it waits until the relay can obey it.
#[test]
fn a_sigterm_of_the_first_moment_stops_the_relay_in_order() {
    if !strace_or_skip() {
        return;
    }
    // auditd has it ignored.
    for inherited in ["--default-signal=TERM", "--ignore-signal=TERM", "--block-signal=TERM"] {
        let relay = signalled("SIGTERM", FIRST, &["--config", "none", "--log", "none", "--to", "stdout:"]);
        let mut relay = Command::new("env")
            .arg(inherited)
            .arg(relay.get_program())
            .args(relay.get_args())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let input = relay.stdin.take();
        let mut status = None;
        wait_until("it has stopped, although its input goes on", || {
            status = relay.try_wait().unwrap();
            status.is_some()
        });
        drop(input);
        assert_eq!(status.unwrap().code(), Some(0), "{inherited}: {status:?}");
    }
}

/// What is no relay is stopped by them as any program is.
#[test]
fn other_commands_are_stopped_by_a_signal_of_the_first_moment() {
    use std::os::unix::process::ExitStatusExt as _;
    if !strace_or_skip() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let status = signalled(signal.as_str(), FIRST, &["check", "--config", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(signal as i32), "{signal}: {status}");
    }
}

/// PR_SET_PDEATHSIG is the second line where somebody else holds a copy of auditd's end. This test starts itself
/// again as an auditd that can be killed.
#[test]
fn the_death_of_auditd_ends_the_relay_even_if_its_input_stays_open() {
    const ROLE: &str = "AUDIT_RELAY_TEST_PLAYS_AUDITD_IN";
    if let Some(dir) = std::env::var_os(ROLE) {
        return play_auditd(Path::new(&dir));
    }
    let dir = temp_dir();
    // The relay, once orphaned, becomes a child of this process, which can then wait for it.
    prctl::set_child_subreaper(true).unwrap();
    let mut auditd = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_death_of_auditd_ends_the_relay_even_if_its_input_stays_open", "--nocapture"])
        .env(ROLE, dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let pid_file = dir.path().join("pid");
    let mut pid = None;
    wait_until("auditd has started the relay", || {
        pid = fs::read_to_string(&pid_file)
            .ok()
            .and_then(|text| text.trim_end_matches('.').parse().ok().filter(|_| text.ends_with('.')));
        pid.is_some()
    });
    let pid = Pid::from_raw(pid.unwrap());
    auditd.kill().unwrap();
    auditd.wait().unwrap();
    let mut status = WaitStatus::StillAlive;
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the relay has ended", || {
            status = waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap_or(WaitStatus::StillAlive);
            status != WaitStatus::StillAlive
        });
    }));
    if ended.is_err() {
        let _ = kill(pid, Signal::SIGKILL);
    }
    assert_eq!(status, WaitStatus::Exited(pid, 0));
}

/// Starts a relay, sees it relay one record, leaves its process id in a file, and waits to be killed. A second
/// child holds a copy of auditd's end, and ends when the relay has closed the other one.
#[expect(clippy::zombie_processes, reason = "the parent dies first, which is what is tested")]
fn play_auditd(dir: &Path) {
    let (end, theirs) = UnixStream::pair().unwrap();
    let receiver = bind_datagram(&dir.join("log"));
    let relay = Command::new(relay::binary())
        .args(["--config", "none", "--log", "none", "--to"])
        .arg(format!("unix:{}", dir.join("log").display()))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let holder = end.try_clone().unwrap();
    Command::new("cat")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(holder)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut &end, &line(0, 0)).unwrap();
    receiver.recv(&mut [0; 1000]).unwrap();
    fs::write(dir.join("pid"), format!("{}.", relay.id())).unwrap();
    std::thread::sleep(support::PATIENCE);
}

// ---------------------------------------------------------------------------------------------------------
// Reload and report

/// Writes a configuration that the relay can read again after it has given up root.
fn write_config(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

#[track_caller]
fn reload(relay: &Relay, file: &Path, text: &str, answer: &str) {
    let before = relay.said().matches(answer).count();
    write_config(file, text);
    relay.signal(Signal::SIGHUP);
    wait_until("the relay has answered the reload", || relay.said().matches(answer).count() > before);
}

#[test]
fn sighup_reads_the_configuration_again() {
    const DONE: &str = "the configuration was read again";
    for kind in EVERY_AUDITD.into_iter().filter(|kind| !matches!(kind, Auditd::WithoutOutputs)) {
        let (kept, spare, added) = (Sink::tcp(Framing::Octet), Sink::unix(), Sink::unix());
        let dir = temp_dir();
        let file = dir.path().join("relay.toml");
        // A kind of socket that nothing was sent over before could not be had (tests/confinement.rs).
        write_config(&file, &format!("to = [\"{}\", \"{}\"]\n", kept.url, spare.url));
        let (relay, mut auditd) = Relay::with(&["--config", file.to_str().unwrap()]).under(kind);
        auditd.write(&line(0, 0));
        kept.wait_for(1);
        spare.wait_for(1);

        // Another second destination, and another facility for both.
        let both = format!("facility = \"auth\"\nto = [\"{}\", \"{}\"]\n", kept.url, added.url);
        reload(&relay, &file, &both, DONE);
        auditd.write(&line(1, 0));
        assert_eq!(kept.wait_for(2)[1].pri, 4 * 8 + 6, "{kind:?}");
        assert_eq!(added.wait_for(1)[0].pri, 4 * 8 + 6, "{kind:?}");

        // A mistake changes nothing.
        reload(&relay, &file, "facilty = \"user\"\n", "going on with the configuration that is in effect");
        assert!(relay.said().contains("facilty"), "{}", relay.said());
        auditd.write(&line(2, 0));
        assert_eq!(kept.wait_for(3)[2].pri, 4 * 8 + 6, "{kind:?}");
        added.wait_for(2);

        // The first destination leaves. Nothing so far had to wait for a new start; another queue-size has to.
        reload(&relay, &file, &format!("to = [\"{}\"]\n", added.url), DONE);
        let later = "a change of `queue-size` takes effect when the relay is started again";
        assert!(!relay.said().contains(later), "{}", relay.said());
        let waiting = "queue-size = \"3MiB\"\ngather = \"1ms\"\nthreads = \"2\"\n";
        reload(&relay, &file, &format!("{waiting}to = [\"{}\"]\n", added.url), DONE);
        for later in [later, &later.replace("queue-size", "gather"), &later.replace("queue-size", "threads")]
        {
            assert!(relay.said().contains(later), "{later}: {}", relay.said());
        }
        auditd.write(&line(3, 0));
        assert_eq!(added.wait_for(3)[2].pri, 182);
        auditd.close();
        let exit = relay.exit_after_reload();
        assert_eq!(exit.status, Some(0), "{exit:?}");
        assert_eq!((serials(&kept), serials(&added)), (vec![0, 1, 2], vec![1, 2, 3]), "{kind:?}");
        let messages = kept.so_far();
        assert_eq!(
            messages.iter().map(|m| m.sequence()).collect::<Vec<_>>(),
            [1, 2, 3],
            "a kept one goes on counting"
        );
        assert_eq!((exit.number("/destinations/0/sent"), exit.number("/destinations/2/sent")), (3, 3));
    }
}

/// A file that is away, be it for a moment, asks for no defaults: also where nobody has named it, and a start would do
/// without.
#[test]
fn a_configuration_that_is_away_at_a_reload_changes_nothing() {
    const KEPT: &str = "going on with the configuration that is in effect";
    for is_usual in [false, true] {
        if is_usual && !root_or_skip() {
            continue;
        }
        let (sink, dir) = (Sink::tcp(Framing::Octet), temp_dir());
        let file = dir.path().join("audit-relay.toml");
        let config = |facility: &str| format!("facility = \"{facility}\"\nto = \"{}\"\n", sink.url);
        write_config(&file, &config("auth"));
        let setup = if is_usual {
            for name in ["passwd", "group", "nsswitch.conf", "hosts"] {
                let _ = fs::copy(Path::new("/etc").join(name), dir.path().join(name));
            }
            // For this relay alone the folder is /etc; the option that names a file is taken out.
            let script = format!(
                "mount --bind {} /etc && program=$1 && [ \"$2\" = --config ] && shift 3 && exec \"$program\" \"$@\"",
                dir.path().display()
            );
            Relay::with(&[]).through(&["unshare", "-m", "sh", "-c", &script, "sh"])
        } else {
            Relay::with(&["--config", file.to_str().unwrap()])
        };
        let (relay, mut auditd) = setup.under(Auditd::FirstStart);
        auditd.write(&line(0, 0));
        assert_eq!(sink.wait_for(1)[0].pri, 4 * 8 + 6);
        fs::remove_file(&file).unwrap();
        relay.signal(Signal::SIGHUP);
        wait_until("it says so", || relay.said().contains(KEPT));
        assert!(relay.said().contains("reload: cannot read configuration "), "{}", relay.said());
        auditd.write(&line(1, 0));
        assert_eq!(sink.wait_for(2)[1].pri, 4 * 8 + 6, "{is_usual}");
        // It is back, and holds.
        reload(&relay, &file, &config("user"), "the configuration was read again");
        auditd.write(&line(2, 0));
        assert_eq!(sink.wait_for(3)[2].pri, 8 + 6);
        auditd.close();
        assert_eq!(relay.exit().status, Some(0));
    }
}

/// RFC 6587 knows one framing a connection; a receiver that has settled on one cannot follow a change.
#[test]
fn a_reload_never_mixes_two_framings_in_one_connection() {
    let place = Place::new();
    let listener = bind_stream(&place.path());
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    let config = |framing: &str| {
        format!("framing = \"{framing}\"\nto = [\"unix-stream:{}\"]\n", place.path().display())
    };
    write_config(&file, &config("octet"));
    let (relay, mut auditd) = Relay::with(&["--config", file.to_str().unwrap()]).under(Auditd::FirstStart);
    auditd.write(&line(0, 0));
    let mut first = accept_unix(&listener);
    relay.wait_for("/destinations/0/sent", 1);
    reload(&relay, &file, &config("lf"), "the configuration was read again");
    auditd.write(&line(1, 0));
    auditd.close();
    relay.exit_after_reload();
    let bytes = read_to_end(&mut first);
    let octets = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length: usize = std::str::from_utf8(&bytes[..octets]).unwrap().parse().unwrap();
    assert_eq!(
        bytes.len(),
        octets + 1 + length,
        "what follows the first message: {}",
        bytes[octets + 1 + length..].escape_ascii()
    );
    assert_eq!(Framing::Lf.cut(&read_to_end(&mut accept_unix(&listener))).0.len(), 1);
}

#[test]
fn a_removed_destination_that_is_dead_is_given_up_and_accounted_for() {
    let (alive, port) = (Sink::unix(), ClosedPort::new());
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    let drain = "drain-timeout = \"200ms\"\n";
    write_config(&file, &format!("{drain}to = [\"tcp://{}\", \"{}\"]\n", port.address(), alive.url));
    let (relay, mut auditd) = Relay::with(&["--config", file.to_str().unwrap()]).under(Auditd::FirstStart);
    (0..5).for_each(|number| auditd.write(&line(number, 0)));
    alive.wait_for(5);
    reload(&relay, &file, &format!("{drain}to = [\"{}\"]\n", alive.url), "the configuration was read again");
    wait_until("the dead one is given up", || relay.report()["destinations"][0]["lost"]["removed"] == 5);
    auditd.write(&line(5, 0));
    alive.wait_for(6);
    auditd.close();
    assert_eq!(relay.exit_after_reload().status, Some(0));
}

/// What a removed destination still has to deliver holds up no end: not the one that a second signal asks for, and not
/// the `drain-timeout` that holds by then.
#[test]
fn a_removed_destination_holds_up_no_end() {
    const DONE: &str = "the configuration was read again";
    for (drain, signals) in [("1min", 2), ("300ms", 1)] {
        let (alive, port) = (Sink::unix(), ClosedPort::new());
        let dir = temp_dir();
        let file = dir.path().join("relay.toml");
        let with = |drain: &str, urls: &[&str]| format!("drain-timeout = \"{drain}\"\nto = {urls:?}\n");
        write_config(&file, &with("1min", &[&format!("tcp://{}", port.address()), &alive.url]));
        let (relay, mut feed) = Relay::with(&["--config", file.to_str().unwrap()]).by_hand();
        (0..5).for_each(|number| feed.write(&line(number, 0)));
        alive.wait_for(5);
        reload(&relay, &file, &with("1min", &[&alive.url]), DONE);
        relay.wait_for("/destinations/0/in_flight", 5);
        if signals == 1 {
            reload(&relay, &file, &with(drain, &[&alive.url]), DONE);
        }
        let begun = Instant::now();
        relay.signal(Signal::SIGTERM);
        if signals == 2 {
            wait_until("the drain has begun", || relay.report()["input_state"] == "draining");
            assert_eq!(relay.report()["destinations"][0]["in_flight"], 5);
            relay.signal(Signal::SIGTERM);
        }
        // Has a deadline, which is shorter than a minute.
        let exit = relay.exit_after_reload();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!((exit.status, exit.number("/destinations/0/lost/removed")), (Some(0), 5), "{exit:?}");
    }
}

#[test]
fn sigusr1_writes_the_accounting_and_changes_nothing() {
    for kind in EVERY_AUDITD {
        let sink = Sink::unix();
        let (relay, mut auditd) = Relay::to(&sink.url).under(kind);
        for number in 0..3 {
            auditd.write(&line(number, 0));
            sink.wait_for(number + 1);
            relay.wait_for("/destinations/0/sent", number as u64 + 1);
            assert_eq!(
                (relay.report()["read"].as_u64(), relay.report()["input"].as_str()),
                (Some(number as u64 + 1), Some("text"))
            );
        }
        auditd.close();
        assert_eq!(relay.exit().status, Some(0), "{kind:?}");
    }
}

#[test]
fn the_accounting_is_the_last_line_that_people_read() {
    let sink = Sink::unix();
    let (relay, mut feed) = Relay::to(&sink.url).by_hand();
    feed.write(&[line(0, 0), b"\n".to_vec()].concat());
    feed.close();
    let last = relay.exit().said.lines().last().unwrap_or_default().to_owned();
    assert_eq!(last, format!("audit-relay: read 2, filtered 1; {}: sent 1, in flight 0", sink.url));
}

// ---------------------------------------------------------------------------------------------------------
// Privileges

/// The ids that /etc/passwd has for the account that the relay chooses.
fn account() -> (String, String) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let find =
        |name: &str| passwd.lines().find(|line| line.split(':').next() == Some(name)).map(str::to_owned);
    let entry = find("audit-relay").or_else(|| find("nobody")).unwrap();
    let mut fields = entry.split(':').skip(2).map(str::to_owned);
    (fields.next().unwrap(), fields.next().unwrap())
}

/// A relay that is up and has relayed a record.
fn at_work(kind: Auditd, options: &[&str], test: impl FnOnce(&Relay)) {
    let sink = Sink::unix();
    let (relay, mut auditd) = Relay::to(&sink.url).options(options).under(kind);
    auditd.write(&line(0, 0));
    sink.wait_for(1);
    test(&relay);
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
}

#[test]
fn root_is_given_up_for_good() {
    at_work(Auditd::FirstStart, &[], |relay| {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(relay.status_field(set), "0000000000000000", "{set}");
        }
        assert_eq!(relay.status_field("NoNewPrivs"), "1");
        if is_root() {
            let (uid, gid) = account();
            assert_eq!(relay.status_field("Uid"), [uid.as_str(); 4].join(" "));
            assert_eq!(relay.status_field("Gid"), [gid.as_str(); 4].join(" "));
            assert_eq!(
                (relay.status_field("Groups"), relay.status_field("CapBnd")),
                (String::new(), "0000000000000000".to_owned())
            );
        }
    });
}

#[test]
fn every_thread_has_given_up_root() {
    // Two threads, since one of its own that reads is the other one that must not have kept anything.
    at_work(Auditd::FirstStart, &["--threads", "2"], |relay| {
        let tasks: Vec<_> = fs::read_dir(format!("/proc/{}/task", relay.id())).unwrap().collect();
        assert_eq!(tasks.len(), 2);
        for task in tasks {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            assert!(
                status.contains("CapEff:\t0000000000000000\n") && status.contains("NoNewPrivs:\t1\n"),
                "{status}"
            );
            let uid = if is_root() { account().0 } else { nix::unistd::geteuid().to_string() };
            assert!(status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{status}");
        }
    });
}

#[test]
fn user_root_keeps_the_uid_and_nothing_else_and_says_so() {
    at_work(Auditd::FirstStart, &["--user", "root"], |relay| {
        assert_eq!(
            (relay.status_field("CapEff"), relay.status_field("CapPrm")),
            ("0000000000000000".to_owned(), "0000000000000000".to_owned())
        );
        assert_eq!(relay.status_field("NoNewPrivs"), "1");
        if is_root() {
            assert_eq!(
                (relay.status_field("Uid"), relay.status_field("Groups")),
                ("0 0 0 0".to_owned(), String::new())
            );
            assert_eq!(relay.report()["user"], "root");
            assert!(relay.said().contains("running as root"), "{}", relay.said());
        }
    });
}

#[test]
fn no_inherited_descriptor_stays_open() {
    at_work(Auditd::Dispatcher2x, &[], |relay| {
        let fds = fs::read_dir(format!("/proc/{}/fd", relay.id())).unwrap();
        let links: Vec<_> =
            fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap().display().to_string()).collect();
        let count = |start: &str| links.iter().filter(|link| link.starts_with(start)).count();
        // Standard input, as number 0 and as what is watched, and the destination; tokio keeps a pair of its own only
        // where it handles signals.
        assert_eq!(count("socket:"), 3, "{links:?}");
        let input = links.iter().filter(|link| **link == links[0]).count();
        assert_eq!(input, 2, "{links:?}");
        let files: Vec<_> = links.iter().filter(|link| link.starts_with('/')).collect();
        assert!(
            files
                .iter()
                .all(|file| ["/dev/null", "/stderr", "/report.json"].iter().any(|end| file.ends_with(end))),
            "{links:?}"
        );
        assert_eq!(links.len(), 3 + files.len() + count("anon_inode:"), "{links:?}");
        assert!(links.len() <= 12, "{links:?}");
    });
}

#[test]
fn an_account_that_does_not_exist_is_an_error_and_not_root() {
    let output = relay::run(&["--config", "none", "--log", "stderr", "--user", "no such account"]);
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no account `no such account`"), "{output:?}");
}
