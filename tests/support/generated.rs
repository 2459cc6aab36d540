//! Files that are made from the code and committed: held against it, or written.
//!
//! Promise: with `MANUALS=write` in the environment a file is written, else one that differs fails the test. Law: knows no program;
//! audit-loadgen's own tests use this file, too.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each user takes its part; a failed helper is a failed test"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, io};

use clap_complete::Shell;

/// The day in a page's source, `<!-- date 2026-11-28 -->`.
pub(crate) fn date(source: &str) -> &str {
    source.split_once("<!-- date ").unwrap().1.split_once(" -->").unwrap().0
}

/// Writes `file`, or fails if something else is in it.
pub(crate) fn hold(file: &Path, content: &str) {
    if env::var("MANUALS").is_ok_and(|word| word == "write") {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
        return;
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    if found != content {
        let differs = found.lines().zip(content.lines()).position(|(a, b)| a != b);
        let at = differs.unwrap_or_else(|| found.lines().count().min(content.lines().count()));
        panic!(
            "{} is not what the code and the texts say; write it anew with packaging/manuals. Line {}:\n  there  {:?}\n  ought  {:?}",
            file.display(),
            at + 1,
            found.lines().nth(at),
            content.lines().nth(at)
        );
    }
}

/// The completion of one shell, under the name that it is installed with.
pub(crate) fn completion(shell: Shell, command: clap::Command, name: &str) -> (String, String) {
    let mut command = shown(&command, shell == Shell::Zsh);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8(script).unwrap();
    let file = match shell {
        Shell::Bash => format!("{name}.bash"),
        Shell::Zsh => format!("_{name}"),
        Shell::Fish => format!("{name}.fish"),
        other => panic!("{other} is not one of ours"),
    };
    // clap_complete 4.6.7 takes the hyphen of a program's name for a blank before a subcommand, in one of two places: bash then
    // completes nothing behind a subcommand.
    let script = script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    // What it leaves at the ends of lines.
    let tidy: Vec<_> = script.lines().map(str::trim_end).collect();
    (file, format!("{}\n", tidy.join("\n").trim_end()))
}

/// What is not hidden. For zsh also without the arguments that may stand in a subcommand's place: it would offer subcommands only
/// behind them.
fn shown(command: &clap::Command, is_for_zsh: bool) -> clap::Command {
    let hinders = |arg: &clap::Arg| is_for_zsh && command.has_subcommands() && arg.is_positional();
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set() && !hinders(arg)).cloned();
    let below = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    // clap wants what lives as long as the program.
    let mut shown = clap::Command::new(&*command.get_name().to_owned().leak())
        .args(args.collect::<Vec<_>>())
        .subcommands(below.map(|sub| shown(sub, is_for_zsh)).collect::<Vec<_>>());
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        shown = shown.version(&*version.to_owned().leak());
    }
    shown
}

/// Gives a page to mandoc and groff, which must have nothing to say. Without them the test is skipped, or fails where
/// `CI=true`.
pub(crate) fn lint(page: &str, name: &str) {
    let checks: [(&str, &[&str]); 2] = [
        ("mandoc", &["-T", "lint", "-W", "style"]),
        ("groff", &["-man", "-Tutf8", "-ww", "-z", "-rCHECKSTYLE=1"]),
    ];
    for (program, arguments) in checks {
        let child = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                assert!(env::var("CI").as_deref() != Ok("true"), "{program}: {error}; .ci/install has it");
                let _ = writeln!(io::stderr(), "SKIPPED {program} on {name}: {error}");
                continue;
            }
        };
        child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.trim().is_empty(), "{program} on {name}:\n{said}");
    }
}

/// What a real bash offers at the end of `line`, once it has read the completion `script` of `program`.
pub(crate) fn complete_in_bash(script: &str, program: &str, line: &str) -> Vec<String> {
    // The function is asked for as bash would call it: complete -p names it.
    let ask = r#"
        eval "$1" || exit 1
        function=$(complete -p "$2" | sed 's/.*-F \([^ ]*\).*/\1/')
        COMP_LINE=$3 COMP_POINT=${#3}
        read -ra COMP_WORDS <<<"$3"
        [[ $3 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        "$function" "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "-c", ask, "bash"])
        .args([script, program, line])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
