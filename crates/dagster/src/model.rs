//! What Dagster says, as plain values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::PythonError;

/// A code location, as the webserver has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Location {
    /// Its name in `workspace.yaml`.
    pub name: String,
    /// Whether its code is served.
    #[serde(flatten)]
    pub state: LocationState,
}

/// Whether a location's code is served.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LocationState {
    /// The definitions are there.
    Loaded(Code),
    /// The webserver is fetching them.
    Loading,
    /// They could not be had.
    Failed {
        /// Why.
        error: PythonError,
    },
    /// `workspace.yaml` names no such location.
    Missing,
}

/// The code behind a loaded location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Code {
    /// The code server's own id, new at each start.
    pub server_id: Option<String>,
    /// The image the code server says it is made of.
    pub image: Option<String>,
    /// The host the webserver reaches it at.
    pub host: Option<String>,
    /// The name of the (first) repository; a `Definitions` object makes exactly one.
    pub repository: String,
    /// The versions of Dagster's libraries in the code server.
    pub libraries: BTreeMap<String, String>,
}

impl Location {
    /// The code, if it is served.
    pub fn code(&self) -> Option<&Code> {
        match &self.state {
            LocationState::Loaded(code) => Some(code),
            _ => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ", self.name)?;
        match &self.state {
            LocationState::Loading => f.write_str("is loading"),
            LocationState::Missing => f.write_str("is not in the workspace"),
            LocationState::Failed { error } => write!(f, "failed to load: {}", error.summary()),
            LocationState::Loaded(code) => {
                f.write_str("is served")?;
                if let Some(version) = code.libraries.get("dagster") {
                    write!(f, " with Dagster {version}")?;
                }
                if let Some(host) = &code.host {
                    write!(f, " by {host}")?;
                }
                Ok(())
            }
        }
    }
}

/// One of the daemon's threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Daemon {
    /// Its name: `SCHEDULER`, `SENSOR`, …
    #[serde(rename(deserialize = "daemonType"))]
    pub kind: String,
    /// Whether this instance needs it.
    pub required: bool,
    /// Dagster's own opinion, which tolerates half an hour of silence.
    pub healthy: Option<bool>,
    /// When it last reported, in seconds since 1970.
    #[serde(rename(deserialize = "lastHeartbeatTime"))]
    pub last_heartbeat: Option<f64>,
    /// What went wrong in it in the last five minutes.
    #[serde(rename(deserialize = "lastHeartbeatErrors"))]
    pub errors: Vec<PythonError>,
}

/// What a location defines, in the order of the names, for comparing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Definitions {
    /// The names of the jobs that have one.
    pub jobs: BTreeSet<String>,
    /// The assets' keys, with `/` between the parts.
    pub assets: BTreeSet<String>,
    /// The schedules by name.
    pub schedules: BTreeMap<String, Schedule>,
    /// The sensors by name.
    pub sensors: BTreeMap<String, Sensor>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The cron string.
    pub cron: String,
    /// The time zone it is meant in.
    pub timezone: Option<String>,
    /// The job it starts.
    pub job: String,
    /// Whether the code wants it on.
    pub on_by_default: bool,
    /// Whether it is on; code alone does not tell.
    #[serde(default)]
    pub on: bool,
}

/// A sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sensor {
    /// The least number of seconds between two looks.
    pub interval: u64,
    /// The jobs it starts.
    pub jobs: BTreeSet<String>,
    /// Whether the code wants it on.
    pub on_by_default: bool,
    /// Whether it is on; code alone does not tell.
    #[serde(default)]
    pub on: bool,
}

/// The id of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// The id, as Dagster writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RunId {
    fn from(id: &str) -> RunId {
        RunId(id.to_owned())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Run {
    /// Its id.
    #[serde(rename(deserialize = "runId"))]
    pub id: RunId,
    /// The job's name.
    #[serde(rename(deserialize = "jobName"))]
    pub job: String,
    /// How far it is.
    pub status: RunStatus,
    /// When it was asked for, in seconds since 1970.
    #[serde(rename(deserialize = "creationTime"))]
    pub created: f64,
    /// When its process began, in seconds since 1970.
    #[serde(rename(deserialize = "startTime"))]
    pub started: Option<f64>,
    /// When it ended, in seconds since 1970.
    #[serde(rename(deserialize = "endTime"))]
    pub ended: Option<f64>,
    /// The assets it makes, if it makes some of many; with `/` between a key's parts.
    #[serde(rename(deserialize = "assetSelection"), default, deserialize_with = "keys")]
    pub assets: Vec<String>,
    /// Its tags, without those that Dagster hides.
    #[serde(deserialize_with = "tags")]
    pub tags: BTreeMap<String, String>,
}

fn tags<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Vec::<Tag>::deserialize(from)?.into_iter().map(|it| (it.key, it.value)).collect())
}

fn keys<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let keys = Option::<Vec<Key>>::deserialize(from)?.unwrap_or_default();
    Ok(keys.into_iter().map(|it| it.path.join("/")).collect())
}

#[derive(Deserialize)]
pub(crate) struct Key {
    pub(crate) path: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "Dagster's own words")]
pub enum RunStatus {
    Queued,
    NotStarted,
    Managed,
    Starting,
    Started,
    Suspended,
    Success,
    Failure,
    Canceling,
    Canceled,
}

impl RunStatus {
    /// What a deploy must not disturb: runs that wait or work.
    pub const IN_FLIGHT: &[RunStatus] = &[
        RunStatus::Queued,
        RunStatus::NotStarted,
        RunStatus::Starting,
        RunStatus::Started,
        RunStatus::Canceling,
    ];

    /// Whether the run waits for its turn: no process works on it yet.
    pub fn waits(self) -> bool {
        matches!(self, RunStatus::Queued | RunStatus::NotStarted)
    }

    /// Whether the run is over.
    pub fn is_final(self) -> bool {
        matches!(self, RunStatus::Success | RunStatus::Failure | RunStatus::Canceled)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunStatus::Queued => "QUEUED",
            RunStatus::NotStarted => "NOT_STARTED",
            RunStatus::Managed => "MANAGED",
            RunStatus::Starting => "STARTING",
            RunStatus::Started => "STARTED",
            RunStatus::Suspended => "SUSPENDED",
            RunStatus::Success => "SUCCESS",
            RunStatus::Failure => "FAILURE",
            RunStatus::Canceling => "CANCELING",
            RunStatus::Canceled => "CANCELED",
        })
    }
}

/// Why a run failed: its first failed step, or what ended it as a whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// The step, if one failed.
    pub step: Option<String>,
    /// Dagster's sentence.
    pub message: String,
    /// The exception.
    pub error: Option<PythonError>,
}
