//! `backup`: an environment's databases, in one file.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use exec::Cmd;
use release::{Archive, Database};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::{
    audit::Audit,
    databases::{self, Databases},
    environment::{self, Here},
    exit::{EXIT_CODES, Failure, Result},
    locked::{Locked, Wait},
    report::{self, Report},
    session::Session,
};

/// Saves an environment's databases into one file
///
/// Dagster's runs and events, and the warehouse that the assets are written to; each from one
/// snapshot, while everything runs. The copy is restored beside the original and compared with it,
/// table by table, before it counts as a backup.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Backup {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// Where it goes: a new file here, or `gs://BUCKET/PATH` [default: ENV-TIME.tar]
    #[arg(value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    wait: Wait,
    /// Print what was saved as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Saved<'a> {
    file: &'a str,
    archive: &'a Archive,
    seconds: f64,
}

impl Backup {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let mut report = Report::new();
        let name = || format!("{}-{}.tar", self.environment, stamp(&environment::now()));
        let file = self.file.unwrap_or_else(name);
        let bucket = file.starts_with("gs://");
        if !bucket && Path::new(&file).exists() {
            return Err(Failure::refused(anyhow!("`{file}` exists already"))
                .hint("a backup does not replace another: name a new file"));
        }
        // Made first: a folder that cannot be written to is told before anything is dumped.
        let folder = Path::new(&file).parent().filter(|it| !bucket && *it != Path::new(""));
        let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
        let unfinished = NamedTempFile::with_prefix_in(".backup-", &folder)
            .with_context(|| format!("cannot write into `{}`", folder.display()))
            .map_err(Failure::refused)?;

        let settings = here.settings(&self.environment).await?;
        let session = Session::connect(&settings)?;
        let locked = session.locked(Audit::begin(here, "backup"), self.wait, &report)?;
        // It may have waited: this is the time that its data are of.
        let at = environment::now();
        let work = format!("{}/{}-backup", locked.observed.layout.backups(), stamp(&at));
        let by = here.who();
        let saved = save(&locked, &work, &by, &at, unfinished.as_file(), &mut report);
        let archive = locked.finish(saved)?;
        if databases::read(unfinished.path())? != archive {
            return Err(
                anyhow!("what arrived is not what {} sent", settings.deploy.machine()).into()
            );
        }
        if bucket {
            let copy = Cmd::new("gcloud").args(["storage", "cp", "--no-clobber"]);
            copy.arg(unfinished.path()).arg(file.as_str()).read()?;
        } else {
            unfinished.as_file().sync_all()?;
            unfinished
                .persist_noclobber(&file)
                .with_context(|| format!("cannot write `{file}`"))?;
        }
        report.end(&file);
        report.finish();
        let saved = Saved { file: &file, archive: &archive, seconds: report.seconds() };
        report::facts(self.json, &saved, |it| {
            format!("{} holds {}, restored and compared", it.file, it.archive)
        });
        Ok(())
    }
}

/// Dumps, checks and fetches.
fn save(
    locked: &Locked<'_>,
    work: &str,
    by: &str,
    at: &str,
    file: &File,
    report: &mut Report,
) -> Result<Archive> {
    let databases = Databases(locked);
    locked.begin("dump")?;
    report.phase("dump");
    let archive = Archive {
        release: locked.observed.live.clone(),
        ..databases.dump(work, &databases::named(locked.settings), true, by, at)?
    };
    report.end(&counted(&archive.databases));
    locked.begin("fetch")?;
    report.phase("fetch");
    databases.fetch(work, &archive, file.try_clone()?)?;
    Ok(archive)
}

/// A moment as part of a file's name: `20261123T142233Z`.
pub(crate) fn stamp(at: &str) -> String {
    at.replace(['-', ':'], "")
}

/// What was dumped or restored, for the timeline.
pub(crate) fn counted(databases: &[Database]) -> String {
    let each = databases
        .iter()
        .map(|it| format!("`{}`: {} tables, {} rows", it.name, it.tables.len(), it.rows()));
    each.collect::<Vec<_>>().join("; ")
}
