//! A command that runs while its caller does something else.

use std::{
    io::{BufRead as _, BufReader, PipeWriter, pipe},
    os::unix::process::CommandExt as _,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

use crate::{Cmd, Error, Status};

/// A command that was started here. Its processes are a group of their own, as a terminal makes
/// one; dropping this value leaves them alone.
#[derive(Debug)]
pub struct Running {
    cmd: Cmd,
    process: Arc<duct::ReaderHandle>,
    lines: Receiver<String>,
    /// The other end of its input, if it shall live no longer than we do.
    _tie: Option<PipeWriter>,
}

/// What came of waiting for a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The next line of its outputs.
    Said(String),
    /// It says no more: it has ended.
    Ended,
    /// Nothing within the time that was given.
    Silent,
}

impl Cmd {
    /// Starts it here and does not wait. Its two outputs are read as one, line by line.
    pub fn start(&self) -> Result<Running, Error> {
        self.start_with(&self.expression().stdin_null(), None)
    }

    /// The same, with an input that ends when the answer is dropped or this process ends, however
    /// it does: so a program that reads it to its end does not outlive us.
    pub fn start_tied(&self) -> Result<Running, Error> {
        let (reader, writer) = pipe().map_err(|source| self.not_run(source))?;
        self.start_with(&self.expression().stdin_file(reader), Some(writer))
    }

    fn start_with(
        &self,
        expression: &duct::Expression,
        tie: Option<PipeWriter>,
    ) -> Result<Running, Error> {
        let process = expression
            .stderr_to_stdout()
            .unchecked()
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            })
            .reader()
            .map_err(|source| self.not_run(source))?;
        let process = Arc::new(process);
        let (send, lines) = channel();
        std::thread::spawn({
            let process = process.clone();
            move || {
                let lines = BufReader::new(&*process).split(b'\n').map_while(Result::ok);
                // Whoever listened may have gone; then it is read on, so that it never blocks.
                lines.for_each(|line| drop(send.send(String::from_utf8_lossy(&line).into_owned())));
            }
        });
        Ok(Running { cmd: self.clone(), process, lines, _tie: tie })
    }
}

impl Running {
    /// Waits for its next line.
    pub fn line(&self, limit: Duration) -> Line {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Line::Said(line),
            Err(RecvTimeoutError::Disconnected) => Line::Ended,
            Err(RecvTimeoutError::Timeout) => Line::Silent,
        }
    }

    /// Ends its input, if that was tied to us.
    #[must_use]
    pub fn untie(self) -> Running {
        Running { _tie: None, ..self }
    }

    /// Sends a signal (`KILL`, `TERM`, …) to the process itself.
    pub fn signal(&self, signal: &str) -> Result<(), Error> {
        kill(signal, &self.pid().to_string())
    }

    /// Sends a signal to its whole group, as Ctrl-C in a terminal does.
    pub fn signal_group(&self, signal: &str) -> Result<(), Error> {
        kill(signal, &format!("-{}", self.pid()))
    }

    fn pid(&self) -> u32 {
        self.process.pids()[0]
    }

    /// How it ended; nothing while it runs.
    pub fn ended(&self) -> Result<Option<Status>, Error> {
        let ended = self.process.try_wait().map_err(|source| self.cmd.not_run(source))?;
        Ok(ended.map(|it| it.status.into()))
    }
}

fn kill(signal: &str, whom: &str) -> Result<(), Error> {
    Cmd::new("kill").args(["-s", signal, "--", whom]).read().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn lines_of_both_outputs_come_as_they_are_said_and_then_the_end() {
        let script = "printf '\\377\\n'; echo one; echo two >&2; exit 3";
        let running = Cmd::new("sh").args(["-c", script]).start().unwrap();
        for line in ["\u{fffd}", "one", "two"] {
            assert_eq!(running.line(LIMIT), Line::Said(line.to_owned()));
        }
        assert_eq!(running.line(LIMIT), Line::Ended);
        assert_eq!(running.ended().unwrap().unwrap().code(), Some(3));
    }

    #[test]
    fn what_is_tied_to_us_hears_when_we_are_gone() {
        let running = Cmd::new("sh").args(["-c", "cat; echo alone"]).start_tied().unwrap();
        assert_eq!(running.line(Duration::from_millis(50)), Line::Silent);
        assert_eq!(running.untie().line(LIMIT), Line::Said("alone".to_owned()));
    }

    #[test]
    fn a_signal_ends_it_and_what_it_started_in_its_group() {
        let running = Cmd::new("sh").args(["-c", "echo up; sleep 600; echo down"]).start().unwrap();
        assert_eq!(running.line(LIMIT), Line::Said("up".to_owned()));
        assert_eq!(running.line(Duration::from_millis(50)), Line::Silent);
        assert_eq!(running.ended().unwrap(), None);
        running.signal_group("KILL").unwrap();
        assert_eq!(running.line(LIMIT), Line::Ended);
        assert_eq!(running.ended().unwrap().unwrap().code(), None);
    }
}
