//! Where we are, and the settings of the environment that a verb names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use exec::Cmd;
use release::Location;
use settings::Settings;
use testbed::Testbed;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::exit::{Failure, Result};

/// This checkout and this process's environment, read once.
pub(crate) struct Here {
    pub(crate) root: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Here {
    /// Reads the process's environment; the root is the folder above that holds `env-templates`.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where this program reads its environment"
    )]
    pub(crate) fn look() -> Result<Here> {
        let variables = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let start = std::env::current_dir()?;
        let root = start.ancestors().find(|it| it.join("env-templates").is_dir());
        match root {
            Some(root) => Ok(Here { root: root.to_owned(), variables }),
            None => Err(Failure::refused(anyhow::anyhow!(
                "neither `{}` nor a folder above it holds `env-templates`",
                start.display()
            ))
            .hint("run this inside your project's checkout")),
        }
    }

    /// The settings of an environment; those of a testbed come from the testbed, which must stand.
    pub(crate) async fn settings(&self, environment: &str) -> Result<Settings> {
        let mut facts = BTreeMap::new();
        if self.is_testbed(environment)? {
            let Some(testbed) = Testbed::find(&self.root, environment).await? else {
                let error = anyhow::anyhow!("`{environment}` is not up");
                return Err(Failure::refused(error)
                    .hint(format!("make it: cargo xtask deploy {environment}")));
            };
            facts = testbed.facts();
        }
        self.settings_with(environment, &facts)
    }

    /// The settings of a second environment that a verb is about. The process's variables speak for
    /// the first alone, or the host of one would be taken for the host of both.
    pub(crate) async fn settings_of_another(&self, environment: &str) -> Result<Settings> {
        // Where `~/` is, is the same for all.
        let home = self.variables.get_key_value("HOME");
        let variables = home.map(|(key, value)| (key.clone(), value.clone())).into_iter().collect();
        Here { root: self.root.clone(), variables }.settings(environment).await
    }

    /// The settings of an environment, given what its testbed says.
    pub(crate) fn settings_with(
        &self,
        environment: &str,
        facts: &BTreeMap<String, String>,
    ) -> Result<Settings> {
        if self.is_dev(environment)? {
            let error = anyhow::anyhow!(
                "`{environment}` has no host: it serves this checkout as it is saved"
            );
            return Err(Failure::refused(error).hint("start it: cargo xtask dev"));
        }
        let settings = self.resolve(environment, facts)?;
        if settings.deploy.is_local() && !cfg!(target_os = "linux") {
            let error =
                anyhow::anyhow!("`{environment}` cannot be on this machine: it is not Linux");
            return Err(Failure::refused(error).hint("name a VM with DEPLOY_HOST"));
        }
        Ok(settings)
    }

    /// The settings of an environment, whether it has a VM or not.
    pub(crate) fn resolve(
        &self,
        environment: &str,
        facts: &BTreeMap<String, String>,
    ) -> Result<Settings> {
        settings::resolve(&self.root, environment, facts, &self.variables).map_err(Failure::refused)
    }

    /// Whether the environment is one developer's own, to which nothing is deployed.
    pub(crate) fn is_dev(&self, environment: &str) -> Result<bool> {
        settings::is_dev(&self.root, environment).map_err(Failure::refused)
    }

    /// Whether the environment is a throwaway one, made here.
    pub(crate) fn is_testbed(&self, environment: &str) -> Result<bool> {
        settings::is_testbed(&self.root, environment).map_err(Failure::refused)
    }

    /// One plain setting, before the others can be resolved.
    pub(crate) fn peek(&self, environment: &str, key: &str) -> Result<Option<String>> {
        settings::peek(&self.root, environment, key, &self.variables).map_err(Failure::refused)
    }

    /// Fails if an environment has no such code location: there are `dagster_core` and those that
    /// its settings name.
    pub(crate) fn require_location(settings: &Settings, location: &Location) -> Result {
        let default = Location::default();
        let mut known = [default.as_str()]
            .into_iter()
            .chain(settings.deploy.locations.iter().map(String::as_str));
        if known.clone().any(|it| it == location.as_str()) {
            return Ok(());
        }
        let known = known.by_ref().collect::<Vec<_>>().join(", ");
        let environment = &settings.environment;
        let error =
            anyhow::anyhow!("`{environment}` has no code location `{location}`: there is {known}");
        Err(Failure::refused(error).hint("more are named by DEPLOY_LOCATIONS"))
    }

    /// A program of this machine, found where this process's environment says.
    pub(crate) fn program(&self, name: &str) -> Cmd {
        let path = self.variables.get("PATH").cloned().unwrap_or_default();
        Cmd::new(name).dir(&self.root).env("PATH", path)
    }

    /// The folders of programs, with one before all others.
    pub(crate) fn programs(&self, first: &Path) -> String {
        let path = self.variables.get("PATH").map(String::as_str).unwrap_or_default();
        format!("{}:{path}", first.display())
    }

    /// A path as people write it: from `~/`, from the root of the checkout, or absolute.
    pub(crate) fn path(&self, written: &str) -> PathBuf {
        match (written.strip_prefix("~/"), self.variables.get("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => self.root.join(written),
        }
    }

    /// The certificates this machine trusts: a proxy may re-sign what builds download.
    pub(crate) fn ca_bundle(&self) -> Option<PathBuf> {
        let named = self.variables.get("SSL_CERT_FILE").map(PathBuf::from);
        named
            .into_iter()
            .chain([Path::new("/etc/ssl/certs/ca-certificates.crt").to_owned()])
            .find(|it| it.is_file())
    }

    /// Who deploys, from where: `ana@laptop`.
    pub(crate) fn who(&self) -> String {
        let variable = |key: &&str| self.variables.get(*key).cloned();
        let git = || Cmd::new("git").args(["config", "user.name"]).dir(&self.root).read().ok();
        let user = ["GITHUB_ACTOR", "USER", "LOGNAME"].iter().find_map(variable).or_else(git);
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "unknown host" } else { host.trim() };
        format!("{}@{host}", user.as_deref().unwrap_or("somebody"))
    }
}

#[cfg(test)]
impl Here {
    pub(crate) fn of(root: &Path, variables: &[(&str, &str)]) -> Here {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Here { root: root.to_owned(), variables: variables.iter().map(own).collect() }
    }
}

/// This moment: RFC 3339, UTC, in whole seconds.
pub(crate) fn now() -> String {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("0 is a nanosecond");
    now.format(&Rfc3339).expect("a date of our era can be written")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[tokio::test]
    async fn the_process_speaks_for_the_first_of_two_environments_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("env-templates")).unwrap();
        for name in ["prod", "staging"] {
            let template = root.path().join(format!("env-templates/{name}.env"));
            fs::write(template, "DEPLOY_HOST=\nDEPLOY_SSH_KEY=~/key\n").unwrap();
            let file = root.path().join(format!(".env.{name}"));
            fs::write(&file, format!("DEPLOY_HOST={name}.example\n")).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let here = Here::of(root.path(), &[("DEPLOY_HOST", "elsewhere"), ("HOME", "/home/ana")]);
        let (one, two) = (here.settings("prod").await, here.settings_of_another("staging").await);
        let hosts = [one.unwrap().deploy, two.unwrap().deploy].map(|it| (it.host, it.ssh_key));
        let key = Some(PathBuf::from("/home/ana/key"));
        let expected = [("elsewhere".to_owned(), key.clone()), ("staging.example".to_owned(), key)];
        assert_eq!(hosts, expected);
    }
}
