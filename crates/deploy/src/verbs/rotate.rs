//! `env rotate`: what serves, with one secret changed.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use release::{
    ComposeFiles, Location, Manifest, NoRotation, Observed, Plan, Preview, ReleaseId, Rotation,
    ServedFiles,
};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    audit::Audit,
    environment::{self, Here},
    exit::{EXIT_CODES, Failure, Result},
    locked::{Locked, Wait},
    report::{self, Report},
    rollout::Rollout,
    runs, secrets,
    session::{self, Session, bash, remote},
    verbs::{deploy::refuse_tracked, request::OlderRuns},
};

/// The settings of an environment, where they need its host; `env -h` of the front door has the others
#[derive(clap::Args)]
pub(crate) struct Env {
    #[command(subcommand)]
    verb: EnvVerb,
}

#[derive(clap::Subcommand)]
enum EnvVerb {
    Rotate(Rotate),
}

impl Env {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let EnvVerb::Rotate(it) = self.verb;
        it.run(here).await
    }
}

/// Makes a release that differs from what serves in one secret
///
/// The new value comes from `.env.ENV`, the process or the store that it is kept in. Code, images,
/// files and every other setting are those that serve, whatever has changed here since: nothing is
/// built. Of POSTGRES_PASSWORD Postgres is told; that is refused while runs are in flight.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
struct Rotate {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// The secret, e.g. POSTGRES_PASSWORD
    #[arg(value_name = "KEY")]
    key: String,
    /// The code location
    #[arg(long, value_name = "NAME", default_value_t)]
    location: Location,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    older_runs: OlderRuns,
    /// Print the release as JSON; with --dry-run the plan
    #[arg(long)]
    json: bool,
}

/// What a rotation tells at its end.
#[derive(Serialize)]
struct Summary<'a> {
    environment: &'a str,
    key: &'a str,
    release: &'a Manifest,
    seconds: f64,
}

impl Rotate {
    async fn run(self, here: &Here) -> Result {
        let mut report = Report::new();
        let mut audit = Audit::begin(here, "env rotate");
        audit.entry.reason = Some(self.key.clone());
        self.refuse_key(here)?;
        let mut settings = here.settings(&self.environment).await?;
        Here::require_location(&settings, &self.location)?;
        refuse_tracked(here, &self.environment)?;
        // The others stay as they are.
        settings.containers.retain(|key, value| *key == self.key || !value.is_unread());
        let host = secrets::look_up(&mut settings, here, &mut report)?;

        report.phase("connect");
        let session = Session::over(host, &settings, self.location.clone())?;
        let observed = session.observe()?;
        session.require(&observed)?;
        report.end(settings.deploy.place());
        let decided = self.decide(&session, &observed);
        let decided = if self.dry_run { decided } else { session.recorded(&audit, decided) };
        let shown = decided?.1;
        let asked = settings.deploy.confirm && !self.yes;
        if self.dry_run || asked {
            let preview = preview(&session, &observed).await?;
            let text = |plan: &Plan| format!("{plan}\n{preview}");
            if self.dry_run {
                report.finish();
                report::facts(self.json, &shown, text);
                return Ok(());
            }
            report.say(&text(&shown));
            if !report.confirm(&format!("Rotate it in {}? [y/N]", self.environment)) {
                return session.recorded(&audit, Err(session.not_confirmed()));
            }
        }

        report.phase("lock");
        let locked = session.locked(audit, self.wait, &report)?;
        report.end("");
        let moved = locked.observed.live != observed.live && (asked || !self.wait.is_asked());
        let result = self.roll_out(here, &locked, moved, &mut report).await;
        locked.note(|it| it.phases.clone_from(&report.phases));
        let manifest = locked.finish(result)?;

        report.finish();
        let summary = Summary {
            environment: &self.environment,
            key: &self.key,
            release: &manifest,
            seconds: report.seconds(),
        };
        report::facts(self.json, &summary, rotated);
        Ok(())
    }

    /// Refuses a key that is none, or that no rotation can change.
    fn refuse_key(&self, here: &Here) -> Result {
        let templates = settings::templates(&here.root).map_err(Failure::refused)?;
        let Some(template) = templates.iter().find(|it| it.environment == self.environment) else {
            return Ok(());
        };
        let item = settings::find(std::slice::from_ref(template), &self.key);
        Rotation::refuse(item.map_err(Failure::refused)?, &self.environment).map_err(refused)
    }

    fn decide(&self, session: &Session<'_>, observed: &Observed) -> Result<(Rotation, Plan)> {
        let (live, _) = Rotation::of(observed).map_err(refused)?;
        let served = served(session, observed, &live.id)?;
        let rotation =
            Rotation::new(&self.key, session.settings, served, observed).map_err(refused)?;
        let id = ReleaseId::new(OffsetDateTime::now_utc(), &live.git_sha);
        let settings::Deploy { test_job, keep_releases, .. } = &session.settings.deploy;
        let plan = rotation.plan(id, !test_job.is_empty(), *keep_releases, observed);
        Ok((rotation, self.older_runs.treat(plan.map_err(refused)?)))
    }

    /// Decides anew under the lock, and carries it out.
    async fn roll_out(
        &self,
        here: &Here,
        locked: &Locked<'_>,
        moved: bool,
        report: &mut Report,
    ) -> Result<Manifest> {
        if moved {
            let error = anyhow!("somebody else has deployed to `{}` meanwhile", self.environment);
            return Err(Failure::refused(error).hint("look at it with `status`, then rotate again"));
        }
        let observed = &locked.observed;
        let (rotation, plan) = self.decide(locked, observed)?;
        let id = plan.release.clone();
        let files = rotation.files(&id);
        let manifest = rotation.manifest(id, here.who(), environment::now(), observed);
        let login = session::login(locked.settings);
        Rollout::new(locked, &plan, manifest.map_err(refused)?, login, files, report)
            .with_settings(&rotation.settings)
            .run()
            .await
    }
}

fn refused(why: NoRotation) -> Failure {
    let hint = why.hint();
    Failure::refused(why).hint(hint)
}

/// Reads the files on the host that what serves is made of. What is said of a failure holds none of
/// them.
fn served(session: &Session<'_>, observed: &Observed, live: &ReleaseId) -> Result<ServedFiles> {
    let layout = &observed.layout;
    let args = [layout.release(live), layout.platform()];
    let output =
        session.host.output(&bash(remote::SERVED, &args.each_ref().map(String::as_str)))?;
    let host = session.settings.deploy.machine();
    let what = || format!("cannot read on {host} what serves");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(anyhow!("{}", said.trim_end()).context(what()).into());
    }
    let answer = String::from_utf8_lossy(&output.stdout);
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for (name, content) in answer.lines().filter_map(|it| it.split_once(' ')) {
        let content =
            BASE64_STANDARD.decode(content).ok().and_then(|it| String::from_utf8(it).ok());
        files.insert(
            name,
            content.with_context(|| format!("`{name}` is no text")).with_context(what)?,
        );
    }
    let mut file = |name: &str| files.remove(name).unwrap_or_default();
    Ok(ServedFiles {
        compose: ComposeFiles {
            core: file("core.yaml"),
            platform: file("platform.yaml"),
            dagster: file("dagster.yaml"),
        },
        core_environment: file("core.env.json"),
        platform_environment: file("platform.env.json"),
    })
}

/// What else a reader decides on: the runs.
async fn preview(session: &Session<'_>, observed: &Observed) -> Result<Preview> {
    let dagster = session.dagster(observed)?;
    let runs = runs::live_runs(session, observed, &dagster).await?;
    Ok(Preview { runs, ..Preview::default() })
}

fn rotated(summary: &Summary<'_>) -> String {
    let Summary { environment, key, release, seconds } = summary;
    format!(
        "\n{environment} serves {} with the new {key} after {seconds:.1} s\n\
         the old one comes back with: cargo xtask rollback {environment}\n",
        release.id
    )
}
