//! Mends what linters can mend: the one thing here that writes the working tree or the index.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    finding::{Finding, Report},
    judge::{Call, Place},
    linter::Linter,
    repo::Repo,
    tree,
};

/// What is mended, and by whom. The state is locked.
pub(crate) struct Mend<'a> {
    pub(crate) root: &'a Path,
    pub(crate) repo: &'a Repo,
    pub(crate) place: &'a Place<'a>,
    pub(crate) linters: &'a [&'static Linter],
    pub(crate) findings: &'a [Finding],
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Mended {
    fixed: BTreeSet<PathBuf>,
    left: BTreeSet<PathBuf>,
    unstaged: BTreeSet<PathBuf>,
}

impl Mended {
    /// Findings in a file that is mended in the working tree, and not staged, are old news.
    pub(crate) fn tell(self, report: &mut Report) {
        report.fixed = self.fixed.into_iter().collect();
        report.left = self.left.into_iter().collect();
        report.unstaged = self.unstaged.into_iter().collect();
    }
}

/// Mends the working tree's files; a file that is staged as it is there is staged again.
///
/// One that is staged in part is left alone: nobody but its author can say which part a mended line
/// belongs to. Answers whether anything was mended.
pub(crate) fn mend(mend: &Mend<'_>, mended: &mut Mended) -> Result<bool, Error> {
    let with_changes = mend.repo.unstaged()?;
    let staged = mend.repo.staged(None)?;
    let mut restage: BTreeSet<&Path> = BTreeSet::new();
    let mut any = false;
    for linter in mend.linters {
        let Some(args) = linter.fix else { continue };
        let mut files = Vec::new();
        let found = mend.findings.iter().filter(|it| it.linter == linter.name);
        let paths: BTreeSet<&Path> = found.map(|it| it.path.as_path()).collect();
        for path in paths {
            let here = mend.root.join(path);
            let is_file = fs::symlink_metadata(&here).is_ok_and(|it| it.is_file());
            if !is_file || (with_changes.contains(path) && staged.contains(path)) {
                mended.left.insert(path.to_owned());
                continue;
            }
            let before = fs::read(&here).map_err(Error::file("read", &here))?;
            let copy = mend.place.tree.root().join(tree::alias(path));
            fs::write(&copy, &before).map_err(Error::file("write", &copy))?;
            files.push((path, here, copy, before));
        }
        let names: Vec<&Path> = files.iter().map(|(path, ..)| *path).collect();
        let call = Call { place: mend.place, linter };
        call.fix(args, &names)?;
        for (path, here, copy, before) in files {
            let after = fs::read(&copy).map_err(Error::file("read", &copy))?;
            if after == before || !replace(&here, &before, &after)? {
                continue;
            }
            any = true;
            mended.fixed.insert(path.to_owned());
            if staged.contains(path) {
                restage.insert(path);
            } else {
                mended.unstaged.insert(path.to_owned());
            }
        }
    }
    if !restage.is_empty() {
        mend.repo.add(&restage.into_iter().collect::<Vec<_>>())?;
    }
    Ok(any)
}

/// Puts a file's new content in place, whole or not at all, unless somebody changed it meanwhile.
fn replace(path: &Path, before: &[u8], after: &[u8]) -> Result<bool, Error> {
    let write = || {
        let mut file =
            tempfile::NamedTempFile::new_in(path.parent().expect("a file has a folder"))?;
        file.write_all(after)?;
        file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
        if fs::read(path)? != before {
            return Ok(false);
        }
        file.persist(path)?;
        Ok(true)
    };
    write().map_err(Error::file("write", path))
}
