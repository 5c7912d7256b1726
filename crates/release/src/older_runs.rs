//! What becomes of the runs that older code works on, when new code serves.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Plan, ReleaseId, Step};

/// What becomes of the runs that older code works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// They go on there, and the deploy does not wait for them.
    #[default]
    Keep,
    /// The deploy ends when they have ended.
    Drain,
    /// They are canceled once the new code is verified.
    Cancel,
}

/// A text that is no [`Runs`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `keep`, `drain` or `cancel`")]
pub struct ParseRunsError;

impl FromStr for Runs {
    type Err = ParseRunsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => Ok(Runs::Keep),
            "drain" => Ok(Runs::Drain),
            "cancel" => Ok(Runs::Cancel),
            _ => Err(ParseRunsError),
        }
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Runs::Keep => "keep",
            Runs::Drain => "drain",
            Runs::Cancel => "cancel",
        })
    }
}

impl Plan {
    /// The plan, with older code's runs treated so; `limit` is how many seconds to wait for their
    /// end. That is done once the release is recorded, or verified where it was recorded before:
    /// whatever comes of it, the new code serves. Where no run may be in flight, it is done then.
    #[must_use]
    pub fn with_runs(mut self, runs: Runs, limit: u64) -> Plan {
        if let Some(Step::Quiesce { how, limit: until }) =
            self.steps.iter_mut().find(|it| matches!(it, Step::Quiesce { .. }))
        {
            (*how, *until) = (runs, limit);
            return self;
        }
        let serves = |it: &Step| matches!(it, Step::Record | Step::Verify);
        let serves = self.steps.iter().rposition(serves);
        let (Some(serves), true) = (serves, runs != Runs::Keep) else { return self };
        let retired = self.steps.iter().find_map(|step| match step {
            Step::Retire(releases) => Some(releases.clone()),
            _ => None,
        });
        let of: Vec<ReleaseId> =
            self.from.iter().cloned().chain(retired.unwrap_or_default()).collect();
        if !of.is_empty() {
            self.steps.insert(serves + 1, Step::EndRuns { how: runs, of, limit });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_older_code_are_ended_when_the_new_code_is_recorded_and_before_it_is_retired() {
        let [a, b, new] = ["1-000000-a", "2-000000-b", "3-000000-c"]
            .map(|it| format!("2026110{it}").parse::<ReleaseId>().unwrap());
        let steps = vec![Step::Verify, Step::Record, Step::Retire(vec![a])];
        let plan = Plan { release: new, from: Some(b), changes: Vec::new(), steps };
        assert_eq!(plan.clone().with_runs(Runs::Keep, 60), plan);
        let lines: Vec<String> = [Runs::Drain, Runs::Cancel]
            .iter()
            .flat_map(|it| plan.clone().with_runs(*it, 1800).steps)
            .map(|it| it.to_string())
            .collect();
        expect_test::expect![[r#"
            verify that it is what is served
            record the release
            wait for the runs of 20261102-000000-b, 20261101-000000-a, at most 30 min
            let 20261101-000000-a finish and stop
            verify that it is what is served
            record the release
            cancel the runs of 20261102-000000-b, 20261101-000000-a, at most 30 min
            let 20261101-000000-a finish and stop"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_first_deploy_has_no_runs_to_end() {
        let release = "20261101-000000-a".parse().unwrap();
        let plan = Plan { release, from: None, changes: Vec::new(), steps: vec![Step::Record] };
        assert_eq!(plan.clone().with_runs(Runs::Cancel, 60), plan);
    }
}
