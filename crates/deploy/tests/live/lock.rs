//! Deploys that meet, are broken and are interrupted, and what is told of them afterwards.

use std::time::Duration;

use bench::{Checkout, wait_until};
use exec::{Line, Running, Status};
use serde_json::Value;

use crate::DEPLOY;

const LIMIT: Duration = Duration::from_mins(5);

/// Starts a deploy of code that takes minutes to import, and waits until its code server runs.
fn stuck(checkout: &Checkout) -> Running {
    let definitions = checkout.read("dagster_core/definitions.py");
    let running = checkout.code_servers();
    checkout.write(
        "dagster_core/definitions.py",
        &format!("import time\n\ntime.sleep(600)\n{definitions}"),
    );
    let deploy = checkout.start(&[("DEPLOY_START_TIMEOUT", "500s")], &["deploy", "demo"]);
    wait_until(LIMIT, "the code server runs", || checkout.code_servers() > running);
    checkout.write("dagster_core/definitions.py", &definitions);
    deploy
}

/// Starts a verb, and waits until it waits for a deploy.
fn waiting(checkout: &Checkout, args: &[&str]) -> Running {
    let verb = checkout.start(&[], args);
    let mut line = verb.line(LIMIT);
    while !matches!(&line, Line::Said(it) if it.contains("waiting for deploy by")) {
        assert!(matches!(line, Line::Said(_)), "it does not wait: {line:?}");
        line = verb.line(LIMIT);
    }
    verb
}

/// Waits until a verb has ended. Answers its exit code and what it said.
fn ended(verb: &Running) -> (Option<i32>, String) {
    let mut said = String::new();
    while let Line::Said(line) = verb.line(LIMIT) {
        said += &format!("{line}\n");
    }
    let mut status = None;
    wait_until(LIMIT, "it ends", || {
        status = verb.ended().expect("it was started");
        status.is_some()
    });
    (status.and_then(Status::code), said)
}

#[test]
fn lock_and_history_tell_of_deploys_that_meet_are_broken_or_interrupted() {
    let checkout = Checkout::new("lock", DEPLOY);
    let first = checkout.deploy();
    let serving = checkout.containers();
    assert_eq!(checkout.json(&["lock", "status", "demo", "--json"])["held"], false);

    // A second one is told who holds the lock, and what for.
    let deploy = stuck(&checkout);
    let holder = checkout.json(&["lock", "status", "demo", "--json"]);
    assert_eq!(
        (&holder["held"], &holder["verb"], &holder["step"]),
        (&true.into(), &"deploy".into(), &"start".into())
    );
    checkout.add_asset("brand_new_asset");
    let second = checkout.run(&["deploy", "demo"]);
    assert_eq!(second.code, 3, "{second}");
    let by = holder["by"].as_str().unwrap();
    assert!(second.stderr.contains(&format!("`demo` is locked: deploy by {by}")), "{second}");
    assert!(second.stderr.contains("at step start"), "{second}");

    // A third one waits, and a backup; the first is ended by Ctrl-C, and nothing is left of it.
    let third = waiting(&checkout, &["deploy", "demo", "--wait=5m"]);
    let backup = waiting(&checkout, &["backup", "demo", "saved.tar", "--wait=5m"]);
    deploy.signal_group("INT").unwrap();
    let (code, said) = ended(&deploy);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("interrupted by Ctrl-C"), "{said}");
    for verb in [third, backup] {
        let (code, said) = ended(&verb);
        assert_eq!(code, Some(0), "{said}");
    }
    let containers = checkout.containers();
    assert!(serving.iter().all(|it| containers.get(it.0) == Some(it.1)), "{containers:?}");
    assert_eq!(containers.len(), serving.len() + 1, "{containers:?}");

    // A lock that is broken: its holder touches nothing more, and the next deploy heals.
    let deploy = stuck(&checkout);
    let asked = checkout.run(&["lock", "break", "demo", "--reason", "it hangs"]);
    assert_eq!(asked.code, 3, "it asks, and nobody answers: {asked}");
    let broke = checkout.run(&["lock", "break", "demo", "--reason", "it hangs", "--yes"]);
    assert_eq!(broke.code, 0, "{broke}");
    assert_eq!(checkout.json(&["lock", "status", "demo", "--json"])["held"], false);
    let (code, said) = ended(&deploy);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("broke the lock of `demo`") && said.contains("it hangs"), "{said}");
    checkout.add_asset("another_asset");
    let healed = checkout.deploy();

    // All of it is in the history, newest first.
    let history = checkout.json(&["history", "demo", "--json"]);
    let of = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let entries = history["entries"].as_array().unwrap();
    let outcomes: Vec<_> = entries.iter().map(|it| of(it, "outcome")).collect();
    assert_eq!(outcomes, ["done", "cut_off", "done", "refused", "refused", "done"], "{history}");
    assert_eq!(entries[5]["release"], first["release"]["id"]);
    assert_eq!(entries[0]["release"], healed["release"]["id"]);
    assert_eq!(entries[0]["digest"].as_str().unwrap().len(), "sha256:".len() + 64);
    // How long it is, others measure: here the machine may just be slow.
    assert!(entries[0]["gap"].is_f64() && entries[2]["gap"].is_f64(), "{history}");
    assert_eq!(of(&entries[3], "why"), "interrupted by Ctrl-C");
    assert!(of(&entries[4], "why").contains("is locked"), "{history}");
    let all = checkout.json(&["history", "demo", "--all", "--json"]);
    let verbs = all["entries"].as_array().unwrap().iter().map(|it| of(it, "verb"));
    assert_eq!(verbs.filter(|it| it == "lock break").count(), 2);
    let told = checkout.run(&["history", "demo"]);
    assert!(told.stdout.contains("deployed") && told.stdout.contains("p95"), "{told}");
    checkout.down();
}
