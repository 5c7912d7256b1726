//! Which runs wait or work, and where; and their end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use release::{Age, CORE_PORT, LiveRun, Observed, Runs, Server, Worker};
use tokio::time::{Instant, sleep};

use crate::{
    exit::{Failure, Result},
    report::Report,
    session::{Session, remote},
};

/// The tag by which Dagster marks the runs of a backfill.
const BACKFILL: &str = "dagster/backfill";

/// The runs that wait or work now, newest first, of all code locations.
pub(crate) async fn live_runs(
    session: &Session<'_>,
    observed: &Observed,
    dagster: &dagster::Client,
) -> Result<Vec<LiveRun>> {
    // The runs first: what a run was given to was there before it, so a code server that is not
    // there afterwards is gone.
    let runs = dagster.runs_in_flight().await?;
    let servers = if runs.iter().all(|it| it.status.waits()) {
        BTreeMap::new()
    } else {
        servers(session, observed, dagster).await?
    };
    let live_run = |run: dagster::Run| {
        let since = run.started.unwrap_or(run.created);
        LiveRun {
            worker: Worker::new(run.status.waits(), run.started, servers.get(&run.id)),
            id: run.id.to_string(),
            job: run.job,
            assets: run.assets,
            status: run.status.to_string(),
            seconds: Age::between(since, observed.now).0,
            backfill: run.tags.get(BACKFILL).cloned(),
        }
    };
    Ok(runs.into_iter().map(live_run).collect())
}

/// The code server of each run in flight, as far as a release that the host remembers ran it.
async fn servers(
    session: &Session<'_>,
    observed: &Observed,
    dagster: &dagster::Client,
) -> Result<BTreeMap<dagster::RunId, Server>> {
    let of_releases =
        observed.manifests.iter().chain(&observed.others).map(|it| it.location.container(&it.id));
    let of_engine = observed.cores.iter().map(|it| observed.layout.core_container(&it.release));
    let containers: BTreeSet<String> = of_releases.chain(of_engine).collect();
    let args: Vec<&str> = containers.iter().map(String::as_str).collect();
    let answer = session.ask("look at the code servers", remote::SERVERS, &args)?;
    let mut running = BTreeMap::new();
    for line in answer.lines() {
        let parsed = line.split_once(' ').and_then(|(name, at)| Some((name, at.parse().ok()?)));
        let (name, at): (_, f64) =
            parsed.with_context(|| format!("the host's answer was not understood at: {line}"))?;
        running.insert(name.to_owned(), at);
    }
    let mut servers = BTreeMap::new();
    for container in containers {
        let since = running.get(&container).copied();
        for run in dagster.runs_on(&container, CORE_PORT).await? {
            servers.insert(run.id, Server { container: container.clone(), since });
        }
    }
    Ok(servers)
}

/// Waits for the end of the runs that this is about, or cancels them. (Those whose code server is
/// gone end by nobody's doing.)
pub(crate) async fn end(
    session: &Session<'_>,
    observed: &Observed,
    how: Runs,
    about: impl Fn(&LiveRun) -> bool,
    limit: Duration,
    report: &Report,
) -> Result<String> {
    let dagster = session.dagster(observed)?;
    let limit = Instant::now() + limit;
    let mut seen = BTreeSet::new();
    loop {
        let mut left = live_runs(session, observed, &dagster).await?;
        left.retain(&about);
        let Some(first) = left.first().map(|it| format!("{} of {}", it.id, it.job)) else {
            let done = if how == Runs::Cancel { "canceled" } else { "ended" };
            return Ok(format!("{} {done}", seen.len()));
        };
        for run in left.iter().filter(|it| seen.insert(it.id.clone())) {
            if how == Runs::Cancel {
                report.say(&format!("  canceling {} of {}", run.id, run.job));
                cancel(&dagster, &run.id.as_str().into()).await?;
            } else {
                report.say(&format!("  waiting for {} of {}", run.id, run.job));
            }
        }
        report.now(&format!("{} left: {first}", left.len()));
        if Instant::now() >= limit {
            let error = anyhow!("{} runs have not ended: {first}", left.len());
            return Err(
                Failure::from(error).hint("they go on there; `cargo xtask runs list` shows them")
            );
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Cancels a run; one that has ended meanwhile is none to cancel.
pub(crate) async fn cancel(dagster: &dagster::Client, id: &dagster::RunId) -> Result {
    match dagster.terminate(id).await {
        Err(error) if !dagster.run(id).await?.status.is_final() => Err(error.into()),
        _ => Ok(()),
    }
}
