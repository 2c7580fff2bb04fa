//! The disk that a sender reads from.

use std::ops::Range;
use std::time::Duration;

use super::block::Block;
use crate::protocol::failure::Failure;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, Meta};
use crate::protocol::wire::record::Run;

/// A result of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// An entry to send.
    Entry(Entry),
    /// What the target directory gets of a directory whose contents are sent.
    Top(Meta),
    /// Skipped: a socket, FIFO, device, an unreadable directory, a name that is not allowed.
    Skipped {
        /// Its path, safe to print.
        path: String,
        /// Why.
        failure: Failure,
    },
}

/// Whole small files in one block, in the requested order.
pub struct SmallBatch {
    /// The bytes of all files, one after the other.
    pub block: Block,
    /// For each requested file: the range of its bytes in the block, or its failure.
    pub files: Vec<std::result::Result<Range<usize>, Failure>>,
    /// Indexes of files that have grown since they were announced. Their bytes are the ones announced.
    pub grown: Vec<usize>,
}

/// The result of checking a source again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Unchanged since it was announced.
    Same,
    /// Longer. Only reading it again shows whether the announced bytes are unchanged.
    Longer,
}

/// A walk over a source, with its current position. Parents come before their entries; a [`Kind::DirEnd`] with the
/// same path closes each [`Kind::Dir`].
///
/// [`Kind::Dir`]: crate::protocol::wire::entry::Kind::Dir
/// [`Kind::DirEnd`]: crate::protocol::wire::entry::Kind::DirEnd
pub trait Walk: Send + 'static {
    /// The next few entries, at most `max`; none at the end.
    fn next(&mut self, max: usize) -> impl Future<Output = Vec<Walked>> + Send;
}

/// The source of a sender.
///
/// Several sessions may use one source at once, each with its own walk. Every path given comes from a walk. Links are
/// never followed. Failures have the reasons `SourceUnreadable`, `SourceChanged` or `SpecialFile` and side `Sender`.
pub trait Source: Send + Sync + 'static {
    /// An open file.
    type File: Send + Sync + 'static;
    /// A walk over the whole source.
    type Walk: Walk;

    /// A new walk from the start.
    fn walk(&self) -> Self::Walk;

    /// Reads whole files into one block, which the sum of their entries' sizes must fit. A file whose size or mtime
    /// differs from the entry before or after reading fails with `SourceChanged`, unless it is longer and a second
    /// reading gives the same bytes.
    fn read_small(&self, files: Vec<Entry>, block: Block) -> impl Future<Output = SmallBatch> + Send;

    /// Opens a file; `SourceChanged` when size or mtime differs from the entry, unless it is longer.
    fn open(&self, entry: Entry) -> impl Future<Output = std::result::Result<Self::File, Failure>> + Send;

    /// Data and holes of `range`, from its start and without gaps. Never more than `RUNS_MAX` runs.
    fn runs(
        &self,
        file: &Self::File,
        range: Range<u64>,
    ) -> impl Future<Output = std::result::Result<Vec<Run>, Failure>> + Send;

    /// Reads `len` bytes at `offset` to the front of `block`; fewer bytes are `SourceChanged`.
    fn read_at(
        &self,
        file: &Self::File,
        offset: u64,
        len: usize,
        block: Block,
    ) -> impl Future<Output = std::result::Result<Block, Failure>> + Send;

    /// Reads from `offset` of a file of unknown size to the front of `block`, and fills it except at the end of the
    /// file. Each read begins where the one before ended, and none follows the end.
    fn read_on(
        &self,
        file: &Self::File,
        offset: u64,
        block: Block,
    ) -> impl Future<Output = std::result::Result<(Block, usize), Failure>> + Send;

    /// Checks that the open file and the file under its path still match the entry; `SourceChanged` when they neither
    /// match nor are longer. For a file of unknown size, only checks that it is the same file.
    fn verify(&self, file: &Self::File)
    -> impl Future<Output = std::result::Result<Verdict, Failure>> + Send;

    /// Which of these paths, each a directory or not, the source has nothing under, and would send if it had. An error, or
    /// anything that a filter leaves out, is no reason to remove something at the receiver.
    fn lacks(&self, paths: Vec<(RelPath, bool)>) -> impl Future<Output = Vec<bool>> + Send {
        // What is not known to be missing stays.
        std::future::ready(vec![false; paths.len()])
    }

    /// The disk call that has been running longest, as a failure, if it exceeds `limit`. Returns at once, even while
    /// the disk hangs.
    fn hanging(&self, limit: Duration) -> Option<Failure>;
}
