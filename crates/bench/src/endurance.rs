//! Deploys and rollbacks by turns, for as long as it takes, with runs of every origin in flight.

use std::{collections::BTreeMap, time::Duration};

use dagster::RunStatus;

use crate::{Checkout, Probe, Table, checkout::comes_true};

/// A schedule and a sensor that start runs all the time, as a team's own would.
const AUTOMATION: &str = r#"

from dagster_core.pipelines.wait_job import wait_job  # noqa: E402

_seconds = {"ops": {"wait": {"config": {"seconds": 5.0}}}}

every_minute = dg.ScheduleDefinition(
    name="every_minute",
    job=wait_job,
    cron_schedule="* * * * *",
    run_config=_seconds,
    tags={"origin": "scheduled"},
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.sensor(
    job=wait_job,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def every_few_seconds(context: dg.SensorEvaluationContext) -> dg.RunRequest:
    n = int(context.cursor or 0) + 1
    context.update_cursor(str(n))
    return dg.RunRequest(run_key=str(n), run_config=_seconds, tags={"origin": "sensed"})
"#;

/// What a host uses, and keeps.
#[derive(Debug, Clone, Copy)]
pub struct Use {
    /// Of the VM's memory, in MiB.
    pub memory: u64,
    /// Of its engine's disk, in MiB.
    pub disk: u64,
    /// Folders of releases.
    pub releases: u64,
    /// Containers, stopped ones too.
    pub containers: u64,
    /// Images.
    pub images: u64,
}

/// What came of it all.
#[derive(Debug)]
pub struct Endurance {
    /// Deploys and rollbacks.
    pub rounds: usize,
    /// Questions that the probe asked.
    pub asked: usize,
    /// Those that failed.
    pub failed: Vec<String>,
    /// Runs, by origin.
    pub runs: BTreeMap<String, usize>,
    /// Runs that did not succeed, or never ended.
    pub lost: Vec<String>,
    /// What was used at the begin, in the middle and at the end.
    pub uses: Vec<Use>,
    /// Verbs that failed.
    pub troubles: Vec<String>,
}

/// Runs so many deploys and rollbacks by turns.
pub fn endure(checkout: &Checkout, rounds: usize, mut each: impl FnMut(&str)) -> Endurance {
    let (automation, definitions) =
        (checkout.read("dagster_core/automation.py"), checkout.read("dagster_core/definitions.py"));
    let dagster = checkout.read("compose/dagster.yaml");
    // So few at once that runs queue.
    checkout.write(
        "compose/dagster.yaml",
        &dagster.replace("max_concurrent_runs: 10", "max_concurrent_runs: 3"),
    );
    checkout.write("dagster_core/automation.py", &(automation.clone() + AUTOMATION));
    let with = |list: &str, mine: &str| {
        (format!("[automation.{list}]"), format!("[automation.{list}, automation.{mine}]"))
    };
    let mut text = definitions.clone();
    for (old, new) in
        [with("nightly", "every_minute"), with("new_time_zone_tables", "every_few_seconds")]
    {
        assert!(text.contains(&old), "`{old}` is in definitions.py");
        text = text.replace(&old, &new);
    }
    checkout.write("dagster_core/definitions.py", &text);
    checkout.mark("mark_0");
    let probe = Probe::start(&checkout.deploy());
    checkout.mark("mark_1");
    checkout.deploy();

    let mut troubles = Vec::new();
    let mut uses = vec![use_of(checkout)];
    let mut launched = Vec::new();
    for round in 1..=rounds {
        // One that is in flight at the switch, and some that wait for a place.
        launched.push(probe.launch("wait_job", 20));
        if round % 5 == 1 {
            launched.extend((0..4).map(|_| probe.launch("wait_job", 5)));
        }
        let rollback = round % 2 == 0;
        let args: &[&str] = if rollback {
            &["rollback", "demo", "--yes"]
        } else {
            checkout.mark(&format!("mark_{}", round + 1));
            &["deploy", "demo"]
        };
        let done = checkout.run(args);
        if done.code != 0 {
            troubles.push(format!("round {round}: {args:?}: {done}"));
        }
        let (asked, failed) = probe.so_far();
        each(&format!(
            "{round} of {rounds}: {}, {} of {asked} probes failed",
            args[0],
            failed.len()
        ));
        if round == rounds.div_ceil(2) {
            uses.push(use_of(checkout));
        }
    }

    // A few quick rounds may fall between two minutes.
    let seen = |origin: &str| {
        let runs = probe.runs(&[RunStatus::Started, RunStatus::Success]);
        runs.iter().any(|it| it.tags.get("origin").is_some_and(|it| it == origin))
    };
    for origin in ["scheduled", "sensed"] {
        if !comes_true(Duration::from_mins(3), || seen(origin)) {
            troubles.push(format!("no run was {origin}"));
        }
    }
    // Without schedule and sensor, all runs end.
    checkout.write("dagster_core/automation.py", &automation);
    checkout.write("dagster_core/definitions.py", &definitions);
    checkout.mark("mark_last");
    checkout.deploy();
    let mut lost = Vec::new();
    if !comes_true(Duration::from_mins(5), || probe.runs(RunStatus::IN_FLIGHT).is_empty()) {
        lost.extend(probe.runs(RunStatus::IN_FLIGHT));
    }
    lost.extend(probe.runs(&[RunStatus::Failure, RunStatus::Canceled]));
    let mut lost: Vec<String> =
        lost.iter().map(|it| format!("{} {} is {}", it.id, it.job, it.status)).collect();
    let succeeded = probe.runs(&[RunStatus::Success]);
    let missing = launched.iter().filter(|id| !succeeded.iter().any(|it| it.id == **id));
    lost.extend(missing.map(|id| format!("{id} did not succeed")));
    let mut runs = BTreeMap::new();
    for run in &succeeded {
        let origin = match run.tags.get("origin") {
            Some(origin) => origin.as_str(),
            None if launched.contains(&run.id) => "started",
            None => "test job",
        };
        *runs.entry(origin.to_owned()).or_default() += 1;
    }
    let (asked, failed) = probe.stop();
    uses.push(use_of(checkout));
    Endurance { rounds, asked, failed, runs, lost, uses, troubles }
}

fn use_of(checkout: &Checkout) -> Use {
    let count = |script: &str| checkout.on_host(script).trim().parse().unwrap();
    Use {
        memory: checkout.memory(),
        disk: count("du -s --block-size=1M /var/lib/docker | cut -f1"),
        releases: count("ls -d /home/deployer/dagster-deploy/demo/releases/* | wc -l"),
        containers: count("docker ps --all --quiet | wc -l"),
        images: count("docker images --quiet --no-trunc | sort -u | wc -l"),
    }
}

impl Endurance {
    /// Whether nothing was lost, and all is bounded.
    pub fn is_fine(&self) -> bool {
        let Endurance { failed, lost, troubles, .. } = self;
        [failed, lost, troubles].iter().all(|it| it.is_empty()) && self.is_bounded()
    }

    /// Whether the host keeps what it should, and no more.
    pub fn is_bounded(&self) -> bool {
        // Five releases stay. What stopped since the last deploy goes with the next.
        let last = self.uses.last().expect("there is one of the end");
        last.releases <= 8 && last.containers <= 10 && last.images <= 12
    }

    /// What was used, and when.
    pub fn uses_table(&self) -> Table {
        let mut table = Table::new(["", "memory", "disk", "releases", "containers", "images"]);
        for (when, it) in ["begin", "middle", "end"].iter().zip(&self.uses) {
            table.row([
                (*when).to_owned(),
                format!("{} MiB", it.memory),
                format!("{} MiB", it.disk),
                it.releases.to_string(),
                it.containers.to_string(),
                it.images.to_string(),
            ]);
        }
        table
    }

    /// What was asked of it, and what was lost.
    pub fn table(&self) -> Table {
        let mut table = Table::new(["what", "how many", "lost"]);
        let row = |what: &str, all: usize, lost: usize| {
            [what.to_owned(), all.to_string(), lost.to_string()]
        };
        table.row(row("deploys and rollbacks", self.rounds, self.troubles.len()));
        table.row(row("probes, ten a second", self.asked, self.failed.len()));
        let all = self.runs.values().sum::<usize>() + self.lost.len();
        table.row(row("runs", all, self.lost.len()));
        for (origin, n) in &self.runs {
            table.row(row(&format!("  of these: {origin}"), *n, 0));
        }
        table
    }
}
