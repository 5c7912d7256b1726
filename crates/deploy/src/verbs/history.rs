//! `history`: what was deployed, when and by whom.

use release::{AuditLog, Location};

use crate::{
    environment::Here,
    exit::Result,
    report,
    session::{Session, remote},
};

/// Shows what was deployed, when, by whom, and what came of it
///
/// At the end: how long the phases of what was done took (the median, and what nineteen of twenty
/// kept within). "gap" is for how many seconds the code was not served while it was switched.
#[derive(clap::Args)]
pub(crate) struct History {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// Every verb that changes something, and not releases only
    #[arg(long)]
    all: bool,
    /// Of one code location
    #[arg(long, value_name = "NAME")]
    location: Option<Location>,
    /// How many, the newest
    #[arg(long, short = 'n', default_value_t = 20)]
    lines: usize,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl History {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let settings = here.settings(&self.environment).await?;
        if let Some(location) = &self.location {
            Here::require_location(&settings, location)?;
        }
        let session = Session::connect(&settings)?;
        let log = session.ask("read the audit log", remote::HISTORY, &[&settings.deploy.dir])?;
        let log = AuditLog::read(&log, self.all, self.location.as_ref(), self.lines);
        report::facts(self.json, &log, ToString::to_string);
        Ok(())
    }
}
