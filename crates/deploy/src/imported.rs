//! Imports the checkout's code beside its libraries, in a container of this machine's engine that
//! has no network, to see what it defines.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use exec::Cmd;
use release::{Age, Definition, ImageRef, Kind, Location};
use settings::Settings;

use crate::{
    exit::Result,
    session::{SOCKET, tail},
};

/// Where the code is unpacked in the container.
const FOLDER: &str = "/tmp/code";

/// What came of the import.
pub(crate) enum Imported {
    /// The code loads, and defines this.
    Loaded(dagster::Definitions),
    /// It does not, with this traceback.
    Broken(String),
}

/// Imports the code of a location. `libraries` is an image that has what it imports. It is given the
/// settings of the environment, since code may read them while it is imported; on its standard
/// input, since they may be secret.
pub(crate) fn import(
    root: &Path,
    settings: &Settings,
    location: &Location,
    libraries: &ImageRef,
) -> Result<Imported> {
    const SCRIPT: &str = include_str!("definitions.py");

    let limit = settings.deploy.start_timeout.as_secs().to_string();
    let module = format!("{location}.definitions");
    let output = Cmd::new("docker")
        .args(["--host", &format!("unix://{SOCKET}"), "run", "--rm", "--interactive"])
        .args(["--pull", "never", "--network", "none", &libraries.to_string()])
        .args(["python", "-c", SCRIPT, &module, FOLDER, &limit])
        .stdin(input(root, settings, location)?)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => {
            let found = serde_json::from_slice(&output.stdout);
            Ok(Imported::Loaded(found.context("what the code defines was not understood")?))
        }
        Some(41) => Ok(Imported::Broken(tail(&said, 60))),
        _ => Err(anyhow!("{}", tail(&said, 20))
            .context("the code could not be imported here")
            .into()),
    }
}

/// The code as a tar, and beside it what it finds in its environment.
fn input(root: &Path, settings: &Settings, location: &Location) -> Result<Vec<u8>> {
    let folder = location.as_str();
    let mut tar = tar::Builder::new(Vec::new());
    let unread = || format!("cannot read `{folder}`");
    tar.append_dir_all(folder, root.join(folder)).with_context(unread)?;
    let compose =
        std::fs::read(root.join("compose/core.yaml")).context("cannot read `compose/core.yaml`")?;
    let variables: serde_json::Map<_, _> = settings
        .containers
        .iter()
        .map(|(key, value)| (key.clone(), value.expose().into()))
        .collect();
    let variables = serde_json::to_vec(&variables).expect("texts are plain data");
    for (name, bytes) in [(".core.yaml", compose), (".environment", variables)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice()).with_context(unread)?;
    }
    Ok(tar.into_inner().with_context(unread)?)
}

/// Definitions, as a plan compares and tells them.
pub(crate) fn definitions(of: &dagster::Definitions) -> Vec<Definition> {
    let plain = |kind, name: &String| Definition {
        kind,
        name: name.clone(),
        on_by_default: false,
        traits: [].into(),
    };
    // Dagster's own name for "some assets" begins so.
    let starts =
        |job: &String| if job.starts_with("__") { "assets".to_owned() } else { job.clone() };
    let schedules = of.schedules.iter().map(|(name, it)| {
        let zone = it.timezone.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        Definition {
            kind: Kind::Schedule,
            name: name.clone(),
            on_by_default: it.on_by_default,
            traits: [("cron", format!("{}{zone}", it.cron)), ("starts", starts(&it.job))].into(),
        }
    });
    let sensors = of.sensors.iter().map(|(name, it)| {
        let jobs: Vec<String> = it.jobs.iter().map(starts).collect();
        let jobs = if jobs.is_empty() { "nothing".to_owned() } else { jobs.join(" and ") };
        let every = Age(it.interval).to_string();
        Definition {
            kind: Kind::Sensor,
            name: name.clone(),
            on_by_default: it.on_by_default,
            traits: [("every", every), ("starts", jobs)].into(),
        }
    });
    let jobs = of.jobs.iter().map(|it| plain(Kind::Job, it));
    let assets = of.assets.iter().map(|it| plain(Kind::Asset, it));
    jobs.chain(assets).chain(schedules).chain(sensors).collect()
}
