//! The disk of a receiver.

use std::future::ready;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::block::Block;
use super::error::{Result, StorageError};
use crate::protocol::announced::Announced;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::removal::{Extra, Removed};
use crate::protocol::wire::entry::{Entry, EntryId, Meta};
#[cfg(doc)]
use crate::protocol::wire::limits::EXTRAS_MAX;

/// Bytes for a staged file: `block[range]` goes to `offset` of `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The staged file.
    pub id: EntryId,
    /// Offset in the file.
    pub offset: u64,
    /// Range in the block.
    pub range: Range<usize>,
    /// The bytes are a whole file, and this is its commit, so it can be completed at once.
    pub whole: Option<Meta>,
}

/// The final kind of a staged entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// A file of `size` bytes. Unwritten ranges are holes; an entry without any write is one hole.
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

/// A complete and verified entry, ready for its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its number.
    pub id: EntryId,
    /// Its final name.
    pub path: RelPath,
    /// File or link.
    pub kind: Final,
    /// Permission bits, time and attributes, set before the name.
    pub meta: Meta,
    /// The BLAKE3 root of a file whose bytes were verified on the way, for a target that reads it back.
    pub root: Option<blake3::Hash>,
    /// How to resolve a conflict. Only files and links are replaced. The other name is `name~1`, or `stem~1.ext`,
    /// with the first free number; among many taken ones it is found by bisection, which may miss a gap.
    pub exists: Exists,
}

/// The target of a receiver: one transfer into one directory.
///
/// Written data is staged and invisible until [`Target::commit`]. A commit syncs the data of all its entries, then
/// renames, then syncs the directories (unless syncing is off), so a final name never holds part of a file, whenever
/// the host stops. No access leaves the directory or follows a link in it.
pub trait Target: Send + Sync + 'static {
    /// Looks up the final names of `entries` and changes nothing. One result for each, in order. A name in a missing
    /// directory is free. With [`Exists::Rename`], the names a commit would give are looked up too.
    fn look(&self, entries: Vec<Entry>, exists: Exists) -> impl Future<Output = Vec<Result<Lookup>>> + Send;

    /// Prepares for `entries`, parents first: makes directories, and opens up existing ones (they have at least
    /// `u+rwx` until [`Target::finish_dirs`]). Later writes to these numbers are for these names. One result for
    /// each, in order. `None` leaves the result of the look-up as it is. `Some` replaces it: [`Lookup::Free`] for a
    /// new directory, [`Lookup::Same`] for an existing one, or the reason why the entry cannot be received.
    fn prepare(
        &self,
        entries: Vec<(EntryId, Entry)>,
    ) -> impl Future<Output = Vec<Result<Option<Lookup>>>> + Send;

    /// Opens what earlier transfers left of these entries, which are files of several chunks of 2^`chunk_log2` bytes.
    /// One result for each, in order: the chunks that a checkpoint has recorded, none if there is nothing to resume
    /// or it cannot be used. What is left belongs to this transfer from now on. Bytes outside of these chunks are
    /// zero. Later checkpoints of these entries record their chunks. Called after [`Target::prepare`] and before the
    /// first write.
    fn held(
        &self,
        entries: Vec<(EntryId, Entry)>,
        chunk_log2: u8,
    ) -> impl Future<Output = Vec<ChunkSet>> + Send;

    /// Looks up the sizes of the regular files under these final names. `None` for anything else. Called for entries that
    /// will replace them, after [`Target::prepare`].
    fn old(&self, paths: Vec<RelPath>) -> impl Future<Output = Vec<Option<u64>>> + Send;

    /// Reads from `offset` of the file under the final name of an entry, which will replace it, to `range` of `block`.
    /// Returns how many bytes it read: fewer when the file ends before, has gone or cannot be read. The file stays open
    /// until the entry has its name or is dropped.
    fn read_old(
        &self,
        id: EntryId,
        path: RelPath,
        offset: u64,
        range: Range<usize>,
        block: Block,
    ) -> impl Future<Output = (usize, Block)> + Send;

    /// Compares held chunks of an entry with values that the sender has computed from its source. One answer for
    /// each, in order: whether the chunk on the disk has this value. It has not if the chunk cannot be read, or may
    /// have been lost in a crash. A chunk that differs is written again.
    fn holds(&self, id: EntryId, chunks: Vec<ChunkValue>) -> impl Future<Output = Vec<bool>> + Send;

    /// The names that a commit would give entries whose own names are taken, with [`Exists::Rename`]. One result for each,
    /// in order; `None` when there is none. Changes nothing.
    fn free_names(&self, paths: Vec<RelPath>) -> impl Future<Output = Vec<Result<Option<RelPath>>>> + Send {
        // Without directories no name is taken.
        ready(paths.into_iter().map(|path| Ok(Some(path))).collect())
    }

    /// Sets permission bits, attributes and times of existing files and links to those of their entries. One result for each, in
    /// order: whether that changed anything.
    fn update(&self, entries: Vec<Entry>) -> impl Future<Output = Vec<Result<bool>>> + Send;

    /// Writes pieces of one or several staged files, and makes each file at its first piece. A short write is
    /// continued, never reported as success. A file that cannot be written costs the others nothing: its error, with
    /// its entry, is returned in the list.
    ///
    /// # Errors
    ///
    /// One that all later writes meet too ([`StorageError::is_of_all_files`]).
    fn write(
        &self,
        writes: Vec<Write>,
        block: Block,
    ) -> impl Future<Output = Result<Vec<StorageError>>> + Send;

    /// Makes the written data of staged entries durable, then records the chunks that were written and verified since
    /// their last checkpoint, so that a later transfer can resume them ([`Target::held`]). Nothing may have been written
    /// for a chunk, if all of it is a hole. One result for each, in order: whether the data is durable now; it is not
    /// when syncing is off or unsupported by the file system. The chunks are recorded all the same, since the data
    /// outlives the process. An error stays with its entry: a later commit fails with it too. An entry may be discarded
    /// or given up while its checkpoint runs, which then records nothing.
    fn checkpoint(
        &self,
        entries: Vec<(EntryId, Vec<ChunkValue>)>,
    ) -> impl Future<Output = Vec<Result<bool>>> + Send;

    /// Gives entries their final names. One result for each, in order. An entry that is refused, denied or failed is
    /// given up ([`Target::give_up`]).
    fn commit(&self, commits: Vec<Commit>) -> impl Future<Output = Vec<Result<Committed>>> + Send;

    /// Finishes these directories. Sets permission bits and times, if given; the others get back the bits they had
    /// before they were opened up. One result for each, in order.
    fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>)
    -> impl Future<Output = Vec<Result<()>>> + Send;

    /// The BLAKE3 roots of the regular files under final names, read through `block`. One result for each, in order.
    fn roots(
        &self,
        paths: Vec<RelPath>,
        block: Block,
    ) -> impl Future<Output = Vec<Result<blake3::Hash>>> + Send;

    /// Drops a staged entry, and what was recorded of it.
    fn discard(&self, id: EntryId) -> impl Future<Output = ()> + Send;

    /// Drops a staged entry, unless some of it is recorded: a later transfer can resume that.
    fn give_up(&self, id: EntryId) -> impl Future<Output = ()> + Send;

    /// The next extras: what is in directories that were `announced`, which comes with the first call, and was not announced
    /// itself. What is in a directory comes before the directory. At most [`EXTRAS_MAX`]; empty at the end. Also how many
    /// directories could not be read. What has to stay, such as another mount, is no extra, nor are the directories above it.
    fn extras(
        &self,
        announced: Option<Arc<Announced>>,
    ) -> impl Future<Output = Result<(Vec<Extra>, u64)>> + Send {
        drop(announced);
        // Without directories there are none.
        ready(Ok((Vec::new(), 0)))
    }

    /// Notes that these are to be removed.
    fn note_extras(&self, extras: Vec<Extra>) -> impl Future<Output = Result<()>> + Send {
        drop(extras);
        ready(Ok(()))
    }

    /// Removes what was noted, or moves it to the same path in `backup`; what is something else by now stays.
    fn remove_extras(&self, backup: Option<RelPath>) -> impl Future<Output = Result<Removed>> + Send {
        drop(backup);
        ready(Ok(Removed::default()))
    }

    /// After the last commit: makes everything durable (including directories and their attributes) and removes
    /// staging. Returns the attributes the disk does not keep.
    fn finish(&self) -> impl Future<Output = Result<Vec<NotKept>>> + Send;

    /// Attributes for the target itself, which [`Target::finish`] sets. A target that is no directory has none.
    fn set_top(&self, _meta: Meta) {}

    /// After a failure: removes staged files as far as possible, except for those that a later transfer can resume.
    fn abort(&self) -> impl Future<Output = ()> + Send;

    /// The disk call that has been running longest, as a failure, if it exceeds `limit`, with its entry if that is in
    /// staging. Or another reason why nothing can be written any more. Returns at once, even while the disk hangs.
    fn hanging(&self, limit: Duration) -> Option<(StorageError, Option<EntryId>)>;

    /// The place of an entry.
    fn place(&self, path: &RelPath) -> Place;
}
