//! What a checkout's own platform is called, and where it keeps what it needs.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use release::Fingerprint;

use super::ENVIRONMENT;
use crate::exit::{Failure, Result};

/// A checkout on this machine. Two of them never share a name.
#[derive(Clone)]
pub(crate) struct Place {
    /// Its root, without links: what the watcher names begins with it.
    pub(crate) root: PathBuf,
    /// `sales-3f2a1b`: its folder's name, and a mark of where it is.
    pub(crate) name: String,
    dir: PathBuf,
}

/// As long as it lives, nobody else runs this checkout's platform.
pub(crate) struct Held(File);

impl Place {
    pub(crate) fn of(root: &Path) -> Result<Place> {
        let root =
            fs::canonicalize(root).with_context(|| format!("cannot find `{}`", root.display()))?;
        let name = name(&root);
        let dir = root.join(".dagster-deploy").join(ENVIRONMENT);
        Ok(Place { root, name, dir })
    }

    /// The environment's name to Compose, which names project, network and volumes by it.
    pub(crate) fn environment(&self) -> String {
        format!("{ENVIRONMENT}-{}", self.name)
    }

    /// The Compose project.
    pub(crate) fn project(&self) -> String {
        format!("dagster-{}", self.environment())
    }

    /// The database that the assets are written to.
    pub(crate) fn warehouse(&self) -> String {
        format!("dagster_{ENVIRONMENT}_{}", self.name.replace('-', "_"))
    }

    /// Makes this checkout's platform ours, or fails if it is somebody's.
    pub(crate) fn hold(&self) -> Result<Held> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .with_context(|| format!("cannot make `{}`", self.dir.display()))?;
        let path = self.path("lock");
        let unlocked = || format!("cannot lock `{}`", path.display());
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(unlocked)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).with_context(unlocked)?;
                Ok(Held(file))
            }
            Err(TryLockError::WouldBlock) => {
                let told = fs::read_to_string(&path).unwrap_or_default();
                let told = if told.is_empty() { "it starts or stops just now" } else { &told };
                let error = anyhow!("`cargo xtask dev` runs in this checkout already: {told}");
                Err(Failure::refused(error).hint("stop it there with Ctrl-C"))
            }
            Err(TryLockError::Error(source)) => {
                Err(anyhow::Error::from(source).context(unlocked()).into())
            }
        }
    }

    /// The database's password, made when it is asked for the first time.
    pub(crate) fn password(&self) -> Result<String> {
        let path = self.path("postgres_password");
        if let Ok(password) = fs::read_to_string(&path) {
            return Ok(password);
        }
        let password = testbed::random_secret()?;
        self.write("postgres_password", &password, 0o600)?;
        Ok(password)
    }

    /// Where one of its files is.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Writes one of its files, with its folders. It is replaced as a whole.
    pub(crate) fn write(&self, file: &str, text: &str, mode: u32) -> Result<PathBuf> {
        let path = self.path(file);
        let unwritten = || format!("cannot write `{}`", path.display());
        let dir = path.parent().expect("it is below a folder");
        fs::create_dir_all(dir).with_context(unwritten)?;
        if mode & 0o004 != 0 {
            // Whatever the umask: a container that has it mounted reads it as another user.
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).with_context(unwritten)?;
        }
        let mut new = tempfile::NamedTempFile::new_in(dir).with_context(unwritten)?;
        new.write_all(text.as_bytes()).with_context(unwritten)?;
        let permissions = fs::Permissions::from_mode(mode);
        new.as_file().set_permissions(permissions).with_context(unwritten)?;
        new.persist(&path).with_context(unwritten)?;
        Ok(path)
    }

    /// Removes one of its folders.
    pub(crate) fn remove(&self, folder: &str) -> Result {
        let path = self.path(folder);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(anyhow::Error::from(error)
                    .context(format!("cannot remove `{}`", path.display()))
                    .into())
            }
            _ => Ok(()),
        }
    }
}

impl Held {
    /// Says where the platform is, to whoever tries to start another.
    pub(crate) fn tell(&mut self, url: &str) -> Result {
        write!(self.0, "{url} (process {})", std::process::id())
            .context("cannot write the lock")?;
        Ok(())
    }
}

/// Short enough for a database's name, which Postgres cuts after 63 characters.
fn name(root: &Path) -> String {
    let folder = root.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
    let folder: String = folder.chars().map(plain).take(24).collect();
    let mark = Fingerprint::of([root.as_os_str().as_encoded_bytes()]);
    format!("{}-{}", folder.trim_matches('-'), &mark.short()[..6])
        .trim_start_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_checkouts_side_by_side_share_no_name_and_no_place() {
        let temp = tempfile::tempdir().unwrap();
        let [one, two] = ["Sales Reports", "b/Sales Reports"].map(|it| {
            let root = temp.path().join(it);
            fs::create_dir_all(&root).unwrap();
            Place::of(&root).unwrap()
        });
        for of in [Place::project, Place::warehouse, |it: &Place| it.name.clone()] {
            assert_ne!(of(&one), of(&two));
        }
        assert_ne!(one.path("lock"), two.path("lock"));
        assert!(one.warehouse().starts_with("dagster_dev_sales_reports_"), "{}", one.warehouse());
        assert!(one.project().starts_with("dagster-dev-sales-reports-"), "{}", one.project());
    }

    #[test]
    fn any_folder_makes_a_name_that_engine_and_database_take() {
        for folder in
            ["/", "/a", "/Ünïcödé", "/--x--", "/a-very-long-name-of-a-folder-in-a-company"]
        {
            let name = name(Path::new(folder));
            let plain =
                name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
            assert!(plain && !name.starts_with('-') && name.len() <= 31, "{name}");
        }
    }

    #[test]
    fn a_second_start_in_a_checkout_is_told_where_the_first_is() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::of(temp.path()).unwrap();
        let mut held = place.hold().unwrap();
        assert_eq!(place.password().unwrap(), place.password().unwrap());
        held.tell("http://localhost:3000").unwrap();
        let refused = place.hold().err().unwrap().to_string();
        let told = "runs in this checkout already: http://localhost:3000 (process ";
        assert!(refused.contains(told), "{refused}");
        drop(held);
        place.hold().unwrap();
    }
}
