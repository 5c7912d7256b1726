//! What a release is made of, in a form that can be compared and tells no secret.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use settings::{Settings, Value};

use crate::{Fingerprint, ReleaseId};

/// Settings and files of a release: `made-of.json` in its folder, for the next one to be compared
/// with. A secret is there as a fingerprint that is salted with the release, so that equal secrets
/// of two releases or two keys do not look alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeOf {
    settings: BTreeMap<String, Recorded>,
    files: BTreeMap<String, Fingerprint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Recorded {
    Plain(String),
    Secret(Fingerprint),
}

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
#[expect(missing_docs, reason = "they say it")]
pub enum SettingChange {
    Added { key: String, value: Shown },
    Removed { key: String },
    Changed { key: String, from: Shown, to: Shown },
}

/// A setting's value as it may be shown: a secret's is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shown(Option<String>);

impl MadeOf {
    /// Of the release `id`. `files` are paths in the checkout and their texts.
    pub fn new(id: &ReleaseId, settings: &Settings, files: &[(&str, &str)]) -> MadeOf {
        let of_containers = settings
            .containers
            .iter()
            .map(|(key, value)| (key.clone(), Recorded::of(id, key, value)));
        let deploy = &settings.deploy;
        let of_deployer = [
            ("DEPLOY_PYTHON_IMAGE", deploy.python_image.clone()),
            ("DEPLOY_POSTGRES_IMAGE", deploy.postgres_image.clone()),
            ("DEPLOY_UI_PORT", deploy.ui_port.to_string()),
            ("DEPLOY_CORE_MEMORY", deploy.core_memory.clone()),
            ("DEPLOY_POSTGRES_MEMORY", deploy.postgres_memory.clone()),
            ("DEPLOY_WEBSERVER_MEMORY", deploy.webserver_memory.clone()),
            ("DEPLOY_DAEMON_MEMORY", deploy.daemon_memory.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), Recorded::Plain(value)));
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Fingerprint::of([text.as_bytes()])));
        MadeOf { settings: of_containers.chain(of_deployer).collect(), files: files.collect() }
    }

    /// Whether a setting is a secret.
    pub(crate) fn is_secret(&self, key: &str) -> bool {
        matches!(self.settings.get(key), Some(Recorded::Secret(_)))
    }

    /// The value of a setting that is none.
    pub fn plain(&self, key: &str) -> Option<&str> {
        match self.settings.get(key)? {
            Recorded::Plain(text) => Some(text),
            Recorded::Secret(_) => None,
        }
    }

    /// Whether it, of the release `id`, has another value for a key; none if it has none.
    pub(crate) fn differs(&self, id: &ReleaseId, key: &str, value: &Value) -> Option<bool> {
        self.settings.get(key).map(|it| *it != Recorded::of(id, key, value))
    }

    /// The settings that differ in `new`, which is made for the same release: the salt must be one.
    pub fn settings_changed(&self, new: &MadeOf) -> Vec<SettingChange> {
        let keys: BTreeSet<&String> = self.settings.keys().chain(new.settings.keys()).collect();
        let changes = keys.into_iter().filter_map(|key| {
            let (from, to) = (self.settings.get(key), new.settings.get(key));
            let key = key.clone();
            match (from, to) {
                (Some(from), Some(to)) if from == to => None,
                (Some(from), Some(to)) => {
                    // What was secret once is not shown when its template forgets that it is.
                    let both = matches!((from, to), (Recorded::Plain(_), Recorded::Plain(_)));
                    let shown = |it: &Recorded| if both { it.shown() } else { Shown(None) };
                    Some(SettingChange::Changed { key, from: shown(from), to: shown(to) })
                }
                (None, Some(to)) => Some(SettingChange::Added { key, value: to.shown() }),
                (Some(_), None) => Some(SettingChange::Removed { key }),
                (None, None) => None,
            }
        });
        changes.collect()
    }

    /// The files that differ in `new`.
    pub fn files_changed(&self, new: &MadeOf) -> Vec<String> {
        let paths: BTreeSet<&String> = self.files.keys().chain(new.files.keys()).collect();
        let differs = |path: &&String| self.files.get(*path) != new.files.get(*path);
        paths.into_iter().filter(differs).cloned().collect()
    }
}

impl Recorded {
    fn of(id: &ReleaseId, key: &str, value: &Value) -> Recorded {
        if !value.sensitive {
            return Recorded::Plain(value.expose().to_owned());
        }
        Recorded::Secret(Fingerprint::of([id.as_str(), key, value.expose()].map(str::as_bytes)))
    }

    fn shown(&self) -> Shown {
        match self {
            Recorded::Plain(text) => Shown(Some(text.clone())),
            Recorded::Secret(_) => Shown(None),
        }
    }
}

impl std::fmt::Display for SettingChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SettingChange::Added { key, value: Shown(Some(value)) } => {
                write!(f, "+ {key} = {value:?}")
            }
            SettingChange::Added { key, value: Shown(None) } => write!(f, "+ {key}, a secret"),
            SettingChange::Removed { key } => write!(f, "- {key}"),
            SettingChange::Changed { key, from: Shown(Some(from)), to: Shown(Some(to)) } => {
                write!(f, "~ {key} = {from:?} -> {to:?}")
            }
            SettingChange::Changed { key, .. } => write!(f, "~ {key}, a secret, changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_of(settings: &[(&str, Recorded)]) -> MadeOf {
        let settings = settings.iter().map(|(key, it)| ((*key).to_owned(), it.clone())).collect();
        MadeOf { settings, files: BTreeMap::new() }
    }

    fn plain(text: &str) -> Recorded {
        Recorded::Plain(text.to_owned())
    }

    fn secret(text: &str) -> Recorded {
        Recorded::Secret(Fingerprint::of([text.as_bytes()]))
    }

    #[test]
    fn a_plain_setting_is_shown_and_a_secret_only_named() {
        let old = made_of(&[
            ("GONE", plain("1")),
            ("MOVED", plain("a b")),
            ("PASSWORD", secret("canary-one")),
            ("SAME", secret("x")),
            ("WAS_SECRET", secret("canary-two")),
        ]);
        let new = made_of(&[
            ("MOVED", plain("a\nb")),
            ("NEW", plain("")),
            ("NEW_SECRET", secret("canary-three")),
            ("PASSWORD", secret("canary-four")),
            ("SAME", secret("x")),
            ("WAS_SECRET", plain("canary-two")),
        ]);
        let lines: Vec<String> =
            old.settings_changed(&new).iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            - GONE
            ~ MOVED = "a b" -> "a\nb"
            + NEW = ""
            + NEW_SECRET, a secret
            ~ PASSWORD, a secret, changed
            ~ WAS_SECRET, a secret, changed"#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!(new.settings_changed(&new), []);
        assert_eq!((new.plain("MOVED"), new.plain("PASSWORD")), (Some("a\nb"), None));
    }

    #[test]
    fn a_file_that_came_went_or_changed_is_named() {
        let files = |files: &[(&str, &str)]| MadeOf {
            settings: BTreeMap::new(),
            files: files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), Fingerprint::of([text.as_bytes()])))
                .collect(),
        };
        let old = files(&[("a", "1"), ("b", "1"), ("c", "1")]);
        assert_eq!(
            old.files_changed(&files(&[("a", "1"), ("b", "2"), ("d", "1")])),
            ["b", "c", "d"]
        );
    }
}
