//! Extras, which are in announced directories and were not announced, and how their removal ended.

use crate::protocol::path::RelPath;

/// How the removal of extras ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// So many were removed, or would be in a dry run, and so many could not be: one of them and why.
    Done {
        /// How many were removed.
        removed: u64,
        /// How many were to be removed, and stay.
        remaining: u64,
        /// Why one of these stays.
        example: String,
    },
    /// None: there are so many, and fewer were allowed.
    TooMany(u64),
    /// None: the names of the transfer do not fit the memory of the receiver.
    TooLittleMemory,
    /// None: the sender left something out that it could not read, so the receiver cannot tell what is extra.
    SourceIncomplete,
}

/// A name that was not announced, in a directory that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Where it is under the target.
    pub path: RelPath,
    /// A directory.
    pub is_dir: bool,
    /// Tells it from what may get its name later: device and inode.
    pub identity: (u64, u64),
}

/// What became of extras that were to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// How many are gone.
    pub count: u64,
    /// How many are not, though they should.
    pub remaining: u64,
    /// Why one of these stays, safe to print. It names the path under the target only.
    pub example: Option<String>,
}
