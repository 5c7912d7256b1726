//! Finds out what a deploy would change, for a reader to decide on. Changes nothing anywhere.

use release::{Change, Commit, Observed, Plan, Preview};

use crate::{environment::Here, exit::Result, project::Project, session::Session};

/// What a plan would change.
pub(crate) fn preview(
    here: &Here,
    session: &Session<'_>,
    project: &Project,
    observed: &Observed,
    plan: &Plan,
) -> Result<Preview> {
    let mut preview = Preview { dirty: project.commit.dirty.clone(), ..Preview::default() };
    let Some(live) = observed.live_manifest() else { return Ok(preview) };
    if plan.changes.contains(&Change::Code) {
        let from = Commit { sha: live.git_sha.clone(), subject: live.git_subject.clone() };
        preview.history = Some(project.commit.since(&here.root, from)?);
    }
    match &observed.made_of {
        Some(old) => {
            // Salted as the old one is, or equal secrets would differ.
            let new = project.made_of(&live.id, session.settings);
            preview.settings = old.settings_changed(&new);
            preview.files = old.files_changed(&new);
        }
        None => preview.unknown.push(format!(
            "which settings changed: {} was made by a version that did not write them down",
            live.id
        )),
    }
    Ok(preview)
}
