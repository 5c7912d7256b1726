//! What a testbed keeps on this machine: keys, passwords, and what was made.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use exec::Cmd;
use release::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::{Compose, Error, Login};

/// The folder of a testbed, `.dagster-deploy/<name>`, and how its containers are called.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    /// The name, and a mark of the checkout: two of them may each have a `demo`.
    pub(crate) id: String,
}

/// What is known of a testbed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) ssh_port: u16,
    pub(crate) registry_port: u16,
    /// Whether the base images are the official ones. Asked once in a testbed's life.
    pub(crate) official: Option<bool>,
    /// Once it stands.
    pub(crate) made: Option<Made>,
}

/// What a testbed that stands is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) compose: Compose,
    pub(crate) python_image: String,
    pub(crate) postgres_image: String,
}

impl Place {
    pub(crate) fn new(root: &Path, name: &str) -> Result<Place, Error> {
        let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
        if name.is_empty()
            || name.len() > 40
            || name.starts_with('-')
            || !name.chars().all(is_plain)
        {
            return Err(Error::Name { name: name.to_owned() });
        }
        let root = fs::canonicalize(root)
            .map_err(|source| Error::File { path: root.to_owned(), source })?;
        let checkout = Fingerprint::of([root.as_os_str().as_encoded_bytes()]);
        let id = format!("{name}-{}", &checkout.short()[..6]);
        Ok(Place { name: name.to_owned(), dir: root.join(".dagster-deploy").join(name), id })
    }

    /// The name of an object in the engine.
    pub(crate) fn object(&self, role: &str) -> String {
        format!("dagster-testbed-{}-{role}", self.id)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits until nobody else makes or removes this testbed; until the answer is dropped.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        let path = self.file("lock");
        let error = |source| Error::File { path: path.clone(), source };
        loop {
            self.make_dir()?;
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .map_err(error)?;
            file.lock().map_err(error)?;
            // Whoever held it may have removed the folder with it.
            let mine = file.metadata().map_err(error)?.ino();
            if fs::metadata(&path).is_ok_and(|it| it.ino() == mine) {
                return Ok(file);
            }
        }
    }

    fn make_dir(&self) -> Result<(), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|source| Error::File { path: self.dir.clone(), source })
    }

    /// Removes the folder, and the one above it if nothing else is in it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::File { path: self.dir.clone(), source: error });
            }
            _ => {}
        }
        if let Some(above) = self.dir.parent() {
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }

    /// Reads what is known; nothing, if that is not readable any more.
    pub(crate) fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.file("testbed.json")).ok()?).ok()
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(record).expect("it has no maps with odd keys");
        self.write("testbed.json", text.as_bytes())
    }

    /// Writes a file that only we may read; it appears whole or not at all.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.file(name);
        let error = |source| Error::File { path: path.clone(), source };
        let mut new = tempfile::NamedTempFile::new_in(&self.dir).map_err(error)?;
        new.write_all(bytes).map_err(error)?;
        new.persist(&path).map_err(|it| error(it.error))?;
        Ok(())
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, Error> {
        let path = self.file(name);
        fs::read_to_string(&path).map_err(|source| Error::File { path, source })
    }

    /// Makes the keys and passwords that are missing.
    pub(crate) fn make_secrets(&self, login: Option<&Login>) -> Result<(), Error> {
        for key in ["key", "host_key"] {
            let path = self.file(key);
            // The public half is written last.
            if path.with_extension("pub").is_file() {
                continue;
            }
            let _ = fs::remove_file(&path);
            Cmd::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C"])
                .arg(format!("dagster-testbed-{}", self.id))
                .arg("-f")
                .arg(path)
                .read()
                .map_err(|source| Error::Program { what: "make an SSH key".into(), source })?;
        }
        if !self.file("postgres_password").is_file() {
            self.write("postgres_password", random_secret()?.as_bytes())?;
        }
        match login {
            Some(login) => {
                let text = serde_json::to_vec(login).expect("two texts can be written");
                self.write("registry_login", &text)
            }
            None => match fs::remove_file(self.file("registry_login")) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(Error::File { path: self.file("registry_login"), source })
                }
                _ => Ok(()),
            },
        }
    }

    pub(crate) fn registry_login(&self) -> Option<Login> {
        serde_json::from_str(&self.read("registry_login").ok()?).ok()
    }

    /// Pins the VM's host key, at the port it is reached on.
    pub(crate) fn pin_host_key(&self, port: u16) -> Result<(), Error> {
        let key = self.read("host_key.pub")?;
        self.write("known_hosts", format!("[127.0.0.1]:{port} {key}").as_bytes())
    }
}

/// 32 characters that nobody guesses.
pub fn random_secret() -> Result<String, Error> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 32];
    File::open(path)
        .and_then(|mut it| it.read_exact(&mut bytes))
        .map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(bytes.iter().map(|it| char::from(LETTERS[usize::from(it % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn two_checkouts_may_have_a_testbed_of_one_name() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let vm = |root: &Path| Place::new(root, "demo").unwrap().object("vm");
        assert_ne!(vm(one.path()), vm(two.path()));
        assert_eq!(vm(one.path()), vm(&one.path().join(".")));
        assert!(vm(one.path()).starts_with("dagster-testbed-demo-"));
    }

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for name in ["", "-x", "../x", "Demo", "a b", &"x".repeat(41)] {
            let error = Place::new(Path::new("/"), name).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{name}` cannot name a testbed")));
        }
    }

    #[test]
    fn keys_and_passwords_are_made_once_and_only_ours_to_read() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path(), "demo").unwrap();
        let _lock = place.lock().unwrap();
        let login = Login { user: "ana".into(), password: "hunter2".into() };
        place.make_secrets(Some(&login)).unwrap();
        place.pin_host_key(2222).unwrap();
        let all = || ["key", "host_key", "postgres_password"].map(|it| place.read(it).unwrap());
        let before = all();
        place.make_secrets(Some(&login)).unwrap();
        assert_eq!(all(), before);
        assert_eq!(place.registry_login(), Some(login));
        assert!(place.read("known_hosts").unwrap().starts_with("[127.0.0.1]:2222 ssh-ed25519 "));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place.dir), 0o700);
        for name in ["key", "host_key", "postgres_password", "registry_login"] {
            assert_eq!(mode(&place.file(name)), 0o600, "{name}");
        }
        place.make_secrets(None).unwrap();
        assert_eq!(place.registry_login(), None);
    }

    #[test]
    fn a_lock_on_a_removed_folder_holds_nothing_back() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path(), "demo").unwrap();
        let old = place.lock().unwrap();
        place.remove().unwrap();
        let _new = place.lock().unwrap();
        drop(old);
        assert!(place.file("lock").is_file());
    }

    #[test]
    fn a_login_does_not_print_its_password() {
        let login = Login { user: "ana".into(), password: "hunter2".into() };
        assert_eq!(format!("{login:?}"), "Login(`ana`)");
    }
}
