//! Hands a verb to the `deploy` binary, which Cargo builds when it must.

use std::{ffi::OsString, path::Path, process::ExitCode};

use exec::Cmd;

/// All that follows the verb, `--help` too, as it was typed.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

/// Runs `deploy VERB ARGUMENTS`; its exit code is ours.
pub(crate) fn deploy(verb: &str, rest: Arguments, root: &Path) -> anyhow::Result<ExitCode> {
    let mut cmd = Cmd::new(env!("CARGO")).arg("run");
    // Cargo's own progress is wanted while it compiles for minutes, and noise ever after.
    if std::env::current_exe()?.with_file_name("deploy").exists() {
        cmd = cmd.arg("--quiet");
    }
    let status = cmd
        .args(["--package", "deploy", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .args(["--", verb])
        .args(rest.arguments)
        .status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
