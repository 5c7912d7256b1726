//! What people read before they deploy, and what becomes of runs.

use std::time::Duration;

use bench::{Arguments, Checkout, Probe, wait_until};
use dagster::{RunId, RunStatus};

use crate::DEPLOY;

const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn a_plan_tells_what_would_change_and_runs_are_healed_waited_for_or_canceled() {
    let checkout = Checkout::new("plan", DEPLOY);
    let first = checkout.deploy();
    let probe = Probe::start(&first);
    let start = |seconds| {
        let run = probe.launch("wait_job", seconds);
        wait_until(LIMIT, "the run starts", || probe.run_status(&run) == RunStatus::Started);
        run
    };
    a_run_whose_code_server_was_killed_is_healed_and_no_other(&checkout, &probe, &start);

    // A run that is waited for has ended when the deploy has.
    let short = start(20);
    checkout.add_asset("another_asset");
    checkout.json(&["deploy", "demo", "--runs", "drain", "--json"]);
    assert_eq!(probe.run_status(&short), RunStatus::Success);

    // A job goes while a run of it works and one waits, for the daemon is held.
    let working = start(600);
    let daemon =
        "$(docker ps --all --quiet --filter label=com.docker.compose.service=dagster-daemon)";
    let signal = |signal: &str| {
        // A look at its health may have ended between the two.
        let each = format!("xargs kill -{signal} || true");
        checkout.on_host(&format!("docker top {daemon} -o pid | tail -n +2 | {each}"));
    };
    signal("STOP");
    let waiting = probe.launch("wait_job", 600);
    a_plan_shows_it_all_and_no_secret(&checkout, &waiting);
    signal("CONT");
    wait_until(LIMIT, "it starts", || probe.run_status(&waiting) == RunStatus::Started);

    // A plan on paper is carried out as it is, or not at all.
    let planned = checkout.run(&["plan", "demo", "--out", "plan.json", "--runs", "cancel"]);
    assert_eq!(planned.code, 0, "{planned}");
    assert!(planned.stdout.contains(". cancel the runs of "), "{planned}");
    let refused = |says: &str| {
        let answer = checkout.run(&["apply", "plan.json"]);
        assert_eq!(answer.code, 3, "{answer}");
        assert!(answer.stderr.contains(says), "expected `{says}`: {answer}");
    };
    let assets = checkout.read("dagster_core/assets.py");
    checkout.append("dagster_core/assets.py", "# another\n");
    refused("the plan was made from another version of the code");
    checkout.write("dagster_core/assets.py", &assets);
    checkout.on_host(&format!("docker stop --time 5 {daemon}"));
    refused("`demo` has moved since the plan was made: now dagster-daemon is not running");
    checkout.on_host(&format!("docker start {daemon}"));
    let applied = checkout.json(&["apply", "plan.json", "--json"]);
    assert_eq!(applied["changed"], true);
    for run in [&working, &waiting] {
        assert_eq!(probe.run_status(run), RunStatus::Canceled);
    }
    let runs = checkout.json(&["runs", "list", "demo", "--json"]);
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(0), "{runs}");
    probe.stop();
    checkout.down();
}

fn a_run_whose_code_server_was_killed_is_healed_and_no_other(
    checkout: &Checkout,
    probe: &Probe,
    start: &dyn Fn(u32) -> RunId,
) {
    let zombie = start(600);
    let code = "$(docker ps --all --quiet --filter name=docker_dagster_core-)";
    checkout.on_host(&format!("docker kill --signal KILL {code}"));
    let status = checkout.run(&["status", "demo"]);
    assert!(status.stdout.contains("a zombie: docker_dagster_core-"), "{status}");
    assert!(status.stdout.contains("has stopped"), "{status}");
    checkout.on_host(&format!("docker start {code}"));
    let alive = start(600);
    let list = checkout.run(&["runs", "list", "demo"]);
    assert!(list.stdout.contains("was started anew after it began"), "{list}");

    let asked = checkout.run(&["runs", "heal", "demo"]);
    assert_eq!(asked.code, 3, "it asks, and nobody answers: {asked}");
    assert_eq!(probe.run_status(&zombie), RunStatus::Started);
    let healed = checkout.json(&["runs", "heal", "demo", "--yes", "--json"]);
    assert_eq!(healed["runs"][0]["id"], zombie.as_str(), "{healed}");
    assert_eq!(probe.run_status(&zombie), RunStatus::Canceled);
    assert_eq!(probe.run_status(&alive), RunStatus::Started, "it is not touched");
    let again = checkout.run(&["runs", "heal", "demo", "--yes"]);
    assert!(again.stdout.starts_with("nothing to heal"), "{again}");
    probe.terminate(&alive);
}

/// Changes the code, so that a job goes and a schedule comes that starts by itself.
fn a_plan_shows_it_all_and_no_secret(checkout: &Checkout, waiting: &RunId) {
    const CANARY: &str = "canary-91c4";

    let serving = checkout.containers();
    let automation = checkout.read("dagster_core/automation.py");
    let schedule = "\n\nyearly = dg.ScheduleDefinition(\n    name=\"yearly\",\n    job=refresh_job,\n    \
                    cron_schedule=\"0 0 1 1 *\",\n    execution_timezone=\"UTC\",\n    \
                    default_status=dg.DefaultScheduleStatus.RUNNING,\n)\n";
    checkout.write("dagster_core/automation.py", &(automation + schedule));
    let definitions = checkout
        .read("dagster_core/definitions.py")
        .replace(", wait_job]", "]")
        .replace("[automation.nightly]", "[automation.nightly, automation.yearly]");
    checkout.write("dagster_core/definitions.py", &definitions);

    let env = [("POSTGRES_PASSWORD", CANARY), ("WAREHOUSE_DB", "warehouse_two")];
    let plan = |code: i32, says: &[&str]| {
        let watch = Arguments::watch(CANARY);
        let answer = checkout.run_with(&env, &["deploy", "demo", "--dry-run"]);
        assert_eq!(watch.stop().found, Vec::<String>::new(), "in arguments of processes");
        assert_eq!(answer.code, code, "{answer}");
        for it in says {
            assert!(answer.stdout.contains(it), "expected `{it}`: {answer}");
        }
        assert!(!format!("{answer}").contains(CANARY), "the secret is shown");
        assert_eq!(checkout.containers(), serving, "nothing is touched");
    };
    let waits = format!("! needed by the run {} wait_job QUEUED for ", &waiting.as_str()[..8]);
    plan(
        0,
        &[
            "in no commit:\n  dagster_core/automation.py\n  dagster_core/definitions.py\n",
            "~ POSTGRES_PASSWORD, a secret, changed",
            "~ WAREHOUSE_DB = \"warehouse\" -> \"warehouse_two\"",
            "- job wait_job",
            &waits,
            "+ schedule yearly: cron 0 0 1 1 * (UTC), starts refresh_time_zones; it starts by itself",
            "wait_job STARTED for ",
            ", in docker_dagster_core-",
        ],
    );
    // Code that does not load is refused, with its traceback.
    let automation = checkout.read("dagster_core/automation.py");
    checkout.append("dagster_core/automation.py", "\nraise RuntimeError('no such luck')\n");
    plan(3, &["dagster_core/automation.py\", line ", "RuntimeError: no such luck"]);
    checkout.write("dagster_core/automation.py", &automation);
}
