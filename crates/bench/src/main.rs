//! `cargo xtask bench`: measures deploys on throwaway VMs, and strikes them.

use std::{path::Path, process::ExitCode};

use bench::{
    Bar, Change, Checkout, Classic, Depth, Dev, Fault, Goal, Link, Ours, Probe, Range, Saves,
    Scene, Section, Table, classic_change, endure, lint, median, strikes_table,
};
use clap::{Parser, Subcommand};
use dagster::RunStatus;

/// Measures deploys on throwaway VMs of this machine, and strikes them
///
/// Exits with 1 when a goal is missed. Nothing else should run on this machine meanwhile.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Write what was measured into docs/
    #[arg(long, global = true)]
    save: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// One change of the code, by a deploy and by the flow it replaces
    Deploy {
        /// How often
        #[arg(default_value_t = 5)]
        rounds: usize,
    },
    /// The same deploy, near and across 100 ms and 1 % of losses
    Distance {
        /// How often
        #[arg(default_value_t = 5)]
        rounds: usize,
    },
    /// Deploys and rollbacks by turns, with runs of every origin in flight
    Endurance {
        /// How many
        #[arg(default_value_t = 50)]
        rounds: usize,
    },
    /// Saves in `dev`, and in Dagster's own `dagster dev` that is reloaded by hand
    Dev {
        /// How often
        #[arg(default_value_t = 3)]
        rounds: usize,
    },
    /// Every step of a deploy, a rollback or a platform change, ended in every way
    Faults {
        /// The verb that is struck
        #[arg(value_enum)]
        scene: Scene,
        /// Each step on the host once, with the ways by turns
        #[arg(long)]
        short: bool,
    },
    /// `cargo xtask lint` beside pre-commit, prek, lefthook and the bare linters; needs no engine
    Lint {
        /// How often
        #[arg(default_value_t = 6)]
        rounds: usize,
        /// Instead, commits that are hard to judge
        #[arg(long)]
        scenarios: bool,
        /// Instead, so many random edits: is a lint's verdict that of the linters?
        #[arg(long, value_name = "ROUNDS", conflicts_with = "scenarios")]
        edits: Option<usize>,
    },
}

impl Verb {
    fn command(&self) -> (&'static str, String) {
        let (name, rest) = match self {
            Verb::Deploy { rounds } => ("deploy", format!(" {rounds}")),
            Verb::Distance { rounds } => ("distance", format!(" {rounds}")),
            Verb::Endurance { rounds } => ("endurance", format!(" {rounds}")),
            Verb::Dev { rounds } => ("dev", format!(" {rounds}")),
            Verb::Lint { edits: Some(edits), .. } => ("lint-edits", format!(" {edits}")),
            Verb::Lint { scenarios: true, .. } => ("lint-scenarios", String::new()),
            Verb::Lint { rounds, .. } => ("lint", format!(" {rounds}")),
            Verb::Faults { scene, short } => {
                let name = match scene {
                    Scene::Deploy => "faults-deploy",
                    Scene::Rollback => "faults-rollback",
                    Scene::Platform => "faults-platform",
                };
                (name, if *short { " --short" } else { "" }.to_owned())
            }
        };
        let verb = match self {
            Verb::Faults { .. } => name.replace('-', " "),
            _ => name.replace('-', " --"),
        };
        (name, format!("cargo xtask bench {verb}{rest} --save"))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (name, command) = cli.verb.command();
    let here = std::env::current_exe().expect("a program that runs has a path");
    let deploy = here.with_file_name("deploy");
    let section = match cli.verb {
        Verb::Deploy { rounds } => side_by_side(&deploy, rounds, command),
        Verb::Distance { rounds } => distance(&deploy, rounds, command),
        Verb::Endurance { rounds } => endurance(&deploy, rounds, command),
        Verb::Dev { rounds } => dev(&deploy, rounds, command),
        Verb::Faults { scene, short } => faults(&deploy, scene, short, command),
        Verb::Lint { rounds, scenarios, edits } => {
            let kit = lint::Kit::new(&here.with_file_name("xtask"));
            if let Some(edits) = edits {
                lint::edits(&kit, edits, command, &tell)
            } else if scenarios {
                lint::scenarios(&kit, command, &tell)
            } else {
                lint::speed(&kit, rounds, command, &tell)
            }
        }
    };
    say(&section.to_string());
    if cli.save {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        if let Err(error) = section.save(&docs, name) {
            tell(&format!("error: cannot write into `{}`: {error}", docs.display()));
            return ExitCode::FAILURE;
        }
    }
    if section.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn side_by_side(deploy: &Path, rounds: usize, command: String) -> Section {
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

fn distance(deploy: &Path, rounds: usize, command: String) -> Section {
    let far = Link { delay: std::time::Duration::from_millis(50), one_lost_of: 100 };
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

fn endurance(deploy: &Path, rounds: usize, command: String) -> Section {
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

fn faults(deploy: &Path, scene: Scene, short: bool, command: String) -> Section {
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
    let ways = if short { "in the four ways by turns" } else { "in each of four ways" };
    let away = match scene {
        Scene::Platform => "; the webserver is made anew each time",
        Scene::Deploy | Scene::Rollback => "",
    };
    Section {
        command,
        about: format!(
            "Every step of a {scene}, as the verb prints them, ended {ways}. Each time a run is in \
             flight and another deploy follows. {asked} probes asked meanwhile, ten a second, for \
             something that needs the code server: {} failed{away}.",
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

fn dev(deploy: &Path, rounds: usize, command: String) -> Section {
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

fn bar(what: &str, seconds: f64, other: bool) -> Bar {
    Bar { what: what.to_owned(), seconds, other }
}

fn seconds(changes: &[Change]) -> Vec<f64> {
    changes.iter().map(|it| it.served.unwrap_or(f64::INFINITY)).collect()
}

fn middle(changes: &[Change], of: impl Fn(&Change) -> u64) -> String {
    let mut all: Vec<u64> = changes.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).map(ToString::to_string).unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "the one place where this program prints what it found")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the one place where this program tells how far it is")]
fn tell(line: &str) {
    eprintln!("{line}");
}
