//! What was found on the host.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Layout, Location, MadeOf, Manifest, Outcome, ReleaseId};

/// The Compose of the host. Only flags that 1.29 and its successors share are used, since 1.29
/// exits 0 on a flag it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    /// `docker compose` or `docker-compose`.
    pub command: String,
    /// Its version.
    pub version: String,
}

/// One container of a release's code server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreContainer {
    /// The release it serves.
    pub release: ReleaseId,
    /// Its id.
    pub id: String,
    /// `running`, `exited`, `restarting`, …
    pub state: String,
    /// The engine's own words: `Up 3 minutes (healthy)`.
    pub status: String,
    /// Whether it was told to finish its runs and stop: it takes no new ones.
    pub retired: bool,
}

impl CoreContainer {
    /// Whether it takes runs, so that it can be switched to.
    pub fn is_warm(&self) -> bool {
        self.state == "running" && !self.retired
    }
}

/// One container of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformContainer {
    /// `dagster-postgres`, `dagster-webserver` or `dagster-daemon`.
    pub service: String,
    /// Its id.
    pub id: String,
    /// `running`, `exited`, `restarting`, …
    pub state: String,
    /// The engine's own words: `Up 3 minutes (healthy)`.
    pub status: String,
}

/// The state of one code location, and of the platform under it, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Where its things are.
    pub layout: Layout,
    /// The host's clock, in seconds since 1970.
    pub now: u64,
    /// What the host needs and has not: a program, `engine`, `permission` (to use the engine) or
    /// `compose`.
    pub lacks: Vec<String>,
    /// Its Compose.
    pub compose: Compose,
    /// The architecture of its processors, as images call it: `amd64`.
    pub architecture: String,
    /// Free space where the engine keeps its images, in bytes.
    pub disk_free: u64,
    /// The releases that `workspace.yaml` names, of every location: what is served.
    pub serving: BTreeMap<Location, ReleaseId>,
    /// That of the location at hand.
    pub live: Option<ReleaseId>,
    /// What is written down of each release of the location, oldest first.
    pub manifests: Vec<Manifest>,
    /// The same of the other locations.
    pub others: Vec<Manifest>,
    /// What is written down of the release whose platform files stand. Nothing when a change of
    /// the platform was cut off.
    pub platform_of: Option<Manifest>,
    /// What the live release is made of, if it tells.
    pub made_of: Option<MadeOf>,
    /// What the release is made of whose platform files stand, if it tells.
    pub platform_made_of: Option<MadeOf>,
    /// The releases with another password of the database than the platform has.
    pub other_password: BTreeSet<ReleaseId>,
    /// Folders that are no release, or not a whole one: a cut-off upload.
    pub torn: Vec<String>,
    /// The location's code servers.
    pub cores: Vec<CoreContainer>,
    /// Postgres, webserver and daemon, as far as they exist.
    pub platform: Vec<PlatformContainer>,
    /// Whether the loopback port that the UI shall have is free, or ours already.
    pub ui_port_free: bool,
}

/// An answer of the host that was not understood.
#[derive(Debug, thiserror::Error)]
#[error("the host's answer was not understood at: {line}")]
pub struct ParseObservedError {
    /// The line.
    pub line: String,
}

impl Observed {
    /// Reads the answer of `observe.sh`: one fact a line, a word and its value.
    pub fn parse(
        environment: &str,
        location: &Location,
        answer: &str,
    ) -> Result<Observed, ParseObservedError> {
        let mut observed = Observed {
            layout: Layout {
                environment: environment.to_owned(),
                location: location.clone(),
                dir: String::new(),
            },
            now: 0,
            lacks: Vec::new(),
            compose: Compose { command: String::new(), version: String::new() },
            architecture: String::new(),
            disk_free: 0,
            serving: BTreeMap::new(),
            live: None,
            manifests: Vec::new(),
            others: Vec::new(),
            platform_of: None,
            made_of: None,
            platform_made_of: None,
            other_password: BTreeSet::new(),
            torn: Vec::new(),
            cores: Vec::new(),
            platform: Vec::new(),
            ui_port_free: true,
        };
        for line in answer.lines().filter(|line| !line.is_empty()) {
            observed.fact(line).ok_or_else(|| ParseObservedError { line: line.to_owned() })?;
        }
        observed.manifests.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(observed)
    }

    fn fact(&mut self, line: &str) -> Option<()> {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "dir" => value.clone_into(&mut self.layout.dir),
            "now" => self.now = value.parse().ok()?,
            "lack" => self.lacks.push(value.to_owned()),
            "compose" => {
                let (command, version) = value.rsplit_once(' ')?;
                self.compose = Compose { command: command.into(), version: version.into() };
            }
            "architecture" => architecture(value).clone_into(&mut self.architecture),
            "disk_free_kib" => self.disk_free = value.parse::<u64>().ok()? * 1024,
            "live" => {
                if let Some((location, release)) = Location::of_container(value) {
                    if location == self.layout.location {
                        self.live = Some(release.clone());
                    }
                    self.serving.insert(location, release);
                }
            }
            "platform_of" => self.platform_of = serde_json::from_str(value).ok(),
            "made_of" => {
                let (release, json) = value.split_once(' ')?;
                if self.live.as_ref().is_some_and(|it| it.as_str() == release) {
                    self.made_of = serde_json::from_str(json).ok();
                }
            }
            "platform_made_of" => self.platform_made_of = serde_json::from_str(value).ok(),
            "other_password" => {
                // Of a folder that is no release nobody asks.
                self.other_password.extend(value.parse::<ReleaseId>().ok());
            }
            "manifest" => {
                let (dir, json) = value.split_once(' ').unwrap_or((value, ""));
                match serde_json::from_str::<Manifest>(json) {
                    Ok(manifest) if manifest.id.as_str() == dir => {
                        let ours = manifest.location == self.layout.location;
                        if ours { &mut self.manifests } else { &mut self.others }.push(manifest);
                    }
                    // Of a release that another version of this program made: not ours to judge.
                    Err(_) if !json.is_empty() && dir.parse::<ReleaseId>().is_ok() => {}
                    _ => self.torn.push(dir.to_owned()),
                }
            }
            "ui_port_taken" => self.ui_port_free = false,
            "container" => {
                let mut fields = value.splitn(5, '\t').map(str::to_owned);
                let mut next = || fields.next();
                let (name, service, id, state) = (next()?, next()?, next()?, next()?);
                let status = next()?;
                match Location::of_container(&name) {
                    Some((location, release)) if location == self.layout.location => {
                        let retired = false;
                        self.cores.push(CoreContainer { release, id, state, status, retired });
                    }
                    Some(_) => {}
                    None => self.platform.push(PlatformContainer { service, id, state, status }),
                }
            }
            // After the containers.
            "retired" => {
                let of = Location::of_container(value).map(|(_, release)| release);
                for core in self.cores.iter_mut().filter(|it| Some(&it.release) == of.as_ref()) {
                    core.retired = true;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// What is written down of the release that is served.
    pub fn live_manifest(&self) -> Option<&Manifest> {
        let live = self.live.as_ref()?;
        self.manifests.iter().find(|it| &it.id == live)
    }

    /// What serves when the location at hand is switched to `to`; the other locations stay.
    pub fn serving_with(&self, to: Option<&ReleaseId>) -> BTreeMap<Location, ReleaseId> {
        let mut serving = self.serving.clone();
        match to {
            Some(id) => serving.insert(self.layout.location.clone(), id.clone()),
            None => serving.remove(&self.layout.location),
        };
        serving
    }

    /// The warm way back: the release that the last switch left, if its code server still takes
    /// runs. After a rollback that is the newer one.
    pub fn warm(&self) -> Option<&ReleaseId> {
        let was_deployed = |id: &ReleaseId| {
            self.manifests.iter().any(|it| it.id == *id && it.outcome == Outcome::Deployed)
        };
        let warm = self.cores.iter().filter(|it| it.is_warm()).map(|it| &it.release);
        warm.filter(|it| Some(*it) != self.live.as_ref() && was_deployed(it)).max()
    }

    /// The code server of a release.
    pub fn core(&self, id: &ReleaseId) -> Option<&CoreContainer> {
        self.cores.iter().find(|it| &it.release == id)
    }

    /// The port of the UI on the host, as the platform stands. The settings may say another.
    pub fn ui_port(&self) -> Option<u16> {
        self.platform_of.as_ref()?.ui_port
    }

    /// Whether Postgres, webserver and daemon all run.
    pub fn platform_runs(&self) -> bool {
        ["dagster-postgres", "dagster-webserver", "dagster-daemon"].iter().all(|it| self.runs(it))
    }

    /// Whether one of them runs.
    pub(crate) fn runs(&self, service: &str) -> bool {
        self.platform.iter().any(|it| it.service == service && it.state == "running")
    }
}

/// What images call an architecture that the kernel calls otherwise.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_facts_of_a_host_line_by_line() {
        let observed = Observed::parse(
            "prod",
            &Location::default(),
            "dir /home/d/dagster-deploy/prod\n\
             compose docker compose 2.26.1\n\
             architecture aarch64\n\
             disk_free_kib 2048\n\
             live docker_dagster_core-20261101-000000-aaaaaaa\n\
             live docker_reports-20261105-000000-aaaaaaa\n\
             manifest 20261101-000000-aaaaaaa {\"of\":\"tomorrow\"}\n\
             manifest 20261101-000000-aaaaaaa.partial-1 {}\n\
             manifest 20261102-000000-bbbbbbb \n\
             container docker_dagster_core-20261101-000000-aaaaaaa\tdocker_dagster_core\tc1\trunning\tUp 3 minutes\n\
             container docker_reports-20261105-000000-aaaaaaa\tdocker_dagster_core\tc3\trunning\tUp\n\
             container dagster-prod-dagster-daemon-1\tdagster-daemon\tc2\texited\tExited (1)\n\
             retired docker_dagster_core-20261101-000000-aaaaaaa\n\
             other_password 20261101-000000-aaaaaaa\n\
             other_password 20261101-000000-aaaaaaa.partial-1\n\
             ui_port_taken 3000\n",
        )
        .unwrap();
        assert_eq!(
            observed.layout.release(observed.live.as_ref().unwrap()),
            "/home/d/dagster-deploy/prod/releases/20261101-000000-aaaaaaa"
        );
        assert_eq!(observed.compose.command, "docker compose");
        assert_eq!(observed.architecture, "arm64");
        assert_eq!(observed.disk_free, 2 << 20);
        assert_eq!(observed.torn, ["20261101-000000-aaaaaaa.partial-1", "20261102-000000-bbbbbbb"]);
        assert_eq!(observed.cores.len(), 1, "of this location alone");
        assert_eq!(observed.cores[0].state, "running");
        assert!(!observed.cores[0].is_warm());
        assert_eq!(
            observed.serving_with(None).keys().map(Location::as_str).collect::<Vec<_>>(),
            ["reports"]
        );
        assert_eq!(observed.platform[0].service, "dagster-daemon");
        assert_eq!(
            observed.other_password.iter().collect::<Vec<_>>(),
            [&observed.cores[0].release]
        );
        assert!(!observed.ui_port_free && !observed.platform_runs());
    }

    #[test]
    fn an_answer_that_is_not_understood_is_named() {
        let error = Observed::parse("prod", &Location::default(), "dir /d\nBash: out of memory\n")
            .unwrap_err();
        assert_eq!(error.line, "Bash: out of memory");
    }
}
