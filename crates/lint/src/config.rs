//! What the linters' configuration says that concerns their caller.

use std::path::{Component, Path, PathBuf};

/// Whether it says what the program is, of which mypy would else be told.
pub(crate) fn names_targets(mypy: &str) -> bool {
    ["packages", "modules", "files"].into_iter().any(|key| value(mypy, key).is_some())
}

/// The folders of the repository in which flake8 looks for plugins.
pub(crate) fn plugin_folders(text: &str) -> Vec<PathBuf> {
    let paths = section(text, "flake8:local-plugins").and_then(|it| value(&it, "paths"));
    let paths = paths.unwrap_or_default();
    let words = paths.split([',', ' ', '\t', '\n']).filter(|it| !it.is_empty());
    words
        .map(|it| Path::new(it).components().filter(|it| *it != Component::CurDir).collect())
        .collect()
}

/// The lines of an INI or TOML file that configure a tool; none if it has no section of it.
pub(crate) fn section(text: &str, tool: &str) -> Option<String> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines() {
        let head = line.trim().strip_prefix('[').and_then(|it| it.split_once(']'));
        // A comment may follow, or the second bracket of TOML's arrays.
        let ends = |more: &str| more.is_empty() || more.trim().starts_with(['#', ';', ']']);
        if let Some((head, _)) = head.filter(|(_, more)| ends(more)) {
            let head = head.trim();
            inside = head.strip_prefix("tool.").unwrap_or(head) == tool;
            if inside {
                found.get_or_insert_with(String::new);
            }
        } else if let (true, Some(found)) = (inside, &mut found) {
            found.push_str(line);
            found.push('\n');
        }
    }
    found
}

/// The value of a key, with the lines below it that are indented.
fn value(section: &str, key: &str) -> Option<String> {
    let mut lines = section.lines();
    let first = lines.find_map(|line| {
        let (name, value) = line.split_once(['=', ':'])?;
        (name.trim() == key).then_some(value)
    })?;
    let more = lines.take_while(|it| it.trim().is_empty() || it.starts_with([' ', '\t']));
    Some([first].into_iter().chain(more).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_of_another_section_are_not_mypys() {
        for other in ["[tool.setuptools]", "[[tool.contracts]]", "[tool.a] # Ours."] {
            let text = format!("[tool.mypy]\nstrict = true\n{other}\npackages = ['a']\n");
            assert!(!names_targets(&section(&text, "mypy").unwrap()), "{other}");
        }
        assert!(names_targets(&section("[mypy]\nfiles =\n    a,\n    b\n", "mypy").unwrap()));
        assert!(names_targets(&section("[ tool.mypy ] # Ours.\nfiles = 'a'\n", "mypy").unwrap()));
        assert_eq!(section("[flake8]\n", "mypy"), None);
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let expected: Vec<&Path> = expected.iter().map(Path::new).collect();
        assert_eq!(plugin_folders(text), expected);
    }

    #[test]
    fn plugins_are_sought_where_flake8_is_told_to() {
        check(
            "[flake8:local-plugins]\nextension =\n  X = x:X\npaths = ./tools/lint, more\n",
            &["tools/lint", "more"],
        );
        check("[flake8:local-plugins]\npaths =\n  a\n\n  b\nextension = X = x:X\n", &["a", "b"]);
        check("[flake8:local-plugins]\npaths = .\n", &[""]);
        check("[flake8:local-plugins]\nextension = X = installed:X\n", &[]);
        check("[flake8]\npaths = tools\n", &[]);
    }
}
