//! What a machine needs to build, push and make testbeds: checks it, and on Debian installs it.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use exec::Cmd;
use images::Engine;
use serde::Serialize;

use crate::{Error, bases};

/// The oldest API with BuildKit: of Docker 19.03.
const API: (u32, u32) = (1, 40);

/// What images, the VM and its own images take together.
const DISK_GB: u64 = 10;

/// What the platform and a build take together.
const MEMORY_GB: u64 = 3;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub what: String,
    /// What to do about it; empty if nothing.
    pub mend: String,
    /// The Debian package that would be it.
    #[serde(skip)]
    package: Option<&'static str>,
}

impl Finding {
    /// Something that is as it should be.
    pub fn fine(name: &str, what: &str) -> Finding {
        let (name, what) = (name.to_owned(), what.to_owned());
        Finding { name, ok: true, what, mend: String::new(), package: None }
    }

    /// Something that is not, and that no package of this machine mends.
    pub fn lack(name: &str, what: String, mend: &str) -> Finding {
        lack(name, what, mend, None)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.ok { "ok     " } else { "missing" };
        write!(f, "{mark}  {:<14} {}", self.name, self.what)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, "\n{:25}{}", "", self.mend) }
    }
}

/// Looks at this machine.
pub async fn check() -> Vec<Finding> {
    let engine = Engine::local().await;
    let mut findings = vec![match &engine {
        Ok(engine) => engine_answers(engine).await,
        Err(error) => no_engine(error),
    }];
    for (program, package) in
        [("ssh", "openssh-client"), ("ssh-keygen", "openssh-client"), ("git", "git")]
    {
        findings.push(program_is_there(program, package));
    }
    if let Ok(engine) = &engine {
        if bases::debian_is_needed(engine).await {
            let mut finding = program_is_there("mmdebstrap", "mmdebstrap");
            if !finding.ok {
                finding.what += ": no container registry answers, and it makes base images without";
            }
            findings.push(finding);
        }
        let info = engine.docker().info().await.ok();
        if let Some(root) = info.and_then(|it| it.docker_root_dir) {
            findings.extend(free_gb(&root).map(|free| disk(&root, free)));
        }
    }
    findings.extend(available_gb().map(memory));
    findings
}

/// Installs what those findings lack, on Debian and its kin, as root or with a sudo that does not
/// ask; starts the engine. Elsewhere, and for what no package mends, it says what to do.
pub async fn install(findings: &[Finding], say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let mut lacking: Vec<Finding> = findings.iter().filter(|it| !it.ok).cloned().collect();
    // With the engine there it turns out whether base images have to be made: hence a second look.
    for round in 0..2 {
        let mends: Vec<&Finding> = lacking.iter().filter(|it| is_ours_to_mend(it)).collect();
        if mends.is_empty() && round > 0 {
            break;
        }
        let root = Path::new("/etc/debian_version").exists().then(root).flatten();
        let Some(root) = root else {
            for finding in &lacking {
                say(&format!("{}: {}", finding.name, finding.mend));
            }
            return Ok(());
        };
        for finding in lacking.iter().filter(|it| round == 0 && !is_ours_to_mend(it)) {
            say(&format!("{}: {}", finding.name, finding.mend));
        }
        let mut packages: Vec<&str> = mends.iter().filter_map(|it| it.package).collect();
        packages.dedup();
        // An engine that is there needs a start only; Debian's package could drive out another's.
        packages.retain(|&it| it != "docker.io" || !engine_is_installed());
        if !packages.is_empty() {
            apt(&root, &packages, say).await?;
        }
        if mends.iter().any(|it| it.name == ENGINE) {
            start_engine(&root, say).await?;
        }
        lacking = check().await.into_iter().filter(|it| !it.ok).collect();
    }
    Ok(())
}

const ENGINE: &str = "Docker engine";

fn is_ours_to_mend(finding: &Finding) -> bool {
    !finding.ok && finding.package.is_some()
}

async fn engine_answers(engine: &Engine) -> Finding {
    match engine.docker().version().await {
        Ok(version) => {
            let api = version.api_version.unwrap_or_default();
            engine_version(&version.version.unwrap_or_default(), &api)
        }
        Err(error) => lack(ENGINE, format!("does not answer: {error}"), MEND_ENGINE, None),
    }
}

const MEND_ENGINE: &str =
    "see https://docs.docker.com/engine/install; on Debian: sudo apt-get install docker.io";

fn engine_version(version: &str, api: &str) -> Finding {
    let parsed = api.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    if parsed.is_some_and(|it: (u32, u32)| it >= API) {
        return Finding::fine(ENGINE, version);
    }
    let what = format!("{version} is too old: 19.03 is the first with BuildKit");
    lack(ENGINE, what, "install a newer engine: https://docs.docker.com/engine/install", None)
}

fn no_engine(error: &images::Error) -> Finding {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let mut words = String::new();
    while let Some(it) = cause {
        words += &format!("{it} ");
        cause = it.source();
    }
    if words.contains("ermission denied") {
        let mend = "sudo usermod --append --groups docker \"$USER\", then log in anew";
        return lack(ENGINE, "is there, but not for this user".to_owned(), mend, None);
    }
    let installed = engine_is_installed();
    let mend = if installed { "start it: sudo systemctl start docker" } else { MEND_ENGINE };
    let what = if installed { "is not running" } else { "is not installed" };
    lack(ENGINE, what.to_owned(), mend, Some("docker.io"))
}

fn program_is_there(program: &'static str, package: &'static str) -> Finding {
    // Which of them knows `--version` differs; that it can be started is enough.
    match Cmd::new(program).arg("--version").output() {
        Ok(_) => Finding::fine(program, "is installed"),
        Err(_) => lack(
            program,
            "is not installed".to_owned(),
            &format!("install it; on Debian: sudo apt-get install {package}"),
            Some(package),
        ),
    }
}

fn disk(dir: &str, free: u64) -> Finding {
    let what = format!("{free} GB free below {dir}");
    if free >= DISK_GB {
        return Finding::fine("disk", &what);
    }
    let what = format!("{what}; {DISK_GB} are needed");
    lack("disk", what, "make room; what Docker could remove: docker system df", None)
}

fn memory(available: u64) -> Finding {
    let what = format!("{available} GB available");
    if available >= MEMORY_GB {
        return Finding::fine("memory", &what);
    }
    let what = format!("{what}; {MEMORY_GB} are needed");
    lack("memory", what, "end other programs, or take a larger machine", None)
}

fn lack(name: &str, what: String, mend: &str, package: Option<&'static str>) -> Finding {
    Finding { name: name.to_owned(), ok: false, what, mend: mend.to_owned(), package }
}

fn free_gb(dir: &str) -> Option<u64> {
    let ask = |dir| Cmd::new("df").args(["-Pk", dir]).read().ok();
    // The engine's own folder may be hidden from us: then the disk below `/` has to do.
    let text = ask(dir).or_else(|| ask("/"))?;
    let kilobytes: u64 = text.lines().last()?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kilobytes * 1024 / 1_000_000_000)
}

fn available_gb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024 / 1_000_000_000)
}

/// A way to be root.
pub(crate) struct Root(Vec<&'static str>);

impl Root {
    /// A call as root.
    pub(crate) fn call(&self, program: &'static str) -> Cmd {
        let mut words = self.0.iter().copied().chain([program]);
        let first = words.next().unwrap_or(program);
        Cmd::new(first).args(words)
    }
}

/// How to be root without being asked for a password.
pub(crate) fn root() -> Option<Root> {
    if Cmd::new("id").arg("-u").read().is_ok_and(|it| it == "0") {
        return Some(Root(Vec::new()));
    }
    let sudo = Cmd::new("sudo").args(["-n", "true"]).output();
    sudo.is_ok_and(|it| it.status.success()).then(|| Root(vec!["sudo", "-n"]))
}

async fn apt(root: &Root, packages: &[&str], say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let list = packages.join(" ");
    say(&format!("installing {list} (apt-get)"));
    // A machine that was just started looks for updates by itself.
    let wait = "-oDPkg::Lock::Timeout=300";
    let apt = || root.call("env").args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", wait]);
    let update = apt().arg("update");
    let install =
        apt().args(["install", "--yes", "--no-install-recommends"]).args(packages.iter().copied());
    let calls = move || {
        // A list that cannot be brought up to date may do all the same.
        let update = update.read();
        install.read().map_err(|error| update.err().unwrap_or(error))
    };
    tokio::task::spawn_blocking(calls)
        .await
        .expect("it does not panic, and nothing aborts it")
        .map_err(|source| Error::Program { what: format!("install {list}"), source })?;
    Ok(())
}

/// Starts the engine: as a service where there are services, else by itself.
async fn start_engine(root: &Root, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    const ALONE: &str = "setsid dockerd </dev/null >>/var/log/dockerd.log 2>&1 &";

    if engine_within(Duration::from_secs(3)).await {
        return Ok(());
    }
    say("starting the Docker engine");
    for service in [["systemctl", "start", "docker"], ["service", "docker", "start"]] {
        let call = root.call(service[0]).args(service[1..].iter().copied());
        let started = call.output().is_ok_and(|it| it.status.success());
        if started && engine_within(Duration::from_secs(15)).await {
            return Ok(());
        }
    }
    root.call("sh")
        .args(["-c", ALONE])
        .read()
        .map_err(|source| Error::Program { what: "start the Docker engine".into(), source })?;
    if !engine_within(Duration::from_secs(30)).await {
        say("the Docker engine does not start; what it said is in /var/log/dockerd.log");
    }
    Ok(())
}

fn engine_is_installed() -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    folders.iter().any(|it| Path::new(it).join("dockerd").exists())
}

async fn engine_within(limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        if Engine::local().await.is_ok() {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "it reads best at the calls")]
    #[track_caller]
    fn check(finding: Finding, expect: Expect) {
        expect.assert_eq(&finding.to_string());
    }

    #[test]
    fn an_engine_without_buildkit_is_too_old() {
        check(engine_version("20.10.24", "1.41"), expect!["ok       Docker engine  20.10.24"]);
        check(
            engine_version("18.09", "1.39"),
            expect![[r"
                missing  Docker engine  18.09 is too old: 19.03 is the first with BuildKit
                                         install a newer engine: https://docs.docker.com/engine/install"]],
        );
        assert!(!engine_version("?", "").ok);
    }

    #[test]
    fn what_is_short_is_told_with_what_is_needed() {
        check(
            disk("/var/lib/docker", 80),
            expect!["ok       disk           80 GB free below /var/lib/docker"],
        );
        check(
            disk("/var/lib/docker", 4),
            expect![[r"
                missing  disk           4 GB free below /var/lib/docker; 10 are needed
                                         make room; what Docker could remove: docker system df"]],
        );
        check(
            memory(1),
            expect![[r"
                missing  memory         1 GB available; 3 are needed
                                         end other programs, or take a larger machine"]],
        );
    }

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let finding = program_is_there("no-such-program", "some-package");
        assert_eq!(finding.package, Some("some-package"));
        check(
            finding,
            expect![[r"
                missing  no-such-program is not installed
                                         install it; on Debian: sudo apt-get install some-package"]],
        );
    }
}
