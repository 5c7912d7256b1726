//! What came of a verb, for the audit log on the host.

use std::time::Instant;

use release::{Ended, Entry};

use crate::{
    environment::{Here, now},
    exit::{Exit, Failure},
};

/// A verb under way, as the audit log will tell of it. It ends in [`Locked::finish`], or, where
/// the lock was never asked for, in [`Session::record`].
///
/// [`Locked::finish`]: crate::locked::Locked::finish
/// [`Session::record`]: crate::session::Session::record
#[derive(Debug)]
pub(crate) struct Audit {
    /// What is known of it so far.
    pub(crate) entry: Entry,
    began: Instant,
}

impl Audit {
    /// A verb begins.
    pub(crate) fn begin(here: &Here, verb: &str) -> Audit {
        Audit { entry: Entry::new(verb, here.who(), now()), began: Instant::now() }
    }

    /// It is over. Of a failure only the first words are kept: what follows may be a log.
    pub(crate) fn ended(&self, outcome: Result<Ended, &Failure>) -> Entry {
        let (outcome, why) = match outcome {
            Ok(ended) => (ended, None),
            Err(failure) => (
                match failure.exit {
                    Exit::Refused => Ended::Refused,
                    Exit::Undone => Ended::Undone,
                    _ => Ended::Failed,
                },
                Some(first_words(&failure.error.to_string())),
            ),
        };
        let seconds = (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let step = if outcome == Ended::Done { None } else { self.entry.step.clone() };
        Entry { outcome: Some(outcome), why, step, seconds: Some(seconds), ..self.entry.clone() }
    }
}

fn first_words(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}
