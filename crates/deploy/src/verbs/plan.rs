//! `plan` and `apply`: a deploy on paper, and what is on the paper carried out.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use release::{Location, Proposal};

use crate::{
    environment::Here,
    exit::{EXIT_CODES, Failure, Result},
    verbs::request::{Deploy, OlderRuns, Paper},
};

/// Shows what a deploy would change, and does nothing
///
/// Commits, settings (a secret only by name), jobs, assets, schedules and sensors, runs that wait or
/// work, and the steps. The code is imported on this machine, without a network.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Plan {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// The code location
    #[arg(long, value_name = "NAME", default_value_t)]
    location: Location,
    /// Plan to release what this other environment serves, and to build nothing
    #[arg(long, value_name = "OTHER", conflicts_with = "allow_dirty")]
    from: Option<String>,
    /// Plan to let code through that the environment of DEPLOY_PROVEN_BY is not asked about
    #[arg(long)]
    unproven: bool,
    /// Write the plan to a file, for `apply`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Plan for files that no commit holds
    #[arg(long)]
    allow_dirty: bool,
    /// Plan to apply the migrations that the warehouse lacks
    #[arg(long)]
    migrate: bool,
    #[command(flatten)]
    older_runs: OlderRuns,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

/// Carries out a plan that `plan --out` wrote
///
/// It is refused when the environment has moved since, or when the checkout or the settings are not
/// those that the plan was made from.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Apply {
    /// The plan
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the release as JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let Plan { environment, location, from, unproven, out, .. } = self;
        let Plan { allow_dirty, migrate, older_runs, json, .. } = self;
        let paper = Paper::Write(out);
        Deploy {
            from,
            unproven,
            allow_dirty,
            migrate,
            older_runs,
            json,
            dry_run: true,
            paper,
            ..Deploy::of(environment, location)
        }
        .run(here)
        .await
    }
}

impl Apply {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let proposal = read(&self.file)?;
        let older_runs = OlderRuns::of(&proposal);
        // It was looked at when it was made: nothing is asked again.
        let deploy = Deploy {
            from: proposal.promoted.as_ref().map(|it| it.environment.clone()),
            unproven: proposal.unproven,
            yes: true,
            allow_dirty: true,
            migrate: proposal.plan.migrates(),
            older_runs,
            json: self.json,
            ..Deploy::of(proposal.environment.clone(), proposal.location.clone())
        };
        Deploy { paper: Paper::CarryOut(Box::new(proposal)), ..deploy }.run(here).await
    }
}

fn read(path: &Path) -> Result<Proposal> {
    let text = fs::read(path)
        .with_context(|| format!("cannot read `{}`", path.display()))
        .map_err(Failure::refused)?;
    let proposal = serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is no plan of this version", path.display()));
    proposal
        .map_err(|error| Failure::refused(error).hint("write one: cargo xtask plan ENV --out FILE"))
}

/// Writes a plan for its owner alone: it holds no secret, and is nobody else's business.
pub(crate) fn write(path: &Path, proposal: &Proposal) -> Result {
    let text = serde_json::to_string_pretty(proposal).expect("a plan is plain data");
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write `{}`", path.display()))
        .map_err(Failure::refused)
}
