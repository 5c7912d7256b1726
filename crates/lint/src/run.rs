//! A lint, from the question to the report.

use std::{
    collections::HashSet,
    ffi::OsString,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use crate::{
    Error,
    finding::{Finding, Report},
    fix,
    judge::{self, Judgement, Place, Work},
    linter::{LINTERS, Linter},
    repo::{Entry, Index, Repo, Staged},
    script,
    state::State,
    tree::Tree,
    venv::Venv,
};

/// What is to be judged, and by whom.
pub struct Request<'a> {
    /// The checkout.
    pub root: &'a Path,
    /// A folder for what is the lint's own: the environment of the linters, a copy of the index,
    /// verdicts. It may be removed at any time between lints.
    pub state: &'a Path,
    /// Which files.
    pub scope: Scope,
    /// Only these linters; all if there are none.
    pub only: Vec<String>,
    /// Mends what can be mended.
    pub fix: bool,
    /// Asks a process that an earlier lint left behind, and leaves one behind, which makes the next
    /// lint faster; it ends by itself.
    pub worker: bool,
    /// The environment of the linters; none for that of `uv.lock`.
    pub venv: Option<&'a Path>,
    /// Answers the name of the program `uv`, which it may install first.
    pub uv: &'a dyn Fn() -> Result<OsString, Box<dyn std::error::Error + Send + Sync>>,
    /// Told before anything is run that may take long: how many files the linters are given.
    pub starts: &'a (dyn Fn(usize) + Sync),
}

/// The files in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those that differ from what was last committed. Where nothing does but files that no linter
    /// looks at by their names, nothing is judged, though a link may lead to one of them.
    Staged,
    /// All that are in the index.
    All,
    /// Those that differ from a revision.
    Since(String),
    /// These, and those in these folders; paths from the repository's root.
    Paths(Vec<PathBuf>),
}

/// So often the linters mend what another one mended.
const ROUNDS: usize = 3;

/// Judges, and mends if that is asked for.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let began = Instant::now();
    let lint = Lint {
        request,
        repo: Repo::new(request.root),
        state: State::open(request.state)?,
        linters: LINTERS
            .iter()
            .filter(|it| request.only.is_empty() || request.only.iter().any(|name| name == it.name))
            .collect(),
    };
    let mut report = lint.judge()?;
    if request.fix {
        let mut mended = fix::Mended::default();
        for _ in 0..ROUNDS {
            if !lint.mend(&report, &mut mended)? {
                break;
            }
            report = Report { judged: report.judged, ..lint.judge()? };
        }
        mended.tell(&mut report);
    }
    report.took = began.elapsed();
    Ok(report)
}

struct Lint<'a> {
    request: &'a Request<'a>,
    repo: Repo,
    state: State,
    linters: Vec<&'static Linter>,
}

impl Lint<'_> {
    fn judge(&self) -> Result<Report, Error> {
        let mut changed = match &self.request.scope {
            Scope::Staged => Some(self.repo.staged(None)?),
            Scope::Since(rev) => Some(self.repo.staged(Some(rev))?),
            Scope::All | Scope::Paths(_) => None,
        };
        let mut linters = self.linters.clone();
        if let Some(changed) = &changed {
            linters.retain(|it| concerns(it, changed, changed.may_have_script()));
        }
        if linters.is_empty() {
            return Ok(Report::default());
        }

        let index = self.index()?;
        if let Some(changed) = &mut changed {
            let is_changed = |it: &&Entry| {
                it.target.as_ref().is_some_and(|target| changed.paths.contains(target))
            };
            let links: Vec<PathBuf> =
                index.entries.iter().filter(is_changed).map(|it| it.path.clone()).collect();
            changed.paths.extend(links);
            let script =
                index.entries.iter().any(|it| it.script && changed.paths.contains(&it.path));
            linters.retain(|it| concerns(it, changed, script));
        }
        let in_question = self.in_question(&index, changed.as_ref().map(|it| &it.paths))?;
        let files: Vec<&Entry> = index
            .entries
            .iter()
            .filter(|it| it.is_file() && in_question(&it.path))
            .filter(|it| linters.iter().any(|linter| judge::judges(linter, it)))
            .collect();
        let unmerged = index.unmerged.iter().filter(|it| in_question(it)).map(|it| unmerged(it));
        let mut report =
            Report { files: files.len(), findings: unmerged.collect(), ..Report::default() };

        if linters.is_empty() {
            return Ok(report);
        }
        let venv = self.venv(&index.entries)?;
        linters.retain(|linter| index.entries.iter().any(|it| judge::judges(linter, it)));
        let (state, repo) = (&self.state, &self.repo);
        let work = |it: &'static Linter| Work::new(state, repo, &venv, it, &index.entries, &files);
        let known = at_once(&linters, |it| Ok(work(it)?.known()))?;
        let mut unknown = Vec::new();
        for (linter, known) in linters.into_iter().zip(known) {
            match known {
                Some(findings) => report.findings.extend(findings),
                None => unknown.push(linter),
            }
        }
        if !unknown.is_empty() {
            (self.request.starts)(files.len());
            let _locked = self.state.lock()?;
            let tree = Tree::sync(&self.state, &self.repo, &index.entries)?;
            let place = Place {
                yields: unknown.iter().any(|it| it.judges_program()),
                ..self.place(&venv, &tree)
            };
            // Another lint may have learnt it while this one waited.
            let judgements = at_once(&unknown, |it| work(it)?.judge(&place))?;
            place.start_worker();
            for judgement in judgements {
                match judgement {
                    Judgement::Done { findings, judged } => {
                        report.findings.extend(findings);
                        report.judged += judged;
                    }
                    Judgement::Crashed(crash) => report.crashes.push(crash),
                }
            }
        }
        if let Scope::Paths(_) = self.request.scope {
            // A whole program was judged; these files are asked for.
            report.findings.retain(|it| in_question(&it.path));
        }
        report.findings.sort();
        report.findings.dedup();
        Ok(report)
    }

    /// The index. A configuration or a source that is a link is the file that it leads to.
    fn index(&self) -> Result<Index, Error> {
        let mut index = self.repo.index()?;
        self.repo.follow(&mut index.entries, |path| {
            let is_read =
                |it: &Linter| judge::configures(it, path) || judge::judges_by_name(it, path);
            LINTERS.iter().any(is_read)
        })?;
        script::mark(&self.state, &self.repo, &mut index.entries)?;
        Ok(index)
    }

    /// Whether a path is in question.
    fn in_question<'a>(
        &'a self,
        index: &Index,
        changed: Option<&'a HashSet<PathBuf>>,
    ) -> Result<impl Fn(&Path) -> bool + 'a, Error> {
        let paths: &[PathBuf] = match &self.request.scope {
            Scope::Paths(paths) => paths,
            _ => &[],
        };
        for path in paths {
            let mut known = index.entries.iter().map(|it| &it.path).chain(&index.unmerged);
            if !known.any(|it| it.starts_with(path)) {
                return Err(Error::Untracked { path: path.clone() });
            }
        }
        let all = self.request.scope == Scope::All;
        Ok(move |path: &Path| {
            all || changed.is_some_and(|it| it.contains(path))
                || paths.iter().any(|it| path.starts_with(it))
        })
    }

    fn place<'a>(&'a self, venv: &'a Venv, tree: &'a Tree) -> Place<'a> {
        Place { state: &self.state, venv, tree, worker: self.request.worker, yields: false }
    }

    fn venv(&self, entries: &[Entry]) -> Result<Venv, Error> {
        match self.request.venv {
            Some(dir) => Venv::given(&self.state, dir),
            None => Venv::locked(&self.state, &self.repo, entries, self.request.uv),
        }
    }

    /// Whether anything was mended.
    fn mend(&self, report: &Report, mended: &mut fix::Mended) -> Result<bool, Error> {
        let index = self.index()?;
        let venv = self.venv(&index.entries)?;
        let locked = self.state.lock()?;
        let tree = Tree::sync(&self.state, &self.repo, &index.entries)?;
        fix::mend(
            &fix::Mend {
                root: self.request.root,
                repo: &self.repo,
                locked: &locked,
                place: &self.place(&venv, &tree),
                linters: &self.linters,
                findings: &report.findings,
            },
            mended,
        )
    }
}

/// Has something done for each linter, in as many threads.
fn at_once<T: Send>(
    linters: &[&'static Linter],
    each: impl Fn(&'static Linter) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    thread::scope(|scope| {
        let each = &each;
        let running: Vec<_> = linters.iter().map(|it| scope.spawn(move || each(it))).collect();
        running.into_iter().map(|it| it.join().expect("a linter's thread does not panic")).collect()
    })
}

/// Whether what changed can change what a linter says of it; `script` is whether a script is among it.
fn concerns(linter: &Linter, changed: &Staged, script: bool) -> bool {
    let is_program = linter.judges_program();
    let matters = |path: &PathBuf| {
        judge::judges_by_name(linter, path)
            || is_program && (judge::configures(linter, path) || path == Path::new("uv.lock"))
    };
    changed.paths.iter().any(matters)
        // Where a link leads says what is in the program, and a script may be named as part of it.
        || is_program && changed.links
        || script && (is_program || linter.scripts)
}

fn unmerged(path: &Path) -> Finding {
    Finding {
        path: path.to_owned(),
        line: None,
        column: None,
        linter: "git".to_owned(),
        code: "unmerged".to_owned(),
        message: "is in conflict; resolve it and stage it".to_owned(),
    }
}
