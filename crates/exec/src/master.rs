//! One SSH connection: an `ssh` process of ours that all calls share.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{Cmd, Error, Ssh, cmd::last_lines, host::lock, port::candidates, shell::spawn};

/// The connection. It ends when this value is dropped, and by itself when this process dies: it runs
/// a `cat` there whose input we hold. (A command that runs at that moment runs to its end first.)
#[derive(Debug)]
pub(crate) struct Master {
    ssh: Ssh,
    /// Holds the control socket and forwarded sockets; short, since a socket's path must be.
    dir: TempDir,
    process: Child,
    sockets: AtomicUsize,
    /// Ports there that are reachable at any port here.
    ports: Mutex<BTreeMap<u16, u16>>,
}

impl Master {
    /// Connects. Once it is let in, it takes calls, which are answered when it is [`ready`].
    ///
    /// [`ready`]: Master::ready
    pub(crate) fn start(ssh: &Ssh) -> Result<Master, Error> {
        let temp = std::env::temp_dir();
        sweep(&temp, ABANDONED);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&temp)
            .map_err(|source| Error::File { path: temp, source })?;
        let said = said(&dir);
        let stderr =
            std::fs::File::create(&said).map_err(|source| Error::File { path: said, source })?;
        let master = Cmd::new("ssh")
            .args(ssh.options())
            .args(["-M", "-S"])
            .arg(socket(&dir))
            .args(["-o", "ControlPersist=no", "--", &ssh.destination])
            .arg("echo connected && exec cat >/dev/null");
        let mut process = spawn(&master, stderr.into())?;
        // It appears once we are let in.
        let ready = socket(&dir);
        while !ready.exists() && matches!(process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Master {
            ssh: ssh.clone(),
            dir,
            process,
            sockets: AtomicUsize::new(0),
            ports: Mutex::default(),
        })
    }

    /// Waits until the far end answers.
    pub(crate) fn ready(&mut self) -> Result<(), Error> {
        let stdout = self.process.stdout.take().expect("it was asked for");
        // A login script may talk first.
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        if lines.any(|line| line == "connected") {
            return Ok(());
        }
        let said = std::fs::read_to_string(said(&self.dir)).unwrap_or_default();
        Err(Error::of_ssh(&self.ssh, &said))
    }

    /// A call over the connection, which lacks its line; it never opens one of its own.
    pub(crate) fn call(&self) -> Cmd {
        // The first value of an option wins: without the master this must fail, not connect anew.
        Cmd::new("ssh")
            .args(["-o", "ControlMaster=no", "-o", "ProxyCommand=false"])
            .args(self.ssh.options())
            .arg("-S")
            .arg(socket(&self.dir))
            .args(["-T", "--", &self.ssh.destination])
    }

    /// Makes a socket there reachable through a socket here.
    pub(crate) fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        let local = self.beside();
        let forward = format!("{}:{remote}", local.display());
        self.forward(&forward).map_err(|why| self.not_forwarded(remote, why))?;
        Ok(local)
    }

    /// Makes an address that the host reaches reachable through a socket here that is called `name`.
    /// Answers the folder it is in.
    pub(crate) fn forward_address(&self, remote: SocketAddr, name: &str) -> Result<PathBuf, Error> {
        let dir = self.beside();
        std::fs::create_dir(&dir).map_err(|source| Error::File { path: dir.clone(), source })?;
        let forward = format!("{}:{remote}", dir.join(name).display());
        self.forward(&forward).map_err(|why| self.not_forwarded(&remote.to_string(), why))?;
        Ok(dir)
    }

    /// Makes a loopback port there reachable on our loopback.
    pub(crate) fn forward_port(&self, remote: u16, wanted: u16) -> Result<u16, Error> {
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

    /// Whether it stands.
    pub(crate) fn is_alive(&self) -> bool {
        self.control("check", &[]).is_ok()
    }

    /// A path of its own in our folder.
    fn beside(&self) -> PathBuf {
        let n = self.sockets.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join(format!("s{n}"))
    }

    fn forward(&self, forward: &str) -> Result<(), String> {
        self.control("forward", &["-L", forward])
    }

    fn control(&self, what: &str, args: &[&str]) -> Result<(), String> {
        let cmd = Cmd::new("ssh")
            .args(self.ssh.options())
            .arg("-S")
            .arg(socket(&self.dir))
            .args(["-O", what])
            .args(args.iter().copied())
            .arg("--")
            .arg(self.ssh.destination.as_str());
        let output = cmd.apart().output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(last_lines(&output.stderr, 1)) }
    }

    fn not_forwarded(&self, what: &str, why: String) -> Error {
        let host = self.ssh.destination.clone();
        if !self.is_alive() {
            return Error::Lost { host };
        }
        Error::Forward { what: what.to_owned(), host, why }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        /// It says goodbye to the far end, whose answer nobody needs.
        const GOODBYE: Duration = Duration::from_millis(200);

        drop(self.process.stdin.take());
        let _ = self.control("exit", &[]);
        let since = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && since.elapsed() < GOODBYE {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("c")
}

fn said(dir: &TempDir) -> PathBuf {
    dir.path().join("said")
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
