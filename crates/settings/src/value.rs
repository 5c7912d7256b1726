//! A value, which may be a secret, and where it came from.

use std::{fmt, path::PathBuf};

/// A setting's value. It never prints itself: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    text: String,
    /// Whether its template calls it sensitive.
    pub sensitive: bool,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a value came from; later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default of the template.
    Template,
    /// The throwaway VM of this environment.
    Testbed,
    /// A line of the `.env` file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The environment of this process.
    Process,
}

impl Value {
    pub(crate) fn new(text: impl Into<String>, sensitive: bool, origin: Origin) -> Value {
        Value { text: text.into(), sensitive, origin }
    }

    /// What may be shown of it.
    pub fn shown(&self) -> &str {
        if self.sensitive { "[secret]" } else { &self.text }
    }

    /// The text itself. What it is given to must not show it.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive { f.write_str("[redacted]") } else { fmt::Debug::fmt(&self.text, f) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Template => f.write_str("template"),
            Origin::Testbed => f.write_str("testbed"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Process => f.write_str("process environment"),
        }
    }
}
