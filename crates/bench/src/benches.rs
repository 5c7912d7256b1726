//! What `cargo xtask bench` measures: each bench makes one section of the pages in `docs/`.

mod deploy;

mod distance;

mod endurance;

mod faults;

mod dev;

pub use self::{
    deploy::deploy, dev::dev, distance::distance, endurance::endurance, faults::faults,
};
use crate::{Bar, Change};

/// Tells how far a bench is.
pub type Tell<'a> = &'a dyn Fn(&str);

fn bar(what: &str, seconds: f64, other: bool) -> Bar {
    Bar { what: what.to_owned(), seconds, other }
}

fn seconds(changes: &[Change]) -> Vec<f64> {
    changes.iter().map(|it| it.served.unwrap_or(f64::INFINITY)).collect()
}

fn middle(changes: &[Change], of: impl Fn(&Change) -> u64) -> String {
    let mut all: Vec<u64> = changes.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).map(ToString::to_string).unwrap_or_default()
}
