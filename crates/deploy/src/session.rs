//! One connection to an environment's host, and what was seen there.

use std::{cell::OnceCell, path::PathBuf};

use anyhow::{Context as _, anyhow};
use exec::{Cmd, Host, Output, Ssh, Target};
use images::{Engine, Login};
use release::{Compose, Entry, Holder, Location, Observed};
use settings::Settings;

use crate::{
    audit::Audit,
    exit::{Failure, Result},
};

/// The scripts that run on the host: one a phase, so that distance costs a round trip once.
pub(crate) mod remote {
    use super::Script;

    /// A script that asks Postgres.
    macro_rules! postgres {
        ($script:literal) => {
            concat!(include_str!("remote/postgres.sh"), include_str!($script))
        };
    }

    /// A script that reads secrets.
    macro_rules! gcloud {
        ($script:literal) => {
            concat!(include_str!("remote/gcloud.sh"), include_str!($script))
        };
    }

    // These change nothing, or are about the lock itself.
    pub(crate) const OBSERVE: &str =
        concat!(include_str!("remote/password.sh"), include_str!("remote/observe.sh"));
    pub(crate) const LOCK: &str =
        concat!(include_str!("remote/append.sh"), include_str!("remote/lock.sh"));
    pub(super) const RECORD: &str =
        concat!(include_str!("remote/append.sh"), include_str!("remote/record.sh"));
    pub(crate) const FENCE: &str = include_str!("remote/fence.sh");

    pub(crate) const HISTORY: &str = include_str!("remote/history.sh");
    pub(super) const HOLDER: &str = include_str!("remote/holder.sh");
    pub(super) const BREAK: &str =
        concat!(include_str!("remote/append.sh"), include_str!("remote/break.sh"));
    pub(crate) const ADDRESS: &str = include_str!("remote/address.sh");
    pub(crate) const SERVERS: &str = include_str!("remote/servers.sh");
    pub(crate) const SERVED: &str = include_str!("remote/served.sh");
    pub(crate) const SCHEMA: &str = include_str!("remote/schema.sh");
    /// Put into each release's folder, for a day when only `ssh` works.
    pub(crate) const ROLLBACK: &str = concat!(
        "#!/usr/bin/env bash\n",
        include_str!("remote/append.sh"),
        include_str!("remote/graphql.sh"),
        "\n",
        include_str!("remote/password.sh"),
        include_str!("remote/platform.sh"),
        include_str!("remote/rollback.sh")
    );
    pub(crate) const DATABASE_PASSWORD: &str = include_str!("remote/database_password.sh");
    pub(crate) const PIN: &str = gcloud!("remote/pin.sh");
    pub(crate) const LOOK: &str = postgres!("remote/look.sh");
    /// What `inspect.sh` and `migrate.sh` run in a container.
    pub(crate) const INSTANCE: &str = include_str!("remote/instance.py");

    // These change something.
    pub(crate) const HELD: Script = Script(include_str!("remote/held.sh"));
    pub(crate) const WRITE: Script = Script(include_str!("remote/write.sh"));
    pub(crate) const CANDIDATE: Script =
        Script(concat!(include_str!("remote/graphql.sh"), include_str!("remote/candidate.sh")));
    pub(crate) const SWITCH: Script =
        Script(concat!(include_str!("remote/graphql.sh"), include_str!("remote/switch.sh")));
    pub(crate) const RESOLVE: Script = Script(gcloud!("remote/resolve.sh"));
    pub(crate) const INSPECT: Script = Script(include_str!("remote/inspect.sh"));
    pub(crate) const HALT: Script = Script(include_str!("remote/halt.sh"));
    pub(crate) const RESUME: Script = Script(include_str!("remote/resume.sh"));
    pub(crate) const MIGRATE: Script = Script(include_str!("remote/migrate.sh"));
    pub(crate) const DUMP: Script = Script(postgres!("remote/dump.sh"));
    pub(crate) const PACK: Script = Script(include_str!("remote/pack.sh"));
    pub(crate) const STAGE: Script = Script(postgres!("remote/stage.sh"));
    pub(crate) const SWAP: Script = Script(postgres!("remote/swap.sh"));
    pub(crate) const DISCARD: Script = Script(postgres!("remote/discard.sh"));
    pub(crate) const PLATFORM: Script = Script(concat!(
        include_str!("remote/password.sh"),
        include_str!("remote/platform.sh"),
        "platform \"$@\"\n"
    ));
    pub(crate) const START: Script = Script(include_str!("remote/start.sh"));
    pub(crate) const RETIRE: Script = Script(include_str!("remote/retire.sh"));
    pub(crate) const REMOVE: Script = Script(include_str!("remote/remove.sh"));
    pub(crate) const PRUNE: Script = Script(include_str!("remote/prune.sh"));
    pub(crate) const DOWN: Script = Script(include_str!("remote/down.sh"));
}

/// A script that changes something on the host. Only [`Locked`](crate::locked::Locked) runs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script(pub(crate) &'static str);

/// Where an engine listens.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// A host, connected.
pub(crate) struct Session<'a> {
    pub(crate) host: Host,
    pub(crate) settings: &'a Settings,
    /// The code location at hand.
    pub(crate) location: Location,
    /// The host's Compose, once it was seen: it takes its time to tell.
    compose: OnceCell<String>,
}

impl<'a> Session<'a> {
    /// Connects, for a verb that is about the code location that always is.
    pub(crate) fn connect(settings: &'a Settings) -> Result<Session<'a>> {
        Session::connect_for(settings, Location::default())
    }

    /// Connects, for a verb that is about one code location.
    pub(crate) fn connect_for(settings: &'a Settings, location: Location) -> Result<Session<'a>> {
        Session::over(None, settings, location)
    }

    /// The same, over a connection that may be there already.
    pub(crate) fn over(
        host: Option<Host>,
        settings: &'a Settings,
        location: Location,
    ) -> Result<Session<'a>> {
        let host = host.map_or_else(|| Host::connect(&target(settings)), Ok)?;
        Ok(Session { host, settings, location, compose: OnceCell::new() })
    }

    /// Asks the host something, by a script that changes nothing there. (What changes something is
    /// a [`Script`], and needs the lock.) Answers what it printed.
    pub(crate) fn ask(&self, what: &str, script: &str, args: &[&str]) -> Result<String> {
        let output = self.host.output(&bash(script, args))?;
        self.succeeded(what, output)
    }

    /// What a script printed that must have succeeded.
    pub(crate) fn succeeded(&self, what: &str, output: Output) -> Result<String> {
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = tail(&String::from_utf8_lossy(&said), 40);
        let host = self.settings.deploy.machine();
        Err(anyhow!("{said}").context(format!("cannot {what} on {host}")).into())
    }

    /// Looks at the host. Changes nothing there.
    pub(crate) fn observe(&self) -> Result<Observed> {
        let args = self.look();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = self.host.output(&bash(remote::OBSERVE, &args))?;
        self.seen(&String::from_utf8_lossy(&output.stdout))
    }

    /// The arguments of `observe.sh`.
    pub(crate) fn look(&self) -> [String; 4] {
        let Settings { environment, deploy, .. } = self.settings;
        let compose = self.compose.get().cloned().unwrap_or_default();
        [environment.clone(), deploy.dir.clone(), deploy.ui_port.to_string(), compose]
    }

    /// Reads the answer of `observe.sh`.
    pub(crate) fn seen(&self, answer: &str) -> Result<Observed> {
        let Settings { environment, deploy, .. } = self.settings;
        let observed = Observed::parse(environment, &self.location, answer)
            .with_context(|| format!("cannot look at {}", deploy.machine()))?;
        if !observed.compose.command.is_empty() {
            let Compose { command, version } = &observed.compose;
            self.compose.get_or_init(|| format!("{command} {version}"));
        }
        Ok(observed)
    }

    /// Writes a failure of a verb that has no lock yet into the audit log on the host.
    pub(crate) fn recorded<T>(&self, audit: &Audit, result: Result<T>) -> Result<T> {
        if let Err(failure) = &result {
            self.record(&audit.ended(Err(failure)));
        }
        result
    }

    /// Nobody said yes to what a verb was about to do.
    pub(crate) fn not_confirmed(&self) -> Failure {
        let host = self.settings.deploy.machine();
        Failure::refused(anyhow!("not confirmed: nothing was changed on {host}"))
            .hint("answer `y` at the terminal, or give --yes")
    }

    /// Writes what came of a verb that had no lock into the audit log on the host. It is over, and
    /// its answer stands, even if this fails.
    pub(crate) fn record(&self, entry: &Entry) {
        let dir = self.settings.deploy.dir.as_str();
        let _ = self.host.output(&bash(remote::RECORD, &[dir]).stdin(entry.json() + "\n"));
    }

    /// Who holds the environment's lock.
    pub(crate) fn holder(&self) -> Result<Option<Holder>> {
        let dir = self.settings.deploy.dir.as_str();
        let answer = self.ask("look at the lock", remote::HOLDER, &[dir])?;
        Ok(Holder::parse(&answer))
    }

    /// Takes the environment's lock away from who was seen to hold it, and writes the entry into
    /// the audit log. False if it is not theirs any more.
    pub(crate) fn break_lock(&self, holder: &Holder, entry: &Entry) -> Result<bool> {
        let args = [self.settings.deploy.dir.as_str(), &holder.token];
        let output = self.host.output(&bash(remote::BREAK, &args).stdin(entry.json() + "\n"))?;
        if output.status.code() == Some(98) {
            return Ok(false);
        }
        self.succeeded("break the lock", output).map(|_| true)
    }

    /// Fails if the host lacks what every verb needs there.
    pub(crate) fn require(&self, observed: &Observed) -> Result {
        observed.lacks.first().map_or(Ok(()), |lack| Err(self.lacks(lack)))
    }

    /// The host lacks something.
    pub(crate) fn lacks(&self, lack: &str) -> Failure {
        let host = self.settings.deploy.machine();
        let there = if self.settings.deploy.is_local() { "" } else { "on that host: " };
        let (what, hint) = match lack {
            "engine" => (
                format!("the Docker engine on {host} is not running, or not at {SOCKET}"),
                format!("{there}sudo systemctl start docker"),
            ),
            "permission" => (
                format!("this user may not use the Docker engine on {host}"),
                format!("{there}sudo usermod -aG docker $USER, then log in again"),
            ),
            "compose" | "docker" => (
                format!(
                    "{host} has no Docker {}",
                    if lack == "docker" { "engine" } else { "Compose" }
                ),
                format!("{there}sudo apt-get install docker.io docker-compose (Debian)"),
            ),
            other => (format!("{host} has no `{other}`"), format!("{there}install `{other}`")),
        };
        Failure::refused(anyhow!(what)).hint(hint)
    }

    /// The host's engine, through the connection.
    pub(crate) async fn engine(&self) -> Result<Engine> {
        let socket: PathBuf = self.host.forward_socket(SOCKET)?;
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
}

/// How the host is reached.
pub(crate) fn target(settings: &Settings) -> Target {
    let deploy = &settings.deploy;
    if deploy.is_local() {
        // The engine that we ask, whichever its user's `docker` asks.
        return Target::Local { variables: vec![("DOCKER_HOST", format!("unix://{SOCKET}"))] };
    }
    Target::Ssh(Ssh {
        destination: deploy.host.clone(),
        port: deploy.ssh_port,
        key: deploy.ssh_key.clone(),
        known_hosts: deploy.ssh_known_hosts.clone(),
        proxy: deploy.ssh_proxy.clone(),
    })
}

/// How the registry is asked.
pub(crate) fn login(settings: &Settings) -> Login {
    let deploy = &settings.deploy;
    match (&deploy.registry_user, &deploy.registry_password) {
        (Some(user), Some(password)) if !password.is_unread() => {
            Login::Basic { user: user.clone(), password: password.expose().to_owned() }
        }
        _ => Login::of_machine(&deploy.registry),
    }
}

/// A script as a command: its text and arguments hold no secret, its input may.
pub(crate) fn bash(script: &str, args: &[&str]) -> Cmd {
    Cmd::new("bash").args(["-c", script, "dagster-deploy"]).args(args)
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
