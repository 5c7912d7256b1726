//! A command as a value.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::ExitStatus,
};

use crate::Error;

/// A command: a program, its arguments, and what it is given.
///
/// It prints as a line for a shell, without its input and without the values of its environment:
/// those may be secret.
#[derive(Clone)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    dir: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    apart: bool,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(ExitStatus);

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Output {
        let std::process::Output { status, stdout, stderr } = output;
        Output { status: Status(status), stdout, stderr }
    }
}

impl Status {
    /// Whether it is zero.
    pub fn success(self) -> bool {
        self.0.success()
    }

    /// The exit code; none if a signal ended the command.
    pub fn code(self) -> Option<i32> {
        self.0.code()
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Status {
        Status(status)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Cmd {
    /// Describes a call of `program`.
    pub fn new(program: impl Into<OsString>) -> Cmd {
        Cmd {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            stdin: None,
            apart: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Cmd {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Cmd {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment; its value is never shown.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Cmd {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Cmd {
        self.dir = Some(dir.into());
        self
    }

    /// Gives it this input, which is never shown. Without it, the input is empty where the output
    /// is captured.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Cmd {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs it in a process group of its own: Ctrl-C in our terminal does not reach it.
    #[must_use]
    pub(crate) fn apart(mut self) -> Cmd {
        self.apart = true;
        self
    }

    /// Runs it here in place of this program, which ends with it; returns only if that fails.
    pub fn replace(&self) -> Error {
        self.not_run(self.command().exec())
    }

    /// As the standard library has it, without its input: for what `duct` cannot do.
    #[expect(clippy::disallowed_methods, reason = "this crate is the one door to processes")]
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Runs it here, on our own terminal; it must succeed.
    pub fn run(&self) -> Result<(), Error> {
        let status = self.status()?;
        if status.success() { Ok(()) } else { Err(self.failed(status, &[])) }
    }

    /// Runs it here, on our own terminal.
    pub fn status(&self) -> Result<Status, Error> {
        let mut call = self.expression();
        if let Some(stdin) = &self.stdin {
            call = call.stdin_bytes(stdin.clone());
        }
        Ok(Status(call.unchecked().run().map_err(|source| self.not_run(source))?.status))
    }

    /// Runs it here; the caller judges how it ended.
    pub fn output(&self) -> Result<Output, Error> {
        let stdin = self.stdin.clone().unwrap_or_default();
        self.finish(&self.expression().stdin_bytes(stdin).stdout_capture())
    }

    /// Runs what was made of this command.
    pub(crate) fn finish(&self, expression: &duct::Expression) -> Result<Output, Error> {
        let run = expression.stderr_capture().unchecked().run();
        run.map(Output::from).map_err(|source| self.not_run(source))
    }

    /// Runs it here; it must succeed. Answers its standard output without the last line's end.
    pub fn read(&self) -> Result<String, Error> {
        self.checked(&self.output()?)
    }

    /// The standard output of a call that must have succeeded.
    pub(crate) fn checked(&self, output: &Output) -> Result<String, Error> {
        if !output.status.success() {
            return Err(self.failed(output.status, &output.stderr));
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    pub(crate) fn input(&self) -> &[u8] {
        self.stdin.as_deref().unwrap_or_default()
    }

    pub(crate) fn expression(&self) -> duct::Expression {
        let mut call = duct::cmd(&self.program, &self.args);
        for (key, value) in &self.env {
            call = call.env(key, value);
        }
        if let Some(dir) = &self.dir {
            call = call.dir(dir);
        }
        if self.apart {
            call = call.before_spawn(|command| {
                command.process_group(0);
                Ok(())
            });
        }
        call
    }

    /// The command as one line for a shell, its environment included: for the far end of SSH.
    pub(crate) fn line(&self) -> Result<OsString, Error> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        if let Some(dir) = &self.dir {
            words.extend([b"cd".to_vec(), self.quote(dir.as_os_str())?, b"&&".to_vec()]);
        }
        if !self.env.is_empty() {
            // A variable would stand in the arguments of the far end's processes.
            return Err(Error::Environment { cmd: self.to_string() });
        }
        words.push(b"exec".to_vec());
        for word in std::iter::once(&self.program).chain(&self.args) {
            words.push(self.quote(word)?);
        }
        Ok(OsStr::from_bytes(&words.join(&b' ')).to_owned())
    }

    fn quote(&self, word: &OsStr) -> Result<Vec<u8>, Error> {
        shlex::bytes::try_quote(word.as_bytes())
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| Error::Nul { cmd: self.to_string() })
    }

    pub(crate) fn not_run(&self, source: std::io::Error) -> Error {
        let program = Path::new(&self.program).display().to_string();
        match source.kind() {
            std::io::ErrorKind::NotFound if self.dir.as_ref().is_none_or(|it| it.is_dir()) => {
                Error::Missing { program }
            }
            _ => Error::Run { cmd: self.to_string(), source },
        }
    }

    fn failed(&self, status: Status, stderr: &[u8]) -> Error {
        Error::Failed { cmd: self.to_string(), status, said: last_lines(stderr, 20) }
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, word) in std::iter::once(&self.program).chain(&self.args).enumerate() {
            let word = word.to_string_lossy();
            // A script is told by its first line.
            let line = word.lines().next().unwrap_or_default();
            let more = if line.len() < word.len() { "…" } else { "" };
            let quoted = shlex::try_quote(line).unwrap_or_else(|_| line.into());
            write!(f, "{}{quoted}{more}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cmd(`{self}`)")
    }
}

pub(crate) fn last_lines(bytes: &[u8], n: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_shows_what_it_calls_and_not_what_it_is_given() {
        let cmd = Cmd::new("docker")
            .args(["logs", "a b", "line one\nline two"])
            .env("PASSWORD", "hunter2")
            .stdin("hunter2");
        assert_eq!(
            format!("{cmd} {cmd:?}"),
            "docker logs 'a b' 'line one'… Cmd(`docker logs 'a b' 'line one'…`)"
        );
    }

    #[test]
    fn what_failed_is_told_with_its_last_words() {
        let error =
            Cmd::new("sh").args(["-c", "echo one >&2; echo two >&2; exit 3"]).read().unwrap_err();
        expect_test::expect![[r"
            `sh -c 'echo one >&2; echo two >&2; exit 3'` failed with exit status: 3
              one
              two"]]
        .assert_eq(&error.to_string());
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = Cmd::new("no-such-program").read().unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` is not installed on this machine");
        assert_eq!(
            error.hint().as_deref(),
            Some("on Debian: sudo apt-get install no-such-program")
        );
    }

    #[test]
    fn variables_do_not_travel_over_ssh_where_arguments_show_them() {
        let error = Cmd::new("env").env("PASSWORD", "hunter2").line().unwrap_err();
        assert_eq!(error.to_string(), "`env` cannot take variables over SSH");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The far end's shell reads the line as sshd gives it: `sh -c LINE`.
        #[test]
        fn any_argument_survives_the_shell_of_the_far_end(
            args in prop::collection::vec(prop::collection::vec(1u8.., 0..12), 1..4)
        ) {
            let words = args.iter().cloned().map(OsString::from_vec);
            let line = Cmd::new("printf").arg("%s\\0").args(words).line().unwrap();
            let output = Cmd::new("sh").arg("-c").arg(line).output().unwrap();
            let mut expected = args.join(&0);
            expected.push(0);
            prop_assert_eq!(output.stdout, expected);
        }
    }
}
