//! A private copy of the index, in which the linters work.
//!
//! It is kept from lint to lint, and only what changed is written. A file's time of modification
//! is made from the name of its content: so a look at the times tells which files are as they
//! should be, whenever an earlier lint was killed; and mypy, whose cache trusts a file of equal
//! size and time, is never wrong to.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File, FileTimes, Metadata, Permissions},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    Error,
    linter::{self, LINTERS},
    repo::{self, Entry, Mode, Repo},
    state::State,
};

/// The copy.
pub(crate) struct Tree {
    root: PathBuf,
    /// What a name here stands for, where that is not the name itself.
    aliases: HashMap<PathBuf, PathBuf>,
}

impl Tree {
    /// Makes the copy as the index is. The state must be locked.
    pub(crate) fn sync(state: &State, repo: &Repo, entries: &[Entry]) -> Result<Tree, Error> {
        let root = root(state);
        mark_root(&root)?;
        let flake8 = root.with_file_name(linter::FLAKE8_CONFIG);
        fs::write(&flake8, "[flake8]\nquiet = 0\n").map_err(Error::file("write", &flake8))?;
        let mut wanted = Wanted::default();
        for entry in entries {
            let path = alias(&entry.path);
            // Folders alone decide what isort takes for the project's own.
            wanted.folders.extend(path.ancestors().skip(1).map(Path::to_owned));
            if entry.mode == Mode::Submodule {
                wanted.folders.insert(path);
            } else if entry.mode == Mode::Link || entry.script || is_read(&entry.path) {
                wanted.files.insert(path, entry);
            }
        }
        let mut present = HashSet::new();
        clean(&root, Path::new(""), &wanted, &mut present)?;
        for folder in &wanted.folders {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        }
        let missing: Vec<(&PathBuf, &Entry)> = wanted
            .files
            .iter()
            .filter(|(path, _)| !present.contains(*path))
            .map(|(path, entry)| (path, *entry))
            .collect();
        let oids: Vec<&str> = missing.iter().map(|(_, entry)| entry.oid.as_str()).collect();
        for ((path, entry), content) in missing.iter().zip(repo.contents(&oids)?) {
            let path_here = root.join(path);
            let written = if entry.mode == Mode::Link {
                link(&path_here, path, &content)
            } else {
                file(&path_here, entry, &content)
            };
            written.map_err(Error::file("write", &path_here))?;
        }
        Ok(Tree { root, aliases: aliases(entries) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The path in the repository of a path in the copy, as a linter writes it.
    pub(crate) fn original(&self, path: &Path) -> PathBuf {
        let path = self.below(path);
        self.aliases.get(&path).cloned().unwrap_or(path)
    }

    /// A path as a linter writes it, from the copy's root.
    pub(crate) fn below(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        path.components().filter(|it| *it != Component::CurDir).collect()
    }
}

/// Linters look for configuration in the folders above, too, up to a repository's root. This makes
/// a folder one.
pub(crate) fn mark_root(dir: &Path) -> Result<(), Error> {
    let file = dir.join(linter::ROOT);
    let folder = file.parent().expect("it is in a folder");
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    fs::write(&file, "").map_err(Error::file("write", &file))
}

/// Where the copy is.
pub(crate) fn root(state: &State) -> PathBuf {
    state.path("home/tree")
}

/// The name in the copy: the same, but for bytes that no linter's output would bring back.
pub(crate) fn alias(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => path.to_owned(),
        _ => {
            let mut name = String::new();
            for chunk in path.as_os_str().as_bytes().utf8_chunks() {
                for char in chunk.valid().chars() {
                    if char.is_control() {
                        name.push_str(&format!("%{:02X}", u32::from(char)));
                    } else {
                        name.push(char);
                    }
                }
                for byte in chunk.invalid() {
                    name.push_str(&format!("%{byte:02X}"));
                }
            }
            PathBuf::from(name)
        }
    }
}

/// What those names in the copy stand for that are not the same.
pub(crate) fn aliases(entries: &[Entry]) -> HashMap<PathBuf, PathBuf> {
    let all = entries.iter().map(|it| (alias(&it.path), &it.path));
    all.filter(|(alias, path)| alias != *path).map(|(alias, path)| (alias, path.clone())).collect()
}

#[derive(Default)]
struct Wanted<'a> {
    files: HashMap<PathBuf, &'a Entry>,
    folders: HashSet<PathBuf>,
}

/// Whether a linter may read it: sources, markers of typed packages, and configuration.
fn is_read(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ["py", "pyi", "typed", "toml", "cfg", "ini"].contains(&ending)
        || LINTERS.iter().any(|linter| {
            linter.endings.contains(&ending) || linter.configs.iter().any(|it| name == *it)
        })
}

/// Removes what is not wanted, and finds out what is there already.
fn clean(
    root: &Path,
    below: &Path,
    wanted: &Wanted<'_>,
    present: &mut HashSet<PathBuf>,
) -> Result<(), Error> {
    let dir = root.join(below);
    for found in fs::read_dir(&dir).map_err(Error::file("read", &dir))? {
        let found = found.map_err(Error::file("read", &dir))?;
        let path = below.join(found.file_name());
        if path == Path::new(".git") {
            continue;
        }
        let here = found.path();
        let meta = fs::symlink_metadata(&here).map_err(Error::file("look at", &here))?;
        let removed = match wanted.files.get(&path) {
            _ if meta.is_dir() && wanted.folders.contains(&path) => {
                clean(root, &path, wanted, present)?;
                continue;
            }
            Some(entry) if is_as_wanted(&meta, entry) => {
                present.insert(path);
                continue;
            }
            _ if meta.is_dir() => fs::remove_dir_all(&here),
            _ => fs::remove_file(&here),
        };
        removed.map_err(Error::file("remove", &here))?;
    }
    Ok(())
}

fn is_as_wanted(meta: &Metadata, entry: &Entry) -> bool {
    // Links are made anew each time: they are few.
    meta.is_file()
        && entry.mode != Mode::Link
        && meta.modified().is_ok_and(|it| it == time_of(&entry.oid))
        && (meta.mode() & 0o100 != 0) == (entry.mode == Mode::Executable)
        // A power cut may have left it empty.
        && (meta.len() == 0) == entry.is_empty()
}

/// A time that says which content a file has.
fn time_of(oid: &str) -> SystemTime {
    let number = |at| {
        oid.get(at..at + 8)
            .and_then(|it: &str| u32::from_str_radix(it, 16).ok())
            .unwrap_or_default()
    };
    // From 1970 to 2038, whatever the file system.
    let seconds = u64::from(number(0) >> 1);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, number(8) % 1_000_000_000)
}

fn file(path: &Path, entry: &Entry, content: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().expect("it is in the copy"))?;
    file.write_all(content)?;
    let mode = if entry.mode == Mode::Executable { 0o700 } else { 0o600 };
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    set_time(file.as_file(), &entry.oid)?;
    file.persist(path)?;
    Ok(())
}

fn set_time(file: &File, oid: &str) -> io::Result<()> {
    file.set_times(FileTimes::new().set_modified(time_of(oid)))
}

/// A link that leaves the repository is left out: what it leads to is not in the index.
fn link(path: &Path, below: &Path, content: &[u8]) -> io::Result<()> {
    let target = Path::new(OsStr::from_bytes(content));
    let folder = below.parent().expect("a link is in a folder");
    let there = repo::normal(&folder.join(target));
    if there.has_root() || there.starts_with("..") {
        return Ok(());
    }
    std::os::unix::fs::symlink(target, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_output_would_bring_back_is_replaced() {
        let odd = |bytes| alias(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(odd(b"a/\xffb\n.py"), Path::new("a/%FFb%0A.py"));
        assert_eq!(odd("a b/\u{e9}.py".as_bytes()), Path::new("a b/\u{e9}.py"));
    }

    #[test]
    fn other_content_has_another_time() {
        let one = time_of("0123456789abcdef0123456789abcdef01234567");
        assert_ne!(one, time_of("1123456789abcdef0123456789abcdef01234567"));
        assert_ne!(one, time_of("0123456779abcdef0123456789abcdef01234567"));
    }
}
