//! What was saved: the files of the code, and those that what runs was made of.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use notify::{
    ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind,
};
use release::Location;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, timeout_at},
};

use super::ENVIRONMENT;
use crate::exit::{Failure, Result};

/// So long nothing is written once a save is done: editors write a file in several steps, and a
/// formatter or `git` many files.
const QUIET: Duration = Duration::from_millis(100);

/// What is written for longer than this is not waited for.
const LONGEST: Duration = Duration::from_secs(2);

/// A watch over a checkout, as long as it lives.
pub(crate) struct Watch {
    root: PathBuf,
    location: Location,
    events: UnboundedReceiver<notify::Result<Event>>,
    _watcher: RecommendedWatcher,
}

/// What was saved at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// When it began.
    pub(crate) at: Instant,
    /// The files of the code, from the root.
    pub(crate) code: BTreeSet<PathBuf>,
    /// The files that images, environment or mounts are made of: a reload does not reach those.
    pub(crate) made_of: BTreeSet<PathBuf>,
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn begin(root: &Path, location: &Location) -> Result<Watch> {
        let (send, events) = unbounded_channel();
        // Whoever listened may have gone.
        let note = move |event| drop(send.send(event));
        let mut watcher = notify::recommended_watcher(note).map_err(failed)?;
        let folders = [
            (location.as_str(), RecursiveMode::Recursive),
            ("", RecursiveMode::NonRecursive),
            ("compose", RecursiveMode::Recursive),
            ("env-templates", RecursiveMode::NonRecursive),
        ];
        for (folder, mode) in folders {
            watcher.watch(&root.join(folder), mode).map_err(failed)?;
        }
        Ok(Watch { root: root.to_owned(), location: location.clone(), events, _watcher: watcher })
    }

    /// Waits for a save, and for the end of it.
    pub(crate) async fn saved(&mut self) -> Result<Saved> {
        let mut saved: Option<Saved> = None;
        loop {
            let event = match &saved {
                None => self.events.recv().await,
                Some(it) => {
                    let end = (Instant::now() + QUIET).min(it.at + LONGEST);
                    let Ok(event) = timeout_at(end, self.events.recv()).await else { break };
                    event
                }
            };
            let event = event.ok_or_else(|| anyhow!("the watch over the files has ended"))?;
            self.note(&event.map_err(failed)?, &mut saved);
        }
        Ok(saved.expect("the wait ends with a save"))
    }

    fn note(&self, event: &Event, saved: &mut Option<Saved>) {
        // To read a file is no save; Python does so, and Docker.
        if event.kind.is_access() {
            return;
        }
        // Too much at once was not told one by one.
        let all = [self.root.join(self.location.as_str()).join("…")];
        let paths = if event.need_rescan() { &all[..] } else { &event.paths };
        let comes_or_goes = matches!(
            event.kind,
            EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        );
        for path in paths {
            let Ok(path) = path.strip_prefix(&self.root) else { continue };
            if path == Path::new(self.location.as_str()) && !comes_or_goes {
                continue;
            }
            let Some(what) = kind(path, &self.location) else { continue };
            let saved = saved.get_or_insert_with(|| Saved {
                at: Instant::now(),
                code: BTreeSet::new(),
                made_of: BTreeSet::new(),
            });
            match what {
                Kind::Code => saved.code.insert(path.to_owned()),
                Kind::MadeOf => saved.made_of.insert(path.to_owned()),
            };
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Code,
    MadeOf,
}

/// What a path from the root is to us; nothing, if its change means nothing.
fn kind(path: &Path, location: &Location) -> Option<Kind> {
    if path.components().any(|it| is_noise(it)) {
        return (path == Path::new(&format!(".env.{ENVIRONMENT}"))).then_some(Kind::MadeOf);
    }
    let template = Path::new("env-templates").join(ENVIRONMENT).with_extension("env");
    let made_of = [Path::new("uv.lock"), Path::new("pyproject.toml"), &template];
    match path.strip_prefix(location.as_str()) {
        // The folder itself is what the container has mounted: another one is not.
        Ok(inside) if inside.as_os_str().is_empty() => Some(Kind::MadeOf),
        Ok(_) => Some(Kind::Code),
        Err(_) if path.starts_with("compose") || made_of.contains(&path) => Some(Kind::MadeOf),
        Err(_) => None,
    }
}

/// What Python compiles, and what editors leave beside a file while they work on it.
fn is_noise(part: Component<'_>) -> bool {
    let name = part.as_os_str().to_string_lossy();
    name == "__pycache__"
        // Vim's and Emacs's `.a.py.swp`, `.#a.py`; caches of linters.
        || name.starts_with(['.', '#'])
        || name.ends_with(['~'])
        // JetBrains' `a.py___jb_tmp___`.
        || name.ends_with("___")
        || [".pyc", ".swp", ".tmp", ".bak"].iter().any(|it| name.ends_with(it))
        // Vim tries whether it may write, by a file `4913`.
        || name.bytes().all(|it| it.is_ascii_digit())
}

fn failed(error: notify::Error) -> Failure {
    let is_limit = matches!(error.kind, ErrorKind::MaxFilesWatch);
    let failure = Failure::from(anyhow::Error::from(error).context("cannot watch the files"));
    if is_limit {
        return failure.hint("allow more: sudo sysctl fs.inotify.max_user_watches=524288");
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn paths(of: &[&str]) -> BTreeSet<PathBuf> {
        of.iter().map(PathBuf::from).collect()
    }

    #[track_caller]
    fn check(expected: Option<&Kind>, all: &[&str]) {
        for path in all {
            assert_eq!(kind(Path::new(path), &Location::default()).as_ref(), expected, "{path}");
        }
    }

    #[test]
    fn only_what_is_served_or_runs_is_of_interest() {
        check(
            Some(&Kind::Code),
            &["dagster_core/assets.py", "dagster_core/sql/a.sql", "dagster_core/new_folder"],
        );
        check(
            Some(&Kind::MadeOf),
            &[
                "uv.lock",
                "pyproject.toml",
                ".env.dev",
                "env-templates/dev.env",
                "compose/dagster.yaml",
                "dagster_core",
            ],
        );
        check(
            None,
            &[
                "dagster_core/__pycache__/assets.cpython-312.pyc",
                "dagster_core/.assets.py.swp",
                "dagster_core/.#assets.py",
                "dagster_core/4913",
                "dagster_core/assets.py~",
                "dagster_core/assets.py___jb_tmp___",
                "README.md",
                ".env.prod",
                "env-templates/prod.env",
            ],
        );
    }

    #[tokio::test]
    async fn many_files_at_once_are_one_save_and_a_rename_is_one_too() {
        let temp = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(temp.path()).unwrap();
        for folder in ["dagster_core", "compose", "env-templates"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
        let mut watch = Watch::begin(&root, &Location::default()).unwrap();

        write("dagster_core/a.py", "a = 1");
        write("dagster_core/b.py", "b = 1");
        fs::create_dir(root.join("dagster_core/__pycache__")).unwrap();
        write("uv.lock", "");
        // On a busy machine they may be more than one.
        let (mut code, mut made_of) = (BTreeSet::new(), BTreeSet::new());
        while code.len() < 2 || made_of.is_empty() {
            let saved = watch.saved().await.unwrap();
            code.extend(saved.code);
            made_of.extend(saved.made_of);
        }
        assert_eq!(code, paths(&["dagster_core/a.py", "dagster_core/b.py"]));
        assert_eq!(made_of, paths(&["uv.lock"]));

        // As vim saves, and others: beside, and then in its place. To read it is nothing.
        fs::read(root.join("dagster_core/b.py")).unwrap();
        write("dagster_core/.a.py.swp", "a = 2");
        fs::rename(root.join("dagster_core/.a.py.swp"), root.join("dagster_core/a.py")).unwrap();
        assert_eq!(watch.saved().await.unwrap().code, paths(&["dagster_core/a.py"]));
    }
}
