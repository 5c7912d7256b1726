//! Makes the images of a release in the registry; what it has already is left alone.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use images::{Build, Engine, Error, Layer, Login, Progress, Registry, Remote};
use release::{Fingerprint, ImageRef, Inputs, Manifest};
use settings::Settings;

use crate::{
    exit::Result,
    project::{Code, Project, Recipe},
    report::Report,
    rollout::Images,
};

/// The label that tells from what an image was made.
const FINGERPRINT: &str = "dagster-deploy.fingerprint";

/// Where the image has the code's files; `core.Dockerfile` names the same folder.
pub(crate) const CODE_IN_IMAGE: &str = "/opt/dagster/code";

/// What making images needs. An engine is not among it: that is looked for when one must be built,
/// which a change of the code alone does not ask for.
pub(crate) struct Workshop<'a> {
    pub(crate) registry: Registry,
    pub(crate) login: &'a Login,
    pub(crate) project: &'a Project,
    pub(crate) settings: &'a Settings,
    /// The certificates this machine trusts, where a proxy re-signs what is downloaded.
    pub(crate) ca_bundle: Option<&'a Path>,
}

impl Workshop<'_> {
    /// The images that `inputs` make. What the release that serves was made from is taken from its
    /// manifest: it needs no engine and no registry here.
    pub(crate) async fn images(
        &self,
        inputs: &Inputs,
        live: Option<&Manifest>,
        report: &mut Report,
    ) -> Result<Images> {
        let core = match live {
            Some(live) if live.inputs.core == inputs.core => live.core_image.clone(),
            _ => self.code(&self.project.core, report).await?,
        };
        let platform = match live {
            Some(live) if live.inputs.platform == inputs.platform => live.platform_image.clone(),
            _ => self.platform(report).await?,
        };
        Ok(Images { core, platform, postgres: self.postgres(inputs, live)? })
    }

    /// The database's image, which nobody here makes: by its digest if it stands so.
    pub(crate) fn postgres(&self, inputs: &Inputs, live: Option<&Manifest>) -> Result<ImageRef> {
        match live {
            Some(live) if live.inputs.platform_settings == inputs.platform_settings => {
                Ok(live.postgres_image.clone())
            }
            _ => {
                Ok(self.settings.deploy.postgres_image.parse().context("DEPLOY_POSTGRES_IMAGE")?)
            }
        }
    }

    /// The code's image, if the release that serves or the registry has it.
    pub(crate) async fn core(
        &self,
        inputs: &Inputs,
        live: Option<&Manifest>,
    ) -> Result<Option<ImageRef>> {
        if let Some(live) = live.filter(|it| it.inputs.core == inputs.core) {
            return Ok(Some(live.core_image.clone()));
        }
        let code = &self.project.core;
        let image = self.name(code.base.name, code.fingerprint.short())?;
        let found = self.find(&image, &code.fingerprint).await?;
        Ok(found.map(|it| it.image))
    }

    /// Python and the libraries of `uv.lock`, without the code.
    pub(crate) async fn base(&self, report: &mut Report) -> Result<Remote> {
        report.phase("find base");
        match self.find_base().await? {
            Some(found) => {
                report.end("the registry has it");
                Ok(found)
            }
            None => self.make_base(report).await,
        }
    }

    async fn find_base(&self) -> Result<Option<Remote>> {
        let base = &self.project.core.base;
        self.find(&self.base_name()?, &base.fingerprint).await
    }

    async fn make_base(&self, report: &mut Report) -> Result<Remote> {
        self.make("base", &self.project.core.base, &self.base_name()?, report).await
    }

    fn base_name(&self) -> Result<ImageRef> {
        let base = &self.project.core.base;
        self.name(base.name, &format!("base-{}", base.fingerprint.short()))
    }

    /// The code on its base.
    async fn code(&self, code: &Code, report: &mut Report) -> Result<ImageRef> {
        let image = self.name(code.base.name, code.fingerprint.short())?;
        report.phase("find core");
        // Both at once: most often it is the base that is there.
        let (found, base) =
            tokio::try_join!(self.find(&image, &code.fingerprint), self.find_base())?;
        if let Some(found) = found {
            report.end("the registry has it");
            return Ok(found.image);
        }
        report.end(if base.is_some() { "not yet; its base is there" } else { "nor its base" });
        let base = match base {
            Some(found) => found,
            None => self.make_base(report).await?,
        };
        report.phase("push core");
        let layer = Layer::pack(&code.files, Path::new(CODE_IN_IMAGE));
        let labels = self.code_labels(&code.fingerprint);
        let image = self.registry.add_layer(&base, &image, &layer, &labels).await?;
        report.end(&format!("a layer of {} KiB", layer.size().div_ceil(1024)));
        Ok(image)
    }

    /// Webserver and daemon.
    async fn platform(&self, report: &mut Report) -> Result<ImageRef> {
        let recipe = &self.project.platform;
        let image = self.name(recipe.name, recipe.fingerprint.short())?;
        report.phase("find platform");
        if let Some(found) = self.find(&image, &recipe.fingerprint).await? {
            report.end("the registry has it");
            return Ok(found.image);
        }
        Ok(self.make("platform", recipe, &image, report).await?.image)
    }

    /// Builds an image and pushes it.
    async fn make(
        &self,
        what: &str,
        recipe: &Recipe,
        image: &ImageRef,
        report: &mut Report,
    ) -> Result<Remote> {
        let engine = Engine::local().await?;
        let build = recipe.build(image, self.settings, self.ca_bundle);
        carry_out(&build, what, &engine, report).await?;

        report.phase(&format!("push {what}"));
        let digest = engine
            .push(image, self.login, &mut |progress| report.now(&progress.to_string()))
            .await?;
        report.end(&digest.as_str()[..19]);
        let image = image.with_digest(digest);
        match self.registry.find(&image).await? {
            Some(found) => Ok(found),
            None => Err(Error::Architecture {
                image: image.to_string(),
                wanted: self.registry.architecture().to_owned(),
            }
            .into()),
        }
    }

    /// What an image made of something is called in the environment's registry.
    pub(crate) fn name(&self, repository: &str, tag: &str) -> Result<ImageRef> {
        let name = format!("{}/{repository}:{tag}", self.settings.deploy.registry);
        Ok(name.parse().context("DEPLOY_REGISTRY")?)
    }

    /// A tag is short, and may have been moved: what an image was made from, its label tells.
    async fn find(&self, image: &ImageRef, fingerprint: &Fingerprint) -> Result<Option<Remote>> {
        let found = self.registry.find(image).await?;
        let fingerprint = fingerprint.to_string();
        Ok(found.filter(|it| it.labels.get(FINGERPRINT) == Some(&fingerprint)))
    }

    /// Only code is of one commit; other images outlive many.
    fn code_labels(&self, fingerprint: &Fingerprint) -> BTreeMap<String, String> {
        let commit = &self.project.commit;
        let dirty = if commit.dirty.is_empty() { "" } else { "-dirty" };
        let revision = format!("{}{dirty}", commit.sha);
        let mut labels = labels(fingerprint);
        labels.insert("org.opencontainers.image.revision".to_owned(), revision);
        labels
    }
}

/// Finds an image in this machine's engine, which alone shall run it, or builds it. Of older ones
/// two stay, for another checkout or branch.
pub(crate) async fn provide_here(
    recipe: &Recipe,
    settings: &Settings,
    ca_bundle: Option<&Path>,
    engine: &Engine,
    report: &mut Report,
) -> Result<ImageRef> {
    let image = format!("dagster-dev/{}:{}", recipe.name, recipe.fingerprint.short());
    let image: ImageRef = image.parse().expect("names of recipes are names of images");
    let build = recipe.build(&image, settings, ca_bundle);
    let there = engine.image(&image).await?;
    if there.is_none_or(|it| it.labels.get(FINGERPRINT) != build.labels.get(FINGERPRINT)) {
        carry_out(&build, recipe.name, engine, report).await?;
    }
    engine.prune(&image, 2).await?;
    Ok(image)
}

async fn carry_out(build: &Build, what: &str, engine: &Engine, report: &mut Report) -> Result {
    report.phase(&format!("build {what}"));
    let mut steps = Steps::default();
    engine.build(build, &mut |progress| steps.note(&progress, report)).await?;
    report.end(&format!("{} steps, {} cached", steps.all, steps.cached));
    Ok(())
}

impl Recipe {
    fn build(&self, image: &ImageRef, settings: &Settings, ca_bundle: Option<&Path>) -> Build {
        let python = settings.deploy.python_image.clone();
        let ca = ca_bundle.map(|it| ("ca".to_owned(), it.to_owned()));
        Build {
            context: self.context.clone(),
            dockerfile: self.dockerfile.into(),
            tag: image.to_string(),
            args: [("PYTHON_IMAGE".to_owned(), python)].into(),
            labels: labels(&self.fingerprint),
            secrets: ca.into_iter().collect(),
        }
    }
}

fn labels(fingerprint: &Fingerprint) -> BTreeMap<String, String> {
    let label = |key: &str, value: String| (key.to_owned(), value);
    BTreeMap::from([
        label(FINGERPRINT, fingerprint.to_string()),
        label("org.opencontainers.image.version", fingerprint.short().to_owned()),
    ])
}

/// Counts a build's steps while it runs.
#[derive(Default)]
struct Steps {
    all: usize,
    cached: usize,
}

impl Steps {
    fn note(&mut self, progress: &Progress, report: &Report) {
        match progress {
            Progress::Step(_) => self.all += 1,
            Progress::Cached(_) => self.cached += 1,
            _ => {}
        }
        report.now(&progress.to_string());
    }
}
