//! The checkout: its commit, the files a release is made from, and their fingerprints.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use exec::Cmd;
use images::Context;
use release::{
    ComposeFiles, Fingerprint, History, Inputs, Location, MadeOf, ReleaseId, platform_environment,
};
use settings::Settings;

use crate::exit::{Failure, Result};

/// An image that is built from a Dockerfile.
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

/// The team's code: a layer on a base that holds its libraries.
pub(crate) struct Code {
    /// Python and the libraries.
    pub(crate) base: Recipe,
    /// The code's files.
    pub(crate) files: images::Files,
    /// Of both.
    pub(crate) fingerprint: Fingerprint,
}

/// The checkout, or the files of another commit.
pub(crate) struct Project {
    /// Where they are.
    pub(crate) root: PathBuf,
    pub(crate) commit: Commit,
    /// The team's code.
    pub(crate) core: Code,
    /// Webserver and daemon.
    pub(crate) platform: Recipe,
    files: ComposeFiles,
}

/// Where the code stands in git.
pub(crate) struct Commit {
    /// The last commit that touched what the images are made from, so that a new README makes no
    /// new release.
    pub(crate) sha: String,
    pub(crate) subject: String,
    /// Files of the images that no commit holds as they are.
    pub(crate) dirty: Vec<String>,
    pub(crate) location: Location,
}

/// What the images are made from, beside the code location's own folder: a change elsewhere is none
/// for a deploy.
pub(crate) const SOURCES: [&str; 3] = ["compose", "pyproject.toml", "uv.lock"];

impl Project {
    /// Reads the checkout at `root`, for a release of one code location.
    pub(crate) fn read(root: &Path, settings: &Settings, location: &Location) -> Result<Project> {
        Project::of(Commit::read(root, location)?, root, settings)
    }

    /// Reads the files at `root`, which are those of a commit.
    pub(crate) fn of(commit: Commit, root: &Path, settings: &Settings) -> Result<Project> {
        let read = |path: &str| {
            std::fs::read_to_string(root.join(path))
                .with_context(|| format!("cannot read `{path}`"))
        };
        let files = ComposeFiles {
            core: read("compose/core.yaml")?,
            platform: read("compose/platform.yaml")?,
            dagster: read("compose/dagster.yaml")?,
        };
        Ok(Project {
            root: root.to_owned(),
            core: Code::read(root, settings, &commit.location)?,
            commit,
            platform: Recipe::platform(root, settings)?,
            files,
        })
    }

    /// What a deploy is made from, before anything is built.
    pub(crate) fn inputs(&self, settings: &Settings) -> Inputs {
        let environment = platform_environment(settings);
        Inputs {
            core: self.core.fingerprint.clone(),
            core_settings: self.files.core_settings(settings),
            platform: self.platform.fingerprint.clone(),
            platform_settings: self.files.platform_settings(&environment, &settings.deploy),
        }
    }

    /// What a release of this checkout is made of, to be compared with another.
    pub(crate) fn made_of(&self, id: &ReleaseId, settings: &Settings) -> MadeOf {
        self.files.made_of(id, settings)
    }

    /// The files of a release's folder that come from this checkout and its settings, by name.
    pub(crate) fn release_files(
        &self,
        id: &ReleaseId,
        settings: &Settings,
    ) -> Vec<(&'static str, String)> {
        self.files.of_release(id, settings, platform_environment(settings))
    }
}

impl Code {
    fn read(root: &Path, settings: &Settings, location: &Location) -> Result<Code> {
        require_definitions(root, location)?;
        let files = images::Files::read(root, Path::new(location.as_str()))?;
        let base = Recipe::base(root, settings)?;
        let parts = [base.fingerprint.to_string(), files.fingerprint().to_string()];
        let fingerprint = Fingerprint::of(parts.iter().map(String::as_bytes));
        Ok(Code { base, files, fingerprint })
    }
}

/// Fails if there is no such code.
pub(crate) fn require_definitions(root: &Path, location: &Location) -> Result {
    let definitions = format!("{location}/definitions.py");
    if root.join(&definitions).is_file() {
        return Ok(());
    }
    let error = anyhow::anyhow!("there is no `{definitions}`");
    Err(Failure::refused(error).hint(
        "a code location is a Python package whose module `definitions` holds its Definitions",
    ))
}

impl Recipe {
    /// Of the image that the code is laid on.
    pub(crate) fn base(root: &Path, settings: &Settings) -> Result<Recipe> {
        Recipe::read("dagster-core", "compose/core.Dockerfile", root, settings)
    }

    /// Of the image of webserver and daemon.
    pub(crate) fn platform(root: &Path, settings: &Settings) -> Result<Recipe> {
        Recipe::read("dagster-platform", "compose/platform.Dockerfile", root, settings)
    }

    fn read(
        name: &'static str,
        dockerfile: &'static str,
        root: &Path,
        settings: &Settings,
    ) -> Result<Recipe> {
        let context = Context::read(root, Path::new(dockerfile))?;
        let python = settings.deploy.python_image.as_bytes();
        let fingerprint = Fingerprint::of([context.fingerprint().to_string().as_bytes(), python]);
        Ok(Recipe { name, dockerfile, context, fingerprint })
    }
}

impl Commit {
    /// The commits between what serves and this checkout, of those that touched what the images
    /// are made from.
    pub(crate) fn since(&self, root: &Path, from: release::Commit) -> Result<History> {
        if !knows(root, &from.sha)? {
            return Ok(History::Unknown { from });
        }
        let commits = |range: String| -> Result<Vec<release::Commit>> {
            let log = git(root, &["log", "--format=%H %s", &range, "--", self.location.as_str()]);
            let log = log.args(SOURCES).read()?;
            let commits = log.lines().map(|it| it.split_once(' ').unwrap_or((it, "")));
            let commit = |(sha, subject): (&str, &str)| release::Commit {
                sha: sha.to_owned(),
                subject: subject.to_owned(),
            };
            Ok(commits.map(commit).collect())
        };
        let gained = commits(format!("{}..{}", from.sha, self.sha))?;
        let ancestor = ["merge-base", "--is-ancestor", &from.sha, &self.sha];
        if git(root, &ancestor).output()?.status.success() {
            return Ok(History::Ahead { from, gained });
        }
        let lost = commits(format!("{}..{}", self.sha, from.sha))?;
        Ok(History::Apart { from, gained, lost })
    }

    fn read(root: &Path, location: &Location) -> Result<Commit> {
        let git = |args: &[&str]| git(root, args);
        if !git(&["rev-parse", "--git-dir"]).output()?.status.success() {
            let error = anyhow::anyhow!("`{}` is not a git repository", root.display());
            return Err(Failure::refused(error).hint(
                "a release is named by its commit: run this inside a clone, or `git init` and commit",
            ));
        }
        let folder = location.as_str();
        let log = git(&["log", "-1", "--format=%H%n%s", "--", folder]).args(SOURCES).output()?;
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        let mut lines = log.lines();
        let (Some(sha), subject) = (lines.next(), lines.next().unwrap_or_default()) else {
            let error = anyhow::anyhow!("no commit holds the code in `{folder}` yet");
            return Err(Failure::refused(error).hint("commit it: a release is named by its commit"));
        };
        let dirty = git(&["status", "--porcelain=v1", "-z", "--", folder]).args(SOURCES).read()?;
        let dirty = dirty
            .split('\0')
            .filter(|entry| !entry.is_empty())
            .map(|entry| entry.get(3..).unwrap_or(entry).to_owned())
            .collect();
        let (sha, subject, location) = (sha.to_owned(), subject.to_owned(), location.clone());
        Ok(Commit { sha, subject, dirty, location })
    }
}

/// Whether the clone at `root` has a commit.
pub(crate) fn knows(root: &Path, sha: &str) -> Result<bool> {
    let look = git(root, &["cat-file", "-e", &format!("{sha}^{{commit}}")]);
    Ok(look.output()?.status.success())
}

pub(crate) fn git(root: &Path, args: &[&str]) -> Cmd {
    Cmd::new("git").arg("-C").arg(root).args(args.iter().copied())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Commits a change of one file; answers the commit.
    pub(crate) fn commit(root: &Path, path: &str, subject: &str) -> release::Commit {
        std::fs::write(root.join(path), subject).unwrap();
        let who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"];
        git(root, &["add", "--all"]).read().unwrap();
        git(root, &who).args(["commit", "--quiet", "--message", subject]).read().unwrap();
        let sha = git(root, &["rev-parse", "HEAD"]).read().unwrap();
        release::Commit { sha, subject: subject.to_owned() }
    }

    #[test]
    fn the_history_between_two_releases_is_of_what_images_are_made_from() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        git(root, &["init", "--quiet"]).read().unwrap();
        std::fs::create_dir(root.join("dagster_core")).unwrap();
        let first = commit(root, "dagster_core/a.py", "First");
        commit(root, "README.md", "Explain");
        let second = commit(root, "dagster_core/a.py", "Second");
        let since = |from: &release::Commit| {
            Commit::read(root, &Location::default()).unwrap().since(root, from.clone())
        };
        let history = since(&first).unwrap();
        assert_eq!(history, History::Ahead { from: first.clone(), gained: vec![second.clone()] });

        git(root, &["checkout", "--quiet", &first.sha]).read().unwrap();
        let other = commit(root, "dagster_core/b.py", "Other");
        let history = since(&second).unwrap();
        let lost = vec![second.clone()];
        assert_eq!(history, History::Apart { from: second, gained: vec![other], lost });

        let from = release::Commit { sha: "0".repeat(40), subject: "Far away".to_owned() };
        assert_eq!(since(&from).unwrap(), History::Unknown { from });
    }
}
