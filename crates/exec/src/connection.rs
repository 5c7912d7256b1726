//! What carries calls to a host: one SSH connection, or nothing at all if it is this machine.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    Cmd, Error, Target,
    master::Master,
    shell::{Shell, WAIT},
};

/// A way to a host.
#[derive(Debug)]
pub(crate) enum Connection {
    Local { variables: Vec<(&'static str, String)> },
    Ssh(Master),
}

/// Where something listens that a host reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In a folder that nobody else may enter, at a socket of the name that was asked for.
    Socket(PathBuf),
    /// Where it listens itself.
    Tcp(SocketAddr),
}

/// Makes of its first argument, a line for `bash`, what sshd would: it has the variables of a login,
/// and those that follow as arguments. Compose would prefer any other of ours to those in its files.
const LOGIN: &str = r#"cd && exec env -i HOME="$HOME" PATH="$PATH" \
${USER+"USER=$USER"} ${LOGNAME+"LOGNAME=$LOGNAME"} ${LANG+"LANG=$LANG"} \
${DOCKER_CONFIG+"DOCKER_CONFIG=$DOCKER_CONFIG"} "$@" bash -c "$0""#;

impl Connection {
    /// Opens it; waits until we are let in.
    pub(crate) fn open(target: &Target) -> Result<Connection, Error> {
        Ok(match target {
            Target::Local { variables } => Connection::Local { variables: variables.clone() },
            Target::Ssh(ssh) => Connection::Ssh(Master::start(ssh)?),
        })
    }

    /// Waits until it carries calls.
    pub(crate) fn ready(&mut self) -> Result<(), Error> {
        match self {
            Connection::Local { .. } => Ok(()),
            Connection::Ssh(master) => master.ready(),
        }
    }

    /// Starts a shell there that waits to be told its one command.
    pub(crate) fn shell(&self) -> Result<Shell, Error> {
        Shell::start(&match self {
            Connection::Local { variables } => local().arg(WAIT).args(pairs(variables)),
            Connection::Ssh(master) => master.call().arg(format!("exec bash -c '{WAIT}'")),
        })
    }

    /// What runs a command there, if it is run here; its input is the command's.
    pub(crate) fn call(&self, cmd: &Cmd) -> Result<Cmd, Error> {
        let line = cmd.line()?;
        let call = match self {
            Connection::Local { variables } => local().arg(line).args(pairs(variables)),
            Connection::Ssh(master) => master.call().arg(line),
        };
        Ok(call.stdin(cmd.input()))
    }

    /// A socket here that leads to one there.
    pub(crate) fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        match self {
            Connection::Local { .. } => Ok(remote.into()),
            Connection::Ssh(master) => master.forward_socket(remote),
        }
    }

    /// Where we reach an address that the host reaches.
    pub(crate) fn forward_address(&self, remote: SocketAddr, name: &str) -> Result<Address, Error> {
        match self {
            Connection::Local { .. } => Ok(Address::Tcp(remote)),
            Connection::Ssh(master) => master.forward_address(remote, name).map(Address::Socket),
        }
    }

    /// A port of our loopback that leads to one of the host's.
    pub(crate) fn forward_port(&self, remote: u16, wanted: u16) -> Result<u16, Error> {
        match self {
            Connection::Local { .. } => Ok(remote),
            Connection::Ssh(master) => master.forward_port(remote, wanted),
        }
    }

    /// Whether it stands.
    pub(crate) fn is_alive(&self) -> bool {
        match self {
            Connection::Local { .. } => true,
            Connection::Ssh(master) => master.is_alive(),
        }
    }
}

fn local() -> Cmd {
    Cmd::new("sh").args(["-c", LOGIN])
}

fn pairs(variables: &[(&'static str, String)]) -> impl Iterator<Item = String> {
    variables.iter().map(|(key, value)| format!("{key}={value}"))
}
