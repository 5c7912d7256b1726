//! The page of all settings, from the templates.

use std::collections::BTreeMap;

use crate::{Error, Item, Kind, Template, error::similar};

/// The page of all settings. Sections and keys stand in the order of the first template.
pub fn markdown(templates: &[Template]) -> String {
    let mut page = "\
# Settings

<!-- Made from env-templates/ by `cargo xtask env explain --markdown`. Change the templates. -->

Each environment has a template in `env-templates/` and your own values in `.env.ENV` beside it, which never enters git.
The process's environment wins over both; where a verb is about two environments (`deploy ENV --from OTHER`, `schema diff A B`, `env diff A B`) it speaks for the first alone, and the other has only its file. `cargo xtask env init ENV` asks for what is missing, `cargo xtask env check` looks at all of it.

The value of a secret may say where the secret is kept; a deploy looks it up, once, when it needs it. Such a reference may stand in a template, since it is no secret.

| | |
| --- | --- |
| `gcp-secret://[PROJECT/]NAME[@VERSION]` | Google's Secret Manager, by `gcloud`; the project is GOOGLE_CLOUD_PROJECT and the version the newest, if not said. The release records which version it was |
| `op://VAULT/ITEM/FIELD` | 1Password, by `op` |
| `pass://PATH` | the first line of what `pass show PATH` prints |
| `file://PATH` | a file that only you may read, from the root of the checkout or `~/` |
| `cmd://COMMAND` | what a shell command prints |
"
    .to_owned();
    let mut section = "";
    let mut told: Vec<&str> = Vec::new();
    for item in templates.iter().flat_map(|it| &it.items) {
        if told.contains(&item.key.as_str()) {
            continue;
        }
        told.push(&item.key);
        if item.section != section {
            section = &item.section;
            page += &format!("\n## {section}\n");
        }
        page += &format!("\n### `{}`\n\n", item.key);
        if !item.doc.is_empty() {
            page += &format!("{}\n\n", item.doc);
        }
        let facts = describe(templates, item).join(" · ");
        page += &format!("{facts}\n");
    }
    page
}

/// A key of any of the templates.
pub fn find<'a>(templates: &'a [Template], key: &str) -> Result<&'a Item, Error> {
    templates.iter().find_map(|it| it.item(key)).ok_or_else(|| {
        let known = templates.iter().flat_map(|it| &it.items).map(|it| it.key.as_str());
        Error::Key { key: key.to_owned(), similar: similar(key, known) }
    })
}

/// What a setting must be, and what it is when nobody says.
pub fn describe(templates: &[Template], item: &Item) -> Vec<String> {
    let mut facts = match &item.kind {
        Kind::String => Vec::new(),
        kind => vec![kind.words("ENV")],
    };
    let having: Vec<_> =
        templates.iter().filter_map(|it| Some((it, it.item(&item.key)?))).collect();
    let required = having.iter().filter(|(_, it)| it.required);
    let required: Vec<&str> = required.map(|(it, _)| it.environment.as_str()).collect();
    facts.push(match required.len() {
        0 => "optional".to_owned(),
        n if n == having.len() => "required".to_owned(),
        _ => format!("required in {}", required.join(", ")),
    });
    let marks = [(item.sensitive, "secret"), (item.own, "no two environments share it")];
    facts.extend(marks.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
    // Which environments have which default.
    let mut defaults: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (template, item) in &having {
        if let Some(default) = &item.default {
            defaults.entry(default).or_default().push(&template.environment);
        }
    }
    for (default, environments) in defaults {
        let everywhere = environments.len() == having.len();
        let of =
            if everywhere { String::new() } else { format!(" in {}", environments.join(", ")) };
        facts.push(format!("default `{default}`{of}"));
    }
    if having.len() < templates.len() {
        let names: Vec<&str> = having.iter().map(|(it, _)| it.environment.as_str()).collect();
        facts.push(format!("only in {}", names.join(", ")));
    }
    facts
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_page_is_what_the_templates_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let templates = crate::templates(&root).unwrap();
        expect_test::expect_file!["../../../docs/settings.md"]
            .assert_eq(&super::markdown(&templates));
    }
}
