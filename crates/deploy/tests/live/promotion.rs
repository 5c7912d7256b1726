//! What one environment serves, released in another.

use bench::{Answer, Checkout};
use serde_json::Value;

use crate::{DEPLOY, schema::sql, without_test_job};

const HOME: &str = "/home/deployer/dagster-deploy";

#[track_caller]
fn refused(answer: &Answer, says: &str) {
    assert_eq!(answer.code, 3, "{answer}");
    assert!(answer.stderr.contains(says), "expected `{says}`: {answer}");
}

fn digest(image: &Value) -> &str {
    image.as_str().and_then(|it| it.split('@').nth(1)).expect("it is named by its digest")
}

#[test]
fn what_one_environment_serves_is_released_in_another_and_nothing_is_built() {
    let checkout = Checkout::new("promotion", DEPLOY);
    for environment in ["demo", "prod"] {
        let template = without_test_job(&checkout, environment);
        checkout.write(&format!("env-templates/{environment}.env"), &template);
    }
    let compose = checkout.read("compose/core.yaml");
    let first = checkout.deploy()["release"].clone();

    // The same VM, and the same registry by another name: to us and to it another one.
    let registry = checkout.facts()["DEPLOY_REGISTRY"].clone();
    let shared = [("DEPLOY_REGISTRY", registry.as_str())];
    checkout.write_env_prod_of_the_testbed();
    let elsewhere = registry.replace("127.0.0.1", "localhost").replace("/dagster", "/prod");
    assert_ne!(elsewhere, registry);
    let env = checkout.read(".env.prod");
    let env = env.replace("PROVEN_BY=\n", "PROVEN_BY=demo\n").replace(&registry, &elsewhere);
    checkout.write(".env.prod", &env);

    // What `demo` serves is taken from a checkout, too, if it is the very image.
    let plan = checkout.run_with(&shared, &["plan", "prod"]);
    assert_eq!(plan.code, 0, "{plan}");
    checkout.add_asset("never_staged");
    let takes =
        "`prod` takes only what `demo` has served, and not code whose image is yet to be made";
    refused(&checkout.run_with(&shared, &["deploy", "prod", "--yes"]), takes);
    refused(&checkout.run(&["deploy", "prod", "--yes"]), takes);

    // Neither the code nor the files of this checkout are what is promoted.
    checkout.append("compose/core.yaml", "# edited\n");
    let plan = checkout.run(&["plan", "prod", "--from", "demo", "--out", "plan.json"]);
    assert_eq!(plan.code, 0, "{plan}");
    let id = first["id"].as_str().expect("a release has an id");
    let headline = format!("promotes {id} of demo: its images are copied, and nothing is built");
    assert!(plan.stdout.starts_with(&headline), "{plan}");
    assert!(plan.stdout.contains("+ asset "), "{plan}");
    let promoted = checkout.json(&["apply", "plan.json", "--json"])["release"].clone();
    for image in ["core_image", "platform_image", "postgres_image"] {
        let digests = [&promoted, &first].map(|it| digest(&it[image]));
        assert_eq!(digests[0], digests[1], "{image}");
    }
    assert!(promoted["core_image"].as_str().is_some_and(|it| it.starts_with(&elsewhere)));
    assert_eq!(promoted["promoted"]["release"], id);
    assert_eq!(promoted["git_sha"], first["git_sha"]);
    let phases = promoted["phases"].as_array().expect("it has phases").iter();
    let phases: Vec<&str> = phases.filter_map(|it| it["name"].as_str()).collect();
    let builds = |it: &&&str| ["find", "build", "push"].iter().any(|word| it.starts_with(word));
    assert_eq!(phases.iter().find(builds), None, "{phases:?}");
    assert!(phases.contains(&"copy images"), "{phases:?}");
    let file = format!("{HOME}/prod/releases/{}/core.yaml", promoted["id"].as_str().unwrap_or("-"));
    assert_eq!(checkout.on_host(&format!("cat {file}")).trim(), compose.trim());
    let again = checkout.json(&["deploy", "prod", "--from", "demo", "--yes", "--json"]);
    assert_eq!(again["changed"], false);

    two_environments_do_not_meet(&checkout);
    what_is_not_fit_is_not_promoted(&checkout, id);

    // Told to, it takes what never served anywhere, and the audit log tells.
    let args = ["deploy", "prod", "--yes", "--unproven", "--allow-dirty", "--json"];
    let unproven = checkout.run_with(&shared, &args);
    assert_eq!(unproven.code, 0, "{unproven}");
    let history = checkout.json(&["history", "prod", "--json"]);
    let entries = |outcome: &str| -> Vec<&Value> {
        let entries = history["entries"].as_array().expect("it is a list").iter();
        entries.filter(|it| it["outcome"] == outcome).collect()
    };
    let [last, first] = entries("done")[..] else { panic!("two were done: {history}") };
    assert_eq!((&last["unproven"], &last["promoted"]), (&true.into(), &Value::Null));
    assert_eq!((&first["unproven"], &first["promoted"]["release"]), (&Value::Null, &id.into()));
    assert_eq!(entries("refused").len(), 6, "{history}");
    let told = checkout.run(&["history", "prod"]).stdout;
    assert!(told.contains("(promoted from demo)") && told.contains("(unproven)"), "{told}");
    checkout.down();
}

fn two_environments_do_not_meet(checkout: &Checkout) {
    sql(checkout, "demo", "INSERT INTO time_zones VALUES ('XX', 'Here/There', 0, 0)");
    let count = "SELECT count(*) FROM time_zones WHERE name = 'Here/There'";
    assert_eq!(["demo", "prod"].map(|it| sql(checkout, it, count)), ["1", "0"]);
    for environment in ["demo", "prod"] {
        let format = r#"{{.Label "com.docker.compose.project"}} {{.Networks}}"#;
        let of = format!("grep ^dagster-{environment}");
        let networks = checkout.on_host(&format!("docker ps --format '{format}' | {of}"));
        assert_eq!(networks.lines().count(), 4, "{networks}");
        let end = format!(" dagster-{environment}");
        assert!(networks.lines().all(|it| it.ends_with(&end)), "{networks}");
    }
}

/// Writes something else into what is known of the release that is to be promoted.
fn what_is_not_fit_is_not_promoted(checkout: &Checkout, id: &str) {
    let promote = ["deploy", "prod", "--from", "demo", "--yes"];
    let manifest = format!("{HOME}/demo/releases/{id}/manifest.json");
    checkout.on_host(&format!("cp -p {manifest} /tmp/manifest.json"));
    for (edit, says) in [
        ("s/\"deployed\"/\"pending\"/", "was never verified"),
        ("s/\"dirty\":false/\"dirty\":true/", "was made from files that no commit holds"),
        (
            r#"s/\("git_sha":"\)......../\100000000/"#,
            "this clone does not have the commit 00000000",
        ),
    ] {
        checkout.on_host(&format!("sed -i '{edit}' {manifest}"));
        refused(&checkout.run(&promote), says);
        checkout.on_host(&format!("cp -p /tmp/manifest.json {manifest}"));
    }
    checkout.on_host(&format!("sed -i d {HOME}/demo/workspace/workspace.yaml"));
    refused(&checkout.run(&promote), "`demo` serves no `dagster_core`");
}
