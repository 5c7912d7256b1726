//! Commits that are hard to judge, and who judges them right.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt, fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::PathBuf,
};

use exec::{Cmd, Output};

use super::{Hook, Kit, Repo, told};
use crate::{Goal, Section, Table};

/// The stand-in of the fast tests: it objects to files with `BAD` in them.
const STAND_IN: &str = include_str!("../../../../xtask/tests/lint/python.sh");

const JUDGES: [Hook; 3] = [Hook::PreCommit, Hook::Prek, Hook::Ours];

/// A commit. Whatever comes of it, the working tree must be as it was; and the index too, if it
/// did not go through.
struct Scenario {
    what: &'static str,
    arrange: fn(&Repo),
    act: Act,
}

/// What is done then.
#[derive(Clone, Copy)]
enum Act {
    /// `git commit` with these arguments, which must go through.
    Passes(&'static str),
    /// The same, which must be stopped.
    Stops(&'static str),
    /// `git commit`, ended by this signal, with all that it started, while a linter runs.
    Ends(&'static str),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Right,
    LetsThrough,
    Refuses,
    Loses,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Right => "right",
            Outcome::LetsThrough => "LETS IT THROUGH",
            Outcome::Refuses => "REFUSES IT",
            Outcome::Loses => "CHANGES FILES",
        })
    }
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        what: "a bad file is staged",
        arrange: |it| it.stage("a.py", "BAD"),
        act: Act::Stops(""),
    },
    Scenario {
        what: "the first commit of all has a bad file",
        arrange: |it| {
            it.git(&["update-ref", "-d", "HEAD"]);
            it.stage("a.py", "BAD");
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a bad file is staged, and mended without being staged again",
        arrange: |it| {
            it.stage("a.py", "BAD");
            it.write("a.py", "good");
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a good file is staged, and made bad without being staged again",
        arrange: |it| {
            it.stage("a.py", "good");
            it.write("a.py", "BAD");
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "a bad file is not tracked",
        arrange: |it| {
            it.stage("a.py", "good");
            it.write("b.py", "BAD");
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "a bad file is staged, and removed without that being staged",
        arrange: |it| {
            it.stage("a.py", "BAD");
            fs::remove_file(it.path("a.py")).unwrap();
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a file is removed",
        arrange: |it| {
            it.committed("a.py", "good");
            it.git(&["rm", "--quiet", "a.py"]);
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "the removal of another file is not staged",
        arrange: |it| {
            it.committed("a.py", "good");
            fs::remove_file(it.path("a.py")).unwrap();
            it.stage("b.py", "good");
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "a bad file is renamed",
        arrange: |it| {
            it.committed("a.py", "BAD");
            it.git(&["mv", "a.py", "b.py"]);
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a bad text becomes a source by its new name",
        arrange: |it| {
            it.committed("a.txt", "BAD");
            it.git(&["mv", "a.txt", "a.py"]);
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a bad file that is ignored is staged by force",
        arrange: |it| {
            it.write("ignored.py", "BAD");
            it.git(&["add", "--force", "ignored.py"]);
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a bad file is only intended to be added",
        arrange: |it| {
            it.stage("a.py", "good");
            it.write("b.py", "BAD");
            it.git(&["add", "--intent-to-add", "b.py"]);
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "a link leads to a bad file outside",
        arrange: |it| {
            fs::write(it.home.join("outside.py"), "BAD").unwrap();
            symlink("../home/outside.py", it.path("link.py")).unwrap();
            it.git(&["add", "link.py"]);
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "a submodule has a bad file",
        arrange: |it| {
            it.git(&["init", "--quiet", "sub"]);
            it.write("sub/bad.py", "BAD");
            it.git(&["-C", "sub", "add", "."]);
            it.git(&["-C", "sub", "commit", "--quiet", "--message=m"]);
            it.git(&["-c", "advice.addEmbeddedRepo=false", "add", "sub"]);
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "a name with spaces, bad",
        arrange: |it| it.stage("with some space.py", "BAD"),
        act: Act::Stops(""),
    },
    Scenario {
        what: "a name that begins with a dash, good",
        arrange: |it| it.stage("-dash.py", "good"),
        act: Act::Passes(""),
    },
    Scenario {
        what: "a name with an end of line, bad",
        arrange: |it| it.stage("new\nline.py", "BAD"),
        act: Act::Stops(""),
    },
    Scenario {
        what: "a name with what a shell would run, bad",
        arrange: |it| it.stage("quote'\"`$(x)\\.py", "BAD"),
        act: Act::Stops(""),
    },
    Scenario {
        what: "a name that is not UTF-8, bad",
        arrange: |it| it.stage(OsStr::from_bytes(b"not-utf8-\xff.py"), "BAD"),
        act: Act::Stops(""),
    },
    Scenario {
        what: "`git commit --all` of a bad file",
        arrange: |it| {
            it.committed("a.py", "good");
            it.write("a.py", "BAD");
        },
        act: Act::Stops("--all"),
    },
    Scenario {
        what: "`git commit PATH` of a bad file",
        arrange: |it| {
            it.committed("a.py", "good");
            it.write("a.py", "BAD");
        },
        act: Act::Stops("a.py"),
    },
    Scenario {
        what: "`git commit PATH` of a good file, beside a bad one that is staged",
        arrange: |it| {
            it.committed("a.py", "good");
            it.stage("b.py", "BAD");
            it.write("a.py", "good 2");
        },
        act: Act::Passes("a.py"),
    },
    Scenario {
        what: "the bad half of a file is staged, the good half is not",
        arrange: |it| it.half("BAD", "good"),
        act: Act::Stops(""),
    },
    Scenario {
        what: "the good half of a file is staged, the bad half is not",
        arrange: |it| it.half("good", "BAD"),
        act: Act::Passes(""),
    },
    Scenario {
        what: "a merge brings a bad file",
        arrange: |it| {
            it.diverged("BAD");
            it.stage("a.py", "both");
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a merge is resolved, and good",
        arrange: |it| {
            it.diverged("good");
            it.stage("a.py", "both");
        },
        act: Act::Passes(""),
    },
    Scenario {
        what: "a configuration that is not tracked finds nothing in a bad file",
        arrange: |it| {
            it.stage("a.py", "BAD");
            it.write(".flake8", "lenient");
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "a configuration that is not staged finds nothing in a bad file",
        arrange: |it| {
            it.committed(".flake8", "strict");
            it.stage("a.py", "BAD");
            it.write(".flake8", "lenient");
        },
        act: Act::Stops(""),
    },
    Scenario {
        what: "Ctrl-C while a linter runs, with work that is not staged",
        arrange: |it| it.half("good", "work"),
        act: Act::Ends("INT"),
    },
    Scenario {
        what: "SIGKILL while a linter runs, with work that is not staged",
        arrange: |it| it.half("good", "work"),
        act: Act::Ends("KILL"),
    },
];

/// Lets each of them judge every scenario.
pub fn scenarios(kit: &Kit, command: String, tell: &dyn Fn(&str)) -> Section {
    let stand_in = StandIn::new(kit);
    let mut table = Table::new(["a commit", "must", "pre-commit", "prek", "cargo xtask lint"]);
    let mut right = BTreeMap::from(JUDGES.map(|it| (it, 0)));
    for scenario in SCENARIOS {
        tell(scenario.what);
        let outcomes = JUDGES.map(|judge| {
            let outcome = stand_in.play(kit, scenario, judge);
            *right.entry(judge).or_default() += usize::from(outcome == Outcome::Right);
            outcome.to_string()
        });
        let must = match scenario.act {
            Act::Passes(_) => "go through",
            Act::Stops(_) => "be stopped",
            Act::Ends(_) => "leave all as it was",
        };
        let [theirs, others, ours] = outcomes;
        table.row([scenario.what.to_owned(), must.to_owned(), theirs, others, ours]);
    }
    let of = SCENARIOS.len();
    let [theirs, others, ours] = JUDGES.map(|it| format!("{} of {of}", right[&it]));
    table.row(["right".to_owned(), String::new(), theirs, others, ours]);
    Section {
        command,
        about: "Commits that are hard to judge, each made in a new repository with the hook as \
                `pre-commit install` and `prek install` make it, or one that calls `cargo xtask \
                lint`. The linter is a stand-in that objects to files with `BAD` in them. Whatever \
                comes of a commit, every file of the working tree must be as it was before; and \
                the index too, where the commit did not go through."
            .to_owned(),
        tables: vec![table],
        goals: vec![Goal::none(
            "commit that `cargo xtask lint` judges wrongly",
            of,
            of - right[&Hook::Ours],
        )],
        bars: Vec::new(),
    }
}

/// A linter that is quick, and can be held.
struct StandIn {
    venv: PathBuf,
}

impl StandIn {
    fn new(kit: &Kit) -> StandIn {
        let venv = kit.dir.join("stand-in");
        for folder in ["bin", "lib"] {
            fs::create_dir_all(venv.join(folder)).unwrap();
        }
        let python = venv.join("bin/python");
        fs::write(&python, STAND_IN).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(venv.join("version"), "1").unwrap();
        StandIn { venv }
    }

    /// Where it waits to be let go, if that is there.
    fn stop(&self) -> PathBuf {
        self.venv.join("stop-flake8")
    }

    fn play(&self, kit: &Kit, scenario: &Scenario, judge: Hook) -> Outcome {
        let repo = Repo::new(kit, &kit.dir.join("repositories/scenario"));
        self.install(kit, &repo, judge);
        (scenario.arrange)(&repo);
        let before = (repo.files(), repo.index());
        let passed = match scenario.act {
            Act::Passes(args) | Act::Stops(args) => {
                let args = args.split_whitespace();
                let commit = repo.cmd("git").args(["commit", "--quiet", "--message=m"]).args(args);
                commit.output().unwrap().status.success()
            }
            Act::Ends(signal) => {
                self.end(&repo, signal);
                false
            }
        };
        match scenario.act {
            _ if repo.files() != before.0 || (!passed && repo.index() != before.1) => {
                Outcome::Loses
            }
            Act::Passes(_) if !passed => Outcome::Refuses,
            Act::Stops(_) if passed => Outcome::LetsThrough,
            _ => Outcome::Right,
        }
    }

    /// A commit in the repository has the configuration; the hook is there.
    fn install(&self, kit: &Kit, repo: &Repo, judge: Hook) {
        let python = self.venv.join("bin/python").display().to_string();
        repo.write(".gitignore", "/target/\nignored.py\n");
        repo.write(
            ".pre-commit-config.yaml",
            format!(
                "repos:\n- repo: local\n  hooks:\n  - id: flake8\n    name: flake8\n    \
                 entry: {python} -I -B -X utf8 -m flake8\n    language: system\n    \
                 types: [python]\n"
            ),
        );
        repo.git(&["add", "--all"]);
        repo.commit();
        match judge {
            Hook::Prek | Hook::PreCommit => {
                let peer = if judge == Hook::Prek { "prek" } else { "pre-commit" };
                let installed = repo.cmd(kit.peer(peer)).arg("install").output().unwrap();
                assert!(installed.status.success(), "{}", told(&installed));
            }
            _ => {
                let (xtask, venv) = (kit.xtask.display(), self.venv.display());
                let hook = repo.path(".git/hooks/pre-commit");
                let text = format!(
                    "#!/bin/sh\nexec '{xtask}' lint --no-worker --repo . --only=flake8 \
                     --venv '{venv}'\n"
                );
                fs::create_dir_all(hook.parent().unwrap()).unwrap();
                fs::write(&hook, text).unwrap();
                fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    /// Ends a commit while the linter is held, with all that it started, and waits until they are
    /// gone.
    fn end(&self, repo: &Repo, signal: &str) {
        const SCRIPT: &str = r#"set -m
            git commit --quiet --message=m & exec 3> "$STOP"
            kill -"$SIGNAL" -- "-$!"
            while kill -0 -- "-$!" 2>/dev/null; do sleep 0.02; done"#;
        Cmd::new("mkfifo").arg(self.stop()).run().unwrap();
        let script = repo.cmd("timeout").args(["60", "bash", "-c", SCRIPT]);
        let said: Output = script.env("STOP", self.stop()).env("SIGNAL", signal).output().unwrap();
        fs::remove_file(self.stop()).unwrap();
        assert_ne!(said.status.code(), Some(124), "it did not end: {}", told(&said));
    }
}

impl Repo {
    fn stage(&self, name: impl AsRef<OsStr>, text: &str) {
        let name = name.as_ref();
        self.write(name, text);
        let add = self.cmd("git").args(["--literal-pathspecs", "add", "--"]).arg(name);
        assert!(add.output().unwrap().status.success(), "{} is staged", name.display());
    }

    fn committed(&self, name: &str, text: &str) {
        self.stage(name, text);
        self.commit();
    }

    /// Changes two ends of a file, and stages the first.
    fn half(&self, staged: &str, not_staged: &str) {
        let text = |first: &str, last: &str| format!("{first}\n{}{last}\n", "-\n".repeat(20));
        self.committed("a.py", &text("one", "two"));
        self.stage("a.py", &text(staged, "two"));
        self.write("a.py", text(staged, not_staged));
    }

    /// A merge that stopped: both sides changed a line, and the other one has a file of its own.
    fn diverged(&self, theirs: &str) {
        self.committed("a.py", "one");
        self.git(&["checkout", "--quiet", "-b", "side"]);
        self.stage("their.py", theirs);
        self.committed("a.py", "theirs");
        self.git(&["checkout", "--quiet", "main"]);
        self.committed("a.py", "ours");
        let merge = self.cmd("git").args(["merge", "--quiet", "side"]).output().unwrap();
        assert!(!merge.status.success(), "it is in conflict");
    }

    /// Every file of the working tree.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path("")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                if meta.is_dir() && ![".git", "target"].iter().any(|it| path.ends_with(it)) {
                    folders.push(path);
                } else if meta.is_file() {
                    let bytes = fs::read(&path).unwrap();
                    files.insert(path, bytes);
                }
            }
        }
        files
    }

    fn index(&self) -> String {
        self.git(&["ls-files", "--stage"])
    }
}
