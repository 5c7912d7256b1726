//! The same deploy, near and far.

use std::{path::Path, time::Duration};

use super::{Tell, bar, middle, seconds};
use crate::{Change, Goal, Link, Ours, Section, Table, median};

/// Measures so many rounds of both.
pub fn distance(deploy: &Path, rounds: usize, command: String, tell: Tell<'_>) -> Section {
    let far = Link { delay: Duration::from_millis(50), one_lost_of: 100 };
    let mut ours = Ours::start("bench-far", deploy, Link::default());
    ours.change();
    let (mut near_by, mut far_off) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        tell(&format!("round {round} of {rounds}"));
        ours.by(Link::default());
        near_by.push(ours.change());
        ours.by(far);
        far_off.push(ours.change());
    }
    ours.down();

    let whole = |it: &[Change]| median(&it.iter().map(|it| it.whole).collect::<Vec<_>>());
    let (near, across) = (whole(&near_by), whole(&far_off));
    let mut table = Table::new(["median of the rounds", "near", "across 100 ms"]);
    let mut row = |what: &str, of: &dyn Fn(&[Change]) -> String| {
        table.row([what.to_owned(), of(&near_by), of(&far_off)]);
    };
    row("seconds until the command ends", &|it| format!("{:.1}", whole(it)));
    row("seconds until the new code is served", &|it| format!("{:.1}", median(&seconds(it))));
    row("round trips over SSH, at most", &|it| middle(it, |it| it.ssh.turns));
    row("round trips to the registry, at most", &|it| middle(it, |it| it.registry.turns));
    row("SSH connections", &|it| middle(it, |it| it.ssh.connections));
    Section {
        command,
        about: format!(
            "{rounds} times the same deploy to a VM and a registry near by, and to both across a \
             link with a round trip of 100 ms that loses 1 % of its segments. The link is a \
             program (`crates/bench/src/relay.rs`): the kernels that testbeds run on need not \
             have `netem`."
        ),
        tables: vec![table],
        goals: vec![Goal::at_most("more than near by", across - near, 2.0, "s")],
        bars: vec![bar("deploy across 100 ms, the whole command", across, false)],
    }
}
