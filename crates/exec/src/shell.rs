//! A shell at the far end that waits to be told its one command.
//!
//! To open a session costs three round trips and two processes. A [`Host`](crate::Host) has one
//! open in advance, so that a call costs one.

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::{Cmd, Error, Output};

/// What waits there: it becomes what it is told, and ends where it is told nothing.
const WAIT: &str = r#"exec bash -c 'IFS= read -r -d "" line && eval "$line"'"#;

/// A shell that waits.
#[derive(Debug)]
pub(crate) struct Shell(Child);

impl Shell {
    /// Starts one, by the arguments with which `ssh` reaches the host. Waits for nothing.
    pub(crate) fn start(mut ssh: Vec<OsString>) -> Result<Shell, Error> {
        ssh.push(WAIT.into());
        spawn(&ssh, Stdio::piped()).map(Shell)
    }

    /// This one, if it waits still.
    pub(crate) fn waiting(mut self) -> Option<Shell> {
        matches!(self.0.try_wait(), Ok(None)).then_some(self)
    }

    /// It is not needed any more.
    pub(crate) fn end(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Makes it a command, with the command's input; waits until it ends.
    pub(crate) fn output(self, cmd: &Cmd) -> Result<Output, Error> {
        let (child, mut stdin) = self.told(&cmd.line()?);
        let output = std::thread::scope(|scope| {
            // One that ends without reading all of it says why by how it ends.
            scope.spawn(move || drop(stdin.write_all(cmd.input())));
            child.wait_with_output()
        });
        let output = output.map_err(|source| Error::Run { cmd: cmd.to_string(), source })?;
        Ok(output.into())
    }

    /// Makes it a command whose input stays open.
    pub(crate) fn hold(self, cmd: &Cmd) -> Result<(Child, ChildStdin), Error> {
        Ok(self.told(&cmd.line()?))
    }

    fn told(self, line: &OsStr) -> (Child, ChildStdin) {
        let Shell(mut child) = self;
        let mut stdin = child.stdin.take().expect("its input was asked for");
        // One that is gone says so by how it ends.
        let _ = stdin.write_all(&[line.as_bytes(), b"\0"].concat());
        (child, stdin)
    }
}

/// Starts `ssh` with pipes to its input and output. A child of its own kind: `duct` has no input
/// that stays open.
#[expect(clippy::disallowed_methods, reason = "this crate is the one door to processes")]
pub(crate) fn spawn(args: &[OsString], stderr: Stdio) -> Result<Child, Error> {
    let cmd = || Cmd::new("ssh").args(args).to_string();
    Command::new("ssh")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        // Ctrl-C in this terminal is for us: what is begun there may have to be undone.
        .process_group(0)
        .spawn()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { program: "ssh".to_owned() },
            _ => Error::Run { cmd: cmd(), source },
        })
}
