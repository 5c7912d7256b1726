//! Ends a verb at every step, in every way in which one can end, and looks what is left.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use dagster::{RunId, RunStatus};
use exec::{Line, Running};

use crate::{Checkout, Link, Probe, Relay, Table, checkout::comes_true};

/// How a verb is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to the program alone: it can tidy nothing.
    Kill,
    /// SIGINT to the program and all it started, as Ctrl-C sends it.
    Interrupt,
    /// Its connection is closed.
    Close,
    /// Its connection is silent, and nobody is told: a pulled cable.
    Cut,
}

/// The verb that is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scene {
    /// A deploy of changed code.
    Deploy,
    /// A rollback to the warm release.
    Rollback,
    /// A deploy that changes the platform too.
    Platform,
}

/// One fault, and what came of it.
#[derive(Debug, Clone)]
pub struct Strike {
    /// The verb.
    pub scene: Scene,
    /// The step that had just ended.
    pub after: String,
    /// What happened then.
    pub fault: Fault,
    /// Whether the step came: it does not if there is nothing to do for it.
    pub came: bool,
    /// The verb's exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// `old` or `new`, as Dagster serves it then; or why nothing is served.
    pub serves: String,
    /// From the fault until the lock was free.
    pub free: Duration,
    /// From the fault until the verb had ended.
    pub ended: Duration,
    /// Whether the next deploy succeeded; none if there was none before the next fault.
    pub healed: Option<bool>,
    /// What should not be.
    pub troubles: Vec<String>,
}

/// A platform that is deployed to and struck, again and again, under one probe.
pub struct Range<'a> {
    checkout: &'a Checkout,
    probe: &'a Probe,
    depth: Depth,
    /// What served before the last deploy: a rollback goes back to it.
    warm: String,
    marks: usize,
    runs: Vec<RunId>,
    failed: usize,
    /// The steps that a whole verb was seen to take, as it was last seen.
    steps: [Vec<String>; 3],
}

/// How a struck verb ended.
struct End {
    code: Option<i32>,
    ended: Duration,
    free: Duration,
    trouble: Option<String>,
}

/// In short, so many strikes follow upon each other before one is healed.
const HEALED_ONE_OF: usize = 3;

/// The platform is made for the test, and is not what is struck.
const NOT_STRUCK: [&str; 2] = ["machine", "testbed"];

/// How the steps begin that touch nothing on the host. In short they are not struck.
const ELSEWHERE: [&str; 5] = ["connect", "find ", "build ", "push ", "tunnel"];

/// No verb takes longer, on a busy machine.
const LIMIT: Duration = Duration::from_mins(5);

/// The platform is up again by then.
const PATIENCE: Duration = Duration::from_mins(2);

/// A run that is in flight while a verb is struck takes so many seconds.
const RUN: u32 = 15;

impl Scene {
    fn args(self) -> &'static [&'static str] {
        match self {
            Scene::Deploy | Scene::Platform => &["deploy", "demo"],
            Scene::Rollback => &["rollback", "demo", "--yes"],
        }
    }

    /// How long it may take until something serves. A webserver that is made anew takes its time.
    fn patience(self) -> Duration {
        match self {
            Scene::Deploy | Scene::Rollback => Duration::ZERO,
            Scene::Platform => PATIENCE,
        }
    }

    /// A setting that the platform's containers are made anew for.
    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Scene::Deploy | Scene::Rollback => &[],
            Scene::Platform => &[("DEPLOY_DAEMON_MEMORY", "1100m")],
        }
    }
}

impl Fault {
    /// Every way.
    pub const ALL: [Fault; 4] = [Fault::Kill, Fault::Interrupt, Fault::Close, Fault::Cut];

    fn strike(self, running: &Running, relay: Option<&Relay>) {
        // One that has ended already is not there to be signalled.
        match (self, relay) {
            (Fault::Kill, _) => drop(running.signal("KILL")),
            (Fault::Interrupt, _) => drop(running.signal_group("INT")),
            (Fault::Close, Some(relay)) => relay.close(),
            (Fault::Cut, Some(relay)) => relay.cut(),
            (Fault::Close | Fault::Cut, None) => unreachable!("a connection goes by a relay"),
        }
    }
}

/// How much is done about each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Each step in each way, each strike healed by a whole deploy.
    Whole,
    /// Each step on the host once, in the ways by turns; some strikes follow upon each other unhealed, and the
    /// test job is run where it is struck only.
    Short,
}

impl<'a> Range<'a> {
    /// A platform that has been deployed to once. It is deployed to once more, so that there is a
    /// warm release.
    pub fn new(checkout: &'a Checkout, probe: &'a Probe, depth: Depth) -> Range<'a> {
        let mut range = Range {
            checkout,
            probe,
            depth,
            warm: String::new(),
            marks: 0,
            runs: Vec::new(),
            failed: 0,
            steps: Default::default(),
        };
        range.deploy().unwrap();
        range
    }

    /// Strikes every step of a verb. Steps that are only seen on the way are struck too.
    pub fn strike_all(
        &mut self,
        scene: Scene,
        faults: &[Fault],
        mut each: impl FnMut(&Strike),
    ) -> Vec<Strike> {
        let mut strikes: Vec<Strike> = Vec::new();
        let mut struck = BTreeSet::new();
        if self.steps[scene as usize].is_empty() {
            self.rehearse(scene);
        }
        loop {
            let ways = match self.depth {
                Depth::Whole => faults,
                Depth::Short => &faults[strikes.len() % faults.len()..][..1],
            };
            let mut steps = self.steps[scene as usize].iter();
            let next = steps.find_map(|step| {
                if self.depth == Depth::Short && ELSEWHERE.iter().any(|it| step.starts_with(it)) {
                    return None;
                }
                let key = |fault: Fault| match self.depth {
                    Depth::Whole => (step.clone(), Some(fault)),
                    Depth::Short => (step.clone(), None),
                };
                let fault = ways.iter().find(|&&fault| !struck.contains(&key(fault)))?;
                Some((key(*fault), *fault))
            });
            let Some((key, fault)) = next else { return strikes };
            let heal = self.depth == Depth::Whole
                || scene != Scene::Deploy
                || HEALED_ONE_OF
                    <= strikes.iter().rev().take_while(|it| it.healed.is_none()).count();
            let strike = self.strike(scene, &key.0, fault, heal);
            each(&strike);
            struck.insert(key);
            strikes.push(strike);
        }
    }

    /// Ends a verb when a step has ended, and looks. Then deploys, which heals what was left.
    pub fn strike(&mut self, scene: Scene, after: &str, fault: Fault, heal: bool) -> Strike {
        let old = self.serving(scene.patience()).unwrap_or_default();
        let new = match scene {
            Scene::Deploy | Scene::Platform => self.mark(),
            Scene::Rollback => self.warm.clone(),
        };
        self.runs.push(self.probe.launch("wait_job", RUN));
        let through = matches!(fault, Fault::Close | Fault::Cut)
            .then(|| self.checkout.ssh_through(Link::default()));
        let (relay, more) = through.unzip();
        let mut variables = scene.variables().to_vec();
        variables.extend(more.iter().flatten().map(|(key, value)| (*key, value.as_str())));
        variables.extend(self.without_test_job(after));

        let running = self.checkout.start(&variables, scene.args());
        let mut said = Vec::new();
        let came = until_step(&running, after, &mut said);
        let began = Instant::now();
        if came {
            fault.strike(&running, relay.as_ref());
        }
        let end = self.end_of(&running, began);
        while let Line::Said(line) = running.line(Duration::from_secs(1)) {
            said.push(line);
        }
        let mut strike = Strike {
            scene,
            after: after.to_owned(),
            fault,
            came,
            code: end.code,
            serves: String::new(),
            free: end.free,
            ended: end.ended,
            healed: None,
            troubles: end.trouble.into_iter().collect(),
        };
        match self.serving(scene.patience()) {
            Ok(mark) if mark == new => "new".clone_into(&mut strike.serves),
            Ok(mark) if mark == old => "old".clone_into(&mut strike.serves),
            Ok(mark) => {
                let what = format!("neither `{old}` nor `{new}` is served, but `{mark}`");
                strike.troubles.push(what);
                strike.serves = mark;
            }
            Err(why) => {
                strike.troubles.push(format!("nothing is served: {why}"));
                strike.serves = why;
            }
        }
        if heal {
            let healed = self.deploy();
            strike.healed = Some(healed.is_ok());
            strike.troubles.extend(healed.err());
            strike.troubles.extend(self.left());
        }
        strike.troubles.extend(self.failed_probes(scene));
        if !strike.troubles.is_empty() {
            strike.troubles.push(format!("it had said:\n{}", said.join("\n")));
        }
        strike
    }

    /// Waits until a struck verb has ended and the lock is free.
    fn end_of(&self, running: &Running, began: Instant) -> End {
        let (mut free, mut ended, mut code) = (None, None, None);
        let settled = comes_true(LIMIT, || {
            if ended.is_none()
                && let Some(status) = running.ended().unwrap()
            {
                code = status.code();
                ended = Some(began.elapsed());
            }
            if free.is_none() && self.checkout.is_unlocked() {
                free = Some(began.elapsed());
            }
            free.is_some() && ended.is_some()
        });
        if !settled {
            let _ = running.signal_group("KILL");
        }
        let what = if free.is_none() { "the lock is held" } else { "it goes on" };
        End {
            code,
            ended: ended.unwrap_or(LIMIT),
            free: free.unwrap_or(LIMIT),
            trouble: (!settled).then(|| format!("{what} after {} s", LIMIT.as_secs())),
        }
    }

    /// Deploys once more and waits until all runs have ended. Answers what is too much then, or was
    /// lost; nothing, if all is well.
    pub fn settle(&mut self) -> Vec<String> {
        let mut troubles: Vec<String> = self.deploy().err().into_iter().collect();
        troubles.extend(self.lost_runs());
        troubles.extend(self.left());
        troubles
    }

    /// Waits for all runs, and answers those that did not succeed.
    fn lost_runs(&self) -> Vec<String> {
        let quiet = || self.probe.runs(RunStatus::IN_FLIGHT).is_empty();
        let mut lost = Vec::new();
        if !comes_true(Duration::from_mins(3), quiet) {
            let stuck = self.probe.runs(RunStatus::IN_FLIGHT);
            lost.extend(stuck.iter().map(|it| format!("{} {} is {}", it.id, it.job, it.status)));
        }
        let failed = self.probe.runs(&[RunStatus::Failure, RunStatus::Canceled]);
        lost.extend(failed.iter().map(|it| format!("{} {} is {}", it.id, it.job, it.status)));
        let succeeded = self.probe.runs(&[RunStatus::Success]);
        let is_missing = |run: &&RunId| !succeeded.iter().any(|it| it.id == **run);
        lost.extend(self.runs.iter().filter(is_missing).map(|run| format!("{run} is missing")));
        lost
    }

    /// How many runs were in flight while something was struck.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Does a verb whole, to learn its steps.
    fn rehearse(&mut self, scene: Scene) {
        if scene == Scene::Platform {
            self.mark();
        }
        let done = self.checkout.run_with(scene.variables(), scene.args());
        assert_eq!(done.code, 0, "{scene}: {done}");
        self.learn(scene, &done.stderr);
        // From where the strikes begin.
        self.deploy().unwrap();
    }

    fn learn(&mut self, scene: Scene, said: &str) {
        let known = &mut self.steps[scene as usize];
        let steps = said.lines().filter_map(step).filter(|it| !NOT_STRUCK.contains(it));
        let steps: Vec<String> = steps.map(str::to_owned).collect();
        // What this verb had no reason to do, another had.
        let rest: Vec<String> = known.iter().filter(|it| !steps.contains(it)).cloned().collect();
        *known = steps;
        known.extend(rest);
    }

    /// Changes the code.
    fn mark(&mut self) -> String {
        self.marks += 1;
        let mark = format!("mark_{}", self.marks);
        self.checkout.mark(&mark);
        mark
    }

    /// Deploys a change, which must be what serves then.
    fn deploy(&mut self) -> Result<(), String> {
        let before = self.serving(PATIENCE)?;
        let mark = self.mark();
        let variables = self.without_test_job("");
        let done = self.checkout.run_with(variables, Scene::Deploy.args());
        if done.code != 0 {
            return Err(format!("the next deploy failed: {done}"));
        }
        self.learn(Scene::Deploy, &done.stderr);
        let serves = self.serving(PATIENCE)?;
        if serves != mark {
            return Err(format!("the next deploy serves `{serves}`, not `{mark}`"));
        }
        self.warm = before;
        Ok(())
    }

    /// The mark that is served; the first deploy has none.
    fn serving(&self, patience: Duration) -> Result<String, String> {
        let mut assets = self.probe.try_assets();
        comes_true(patience, || {
            if assets.is_err() {
                assets = self.probe.try_assets();
            }
            assets.is_ok()
        });
        let assets = assets.map_err(|error| error.to_string())?;
        let marks = assets.into_iter().filter(|it| it.starts_with("mark_"));
        Ok(marks.collect::<Vec<_>>().join(" and "))
    }

    /// What is left of struck verbs.
    fn left(&self) -> Vec<String> {
        let mut left = self.checkout.leftovers();
        // The live one and the warm one; others end with their last run.
        if !comes_true(Duration::from_mins(2), || self.checkout.code_servers() <= 2) {
            left.push(format!("{} code servers run", self.checkout.code_servers()));
        }
        left
    }

    /// The probes that failed since the last look.
    fn failed_probes(&mut self, scene: Scene) -> Vec<String> {
        let (_, failed) = self.probe.so_far();
        let new = failed[std::mem::replace(&mut self.failed, failed.len())..].iter();
        // A change of the platform makes the webserver anew.
        let matters = scene != Scene::Platform;
        new.filter(|_| matters).map(|it| format!("a probe failed: {it}")).collect()
    }

    /// The test job takes its time: in short, it is run where it is struck only.
    fn without_test_job(&self, struck: &str) -> &'static [(&'static str, &'static str)] {
        let whole = self.depth == Depth::Whole || struck == "test job";
        if whole { &[] } else { &[("DEPLOY_TEST_JOB", "")] }
    }
}

/// Reads on until a step has ended. Answers whether it came.
fn until_step(running: &Running, name: &str, said: &mut Vec<String>) -> bool {
    loop {
        match running.line(LIMIT) {
            Line::Said(line) => {
                let found = step(&line) == Some(name);
                said.push(line);
                if found {
                    return true;
                }
            }
            Line::Ended | Line::Silent => return false,
        }
    }
}

/// The step that a line of the timeline tells the end of: `  build core      1.2 s  4 steps`.
fn step(line: &str) -> Option<&str> {
    let line = line.strip_prefix("  ").filter(|it| !it.starts_with(' '))?;
    let (before, _) = line.split_once(" s  ").or_else(|| Some((line.strip_suffix(" s")?, "")))?;
    let (name, seconds) = before.rsplit_once(' ')?;
    seconds.parse::<f64>().ok()?;
    Some(name.trim_end())
}

/// What was struck, and what came of it.
pub fn strikes_table(strikes: &[Strike]) -> Table {
    let mut table = Table::new([
        "verb",
        "step that had ended",
        "fault",
        "exit code",
        "it ended after",
        "lock free after",
        "then serves",
        "next deploy",
    ]);
    for it in strikes {
        let seconds = |it: Duration| format!("{:.1} s", it.as_secs_f64());
        table.row([
            it.scene.to_string(),
            it.after.clone(),
            if it.came { it.fault.to_string() } else { "(the step did not come)".to_owned() },
            it.code.map_or("killed".to_owned(), |it| it.to_string()),
            seconds(it.ended),
            seconds(it.free),
            it.serves.clone(),
            match (it.healed, it.troubles.is_empty()) {
                (Some(true), true) => "heals".to_owned(),
                (Some(true), false) => "succeeds, but".to_owned(),
                (Some(false), _) => "FAILS".to_owned(),
                (None, _) => "is struck too".to_owned(),
            },
        ]);
    }
    table
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Kill => "SIGKILL",
            Fault::Interrupt => "SIGINT",
            Fault::Close => "connection closed",
            Fault::Cut => "cable pulled",
        })
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scene::Deploy => "deploy",
            Scene::Rollback => "rollback",
            Scene::Platform => "platform change",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_known_by_the_line_that_tells_its_end() {
        assert_eq!(step("  build core      1.2 s  4 steps, 3 cached"), Some("build core"));
        assert_eq!(step("  switch          0.1 s"), Some("switch"));
        assert_eq!(step("  switched back: it serves again"), None);
        assert_eq!(step("    caused by: 1.2 s  of nothing"), None);
        assert_eq!(step("  started the registry and the VM (1.2 s)"), None);
    }
}
