//! Dumps of an environment's databases: made on the host, packed into one archive, read here.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context as _, anyhow};
use release::{Archive, Database, Dumped, Layout, Purpose, Table, differences};
use settings::Settings;
use sha2::{Digest as _, Sha256};

use crate::{
    exit::{Failure, Result},
    locked::Locked,
    session::{Session, remote},
};

/// How many archives stay on the host.
const KEEP: usize = 5;

/// The databases an environment has, or will have once something is written to them.
pub(crate) fn named(settings: &Settings) -> Vec<(Purpose, &str)> {
    let keys = [(Purpose::Dagster, "POSTGRES_DB"), (Purpose::Warehouse, "WAREHOUSE_DB")];
    let named = keys.into_iter().filter_map(|(purpose, key)| {
        let name = settings.containers.get(key)?.expose();
        (!name.is_empty()).then_some((purpose, name))
    });
    named.collect()
}

/// The major version of Postgres, and the size in bytes of each of these databases that exists.
pub(crate) fn look(
    session: &Session<'_>,
    layout: &Layout,
    names: &[&str],
) -> Result<(u32, BTreeMap<String, u64>)> {
    let project = layout.platform_project();
    let args = [&[project.as_str()], names].concat();
    let answer = session.ask("look at the databases", remote::LOOK, &args)?;
    let mut version = 0;
    let mut sizes = BTreeMap::new();
    for line in answer.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["postgres", number] => version = number.parse().unwrap_or_default(),
            ["database", name, size] => {
                sizes.insert(name.to_owned(), size.parse().unwrap_or_default());
            }
            _ => return Err(anyhow!("the host's answer was not understood at: {line}").into()),
        }
    }
    Ok((version / 10_000, sizes))
}

/// An environment's databases, inside its Postgres, under the lock.
pub(crate) struct Databases<'a>(pub(crate) &'a Locked<'a>);

impl Databases<'_> {
    fn project(&self) -> String {
        self.0.observed.layout.platform_project()
    }

    /// Dumps databases into a folder on the host. With `check`, each dump is restored into a
    /// database beside, and compared with what was dumped.
    pub(crate) fn dump(
        &self,
        work: &str,
        asked: &[(Purpose, &str)],
        check: bool,
        by: &str,
        at: &str,
    ) -> Result<Archive> {
        let project = self.project();
        let how = if check { "check" } else { "trust" };
        let names = asked.iter().map(|it| it.1);
        let args: Vec<&str> = [project.as_str(), work, how].into_iter().chain(names).collect();
        let answer = self.0.run("dump the databases", remote::DUMP, &args, Vec::new())?;
        let dumped = Dumped::parse(&answer)?;
        let databases = dumped.databases(asked);
        if check {
            for it in &databases {
                let copy = dumped.copies.get(&it.name).cloned().unwrap_or_default();
                same(it, &it.name, &copy).context("the dump cannot be restored")?;
            }
        }
        Ok(Archive {
            format: Archive::FORMAT,
            environment: self.0.settings.environment.clone(),
            release: None,
            at: at.to_owned(),
            by: by.to_owned(),
            postgres: dumped.postgres / 10_000,
            databases,
        })
    }

    /// Packs what was dumped into an archive that stays on the host, with the newest few. Answers
    /// its path.
    pub(crate) fn keep(&self, work: &str, archive: &Archive) -> Result<String> {
        let newest = KEEP.to_string();
        let (files, manifest) = contents(archive);
        let args: Vec<&str> =
            [work, newest.as_str()].into_iter().chain(files.iter().map(String::as_str)).collect();
        self.0.run("pack the dump", remote::PACK, &args, manifest)?;
        Ok(format!("{work}.tar"))
    }

    /// Packs what was dumped into an archive that is sent here, and nothing stays on the host.
    pub(crate) fn fetch(&self, work: &str, archive: &Archive, file: File) -> Result {
        let (files, manifest) = contents(archive);
        let args: Vec<&str> =
            [work, "out"].into_iter().chain(files.iter().map(String::as_str)).collect();
        self.0.save("pack the dump", remote::PACK, &args, manifest, file)
    }

    /// Restores an archive into databases beside those that serve, and compares them with what it
    /// says. `pairs` are the names here of its databases.
    pub(crate) fn stage(&self, work: &str, pairs: &[(&str, &Database)], file: File) -> Result {
        let project = self.project();
        let mut args = vec![project, work.to_owned()];
        for (name, it) in pairs {
            args.extend([(*name).to_owned(), it.file()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let answer = self.0.feed("restore the archive", remote::STAGE, &args, file)?;
        let found = Dumped::parse(&answer)?;
        for (name, it) in pairs {
            let copy = found.copies.get(*name).cloned().unwrap_or_default();
            same(it, name, &copy).context("what was restored is not what the archive holds")?;
        }
        Ok(())
    }

    /// Renames databases, all of them or none.
    pub(crate) fn rename(&self, pairs: &[(String, String)]) -> Result {
        let project = self.project();
        let names = pairs.iter().flat_map(|(from, to)| [from.as_str(), to]);
        let args: Vec<&str> = [project.as_str()].into_iter().chain(names).collect();
        self.0.run("exchange the databases", remote::SWAP, &args, Vec::new())?;
        Ok(())
    }

    /// Drops databases that stand beside.
    pub(crate) fn discard(&self, names: &[String]) -> Result {
        let project = self.project();
        let args: Vec<&str> =
            [project.as_str()].into_iter().chain(names.iter().map(String::as_str)).collect();
        self.0.run("drop the databases beside", remote::DISCARD, &args, Vec::new())?;
        Ok(())
    }
}

/// The names of an archive's dumps in order, and its manifest.
fn contents(archive: &Archive) -> (Vec<String>, Vec<u8>) {
    let files = archive.databases.iter().map(Database::file).collect();
    (files, serde_json::to_vec_pretty(archive).expect("a manifest is plain data"))
}

fn same(
    expected: &Database,
    name: &str,
    found: &BTreeMap<String, Table>,
) -> Result<(), anyhow::Error> {
    let differing = differences(&expected.tables, found);
    match differing.len() {
        0 => Ok(()),
        n => {
            let some: Vec<String> = differing.into_iter().take(5).collect();
            Err(anyhow!("{n} tables of `{name}` differ: {}", some.join("; ")))
        }
    }
}

/// Reads an archive through and compares every byte with what its manifest says.
pub(crate) fn read(path: &Path) -> Result<Archive> {
    let file = File::open(path)
        .with_context(|| format!("cannot read `{}`", path.display()))
        .map_err(Failure::refused)?;
    read_through(file).map_err(|why| {
        let error = why.context(format!("`{}` is no whole backup", path.display()));
        Failure::refused(error).hint("take another archive; nothing was changed")
    })
}

fn read_through(file: File) -> Result<Archive, anyhow::Error> {
    let mut tar = tar::Archive::new(file);
    let mut entries = tar.entries()?;
    let mut first = entries.next().ok_or_else(|| anyhow!("it is empty"))??;
    if first.path()? != Path::new(Archive::MANIFEST) {
        return Err(anyhow!("it does not begin with {}", Archive::MANIFEST));
    }
    let mut manifest = String::new();
    first.read_to_string(&mut manifest)?;
    let archive: Archive = serde_json::from_str(&manifest).context(Archive::MANIFEST)?;
    for it in &archive.databases {
        let name = it.file();
        let mut entry = entries.next().ok_or_else(|| anyhow!("`{name}` is missing"))??;
        if entry.path()? != Path::new(&name) {
            return Err(anyhow!("`{}` is where `{name}` should be", entry.path()?.display()));
        }
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut entry, &mut hash)?;
        if bytes != it.bytes || format!("{:x}", hash.finalize()) != it.sha256 {
            return Err(anyhow!("`{name}` is damaged"));
        }
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use release::Table;

    use super::*;

    /// An archive of one database whose dump is `dumped`, while the manifest was made of `told`.
    fn archive(told: &str, dumped: &str) -> Vec<u8> {
        let database = Database {
            purpose: Purpose::Dagster,
            name: "dagster".into(),
            bytes: told.len() as u64,
            sha256: format!("{:x}", Sha256::digest(told)),
            tables: [("public.runs".to_owned(), Table { rows: 1, checksum: "7".into() })].into(),
        };
        let manifest = Archive {
            format: Archive::FORMAT,
            environment: "prod".into(),
            release: None,
            at: "2026-11-23T14:22:33Z".into(),
            by: "ana@laptop".into(),
            postgres: 17,
            databases: vec![database],
        };
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).unwrap();
        };
        add(Archive::MANIFEST, &contents(&manifest).1);
        add("dagster.dump", dumped.as_bytes());
        tar.into_inner().unwrap()
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &Expect) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let text = match read(file.path()) {
            Ok(archive) => archive.to_string(),
            Err(failure) => failure.to_string().replace(&file.path().display().to_string(), "FILE"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn an_archive_is_read_to_its_last_byte_before_it_is_trusted() {
        let whole = archive("a dump", "a dump");
        check(
            &whole,
            &expect![[r#"
            prod at 2026-11-23T14:22:33Z, by ana@laptop
              `dagster`: 1 tables, 1 rows"#]],
        );
        check(
            &archive("a dump", "a dumb"),
            &expect![[r#"
            error: `FILE` is no whole backup
              caused by: `dagster.dump` is damaged
            hint: take another archive; nothing was changed"#]],
        );
        check(
            &whole[..512],
            &expect![[r#"
            error: `FILE` is no whole backup
              caused by: manifest.json
              caused by: EOF while parsing a value at line 1 column 0
            hint: take another archive; nothing was changed"#]],
        );
        check(
            b"no archive at all",
            &expect![[r#"
            error: `FILE` is no whole backup
              caused by: failed to read entire block
            hint: take another archive; nothing was changed"#]],
        );
        check(
            b"",
            &expect![[r#"
            error: `FILE` is no whole backup
              caused by: it is empty
            hint: take another archive; nothing was changed"#]],
        );
    }
}
