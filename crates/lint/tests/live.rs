//! The linters of `uv.lock`, really run: what they say through a lint is what they say by hand.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod by_hand;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use exec::Cmd;
use lint::{Request, Scope};
use tempfile::TempDir;

use self::by_hand::{LINTERS, Said, by_hand};

/// A checkout, clean at all times: its working tree is what is in the index.
struct Checkout {
    dir: TempDir,
    venv: PathBuf,
}

const CODE: &[(&str, &str)] = &[
    ("pkg/__init__.py", ""),
    ("pkg/a.py", "def one() -> int:\n    return 1\n"),
    ("pkg/b.py", "import os\n\nfrom pkg.a import one\n\nx: str = one()\nprint(os.name)\n"),
    ("pkg/c.pyi", "def f(  a ) -> int: ...\n"),
    ("pkg/fast.pyx", "import sys\nimport os\n"),
    (
        "tests/test_a.py",
        "from pkg import a\nimport sys\n\n\ndef test() -> None:\n    assert a.one() == 1\n",
    ),
    // Black leaves this folder out by default, flake8 and isort the next by configuration.
    ("build/d.py", "x = {  }\n"),
    ("generated/e.py", "import sys\nimport os\ny=1\n"),
];

const CONFIG: &[(&str, &str)] = &[
    (".flake8", "[flake8]\nextend-exclude = generated\n"),
    (
        "pyproject.toml",
        "[project]\nname = 'x'\nrequires-python = '>=3.11'\n\
         [tool.isort]\nprofile = 'black'\nextend_skip = ['generated']\n[tool.mypy]\nstrict = true\n",
    ),
];

/// Where `uv` and the environment of the linters are, made once for all tests.
fn venv() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lint");
    let uv = || {
        let own = root.join("target/uv/bin/uv");
        Ok(if own.exists() { own.into_os_string() } else { OsString::from("uv") })
    };
    // It makes the environment, of `uv.lock` as it is in the index of this repository.
    lint::run(&Request {
        root,
        state: &state,
        scope: Scope::Paths(vec!["dagster_core/__init__.py".into()]),
        only: vec!["isort".to_owned()],
        fix: false,
        worker: false,
        venv: None,
        uv: &uv,
        starts: &|_| (),
    })
    .expect("`cargo xtask ci --step lint` installs uv");
    let mut venvs = fs::read_dir(state.join("venvs")).unwrap().map(|it| it.unwrap().path());
    venvs.find(|it| it.join("lint-packages").exists()).unwrap()
}

impl Checkout {
    fn new(files: &[&[(&str, &str)]]) -> Checkout {
        let checkout = Checkout { dir: tempfile::tempdir().unwrap(), venv: venv() };
        checkout.git(&["init", "--quiet"]);
        for (name, text) in files.iter().copied().flatten() {
            checkout.write(name, text);
        }
        checkout
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) {
        fs::create_dir_all(self.root()).unwrap();
        Cmd::new("git").args(args.iter().copied()).dir(self.root()).run().unwrap();
    }

    fn lint(&self, fix: bool) -> lint::Report {
        self.git(&["add", "--all"]);
        let report = lint::run(&Request {
            root: &self.root().canonicalize().unwrap(),
            state: &self.dir.path().join("state"),
            scope: Scope::All,
            only: Vec::new(),
            fix,
            worker: true,
            venv: Some(&self.venv),
            uv: &|| unreachable!("there is an environment"),
            starts: &|_| (),
        })
        .unwrap();
        assert_eq!(report.crashes, []);
        report
    }

    fn through_lint(&self) -> Said {
        let report = self.lint(false);
        let said = report.findings.into_iter().map(|it| {
            let code = if it.line.is_some() { it.code } else { String::new() };
            (it.linter, it.path.display().to_string(), it.line, code)
        });
        said.collect()
    }

    fn by_hand(&self) -> Said {
        let root = self.root();
        // Called without a target, mypy takes those of its configuration.
        let config = fs::read_to_string(root.join("pyproject.toml")).unwrap();
        let of = |linter: &str| {
            let named = linter == "mypy" && config.contains("files = ");
            let targets: &[&str] = if named { &[] } else { &["."] };
            by_hand(&self.venv, &root, self.dir.path(), linter, targets)
        };
        LINTERS.iter().flat_map(|it| of(it)).collect()
    }
}

/// A plugin of flake8 that objects to each file.
fn plugin(code: &str) -> String {
    format!(
        "def check(tree):\n    yield 1, 0, '{code} no', None\n\n\ncheck.name = check.version = 'x'\n"
    )
}

/// A plugin of mypy that objects to each call of `one`, or not.
fn mypy_plugin(objects: bool) -> String {
    let objects = if objects { "context.api.fail('no', context.context)" } else { "pass" };
    format!(
        "from mypy.plugin import Plugin\n\n\nclass Objector(Plugin):\n    \
         def get_function_hook(self, name):\n        \
         return self.object if name == 'pkg.a.one' else None\n\n    \
         def object(self, context):\n        {objects}\n        \
         return context.default_return_type\n\n\n\
         def plugin(version):\n    return Objector\n"
    )
}

#[test]
fn after_any_edit_a_lint_says_what_the_linters_say_by_hand() {
    let here = Checkout::new(&[CODE, CONFIG]);
    let first = here.through_lint();
    assert_eq!(first, here.by_hand());
    let linters: BTreeSet<&str> = first.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(linters, BTreeSet::from(["black", "flake8", "isort", "mypy"]));

    let edits: &[(&str, &str)] = &[
        // Of the same size, which a cache could take for the same.
        ("pkg/a.py", "def one() -> str:\n    return 1\n"),
        ("pkg/a.py", "def one() -> str:\n    return ''\n"),
        ("pkg/b.py", "def broken(:\n"),
        ("pkg/b.py", "import requests, pkg.a\nimport tests\n\nprint('x' )\n"),
        // A folder that makes an import the project's own.
        ("requests/__init__.py", ""),
        ("build/new.py", "x =1\n"),
        (".flake8", "[flake8]\nper-file-ignores = pkg/*:E401,E202\n"),
        ("pyproject.toml", "[tool.black]\nline-length = 20\n[tool.mypy]\nfiles = ['pkg']\n"),
        // Plugins that are sources of the repository, and then say something else.
        ("tools/plugin.py", &plugin("X1")),
        (".flake8", "[flake8:local-plugins]\nextension =\n    X = plugin:check\npaths = tools\n"),
        ("tools/plugin.py", &plugin("X2")),
        ("tools/for_mypy.py", &mypy_plugin(true)),
        ("pyproject.toml", "[tool.mypy]\nplugins = ['tools/for_mypy.py']\n"),
        ("tools/for_mypy.py", &mypy_plugin(false)),
        // What linters pass over only while they walk, and what they take besides.
        ("pyproject.toml", "[tool.isort]\nextend_skip = ['build/deep']\nskip_glob = ['gen']\n"),
        ("build/deep/unsorted.py", "import sys\nimport os\n"),
        ("gen/deep/unsorted.py", "import sys\nimport os\n"),
        (".flake8", "[flake8]\nfilename = *.py,*.pyi\n"),
        ("pkg/stub.pyi", "import os\nx =1\n"),
        // A folder is a package of mypy's, whatever is in it.
        ("user.py", "import assets\n"),
        ("assets/logo.svg", ""),
        // A script that is named as part of the program.
        ("bin/tool", "#!/usr/bin/env python3\nx: int = 1\n"),
        ("pyproject.toml", "[tool.mypy]\nfiles = ['pkg', 'bin/tool']\n"),
        ("bin/tool", "#!/usr/bin/env python3\nx: int = ''\n"),
    ];
    for (name, text) in edits {
        here.write(name, text);
        assert_eq!(here.through_lint(), here.by_hand(), "after {name}: {text}");
    }
    here.git(&["rm", "--quiet", "-f", "pkg/a.py"]);
    assert_eq!(here.through_lint(), here.by_hand(), "after a file is gone");
}

#[test]
fn a_link_is_what_it_leads_to() {
    let here = Checkout::new(&[CODE, CONFIG]);
    let link = |target: &str, name: &str| {
        let _ = fs::remove_file(here.root().join(name));
        symlink(target, here.root().join(name)).unwrap();
    };
    let agrees = |what: &str| {
        let said = here.through_lint();
        // Isort tells of a link by the name of what it leads to.
        let named = |it: String| if it == "tool.in" { "tool.py".to_owned() } else { it };
        let by_hand = here.by_hand().into_iter().map(|it| (it.0, named(it.1), it.2, it.3));
        assert_eq!(said, by_hand.collect(), "{what}");
        said
    };
    here.write("ci/flake8rc", "[flake8]\nmax-line-length = 79\n");
    link("ci/flake8rc", "flake8rc");
    link("flake8rc", ".flake8");
    let first = agrees("a configuration elsewhere");
    here.write("ci/flake8rc", "[flake8]\nmax-line-length = 20\n");
    assert_ne!(agrees("which changed"), first);

    here.write("pyproject.toml", "[tool.mypy]\nexclude = '^v./'\n");
    here.write("v1/__init__.py", "");
    here.write("v2/__init__.py", "");
    here.write("v1/f.py", "def f() -> int:\n    return 1\n");
    here.write("v2/f.py", "def f() -> str:\n    return \"\"\n");
    here.write("v1/unsorted.py", "import sys\nimport os\n");
    here.write("user.py", "from now.f import f\n\nx: int = f()\n");
    link("v1", "now");
    let first = agrees("a package elsewhere");
    assert!(first.iter().any(|it| it.0 == "isort" && it.1 == "v1/unsorted.py"));
    link("v2", "now");
    assert_ne!(agrees("and then another one"), first);

    here.write("tool.in", "import sys\nimport os\nx =1\n");
    link("tool.in", "tool.py");
    let first = agrees("a source elsewhere");
    assert!(first.iter().any(|it| it.0 == "black" && it.1 == "tool.py"));
    here.write("tool.in", "x = 1\n");
    assert_ne!(agrees("which changed"), first);

    here.write("pyproject.toml", "[tool.isort]\nextend_skip = ['vendored']\n");
    here.write("vendored/six.py", "import sys\nimport os\n");
    link("vendored/six.py", "six.py");
    agrees("a source that isort skips elsewhere");
}

#[test]
fn a_first_line_that_does_not_count_hides_no_other() {
    let config = [("pyproject.toml", "[tool.black]\nskip-source-first-line = true\n")];
    let here = Checkout::new(&[&[("a.py", "# Made by hand\nx =1\n")], &config]);
    let said = here.through_lint();
    assert_eq!(said, here.by_hand());
    assert!(said.iter().any(|it| it.0 == "black"));
}

#[test]
fn a_script_is_a_source_to_whoever_takes_it_for_one() {
    let here = Checkout::new(&[CODE, CONFIG]);
    let without = here.through_lint();
    let script = "#!/usr/bin/env python3\nimport sys\nimport os\n";
    here.write("bin/tool", script);
    let with = here.through_lint();
    assert_eq!(with, here.by_hand());
    let new: Vec<_> = with.difference(&without).map(|it| (it.0.as_str(), it.1.as_str())).collect();
    assert_eq!(new, [("isort", "bin/tool")]);
    let name = here.root().join("bin/tool");
    here.lint(true);
    let mended = fs::read_to_string(&name).unwrap();
    assert_eq!(mended, "#!/usr/bin/env python3\nimport os\nimport sys\n");

    for other in ["#!/bin/sh\nimport sys\nimport os\n", &script.replace("python3", "pypy")] {
        here.write("bin/tool", other);
        assert!(!here.through_lint().iter().any(|it| it.1 == "bin/tool"), "{other}");
    }
    // One that is no text is passed over; one that has an ending and can be executed is not.
    fs::write(&name, b"#!/usr/bin/python\n\n\n# caf\xe9\nimport sys\nimport os\n").unwrap();
    let name = here.root().join("bin/tool.cgi");
    fs::write(&name, script).unwrap();
    fs::set_permissions(&name, Permissions::from_mode(0o755)).unwrap();
    let said = here.through_lint();
    assert_eq!(said, here.by_hand());
    assert!(said.iter().any(|it| it.1 == "bin/tool.cgi"));
}

#[test]
fn a_file_that_stops_a_linter_does_not_hide_those_after_it() {
    let unsorted = "import sys\nimport os\n";
    let here = Checkout::new(&[
        &[("a.py", unsorted), ("b.py", "from os import (\n"), ("c.py", unsorted), ("d.py", "")],
        CONFIG,
    ]);
    let isort = || {
        let said = here.through_lint().into_iter().filter(|it| it.0 == "isort");
        said.map(|it| it.1).collect::<Vec<_>>()
    };
    for when in ["cold", "warm"] {
        assert_eq!(isort(), ["a.py", "b.py", "c.py"], "{when}");
    }
    here.write("b.py", "from os import name\n");
    assert_eq!(isort(), ["a.py", "c.py"]);
    assert_eq!(here.through_lint(), here.by_hand());
    // Nor does it keep the others from being mended.
    here.write("b.py", "from os import (\n");
    here.lint(true);
    assert_eq!(isort(), ["b.py"]);
}

#[test]
fn no_configuration_hides_a_finding() {
    let plain = Checkout::new(&[CODE, CONFIG]).through_lint();
    let odd: &[(&str, &str)] = &[
        (
            ".flake8",
            "[flake8]\nextend-exclude = generated\nquiet = 2\ncolor = always\nshow-source = true\n\
             statistics = true\ncount = true\noutput-file = out\nformat = pylint\n",
        ),
        (
            "pyproject.toml",
            "[tool.black]\nquiet = true\ncolor = true\n\
             [tool.isort]\nprofile = 'black'\nextend_skip = ['generated']\nquiet = true\nverbose = true\n\
             format_error = '{message}'\n\
             [tool.mypy]\nstrict = true\npretty = true\nshow_absolute_path = true\n\
             hide_error_codes = true\n",
        ),
    ];
    assert_eq!(Checkout::new(&[CODE, odd]).through_lint(), plain);
}

#[test]
fn a_fix_leaves_nothing_that_can_be_mended() {
    let here = Checkout::new(&[CODE, CONFIG]);
    here.lint(true);
    here.git(&["diff", "--exit-code", "--quiet"]);
    let left: BTreeSet<String> = here.through_lint().into_iter().map(|it| it.0).collect();
    assert_eq!(left, BTreeSet::from(["flake8".to_owned(), "mypy".to_owned()]));
}

/// A worker of the linters' environment; its socket.
fn worker(dir: &Path, venv: &Path, seconds: &str) -> PathBuf {
    let source = dir.join("worker.py");
    fs::write(&source, include_str!("../src/worker.py")).unwrap();
    let socket = dir.join("sock");
    // Its caller may hold a lock, which is not to be held for as long as it waits.
    let lock = dir.join("lock");
    let python = Cmd::new("flock").arg(&lock).arg(venv.join("bin/python")).args(["-I", "-B"]);
    let python = python.arg(source);
    python.arg(&socket).arg(seconds).read().unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "no worker after a minute");
        thread::sleep(Duration::from_millis(20));
    }
    Cmd::new("flock").arg("--nonblock").arg(lock).arg("true").run().expect("the lock is free");
    socket
}

#[test]
fn a_worker_says_what_the_call_itself_says() {
    let (dir, venv) = (tempfile::tempdir().unwrap(), venv());
    let socket = worker(dir.path(), &venv, "60");
    fs::write(dir.path().join("a.py"), "import os\nx: int = ''\n").unwrap();
    for call in [
        "black --check --verbose --no-cache a.py",
        "isort --check-only a.py",
        "flake8 a.py",
        "flake8 no-such-file.py",
        "mypy --cache-dir=cache a.py",
        "mypy --no-such-option",
        "no_such_module",
    ] {
        let words: Vec<&str> = call.split(' ').collect();
        let cmd = Cmd::new(venv.join("bin/python")).args(["-I", "-B", "-m"]);
        let direct = cmd.args(words.clone()).dir(dir.path()).output().unwrap();

        let mut stream = UnixStream::connect(&socket).unwrap();
        let asked = serde_json::json!({
            "module": words[0], "args": words[1..], "dir": dir.path().to_str().unwrap(),
            "nice": 0,
        });
        stream.write_all(format!("{asked}\n").as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let (head, outputs) = said.trim_start_matches('.').split_once('\n').unwrap();
        let head: serde_json::Value = serde_json::from_str(head).unwrap();
        assert_eq!(
            head["status"].as_i64().unwrap() >> 8,
            i64::from(direct.status.code().unwrap()),
            "{call}"
        );
        if call != "no_such_module" {
            let both = [direct.stdout, direct.stderr].concat();
            assert_eq!(outputs, String::from_utf8(both).unwrap(), "{call}");
        }
    }
}

#[test]
fn a_worker_answers_in_a_checkout_that_lies_deep() {
    let (here, venv) = (Checkout::new(&[CODE, CONFIG]), venv());
    let state = here.dir.path().join("deep".repeat(25));
    let lint = || {
        let report = lint::run(&Request {
            root: &here.root().canonicalize().unwrap(),
            state: &state,
            scope: Scope::All,
            only: vec!["isort".to_owned()],
            fix: false,
            worker: true,
            venv: Some(&venv),
            uv: &|| unreachable!("there is an environment"),
            starts: &|_| (),
        });
        report.unwrap().findings
    };
    here.git(&["add", "--all"]);
    let first = lint();
    let sockets = || {
        let workers = fs::read_dir(state.join("workers")).unwrap();
        let paths = workers.map(|it| it.unwrap().path());
        paths.filter(|it| it.extension().is_some_and(|it| it == "sock")).count()
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    while sockets() == 0 {
        assert!(Instant::now() < deadline, "no worker after a minute");
        thread::sleep(Duration::from_millis(20));
    }
    fs::remove_dir_all(state.join("verdicts")).unwrap();
    assert_eq!(lint(), first);
    // One that does not answer is given up.
    assert_eq!(sockets(), 1);
}

#[test]
fn a_worker_that_nobody_asks_ends() {
    let (dir, venv) = (tempfile::tempdir().unwrap(), venv());
    let socket = worker(dir.path(), &venv, "1");
    let deadline = Instant::now() + Duration::from_mins(1);
    while socket.exists() {
        assert!(Instant::now() < deadline, "it is there after a minute");
        thread::sleep(Duration::from_millis(20));
    }
}
