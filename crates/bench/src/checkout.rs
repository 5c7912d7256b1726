//! A copy of this checkout with a testbed of its own, both gone at the end.

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use exec::{Cmd, Running, Ssh, Target, Tunnel};
use release::Fingerprint;
use serde_json::Value;
use testbed::Testbed;

use crate::{Link, Relay};

/// The environment's folder on the VM.
const HOME: &str = "/home/deployer/dagster-deploy/demo";

/// A copy of this checkout.
pub struct Checkout {
    root: PathBuf,
    deploy: PathBuf,
    variables: BTreeMap<String, String>,
}

/// A port here that leads to the VM, for as long as this value lives.
pub struct Window {
    /// The port.
    pub port: u16,
    state: PathBuf,
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = Tunnel::close(&self.state);
    }
}

/// What a verb answered.
pub struct Answer {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its facts.
    pub stdout: String,
    /// What it told on the way.
    pub stderr: String,
}

impl Checkout {
    /// Copies what git knows of, and what it would: the change at hand is what is tested. `deploy`
    /// is the program whose verbs it runs.
    pub fn new(name: &str, deploy: impl Into<PathBuf>) -> Checkout {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let root = source.join("target/live").join(name);
        let checkout = Checkout { root, deploy: deploy.into(), variables: BTreeMap::new() };
        // A run that was killed may have left one.
        if checkout.root.exists() {
            checkout.run(&["down", "demo"]);
            checkout.run(&["down", "dev", "--data"]);
            fs::remove_dir_all(&checkout.root).unwrap();
        }
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let files = Cmd::new("git").args(list).dir(source).read().unwrap();
        for file in files.split('\0').filter(|it| !it.is_empty() && source.join(it).is_file()) {
            let to = checkout.root.join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(source.join(file), to).unwrap();
        }
        checkout.git(&["init", "--quiet"]);
        checkout.commit("First");
        checkout
    }

    /// Sets a variable of every verb's environment.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Checkout {
        self.variables.insert(key.to_owned(), value.to_owned());
        self
    }

    fn git(&self, args: &[&str]) {
        let who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"];
        Cmd::new("git").args(who).args(args.iter().copied()).dir(&self.root).read().unwrap();
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// Runs a verb.
    pub fn run(&self, args: &[&str]) -> Answer {
        self.run_with(&[], args)
    }

    /// Runs a verb with more variables.
    pub fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Answer {
        let output = self.verb(variables, args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Answer { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Starts a verb with more variables, and does not wait for its end.
    pub fn start(&self, variables: &[(&str, &str)], args: &[&str]) -> Running {
        self.verb(variables, args).start().unwrap()
    }

    fn verb(&self, variables: &[(&str, &str)], args: &[&str]) -> Cmd {
        let mut cmd = Cmd::new(&self.deploy).args(args.iter().copied());
        for (key, value) in &self.variables {
            cmd = cmd.env(key, value);
        }
        for (key, value) in variables {
            cmd = cmd.env(*key, *value);
        }
        cmd.dir(&self.root)
    }

    /// Runs a verb that must succeed and answers JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let answer = self.run(args);
        assert_eq!(answer.code, 0, "{args:?}: {answer}");
        serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Deploys; it must succeed.
    #[track_caller]
    pub fn deploy(&self) -> Value {
        self.json(&["deploy", "demo", "--json"])
    }

    /// The ids of the containers that run, by service and release.
    pub fn containers(&self) -> BTreeMap<String, String> {
        self.containers_of("demo")
    }

    /// The same of another environment.
    pub fn containers_of(&self, environment: &str) -> BTreeMap<String, String> {
        let status = self.json(&["status", environment, "--json"]);
        let containers = status["containers"].as_array().unwrap().iter();
        containers
            .filter(|it| it["state"] == "running")
            .map(|it| {
                let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
                (format!("{} {}", text("service"), text("release")).trim().to_owned(), text("id"))
            })
            .collect()
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    /// Makes the testbed, and deploys nothing to it.
    pub fn make_testbed(&self) {
        let options = testbed::Options::named("demo");
        runtime().block_on(Testbed::up(&self.root, &options, &mut |_| {})).unwrap();
    }

    /// What the testbed, which must stand, says of itself.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let testbed = runtime().block_on(Testbed::find(&self.root, "demo"));
        testbed.unwrap().unwrap().facts()
    }

    /// Makes a port of the VM's loopback reachable here, whatever becomes of relays.
    pub fn window(&self, remote: u16) -> Window {
        let facts = self.facts();
        let target = Target::Ssh(Ssh {
            destination: facts["DEPLOY_HOST"].clone(),
            port: facts["DEPLOY_SSH_PORT"].parse().ok(),
            key: Some(facts["DEPLOY_SSH_KEY"].clone().into()),
            known_hosts: Some(facts["DEPLOY_SSH_KNOWN_HOSTS"].clone().into()),
            proxy: None,
        });
        let state = self.root.join(format!(".env.window.{remote}"));
        let port = Tunnel::open(&target, &state, remote, 0).unwrap();
        Window { port, state }
    }

    /// Puts a relay between us and the registry, which has the relay's name on the VM too.
    pub fn registry_through(&self, link: Link) -> Relay {
        let facts = self.facts();
        let registry = facts["DEPLOY_REGISTRY"].split_once('/').unwrap().0;
        let port = registry.rsplit_once(':').unwrap().1;
        let relay = Relay::start(port.parse().unwrap(), link);
        let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr", relay.port());
        self.on_host(&format!(
            "setsid --fork socat {listen} TCP:registry:5000 </dev/null >/dev/null 2>&1"
        ));
        relay
    }

    /// Puts a relay between us and the VM's sshd. Answers it, and the variables by which a verb
    /// goes through it.
    pub fn ssh_through(&self, link: Link) -> (Relay, [(&'static str, String); 2]) {
        let facts = self.facts();
        let port = &facts["DEPLOY_SSH_PORT"];
        let relay = Relay::start(port.parse().unwrap(), link);
        let known = fs::read_to_string(&facts["DEPLOY_SSH_KNOWN_HOSTS"]).unwrap();
        let known = known.replace(&format!("]:{port} "), &format!("]:{} ", relay.port()));
        let file = self.root.join(format!(".env.known_hosts.{}", relay.port()));
        fs::write(&file, known).unwrap();
        let variables = [
            ("DEPLOY_SSH_PORT", relay.port().to_string()),
            ("DEPLOY_SSH_KNOWN_HOSTS", file.display().to_string()),
        ];
        (relay, variables)
    }

    /// Gives `prod` the VM of the testbed: an SSH host like any other. No environment needs to have
    /// served before what is deployed there.
    pub fn write_env_prod_of_the_testbed(&self) {
        let facts = self.facts().into_iter().map(|(key, value)| format!("{key}='{value}'\n"));
        self.write(
            ".env.prod",
            &(facts.collect::<String>() + "DEPLOY_UI_PORT=3100\nDEPLOY_PROVEN_BY=\n"),
        );
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.root.join(".env.prod"), owner_only).unwrap();
    }

    /// Where a file of the project is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Reads a file of the project.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// Adds to a file of the project.
    pub fn append(&self, path: &str, text: &str) {
        self.write(path, &(self.read(path) + text));
    }

    /// Adds an asset and commits it.
    pub fn add_asset(&self, name: &str) {
        let text = format!("\n\n@dg.asset\ndef {name}() -> int:\n    return 1\n");
        self.append("dagster_core/assets.py", &text);
        self.commit("Add an asset");
    }

    /// Makes this the one asset that is called a mark, and commits it.
    pub fn mark(&self, name: &str) {
        const MARK: &str = "\n\n# The mark.\n";

        let text = self.read("dagster_core/assets.py");
        let text = text.split(MARK).next().unwrap_or_default();
        let asset = format!("@dg.asset\ndef {name}() -> int:\n    return 1\n");
        self.write("dagster_core/assets.py", &format!("{text}{MARK}{asset}"));
        self.commit("Mark the code");
    }

    /// Whether nobody holds the environment's lock.
    pub fn is_unlocked(&self) -> bool {
        self.on_host(&format!("flock --nonblock {HOME}/lock echo free || true")) == "free"
    }

    /// How many code servers run on the host.
    pub fn code_servers(&self) -> usize {
        let service = r#"{{.Label "com.docker.compose.service"}}"#;
        let running = self.on_host(&format!("docker ps --format '{service}'"));
        running.lines().filter(|it| it.starts_with("docker_dagster_core")).count()
    }

    /// What on the host no release needs: it was left by something that was cut off.
    pub fn leftovers(&self) -> Vec<String> {
        let found = self.on_host(&format!(
            "cd {HOME}
             ! grep -q host: workspace/candidate.yaml || echo 'candidate.yaml names a code server'
             find . -name '*.partial*' -o -name '*.old' -o -name .new -o -name '*.yaml.??????' -o -name '*.json.??????'
             for dir in releases/*/; do [ -s $dir/manifest.json ] || echo \"$dir is torn\"; done"
        ));
        found.lines().map(str::to_owned).collect()
    }

    /// Runs a command as root in the VM.
    pub fn on_host(&self, script: &str) -> String {
        Cmd::new("docker").args(["exec", &self.vm(), "bash", "-c", script]).read().unwrap()
    }

    /// The memory that the VM uses, in MiB.
    pub fn memory(&self) -> u64 {
        // That of its processes; what the kernel caches of files is given back when it is needed.
        // (One that ends meanwhile has no file any more.)
        let script = "cat /proc/[0-9]*/status 2>/dev/null | \
                      awk '/^VmRSS/ { sum += $2 } END { print int(sum / 1024) }'";
        self.on_host(script).trim().parse().unwrap()
    }

    /// Turns the VM off and on.
    pub fn reboot(&self) {
        Cmd::new("docker").args(["restart", "--time", "60", &self.vm()]).read().unwrap();
    }

    /// What all that the testbed made in the engine is marked with.
    fn label(&self) -> String {
        let checkout = Fingerprint::of([self.root.as_os_str().as_encoded_bytes()]);
        format!("label=dagster-deploy.testbed=demo-{}", &checkout.short()[..6])
    }

    /// The name of the VM's container.
    pub fn vm(&self) -> String {
        self.container("-vm")
    }

    /// Stops the registry; the next `deploy demo` starts it again.
    pub fn stop_registry(&self) {
        Cmd::new("docker").args(["stop", &self.container("-registry")]).read().unwrap();
    }

    fn container(&self, name: &str) -> String {
        let name = format!("name={name}");
        let filters = ["ps", "--all", "--quiet", "--filter", &self.label(), "--filter", &name];
        Cmd::new("docker").args(filters).read().unwrap()
    }

    /// What `dev` made in the engine for this checkout, and has not removed: containers and networks.
    pub fn left_by_dev(&self) -> Vec<String> {
        let label = self.dev_label();
        let lists = [["ps", "--all"], ["network", "ls"]].map(|list| {
            Cmd::new("docker").args(list).args(["--quiet", "--filter", &label]).read().unwrap()
        });
        lists.iter().flat_map(|it| it.lines()).map(str::to_owned).collect()
    }

    /// The container of `dev` that has the code.
    pub(crate) fn dev_code_server(&self) -> String {
        let service = "label=com.docker.compose.service=docker_dagster_core";
        let filters = ["--filter", &self.dev_label(), "--filter", service];
        Cmd::new("docker").args(["ps", "--quiet"]).args(filters).read().unwrap()
    }

    fn dev_label(&self) -> String {
        let mark = Fingerprint::of([self.root.as_os_str().as_encoded_bytes()]);
        let name = self.root.file_name().unwrap().to_string_lossy();
        format!("label=com.docker.compose.project=dagster-dev-{name}-{}", &mark.short()[..6])
    }

    /// Saves a file as editors do: beside, and then in its place.
    pub fn save(&self, path: &str, text: &str) {
        let beside = format!("{path}~");
        self.write(&beside, text);
        fs::rename(self.root.join(beside), self.root.join(path)).unwrap();
    }

    /// How many logins the VM's sshd has accepted.
    pub fn logins(&self) -> usize {
        let log = Cmd::new("docker").args(["logs", &self.vm()]).output().unwrap();
        String::from_utf8_lossy(&log.stderr).matches("Accepted publickey").count()
    }

    /// Takes everything away, and checks that nothing is left.
    pub fn down(self) {
        let down = self.run(&["down", "demo"]);
        assert_eq!(down.code, 0, "{down}");
        let label = self.label();
        for list in [["ps", "--all"], ["volume", "ls"], ["network", "ls"]] {
            let left = Cmd::new("docker").args(list).args(["--quiet", "--filter", &label]);
            assert_eq!(left.read().unwrap(), "", "{list:?}");
        }
        assert!(!self.root.join(".dagster-deploy/demo").exists());
        fs::remove_dir_all(&self.root).unwrap();
    }
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(comes_true(limit, condition), "{what}: not within {limit:?}");
}

/// Waits until something is so. Answers whether it came to be.
pub(crate) fn comes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

/// What the clients of asynchronous crates run on here.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { code, stdout, stderr } = self;
        write!(f, "exit {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
