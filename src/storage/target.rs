//! The disk that a receiver writes to.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::block::Block;
use super::error::{Result, StorageError};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Meta};

/// Bytes for a staged file: `block[range]` goes to `offset` of `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which file.
    pub id: EntryId,
    /// Where in the file.
    pub offset: u64,
    /// Where in the block.
    pub range: Range<usize>,
    /// The bytes are a whole file, and this is what its commit will say: then it can be made complete at once.
    pub whole: Option<Meta>,
}

/// What a staged entry becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// A file of `size` bytes. What was not written of it is a hole; an entry without any write is all hole.
    File {
        /// Its size.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// As given by the sender.
        target: Bytes,
    },
}

/// An entry that is complete and verified, to be given its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which one.
    pub id: EntryId,
    /// Its final name.
    pub path: RelPath,
    /// File or link.
    pub kind: Final,
    /// Permission bits and time, set before the name is.
    pub meta: Meta,
    /// What becomes of it if its name is taken. Only files and links are replaced. Another name is `name~1`, or
    /// `stem~1.ext`, with the first number that is free. Where many are taken it is found by bisection, which may pass
    /// over a gap.
    pub exists: Exists,
}

/// What a receiver writes to: one transfer into one directory.
///
/// What is written is staged and invisible until [`Target::commit`]; that syncs the data of all its entries, then
/// renames, then syncs the directories (unless syncing is off), so that a final name never holds a part of a
/// file, whenever the machine stops. No access leaves the directory or goes through a link in it.
pub trait Target: Send + Sync + 'static {
    /// Looks at the final names of `entries` and changes nothing. One answer for each, in order. A name in a directory
    /// that is missing is free. With [`Exists::Rename`] the names that a commit would give are looked at as well.
    fn look(&self, entries: Vec<Entry>, exists: Exists) -> impl Future<Output = Vec<Result<Lookup>>> + Send;

    /// Makes ready for `entries`, parents first: makes directories, and opens up those that are there (they have at
    /// least `u+rwx` until [`Target::finish_dirs`]). What is written to these numbers is for these names. One answer
    /// for each, in order: nothing, or what keeps it from being received.
    fn prepare(
        &self,
        entries: Vec<(EntryId, Entry)>,
    ) -> impl Future<Output = Vec<Result<Option<Lookup>>>> + Send;

    /// Gives files and links that are there permission bits and time of their entries. One answer for each, in order:
    /// whether that has changed anything.
    fn update(&self, entries: Vec<Entry>) -> impl Future<Output = Vec<Result<bool>>> + Send;

    /// Writes pieces of one or several staged files, creating them at the first piece. A short write is
    /// continued, never reported as success.
    fn write(&self, writes: Vec<Write>, block: Block) -> impl Future<Output = Result<Block>> + Send;

    /// Makes durable what has been written of staged entries. One answer for each, in order: whether it is durable
    /// now. It is not when syncing is off or the file system has no sync. An error stays with its entry: a commit
    /// fails with it too.
    fn checkpoint(&self, ids: Vec<EntryId>) -> impl Future<Output = Vec<Result<bool>>> + Send;

    /// Gives entries their final names. One answer for each, in order. Of an entry that is refused, denied or fails
    /// nothing is left.
    fn commit(&self, commits: Vec<Commit>) -> impl Future<Output = Vec<Result<Committed>>> + Send;

    /// Nothing more comes into these directories. Sets permission bits and times where there are some here; the
    /// others get back what they had when they were opened up. One answer for each, in order.
    fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>)
    -> impl Future<Output = Vec<Result<()>>> + Send;

    /// The BLAKE3 roots of the regular files under final names, read through `block`. One answer for each, in order.
    fn roots(
        &self,
        paths: Vec<RelPath>,
        block: Block,
    ) -> impl Future<Output = Vec<Result<blake3::Hash>>> + Send;

    /// Drops a staged entry.
    fn discard(&self, id: EntryId) -> impl Future<Output = ()> + Send;

    /// After the last commit: everything durable (directories and their attributes too), staging removed. Says what
    /// the disk does not keep.
    fn finish(&self) -> impl Future<Output = Result<Vec<NotKept>>> + Send;

    /// After a failure: removes what is staged and can be removed.
    fn abort(&self) -> impl Future<Output = ()> + Send;

    /// The call to the disk that has been under way for longest, as a failure, if that is longer than `limit`. It
    /// answers at once, also while the disk does not. With it comes the entry, if it is one in staging.
    fn hanging(&self, limit: Duration) -> Option<(StorageError, Option<EntryId>)>;

    /// Where an entry lies.
    fn place(&self, path: &RelPath) -> Place;
}
