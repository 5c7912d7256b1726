//! `cargo xtask lint` beside what it stands for: pre-commit, prek, lefthook, and the four linters
//! called by a shell.
//!
//! All of them run the same linters of one environment, over code that others wrote.

mod door;
mod edits;
mod scenarios;
mod speed;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use exec::{Cmd, Output};

pub use self::{edits::edits, scenarios::scenarios, speed::speed};

/// What is compared with, as it is installed.
const PEERS: [&str; 3] = ["pre-commit==4.7.0", "prek==0.5.11", "lefthook==2.2.2"];

/// What all of them need, made once and kept below `target`.
pub struct Kit {
    dir: PathBuf,
    xtask: PathBuf,
    linters: PathBuf,
}

/// A package that others wrote.
#[derive(Debug, Clone, Copy)]
struct Base {
    package: &'static str,
    version: &'static str,
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.version)
    }
}

/// About 150 files, as black leaves them.
const SMALL: Base = Base { package: "scrapy", version: "2.19.0" };
/// About 1,500 files.
const BIG: Base = Base { package: "moto", version: "5.2.5" };

impl Kit {
    /// Installs the linters of `uv.lock`, by a lint of this repository, and what they are compared
    /// with.
    pub fn new(xtask: &Path) -> Kit {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let lint = Cmd::new(xtask).args(["lint", "--no-worker", "--only=isort"]);
        lint.arg("dagster_core/__init__.py").dir(&root).read().unwrap();
        let venvs = fs::read_dir(root.join("target/lint/venvs")).unwrap();
        let venvs = venvs.map(|it| it.unwrap().path());
        // The one that was asked for last.
        let linters = venvs
            .max_by_key(|it| {
                fs::metadata(it.join("lint-packages")).and_then(|it| it.modified()).ok()
            })
            .unwrap();
        let dir = xtask.ancestors().nth(2).unwrap().join("bench-lint");
        let kit = Kit { dir, xtask: xtask.to_owned(), linters };
        let peers = kit.dir.join("peers");
        if !peers.join("bin/lefthook").exists() {
            Cmd::new("python3").args(["-m", "venv"]).arg(&peers).run().unwrap();
            kit.pip(&["install"], &PEERS);
        }
        kit
    }

    fn pip(&self, verb: &[&str], packages: &[&str]) {
        let pip = Cmd::new(self.dir.join("peers/bin/pip")).dir(&self.dir);
        pip.args(verb.iter().chain(&["--quiet"]).chain(packages).copied()).run().unwrap();
    }

    fn peer(&self, name: &str) -> PathBuf {
        self.dir.join("peers/bin").join(name)
    }

    /// A linter, as a user calls it.
    fn linter(&self, name: &str) -> PathBuf {
        self.linters.join("bin").join(name)
    }

    /// The package's folder, of its source distribution.
    fn fetch(&self, base: Base) -> PathBuf {
        let Base { package, version } = base;
        let name = format!("{package}-{version}");
        let unpacked = self.dir.join("sources").join(&name);
        if !unpacked.exists() {
            let to = self.dir.join("sources");
            let to = to.to_str().unwrap();
            let wanted = format!("{package}=={version}");
            self.pip(&["download", "--no-deps", "--no-binary=:all:", "--dest", to], &[&wanted]);
            let archive = format!("{name}.tar.gz");
            Cmd::new("tar").args(["-xzf", &archive]).dir(self.dir.join("sources")).run().unwrap();
        }
        unpacked.join(package)
    }

    /// A repository of the package and nothing else, in a new folder.
    fn repository(&self, base: Base, name: &str) -> Repo {
        let source = self.fetch(base);
        let repo = Repo::new(self, &self.dir.join("repositories").join(name));
        Cmd::new("cp").arg("-r").arg(&source).arg(repo.path("")).run().unwrap();
        repo.write(".gitignore", "/target/\n__pycache__/\n.mypy_cache/\n");
        repo.write(".flake8", "[flake8]\nmax-line-length = 100\n");
        repo.write(
            "pyproject.toml",
            "[project]\nname = \"x\"\nrequires-python = \">=3.9\"\n\
             [tool.isort]\nprofile = \"black\"\n[tool.mypy]\nignore_missing_imports = true\n",
        );
        repo.git(&["add", "--all"]);
        repo
    }
}

/// A repository, with a home of its own: caches and configuration of nobody.
struct Repo {
    root: PathBuf,
    home: PathBuf,
}

impl Repo {
    /// An empty one; what was there is removed.
    fn new(kit: &Kit, dir: &Path) -> Repo {
        if dir.exists() {
            fs::remove_dir_all(dir).unwrap();
        }
        let repo = Repo::at(dir);
        for folder in [&repo.root, &repo.home] {
            fs::create_dir_all(folder).unwrap();
        }
        // What the peers keep for all repositories, and what is fetched once, is no part of a round.
        std::os::unix::fs::symlink(kit.dir.join("shared"), repo.home.join("shared")).unwrap();
        fs::create_dir_all(kit.dir.join("shared")).unwrap();
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// One that is there.
    fn at(dir: &Path) -> Repo {
        Repo { root: dir.join("repo"), home: dir.join("home") }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn cmd(&self, program: impl Into<std::ffi::OsString>) -> Cmd {
        let shared = self.home.join("shared");
        let mut cmd = Cmd::new(program)
            .dir(&self.root)
            .env("HOME", &self.home)
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .env("PRE_COMMIT_HOME", shared.join("pre-commit"))
            .env("PREK_HOME", shared.join("prek"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_EDITOR", "true")
            .env("GITHUB_ACTIONS", "false");
        for who in ["AUTHOR", "COMMITTER"] {
            cmd = cmd.env(format!("GIT_{who}_NAME"), "Ana");
            cmd = cmd.env(format!("GIT_{who}_EMAIL"), "ana@example.com");
        }
        cmd
    }

    /// Git, which must do it.
    #[track_caller]
    fn git(&self, args: &[&str]) -> String {
        let output = self.cmd("git").args(args.iter().copied()).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", told(&output));
        told(&output)
    }

    /// A commit that nobody judges.
    fn commit(&self) {
        self.git(&["commit", "--quiet", "--no-verify", "--allow-empty", "--message=m"]);
    }

    /// The Python in the index.
    fn sources(&self) -> Vec<String> {
        self.git(&["ls-files", "*.py"]).lines().map(str::to_owned).collect()
    }
}

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hook {
    Ours,
    Prek,
    /// With priorities, by which its hooks run at once.
    PrekAtOnce,
    PreCommit,
    Lefthook,
    InSequence,
    AtOnce,
}

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files<'a> {
    /// Those that are staged, which are these.
    Staged(&'a [String]),
    All,
}

impl Hook {
    const fn name(self) -> &'static str {
        match self {
            Hook::Ours => "cargo xtask lint",
            Hook::Prek => "prek",
            Hook::PrekAtOnce => "prek, by priorities at once",
            Hook::PreCommit => "pre-commit",
            Hook::Lefthook => "lefthook, at once",
            Hook::InSequence => "the four linters, one by one",
            Hook::AtOnce => "the four linters, at once",
        }
    }

    /// Judges these files.
    fn cmd(self, kit: &Kit, repo: &Repo, files: Files<'_>) -> Cmd {
        let all: &[&str] = match (self, files) {
            (Hook::Ours, Files::All) => &["--all"],
            (_, Files::All) => &["--all-files"],
            (_, Files::Staged(_)) => &[],
        };
        match self {
            Hook::Ours => repo
                .cmd(&kit.xtask)
                .args(["lint", "--repo", ".", "--venv"])
                .arg(&kit.linters)
                .args(all.iter().copied()),
            Hook::Prek => repo.cmd(kit.peer("prek")).arg("run").args(all.iter().copied()),
            Hook::PrekAtOnce => repo
                .cmd(kit.peer("prek"))
                .args(["run", "--config", "prek-at-once.yaml"])
                .args(all.iter().copied()),
            Hook::PreCommit => {
                repo.cmd(kit.peer("pre-commit")).arg("run").args(all.iter().copied())
            }
            Hook::Lefthook => repo
                .cmd(kit.peer("lefthook"))
                .args(["run", "pre-commit", "--no-auto-install"])
                .args(all.iter().copied()),
            Hook::InSequence | Hook::AtOnce => {
                let names = match files {
                    Files::Staged(names) => names.to_vec(),
                    Files::All => repo.sources(),
                };
                let calls =
                    kit.calls().map(|(_, call, named)| call + if named { " \"$@\"" } else { "" });
                let script = if self == Hook::InSequence {
                    format!("set -e; {}", calls.join("; "))
                } else {
                    let started = calls.map(|it| format!("{it} & all=\"$all $!\""));
                    format!("{}; for it in $all; do wait $it || exit 1; done", started.join("; "))
                };
                repo.cmd("sh").args(["-c", &script, "sh"]).args(names)
            }
        }
    }
}

impl Kit {
    /// The linters, how they are called, and whether with the names of the files.
    fn calls(&self) -> [(&'static str, String, bool); 4] {
        let call = |name: &str, args: &str| format!("{} {args}", self.linter(name).display());
        [
            ("isort", call("isort", "--check-only --filter-files"), true),
            ("black", call("black", "--check --quiet"), true),
            ("flake8", call("flake8", ""), true),
            // By names it would judge another program each time.
            ("mypy", call("mypy", "."), false),
        ]
    }

    /// Has a repository judged by each of them, in the way that their documentation recommends for
    /// these linters.
    fn configure(&self, repo: &Repo) {
        let (mut in_turn, mut at_once) =
            ("repos:\n- repo: local\n  hooks:\n".to_owned(), String::new());
        let mut lefthook = "pre-commit:\n  parallel: true\n  commands:\n".to_owned();
        let mut hooks = Vec::new();
        for (name, call, named) in self.calls() {
            hooks.push(format!(
                "  - id: {name}\n    name: {name}\n    entry: {call}\n    language: system\n    \
                 types: [python]\n    require_serial: true\n    pass_filenames: {named}\n"
            ));
            let files = if named { " {staged_files}" } else { "" };
            lefthook += &format!("    {name}:\n      glob: \"*.py\"\n      run: {call}{files}\n");
        }
        at_once += &in_turn;
        for hook in hooks {
            in_turn += &hook;
            at_once += &format!("{hook}    priority: 0\n");
        }
        repo.write(".pre-commit-config.yaml", in_turn);
        repo.write("prek-at-once.yaml", at_once);
        repo.write("lefthook.yml", lefthook);
    }
}

fn told(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}
