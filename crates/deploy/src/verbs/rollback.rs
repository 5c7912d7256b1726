//! `rollback`: back to a release that served before.

use anyhow::anyhow;
use release::{Location, Manifest, Observed, Plan, ReleaseId};
use serde::Serialize;

use crate::{
    audit::Audit,
    environment::Here,
    exit::{EXIT_CODES, Failure, Result},
    locked::{Locked, Wait},
    report::{self, Report},
    rollout::Rollout,
    session::{self, Session},
    verbs::request::OlderRuns,
};

/// Goes back to a release that served before
///
/// Image, settings and secrets come back together, as they were. While the code server of the
/// release before still runs it is a switch, and takes about a second; otherwise it is started
/// from the release's own files on the host. Nothing is built, and neither this checkout's code
/// nor the registry is needed. The release that is left goes on running as the way forward.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Rollback {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// The release; without it, the one that the last switch left
    #[arg(value_name = "RELEASE")]
    release: Option<ReleaseId>,
    /// The code location
    #[arg(long, value_name = "NAME", default_value_t)]
    location: Location,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Go back even if Dagster's tables were migrated since
    #[arg(long)]
    across_migration: bool,
    #[command(flatten)]
    older_runs: OlderRuns,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
    /// Print the release as JSON
    #[arg(long)]
    json: bool,
}

/// What a rollback tells at its end.
#[derive(Serialize)]
struct Summary<'a> {
    environment: &'a str,
    from: Option<&'a ReleaseId>,
    release: &'a Manifest,
    seconds: f64,
}

impl Rollback {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let mut report = Report::new();
        let audit = Audit::begin(here, "rollback");
        let settings = here.settings(&self.environment).await?;
        Here::require_location(&settings, &self.location)?;
        report.phase("connect");
        let session = Session::connect_for(&settings, self.location.clone())?;
        report.end(settings.deploy.place());

        let mut shown = None;
        if self.dry_run || (settings.deploy.confirm && !self.yes) {
            let observed = session.observe()?;
            session.require(&observed)?;
            let plan = self.plan(&observed)?;
            if self.dry_run {
                report.finish();
                report::facts(false, &(), |()| plan.to_string());
                return Ok(());
            }
            report.say(&plan.to_string());
            if !report.confirm(&format!("Roll {} back? [y/N]", self.environment)) {
                return session.recorded(&audit, Err(session.not_confirmed()));
            }
            shown = Some(plan);
        }

        report.phase("lock");
        let locked = session.locked(audit, self.wait, &report)?;
        let from = locked.observed.live.clone();
        let result = self.roll_back(&locked, shown.as_ref(), &mut report).await;
        locked.note(|it| it.phases.clone_from(&report.phases));
        let manifest = locked.finish(result)?;

        report.finish();
        let summary = Summary {
            environment: &self.environment,
            from: from.as_ref(),
            release: &manifest,
            seconds: report.seconds(),
        };
        report::facts(self.json, &summary, rolled_back);
        Ok(())
    }

    async fn roll_back(
        &self,
        locked: &Locked<'_>,
        shown: Option<&Plan>,
        report: &mut Report,
    ) -> Result<Manifest> {
        let observed = &locked.observed;
        let plan = self.plan(observed)?;
        if shown.is_some_and(|shown| shown != &plan) {
            let error = anyhow!("somebody else has changed `{}` meanwhile", self.environment);
            return Err(
                Failure::refused(error).hint("look at it with `status`, then roll back again")
            );
        }
        report.end(&plan.release.to_string());
        let manifest = observed.manifests.iter().find(|it| it.id == plan.release);
        let manifest = manifest.expect("a plan goes back to what was observed").clone();
        let login = session::login(locked.settings);
        Rollout::new(locked, &plan, manifest, login, Vec::new(), report).run().await
    }

    fn plan(&self, observed: &Observed) -> Result<Plan> {
        let plan = Plan::rollback(self.release.as_ref(), self.across_migration, observed);
        plan.map(|it| self.older_runs.treat(it)).map_err(|why| {
            let hint = why.hint();
            Failure::refused(why).hint(hint)
        })
    }
}

fn rolled_back(summary: &Summary<'_>) -> String {
    let Summary { environment, from, release, seconds } = summary;
    let forward = from.map_or_else(String::new, |from| {
        format!("forward again: cargo xtask rollback {environment} {from}\n")
    });
    format!(
        "\n{environment} serves {} after {seconds:.1} s: {}\n\
         not undone: what runs have done and written\n{forward}",
        release.id, release.git_subject
    )
}
