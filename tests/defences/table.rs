//! The table of defences, read from its file.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One defence and what shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defence {
    /// What it is called; no two are called the same.
    pub(crate) name: String,
    /// The file that it stands in, below the root of the tree.
    pub(crate) file: PathBuf,
    /// Its text, which stands there once.
    pub(crate) find: String,
    /// What stands in its place when it is taken out.
    pub(crate) put: String,
    /// Without it nothing works, so that other tests would fail as well: it is taken out alone, whatever is asked for.
    #[serde(default)]
    pub(crate) alone: bool,
    /// The tests that must fail then, each of them: `TARGET::NAME`, or `lib::PATH::TO::NAME`.
    pub(crate) tests: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    defence: Vec<Defence>,
}

impl Defence {
    /// All of them, in the file's order.
    pub(crate) fn all(root: &Path) -> Vec<Self> {
        let text = fs::read_to_string(root.join("tests/defences/table.toml")).unwrap();
        toml::from_str::<Table>(&text).unwrap().defence
    }

    /// The text of `root`'s file without the defence.
    ///
    /// # Errors
    /// A sentence: its text is not there, or more than once.
    pub(crate) fn taken_out(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.put, 1)),
            count => Err(format!("{}: its text stands {count} times in {}", self.name, self.file.display())),
        }
    }

    /// Target and name of each test.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tests.iter().map(|test| test.split_once("::").unwrap_or((test, "")))
    }
}
