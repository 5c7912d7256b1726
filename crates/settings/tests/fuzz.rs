//! Templates and files of values that nobody would write: nothing panics, nothing is taken that was
//! not meant, and no secret is told.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use proptest::{
    prelude::*,
    sample::{Index, select},
};
use settings::{Kind, Resolved};

/// A key of each kind of value.
const TEMPLATE: &str = "\
# @type=port
PORT=
# @type=boolean
FLAG=
# @type=duration
LIMIT=
# @type=count
COUNT=
# @type=memory
MEMORY=
# @type=folder
FOLDER=
# @type=resource
BUCKET=
# @type=packages
PACKAGES=
# @type=enum(dev,prod)
STAGE=
# @required @sensitive @own
PASSWORD=
TEXT=
";

/// What lines of such files are made of, and what has parted their readers.
const PIECES: &[&str] = &[
    "PORT",
    "FLAG",
    "LIMIT",
    "COUNT",
    "MEMORY",
    "FOLDER",
    "BUCKET",
    "PACKAGES",
    "STAGE",
    "PASSWORD",
    "TEXT",
    "PASSWROD",
    "export ",
    "=",
    "=",
    "=",
    "\n",
    "\n",
    "\r",
    "\r\n",
    "#",
    " #",
    "'",
    "\"",
    "\\",
    "$",
    "${",
    "}",
    "`",
    " ",
    "\t",
    "\u{a0}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\0",
    "ü",
    "0",
    "+5",
    "-1",
    "65535",
    "65536",
    "18446744073709551616",
    "s",
    "m",
    "g",
    "90s",
    "true",
    "prod",
    "sales-bucket-t",
    "/",
    "..",
    ",",
    "<",
    "change-me",
    "gcp-secret://",
    "op://",
    "cmd://",
    "file://",
    "@",
    "@required",
    "@sensitive",
    "@own",
    "@type=",
    "enum(",
    ")",
    "# ── ",
];

/// A secret that no message may show, as its pieces may be lines of their own.
const CANARY: &str = "c2VjcmV0Y2FuYXJ5";

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(select(PIECES), 0..24).prop_map(|it| it.concat())
}

/// The same with bytes that are no text.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    (text(), prop::collection::vec((any::<Index>(), any::<u8>()), 0..3)).prop_map(|(text, odd)| {
        let mut bytes = text.into_bytes();
        for (at, byte) in odd {
            let at = at.index(bytes.len() + 1);
            bytes.insert(at, byte);
        }
        bytes
    })
}

/// A checkout with one environment, `t`. It is one folder for all cases of a test.
struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new() -> Checkout {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("env-templates")).unwrap();
        Checkout(root)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, template: &[u8], values: &[u8]) {
        fs::write(self.root().join("env-templates/t.env"), template).unwrap();
        let path = self.root().join(".env.t");
        fs::write(&path, values).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self) -> Resolved {
        settings::read(self.root(), "t", &BTreeMap::new(), &BTreeMap::new()).unwrap()
    }
}

/// What a value must look like, said a second time and in another way than the library does.
fn is_meant(kind: &Kind, value: &str) -> bool {
    let digits = |text: &str| {
        !text.is_empty() && !text.starts_with('0') && text.bytes().all(|it| it.is_ascii_digit())
    };
    let up_to = |text: &str, most: u64| {
        digits(text) && text.parse::<u64>().is_ok_and(|it| (1..=most).contains(&it))
    };
    let split = |units: &[char]| {
        let unit = value.chars().next_back().filter(|it| units.contains(it))?;
        Some((value.strip_suffix(unit)?, unit))
    };
    match kind {
        Kind::Port | Kind::Count => up_to(value, u64::from(u16::MAX)),
        Kind::Bool => ["true", "false"].contains(&value),
        // A day: more is a slip, and would overflow a clock in the end.
        Kind::Duration => match split(&['s', 'm']) {
            Some((number, 's')) => up_to(number, 24 * 60 * 60),
            Some((number, _)) => up_to(number, 24 * 60),
            None => false,
        },
        Kind::Memory => {
            split(&['m', 'g']).is_some_and(|(number, _)| up_to(number, u64::from(u32::MAX)))
        }
        Kind::Folder => {
            let path = Path::new(value);
            !value.contains(char::is_whitespace)
                && value.is_ascii()
                && path.components().filter(|it| it.as_os_str() != OsStr::new("/")).count() > 0
                && path.components().all(|it| it.as_os_str() != OsStr::new(".."))
                // Nothing that a path may be written with beside its parts.
                && path.components().collect::<PathBuf>().as_os_str() == OsStr::new(value)
        }
        Kind::Resource => value.ends_with("-t") && value.matches('-').count() >= 2,
        Kind::Packages => {
            value.split(',').all(|it| it.trim().starts_with(|it: char| it.is_ascii_lowercase()))
        }
        Kind::Enum(words) => words.iter().any(|it| it == value),
        Kind::String => true,
    }
}

/// How else a line may say this value: what its readers agree on.
fn is_said(line: &str, key: &str, value: &str) -> bool {
    let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches('\u{feff}');
    let line = line.strip_prefix("export ").unwrap_or(line);
    let said = line.strip_prefix(key).and_then(|it| it.strip_prefix('='));
    let Some(said) = said else { return false };
    let comes_after = |rest: &str| {
        let words = rest.trim_matches([' ', '\t']);
        words.is_empty() || (words.starts_with('#') && rest.contains(" #"))
    };
    let strange = |it: char| it.is_control() && it != '\t';
    let bare = |text: &str| {
        !text.contains(|it: char| it.is_whitespace() || "'\"`\\$".contains(it))
            && !text.starts_with('#')
    };
    let in_quotes = |quote: char, bad: &[&str]| {
        let rest = said.strip_prefix(quote).and_then(|it| it.strip_prefix(value));
        rest.and_then(|it| it.strip_prefix(quote)).is_some_and(comes_after)
            && !bad.iter().any(|it| value.contains(it))
    };
    !said.contains(strange)
        && (said.strip_prefix(value).is_some_and(|rest| bare(value) && comes_after(rest))
            || in_quotes('\'', &["'", "\\", "${"])
            || in_quotes('"', &["\"", "\\", "$"]))
}

fn config() -> ProptestConfig {
    // A failure is told with its smallest case; nothing is kept beside the source.
    ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn no_template_and_no_file_make_anything_panic() {
    let checkout = Checkout::new();
    proptest!(config(), |(template in bytes(), values in bytes())| {
        checkout.put(&template, &values);
        let nothing = BTreeMap::new();
        let _ = settings::resolve(checkout.root(), "t", &nothing, &nothing);
        if let Ok(resolved) = settings::read(checkout.root(), "t", &nothing, &nothing) {
            settings::diff(&resolved, &resolved);
        }
        let _ = settings::check(checkout.root(), None, &nothing);
        let _ = settings::peek(checkout.root(), "t", "PORT", &nothing);
        if let Ok(templates) = settings::templates(checkout.root()) {
            settings::markdown(&templates);
        }
    });
}

#[test]
fn nothing_is_taken_that_was_not_meant() {
    let checkout = Checkout::new();
    proptest!(config(), |(values in text(), line in text(), key in select(&PIECES[..11]))| {
        // A file of anything, and a line that has at least a key.
        let values = format!("{values}\n{key}={line}");
        checkout.put(TEMPLATE.as_bytes(), values.as_bytes());
        let resolved = checkout.read();
        let told = |key: &str| {
            let named = format!("`{key}`");
            resolved.problems.iter().any(|it| it.message.contains(&named))
        };
        for item in &resolved.template.items {
            let Some(value) = resolved.value(&item.key) else { continue };
            let text = value.expose();
            prop_assert!(
                values.split('\n').any(|line| is_said(line, &item.key, text)),
                "{} is {text:?}, which no line says", item.key
            );
            prop_assert!(
                told(&item.key) || is_meant(&item.kind, text),
                "{} may not be {text:?}", item.key
            );
        }
    });
}

#[test]
fn no_message_tells_a_secret() {
    let checkout = Checkout::new();
    proptest!(config(), |(before in text(), within in text(), after in text())| {
        // On a line of its own it may be the value of a key that holds no secret.
        let within = within.replace('\n', "");
        // A key in several lines, as people paste it: some of them look like keys.
        let values = format!("{before}\nPASSWORD={within}{CANARY}{after}\n{CANARY}={within}\n{CANARY}");
        checkout.put(TEMPLATE.as_bytes(), values.as_bytes());
        let resolved = checkout.read();
        for problem in &resolved.problems {
            prop_assert!(!problem.to_string().contains(CANARY), "{problem}");
        }
        let debug = format!("{resolved:?}");
        prop_assert!(!debug.contains(CANARY), "{debug}");
    });
}
