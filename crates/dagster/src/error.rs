//! What can go wrong between us and Dagster.

use crate::{PythonError, RunId, RunStatus};

/// Why Dagster gave no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or it broke.
    #[error("Dagster does not answer at `{url}`")]
    Unreachable {
        /// What was asked.
        url: String,
        /// How the connection failed.
        source: reqwest::Error,
    },

    /// An HTTP status without an answer of Dagster in it.
    #[error("Dagster answered `{query}` with HTTP status {status}: {body}")]
    Http {
        /// The query's name.
        query: &'static str,
        /// The status code.
        status: u16,
        /// The beginning of the body.
        body: String,
    },

    /// Dagster did not understand the query.
    #[error("Dagster does not understand the query `{query}`: {message}")]
    GraphQl {
        /// The query's name.
        query: &'static str,
        /// Dagster's complaint.
        message: String,
    },

    /// The answer has not the shape this program knows.
    #[error("Dagster's answer to `{query}` is not understood")]
    Answer {
        /// The query's name.
        query: &'static str,
        /// What is missing or odd.
        source: serde_json::Error,
    },

    /// An exception inside Dagster.
    #[error("Dagster failed to answer `{query}`")]
    Python {
        /// The query's name.
        query: &'static str,
        /// The exception.
        source: Box<PythonError>,
    },

    /// Dagster understood, and declined.
    #[error("Dagster refused `{query}`: {message}")]
    Refused {
        /// The query's name.
        query: &'static str,
        /// The GraphQL type of the refusal.
        kind: String,
        /// Dagster's reason.
        message: String,
    },

    /// The code location is not served, so nothing can be asked of it.
    #[error("Dagster does not serve the code location `{location}`")]
    NotServed {
        /// The location's name.
        location: String,
        /// Why it failed to load, if it did.
        source: Option<Box<PythonError>>,
    },

    /// The code has no such job.
    #[error("the code location `{location}` has no job `{job}`; it has {known}")]
    NoJob {
        /// The location's name.
        location: String,
        /// The job that was asked for.
        job: String,
        /// The jobs there are, in one line.
        known: String,
    },

    /// The run configuration does not fit the job.
    #[error("the run configuration does not fit the job `{job}`: {problems}")]
    RunConfig {
        /// The job's name.
        job: String,
        /// Dagster's complaints, in one line.
        problems: String,
    },

    /// A run ended, and not with success.
    #[error("the run `{run}` of the job `{job}` ended with {status}{detail}")]
    RunFailed {
        /// The run.
        run: RunId,
        /// The job's name.
        job: String,
        /// How it ended.
        status: RunStatus,
        /// Where, with a separator before it; may be empty.
        detail: String,
        /// The exception that ended it.
        source: Option<Box<PythonError>>,
    },

    /// The new code fails to load in the platform.
    #[error("Dagster cannot load the code location `{location}`")]
    LoadFailed {
        /// The location's name.
        location: String,
        /// The exception.
        source: Box<PythonError>,
    },

    /// Something did not come about in time.
    #[error("after {seconds} s still waiting for {what}: {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        last: String,
    },
}

impl Error {
    /// Whether the same question may well be answered a moment later: a server that is starting,
    /// a connection that broke, a code server that is being replaced.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Unreachable { .. } => true,
            Error::Http { status, .. } => *status >= 500,
            Error::Python { source, .. } => source.is_unreachable(),
            Error::NotServed { source, .. } => source.as_ref().is_none_or(|it| it.is_unreachable()),
            _ => false,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Unreachable { .. } => {
                "is the webserver running? `cargo xtask status ENV` and `cargo xtask logs ENV \
                 webserver` tell"
            }
            Error::GraphQl { .. } | Error::Answer { .. } => {
                "this needs Dagster 1.13.12 or newer in the platform image"
            }
            Error::Refused { kind, .. } if kind == "UnauthorizedError" => {
                "the webserver must not be started with `--read-only`"
            }
            Error::NoJob { .. } => "is the job part of `Definitions(jobs=[…])`?",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The error in one line, for showing why something is waited for.
    pub(crate) fn brief(&self) -> String {
        match self {
            Error::Python { source, .. } => source.summary().to_owned(),
            Error::NotServed { source: Some(source), .. } => {
                format!("{self}: {}", source.summary())
            }
            _ => self.to_string(),
        }
    }
}
