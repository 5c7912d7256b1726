//! What the images of a new platform say of themselves and of the data they are to work on, and
//! what is refused because of it.

use semver::Version;
use serde::Deserialize;

/// What was found before anything of the platform is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The Dagster of the new webserver and daemon.
    pub dagster: String,
    /// The revision of the database's schema; none before the first deploy.
    pub schema: Option<String>,
    /// The revision that the new image works with.
    pub head: String,
    /// Whether the new image knows the database's revision. An older image does not.
    pub known: bool,
    /// The major version of the new Postgres image.
    pub postgres: u32,
    /// The major version that the data on the host were written by; none before the first deploy.
    pub data: Option<u32>,
}

/// Why something is not done. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Postgres does not read the data of another major version.
    #[error(
        "the databases on the host are of Postgres {data}, `DEPLOY_POSTGRES_IMAGE` is Postgres {image}"
    )]
    PostgresMajor {
        /// The environment.
        environment: String,
        /// Of the data.
        data: u32,
        /// Of the image.
        image: u32,
    },
    /// Dagster's rule: webserver and daemon first.
    #[error("the code is locked to Dagster {code}, webserver and daemon would be older: {hosts}")]
    CodeNewerThanHosts {
        /// Of the code.
        code: String,
        /// Of webserver and daemon.
        hosts: String,
    },
    /// A backup that a later version of this program made.
    #[error("the archive has format {format}, which this version does not read")]
    Format {
        /// Its format.
        format: u32,
    },
    /// A backup of another environment.
    #[error("the archive is of `{of}`, not of `{into}`")]
    Environment {
        /// The archive's environment.
        of: String,
        /// The environment at hand.
        into: String,
    },
    /// `pg_restore` does not read what a newer Postgres dumped.
    #[error("the archive is of Postgres {archive}, the host has Postgres {host}")]
    NewerPostgres {
        /// Of the archive.
        archive: u32,
        /// Of the host.
        host: u32,
    },
}

/// An answer of the host that was not understood.
#[derive(Debug, thiserror::Error)]
#[error("the host's answer was not understood: {0}")]
pub struct ParseInspectionError(String);

impl Inspection {
    /// Reads the answer of `inspect.sh`: one fact a line, a word and its value.
    pub fn parse(answer: &str) -> Result<Inspection, ParseInspectionError> {
        #[derive(Deserialize)]
        struct Instance {
            dagster: String,
            schema: Option<String>,
            head: String,
            known: bool,
        }

        let value = |word: &str| {
            answer.lines().rev().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        };
        let found = || {
            let Instance { dagster, schema, head, known } =
                serde_json::from_str(value("instance")?).ok()?;
            let data = match value("postgres_data") {
                Some(it) => Some(major(it)?),
                None => None,
            };
            let postgres = major(value("postgres")?)?;
            Some(Inspection { dagster, schema, head, known, postgres, data })
        };
        found().ok_or_else(|| ParseInspectionError(answer.to_owned()))
    }

    /// Whether the database's schema has to follow the image. One that is ahead of it stays:
    /// Dagster's migrations add, and what is there already is no hindrance.
    pub fn migrates(&self) -> bool {
        self.known && self.schema.as_ref().is_some_and(|it| *it != self.head)
    }

    /// Why the new images cannot take over, if they cannot.
    pub fn refusal(&self, environment: &str) -> Option<Refusal> {
        let Inspection { postgres: image, data, .. } = *self;
        let data = data.filter(|it| *it != image)?;
        Some(Refusal::PostgresMajor { environment: environment.to_owned(), data, image })
    }
}

/// The first number of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, or of `15`.
fn major(text: &str) -> Option<u32> {
    let from = text.find(|it: char| it.is_ascii_digit())?;
    let digits = text[from..].split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Refuses code that is newer than webserver and daemon; either version may be unknown. One that
/// is no plain version (a Dagster built by hand) is nobody's to judge.
pub fn refuse_skew(code: Option<&str>, hosts: Option<&str>) -> Option<Refusal> {
    let (code, hosts) = (code?, hosts?);
    let newer = Version::parse(code).ok()? > Version::parse(hosts).ok()?;
    newer.then(|| Refusal::CodeNewerThanHosts { code: code.to_owned(), hosts: hosts.to_owned() })
}

impl Refusal {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Refusal::PostgresMajor { environment, data, .. } => format!(
                "a new major version starts from empty data:\n\
                 with DEPLOY_POSTGRES_IMAGE at {data} still: cargo xtask backup {environment} before.tar\n\
                 cargo xtask down {environment} --data, set the new image, cargo xtask deploy {environment}\n\
                 cargo xtask restore {environment} before.tar"
            ),
            Refusal::CodeNewerThanHosts { .. } => {
                "deploy a release whose webserver and daemon are as new".to_owned()
            }
            Refusal::Format { .. } => "read it with the version that wrote it".to_owned(),
            Refusal::Environment { .. } => {
                "give --from-other-environment if that is what you want".to_owned()
            }
            Refusal::NewerPostgres { .. } => {
                "restore it where DEPLOY_POSTGRES_IMAGE is at least as new".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const ANSWER: &str = "postgres postgres (PostgreSQL) 17.2 (Debian 17.2-1.pgdg120+1)\n\
        postgres_data 17\n\
        a library's word\n\
        instance {\"dagster\": \"1.13.27\", \"schema\": \"f495c27d5019\", \"head\": \"29b539ebc72a\", \"known\": true}\n";

    #[test]
    fn a_database_behind_its_image_is_migrated() {
        let behind = Inspection::parse(ANSWER).unwrap();
        assert!(behind.migrates());
        let level = Inspection { schema: Some(behind.head.clone()), ..behind.clone() };
        assert!(!level.migrates());
        // Before the first deploy, Dagster makes its tables itself.
        let empty = Inspection { schema: None, ..behind.clone() };
        assert!(!empty.migrates());
        let ahead = Inspection { known: false, ..behind };
        assert!(!ahead.migrates());
    }

    #[test]
    fn another_major_version_of_postgres_is_refused_with_the_way_there() {
        let check = |answer: &str, expected: &Expect| {
            let refusal = Inspection::parse(answer).unwrap().refusal("prod");
            let text = refusal.map(|it| format!("{it}\nhint: {}", it.hint()));
            expected.assert_eq(&text.unwrap_or_default());
        };
        check(ANSWER, &expect![""]);
        check(&ANSWER.replace("postgres_data 17\n", ""), &expect![""]);
        check(
            &ANSWER.replace("data 17", "data 15"),
            &expect![[r#"
            the databases on the host are of Postgres 15, `DEPLOY_POSTGRES_IMAGE` is Postgres 17
            hint: a new major version starts from empty data:
            with DEPLOY_POSTGRES_IMAGE at 15 still: cargo xtask backup prod before.tar
            cargo xtask down prod --data, set the new image, cargo xtask deploy prod
            cargo xtask restore prod before.tar"#]],
        );
    }

    #[test]
    fn code_may_be_older_than_webserver_and_daemon_and_never_newer() {
        let refused = |code, hosts| refuse_skew(code, hosts).is_some();
        assert!(!refused(Some("1.13.27"), Some("1.13.27")));
        assert!(!refused(Some("1.12.22"), Some("1.13.0")));
        assert!(refused(Some("1.13.10"), Some("1.13.9")));
        assert!(!refused(None, Some("1.13.9")) && !refused(Some("1.13.10"), None));
        assert!(!refused(Some("1!0+dev"), Some("1.13.9")));
    }

    #[test]
    fn half_an_answer_is_none() {
        let error = Inspection::parse("postgres 17\n").unwrap_err();
        assert_eq!(error.to_string(), "the host's answer was not understood: postgres 17\n");
    }
}
