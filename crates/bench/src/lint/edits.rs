//! Whether a lint says what the linters say by hand, after any edit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use serde_json::Value;

use super::{BIG, Base, Kit, Repo, SMALL};
use crate::{Goal, Section, Table};

#[path = "../../../lint/tests/by_hand/mod.rs"]
mod by_hand;

use by_hand::{LINTERS, Said};

/// About 150 files that no formatter ever saw.
const ROUGH: Base = Base { package: "docutils", version: "0.23" };

/// Of ten edits, so many are made in each.
const SHARES: [(Base, usize); 3] = [(SMALL, 6), (ROUGH, 3), (BIG, 1)];

/// What breaks a file's syntax.
const BREAKS: [&str; 2] = ["\ndef broken(:\n", "\nfrom os import (\n"];

/// Edits at random, stages, lints, and compares.
pub fn edits(kit: &Kit, rounds: usize, command: String, tell: &dyn Fn(&str)) -> Section {
    let mut table = Table::new(["code", "files", "findings at first", "edits", "differ"]);
    let (mut made, mut differ) = (0, 0);
    for (base, share) in SHARES {
        let rounds = (rounds * share).div_ceil(10);
        let mut desk = Desk::new(kit, base);
        let mut wrong = usize::from(!desk.agrees(&Touched::everything(), tell));
        let first = desk.known.values().map(BTreeSet::len).sum::<usize>();
        for round in 1..=rounds {
            let touched = desk.edit();
            wrong += usize::from(!desk.agrees(&touched, tell));
            if round % 10 == 0 {
                tell(&format!("{base}: {round} of {rounds}, {wrong} differ"));
            }
        }
        desk.mend();
        wrong += usize::from(!desk.agrees(&Touched::everything(), tell));
        table.row([
            base.to_string(),
            desk.repo.sources().len().to_string(),
            first.to_string(),
            rounds.to_string(),
            wrong.to_string(),
        ]);
        (made, differ) = (made + rounds, differ + wrong);
    }
    Section {
        command,
        about: "Random edits: of a blank, a name, an import, a type, the syntax or one digit; \
                files and scripts made, removed, renamed and put back; other configuration. After \
                each, all is staged, and `cargo xtask lint --all` must say what black, isort, flake8 and \
                mypy say when they are called by hand: the same files, lines and codes. Before \
                the first and after the last edit all four are called on everything; after each \
                edit mypy is, and so is a linter whose configuration it changed, and isort where \
                it changed which files there are; the others are called on the file that was \
                touched."
            .to_owned(),
        tables: vec![table],
        goals: vec![Goal::none("edit after which they differ", made, differ)],
        bars: Vec::new(),
    }
}

/// Which verdicts an edit may have changed.
#[derive(Default)]
struct Touched {
    /// Those of these linters on all files.
    everywhere: Vec<&'static str>,
    /// Those of the others on these files.
    files: Vec<String>,
    /// Files that are there no more.
    gone: Vec<String>,
}

impl Touched {
    fn everything() -> Touched {
        Touched { everywhere: LINTERS.to_vec(), ..Touched::default() }
    }

    /// Mypy judges the program; what else there is decides what isort takes for a package.
    fn names(files: Vec<String>, gone: Vec<String>) -> Touched {
        Touched { everywhere: vec!["mypy", "isort"], files, gone }
    }

    /// What a linter is called on, to know what it says now.
    fn targets(&self, linter: &str) -> Vec<&str> {
        if self.everywhere.contains(&linter) {
            vec!["."]
        } else {
            self.files.iter().map(String::as_str).collect()
        }
    }
}

/// A repository that is edited, and what the linters say of it by hand.
struct Desk<'a> {
    kit: &'a Kit,
    repo: Repo,
    rng: Rng,
    /// As it was at first.
    texts: BTreeMap<String, String>,
    /// What they say by hand.
    known: BTreeMap<&'static str, Said>,
    edits: u64,
    /// Whose syntax is broken: nothing else is seen of it, so it does not stay so.
    broken: Option<String>,
    /// In many files, other configuration takes minutes.
    is_big: bool,
}

impl<'a> Desk<'a> {
    fn new(kit: &'a Kit, base: Base) -> Desk<'a> {
        let repo = kit.repository(base, "edits");
        let texts = repo.sources().into_iter().map(|it| {
            let text = repo.read(&it);
            (it, text)
        });
        Desk {
            kit,
            texts: texts.collect(),
            repo,
            // The same edits each time.
            rng: Rng::with_seed(5),
            known: BTreeMap::new(),
            edits: 0,
            broken: None,
            is_big: base.package == BIG.package,
        }
    }

    /// Puts a file back whose syntax is broken.
    fn mend(&mut self) {
        if let Some(file) = self.broken.take() {
            self.edits += 1;
            self.repo.write(&file, self.texts.get(&file).cloned().unwrap_or_default());
            self.stage(&file);
        }
    }

    /// Makes one edit, and stages it.
    fn edit(&mut self) -> Touched {
        self.edits += 1;
        let sources = self.repo.sources();
        let broken = self.broken.take();
        let was_broken = broken.is_some();
        let file = broken.unwrap_or_else(|| sources[self.rng.usize(..sources.len())].clone());
        let text = self.repo.read(&file);
        let original = self.texts.get(&file).cloned().unwrap_or_default();
        let is_package = file.ends_with("__init__.py");
        let n = self.edits;
        let new = match self.rng.u8(..if self.is_big { 11 } else { 13 }) {
            _ if was_broken => original,
            0 => text.replacen(" = ", " =  ", 1),
            1 => text.replacen('(', "( ", 1),
            2 => format!("import os, sys\n{text}"),
            3 => format!("import zlib\nimport ast\n\n{text}"),
            4 => format!("{text}\n\ndef edit_{n}() -> int:\n    return 'no'\n"),
            5 => format!("{text}\n\nx_{n} = undefined_{n}\n"),
            6 => {
                self.broken = Some(file.clone());
                // Isort stops at the second, whatever comes after.
                let breaks = BREAKS[usize::from(!is_package && n.is_multiple_of(2))];
                format!("{text}{breaks}")
            }
            // As long as before.
            7 => text.replacen('1', "2", 1),
            8 => original,
            9 => {
                let new = format!("{}_{n}.py", file.trim_end_matches(".py"));
                self.repo.git(&["mv", &file, &new]);
                self.stage(&new);
                return Touched::names(vec![new], vec![file]);
            }
            10 if n.is_multiple_of(2) => {
                self.repo.git(&["rm", "--quiet", "--force", &file]);
                return Touched::names(vec![], vec![file]);
            }
            10 if n % 4 == 1 => {
                // A script: of the four, isort alone looks for such.
                let new = format!("{}_script_{n}", file.trim_end_matches(".py"));
                self.repo.write(&new, "#!/usr/bin/env python3\nimport sys\nimport os\n");
                self.stage(&new);
                return Touched::names(vec![], vec![]);
            }
            10 => {
                let new = format!("{}_new_{n}.py", file.trim_end_matches(".py"));
                self.repo.write(&new, "import json\nx=1\n");
                self.stage(&new);
                return Touched::names(vec![new], vec![]);
            }
            11 => {
                let length = self.rng.u8(70..120);
                self.repo.write(".flake8", format!("[flake8]\nmax-line-length = {length}\n"));
                self.stage(".flake8");
                return Touched { everywhere: vec!["flake8", "mypy"], ..Touched::default() };
            }
            _ => {
                let (length, strict) = (self.rng.u8(70..120), self.rng.bool());
                let config = format!(
                    "[project]\nname = 'x'\nrequires-python = '>=3.{}'\n\
                     [tool.black]\nline-length = {length}\n[tool.isort]\nline_length = {length}\n\
                     [tool.mypy]\nignore_missing_imports = true\nwarn_return_any = {strict}\n",
                    self.rng.u8(9..12),
                );
                self.repo.write("pyproject.toml", config);
                self.stage("pyproject.toml");
                let everywhere = vec!["black", "isort", "mypy"];
                return Touched { everywhere, ..Touched::default() };
            }
        };
        self.repo.write(&file, new);
        self.stage(&file);
        if is_package {
            return Touched::names(vec![file], vec![]);
        }
        Touched { everywhere: vec!["mypy"], files: vec![file], gone: vec![] }
    }

    /// Mypy, by hand, trusts a file of the same size and second: each edit has a second of its own.
    fn stage(&self, file: &str) {
        let later = SystemTime::now() + Duration::from_secs(self.edits);
        let file = fs::File::options().write(true).open(self.repo.path(file)).unwrap();
        file.set_modified(later).unwrap();
        self.repo.git(&["add", "--all"]);
    }

    /// Whether the lint says what the linters say by hand.
    fn agrees(&mut self, touched: &Touched, tell: &dyn Fn(&str)) -> bool {
        let root = self.repo.path("").canonicalize().unwrap();
        let Desk { kit, repo, .. } = &*self;
        let (said, through) = thread::scope(|scope| {
            let by_hand = LINTERS.map(|linter| {
                let targets = touched.targets(linter);
                let (venv, home, root) = (&kit.linters, &repo.home, &root);
                let call = move || {
                    if targets.is_empty() {
                        return Said::new();
                    }
                    by_hand::by_hand(venv, root, home, linter, &targets)
                };
                (linter, scope.spawn(call))
            });
            let through = self.through_lint();
            (by_hand.map(|(linter, it)| (linter, it.join().unwrap())), through)
        });
        for (linter, said) in said {
            let known = self.known.entry(linter).or_default();
            let stays =
                |path: &String| !touched.files.contains(path) && !touched.gone.contains(path);
            known.retain(|it| !touched.everywhere.contains(&linter) && stays(&it.1));
            known.extend(said);
        }
        let expected: Said = self.known.values().flatten().cloned().collect();
        for (which, it) in expected
            .difference(&through)
            .map(|it| ("by hand", it))
            .chain(through.difference(&expected).map(|it| ("by the lint", it)))
            .take(10)
        {
            tell(&format!("after edit {}, only {which}: {it:?}", self.edits));
        }
        expected == through
    }

    /// It reads nothing but the index, and is called beside the working tree: the linters, by hand,
    /// would look into its own folder.
    fn through_lint(&self) -> Said {
        let beside = self.repo.home.join("lint");
        fs::create_dir_all(&beside).unwrap();
        let cmd = self.repo.cmd(&self.kit.xtask).args(["lint", "--all", "--repo"]).arg(beside);
        let cmd = cmd.env("GIT_DIR", self.repo.path(".git"));
        let output = cmd.args(["--format=json", "--venv"]).arg(&self.kit.linters).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert_eq!(report["crashes"], Value::Array(Vec::new()), "a linter could not judge");
        let findings = report["findings"].as_array().unwrap().iter().map(|it| {
            let [linter, path, code] =
                ["linter", "path", "code"].map(|key| it[key].as_str().unwrap().to_owned());
            let line = it["line"].as_u64().map(|it| u32::try_from(it).unwrap());
            let code = if line.is_some() { code } else { String::new() };
            (linter, path, line, code)
        });
        findings.collect()
    }
}
