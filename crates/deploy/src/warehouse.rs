//! The warehouse: its migrations, and what it is made of. Postgres is asked through the connection to
//! the host, at its address in the environment's network.

mod files;
mod wanted;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use exec::Address;
use release::{Alignment, Catalog, MIGRATIONS, Manifest, Migration, Misaligned, Observed};
use settings::{Settings, Value};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    migrate::{Migrate as _, MigrateError},
    postgres::{PgConnectOptions, PgDatabaseError, PgErrorPosition, PgSslMode},
};

pub(crate) use self::{
    files::{File, read},
    wanted::Wanted,
};
use crate::{
    exit::{Exit, Failure, Result},
    locked::Locked,
    session::{Session, bash, remote},
};

/// Where a warehouse keeps which migrations it has; sqlx's own tool reads it too. Named whole, since
/// a migration may change the search path.
const TABLE: &str = "public._sqlx_migrations";

/// Postgres of an environment.
pub(crate) struct Server {
    environment: String,
    address: Address,
    user: String,
    password: String,
    /// Dagster's database, which is always there.
    dagster: String,
    warehouse: String,
}

/// A warehouse that is there.
pub(crate) struct Warehouse<'a> {
    server: &'a Server,
    connection: PgConnection,
}

impl Server {
    /// Reaches Postgres; none if it does not run.
    pub(crate) fn reach(session: &Session<'_>, observed: &Observed) -> Result<Option<Server>> {
        const STOPPED: i32 = 44;

        let project = observed.layout.platform_project();
        let output = session.host.output(&bash(remote::ADDRESS, &[&project]))?;
        if output.status.code() == Some(STOPPED) {
            return Ok(None);
        }
        let address = session.succeeded("find Postgres", output)?;
        if address.trim().is_empty() {
            // It is between two starts.
            return Ok(None);
        }
        let address = format!("{}:5432", address.trim());
        let address = address.parse().with_context(|| format!("Postgres is at `{address}`"))?;
        // The name that clients of Postgres expect.
        let address = session.host.forward_address(address, ".s.PGSQL.5432")?;
        let Settings { environment, containers, .. } = session.settings;
        let text =
            |key: &str| containers.get(key).map(Value::expose).unwrap_or_default().to_owned();
        let left = session.settings.left_to_host();
        let password = if left.iter().any(|(key, _)| *key == release::PASSWORD) {
            session.ask("read the database's password", remote::DATABASE_PASSWORD, &[&project])?
        } else {
            text(release::PASSWORD)
        };
        Ok(Some(Server {
            environment: environment.clone(),
            address,
            user: text("POSTGRES_USER"),
            password,
            dagster: text("POSTGRES_DB"),
            warehouse: text("WAREHOUSE_DB"),
        }))
    }

    /// The same, of one that must run.
    pub(crate) fn require(session: &Session<'_>, observed: &Observed) -> Result<Server> {
        Server::reach(session, observed)?.ok_or_else(|| {
            let environment = &session.settings.environment;
            Failure::refused(anyhow!("Postgres of `{environment}` does not run"))
                .hint(format!("start it: cargo xtask deploy {environment}"))
        })
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        // Each of them is named, since what is not is taken from the process's environment.
        let options = PgConnectOptions::new_without_pgpass()
            .username(&self.user)
            .password(&self.password)
            .database(database)
            // SSH carries it, or no network does.
            .ssl_mode(PgSslMode::Disable)
            .application_name("dagster-deploy");
        let options = match &self.address {
            Address::Socket(folder) => options.socket(folder).port(5432),
            Address::Tcp(it) => options.host(&it.ip().to_string()).port(it.port()),
        };
        PgConnection::connect_with(&options).await
    }

    async fn open(&self, database: &str) -> Result<PgConnection> {
        self.connect(database).await.map_err(|error| self.unreachable(database, error))
    }

    fn unreachable(&self, database: &str, error: sqlx::Error) -> Failure {
        const WRONG_PASSWORD: &str = "28P01";

        let environment = &self.environment;
        let denied = code(&error).as_deref() == Some(WRONG_PASSWORD);
        let failure = Failure::from(
            said(error)
                .context(format!("cannot open the database `{database}` of `{environment}`")),
        );
        if denied {
            return failure.hint(format!(
                "Postgres knows another POSTGRES_PASSWORD than the settings; to tell it this one: cargo \
                 xtask env rotate {environment} POSTGRES_PASSWORD"
            ));
        }
        failure
    }

    /// Whether it answers, be it that it lets nobody in.
    pub(crate) async fn answers(&self) -> bool {
        !self.connect(&self.dagster).await.is_err_and(|error| starts(&error))
    }

    /// Waits until Postgres, which was just started, lets us in.
    pub(crate) async fn ready(&self, limit: Duration) -> Result {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let Err(error) = self.connect(&self.dagster).await else { return Ok(()) };
            if !starts(&error) || tokio::time::Instant::now() >= deadline {
                return Err(self.unreachable(&self.dagster, error));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The warehouse, if it is there.
    pub(crate) async fn warehouse(&self) -> Result<Option<Warehouse<'_>>> {
        match self.connect(&self.warehouse).await {
            Ok(connection) => Ok(Some(Warehouse { server: self, connection })),
            Err(error) if code(&error).as_deref() == Some(NO_DATABASE) => Ok(None),
            Err(error) => Err(self.unreachable(&self.warehouse, error)),
        }
    }

    /// The warehouse, which is made if it is not there.
    pub(crate) async fn made(&self) -> Result<Warehouse<'_>> {
        const EXISTS: &str = "42P04";

        if let Some(warehouse) = self.warehouse().await? {
            return Ok(warehouse);
        }
        let mut server = self.open(&self.dagster).await?;
        match execute(&mut server, format!("CREATE DATABASE {}", quoted(&self.warehouse))).await {
            // A run was first.
            Err(error) if code(&error).as_deref() != Some(EXISTS) => return Err(said(error).into()),
            _ => {}
        }
        let connection = self.open(&self.warehouse).await?;
        Ok(Warehouse { server: self, connection })
    }

    /// How migrations stand to the warehouse.
    pub(crate) async fn alignment(&self, files: &[File]) -> Result<Alignment> {
        let files: Vec<Migration> = files.iter().map(|it| it.migration.clone()).collect();
        let applied = match self.warehouse().await? {
            Some(mut warehouse) => warehouse.applied().await?,
            None => None,
        };
        Ok(Alignment::new(&files, applied.as_deref()))
    }

    /// The revision of Dagster's own tables; none before it has made them.
    pub(crate) async fn dagster_revision(&self) -> Result<Option<String>> {
        const NO_TABLE: &str = "42P01";

        let mut dagster = self.open(&self.dagster).await?;
        let revision = sqlx::query_scalar("SELECT version_num FROM public.alembic_version");
        match revision.fetch_optional(&mut dagster).await {
            Err(error) if code(&error).as_deref() == Some(NO_TABLE) => Ok(None),
            answer => answer.map_err(|error| said(error).into()),
        }
    }

    /// What migrations make of an empty database: first that one, then as it is after each of them.
    ///
    /// They are applied to a database beside, which is dropped afterwards. If this program is killed
    /// meanwhile, the next one drops it.
    pub(crate) async fn replay(&self, files: &[&File]) -> Result<Vec<Catalog>> {
        let scratch = format!("{}_replay", self.warehouse);
        let mut server = self.open(&self.dagster).await?;
        // One at a time; it is free when the connection ends.
        let lock = "SELECT pg_advisory_lock(hashtext('dagster-deploy'), hashtext('replay'))";
        execute(&mut server, lock.to_owned()).await.map_err(said)?;
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&scratch));
        let create = format!("CREATE DATABASE {} TEMPLATE template0", quoted(&scratch));
        execute(&mut server, drop.clone()).await.map_err(said)?;
        execute(&mut server, create).await.map_err(said)?;
        let made = self.replay_in(&scratch, files).await;
        execute(&mut server, drop).await.map_err(said)?;
        made
    }

    async fn replay_in(&self, database: &str, files: &[&File]) -> Result<Vec<Catalog>> {
        let connection = self.open(database).await?;
        let mut scratch = Warehouse { server: self, connection };
        let mut made = vec![scratch.catalog().await?];
        scratch.ensure_table().await?;
        for file in files {
            scratch.apply_one(file).await?;
            made.push(scratch.catalog().await?);
        }
        Ok(made)
    }
}

impl Warehouse<'_> {
    /// The migrations it has; none at all, if there is nothing in it yet.
    pub(crate) async fn applied(&mut self) -> Result<Option<Vec<Migration>>> {
        let is_there = format!("SELECT to_regclass('{TABLE}') IS NOT NULL");
        let is_there: bool = sqlx::query_scalar(AssertSqlSafe(is_there))
            .fetch_one(&mut self.connection)
            .await
            .map_err(said)?;
        let mut applied = Vec::new();
        if is_there {
            let rows: Vec<(i64, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT version, description, left(encode(checksum, 'hex'), {}) FROM {TABLE} \
                 ORDER BY version",
                files::CHECKSUM
            )))
            .fetch_all(&mut self.connection)
            .await
            .map_err(said)?;
            applied.extend(rows.into_iter().map(|(version, description, checksum)| {
                Migration::told(version, &description, checksum)
            }));
        }
        if applied.is_empty() && !self.has_tables().await? {
            return Ok(None);
        }
        Ok(Some(applied))
    }

    async fn has_tables(&mut self) -> Result<bool> {
        let tables = format!(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
             AND c.relkind IN ('r', 'p', 'v', 'm') \
             AND c.oid IS DISTINCT FROM to_regclass('{TABLE}')::oid)"
        );
        let tables = sqlx::query_scalar(AssertSqlSafe(tables)).fetch_one(&mut self.connection);
        Ok(tables.await.map_err(said)?)
    }

    /// What it is made of, at one moment.
    pub(crate) async fn catalog(&mut self) -> Result<Catalog> {
        const CATALOG: &str = include_str!("warehouse/catalog.sql");

        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = ''";
        execute(&mut self.connection, begin.to_owned()).await.map_err(said)?;
        let rows: Vec<(String, String, String, String)> =
            sqlx::query_as(CATALOG).fetch_all(&mut self.connection).await.map_err(said)?;
        execute(&mut self.connection, "COMMIT".to_owned()).await.map_err(said)?;
        Ok(Catalog::of(rows)?)
    }

    /// Applies those of the files that it lacks, each in a transaction of its own, under a lock in
    /// the database. Before each `begin` is asked; what it refuses ends the whole. `done` grows by
    /// each that was applied.
    async fn apply(
        &mut self,
        files: &[File],
        mut begin: impl FnMut(&File) -> Result,
        done: &mut Vec<Migration>,
    ) -> Result {
        self.settle().await?;
        if let Err(error) = self.connection.lock().await {
            return Err(self.locked(migrate_error(error)));
        }
        self.ensure_table().await?;
        let applied = self.applied().await?.unwrap_or_default();
        for file in files {
            if applied.iter().all(|it| it.version != file.migration.version) {
                begin(file)?;
                self.apply_one(file).await?;
                done.push(file.migration.clone());
            }
        }
        self.connection.unlock().await.map_err(migrate_error).map_err(said)?;
        Ok(())
    }

    /// Forgets what a migration set, and sets what one must keep to.
    async fn settle(&mut self) -> Result {
        // Whoever waits for a table that a run works on makes all others wait behind: not for long.
        // And what works for a client that is gone is to end; older versions cannot.
        const SETTLE: &str = "RESET ALL; SET lock_timeout = '15s'; \
            SELECT set_config(name, '2s', false) FROM pg_settings \
            WHERE name = 'client_connection_check_interval'";

        Ok(execute(&mut self.connection, SETTLE.to_owned()).await.map_err(said)?)
    }

    async fn ensure_table(&mut self) -> Result {
        let ensured = self.connection.ensure_migrations_table(TABLE).await;
        Ok(ensured.map_err(migrate_error).map_err(said)?)
    }

    async fn apply_one(&mut self, file: &File) -> Result {
        self.settle().await?;
        let applied = self.connection.apply(TABLE, &file.sql).await;
        applied.map(drop).map_err(|error| {
            let error = migrate_error(error);
            let line = line(&error, file.sql.sql.as_str());
            let place = line.map(|it| format!(":{it}")).unwrap_or_default();
            let code = code(&error);
            let what = format!("`{MIGRATIONS}/{}{place}` was not applied", file.file());
            Failure::refused(said(error).context(what)).hint(match code.as_deref() {
                Some(LOCK_TIMEOUT) => {
                    "something works on what it changes: try again when it has ended"
                }
                Some(files::ENDS) => {
                    "take BEGIN, COMMIT and ROLLBACK out of it; what it did before them stands"
                }
                _ => "nothing of it was applied: mend it, and try again",
            })
        })
    }

    fn locked(&self, error: sqlx::Error) -> Failure {
        if code(&error).as_deref() != Some(LOCK_TIMEOUT) {
            return Failure { exit: Exit::Unexpected, ..said(error).into() };
        }
        let environment = &self.server.environment;
        let who = format!("somebody else applies migrations to the warehouse of `{environment}`");
        Failure::refused(anyhow!(who)).hint("try again when they are through")
    }
}

/// Applies, under the environment's lock, the migrations that its warehouse lacks; it is made if it is
/// not there. `done` grows by each that was applied, whatever comes of the next.
pub(crate) async fn bring_up(
    locked: &Locked<'_>,
    server: &Server,
    files: &[File],
    mut begin: impl FnMut(&File) -> Result,
    done: &mut Vec<Migration>,
) -> Result {
    let begin = |file: &File| {
        begin(file)?;
        // What is sent to Postgres passes no fence.
        locked.require_held()
    };
    locked.until_interrupted(async { server.made().await?.apply(files, begin, done).await }).await
}

/// Writes down, with the release that serves, which migrations its warehouse has; none, if that is not
/// known any more.
pub(crate) fn remember(locked: &Locked<'_>, migrations: Option<Vec<Migration>>) -> Result {
    let observed = &locked.observed;
    let Some(live) = observed.live_manifest() else { return Ok(()) };
    let manifest = Manifest { migrations, ..live.clone() };
    let json = serde_json::to_string(&manifest).expect("a manifest is plain data");
    let dir = observed.layout.release(&live.id);
    locked.write(&format!("{dir}/manifest.json"), "600", json).map(drop)
}

/// Migrations and warehouse do not fit.
pub(crate) fn misaligned(why: Misaligned) -> Failure {
    let hint = why.hint();
    Failure::refused(why).hint(hint)
}

/// There is no database of that name.
const NO_DATABASE: &str = "3D000";

/// Something waited longer for a lock than it may.
const LOCK_TIMEOUT: &str = "55P03";

/// One statement or several, by the protocol that takes both.
async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// A name as SQL has it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn migrate_error(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        other => sqlx::Error::Migrate(Box::new(other)),
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(Into::into)
}

/// Whether an error is one of a Postgres that is about to start, or does not listen. Made for the first
/// time, it makes its database before it listens to others than itself.
fn starts(error: &sqlx::Error) -> bool {
    const STARTING: &str = "57P03";

    code(error).is_none_or(|it| [STARTING, NO_DATABASE].contains(&it.as_str()))
}

/// The line of a text that Postgres points at.
fn line(error: &sqlx::Error, sql: &str) -> Option<usize> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let Some(PgErrorPosition::Original(position)) = error.position() else { return None };
    Some(sql.chars().take(position.saturating_sub(1)).filter(|it| *it == '\n').count() + 1)
}

/// An error in Postgres's own words, where it has some.
fn said(error: sqlx::Error) -> anyhow::Error {
    let of_postgres =
        error.as_database_error().and_then(|it| it.try_downcast_ref::<PgDatabaseError>());
    let Some(it) = of_postgres else { return anyhow::Error::new(error) };
    let more = [("detail", it.detail()), ("hint", it.hint())];
    let more = more.into_iter().filter_map(|(what, text)| Some(format!("\n{what}: {}", text?)));
    anyhow!("Postgres says: {}{}", it.message(), more.collect::<String>())
}
