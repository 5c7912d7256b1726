//! What is written down of every verb that changes something, and who holds the lock.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Location, Manifest, Phase, Promoted, ReleaseId};

/// An entry of `audit.jsonl` on the host: one verb, who asked for it and what came of it. It holds
/// no secret. While the verb is at work it has no outcome yet, and stands in `lock.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `deploy`, `rollback`, `lock break`, …
    pub verb: String,
    /// Who, and on which machine: `ana@laptop`.
    pub by: String,
    /// When it began, RFC 3339, UTC, by that machine's clock.
    pub at: String,
    /// The address that the connection came from; the host adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Ended>,
    /// Why, unless it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The step it is at, or ended in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The code location it was about.
    #[serde(default)]
    pub location: Location,
    /// The release it made, or went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// The subject of the release's commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_subject: Option<String>,
    /// The digest of the code's image: `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the release was promoted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Promoted>,
    /// Whether code was let through that the environment that was to serve it first was not asked
    /// about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    /// How long it took, in seconds. One that was cut off is measured by the host from when it
    /// asked for the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// For how long the code was not served while it was switched, in seconds: the longest stretch
    /// of failed probes. None where nothing was probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// How long each phase took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// The reason that was given for it; of a rotation, the secret's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The token of the lock that was broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broke: Option<String>,
}

/// What came of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It did what was asked for.
    Done,
    /// What was asked for stood already.
    NothingToDo,
    /// It was refused, and nothing was changed.
    Refused,
    /// It failed and was undone.
    Undone,
    /// It failed, and what it had done by then stands.
    Failed,
    /// It never came to its end: its process or its connection died, or its lock was broken.
    CutOff,
}

impl Entry {
    /// A verb that begins.
    pub fn new(verb: &str, by: String, at: String) -> Entry {
        Entry {
            verb: verb.to_owned(),
            by,
            at,
            from: None,
            outcome: None,
            why: None,
            step: None,
            location: Location::default(),
            release: None,
            git_subject: None,
            digest: None,
            promoted: None,
            unproven: false,
            seconds: None,
            gap: None,
            phases: Vec::new(),
            reason: None,
            broke: None,
        }
    }

    /// Notes which release it is about.
    pub fn about(&mut self, release: &Manifest) {
        self.location = release.location.clone();
        self.release = Some(release.id.clone());
        self.git_subject = Some(release.git_subject.clone());
        self.promoted.clone_from(&release.promoted);
        self.digest = release.core_image.digest().map(ToString::to_string);
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("an entry is plain data")
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ended::Done => "done",
            Ended::NothingToDo => "nothing to do",
            Ended::Refused => "refused",
            Ended::Undone => "undone",
            Ended::Failed => "failed",
            Ended::CutOff => "cut off",
        })
    }
}

/// Who holds the lock: `lock.json` on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// What tells this holding from all others.
    pub token: String,
    /// The process on the host that holds it.
    pub pid: u32,
    /// What it does.
    #[serde(flatten)]
    pub entry: Entry,
}

impl Holder {
    /// Reads `lock.json`.
    pub fn parse(json: &str) -> Option<Holder> {
        serde_json::from_str(json).ok()
    }

    /// `deploy by ana@laptop (10.0.0.7) since 2026-11-23T14:22:33Z, at step start`.
    pub fn describe(&self) -> String {
        let Entry { verb, by, at, from, step, .. } = &self.entry;
        let from = from.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let step = step.as_ref().map(|it| format!(", at step {it}")).unwrap_or_default();
        format!("{verb} by {by}{from} since {at}{step}")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_holder_is_told_with_who_what_since_when_and_from_where() {
        let entry = Entry::new("deploy", "ana@laptop".into(), "2026-11-23T14:22:33Z".into());
        let entry = Entry { step: Some("start".into()), ..entry };
        let json = entry.json();
        expect![[r#"{"verb":"deploy","by":"ana@laptop","at":"2026-11-23T14:22:33Z","step":"start","location":"dagster_core"}"#]].assert_eq(&json);
        // As the host puts it together.
        let json = format!("{{\"token\":\"ab\",\"pid\":7,\"from\":\"10.0.0.7\",{}", &json[1..]);
        expect!["deploy by ana@laptop (10.0.0.7) since 2026-11-23T14:22:33Z, at step start"]
            .assert_eq(&Holder::parse(&json).unwrap().describe());
    }
}
