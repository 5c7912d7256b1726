//! A release of another environment, made one of this: its images, the files of its commit, and the
//! settings of this environment. The other one is only looked at.

use std::thread;

use anyhow::anyhow;
use exec::Host;
use images::Registry;
use release::{
    ImageRef, Inputs, Location, Manifest, Observed, Outcome, Promoted, Served, Unproven,
};
use settings::Settings;

use crate::{
    artifacts::Workshop,
    environment::Here,
    exit::{Failure, Result},
    project::{Commit, Project},
    report::Report,
    rollout::Images,
    session::{self, Session, remote},
    tree::Tree,
};

/// What another environment serves.
pub(crate) struct Promotion<'a> {
    session: Session<'a>,
    observed: Observed,
    /// Of the release.
    manifest: Manifest,
    /// Of its commit.
    tree: Tree,
}

/// A host, connected and looked at.
pub(crate) type Seen<'a> = (Session<'a>, Observed);

/// Connects to the host of an environment, unless there is a connection, and looks at it.
fn see<'a>(host: Option<Host>, settings: &'a Settings, location: &Location) -> Result<Seen<'a>> {
    let session = Session::over(host, settings, location.clone())?;
    let observed = session.observe()?;
    session.require(&observed)?;
    Ok((session, observed))
}

/// The same; and to that of another one too, if there is one, at the same time.
pub(crate) fn connect<'a>(
    host: Option<Host>,
    settings: &'a Settings,
    other: Option<&'a Settings>,
    location: &Location,
) -> Result<(Seen<'a>, Option<Seen<'a>>)> {
    thread::scope(|scope| {
        let other = other.map(|other| scope.spawn(move || see(None, other, location)));
        let seen = see(host, settings, location);
        let other = other.map(|it| it.join().expect("looking at a host does not panic"));
        Ok((seen?, other.transpose()?))
    })
}

impl<'a> Promotion<'a> {
    /// Takes what another environment serves, for one that was `observed`.
    pub(crate) fn of(
        (session, theirs): Seen<'a>,
        here: &Here,
        to: &str,
        observed: &Observed,
    ) -> Result<Promotion<'a>> {
        let from = &session.settings.environment;
        let location = &session.location;
        let Some(manifest) = theirs.live_manifest().cloned() else {
            let error = anyhow!("`{from}` serves no `{location}`");
            let which = if location == &Location::default() {
                String::new()
            } else {
                format!(" --location {location}")
            };
            return Err(Failure::refused(error)
                .hint(format!("deploy it there first: cargo xtask deploy {from}{which}")));
        };
        let id = &manifest.id;
        if manifest.outcome != Outcome::Deployed {
            let error = anyhow!("what `{from}` serves, {id}, was never verified");
            return Err(Failure::refused(error)
                .hint(format!("its deploy was cut off; heal it: cargo xtask deploy {from}")));
        }
        if manifest.dirty {
            let error =
                anyhow!("what `{from}` serves, {id}, was made from files that no commit holds");
            return Err(Failure::refused(error)
                .hint(format!("commit them, and deploy them there: cargo xtask deploy {from}")));
        }
        if theirs.architecture != observed.architecture {
            let (one, two) = (&theirs.architecture, &observed.architecture);
            let error =
                anyhow!("`{from}` runs on {one} and `{to}` on {two}, where its images do not");
            return Err(Failure::refused(error)
                .hint(format!("build them for {two}: cargo xtask deploy {to}")));
        }
        let tree = Tree::of(&here.root, &manifest.git_sha, location)?;
        Ok(Promotion { session, observed: theirs, manifest, tree })
    }

    /// The environment that serves it.
    pub(crate) fn from(&self) -> &str {
        &self.session.settings.environment
    }

    /// What is promoted.
    pub(crate) fn promoted(&self) -> Promoted {
        Promoted { environment: self.from().to_owned(), release: self.manifest.id.clone() }
    }

    /// The images of code and platform.
    pub(crate) fn images(&self) -> [&ImageRef; 2] {
        [&self.manifest.core_image, &self.manifest.platform_image]
    }

    /// The files of its commit.
    pub(crate) fn project(&self, settings: &Settings) -> Result<Project> {
        let Manifest { git_sha, git_subject, .. } = &self.manifest;
        let commit = Commit {
            sha: git_sha.clone(),
            subject: git_subject.clone(),
            dirty: Vec::new(),
            location: self.session.location.clone(),
        };
        Project::of(commit, self.tree.root(), settings)
    }

    /// What it is made from here: the images are what they are, settings are this environment's.
    pub(crate) fn inputs(&self, project: &Project, settings: &Settings) -> Inputs {
        let Inputs { core, platform, .. } = self.manifest.inputs.clone();
        Inputs { core, platform, ..project.inputs(settings) }
    }

    /// What the code defines, by the one that serves it. (Code that asks where it runs may define
    /// something else elsewhere.)
    pub(crate) async fn definitions(&self) -> Result<dagster::Definitions> {
        let dagster = self.session.dagster(&self.observed)?;
        Ok(dagster.definitions(self.session.location.as_str()).await?)
    }

    /// Copies its images into this environment's registry; what is there already is left alone.
    pub(crate) async fn copy(
        &self,
        workshop: &Workshop<'_>,
        inputs: &Inputs,
        live: Option<&Manifest>,
        report: &mut Report,
    ) -> Result<Images> {
        report.phase("copy images");
        let [core, platform] = self.images();
        let theirs = Registry::new(
            core.name(),
            session::login(self.session.settings),
            workshop.registry.architecture(),
            workshop.ca_bundle,
        );
        let project = workshop.project;
        let core_tag = workshop.name(project.core.base.name, inputs.core.short())?;
        let platform_tag = workshop.name(project.platform.name, inputs.platform.short())?;
        let ((core, some), (platform, more)) = tokio::try_join!(
            workshop.registry.copy(&theirs, core, &core_tag),
            workshop.registry.copy(&theirs, platform, &platform_tag)
        )?;
        report.end(&match some + more {
            0 => format!("{}: the registry has them", self.promoted()),
            bytes => format!("{}: {} KiB", self.promoted(), bytes.div_ceil(1024)),
        });
        let mut postgres = workshop.postgres(inputs, live)?;
        // The very one that was served there, where both ask for the same.
        let theirs = self.observed.made_of.as_ref();
        let theirs = theirs.and_then(|it| it.plain("DEPLOY_POSTGRES_IMAGE"));
        if postgres.digest().is_none() && theirs == Some(&postgres.to_string()) {
            postgres = self.manifest.postgres_image.clone();
        }
        Ok(Images { core, platform, postgres })
    }
}

/// What has served in the environment that must have served code before this one does
/// (`DEPLOY_PROVEN_BY`).
pub(crate) struct Proof(Served);

impl Proof {
    /// Asks it. It is only looked at.
    pub(crate) async fn ask(
        here: &Here,
        by: &str,
        session: &Session<'_>,
        report: &mut Report,
    ) -> Result<Proof> {
        report.phase("proof");
        let environment = &session.settings.environment;
        let asked = async {
            let settings = here.settings_of_another(by).await?;
            let (theirs, observed) = see(None, &settings, &session.location)?;
            let dir = settings.deploy.dir.as_str();
            let log = theirs.ask("read the audit log", remote::HISTORY, &[dir])?;
            Ok::<_, Failure>(Served::new(&observed, &log))
        };
        let served = asked.await.map_err(|failure| {
            let why = format!(
                "`{environment}` takes only what `{by}` has served, and `{by}` could not be asked"
            );
            let hint = failure.hint.into_iter();
            let hint = hint.chain(["or do not ask it: --unproven".to_owned()]);
            let hint = Some(hint.collect::<Vec<_>>().join("\n"));
            Failure { error: failure.error.context(why), hint, ..failure }
        })?;
        report.end(by);
        Ok(Proof(served))
    }

    /// Refuses an image that never served there. One that is yet to be made did not.
    pub(crate) fn require(&self, image: Option<&ImageRef>, environment: &str) -> Result {
        self.0.require(image, environment).map_err(|why: Unproven| {
            let hint = why.hint();
            Failure::refused(why).hint(hint)
        })
    }
}
