//! The steps of a rollout that change the platform: what is asked before, and what comes before
//! webserver and daemon are started from new files.

use std::time::Duration;

use anyhow::anyhow;
use release::{
    Archive, Change, Inspection, LiveRun, Manifest, Migration, Observed, Purpose, Runs, Step,
    Worker, names, refuse_skew,
};

use super::{Rollout, is_login};
use crate::{
    databases::{Databases, named},
    exit::{Failure, Result},
    runs,
    session::{remote, tail},
    warehouse::{self, File, Server},
};

/// How far a change of the platform has come.
#[derive(Default)]
pub(super) struct Underway {
    /// What the new images said.
    inspection: Option<Inspection>,
    /// The dump that was made before the migration, on the host.
    dump: Option<String>,
    /// Whether the migration was begun.
    migrated: bool,
    /// The migrations that the warehouse has, if it was asked.
    pub(super) warehouse: Option<Vec<Migration>>,
    /// Those of it that were applied on the way.
    applied: Vec<Migration>,
}

impl Rollout<'_> {
    /// Asks the new images whether they can take over. Nothing is touched yet.
    pub(super) fn inspect(&mut self) -> Result<String> {
        /// `instance.py` could not read dagster.yaml.
        const UNREADABLE: i32 = 43;

        let Observed { layout, .. } = self.observed;
        let Manifest { platform_image, postgres_image, environment, .. } = &self.manifest;
        let args = [
            &layout.platform_project(),
            &platform_image.to_string(),
            &postgres_image.to_string(),
            &layout.release(&self.manifest.id),
        ];
        // The password of the files need not be the one that Postgres knows.
        let torn = self.plan.changes.contains(&Change::PlatformTorn);
        let how = if torn || self.plan.steps.iter().any(is_login) { "told" } else { "asked" };
        let args = [&args.map(String::as_str)[..], &[remote::INSTANCE, how]].concat();
        let output = self.session.script(remote::INSPECT, &args, Vec::new())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            let words = anyhow!("{}", tail(&said(&output.stderr), 40));
            return Err(if output.status.code() == Some(UNREADABLE) {
                Failure::refused(words.context("Dagster cannot read `compose/dagster.yaml`"))
                    .hint("mend it, and deploy again; what serves was not touched")
            } else {
                words.context("the new images cannot be asked whether they fit").into()
            });
        }
        let found = Inspection::parse(&said(&output.stdout))?;
        let refusal = found.refusal(environment).or_else(|| {
            // The other locations' code stays as it is.
            let serves = |it: &&Manifest| self.observed.serving.get(&it.location) == Some(&it.id);
            let mut others = self.observed.others.iter().filter(serves);
            let code = |it: &Manifest| it.dagster.get("dagster").cloned();
            others.find_map(|it| refuse_skew(code(it).as_deref(), Some(&found.dagster)))
        });
        if let Some(refusal) = refusal {
            let hint = refusal.hint();
            return Err(Failure::refused(refusal).hint(hint));
        }
        self.manifest.hosts = Some(found.dagster.clone());
        self.write_manifest()?;
        let told = match &found.schema {
            Some(schema) if found.migrates() => format!("schema {schema}, to be {}", found.head),
            Some(schema) => format!("schema {schema}"),
            None => format!("schema {}, to be made", found.head),
        };
        let told = format!("Dagster {}, {told}", found.dagster);
        self.underway.inspection = Some(found);
        Ok(told)
    }

    /// Stops the daemon and waits until it is gone.
    pub(super) fn stop_daemon(&self) -> Result<String> {
        let layout = &self.observed.layout;
        let args = [&layout.platform_project(), &layout.lock(), "dagster-daemon"];
        self.session.run("stop the daemon", remote::HALT, &args, Vec::new())?;
        Ok(String::new())
    }

    /// Refuses to begin what no run in flight would survive, unless it is told to end them.
    pub(super) async fn refuse_runs(&self) -> Result {
        let quiesces = |it: &Step| matches!(it, Step::Quiesce { how: Runs::Keep, .. });
        if !self.plan.steps.iter().any(quiesces) {
            return Ok(());
        }
        let dagster = self.session.dagster(self.observed)?;
        let mut runs = runs::live_runs(self.session, self.observed, &dagster).await?;
        runs.retain(works);
        if runs.is_empty() {
            return Ok(());
        }
        let some: Vec<String> = runs.iter().take(5).map(ToString::to_string).collect();
        let error = anyhow!(
            "the database's password changes, and {} in flight would lose the database: {}",
            if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) },
            some.join("; ")
        );
        Err(Failure::refused(error).hint(
            "wait for their end with --runs drain, or cancel them with --runs cancel; those that \
             wait in the queue go on waiting",
        ))
    }

    /// Makes sure, while the daemon begins no more, that no run is in flight.
    pub(super) async fn quiesce(&self, how: Runs, limit: u64) -> Result<String> {
        if how == Runs::Keep {
            self.refuse_runs().await?;
            return Ok("no run is in flight".to_owned());
        }
        let limit = Duration::from_secs(limit);
        runs::end(self.session, self.observed, how, works, limit, self.report).await
    }

    /// Dumps Dagster's database into an archive on the host, if its schema is to change.
    pub(super) fn dump(&mut self) -> Result<String> {
        if !self.migrates() {
            return Ok("not needed".to_owned());
        }
        let layout = &self.observed.layout;
        let databases = Databases(self.session);
        let Manifest { id, at, by, .. } = &self.manifest;
        let work = format!("{}/{id}-before-migration", layout.backups());
        let asked: Vec<_> =
            named(self.settings).into_iter().filter(|it| it.0 == Purpose::Dagster).collect();
        let archive = Archive {
            release: self.plan.from.clone(),
            ..databases.dump(&work, &asked, false, by, at)?
        };
        let path = databases.keep(&work, &archive)?;
        self.underway.dump = Some(path.clone());
        Ok(path)
    }

    /// Migrates the schema of Dagster's database, if the new image has another.
    pub(super) fn migrate(&mut self) -> Result<String> {
        let Some(found) = self.underway.inspection.clone().filter(Inspection::migrates) else {
            return Ok("not needed".to_owned());
        };
        self.underway.migrated = true;
        let layout = &self.observed.layout;
        let args = [
            &layout.platform_project(),
            &self.manifest.platform_image.to_string(),
            &layout.release(&self.manifest.id),
        ];
        let args = [&args.map(String::as_str)[..], &[remote::INSTANCE]].concat();
        self.session.run("migrate Dagster's database", remote::MIGRATE, &args, Vec::new())?;
        Ok(format!("schema {}", found.head))
    }

    fn migrates(&self) -> bool {
        self.underway.inspection.as_ref().is_some_and(Inspection::migrates)
    }

    /// Applies to the warehouse the migrations that it lacks, if that was asked for or it is yet to be
    /// made.
    pub(super) async fn bring_up_warehouse(&mut self, asked: bool) -> Result<String> {
        let server = Server::require(self.session, self.observed)?;
        server.ready(self.settings.deploy.verify_timeout).await?;
        let before = server.alignment(&self.migrations).await?;
        if let Some(why) = before.refuses_to_deploy(&self.settings.environment, asked) {
            return Err(warehouse::misaligned(why));
        }
        let report = &*self.report;
        let begin = |file: &File| {
            report.now(&file.migration.name);
            Ok(())
        };
        let done = &mut self.underway.applied;
        let result =
            warehouse::bring_up(self.session, &server, &self.migrations, begin, done).await;
        // Those before one that failed are there.
        self.underway.warehouse = Some([before.applied(), done.clone()].concat());
        result?;
        Ok(match &names(&self.underway.applied.iter().collect::<Vec<_>>())[..] {
            [] => "nothing is lacking".to_owned(),
            applied => applied.join(", "),
        })
    }

    /// The migrations that the warehouse has: as was seen, or as what serves was verified with.
    pub(super) fn warehouse_migrations(&self) -> Option<Vec<Migration>> {
        let known = || self.observed.live_manifest()?.migrations.clone();
        self.underway.warehouse.clone().or_else(known)
    }

    /// Writes down, with the release that goes on serving, what its warehouse got meanwhile.
    pub(super) fn remember_migrations(&self) -> Result {
        if self.underway.applied.is_empty() {
            return Ok(());
        }
        warehouse::remember(self.session, self.underway.warehouse.clone())
    }

    /// Says of an undone change what it leaves behind. Answers whether there is something.
    pub(super) fn tell_migration(&self) -> bool {
        let host = self.settings.deploy.machine();
        let Underway { inspection, dump, migrated, applied, .. } = &self.underway;
        if let (Some(found), Some(dump), true) = (inspection, dump, migrated) {
            self.report.say(&format!(
                "  the schema of Dagster's database is {} still, which older code can use; as it was \
                 before is in {dump} on {host}",
                found.head,
            ));
        }
        if !applied.is_empty() {
            let names = names(&applied.iter().collect::<Vec<_>>()).join(", ");
            self.report.say(&format!("  the warehouse has {names} still"));
        }
        !applied.is_empty()
    }

    /// Refuses new code whose Dagster is newer than that of webserver and daemon.
    pub(super) fn refuse_skew(&self, candidate: &dagster::Code) -> Result {
        let code = candidate.libraries.get("dagster");
        match refuse_skew(code.map(String::as_str), self.manifest.hosts.as_deref()) {
            None => Ok(()),
            Some(refusal) => {
                let hint = refusal.hint();
                Err(Failure::refused(refusal).hint(hint))
            }
        }
    }
}

/// Whether something works on a run, or may.
fn works(run: &LiveRun) -> bool {
    run.worker != Worker::None && !run.worker.is_gone()
}
