//! A reference to a secret that is kept elsewhere. It says where, and is no secret itself.

use std::fmt;

/// Where a secret is kept: `gcp-secret://postgres-password-prod@7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Who keeps it.
    pub store: Store,
    /// Its name there, as it was written; without the version.
    pub name: String,
    /// The version that is meant, where the store has versions; without it, the newest.
    pub version: Option<String>,
}

/// Who keeps secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// Google's Secret Manager: `gcp-secret://[PROJECT/]NAME[@VERSION]`.
    Google,
    /// 1Password: `op://VAULT/ITEM/FIELD`.
    OnePassword,
    /// The standard Unix password manager: `pass://PATH`.
    Pass,
    /// A file that only we may read: `file://PATH`, from the root of the checkout or from `~/`.
    File,
    /// What a shell command prints: `cmd://COMMAND`.
    Command,
}

/// A secret, as its store gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The secret.
    pub text: String,
    /// Which version it is, where the store has versions.
    pub version: Option<String>,
}

/// Something that looks secrets up.
pub trait Secrets: Sync {
    /// Why it could not.
    type Error: Send;

    /// Looks one up.
    fn look_up(&self, reference: &Reference) -> Result<Secret, Self::Error>;
}

impl Store {
    const ALL: [Store; 5] =
        [Store::Google, Store::OnePassword, Store::Pass, Store::File, Store::Command];

    fn scheme(self) -> &'static str {
        match self {
            Store::Google => "gcp-secret://",
            Store::OnePassword => "op://",
            Store::Pass => "pass://",
            Store::File => "file://",
            Store::Command => "cmd://",
        }
    }

    /// How a reference to it is written.
    fn form(self) -> &'static str {
        match self {
            Store::Google => "gcp-secret://[PROJECT/]NAME[@VERSION]",
            Store::OnePassword => "op://VAULT/ITEM/FIELD",
            Store::Pass => "pass://PATH",
            Store::File => "file://PATH",
            Store::Command => "cmd://COMMAND",
        }
    }
}

impl Reference {
    /// Reads a value: none if it is no reference, an error if it is half of one.
    pub fn parse(text: &str) -> Option<Result<Reference, String>> {
        let store = Store::ALL.into_iter().find(|it| text.starts_with(it.scheme()))?;
        let rest = &text[store.scheme().len()..];
        let (name, version) = match (store, rest.split_once('@')) {
            (Store::Google, Some((name, version))) => (name, Some(version.to_owned())),
            _ => (rest, None),
        };
        let reference = Reference { store, name: name.to_owned(), version };
        let sound = reference.is_sound();
        Some(if sound { Ok(reference) } else { Err(format!("must be {}", store.form())) })
    }

    /// Of a secret of Google's: the project, if it says one, and the name there.
    pub fn of_google(&self) -> (Option<&str>, &str) {
        match self.name.split_once('/') {
            Some((project, name)) => (Some(project), name),
            None => (None, &self.name),
        }
    }

    /// Whether it says a version that is never another.
    pub fn is_pinned(&self) -> bool {
        self.version.as_ref().is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()))
    }

    /// Whether its parts are what its store can be asked for. None can be taken for an option.
    fn is_sound(&self) -> bool {
        let plain = |text: &str, more: &[u8]| {
            text.starts_with(|it: char| it.is_ascii_alphanumeric())
                && text.bytes().all(|it| it.is_ascii_alphanumeric() || more.contains(&it))
        };
        let parts = self.name.split('/');
        match self.store {
            Store::Google => {
                parts.clone().count() <= 2
                    && parts.clone().all(|it| plain(it, b"-_.:"))
                    && self.version.as_ref().is_none_or(|it| plain(it, b"-_"))
            }
            Store::OnePassword => {
                parts.clone().count() >= 3 && parts.clone().all(|it| !it.is_empty())
            }
            Store::Pass => {
                !self.name.starts_with('-') && parts.clone().all(|it| !it.is_empty() && it != "..")
            }
            Store::File | Store::Command => !self.name.trim().is_empty(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.store {
            // Somebody will write a secret into a command.
            Store::Command => self.name.split_whitespace().next().unwrap_or_default(),
            _ => &self.name,
        };
        write!(f, "{}{name}", self.store.scheme())?;
        if self.store == Store::Command {
            f.write_str(" …")?;
        }
        self.version.iter().try_for_each(|it| write!(f, "@{it}"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        assert_eq!(Reference::parse(text).unwrap().unwrap().to_string(), shown);
    }

    #[test]
    fn a_reference_says_where_a_secret_is() {
        for text in [
            "gcp-secret://db-password",
            "gcp-secret://acme-prod/db_password@7",
            "op://Team/Postgres/password",
            "op://Team/Postgres/section/password",
            "pass://dagster/prod/postgres",
            "file:///run/secrets/db",
            "file://~/.secrets/db",
        ] {
            check(text, text);
        }
        check("cmd://vault kv get -field=pw secret/db", "cmd://vault …");
    }

    #[test]
    fn half_a_reference_is_refused_and_anything_else_is_a_value() {
        for text in [
            "gcp-secret://",
            "gcp-secret://a/b/c",
            "gcp-secret://a@",
            "gcp-secret://--project=x",
            "gcp-secret://a@--x",
            "op://Team/item",
            "op://Team//x",
            "pass://",
            "pass://-c",
            "pass://a/../b",
            "file://",
            "cmd:// ",
        ] {
            assert!(Reference::parse(text).unwrap().is_err(), "{text}");
        }
        for text in ["hunter2", "postgres://u@h/d", "xop://a/b/c", ""] {
            assert_eq!(Reference::parse(text), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(scheme in 0..5usize, text in "\\PC{0,40}") {
            let _ = Reference::parse(&format!("{}{text}", Store::ALL[scheme].scheme()));
            let _ = Reference::parse(&text);
        }
    }
}
