//! A web server that says what a test tells it to.

#![expect(clippy::unwrap_used, reason = "a tool of tests")]

use std::sync::{Arc, Mutex};

use dagster::Client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The answers to give, one a request; status 0 means to hang up instead.
pub(crate) struct Script(Vec<(u16, String)>);

/// A script under way.
pub(crate) struct Serving {
    bodies: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// An answer as GraphQL packs it.
pub(crate) fn answer(data: &Value) -> String {
    json!({ "data": data }).to_string()
}

impl Script {
    pub(crate) fn new<const N: usize>(answers: [(u16, &str); N]) -> Script {
        Script(answers.into_iter().map(|(status, body)| (status, body.to_owned())).collect())
    }

    pub(crate) async fn serve(self) -> (Client, Serving) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let bodies = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&bodies);
        let task = tokio::spawn(async move {
            for (status, body) in self.0 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let asked = read(&mut stream).await;
                log.lock().unwrap().push(asked);
                if status != 0 {
                    let answer = format!(
                        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        (Client::new(port), Serving { bodies, task })
    }
}

impl Serving {
    /// How many requests came.
    pub(crate) fn asked(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }

    /// The variables of a request, counted from 0.
    pub(crate) fn variables(&self, n: usize) -> String {
        let body: Value = serde_json::from_str(&self.bodies.lock().unwrap()[n]).unwrap();
        body["variables"].to_string()
    }

    /// Waits until the script is over and its port closed.
    pub(crate) async fn stop(self) {
        self.task.await.unwrap();
    }
}

/// Reads one request; returns its body.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|it| {
                    it.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                return body.to_owned();
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the request broke off");
    }
}
