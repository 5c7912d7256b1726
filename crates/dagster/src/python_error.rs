//! An exception of Python, as Dagster tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An exception with everything Dagster keeps of it. [`Display`](fmt::Display) is the traceback
/// as Python prints it, less the frames of Dagster itself: the last line is the error, above it
/// are the user's own lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct PythonError {
    /// The message, class name included, as in the last line of a traceback.
    pub message: String,
    /// The class's bare name.
    pub class_name: String,
    /// The frames, outermost first.
    pub stack: Vec<String>,
    /// What led to it, nearest first.
    #[serde(default, rename(deserialize = "errorChain"))]
    pub chain: Vec<Link>,
}

/// An exception that led to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Whether the code said `raise … from …`.
    #[serde(rename(deserialize = "isExplicitLink"))]
    pub explicit: bool,
    /// The earlier exception.
    pub error: PythonError,
}

impl PythonError {
    /// Whether Dagster could not reach the code server, which says nothing of the code.
    pub fn is_unreachable(&self) -> bool {
        self.class_name == UNREACHABLE
    }

    /// The message in one line, without the module of the exception's class.
    pub fn summary(&self) -> &str {
        self.text().lines().next().unwrap_or_default()
    }

    /// A wrapper says that something failed, and its cause says what.
    fn is_wrapper(&self) -> bool {
        self.class_name.starts_with("Dagster") && !self.is_unreachable()
    }

    fn text(&self) -> &str {
        let text = self.message.trim_end();
        text.strip_prefix("dagster._core.errors.").unwrap_or(text)
    }

    /// The frames from the user's first one on, without Dagster's.
    fn frames(&self) -> impl Iterator<Item = &String> {
        self.stack
            .iter()
            .skip_while(|it| Origin::of(it) != Origin::User)
            .filter(|it| Origin::of(it) != Origin::Framework)
    }
}

const UNREACHABLE: &str = "DagsterUserCodeUnreachableError";

impl std::error::Error for PythonError {}

impl fmt::Display for PythonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = (self, false);
        let chain =
            || std::iter::once(own).chain(self.chain.iter().map(|it| (&it.error, it.explicit)));
        let n_errors = chain().count();
        let shown: Vec<_> = chain()
            .enumerate()
            .filter(|(n, (it, _))| {
                n + 1 == n_errors || !it.is_wrapper() || it.frames().next().is_some()
            })
            .map(|(_, it)| it)
            .collect();
        // Python's order: the first exception first.
        for (n, (error, _)) in shown.iter().enumerate().rev() {
            if let Some((_, explicit)) = shown.get(n + 1) {
                f.write_str(if *explicit {
                    "\n\nThe above exception was the direct cause of the following exception:\n\n"
                } else {
                    "\n\nDuring handling of the above exception, another exception occurred:\n\n"
                })?;
            }
            let mut frames = error.frames().peekable();
            if frames.peek().is_some() {
                f.write_str("Traceback (most recent call last):\n")?;
            }
            for frame in frames {
                writeln!(f, "{}", frame.trim_end())?;
            }
            f.write_str(error.text())?;
        }
        Ok(())
    }
}

/// Whose code a frame is.
#[derive(PartialEq)]
enum Origin {
    User,
    Library,
    Framework,
}

impl Origin {
    fn of(frame: &str) -> Origin {
        const FRAMEWORK: &[&str] =
            &["dagster", "dagster_shared", "dagster_graphql", "dagster_webserver", "grpc"];
        let Some((_, rest)) = frame.split_once("File \"") else { return Origin::Framework };
        let path = rest.split('"').next().unwrap_or_default();
        if path.starts_with('<') {
            return Origin::Framework;
        }
        let package = ["/site-packages/", "/dist-packages/"]
            .iter()
            .find_map(|dir| path.split_once(dir))
            .map(|(_, inside)| inside.split('/').next().unwrap_or_default());
        match package {
            Some(package) if FRAMEWORK.contains(&package) => Origin::Framework,
            // The team's project may be installed too: `dagster_core` is no part of Dagster.
            Some(package) if package.starts_with("dagster_core") => Origin::User,
            Some(_) => Origin::Library,
            None if path.contains("/lib/python3") => Origin::Library,
            None => Origin::User,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &Expect) {
        let error: PythonError = serde_json::from_str(json).unwrap();
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn a_failed_step_shows_the_users_frames_and_both_causes() {
        check(
            include_str!("../tests/recorded/step_error.json"),
            &expect![[r#"
            Traceback (most recent call last):
              File "/opt/dagster/app/definitions.py", line 32, in wait
                try: inner()
                     ^^^^^^^
              File "/opt/dagster/app/definitions.py", line 25, in inner
                raise ValueError("no zone `Mars/Olympus`")
            ValueError: no zone `Mars/Olympus`

            The above exception was the direct cause of the following exception:

            Traceback (most recent call last):
              File "/opt/dagster/app/definitions.py", line 33, in wait
                except ValueError as e: raise RuntimeError("loading the zones failed") from e
                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            RuntimeError: loading the zones failed"#]],
        );
    }

    #[test]
    fn a_failed_import_shows_the_line_that_imports() {
        check(
            include_str!("../tests/recorded/import_error.json"),
            &expect![[r#"
            Traceback (most recent call last):
              File "/opt/dagster/app/broken.py", line 7, in <module>
                defs = dg.Definitions(resources={"s": settings()})
                                                      ^^^^^^^^^^
              File "/opt/dagster/app/broken.py", line 4, in settings
                import psycopg_nope
            ModuleNotFoundError: No module named 'psycopg_nope'"#]],
        );
    }

    #[test]
    fn an_unreachable_server_keeps_the_reason_of_the_network() {
        check(
            include_str!("../tests/recorded/unreachable_error.json"),
            &expect![[r#"
            grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:
            	status = StatusCode.UNAVAILABLE
            	details = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:4000: Failed to connect to remote host: Connection refused"
            	debug_error_string = "UNAVAILABLE:failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:4000: Failed to connect to remote host: Connection refused"
            >

            The above exception was the direct cause of the following exception:

            DagsterUserCodeUnreachableError: Could not reach user code server. gRPC Error code: UNAVAILABLE"#]],
        );
    }

    #[test]
    fn a_syntax_error_keeps_the_place_that_its_message_tells() {
        check(
            include_str!("../tests/recorded/syntax_error.json"),
            &expect![[r#"
              File "/opt/dagster/app/syntax.py", line 3
                def zones(:
                          ^
            SyntaxError: invalid syntax"#]],
        );
    }

    #[test]
    fn an_installed_project_counts_as_the_users_own() {
        check(
            r#"{"message": "KeyError: 'zone'\n", "className": "KeyError", "stack": [
                "  File \"/venv/lib/python3.12/site-packages/dagster/_core/execution/plan/utils.py\", line 57, in f\n    yield\n",
                "  File \"/venv/lib/python3.12/site-packages/dagster_core/assets.py\", line 7, in zones\n    row['zone']\n",
                "  File \"/venv/lib/python3.12/site-packages/pandas/frame.py\", line 9, in get\n    raise\n"]}"#,
            &expect![[r#"
                Traceback (most recent call last):
                  File "/venv/lib/python3.12/site-packages/dagster_core/assets.py", line 7, in zones
                    row['zone']
                  File "/venv/lib/python3.12/site-packages/pandas/frame.py", line 9, in get
                    raise
                KeyError: 'zone'"#]],
        );
    }

    #[test]
    fn a_summary_is_one_line_without_the_module() {
        let json = include_str!("../tests/recorded/unreachable_error.json");
        let error: PythonError = serde_json::from_str(json).unwrap();
        assert!(error.is_unreachable());
        expect!["DagsterUserCodeUnreachableError: Could not reach user code server. gRPC Error code: UNAVAILABLE"].assert_eq(error.summary());
    }
}
