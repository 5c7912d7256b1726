//! `runs`: which runs wait or work, and an end for those that nothing works on any more.

use anyhow::anyhow;
use release::LiveRun;
use serde::Serialize;

use crate::{
    audit::Audit,
    environment::Here,
    exit::{Failure, Result},
    locked::{Locked, Wait},
    report::{self, Report},
    runs,
    session::Session,
};

/// Shows the runs that wait or work, and ends those whose worker is gone
#[derive(clap::Args)]
pub(crate) struct Runs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    List(List),
    Heal(Heal),
}

/// Shows the runs that wait or work: since when, and where
#[derive(clap::Args)]
struct List {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Marks runs as canceled that will never end by themselves, since their worker is gone
///
/// Such a run stands as started for ever: the code server that worked on it was killed, or the VM
/// was turned off. A run whose worker may still live is not touched.
#[derive(clap::Args)]
struct Heal {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print the healed runs as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found {
    environment: String,
    runs: Vec<LiveRun>,
}

impl Runs {
    pub(crate) async fn run(self, here: &Here) -> Result {
        match self.what {
            What::List(it) => it.run(here).await,
            What::Heal(it) => it.run(here).await,
        }
    }
}

impl List {
    async fn run(self, here: &Here) -> Result {
        let settings = here.settings(&self.environment).await?;
        let session = Session::connect(&settings)?;
        let runs = look(&session).await?;
        let found = Found { environment: self.environment, runs };
        report::facts(self.json, &found, |it| match it.runs.as_slice() {
            [] => format!("no run waits or works in {}", it.environment),
            runs => lines(runs),
        });
        Ok(())
    }
}

impl Heal {
    async fn run(self, here: &Here) -> Result {
        let settings = here.settings(&self.environment).await?;
        let session = Session::connect(&settings)?;
        let mut found = Found { environment: self.environment, runs: look(&session).await? };
        found.runs.retain(|it| it.worker.is_gone());
        if found.runs.is_empty() {
            report::facts(self.json, &found, |it| {
                format!("nothing to heal: every run of {} has its worker", it.environment)
            });
            return Ok(());
        }
        report::eprint_line(&lines(&found.runs));
        if !self.yes && !report::confirm("Mark these runs as canceled? [y/N]") {
            return Err(session.not_confirmed());
        }
        let locked =
            session.locked(Audit::begin(here, "runs heal"), Wait::default(), &Report::new())?;
        let healed = heal(&locked, &found.runs).await;
        let runs = locked.finish(healed)?;
        let healed = Found { runs, ..found };
        report::facts(self.json, &healed, |it| {
            format!("{} runs marked as canceled", it.runs.len())
        });
        Ok(())
    }
}

/// Marks those as canceled that were shown and are zombies still.
async fn heal(locked: &Locked<'_>, shown: &[LiveRun]) -> Result<Vec<LiveRun>> {
    let dagster = locked.dagster(&locked.observed)?;
    let mut still = runs::live_runs(locked, &locked.observed, &dagster).await?;
    still.retain(|run| run.worker.is_gone() && shown.iter().any(|it| it.id == run.id));
    for run in &still {
        dagster.mark_canceled(&run.id.as_str().into()).await?;
    }
    Ok(still)
}

async fn look(session: &Session<'_>) -> Result<Vec<LiveRun>> {
    let observed = session.observe()?;
    session.require(&observed)?;
    if !observed.platform_runs() {
        let environment = &session.settings.environment;
        let error = anyhow!("the platform of `{environment}` does not run: nobody knows its runs");
        return Err(
            Failure::refused(error).hint(format!("look at it: cargo xtask status {environment}"))
        );
    }
    runs::live_runs(session, &observed, &session.dagster(&observed)?).await
}

fn lines(runs: &[LiveRun]) -> String {
    runs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
