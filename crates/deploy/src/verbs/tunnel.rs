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
        if port != wanted {
            report::eprint_line(&format!("port {wanted} is in use here: {port} is taken instead"));
        }
        let address =
            Address { environment: self.environment, url: format!("http://localhost:{port}") };
        report::facts(self.json, &address, |it| {
            format!("{} is at {} until you press Ctrl-C", it.environment, it.url)
        });
        tokio::signal::ctrl_c().await?;
        Ok(())
    }
}

/// Opens a tunnel that stays when this program ends; one that is open already is used.
pub(crate) fn leave_open(here: &Here, settings: &Settings) -> Result<String> {
    let state = state(here, &settings.environment);
    let port = SshTunnel::open(
        &target(settings),
        &state,
        settings.deploy.ui_port,
        settings.deploy.local_port,
    )?;
    Ok(format!("http://localhost:{port}"))
}

/// Closes the tunnel that was left open.
pub(crate) fn close(here: &Here, environment: &str) -> Result {
    Ok(SshTunnel::close(&state(here, environment))?)
}

fn state(here: &Here, environment: &str) -> PathBuf {
    here.root.join(".dagster-deploy").join(environment).join("tunnel")
}
