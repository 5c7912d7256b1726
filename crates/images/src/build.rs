//! Builds with BuildKit, and tells how it goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::grpc::{
    BuildRef,
    build::{
        ImageBuildFrontendOptions, ImageBuildLoadInput, SecretSource,
        moby::buildkit::v1::{StatusRequest, StatusResponse, control_client::ControlClient},
    },
    driver::{Build as _, moby::Moby},
};
use http_body_util::Empty;
use hyper::{Method, Request, StatusCode, body::Bytes, header, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::{Context, Engine, Error};

/// How many lines of a failed step are shown.
const LOG_LINES: usize = 30;

/// An image to build.
pub struct Build {
    /// The files.
    pub context: Context,
    /// Its Dockerfile's path among them.
    pub dockerfile: PathBuf,
    /// The name it gets.
    pub tag: String,
    /// Values of its `ARG`s.
    pub args: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Files that steps may read and that do not become part of it, by their id.
    pub secrets: BTreeMap<String, PathBuf>,
}

/// What happens while an image is made or moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step began.
    Step(String),
    /// A step needed not be done again.
    Cached(String),
    /// A step said something.
    Log(String),
    /// Bytes moved so far, of those known of.
    Bytes {
        /// Moved.
        done: u64,
        /// To move.
        total: u64,
    },
}

impl Engine {
    /// Builds an image.
    pub async fn build(
        &self,
        build: &Build,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let id = BuildRef::random();
        let input = ImageBuildLoadInput::Upload(build.context.files.tar(Path::new("")).into());
        let solve = Moby::new(self.docker()).docker_build(
            &build.tag,
            frontend(build),
            input,
            None,
            Some(id.clone()),
        );
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let watch = tokio::spawn(watch(self.socket.clone(), id.into(), send));

        let mut steps = Steps::default();
        tokio::pin!(solve);
        let result = loop {
            tokio::select! {
                biased;
                Some(status) = receive.recv() => steps.note(status, progress),
                result = &mut solve => break result,
            }
        };
        // What was said last may still be under way; after an error it is what matters most.
        let last = async {
            while let Some(status) = receive.recv().await {
                steps.note(status, progress);
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), last).await;
        watch.abort();
        result.map_err(|error| {
            let why = match error {
                bollard::grpc::error::GrpcError::TonicStatus { err } => err.message().to_owned(),
                other => other.to_string(),
            };
            steps.failure(&build.dockerfile, &build.context.dockerfile, &why)
        })
    }
}

fn frontend(build: &Build) -> ImageBuildFrontendOptions {
    let mut options = ImageBuildFrontendOptions::builder().dockerfile(&build.dockerfile);
    for (key, value) in &build.args {
        options = options.buildarg(key, value);
    }
    for (key, value) in &build.labels {
        options = options.label(key, value);
    }
    for (id, path) in &build.secrets {
        options = options.set_secret(id, &SecretSource::File(path.clone()));
    }
    options.build()
}

/// Forwards the status of a build until it ends. bollard's build is silent; BuildKit tells how it
/// goes on a connection of its own.
async fn watch(
    socket: PathBuf,
    id: String,
    send: tokio::sync::mpsc::UnboundedSender<StatusResponse>,
) {
    let Ok(channel) = channel(socket).await else { return };
    let mut client = ControlClient::new(channel);
    // The build may not have begun when it is first asked for.
    for _ in 0..200 {
        let request = StatusRequest { r#ref: id.clone() };
        if let Ok(response) = client.status(request).await {
            let mut stream = response.into_inner();
            let mut seen = false;
            while let Ok(Some(status)) = stream.message().await {
                seen = true;
                if send.send(status).is_err() {
                    return;
                }
            }
            if seen {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn channel(socket: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { upgrade(&socket).await }
    });
    Endpoint::from_static("http://engine").connect_with_connector(connect).await
}

/// The engine speaks BuildKit's protocol on a connection that was upgraded at `/grpc`.
async fn upgrade(socket: &Path) -> std::io::Result<Upgraded> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method(Method::POST)
        .uri("/grpc")
        .header(header::HOST, "engine")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "h2c")
        .body(Empty::<Bytes>::new())
        .map_err(std::io::Error::other)?;
    let response = sender.send_request(request).await.map_err(std::io::Error::other)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(std::io::Error::other("the engine has no BuildKit"));
    }
    hyper::upgrade::on(response).await.map_err(std::io::Error::other)
}

/// The steps of a build so far.
#[derive(Default)]
struct Steps {
    names: BTreeMap<String, String>,
    told: BTreeSet<String>,
    logs: BTreeMap<String, Vec<String>>,
    failed: Option<String>,
}

impl Steps {
    fn note(&mut self, status: StatusResponse, progress: &mut impl FnMut(Progress)) {
        for vertex in status.vertexes {
            let began = vertex.started.is_some() || vertex.cached;
            // Only what a Dockerfile says is a step: `[core 2/5] RUN …`.
            let is_step = vertex.name.starts_with('[') && !vertex.name.starts_with("[internal]");
            if !vertex.error.is_empty() && !vertex.error.contains("context canceled") {
                self.failed.get_or_insert(vertex.digest.clone());
            }
            if is_step && began && self.told.insert(vertex.digest.clone()) {
                progress(Progress::Step(vertex.name.clone()));
            }
            if is_step && vertex.cached && self.told.insert(format!("{} cached", vertex.digest)) {
                progress(Progress::Cached(vertex.name.clone()));
            }
            self.names.insert(vertex.digest, vertex.name);
        }
        for log in status.logs {
            let text = String::from_utf8_lossy(&log.msg).into_owned();
            let lines = self.logs.entry(log.vertex).or_default();
            for line in text.lines().filter(|it| !it.trim().is_empty()) {
                lines.push(line.to_owned());
                progress(Progress::Log(line.to_owned()));
            }
        }
    }

    fn failure(&self, dockerfile: &Path, text: &str, why: &str) -> Error {
        let name = dockerfile.display().to_string();
        let failed = self.failed.as_ref().and_then(|it| Some((it, self.names.get(it)?)));
        match failed {
            Some((digest, step)) if step.starts_with('[') && !step.starts_with("[internal]") => {
                let log = self.logs.get(digest).map(Vec::as_slice).unwrap_or_default();
                let log = log[log.len().saturating_sub(LOG_LINES)..].to_vec();
                let instruction = step.split_once("] ").map_or(step.as_str(), |(_, it)| it);
                let place = match line_of(text, instruction) {
                    Some(line) => format!("{name}:{line}"),
                    None => name,
                };
                Error::Step { place, step: instruction.to_owned(), log }
            }
            // A base image is looked up before any step.
            _ if why.contains("failed to load cache key")
                || why.contains("load metadata for")
                || why.contains("failed to do request") =>
            {
                Error::Base { dockerfile: name, why: why.to_owned() }
            }
            _ => Error::Build { dockerfile: name, why: why.to_owned() },
        }
    }
}

/// The line on which an instruction begins. BuildKit names a step by its words, joined lines and
/// all, and with its `ARG`s filled in: the line with the most of them is the one.
fn line_of(dockerfile: &str, instruction: &str) -> Option<usize> {
    let words: Vec<&str> = instruction.split_whitespace().collect();
    let mut instructions: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (n, line) in (1..).zip(dockerfile.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let text = line.trim_end_matches('\\');
        match instructions.last_mut().filter(|_| goes_on) {
            Some((_, whole)) => *whole += &format!(" {text}"),
            None => instructions.push((n, text.to_owned())),
        }
        goes_on = line.ends_with('\\');
    }
    let alike = |text: &str| {
        let own: Vec<&str> = text.split_whitespace().collect();
        let same = own.first()?.eq_ignore_ascii_case(words.first()?);
        same.then(|| own.iter().zip(&words).take_while(|(a, b)| a == b).count())
    };
    instructions
        .iter()
        .filter_map(|(line, text)| Some((alike(text)?, *line)))
        .max_by_key(|(alike, line)| (*alike, std::cmp::Reverse(*line)))
        .map(|(_, line)| line)
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Step(text) | Progress::Cached(text) | Progress::Log(text) => {
                f.write_str(text)
            }
            #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
            Progress::Bytes { done, total } => {
                let mega = |bytes: u64| bytes as f64 / 1e6;
                write!(f, "{:.1} of {:.1} MB", mega(*done), mega(*total))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_found_in_its_dockerfile() {
        let text =
            "ARG BASE\nFROM $BASE\n# RUN no\nRUN one \\\n    --two\nCOPY a b\nRUN one three\n";
        assert_eq!(line_of(text, "RUN one --two"), Some(4));
        assert_eq!(line_of(text, "RUN one three"), Some(7));
        assert_eq!(line_of(text, "COPY a b"), Some(6));
        assert_eq!(line_of(text, "WORKDIR /x"), None);
    }
}
