//! Asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    Code, Daemon, Definitions, Error, Failure, Location, LocationState, PythonError, Result, Run,
    RunId, RunStatus, Schedule, Sensor,
    model::{Key, Tag},
    queries::{self, Query},
};

/// Between two looks at something that is awaited: at first, and later.
const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// A webserver of Dagster on a local port.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// The webserver at `http://127.0.0.1:port`.
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn new(port: u16) -> Client {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            // The webserver closes a connection that was idle for five seconds; a request on it
            // at that moment would be lost.
            .pool_idle_timeout(Duration::from_secs(3))
            // Reloading imports the user's code; Dagster itself gives that 180 s.
            .timeout(Duration::from_secs(200))
            .build()
            .expect("no certificate, proxy or resolver is configured that could be wrong");
        Client { http, base: format!("http://127.0.0.1:{port}") }
    }

    /// The version of Dagster that the webserver runs.
    pub async fn version(&self) -> Result<String> {
        self.ask(&queries::VERSION, json!({}), "/version").await
    }

    /// The class name of the run launcher: `DefaultRunLauncher` runs a job inside the code server.
    pub async fn launcher(&self) -> Result<String> {
        self.ask(&queries::LAUNCHER, json!({}), "/instance/runLauncher/name").await
    }

    /// Waits until the webserver answers at all.
    pub async fn ready(&self, deadline: Duration) -> Result<()> {
        let mut wait = Wait::new(deadline);
        let url = format!("{}/server_info", self.base);
        loop {
            let seen = match self.http.get(&url).timeout(Duration::from_secs(5)).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("HTTP status {}", answer.status()),
                Err(source) => Error::Unreachable { url: url.clone(), source }.to_string(),
            };
            wait.pause(|| "Dagster's webserver to answer".to_owned(), seen).await?;
        }
    }

    /// Makes a code location's server import its code anew, and answers what came of it. The runs of
    /// the code before go on.
    pub async fn reload_location(&self, name: &str) -> Result<LocationState> {
        let variables = json!({"name": name});
        let at = "/reloadRepositoryLocation";
        self.union(&queries::RELOAD_LOCATION, variables, at, "WorkspaceLocationEntry").await?;
        Ok(self.location(name).await?.state)
    }

    /// A code location, as the webserver has it now.
    pub async fn location(&self, name: &str) -> Result<Location> {
        let answer =
            self.union(&queries::WORKSPACE, json!({}), "/workspaceOrError", "Workspace").await?;
        location(&queries::WORKSPACE, answer, name)
    }

    /// A code location and the daemon's threads, at one moment.
    pub async fn look(&self, name: &str) -> Result<(Location, Vec<Daemon>)> {
        let query = &queries::LOOK;
        let mut answer: Value = self.ask(query, json!({}), "").await?;
        let workspace = member(query, answer["workspaceOrError"].take(), "Workspace")?;
        Ok((location(query, workspace, name)?, take(query, answer, DAEMONS)?))
    }

    /// The code that a location serves; an error if it serves none.
    pub async fn code(&self, location: &str) -> Result<Code> {
        let name = || location.to_owned();
        match self.location(location).await?.state {
            LocationState::Loaded(code) => Ok(code),
            LocationState::Failed { error } => {
                Err(Error::NotServed { location: name(), source: Some(Box::new(error)) })
            }
            LocationState::Loading | LocationState::Missing => {
                Err(Error::NotServed { location: name(), source: None })
            }
        }
    }

    /// What a location defines, and which schedules and sensors are on.
    pub async fn definitions(&self, location: &str) -> Result<Definitions> {
        self.definitions_of(location, &self.code(location).await?).await
    }

    /// The same, of code that was asked for before.
    pub async fn definitions_of(&self, location: &str, code: &Code) -> Result<Definitions> {
        let selector =
            json!({"repositoryLocationName": location, "repositoryName": code.repository});
        let answer = self
            .union(
                &queries::DEFINITIONS,
                json!({"repository": selector}),
                "/repositoryOrError",
                "Repository",
            )
            .await?;
        Ok(parse::<answer::Repository>(&queries::DEFINITIONS, answer)?.into())
    }

    /// The daemon's threads.
    pub async fn daemons(&self) -> Result<Vec<Daemon>> {
        self.ask(&queries::DAEMONS, json!({}), DAEMONS).await
    }

    /// The runs in one of these states, newest first.
    pub async fn runs(&self, statuses: &[RunStatus]) -> Result<Vec<Run>> {
        self.filtered_runs(json!({"statuses": statuses})).await
    }

    /// The runs that wait or work, newest first.
    pub async fn runs_in_flight(&self) -> Result<Vec<Run>> {
        self.runs(RunStatus::IN_FLIGHT).await
    }

    async fn filtered_runs(&self, filter: Value) -> Result<Vec<Run>> {
        #[derive(Deserialize)]
        struct Runs {
            results: Vec<Run>,
        }
        let variables = json!({"filter": filter});
        let answer = self.union(&queries::RUNS, variables, "/runsOrError", "Runs").await?;
        Ok(parse::<Runs>(&queries::RUNS, answer)?.results)
    }

    /// A run.
    pub async fn run(&self, id: &RunId) -> Result<Run> {
        let answer = self.union(&queries::RUN, json!({"id": id}), "/runOrError", "Run").await?;
        parse(&queries::RUN, answer)
    }

    /// Whether the code server at this address worked on the run.
    ///
    /// Dagster hides the tag in which `DefaultRunLauncher` notes the address, but filters by it.
    /// Other launchers note none, and do not ask a code server: ask [`Client::launcher`] first.
    pub async fn ran_on(&self, run: &RunId, host: &str, port: u16) -> Result<bool> {
        let filter = json!({"runIds": [run], "tags": [address(host, port)]});
        Ok(!self.filtered_runs(filter).await?.is_empty())
    }

    /// The runs in flight that the code server at this address works on, or did when it was there;
    /// see [`Client::ran_on`].
    pub async fn runs_on(&self, host: &str, port: u16) -> Result<Vec<Run>> {
        let filter = json!({"statuses": RunStatus::IN_FLIGHT, "tags": [address(host, port)]});
        let runs = self.filtered_runs(filter).await?;
        Ok(runs.into_iter().filter(|it| !it.status.waits()).collect())
    }

    /// Why a run failed, with the exception of its first failed step; nothing if it did not.
    pub async fn failure(&self, run: &RunId) -> Result<Option<Failure>> {
        let mut after = None;
        let mut whole = None;
        loop {
            let variables = json!({"id": run, "after": after});
            let answer = self.union(&queries::FAILURE, variables, "/runOrError", "Run").await?;
            let page = parse::<answer::Events>(&queries::FAILURE, answer)?.event_connection;
            for event in page.events {
                match event.typename.as_str() {
                    "ExecutionStepFailureEvent" => return Ok(Some(event.into())),
                    "RunFailureEvent" => whole = Some(event.into()),
                    // A run whose process was never started tells the reason only here.
                    "EngineEvent" if event.error.is_some() && whole.is_none() => {
                        whole = Some(event.into());
                    }
                    _ => {}
                }
            }
            if !page.has_more {
                return Ok(whole);
            }
            after = Some(page.cursor);
        }
    }

    /// Waits for a run to end, however it does; calls back at each change of its status.
    pub async fn ended(
        &self,
        id: &RunId,
        deadline: Duration,
        mut on_change: impl FnMut(RunStatus),
    ) -> Result<Run> {
        let mut wait = Wait::new(deadline);
        let mut last = None;
        loop {
            let seen = match self.run(id).await {
                Ok(run) => {
                    if last.replace(run.status) != Some(run.status) {
                        on_change(run.status);
                    }
                    if run.status.is_final() {
                        return Ok(run);
                    }
                    format!("its status is {}", run.status)
                }
                Err(error) if error.is_passing() => error.brief(),
                Err(error) => return Err(error),
            };
            wait.pause(|| format!("the run `{id}` to end"), seen).await?;
        }
    }

    /// Waits for a run to succeed; calls back at each change of its status. A connection that
    /// breaks meanwhile is tried again until the deadline.
    pub async fn wait_for_run(
        &self,
        id: &RunId,
        deadline: Duration,
        on_change: impl FnMut(RunStatus),
    ) -> Result<Run> {
        let run = self.ended(id, deadline, on_change).await?;
        if run.status == RunStatus::Success {
            return Ok(run);
        }
        let failure = self.failure(id).await?;
        let detail = failure.as_ref().map(|it| match &it.step {
            Some(step) => format!(", in the step `{step}`"),
            None if it.error.is_some() || it.message.is_empty() => String::new(),
            None => format!(": {}", it.message),
        });
        Err(Error::RunFailed {
            run: run.id,
            job: run.job,
            status: run.status,
            detail: detail.unwrap_or_default(),
            source: failure.and_then(|it| it.error).map(Box::new),
        })
    }

    /// Starts a run of a job. While the location is being replaced Dagster fails to, so this
    /// tries again until the deadline; a job that the served code does not have fails at once.
    pub async fn launch(
        &self,
        location: &str,
        job: &str,
        tags: &BTreeMap<String, String>,
        run_config: Option<&Value>,
        deadline: Duration,
    ) -> Result<RunId> {
        let mut wait = Wait::new(deadline);
        loop {
            let error = match self.code(location).await {
                Ok(code) => match self.launch_from(&code, location, job, tags, run_config).await {
                    // The run may have been made: a second one would not be asked for.
                    Err(error @ Error::Unreachable { .. }) => return Err(error),
                    Err(error) if error.is_passing() => error,
                    done => return done,
                },
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            wait.pause(|| format!("Dagster to start the job `{job}`"), error.brief()).await?;
        }
    }

    async fn launch_from(
        &self,
        code: &Code,
        location: &str,
        job: &str,
        tags: &BTreeMap<String, String>,
        run_config: Option<&Value>,
    ) -> Result<RunId> {
        let tags: Vec<Value> =
            tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let params = json!({
            "selector": {
                "repositoryLocationName": location,
                "repositoryName": code.repository,
                "jobName": job,
            },
            "runConfigData": run_config.cloned().unwrap_or_else(|| json!({})),
            "executionMetadata": {"tags": tags},
        });
        let variables = json!({"params": params});
        match self.union(&queries::LAUNCH, variables, "/launchRun", "LaunchRunSuccess").await {
            Ok(answer) => take(&queries::LAUNCH, answer, "/run/runId"),
            Err(error) => Err(self.explain(error, location, job, code).await),
        }
    }

    /// Asks how a job would be run, and runs nothing. Unlike the rest, which the webserver
    /// answers from memory, this needs the code server.
    pub async fn execution_plan(
        &self,
        location: &str,
        job: &str,
        run_config: Option<&Value>,
    ) -> Result<()> {
        let code = self.code(location).await?;
        let variables = json!({
            "pipeline": {
                "repositoryLocationName": location,
                "repositoryName": code.repository,
                "pipelineName": job,
            },
            "config": run_config.cloned().unwrap_or_else(|| json!({})),
        });
        match self.union(&queries::PLAN, variables, "/executionPlanOrError", "ExecutionPlan").await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, location, job, &code).await),
        }
    }

    /// Stops a run. Dagster answers before the run has ended: wait for its status.
    pub async fn terminate(&self, id: &RunId) -> Result<()> {
        self.terminate_by(id, "SAFE_TERMINATE").await
    }

    /// Writes down that a run was canceled, whether or not something works on it still: for a run
    /// whose process is known to be gone.
    pub async fn mark_canceled(&self, id: &RunId) -> Result<()> {
        self.terminate_by(id, "MARK_AS_CANCELED_IMMEDIATELY").await
    }

    async fn terminate_by(&self, id: &RunId, policy: &str) -> Result<()> {
        let variables = json!({"id": id, "policy": policy});
        self.union(&queries::TERMINATE, variables, "/terminateRun", "TerminateRunSuccess").await?;
        Ok(())
    }

    /// Dagster says of a job both that it does not exist and that its location is just away with
    /// the same words.
    async fn explain(&self, error: Error, location: &str, job: &str, before: &Code) -> Error {
        let Error::Refused { query, kind, message } = error else { return error };
        match kind.as_str() {
            "PipelineNotFoundError" => match self.code(location).await {
                Err(error) => error,
                // It changed under our feet: that passes.
                Ok(after) if after != *before => {
                    Error::NotServed { location: location.to_owned(), source: None }
                }
                Ok(_) => match self.definitions(location).await {
                    Err(error) => error,
                    Ok(definitions) => Error::NoJob {
                        location: location.to_owned(),
                        job: job.to_owned(),
                        known: list(&definitions.jobs),
                    },
                },
            },
            "RunConfigValidationInvalid" => {
                Error::RunConfig { job: job.to_owned(), problems: message }
            }
            _ => Error::Refused { query, kind, message },
        }
    }

    /// Asks for a union, of which one member means success.
    async fn union(
        &self,
        query: &Query,
        variables: Value,
        at: &str,
        success: &str,
    ) -> Result<Value> {
        member(query, self.ask(query, variables, at).await?, success)
    }

    /// Asks, and takes what stands at a place of the answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        query: &Query,
        variables: Value,
        at: &str,
    ) -> Result<T> {
        let url = format!("{}/graphql", self.base);
        let mut text = query.text.to_owned();
        if text.contains("...Error") {
            text.push_str(queries::ERROR);
        }
        let body = json!({"query": text, "operationName": query.name, "variables": variables});
        let unreachable = |source| Error::Unreachable { url: url.clone(), source };
        let answer = self.http.post(&url).json(&body).send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unreachable)?;

        // Status 500 comes with an answer too when Dagster met an exception.
        let Ok(mut answer) = serde_json::from_str::<Value>(&body) else {
            let body = body.trim().chars().take(300).collect();
            return Err(Error::Http { query: query.name, status: status.as_u16(), body });
        };
        if let Some(message) = answer.pointer("/errors/0/message").and_then(Value::as_str) {
            return Err(Error::GraphQl { query: query.name, message: message.to_owned() });
        }
        take(query, answer["data"].take(), at)
    }
}

/// Where an answer has the daemon's threads.
const DAEMONS: &str = "/instance/daemonHealth/allDaemonStatuses";

/// A location of a workspace.
fn location(query: &Query, workspace: Value, name: &str) -> Result<Location> {
    let workspace: answer::Workspace = parse(query, workspace)?;
    let entry = workspace.location_entries.into_iter().find(|it| it.name == name);
    let state = match entry.map(|it| it.location_or_load_error) {
        None => LocationState::Missing,
        Some(None) => LocationState::Loading,
        Some(Some(answer::LocationOrLoadError::PythonError(error))) => {
            LocationState::Failed { error }
        }
        Some(Some(answer::LocationOrLoadError::RepositoryLocation(it))) => {
            LocationState::Loaded(it.into())
        }
    };
    Ok(Location { name: name.to_owned(), state })
}

/// The member of a union that means success.
fn member(query: &Query, answer: Value, success: &str) -> Result<Value> {
    let kind = answer["__typename"].as_str().unwrap_or_default().to_owned();
    if kind == success {
        return Ok(answer);
    }
    if kind == "PythonError" {
        return Err(Error::Python { query: query.name, source: Box::new(parse(query, answer)?) });
    }
    let message = match (answer["message"].as_str(), answer["errors"].as_array()) {
        (Some(message), _) => message.to_owned(),
        (None, Some(errors)) => {
            let errors: Vec<_> = errors.iter().filter_map(|it| it["message"].as_str()).collect();
            errors.join("; ")
        }
        (None, None) => kind.clone(),
    };
    Err(Error::Refused { query: query.name, kind, message })
}

fn take<T: DeserializeOwned>(query: &Query, mut answer: Value, at: &str) -> Result<T> {
    parse(query, answer.pointer_mut(at).map(Value::take).unwrap_or_default())
}

fn parse<T: DeserializeOwned>(query: &Query, answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|source| Error::Answer { query: query.name, source })
}

/// The tag by which `DefaultRunLauncher` remembers a code server.
fn address(host: &str, port: u16) -> Value {
    // Written as Python's `json.dumps` does.
    let address = format!("{{\"host\": {}, \"port\": {port}}}", Value::from(host));
    json!({"key": ".dagster/grpc_info", "value": address})
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
}

/// A deadline, and the pauses until then.
pub(crate) struct Wait {
    limit: Duration,
    end: Instant,
    pause: Duration,
}

impl Wait {
    pub(crate) fn new(limit: Duration) -> Wait {
        Wait { limit, end: Instant::now() + limit, pause: POLL.0 }
    }

    /// Pauses, or fails when there is no time left.
    pub(crate) async fn pause(
        &mut self,
        what: impl FnOnce() -> String,
        last: String,
    ) -> Result<()> {
        if Instant::now() >= self.end {
            return Err(Error::TimedOut { what: what(), seconds: self.limit.as_secs(), last });
        }
        sleep(self.pause).await;
        self.pause = POLL.1.min(self.pause + POLL.0);
        Ok(())
    }
}

/// The answers' shapes where they differ from the model's.
mod answer {
    use super::{Code, Definitions, Deserialize, Failure, Key, PythonError, Schedule, Sensor, Tag};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Workspace {
        pub(super) location_entries: Vec<Entry>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Entry {
        pub(super) name: String,
        pub(super) location_or_load_error: Option<LocationOrLoadError>,
    }

    #[derive(Deserialize)]
    #[serde(tag = "__typename")]
    pub(super) enum LocationOrLoadError {
        RepositoryLocation(RepositoryLocation),
        PythonError(PythonError),
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct RepositoryLocation {
        server_id: Option<String>,
        dagster_library_versions: Option<Vec<Library>>,
        repositories: Vec<Named>,
    }

    #[derive(Deserialize)]
    struct Library {
        name: String,
        version: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        name: String,
        display_metadata: Vec<Tag>,
    }

    impl From<RepositoryLocation> for Code {
        fn from(it: RepositoryLocation) -> Code {
            let first = it.repositories.first();
            let metadata = |key| {
                let found = first?.display_metadata.iter().find(|it| it.key == key)?;
                Some(found.value.clone())
            };
            Code {
                server_id: it.server_id,
                image: metadata("image"),
                host: metadata("host"),
                repository: first.map(|it| it.name.clone()).unwrap_or_default(),
                libraries: it
                    .dagster_library_versions
                    .unwrap_or_default()
                    .into_iter()
                    .map(|it| (it.name, it.version))
                    .collect(),
            }
        }
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Repository {
        jobs: Vec<Name>,
        asset_nodes: Vec<AssetNode>,
        schedules: Vec<ScheduleAnswer>,
        sensors: Vec<SensorAnswer>,
    }

    #[derive(Deserialize)]
    struct Name {
        name: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct AssetNode {
        asset_key: Key,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ScheduleAnswer {
        name: String,
        cron_schedule: String,
        execution_timezone: Option<String>,
        pipeline_name: String,
        default_status: Switch,
        schedule_state: State,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct SensorAnswer {
        name: String,
        min_interval_seconds: u64,
        targets: Option<Vec<Target>>,
        default_status: Switch,
        sensor_state: State,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Target {
        pipeline_name: String,
    }

    #[derive(Deserialize)]
    struct State {
        status: Switch,
    }

    #[derive(Deserialize, PartialEq)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    enum Switch {
        Running,
        Stopped,
    }

    impl Switch {
        fn on(&self) -> bool {
            *self == Switch::Running
        }
    }

    impl From<Repository> for Definitions {
        fn from(it: Repository) -> Definitions {
            let jobs = it.jobs.into_iter().map(|it| it.name);
            Definitions {
                // Dagster's own name for "some assets".
                jobs: jobs.filter(|it| !it.starts_with("__")).collect(),
                assets: it.asset_nodes.into_iter().map(|it| it.asset_key.path.join("/")).collect(),
                schedules: it.schedules.into_iter().map(ScheduleAnswer::named).collect(),
                sensors: it.sensors.into_iter().map(SensorAnswer::named).collect(),
            }
        }
    }

    impl ScheduleAnswer {
        fn named(self) -> (String, Schedule) {
            let schedule = Schedule {
                cron: self.cron_schedule,
                timezone: self.execution_timezone,
                job: self.pipeline_name,
                on_by_default: self.default_status.on(),
                on: self.schedule_state.status.on(),
            };
            (self.name, schedule)
        }
    }

    impl SensorAnswer {
        fn named(self) -> (String, Sensor) {
            let targets = self.targets.unwrap_or_default().into_iter();
            let sensor = Sensor {
                interval: self.min_interval_seconds,
                jobs: targets.map(|it| it.pipeline_name).collect(),
                on_by_default: self.default_status.on(),
                on: self.sensor_state.status.on(),
            };
            (self.name, sensor)
        }
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Events {
        pub(super) event_connection: EventConnection,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct EventConnection {
        pub(super) cursor: String,
        pub(super) has_more: bool,
        pub(super) events: Vec<Event>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Event {
        #[serde(rename = "__typename")]
        pub(super) typename: String,
        #[serde(default)]
        message: String,
        step_key: Option<String>,
        pub(super) error: Option<PythonError>,
    }

    impl From<Event> for Failure {
        fn from(it: Event) -> Failure {
            Failure { step: it.step_key, message: it.message, error: it.error }
        }
    }
}
