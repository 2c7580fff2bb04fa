//! How to open a directory that is only traversed.

use rustix::fs::OFlags;

/// Needs no permission to list the directory.
pub(crate) const LOOKUP: OFlags = OFlags::PATH;
