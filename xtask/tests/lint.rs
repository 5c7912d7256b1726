//! `lint` on real checkouts, mostly through `git commit` and its hook.
//!
//! The linters are a script that objects to the word `BAD`, so that these tests take no Python
//! environment and no network; real linters are asked in `crates/lint/tests/live.rs`.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use exec::{Cmd, Output};
use tempfile::TempDir;

/// Objects to files with `BAD` in them, as each of the four would say it, and writes down its calls.
const PYTHON: &str = include_str!("lint/python.sh");

/// A checkout with the hook, and the linters beside it.
struct Checkout {
    dir: TempDir,
}

impl Checkout {
    fn new() -> Checkout {
        let checkout = Checkout { dir: tempfile::tempdir().unwrap() };
        for dir in ["repo", "venv/bin", "venv/lib"] {
            fs::create_dir_all(checkout.dir.path().join(dir)).unwrap();
        }
        let python = checkout.venv("bin/python");
        fs::write(&python, PYTHON).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(checkout.venv("version"), "1").unwrap();
        fs::write(checkout.venv("calls"), "").unwrap();
        checkout.git("init --quiet --initial-branch=main");
        checkout.write("../hook", checkout.hook());
        fs::set_permissions(checkout.path("../hook"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(checkout.path(".git/hooks")).unwrap();
        symlink("../../../hook", checkout.path(".git/hooks/pre-commit")).unwrap();
        checkout.write(".gitignore", "/target/\n");
        checkout
    }

    fn hook(&self) -> String {
        let (xtask, venv) = (env!("CARGO_BIN_EXE_xtask"), self.venv("").display().to_string());
        format!("#!/bin/sh\nexec '{xtask}' lint --no-worker --repo . --venv '{venv}'\n")
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("repo").join(name)
    }

    fn venv(&self, name: &str) -> PathBuf {
        self.dir.path().join("venv").join(name)
    }

    fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Git as on a machine of nobody.
    fn cmd(&self, program: &str) -> Cmd {
        let mut cmd = Cmd::new(program)
            .dir(self.path(""))
            .env("HOME", self.dir.path())
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

    fn output(&self, args: &str) -> Output {
        self.cmd("git").args(args.split_whitespace()).output().unwrap()
    }

    /// Git, which must do it.
    #[track_caller]
    fn git(&self, args: &str) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "git {args}: {}", told(&output));
        told(&output)
    }

    /// A commit goes through, or not, and then it says why.
    #[track_caller]
    fn commits(&self, args: &str, finding: Option<&str>) {
        let output = self.output(&format!("commit --message=m {args}"));
        let told = told(&output);
        assert_eq!(output.status.success(), finding.is_none(), "git commit {args}: {told}");
        if let Some(finding) = finding {
            assert!(told.contains(finding), "no {finding:?} in: {told}");
        }
    }

    fn lint_cmd(&self, args: &[&str]) -> Cmd {
        self.cmd(env!("CARGO_BIN_EXE_xtask"))
            .args(["lint", "--no-worker", "--repo", ".", "--venv"])
            .arg(self.venv(""))
            .args(args.iter().copied())
    }

    /// A lint by hand, with its exit code.
    #[track_caller]
    fn lint(&self, args: &[&str], code: i32) -> String {
        let output = self.lint_cmd(args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "lint {args:?}: {}", told(&output));
        told(&output)
    }

    /// The calls of linters since this was asked last, but for those that only look for files.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.venv("calls")).unwrap();
        fs::write(self.venv("calls"), "").unwrap();
        let mut calls: Vec<String> = text
            .lines()
            .map(|it| {
                let words = it.split(' ').enumerate();
                let told = words.filter(|(n, word)| *n == 0 || word.starts_with('.'));
                told.map(|(_, word)| word).filter(|it| *it != ".git/root.py").collect::<Vec<_>>()
            })
            .filter(|it| it[0] == "mypy" || *it.last().unwrap() != ".")
            .map(|it| it.join(" "))
            .collect();
        calls.sort();
        calls
    }

    /// All that git and the user see: the index's bytes and time, and every file.
    fn everything(&self) -> Vec<(PathBuf, i64, i64, Vec<u8>)> {
        let mut all = Vec::new();
        let mut folders = vec![self.path("")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                if meta.is_dir() && path != self.path("target") {
                    folders.push(path);
                } else if meta.is_file() {
                    let bytes = fs::read(&path).unwrap();
                    all.push((path, meta.mtime(), meta.mtime_nsec(), bytes));
                }
            }
        }
        all.sort();
        all
    }
}

fn told(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_finding_stops_the_commit_and_says_what_mends_it() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.git("add .");
    here.commits("", Some("cargo xtask lint --fix"));
    here.write("a.py", "good");
    here.git("add .");
    here.commits("", None);
}

#[test]
fn the_first_commit_of_an_empty_repository_is_judged() {
    let here = Checkout::new();
    here.commits("--allow-empty", None);
    here.git("update-ref -d HEAD");
    here.write("a.py", "BAD");
    here.git("add .");
    here.commits("", Some("a.py"));
}

#[test]
fn what_is_mended_but_not_staged_is_still_found() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.git("add .");
    here.write("a.py", "good");
    here.commits("", Some("a.py"));
}

#[test]
fn what_is_broken_but_not_staged_is_nobodys_business() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.git("add .");
    here.write("a.py", "BAD");
    here.write("untracked.py", "BAD");
    here.commits("", None);
    assert_eq!(here.read("a.py"), "BAD");
}

#[test]
fn a_file_that_is_staged_and_then_removed_from_the_working_tree_is_judged() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.git("add .");
    fs::remove_file(here.path("a.py")).unwrap();
    here.commits("", Some("a.py"));
    assert!(!here.path("a.py").exists());
}

#[test]
fn a_removed_file_is_not_looked_for() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.write("b.py", "good");
    here.git("add .");
    here.commits("", None);
    here.git("rm --quiet a.py");
    here.calls();
    here.commits("", None);
    // Who imported it is mypy's to say.
    assert_eq!(here.calls(), ["mypy ."]);
}

#[test]
fn a_renamed_file_is_judged_under_its_new_name() {
    let here = Checkout::new();
    here.write("excluded/a.py", "BAD");
    here.git("add .");
    here.commits("--no-verify", None);
    here.git("mv excluded/a.py a.py");
    here.commits("", Some("a.py"));
    here.git("mv a.py a.txt");
    here.commits("", None);
}

#[test]
fn what_a_linter_excludes_is_not_given_to_it() {
    let here = Checkout::new();
    here.write("excluded/a.py", "good");
    here.write("b.py", "good");
    here.git("add .");
    here.lint(&["--all"], 0);
    assert_eq!(here.calls(), ["black ./b.py", "flake8 ./b.py", "isort ./b.py", "mypy ."]);
}

#[test]
fn a_link_is_the_file_it_leads_to_and_leads_nowhere_outside() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.write("../outside/x.py", "BAD");
    symlink("../outside/x.py", here.path("outside.py")).unwrap();
    symlink(here.path("../outside/x.py"), here.path("absolute.py")).unwrap();
    symlink("a.py", here.path("inside.py")).unwrap();
    here.git("add .");
    here.commits("", None);
    assert!(here.calls().contains(&"black ./a.py ./inside.py".to_owned()));
    // What it leads to changes alone.
    here.write("a.py", "BAD");
    here.git("add .");
    here.commits("", Some("inside.py"));
    assert!(!here.path("target/lint/home/tree/outside.py").is_symlink());
    assert!(!here.path("target/lint/home/tree/absolute.py").is_symlink());
}

#[test]
fn a_submodule_is_judged_in_its_own_repository() {
    let here = Checkout::new();
    let other = Checkout::new();
    other.write("bad.py", "BAD");
    other.git("add .");
    other.commits("--no-verify", None);
    let url = other.path("").display().to_string();
    here.git(&format!("-c protocol.file.allow=always submodule --quiet add {url} sub"));
    here.write("a.py", "good");
    here.git("add .");
    here.commits("", None);
}

#[test]
fn ends_of_lines_are_judged_as_they_are_committed() {
    let here = Checkout::new();
    here.git("config core.autocrlf true");
    here.write("a.py", "good\r\n");
    here.git("add .");
    here.commits("", None);
    assert_eq!(fs::read(here.path("target/lint/home/tree/a.py")).unwrap(), b"good\n");
    here.git("config core.autocrlf false");
    here.write("b.py", "good\r\n");
    here.git("add b.py");
    here.commits("", None);
    assert_eq!(fs::read(here.path("target/lint/home/tree/b.py")).unwrap(), b"good\r\n");
}

#[test]
fn a_file_of_any_name_is_judged() {
    let names: [&[u8]; 9] = [
        b"with space.py",
        b"-dash.py",
        b"--all.py",
        b"new\nline.py",
        "\u{e9}\u{1f40d}.py".as_bytes(),
        b"not-utf8-\xff.py",
        b"quote'\"`$(x)\\.py",
        b"\x1b[31m.py",
        b"a:1:2.py",
    ];
    let here = Checkout::new();
    for name in names {
        here.write(OsStr::from_bytes(name), "good");
    }
    here.git("add .");
    here.commits("", None);
    for name in names {
        let name = OsStr::from_bytes(name);
        here.write(name, "BAD");
        here.cmd("git").args(["add", "--"]).arg(name).run().unwrap();
        let shown = serde_json::to_string(&name.to_string_lossy()).unwrap();
        for when in ["cold", "warm"] {
            let cmd = here.lint_cmd(&["--format=json", "--only=flake8", "--only=mypy", "--"]);
            let output = cmd.arg(Path::new(".").join(name)).output().unwrap();
            assert!(told(&output).contains(&shown), "{shown}, {when}: {}", told(&output));
            assert_eq!(told(&output).matches("\"linter\"").count(), 2, "{}", told(&output));
        }
        here.lint(&["--fix"], 0);
        assert_eq!(fs::read_to_string(here.path(name)).unwrap(), "good", "{shown}");
        here.cmd("git").args(["reset", "--quiet", "--hard"]).run().unwrap();
    }
}

#[test]
fn a_commit_of_all_or_some_or_an_amended_one_is_judged_as_it_will_be() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.write("b.py", "good");
    here.git("add .");
    here.commits("", None);
    here.write("a.py", "BAD");
    here.write("b.py", "good 2");
    // Git makes these from an index of their own, which only GIT_INDEX_FILE names.
    here.commits("--all", Some("git add what you commit, then cargo xtask lint --fix"));
    here.commits("a.py", Some("a.py"));
    here.commits("b.py", None);
    here.git("add a.py");
    here.commits("--amend", Some("a.py"));
    here.git("reset --quiet --hard");
    here.commits("--amend", None);
}

#[test]
fn a_part_of_a_file_is_judged_without_the_rest() {
    let here = Checkout::new();
    let lines = |first: &str, last: &str| format!("{first}\n{}{last}\n", "-\n".repeat(20));
    here.write("a.py", lines("one", "two"));
    here.git("add .");
    here.commits("", None);
    here.write("a.py", lines("good", "BAD"));
    let patch = |answers: &str| {
        let args = ["commit", "--patch", "--message=m"];
        here.cmd("git").args(args).stdin(answers).output().unwrap()
    };
    let both = patch("y\ny\n");
    assert!(!both.status.success(), "{}", told(&both));
    let first = patch("y\nn\n");
    assert!(first.status.success(), "{}", told(&first));
    assert_eq!(here.git("show HEAD:a.py"), lines("good", "two"));
    assert_eq!(here.read("a.py"), lines("good", "BAD"));
}

/// Two branches that change one line, and files of their own.
fn diverged(theirs: &str) -> Checkout {
    let here = Checkout::new();
    here.write("a.py", "one");
    here.git("add .");
    here.commits("", None);
    here.git("checkout --quiet -b side");
    here.write("a.py", "theirs");
    here.write("their.py", theirs);
    here.git("add .");
    here.commits("--no-verify", None);
    here.git("checkout --quiet main");
    here.write("a.py", "ours");
    here.git("add .");
    here.commits("", None);
    here
}

#[test]
fn a_merge_is_judged_with_what_it_brings_and_not_before_it_is_resolved() {
    let here = diverged("BAD");
    assert!(!here.output("merge side").status.success());
    assert!(here.lint(&[], 1).contains("git unmerged"));
    here.write("a.py", "both");
    here.git("add a.py");
    here.commits("", Some("their.py"));
    here.write("their.py", "good");
    here.git("add their.py");
    here.commits("", None);
    assert_eq!(here.git("rev-list --parents -1 HEAD").split(' ').count(), 3);
}

#[test]
fn a_commit_in_the_middle_of_a_rebase_is_judged() {
    let here = diverged("good");
    assert!(!here.output("rebase side").status.success());
    here.write("a.py", "BAD");
    here.git("add a.py");
    here.commits("", Some("a.py"));
    here.write("a.py", "both");
    here.git("add a.py");
    here.commits("", None);
    here.git("rebase --continue");
    assert!(here.git("status").contains("nothing to commit"));
}

#[test]
fn only_the_staged_configuration_counts() {
    let here = Checkout::new();
    here.write(".flake8", "staged");
    here.write("a.py", "BAD");
    here.git("add .");
    here.write(".flake8", "not staged");
    here.write("../repo/target/.flake8", "around the copy");
    assert!(here.lint(&[], 1).contains("E1 has staged"));
    here.git("add .flake8");
    assert!(here.lint(&[], 1).contains("E1 has not staged"));
}

#[test]
fn what_is_only_announced_is_not_in_the_commit() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.write("b.py", "");
    here.write("later.py", "");
    here.git("add a.py b.py");
    here.git("add --intent-to-add later.py");
    here.lint(&["--all", "--only=isort"], 0);
    assert_eq!(here.calls(), ["isort ./a.py ./b.py"]);
    assert!(!here.path("target/lint/home/tree/later.py").exists());
}

#[test]
fn a_target_that_is_a_link_is_as_good_as_any() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.git("add .");
    fs::create_dir(here.path("../elsewhere")).unwrap();
    symlink("../elsewhere", here.path("target")).unwrap();
    let told = here.lint(&[], 1);
    assert!(told.contains("4 findings in 1 file"), "{told}");
}

#[test]
fn nothing_is_run_where_no_python_is_staged() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.git("add .");
    here.commits("--no-verify", None);
    here.write("README.md", "BAD");
    here.git("add .");
    here.commits("", None);
    assert_eq!(here.calls(), [""; 0]);
}

#[test]
fn nothing_is_judged_twice() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.write("b.py", "good");
    here.git("add .");
    let first = here.lint(&["--all", "--format=sarif"], 1);
    assert_eq!(here.calls().len(), 4);
    assert_eq!(here.lint(&["--all", "--format=sarif"], 1), first);
    here.lint(&[], 1);
    assert_eq!(here.calls(), [""; 0]);

    here.write("b.py", "good 2");
    here.git("add .");
    here.lint(&["--all"], 1);
    assert_eq!(here.calls(), ["black ./b.py", "flake8 ./b.py", "isort ./b.py", "mypy ."]);

    // What was judged on another branch is known when one comes back.
    here.write("b.py", "good");
    here.git("add .");
    here.lint(&["--all"], 1);
    assert_eq!(here.calls(), [""; 0]);
}

#[test]
fn other_configuration_or_other_versions_are_other_verdicts() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.git("add .");
    here.lint(&["--all"], 0);
    here.calls();
    here.write(".flake8", "[flake8]");
    here.git("add .");
    here.lint(&["--all"], 0);
    assert_eq!(here.calls(), ["flake8 ./a.py"]);
    // Isort looks at which modules there are.
    here.write("pkg/__init__.py", "");
    here.git("add .");
    here.lint(&["a.py"], 0);
    assert_eq!(here.calls(), ["isort ./a.py", "mypy ."]);

    fs::write(here.venv("version"), "2").unwrap();
    fs::write(here.venv("lib/installed"), "").unwrap();
    here.lint(&["a.py"], 0);
    assert_eq!(here.calls().len(), 4);
}

#[test]
fn other_plugins_of_the_repository_are_other_verdicts() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.write("tools/plugin.py", "good");
    here.write(".flake8", "[flake8:local-plugins]\nextension = X = plugin:X\npaths = ./tools\n");
    here.git("add .");
    here.lint(&["a.py", "--only=flake8"], 0);
    here.calls();
    here.write("tools/plugin.py", "good 2");
    here.write("other/plugin.py", "good");
    here.git("add .");
    here.lint(&["a.py", "--only=flake8"], 0);
    assert_eq!(here.calls(), ["flake8 ./a.py"]);
    here.write("other/plugin.py", "good 2");
    here.git("add .");
    here.lint(&["a.py", "--only=flake8"], 0);
    assert_eq!(here.calls(), [""; 0]);
}

#[test]
fn a_lint_writes_nothing_but_its_own_folder() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.write("b.py", "good");
    here.git("add .");
    here.write("b.py", "BAD");
    // Git would refresh such an index at the next chance.
    let time = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    fs::File::options().write(true).open(here.path("a.py")).unwrap().set_times(time).unwrap();
    let before = here.everything();
    here.lint(&["--all"], 1);
    here.lint(&[], 1);
    assert_eq!(here.everything(), before);
}

#[test]
fn a_lint_that_was_killed_leaves_everything_and_the_next_one_is_right() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.write("b.py", "good");
    here.git("add .");
    here.write("b.py", "not staged");
    here.cmd("mkfifo").arg(here.venv("stop-flake8")).run().unwrap();
    let before = here.everything();
    // The linter opens the pipe, which is awaited; then it is killed, and the lint with it.
    let script = r#"setsid "$@" & exec 3> "$FIFO"; kill -KILL -- "-$!"; wait "$!""#;
    here.cmd("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_xtask")])
        .args(["lint", "--no-worker", "--repo", ".", "--all", "--venv"])
        .arg(here.venv(""))
        .env("FIFO", here.venv("stop-flake8"))
        .output()
        .unwrap();
    assert_eq!(here.everything(), before);
    fs::remove_file(here.venv("stop-flake8")).unwrap();
    here.calls();
    assert!(here.lint(&["--all"], 1).contains("a.py"));
    assert!(here.calls().contains(&"flake8 ./a.py ./b.py".to_owned()));
}

#[test]
fn a_copy_that_somebody_changed_is_mended_before_it_is_judged() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.write("b.py", "good");
    here.git("add .");
    here.lint(&["--all"], 0);
    let tree = here.path("target/lint/home/tree");
    fs::write(tree.join("a.py"), "BAD").unwrap();
    fs::write(tree.join("extra.py"), "BAD").unwrap();
    fs::remove_file(tree.join("b.py")).unwrap();
    fs::create_dir(tree.join("b.py")).unwrap();
    fs::remove_dir_all(here.path("target/lint/verdicts")).unwrap();
    here.lint(&["--all"], 0);
    fs::remove_dir_all(here.path("target/lint")).unwrap();
    here.lint(&["--all"], 0);
}

#[test]
fn two_lints_at_once_are_both_right() {
    let here = Checkout::new();
    for n in 0..20 {
        here.write(format!("{n}.py"), if n % 2 == 0 { "good" } else { "BAD" });
    }
    here.git("add .");
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let lints: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| here.lint(&["--all"], 1).matches("flake8 E1").count()))
            .collect();
        lints.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(counts, [10; 4]);
}

#[test]
fn in_actions_annotations_appear_by_themselves() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.git("add .");
    let annotation = "::error file=a.py,line=1,col=1,title=flake8 E1::has ";
    assert!(!here.lint(&[], 1).contains(annotation));
    let lint =
        ["GITHUB_ACTIONS=true", env!("CARGO_BIN_EXE_xtask"), "lint", "--repo", ".", "--venv"];
    let output = here.cmd("env").args(lint).arg(here.venv("")).output().unwrap();
    assert!(told(&output).contains(annotation), "{}", told(&output));
}

#[test]
fn a_lint_that_takes_long_says_so_on_a_terminal() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.git("add .");
    here.cmd("mkfifo").arg(here.venv("stop-flake8")).run().unwrap();
    // The linter waits at the pipe until the line is there.
    let script = r#"
        script --quiet --flush --command "'$XTASK' lint --no-worker --repo . --venv '$VENV'" log &
        until grep -qs 'linting 1 file;' log; do sleep 0.05; done
        exec 3<> "$FIFO"; rm "$FIFO"; echo >&3
        wait "$!""#;
    let cmd = here.cmd("timeout").args(["60", "bash", "-c", script]);
    let cmd = cmd.env("XTASK", env!("CARGO_BIN_EXE_xtask")).env("VENV", here.venv(""));
    let output = cmd.env("FIFO", here.venv("stop-flake8")).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_linter_that_crashes_or_is_missing_is_told_from_a_finding() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.git("add .");
    fs::write(here.venv("crash-isort"), "").unwrap();
    let told = here.lint(&[], 3);
    assert!(told.contains("isort could not judge:\n  Traceback"), "{told}");
    fs::remove_file(here.venv("crash-isort")).unwrap();
    here.lint(&[], 0);
    fs::remove_file(here.venv("bin/python")).unwrap();
    let told = here.lint(&[], 3);
    assert!(told.contains("is not installed"), "{told}");
}

#[test]
fn only_what_is_asked_for_is_judged() {
    let here = Checkout::new();
    here.write("pkg/a.py", "BAD");
    here.write("pkg/b.py", "BAD");
    here.write("c.py", "BAD");
    here.git("add .");
    here.commits("--no-verify", None);
    here.lint(&[], 0);
    assert!(here.lint(&["--all"], 1).contains("in 3 files"));
    assert!(here.lint(&["pkg"], 1).contains("in 2 files"));
    assert!(here.lint(&["./pkg/../c.py"], 1).contains("4 findings in 1 file"));
    assert!(here.lint(&["c.py", "--only=black"], 1).contains("1 finding in 1 file"));
    let told = here.lint(&["d.py"], 3);
    assert!(told.contains("`d.py` is not in git's index"), "{told}");
    assert!(told.contains("hint: what is judged is the index: `git add` it first"), "{told}");
    here.write("c.py", "BAD 2");
    here.git("add .");
    here.commits("--no-verify", None);
    assert!(here.lint(&["--since=HEAD~1", "--only=flake8"], 1).contains("1 finding in 1 file"));
    here.lint(&["--since=--output=a.txt"], 3);
    assert!(!here.path("a.txt").exists());
    here.lint(&["--all", "c.py"], 2);
    here.lint(&["--only=no-such-linter"], 2);
}

#[test]
fn a_fix_is_staged_where_all_of_the_file_was() {
    let here = Checkout::new();
    here.write("whole.py", "good");
    here.write("part.py", "good");
    here.write("other.py", "BAD");
    here.git("add .");
    here.commits("--no-verify", None);
    here.write("whole.py", "BAD");
    here.write("part.py", "BAD");
    here.git("add .");
    here.write("part.py", "BAD and more");
    // The other three still find it in `part.py`, and only there.
    let told = here.lint(&["--fix"], 1);
    assert!(told.contains("mended: whole.py"), "{told}");
    assert!(told.contains("staged in part, a link, or no longer a file: part.py"), "{told}");
    assert_eq!(here.read("whole.py"), "good");
    assert_eq!(here.git("show :whole.py"), "good");
    assert_eq!(here.read("part.py"), "BAD and more");
    assert_eq!(here.git("show :part.py"), "BAD");
    assert_eq!(here.read("other.py"), "BAD");
}

#[test]
fn a_fix_that_went_wrong_is_not_taken() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.write("b.py", "BAD, and the linter stops when it has CUT it");
    here.write("c.py", "BAD");
    here.git("add .");
    let told = here.lint(&["--fix"], 1);
    assert!(told.contains("mended: c.py") && !told.contains("mended: b.py"), "{told}");
    assert_eq!([here.read("a.py"), here.read("c.py")], ["good", "good"]);
    assert!(here.read("b.py").contains("CUT"));
}

#[test]
fn a_fix_of_what_is_not_staged_does_not_stage_it() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    here.git("add .");
    here.commits("--no-verify", None);
    let told = here.lint(&["--all", "--fix"], 1);
    assert!(told.contains("mended and not staged, as it was before: a.py"), "{told}");
    assert_eq!(here.read("a.py"), "good");
    assert_eq!(here.git("show :a.py"), "BAD");
}

#[test]
fn a_fix_keeps_the_mode_and_does_not_follow_links() {
    let here = Checkout::new();
    here.write("a.py", "BAD");
    fs::set_permissions(here.path("a.py"), fs::Permissions::from_mode(0o755)).unwrap();
    here.write("b.py", "BAD");
    here.git("add .");
    here.write("../precious.py", "BAD");
    fs::remove_file(here.path("b.py")).unwrap();
    symlink("../precious.py", here.path("b.py")).unwrap();
    here.lint(&["--fix"], 1);
    assert_eq!(here.read("a.py"), "good");
    assert_eq!(fs::metadata(here.path("a.py")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(here.read("../precious.py"), "BAD");
}

#[test]
fn a_fix_does_not_go_where_a_link_stands_for_a_folder() {
    let here = Checkout::new();
    here.write("../elsewhere/a.py", "BAD");
    here.write("pkg/a.py", "BAD");
    here.git("add .");
    here.commits("--no-verify", None);
    fs::remove_dir_all(here.path("pkg")).unwrap();
    symlink("../elsewhere", here.path("pkg")).unwrap();
    let told = here.lint(&["--fix", "--all"], 1);
    assert!(told.contains("no longer a file: pkg/a.py"), "{told}");
    assert_eq!(here.read("../elsewhere/a.py"), "BAD");
}

#[test]
fn a_worktree_is_judged_by_its_own_index() {
    let here = Checkout::new();
    here.write("a.py", "good");
    here.git("add .");
    here.commits("", None);
    here.git("worktree add --quiet ../other");
    here.write("../other/b.py", "BAD");
    here.git("-C ../other add .");
    let output = here.output("-C ../other commit --message=m");
    assert!(!output.status.success());
    assert!(told(&output).contains("b.py"), "{}", told(&output));
}
