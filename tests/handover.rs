//! What one instance cannot deliver, the next one sends first.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use support::fake_auditd::Auditd;
use support::relay::{Relay, Setup};
use support::sink::{ClosedPort, Framing, accept, read_to_end};
use support::{line, root_or_skip, serial, temp_dir, wait_until};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: temp_dir() }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("handover")
    }

    fn relay(&self, url: &str) -> Setup {
        Relay::with(&["--to", url, "--handover", self.folder().to_str().unwrap()])
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn serials(bytes: &[u8]) -> Vec<usize> {
    Framing::Octet.cut(bytes).0.iter().map(|message| serial(&message.text)).collect()
}

const SHORT: [&str; 2] = ["--drain-timeout", "100ms"];

/// auditd 4.2 reloads: the input ends while the receiver is away, and a new instance starts.
#[test]
fn the_next_instance_sends_what_the_last_one_could_not() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let (relay, mut auditd) = place.relay(&url).options(&SHORT).under(Auditd::FirstStart);
    (0..1000).for_each(|number| auditd.write(&line(number, 50)));
    let first = relay.id();
    auditd.close();
    let exit = relay.exit();
    assert_eq!((exit.status, exit.number("/destinations/0/handed_over")), (Some(75), 1000), "{exit:?}");
    assert!(exit.said.contains("handed over 1000"), "{}", exit.said);
    let file = place.folder().join("records");
    assert_eq!((mode(&place.folder()), mode(&file)), (0o700, 0o600));

    let (relay, mut auditd) = place.relay(&url).under(Auditd::FirstStart);
    let mut connection = accept(&port.listen());
    let reading = std::thread::spawn(move || read_to_end(&mut connection));
    wait_until("the file is taken", || !file.exists());
    (1000..1100).for_each(|number| auditd.write(&line(number, 0)));
    auditd.close();
    let exit = relay.exit();
    let received = reading.join().unwrap();
    assert_eq!(serials(&received), (0..1100).collect::<Vec<_>>());
    let messages = Framing::Octet.cut(&received).0;
    assert_eq!((messages[0].pid, messages[0].sequence()), (first, 1), "as it was written by the first");
    assert_eq!((messages[1000].sequence(), exit.status), (1, Some(0)));
    assert_eq!((exit.number("/destinations/0/inherited"), exit.number("/destinations/0/sent")), (1000, 1100));
    assert!(!file.exists());
}

/// Three in a row without a receiver: everything gathers, in order.
#[test]
fn what_is_inherited_and_not_delivered_is_handed_on() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    for round in 0..3 {
        let (relay, mut auditd) = place.relay(&url).options(&SHORT).under(Auditd::Restart);
        (0..10).for_each(|number| auditd.write(&line(round * 10 + number, 0)));
        auditd.close();
        let exit = relay.exit();
        assert_eq!(exit.number("/destinations/0/inherited"), round as u64 * 10);
        assert_eq!(exit.number("/destinations/0/handed_over"), round as u64 * 10 + 10);
    }
    let (relay, auditd) = place.relay(&url).under(Auditd::FirstStart);
    let mut connection = accept(&port.listen());
    auditd.close();
    assert_eq!(relay.exit().status, Some(0));
    assert_eq!(serials(&read_to_end(&mut connection)), (0..30).collect::<Vec<_>>());
}

/// auditd up to 4.1 starts the new instance while the old one still drains.
#[test]
fn a_new_instance_waits_for_the_old_one_and_sends_its_records_first() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let (old, mut feed) = place.relay(&url).options(&["--drain-timeout", "1s"]).under(Auditd::FirstStart);
    (0..50).for_each(|number| feed.write(&line(number, 0)));
    old.wait_for("/read", 50);
    feed.close();
    let (new, mut feed) = place.relay(&url).under(Auditd::FirstStart);
    (50..100).for_each(|number| feed.write(&line(number, 0)));
    new.wait_for("/read", 50);
    assert_eq!(old.exit().number("/destinations/0/handed_over"), 50);
    let mut connection = accept(&port.listen());
    new.wait_for("/destinations/0/sent", 100);
    feed.close();
    assert_eq!(new.exit().number("/destinations/0/inherited"), 50);
    assert_eq!(serials(&read_to_end(&mut connection)), (0..100).collect::<Vec<_>>());
}

/// The new instance ends while the old one still drains: the old one's records outlast it, and come first.
#[test]
fn an_instance_that_ends_before_it_has_inherited_hands_on_both() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let (old, mut feed) = place.relay(&url).options(&["--drain-timeout", "500ms"]).under(Auditd::FirstStart);
    (0..50).for_each(|number| feed.write(&line(number, 0)));
    old.wait_for("/read", 50);
    feed.close();
    let (new, mut feed) = place.relay(&url).options(&["--drain-timeout", "1500ms"]).under(Auditd::FirstStart);
    (50..100).for_each(|number| feed.write(&line(number, 0)));
    new.wait_for("/read", 50);
    feed.close();
    assert_eq!(old.exit().number("/destinations/0/handed_over"), 50);
    let exit = new.exit();
    assert_eq!(
        (exit.number("/destinations/0/inherited"), exit.number("/destinations/0/handed_over")),
        (50, 100),
        "{exit:?}"
    );
    let (last, feed) = place.relay(&url).under(Auditd::FirstStart);
    let mut connection = accept(&port.listen());
    feed.close();
    assert_eq!(last.exit().status, Some(0));
    assert_eq!(serials(&read_to_end(&mut connection)), (0..100).collect::<Vec<_>>());
}

/// As another instance does that has just started: it asks whether the lock is held by holding it for a moment (`Folder::is_held`).
#[test]
fn a_lock_that_somebody_looks_at_for_a_moment_costs_nothing_at_the_end() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    fs::create_dir(place.folder()).unwrap();
    fs::set_permissions(place.folder(), fs::Permissions::from_mode(0o700)).unwrap();
    let lock = fs::File::create(place.folder().join("lock")).unwrap();
    let look = Flock::lock(lock, FlockArg::LockShared).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let (relay, mut auditd) =
        place.relay(&url).options(&SHORT).options(&["--user", &user]).under(Auditd::FirstStart);
    (0..10).for_each(|number| auditd.write(&line(number, 0)));
    relay.wait_for("/read", 10);
    auditd.close();
    // Well after the drain, and well before the relay gives up.
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(look);
    let exit = relay.exit();
    assert_eq!(exit.number("/destinations/0/handed_over"), 10, "{exit:?}");
}

/// Two that are both meant to run: the second does not wait for ever, and says what to do.
#[test]
fn a_second_relay_goes_on_without_the_lock() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let (first, first_feed) = place.relay(&url).options(&SHORT).under(Auditd::FirstStart);
    let other = ClosedPort::new();
    let to_other = format!("tcp://{}", other.address());
    let (second, mut feed) = place.relay(&to_other).options(&SHORT).under(Auditd::FirstStart);
    feed.write(&line(0, 0));
    let mut connection = accept(&other.listen());
    second.wait_for("/destinations/0/sent", 1);
    assert!(second.said().contains("give each a folder of its own"), "{}", second.said());
    feed.close();
    assert_eq!(second.exit().status, Some(0));
    assert_eq!(serials(&read_to_end(&mut connection)), [0]);
    first_feed.close();
    assert_eq!(first.exit().status, Some(0));
}

/// What a reload or a change of the configuration has orphaned is lost, and counted as that.
#[test]
fn records_for_a_destination_that_is_gone_are_counted_as_lost() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let (relay, mut auditd) = place.relay(&url).options(&SHORT).under(Auditd::FirstStart);
    (0..10).for_each(|number| auditd.write(&line(number, 0)));
    auditd.close();
    relay.exit();
    let (relay, auditd) = place.relay("udp://127.0.0.1:9").under(Auditd::FirstStart);
    auditd.close();
    let exit = relay.exit_after_reload();
    assert_eq!(
        (exit.number("/destinations/1/inherited"), exit.number("/destinations/1/lost/removed")),
        (10, 10)
    );
    assert!(exit.said.contains("not in the configuration any more"), "{}", exit.said);
}

/// TCP: what the dead connection's peer had acknowledged stays sent, the rest is handed over.
#[test]
fn a_living_connection_that_takes_nothing_hands_over_what_is_not_acknowledged() {
    let place = Place::new();
    let listener = support::sink::narrow_listener();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let total = 20_000;
    let (relay, mut auditd) = place.relay(&url).options(&SHORT).under(Auditd::FirstStart);
    let mut stalled = accept(&listener);
    (0..total).for_each(|number| auditd.write(&line(number, 100)));
    relay.wait_for("/read", total as u64);
    auditd.close();
    let exit = relay.exit();
    let handed = exit.number("/destinations/0/handed_over");
    assert!(handed > 0, "{exit:?}");
    // Some of it is on its way already, and goes out again.
    assert!(exit.number("/destinations/0/replayed") > 0, "{exit:?}");
    let (relay, auditd) = place.relay(&url).options(&["--drain-timeout", "20s"]).under(Auditd::FirstStart);
    let mut connection = accept(&listener);
    auditd.close();
    let reading = std::thread::spawn(move || read_to_end(&mut connection));
    assert_eq!(relay.exit().number("/destinations/0/sent"), handed);
    let late = {
        use std::io::Read as _;
        let (mut bytes, mut space) = (Vec::new(), [0; 65_536]);
        while let Ok(count @ 1..) = stalled.read(&mut space) {
            bytes.extend_from_slice(&space[..count]);
        }
        bytes
    };
    let mut seen: Vec<_> = [serials(&late), serials(&reading.join().unwrap())].concat();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), total);
}

/// The receiver comes when there is a backlog and takes next to nothing: at the deadline the hand has never been
/// empty, and all the same every record is in somebody's hands.
#[test]
fn a_backlog_that_never_ends_is_handed_over_whole() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let total = 60_000;
    let (relay, mut auditd) = place.relay(&url).options(&["--drain-timeout", "1s"]).under(Auditd::FirstStart);
    (0..total).for_each(|number| auditd.write(&line(number, 300)));
    relay.wait_for("/read", total as u64);
    let listener = port.listen();
    let stalled = accept(&listener);
    auditd.close();
    let exit = relay.exit();
    let handed = exit.number("/destinations/0/handed_over");
    assert_eq!(handed + exit.number("/destinations/0/sent"), total as u64, "{exit:?}");
    assert!(handed > 0, "{exit:?}");
    drop(stalled);
    let (relay, auditd) = place.relay(&url).options(&["--drain-timeout", "20s"]).under(Auditd::FirstStart);
    let mut connection = accept(&listener);
    auditd.close();
    let reading = std::thread::spawn(move || read_to_end(&mut connection));
    assert_eq!(relay.exit().number("/destinations/0/sent"), handed);
    let late = serials(&reading.join().unwrap());
    assert_eq!(late.len() as u64, handed);
    assert!(late.is_sorted() && late.last() == Some(&(total - 1)));
}

#[test]
fn a_folder_that_is_open_to_others_is_not_used_and_keeps_no_relay_from_its_work() {
    let place = Place::new();
    fs::create_dir(place.folder()).unwrap();
    fs::set_permissions(place.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = support::relay::run(&[
        "--config",
        "none",
        "--log",
        "stderr",
        "--to",
        "stdout:",
        "--handover",
        place.folder().to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.contains("chmod 0700")), (Some(0), true), "{said}");
    assert!(said.contains("going on without"), "{said}");
    assert_eq!(fs::metadata(place.folder()).unwrap().uid(), nix::unistd::geteuid().as_raw());
}

/// `user` was changed, or the account was made since: what the former one has left is sent, and what the new one leaves, too.
#[test]
fn the_next_instance_of_another_account_takes_over_folder_and_records() {
    if !root_or_skip() {
        return;
    }
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let of = |user: &str| place.relay(&url).options(&SHORT).options(&["--user", user]);
    let (records, lock) = (place.folder().join("records"), place.folder().join("lock"));
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    // Back and forth, and to root and back.
    let accounts = [("nobody", 65534), ("daemon", 1), ("root", 0), ("nobody", 65534)];
    for (round, (user, uid)) in accounts.into_iter().enumerate() {
        let (relay, mut auditd) = of(user).under(Auditd::FirstStart);
        (0..10).for_each(|number| auditd.write(&line(round * 10 + number, 0)));
        relay.wait_for("/read", 10);
        auditd.close();
        let exit = relay.exit();
        let number = |what: &str| exit.number(&format!("/destinations/0/{what}"));
        let all = round as u64 * 10;
        assert_eq!((number("inherited"), number("handed_over")), (all, all + 10), "{user}: {exit:?}");
        assert_eq!((owner(&place.folder()), owner(&records), owner(&lock)), (uid, uid, uid), "{user}");
        assert_eq!((mode(&place.folder()), mode(&records)), (0o700, 0o600));
    }
    // While the former account's relay runs, the folder is its own.
    let (old, old_feed) = of("nobody").under(Auditd::FirstStart);
    old.wait_for("/destinations/0/inherited", 40);
    let (new, new_feed) = of("daemon").under(Auditd::FirstStart);
    assert!(new.said().contains("a relay that runs as that user has its lock"), "{}", new.said());
    assert_eq!(owner(&place.folder()), 65534);
    new_feed.close();
    new.exit();
    old_feed.close();
    assert_eq!(old.exit().number("/destinations/0/handed_over"), 40);
}

/// auditd up to 4.1 starts the new instance, of the account that was made since, while the old one still drains.
#[test]
fn a_new_instance_of_another_account_waits_for_the_old_one_and_takes_over() {
    if !root_or_skip() {
        return;
    }
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let of = |user: &str| place.relay(&url).options(&["--drain-timeout", "1s", "--user", user]);
    let (old, mut feed) = of("nobody").under(Auditd::FirstStart);
    (0..50).for_each(|number| feed.write(&line(number, 0)));
    old.wait_for("/read", 50);
    feed.close();
    let (new, mut feed) = of("daemon").under(Auditd::FirstStart);
    (50..100).for_each(|number| feed.write(&line(number, 0)));
    feed.close();
    let exit = new.exit();
    assert_eq!(old.exit().number("/destinations/0/handed_over"), 50);
    let number = |what: &str| exit.number(&format!("/destinations/0/{what}"));
    assert_eq!((number("inherited"), number("handed_over")), (50, 100), "{exit:?}");
}

/// What the message says is enough, taken by the word.
#[test]
fn the_remedy_for_a_folder_of_another_user_gives_away_all_that_is_in_it() {
    if !root_or_skip() {
        return;
    }
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let of = |user: &str| place.relay(&url).options(&SHORT).options(&["--user", user]);
    let (relay, mut auditd) = of("nobody").under(Auditd::FirstStart);
    (0..10).for_each(|number| auditd.write(&line(number, 0)));
    relay.wait_for("/read", 10);
    auditd.close();
    relay.exit();
    // Something that root has no right to judge.
    fs::write(place.folder().join("foreign"), "").unwrap();
    let said = || {
        let (relay, auditd) = of("daemon").under(Auditd::FirstStart);
        auditd.close();
        relay.exit().said
    };
    let first = said();
    assert!(
        first.contains("foreign in it is not the relay's") && first.contains("going on without"),
        "{first}"
    );
    let (_, remedy) = first.split_once("run: chown ").unwrap();
    let words: Vec<_> = remedy.split(';').next().unwrap().split(' ').collect();
    assert!(std::process::Command::new("chown").args(&words).status().unwrap().success(), "{words:?}");
    let then = said();
    assert!(then.contains("has left 10 records") && !then.contains("going on without"), "{then}");
    // As an older version has said it: the folder alone. Its records are of no use, but the next ones are kept.
    fs::remove_dir_all(place.folder()).unwrap();
    let (relay, auditd) = of("nobody").under(Auditd::FirstStart);
    auditd.close();
    relay.exit();
    std::os::unix::fs::chown(place.folder(), Some(1), None).unwrap();
    let (relay, mut auditd) = of("daemon").under(Auditd::FirstStart);
    auditd.write(&line(0, 0));
    relay.wait_for("/read", 1);
    auditd.close();
    let exit = relay.exit();
    assert_eq!(exit.number("/destinations/0/handed_over"), 1, "{exit:?}");
}

/// Whatever else starts a relay with a socket on standard input, as sshd does for a command, has no part in the machine's
/// own folder: the next relay may be of quite another stream.
#[test]
fn only_a_relay_of_auditd_s_own_uses_the_usual_folder() {
    if !root_or_skip() {
        return;
    }
    let (dir, port) = (temp_dir(), ClosedPort::new());
    // A /run of its own, so that the machine's is not touched.
    let script =
        format!("mount -t tmpfs -o mode=755 tmpfs /run && cd {} && exec \"$@\"", dir.path().display());
    let wrapper = ["unshare", "-m", "sh", "-c", &script, "sh"];
    let url = format!("tcp://{}", port.address());
    for (name, handed_over, lost) in [("sshd", 0, 10), ("auditd", 10, 0)] {
        fs::write("/proc/self/comm", name).unwrap();
        let options = ["--to", &url, "--handover", "auto", "--status", "auto"];
        let (relay, mut auditd) =
            Relay::with(&options).options(&SHORT).through(&wrapper).under(Auditd::FirstStart);
        (0..10).for_each(|number| auditd.write(&line(number, 0)));
        relay.wait_for("/read", 10);
        let folder = format!("/proc/{}/root/run/audit-relay", relay.id());
        assert_eq!(fs::exists(folder).unwrap(), handed_over > 0, "{name}");
        auditd.close();
        let exit = relay.exit();
        let number = |what: &str| exit.number(&format!("/destinations/0/{what}"));
        assert_eq!(
            (number("handed_over"), number("lost/drain_deadline")),
            (handed_over, lost),
            "{name}: {exit:?}"
        );
    }
}

/// What the instance before has left is the oldest. What its notices announce is announced anew.
#[test]
fn drop_oldest_loses_what_was_inherited_before_anything_newer() {
    let (place, port) = (Place::new(), ClosedPort::new());
    let url = format!("tcp://{}", port.address());
    let small = ["--on-full", "drop-oldest", "--queue-size", "256KiB"];
    let (relay, mut auditd) = place.relay(&url).options(&small).options(&SHORT).under(Auditd::FirstStart);
    (0..2000).for_each(|number| auditd.write(&line(number, 900)));
    auditd.close();
    let first = relay.exit();
    let (lost, left) = ("/destinations/0/lost/overflow", "/destinations/0/handed_over");
    assert!(first.number(left) > 100 && first.number(lost) > 1000, "{first:?}");

    let (relay, mut auditd) = place.relay(&url).options(&small).under(Auditd::FirstStart);
    relay.wait_for("/destinations/0/inherited", first.number(left));
    (2000..4000).for_each(|number| auditd.write(&line(number, 900)));
    relay.wait_for("/read", 2000);
    let mut connection = accept(&port.listen());
    let reading = std::thread::spawn(move || read_to_end(&mut connection));
    wait_until("the backlog is delivered", || relay.report()["destinations"][0]["in_flight"] == 0);
    auditd.close();
    let second = relay.exit();
    let messages = Framing::Octet.cut(&reading.join().unwrap()).0;
    let (notices, records): (Vec<_>, Vec<_>) = messages.iter().partition(|message| message.is_notice());
    let serials: Vec<_> = records.iter().map(|message| serial(&message.text)).collect();
    assert!(serials.len() > 100, "{serials:?}");
    assert_eq!(serials, (4000 - serials.len()..4000).collect::<Vec<_>>(), "the newest survive");
    let said: u64 = notices.iter().map(|m| m.field("records").unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(said, 4000 - serials.len() as u64, "every loss of both is named");
    assert_eq!(said, first.number(lost) + second.number(lost));
}
