//! A registry in this process, as far as a copy asks for one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

/// A registry. It ends with the test that started it.
pub(crate) struct StandIn {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By repository and digest, manifests by their tag as well.
    things: BTreeMap<(String, String), Bytes>,
    /// What changed something.
    log: Vec<String>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

impl StandIn {
    pub(crate) async fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                let answer = service_fn(move |request: Request<Incoming>| {
                    let shared = Arc::clone(&shared);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let mut state = shared.lock().unwrap();
                        Ok::<_, hyper::Error>(state.answer(&Request::from_parts(head, body)))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        StandIn { port, state }
    }

    /// Puts something there. Answers its digest.
    pub(crate) fn put(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let key = (repository.to_owned(), digest.clone());
        self.state.lock().unwrap().things.insert(key, Bytes::copy_from_slice(bytes));
        digest
    }

    pub(crate) fn get(&self, repository: &str, name: &str) -> Option<Bytes> {
        let key = (repository.to_owned(), name.to_owned());
        self.state.lock().unwrap().things.get(&key).cloned()
    }

    /// What changed something since it was asked last.
    pub(crate) fn log(&self) -> String {
        std::mem::take(&mut self.state.lock().unwrap().log).join("\n")
    }
}

impl State {
    fn answer(&mut self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let answer = |status: u16| Response::builder().status(status).header("location", "/v2/x");
        let nothing = || Full::new(Bytes::new());
        let path = request.uri().path().strip_prefix("/v2/").unwrap();
        let query = request.uri().query().unwrap_or_default().replace("%3A", ":");
        let query = query.replace("%2F", "/");
        let queried = |key: &str| {
            query.split('&').find_map(|it| it.strip_prefix(&format!("{key}="))).map(str::to_owned)
        };
        if let Some((repository, _)) = path.split_once("/blobs/uploads/") {
            if *request.method() == Method::PUT {
                let digest = queried("digest").unwrap();
                self.log.push(format!("put {repository} {}", &digest[7..14]));
                self.things.insert((repository.to_owned(), digest), request.body().clone());
                return answer(201).body(nothing()).unwrap();
            }
            let mounted = queried("mount").and_then(|digest| {
                let from = (queried("from")?, digest.clone());
                Some((digest, self.things.get(&from)?.clone()))
            });
            let Some((digest, bytes)) = mounted else {
                let to = format!("/v2/{repository}/blobs/uploads/1");
                let begun = Response::builder().status(202).header("location", to);
                return begun.body(nothing()).unwrap();
            };
            self.log.push(format!("mount {repository} {}", &digest[7..14]));
            self.things.insert((repository.to_owned(), digest), bytes);
            return answer(201).body(nothing()).unwrap();
        }
        let kind = if path.contains("/blobs/") { "/blobs/" } else { "/manifests/" };
        let Some((repository, name)) = path.split_once(kind) else {
            return answer(200).body(nothing()).unwrap();
        };
        if *request.method() == Method::PUT {
            self.log.push(format!("put {repository} {name}"));
            for name in [name.to_owned(), digest(request.body())] {
                self.things.insert((repository.to_owned(), name), request.body().clone());
            }
            return answer(201).body(nothing()).unwrap();
        }
        match self.things.get(&(repository.to_owned(), name.to_owned())) {
            None => answer(404).body(nothing()).unwrap(),
            Some(bytes) if request.headers().contains_key("range") => {
                answer(206).body(Full::new(bytes.slice(..1))).unwrap()
            }
            Some(bytes) => answer(200).body(Full::new(bytes.clone())).unwrap(),
        }
    }
}
