//! A Python that has the linters imported, and waits: most of a short lint is imports.
//!
//! It is a convenience, and nothing depends on it: it is asked for the same call that would be made
//! without it, in a process of the call's own, and where it does not answer, the call is made. Its
//! socket's name says which Python and packages it has, so it never answers for others.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::symlink, net::UnixStream, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use exec::{Cmd, Output};
use serde::Deserialize;
use serde_json::json;

use crate::{
    state::{self, State},
    venv::Venv,
};

const SOURCE: &str = include_str!("worker.py");

/// So long, in seconds, it waits for the next lint.
const IDLE: u32 = 600;

/// It says every second that a call still runs; so long without a word, and it is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// The paths of a worker.
pub(crate) struct Worker {
    socket: PathBuf,
    source: PathBuf,
}

#[derive(Deserialize)]
struct Head {
    status: i32,
    stdout: usize,
    stderr: usize,
}

impl Worker {
    pub(crate) fn new(state: &State, venv: &Venv) -> Worker {
        let name = state::name_of([venv.identity.as_bytes(), SOURCE.as_bytes()]);
        let name = format!("worker-{}", &name[..16]);
        let path = |ending| state.path("workers").join(format!("{name}.{ending}"));
        Worker { socket: path("sock"), source: path("py") }
    }

    /// What `python -m MODULE ARGS` says in this folder; nothing if the worker does not say.
    pub(crate) fn output(
        &self,
        module: &str,
        args: &[&OsStr],
        dir: &Path,
        niceness: u8,
    ) -> Option<Output> {
        let stream = connect(&self.socket).ok()?;
        let output = ask(stream, module, args, dir, niceness);
        if output.is_none() {
            // Stopped, or of no use: without its socket it ends, and another one is started.
            let _ = fs::remove_file(&self.socket);
        }
        output
    }

    /// Starts one for the next lint, if there is none. If that fails, the next lint is slower.
    pub(crate) fn start(&self, call: impl FnOnce(&Path) -> Cmd) {
        if connect(&self.socket).is_ok() || state::write(&self.source, SOURCE.as_bytes()).is_err() {
            return;
        }
        let seconds = IDLE.to_string();
        // It lets go of its outputs at once, and that is all that is waited for.
        let _ = call(&self.source).arg(&self.socket).arg(seconds).output();
    }
}

/// Connects by a short name: a socket's address has room for about a hundred bytes, and a checkout
/// may lie deeper than that.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    const ROOM: usize = 100;

    if socket.as_os_str().len() < ROOM {
        return UnixStream::connect(socket);
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let short = tempfile::tempdir()?;
    let link = short.path().join("workers");
    symlink(folder, &link)?;
    UnixStream::connect(link.join(name))
}

fn ask(
    mut stream: UnixStream,
    module: &str,
    args: &[&OsStr],
    dir: &Path,
    niceness: u8,
) -> Option<Output> {
    stream.set_read_timeout(Some(SILENCE)).ok()?;
    let args: Vec<&str> = args.iter().map(|it| it.to_str()).collect::<Option<_>>()?;
    let asked = json!({ "module": module, "args": args, "dir": dir.to_str()?, "nice": niceness });
    stream.write_all(format!("{asked}\n").as_bytes()).ok()?;
    let mut answer = BufReader::new(stream);
    let mut head = String::new();
    answer.read_line(&mut head).ok()?;
    let head: Head = serde_json::from_str(head.trim_start_matches('.')).ok()?;
    let mut bytes = |size| {
        let mut bytes = vec![0; size];
        answer.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let (stdout, stderr) = (bytes(head.stdout)?, bytes(head.stderr)?);
    Some(Output { status: ExitStatus::from_raw(head.status).into(), stdout, stderr })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// What is understood of a worker's answer.
    #[track_caller]
    fn check(answer: &'static [u8], expected: Option<(Option<i32>, &str, &str)>) {
        let dir = tempfile::tempdir().unwrap();
        let worker =
            Worker { socket: dir.path().join("sock"), source: dir.path().join("worker.py") };
        let listener = UnixListener::bind(&worker.socket).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(&stream).read_line(&mut asked).unwrap();
            (&stream).write_all(answer).unwrap();
            asked
        });
        let output = worker.output("black", &[OsStr::new("--check")], Path::new("/tree"), 5);
        let understood = output.map(|it| {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (it.status.code(), text(it.stdout), text(it.stderr))
        });
        let understood = understood.as_ref().map(|(code, out, err)| (*code, &**out, &**err));
        assert_eq!(understood, expected);
        assert_eq!(worker.socket.exists(), expected.is_some(), "it is asked again");
        let asked = server.join().unwrap();
        assert_eq!(
            asked,
            "{\"args\":[\"--check\"],\"dir\":\"/tree\",\"module\":\"black\",\"nice\":5}\n"
        );
    }

    #[test]
    fn an_answer_may_be_waited_for() {
        let answer = b"...{\"status\": 256, \"stdout\": 2, \"stderr\": 3}\nabcde";
        check(answer, Some((Some(1), "ab", "cde")));
    }

    #[test]
    fn whoever_is_cut_off_is_not_asked_again() {
        check(b"..", None);
        check(b"{\"status\": 0, \"stdout\": 2, \"stderr\": 3}\nabc", None);
        check(b"no\n", None);
    }

    #[test]
    fn a_worker_that_is_gone_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let worker =
            Worker { socket: dir.path().join("sock"), source: dir.path().join("worker.py") };
        assert!(worker.output("black", &[], Path::new("/"), 0).is_none());
        drop(UnixListener::bind(&worker.socket).unwrap());
        assert!(fs::exists(&worker.socket).unwrap());
        assert!(worker.output("black", &[], Path::new("/"), 0).is_none());
    }
}
