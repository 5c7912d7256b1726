//! The linters, called by hand: what a lint must say, too.

use std::{collections::BTreeSet, path::Path};

use exec::Cmd;

/// Linter, file, line, and code where the linter has one.
pub(super) type Said = BTreeSet<(String, String, Option<u32>, String)>;

/// The linters that are called.
pub(super) const LINTERS: [&str; 4] = ["black", "isort", "flake8", "mypy"];

/// What a linter of this environment says of these targets, as it is called in this folder.
pub(super) fn by_hand(
    venv: &Path,
    root: &Path,
    home: &Path,
    linter: &str,
    targets: &[&str],
) -> Said {
    let check: &[&str] = match linter {
        "black" => &["black", "--check"],
        "isort" => &["isort", "--check-only"],
        other => &[other],
    };
    let cmd = Cmd::new(venv.join("bin/python")).arg("-m").args(check.iter().copied());
    let output = cmd.args(targets.iter().copied()).dir(root).env("HOME", home).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    let mut said = Said::new();
    let mut say = |path: &str, row: &str, code: &str| {
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = path.strip_prefix(&format!("{}/", root.display())).unwrap_or(path);
        let row = row.parse().ok();
        // Of a whole file, not every linter has one.
        let code = row.map_or("", |_| code);
        said.insert((linter.to_owned(), path.to_owned(), row, code.to_owned()));
    };
    match linter {
        "black" => {
            for line in stderr.lines() {
                if let Some(path) = line.strip_prefix("would reformat ") {
                    say(path, "", "");
                } else if let Some(what) = line.strip_prefix("error: cannot parse") {
                    let mut parts = what.split_once(": ").unwrap().1.split(':');
                    say(parts.next().unwrap(), parts.next().unwrap(), "syntax");
                } else {
                    assert!(!line.starts_with("error: "), "nobody knows what black means: {line}");
                }
            }
        }
        "isort" => {
            for line in stderr.lines().filter_map(|it| it.strip_prefix("ERROR: ")) {
                match (line.split_once(" Imports are "), targets) {
                    (Some((path, _)), _) => say(path, "", ""),
                    // It does not say of which file, and stops there.
                    (None, [file]) if *file != "." => say(file, "", ""),
                    _ => panic!("isort stopped: {line}"),
                }
            }
        }
        "flake8" => {
            for line in stdout.lines() {
                let mut parts = line.splitn(4, ':');
                let (path, row) = (parts.next().unwrap(), parts.next().unwrap());
                let code = parts.nth(1).unwrap().trim().split(' ').next().unwrap();
                say(path, row, code);
            }
        }
        _ => {
            for line in stdout.lines() {
                if let Some((place, message)) = line.split_once(": error: ") {
                    let (path, row) = place.split_once(':').unwrap_or((place, ""));
                    let code = message.rsplit_once('[').map_or("error", |(_, it)| it);
                    say(path, row, code.trim_end_matches(']'));
                }
            }
        }
    }
    said
}
