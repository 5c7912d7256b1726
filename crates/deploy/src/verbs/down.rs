//! `down`: takes an environment away.

use images::Engine;
use testbed::Testbed;

use crate::{
    audit::Audit,
    dev::{Containers, Place},
    environment::Here,
    exit::Result,
    locked::Wait,
    report::{self, Report},
    session::{Session, remote},
    verbs::tunnel,
};

/// Stops an environment and removes its containers
///
/// A throwaway environment goes whole: VM, registry, keys. Of any other the data stays (Postgres,
/// runs' storage, releases) unless --data is given. Of `dev` goes what --keep has left.
#[derive(clap::Args)]
pub(crate) struct Down {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Remove the data too: databases, logs, releases
    #[arg(long)]
    data: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

impl Down {
    pub(crate) async fn run(self, here: &Here) -> Result {
        if here.is_testbed(&self.environment)? {
            tunnel::close(here, &self.environment)?;
            let removed = Testbed::down(&here.root, &self.environment).await?;
            report::facts(self.json, &removed, |it| {
                if it.is_empty() {
                    "nothing to remove".to_owned()
                } else {
                    format!("removed {}", it.join(", "))
                }
            });
            return Ok(());
        }
        if here.is_dev(&self.environment)? {
            return self.run_dev(here).await;
        }
        let audit = Audit::begin(here, "down");
        let settings = here.settings(&self.environment).await?;
        let session = Session::connect(&settings)?;
        let observed = session.observe()?;
        session.require(&observed)?;
        let containers = observed.cores.len() + observed.platform.len();
        let host = settings.deploy.machine();
        let data = if self.data { " and all its data" } else { "; its data stays" };
        report::eprint_line(&format!(
            "on {host}: remove {containers} containers of {}{data}",
            self.environment
        ));
        if !self.yes && !report::confirm("Runs in flight are killed. Remove them? [y/N]") {
            return session.recorded(&audit, Err(session.not_confirmed()));
        }
        let locked = session.locked(audit, Wait::default(), &Report::new())?;
        let what = if self.data { "data" } else { "keep" };
        let args = [self.environment.as_str(), &observed.layout.dir, what];
        let removed = locked.run("remove the containers", remote::DOWN, &args, Vec::new());
        locked.finish(removed)?;
        report::facts(self.json, &serde_json::json!({ "containers": containers }), |_| {
            format!("removed {containers} containers{data}")
        });
        Ok(())
    }

    /// What `dev --keep` left, or a `dev` that was killed.
    async fn run_dev(self, here: &Here) -> Result {
        let place = Place::of(&here.root)?;
        let _held = place.hold()?;
        let mut containers = 0;
        if Engine::local().await.is_ok() {
            containers = Containers::of(&place).remove(self.data)?;
        }
        if self.data {
            place.remove("native")?;
        }
        let data = if self.data { " and all data" } else { "; the data stays" };
        report::facts(self.json, &serde_json::json!({ "containers": containers }), |_| {
            format!("removed {containers} containers{data}")
        });
        Ok(())
    }
}
