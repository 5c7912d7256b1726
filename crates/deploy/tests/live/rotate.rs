//! One secret that changes, and nothing else.

use std::time::Duration;

use bench::{Answer, Arguments, Checkout, Probe, wait_until};
use dagster::RunStatus;
use exec::Cmd;
use serde_json::Value;

use crate::{DEPLOY, HOME, environment, id, platform, without_test_job};

/// What every secret here begins with.
const CANARY: &str = "canary-5e1f";
const OLD: &str = "canary-5e1f-old-$HOME-#-\"-\\-'-é";
const NEW: &str = "canary-5e1f-new-$$-${HOME}-#-\"-\\-'-é";

const LIMIT: Duration = Duration::from_mins(3);

/// Which of both passwords Postgres takes over TCP.
fn knows(checkout: &Checkout) -> &'static str {
    let quoted = |it: &str| format!("'{}'", it.replace('\'', r"'\''"));
    let asks = |password: &str| {
        let postgres =
            "$(docker ps --quiet --filter label=com.docker.compose.service=dagster-postgres)";
        let psql = "psql --host 127.0.0.1 --username dagster --dbname dagster -Atc 'SELECT 1'";
        let password = quoted(password);
        checkout.on_host(&format!(
            "docker exec -e PGPASSWORD={password} {postgres} {psql} 2>&1 || true"
        ))
    };
    match (asks(OLD).as_str(), asks(NEW).as_str()) {
        ("1", denied) if denied.contains("password authentication failed") => "old",
        (denied, "1") if denied.contains("password authentication failed") => "new",
        answers => panic!("{answers:?}"),
    }
}

/// Everything that anybody reads, by name.
fn texts(checkout: &Checkout) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for args in
        [&["status", "demo"][..], &["history", "demo", "--all"], &["rollback", "demo", "--dry-run"]]
    {
        let answer = checkout.run(args);
        assert_eq!(answer.code, 0, "{answer}");
        texts.push((args.join(" "), answer.stdout + &answer.stderr));
    }
    let on_host = [
        ("logs", "for it in $(docker ps --all --quiet); do docker logs $it 2>&1; done".to_owned()),
        ("the audit log", format!("cat {HOME}/audit.jsonl {HOME}/lock.json 2>/dev/null || true")),
        (
            "manifests",
            format!("cat {HOME}/releases/*/manifest.json {HOME}/releases/*/made-of.json"),
        ),
        ("files that others may read", format!("find {HOME} -perm /044 -type f -exec cat {{}} +")),
        (
            "images",
            "docker images --quiet | sort --unique | xargs docker inspect; \
             docker images --quiet | sort --unique | xargs -n1 docker history --no-trunc"
                .to_owned(),
        ),
    ];
    texts.extend(on_host.map(|(what, script)| (what.to_owned(), checkout.on_host(&script))));
    texts
}

#[test]
fn one_secret_changes_alone_and_the_database_follows_its_password_there_and_back() {
    let checkout = Checkout::new("rotate", DEPLOY);
    // One run works, the next one waits.
    let yaml = checkout.read("compose/dagster.yaml");
    let yaml = yaml.replace("max_concurrent_runs: 10", "max_concurrent_runs: 1");
    checkout.write("compose/dagster.yaml", &yaml);
    let template =
        without_test_job(&checkout, "demo") + "\nGREETING=hello\n\n# @sensitive\nAPI_TOKEN=\n";
    checkout.write("env-templates/demo.env", &template);
    let checkout = checkout.with("POSTGRES_PASSWORD", OLD).with("API_TOKEN", OLD);
    let first = checkout.deploy();
    let containers = checkout.containers();
    let watch = Arguments::watch(CANARY);
    let mut said: Vec<Answer> = Vec::new();

    // A secret of the code, while code, settings and files have moved on.
    checkout.write("env-templates/demo.env", &template.replace("=hello", "=goodbye"));
    checkout.append("compose/dagster.yaml", "\n# Another one.\n");
    checkout.add_asset("another_asset");
    let checkout = checkout.with("API_TOKEN", NEW);
    said.push(checkout.run(&["plan", "demo", "--out", "plan.json"]));
    let rotated = checkout.run(&["env", "rotate", "demo", "API_TOKEN", "--json"]);
    assert_eq!(rotated.code, 0, "{rotated}");
    let second: Value = serde_json::from_str(&rotated.stdout).unwrap();
    said.push(rotated);
    let of_second = environment(&checkout, &id(&second));
    assert!(of_second.contains(&format!("API_TOKEN={NEW}\n")), "{of_second}");
    assert!(of_second.contains("GREETING=hello\n"), "{of_second}");
    assert_eq!(second["release"]["core_image"], first["release"]["core_image"]);
    assert_eq!(platform(&checkout.containers()), platform(&containers));
    let probe = Probe::start(&first);
    assert!(!probe.assets().contains(&"another_asset".to_owned()));
    let again = checkout.run(&["env", "rotate", "demo", "API_TOKEN"]);
    assert_eq!(again.code, 3, "{again}");
    assert!(again.stderr.contains("nothing to rotate: `API_TOKEN`"), "{again}");

    // The database's: a run in flight would lose it.
    let checkout = checkout.with("POSTGRES_PASSWORD", NEW);
    let works = probe.launch("wait_job", 600);
    wait_until(LIMIT, "the run starts", || probe.run_status(&works) == RunStatus::Started);
    let waits = probe.launch("wait_job", 1);
    let rotate = ["env", "rotate", "demo", "POSTGRES_PASSWORD"];
    let refused = checkout.run(&rotate);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("1 run in flight would lose the database"), "{refused}");
    let planned = checkout.run(&[&rotate[..], &["--dry-run"]].concat());
    assert!(planned.stdout.contains("the secret POSTGRES_PASSWORD changes, and nothing else"));
    said.extend([again, refused, planned]);
    let rotated = checkout.run(&[&rotate[..], &["--runs", "cancel", "--json"]].concat());
    assert_eq!(rotated.code, 0, "{rotated}");
    println!("{}", rotated.stderr);
    let third: Value = serde_json::from_str(&rotated.stdout).unwrap();
    said.push(rotated);
    assert_eq!(probe.run_status(&works), RunStatus::Canceled);
    wait_until(LIMIT, "what waited ends", || probe.run_status(&waits).is_final());
    assert_eq!(probe.run_status(&waits), RunStatus::Success);
    let seen = watch.stop();
    assert_eq!(seen.found, Vec::<String>::new(), "in arguments of processes");
    assert!(seen.samples > 100, "only {} samples", seen.samples);
    assert_eq!(knows(&checkout), "new");
    assert_eq!(second["release"]["platform_image"], third["release"]["platform_image"]);

    // Both ways back and forth.
    let back = checkout.run(&["rollback", "demo"]);
    assert_eq!(back.code, 0, "{back}");
    println!("{}", back.stderr);
    said.push(back);
    assert_eq!(knows(&checkout), "old");
    let release = id(&third);
    let by_hand = checkout.on_host(&format!(
        "su - deployer -c 'bash {HOME}/releases/{release}/rollback.sh' 2>&1 || echo exit $?"
    ));
    assert!(by_hand.ends_with(&format!("{release} serves")), "{by_hand}");
    assert_eq!(knows(&checkout), "new");
    let status = checkout.json(&["status", "demo", "--json"]);
    assert_eq!(status["release"]["id"], release.as_str());
    let run = probe.launch("wait_job", 1);
    wait_until(LIMIT, "a run ends", || probe.run_status(&run).is_final());
    assert_eq!(probe.run_status(&run), RunStatus::Success);

    // The secrets are where they belong, and nowhere else.
    let mut texts = texts(&checkout);
    texts.push(("rollback.sh".to_owned(), by_hand));
    texts.extend(said.into_iter().map(|it| ("a verb".to_owned(), it.stdout + &it.stderr)));
    for (what, text) in &texts {
        assert!(!text.is_empty(), "{what} is empty");
        assert!(!text.contains(CANARY), "a secret is in {what}: {text}");
    }
    let history = &texts[1].1;
    assert!(history.contains("rotated"), "{history}");
    let holding =
        checkout.on_host(&format!("grep -rlF {CANARY} {HOME} | xargs stat --format '%a %n'"));
    for line in holding.lines() {
        let name = line.rsplit('/').next();
        let belongs = name.is_some_and(|it| it == "core.env.json" || it == "platform.env.json");
        assert!(belongs && line.starts_with("600 "), "{line}");
    }
    assert!(holding.lines().count() > 4, "{holding}");
    assert!(checkout.read("plan.json").contains("API_TOKEN"));
    let here = Cmd::new("grep").args(["-rlF", CANARY, "--exclude=rotate.rs", "."]);
    let here = here.dir(checkout.root()).output().expect("grep is everywhere");
    assert_eq!(String::from_utf8_lossy(&here.stdout), "", "files of the checkout");
    checkout.down();
}
