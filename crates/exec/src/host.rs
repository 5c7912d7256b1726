//! A host, whichever way it is reached.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{Address, Cmd, Error, Output, Target, connection::Connection, shell::Shell};

/// A connected host: another machine over one SSH connection, or this one, where the same is done by
/// a shell of ours.
#[derive(Debug)]
pub struct Host {
    name: String,
    connection: Connection,
    /// Open in advance, for the next call.
    shell: Mutex<Option<Shell>>,
}

/// A file to upload.
pub struct File {
    /// Its path below the folder.
    pub path: String,
    /// Its mode, e.g. `0o600`.
    pub mode: u32,
    /// What is in it; never shown.
    pub bytes: Vec<u8>,
}

/// A process at the far end that lives for as long as this value, and dies with the connection.
///
/// It is talked to in lines.
#[derive(Debug)]
pub struct Held {
    process: Child,
    answer: String,
    output: BufReader<ChildStdout>,
    input: Arc<Mutex<Option<ChildStdin>>>,
    beat: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Host {
    /// Connects.
    pub fn connect(target: &Target) -> Result<Host, Error> {
        let connection = Connection::open(target)?;
        let mut host = Host { name: target.name().to_owned(), connection, shell: Mutex::default() };
        // Its round trips are made beside those that follow.
        host.replenish();
        host.connection.ready()?;
        Ok(host)
    }

    /// Runs a command there; the caller judges how it ended.
    pub fn output(&self, cmd: &Cmd) -> Result<Output, Error> {
        self.check(self.shell()?.output(cmd)?)
    }

    /// Runs a command there; it must succeed. Answers its standard output.
    pub fn read(&self, cmd: &Cmd) -> Result<String, Error> {
        cmd.checked(&self.output(cmd)?)
    }

    /// Runs a command there whose output, too much for memory, goes to a file here; the caller
    /// judges how it ended.
    pub fn save(&self, cmd: &Cmd, file: std::fs::File) -> Result<Output, Error> {
        let call = self.connection.call(cmd)?.apart();
        let stdin = cmd.input().to_vec();
        self.check(call.finish(&call.expression().stdin_bytes(stdin).stdout_file(file))?)
    }

    /// Runs a command there whose input, too much for memory, is a file here; the caller judges
    /// how it ended.
    pub fn feed(&self, cmd: &Cmd, file: std::fs::File) -> Result<Output, Error> {
        let call = self.connection.call(cmd)?.apart();
        self.check(call.finish(&call.expression().stdin_file(file).stdout_capture())?)
    }

    /// Runs a command there, on our own terminal; it must succeed.
    pub fn stream(&self, cmd: &Cmd) -> Result<(), Error> {
        let status = self.connection.call(cmd)?.status()?;
        if status.success() {
            return Ok(());
        }
        let output = self.check(Output { status, stdout: Vec::new(), stderr: Vec::new() })?;
        cmd.checked(&output).map(drop)
    }

    /// Puts files into a folder there, which appears whole or not at all, in place of what was
    /// there. They travel as one stream.
    pub fn upload(&self, files: &[File], dir: &str) -> Result<(), Error> {
        let output = self.upload_after("", &[], files, dir)?;
        // Named by what it does, not by its text.
        Cmd::new("upload").arg(dir).checked(&output).map(drop)
    }

    /// The same, after a piece of `bash` that may refuse by ending it: it is given `args`, and must
    /// shift them away. The caller judges how it ended.
    pub fn upload_after(
        &self,
        first: &str,
        args: &[&str],
        files: &[File],
        dir: &str,
    ) -> Result<Output, Error> {
        /// `tar` fails on a stream that was cut, so the folder gets its name only when complete.
        const SCRIPT: &str = r#"
            set -eu
            umask 077
            mkdir -p "$(dirname "$1")"
            new=$(mktemp -d "$1.partial-XXXXXX")
            trap 'rm -rf "$new"' EXIT
            tar -x -f - -C "$new"
            sync -f "$new"
            if [ -e "$1" ]; then mv -T "$1" "$new.old"; fi
            mv -T "$new" "$1"
            rm -rf "$new.old"
        "#;
        let mut tar = tar::Builder::new(Vec::new());
        for file in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(file.mode);
            header.set_size(file.bytes.len() as u64);
            tar.append_data(&mut header, &file.path, file.bytes.as_slice())
                .map_err(|source| Error::File { path: PathBuf::from(&file.path), source })?;
        }
        let stream =
            tar.into_inner().map_err(|source| Error::File { path: PathBuf::from(dir), source })?;
        let script = format!("{first}\n{SCRIPT}");
        let cmd = Cmd::new("bash").args(["-c", &script, "upload"]).args(args).arg(dir);
        self.output(&cmd.stdin(stream))
    }

    /// A socket here that leads to one there.
    pub fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        self.connection.forward_socket(remote)
    }

    /// Where we reach an address that the host reaches, as `172.18.0.2:5432`: if through a socket,
    /// that is called `name`.
    pub fn forward_address(&self, remote: SocketAddr, name: &str) -> Result<Address, Error> {
        self.connection.forward_address(remote, name)
    }

    /// Makes a loopback port there reachable on our loopback: on `wanted`, or the next port that
    /// is free; 0 is any. Answers the port, which on this machine is the port itself.
    pub fn forward_port(&self, remote: u16, wanted: u16) -> Result<u16, Error> {
        self.connection.forward_port(remote, wanted)
    }

    /// Starts a process there that lives until the answer is dropped. Its first line of output is
    /// awaited.
    pub fn hold(&self, cmd: &Cmd) -> Result<Held, Error> {
        let (mut process, input) = self.shell()?.hold(cmd)?;
        let mut answer = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("its output was asked for"));
        let read = output.read_line(&mut answer);
        if read.is_err() || answer.is_empty() {
            drop(input);
            let output = process
                .wait_with_output()
                .map_err(|source| Error::Run { cmd: cmd.to_string(), source })?;
            return match self.check(output.into()).and_then(|output| cmd.checked(&output)) {
                Ok(_) => Err(self.lost()),
                Err(error) => Err(error),
            };
        }
        let input = Arc::new(Mutex::new(Some(input)));
        let answer = answer.trim_end().to_owned();
        Ok(Held { process, answer, output, input, beat: None })
    }

    /// Whether the connection stands.
    pub fn is_alive(&self) -> bool {
        self.connection.is_alive()
    }

    /// Fails if the connection does not stand.
    pub fn require_alive(&self) -> Result<(), Error> {
        if self.is_alive() { Ok(()) } else { Err(self.lost()) }
    }

    fn lost(&self) -> Error {
        Error::Lost { host: self.name.clone() }
    }

    /// A shell that is there already, or will soon be.
    fn shell(&self) -> Result<Shell, Error> {
        let spare = lock(&self.shell).take();
        let shell = match spare.and_then(Shell::waiting) {
            Some(it) => it,
            None => self.connection.shell()?,
        };
        self.replenish();
        Ok(shell)
    }

    /// Opens the shell of the next call.
    fn replenish(&self) {
        *lock(&self.shell) = self.connection.shell().ok();
    }

    /// `ssh` exits 255 for itself, but so may the command: only a dead connection is ours to tell.
    fn check(&self, output: Output) -> Result<Output, Error> {
        if output.status.code() == Some(255) && !self.is_alive() {
            return Err(self.lost());
        }
        Ok(output)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Before the connection that carries it.
        if let Some(shell) = lock(&self.shell).take() {
            shell.end();
        }
    }
}

impl Held {
    /// The first line the process said.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// The next line it says; none when it has said all.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap_or(0);
        (read > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// The lines it says until one is `mark`, which ends them; none when it ends before that.
    pub fn lines_until(&mut self, mark: &str) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.line()? {
                line if line == mark => return Some(text),
                line => text += &(line + "\n"),
            }
        }
    }

    /// Tells it a line. Answers whether it still listens.
    pub fn tell(&self, line: &str) -> bool {
        tell(&self.input, line)
    }

    /// Tells it a line again and again, from a thread: a sign of life. Each time `line` says which.
    pub fn beat(&mut self, every: Duration, mut line: impl FnMut() -> String + Send + 'static) {
        let (stop, stopped) = mpsc::channel();
        let input = Arc::clone(&self.input);
        let thread = std::thread::spawn(move || {
            while tell(&input, &line())
                && stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout)
            {}
        });
        self.beat = Some((stop, thread));
    }
}

fn tell(input: &Mutex<Option<ChildStdin>>, line: &str) -> bool {
    let mut input = lock(input);
    let line = format!("{line}\n");
    input.as_mut().is_some_and(|it| it.write_all(line.as_bytes()).is_ok())
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.beat.take() {
            drop(stop);
            let _ = thread.join();
        }
        // The end of its input is what it waits for.
        drop(lock(&self.input).take());
        let _ = self.process.wait();
    }
}

pub(crate) fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn here() -> Host {
        let variables = vec![("OF_ITS_OWN", "a b".to_owned())];
        Host::connect(&Target::Local { variables }).unwrap()
    }

    fn sh(script: &str) -> Cmd {
        Cmd::new("sh").args(["-c", script])
    }

    #[test]
    fn this_machine_is_a_host_without_a_connection() {
        let host = here();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for n in ["1", "2"] {
            assert_eq!(host.read(&Cmd::new("cat").stdin(n)).unwrap(), n);
        }
        assert_eq!(host.output(&sh("exit 255")).unwrap().status.code(), Some(255));

        fs::write(path("large"), "large").unwrap();
        let large = || fs::File::open(path("large")).unwrap();
        assert_eq!(host.feed(&Cmd::new("wc").arg("-c"), large()).unwrap().stdout, b"5\n");
        let copy = fs::File::create(path("copy")).unwrap();
        host.save(&Cmd::new("cat").stdin("saved"), copy).unwrap();
        assert_eq!(fs::read_to_string(path("copy")).unwrap(), "saved");

        let file = File { path: "a/b".into(), mode: 0o600, bytes: b"up".to_vec() };
        host.upload(&[file], &path("up load").display().to_string()).unwrap();
        assert_eq!(fs::read_to_string(path("up load/a/b")).unwrap(), "up");

        assert_eq!(host.forward_socket("/run/x.sock").unwrap(), PathBuf::from("/run/x.sock"));
        assert_eq!(host.forward_port(3000, 0).unwrap(), 3000);
        let address = "172.18.0.2:5432".parse().unwrap();
        assert_eq!(host.forward_address(address, "name").unwrap(), Address::Tcp(address));
        assert!(host.is_alive());
    }

    #[test]
    fn what_runs_on_this_machine_has_the_variables_of_a_login_and_a_group_of_its_own() {
        let host = here();
        let said = host.read(&sh("cd && pwd && echo \"$HOME\"; env")).unwrap();
        let mut lines = said.lines();
        assert_eq!(lines.next(), lines.next(), "it begins at home");
        let keys: Vec<&str> = lines.filter_map(|it| Some(it.split_once('=')?.0)).collect();
        // Cargo gives us some that no login has.
        assert!(keys.contains(&"PATH") && keys.contains(&"OF_ITS_OWN"), "{keys:?}");
        assert!(!keys.iter().any(|it| it.starts_with("CARGO")), "{keys:?}");
        let streamed = fs::File::create("/dev/null").unwrap();
        assert!(host.save(&sh("test \"$OF_ITS_OWN\" = 'a b'"), streamed).unwrap().status.success());
        // Whoever stops a script stops what it started.
        let group = host.read(&sh("ps -o pgid= -p $$ | tr -d ' '; echo $$")).unwrap();
        let (group, pid) = group.split_once('\n').unwrap();
        assert_eq!(group, pid);
    }

    #[test]
    fn what_is_held_on_this_machine_ends_with_its_value() {
        let host = here();
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock").display().to_string();
        let script = "exec 9>>$1; flock -n 9 && echo held || echo taken; cat >/dev/null";
        let flock = Cmd::new("bash").args(["-c", script, "lock", &lock]);
        let held = host.hold(&flock).unwrap();
        assert_eq!((held.answer(), host.hold(&flock).unwrap().answer()), ("held", "taken"));
        drop(held);
        assert_eq!(host.hold(&flock).unwrap().answer(), "held");
    }
}
