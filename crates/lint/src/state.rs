//! The folder in which a lint keeps what is its own, below `target`.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::io::{FdFlags, fcntl_setfd};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The lint's own folder.
pub(crate) struct State {
    dir: PathBuf,
}

impl State {
    /// Makes the folder, for its owner only, if it is not there.
    pub(crate) fn open(dir: &Path) -> Result<State, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(Error::file("make", dir))?;
        // Linters tell of a file by its real path.
        let dir = dir.canonicalize().map_err(Error::file("look up", dir))?;
        Ok(State { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits until no other lint uses the copy of the index.
    pub(crate) fn lock(&self) -> Result<Locked, Error> {
        let path = self.path("lock");
        let file = File::create(&path).map_err(Error::file("make", &path))?;
        file.lock().map_err(Error::file("lock", &path))?;
        Ok(Locked { file, path })
    }
}

/// The copy of the index is ours until this is dropped, or its process is gone.
pub(crate) struct Locked {
    file: File,
    path: PathBuf,
}

impl Locked {
    /// Has the processes that `run` starts hold the lock, too: one that outlives this process may
    /// still write into the copy.
    pub(crate) fn shared<T>(&self, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.share(FdFlags::empty())?;
        let result = run();
        self.share(FdFlags::CLOEXEC)?;
        result
    }

    fn share(&self, flags: FdFlags) -> Result<(), Error> {
        fcntl_setfd(&self.file, flags).map_err(|it| Error::file("lock", &self.path)(it.into()))
    }
}

/// Writes a file of its owner's such that it is seen whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_as(path, bytes, 0o600)
}

/// Writes a file of this mode such that it is seen whole, and with its mode, or not at all.
pub(crate) fn write_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().expect("a file of ours is in a folder of ours");
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.persist(path)?;
    Ok(())
}

/// Removes all but the `keep` newest of a folder's entries. What cannot be removed stays: that is
/// no reason to refuse a lint.
pub(crate) fn keep_newest(dir: &Path, keep: usize) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut all: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|it| it.ok().map(|it| it.path()))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    all.sort();
    for (_, path) in all.iter().rev().skip(keep) {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// Removes a folder, if its files have more bytes than this.
pub(crate) fn forget_large(dir: &Path, most: u64) {
    fn bytes(dir: &Path) -> u64 {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let sizes = entries.map(|it| match it.metadata() {
            Ok(meta) if meta.is_dir() => bytes(&it.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        });
        sizes.sum()
    }
    if bytes(dir) > most {
        let _ = fs::remove_dir_all(dir);
    }
}

/// A name for what `parts` say, in 32 hexadecimal digits. Parts do not run into each other.
pub(crate) fn name_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[..16].iter().fold(String::with_capacity(32), |mut all, byte| {
        for nibble in [byte >> 4, byte & 15] {
            all.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16"));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_forgotten_when_all_in_it_is_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        write(&cache.join("3.11/a"), &[0; 60]).unwrap();
        write(&cache.join("b"), &[0; 40]).unwrap();
        forget_large(&cache, 100);
        assert!(cache.exists());
        forget_large(&cache, 99);
        assert!(!cache.exists());
    }
}
