//! `status`: what serves, and how it is.

use std::{collections::BTreeMap, fmt::Write as _};

use release::{Age, CORE_SERVICE, LiveRun, Location, Manifest, Observed, ReleaseId};
use serde::Serialize;

use crate::{environment::Here, exit::Result, report, runs, session::Session};

/// Shows what an environment serves and how it is
#[derive(clap::Args)]
pub(crate) struct Status {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// The code location
    #[arg(long, value_name = "NAME", default_value_t)]
    location: Location,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Facts {
    environment: String,
    host: String,
    #[serde(skip)]
    place: String,
    location: Location,
    release: Option<Manifest>,
    /// What every code location serves.
    serving: BTreeMap<Location, ReleaseId>,
    warm: Option<String>,
    containers: Vec<Container>,
    code: Option<dagster::Location>,
    daemons: Vec<dagster::Daemon>,
    runs: Vec<LiveRun>,
    /// Why Dagster does not answer, if it does not.
    silent: Option<String>,
}

impl Facts {
    async fn ask(&mut self, session: &Session<'_>, observed: &Observed) -> Result {
        let dagster = session.dagster(observed)?;
        self.code = Some(dagster.location(self.location.as_str()).await?);
        self.daemons = dagster.daemons().await?;
        self.runs = runs::live_runs(session, observed, &dagster).await?;
        Ok(())
    }
}

#[derive(Serialize)]
struct Container {
    service: String,
    release: Option<String>,
    id: String,
    state: String,
    status: String,
}

impl Status {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let settings = here.settings(&self.environment).await?;
        let session = Session::connect_for(&settings, self.location)?;
        let observed = session.observe()?;
        session.require(&observed)?;
        let cores = observed.cores.iter().map(|it| Container {
            service: CORE_SERVICE.to_owned(),
            release: Some(it.release.to_string()),
            id: it.id.clone(),
            state: it.state.clone(),
            status: it.status.clone(),
        });
        let platform = observed.platform.iter().map(|it| Container {
            service: it.service.clone(),
            release: None,
            id: it.id.clone(),
            state: it.state.clone(),
            status: it.status.clone(),
        });
        let mut facts = Facts {
            environment: self.environment,
            host: settings.deploy.host.clone(),
            place: settings.deploy.place().to_owned(),
            location: session.location.clone(),
            release: observed.live_manifest().cloned(),
            serving: observed.serving.clone(),
            warm: observed.warm().map(ToString::to_string),
            containers: cores.chain(platform).collect(),
            code: None,
            daemons: Vec::new(),
            runs: Vec::new(),
            silent: None,
        };
        if observed.platform_runs() {
            // The rest is worth knowing even then.
            if let Err(failure) = facts.ask(&session, &observed).await {
                facts.silent = Some(format!("{:#}", failure.error));
            }
        }
        report::facts(self.json, &facts, |it| text(it, observed.now));
        Ok(())
    }
}

fn text(facts: &Facts, now: u64) -> String {
    let mut text = format!("{} on {}\n", facts.environment, facts.place);
    match &facts.release {
        None => text += "  nothing is deployed\n",
        Some(it) => {
            let _ = writeln!(text, "  release  {}  {}", it.id, it.git_subject);
            let _ = writeln!(text, "           by {} at {}", it.by, it.at);
            let _ = writeln!(text, "  image    {}", it.core_image);
        }
    }
    if let Some(warm) = &facts.warm {
        let _ = writeln!(text, "  warm     {warm}");
    }
    for (location, id) in facts.serving.iter().filter(|(it, _)| **it != facts.location) {
        let _ = writeln!(text, "  besides  {location} {id}");
    }
    for it in &facts.containers {
        let name = it.release.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{name}: {}", it.service, it.status);
    }
    if let Some(why) = &facts.silent {
        let _ = writeln!(text, "  Dagster does not answer: {why}");
        return text;
    }
    if let Some(code) = &facts.code {
        let _ = writeln!(text, "  code     {code}");
    }
    for it in facts.daemons.iter().filter(|it| it.required) {
        let age = it.last_heartbeat.map(|then| Age::between(then, now));
        let age = age.map_or("never seen".to_owned(), |age| format!("seen {age} ago"));
        let _ = writeln!(text, "  daemon   {}: {age}", it.kind);
    }
    let _ = writeln!(text, "  runs     {} in flight or queued", facts.runs.len());
    for run in &facts.runs {
        let _ = writeln!(text, "           {run}");
    }
    if facts.runs.iter().any(|it| it.worker.is_gone()) {
        let heal = format!("cargo xtask runs heal {}", facts.environment);
        let _ = writeln!(text, "           zombies never end by themselves: {heal}");
    }
    text
}
