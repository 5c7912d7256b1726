//! A backup of an environment's databases, and whether a copy is what was copied.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Refusal, ReleaseId};

/// `manifest.json` of a backup: what is in the archive beside it. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// How the archive is made up; [`Archive::FORMAT`].
    pub format: u32,
    /// The environment it is of.
    pub environment: String,
    /// The release that served then.
    pub release: Option<ReleaseId>,
    /// When it was made, RFC 3339, UTC.
    pub at: String,
    /// Who made it, from where.
    pub by: String,
    /// The major version of the Postgres it was taken from.
    pub postgres: u32,
    /// The databases.
    pub databases: Vec<Database>,
}

/// One database of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// What it is for: its name may differ from environment to environment.
    pub purpose: Purpose,
    /// Its name.
    pub name: String,
    /// The size of its dump, in bytes.
    pub bytes: u64,
    /// The SHA-256 of its dump, in hexadecimal.
    pub sha256: String,
    /// Its tables by `schema.name`, as they were at the moment of the dump.
    pub tables: BTreeMap<String, Table>,
}

/// What is for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Dagster's runs and events.
    Dagster,
    /// What the assets are written to.
    Warehouse,
}

/// The content of a table, for comparing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// How many rows it has.
    pub rows: u64,
    /// A sum over the hashes of its rows, whatever their order.
    pub checksum: String,
}

/// What the host told while it dumped or restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dumped {
    /// `SHOW server_version_num`: `150014`.
    pub postgres: u32,
    /// By name of the database: its dump's size in bytes and SHA-256.
    pub files: BTreeMap<String, (u64, String)>,
    /// The tables that were dumped, by name of the database.
    pub tables: BTreeMap<String, BTreeMap<String, Table>>,
    /// The tables of the copy that was made of the dump.
    pub copies: BTreeMap<String, BTreeMap<String, Table>>,
}

/// A line of the host's that was not understood.
#[derive(Debug, thiserror::Error)]
#[error("the host's answer was not understood at: {0}")]
pub struct ParseDumpedError(String);

impl Archive {
    /// The one this program writes and reads.
    pub const FORMAT: u32 = 1;

    /// The name of the manifest in the archive; it comes first.
    pub const MANIFEST: &str = "manifest.json";

    /// Why it cannot be restored into an environment, if it cannot.
    ///
    /// `postgres` is the major version of the Postgres there.
    pub fn refusal(
        &self,
        environment: &str,
        postgres: u32,
        any_environment: bool,
    ) -> Option<Refusal> {
        if self.format != Archive::FORMAT {
            return Some(Refusal::Format { format: self.format });
        }
        if self.environment != environment && !any_environment {
            return Some(Refusal::Environment {
                of: self.environment.clone(),
                into: environment.to_owned(),
            });
        }
        (self.postgres > postgres)
            .then_some(Refusal::NewerPostgres { archive: self.postgres, host: postgres })
    }
}

impl Database {
    /// The name of its dump in the archive.
    pub fn file(&self) -> String {
        Database::file_of(&self.name)
    }

    /// The name of a database's dump.
    pub fn file_of(name: &str) -> String {
        format!("{name}.dump")
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|it| it.rows).sum()
    }
}

impl Dumped {
    /// Reads what `dump.sh` and `stage.sh` print: one fact a line, its words divided by tabs.
    pub fn parse(answer: &str) -> Result<Dumped, ParseDumpedError> {
        let mut dumped = Dumped::default();
        for line in answer.lines() {
            dumped.fact(line).ok_or_else(|| ParseDumpedError(line.to_owned()))?;
        }
        Ok(dumped)
    }

    fn fact(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["postgres", version] => self.postgres = version.parse().ok()?,
            ["dump", database, bytes, sha256] => {
                let file = (bytes.parse().ok()?, sha256.to_owned());
                self.files.insert(database.to_owned(), file);
            }
            [kind @ ("table" | "copy"), database, table, rows, checksum] => {
                let all = if kind == "copy" { &mut self.copies } else { &mut self.tables };
                let content = Table { rows: rows.parse().ok()?, checksum: checksum.to_owned() };
                all.entry(database.to_owned()).or_default().insert(table.to_owned(), content);
            }
            _ => return None,
        }
        Some(())
    }

    /// The databases that were dumped, of those asked for.
    pub fn databases(&self, asked: &[(Purpose, &str)]) -> Vec<Database> {
        let dumped = asked.iter().filter_map(|(purpose, name)| {
            let (bytes, sha256) = self.files.get(*name)?.clone();
            let tables = self.tables.get(*name).cloned().unwrap_or_default();
            Some(Database { purpose: *purpose, name: (*name).to_owned(), bytes, sha256, tables })
        });
        dumped.collect()
    }
}

/// Where the content of two databases differs: one line a table. Empty if it does not.
pub fn differences(
    expected: &BTreeMap<String, Table>,
    found: &BTreeMap<String, Table>,
) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differing =
        all.into_iter().filter_map(|name| match (expected.get(name), found.get(name)) {
            (Some(_), None) => Some(format!("`{name}` is missing")),
            (None, Some(_)) => Some(format!("`{name}` should not be there")),
            (Some(expected), Some(found)) if expected.rows != found.rows => {
                Some(format!("`{name}` has {} rows instead of {}", found.rows, expected.rows))
            }
            (Some(expected), Some(found)) if expected != found => {
                Some(format!("`{name}` has other content in its {} rows", found.rows))
            }
            _ => None,
        });
    differing.collect()
}

/// The renames by which a restored database takes the place of the one that serves, if there is
/// one: from and to, in order. They are taken back by the same, from the last to the first.
pub fn exchange(name: &str, there: bool) -> Vec<(String, String)> {
    let aside = there.then(|| (name.to_owned(), replaced(name)));
    aside.into_iter().chain([(restored(name), name.to_owned())]).collect()
}

/// Takes renames back.
pub fn inverse(renames: &[(String, String)]) -> Vec<(String, String)> {
    renames.iter().rev().map(|(from, to)| (to.clone(), from.clone())).collect()
}

/// What a database is called that was restored beside the one that serves.
pub fn restored(name: &str) -> String {
    format!("{name}_restored")
}

/// What a database is called that another took the place of.
pub fn replaced(name: &str) -> String {
    format!("{name}_replaced")
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, by {}", self.environment, self.at, self.by)?;
        for it in &self.databases {
            write!(f, "\n  `{}`: {} tables, {} rows", it.name, it.tables.len(), it.rows())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const ANSWER: &str = "postgres\t150014\n\
        dump\tdagster\t4096\tabc\n\
        table\tdagster\tpublic.runs\t3\t17\n\
        table\tdagster\tpublic.kvs\t0\t0\n\
        copy\tdagster\tpublic.runs\t3\t17\n\
        copy\tdagster\tpublic.kvs\t0\t0\n";

    fn archive() -> Archive {
        let dumped = Dumped::parse(ANSWER).unwrap();
        Archive {
            format: Archive::FORMAT,
            environment: "prod".into(),
            release: Some("20261123-142233-abc1234".parse().unwrap()),
            at: "2026-11-23T14:22:33Z".into(),
            by: "ana@laptop".into(),
            postgres: dumped.postgres / 10_000,
            databases: dumped
                .databases(&[(Purpose::Dagster, "dagster"), (Purpose::Warehouse, "warehouse")]),
        }
    }

    #[test]
    fn a_database_that_was_not_there_is_not_in_the_archive() {
        expect![[r#"{"format":1,"environment":"prod","release":"20261123-142233-abc1234","at":"2026-11-23T14:22:33Z","by":"ana@laptop","postgres":15,"databases":[{"purpose":"dagster","name":"dagster","bytes":4096,"sha256":"abc","tables":{"public.kvs":{"rows":0,"checksum":"0"},"public.runs":{"rows":3,"checksum":"17"}}}]}"#]]
        .assert_eq(&serde_json::to_string(&archive()).unwrap());
    }

    #[test]
    fn an_answer_that_is_not_understood_is_named() {
        let error = Dumped::parse("postgres\t150014\npg_dump: no space left\n").unwrap_err();
        expect!["the host's answer was not understood at: pg_dump: no space left"]
            .assert_eq(&error.to_string());
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut BTreeMap<String, Table>), expected: &Expect) {
        let dumped = Dumped::parse(ANSWER).unwrap();
        let mut copy = dumped.copies["dagster"].clone();
        change(&mut copy);
        expected.assert_eq(&differences(&dumped.tables["dagster"], &copy).join("\n"));
    }

    #[test]
    fn a_copy_differs_when_a_table_a_row_or_a_value_does() {
        let table = |rows, checksum: &str| Table { rows, checksum: checksum.into() };
        check(|_| (), &expect![""]);
        check(
            |it| {
                it.remove("public.kvs");
                it.insert("public.runs".into(), table(2, "11"));
                it.insert("public.other".into(), table(0, "0"));
            },
            &expect![[r#"
                `public.kvs` is missing
                `public.other` should not be there
                `public.runs` has 2 rows instead of 3"#]],
        );
        check(
            |it| drop(it.insert("public.runs".into(), table(3, "18"))),
            &expect!["`public.runs` has other content in its 3 rows"],
        );
    }

    #[test]
    fn databases_change_places_and_change_back() {
        let check = |renames: &[(String, String)], expected: Expect| {
            let lines: Vec<String> =
                renames.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
            expected.assert_eq(&lines.join("\n"));
        };
        let there = exchange("dagster", true);
        check(
            &there,
            expect![[r#"
            dagster -> dagster_replaced
            dagster_restored -> dagster"#]],
        );
        check(
            &inverse(&there),
            expect![[r#"
            dagster -> dagster_restored
            dagster_replaced -> dagster"#]],
        );
        check(&exchange("warehouse", false), expect!["warehouse_restored -> warehouse"]);
    }

    #[test]
    fn an_archive_is_refused_where_it_does_not_belong() {
        let check = |environment: &str, postgres, any, expected: &Expect| {
            let refusal = archive().refusal(environment, postgres, any);
            let text = refusal.map(|it| format!("{it}\nhint: {}", it.hint()));
            expected.assert_eq(&text.unwrap_or_default());
        };
        check("prod", 15, false, &expect![""]);
        check("prod", 17, false, &expect![""]);
        check("staging", 15, true, &expect![""]);
        check(
            "staging",
            15,
            false,
            &expect![[r#"
            the archive is of `prod`, not of `staging`
            hint: give --from-other-environment if that is what you want"#]],
        );
        check(
            "prod",
            14,
            false,
            &expect![[r#"
            the archive is of Postgres 15, the host has Postgres 14
            hint: restore it where DEPLOY_POSTGRES_IMAGE is at least as new"#]],
        );
    }
}
