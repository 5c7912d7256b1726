//! Every step of a verb, ended in every way.

use std::path::Path;

use super::Tell;
use crate::{Checkout, Depth, Fault, Goal, Probe, Range, Scene, Section, strikes_table};

/// Strikes it; in short, each step on the host once.
pub fn faults(
    deploy: &Path,
    scene: Scene,
    short: bool,
    command: String,
    tell: Tell<'_>,
) -> Section {
    let checkout = Checkout::new("bench-faults", deploy);
    let probe = Probe::start(&checkout.deploy());
    let depth = if short { Depth::Short } else { Depth::Whole };
    let mut range = Range::new(&checkout, &probe, depth);
    let strikes = range.strike_all(scene, &Fault::ALL, |it| {
        tell(&format!("{} after {}: {}, then {}", it.scene, it.after, it.fault, it.serves));
        for line in &it.troubles {
            tell(line);
        }
    });
    let left = range.settle();
    for line in &left {
        tell(line);
    }
    let runs = range.runs();
    let (asked, failed) = probe.stop();
    checkout.down();
    let troubled = strikes.iter().filter(|it| !it.troubles.is_empty()).count();
    let change = match scene {
        Scene::Platform => " (of the daemon's container)",
        Scene::Deploy | Scene::Rollback => "",
    };
    let ways = if short { "in the four ways by turns" } else { "in each of four ways" };
    Section {
        command,
        about: format!(
            "Every step of a {scene}{change}, as the verb prints them, ended {ways}. Each time a run is in \
             flight and another deploy follows. {asked} probes asked meanwhile, ten a second, for \
             something that needs the code server: {} failed.",
            failed.len()
        ),
        tables: vec![strikes_table(&strikes)],
        goals: vec![
            Goal::none(
                "fault that leaves something behind or stops the platform",
                strikes.len(),
                troubled,
            ),
            Goal::none("lost runs, and nothing left at the end", runs, left.len()),
        ],
        bars: Vec::new(),
    }
}
