//! The files of migrations in the checkout.

use std::{fs, path::Path};

use anyhow::Context as _;
use release::{MIGRATIONS, Migration, NoMigration};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, migrate::MigrationType};

use crate::exit::{Failure, Result};

/// A file of migrations.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// What it is called.
    pub(crate) migration: Migration,
    /// What is applied.
    pub(super) sql: sqlx::migrate::Migration,
}

/// Reads the migrations of a checkout, in order; a checkout without any has no such folder.
pub(crate) fn read(root: &Path) -> Result<Vec<File>> {
    let folder = root.join(MIGRATIONS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<File> = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{MIGRATIONS}`"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "README.md" {
            continue;
        }
        files.push(File::read(&folder, &name)?);
    }
    files.sort_by_key(|it| it.migration.version);
    for pair in files.windows(2) {
        if let [one, two] = pair
            && one.migration.version == two.migration.version
        {
            let (file, other) = (two.file(), one.file());
            return Err(refused(NoMigration::Twice { file, other }));
        }
    }
    Ok(files)
}

impl File {
    fn read(folder: &Path, file: &str) -> Result<File> {
        let (version, words) = Migration::parse(file).map_err(refused)?;
        let text = fs::read_to_string(folder.join(file))
            .with_context(|| format!("cannot read `{MIGRATIONS}/{file}`"))
            .map_err(Failure::refused)?;
        // What sqlx's own tool would run so.
        if text.starts_with("-- no-transaction") {
            return Err(refused(NoMigration::NoTransaction { file: file.to_owned() }));
        }
        let guarded = AssertSqlSafe(guarded(&text)).into_sql_str();
        let text = AssertSqlSafe(text).into_sql_str();
        let words = words.replace('_', " ");
        let mut sql = sqlx::migrate::Migration::new(
            version,
            words.into(),
            MigrationType::Simple,
            text,
            false,
        );
        // The checksum is of the text as it is written.
        sql.sql = guarded;
        let checksum = sql.checksum.first_chunk().map_or(0, |it| u64::from_be_bytes(*it));
        let checksum = format!("{checksum:0CHECKSUM$x}");
        let name = file.trim_end_matches(".sql").to_owned();
        let migration = Migration { version, name, checksum };
        Ok(File { migration, sql })
    }

    /// The file's name.
    pub(crate) fn file(&self) -> String {
        format!("{}.sql", self.migration.name)
    }
}

/// The text, with a mark that its transaction carries and a look at its end whether it is still there:
/// one that says COMMIT would be applied by halves. Its lines keep their numbers.
fn guarded(text: &str) -> String {
    format!(
        "SET LOCAL dagster_deploy.whole = 'yes';{text}\n;\
         DO $$ BEGIN \
         IF current_setting('dagster_deploy.whole', true) IS DISTINCT FROM 'yes' THEN \
         RAISE 'it ends the transaction that it is applied in' USING ERRCODE = '{ENDS}'; \
         END IF; END $$"
    )
}

/// A migration ended its transaction.
pub(super) const ENDS: &str = "2D000";

/// How many digits of a checksum tell one text from another.
pub(super) const CHECKSUM: usize = 16;

fn refused(why: NoMigration) -> Failure {
    let hint = why.hint();
    Failure::refused(why).hint(hint)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &Expect) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(MIGRATIONS)).unwrap();
        for (name, text) in files {
            fs::write(root.path().join(MIGRATIONS).join(name), text).unwrap();
        }
        let text = match read(root.path()) {
            Err(failure) => failure.to_string(),
            Ok(files) => {
                let line = |it: &File| format!("{} {}\n", it.file(), it.migration.checksum);
                files.iter().map(line).collect()
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn migrations_are_read_in_the_order_of_their_numbers() {
        check(
            &[("0010_b.sql", "SELECT 2"), ("0002_a.sql", "SELECT 1"), ("README.md", "")],
            &expect![[r#"
                0002_a.sql a87be5ea59a50f15
                0010_b.sql 43dfe3ca7657b074
            "#]],
        );
        assert!(read(tempfile::tempdir().unwrap().path()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_would_be_overlooked_is_refused() {
        check(
            &[("init.sql", "")],
            &expect![[r#"
            error: `dagster_core/migrations/init.sql` is not named as a migration is
            hint: a number, and in small letters what it does: 0002_add_offsets.sql"#]],
        );
        check(
            &[("0001_a.sql", ""), ("1_b.sql", "")],
            &expect![[r#"
            error: `dagster_core/migrations/1_b.sql` has the number of `0001_a.sql`
            hint: give the newer one the next free number"#]],
        );
        check(
            &[("0001_a.sql", "-- no-transaction\nVACUUM")],
            &expect![[r#"
            error: `dagster_core/migrations/0001_a.sql` asks to run outside of a transaction
            hint: each is applied whole or not at all: take its `no-transaction` away, and what cannot be part of a transaction out"#]],
        );
    }
}
