//! `lock`: who holds an environment's lock, and how to take it away.

use anyhow::anyhow;
use release::{Ended, Entry};
use serde::Serialize;

use crate::{
    audit::Audit,
    environment::Here,
    exit::{Failure, Result},
    report,
    session::Session,
};

/// Shows who holds an environment's lock, or breaks it
#[derive(clap::Args)]
pub(crate) struct Lock {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Shows who holds the lock, since when, and what for
    Status {
        /// The environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Takes the lock away from who holds it
    ///
    /// A deploy that is dead, cut off or stopped frees it by itself within seconds: this is for
    /// one that lives and must not go on. What it was doing on the host is ended, and it touches
    /// nothing more; the next deploy heals what it left.
    Break {
        /// The environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Why, for the audit log and for whom it is taken from
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Facts {
    environment: String,
    held: bool,
    /// Who holds it.
    #[serde(flatten)]
    entry: Option<Entry>,
}

impl Lock {
    pub(crate) async fn run(self, here: &Here) -> Result {
        match self.verb {
            Verb::Status { environment, json } => status(here, environment, json).await,
            Verb::Break { environment, reason, yes } => {
                break_it(here, &environment, reason, yes).await
            }
        }
    }
}

async fn status(here: &Here, environment: String, json: bool) -> Result {
    let settings = here.settings(&environment).await?;
    let holder = Session::connect(&settings)?.holder()?;
    let facts = Facts {
        environment,
        held: holder.is_some(),
        entry: holder.as_ref().map(|it| it.entry.clone()),
    };
    report::facts(json, &facts, |it| match &holder {
        Some(holder) => format!("{} is locked: {}", it.environment, holder.describe()),
        None => format!("{} is not locked", it.environment),
    });
    Ok(())
}

async fn break_it(here: &Here, environment: &str, reason: String, yes: bool) -> Result {
    let mut audit = Audit::begin(here, "lock break");
    let settings = here.settings(environment).await?;
    let session = Session::connect(&settings)?;
    let Some(holder) = session.holder()? else { return Err(nobody(environment)) };
    report::eprint_line(&format!("{environment} is locked: {}", holder.describe()));
    audit.entry.reason = Some(reason);
    if !yes && !report::confirm("Break the lock? [y/N]") {
        return session.recorded(&audit, Err(session.not_confirmed()));
    }
    audit.entry.broke = Some(holder.token.clone());
    if !session.break_lock(&holder, &audit.ended(Ok(Ended::Done)))? {
        return Err(nobody(environment));
    }
    report::eprint_line(&format!("the lock of {environment} is free"));
    Ok(())
}

fn nobody(environment: &str) -> Failure {
    Failure::refused(anyhow!("nobody holds this lock of `{environment}` any more"))
        .hint(format!("`cargo xtask lock status {environment}` shows who does"))
}
