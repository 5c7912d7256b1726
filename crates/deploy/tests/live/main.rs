//! The whole story on real things: engine, VM, sshd, registry, Postgres, Dagster.
//!
//! Each test owns a copy of the checkout, and with it a testbed of its own.

mod dev;
mod endurance;
mod faults;
mod lock;
mod plan;
mod platform_and_backup;
mod promotion;
mod rollback;
mod rotate;
mod schema;
mod secrets_on_host;
mod staging;

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use bench::{Arguments, Checkout, Probe, wait_until};
use dagster::RunStatus;
use serde_json::Value;

/// The program under test.
const DEPLOY: &str = env!("CARGO_BIN_EXE_deploy");

/// Where `demo` is on its VM.
const HOME: &str = "/home/deployer/dagster-deploy/demo";

const PLATFORM: [&str; 3] = ["dagster-postgres", "dagster-webserver", "dagster-daemon"];

/// The template of an environment, without the test job: that takes its seconds, and is at stake
/// elsewhere.
fn without_test_job(checkout: &Checkout, environment: &str) -> String {
    let template = checkout.read(&format!("env-templates/{environment}.env"));
    template.replace("DEPLOY_TEST_JOB=test_job", "DEPLOY_TEST_JOB=")
}

/// The release that a verb tells of.
fn id(summary: &Value) -> String {
    summary["release"]["id"].as_str().expect("a release has an id").to_owned()
}

/// The environment of a release's code server, a variable a line.
fn environment(checkout: &Checkout, release: &str) -> String {
    let format = "--format '{{range .Config.Env}}{{println .}}{{end}}'";
    checkout.on_host(&format!("docker inspect {format} docker_dagster_core-{release}"))
}

/// The containers that a change of the code must not touch.
fn platform(containers: &BTreeMap<String, String>) -> Vec<&String> {
    PLATFORM.iter().map(|service| &containers[*service]).collect()
}

#[test]
fn changed_code_is_swapped_alone_and_no_run_and_no_request_is_lost() {
    let checkout = Checkout::new("swap", DEPLOY);
    let first = checkout.deploy();
    assert_eq!(first["changed"], true);
    let before = checkout.containers();

    // Nothing changed: nothing is touched.
    assert_eq!(checkout.deploy()["changed"], false);
    assert_eq!(checkout.containers(), before);

    // Version two, under a probe that needs the code server, with a run of a minute in flight.
    let probe = Probe::start(&first);
    let run = probe.launch("wait_job", 60);
    let limit = Duration::from_mins(2);
    wait_until(limit, "the run starts", || probe.run_status(&run) == RunStatus::Started);
    checkout.add_asset("brand_new_asset");
    let logins = checkout.logins();
    let second = checkout.deploy();
    assert_eq!(checkout.logins() - logins, 1, "one SSH connection a deploy");
    assert_eq!(second["changed"], true);
    assert!(probe.assets().contains(&"brand_new_asset".to_owned()), "{:?}", probe.assets());
    assert_eq!(probe.run_status(&run), RunStatus::Started, "the run outlives the switch");
    let after = checkout.containers();
    assert_eq!(platform(&after), platform(&before));
    wait_until(limit, "the run ends", || probe.run_status(&run).is_final());
    assert_eq!(probe.run_status(&run), RunStatus::Success);
    let (asked, failed) = probe.stop();
    assert_eq!(failed, Vec::<String>::new(), "of {asked} probes");
    assert!(asked > 300, "only {asked} probes");

    // A broken import is refused with the user's own traceback, and the old code serves on.
    checkout.write("dagster_core/broken.py", "import a_module_that_does_not_exist\n");
    checkout.append("dagster_core/definitions.py", "\nimport dagster_core.broken  # noqa\n");
    let refused = checkout.run(&["deploy", "demo"]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("No module named 'a_module_that_does_not_exist'"), "{refused}");
    assert!(refused.stderr.contains("broken.py\", line 1"), "{refused}");
    assert_eq!(checkout.containers(), after);
    let status = checkout.json(&["status", "demo", "--json"]);
    assert_eq!(status["release"]["id"], second["release"]["id"]);

    // The VM is turned off and on: everything comes back by itself.
    checkout.reboot();
    wait_until(limit, "all containers are back", || {
        let status = checkout.run(&["status", "demo", "--json"]);
        status.code == 0 && checkout.containers() == after
    });
    checkout.down();
}

#[test]
fn compose_2_and_newer_swaps_the_code_alone_as_well() {
    let checkout = Checkout::new("compose-v2", DEPLOY).with("DEPLOY_TESTBED_COMPOSE", "v2");
    let first = checkout.deploy();
    assert_eq!(first["changed"], true);
    let before = checkout.containers();
    assert_eq!(checkout.deploy()["changed"], false);
    checkout.add_asset("brand_new_asset");
    assert_eq!(checkout.deploy()["changed"], true);
    assert_eq!(platform(&checkout.containers()), platform(&before));

    // Code that Dagster loads and that does not work is switched back from.
    let serving = checkout.json(&["status", "demo", "--json"]);
    let standing = checkout.containers();
    let job = checkout.read("dagster_core/pipelines/test_job.py");
    checkout.write("dagster_core/pipelines/test_job.py", &job.replace("< 300:", "< 300_000:"));
    let undone = checkout.run(&["deploy", "demo"]);
    assert_eq!(undone.code, 4, "{undone}");
    assert!(undone.stderr.contains("the tables are cut short"), "{undone}");
    assert!(undone.stderr.contains("serves again"), "{undone}");
    checkout.write("dagster_core/pipelines/test_job.py", &job);
    let still = checkout.json(&["status", "demo", "--json"]);
    assert_eq!(still["release"]["id"], serving["release"]["id"]);
    assert_eq!(still["code"]["image"], serving["code"]["image"]);

    let limit = Duration::from_mins(1);
    wait_until(limit, "the undone code stops", || checkout.containers() == standing);

    a_second_location_is_released_and_rolled_back_by_itself(&checkout);
    assert_eq!(checkout.containers(), standing, "one location does not touch another");

    // The same verb, the same VM, given by `.env.prod` as any other VM would be.
    checkout.write_env_prod_of_the_testbed();
    let answer = checkout.run(&["deploy", "prod"]);
    assert_eq!(answer.code, 3, "production asks, and nobody answers: {answer}");
    assert!(answer.stderr.contains("steps:\n   1. pull"), "the plan is shown: {answer}");
    let prod = checkout.json(&["deploy", "prod", "--yes", "--json"]);
    assert_eq!((&prod["changed"], &prod["url"]), (&true.into(), &Value::Null));
    assert_eq!(checkout.json(&["deploy", "prod", "--yes", "--json"])["changed"], false);
    assert_eq!(checkout.containers(), standing, "one environment does not touch another");
    let down = checkout.run(&["down", "prod"]);
    assert_eq!(down.code, 3, "it asks, and nobody answers: {down}");
    let down = checkout.json(&["down", "prod", "--yes", "--data", "--json"]);
    assert_eq!(down["containers"], 4);
    assert_eq!(checkout.containers(), standing);
    checkout.down();
}

/// A second code location is a package and a setting.
fn a_second_location_is_released_and_rolled_back_by_itself(checkout: &Checkout) {
    let write = |asset: &str| {
        let code = format!(
            "import dagster as dg\n\n\n@dg.asset\ndef {asset}() -> int:\n    return 1\n\n\n\
             defs = dg.Definitions(assets=[{asset}])\n"
        );
        checkout.write("reports/definitions.py", &code);
    };
    let verb = |verb: &str| -> Value {
        let variables = [("DEPLOY_LOCATIONS", "reports")];
        let args = [verb, "demo", "--location", "reports", "--json"];
        let answer = checkout.run_with(&variables, &args);
        assert_eq!(answer.code, 0, "{verb}: {answer}");
        serde_json::from_str(&answer.stdout).expect("JSON was asked for")
    };
    std::fs::create_dir(checkout.root().join("reports")).expect("the checkout is ours");
    checkout.write("reports/__init__.py", "");
    write("first_report");
    let refused = checkout.run(&["deploy", "demo", "--location", "reports"]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("no code location `reports`: there is dagster_core"));

    let core = checkout.json(&["status", "demo", "--json"])["release"]["id"].clone();
    let first = verb("deploy");
    assert_eq!(verb("deploy")["changed"], false);
    write("second_report");
    assert_eq!(verb("deploy")["changed"], true);
    verb("rollback");
    let status = verb("status");
    assert_eq!(status["release"]["id"], first["release"]["id"]);
    assert_eq!(status["code"]["image"], first["release"]["core_image"]);
    assert_eq!(status["serving"]["dagster_core"], core);
}

#[test]
fn no_secret_reaches_an_argument_a_log_a_manifest_or_an_image() {
    const CANARY: &str = "canary-7d1f";
    const PASSWORD: &str = "canary-7d1f-$HOME-${HOME}-#-\"-\\-'-é";

    let checkout = Checkout::new("canary", DEPLOY).with("POSTGRES_PASSWORD", PASSWORD);
    let watch = Arguments::watch(CANARY);
    let deployed = checkout.run(&["deploy", "demo", "--json"]);
    let seen = watch.stop();
    assert_eq!(deployed.code, 0, "{deployed}");
    assert_eq!(seen.found, Vec::<String>::new(), "in arguments of processes");
    assert!(seen.samples > 100, "only {} samples", seen.samples);

    let mut texts = vec![("deploy", deployed.stdout), ("deploy's log", deployed.stderr)];
    let status = checkout.run(&["status", "demo", "--json"]);
    texts.push(("status", status.stdout));
    for service in ["core", "webserver", "daemon", "postgres"] {
        let logs = checkout.run(&["logs", "demo", service]);
        assert_eq!(logs.code, 0, "{logs}");
        texts.push((service, logs.stdout + &logs.stderr));
    }
    let on_host = |script: &str| checkout.on_host(script);
    texts.push(("manifests", on_host(&format!("cat {HOME}/releases/*/manifest.json"))));
    let open = format!("find {HOME} -perm /044 -type f -exec cat {{}} +");
    texts.push(("files that others may read", on_host(&open)));
    let images = "docker images --quiet | sort --unique | xargs docker inspect; \
                  docker images --quiet | sort --unique | xargs -n1 docker history --no-trunc";
    texts.push(("images", on_host(images)));
    for (what, text) in texts {
        assert!(!text.is_empty(), "{what} is empty");
        assert!(!text.contains(CANARY), "the secret is in {what}");
    }
    // It is where it belongs, or the search above would prove nothing.
    assert!(on_host(&format!("cat {HOME}/releases/*/core.env.json")).contains(CANARY));
    checkout.down();
}

#[test]
fn what_stands_in_the_way_is_told_in_one_sentence_and_nothing_is_touched() {
    let checkout = Checkout::new("refused", DEPLOY);
    // The port that a tunnel wants is taken: the next one is.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let checkout = checkout.with("DEPLOY_LOCAL_PORT", &port.to_string());
    let first = checkout.deploy();
    let url = first["url"].as_str().unwrap();
    assert_ne!(url, format!("http://localhost:{port}"));
    let serving = checkout.containers();
    checkout.add_asset("another_asset");

    let check = |variables: &[(&str, &str)], code: i32, says: &str| {
        let answer = checkout.run_with(variables, &["deploy", "demo"]);
        assert_eq!(answer.code, code, "{answer}");
        assert!(answer.stderr.contains(says), "expected `{says}`: {answer}");
        assert_eq!(checkout.containers(), serving);
    };
    check(&[("DEPLOY_REGISTRY", "127.0.0.1:9/x")], 3, "cannot look up `127.0.0.1:9/x/dagster-core");
    check(&[("DEPLOY_SSH_PORT", "9")], 6, "Connection refused");
    check(&[("DEPLOY_SSH_KNOWN_HOSTS", "/dev/null")], 6, "is not known");
    check(&[("DEPLOY_SSH_KEY", "/dev/null")], 6, "refuses the login");
    check(&[("DEPLOY_UI_PORT", "22")], 3, "port 22 of");
    check(&[("DEPLOY_UI_PORT", "no")], 3, "process environment: `DEPLOY_UI_PORT` must be a port");

    checkout.append("dagster_core/assets.py", "\n");
    check(&[("DEPLOY_ALLOW_DIRTY", "false")], 3, "no commit holds `dagster_core/assets.py`");

    let lines = checkout.read("compose/core.Dockerfile").lines().count();
    checkout.append("compose/core.Dockerfile", "RUN echo a word from the step && false\n");
    let place = format!("compose/core.Dockerfile:{} failed: RUN echo a word", lines + 1);
    check(&[], 3, &place);
    check(&[], 3, "\n  a word from the step\n");

    // A disk that is nearly full, seen by the host's own `df`.
    checkout.on_host(
        "mv /usr/bin/df /usr/bin/df.real && \
         printf '#!/bin/sh\\n/usr/bin/df.real \"$@\" | awk \"NR==2{\\$4=1024}1\"\\n' > /usr/bin/df && \
         chmod +x /usr/bin/df",
    );
    check(&[], 3, "is nearly full: 1 MiB free");
    checkout.on_host("mv /usr/bin/df.real /usr/bin/df");

    // The engine of the VM does not answer. (`deploy demo` would mend the VM first.)
    checkout.write_env_prod_of_the_testbed();
    checkout.on_host("pkill -STOP -x dockerd; mv /run/docker.sock /run/docker.sock.away");
    for args in [&["status", "demo"][..], &["deploy", "prod", "--yes", "--allow-dirty"]] {
        let answer = checkout.run(args);
        assert_eq!(answer.code, 3, "{answer}");
        assert!(answer.stderr.contains("the Docker engine on `deployer@"), "{answer}");
    }
    checkout.on_host("mv /run/docker.sock.away /run/docker.sock; pkill -CONT -x dockerd");
    wait_until(Duration::from_mins(1), "the engine answers", || {
        checkout.run(&["status", "demo"]).code == 0
    });
    assert_eq!(checkout.containers(), serving);
    checkout.down();
}
