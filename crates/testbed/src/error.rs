//! What can go wrong with a testbed.

use std::{io, path::PathBuf};

/// Why there is no testbed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot be part of a container's name.
    #[error("`{name}` cannot name a testbed: only lower-case letters, digits and dashes can")]
    #[non_exhaustive]
    Name {
        /// The name.
        name: String,
    },
    /// A file of the testbed cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An image was not made, pulled or pushed.
    #[error("cannot make {what}")]
    #[non_exhaustive]
    Image {
        /// The image, in words.
        what: String,
        /// Why.
        source: Box<images::Error>,
    },
    /// The engine is not there.
    #[error("cannot make a throwaway VM on this machine")]
    #[non_exhaustive]
    NoEngine {
        /// Why.
        source: Box<images::Error>,
    },
    /// The engine refused something.
    #[error("the Docker engine of this machine did not {what}")]
    #[non_exhaustive]
    Engine {
        /// What it was asked.
        what: String,
        /// Its answer.
        source: bollard::errors::Error,
    },
    /// A program of this machine failed.
    #[error("cannot {what}")]
    #[non_exhaustive]
    Program {
        /// What it was for.
        what: String,
        /// Why.
        source: exec::Error,
    },
    /// The VM or the registry was started, and does not answer.
    #[error("`{container}` does not answer{}", log.iter().fold(String::new(), |all, line| all + "\n  " + line))]
    #[non_exhaustive]
    Silent {
        /// The container.
        container: String,
        /// The last lines it said.
        log: Vec<String>,
    },
}

impl Error {
    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Name { .. } => Some("give the environment another name".to_owned()),
            Error::NoEngine { .. } => Some("see what is missing: cargo xtask doctor".to_owned()),
            Error::Silent { container, .. } => {
                Some(format!("see all it said: docker logs {container}"))
            }
            _ => None,
        }
    }

    pub(crate) fn image(what: impl Into<String>) -> impl FnOnce(images::Error) -> Error {
        let what = what.into();
        |source| Error::Image { what, source: Box::new(source) }
    }

    pub(crate) fn engine(what: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Error {
        let what = what.into();
        |source| Error::Engine { what, source }
    }
}
