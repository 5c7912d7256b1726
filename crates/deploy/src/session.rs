//! One connection to an environment's host, and what was seen there.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use exec::{Cmd, Host, Output, Target};
use images::{Engine, Login};
use release::{Layout, Location, Observed};
use settings::Settings;

use crate::exit::{Failure, Result};

/// The scripts that run on the host: one a phase, so that distance costs a round trip once.
pub(crate) mod remote {
    pub(crate) const OBSERVE: &str = include_str!("remote/observe.sh");
    pub(crate) const LOCK: &str = include_str!("remote/lock.sh");
    pub(crate) const WRITE: &str = include_str!("remote/write.sh");
    pub(crate) const SWITCH: &str =
        concat!(include_str!("remote/graphql.sh"), include_str!("remote/switch.sh"));
    /// Put into each release's folder, for a day when only `ssh` works.
    pub(crate) const ROLLBACK: &str = concat!(
        "#!/usr/bin/env bash\n",
        include_str!("remote/graphql.sh"),
        "\n",
        include_str!("remote/rollback.sh")
    );
    pub(crate) const SCHEMA: &str = include_str!("remote/schema.sh");
    pub(crate) const PLATFORM: &str = include_str!("remote/platform.sh");
    pub(crate) const START: &str = include_str!("remote/start.sh");
    pub(crate) const RETIRE: &str = include_str!("remote/retire.sh");
    pub(crate) const REMOVE: &str = include_str!("remote/remove.sh");
    pub(crate) const PRUNE: &str = include_str!("remote/prune.sh");
    pub(crate) const DOWN: &str = include_str!("remote/down.sh");
}

/// A host, connected.
pub(crate) struct Session<'a> {
    pub(crate) host: Host,
    pub(crate) settings: &'a Settings,
    /// The code location at hand.
    pub(crate) location: Location,
}

impl<'a> Session<'a> {
    /// Connects, for a verb that is about the code location that always is.
    pub(crate) fn connect(settings: &'a Settings) -> Result<Session<'a>> {
        Session::connect_for(settings, Location::default())
    }

    /// Connects, for a verb that is about one code location.
    pub(crate) fn connect_for(settings: &'a Settings, location: Location) -> Result<Session<'a>> {
        Ok(Session { host: Host::connect(&target(settings))?, settings, location })
    }

    /// Runs a script on the host; the caller judges how it ended.
    pub(crate) fn script(&self, script: &str, args: &[&str], input: Vec<u8>) -> Result<Output> {
        Ok(self.host.output(&bash(script, args).stdin(input))?)
    }

    /// Runs a script on the host that must succeed. Answers what it printed.
    pub(crate) fn run(
        &self,
        what: &str,
        script: &str,
        args: &[&str],
        input: Vec<u8>,
    ) -> Result<String> {
        let output = self.script(script, args, input)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = tail(&String::from_utf8_lossy(&said), 40);
        let host = &self.settings.deploy.host;
        Err(anyhow!("{said}").context(format!("cannot {what} on `{host}`")).into())
    }

    /// Replaces a file on the host, at once. Answers when, in seconds since 1970 by its clock.
    pub(crate) fn write(&self, path: &str, mode: &str, content: impl Into<Vec<u8>>) -> Result<f64> {
        let what = format!("write `{path}`");
        let when = self.run(&what, remote::WRITE, &[path, mode], content.into())?;
        Ok(when.trim().parse().with_context(|| format!("the host's clock says `{when}`"))?)
    }

    /// Looks at the host. Changes nothing there.
    pub(crate) fn observe(&self) -> Result<Observed> {
        self.look("")
    }

    /// Looks again, under the lock.
    pub(crate) fn observe_again(&self, before: &Observed) -> Result<Observed> {
        self.look(&format!("{} {}", before.compose.command, before.compose.version))
    }

    fn look(&self, compose: &str) -> Result<Observed> {
        let Settings { environment, deploy, .. } = self.settings;
        let args = [environment.as_str(), &deploy.dir, &deploy.ui_port.to_string(), compose];
        let output = self.script(remote::OBSERVE, &args, Vec::new())?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let observed = Observed::parse(environment, &self.location, &answer)
            .with_context(|| format!("cannot look at `{}`", deploy.host))?;
        Ok(observed)
    }

    /// Fails if the host lacks what every verb needs there.
    pub(crate) fn require(&self, observed: &Observed) -> Result {
        let Some(lack) = observed.lacks.first() else { return Ok(()) };
        let host = &self.settings.deploy.host;
        let (what, hint) = match lack.as_str() {
            "engine" => (
                format!("the Docker engine on `{host}` is not running"),
                "on that host: sudo systemctl start docker".to_owned(),
            ),
            "permission" => (
                format!("this user may not use the Docker engine on `{host}`"),
                "on that host: sudo usermod -aG docker $USER, then connect again".to_owned(),
            ),
            "compose" | "docker" => (
                format!(
                    "`{host}` has no Docker {}",
                    if lack == "docker" { "engine" } else { "Compose" }
                ),
                "on that host (Debian): sudo apt-get install docker.io docker-compose".to_owned(),
            ),
            other => {
                (format!("`{host}` has no `{other}`"), format!("install `{other}` on that host"))
            }
        };
        Err(Failure::refused(anyhow!(what)).hint(hint))
    }

    /// The host's engine, through the connection.
    pub(crate) async fn engine(&self) -> Result<Engine> {
        let socket: PathBuf = self.host.forward_socket("/var/run/docker.sock")?;
        Ok(Engine::at(&socket).await?)
    }

    /// A client of the environment's Dagster, through the connection.
    pub(crate) fn dagster(&self, observed: &Observed) -> Result<dagster::Client> {
        // What stands may have another port than the settings say.
        self.dagster_at(observed.ui_port().unwrap_or(self.settings.deploy.ui_port))
    }

    /// The same, at a port of the host.
    pub(crate) fn dagster_at(&self, port: u16) -> Result<dagster::Client> {
        Ok(dagster::Client::new(self.host.forward_port(port, 0)?))
    }

    /// Takes the environment's lock; dropping the answer, or dying, frees it.
    pub(crate) fn lock(&self, layout: &Layout, holder: &str) -> Result<exec::Held> {
        let held = self.host.hold(&bash(remote::LOCK, &[&layout.dir, holder]))?;
        match held.answer().strip_prefix("taken ") {
            None => Ok(held),
            Some(holder) => {
                let holder: serde_json::Value = serde_json::from_str(holder).unwrap_or_default();
                let told = |key: &str| holder[key].as_str().unwrap_or("unknown").to_owned();
                let (doing, by, at) = (told("doing"), told("by"), told("at"));
                let environment = &layout.environment;
                let error = anyhow!("`{environment}` is locked by {by}: {doing}, since {at}");
                Err(Failure::refused(error).hint("wait until it has ended, then try again"))
            }
        }
    }
}

/// How the host is reached.
pub(crate) fn target(settings: &Settings) -> Target {
    let deploy = &settings.deploy;
    Target {
        destination: deploy.host.clone(),
        port: deploy.ssh_port,
        key: deploy.ssh_key.clone(),
        known_hosts: deploy.ssh_known_hosts.clone(),
        proxy: deploy.ssh_proxy.clone(),
    }
}

/// How the registry is asked.
pub(crate) fn login(settings: &Settings) -> Login {
    let deploy = &settings.deploy;
    match (&deploy.registry_user, &deploy.registry_password) {
        (Some(user), Some(password)) => {
            Login::Basic { user: user.clone(), password: password.expose().to_owned() }
        }
        _ => Login::of_machine(&deploy.registry),
    }
}

/// A script as a command: its text and arguments hold no secret, its input may.
fn bash(script: &str, args: &[&str]) -> Cmd {
    Cmd::new("bash").args(["-c", script, "dagster-deploy"]).args(args)
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
