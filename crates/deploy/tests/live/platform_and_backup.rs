//! What a change of the platform keeps, and what a backup brings back.

use std::{fs, time::Duration};

use bench::{Checkout, Probe, wait_until};
use dagster::RunStatus;
use serde_json::Value;

use crate::{DEPLOY, HOME};

/// The revision before Dagster's newest. What lies between them concerns MySQL alone.
const BEFORE: &str = "f495c27d5019";

/// Asks the environment's Postgres.
fn sql(checkout: &Checkout, database: &str, statement: &str) -> String {
    let postgres = "docker ps --quiet --filter label=com.docker.compose.service=dagster-postgres";
    checkout.on_host(&format!(
        "docker exec $({postgres}) psql -U dagster -d {database} -v ON_ERROR_STOP=1 -Atc \"{statement}\""
    ))
}

#[test]
fn a_changed_platform_loses_no_run_and_a_backup_brings_the_data_back() {
    let checkout = Checkout::new("platform", DEPLOY);
    let dagster_yaml = checkout.read("compose/dagster.yaml");
    let concurrent = |runs: u32| {
        let line = format!("max_concurrent_runs: {runs}");
        dagster_yaml.replace("max_concurrent_runs: 10", &line)
    };
    checkout.write("compose/dagster.yaml", &concurrent(1));
    let first = checkout.deploy();
    let serving = checkout.containers();

    // What Dagster cannot read is refused in its words, and nothing is touched.
    checkout.write("compose/dagster.yaml", &concurrent(1).replace("retention:", "retentoin:"));
    let refused = checkout.run(&["deploy", "demo"]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("unexpected config entry \"retentoin\""), "{refused}");
    assert_eq!(checkout.containers(), serving);

    // A new dagster.yaml and a new image, with an older schema in the database, while one run works
    // and one waits in the queue.
    let head = sql(&checkout, "dagster", "SELECT version_num FROM alembic_version");
    sql(&checkout, "dagster", &format!("UPDATE alembic_version SET version_num = '{BEFORE}'"));
    checkout.write("compose/dagster.yaml", &concurrent(2));
    checkout.append("compose/platform/daemon.py", "\n# Another image.\n");
    let probe = Probe::start(&first);
    let works = probe.launch("wait_job", 60);
    let limit = Duration::from_mins(3);
    wait_until(limit, "the run starts", || probe.run_status(&works) == RunStatus::Started);
    let waits = probe.launch("wait_job", 1);
    assert_eq!(probe.run_status(&waits), RunStatus::Queued);
    let changed = checkout.run(&["deploy", "demo", "--json"]);
    assert_eq!(changed.code, 0, "{changed}");
    let said: Value = serde_json::from_str(&changed.stdout).unwrap();
    assert_eq!(said["release"]["schema"], head.as_str(), "{changed}");
    for run in [&works, &waits] {
        wait_until(limit, "the run ends", || probe.run_status(run).is_final());
        assert_eq!(probe.run_status(run), RunStatus::Success);
    }
    // The webserver is one: while Compose replaces it, nobody answers.
    let (asked, failed) = probe.stop();
    println!("{} of {asked} probes failed while the webserver was replaced", failed.len());
    assert_eq!(sql(&checkout, "dagster", "SELECT version_num FROM alembic_version"), head);
    let dumps = checkout.on_host(&format!("ls {HOME}/backups/*-before-migration.tar"));
    assert_eq!(dumps.lines().count(), 1, "{dumps}");
    let daemons = "docker ps --quiet --filter label=com.docker.compose.service=dagster-daemon";
    assert_eq!(checkout.on_host(daemons).lines().count(), 1);

    // The data as they are, saved.
    sql(&checkout, "warehouse", "CREATE TABLE kept AS SELECT * FROM generate_series(1, 1000) n");
    let saved = checkout.json(&["backup", "demo", "saved.tar", "--json"]);
    let databases = saved["archive"]["databases"].as_array().unwrap();
    assert_eq!(databases.len(), 2);
    assert_eq!(databases[1]["tables"]["public.kept"]["rows"], 1000);
    assert_eq!(checkout.run(&["backup", "demo", "saved.tar"]).code, 3, "none is overwritten");

    // They change; what would be lost by going back is told, and not touched.
    sql(&checkout, "warehouse", "DELETE FROM kept WHERE n > 7");
    let probe = Probe::start(&first);
    let later = probe.launch("wait_job", 600);
    wait_until(limit, "the run starts", || probe.run_status(&later) == RunStatus::Started);
    let whole = fs::read(checkout.path("saved.tar")).unwrap();
    fs::write(checkout.path("short.tar"), &whole[..whole.len() / 2]).unwrap();
    let refuse = |args: &[&str], says: &str| {
        let refused = checkout.run(args);
        assert_eq!(refused.code, 3, "{refused}");
        assert!(refused.stderr.contains(says), "expected `{says}`: {refused}");
    };
    refuse(&["restore", "demo", "short.tar", "--yes"], "is no whole backup");
    refuse(&["restore", "demo", "saved.tar"], "not confirmed");
    refuse(&["restore", "demo", "saved.tar", "--yes"], "1 run is not over");

    // And back.
    let serving = checkout.containers();
    let args = ["restore", "demo", "saved.tar", "--yes", "--runs=cancel", "--json"];
    let restored = checkout.json(&args);
    assert_eq!(restored["archive"], saved["archive"]);
    assert_eq!(sql(&checkout, "warehouse", "SELECT count(*) FROM kept"), "1000");
    let runs = sql(&checkout, "dagster", "SELECT count(*) FROM runs WHERE status = 'CANCELED'");
    assert_eq!(runs, "0", "the canceled run began after the backup");
    assert_eq!(probe.run_status(&works), RunStatus::Success);
    let (_, _) = probe.stop();
    let left = sql(&checkout, "dagster", "SELECT count(*) FROM pg_database WHERE datname ~ '_'");
    assert_eq!(left, "0", "databases beside");
    let backup = restored["backup"].as_str().unwrap();
    assert!(checkout.on_host(&format!("tar --list --file {backup}")).contains("dagster.dump"));
    assert_eq!(checkout.containers(), serving);
    assert_eq!(checkout.deploy()["changed"], false);
    checkout.down();
}
