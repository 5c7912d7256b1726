//! The way back to a release that served before.

use crate::{
    Change, Manifest, Observed, Outcome, Plan, ReleaseId, Step,
    migrations::list,
    names,
    plan::{around, changes, platform, retire},
};

/// Why there is no way back to a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "their messages say it")]
pub enum NoRollback {
    #[error("there is no release to go back to")]
    None,
    #[error("`{release}` is not on the host")]
    NotThere { release: ReleaseId, others: Vec<ReleaseId> },
    #[error("`{release}` was never verified as what is served")]
    NeverDeployed { release: ReleaseId, others: Vec<ReleaseId> },
    #[error("`{release}` is what serves already")]
    Serves { release: ReleaseId, others: Vec<ReleaseId> },
    #[error("`{release}` was told to stop, and finishes its runs first")]
    Retired { release: ReleaseId, others: Vec<ReleaseId> },
    #[error(
        "`{release}` was verified with revision {then} of Dagster's tables; a migration has \
         brought them to {now}"
    )]
    Migrated { release: ReleaseId, then: String, now: String },
    #[error("`{release}` was verified before the warehouse got {}", list(.migrations))]
    WarehouseMigrated { release: ReleaseId, migrations: Vec<String> },
}

impl NoRollback {
    /// What can be done about it.
    pub fn hint(&self) -> String {
        let others = match self {
            NoRollback::None => {
                return "one must have served before, and not be about to stop: mend the code, and \
                        deploy it"
                    .to_owned();
            }
            NoRollback::Migrated { .. } => {
                return "its Dagster may fail on the newer tables; go back all the same with \
                        --across-migration"
                    .to_owned();
            }
            NoRollback::WarehouseMigrated { .. } => {
                return "its code may fail on the newer tables, which stay; go back all the same with \
                        --across-migration"
                    .to_owned();
            }
            NoRollback::Retired { others, .. } if others.is_empty() => {
                return "try again when its container has stopped: `status` shows it".to_owned();
            }
            NoRollback::NotThere { others, .. }
            | NoRollback::NeverDeployed { others, .. }
            | NoRollback::Serves { others, .. }
            | NoRollback::Retired { others, .. } => others,
        };
        if others.is_empty() {
            return "there is no other release to go back to".to_owned();
        }
        let others: Vec<&str> = others.iter().map(ReleaseId::as_str).collect();
        format!("these can be gone back to: {}", others.join(", "))
    }
}

impl Plan {
    /// Decides what brings a release back that was deployed before: `to`, or the one that the last
    /// switch left.
    ///
    /// Its code server may run still; otherwise it is started from the release's own files. So
    /// image, settings and secrets are those of then, and nothing is built.
    pub fn rollback(
        to: Option<&ReleaseId>,
        across_migration: bool,
        observed: &Observed,
    ) -> Result<Plan, NoRollback> {
        let target = target(to, observed)?;
        let Manifest { git_subject, by, at, .. } = target.clone();
        let mut reasons = vec![Change::Rollback { subject: git_subject, by, at }];
        reasons.extend(changes(&target.inputs, observed));
        if observed.other_password.contains(&target.id) && observed.can_change_password() {
            reasons.push(Change::Password);
        }
        if let Some((then, now)) = migrated(target, observed) {
            if !across_migration {
                return Err(NoRollback::Migrated { release: target.id.clone(), then, now });
            }
            reasons.push(Change::AcrossMigration { then, now });
        }
        let gained = gained(target, observed);
        if !gained.is_empty() {
            if !across_migration {
                let release = target.id.clone();
                return Err(NoRollback::WarehouseMigrated { release, migrations: gained });
            }
            reasons.push(Change::AcrossWarehouse(gained));
        }
        let steps = steps(target, &reasons, observed);
        let from = observed.live.clone();
        Ok(Plan { release: target.id.clone(), from, changes: reasons, steps })
    }
}

fn target<'a>(to: Option<&ReleaseId>, observed: &'a Observed) -> Result<&'a Manifest, NoRollback> {
    let retired =
        |id: &ReleaseId| observed.core(id).is_some_and(|it| it.retired && it.state == "running");
    let can_be_had: Vec<&Manifest> = observed
        .manifests
        .iter()
        .rev()
        .filter(|it| it.outcome == Outcome::Deployed && Some(&it.id) != observed.live.as_ref())
        .filter(|it| !retired(&it.id))
        .collect();
    let Some(release) = to else {
        let older = |it: &&&Manifest| observed.live.as_ref().is_none_or(|live| it.id < *live);
        let warm = |it: &&&Manifest| Some(&it.id) == observed.warm();
        let found = can_be_had.iter().find(warm).or_else(|| can_be_had.iter().find(older));
        return found.copied().ok_or(NoRollback::None);
    };
    let others: Vec<ReleaseId> =
        can_be_had.iter().map(|it| it.id.clone()).filter(|it| it != release).collect();
    let release = release.clone();
    if observed.live.as_ref() == Some(&release) {
        return Err(NoRollback::Serves { release, others });
    }
    match observed.manifests.iter().find(|it| it.id == release) {
        None => Err(NoRollback::NotThere { release, others }),
        Some(it) if it.outcome == Outcome::Pending => {
            Err(NoRollback::NeverDeployed { release, others })
        }
        Some(_) if retired(&release) => Err(NoRollback::Retired { release, others }),
        Some(it) => Ok(it),
    }
}

/// The revisions of Dagster's tables then and now, if both are known and differ.
fn migrated(target: &Manifest, observed: &Observed) -> Option<(String, String)> {
    let then = target.schema.clone()?;
    let now = observed.live_manifest()?.schema.clone()?;
    (then != now).then_some((then, now))
}

/// The migrations that the warehouse got since, if both are known.
fn gained(target: &Manifest, observed: &Observed) -> Vec<String> {
    let now = observed.live_manifest().and_then(|it| it.migrations.as_ref());
    let (Some(then), Some(now)) = (&target.migrations, now) else { return Vec::new() };
    let gained = now.iter().filter(|it| then.iter().all(|known| known.version != it.version));
    names(&gained.collect::<Vec<_>>())
}

fn steps(target: &Manifest, reasons: &[Change], observed: &Observed) -> Vec<Step> {
    let warm = observed.core(&target.id).is_some_and(crate::CoreContainer::is_warm);
    let mut platform = platform(reasons, observed);
    // Webserver and daemon must not be older than the code they ask: on the way back the code goes
    // first, unless nobody is there who could be switched.
    let back = observed.live.as_ref().is_some_and(|live| target.id < *live);
    let platform_last = back && observed.platform_runs();
    if back {
        // An older Dagster has no newer schema to bring.
        platform.retain(|it| !matches!(it, Step::Dump | Step::Migrate));
    }

    let mut steps = Vec::new();
    if !platform.is_empty() || !warm {
        steps.push(Step::Pull);
    }
    let start = if warm { Vec::new() } else { vec![Step::Start, Step::Check] };
    if reasons.contains(&Change::Password) {
        steps.extend(around(start, std::mem::take(&mut platform)));
    } else {
        if platform.first() == Some(&Step::Inspect) {
            // Asked while nothing is touched.
            steps.push(platform.remove(0));
        }
        if !platform_last {
            steps.append(&mut platform);
        }
        steps.extend(start);
    }
    steps.push(Step::Switch);
    steps.append(&mut platform);
    steps.push(Step::Verify);
    // It was recorded when it was deployed; only what it was verified with is another now.
    let across =
        |it: &Change| matches!(it, Change::AcrossMigration { .. } | Change::AcrossWarehouse(_));
    if reasons.iter().any(across) {
        steps.push(Step::Record);
    }
    steps.extend(retire(&target.id, observed));
    steps
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        Fingerprint,
        migrations::tests::migration,
        plan::tests::{A, B, C, host, inputs},
    };

    /// A host on which A, B and C were deployed with code of their own; `live` serves.
    fn three(states: [&str; 3], live: &str) -> Observed {
        let mut observed = host(&[(A, states[0]), (B, states[1]), (C, states[2])], Some(live));
        for (manifest, code) in observed.manifests.iter_mut().zip(["a", "b", "c"]) {
            manifest.inputs = inputs(code);
        }
        observed
    }

    #[track_caller]
    fn check(to: Option<&str>, observed: &Observed, expected: &Expect) {
        let to = to.map(|it| it.parse().unwrap());
        let text = match Plan::rollback(to.as_ref(), false, observed) {
            Ok(plan) => plan.to_string(),
            Err(why) => format!("{why}\nhint: {}", why.hint()),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn with_a_warm_way_back_it_is_the_switch_alone() {
        check(
            None,
            &three(["exited", "running", "running"], C),
            &expect![[r#"
            20261103-000000-ccccccc -> 20261102-000000-bbbbbbb, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
            steps:
               1. switch webserver and daemon to it
               2. verify that it is what is served
            not undone: what runs have done and written"#]],
        );
    }

    #[test]
    fn after_a_rollback_the_warm_way_leads_forward() {
        check(
            None,
            &three(["exited", "running", "running"], B),
            &expect![[r#"
            20261102-000000-bbbbbbb -> 20261103-000000-ccccccc, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
            steps:
               1. switch webserver and daemon to it
               2. verify that it is what is served
            not undone: what runs have done and written"#]],
        );
    }

    #[test]
    fn a_release_that_has_cooled_is_started_from_its_own_files() {
        let observed = three(["exited", "running", "running"], C);
        check(
            Some(A),
            &observed,
            &expect![[r#"
            20261103-000000-ccccccc -> 20261101-000000-aaaaaaa, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
            steps:
               1. pull its images by digest
               2. start the new code server beside the one that serves
               3. check the new code server's definitions
               4. switch webserver and daemon to it
               5. verify that it is what is served
               6. let 20261102-000000-bbbbbbb finish and stop
            not undone: what runs have done and written"#]],
        );
    }

    #[test]
    fn without_a_warm_way_back_it_is_the_release_before() {
        let mut observed = three(["exited", "exited", "running"], C);
        check(
            None,
            &observed,
            &expect![[r#"
            20261103-000000-ccccccc -> 20261102-000000-bbbbbbb, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
            steps:
               1. pull its images by digest
               2. start the new code server beside the one that serves
               3. check the new code server's definitions
               4. switch webserver and daemon to it
               5. verify that it is what is served
            not undone: what runs have done and written"#]],
        );
        // One that finishes its runs would refuse new ones.
        observed.cores[1].state = "running".into();
        observed.cores[1].retired = true;
        check(
            None,
            &observed,
            &expect![[r#"
            20261103-000000-ccccccc -> 20261101-000000-aaaaaaa, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
            steps:
               1. pull its images by digest
               2. start the new code server beside the one that serves
               3. check the new code server's definitions
               4. switch webserver and daemon to it
               5. verify that it is what is served
               6. let 20261102-000000-bbbbbbb finish and stop
            not undone: what runs have done and written"#]],
        );
    }

    #[test]
    fn an_older_platform_comes_back_after_the_code_and_a_newer_one_before_it() {
        let platforms = |live: &str| {
            let mut observed = three(["exited", "running", "running"], live);
            observed.manifests[2].inputs.platform = Fingerprint::of([b"newer".as_slice()]);
            observed.platform_of = observed.live_manifest().cloned();
            observed
        };
        check(
            None,
            &platforms(C),
            &expect![[r#"
                20261103-000000-ccccccc -> 20261102-000000-bbbbbbb, because:
                  - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
                  - the code changed
                  - the image of webserver and daemon changed
                steps:
                   1. pull its images by digest
                   2. check dagster.yaml and the databases against the new images
                   3. switch webserver and daemon to it
                   4. stop the daemon; runs queue until it is back
                   5. start or update Postgres, webserver and daemon
                   6. verify that it is what is served
                not undone: what runs have done and written"#]],
        );
        check(
            None,
            &platforms(B),
            &expect![[r#"
                20261102-000000-bbbbbbb -> 20261103-000000-ccccccc, because:
                  - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
                  - the code changed
                  - the image of webserver and daemon changed
                steps:
                   1. pull its images by digest
                   2. check dagster.yaml and the databases against the new images
                   3. stop the daemon; runs queue until it is back
                   4. dump Dagster's database, if its schema is to change
                   5. migrate its schema, if the new image has another
                   6. start or update Postgres, webserver and daemon
                   7. switch webserver and daemon to it
                   8. verify that it is what is served
                not undone: what runs have done and written"#]],
        );
        let mut broken = platforms(C);
        broken.platform[1].state = "restarting".into();
        check(
            None,
            &broken,
            &expect![[r#"
                20261103-000000-ccccccc -> 20261102-000000-bbbbbbb, because:
                  - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
                  - the code changed
                  - the image of webserver and daemon changed
                  - dagster-webserver is not running
                steps:
                   1. pull its images by digest
                   2. check dagster.yaml and the databases against the new images
                   3. stop the daemon; runs queue until it is back
                   4. start or update Postgres, webserver and daemon
                   5. switch webserver and daemon to it
                   6. verify that it is what is served
                not undone: what runs have done and written"#]],
        );
    }

    #[test]
    fn another_password_comes_back_with_the_release_that_has_it() {
        let mut observed = three(["exited", "running", "running"], C);
        observed.manifests[2].inputs.platform_settings = Fingerprint::of([b"new".as_slice()]);
        observed.platform_of = observed.live_manifest().cloned();
        observed.other_password.extend(observed.manifests[..2].iter().map(|it| it.id.clone()));
        check(
            None,
            &observed,
            &expect![[r#"
            20261103-000000-ccccccc -> 20261102-000000-bbbbbbb, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
              - settings of the platform changed
              - the database's password changed
            steps:
               1. pull its images by digest
               2. check dagster.yaml and the databases against the new images
               3. stop the daemon; runs queue until it is back
               4. make sure that no run is in flight; those that wait go on waiting
               5. tell Postgres the other password; webserver and daemon start with it and ask the new code server
               6. switch webserver and daemon to it
               7. verify that it is what is served
            not undone: what runs have done and written"#]],
        );
        check(
            Some(A),
            &observed,
            &expect![[r#"
            20261103-000000-ccccccc -> 20261101-000000-aaaaaaa, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
              - settings of the platform changed
              - the database's password changed
            steps:
               1. pull its images by digest
               2. check dagster.yaml and the databases against the new images
               3. start the new code server beside the one that serves
               4. check the new code server's definitions
               5. stop the daemon; runs queue until it is back
               6. make sure that no run is in flight; those that wait go on waiting
               7. tell Postgres the other password; webserver and daemon start with it and ask the new code server
               8. switch webserver and daemon to it
               9. verify that it is what is served
              10. let 20261102-000000-bbbbbbb finish and stop
            not undone: what runs have done and written"#]],
        );
        // Where Postgres does not run, it is told when it is started.
        observed.platform[0].state = "exited".into();
        let plan = Plan::rollback(None, false, &observed).unwrap();
        assert!(plan.steps.contains(&Step::Platform), "{plan}");
    }

    #[test]
    fn across_a_migration_it_is_refused_unless_told() {
        let mut observed = three(["exited", "running", "running"], C);
        observed.manifests[2].schema = Some("8f1e0c4a2b6d".into());
        check(
            None,
            &observed,
            &expect![[r#"
            `20261102-000000-bbbbbbb` was verified with revision 29b539ebc72a of Dagster's tables; a migration has brought them to 8f1e0c4a2b6d
            hint: its Dagster may fail on the newer tables; go back all the same with --across-migration"#]],
        );
        let plan = Plan::rollback(None, true, &observed).unwrap();
        expect![[r#"
            20261103-000000-ccccccc -> 20261102-000000-bbbbbbb, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
              - Dagster's tables stay at revision 8f1e0c4a2b6d; it was verified with 29b539ebc72a
            steps:
               1. switch webserver and daemon to it
               2. verify that it is what is served
               3. record the release
            not undone: what runs have done and written
            not undone: the migration of Dagster's tables"#]].assert_eq(&plan.to_string());
        // What was never asked for is not known to differ.
        observed.manifests[2].schema = None;
        assert!(Plan::rollback(None, false, &observed).is_ok());
    }

    #[test]
    fn past_a_migration_of_the_warehouse_it_is_refused_unless_told() {
        let mut observed = three(["exited", "running", "running"], C);
        observed.manifests[1].migrations = Some(vec![migration(1, "a")]);
        observed.manifests[2].migrations = Some(vec![migration(1, "a"), migration(2, "b")]);
        check(
            None,
            &observed,
            &expect![[r#"
            `20261102-000000-bbbbbbb` was verified before the warehouse got `0002_step`
            hint: its code may fail on the newer tables, which stay; go back all the same with --across-migration"#]],
        );
        let plan = Plan::rollback(None, true, &observed).unwrap();
        expect![[r#"
            20261103-000000-ccccccc -> 20261102-000000-bbbbbbb, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - the code changed
              - the warehouse keeps `0002_step`; it was verified without
            steps:
               1. switch webserver and daemon to it
               2. verify that it is what is served
               3. record the release
            not undone: what runs have done and written
            not undone: in the warehouse `0002_step`"#]].assert_eq(&plan.to_string());
        // Forward again, what it knows is all there.
        observed.live = Some(B.parse().unwrap());
        assert!(Plan::rollback(None, false, &observed).is_ok());
        // What was never asked for is not known to differ.
        observed.live = Some(C.parse().unwrap());
        observed.manifests[1].migrations = None;
        assert!(Plan::rollback(None, false, &observed).is_ok());
    }

    #[test]
    fn what_cannot_be_gone_back_to_is_told_with_what_can() {
        let mut observed = three(["exited", "running", "running"], C);
        check(
            Some(C),
            &observed,
            &expect![[r#"
            `20261103-000000-ccccccc` is what serves already
            hint: these can be gone back to: 20261102-000000-bbbbbbb, 20261101-000000-aaaaaaa"#]],
        );
        check(
            Some("20261101-000000-abcabca"),
            &observed,
            &expect![[r#"
            `20261101-000000-abcabca` is not on the host
            hint: these can be gone back to: 20261102-000000-bbbbbbb, 20261101-000000-aaaaaaa"#]],
        );
        observed.manifests[0].outcome = Outcome::Pending;
        check(
            Some(A),
            &observed,
            &expect![[r#"
            `20261101-000000-aaaaaaa` was never verified as what is served
            hint: these can be gone back to: 20261102-000000-bbbbbbb"#]],
        );
        observed.cores[1].retired = true;
        check(
            Some(B),
            &observed,
            &expect![[r#"
            `20261102-000000-bbbbbbb` was told to stop, and finishes its runs first
            hint: try again when its container has stopped: `status` shows it"#]],
        );
        check(
            None,
            &observed,
            &expect![[r#"
                there is no release to go back to
                hint: one must have served before, and not be about to stop: mend the code, and deploy it"#]],
        );
    }

    #[test]
    fn a_platform_that_was_taken_down_is_started_again() {
        let mut observed = three(["", "", ""], C);
        observed.live = None;
        observed.cores.clear();
        observed.platform.clear();
        check(
            None,
            &observed,
            &expect![[r#"
            20261103-000000-ccccccc, because:
              - a rollback was asked for, to `Subject`, deployed by ana@laptop at 2026-11-01T00:00:00Z
              - no code serves yet
              - dagster-postgres is not running
              - dagster-webserver is not running
              - dagster-daemon is not running
            steps:
               1. pull its images by digest
               2. start or update Postgres, webserver and daemon
               3. start the new code server beside the one that serves
               4. check the new code server's definitions
               5. switch webserver and daemon to it
               6. verify that it is what is served
            not undone: what runs have done and written"#]],
        );
    }
}
