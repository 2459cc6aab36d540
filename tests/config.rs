//! Configuration as a user meets it: files, options, `check`, exit statuses, and what an error says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use support::pki::{Crl, Kind, Pki};
use support::relay::{Relay, run};
use support::sink::Sink;
use support::{line, temp_dir};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs `check` over a file with this content and mode.
fn check(content: &str, mode: u32) -> Output {
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    run(&["check", "--config", file.to_str().unwrap()])
}

/// Every file below `dir` with this ending.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] })
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

/// The TOML blocks of a Markdown file.
fn toml_blocks(markdown: &str) -> Vec<String> {
    markdown.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_example_configuration_passes_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut examples = Vec::new();
    for dir in ["docs", "examples", "packaging"] {
        let dir = root.join(dir);
        examples
            .extend(files(&dir, ".toml").into_iter().map(|path| (fs::read_to_string(&path).unwrap(), path)));
        for path in files(&dir, ".md") {
            examples.extend(
                toml_blocks(&fs::read_to_string(&path).unwrap())
                    .into_iter()
                    .map(|block| (block, path.clone())),
            );
        }
    }
    let readme = root.join("README.md");
    let blocks = toml_blocks(&fs::read_to_string(&readme).unwrap_or_default());
    examples.extend(blocks.into_iter().map(|block| (block, readme.clone())));
    assert!(!examples.is_empty(), "there is at least one example to check");
    // The examples name certificates where an administrator would put them; here they lie elsewhere.
    let dir = temp_dir();
    let pki = Pki::new(dir.path());
    pki.client("relay", Kind::Good);
    fs::copy(pki.crl("list", Crl::Empty), dir.path().join("ca.crl")).unwrap();
    let here = format!("{}/", dir.path().display());
    for (example, path) in examples {
        let example = example.replace("/etc/audit-relay/", &here);
        let output = check(&example, 0o644);
        assert_eq!(output.status.code(), Some(0), "{}:\n{example}\n{}", path.display(), text(&output.stderr));
    }
}

#[test]
fn the_effective_configuration_passes_check_as_it_is_printed() {
    let first = check(
        "to = [\"udp://h\", \"tcp://[::1]:6000\", \"unix:/x\", \"stdout:\"]\nfacility = \"auth\"\n",
        0o644,
    );
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let second = check(&text(&first.stdout), 0o644);
    assert_eq!(text(&first.stdout), text(&second.stdout));
}

#[test]
fn errors_in_a_file_exit_78_and_name_key_value_and_remedy() {
    for (content, words) in [
        ("queue-sise = \"1MiB\"\n", &["queue-sise", "queue-size"][..]),
        ("[[destination]]\nurl = \"udp://h\"\ncolour = 1\n", &["colour"]),
        ("format = \"json\"\n", &["format", "`json`", "rfc5424"]),
        ("framing = \"nul\"\n", &["framing", "`nul`", "octet, lf"]),
        ("facility = \"local9\"\n", &["facility", "`local9`", "local6"]),
        ("severity = \"loud\"\n", &["severity", "`loud`", "info"]),
        ("queue-size = \"1KiB\"\n", &["queue-size", "1KiB", "256KiB"]),
        ("queue-size = \"much\"\n", &["queue-size", "`much`", "64MiB"]),
        ("max-message-size = \"100\"\n", &["max-message-size", "480"]),
        ("drain-timeout = \"2\"\n", &["drain-timeout", "`2`", "250ms"]),
        ("on-full = \"panic\"\n", &["on-full", "`panic`", "drop-newest"]),
        ("input = \"json\"\n", &["input", "`json`", "binary-fixed"]),
        ("eoe = \"maybe\"\n", &["eoe", "`maybe`", "drop, keep"]),
        ("log = \"printer\"\n", &["log", "`printer`", "stderr"]),
        ("hostname = \"two words\"\n", &["hostname", "`two words`", "without spaces"]),
        ("app-name = \"\"\n", &["app-name", "printable"]),
        ("structured-data = [\"audit\"]\n", &["structured-data", "enterprise-number"]),
        ("to = []\n", &["`to` is empty", "unix:/dev/log"]),
        ("to = [\"udp://h\", \"udp://h:514\"]\n", &["udp://h:514", "twice"]),
        ("to = [\"dtls://h\"]\n", &["dtls://h", "tls://host:6514"]),
        ("to = [\"tcp://h:0\"]\n", &["tcp://h:0", "`0`", "1 to 65535"]),
        ("to = [\"unix:relative\"]\n", &["unix:relative", "start with /"]),
        ("user = \"no-such-account\"\n", &["user", "`no-such-account`", "useradd"]),
        ("to = \n", &["relay.toml", "line 1"]),
        (
            "queue_size = \"1MiB\"\n",
            &["line 1", "no key `queue_size`", "is `queue-size` meant?", "audit-relay.toml(5)"],
        ),
        ("to = 5\n", &["line 1", "to = 5", "a text in quotes or a list of such"]),
        ("queue-size = 5\n", &["line 1", "queue-size = 5", "write it in quotes", "its unit"]),
        ("threads = 2\n", &["threads = 2", "write it in quotes"]),
        ("relp-window = \"9\"\n", &["relp-window", "without quotes"]),
        ("[destination]\nurl = \"tcp://h\"\n", &["line 1", "[[destination]]"]),
        ("statistics-interval = \"0s\"\n", &["statistics-interval", "`0s`", "from 1s to 1440min"]),
    ] {
        let output = check(content, 0o644);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{content}{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "no {word} in: {said}"));
        assert!(output.stdout.is_empty(), "{content}");
    }
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    for (mode, status) in [(0o640, 0), (0o644, 0), (0o664, 78), (0o646, 78), (0o666, 78)] {
        let output = check("facility = \"auth\"\n", mode);
        assert_eq!(output.status.code(), Some(status), "{mode:o}");
        assert_eq!(
            text(&output.stderr).contains("chmod go-w"),
            status == 78,
            "{mode:o}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_file_that_is_named_and_missing_is_an_error_and_none_is_not() {
    let output = run(&["check", "--config", "/no/such/file.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("/no/such/file.toml"), "{}", text(&output.stderr));
    let output = run(&["check", "--config", "none"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("url = \"unix:/dev/log\""), "{}", text(&output.stdout));
}

#[test]
fn the_relay_itself_refuses_a_bad_configuration_with_78() {
    for arguments in [["--config", "/no/such/file.toml"], ["--format", "json"], ["--to", "http://h"]] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(text(&output.stderr).contains("audit-relay check"), "{}", text(&output.stderr));
    }
}

#[test]
fn usage_errors_exit_64_and_say_where_the_help_is() {
    for (arguments, word) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["--to"], "--to"),
        (&["LOG_LOCAL9"], "`LOG_LOCAL9`"),
        (&["local6"], "`local6`"),
        (&["--enterprise-number", "many"], "many"),
    ] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(word) && said.contains("--help"), "{said}");
    }
}

#[test]
fn interpret_is_refused_with_64_and_a_way_out() {
    for arguments in [&["interpret"][..], &["LOG_INFO", "LOG_LOCAL6", "interpret"]] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("`interpret`") && said.contains("log_format = ENRICHED"), "{said}");
    }
}

#[test]
fn what_was_meant_is_asked_for() {
    for (words, status, said) in [
        (&["--hostnam", "x"][..], 64, "'--hostname'"),
        (&["check", "--queue-sise", "1MiB"], 64, "'--queue-size'"),
        (&["doctor", "--jsno"], 64, "'--json'"),
        (&["chekc"], 64, "is `check` meant?"),
        (&["frobnicate"], 64, "no command, no option and none of audisp-syslog's words;"),
        (&["doctor", "--root", "/no/such/folder"], 64, "there is no such folder"),
        (&["cert", "new", "--name", "", "/no/such/folder/x"], 73, "--name logs.example.org"),
        (
            &["check", "--config", "none", "--status", "/tmp/s", "--status-group", "no-such-group"],
            73,
            "groupadd",
        ),
    ] {
        let output = run(words);
        let words_said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {words_said}");
        assert!(words_said.contains(said), "{words:?}: {words_said}");
        assert!(!words_said.contains("as a value"), "{words:?}: {words_said}");
    }
}

/// Who starts it in a terminal, as newcomers do, is told what it waits for.
#[test]
fn a_terminal_is_told_that_records_are_waited_for() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut relay = std::process::Command::new(support::relay::binary())
        .args(["--config", "none", "--to", "stdout:", "--log", "stderr"])
        .stdin(terminal.slave)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(relay.stderr.take().unwrap());
    while !said.contains("until Ctrl-D") {
        assert!(std::io::BufRead::read_line(&mut lines, &mut said).unwrap() > 0, "{said}");
    }
    // The end of a terminal.
    drop(terminal.master);
    assert!(relay.wait().unwrap().code().is_some());
}

#[test]
fn help_and_version_exit_0_on_standard_output() {
    for (option, word) in [("--help", "--drain-timeout"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = run(&[option]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(word) && output.stderr.is_empty(), "{output:?}");
    }
}

/// Sends one record with these arguments and returns its PRI.
fn pri(arguments: &[&str]) -> u8 {
    let sink = Sink::unix();
    let (relay, mut feed) = Relay::with(arguments).options(&["--to", &sink.url]).by_hand();
    feed.write(&line(0, 0));
    feed.close();
    assert_eq!(relay.exit().status, Some(0));
    sink.messages_after_exit()[0].pri
}

/// `args = LOG_INFO LOG_LOCAL6` of plugins.d/syslog.conf.
#[test]
fn audisp_syslogs_arguments_set_facility_and_severity() {
    for (words, expected) in [
        (&["LOG_INFO", "LOG_LOCAL6"][..], 22 * 8 + 6),
        (&["LOG_LOCAL3", "LOG_ALERT"], 19 * 8 + 1),
        (&["LOG_AUTHPRIV"], 10 * 8 + 6),
        (&["LOG_DEBUG"], 22 * 8 + 7),
        (&[], 182),
    ] {
        assert_eq!(pri(words), expected, "{words:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let (sink, other) = (Sink::unix(), Sink::unix());
    let dir = temp_dir();
    let file = dir.path().join("relay.toml");
    let content = format!(
        "to = [\"{}\"]\nfacility = \"auth\"\nseverity = \"err\"\napp-name = \"fromfile\"\n",
        other.url
    );
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--to", &sink.url, "--facility", "local0"];
    let (relay, mut feed) = Relay::with(&arguments).by_hand();
    feed.write(&line(0, 0));
    feed.close();
    assert_eq!(relay.exit().status, Some(0));
    let messages = sink.messages_after_exit();
    assert_eq!((messages[0].pri, messages[0].app.as_str()), (16 * 8 + 3, "fromfile"));
    assert!(
        other.messages_after_exit().is_empty(),
        "destinations of the command line replace those of the file"
    );
}
