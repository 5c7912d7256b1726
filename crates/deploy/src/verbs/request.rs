//! What `deploy` is asked for.

use std::{path::PathBuf, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use release::{Location, Plan, Proposal, Runs, Step};

use crate::{
    exit::EXIT_CODES,
    locked::{self, Wait},
};

/// Builds the code and releases it, without losing a run
///
/// The new code is started beside the old one, checked, and only then switched to. When it does
/// not import, the old code goes on serving. `deploy demo` first makes a throwaway VM and a
/// registry on this machine.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Deploy {
    /// The environment: `demo`, `staging`, `prod`, …
    #[arg(value_name = "ENV")]
    pub(super) environment: String,
    /// The code location
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(super) location: Location,
    /// Release what this other environment serves, and build nothing
    ///
    /// Its images come by their digests and its files from its commit, whatever this checkout holds;
    /// the settings are those of ENV.
    #[arg(long, value_name = "OTHER", conflicts_with = "allow_dirty")]
    pub(super) from: Option<String>,
    /// Let code through that the environment of DEPLOY_PROVEN_BY is not asked about; the audit log
    /// tells of it
    #[arg(long)]
    pub(super) unproven: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Release files that no commit holds
    #[arg(long)]
    pub(super) allow_dirty: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) wait: Wait,
    /// Apply the migrations that the warehouse lacks, before the new code starts
    #[arg(long)]
    pub(super) migrate: bool,
    #[command(flatten)]
    pub(super) older_runs: OlderRuns,
    /// Print the release as JSON; with --dry-run the plan
    #[arg(long)]
    pub(super) json: bool,
    #[arg(skip)]
    pub(super) paper: Paper,
}

/// What becomes of the runs that older code works on.
#[derive(clap::Args)]
pub(crate) struct OlderRuns {
    /// What becomes of the runs that older code works on: they go on there (keep), are waited for
    /// (drain), or are canceled once the new code is verified (cancel)
    #[arg(long, value_name = "HOW", default_value = "keep")]
    #[arg(value_parser = PossibleValuesParser::new(["keep", "drain", "cancel"]).try_map(|it| it.parse::<Runs>()))]
    pub(super) runs: Runs,
    /// How long to wait for their end: 90s, 10m, 2h
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = locked::duration)]
    pub(super) drain_timeout: Duration,
}

/// A deploy on paper.
#[derive(Default)]
pub(crate) enum Paper {
    /// There is none: it is decided and done.
    #[default]
    None,
    /// It is written: shown, and put into a file if one is named.
    Write(Option<PathBuf>),
    /// What was written is carried out, if it still holds.
    CarryOut(Box<Proposal>),
}

impl OlderRuns {
    /// As a plan has them.
    pub(super) fn of(proposal: &Proposal) -> OlderRuns {
        let limit = proposal.plan.steps.iter().find_map(|step| match step {
            Step::EndRuns { limit, .. } | Step::Quiesce { limit, .. } => Some(*limit),
            _ => None,
        });
        OlderRuns {
            runs: proposal.runs,
            drain_timeout: Duration::from_secs(limit.unwrap_or_default()),
        }
    }

    /// A plan that treats them so.
    pub(super) fn treat(&self, plan: Plan) -> Plan {
        plan.with_runs(self.runs, self.drain_timeout.as_secs())
    }
}

impl Deploy {
    /// Of an environment, with no flag given.
    pub(super) fn of(environment: String, location: Location) -> Deploy {
        Deploy {
            environment,
            location,
            from: None,
            unproven: false,
            yes: false,
            allow_dirty: false,
            dry_run: false,
            wait: Wait::default(),
            migrate: false,
            older_runs: OlderRuns { runs: Runs::Keep, drain_timeout: Duration::ZERO },
            json: false,
            paper: Paper::None,
        }
    }
}
