//! How a host is reached.

use std::{ffi::OsString, path::PathBuf};

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This machine: nothing has to be connected.
    Local {
        /// What runs here as it would there has these variables; of ours it has only those that a
        /// login has too.
        variables: Vec<(&'static str, String)>,
    },
    /// Another machine.
    Ssh(Ssh),
}

impl Target {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        match self {
            Target::Local { .. } => "this machine",
            Target::Ssh(ssh) => &ssh.destination,
        }
    }
}

/// A host to connect to with the system's `ssh`; what is not given comes from `~/.ssh/config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// `host`, `user@host`, or an alias of `~/.ssh/config`.
    pub destination: String,
    /// The port.
    pub port: Option<u16>,
    /// The private key's file.
    pub key: Option<PathBuf>,
    /// The only file in which the host's key is looked up.
    pub known_hosts: Option<PathBuf>,
    /// A command that carries the connection, e.g. through Google's Identity-Aware Proxy.
    pub proxy: Option<String>,
}

impl Ssh {
    /// The options of every `ssh` call: never ask, never trust a host key that is not known, and
    /// notice within a minute when the line is dead.
    pub(crate) fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        let mut option = |text: String| options.extend(["-o".into(), text.into()]);
        option("BatchMode=yes".into());
        option("StrictHostKeyChecking=yes".into());
        option("ConnectTimeout=15".into());
        option("Compression=yes".into());
        option("ServerAliveInterval=10".into());
        option("ServerAliveCountMax=3".into());
        option("ExitOnForwardFailure=yes".into());
        if let Some(file) = &self.known_hosts {
            option(format!("UserKnownHostsFile={}", quoted(&file.display().to_string())));
            option("GlobalKnownHostsFile=/dev/null".into());
        }
        if let Some(proxy) = &self.proxy {
            option(format!("ProxyCommand={proxy}"));
        }
        if let Some(key) = &self.key {
            option("IdentitiesOnly=yes".into());
            options.extend(["-i".into(), key.into()]);
        }
        if let Some(port) = self.port {
            options.extend(["-p".into(), port.to_string().into()]);
        }
        options
    }
}

/// A value of `ssh`'s configuration may hold spaces only in quotes.
fn quoted(value: &str) -> String {
    if value.contains(' ') { format!("\"{value}\"") } else { value.to_owned() }
}
