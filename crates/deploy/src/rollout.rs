//! Carries a plan out, step by step; undoes it when a step fails.

mod platform;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use anyhow::{Context as _, anyhow};
use images::Login;
use release::{
    CANDIDATE, CORE_PORT, Fingerprint, ImageRef, Inputs, LiveRun, Location, Manifest, Observed,
    Outcome, Plan, ReleaseId, Runs, Step, Worker, candidate_yaml, workspace_yaml,
};
use settings::Settings;

use self::platform::Underway;
use crate::{
    exit::{Exit, Failure, Result},
    gap::Prober,
    locked::{LockLost, Locked},
    project::Project,
    report::Report,
    runs, secrets,
    session::{remote, tail},
    warehouse::{self, Wanted},
};

/// The images of a release, by digest. Postgres may come by tag still: the host that pulls it
/// tells its digest.
pub(crate) struct Images {
    pub(crate) core: ImageRef,
    pub(crate) platform: ImageRef,
    pub(crate) postgres: ImageRef,
}

/// A plan under way: the lock is held.
pub(crate) struct Rollout<'a> {
    session: &'a Locked<'a>,
    login: Login,
    /// What [`Step::Upload`] puts into the release's folder, beside what is written here, by name. A
    /// release that is on the host already has none.
    files: Vec<(&'static str, String)>,
    settings: &'a Settings,
    observed: &'a Observed,
    plan: &'a Plan,
    manifest: Manifest,
    report: &'a mut Report,
    /// The migrations that the code comes with.
    migrations: Vec<warehouse::File>,
    /// When the switch was made, in seconds since 1970 by the host's clock.
    switched_at: f64,
    /// The port of the UI on the host, as the platform's files say that stand.
    ui_port: u16,
    dagster: RefCell<Option<dagster::Client>>,
    underway: Underway,
    prober: Option<Prober>,
}

impl<'a> Rollout<'a> {
    /// Nothing is done yet.
    pub(crate) fn new(
        session: &'a Locked<'a>,
        plan: &'a Plan,
        manifest: Manifest,
        login: Login,
        files: Vec<(&'static str, String)>,
        report: &'a mut Report,
    ) -> Rollout<'a> {
        let settings = session.settings;
        Rollout {
            session,
            login,
            files,
            settings,
            observed: &session.observed,
            plan,
            manifest,
            migrations: Vec::new(),
            report,
            switched_at: 0.0,
            ui_port: session.observed.ui_port().unwrap_or(settings.deploy.ui_port),
            dagster: RefCell::default(),
            underway: Underway::default(),
            prober: None,
        }
    }

    /// With other settings than the session's: those that the release is made of.
    pub(crate) fn with_settings(self, settings: &'a Settings) -> Rollout<'a> {
        Rollout { settings, ..self }
    }

    /// With the migrations that the code comes with.
    pub(crate) fn with_migrations(mut self, migrations: Wanted) -> Rollout<'a> {
        self.underway.warehouse = migrations.has();
        self.migrations = migrations.files;
        self
    }

    /// Carries out every step, or undoes them.
    pub(crate) async fn run(mut self) -> Result<Manifest> {
        let session = self.session;
        // Of the platform as it stands, until it is asked.
        if let Some(stands) = &self.observed.platform_of {
            self.manifest.hosts = self.manifest.hosts.take().or_else(|| stands.hosts.clone());
        }
        session.note(|it| it.about(&self.manifest));
        self.refuse_runs().await?;
        for (done, step) in self.plan.steps.iter().enumerate() {
            if let Err(failure) = session.begin(step.name()) {
                let done = &self.plan.steps[..done];
                if done.contains(&Step::Record) {
                    self.report
                        .say("  interrupted: what is to be tidied is left to the next deploy");
                    break;
                }
                return Err(self.undo(done, failure).await);
            }
            self.report.phase(step.name());
            // What is asked for meanwhile must be answered.
            if matches!(step, Step::Platform | Step::Login { .. } | Step::Switch) {
                self.begin_probes();
            }
            match session.until_interrupted(self.step(step)).await {
                Ok(detail) => self.report.end(&detail),
                Err(failure) => {
                    self.report.end("failed");
                    return Err(self.undo(&self.plan.steps[..=done], failure).await);
                }
            }
        }
        Ok(self.manifest)
    }

    /// Begins to measure the gap that a switch makes, where something serves.
    fn begin_probes(&mut self) {
        if self.plan.from.is_none() || self.prober.is_some() {
            return;
        }
        // Only a measure: without it the switch is as good.
        let Ok(port) = self.session.host.forward_port(self.ui_port, 0) else { return };
        let location = self.session.location.to_string();
        self.prober = Prober::start(port, location, self.settings.deploy.test_job.clone()).ok();
    }

    fn end_probes(&mut self) {
        if let Some(gap) = self.prober.take().and_then(Prober::stop) {
            self.session.note(|it| it.gap = Some(it.gap.unwrap_or(0.0).max(gap)));
        }
    }

    async fn step(&mut self, step: &Step) -> Result<String> {
        match step {
            Step::Pull => self.pull().await,
            Step::Upload => {
                let files = std::mem::take(&mut self.files);
                self.upload(files)
            }
            Step::Resolve(_) => secrets::resolve(self.session, self.settings, &self.manifest.id),
            Step::Inspect => self.inspect(),
            Step::StopDaemon => self.stop_daemon(),
            Step::Dump => self.dump(),
            Step::Migrate => self.migrate(),
            Step::Platform => self.platform(&self.manifest.clone(), String::new()),
            Step::Quiesce { how, limit } => self.quiesce(*how, *limit).await,
            Step::Login { .. } => {
                let switch = workspace_yaml(&self.observed.serving_with(Some(&self.manifest.id)));
                self.platform(&self.manifest.clone(), switch)
            }
            Step::Schema { asked, .. } => self.bring_up_warehouse(*asked).await,
            Step::Start => self.start(),
            Step::Check => self.check().await,
            Step::Switch => {
                self.switched_at = self.switch(Some(&self.manifest.id)).await?;
                Ok(String::new())
            }
            Step::Verify => self.verify().await,
            Step::TestJob => self.test_job().await,
            Step::Record => self.record(),
            Step::EndRuns { how, of, limit } => {
                let limit = Duration::from_secs(*limit);
                let layout = &self.observed.layout;
                let of: Vec<String> = of.iter().map(|it| layout.core_container(it)).collect();
                let works_there = |run: &LiveRun| match &run.worker {
                    Worker::In { container } => of.contains(container),
                    _ => false,
                };
                runs::end(self.session, self.observed, *how, works_there, limit, self.report).await
            }
            Step::Retire(releases) => self.retire(releases),
            Step::Prune { containers, releases, images } => {
                self.prune(containers, releases, images)
            }
        }
    }

    async fn pull(&mut self) -> Result<String> {
        let engine = self.session.engine().await?;
        let mut pulled = 0;
        let host = self.settings.deploy.machine();
        let Manifest { core_image, platform_image, postgres_image, .. } = &mut self.manifest;
        let (core, platform, postgres) = tokio::try_join!(
            engine.image(core_image),
            engine.image(platform_image),
            engine.image(postgres_image)
        )?;
        let images = [(core_image, core), (platform_image, platform), (postgres_image, postgres)];
        for (image, mut found) in images {
            if found.is_none() {
                let report = &self.report;
                engine
                    .pull(image, &self.login, &mut |it| report.now(&it.to_string()))
                    .await
                    .with_context(|| format!("{host} lacks an image, and cannot fetch it"))
                    .map_err(Failure::from)
                    .map_err(|failure| out_of_space(&host, failure))?;
                pulled += 1;
            }
            if image.digest().is_none() {
                // By digest from here on: a moved tag must not change what a restart runs.
                if found.is_none() {
                    found = engine.image(image).await?;
                }
                let digest = found.and_then(|it| it.digests.into_iter().next());
                if let Some(digest) = digest {
                    *image = image.with_digest(digest);
                }
            }
        }
        Ok(match pulled {
            0 => "on the host already".to_owned(),
            1 => "1 image".to_owned(),
            n => format!("{n} images"),
        })
    }

    fn upload(&self, mut files: Vec<(&'static str, String)>) -> Result<String> {
        let layout = &self.observed.layout;
        let dagster_yaml = files.iter().find(|it| it.0 == "dagster.yaml");
        let dagster_yaml = Fingerprint::of(dagster_yaml.map(|it| it.1.as_bytes()));
        let serving = self.observed.serving_with(Some(&self.manifest.id));
        files.extend([
            ("core.env", self.core_variables()),
            ("platform.env", self.platform_variables(&dagster_yaml)),
            ("workspace.yaml", workspace_yaml(&serving)),
            ("manifest.json", self.manifest_json()),
            ("rollback.sh", remote::ROLLBACK.to_owned()),
        ]);
        let file = |(path, text): (&str, String)| exec::File {
            path: path.to_owned(),
            mode: 0o600,
            bytes: text.into_bytes(),
        };
        let files: Vec<exec::File> = files.into_iter().map(file).collect();
        let host = self.settings.deploy.machine();
        self.session
            .upload(&files, &layout.release(&self.manifest.id))
            .map_err(|failure| out_of_space(&host, failure))?;
        Ok(self.manifest.id.to_string())
    }

    /// What `core.yaml` is filled in with. Values without spaces or quotes: every Compose reads
    /// them alike.
    fn core_variables(&self) -> String {
        let Manifest { id, core_image, environment, .. } = &self.manifest;
        let layout = &self.observed.layout;
        let container = layout.core_container(id);
        let memory = &self.settings.deploy.core_memory;
        format!(
            "ENVIRONMENT={environment}\nRELEASE={id}\nCORE_CONTAINER={container}\n\
             CORE_MODULE={}.definitions\nCORE_IMAGE={core_image}\nCORE_MEMORY={memory}\n",
            layout.location
        )
    }

    /// What `platform.yaml` is filled in with.
    fn platform_variables(&self, dagster_yaml: &Fingerprint) -> String {
        let Manifest { platform_image, postgres_image, environment, .. } = &self.manifest;
        let deploy = &self.settings.deploy;
        let layout = &self.observed.layout;
        format!(
            "ENVIRONMENT={environment}\nPLATFORM_IMAGE={platform_image}\nPOSTGRES_IMAGE={postgres_image}\n\
             DAGSTER_YAML={dagster_yaml}\nPLATFORM_DIR={}\nWORKSPACE_DIR={}\nUI_PORT={}\n\
             POSTGRES_MEMORY={}\nWEBSERVER_MEMORY={}\nDAEMON_MEMORY={}\n",
            layout.platform(),
            layout.workspace(),
            deploy.ui_port,
            deploy.postgres_memory,
            deploy.webserver_memory,
            deploy.daemon_memory,
        )
    }

    fn manifest_json(&self) -> String {
        // One line: `observe.sh` sends one fact a line.
        serde_json::to_string(&self.manifest).expect("a manifest is plain data")
    }

    /// Writes down what is known of the release by now.
    fn write_manifest(&self) -> Result {
        let dir = self.observed.layout.release(&self.manifest.id);
        self.session.write(&format!("{dir}/manifest.json"), "600", self.manifest_json())?;
        Ok(())
    }

    /// Makes the platform what the files of a release say. Where the password changes with it, so
    /// does what they ask: the `switch` is written with it, if it has a text.
    fn platform(&mut self, release: &Manifest, switch: String) -> Result<String> {
        let Observed { layout, compose, .. } = self.observed;
        let args = [
            &compose.command,
            &layout.platform_project(),
            &layout.platform(),
            &layout.release(&release.id),
            &layout.workspace(),
        ];
        self.session.run(
            "start the platform",
            remote::PLATFORM,
            &args.map(String::as_str),
            switch.into_bytes(),
        )?;
        self.ui_port = release.ui_port.unwrap_or(self.settings.deploy.ui_port);
        // It may have been started anew, at another port.
        self.dagster.take();
        Ok(String::new())
    }

    fn start(&self) -> Result<String> {
        let Observed { layout, compose, .. } = self.observed;
        let id = &self.manifest.id;
        let limit = self.settings.deploy.start_timeout.as_secs().to_string();
        let container = layout.core_container(id);
        let args = [
            &compose.command,
            &layout.core_project(id),
            &layout.release(id),
            &container,
            &CORE_PORT.to_string(),
            &limit,
        ];
        let output = self.session.script(remote::START, &args.map(String::as_str), Vec::new())?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let what = match output.status.code() {
            Some(0) => return Ok(container),
            Some(41) => "the new code does not start".to_owned(),
            Some(42) => format!("the new code was not ready after {limit} s"),
            _ => format!("`{container}` could not be started"),
        };
        let failure = Failure::from(anyhow!("{}", tail(&said, 60)).context(what));
        Err(match output.status.code() {
            Some(41) => failure.hint("the traceback is from your code: mend it, and deploy again"),
            Some(42) => failure.hint("raise DEPLOY_START_TIMEOUT if its imports need longer"),
            _ => failure,
        })
    }

    /// A client of Dagster, whose webserver answers; or did, and was not touched since.
    async fn dagster(&self) -> Result<dagster::Client> {
        if let Some(known) = self.dagster.borrow().clone() {
            return Ok(known);
        }
        let dagster = self.session.dagster_at(self.ui_port)?;
        dagster.ready(self.settings.deploy.verify_timeout).await?;
        self.dagster.replace(Some(dagster.clone()));
        Ok(dagster)
    }

    /// Lets the webserver, and it alone, load the new definitions.
    async fn check(&self) -> Result<String> {
        let dagster = self.candidate(Some(&self.manifest.id)).await?;
        let found = async {
            let code = dagster.code(CANDIDATE).await?;
            let definitions = dagster.definitions_of(CANDIDATE, &code).await?;
            Ok::<_, dagster::Error>((code, definitions))
        };
        let found = found.await.context("the new code has no definitions that Dagster can load")?;
        let (code, definitions) = found;
        self.refuse_skew(&code)?;
        let dagster::Definitions { jobs, assets, schedules, sensors } = definitions;
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        Ok([
            count(jobs.len(), "job"),
            count(assets.len(), "asset"),
            count(schedules.len(), "schedule"),
            count(sensors.len(), "sensor"),
        ]
        .join(", "))
    }

    /// Lets the webserver load a code server as the candidate, or none. Answers whom to ask of it.
    async fn candidate(&self, id: Option<&ReleaseId>) -> Result<dagster::Client> {
        let dagster = self.dagster().await?;
        let workspace = self.observed.layout.workspace();
        let args = [workspace.as_str(), &self.ui_port.to_string()];
        let container = id.map(|it| self.observed.layout.core_container(it));
        let content = candidate_yaml(container.as_deref()).into_bytes();
        self.session.run("load the new definitions", remote::CANDIDATE, &args, content)?;
        Ok(dagster)
    }

    /// Points webserver and daemon to a code server, or to none. Answers when.
    async fn switch(&self, to: Option<&ReleaseId>) -> Result<f64> {
        let workspace = self.observed.layout.workspace();
        // One that is about to start has read the file and does not hear that it changed.
        self.dagster().await?;
        let args = [workspace.as_str(), &self.ui_port.to_string()];
        let content = workspace_yaml(&self.observed.serving_with(to));
        let when = self.session.run("switch", remote::SWITCH, &args, content.into_bytes())?;
        Ok(when.trim().parse().with_context(|| format!("the host's clock says `{when}`"))?)
    }

    /// Waits until a release is what webserver and daemon ask. A sign of life of every daemon after
    /// the switch tells that they follow it.
    async fn served(&self, release: &Manifest, since: f64) -> Result<dagster::Served> {
        let expected = dagster::Expectation {
            location: self.session.location.to_string(),
            host: self.observed.layout.core_container(&release.id),
            image: release.core_image.to_string(),
            since,
            deadline: self.settings.deploy.verify_timeout,
        };
        let dagster = self.dagster().await?;
        Ok(dagster::verify(&dagster, &expected, |why| self.report.now(why)).await?)
    }

    async fn verify(&mut self) -> Result<String> {
        let seen = self.served(&self.manifest, self.switched_at).await?;
        for warning in &seen.warnings {
            self.report.say(&format!("  warning: {warning}"));
        }
        self.manifest.dagster = seen.libraries;
        self.end_probes();
        Ok("the new code is served".to_owned())
    }

    /// Runs the test job until the new code server is the one that ran it: the daemon follows the
    /// switch a few seconds after the webserver.
    async fn test_job(&self) -> Result<String> {
        let deploy = &self.settings.deploy;
        let dagster = self.dagster().await?;
        let here = self.observed.layout.core_container(&self.manifest.id);
        let location = self.session.location.as_str();
        // The test job is the one of `dagster_core`; another location may have its own, of that name.
        if self.session.location != Location::default()
            && !dagster.definitions(location).await?.jobs.contains(&deploy.test_job)
        {
            return Ok(format!("`{location}` has no `{}`", deploy.test_job));
        }
        let tags: BTreeMap<_, _> =
            [("dagster-deploy/release".to_owned(), self.manifest.id.to_string())].into();
        let limit = tokio::time::Instant::now() + deploy.verify_timeout;
        loop {
            let left = limit.saturating_duration_since(tokio::time::Instant::now());
            let run = dagster.launch(location, &deploy.test_job, &tags, None, left).await?;
            let run = dagster
                .wait_for_run(&run, left, |status| self.report.now(&status.to_string()))
                .await
                .with_context(|| format!("the test job `{}` did not succeed", deploy.test_job))?;
            if dagster.ran_on(&run.id, &here, CORE_PORT).await? {
                return Ok(format!("`{}` succeeded", deploy.test_job));
            }
        }
    }

    fn record(&mut self) -> Result<String> {
        self.manifest.outcome = Outcome::Deployed;
        self.manifest.schema = self.schema();
        self.manifest.migrations = self.warehouse_migrations();
        self.manifest.phases.clone_from(&self.report.phases);
        self.write_manifest()?;
        Ok(String::new())
    }

    /// The revision of Dagster's tables. Only a change of the platform moves it.
    fn schema(&self) -> Option<String> {
        let known = self.observed.live_manifest().and_then(|it| it.schema.clone());
        if known.is_some() && !self.plan.steps.contains(&Step::Platform) {
            return known;
        }
        let project = self.observed.layout.platform_project();
        let said = self.session.ask("ask", remote::SCHEMA, &[&project]).ok()?;
        let said = said.trim();
        (!said.is_empty()).then(|| said.to_owned())
    }

    fn retire(&self, releases: &[ReleaseId]) -> Result<String> {
        let layout = &self.observed.layout;
        let containers: Vec<String> = releases.iter().map(|it| layout.core_container(it)).collect();
        let args: Vec<&str> = containers.iter().map(String::as_str).collect();
        self.session.run("retire older code servers", remote::RETIRE, &args, Vec::new())?;
        Ok(containers.join(", "))
    }

    fn prune(
        &self,
        containers: &[ReleaseId],
        releases: &[String],
        images: &[ImageRef],
    ) -> Result<String> {
        let mut input = String::new();
        for id in containers {
            input += &format!("container {}\n", self.observed.layout.core_container(id));
        }
        for release in releases {
            input += &format!("release {release}\n");
        }
        for image in images {
            input += &format!("image {image}\n");
        }
        let dir = self.observed.layout.releases();
        self.session.run(
            "remove what is not needed",
            remote::PRUNE,
            &[&dir],
            input.into_bytes(),
        )?;
        Ok(String::new())
    }

    /// Brings back what served before. `done` are the steps begun, the failed one last.
    async fn undo(&mut self, done: &[Step], failure: Failure) -> Failure {
        // Of these the platform has seen something, be it undone again.
        let touched = done.contains(&Step::Switch)
            || done.contains(&Step::StopDaemon)
            || done.iter().any(is_login)
            || (done.contains(&Step::Platform) && self.plan.from.is_some());
        let tidies = |it: &Step| matches!(it, Step::Record | Step::Retire(_) | Step::Prune { .. });
        if done.iter().any(tidies) {
            // It serves and is verified: what failed is only the tidying after it.
            return Failure {
                error: failure.error.context("the release serves, but what follows it failed"),
                ..failure
            };
        }
        if failure.error.is::<LockLost>() {
            return failure;
        }
        if !self.session.host.is_alive() {
            let error = failure.error.context("the connection was lost, so nothing was undone");
            return Failure { exit: Exit::NotUndone, error, hint: None }
                .hint("look at it with `status`; the next deploy heals what was left");
        }
        self.session.undoing();
        if touched {
            self.begin_probes();
        }
        let undone = self.try_undo(done).await;
        self.end_probes();
        match undone {
            Ok(()) if !touched => {
                let left = self.tell_migration();
                Failure { exit: if left { Exit::Undone } else { Exit::Refused }, ..failure }
            }
            Ok(()) => {
                let before = self.plan.from.as_ref().map_or("nothing", ReleaseId::as_str);
                self.report.say(&format!("  switched back: {before} serves again"));
                self.tell_migration();
                Failure { exit: Exit::Undone, ..failure }
            }
            // That is why the step failed, too.
            Err(undo) if undo.error.is::<LockLost>() => undo,
            Err(undo) => Failure {
                exit: Exit::NotUndone,
                error: failure
                    .error
                    .context(format!("a step failed, and so did undoing it ({:#})", undo.error)),
                ..failure
            },
        }
    }

    async fn try_undo(&mut self, done: &[Step]) -> Result {
        let id = self.manifest.id.clone();
        let container = self.observed.layout.core_container(&id);
        self.remember_migrations()?;
        let Observed { platform_of, .. } = self.observed;
        let stood = platform_of.as_ref().or(self.observed.live_manifest());
        let login = done.iter().any(is_login);
        let touched = done.contains(&Step::StopDaemon) || done.contains(&Step::Platform) || login;
        if let Some(before) = stood.filter(|_| touched) {
            if login && !done.last().is_some_and(is_login) {
                // What has begun since would lose the database.
                self.stop_daemon()?;
                self.quiesce(Runs::Cancel, self.settings.deploy.verify_timeout.as_secs()).await?;
            }
            let serving = || self.observed.serving_with(self.plan.from.as_ref());
            let switch = if login { workspace_yaml(&serving()) } else { String::new() };
            self.platform(before, switch)?;
        }
        let switched = login || done.contains(&Step::Switch);
        if done.contains(&Step::Check) && !switched {
            self.candidate(None).await?;
        }
        if switched {
            let since = self.switch(self.plan.from.as_ref()).await?;
            // It may have begun runs: let it finish them, once nobody sends it new ones.
            if let Some(before) = self.observed.live_manifest() {
                self.served(before, since).await?;
            }
            // One that ran before this plan goes on running.
            if done.contains(&Step::Start) {
                self.session.run("stop the new code", remote::RETIRE, &[&container], Vec::new())?;
            }
            return Ok(());
        }
        if done.contains(&Step::Start) {
            let what = "remove the new code server";
            self.session.run(what, remote::REMOVE, &[&container], Vec::new())?;
        }
        if done.contains(&Step::Upload) {
            self.prune(&[], &[id.to_string()], &[])?;
        }
        Ok(())
    }
}

fn is_login(step: &Step) -> bool {
    matches!(step, Step::Login { .. })
}

/// A full disk has many voices; say it plainly.
fn out_of_space(host: &str, failure: Failure) -> Failure {
    if !format!("{:#}", failure.error).to_lowercase().contains("no space left on device") {
        return failure;
    }
    let error = failure.error.context(format!("the disk of {host} is full"));
    Failure { error, ..failure }
        .hint("free space there (`docker system df` shows what uses it), then deploy again")
}

/// The manifest of a release that is about to be made.
#[expect(clippy::too_many_arguments, reason = "each is a fact of its own")]
pub(crate) fn manifest(
    project: &Project,
    settings: &Settings,
    inputs: &Inputs,
    images: Images,
    location: Location,
    id: ReleaseId,
    by: String,
    at: String,
) -> Manifest {
    Manifest {
        id,
        environment: settings.environment.clone(),
        location,
        outcome: Outcome::Pending,
        git_sha: project.commit.sha.clone(),
        git_subject: project.commit.subject.clone(),
        dirty: !project.commit.dirty.is_empty(),
        by,
        at,
        promoted: None,
        core_image: images.core,
        platform_image: images.platform,
        postgres_image: images.postgres,
        inputs: inputs.clone(),
        ui_port: Some(settings.deploy.ui_port),
        schema: None,
        migrations: None,
        hosts: None,
        secrets: settings.kept(),
        dagster: BTreeMap::new(),
        phases: Vec::new(),
    }
}
