//! Builds the images of a release and pushes them; what the registry has already is left alone.

use std::path::Path;

use anyhow::Context as _;
use images::{Build, Engine, Login, Progress};
use release::{ImageRef, Inputs, Manifest};
use settings::Settings;

use crate::{
    exit::Result,
    project::{Project, Recipe},
    report::Report,
    rollout::Images,
};

/// The label that tells from what an image was made.
const FINGERPRINT: &str = "dagster-deploy.fingerprint";

/// What building and pushing need.
pub(crate) struct Workshop<'a> {
    pub(crate) engine: &'a Engine,
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
            _ => self.provide(&self.project.core, report).await?,
        };
        let platform = match live {
            Some(live) if live.inputs.platform == inputs.platform => live.platform_image.clone(),
            _ => self.provide(&self.project.platform, report).await?,
        };
        let postgres = match live {
            Some(live) if live.inputs.platform_settings == inputs.platform_settings => {
                live.postgres_image.clone()
            }
            _ => self.settings.deploy.postgres_image.parse().context("DEPLOY_POSTGRES_IMAGE")?,
        };
        Ok(Images { core, platform, postgres })
    }

    async fn provide(&self, recipe: &Recipe, report: &mut Report) -> Result<ImageRef> {
        let Settings { deploy, .. } = self.settings;
        let tag = format!("{}/{}:{}", deploy.registry, recipe.name, recipe.fingerprint.short());
        let image: ImageRef = tag.parse().context("DEPLOY_REGISTRY")?;

        report.phase(&format!("build {}", recipe.name.trim_start_matches("dagster-")));
        let fingerprint = recipe.fingerprint.to_string();
        let made = self.engine.image(&image).await?;
        if made.is_some_and(|it| it.labels.get(FINGERPRINT) == Some(&fingerprint)) {
            report.end("made already");
        } else {
            let build = self.build(recipe, &tag, fingerprint);
            let mut steps = Steps::default();
            self.engine.build(&build, &mut |progress| steps.note(&progress, report)).await?;
            report.end(&format!("{} steps, {} cached", steps.all, steps.cached));
        }

        report.phase(&format!("push {}", recipe.name.trim_start_matches("dagster-")));
        let digest = self
            .engine
            .push(&image, self.login, &mut |progress| report.now(&progress.to_string()))
            .await?;
        report.end(&digest.as_str()[..19]);
        Ok(image.with_digest(digest))
    }

    fn build(&self, recipe: &Recipe, tag: &str, fingerprint: String) -> Build {
        let commit = &self.project.commit;
        let dirty = if commit.dirty.is_empty() { "" } else { "-dirty" };
        let label = |key: &str, value: String| (key.to_owned(), value);
        Build {
            context: recipe.context.clone(),
            dockerfile: recipe.dockerfile.into(),
            tag: tag.to_owned(),
            args: [label("PYTHON_IMAGE", self.settings.deploy.python_image.clone())].into(),
            labels: [
                label(FINGERPRINT, fingerprint),
                label("org.opencontainers.image.revision", format!("{}{dirty}", commit.sha)),
                label("org.opencontainers.image.version", recipe.fingerprint.short().to_owned()),
            ]
            .into(),
            secrets: self
                .ca_bundle
                .map(|it| ("ca".to_owned(), it.to_owned()))
                .into_iter()
                .collect(),
        }
    }
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
