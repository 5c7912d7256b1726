//! The release that serves, with one secret changed and nothing else.

use std::collections::BTreeMap;

use settings::{Deploy, Item, Origin, ResolveOn, Settings, Value};

use crate::{
    Change, ComposeFiles, Inputs, MadeOf, Manifest, Observed, Outcome, PASSWORD, Plan, ReleaseId,
    Step, core_environment,
    files::{environment_of, with_value},
    plan::{changes, steps},
};

/// The files on the host that tell what serves: the code server's are of its release, the platform's
/// of the release that it stands from. They hold secrets.
pub struct ServedFiles {
    /// The Compose files.
    pub compose: ComposeFiles,
    /// `core.env.json`.
    pub core_environment: String,
    /// `platform.env.json`.
    pub platform_environment: String,
}

/// A release that differs from what serves in one secret. Whatever else has changed since, in the
/// checkout or in the settings, stays out of it.
pub struct Rotation {
    key: String,
    /// The settings of what serves, with the new secret.
    pub settings: Settings,
    /// What it is made from.
    pub inputs: Inputs,
    served: ServedFiles,
}

/// Why there is no rotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "their messages say it")]
pub enum NoRotation {
    #[error("`{key}` reaches no container: no release holds it")]
    Deployer { key: String, environment: String },
    #[error("`{key}` is no secret")]
    NotSecret { key: String, environment: String },
    #[error("`{key}` has no value")]
    NoValue { key: String, environment: String },
    #[error("nothing serves in `{environment}` yet")]
    NothingServes { environment: String },
    #[error("what serves in `{environment}` is not all there: {}", list(.why))]
    NotWhole { environment: String, why: Vec<Change> },
    #[error("`{release}`, which serves, does not tell what it was made of")]
    Untold { release: ReleaseId, environment: String },
    #[error("`{release}`, which serves, has no `{key}`")]
    NotThere { key: String, release: ReleaseId, environment: String },
    #[error("nothing to rotate: `{key}` ({origin}) is what serves already")]
    Unchanged { key: String, origin: Origin, environment: String },
}

impl NoRotation {
    /// What can be done about it.
    pub fn hint(&self) -> String {
        match self {
            NoRotation::Deployer { environment, .. } => format!(
                "it is read anew by whoever deploys: write the new one into .env.{environment} or its \
                 store, and nothing more is to be done"
            ),
            NoRotation::NoValue { environment, .. } => {
                format!("give it one in .env.{environment}")
            }
            NoRotation::Unchanged { environment, .. } => {
                format!(
                    "write the new one into .env.{environment} first, or to the store it is kept in"
                )
            }
            NoRotation::NotSecret { environment, .. }
            | NoRotation::NothingServes { environment }
            | NoRotation::NotWhole { environment, .. }
            | NoRotation::Untold { environment, .. }
            | NoRotation::NotThere { environment, .. } => {
                format!("that is for a deploy: cargo xtask deploy {environment}")
            }
        }
    }
}

fn list(why: &[Change]) -> String {
    why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Rotation {
    /// Refuses what no rotation can change, before anything is looked up or asked.
    pub fn refuse(item: &Item, environment: &str) -> Result<(), NoRotation> {
        let (key, environment) = (item.key.clone(), environment.to_owned());
        if key.starts_with("DEPLOY_") {
            return Err(NoRotation::Deployer { key, environment });
        }
        if !item.sensitive {
            return Err(NoRotation::NotSecret { key, environment });
        }
        Ok(())
    }

    /// What serves, and the platform's release under it; there must be both.
    pub fn of(observed: &Observed) -> Result<(&Manifest, &Manifest), NoRotation> {
        let environment = observed.layout.environment.clone();
        let Some(live) = observed.live_manifest() else {
            return Err(NoRotation::NothingServes { environment });
        };
        let platform = observed.platform_of.as_ref();
        let torn = || NoRotation::NotWhole { environment, why: vec![Change::PlatformTorn] };
        Ok((live, platform.ok_or_else(torn)?))
    }

    /// The value that a key has in the `settings`, put into what is `served`.
    pub fn new(
        key: &str,
        settings: &Settings,
        mut served: ServedFiles,
        observed: &Observed,
    ) -> Result<Rotation, NoRotation> {
        let (live, platform) = Rotation::of(observed)?;
        let (key, release) = (key.to_owned(), live.id.clone());
        let environment = settings.environment.clone();
        let Some(value) = settings.containers.get(&key).filter(|it| !it.expose().is_empty()) else {
            return Err(NoRotation::NoValue { key, environment });
        };
        let Some((mut settings, of_platform)) = as_served(settings, &served, observed) else {
            return Err(NoRotation::Untold { release, environment });
        };
        let old = settings.containers.insert(key.clone(), value.clone());
        let Some(old) = old else {
            return Err(NoRotation::NotThere { key, release, environment });
        };
        let new = value.expose();
        let changes_platform = of_platform.get(&key).is_some_and(|it| it != new);
        if old.expose() == new && !changes_platform {
            let origin = value.origin.clone();
            return Err(NoRotation::Unchanged { key, origin, environment });
        }
        served.core_environment = core_environment(&settings);
        let mut inputs = Inputs {
            core: live.inputs.core.clone(),
            core_settings: served.compose.core_settings(&settings),
            ..platform.inputs.clone()
        };
        if changes_platform {
            let environment = &mut served.platform_environment;
            *environment = with_value(environment, &key, new);
            inputs.platform_settings =
                served.compose.platform_settings(environment, &settings.deploy);
        }
        Ok(Rotation { key, settings, inputs, served })
    }

    /// What brings it there.
    pub fn plan(
        &self,
        release: ReleaseId,
        test_job: bool,
        keep: usize,
        observed: &Observed,
    ) -> Result<Plan, NoRotation> {
        let mut why = changes(&self.inputs, observed);
        let ours = |it: &Change| matches!(it, Change::CodeSettings | Change::PlatformSettings);
        if !why.iter().all(ours) {
            why.retain(|it| !ours(it));
            let environment = observed.layout.environment.clone();
            return Err(NoRotation::NotWhole { environment, why });
        }
        let password = self.key == PASSWORD && why.contains(&Change::PlatformSettings);
        why.extend(password.then_some(Change::Password));
        let mut steps = steps(&release, &why, test_job, keep, observed);
        // Images and dagster.yaml are those that stand.
        steps.retain(|it| *it != Step::Inspect);
        let plan = Plan {
            from: observed.live.clone(),
            steps,
            changes: vec![Change::Secret(self.key.clone())],
            release,
        };
        let left_to_host = self.settings.left_to_host().into_iter().map(|(key, _)| key);
        Ok(plan.with_secrets_of_host(left_to_host))
    }

    /// The manifest of the release that it makes: the images are those that serve.
    pub fn manifest(
        &self,
        id: ReleaseId,
        by: String,
        at: String,
        observed: &Observed,
    ) -> Result<Manifest, NoRotation> {
        let (live, platform) = Rotation::of(observed)?;
        let mut secrets = live.secrets.clone();
        secrets.remove(&self.key);
        secrets.extend(self.settings.kept());
        Ok(Manifest {
            id,
            outcome: Outcome::Pending,
            by,
            at,
            platform_image: platform.platform_image.clone(),
            postgres_image: platform.postgres_image.clone(),
            inputs: self.inputs.clone(),
            ui_port: platform.ui_port,
            hosts: platform.hosts.clone(),
            secrets,
            phases: Vec::new(),
            ..live.clone()
        })
    }

    /// The files of its folder, by name.
    pub fn files(&self, id: &ReleaseId) -> Vec<(&'static str, String)> {
        let ServedFiles { compose, platform_environment, .. } = &self.served;
        compose.of_release(id, &self.settings, platform_environment.clone())
    }
}

/// The settings of what serves, as its files and its record tell them, and what the platform has of
/// them. None if they do not.
fn as_served(
    settings: &Settings,
    served: &ServedFiles,
    observed: &Observed,
) -> Option<(Settings, BTreeMap<String, String>)> {
    let made_of = observed.made_of.as_ref()?;
    let value = |(key, text): (String, String)| {
        let value = Value::released(text, made_of.is_secret(&key));
        (key, value)
    };
    let containers = environment_of(&served.core_environment)?.into_iter().map(value);
    let mut containers: BTreeMap<String, Value> = containers.collect();
    let deploy = deploy(&settings.deploy, made_of, observed.platform_made_of.as_ref()?)?;
    let mut of_platform = environment_of(&served.platform_environment)?;
    if deploy.resolve_on == ResolveOn::Host {
        // It reads them anew, of the same version; so the release is made of what a deploy would be.
        for (key, reference) in observed.live_manifest().into_iter().flat_map(|it| &it.secrets) {
            containers.entry(key.clone()).and_modify(|it| *it = Value::referred(reference));
            of_platform.entry(key.clone()).and_modify(|it| it.clone_from(reference));
        }
    }
    let environment = settings.environment.clone();
    Some((Settings { environment, deploy, containers }, of_platform))
}

/// The deployer's settings; of those that a release is made of, what serves.
fn deploy(now: &Deploy, core: &MadeOf, platform: &MadeOf) -> Option<Deploy> {
    let of = |made_of: &MadeOf, key: &str| made_of.plain(key).map(str::to_owned);
    Some(Deploy {
        core_memory: of(core, "DEPLOY_CORE_MEMORY")?,
        python_image: of(core, "DEPLOY_PYTHON_IMAGE")?,
        postgres_image: of(platform, "DEPLOY_POSTGRES_IMAGE")?,
        ui_port: platform.plain("DEPLOY_UI_PORT")?.parse().ok()?,
        postgres_memory: of(platform, "DEPLOY_POSTGRES_MEMORY")?,
        webserver_memory: of(platform, "DEPLOY_WEBSERVER_MEMORY")?,
        daemon_memory: of(platform, "DEPLOY_DAEMON_MEMORY")?,
        ..now.clone()
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        Fingerprint, Location,
        plan::tests::{A, NEW, host},
    };

    fn settings(containers: &[(&str, &str)]) -> Settings {
        let secret = |key: &str| key.ends_with("TOKEN") || key == PASSWORD;
        let values = containers.iter().map(|(key, text)| {
            ((*key).to_owned(), Value::released((*text).to_owned(), secret(key)))
        });
        let deploy = Deploy {
            host: "vm".into(),
            ssh_port: None,
            ssh_key: None,
            ssh_known_hosts: None,
            ssh_proxy: None,
            dir: String::new(),
            registry: String::new(),
            registry_user: None,
            registry_password: None,
            proven_by: None,
            resolve_on: ResolveOn::Deployer,
            python_image: "python:3".into(),
            postgres_image: "postgres:17".into(),
            ui_port: 3000,
            local_port: 3000,
            start_timeout: std::time::Duration::ZERO,
            verify_timeout: std::time::Duration::ZERO,
            test_job: String::new(),
            locations: Vec::new(),
            keep_releases: 5,
            allow_dirty: false,
            confirm: false,
            testbed: false,
            core_memory: "2g".into(),
            webserver_memory: "1g".into(),
            daemon_memory: "1g".into(),
            postgres_memory: "1g".into(),
        };
        Settings { environment: "prod".into(), deploy, containers: values.collect() }
    }

    const THEN: [(&str, &str); 4] = [
        ("API_TOKEN", "canary$old"),
        ("GREETING", "hello"),
        (PASSWORD, "of then"),
        ("POSTGRES_USER", "dagster"),
    ];

    /// A host on which a release of [`THEN`] serves.
    fn served() -> (Observed, ServedFiles) {
        let compose = ComposeFiles {
            core: "core".into(),
            platform: "platform".into(),
            dagster: "dagster".into(),
        };
        let then = settings(&THEN);
        let platform_environment = crate::platform_environment(&then);
        let mut observed = host(&[(A, "running")], Some(A));
        observed.serving.insert(Location::default(), A.parse().unwrap());
        observed.made_of = Some(compose.made_of(&A.parse().unwrap(), &then));
        observed.platform_made_of.clone_from(&observed.made_of);
        let inputs = &mut observed.manifests[0].inputs;
        inputs.core_settings = compose.core_settings(&then);
        inputs.platform_settings = compose.platform_settings(&platform_environment, &then.deploy);
        observed.platform_of = observed.live_manifest().cloned();
        let core_environment = core_environment(&then);
        (observed, ServedFiles { compose, core_environment, platform_environment })
    }

    #[track_caller]
    fn check(
        key: &str,
        now: &[(&str, &str)],
        (observed, served): (Observed, ServedFiles),
        expected: &Expect,
    ) {
        let text = Rotation::new(key, &settings(now), served, &observed)
            .and_then(|it| it.plan(NEW.parse().unwrap(), false, 5, &observed))
            .map_or_else(|why| format!("{why}\nhint: {}", why.hint()), |plan| plan.to_string());
        expected.assert_eq(&text);
    }

    #[test]
    fn a_secret_of_the_code_changes_the_code_server_alone() {
        // Whatever else the settings say by now.
        let now = [("API_TOKEN", "new"), ("GREETING", "goodbye"), ("LATER", "x")];
        check(
            "API_TOKEN",
            &now,
            served(),
            &expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - the secret API_TOKEN changes, and nothing else
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. start the new code server beside the one that serves
               4. check the new code server's definitions
               5. switch webserver and daemon to it
               6. verify that it is what is served
               7. record the release"#]],
        );
        let (observed, served) = served();
        let old = served.compose.made_of(&A.parse().unwrap(), &settings(&THEN));
        let rotation = Rotation::new("API_TOKEN", &settings(&now), served, &observed).unwrap();
        let new = rotation.served.compose.made_of(&A.parse().unwrap(), &rotation.settings);
        let changes = old.settings_changed(&new);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].to_string(), "~ API_TOKEN, a secret, changed");
        let live = &observed.manifests[0];
        assert_eq!(
            rotation.inputs,
            Inputs { core_settings: rotation.inputs.core_settings.clone(), ..live.inputs.clone() }
        );
        let id: ReleaseId = NEW.parse().unwrap();
        let files = rotation.files(&id);
        let file = |name: &str| &files.iter().find(|it| it.0 == name).unwrap().1;
        expect![[r#"{"services":{"docker_dagster_core":{"environment":{"API_TOKEN":"new","GREETING":"hello","POSTGRES_PASSWORD":"of then","POSTGRES_USER":"dagster"}}}}"#]].assert_eq(file("core.env.json"));
        assert_eq!(*file("platform.env.json"), crate::platform_environment(&settings(&THEN)));
        let manifest = rotation.manifest(id, String::new(), String::new(), &observed).unwrap();
        assert_eq!(manifest.core_image, live.core_image);
    }

    #[test]
    fn the_database_is_told_its_password_and_no_other_secret() {
        let now = [(PASSWORD, "of $now")];
        check(
            PASSWORD,
            &now,
            served(),
            &expect![[r#"
                20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
                  - the secret POSTGRES_PASSWORD changes, and nothing else
                steps:
                   1. pull its images by digest
                   2. put the release on the host
                   3. start the new code server beside the one that serves
                   4. check the new code server's definitions
                   5. stop the daemon; runs queue until it is back
                   6. make sure that no run is in flight; those that wait go on waiting
                   7. tell Postgres the other password; webserver and daemon start with it and ask the new code server
                   8. switch webserver and daemon to it
                   9. verify that it is what is served
                  10. record the release"#]],
        );
        let (observed, served) = served();
        let rotation = Rotation::new(PASSWORD, &settings(&now), served, &observed).unwrap();
        let environment = environment_of(&rotation.served.platform_environment).unwrap();
        assert_eq!(environment[PASSWORD], "of $now");
        // Another location was first: the platform knows it already.
        let (mut observed, served) = self::served();
        let platform = observed.platform_of.as_mut().unwrap();
        platform.inputs.platform_settings = Fingerprint::of([b"with it".as_slice()]);
        let served = ServedFiles {
            platform_environment: with_value(&served.platform_environment, PASSWORD, "of $now"),
            ..served
        };
        check(
            PASSWORD,
            &now,
            (observed, served),
            &expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - the secret POSTGRES_PASSWORD changes, and nothing else
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. start the new code server beside the one that serves
               4. check the new code server's definitions
               5. switch webserver and daemon to it
               6. verify that it is what is served
               7. record the release"#]],
        );
    }

    #[test]
    fn what_the_host_reads_itself_is_recorded_by_where_it_is_kept() {
        let kept = |version: u8| format!("gcp-secret://token@{version}");
        let at = |version: u8| {
            let mut settings = settings(&THEN);
            settings.deploy.resolve_on = ResolveOn::Host;
            settings.containers.insert("API_TOKEN".into(), Value::referred(&kept(version)));
            settings
        };
        let (mut observed, served) = self::served();
        observed.manifests[0].secrets.insert("API_TOKEN".into(), kept(7));
        let id: ReleaseId = A.parse().unwrap();
        let made_of = served.compose.made_of(&id, &at(7));
        observed.made_of = Some(made_of.clone());
        let same = Rotation::new("API_TOKEN", &at(7), served, &observed).err();
        assert!(matches!(same, Some(NoRotation::Unchanged { .. })), "{same:?}");

        let rotate = |key: &str, settings: &Settings| {
            let rotation = Rotation::new(key, settings, self::served().1, &observed).unwrap();
            let plan = rotation.plan(NEW.parse().unwrap(), false, 5, &observed).unwrap();
            let new = rotation.served.compose.made_of(&id, &rotation.settings);
            assert!(plan.steps.contains(&Step::Resolve(vec!["API_TOKEN".into()])), "{plan}");
            (made_of.settings_changed(&new).len(), rotation.settings.kept())
        };
        assert_eq!(rotate("API_TOKEN", &at(8)), (1, [("API_TOKEN".into(), kept(8))].into()));
        // It is read anew, of the version that serves.
        let mut other = at(8);
        other.containers.insert(PASSWORD.into(), Value::released("of $now".into(), true));
        assert_eq!(rotate(PASSWORD, &other), (1, [("API_TOKEN".into(), kept(7))].into()));
    }

    #[test]
    fn what_cannot_be_rotated_is_told_with_what_to_do() {
        check(
            "API_TOKEN",
            &THEN,
            served(),
            &expect![[r#"
            nothing to rotate: `API_TOKEN` (release) is what serves already
            hint: write the new one into .env.prod first, or to the store it is kept in"#]],
        );
        check(
            "LATER_TOKEN",
            &[("LATER_TOKEN", "x")],
            served(),
            &expect![[r#"
            `20261101-000000-aaaaaaa`, which serves, has no `LATER_TOKEN`
            hint: that is for a deploy: cargo xtask deploy prod"#]],
        );
        check(
            "API_TOKEN",
            &[],
            served(),
            &expect![[r#"
            `API_TOKEN` has no value
            hint: give it one in .env.prod"#]],
        );
        let with = |change: fn(&mut Observed)| {
            let (mut observed, served) = served();
            change(&mut observed);
            (observed, served)
        };
        let now = [("API_TOKEN", "new")];
        check(
            "API_TOKEN",
            &now,
            with(|it| it.live = None),
            &expect![[r#"
            nothing serves in `prod` yet
            hint: that is for a deploy: cargo xtask deploy prod"#]],
        );
        check(
            "API_TOKEN",
            &now,
            with(|it| it.platform_of = None),
            &expect![[r#"
            what serves in `prod` is not all there: a change of the platform was cut off
            hint: that is for a deploy: cargo xtask deploy prod"#]],
        );
        check(
            "API_TOKEN",
            &now,
            with(|it| it.made_of = None),
            &expect![[r#"
            `20261101-000000-aaaaaaa`, which serves, does not tell what it was made of
            hint: that is for a deploy: cargo xtask deploy prod"#]],
        );
        check(
            "API_TOKEN",
            &now,
            with(|it| it.platform[2].state = "exited".into()),
            &expect![[r#"
            what serves in `prod` is not all there: dagster-daemon is not running
            hint: that is for a deploy: cargo xtask deploy prod"#]],
        );
    }
}
