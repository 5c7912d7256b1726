//! Asks the platform ten times a second for something that needs the code server, and watches the
//! arguments of all processes.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use dagster::{Client, RunId, RunStatus};
use serde_json::{Value, json};

const LOCATION: &str = "dagster_core";

/// A platform under probes.
pub struct Probe {
    client: Client,
    runtime: tokio::runtime::Runtime,
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Vec<Result<(), String>>>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl Probe {
    /// Begins to ask the platform that a deploy left open.
    pub fn start(deployed: &Value) -> Probe {
        let url = deployed["url"].as_str().expect("a demo is left reachable");
        let port: u16 = url.rsplit_once(':').unwrap().1.parse().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asking = std::thread::spawn({
            let stop = stop.clone();
            move || runtime().block_on(ask(port, &stop))
        });
        Probe { client: Client::new(port), runtime: runtime(), stop, asking }
    }

    /// Starts a job that takes some seconds.
    pub fn launch(&self, job: &str, seconds: u32) -> RunId {
        let config = json!({"ops": {"wait": {"config": {"seconds": f64::from(seconds)}}}});
        let tags = BTreeMap::new();
        let limit = Duration::from_mins(1);
        let launch = self.client.launch(LOCATION, job, &tags, Some(&config), limit);
        self.runtime.block_on(launch).unwrap()
    }

    /// How far a run is.
    pub fn run_status(&self, run: &RunId) -> RunStatus {
        self.runtime.block_on(self.client.run(run)).unwrap().status
    }

    /// The assets that are served.
    pub fn assets(&self) -> Vec<String> {
        let definitions = self.runtime.block_on(self.client.definitions(LOCATION)).unwrap();
        definitions.assets.into_iter().collect()
    }

    /// Stops asking. Answers how often it asked, and what failed.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.asking.join().unwrap();
        (answers.len(), answers.into_iter().filter_map(Result::err).collect())
    }
}

async fn ask(port: u16, stop: &AtomicBool) -> Vec<Result<(), String>> {
    let client = Client::new(port);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut answers = Vec::new();
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let answer = client.execution_plan(LOCATION, "test_job", None).await;
        answers.push(answer.map_err(|error| {
            let at = began.elapsed().as_secs_f64();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("after {at:.1} s: {error}: {}", cause.unwrap_or_default())
        }));
    }
    answers
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
fn processes_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|it| fs::read(it.path().join("cmdline")).ok())
        .map(|it| String::from_utf8_lossy(&it).replace('\0', " "))
        .filter(|it| it.contains(text))
        .collect()
}
