//! One change of the code, by a deploy and by the flow it replaces.

use std::path::Path;

use super::{Tell, bar, middle, seconds};
use crate::{Change, Checkout, Classic, Goal, Link, Ours, Section, Table, classic_change, median};

/// Measures so many rounds of both.
pub fn deploy(deploy: &Path, rounds: usize, command: String, tell: Tell<'_>) -> Section {
    let old = Checkout::new("bench-old", deploy);
    old.make_testbed();
    let classic = Classic::start(&old, Link::default());
    let mut ours = Ours::start("bench-new", deploy, Link::default());
    // One of each before it counts: the machine warms up, and there is a release to go back to.
    ours.change();
    classic_change(&classic, &old, "mark_0");

    let (mut theirs, mut mine) = (Vec::new(), Vec::new());
    let (mut rollbacks, mut idle, mut floors, mut layers) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        tell(&format!("round {round} of {rounds}"));
        theirs.push(classic_change(&classic, &old, &format!("mark_{round}")));
        let before = ours.layers();
        mine.push(ours.change());
        let after = ours.layers();
        let new = after.iter().filter(|(digest, _)| !before.contains_key(*digest));
        layers.push(new.map(|(_, bytes)| bytes).sum::<u64>());
        idle.push(ours.seconds(&["deploy", "prod", "--yes"]));
        rollbacks.push(ours.seconds(&["rollback", "prod", "--yes"]));
        floors.push(ours.floor());
    }
    ours.down();
    drop(classic);
    old.down();

    let [theirs_served, mine_served] = [&theirs, &mine].map(|it| median(&seconds(it)));
    let [rollback, idle, floor] = [rollbacks, idle, floors].map(|it| median(&it));
    let over = mine.iter().zip(&layers).map(|(it, layer)| it.registry.sent.saturating_sub(*layer));
    let over = over.max().unwrap_or_default();
    let sum = |of: fn(&Change) -> usize| mine.iter().map(of).sum::<usize>();
    let mut table = Table::new(["median of the rounds", "the flow it replaces", "deploy"]);
    let mut row = |what: &str, of: &dyn Fn(&[Change]) -> String| {
        table.row([what.to_owned(), of(&theirs), of(&mine)]);
    };
    row("seconds until the new code is served", &|it| format!("{:.1}", median(&seconds(it))));
    row("seconds until the command ends", &|it| {
        format!("{:.1}", median(&it.iter().map(|it| it.whole).collect::<Vec<_>>()))
    });
    row("probes that failed, in all rounds", &|it| {
        let (failed, asked) =
            it.iter().fold((0, 0), |sum, it| (sum.0 + it.failed, sum.1 + it.asked));
        format!("{failed} of {asked}")
    });
    row("runs lost, of those in flight", &|it| {
        format!("{} of {}", it.iter().map(|it| it.lost).sum::<usize>(), it.len())
    });
    row("bytes sent to the registry", &|it| middle(it, |it| it.registry.sent));
    row("bytes over SSH", &|it| middle(it, |it| it.ssh.sent + it.ssh.received));
    row("SSH connections", &|it| middle(it, |it| it.ssh.connections));
    let mut alone = Table::new(["deploy's own", "seconds"]);
    for (what, seconds) in [
        ("start of the code's Python on that VM, alone: the floor", floor),
        ("rollback to the warm release, the whole command", rollback),
        ("deploy of what is deployed already", idle),
    ] {
        alone.row([what.to_owned(), format!("{seconds:.2}")]);
    }
    #[expect(clippy::cast_precision_loss, reason = "bytes of a layer")]
    let over = over as f64 / 1024.0;
    Section {
        command,
        about: format!(
            "{rounds} changes of the code on one machine, by turns: by `deploy`, and by the flow it \
             replaces (build, push `:latest`, `docker-compose pull && docker-compose up -d \
             docker_dagster_core` over SSH). A run is in flight each time, and the platform is \
             asked ten times a second for something that needs the code server."
        ),
        tables: vec![table, alone],
        goals: vec![
            Goal::none("failed probes", sum(|it| it.asked), sum(|it| it.failed)),
            Goal::none("lost runs", mine.len(), sum(|it| it.lost)),
            Goal::at_most("of the other flow's seconds", mine_served / theirs_served, 0.4, ""),
            Goal::at_most("above the floor", mine_served - floor, 1.5, "s"),
            Goal::at_most("rollback", rollback, 1.0, "s"),
            Goal::at_most("nothing changed", idle, 1.0, "s"),
            Goal::at_most("bytes beyond the changed layer", over, 64.0, "KiB"),
        ],
        bars: vec![
            bar("the flow it replaces, until served", theirs_served, true),
            bar("deploy, until served", mine_served, false),
            bar("start of Python alone", floor, false),
            bar("rollback, the whole command", rollback, false),
            bar("nothing changed, the whole command", idle, false),
        ],
    }
}
