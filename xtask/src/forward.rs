//! Hands a verb to a binary of this workspace, which Cargo builds when it must.

use std::{ffi::OsString, path::Path, process::ExitCode};

use exec::Cmd;

/// All that follows the verb, `--help` too, as it was typed.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

impl Arguments {
    /// With one more before them.
    pub(crate) fn after(self, first: &str) -> Arguments {
        let first = std::iter::once(first.into());
        Arguments { arguments: first.chain(self.arguments).collect() }
    }
}

/// Runs `deploy VERB ARGUMENTS`; its exit code is ours.
pub(crate) fn deploy(verb: &str, rest: Arguments, root: &Path) -> anyhow::Result<ExitCode> {
    package("deploy", [verb.into()].into_iter().chain(rest.arguments), root)
}

/// Runs `bench ARGUMENTS`, for which what it measures must be built; its exit code is ours.
pub(crate) fn bench(rest: Arguments, root: &Path) -> anyhow::Result<ExitCode> {
    if rest.arguments.first().is_none_or(|it| it != "lint") {
        cargo(["build", "--quiet", "--package", "deploy"], root).run()?;
    }
    package("bench", rest.arguments, root)
}

fn package(
    name: &str,
    arguments: impl IntoIterator<Item = OsString>,
    root: &Path,
) -> anyhow::Result<ExitCode> {
    // Cargo's own progress is wanted while it compiles for minutes, and noise ever after.
    let built = std::env::current_exe()?.with_file_name(name).exists();
    let quiet: &[&str] = if built { &["--quiet"] } else { &[] };
    // In our place: on Ctrl-C nobody goes before what it began is undone.
    let cmd = cargo(["run", "--package", name].into_iter().chain(quiet.iter().copied()), root)
        .arg("--")
        .args(arguments);
    Err(cmd.replace().into())
}

fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>, root: &Path) -> Cmd {
    Cmd::new(env!("CARGO")).args(arguments).arg("--manifest-path").arg(root.join("Cargo.toml"))
}
