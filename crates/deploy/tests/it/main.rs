//! The built binary, on what stands in the way before any engine or host is needed.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod lock;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use exec::Cmd;
use expect_test::{Expect, expect};
use tempfile::TempDir;

/// A checkout with the shipped files, committed, and this `.env.prod`.
fn checkout(env: &str) -> TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let root = tempfile::tempdir().unwrap();
    for path in ["env-templates", "compose", "dagster_core", "pyproject.toml", "uv.lock"] {
        Cmd::new("cp").arg("-r").arg(source.join(path)).arg(root.path()).read().unwrap();
    }
    let file = root.path().join(".env.prod");
    fs::write(&file, env).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(root.path().join(".gitignore"), ".env*\n__pycache__\n").unwrap();
    git(&root, &["init", "--quiet"]);
    git(&root, &["add", "--all"]);
    git(&root, &["commit", "--quiet", "--message", "First"]);
    root
}

fn git(root: &TempDir, args: &[&str]) {
    let who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"];
    Cmd::new("git").args(who).args(args.iter().copied()).dir(root.path()).read().unwrap();
}

/// A `.env.prod` whose host is not there.
const NOWHERE: &str = "\
DEPLOY_HOST=deployer@127.0.0.1
DEPLOY_SSH_PORT=9
DEPLOY_REGISTRY=registry.invalid/team
POSTGRES_PASSWORD=hunter2
";

#[track_caller]
fn check(root: &TempDir, args: &[&str], expected: &Expect) {
    let cmd = Cmd::new(env!("CARGO_BIN_EXE_deploy")).args(args.iter().copied()).dir(root.path());
    let output = cmd.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // Seconds are the only thing that differs from run to run.
    let said = text(&output.stdout) + &text(&output.stderr);
    let said = said.replace(&root.path().display().to_string(), "ROOT");
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains(" s  failed")).collect();
    let code = output.status.code().unwrap();
    expected.assert_eq(&format!("{}\nexit {code}", lines.join("\n")));
}

#[test]
fn an_unknown_environment_is_answered_with_those_that_exist() {
    check(
        &checkout(""),
        &["deploy", "prdo"],
        &expect![[r#"
        error: there is no environment `prdo`, did you mean `prod`?; there are demo, dev, prod, staging
        exit 3"#]],
    );
}

#[test]
fn what_lives_on_this_machine_is_not_deployed() {
    check(
        &checkout(""),
        &["deploy", "dev"],
        &expect![[r#"
        error: `dev` has no host: it serves this checkout as it is saved
        hint: start it: cargo xtask dev
        exit 3"#]],
    );
    check(
        &checkout(""),
        &["dev", "--location", "reports"],
        &expect![[r#"
        error: there is no `reports/definitions.py`
        hint: a code location is a Python package whose module `definitions` holds its Definitions
        exit 3"#]],
    );
}

#[test]
fn every_problem_of_the_settings_is_told_at_once() {
    let env = "DEPLOY_HOST=vm\nDEPLOY_REGISTRI=x\nPOSTGRES_PASSWORD=hunter2$x\n";
    check(
        &checkout(env),
        &["deploy", "prod"],
        &expect![[r#"
            error: the settings are not right:
              .env.prod:3: `POSTGRES_PASSWORD`: `$`, `\` and quotes are read in different ways; put the value into 'single quotes'
              .env.prod:2: `DEPLOY_REGISTRI` is not a key of env-templates/prod.env, did you mean `DEPLOY_REGISTRY`?
              env-templates/prod.env:19: `POSTGRES_PASSWORD` has no value: give it one in .env.prod
              env-templates/prod.env:62: `DEPLOY_REGISTRY` has no value: give it one in .env.prod
            exit 3"#]],
    );
}

#[test]
fn what_no_rotation_can_change_is_told_before_a_host_is_asked() {
    let root = checkout(NOWHERE);
    check(
        &root,
        &["env", "rotate", "prod", "POSTGRES_PASSWROD"],
        &expect![[r#"
        error: no template has `POSTGRES_PASSWROD`, did you mean `POSTGRES_PASSWORD`?
        exit 3"#]],
    );
    check(
        &root,
        &["env", "rotate", "prod", "WAREHOUSE_DB"],
        &expect![[r#"
        error: `WAREHOUSE_DB` is no secret
        hint: that is for a deploy: cargo xtask deploy prod
        exit 3"#]],
    );
    check(
        &root,
        &["env", "rotate", "prod", "DEPLOY_REGISTRY_PASSWORD"],
        &expect![[r#"
        error: `DEPLOY_REGISTRY_PASSWORD` reaches no container: no release holds it
        hint: it is read anew by whoever deploys: write the new one into .env.prod or its store, and nothing more is to be done
        exit 3"#]],
    );
    check(
        &root,
        &["env", "rotate", "prod", "POSTGRES_PASSWORD"],
        &expect![[r#"
        error: cannot reach `deployer@127.0.0.1`: connect to host 127.0.0.1 port 9: Connection refused
        hint: check DEPLOY_HOST and DEPLOY_SSH_PORT, that the VM runs, and that its firewall lets SSH through
        exit 6"#]],
    );
}

#[test]
fn a_host_that_is_not_there_is_named_with_what_to_check() {
    check(
        &checkout(NOWHERE),
        &["deploy", "prod"],
        &expect![[r#"
        error: cannot reach `deployer@127.0.0.1`: connect to host 127.0.0.1 port 9: Connection refused
        hint: check DEPLOY_HOST and DEPLOY_SSH_PORT, that the VM runs, and that its firewall lets SSH through
        exit 6"#]],
    );
    check(
        &checkout(NOWHERE),
        &["status", "prod"],
        &expect![[r#"
        error: cannot reach `deployer@127.0.0.1`: connect to host 127.0.0.1 port 9: Connection refused
        hint: check DEPLOY_HOST and DEPLOY_SSH_PORT, that the VM runs, and that its firewall lets SSH through
        exit 6"#]],
    );
}

#[test]
fn production_takes_committed_files_only() {
    let root = checkout(NOWHERE);
    fs::write(root.path().join("dagster_core/new.py"), "").unwrap();
    check(
        &root,
        &["deploy", "prod"],
        &expect![[r#"
        error: no commit holds `dagster_core/new.py` as it is now
        hint: commit your changes, or release them as they are with --allow-dirty
        exit 3"#]],
    );
}

#[test]
fn what_is_promoted_comes_from_another_environment_and_never_from_this_checkout() {
    let root = checkout(NOWHERE);
    let prod = |flags: &[&str], expected: &Expect| {
        check(&root, &[&["deploy", "prod"], flags].concat(), expected);
    };
    prod(
        &["--from", "prod"],
        &expect![[r#"
        error: --from of a deploy to `prod` names `prod`
        hint: name another environment, or none
        exit 3"#]],
    );
    prod(
        &["--from", "stagin"],
        &expect![[r#"
        error: there is no environment `stagin`, did you mean `staging`?; there are demo, dev, prod, staging
        exit 3"#]],
    );
    prod(
        &["--from", "staging"],
        &expect![[r#"
            error: the settings are not right:
              env-templates/staging.env:19: `POSTGRES_PASSWORD` has no value: give it one in .env.staging
              env-templates/staging.env:62: `DEPLOY_REGISTRY` has no value: give it one in .env.staging
            exit 3"#]],
    );
    prod(
        &["--from", "staging", "--allow-dirty"],
        &expect![[r#"
        error: the argument '--from <OTHER>' cannot be used with '--allow-dirty'

        Usage: cargo xtask deploy --from <OTHER> <ENV>

        For more information, try '--help'.
        exit 2"#]],
    );
    fs::write(root.path().join(".env.prod"), format!("{NOWHERE}DEPLOY_PROVEN_BY=prod\n")).unwrap();
    prod(
        &[],
        &expect![[r#"
        error: DEPLOY_PROVEN_BY of a deploy to `prod` names `prod`
        hint: name another environment, or none
        exit 3"#]],
    );
}

#[test]
fn a_secret_that_cannot_be_looked_up_stops_a_deploy_and_nothing_else() {
    let root = checkout(&NOWHERE.replace("hunter2", "file://gone"));
    check(
        &root,
        &["deploy", "prod", "--dry-run"],
        &expect![[r#"
        error: cannot read file://gone, which `POSTGRES_PASSWORD` (.env.prod:4) asks for
          caused by: cannot read `ROOT/gone`
          caused by: No such file or directory (os error 2)
        hint: the file must be there, for your eyes only: chmod 600
        exit 3"#]],
    );
    check(
        &root,
        &["status", "prod"],
        &expect![[r#"
        error: cannot reach `deployer@127.0.0.1`: connect to host 127.0.0.1 port 9: Connection refused
        hint: check DEPLOY_HOST and DEPLOY_SSH_PORT, that the VM runs, and that its firewall lets SSH through
        exit 6"#]],
    );
}

#[test]
fn values_that_git_holds_are_not_deployed() {
    let root = checkout(NOWHERE);
    git(&root, &["add", "--force", ".env.prod"]);
    check(
        &root,
        &["deploy", "prod"],
        &expect![[r#"
            error: .env.prod: is in git: `git rm --cached .env.prod`, and change the secrets it holds
            exit 3"#]],
    );
}

#[test]
fn a_folder_without_a_repository_is_refused() {
    let root = checkout(NOWHERE);
    fs::remove_dir_all(root.path().join(".git")).unwrap();
    check(
        &root,
        &["deploy", "prod"],
        &expect![[r#"
        error: `ROOT` is not a git repository
        hint: a release is named by its commit: run this inside a clone, or `git init` and commit
        exit 3"#]],
    );
}

#[test]
fn a_migration_that_would_be_overlooked_is_refused_before_anything_is_reached() {
    let root = checkout(NOWHERE);
    fs::write(root.path().join("dagster_core/migrations/add_note.sql"), "").unwrap();
    check(
        &root,
        &["schema", "status", "prod"],
        &expect![[r#"
            error: `dagster_core/migrations/add_note.sql` is not named as a migration is
            hint: a number, and in small letters what it does: 0002_add_offsets.sql
            exit 3"#]],
    );
}

#[test]
fn a_folder_without_templates_is_refused() {
    let root = checkout(NOWHERE);
    fs::remove_dir_all(root.path().join("env-templates")).unwrap();
    let root_text = root.path().display().to_string();
    let output = Cmd::new(env!("CARGO_BIN_EXE_deploy")).args(["status", "prod"]).dir(root.path());
    let said = String::from_utf8(output.output().unwrap().stderr).unwrap();
    assert!(said.contains(&root_text) && said.contains("env-templates"), "{said}");
}

#[test]
fn a_throwaway_environment_that_is_not_up_says_how_to_make_it() {
    check(
        &checkout(""),
        &["status", "demo"],
        &expect![[r#"
        error: `demo` is not up
        hint: make it: cargo xtask deploy demo
        exit 3"#]],
    );
    check(
        &checkout(""),
        &["logs", "demo"],
        &expect![[r#"
        error: `demo` is not up
        hint: make it: cargo xtask deploy demo
        exit 3"#]],
    );
}

#[test]
fn a_file_that_is_no_plan_is_not_carried_out() {
    let root = checkout(NOWHERE);
    check(
        &root,
        &["apply", "plan.json"],
        &expect![[r#"
        error: cannot read `plan.json`
          caused by: No such file or directory (os error 2)
        exit 3"#]],
    );
    fs::write(root.path().join("plan.json"), "{}").unwrap();
    check(
        &root,
        &["apply", "plan.json"],
        &expect![[r#"
        error: `plan.json` is no plan of this version
          caused by: missing field `environment` at line 1 column 2
        hint: write one: cargo xtask plan ENV --out FILE
        exit 3"#]],
    );
}
