//! An environment on this machine's own engine, built and released as any other.

use std::{
    collections::BTreeMap, fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::PathBuf,
    time::Duration,
};

use bench::{Answer, Checkout, Probe, wait_until};
use exec::{Cmd, Line};
use release::Fingerprint;
use serde_json::Value;

use crate::{DEPLOY, platform, without_test_job};

const LIMIT: Duration = Duration::from_mins(5);

/// An environment on this machine, of a name of its own. Nothing of it is left.
struct Staging<'a> {
    checkout: &'a Checkout,
    name: String,
    dir: PathBuf,
    port: u16,
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // Also after a failure half way.
        self.remove();
    }
}

impl Staging<'_> {
    /// Of staging's template, with the registry of the testbed.
    fn new(checkout: &Checkout) -> Staging<'_> {
        let mark = Fingerprint::of([checkout.root().as_os_str().as_encoded_bytes()]);
        let name = format!("staging-{}", &mark.short()[..6]);
        let template = without_test_job(checkout, "staging");
        assert!(template.contains("\nDEPLOY_HOST=local\n"));
        checkout.write(&format!("env-templates/{name}.env"), &template);
        checkout.make_testbed();
        let port = exec::free_port(23_100).expect("a port is free");
        let dir = checkout.path("host");
        let values = checkout
            .facts()
            .into_iter()
            .filter(|(key, _)| key != "DEPLOY_HOST" && !key.starts_with("DEPLOY_SSH"))
            .chain([
                ("DEPLOY_DIR".to_owned(), dir.display().to_string()),
                ("DEPLOY_UI_PORT".to_owned(), port.to_string()),
            ]);
        let file = format!(".env.{name}");
        let lines = values.map(|(key, value)| format!("{key}='{value}'\n"));
        checkout.write(&file, &lines.collect::<String>());
        fs::set_permissions(checkout.path(&file), fs::Permissions::from_mode(0o600))
            .expect("the file is ours");
        let staging = Staging { checkout, name, dir, port };
        // A run that was killed may have left one.
        staging.remove();
        staging
    }

    fn remove(&self) {
        for kind in ["container", "network", "volume"] {
            for id in self.left(kind) {
                let _ = Cmd::new("docker").args([kind, "rm", "--force", &id]).output();
            }
        }
    }

    /// What the engine has of it.
    fn left(&self, kind: &str) -> Vec<String> {
        let project = format!("dagster-{}", self.name);
        let format = "{{.Label \"com.docker.compose.project\"}} {{.ID}}";
        let (list, format) = match kind {
            "container" => (&["ps", "--all"][..], format.to_owned()),
            "volume" => (&["volume", "ls"][..], format.replace(".ID", ".Name")),
            _ => (&["network", "ls"][..], format.to_owned()),
        };
        let all = Cmd::new("docker").args(list.iter().copied()).args(["--format", &format]);
        let all = all.read().expect("an engine answers");
        all.lines()
            .filter_map(|it| it.split_once(' '))
            .filter(|(of, _)| *of == project || of.starts_with(&format!("{project}-core-")))
            .map(|(_, id)| id.to_owned())
            .collect()
    }

    fn run_with(&self, variables: &[(&str, &str)], verb: &str, args: &[&str]) -> Answer {
        self.checkout.run_with(variables, &[&[verb, &self.name], args].concat())
    }

    #[track_caller]
    fn json(&self, verb: &str, args: &[&str]) -> Value {
        self.checkout.json(&[&[verb, &self.name], args, &["--json"]].concat())
    }

    fn containers(&self) -> BTreeMap<String, String> {
        self.checkout.containers_of(&self.name)
    }
}

#[test]
fn staging_on_this_machine_is_released_and_rolled_back_by_the_same_path() {
    let checkout = Checkout::new("staging", DEPLOY);
    let staging = Staging::new(&checkout);
    let Staging { name, dir, port, .. } = &staging;
    // What a shell of ours has does not reach Compose, which would prefer it to the release's own.
    let hostile = [("ENVIRONMENT", "other"), ("CORE_IMAGE", "other"), ("UI_PORT", "1")];
    let first = staging.run_with(&hostile, "deploy", &["--json"]);
    assert_eq!(first.code, 0, "{first}");
    assert!(first.stderr.contains("this machine, Compose"), "{first}");
    let first: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(first["url"], format!("http://localhost:{port}"));
    assert!(first["release"]["core_image"].as_str().unwrap().contains("@sha256:"), "{first}");
    let before = staging.containers();
    assert_eq!(staging.json("deploy", &[])["changed"], false);
    assert_eq!(staging.containers(), before);
    let tunnel = staging.run_with(&[], "tunnel", &[]);
    assert_eq!(tunnel.stdout, format!("{name} is at http://localhost:{port}\n"));

    // What stands in the way is told.
    checkout.add_asset("brand_new_asset");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = taken.local_addr().unwrap().port().to_string();
    let refused = staging.run_with(&[("DEPLOY_UI_PORT", &other)], "deploy", &[]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains(&format!("port {other} of this machine is used")), "{refused}");
    let refused = staging.run_with(&[("DEPLOY_SSH_PORT", "22")], "deploy", &[]);
    assert!(refused.stderr.contains("`DEPLOY_SSH_PORT` is of no use"), "{refused}");
    let doctor = |variables: &[(&str, &str)]| staging.run_with(variables, "doctor", &[]).stdout;
    assert!(doctor(&[]).contains("host           this machine, Compose"), "{}", doctor(&[]));
    let told = doctor(&[("DEPLOY_UI_PORT", &other)]);
    assert!(told.contains("missing  host           port"), "{told}");
    let holder = Cmd::new("flock").arg(dir.join("lock")).arg("cat").start_tied().unwrap();
    wait_until(LIMIT, "somebody has the lock", || {
        let free = Cmd::new("flock").arg("--nonblock").arg(dir.join("lock")).arg("true").output();
        !free.unwrap().status.success()
    });
    let refused = staging.run_with(&[], "deploy", &[]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains(&format!("`{name}` is locked")), "{refused}");
    let holder = holder.untie();
    assert_eq!(holder.line(LIMIT), Line::Ended);

    // Ctrl-C in the terminal is the deployer's, which undoes; its scripts here do not hear it.
    let deploy = checkout.start(&[], &["deploy", name]);
    let mut said = String::new();
    while let Line::Said(line) = deploy.line(LIMIT) {
        if line.trim_start().starts_with("upload ") {
            deploy.signal_group("INT").unwrap();
        }
        said += &format!("{line}\n");
    }
    assert!(said.contains("interrupted by Ctrl-C"), "{said}");
    assert_eq!(staging.containers(), before, "{said}");

    // Other code, under a probe; back, and forward by hand.
    let probe = Probe::start(&first);
    let second = staging.json("deploy", &[]);
    assert!(probe.assets().contains(&"brand_new_asset".to_owned()), "{:?}", probe.assets());
    assert_eq!(platform(&staging.containers()), platform(&before));
    let back = staging.json("rollback", &[]);
    assert_eq!(back["release"]["id"], first["release"]["id"]);
    assert!(!probe.assets().contains(&"brand_new_asset".to_owned()));
    let second = second["release"]["id"].as_str().unwrap();
    let by_hand = Cmd::new("bash").arg(dir.join("releases").join(second).join("rollback.sh"));
    assert!(by_hand.read().unwrap().ends_with(&format!("{second} serves")));
    let status = staging.json("status", &[]);
    assert_eq!((&status["release"]["id"], &status["host"]), (&second.into(), &"local".into()));
    let (asked, failed) = probe.stop();
    assert_eq!(failed, Vec::<String>::new(), "of {asked} probes");

    // The warehouse is asked at its own address, and a dump goes to a file.
    let schema = checkout.json(&["schema", "status", name, "--json"]);
    assert_eq!((&schema["aligned"], &schema["fresh"]), (&true.into(), &false.into()), "{schema}");
    let backup = checkout.path("backup.tar").display().to_string();
    let saved = checkout.run(&["backup", name, &backup]);
    assert_eq!(saved.code, 0, "{saved}");

    let history = staging.json("history", &["--all"]);
    let entries = history["entries"].as_array().unwrap().iter();
    let told = |it: &Value| {
        ["verb", "outcome", "from"]
            .map(|key| it[key].as_str().unwrap_or_default().to_owned())
            .join(" ")
    };
    let expected = [
        "backup done local",
        "rollback.sh done local",
        "rollback done local",
        "deploy done local",
        "deploy refused local",
        "deploy refused local",
        "deploy refused local",
        "deploy nothing_to_do local",
        "deploy done local",
    ];
    assert_eq!(entries.map(told).collect::<Vec<_>>(), expected, "{history}");

    let down = staging.json("down", &["--yes", "--data"]);
    assert_eq!(down["containers"], 5);
    for kind in ["container", "network", "volume"] {
        assert_eq!(staging.left(kind), Vec::<String>::new(), "{kind}");
    }
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(left.contains(&"audit.jsonl".into()) && !left.contains(&"releases".into()), "{left:?}");
    drop(staging);
    checkout.down();
}
