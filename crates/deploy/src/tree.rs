//! The files of a commit, whatever the checkout holds.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use release::Location;
use tempfile::TempDir;

use crate::{
    exit::{Failure, Result},
    project::{SOURCES, git, knows},
};

/// What a release is made from, as a commit has it, in a folder that is gone when this value is.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// Takes them out of the clone at `root`.
    pub(crate) fn of(root: &Path, sha: &str, location: &Location) -> Result<Tree> {
        let short = sha.get(..12).unwrap_or(sha);
        if !knows(root, sha)? {
            let error = anyhow!("this clone does not have the commit {short}");
            return Err(Failure::refused(error)
                .hint("fetch it: git fetch; into a clone that is shallow: git fetch --unshallow"));
        }
        // Of its tree and not the commit itself, whose name would come as one more entry.
        let archive = ["archive", "--format=tar", &format!("{sha}^{{tree}}"), "--"];
        let archive = git(root, &archive).arg(location.as_str()).args(SOURCES).output()?;
        if !archive.status.success() {
            let said = String::from_utf8_lossy(&archive.stderr).trim().to_owned();
            let error =
                anyhow!(said).context(format!("cannot read the files of the commit {short}"));
            return Err(Failure::refused(error));
        }
        let dir = tempfile::tempdir().context("cannot make a folder for files")?;
        tar::Archive::new(archive.stdout.as_slice())
            .unpack(dir.path())
            .with_context(|| format!("cannot unpack the files of the commit {short}"))?;
        Ok(Tree(dir))
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::expect;

    use super::*;
    use crate::project::tests::commit;

    #[test]
    fn files_are_those_of_the_commit_and_not_of_the_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        git(root, &["init", "--quiet"]).read().unwrap();
        for folder in ["compose", "dagster_core"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        for path in ["compose/core.yaml", "pyproject.toml", "uv.lock", "README.md"] {
            fs::write(root.join(path), "").unwrap();
        }
        let first = commit(root, "dagster_core/a.py", "First");
        commit(root, "dagster_core/a.py", "Second");
        fs::write(root.join("compose/core.yaml"), "edited").unwrap();

        let of = |sha: &str| Tree::of(root, sha, &Location::default());
        let tree = of(&first.sha).unwrap();
        let read = |path: &str| fs::read_to_string(tree.root().join(path)).ok();
        assert_eq!(read("dagster_core/a.py").as_deref(), Some("First"));
        assert_eq!(read("compose/core.yaml").as_deref(), Some(""));
        assert_eq!(read("README.md"), None, "no release is made from it");

        let refused =
            |tree: Result<Tree>| tree.err().unwrap().to_string().replace(&first.sha[..12], "SHA");
        expect![[r#"
            error: this clone does not have the commit 000000000000
            hint: fetch it: git fetch; into a clone that is shallow: git fetch --unshallow"#]]
        .assert_eq(&refused(of(&"0".repeat(40))));
        expect![[r#"
            error: cannot read the files of the commit SHA
              caused by: fatal: pathspec 'reports' did not match any files"#]]
        .assert_eq(&refused(Tree::of(root, &first.sha, &"reports".parse().unwrap())));
    }
}
