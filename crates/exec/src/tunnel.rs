//! A forwarded port that stays when this program ends.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Stdio, time::Duration};

use crate::{Cmd, Error, Ssh, Target, port::candidates};

/// A forwarded port that stays when this program ends. A file keeps its process and port.
#[derive(Debug)]
pub struct Tunnel;

impl Tunnel {
    /// Makes the host's loopback port `remote` reachable on ours: on `wanted`, or the next that is
    /// free. The tunnel that `state` knows of is used, if it stands. Answers the port; on this machine
    /// that is the port itself, and there is no tunnel.
    pub fn open(target: &Target, state: &Path, remote: u16, wanted: u16) -> Result<u16, Error> {
        let Target::Ssh(ssh) = target else { return Ok(remote) };
        if let Some((_, port)) = standing(state) {
            return Ok(port);
        }
        let mut why = String::from("no port is free");
        for port in candidates(wanted) {
            match start(ssh, state, remote, port) {
                Ok(()) => return Ok(port),
                Err(Started::Not(error)) => return Err(error),
                Err(Started::Said(said)) if said.contains("in use") => why = said,
                Err(Started::Said(said)) => return Err(Error::of_ssh(ssh, &said)),
            }
        }
        let host = ssh.destination.clone();
        Err(Error::Forward { what: format!("port {remote}"), host, why })
    }

    /// Closes the tunnel that `state` knows of, if it stands.
    pub fn close(state: &Path) -> Result<(), Error> {
        if let Some((pid, _)) = standing(state) {
            Cmd::new("kill").arg(pid.to_string()).read()?;
        }
        let _ = fs::remove_file(state);
        Ok(())
    }
}

enum Started {
    Not(Error),
    Said(String),
}

fn start(ssh: &Ssh, state: &Path, remote: u16, port: u16) -> Result<(), Started> {
    let file = |source| Started::Not(Error::File { path: state.to_owned(), source });
    let log = state.with_extension("log");
    let stderr = fs::File::create(&log).map_err(file)?;
    // `ssh` makes a control socket once the port is its own. Somebody else may listen there too.
    let dir = tempfile::tempdir().map_err(file)?;
    let listens = dir.path().join("c");
    let tunnel = Cmd::new("ssh")
        .args(ssh.options())
        .args(["-N", "-T", "-M", "-o", "ControlPersist=no", "-S"])
        .arg(&listens)
        .arg("-L")
        .arg(format!("127.0.0.1:{port}:127.0.0.1:{remote}"))
        .args(["--", &ssh.destination]);
    let mut process = tunnel
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        // Of a group of its own: Ctrl-C in this terminal is not for it.
        .process_group(0)
        .spawn()
        .map_err(|source| Started::Not(tunnel.not_run(source)))?;
    while !listens.exists() {
        if let Ok(Some(_)) = process.try_wait() {
            return Err(Started::Said(fs::read_to_string(&log).unwrap_or_default()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(state, format!("{} {port}\n", process.id())).map_err(file)
}

/// The process and port of a tunnel that stands.
fn standing(state: &Path) -> Option<(u32, u16)> {
    let text = fs::read_to_string(state).ok()?;
    let (pid, port) = text.trim().split_once(' ')?;
    let (pid, port) = (pid.parse().ok()?, port.parse().ok()?);
    // The number may belong to another process by now.
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).into_owned();
    (line.starts_with("ssh\0") && line.contains(&format!("127.0.0.1:{port}:")))
        .then_some((pid, port))
}
