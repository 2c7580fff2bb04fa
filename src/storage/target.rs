//! The disk that a receiver writes to.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::block::Block;
use super::error::{Result, StorageError};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Meta};

/// What is under the final name of an announced entry.
#[derive(Debug)]
pub enum Admission {
    /// Nothing. (A directory has been made.)
    Free,
    /// The very same: a directory, or a link with the same target.
    Same {
        /// The number of its name (`RelPath::numbered`), 0 for the name itself.
        number: u32,
        /// It has the mode and time of the entry, too.
        is_current: bool,
    },
    /// Regular files of the same size: the bytes decide.
    SameSize {
        /// The numbers of their names, 0 first, then the latest. At least one.
        numbers: VecDeque<u32>,
        /// The one under the name itself has the mode and time of the entry, too.
        is_current: bool,
    },
    /// Something else.
    Conflict,
    /// The name cannot be used here: it leads through a link or a file, or the file system does not take it.
    Refused(StorageError),
    /// This process may not do it there; that concerns no other entry.
    Denied(StorageError),
    /// The disk failed.
    Failed(StorageError),
}

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

/// What to do about something that appeared under a final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Leave it and report [`Committed::Exists`].
    Keep,
    /// Put the new one in its place (files and links only; a directory in the way is [`Committed::Exists`]).
    Replace,
    /// Take another name: `name~1`, or `stem~1.ext`, the number being the first that is free. Where many are taken it
    /// is found by bisection, which may pass over a gap.
    Rename,
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
    /// What may happen to something that is there.
    pub on_conflict: OnConflict,
}

/// How a commit went.
#[derive(Debug)]
pub enum Committed {
    /// Under its final name; `Some` when that is another one than asked for.
    Done(Option<RelPath>),
    /// Something else is there; the entry stays staged.
    Exists,
    /// The name cannot be used here; the staged entry is gone.
    Refused(StorageError),
    /// This process may not do it there; the staged entry is gone.
    Denied(StorageError),
    /// It is a link, and the file system holds none. [`Target::finish`] counts it.
    NotKept,
    /// The disk failed.
    Failed(StorageError),
}

/// What a receiver writes to: one transfer into one directory.
///
/// What is written is staged and invisible until [`Target::commit`]; that syncs the data of all its entries, then
/// renames, then syncs the directories (unless syncing is off), so that a final name never holds a part of a
/// file, whenever the machine stops. No access leaves the directory or goes through a link in it.
pub trait Target: Send + Sync + 'static {
    /// Looks at the final names of `entries` and makes directories (with at least `u+rwx` until
    /// [`Target::finish_dirs`]). One answer for each, in order. What is written to these numbers is for these names.
    /// With [`OnConflict::Rename`] the names that a commit would give are looked at as well.
    fn admit(
        &self,
        entries: Vec<(EntryId, Entry)>,
        on_conflict: OnConflict,
    ) -> impl Future<Output = Vec<Admission>> + Send;

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

    /// Gives entries their final names. One answer for each, in order.
    fn commit(&self, commits: Vec<Commit>) -> impl Future<Output = Vec<Committed>> + Send;

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
