//! `audit-relay doctor` on a machine that makes it hard: a file system that hangs, a name server that is slow, an rsyslogd with a
//! configuration of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failure here is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::network::{Network, answer_names};
use support::relay::binary;
use support::sink::{Framing, Sink};
use support::{root_or_skip, temp_dir};

/// Runs the doctor behind `script`, which gets its arguments, in a mount namespace of its own.
fn doctor_behind(script: &str, dir: &Path, arguments: &[&str]) -> Output {
    Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(dir)
        .arg(binary())
        .args(["doctor", "--json"])
        .args(arguments)
        .output()
        .unwrap()
}

fn value(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn findings(output: &Output) -> BTreeMap<String, String> {
    let word = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
    let all = value(output)["findings"].as_array().unwrap().clone();
    all.iter().map(|f| (word(f, "id"), word(f, "seen"))).collect()
}

fn unseen(output: &Output) -> String {
    let all = value(output)["unseen"].as_array().unwrap().clone();
    all.iter().map(|sentence| sentence.as_str().unwrap().to_owned() + "\n").collect()
}

/// A file system whose server never answers, as NFS is when the server is gone: every look at it waits. The shell keeps the other
/// end open; the doctor closes what it inherits.
const HUNG: &str = "set -e; dir=$1; shift; mkdir -p \"$dir/hung\"; exec 9<>/dev/fuse
    mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hung \"$dir/hung\"
    set +e; \"$@\"; status=$?; umount -l \"$dir/hung\"; exit $status";

#[test]
fn a_file_system_that_hangs_is_named_in_time() {
    if !root_or_skip() {
        return;
    }
    let dir = temp_dir();
    let hung = |name: &str| dir.path().join("hung").join(name).to_str().unwrap().to_owned();
    let sink = Sink::tcp(Framing::Octet);
    let (ca, report, handover) = (hung("ca.pem"), hung("report.json"), hung("handover"));
    let (conf, log) = (hung("relay.toml"), hung("collected.log"));
    let run = |arguments: &[&str]| {
        let start = Instant::now();
        let output = doctor_behind(HUNG, dir.path(), &[&["--within", "2"], arguments].concat());
        (output, start.elapsed())
    };
    let (files, whole, sent) = thread::scope(|scope| {
        let files = scope.spawn(|| {
            let paths = ["--tls-ca", &ca, "--report", &report, "--handover", &handover, "--user", "nobody"];
            run(&[&["--config", "none", "--to", "tls://127.0.0.1:1"], &paths[..]].concat())
        });
        let whole = scope.spawn(|| run(&["--config", &conf]));
        let to = ["--config", "none", "--to", &sink.url, "--send", "--look-in", &log];
        let sent = scope.spawn(move || run(&to));
        (files.join().unwrap(), whole.join().unwrap(), sent.join().unwrap())
    });
    // The rest is judged, and what did not answer is named.
    let (output, took) = files;
    let said = unseen(&output);
    for what in [
        "certificates of tls-*: no answer",
        "the relay's report: no answer",
        "the folder of handover: no answer",
    ] {
        assert!(said.contains(what), "{said}");
    }
    assert!(findings(&output).len() > 1 && took < Duration::from_secs(5), "{took:?} {output:?}");
    // Nothing can be judged without the configuration.
    let (output, took) = whole;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot be read within 2 s"), "{said}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (output, took) = sent;
    assert!(unseen(&output).contains("what a test message came to: no answer"), "{output:?}");
    assert!(took < Duration::from_secs(18), "{took:?}");
}

/// The first name server is silent, so each look-up takes as long as the resolver waits before it asks the second.
#[test]
fn a_slow_look_up_is_named() {
    if !root_or_skip() {
        return;
    }
    Network::own(|_| {
        let _silent = UdpSocket::bind("127.0.0.1:53").unwrap();
        let server = UdpSocket::bind("127.0.0.2:53").unwrap();
        answer_names(server);
        let sink = Sink::tcp(Framing::Octet);
        let url = sink.url.replace("127.0.0.1", "logs.example.org");
        let dir = temp_dir();
        let resolver = |servers: &str| {
            fs::write(dir.path().join("resolv.conf"), format!("{servers}options timeout:2 attempts:1\n"))
                .unwrap();
        };
        fs::write(dir.path().join("nsswitch.conf"), "hosts: files dns\npasswd: files\n").unwrap();
        let script = "set -e; dir=$1; shift; touch /etc/nsswitch.conf; mount --bind \"$dir/resolv.conf\" /etc/resolv.conf
            mount --bind \"$dir/nsswitch.conf\" /etc/nsswitch.conf; exec \"$@\"";
        let arguments =
            ["--only", "dns,dns-slow,unreachable", "--config", "none", "--user", "nobody", "--to", &url];
        resolver("nameserver 127.0.0.2\n");
        let found = findings(&doctor_behind(script, dir.path(), &arguments));
        assert!(found.is_empty(), "{found:?}");
        resolver("nameserver 127.0.0.1\nnameserver 127.0.0.2\n");
        let found = findings(&doctor_behind(script, dir.path(), &arguments));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["dns-slow"], "{found:?}");
        assert!(found["dns-slow"].contains("looking the name up took 2"), "{found:?}");
        // Nobody answers at all.
        resolver("nameserver 127.0.0.1\n");
        let found = findings(&doctor_behind(script, dir.path(), &arguments));
        assert!(found.contains_key("dns"), "{found:?}");
    });
}

/// What counts is what the running rsyslogd was told to read, and what that includes.
#[test]
fn rsyslog_is_judged_by_what_the_running_one_reads() {
    if !root_or_skip() {
        return;
    }
    let rsyslogd = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"].into_iter().find(|path| Path::new(path).exists());
    let Some(rsyslogd) = rsyslogd else {
        assert!(std::env::var_os("CI").is_none(), "rsyslogd is missing, and CI skips nothing");
        eprintln!("SKIPPED: rsyslogd is missing");
        return;
    };
    let dir = temp_dir();
    let here = dir.path().display();
    fs::create_dir(dir.path().join("more")).unwrap();
    fs::write(
        dir.path().join("own.conf"),
        format!(
            "global(workDirectory=\"{here}\" net.enableDNS=\"off\")\ninclude(file=\"{here}/more/*.conf\")\n\
             action(type=\"omfile\" file=\"{here}/all.log\")\n"
        ),
    )
    .unwrap();
    fs::write(
        dir.path().join("more/socket.conf"),
        format!(
            "module(load=\"imuxsock\" SysSock.Use=\"off\" SysSock.RateLimit.Interval=\"5\")\n\
             input(type=\"imuxsock\" Socket=\"{here}/socket\")\n"
        ),
    )
    .unwrap();
    // A /dev whose log is no journald's.
    let script = format!(
        "set -e; dir=$1; shift; LD_PRELOAD=libgcc_s.so.1 {rsyslogd} -n -f \"$dir/own.conf\" -i \"$dir/pid\" & rsyslogd=$!
         for i in $(seq 100); do [ -S \"$dir/socket\" ] && break; sleep 0.1; done
         set +e; \"$@\"; status=$?; kill $rsyslogd; wait $rsyslogd; exit $status"
    );
    let arguments = ["--only", "imuxsock-rate-limit", "--config", "none", "--to", "unix:/dev/log"];
    let output = doctor_behind(&script, dir.path(), &arguments);
    let found = findings(&output);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["imuxsock-rate-limit"], "{output:?}");
    assert!(found["imuxsock-rate-limit"].contains("Interval 5 s"), "{found:?}");
    let remedy = value(&output)["findings"][0]["remedy"].as_str().unwrap().to_owned();
    assert!(remedy.contains(&format!("in {here}/own.conf: module(load")), "{remedy}");
}
