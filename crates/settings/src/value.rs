//! A value, which may be a secret, and where it came from.

use std::{fmt, path::PathBuf};

use crate::{Reference, Secret};

/// A setting's value. It never prints itself: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    text: String,
    /// Whether its template calls it sensitive.
    pub sensitive: bool,
    /// Where it came from.
    pub origin: Origin,
    /// Of a secret that is kept elsewhere: where.
    reference: Option<Reference>,
    /// Whether the text is the reference still, and not what is kept there.
    unread: bool,
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
    /// A release on the host, which has it.
    Release,
}

impl Value {
    pub(crate) fn new(text: impl Into<String>, sensitive: bool, origin: Origin) -> Value {
        let text = text.into();
        let reference = Reference::parse(&text).and_then(Result::ok).filter(|_| sensitive);
        let unread = reference.is_some();
        Value { text, sensitive, origin, reference, unread }
    }

    /// Of a release: what it was resolved to then.
    pub fn released(text: String, sensitive: bool) -> Value {
        Value { text, sensitive, origin: Origin::Release, reference: None, unread: false }
    }

    /// Of a release: a secret that is kept elsewhere, and that the host reads anew.
    pub fn referred(reference: &str) -> Value {
        Value::new(reference, true, Origin::Release)
    }

    /// What may be shown of it.
    pub fn shown(&self) -> String {
        match &self.reference {
            Some(reference) => format!("[secret] {reference}"),
            None if self.sensitive => "[secret]".to_owned(),
            None => self.text.clone(),
        }
    }

    /// Of a secret that is kept elsewhere: where, with the version once it is read.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// Whether it is kept elsewhere and was not looked up yet.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Puts what was looked up into its place.
    pub(crate) fn fill(&mut self, secret: &Secret) {
        self.text.clone_from(&secret.text);
        self.unread = false;
        if let Some(reference) = &mut self.reference {
            reference.version.clone_from(&secret.version);
        }
    }

    /// Says which version is meant of a secret that stays unread here.
    pub(crate) fn pin(&mut self, version: &str) {
        if let Some(reference) = &mut self.reference {
            reference.version = Some(version.to_owned());
            self.text = reference.to_string();
        }
    }

    /// The text itself; the reference, while it is unread. What it is given to must not show it.
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
            Origin::Release => f.write_str("release"),
        }
    }
}
