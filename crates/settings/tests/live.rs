//! What we take from an `.env` file is what Compose and python-dotenv read there too.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use exec::Cmd;

type Values = BTreeMap<String, String>;

/// What people write, and what has bitten them.
const WRITTEN: &[&str] = &[
    "",
    "plain",
    "postgres://u:p@h:5432/d?x=y&z=1",
    "with # comment",
    "with#hash",
    "a=b=c",
    "'single quoted'",
    "'single' # comment",
    "'$HOME and #'",
    "\"double quoted\"",
    "\"it's\"",
    "'say \"hi\"'",
    "two words",
    "$HOME",
    "${HOME}",
    "a$b",
    "a\\nb",
    "\"a\\nb\"",
    "'a\\'b'",
    "it's",
    "`date`",
    " leading",
    "trailing ",
    "tab\t# comment",
    "ümläut ✓",
    "'ümläut ✓'",
    "!bang",
    "~/.ssh/id",
    "a,b;c|d&e<f>g(h)i[j]k*l?m%n^o",
    "null",
    "true",
    "007",
    "1e3",
];

/// Every text of up to four of these, where the readers' grammars part.
const ALPHABET: [char; 14] =
    ['a', ' ', '\t', '\r', '\u{a0}', '\'', '"', '$', '\\', '#', '=', '{', '}', '`'];

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = WRITTEN.iter().map(|it| (*it).to_owned()).collect();
    let mut longest = vec![String::new()];
    for _ in 0..4 {
        let longer = |text: &String| ALPHABET.map(|it| format!("{text}{it}"));
        longest = longest.iter().flat_map(longer).collect();
        texts.extend(longest.iter().cloned());
    }
    texts
}

/// What we read from a file of these lines: refused lines are not among the values.
fn ours(root: &Path, texts: &[String]) -> Values {
    let keys: Vec<String> = (0..texts.len()).map(|n| format!("K{n}=")).collect();
    fs::create_dir(root.join("env-templates")).unwrap();
    fs::write(root.join("env-templates/test.env"), keys.join("\n")).unwrap();
    write(&root.join(".env.test"), texts.iter().enumerate());
    let nothing = BTreeMap::new();
    let read = settings::read(root, "test", &nothing, &nothing).unwrap();
    read.values.iter().map(|(key, it)| (key.clone(), it.expose().to_owned())).collect()
}

fn write<'a>(path: &Path, texts: impl Iterator<Item = (usize, &'a String)>) {
    let lines: Vec<String> = texts.map(|(n, text)| format!("K{n}={text}")).collect();
    fs::write(path, lines.join("\n") + "\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A Python with today's Compose and python-dotenv; kept for the next time.
fn venv() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers");
    let pip = venv.join("bin/pip");
    if !venv.join("complete").exists() {
        Cmd::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).read().unwrap();
        let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed/images/vm/compose.txt");
        let quiet = ["install", "--quiet", "--disable-pip-version-check", "--no-deps"];
        Cmd::new(&pip).args(quiet).arg("--require-hashes").arg("-r").arg(pinned).read().unwrap();
        Cmd::new(&pip).args(quiet).arg("python-dotenv==1.2.2").read().unwrap();
        fs::write(venv.join("complete"), "").unwrap();
    }
    venv
}

fn json(cmd: &Cmd) -> Values {
    serde_json::from_str(&cmd.read().unwrap()).unwrap()
}

fn python(program: impl AsRef<Path>, script: &str, file: &Path) -> Values {
    json(&Cmd::new(program.as_ref()).args(["-c", script]).arg(file))
}

/// What a Compose of today gives a service whose `env_file` it is.
fn compose(program: &Path, root: &Path, file: &Path) -> Values {
    let project = root.join("compose.yaml");
    let text = format!("services: {{s: {{image: i, env_file: ['{}']}}}}\n", file.display());
    fs::write(&project, text).unwrap();
    let call = Cmd::new(program).arg("--file").arg(project).args(["config", "--format", "json"]);
    let config: serde_json::Value = serde_json::from_str(&call.read().unwrap()).unwrap();
    let values: BTreeMap<String, Option<String>> =
        serde_json::from_value(config["services"]["s"]["environment"].clone()).unwrap();
    // It doubles `$` in what it prints.
    values.into_iter().map(|(key, it)| (key, it.unwrap_or_default().replace("$$", "$"))).collect()
}

#[test]
fn what_we_take_from_a_file_all_readers_read_alike() {
    let root = tempfile::tempdir().unwrap();
    let texts = texts();
    let ours = ours(root.path(), &texts);
    let taken: Vec<(usize, &String)> =
        texts.iter().enumerate().filter(|(n, _)| ours.contains_key(&format!("K{n}"))).collect();
    assert!(taken.len() > 300 && taken.len() < texts.len() / 2, "{} are taken", taken.len());

    let file = root.path().join("taken.env");
    write(&file, taken.iter().copied());
    let venv = venv();
    let dotenv = "import dotenv, json, sys; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))";
    // Compose 1.29 is a Python program: its own reader is asked.
    let compose_1 = "import json, sys; from compose.config.environment import env_vars_from_file; \
                     print(json.dumps(env_vars_from_file(sys.argv[1])))";
    let mut readers = vec![
        ("python-dotenv", python(venv.join("bin/python"), dotenv, &file)),
        ("Compose 2", compose(&venv.join("bin/docker-compose"), root.path(), &file)),
    ];
    // Newer distributions have none any more.
    let has_compose_1 = Cmd::new("/usr/bin/python3").args(["-c", "import compose.config"]);
    if has_compose_1.output().unwrap().status.success() {
        readers.push(("Compose 1", python("/usr/bin/python3", compose_1, &file)));
    }
    let mut differences = Vec::new();
    for (reader, theirs) in readers {
        for (n, text) in &taken {
            let key = format!("K{n}");
            let (ours, theirs) = (&ours[&key], theirs.get(&key));
            if theirs != Some(ours) {
                differences.push(format!("{text:?} is {ours:?}, and to {reader} {theirs:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "of {}:\n{}", taken.len(), differences.join("\n"));
}
