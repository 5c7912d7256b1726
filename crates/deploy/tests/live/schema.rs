//! Migrations of the warehouse: applied by a deploy or by hand, cut off, refused, and compared.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{fs, time::Duration};

use bench::{Answer, Checkout, wait_until};
use exec::{Line, Status};
use serde_json::Value;

use crate::{DEPLOY, HOME, id, without_test_job};

const LIMIT: Duration = Duration::from_mins(1);

/// Asks the warehouse of an environment.
pub(crate) fn sql(checkout: &Checkout, environment: &str, statement: &str) -> String {
    let project = format!("label=com.docker.compose.project=dagster-{environment}");
    let service = "label=com.docker.compose.service=dagster-postgres";
    checkout.on_host(&format!(
        "docker exec $(docker ps --quiet --filter {project} --filter {service}) \
         psql -U dagster -d warehouse -v ON_ERROR_STOP=1 -Atc \"{statement}\""
    ))
}

/// Writes a migration, in the place of one of the same name.
fn migration(checkout: &Checkout, name: &str, text: &str) {
    checkout.write(&format!("dagster_core/migrations/{name}.sql"), text);
}

fn status(checkout: &Checkout) -> Value {
    checkout.json(&["schema", "status", "demo", "--json"])
}

/// How each migration stands.
fn standings(checkout: &Checkout) -> Vec<String> {
    let status = status(checkout);
    let migrations = status["migrations"].as_array().unwrap().iter();
    migrations
        .map(|it| format!("{} {}", it["name"].as_str().unwrap(), it["standing"].as_str().unwrap()))
        .collect()
}

#[track_caller]
fn refused(checkout: &Checkout, args: &[&str], says: &[&str]) -> Answer {
    let answer = checkout.run(args);
    assert_eq!(answer.code, 3, "{args:?}: {answer}");
    for says in says {
        assert!(answer.stderr.contains(says), "expected `{says}`: {answer}");
    }
    answer
}

#[test]
fn the_warehouse_follows_its_migrations_and_what_was_done_by_hand_is_named() {
    let checkout = Checkout::new("schema", DEPLOY);
    checkout.write("env-templates/demo.env", &without_test_job(&checkout, "demo"));
    let first = checkout.deploy();
    let serving = checkout.containers();
    // The first deploy made the tables, and assets fill them as they are.
    let code = "$(docker ps --quiet --filter name=docker_dagster_core-)";
    let make =
        "dagster asset materialize --select time_zones --module-name dagster_core.definitions";
    checkout.on_host(&format!("docker exec --workdir /tmp --env HOME=/tmp {code} {make} 2>&1"));
    assert_ne!(sql(&checkout, "demo", "SELECT count(*) FROM time_zones"), "0");
    let level = status(&checkout);
    assert_eq!(level["aligned"], true, "{level}");
    assert!(level["dagster"].is_string(), "{level}");

    code_does_not_go_ahead_of_its_migrations(&checkout);
    assert_eq!(checkout.containers(), serving, "nothing was touched");
    let second = checkout.json(&["deploy", "demo", "--migrate", "--json"]);
    assert_eq!(second["release"]["migrations"][1]["name"], "0002_add_note", "{second}");
    assert_eq!(status(&checkout)["aligned"], true);
    let back = refused(&checkout, &["rollback", "demo"], &["--across-migration"]);
    assert!(back.stderr.contains("before the warehouse got `0002_add_note`"), "{back}");
    let dry = checkout.run(&["rollback", "demo", "--across-migration", "--dry-run"]);
    assert!(dry.stdout.contains("not undone: in the warehouse `0002_add_note`"), "{dry}");
    let script = format!("{HOME}/releases/{}/rollback.sh", id(&first));
    let by_hand = format!("su - deployer -c 'bash {script}' 2>&1 || true");
    let said = checkout.on_host(&by_hand);
    assert!(said.contains("migrated since: 0002_add_note stays"), "{said}");

    one_that_is_killed_half_way_leaves_nothing(&checkout);
    two_environments_are_compared_and_do_not_meet(&checkout);

    // What was applied is not changed any more.
    let first = checkout.read("dagster_core/migrations/0001_time_zones.sql");
    migration(&checkout, "0001_time_zones", &format!("{first}\n-- Another word.\n"));
    let changed = ["`0001_time_zones` changed after the warehouse of `demo` got it"];
    refused(&checkout, &["schema", "sync", "demo"], &changed);
    refused(&checkout, &["deploy", "demo", "--migrate"], &changed);
    checkout.down();
}

fn code_does_not_go_ahead_of_its_migrations(checkout: &Checkout) {
    const GOOD: &str = "ALTER TABLE time_zones ADD COLUMN note text;\n\
                        CREATE INDEX by_note ON time_zones (note);\n";

    // It does not work: its place is told, and nothing of it is there.
    migration(checkout, "0002_add_note", &GOOD.replace("INDEX", "INDEKS"));
    refused(checkout, &["deploy", "demo"], &["lacks `0002_add_note`", "--migrate"]);
    let place = "`dagster_core/migrations/0002_add_note.sql:2` was not applied";
    let why = "Postgres says: syntax error at or near \"INDEKS\"";
    refused(checkout, &["schema", "sync", "demo", "--dry-run"], &[place, why]);
    refused(checkout, &["deploy", "demo", "--migrate"], &[place, why]);
    migration(checkout, "0002_add_note", "SELECT 1;\nCOMMIT;\nSELECT 2;\n");
    let ends = "it ends the transaction that it is applied in";
    refused(checkout, &["schema", "sync", "demo", "--dry-run"], &[ends]);
    assert_eq!(standings(checkout), ["0001_time_zones applied", "0002_add_note pending"]);
    let columns = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'note'";
    assert_eq!(sql(checkout, "demo", columns), "0");
    migration(checkout, "0002_add_note", GOOD);
    let plan = checkout.run(&["plan", "demo"]);
    assert_eq!(plan.code, 3, "{plan}");
    assert!(
        plan.stdout.contains("migrations that the warehouse lacks:\n  0002_add_note"),
        "{plan}"
    );
    let plan = checkout.run(&["plan", "demo", "--migrate"]);
    assert!(plan.stdout.contains("apply what the warehouse lacks: `0002_add_note`"), "{plan}");
}

fn one_that_is_killed_half_way_leaves_nothing(checkout: &Checkout) {
    const WORKING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

    let text = "CREATE TABLE slow (id bigint PRIMARY KEY);\n";
    migration(checkout, "0003_slow", &format!("{text}SELECT pg_sleep(600);\n"));
    for signal in ["INT", "KILL"] {
        let sync = checkout.start(&[], &["schema", "sync", "demo", "--wait=1m"]);
        wait_until(LIMIT, "it is in the middle", || sql(checkout, "demo", WORKING) == "1");
        let locked = ["`demo` is locked: schema sync by", "at step 0003_slow"];
        refused(checkout, &["schema", "sync", "demo"], &locked);
        sync.signal(signal).unwrap();
        wait_until(LIMIT, "Postgres hears of it", || sql(checkout, "demo", WORKING) == "0");
        while let Line::Said(_) = sync.line(LIMIT) {}
        wait_until(LIMIT, "it ends", || sync.ended().unwrap().is_some());
        // Asked for in time, it undoes what it did.
        let code = sync.ended().unwrap().and_then(Status::code);
        assert_eq!(code, (signal == "INT").then_some(3));
        assert_eq!(sql(checkout, "demo", "SELECT to_regclass('slow') IS NULL"), "t");
    }

    migration(checkout, "0003_slow", text);
    let synced = checkout.json(&["schema", "sync", "demo", "--wait=1m", "--json"]);
    assert_eq!(synced["applied"], serde_json::json!(["0003_slow"]), "{synced}");
    assert_eq!(
        checkout.json(&["schema", "sync", "demo", "--json"])["applied"],
        serde_json::json!([])
    );
    // The release that serves knows of it.
    let release = &checkout.json(&["status", "demo", "--json"])["release"];
    assert_eq!(release["migrations"][2]["name"], "0003_slow", "{release}");
}

fn two_environments_are_compared_and_do_not_meet(checkout: &Checkout) {
    // The same VM and the same warehouse by name, and yet another one.
    let third = checkout.path("dagster_core/migrations/0003_slow.sql");
    let text = fs::read_to_string(&third).unwrap();
    fs::remove_file(&third).unwrap();
    checkout.write_env_prod_of_the_testbed();
    let variables = [("DEPLOY_TEST_JOB", "")];
    let deployed = checkout.run_with(&variables, &["deploy", "prod", "--yes", "--allow-dirty"]);
    assert_eq!(deployed.code, 0, "{deployed}");
    migration(checkout, "0003_slow", &text);
    sql(checkout, "demo", "INSERT INTO time_zones VALUES ('XX', 'Here/There', 0, 0)");
    assert_eq!(sql(checkout, "prod", "SELECT count(*) FROM time_zones"), "0");

    sql(checkout, "prod", "ALTER TABLE time_zones ALTER COLUMN note SET DEFAULT 'by hand'");
    sql(checkout, "demo", "DROP INDEX by_note");
    let drift = status(checkout)["drift"].clone();
    assert_eq!(drift.as_array().map(Vec::len), Some(1), "{drift}");
    assert_eq!(drift[0]["object"]["name"], "by_note", "{drift}");
    let diff = checkout.run(&["schema", "diff", "demo", "prod"]);
    let expected = "\
migrations that only demo has: 0003_slow
what follows from the migrations:
  table public.slow: only in demo
what no migration explains:
  column note of public.time_zones: text in demo, text default 'by hand'::text in prod (changed by hand in prod)
  index by_note of public.time_zones: only in prod: CREATE INDEX by_note ON public.time_zones USING btree (note) (changed by hand in demo)
";
    assert!(diff.stdout.starts_with(expected), "{diff}");

    // Production asks.
    refused(
        checkout,
        &["schema", "sync", "prod"],
        &["lacks, and gets:\n  0003_slow", "not confirmed"],
    );
    let all = checkout.json(&["history", "prod", "--all", "--json"]);
    assert_eq!(all["entries"][0]["verb"], "schema sync", "{all}");
    assert_eq!(all["entries"][0]["outcome"], "refused", "{all}");
}
