//! Where something lies on a disk of this side: one name for people here, another one for the peer.

use crate::protocol::path::RelPath;

/// A place by both its names, each safe to print. What travels never says where on this machine an entry lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    own: String,
    told: String,
}

impl Place {
    /// What people here know as `own`. A peer is told `told`: the path of an entry, or words such as `a staged file`.
    pub fn new(own: impl Into<String>, told: impl Into<String>) -> Self {
        Self { own: own.into(), told: told.into() }
    }

    /// An entry below the directory that people here know as `dir`.
    pub fn below(dir: &str, path: &RelPath) -> Self {
        Self::new(format!("{}/{path}", dir.trim_end_matches('/')), path.to_string())
    }

    /// The directory that a receiver writes to.
    pub fn target_directory(own: impl Into<String>) -> Self {
        Self::new(own, "the target directory")
    }

    /// The whole path, for people here.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The name for the peer.
    pub fn told(&self) -> &str {
        &self.told
    }
}

/// An entry that is known here by the same path as at the peer.
impl From<&RelPath> for Place {
    fn from(path: &RelPath) -> Self {
        Self::new(path.to_string(), path.to_string())
    }
}
