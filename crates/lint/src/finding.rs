//! What a lint tells.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::linter::LINTERS;

/// Something a linter does not like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The file, from the repository's root.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// The line, from 1; none if it is the whole file.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
    /// Whose finding it is.
    pub linter: String,
    /// The linter's name for this kind of finding.
    pub code: String,
    /// What it says.
    pub message: String,
}

/// A linter that could not judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Crash {
    /// Which.
    pub linter: &'static str,
    /// What it said last.
    pub said: String,
}

/// The outcome of a lint.
#[derive(Debug, Default)]
pub struct Report {
    /// All findings, by file and line.
    pub findings: Vec<Finding>,
    /// The linters that could not judge.
    pub crashes: Vec<Crash>,
    /// How many files were in question.
    pub files: usize,
    /// How many times a linter had to judge a file, or the program, that it had not seen before.
    pub judged: usize,
    /// The files that were mended.
    pub fixed: Vec<PathBuf>,
    /// The files that were to be mended and were not: they are staged in part, links, or no files
    /// any more.
    pub left: Vec<PathBuf>,
    /// The mended files that are as they were in the index, since they had not been staged.
    pub unstaged: Vec<PathBuf>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// The one command that goes on from here, if there is one; `fix` is the one that mends what
    /// was judged.
    pub fn next(&self, fix: &str) -> Option<String> {
        let mendable =
            |it: &Finding| LINTERS.iter().any(|of| of.fix.is_some() && of.name == it.linter);
        if !self.unstaged.is_empty() {
            Some("look at what was mended, and stage it: git add --patch".to_owned())
        } else if self.fixed.is_empty()
            && self.left.is_empty()
            && self.findings.iter().any(mendable)
        {
            Some(format!("to mend formatting and imports: {fix}"))
        } else {
            None
        }
    }

    /// The exit code: 0 clean, 1 findings, 3 a linter could not judge.
    pub fn exit_code(&self) -> u8 {
        match (self.crashes.is_empty(), self.findings.is_empty()) {
            (false, _) => 3,
            (true, false) => 1,
            (true, true) => 0,
        }
    }
}

/// JSON has no bytes: what is not UTF-8 in a name is shown as U+FFFD.
fn lossy<S: serde::Serializer>(path: &std::path::Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}
