//! The hook that git runs before a commit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, repo::Repo, state};

/// The hook: it runs the compiled program where that is newer than its sources, and Cargo where
/// not, which costs a commit some fifty milliseconds.
const HOOK: &str = include_str!("pre-commit.sh");

/// The line by which our own hook is known, in whatever version.
const MARK: &str = "# Made by `cargo xtask hooks install`";

/// What a hook that was there before is called, beside ours.
const BEFORE: &str = "pre-commit.before-dagster-deploy";

/// The hook, as it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The hook.
    pub path: PathBuf,
    /// The hook that was there before, which runs first.
    pub before: Option<PathBuf>,
}

/// Makes the hook. It lies where git looks for it: `core.hooksPath` counts, and all worktrees share
/// it. A hook of somebody else's is kept beside, and runs first.
pub fn install(root: &Path) -> Result<Installed, Error> {
    let Place { path, is_foreign } = place(root)?;
    let folder = path.parent().expect("a hook is in a folder");
    if folder.ends_with(".husky/_") {
        return Err(Error::Husky { path: folder.to_owned() });
    }
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let before = folder.join(BEFORE);
    if is_foreign {
        if before.exists() {
            return Err(Error::TwoHooks { path, before });
        }
        // Both names are there until ours takes the first: at no moment is there no hook.
        fs::hard_link(&path, &before).map_err(Error::file("make", &before))?;
    }
    // Git passes over a hook that is not executable.
    state::write_as(&path, HOOK.as_bytes(), 0o755).map_err(Error::file("write", &path))?;
    let before = before.exists().then_some(before);
    Ok(Installed { path, before })
}

/// Removes the hook, and puts back the one that was there before; answers what was removed, or none
/// if there was none.
pub fn uninstall(root: &Path) -> Result<Option<Installed>, Error> {
    let Place { path, is_foreign } = place(root)?;
    if is_foreign {
        return Err(Error::ForeignHook { path });
    }
    if !path.exists() {
        return Ok(None);
    }
    let before = path.with_file_name(BEFORE);
    if before.exists() {
        fs::rename(&before, &path).map_err(Error::file("put back", &path))?;
        return Ok(Some(Installed { path, before: Some(before) }));
    }
    fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    Ok(Some(Installed { path, before: None }))
}

/// Where the hook is to be.
struct Place {
    path: PathBuf,
    /// Whether there is a hook that somebody else made.
    is_foreign: bool,
}

fn place(root: &Path) -> Result<Place, Error> {
    let repo = Repo::new(root);
    let ask = |what: &[&str]| -> Result<PathBuf, Error> {
        let args = ["rev-parse", "--path-format=absolute"].into_iter().chain(what.iter().copied());
        Ok(PathBuf::from(repo.git(args).read()?))
    };
    let folder = ask(&["--git-path", "hooks"])?;
    let inside = [ask(&["--git-common-dir"])?, ask(&["--show-toplevel"])?];
    if !inside.iter().any(|it| folder.starts_with(it)) {
        return Err(Error::ForeignHooksPath { path: folder });
    }
    let path = folder.join("pre-commit");
    let is_foreign =
        fs::read(&path).is_ok_and(|text| !String::from_utf8_lossy(&text).contains(MARK));
    Ok(Place { path, is_foreign })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use exec::Cmd;
    use tempfile::TempDir;

    use super::*;

    fn git(root: &Path, args: &str) {
        Cmd::new("git").args(args.split(' ')).dir(root).read().unwrap();
    }

    fn repository() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), "init --quiet .");
        // Whatever the user's own configuration says.
        git(dir.path(), "config core.hooksPath .git/hooks");
        dir
    }

    #[track_caller]
    fn check(root: &Path, expected: &str) {
        let root = root.canonicalize().unwrap();
        let told = match install(&root) {
            Ok(it) => it.path.strip_prefix(&root).unwrap_or(&it.path).display().to_string(),
            Err(error) => error.to_string().replace(&root.display().to_string(), "ROOT"),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn it_comes_again_and_goes() {
        let dir = repository();
        check(dir.path(), ".git/hooks/pre-commit");
        check(dir.path(), ".git/hooks/pre-commit");
        assert!(uninstall(dir.path()).unwrap().is_some());
        assert!(uninstall(dir.path()).unwrap().is_none());
    }

    /// A hook that somebody else made.
    fn foreign(root: &Path, text: &str) -> PathBuf {
        let hook = root.join(".git/hooks/pre-commit");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, text).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        hook
    }

    #[test]
    fn somebody_elses_hook_runs_first_and_is_put_back() {
        let dir = repository();
        let theirs = "#!/bin/sh\necho theirs\n[ ! -e bad ]\n";
        let hook = foreign(dir.path(), theirs);
        for _ in 0..2 {
            let before = install(dir.path()).unwrap().before.unwrap();
            assert_eq!(fs::read_to_string(before).unwrap(), theirs);
        }

        let run = || Cmd::new(&hook).dir(dir.path()).output().unwrap();
        let said = run();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "theirs\n");
        assert!(String::from_utf8_lossy(&said.stderr).starts_with("lint: no xtask here"));
        fs::write(dir.path().join("bad"), "").unwrap();
        let said = run();
        assert_eq!((said.status.code(), said.stderr), (Some(1), Vec::new()));

        assert!(uninstall(dir.path()).unwrap().unwrap().before.is_some());
        assert_eq!(fs::read_to_string(&hook).unwrap(), theirs);
        assert!(!hook.with_file_name(BEFORE).exists());
        assert!(uninstall(dir.path()).is_err());
        assert_eq!(fs::read_to_string(&hook).unwrap(), theirs);
    }

    #[test]
    fn of_two_hooks_of_somebody_else_none_is_lost() {
        let dir = repository();
        foreign(dir.path(), "#!/bin/sh\n");
        install(dir.path()).unwrap();
        let hook = foreign(dir.path(), "#!/bin/sh\n# Another.\n");
        let kept = hook.with_file_name(BEFORE).canonicalize().unwrap();
        check(
            dir.path(),
            &format!(
                "`ROOT/.git/hooks/pre-commit` is not ours, and `ROOT/.git/hooks/{BEFORE}` is there \
                 already"
            ),
        );
        assert_eq!(fs::read_to_string(hook).unwrap(), "#!/bin/sh\n# Another.\n");
        assert_eq!(fs::read_to_string(kept).unwrap(), "#!/bin/sh\n");
    }

    #[test]
    fn it_goes_where_git_looks_for_it() {
        let dir = repository();
        git(dir.path(), "config core.hooksPath tools/hooks");
        check(dir.path(), "tools/hooks/pre-commit");
        // Another name would make its hook pass in silence.
        git(dir.path(), "config core.hooksPath .husky/_");
        check(dir.path(), "the hooks in `ROOT/.husky/_` are husky's");
        let elsewhere = tempfile::tempdir().unwrap();
        let elsewhere = elsewhere.path().canonicalize().unwrap().display().to_string();
        git(dir.path(), &format!("config core.hooksPath {elsewhere}"));
        check(
            dir.path(),
            &format!("`core.hooksPath` names `{elsewhere}`, outside this repository"),
        );
    }

    /// What the hook runs, in a checkout with these files, the oldest first.
    #[track_caller]
    fn check_hook(files: &[&str], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\necho {text} $*\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        script("bin/cargo", "cargo");
        for (name, seconds) in files.iter().zip(1..) {
            let path = script(name, "binary");
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let times = fs::FileTimes::new().set_modified(time);
            for path in path.ancestors().take_while(|it| *it != dir.path()) {
                fs::File::open(path).unwrap().set_times(times).unwrap();
            }
        }
        let said = Cmd::new("sh")
            .args(["-c", HOOK])
            .dir(dir.path())
            .env("PATH", format!("{}/bin:/usr/bin:/bin", dir.path().display()))
            .env("CARGO_TARGET_DIR", "target")
            .output()
            .unwrap();
        let said = [said.stdout, said.stderr].concat();
        assert_eq!(String::from_utf8_lossy(&said).trim(), expected);
    }

    const SOURCES: [&str; 8] = [
        "xtask/src/main.rs",
        "xtask/Cargo.toml",
        "crates/lint/src/lib.rs",
        "crates/lint/Cargo.toml",
        "crates/exec/src/lib.rs",
        "crates/exec/Cargo.toml",
        "crates/settings/src/lib.rs",
        "crates/settings/Cargo.toml",
    ];

    #[test]
    fn it_runs_the_compiled_program_where_that_is_newer_than_its_sources() {
        let mut files = SOURCES.to_vec();
        files.push("target/debug/xtask");
        check_hook(&files, "binary lint --repo .");
        files.push("crates/lint/tests/it.rs");
        check_hook(&files, "binary lint --repo .");
    }

    #[test]
    fn it_runs_cargo_where_a_source_is_newer_or_nothing_is_compiled() {
        check_hook(&SOURCES, "cargo xtask lint --repo .");
        let mut files = vec!["target/debug/xtask"];
        files.extend(SOURCES);
        check_hook(&files, "cargo xtask lint --repo .");
    }

    #[test]
    fn it_lets_a_branch_pass_that_knows_of_no_lint() {
        check_hook(&[], "lint: no xtask here (an older branch?); nothing is linted");
    }
}
