//! Resolves the settings of one environment: its template, its `.env` file, the process.
//!
//! It never changes the process's environment and never reads it: the caller hands it over.

mod reference;

mod value;

mod line;

mod template;

mod resolve;

mod check;

mod diff;

mod markdown;

mod write;

mod error;

pub use self::{
    check::{Checkup, Condition, check, check_templates, tracked},
    diff::{Difference, diff},
    error::{Error, Problem},
    markdown::{describe, find, markdown},
    reference::{Reference, Secret, Secrets, Store},
    resolve::{
        Deploy, ResolveOn, Resolved, Settings, environments, is_dev, is_testbed, peek, read,
        resolve, templates,
    },
    template::{Item, Kind, Template},
    value::{Origin, Value},
    write::add,
};
