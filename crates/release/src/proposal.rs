//! A plan on paper: made now, read by people, carried out later or not at all.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Inputs, Location, Plan, Preview, Promoted, ReleaseId, Runs};

/// A plan with all that it was made on. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The environment.
    pub environment: String,
    /// The code location.
    pub location: Location,
    /// Who made it, from where.
    pub by: String,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// What is promoted; nothing, if it is the checkout that is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Promoted>,
    /// Whether code is let through that the environment that was to serve it first is not asked
    /// about.
    #[serde(default)]
    pub unproven: bool,
    /// What will be done.
    pub plan: Plan,
    /// What becomes of the runs of older code.
    pub runs: Runs,
    /// Of the checkout and the settings that it was made from.
    pub inputs: Inputs,
    /// What will change.
    pub preview: Preview,
}

/// Why a proposal cannot be carried out any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// Another release is what would be promoted.
    #[error("the plan promotes {planned}, which serves {} now", .found.release)]
    Promoted {
        /// What was promoted when the plan was made.
        planned: Promoted,
        /// What would be now.
        found: Promoted,
    },
    /// The checkout or the settings are others.
    #[error("the plan was made from another {}", .0.join(", another "))]
    Inputs(Vec<&'static str>),
    /// Another release serves.
    #[error(
        "`{environment}` has moved since the plan was made: it served {}, and serves {} now",
        release(.planned.as_ref()),
        release(.found.as_ref())
    )]
    Served {
        /// The environment.
        environment: String,
        /// What served when the plan was made.
        planned: Option<ReleaseId>,
        /// What serves.
        found: Option<ReleaseId>,
    },
    /// The same release serves, and something else on the host is not as it was.
    #[error("`{environment}` has moved since the plan was made: {}", .0.join("; "), environment = .1)]
    Host(Vec<String>, String),
}

impl Proposal {
    /// Whether it is still what should be done, given what would be planned `now` from `inputs`, and
    /// what would be promoted.
    ///
    /// Steps that tidy up are not compared: they follow code servers, which end by themselves.
    pub fn holds(
        &self,
        inputs: &Inputs,
        promoted: Option<&Promoted>,
        now: &Plan,
    ) -> Result<(), Outdated> {
        if let (Some(planned), Some(found)) = (&self.promoted, promoted)
            && planned != found
        {
            let (planned, found) = (planned.clone(), found.clone());
            return Err(Outdated::Promoted { planned, found });
        }
        let differ: Vec<&'static str> = [
            (self.inputs.core != inputs.core, "version of the code"),
            (self.inputs.core_settings != inputs.core_settings, "set of the code's settings"),
            (self.inputs.platform != inputs.platform, "version of the platform's image"),
            (
                self.inputs.platform_settings != inputs.platform_settings,
                "set of the platform's settings",
            ),
        ]
        .into_iter()
        .filter_map(|(differs, what)| differs.then_some(what))
        .collect();
        if !differ.is_empty() {
            return Err(Outdated::Inputs(differ));
        }
        let environment = self.environment.clone();
        if self.plan.from != now.from {
            let (planned, found) = (self.plan.from.clone(), now.from.clone());
            return Err(Outdated::Served { environment, planned, found });
        }
        if self.plan.changes == now.changes {
            return Ok(());
        }
        let only = |these: &Plan, those: &Plan| -> Vec<String> {
            let only = these.changes.iter().filter(|it| !those.changes.contains(it));
            only.map(ToString::to_string).collect()
        };
        let came = only(now, &self.plan).into_iter().map(|it| format!("now {it}"));
        let went = only(&self.plan, now).into_iter().map(|it| format!("no longer {it}"));
        Err(Outdated::Host(came.chain(went).collect(), environment))
    }
}

fn release(id: Option<&ReleaseId>) -> &str {
    id.map_or("nothing", ReleaseId::as_str)
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(promoted) = &self.promoted {
            writeln!(f, "promotes {promoted}: its images are copied, and nothing is built")?;
        }
        write!(f, "{}\n{}", self.plan, self.preview)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{Change, plan::tests::inputs};

    fn plan(from: &str, changes: Vec<Change>) -> Plan {
        Plan {
            release: "20261123-142233-fffffff".parse().unwrap(),
            from: Some(from.parse().unwrap()),
            changes,
            steps: Vec::new(),
        }
    }

    const A: &str = "20261101-000000-aaaaaaa";
    const B: &str = "20261102-000000-bbbbbbb";

    fn promoted(release: &str) -> Promoted {
        Promoted { environment: "staging".to_owned(), release: release.parse().unwrap() }
    }

    fn proposal(promoted: Option<Promoted>) -> Proposal {
        let proposal = Proposal {
            environment: "prod".to_owned(),
            location: Location::default(),
            by: "ana@laptop".to_owned(),
            at: "2026-11-01T00:00:00Z".to_owned(),
            promoted,
            unproven: false,
            plan: plan(A, vec![Change::Code]),
            runs: Runs::Keep,
            inputs: inputs("code"),
            preview: Preview::default(),
        };
        let json = serde_json::to_string(&proposal).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    #[track_caller]
    fn check(core: &str, now: &Plan, expected: &Expect) {
        expected.assert_eq(&answer(proposal(None).holds(&inputs(core), None, now)));
    }

    fn answer(holds: Result<(), Outdated>) -> String {
        holds.map_or_else(|outdated| outdated.to_string(), |()| "holds".to_owned())
    }

    #[test]
    fn a_plan_holds_until_the_host_or_the_checkout_moves() {
        check("code", &plan(A, vec![Change::Code]), &expect!["holds"]);
        check(
            "other code",
            &plan(A, vec![Change::Code]),
            &expect!["the plan was made from another version of the code"],
        );
        check(
            "code",
            &plan(B, vec![Change::Code]),
            &expect![
                "`prod` has moved since the plan was made: it served 20261101-000000-aaaaaaa, and serves 20261102-000000-bbbbbbb now"
            ],
        );
        let down = Change::Down("dagster-daemon".to_owned());
        check(
            "code",
            &plan(A, vec![Change::Code, down]),
            &expect!["`prod` has moved since the plan was made: now dagster-daemon is not running"],
        );
        check(
            "code",
            &plan(A, Vec::new()),
            &expect!["`prod` has moved since the plan was made: no longer the code changed"],
        );
    }

    #[test]
    fn a_plan_promotes_one_release_and_no_other() {
        let mut proposal = proposal(Some(promoted(B)));
        let holds = |found: &str| {
            answer(proposal.holds(&inputs("code"), Some(&promoted(found)), &proposal.plan))
        };
        expect!["holds"].assert_eq(&holds(B));
        expect!["the plan promotes 20261102-000000-bbbbbbb of staging, which serves 20261101-000000-aaaaaaa now"].assert_eq(&holds(A));
        proposal.plan.steps.push(crate::Step::Pull);
        expect![[r#"
            promotes 20261102-000000-bbbbbbb of staging: its images are copied, and nothing is built
            20261101-000000-aaaaaaa -> 20261123-142233-fffffff, because:
              - the code changed
            steps:
               1. pull its images by digest
        "#]]
        .assert_eq(&proposal.to_string());
    }
}
