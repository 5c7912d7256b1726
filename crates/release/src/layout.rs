//! Where things are on the host, and what they are called there.

use crate::{Location, ReleaseId};

/// The folders of one environment below its directory on the host, and its names in the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The environment, e.g. `prod`.
    pub environment: String,
    /// The code location at hand.
    pub location: Location,
    /// Its directory on the host, absolute.
    pub dir: String,
}

impl Layout {
    /// The file whose lock a deploy holds.
    pub fn lock(&self) -> String {
        format!("{}/lock", self.dir)
    }

    /// The folder that webserver and daemon see: it holds `workspace.yaml`, the switch.
    pub fn workspace(&self) -> String {
        format!("{}/workspace", self.dir)
    }

    /// The folder of the platform's Compose project.
    pub fn platform(&self) -> String {
        format!("{}/platform", self.dir)
    }

    /// The folder of all releases, of every location.
    pub fn releases(&self) -> String {
        format!("{}/releases", self.dir)
    }

    /// The folder of one release.
    pub fn release(&self, id: &ReleaseId) -> String {
        format!("{}/releases/{id}", self.dir)
    }

    /// The folder of the dumps that are made before something irrevocable.
    pub fn backups(&self) -> String {
        format!("{}/backups", self.dir)
    }

    /// The Compose project of Postgres, webserver and daemon; also the name of their network.
    pub fn platform_project(&self) -> String {
        format!("dagster-{}", self.environment)
    }

    /// The Compose project of one release's code server.
    pub fn core_project(&self, id: &ReleaseId) -> String {
        format!("dagster-{}-core-{id}", self.environment)
    }

    /// The container of one release's code server: also its host name, by which it is reached.
    pub fn core_container(&self, id: &ReleaseId) -> String {
        self.location.container(id)
    }
}
