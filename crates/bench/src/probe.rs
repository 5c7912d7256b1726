//! Asks the platform ten times a second for something that needs the code server, and watches the
//! arguments of all processes.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use dagster::{Client, Run, RunId, RunStatus};
use serde_json::{Value, json};

use crate::checkout::{comes_true, runtime};

const LOCATION: &str = "dagster_core";

/// What came of each question.
type Answers = Arc<Mutex<Vec<Result<(), String>>>>;

/// A platform under probes.
pub struct Probe {
    port: u16,
    client: Client,
    runtime: tokio::runtime::Runtime,
    stop: Arc<AtomicBool>,
    asking: JoinHandle<()>,
    answers: Answers,
}

impl Probe {
    /// Begins to ask the platform that a deploy left open.
    pub fn start(deployed: &Value) -> Probe {
        let url = deployed["url"].as_str().expect("a demo is left reachable");
        Probe::at(url.rsplit_once(':').unwrap().1.parse().unwrap())
    }

    /// Begins to ask the platform whose UI is at a port here.
    pub fn at(port: u16) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Answers::default();
        let asking = std::thread::spawn({
            let (stop, answers) = (stop.clone(), answers.clone());
            move || runtime().block_on(ask(port, &stop, &answers))
        });
        Probe { port, client: Client::new(port), runtime: runtime(), stop, asking, answers }
    }

    /// Starts a job that takes some seconds.
    pub fn launch(&self, job: &str, seconds: u32) -> RunId {
        let config = json!({"ops": {"wait": {"config": {"seconds": f64::from(seconds)}}}});
        let tags = BTreeMap::new();
        let limit = Duration::from_mins(1);
        let launch = self.client.launch(LOCATION, job, &tags, Some(&config), limit);
        self.runtime.block_on(launch).unwrap()
    }

    /// Asks for the end of a run.
    pub fn terminate(&self, run: &RunId) {
        self.runtime.block_on(self.client.terminate(run)).unwrap();
    }

    /// How far a run is.
    pub fn run_status(&self, run: &RunId) -> RunStatus {
        self.runtime.block_on(self.client.run(run)).unwrap().status
    }

    /// The runs in one of these states.
    pub fn runs(&self, statuses: &[RunStatus]) -> Vec<Run> {
        self.runtime.block_on(self.client.runs(statuses)).unwrap()
    }

    /// The assets that are served.
    pub fn assets(&self) -> Vec<String> {
        self.try_assets().unwrap()
    }

    /// The assets that are served, or why none are.
    pub fn try_assets(&self) -> Result<Vec<String>, dagster::Error> {
        let definitions = self.runtime.block_on(self.client.definitions(LOCATION))?;
        Ok(definitions.assets.into_iter().collect())
    }

    /// Waits aside until an asset is served. Answers when that was; none if it was not in five
    /// minutes.
    pub fn await_asset(&self, name: &str) -> JoinHandle<Option<Instant>> {
        let (port, name) = (self.port, name.to_owned());
        std::thread::spawn(move || {
            let (client, runtime) = (Client::new(port), runtime());
            let served = comes_true(Duration::from_mins(5), || {
                let served = runtime.block_on(client.definitions(LOCATION));
                served.is_ok_and(|it| it.assets.contains(&name))
            });
            served.then(Instant::now)
        })
    }

    /// How often it has asked until now, and what failed.
    pub fn so_far(&self) -> (usize, Vec<String>) {
        let answers = self.answers.lock().unwrap();
        let failed = answers.iter().filter_map(|it| it.clone().err());
        (answers.len(), failed.collect())
    }

    /// Stops asking. Answers how often it asked, and what failed.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let Probe { asking, answers, .. } = self;
        asking.join().unwrap();
        let answers = std::mem::take(&mut *answers.lock().unwrap());
        (answers.len(), answers.into_iter().filter_map(Result::err).collect())
    }
}

async fn ask(port: u16, stop: &AtomicBool, answers: &Answers) {
    let client = Client::new(port);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let answer = client.execution_plan(LOCATION, "test_job", None).await;
        let answer = answer.map_err(|error| {
            let at = began.elapsed().as_secs_f64();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("after {at:.1} s: {error}: {}", cause.unwrap_or_default())
        });
        answers.lock().unwrap().push(answer);
    }
}

/// A look at the arguments of all processes, again and again.
pub struct Arguments {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Seen>,
}

/// What was seen in arguments.
#[derive(Default)]
pub struct Seen {
    /// How often it was looked.
    pub samples: usize,
    /// The arguments with the text.
    pub found: Vec<String>,
}

impl Arguments {
    /// Begins to look for a text.
    pub fn watch(text: &'static str) -> Arguments {
        let stop = Arc::new(AtomicBool::new(false));
        let looking = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    seen.samples += 1;
                    seen.found.extend(processes_with(text));
                    std::thread::sleep(Duration::from_millis(10));
                }
                seen
            }
        });
        Arguments { stop, looking }
    }

    /// Ends it.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().unwrap()
    }
}

/// The processes whose arguments hold a text; those in containers are seen from here too.
pub fn processes_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|it| fs::read(it.path().join("cmdline")).ok())
        .map(|it| String::from_utf8_lossy(&it).replace('\0', " "))
        .filter(|it| it.contains(text))
        .collect()
}
