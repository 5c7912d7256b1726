//! `cargo xtask bench`: measures deploys on throwaway VMs, and strikes them.

use std::{path::Path, process::ExitCode};

use bench::{Scene, benches, lint};
use clap::{Parser, Subcommand};

/// Measures deploys on throwaway VMs of this machine, and strikes them
///
/// Exits with 1 when a goal is missed. Nothing else should run on this machine meanwhile.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Write what was measured into docs/
    #[arg(long, global = true)]
    save: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// One change of the code, by a deploy and by the flow it replaces
    Deploy {
        /// How often
        #[arg(default_value_t = 5)]
        rounds: usize,
    },
    /// The same deploy, near and across 100 ms and 1 % of losses
    Distance {
        /// How often
        #[arg(default_value_t = 5)]
        rounds: usize,
    },
    /// Deploys and rollbacks by turns, with runs of every origin in flight
    Endurance {
        /// How many
        #[arg(default_value_t = 50)]
        rounds: usize,
    },
    /// Saves in `dev`, and in Dagster's own `dagster dev` that is reloaded by hand
    Dev {
        /// How often
        #[arg(default_value_t = 3)]
        rounds: usize,
    },
    /// Every step of a deploy, a rollback or a platform change, ended in every way
    Faults {
        /// The verb that is struck
        #[arg(value_enum)]
        scene: Scene,
        /// Each step on the host once, with the ways by turns
        #[arg(long)]
        short: bool,
    },
    /// `cargo xtask lint` beside pre-commit, prek, lefthook and the bare linters; needs no engine
    Lint {
        /// How often
        #[arg(default_value_t = 6)]
        rounds: usize,
        /// Instead, commits that are hard to judge
        #[arg(long)]
        scenarios: bool,
        /// Instead, so many random edits: is a lint's verdict that of the linters?
        #[arg(long, value_name = "ROUNDS", conflicts_with = "scenarios")]
        edits: Option<usize>,
    },
}

impl Verb {
    fn command(&self) -> (&'static str, String) {
        let (name, rest) = match self {
            Verb::Deploy { rounds } => ("deploy", format!(" {rounds}")),
            Verb::Distance { rounds } => ("distance", format!(" {rounds}")),
            Verb::Endurance { rounds } => ("endurance", format!(" {rounds}")),
            Verb::Dev { rounds } => ("dev", format!(" {rounds}")),
            Verb::Lint { edits: Some(edits), .. } => ("lint-edits", format!(" {edits}")),
            Verb::Lint { scenarios: true, .. } => ("lint-scenarios", String::new()),
            Verb::Lint { rounds, .. } => ("lint", format!(" {rounds}")),
            Verb::Faults { scene, short } => {
                let name = match scene {
                    Scene::Deploy => "faults-deploy",
                    Scene::Rollback => "faults-rollback",
                    Scene::Platform => "faults-platform",
                };
                (name, if *short { " --short" } else { "" }.to_owned())
            }
        };
        let verb = match self {
            Verb::Faults { .. } => name.replace('-', " "),
            _ => name.replace('-', " --"),
        };
        (name, format!("cargo xtask bench {verb}{rest} --save"))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (name, command) = cli.verb.command();
    let here = std::env::current_exe().expect("a program that runs has a path");
    let deploy = here.with_file_name("deploy");
    let section = match cli.verb {
        Verb::Deploy { rounds } => benches::deploy(&deploy, rounds, command, &tell),
        Verb::Distance { rounds } => benches::distance(&deploy, rounds, command, &tell),
        Verb::Endurance { rounds } => benches::endurance(&deploy, rounds, command, &tell),
        Verb::Dev { rounds } => benches::dev(&deploy, rounds, command, &tell),
        Verb::Faults { scene, short } => benches::faults(&deploy, scene, short, command, &tell),
        Verb::Lint { rounds, scenarios, edits } => {
            let kit = lint::Kit::new(&here.with_file_name("xtask"));
            if let Some(edits) = edits {
                lint::edits(&kit, edits, command, &tell)
            } else if scenarios {
                lint::scenarios(&kit, command, &tell)
            } else {
                lint::speed(&kit, rounds, command, &tell)
            }
        }
    };
    say(&section.to_string());
    if cli.save {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        if let Err(error) = section.save(&docs, name) {
            tell(&format!("error: cannot write into `{}`: {error}", docs.display()));
            return ExitCode::FAILURE;
        }
    }
    if section.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the one place where this program prints what it found")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the one place where this program tells how far it is")]
fn tell(line: &str) {
    eprintln!("{line}");
}
