//! Builds, pushes, pulls and looks at images and containers, through an engine's API; puts layers
//! on images in a registry, and copies them to another, through its own.
//!
//! It knows nothing of releases, hosts or settings.

mod context;

mod engine;

mod build;

mod transfer;

mod layer;

mod registry;

mod login;

mod error;

pub use self::{
    build::{Build, Progress},
    context::{Context, Files},
    engine::{Engine, Image},
    error::Error,
    layer::Layer,
    login::Login,
    registry::{Registry, Remote},
};
