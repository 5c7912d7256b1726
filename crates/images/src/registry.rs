//! A registry, asked in its own protocol: no engine is needed.

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    path::{Path, PathBuf},
    time::Duration,
};

use oci_client::{
    Reference, RegistryOperation,
    client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    manifest::{
        IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest,
        OciManifest,
    },
    secrets::RegistryAuth,
};
use release::ImageRef;
use tokio::sync::OnceCell;

use crate::{
    Error, Layer, Login,
    layer::{Description, digest},
};

/// A registry, who we are to it, and for what machines its images shall be.
pub struct Registry {
    host: String,
    client: OnceCell<Client>,
    login: Login,
    auth: OnceCell<RegistryAuth>,
    architecture: String,
    ca_bundle: Option<PathBuf>,
}

/// An image that a registry has.
pub struct Remote {
    /// By digest.
    pub image: ImageRef,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    description: Description,
}

impl Registry {
    /// The registry that the name of a repository begins with; nothing is asked yet. The
    /// architecture is called as images call it: `amd64`. What certificates are trusted beside the
    /// well-known ones, `ca_bundle` holds.
    pub fn new(
        repository: &str,
        login: Login,
        architecture: &str,
        ca_bundle: Option<&Path>,
    ) -> Registry {
        let host = repository.split('/').next().unwrap_or(repository);
        Registry {
            host: host.to_owned(),
            client: OnceCell::new(),
            login,
            auth: OnceCell::new(),
            architecture: architecture.to_owned(),
            ca_bundle: ca_bundle.map(Path::to_owned),
        }
    }

    /// For what machines.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Looks an image up. One for other machines is none.
    pub async fn find(&self, image: &ImageRef) -> Result<Option<Remote>, Error> {
        let at = reference(image);
        let client = self.client().await?;
        let auth = self.auth().await?;
        let (manifest, digest, config) = match client.pull_manifest_and_config(&at, auth).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(refused("look up", image, &error)),
        };
        let refused =
            |why: String| Error::Registry { what: "look up", image: image.to_string(), why };
        let config = serde_json::from_str(&config).map_err(|it| refused(it.to_string()))?;
        let description = Description { manifest, config };
        if description.config["architecture"].as_str() != Some(&self.architecture) {
            return Ok(None);
        }
        let digest =
            digest.parse().map_err(|it: release::ParseImageRefError| refused(it.to_string()))?;
        Ok(Some(Remote {
            image: image.with_digest(digest),
            labels: description.labels(),
            description,
        }))
    }

    /// Makes an image of another one of the same repository and a layer on top of it, under a tag.
    /// Only the layer and the image's description travel.
    pub async fn add_layer(
        &self,
        base: &Remote,
        image: &ImageRef,
        layer: &Layer,
        labels: &BTreeMap<String, String>,
    ) -> Result<ImageRef, Error> {
        let at = reference(image);
        let client = self.client().await?;
        let (manifest, config) = base.description.with(layer, labels);
        let layer_digest = &manifest.layers.last().expect("one was added").digest;
        let content_type = manifest.media_type.as_deref().unwrap_or(OCI_IMAGE_MEDIA_TYPE);
        let content_type = content_type.parse().expect("a media type is plain text");
        let body = serde_json::to_vec(&OciManifest::Image(manifest.clone()))
            .expect("a manifest is plain data");
        let by_digest = digest(&body).parse().expect("this is what a digest looks like");

        let auth = self.auth().await?;
        let push = async {
            // Tells a refused login, which the requests below would not.
            client.auth(&at, auth, RegistryOperation::Push).await?;
            tokio::try_join!(
                client.push_blob(&at, &layer.bytes, layer_digest),
                client.push_blob(&at, &config, &manifest.config.digest),
            )?;
            // Last: it must not name what is not there.
            client.push_manifest_raw(&at, body, content_type).await
        };
        push.await.map_err(|error| refused("push", image, &error))?;
        Ok(image.with_digest(by_digest))
    }

    /// Copies an image, named by its digest, from another registry or another repository, under a
    /// tag: the same bytes, so its digest stays. What is there already does not travel. Answers what
    /// did, in bytes.
    pub async fn copy(
        &self,
        from: &Registry,
        source: &ImageRef,
        tag: &ImageRef,
    ) -> Result<(ImageRef, u64), Error> {
        let failed = |why: &str| Error::Registry {
            what: "copy",
            image: source.to_string(),
            why: why.to_owned(),
        };
        let digest = source.digest().ok_or_else(|| failed("it is not named by its digest"))?;
        let image = tag.with_digest(digest.clone());
        let (client, auth) = (self.client().await?, self.auth().await?);
        match client.fetch_manifest_digest(&reference(&image), auth).await {
            Ok(_) => return Ok((image, 0)),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(refused("look up", &image, &error)),
        }
        let (theirs, login) = (from.client().await?, from.auth().await?);
        let at = reference(source);
        let media_types = [IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE];
        let (body, _) = theirs
            .pull_manifest_raw(&at, login, &media_types)
            .await
            .map_err(|error| refused("copy", source, &error))?;
        let manifest: OciImageManifest =
            serde_json::from_slice(&body).map_err(|error| failed(&error.to_string()))?;

        let to = reference(tag);
        client
            .auth(&to, auth, RegistryOperation::Push)
            .await
            .map_err(|error| refused("push", &image, &error))?;
        let mut travelled = 0;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if has(client, &to, blob).await {
                continue;
            }
            // The registry may know it by another of its repositories.
            let mounted =
                self.host == from.host && client.mount_blob(&to, &at, &blob.digest).await.is_ok();
            if mounted {
                continue;
            }
            let mut bytes = Vec::new();
            theirs
                .pull_blob(&at, blob, &mut bytes)
                .await
                .map_err(|error| refused("copy", source, &error))?;
            client
                .push_blob(&to, &bytes, &blob.digest)
                .await
                .map_err(|error| refused("push", &image, &error))?;
            travelled += bytes.len() as u64;
        }
        let content_type = manifest.media_type.as_deref().unwrap_or(OCI_IMAGE_MEDIA_TYPE);
        let content_type = content_type.parse().expect("a media type is plain text");
        client
            .push_manifest_raw(&to, body, content_type)
            .await
            .map_err(|error| refused("push", &image, &error))?;
        Ok((image, travelled))
    }

    async fn auth(&self) -> Result<&RegistryAuth, Error> {
        let auth = async || {
            Ok(match self.login.user_and_password().await? {
                Some((user, password)) => RegistryAuth::Basic(user, password),
                None => RegistryAuth::Anonymous,
            })
        };
        self.auth.get_or_try_init(auth).await
    }

    /// One for all that is asked, so that its connections are used again.
    async fn client(&self) -> Result<&Client, Error> {
        self.client.get_or_try_init(async || self.connect()).await
    }

    fn connect(&self) -> Result<Client, Error> {
        let plain = is_loopback(&self.host);
        let architecture = self.architecture.clone();
        let mut extra_root_certificates = Vec::new();
        // To read them takes its time.
        if let Some(path) = self.ca_bundle.as_ref().filter(|_| !plain) {
            let data =
                std::fs::read(path).map_err(|source| Error::File { path: path.clone(), source })?;
            extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
        }
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            // A layer in one request, not in many pieces.
            use_monolithic_push: true,
            extra_root_certificates,
            platform_resolver: Some(Box::new(move |images| {
                let fits = images.iter().find(|it| {
                    it.platform.as_ref().is_some_and(|it| it.architecture == *architecture)
                });
                fits.map(|it| it.digest.clone())
            })),
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(Duration::from_mins(2)),
            ..ClientConfig::default()
        };
        Client::try_from(config).map_err(|error| {
            let why = deepest(&error);
            Error::Registry { what: "ask", image: self.host.clone(), why }
        })
    }
}

/// Whether a repository has a blob: its first byte is asked for, since what there is is answered with
/// all of it.
async fn has(client: &Client, repository: &Reference, blob: &OciDescriptor) -> bool {
    client.pull_blob_stream_partial(repository, blob, 0, Some(1)).await.is_ok()
}

/// Engines speak plain HTTP with these too.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// Put together, not parsed: the pattern that a parser would make takes half a second.
fn reference(image: &ImageRef) -> Reference {
    let registry = image.registry().to_owned();
    let repository = image.name().strip_prefix(&registry).unwrap_or(image.name());
    let repository = repository.trim_start_matches('/').to_owned();
    if let Some(digest) = image.digest() {
        return Reference::with_digest(registry, repository, digest.to_string());
    }
    let tag = image.tag().unwrap_or("latest").to_owned();
    Reference::with_tag(registry, repository, tag)
}

fn is_missing(error: &OciDistributionError) -> bool {
    use OciErrorCode::{ManifestUnknown, NameUnknown, NotFound};

    match error {
        OciDistributionError::RegistryError { envelope, .. } => envelope
            .errors
            .iter()
            .any(|it| [ManifestUnknown, NameUnknown, NotFound].contains(&it.code)),
        OciDistributionError::ServerError { code: 404, .. }
        | OciDistributionError::ImageManifestNotFoundError(_) => true,
        _ => false,
    }
}

fn refused(what: &'static str, image: &ImageRef, error: &OciDistributionError) -> Error {
    let why = match error {
        OciDistributionError::UnauthorizedError { .. } => "unauthorized".to_owned(),
        OciDistributionError::AuthenticationFailure(why) => format!("unauthorized: {why}"),
        OciDistributionError::ServerError { code, message, .. } => {
            // Some answer with a page of HTML.
            let message = message.lines().next().unwrap_or_default();
            format!("it answered {code} {message}").trim_end().to_owned()
        }
        other => deepest(other),
    };
    Error::Registry { what, image: image.to_string(), why }
}

/// What lies deepest is what went wrong: `Connection refused`.
fn deepest(error: &OciDistributionError) -> String {
    let mut deepest: &dyn StdError = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_plain_http() {
        for registry in ["127.0.0.1:5000", "localhost", "localhost:5000", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["europe-west1-docker.pkg.dev", "10.0.0.1:5000", "localhost.example"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }

    #[test]
    fn an_image_is_called_as_the_protocol_calls_it() {
        let by_digest = format!("localhost:5000/a/b@sha256:{}", "0".repeat(64));
        for name in ["127.0.0.1:5000/a/b:1", "eu.example/a:1", "docker.io/team/a:1", &by_digest] {
            assert_eq!(reference(&name.parse().unwrap()), name.parse().unwrap());
        }
        let short = reference(&"team/a:1".parse().unwrap());
        assert_eq!(short.whole(), "docker.io/team/a:1");
    }

    #[tokio::test]
    async fn a_registry_that_does_not_answer_is_named_with_the_image() {
        let registry = Registry::new("127.0.0.1:9/x", Login::None, "amd64", None);
        let image = "127.0.0.1:9/x/dagster-core:1".parse().unwrap();
        let error = registry.find(&image).await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "cannot look up `127.0.0.1:9/x/dagster-core:1`: Connection refused (os error 111)"
        );
    }
}
