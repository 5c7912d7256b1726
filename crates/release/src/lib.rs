//! Decides what a deploy does: from what should stand and what was observed, the [`Plan`].
//!
//! It never touches a host, a file or a clock: every policy here is a function on values.

mod age;

mod as_string;

mod image_ref;

mod release_id;

mod location;

mod layout;

mod files;

mod manifest;

mod made_of;

mod definitions;

mod observed;

mod plan;

mod rollback;

mod worker;

mod older_runs;

mod login;

mod rotation;

mod preview;

mod audit;
mod proposal;

mod inspection;

mod archive;
mod history;

mod served;

mod migrations;

mod catalog;

pub use self::{
    age::Age,
    archive::{
        Archive, Database, Dumped, ParseDumpedError, Purpose, Table, differences, exchange,
        inverse, replaced, restored,
    },
    audit::{Ended, Entry, Holder},
    catalog::{Catalog, Comparison, Difference, Object, ParseCatalogError, Side},
    definitions::{Definition, DefinitionChange, Fate, Kind, definitions_changed},
    files::{
        ComposeFiles, Fingerprint, Inputs, candidate_yaml, core_environment, platform_environment,
        workspace_yaml,
    },
    history::{AuditLog, PhaseTimes, Probed, gap},
    image_ref::{Digest, ImageRef, ParseImageRefError},
    inspection::{Inspection, ParseInspectionError, Refusal, refuse_skew},
    layout::Layout,
    location::{Location, ParseLocationError},
    login::{NoLogin, PASSWORD},
    made_of::{MadeOf, SettingChange, Shown},
    manifest::{Manifest, Outcome, Phase},
    migrations::{Alignment, MIGRATIONS, Migration, Misaligned, NoMigration, Standing, names},
    observed::{Compose, CoreContainer, Observed, ParseObservedError, PlatformContainer},
    older_runs::{ParseRunsError, Runs},
    plan::{Change, Plan, Step},
    preview::{Commit, History, LiveRun, Preview},
    proposal::{Outdated, Proposal},
    release_id::{ParseReleaseIdError, ReleaseId},
    rollback::NoRollback,
    rotation::{NoRotation, Rotation, ServedFiles},
    served::{Promoted, Served, Unproven},
    worker::{Server, Worker},
};

/// The code location that always is: the package of the team's code.
pub const LOCATION: &str = "dagster_core";

/// The name under which a new code server is looked at before the switch.
pub const CANDIDATE: &str = "candidate";

/// The service of a code server in its Compose project.
pub const CORE_SERVICE: &str = "docker_dagster_core";

/// The port a code server listens on, inside the environment's network only.
pub const CORE_PORT: u16 = 4000;
