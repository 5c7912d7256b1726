//! Secrets that the host reads with its own service account, and whoever deploys does not.
//!
//! Google cannot be asked from here: a program on the VM stands in for `gcloud`, at its interface.

use std::{path::Path, time::Duration};

use bench::{Arguments, Checkout, wait_until};
use exec::Cmd;
use serde_json::{Value, json};

use crate::{DEPLOY, HOME, environment, id, platform, without_test_job};

const CANARY: &str = "canary-91ce";
const LIMIT: Duration = Duration::from_mins(3);

/// `gcloud secrets versions access VERSION --secret=NAME …`, of what is in a folder. As the real one
/// does, it writes what it tells into a log, unless told not to.
const GCLOUD: &str = r#"#!/bin/sh
[ "$1 $2 $3" = "secrets versions access" ] || exit 2
version=$4
for arg in "$@"; do
  case $arg in
    --secret=*) name=${arg#--secret=} ;;
    --format=*) format=${arg#--format=} ;;
  esac
done
cd "/var/secrets/$name" 2>/dev/null && [ "$version" != latest ] || version=$(ls | sort -n | tail -n 1)
[ -f "$version" ] || {
  echo "ERROR: (gcloud.secrets.versions.access) NOT_FOUND: Secret [$name] version [$version]" >&2
  exit 1
}
[ -n "$CLOUDSDK_CORE_DISABLE_FILE_LOGGING" ] || cat "$version" >>"$HOME/gcloud.log"
case $format in
  '') cat "$version" ;;
  'value(name)') echo "projects/1/secrets/$name/versions/$version" ;;
  *) exit 2 ;;
esac
"#;

/// Adds a version of a secret, which is in no argument.
fn keep(checkout: &Checkout, name: &str, version: u32, text: &str) {
    let folder = format!("/var/secrets/{name}");
    let script = format!("mkdir -p {folder}; cat >{folder}/{version}");
    let exec = ["exec", "--interactive", &checkout.vm(), "bash", "-c", &script];
    Cmd::new("docker").args(exec).stdin(text).read().expect("the VM runs");
}

#[test]
fn the_host_reads_its_secrets_and_whoever_deploys_holds_none() {
    let checkout = Checkout::new("secrets-on-host", DEPLOY);
    let template = without_test_job(&checkout, "demo");
    let template = template.replace("DEPLOY_RESOLVE_ON=deployer", "DEPLOY_RESOLVE_ON=host");
    let token = "\n# @sensitive\nAPI_TOKEN=gcp-secret://api-token\n";
    checkout.write("env-templates/demo.env", &(template + token));
    checkout.make_testbed();
    checkout.write(".env.gcloud", GCLOUD);
    let program = checkout.path(".env.gcloud");
    let vm = format!("{}:/usr/local/bin/gcloud", checkout.vm());
    Cmd::new("docker").arg("cp").arg(program).arg(vm).read().unwrap();
    checkout.on_host("chmod 755 /usr/local/bin/gcloud");
    keep(&checkout, "db", 3, &format!("{CANARY}-db"));
    keep(&checkout, "api-token", 1, &format!("{CANARY}-1-$HOME-${{HOME}}-\"-\\-é"));
    let checkout = checkout.with("POSTGRES_PASSWORD", "gcp-secret://acme-demo/db@3");

    let mut outputs = Vec::new();
    let mut verb = |variables: &[(&str, &str)], args: &[&str], code: i32| {
        let answer = checkout.run_with(variables, args);
        assert_eq!(answer.code, code, "{args:?}: {answer}");
        outputs.push(format!("{}{}", answer.stdout, answer.stderr));
        answer
    };
    let facts = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let watch = Arguments::watch(CANARY);
    let first = facts(&verb(&[], &["deploy", "demo", "--json"], 0).stdout);
    let expected = json!({
        "API_TOKEN": "gcp-secret://api-token@1",
        "POSTGRES_PASSWORD": "gcp-secret://acme-demo/db@3",
    });
    assert_eq!(first["release"]["secrets"], expected);
    let of_first = environment(&checkout, &id(&first));
    assert!(of_first.contains(r#"API_TOKEN=canary-91ce-1-$HOME-${HOME}-"-\-é"#), "{of_first}");
    assert_eq!(facts(&verb(&[], &["deploy", "demo", "--json"], 0).stdout)["changed"], false);
    // The warehouse is asked with the login that the host has.
    let schema = facts(&verb(&[], &["schema", "status", "demo", "--json"], 0).stdout);
    assert_eq!(schema["aligned"], true, "{schema}");

    // A new version is a new release, of the code server alone.
    let before = checkout.containers();
    keep(&checkout, "api-token", 2, &format!("{CANARY}-2"));
    let plan = verb(&[], &["deploy", "demo", "--dry-run"], 0).stdout;
    assert!(plan.contains("~ API_TOKEN, a secret, changed"), "{plan}");
    assert!(plan.contains("let the host read its secrets: `API_TOKEN`"), "{plan}");
    let second = facts(&verb(&[], &["deploy", "demo", "--json"], 0).stdout);
    assert_eq!(second["release"]["secrets"]["API_TOKEN"], "gcp-secret://api-token@2");
    assert!(environment(&checkout, &id(&second)).contains("API_TOKEN=canary-91ce-2"));
    // Rotated it is as well, and what a deploy then finds is what it would have made.
    keep(&checkout, "api-token", 3, &format!("{CANARY}-3"));
    let args = ["env", "rotate", "demo", "API_TOKEN", "--json"];
    let third = facts(&verb(&[], &args, 0).stdout);
    assert_eq!(third["release"]["secrets"]["API_TOKEN"], "gcp-secret://api-token@3");
    assert!(environment(&checkout, &id(&third)).contains("API_TOKEN=canary-91ce-3"));
    assert_eq!(facts(&verb(&[], &["deploy", "demo", "--json"], 0).stdout)["changed"], false);
    wait_until(LIMIT, "the first one has stopped", || checkout.code_servers() == 2);
    let after = checkout.containers();
    assert_eq!(platform(&after), platform(&before));

    // One that cannot be read is named, and nothing is touched.
    let releases = || checkout.on_host(&format!("ls {HOME}/releases"));
    let there = releases();
    for (reference, named) in [
        (
            "gcp-secret://api-token@9",
            "cannot read gcp-secret://api-token@9, which `API_TOKEN` asks",
        ),
        ("gcp-secret://none", "cannot read gcp-secret://none, which `API_TOKEN` asks"),
    ] {
        let refused = verb(&[("API_TOKEN", reference)], &["deploy", "demo"], 3);
        assert!(refused.stderr.contains(named), "{refused}");
        assert!(refused.stderr.contains("NOT_FOUND: Secret ["), "{refused}");
    }
    let refused = verb(&[("API_TOKEN", "pass://token")], &["deploy", "demo"], 3);
    assert!(refused.stderr.contains("`API_TOKEN` is where the host cannot read it"), "{refused}");
    assert_eq!((checkout.containers(), releases()), (after, there));

    // The way back needs no store.
    checkout.on_host("mv /var/secrets /var/away");
    let back = facts(&verb(&[], &["rollback", "demo", "--json"], 0).stdout);
    assert_eq!(back["release"]["id"], second["release"]["id"]);
    assert!(environment(&checkout, &id(&back)).contains("API_TOKEN=canary-91ce-2"));
    verb(&[], &["history", "demo", "--all", "--json"], 0);
    let seen = watch.stop();
    assert_eq!(seen.found, Vec::<String>::new(), "in arguments of processes");

    // Found where it belongs, and nowhere else.
    assert!(!outputs.concat().contains(CANARY), "the secret is in what a verb said");
    // The copy of this very test names it.
    let here = Cmd::new("grep").args(["-rlF", "--exclude-dir=crates", CANARY]);
    let here = here.arg(checkout.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&here.stdout), "", "files of whoever deploys");
    let there = checkout.on_host(&format!(
        "grep -rlF {CANARY} /home /tmp /root /var/log 2>/dev/null | xargs stat --format '%a %n'"
    ));
    let name = |line: &str| {
        let (mode, path) = line.split_once(' ').unwrap();
        let file = Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
        format!("{mode} {file}")
    };
    let mut names: Vec<String> = there.lines().map(name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names, ["600 core.env.json", "600 platform.env.json"], "{there}");
    assert!(there.lines().all(|it| it.contains(HOME)), "{there}");
    checkout.down();
}
