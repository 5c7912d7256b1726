//! Sources whose name does not say so: their first line does.

use std::path::Path;

use crate::{
    Error, judge,
    linter::LINTERS,
    repo::{Entry, Mode, Repo},
    state::State,
    verdicts::Verdicts,
};

/// So many bytes of its first line are looked at, as isort does.
const LOOKED_AT: usize = 100;

/// Of so many bytes, nobody wrote a script.
const MOST: u64 = 1_000_000;

/// Whether a file's name leaves it to its content: it has no ending, or can be executed.
pub(crate) fn may_be(path: &Path, executable: bool) -> bool {
    let is_backup = path.as_os_str().as_encoded_bytes().ends_with(b"~");
    !is_backup && path.extension().is_none_or(|it| executable && it != "pex")
}

/// Finds out which of these are scripts. No content is read twice.
pub(crate) fn mark(state: &State, repo: &Repo, entries: &mut [Entry]) -> Result<(), Error> {
    let mut known: Verdicts<bool> = Verdicts::load(state, "scripts");
    let mut unknown = Vec::new();
    for entry in entries.iter_mut().filter(|it| it.is_file()) {
        let is_executable = entry.mode == Mode::Executable;
        let by_name = LINTERS.iter().any(|it| judge::judges_by_name(it, &entry.path));
        if by_name || !may_be(&entry.path, is_executable) {
            continue;
        }
        match known.get(&entry.oid) {
            Some(script) => entry.script = *script,
            None => unknown.push(entry),
        }
    }
    let oids: Vec<&str> = unknown.iter().map(|it| it.oid.as_str()).collect();
    let sizes = repo.sizes(&oids)?;
    let (small, large): (Vec<_>, Vec<_>) =
        unknown.into_iter().zip(sizes).partition(|it| it.1 <= MOST);
    for (entry, _) in large {
        known.learn(entry.oid.clone(), false);
    }
    let oids: Vec<&str> = small.iter().map(|it| it.0.oid.as_str()).collect();
    let contents = repo.contents(&oids)?;
    for ((entry, _), content) in small.into_iter().zip(contents) {
        entry.script = calls_python(&content);
        known.learn(entry.oid.clone(), entry.script);
    }
    known.save(state);
    Ok(())
}

fn calls_python(content: &[u8]) -> bool {
    let line = content.split(|it| *it == b'\n').next().unwrap_or_default();
    let line = &line[..line.len().min(LOOKED_AT)];
    let is_part = |it: &u8| it.is_ascii_alphanumeric() || *it == b'_';
    let mut words = line.split(|it| !is_part(it));
    line.starts_with(b"#!")
        && words.any(|it| [&b"python"[..], b"python2", b"python3", b"pythonw"].contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: bool) {
        assert_eq!(calls_python(content.as_bytes()), expected, "{content}");
    }

    #[test]
    fn a_name_with_an_ending_tells_what_a_file_is_unless_it_is_a_program() {
        let may = |name, executable| may_be(Path::new(name), executable);
        assert!(may("bin/tool", false) && may(".profile", false) && may("run.cgi", true));
        assert!(!may("run.cgi", false) && !may("app.pex", true) && !may("tool~", true));
    }

    #[test]
    fn the_first_line_calls_python_by_one_of_its_names() {
        check("#!/usr/bin/env python3\nimport os\n", true);
        check("#!/usr/bin/python3.11 -I", true);
        check("#! python\r\n", true);
        check("#!/bin/sh\n# python\n", false);
        check("#!/usr/bin/env ipython\n", false);
        check("#!/opt/my_python/bin/x\n", false);
        check(" #!/usr/bin/python\n", false);
        check("python", false);
        check("", false);
    }
}
