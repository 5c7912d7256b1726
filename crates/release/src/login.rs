//! The database's password. Postgres keeps it with its data, whatever the settings say later: it is
//! to be told another.

use settings::Settings;

use crate::{Change, Observed, Plan, Step, migrations::list};

/// The setting that holds it.
pub const PASSWORD: &str = "POSTGRES_PASSWORD";

/// Why the password is not changed on the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLogin {
    /// Between the one and the other nobody could look at the new platform.
    #[error("`{PASSWORD}` and the image of webserver and daemon change at once")]
    WithImage,
    /// They would be applied with a password that is not known yet.
    #[error("`{PASSWORD}` changes, and the warehouse lacks {}", list(.0))]
    WithMigrations(Vec<String>),
}

impl NoLogin {
    /// What can be done about it.
    pub fn hint(&self, environment: &str) -> String {
        format!("change the password alone first: cargo xtask env rotate {environment} {PASSWORD}")
    }
}

impl Observed {
    /// Whether the settings have another password than Postgres was started with, and it can be
    /// told. One that does not run is told when it is started.
    pub fn password_changes(&self, settings: &Settings) -> bool {
        let differs = || {
            let (platform, made_of) = (self.platform_of.as_ref()?, self.platform_made_of.as_ref()?);
            made_of.differs(&platform.id, PASSWORD, settings.containers.get(PASSWORD)?)
        };
        self.can_change_password() && differs() == Some(true)
    }

    /// Whether there is a platform to change the password of.
    pub(crate) fn can_change_password(&self) -> bool {
        self.platform_of.is_some()
            && self.runs("dagster-postgres")
            && self.runs("dagster-webserver")
    }
}

impl Plan {
    /// Why this is not done in one go, if it is not. Of a way back each step was gone before.
    pub fn refuses_login(&self) -> Option<NoLogin> {
        if !self.changes.contains(&Change::Password) {
            return None;
        }
        if self.changes.contains(&Change::PlatformImage) {
            return Some(NoLogin::WithImage);
        }
        self.steps.iter().find_map(|step| match step {
            Step::Schema { migrations, .. } => Some(NoLogin::WithMigrations(migrations.clone())),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{A, NEW, host};

    #[test]
    fn a_password_changes_alone_or_with_what_needs_neither_database_nor_image() {
        let plan = |changes: &[Change], steps: &[Step]| Plan {
            release: NEW.parse().unwrap(),
            from: Some(A.parse().unwrap()),
            changes: changes.to_vec(),
            steps: steps.to_vec(),
        };
        let schema = Step::Schema { migrations: vec!["0002_step".into()], asked: true };
        let refused = |changes: &[Change], steps: &[Step]| {
            let why = plan(changes, steps).refuses_login();
            why.map(|it| format!("{it}\nhint: {}", it.hint("prod"))).unwrap_or_default()
        };
        assert_eq!(refused(&[Change::Code, Change::Password], &[Step::Start]), "");
        assert_eq!(
            refused(&[Change::Code, Change::PlatformImage], std::slice::from_ref(&schema)),
            ""
        );
        expect_test::expect![[r#"
            `POSTGRES_PASSWORD` and the image of webserver and daemon change at once
            hint: change the password alone first: cargo xtask env rotate prod POSTGRES_PASSWORD"#]]
        .assert_eq(&refused(&[Change::PlatformImage, Change::Password], &[]));
        expect_test::expect![[r#"
            `POSTGRES_PASSWORD` changes, and the warehouse lacks `0002_step`
            hint: change the password alone first: cargo xtask env rotate prod POSTGRES_PASSWORD"#]]
        .assert_eq(&refused(&[Change::Password], &[schema]));
    }

    #[test]
    fn only_a_platform_that_stands_has_a_password_to_change() {
        let mut observed = host(&[(A, "running")], Some(A));
        assert!(observed.can_change_password());
        observed.platform_of = None;
        assert!(!observed.can_change_password());
    }
}
