//! The manual pages and completions that are installed are what the code and the texts say today; every option and key has its
//! place in them. `packaging/manuals` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

#[path = "support/command_page.rs"]
mod command_page;
#[path = "support/generated.rs"]
mod generated;
#[path = "support/roff.rs"]
mod roff;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use audit_relay::cli::Cli;
use audit_relay::config::Settings;
use clap::CommandFactory as _;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap_complete::Shell;

use roff::{Block, Title, blocks, section};

const MANUAL: &str = "System Manager's Manual";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// What a slot `configuration HEADING` stands for.
fn from_configuration(words: &str) -> Vec<Block> {
    let heading = words.strip_prefix("configuration").unwrap_or_else(|| panic!("what is <!-- {words} -->?"));
    blocks(section(&read("docs/configuration.md"), heading.trim()))
}

fn relay_page() -> String {
    let file = "docs/man/audit-relay.8.md";
    let source = read(file);
    let blocks = command_page::fill(blocks(&source), &Cli::command(), from_configuration);
    let version = env!("CARGO_PKG_VERSION");
    roff::page(
        Title {
            name: "audit-relay",
            section: 8,
            date: generated::date(&source),
            version,
            manual: MANUAL,
            source: file,
        },
        &blocks,
    )
}

fn configuration_page() -> String {
    let file = "docs/man/audit-relay.toml.5.md";
    let source = read(file);
    let blocks = command_page::fill(blocks(&source), &Cli::command(), from_configuration);
    let (date, version) = (generated::date(&source), env!("CARGO_PKG_VERSION"));
    let sources = "docs/man/audit-relay.toml.5.md, docs/configuration.md";
    roff::page(
        Title {
            name: "audit-relay.toml",
            section: 5,
            date,
            version,
            manual: "File Formats Manual",
            source: sources,
        },
        &blocks,
    )
}

/// The keys of the file: in a `[[destination]]`, and outside.
fn keys() -> (BTreeSet<String>, BTreeSet<String>) {
    // The parser names those that it knows when it meets one that it does not.
    let known = |text: &str| {
        let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
        let list = error.split_once("expected one of").unwrap_or_else(|| panic!("{error}")).1;
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    // The alias of an earlier version.
    let of_one: BTreeSet<_> =
        known("[[destination]]\nno-such-key = 1").into_iter().filter(|key| key != "verify").collect();
    let of_all = known("no-such-key = 1").into_iter().filter(|key| key != "verify").collect();
    (of_one, of_all)
}

/// The rows of the tables of keys below a heading of docs/configuration.md: the key, and the other cells.
fn rows(heading: &str) -> Vec<(String, Vec<String>)> {
    let text = read("docs/configuration.md");
    let from = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}")) + 1;
    let rest = &text[from + heading.len()..];
    let rest = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let rest =
        if heading.starts_with("###") { &rest[..rest.find("\n### ").unwrap_or(rest.len())] } else { rest };
    let row = |line: &str| {
        let mut cells = roff::cells(line);
        let key = cells.remove(0).trim_matches('`').to_owned();
        (key, cells)
    };
    rest.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

/// The words that an error about this key offers, if it takes one of a few words.
fn choices(key: &str) -> Option<Vec<String>> {
    let facilities = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
        "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    let severities = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let settings = |value: &str| {
        let base = if key == "tls-verify" { "to = [\"tls://h\"]\n" } else { "" };
        toml::from_str::<Settings>(&format!("{base}{key} = \"{value}\"\n")).ok()
    };
    let error = settings("?")?.validate().err()?;
    let words: Vec<String> = match error.split_once("; choose among ") {
        Some((_, list)) => {
            let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            list.split(", ").filter(is_word).map(str::to_owned).collect()
        }
        None => {
            let known = |word: &&str| settings(word).is_some_and(|settings| settings.validate().is_ok());
            facilities.iter().chain(&severities).copied().filter(known).map(str::to_owned).collect()
        }
    };
    (!words.is_empty()).then_some(words)
}

/// The command line with the words that options take, which the program itself leaves to the configuration.
fn with_choices() -> clap::Command {
    fn add(command: clap::Command) -> clap::Command {
        let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let command = names.into_iter().fold(command, |command, name| command.mut_subcommand(name, add));
        command.mut_args(|arg| match arg.get_long().and_then(choices) {
            Some(words) => {
                // clap wants what lives as long as the program.
                let words = words.into_iter().map(|word| PossibleValue::new(&*word.leak()));
                arg.value_parser(PossibleValuesParser::new(words))
            }
            None => arg,
        })
    }
    add(Cli::command())
}

#[test]
fn the_pages_are_what_the_code_and_the_texts_say() {
    generated::hold(&root().join("packaging/man/audit-relay.8"), &relay_page());
    generated::hold(&root().join("packaging/man/audit-relay.toml.5"), &configuration_page());
}

#[test]
fn the_completions_are_what_the_code_says() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let (file, script) = generated::completion(shell, with_choices(), "audit-relay");
        assert!(!script.contains("attempt"), "{file} offers what --help hides");
        generated::hold(&root().join("packaging/completions").join(file), &script);
    }
}

#[test]
fn every_key_has_a_row_and_every_row_is_of_a_key() {
    let (of_one, of_all) = keys();
    let all: BTreeSet<_> = rows("## Keys").into_iter().map(|(key, _)| key).collect();
    let mut expected: BTreeSet<_> = of_one.union(&of_all).cloned().collect();
    expected.remove("destination");
    assert_eq!(all, expected, "docs/configuration.md, Keys");
    let served: BTreeSet<_> =
        rows("### How a destination is served").into_iter().map(|(key, _)| key).collect();
    let own: BTreeSet<_> =
        of_one.iter().filter(|key| !["failover", "balance"].contains(&key.as_str())).cloned().collect();
    assert_eq!(served, own, "docs/configuration.md, How a destination is served");
}

#[test]
fn every_key_has_a_value_a_default_and_a_meaning() {
    for (key, cells) in rows("## Keys") {
        assert!(
            cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()),
            "docs/configuration.md: the row of `{key}` needs four cells: key, value with unit and range, default, meaning"
        );
        for word in
            choices(&key).into_iter().flatten().filter(|_| !["facility", "severity"].contains(&key.as_str()))
        {
            assert!(
                cells[0].contains(&format!("`{word}`")),
                "docs/configuration.md: `{key}` may be `{word}`, too"
            );
        }
        if key == "facility" || key == "severity" {
            let known = choices(&key).unwrap();
            let named: Vec<_> = cells[0].split('`').skip(1).step_by(2).collect();
            assert!(named.iter().all(|word| known.iter().any(|known| known == word)), "{key}: {named:?}");
        }
    }
}

#[test]
fn defaults_are_those_in_effect() {
    // What is in effect where nothing is said, on each kind of destination.
    let effective = |to: &str| {
        let settings = toml::from_str::<Settings>(&format!("to = [\"{to}\"]\n")).unwrap();
        settings.validate().unwrap().effective().parse::<toml::Table>().unwrap()
    };
    let mut of_all = effective("unix:/dev/log");
    for to in ["tls://h", "relp://h", "tcp://h"] {
        let destination = effective(to)["destination"][0].clone();
        destination.as_table().unwrap().iter().for_each(|(key, value)| {
            of_all.entry(key).or_insert(value.clone());
        });
    }
    let mut compared = 0;
    for (key, cells) in rows("## Keys") {
        let Some(value) = of_all.get(&key) else { continue };
        let shown = match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // Those that depend on the transport are explained, not named.
        if ["format", "framing", "tls-verify", "max-message-size", "url"].contains(&key.as_str()) {
            continue;
        }
        assert!(
            cells[1].contains(&format!("`{shown}`")),
            "docs/configuration.md: the default of `{key}` is `{shown}`, and the row says {}",
            cells[1]
        );
        compared += 1;
    }
    assert!(compared >= 18, "only {compared} defaults were compared");
}

#[test]
fn every_option_but_config_is_a_key_and_has_an_entry() {
    let page = relay_page();
    for long in command_page::long_options(&Cli::command()) {
        let entry = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
        assert!(page.contains(&entry), "audit-relay(8) has no entry of --{long}");
    }
    let (_, of_all) = keys();
    let command = Cli::command();
    let options: BTreeSet<_> = command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .filter(|long| *long != "config")
        .map(str::to_owned)
        .collect();
    let mut keys = of_all;
    keys.remove("destination");
    assert_eq!(options, keys, "options and keys");
}

#[test]
fn a_page_is_taken_without_a_warning() {
    for (page, name) in [(relay_page(), "audit-relay.8"), (configuration_page(), "audit-relay.toml.5")] {
        generated::lint(&page, name);
    }
}

#[test]
fn zsh_is_offered_commands_in_the_first_place() {
    let (_, script) = generated::completion(Shell::Zsh, with_choices(), "audit-relay");
    let first = script.split_once(":: :_audit-relay_commands").unwrap().1;
    assert!(first.contains("case $line[1] in"), "{}", &first[..first.len().min(400)]);
}

#[test]
fn bash_completes_options_values_and_commands() {
    let (_, script) = generated::completion(Shell::Bash, with_choices(), "audit-relay");
    for (line, expected) in [
        ("audit-relay --queue-s", "--queue-size"),
        ("audit-relay --on-full drop-n", "drop-newest"),
        ("audit-relay check --conf", "--confine"),
        ("audit-relay ce", "cert"),
        ("audit-relay cert ", "show"),
        ("audit-relay --facility local", "local6"),
    ] {
        let words = generated::complete_in_bash(&script, "audit-relay", line);
        assert!(words.iter().any(|word| word == expected), "{line}: {words:?}");
    }
}
