//! Drives the built `deploy` program from outside, as a user does, and watches what Dagster's own
//! users would see meanwhile: the live tests and the benches stand on it.
//!
//! It never reaches into the program it judges: all it knows comes from verbs, probes and the VM.

#![expect(clippy::unwrap_used, reason = "a proof whose tools fail has failed")]

mod checkout;

mod probe;

pub use self::{
    checkout::{Answer, Checkout, wait_until},
    probe::{Arguments, Probe, Seen},
};
