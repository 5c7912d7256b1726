//! Looks up secrets that are kept elsewhere: late, each once, all at the same time.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, thread};

use anyhow::{Context as _, anyhow, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use exec::{Cmd, Host, Output};
use release::ReleaseId;
use serde::Deserialize;
use settings::{Reference, Secret, Secrets, Settings, Store, Value};

use crate::{
    environment::Here,
    exit::{Failure, Result},
    locked::Locked,
    report::Report,
    session::{bash, remote, tail, target},
};

/// Puts the secrets that are kept elsewhere into the settings; of those that the host reads, which
/// version is meant. Answers the connection, if that was asked for.
pub(crate) fn look_up(
    settings: &mut Settings,
    here: &Here,
    report: &mut Report,
) -> Result<Option<Host>> {
    look_up_here(settings, here, report)?;
    if settings.left_to_host().is_empty() {
        return Ok(None);
    }
    report.phase("secrets");
    let host = Host::connect(&target(settings))?;
    let versions = pin(settings, &host)?;
    report.end(&format!("{} left to the host", settings.left_to_host().len()));
    settings.pin(&versions);
    Ok(Some(host))
}

/// Puts the secrets that the deployer reads into the settings.
pub(crate) fn look_up_here(settings: &mut Settings, here: &Here, report: &mut Report) -> Result {
    let found = {
        let unread = settings.unread();
        // Who asks for what; several keys may ask for the same.
        let mut askers = BTreeMap::new();
        for (key, value) in &unread {
            let reference = value.reference().expect("what is unread is kept elsewhere");
            let asker = format!("`{key}` ({})", value.origin);
            askers.entry(reference).or_insert_with(Vec::new).push(asker);
        }
        if askers.is_empty() {
            return Ok(());
        }
        report.phase("secrets");
        let found = ask(&Stores { here, project: project(settings) }, &askers)?;
        report.end(&format!("{} looked up", found.len()));
        found
    };
    settings.fill(&found);
    Ok(())
}

/// Asks the host for the versions that are meant by references that do not say.
fn pin(settings: &Settings, host: &Host) -> Result<BTreeMap<Reference, String>> {
    let mut open: Vec<&Reference> =
        settings.left_to_host().iter().filter_map(|(_, value)| value.reference()).collect();
    open.retain(|it| !it.is_pinned());
    open.sort_unstable();
    open.dedup();
    if open.is_empty() {
        return Ok(BTreeMap::new());
    }
    let args = open.iter().flat_map(|it| on_google(it, settings));
    let output = host.output(&bash(remote::PIN, &args.collect::<Vec<_>>()))?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let versions: Vec<&str> = told.lines().collect();
    if !output.status.success() {
        // Those before it were told.
        let at = open[versions.len().min(open.len() - 1)];
        let key = |value: &Value| value.reference() == Some(at);
        let asker = settings.left_to_host().into_iter().find(|(_, value)| key(value));
        let (key, _) = asker.expect("each was asked for by a key");
        return Err(unread_there(settings, key, at, &output));
    }
    Ok(open.into_iter().cloned().zip(versions.into_iter().map(str::to_owned)).collect())
}

/// Has the host read its secrets into the files of a release, where their references stand.
pub(crate) fn resolve(
    locked: &Locked<'_>,
    settings: &Settings,
    release: &ReleaseId,
) -> Result<String> {
    let left = settings.left_to_host();
    let written: Vec<(&str, &Reference, String)> = left
        .iter()
        .filter_map(|(key, value)| Some((*key, value.reference()?, value.expose().to_owned())))
        .collect();
    let dir = locked.observed.layout.release(release);
    let mut args = vec![dir.as_str()];
    for (key, reference, text) in &written {
        args.extend([*key, text.as_str()]);
        args.extend(on_google(reference, settings));
    }
    let output = locked.script(remote::RESOLVE, &args, Vec::new())?;
    if output.status.code() == Some(UNREAD) {
        let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if let Some((key, reference, _)) = written.iter().find(|it| it.0 == key) {
            return Err(unread_there(settings, key, reference, &output));
        }
    }
    locked.succeeded("read the secrets", output)?;
    Ok(format!("{} read", written.len()))
}

/// What the scripts answer when a secret cannot be read.
const UNREAD: i32 = 45;

fn unread_there(settings: &Settings, key: &str, reference: &Reference, output: &Output) -> Failure {
    let machine = settings.deploy.machine();
    let words = String::from_utf8_lossy(&output.stderr);
    let error = anyhow!("{}", tail(&words, 20))
        .context(format!("{machine} cannot read {reference}, which `{key}` asks for"));
    Failure::refused(error).hint(format!(
        "the service account of {machine} needs roles/secretmanager.secretAccessor on `{}`, and the \
         machine the access scope `cloud-platform`",
        reference.of_google().1
    ))
}

/// Project, name and version, as the scripts are told them.
fn on_google<'a>(reference: &'a Reference, settings: &'a Settings) -> [&'a str; 3] {
    let (own, name) = reference.of_google();
    let project = own.or(project(settings)).unwrap_or_default();
    [project, name, reference.version.as_deref().unwrap_or("latest")]
}

/// The environment's Google project: whose secret is meant if a reference does not say.
fn project(settings: &Settings) -> Option<&str> {
    let project = settings.containers.get("GOOGLE_CLOUD_PROJECT").map(Value::expose);
    project.filter(|it| !it.is_empty())
}

fn ask<S: Secrets<Error = anyhow::Error>>(
    stores: &S,
    askers: &BTreeMap<&Reference, Vec<String>>,
) -> Result<BTreeMap<Reference, Secret>> {
    let answers: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = askers
            .keys()
            .map(|&reference| (reference, scope.spawn(move || stores.look_up(reference))))
            .collect();
        let join = |(reference, thread): (_, thread::ScopedJoinHandle<'_, _>)| {
            (reference, thread.join().expect("looking a secret up does not panic"))
        };
        asked.into_iter().map(join).collect()
    });
    let failed = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    let mut found = BTreeMap::new();
    for (reference, answer) in answers {
        match answer {
            Ok(secret) => {
                found.insert(reference.clone(), secret);
            }
            Err(error) => {
                let keys = askers[reference].join(", ");
                let more = match failed {
                    1 => String::new(),
                    n => format!("; nor can {} more", n - 1),
                };
                let error =
                    error.context(format!("cannot read {reference}, which {keys} asks for{more}"));
                return Err(Failure::refused(error).hint(hint(reference)));
            }
        }
    }
    Ok(found)
}

/// What to do when a store does not answer.
fn hint(reference: &Reference) -> String {
    match reference.store {
        Store::Google => format!(
            "log in with `gcloud auth login`; you need roles/secretmanager.secretAccessor on `{}`",
            reference.name
        ),
        Store::OnePassword => {
            "log in with `op signin`, and compare the names of vault, item and field".to_owned()
        }
        Store::Pass => format!("see whether `pass show {}` works here", reference.name),
        Store::File => "the file must be there, for your eyes only: chmod 600".to_owned(),
        Store::Command => "run the command by hand, in the root of the checkout".to_owned(),
    }
}

/// The stores, each asked by its own program.
struct Stores<'a> {
    here: &'a Here,
    /// The environment's Google project: whose secret is meant if a reference does not say.
    project: Option<&'a str>,
}

impl Secrets for Stores<'_> {
    type Error = anyhow::Error;

    fn look_up(&self, reference: &Reference) -> anyhow::Result<Secret> {
        let name = reference.name.as_str();
        let plain = |text: String| Secret { text, version: None };
        let secret = match reference.store {
            Store::Google => self.google(reference)?,
            Store::OnePassword => {
                let call = self
                    .here
                    .program("op")
                    .args(["read", "--no-newline"])
                    .arg(reference.to_string());
                plain(text(&call)?)
            }
            Store::Pass => {
                // What follows the first line are notes, by its convention.
                let whole = text(&self.here.program("pass").args(["show", name]))?;
                plain(whole.lines().next().unwrap_or_default().to_owned())
            }
            Store::File => plain(self.file(name)?),
            Store::Command => {
                let call = self.here.program("sh").args(["-c", name]);
                // The command itself stays unsaid: somebody will write a secret into it.
                let output = call.output().map_err(|_| anyhow!("cannot run a shell"))?;
                if !output.status.success() {
                    bail!("the command failed with {}{}", output.status, said(&output.stderr));
                }
                plain(one_text(output.stdout)?)
            }
        };
        if secret.text.is_empty() {
            bail!("it is empty there");
        }
        if secret.text.contains('\0') {
            bail!("it holds a NUL byte, which no environment can hold");
        }
        Ok(secret)
    }
}

impl Stores<'_> {
    fn file(&self, name: &str) -> anyhow::Result<String> {
        let path = self.here.path(name);
        let shown = path.display();
        let read = || format!("cannot read `{shown}`");
        let mode = fs::metadata(&path).with_context(read)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!("others may read `{shown}`");
        }
        one_text(fs::read(&path).with_context(read)?)
    }

    fn google(&self, reference: &Reference) -> anyhow::Result<Secret> {
        let (own, name) = reference.of_google();
        let project = own.or(self.project);
        let version = reference.version.as_deref().unwrap_or("latest");
        let call = self
            .here
            .program("gcloud")
            // It would write what it reads into a log of its own.
            .env("CLOUDSDK_CORE_DISABLE_FILE_LOGGING", "1")
            .args(["secrets", "versions", "access", version])
            .args([format!("--secret={name}"), "--format=json".to_owned()])
            .args(project.map(|it| format!("--project={it}")));
        // An error of the parser would show what it read.
        let answer: Version = serde_json::from_str(&text(&call)?)
            .map_err(|_| anyhow!("`gcloud` answered something else than a secret's version"))?;
        let bytes = BASE64_URL_SAFE
            .decode(&answer.payload.data)
            .map_err(|_| anyhow!("`gcloud` answered something else than base64"))?;
        let version = answer.name.rsplit('/').next().map(str::to_owned);
        Ok(Secret { text: one_text(bytes)?, version })
    }
}

/// What `gcloud` answers: the version that was read, and the secret.
#[derive(Deserialize)]
struct Version {
    name: String,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    data: String,
}

/// What a program that must succeed prints.
fn text(call: &Cmd) -> anyhow::Result<String> {
    let output = call.output()?;
    if !output.status.success() {
        // Its last words, and never its output.
        bail!("`{call}` failed with {}{}", output.status, said(&output.stderr));
    }
    one_text(output.stdout)
}

fn said(stderr: &[u8]) -> String {
    match String::from_utf8_lossy(stderr).trim_end() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// A secret as text, without the newline that ends a file.
fn one_text(bytes: Vec<u8>) -> anyhow::Result<String> {
    let mut text = String::from_utf8(bytes).map_err(|_| anyhow!("it is not UTF-8 text"))?;
    text.truncate(text.strip_suffix('\n').unwrap_or(&text).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// Stands in for a program: notes how it was called, then does this.
    fn stand_in(root: &Path, name: &str, does: &str) {
        let path = root.join(name);
        let log = root.join("calls");
        fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >> {}\n{does}\n", log.display()))
            .unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A checkout whose stores hold `hunter2`.
    fn checkout() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let answer = r#"echo '{"name": "projects/1/secrets/db/versions/7", "payload": {"data": "aHVudGVyMsO_"}}'"#;
        stand_in(root.path(), "gcloud", answer);
        stand_in(root.path(), "op", "printf hunter2");
        stand_in(root.path(), "pass", "printf 'hunter2\\nuser: dagster\\n'");
        fs::write(root.path().join("secret"), "hunter2\n").unwrap();
        fs::set_permissions(root.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        root
    }

    fn ask_for(root: &Path, texts: &[&str]) -> Result<BTreeMap<Reference, Secret>> {
        let path = format!("{}:/usr/bin:/bin", root.display());
        let here = Here::of(root, &[("PATH", &path), ("HOME", &root.display().to_string())]);
        let references: Vec<_> =
            texts.iter().map(|it| Reference::parse(it).unwrap().unwrap()).collect();
        let asker = || vec!["`POSTGRES_PASSWORD` (.env.prod:3)".to_owned()];
        let stores = Stores { here: &here, project: Some("acme-staging") };
        ask(&stores, &references.iter().map(|it| (it, asker())).collect())
    }

    #[test]
    fn each_store_is_asked_once_in_its_own_words() {
        let root = checkout();
        let texts = [
            "gcp-secret://db",
            "gcp-secret://acme-prod/db@3",
            "op://Team/Postgres/password",
            "pass://dagster/prod",
            "file://secret",
            "file://~/secret",
            "cmd://sed s/$/x/ secret",
        ];
        let found = ask_for(root.path(), &texts).unwrap();
        let told = |(reference, secret): (&Reference, &Secret)| {
            format!("{reference}: {} {:?}\n", secret.text, secret.version)
        };
        expect![[r#"
            gcp-secret://acme-prod/db@3: hunter2ÿ Some("7")
            gcp-secret://db: hunter2ÿ Some("7")
            op://Team/Postgres/password: hunter2 None
            pass://dagster/prod: hunter2 None
            file://secret: hunter2 None
            file://~/secret: hunter2 None
            cmd://sed …: hunter2x None
        "#]]
        .assert_eq(&found.iter().map(told).collect::<String>());
        let calls = fs::read_to_string(root.path().join("calls")).unwrap();
        let mut calls: Vec<&str> = calls.lines().collect();
        calls.sort_unstable();
        expect![[r#"
            gcloud secrets versions access 3 --secret=db --format=json --project=acme-prod
            gcloud secrets versions access latest --secret=db --format=json --project=acme-staging
            op read --no-newline op://Team/Postgres/password
            pass show dagster/prod"#]]
        .assert_eq(&calls.join("\n"));
    }

    #[track_caller]
    fn refused(root: &Path, texts: &[&str], expected: &Expect) {
        let failure = ask_for(root, texts).unwrap_err();
        let told = failure.to_string().replace(&root.display().to_string(), "ROOT");
        assert!(!told.contains("hunter2"), "{told}");
        expected.assert_eq(&told);
    }

    /// Runs a script of the host's beside the stand-ins.
    fn on_host(root: &Path, script: &str, args: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", root.display());
        bash(script, args).env("PATH", path).output().unwrap()
    }

    #[test]
    fn the_host_tells_a_version_without_what_it_holds() {
        let root = checkout();
        stand_in(root.path(), "gcloud", "echo projects/1/secrets/x/versions/7");
        let args = ["acme-prod", "db", "latest", "", "token", "live"];
        let output = on_host(root.path(), remote::PIN, &args);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "7\n7\n");
        let calls = fs::read_to_string(root.path().join("calls")).unwrap();
        expect![[r#"
            gcloud secrets versions access latest --secret=db --project=acme-prod --format=value(name)
            gcloud secrets versions access live --secret=token --format=value(name)
        "#]].assert_eq(&calls);
        stand_in(root.path(), "gcloud", "echo denied >&2; exit 1");
        let output = on_host(root.path(), remote::PIN, &args);
        assert_eq!(output.status.code(), Some(UNREAD));
    }

    #[test]
    fn any_secret_that_the_host_reads_is_put_in_its_place_and_nowhere_else() {
        let root = checkout();
        let path = |name: &str| root.path().join(name);
        let reference = "gcp-secret://db@7";
        let other = "gcp-secret://other@1";
        let file = |db: &str| {
            let environment = json!({ "DB": db, "OTHER": other, "PLAIN": reference });
            let service = json!({ "environment": environment });
            json!({ "services": { "a": service, "b": service } })
        };
        let resolve = |secret: &[u8]| {
            for name in ["core.env.json", "platform.env.json"] {
                fs::write(path(name), file(reference).to_string()).unwrap();
            }
            fs::write(path("value"), secret).unwrap();
            stand_in(root.path(), "gcloud", &format!("cat {}", path("value").display()));
            let dir = root.path().display().to_string();
            let args = [dir.as_str(), "DB", reference, "", "db", "7"];
            on_host(root.path(), remote::RESOLVE.0, &args)
        };
        let nasty = "\"'\\ \t$HOME ${X} & \u{1} é 🦀\n \",\"OTHER\":\"gcp-secret://other@1\"\n";
        for (secret, expected) in [("hunter2\n", "hunter2"), (nasty, nasty.trim_end())] {
            let output = resolve(secret.as_bytes());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!([output.stdout, output.stderr].concat(), b"");
            for name in ["core.env.json", "platform.env.json"] {
                let after = fs::read(path(name)).unwrap();
                let after: serde_json::Value = serde_json::from_slice(&after).unwrap();
                assert_eq!(after, file(&expected.replace('$', "$$")));
            }
        }
        for (secret, why) in [
            (&b"\n"[..], "it is empty there\n"),
            (b"a\0b", "it holds a NUL byte, which no environment can hold\n"),
            (b"a\xe9b", "it is not UTF-8 text\n"),
            (b"a\xc3", "it is not UTF-8 text\n"),
        ] {
            let output = resolve(secret);
            assert_eq!(output.status.code(), Some(UNREAD));
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "DB\n");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), why);
        }
    }

    #[test]
    fn a_store_that_does_not_answer_is_named_with_who_asked_and_what_to_do() {
        let root = checkout();
        stand_in(
            root.path(),
            "gcloud",
            "echo hunter2; echo 'ERROR: NOT_FOUND: Secret [db]' >&2; exit 1",
        );
        refused(
            root.path(),
            &["gcp-secret://db"],
            &expect![[r#"
                error: cannot read gcp-secret://db, which `POSTGRES_PASSWORD` (.env.prod:3) asks for
                  caused by: `gcloud secrets versions access latest '--secret=db' '--format=json' '--project=acme-staging'` failed with exit status: 1: ERROR: NOT_FOUND: Secret [db]
                hint: log in with `gcloud auth login`; you need roles/secretmanager.secretAccessor on `db`"#]],
        );
        stand_in(root.path(), "gcloud", "echo '{\"hunter2\": 1}'");
        refused(
            root.path(),
            &["gcp-secret://db@2"],
            &expect![[r#"
            error: cannot read gcp-secret://db@2, which `POSTGRES_PASSWORD` (.env.prod:3) asks for
              caused by: `gcloud` answered something else than a secret's version
            hint: log in with `gcloud auth login`; you need roles/secretmanager.secretAccessor on `db`"#]],
        );
        fs::remove_file(root.path().join("op")).unwrap();
        refused(
            root.path(),
            &["op://a/b/c", "file://gone"],
            &expect![[r#"
            error: cannot read op://a/b/c, which `POSTGRES_PASSWORD` (.env.prod:3) asks for; nor can 1 more
              caused by: `op` is not installed on this machine
            hint: log in with `op signin`, and compare the names of vault, item and field"#]],
        );
        refused(
            root.path(),
            &["cmd://echo hunter2 | false"],
            &expect![[r#"
                error: cannot read cmd://echo …, which `POSTGRES_PASSWORD` (.env.prod:3) asks for
                  caused by: the command failed with exit status: 1
                hint: run the command by hand, in the root of the checkout"#]],
        );
        stand_in(root.path(), "pass", "true");
        refused(
            root.path(),
            &["pass://x"],
            &expect![[r#"
            error: cannot read pass://x, which `POSTGRES_PASSWORD` (.env.prod:3) asks for
              caused by: it is empty there
            hint: see whether `pass show x` works here"#]],
        );
        fs::set_permissions(root.path().join("secret"), fs::Permissions::from_mode(0o640)).unwrap();
        refused(
            root.path(),
            &["file://secret"],
            &expect![[r#"
            error: cannot read file://secret, which `POSTGRES_PASSWORD` (.env.prod:3) asks for
              caused by: others may read `ROOT/secret`
            hint: the file must be there, for your eyes only: chmod 600"#]],
        );
    }
}
