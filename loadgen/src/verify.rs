//! Checks afterwards what a receiver wrote to files.
//!
//! *Promise:* the account of a run from nothing but the receiver's lines and the options that made the records; any
//! template will do that holds the record's text. Several files are one account, in the order given.
//! *Law:* one line in memory at a time. Where the number of records sent is not told, the end of what was sent cannot be
//! missed, and the account says so.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::VerifyArgs;
use crate::corpus::{Corpus, Expected, STREAMS, Verdict};
use crate::ledger::{Ledger, Tally};
use crate::outputs;
use crate::plan::Plan;
use crate::session::{EXIT_FAULTY, Failure, build_corpus};

/// Bytes read at a time.
const READ: usize = 1 << 20;
/// Longest line looked at as a whole; what is longer is looked at in parts, and no record is.
const LONGEST_LINE: u64 = 1 << 20;
/// From so many torn records on, nearly all of them being torn, other options are the likelier cause.
const SUSPICIOUS: u64 = 10;

/// Runs `audit-loadgen verify`.
///
/// # Errors
/// If a file cannot be read or written, or options contradict each other.
pub(crate) fn verify(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    outputs::check([args.json.as_deref()])?;
    let Corpus { mut expected, .. } = build_corpus(&args.corpus)?;
    expected.expect_lines();
    expected.expect_streams(STREAMS);
    let total = args.count.or(expected.total());
    let mut desk = Desk::new(expected, total.unwrap_or(u64::MAX));
    for path in &args.files {
        let failed = |error| Failure::when(format!("reading {}", path.display()))(error);
        if path == Path::new("-") {
            desk.read(io::stdin().lock()).map_err(failed)?;
        } else {
            desk.read(File::open(path).map_err(failed)?).map_err(failed)?;
        }
    }
    let account = desk.close(total);
    let files: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    let json = args.json.as_deref().map(|path| (path, format!("{:#}\n", account.json(&files))));
    outputs::write_account(&account.table(), json)?;
    let well = account.is_clean() || (args.allow_loss && account.tally.received > 0);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAULTY) })
}

/// Judges lines and keeps the account.
struct Desk {
    expected: Expected,
    announced: u64,
    plan: Plan,
    ledger: Ledger,
    lines: u64,
    bytes: u64,
}

impl Desk {
    fn new(expected: Expected, announced: u64) -> Self {
        // Nobody waits for the lines of a file.
        let plan = Plan::paced(0, None);
        Self { expected, announced, plan, ledger: Ledger::default(), lines: 0, bytes: 0 }
    }

    /// Enters all lines of a file; the last may lack its line feed.
    fn read(&mut self, file: impl Read) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(READ, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if n == 0 {
                return Ok(());
            }
            self.bytes += n as u64;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if !text.is_empty() {
                self.enter(text);
            }
        }
    }

    fn enter(&mut self, line: &[u8]) {
        self.lines += 1;
        match self.expected.judge(line, self.announced, &self.plan) {
            Verdict::Whole { number, .. } => {
                self.ledger.whole(number);
            }
            Verdict::Torn(number) => self.ledger.torn(number),
            Verdict::Unmarked => self.ledger.unmarked(),
        }
    }

    /// Closes the account; `total` records were sent, if that is known.
    fn close(self, total: Option<u64>) -> Account {
        let mut ends = self.ledger.ends();
        let streams = ends.iter().filter(|end| **end > 0).count();
        if let (Some(total), 0 | 1) = (total, ends.len()) {
            ends = vec![total];
        }
        let mut tally = self.ledger.tally(&ends);
        if let Some(total) = total {
            // Of several streams only the sum is told: what is missing was at the end of one or another.
            tally.lost += total.saturating_sub(tally.sent);
            tally.sent = tally.sent.max(total);
        }
        Account { tally, streams, total, lines: self.lines, bytes: self.bytes }
    }
}

/// What became of the records.
struct Account {
    tally: Tally,
    streams: usize,
    total: Option<u64>,
    lines: u64,
    bytes: u64,
}

impl Account {
    /// Everything arrived, once, in order, whole.
    fn is_clean(&self) -> bool {
        let Tally { sent, received, duplicated, reordered, torn, .. } = self.tally;
        received == sent && received > 0 && duplicated + reordered + torn == 0
    }

    /// What is likely wrong with the question rather than with the answer.
    fn advice(&self) -> Option<&'static str> {
        let Tally { received, torn, .. } = self.tally;
        if received + torn == 0 {
            Some(
                "no line carries a record of ours: is it the right file, and was the run made with a --trace?",
            )
        } else if torn >= SUSPICIOUS && torn / 9 >= received {
            Some(
                "nearly every record is torn: --seed, --mix, --size, --form, --frames, --eoe or --count probably \
                 differ from the run's, or the receiver cuts or escapes what it writes",
            )
        } else {
            None
        }
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            // A String takes everything.
            let _ = writeln!(out, "{name:<12} {value}");
        };
        let Tally { sent, received, lost, duplicated, reordered, torn, unmarked, .. } = self.tally;
        line("lines", self.lines.to_string());
        let source = match self.total {
            Some(_) => "",
            None => " (the highest number found plus one; --count tells it for certain)",
        };
        line("sent", format!("{sent}{source}"));
        for (name, count) in [
            ("received", received),
            ("lost", lost),
            ("duplicated", duplicated),
            ("reordered", reordered),
            ("torn", torn),
        ] {
            line(name, count.to_string());
        }
        if unmarked > 0 {
            line("unmarked", format!("{unmarked} (lines that carry none of our marks)"));
        }
        if self.streams > 1 {
            line("streams", self.streams.to_string());
        }
        if !self.tally.gaps.is_empty() {
            let gaps: Vec<String> = self.tally.gaps.iter().map(ToString::to_string).collect();
            line("first gaps", gaps.join(" "));
        }
        if let Some(advice) = self.advice() {
            line("NOTE", advice.to_owned());
        }
        out
    }

    fn json(&self, files: &[String]) -> Value {
        json!({
            "files": files,
            "lines": self.lines,
            "bytes": self.bytes,
            "sent": self.tally.sent,
            "sent_known": self.total.is_some(),
            "received": self.tally.received,
            "lost": self.tally.lost,
            "duplicated": self.tally.duplicated,
            "reordered": self.tally.reordered,
            "torn": self.tally.torn,
            "unmarked": self.tally.unmarked,
            "streams": self.streams,
            "gaps": self.tally.gaps.iter().map(|gap| json!([gap.first, gap.last])).collect::<Vec<_>>(),
            "gap_streams": self.tally.gaps.iter().map(|gap| gap.stream).collect::<Vec<_>>(),
            "note": self.advice(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Cursor, Shape};

    fn desk(total: Option<u64>) -> Desk {
        let mut expected = Corpus::generate(Shape::default()).expected;
        expected.expect_lines();
        expected.expect_streams(STREAMS);
        Desk::new(expected, total.unwrap_or(u64::MAX))
    }

    /// `count` lines of each of the streams, one stream after the other, in a template.
    fn lines(streams: &[u16], count: u64, before: &str, after: &str) -> Vec<u8> {
        let mut wire = Corpus::generate(Shape::default()).wire;
        let mut file = Vec::new();
        for &stream in streams {
            wire.resume(Cursor::new(stream));
            for _ in 0..count {
                let range = wire.prepare(0, 0);
                file.extend_from_slice(before.as_bytes());
                file.extend_from_slice(wire.bytes(range).strip_suffix(b"\n").unwrap());
                file.extend_from_slice(after.as_bytes());
                file.push(b'\n');
            }
        }
        file
    }

    fn account(file: &[u8], total: Option<u64>) -> Account {
        let mut desk = desk(total);
        desk.read(file).unwrap();
        desk.close(total)
    }

    #[test]
    fn any_template_will_do() {
        for (before, after) in [
            ("", ""),
            (" ", ""),
            ("Nov 23 09:02:31 web-1 auditd[7]: ", ""),
            ("<182>1 2026-11-23T09:02:31.650Z h auditd - X [meta sequenceId=\"1\"] ", ""),
            ("{ msg=", " } from=10.0.0.1"),
            ("host\tauditd\t", "\t2026-11-23\r"),
        ] {
            let account = account(&lines(&[0], 5000, before, after), Some(5000));
            assert!(account.is_clean(), "{before} {after}\n{}", account.table());
        }
    }

    #[test]
    fn glued_and_lengthened_lines_are_torn() {
        let file = lines(&[0], 3, "", "");
        let glued: Vec<u8> = file.iter().map(|&b| if b == b'\n' { b' ' } else { b }).collect();
        let account_of_glued = account(&glued, Some(3));
        assert_eq!((account_of_glued.tally.torn, account_of_glued.tally.lost), (1, 2));
        assert_eq!(account(&lines(&[0], 3, "", "x"), None).tally.torn, 3);
    }

    #[test]
    fn streams_are_told_apart_and_missing_ends_need_the_count() {
        let file = lines(&[3, 0, 7], 100, "", "");
        let known = account(&file, Some(310));
        assert_eq!((known.tally.sent, known.tally.lost, known.tally.reordered), (310, 10, 0));
        assert_eq!(known.streams, 3, "and not as many as their numbers go up to");
        let guessed = account(&file, None);
        assert!(guessed.is_clean(), "{}", guessed.table());
        assert_eq!(guessed.tally.sent, 300);
        assert!(guessed.table().contains("sent         300 (the highest number found"));
    }

    #[test]
    fn a_wrong_question_is_pointed_out() {
        let advice = |file: &[u8]| account(file, None).advice();
        assert!(advice(b"nothing\nof ours\n").unwrap().contains("no line"));
        assert!(advice(b"").unwrap().contains("no line"));
        assert_eq!(advice(&lines(&[0], 50, "", "")), None);
        let mut other = Corpus::generate(Shape { seed: 2, ..Shape::default() }).wire;
        let mut file = Vec::new();
        for _ in 0..50 {
            let range = other.prepare(0, 0);
            file.extend_from_slice(other.bytes(range));
        }
        assert!(advice(&file).unwrap().contains("--seed"));
    }

    #[test]
    fn a_line_without_end_and_one_without_bounds_are_read() {
        let mut file = lines(&[0], 2, "", "");
        file.pop();
        assert!(account(&file, Some(2)).is_clean());
        let mut endless = vec![b'x'; 3 << 20];
        endless.extend(b"\n");
        endless.extend(lines(&[0], 2, "", ""));
        let account = account(&endless, Some(2));
        assert!(account.is_clean());
        assert_eq!((account.tally.unmarked, account.bytes), (3, endless.len() as u64));
    }
}
