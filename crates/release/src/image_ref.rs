//! The name of an image.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::as_string::as_string;

/// Where an image is: `registry/repository[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The SHA-256 of an image's manifest: `sha256:…`. It names the same bytes for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no image: expected something like `registry.example/team/name:tag`")]
pub struct ParseImageRefError {
    text: String,
}

impl ImageRef {
    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The registry's host and port; Docker Hub when none is named.
    pub fn registry(&self) -> &str {
        match self.name.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => "docker.io",
        }
    }

    /// The same image by its digest alone: a tag may move.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> ImageRef {
        ImageRef { name: self.name.clone(), tag: None, digest: Some(digest) }
    }
}

impl Digest {
    /// `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageRef {
    type Err = ParseImageRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseImageRefError { text: text.to_owned() };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| error())?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let is_plain = |part: &str, more: &[u8]| {
            !part.is_empty()
                && part.bytes().all(|it| it.is_ascii_alphanumeric() || more.contains(&it))
        };
        let name_fits = name.split('/').all(|part| is_plain(part, b"._-:"));
        if name_fits && tag.as_deref().is_none_or(|tag| is_plain(tag, b"._-")) {
            Ok(ImageRef { name: name.to_owned(), tag, digest })
        } else {
            Err(error())
        }
    }
}

impl FromStr for Digest {
    type Err = ParseImageRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64
            && hex.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
        {
            Ok(Digest(text.to_owned()))
        } else {
            Err(ParseImageRefError { text: text.to_owned() })
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_string!(ImageRef, ParseImageRefError);
as_string!(Digest, ParseImageRefError);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, registry: &str, name: &str, tag: Option<&str>) {
        let image: ImageRef = text.parse().unwrap();
        assert_eq!((image.registry(), image.name(), image.tag()), (registry, name, tag));
        assert_eq!(image.to_string(), text);
    }

    #[test]
    fn knows_a_port_from_a_tag() {
        check("postgres:17", "docker.io", "postgres", Some("17"));
        check("127.0.0.1:5000/a/b", "127.0.0.1:5000", "127.0.0.1:5000/a/b", None);
        check("localhost/a:1.2-x", "localhost", "localhost/a", Some("1.2-x"));
        let digest = format!("eu.example/p/a@sha256:{}", "0".repeat(64));
        check(&digest, "eu.example", "eu.example/p/a", None);
    }

    #[test]
    fn refuses_what_an_engine_would_misread() {
        for text in ["", "a b", "a:", "a/", "a@sha256:12", "a$b", "https://a/b"] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }
}
