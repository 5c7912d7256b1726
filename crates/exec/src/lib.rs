//! Runs commands: describe a [`Cmd`] once, run it here or on a [`Host`] over SSH.
//!
//! It never shows a secret, and nothing else in this workspace spawns a process.

mod cmd;

mod running;

mod target;

mod shell;

mod host;

mod tunnel;

mod error;

pub use self::{
    cmd::{Cmd, Output, Status},
    error::Error,
    host::{File, Held, Host, free_port},
    running::{Line, Running},
    target::Target,
    tunnel::Tunnel,
};
