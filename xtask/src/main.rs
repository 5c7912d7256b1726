//! The front door: `cargo xtask VERB` in a checkout.
//!
//! It holds no logic of its own: a light verb is a file here, a heavy one is handed to the `deploy`
//! binary, so that a lint on a fresh clone never waits for a Docker client to compile.

mod ask;
mod ci;
mod env;
mod forward;
mod lint;
mod tools;

use std::{path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use xshell::Shell;

/// Dagster on one VM, from a laptop to production, without losing a run.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the code and release it, without losing a run
    Deploy(forward::Arguments),
    /// Go back to a release that served before
    Rollback(forward::Arguments),
    /// Show what a deploy would change, and do nothing
    Plan(forward::Arguments),
    /// Carry out a plan that `plan --out` wrote
    Apply(forward::Arguments),
    /// Show what an environment serves and how it is
    Status(forward::Arguments),
    /// Show what a service says
    Logs(forward::Arguments),
    /// Show what was deployed, when and by whom
    History(forward::Arguments),
    /// Show who holds an environment's lock, or break it
    Lock(forward::Arguments),
    /// Show the runs that wait or work, and end those whose worker is gone
    Runs(forward::Arguments),
    /// Open Dagster's UI on this machine
    Tunnel(forward::Arguments),
    /// Run the platform on this machine, with the code as it is saved
    Dev(forward::Arguments),
    /// Save an environment's databases into one file
    Backup(forward::Arguments),
    /// Replace an environment's databases by those of a backup
    Restore(forward::Arguments),
    /// Show how a warehouse stands to its migrations, compare two, or bring one up to date
    Schema(forward::Arguments),
    /// Stop an environment and remove its containers
    Down(forward::Arguments),
    /// Check this machine, and an environment's host
    Doctor(forward::Arguments),
    Lint(lint::Lint),
    Hooks(lint::Hooks),
    /// Measure deploys, and strike them, on throwaway VMs
    Bench(forward::Arguments),
    /// Show, compare, check and fill in the settings of environments
    Env(env::Env),
    /// Run every check, as CI does
    Ci(ci::Ci),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    run(cli.verb).unwrap_or_else(|error| {
        report(&error);
        ExitCode::FAILURE
    })
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace");
    match verb {
        Verb::Deploy(it) => forward::deploy("deploy", it, root),
        Verb::Rollback(it) => forward::deploy("rollback", it, root),
        Verb::Plan(it) => forward::deploy("plan", it, root),
        Verb::Apply(it) => forward::deploy("apply", it, root),
        Verb::Status(it) => forward::deploy("status", it, root),
        Verb::Logs(it) => forward::deploy("logs", it, root),
        Verb::History(it) => forward::deploy("history", it, root),
        Verb::Lock(it) => forward::deploy("lock", it, root),
        Verb::Runs(it) => forward::deploy("runs", it, root),
        Verb::Tunnel(it) => forward::deploy("tunnel", it, root),
        Verb::Dev(it) => forward::deploy("dev", it, root),
        Verb::Backup(it) => forward::deploy("backup", it, root),
        Verb::Restore(it) => forward::deploy("restore", it, root),
        Verb::Schema(it) => forward::deploy("schema", it, root),
        Verb::Down(it) => forward::deploy("down", it, root),
        Verb::Doctor(it) => forward::deploy("doctor", it, root),
        Verb::Lint(it) => Ok(it.run(&shell(root)?, root)),
        Verb::Hooks(it) => it.run(root),
        Verb::Bench(it) => forward::bench(it, root),
        Verb::Env(it) => it.run(root),
        Verb::Ci(it) => Ok(it.run(&shell(root)?)),
    }
}

fn shell(root: &Path) -> anyhow::Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(root);
    Ok(sh)
}

#[expect(clippy::print_stderr, reason = "the one place where this program reports an error")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
    if let Some(hint) = error.downcast_ref().and_then(::lint::Error::hint) {
        eprintln!("  hint: {hint}");
    }
}
