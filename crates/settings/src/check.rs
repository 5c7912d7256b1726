//! What is wrong over all environments of a checkout, which none of them sees alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::{
    Error, Item, Problem, Resolved, Template,
    error::{did_you_mean, similar},
    resolve::{environments, own_file, read, template},
};

/// What was found in a checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// The environments that were looked at, and how they are.
    pub environments: Vec<(String, Condition)>,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

/// How an environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is wrong.
    Right,
    /// There are problems.
    Wrong,
    /// It has no file of values here, so only its template was looked at.
    NoFile,
}

/// Keys that end so hold secrets, whatever their template says.
const SECRETIVE: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY"];

/// Checks the templates alone: one by one, and that they agree. It needs no values.
pub fn check_templates(root: &Path) -> Result<Checkup, Error> {
    let mut problems = Vec::new();
    let mut templates = Vec::new();
    for environment in environments(root) {
        templates.push(template(root, &environment, &mut problems)?);
    }
    problems.extend(templates.iter().flat_map(unmarked_secrets));
    problems.extend(disagreements(&templates));
    let environments = templates
        .iter()
        .map(|it| {
            let wrong = problems.iter().any(|problem| problem.path == it.path);
            let condition = if wrong { Condition::Wrong } else { Condition::Right };
            (it.environment.clone(), condition)
        })
        .collect();
    Ok(Checkup { environments, problems })
}

/// Checks the templates and all values: of every environment, or of `only` one, which the
/// `process`'s environment reaches too.
pub fn check(
    root: &Path,
    only: Option<&str>,
    process: &BTreeMap<String, String>,
) -> Result<Checkup, Error> {
    let nothing = BTreeMap::new();
    let mut all = Vec::new();
    for environment in environments(root) {
        let process = if only == Some(environment.as_str()) { process } else { &nothing };
        all.push(read(root, &environment, &nothing, process)?);
    }
    if let Some(only) = only {
        // An unknown name is told with those that exist.
        read(root, only, &nothing, &nothing)?;
    }
    let wanted = |environment: &str| only.is_none_or(|it| it == environment);
    let mut problems = Vec::new();
    let mut conditions = Vec::new();
    for one in all.iter().filter(|it| wanted(&it.environment)) {
        let mut own = one.problems.clone();
        // One that lacks nothing needs no file.
        let empty = !one.has_file && only.is_none() && !one.missing.is_empty();
        if !empty && !one.is_testbed() {
            own.extend(one.missing_problems());
        }
        for other in all.iter().filter(|it| it.environment != one.environment) {
            // Of two that clash, one is told when both are looked at.
            if one.environment > other.environment || only.is_some() {
                own.extend(clashes(one, other));
            }
        }
        own.extend(unmarked_secrets(&one.template));
        let condition = match own.is_empty() {
            false => Condition::Wrong,
            true if empty && !one.is_testbed() => Condition::NoFile,
            true => Condition::Right,
        };
        conditions.push((one.environment.clone(), condition));
        problems.extend(own);
    }
    let templates: Vec<Template> = all.iter().map(|it| it.template.clone()).collect();
    problems.extend(disagreements(&templates));
    problems.extend(stray_files(root, &all));
    Ok(Checkup { environments: conditions, problems })
}

/// Of the paths that git holds, those that are files of values.
pub fn tracked(paths: &[String]) -> Vec<Problem> {
    let real = |path: &&String| {
        Path::new(path).file_name().is_some_and(|it| is_env_file(&it.to_string_lossy()))
    };
    let problem = |path: &String| Problem {
        path: path.into(),
        line: None,
        message: format!("is in git: `git rm --cached {path}`, and change the secrets it holds"),
    };
    paths.iter().filter(real).map(problem).collect()
}

/// `.env`, `.env.prod`, `.env.prod.bak`; not `.envrc`, which other tools mean to be read.
fn is_env_file(name: &str) -> bool {
    name == ".env" || name.starts_with(".env.")
}

/// Files that no environment reads: others may read them, or their name is a slip.
fn stray_files(root: &Path, all: &[Resolved]) -> Vec<Problem> {
    let known: BTreeSet<_> = all.iter().map(|it| own_file(&it.environment)).collect();
    let mut problems = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(root).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = Path::new(&name);
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if !is_env_file(&name) || !metadata.is_file() || known.contains(path) {
            continue;
        }
        let mut problem =
            |message| problems.push(Problem { path: path.into(), line: None, message });
        if metadata.permissions().mode() & 0o077 != 0 {
            problem(format!("others may read it: chmod 600 {name}"));
        }
        let environment = name.trim_start_matches(".env.");
        let similar = similar(environment, all.iter().map(|it| it.environment.as_str()));
        if similar.as_ref().is_some_and(|it| !environment.starts_with(it.as_str())) {
            let meant = did_you_mean(similar.as_deref());
            problem(format!("there is no environment `{environment}`{meant}"));
        }
    }
    problems
}

/// Secrets by their name, which are shown and logged if their template does not say so.
fn unmarked_secrets(template: &Template) -> Vec<Problem> {
    let secretive = |it: &&Item| !it.sensitive && SECRETIVE.iter().any(|end| it.key.ends_with(end));
    let problem = |item: &Item| {
        let message = format!("`{}` looks like a secret: mark it `# @sensitive`", item.key);
        Problem { path: template.path.clone(), line: Some(item.line), message }
    };
    template.items.iter().filter(secretive).map(problem).collect()
}

/// What the code is given in one environment, it finds in all: a key that one template forgot
/// fails there, at night.
fn disagreements(templates: &[Template]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut first: BTreeMap<&str, (&Template, &Item)> = BTreeMap::new();
    for template in templates {
        for item in &template.items {
            first.entry(&item.key).or_insert((template, item));
        }
    }
    for template in templates {
        let mut problem = |line, message| {
            problems.push(Problem { path: template.path.clone(), line, message });
        };
        for (key, (origin, like)) in &first {
            let path = origin.path.display();
            match template.item(key) {
                None if !key.starts_with("DEPLOY_") => {
                    problem(
                        None,
                        format!(
                            "`{key}` of {path} is missing: the code may ask for it in every environment"
                        ),
                    );
                }
                Some(item) if item.sensitive != like.sensitive => {
                    problem(
                        Some(item.line),
                        format!("`{key}` is @sensitive here or in {path}, and not in the other"),
                    );
                }
                _ => {}
            }
        }
    }
    problems
}

/// What two environments share and must not: what their templates call `@own`, their folder on one
/// host, a secret.
fn clashes(one: &Resolved, other: &Resolved) -> Vec<Problem> {
    let mut problems = Vec::new();
    let same_host = machine(one).is_some() && machine(one) == machine(other);
    for item in &one.template.items {
        let Some(value) = one.value(&item.key) else { continue };
        let at = |key: &str| {
            let origin = other.values.get(key).map(|it| it.origin.to_string());
            match origin.as_deref() {
                Some("template") => other.template.path.display().to_string(),
                Some(origin) => origin.to_owned(),
                None => other.environment.clone(),
            }
        };
        let mut problem =
            |why: String| problems.push(one.problem(item, value, format!("`{}` {why}", item.key)));
        let same = || other.value(&item.key).is_some_and(|it| it.expose() == value.expose());
        match item.key.as_str() {
            "DEPLOY_HOST" if item.own && same_host => {
                problem(format!(
                    "is the machine of {} too: an environment has its own",
                    at(&item.key)
                ));
            }
            "DEPLOY_HOST" => {}
            "DEPLOY_DIR" if same_host && same() => {
                problem(format!("is the folder of {} too, on the same host", at(&item.key)));
            }
            key if item.own && same() => {
                problem(format!("is the same as in {}: an environment has its own", at(key)));
            }
            _ => {}
        }
        if item.sensitive {
            let twin = other.template.items.iter().find(|it| {
                it.sensitive && other.value(&it.key).is_some_and(|it| it.expose() == value.expose())
            });
            if let Some(twin) = twin {
                problem(format!(
                    "is the secret of {} too: an environment has its own",
                    at(&twin.key)
                ));
            }
        }
    }
    problems
}

/// The machine of an environment: its host's name without the user, and the port.
fn machine(one: &Resolved) -> Option<(String, String)> {
    let text = |key| one.value(key).map(|it| it.expose().to_lowercase());
    let host = text("DEPLOY_HOST")?;
    let name = host.rsplit('@').next().unwrap_or_default().to_owned();
    Some((name, text("DEPLOY_SSH_PORT").unwrap_or_else(|| "22".to_owned())))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const TEMPLATE: &str = "\
# @required @own
DEPLOY_HOST=
DEPLOY_SSH_PORT=
DEPLOY_DIR=
# @own @type=resource
GOOGLE_CLOUD_PROJECT=
# @required @sensitive
POSTGRES_PASSWORD=
";

    /// A checkout with these files; those with values are for our eyes only.
    fn checkout(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("env-templates")).unwrap();
        let templates = ["prod", "staging"].map(|it| (format!("env-templates/{it}.env"), TEMPLATE));
        let templates = templates.iter().map(|(path, text)| (path.as_str(), *text));
        for (path, text) in templates.chain(files.iter().copied()) {
            fs::write(root.path().join(path), text).unwrap();
            let mode = if path.starts_with(".env") { 0o600 } else { 0o644 };
            fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        root
    }

    #[track_caller]
    fn verify(files: &[(&str, &str)], only: Option<&str>, expected: &Expect) {
        let root = checkout(files);
        let found = super::check(root.path(), only, &BTreeMap::new()).unwrap();
        expected.assert_eq(&told(&found));
    }

    fn told(found: &Checkup) -> String {
        let conditions = found.environments.iter().map(|(name, it)| format!("{name}: {it:?}"));
        let problems = found.problems.iter().map(ToString::to_string);
        conditions.chain(problems).collect::<Vec<_>>().join("\n")
    }

    const PROD: &str =
        "DEPLOY_HOST=ana@vm-1\nGOOGLE_CLOUD_PROJECT=acme-data-prod\nPOSTGRES_PASSWORD=hunter2\n";

    #[test]
    fn environments_that_share_nothing_are_right() {
        let staging = "DEPLOY_HOST=ana@vm-2\nGOOGLE_CLOUD_PROJECT=acme-data-staging\nPOSTGRES_PASSWORD=hunter3\n";
        verify(
            &[(".env.prod", PROD), (".env.staging", staging)],
            None,
            &expect![[r#"
            prod: Right
            staging: Right"#]],
        );
    }

    #[test]
    fn what_must_not_be_shared_is_told_once_and_no_secret_is_shown() {
        let staging = "DEPLOY_HOST=bob@VM-1\nDEPLOY_SSH_PORT=22\nGOOGLE_CLOUD_PROJECT=acme-data-prod\nPOSTGRES_PASSWORD=hunter2\n";
        verify(
            &[(".env.prod", PROD), (".env.staging", staging)],
            None,
            &expect![[r#"
            prod: Right
            staging: Wrong
            .env.staging:3: `GOOGLE_CLOUD_PROJECT` must be named `resource-type-staging`, like `sales-bucket-staging`
            .env.staging:1: `DEPLOY_HOST` is the machine of .env.prod:1 too: an environment has its own
            .env.staging:3: `GOOGLE_CLOUD_PROJECT` is the same as in .env.prod:2: an environment has its own
            .env.staging:4: `POSTGRES_PASSWORD` is the secret of .env.prod:3 too: an environment has its own"#]],
        );
        verify(
            &[(".env.prod", PROD), (".env.staging", staging)],
            Some("prod"),
            &expect![[r#"
            prod: Wrong
            .env.prod:1: `DEPLOY_HOST` is the machine of .env.staging:1 too: an environment has its own
            .env.prod:2: `GOOGLE_CLOUD_PROJECT` is the same as in .env.staging:3: an environment has its own
            .env.prod:3: `POSTGRES_PASSWORD` is the secret of .env.staging:4 too: an environment has its own"#]],
        );
    }

    #[test]
    fn one_folder_on_one_host_is_refused_where_a_host_may_be_shared() {
        let template = TEMPLATE.replace("@required @own\nDEPLOY_HOST", "@required\nDEPLOY_HOST");
        let staging = "DEPLOY_HOST=bob@vm-1\nDEPLOY_DIR=dagster\nPOSTGRES_PASSWORD=hunter3\n";
        let prod = format!("{PROD}DEPLOY_DIR=dagster\n");
        let files = [
            ("env-templates/prod.env", template.as_str()),
            ("env-templates/staging.env", &template),
            (".env.prod", &prod),
            (".env.staging", staging),
        ];
        verify(
            &files,
            None,
            &expect![[r#"
            prod: Right
            staging: Wrong
            .env.staging:2: `DEPLOY_DIR` is the folder of .env.prod:4 too, on the same host"#]],
        );
    }

    #[test]
    fn an_environment_without_a_file_here_is_no_fault_unless_it_is_asked_for() {
        verify(
            &[(".env.prod", PROD)],
            None,
            &expect![[r#"
            prod: Right
            staging: NoFile"#]],
        );
        verify(
            &[(".env.prod", PROD)],
            Some("staging"),
            &expect![[r#"
            staging: Wrong
            env-templates/staging.env:2: `DEPLOY_HOST` has no value: give it one in .env.staging
            env-templates/staging.env:8: `POSTGRES_PASSWORD` has no value: give it one in .env.staging"#]],
        );
    }

    #[test]
    fn files_that_others_may_read_and_slips_of_names_are_told() {
        let root = checkout(&[
            (".env.prod", PROD),
            (".env.prdo", ""),
            (".env.prod.bak", ""),
            (".envrc", ""),
        ]);
        fs::set_permissions(root.path().join(".env.prod.bak"), fs::Permissions::from_mode(0o644))
            .unwrap();
        let paths =
            [".env.prod", "old/.env", "env-templates/prod.env", ".envrc"].map(str::to_owned);
        let mut found = super::check(root.path(), None, &BTreeMap::new()).unwrap();
        found.problems.extend(tracked(&paths));
        expect![[r#"
            prod: Right
            staging: NoFile
            .env.prdo: there is no environment `prdo`, did you mean `prod`?
            .env.prod.bak: others may read it: chmod 600 .env.prod.bak
            .env.prod: is in git: `git rm --cached .env.prod`, and change the secrets it holds
            old/.env: is in git: `git rm --cached old/.env`, and change the secrets it holds"#]]
        .assert_eq(&told(&found));
    }

    #[test]
    fn templates_must_agree_and_call_a_secret_one() {
        let staging =
            format!("{}# @type=enum(a,b)\nAPI_TOKEN=\n", TEMPLATE.replace(" @sensitive", ""));
        let root = checkout(&[("env-templates/staging.env", &staging)]);
        expect![[r#"
            prod: Wrong
            staging: Wrong
            env-templates/staging.env:8: `POSTGRES_PASSWORD` looks like a secret: mark it `# @sensitive`
            env-templates/staging.env:10: `API_TOKEN` looks like a secret: mark it `# @sensitive`
            env-templates/prod.env: `API_TOKEN` of env-templates/staging.env is missing: the code may ask for it in every environment
            env-templates/staging.env:8: `POSTGRES_PASSWORD` is @sensitive here or in env-templates/prod.env, and not in the other"#]].assert_eq(&told(&check_templates(root.path()).unwrap()));
    }

    #[test]
    fn the_shipped_templates_are_right() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(check_templates(&root).unwrap().problems, []);
    }
}
