//! What a deploy will do, decided before it does any of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Age, Alignment, ImageRef, Inputs, Location, Migration, Observed, Outcome, ReleaseId, Runs,
    Standing, migrations::list, names,
};

/// The service of which there is exactly one.
const DAEMON: &str = "dagster-daemon";

/// What a deploy will do. An empty plan means that what should stand does stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The release that will be made.
    pub release: ReleaseId,
    /// The release that is served now, the one to go back to.
    pub from: Option<ReleaseId>,
    /// Why there is something to do.
    pub changes: Vec<Change>,
    /// What will be done, in order.
    pub steps: Vec<Step>,
}

/// A reason for a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// No release of this code location serves yet.
    First,
    /// There is no webserver, daemon and database yet.
    NoPlatform,
    /// A change of the platform was cut off: nobody knows what stands.
    PlatformTorn,
    /// The team's code, or a library it is locked to.
    Code,
    /// Another image of the same code, made elsewhere.
    CodeImage,
    /// Settings or the Compose file of the code server.
    CodeSettings,
    /// The image of webserver and daemon.
    PlatformImage,
    /// Settings, `dagster.yaml` or the Compose file of the platform.
    PlatformSettings,
    /// The password by which Postgres lets in whoever works on its databases.
    Password,
    /// This secret, and nothing else: a rotation was asked for.
    Secret(String),
    /// Something that should run does not.
    Down(String),
    /// The release that serves was never verified: a deploy was cut off.
    Unverified,
    /// A rollback was asked for, to the release with this commit's subject, deployed by whom and
    /// when.
    Rollback {
        /// The commit's subject line.
        subject: String,
        /// Who deployed it.
        by: String,
        /// When, RFC 3339, UTC.
        at: String,
    },
    /// The rollback leaves Dagster's tables at a revision that the release did not know.
    AcrossMigration {
        /// The revision that the release was verified with.
        then: String,
        /// The revision of now.
        now: String,
    },
    /// The rollback leaves the warehouse with migrations that the release did not know.
    AcrossWarehouse(Vec<String>),
}

/// One step of a deploy. After every prefix of the steps the platform serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Puts the release's folder on the host.
    Upload,
    /// Has the host read these secrets, by key, and put them into the release's folder.
    Resolve(Vec<String>),
    /// Fetches the images that the host lacks, by digest.
    Pull,
    /// Asks the new images whether they can take over: `dagster.yaml`, the data's version, the
    /// database's schema. Nothing is touched yet.
    Inspect,
    /// Stops the daemon and waits until it is gone: two would start every run twice. Runs queue
    /// meanwhile; those in flight go on in their code server.
    StopDaemon,
    /// Dumps Dagster's database into a file on the host, if its schema is to change.
    Dump,
    /// Migrates the schema of Dagster's database, if the new image has another.
    Migrate,
    /// Starts or updates Postgres, webserver and daemon.
    Platform,
    /// Makes sure that no run is in flight: runs lose the database when its password changes. Those
    /// that wait go on waiting.
    Quiesce {
        /// What becomes of runs that are.
        how: Runs,
        /// How long to wait for their end, in seconds.
        limit: u64,
    },
    /// Tells Postgres its new password, and points webserver and daemon, which are started with it,
    /// to the code server that knows it: all at once, since neither old nor new code works meanwhile.
    Login {
        /// The code locations that go on with the old password.
        without: Vec<Location>,
    },
    /// Applies to the warehouse the migrations that it lacks.
    Schema {
        /// Those that it lacks; all, if it could not be asked.
        migrations: Vec<String>,
        /// Whether it was asked for. A warehouse that is yet to be made needs not be.
        asked: bool,
    },
    /// Starts the release's code server beside the one that serves.
    Start,
    /// Lets the webserver, and it alone, load the new code server's definitions.
    Check,
    /// Points webserver and daemon to the new code server.
    Switch,
    /// Waits until the new code is what is served.
    Verify,
    /// Runs the test job on the platform.
    TestJob,
    /// Writes down that the release serves.
    Record,
    /// Waits for the end of the runs that older releases work on, or cancels them.
    EndRuns {
        /// Which of both.
        how: Runs,
        /// The releases.
        of: Vec<ReleaseId>,
        /// How long to wait for their end, in seconds.
        limit: u64,
    },
    /// Lets the code servers of older releases finish their runs and stop.
    Retire(Vec<ReleaseId>),
    /// Removes what no release needs any more.
    Prune {
        /// Releases whose stopped code server is removed.
        containers: Vec<ReleaseId>,
        /// Folders of releases.
        releases: Vec<String>,
        /// Images.
        images: Vec<ImageRef>,
    },
}

impl Step {
    /// Its name in the timeline.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Upload => "upload",
            Step::Pull => "pull",
            Step::Resolve(_) => "resolve",
            Step::Inspect => "inspect",
            Step::StopDaemon => "stop daemon",
            Step::Dump => "dump",
            Step::Migrate => "migrate",
            Step::Platform => "platform",
            Step::Quiesce { how: Runs::Keep, .. } => "quiesce",
            Step::Login { .. } => "login",
            Step::Schema { .. } => "schema",
            Step::Start => "start",
            Step::Check => "check",
            Step::Switch => "switch",
            Step::Verify => "verify",
            Step::TestJob => "test job",
            Step::Record => "record",
            Step::Quiesce { how: Runs::Cancel, .. } | Step::EndRuns { how: Runs::Cancel, .. } => {
                "cancel runs"
            }
            Step::Quiesce { .. } | Step::EndRuns { .. } => "drain runs",
            Step::Retire(_) => "retire",
            Step::Prune { .. } => "prune",
        }
    }
}

impl Plan {
    /// Decides what brings the host from what was `observed` to what the `inputs` make.
    /// `keep` is how many releases stay to go back to; `password`, whether that of the database is
    /// to change.
    pub fn new(
        release: ReleaseId,
        inputs: &Inputs,
        password: bool,
        test_job: bool,
        keep: usize,
        observed: &Observed,
    ) -> Plan {
        Plan::of(release, changes(inputs, observed), password, test_job, keep, observed)
    }

    /// The same, for images that are there already: the code's and the platform's. What is made of
    /// the same `inputs`, but elsewhere, is another image.
    pub fn promoting(
        release: ReleaseId,
        inputs: &Inputs,
        [code, platform]: [&ImageRef; 2],
        password: bool,
        test_job: bool,
        keep: usize,
        observed: &Observed,
    ) -> Plan {
        let mut changes = changes(inputs, observed);
        let mut note =
            |stands: Option<&ImageRef>, wanted: &ImageRef, of: Change, change: Change| {
                let other = stands.is_some_and(|it| it.digest() != wanted.digest());
                if other && !changes.contains(&of) {
                    changes.push(change);
                }
            };
        let live = observed.live_manifest().map(|it| &it.core_image);
        note(live, code, Change::Code, Change::CodeImage);
        let stands = observed.platform_of.as_ref().map(|it| &it.platform_image);
        note(stands, platform, Change::PlatformImage, Change::PlatformImage);
        Plan::of(release, changes, password, test_job, keep, observed)
    }

    fn of(
        release: ReleaseId,
        mut changes: Vec<Change>,
        password: bool,
        test_job: bool,
        keep: usize,
        observed: &Observed,
    ) -> Plan {
        changes.extend(password.then_some(Change::Password));
        let steps = if changes.is_empty() {
            Vec::new()
        } else {
            steps(&release, &changes, test_job, keep, observed)
        };
        Plan { release, from: observed.live.clone(), changes, steps }
    }

    /// The plan, with the warehouse brought to the migrations that the code comes with, if that is
    /// `asked` for or the warehouse is yet to be made. `alignment` is how they stand to it; none, if
    /// it cannot be asked because no database runs yet.
    ///
    /// They come before the new code, which may need them; the old code goes on with what they add.
    #[must_use]
    pub fn with_migrations(
        mut self,
        files: &[Migration],
        alignment: Option<&Alignment>,
        asked: bool,
    ) -> Plan {
        let lacking: Vec<&Migration> = match alignment {
            None => files.iter().collect(),
            Some(it) if asked || it.fresh => it.that_are(Standing::Pending),
            Some(_) => Vec::new(),
        };
        let started = self.steps.iter().position(|it| *it == Step::Start);
        if let Some(started) = started.filter(|_| !lacking.is_empty()) {
            self.steps.insert(started, Step::Schema { migrations: names(&lacking), asked });
        }
        self
    }

    /// The plan, with the secrets of these keys read by the host, once the release is there.
    #[must_use]
    pub fn with_secrets_of_host<'a>(mut self, keys: impl Iterator<Item = &'a str>) -> Plan {
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        let uploaded = self.steps.iter().position(|it| *it == Step::Upload);
        if let Some(uploaded) = uploaded.filter(|_| !keys.is_empty()) {
            self.steps.insert(uploaded + 1, Step::Resolve(keys));
        }
        self
    }

    /// Whether it was asked to apply migrations on the way.
    pub fn migrates(&self) -> bool {
        self.steps.iter().any(|it| matches!(it, Step::Schema { asked: true, .. }))
    }

    /// Whether what should stand does stand.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// In what the host differs from what the `inputs` make.
pub(crate) fn changes(inputs: &Inputs, observed: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |changed: bool, change: Change| {
        if changed {
            changes.push(change);
        }
    };
    match observed.live_manifest() {
        None => note(true, Change::First),
        Some(live) => {
            note(live.inputs.core != inputs.core, Change::Code);
            note(live.inputs.core_settings != inputs.core_settings, Change::CodeSettings);
            note(live.outcome == Outcome::Pending, Change::Unverified);
            note(
                observed.core(&live.id).is_none_or(|it| it.state != "running"),
                Change::Down("the code server".to_owned()),
            );
        }
    }
    match &observed.platform_of {
        None if observed.platform.is_empty() => {
            note(true, Change::NoPlatform);
            return changes;
        }
        None => note(true, Change::PlatformTorn),
        Some(it) => {
            note(it.inputs.platform != inputs.platform, Change::PlatformImage);
            note(it.inputs.platform_settings != inputs.platform_settings, Change::PlatformSettings);
        }
    }
    for service in ["dagster-postgres", "dagster-webserver", DAEMON] {
        note(!observed.runs(service), Change::Down(service.to_owned()));
    }
    changes
}

pub(crate) fn steps(
    release: &ReleaseId,
    changes: &[Change],
    test_job: bool,
    keep: usize,
    observed: &Observed,
) -> Vec<Step> {
    // Pulled first: what came by tag is named by its digest in the files that are uploaded.
    let mut steps = vec![Step::Pull, Step::Upload];
    let platform = platform(changes, observed);
    let start = [Step::Start, Step::Check];
    if changes.contains(&Change::Password) {
        steps.extend(around(start, platform));
    } else {
        steps.extend(platform.into_iter().chain(start));
    }
    steps.extend([Step::Switch, Step::Verify]);
    if test_job {
        steps.push(Step::TestJob);
    }
    steps.push(Step::Record);
    steps.extend(retire(release, observed));
    steps.extend(prune(keep, observed));
    steps
}

/// The platform's steps with the start of the code server where it belongs when the password
/// changes: after what only asks, before anything is touched. Then all that is left is one step.
pub(crate) fn around(
    start: impl IntoIterator<Item = Step>,
    platform: Vec<Step>,
) -> impl Iterator<Item = Step> {
    let (asks, touches): (Vec<_>, Vec<_>) =
        platform.into_iter().partition(|it| *it == Step::Inspect);
    asks.into_iter().chain(start).chain(touches)
}

/// What brings the platform to where the changes want it; nothing, if it stands there.
pub(crate) fn platform(changes: &[Change], observed: &Observed) -> Vec<Step> {
    let replaced = changes.iter().any(|change| match change {
        Change::NoPlatform
        | Change::PlatformTorn
        | Change::PlatformImage
        | Change::PlatformSettings
        | Change::Password => true,
        Change::First
        | Change::Code
        | Change::CodeImage
        | Change::CodeSettings
        | Change::Secret(_)
        | Change::Down(_)
        | Change::Unverified
        | Change::Rollback { .. }
        | Change::AcrossMigration { .. }
        | Change::AcrossWarehouse(_) => false,
    });
    let down = |it: &Change| matches!(it, Change::Down(what) if what.starts_with("dagster-"));
    let daemon = observed.platform.iter().find(|it| it.service == DAEMON);

    let mut steps = Vec::new();
    if replaced {
        steps.push(Step::Inspect);
        if daemon.is_some_and(|it| it.state != "exited") {
            steps.push(Step::StopDaemon);
        }
    }
    // Cut off, it may have been before the migration or after it.
    if changes.iter().any(|it| matches!(it, Change::PlatformImage | Change::PlatformTorn)) {
        steps.extend([Step::Dump, Step::Migrate]);
    }
    if changes.contains(&Change::Password) {
        let without = observed.serving.keys().filter(|it| **it != observed.layout.location);
        steps.push(Step::Quiesce { how: Runs::Keep, limit: 0 });
        steps.push(Step::Login { without: without.cloned().collect() });
    } else if replaced || changes.iter().any(down) {
        steps.push(Step::Platform);
    }
    steps
}

/// The release that serves now becomes the warm way back; all others finish their runs.
pub(crate) fn retire(release: &ReleaseId, observed: &Observed) -> Option<Step> {
    let retired: Vec<ReleaseId> = observed
        .cores
        .iter()
        .filter(|it| it.state == "running" || it.state == "restarting")
        .map(|it| it.release.clone())
        .filter(|id| id != release && Some(id) != observed.live.as_ref())
        .collect();
    (!retired.is_empty()).then_some(Step::Retire(retired))
}

/// Keeps the newest deployed releases, the live one, every one that has a container still, and the
/// one that the platform stands from. Only releases of the location at hand are dropped; an image
/// goes when no release of any location needs it.
fn prune(keep: usize, observed: &Observed) -> Option<Step> {
    let live = observed.live.as_ref();
    let stopped = |state: &str| matches!(state, "exited" | "created" | "dead");
    let containers: Vec<ReleaseId> = observed
        .cores
        .iter()
        .filter(|it| stopped(&it.state) && Some(&it.release) != live)
        .map(|it| it.release.clone())
        .collect();

    let mut deployed = 0;
    let (kept, dropped): (Vec<_>, Vec<_>) = observed.manifests.iter().rev().partition(|manifest| {
        deployed += usize::from(manifest.outcome == Outcome::Deployed);
        let recent = manifest.outcome == Outcome::Deployed && deployed <= keep;
        let has_container =
            observed.core(&manifest.id).is_some_and(|it| !containers.contains(&it.release));
        let under_platform = observed.platform_of.as_ref().is_some_and(|it| it.id == manifest.id);
        recent || has_container || under_platform || Some(&manifest.id) == live
    });
    let images_of = |it: &&crate::Manifest| {
        [it.core_image.clone(), it.platform_image.clone(), it.postgres_image.clone()]
    };
    let elsewhere = observed.others.iter().chain(&observed.platform_of);
    let needed: Vec<ImageRef> =
        kept.into_iter().chain(elsewhere).flat_map(|it| images_of(&it)).collect();
    let mut images: Vec<ImageRef> =
        dropped.iter().flat_map(images_of).filter(|image| !needed.contains(image)).collect();
    images.sort_by_key(ToString::to_string);
    images.dedup();
    let releases: Vec<String> =
        dropped.iter().map(|it| it.id.to_string()).chain(observed.torn.iter().cloned()).collect();

    let nothing = containers.is_empty() && releases.is_empty() && images.is_empty();
    (!nothing).then_some(Step::Prune { containers, releases, images })
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::First => f.write_str("no code serves yet"),
            Change::NoPlatform => f.write_str("there is no platform yet"),
            Change::PlatformTorn => f.write_str("a change of the platform was cut off"),
            Change::Code => f.write_str("the code changed"),
            Change::CodeImage => f.write_str("its image of the same code is another one"),
            Change::CodeSettings => f.write_str("settings of the code server changed"),
            Change::PlatformImage => f.write_str("the image of webserver and daemon changed"),
            Change::PlatformSettings => f.write_str("settings of the platform changed"),
            Change::Password => f.write_str("the database's password changed"),
            Change::Secret(key) => write!(f, "the secret {key} changes, and nothing else"),
            Change::Down(what) => write!(f, "{what} is not running"),
            Change::Unverified => f.write_str("the last deploy was cut off before it was verified"),
            Change::Rollback { subject, by, at } => {
                write!(f, "a rollback was asked for, to `{subject}`, deployed by {by} at {at}")
            }
            Change::AcrossMigration { then, now } => {
                write!(f, "Dagster's tables stay at revision {now}; it was verified with {then}")
            }
            Change::AcrossWarehouse(names) => {
                write!(f, "the warehouse keeps {}; it was verified without", list(names))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Upload => f.write_str("put the release on the host"),
            Step::Resolve(keys) => {
                write!(f, "let the host read its secrets: {}", list(keys))
            }
            Step::Pull => f.write_str("pull its images by digest"),
            Step::Inspect => {
                f.write_str("check dagster.yaml and the databases against the new images")
            }
            Step::StopDaemon => f.write_str("stop the daemon; runs queue until it is back"),
            Step::Dump => f.write_str("dump Dagster's database, if its schema is to change"),
            Step::Migrate => f.write_str("migrate its schema, if the new image has another"),
            Step::Platform => f.write_str("start or update Postgres, webserver and daemon"),
            Step::Quiesce { how: Runs::Keep, .. } => {
                f.write_str("make sure that no run is in flight; those that wait go on waiting")
            }
            Step::Quiesce { how, limit } => {
                write!(f, "{} all runs in flight, at most {}", verb(*how), Age(*limit))
            }
            Step::Login { .. } => f.write_str(
                "tell Postgres the other password; webserver and daemon start with it and ask the new \
                 code server",
            ),
            Step::Schema { migrations, .. } => {
                write!(f, "apply what the warehouse lacks: {}", list(migrations))
            }
            Step::Start => f.write_str("start the new code server beside the one that serves"),
            Step::Check => f.write_str("check the new code server's definitions"),
            Step::Switch => f.write_str("switch webserver and daemon to it"),
            Step::Verify => f.write_str("verify that it is what is served"),
            Step::TestJob => f.write_str("run the test job on the platform"),
            Step::Record => f.write_str("record the release"),
            Step::EndRuns { how, of, limit } => {
                write!(f, "{} the runs of {}, at most {}", verb(*how), ids(of), Age(*limit))
            }
            Step::Retire(releases) => write!(f, "let {} finish and stop", ids(releases)),
            Step::Prune { containers, releases, images } => write!(
                f,
                "remove {} stopped code servers, {} old releases, {} unused images",
                containers.len(),
                releases.len(),
                images.len()
            ),
        }
    }
}

fn verb(how: Runs) -> &'static str {
    if how == Runs::Cancel { "cancel" } else { "wait for" }
}

fn ids(releases: &[ReleaseId]) -> String {
    releases.iter().map(ReleaseId::as_str).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { release, from, changes, steps } = self;
        if steps.is_empty() {
            return f.write_str("nothing to do");
        }
        match from {
            Some(from) => writeln!(f, "{from} -> {release}, because:")?,
            None => writeln!(f, "{release}, because:")?,
        }
        for change in changes {
            writeln!(f, "  - {change}")?;
        }
        writeln!(f, "steps:")?;
        for (n, step) in steps.iter().enumerate() {
            let end = if n + 1 == steps.len() { "" } else { "\n" };
            write!(f, "  {:>2}. {step}{end}", n + 1)?;
        }
        for step in steps {
            if let Step::Login { without } = step
                && !without.is_empty()
            {
                let names: Vec<String> = without.iter().map(ToString::to_string).collect();
                let names = list(&names);
                write!(
                    f,
                    "\nnot done: {names} has the old password until it is rotated there too"
                )?;
            }
        }
        for change in changes {
            match change {
                Change::Rollback { .. } => {
                    f.write_str("\nnot undone: what runs have done and written")?;
                }
                Change::AcrossMigration { .. } => {
                    f.write_str("\nnot undone: the migration of Dagster's tables")?;
                }
                Change::AcrossWarehouse(names) => {
                    write!(f, "\nnot undone: in the warehouse {}", list(names))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        CoreContainer, Fingerprint, Location, Manifest, PlatformContainer,
        migrations::tests::migration,
    };

    pub(crate) const A: &str = "20261101-000000-aaaaaaa";
    pub(crate) const B: &str = "20261102-000000-bbbbbbb";
    pub(crate) const C: &str = "20261103-000000-ccccccc";
    pub(crate) const NEW: &str = "20261123-142233-fffffff";

    pub(crate) fn inputs(core: &str) -> Inputs {
        let of = |text: &str| Fingerprint::of([text.as_bytes()]);
        Inputs {
            core: of(core),
            core_settings: of("core settings"),
            platform: of("platform"),
            platform_settings: of("platform settings"),
        }
    }

    pub(crate) fn manifest(id: &str, core: &str) -> Manifest {
        let image = |name: &str| format!("registry.example/{name}:1").parse().unwrap();
        Manifest {
            id: id.parse().unwrap(),
            environment: "prod".into(),
            location: Location::default(),
            outcome: Outcome::Deployed,
            git_sha: "abc".into(),
            git_subject: "Subject".into(),
            dirty: false,
            by: "ana@laptop".into(),
            at: "2026-11-01T00:00:00Z".into(),
            promoted: None,
            core_image: image(core),
            platform_image: image("platform"),
            postgres_image: image("postgres"),
            inputs: inputs(core),
            ui_port: Some(3000),
            schema: Some("29b539ebc72a".into()),
            migrations: None,
            secrets: std::collections::BTreeMap::new(),
            dagster: std::collections::BTreeMap::new(),
            hosts: None,
            phases: Vec::new(),
        }
    }

    pub(crate) fn core(id: &str, state: &str) -> CoreContainer {
        let (release, state) = (id.parse().unwrap(), state.to_owned());
        CoreContainer {
            release,
            id: format!("c-{id}"),
            state,
            status: String::new(),
            retired: false,
        }
    }

    /// A host on which `live` serves, after the releases `before` it.
    pub(crate) fn host(before: &[(&str, &str)], live: Option<&str>) -> Observed {
        let mut observed = Observed::parse("prod", &Location::default(), "dir /d\n").unwrap();
        observed.live = live.map(|it| it.parse().unwrap());
        for (id, state) in before {
            observed.manifests.push(manifest(id, "code"));
            observed.cores.push(core(id, state));
        }
        if let Some(live) = live {
            let is_known = observed.manifests.iter().any(|it| it.id.as_str() == live);
            observed.platform_of = is_known.then(|| manifest(live, "code"));
            for service in ["dagster-postgres", "dagster-webserver", "dagster-daemon"] {
                observed.platform.push(PlatformContainer {
                    service: service.into(),
                    id: service.into(),
                    state: "running".into(),
                    status: "Up".into(),
                });
            }
        }
        observed
    }

    #[track_caller]
    fn check(observed: &Observed, inputs: &Inputs, expected: &Expect) {
        let plan = Plan::new(NEW.parse().unwrap(), inputs, false, true, 5, observed);
        expected.assert_eq(&plan.to_string());
    }

    #[test]
    fn an_empty_host_gets_everything() {
        check(
            &host(&[], None),
            &inputs("code"),
            &expect![[r#"
                20261123-142233-fffffff, because:
                  - no code serves yet
                  - there is no platform yet
                steps:
                   1. pull its images by digest
                   2. put the release on the host
                   3. check dagster.yaml and the databases against the new images
                   4. start or update Postgres, webserver and daemon
                   5. start the new code server beside the one that serves
                   6. check the new code server's definitions
                   7. switch webserver and daemon to it
                   8. verify that it is what is served
                   9. run the test job on the platform
                  10. record the release"#]],
        );
    }

    #[test]
    fn nothing_changed_is_nothing_to_do() {
        check(&host(&[(A, "running")], Some(A)), &inputs("code"), &expect!["nothing to do"]);
    }

    #[test]
    fn changed_code_swaps_the_code_server_alone() {
        check(
            &host(&[(A, "running")], Some(A)),
            &inputs("new code"),
            &expect![[r#"
                20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
                  - the code changed
                steps:
                   1. pull its images by digest
                   2. put the release on the host
                   3. start the new code server beside the one that serves
                   4. check the new code server's definitions
                   5. switch webserver and daemon to it
                   6. verify that it is what is served
                   7. run the test job on the platform
                   8. record the release"#]],
        );
    }

    #[test]
    fn the_release_before_the_last_is_retired_and_a_stopped_one_removed() {
        let observed = host(&[(A, "exited"), (B, "running"), (C, "running")], Some(C));
        check(
            &observed,
            &inputs("new code"),
            &expect![[r#"
                20261103-000000-ccccccc -> 20261123-142233-fffffff, because:
                  - the code changed
                steps:
                   1. pull its images by digest
                   2. put the release on the host
                   3. start the new code server beside the one that serves
                   4. check the new code server's definitions
                   5. switch webserver and daemon to it
                   6. verify that it is what is served
                   7. run the test job on the platform
                   8. record the release
                   9. let 20261102-000000-bbbbbbb finish and stop
                  10. remove 1 stopped code servers, 0 old releases, 0 unused images"#]],
        );
    }

    #[test]
    fn a_stopped_daemon_is_started_again() {
        let mut observed = host(&[(A, "running")], Some(A));
        observed.platform[2].state = "exited".into();
        check(
            &observed,
            &inputs("code"),
            &expect![[r#"
                20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
                  - dagster-daemon is not running
                steps:
                   1. pull its images by digest
                   2. put the release on the host
                   3. start or update Postgres, webserver and daemon
                   4. start the new code server beside the one that serves
                   5. check the new code server's definitions
                   6. switch webserver and daemon to it
                   7. verify that it is what is served
                   8. run the test job on the platform
                   9. record the release"#]],
        );
    }

    #[test]
    fn a_new_platform_image_stops_the_daemon_before_the_database_is_touched() {
        let mut observed = host(&[(A, "running")], Some(A));
        let mut wanted = inputs("code");
        wanted.platform = Fingerprint::of([b"new platform".as_slice()]);
        check(
            &observed,
            &wanted,
            &expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - the image of webserver and daemon changed
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. check dagster.yaml and the databases against the new images
               4. stop the daemon; runs queue until it is back
               5. dump Dagster's database, if its schema is to change
               6. migrate its schema, if the new image has another
               7. start or update Postgres, webserver and daemon
               8. start the new code server beside the one that serves
               9. check the new code server's definitions
              10. switch webserver and daemon to it
              11. verify that it is what is served
              12. run the test job on the platform
              13. record the release"#]],
        );
        // One that is stopped already needs not be.
        observed.platform[2].state = "exited".into();
        check(
            &observed,
            &wanted,
            &expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - the image of webserver and daemon changed
              - dagster-daemon is not running
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. check dagster.yaml and the databases against the new images
               4. dump Dagster's database, if its schema is to change
               5. migrate its schema, if the new image has another
               6. start or update Postgres, webserver and daemon
               7. start the new code server beside the one that serves
               8. check the new code server's definitions
               9. switch webserver and daemon to it
              10. verify that it is what is served
              11. run the test job on the platform
              12. record the release"#]],
        );
    }

    #[test]
    fn a_changed_dagster_yaml_leaves_the_database_alone() {
        let mut wanted = inputs("code");
        wanted.platform_settings = Fingerprint::of([b"new dagster.yaml".as_slice()]);
        check(
            &host(&[(A, "running")], Some(A)),
            &wanted,
            &expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - settings of the platform changed
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. check dagster.yaml and the databases against the new images
               4. stop the daemon; runs queue until it is back
               5. start or update Postgres, webserver and daemon
               6. start the new code server beside the one that serves
               7. check the new code server's definitions
               8. switch webserver and daemon to it
               9. verify that it is what is served
              10. run the test job on the platform
              11. record the release"#]],
        );
    }

    #[test]
    fn a_promotion_brings_the_very_images_and_no_others_of_the_same_inputs() {
        let mut observed = host(&[(A, "running")], Some(A));
        let image = |name: &str, n: u8| {
            let image: ImageRef = format!("registry.example/{name}:1").parse().unwrap();
            image.with_digest(format!("sha256:{}", n.to_string().repeat(64)).parse().unwrap())
        };
        let stands = observed.manifests.iter_mut().chain(&mut observed.platform_of);
        for manifest in stands {
            (manifest.core_image, manifest.platform_image) =
                (image("code", 1), image("platform", 1));
        }
        let changes = |core: &str, images: [u8; 2]| {
            let [code, platform] = [image("a/code", images[0]), image("a/platform", images[1])];
            let id = NEW.parse().unwrap();
            let plan =
                Plan::promoting(id, &inputs(core), [&code, &platform], false, true, 5, &observed);
            assert_eq!(plan.is_empty(), plan.changes.is_empty());
            plan.changes
        };
        assert_eq!(changes("code", [1, 1]), [], "another registry is none");
        assert_eq!(changes("code", [2, 1]), [Change::CodeImage]);
        assert_eq!(changes("new code", [2, 1]), [Change::Code]);
        assert_eq!(changes("code", [1, 2]), [Change::PlatformImage]);
    }

    #[test]
    fn a_changed_password_is_told_when_all_else_is_ready_and_no_run_is_in_flight() {
        let mut observed = host(&[(A, "running")], Some(A));
        observed.serving.insert(Location::default(), A.parse().unwrap());
        observed.serving.insert("reports".parse().unwrap(), B.parse().unwrap());
        let mut wanted = inputs("code");
        wanted.core_settings = Fingerprint::of([b"with another password".as_slice()]);
        wanted.platform_settings = wanted.core_settings.clone();
        let plan = Plan::new(NEW.parse().unwrap(), &wanted, true, true, 5, &observed);
        let cancels = plan.clone().with_runs(Runs::Cancel, 600);
        expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - settings of the code server changed
              - settings of the platform changed
              - the database's password changed
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. check dagster.yaml and the databases against the new images
               4. start the new code server beside the one that serves
               5. check the new code server's definitions
               6. stop the daemon; runs queue until it is back
               7. make sure that no run is in flight; those that wait go on waiting
               8. tell Postgres the other password; webserver and daemon start with it and ask the new code server
               9. switch webserver and daemon to it
              10. verify that it is what is served
              11. run the test job on the platform
              12. record the release
            not done: `reports` has the old password until it is rotated there too"#]]
        .assert_eq(&plan.to_string());
        // Then there are none that could be ended after the switch.
        assert_eq!(cancels.steps.len(), plan.steps.len());
        assert_eq!(cancels.steps[6].to_string(), "cancel all runs in flight, at most 10 min");
    }

    #[test]
    fn the_host_reads_its_secrets_before_anything_needs_them() {
        let observed = host(&[(A, "running")], Some(A));
        let plan = |inputs: &Inputs, keys: &[&'static str]| {
            Plan::new(NEW.parse().unwrap(), inputs, false, false, 5, &observed)
                .with_secrets_of_host(keys.iter().copied())
        };
        let code = inputs("new code");
        expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - the code changed
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. let the host read its secrets: `API_TOKEN`, `POSTGRES_PASSWORD`
               4. start the new code server beside the one that serves
               5. check the new code server's definitions
               6. switch webserver and daemon to it
               7. verify that it is what is served
               8. record the release"#]]
        .assert_eq(&plan(&code, &["API_TOKEN", "POSTGRES_PASSWORD"]).to_string());
        assert_eq!(
            plan(&code, &[]),
            Plan::new(NEW.parse().unwrap(), &code, false, false, 5, &observed)
        );
        assert!(plan(&inputs("code"), &["API_TOKEN"]).is_empty());
    }

    #[test]
    fn migrations_come_before_the_new_code_and_only_when_asked_for() {
        let files = [migration(1, "a"), migration(2, "b")];
        let observed = host(&[(A, "running")], Some(A));
        let plan = |alignment: Option<&Alignment>, asked| {
            Plan::new(NEW.parse().unwrap(), &inputs("new code"), false, false, 5, &observed)
                .with_migrations(&files, alignment, asked)
        };
        let behind = Alignment::new(&files, Some(&files[..1]));
        let asked = plan(Some(&behind), true);
        expect![[r#"
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - the code changed
            steps:
               1. pull its images by digest
               2. put the release on the host
               3. apply what the warehouse lacks: `0002_step`
               4. start the new code server beside the one that serves
               5. check the new code server's definitions
               6. switch webserver and daemon to it
               7. verify that it is what is served
               8. record the release"#]]
        .assert_eq(&asked.to_string());
        assert!(asked.migrates());
        // Unless it is asked for, the deploy is refused and the plan as ever.
        let without =
            Plan::new(NEW.parse().unwrap(), &inputs("new code"), false, false, 5, &observed);
        assert_eq!(plan(Some(&behind), false), without);
        let level = Alignment::new(&files, Some(&files));
        assert_eq!(plan(Some(&level), true), without);
        // A warehouse that is yet to be made, and one that cannot be asked.
        let names = vec!["0001_step".to_owned(), "0002_step".to_owned()];
        let step = Step::Schema { migrations: names, asked: false };
        assert!(plan(Some(&Alignment::new(&files, None)), false).steps.contains(&step));
        assert!(plan(None, false).steps.contains(&step));
        assert!(!plan(None, false).migrates());
    }

    #[test]
    fn a_deploy_cut_off_after_the_switch_is_verified_by_the_next() {
        let mut observed = host(&[(A, "running"), (B, "running")], Some(B));
        observed.manifests[1].outcome = Outcome::Pending;
        check(
            &observed,
            &inputs("code"),
            &expect![[r#"
                20261102-000000-bbbbbbb -> 20261123-142233-fffffff, because:
                  - the last deploy was cut off before it was verified
                steps:
                   1. pull its images by digest
                   2. put the release on the host
                   3. start the new code server beside the one that serves
                   4. check the new code server's definitions
                   5. switch webserver and daemon to it
                   6. verify that it is what is served
                   7. run the test job on the platform
                   8. record the release
                   9. let 20261101-000000-aaaaaaa finish and stop"#]],
        );
    }

    #[test]
    fn the_newest_releases_stay_and_images_that_one_of_them_uses() {
        let ids: Vec<String> =
            (1..=8).map(|day| format!("202610{day:02}-000000-abc{day}")).collect();
        let mut observed = host(&[], Some(&ids[7]));
        for (n, id) in ids.iter().enumerate() {
            // The oldest two share an image that only they use; the third shares the live one's.
            let code = if n < 2 { "old" } else { "code" };
            observed.manifests.push(manifest(id, code));
        }
        let Some(Step::Prune { containers, releases, images }) = prune(5, &observed) else {
            panic!("nothing to prune");
        };
        assert_eq!(containers, []);
        assert_eq!(releases, [ids[2].as_str(), &ids[1], &ids[0]]);
        assert_eq!(images, ["registry.example/old:1".parse().unwrap()]);
    }
}
