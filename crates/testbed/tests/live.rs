//! Real testbeds, on this machine's engine.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of a test fails and tells as the test does"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use exec::{Cmd, Host, Ssh, Target};
use images::{Engine, Files, Layer, Registry};
use release::ImageRef;
use testbed::{Compose, Event, Login, Options, Testbed};

async fn up(root: &Path, options: &Options) -> (Testbed, Vec<String>) {
    let mut said = Vec::new();
    let testbed = Testbed::up(root, options, &mut |event| {
        if let Event::Said(line) = event {
            println!("{line}");
            said.push(line);
        }
    })
    .await
    .unwrap();
    (testbed, said)
}

fn connect(testbed: &Testbed) -> Host {
    let facts = testbed.facts();
    Host::connect(&Target::Ssh(Ssh {
        destination: facts["DEPLOY_HOST"].clone(),
        port: Some(facts["DEPLOY_SSH_PORT"].parse().unwrap()),
        key: Some(facts["DEPLOY_SSH_KEY"].clone().into()),
        known_hosts: Some(facts["DEPLOY_SSH_KNOWN_HOSTS"].clone().into()),
        proxy: None,
    }))
    .unwrap()
}

fn docker(args: &[&str]) -> String {
    Cmd::new("docker").args(args.iter().copied()).read().unwrap()
}

fn sh(host: &Host, script: &str) -> String {
    host.read(&Cmd::new("sh").args(["-c", script])).unwrap()
}

/// What the engine has of this testbed.
fn objects(testbed: &Testbed) -> BTreeSet<String> {
    let vm = testbed.vm();
    let mark = vm.strip_suffix("-vm").unwrap();
    let registry = testbed.facts()["DEPLOY_REGISTRY"].replace("/dagster", "/");
    let all = [
        docker(&["ps", "-a", "--no-trunc", "--format", "container {{.ID}} {{.Names}}"]),
        docker(&["volume", "ls", "--format", "volume {{.Name}}"]),
        docker(&["network", "ls", "--no-trunc", "--format", "network {{.ID}} {{.Name}}"]),
        docker(&["images", "--format", "image {{.Repository}}:{{.Tag}}"]),
    ];
    let lines = all.iter().flat_map(|it| it.lines());
    lines.filter(|it| it.contains(mark) || it.contains(&registry)).map(str::to_owned).collect()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test]
async fn a_testbed_stands_through_a_second_up_and_a_reboot_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let options = Options::named("live-v1");
    let (testbed, _) = up(root.path(), &options).await;
    let before = objects(&testbed);
    // Two containers, two volumes, a network, the image given to the registry.
    assert_eq!(before.len(), 6, "{before:#?}");

    let (again, said) = up(root.path(), &options).await;
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(objects(&again), before);
    assert_eq!(again.facts(), testbed.facts());
    let found = Testbed::find(root.path(), "live-v1").await.unwrap().unwrap();
    assert_eq!(found.facts(), testbed.facts());

    let host = connect(&testbed);
    assert_eq!(sh(&host, "id -un"), "deployer");
    assert!(sh(&host, "docker-compose version --short").starts_with("1.29."));
    assert!(
        !host.output(&Cmd::new("docker").args(["compose", "version"])).unwrap().status.success()
    );

    let postgres = testbed.facts()["DEPLOY_POSTGRES_IMAGE"].clone();
    assert!(postgres.contains("@sha256:"), "{postgres}");
    let run = "docker run --detach --name db --restart unless-stopped --env POSTGRES_USER=ana \
               --env POSTGRES_PASSWORD='it'\\''s \"$x\"' --env POSTGRES_DB=ware";
    sh(&host, &format!("{run} {postgres}"));
    let is_ready = |host: &Host| {
        let ready = Cmd::new("docker").args(["exec", "db", "pg_isready", "--username=ana"]);
        host.output(&ready).unwrap().status.success()
    };
    wait_for("Postgres runs in the VM", || is_ready(&host));
    let ask = "docker exec --env PGPASSWORD='it'\\''s \"$x\"' db psql --no-align --tuples-only \
               --host=127.0.0.1 --username=ana --command='select current_database()' ware";
    assert_eq!(sh(&host, ask), "ware");
    drop(host);

    docker(&["restart", &testbed.vm()]);
    let (_, said) = up(root.path(), &options).await;
    assert_eq!(said, Vec::<String>::new());
    let host = connect(&testbed);
    wait_for("Postgres runs after the reboot", || is_ready(&host));
    assert_eq!(sh(&host, ask), "ware");
    drop(host);

    docker(&["stop", &testbed.vm()]);
    let (_, said) = up(root.path(), &options).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(objects(&testbed), before);

    let all = || {
        let ids = [
            docker(&["ps", "-aq", "--no-trunc"]),
            docker(&["volume", "ls", "-q"]),
            docker(&["network", "ls", "-q", "--no-trunc"]),
            docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]),
        ];
        ids.join("\n").lines().map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let with = all();
    let removed = Testbed::down(root.path(), "live-v1").await.unwrap();
    let gone: BTreeSet<String> = with.difference(&all()).cloned().collect();
    assert_eq!(objects(&testbed), BTreeSet::new());
    // Others work on this engine too: what went with us must be ours.
    for it in &before {
        let name = it.split(' ').nth(1).unwrap();
        assert!(gone.contains(name), "{it} is still there; removed: {removed:?}");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    assert_eq!(Testbed::down(root.path(), "live-v1").await.unwrap(), Vec::<String>::new());
    assert!(Testbed::find(root.path(), "live-v1").await.unwrap().is_none());
}

#[tokio::test]
async fn a_testbed_may_have_a_newer_compose_a_login_and_a_small_disk() {
    let root = tempfile::tempdir().unwrap();
    let login = Login { user: "ana".to_owned(), password: "p?w>~:'".to_owned() };
    let options = Options {
        compose: Compose::V2,
        registry_login: Some(login),
        disk: Some(64 << 20),
        ..Options::named("live-v2")
    };
    let (testbed, _) = up(root.path(), &options).await;
    let facts = testbed.facts();
    assert_eq!(facts["DEPLOY_REGISTRY_USER"], "ana");

    let host = connect(&testbed);
    let version = sh(&host, "docker compose version --short");
    assert!(version.trim_start_matches('v').split('.').next().unwrap() >= "2", "{version}");
    assert!(!host.output(&Cmd::new("docker-compose").arg("version")).unwrap().status.success());

    let postgres = facts["DEPLOY_POSTGRES_IMAGE"].as_str();
    let pull = Cmd::new("docker").args(["pull", postgres]);
    let output = host.output(&pull).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no basic auth credentials"), "{said}");

    let registry = postgres.split('/').next().unwrap();
    let user = facts["DEPLOY_REGISTRY_USER"].as_str();
    let enter = Cmd::new("docker")
        .args(["login", "--username", user, "--password-stdin", registry])
        .stdin(facts["DEPLOY_REGISTRY_PASSWORD"].clone());
    host.read(&enter).unwrap();
    let output = host.output(&pull).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no space left on device"), "{said}");

    drop(host);
    a_layer_is_put_on_an_image_in_the_registry(&facts).await;
    Testbed::down(root.path(), "live-v2").await.unwrap();
    assert_eq!(objects(&testbed), BTreeSet::new());
}

async fn a_layer_is_put_on_an_image_in_the_registry(facts: &BTreeMap<String, String>) {
    let checkout = tempfile::tempdir().unwrap();
    std::fs::create_dir(checkout.path().join("code")).unwrap();
    std::fs::write(checkout.path().join("code/a.py"), "answer = 42\n").unwrap();
    let code = Files::read(checkout.path(), Path::new("code")).unwrap();
    let layer = Layer::pack(&code, Path::new("/opt/app"));
    let labels = [("of".to_owned(), "a test".to_owned())].into();

    let base: ImageRef = facts["DEPLOY_POSTGRES_IMAGE"].parse().unwrap();
    let tag: ImageRef = format!("{}:with-code", base.name()).parse().unwrap();
    let login = |password: &str| images::Login::Basic {
        user: "ana".to_owned(),
        password: password.to_owned(),
    };
    let (ours, theirs) =
        if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    for wrong in [login("wrong"), images::Login::None] {
        let refused = Registry::new(&facts["DEPLOY_REGISTRY"], wrong, ours, None)
            .find(&base)
            .await
            .err()
            .unwrap();
        assert!(refused.to_string().contains("unauthorized"), "{refused}");
        assert!(refused.hint().unwrap().contains("DEPLOY_REGISTRY_PASSWORD"));
    }
    let login = login(&facts["DEPLOY_REGISTRY_PASSWORD"]);
    let registry = Registry::new(&facts["DEPLOY_REGISTRY"], login.clone(), ours, None);
    assert!(registry.find(&tag).await.unwrap().is_none());
    let base = registry.find(&base).await.unwrap().unwrap();
    let made = registry.add_layer(&base, &tag, &layer, &labels).await.unwrap();
    let found = registry.find(&tag).await.unwrap().unwrap();
    assert_eq!(found.image, made);
    assert_eq!(found.labels["of"], "a test");
    let other = Registry::new(&facts["DEPLOY_REGISTRY"], login.clone(), theirs, None);
    assert!(other.find(&tag).await.unwrap().is_none(), "it is for other machines");

    // An engine takes it: what is there is the base's and the layer's.
    let engine = Engine::local().await.unwrap();
    engine.pull(&made, &login, &mut |_| ()).await.unwrap();
    let made = made.to_string();
    let look = "cat /opt/app/code/a.py && stat --format '%a %u:%g' /opt/app/code && psql --version";
    let said = docker(&["run", "--rm", "--entrypoint", "sh", &made, "-c", look]);
    assert!(said.starts_with("answer = 42\n755 0:0\npsql"), "{said}");
    docker(&["image", "rm", &made]);
}

#[tokio::test]
async fn two_at_once_make_one_testbed() {
    let root = tempfile::tempdir().unwrap();
    let options = Options::named("live-two");
    let (one, two) = tokio::join!(up(root.path(), &options), up(root.path(), &options));
    assert_eq!(one.0.facts(), two.0.facts());
    let quiet = [&one.1, &two.1].into_iter().filter(|it| it.is_empty()).count();
    assert_eq!(quiet, 1, "one made it, the other found it: {:?} {:?}", one.1, two.1);
    Testbed::down(root.path(), "live-two").await.unwrap();
}

#[tokio::test]
async fn the_doctor_finds_the_engine_that_this_runs_on() {
    let findings = testbed::doctor::check().await;
    for finding in &findings {
        println!("{finding}");
    }
    let of = |name: &str| findings.iter().find(|it| it.name == name).map(|it| it.ok);
    assert_eq!(of("Docker engine"), Some(true));
    assert_eq!(of("ssh"), Some(true));
    assert_eq!(of("ssh-keygen"), Some(true));
    assert!(of("disk").is_some() && of("memory").is_some());
}
