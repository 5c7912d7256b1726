//! Verdicts that are known already.
//!
//! A verdict is found under the name of everything it depends on, so it is never wrong, only
//! useless. A store is one file, seen whole or not at all; one that is damaged is forgotten.

use std::{
    collections::{HashMap, HashSet},
    fs,
    hash::Hasher as _,
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::state::{self, State};

/// Verdicts of one linter under one configuration.
pub(crate) struct Verdicts<T> {
    path: PathBuf,
    known: HashMap<String, T>,
    /// The names that this lint asked for or learnt: they outlive the others.
    used: Vec<String>,
    changed: bool,
}

/// A store of more bytes than this forgets what was not used last.
const MOST: usize = 2_000_000;
/// How many stores are kept.
const KEPT: usize = 48;

impl<T: Serialize + DeserializeOwned> Verdicts<T> {
    pub(crate) fn load(state: &State, name: &str) -> Verdicts<T> {
        let path = state.path("verdicts").join(name);
        let known = fs::read_to_string(&path).ok().and_then(|it| parse(&it)).unwrap_or_default();
        Verdicts { path, known, used: Vec::new(), changed: false }
    }

    pub(crate) fn get(&mut self, name: &str) -> Option<&T> {
        let found = self.known.get(name);
        if found.is_some() {
            self.used.push(name.to_owned());
        }
        found
    }

    pub(crate) fn learn(&mut self, name: String, verdict: T) {
        self.used.push(name.clone());
        self.known.insert(name, verdict);
        self.changed = true;
    }

    /// Writes what was learnt. Of two lints at once, one may forget what the other learnt: it will
    /// be judged again. A verdict that cannot be written is no reason to refuse a lint.
    pub(crate) fn save(mut self, state: &State) {
        if !self.changed {
            return;
        }
        let mut body = self.body();
        if body.len() > MOST {
            let used: HashSet<String> = self.used.drain(..).collect();
            self.known.retain(|name, _| used.contains(name));
            body = self.body();
        }
        let text = format!("{}\n{body}", sum(&body));
        if state::write(&self.path, text.as_bytes()).is_ok() {
            state::keep_newest(&state.path("verdicts"), KEPT);
        }
    }

    fn body(&self) -> String {
        let mut body = String::new();
        for (name, verdict) in &self.known {
            let verdict = serde_json::to_string(verdict).expect("a verdict is plain data");
            body.push_str(&format!("{name} {verdict}\n"));
        }
        body
    }
}

/// Tells damage, and nothing else: the standard library's hash is fast, and may change with it.
fn sum(body: &str) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(body.as_bytes());
    format!("{:016x}", hasher.finish())
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<HashMap<String, T>> {
    let (expected, body) = text.split_once('\n')?;
    if expected != sum(body) {
        return None;
    }
    let entry = |line: &str| {
        let (name, verdict) = line.split_once(' ')?;
        Some((name.to_owned(), serde_json::from_str(verdict).ok()?))
    };
    body.lines().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(damage: impl FnOnce(&mut Vec<u8>), expected: Option<bool>) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let mut verdicts = Verdicts::load(&state, "black");
        verdicts.learn("one".to_owned(), true);
        verdicts.learn("two".to_owned(), false);
        verdicts.save(&state);

        let path = state.path("verdicts/black");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert_eq!(Verdicts::load(&state, "black").get("one"), expected.as_ref());
    }

    #[test]
    fn a_verdict_is_remembered() {
        check(|_| (), Some(true));
    }

    #[test]
    fn a_store_that_was_cut_off_is_forgotten() {
        check(|bytes| bytes.truncate(bytes.len() - 4), None);
    }

    #[test]
    fn a_store_in_which_a_bit_flipped_is_forgotten() {
        check(|bytes| *bytes.last_mut().unwrap() ^= 1, None);
        check(|bytes| bytes[20] ^= 1, None);
    }

    #[test]
    fn a_store_that_is_no_text_is_forgotten() {
        check(|bytes| *bytes = vec![0xff; 9], None);
    }
    #[test]
    fn a_store_that_grew_large_forgets_what_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let learn = |name: &str| {
            let mut verdicts = Verdicts::load(&state, "mypy");
            verdicts.learn(name.to_owned(), "x".repeat(MOST / 2));
            verdicts.save(&state);
        };
        learn("old");
        assert!(Verdicts::<String>::load(&state, "mypy").get("old").is_some());
        learn("new");
        let mut verdicts = Verdicts::<String>::load(&state, "mypy");
        assert_eq!(verdicts.get("old"), None);
        assert!(verdicts.get("new").is_some());
    }
}
