//! A place on a disk of this side, with one name for users here and another for the peer.

use crate::protocol::path::RelPath;

/// A place by both its names, each safe to print. The name for the peer never shows where on this host an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    own: String,
    told: String,
}

impl Place {
    /// `own` is the name for users here. `told` is the name for the peer: the path of an entry, or words such as `a
    /// staged file`.
    pub fn new(own: impl Into<String>, told: impl Into<String>) -> Self {
        Self { own: own.into(), told: told.into() }
    }

    /// An entry below the directory that users here know as `dir`.
    pub fn below(dir: &str, path: &RelPath) -> Self {
        Self::new(format!("{}/{path}", dir.trim_end_matches('/')), path.to_string())
    }

    /// A receiver's target directory.
    pub fn target_directory(own: impl Into<String>) -> Self {
        Self::new(own, "the target directory")
    }

    /// The full path, for users here.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The name for the peer.
    pub fn told(&self) -> &str {
        &self.told
    }
}

/// An entry whose path is the same here and at the peer.
impl From<&RelPath> for Place {
    fn from(path: &RelPath) -> Self {
        Self::new(path.to_string(), path.to_string())
    }
}
