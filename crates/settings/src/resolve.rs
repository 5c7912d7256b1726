//! From template, file and process to one typed value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error, Item, Origin, Problem, Reference, Secret, Store, Template, Value,
    error::{did_you_mean, similar},
    line::{Line, parse},
    template::{is_placeholder, packages, seconds},
};

/// What `DEPLOY_HOST` says of this machine.
const LOCAL: &str = "local";

/// The settings of an environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The environment, e.g. `prod`.
    pub environment: String,
    /// The deployer's own: keys that begin with `DEPLOY_`.
    pub deploy: Deploy,
    /// The containers': all other keys.
    pub containers: BTreeMap<String, Value>,
}

/// The deployer's settings. The templates say what each is for.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is a key of the templates, which document it")]
pub struct Deploy {
    pub host: String,
    pub ssh_port: Option<u16>,
    pub ssh_key: Option<PathBuf>,
    pub ssh_known_hosts: Option<PathBuf>,
    pub ssh_proxy: Option<String>,
    pub dir: String,
    pub registry: String,
    pub registry_user: Option<String>,
    pub registry_password: Option<Value>,
    pub resolve_on: ResolveOn,
    pub python_image: String,
    pub postgres_image: String,
    pub ui_port: u16,
    pub local_port: u16,
    pub start_timeout: Duration,
    pub verify_timeout: Duration,
    pub test_job: String,
    /// Code locations beside `dagster_core`: Python packages in the root.
    pub locations: Vec<String>,
    pub keep_releases: usize,
    pub allow_dirty: bool,
    pub confirm: bool,
    /// The environment that code must have served in before it may serve here.
    pub proven_by: Option<String>,
    pub testbed: bool,
    pub core_memory: String,
    pub webserver_memory: String,
    pub daemon_memory: String,
    pub postgres_memory: String,
}

/// Who reads the containers' secrets that are kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolveOn {
    /// Whoever deploys.
    Deployer,
    /// The host, by itself.
    Host,
}

/// An environment as its files and the process tell it, right or not.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The environment, e.g. `prod`.
    pub environment: String,
    /// Its template.
    pub template: Template,
    /// The values there are, by key; an empty one takes a default away.
    pub values: BTreeMap<String, Value>,
    /// Whether it has a file of its own, `.env.<environment>`.
    pub has_file: bool,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The keys of the template that have no value and need one.
    pub missing: Vec<Item>,
}

/// Resolves an environment of the checkout at `root`. A later layer wins: template, what the
/// testbed `facts` say, `.env.<environment>`, the `process`'s environment.
pub fn resolve(
    root: &Path,
    environment: &str,
    facts: &BTreeMap<String, String>,
    process: &BTreeMap<String, String>,
) -> Result<Settings, Error> {
    let mut resolved = read(root, environment, facts, process)?;
    let missing = resolved.missing_problems();
    resolved.problems.extend(missing);
    if resolved.problems.is_empty() {
        Ok(settings(root, environment, resolved.values, process.get("HOME")))
    } else {
        Err(Error::Invalid { problems: resolved.problems })
    }
}

/// Reads an environment as [`resolve`] does, and answers what there is, wrong or not.
pub fn read(
    root: &Path,
    environment: &str,
    facts: &BTreeMap<String, String>,
    process: &BTreeMap<String, String>,
) -> Result<Resolved, Error> {
    let mut problems = Vec::new();
    let template = template(root, environment, &mut problems)?;
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    let mut set = |item: &Item, text: &str, origin: Origin| {
        let value = Value::new(text, item.sensitive, origin);
        values.insert(item.key.clone(), value);
    };
    for item in &template.items {
        if let Some(default) = &item.default {
            set(item, default, Origin::Template);
        }
        if let Some(fact) = facts.get(&item.key) {
            set(item, fact, Origin::Testbed);
        }
    }
    for (line, key, text) in file(root, environment, &mut problems) {
        let path = own_file(environment);
        if let Some(item) = template.item(&key) {
            set(item, &text, Origin::File { path, line });
        } else {
            let similar = similar(&key, template.items.iter().map(|it| it.key.as_str()));
            let message = format!(
                "`{key}` is not a key of {}{}",
                template.path.display(),
                did_you_mean(similar.as_deref())
            );
            problems.push(Problem { path, line: Some(line), message });
        }
    }
    for item in &template.items {
        // An empty variable is how CI systems pass a secret that is not set.
        if let Some(text) = process.get(&item.key).filter(|it| !it.is_empty()) {
            set(item, text, Origin::Process);
        }
    }
    let mut resolved = Resolved {
        environment: environment.to_owned(),
        has_file: root.join(own_file(environment)).exists(),
        template,
        values,
        problems,
        missing: Vec::new(),
    };
    resolved.check();
    Ok(resolved)
}

impl Resolved {
    /// The value of a key, if it has one.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|it| !it.expose().is_empty())
    }

    /// Whether the environment is a throwaway one: its testbed gives what is missing here.
    pub fn is_testbed(&self) -> bool {
        throwaway(&self.template)
    }

    /// One problem for each missing key.
    pub(crate) fn missing_problems(&self) -> Vec<Problem> {
        let problem = |item: &Item| Problem {
            path: self.template.path.clone(),
            line: Some(item.line),
            message: format!(
                "`{}` has no value: give it one in .env.{}",
                item.key, self.environment
            ),
        };
        self.missing.iter().map(problem).collect()
    }

    /// A problem with the value of a key, where that value stands.
    pub(crate) fn problem(&self, item: &Item, value: &Value, message: String) -> Problem {
        let (path, line) = match &value.origin {
            Origin::Template => (self.template.path.clone(), Some(item.line)),
            Origin::Testbed => (PathBuf::from("testbed"), None),
            Origin::File { path, line } => (path.clone(), Some(*line)),
            Origin::Process => (PathBuf::from("process environment"), None),
            Origin::Release => (PathBuf::from("release"), None),
        };
        Problem { path, line, message }
    }

    fn check(&mut self) {
        let mut problems = Vec::new();
        for item in &self.template.items {
            let key = &item.key;
            let Some(value) = self.value(key) else {
                if item.required {
                    self.missing.push(item.clone());
                }
                continue;
            };
            if is_placeholder(value.expose()) {
                problems.push(self.problem(item, value, format!("`{key}` is a placeholder still")));
            }
            let checked = match Reference::parse(value.expose()) {
                // What is kept there is seen when it is looked up.
                Some(parsed) if item.sensitive => parsed.map(|_| ()),
                Some(Ok(it)) if it.store != Store::File => {
                    Err("is a reference to a secret: mark it `# @sensitive`".to_owned())
                }
                _ => item.kind.check(value.expose(), &self.environment),
            };
            if let Err(why) = checked {
                problems.push(self.problem(item, value, format!("`{key}` {why}")));
            }
        }
        if self.value("DEPLOY_RESOLVE_ON").is_some_and(|it| it.expose() == "host") {
            for item in self.template.items.iter().filter(|it| !it.key.starts_with("DEPLOY_")) {
                let Some(value) = self.value(&item.key) else { continue };
                if value.reference().is_some_and(|it| it.store != Store::Google) {
                    let why = "is where the host cannot read it (DEPLOY_RESOLVE_ON): only gcp-secret:// is";
                    problems.push(self.problem(item, value, format!("`{}` {why}", item.key)));
                }
            }
        }
        if self.value("DEPLOY_HOST").is_some_and(|it| it.expose() == LOCAL) {
            // Whoever gives them means another host, and would deploy here.
            for item in self.template.items.iter().filter(|it| it.key.starts_with("DEPLOY_SSH_")) {
                let Some(value) = self.value(&item.key) else { continue };
                let why = format!("`{}` is of no use: DEPLOY_HOST is `{LOCAL}`", item.key);
                problems.push(self.problem(item, value, why));
            }
        }
        self.problems.extend(problems);
    }
}

impl Deploy {
    /// Whether the host is this machine.
    pub fn is_local(&self) -> bool {
        self.host == LOCAL
    }

    /// The host, by itself.
    pub fn place(&self) -> &str {
        if self.is_local() { "this machine" } else { &self.host }
    }

    /// The host, in a sentence.
    pub fn machine(&self) -> String {
        if self.is_local() { self.place().to_owned() } else { format!("`{}`", self.host) }
    }
}

impl Settings {
    /// The secrets that are kept elsewhere and that the deployer has yet to look up, by key.
    pub fn unread(&self) -> Vec<(&str, &Value)> {
        let password = self.deploy.registry_password.iter();
        let deployer = self.deploy.resolve_on == ResolveOn::Deployer;
        let all = deployer.then(|| self.kept_elsewhere()).into_iter().flatten();
        let all = all.chain(password.map(|it| ("DEPLOY_REGISTRY_PASSWORD", it)));
        all.filter(|(_, value)| value.is_unread()).collect()
    }

    /// The secrets that are kept elsewhere and that the host reads, by key.
    pub fn left_to_host(&self) -> Vec<(&str, &Value)> {
        let host = self.deploy.resolve_on == ResolveOn::Host;
        host.then(|| self.kept_elsewhere()).into_iter().flatten().collect()
    }

    fn kept_elsewhere(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.containers.iter().map(|(key, value)| (key.as_str(), value));
        all.filter(|(_, value)| value.reference().is_some())
    }

    /// Puts secrets that were looked up into their places.
    pub fn fill(&mut self, secrets: &BTreeMap<Reference, Secret>) {
        let deployer = self.deploy.resolve_on == ResolveOn::Deployer;
        let containers = self.containers.values_mut().filter(|_| deployer);
        for value in containers.chain(&mut self.deploy.registry_password) {
            if let Some(secret) = value.reference().and_then(|it| secrets.get(it)) {
                value.fill(secret);
            }
        }
    }

    /// Says which versions are meant of the secrets that the host reads.
    pub fn pin(&mut self, versions: &BTreeMap<Reference, String>) {
        for value in self.containers.values_mut() {
            if let Some(version) = value.reference().and_then(|it| versions.get(it)) {
                value.pin(version);
            }
        }
    }

    /// Where the containers' secrets are kept that are kept elsewhere, by key.
    pub fn kept(&self) -> BTreeMap<String, String> {
        let kept =
            |(key, value): (&String, &Value)| Some((key.clone(), value.reference()?.to_string()));
        self.containers.iter().filter_map(kept).collect()
    }
}

/// The file with an environment's own values, from the root of the checkout.
pub(crate) fn own_file(environment: &str) -> PathBuf {
    PathBuf::from(format!(".env.{environment}"))
}

/// Whether an environment is a throwaway one: its template says `DEPLOY_TESTBED=true`. Nothing else
/// can: a testbed takes the place of a real VM.
pub fn is_testbed(root: &Path, environment: &str) -> Result<bool, Error> {
    let mut problems = Vec::new();
    let template = template(root, environment, &mut problems)?;
    Ok(throwaway(&template))
}

/// Whether an environment is one developer's own, to which nothing is deployed: its template knows
/// no `DEPLOY_HOST`.
pub fn is_dev(root: &Path, environment: &str) -> Result<bool, Error> {
    let mut problems = Vec::new();
    Ok(template(root, environment, &mut problems)?.item("DEPLOY_HOST").is_none())
}

fn throwaway(template: &Template) -> bool {
    let item = template.item("DEPLOY_TESTBED");
    item.is_some_and(|it| it.default.as_deref() == Some("true"))
}

/// One plain setting, before the others can be resolved: what a testbed is made by.
pub fn peek(
    root: &Path,
    environment: &str,
    key: &str,
    process: &BTreeMap<String, String>,
) -> Result<Option<String>, Error> {
    let mut problems = Vec::new();
    let template = template(root, environment, &mut problems)?;
    let lines = file(root, environment, &mut problems);
    if !problems.is_empty() {
        return Err(Error::Invalid { problems });
    }
    let in_process = process.get(key).filter(|it| !it.is_empty()).cloned();
    let in_file = || lines.into_iter().find(|(_, name, _)| name == key).map(|(_, _, it)| it);
    let default = || template.item(key).and_then(|it| it.default.clone());
    Ok(in_process.or_else(in_file).or_else(default))
}

/// The template of an environment; what is wrong with it is added to `problems`.
pub(crate) fn template(
    root: &Path,
    environment: &str,
    problems: &mut Vec<Problem>,
) -> Result<Template, Error> {
    let path = Path::new("env-templates").join(format!("{environment}.env"));
    let plain =
        environment.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
    match fs::read_to_string(root.join(&path)) {
        Ok(text) if plain => Ok(Template::parse(&path, &text, problems)),
        _ => {
            let known = environments(root);
            let similar = similar(environment, known.iter().map(String::as_str));
            Err(Error::Unknown { environment: environment.to_owned(), similar, known })
        }
    }
}

/// The templates of all environments; they must be sound.
pub fn templates(root: &Path) -> Result<Vec<Template>, Error> {
    let mut problems = Vec::new();
    let all: Result<Vec<_>, _> =
        environments(root).iter().map(|it| template(root, it, &mut problems)).collect();
    if problems.is_empty() { all } else { Err(Error::Invalid { problems }) }
}

/// The environments there are templates of.
pub fn environments(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("env-templates")).into_iter().flatten().flatten();
    let mut known: Vec<String> = entries
        .filter_map(|it| it.file_name().into_string().ok()?.strip_suffix(".env").map(str::to_owned))
        .collect();
    known.sort();
    known
}

/// The lines of `.env.<environment>`; there may be no such file.
fn file(
    root: &Path,
    environment: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(usize, String, String)> {
    let path = own_file(environment);
    let mut problem = |line: Option<usize>, message: String| {
        problems.push(Problem { path: path.clone(), line, message });
    };
    let bytes = match fs::read(root.join(&path)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problem(None, format!("cannot be read: {error}"));
            return Vec::new();
        }
    };
    let mode = fs::metadata(root.join(&path)).map_or(0, |it| it.permissions().mode());
    if mode & 0o077 != 0 {
        problem(None, format!("others may read it: chmod 600 {}", path.display()));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        problem(None, "is not UTF-8 text".to_owned());
        return Vec::new();
    };
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for (n, line) in (1..).zip(text.trim_start_matches('\u{feff}').split('\n')) {
        match parse(line) {
            Ok(Line::Entry(key, value)) => {
                if !seen.insert(key.clone()) {
                    problem(Some(n), format!("`{key}` stands here twice"));
                }
                entries.push((n, key, value));
            }
            Ok(Line::Blank | Line::Comment(_)) => {}
            Err(message) => problem(Some(n), message),
        }
    }
    entries
}

/// Puts checked values into their types: what the templates promise is there.
fn settings(
    root: &Path,
    environment: &str,
    values: BTreeMap<String, Value>,
    home: Option<&String>,
) -> Settings {
    let get = |key: &str| {
        let value = values.get(&format!("DEPLOY_{key}"));
        value.map(|it| it.expose().to_owned()).filter(|it| !it.is_empty())
    };
    let text = |key: &str| get(key).unwrap_or_default();
    // `~/key` is what people write, and no shell expands it here.
    let path = |key: &str| {
        get(key).map(|it| match (it.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => root.join(it),
        })
    };
    let port = |key: &str| get(key).and_then(|it| it.parse().ok());
    let flag = |key: &str| get(key).as_deref() == Some("true");
    let duration =
        |key: &str| Duration::from_secs(get(key).and_then(|it| seconds(&it)).unwrap_or(60));
    let memory = |key: &str| get(key).unwrap_or_else(|| "1g".to_owned());
    let deploy = Deploy {
        host: text("HOST"),
        ssh_port: port("SSH_PORT"),
        ssh_key: path("SSH_KEY"),
        ssh_known_hosts: path("SSH_KNOWN_HOSTS"),
        ssh_proxy: get("SSH_PROXY"),
        dir: get("DIR").unwrap_or_else(|| format!("dagster-deploy/{environment}")),
        registry: text("REGISTRY"),
        registry_user: get("REGISTRY_USER"),
        registry_password: values.get("DEPLOY_REGISTRY_PASSWORD").cloned(),
        resolve_on: match get("RESOLVE_ON").as_deref() {
            Some("host") => ResolveOn::Host,
            _ => ResolveOn::Deployer,
        },
        python_image: text("PYTHON_IMAGE"),
        postgres_image: text("POSTGRES_IMAGE"),
        ui_port: port("UI_PORT").unwrap_or(3000),
        local_port: port("LOCAL_PORT").unwrap_or(3000),
        start_timeout: duration("START_TIMEOUT"),
        verify_timeout: duration("VERIFY_TIMEOUT"),
        test_job: text("TEST_JOB"),
        locations: packages(&text("LOCATIONS"))
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect(),
        keep_releases: get("KEEP_RELEASES").and_then(|it| it.parse().ok()).unwrap_or(5),
        allow_dirty: flag("ALLOW_DIRTY"),
        confirm: flag("CONFIRM"),
        proven_by: get("PROVEN_BY"),
        testbed: flag("TESTBED"),
        core_memory: memory("CORE_MEMORY"),
        webserver_memory: memory("WEBSERVER_MEMORY"),
        daemon_memory: memory("DAEMON_MEMORY"),
        postgres_memory: memory("POSTGRES_MEMORY"),
    };
    let containers = values.into_iter().filter(|(key, _)| !key.starts_with("DEPLOY_")).collect();
    Settings { environment: environment.to_owned(), deploy, containers }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const TEMPLATE: &str = "\
# Where to.
# @required
DEPLOY_HOST=
# @type=port
DEPLOY_SSH_PORT=
# @type=enum(deployer,host)
DEPLOY_RESOLVE_ON=deployer
# @type=port
DEPLOY_UI_PORT=3000

# @required @sensitive
POSTGRES_PASSWORD=
# @type=enum(dev,prod)
DAGSTER_ENV=prod
";

    /// A checkout with the template above as `prod` and this `.env.prod`.
    fn checkout(env: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("env-templates")).unwrap();
        fs::write(root.path().join("env-templates/prod.env"), TEMPLATE).unwrap();
        let path = root.path().join(".env.prod");
        fs::write(&path, env).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        root
    }

    fn layer(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[track_caller]
    fn refused(env: &str, expected: &Expect) {
        let root = checkout(env);
        let error = resolve(root.path(), "prod", &layer(&[]), &layer(&[])).unwrap_err();
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn a_later_layer_wins_and_each_value_knows_where_it_came_from() {
        let root = checkout("DEPLOY_HOST=vm\nPOSTGRES_PASSWORD='a b'\n");
        let facts = layer(&[("DEPLOY_HOST", "testbed"), ("DEPLOY_UI_PORT", "3001")]);
        let process = layer(&[("DAGSTER_ENV", "dev"), ("HOME", "/root"), ("DEPLOY_HOST", "")]);
        let settings = resolve(root.path(), "prod", &facts, &process).unwrap();
        assert_eq!(settings.deploy.host, "vm");
        assert_eq!(settings.deploy.ui_port, 3001);
        assert_eq!(settings.deploy.dir, "dagster-deploy/prod");
        expect![[r#"
            {
                "DAGSTER_ENV": "dev",
                "POSTGRES_PASSWORD": [redacted],
            }
        "#]]
        .assert_debug_eq(&settings.containers);
        assert_eq!(settings.containers["POSTGRES_PASSWORD"].expose(), "a b");
        assert_eq!(settings.containers["POSTGRES_PASSWORD"].origin.to_string(), ".env.prod:2");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_value_is_shown() {
        refused(
            "DEPLOY_UI_PROT=1\nPOSTGRES_PASSWORD=hunter2$\nDEPLOY_UI_PORT=99999\nDEPLOY_UI_PORT=1\nDAGSTER_ENV=live\nnonsense\n",
            &expect![[r#"
                the settings are not right:
                  .env.prod:2: `POSTGRES_PASSWORD`: `$`, `\` and quotes are read in different ways; put the value into 'single quotes'
                  .env.prod:4: `DEPLOY_UI_PORT` stands here twice
                  .env.prod:6: not a comment, and not KEY=value
                  .env.prod:1: `DEPLOY_UI_PROT` is not a key of env-templates/prod.env, did you mean `DEPLOY_UI_PORT`?
                  .env.prod:5: `DAGSTER_ENV` must be one of dev, prod
                  env-templates/prod.env:3: `DEPLOY_HOST` has no value: give it one in .env.prod
                  env-templates/prod.env:12: `POSTGRES_PASSWORD` has no value: give it one in .env.prod"#]],
        );
    }

    #[test]
    fn a_secret_may_be_kept_elsewhere() {
        let root = checkout("DEPLOY_HOST=vm\nPOSTGRES_PASSWORD=gcp-secret://db\n");
        let mut settings = resolve(root.path(), "prod", &layer(&[]), &layer(&[])).unwrap();
        assert_eq!(settings.containers["POSTGRES_PASSWORD"].shown(), "[secret] gcp-secret://db");
        let [(key, value)] = settings.unread()[..] else { panic!("one is kept elsewhere") };
        assert_eq!(key, "POSTGRES_PASSWORD");
        let secret = Secret { text: "hunter2".into(), version: Some("7".into()) };
        settings.fill(&BTreeMap::from([(value.reference().unwrap().clone(), secret)]));
        assert_eq!(settings.containers["POSTGRES_PASSWORD"].expose(), "hunter2");
        assert_eq!(settings.unread(), []);
        assert_eq!(settings.kept(), layer(&[("POSTGRES_PASSWORD", "gcp-secret://db@7")]));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn what_the_host_reads_is_pinned_and_never_filled() {
        let root =
            checkout("DEPLOY_HOST=vm\nDEPLOY_RESOLVE_ON=host\nPOSTGRES_PASSWORD=gcp-secret://db\n");
        let mut settings = resolve(root.path(), "prod", &layer(&[]), &layer(&[])).unwrap();
        assert_eq!(settings.unread(), []);
        let [(key, value)] = settings.left_to_host()[..] else { panic!("one is left to the host") };
        assert_eq!(key, "POSTGRES_PASSWORD");
        let reference = value.reference().unwrap().clone();
        let secret = Secret { text: "hunter2".into(), version: Some("7".into()) };
        settings.fill(&BTreeMap::from([(reference.clone(), secret)]));
        settings.pin(&BTreeMap::from([(reference, "8".to_owned())]));
        assert_eq!(settings.containers["POSTGRES_PASSWORD"].expose(), "gcp-secret://db@8");
        assert_eq!(settings.kept(), layer(&[("POSTGRES_PASSWORD", "gcp-secret://db@8")]));
        refused(
            "DEPLOY_HOST=vm\nDEPLOY_RESOLVE_ON=host\nPOSTGRES_PASSWORD=op://a/b/c\n",
            &expect![[r#"
                the settings are not right:
                  .env.prod:3: `POSTGRES_PASSWORD` is where the host cannot read it (DEPLOY_RESOLVE_ON): only gcp-secret:// is"#]],
        );
    }

    #[test]
    fn a_reference_is_whole_and_belongs_to_a_secret() {
        refused(
            "DEPLOY_HOST=op://a/b/c\nPOSTGRES_PASSWORD=op://a\n",
            &expect![[r#"
            the settings are not right:
              .env.prod:1: `DEPLOY_HOST` is a reference to a secret: mark it `# @sensitive`
              .env.prod:2: `POSTGRES_PASSWORD` must be op://VAULT/ITEM/FIELD"#]],
        );
    }

    #[test]
    fn this_machine_is_reached_without_ssh() {
        let root = checkout("DEPLOY_HOST=local\nPOSTGRES_PASSWORD=x\n");
        let settings = resolve(root.path(), "prod", &layer(&[]), &layer(&[])).unwrap();
        assert!(settings.deploy.is_local());
        assert_eq!(settings.deploy.machine(), "this machine");
        refused(
            "DEPLOY_HOST=local\nDEPLOY_SSH_PORT=22\nPOSTGRES_PASSWORD=x\n",
            &expect![[r#"
            the settings are not right:
              .env.prod:2: `DEPLOY_SSH_PORT` is of no use: DEPLOY_HOST is `local`"#]],
        );
    }

    #[test]
    fn a_placeholder_is_no_value() {
        refused(
            "DEPLOY_HOST=vm\nPOSTGRES_PASSWORD=change-me\n",
            &expect![[r#"
                the settings are not right:
                  .env.prod:2: `POSTGRES_PASSWORD` is a placeholder still"#]],
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let root = checkout("DEPLOY_HOST=vm\nPOSTGRES_PASSWORD=x\n");
        let path = root.path().join(".env.prod");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = resolve(root.path(), "prod", &layer(&[]), &layer(&[])).unwrap_err();
        assert!(error.to_string().ends_with(".env.prod: others may read it: chmod 600 .env.prod"));
    }

    #[test]
    fn an_unknown_environment_is_answered_with_those_that_exist() {
        let root = checkout("");
        for name in ["prdo", "../prod", "x"] {
            let error = resolve(root.path(), name, &layer(&[]), &layer(&[])).unwrap_err();
            let meant = if name == "prdo" { ", did you mean `prod`?" } else { "" };
            assert!(
                error.to_string().starts_with(&format!("there is no environment `{name}`")),
                "{error}"
            );
            assert!(error.to_string().contains(meant), "{error}");
        }
    }

    #[test]
    fn the_shipped_templates_are_sound_and_demo_needs_nothing_but_its_testbed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for environment in environments(&root) {
            let mut problems = Vec::new();
            template(&root, &environment, &mut problems).unwrap();
            assert_eq!(problems, []);
        }
        let facts = ["DEPLOY_HOST", "DEPLOY_REGISTRY", "POSTGRES_PASSWORD"].map(|key| (key, "x"));
        resolve(&root, "demo", &layer(&facts), &layer(&[])).unwrap();
        assert!(is_testbed(&root, "demo").unwrap() && !is_testbed(&root, "prod").unwrap());
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "\\PC{0,200}") {
            let mut problems = Vec::new();
            Template::parse(Path::new("t.env"), &text, &mut problems);
            let root = checkout(&text);
            let _ = resolve(root.path(), "prod", &layer(&[]), &layer(&[]));
        }
    }
}
