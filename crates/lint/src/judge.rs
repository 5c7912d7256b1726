//! Calls linters, and asks for no verdict twice.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use exec::{Cmd, Output};

use crate::{
    Error, config,
    finding::{Crash, Finding},
    linter::{Linter, Unit, Walk},
    repo::{Entry, Mode, Repo},
    state::{self, State},
    tree::{self, Tree},
    venv::Venv,
    verdicts::Verdicts,
    worker::Worker,
};

/// Changed when verdicts of an earlier version of this program must not be trusted.
const VERSION: &str = "4";

/// What one linter is to judge, and what is known of it.
pub(crate) struct Work<'a> {
    pub(crate) linter: &'static Linter,
    entries: &'a [Entry],
    files: Vec<&'a Entry>,
    plugins: Vec<&'a Entry>,
    /// Everything that a verdict depends on, besides the file.
    context: String,
    verdicts: Verdicts<Vec<Finding>>,
    /// Whether the linter, called on the whole repository, looks at a file.
    walked: Verdicts<bool>,
}

/// What came of it.
pub(crate) enum Judgement {
    Done { findings: Vec<Finding>, judged: usize },
    Crashed(Crash),
}

impl<'a> Work<'a> {
    /// `files` are in question; `entries` are the whole index.
    pub(crate) fn new(
        state: &State,
        repo: &Repo,
        venv: &Venv,
        linter: &'static Linter,
        entries: &'a [Entry],
        files: &[&'a Entry],
    ) -> Result<Work<'a>, Error> {
        let plugins = plugins(state, repo, linter, entries)?;
        let context = context(venv, linter, entries, &plugins);
        let (name, walked) = match linter.unit {
            Unit::Program { .. } => (linter.name.to_owned(), String::new()),
            _ => (format!("{}-{context}", linter.name), format!("{}-walk-{context}", linter.name)),
        };
        let files = files.iter().copied().filter(|it| judges(linter, it)).collect();
        let verdicts = Verdicts::load(state, &name);
        let walked = Verdicts::load(state, &walked);
        Ok(Work { linter, entries, files, plugins, context, verdicts, walked })
    }

    /// The findings, if nothing has to be run for them.
    pub(crate) fn known(&mut self) -> Option<Vec<Finding>> {
        if let Unit::Program { .. } = self.linter.unit {
            let mut findings = self.verdicts.get(&self.context)?.clone();
            if !findings.is_empty() {
                let aliases = tree::aliases(self.entries);
                for finding in &mut findings {
                    if let Some(path) = aliases.get(&finding.path) {
                        finding.path.clone_from(path);
                    }
                }
            }
            return Some(findings);
        }
        let mut findings = Vec::new();
        for entry in &self.files {
            if self.linter.walk.is_none() || *self.walked.get(&path_name(entry))? {
                let known = self.verdicts.get(&content_name(entry))?.iter().cloned();
                findings.extend(known.map(|it| Finding { path: entry.path.clone(), ..it }));
            }
        }
        Some(findings)
    }

    /// Runs the linter on what is not known.
    pub(crate) fn judge(mut self, place: &Place<'_>) -> Result<Judgement, Error> {
        let call = Call { place, linter: self.linter };
        let learnt = match self.linter.unit {
            Unit::Program { target } => call.program(self.entries, target)?.map(|findings| {
                self.verdicts.learn(self.context.clone(), findings);
                1
            }),
            Unit::File | Unit::FileAmongFiles => self.judge_files(&call)?,
        };
        let judgement = match learnt {
            Ok(judged) => Judgement::Done {
                findings: self.known().expect("what was not known was just learnt"),
                judged,
            },
            Err(crash) => Judgement::Crashed(crash),
        };
        self.verdicts.save(place.state);
        self.walked.save(place.state);
        Ok(judgement)
    }

    fn judge_files(&mut self, call: &Call<'_>) -> Result<Result<usize, Crash>, Error> {
        if let Some(walk) = self.linter.walk {
            let walked = &mut self.walked;
            let new: Vec<&Entry> = self
                .files
                .iter()
                .copied()
                .filter(|it| walked.get(&path_name(it)).is_none())
                .collect();
            match call.walk(walk, self.entries, &self.plugins, &new)? {
                Ok(seen) => {
                    for entry in new {
                        walked.learn(path_name(entry), seen.contains(&entry.path));
                    }
                }
                Err(crash) => return Ok(Err(crash)),
            }
        }
        let (walked, verdicts) = (&mut self.walked, &mut self.verdicts);
        let new: Vec<&Entry> = self
            .files
            .iter()
            .copied()
            .filter(|it| self.linter.walk.is_none() || walked.get(&path_name(it)) == Some(&true))
            .filter(|it| verdicts.get(&content_name(it)).is_none())
            .collect();
        let mut by_path: HashMap<PathBuf, Vec<Finding>> = HashMap::new();
        match call.files(self.linter.check, &new)? {
            Ok(findings) => {
                for finding in findings {
                    by_path.entry(finding.path.clone()).or_default().push(finding);
                }
            }
            Err(crash) => return Ok(Err(crash)),
        }
        for entry in &new {
            let findings = by_path.remove(&entry.path).unwrap_or_default();
            verdicts.learn(content_name(entry), findings);
        }
        if let Some(path) = by_path.keys().next() {
            // A finding that is nobody's would be lost.
            let what = format!("a finding of {} in {}", self.linter.name, path.display());
            return Err(Error::Strange { program: self.linter.module, what });
        }
        Ok(Ok(new.len()))
    }
}

/// Whether a linter judges a file.
pub(crate) fn judges(linter: &Linter, entry: &Entry) -> bool {
    let elsewhere = |target: &PathBuf| linter.resolves && judges_by_name(linter, target);
    !entry.target.as_ref().is_some_and(elsewhere)
        && (judges_by_name(linter, &entry.path) || (linter.scripts && entry.script))
}

/// Whether a linter judges a file, whatever is in it.
pub(crate) fn judges_by_name(linter: &Linter, path: &Path) -> bool {
    path.extension().is_some_and(|it| linter.endings.iter().any(|ending| it == *ending))
}

/// Whether a file's content is part of a linter's configuration.
pub(crate) fn configures(linter: &Linter, path: &Path) -> bool {
    path.file_name().is_some_and(|it| linter.configs.iter().any(|name| it == *name))
}

/// A file's path, as a word of ASCII.
fn path_name(entry: &Entry) -> String {
    entry.path.as_os_str().as_bytes().escape_ascii().to_string().replace(' ', "\\x20")
}

fn content_name(entry: &Entry) -> String {
    format!("{}:{:?}:{}", entry.oid, entry.mode, path_name(entry))
}

/// The sources of the repository that are part of this linter: its plugins, and what they may
/// import.
fn plugins<'a>(
    state: &State,
    repo: &Repo,
    linter: &Linter,
    entries: &'a [Entry],
) -> Result<Vec<&'a Entry>, Error> {
    let Some(folders_of) = linter.plugins else { return Ok(Vec::new()) };
    let mut known: Verdicts<Vec<PathBuf>> =
        Verdicts::load(state, &format!("{}-plugins", linter.name));
    let mut folders = Vec::new();
    for entry in entries {
        if !configures(linter, &entry.path) || entry.path.components().count() > 1 {
            continue;
        }
        if known.get(&entry.oid).is_none() {
            let content = repo.contents(&[&entry.oid])?.swap_remove(0);
            known.learn(entry.oid.clone(), folders_of(&String::from_utf8_lossy(&content)));
        }
        folders.extend(known.get(&entry.oid).into_iter().flatten().cloned());
    }
    known.save(state);
    let is_plugin = |it: &&Entry| folders.iter().any(|folder| it.path.starts_with(folder));
    Ok(entries.iter().filter(|it| judges(linter, it)).filter(is_plugin).collect())
}

fn context(venv: &Venv, linter: &Linter, entries: &[Entry], plugins: &[&Entry]) -> String {
    let mut parts: Vec<&[u8]> = vec![
        VERSION.as_bytes(),
        env!("CARGO_PKG_VERSION").as_bytes(),
        linter.name.as_bytes(),
        venv.identity.as_bytes(),
    ];
    parts.extend(linter.check.iter().map(|it| it.as_bytes()));
    let program = linter.judges_program();
    for entry in entries {
        let is_part = judges_by_name(linter, &entry.path) || entry.script;
        if configures(linter, &entry.path) || (program && is_part) {
            parts.extend([entry.path.as_os_str().as_bytes(), entry.oid.as_bytes()]);
        }
    }
    if linter.unit != Unit::File {
        // Where a link leads says what a package holds.
        for entry in entries.iter().filter(|it| it.mode == Mode::Link) {
            parts.extend([entry.path.as_os_str().as_bytes(), entry.oid.as_bytes()]);
        }
    }
    parts.push(b"plugins");
    for entry in plugins {
        parts.extend([entry.path.as_os_str().as_bytes(), entry.oid.as_bytes()]);
    }
    // What is not a part of any program's, but whether it is there counts: each folder is a package.
    let mut there = BTreeSet::new();
    if linter.unit != Unit::File {
        for entry in entries {
            there.extend(entry.path.ancestors().skip(1).map(Path::as_os_str));
            if entry.mode == Mode::Submodule || judges(linter, entry) {
                there.insert(entry.path.as_os_str());
            }
            // Its content says whether a package is one of several under one name.
            if entry.path.file_stem().is_some_and(|it| it == "__init__") {
                parts.extend([entry.path.as_os_str().as_bytes(), entry.oid.as_bytes()]);
            }
        }
    }
    parts.push(b"there");
    parts.extend(there.iter().map(|it| it.as_bytes()));
    state::name_of(parts)
}

/// Where linters work.
pub(crate) struct Place<'a> {
    pub(crate) state: &'a State,
    pub(crate) venv: &'a Venv,
    pub(crate) tree: &'a Tree,
    /// Whether a worker is asked, and started.
    pub(crate) worker: bool,
    /// Whether linters of single files leave the processor to one of the whole program: that has
    /// one thread, and the others, which have many, are waited for as long as for it.
    pub(crate) yields: bool,
}

/// How a linter is called.
pub(crate) struct Call<'a> {
    pub(crate) place: &'a Place<'a>,
    pub(crate) linter: &'static Linter,
}

/// More files than this are not the worker's: for them, imports do not count.
const FEW: usize = 50;

/// A linter's own cache of more bytes than this is forgotten: it keeps what is no longer there.
const CACHE: u64 = 1_000_000_000;

/// How much a linter yields that does.
const NICENESS: u8 = 10;

/// So many bytes of names are given to one call.
const NAMES: usize = 100_000;

impl Call<'_> {
    /// Its findings in these files, by the names they have in the repository.
    fn files(&self, args: &[&str], files: &[&Entry]) -> Result<Result<Vec<Finding>, Crash>, Error> {
        let mut findings = Vec::new();
        let mut batches = batches(files.iter().map(|it| it.path.as_path()));
        while let Some(names) = batches.pop() {
            let output = self.run(self.place.tree.root(), args, &names)?;
            let Some(found) = (self.linter.parse)(&output) else {
                return Ok(Err(self.crash(&output)));
            };
            let is_nameless = |it: &Finding| it.path.as_os_str().is_empty();
            if names.len() > 1 && found.iter().any(is_nameless) {
                // It stopped at one of them, and what comes after was not judged.
                batches.extend(names.chunks(names.len().div_ceil(2)).map(<[_]>::to_vec));
                continue;
            }
            findings.extend(found.into_iter().map(|it| {
                let path = if is_nameless(&it) { Path::new(&names[0]) } else { &it.path };
                Finding { path: self.place.tree.original(path), ..it }
            }));
        }
        Ok(Ok(findings))
    }

    /// Mends these files in the copy. Answers whether all of it went well: otherwise a file may be
    /// cut off. The worker is not asked: where it does not answer, it may still write.
    pub(crate) fn fix(&self, args: &[&str], files: &[&Path]) -> Result<bool, Error> {
        for names in batches(files.iter().copied()) {
            if !self.run_here(self.place.tree.root(), &argv(args, &names))?.status.success() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Its findings in the whole program, by the names that the copy has: what is learnt is text.
    fn program(
        &self,
        entries: &[Entry],
        target: &str,
    ) -> Result<Result<Vec<Finding>, Crash>, Error> {
        let targets: Vec<OsString> =
            if self.names_targets(entries) { vec![] } else { vec![target.into()] };
        let cache = self.place.state.path("home").join(self.linter.name);
        state::forget_large(&cache, CACHE);
        let mut output = self.run(self.place.tree.root(), self.linter.check, &targets)?;
        if (self.linter.parse)(&output).is_none() {
            // Its own cache may be damaged.
            let _ = fs::remove_dir_all(&cache);
            output = self.run(self.place.tree.root(), self.linter.check, &targets)?;
        }
        Ok((self.linter.parse)(&output)
            .map(|found| {
                let named = found.into_iter();
                named.map(|it| Finding { path: self.place.tree.below(&it.path), ..it }).collect()
            })
            .ok_or_else(|| self.crash(&output)))
    }

    /// Whether the configuration says what the program is.
    fn names_targets(&self, entries: &[Entry]) -> bool {
        let first = self.linter.configs.iter().find_map(|name| {
            let path = Path::new(name);
            let text = entries
                .iter()
                .any(|it| it.path == path)
                .then(|| fs::read_to_string(self.place.tree.root().join(path)).ok())??;
            // `[tool.mypy]`, `[mypy]`, and the same for its modules.
            config::section(&text, self.linter.name)
        });
        first.is_some_and(|text| config::names_targets(&text))
    }

    /// Which of these files the linter looks at when it is called on the whole repository.
    fn walk(
        &self,
        walk: Walk,
        entries: &[Entry],
        plugins: &[&Entry],
        files: &[&Entry],
    ) -> Result<Result<BTreeSet<PathBuf>, Crash>, Error> {
        if files.is_empty() {
            return Ok(Ok(BTreeSet::new()));
        }
        match walk {
            Walk::Listed(args) => self.list(args),
            Walk::Probed(args) => self.probe(args, entries, plugins, files),
        }
    }

    fn list(&self, args: &[&str]) -> Result<Result<BTreeSet<PathBuf>, Crash>, Error> {
        let output = self.run(self.place.tree.root(), args, &[".".into()])?;
        if !output.status.success() {
            return Ok(Err(self.crash(&output)));
        }
        let listed = String::from_utf8_lossy(&output.stdout);
        // Of a folder that a link leads to as well, either name may be listed.
        let root = self.place.tree.root();
        let real = |it: &str| fs::canonicalize(root.join(it)).unwrap_or_else(|_| it.into());
        Ok(Ok(listed.lines().map(|it| self.place.tree.original(&real(it))).collect()))
    }

    fn probe(
        &self,
        args: &[&str],
        entries: &[Entry],
        plugins: &[&Entry],
        files: &[&Entry],
    ) -> Result<Result<BTreeSet<PathBuf>, Crash>, Error> {
        let dir = self.place.state.path("home").join(format!("walk-{}", self.linter.name));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(Error::file("remove", &dir))?;
        }
        tree::mark_root(&dir)?;
        let write = |path: &Path, content: &[u8]| {
            let path = dir.join(tree::alias(path));
            state::write(&path, content).map_err(Error::file("write", &path))
        };
        for entry in entries.iter().filter(|it| configures(self.linter, &it.path)) {
            let from = self.place.tree.root().join(tree::alias(&entry.path));
            if let Ok(content) = fs::read(&from) {
                write(&entry.path, &content)?;
            }
        }
        for entry in files {
            // The first line may be configured not to count.
            write(&entry.path, b"\nx")?;
        }
        for entry in plugins {
            // These are executed, too; a comment ends them without a newline.
            let from = self.place.tree.root().join(tree::alias(&entry.path));
            let mut content = fs::read(&from).map_err(Error::file("read", &from))?;
            content.extend_from_slice(b"\n#");
            write(&entry.path, &content)?;
        }
        let output = self.run(&dir, args, &[".".into()])?;
        let Some(found) = (self.linter.parse)(&output) else {
            return Ok(Err(self.crash(&output)));
        };
        let paths = found.into_iter().map(|mut it| {
            if let Ok(path) = it.path.strip_prefix(&dir) {
                it.path = path.to_owned();
            }
            self.place.tree.original(&it.path)
        });
        Ok(Ok(paths.collect()))
    }

    /// Runs the linter, by the worker if there is one.
    fn run(&self, dir: &Path, args: &[&str], names: &[OsString]) -> Result<Output, Error> {
        let args = argv(args, names);
        let worker = (self.place.worker && names.len() <= FEW).then(|| self.place.worker());
        match worker.and_then(|it| it.output(self.linter.module, &args, dir, self.niceness())) {
            Some(output) => Ok(output),
            None => self.run_here(dir, &args),
        }
    }

    fn niceness(&self) -> u8 {
        if self.place.yields && !self.linter.judges_program() { NICENESS } else { 0 }
    }

    fn run_here(&self, dir: &Path, args: &[&OsStr]) -> Result<Output, Error> {
        let call = self.place.python(self.niceness()).args(["-m", self.linter.module]);
        Ok(call.args(args.iter().copied()).dir(dir).output()?)
    }

    fn crash(&self, output: &Output) -> Crash {
        let said = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
        let said = said.iter().map(|it| it.trim()).filter(|it| !it.is_empty());
        let said = said.collect::<Vec<_>>().join("\n");
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        let said = if last.is_empty() { format!("it ended with {}", output.status) } else { last };
        Crash { linter: self.linter.name, said }
    }
}

impl Place<'_> {
    /// Makes the next lint of a few files faster.
    pub(crate) fn start_worker(&self) {
        if self.worker {
            self.worker().start(|source| self.python(0).arg(source));
        }
    }

    fn worker(&self) -> Worker {
        Worker::new(self.state, self.venv)
    }

    /// A call of Python, isolated from the user's packages, variables and configuration.
    fn python(&self, niceness: u8) -> Cmd {
        let home = self.state.path("home");
        let python = &self.venv.python;
        let call = match niceness {
            0 => Cmd::new(python),
            _ => Cmd::new("nice").args(["-n", &niceness.to_string()]).arg(python),
        };
        call
            // Names are UTF-8 in any locale.
            .args(["-I", "-B", "-X", "utf8"])
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("MYPYPATH", "")
            .env("NO_COLOR", "1")
            .env("TERM", "dumb")
            // A linter that asks git finds none, rather than the one around the copy.
            .env("GIT_DIR", home.join("no-repository"))
    }
}

fn argv<'a>(args: &'a [&'a str], names: &'a [OsString]) -> Vec<&'a OsStr> {
    args.iter().map(OsStr::new).chain(names.iter().map(OsString::as_os_str)).collect()
}

/// Names for a command line: none looks like an option, and no call has too many.
fn batches<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<Vec<OsString>> {
    let mut batches = Vec::new();
    let mut size = NAMES;
    for path in paths {
        let name = Path::new(".").join(tree::alias(path)).into_os_string();
        if size + name.len() > NAMES {
            batches.push(Vec::new());
            size = 0;
        }
        size += name.len();
        batches.last_mut().expect("one was just pushed, or holds a name").push(name);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_names_is_given_in_parts() {
        let name = "n".repeat(NAMES / 2 - 10);
        let paths = [Path::new(&name); 3];
        let sizes: Vec<usize> = batches(paths.into_iter()).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1]);
    }
}
