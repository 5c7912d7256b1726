//! Where a run works, and whether that place is still there.

use serde::{Deserialize, Serialize};

/// Where a run works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Worker {
    /// Nowhere yet: it waits.
    None,
    /// In a code server that is there.
    In {
        /// Its container.
        container: String,
    },
    /// It worked in a code server that is gone: it will never end by itself.
    Gone {
        /// What became of the code server, as a sentence.
        why: String,
    },
    /// Not known: it may live.
    Unknown,
}

/// The code server that a run was given to.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its container.
    pub container: String,
    /// Since when it runs, in seconds since 1970; nothing if it does not run.
    pub since: Option<f64>,
}

impl Worker {
    /// Of a run that `waits` or began at `started`, in seconds since 1970, and was given to a
    /// `server` if one is known. Runs are processes of their code server: they end with it.
    ///
    /// What is not known to be gone may live.
    pub fn new(waits: bool, started: Option<f64>, server: Option<&Server>) -> Worker {
        if waits {
            return Worker::None;
        }
        let Some(Server { container, since }) = server else { return Worker::Unknown };
        let Some(since) = since else {
            return Worker::Gone { why: format!("{container} has stopped") };
        };
        match started {
            Some(started) if started < *since => {
                Worker::Gone { why: format!("{container} was started anew after it began") }
            }
            _ => Worker::In { container: container.clone() },
        }
    }

    /// Whether what worked on the run is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Worker::Gone { .. })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(waits: bool, started: Option<f64>, server: Option<&Server>, expected: &Expect) {
        expected.assert_eq(&format!("{:?}", Worker::new(waits, started, server)));
    }

    #[test]
    fn only_a_run_whose_code_server_is_known_to_be_gone_is_a_zombie() {
        let server = |since| Server { container: "core-1".to_owned(), since };
        let (stopped, runs) = (&server(None), &server(Some(100.0)));
        let (before, after) = (Some(99.0), Some(101.0));
        check(false, before, Some(stopped), &expect![[r#"Gone { why: "core-1 has stopped" }"#]]);
        check(false, None, Some(stopped), &expect![[r#"Gone { why: "core-1 has stopped" }"#]]);
        check(
            false,
            before,
            Some(runs),
            &expect![[r#"Gone { why: "core-1 was started anew after it began" }"#]],
        );
        check(false, after, Some(runs), &expect![[r#"In { container: "core-1" }"#]]);
        // It has not begun: the code server that is there may be starting it.
        check(false, None, Some(runs), &expect![[r#"In { container: "core-1" }"#]]);
        check(false, before, None, &expect!["Unknown"]);
        check(true, None, None, &expect!["None"]);
    }
}
