//! `doctor`: what this machine lacks.

use anyhow::anyhow;
use testbed::doctor;

use crate::{
    environment::Here,
    exit::{Failure, Result},
    report::{self, Report},
};

/// Checks this machine
#[derive(clap::Args)]
pub(crate) struct Doctor {
    /// Install what is missing (Debian, as root or with sudo)
    #[arg(long)]
    install: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(self, _here: &Here) -> Result {
        if self.install {
            make_ready(&mut Report::new()).await?;
        }
        let findings = doctor::check().await;
        report::facts(self.json, &findings, |it| {
            it.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        });
        match findings.iter().filter(|it| !it.ok).count() {
            0 => Ok(()),
            n => Err(Failure::refused(anyhow!("this machine lacks {n} of {}", findings.len()))),
        }
    }
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
