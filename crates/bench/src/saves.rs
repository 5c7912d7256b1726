//! `dev` under saves, and what it is compared with: Dagster's own `dagster dev`, reloaded by hand.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use dagster::{Client, RunId, RunStatus};
use exec::{Cmd, Line, Running};
use serde_json::json;

use crate::{
    Checkout,
    checkout::{comes_true, runtime},
};

const LOCATION: &str = "dagster_core";

/// The file that is saved.
const FILE: &str = "dagster_core/assets.py";

const LIMIT: Duration = Duration::from_mins(2);

/// So long a start may take: on a new machine it makes images from Debian's packages first.
const START: Duration = Duration::from_mins(15);

/// A platform on this machine that serves a checkout's code.
pub struct Dev<'a> {
    checkout: &'a Checkout,
    running: Running,
    client: Client,
    runtime: tokio::runtime::Runtime,
    kind: Kind,
    /// The code before any save.
    code: String,
    /// What it has said so far.
    pub said: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containers,
    Processes,
    /// Dagster's own, which is told to reload.
    ByHand,
}

/// Seconds from a save until Dagster serves, or tells, what was saved; and what became of a run that
/// was in flight.
pub struct Saves {
    /// Code that loads.
    pub good: f64,
    /// Code that does not.
    pub broken: f64,
    /// Code that loads again.
    pub again: f64,
    /// How the run ended.
    pub run: RunStatus,
}

impl Dev<'_> {
    /// Starts `cargo xtask dev`, and waits until it says where it is.
    pub fn start<'a>(checkout: &'a Checkout, args: &[&str]) -> Dev<'a> {
        let args: Vec<&str> = ["dev", "--json"].into_iter().chain(args.iter().copied()).collect();
        let running = checkout.start(&[], &args);
        let mut said = String::new();
        let port = loop {
            let Line::Said(line) = running.line(START) else { panic!("it has not begun: {said}") };
            said += &format!("{line}\n");
            if line.trim().starts_with("\"url\"") {
                let digits = line.trim_end_matches([',', '"']).rsplit(':').next();
                break digits.unwrap().parse().unwrap();
            }
        };
        let native = args.contains(&"--native");
        let kind = if native { Kind::Processes } else { Kind::Containers };
        Dev::of(checkout, running, port, said, kind)
    }

    /// Starts `dagster dev` with the libraries that `dev --native` has installed.
    pub fn start_dagsters(checkout: &Checkout) -> Dev<'_> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let venv = venv(checkout);
        let path = Cmd::new("sh").args(["-c", "echo $PATH"]).read().unwrap();
        let running = Cmd::new(venv.join("dagster"))
            .args(["dev", "--module-name", "dagster_core.definitions"])
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .dir(checkout.root())
            .env("PATH", format!("{}:{path}", venv.display()))
            .start()
            .unwrap();
        let dev = Dev::of(checkout, running, port, String::new(), Kind::ByHand);
        dev.runtime.block_on(dev.client.ready(LIMIT)).unwrap();
        dev
    }

    fn of(checkout: &Checkout, running: Running, port: u16, said: String, kind: Kind) -> Dev<'_> {
        let (client, runtime, code) = (Client::new(port), runtime(), checkout.read(FILE));
        Dev { checkout, running, client, runtime, kind, code, said }
    }

    /// The name that Dagster gives the code: `dagster dev` calls it by its module.
    fn location(&self) -> &'static str {
        if self.kind == Kind::ByHand { "dagster_core.definitions" } else { LOCATION }
    }

    /// Saves code that loads, code that does not, and code that does, with a run of `seconds` in
    /// flight. Waits for its end.
    pub fn saves(&mut self, mark: &str, seconds: u32) -> Saves {
        let config = json!({"ops": {"wait": {"config": {"seconds": f64::from(seconds)}}}});
        let tags = BTreeMap::new();
        let launch = self.client.launch(self.location(), "wait_job", &tags, Some(&config), LIMIT);
        let run = self.runtime.block_on(launch).unwrap();
        assert!(comes_true(LIMIT, || self.status(&run) == RunStatus::Started), "the run starts");
        let good = self.save(Some(&format!("{mark}_one")));
        let broken = self.save(None);
        let again = self.save(Some(&format!("{mark}_two")));
        comes_true(LIMIT, || self.status(&run).is_final());
        Saves { good, broken, again, run: self.status(&run) }
    }

    /// Saves code with an asset of this name, or such that does not load. Answers the seconds until
    /// that is seen.
    fn save(&self, asset: Option<&str>) -> f64 {
        let addition = match asset {
            Some(asset) => format!("\n\n@dg.asset\ndef {asset}() -> int:\n    return 1\n"),
            None => "\nimport nowhere_to_be_found\n".to_owned(),
        };
        let began = Instant::now();
        self.checkout.save(FILE, &(self.code.clone() + &addition));
        if self.kind == Kind::ByHand {
            // The hand itself takes no time here.
            let _ = self.runtime.block_on(self.client.reload_location(self.location()));
        }
        let seen = comes_true(LIMIT, || {
            match (self.runtime.block_on(self.client.definitions(self.location())), asset) {
                (Ok(found), Some(asset)) => found.assets.contains(asset),
                (Err(_), None) => true,
                _ => false,
            }
        });
        assert!(seen, "{asset:?} is not served");
        began.elapsed().as_secs_f64()
    }

    fn status(&self, run: &RunId) -> RunStatus {
        self.runtime.block_on(self.client.run(run)).unwrap().status
    }

    /// Seconds that Python takes to import Dagster's server and the code, alone, where this platform
    /// does: no reload can be faster.
    pub fn import(&self) -> f64 {
        const PROGRAM: &str = "import time; began = time.perf_counter(); \
             import dagster._cli.api, dagster._grpc.server, dagster_core.definitions; \
             print(time.perf_counter() - began)";

        let python = match self.kind {
            Kind::Containers => {
                Cmd::new("docker").args(["exec", &self.checkout.dev_code_server(), "python"])
            }
            _ => Cmd::new(venv(self.checkout).join("python")).dir(self.checkout.root()),
        };
        python.args(["-B", "-c", PROGRAM]).read().unwrap().trim().parse().unwrap()
    }

    /// Waits until it says something.
    #[track_caller]
    pub fn hear(&mut self, what: &str) {
        while !self.said.contains(what) {
            let Line::Said(line) = self.running.line(LIMIT) else {
                panic!("`{what}` is not said: {}", self.said);
            };
            self.said += &format!("{line}\n");
        }
    }

    /// Sends it a signal, and waits for its end. Answers its exit code, if it had the time for one.
    pub fn end(mut self, signal: &str) -> (Option<i32>, String) {
        self.running.signal(signal).unwrap();
        while let Line::Said(line) = self.running.line(LIMIT) {
            self.said += &format!("{line}\n");
        }
        self.checkout.save(FILE, &self.code);
        (self.running.ended().unwrap().and_then(exec::Status::code), self.said)
    }
}

/// The programs that `dev --native` has installed.
fn venv(checkout: &Checkout) -> PathBuf {
    checkout.path(".dagster-deploy/dev/venv/bin")
}
