//! `dev`: the code is served as it is saved.

use std::time::Duration;

use bench::{Checkout, Dev, Saves, Table, processes_with, wait_until};
use dagster::RunStatus;
use exec::Cmd;

use crate::DEPLOY;

#[test]
fn a_save_is_served_a_broken_one_is_told_and_a_run_in_flight_ends_well() {
    let checkout = Checkout::new("dev", DEPLOY);
    let mut table = Table::new(["seconds until served", "good", "broken", "good again"]);
    let mut row = |what: &str, it: &Saves| {
        let [good, broken, again] = [it.good, it.broken, it.again].map(|it| format!("{it:.1}"));
        table.row([what.to_owned(), good, broken, again]);
        assert_eq!(it.run, RunStatus::Success);
    };

    // Of older images two stay, for another checkout or branch.
    let old = |tag: &str| format!("dagster-dev/dagster-platform:old-{tag}");
    for tag in ["a", "b", "c"] {
        let import = format!("tar --create --files-from /dev/null | docker import - {}", old(tag));
        Cmd::new("sh").args(["-c", &import]).read().unwrap();
    }

    // In containers, until Ctrl-C.
    let mut dev = Dev::start(&checkout, &["--fresh"]);
    let second = checkout.run(&["dev"]);
    assert_eq!(second.code, 3, "{second}");
    assert!(second.stderr.contains("runs in this checkout already: http://localhost:"), "{second}");
    row("containers", &dev.saves("here", 15));
    // The user's own line, as an editor finds it.
    dev.hear("  File \"dagster_core/assets.py\", line ");
    dev.hear("ModuleNotFoundError: No module named 'nowhere_to_be_found'");
    checkout.append("uv.lock", "\n");
    dev.hear("uv.lock changed: it counts from the next start on");
    let (code, said) = dev.end("INT");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(checkout.left_by_dev(), Vec::<String>::new());
    let left = Cmd::new("docker").args(["images", "--quiet", &old("*")]);
    assert_eq!(left.read().unwrap().lines().count(), 2);
    for tag in ["a", "b", "c"] {
        // One of them is gone.
        Cmd::new("docker").args(["rmi", &old(tag)]).output().unwrap();
    }

    // As processes, which end though this program is killed.
    let mut dev = Dev::start(&checkout, &["--native"]);
    row("processes", &dev.saves("here", 10));
    dev.hear("ModuleNotFoundError: No module named 'nowhere_to_be_found'");
    assert_eq!(revisions(&checkout), ["1"; 3].join("\n"), "each database is of one version");
    dev.end("KILL");
    let ours = checkout.path(".dagster-deploy").display().to_string();
    wait_until(Duration::from_secs(20), "all processes end", || processes_with(&ours).is_empty());

    println!("{table}");
    let down = checkout.run(&["down", "dev", "--data"]);
    assert_eq!(down.code, 0, "{down}");
    checkout.down();
}

/// How many versions each of Dagster's databases says it has, with SQLite.
fn revisions(checkout: &Checkout) -> String {
    const PROGRAM: &str = "import sqlite3, sys\n\
        for path in sys.argv[1:]: print(*sqlite3.connect(path).execute('SELECT count(*) FROM alembic_version').fetchone())";

    let home = checkout.path(".dagster-deploy/dev/native/home");
    let databases = ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"];
    let python = Cmd::new("python3").args(["-c", PROGRAM]);
    python.args(databases.iter().map(|it| home.join(it))).read().expect("Python reads them")
}
