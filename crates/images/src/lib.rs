//! Builds, pushes, pulls and looks at images and containers, through an engine's API.
//!
//! It knows nothing of releases, hosts or settings.

mod context;

mod engine;

mod build;

mod transfer;

mod login;

mod error;

pub use self::{
    build::{Build, Progress},
    context::Context,
    engine::{Engine, Image},
    error::Error,
    login::Login,
};
