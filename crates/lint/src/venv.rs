//! The Python environment that holds the linters: made by `uv` from the `uv.lock` of the index.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use exec::Cmd;

use crate::{
    Error,
    repo::{Entry, Repo},
    state::{self, State},
};

/// An environment.
pub(crate) struct Venv {
    pub(crate) python: PathBuf,
    /// Says which Python and which packages it holds, in which versions. Part of each verdict's
    /// name.
    pub(crate) identity: String,
}

/// How many environments are kept: that of another branch is likely to be wanted again.
const KEPT: usize = 2;

/// Prints where packages are, and then everything that makes a verdict another one.
const IDENTIFY: &str = "\
import importlib.metadata as m, sys, sysconfig
print(sysconfig.get_path('purelib'))
print(sys.version)
source = lambda it: it.read_text('direct_url.json') or ''
print(*sorted(f'{it.name} {it.version} {source(it)}' for it in m.distributions()), sep='\\n')
";

impl Venv {
    /// The environment that the index asks for; makes it if it is not there.
    ///
    /// `uv` answers the name of that program, and may install it first.
    pub(crate) fn locked(
        state: &State,
        repo: &Repo,
        entries: &[Entry],
        uv: &dyn Fn() -> Result<OsString, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Venv, Error> {
        let entry = |name: &str| entries.iter().find(|it| it.path == Path::new(name));
        let lock = entry("uv.lock").ok_or(Error::NoLock)?;
        let version = entry(".python-version");
        let name =
            state::name_of([Some(lock), version].into_iter().flatten().map(|it| it.oid.as_bytes()));
        let dir = state.path("venvs").join(&name[..16]);
        let (stamp, python) = (dir.join("lint-packages"), dir.join("bin/python"));
        // Its interpreter may be gone: it is a link to the system's.
        let is_whole = || stamp.exists() && python.exists();
        if is_whole() {
            return Venv::identified(python, &stamp);
        }
        let locked = state.lock()?;
        // Another lint may have made it meanwhile.
        if !is_whole() {
            if dir.exists() {
                // Cut off, it has packages that only look whole.
                fs::remove_dir_all(&dir).map_err(Error::file("remove", &dir))?;
            }
            let project = tempfile::tempdir_in(state.path(""))
                .map_err(Error::file("make a folder in", state.path("")))?;
            for name in ["uv.lock", ".python-version", "pyproject.toml"] {
                if let Some(entry) = entry(name) {
                    let path = project.path().join(name);
                    let content = repo.contents(&[&entry.oid])?.swap_remove(0);
                    fs::write(&path, content).map_err(Error::file("write", &path))?;
                }
            }
            let sync = Cmd::new(uv().map_err(Error::Uv)?)
                .args(["sync", "--frozen", "--quiet", "--no-install-project"])
                .arg("--project")
                .arg(project.path())
                .env("UV_PROJECT_ENVIRONMENT", &dir);
            locked.shared(|| Ok(sync.run()?))?;
            state::keep_newest(&state.path("venvs"), KEPT);
        }
        Venv::identified(python, &stamp)
    }

    /// An environment that somebody else made.
    pub(crate) fn given(state: &State, dir: &Path) -> Result<Venv, Error> {
        let python = dir.join("bin/python");
        let name = state::name_of([python.as_os_str().as_bytes()]);
        Venv::identified(python, &state.path("given").join(name))
    }

    /// Asks Python what it holds, unless neither it nor its packages changed since it was asked.
    fn identified(python: PathBuf, stamp: &Path) -> Result<Venv, Error> {
        if let Some(identity) = known(&python, stamp) {
            return Ok(Venv { python, identity });
        }
        let said = Cmd::new(&python).args(["-I", "-c", IDENTIFY]).read()?;
        let strange = || Error::Strange { program: "python", what: said.clone() };
        let (packages, _) = said.split_once('\n').ok_or_else(strange)?;
        let identity = state::name_of([said.as_bytes()]);
        if let Some(times) = times(&python, packages) {
            let text = format!("{packages}\n{times}\n{identity}\n");
            state::write(stamp, text.as_bytes()).map_err(Error::file("write", stamp))?;
        }
        Ok(Venv { python, identity })
    }
}

fn known(python: &Path, stamp: &Path) -> Option<String> {
    let text = fs::read_to_string(stamp).ok()?;
    let mut lines = text.lines();
    let (packages, then, identity) = (lines.next()?, lines.next()?, lines.next()?);
    (times(python, packages)? == then).then(|| identity.to_owned())
}

/// When the interpreter and the list of packages were changed last.
fn times(python: &Path, packages: &str) -> Option<String> {
    let of = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some(format!("{}.{}", meta.mtime(), meta.mtime_nsec()))
    };
    Some(format!("{} {}", of(python)?, of(Path::new(packages))?))
}
