//! An engine, and what it has.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as DockerError,
    query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder},
};
use release::{Digest, ImageRef};

use crate::Error;

/// A Docker engine, here or at the end of a forwarded socket.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    pub(crate) socket: PathBuf,
}

/// An image the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration; the engine's own name for it.
    pub id: String,
    /// The digests under which registries know it, of the repository that was asked for.
    pub digests: Vec<Digest>,
    /// Its size, unpacked, in bytes.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// This machine's.
    pub async fn local() -> Result<Engine, Error> {
        Engine::at(Path::new("/var/run/docker.sock")).await
    }

    /// The engine behind a socket.
    pub async fn at(socket: &Path) -> Result<Engine, Error> {
        /// Covers the time until an answer begins, in seconds: a push is silent while it packs.
        const TIMEOUT: u64 = 1800;

        let name = socket.display().to_string();
        let no_engine = |source| Error::NoEngine { socket: name.clone(), source };
        let docker = Docker::connect_with_unix(&name, TIMEOUT, API_DEFAULT_VERSION)
            .map_err(no_engine)?
            .with_request_modifier(url_safe_auth)
            .negotiate_version()
            .await
            .map_err(no_engine)?;
        Ok(Engine { docker, socket: socket.to_owned() })
    }

    /// The client itself.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Looks an image up.
    pub async fn image(&self, image: &ImageRef) -> Result<Option<Image>, Error> {
        let found = match self.docker.inspect_image(&image.to_string()).await {
            Ok(found) => found,
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {
                return Ok(None);
            }
            Err(source) => {
                return Err(Error::Engine { what: format!("look up `{image}`"), source });
            }
        };
        let digests = found
            .repo_digests
            .unwrap_or_default()
            .iter()
            .filter_map(|it| it.parse::<ImageRef>().ok())
            .filter(|it| it.name() == image.name())
            .filter_map(|it| it.digest().cloned())
            .collect();
        Ok(Some(Image {
            id: found.id.unwrap_or_default(),
            digests,
            size: found.size.unwrap_or_default().unsigned_abs(),
            labels: found.config.and_then(|it| it.labels).unwrap_or_default().into_iter().collect(),
        }))
    }

    /// Removes images of this one's name but for itself, the newest `keep` others, and those that
    /// containers are made of.
    pub async fn prune(&self, image: &ImageRef, keep: usize) -> Result<(), Error> {
        let failed = |what: &str| {
            let what = format!("{what} `{}`", image.name());
            move |source| Error::Engine { what, source }
        };
        let filters = HashMap::from([("reference", vec![image.name()])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let mut found =
            self.docker.list_images(Some(options)).await.map_err(failed("list images of"))?;
        found.sort_by_key(|it| Reverse(it.created));
        let own = image.to_string();
        let others = found.iter().filter(|it| !it.repo_tags.contains(&own));
        for tag in others.skip(keep).flat_map(|it| &it.repo_tags) {
            let options = RemoveImageOptionsBuilder::new().build();
            match self.docker.remove_image(tag, Some(options), None).await {
                // Somebody else removed it, or a container is made of it.
                Ok(_)
                | Err(DockerError::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
                Err(source) => return Err(failed("remove an image of")(source)),
            }
        }
        Ok(())
    }
}

/// bollard writes logins in plain base64, the engine reads the URL-safe alphabet: a password with
/// the wrong bytes at the wrong place would be no login at all.
fn url_safe_auth(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    for name in ["x-registry-auth", "x-registry-config"] {
        let Some(value) = request.headers().get(name) else { continue };
        let fixed = value.to_str().map(|it| it.replace('+', "-").replace('/', "_"));
        if let Some(fixed) = fixed.ok().and_then(|it| it.parse().ok()) {
            request.headers_mut().insert(name, fixed);
        }
    }
    request
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine(`{}`)", self.socket.display())
    }
}
