//! Push and pull.

use std::collections::BTreeMap;

use bollard::{
    errors::Error as DockerError,
    query_parameters::{CreateImageOptionsBuilder, PushImageOptionsBuilder},
};
use futures_util::StreamExt as _;
use release::{Digest, ImageRef};

use crate::{Engine, Error, Login, Progress};

/// Bytes moved, of all layers seen so far.
#[derive(Default)]
struct Layers(BTreeMap<String, (i64, i64)>);

impl Layers {
    fn note(
        &mut self,
        id: Option<String>,
        done: Option<i64>,
        total: Option<i64>,
    ) -> Option<Progress> {
        self.0.insert(id?, (done?, total?));
        let (done, total) =
            self.0.values().fold((0, 0), |(done, total), it| (done + it.0, total + it.1.max(it.0)));
        Some(Progress::Bytes { done: done.unsigned_abs(), total: total.unsigned_abs() })
    }
}

impl Engine {
    /// Pushes an image by its tag. Answers its digest in the registry.
    pub async fn push(
        &self,
        image: &ImageRef,
        login: &Login,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Digest, Error> {
        let refused = |why: String| Error::Registry { what: "push", image: image.to_string(), why };
        let options = PushImageOptionsBuilder::new().tag(image.tag().unwrap_or("latest")).build();
        let credentials = login.credentials().await?;
        let mut stream = self.docker().push_image(image.name(), Some(options), credentials);
        let mut layers = Layers::default();
        let mut digest = None;
        while let Some(info) = stream.next().await {
            let info = info.map_err(|error| refused(words(error)))?;
            if let Some(error) = info.error_detail.and_then(|it| it.message) {
                return Err(refused(error));
            }
            // The engine's last line: `tag: digest: sha256:… size: 1359`.
            if let Some((_, rest)) =
                info.status.as_deref().unwrap_or_default().split_once("digest: ")
            {
                digest = rest.split_whitespace().next().and_then(|it| it.parse().ok());
            }
            let detail = info.progress_detail.unwrap_or_default();
            // bollard does not tell which layer: its size does.
            let layer = detail.total.map(|it| it.to_string());
            if let Some(it) = layers.note(layer, detail.current, detail.total) {
                progress(it);
            }
        }
        digest.ok_or_else(|| refused("the engine did not tell its digest".to_owned()))
    }

    /// Pulls an image.
    pub async fn pull(
        &self,
        image: &ImageRef,
        login: &Login,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let refused = |why: String| Error::Registry { what: "pull", image: image.to_string(), why };
        let options = CreateImageOptionsBuilder::new().from_image(&image.to_string()).build();
        let credentials = login.credentials().await?;
        let mut stream = self.docker().create_image(Some(options), None, credentials);
        let mut layers = Layers::default();
        while let Some(info) = stream.next().await {
            let info = info.map_err(|error| refused(words(error)))?;
            if let Some(error) = info.error_detail.and_then(|it| it.message) {
                return Err(refused(error));
            }
            let detail = info.progress_detail.unwrap_or_default();
            if let Some(it) = layers.note(info.id, detail.current, detail.total) {
                progress(it);
            }
        }
        Ok(())
    }
}

/// The engine's words, without its wrapping.
fn words(error: DockerError) -> String {
    match error {
        DockerError::DockerStreamError { error } => error,
        DockerError::DockerResponseServerError { message, .. } => message,
        other => other.to_string(),
    }
}
