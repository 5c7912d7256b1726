//! Drives the built `deploy` program from outside, as a user does, and watches what Dagster's own
//! users would see meanwhile: the live tests and the benches stand on it.
//!
//! It never reaches into the program it judges: all it knows comes from verbs, probes and the VM.

#![expect(clippy::unwrap_used, reason = "a proof whose tools fail has failed")]

mod checkout;

mod probe;

mod relay;

mod faults;

mod endurance;

mod classic;

mod side;

mod saves;

mod table;

mod page;

pub mod benches;

pub mod lint;

pub use self::{
    checkout::{Answer, Checkout, Window, wait_until},
    classic::Classic,
    endurance::{Endurance, Use, endure},
    faults::{Depth, Fault, Range, Scene, Strike, strikes_table},
    page::{Bar, Goal, Section},
    probe::{Arguments, Probe, Seen, processes_with},
    relay::{Counts, Link, Relay},
    saves::{Dev, Saves},
    side::{Change, Ours, classic_change},
    table::{Table, median},
};
