//! A template: documentation, defaults and schema of an environment's settings in one file.
//!
//! Comments above a key document it; a comment line that begins with `@` says what it must be, in
//! the words of `@env-spec`: `# @required @sensitive @type=port`.

use std::path::{Path, PathBuf};

use crate::{
    Problem,
    line::{Line, parse},
};

/// The settings an environment has.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its file, from the root of the checkout.
    pub path: PathBuf,
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
    /// What it is for.
    pub doc: String,
    /// The value it has when nobody gives one.
    pub default: Option<String>,
    /// Whether it must have one.
    pub required: bool,
    /// Whether it is a secret.
    pub sensitive: bool,
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
    /// Seconds or minutes: `90s`, `5m`.
    Duration,
    /// An amount of memory: `512m`, `2g`.
    Memory,
    /// A folder of its own: letters, digits, `.`, `_`, `-` and `/`, and nothing above it.
    Folder,
    /// One of these.
    Enum(Vec<String>),
}

impl Template {
    /// Reads a template; problems are added to `problems`.
    pub(crate) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Template {
        let mut template = Template { path: path.to_owned(), items: Vec::new() };
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
                    words => doc.push(words.to_owned()),
                },
                Ok(Line::Entry(key, value)) => {
                    let mut item = Item {
                        key,
                        line: n,
                        doc: doc.join("\n"),
                        default: (!value.is_empty()).then_some(value),
                        required: false,
                        sensitive: false,
                        kind: Kind::String,
                    };
                    for decorator in decorators.drain(..) {
                        if let Err(message) = item.decorate(&decorator) {
                            problem(message);
                        }
                    }
                    if let Some(Err(why)) = item.default.as_ref().map(|it| item.kind.check(it)) {
                        problem(format!("the default of `{}` {why}", item.key));
                    }
                    if item.sensitive && item.default.is_some() {
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
    fn decorate(&mut self, decorator: &str) -> Result<(), String> {
        match decorator.split_once('=').unwrap_or((decorator, "")) {
            ("@required", "") => self.required = true,
            ("@sensitive", "") => self.sensitive = true,
            ("@type", kind) => self.kind = Kind::parse(kind)?,
            _ => {
                return Err(format!(
                    "`{decorator}` is not known: there are @required, @sensitive and @type=…"
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
            "memory" => Kind::Memory,
            "folder" => Kind::Folder,
            _ => match text.strip_prefix("enum(").and_then(|it| it.strip_suffix(')')) {
                Some(words) => Kind::Enum(words.split(',').map(str::to_owned).collect()),
                None => {
                    return Err(format!(
                        "`{text}` is no type: there are string, port, boolean, duration, memory, folder and enum(a,b)"
                    ));
                }
            },
        })
    }

    /// Whether a value is one. The error continues "the value …", and does not show it.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        let fits = match self {
            Kind::String => true,
            Kind::Port => value.parse::<u16>().is_ok_and(|it| it > 0),
            Kind::Bool => matches!(value, "true" | "false"),
            Kind::Duration => seconds(value).is_some(),
            Kind::Memory => value
                .strip_suffix(['m', 'g'])
                .is_some_and(|it| it.parse::<u32>().is_ok_and(|it| it > 0)),
            Kind::Folder => {
                let parts = value.strip_prefix('/').unwrap_or(value).split('/');
                let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
                parts.clone().all(|it| it.bytes().all(plain) && !matches!(it, "" | "." | ".."))
            }
            Kind::Enum(words) => words.iter().any(|it| it == value),
        };
        if fits { Ok(()) } else { Err(format!("must be {}", self.words())) }
    }

    fn words(&self) -> String {
        match self {
            Kind::String => "a text".to_owned(),
            Kind::Port => "a port from 1 to 65535".to_owned(),
            Kind::Bool => "`true` or `false`".to_owned(),
            Kind::Duration => "a duration like `90s` or `5m`".to_owned(),
            Kind::Memory => "an amount of memory like `512m` or `2g`".to_owned(),
            Kind::Folder => "a folder like `srv/dagster`, without spaces and `..`".to_owned(),
            Kind::Enum(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// The seconds of a duration.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_that_could_be_removed_without_regret() {
        for folder in ["dagster-deploy/prod", "/srv/dagster_1.2", "x"] {
            assert_eq!(Kind::Folder.check(folder), Ok(()), "{folder}");
        }
        for other in ["", "/", ".", "a/../b", "a b", "$HOME/x", "a//b", "a/"] {
            assert!(Kind::Folder.check(other).is_err(), "{other}");
        }
    }
}
