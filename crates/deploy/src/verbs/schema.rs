//! `schema`: the warehouse's migrations, and what no migration explains.

use release::{Alignment, Catalog, Comparison, Difference, Migration, Side, Standing, names};
use serde::Serialize;
use settings::Settings;

use crate::{
    audit::Audit,
    environment::Here,
    exit::{EXIT_CODES, Exit, Failure, Result},
    locked::{LockLost, Locked, Wait},
    report::{self, Report},
    secrets,
    session::Session,
    warehouse::{self, File, Server},
};

/// Shows how the warehouse stands to its migrations, compares two, or brings one up to date
///
/// Migrations are the files of `dagster_core/migrations`: `0001_what_it_does.sql`, in plain SQL.
/// Each is applied once, in a transaction, and never changed afterwards.
#[derive(clap::Args)]
pub(crate) struct Schema {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Shows which migrations are applied, and what in the warehouse none of them made
    ///
    /// They are applied to an empty database beside, which is dropped afterwards, and the warehouse is
    /// compared with it: tables, columns, defaults, constraints, indexes, views, types, functions.
    Status {
        /// The environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Compares the warehouses of two environments, and names what no migration explains
    ///
    /// Variables of the process's environment speak for the first of them alone.
    Diff {
        /// An environment
        #[arg(value_name = "A")]
        left: String,
        /// Another
        #[arg(value_name = "B")]
        right: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Applies the migrations that the warehouse lacks
    #[command(after_help = EXIT_CODES)]
    Sync(Sync),
}

#[derive(clap::Args)]
struct Sync {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Try all of them on an empty database beside, and leave the warehouse alone
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
    /// Print what was applied as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status<'a> {
    environment: &'a str,
    /// Whether all migrations are applied, and nothing else was changed.
    aligned: bool,
    /// Whether the warehouse is yet to be made.
    fresh: bool,
    migrations: Vec<Line<'a>>,
    /// What in the warehouse is not as its migrations make it.
    drift: &'a [Difference],
    /// The revision of Dagster's own tables.
    dagster: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    standing: Standing,
}

#[derive(Serialize)]
struct Diff<'a> {
    environments: [&'a str; 2],
    /// The migrations that only one of them has: of the first, and of the second.
    only: [Vec<String>; 2],
    #[serde(flatten)]
    comparison: Comparison,
    /// The revisions of Dagster's own tables.
    dagster: [Option<String>; 2],
}

#[derive(Serialize)]
struct Synced<'a> {
    environment: &'a str,
    applied: &'a [String],
    dry_run: bool,
    seconds: f64,
}

impl Schema {
    pub(crate) async fn run(self, here: &Here) -> Result {
        match self.verb {
            Verb::Status { environment, json } => status(here, &environment, json).await,
            Verb::Diff { left, right, json } => diff(here, &left, &right, json).await,
            Verb::Sync(it) => it.run(here).await,
        }
    }
}

/// The settings of an environment, with the database's password.
async fn settings(here: &Here, environment: &str, report: &mut Report) -> Result<Settings> {
    with_secrets(here.settings(environment).await?, here, report)
}

fn with_secrets(mut settings: Settings, here: &Here, report: &mut Report) -> Result<Settings> {
    secrets::look_up_here(&mut settings, here, report)?;
    Ok(settings)
}

/// An environment's warehouse, as it is.
struct Seen {
    server: Server,
    alignment: Alignment,
    live: Catalog,
    dagster: Option<String>,
}

impl Seen {
    async fn look(session: &Session<'_>, files: &[File]) -> Result<Seen> {
        let observed = session.observe()?;
        session.require(&observed)?;
        let server = Server::require(session, &observed)?;
        let alignment = server.alignment(files).await?;
        let live = match server.warehouse().await? {
            Some(mut warehouse) => warehouse.catalog().await?,
            None => Catalog::default(),
        };
        let dagster = server.dagster_revision().await?;
        Ok(Seen { server, alignment, live, dagster })
    }

    /// To be compared, given what its migrations make.
    fn side<'a>(&'a self, environment: &'a str, made: &'a Catalog) -> Side<'a> {
        Side { environment, live: &self.live, made }
    }

    /// The files of the migrations it has.
    fn files<'a>(&self, files: &'a [File]) -> Vec<&'a File> {
        let applied = self.alignment.applied();
        let has = |it: &&File| applied.iter().any(|has| has.version == it.migration.version);
        files.iter().filter(has).collect()
    }
}

async fn status(here: &Here, environment: &str, json: bool) -> Result {
    let mut report = Report::new();
    let files = warehouse::read(&here.root)?;
    let settings = settings(here, environment, &mut report).await?;
    let session = Session::connect(&settings)?;
    let seen = Seen::look(&session, &files).await?;
    let drift = if seen.alignment.fresh {
        Vec::new()
    } else {
        let made = seen.server.replay(&seen.files(&files)).await?.pop().unwrap_or_default();
        seen.live.differences(&made)
    };
    report.finish();
    let migrations = &seen.alignment.migrations;
    let facts = Status {
        environment,
        aligned: drift.is_empty() && migrations.iter().all(|it| it.1 == Standing::Applied),
        fresh: seen.alignment.fresh,
        migrations: migrations.iter().map(|it| Line { name: &it.0.name, standing: it.1 }).collect(),
        drift: &drift,
        dagster: seen.dagster,
    };
    report::facts(json, &facts, status_text);
    Ok(())
}

fn status_text(it: &Status<'_>) -> String {
    let Status { environment, aligned, fresh, migrations, drift, dagster } = it;
    let how = match (aligned, fresh) {
        (_, true) => "is yet to be made",
        (true, _) => "is as its migrations make it",
        (false, _) => "is not as this checkout would have it",
    };
    let mut text = format!("the warehouse of {environment} {how}\n");
    for Line { name, standing } in migrations {
        text += &format!("  {name}: {standing}\n");
    }
    if migrations.iter().any(|it| it.standing == Standing::Pending) {
        text += &format!("  apply what is pending: cargo xtask schema sync {environment}\n");
    }
    if !drift.is_empty() {
        text += "what no migration made so:\n";
    }
    for it in *drift {
        text += &format!("  {}\n", it.told("the warehouse", "the migrations"));
    }
    let revision = dagster.as_deref().unwrap_or("not there yet");
    text + &format!("Dagster's own tables: {revision}\n")
}

async fn diff(here: &Here, left: &str, right: &str, json: bool) -> Result {
    let mut report = Report::new();
    let files = warehouse::read(&here.root)?;
    let mut both = Vec::new();
    let other = here.settings_of_another(right).await?;
    let of = [settings(here, left, &mut report).await?, with_secrets(other, here, &mut report)?];
    let sessions = [Session::connect(&of[0])?, Session::connect(&of[1])?];
    for session in &sessions {
        both.push(Seen::look(session, &files).await?);
    }
    let [one, two] = &both[..] else { unreachable!("two were looked at") };
    let made = made(one, two, &files).await?;
    report.finish();
    let comparison = Comparison::new(one.side(left, &made[0]), two.side(right, &made[1]));
    let only = |this: &Seen, that: &Seen| {
        let (this, that) = (this.alignment.applied(), that.alignment.applied());
        let only: Vec<&Migration> =
            this.iter().filter(|it| that.iter().all(|other| other.version != it.version)).collect();
        names(&only)
    };
    let facts = Diff {
        environments: [left, right],
        only: [only(one, two), only(two, one)],
        comparison,
        dagster: [one.dagster.clone(), two.dagster.clone()],
    };
    report::facts(json, &facts, diff_text);
    Ok(())
}

/// What the migrations of each of two warehouses make. One replay is enough where the one has those
/// of the other, and then some.
async fn made(one: &Seen, two: &Seen, files: &[File]) -> Result<[Catalog; 2]> {
    let of = [one.files(files), two.files(files)];
    let longer = usize::from(of[1].len() > of[0].len());
    let shorter = 1 - longer;
    let mut steps = one.server.replay(&of[longer]).await?;
    let versions =
        |files: &[&File]| files.iter().map(|it| it.migration.version).collect::<Vec<_>>();
    let begins_so = versions(&of[longer]).starts_with(&versions(&of[shorter]));
    let short = if begins_so {
        steps[of[shorter].len()].clone()
    } else {
        one.server.replay(&of[shorter]).await?.pop().unwrap_or_default()
    };
    let long = steps.pop().unwrap_or_default();
    Ok(if longer == 0 { [long, short] } else { [short, long] })
}

fn diff_text(it: &Diff<'_>) -> String {
    let Diff { environments: [left, right], only, comparison, dagster } = it;
    let mut text = String::new();
    for (environment, only) in [(left, &only[0]), (right, &only[1])] {
        if !only.is_empty() {
            text += &format!("migrations that only {environment} has: {}\n", only.join(", "));
        }
    }
    if comparison.is_empty() {
        text += &format!("the warehouses of {left} and {right} are made alike\n");
    }
    if !comparison.by_migrations.is_empty() {
        text += "what follows from the migrations:\n";
    }
    for it in &comparison.by_migrations {
        text += &format!("  {}\n", it.told(left, right));
    }
    if !comparison.by_hand.is_empty() {
        text += "what no migration explains:\n";
    }
    for (it, whose) in &comparison.by_hand {
        let whose = whose.join(" and ");
        text += &format!("  {} (changed by hand in {whose})\n", it.told(left, right));
    }
    let [one, two] = dagster.each_ref().map(|it| it.as_deref().unwrap_or("not there yet"));
    if one == two {
        return text + &format!("Dagster's own tables: {one} in both\n");
    }
    text + &format!("Dagster's own tables: {one} in {left}, {two} in {right}\n")
}

impl Sync {
    async fn run(self, here: &Here) -> Result {
        let mut report = Report::new();
        let audit = Audit::begin(here, "schema sync");
        let files = warehouse::read(&here.root)?;
        let environment = self.environment.as_str();
        let settings = settings(here, environment, &mut report).await?;
        let session = Session::connect(&settings)?;
        let observed = session.observe()?;
        session.require(&observed)?;
        let server = Server::require(&session, &observed)?;
        let alignment = server.alignment(&files).await?;
        let pending = names(&alignment.that_are(Standing::Pending));
        if self.dry_run {
            refuse(&alignment, environment)?;
            server.replay(&files.iter().collect::<Vec<_>>()).await?;
            self.tell(&pending, report);
            return Ok(());
        }
        session.recorded(&audit, self.consider(&alignment, &pending, &session, &report))?;

        report.phase("lock");
        let locked = session.locked(audit, self.wait, &report)?;
        report.end("");
        let applied = self.apply(&locked, &server, &files, &mut report).await;
        let applied = locked.finish(applied)?;
        self.tell(&applied, report);
        Ok(())
    }

    /// What is asked before anything is done.
    fn consider(
        &self,
        alignment: &Alignment,
        pending: &[String],
        session: &Session<'_>,
        report: &Report,
    ) -> Result {
        let environment = &session.settings.environment;
        refuse(alignment, environment)?;
        if pending.is_empty() || self.yes || !session.settings.deploy.confirm {
            return Ok(());
        }
        report.say(&format!("the warehouse of {environment} lacks, and gets:"));
        for name in pending {
            report.say(&format!("  {name}"));
        }
        report.say(&format!(
            "not undone by a rollback; saved before by: cargo xtask backup {environment}"
        ));
        if report.confirm("Apply them? [y/N]") {
            return Ok(());
        }
        Err(session.not_confirmed())
    }

    /// Decides anew under the lock, and applies what is pending. Answers their names.
    async fn apply(
        &self,
        locked: &Locked<'_>,
        server: &Server,
        files: &[File],
        report: &mut Report,
    ) -> Result<Vec<String>> {
        let before = server.alignment(files).await?;
        refuse(&before, &self.environment)?;
        if before.that_are(Standing::Pending).is_empty() {
            locked.nothing_to_do();
            return Ok(Vec::new());
        }
        let begin = |file: &File| {
            report.phase(&file.migration.name);
            locked.begin(&file.migration.name)
        };
        let mut done = Vec::new();
        let result = warehouse::bring_up(locked, server, files, begin, &mut done).await;
        // Those before one that failed are there.
        let recorded = match &result {
            Err(failure) if failure.error.is::<LockLost>() => Ok(()),
            _ if done.is_empty() => Ok(()),
            _ => warehouse::remember(locked, Some([before.applied(), done.clone()].concat())),
        };
        match result {
            Ok(()) => recorded.map(|()| names(&done.iter().collect::<Vec<_>>())),
            Err(failure) if failure.exit == Exit::Unreachable || failure.error.is::<LockLost>() => {
                Err(failure)
            }
            Err(failure) => {
                let exit = if done.is_empty() { Exit::Refused } else { Exit::Undone };
                Err(Failure { exit, ..failure })
            }
        }
    }

    fn tell(&self, applied: &[String], mut report: Report) {
        report.finish();
        let synced = Synced {
            environment: &self.environment,
            applied,
            dry_run: self.dry_run,
            seconds: report.seconds(),
        };
        report::facts(self.json, &synced, |it| match (it.applied, it.dry_run) {
            ([], _) => format!("nothing to do: the warehouse of {} has them all", it.environment),
            (names, true) => format!(
                "all of them work on an empty database; {} would get {}",
                it.environment,
                names.join(", ")
            ),
            (names, false) => format!("{} got {}", it.environment, names.join(", ")),
        });
    }
}

fn refuse(alignment: &Alignment, environment: &str) -> Result {
    alignment.refuses_to_apply(environment).map_or(Ok(()), |why| Err(warehouse::misaligned(why)))
}
