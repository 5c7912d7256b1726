//! The checkout: its commit, the files a release is made from, and their fingerprints.

use std::path::Path;

use anyhow::Context as _;
use exec::Cmd;
use images::Context;
use release::{Fingerprint, Inputs, core_environment, platform_environment};
use settings::Settings;

use crate::exit::{Failure, Result};

/// One of the two images that are built here.
pub(crate) struct Recipe {
    /// Its name in the registry.
    pub(crate) name: &'static str,
    /// Its Dockerfile, from the root.
    pub(crate) dockerfile: &'static str,
    /// What the engine is given.
    pub(crate) context: Context,
    /// Of all that decides what is in it.
    pub(crate) fingerprint: Fingerprint,
}

/// The checkout.
pub(crate) struct Project {
    pub(crate) commit: Commit,
    /// The team's code.
    pub(crate) core: Recipe,
    /// Webserver and daemon.
    pub(crate) platform: Recipe,
    files: Files,
}

/// Where the code stands in git.
pub(crate) struct Commit {
    /// The last commit that touched what the images are made from, so that a new README makes no
    /// new release.
    pub(crate) sha: String,
    pub(crate) subject: String,
    /// Files of the images that no commit holds as they are.
    pub(crate) dirty: Vec<String>,
}

/// The Compose files of a release, as they are in the checkout.
struct Files {
    core: String,
    platform: String,
    dagster: String,
}

/// What the images are made from: a change elsewhere is none for a deploy.
const SOURCES: [&str; 4] = ["dagster_core", "compose", "pyproject.toml", "uv.lock"];

impl Project {
    /// Reads the checkout at `root`.
    pub(crate) fn read(root: &Path, settings: &Settings) -> Result<Project> {
        let commit = Commit::read(root)?;
        let read = |path: &str| {
            std::fs::read_to_string(root.join(path))
                .with_context(|| format!("cannot read `{path}`"))
        };
        let files = Files {
            core: read("compose/core.yaml")?,
            platform: read("compose/platform.yaml")?,
            dagster: read("compose/dagster.yaml")?,
        };
        Ok(Project {
            commit,
            core: Recipe::read(root, "dagster-core", "compose/core.Dockerfile", settings)?,
            platform: Recipe::read(
                root,
                "dagster-platform",
                "compose/platform.Dockerfile",
                settings,
            )?,
            files,
        })
    }

    /// What a deploy is made from, before anything is built.
    pub(crate) fn inputs(&self, settings: &Settings) -> Inputs {
        let deploy = &settings.deploy;
        let of = |parts: &[&str]| Fingerprint::of(parts.iter().map(|it| it.as_bytes()));
        Inputs {
            core: self.core.fingerprint.clone(),
            core_settings: of(&[
                &self.files.core,
                &core_environment(settings),
                &deploy.core_memory,
            ]),
            platform: self.platform.fingerprint.clone(),
            platform_settings: of(&[
                &self.files.platform,
                &self.files.dagster,
                &platform_environment(settings),
                &deploy.postgres_image,
                &deploy.ui_port.to_string(),
                &deploy.postgres_memory,
                &deploy.webserver_memory,
                &deploy.daemon_memory,
            ]),
        }
    }

    /// The files of a release's folder that are the same for every release of this checkout.
    pub(crate) fn release_files(&self, settings: &Settings) -> Vec<exec::File> {
        let file = |path: &str, bytes: String| exec::File {
            path: path.to_owned(),
            mode: 0o600,
            bytes: bytes.into_bytes(),
        };
        vec![
            file("core.yaml", self.files.core.clone()),
            file("platform.yaml", self.files.platform.clone()),
            file("dagster.yaml", self.files.dagster.clone()),
            file("core.env.json", core_environment(settings)),
            file("platform.env.json", platform_environment(settings)),
        ]
    }
}

impl Recipe {
    fn read(
        root: &Path,
        name: &'static str,
        dockerfile: &'static str,
        settings: &Settings,
    ) -> Result<Recipe> {
        let context = Context::read(root, Path::new(dockerfile))?;
        let base = settings.deploy.python_image.as_bytes();
        let fingerprint = Fingerprint::of([context.fingerprint().to_string().as_bytes(), base]);
        Ok(Recipe { name, dockerfile, context, fingerprint })
    }
}

impl Commit {
    fn read(root: &Path) -> Result<Commit> {
        let git = |args: &[&str]| Cmd::new("git").arg("-C").arg(root).args(args);
        if !git(&["rev-parse", "--git-dir"]).output()?.status.success() {
            let error = anyhow::anyhow!("`{}` is not a git repository", root.display());
            return Err(Failure::refused(error).hint(
                "a release is named by its commit: run this inside a clone, or `git init` and commit",
            ));
        }
        let log = git(&["log", "-1", "--format=%H%n%s", "--"]).args(SOURCES).output()?;
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        let mut lines = log.lines();
        let (Some(sha), subject) = (lines.next(), lines.next().unwrap_or_default()) else {
            let error = anyhow::anyhow!("no commit holds the code in `{}` yet", SOURCES[0]);
            return Err(Failure::refused(error).hint("commit it: a release is named by its commit"));
        };
        let dirty = git(&["status", "--porcelain=v1", "-z", "--"]).args(SOURCES).read()?;
        let dirty = dirty
            .split('\0')
            .filter(|entry| !entry.is_empty())
            .map(|entry| entry.get(3..).unwrap_or(entry).to_owned())
            .collect();
        Ok(Commit { sha: sha.to_owned(), subject: subject.to_owned(), dirty })
    }
}
