//! Tests only: the manual page and the completions of audit-loadgen are what its options and docs/man say. `packaging/manuals` writes
//! them anew.
//!
//! *Law:* the files of `tests/support` that are used here know neither program.

#[path = "../../tests/support/command_page.rs"]
mod command_page;
#[path = "../../tests/support/generated.rs"]
mod generated;
#[path = "../../tests/support/markdown.rs"]
mod markdown;
#[path = "../../tests/support/roff.rs"]
mod roff;

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use clap_complete::Shell;

use crate::cli::Cli;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    let file = "docs/man/audit-loadgen.1.md";
    let source = fs::read_to_string(root().join(file)).unwrap();
    let blocks =
        command_page::fill(roff::blocks(&source), &Cli::command(), |words| panic!("what is {words}?"));
    let title = roff::Title {
        name: "audit-loadgen",
        section: 1,
        date: generated::date(&source),
        version: env!("CARGO_PKG_VERSION"),
        manual: "General Commands Manual",
        source: file,
    };
    roff::page(title, &blocks)
}

#[test]
fn the_manual_page_is_what_the_options_say() {
    generated::hold(&root().join("packaging/man/audit-loadgen.1"), &page());
    generated::lint(&page(), "audit-loadgen.1");
    for long in command_page::long_options(&Cli::command()) {
        let entry = format!("\\-\\-{}\\fR", long.replace('-', "\\-"));
        assert!(page().contains(&entry), "audit-loadgen(1) has no entry of --{long}");
    }
}

#[test]
fn the_manuals_completions_are_what_the_options_say() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let (file, script) = generated::completion(shell, Cli::command(), "audit-loadgen");
        generated::hold(&root().join("packaging/completions").join(file), &script);
    }
    let (_, script) = generated::completion(Shell::Bash, Cli::command(), "audit-loadgen");
    for (line, expected) in [
        ("audit-loadgen --mi", "--mix"),
        ("audit-loadgen --to rel", "relps"),
        ("audit-loadgen kernel --load ", "exec"),
        ("audit-loadgen comp", "compare"),
        ("audit-loadgen send --conn", "--connections"),
    ] {
        let words = generated::complete_in_bash(&script, "audit-loadgen", line);
        assert!(words.iter().any(|word| word == expected), "{line}: {words:?}");
    }
}

#[test]
fn the_manuals_command_lines_are_taken() {
    let found = markdown::command_lines(&root(), "audit-loadgen");
    assert!(found.len() >= 30, "only {} command lines were found", found.len());
    for (place, words) in found {
        if let Err(error) = Cli::command().try_get_matches_from(&words) {
            // A page may leave values open, as in --rate RATE.
            let is_open = |word: &String| word.bytes().all(|byte| byte.is_ascii_uppercase());
            let of_value = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
            let excused = of_value && words.iter().any(is_open);
            assert!(!error.use_stderr() || excused, "{place}: {}\n{error}", words.join(" "));
        }
    }
}
