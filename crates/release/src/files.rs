//! The files a release is made of, as text.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use settings::{Deploy, Settings};
use sha2::{Digest as _, Sha256};

use crate::{CANDIDATE, CORE_PORT, CORE_SERVICE, Location, MadeOf, ReleaseId};

/// A SHA-256 over content, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of several parts; moving a byte from one part to the next changes it.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Fingerprint(format!("{:x}", hash.finalize()))
    }

    /// Its first twelve digits, enough for an image's tag.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything a deploy is made from. Equal inputs make the same platform, so nothing is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The team's code, its locked dependencies and how its image is built.
    pub core: Fingerprint,
    /// The code server's Compose file and environment.
    pub core_settings: Fingerprint,
    /// The image of webserver and daemon.
    pub platform: Fingerprint,
    /// The platform's Compose file, `dagster.yaml`, environment and Postgres image.
    pub platform_settings: Fingerprint,
}

/// The Compose files and `dagster.yaml` that a release is made of, without what is filled in.
#[derive(Debug, Clone)]
pub struct ComposeFiles {
    /// `core.yaml`.
    pub core: String,
    /// `platform.yaml`.
    pub platform: String,
    /// `dagster.yaml`.
    pub dagster: String,
}

impl ComposeFiles {
    /// Of all that decides how the code server is run.
    pub fn core_settings(&self, settings: &Settings) -> Fingerprint {
        let parts = [&self.core, &core_environment(settings), &settings.deploy.core_memory];
        Fingerprint::of(parts.map(String::as_bytes))
    }

    /// Of all that decides how the platform is run; its environment is the Compose override.
    pub fn platform_settings(&self, environment: &str, deploy: &Deploy) -> Fingerprint {
        let ui_port = deploy.ui_port.to_string();
        let parts = [
            &self.platform,
            &self.dagster,
            environment,
            &deploy.postgres_image,
            &ui_port,
            &deploy.postgres_memory,
            &deploy.webserver_memory,
            &deploy.daemon_memory,
        ];
        Fingerprint::of(parts.map(str::as_bytes))
    }

    /// What a release of them is made of, to be compared with another.
    pub fn made_of(&self, id: &ReleaseId, settings: &Settings) -> MadeOf {
        let files = [
            ("compose/core.yaml", self.core.as_str()),
            ("compose/platform.yaml", &self.platform),
            ("compose/dagster.yaml", &self.dagster),
        ];
        MadeOf::new(id, settings, &files)
    }

    /// The files of a release's folder that come from them and the settings, by name.
    pub fn of_release(
        &self,
        id: &ReleaseId,
        settings: &Settings,
        platform_environment: String,
    ) -> Vec<(&'static str, String)> {
        let made_of = serde_json::to_string(&self.made_of(id, settings))
            .expect("settings and fingerprints are plain data");
        vec![
            ("core.yaml", self.core.clone()),
            ("platform.yaml", self.platform.clone()),
            ("dagster.yaml", self.dagster.clone()),
            ("core.env.json", core_environment(settings)),
            ("platform.env.json", platform_environment),
            ("made-of.json", made_of),
        ]
    }
}

/// The Compose override that gives the code server its environment: every setting of containers.
///
/// JSON is YAML that every Compose reads alike, so no value is ever quoted, expanded or cut by an
/// `.env` parser on the host. It holds secrets.
pub fn core_environment(settings: &Settings) -> String {
    override_of(settings, &[CORE_SERVICE], |_| true)
}

/// The Compose override of the platform's services: they see the database's settings only.
pub fn platform_environment(settings: &Settings) -> String {
    override_of(settings, &["dagster-postgres", "dagster-webserver", "dagster-daemon"], |key| {
        key.starts_with("POSTGRES_")
    })
}

fn override_of(settings: &Settings, services: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    // Compose expands `$` in every file it reads; doubled, it is a plain `$`.
    let environment: BTreeMap<&str, String> = settings
        .containers
        .iter()
        .filter(|(key, _)| wanted(key))
        .map(|(key, value)| (key.as_str(), value.expose().replace('$', "$$")))
        .collect();
    let services: Map<_, _> = services
        .iter()
        .map(|service| ((*service).to_owned(), json!({ "environment": environment })))
        .collect();
    json!({ "services": services }).to_string()
}

/// The environment that a Compose override gives its services; none if it is not understood.
pub(crate) fn environment_of(text: &str) -> Option<BTreeMap<String, String>> {
    let all: Value = serde_json::from_str(text).ok()?;
    let service = all["services"].as_object()?.values().next()?;
    let plain =
        |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.replace("$$", "$")));
    service["environment"].as_object()?.iter().map(plain).collect()
}

/// A Compose override with another value of a key, where it has that key.
pub(crate) fn with_value(text: &str, key: &str, value: &str) -> String {
    let mut all: Value = serde_json::from_str(text).unwrap_or_default();
    let services = all["services"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for old in services.filter_map(|it| it["environment"].get_mut(key)) {
        *old = value.replace('$', "$$").into();
    }
    all.to_string()
}

/// `workspace.yaml`, the switch: it names the one code server of each location that webserver and
/// daemon ask.
pub fn workspace_yaml(serving: &BTreeMap<Location, ReleaseId>) -> String {
    let servers = serving.iter();
    code_servers(servers.map(|(location, id)| (location.container(id), location.to_string())))
}

/// `candidate.yaml`: a code server that the webserver alone looks at, before the switch.
pub fn candidate_yaml(container: Option<&str>) -> String {
    code_servers(container.into_iter().map(|it| (it.to_owned(), CANDIDATE.to_owned())))
}

fn code_servers(servers: impl Iterator<Item = (String, String)>) -> String {
    let mut text = "load_from:".to_owned();
    for (host, name) in servers {
        text += &format!(
            "\n  - grpc_server:\n      host: {host}\n      port: {CORE_PORT}\n      location_name: {name}"
        );
    }
    if !text.contains('\n') {
        text += " []";
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_knows_where_one_part_ends() {
        let of = |parts: &[&str]| Fingerprint::of(parts.iter().map(|it| it.as_bytes()));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&[]).short(), "e3b0c44298fc");
    }

    #[test]
    fn the_workspace_names_the_live_release_of_each_location() {
        let release = |id: &str| id.parse::<ReleaseId>().unwrap();
        let serving = BTreeMap::from([
            (Location::default(), release("20261123-142233-abc1234")),
            ("reports".parse().unwrap(), release("20261123-152233-abc1234")),
        ]);
        expect_test::expect![[r"
            load_from:
              - grpc_server:
                  host: docker_dagster_core-20261123-142233-abc1234
                  port: 4000
                  location_name: dagster_core
              - grpc_server:
                  host: docker_reports-20261123-152233-abc1234
                  port: 4000
                  location_name: reports
        "]]
        .assert_eq(&workspace_yaml(&serving));
        assert_eq!(workspace_yaml(&BTreeMap::new()), "load_from: []\n");
    }
}
