//! What a deploy would change, for a reader: the part of a plan that decides nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Age, DefinitionChange, Fate, Kind, SettingChange, Worker};

/// Of a long list only so many are shown.
const SHOWN: usize = 20;

/// What a deploy would change. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Preview {
    /// Where the code stands against the code that serves; nothing if none does.
    pub history: Option<History>,
    /// Files that would be released as no commit holds them.
    pub dirty: Vec<String>,
    /// Settings.
    pub settings: Vec<SettingChange>,
    /// Files of the platform and of Compose.
    pub files: Vec<String>,
    /// Migrations that the warehouse lacks.
    #[serde(default)]
    pub migrations: Vec<String>,
    /// Why the new code does not load: its traceback.
    pub broken: Option<String>,
    /// Jobs, assets, schedules, sensors.
    pub definitions: Vec<DefinitionChange>,
    /// Runs that wait or work now.
    pub runs: Vec<LiveRun>,
    /// What could not be compared, and why, as sentences.
    pub unknown: Vec<String>,
}

/// The commits between the code that serves and the code at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// The code at hand came after what serves.
    Ahead {
        /// What serves.
        from: Commit,
        /// What came since, newest first.
        gained: Vec<Commit>,
    },
    /// What serves has commits that the code at hand has not.
    Apart {
        /// What serves.
        from: Commit,
        /// What the code at hand has alone, newest first.
        gained: Vec<Commit>,
        /// What would be taken back, newest first.
        lost: Vec<Commit>,
    },
    /// This checkout does not know the commit of what serves.
    Unknown {
        /// What serves.
        from: Commit,
    },
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its name.
    pub sha: String,
    /// Its first line.
    pub subject: String,
}

/// A run that waits or works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRun {
    /// Its id.
    pub id: String,
    /// Its job.
    pub job: String,
    /// The assets it makes, if it makes some of many; with `/` between a key's parts.
    pub assets: Vec<String>,
    /// Dagster's word: `QUEUED`, `STARTED`, …
    pub status: String,
    /// How long ago it started, or was asked for if it has not.
    pub seconds: u64,
    /// The backfill it is part of.
    pub backfill: Option<String>,
    /// Where it works.
    pub worker: Worker,
}

impl Preview {
    /// The runs that a definition's removal would end: they wait, and their code will be gone when
    /// their turn comes; or they are part of a backfill that asks for more of them.
    pub fn runs_without(&self, removed: &DefinitionChange) -> Vec<&LiveRun> {
        if removed.change != Fate::Removed {
            return Vec::new();
        }
        let name = &removed.name;
        let needs = |run: &&LiveRun| match removed.kind {
            Kind::Job => &run.job == name,
            Kind::Asset => run.assets.contains(name),
            Kind::Schedule | Kind::Sensor => false,
        };
        let at_risk = |run: &&LiveRun| run.worker == Worker::None || run.backfill.is_some();
        self.runs.iter().filter(needs).filter(at_risk).collect()
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sha.get(..7).unwrap_or(&self.sha), self.subject)
    }
}

impl fmt::Display for LiveRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LiveRun { id, job, status, seconds, backfill, worker, .. } = self;
        let id = id.get(..8).unwrap_or(id);
        write!(f, "{id} {job} {status} for {}", Age(*seconds))?;
        if let Some(backfill) = backfill {
            write!(f, ", of the backfill {backfill}")?;
        }
        match worker {
            Worker::None => Ok(()),
            Worker::In { container } => write!(f, ", in {container}"),
            Worker::Gone { why } => write!(f, ", a zombie: {why}"),
            Worker::Unknown => f.write_str(", somewhere unknown"),
        }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(history) = &self.history {
            history.fmt(f)?;
        }
        section(f, "in no commit:", &self.dirty)?;
        section(f, "settings:", &self.settings)?;
        section(f, "files that changed:", &self.files)?;
        section(f, "migrations that the warehouse lacks:", &self.migrations)?;
        if let Some(traceback) = &self.broken {
            writeln!(f, "the new code does not load:")?;
            traceback.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        if !self.definitions.is_empty() {
            writeln!(f, "definitions:")?;
            for change in &self.definitions {
                writeln!(f, "  {change}")?;
                for run in self.runs_without(change) {
                    writeln!(f, "      ! needed by the run {run}")?;
                }
            }
        }
        section(f, "runs that wait or work:", &self.runs)?;
        section(f, "not known:", &self.unknown)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            History::Ahead { gained, .. } if gained.is_empty() => Ok(()),
            History::Ahead { from, gained } => {
                section(f, &format!("commits since {from}:"), gained)
            }
            History::Apart { from, gained, lost } => {
                writeln!(f, "what serves, {from}, is no ancestor of this code")?;
                section(f, "commits it has that would be taken back:", lost)?;
                section(f, "commits that would come:", gained)
            }
            History::Unknown { from } => {
                writeln!(f, "what serves, {from}, is a commit that this checkout does not know")
            }
        }
    }
}

/// A heading and its lines, if there are any.
fn section<T: fmt::Display>(f: &mut fmt::Formatter<'_>, heading: &str, lines: &[T]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "{heading}")?;
    for line in lines.iter().take(SHOWN) {
        writeln!(f, "  {line}")?;
    }
    match lines.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  … and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn commit(sha: &str, subject: &str) -> Commit {
        Commit { sha: sha.repeat(10), subject: subject.to_owned() }
    }

    fn run(id: &str, job: &str, status: &str, worker: Worker) -> LiveRun {
        LiveRun {
            id: format!("{id}-0000-4000-8000-000000000000"),
            job: job.to_owned(),
            assets: Vec::new(),
            status: status.to_owned(),
            seconds: 200,
            backfill: None,
            worker,
        }
    }

    fn removed(kind: Kind, name: &str) -> DefinitionChange {
        let (name, change) = (name.to_owned(), Fate::Removed);
        DefinitionChange { kind, name, change, starts_by_itself: false }
    }

    #[track_caller]
    fn check(preview: &Preview, expected: &Expect) {
        expected.assert_eq(&preview.to_string());
        let json = serde_json::to_string(preview).unwrap();
        assert_eq!(&serde_json::from_str::<Preview>(&json).unwrap(), preview);
    }

    #[test]
    fn a_preview_without_changes_has_no_words() {
        check(&Preview::default(), &expect![""]);
    }

    #[test]
    fn a_change_is_told_with_the_runs_it_would_end() {
        let container = "docker_dagster_core-20261101-000000-aaaaaaa".to_owned();
        let asset_run = LiveRun {
            assets: vec!["mart/zones".to_owned()],
            ..run("2222eeee", "__ASSET_JOB", "QUEUED", Worker::None)
        };
        let backfill = LiveRun {
            backfill: Some("abcdefgh".to_owned()),
            ..run("3333ffff", "wait_job", "STARTED", Worker::In { container: container.clone() })
        };
        let gone = "its code server is no more".to_owned();
        let preview = Preview {
            history: Some(History::Ahead {
                from: commit("aaaa", "First"),
                gained: vec![commit("cccc", "Drop the wait job"), commit("bbbb", "Add an asset")],
            }),
            dirty: vec!["dagster_core/assets.py".to_owned()],
            settings: vec![SettingChange::Removed { key: "OLD_KEY".to_owned() }],
            files: vec!["compose/dagster.yaml".to_owned()],
            migrations: vec!["0002_add_offsets".to_owned()],
            broken: None,
            definitions: vec![removed(Kind::Job, "wait_job"), removed(Kind::Asset, "mart/zones")],
            runs: vec![
                run("1111dddd", "wait_job", "QUEUED", Worker::None),
                asset_run,
                backfill,
                run("4444aaaa", "wait_job", "STARTED", Worker::In { container }),
                run("5555bbbb", "test_job", "STARTED", Worker::Gone { why: gone }),
                run("6666cccc", "test_job", "STARTED", Worker::Unknown),
            ],
            unknown: vec!["something was not compared".to_owned()],
        };
        check(
            &preview,
            &expect![[r#"
                commits since aaaaaaa First:
                  ccccccc Drop the wait job
                  bbbbbbb Add an asset
                in no commit:
                  dagster_core/assets.py
                settings:
                  - OLD_KEY
                files that changed:
                  compose/dagster.yaml
                migrations that the warehouse lacks:
                  0002_add_offsets
                definitions:
                  - job wait_job
                      ! needed by the run 1111dddd wait_job QUEUED for 3 min
                      ! needed by the run 3333ffff wait_job STARTED for 3 min, of the backfill abcdefgh, in docker_dagster_core-20261101-000000-aaaaaaa
                  - asset mart/zones
                      ! needed by the run 2222eeee __ASSET_JOB QUEUED for 3 min
                runs that wait or work:
                  1111dddd wait_job QUEUED for 3 min
                  2222eeee __ASSET_JOB QUEUED for 3 min
                  3333ffff wait_job STARTED for 3 min, of the backfill abcdefgh, in docker_dagster_core-20261101-000000-aaaaaaa
                  4444aaaa wait_job STARTED for 3 min, in docker_dagster_core-20261101-000000-aaaaaaa
                  5555bbbb test_job STARTED for 3 min, a zombie: its code server is no more
                  6666cccc test_job STARTED for 3 min, somewhere unknown
                not known:
                  something was not compared
            "#]],
        );
    }

    #[test]
    fn code_that_would_take_commits_back_says_so() {
        let history = History::Apart {
            from: commit("aaaa", "Mend the import"),
            gained: vec![commit("bbbb", "Try something")],
            lost: vec![commit("aaaa", "Mend the import")],
        };
        check(
            &Preview { history: Some(history), ..Preview::default() },
            &expect![[r#"
            what serves, aaaaaaa Mend the import, is no ancestor of this code
            commits it has that would be taken back:
              aaaaaaa Mend the import
            commits that would come:
              bbbbbbb Try something
        "#]],
        );
        let history = History::Unknown { from: commit("aaaa", "Mend the import") };
        check(
            &Preview { history: Some(history), ..Preview::default() },
            &expect![[r#"
            what serves, aaaaaaa Mend the import, is a commit that this checkout does not know
        "#]],
        );
    }

    #[test]
    fn code_that_does_not_load_is_told_with_its_traceback() {
        let traceback = "Traceback (most recent call last):\n  File ...\nImportError: no\n";
        check(
            &Preview { broken: Some(traceback.to_owned()), ..Preview::default() },
            &expect![[r#"
                the new code does not load:
                  Traceback (most recent call last):
                    File ...
                  ImportError: no
            "#]],
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let gained = (1..=23).map(|n| commit("aaaa", &format!("Change {n}"))).collect();
        let history = History::Ahead { from: commit("bbbb", "First"), gained };
        let text = Preview { history: Some(history), ..Preview::default() }.to_string();
        assert!(text.ends_with("Change 20\n  … and 3 more\n"), "{text}");
    }
}
