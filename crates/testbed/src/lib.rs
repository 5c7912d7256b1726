//! A throwaway VM with a dockerd and an sshd of its own, a registry and base images: for environment
//! `demo` and for live tests.
//!
//! It never touches what it did not make, and no other environment needs it.

mod options;

mod testbed;

mod state;

mod bases;

mod containers;

pub mod doctor;

mod error;

pub use self::{
    bases::base_images,
    error::Error,
    options::{Compose, Event, Login, Options},
    state::random_secret,
    testbed::Testbed,
};
