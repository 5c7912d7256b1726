//! Mends what linters can mend: the one thing here that writes the working tree or the index.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    state::Locked,
    tree,
};

/// What is mended, and by whom.
pub(crate) struct Mend<'a> {
    pub(crate) root: &'a Path,
    pub(crate) repo: &'a Repo,
    pub(crate) locked: &'a Locked,
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
    pub(crate) fn tell(self, report: &mut Report) {
        report.fixed = self.fixed.into_iter().collect();
        // Another name of it may have been mended.
        let is_bad = |path: &PathBuf| report.findings.iter().any(|it| it.path == *path);
        report.left = self.left.into_iter().filter(is_bad).collect();
        report.unstaged = self.unstaged.into_iter().collect();
    }
}

/// A file that is mended.
struct Source {
    here: PathBuf,
    /// Where the linters mend it.
    copy: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Mends the working tree's files; a file that is staged as it is there is staged again.
///
/// One that is staged in part is left alone: nobody but its author can say which part a mended line
/// belongs to. All is mended in the copy first, and then put in place and staged at once. Answers
/// whether anything was mended.
pub(crate) fn mend(mend: &Mend<'_>, mended: &mut Mended) -> Result<bool, Error> {
    let with_changes = mend.repo.unstaged()?;
    let staged = mend.repo.staged(None)?.paths;
    let root = mend.root.canonicalize().map_err(Error::file("look up", mend.root))?;
    let mut sources: BTreeMap<&Path, Source> = BTreeMap::new();
    for linter in mend.linters {
        let Some(args) = linter.fix else { continue };
        let found = mend.findings.iter().filter(|it| it.linter == linter.name);
        let paths: BTreeSet<&Path> = found.map(|it| it.path.as_path()).collect();
        let mut names = Vec::new();
        for path in paths {
            let here = root.join(path);
            // Nothing that a link leads to is ours to mend.
            let is_file = here.is_file() && fs::canonicalize(&here).is_ok_and(|it| it == here);
            if !is_file || (with_changes.contains(path) && staged.contains(path)) {
                mended.left.insert(path.to_owned());
                continue;
            }
            if !sources.contains_key(path) {
                let before = fs::read(&here).map_err(Error::file("read", &here))?;
                let copy = mend.place.tree.root().join(tree::alias(path));
                sources.insert(path, Source { here, copy, after: before.clone(), before });
            }
            names.push(path);
        }
        let call = Call { place: mend.place, linter };
        mend.locked.shared(|| mend_copies(&call, args, &names, &mut sources))?;
    }

    let (mut restage, mut any) = (Vec::new(), false);
    let put = sources.iter().try_for_each(|(path, source)| {
        if source.after == source.before || !source.put_in_place()? {
            return Ok(());
        }
        any = true;
        mended.fixed.insert((*path).to_owned());
        if staged.contains(*path) {
            restage.push(*path);
        } else {
            mended.unstaged.insert((*path).to_owned());
        }
        Ok(())
    });
    if !restage.is_empty() {
        mend.repo.add(&restage)?;
    }
    put.map(|()| any)
}

/// Has the linter mend these files. Where that does not go well, each half is mended by itself: the
/// trouble of one file is not the others', and what may be cut off is not taken.
fn mend_copies<'a>(
    call: &Call<'_>,
    args: &[&str],
    names: &[&'a Path],
    sources: &mut BTreeMap<&'a Path, Source>,
) -> Result<(), Error> {
    for name in names {
        let Source { copy, after, .. } = &sources[name];
        fs::write(copy, after).map_err(Error::file("write", copy))?;
    }
    if call.fix(args, names)? {
        for name in names {
            let source = sources.get_mut(name).expect("it is one of them");
            source.after =
                fs::read(&source.copy).map_err(Error::file("read", source.copy.as_path()))?;
        }
    } else if names.len() > 1 {
        for half in names.chunks(names.len().div_ceil(2)) {
            mend_copies(call, args, half, sources)?;
        }
    }
    Ok(())
}

impl Source {
    /// Whole or not at all, unless somebody changed the file meanwhile.
    fn put_in_place(&self) -> Result<bool, Error> {
        let path = &self.here;
        let write = || {
            let mut file =
                tempfile::NamedTempFile::new_in(path.parent().expect("a file has a folder"))?;
            file.write_all(&self.after)?;
            file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
            if fs::read(path)? != self.before {
                return Ok(false);
            }
            file.persist(path)?;
            Ok(true)
        };
        write().map_err(Error::file("write", path))
    }
}
