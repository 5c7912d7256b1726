//! Deploys and rollbacks by turns, with runs of every origin in flight.

use std::path::Path;

use super::Tell;
use crate::{Checkout, Goal, Section, endure};

/// Does so many.
pub fn endurance(deploy: &Path, rounds: usize, command: String, tell: Tell<'_>) -> Section {
    let checkout = Checkout::new("bench-endurance", deploy);
    let seen = endure(&checkout, rounds, tell);
    for line in seen.troubles.iter().chain(&seen.failed).chain(&seen.lost) {
        tell(line);
    }
    checkout.down();
    Section {
        command,
        about: format!(
            "{rounds} deploys and rollbacks by turns, with runs in flight that were started by \
             hand, by a schedule and by a sensor, and that wait in the queue."
        ),
        tables: vec![seen.table(), seen.uses_table()],
        goals: vec![
            Goal::none("failed verbs", seen.rounds, seen.troubles.len()),
            Goal::none("failed probes", seen.asked, seen.failed.len()),
            Goal::none("lost or stuck runs", seen.runs.values().sum(), seen.lost.len()),
            Goal {
                what: "what is kept on the host is bounded".to_owned(),
                measured: seen
                    .uses
                    .last()
                    .map(|it| format!("{} releases", it.releases))
                    .unwrap_or_default(),
                met: seen.is_bounded(),
            },
        ],
        bars: Vec::new(),
    }
}
