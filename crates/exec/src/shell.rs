//! A shell at the far end that waits to be told its one command.
//!
//! To open a session costs three round trips and two processes. A [`Host`](crate::Host) has one
//! open in advance, so that a call costs one.

use std::{
    ffi::OsStr,
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::{Child, ChildStdin, Stdio},
};

use crate::{Cmd, Error, Output};

/// What waits there, said to `bash`: it becomes what it is told, and ends where it is told nothing.
pub(crate) const WAIT: &str = r#"IFS= read -r -d "" line && eval "$line""#;

/// A shell that waits.
#[derive(Debug)]
pub(crate) struct Shell(Child);

impl Shell {
    /// Starts one, by what makes a `bash` there do [`WAIT`]. Waits for nothing.
    pub(crate) fn start(cmd: &Cmd) -> Result<Shell, Error> {
        spawn(cmd, Stdio::piped()).map(Shell)
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

/// Starts a command with pipes to its input and output. A child of its own kind: `duct` has no
/// input that stays open.
pub(crate) fn spawn(cmd: &Cmd, stderr: Stdio) -> Result<Child, Error> {
    cmd.command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        // Ctrl-C in this terminal is for us: what is begun there may have to be undone.
        .process_group(0)
        .spawn()
        .map_err(|source| cmd.not_run(source))
}
