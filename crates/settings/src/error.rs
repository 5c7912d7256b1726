//! What is wrong with an environment's settings: all of it at once.

use std::{fmt, io, path::PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file it is in, or belongs into.
    pub path: PathBuf,
    /// The line, from 1; none where a line is missing.
    pub line: Option<usize>,
    /// What is wrong and what to do. It never shows a value of a secret.
    pub message: String,
}

/// Why the settings of an environment could not be resolved or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no template of this name.
    #[error("there is no environment `{environment}`{}; there are {}", did_you_mean(similar.as_deref()), known.join(", "))]
    #[non_exhaustive]
    Unknown {
        /// The name that was given.
        environment: String,
        /// The most alike of those that exist.
        similar: Option<String>,
        /// Those that exist.
        known: Vec<String>,
    },
    /// No template has such a key.
    #[error("no template has `{key}`{}", did_you_mean(similar.as_deref()))]
    #[non_exhaustive]
    Key {
        /// The key that was given.
        key: String,
        /// The most alike of those that exist.
        similar: Option<String>,
    },
    /// Files or values are wrong.
    #[error("the settings are not right:{}", problems.iter().fold(String::new(), |all, it| format!("{all}\n  {it}")))]
    #[non_exhaustive]
    Invalid {
        /// All that is wrong.
        problems: Vec<Problem>,
    },
    /// The file of values could not be written.
    #[error("cannot write `{}`", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// `, did you mean …?` for a name that is nearly right.
pub(crate) fn did_you_mean(similar: Option<&str>) -> String {
    similar.map(|it| format!(", did you mean `{it}`?")).unwrap_or_default()
}

/// The most alike name, if one is alike.
pub(crate) fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|it| (strsim::jaro_winkler(name, it), it))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, it)| it.to_owned())
}
