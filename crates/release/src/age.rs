//! How long ago something was, for a reader.

use std::fmt;

/// A span of time in whole seconds, in at most two units: `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub u64);

impl Age {
    /// From `then` to `now`, both in seconds since 1970; clocks that disagree make it zero.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "seconds since 1970 fit, and a cast saturates"
    )]
    pub fn between(then: f64, now: u64) -> Age {
        Age((now as f64 - then).round() as u64)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
        let Age(seconds) = *self;
        let first = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(3);
        let (size, unit) = UNITS[first];
        write!(f, "{} {unit}", seconds / size)?;
        // Minutes are exact enough without their seconds.
        match UNITS.get(first + 1) {
            Some((next, unit)) if *next > 1 && seconds % size >= *next => {
                write!(f, " {} {unit}", seconds % size / next)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_at_most_two_units() {
        let texts = [0, 59, 60, 119, 3_600, 7_500, 86_399, 86_400, 356_400]
            .map(|seconds| Age(seconds).to_string());
        assert_eq!(
            texts,
            ["0 s", "59 s", "1 min", "1 min", "1 h", "2 h 5 min", "23 h 59 min", "1 d", "4 d 3 h"]
        );
    }

    #[test]
    fn what_is_yet_to_come_has_no_age() {
        assert_eq!(Age::between(1000.4, 1060), Age(60));
        assert_eq!(Age::between(2000.0, 1060), Age(0));
    }
}
