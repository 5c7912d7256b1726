//! What can go wrong with an engine, an image or a registry.

use std::path::PathBuf;

/// Why an image is not where it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No engine answers.
    #[error("the Docker engine at `{socket}` does not answer")]
    #[non_exhaustive]
    NoEngine {
        /// Its socket.
        socket: String,
        /// Why.
        source: bollard::errors::Error,
    },
    /// The engine answered with an error.
    #[error("the Docker engine failed to {what}")]
    #[non_exhaustive]
    Engine {
        /// What it was asked.
        what: String,
        /// Its answer.
        source: bollard::errors::Error,
    },
    /// A file of the build could not be read.
    #[error("cannot read `{}`", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a `.dockerignore` is no pattern.
    #[error("`{}`: `{pattern}` is no pattern", path.display())]
    #[non_exhaustive]
    Pattern {
        /// The file.
        path: PathBuf,
        /// The line.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
    /// A step of the Dockerfile failed.
    #[error("{place} failed: {step}{}", log.iter().fold(String::new(), |all, line| all + "\n  " + line))]
    #[non_exhaustive]
    Step {
        /// `compose/core.Dockerfile:12`, as far as the line is known.
        place: String,
        /// The instruction.
        step: String,
        /// The last lines it said.
        log: Vec<String>,
    },
    /// The build failed outside of its steps.
    #[error("cannot build `{dockerfile}`: {why}")]
    #[non_exhaustive]
    Build {
        /// The Dockerfile.
        dockerfile: String,
        /// In BuildKit's words.
        why: String,
    },
    /// The base image is not to be had.
    #[error("no registry gives the base image that `{dockerfile}` asks for: {why}")]
    #[non_exhaustive]
    Base {
        /// The Dockerfile.
        dockerfile: String,
        /// In BuildKit's words.
        why: String,
    },
    /// A registry did not take or give an image.
    #[error("cannot {what} `{image}`: {why}")]
    #[non_exhaustive]
    Registry {
        /// `push`, `pull`, `copy`, `look up` or `ask`.
        what: &'static str,
        /// The image, or the registry.
        image: String,
        /// In its words or the engine's.
        why: String,
    },
    /// An image was built for other machines than the one it shall run on.
    #[error("`{image}` was built here, but not for {wanted}, which the host is")]
    Architecture {
        /// The image.
        image: String,
        /// The architecture of the host.
        wanted: String,
    },
    /// Google gave no token.
    #[error("no login for Google's registry on this machine")]
    #[non_exhaustive]
    Google {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoEngine { source, .. } if source.to_string().contains("ermission denied") => {
                Some("let your user use it: sudo usermod -aG docker $USER, then log in again".into())
            }
            Error::NoEngine { .. } => {
                Some("start it: sudo systemctl start docker (or open Docker Desktop)".into())
            }
            Error::Base { .. } => Some(
                "check the network, or name an image that this machine has with DEPLOY_PYTHON_IMAGE"
                    .into(),
            ),
            Error::Registry { why, .. } if why.contains("nauthorized") || why.contains("denied") || why.contains("no basic auth") => {
                Some(
                    "check DEPLOY_REGISTRY_USER and DEPLOY_REGISTRY_PASSWORD; for Artifact Registry, \
                     `gcloud auth application-default login` and the role Artifact Registry Writer"
                        .into(),
                )
            }
            Error::Registry { .. } => {
                Some("check DEPLOY_REGISTRY, and that the registry is reachable from here".into())
            }
            Error::Architecture { wanted, .. } => Some(format!(
                "deploy once from a machine that is {wanted} too (CI, say): later changes of the \
                 code need no build here"
            )),
            Error::Google { .. } => Some("log in: gcloud auth application-default login".into()),
            _ => None,
        }
    }
}
