//! A deploy or rollback that is cut off anywhere loses nothing, and the next deploy heals what it
//! left.

use bench::{Checkout, Depth, Fault, Probe, Range, Scene, strikes_table};

use crate::DEPLOY;

#[test]
fn deploy_and_rollback_may_be_cut_off_at_any_step_and_the_next_deploy_heals_it() {
    let checkout = Checkout::new("faults", DEPLOY);
    let probe = Probe::start(&checkout.deploy());
    let mut range = Range::new(&checkout, &probe, Depth::Short);
    let faults = [Fault::Kill, Fault::Close, Fault::Interrupt];
    let mut strikes = range.strike_all(Scene::Deploy, &faults, |it| eprintln!("{it:?}"));
    strikes.extend(range.strike_all(Scene::Rollback, &faults, |it| eprintln!("{it:?}")));
    eprintln!("{}", strikes_table(&strikes));
    let troubles: Vec<_> = strikes.iter().filter(|it| !it.troubles.is_empty()).collect();
    assert!(troubles.is_empty(), "{troubles:#?}");
    assert!(strikes.iter().filter(|it| it.came).count() > 10, "{strikes:#?}");
    assert_eq!(range.settle(), Vec::<String>::new());
    let (asked, failed) = probe.stop();
    assert_eq!(failed, Vec::<String>::new(), "of {asked} probes");
    checkout.down();
}
