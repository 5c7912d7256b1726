//! Judges the Python that is about to be committed: the index, not the working tree.
//!
//! It never writes the working tree or the index, but for what `fix` is asked to mend.
//!
//! The way of a lint: what is in the index ([`repo`]), which of it is in question ([`Scope`]),
//! what is already known of that ([`verdicts`]); the rest is put into a private copy of the index
//! ([`tree`]) and given to the linters (a table in [`linter`]) of the project's own environment
//! ([`venv`]), all at once.

mod config;
mod error;
mod finding;
mod fix;
mod format;
pub mod hooks;
mod judge;
mod linter;
mod parse;
mod repo;
mod run;
mod script;
mod state;
mod tree;
mod venv;
mod verdicts;
mod worker;

pub use self::{
    error::Error,
    finding::{Crash, Finding, Report},
    format::Format,
    linter::names,
    repo::normal,
    run::{Request, Scope, run},
};
