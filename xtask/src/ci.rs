//! `ci`: every check, in the order in which a failure is cheapest to learn of.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::ValueEnum as _;
use xshell::{Shell, cmd};

use crate::tools::{packages, say, succeeds, tool, uv};

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
    /// Templates of environments, and that no real values are in git
    Env,
    /// Rust code has no warnings
    Clippy,
    /// The linters of Python have no findings
    Lint,
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
            Step::Env => crate::env::check_templates(&sh.current_dir())?,
            Step::Clippy => {
                cmd!(sh, "cargo clippy --workspace --all-targets -- --deny warnings").run()?;
            }
            // By Cargo and not by this program's own file: the step before may have made that anew.
            Step::Lint => cmd!(sh, "cargo xtask lint --all --no-worker").run()?,
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
                uv(sh)?;
                packages(sh, &["openssh-server", "python3-venv"])?;
                cmd!(sh, "cargo run --quiet --package deploy -- doctor --install").run()?;
                if !succeeds(cmd!(sh, "docker compose version")) {
                    packages(sh, &["docker-compose"])?;
                }
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

fn line(name: &str, passed: bool, took: Duration) -> String {
    format!("{} {name:<8} {:>7.1} s", if passed { "ok    " } else { "FAILED" }, took.as_secs_f64())
}
