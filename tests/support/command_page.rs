//! A command line, as clap knows it, into pieces of its manual page.
//!
//! Promise: every option, argument and subcommand that is not hidden has an entry, in the order of `--help`. Law: knows no
//! program; audit-loadgen's own tests use this file, too.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each user takes its part; a failed helper is a failed test"
)]

use clap::{Arg, Command};

use super::roff::{Block, inline};

/// Fills the slots `synopsis`, `options` and `commands` of a page's source; `other` fills the rest.
pub(crate) fn fill(source: Vec<Block>, command: &Command, other: impl Fn(&str) -> Vec<Block>) -> Vec<Block> {
    let mut command = command.clone();
    command.build();
    let fill = |block| match block {
        Block::Slot(words) => match words.as_str() {
            "synopsis" => synopsis(&command, command.get_name()),
            "options" => options(&command, None),
            "commands" => commands(&command, &command, ""),
            words if words.starts_with("date ") => Vec::new(),
            words => other(words),
        },
        block => vec![block],
    };
    source.into_iter().flat_map(fill).collect()
}

fn is_shown(arg: &&Arg) -> bool {
    !arg.is_hide_set()
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
}

/// One line for the command itself and for each that does something.
fn synopsis(command: &Command, path: &str) -> Vec<Block> {
    let mut found = Vec::new();
    if !command.is_subcommand_required_set() {
        let mut line = format!("{} [\\fIOPTION\\fR]...", inline(&format!("`{path}`")));
        for arg in command.get_positionals().filter(is_shown) {
            let mut text = format!("\\fI{}\\fR", value_names(arg).replace('-', "\\-"));
            if arg.is_last_set() {
                text = format!("\\-\\- {text}");
            }
            if !arg.is_required_set() {
                text = format!("[{text}]");
            }
            if arg.get_num_args().is_some_and(|range| range.max_values() > 1) || takes_many(arg) {
                text += "...";
            }
            line += &format!(" {text}");
        }
        found.push(Block::Synopsis(line));
    }
    for sub in subcommands(command) {
        found.extend(synopsis(sub, &format!("{path} {}", sub.get_name())));
    }
    found
}

fn takes_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

fn value_names(arg: &Arg) -> String {
    match arg.get_value_names() {
        Some(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.is_positional() || arg.get_action().takes_values()
}

fn term(arg: &Arg) -> String {
    let mut names = Vec::new();
    names.extend(arg.get_short().map(|short| format!("`-{short}`")));
    names.extend(arg.get_long().map(|long| format!("`--{long}`")));
    names.extend(arg.get_visible_aliases().into_iter().flatten().map(|alias| format!("`--{alias}`")));
    match (takes_value(arg), names.is_empty()) {
        (true, true) => format!("*{}*", value_names(arg)),
        (true, false) => format!("{} *{}*", names.join(", "), value_names(arg)),
        (false, _) => names.join(", "),
    }
}

/// What `--help` says, its values and its default.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut said: Vec<_> = help.split("\n\n").map(|part| part.trim().replace('\n', " ")).collect();
    let values: Vec<_> = match takes_value(arg) {
        true => arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect(),
        false => Vec::new(),
    };
    let show = |value: &clap::builder::PossibleValue| match value.get_help() {
        Some(help) => format!("`{}` ({help})", value.get_name()),
        None => format!("`{}`", value.get_name()),
    };
    if !values.is_empty() {
        said.push(format!("One of {}.", values.iter().map(show).collect::<Vec<_>>().join(", ")));
    }
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if takes_value(arg)
        && !defaults.is_empty()
        && let Some(first) = said.first_mut()
    {
        *first = format!("{first} [default: {}]", defaults.join(", "));
    }
    said.join("\n")
}

fn same(a: &Arg, b: &Arg) -> bool {
    term(a) == term(b) && meaning(a) == meaning(b)
}

/// The options and arguments of a command; those that `of_all` has, too, by name alone.
fn options(command: &Command, of_all: Option<&Command>) -> Vec<Block> {
    let known = |arg: &Arg| of_all.is_some_and(|all| all.get_arguments().any(|other| same(arg, other)));
    let is_usual = |arg: &&Arg| ["help", "version"].contains(&arg.get_id().as_str());
    let shown = || command.get_arguments().filter(is_shown).filter(|arg| of_all.is_none() || !is_usual(arg));
    let mut found = Vec::new();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in shown().filter(|arg| !known(arg)) {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    headings.sort();
    for heading in headings {
        match heading.filter(|_| of_all.is_none()) {
            Some("Options" | "Arguments") | None => {}
            Some(heading) => found.push(Block::Subsection(heading.to_owned())),
        }
        let own = shown().filter(|arg| !known(arg) && arg.get_help_heading() == heading);
        found.extend(own.map(|arg| Block::Entry(term(arg), meaning(arg))));
    }
    let Some(all) = of_all else { return found };
    let shared: Vec<_> = shown().filter(|arg| known(arg)).collect();
    let missing = all.get_arguments().filter(is_shown).filter(|arg| !is_usual(arg) && !arg.is_positional());
    let takes_all = missing.into_iter().all(|arg| shared.iter().any(|other| same(arg, other)));
    if takes_all {
        found.push(Block::Text("Takes every option of the section OPTIONS.".to_owned()));
    } else if !shared.is_empty() {
        let name = |arg: &&Arg| arg.get_long().map_or_else(|| value_names(arg), |long| format!("`--{long}`"));
        let names: Vec<_> = shared.iter().map(name).collect();
        found.push(Block::Text(format!("As above: {}.", names.join(", "))));
    }
    found
}

/// A subsection for each subcommand that does something.
fn commands(command: &Command, all: &Command, path: &str) -> Vec<Block> {
    let mut found = Vec::new();
    for sub in subcommands(command) {
        let path = format!("{path} {}", sub.get_name()).trim().to_owned();
        if !sub.is_subcommand_required_set() {
            found.push(Block::Subsection(path.clone()));
            let about = sub.get_long_about().or(sub.get_about()).map(ToString::to_string).unwrap_or_default();
            found.extend(
                about.split("\n\n").map(|part| Block::Text(with_full_stop(&part.replace('\n', " ")))),
            );
            found.extend(options(sub, Some(all)));
        }
        found.extend(commands(sub, all, &path));
    }
    found
}

fn with_full_stop(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', ')', ':']) { text.to_owned() } else { format!("{text}.") }
}

/// Every long option of a command and of what is below it, hidden ones left out.
pub(crate) fn long_options(command: &Command) -> Vec<String> {
    let mut command = command.clone();
    command.build();
    fn walk(command: &Command, found: &mut Vec<String>) {
        found.extend(command.get_arguments().filter(is_shown).filter_map(Arg::get_long).map(str::to_owned));
        subcommands(command).for_each(|sub| walk(sub, found));
    }
    let mut found = Vec::new();
    walk(&command, &mut found);
    found.sort();
    found.dedup();
    found
}
