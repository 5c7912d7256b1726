//! What the code defines, before and after.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Something that the code defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What it is.
    pub kind: Kind,
    /// Its name; an asset's key, with `/` between the parts.
    pub name: String,
    /// Whether the code wants it on; only schedules and sensors can be.
    pub on_by_default: bool,
    /// What a reader wants to know of it, by name: `cron`, `starts`.
    pub traits: BTreeMap<&'static str, String>,
}

/// What can be defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Dagster's own words")]
pub enum Kind {
    Job,
    Asset,
    Schedule,
    Sensor,
}

/// A definition that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionChange {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Fate,
    /// Whether the new code turns it on, and the old one did not: it starts without anybody's doing.
    pub starts_by_itself: bool,
}

/// What became of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is new, with these traits.
    Added(Vec<String>),
    /// It is gone.
    Removed,
    /// These of its traits changed.
    Changed(Vec<String>),
}

/// What differs, by kind and name.
pub fn definitions_changed(old: &[Definition], new: &[Definition]) -> Vec<DefinitionChange> {
    let by_name = |all: &'_ [Definition]| -> BTreeMap<(Kind, String), Definition> {
        all.iter().map(|it| ((it.kind, it.name.clone()), it.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let mut changes = BTreeMap::new();
    for (key, it) in &new {
        let before = old.get(key);
        let starts_by_itself = it.on_by_default && before.is_none_or(|it| !it.on_by_default);
        let change = match before {
            None => {
                let traits = it.traits.iter().map(|(name, value)| format!("{name} {value}"));
                Fate::Added(traits.collect())
            }
            Some(before) => {
                let mut traits: Vec<String> = it
                    .traits
                    .iter()
                    .filter(|(name, value)| before.traits.get(*name) != Some(*value))
                    .map(|(name, value)| {
                        let before = before.traits.get(name).map_or("none", String::as_str);
                        format!("{name} {before} -> {value}")
                    })
                    .collect();
                if before.on_by_default != it.on_by_default {
                    traits.push(format!(
                        "{} by default",
                        if it.on_by_default { "on" } else { "off" }
                    ));
                }
                if traits.is_empty() {
                    continue;
                }
                Fate::Changed(traits)
            }
        };
        changes.insert(key.clone(), (change, starts_by_itself));
    }
    for key in old.keys().filter(|it| !new.contains_key(*it)) {
        changes.insert(key.clone(), (Fate::Removed, false));
    }
    changes
        .into_iter()
        .map(|((kind, name), (change, starts_by_itself))| DefinitionChange {
            kind,
            name,
            change,
            starts_by_itself,
        })
        .collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Job => "job",
            Kind::Asset => "asset",
            Kind::Schedule => "schedule",
            Kind::Sensor => "sensor",
        })
    }
}

impl fmt::Display for DefinitionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DefinitionChange { kind, name, change, starts_by_itself } = self;
        let (sign, traits): (_, &[String]) = match change {
            Fate::Added(traits) => ("+", traits),
            Fate::Removed => ("-", &[]),
            Fate::Changed(traits) => ("~", traits),
        };
        write!(f, "{sign} {kind} {name}")?;
        if !traits.is_empty() {
            write!(f, ": {}", traits.join(", "))?;
        }
        if *starts_by_itself { f.write_str("; it starts by itself") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(kind: Kind, name: &str, on: bool, traits: &[(&'static str, &str)]) -> Definition {
        Definition {
            kind,
            name: name.to_owned(),
            on_by_default: on,
            traits: traits.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn what_came_went_or_changed_is_told_and_what_starts_by_itself() {
        use Kind::{Asset, Job, Schedule, Sensor};
        let nightly = [("cron", "30 2 * * * (UTC)"), ("starts", "refresh")];
        let old = [
            definition(Job, "refresh", false, &[]),
            definition(Job, "wait_job", false, &[]),
            definition(Schedule, "nightly", false, &nightly),
            definition(Schedule, "weekly", false, &nightly),
            definition(Sensor, "tables", true, &[("every", "5 min")]),
        ];
        let new = [
            definition(Asset, "mart/zones", false, &[]),
            definition(Job, "refresh", false, &[]),
            definition(Schedule, "hourly", true, &[("cron", "0 * * * *"), ("starts", "refresh")]),
            definition(Schedule, "nightly", true, &nightly),
            definition(
                Schedule,
                "weekly",
                false,
                &[("cron", "0 3 * * 0 (UTC)"), ("starts", "refresh")],
            ),
            definition(Sensor, "tables", true, &[("every", "1 min")]),
        ];
        let lines: Vec<String> =
            definitions_changed(&old, &new).iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            - job wait_job
            + asset mart/zones
            + schedule hourly: cron 0 * * * *, starts refresh; it starts by itself
            ~ schedule nightly: on by default; it starts by itself
            ~ schedule weekly: cron 30 2 * * * (UTC) -> 0 3 * * 0 (UTC)
            ~ sensor tables: every 5 min -> 1 min"#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!(definitions_changed(&new, &new), []);
    }
}
