//! A host, over one SSH connection.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Cmd, Error, Output, Target,
    cmd::last_lines,
    shell::{Shell, spawn},
};

/// A connected host.
///
/// The connection is one `ssh` process of ours, which all calls share. It ends when this value is
/// dropped, and by itself when this process dies: it runs a `cat` there whose input we hold. (A
/// command that runs at that moment runs to its end first.)
#[derive(Debug)]
pub struct Host {
    target: Target,
    /// Holds the control socket and forwarded sockets; short, since a socket's path must be.
    dir: TempDir,
    master: Child,
    /// Open in advance, for the next call.
    shell: Mutex<Option<Shell>>,
    sockets: AtomicUsize,
    /// Ports there that are reachable at any port here.
    ports: Mutex<BTreeMap<u16, u16>>,
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
        let temp = std::env::temp_dir();
        sweep(&temp, ABANDONED);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&temp)
            .map_err(|source| Error::File { path: temp, source })?;
        let said = dir.path().join("said");
        let stderr = std::fs::File::create(&said)
            .map_err(|source| Error::File { path: said.clone(), source })?;

        let mut args = target.options();
        args.extend(["-M", "-S"].map(OsString::from));
        args.push(socket(&dir).into());
        args.extend(["-o", "ControlPersist=no"].map(OsString::from));
        args.extend(["--".into(), target.destination.clone().into()]);
        args.push("echo connected && exec cat >/dev/null".into());
        let mut master = spawn(&args, stderr.into())?;
        // It appears once we are let in.
        let ready = socket(&dir);
        while !ready.exists() && matches!(master.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut host = Host {
            target: target.clone(),
            dir,
            master,
            shell: Mutex::default(),
            sockets: AtomicUsize::new(0),
            ports: Mutex::default(),
        };
        // Its round trips are made beside those that follow.
        host.replenish();
        let stdout = host.master.stdout.take().expect("it was asked for");
        // A login script may talk first.
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let connected = lines.any(|line| line == "connected");
        if connected {
            Ok(host)
        } else {
            let said = std::fs::read_to_string(said).unwrap_or_default();
            Err(Error::of_ssh(target, &said))
        }
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
        let call = self.call(cmd)?;
        let stdin = cmd.input().to_vec();
        self.check(call.finish(&call.expression().stdin_bytes(stdin).stdout_file(file))?)
    }

    /// Runs a command there whose input, too much for memory, is a file here; the caller judges
    /// how it ended.
    pub fn feed(&self, cmd: &Cmd, file: std::fs::File) -> Result<Output, Error> {
        let call = self.call(cmd)?;
        self.check(call.finish(&call.expression().stdin_file(file).stdout_capture())?)
    }

    /// Runs a command there, on our own terminal; it must succeed.
    pub fn stream(&self, cmd: &Cmd) -> Result<(), Error> {
        let status = self.call(cmd)?.status()?;
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

    /// Makes a socket there reachable through a socket here, whose path is the answer.
    pub fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        let n = self.sockets.fetch_add(1, Ordering::Relaxed);
        let local = self.dir.path().join(format!("s{n}"));
        let forward = format!("{}:{remote}", local.display());
        self.forward(&forward).map_err(|why| self.not_forwarded(remote, why))?;
        Ok(local)
    }

    /// Makes an address that the host reaches, as `172.18.0.2:5432`, reachable through a socket here
    /// that is called `name`. Answers the folder it is in, which nobody else may enter.
    pub fn forward_address(&self, remote: &str, name: &str) -> Result<PathBuf, Error> {
        let n = self.sockets.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.path().join(format!("s{n}"));
        std::fs::create_dir(&dir).map_err(|source| Error::File { path: dir.clone(), source })?;
        let forward = format!("{}:{remote}", dir.join(name).display());
        self.forward(&forward).map_err(|why| self.not_forwarded(remote, why))?;
        Ok(dir)
    }

    /// Makes a loopback port there reachable on our loopback: on `wanted`, or the next port that
    /// is free; 0 is any. Answers the port.
    pub fn forward_port(&self, remote: u16, wanted: u16) -> Result<u16, Error> {
        if let (0, Some(&local)) = (wanted, lock(&self.ports).get(&remote)) {
            return Ok(local);
        }
        let mut why = String::new();
        for local in candidates(wanted) {
            match self.forward(&format!("127.0.0.1:{local}:127.0.0.1:{remote}")) {
                Ok(()) => {
                    lock(&self.ports).insert(remote, local);
                    return Ok(local);
                }
                // Somebody took it between our look and ssh's.
                Err(said) => why = said,
            }
        }
        Err(self.not_forwarded(&format!("port {remote}"), why))
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
        self.control("check", &[]).is_ok()
    }

    /// Fails if the connection does not stand.
    pub fn require_alive(&self) -> Result<(), Error> {
        if self.is_alive() { Ok(()) } else { Err(self.lost()) }
    }

    fn lost(&self) -> Error {
        Error::Lost { host: self.target.destination.clone() }
    }

    /// A shell that is there already, or will soon be.
    fn shell(&self) -> Result<Shell, Error> {
        let spare = lock(&self.shell).take();
        let shell = match spare.and_then(Shell::waiting) {
            Some(it) => it,
            None => Shell::start(self.options())?,
        };
        self.replenish();
        Ok(shell)
    }

    /// Opens the shell of the next call.
    fn replenish(&self) {
        *lock(&self.shell) = Shell::start(self.options()).ok();
    }

    fn call(&self, cmd: &Cmd) -> Result<Cmd, Error> {
        Ok(Cmd::new("ssh").args(self.options()).arg(cmd.line()?).stdin(cmd.input()))
    }

    /// `ssh` exits 255 for itself, but so may the command: only a dead connection is ours to tell.
    fn check(&self, output: Output) -> Result<Output, Error> {
        if output.status.code() == Some(255) && !self.is_alive() {
            return Err(self.lost());
        }
        Ok(output)
    }

    /// The options of a call over the connection; it never opens one of its own.
    fn options(&self) -> Vec<OsString> {
        // The first value of an option wins: without the master this must fail, not connect anew.
        let mut args =
            ["-o", "ControlMaster=no", "-o", "ProxyCommand=false"].map(OsString::from).to_vec();
        args.extend(self.target.options());
        args.extend(["-S".into(), socket(&self.dir).into()]);
        args.extend(["-T".into(), "--".into(), self.target.destination.clone().into()]);
        args
    }

    fn forward(&self, forward: &str) -> Result<(), String> {
        self.control("forward", &["-L", forward])
    }

    fn control(&self, what: &str, args: &[&str]) -> Result<(), String> {
        let cmd = Cmd::new("ssh")
            .args(self.target.options())
            .arg("-S")
            .arg(socket(&self.dir))
            .args(["-O", what])
            .args(args.iter().copied())
            .arg("--")
            .arg(self.target.destination.as_str());
        let output = cmd.apart().output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(last_lines(&output.stderr, 1)) }
    }

    fn not_forwarded(&self, what: &str, why: String) -> Error {
        if !self.is_alive() {
            return self.lost();
        }
        Error::Forward { what: what.to_owned(), host: self.target.destination.clone(), why }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        /// It says goodbye to the far end, whose answer nobody needs.
        const GOODBYE: Duration = Duration::from_millis(200);

        if let Some(shell) = lock(&self.shell).take() {
            shell.end();
        }
        drop(self.master.stdin.take());
        let _ = self.control("exit", &[]);
        let since = Instant::now();
        while matches!(self.master.try_wait(), Ok(None)) && since.elapsed() < GOODBYE {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
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

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("c")
}

/// How the folders of connections are called.
const PREFIX: &str = "dd-";

/// A folder without a socket is not one that is being made, but older.
const ABANDONED: Duration = Duration::from_mins(10);

/// Removes the folders of programs that were killed: their `ssh` has ended, and its socket is gone.
fn sweep(temp: &Path, age: Duration) {
    for entry in std::fs::read_dir(temp).into_iter().flatten().flatten() {
        let dir = entry.path();
        let modified = entry.metadata().and_then(|it| it.modified());
        let old = modified.is_ok_and(|it| it.elapsed().is_ok_and(|it| it >= age));
        let ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        if ours && old && !dir.join("c").exists() {
            // Another user's stays.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// A port of this machine's loopback that is free right now: the wanted one, or the next.
pub fn free_port(wanted: u16) -> Option<u16> {
    candidates(wanted).next()
}

/// Ports to try, in order: those that are free right now.
pub(crate) fn candidates(wanted: u16) -> impl Iterator<Item = u16> {
    let free = |port: u16| {
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        listener.local_addr().ok().map(|it| it.port())
    };
    let range = if wanted == 0 { 0..=0 } else { wanted..=wanted.saturating_add(100) };
    range.filter_map(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_program_left_is_swept_and_what_stands_is_not() {
        let temp = tempfile::tempdir().unwrap();
        for (dir, file) in [("dd-killed", "said"), ("dd-stands", "c"), ("other", "said")] {
            std::fs::create_dir(temp.path().join(dir)).unwrap();
            std::fs::write(temp.path().join(dir).join(file), "").unwrap();
        }
        let left = || {
            let left = std::fs::read_dir(temp.path()).unwrap();
            let mut left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
            left.sort();
            left
        };
        sweep(temp.path(), ABANDONED);
        assert_eq!(left(), ["dd-killed", "dd-stands", "other"], "it may be being made");
        sweep(temp.path(), Duration::ZERO);
        assert_eq!(left(), ["dd-stands", "other"]);
    }
}
