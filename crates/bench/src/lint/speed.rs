//! How long each takes.

use std::{
    array,
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Instant, SystemTime},
};

use serde_json::Value;

use super::{BIG, Base, Files, Hook, Kit, Repo, SMALL, door::Door, told};
use crate::{Goal, Section, Table, table::median};

const EVERYONE: [Hook; 7] = [
    Hook::Ours,
    Hook::Prek,
    Hook::PrekAtOnce,
    Hook::PreCommit,
    Hook::Lefthook,
    Hook::InSequence,
    Hook::AtOnce,
];

/// What was measured: seconds, by what was done and by whom.
#[derive(Default)]
struct Seconds(BTreeMap<(&'static str, Hook), Vec<f64>>);

const ONE: &str = "one staged file";
const TEN: &str = "ten staged files";
const TEXT: &str = "only a `.md` staged";
const COLD: &str = "all files, no cache";
const UNCHANGED: &str = "all files, unchanged since they were found clean";
const WARM: &str = "all files, one of them edited since";

/// Measures, by turns, with everybody's caches warm unless it is said that they are not.
pub fn speed(kit: &Kit, rounds: usize, command: String, tell: &dyn Fn(&str)) -> Section {
    let mut seconds = Seconds::default();
    tell("making the repositories");
    let small = Side::all(kit, SMALL, &EVERYONE);
    let big_judges = [Hook::Ours, Hook::Prek, Hook::PreCommit, Hook::Lefthook, Hook::AtOnce];
    let big = Side::all(kit, BIG, &big_judges);
    let door = Door::new(kit);
    let (mut doors, mut hooks) = (Vec::new(), Vec::new());
    // Whoever takes tens of seconds is asked less often.
    let few = rounds.div_ceil(3);
    for round in 1..=rounds {
        tell(&format!("round {round} of {rounds}"));
        for side in &small {
            seconds.add(ONE, side.hook, side.edited(kit, 1));
            seconds.add(TEN, side.hook, side.edited(kit, 10));
            if side.is_orchestrated() {
                seconds.add(TEXT, side.hook, side.with_text(kit));
            }
            if !matches!(side.hook, Hook::PrekAtOnce | Hook::InSequence) {
                seconds.add(COLD, side.hook, side.cold(kit));
            }
        }
        doors.push(door.first_byte(round));
        hooks.push(door.hook_alone(round));
        for side in big.iter().filter(|it| round <= few || it.hook == Hook::Ours) {
            // The others, too, run all linters on all files again.
            if matches!(side.hook, Hook::Ours | Hook::Prek) {
                seconds.add(UNCHANGED, side.hook, side.time(kit, Files::All));
            }
            side.edit(1);
            seconds.add(WARM, side.hook, side.time(kit, Files::All));
            side.repo.commit();
        }
    }
    section(rounds, few, command, &seconds, median(&doors), median(&hooks))
}

fn section(
    rounds: usize,
    few: usize,
    command: String,
    seconds: &Seconds,
    door: f64,
    hook: f64,
) -> Section {
    let (small, big) = (SMALL.to_string(), BIG.to_string());
    let head: [&str; 8] =
        array::from_fn(|n| n.checked_sub(1).map_or("milliseconds, median", |n| EVERYONE[n].name()));
    let mut table = Table::new(head);
    let rows = [ONE, TEN, TEXT, COLD].map(|it| (it, &small)).into_iter();
    for (what, base) in rows.chain([UNCHANGED, WARM].map(|it| (it, &big))) {
        table.row::<8>(array::from_fn(|n| match n.checked_sub(1) {
            None => format!("{what} ({base})"),
            Some(n) => match seconds.of(what, EVERYONE[n]) {
                it if it.is_nan() => String::new(),
                it => format!("{:.0}", it * 1000.0),
            },
        }));
    }
    let to = |what, other| seconds.of(what, Hook::Ours) / seconds.of(what, other);
    let ratio = |what, limit| {
        Goal::at_most(&format!("{what}, of prek's time"), to(what, Hook::Prek), limit, "")
    };
    let unchanged = seconds.of(UNCHANGED, Hook::Ours) * 1000.0;
    Section {
        command,
        about: format!(
            "The same four linters of one environment over the code of {small} and {big}, made \
             clean first, judged by turns in {rounds} rounds ({few} for what takes tens of \
             seconds). An edit changes the body of one function in each file that is staged. \
             Mypy judges the whole program each time, as everybody else has it do by `mypy .`; \
             `cargo xtask lint` is the program that the hook calls.\n\n\
             The first judged byte is timed from the start of `git commit` to the start of the \
             first linter's process: a clock reading by a stand-in for the linters' Python, with \
             no waiting process that has them imported. What the hook costs where nothing is to \
             be judged is a commit of a `.md` with it, less one without."
        ),
        tables: vec![table],
        goals: vec![
            ratio(ONE, 0.25),
            ratio(TEN, 0.3),
            ratio(TEXT, 1.0),
            Goal::at_most(UNCHANGED, unchanged, 50.0, "ms"),
            ratio(UNCHANGED, 0.02),
            ratio(WARM, 0.05),
            Goal::at_most(
                &format!("{COLD}, of the four linters' time at once"),
                to(COLD, Hook::AtOnce),
                1.0,
                "",
            ),
            Goal::at_most("`git commit` to the first judged byte", door * 1000.0, 30.0, "ms"),
            Goal::at_most("the hook with nothing to judge", hook * 1000.0, 30.0, "ms"),
        ],
        bars: Vec::new(),
    }
}

impl Seconds {
    fn add(&mut self, what: &'static str, hook: Hook, seconds: f64) {
        self.0.entry((what, hook)).or_default().push(seconds);
    }

    fn of(&self, what: &'static str, hook: Hook) -> f64 {
        self.0.get(&(what, hook)).map_or(f64::NAN, |it| median(it))
    }
}

/// A repository of one judge.
struct Side {
    hook: Hook,
    repo: Repo,
    /// Files with the function that edits change.
    editable: Vec<String>,
}

impl Side {
    /// Equal repositories, one for each; all that is in them is clean, and was judged before.
    ///
    /// They are kept: to judge 1,500 files for the first time takes each of them minutes.
    fn all(kit: &Kit, base: Base, hooks: &[Hook]) -> Vec<Side> {
        let editable = make_clean(kit, base);
        let made = hooks.iter().map(|hook| {
            let dir = kit.dir.join("repositories").join(format!("{}-{hook:?}", base.package));
            let ready = dir.join("ready");
            let is_ready = ready.exists();
            let repo = if is_ready { Repo::at(&dir) } else { Repo::new(kit, &dir) };
            let side = Side { hook: *hook, repo, editable: editable.clone() };
            if is_ready {
                // What an earlier bench was ended in.
                side.repo.git(&["reset", "--quiet", "--hard"]);
            } else {
                let from = kit.dir.join("clean").join(base.package);
                side.repo.git(&["pull", "--quiet", from.to_str().unwrap(), "main"]);
                side.time(kit, Files::All);
            }
            if *hook == Hook::Ours {
                // Another version of it may know nothing of this code.
                side.time(kit, Files::All);
            }
            // What it leaves waiting for the next one is there.
            side.edited(kit, 1);
            fs::write(ready, "").unwrap();
            side
        });
        made.collect()
    }

    fn is_orchestrated(&self) -> bool {
        !matches!(self.hook, Hook::InSequence | Hook::AtOnce)
    }

    /// How long it takes; there must be no findings.
    fn time(&self, kit: &Kit, files: Files<'_>) -> f64 {
        let cmd = self.hook.cmd(kit, &self.repo, files);
        let began = Instant::now();
        let output = cmd.output().unwrap();
        let took = began.elapsed().as_secs_f64();
        assert!(output.status.success(), "{:?}: {}", self.hook, told(&output));
        took
    }

    /// Edits so many files, and stages them.
    fn edit(&self, files: usize) -> &[String] {
        let names = &self.editable[..files];
        // Such as nobody has judged.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        for name in names {
            let text = self.repo.read(name);
            let (head, _) = text.rsplit_once("    return ").unwrap();
            self.repo.write(name, format!("{head}    return {now}\n"));
        }
        self.repo.git(&["add", "--all"]);
        names
    }

    fn edited(&self, kit: &Kit, files: usize) -> f64 {
        let names = self.edit(files);
        let took = self.time(kit, Files::Staged(names));
        self.repo.commit();
        took
    }

    fn with_text(&self, kit: &Kit) -> f64 {
        self.repo.write("NOTES.md", format!("{:?}\n", SystemTime::now()));
        self.repo.git(&["add", "--all"]);
        let took = self.time(kit, Files::Staged(&[]));
        self.repo.commit();
        took
    }

    /// As on the day of the clone; and warm again after it.
    fn cold(&self, kit: &Kit) -> f64 {
        for cache in
            [self.repo.path("target"), self.repo.path(".mypy_cache"), self.repo.home.join("cache")]
        {
            if cache.exists() {
                fs::remove_dir_all(cache).unwrap();
            }
        }
        self.time(kit, Files::All)
    }
}

/// Makes a repository in which nobody finds anything: what can be mended is, and the rest is turned
/// off by its code. Ten of its files, far apart, get a function that edits change; these are
/// answered.
fn make_clean(kit: &Kit, base: Base) -> Vec<String> {
    let dir = kit.dir.join("clean").join(base.package);
    let known = kit.dir.join("clean").join(format!("{base}.json"));
    if let Ok(text) = fs::read_to_string(&known) {
        return serde_json::from_str(&text).unwrap();
    }
    let repo = kit.repository(base, "clean");
    kit.configure(&repo);
    let sources: Vec<String> =
        repo.sources().into_iter().filter(|it| !it.ends_with("__init__.py")).collect();
    let editable: Vec<String> = (0..10).map(|n| sources[n * sources.len() / 10].clone()).collect();
    for name in &editable {
        let text = repo.read(name);
        repo.write(name, format!("{text}\n\ndef bench_edit() -> int:\n    return 0\n"));
    }
    repo.git(&["add", "--all"]);
    let lint = || {
        let cmd = repo.cmd(&kit.xtask).args(["lint", "--no-worker", "--repo", ".", "--all"]);
        let cmd = cmd.args(["--format=json", "--venv"]).arg(&kit.linters);
        let said = cmd.output().unwrap();
        serde_json::from_slice::<Value>(&said.stdout).expect("a report")
    };
    for (linter, args) in [("isort", "--quiet"), ("black", "--quiet")] {
        repo.cmd(kit.linter(linter)).args([args, "."]).run().unwrap();
    }
    repo.git(&["add", "--all"]);
    let report = lint();
    let found = report["findings"].as_array().unwrap();
    let codes = |linter: &str| {
        let of = found.iter().filter(|it| it["linter"] == linter);
        of.map(|it| it["code"].as_str().unwrap())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    };
    let [flake8, mypy] = ["flake8", "mypy"].map(codes);
    let config = repo.read(".flake8");
    repo.write(".flake8", format!("{config}extend-ignore = {}\n", flake8.join(",")));
    let config = repo.read("pyproject.toml");
    repo.write("pyproject.toml", format!("{config}disable_error_code = {mypy:?}\n"));
    repo.git(&["add", "--all"]);
    let left = lint();
    for key in ["findings", "crashes"] {
        assert_eq!(left[key], Value::Array(Vec::new()), "{base} is not clean");
    }
    repo.commit();
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    repo.git(&["clone", "--quiet", "--bare", ".", dir.to_str().unwrap()]);
    fs::write(known, serde_json::to_string(&editable).unwrap()).unwrap();
    editable
}
