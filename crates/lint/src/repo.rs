//! What git knows: the index, and what of it is new.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use exec::Cmd;

use crate::Error;

/// A checkout.
///
/// Git is asked as it would be from a hook: `GIT_INDEX_FILE` and the like are git's own affair, so
/// the index that is judged is the one that is committed, with `git commit -a` and `-p` too.
pub(crate) struct Repo {
    root: PathBuf,
}

/// A file of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) mode: Mode,
    /// The name of its content, in hexadecimal.
    pub(crate) oid: String,
}

/// What an entry of the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    File,
    Executable,
    Link,
    Submodule,
}

/// How git writes [`Mode::Link`].
const LINK: &str = "120000";

/// The content of no byte at all, by git's two kinds of names.
const NOTHING: [&str; 2] = [
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
];

impl Entry {
    pub(crate) fn is_empty(&self) -> bool {
        NOTHING.contains(&self.oid.as_str())
    }
}

/// What is new in the index.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// Removed files are among them.
    pub(crate) paths: HashSet<PathBuf>,
    /// Whether a link is, or was, among them.
    pub(crate) links: bool,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) entries: Vec<Entry>,
    /// What a merge left for somebody to decide on.
    pub(crate) unmerged: Vec<PathBuf>,
}

impl Repo {
    pub(crate) fn new(root: &Path) -> Repo {
        Repo { root: root.to_owned() }
    }

    /// Describes a call of git. It takes no lock: a lint does not even refresh the index.
    pub(crate) fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Cmd {
        Cmd::new("git").args(args).dir(&self.root).env("GIT_OPTIONAL_LOCKS", "0")
    }

    /// All of the index, but for what was only announced (`git add --intent-to-add`): a commit does
    /// not have it.
    pub(crate) fn index(&self) -> Result<Index, Error> {
        let listed = stdout(&self.git(["ls-files", "--stage", "-z"]))?;
        let mut index = Index::default();
        for record in records(&listed) {
            let strange = || Error::Strange { program: "git ls-files", what: lossy(record) };
            let tab = record.iter().position(|it| *it == b'\t').ok_or_else(strange)?;
            let (head, path) = (lossy(&record[..tab]), path(&record[tab + 1..]));
            let mut words = head.split(' ');
            let (Some(mode), Some(oid), Some(stage)) = (words.next(), words.next(), words.next())
            else {
                return Err(strange());
            };
            if stage != "0" {
                if index.unmerged.last() != Some(&path) {
                    index.unmerged.push(path);
                }
                continue;
            }
            let mode = match mode {
                "100644" => Mode::File,
                "100755" => Mode::Executable,
                LINK => Mode::Link,
                "160000" => Mode::Submodule,
                _ => return Err(strange()),
            };
            index.entries.push(Entry { path, mode, oid: oid.to_owned() });
        }
        let empty = index.entries.iter().filter(|it| it.is_empty());
        let empty: Vec<&PathBuf> = empty.map(|it| &it.path).collect();
        if !empty.is_empty() {
            let options = ["--literal-pathspecs", "diff-files", "--name-only", "-z"];
            let cmd = self.git(options.into_iter().chain(["--diff-filter=A", "--"])).args(empty);
            let announced = stdout(&cmd)?;
            let announced: HashSet<PathBuf> = records(&announced).map(path).collect();
            index.entries.retain(|it| !announced.contains(&it.path));
        }
        Ok(index)
    }

    /// Replaces each link `of_interest` by the file of the index that it leads to, if there is one.
    /// A link to a link stays.
    pub(crate) fn follow(
        &self,
        entries: &mut [Entry],
        of_interest: impl Fn(&Path) -> bool,
    ) -> Result<(), Error> {
        let is_link = |it: &(usize, &Entry)| it.1.mode == Mode::Link && of_interest(&it.1.path);
        let links: Vec<(usize, &Entry)> = entries.iter().enumerate().filter(is_link).collect();
        let oids: Vec<&str> = links.iter().map(|it| it.1.oid.as_str()).collect();
        let mut followed = Vec::new();
        for ((n, link), target) in links.into_iter().zip(self.contents(&oids)?) {
            let folder = link.path.parent().unwrap_or(Path::new(""));
            let path = normal(&folder.join(path(&target)));
            let file = entries.iter().find(|it| it.path == path && it.mode != Mode::Link);
            followed.extend(file.map(|it| (n, Entry { path: link.path.clone(), ..it.clone() })));
        }
        for (n, entry) in followed {
            entries[n] = entry;
        }
        Ok(())
    }

    /// Where the index differs from a revision, or from what was last committed.
    pub(crate) fn staged(&self, since: Option<&str>) -> Result<Staged, Error> {
        let options = ["diff", "--cached", "--raw", "-z", "--no-renames", "--no-ext-diff"];
        // Without a revision it is HEAD, and nothing before the first commit.
        let rev = since.map(|it| ["--end-of-options", it]).into_iter().flatten();
        let listed = stdout(&self.git(options.into_iter().chain(rev).chain(["--"])))?;
        let mut staged = Staged::default();
        let mut records = records(&listed);
        // `:MODE MODE OID OID STATUS`, and the path.
        while let (Some(head), Some(name)) = (records.next(), records.next()) {
            staged.links |= lossy(head).split([':', ' ']).any(|it| it == LINK);
            staged.paths.insert(path(name));
        }
        Ok(staged)
    }

    /// The paths at which the working tree differs from the index.
    pub(crate) fn unstaged(&self) -> Result<HashSet<PathBuf>, Error> {
        let options = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--"];
        Ok(records(&stdout(&self.git(options))?).map(path).collect())
    }

    /// Stages files as they are in the working tree.
    pub(crate) fn add(&self, paths: &[&Path]) -> Result<(), Error> {
        let names: Vec<&[u8]> = paths.iter().map(|it| it.as_os_str().as_bytes()).collect();
        let options = ["--literal-pathspecs", "add", "--pathspec-from-file=-"];
        self.git(options.into_iter().chain(["--pathspec-file-nul"]))
            .stdin(names.join(&0))
            .read()?;
        Ok(())
    }

    /// The contents of these objects, in this order, as they are in the index: no filter, no end
    /// of line is changed.
    pub(crate) fn contents(&self, oids: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let cmd = self.git(["cat-file", "--batch"]).stdin(oids.join("\n") + "\n");
        let said = stdout(&cmd)?;
        let mut rest = said.as_slice();
        oids.iter()
            .map(|oid| {
                next_object(&mut rest).ok_or_else(|| Error::Strange {
                    program: "git cat-file",
                    what: format!("no content of {oid}"),
                })
            })
            .collect()
    }
}

/// `OID blob SIZE\nCONTENT\n`
fn next_object(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|it| *it == b'\n')?;
    let head = std::str::from_utf8(&rest[..end]).ok()?;
    let size: usize =
        head.strip_prefix(head.split(' ').next()?)?.strip_prefix(" blob ")?.parse().ok()?;
    let content = rest.get(end + 1..end + 1 + size)?.to_vec();
    *rest = rest.get(end + 2 + size..)?;
    Some(content)
}

fn stdout(cmd: &Cmd) -> Result<Vec<u8>, Error> {
    let output = cmd.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    // Says it as every failed command is told.
    Err(cmd.read().err().map_or_else(
        || Error::Strange { program: "git", what: lossy(&output.stderr) },
        Error::from,
    ))
}

fn records(listed: &[u8]) -> impl Iterator<Item = &[u8]> {
    listed.split(|it| *it == 0).filter(|it| !it.is_empty())
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// A path without `.` and `..`; no link is followed. A relative one that leads out keeps the `..` at
/// its front.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if normal.has_root() || normal.file_name().is_some() => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        assert_eq!(normal(Path::new(path)), Path::new(expected));
    }

    #[test]
    fn a_path_that_leads_out_is_known_by_its_front() {
        check("a/./b/../c", "a/c");
        check("a/..", "");
        check("a/../../b", "../b");
        check("../../a/../b", "../../b");
        check("/../a/../../b", "/b");
        check("a//b/", "a/b");
    }
}
