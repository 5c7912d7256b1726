//! The platform in containers of this machine's engine, by Compose.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, anyhow};
use exec::Cmd;
use images::Engine;
use release::{
    CORE_PORT, CORE_SERVICE, Fingerprint, Location, candidate_yaml, core_environment,
    platform_environment,
};
use serde_json::json;

use super::{Place, Wanted, workspace_yaml};
use crate::{
    artifacts,
    exit::{Failure, Result},
    project::Recipe,
    report::Report,
    session::{SOCKET, tail},
};

/// The containers of a checkout.
pub(crate) struct Containers {
    project: String,
    /// Where the UI is.
    pub(crate) port: u16,
    /// Whether the code's container ran before, with whatever runs it had.
    pub(crate) stood: bool,
}

impl Containers {
    /// Those of a checkout, whether there are any or not.
    pub(crate) fn of(place: &Place) -> Containers {
        Containers { project: place.project(), port: 0, stood: false }
    }

    /// Builds what is missing, and starts them. Those that stand as they shall are left alone.
    pub(crate) async fn start(
        wanted: &Wanted<'_>,
        engine: &Engine,
        report: &mut Report,
    ) -> Result<Containers> {
        let &Wanted { here, place, settings, location, port } = wanted;
        let this = Containers::of(place);
        require_readable(&place.root, location)?;
        let ca = here.ca_bundle();
        let mut provide = async |recipe: Recipe| {
            artifacts::provide_here(&recipe, settings, ca.as_deref(), engine, report).await
        };
        let core = provide(Recipe::base(&place.root, settings)?).await?;
        let platform = provide(Recipe::platform(&place.root, settings)?).await?;

        report.phase("start");
        let read = |path: &str| {
            fs::read_to_string(place.root.join(path))
                .with_context(|| format!("cannot read `{path}`"))
        };
        let dagster = read("compose/dagster.yaml")?;
        let address = json!({"host": CORE_SERVICE, "port": CORE_PORT});
        let workspace = workspace_yaml(address, location);
        // Containers read these as another user.
        place.write("workspace/workspace.yaml", &workspace, 0o644)?;
        let workspace = place.write("workspace/candidate.yaml", &candidate_yaml(None), 0o644)?;
        let platform_dir = place.write("platform/dagster.yaml", &dagster, 0o644)?;
        let core_env = place.write("core.env.json", &core_environment(settings), 0o600)?;
        let env = place.write("platform.env.json", &platform_environment(settings), 0o600)?;

        // One that was kept stays where it is.
        let standing = this.ui();
        let before = this.containers(CORE_SERVICE, &["ps"])?;
        let port = port.or(standing).unwrap_or(settings.deploy.local_port);
        let port = if standing == Some(port) { Some(port) } else { exec::free_port(port) };
        let port = port.ok_or_else(|| anyhow!("no port is free here"))?;
        let folder = |path: &Path| path.parent().expect("it is in a folder").to_owned();
        let deploy = &settings.deploy;
        let mut compose = compose()?.env("DOCKER_HOST", format!("unix://{SOCKET}"));
        for (key, value) in [
            ("ENVIRONMENT", place.environment()),
            ("LOCATION", location.to_string()),
            ("CORE_MODULE", format!("{location}.definitions")),
            ("CORE_IMAGE", core.to_string()),
            ("PLATFORM_IMAGE", platform.to_string()),
            ("POSTGRES_IMAGE", deploy.postgres_image.clone()),
            ("CORE_MEMORY", deploy.core_memory.clone()),
            ("WEBSERVER_MEMORY", deploy.webserver_memory.clone()),
            ("DAEMON_MEMORY", deploy.daemon_memory.clone()),
            ("POSTGRES_MEMORY", deploy.postgres_memory.clone()),
            ("DAGSTER_YAML", Fingerprint::of([dagster.as_bytes()]).short().to_owned()),
            ("UI_PORT", port.to_string()),
        ] {
            compose = compose.env(key, value);
        }
        for (key, folder) in [
            ("CODE", place.root.join(location.as_str())),
            ("PLATFORM_DIR", folder(&platform_dir)),
            ("WORKSPACE_DIR", folder(&workspace)),
        ] {
            compose = compose.env(key, folder);
        }
        let files = ["compose/platform.yaml", "compose/dev.yaml"].map(|it| place.root.join(it));
        for file in files.iter().chain([&env, &core_env]) {
            compose = compose.arg("--file").arg(file);
        }
        let up = compose
            .args(["--project-name", &this.project])
            .args(["up", "--detach", "--no-build", "--remove-orphans"])
            .read();
        if let Err(error) = up {
            // What it began is not left.
            if standing.is_none() {
                this.remove(false)?;
            }
            return Err(error.into());
        }
        let stood = this.containers(CORE_SERVICE, &["ps"])? == before;
        Ok(Containers { port, stood, ..this })
    }

    /// The port of the UI, if the containers run.
    fn ui(&self) -> Option<u16> {
        let webserver = self.containers("dagster-webserver", &["ps"]).ok()?;
        let bound = docker(&["port", webserver.first()?, "3000"]).read().ok()?;
        bound.lines().next()?.rsplit_once(':')?.1.parse().ok()
    }

    /// The containers of a service, as a list lists them.
    fn containers(&self, service: &str, list: &[&str]) -> Result<Vec<String>> {
        let service = format!("label=com.docker.compose.service={service}");
        let filters = ["--quiet", "--filter", &self.label(), "--filter", &service];
        let ids = docker(list).args(filters).read()?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// What Compose marks all of them with.
    fn label(&self) -> String {
        format!("label=com.docker.compose.project={}", self.project)
    }

    /// The services that have ended, though nobody told them to.
    pub(crate) fn ended(&self) -> Result<Vec<String>> {
        let format = r#"{{.Label "com.docker.compose.service"}}"#;
        let ps = docker(&["ps", "--all", "--filter", "status=exited", "--filter", "status=dead"]);
        let ended = ps.args(["--filter", &self.label(), "--format", format]).read()?;
        Ok(ended.lines().map(str::to_owned).collect())
    }

    /// What a service said last.
    pub(crate) fn said(&self, service: &str) -> String {
        let output = self.logs(service, 30, false).and_then(|it| it.output().ok());
        let output = output.map(|it| [it.stdout, it.stderr].concat()).unwrap_or_default();
        tail(&String::from_utf8_lossy(&output), 30)
    }

    /// What shows the last lines that a service said; none, if there is no such container.
    pub(crate) fn logs(&self, service: &str, lines: u32, follow: bool) -> Option<Cmd> {
        let ids = self.containers(service, &["ps", "--all"]).ok()?;
        let follow: &[&str] = if follow { &["--follow"] } else { &[] };
        let logs = docker(&["logs", "--tail", &lines.to_string()]).args(follow.iter().copied());
        Some(logs.arg(ids.first()?))
    }

    /// Removes them; with `data`, their volumes too. Answers how many there were.
    pub(crate) fn remove(self, data: bool) -> Result<usize> {
        let label = self.label();
        let list = |what: &[&str]| -> Result<Vec<String>> {
            let found = docker(what).args(["--quiet", "--filter", &label]).read()?;
            Ok(found.lines().map(str::to_owned).collect())
        };
        let remove = |how: &[&str], found: &[String]| -> Result {
            if !found.is_empty() {
                docker(how).args(found.iter().cloned()).read()?;
            }
            Ok(())
        };
        let containers = list(&["ps", "--all"])?;
        // Postgres closes its files; the others end at once.
        remove(&["stop", "--time", "20"], &containers)?;
        remove(&["rm", "--force"], &containers)?;
        remove(&["network", "rm"], &list(&["network", "ls"])?)?;
        if data {
            remove(&["volume", "rm"], &list(&["volume", "ls"])?)?;
        }
        Ok(containers.len())
    }
}

fn docker(args: &[&str]) -> Cmd {
    Cmd::new("docker").args(["--host", &format!("unix://{SOCKET}")]).args(args.iter().copied())
}

/// The Compose of this machine: the plugin, or the program of before.
fn compose() -> Result<Cmd> {
    let plugin = Cmd::new("docker").arg("compose");
    let answers = |cmd: &Cmd| cmd.clone().arg("version").output().map(|it| it.status.success());
    if answers(&plugin)? {
        return Ok(plugin);
    }
    let program = Cmd::new("docker-compose");
    if answers(&program).unwrap_or(false) {
        return Ok(program);
    }
    let error = anyhow!("this machine has a Docker engine, and no Docker Compose");
    Err(Failure::refused(error).hint(
        "on Debian: sudo apt-get install docker-compose; or work without: cargo xtask dev --native",
    ))
}

/// The container's user is nobody here.
fn require_readable(root: &Path, location: &Location) -> Result {
    for (path, wanted) in [(location.to_string(), 0o5), (format!("{location}/definitions.py"), 0o4)]
    {
        let metadata = fs::metadata(root.join(&path));
        let mode = metadata.with_context(|| format!("cannot look at `{path}`"))?.permissions();
        if mode.mode() & wanted != wanted {
            let error = anyhow!("the container may not read `{path}`");
            return Err(Failure::refused(error).hint(format!("allow it: chmod -R o+rX {location}")));
        }
    }
    Ok(())
}
