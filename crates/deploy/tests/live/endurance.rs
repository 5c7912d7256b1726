//! Deploys and rollbacks by turns, with runs of every origin in flight, lose nothing.

use bench::{Checkout, endure};

use crate::DEPLOY;

#[test]
fn deploys_and_rollbacks_by_turns_lose_no_run_and_no_request() {
    let checkout = Checkout::new("endurance", DEPLOY);
    let seen = endure(&checkout, 3, |line| eprintln!("{line}"));
    eprintln!("{}\n{}", seen.table(), seen.uses_table());
    assert!(seen.is_fine(), "{seen:#?}");
    for origin in ["started", "scheduled", "sensed"] {
        assert!(seen.runs.contains_key(origin), "{:?}", seen.runs);
    }
    checkout.down();
}
