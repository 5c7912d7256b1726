//! What can go wrong when a command is run.

use std::{io, path::PathBuf};

use crate::{Ssh, Status};

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is not on this machine.
    #[error("`{program}` is not installed on this machine")]
    #[non_exhaustive]
    Missing {
        /// Its name.
        program: String,
    },
    /// It could not be started, or its pipes broke.
    #[error("cannot run `{cmd}`")]
    #[non_exhaustive]
    Run {
        /// The command.
        cmd: String,
        /// Why.
        source: io::Error,
    },
    /// It ended badly.
    #[error("`{cmd}` failed with {status}{}", said.split_inclusive('\n').fold(String::new(), |all, line| all + "\n  " + line.trim_end()))]
    #[non_exhaustive]
    Failed {
        /// The command.
        cmd: String,
        /// How it ended.
        status: Status,
        /// The last lines of its standard error.
        said: String,
    },
    /// A word of it holds a NUL byte, which no program can be given.
    #[error("`{cmd}` holds a NUL byte")]
    #[non_exhaustive]
    Nul {
        /// The command.
        cmd: String,
    },
    /// It has variables, which would be readable in the arguments at the far end.
    #[error("`{cmd}` cannot take variables over SSH")]
    #[non_exhaustive]
    Environment {
        /// The command.
        cmd: String,
    },
    /// A file of ours could not be made.
    #[error("cannot write `{}`", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host was not reached.
    #[error("cannot reach `{host}`: {why}")]
    #[non_exhaustive]
    Unreachable {
        /// The host.
        host: String,
        /// In `ssh`'s words.
        why: String,
    },
    /// The host's key is not the one that is known, or none is known.
    #[error("the host key of `{host}` is {}", if *changed { "not the one that is known" } else { "not known" })]
    #[non_exhaustive]
    HostKey {
        /// The host.
        host: String,
        /// Whether another key is known.
        changed: bool,
        /// The file in which it was looked up.
        known_hosts: PathBuf,
    },
    /// The host did not let us in.
    #[error("`{host}` refuses the login: {why}")]
    #[non_exhaustive]
    Refused {
        /// The host.
        host: String,
        /// In `ssh`'s words.
        why: String,
        /// The key that was shown.
        key: Option<PathBuf>,
    },
    /// The connection was there, and is not any more.
    #[error("lost the connection to `{host}`")]
    #[non_exhaustive]
    Lost {
        /// The host.
        host: String,
    },
    /// A port or socket could not be forwarded.
    #[error("cannot forward {what} of `{host}`: {why}")]
    #[non_exhaustive]
    Forward {
        /// The port or socket.
        what: String,
        /// The host.
        host: String,
        /// In `ssh`'s words.
        why: String,
    },
}

impl Error {
    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Missing { program } => {
                let package = match program.as_str() {
                    "ssh" | "ssh-keygen" => "openssh-client",
                    other => other,
                };
                Some(format!("on Debian: sudo apt-get install {package}"))
            }
            Error::Unreachable { .. } => Some(
                "check DEPLOY_HOST and DEPLOY_SSH_PORT, that the VM runs, and that its firewall lets \
                 SSH through"
                    .to_owned(),
            ),
            Error::HostKey { host, changed: false, known_hosts } => Some(format!(
                "look at the VM's own key (its serial console shows it), then add it: \
                 ssh-keyscan {} >> {}",
                bare(host),
                known_hosts.display()
            )),
            Error::HostKey { host, changed: true, known_hosts } => Some(format!(
                "somebody may be listening in. If the VM was made anew, remove its old key: \
                 ssh-keygen -R {} -f {}",
                bare(host),
                known_hosts.display()
            )),
            Error::Refused { key: Some(key), .. } => Some(format!(
                "the public half of `{}` must be among the host's authorized keys for this user",
                key.display()
            )),
            Error::Refused { key: None, .. } => {
                Some("name a key with DEPLOY_SSH_KEY, or load one into your SSH agent".to_owned())
            }
            Error::Lost { .. } => {
                Some("run the same command again: it goes on from what it finds there".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the host could not be talked to.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::HostKey { .. }
                | Error::Refused { .. }
                | Error::Lost { .. }
        )
    }

    /// What `ssh` meant. Its exit status is 255 for all of these, so its text decides; the texts
    /// are those of OpenSSH 8 to 10.
    pub(crate) fn of_ssh(target: &Ssh, said: &str) -> Error {
        let host = target.destination.clone();
        let known_hosts =
            target.known_hosts.clone().unwrap_or_else(|| PathBuf::from("~/.ssh/known_hosts"));
        let why = || {
            let line = said.lines().rev().find(|line| !line.trim().is_empty());
            line.unwrap_or("no answer").trim().trim_start_matches("ssh: ").to_owned()
        };
        if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            Error::HostKey { host, changed: true, known_hosts }
        } else if said.contains("Host key verification failed")
            || said.contains("host key is known for")
        {
            Error::HostKey { host, changed: false, known_hosts }
        } else if said.contains("Permission denied") || said.contains("Too many authentication") {
            Error::Refused { host, why: why(), key: target.key.clone() }
        } else {
            Error::Unreachable { host, why: why() }
        }
    }
}

/// The host without its user.
fn bare(destination: &str) -> &str {
    destination.rsplit_once('@').map_or(destination, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, expected: &str) {
        let target = Ssh {
            destination: "ana@vm".into(),
            port: None,
            key: Some("key".into()),
            known_hosts: None,
            proxy: None,
        };
        assert_eq!(Error::of_ssh(&target, said).to_string(), expected);
    }

    #[test]
    fn ssh_is_understood() {
        check(
            "ssh: connect to host vm port 22: Connection refused\r\n",
            "cannot reach `ana@vm`: connect to host vm port 22: Connection refused",
        );
        check(
            "ssh: Could not resolve hostname vm: Name or service not known",
            "cannot reach `ana@vm`: Could not resolve hostname vm: Name or service not known",
        );
        check(
            "No ED25519 host key is known for vm and you have requested strict checking.\nHost key verification failed.\n",
            "the host key of `ana@vm` is not known",
        );
        check(
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "the host key of `ana@vm` is not the one that is known",
        );
        check(
            "ana@vm: Permission denied (publickey).",
            "`ana@vm` refuses the login: ana@vm: Permission denied (publickey).",
        );
        check("", "cannot reach `ana@vm`: no answer");
    }
}
