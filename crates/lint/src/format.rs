//! A report, for a reader or a program.

use std::path::Path;

use serde_json::json;

use crate::finding::{Finding, Report};

/// How a report is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a reader: by file, with counts.
    Text {
        /// Whether the terminal shows colours.
        color: bool,
    },
    /// One JSON document.
    Json,
    /// Annotations of GitHub Actions.
    Github,
    /// The Static Analysis Results Interchange Format, 2.1.0.
    Sarif,
}

impl Report {
    /// The report in this form.
    pub fn show(&self, format: Format) -> String {
        match format {
            Format::Text { color } => text(self, color),
            Format::Json => pretty(&json!({
                "findings": self.findings,
                "crashes": self.crashes,
                "files": self.files,
                "judged": self.judged,
                "fixed": names(&self.fixed),
                "left": names(&self.left),
                "unstaged": names(&self.unstaged),
                "seconds": self.took.as_secs_f64(),
            })),
            Format::Github => github(self),
            Format::Sarif => sarif(self),
        }
    }
}

fn names(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|it| it.to_string_lossy().into_owned()).collect()
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// `1 file`, `2 files`
fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn text(report: &Report, color: bool) -> String {
    let paint = |code: &str, text: &str| {
        if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut out = String::new();
    let mut file: Option<&Path> = None;
    for finding in &report.findings {
        if file != Some(&finding.path) {
            file = Some(&finding.path);
            out.push_str(&paint("1", &shown(&finding.path)));
            out.push('\n');
        }
        let place = match (finding.line, finding.column) {
            (Some(line), Some(column)) => format!("{line}:{column}"),
            (Some(line), None) => line.to_string(),
            _ => String::new(),
        };
        let code = format!("{} {}", finding.linter, finding.code);
        out.push_str(&format!("  {place:<8}{} {}\n", paint("31", &code), finding.message));
    }
    for crash in &report.crashes {
        let said = crash.said.replace('\n', "\n  ");
        let head = format!("{} could not judge:", crash.linter);
        out.push_str(&format!("{}\n  {said}\n", paint("31;1", &head)));
    }
    let told: [(&str, &[std::path::PathBuf]); 3] = [
        ("mended:", &report.fixed),
        ("not mended, since it is staged in part, a link, or no longer a file:", &report.left),
        ("mended and not staged, as it was before:", &report.unstaged),
    ];
    for (head, paths) in told {
        for path in paths {
            out.push_str(&format!("{head} {}\n", shown(path)));
        }
    }
    let seconds = report.took.as_secs_f64();
    let files = count(report.files, "file");
    let outcome = if report.findings.is_empty() && report.crashes.is_empty() {
        paint("32", "clean")
    } else {
        let in_files: std::collections::BTreeSet<_> =
            report.findings.iter().map(|it| &it.path).collect();
        let findings = count(report.findings.len(), "finding");
        paint("31", &format!("{findings} in {}", count(in_files.len(), "file")))
    };
    out.push_str(&format!("{outcome} ({files} looked at, {seconds:.2} s)\n"));
    out
}

/// A name on one line of a terminal.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// `::error file=…,line=…::MESSAGE`
fn github(report: &Report) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for finding in &report.findings {
        let mut place = format!("file={}", property(&finding.path.to_string_lossy()));
        for (key, value) in [("line", finding.line), ("col", finding.column)] {
            if let Some(value) = value {
                place.push_str(&format!(",{key}={value}"));
            }
        }
        let title = property(&format!("{} {}", finding.linter, finding.code));
        out.push_str(&format!("::error {place},title={title}::{}\n", escape(&finding.message)));
    }
    for crash in &report.crashes {
        out.push_str(&format!(
            "::error title={} could not judge::{}\n",
            crash.linter,
            escape(&crash.said)
        ));
    }
    out
}

fn sarif(report: &Report) -> String {
    let mut linters: Vec<&str> = report.findings.iter().map(|it| it.linter.as_str()).collect();
    linters.extend(report.crashes.iter().map(|it| it.linter));
    linters.sort_unstable();
    linters.dedup();
    let runs: Vec<_> = linters
        .iter()
        .map(|linter| {
            let results: Vec<_> =
                report.findings.iter().filter(|it| it.linter == *linter).map(result).collect();
            let crashed: Vec<_> = report
                .crashes
                .iter()
                .filter(|it| it.linter == *linter)
                .map(|it| json!({ "level": "error", "message": { "text": it.said } }))
                .collect();
            json!({
                "tool": { "driver": { "name": linter } },
                "invocations": [{
                    "executionSuccessful": crashed.is_empty(),
                    "toolExecutionNotifications": crashed,
                }],
                "results": results,
            })
        })
        .collect();
    pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": runs,
    }))
}

fn result(finding: &Finding) -> serde_json::Value {
    let mut place = json!({ "artifactLocation": { "uri": uri(&finding.path) } });
    if let Some(line) = finding.line {
        place["region"] = json!({ "startLine": line });
        if let Some(column) = finding.column {
            place["region"]["startColumn"] = json!(column);
        }
    }
    json!({
        "ruleId": finding.code,
        "level": "error",
        "message": { "text": finding.message },
        "locations": [{ "physicalLocation": place }],
    })
}

/// A relative reference: what is neither a letter, a digit nor one of `-._~/` is escaped.
fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut all, byte| {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b'/' => all.push(char::from(*byte)),
            it if it.is_ascii_alphanumeric() => all.push(char::from(*it)),
            it => all.push_str(&format!("%{it:02X}")),
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::finding::Crash;

    fn report() -> Report {
        let finding =
            |path: &str, line: Option<u32>, linter: &str, code: &str, message: &str| Finding {
                path: path.into(),
                line,
                column: line.map(|_| 5),
                linter: linter.into(),
                code: code.into(),
                message: message.into(),
            };
        Report {
            findings: vec![
                finding("a b.py", None, "black", "format", "would be formatted otherwise"),
                finding("a b.py", Some(3), "flake8", "E501", "line too long (101 > 100, 100%)"),
                finding("c\n.py", Some(1), "mypy", "assignment", "no"),
            ],
            crashes: vec![Crash { linter: "isort", said: "Traceback\nKeyError".into() }],
            files: 2,
            judged: 5,
            took: Duration::from_millis(1234),
            left: vec!["c.py".into()],
            ..Report::default()
        }
    }

    #[track_caller]
    fn check(format: Format, expected: &Expect) {
        expected.assert_eq(&report().show(format));
    }

    #[test]
    fn a_reader_is_told_by_file() {
        check(
            Format::Text { color: false },
            &expect![[r#"
            a b.py
                      black format would be formatted otherwise
              3:5     flake8 E501 line too long (101 > 100, 100%)
            c\n.py
              1:5     mypy assignment no
            isort could not judge:
              Traceback
              KeyError
            not mended, since it is staged in part, a link, or no longer a file: c.py
            3 findings in 2 files (2 files looked at, 1.23 s)
        "#]],
        );
    }

    #[test]
    fn a_clean_report_is_one_line_and_green() {
        let clean = Report { files: 1, ..Report::default() };
        let shown = clean.show(Format::Text { color: true });
        assert_eq!(shown, "\u{1b}[32mclean\u{1b}[0m (1 file looked at, 0.00 s)\n");
    }

    #[test]
    fn actions_show_annotations() {
        check(
            Format::Github,
            &expect![[r#"
            ::error file=a b.py,title=black format::would be formatted otherwise
            ::error file=a b.py,line=3,col=5,title=flake8 E501::line too long (101 > 100, 100%25)
            ::error file=c%0A.py,line=1,col=5,title=mypy assignment::no
            ::error title=isort could not judge::Traceback%0AKeyError
        "#]],
        );
    }

    #[test]
    fn code_scanning_reads_it() {
        let mut report = report();
        report.findings.drain(1..);
        expect![[r#"
            {
              "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
              "runs": [
                {
                  "invocations": [
                    {
                      "executionSuccessful": true,
                      "toolExecutionNotifications": []
                    }
                  ],
                  "results": [
                    {
                      "level": "error",
                      "locations": [
                        {
                          "physicalLocation": {
                            "artifactLocation": {
                              "uri": "a%20b.py"
                            }
                          }
                        }
                      ],
                      "message": {
                        "text": "would be formatted otherwise"
                      },
                      "ruleId": "format"
                    }
                  ],
                  "tool": {
                    "driver": {
                      "name": "black"
                    }
                  }
                },
                {
                  "invocations": [
                    {
                      "executionSuccessful": false,
                      "toolExecutionNotifications": [
                        {
                          "level": "error",
                          "message": {
                            "text": "Traceback\nKeyError"
                          }
                        }
                      ]
                    }
                  ],
                  "results": [],
                  "tool": {
                    "driver": {
                      "name": "isort"
                    }
                  }
                }
              ],
              "version": "2.1.0"
            }
        "#]]
        .assert_eq(&report.show(Format::Sarif));
    }

    #[test]
    fn a_program_reads_it() {
        check(
            Format::Json,
            &expect![[r#"
            {
              "crashes": [
                {
                  "linter": "isort",
                  "said": "Traceback\nKeyError"
                }
              ],
              "files": 2,
              "findings": [
                {
                  "code": "format",
                  "column": null,
                  "line": null,
                  "linter": "black",
                  "message": "would be formatted otherwise",
                  "path": "a b.py"
                },
                {
                  "code": "E501",
                  "column": 5,
                  "line": 3,
                  "linter": "flake8",
                  "message": "line too long (101 > 100, 100%)",
                  "path": "a b.py"
                },
                {
                  "code": "assignment",
                  "column": 5,
                  "line": 1,
                  "linter": "mypy",
                  "message": "no",
                  "path": "c\n.py"
                }
              ],
              "fixed": [],
              "judged": 5,
              "left": [
                "c.py"
              ],
              "seconds": 1.234,
              "unstaged": []
            }
        "#]],
        );
    }
}
