//! `ci`: every check, in the order in which a failure is cheapest to learn of.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::ValueEnum as _;
use xshell::{Shell, cmd};

/// Runs every check, as CI does; installs what they need
#[derive(clap::Args)]
pub(crate) struct Ci {
    /// Only these steps
    #[arg(long, value_name = "STEP")]
    step: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    /// Rust code is formatted
    Fmt,
    /// Rust code has no warnings
    Clippy,
    /// Tests that need nothing but this checkout
    Fast,
    /// Examples in the documentation
    Doc,
    /// Licences and sources of dependencies
    Deny,
    /// Tests of the Dagster project
    Pytest,
    /// The test job, really executed
    Job,
    /// Tests on a real engine, sshd, registry and Dagster
    Live,
}

impl Ci {
    pub(crate) fn run(self, sh: &Shell) -> ExitCode {
        let steps = if self.step.is_empty() { Step::value_variants().to_vec() } else { self.step };
        let mut done = Vec::new();
        for step in steps {
            let name = step.to_possible_value().expect("no step is hidden").get_name().to_owned();
            say(&format!("\n── {name} ──"));
            let began = Instant::now();
            let result = step.run(sh);
            if let Err(error) = &result {
                say(&format!("error: {error:#}"));
            }
            done.push((name, result.is_ok(), began.elapsed()));
        }
        say("");
        for (name, passed, took) in &done {
            say(&line(name, *passed, *took));
        }
        let failed = done.iter().filter(|(_, passed, _)| !passed).count();
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Step {
    fn run(self, sh: &Shell) -> anyhow::Result<()> {
        match self {
            Step::Fmt => cmd!(sh, "cargo fmt --all --check").run()?,
            Step::Clippy => {
                cmd!(sh, "cargo clippy --workspace --all-targets -- --deny warnings").run()?;
            }
            Step::Fast => {
                tool(sh, "cargo-nextest")?;
                cmd!(sh, "cargo nextest run --config-file .cargo/nextest.toml --workspace")
                    .run()?;
            }
            Step::Doc => cmd!(sh, "cargo test --workspace --doc").run()?,
            Step::Deny => {
                tool(sh, "cargo-deny")?;
                // Known vulnerabilities are looked up by a workflow of their own: that needs the
                // advisory database, and a new advisory is no fault of the change at hand.
                cmd!(sh, "cargo deny --all-features check bans licenses sources").run()?;
            }
            Step::Pytest => {
                let uv = uv(sh)?;
                cmd!(sh, "{uv} run --frozen pytest").run()?;
            }
            Step::Job => {
                let uv = uv(sh)?;
                // An instance of its own: the test writes into no real one.
                let home = sh.create_temp_dir()?;
                sh.write_file(home.path().join("dagster.yaml"), "{}\n")?;
                cmd!(
                    sh,
                    "{uv} run --frozen dagster job execute -f dagster_core/pipelines/test_job.py -j test_job"
                )
                .env("DAGSTER_HOME", home.path())
                .run()?;
            }
            Step::Live => {
                tool(sh, "cargo-nextest")?;
                packages(sh, &["openssh-server"])?;
                cmd!(sh, "cargo run --quiet --package deploy -- doctor --install").run()?;
                cmd!(
                    sh,
                    "cargo nextest run --config-file .cargo/nextest.toml --profile live --workspace"
                )
                .run()?;
            }
        }
        Ok(())
    }
}

/// Installs a Cargo subcommand that is missing.
fn tool(sh: &Shell, name: &str) -> anyhow::Result<()> {
    if cmd!(sh, "{name} --version").quiet().ignore_stdout().ignore_stderr().run().is_ok() {
        return Ok(());
    }
    say(&format!("installing {name} (once, a few minutes)"));
    cmd!(sh, "cargo install --locked --no-default-features --profile dev {name}").run()?;
    Ok(())
}

/// Installs Debian packages that are missing; elsewhere says what to install.
fn packages(sh: &Shell, names: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|it| {
            cmd!(sh, "dpkg --status {it}").quiet().ignore_stdout().ignore_stderr().run().is_err()
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let is_root = cmd!(sh, "id -u").quiet().read()? == "0";
    let (program, rest): (_, &[&str]) =
        if is_root { ("apt-get", &[]) } else { ("sudo", &["--non-interactive", "apt-get"]) };
    say(&format!("installing {list}"));
    cmd!(sh, "{program} {rest...} update --quiet=2")
        .run()
        .and_then(|()| cmd!(sh, "{program} {rest...} install --yes --quiet=2 {missing...}").run())
        .with_context(|| format!("install these packages yourself: sudo apt-get install {list}"))
}

/// The path of `uv`, which installs Python's packages from `uv.lock`; into `target` if it is
/// missing.
fn uv(sh: &Shell) -> anyhow::Result<String> {
    if cmd!(sh, "uv --version").quiet().ignore_stdout().ignore_stderr().run().is_ok() {
        return Ok("uv".to_owned());
    }
    packages(sh, &["python3-venv"])?;
    let venv = sh.current_dir().join("target/uv");
    let uv = venv.join("bin/uv");
    if !uv.exists() {
        say("installing uv into target/uv");
        cmd!(sh, "python3 -m venv {venv}").run()?;
        let pip = venv.join("bin/pip");
        cmd!(sh, "{pip} install --quiet uv").run()?;
    }
    Ok(uv.display().to_string())
}

fn line(name: &str, passed: bool, took: Duration) -> String {
    format!("{} {name:<8} {:>7.1} s", if passed { "ok    " } else { "FAILED" }, took.as_secs_f64())
}

#[expect(clippy::print_stderr, reason = "what CI tells goes beside what its tools tell")]
fn say(line: &str) {
    eprintln!("{line}");
}
