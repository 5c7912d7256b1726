//! The health gate: whether the new code is what the platform serves.

use std::{collections::BTreeMap, time::Duration};

use crate::{Client, Daemon, Error, Location, LocationState, PythonError, Result, client::Wait};

/// What must come true.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// The code location's name.
    pub location: String,
    /// The host at which the webserver must reach its code server: a release with other settings
    /// has the same image.
    pub host: String,
    /// The image its code server must say it is made of.
    pub image: String,
    /// Every required daemon must have reported after this, in seconds since 1970 by the clock of
    /// the platform's machine.
    pub since: f64,
    /// How long to wait for it.
    pub deadline: Duration,
}

/// What serves, once the gate is passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The code server's id.
    pub server_id: Option<String>,
    /// The versions of Dagster's libraries in it.
    pub libraries: BTreeMap<String, String>,
    /// What does not stop a deploy, and should be seen.
    pub warnings: Vec<String>,
}

/// The judgment over one look at the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The new code is served.
    Pass(Served),
    /// Not yet, for these reasons.
    NotYet(Vec<String>),
    /// It never will be: the new code fails to load.
    Fail(Box<PythonError>),
}

/// Judges one look at the platform.
///
/// Errors that daemons report do not hold the gate. A sensor that raises puts one there for five
/// minutes, whichever code it came from: a deploy that mends it must pass.
pub fn verdict(location: &Location, daemons: &[Daemon], expected: &Expectation) -> Verdict {
    let Expectation { host, image, since, .. } = expected;
    let mut reasons = Vec::new();
    let mut served = None;
    match &location.state {
        LocationState::Failed { error } if !error.is_unreachable() => {
            return Verdict::Fail(Box::new(error.clone()));
        }
        LocationState::Failed { .. } | LocationState::Loading | LocationState::Missing => {
            reasons.push(location.to_string());
        }
        LocationState::Loaded(code) => match &code.image {
            _ if code.host.as_ref() != Some(host) => {
                let asked = code.host.as_deref().unwrap_or("an unknown host");
                reasons.push(format!("`{}` is still asked of {asked}", location.name));
            }
            Some(it) if it == image => served = Some(code),
            Some(it) => reasons.push(format!("`{}` still serves the image `{it}`", location.name)),
            None => reasons.push(format!("`{}` does not tell its image", location.name)),
        },
    }

    let required = || daemons.iter().filter(|it| it.required);
    let silent: Vec<&str> = required()
        .filter(|it| it.last_heartbeat.is_none_or(|then| then <= *since))
        .map(|it| it.kind.as_str())
        .collect();
    let n_required = required().count();
    if n_required == 0 {
        reasons.push("no daemon is known yet".to_owned());
    } else if silent.len() == n_required {
        reasons.push("no sign of life from the daemon yet".to_owned());
    } else if !silent.is_empty() {
        reasons.push(format!(
            "no sign of life yet from these threads of the daemon: {}",
            silent.join(", ")
        ));
    }

    match served {
        Some(code) if reasons.is_empty() => Verdict::Pass(Served {
            server_id: code.server_id.clone(),
            libraries: code.libraries.clone(),
            warnings: required()
                .flat_map(|daemon| daemon.errors.iter().map(move |it| (daemon, it)))
                .map(|(daemon, it)| {
                    format!("the thread {} of the daemon reports: {}", daemon.kind, it.summary())
                })
                .collect(),
        }),
        _ => Verdict::NotYet(reasons),
    }
}

/// Looks until the gate is passed; calls back with the reasons whenever they change.
pub async fn verify(
    client: &Client,
    expected: &Expectation,
    mut on_wait: impl FnMut(&str),
) -> Result<Served> {
    let Expectation { location, deadline, .. } = expected;
    let mut wait = Wait::new(*deadline);
    let mut last = String::new();
    loop {
        let seen = match client.look(location).await {
            Ok((seen, daemons)) => match verdict(&seen, &daemons, expected) {
                Verdict::Pass(served) => return Ok(served),
                Verdict::Fail(source) => {
                    return Err(Error::LoadFailed { location: location.clone(), source });
                }
                Verdict::NotYet(reasons) => reasons.join("; "),
            },
            Err(error) if error.is_passing() => error.brief(),
            Err(error) => return Err(error),
        };
        if seen != last {
            on_wait(&seen);
        }
        wait.pause(|| "the new code to be served".to_owned(), seen.clone()).await?;
        last = seen;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{Code, Link};

    const HOST: &str = "docker_dagster_core-2";
    const OLD: &str = "registry/dagster-core@sha256:1111";
    const NEW: &str = "registry/dagster-core@sha256:2222";
    const SINCE: f64 = 1000.0;

    fn loaded(image: Option<&str>) -> LocationState {
        LocationState::Loaded(Code {
            server_id: Some("607b9db2".to_owned()),
            image: image.map(str::to_owned),
            host: Some(HOST.to_owned()),
            repository: "__repository__".to_owned(),
            libraries: [("dagster".to_owned(), "1.13.27".to_owned())].into(),
        })
    }

    fn error(class_name: &str, message: &str) -> PythonError {
        PythonError {
            message: message.to_owned(),
            class_name: class_name.to_owned(),
            stack: Vec::new(),
            chain: Vec::new(),
        }
    }

    fn daemon(kind: &str, last_heartbeat: Option<f64>) -> Daemon {
        Daemon {
            kind: kind.to_owned(),
            required: true,
            healthy: Some(true),
            last_heartbeat,
            errors: Vec::new(),
        }
    }

    fn fresh() -> Vec<Daemon> {
        vec![daemon("SENSOR", Some(1001.0)), daemon("SCHEDULER", Some(1030.5))]
    }

    #[track_caller]
    fn check(state: LocationState, daemons: &[Daemon], expected: &Expect) {
        let location = Location { name: "dagster_core".to_owned(), state };
        let expectation = Expectation {
            location: location.name.clone(),
            host: HOST.to_owned(),
            image: NEW.to_owned(),
            since: SINCE,
            deadline: Duration::ZERO,
        };
        let text = match verdict(&location, daemons, &expectation) {
            Verdict::Pass(it) => format!("pass {:?} {:?}", it.server_id, it.warnings),
            Verdict::NotYet(reasons) => format!("not yet: {}", reasons.join("; ")),
            Verdict::Fail(error) => format!("fail: {error}"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn the_new_image_and_fresh_daemons_pass() {
        check(loaded(Some(NEW)), &fresh(), &expect![[r#"pass Some("607b9db2") []"#]]);
    }

    #[test]
    fn the_old_image_does_not_pass_yet() {
        check(
            loaded(Some(OLD)),
            &fresh(),
            &expect![
                "not yet: `dagster_core` still serves the image `registry/dagster-core@sha256:1111`"
            ],
        );
    }

    #[test]
    fn the_same_image_with_other_settings_does_not_pass_yet() {
        let LocationState::Loaded(mut code) = loaded(Some(NEW)) else { unreachable!() };
        code.host = Some("docker_dagster_core-1".to_owned());
        check(
            LocationState::Loaded(code),
            &fresh(),
            &expect!["not yet: `dagster_core` is still asked of docker_dagster_core-1"],
        );
    }

    #[test]
    fn a_code_server_that_hides_its_image_does_not_pass() {
        check(loaded(None), &fresh(), &expect!["not yet: `dagster_core` does not tell its image"]);
    }

    #[test]
    fn a_location_that_is_loading_or_missing_does_not_pass_yet() {
        check(LocationState::Loading, &fresh(), &expect!["not yet: `dagster_core` is loading"]);
        check(
            LocationState::Missing,
            &fresh(),
            &expect!["not yet: `dagster_core` is not in the workspace"],
        );
    }

    #[test]
    fn an_unreachable_code_server_may_still_come() {
        let error = error(
            "DagsterUserCodeUnreachableError",
            "dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server\n",
        );
        check(
            LocationState::Failed { error },
            &fresh(),
            &expect![
                "not yet: `dagster_core` failed to load: DagsterUserCodeUnreachableError: Could not reach user code server"
            ],
        );
    }

    #[test]
    fn code_that_fails_to_load_fails_with_the_users_error() {
        let cause =
            error("ModuleNotFoundError", "ModuleNotFoundError: No module named 'psycopg'\n");
        let mut error = error("DagsterImportError", "Encountered ImportError\n");
        error.chain.push(Link { explicit: true, error: cause });
        check(
            LocationState::Failed { error },
            &fresh(),
            &expect!["fail: ModuleNotFoundError: No module named 'psycopg'"],
        );
    }

    #[test]
    fn a_heartbeat_from_before_the_deploy_does_not_count() {
        let daemons = [
            daemon("SENSOR", Some(SINCE)),
            daemon("SCHEDULER", None),
            daemon("ASSET", Some(1000.1)),
        ];
        check(
            loaded(Some(NEW)),
            &daemons,
            &expect![
                "not yet: no sign of life yet from these threads of the daemon: SENSOR, SCHEDULER"
            ],
        );
    }

    #[test]
    fn a_daemon_that_is_not_required_may_be_silent() {
        let mut daemons = fresh();
        daemons.push(Daemon { required: false, ..daemon("BACKFILL", None) });
        check(loaded(Some(NEW)), &daemons, &expect![[r#"pass Some("607b9db2") []"#]]);
    }

    #[test]
    fn an_instance_without_any_daemon_does_not_pass() {
        check(loaded(Some(NEW)), &[], &expect!["not yet: no daemon is known yet"]);
    }

    #[test]
    fn a_daemons_error_warns_and_does_not_hold_the_gate() {
        let mut daemons = fresh();
        daemons[0].healthy = Some(false);
        daemons[0].errors.push(error("SensorError", "SensorError: no such file\n"));
        check(
            loaded(Some(NEW)),
            &daemons,
            &expect![[
                r#"pass Some("607b9db2") ["the thread SENSOR of the daemon reports: SensorError: no such file"]"#
            ]],
        );
    }
}
