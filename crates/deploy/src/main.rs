//! Carries plans out: the verbs of `cargo xtask` that reach an engine or a host.
//!
//! It never decides what a deploy consists of (`release` does), and spawns no process but through
//! `exec`.

mod artifacts;
mod audit;
mod databases;
mod dev;
mod environment;
mod exit;
mod gap;
mod imported;
mod interrupt;
mod locked;
mod preview;
mod project;
mod promotion;
mod report;
mod rollout;
mod runs;
mod secrets;
mod session;
mod tree;
mod verbs;
mod warehouse;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{environment::Here, exit::Result, verbs as verb};

/// Dagster on one VM: deploy it, look at it, reach it.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", after_help = exit::EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Deploy(verb::Deploy),
    Rollback(verb::Rollback),
    Plan(verb::Plan),
    Apply(verb::Apply),
    Status(verb::Status),
    Logs(verb::Logs),
    History(verb::History),
    Lock(verb::Lock),
    Runs(verb::Runs),
    Tunnel(verb::Tunnel),
    Dev(verb::Dev),
    Env(verb::Env),
    Backup(verb::Backup),
    Restore(verb::Restore),
    Schema(verb::Schema),
    Down(verb::Down),
    Doctor(verb::Doctor),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.verb).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::eprint_line(&failure.to_string());
            failure.code()
        }
    }
}

async fn run(verb: Verb) -> Result {
    let here = Here::look()?;
    match verb {
        Verb::Deploy(it) => it.run(&here).await,
        Verb::Rollback(it) => it.run(&here).await,
        Verb::Plan(it) => it.run(&here).await,
        Verb::Apply(it) => it.run(&here).await,
        Verb::Status(it) => it.run(&here).await,
        Verb::Lock(it) => it.run(&here).await,
        Verb::History(it) => it.run(&here).await,
        Verb::Logs(it) => it.run(&here).await,
        Verb::Runs(it) => it.run(&here).await,
        Verb::Tunnel(it) => it.run(&here).await,
        Verb::Dev(it) => it.run(&here).await,
        Verb::Env(it) => it.run(&here).await,
        Verb::Backup(it) => it.run(&here).await,
        Verb::Restore(it) => it.run(&here).await,
        Verb::Schema(it) => it.run(&here).await,
        Verb::Down(it) => it.run(&here).await,
        Verb::Doctor(it) => it.run(&here).await,
    }
}
