//! What was measured, as pages of the documentation: facts in JSON, tables in Markdown, one picture.

use std::{
    fmt::{self, Write as _},
    fs, io,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::Table;

/// What one verb measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Section {
    /// The command that measures it again.
    pub command: String,
    /// What was done, in a sentence or two.
    pub about: String,
    /// What came of it.
    pub tables: Vec<Table>,
    /// What was aimed at.
    pub goals: Vec<Goal>,
    /// Seconds to compare by eye.
    #[serde(default)]
    pub bars: Vec<Bar>,
}

/// Something that was aimed at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Goal {
    /// What.
    pub what: String,
    /// What was measured, with its unit.
    pub measured: String,
    /// Whether it is met.
    pub met: bool,
}

/// Seconds, with what took them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bar {
    /// What.
    pub what: String,
    /// How long, in seconds.
    pub seconds: f64,
    /// Whether it is the flow that a deploy replaces.
    pub other: bool,
}

/// A page: its file, its title, and its sections in order.
type Page = (&'static str, &'static str, &'static [&'static str]);

const PAGES: [Page; 4] = [
    ("benchmarks", "Benchmarks", &["deploy", "distance", "endurance", "dev", "lint"]),
    ("faults", "Faults", &["faults-deploy", "faults-rollback", "faults-platform"]),
    ("lint-scenarios", "Commits that are hard to judge", &["lint-scenarios"]),
    ("lint-edits", "Random edits", &["lint-edits"]),
];

impl Goal {
    /// A number that shall be at most so much.
    pub fn at_most(what: &str, measured: f64, limit: f64, unit: &str) -> Goal {
        let what = format!("{what}: at most {limit} {unit}").trim_end().to_owned();
        let measured = (measured * 1000.0).round() / 1000.0;
        Goal {
            what,
            measured: format!("{measured} {unit}").trim_end().to_owned(),
            met: measured <= limit,
        }
    }

    /// Something that shall not happen.
    pub fn none(what: &str, of: usize, measured: usize) -> Goal {
        Goal {
            what: format!("no {what}"),
            measured: format!("{measured} of {of}"),
            met: measured == 0,
        }
    }
}

impl Section {
    /// Whether all that was aimed at is met.
    pub fn is_met(&self) -> bool {
        self.goals.iter().all(|it| it.met)
    }

    /// Keeps it in `docs`, and renders the page there anew that it is a section of.
    pub fn save(&self, docs: &Path, name: &str) -> io::Result<()> {
        let facts = docs.join("benchmarks");
        fs::create_dir_all(&facts)?;
        let json = serde_json::to_string_pretty(self).expect("it is plain data");
        fs::write(facts.join(format!("{name}.json")), json + "\n")?;

        let page = PAGES.iter().find(|it| it.2.contains(&name)).expect("it has a page");
        let (file, title, sections) = page;
        let known = sections.iter().filter_map(|name| {
            let text = fs::read_to_string(facts.join(format!("{name}.json"))).ok()?;
            Some((*name, serde_json::from_str::<Section>(&text).ok()?))
        });
        let known: Vec<(&str, Section)> = known.collect();
        let bars: Vec<&Bar> = known.iter().flat_map(|(_, it)| &it.bars).collect();
        let mut text = format!("# {title}\n");
        if !bars.is_empty() {
            text += &format!("\n![Seconds]({file}.svg)\n");
            fs::write(docs.join(format!("{file}.svg")), svg(&bars))?;
        }
        for (name, section) in &known {
            text += "\n";
            text += &match sections {
                [_] => section.markdown(None),
                _ => section.markdown(Some(&capital(name.rsplit('-').next().unwrap_or(name)))),
            };
        }
        fs::write(docs.join(format!("{file}.md")), text)
    }

    fn markdown(&self, title: Option<&str>) -> String {
        let Section { command, about, tables, goals, .. } = self;
        let title = title.map(|it| format!("## {it}\n\n")).unwrap_or_default();
        let mut text = format!("{title}{about}\n\n    {command}\n");
        for table in tables.iter().chain(&goals_table(goals)) {
            text += "\n";
            text += &table.markdown();
        }
        text
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.about)?;
        for table in self.tables.iter().chain(&goals_table(&self.goals)) {
            writeln!(f, "{table}")?;
        }
        Ok(())
    }
}

fn goals_table(goals: &[Goal]) -> Option<Table> {
    let mut table = Table::new(["goal", "measured", ""]);
    for Goal { what, measured, met } in goals {
        table.row([what.clone(), measured.clone(), if *met { "met" } else { "MISSED" }.to_owned()]);
    }
    (!goals.is_empty()).then_some(table)
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

/// A picture of bars, in colours that read on light and dark.
fn svg(bars: &[&Bar]) -> String {
    const LEFT: f64 = 300.0;
    const SCALE: f64 = 380.0;

    let longest = bars.iter().map(|it| it.seconds).fold(0.1, f64::max);
    let height = 28 * bars.len() + 12;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#888\">\n"
    );
    for (n, Bar { what, seconds, other }) in bars.iter().enumerate() {
        let y = 28 * n + 8;
        let width = (seconds / longest * SCALE).max(1.0);
        let colour = if *other { "#b0b7c3" } else { "#4f6df5" };
        let (text, after, what) = (y + 15, LEFT + width + 8.0, escaped(what));
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{what}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" rx=\"3\" fill=\"{colour}\"/>\
             <text x=\"{after:.1}\" y=\"{text}\">{seconds:.1} s</text>",
            x = LEFT - 10.0,
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn section() -> Section {
        let mut table = Table::new(["", "seconds"]);
        table.row(["deploy".to_owned(), "4.0".to_owned()]);
        Section {
            command: "cargo xtask bench deploy".to_owned(),
            about: "The same change, twice.".to_owned(),
            tables: vec![table],
            goals: vec![
                Goal::at_most("of the other's seconds", 0.35, 0.4, ""),
                Goal::none("lost runs", 3, 1),
            ],
            bars: vec![Bar { what: "deploy <new>".to_owned(), seconds: 4.0, other: false }],
        }
    }

    #[test]
    fn a_section_stands_on_the_page_with_its_command_and_goals() {
        expect![[r#"
            ## Deploy

            The same change, twice.

                cargo xtask bench deploy

            |  | seconds |
            | --- | --- |
            | deploy | 4.0 |

            | goal | measured |  |
            | --- | --- | --- |
            | of the other's seconds: at most 0.4 | 0.35 | met |
            | no lost runs | 1 of 3 | MISSED |
        "#]]
        .assert_eq(&section().markdown(Some("Deploy")));
        assert!(!section().is_met());
    }

    #[test]
    fn pages_are_rendered_from_all_that_was_saved() {
        let docs = tempfile::tempdir().unwrap();
        for name in ["distance", "deploy", "faults-deploy"] {
            section().save(docs.path(), name).unwrap();
        }
        let read = |name: &str| fs::read_to_string(docs.path().join(name)).unwrap();
        let page = read("benchmarks.md");
        let at = |text: &str| page.find(text).unwrap();
        assert!(at("## Deploy") < at("## Distance"), "{page}");
        assert!(read("faults.md").starts_with("# Faults\n"));
        expect![[r##"
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 68" font-family="system-ui, sans-serif" font-size="13" fill="#888">
            <text x="290" y="23" text-anchor="end">deploy &lt;new&gt;</text><rect x="300" y="8" width="380.0" height="20" rx="3" fill="#4f6df5"/><text x="688.0" y="23">4.0 s</text>
            <text x="290" y="51" text-anchor="end">deploy &lt;new&gt;</text><rect x="300" y="36" width="380.0" height="20" rx="3" fill="#4f6df5"/><text x="688.0" y="51">4.0 s</text>
            </svg>
        "##]].assert_eq(&read("benchmarks.svg"));
    }
}
