//! Finds out what a deploy would change, for a reader to decide on. Changes nothing anywhere.

use images::Engine;
use release::{Change, Commit, Manifest, Observed, Plan, Preview, definitions_changed};

use crate::{
    artifacts::Workshop,
    environment::Here,
    exit::Result,
    imported::{self, Imported},
    project::Project,
    promotion::Promotion,
    report::Report,
    runs,
    session::Session,
};

/// What is looked at.
pub(crate) struct Prospect<'a> {
    pub(crate) here: &'a Here,
    pub(crate) session: &'a Session<'a>,
    pub(crate) project: &'a Project,
    pub(crate) observed: &'a Observed,
    pub(crate) workshop: &'a Workshop<'a>,
    /// What is promoted, if it is not the checkout that is released.
    pub(crate) promotion: Option<&'a Promotion<'a>>,
}

impl Prospect<'_> {
    /// What a plan would change. What cannot be found out is told in it, and is no error.
    pub(crate) async fn preview(&self, plan: &Plan, report: &mut Report) -> Result<Preview> {
        let Prospect { project, observed, .. } = self;
        report.phase("compare");
        let mut preview = Preview { dirty: project.commit.dirty.clone(), ..Preview::default() };
        let live = observed.live_manifest();
        if let Some(live) = live {
            self.compare_settings(live, &mut preview);
            if plan.changes.contains(&Change::Code) {
                let from = Commit { sha: live.git_sha.clone(), subject: live.git_subject.clone() };
                preview.history = Some(project.commit.since(&self.here.root, from)?);
            }
        }
        // What was served, if anything was; nothing where that is not known.
        let mut old = live.is_none().then(dagster::Definitions::default);
        if observed.platform_runs() {
            match self.ask().await {
                Ok((runs, served)) => {
                    preview.runs = runs;
                    old = old.or(served);
                }
                Err(failure) => {
                    preview.unknown.push(format!("Dagster does not answer: {:#}", failure.error));
                }
            }
        }
        let concerns =
            |it: &Change| matches!(it, Change::First | Change::Code | Change::CodeSettings);
        if plan.changes.iter().any(concerns) {
            match self.import(report).await {
                Ok(Imported::Loaded(new)) => {
                    if let Some(old) = old {
                        let (old, new) = (imported::definitions(&old), imported::definitions(&new));
                        preview.definitions = definitions_changed(&old, &new);
                    }
                }
                Ok(Imported::Broken(traceback)) => preview.broken = Some(traceback),
                Err(failure) => {
                    preview.unknown.push(format!("what the code defines: {:#}", failure.error));
                }
            }
        }
        report.end("");
        Ok(preview)
    }

    fn compare_settings(&self, live: &Manifest, preview: &mut Preview) {
        let Some(old) = &self.observed.made_of else {
            let id = &live.id;
            let why = format!("which settings changed: {id} does not tell what it was made of");
            preview.unknown.push(why);
            return;
        };
        // Salted as the old one is, or equal secrets would differ.
        let new = self.project.made_of(&live.id, self.session.settings);
        preview.settings = old.settings_changed(&new);
        preview.files = old.files_changed(&new);
    }

    /// The runs that wait or work, and what is served, if something is.
    async fn ask(&self) -> Result<(Vec<release::LiveRun>, Option<dagster::Definitions>)> {
        let dagster = self.session.dagster(self.observed)?;
        let runs = runs::live_runs(self.session, self.observed, &dagster).await?;
        let served = match self.observed.live {
            Some(_) => Some(dagster.definitions(self.session.location.as_str()).await?),
            None => None,
        };
        Ok((runs, served))
    }

    /// Imports the code on its libraries, which a deploy would need as well. Code that is promoted
    /// is known by who serves it.
    async fn import(&self, report: &mut Report) -> Result<Imported> {
        if let Some(promotion) = self.promotion {
            return Ok(Imported::Loaded(promotion.definitions().await?));
        }
        let libraries = self.workshop.base(report).await?.image;
        report.phase("import");
        let engine = Engine::local().await?;
        if engine.image(&libraries).await?.is_none() {
            let login = self.workshop.login;
            engine.pull(&libraries, login, &mut |it| report.now(&it.to_string())).await?;
        }
        let Session { settings, location, .. } = self.session;
        imported::import(&self.project.root, settings, location, &libraries)
    }
}
