//! How a directory is opened that is only gone through.

use rustix::fs::OFlags;

/// Needs no permission to list the directory.
pub(crate) const LOOKUP: OFlags = OFlags::PATH;
