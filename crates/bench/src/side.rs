//! One change of the code, by a deploy and by the flow it replaces.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use dagster::RunStatus;
use serde_json::Value;

use crate::{
    Answer, Checkout, Classic, Counts, Link, Probe, Relay,
    checkout::{Window, comes_true, runtime},
};

/// The port of the UI of `prod`, on the VM.
const UI_PORT: u16 = 3100;

/// A VM that is deployed to as production is, through counted links.
pub struct Ours {
    checkout: Checkout,
    /// What goes to the registry.
    pub registry: Relay,
    /// What goes to the VM.
    pub ssh: Relay,
    through: Vec<(&'static str, String)>,
    window: Window,
    marks: usize,
}

/// One change of the code, brought to its users.
#[derive(Debug, Clone)]
pub struct Change {
    /// Until the new code was served, in seconds; none if it never was.
    pub served: Option<f64>,
    /// Until the command ended, in seconds.
    pub whole: f64,
    /// Questions that the probe asked meanwhile, and those that failed.
    pub asked: usize,
    /// Those that failed.
    pub failed: usize,
    /// Of one run in flight.
    pub lost: usize,
    /// What went to the registry.
    pub registry: Counts,
    /// What went to the VM.
    pub ssh: Counts,
}

impl Ours {
    /// Makes the VM and deploys to it once.
    pub fn start(name: &str, deploy: &Path, link: Link) -> Ours {
        let checkout = Checkout::new(name, deploy);
        checkout.make_testbed();
        checkout.write_env_prod_of_the_testbed();
        let registry = checkout.registry_through(link);
        let (ssh, through) = checkout.ssh_through(link);
        let mut through = through.to_vec();
        through.push(("DEPLOY_REGISTRY", format!("127.0.0.1:{}/dagster", registry.port())));
        let window = checkout.window(UI_PORT);
        let ours = Ours { checkout, registry, ssh, through, window, marks: 0 };
        ours.must(&["deploy", "prod", "--yes"]);
        ours
    }

    /// The same VM by another link.
    pub fn by(&mut self, link: Link) {
        self.registry = self.checkout.registry_through(link);
        let (ssh, through) = self.checkout.ssh_through(link);
        self.ssh = ssh;
        self.through = through.to_vec();
        self.through
            .push(("DEPLOY_REGISTRY", format!("127.0.0.1:{}/dagster", self.registry.port())));
    }

    /// Changes the code and deploys it.
    pub fn change(&mut self) -> Change {
        self.marks += 1;
        let mark = format!("mark_{}", self.marks);
        self.checkout.mark(&mark);
        change(self.window.port, &mark, (&self.registry, &self.ssh), || {
            self.must(&["deploy", "prod", "--yes"]);
        })
    }

    /// A whole verb, which must succeed; how long it took, in seconds.
    pub fn seconds(&self, args: &[&str]) -> f64 {
        let began = Instant::now();
        self.must(args);
        began.elapsed().as_secs_f64()
    }

    fn must(&self, args: &[&str]) -> Answer {
        let variables: Vec<_> =
            self.through.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let answer = self.checkout.run_with(&variables, args);
        assert_eq!(answer.code, 0, "{args:?}: {answer}");
        answer
    }

    /// The image of the code that is served.
    fn image(&self) -> String {
        let status = self.must(&["status", "prod", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        status["release"]["core_image"].as_str().unwrap().to_owned()
    }

    /// The layers of the image that is served, by digest, with their bytes in the registry.
    pub fn layers(&self) -> BTreeMap<String, u64> {
        let image = self.image();
        let (name, digest) = image.split_once('@').unwrap();
        let (registry, repository) = name.split_once('/').unwrap();
        let repository = repository.split(':').next().unwrap();
        let url = format!("http://{registry}/v2/{repository}/manifests/{digest}");
        let manifest: Value = runtime().block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let kinds = "application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.oci.image.manifest.v1+json";
            let answer = client.get(url).header("accept", kinds).send().await.unwrap();
            answer.json().await.unwrap()
        });
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers
            .map(|it| (it["digest"].as_str().unwrap().to_owned(), it["size"].as_u64().unwrap()))
            .collect()
    }

    /// How long the code's Python takes to listen on this VM, when nothing but Docker starts it.
    pub fn floor(&self) -> f64 {
        let image = self.image();
        let script = format!(
            "began=$(date +%s.%N)
             id=$(docker run --detach --network dagster-prod {image} dagster api grpc \
               --host 0.0.0.0 --port 4000 --module-name dagster_core.definitions)
             address=$(docker inspect --format \
               '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' $id)
             until (exec 3<>/dev/tcp/$address/4000) 2>/dev/null; do sleep 0.02; done
             date +%s.%N | awk \"{{ print \\$1 - $began }}\"
             docker rm --force $id >/dev/null"
        );
        self.checkout.on_host(&script).trim().parse().unwrap()
    }

    /// Takes all away.
    pub fn down(self) {
        drop(self.window);
        self.checkout.down();
    }
}

/// Changes the code of the other flow, and brings it there.
pub fn classic_change(classic: &Classic<'_>, checkout: &Checkout, mark: &str) -> Change {
    checkout.mark(mark);
    change(classic.port(), mark, (&classic.registry, &classic.ssh), || classic.deploy())
}

/// Watches while a change is brought to its users.
fn change(port: u16, mark: &str, links: (&Relay, &Relay), bring: impl FnOnce()) -> Change {
    let probe = Probe::at(port);
    let run = probe.launch("wait_job", 30);
    let limit = Duration::from_mins(2);
    assert!(
        comes_true(limit, || probe.run_status(&run) == RunStatus::Started),
        "a run starts within {limit:?}"
    );
    let before = (links.0.counts(), links.1.counts());
    let served = probe.await_asset(mark);
    let began = Instant::now();
    bring();
    let whole = began.elapsed().as_secs_f64();
    let served = served.join().unwrap().map(|it| it.duration_since(began).as_secs_f64());
    let (registry, ssh) = (links.0.counts() - before.0, links.1.counts() - before.1);
    // One that was killed stays as it was, for ever.
    comes_true(Duration::from_mins(1), || probe.run_status(&run).is_final());
    let lost = usize::from(probe.run_status(&run) != RunStatus::Success);
    let (asked, failed) = probe.stop();
    Change { served, whole, asked, failed: failed.len(), lost, registry, ssh }
}
