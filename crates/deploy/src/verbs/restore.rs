//! `restore`: an environment's databases, out of a file.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use release::{Archive, Database, Purpose, exchange, inverse, replaced, restored};
use serde::Serialize;

use crate::{
    audit::Audit,
    databases::{self, Databases},
    environment::{self, Here},
    exit::{EXIT_CODES, Exit, Failure, Result},
    locked::{LockLost, Locked, Wait},
    report::{self, Report},
    runs,
    session::{Session, remote},
    verbs::backup::{counted, stamp},
    warehouse,
};

/// Replaces an environment's databases by those of a backup
///
/// The backup is restored beside what serves and compared with what it should be; only then
/// webserver and daemon are stopped, what is there is saved on the host, and the databases change
/// places, all of them or none. If Dagster does not work on them, they change back.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Restore {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// What `backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// What becomes of runs that wait or work: the backup does not know them
    #[arg(long, value_enum, default_value_t = Runs::Refuse)]
    runs: Runs,
    /// Allow a backup of another environment
    #[arg(long)]
    from_other_environment: bool,
    /// Print what was restored as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Runs {
    /// Restore nothing while there are any
    Refuse,
    /// Cancel them
    Cancel,
}

#[derive(Serialize)]
struct Restored<'a> {
    archive: &'a Archive,
    /// What was there before, on the host.
    backup: &'a str,
    /// Runs that were in flight when the backup was taken: nobody works on them.
    in_flight: usize,
    seconds: f64,
}

/// A restore under way: the lock is held.
struct Exchange<'a> {
    locked: &'a Locked<'a>,
    archive: &'a Archive,
    /// The databases by their names here.
    pairs: Vec<(&'a str, &'a Database)>,
    /// Of these names, the ones that are there.
    existing: Vec<String>,
    runs: Runs,
    by: String,
    at: String,
}

const DAEMON: &str = "dagster-daemon";
const WEBSERVER: &str = "dagster-webserver";

impl Restore {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let mut report = Report::new();
        let archive = databases::read(&self.file)?;
        let settings = here.settings(&self.environment).await?;
        let session = Session::connect(&settings)?;
        let observed = session.observe()?;
        session.require(&observed)?;
        if !observed.platform_runs() {
            let error = anyhow!("Dagster does not run in `{}`", self.environment);
            return Err(Failure::refused(error)
                .hint(format!("a restore needs it: cargo xtask deploy {}", self.environment)));
        }
        let asked = databases::named(&settings);
        let pairs: Vec<(&str, &Database)> = archive
            .databases
            .iter()
            .filter_map(|it| Some((asked.iter().find(|here| here.0 == it.purpose)?.1, it)))
            .collect();
        let names: Vec<&str> = pairs.iter().map(|it| it.0).collect();
        let (postgres, sizes) = databases::look(&session, &observed.layout, &names)?;
        if let Some(refusal) =
            archive.refusal(&self.environment, postgres, self.from_other_environment)
        {
            let hint = refusal.hint();
            return Err(Failure::refused(refusal).hint(hint));
        }
        self.confirm(&archive, &pairs, &sizes, &session, &report)?;
        let locked = session.locked(Audit::begin(here, "restore"), Wait::default(), &report)?;
        let exchange = Exchange {
            locked: &locked,
            archive: &archive,
            pairs,
            existing: sizes.into_keys().collect(),
            runs: self.runs,
            by: here.who(),
            at: environment::now(),
        };
        let backup = exchange.run(&self.file, &mut report).await;
        let backup = locked.finish(backup)?;
        let in_flight = session.dagster(&observed)?.runs_in_flight().await?.len();
        report.finish();
        let restored =
            Restored { archive: &archive, backup: &backup, in_flight, seconds: report.seconds() };
        let host = settings.deploy.machine();
        report::facts(self.json, &restored, |it| {
            let lost = match it.in_flight {
                0 => String::new(),
                n => format!(
                    "\n{n} runs were in flight when the backup was taken; nobody works on them"
                ),
            };
            format!(
                "{} is as it was: {}\nwhat it was before is in {} on {host}{lost}",
                self.environment, it.archive, it.backup
            )
        });
        Ok(())
    }

    fn confirm(
        &self,
        archive: &Archive,
        pairs: &[(&str, &Database)],
        sizes: &std::collections::BTreeMap<String, u64>,
        session: &Session<'_>,
        report: &Report,
    ) -> Result {
        let host = session.settings.deploy.machine();
        report.say(&format!("the backup of {archive}\nreplaces on {host}:"));
        for (name, _) in pairs {
            let now = match sizes.get(*name) {
                Some(size) => format!("{} MiB now", size / (1 << 20)),
                None => "not there now".to_owned(),
            };
            report.say(&format!("  `{name}`, {now}"));
        }
        if self.yes || report.confirm("All that was written since is gone. Replace it? [y/N]") {
            return Ok(());
        }
        Err(session.not_confirmed())
    }
}

impl Exchange<'_> {
    /// Restores beside, and lets what was restored take the place of what serves. Answers where
    /// the latter was saved.
    async fn run(&self, file: &Path, report: &mut Report) -> Result<String> {
        let work = format!("{}/{}", self.locked.observed.layout.backups(), stamp(&self.at));
        self.settle_runs(false, report).await?;
        self.stage(&work, file, report)?;
        let mut exchanged = false;
        let replace = self.replace(&work, &mut exchanged, report);
        let Err(failure) = self.locked.until_interrupted(replace).await else {
            return Ok(format!("{work}-before-restore.tar"));
        };
        if failure.error.is::<LockLost>() {
            return Err(failure);
        }
        report.end("failed");
        report.phase("undo");
        self.locked.undoing();
        match self.undo(exchanged, report).await {
            Ok(()) => {
                report.end("the data are as before");
                Err(Failure { exit: Exit::Undone, ..failure })
            }
            Err(undo) => {
                let why = format!("the restore failed, and so did undoing it: {:#}", undo.error);
                let error = failure.error.context(why);
                Err(Failure { exit: Exit::NotUndone, error, ..failure })
            }
        }
    }

    /// Refuses while there are runs, or cancels them once the daemon starts no more.
    async fn settle_runs(&self, daemon_stopped: bool, report: &mut Report) -> Result {
        let dagster = self.dagster()?;
        let runs = dagster.runs_in_flight().await?;
        if runs.is_empty() || (self.runs == Runs::Cancel && !daemon_stopped) {
            return Ok(());
        }
        if self.runs == Runs::Refuse {
            let some: Vec<String> = runs
                .iter()
                .take(5)
                .map(|it| format!("{} {} {}", it.id, it.job, it.status))
                .collect();
            let are = if runs.len() == 1 { "run is" } else { "runs are" };
            let error = anyhow!("{} {are} not over: {}", runs.len(), some.join("; "));
            return Err(Failure::refused(error)
                .hint("wait until they have ended, or cancel them with --runs=cancel"));
        }
        let limit = self.locked.settings.deploy.verify_timeout;
        for run in &runs {
            report.now(&format!("cancel {}", run.id));
            runs::cancel(&dagster, &run.id).await?;
        }
        for run in &runs {
            dagster.ended(&run.id, limit, |_| ()).await?;
        }
        Ok(())
    }

    /// Restores beside what serves. Nothing is touched.
    fn stage(&self, work: &str, file: &Path, report: &mut Report) -> Result {
        self.begin("restore", report)?;
        let file = File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        if let Err(failure) = Databases(self.locked).stage(work, &self.pairs, file) {
            let _ = self.discard(restored);
            return Err(Failure { exit: Exit::Refused, ..failure });
        }
        report.end(&counted(&self.archive.databases));
        Ok(())
    }

    async fn replace(&self, work: &str, exchanged: &mut bool, report: &mut Report) -> Result {
        self.begin("stop", report)?;
        // The daemon first: then no run begins that nobody sees.
        self.halt(DAEMON)?;
        self.settle_runs(true, report).await?;
        self.halt(WEBSERVER)?;

        self.begin("backup", report)?;
        let before = format!("{work}-before-restore");
        let databases = Databases(self.locked);
        let all = databases::named(self.locked.settings);
        let archive = Archive {
            release: self.locked.observed.live.clone(),
            ..databases.dump(&before, &all, false, &self.by, &self.at)?
        };
        report.end(&databases.keep(&before, &archive)?);

        self.begin("exchange", report)?;
        // A restore that was cut off may have left some.
        self.discard(replaced)?;
        *exchanged = true;
        databases.rename(&self.renames())?;
        self.migrate()?;

        self.begin("start", report)?;
        let since = self.resume()?;
        self.serves(since, report).await?;
        report.end("Dagster works on them");
        // Which migrations this warehouse has is yet to be asked.
        warehouse::remember(self.locked, None)?;
        if let Err(failure) = self.discard(replaced) {
            // The next restore drops them.
            report.say(&format!("  warning: {}", failure.error));
        }
        Ok(())
    }

    fn begin(&self, step: &str, report: &mut Report) -> Result {
        self.locked.begin(step)?;
        report.phase(step);
        Ok(())
    }

    fn dagster(&self) -> Result<dagster::Client> {
        self.locked.dagster(&self.locked.observed)
    }

    async fn undo(&self, exchanged: bool, report: &Report) -> Result {
        if exchanged {
            self.halt(DAEMON)?;
            self.halt(WEBSERVER)?;
            // It may not have come to the exchange.
            let aside: Vec<String> = self.names().into_iter().map(replaced).collect();
            let aside: Vec<&str> = aside.iter().map(String::as_str).collect();
            let layout = &self.locked.observed.layout;
            if !databases::look(self.locked, layout, &aside)?.1.is_empty() {
                Databases(self.locked).rename(&inverse(&self.renames()))?;
            }
        }
        let since = self.resume()?;
        self.serves(since, report).await?;
        self.discard(restored)
    }

    fn renames(&self) -> Vec<(String, String)> {
        let there = |name: &str| self.existing.iter().any(|it| it == name);
        self.names().into_iter().flat_map(|name| exchange(name, there(name))).collect()
    }

    /// What the databases are called here.
    fn names(&self) -> Vec<&str> {
        self.pairs.iter().map(|it| it.0).collect()
    }

    /// Drops those that stand beside, by what they are called there.
    fn discard(&self, beside: impl Fn(&str) -> String) -> Result {
        let names: Vec<String> = self.names().into_iter().map(beside).collect();
        Databases(self.locked).discard(&names)
    }

    /// Brings a schema that is older than the Dagster at hand to it.
    fn migrate(&self) -> Result {
        let of_dagster = self.pairs.iter().any(|(_, it)| it.purpose == Purpose::Dagster);
        let Some(stands) = self.locked.observed.platform_of.as_ref().filter(|_| of_dagster) else {
            return Ok(());
        };
        let layout = &self.locked.observed.layout;
        let args = [
            layout.platform_project(),
            stands.platform_image.to_string(),
            layout.platform(),
            remote::INSTANCE.to_owned(),
        ];
        let args = args.each_ref().map(String::as_str);
        self.locked.run("bring the schema up to date", remote::MIGRATE, &args, Vec::new())?;
        Ok(())
    }

    fn halt(&self, service: &str) -> Result {
        let layout = &self.locked.observed.layout;
        let args = [&layout.platform_project(), &layout.lock(), service];
        self.locked.run(&format!("stop {service}"), remote::HALT, &args, Vec::new())?;
        Ok(())
    }

    /// Starts webserver and daemon. Answers when, in seconds since 1970 by the host's clock.
    fn resume(&self) -> Result<f64> {
        let project = self.locked.observed.layout.platform_project();
        let args = [project.as_str(), WEBSERVER, DAEMON];
        let when = self.locked.run("start Dagster", remote::RESUME, &args, Vec::new())?;
        Ok(when.trim().parse().with_context(|| format!("the host's clock says `{when}`"))?)
    }

    /// Waits until Dagster serves the code that served before, and every daemon gave a sign of
    /// life.
    async fn serves(&self, since: f64, report: &Report) -> Result {
        let deadline = self.locked.settings.deploy.verify_timeout;
        let dagster = self.dagster()?;
        dagster.ready(deadline).await?;
        if let Some(live) = self.locked.observed.live_manifest() {
            let expected = dagster::Expectation {
                location: self.locked.location.to_string(),
                host: self.locked.observed.layout.core_container(&live.id),
                image: live.core_image.to_string(),
                since,
                deadline,
            };
            dagster::verify(&dagster, &expected, |why| report.now(why)).await?;
        }
        Ok(())
    }
}
