//! What the house's Markdown says that can be tried: links, and command lines.
//!
//! Law: knows no program; audit-loadgen's own tests use this file, too.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each user takes its part; a failed helper is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Every Markdown file of the repository, by its path from `root`.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, &mut found);
    found.sort();
    found
}

/// A line of code: in a block, or between backticks.
struct Code {
    line: usize,
    text: String,
    /// Of a block; else within a sentence, where it may be a piece of something.
    is_block: bool,
}

fn code(text: &str) -> Vec<Code> {
    let mut found: Vec<Code> = Vec::new();
    let mut fenced = false;
    let mut continues = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            let (line, more) = match line.strip_suffix('\\') {
                Some(line) => (line, true),
                None => (line, false),
            };
            match found.last_mut().filter(|_| continues) {
                Some(last) => last.text += line,
                None => found.push(Code { line: at + 1, text: line.to_owned(), is_block: true }),
            }
            continues = more;
        } else {
            let parts = line.split('`').skip(1).step_by(2);
            found.extend(parts.map(|part| Code { line: at + 1, text: part.to_owned(), is_block: false }));
        }
    }
    found
}

/// The words of a shell's line up to where a pipe, a redirection, a comment or another command begins. Variables and
/// substitutions become a word that any value may be.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                current.get_or_insert_default();
            }
            (None, '$') if chars.peek() == Some(&'(') => {
                chars.by_ref().take_while(|c| *c != ')').for_each(drop);
                current.get_or_insert_default().push('1');
            }
            (None, ' ' | '\t') => words.extend(current.take()),
            (None, '#') if current.is_none() => break,
            (None, '|' | '>' | '<' | ';' | '&' | ')') => {
                // `2>file`: the number is no word.
                current =
                    current.filter(|word| !(c == '>' && word.bytes().all(|byte| byte.is_ascii_digit())));
                break;
            }
            (_, c) => current.get_or_insert_default().push(c),
        }
    }
    words.extend(current);
    words
}

/// Every command line of `program` in the house's Markdown: where it stands (`docs/x.md:7`), and its words. In a sentence
/// only those with a further word count, and none with a `...`.
pub(crate) fn command_lines(root: &Path, program: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for file in files(root) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().display().to_string();
        // History speaks of options that there were.
        if name == "CHANGELOG.md" || name.starts_with("docs/decisions") {
            continue;
        }
        for code in code(&text) {
            let place = format!("{name}:{}", code.line);
            for part in commands(&code.text) {
                let mut words = words(part);
                // What stands before a command: a prompt, variables, programs that run others.
                let before = words
                    .iter()
                    .take_while(|word| {
                        ["$", "#", "sudo", "env", "time", "nice", "exec"].contains(&word.as_str())
                            || word.contains('=') && !word.starts_with('-')
                    })
                    .count();
                words.drain(..before);
                let is_it = words
                    .first()
                    .is_some_and(|word| word == program || word.ends_with(&format!("/{program}")));
                let is_path_alone = words.len() == 1 && !code.is_block;
                if is_it
                    && !is_path_alone
                    && !words.iter().any(|word| word.contains("...") && !word.contains(':'))
                {
                    found.push((place.clone(), words));
                }
            }
        }
    }
    found
}

/// The commands of a line.
fn commands(line: &str) -> Vec<&str> {
    line.split("&&")
        .flat_map(|part| part.split(" | "))
        .flat_map(|part| part.split("; "))
        .map(str::trim)
        .collect()
}

/// Every relative link of the house's Markdown: where it stands, and what it names, with `#anchor` if it has one.
pub(crate) fn links(root: &Path) -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    for file in files(root) {
        let text = fs::read_to_string(&file).unwrap();
        let mut fenced = false;
        for (at, line) in text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for part in line.split("](").skip(1) {
                let Some((target, _)) = part.split_once(')') else { continue };
                if !target.contains("://") && !target.starts_with("mailto:") {
                    let place = format!("{}:{}", file.strip_prefix(root).unwrap().display(), at + 1);
                    found.push((place, file.clone(), target.to_owned()));
                }
            }
        }
    }
    found
}

/// The anchors of a page, as forges make them of its headings.
pub(crate) fn anchors(markdown: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        fenced ^= line.starts_with("```");
        if fenced || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        found.push(heading.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect());
    }
    found
}
