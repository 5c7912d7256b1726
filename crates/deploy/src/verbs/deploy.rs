//! `deploy`: from the checkout to a verified release.

use anyhow::anyhow;
use exec::Cmd;
use images::{Login, Registry};
use release::{
    Ended, ImageRef, Inputs, Manifest, Observed, Plan, Preview, Promoted, Proposal, ReleaseId,
};
use serde::Serialize;
use settings::Settings;
use testbed::Testbed;
use time::OffsetDateTime;

use super::{
    doctor,
    request::{Deploy, OlderRuns, Paper},
    tunnel,
};
use crate::{
    artifacts::Workshop,
    audit::Audit,
    environment::{self, Here},
    exit::{Failure, Result},
    locked::Locked,
    preview::Prospect,
    project::Project,
    promotion::{self, Promotion, Proof, Seen},
    report::{self, Report},
    rollout::{self, Images, Rollout},
    secrets,
    session::{self, Session},
    warehouse::Wanted,
};

/// What a deploy tells at its end.
#[derive(Serialize)]
struct Summary<'a> {
    environment: &'a str,
    changed: bool,
    release: Option<&'a Manifest>,
    url: Option<String>,
    seconds: f64,
}

/// What is released: the checkout, or what another environment serves.
struct Source<'a> {
    project: Project,
    inputs: Inputs,
    promotion: Option<Promotion<'a>>,
}

impl<'a> Source<'a> {
    fn checkout(project: Project, settings: &Settings) -> Source<'a> {
        Source { inputs: project.inputs(settings), project, promotion: None }
    }

    fn promoted(
        theirs: Seen<'a>,
        here: &Here,
        settings: &Settings,
        observed: &Observed,
    ) -> Result<Source<'a>> {
        let promotion = Promotion::of(theirs, here, &settings.environment, observed)?;
        let project = promotion.project(settings)?;
        let inputs = promotion.inputs(&project, settings);
        Ok(Source { project, inputs, promotion: Some(promotion) })
    }

    /// What it is promoted from.
    fn origin(&self) -> Option<Promoted> {
        self.promotion.as_ref().map(Promotion::promoted)
    }

    fn plan(
        &self,
        id: ReleaseId,
        runs: &OlderRuns,
        settings: &Settings,
        observed: &Observed,
    ) -> Plan {
        let settings::Deploy { test_job, keep_releases: keep, .. } = &settings.deploy;
        let test_job = !test_job.is_empty();
        let password = observed.password_changes(settings);
        let images = self.promotion.as_ref().map(Promotion::images);
        let inputs = &self.inputs;
        let plan = match images {
            Some(images) => {
                Plan::promoting(id, inputs, images, password, test_job, *keep, observed)
            }
            None => Plan::new(id, inputs, password, test_job, *keep, observed),
        };
        let left_to_host = settings.left_to_host().into_iter().map(|(key, _)| key);
        runs.treat(plan.with_secrets_of_host(left_to_host))
    }

    /// The code's image, if there is one yet.
    async fn core(
        &self,
        workshop: &Workshop<'_>,
        live: Option<&Manifest>,
    ) -> Result<Option<ImageRef>> {
        match &self.promotion {
            Some(promotion) => Ok(Some(promotion.images()[0].clone())),
            None => workshop.core(&self.inputs, live).await,
        }
    }

    /// Its images, copied or made.
    async fn images(
        &self,
        workshop: &Workshop<'_>,
        live: Option<&Manifest>,
        report: &mut Report,
    ) -> Result<Images> {
        match &self.promotion {
            Some(promotion) => promotion.copy(workshop, &self.inputs, live, report).await,
            None => workshop.images(&self.inputs, live, report).await,
        }
    }
}

impl Deploy {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let mut report = Report::new();
        let verb = if matches!(self.paper, Paper::CarryOut(_)) { "apply" } else { "deploy" };
        let mut audit = Audit::begin(here, verb);
        let mut settings = self.settings(here, &mut report).await?;
        Here::require_location(&settings, &self.location)?;
        self.refuse_circles(&settings)?;
        let other = self.other(here, &settings, &mut report).await?;
        let project = match &other {
            Some(_) => None,
            None => Some(self.checkout(here, &settings)?),
        };
        refuse_tracked(here, &self.environment)?;
        let host = secrets::look_up(&mut settings, here, &mut report)?;

        report.phase("connect");
        let seen = promotion::connect(host, &settings, other.as_ref(), &self.location)?;
        let ((session, observed), theirs) = seen;
        report.end(&format!("{}, Compose {}", settings.deploy.place(), observed.compose.version));
        let source = match theirs {
            Some(theirs) => {
                let source = Source::promoted(theirs, here, &settings, &observed);
                self.recorded(&session, &audit, source)?
            }
            None => Source::checkout(project.expect("it is one of both"), &settings),
        };

        audit.entry.promoted = source.origin();
        let id = ReleaseId::new(OffsetDateTime::now_utc(), &source.project.commit.sha);
        let plan = source.plan(id, &self.older_runs, &settings, &observed);
        if plan.is_empty() && matches!(self.paper, Paper::None) {
            if !self.dry_run {
                session.record(&audit.ended(Ok(Ended::NothingToDo)));
            }
            return self.nothing_to_do(here, &session, &observed, report);
        }
        let migrations = Wanted::look(&source.project.root, &session, &observed).await;
        let migrations = self.recorded(&session, &audit, migrations)?;
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
            project: &source.project,
            settings: &settings,
            ca_bundle: ca_bundle.as_deref(),
        };
        let prospect = Prospect {
            here,
            session: &session,
            project: &source.project,
            observed: &observed,
            workshop: &workshop,
            promotion: source.promotion.as_ref(),
        };
        let proof = self.prove(&prospect, &source, &mut audit, &mut report).await;
        let considered =
            self.consider(&prospect, &plan, &source, &migrations, proof, &mut report).await;
        let proof = self.recorded(&session, &audit, considered)?;
        if self.dry_run {
            return Ok(());
        }

        // Built outside the lock: it touches nothing on the host.
        let images = source.images(&workshop, observed.live_manifest(), &mut report).await;
        let images = session.recorded(&audit, images)?;
        // Its tag may have been moved since it was looked up.
        let proven = proof.map_or(Ok(()), |it| it.require(Some(&images.core), &self.environment));
        session.recorded(&audit, proven)?;
        report.phase("lock");
        let locked = session.locked(audit, self.wait, &report)?;
        report.end("");
        let result = self
            .roll_out(here, &locked, &plan, &source, migrations, images, login, &mut report)
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

    /// Writes a failure into the audit log on the host, unless nothing was to be done.
    fn recorded<T>(&self, session: &Session<'_>, audit: &Audit, result: Result<T>) -> Result<T> {
        if self.dry_run { result } else { session.recorded(audit, result) }
    }

    /// What an environment gives, it cannot take from itself.
    fn refuse_circles(&self, settings: &Settings) -> Result {
        let environment = &self.environment;
        for (named, what) in
            [(&self.from, "--from"), (&settings.deploy.proven_by, "DEPLOY_PROVEN_BY")]
        {
            if named.as_ref() == Some(environment) {
                let error = anyhow!("{what} of a deploy to `{environment}` names `{environment}`");
                return Err(Failure::refused(error).hint("name another environment, or none"));
            }
        }
        Ok(())
    }

    /// The settings of the environment whose release is promoted, if one is.
    async fn other(
        &self,
        here: &Here,
        settings: &Settings,
        report: &mut Report,
    ) -> Result<Option<Settings>> {
        let Some(from) = &self.from else { return Ok(None) };
        let mut other = here.settings_of_another(from).await?;
        // Of its secrets only the registry's login may be needed.
        other.containers.retain(|_, value| !value.is_unread());
        if other.deploy.registry != settings.deploy.registry {
            secrets::look_up_here(&mut other, here, report)?;
        }
        Ok(Some(other))
    }

    /// The checkout, if it may be released as it is.
    fn checkout(&self, here: &Here, settings: &Settings) -> Result<Project> {
        let project = Project::read(&here.root, settings, &self.location)?;
        let dirty = &project.commit.dirty;
        if dirty.is_empty() || self.allow_dirty || settings.deploy.allow_dirty {
            return Ok(project);
        }
        let error = anyhow!("no commit holds {} as it is now", some(dirty));
        Err(Failure::refused(error)
            .hint("commit your changes, or release them as they are with --allow-dirty"))
    }

    /// Asks the environment that must have served code before this one does, if there is something
    /// to ask; refuses what it never served.
    async fn prove(
        &self,
        prospect: &Prospect<'_>,
        source: &Source<'_>,
        audit: &mut Audit,
        report: &mut Report,
    ) -> Result<Option<Proof>> {
        let Prospect { here, session, observed, workshop, promotion, .. } = prospect;
        let Some(by) = &session.settings.deploy.proven_by else { return Ok(None) };
        // It serves there now.
        if promotion.is_some_and(|it| it.from() == by) {
            return Ok(None);
        }
        let live = observed.live_manifest();
        let image = source.core(workshop, live).await?;
        // What serves here is not new here.
        let digest = image.as_ref().and_then(ImageRef::digest);
        if digest.is_some() && digest == live.and_then(|it| it.core_image.digest()) {
            return Ok(None);
        }
        if self.unproven {
            audit.entry.unproven = true;
            return Ok(None);
        }
        let proof = Proof::ask(here, by, session, report).await?;
        proof.require(image.as_ref(), &self.environment)?;
        Ok(Some(proof))
    }

    /// What is seen and asked before anything is done; with --dry-run there is no more.
    async fn consider(
        &self,
        prospect: &Prospect<'_>,
        plan: &Plan,
        source: &Source<'_>,
        migrations: &Wanted,
        proof: Result<Option<Proof>>,
        report: &mut Report,
    ) -> Result<Option<Proof>> {
        let settings = prospect.session.settings;
        self.refuse_outdated(source, plan)?;
        refuse_host(settings, prospect.observed)?;
        if let Some(why) = plan.refuses_login() {
            let hint = why.hint(&settings.environment);
            return Err(Failure::refused(why).hint(hint));
        }
        let allowed = proof.and_then(|proof| {
            migrations.refusal(&settings.environment, self.migrate)?;
            Ok(proof)
        });
        // A plan on paper is shown all the same.
        if !self.dry_run && (allowed.is_err() || self.yes || !settings.deploy.confirm) {
            return allowed;
        }
        let proposal = Proposal {
            environment: self.environment.clone(),
            location: prospect.session.location.clone(),
            by: prospect.here.who(),
            at: environment::now(),
            promoted: source.origin(),
            unproven: self.unproven,
            plan: plan.clone(),
            runs: self.older_runs.runs,
            inputs: source.inputs.clone(),
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
        let proof = allowed?;
        match &self.paper {
            _ if !self.dry_run => {
                let question = format!("Deploy this to {}? [y/N]", settings.environment);
                if !report.confirm(&question) {
                    return Err(prospect.session.not_confirmed());
                }
            }
            Paper::Write(Some(path)) => super::plan::write(path, &proposal)?,
            _ => {}
        }
        Ok(proof)
    }

    /// A plan on paper is carried out as it is, or not at all.
    fn refuse_outdated(&self, source: &Source<'_>, plan: &Plan) -> Result {
        let Paper::CarryOut(proposal) = &self.paper else { return Ok(()) };
        let promoted = source.origin();
        proposal.holds(&source.inputs, promoted.as_ref(), plan).map_err(|outdated| {
            let from = promoted.map(|it| format!(" --from {}", it.environment)).unwrap_or_default();
            let again = format!("cargo xtask plan {}{from} --out FILE", self.environment);
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
        source: &Source<'_>,
        migrations: Wanted,
        images: Images,
        login: Login,
        report: &mut Report,
    ) -> Result<Option<Manifest>> {
        let settings = locked.settings;
        let Source { project, inputs, .. } = source;
        let id = ReleaseId::new(OffsetDateTime::now_utc(), &project.commit.sha);
        let plan = source.plan(id.clone(), &self.older_runs, settings, &locked.observed);
        let plan = migrations.along(plan, self.migrate);
        self.refuse_outdated(source, &plan)?;
        // What was planned, and perhaps confirmed, was planned on what served then. Who waits for
        // another's deploy without being asked to confirm wants the plan that follows from it.
        let asked = settings.deploy.confirm && !self.yes;
        let moved = plan.from != shown.from || plan.changes != shown.changes;
        if moved && (asked || !self.wait.is_asked()) {
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
        let manifest = Manifest { promoted: source.origin(), ..manifest };
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
pub(super) fn refuse_tracked(here: &Here, environment: &str) -> Result {
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
pub(super) fn refuse_host(settings: &Settings, observed: &Observed) -> Result {
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
