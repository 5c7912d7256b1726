//! The one place that prints: phases as they happen, and facts at the end.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use release::Phase;
use serde::Serialize;

/// Tells what happens, on standard error; facts go to standard output.
pub(crate) struct Report {
    bar: ProgressBar,
    began: Instant,
    phase: Option<(String, Instant)>,
    /// The phases so far.
    pub(crate) phases: Vec<Phase>,
}

impl Report {
    /// Starts the clock.
    pub(crate) fn new() -> Report {
        let bar = if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template("{spinner:.cyan} {msg:<14} {elapsed:>4}  {prefix}")
                    .expect("the template is a constant");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        } else {
            ProgressBar::hidden()
        };
        Report { bar, began: Instant::now(), phase: None, phases: Vec::new() }
    }

    /// Begins a phase; the one before it ends.
    pub(crate) fn phase(&mut self, name: &str) {
        self.end("");
        self.bar.reset_elapsed();
        self.bar.set_message(name.to_owned());
        self.bar.set_prefix("");
        self.phase = Some((name.to_owned(), Instant::now()));
    }

    /// What the phase is at, of interest only while it lasts.
    pub(crate) fn now(&self, what: &str) {
        let line = what.trim().lines().last().unwrap_or_default();
        self.bar.set_prefix(line.chars().take(100).collect::<String>());
    }

    /// Something worth keeping on the screen.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprint_line(line));
    }

    /// Ends the phase, with what came of it.
    pub(crate) fn end(&mut self, detail: &str) {
        let Some((name, since)) = self.phase.take() else { return };
        let seconds = since.elapsed().as_secs_f64();
        self.say(&line(&name, seconds, detail));
        self.phases.push(Phase { name, seconds: (seconds * 1000.0).round() / 1000.0 });
    }

    /// Ends all: the spinner goes.
    pub(crate) fn finish(&mut self) {
        self.end("");
        self.bar.finish_and_clear();
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some((name, since)) = self.phase.take() {
            self.say(&line(&name, since.elapsed().as_secs_f64(), "failed"));
        }
        self.bar.finish_and_clear();
    }
}

/// A phase that has ended.
fn line(name: &str, seconds: f64, detail: &str) -> String {
    format!("  {name:<14} {seconds:>6.1} s  {detail}").trim_end().to_owned()
}

/// Prints facts: as JSON for a program, as text for a reader.
pub(crate) fn facts<T: Serialize>(json: bool, facts: &T, text: impl FnOnce(&T) -> String) {
    let text = if json {
        serde_json::to_string_pretty(facts).expect("facts are plain data")
    } else {
        text(facts)
    };
    // A closed pipe (`| head`) is no error of ours.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Prints a line on standard error.
pub(crate) fn eprint_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Report {
    /// Asks a yes-or-no question, while the spinner rests.
    pub(crate) fn confirm(&self, question: &str) -> bool {
        self.bar.suspend(|| confirm(question))
    }
}

/// Asks a yes-or-no question on the terminal; where there is none, the answer is no.
pub(crate) fn confirm(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    let _ = write!(std::io::stderr(), "{question} ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}
