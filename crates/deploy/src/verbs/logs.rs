//! `logs`: what the services say.

use anyhow::anyhow;
use exec::Cmd;
use release::{CORE_SERVICE, Location};

use crate::{
    dev::{Containers, Place, Processes},
    environment::Here,
    exit::{Failure, Result},
    session::Session,
};

/// Shows what a service says
#[derive(clap::Args)]
pub(crate) struct Logs {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// `core` (the code server, shown when none is named), `webserver`, `daemon` or `postgres`
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// The code location whose code server is meant
    #[arg(long, value_name = "NAME", default_value_t)]
    location: Location,
    /// Go on until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many lines of the past
    #[arg(long, short = 'n', default_value_t = 200)]
    lines: u32,
}

impl Logs {
    pub(crate) async fn run(self, here: &Here) -> Result {
        if here.is_dev(&self.environment)? {
            return self.run_dev(here);
        }
        let settings = here.settings(&self.environment).await?;
        let session = Session::connect_for(&settings, self.location.clone())?;
        let observed = session.observe()?;
        session.require(&observed)?;
        let service = self.service.as_deref().unwrap_or("core");
        let container = match service {
            "core" | "dagster_core" | "docker_dagster_core" => {
                observed.live.as_ref().map(|it| observed.layout.core_container(it))
            }
            name => {
                let name = name.trim_start_matches("dagster-");
                let found =
                    observed.platform.iter().find(|it| it.service == format!("dagster-{name}"));
                found.map(|it| it.id.clone())
            }
        };
        let Some(container) = container else {
            let error = anyhow!("`{}` has no service `{service}`", self.environment);
            return Err(Failure::refused(error)
                .hint("the services are core, webserver, daemon and postgres"));
        };
        let mut cmd =
            Cmd::new("docker").args(["logs", "--timestamps", "--tail"]).arg(self.lines.to_string());
        if self.follow {
            cmd = cmd.arg("--follow");
        }
        Ok(session.host.stream(&cmd.arg(container))?)
    }

    fn run_dev(self, here: &Here) -> Result {
        let place = Place::of(&here.root)?;
        let service = match self.service.as_deref().unwrap_or("core") {
            "core" | "dagster_core" | CORE_SERVICE => CORE_SERVICE.to_owned(),
            name => format!("dagster-{}", name.trim_start_matches("dagster-")),
        };
        // Of the containers, if there are any; else of the processes, which may have ended.
        let found = Containers::of(&place).logs(&service, self.lines, self.follow);
        let found = found.or_else(|| Processes::logs(&place, &service, self.lines, self.follow));
        let Some(logs) = found else {
            let error = anyhow!("`{}` has no service `{service}`", self.environment);
            return Err(Failure::refused(error).hint("start it: cargo xtask dev"));
        };
        Ok(logs.run()?)
    }
}
