//! Measures for how long the code is not served while it is switched.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use dagster::Error;
use release::Probed;
use tokio::{sync::oneshot, time::MissedTickBehavior};

/// Between two probes.
const EVERY: Duration = Duration::from_millis(100);

/// A probe that takes longer has failed: nobody would wait.
const LIMIT: Duration = Duration::from_secs(5);

/// Probes that are sent from a thread, ten a second, until this is stopped or dropped.
pub(crate) struct Prober {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Vec<Probed>>,
}

impl Prober {
    /// Begins to ask the webserver at a local port how a job would be run: only the code server
    /// knows.
    pub(crate) fn start(port: u16, location: String, job: String) -> std::io::Result<Prober> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let dagster = dagster::Client::new(port);
            runtime.block_on(probe(&dagster, &location, &job, &mut stopped))
        });
        Ok(Prober { stop, thread })
    }

    /// Ends it. Answers the longest gap, in seconds.
    pub(crate) fn stop(self) -> Option<f64> {
        drop(self.stop);
        release::gap(&self.thread.join().ok()?)
    }
}

async fn probe(
    dagster: &dagster::Client,
    location: &str,
    job: &str,
    stop: &mut oneshot::Receiver<()>,
) -> Vec<Probed> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let mut probes = Vec::new();
    loop {
        ticks.tick().await;
        let sent = began.elapsed().as_secs_f64();
        let answer = tokio::select! {
            answer = tokio::time::timeout(LIMIT, dagster.execution_plan(location, job, None)) => answer,
            _ = &mut *stop => return probes,
        };
        // A code server that does not know the job, or wants a configuration for it, serves.
        let good =
            matches!(answer, Ok(Ok(()) | Err(Error::NoJob { .. } | Error::RunConfig { .. })));
        probes.push(Probed { sent, ended: began.elapsed().as_secs_f64(), good });
    }
}
