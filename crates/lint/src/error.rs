//! Why a lint could not be made. A finding is no error.

use std::{io, path::PathBuf};

/// Why nothing was judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program could not be run, or failed: `git`, `uv`.
    #[error(transparent)]
    Exec(#[from] exec::Error),
    /// A file or folder of the lint's own, or one to be mended.
    #[error("cannot {verb} `{}`", path.display())]
    #[non_exhaustive]
    File {
        /// What was to be done.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// A path that was asked for, and that git does not know.
    #[error("`{}` is not in git's index", path.display())]
    #[non_exhaustive]
    Untracked {
        /// The path.
        path: PathBuf,
    },
    /// The index has no `uv.lock`, which names the linters' versions, or one in conflict.
    #[error("`uv.lock` is not in git's index, or in conflict there")]
    NoLock,
    /// `uv`, which installs what `uv.lock` names.
    #[error("`uv` is not here and could not be installed")]
    Uv(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Git or a tool said something that is not understood.
    #[error("`{program}` answered what is not understood: {what}")]
    #[non_exhaustive]
    Strange {
        /// Who said it.
        program: &'static str,
        /// What.
        what: String,
    },
    /// A hook that somebody else made.
    #[error("`{}` exists and is not ours", path.display())]
    #[non_exhaustive]
    ForeignHook {
        /// The hook.
        path: PathBuf,
    },
    /// A hook that somebody else made, where one was put aside for ours before.
    #[error("`{}` is not ours, and `{}` is there already", path.display(), before.display())]
    #[non_exhaustive]
    TwoHooks {
        /// The hook.
        path: PathBuf,
        /// The one that was put aside.
        before: PathBuf,
    },
    /// A folder of hooks in which each finds its work by the name that it is called by.
    #[error("the hooks in `{}` are husky's", path.display())]
    #[non_exhaustive]
    Husky {
        /// The folder.
        path: PathBuf,
    },
    /// The folder of hooks belongs to more than this repository.
    #[error("`core.hooksPath` names `{}`, outside this repository", path.display())]
    #[non_exhaustive]
    ForeignHooksPath {
        /// The folder.
        path: PathBuf,
    },
}

impl Error {
    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Exec(error) => error.hint(),
            Error::Untracked { .. } => {
                Some("what is judged is the index: `git add` it first".to_owned())
            }
            Error::NoLock => {
                Some("make it with `uv lock`, or resolve it; then `git add uv.lock`".to_owned())
            }
            Error::ForeignHook { .. } => Some("there is nothing of ours to remove".to_owned()),
            Error::TwoHooks { .. } => {
                Some("remove the one of the two that is no longer wanted".to_owned())
            }
            Error::Husky { .. } => {
                Some("add the line `cargo xtask lint` to `.husky/pre-commit`".to_owned())
            }
            Error::ForeignHooksPath { .. } => Some(
                "a hook there would run in other repositories too; call `cargo xtask lint` from \
                 your own hook"
                    .to_owned(),
            ),
            Error::Uv(_) | Error::File { .. } | Error::Strange { .. } => None,
        }
    }

    /// An error of [`Error::File`], for `map_err`.
    pub(crate) fn file(
        verb: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::File { verb, path: path.into(), source }
    }
}
