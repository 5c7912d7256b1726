//! Asks a running Dagster over GraphQL what it serves and how it is, and judges whether a new
//! code server has really taken over.
//!
//! It never starts, stops or configures anything on a machine: it knows one local HTTP port.

mod python_error;

mod error;

mod model;

mod queries;

mod client;

mod verify;

pub use self::{
    client::Client,
    error::Error,
    model::{
        Code, Daemon, Definitions, Failure, Location, LocationState, Run, RunId, RunStatus,
        Schedule, Sensor,
    },
    python_error::{Link, PythonError},
    verify::{Expectation, Served, Verdict, verdict, verify},
};

/// Everything here fails with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
