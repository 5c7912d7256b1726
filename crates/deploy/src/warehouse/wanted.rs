//! What a deploy wants to know of migrations.

use std::path::Path;

use release::{Alignment, Location, Migration, Observed, Plan, Standing, names};

use super::{File, Server, misaligned, read};
use crate::{exit::Result, session::Session};

/// The migrations that the code comes with, and how the warehouse stands to them.
pub(crate) struct Wanted {
    pub(crate) files: Vec<File>,
    migrations: Vec<Migration>,
    /// None if it was not asked: it cannot be, or what serves was verified with all of them.
    alignment: Option<Alignment>,
}

impl Wanted {
    /// Reads those of the code at `root`, and asks the warehouse if there is something to ask.
    pub(crate) async fn look(
        root: &Path,
        session: &Session<'_>,
        observed: &Observed,
    ) -> Result<Wanted> {
        // They are in the folder of this location alone.
        let ours = session.location == Location::default();
        let files = if ours { read(root)? } else { Vec::new() };
        let migrations: Vec<Migration> = files.iter().map(|it| it.migration.clone()).collect();
        let known = observed.live_manifest().and_then(|it| it.migrations.as_ref());
        if known.is_some_and(|known| migrations.iter().all(|it| known.contains(it))) {
            return Ok(Wanted { files, migrations: Vec::new(), alignment: None });
        }
        let server = Server::reach(session, observed)?.filter(|_| !migrations.is_empty());
        // One that does not answer may be what this deploy mends.
        let alignment = match server {
            Some(server) if server.answers().await => Some(server.alignment(&files).await?),
            _ => None,
        };
        Ok(Wanted { files, migrations, alignment })
    }

    /// The plan of a deploy, with those that are applied on the way.
    pub(crate) fn along(&self, plan: Plan, asked: bool) -> Plan {
        plan.with_migrations(&self.migrations, self.alignment.as_ref(), asked)
    }

    /// The migrations that the warehouse has, if it was asked.
    pub(crate) fn has(&self) -> Option<Vec<Migration>> {
        self.alignment.as_ref().map(Alignment::applied)
    }

    /// Those that the warehouse lacks.
    pub(crate) fn lacking(&self) -> Vec<String> {
        self.alignment.as_ref().map(|it| names(&it.that_are(Standing::Pending))).unwrap_or_default()
    }

    /// Fails if code with them is not to be deployed; `asked`, whether to apply them on the way.
    pub(crate) fn refusal(&self, environment: &str, asked: bool) -> Result {
        let alignment = self.alignment.as_ref();
        match alignment.and_then(|it| it.refuses_to_deploy(environment, asked)) {
            None => Ok(()),
            Some(why) => Err(misaligned(why)),
        }
    }
}
