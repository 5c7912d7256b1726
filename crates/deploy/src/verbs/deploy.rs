//! `deploy`: from the checkout to a verified release.

use std::{path::PathBuf, time::Duration};

use anyhow::anyhow;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use exec::Cmd;
use images::{Login, Registry};
use release::{
    Ended, Inputs, Location, Manifest, Observed, Plan, Preview, Proposal, ReleaseId, Runs, Step,
};
use serde::Serialize;
use settings::Settings;
use testbed::Testbed;
use time::OffsetDateTime;

use crate::{
    artifacts::Workshop,
    audit::Audit,
    environment::{self, Here},
    exit::{EXIT_CODES, Failure, Result},
    locked::{self, Locked},
    preview::Prospect,
    project::Project,
    report::{self, Report},
    rollout::{self, Images, Rollout},
    secrets,
    session::{self, Session},
    verbs::{doctor, tunnel},
    warehouse::Wanted,
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
    /// Do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Release files that no commit holds
    #[arg(long)]
    pub(super) allow_dirty: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Wait while somebody else deploys; for an hour, or for so long: 90s, 10m, 2h
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1h", value_parser = locked::duration)]
    pub(super) wait: Option<Duration>,
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
    runs: Runs,
    /// How long to wait for their end: 90s, 10m, 2h
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = locked::duration)]
    drain_timeout: Duration,
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

/// What a deploy tells at its end.
#[derive(Serialize)]
struct Summary<'a> {
    environment: &'a str,
    changed: bool,
    release: Option<&'a Manifest>,
    url: Option<String>,
    seconds: f64,
}

impl OlderRuns {
    /// As a plan has them.
    pub(super) fn of(proposal: &Proposal) -> OlderRuns {
        let limit = proposal.plan.steps.iter().find_map(|step| match step {
            Step::EndRuns { limit, .. } => Some(*limit),
            _ => None,
        });
        OlderRuns {
            runs: proposal.runs,
            drain_timeout: Duration::from_secs(limit.unwrap_or_default()),
        }
    }

    fn plan(
        &self,
        id: ReleaseId,
        inputs: &Inputs,
        settings: &Settings,
        observed: &Observed,
    ) -> Plan {
        let settings::Deploy { test_job, keep_releases, .. } = &settings.deploy;
        Plan::new(id, inputs, !test_job.is_empty(), *keep_releases, observed)
            .with_runs(self.runs, self.drain_timeout.as_secs())
    }
}

impl Deploy {
    /// Of an environment, with no flag given.
    pub(super) fn of(environment: String, location: Location) -> Deploy {
        Deploy {
            environment,
            location,
            yes: false,
            allow_dirty: false,
            dry_run: false,
            wait: None,
            migrate: false,
            older_runs: OlderRuns { runs: Runs::Keep, drain_timeout: Duration::ZERO },
            json: false,
            paper: Paper::None,
        }
    }

    pub(crate) async fn run(self, here: &Here) -> Result {
        let mut report = Report::new();
        let verb = if matches!(self.paper, Paper::CarryOut(_)) { "apply" } else { "deploy" };
        let audit = Audit::begin(here, verb);
        let mut settings = self.settings(here, &mut report).await?;
        Here::require_location(&settings, &self.location)?;
        let project = Project::read(&here.root, &settings, &self.location)?;
        self.refuse_dirty(&project, &settings)?;
        refuse_tracked(here, &self.environment)?;
        secrets::look_up(&mut settings, here, &mut report)?;
        let inputs = project.inputs(&settings);

        report.phase("connect");
        let session = Session::connect_for(&settings, self.location.clone())?;
        let observed = session.observe()?;
        session.require(&observed)?;
        report.end(&format!("{}, Compose {}", settings.deploy.place(), observed.compose.version));

        let id = ReleaseId::new(OffsetDateTime::now_utc(), &project.commit.sha);
        let plan = self.older_runs.plan(id, &inputs, &settings, &observed);
        if plan.is_empty() && matches!(self.paper, Paper::None) {
            if !self.dry_run {
                session.record(&audit.ended(Ok(Ended::NothingToDo)));
            }
            return self.nothing_to_do(here, &session, &observed, report);
        }
        let migrations = Wanted::look(here, &session, &observed).await;
        let migrations =
            if self.dry_run { migrations? } else { session.recorded(&audit, migrations)? };
        let plan = migrations.along(plan, self.migrate);
        let login = session::login(&settings);
        let ca_bundle = here.ca_bundle();
        let workshop = Workshop {
            registry: Registry::new(
                &settings.deploy.registry,
                login.clone(),
                &observed.architecture,
                ca_bundle.as_deref(),
            ),
            login: &login,
            project: &project,
            settings: &settings,
            ca_bundle: ca_bundle.as_deref(),
        };
        let prospect = Prospect {
            here,
            session: &session,
            project: &project,
            observed: &observed,
            workshop: &workshop,
        };
        let considered = self.consider(&prospect, &plan, &inputs, &migrations, &mut report).await;
        if self.dry_run {
            return considered;
        }
        session.recorded(&audit, considered)?;

        // Built outside the lock: it touches nothing on the host.
        let images = workshop.images(&inputs, observed.live_manifest(), &mut report).await;
        let images = session.recorded(&audit, images)?;
        report.phase("lock");
        let locked = session.locked(audit, self.wait, &report)?;
        report.end("");
        let result = self
            .roll_out(
                here,
                &locked,
                &plan,
                &project,
                &inputs,
                migrations,
                images,
                login,
                &mut report,
            )
            .await;
        locked.note(|it| it.phases.clone_from(&report.phases));
        let Some(manifest) = locked.finish(result)? else {
            let observed = session.observe()?;
            return self.nothing_to_do(here, &session, &observed, report);
        };

        let url = reach(here, &settings, &mut report)?;
        report.finish();
        let summary = Summary {
            environment: &self.environment,
            changed: true,
            release: Some(&manifest),
            url,
            seconds: report.seconds(),
        };
        report::facts(self.json, &summary, deployed);
        Ok(())
    }

    /// The settings; for a throwaway environment, its testbed is made first.
    async fn settings(&self, here: &Here, report: &mut Report) -> Result<Settings> {
        if self.dry_run || !here.is_testbed(&self.environment)? {
            return here.settings(&self.environment).await;
        }
        report.phase("machine");
        doctor::make_ready(report).await?;
        report.phase("testbed");
        let mut options = testbed::Options::named(&self.environment);
        options.ca_bundle = here.ca_bundle();
        if here.peek(&self.environment, "DEPLOY_TESTBED_COMPOSE")?.as_deref() == Some("v2") {
            options.compose = testbed::Compose::V2;
        }
        let testbed = Testbed::up(&here.root, &options, &mut |event| match event {
            testbed::Event::Said(line) => report.say(&format!("  {line}")),
            testbed::Event::Now(line) => report.now(&line),
        })
        .await?;
        report.end(&testbed.describe());
        here.settings_with(&self.environment, &testbed.facts())
    }

    fn refuse_dirty(&self, project: &Project, settings: &Settings) -> Result {
        let dirty = &project.commit.dirty;
        if dirty.is_empty() || self.allow_dirty || settings.deploy.allow_dirty {
            return Ok(());
        }
        let error = anyhow!("no commit holds {} as it is now", some(dirty));
        Err(Failure::refused(error)
            .hint("commit your changes, or release them as they are with --allow-dirty"))
    }

    /// What is seen and asked before anything is done; with --dry-run there is no more.
    async fn consider(
        &self,
        prospect: &Prospect<'_>,
        plan: &Plan,
        inputs: &Inputs,
        migrations: &Wanted,
        report: &mut Report,
    ) -> Result {
        let settings = prospect.session.settings;
        self.refuse_outdated(inputs, plan)?;
        refuse_host(settings, prospect.observed)?;
        // A plan on paper is shown all the same.
        let ahead = migrations.refusal(&settings.environment, self.migrate).err();
        let (now, then) = if self.dry_run { (None, ahead) } else { (ahead, None) };
        now.map_or(Ok(()), Err)?;
        if !self.dry_run && (self.yes || !settings.deploy.confirm) {
            return Ok(());
        }
        let proposal = Proposal {
            environment: self.environment.clone(),
            location: prospect.session.location.clone(),
            by: prospect.here.who(),
            at: environment::now(),
            plan: plan.clone(),
            runs: self.older_runs.runs,
            inputs: inputs.clone(),
            preview: Preview {
                migrations: migrations.lacking(),
                ..prospect.preview(plan, report).await?
            },
        };
        if self.dry_run {
            report.finish();
            report::facts(self.json, &proposal, ToString::to_string);
        } else {
            report.say(&proposal.to_string());
        }
        refuse_broken(&proposal.preview)?;
        then.map_or(Ok(()), Err)?;
        match &self.paper {
            _ if !self.dry_run => {
                let question = format!("Deploy this to {}? [y/N]", settings.environment);
                if report.confirm(&question) {
                    Ok(())
                } else {
                    Err(prospect.session.not_confirmed())
                }
            }
            Paper::Write(Some(path)) => super::plan::write(path, &proposal),
            _ => Ok(()),
        }
    }

    /// A plan on paper is carried out as it is, or not at all.
    fn refuse_outdated(&self, inputs: &Inputs, plan: &Plan) -> Result {
        let Paper::CarryOut(proposal) = &self.paper else { return Ok(()) };
        proposal.holds(inputs, plan).map_err(|outdated| {
            let again = format!("cargo xtask plan {} --out FILE", self.environment);
            Failure::refused(outdated).hint(format!("make a new one: {again}"))
        })
    }

    /// Decides anew under the lock, and carries it out: none if there is nothing left to do.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, used once")]
    async fn roll_out(
        &self,
        here: &Here,
        locked: &Locked<'_>,
        shown: &Plan,
        project: &Project,
        inputs: &Inputs,
        migrations: Wanted,
        images: Images,
        login: Login,
        report: &mut Report,
    ) -> Result<Option<Manifest>> {
        let settings = locked.settings;
        let id = ReleaseId::new(OffsetDateTime::now_utc(), &project.commit.sha);
        let plan = self.older_runs.plan(id.clone(), inputs, settings, &locked.observed);
        let plan = migrations.along(plan, self.migrate);
        self.refuse_outdated(inputs, &plan)?;
        // What was planned, and perhaps confirmed, was planned on what served then. Who waits for
        // another's deploy without being asked to confirm wants the plan that follows from it.
        let asked = settings.deploy.confirm && !self.yes;
        let moved = plan.from != shown.from || plan.changes != shown.changes;
        if moved && (asked || self.wait.is_none()) {
            let environment = &settings.environment;
            let error = anyhow!("somebody else has deployed to `{environment}` meanwhile");
            return Err(Failure::refused(error).hint("look at it with `status`, then deploy again"));
        }
        if plan.is_empty() {
            locked.nothing_to_do();
            return Ok(None);
        }
        let files = project.release_files(&id, settings);
        let manifest = rollout::manifest(
            project,
            settings,
            inputs,
            images,
            locked.location.clone(),
            id,
            here.who(),
            environment::now(),
        );
        let rollout =
            Rollout::new(locked, &plan, manifest, login, files, report).with_migrations(migrations);
        rollout.run().await.map(Some)
    }

    fn nothing_to_do(
        &self,
        here: &Here,
        session: &Session<'_>,
        observed: &Observed,
        mut report: Report,
    ) -> Result {
        let settings = session.settings;
        let url = if self.dry_run { None } else { tunnel::leave_open(here, settings)? };
        report.finish();
        let summary = Summary {
            environment: &self.environment,
            changed: false,
            release: observed.live_manifest(),
            url,
            seconds: report.seconds(),
        };
        report::facts(self.json, &summary, |it| {
            let id = it.release.map(|it| it.id.to_string()).unwrap_or_default();
            let at = it.url.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
            format!("nothing changed: {} serves {id}{at}", it.environment)
        });
        Ok(())
    }
}

/// A file of values that git holds is everybody's: its secrets are to be changed, not deployed.
fn refuse_tracked(here: &Here, environment: &str) -> Result {
    let file = format!(".env.{environment}");
    let git = Cmd::new("git").arg("-C").arg(&here.root).args(["ls-files", "--"]).arg(file);
    match settings::tracked(&[git.read()?]).pop() {
        None => Ok(()),
        Some(problem) => Err(Failure::refused(anyhow!("{problem}"))),
    }
}

/// Code that does not load here would not load on the host either.
fn refuse_broken(preview: &Preview) -> Result {
    if preview.broken.is_none() {
        return Ok(());
    }
    Err(Failure::refused(anyhow!("the new code does not load"))
        .hint("the traceback above is from your code: mend it, and deploy again"))
}

/// What would make the deploy fail half way is told before it begins.
fn refuse_host(settings: &Settings, observed: &Observed) -> Result {
    /// An image of the code, unpacked, and room to work.
    const NEEDED: u64 = 2 << 30;

    let host = settings.deploy.machine();
    if observed.disk_free < NEEDED {
        let free = observed.disk_free / (1 << 20);
        let error = anyhow!(
            "the disk of {host} is nearly full: {free} MiB free, a deploy needs {}",
            NEEDED >> 20
        );
        return Err(Failure::refused(error)
            .hint("free space on that host: `docker system df` there shows what uses it"));
    }
    if !observed.ui_port_free {
        let port = settings.deploy.ui_port;
        let error = anyhow!("port {port} of {host} is used by another program");
        return Err(Failure::refused(error)
            .hint("end that program, or choose another port with DEPLOY_UI_PORT"));
    }
    Ok(())
}

/// Where the UI is, if it can be reached from here at once.
fn reach(here: &Here, settings: &Settings, report: &mut Report) -> Result<Option<String>> {
    if settings.deploy.testbed {
        report.phase("tunnel");
    }
    let url = tunnel::leave_open(here, settings)?;
    report.end(url.as_deref().unwrap_or_default());
    Ok(url)
}

fn some(files: &[String]) -> String {
    let named: Vec<String> = files.iter().take(3).map(|it| format!("`{it}`")).collect();
    match files.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn deployed(summary: &Summary<'_>) -> String {
    let Summary { environment, release, url, seconds, .. } = summary;
    let id = release.map(|it| it.id.to_string()).unwrap_or_default();
    let at = url.as_ref().map(|url| format!("\nDagster is at {url}\n")).unwrap_or_default();
    format!(
        "\n{environment} serves {id} after {seconds:.1} s\n{at}\n\
         Next:\n  \
           change something in dagster_core/ and deploy again: the code alone is swapped\n  \
           cargo xtask status {environment}\n  \
           cargo xtask logs {environment} --follow\n  \
           cargo xtask down {environment}\n"
    )
}
