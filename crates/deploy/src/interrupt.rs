//! Ctrl-C, SIGTERM and SIGHUP, while something on a host may have to be undone.

use std::sync::OnceLock;

use anyhow::anyhow;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    exit::{Exit, Result},
    report,
};

/// What the first signal was, once there is one. From [`Interrupt::listen`] on, a signal does not
/// end this process; a second one does.
#[derive(Clone)]
pub(crate) struct Interrupt(watch::Receiver<Option<&'static str>>);

/// What is said of the first signal, after its name, and of the second.
pub(crate) struct Words {
    pub(crate) first: &'static str,
    pub(crate) second: &'static str,
}

impl Words {
    const DEPLOY: Words = Words {
        first: "the step under way is ended and what was done is undone; once more ends at once",
        second: "ended at once: the next deploy heals what is left",
    };
}

impl Interrupt {
    /// Begins to listen, from a thread: this one may be busy with a script for minutes.
    pub(crate) fn listen() -> Result<Interrupt> {
        Interrupt::listen_saying(Words::DEPLOY)
    }

    /// The same, with words of one's own.
    pub(crate) fn listen_saying(words: Words) -> Result<Interrupt> {
        static LISTENING: OnceLock<Interrupt> = OnceLock::new();
        if let Some(listening) = LISTENING.get() {
            return Ok(listening.clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        };
        drop(context);
        let (sender, receiver) = watch::channel(None);
        std::thread::spawn(move || runtime.block_on(signals.tell(&words, &sender)));
        Ok(LISTENING.get_or_init(|| Interrupt(receiver)).clone())
    }

    /// Whether there was a signal.
    pub(crate) fn raised(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Fails if there was a signal.
    pub(crate) fn check(&self) -> Result {
        match *self.0.borrow() {
            None => Ok(()),
            Some(name) => Err(anyhow!("interrupted by {name}").into()),
        }
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&self) {
        let mut signals = self.0.clone();
        if signals.wait_for(Option::is_some).await.is_err() {
            // Nobody listens any more.
            std::future::pending::<()>().await;
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    #[expect(clippy::disallowed_methods, reason = "the second Ctrl-C means: at once")]
    async fn tell(mut self, words: &Words, first: &watch::Sender<Option<&'static str>>) {
        let name = self.next().await;
        report::eprint_line(&format!("{name}: {}", words.first));
        let _ = first.send(Some(name));
        self.next().await;
        report::eprint_line(words.second);
        std::process::exit(i32::from(Exit::Interrupted as u8));
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
