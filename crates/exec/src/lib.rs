//! Runs commands: describe a [`Cmd`] once, run it here or on a [`Host`].
//!
//! It never shows a secret, and nothing else in this workspace spawns a process.

mod cmd;

mod running;

mod target;

mod shell;

mod port;

mod master;

mod connection;

mod host;

mod tunnel;

mod error;

pub use self::{
    cmd::{Cmd, Output, Status},
    connection::Address,
    error::Error,
    host::{File, Held, Host},
    port::free_port,
    running::{Line, Running},
    target::{Ssh, Target},
    tunnel::Tunnel,
};
