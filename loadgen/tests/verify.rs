//! Makes files as a receiver would, damages them, and has `audit-loadgen verify` find out.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as they do")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const LOADGEN: &str = env!("CARGO_BIN_EXE_audit-loadgen");

/// Runs the generator with `args` into `target` (a shell command; `FILE` is the file), and returns the file's lines.
fn receive(directory: &TempDir, args: &[&str], target: &str) -> Vec<Vec<u8>> {
    let file = directory.path().join("received");
    let script = target.replace("FILE", file.to_str().unwrap());
    let output = Command::new(LOADGEN)
        .args(["--to", "none", "--settle", "0"])
        .args(args)
        .args(["--", "/bin/sh", "-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    lines_of(&file)
}

fn lines_of(file: &Path) -> Vec<Vec<u8>> {
    fs::read(file).unwrap().split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Verifies `lines`, split over `parts` files; returns exit code, JSON and table.
fn verify(lines: &[Vec<u8>], parts: usize, args: &[&str]) -> (Option<i32>, Value, String) {
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = lines
        .chunks(lines.len().div_ceil(parts).max(1))
        .enumerate()
        .map(|(n, part)| {
            let file = directory.path().join(format!("messages.{n}"));
            fs::write(&file, part.concat()).unwrap();
            file
        })
        .collect();
    let json = directory.path().join("account.json");
    let output = Command::new(LOADGEN)
        .arg("verify")
        .args(&files)
        .args(args)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let text = fs::read_to_string(&json)
        .unwrap_or_else(|_| panic!("no account: {}", String::from_utf8_lossy(&output.stderr)));
    let table = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(&text).unwrap(), table)
}

/// `sent received lost duplicated reordered torn unmarked`.
fn counts(account: &Value) -> [u64; 7] {
    ["sent", "received", "lost", "duplicated", "reordered", "torn", "unmarked"]
        .map(|key| account[key].as_u64().unwrap())
}

#[test]
fn each_damage_to_a_file_is_counted_as_itself() {
    let directory = tempfile::tempdir().unwrap();
    let whole = receive(&directory, &["--count", "5000"], "exec cat >FILE");
    assert_eq!(whole.len(), 5000);
    let known = &["--count", "5000"][..];
    let (code, account, _) = verify(&whole, 1, known);
    assert_eq!((code, counts(&account)), (Some(0), [5000, 5000, 0, 0, 0, 0, 0]));

    type Damage = fn(&mut Vec<Vec<u8>>);
    let table: [(Damage, [u64; 7]); 8] = [
        (|lines| drop(lines.drain(10..20)), [5000, 4990, 10, 0, 0, 0, 0]),
        (|lines| lines.insert(9, lines[8].clone()), [5000, 5000, 0, 1, 0, 0, 0]),
        (|lines| lines.swap(100, 101), [5000, 5000, 0, 0, 1, 0, 0]),
        (
            |lines| {
                let line = &mut lines[7];
                let at = line.len() - 3;
                line.truncate(at);
                line.push(b'\n');
            },
            [5000, 4999, 0, 0, 0, 1, 0],
        ),
        (|lines| lines[3][30] ^= 1, [5000, 4999, 0, 0, 0, 1, 0]),
        (
            |lines| lines.insert(0, b"Nov 23 09:15:57 h cron[1]: hello\n".to_vec()),
            [5000, 5000, 0, 0, 0, 0, 1],
        ),
        // The last record is cut off in front of its mark: lost, and a line of nobody.
        (|lines| lines.last_mut().unwrap().truncate(30), [5000, 4999, 1, 0, 0, 0, 1]),
        (|lines| lines.truncate(4000), [5000, 4000, 1000, 0, 0, 0, 0]),
    ];
    for (case, (damage, expected)) in table.into_iter().enumerate() {
        let mut lines = whole.clone();
        damage(&mut lines);
        let (code, account, _) = verify(&lines, 1 + case % 3, known);
        assert_eq!(counts(&account), expected, "case {case}: {account:#}");
        assert_eq!(code, Some(i32::from(expected[1] + expected[3] + expected[4] != 5000)), "case {case}");
        assert_eq!(verify(&lines, 1, &["--count", "5000", "--allow-loss"]).0, Some(0));
    }
    let mut lines = whole.clone();
    lines.drain(10..20);
    assert_eq!(verify(&lines, 2, known).1["gaps"], serde_json::json!([[10, 19]]));
}

#[test]
fn without_a_count_the_highest_number_stands_for_it_and_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let mut lines = receive(&directory, &["--count", "3000"], "exec cat >FILE");
    lines.truncate(2500);
    let (code, account, table) = verify(&lines, 1, &[]);
    assert_eq!((code, counts(&account)[..3].to_vec()), (Some(0), vec![2500, 2500, 0]));
    assert_eq!(account["sent_known"], false);
    assert!(table.contains("highest number found"), "{table}");
}

#[test]
fn the_options_of_the_run_must_be_those_of_the_check() {
    let directory = tempfile::tempdir().unwrap();
    for options in [
        &["--seed", "9"][..],
        &["--mix", "nasty"],
        &["--size", "500"],
        &["--mix", "single", "--seed", "3"],
        &["--eoe"],
    ] {
        let lines = receive(&directory, &[&["--count", "2000"], options].concat(), "exec cat >FILE");
        let (code, account, _) = verify(&lines, 1, options);
        assert_eq!(code, Some(0), "{options:?}: {account:#}");
        let (code, account, table) = verify(&lines, 1, &["--seed", "4"]);
        assert_eq!(code, Some(1), "{options:?}: {account:#}");
        assert!(table.contains("NOTE") && table.contains("--seed"), "{table}");
    }
}

#[test]
fn a_trace_is_told_by_its_text() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let text: String =
        (0..500).map(|n| format!("type=CWD msg=audit(1795424551.650:{n}): cwd=\"/\"\n")).collect();
    fs::write(&trace, text).unwrap();
    let options = ["--trace", trace.to_str().unwrap()];
    let mut lines = receive(&directory, &options, "exec sed 's/^/Nov 23 09:02:31 h auditd: /' >FILE");
    assert_eq!(verify(&lines, 1, &options).0, Some(0));
    lines.remove(77);
    let (code, account, _) = verify(&lines, 1, &options);
    assert_eq!((code, counts(&account)), (Some(1), [500, 499, 1, 0, 0, 0, 0]));
    assert_eq!(account["sent_known"], true);
}

#[test]
fn stdin_is_a_file_and_a_missing_file_is_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let lines = receive(&directory, &["--count", "1000"], "exec cat >FILE");
    let mut child = Command::new(LOADGEN)
        .args(["verify", "-", "--count", "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&lines.concat()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for args in
        [&["verify", "/no/such/file"][..], &["verify"], &["verify", "--mix", "host", "--size", "300", "-"]]
    {
        let output = Command::new(LOADGEN).args(args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

/// A running rsyslogd, ended by its process id.
struct Rsyslogd(Child);

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        let _ = Command::new("/bin/kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Whether rsyslogd is here; skips loudly, or fails where live tests are required.
fn have_rsyslogd() -> bool {
    let found = Path::new("/usr/sbin/rsyslogd").exists();
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no /usr/sbin/rsyslogd");
        let _ = writeln!(std::io::stderr(), "SKIPPED verify with rsyslogd: no /usr/sbin/rsyslogd");
    }
    found
}

#[test]
fn what_a_real_rsyslogd_wrote_is_understood() {
    if !have_rsyslogd() {
        return;
    }
    for (template, mix) in [
        ("RSYSLOG_TraditionalFileFormat", "host"),
        ("RSYSLOG_SyslogProtocol23Format", "host"),
        ("RSYSLOG_TraditionalFileFormat", "nasty"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let config = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"64k\")\n\
             module(load=\"imtcp\")\n\
             input(type=\"imtcp\" port=\"0\" address=\"127.0.0.1\" listenPortFileName=\"{}\" ruleset=\"all\")\n\
             ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{}\" template=\"{template}\") }}\n",
            directory.path().display(),
            path("port"),
            path("received")
        );
        fs::write(path("conf"), config).unwrap();
        let child = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-C", "-f", &path("conf"), "-i", &path("pid")])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut rsyslogd = Rsyslogd(child);
        while fs::read_to_string(path("port")).map_or(true, |port| port.trim().is_empty()) {
            assert!(rsyslogd.0.try_wait().unwrap().is_none(), "rsyslogd did not start");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let port = fs::read_to_string(path("port")).unwrap();
        let output = Command::new(LOADGEN)
            .args(["--to", "none", "--count", "20000", "--mix", mix, "--"])
            .args([LOADGEN, "floor-child", "--to", &format!("tcp://127.0.0.1:{}", port.trim())])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        // rsyslogd writes what it has before it ends; it may not have read everything yet.
        let mut seen = 0;
        // A minute at most: what is missing then is found below.
        for _ in 0..3000 {
            if seen >= 20_000 {
                break;
            }
            seen =
                fs::read(path("received")).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        drop(rsyslogd);
        let (code, account, table) =
            verify(&lines_of(Path::new(&path("received"))), 1, &["--count", "20000", "--mix", mix]);
        assert_eq!(code, Some(0), "{template} {mix}: {account:#}\n{table}");
    }
}
