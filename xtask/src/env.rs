//! `env`: the settings of every environment, seen and checked; no secret is ever shown.

use std::{collections::BTreeMap, io::Write as _, path::Path, process::ExitCode};

use anyhow::{anyhow, bail};
use exec::Cmd;
use serde_json::{Value as Json, json};
use settings::{Checkup, Condition, Difference, Item, Problem, Resolved, Template, Value};

use crate::{ask::Terminal, forward};

/// Show, compare, check and fill in the settings of environments
///
/// Templates (env-templates/ENV.env) say which settings there are; `.env.ENV` beside them gives their
/// values, and the process's environment wins over both. Secrets are never shown.
#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 unexpected, 2 wrong usage, 3 refused: something is wrong"
)]
pub(crate) struct Env {
    #[command(subcommand)]
    verb: EnvVerb,
}

#[derive(clap::Subcommand)]
enum EnvVerb {
    /// The environments, and whether they have values here
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// What an environment's settings are, and where each came from
    Show {
        /// The environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// What a setting is for, and what it is in each environment
    Explain {
        /// The setting, e.g. DEPLOY_HOST
        #[arg(required_unless_present = "markdown")]
        key: Option<String>,
        /// Print the page of all settings, docs/settings.md
        #[arg(long, conflicts_with_all = ["key", "json"])]
        markdown: bool,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// What is wrong, in all environments or in one
    Check {
        /// Only this one, as a deploy from here would see it
        #[arg(value_name = "ENV")]
        environment: Option<String>,
        /// The templates alone, as in CI
        #[arg(long, conflicts_with = "environment")]
        templates: bool,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// How two environments differ
    ///
    /// Variables of the process's environment speak for the first of them alone.
    Diff {
        /// The one
        #[arg(value_name = "A")]
        left: String,
        /// The other
        #[arg(value_name = "B")]
        right: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a release that differs from what serves in one secret
    Rotate(forward::Arguments),
    /// Ask for what is missing and write it into `.env.ENV`
    Init {
        /// The environment
        #[arg(value_name = "ENV")]
        environment: String,
    },
}

/// Something is wrong and nothing was changed: the house's exit code for it.
const REFUSED: u8 = 3;

impl Env {
    /// Of the checkout we stand in, as `deploy` sees it; else of the one at `home`.
    pub(crate) fn run(self, home: &Path) -> anyhow::Result<ExitCode> {
        let here = std::env::current_dir()?;
        let root = here.ancestors().find(|it| it.join("env-templates").is_dir()).unwrap_or(home);
        self.verb.run(root, home).or_else(|error| {
            if !error.is::<settings::Error>() {
                return Err(error);
            }
            crate::report(&error);
            Ok(ExitCode::from(REFUSED))
        })
    }
}

impl EnvVerb {
    fn run(self, root: &Path, home: &Path) -> anyhow::Result<ExitCode> {
        let process = variables();
        let nothing = BTreeMap::new();
        let read = |name: &str| settings::read(root, name, &nothing, &process);
        match self {
            EnvVerb::List { json } => list(root, json)?,
            EnvVerb::Show { environment, json } => show(&read(&environment)?, json),
            EnvVerb::Explain { key: Some(key), json, .. } => {
                explain(&settings::templates(root)?, &key, json)?;
            }
            EnvVerb::Explain { key: None, .. } => {
                print(&settings::markdown(&settings::templates(root)?));
            }
            EnvVerb::Check { environment, templates, json } => {
                let mut found = if templates {
                    settings::check_templates(root)?
                } else {
                    settings::check(root, environment.as_deref(), &process)?
                };
                found.problems.extend(settings::tracked(&in_git(root)));
                return Ok(checked(&found, json));
            }
            EnvVerb::Diff { left, right, json } => {
                // The process speaks for one of them alone.
                let other = settings::read(root, &right, &nothing, &nothing)?;
                diff(&read(&left)?, &other, json);
            }
            EnvVerb::Init { environment } => return init(root, &read(&environment)?),
            EnvVerb::Rotate(rest) => return forward::deploy("env", rest.after("rotate"), home),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// For `ci`: the templates, and that git holds no file of values.
pub(crate) fn check_templates(root: &Path) -> anyhow::Result<()> {
    let mut found = settings::check_templates(root)?;
    found.problems.extend(settings::tracked(&in_git(root)));
    if found.problems.is_empty() { Ok(()) } else { bail!("{}", told(&found)) }
}

fn list(root: &Path, json: bool) -> anyhow::Result<()> {
    let nothing = BTreeMap::new();
    let mut all = Vec::new();
    for name in settings::environments(root) {
        all.push(settings::read(root, &name, &nothing, &nothing)?);
    }
    let rows = all.iter().map(|it| {
        let is = match it {
            it if it.is_testbed() => "a throwaway VM on this machine".to_owned(),
            it if it.has_file => format!("values in .env.{}", it.environment),
            it if it.missing.is_empty() => "no values here, and none are needed".to_owned(),
            it => format!("no values here: cargo xtask env init {}", it.environment),
        };
        [it.environment.clone(), is]
    });
    let facts = || {
        let one = |it: &Resolved| json!({ "environment": it.environment, "throwaway": it.is_testbed(), "has_file": it.has_file });
        all.iter().map(one).collect()
    };
    tell(json, facts, || table(&rows.collect::<Vec<_>>()));
    Ok(())
}

fn show(it: &Resolved, json: bool) {
    let origin = |item: &Item| match it.value(&item.key) {
        Some(value) => value.origin.to_string(),
        None if item.required && it.is_testbed() => "its throwaway VM gives it".to_owned(),
        None if item.required => "missing".to_owned(),
        None => "not set".to_owned(),
    };
    let facts = || {
        let one = |item: &Item| {
            let value = it.value(&item.key);
            json!({
                "key": item.key,
                "set": value.is_some(),
                "sensitive": item.sensitive,
                "value": value.filter(|it| !it.sensitive).map(Value::expose),
                "kept_in": value.and_then(Value::reference).map(ToString::to_string),
                "origin": value.map(|it| it.origin.to_string()),
            })
        };
        let settings: Vec<Json> = it.template.items.iter().map(one).collect();
        json!({ "environment": it.environment, "settings": settings, "problems": problems(&it.problems) })
    };
    let text = || {
        let row = |item: &Item| {
            let shown = it.value(&item.key).map(Value::shown).unwrap_or_default();
            [item.key.clone(), shown, origin(item)]
        };
        let mut text = table(&it.template.items.iter().map(row).collect::<Vec<_>>());
        for problem in &it.problems {
            text += &format!("\n{problem}");
        }
        text
    };
    tell(json, facts, text);
}

fn explain(templates: &[Template], key: &str, json: bool) -> anyhow::Result<()> {
    let item = settings::find(templates, key)?;
    let facts = settings::describe(templates, item);
    let object = || json!({ "key": key, "doc": item.doc, "facts": facts });
    tell(json, object, || format!("{key}\n\n{}\n\n{}", item.doc, facts.join("\n")));
    Ok(())
}

fn diff(left: &Resolved, right: &Resolved, json: bool) {
    let found = settings::diff(left, right);
    let facts = || {
        let one = |it: &Difference| json!({ "key": it.key, "left": it.left, "right": it.right });
        found.iter().map(one).collect()
    };
    let text = || {
        let shown = |it: &Option<String>| it.clone().unwrap_or_else(|| "not set".to_owned());
        let row = |it: &Difference| [it.key.clone(), shown(&it.left), shown(&it.right)];
        let head = [String::new(), left.environment.clone(), right.environment.clone()];
        table(&std::iter::once(head).chain(found.iter().map(row)).collect::<Vec<_>>())
    };
    tell(json, facts, text);
}

fn checked(found: &Checkup, json: bool) -> ExitCode {
    let facts = || {
        let conditions: BTreeMap<&String, &str> =
            found.environments.iter().map(|(name, it)| (name, word(*it))).collect();
        json!({ "environments": conditions, "problems": problems(&found.problems) })
    };
    tell(json, facts, || told(found));
    if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}

fn told(found: &Checkup) -> String {
    let rows = found.environments.iter().map(|(name, it)| [name.clone(), word(*it).to_owned()]);
    let mut text = table(&rows.collect::<Vec<_>>());
    for problem in &found.problems {
        text += &format!("\n{problem}");
    }
    text
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Right => "ok",
        Condition::Wrong => "wrong",
        Condition::NoFile => "no values here; its template is ok",
    }
}

/// Asks for each missing value, then writes all of them at once.
fn init(root: &Path, it: &Resolved) -> anyhow::Result<ExitCode> {
    let name = &it.environment;
    if it.is_testbed() || it.missing.is_empty() {
        let why = if it.is_testbed() { ": its throwaway VM gives the rest" } else { "" };
        print(&format!("nothing is missing in .env.{name}{why}"));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(terminal) = Terminal::open() else {
        let keys: Vec<&str> = it.missing.iter().map(|it| it.key.as_str()).collect();
        let keys = keys.join(", ");
        crate::report(&anyhow!(
            "no terminal to ask on; .env.{name} lacks {keys}: write them there"
        ));
        return Ok(ExitCode::from(REFUSED));
    };
    let mut answers = Vec::new();
    for item in &it.missing {
        let Some(value) = answer(&terminal, item, name)? else {
            crate::report(&anyhow!("not finished: nothing was written"));
            return Ok(ExitCode::from(REFUSED));
        };
        answers.push((item.key.clone(), value));
    }
    let path = settings::add(root, name, &answers)?;
    print(&format!("wrote {} values into {}, for your eyes only", answers.len(), path.display()));
    let found = settings::check(root, Some(name), &variables())?;
    Ok(checked(&found, false))
}

/// Asks until the answer is one that the setting takes; none if the reader gives up.
fn answer(terminal: &Terminal, item: &Item, environment: &str) -> anyhow::Result<Option<String>> {
    terminal.show(&format!("\n{}\n", item.doc))?;
    let unseen = if item.sensitive { " (not shown)" } else { "" };
    loop {
        let Some(text) = terminal.ask(&format!("{}{unseen}: ", item.key), item.sensitive)? else {
            return Ok(None);
        };
        match item.accepts(&text, environment) {
            Ok(()) => return Ok(Some(text)),
            Err(why) => terminal.show(&format!("  it {why}\n"))?,
        }
    }
}

/// The paths that git holds; none outside a repository.
fn in_git(root: &Path) -> Vec<String> {
    let listed = Cmd::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).read();
    listed.map(|it| it.split('\0').map(str::to_owned).collect()).unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this program reads its environment"
)]
fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn problems(all: &[Problem]) -> Json {
    let one = |it: &Problem| json!({ "path": it.path, "line": it.line, "message": it.message });
    all.iter().map(one).collect()
}

/// Columns, each as wide as its widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn tell(json: bool, facts: impl FnOnce() -> Json, text: impl FnOnce() -> String) {
    print(&if json { format!("{:#}", facts()) } else { text() });
}

fn print(text: &str) {
    // A closed pipe (`| head`) is no error of ours.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
