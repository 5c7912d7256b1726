//! Resolves the settings of one environment: its template, its `.env` file, the process.
//!
//! It never changes the process's environment and never reads it: the caller hands it over.

mod value;

mod line;

mod template;

mod resolve;

mod error;

pub use self::{
    error::{Error, Problem},
    resolve::{Deploy, Settings, is_testbed, peek, resolve},
    template::{Item, Kind, Template},
    value::{Origin, Value},
};
