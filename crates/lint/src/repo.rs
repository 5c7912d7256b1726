//! What git knows: the index, and what of it is new.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    iter,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use exec::Cmd;

use crate::{Error, script};

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
    /// Whether it is a source, though only its first line says so.
    pub(crate) script: bool,
    /// The file that it is, if it is a link.
    pub(crate) target: Option<PathBuf>,
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

/// How git writes [`Mode::Executable`].
const EXECUTABLE: &str = "100755";

/// A chain of more links than this leads nowhere.
const LINKS: usize = 8;

/// The content of no byte at all, by git's two kinds of names.
const NOTHING: [&str; 2] = [
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
];

impl Entry {
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.mode, Mode::File | Mode::Executable)
    }

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
    /// Whether a file that can be executed is, or was, among them.
    pub(crate) executables: bool,
}

impl Staged {
    /// Whether a script may be among them: that is known by the contents.
    pub(crate) fn may_have_script(&self) -> bool {
        self.paths.iter().any(|it| script::may_be(it, self.executables))
    }
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
                EXECUTABLE => Mode::Executable,
                LINK => Mode::Link,
                "160000" => Mode::Submodule,
                _ => return Err(strange()),
            };
            index.entries.push(Entry {
                path,
                mode,
                oid: oid.to_owned(),
                script: false,
                target: None,
            });
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
    pub(crate) fn follow(
        &self,
        entries: &mut [Entry],
        of_interest: impl Fn(&Path) -> bool,
    ) -> Result<(), Error> {
        let links: Vec<&Entry> = entries.iter().filter(|it| it.mode == Mode::Link).collect();
        if !links.iter().any(|it| of_interest(&it.path)) {
            return Ok(());
        }
        let oids: Vec<&str> = links.iter().map(|it| it.oid.as_str()).collect();
        let targets = links.iter().zip(self.contents(&oids)?).map(|(link, target)| {
            let folder = link.path.parent().unwrap_or(Path::new(""));
            (link.path.clone(), normal(&folder.join(path(&target))))
        });
        let targets: HashMap<PathBuf, PathBuf> = targets.collect();
        let files = entries.iter().filter(|it| it.is_file());
        let files: HashMap<&Path, &Entry> = files.map(|it| (it.path.as_path(), it)).collect();
        let mut followed = Vec::new();
        for (n, link) in entries.iter().enumerate() {
            if link.mode == Mode::Link && of_interest(&link.path) {
                let chain = iter::successors(Some(&link.path), |it| targets.get(*it));
                let file = chain.take(LINKS + 1).find_map(|it| files.get(it.as_path()));
                followed.extend(file.map(|file| {
                    let target = Some(file.path.clone());
                    (n, Entry { path: link.path.clone(), target, ..(*file).clone() })
                }));
            }
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
            let head = lossy(head);
            let mut modes = head.split([':', ' ']);
            staged.links |= modes.clone().any(|it| it == LINK);
            staged.executables |= modes.any(|it| it == EXECUTABLE);
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

    /// How many bytes each of these objects has, in this order.
    pub(crate) fn sizes(&self, oids: &[&str]) -> Result<Vec<u64>, Error> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let cmd =
            self.git(["cat-file", "--batch-check=%(objectsize)"]).stdin(oids.join("\n") + "\n");
        let strange = |it: &str| Error::Strange { program: "git cat-file", what: it.to_owned() };
        let said = lossy(&stdout(&cmd)?);
        said.lines().map(|it| it.parse().map_err(|_| strange(it))).collect()
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
