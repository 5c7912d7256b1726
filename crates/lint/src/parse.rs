//! What each linter says, understood.
//!
//! A parser answers none where the linter could not judge: that is no finding, and no absence of
//! findings either.

use exec::Output;
use serde::Deserialize;

use crate::finding::Finding;

/// The fields are apart by a character that no file's name here has.
pub(crate) const FLAKE8_FORMAT: &str =
    "--format=%(path)s\u{1f}%(row)d\u{1f}%(col)d\u{1f}%(code)s\u{1f}%(text)s";

fn finding(linter: &str, code: &str, path: &str, message: &str) -> Finding {
    Finding {
        path: path.into(),
        line: None,
        column: None,
        linter: linter.to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

/// The findings; none if they do not fit the exit code.
fn judged(output: &Output, findings: Vec<Finding>, codes: &[i32]) -> Option<Vec<Finding>> {
    match output.status.code() {
        Some(0) => Some(findings),
        Some(code) if codes.contains(&code) && !findings.is_empty() => Some(findings),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn has_traceback(stderr: &str) -> bool {
    stderr.contains("Traceback (most recent call last)")
}

/// `would reformat PATH`, `error: cannot parse[ for target version V]: PATH:LINE:COLUMN`,
/// `error: cannot format PATH: WHY`; and of what black itself made, on two lines,
/// `error: INTERNAL ERROR: …:` and `cannot parse…: PATH:LINE:COLUMN`.
pub(crate) fn black(output: &Output) -> Option<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut internal = false;
    for line in text(&output.stderr).lines() {
        let error = line.strip_prefix("error: ");
        if let Some(path) = line.strip_prefix("would reformat ") {
            findings.push(finding("black", "format", path, "would be formatted otherwise"));
        } else if let Some(what) =
            error.or(internal.then_some(line)).and_then(|it| it.strip_prefix("cannot parse"))
        {
            let (_version, place) = what.split_once(": ")?;
            let mut parts = place.rsplitn(3, ':');
            let (column, row, path) = (parts.next()?, parts.next()?, parts.next()?);
            let (code, message) = if internal {
                ("error", "INTERNAL ERROR: black cannot parse what it made")
            } else {
                ("syntax", "cannot be parsed")
            };
            findings.push(Finding {
                line: Some(row.parse().ok()?),
                column: column.parse().ok(),
                ..finding("black", code, path, message)
            });
        } else if let Some(what) = error.and_then(|it| it.strip_prefix("cannot format ")) {
            let (path, why) = what.split_once(": ")?;
            findings.push(finding("black", "error", path, why));
        } else if error.is_some_and(|it| !it.starts_with("INTERNAL ERROR: ")) {
            return None;
        }
        internal = error.is_some_and(|it| it.starts_with("INTERNAL ERROR: "));
    }
    judged(output, findings, &[1, 123])
}

/// `ERROR: PATH Imports are incorrectly sorted and/or formatted.`, or `ERROR: WHY` for a file that it
/// does not name, and after which it stops: that finding is of no file.
pub(crate) fn isort(output: &Output) -> Option<Vec<Finding>> {
    let stderr = text(&output.stderr);
    let mut findings = Vec::new();
    let mut has_unread = false;
    for line in stderr.lines() {
        if line == "ERROR: No valid encodings." {
            // It passes over such files, but where there are no others.
            has_unread = true;
        } else if let Some(error) = line.strip_prefix("ERROR: ") {
            findings.push(
                match error.strip_suffix(" Imports are incorrectly sorted and/or formatted.") {
                    Some(path) => {
                        finding("isort", "imports", path, "imports would be sorted otherwise")
                    }
                    None => finding("isort", "error", "", error),
                },
            );
        } else if line.contains("Unable to parse file ") && line.contains(" due to [Errno ") {
            // One that is no text is nothing to it; this one it could not read.
            return None;
        }
    }
    if has_traceback(&stderr) {
        return None;
    }
    if has_unread && findings.is_empty() && output.status.code() == Some(1) {
        return Some(findings);
    }
    judged(output, findings, &[1])
}

/// What [`FLAKE8_FORMAT`] asks for. Counts and statistics, if configured, are passed over.
pub(crate) fn flake8(output: &Output) -> Option<Vec<Finding>> {
    let stdout = text(&output.stdout);
    let mut findings = Vec::new();
    for line in stdout.lines() {
        let mut fields = line.splitn(5, '\u{1f}');
        if let (Some(path), Some(row), Some(column), Some(code), Some(message)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        {
            findings.push(Finding {
                line: row.parse().ok(),
                column: column.parse().ok(),
                ..finding("flake8", code, path, message)
            });
        }
    }
    if has_traceback(&text(&output.stderr)) {
        return None;
    }
    judged(output, findings, &[1])
}

#[derive(Deserialize)]
struct MypyLine {
    file: String,
    line: i64,
    column: i64,
    message: String,
    code: Option<String>,
    severity: String,
}

/// A line of JSON a finding. Notes alone are none, though in JSON, unlike in text, mypy fails by
/// them. A crash comes after what was found until then.
pub(crate) fn mypy(output: &Output) -> Option<Vec<Finding>> {
    let stdout = text(&output.stdout);
    let mut findings = Vec::new();
    let mut has_notes = false;
    for line in stdout.lines().filter(|it| it.starts_with('{')) {
        let said: MypyLine = serde_json::from_str(line).ok()?;
        has_notes |= said.severity == "note";
        if said.severity == "error" {
            findings.push(Finding {
                line: u32::try_from(said.line).ok().filter(|it| *it > 0),
                column: u32::try_from(said.column + 1).ok().filter(|it| *it > 0),
                ..finding(
                    "mypy",
                    said.code.as_deref().unwrap_or("error"),
                    &said.file,
                    &said.message,
                )
            });
        }
    }
    if text(&output.stderr).contains("INTERNAL ERROR") {
        return None;
    }
    if has_notes && findings.is_empty() && output.status.code() == Some(1) {
        return Some(findings);
    }
    judged(output, findings, &[1, 2])
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(
        parse: fn(&Output) -> Option<Vec<Finding>>,
        code: i32,
        stdout: &str,
        stderr: &str,
        expected: &Expect,
    ) {
        let output = Output {
            status: ExitStatus::from_raw(code << 8).into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let shown = parse(&output).map_or_else(
            || "could not judge".to_owned(),
            |findings| {
                findings.iter().fold(String::new(), |mut all, it| {
                    let (path, line, column) = (it.path.display(), it.line, it.column);
                    writeln!(all, "{path} {line:?} {column:?} {} {}", it.code, it.message).unwrap();
                    all
                })
            },
        );
        expected.assert_eq(&shown);
    }

    #[test]
    fn black_says_which_files_and_where_it_cannot_read() {
        let said = "\
Identified `/tree` as project root containing a .git directory.
Found input source: \"pkg/a.py\"
-dash.py already well formatted, good job.
would reformat pkg/a b.py
concurrent.futures.process._RemoteTraceback:
Traceback (most recent call last):
error: cannot parse: pkg/bad.py:1:6
    def f(:
         ^
error: cannot parse for target version Python 3.11: pkg/old.py:2:1
error: cannot format c.py: INTERNAL ERROR: Black produced code that is not equivalent
error: INTERNAL ERROR: Black 26 on Python 3.11 produced invalid code:
cannot parse: d.py:3:4

1 file would be reformatted, 1 file would be left unchanged, 2 files would fail to reformat.
";
        check(
            black,
            123,
            "",
            said,
            &expect![[r#"
            pkg/a b.py None None format would be formatted otherwise
            pkg/bad.py Some(1) Some(6) syntax cannot be parsed
            pkg/old.py Some(2) Some(1) syntax cannot be parsed
            c.py None None error INTERNAL ERROR: Black produced code that is not equivalent
            d.py Some(3) Some(4) error INTERNAL ERROR: black cannot parse what it made
        "#]],
        );
        check(black, 0, "", "All done!", &expect![[r""]]);
        check(black, 1, "", "Invalid config keys detected", &expect!["could not judge"]);
        let said = "would reformat a.py\nerror: what no version says today\n";
        check(black, 123, "", said, &expect!["could not judge"]);
    }

    #[test]
    fn isort_says_which_files() {
        let said = "\
ERROR: /tree/pkg/a b.py Imports are incorrectly sorted and/or formatted.
/venv/isort/core.py:1: UserWarning: Unable to parse file ./c.py due to unknown encoding
ERROR: isort was told to sort imports within code that contains syntax errors: Parenthesis is not closed.
";
        check(
            isort,
            1,
            "",
            said,
            &expect![[r#"
            /tree/pkg/a b.py None None imports imports would be sorted otherwise
             None None error isort was told to sort imports within code that contains syntax errors: Parenthesis is not closed.
        "#]],
        );
        check(isort, 1, "", "ERROR: No valid encodings.\n", &expect![[r""]]);
        let said =
            "Sorry, but to use --color (color_output) the colorama python package is required.";
        check(isort, 1, "", said, &expect!["could not judge"]);
        let said = "ERROR: a.py Imports are incorrectly sorted and/or formatted.\n\
                    Traceback (most recent call last):\n";
        check(isort, 1, "", said, &expect!["could not judge"]);
    }

    #[test]
    fn flake8_is_read_between_its_counts() {
        let said =
            "./a.py\u{1f}3\u{1f}6\u{1f}E201\u{1f}whitespace after '{'\n1     E201 whitespace\n1\n";
        check(
            flake8,
            1,
            said,
            "",
            &expect![[r#"
            ./a.py Some(3) Some(6) E201 whitespace after '{'
        "#]],
        );
        check(flake8, 1, "a.py:1:1: E1 by quiet means\n", "", &expect!["could not judge"]);
        check(flake8, 1, said, "Traceback (most recent call last):", &expect!["could not judge"]);
    }

    #[test]
    fn mypy_is_read_by_line_and_its_notes_are_not_findings() {
        let said = r#"{"file": "a.py", "line": 4, "column": 9, "message": "no", "hint": null, "code": "assignment", "severity": "error"}
{"file": "a.py", "line": 4, "column": 9, "message": "see", "hint": null, "code": null, "severity": "note"}
{"file": "b.py", "line": -1, "column": -1, "message": "none", "hint": null, "code": null, "severity": "error"}
"#;
        check(
            mypy,
            1,
            said,
            "",
            &expect![[r#"
            a.py Some(4) Some(10) assignment no
            b.py None None error none
        "#]],
        );
        let note = said.lines().nth(1).unwrap();
        check(mypy, 1, note, "", &expect![[r""]]);
        check(mypy, 2, note, "mypy: error", &expect!["could not judge"]);
        check(mypy, 2, "", "mypy: error: cannot find module", &expect!["could not judge"]);
        check(mypy, 2, said, "a.py:4: error: INTERNAL ERROR --", &expect!["could not judge"]);
    }
}
