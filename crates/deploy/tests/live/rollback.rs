//! The way back, and forward again.

use std::time::{Duration, Instant};

use bench::{Checkout, Probe, wait_until};
use dagster::RunStatus;

use crate::{DEPLOY, HOME, environment, id, without_test_job};

/// Goes back, or forward; answers the release that serves then.
#[track_caller]
fn rollback(checkout: &Checkout, to: &[&str]) -> String {
    let args = [&["rollback", "demo", "--json"], to].concat();
    let release = id(&checkout.json(&args));
    let status = checkout.json(&["status", "demo", "--json"]);
    assert_eq!(status["release"]["id"], release.as_str());
    let host = format!("docker_dagster_core-{release}");
    assert_eq!(status["code"]["host"], host.as_str(), "{status}");
    release
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story on one testbed")]
fn rollback_restores_code_settings_and_secrets_without_checkout_or_registry() {
    let limit = Duration::from_mins(2);
    let checkout = Checkout::new("rollback", DEPLOY);
    checkout.write("env-templates/demo.env", &without_test_job(&checkout, "demo"));
    checkout.append("env-templates/demo.env", "\nGREETING=hello\n\n# @sensitive\nAPI_TOKEN=\n");
    let checkout = checkout.with("API_TOKEN", "of $a");
    let first = checkout.deploy();
    let (a, of_a) = (id(&first), environment(&checkout, &id(&first)));
    assert!(of_a.contains("GREETING=hello") && of_a.contains("API_TOKEN=of $a"), "{of_a}");
    assert!(first["release"]["schema"].is_string(), "{first}");

    // Other code, another setting and another secret; a run is in flight.
    let template = checkout.read("env-templates/demo.env");
    let assets = checkout.read("dagster_core/assets.py");
    checkout.write("env-templates/demo.env", &template.replace("=hello", "=goodbye"));
    checkout.add_asset("asset_of_b");
    let checkout = checkout.with("API_TOKEN", "of b");
    let b = id(&checkout.deploy());
    let of_b = environment(&checkout, &b);
    assert!(of_b.contains("GREETING=goodbye") && of_b.contains("API_TOKEN=of b"), "{of_b}");
    let probe = Probe::start(&first);
    let run = probe.launch("wait_job", 30);
    wait_until(limit, "the run starts", || probe.run_status(&run) == RunStatus::Started);

    // Warm: neither the code here nor git is needed.
    let (head, definitions) =
        (checkout.read(".git/HEAD"), checkout.read("dagster_core/definitions.py"));
    checkout.write("dagster_core/definitions.py", "this is no Python\n");
    checkout.write(".git/HEAD", "");
    let began = Instant::now();
    let logins = checkout.logins();
    let back = checkout.run(&["rollback", "demo", "--json"]);
    assert_eq!(back.code, 0, "{back}");
    println!("a warm rollback took {:.2} s:\n{}", began.elapsed().as_secs_f64(), back.stderr);
    assert_eq!(checkout.logins() - logins, 1, "one SSH connection");
    checkout.write("dagster_core/definitions.py", &definitions);
    checkout.write(".git/HEAD", &head);
    let status = checkout.json(&["status", "demo", "--json"]);
    assert_eq!(
        (&status["release"]["id"], &status["warm"]),
        (&a.as_str().into(), &b.as_str().into()),
        "{back}"
    );
    assert!(!probe.assets().contains(&"asset_of_b".to_owned()));
    assert_eq!(probe.run_status(&run), RunStatus::Started, "the run outlives the switch");
    assert_eq!(environment(&checkout, &a), of_a);

    // What was rolled back from would be a release again; what serves now would not.
    let again = checkout.run(&["deploy", "demo", "--dry-run"]);
    assert!(again.stdout.contains("the code changed"), "{again}");
    let with_b = checkout.read("dagster_core/assets.py");
    checkout.write("dagster_core/assets.py", &assets);
    checkout.write("env-templates/demo.env", &template);
    let checkout = checkout.with("API_TOKEN", "of $a");
    assert_eq!(checkout.deploy()["changed"], false);

    assert_eq!(rollback(&checkout, &[]), b, "forward again");
    wait_until(limit, "the run ends", || probe.run_status(&run).is_final());
    assert_eq!(probe.run_status(&run), RunStatus::Success);

    // The next deploy lets the oldest cool down. It is started again without any registry.
    checkout.write("dagster_core/assets.py", &with_b);
    checkout.add_asset("asset_of_c");
    let c = id(&checkout.deploy());
    let runs = |release: &str| {
        let name = format!("docker_dagster_core {release}");
        checkout.containers().contains_key(&name)
    };
    wait_until(limit, "the oldest stops", || !runs(&a));
    checkout.stop_registry();
    checkout.write_env_prod_of_the_testbed();
    let refused = checkout.run(&["deploy", "prod", "--yes", "--allow-dirty"]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("that the registry is reachable"), "{refused}");
    assert_eq!(rollback(&checkout, &[&a]), a);
    assert_eq!(environment(&checkout, &a), of_a);
    let (asked, failed) = probe.stop();
    assert_eq!(failed, Vec::<String>::new(), "of {asked} probes");

    // By hand, with what is on the host: to the one that is warm, and to one that has stopped.
    let by_hand = |release: &str, args: &str| {
        let script = format!("bash {HOME}/releases/{release}/rollback.sh {args}");
        checkout.on_host(&format!("su - deployer -c '{script}' 2>&1 || echo exit $?"))
    };
    assert!(by_hand(&c, "--help").starts_with("usage: bash rollback.sh"));
    for release in [&c, &b] {
        wait_until(limit, "it takes runs, or has stopped", || runs(release) == (release == &c));
        let said = by_hand(release, "");
        assert!(said.ends_with(&format!("{release} serves")), "{said}");
        let status = checkout.json(&["status", "demo", "--json"]);
        assert_eq!(status["release"]["id"], release.as_str());
    }
    assert_eq!(environment(&checkout, &b), of_b);

    // What cannot be gone back to.
    let refused = |args: &[&str], says: &str| {
        let answer = checkout.run(&[&["rollback", "demo"], args].concat());
        assert_eq!(answer.code, 3, "{answer}");
        assert!(answer.stderr.contains(says), "expected `{says}`: {answer}");
    };
    refused(&[&b], "is what serves already");
    refused(&["20260101-000000-abc"], &format!("these can be gone back to: {c}"));
    let manifest = format!("{HOME}/releases/{c}/manifest.json");
    checkout.on_host(&format!(r#"sed -i 's/"schema":"/&x/' {manifest}"#));
    refused(&[&c], "--across-migration");
    assert!(by_hand(&c, "").contains("were migrated since"));
    assert_eq!(rollback(&checkout, &[&c, "--across-migration"]), c);

    // A release with another platform, and the way back to the one before.
    checkout.append("compose/dagster.yaml", "\n# of d\n");
    let checkout = checkout.with("DEPLOY_UI_PORT", "3210");
    checkout.deploy();
    let stands = || {
        checkout.on_host(&format!("cat {HOME}/platform/dagster.yaml {HOME}/platform/platform.env"))
    };
    assert!(stands().contains("# of d") && stands().contains("UI_PORT=3210"));
    assert_eq!(rollback(&checkout, &[]), c);
    assert!(!stands().contains("# of d") && stands().contains("UI_PORT=3000"));
    checkout.down();
}
