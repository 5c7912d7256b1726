//! Programs that a verb needs, and that this machine may lack.

use anyhow::Context as _;
use xshell::{Cmd, Shell, cmd};

/// Installs a Cargo subcommand that is missing.
pub(crate) fn tool(sh: &Shell, name: &str) -> anyhow::Result<()> {
    if succeeds(cmd!(sh, "{name} --version")) {
        return Ok(());
    }
    say(&format!("installing {name} (once, a few minutes)"));
    cmd!(sh, "cargo install --locked --no-default-features --profile dev {name}").run()?;
    Ok(())
}

/// Installs Debian packages that are missing; elsewhere says what to install.
pub(crate) fn packages(sh: &Shell, names: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        names.iter().copied().filter(|it| !succeeds(cmd!(sh, "dpkg --status {it}"))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let is_root = cmd!(sh, "id -u").quiet().read()? == "0";
    let (program, rest): (_, &[&str]) =
        if is_root { ("apt-get", &[]) } else { ("sudo", &["--non-interactive", "apt-get"]) };
    say(&format!("installing {list}"));
    // A machine that was just started looks for updates by itself; and a list that cannot be brought
    // up to date may do all the same.
    let options = ["--quiet=2", "-oDPkg::Lock::Timeout=300"];
    let update = cmd!(sh, "{program} {rest...} update {options...}").run();
    cmd!(sh, "{program} {rest...} install --yes {options...} {missing...}")
        .run()
        .map_err(|error| update.err().unwrap_or(error))
        .with_context(|| format!("install these packages yourself: sudo apt-get install {list}"))
}

/// The path of `uv`, which installs Python's packages from `uv.lock`; into `target` if it is
/// missing.
pub(crate) fn uv(sh: &Shell) -> anyhow::Result<String> {
    if succeeds(cmd!(sh, "uv --version")) {
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

/// Whether it can be called, and ends well.
pub(crate) fn succeeds(cmd: Cmd<'_>) -> bool {
    cmd.quiet().ignore_stdout().ignore_stderr().run().is_ok()
}

/// Tells it on standard error, beside what the tools themselves tell.
#[expect(clippy::print_stderr, reason = "what is told of a tool goes beside what it tells itself")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
