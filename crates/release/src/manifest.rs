//! What is written down about a release, beside its files on the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ImageRef, Inputs, Location, Migration, Promoted, ReleaseId};

/// `manifest.json` of a release. It holds no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The release.
    pub id: ReleaseId,
    /// The environment it was made for.
    pub environment: String,
    /// The code location it is a release of.
    #[serde(default)]
    pub location: Location,
    /// How far it came.
    pub outcome: Outcome,
    /// The last commit that touched what the images are made from.
    pub git_sha: String,
    /// Its subject line.
    pub git_subject: String,
    /// Whether there were changes that no commit holds.
    pub dirty: bool,
    /// Who deployed, from where: `ana@laptop`.
    pub by: String,
    /// When it began, RFC 3339, UTC.
    pub at: String,
    /// What it was promoted from; nothing, if it was made from a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Promoted>,
    /// The code's image, by digest.
    pub core_image: ImageRef,
    /// The image of webserver and daemon, by digest.
    pub platform_image: ImageRef,
    /// The database's image.
    pub postgres_image: ImageRef,
    /// What it was made from.
    pub inputs: Inputs,
    /// The port of the UI on the host's loopback, which the platform's files hold.
    #[serde(default)]
    pub ui_port: Option<u16>,
    /// The revision of Dagster's tables in the database when it was verified. An older Dagster may
    /// not understand a newer one.
    #[serde(default)]
    pub schema: Option<String>,
    /// The migrations that the warehouse had when it was verified; none, if that was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<Vec<Migration>>,
    /// Where secrets are kept that are kept elsewhere, by key; with the version that was read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Versions of the Dagster libraries, as the code server reports them.
    #[serde(default)]
    pub dagster: BTreeMap<String, String>,
    /// The version of Dagster in webserver and daemon.
    #[serde(default)]
    pub hosts: Option<String>,
    /// How long each phase took.
    #[serde(default)]
    pub phases: Vec<Phase>,
}

/// How far a release came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its files are on the host; it was never seen to serve.
    Pending,
    /// It was verified as what is served.
    Deployed,
}

/// One phase of a deploy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}
