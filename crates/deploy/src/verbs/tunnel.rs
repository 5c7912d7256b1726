//! `tunnel`: the UI on this machine's loopback.

use std::path::PathBuf;

use exec::Tunnel as SshTunnel;
use serde::Serialize;
use settings::Settings;

use crate::{
    environment::Here,
    exit::Result,
    report,
    session::{Session, target},
};

/// Opens Dagster's UI on this machine, until Ctrl-C
#[derive(clap::Args)]
pub(crate) struct Tunnel {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,
    /// The port here; the next free one is taken when it is in use
    #[arg(long)]
    port: Option<u16>,
    /// Print the address as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Address {
    environment: String,
    url: String,
}

impl Tunnel {
    pub(crate) async fn run(self, here: &Here) -> Result {
        let settings = here.settings(&self.environment).await?;
        let session = Session::connect(&settings)?;
        let wanted = self.port.unwrap_or(settings.deploy.local_port);
        let port = session.host.forward_port(settings.deploy.ui_port, wanted)?;
        dagster::Client::new(port).ready(settings.deploy.verify_timeout).await?;
        let address =
            Address { environment: self.environment, url: format!("http://localhost:{port}") };
        if settings.deploy.is_local() {
            // No tunnel is needed.
            report::facts(self.json, &address, |it| format!("{} is at {}", it.environment, it.url));
            return Ok(());
        }
        if port != wanted {
            report::eprint_line(&format!("port {wanted} is in use here: {port} is taken instead"));
        }
        report::facts(self.json, &address, |it| {
            format!("{} is at {} until you press Ctrl-C", it.environment, it.url)
        });
        tokio::signal::ctrl_c().await?;
        Ok(())
    }
}

/// Where the UI is, of an environment that is left reachable: through a tunnel that stays when this
/// program ends (one that is open already is used), or on this machine itself. Of others a tunnel is
/// opened when it is asked for.
pub(crate) fn leave_open(here: &Here, settings: &Settings) -> Result<Option<String>> {
    if !settings.deploy.testbed && !settings.deploy.is_local() {
        return Ok(None);
    }
    let state = state(here, &settings.environment);
    let port = SshTunnel::open(
        &target(settings),
        &state,
        settings.deploy.ui_port,
        settings.deploy.local_port,
    )?;
    Ok(Some(format!("http://localhost:{port}")))
}

/// Closes the tunnel that was left open.
pub(crate) fn close(here: &Here, environment: &str) -> Result {
    Ok(SshTunnel::close(&state(here, environment))?)
}

fn state(here: &Here, environment: &str) -> PathBuf {
    here.root.join(".dagster-deploy").join(environment).join("tunnel")
}
