//! The lock of an environment. What changes something on its host is done through it.

use std::{
    cell::RefCell,
    fmt,
    fs::File,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use exec::{Cmd, Held, Output};
use release::{Ended, Entry, Holder, Observed};

use crate::{
    audit::Audit,
    exit::{Exit, Failure, Result},
    interrupt::Interrupt,
    report::Report,
    session::{Script, Session, bash, remote},
};

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// After how many seconds without a sign of life the host frees the lock.
const SILENCE: &str = "15";

/// What a script answers that is not begun because the lock is lost.
const LOST: i32 = 97;

/// Whether the lock is waited for. Without it, one that is taken refuses the verb at once.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Wait {
    /// Wait while somebody else deploys; for an hour, or for so long: 90s, 10m, 2h
    #[arg(long = "wait", value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1h", value_parser = duration)]
    limit: Option<Duration>,
}

impl Wait {
    pub(crate) fn is_asked(self) -> bool {
        self.limit.is_some()
    }
}

/// A session that holds the environment's lock, and what was seen under it.
///
/// This is the only way to change something on the host:
///
///     let audit = Audit::begin(here, "rollback");
///     let locked = session.locked(audit, wait, &report)?;     // lock and look: one round trip
///     let result = carry_it_out(&locked, &locked.observed).await;
///     let result = locked.finish(result)?;                     // audit and unlock: one round trip
///
/// Each script of [`Locked::run`], [`Locked::script`], [`Locked::write`] and [`Locked::upload`] is
/// fenced: it is refused, on the host, once the lock is lost. Where several steps follow each
/// other, [`Locked::begin`] tells others of each and heeds Ctrl-C, [`Locked::until_interrupted`]
/// ends one on Ctrl-C, and [`Locked::undoing`] says that what follows must not be ended.
///
/// A holder that dies before [`Locked::finish`] is told of in the audit log by the host.
pub(crate) struct Locked<'a> {
    session: &'a Session<'a>,
    /// What was seen under the lock.
    pub(crate) observed: Observed,
    token: String,
    audit: RefCell<Audit>,
    interrupt: Interrupt,
    undoing: Arc<AtomicBool>,
    held: Held,
}

impl<'a> Session<'a> {
    /// Takes the environment's lock and looks at the host. Waits for the lock if told to, saying
    /// for whom.
    pub(crate) fn locked(
        &'a self,
        audit: Audit,
        wait: Wait,
        report: &Report,
    ) -> Result<Locked<'a>> {
        let deploy = &self.settings.deploy;
        let seconds = wait.limit.unwrap_or_default().as_secs().to_string();
        let told = audit.entry.json();
        let mut args = vec![deploy.dir.as_str(), SILENCE, &seconds, &told];
        let look = self.look();
        args.extend(["bash", "-c", remote::OBSERVE, "look"]);
        args.extend(look.iter().map(String::as_str));
        let mut held = self.host.hold(&bash(remote::LOCK, &args))?;
        let mut answer = held.answer().to_owned();
        let mut holder = None;
        let token = loop {
            match answer.split_once(' ').unwrap_or((&answer, "")) {
                ("held", token) => break token.to_owned(),
                ("taken", json) => {
                    holder = Holder::parse(json);
                    if wait.is_asked() {
                        report.say(&format!("  waiting for {}", described(holder.as_ref())));
                    }
                }
                ("refused", _) => {
                    let failure = self.taken(holder.as_ref());
                    held.tell(&format!("audit {}", audit.ended(Err(&failure)).json()));
                    return Err(failure);
                }
                ("lack", what) => return Err(self.lacks(what)),
                _ => Err(anyhow!("the host's answer was not understood: {answer}"))?,
            }
            answer = held.line().ok_or_else(|| self.lost_connection())?;
        };
        let interrupt = Interrupt::listen()?;
        let undoing = Arc::new(AtomicBool::new(false));
        held.beat(BEAT, {
            let (interrupt, undoing) = (interrupt.clone(), Arc::clone(&undoing));
            move || {
                let stop = interrupt.raised() && !undoing.load(Ordering::SeqCst);
                if stop { "stop".to_owned() } else { String::new() }
            }
        });
        let seen = held.lines_until("end").ok_or_else(|| self.lost_connection())?;
        let observed = self.seen(&seen)?;
        let audit = RefCell::new(audit);
        let locked = Locked { session: self, observed, token, audit, interrupt, undoing, held };
        match self.require(&locked.observed) {
            Ok(()) => Ok(locked),
            Err(failure) => locked.finish(Err(failure)),
        }
    }

    fn taken(&self, holder: Option<&Holder>) -> Failure {
        let environment = &self.settings.environment;
        let error = anyhow!("`{environment}` is locked: {}", described(holder));
        Failure::refused(error).hint(format!(
            "give --wait to wait for it; `cargo xtask lock status {environment}` looks at it again"
        ))
    }

    fn lost_connection(&self) -> Failure {
        let host = self.settings.deploy.machine();
        let error = anyhow!("lost the connection to {host} while asking for the lock");
        Failure { exit: Exit::Unreachable, ..Failure::from(error) }
    }
}

fn described(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "by somebody unknown".to_owned(), Holder::describe)
}

/// Everything that only looks is there too.
impl<'a> Deref for Locked<'a> {
    type Target = Session<'a>;

    fn deref(&self) -> &Session<'a> {
        self.session
    }
}

impl Locked<'_> {
    /// Notes something for the audit log, and for whoever asks who holds the lock.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Entry)) {
        note(&mut self.audit.borrow_mut().entry);
        self.held.tell(&format!("at {}", self.audit.borrow().entry.json()));
    }

    /// What was asked for stands already: for the audit log, if it ends well.
    pub(crate) fn nothing_to_do(&self) {
        self.audit.borrow_mut().entry.outcome = Some(Ended::NothingToDo);
    }

    /// Begins a step, of which others are told. After Ctrl-C it does not, and fails.
    pub(crate) fn begin(&self, step: &str) -> Result {
        self.interrupt.check()?;
        self.note(|it| it.step = Some(step.to_owned()));
        Ok(())
    }

    /// Fails if the lock is lost: for what changes something there by other means than a script.
    pub(crate) fn require_held(&self) -> Result {
        self.run("see whether the lock is held", remote::HELD, &[], Vec::new()).map(drop)
    }

    /// Does something until it is done, Ctrl-C ends it or the connection is lost: nobody waits for
    /// what would come through it. A script that runs on the host is ended there.
    pub(crate) async fn until_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let result = tokio::select! {
            biased;
            result = work => result,
            () = self.interrupt.wait() => {
                self.interrupt.check()?;
                unreachable!("it was raised")
            }
            lost = self.until_lost() => Err(lost),
        };
        // A script that was ended did not fail by itself.
        result.or_else(|failure| {
            if failure.error.is::<LockLost>() {
                return Err(failure);
            }
            self.interrupt.check().and(Err(failure))
        })
    }

    /// Waits until the connection is lost.
    async fn until_lost(&self) -> Failure {
        loop {
            if let Err(lost) = self.host.require_alive() {
                return lost.into();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// From here on Ctrl-C ends nothing: what was done is being undone.
    pub(crate) fn undoing(&self) {
        self.undoing.store(true, Ordering::SeqCst);
    }

    /// Runs a script on the host; the caller judges how it ended.
    pub(crate) fn script(&self, script: Script, args: &[&str], input: Vec<u8>) -> Result<Output> {
        let mark = self.mark();
        let output = self.host.output(&self.call(script, &mark, args).stdin(input))?;
        self.fenced(output)
    }

    /// A script behind the fence.
    fn call(&self, script: Script, mark: &str, args: &[&str]) -> Cmd {
        let all: Vec<&str> = self.fence(mark).into_iter().chain(args.iter().copied()).collect();
        bash(&format!("{}\n{}", remote::FENCE, script.0), &all)
    }

    /// Runs a script on the host whose input, too much for memory, is a file here; it must
    /// succeed. Answers what it printed.
    pub(crate) fn feed(
        &self,
        what: &str,
        script: Script,
        args: &[&str],
        file: File,
    ) -> Result<String> {
        let mark = self.mark();
        let output = self.host.feed(&self.call(script, &mark, args), file)?;
        let output = self.fenced(output)?;
        self.succeeded(what, output)
    }

    /// Runs a script on the host whose output, too much for memory, goes to a file here; it must
    /// succeed.
    pub(crate) fn save(
        &self,
        what: &str,
        script: Script,
        args: &[&str],
        input: Vec<u8>,
        file: File,
    ) -> Result {
        let mark = self.mark();
        let output = self.host.save(&self.call(script, &mark, args).stdin(input), file)?;
        let output = self.fenced(output)?;
        self.succeeded(what, output).map(drop)
    }

    /// Runs a script on the host that must succeed. Answers what it printed.
    pub(crate) fn run(
        &self,
        what: &str,
        script: Script,
        args: &[&str],
        input: Vec<u8>,
    ) -> Result<String> {
        let output = self.script(script, args, input)?;
        self.succeeded(what, output)
    }

    /// Replaces a file on the host, at once. Answers when, in seconds since 1970 by its clock.
    pub(crate) fn write(&self, path: &str, mode: &str, content: impl Into<Vec<u8>>) -> Result<f64> {
        let what = format!("write `{path}`");
        let when = self.run(&what, remote::WRITE, &[path, mode], content.into())?;
        Ok(when.trim().parse().with_context(|| format!("the host's clock says `{when}`"))?)
    }

    /// Puts files into a folder on the host, which appears whole or not at all, in place of what
    /// was there.
    pub(crate) fn upload(&self, files: &[exec::File], dir: &str) -> Result {
        let mark = self.mark();
        let output = self.host.upload_after(remote::FENCE, &self.fence(&mark), files, dir)?;
        let output = self.fenced(output)?;
        self.succeeded(&format!("put files into `{dir}`"), output).map(drop)
    }

    /// What came of it is written into the audit log, and the lock is free.
    pub(crate) fn finish<T>(self, result: Result<T>) -> Result<T> {
        let done = self.audit.borrow().entry.outcome.unwrap_or(Ended::Done);
        let outcome = result.as_ref().map(|_| done);
        // Of a lock that is lost the host has told already.
        if !outcome.as_ref().is_err_and(|failure| failure.error.is::<LockLost>()) {
            let entry = self.audit.borrow().ended(outcome);
            if !self.held.tell(&format!("audit {}", entry.json())) {
                self.session.record(&entry);
            }
        }
        result
    }

    fn mark(&self) -> String {
        let undoing = self.undoing.load(Ordering::SeqCst);
        format!("{}:{}", self.token, if undoing { "undo" } else { "do" })
    }

    fn fence<'s>(&'s self, mark: &'s str) -> [&'s str; 2] {
        [&self.observed.layout.dir, mark]
    }

    /// Fails if the script was not begun because the lock is lost.
    fn fenced(&self, output: Output) -> Result<Output> {
        if output.status.code() != Some(LOST) {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = said.lines().skip(1);
        let holder = lines.next().and_then(Holder::parse);
        let broke = lines.next().and_then(|line| serde_json::from_str::<Entry>(line).ok());
        let environment = &self.settings.environment;
        let why = match (broke, holder) {
            (Some(it), _) => {
                let reason = it.reason.unwrap_or_default();
                format!("{} broke the lock of `{environment}` at {}: {reason}", it.by, it.at)
            }
            (None, Some(it)) => {
                format!("lost the lock of `{environment}` to {}", it.describe())
            }
            (None, None) => format!(
                "lost the lock of `{environment}`: the host heard nothing from here for {SILENCE} s"
            ),
        };
        Err(Failure { exit: Exit::NotUndone, ..Failure::from(anyhow::Error::new(LockLost(why))) }
            .hint("nothing more was touched; look at it with `status`: the next deploy heals it"))
    }
}

/// A duration as it is typed: `90s`, `10m`, `2h`; plain numbers are seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, text.chars().last()),
        None => (text, None),
    };
    let factor = match unit {
        Some('h') => 3600,
        Some('m') => 60,
        _ => 1,
    };
    let number: u32 = number.parse().map_err(|_| "expected something like 90s, 10m or 2h")?;
    Ok(Duration::from_secs(u64::from(number) * factor))
}

/// The lock is held by nobody, or by somebody else: nothing can be changed any more.
#[derive(Debug)]
pub(crate) struct LockLost(String);

impl fmt::Display for LockLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LockLost {}
