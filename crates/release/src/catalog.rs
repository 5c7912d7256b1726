//! What a database is made of, and in what two of them differ.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// A kind of thing in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Extension,
    Schema,
    Type,
    Sequence,
    Table,
    View,
    Column,
    Constraint,
    Index,
    Trigger,
    Function,
}

/// What something in a database is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// Its name, or that of the table it is of: `public.time_zones`.
    pub of: String,
    /// What it is.
    pub kind: Kind,
    /// Its own name, if it is of a table.
    pub name: String,
}

/// What a database is made of: of each thing its definition, as Postgres tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog(pub BTreeMap<Object, String>);

/// A thing that two databases do not have alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is.
    pub object: Object,
    /// As it is in the first; none, if it is not there.
    pub left: Option<String>,
    /// As it is in the second.
    pub right: Option<String>,
}

/// A line of a catalog that was not understood.
#[derive(Debug, thiserror::Error)]
#[error("the catalog tells of `{0}`, which is not known here")]
pub struct ParseCatalogError(String);

/// A warehouse, to be compared with another.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its environment.
    pub environment: &'a str,
    /// As it is.
    pub live: &'a Catalog,
    /// As the migrations that were applied to it make one.
    pub made: &'a Catalog,
}

/// In what two warehouses differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Comparison {
    /// What follows from the migrations that one of them lacks.
    pub by_migrations: Vec<Difference>,
    /// What no migration explains; with the environments that are not as theirs make them.
    pub by_hand: Vec<(Difference, Vec<String>)>,
}

const KINDS: [(Kind, &str); 11] = [
    (Kind::Extension, "extension"),
    (Kind::Schema, "schema"),
    (Kind::Type, "type"),
    (Kind::Sequence, "sequence"),
    (Kind::Table, "table"),
    (Kind::View, "view"),
    (Kind::Column, "column"),
    (Kind::Constraint, "constraint"),
    (Kind::Index, "index"),
    (Kind::Trigger, "trigger"),
    (Kind::Function, "function"),
];

impl Catalog {
    /// Makes one of the rows of `catalog.sql`: kind, name or table, name within it, definition.
    pub fn of(
        rows: impl IntoIterator<Item = (String, String, String, String)>,
    ) -> Result<Catalog, ParseCatalogError> {
        let object = |(word, of, name, definition): (String, String, String, String)| {
            let kind = KINDS.iter().find(|it| it.1 == word).map(|it| it.0);
            let kind = kind.ok_or(ParseCatalogError(word))?;
            Ok((Object { of, kind, name }, definition))
        };
        rows.into_iter().map(object).collect::<Result<_, _>>().map(Catalog)
    }

    /// In what another one differs. What is of a table that only one of them has is part of it.
    pub fn differences(&self, other: &Catalog) -> Vec<Difference> {
        let all = self.every_difference(other);
        folded(&all, |_| ()).into_iter().cloned().collect()
    }

    fn every_difference(&self, other: &Catalog) -> Vec<Difference> {
        let objects = self.0.keys().chain(other.0.keys().filter(|it| !self.0.contains_key(it)));
        let mut differences: Vec<Difference> = objects
            .map(|object| Difference {
                object: object.clone(),
                left: self.0.get(object).cloned(),
                right: other.0.get(object).cloned(),
            })
            .filter(|it| it.left != it.right)
            .collect();
        differences.sort_by(|one, two| one.object.cmp(&two.object));
        differences
    }
}

/// Without what is of a table, where the whole table differs for the same reason.
fn folded<T: PartialEq>(all: &[Difference], reason: impl Fn(&Difference) -> T) -> Vec<&Difference> {
    let whole = |it: &Difference| {
        let table = all.iter().find(|other| {
            matches!(other.object.kind, Kind::Table | Kind::View)
                && other.object.of == it.object.of
                && (other.left.is_none() || other.right.is_none())
        });
        table.is_some_and(|table| table.object != it.object && reason(table) == reason(it))
    };
    all.iter().filter(|it| it.object.name.is_empty() || !whole(it)).collect()
}

impl Comparison {
    /// Compares two warehouses. What differs while each of them is as its migrations make it
    /// follows from the migrations.
    pub fn new(left: Side<'_>, right: Side<'_>) -> Comparison {
        let strayed = |it: &Difference| -> Vec<String> {
            let strayed = [left, right]
                .into_iter()
                .filter(|side| side.live.0.get(&it.object) != side.made.0.get(&it.object));
            strayed.map(|side| side.environment.to_owned()).collect()
        };
        let all = left.live.every_difference(right.live);
        let mut comparison = Comparison::default();
        for it in folded(&all, strayed) {
            match strayed(it) {
                nobody if nobody.is_empty() => comparison.by_migrations.push(it.clone()),
                somebody => comparison.by_hand.push((it.clone(), somebody)),
            }
        }
        comparison
    }

    /// Whether they do not differ.
    pub fn is_empty(&self) -> bool {
        self.by_migrations.is_empty() && self.by_hand.is_empty()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.iter().find(|it| it.0 == *self).map_or("thing", |it| it.1))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Object { of, kind, name } = self;
        match name.as_str() {
            "" => write!(f, "{kind} {of}"),
            name => write!(f, "{kind} {name} of {of}"),
        }
    }
}

impl Difference {
    /// In words, given what the two are called: `live`, `prod`, `the migrations`.
    pub fn told(&self, left: &str, right: &str) -> String {
        let Difference { object, .. } = self;
        match (self.left.as_deref(), self.right.as_deref()) {
            (Some("") | None, None) => format!("{object}: only in {left}"),
            (None, Some("")) => format!("{object}: only in {right}"),
            (Some(it), None) => format!("{object}: only in {left}: {it}"),
            (None, Some(it)) => format!("{object}: only in {right}: {it}"),
            (Some(one), Some(two)) => format!("{object}: {one} in {left}, {two} in {right}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const MADE: &str = "\
        table|public.zones||\n\
        column|public.zones|name|text not null\n\
        constraint|public.zones|zones_pkey|PRIMARY KEY (name)\n";

    /// A catalog, a line of four fields each.
    fn catalog(lines: &str) -> Catalog {
        let row = |line: &str| {
            let mut fields = line.split('|').map(str::to_owned);
            let mut next = || fields.next().unwrap();
            (next(), next(), next(), next())
        };
        Catalog::of(lines.lines().map(row)).unwrap()
    }

    #[track_caller]
    fn check(live: &str, expected: &Expect) {
        let differences = catalog(live).differences(&catalog(MADE));
        let lines: Vec<_> =
            differences.iter().map(|it| it.told("the warehouse", "the migrations")).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn what_is_alike_does_not_differ() {
        check(MADE, &expect![""]);
    }

    #[test]
    fn what_was_changed_by_hand_is_named() {
        let changed = MADE.replace("text not null", "text")
            + "column|public.zones|note|text default 'x'::text\n\
               index|public.zones|by_note|CREATE INDEX by_note ON public.zones USING btree (note)\n";
        check(
            &changed,
            &expect![[r#"
            column name of public.zones: text in the warehouse, text not null in the migrations
            column note of public.zones: only in the warehouse: text default 'x'::text
            index by_note of public.zones: only in the warehouse: CREATE INDEX by_note ON public.zones USING btree (note)"#]],
        );
        check(
            &MADE.replace("constraint|public.zones|zones_pkey|PRIMARY KEY (name)\n", ""),
            &expect![
                "constraint zones_pkey of public.zones: only in the migrations: PRIMARY KEY (name)"
            ],
        );
    }

    #[test]
    fn a_table_that_only_one_has_is_told_as_a_whole() {
        let more = MADE.to_owned() + "table|public.mine||\ncolumn|public.mine|id|bigint\n";
        check(&more, &expect!["table public.mine: only in the warehouse"]);
        check("", &expect!["table public.zones: only in the migrations"]);
    }

    #[test]
    fn between_two_warehouses_a_missing_migration_and_a_hand_are_told_apart() {
        let ahead = MADE.to_owned()
            + "column|public.zones|note|text\ntable|public.new||\ncolumn|public.new|id|bigint\n";
        let strayed = MADE.replace("PRIMARY KEY (name)", "UNIQUE (name)");
        let (ahead, made, strayed) = (catalog(&ahead), catalog(MADE), catalog(&strayed));
        let left = Side { environment: "staging", live: &ahead, made: &ahead };
        let right = Side { environment: "prod", live: &strayed, made: &made };
        let comparison = Comparison::new(left, right);
        let told = |it: &Difference| it.told("staging", "prod");
        let by_migrations: Vec<_> = comparison.by_migrations.iter().map(told).collect();
        expect![[r#"
            table public.new: only in staging
            column note of public.zones: only in staging: text"#]]
        .assert_eq(&by_migrations.join("\n"));
        let by_hand: Vec<_> = comparison
            .by_hand
            .iter()
            .map(|(it, whose)| format!("{} ({})", told(it), whose.join(", ")))
            .collect();
        expect!["constraint zones_pkey of public.zones: PRIMARY KEY (name) in staging, UNIQUE (name) in prod (prod)"].assert_eq(&by_hand.join("\n"));
        assert!(Comparison::new(left, left).is_empty());
    }

    #[test]
    fn by_hand_in_a_table_that_one_has_alone_is_not_lost_in_it() {
        let made = MADE.to_owned() + "table|public.new||\ncolumn|public.new|id|bigint\n";
        let live = made.clone() + "column|public.new|note|text\n";
        let (before, made, live) = (catalog(MADE), catalog(&made), catalog(&live));
        let left = Side { environment: "staging", live: &live, made: &made };
        let right = Side { environment: "prod", live: &before, made: &before };
        let comparison = Comparison::new(left, right);
        assert_eq!(comparison.by_migrations.len(), 1);
        assert_eq!(comparison.by_hand.len(), 1);
        assert_eq!(comparison.by_hand[0].0.object.to_string(), "column note of public.new");
    }

    #[test]
    fn what_the_catalog_does_not_know_is_refused() {
        let row = ["planet", "public.mars", "", ""].map(str::to_owned);
        let [kind, of, name, definition] = row;
        let error = Catalog::of([(kind, of, name, definition)]).unwrap_err();
        assert_eq!(error.to_string(), "the catalog tells of `planet`, which is not known here");
    }
}
