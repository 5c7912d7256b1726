//! The linters, as a table. One more is one more entry.

use std::path::PathBuf;

use exec::Output;

use crate::{config, finding::Finding, parse};

/// How a linter is called and understood.
pub(crate) struct Linter {
    pub(crate) name: &'static str,
    /// The Python module that is run; it comes with `uv.lock`.
    pub(crate) module: &'static str,
    /// The endings of the files it judges.
    pub(crate) endings: &'static [&'static str],
    /// Whether it judges a file of another name, too, if its first line calls Python.
    pub(crate) scripts: bool,
    /// Whether it takes a link for the file that it leads to, under that file's name.
    pub(crate) resolves: bool,
    /// The names of the files that configure it, in any folder.
    pub(crate) configs: &'static [&'static str],
    /// The folders of the repository that its configuration takes plugins from: what is in them
    /// configures it, too.
    pub(crate) plugins: Option<fn(&str) -> Vec<PathBuf>>,
    /// Its arguments to judge the files that follow. They must leave the configuration in force,
    /// but for how findings are told.
    pub(crate) check: &'static [&'static str],
    /// Its arguments to mend the files that follow.
    pub(crate) fix: Option<&'static [&'static str]>,
    /// What its verdict on a file depends on.
    pub(crate) unit: Unit,
    /// How it says which files it looks at when it is called on the whole repository; none, if it
    /// judges them all together. Linters heed what their configuration excludes only while they walk
    /// through folders.
    pub(crate) walk: Option<Walk>,
    /// Understands what `check` said; none if the linter could not judge.
    pub(crate) parse: fn(&Output) -> Option<Vec<Finding>>,
}

impl Linter {
    /// Whether it judges all files together.
    pub(crate) fn judges_program(&self) -> bool {
        matches!(self.unit, Unit::Program { .. })
    }
}

/// What a verdict depends on, besides the configuration and the linter's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// The file alone.
    File,
    /// The file, and which files there are.
    FileAmongFiles,
    /// All files together. Called with the last argument unless the configuration names targets.
    Program {
        /// The argument.
        target: &'static str,
    },
}

/// How a linter says which files it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// With these arguments, it lists them, a path a line.
    Listed(&'static [&'static str]),
    /// With these arguments, it objects to each, given that all of them end without a newline.
    Probed(&'static [&'static str]),
}

/// In the order in which they mend.
pub(crate) const LINTERS: &[Linter] = &[
    Linter {
        name: "isort",
        module: "isort",
        endings: &["py", "pyi", "pyx", "pxd"],
        scripts: true,
        resolves: true,
        configs: &["pyproject.toml", "setup.cfg", "tox.ini", ".isort.cfg", ".editorconfig"],
        plugins: None,
        check: &[
            "--check-only",
            "--format-error={error}: {message}",
            // Else it is sought from the first file's folder on.
            "--settings-path=.",
        ],
        fix: Some(&["--settings-path=."]),
        unit: Unit::FileAmongFiles,
        walk: Some(Walk::Listed(&["--show-files", "--settings-path=."])),
        parse: parse::isort,
    },
    Linter {
        name: "black",
        module: "black",
        endings: &["py", "pyi"],
        scripts: false,
        resolves: false,
        configs: &["pyproject.toml", ".gitignore"],
        plugins: None,
        check: BLACK,
        fix: Some(&["--no-cache", ROOT]),
        unit: Unit::File,
        walk: Some(Walk::Probed(&["--check", "--verbose", "--no-color", "--no-cache"])),
        parse: parse::black,
    },
    Linter {
        name: "flake8",
        module: "flake8",
        // The latter if `filename` says so.
        endings: &["py", "pyi"],
        scripts: false,
        resolves: false,
        configs: &["setup.cfg", "tox.ini", ".flake8"],
        plugins: Some(config::plugin_folders),
        check: FLAKE8,
        fix: None,
        unit: Unit::File,
        walk: Some(Walk::Probed(&[
            "--append-config=../flake8.cfg",
            "--output-file=",
            "--color=never",
            "--no-show-source",
            parse::FLAKE8_FORMAT,
            "--disable-noqa",
            "--select=W292",
            "--ignore=",
            "--extend-ignore=",
            "--per-file-ignores=",
        ])),
        parse: parse::flake8,
    },
    Linter {
        name: "mypy",
        module: "mypy",
        endings: &["py", "pyi"],
        scripts: false,
        resolves: false,
        configs: &[
            "mypy.ini",
            ".mypy.ini",
            "pyproject.toml",
            "setup.cfg",
            "py.typed",
            // `exclude_gitignore`.
            ".gitignore",
        ],
        // Every source is part of its program, its plugins too.
        plugins: None,
        check: &["--output=json", "--no-error-summary", "--cache-dir=../mypy"],
        fix: None,
        unit: Unit::Program { target: "." },
        walk: None,
        parse: parse::mypy,
    },
];

/// Quiet by configuration, it would not say which files.
const BLACK: &[&str] = &["--check", "--verbose", "--no-color", "--no-cache", ROOT];

/// An empty file. Black takes the folder that all its files share for the project's root, and its
/// configuration from there; with this one among them, that is the repository's.
pub(crate) const ROOT: &str = ".git/root.py";

/// A file beside the copy: `quiet` by configuration would hide findings, and no argument takes it
/// back.
pub(crate) const FLAKE8_CONFIG: &str = "flake8.cfg";

const FLAKE8: &[&str] = &[
    "--append-config=../flake8.cfg",
    "--output-file=",
    "--color=never",
    "--no-show-source",
    parse::FLAKE8_FORMAT,
];

/// The names of all linters.
pub fn names() -> impl Iterator<Item = &'static str> {
    LINTERS.iter().map(|it| it.name)
}
