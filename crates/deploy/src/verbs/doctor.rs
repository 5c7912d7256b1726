//! `doctor`: what this machine lacks, and an environment's host.

use anyhow::anyhow;
use settings::Settings;
use testbed::doctor::{self, Finding};

use crate::{
    environment::Here,
    exit::{Failure, Result},
    report::{self, Report},
    session::Session,
    verbs::deploy::refuse_host,
};

/// Checks this machine, and an environment's host
#[derive(clap::Args)]
pub(crate) struct Doctor {
    /// The environment whose host is looked at too
    #[arg(value_name = "ENV")]
    environment: Option<String>,
    /// Install what is missing (Debian, as root or with sudo)
    #[arg(long)]
    install: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(self, here: &Here) -> Result {
        if self.install {
            make_ready(&mut Report::new()).await?;
        }
        let mut findings = doctor::check().await;
        if let Some(environment) = &self.environment {
            findings.extend(host(&here.settings(environment).await?)?);
        }
        report::facts(self.json, &findings, |it| {
            it.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        });
        match findings.iter().filter(|it| !it.ok).count() {
            0 => Ok(()),
            n => Err(Failure::refused(anyhow!("{n} of {} are missing", findings.len()))),
        }
    }
}

/// What a deploy needs of the host.
fn host(settings: &Settings) -> Result<Vec<Finding>> {
    let place = settings.deploy.place();
    let lack = |failure: Failure| {
        let mend = failure.hint.unwrap_or_default();
        Finding::lack("host", format!("{:#}", failure.error), &mend)
    };
    let session = match Session::connect(settings) {
        Ok(session) => session,
        Err(failure) => return Ok(vec![lack(failure)]),
    };
    let observed = session.observe()?;
    let mut found: Vec<Finding> = observed.lacks.iter().map(|it| lack(session.lacks(it))).collect();
    if found.is_empty() {
        found.extend(refuse_host(settings, &observed).err().map(lack));
    }
    if found.is_empty() {
        let what = format!("{place}, Compose {}", observed.compose.version);
        found.push(Finding::fine("host", &what));
    }
    Ok(found)
}

/// Installs what is missing, or says in one line per lack what to install.
pub(crate) async fn make_ready(report: &mut Report) -> Result {
    let lacking: Vec<_> = doctor::check().await.into_iter().filter(|it| !it.ok).collect();
    if lacking.is_empty() {
        report.end("has all it needs");
        return Ok(());
    }
    doctor::install(&lacking, &mut |line| report.say(&format!("  {line}"))).await?;
    let lacking: Vec<_> = doctor::check().await.into_iter().filter(|it| !it.ok).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let mends: Vec<&str> = lacking.iter().map(|it| it.mend.as_str()).collect();
    let names: Vec<&str> = lacking.iter().map(|it| it.what.as_str()).collect();
    Err(Failure::refused(anyhow!("{}", names.join("; "))).hint(mends.join("\n")))
}
