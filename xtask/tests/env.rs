//! The `env` verbs, on a checkout with values.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use exec::Cmd;
use expect_test::{Expect, expect};
use tempfile::TempDir;

const TEMPLATE: &str = "\
# Where to.
# @required @own
DEPLOY_HOST=
# @type=port
DEPLOY_SSH_PORT=22
# Of the database.
# @required @sensitive
POSTGRES_PASSWORD=
";

const PROD: &str = "DEPLOY_HOST=vm-1\nPOSTGRES_PASSWORD=hunter2\n";
const STAGING: &str = "DEPLOY_HOST=vm-2\nDEPLOY_SSH_PORT=2222\nPOSTGRES_PASSWORD=hunter3\n";

/// A checkout of three environments with these files, which only we may read.
fn checkout(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("env-templates")).unwrap();
    for environment in ["dev", "prod", "staging"] {
        let path = format!("env-templates/{environment}.env");
        fs::write(root.path().join(path), TEMPLATE).unwrap();
    }
    for (path, text) in files {
        fs::write(root.path().join(path), text).unwrap();
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(0o600)).unwrap();
    }
    root
}

#[track_caller]
fn check(root: &TempDir, args: &[&str], expected: &Expect) {
    let cmd = Cmd::new(env!("CARGO_BIN_EXE_xtask")).arg("env").args(args.iter().copied());
    let output = cmd.dir(root.path()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains("hunter"), "a secret is shown: {said}");
    expected.assert_eq(&format!("{said}exit {}", output.status.code().unwrap()));
}

#[test]
fn each_value_is_shown_with_where_it_came_from_and_no_secret_is() {
    let root = checkout(&[(".env.prod", PROD)]);
    check(
        &root,
        &["list"],
        &expect![[r#"
        dev      no values here: cargo xtask env init dev
        prod     values in .env.prod
        staging  no values here: cargo xtask env init staging
        exit 0"#]],
    );
    check(
        &root,
        &["show", "prod"],
        &expect![[r#"
        DEPLOY_HOST        vm-1      .env.prod:1
        DEPLOY_SSH_PORT    22        template
        POSTGRES_PASSWORD  [secret]  .env.prod:2
        exit 0"#]],
    );
    check(
        &root,
        &["show", "prod", "--json"],
        &expect![[r#"
            {
              "environment": "prod",
              "problems": [],
              "settings": [
                {
                  "kept_in": null,
                  "key": "DEPLOY_HOST",
                  "origin": ".env.prod:1",
                  "sensitive": false,
                  "set": true,
                  "value": "vm-1"
                },
                {
                  "kept_in": null,
                  "key": "DEPLOY_SSH_PORT",
                  "origin": "template",
                  "sensitive": false,
                  "set": true,
                  "value": "22"
                },
                {
                  "kept_in": null,
                  "key": "POSTGRES_PASSWORD",
                  "origin": ".env.prod:2",
                  "sensitive": true,
                  "set": true,
                  "value": null
                }
              ]
            }
            exit 0"#]],
    );
    check(
        &root,
        &["show", "dev"],
        &expect![[r#"
        DEPLOY_HOST            missing
        DEPLOY_SSH_PORT    22  template
        POSTGRES_PASSWORD      missing
        exit 0"#]],
    );
    check(
        &root,
        &["show", "prdo"],
        &expect![[r#"
        error: there is no environment `prdo`, did you mean `prod`?; there are dev, prod, staging
        exit 3"#]],
    );
}

#[test]
fn two_environments_are_compared_without_showing_a_secret() {
    let root = checkout(&[(".env.prod", PROD), (".env.staging", STAGING)]);
    check(
        &root,
        &["diff", "prod", "staging"],
        &expect![[r#"
                               prod      staging
            DEPLOY_HOST        vm-1      vm-2
            DEPLOY_SSH_PORT    22        2222
            POSTGRES_PASSWORD  [secret]  [another secret]
            exit 0"#]],
    );
    check(
        &root,
        &["diff", "prod", "prod", "--json"],
        &expect![[r#"
        []
        exit 0"#]],
    );
}

#[test]
fn a_setting_explains_itself() {
    let root = checkout(&[]);
    check(
        &root,
        &["explain", "DEPLOY_HOST"],
        &expect![[r#"
        DEPLOY_HOST

        Where to.

        required
        no two environments share it
        exit 0"#]],
    );
    check(
        &root,
        &["explain", "DEPLOY_HOSTS"],
        &expect![[r#"
            error: no template has `DEPLOY_HOSTS`, did you mean `DEPLOY_HOST`?
            exit 3"#]],
    );
}

#[test]
fn all_environments_are_checked_at_once() {
    let slip = "DEPLOY_HOST=vm-1\nDEPLOY_SSH_PROT=1\nPOSTGRES_PASSWORD=hunter2\n";
    let root = checkout(&[(".env.prod", PROD), (".env.staging", slip)]);
    check(
        &root,
        &["check"],
        &expect![[r#"
        dev      no values here; its template is ok
        prod     ok
        staging  wrong
        .env.staging:2: `DEPLOY_SSH_PROT` is not a key of env-templates/staging.env, did you mean `DEPLOY_SSH_PORT`?
        .env.staging:1: `DEPLOY_HOST` is the machine of .env.prod:1 too: an environment has its own
        .env.staging:3: `POSTGRES_PASSWORD` is the secret of .env.prod:2 too: an environment has its own
        exit 3"#]],
    );
    check(
        &root,
        &["check", "--templates"],
        &expect![[r#"
        dev      ok
        prod     ok
        staging  ok
        exit 0"#]],
    );
    check(
        &root,
        &["check", "dev", "--json"],
        &expect![[r#"
        {
          "environments": {
            "dev": "wrong"
          },
          "problems": [
            {
              "line": 3,
              "message": "`DEPLOY_HOST` has no value: give it one in .env.dev",
              "path": "env-templates/dev.env"
            },
            {
              "line": 8,
              "message": "`POSTGRES_PASSWORD` has no value: give it one in .env.dev",
              "path": "env-templates/dev.env"
            }
          ]
        }
        exit 3"#]],
    );
}

#[test]
fn a_file_of_values_in_git_is_told() {
    let root = checkout(&[(".env.prod", PROD)]);
    for args in [&["init", "--quiet"][..], &["add", "--force", ".env.prod"]] {
        Cmd::new("git").args(args.iter().copied()).dir(root.path()).read().unwrap();
    }
    check(
        &root,
        &["check", "--templates"],
        &expect![[r#"
        dev      ok
        prod     ok
        staging  ok
        .env.prod: is in git: `git rm --cached .env.prod`, and change the secrets it holds
        exit 3"#]],
    );
}
