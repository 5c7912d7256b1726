//! The scripts of the lock, the fence and the audit log, run here: they need no engine.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Barrier,
    time::{Duration, Instant},
};

use exec::{Cmd, Output};
use release::{Ended, Entry, Holder};
use tempfile::TempDir;

const LOCK: &str =
    concat!(include_str!("../../src/remote/append.sh"), include_str!("../../src/remote/lock.sh"));
const RECORD: &str =
    concat!(include_str!("../../src/remote/append.sh"), include_str!("../../src/remote/record.sh"));
const BREAK: &str =
    concat!(include_str!("../../src/remote/append.sh"), include_str!("../../src/remote/break.sh"));
const FENCE: &str = include_str!("../../src/remote/fence.sh");
const HOLDER: &str = include_str!("../../src/remote/holder.sh");

/// Longer than any test takes.
const FOREVER: &str = "600";

/// A directory of an environment.
struct Place(TempDir);

/// A process that asked for the lock.
struct Taker {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Asks for the lock in somebody's name.
    fn take(&self, who: &str, silence: &str, wait: &str) -> Taker {
        let told = Entry::new("deploy", who.into(), "2026-11-23T14:22:33Z".into()).json();
        let mut process =
            bash(LOCK, &[self.dir(), silence, wait, &told, "echo", "seen under the lock"]);
        let output = BufReader::new(process.stdout.take().unwrap());
        Taker { process, output }
    }

    /// Takes the lock, which is free. Answers its token too.
    #[track_caller]
    fn hold(&self, who: &str) -> (Taker, String) {
        let mut taker = self.take(who, FOREVER, "0");
        let token = taker.token();
        (taker, token)
    }

    /// Starts a script that changes something.
    fn script(&self, mark: &str, script: &str) -> Child {
        bash(&format!("{FENCE}\n{script}"), &[self.dir(), mark, "an argument"])
    }

    /// Runs a script that changes something.
    fn fenced(&self, mark: &str, script: &str) -> Output {
        let output = self.script(mark, script).wait_with_output().unwrap();
        Output { status: output.status.into(), stdout: output.stdout, stderr: output.stderr }
    }

    /// Starts a script that goes on for ever, and waits until it is past the fence.
    fn busy(&self, mark: &str) -> Child {
        let begun = self.0.path().join(format!("begun-{}", mark.replace(':', "-")));
        let script = format!("touch '{}'; while :; do sleep 600; done", begun.display());
        let child = self.script(mark, &script);
        wait_until("the script is busy", || begun.exists());
        child
    }

    fn holder(&self) -> Option<Holder> {
        let output = bash(HOLDER, &[self.dir()]).wait_with_output().unwrap();
        Holder::parse(&String::from_utf8(output.stdout).unwrap())
    }

    fn audit(&self) -> Vec<Entry> {
        let text = fs::read_to_string(self.0.path().join("audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

impl Taker {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn token(&mut self) -> String {
        let line = self.line();
        let token = line.strip_prefix("held ").unwrap_or_else(|| panic!("not held: {line}"));
        assert_eq!(self.line(), "seen under the lock");
        assert_eq!(self.line(), "end");
        token.to_owned()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Its writer goes: the lock is let go.
    fn let_go(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "its input must stay open, as that of SSH does")]
fn bash(script: &str, args: &[&str]) -> Child {
    Command::new("bash")
        .args(["-c", script, "dagster-deploy"])
        .args(args)
        .env_remove("SSH_CONNECTION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // As sshd does it.
        .process_group(0)
        .spawn()
        .unwrap()
}

fn kill(process: &Child, signal: &str) {
    Cmd::new("kill").args(["-s", signal, &process.id().to_string()]).read().unwrap();
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn outcomes(entries: &[Entry]) -> Vec<(&str, Option<Ended>)> {
    entries.iter().map(|it| (it.by.as_str(), it.outcome)).collect()
}

#[test]
fn the_second_is_told_who_holds_the_lock_and_what_for() {
    let place = Place::new();
    let (mut ana, token) = place.hold("ana");
    let at = Entry { step: Some("start".into()), ..Entry::new("deploy", "ana".into(), "t".into()) };
    ana.tell(&format!("at {}", at.json()));
    wait_until("the step is told", || place.holder().is_some_and(|it| it.entry == at_from(&at)));
    let mut ben = place.take("ben", FOREVER, "0");
    let holder = Holder::parse(ben.line().strip_prefix("taken ").unwrap()).unwrap();
    assert_eq!(holder.describe(), "deploy by ana (local) since t, at step start");
    assert_eq!((ben.line(), holder.token), ("refused".to_owned(), token.clone()));
    // What came of it is told by the one who knows, and has no lock.
    let refused = Entry::new("deploy", "ben".into(), "t".into());
    let refused = Entry { outcome: Some(Ended::Refused), ..refused };
    ben.tell(&format!("audit {}", refused.json()));
    ben.let_go();
    assert!(place.fenced(&format!("{token}:do"), "true").status.success());

    let done = Entry { outcome: Some(Ended::Done), ..at };
    ana.tell(&format!("audit {}", done.json()));
    ana.let_go();
    assert_eq!(place.holder(), None);
    let expected = [("ben", Some(Ended::Refused)), ("ana", Some(Ended::Done))];
    assert_eq!(outcomes(&place.audit()), expected);
    place.hold("ben").0.let_go();
}

fn at_from(entry: &Entry) -> Entry {
    Entry { from: Some("local".into()), ..entry.clone() }
}

#[test]
fn who_waits_gets_the_lock_when_it_is_free_and_not_when_nobody_waits_any_more() {
    let place = Place::new();
    let (ana, _) = place.hold("ana");
    let mut gone = place.take("gone", FOREVER, FOREVER);
    assert!(gone.line().starts_with("taken "));
    gone.let_go();
    let mut ben = place.take("ben", FOREVER, FOREVER);
    assert!(ben.line().starts_with("taken "));
    ana.let_go();
    ben.token();
    assert_eq!(place.holder().unwrap().entry.by, "ben");
    let mut short = place.take("short", FOREVER, "1");
    assert!(short.line().starts_with("taken "));
    assert_eq!(short.line(), "refused");
    short.let_go();
    ben.let_go();
    let cut = Some(Ended::CutOff);
    assert_eq!(outcomes(&place.audit()), [("ana", cut), ("ben", cut)]);
}

#[test]
fn a_holder_that_falls_silent_loses_the_lock_and_what_it_was_doing_is_ended() {
    let place = Place::new();
    let mut ana = place.take("ana", "5", "0");
    let token = ana.token();
    let busy = [place.busy(&format!("{token}:do")), place.busy(&format!("{token}:undo"))];
    // Its input is open all the time.
    while ana.process.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    for mut it in busy {
        assert_eq!(it.wait().unwrap().signal(), Some(15));
    }
    let late = place.fenced(&format!("{token}:undo"), "echo done");
    assert_eq!(late.status.code(), Some(97));
    assert_eq!(String::from_utf8_lossy(&late.stdout).trim(), "lost");
    assert_eq!(outcomes(&place.audit()), [("ana", Some(Ended::CutOff))]);
    place.hold("ben").0.let_go();
}

#[test]
fn the_next_holder_ends_what_a_killed_one_was_doing() {
    let place = Place::new();
    let (mut ana, token) = place.hold("ana");
    let mark = format!("{token}:do");
    let mut busy = place.busy(&mark);
    kill(&ana.process, "KILL");
    ana.process.wait().unwrap();
    assert_eq!(place.fenced(&mark, "echo done").status.code(), Some(97));
    let (ben, next) = place.hold("ben");
    assert_eq!(busy.wait().unwrap().signal(), Some(15));
    let late = place.fenced(&mark, "echo done");
    assert_eq!(late.status.code(), Some(97));
    let said = String::from_utf8(late.stdout).unwrap();
    assert!(said.starts_with(&format!("lost\n{{\"token\":\"{next}\"")), "{said}");
    ben.let_go();
    let cut = Some(Ended::CutOff);
    assert_eq!(outcomes(&place.audit()), [("ana", cut), ("ben", cut)]);
}

#[test]
fn ctrl_c_ends_the_script_that_does_and_not_the_one_that_undoes() {
    let place = Place::new();
    let (mut ana, token) = place.hold("ana");
    let mut undoes = place.busy(&format!("{token}:undo"));
    let mut does = place.busy(&format!("{token}:do"));
    ana.tell("stop");
    assert_eq!(does.wait().unwrap().signal(), Some(15));
    let output = place.fenced(&format!("{token}:undo"), "echo \"$1\"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "an argument\n");
    assert_eq!(undoes.try_wait().unwrap(), None);
    ana.let_go();
    undoes.wait().unwrap();
}

#[test]
fn a_broken_lock_is_free_and_its_holder_is_told_by_whom_and_why() {
    let place = Place::new();
    let (mut ana, token) = place.hold("ana");
    let mut busy = place.busy(&format!("{token}:do"));
    let mut entry = Entry::new("lock break", "ben".into(), "t".into());
    entry.reason = Some("ana is on holiday".into());
    entry.broke = Some(token.clone());
    let break_it = |token: &str| {
        let mut process = bash(BREAK, &[place.dir(), token]);
        writeln!(process.stdin.take().unwrap(), "{}", entry.json()).unwrap();
        process.wait().unwrap().code()
    };
    assert_eq!(break_it("another"), Some(98));
    assert_eq!(break_it(&token), Some(0));
    ana.process.wait().unwrap();
    busy.wait().unwrap();
    assert_eq!(place.holder(), None);
    let late = place.fenced(&format!("{token}:do"), "echo done");
    assert_eq!(late.status.code(), Some(97));
    let said = String::from_utf8(late.stdout).unwrap();
    let broke: Entry = serde_json::from_str(said.lines().nth(2).unwrap()).unwrap();
    assert_eq!(broke.reason.as_deref(), Some("ana is on holiday"));
    assert_eq!(break_it(&token), Some(98));
    assert_eq!(outcomes(&place.audit()), [("ben", None), ("ana", Some(Ended::CutOff))]);
}

#[test]
fn of_two_takers_exactly_one_wins_a_hundred_times() {
    let place = Place::new();
    for round in 0..100 {
        let start = Barrier::new(2);
        let mut takers: Vec<(Taker, String)> = std::thread::scope(|scope| {
            let taker = |who: &'static str| {
                let (place, start) = (&place, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut taker = place.take(who, FOREVER, "0");
                    let line = taker.line();
                    (taker, line)
                })
            };
            [taker("ana"), taker("ben")].map(|it| it.join().unwrap()).into()
        });
        takers.sort_by(|a, b| a.1.cmp(&b.1));
        let won = takers.iter().filter(|it| it.1.starts_with("held ")).count();
        assert_eq!(won, 1, "round {round}: {} and {}", takers[0].1, takers[1].1);
        assert!(takers[1].1.starts_with("taken {"), "round {round}: {}", takers[1].1);
        for (taker, _) in takers {
            taker.let_go();
        }
    }
    assert_eq!(place.audit().len(), 100, "one line for each who held it");
}

#[test]
fn a_hundred_entries_at_once_stay_whole_lines_that_only_the_owner_reads() {
    let place = Place::new();
    let log = place.0.path().join("audit.jsonl");
    // The host lost power in the middle of a line.
    fs::write(&log, "{\"verb\":\"dep").unwrap();
    let children: Vec<Child> = (0..100)
        .map(|n| {
            let mut entry = Entry::new("deploy", format!("{n}"), "t".into());
            entry.why = Some("x".repeat(5000));
            let mut child = bash(RECORD, &[place.dir()]);
            writeln!(child.stdin.take().unwrap(), "{}", entry.json()).unwrap();
            child
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = fs::read_to_string(&log).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("{\"verb\":\"dep"));
    let mut who: Vec<u32> = lines
        .map(|line| serde_json::from_str::<Entry>(line).unwrap().by.parse().unwrap())
        .collect();
    who.sort_unstable();
    assert_eq!(who, (0..100).collect::<Vec<_>>());
}

#[test]
fn the_audit_log_keeps_the_newest_ten_thousand() {
    let place = Place::new();
    let log = place.0.path().join("audit.jsonl");
    let line = |n: usize| Entry::new("deploy", format!("{n}"), "t".into()).json() + "\n";
    fs::write(&log, (0..11_000).map(line).collect::<String>()).unwrap();
    let mut child = bash(RECORD, &[place.dir()]);
    write!(child.stdin.take().unwrap(), "{}", line(11_000)).unwrap();
    child.wait().unwrap();
    let entries = place.audit();
    assert_eq!(entries.len(), 10_000);
    assert_eq!((entries[0].by.as_str(), entries[9_999].by.as_str()), ("1001", "11000"));
    assert_mode(&log);
}

fn assert_mode(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}
