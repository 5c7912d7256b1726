//! The client against a scripted server on the loopback, with answers recorded from Dagster
//! 1.13.27.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

mod script;

use std::{collections::BTreeMap, time::Duration};

use dagster::{Client, Error, Expectation, RunId, verify};
use expect_test::{Expect, expect};
use serde_json::json;

use crate::script::{Script, answer};

const WORKSPACE: &str = include_str!("../recorded/workspace.json");
const DAEMONS: &str = include_str!("../recorded/daemons.json");
const DEFINITIONS: &str = include_str!("../recorded/definitions.json");
const RUN_FAILED: &str = include_str!("../recorded/run_failed.json");
const RUN_EVENTS: &str = include_str!("../recorded/run_events.json");

/// Long enough for several looks, short enough to wait for.
const SOON: Duration = Duration::from_secs(5);

/// An error as a reporter shows it, without the port.
fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    // How a connection fails is the system's wording.
    while let Some(error) = source.filter(|it| it.downcast_ref::<reqwest::Error>().is_none()) {
        text = format!("{text}\ncaused by: {error}");
        source = error.source();
    }
    if let Some(hint) = error.hint() {
        text = format!("{text}\nhint: {hint}");
    }
    text
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, Error>, expected: &Expect) {
    match result {
        Ok(value) => expected.assert_debug_eq(&value),
        Err(error) => expected.assert_eq(&text(&error)),
    }
}

fn workspace_without_the_location() -> String {
    answer(&json!({"workspaceOrError": {"__typename": "Workspace", "locationEntries": []}}))
}

fn launch(answer: &serde_json::Value) -> String {
    self::answer(&json!({"launchRun": answer}))
}

fn launched() -> String {
    launch(&json!({"__typename": "LaunchRunSuccess", "run": {"runId": "26b775aa"}}))
}

fn job_not_found() -> String {
    launch(&json!({
        "__typename": "PipelineNotFoundError",
        "message": "Could not find Pipeline dagster_core.__repository__.nope",
    }))
}

async fn launch_job(client: &Client, job: &str, deadline: Duration) -> Result<RunId, Error> {
    client.launch("dagster_core", job, &BTreeMap::new(), None, deadline).await
}

#[tokio::test]
async fn a_location_tells_its_server_image_and_libraries() {
    let (client, _) = Script::new([(200, WORKSPACE)]).serve().await;
    check(
        client.location("dagster_core").await,
        &expect![[r#"
        Location {
            name: "dagster_core",
            state: Loaded(
                Code {
                    server_id: Some(
                        "cda65456-1603-458f-987b-fa274a180153",
                    ),
                    image: Some(
                        "registry.example:5000/dagster-core@sha256:1111111111111111111111111111111111111111111111111111111111111111",
                    ),
                    host: Some(
                        "docker_dagster_core-1",
                    ),
                    repository: "__repository__",
                    libraries: {
                        "dagster": "1.13.27",
                        "dagster-shared": "1.13.27",
                    },
                },
            ),
        }
    "#]],
    );
}

#[tokio::test]
async fn an_unknown_location_is_missing() {
    let (client, _) = Script::new([(200, WORKSPACE)]).serve().await;
    let location = client.location("other").await.unwrap();
    expect!["`other` is not in the workspace"].assert_eq(&location.to_string());
}

#[tokio::test]
async fn definitions_are_sorted_and_leave_out_dagsters_own_job() {
    let (client, script) = Script::new([(200, WORKSPACE), (200, DEFINITIONS)]).serve().await;
    check(
        client.definitions("dagster_core").await,
        &expect![[r#"
        Definitions {
            jobs: {
                "test_job",
                "zones_job",
            },
            assets: {
                "mart/offsets",
                "zones",
            },
            schedules: {
                "daily": Schedule {
                    cron: "0 6 * * *",
                    timezone: Some(
                        "Europe/Paris",
                    ),
                    job: "zones_job",
                    on_by_default: true,
                    on: true,
                },
            },
            sensors: {
                "watcher": Sensor {
                    interval: 30,
                    jobs: {
                        "test_job",
                    },
                    on_by_default: false,
                    on: false,
                },
            },
        }
    "#]],
    );
    // The repository's name is looked up, not guessed.
    expect![[r#"{"repository":{"repositoryLocationName":"dagster_core","repositoryName":"__repository__"}}"#]].assert_eq(&script.variables(1));
}

#[tokio::test]
async fn daemons_tell_when_they_were_last_heard() {
    let (client, _) = Script::new([(200, DAEMONS)]).serve().await;
    let daemons = client.daemons().await.unwrap();
    let lines: Vec<_> = daemons
        .iter()
        .map(|it| format!("{} {} {:?}", it.kind, it.required, it.last_heartbeat))
        .collect();
    expect![[r#"
        SENSOR true Some(1795447350.719941)
        BACKFILL true Some(1795447350.63283)
        SCHEDULER true Some(1795447320.001226)
        QUEUED_RUN_COORDINATOR true Some(1795447356.364891)
        MONITORING true Some(1795447351.09121)
        EVENT_LOG_CONSUMER true Some(1795447352.880129)
        ASSET true Some(1795447350.682003)
        FRESHNESS_DAEMON true Some(1795447351.209146)"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_failed_run_ends_the_wait_with_the_users_traceback() {
    let (client, _) = Script::new([(200, RUN_FAILED), (200, RUN_EVENTS)]).serve().await;
    let run = RunId::from("b87d273e");
    let mut seen = Vec::new();
    let result = client.wait_for_run(&run, SOON, |it| seen.push(it)).await;
    check(
        result,
        &expect![[r#"
        the run `b87d273e-5b6a-4329-9201-fcf4b1b6fc47` of the job `test_job` ended with FAILURE, in the step `wait`
        caused by: Traceback (most recent call last):
          File "/opt/dagster/app/definitions.py", line 32, in wait
            try: inner()
                 ^^^^^^^
          File "/opt/dagster/app/definitions.py", line 25, in inner
            raise ValueError("no zone `Mars/Olympus`")
        ValueError: no zone `Mars/Olympus`

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "/opt/dagster/app/definitions.py", line 33, in wait
            except ValueError as e: raise RuntimeError("loading the zones failed") from e
                                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        RuntimeError: loading the zones failed"#]],
    );
    expect!["[Failure]"].assert_eq(&format!("{seen:?}"));
}

#[tokio::test]
async fn a_broken_connection_does_not_end_the_wait_for_a_run() {
    let done = RUN_FAILED.replace("FAILURE\"", "SUCCESS\"");
    let (client, _) = Script::new([(0, ""), (502, "bad gateway"), (200, &done)]).serve().await;
    let run = client.wait_for_run(&RunId::from("b87d273e"), SOON, |_| {}).await.unwrap();
    expect!["test_job SUCCESS"].assert_eq(&format!("{} {}", run.job, run.status));
}

#[tokio::test]
async fn a_run_that_does_not_end_times_out_with_its_last_status() {
    let started = RUN_FAILED.replace("\"status\": \"FAILURE\"", "\"status\": \"STARTED\"");
    let (client, _) = Script::new([(200, &started)]).serve().await;
    let result = client.wait_for_run(&RunId::from("b87d273e"), Duration::ZERO, |_| {}).await;
    check(
        result,
        &expect!["after 0 s still waiting for the run `b87d273e` to end: its status is STARTED"],
    );
}

#[tokio::test]
async fn a_launch_waits_until_the_code_server_is_back() {
    let unreachable = launch(&json!({
        "__typename": "PythonError",
        "message": "dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server.\n",
        "className": "DagsterUserCodeUnreachableError",
        "stack": [], "errorChain": [],
    }));
    let away = workspace_without_the_location();
    let (client, script) = Script::new([
        (200, WORKSPACE),
        (500, &unreachable),
        (200, &away),
        (200, WORKSPACE),
        (200, &launched()),
    ])
    .serve()
    .await;
    check(
        launch_job(&client, "test_job", SOON).await,
        &expect![[r#"
        RunId(
            "26b775aa",
        )
    "#]],
    );
    expect![[r#"{"params":{"executionMetadata":{"tags":[]},"runConfigData":{},"selector":{"jobName":"test_job","repositoryLocationName":"dagster_core","repositoryName":"__repository__"}}}"#]].assert_eq(&script.variables(4));
}

#[tokio::test]
async fn a_job_that_does_not_exist_fails_at_once_and_names_those_that_do() {
    let (client, _) = Script::new([
        (200, WORKSPACE),
        (200, &job_not_found()),
        (200, WORKSPACE),
        (200, WORKSPACE),
        (200, DEFINITIONS),
    ])
    .serve()
    .await;
    check(
        launch_job(&client, "nope", SOON).await,
        &expect![[r#"
        the code location `dagster_core` has no job `nope`; it has `test_job`, `zones_job`
        hint: is the job part of `Definitions(jobs=[…])`?"#]],
    );
}

#[tokio::test]
async fn a_job_not_found_while_the_location_changes_is_looked_for_again() {
    let other = WORKSPACE.replace("\"serverId\": \"", "\"serverId\": \"new-");
    let (client, _) = Script::new([
        (200, WORKSPACE),
        (200, &job_not_found()),
        (200, &other),
        (200, &other),
        (200, &launched()),
    ])
    .serve()
    .await;
    check(
        launch_job(&client, "test_job", SOON).await,
        &expect![[r#"
        RunId(
            "26b775aa",
        )
    "#]],
    );
}

#[tokio::test]
async fn a_launch_whose_answer_is_lost_is_not_repeated() {
    let (client, script) =
        Script::new([(200, WORKSPACE), (0, ""), (200, WORKSPACE), (200, &launched())])
            .serve()
            .await;
    let error = launch_job(&client, "test_job", SOON).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(script.asked(), 2);
}

#[tokio::test]
async fn a_run_configuration_that_does_not_fit_is_told() {
    let refusal = launch(&json!({
        "__typename": "RunConfigValidationInvalid",
        "errors": [{"message": "Received unexpected config entry \"secs\" at path root:ops:wait:config."}],
    }));
    let (client, _) = Script::new([(200, WORKSPACE), (200, &refusal)]).serve().await;
    check(
        launch_job(&client, "test_job", SOON).await,
        &expect![[
            r#"the run configuration does not fit the job `test_job`: Received unexpected config entry "secs" at path root:ops:wait:config."#
        ]],
    );
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let (client, script) = Script::new([]).serve().await;
    script.stop().await;
    let error = client.version().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.hint().unwrap().contains("is the webserver running?"));
}

#[tokio::test]
async fn a_status_without_an_answer_of_dagster_is_told_with_its_body() {
    let (client, _) = Script::new([(502, "<html>bad gateway</html>")]).serve().await;
    check(
        client.version().await,
        &expect!["Dagster answered `Version` with HTTP status 502: <html>bad gateway</html>"],
    );
}

#[tokio::test]
async fn a_query_that_dagster_does_not_know_is_named() {
    let body = r#"{"data":null,"errors":[{"message":"Cannot query field 'version' on type 'Query'.","locations":[{"line":1,"column":2}]}]}"#;
    let (client, _) = Script::new([(400, body)]).serve().await;
    check(
        client.version().await,
        &expect![[r#"
        Dagster does not understand the query `Version`: Cannot query field 'version' on type 'Query'.
        hint: this needs Dagster 1.13.12 or newer in the platform image"#]],
    );
}

#[tokio::test]
async fn an_answer_of_another_shape_is_named() {
    let (client, _) = Script::new([(200, r#"{"hello": "world"}"#)]).serve().await;
    check(
        client.version().await,
        &expect![[r#"
        Dagster's answer to `Version` is not understood
        caused by: invalid type: null, expected a string
        hint: this needs Dagster 1.13.12 or newer in the platform image"#]],
    );
}

#[tokio::test]
async fn a_read_only_webserver_refuses_to_reload() {
    let refusal = answer(
        &json!({"reloadRepositoryLocation": {"__typename": "UnauthorizedError", "message": "Authorization failed"}}),
    );
    let (client, _) = Script::new([(200, &refusal)]).serve().await;
    check(
        client.reload_location("dagster_core").await,
        &expect![[r#"
        Dagster refused `ReloadLocation`: Authorization failed
        hint: the webserver must not be started with `--read-only`"#]],
    );
}

#[tokio::test]
async fn a_location_that_is_told_to_reload_says_what_came_of_it() {
    let mut broken: serde_json::Value =
        serde_json::from_str(include_str!("../recorded/import_error.json")).unwrap();
    broken["__typename"] = json!("PythonError");
    let entry = json!({"name": "dagster_core", "locationOrLoadError": broken});
    let reloaded =
        answer(&json!({"reloadRepositoryLocation": {"__typename": "WorkspaceLocationEntry"}}));
    let workspace = answer(
        &json!({"workspaceOrError": {"__typename": "Workspace", "locationEntries": [entry]}}),
    );
    let (client, _) = Script::new([(200, &reloaded), (200, &workspace)]).serve().await;
    let state = client.reload_location("dagster_core").await.unwrap();
    let dagster::LocationState::Failed { error } = state else {
        panic!("it fails to load: {state:?}")
    };
    assert!(error.to_string().ends_with("No module named 'psycopg_nope'"), "{error}");

    let unknown = answer(&json!({"reloadRepositoryLocation": {
        "__typename": "RepositoryLocationNotFound", "message": "Location reports does not exist"}}));
    let (client, _) = Script::new([(200, &unknown)]).serve().await;
    check(
        client.reload_location("reports").await,
        &expect!["Dagster refused `ReloadLocation`: Location reports does not exist"],
    );
}

#[tokio::test]
async fn a_run_that_has_ended_cannot_be_terminated() {
    let refusal = answer(&json!({"terminateRun": {
        "__typename": "TerminateRunFailure",
        "message": "Run f6801817 could not be terminated due to having status CANCELED.",
    }}));
    let (client, _) = Script::new([(200, &refusal)]).serve().await;
    check(
        client.terminate(&RunId::from("f6801817")).await,
        &expect![
            "Dagster refused `TerminateRun`: Run f6801817 could not be terminated due to having status CANCELED."
        ],
    );
}

#[tokio::test]
async fn the_server_of_a_run_is_asked_for_as_python_writes_it() {
    let none = answer(&json!({"runsOrError": {"__typename": "Runs", "results": []}}));
    let (client, script) = Script::new([(200, &none)]).serve().await;
    let ran = client.ran_on(&RunId::from("26b775aa"), "docker_dagster_core-1", 4000).await;
    assert!(!ran.unwrap());
    expect![[r#"{"filter":{"runIds":["26b775aa"],"tags":[{"key":".dagster/grpc_info","value":"{\"host\": \"docker_dagster_core-1\", \"port\": 4000}"}]}}"#]].assert_eq(&script.variables(0));
}

#[tokio::test]
async fn ready_waits_for_the_first_good_answer() {
    let (client, script) = Script::new([(0, ""), (503, "starting"), (200, "{}")]).serve().await;
    client.ready(SOON).await.unwrap();
    assert_eq!(script.asked(), 3);
}

#[tokio::test]
async fn ready_gives_up_with_what_it_saw() {
    let (client, _) = Script::new([(503, "starting")]).serve().await;
    check(
        client.ready(Duration::ZERO).await,
        &expect![
            "after 0 s still waiting for Dagster's webserver to answer: HTTP status 503 Service Unavailable"
        ],
    );
}

/// What the recorded workspace serves.
fn expectation(since: f64, deadline: Duration) -> Expectation {
    Expectation {
        location: "dagster_core".to_owned(),
        host: "docker_dagster_core-1".to_owned(),
        image: format!("registry.example:5000/dagster-core@sha256:{}", "1".repeat(64)),
        since,
        deadline,
    }
}

/// The answer to one question about a workspace and the daemons.
fn both(workspace: &str) -> String {
    let [mut answer, daemons] = [workspace, DAEMONS]
        .map(|it| serde_json::from_str::<serde_json::Value>(it).expect("a recorded answer"));
    answer["data"]["instance"] = daemons["data"]["instance"].clone();
    answer.to_string()
}

#[tokio::test]
async fn the_gate_waits_through_a_restart_and_tells_each_reason_once() {
    let away = both(&workspace_without_the_location());
    let back = both(WORKSPACE);
    let (client, _) =
        Script::new([(0, ""), (200, &away), (200, &away), (200, &back)]).serve().await;
    let mut reasons = Vec::new();
    let served = verify(&client, &expectation(1_795_000_000.0, SOON), |it| {
        reasons.push(it.split(" at `").next().unwrap_or_default().to_owned());
    })
    .await
    .unwrap();
    expect![[r#"
        Dagster does not answer
        `dagster_core` is not in the workspace"#]]
    .assert_eq(&reasons.join("\n"));
    expect![[r#"
        Served {
            server_id: Some(
                "cda65456-1603-458f-987b-fa274a180153",
            ),
            libraries: {
                "dagster": "1.13.27",
                "dagster-shared": "1.13.27",
            },
            warnings: [],
        }
    "#]]
    .assert_debug_eq(&served);
}

#[tokio::test]
async fn the_gate_stays_shut_for_daemons_that_are_silent_since_the_deploy() {
    let (client, _) = Script::new([(200, &both(WORKSPACE))]).serve().await;
    let expected = expectation(1_999_000_000.0, Duration::ZERO);
    check(
        verify(&client, &expected, |_| {}).await,
        &expect![
            "after 0 s still waiting for the new code to be served: no sign of life from the daemon yet"
        ],
    );
}

#[tokio::test]
async fn the_gate_fails_at_once_when_the_new_code_does_not_load() {
    let error: serde_json::Value =
        serde_json::from_str(include_str!("../recorded/import_error.json")).unwrap();
    let mut failed = error.clone();
    failed["__typename"] = "PythonError".into();
    let body = answer(&json!({"workspaceOrError": {"__typename": "Workspace", "locationEntries": [
        {"name": "dagster_core", "locationOrLoadError": failed},
    ]}}));
    let (client, _) = Script::new([(200, &both(&body))]).serve().await;
    check(
        verify(&client, &expectation(0.0, SOON), |_| {}).await,
        &expect![[r#"
        Dagster cannot load the code location `dagster_core`
        caused by: Traceback (most recent call last):
          File "/opt/dagster/app/broken.py", line 7, in <module>
            defs = dg.Definitions(resources={"s": settings()})
                                                  ^^^^^^^^^^
          File "/opt/dagster/app/broken.py", line 4, in settings
            import psycopg_nope
        ModuleNotFoundError: No module named 'psycopg_nope'"#]],
    );
}
