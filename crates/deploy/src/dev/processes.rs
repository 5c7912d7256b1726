//! The platform as processes of this machine, with SQLite: where there is no engine.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use exec::{Cmd, Line, Running};
use release::CORE_SERVICE;
use serde_json::json;
use tempfile::TempDir;

use super::{Place, Wanted, workspace_yaml};
use crate::{
    environment::Here,
    exit::{Failure, Result},
    report::Report,
};

/// The processes of a checkout. They end when this value is dropped, and when this program is gone.
pub(crate) struct Processes {
    place: Place,
    running: Running,
    ended: Mutex<BTreeSet<String>>,
    /// Where the UI is.
    pub(crate) port: u16,
    /// Holds the code server's socket: it has no port that two checkouts could meet at, or that
    /// others on this machine could reach.
    _socket: TempDir,
}

/// Where what they say is kept.
const LOGS: &str = "native/logs";

/// How long they may take to end.
const LIMIT: Duration = Duration::from_secs(15);

impl Processes {
    /// Installs what `uv.lock` names, and starts them.
    pub(crate) fn start(wanted: &Wanted<'_>, report: &mut Report) -> Result<Processes> {
        const PROGRAM: &str = include_str!("processes.py");

        let &Wanted { here, place, settings, location, port } = wanted;
        report.phase("libraries");
        let venv = place.path("venv");
        let groups = ["--no-default-groups", "--group", "platform"];
        let mut sync =
            uv(here)?.args(["sync", "--frozen", "--quiet", "--compile-bytecode"]).args(groups);
        if let Some(ca) = here.ca_bundle() {
            sync = sync.env("SSL_CERT_FILE", ca);
        }
        sync.env("UV_PROJECT_ENVIRONMENT", &venv).read()?;

        report.phase("start");
        let instance = "compose/dagster.native.yaml";
        let instance = fs::read_to_string(place.root.join(instance))
            .with_context(|| format!("cannot read `{instance}`"))?;
        let instance = place.write("native/home/dagster.yaml", &instance, 0o600)?;
        let socket = tempfile::Builder::new()
            .prefix("dagster-dev-")
            .tempdir()
            .context("cannot make a folder for the code server's socket")?;
        let core = socket.path().join("core");
        let workspace = workspace_yaml(json!({"socket": core}), location);
        let workspace = place.write("native/workspace.yaml", &workspace, 0o600)?;
        let logs = place.path(LOGS);
        fs::create_dir_all(&logs).with_context(|| format!("cannot make `{}`", logs.display()))?;

        let bin = venv.join("bin");
        let program = |name: &str| bin.join(name).display().to_string();
        let (core, workspace) = (core.display().to_string(), workspace.display().to_string());
        let module = format!("{location}.definitions");
        let call = |name: &str| {
            Cmd::new(program(name))
                .dir(&place.root)
                .env("PATH", here.programs(&bin))
                .env("DAGSTER_HOME", instance.parent().expect("it is in a folder"))
                // What they leave there goes with the socket.
                .env("TMPDIR", socket.path())
                .env("DAGSTER_POSTGRES_HOST", "localhost")
                // The checkout is not ours to write into.
                .env("PYTHONDONTWRITEBYTECODE", "1")
        };
        make_databases(place, &call("dagster"), report)?;

        let port = exec::free_port(port.unwrap_or(settings.deploy.local_port))
            .ok_or_else(|| anyhow!("no port is free here"))?;
        let port_argument = port.to_string();
        let services = json!({
            "core": [program("dagster"), "code-server", "start", "--socket", core, "--module-name", module],
            "webserver": [
                program("dagster-webserver"), "--host", "127.0.0.1", "--port", port_argument,
                "--workspace", workspace,
            ],
            "daemon": [program("dagster-daemon"), "run", "--workspace", workspace],
        });
        let mut cmd = call("python").args(["-c", PROGRAM]).arg(&logs).arg(services.to_string());
        for (key, value) in &settings.containers {
            cmd = cmd.env(key, value.expose());
        }
        let running = cmd.start_tied()?;
        let (place, ended) = (place.clone(), Mutex::default());
        Ok(Processes { place, running, ended, port, _socket: socket })
    }

    /// The services that have ended, though nobody told them to.
    pub(crate) fn ended(&self) -> Vec<String> {
        let mut ended = self.ended.lock().expect("nobody panics while holding it");
        loop {
            match self.running.line(Duration::ZERO) {
                Line::Said(name) => drop(ended.insert(name)),
                Line::Silent => return ended.iter().cloned().collect(),
                Line::Ended => return vec!["core".to_owned()],
            }
        }
    }

    /// What a service said last.
    pub(crate) fn said(&self, service: &str) -> String {
        let output = Processes::logs(&self.place, service, 30, false).map(|it| it.output());
        let output = output.and_then(Result::ok).map(|it| it.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim_end().to_owned()
    }

    /// What shows the last lines that a service said; none, if there never was one.
    pub(crate) fn logs(place: &Place, service: &str, lines: u32, follow: bool) -> Option<Cmd> {
        let name = if service == CORE_SERVICE { "core" } else { service };
        let file = place.path(LOGS).join(name.trim_start_matches("dagster-")).with_extension("log");
        let follow: &[&str] = if follow { &["--follow"] } else { &[] };
        let tail = Cmd::new("tail").args(["-n", &lines.to_string()]).args(follow.iter().copied());
        file.is_file().then(|| tail.arg(file))
    }

    /// Ends them, and waits until they have.
    pub(crate) fn stop(self) -> Result {
        let Processes { running, _socket, .. } = self;
        let deadline = Instant::now() + LIMIT;
        let running = running.untie();
        while Instant::now() < deadline {
            if running.line(deadline - Instant::now()) == Line::Ended {
                return Ok(());
            }
        }
        Ok(running.signal_group("KILL")?)
    }
}

/// Makes the instance's databases, or brings them to what another Dagster wants. Each process would
/// do the former by itself, and all of them at once leave databases of two versions.
fn make_databases(place: &Place, dagster: &Cmd, report: &Report) -> Result {
    const MADE_FOR: &str = "native/home/uv.lock";

    let lock = place.root.join("uv.lock");
    let lock =
        fs::read_to_string(&lock).with_context(|| format!("cannot read `{}`", lock.display()))?;
    let made_for = fs::read_to_string(place.path(MADE_FOR)).ok();
    if made_for.as_ref() == Some(&lock) {
        return Ok(());
    }
    match dagster.clone().args(["instance", "migrate"]).read() {
        Ok(_) => drop(place.write(MADE_FOR, &lock, 0o600)?),
        // An older Dagster may work with what a newer one made.
        Err(error) if made_for.is_some() => {
            report.say(&format!("  Dagster's databases stay as they are: {error}"));
        }
        Err(error) => {
            let error = anyhow::Error::from(error).context("cannot make Dagster's databases");
            let failure = Failure::from(error);
            return Err(failure.hint("cargo xtask dev --native --fresh begins with empty ones"));
        }
    }
    Ok(())
}

/// Whether there is a Postgres here that the warehouse can be in.
pub(crate) fn has_postgres() -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5432));
    TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
}

/// `uv`, which installs Python's packages from `uv.lock`; into `target` if it is missing.
fn uv(here: &Here) -> Result<Cmd> {
    let own = here.root.join("target/uv/bin/uv");
    let answers =
        |cmd: &Cmd| cmd.clone().arg("--version").output().is_ok_and(|it| it.status.success());
    if let Some(found) =
        [here.program("uv"), here.program(own.to_str().unwrap_or("uv"))].into_iter().find(answers)
    {
        return Ok(found);
    }
    let installed = [
        here.program("python3").args(["-m", "venv", "target/uv"]),
        here.program("target/uv/bin/pip").args(["install", "--quiet", "uv"]),
    ];
    for step in installed {
        step.read().map_err(|error| {
            Failure::refused(anyhow::Error::from(error).context("`uv` could not be installed"))
                .hint("install it: https://docs.astral.sh/uv; on Debian it needs python3-venv")
        })?;
    }
    Ok(here.program(own.to_str().unwrap_or("uv")))
}
