//! A template: documentation, defaults and schema of an environment's settings in one file.
//!
//! Comments above a key document it; a comment line that begins with `@` says what it must be, in
//! the words of `@env-spec`: `# @required @sensitive @type=port`.

use std::path::{Path, PathBuf};

use crate::{
    Problem, Reference,
    line::{Line, parse, write},
};

/// The settings an environment has.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its file, from the root of the checkout.
    pub path: PathBuf,
    /// The environment it is of: its file's name.
    pub environment: String,
    /// Its keys, in order.
    pub items: Vec<Item>,
}

/// One key of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: String,
    /// The line it is on, from 1.
    pub line: usize,
    /// The heading it stands under: `# ── Heading ──`.
    pub section: String,
    /// What it is for.
    pub doc: String,
    /// The value it has when nobody gives one.
    pub default: Option<String>,
    /// Whether it must have one.
    pub required: bool,
    /// Whether it is a secret.
    pub sensitive: bool,
    /// Whether no two environments may share its value.
    pub own: bool,
    /// What it may be.
    pub kind: Kind,
}

/// What a value may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    String,
    /// 1 to 65535.
    Port,
    /// `true` or `false`.
    Bool,
    /// Seconds or minutes, a day at most: `90s`, `5m`.
    Duration,
    /// A number from 1.
    Count,
    /// An amount of memory: `512m`, `2g`.
    Memory,
    /// A folder of its own: letters, digits, `.`, `_`, `-` and `/`, and nothing above it.
    Folder,
    /// The name of a resource, by the convention `resource-type-environment`: `sales-bucket-prod`.
    Resource,
    /// Names of Python packages, separated by commas.
    Packages,
    /// One of these.
    Enum(Vec<String>),
}

impl Template {
    /// Reads a template; problems are added to `problems`.
    pub(crate) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Template {
        let environment = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut template = Template { path: path.to_owned(), environment, items: Vec::new() };
        let mut section = String::new();
        let mut doc = Vec::new();
        let mut decorators = Vec::new();
        for (n, line) in (1..).zip(text.lines()) {
            let mut problem = |message: String| {
                problems.push(Problem { path: path.to_owned(), line: Some(n), message });
            };
            match parse(line) {
                Ok(Line::Blank) => {
                    doc.clear();
                    decorators.clear();
                }
                Ok(Line::Comment(comment)) => match comment.trim() {
                    words if words.starts_with('@') => {
                        decorators.extend(words.split_whitespace().map(str::to_owned));
                    }
                    words if words.starts_with('─') => {
                        words.trim_matches(['─', ' ']).clone_into(&mut section);
                    }
                    words => doc.push(words.to_owned()),
                },
                Ok(Line::Entry(key, value)) => {
                    let mut item = Item {
                        key,
                        line: n,
                        section: section.clone(),
                        doc: doc.join("\n"),
                        default: (!value.is_empty()).then_some(value),
                        required: false,
                        sensitive: false,
                        own: false,
                        kind: Kind::String,
                    };
                    for decorator in decorators.drain(..) {
                        if let Err(message) = item.decorate(&decorator) {
                            problem(message);
                        }
                    }
                    let default = item.default.as_deref();
                    let checked = default.map(|it| item.kind.check(it, &template.environment));
                    if let Some(Err(why)) = checked {
                        problem(format!("the default of `{}` {why}", item.key));
                    }
                    if item.sensitive && default.is_some_and(|it| Reference::parse(it).is_none()) {
                        problem(format!("`{}` is a secret: templates are in git", item.key));
                    }
                    if template.item(&item.key).is_some() {
                        problem(format!("`{}` stands here twice", item.key));
                    }
                    doc.clear();
                    template.items.push(item);
                }
                Err(message) => problem(message),
            }
        }
        template
    }

    /// The item of this key.
    pub fn item(&self, key: &str) -> Option<&Item> {
        self.items.iter().find(|it| it.key == key)
    }
}

impl Item {
    /// Whether it takes this value, and a file can hold it. The error continues "the value …", and
    /// does not show it.
    pub fn accepts(&self, value: &str, environment: &str) -> Result<(), String> {
        if value.is_empty() || is_placeholder(value) {
            return Err("must have a value of yours".to_owned());
        }
        self.kind.check(value, environment)?;
        write(&self.key, value).map(|_| ()).map_err(|why| format!("cannot be that: {why}"))
    }

    fn decorate(&mut self, decorator: &str) -> Result<(), String> {
        match decorator.split_once('=').unwrap_or((decorator, "")) {
            ("@required", "") => self.required = true,
            ("@sensitive", "") => self.sensitive = true,
            ("@own", "") => self.own = true,
            ("@type", kind) => self.kind = Kind::parse(kind)?,
            _ => {
                return Err(format!(
                    "`{decorator}` is not known: there are @required, @sensitive, @own and @type=…"
                ));
            }
        }
        Ok(())
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Kind, String> {
        Ok(match text {
            "string" => Kind::String,
            "port" => Kind::Port,
            "boolean" => Kind::Bool,
            "duration" => Kind::Duration,
            "count" => Kind::Count,
            "memory" => Kind::Memory,
            "folder" => Kind::Folder,
            "packages" => Kind::Packages,
            "resource" => Kind::Resource,
            _ => match text.strip_prefix("enum(").and_then(|it| it.strip_suffix(')')) {
                Some(words) => Kind::Enum(words.split(',').map(str::to_owned).collect()),
                None => {
                    return Err(format!(
                        "`{text}` is no type: there are string, port, boolean, duration, count, memory, folder, packages, resource and enum(a,b)"
                    ));
                }
            },
        })
    }

    /// Whether a value is one, in this environment. The error continues "the value …", and does not
    /// show it.
    pub(crate) fn check(&self, value: &str, environment: &str) -> Result<(), String> {
        let fits = match self {
            Kind::String => true,
            Kind::Port | Kind::Count => number(value).is_some_and(|it| u16::try_from(it).is_ok()),
            Kind::Bool => matches!(value, "true" | "false"),
            Kind::Duration => seconds(value).is_some(),
            Kind::Memory => value.strip_suffix(['m', 'g']).and_then(number).is_some(),
            Kind::Folder => {
                let parts = value.strip_prefix('/').unwrap_or(value).split('/');
                let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
                parts.clone().all(|it| it.bytes().all(plain) && !matches!(it, "" | "." | ".."))
            }
            Kind::Resource => {
                let name = value.strip_suffix(environment).and_then(|it| it.strip_suffix('-'));
                let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
                name.is_some_and(|it| {
                    let words = it.split('-');
                    words.clone().count() >= 2
                        && words.clone().all(|it| !it.is_empty() && it.bytes().all(plain))
                })
            }
            Kind::Packages => packages(value).all(|name| {
                let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
                name.bytes().all(plain) && name.starts_with(|it: char| it.is_ascii_lowercase())
            }),
            Kind::Enum(words) => words.iter().any(|it| it == value),
        };
        if fits { Ok(()) } else { Err(format!("must be {}", self.words(environment))) }
    }

    /// In words: "a port from 1 to 65535".
    pub fn words(&self, environment: &str) -> String {
        match self {
            Kind::String => "a text".to_owned(),
            Kind::Port => "a port from 1 to 65535".to_owned(),
            Kind::Bool => "`true` or `false`".to_owned(),
            Kind::Duration => "a duration like `90s` or `5m`, of a day at most".to_owned(),
            Kind::Count => "a number from 1".to_owned(),
            Kind::Memory => "an amount of memory like `512m` or `2g`".to_owned(),
            Kind::Folder => "a folder like `srv/dagster`, without spaces and `..`".to_owned(),
            Kind::Resource => {
                format!("named `resource-type-{environment}`, like `sales-bucket-{environment}`")
            }
            Kind::Packages => "names of Python packages like `sales,stock`".to_owned(),
            Kind::Enum(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// The names in a value of [`Kind::Packages`].
pub(crate) fn packages(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// Whether a value was copied from an example and never filled in.
pub(crate) fn is_placeholder(value: &str) -> bool {
    ["change-me", "changeme", "CHANGE_ME", "<"].iter().any(|it| value.starts_with(it))
}

/// The seconds of a duration, of a day at most.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    const DAY: u64 = 24 * 60 * 60;

    let seconds = match text.strip_suffix('m') {
        Some(minutes) => u64::from(number(minutes)?) * 60,
        None => number(text.strip_suffix('s')?)?.into(),
    };
    (seconds <= DAY).then_some(seconds)
}

/// A number from 1 in plain digits. The library's own reading takes `+5` as well, and `007`, which
/// others read otherwise.
fn number(text: &str) -> Option<u32> {
    let plain = !text.starts_with('0') && text.bytes().all(|it| it.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_that_could_be_removed_without_regret() {
        for folder in ["dagster-deploy/prod", "/srv/dagster_1.2", "x"] {
            assert_eq!(Kind::Folder.check(folder, "prod"), Ok(()), "{folder}");
        }
        for other in ["", "/", ".", "a/../b", "a b", "$HOME/x", "a//b", "a/"] {
            assert!(Kind::Folder.check(other, "prod").is_err(), "{other}");
        }
    }

    #[test]
    fn a_resource_says_what_it_is_and_whose() {
        for name in ["sales-bucket-prod", "eu-sales-data-prod", "team2-project-prod"] {
            assert_eq!(Kind::Resource.check(name, "prod"), Ok(()), "{name}");
        }
        for other in
            ["sales-bucket-staging", "bucket-prod", "sales_bucket-prod", "-bucket-prod", "prod"]
        {
            assert!(Kind::Resource.check(other, "prod").is_err(), "{other}");
        }
    }
}
