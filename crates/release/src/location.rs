//! The name of a code location.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{LOCATION, ReleaseId, as_string::as_string};

/// A code location: one Python package of the team, released and rolled back by itself.
///
/// Dagster keeps the state of schedules and sensors under this name, so it never changes. It is a
/// Python module, a part of a container's name and of an image's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Location(String);

/// A text that is not a [`Location`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no code location: expected the name of a Python package, in lower-case letters, \
     digits and `_`"
)]
pub struct ParseLocationError {
    text: String,
}

impl Location {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container of one of its releases: also its host name, by which it is reached.
    pub fn container(&self, id: &ReleaseId) -> String {
        format!("docker_{self}-{id}")
    }

    /// The location and release whose code server's container has this name.
    pub fn of_container(name: &str) -> Option<(Location, ReleaseId)> {
        let (location, release) = name.strip_prefix("docker_")?.split_once('-')?;
        Some((location.parse().ok()?, release.parse().ok()?))
    }
}

/// The team's code that always is: `dagster_core`.
impl Default for Location {
    fn default() -> Location {
        Location(LOCATION.to_owned())
    }
}

impl FromStr for Location {
    type Err = ParseLocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
        let fits = text.len() <= 40
            && text.bytes().all(plain)
            && text.bytes().next().is_some_and(|it| it.is_ascii_lowercase());
        if fits {
            Ok(Location(text.to_owned()))
        } else {
            Err(ParseLocationError { text: text.to_owned() })
        }
    }
}

as_string!(Location, ParseLocationError);

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_tells_its_location_and_release() {
        let id: ReleaseId = "20261123-142233-abc1234".parse().unwrap();
        let location: Location = "sales_reports".parse().unwrap();
        let name = location.container(&id);
        assert_eq!(name, "docker_sales_reports-20261123-142233-abc1234");
        assert_eq!(Location::of_container(&name), Some((location, id)));
        assert_eq!(Location::of_container("dagster-prod_dagster-daemon_1"), None);
    }

    #[test]
    fn refuses_what_is_no_python_package() {
        for text in ["", "1x", "a-b", "A", "a b", "../x", "_x"] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }
}
