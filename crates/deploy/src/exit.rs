//! What went wrong, by whose doing, and the exit code that says so.

use std::{fmt, process::ExitCode};

/// The exit codes, documented for scripts. 0 is done; 2, wrong usage, is clap's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something that should not happen.
    Unexpected = 1,
    /// Refused before anything was changed: settings, a dirty tree, a lock that is held, code that
    /// does not import.
    Refused = 3,
    /// It failed on the way and was undone: what served before serves still.
    Undone = 4,
    /// It failed, and could not be undone either.
    NotUndone = 5,
    /// The host was not reached.
    Unreachable = 6,
    /// A second Ctrl-C: ended at once.
    Interrupted = 130,
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done (also when there was nothing to do)
  1  unexpected error
  2  wrong usage
  3  refused; nothing was changed
  4  failed and undone; what served before still serves
  5  failed and not undone; look at `cargo xtask status`
  6  the host was not reached
  130  interrupted twice, and so ended at once; the next deploy heals";

/// An error with its exit code and, if one is known, what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    pub(crate) hint: Option<String>,
}

/// The result of a verb.
pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A refusal: nothing was changed.
    pub(crate) fn refused(error: impl Into<anyhow::Error>) -> Failure {
        Failure { exit: Exit::Refused, ..Failure::from(error.into()) }
    }

    /// Says what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        let ssh = error.chain().find_map(|it| it.downcast_ref::<exec::Error>());
        // Images are made and moved before anything changes.
        let image = error.chain().any(<dyn std::error::Error>::is::<images::Error>);
        let exit = match ssh {
            Some(error) if error.is_unreachable() => Exit::Unreachable,
            _ if image => Exit::Refused,
            _ => Exit::Unexpected,
        };
        let hint = error.chain().find_map(|it| {
            None.or_else(|| it.downcast_ref::<exec::Error>()?.hint())
                .or_else(|| it.downcast_ref::<images::Error>()?.hint())
                .or_else(|| it.downcast_ref::<testbed::Error>()?.hint())
                .or_else(|| it.downcast_ref::<dagster::Error>()?.hint())
        });
        Failure { exit, error, hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.error)?;
        for cause in self.error.chain().skip(1) {
            write!(f, "\n  caused by: {}", cause.to_string().replace('\n', "\n    "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {}", hint.replace('\n', "\n      "))?;
        }
        Ok(())
    }
}
