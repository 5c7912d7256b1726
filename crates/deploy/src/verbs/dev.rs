//! `dev`: a platform on this machine that serves the code as it is saved.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::anyhow;
use dagster::{Client, LocationState, PythonError, RunStatus};
use images::Engine;
use release::Location;
use serde::Serialize;
use settings::Settings;
use testbed::Event;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::{
    artifacts::CODE_IN_IMAGE,
    dev::{self, Containers, Held, Place, Platform, Processes, Watch},
    environment::Here,
    exit::{Failure, Result},
    interrupt::{Interrupt, Words},
    project,
    report::{self, Report},
    secrets,
};

/// Runs the platform on this machine, and serves the code as it is saved, until Ctrl-C
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Dev {
    /// Use processes and SQLite instead of containers and Postgres; done by itself where no Docker
    /// engine answers
    #[arg(long)]
    native: bool,
    /// The port of the UI; the next free one is taken when it is in use
    #[arg(long)]
    port: Option<u16>,
    /// The code location to serve
    #[arg(long, value_name = "NAME", default_value_t)]
    location: Location,
    /// Begin with empty databases
    #[arg(long)]
    fresh: bool,
    /// Leave the platform running at the end; `cargo xtask down dev` ends it
    #[arg(long, conflicts_with = "native")]
    keep: bool,
    /// Print where it is as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Address {
    location: Location,
    url: String,
    /// The database that the assets are written to.
    warehouse: String,
    native: bool,
}

/// Between two looks at whether the platform lives.
const LOOK: Duration = Duration::from_secs(2);

/// What Ctrl-C comes to.
const WORDS: Words = Words {
    first: "stopping; once more ends at once",
    second: "ended at once: `cargo xtask down dev` removes what is left",
};

impl Dev {
    pub(crate) async fn run(self, here: &Here) -> Result {
        project::require_definitions(&here.root, &self.location)?;
        let place = Place::of(&here.root)?;
        let began = OffsetDateTime::now_utc();
        let held = place.hold()?;
        let interrupt = Interrupt::listen_saying(WORDS)?;
        // From the beginning: nothing that is saved meanwhile is missed.
        let watch = Watch::begin(&place.root, &self.location)?;
        let mut report = Report::new();
        let started = tokio::select! {
            biased;
            started = self.start(here, &place, &mut report) => started,
            () = interrupt.wait() => return Ok(()),
        };
        let (platform, settings) = match started {
            // Ctrl-C reaches what runs in this terminal, too.
            Err(_) if interrupt.raised() => return Ok(()),
            started => started?,
        };
        let served = tokio::select! {
            served = self.serve(&platform, &settings, began, held, watch, &mut report) => served,
            failed = dies(&platform) => failed,
            () = interrupt.wait() => Ok(()),
        };
        if self.keep && served.is_ok() {
            report.say("it goes on; end it: cargo xtask down dev");
            return Ok(());
        }
        report.phase("stop");
        let stopped = platform.stop();
        report.finish();
        // What went wrong first is what matters.
        served.and(stopped)
    }

    async fn start(
        &self,
        here: &Here,
        place: &Place,
        report: &mut Report,
    ) -> Result<(Platform, Settings)> {
        let engine = if self.native { None } else { Engine::local().await.ok() };
        if engine.is_none() && !self.native {
            report.say("no Docker engine answers here: processes and SQLite do (--native)");
        }
        let mut facts = dev::facts(place)?;
        if let Some(engine) = &engine {
            report.phase("base images");
            let mut say = |event: Event| match event {
                Event::Said(line) => report.say(&format!("  {line}")),
                Event::Now(what) => report.now(&what),
            };
            facts.extend(testbed::base_images(engine, here.ca_bundle(), &mut say).await?);
            report.end("");
        }
        let mut settings = here.resolve(dev::ENVIRONMENT, &facts)?;
        Here::require_location(&settings, &self.location)?;
        secrets::look_up(&mut settings, here, report)?;
        let wanted = dev::Wanted {
            here,
            place,
            settings: &settings,
            location: &self.location,
            port: self.port,
        };
        let platform = if let Some(engine) = engine {
            if self.fresh {
                Containers::of(place).remove(true)?;
            }
            Platform::Containers(Containers::start(&wanted, &engine, report).await?)
        } else {
            if self.fresh {
                place.remove("native")?;
            }
            Platform::Processes(Box::new(Processes::start(&wanted, report)?))
        };
        Ok((platform, settings))
    }

    /// Serves until something fails.
    async fn serve(
        &self,
        platform: &Platform,
        settings: &Settings,
        began: OffsetDateTime,
        mut held: Held,
        mut watch: Watch,
        report: &mut Report,
    ) -> Result {
        let port = platform.port();
        let client = Client::new(port);
        client.ready(settings.deploy.start_timeout).await?;
        if platform.stood() {
            // Nobody watched what was saved meanwhile.
            client.reload_location(self.location.as_str()).await?;
        } else {
            cancel_abandoned(&client, began, report).await?;
        }
        let state = self.first(&client, settings.deploy.start_timeout).await?;
        report.end("");

        let wanted = self.port.unwrap_or(settings.deploy.local_port);
        if port != wanted {
            report.say(&format!("port {wanted} is in use here: {port} is taken instead"));
        }
        let native = matches!(platform, Platform::Processes(_));
        let warehouse = settings.containers["WAREHOUSE_DB"].expose().to_owned();
        if native && !dev::has_postgres() {
            report.say(
                "the warehouse is Postgres, and none answers at localhost:5432: what needs it fails here",
            );
        }
        let url = format!("http://localhost:{port}");
        held.tell(&url)?;
        let address = Address { location: self.location.clone(), url, warehouse, native };
        report::facts(self.json, &address, |it| {
            format!("{} is at {} until you press Ctrl-C", it.location, it.url)
        });
        if let LocationState::Failed { error } = &state {
            let location = &self.location;
            report.say(&format!("{}\n  {location} does not load yet", traceback(error)));
        }
        loop {
            let saved = watch.saved().await?;
            if !saved.made_of.is_empty() {
                report.say(&format!(
                    "  {} changed: it counts from the next start on (Ctrl-C, then cargo xtask dev)",
                    names(&saved.made_of)
                ));
            }
            if saved.code.is_empty() {
                continue;
            }
            let reloaded = client.reload_location(self.location.as_str()).await;
            let after =
                format!("{:>5.1} s  {}", saved.at.elapsed().as_secs_f64(), names(&saved.code));
            match reloaded {
                Ok(LocationState::Loaded(_)) => report.say(&format!("  served {after}")),
                Ok(LocationState::Failed { error }) => {
                    report.say(&format!("{}\n  broken {after}", traceback(&error)));
                }
                Ok(LocationState::Loading | LocationState::Missing) => {
                    report.say(&format!("  not served {after}; Dagster is busy, save it again"));
                }
                Err(error) => {
                    report.say(&format!("{}\n  not served {after}", Failure::from(error)));
                }
            }
        }
    }

    /// What came of the first import.
    async fn first(&self, client: &Client, limit: Duration) -> Result<LocationState> {
        let deadline = Instant::now() + limit;
        loop {
            let state = client.location(self.location.as_str()).await.map(|it| it.state);
            let waits = match &state {
                Ok(LocationState::Loaded(_)) => false,
                Ok(LocationState::Failed { error }) => error.is_unreachable(),
                Ok(LocationState::Loading | LocationState::Missing) => true,
                Err(error) => error.is_passing(),
            };
            if !waits || Instant::now() >= deadline {
                return Ok(state?);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// As an editor finds it: the container has the code elsewhere.
fn traceback(error: &PythonError) -> String {
    error.to_string().replace(&format!("{CODE_IN_IMAGE}/"), "")
}

/// Fails when a service of the platform has ended by itself.
async fn dies(platform: &Platform) -> Result {
    loop {
        sleep(LOOK).await;
        if let Some(service) = platform.ended()?.first() {
            let said = platform.said(service);
            return Err(anyhow!("{said}")
                .context(format!("`{service}` has ended by itself"))
                .into());
        }
    }
}

/// Runs that worked when the platform was stopped ended with it, and nobody wrote that down.
async fn cancel_abandoned(client: &Client, began: OffsetDateTime, report: &Report) -> Result {
    #[expect(clippy::cast_precision_loss, reason = "seconds of our era")]
    let began = began.unix_timestamp() as f64;
    let mut abandoned = client.runs(&[RunStatus::Started, RunStatus::Canceling]).await?;
    // One that waited may have been started since.
    abandoned.retain(|it| it.started.is_some_and(|started| started < began));
    for run in &abandoned {
        client.mark_canceled(&run.id).await?;
    }
    let ids: Vec<&str> = abandoned.iter().map(|it| &it.id.as_str()[..8]).collect();
    if !ids.is_empty() {
        report
            .say(&format!("  canceled, since it ended with the platform: run {}", ids.join(", ")));
    }
    Ok(())
}

/// The paths in a line: the first three, and how many more.
fn names(paths: &BTreeSet<PathBuf>) -> String {
    const SHOWN: usize = 3;

    let shown: Vec<_> = paths.iter().take(SHOWN).map(|it| it.display().to_string()).collect();
    let more = paths.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}
