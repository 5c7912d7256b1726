//! How long a commit waits for the first linter to start, and where there is nothing to judge.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::{Kit, Repo};

/// The hook as `hooks install` writes it.
const HOOK: &str = include_str!("../../../lint/src/pre-commit.sh");

/// Tells the time of its call, and goes on as the linters' Python.
const CLOCK: &str = "#!/bin/sh
[ \"$5\" != -m ] || date +%s%N >> \"${0%/*}/calls\"
exec 'PYTHON' \"$@\"
";

/// A clone of this repository, with the hook and everything built.
pub(super) struct Door {
    repo: Repo,
    calls: PathBuf,
}

impl Door {
    pub(super) fn new(kit: &Kit) -> Door {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let repo = Repo::new(kit, &kit.dir.join("repositories/door"));
        repo.git(&["pull", "--quiet", root.to_str().unwrap(), "HEAD"]);
        let venv = repo.path("target/lint/venvs").join(kit.linters.file_name().unwrap());
        let python = kit.linters.join("bin/python").display().to_string();
        let clock = CLOCK.replace("PYTHON", &python);
        // Nothing waits with the linters imported: the first of them is a process of its own.
        let hook = HOOK.replace("lint --repo", "lint --no-worker --repo");
        for (path, text) in
            [(venv.join("bin/python"), clock), (repo.path(".git/hooks/pre-commit"), hook)]
        {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // That there is one; the lint asks Python what it holds.
        fs::write(venv.join("lint-packages"), "").unwrap();
        fs::create_dir_all(repo.path("target/debug")).unwrap();
        fs::copy(&kit.xtask, repo.path("target/debug/xtask")).unwrap();
        let door = Door { repo, calls: venv.join("bin/calls") };
        door.first_byte(0);
        door
    }

    /// From the start of `git commit` to the start of the first linter, in seconds.
    pub(super) fn first_byte(&self, round: usize) -> f64 {
        self.repo.write("dagster_core/__init__.py", format!("\"\"\"Round {round}.\"\"\"\n"));
        self.repo.git(&["add", "--all"]);
        let _ = fs::remove_file(&self.calls);
        let began = SystemTime::now();
        self.commit(&[]);
        let calls = fs::read_to_string(&self.calls).expect("a linter was called");
        let first = calls.lines().map(|it| it.parse().unwrap()).min().unwrap();
        let first = SystemTime::UNIX_EPOCH + Duration::from_nanos(first);
        first.duration_since(began).unwrap().as_secs_f64()
    }

    /// What the hook adds to a commit in which there is nothing to judge, in seconds.
    pub(super) fn hook_alone(&self, round: usize) -> f64 {
        let [with, without] = [&[][..], &["--no-verify"]].map(|args| {
            self.repo.write("README.md", format!("{round} {args:?}\n"));
            self.repo.git(&["add", "--all"]);
            let began = Instant::now();
            self.commit(args);
            began.elapsed().as_secs_f64()
        });
        with - without
    }

    fn commit(&self, args: &[&str]) {
        let git = self.repo.cmd("git").args(["commit", "--quiet", "--message=m"]);
        let output =
            git.env("CARGO_TARGET_DIR", "target").args(args.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", super::told(&output));
    }
}
