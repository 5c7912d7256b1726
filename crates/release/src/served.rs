//! What an environment has served: enough for another one to take it, or not.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{AuditLog, Digest, Ended, ImageRef, Observed, Outcome, ReleaseId};

/// A release of one environment that was made one of another: by the same images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The environment that served it.
    pub environment: String,
    /// The release.
    pub release: ReleaseId,
}

impl fmt::Display for Promoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.release, self.environment)
    }
}

/// The images of the code that an environment has served, each verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    environment: String,
    images: BTreeSet<Digest>,
}

/// Code that an environment takes only from another one, where it never served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{environment}` takes only what `{by}` has served, and not {}", told(.image.as_ref()))]
pub struct Unproven {
    environment: String,
    by: String,
    image: Option<ImageRef>,
}

impl Served {
    /// By the releases on its host; and by its audit log, which outlives them. What a line does not
    /// tell, as those of older versions of this program, is not known.
    pub fn new(observed: &Observed, audit_log: &str) -> Served {
        let layout = &observed.layout;
        let verified = observed.manifests.iter().filter(|it| it.outcome == Outcome::Deployed);
        let of_releases = verified.filter_map(|it| it.core_image.digest().cloned());
        let log = AuditLog::read(audit_log, true, Some(&layout.location), usize::MAX);
        let done = log.entries.iter().filter(|it| it.outcome == Some(Ended::Done));
        let of_log = done.filter_map(|it| it.digest.as_ref()?.parse().ok());
        Served {
            environment: layout.environment.clone(),
            images: of_releases.chain(of_log).collect(),
        }
    }

    /// Refuses an image that never served there, for an environment that asks for it; one that is
    /// yet to be made never did.
    pub fn require(&self, image: Option<&ImageRef>, environment: &str) -> Result<(), Unproven> {
        let digest = image.and_then(ImageRef::digest);
        if digest.is_some_and(|it| self.images.contains(it)) {
            return Ok(());
        }
        let (environment, by) = (environment.to_owned(), self.environment.clone());
        Err(Unproven { environment, by, image: image.cloned() })
    }
}

impl Unproven {
    /// What the reader can do about it.
    pub fn hint(&self) -> String {
        let Unproven { environment, by, .. } = self;
        format!(
            "deploy it to {by}, and release what serves there: cargo xtask deploy {environment} \
             --from {by}\nor let it through with --unproven, of which the audit log tells; \
             DEPLOY_PROVEN_BY says what is asked for"
        )
    }
}

fn told(image: Option<&ImageRef>) -> String {
    image.map_or_else(|| "code whose image is yet to be made".to_owned(), |it| format!("`{it}`"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        Entry,
        plan::tests::{A, B, host, manifest},
    };

    fn digest(n: u8) -> Digest {
        format!("sha256:{}", n.to_string().repeat(64)).parse().unwrap()
    }

    fn image(n: u8) -> ImageRef {
        "registry.example/team/dagster-core".parse::<ImageRef>().unwrap().with_digest(digest(n))
    }

    /// A line of the audit log.
    fn line(verb: &str, outcome: Ended, n: u8) -> String {
        let mut entry = Entry::new(verb, "ana@laptop".into(), "2026-11-01T00:00:00Z".into());
        entry.outcome = Some(outcome);
        entry.digest = Some(digest(n).to_string());
        entry.json() + "\n"
    }

    fn observed(outcome: Outcome, n: u8) -> Observed {
        let mut observed = host(&[], None);
        observed.layout.environment = "staging".into();
        let mut manifest = manifest(A, "code");
        (manifest.outcome, manifest.core_image) = (outcome, image(n));
        observed.manifests.push(manifest);
        observed
    }

    #[track_caller]
    fn check(observed: &Observed, log: &str, expected: &[u8]) {
        let served = Served::new(observed, log);
        let proven = |n: &u8| served.require(Some(&image(*n)), "prod").is_ok();
        assert_eq!((1..=9).filter(proven).collect::<Vec<u8>>(), expected);
    }

    #[test]
    fn what_a_release_was_verified_with_has_served() {
        check(&observed(Outcome::Deployed, 1), "", &[1]);
        check(&observed(Outcome::Pending, 1), "", &[]);
        check(&host(&[], None), "", &[]);
    }

    #[test]
    fn the_audit_log_remembers_what_served_when_its_release_is_gone() {
        let log = [
            line("deploy", Ended::Done, 2),
            line("rollback", Ended::Done, 3),
            line("apply", Ended::Done, 4),
            line("deploy", Ended::Undone, 5),
            line("deploy", Ended::Refused, 6),
            line("deploy", Ended::CutOff, 7),
            // Of another code location, of an older version, and never finished.
            line("deploy", Ended::Done, 8).replace("dagster_core", "reports"),
            "{\"verb\":\"deploy\",\"by\":\"ben\",\"at\":\"x\",\"outcome\":\"done\"}\n".to_owned(),
            line("deploy", Ended::Done, 9)[..40].to_owned(),
        ];
        check(&observed(Outcome::Deployed, 1), &log.concat(), &[1, 2, 3, 4]);
    }

    #[test]
    fn what_never_served_is_named_with_both_ways_out() {
        let served = Served::new(&observed(Outcome::Deployed, 1), "");
        let check = |image: Option<&ImageRef>, expected: &Expect| {
            let why = served.require(image, "prod").unwrap_err();
            expected.assert_eq(&format!("error: {why}\nhint: {}", why.hint()));
        };
        check(
            Some(&image(2)),
            &expect![[r#"
                error: `prod` takes only what `staging` has served, and not `registry.example/team/dagster-core@sha256:2222222222222222222222222222222222222222222222222222222222222222`
                hint: deploy it to staging, and release what serves there: cargo xtask deploy prod --from staging
                or let it through with --unproven, of which the audit log tells; DEPLOY_PROVEN_BY says what is asked for"#]],
        );
        check(
            None,
            &expect![[r#"
                error: `prod` takes only what `staging` has served, and not code whose image is yet to be made
                hint: deploy it to staging, and release what serves there: cargo xtask deploy prod --from staging
                or let it through with --unproven, of which the audit log tells; DEPLOY_PROVEN_BY says what is asked for"#]],
        );
        // By a tag alone nobody knows what it is.
        let tagged: ImageRef = "registry.example/team/dagster-core:1".parse().unwrap();
        assert!(served.require(Some(&tagged), "prod").is_err());
    }

    #[test]
    fn a_promotion_is_told_by_release_and_environment() {
        let promoted = Promoted { environment: "staging".into(), release: B.parse().unwrap() };
        assert_eq!(promoted.to_string(), "20261102-000000-bbbbbbb of staging");
    }
}
