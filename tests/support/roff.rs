//! Manual pages: Markdown, as far as the house uses it, into the macros of man(7).
//!
//! Promise: what goes in as a [`Block`] comes out as lines that man(1), groff and mandoc take without a warning, none longer than
//! 79 bytes where a blank allows it. Law: text in, text out; no file, no command line. audit-loadgen's own tests use this
//! file, too: it knows nothing of either program.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each user takes its part; a failed helper is a failed test"
)]

use std::fmt::Write as _;

/// A piece of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    /// `## TEXT`.
    Section(String),
    /// `### TEXT`.
    Subsection(String),
    /// Inline Markdown.
    Text(String),
    /// A term and what it means; both inline Markdown. Paragraphs of the meaning are separated by a line feed.
    Entry(String, String),
    /// `- TEXT`.
    Bullet(String),
    /// As it is.
    Code(String),
    /// A line of the synopsis: roff already.
    Synopsis(String),
    /// `<!-- WORDS -->`: to be replaced by something else.
    Slot(String),
}

/// Reads Markdown. The title (`# ...`) is left out.
pub(crate) fn blocks(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(words) = line.strip_prefix("<!-- ") {
            found.push(Block::Slot(words.trim_end_matches(" -->").to_owned()));
        } else if let Some(text) = line.strip_prefix("### ") {
            found.push(Block::Subsection(text.to_owned()));
        } else if let Some(text) = line.strip_prefix("## ") {
            found.push(Block::Section(text.to_owned()));
        } else if line.starts_with("```") {
            let code: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            found.push(Block::Code(code.join("\n")));
        } else if line.starts_with('|') {
            let mut table = vec![cells(line)];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                table.push(cells(row));
            }
            found.extend(entries(&table));
        } else if let Some(text) = line.strip_prefix("- ") {
            let mut text = text.to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with("  ")) {
                let _ = write!(text, " {}", more.trim());
            }
            let split = text.strip_prefix('`').and_then(|text| text.split_once("`: "));
            found.push(match split {
                Some((term, meaning)) => Block::Entry(format!("`{term}`"), meaning.to_owned()),
                None => Block::Bullet(text),
            });
        } else if !line.is_empty() && !line.starts_with("# ") {
            let mut text = line.to_owned();
            let is_more = |line: &&str| {
                !line.is_empty()
                    && !line.starts_with(['|', '#', '<'])
                    && !line.starts_with("- ")
                    && !line.starts_with("```")
            };
            while let Some(more) = lines.next_if(is_more) {
                let _ = write!(text, " {more}");
            }
            found.push(Block::Text(text));
        }
    }
    found
}

/// The text between `## HEADING` and the next heading of that rank; of an empty heading, what stands before the first.
pub(crate) fn section<'a>(markdown: &'a str, heading: &str) -> &'a str {
    let from = match heading {
        "" => 0,
        _ => {
            let line = format!("\n## {heading}\n");
            markdown.find(&line).unwrap_or_else(|| panic!("no heading {heading}")) + line.len()
        }
    };
    let rest = &markdown[from..];
    rest.find("\n## ").map_or(rest, |to| &rest[..=to])
}

/// The cells of a table's row. A bar within code does not end one if it is written `\|`.
pub(crate) fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{1}");
    row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// A table as terms and meanings: its first column says what, the others are named by the head; a key's last column
/// speaks for itself.
fn entries(table: &[Vec<String>]) -> Vec<Block> {
    let head = &table[0];
    let is_of_keys = head[0] == "key";
    let body = |row: &Vec<String>| {
        let mut said = Vec::new();
        for (at, cell) in row.iter().enumerate().skip(1).filter(|(_, cell)| !cell.is_empty()) {
            let name = head.get(at).map_or("", String::as_str);
            said.push(match name {
                _ if is_of_keys && at + 1 == head.len() => cell.clone(),
                "" => cell.clone(),
                _ if head.len() == 2 => cell.clone(),
                name => format!("{}{}: {cell}.", name[..1].to_uppercase(), &name[1..]),
            });
        }
        Block::Entry(row[0].clone(), said.join("\n"))
    };
    let mut found = Vec::new();
    if let [what, says] = &head[..]
        && !what.is_empty()
    {
        found.push(Block::Text(format!("*{}*: {says} ...", plain(what))));
    }
    found.extend(table.iter().skip(2).map(body));
    found
}

/// What stands in the head of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Title<'a> {
    pub(crate) name: &'a str,
    pub(crate) section: u8,
    /// The day of the last change to the text, as `2026-11-28`.
    pub(crate) date: &'a str,
    pub(crate) version: &'a str,
    /// Of what is the page a part.
    pub(crate) manual: &'a str,
    /// Where it is made from.
    pub(crate) source: &'a str,
}

/// The page.
pub(crate) fn page(title: Title<'_>, blocks: &[Block]) -> String {
    let Title { name, section, date, version, manual, source } = title;
    let mut page = format!(
        ".\\\" Made from {source} and the program's own options by packaging/manuals.\n\
         .nr HY 0\n.TH {} {section} {date} \"audit-relay {version}\" \"{manual}\"\n.nh\n.ad l\n.ss 12 0\n",
        name.to_uppercase()
    );
    let mut after_heading = false;
    for block in blocks {
        let heading = matches!(block, Block::Section(_) | Block::Subsection(_));
        match block {
            Block::Section(text) => line(&mut page, &format!(".SH {}", quoted(&plain(text).to_uppercase()))),
            Block::Subsection(text) => line(&mut page, &format!(".SS {}", quoted(&inline(text)))),
            Block::Text(text) => {
                if !after_heading {
                    line(&mut page, ".PP");
                }
                wrapped(&mut page, &inline(text));
            }
            Block::Entry(term, meaning) => {
                line(&mut page, ".TP");
                line(&mut page, &safe(&inline(term)));
                for (at, part) in meaning.split('\n').enumerate() {
                    if at > 0 {
                        line(&mut page, ".br");
                    }
                    wrapped(&mut page, &inline(part));
                }
            }
            Block::Bullet(text) => {
                line(&mut page, ".IP \\(bu 2");
                wrapped(&mut page, &inline(text));
            }
            Block::Code(text) => {
                if !after_heading {
                    line(&mut page, ".PP");
                }
                line(&mut page, ".in +4n\n.EX");
                text.lines().for_each(|text| line(&mut page, &safe(&escaped(text, true))));
                line(&mut page, ".EE\n.in");
            }
            Block::Synopsis(text) => {
                if !after_heading {
                    line(&mut page, ".br");
                }
                wrapped(&mut page, text);
            }
            Block::Slot(words) => panic!("nothing fills <!-- {words} -->"),
        }
        after_heading = heading;
    }
    assert!(page.is_ascii(), "not ASCII: {:?}", page.lines().find(|line| !line.is_ascii()));
    page
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn quoted(text: &str) -> String {
    if text.contains(' ') { format!("\"{text}\"") } else { text.to_owned() }
}

/// A text line must not begin as a request does.
fn safe(text: &str) -> String {
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text.to_owned() }
}

/// Breaks at blanks.
fn wrapped(page: &mut String, text: &str) {
    let mut current = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !current.is_empty() && current.len() + 1 + word.len() > 79 {
            line(page, &safe(&current));
            current.clear();
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current += word;
    }
    line(page, &safe(&current));
}

/// Markdown without its marks.
pub(crate) fn plain(text: &str) -> String {
    links(text).replace(['`', '*'], "")
}

/// Inline Markdown: `code`, **strong**, *emphasis*, [links](to).
pub(crate) fn inline(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in links(text).split('`').enumerate() {
        if at % 2 == 1 {
            let _ = write!(out, "\\fB{}\\fR", escaped(part, true));
            continue;
        }
        for (at, part) in part.split("**").enumerate() {
            if at % 2 == 1 {
                let _ = write!(out, "\\fB{}\\fR", escaped(part, false));
                continue;
            }
            for (at, part) in part.split('*').enumerate() {
                let part = escaped(part, false);
                out += &if at % 2 == 1 { format!("\\fI{part}\\fR") } else { part };
            }
        }
    }
    out
}

/// Links become their text; links to the house's other pages are named by the file.
fn links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let linked = after.split_once("](").and_then(|(name, to)| Some((name, to.split_once(')')?.1)));
        out += before;
        match linked.filter(|(name, _)| !name.contains(['[', ']', '`'])) {
            Some((name, after)) => {
                out += name;
                rest = after;
            }
            None => {
                out.push('[');
                rest = after;
            }
        }
    }
    out + rest
}

/// Text that roff prints as it is; `typed`: to be copied to a terminal, so every sign is the one on the keyboard. A hyphen is
/// one always: groff breaks lines at its own kind, in the middle of names of files.
fn escaped(text: &str, typed: bool) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out += "\\e",
            '-' => out += "\\-",
            '\'' if typed => out += "\\(aq",
            '^' if typed => out += "\\(ha",
            '~' if typed => out += "\\(ti",
            '"' if typed => out += "\\(dq",
            c => out.push(c),
        }
    }
    out
}
