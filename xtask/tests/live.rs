//! `env init` on a real terminal, which `python3` plays.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use exec::Cmd;
use expect_test::expect;
use tempfile::TempDir;

const TEMPLATE: &str = "\
# Where to.
# @required
DEPLOY_HOST=
DEPLOY_SSH_PORT=
# Of the database.
# @required @sensitive
POSTGRES_PASSWORD=
";

/// A checkout with the template above as `dev` and this `.env.dev`.
fn checkout(env: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("env-templates")).unwrap();
    fs::write(root.path().join("env-templates/dev.env"), TEMPLATE).unwrap();
    let path = root.path().join(".env.dev");
    fs::write(&path, env).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    root
}

/// Types `keys` on a terminal, a line for each question that `env init dev` asks there; answers
/// what the terminal shows, and whether it shows again what is typed when all is over.
fn init(root: &Path, keys: &str) -> String {
    const TYPIST: &str = "
import os, pty, signal, sys, termios
program, root, keys = sys.argv[1:]
signal.alarm(20)
pid, terminal = pty.fork()
if pid == 0:
    os.chdir(root)
    os.execv(program, [program, 'env', 'init', 'dev'])
keys, shown, echo = keys.splitlines(keepends=True), b'', None
while True:
    try:
        part = os.read(terminal, 1024)
        echo = bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
    except (OSError, termios.error):
        break
    shown += part
    if shown.endswith(b': ') and keys:
        os.write(terminal, keys.pop(0).encode())
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(shown.decode().replace('\\r', '') + f'exit {code}, echo {echo}')
";
    let cmd = Cmd::new("python3").args(["-c", TYPIST, env!("CARGO_BIN_EXE_xtask")]);
    cmd.arg(root).arg(keys).read().unwrap()
}

#[test]
fn what_is_missing_is_asked_for_and_a_secret_is_not_shown_while_it_is_typed() {
    let root = checkout("DEPLOY_SSH_PORT=23\n");
    expect![[r#"

        Where to.
        DEPLOY_HOST: vm-3

        Of the database.
        POSTGRES_PASSWORD (not shown): 
          it cannot be that: the readers of `.env` files do not agree on such a value (a quote or a backslash with spaces or `$`, or several lines); choose another
        POSTGRES_PASSWORD (not shown): 
        wrote 2 values into .env.dev, for your eyes only
        dev  ok
        exit 0, echo True"#]].assert_eq(&init(root.path(), "vm-3\nhunter2\"$\' x\nhunter 4\n"));
    let text = fs::read_to_string(root.path().join(".env.dev")).unwrap();
    assert_eq!(text, "DEPLOY_SSH_PORT=23\nDEPLOY_HOST=vm-3\nPOSTGRES_PASSWORD='hunter 4'\n");
    expect![[r#"
        nothing is missing in .env.dev
        exit 0, echo True"#]]
    .assert_eq(&init(root.path(), ""));
}

#[test]
fn who_gives_up_keeps_the_terminal_and_writes_nothing() {
    for last in ["\u{3}", "hun\u{3}", "\u{4}"] {
        let root = checkout("");
        let shown = init(root.path(), &format!("vm-3\n{last}"));
        assert!(
            shown.ends_with("error: not finished: nothing was written\nexit 3, echo True"),
            "{shown}"
        );
        assert_eq!(fs::read_to_string(root.path().join(".env.dev")).unwrap(), "");
    }
}
