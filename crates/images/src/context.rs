//! What a build is given: the files that its Dockerfile may copy.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;
use release::Fingerprint;
use tar::EntryType;

use crate::Error;

/// What a build is given.
#[derive(Clone)]
pub struct Context {
    pub(crate) files: Files,
    /// The Dockerfile's text.
    pub(crate) dockerfile: String,
}

/// Files, sorted, without times and owners: the same files are the same layer.
#[derive(Clone)]
pub struct Files(Vec<File>);

#[derive(Clone)]
struct File {
    path: PathBuf,
    executable: bool,
    bytes: Vec<u8>,
}

impl Context {
    /// Reads what is below `root`, but for what `<dockerfile>.dockerignore` (or `.dockerignore`)
    /// leaves out. Links are followed.
    pub fn read(root: &Path, dockerfile: &Path) -> Result<Context, Error> {
        let rules = Rules::read(root, dockerfile)?;
        let enter = {
            let (rules, dockerfile) = (rules.clone(), dockerfile.to_owned());
            move |path: &Path| rules.may_hold(path) || dockerfile.starts_with(path)
        };
        let files = read(root, root, enter, |path| path == dockerfile || rules.keep(path))?;
        let text = files.iter().find(|it| it.path == dockerfile);
        let Some(text) = text else {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(Error::File { path: dockerfile.to_owned(), source });
        };
        let dockerfile = String::from_utf8_lossy(&text.bytes).into_owned();
        Ok(Context { files: Files(files), dockerfile })
    }

    /// Of the files.
    pub fn fingerprint(&self) -> Fingerprint {
        self.files.fingerprint()
    }
}

impl Files {
    /// Reads a folder of code below `root`, but for what Python compiled and for files of settings.
    /// Links are followed.
    pub fn read(root: &Path, dir: &Path) -> Result<Files, Error> {
        let code = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let compiled = path.extension().is_some_and(|it| it == "pyc");
            !(name == "__pycache__" || name.starts_with(".env") || compiled)
        };
        Ok(Files(read(root, &root.join(dir), code, code)?))
    }

    /// Of names, contents and whether a file is executable; not of times.
    pub fn fingerprint(&self) -> Fingerprint {
        let parts = self.0.iter().flat_map(|it| {
            let executable: &[u8] = if it.executable { b"x" } else { b"-" };
            [it.path.as_os_str().as_encoded_bytes(), executable, &it.bytes]
        });
        Fingerprint::of(parts)
    }

    /// As an engine takes them: root's, of 1970, below `at`.
    pub(crate) fn tar(&self, at: &Path) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |kind: EntryType, mode: u32, path: &Path, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(bytes.len() as u64);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, at.join(path), bytes)
                .expect("writing into memory does not fail");
        };
        let mut folders = BTreeSet::new();
        for file in &self.0 {
            let mut above: Vec<&Path> = file.path.ancestors().skip(1).collect();
            // The last is the empty path.
            above.pop();
            for folder in above.into_iter().rev() {
                if folders.insert(folder) {
                    add(EntryType::Directory, 0o755, folder, &[]);
                }
            }
            let mode = if file.executable { 0o755 } else { 0o644 };
            add(EntryType::Regular, mode, &file.path, &file.bytes);
        }
        tar.into_inner().expect("writing into memory does not fail")
    }
}

/// Reads the files below `start`, named from `root`: what is kept of the folders that are entered.
fn read(
    root: &Path,
    start: &Path,
    enter: impl Fn(&Path) -> bool + Send + Sync + 'static,
    keep: impl Fn(&Path) -> bool,
) -> Result<Vec<File>, Error> {
    let below = root.to_owned();
    let walk = WalkBuilder::new(start)
        .standard_filters(false)
        .follow_links(true)
        .sort_by_file_path(Ord::cmp)
        .filter_entry(move |entry| {
            let path = entry.path().strip_prefix(&below).unwrap_or(entry.path());
            enter(path) || !entry.file_type().is_some_and(|it| it.is_dir())
        })
        .build();
    let mut files = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|error| {
            let source =
                error.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of links"));
            Error::File { path: start.to_owned(), source }
        })?;
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
        if !keep(&path) || !entry.file_type().is_some_and(|it| it.is_file()) {
            continue;
        }
        let error = |source| Error::File { path: path.clone(), source };
        let mode = fs::metadata(entry.path()).map_err(error)?.permissions().mode();
        let bytes = fs::read(entry.path()).map_err(error)?;
        files.push(File { executable: mode & 0o111 != 0, bytes, path });
    }
    Ok(files)
}

/// The rules of a `.dockerignore`, in order: the last that matches a path, or a folder above it,
/// decides.
#[derive(Clone)]
struct Rules(Vec<Rule>);

#[derive(Clone)]
struct Rule {
    keep: bool,
    pattern: String,
    matcher: GlobMatcher,
}

impl Rules {
    fn read(root: &Path, dockerfile: &Path) -> Result<Rules, Error> {
        let own = PathBuf::from(format!("{}.dockerignore", dockerfile.display()));
        for path in [own, PathBuf::from(".dockerignore")] {
            match fs::read_to_string(root.join(&path)) {
                Ok(text) => return Rules::parse(&path, &text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { path, source }),
            }
        }
        Ok(Rules(Vec::new()))
    }

    fn parse(path: &Path, text: &str) -> Result<Rules, Error> {
        let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
        let rules = lines.map(|line| {
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = pattern.trim_matches('/').to_owned();
            let matcher = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .build()
                .map_err(|source| Error::Pattern {
                    path: path.to_owned(),
                    pattern: line.to_owned(),
                    source,
                })?
                .compile_matcher();
            Ok(Rule { keep, pattern, matcher })
        });
        Ok(Rules(rules.collect::<Result<_, _>>()?))
    }

    fn keep(&self, path: &Path) -> bool {
        let mut keep = true;
        for rule in &self.0 {
            if path.ancestors().any(|it| !it.as_os_str().is_empty() && rule.matcher.is_match(it)) {
                keep = rule.keep;
            }
        }
        keep
    }

    /// Whether a folder need be looked into: it is kept, or something below it may be.
    fn may_hold(&self, dir: &Path) -> bool {
        let below = |rule: &Rule| {
            let fixed = rule.pattern.split(['*', '?', '[']).next().unwrap_or_default();
            let (fixed, dir) = (fixed.trim_end_matches('/'), dir.to_string_lossy());
            fixed.starts_with(&*dir) || dir.starts_with(fixed)
        };
        self.keep(dir) || self.0.iter().any(|it| it.keep && below(it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ignore: &str, kept: &[&str], left_out: &[&str]) {
        let rules = Rules::parse(Path::new(".dockerignore"), ignore).unwrap();
        for path in kept {
            assert!(rules.keep(Path::new(path)), "{path} must be kept");
            for dir in Path::new(path).ancestors().skip(1) {
                assert!(rules.may_hold(dir), "{} must be looked into", dir.display());
            }
        }
        for path in left_out {
            assert!(!rules.keep(Path::new(path)), "{path} must be left out");
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        check("", &["a", "a/b"], &[]);
        check(".git\n**/node_modules\n", &["a", "a/.git"], &[".git/HEAD", "a/node_modules/b"]);
        check("*.log\n", &["a/b.log"], &["b.log"]);
        check("dir/*\n!dir/keep\n", &["dir/keep", "dir/keep/a"], &["dir/other"]);
        check("*\n!code\n!lock\n", &["code/a/b", "lock"], &["other", "other/code"]);
        check("*\n!code\n**/__pycache__\n", &["code/a"], &["code/__pycache__/a"]);
        check("# comment\n\n/a/\n", &["b"], &["a", "a/b"]);
    }

    fn checkout() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
        fs::create_dir_all(root.path().join("code/inner")).unwrap();
        fs::create_dir_all(root.path().join("build")).unwrap();
        write("build/Dockerfile", "FROM scratch\n");
        write("build/Dockerfile.dockerignore", "*\n!code\n");
        write("code/b", "b");
        write("code/inner/a", "a");
        write("README", "no");
        root
    }

    fn names(files: &Files) -> Vec<&str> {
        files.0.iter().map(|it| it.path.to_str().unwrap()).collect()
    }

    fn fingerprint(root: &tempfile::TempDir) -> Fingerprint {
        Context::read(root.path(), Path::new("build/Dockerfile")).unwrap().fingerprint()
    }

    #[test]
    fn holds_what_is_kept_and_the_dockerfile() {
        let context = Context::read(checkout().path(), Path::new("build/Dockerfile")).unwrap();
        assert_eq!(names(&context.files), ["build/Dockerfile", "code/b", "code/inner/a"]);
    }

    #[test]
    fn a_folder_of_code_is_read_without_what_python_compiled_and_without_settings() {
        let root = checkout();
        fs::create_dir(root.path().join("code/__pycache__")).unwrap();
        for path in ["code/__pycache__/b.pyc", "code/b.pyc", "code/.env.prod"] {
            fs::write(root.path().join(path), "no").unwrap();
        }
        let code = Files::read(root.path(), Path::new("code")).unwrap();
        assert_eq!(names(&code), ["code/b", "code/inner/a"]);
    }

    #[test]
    fn becomes_a_tar_of_root_and_of_no_time_with_its_folders() {
        let code = Files::read(checkout().path(), Path::new("code")).unwrap();
        let tar = code.tar(Path::new("opt/app"));
        let mut tar = tar::Archive::new(tar.as_slice());
        let entries = tar.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 0);
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            format!("{} {:o}", entry.path().unwrap().display(), header.mode().unwrap())
        });
        assert_eq!(
            entries.collect::<Vec<_>>(),
            [
                "opt/app/code 755",
                "opt/app/code/b 644",
                "opt/app/code/inner 755",
                "opt/app/code/inner/a 644"
            ]
        );
    }

    #[test]
    fn its_fingerprint_is_of_content_and_not_of_times() {
        let root = checkout();
        let before = fingerprint(&root);
        let path = root.path().join("code/b");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "b").unwrap();
        fs::write(root.path().join("README"), "changed").unwrap();
        assert_eq!(fingerprint(&root), before);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let executable = fingerprint(&root);
        assert_ne!(executable, before);
        fs::write(&path, "c").unwrap();
        assert_ne!(fingerprint(&root), executable);
    }

    #[test]
    fn a_missing_dockerfile_is_named() {
        let error = Context::read(checkout().path(), Path::new("No.Dockerfile")).err().unwrap();
        assert_eq!(error.to_string(), "cannot read `No.Dockerfile`");
    }
}
