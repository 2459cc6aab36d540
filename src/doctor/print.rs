//! What the doctor says: for people, for programs, and as an exit status.
//!
//! Law: pure. Notes change no exit status, and people see them when they ask. What was seen may be a stranger's words (a log,
//! a name, a certificate): a terminal obeys none of them, and they begin no line of their own.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::traps::{Finding, Severity};
use crate::printable::printable;

/// Everything there is to say.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    /// The worst first.
    pub(super) findings: &'a [Finding],
    /// What could not be looked at.
    pub(super) unseen: &'a [String],
    /// Traps that were looked for.
    pub(super) looked_for: usize,
    /// How long it took.
    pub(super) took: Duration,
}

#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    looked_for: usize,
    problems: usize,
    warnings: usize,
    notes: usize,
    findings: Vec<JsonFinding<'a>>,
    unseen: &'a [String],
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    id: &'a str,
    severity: &'static str,
    seen: &'a str,
    why: &'a str,
    remedy: &'a str,
}

impl<'a> From<&'a Finding> for JsonFinding<'a> {
    fn from(Finding { id, why, found }: &'a Finding) -> Self {
        Self { id, severity: found.severity.name(), seen: &found.seen, why, remedy: &found.remedy }
    }
}

impl Judged<'_> {
    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.found.severity == severity).count()
    }

    /// 0: nothing worse than notes; 1: warnings; 2: problems.
    pub(super) fn status(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.found.severity).max() {
            None | Some(Severity::Note) => 0,
            Some(Severity::Warning) => 1,
            Some(Severity::Problem) => 2,
        }
    }

    /// For people.
    pub(super) fn text(&self, notes: bool) -> String {
        let mut text = String::new();
        for Finding { id, why, found } in self.findings {
            if found.severity == Severity::Note && !notes {
                continue;
            }
            let _ = writeln!(text, "{} {id}", found.severity.name().to_uppercase());
            let (seen, remedy) = (printable(&found.seen), printable(&found.remedy));
            let _ = writeln!(text, "  seen    {seen}\n  why     {why}\n  remedy  {remedy}\n");
        }
        for sentence in self.unseen {
            let _ = writeln!(text, "not seen: {}", printable(sentence));
        }
        let (problems, warnings) = (self.count(Severity::Problem), self.count(Severity::Warning));
        let counted = match (problems, warnings) {
            (0, 0) => "nothing found".to_owned(),
            _ => format!("{}, {}", plural(problems, "problem"), plural(warnings, "warning")),
        };
        let hidden = match self.count(Severity::Note) {
            0 => String::new(),
            count if notes => format!(", {}", plural(count, "note")),
            count => format!(", {} (--notes)", plural(count, "note")),
        };
        let (looked_for, took) = (self.looked_for, self.took.as_secs_f32());
        let _ = writeln!(text, "{counted}{hidden}; {} looked for in {took:.1} s", plural(looked_for, "trap"));
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let json = Json {
            version: env!("CARGO_PKG_VERSION"),
            looked_for: self.looked_for,
            problems: self.count(Severity::Problem),
            warnings: self.count(Severity::Warning),
            notes: self.count(Severity::Note),
            findings: self.findings.iter().map(JsonFinding::from).collect(),
            unseen: self.unseen,
        };
        // JSON leaves some of them as they are: U+007F to U+009F.
        let text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.lines().map(|line| printable(line) + "\n").collect()
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::traps::Found;

    fn finding(severity: Severity) -> Finding {
        let found = Found { severity, seen: "q_depth is 80".to_owned(), remedy: "q_depth = 8192".to_owned() };
        Finding { id: "queue-depth", why: "records are lost", found }
    }

    #[test]
    fn exit_status_and_text() {
        let unseen = ["the rules: not root".to_owned()];
        let judged = |findings: &[Finding], notes| {
            let judged =
                Judged { findings, unseen: &unseen, looked_for: 60, took: Duration::from_millis(340) };
            (judged.status(), judged.text(notes))
        };
        let (status, text) = judged(&[], false);
        assert_eq!(
            (status, text.as_str()),
            (0, "not seen: the rules: not root\nnothing found; 60 traps looked for in 0.3 s\n")
        );
        let (status, text) = judged(&[finding(Severity::Note)], false);
        assert!(
            status == 0
                && text.contains("nothing found, 1 note (--notes); 60 traps")
                && !text.contains("q_depth"),
            "{text}"
        );
        let (_, text) = judged(&[finding(Severity::Note)], true);
        assert!(text.starts_with("NOTE queue-depth\n  seen    q_depth is 80\n"), "{text}");
        let (status, text) = judged(&[finding(Severity::Warning), finding(Severity::Note)], false);
        assert!(status == 1 && text.contains("0 problems, 1 warning, 1 note (--notes)"), "{text}");
        assert_eq!(judged(&[finding(Severity::Problem), finding(Severity::Warning)], false).0, 2);
    }

    #[test]
    fn a_strangers_words_rule_no_terminal() {
        let seen = "avc: \u{1b}]0;owned\u{7} \u{9b}2J\nnothing found; \u{202e}rac".to_owned();
        let found = Found { severity: Severity::Problem, seen: seen.clone(), remedy: seen.clone() };
        let findings = [Finding { id: "denied", why: "it fails", found }];
        let judged = Judged { findings: &findings, unseen: &[seen], looked_for: 1, took: Duration::ZERO };
        let text = judged.text(false);
        assert_eq!(text.lines().count(), 7, "{text:?}");
        for text in [text, judged.json()] {
            let obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
            assert!(!text.contains(obeyed) && text.contains("owned"), "{text:?}");
        }
    }

    #[test]
    fn json() {
        let findings = [finding(Severity::Problem)];
        let judged = Judged { findings: &findings, unseen: &[], looked_for: 1, took: Duration::ZERO };
        let value: serde_json::Value = serde_json::from_str(&judged.json()).unwrap();
        assert_eq!((&value["problems"], &value["findings"][0]["id"]), (&1.into(), &"queue-depth".into()));
        assert_eq!(value["findings"][0]["severity"], "problem");
    }
}
