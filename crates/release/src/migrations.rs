//! The migrations of the warehouse: which there are, which are applied, and what follows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where they are, in the checkout.
pub const MIGRATIONS: &str = "dagster_core/migrations";

/// A migration: a file of [`MIGRATIONS`], or one that the warehouse has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Migration {
    /// What they are ordered by.
    pub version: i64,
    /// The file's name without its ending: `0001_time_zones`.
    pub name: String,
    /// The beginning of its text's SHA-384, in hexadecimal.
    pub checksum: String,
}

/// Why a file of [`MIGRATIONS`] is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "their messages say it")]
pub enum NoMigration {
    #[error("`{MIGRATIONS}/{file}` is not named as a migration is")]
    Name { file: String },
    #[error("`{MIGRATIONS}/{file}` has the number of `{other}`")]
    Twice { file: String, other: String },
    #[error("`{MIGRATIONS}/{file}` asks to run outside of a transaction")]
    NoTransaction { file: String },
}

/// How a migration stands in a warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It was applied as it is.
    Applied,
    /// It was not applied yet.
    Pending,
    /// It was applied, with another text.
    Changed,
    /// It was applied, and is not among the files.
    Unknown,
}

/// How the files and a warehouse stand to each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Alignment {
    /// All that there are on either side, in order.
    pub migrations: Vec<(Migration, Standing)>,
    /// Whether the warehouse has yet to be made: there is nothing in it that could be harmed.
    pub fresh: bool,
}

/// Why migrations are not applied, or code is not deployed with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "their messages say it")]
pub enum Misaligned {
    #[error("{} changed after the warehouse of `{environment}` got it", list(.migrations))]
    Changed { environment: String, migrations: Vec<String> },
    #[error("the warehouse of `{environment}` has {}, which is not in this checkout", list(.migrations))]
    Unknown { environment: String, migrations: Vec<String> },
    #[error("the warehouse of `{environment}` lacks {}, which this code comes with", list(.migrations))]
    Pending { environment: String, migrations: Vec<String> },
}

impl Migration {
    /// Reads a file's name: a number and words. Answers both.
    pub fn parse(file: &str) -> Result<(i64, &str), NoMigration> {
        let no_name = || NoMigration::Name { file: file.to_owned() };
        let name = file.strip_suffix(".sql").ok_or_else(no_name)?;
        let (number, words) = name.split_once('_').ok_or_else(no_name)?;
        let plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
        if words.is_empty() || !words.chars().all(plain) {
            return Err(no_name());
        }
        let digits = number.chars().all(|it| it.is_ascii_digit());
        let version = number.parse().ok().filter(|it| digits && *it > 0).ok_or_else(no_name)?;
        Ok((version, words))
    }

    /// One that the warehouse tells of, by number and words.
    pub fn told(version: i64, description: &str, checksum: String) -> Migration {
        let name = format!("{version:04}_{}", description.replace(' ', "_"));
        Migration { version, name, checksum }
    }
}

impl NoMigration {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            NoMigration::Name { .. } => {
                "a number, and in small letters what it does: 0002_add_offsets.sql"
            }
            NoMigration::Twice { .. } => "give the newer one the next free number",
            NoMigration::NoTransaction { .. } => {
                "each is applied whole or not at all: take its `no-transaction` away, and what cannot \
                 be part of a transaction out"
            }
        }
    }
}

impl Alignment {
    /// Compares files with what a warehouse has; nothing, if there is none yet.
    pub fn new(files: &[Migration], applied: Option<&[Migration]>) -> Alignment {
        let fresh = applied.is_none();
        let applied = applied.unwrap_or_default();
        let standing = |file: &Migration| match applied.iter().find(|it| it.version == file.version)
        {
            None => Standing::Pending,
            Some(it) if it.checksum == file.checksum => Standing::Applied,
            Some(_) => Standing::Changed,
        };
        let mut migrations: Vec<_> = files.iter().map(|it| (it.clone(), standing(it))).collect();
        let unknown =
            applied.iter().filter(|it| files.iter().all(|file| file.version != it.version));
        migrations.extend(unknown.map(|it| (it.clone(), Standing::Unknown)));
        migrations.sort_by_key(|it| it.0.version);
        Alignment { migrations, fresh }
    }

    /// The migrations that stand so.
    pub fn that_are(&self, standing: Standing) -> Vec<&Migration> {
        self.migrations.iter().filter(|it| it.1 == standing).map(|it| &it.0).collect()
    }

    /// What the warehouse has.
    pub fn applied(&self) -> Vec<Migration> {
        let has = self.migrations.iter().filter(|it| it.1 != Standing::Pending);
        has.map(|it| it.0.clone()).collect()
    }

    /// Why the pending migrations cannot be applied, if they cannot.
    pub fn refuses_to_apply(&self, environment: &str) -> Option<Misaligned> {
        let (environment, names) = (environment.to_owned(), |it| names(&self.that_are(it)));
        let (changed, unknown) = (names(Standing::Changed), names(Standing::Unknown));
        if !changed.is_empty() {
            return Some(Misaligned::Changed { environment, migrations: changed });
        }
        // They may build on what this checkout does not know.
        let applies = !names(Standing::Pending).is_empty();
        (applies && !unknown.is_empty())
            .then_some(Misaligned::Unknown { environment, migrations: unknown })
    }

    /// Why code with these migrations is not deployed, if it is not. `asked`: whether it was asked
    /// to apply them on the way. A warehouse that is yet to be made is made without being asked.
    ///
    /// That the warehouse is ahead of the code is no hindrance: code that served before is there too.
    pub fn refuses_to_deploy(&self, environment: &str, asked: bool) -> Option<Misaligned> {
        let pending = names(&self.that_are(Standing::Pending));
        if pending.is_empty() || asked || self.fresh {
            return self.refuses_to_apply(environment);
        }
        let changed = names(&self.that_are(Standing::Changed));
        let environment = environment.to_owned();
        Some(if changed.is_empty() {
            Misaligned::Pending { environment, migrations: pending }
        } else {
            Misaligned::Changed { environment, migrations: changed }
        })
    }
}

impl Misaligned {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Misaligned::Changed { .. } => {
                "what was applied stays as it is: take the change back, and write it as a new \
                 migration"
                    .to_owned()
            }
            Misaligned::Unknown { .. } => {
                "take in the commits that brought it, then try again".to_owned()
            }
            Misaligned::Pending { environment, .. } => format!(
                "apply it on the way: cargo xtask deploy {environment} --migrate\n\
                 or look first: cargo xtask schema status {environment}"
            ),
        }
    }
}

/// The names of migrations.
pub fn names<'a>(migrations: impl IntoIterator<Item = &'a &'a Migration>) -> Vec<String> {
    migrations.into_iter().map(|it| it.name.clone()).collect()
}

/// Names in a sentence.
pub(crate) fn list(names: &[String]) -> String {
    names.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Applied => "applied",
            Standing::Pending => "pending",
            Standing::Changed => "changed after it was applied",
            Standing::Unknown => "applied, and not in this checkout",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    pub(crate) fn migration(version: i64, checksum: &str) -> Migration {
        Migration { version, name: format!("{version:04}_step"), checksum: checksum.to_owned() }
    }

    /// Two files, against what the warehouse has.
    #[track_caller]
    fn check(applied: Option<&[(i64, &str)]>, expected: &Expect) {
        let files = [migration(1, "a"), migration(2, "b")];
        let applied: Option<Vec<Migration>> =
            applied.map(|it| it.iter().map(|it| migration(it.0, it.1)).collect());
        let alignment = Alignment::new(&files, applied.as_deref());
        let mut text = String::new();
        for (it, standing) in &alignment.migrations {
            text += &format!("{} {standing}\n", it.name);
        }
        let tell = |why: Option<Misaligned>| {
            why.map_or_else(|| "yes".to_owned(), |it| format!("{it}\nhint: {}", it.hint()))
        };
        text += &format!("apply: {}\n", tell(alignment.refuses_to_apply("prod")));
        text += &format!("deploy: {}\n", tell(alignment.refuses_to_deploy("prod", false)));
        text += &format!("deploy --migrate: {}", tell(alignment.refuses_to_deploy("prod", true)));
        expected.assert_eq(&text);
    }

    #[test]
    fn a_warehouse_that_is_level_lets_everything_pass() {
        check(
            Some(&[(1, "a"), (2, "b")]),
            &expect![[r#"
            0001_step applied
            0002_step applied
            apply: yes
            deploy: yes
            deploy --migrate: yes"#]],
        );
    }

    #[test]
    fn code_does_not_go_ahead_of_its_migrations_unless_asked_to_take_them_along() {
        check(
            Some(&[(1, "a")]),
            &expect![[r#"
            0001_step applied
            0002_step pending
            apply: yes
            deploy: the warehouse of `prod` lacks `0002_step`, which this code comes with
            hint: apply it on the way: cargo xtask deploy prod --migrate
            or look first: cargo xtask schema status prod
            deploy --migrate: yes"#]],
        );
        check(
            Some(&[]),
            &expect![[r#"
            0001_step pending
            0002_step pending
            apply: yes
            deploy: the warehouse of `prod` lacks `0001_step`, `0002_step`, which this code comes with
            hint: apply it on the way: cargo xtask deploy prod --migrate
            or look first: cargo xtask schema status prod
            deploy --migrate: yes"#]],
        );
    }

    #[test]
    fn a_warehouse_that_is_yet_to_be_made_is_made_without_being_asked() {
        check(
            None,
            &expect![[r#"
            0001_step pending
            0002_step pending
            apply: yes
            deploy: yes
            deploy --migrate: yes"#]],
        );
    }

    #[test]
    fn a_migration_that_changed_after_it_was_applied_is_refused() {
        check(
            Some(&[(1, "z"), (2, "b")]),
            &expect![[r#"
            0001_step changed after it was applied
            0002_step applied
            apply: `0001_step` changed after the warehouse of `prod` got it
            hint: what was applied stays as it is: take the change back, and write it as a new migration
            deploy: `0001_step` changed after the warehouse of `prod` got it
            hint: what was applied stays as it is: take the change back, and write it as a new migration
            deploy --migrate: `0001_step` changed after the warehouse of `prod` got it
            hint: what was applied stays as it is: take the change back, and write it as a new migration"#]],
        );
        check(
            Some(&[(1, "z")]),
            &expect![[r#"
            0001_step changed after it was applied
            0002_step pending
            apply: `0001_step` changed after the warehouse of `prod` got it
            hint: what was applied stays as it is: take the change back, and write it as a new migration
            deploy: `0001_step` changed after the warehouse of `prod` got it
            hint: what was applied stays as it is: take the change back, and write it as a new migration
            deploy --migrate: `0001_step` changed after the warehouse of `prod` got it
            hint: what was applied stays as it is: take the change back, and write it as a new migration"#]],
        );
    }

    #[test]
    fn a_warehouse_ahead_of_the_code_is_deployed_to_and_not_migrated() {
        check(
            Some(&[(1, "a"), (2, "b"), (3, "c")]),
            &expect![[r#"
            0001_step applied
            0002_step applied
            0003_step applied, and not in this checkout
            apply: yes
            deploy: yes
            deploy --migrate: yes"#]],
        );
        check(
            Some(&[(1, "a"), (3, "c")]),
            &expect![[r#"
            0001_step applied
            0002_step pending
            0003_step applied, and not in this checkout
            apply: the warehouse of `prod` has `0003_step`, which is not in this checkout
            hint: take in the commits that brought it, then try again
            deploy: the warehouse of `prod` lacks `0002_step`, which this code comes with
            hint: apply it on the way: cargo xtask deploy prod --migrate
            or look first: cargo xtask schema status prod
            deploy --migrate: the warehouse of `prod` has `0003_step`, which is not in this checkout
            hint: take in the commits that brought it, then try again"#]],
        );
    }

    #[test]
    fn a_name_is_a_number_and_words() {
        let read = |file| Migration::parse(file).map_err(|it| format!("{it}; {}", it.hint()));
        assert_eq!(read("0001_time_zones.sql"), Ok((1, "time_zones")));
        assert_eq!(read("20261123142233_note.sql"), Ok((20_261_123_142_233, "note")));
        for bad in [
            "init.sql",
            "1.sql",
            "0_x.sql",
            "+1_x.sql",
            "1_.sql",
            "1_X.sql",
            "1_a b.sql",
            "1_a.up.sql",
        ] {
            assert!(Migration::parse(bad).is_err(), "{bad}");
        }
        expect!["`dagster_core/migrations/init.sql` is not named as a migration is; a number, and in small letters what it does: 0002_add_offsets.sql"].assert_eq(&read("init.sql").unwrap_err());
        assert_eq!(Migration::told(1, "time zones", "c".into()).name, "0001_time_zones");
    }
}
