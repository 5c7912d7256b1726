//! A developer's own platform on this machine, one for each checkout: in containers, or where there
//! is no engine as processes.

mod place;

mod watch;

mod containers;

mod processes;

use std::collections::BTreeMap;

use release::Location;
use serde_json::{Value, json};
use settings::Settings;

pub(crate) use self::{
    containers::Containers,
    place::{Held, Place},
    processes::{Processes, has_postgres},
    watch::Watch,
};
use crate::{environment::Here, exit::Result};

/// The environment that lives here.
pub(crate) const ENVIRONMENT: &str = "dev";

/// What platform shall stand.
pub(crate) struct Wanted<'a> {
    pub(crate) here: &'a Here,
    pub(crate) place: &'a Place,
    pub(crate) settings: &'a Settings,
    pub(crate) location: &'a Location,
    /// Of the UI; none, if that of the settings will do.
    pub(crate) port: Option<u16>,
}

/// A platform that was started.
pub(crate) enum Platform {
    Containers(Containers),
    Processes(Box<Processes>),
}

impl Platform {
    /// Where the UI is.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Platform::Containers(it) => it.port,
            Platform::Processes(it) => it.port,
        }
    }

    /// Whether it stood already, with whatever it was doing.
    pub(crate) fn stood(&self) -> bool {
        match self {
            Platform::Containers(it) => it.stood,
            Platform::Processes(_) => false,
        }
    }

    /// The services that have ended, though nobody told them to.
    pub(crate) fn ended(&self) -> Result<Vec<String>> {
        match self {
            Platform::Containers(it) => it.ended(),
            Platform::Processes(it) => Ok(it.ended()),
        }
    }

    /// What a service said last.
    pub(crate) fn said(&self, service: &str) -> String {
        match self {
            Platform::Containers(it) => it.said(service),
            Platform::Processes(it) => it.said(service),
        }
    }

    /// Ends it; its data stay.
    pub(crate) fn stop(self) -> Result {
        match self {
            Platform::Containers(it) => it.remove(false).map(drop),
            Platform::Processes(it) => it.stop(),
        }
    }
}

/// What settings are made up of for this checkout, by key.
pub(crate) fn facts(place: &Place) -> Result<BTreeMap<String, String>> {
    let facts = [("WAREHOUSE_DB", place.warehouse()), ("POSTGRES_PASSWORD", place.password()?)];
    Ok(facts.map(|(key, value)| (key.to_owned(), value)).into())
}

/// `workspace.yaml` with one code server. JSON is YAML.
fn workspace_yaml(mut address: Value, location: &Location) -> String {
    address["location_name"] = location.as_str().into();
    json!({"load_from": [{"grpc_server": address}]}).to_string() + "\n"
}
