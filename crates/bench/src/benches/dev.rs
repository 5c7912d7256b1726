//! Saves in `dev`, and in Dagster's own `dagster dev`.

use std::path::Path;

use dagster::RunStatus;

use super::Tell;
use crate::{Checkout, Dev, Goal, Saves, Section, Table, median};

/// Measures so many rounds of each.
pub fn dev(deploy: &Path, rounds: usize, command: String, tell: Tell<'_>) -> Section {
    /// Seconds; long enough to be in flight all the while.
    const RUN: u32 = 20;

    let checkout = Checkout::new("bench-dev", deploy);
    let measure = |what: &str, mut dev: Dev<'_>| {
        let mut imports = Vec::new();
        let mut round = |round: usize| {
            tell(&format!("{what}: round {round} of {rounds}"));
            imports.push(dev.import());
            dev.saves(&format!("mark_{round}"), RUN)
        };
        let saves: Vec<Saves> = (1..=rounds).map(&mut round).collect();
        dev.end("INT");
        (saves, median(&imports))
    };
    let (containers, floor) = measure("dev", Dev::start(&checkout, &["--fresh"]));
    let (processes, native_floor) = measure("dev --native", Dev::start(&checkout, &["--native"]));
    let (dagsters, _) = measure("dagster dev", Dev::start_dagsters(&checkout));
    checkout.run(&["down", "dev", "--data"]);
    checkout.down();

    let all = [&containers, &processes, &dagsters];
    let middle =
        |it: &[Saves], of: fn(&Saves) -> f64| median(&it.iter().map(of).collect::<Vec<_>>());
    let lost = |it: &[Saves]| it.iter().filter(|it| it.run != RunStatus::Success).count();
    let mut table =
        Table::new(["median of the rounds, in seconds", "dev", "dev --native", "`dagster dev`"]);
    let mut row = |what: &str, [here, native, other]: [String; 3]| {
        table.row([what.to_owned(), here, native, other]);
    };
    let mut saves = |what: &str, of: fn(&Saves) -> f64| {
        row(what, all.map(|it| format!("{:.1}", middle(it, of))));
    };
    saves("a save is served", |it| it.good);
    saves("one that does not load is told", |it| it.broken);
    saves("the next that loads is served", |it| it.again);
    let floors = [floor, native_floor, native_floor];
    row(
        "import of Dagster's server and the code, alone: the floor",
        floors.map(|it| format!("{it:.1}")),
    );
    row("runs lost, of those in flight", all.map(|it| format!("{} of {}", lost(it), it.len())));
    Section {
        command,
        about: format!(
            "A file of the code is saved, broken and saved again, {rounds} times with a run in \
             flight, until Dagster's GraphQL tells of it: in `cargo xtask dev`, as processes, and \
             in Dagster's own `dagster dev`, where *Reload* is pressed in the moment of the save."
        ),
        tables: vec![table],
        goals: vec![
            Goal::at_most(
                "a save is served, above the floor",
                middle(&containers, |it| it.good) - floor,
                1.0,
                "s",
            ),
            Goal::none(
                "lost runs",
                containers.len() + processes.len(),
                lost(&containers) + lost(&processes),
            ),
        ],
        bars: Vec::new(),
    }
}
