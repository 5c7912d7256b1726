//! Writes values into an environment's file: whole or not at all, and for nobody else's eyes.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    Error,
    line::{Line, parse, write},
    resolve::own_file,
};

/// Adds values to `.env.<environment>`, which is made if there is none. What stands there stays as
/// it is. Answers the file.
pub fn add(root: &Path, environment: &str, values: &[(String, String)]) -> Result<PathBuf, Error> {
    let path = own_file(environment);
    let failed = |source: io::Error| Error::File { path: path.clone(), source };
    // A link goes on being one.
    let file = fs::canonicalize(root.join(&path)).unwrap_or_else(|_| root.join(&path));
    let old = match fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let mut text = old.clone().unwrap_or_default();
    for (key, value) in values {
        let taken = |line: &str| matches!(parse(line), Ok(Line::Entry(it, _)) if it == *key);
        if text.split('\n').any(taken) {
            let message = format!("`{key}` stands there already");
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, message)));
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let line = write(key, value).map_err(|why| {
            failed(io::Error::new(io::ErrorKind::InvalidInput, format!("`{key}`: {why}")))
        })?;
        text.push_str(&line);
        text.push('\n');
    }
    // Made with mode 0600, beside the file, so that the rename is one step.
    let folder = file.parent().unwrap_or(root);
    let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    beside.write_all(text.as_bytes()).map_err(failed)?;
    beside.as_file().sync_all().map_err(failed)?;
    let kept = match old {
        Some(_) => beside.persist(&file),
        // Somebody else may have made it meanwhile.
        None => beside.persist_noclobber(&file),
    };
    kept.map_err(|it| failed(it.error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn what_stands_there_stays_and_nobody_else_may_read_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(".env.prod");
        fs::write(&file, "# mine\nA='x y'").unwrap();
        add(root.path(), "prod", &[pair("B", "it's"), pair("C", "a$b")]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "# mine\nA='x y'\nB=\"it's\"\nC='a$b'\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let error = add(root.path(), "prod", &[pair("D", "1"), pair("A", "2")]).unwrap_err();
        assert_eq!(error.to_string(), "cannot write `.env.prod`");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "`A` stands there already");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_new_file_is_made_and_a_link_stays_a_link() {
        let root = tempfile::tempdir().unwrap();
        add(root.path(), "dev", &[pair("A", "1")]).unwrap();
        let moved = root.path().join("elsewhere");
        fs::rename(root.path().join(".env.dev"), &moved).unwrap();
        std::os::unix::fs::symlink(&moved, root.path().join(".env.dev")).unwrap();
        add(root.path(), "dev", &[pair("B", "2")]).unwrap();
        assert_eq!(fs::read_to_string(moved).unwrap(), "A=1\nB=2\n");
        assert!(root.path().join(".env.dev").is_symlink());
    }
}
