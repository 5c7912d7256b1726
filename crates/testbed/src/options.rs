//! What a testbed shall be.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What a testbed shall be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name: lower-case letters, digits and dashes.
    pub name: String,
    /// The Compose its VM has.
    pub compose: Compose,
    /// The login its registry asks for; none by default.
    pub registry_login: Option<Login>,
    /// How many bytes the VM's engine may store, which then does so in memory, until it is stopped.
    pub disk: Option<u64>,
    /// The certificates this machine trusts, for what the making of images downloads.
    pub ca_bundle: Option<PathBuf>,
}

impl Options {
    /// A testbed of that name, with all else as usual.
    pub fn named(name: impl Into<String>) -> Options {
        let debians = Path::new("/etc/ssl/certs/ca-certificates.crt");
        Options {
            name: name.into(),
            compose: Compose::V1,
            registry_login: None,
            disk: None,
            ca_bundle: debians.is_file().then(|| debians.to_owned()),
        }
    }
}

/// A Compose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compose {
    /// `docker-compose` 1.29, as Debian 12 packages it.
    V1,
    /// `docker compose`, the plugin.
    V2,
}

impl Compose {
    pub(crate) fn stage(self) -> &'static str {
        match self {
            Compose::V1 => "v1",
            Compose::V2 => "v2",
        }
    }
}

/// A user of the registry. It never prints its password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login(`{}`)", self.user)
    }
}

/// What happens while a testbed is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A line to keep.
    Said(String),
    /// What is going on just now, until the next event.
    Now(String),
}
