//! Holds the house rules that no compiler does.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{collections::BTreeMap, path::Path};

use xshell::{Shell, cmd};

/// Who may depend on whom, among ours. Arrows run one way; xtask stays lean.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("settings", &[]),
    ("exec", &[]),
    ("dagster", &[]),
    ("lint", &["exec"]),
    ("release", &["settings"]),
    ("images", &["release"]),
    ("testbed", &["exec", "images", "release"]),
    ("deploy", &["dagster", "exec", "images", "release", "settings", "testbed"]),
    ("bench", &["dagster", "exec", "images", "release", "testbed"]),
    ("xtask", &["exec", "lint", "settings"]),
];

fn shell() -> Shell {
    let sh = Shell::new().unwrap();
    sh.change_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    sh
}

fn metadata() -> Vec<(String, Vec<String>)> {
    let sh = shell();
    let json = cmd!(sh, "cargo metadata --format-version 1 --no-deps --locked --offline")
        .quiet()
        .ignore_stderr()
        .read()
        .unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let packages = json["packages"].as_array().unwrap();
    let names: Vec<&str> = packages.iter().map(|it| it["name"].as_str().unwrap()).collect();
    packages
        .iter()
        .map(|package| {
            let ours = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|it| it["kind"].is_null())
                .map(|it| it["name"].as_str().unwrap())
                .filter(|name| names.contains(name))
                .map(str::to_owned)
                .collect();
            (package["name"].as_str().unwrap().to_owned(), ours)
        })
        .collect()
}

#[test]
fn dependencies_run_one_way() {
    let table: BTreeMap<&str, &[&str]> = MAY_DEPEND.iter().copied().collect();
    for (package, ours) in metadata() {
        let allowed = table
            .get(package.as_str())
            .unwrap_or_else(|| panic!("`{package}` is missing in the table of tidy.rs"));
        for dependency in ours {
            assert!(
                allowed.contains(&dependency.as_str()),
                "`{package}` must not depend on `{dependency}`"
            );
        }
    }
}

#[test]
fn every_crate_obeys_the_workspace_lints_and_takes_versions_from_one_place() {
    let sh = shell();
    for manifest in cmd!(sh, "git ls-files -- */Cargo.toml").quiet().read().unwrap().lines() {
        let text = sh.read_file(manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest} lacks `[lints] workspace`");
        let own = text.lines().find(|line| line.contains("version = \"") && line.contains('{'));
        assert_eq!(own, None, "{manifest}: versions stand in the root Cargo.toml");
    }
}

#[test]
fn every_environment_has_a_template_and_no_real_values_are_tracked() {
    let sh = shell();
    let tracked = cmd!(sh, "git ls-files").quiet().read().unwrap();
    for environment in ["demo", "dev", "staging", "prod"] {
        let template = format!("env-templates/{environment}.env");
        assert!(tracked.lines().any(|it| it == template), "{template} is not tracked");
    }
    let leaked: Vec<_> =
        tracked.lines().filter(|it| it.starts_with(".env") || it.contains("/.env")).collect();
    assert_eq!(leaked, [""; 0], "files with real values must not be in git");
}

#[test]
fn the_changelog_knows_this_version() {
    let header = format!("## {}", env!("CARGO_PKG_VERSION"));
    let changelog = shell().read_file("CHANGELOG.md").unwrap();
    assert!(
        changelog.lines().any(|line| line.starts_with(&header)),
        "no `{header}` in CHANGELOG.md"
    );
}
