//! The name of one release.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, macros::format_description};

use crate::as_string::as_string;

/// When and from which commit a release was made: `20261123-142233-abc1234`.
///
/// It sorts by time, and may stand in a host name, a Compose project and a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(String);

/// A text that is not a [`ReleaseId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a release: expected something like `20261123-142233-abc1234`")]
pub struct ParseReleaseIdError {
    text: String,
}

impl ReleaseId {
    /// Names the release made at `time` from the commit `sha`, of which seven digits are kept.
    pub fn new(time: OffsetDateTime, sha: &str) -> ReleaseId {
        let time = time
            .to_offset(time::UtcOffset::UTC)
            .format(format_description!("[year][month][day]-[hour][minute][second]"))
            .expect("a date of our era has these parts");
        let sha: String = sha.chars().filter(char::is_ascii_alphanumeric).take(7).collect();
        ReleaseId(format!("{time}-{}", sha.to_ascii_lowercase()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReleaseId {
    type Err = ParseReleaseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseReleaseIdError { text: text.to_owned() };
        let digits =
            |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
        let [date, time, sha] =
            text.split('-').collect::<Vec<_>>().try_into().map_err(|_| error())?;
        let sha_is_plain =
            !sha.is_empty() && sha.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if digits(date, 8) && digits(time, 6) && sha_is_plain {
            Ok(ReleaseId(text.to_owned()))
        } else {
            Err(error())
        }
    }
}

as_string!(ReleaseId, ParseReleaseIdError);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn is_made_of_utc_time_and_short_commit() {
        let id = ReleaseId::new(datetime!(2026-11-23 15:22:33 +1), "ABC1234def");
        assert_eq!(id.as_str(), "20261123-142233-abc1234");
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn refuses_what_could_not_be_a_container_name() {
        for text in [
            "",
            "latest",
            "20261123-142233",
            "20261123-142233-",
            "../../etc",
            "20261123-142233-a/b",
        ] {
            assert!(text.parse::<ReleaseId>().is_err(), "{text}");
        }
    }
}
